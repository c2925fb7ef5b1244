//! What happened, by kind: faults that were injected, and rare branches that were taken.

use std::collections::BTreeMap;

/// Declares [`Fault`] from the table of its kinds.
macro_rules! faults {
    ($($kind:ident, $group:ident, $name:literal, $what:literal;)*) => {
        /// Every kind of fault. Each must be hit somewhere in a set of runs, or the set proves less
        /// than it says.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Fault {
            $(#[doc = $what] $kind,)*
        }

        impl Fault {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$kind,)*];

            /// As it is printed.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// Where it comes from.
            pub(crate) fn group(self) -> Group {
                match self { $(Self::$kind => Group::$group,)* }
            }

            /// What happened.
            pub(crate) fn what(self) -> &'static str {
                match self { $(Self::$kind => $what,)* }
            }
        }
    };
}

faults! {
    GossipLost, Net, "gossip lost", "A copy of a gossiped message was lost.";
    GossipTwice, Net, "gossip twice", "The same message arrived again, forgotten by the transport.";
    GossipLate, Net, "gossip late", "A message overtook an earlier one, or came very late.";
    LinkCut, Net, "link cut", "A connection broke under what was sent over it.";
    Stall, Net, "stall", "A frame stopped in the middle for a while, and what was behind it.";
    Slow, Net, "slow line", "A frame crawled over a slow line.";
    DialLost, Net, "dial lost", "A dial failed.";
    Partition, Net, "partition", "Some nodes were cut off from others, both ways.";
    Swizzle, Net, "link by link", "A link was cut, one of several that went one after another.";
    OneWay, Net, "one-way cut", "The same in one direction only.";
    Nat, Net, "nat", "A node behind NAT could not be dialled.";
    InboundOnly, Net, "inbound only", "A node that can only be dialled did not get through.";
    Relayed, Net, "relayed", "A peer was met whose failure domain nobody knows.";
    Crash, People, "crash", "A node lost its power, with what was not synced.";
    CrashInCommit, People, "crash in commit", "The same in the middle of a group commit.";
    MassRestart, People, "mass restart", "A node lost its power, and with it many or all others.";
    CrashLoop, People, "crash loop", "A node lost its power again within seconds of its start.";
    CrashInOpening, People, "crash in opening", "The same while it opened its store.";
    Pause, People, "pause", "A node was stopped and went on later as if nothing had been.";
    ClockDrift, People, "clock drifts", "A node was started whose clock goes wrong.";
    ClockStopped, People, "clock stood still", "A machine slept, and its clock with it.";
    Leave, People, "left for ever", "A node left for ever.";
    Lid, People, "lid closed", "A laptop was closed.";
    WriteError, Disk, "write error", "A change of a disk failed.";
    ShortWrite, Disk, "short write", "A write failed after a part of it.";
    ReadError, Disk, "read error", "A read failed, or a question.";
    SyncError, Disk, "sync error", "A sync failed, and what it should have made durable was lost.";
    NoSpace, Disk, "no space at a call", "A call said that there is no space where there was.";
    Full, Disk, "disk full", "The disk was full.";
    Quota, Disk, "quota", "A quota was used up while the disk had space.";
    LyingSync, Disk, "lying sync", "A sync was acknowledged and did nothing.";
    UnsyncedLost, Disk, "unsynced lost", "A power cut took a change that was not synced.";
    TornWrite, Disk, "torn write", "It took a part, and left a part.";
    NameLost, Disk, "name lost", "It undid the making or the removal of a file.";
    Rot, Disk, "bit rot", "A bit flipped at rest.";
    Zeroed, Disk, "zeroed block", "A block became zeros.";
    LostWrite, Disk, "lost write", "A write was acknowledged, and the block kept its old version.";
    WriteElsewhere, Disk, "misdirected write", "A write went elsewhere.";
    ReadElsewhere, Disk, "misdirected read", "A read came from elsewhere.";
    DiskLost, Disk, "disk lost", "A disk was replaced by an empty one.";
    OldImage, Disk, "old image", "A disk was replaced by an old image of itself.";
    IndexLost, Disk, "catalogue lost", "A catalogue was lost; it can be made anew.";
    CatalogueError, Disk, "catalogue error", "A call of the catalogue failed.";
    CatalogueOld, Disk, "catalogue old", "A catalogue was after a crash what it was long ago.";
    CatalogueWrong, Disk, "catalogue wrong", "A catalogue had lost an entry after a crash.";
    Byzantine, Byzantine, "byzantine act", "A node did what no honest node does.";
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
