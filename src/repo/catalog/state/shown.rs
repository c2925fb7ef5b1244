//! When holders showed what they keep, and when audits proved it. Pure.
//!
//! Two times of each replica. That a holder acknowledged a chunk or says that it keeps it is its
//! word; that an audit proved it is more, and such a word besides. A window is from one time to
//! another, both included, in seconds since 1970: its end is what the clock shows, so that a time
//! that lies ahead counts as none.

use super::super::audit::AuditCounts;
use super::super::entry::Proven;
use super::super::proven::Replicas;
use super::State;
use super::holders::{self, REFUTED_PROVEN, Replica, SHOWN_MAX_S, StoreIndex, counting};
use crate::core::types::{ChunkId, NodeId, StoreEpoch};
use crate::repo::near::Near;
use std::collections::BTreeMap;

/// From when to when.
type Window = (u32, u32);

/// What was told when, by store and time: how the ids begin.
pub(in super::super) type Times = BTreeMap<(NodeId, StoreEpoch, u32), Vec<u64>>;

fn is_within(at_s: u32, (since_s, now_s): Window) -> bool {
    at_s > 0 && (since_s..=now_s).contains(&at_s)
}

impl Replica {
    fn is_shown(&self, window: Window) -> bool {
        !self.is_refuted() && is_within(self.shown_s, window)
    }

    fn is_audited(&self, window: Window) -> bool {
        is_within(self.audited_s, window)
    }

    fn was_audited(&self) -> bool {
        self.audited_s > 0 || self.shown_s == REFUTED_PROVEN
    }
}

impl State {
    pub(in super::super) fn replicas_of(&self, chunk: &ChunkId, window: Window) -> Replicas {
        let ever = (0, window.1);
        let of = |is_it: &dyn Fn(&Replica) -> bool| {
            let nodes = self.sound(chunk, window.1).filter(|(_, held)| is_it(held));
            let nodes = nodes.map(|(node, _)| node);
            if self.near.is_empty() { nodes.count() } else { self.near.apart(nodes).len() }
        };
        Replicas {
            acked: of(&|_| true),
            proven: of(&|held| held.is_shown(window)),
            audited: of(&|held| held.is_audited(ever)),
        }
    }

    /// Which holders share a failure domain by now. Where replicas count no more by that since
    /// `lost_s`, seconds since 1970, that is a loss like others.
    pub(in super::super) fn draw_near(&mut self, near: Near, lost_s: Option<u64>) {
        self.near = near;
        self.drawn += 1;
        if let Some(at_s) = lost_s {
            self.made.lose_unsaved(at_s);
        }
    }

    pub(in super::super) fn near(&self) -> (&Near, u64) {
        (&self.near, self.drawn)
    }

    pub(in super::super) fn proven_holders(
        &self,
        chunk: &ChunkId,
        window: Window,
    ) -> impl Iterator<Item = NodeId> {
        self.near.apart(self.shown_holders(chunk, window)).into_iter()
    }

    pub(in super::super) fn shown_holders(
        &self,
        chunk: &ChunkId,
        window: Window,
    ) -> impl Iterator<Item = NodeId> {
        let shown = self.sound(chunk, window.1).filter(move |(_, held)| held.is_shown(window));
        shown.map(|(node, _)| node)
    }

    /// Replicas that nobody took back, of holders that count at `now_s`, seconds since 1970.
    fn sound(&self, chunk: &ChunkId, now_s: u32) -> impl Iterator<Item = (NodeId, Replica)> {
        let now_s = u64::from(now_s);
        let counts = move |node: &NodeId| self.audits.standing_of(node, now_s).counts();
        self.counting(chunk).filter(move |(node, held)| !held.is_refuted() && counts(node))
    }

    pub(in super::super) fn audited_within(&self, chunk: &ChunkId, window: Window) -> usize {
        self.counting(chunk).filter(|(_, held)| held.is_audited(window)).count()
    }

    pub(in super::super) fn was_audited(&self, node: &NodeId, chunk: &ChunkId) -> bool {
        self.counting(chunk).any(|(of, held)| of == *node && held.was_audited())
    }

    /// Who has the chunk and did not take that back, and when an audit proved it, if any did.
    pub(in super::super) fn proofs_of(
        &self,
        chunk: &ChunkId,
    ) -> impl Iterator<Item = (NodeId, Option<u64>)> {
        let at = |held: Replica| (held.audited_s > 0).then_some(u64::from(held.audited_s));
        let all = self.counting(chunk).filter(|(_, held)| !held.is_refuted());
        all.map(move |(node, held)| (node, at(held)))
    }

    pub(in super::super) fn unproven_holders(
        &self,
        chunk: &ChunkId,
        window: Window,
    ) -> impl Iterator<Item = NodeId> {
        let open = self.counting(chunk).filter(move |(_, held)| !held.is_shown(window));
        open.map(|(node, _)| node)
    }

    pub(in super::super) fn due_at(
        &self,
        node: &NodeId,
        window: Window,
        after: Option<&ChunkId>,
        limit: usize,
    ) -> Vec<ChunkId> {
        let due = self.held(node, after).filter(|(_, held)| !held.is_audited(window));
        due.map(|(id, _)| *id).take(limit).collect()
    }

    pub(in super::super) fn audit_counts(&self, node: &NodeId, window: Window) -> AuditCounts {
        let mut counts = AuditCounts::default();
        for (_, held) in self.held(node, None) {
            counts.held += 1;
            counts.proven += u64::from(held.is_audited(window));
            if held.is_audited((0, window.1)) {
                let at_s = u64::from(held.audited_s);
                let oldest = counts.oldest_proven_s.map_or(at_s, |oldest| oldest.min(at_s));
                counts.oldest_proven_s = Some(oldest);
            }
        }
        counts
    }

