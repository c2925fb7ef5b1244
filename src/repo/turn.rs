//! Whose turn it is: what a node asks each holder for by itself, and when; who has to answer before
//! another one's silence counts; and what is written down of an audit that is over. Pure: the
//! running node and the simulator ask the holders.
//!
//! | what | when |
//! |---|---|
//! | what a holder owes an answer for, and nothing else | every [`Pace::owed_every`] |
//! | what was not proven for [`Pace::round_s`], and one of [`SAMPLE`] | once in [`Pace::day_s`] |
//! | replicas that no audit proved since their acks | at once, where it is connected |
//! | one chunk, where it is connected | every [`Pace::witness_every`], while anybody is silent |
//!
//! The first that fits. A day goes from one answer for its part to the next, also over restarts of
//! the node, and whatever else the holder answered for meanwhile: else who is given something every
//! day would never be asked for what it has had for long.
//!
//! Whoever answered in a way that cannot be sorted out, or lied, rests for [`Pace::rest`].

use crate::core::types::{NodeId, Standing, Time};
use crate::repo::standing::{AuditRecord, standing};
use std::collections::BTreeSet;
use std::time::Duration;

/// One of so many replicas of a holder is drawn each day.
pub const SAMPLE: usize = 30;

/// How often everything comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// A holder has its part of a day once in so many seconds, and up to a twelfth of that more.
    pub day_s: u64,
    /// A replica that no audit proved for so many seconds is due.
    pub round_s: u64,
    /// How often a holder is asked for what it owes.
    pub owed_every: Duration,
    /// While anybody is silent, others are asked so often: those count who answered within
    /// `Answered::LATELY`, an hour.
    pub witness_every: Duration,
    /// How long a holder rests whose answers could not be sorted out.
    pub rest: Duration,
    /// How long one rests while something is stored or let go: the disks are needed.
    pub busy_pause: Duration,
}

impl Pace {
    /// A node's own. A round of 25 days: with what a node that is not always on leaves for the next
    /// day that makes 30.
    pub const USUAL: Self = Self {
        day_s: DAY_S,
        round_s: 25 * DAY_S,
        owed_every: Duration::from_secs(3_600),
        witness_every: Duration::from_secs(45 * 60),
        rest: Duration::from_secs(6 * 3_600),
        busy_pause: Duration::from_secs(20),
    };

    /// A day is another one for each holder, by up to a twelfth.
    fn day_of(&self, node: &NodeId) -> u64 {
        let [a, b, ..] = *node.as_bytes();
        let most = (self.day_s / 12).max(1);
        self.day_s.saturating_add(u64::from(u16::from_le_bytes([a, b])) % most)
    }
}

const DAY_S: u64 = 24 * 3_600;

/// What a holder is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// What it owes an answer for.
    Owed,
    /// What no audit proved since it was acknowledged.
    New,
    /// What was not proven from `since_s` to `now_s`, seconds since 1970, and one of [`SAMPLE`].
    Day {
        /// A round ago.
        since_s: u64,
        /// Now.
        now_s: u64,
    },
    /// One chunk: whether it answers tells whose silence that of others is.
    Witness,
}

/// What is known of a holder when it may be asked.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What audits of it came to.
    pub record: &'a AuditRecord,
    /// It is connected.
    pub is_connected: bool,
    /// It owes an answer.
    pub owes: bool,
    /// It acknowledged what no audit proved since.
    pub has_new: bool,
    /// Any replica there counts.
    pub holds_any: bool,
    /// Any holder is silent, or owes an answer: it matters who answers.
    pub is_watched: bool,
}

/// What an audit of a holder left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// It answered for anything.
    pub has_answered: bool,
    /// It did not for all.
    pub owes: bool,
    /// It lied, or its answers could not be sorted out.
    pub is_unsorted: bool,
    /// Something is being stored or let go.
    pub is_busy: bool,
}

/// What is remembered of one holder while the node runs. Times are those of the process, which
/// nobody can set.
#[derive(Debug, Clone, Copy, Default)]
pub struct Turn {
    /// When it last answered.
    answered: Option<Time>,
    /// When it last answered for its part of a day.
    daily: Option<Time>,
    /// That is what it was asked for last.
    is_daily: bool,
    /// Nothing is asked of it before.
    rests_until: Option<Time>,
}

impl Turn {
    /// Whether nothing is asked of it now, whatever is due.
    pub fn rests(&self, now: Time) -> bool {
        self.rests_until.is_some_and(|until| until > now)
    }

