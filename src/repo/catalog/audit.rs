//! What audits of the owner's holders came to: when each replica was last proven, and where each
//! holder stands. Who audits whom, when, and what is done about a loss, is for others to decide.
//!
//! # Replicas
//! A chunk is *stored k of N* when k nodes acknowledged it, and *safe* as far as audits proved it:
//! [`Replicas::acked`] and [`Replicas::audited`](super::Replicas::audited) count these. A replica
//! that an audit finds missing, damaged, made up or released is taken off the holders by
//! [`Entry::ReplicaLost`], and counts again when its node acknowledges the chunk anew.
//!
//! # Holders
//! Of each holder the last audit that ended with answers is kept, the last [`INCIDENTS_MAX`] that
//! found anything, and how long it is silent. [`standing`] makes one word of that, by these rules,
//! the first that fits:
//!
//! - an answer was wrong, ever: [`Standing::Liar`]. A lie stays, also beyond the other incidents;
//! - it is silent: [`Standing::Late`] at once; [`Standing::Suspect`] after 3 misses and 24 hours;
//!   [`Standing::Lost`] after misses on 14 days of the calendar and 14 days;
//! - the last audit found something missing or damaged: [`Standing::Damaged`]. What was released
//!   may have been by another device of the owner's, and is nobody's fault;
//! - the last audit proved something: [`Standing::Proven`]. Else [`Standing::Unknown`].
//!
//! # Clocks
//! The wall clock alone makes nobody worse than late: a clock that jumps ahead by ten years adds
//! one miss at most, and the others have to be made one by one. So misses count that are at least
//! an hour apart, and of days only one miss each. A miss that comes more than an hour before the
//! last one says that the clock was put back: the last one was counted for a jump, and counts no
//! more, nor does this one, from which it goes on; what was counted before stays. A clock that
//! jumps to and fro so adds nothing.

use super::Catalog;
use super::entry::{Entry, HolderAudited, Silence};
use super::proven::seconds;
use crate::core::types::{ChunkId, NodeId, StoreEpoch};
use std::collections::BTreeMap;

/// Audits of one holder that found anything, and that are remembered. Beyond these the oldest goes
/// in which nobody lied, if any.
pub const INCIDENTS_MAX: usize = 16;

/// Holders that are remembered. Beyond these one goes that never lied, if any, and of these the one
/// of which nothing was heard for the longest time.
const RECORDS_MAX: usize = 4_096;

const HOUR_S: u64 = 3_600;
const DAY_S: u64 = 24 * HOUR_S;

/// Silence of this long makes a holder suspect: 24 hours, in seconds.
const SUSPECT_AFTER_S: u64 = DAY_S;
/// So many misses do.
const SUSPECT_MISSES: u32 = 3;

/// Silence of this long makes a holder lost: 14 days, in seconds.
const LOST_AFTER_S: u64 = 14 * DAY_S;
/// Misses on so many days do.
const LOST_DAYS: u32 = 14;

/// What audits of one holder came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditRecord {
    /// The last one that ended with answers.
    pub last: Option<HolderAudited>,
    /// Those that found anything, oldest first.
    pub incidents: Vec<HolderAudited>,
    /// How long it did not answer; `None` where it did, the last time.
    pub silence: Option<Silence>,
}

/// Where a holder stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// No audit of it proved anything.
    Unknown,
    /// It answered the last time, and nothing was missing.
    Proven,
    /// It did not answer the last time.
    Late,
    /// It did not for a day, and three times.
    Suspect,
    /// It did not for fourteen days, and on as many.
    Lost,
    /// Something was missing or damaged the last time.
    Damaged,
    /// It once answered for a chunk as if it had it, and had not.
    Liar,
}

/// What audits of one holder say of the replicas that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuditCounts {
    /// Chunks that it acknowledged with the store that it has now.
    pub held: u64,
    /// Of these, those that were proven since the given time.
    pub proven: u64,
    /// When the one of these was proven for which that is longest ago, of those that ever were:
    /// seconds since 1970.
    pub oldest_proven_s: Option<u64>,
}

