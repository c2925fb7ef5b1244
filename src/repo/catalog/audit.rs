//! What audits of the owner's holders came to: when each replica was last proven, and where each
//! holder stands. Who audits whom, when, and what is done about a loss, is for others to decide.
//!
//! # Replicas
//! A chunk is *stored k of N* when k nodes acknowledged it, and *safe* as far as audits proved it:
//! [`Replicas::acked`] and [`Replicas::audited`](super::Replicas::audited) count these. A replica
//! that an audit finds missing, damaged, made up or released is taken off the holders by
//! [`Entry::ReplicaLost`], and counts again when its node acknowledges the chunk anew. Until then
//! it is one of the [`Catalog::losses`]. All of a store that is gone are taken off by
//! [`Entry::StoreGone`], which are no such losses: the node is none of the holders any more.
//!
//! # Holders
//! Of each holder a record is kept, and [`standing`] makes one word of it: see there. So is what it
//! owes an answer for: see [`Debt`].

use super::Catalog;
use super::entry::{Entry, HolderAudited, Loss, Silence};
use super::proven::seconds;
use crate::core::types::{ChunkId, NodeId, StoreEpoch};
use crate::repo::debt::Debt;
use crate::repo::standing::{AuditRecord, Standing, standing};
use std::collections::BTreeMap;

/// Holders that are remembered. Beyond these one goes that never lied, if any, and of these the one
/// of which nothing was heard for the longest time.
const RECORDS_MAX: usize = 4_096;

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

impl AuditRecord {
    /// As few entries as say all of it, in order.
    fn entries(&self, node: NodeId) -> impl Iterator<Item = Entry> {
        let is_told = |last: &HolderAudited| self.incidents.last() == Some(last);
        let last = self.last.filter(|last| !is_told(last));
        let audits = self.incidents.iter().copied().chain(last).map(Entry::HolderAudited);
        // Behind the audits, of which some were misses.
        let silence = self.silence.map(|silence| Entry::HolderSilence { node, silence });
        let withholds = self.withheld.map(|silence| Entry::HolderWithholds { node, silence });
        let lied = self.lied_s.map(|at_s| Entry::HolderLied { node, at_s });
        let day = self.day_s.map(|at_s| Entry::HolderHadDay { node, at_s });
        audits.chain(silence).chain(withholds).chain(lied).chain(day)
    }
}

/// What audits came to, by holder.
#[derive(Debug, Default)]
pub(super) struct Audits {
    records: BTreeMap<NodeId, AuditRecord>,
    /// Of those who owe anything.
    debts: BTreeMap<NodeId, Debt>,
}

impl Audits {
    pub(super) fn on_audited(&mut self, audited: HolderAudited) {
        self.of(audited.node).on_audited(audited);
        self.make_room(&audited.node);
    }

    pub(super) fn on_silent(&mut self, node: NodeId, at_s: u64) {
        self.of(node).on_silent(at_s);
        self.make_room(&node);
    }

    pub(super) fn on_silence(&mut self, node: NodeId, silence: Silence) {
        self.of(node).silence = Some(silence);
        self.make_room(&node);
    }

    pub(super) fn on_withheld(&mut self, node: NodeId, at_s: u64) {
        self.of(node).on_withheld(at_s);
        self.make_room(&node);
    }

    pub(super) fn on_withholds(&mut self, node: NodeId, silence: Silence) {
        self.of(node).withheld = Some(silence);
        self.make_room(&node);
    }

    pub(super) fn on_served(&mut self, node: &NodeId) {
        if let Some(record) = self.records.get_mut(node) {
            record.on_served();
        }
    }

    pub(super) fn on_day(&mut self, node: NodeId, at_s: u64) {
        self.of(node).day_s = Some(at_s);
        self.make_room(&node);
    }

    pub(super) fn on_debt(&mut self, node: NodeId, debt: Debt) {
        match debt.is_open() {
            true => self.debts.insert(node, debt),
            false => self.debts.remove(&node),
        };
    }

    pub(super) fn owed(&self) -> u64 {
        self.debts.values().map(|debt| debt.count() as u64).sum()
    }

    pub(super) fn take_debt(&mut self, node: &NodeId) -> Option<Debt> {
        self.debts.remove(node)
    }

    pub(super) fn on_lied(&mut self, node: NodeId, at_s: u64) {
        let record = self.of(node);
        record.lied_s = record.lied_s.max(Some(at_s));
        self.make_room(&node);
    }

