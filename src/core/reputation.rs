//! What an owner thinks of a node, by what it saw of it itself: the rule, and nothing else. Pure.
//!
//! | seen | kept as | what it does |
//! |---|---|---|
//! | audits | [`Standing`] | a liar gets nothing; who is suspect or lost comes last |
//! | acks in time, and late ones | [`Conduct::kept`], [`Conduct::late`] | many broken: later |
//! | what else it did with a grant or a request | [`Conduct::credit`] | less than 0 comes later |
//! | how long acks and answers take | [`Conduct::ack_ms`], [`Conduct::serve_ms`] | slow: later |
//! | bytes that it served | [`Conduct::served_bytes`] | who served much comes first |
//! | replicas that it admitted to have lost | [`Setback`] | none of what is repaired, for a time |
//!
//! [`score`] makes one number of it, by which [`place`](super::placement::place) chooses among
//! nodes of different failure domains; [`fetch_rank`] tells whom to ask first for a chunk.
//!
//! # Newcomers
//! Who did nothing yet has the score 0: behind those that did well, before those that did not.
//! Alone that would be a trap: the first that served well would get everything, and nobody new
//! could ever prove itself. So what is good is worth little more than nothing (five at most, while
//! what is bad goes down to -64), equals are shuffled, and in one batch of four a good score counts
//! as none (`owner/batch.rs`): then a newcomer is any good node's equal. What is bad fades, by half
//! in a week, so that nobody is shut out for ever by what may have been a bad line.
//!
//! Who did badly may come back under a new name, and so may anybody under a thousand. That wins
//! nothing over those who are honest: a new name is no better than who proves what it keeps, be it
//! slow or its line broken once or twice, and as many names as one machine has, they are one
//! failure domain.
//!
//! # Local only
//! All of it is this owner's own, from its own acks, audits and fetches. Of other nodes nothing can
//! be asked for or told: what others say of a node would be worth as much as they are, and whoever
//! may slander can shut others out. No message has a field for it, but for one: a holder that asks
//! how it stands itself hears what audits of it came to ([`owner`](super::owner)), and nothing of
//! scores or deeds.

use super::types::Standing;
use std::time::Duration;

/// The most that deeds alone are worth: low, so that good nodes are equals and share the load.
pub const CREDIT_BEST: i32 = 3;

/// The least.
pub const CREDIT_WORST: i32 = -64;

/// From here down a node is given something only when it volunteers anew.
pub const DOUBTFUL: i32 = -16;

/// The score of who is suspect or lost: below whatever deeds come to.
pub const LAST: i32 = -128;

/// Down to here what somebody did badly may have been a bad line.
const HICCUPS: i32 = -8;

/// What is bad is worth half after so long.
pub const FADES: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Bytes after which a node has served much.
const SERVED_MUCH: u64 = 64 << 20;

/// Acks that take longer are slow, and those of four times that very slow.
const SLOW_ACK_MS: u32 = 5_000;

/// Answers that come within this are all alike, and so are those within four times that.
const QUICK_SERVE_MS: u32 = 500;

/// Late chunks that one silence counts for at most.
const LATE_AT_ONCE: u64 = 8;

/// Acks that are remembered: from there on all counts are halved, so that the last ones count.
const ACKS_REMEMBERED: u64 = 1_024;

/// So many late acks at least, and more than one of four, are many broken grants.
const LATE_MANY: u64 = 8;

/// What many broken grants cost.
const KEEPS_BREAKING: i32 = 8;

const DAY_S: u64 = 24 * 3_600;

/// One thing that a node did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// It was sent a chunk.
    Granted,
    /// It acknowledged one.
    Acked {
        /// How long after it was sent.
        after: Duration,
        /// Before anybody else was given the chunk in its place.
        in_time: bool,
    },
    /// So many chunks that it was given are late, all at the same time.
    Late(usize),
    /// It is too busy for a chunk.
    Busy,
    /// It did not store a chunk, for no good reason.
    Failed,
    /// It volunteered, and cannot be reached.
    Unreachable,
    /// It acknowledged or answered what cannot be true, or has no key that is of use.
    Lied,
    /// It served a chunk.
    Served {
        /// Sealed bytes.
        bytes: usize,
        /// How long after it was asked.
        after: Duration,
    },
    /// It was asked for a chunk, and did not answer in time.
    ServedLate,
    /// It served other bytes than those that were asked for.
    WrongBytes,
}