/// Where a holder stands at `now_s`, seconds since 1970: see the module's documentation.
pub fn standing(record: &AuditRecord, now_s: u64) -> Standing {
    if record.has_lied() {
        return Standing::Liar;
    }
    if let Some(silence) = record.silence {
        let silent_s = now_s.saturating_sub(silence.since_s);
        return if silence.days >= LOST_DAYS && silent_s >= LOST_AFTER_S {
            Standing::Lost
        } else if silence.misses >= SUSPECT_MISSES && silent_s >= SUSPECT_AFTER_S {
            Standing::Suspect
        } else {
            Standing::Late
        };
    }
    match record.last {
        Some(last) if last.missing > 0 || last.damaged > 0 => Standing::Damaged,
        Some(last) if last.proven > 0 => Standing::Proven,
        _ => Standing::Unknown,
    }
}

impl AuditRecord {
    /// When it last answered: seconds since 1970.
    pub fn heard_s(&self) -> Option<u64> {
        self.last.map(|last| last.at_s)
    }

    fn has_lied(&self) -> bool {
        self.incidents.iter().chain(&self.last).any(|audited| audited.lied > 0)
    }

    /// The last time that anything is known of.
    fn latest_s(&self) -> u64 {
        let silent = self.silence.map(|silence| silence.last_s);
        self.heard_s().into_iter().chain(silent).max().unwrap_or(0)
    }

    fn on_audited(&mut self, audited: HolderAudited) {
        self.silence = None;
        self.last = Some(audited);
        if audited.is_incident() {
            if self.incidents.len() >= INCIDENTS_MAX {
                let harmless = self.incidents.iter().position(|before| before.lied == 0);
                self.incidents.remove(harmless.unwrap_or(0));
            }
            self.incidents.push(audited);
        }
    }

    /// As few entries as say all of it, in order.
    fn entries(&self, node: NodeId) -> impl Iterator<Item = Entry> {
        let is_told = |last: &HolderAudited| self.incidents.last() == Some(last);
        let last = self.last.filter(|last| !is_told(last));
        let audits = self.incidents.iter().copied().chain(last).map(Entry::HolderAudited);
        audits.chain(self.silence.map(|silence| Entry::HolderSilence { node, silence }))
    }
}

impl Silence {
    fn new(at_s: u64) -> Self {
        Self { since_s: at_s, last_s: at_s, misses: 1, days: 1 }
    }

    /// Once more without an answer.
    fn miss(&mut self, at_s: u64) {
        self.since_s = self.since_s.min(at_s);
        if at_s.abs_diff(self.last_s) < HOUR_S {
            return;
        }
        let is_another_day = at_s / DAY_S != self.last_s / DAY_S;
        if at_s > self.last_s {
            self.misses = self.misses.saturating_add(1);
            self.days = self.days.saturating_add(is_another_day.into());
        } else {
            self.misses = self.misses.saturating_sub(1).max(1);
            self.days = self.days.saturating_sub(is_another_day.into()).max(1);
        }
        self.last_s = at_s;
    }
}

/// What audits came to, by holder.
#[derive(Debug, Default)]
pub(super) struct Audits(BTreeMap<NodeId, AuditRecord>);

impl Audits {
    pub(super) fn on_audited(&mut self, audited: HolderAudited) {
        self.of(audited.node).on_audited(audited);
        self.make_room(&audited.node);
    }

    pub(super) fn on_silent(&mut self, node: NodeId, at_s: u64) {
        let record = self.of(node);
        match &mut record.silence {
            Some(silence) => silence.miss(at_s),
            None => record.silence = Some(Silence::new(at_s)),
        }
        self.make_room(&node);
    }

    pub(super) fn on_silence(&mut self, node: NodeId, silence: Silence) {
        self.of(node).silence = Some(silence);
        self.make_room(&node);
    }

