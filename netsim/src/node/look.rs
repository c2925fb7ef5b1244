//! Looks at a node's store by whoever is no part of the world: nothing fails meanwhile, nothing is
//! drawn, and what the disk is going to do without a word, it still does to somebody else.

use super::store::Store;
use super::{Blueprint, Node};
use crate::chance::Chance;
use crate::oracle::Seen;
use quloud::core::types::ChunkId;
use quloud::store::ReadOnly;

impl Node {
    /// Asks its store, where the node runs.
    pub(crate) fn look<R>(&self, ask: impl FnOnce(&Store) -> R) -> Option<R> {
        let machine = self.machine.as_ref()?;
        Some(self.undisturbed(|| ask(&machine.store)))
    }

    /// Whether its store could read what it knows of heads when it was opened: else it is
    /// read-only, and is opened again.
    pub(crate) fn knows_heads(&self) -> bool {
        let why = self.machine.as_ref().and_then(|machine| machine.store.read_only());
        !matches!(why, Some(ReadOnly::Ledger(_)))
    }

    /// Whether nothing keeps it from reading what it has: its disk never did anything without a
    /// word, and no call fails.
    pub(crate) fn reads_well(&self) -> bool {
        let Blueprint { disk, catalogue, .. } = &self.blueprint;
        let never_fails = disk.read_error == Chance::NEVER && catalogue.error == Chance::NEVER;
        never_fails && self.has_sound_disk()
    }

    /// Whether it runs, has a chunk and can read it.
    pub(crate) fn holds(&self, id: &ChunkId) -> bool {
        self.look(|store| store.holds(id)).unwrap_or(false)
    }

    /// Whether it runs and a chunk is not there at all.
    pub(crate) fn lacks(&self, id: &ChunkId) -> bool {
        self.look(|store| store.lacks(id)).unwrap_or(false)
    }

    /// What the catalogue has of a chunk.
    pub(crate) fn seen(&self, id: &ChunkId) -> Seen {
        self.look(|store| store.seen(id)).unwrap_or(Seen::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use crate::chance::Chance;
    use crate::disk::{DiskFaults, Mishap};
    use crate::limits::Limits;
    use crate::node::{Blueprint, Node, Place};
    use crate::oracle::Seen;
    use quloud::core::effect::Reach;
    use quloud::core::placement::DomainPolicy;
    use quloud::core::shard::Sharding;
    use quloud::core::types::{ChunkId, LeaseTerms, Time};
    use quloud::store::writer::Options;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    fn node() -> Node {
        let blueprint = Blueprint {
            place: Place::good(Reach::Local),
            options: Options { segment_bytes: 1 << 20, ..Options::with_reserve(4 << 20, 0) },
            disk: DiskFaults::default(),
            catalogue: Default::default(),
            domains: DomainPolicy::LanCountsEach,
            terms: LeaseTerms::default(),
            limits: Limits::default(),
            sharding: Sharding::WHOLE,
        };
        let mut node = Node::new(ChaCha20Rng::seed_from_u64(1), blueprint);
        node.start(Time(0)).unwrap();
        node
    }

    #[test]
    fn looks_fail_never_and_use_nothing_up() {
        let node = node();
        let faults = DiskFaults { read_error: Chance::ALWAYS, ..DiskFaults::default() };
        node.disk.set_faults(faults);
        node.disk.arm(Mishap::ReadElsewhere);
        let id = ChunkId::from_bytes([7; 32]);
        assert!(node.lacks(&id) && !node.holds(&id) && node.seen(&id) == Seen::Nothing);
        assert!(node.look(|store| store.space()).unwrap().free > 0);
        assert_eq!(node.disk.take_tally().total(), 0);
        assert!(!node.disk.is_spoiled());
    }

    #[test]
    fn who_is_down_neither_holds_nor_lacks() {
        let mut node = node();
        node.crash();
        let id = ChunkId::from_bytes([7; 32]);
        assert!(!node.lacks(&id) && !node.holds(&id));
    }
}