/// What a node did, as far as this owner saw it. 48 bytes, however long the acquaintance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conduct {
    /// From [`CREDIT_WORST`] to [`CREDIT_BEST`].
    pub credit: i32,
    /// Chunks that it was sent.
    pub granted: u64,
    /// Acks in time, of the last ones.
    pub kept: u64,
    /// Late ones, of the last ones.
    pub late: u64,
    /// How long an ack takes, in milliseconds, moved by a quarter of each difference; 0 = unknown.
    pub ack_ms: u32,
    /// The same of the chunks that it serves.
    pub serve_ms: u32,
    /// Bytes that it served.
    pub served_bytes: u64,
}

impl Deed {
    /// What it changes of the credit.
    fn worth(self) -> i32 {
        match self {
            Self::Granted => 0,
            Self::Acked { .. } | Self::Served { .. } => 1,
            Self::Busy => -1,
            Self::Unreachable => -2,
            Self::Late(_) | Self::Failed | Self::ServedLate => -4,
            Self::Lied | Self::WrongBytes => -32,
        }
    }
}

impl Conduct {
    /// One thing more.
    pub fn on(&mut self, deed: Deed) {
        self.credit = self.credit.saturating_add(deed.worth()).clamp(CREDIT_WORST, CREDIT_BEST);
        match deed {
            Deed::Granted => self.granted = self.granted.saturating_add(1),
            Deed::Acked { after, in_time } => {
                move_mean(&mut self.ack_ms, after);
                self.kept = self.kept.saturating_add(u64::from(in_time));
            }
            Deed::Late(chunks) => {
                let chunks = u64::try_from(chunks).unwrap_or(u64::MAX).min(LATE_AT_ONCE);
                self.late = self.late.saturating_add(chunks);
            }
            Deed::Served { bytes, after } => {
                move_mean(&mut self.serve_ms, after);
                let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
                self.served_bytes = self.served_bytes.saturating_add(bytes);
            }
            Deed::Busy
            | Deed::Failed
            | Deed::Unreachable
            | Deed::Lied
            | Deed::ServedLate
            | Deed::WrongBytes => {}
        }
        if self.kept.saturating_add(self.late) > ACKS_REMEMBERED {
            (self.kept, self.late) = (self.kept / 2, self.late / 2);
        }
    }

    /// What is left of it after so long without anything.
    #[must_use]
    pub fn faded(self, after: Duration) -> Self {
        let halves = after.as_secs() / FADES.as_secs();
        let half = |credit: i32| match u32::try_from(halves) {
            // Towards 0, unlike a shift.
            Ok(halves) if halves < 31 => credit / (1 << halves),
            _ => 0,
        };
        Self { credit: if self.credit < 0 { half(self.credit) } else { self.credit }, ..self }
    }

    /// Whether it never did anything for the owner.
    pub fn is_strange(&self) -> bool {
        self.kept == 0 && self.served_bytes == 0
    }

    /// Whether forgetting it would be worth something to whoever did it.
    pub fn tells(&self) -> bool {
        !self.is_strange() || self.credit <= DOUBTFUL
    }

    /// What was read from a disk, within its bounds.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self { credit: self.credit.clamp(CREDIT_WORST, CREDIT_BEST), ..self }
    }

    /// Whether more than one of four grants came to nothing in time.
    pub fn keeps_breaking(&self) -> bool {
        self.late >= LATE_MANY && self.late.saturating_mul(3) > self.kept
    }
}

/// An exponentially weighted mean.
fn move_mean(mean_ms: &mut u32, after: Duration) {
    let after = u32::try_from(after.as_millis()).unwrap_or(u32::MAX).max(1);
    *mean_ms = match *mean_ms {
        0 => after,
        mean => (mean / 4 * 3).saturating_add(mean % 4 * 3 / 4).saturating_add(after / 4).max(1),
    };
}

/// What a node is worth where a chunk is to be placed: more is better, a stranger is worth 0.
/// `None` for whoever is never given anything.
pub fn score(conduct: &Conduct, standing: Standing) -> Option<i32> {
    let much = i32::from(conduct.served_bytes >= SERVED_MUCH && conduct.credit > 0);
    let slow = match conduct.ack_ms {
        ms if ms > 4 * SLOW_ACK_MS => 2,
        ms => i32::from(ms > SLOW_ACK_MS),
    };
    let broken = if conduct.keeps_breaking() { KEEPS_BREAKING } else { 0 };
    let credit = conduct.credit.saturating_add(much - slow - broken);
    Some(match standing {
        Standing::Liar => return None,
        Standing::Suspect | Standing::Lost => LAST,
        Standing::Damaged => credit.min(0) - 2,
        Standing::Late => credit.min(0) - 1,
        Standing::Unknown => credit,
        // What it proves outweighs a hiccup, maybe of the line: no stranger is better.
        Standing::Proven if conduct.credit >= HICCUPS && broken == 0 => (credit + 1).max(0),
        Standing::Proven => credit,
    })
}