    /// Where this holder stands at `now_s`, seconds since 1970.
    pub(super) fn standing_of(&self, node: &NodeId, now_s: u64) -> Standing {
        self.records.get(node).map_or(Standing::Unknown, |record| standing(record, now_s))
    }

    fn of(&mut self, node: NodeId) -> &mut AuditRecord {
        self.records.entry(node).or_default()
    }

    /// The one that was noted just now stays.
    fn make_room(&mut self, newest: &NodeId) {
        if self.records.len() <= RECORDS_MAX {
            return;
        }
        let others = self.records.iter().filter(|(node, _)| *node != newest);
        let oldest = others.min_by_key(|(_, record)| (record.has_lied(), record.latest_s()));
        if let Some(node) = oldest.map(|(node, _)| *node) {
            self.records.remove(&node);
        }
    }

    /// How many entries say all of it.
    pub(super) fn entries(&self) -> u64 {
        self.each().count() as u64
    }

    /// What says all of it, in order.
    pub(super) fn each(&self) -> impl Iterator<Item = Entry> {
        let debts = self.debts.iter();
        let debts = debts.map(|(node, debt)| Entry::HolderOwes { node: *node, debt: debt.clone() });
        self.records.iter().flat_map(|(node, record)| record.entries(*node)).chain(debts)
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

    /// Whether this node acknowledged anything, with the store that it has now, that no audit
    /// proved since: as [`Self::due_at`] from 1 on finds it, without looking at the chunks.
    pub fn has_unaudited(&self, node: &NodeId) -> bool {
        self.state.has_unaudited(node)
    }

    /// Whether an audit ever proved this node's replica, since it acknowledged it, or said that it
    /// has it after all; also where it says now that it does not.
    pub fn was_audited(&self, node: &NodeId, chunk: &ChunkId) -> bool {
        self.state.was_audited(node, chunk)
    }

    /// Of how many replicas of this chunk that count an audit's proof is from `since_s` to `now_s`:
    /// seconds since 1970.
    pub fn audited_within(&self, chunk: &ChunkId, (since_s, now_s): (u64, u64)) -> usize {
        self.state.audited_within(chunk, (seconds(since_s), seconds(now_s)))
    }

    /// Whether anybody ever acknowledged this chunk, as far as is known here, and no prune of this
    /// folder let it go.
    pub fn is_known(&self, chunk: &ChunkId) -> bool {
        self.state.is_known(chunk)
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

    /// The replicas that were lost last, oldest first: which chunk, by whom, why, and when that was
    /// found, in seconds since 1970. 65,536 at most; each until its node acknowledges the chunk
    /// again, this folder's own prune lets the chunk go, or it is settled. That others have the
    /// chunk by now does not end it: whoever tells of losses skips chunks with enough replicas.
    pub fn losses(&self) -> impl Iterator<Item = (&ChunkId, &NodeId, Loss, u64)> {
        self.state.losses().map(|lost| (&lost.chunk, &lost.node, lost.why, lost.at_s))
    }

    /// Forgets the losses of these chunks. Only in memory: after a restart they may be told again.
    pub fn settle_losses(&mut self, is_settled: impl Fn(&ChunkId) -> bool) {
        self.state.settle_losses(is_settled);
    }

    /// What this node owes an answer for, `None` where that is nothing. What it has no more is
    /// nobody's debt, and forgotten.
    pub fn owed_by(&mut self, node: &NodeId) -> Option<Vec<ChunkId>> {
        self.state.owed_by(node)
    }

    /// The same, with what it may have no more.
    pub fn debt_of(&self, node: &NodeId) -> Debt {
        self.state.audits().debts.get(node).cloned().unwrap_or_default()
    }

    /// Whether anybody owes an answer.
    pub fn has_debtors(&self) -> bool {
        !self.state.audits().debts.is_empty()
    }

    /// What audits of this node came to; `None` where none is known of.
    pub fn audit_record(&self, node: &NodeId) -> Option<AuditRecord> {
        self.state.audits().records.get(node).cloned()
    }

    /// Whether this node ever answered for a chunk as if it had it, and had not.
    pub fn is_liar(&self, node: &NodeId) -> bool {
        self.state.audits().records.get(node).is_some_and(AuditRecord::has_lied)
    }

    /// What audits came to, by node.
    pub fn audit_records(&self) -> impl Iterator<Item = (&NodeId, &AuditRecord)> {
        self.state.audits().records.iter()
    }
}

#[cfg(test)]
mod tests;
