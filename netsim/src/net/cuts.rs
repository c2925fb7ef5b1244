//! Partitions: who does not hear whom.

use crate::node::Index;
use std::collections::{BTreeMap, BTreeSet};

/// Nothing gets from one side to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    from: BTreeSet<Index>,
    to: BTreeSet<Index>,
    one_way: bool,
}

impl Cut {
    /// Neither side hears the other.
    pub(crate) fn between(from: BTreeSet<Index>, to: BTreeSet<Index>) -> Self {
        Self { from, to, one_way: false }
    }

    /// `to` does not hear `from`, but is heard.
    pub(crate) fn one_way(from: BTreeSet<Index>, to: BTreeSet<Index>) -> Self {
        Self { from, to, one_way: true }
    }

    /// Whether one side is still heard.
    pub(crate) fn is_one_way(&self) -> bool {
        self.one_way
    }

    fn blocks(&self, from: Index, to: Index) -> bool {
        let along = self.from.contains(&from) && self.to.contains(&to);
        along || !self.one_way && self.from.contains(&to) && self.to.contains(&from)
    }
}

/// All cuts of this moment.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    next: u64,
    cuts: BTreeMap<u64, Cut>,
}

impl Cuts {
    pub(super) fn begin(&mut self, cut: Cut) -> u64 {
        self.next += 1;
        self.cuts.insert(self.next, cut);
        self.next
    }

    pub(super) fn end(&mut self, number: u64) {
        self.cuts.remove(&number);
    }

    pub(super) fn blocks(&self, from: Index, to: Index) -> bool {
        self.cuts.values().any(|cut| cut.blocks(from, to))
    }
}