/// Where a node stands among those that are said to have a chunk: less is asked first. What it
/// serves is checked in any case, so even a liar is asked, after all others.
pub fn fetch_rank(conduct: &Conduct, standing: Standing) -> (u8, u8) {
    let distrust = match score(conduct, standing) {
        Some(score) if score >= 0 => 0,
        // Slow acks say nothing of what it serves.
        Some(_) if conduct.credit >= 0 && standing == Standing::Unknown => 0,
        Some(score) => 1 + u8::from(score <= LAST),
        None => 3,
    };
    let pace = match conduct.serve_ms {
        ms if ms > 4 * QUICK_SERVE_MS => 2,
        ms => u8::from(ms > QUICK_SERVE_MS),
    };
    (distrust, pace)
}

/// The same in a word, for the user.
pub fn word(conduct: &Conduct, standing: Standing) -> &'static str {
    match score(conduct, standing) {
        None => "never",
        Some(score) if score <= LAST => "last",
        Some(score) if score < 0 => "later",
        Some(_) if conduct.is_strange() && standing == Standing::Unknown => "new",
        Some(_) => "good",
    }
}

/// For how long a holder that admitted losses is given nothing of what is repaired by itself.
///
/// A disk may lose something once: the holder may have it again at once, after all others. But one
/// that acknowledges a chunk and has it not at the next audit would cost the transfer at each
/// repair, and leave the chunk short in between. So it rests a day after a loss of what it never
/// proved, and after a second loss of anything; twice as long after each that follows, up to 32
/// days. Parts of one loss are found one after the other: those of a day are one, and what is found
/// while it rests is of before, so that it rests anew, no longer. As long as it rested, and as long
/// again without a loss, two days at least, wins one step back.
///
/// Backups are not bound by it: they place by [`score`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Setback {
    /// How often it was doubled, and two more; 1 where it does not rest, 0 where there was none, or
    /// all is won back.
    pub steps: u8,
    /// Since when: seconds since 1970.
    pub since_s: u64,
}

/// What of a holder's replicas an audit found gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Losses {
    /// Nothing.
    None,
    /// Some that it had proven.
    Proven,
    /// Some that it never proved: it says that it does not have them, or that they are damaged.
    NeverProven,
}

impl Setback {
    /// The longest rest is 32 days.
    pub const STEPS_MAX: u8 = 7;

    fn rest_s(steps: u8) -> u64 {
        match steps {
            0 | 1 => 0,
            steps => DAY_S << (steps.min(Self::STEPS_MAX) - 2),
        }
    }

    /// Until when it rests: seconds since 1970; `None` where it does not at `now_s`.
    ///
    /// A clock that was put back by more than that ends a rest, rather than to prolong it by years.
    pub fn until_s(&self, now_s: u64) -> Option<u64> {
        let rest_s = Self::rest_s(self.steps);
        let rests = now_s.abs_diff(self.since_s) < rest_s;
        rests.then(|| self.since_s.saturating_add(rest_s))
    }

    /// An audit at `at_s`, seconds since 1970, was answered.
    pub fn on_audited(&mut self, at_s: u64, losses: Losses) {
        self.win_back(at_s);
        let is_new = match losses {
            Losses::None => return,
            Losses::Proven => self.steps == 0 || at_s.abs_diff(self.since_s) >= DAY_S,
            Losses::NeverProven => true,
        };
        if self.until_s(at_s).is_some() {
            self.since_s = at_s;
        } else if is_new {
            let least = if losses == Losses::NeverProven { 2 } else { 1 };
            self.steps = self.steps.saturating_add(1).clamp(least, Self::STEPS_MAX);
            self.since_s = at_s;
        }
    }

    /// It went on until `at_s`.
    fn win_back(&mut self, at_s: u64) {
        while self.steps > 0 {
            let rest_s = Self::rest_s(self.steps);
            let won_s = self.since_s.saturating_add(2 * rest_s.max(DAY_S));
            if at_s < won_s {
                return;
            }
            self.steps -= 1;
            // It does not rest again: the next step is won from then on.
            self.since_s = won_s.saturating_sub(Self::rest_s(self.steps).max(DAY_S));
        }
    }

    /// Nothing is remembered.
    pub fn is_none(&self) -> bool {
        self.steps == 0
    }
}

#[cfg(test)]
mod tests;
