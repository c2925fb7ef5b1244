//! Partitions: who does not hear whom.

use crate::node::Index;
use crate::tally::Fault;
use std::collections::{BTreeMap, BTreeSet};

/// Nothing gets from one side to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    from: BTreeSet<Index>,
    to: BTreeSet<Index>,
    fault: Fault,
}

impl Cut {
    /// Neither side hears the other.
    pub(crate) fn between(from: BTreeSet<Index>, to: BTreeSet<Index>) -> Self {
        Self { from, to, fault: Fault::Partition }
    }

    /// `to` does not hear `from`, but is heard.
    pub(crate) fn one_way(from: BTreeSet<Index>, to: BTreeSet<Index>) -> Self {
        Self { from, to, fault: Fault::OneWay }
    }

    /// One link, of several that are cut one after another.
    pub(crate) fn link(a: Index, b: Index) -> Self {
        let (from, to) = (BTreeSet::from([a]), BTreeSet::from([b]));
        Self { from, to, fault: Fault::Swizzle }
    }

    /// As what it counts.
    pub(crate) fn fault(&self) -> Fault {
        self.fault
    }

    /// Whether one side is still heard.
    pub(crate) fn is_one_way(&self) -> bool {
        self.fault == Fault::OneWay
    }

    /// Whether it is between these two, in either direction.
    pub(crate) fn is_between(&self, a: Index, b: Index) -> bool {
        self.blocks(a, b) || self.blocks(b, a)
    }

    fn blocks(&self, from: Index, to: Index) -> bool {
        let along = self.from.contains(&from) && self.to.contains(&to);
        along || !self.is_one_way() && self.from.contains(&to) && self.to.contains(&from)
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

    pub(super) fn end(&mut self, number: u64) -> Option<Cut> {
        self.cuts.remove(&number)
    }

    pub(super) fn blocks(&self, from: Index, to: Index) -> bool {
        self.cuts.values().any(|cut| cut.blocks(from, to))
    }
}