    /// What is due of this holder, where it does not rest: `now` by the process, `now_s` in seconds
    /// since 1970. It is asked for that now.
    pub fn due(
        &mut self,
        node: &NodeId,
        known: &Known<'_>,
        pace: &Pace,
        (now, now_s): (Time, u64),
    ) -> Option<Due> {
        if self.rests(now) {
            return None;
        }
        self.is_daily = false;
        if known.owes {
            return Some(Due::Owed);
        }
        self.is_daily = known.holds_any && self.is_day_over(node, known.record, pace, (now, now_s));
        if self.is_daily {
            return Some(Due::Day { since_s: now_s.saturating_sub(pace.round_s), now_s });
        }
        let is_liar = standing(known.record, now_s) == Standing::Liar;
        if known.has_new && known.is_connected && !is_liar {
            return Some(Due::New);
        }
        let is_late = self.answered.is_none_or(|at| now.since(at) >= pace.witness_every);
        let is_there = known.is_connected && known.holds_any && known.record.silence.is_none();
        (known.is_watched && is_there && is_late).then_some(Due::Witness)
    }

    /// The record counts until it answered here.
    fn is_day_over(
        &self,
        node: &NodeId,
        record: &AuditRecord,
        pace: &Pace,
        (now, now_s): (Time, u64),
    ) -> bool {
        let day_s = pace.day_of(node);
        if let Some(at) = self.daily {
            return now.since(at) >= Duration::from_secs(day_s);
        }
        let silent_s = record.silence.map(|silence| silence.last_s);
        let last_s = record.day_s.into_iter().chain(silent_s).max();
        // A clock that was put back makes nobody wait longer than it takes.
        last_s.is_none_or(|at_s| at_s > now_s || now_s - at_s >= day_s)
    }

    /// What it was asked for is over. Returns whether it answered for its part of a day: that is to
    /// stand in the [record](AuditRecord::day_s).
    #[must_use]
    pub fn after(&mut self, left: Left, pace: &Pace, now: Time) -> bool {
        let had_day = left.has_answered && self.is_daily;
        if left.has_answered {
            self.answered = Some(now);
        }
        if had_day {
            self.daily = Some(now);
        }
        let pauses = [
            (left.is_unsorted, pace.rest),
            (left.owes, pace.owed_every),
            (left.is_busy, pace.busy_pause),
        ];
        let pause = pauses.into_iter().find_map(|(is_so, pause)| is_so.then_some(pause));
        self.rests_until = pause.map(|pause| now.after(pause));
        had_day
    }
}

/// Of holders, each with how many chunks it has, those who have to answer before another one's
/// silence counts: who is long gone, or has nothing, need not.
pub fn witnesses<'a>(
    holders: impl Iterator<Item = (NodeId, u64, Option<&'a AuditRecord>)>,
    now_s: u64,
) -> BTreeSet<NodeId> {
    let is_lost = |record: &AuditRecord| standing(record, now_s) == Standing::Lost;
    let them = holders.filter(|(_, chunks, record)| *chunks > 0 && !record.is_some_and(&is_lost));
    them.map(|(node, ..)| node).collect()
}

/// How an audit of a holder ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Answers that came.
    pub answers: u32,
    /// Chunks that it was asked for and said nothing of, also where it said that it is busy: no way
    /// of not answering is an excuse.
    pub unanswered: u64,
    /// Chunks that it owes an answer for, of this audit or an earlier one.
    pub owes: u64,
    /// It was silent before.
    pub was_silent: bool,
    /// Something was found to be there no more.
    pub is_incident: bool,
    /// Others answered lately: its silence is its own.
    pub is_own: bool,
}

/// What is written down of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// Nothing.
    Nothing,
    /// It ended with answers.
    Audited {
        /// Chunks that it did not answer for; with 0 its silence is over.
        silent: u64,
    },
    /// It did not answer.
    Silent,
}

impl Ended {
    /// Silence counts only where it is the holder's own; it ends when the holder owes no answer any
    /// more, and not with an answer to something else. Silence that is not its own is neither a
    /// miss nor an end: only what was found to be gone is written down in any case, and a silence
    /// that began before goes on with it.
    pub fn note(&self) -> Note {
        // It answered, and not for what it owes: that is no end of its silence.
        let goes_on = self.was_silent && self.owes > 0 && self.unanswered == 0;
        let is_known = self.is_incident || (!goes_on && (self.is_own || self.unanswered == 0));
        let owed = if goes_on { self.owes } else { 0 };
        let is_silent = self.is_own || self.was_silent;
        let silent = if is_silent { self.unanswered.max(owed) } else { 0 };
        match self.answers {
            0 if self.is_own && silent > 0 => Note::Silent,
            0 => Note::Nothing,
            _ if is_known => Note::Audited { silent },
            _ => Note::Nothing,
        }
    }
}

#[cfg(test)]
mod tests;
