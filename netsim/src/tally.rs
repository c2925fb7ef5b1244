//! What happened, by kind: faults that were injected, and rare branches that were taken.

use std::collections::BTreeMap;

/// Every kind of fault. Each must be hit somewhere in a set of runs, or the set proves less than it
/// says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A copy of a gossiped message was lost.
    GossipLost,
    /// A gossiped message arrived again after the transport had forgotten it.
    GossipTwice,
    /// A gossiped message overtook an earlier one, or came very late.
    GossipLate,
    /// A connection broke under what was sent over it.
    LinkCut,
    /// A frame crawled over a slow line.
    Slow,
    /// A dial failed.
    DialLost,
    /// Some nodes were cut off from others, both ways.
    Partition,
    /// The same in one direction only.
    OneWay,
    /// Two nodes behind NAT could not connect.
    Nat,
    /// A node lost its power, with what was not synced.
    Crash,
    /// The same in the middle of a group commit.
    CrashInCommit,
    /// A node was stopped and went on later as if nothing had been.
    Pause,
    /// A node left for ever.
    Leave,
    /// A laptop was closed.
    Lid,
    /// A write failed.
    WriteError,
    /// A read failed.
    ReadError,
    /// A sync failed, and what it should have made durable was lost.
    SyncError,
    /// The disk was full.
    Full,
    /// A sync was acknowledged and did nothing.
    LyingSync,
    /// A bit flipped at rest.
    Rot,
    /// A disk was replaced by an empty one.
    DiskLost,
    /// A catalogue was lost; it can be made anew.
    IndexLost,
    /// A disk was replaced by an old image of itself.
    OldImage,
    /// A node did what no honest node does.
    Byzantine,
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 24] = [
        Self::GossipLost,
        Self::GossipTwice,
        Self::GossipLate,
        Self::LinkCut,
        Self::Slow,
        Self::DialLost,
        Self::Partition,
        Self::OneWay,
        Self::Nat,
        Self::Crash,
        Self::CrashInCommit,
        Self::Pause,
        Self::Leave,
        Self::Lid,
        Self::WriteError,
        Self::ReadError,
        Self::SyncError,
        Self::Full,
        Self::LyingSync,
        Self::Rot,
        Self::DiskLost,
        Self::IndexLost,
        Self::OldImage,
        Self::Byzantine,
    ];

    /// As it is printed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GossipLost => "gossip lost",
            Self::GossipTwice => "gossip twice",
            Self::GossipLate => "gossip late",
            Self::LinkCut => "link cut",
            Self::Slow => "slow line",
            Self::DialLost => "dial lost",
            Self::Partition => "partition",
            Self::OneWay => "one-way cut",
            Self::Nat => "nat",
            Self::Crash => "crash",
            Self::CrashInCommit => "crash in commit",
            Self::Pause => "pause",
            Self::Leave => "left for ever",
            Self::Lid => "lid closed",
            Self::WriteError => "write error",
            Self::ReadError => "read error",
            Self::SyncError => "sync error",
            Self::Full => "disk full",
            Self::LyingSync => "lying sync",
            Self::Rot => "bit rot",
            Self::DiskLost => "disk lost",
            Self::IndexLost => "catalogue lost",
            Self::OldImage => "old image",
            Self::Byzantine => "byzantine act",
        }
    }

    /// Where it comes from.
    pub(crate) fn group(self) -> Group {
        match self {
            Self::GossipLost
            | Self::GossipTwice
            | Self::GossipLate
            | Self::LinkCut
            | Self::Slow
            | Self::DialLost
            | Self::Partition
            | Self::OneWay
            | Self::Nat => Group::Net,
            Self::WriteError
            | Self::ReadError
            | Self::SyncError
            | Self::Full
            | Self::LyingSync
            | Self::Rot
            | Self::DiskLost
            | Self::IndexLost
            | Self::OldImage => Group::Disk,
            Self::Crash | Self::CrashInCommit | Self::Pause | Self::Leave | Self::Lid => {
                Group::People
            }
            Self::Byzantine => Group::Byzantine,
        }
    }
}

/// Where a fault comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// What is sent.
    Net,
    /// What is kept.
    Disk,
    /// What people do with their machines.
    People,
    /// Nodes that deviate from the protocol.
    Byzantine,
}

impl Group {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Net, Self::Disk, Self::People, Self::Byzantine];

    /// As it is printed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Net => "net",
            Self::Disk => "disk",
            Self::People => "people",
            Self::Byzantine => "byzantine",
        }
    }
}

/// How often each thing happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tally<K: Ord>(BTreeMap<K, u64>);

impl<K: Ord> Default for Tally<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Copy> Tally<K> {
    /// It happened once more.
    pub(crate) fn count(&mut self, what: K) {
        self.add(what, 1);
    }

    /// It happened so many times more.
    pub(crate) fn add(&mut self, what: K, times: u64) {
        if times > 0 {
            *self.0.entry(what).or_insert(0) += times;
        }
    }

    /// How often it happened.
    pub(crate) fn of(&self, what: K) -> u64 {
        self.0.get(&what).copied().unwrap_or(0)
    }

    /// All that happened at least once, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, u64)> + '_ {
        self.0.iter().map(|(what, times)| (*what, *times))
    }

    /// How often anything happened.
    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Takes another's counts in.
    pub(crate) fn merge(&mut self, other: &Self) {
        other.iter().for_each(|(what, times)| self.add(what, times));
    }
}