    fn of(&mut self, node: NodeId) -> &mut AuditRecord {
        self.0.entry(node).or_default()
    }

    /// The one that was noted just now stays.
    fn make_room(&mut self, newest: &NodeId) {
        if self.0.len() <= RECORDS_MAX {
            return;
        }
        let others = self.0.iter().filter(|(node, _)| *node != newest);
        let oldest = others.min_by_key(|(_, record)| (record.has_lied(), record.latest_s()));
        if let Some(node) = oldest.map(|(node, _)| *node) {
            self.0.remove(&node);
        }
    }

    /// How many entries say all of it.
    pub(super) fn entries(&self) -> u64 {
        self.each().count() as u64
    }

    /// What says all of it, in order.
    pub(super) fn each(&self) -> impl Iterator<Item = Entry> {
        self.0.iter().flat_map(|(node, record)| record.entries(*node))
    }
}

impl Catalog {
    /// An audit proved at `at_s`, seconds since 1970, that this node keeps these chunks, which
    /// shows it as well. Another store than the one that acknowledged them says nothing of them.
    pub fn prove_audited(
        &mut self,
        node: &NodeId,
        epoch: &StoreEpoch,
        chunks: &[ChunkId],
        at_s: u64,
    ) {
        self.state.prove_audited((node, epoch), chunks, seconds(at_s));
    }

    /// Of how many replicas of this chunk that count an audit's proof is from `since_s` to `now_s`:
    /// seconds since 1970.
    pub fn audited_within(&self, chunk: &ChunkId, (since_s, now_s): (u64, u64)) -> usize {
        self.state.audited_within(chunk, (seconds(since_s), seconds(now_s)))
    }

    /// What this node acknowledged with the store that it has now: `limit` ids at most, ascending,
    /// of those above `after`. Fewer are the last ones. Looks at every chunk from there to the last
    /// of the page.
    pub fn held_by(&self, node: &NodeId, after: Option<&ChunkId>, limit: usize) -> Vec<ChunkId> {
        self.state.held_by(node, after, limit)
    }

    /// The same of chunks that no audit proved from `since_s` to `now_s`, seconds since 1970:
    /// never, or before, or at a time that lies ahead.
    pub fn due_at(
        &self,
        node: &NodeId,
        (since_s, now_s): (u64, u64),
        after: Option<&ChunkId>,
        limit: usize,
    ) -> Vec<ChunkId> {
        self.state.due_at(node, (seconds(since_s), seconds(now_s)), after, limit)
    }

    /// What audits say of all that this node acknowledged; proven counts what was from `since_s` to
    /// `now_s`, seconds since 1970. Looks at every chunk.
    pub fn audit_counts(&self, node: &NodeId, (since_s, now_s): (u64, u64)) -> AuditCounts {
        self.state.audit_counts(node, (seconds(since_s), seconds(now_s)))
    }

    /// Chunks that fewer than `wanted` nodes are known to have, and how many are: `limit` at most,
    /// by ascending ids, of those above `after`. Fewer are the last ones. A chunk that is being let
    /// go is none of these, though it may have been stored again: the next prune spares it then.
    ///
    /// What this folder's own prunes let go is not known any more. What another device's prune let
    /// go is, until a prune here comes upon it: so whoever heals stores nothing again that no
    /// snapshot names.
    pub fn chunks_short(
        &self,
        wanted: u8,
        after: Option<&ChunkId>,
        limit: usize,
    ) -> Vec<(ChunkId, usize)> {
        self.state.chunks_short(wanted.into(), after, limit)
    }

    /// What audits of this node came to; `None` where none is known of.
    pub fn audit_record(&self, node: &NodeId) -> Option<AuditRecord> {
        self.state.audits().0.get(node).cloned()
    }

    /// What audits came to, by node.
    pub fn audit_records(&self) -> impl Iterator<Item = (&NodeId, &AuditRecord)> {
        self.state.audits().0.iter()
    }
}

#[cfg(test)]
mod tests;