    /// The store has the chunk. Of one that said that it has it not this is news, and no proof.
    pub(in super::super) fn prove(
        &mut self,
        (node, epoch): (&NodeId, &StoreEpoch),
        chunk: &ChunkId,
        at_s: u32,
    ) {
        let Some(store) = self.index.get(&(*node, *epoch)).copied() else { return };
        self.replica(chunk, store, |held| held.shown_s = at_s.min(SHOWN_MAX_S));
    }

    /// The store says at `at_s`, seconds since 1970, that it does not have the chunk: what an audit
    /// proved means nothing any more either, but that it did, and the replica counts for nobody
    /// until it is acknowledged, shown or proven anew.
    pub(in super::super) fn refute(
        &mut self,
        (node, epoch): (&NodeId, &StoreEpoch),
        chunk: &ChunkId,
        at_s: u64,
    ) {
        let Some(store) = self.index.get(&(*node, *epoch)).copied() else { return };
        let mut is_news = false;
        self.replica(chunk, store, |held| {
            is_news = !held.is_refuted();
            held.refute();
        });
        let did_count = self.current.get(node) == Some(&store) && !self.is_doomed(chunk);
        if is_news && did_count {
            self.made.lose_unsaved(at_s);
        }
    }

    pub(in super::super) fn prove_audited(
        &mut self,
        (node, epoch): (&NodeId, &StoreEpoch),
        chunks: &[ChunkId],
        at_s: u32,
    ) {
        let Some(store) = self.index.get(&(*node, *epoch)).copied() else { return };
        for chunk in chunks {
            let shown_s = at_s.min(SHOWN_MAX_S);
            self.replica(chunk, store, |held| (held.shown_s, held.audited_s) = (shown_s, at_s));
        }
    }

    fn replica(&mut self, chunk: &ChunkId, store: StoreIndex, set: impl FnOnce(&mut Replica)) {
        let Self { stores, holders, more, .. } = self;
        let inline = holders.get_mut(chunk).into_iter().flatten();
        let mut held = inline.chain(more.get_mut(chunk).into_iter().flatten());
        if let Some(held) = held.find(|held| held.store == store) {
            holders::set(stores, held, set);
        }
    }

    pub(super) fn on_proven(&mut self, proven: &Proven) {
        self.each_alike(proven, |held| held.shown_s = proven.at_s);
    }

    pub(super) fn on_audited(&mut self, proven: &Proven) {
        self.each_alike(proven, |held| {
            held.acknowledge();
            held.audited_s = proven.at_s;
        });
    }

    fn each_alike(&mut self, proven: &Proven, set: impl Fn(&mut Replica)) {
        let store = self.index.get(&(proven.node, proven.epoch)).copied();
        let Some(store) = store else { return };
        let Self { stores, holders, more, .. } = self;
        for prefix in &proven.chunks {
            let [first, last] = [[0; 24], [u8::MAX; 24]].map(|rest| from_prefix(*prefix, rest));
            let alike = holders.range_mut(first..=last).flat_map(|(_, held)| held);
            let others = more.range_mut(first..=last).flat_map(|(_, held)| held);
            let of = alike.chain(others).filter(|held| held.store == store);
            of.for_each(|held| holders::set(stores, held, &set));
        }
    }

    /// What was shown when; what was refuted is so at [`holders::REFUTED`] or
    /// [`REFUTED_PROVEN`].
    pub(in super::super) fn proven(&self, window: Window) -> Times {
        self.times(|held| (held.is_refuted() || held.is_shown(window)).then_some(held.shown_s))
    }

    /// What audits proved when.
    pub(in super::super) fn audited(&self, window: Window) -> Times {
        self.times(|held| held.is_audited(window).then_some(held.audited_s))
    }

    fn times(&self, time: impl Fn(&Replica) -> Option<u32>) -> Times {
        let counts = |index: &StoreIndex| counting(&self.stores, &self.current, *index).is_some();
        let names = self.index.iter().filter(|(_, index)| counts(index));
        let names: BTreeMap<StoreIndex, (NodeId, StoreEpoch)> =
            names.map(|(name, index)| (*index, *name)).collect();
        let mut all = Times::new();
        for (id, slots) in &self.holders {
            for held in self.all(id, slots) {
                if let Some(at_s) = time(held)
                    && let Some((node, epoch)) = names.get(&held.store)
                {
                    all.entry((*node, *epoch, at_s)).or_default().push(Proven::prefix(id));
                }
            }
        }
        all
    }

    pub(in super::super) fn disbelieve_before(&mut self, at_s: u32) {
        let all = self.holders.values_mut().flatten().chain(self.more.values_mut().flatten());
        all.filter(|held| held.shown_s < at_s && !held.is_refuted())
            .for_each(|held| held.shown_s = 0);
    }

    #[cfg(test)]
    pub(in super::super) fn forget_proofs(&mut self) {
        let all = self.holders.values_mut().flatten().chain(self.more.values_mut().flatten());
        all.filter(|held| !held.is_refuted()).for_each(|held| held.shown_s = 0);
    }
}

/// The id that begins so and ends so.
fn from_prefix(prefix: u64, rest: [u8; 24]) -> ChunkId {
    let mut bytes = [0; 32];
    let (head, tail) = bytes.split_at_mut(8);
    head.copy_from_slice(&prefix.to_be_bytes());
    tail.copy_from_slice(&rest);
    ChunkId::from_bytes(bytes)
}
