//! The oracle: it sees everything that happens, knows what is true, and says when a promise is
//! broken. One property per file.

mod addressed;
mod answers;
mod asked;
mod blame;
mod bounds;
mod bytes;
mod counts;
mod damage;
mod delays;
mod dials;
mod durable;
mod epochs;
mod gone;
mod heads_grow;
mod heads_kept;
mod heads_once;
mod held;
mod judged;
mod kept;
mod leases;
mod located;
mod proven;
mod quorum;
mod recovered;
mod rightful;
mod room;
mod wanted;
mod window;
mod withheld;
mod words;

pub(crate) use blame::accuses;

use crate::node::{Index, Node, Role};
use ::bytes::Bytes;
use quloud::core::audit::Verdict as Audit;
use quloud::core::codec::Reject;
use quloud::core::effect::{Found, Space, Via};
use quloud::core::holder::HolderLoad;
use quloud::core::message::{StreamMessage, TopicMessage};
use quloud::core::owner::{Fill, OwnerEvent};
use quloud::core::types::{Account, ChunkId, LeaseNonce, NodeId, SnapshotId, StoreEpoch, Time};
use quloud::crypto::head::HeadRecord;
use quloud::repo::evidence::Word;
use quloud::repo::head::Verdict;
use quloud::repo::standing::Standing;
use quloud::store::{Damage, OpenReport};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Something happened.
#[derive(Debug)]
pub(crate) enum Fact<'a> {
    /// A node says something to a connected peer.
    Said { from: Index, to: Index, message: &'a StreamMessage },
    /// A node gossips something.
    Published { node: Index, message: &'a TopicMessage },
    /// A node looks for a connection to another, at the addresses of `record`.
    Dialled { node: Index, role: Role, to: NodeId, record: &'a Bytes },
    /// An owner role tells its user something.
    Reported { node: Index, event: &'a OwnerEvent },
    /// A role turns something down that `from` brought.
    Rejected { node: Index, from: NodeId, heard: Option<Heard>, reason: Reject },
    /// A node opened its store.
    Opened { node: Index, report: &'a OpenReport },
    /// A store's scrub took a step, and found this damaged, and so many chunks.
    Scrubbed { node: Index, damage: &'a [Damage], rotten: usize },
    /// A node started, or the world is at its end; of the chunks it acknowledged, these it does
    /// not have, and of those that it deleted, these it has.
    Started { node: Index, missing: &'a [ChunkId], risen: &'a [ChunkId] },
    /// A store was asked for a chunk.
    Looked { node: Index, id: ChunkId, seen: Seen },
    /// A holder role is told how full its store is.
    Told { node: Index, space: Space },
    /// What a store says, and what was found when it was looked through.
    Counted { node: Index, space: Space, by_account: u64, found: u64 },
    /// A store has nothing to do; what its holder counted by account, and what it says itself.
    Rests { node: Index, counted: &'a BTreeMap<Account, u64>, usage: &'a BTreeMap<Account, u64> },
    /// An owner made the next record of its head.
    HeadMade { node: Index, record: &'a HeadRecord },
    /// A store was asked for a head, or is looked through: the newest number that it shows.
    HeadLooked { node: Index, id: ChunkId, newest: Option<u64> },
    /// An owner, whose newest record has this number, read its own head back.
    HeadJudged { node: Index, newest: u64, verdict: &'a Verdict },
    /// By the words, this number of a head was found, and the snapshots that it leads to.
    Recovered { node: Index, head: ChunkId, number: u64, live: &'a BTreeSet<SnapshotId> },
    /// An owner judged an answer about a chunk, of this store.
    Audited { owner: Index, holder: NodeId, epoch: StoreEpoch, id: ChunkId, verdict: Audit },
    /// An owner's audit of a holder is over: where that stands now.
    Stands { owner: Index, holder: NodeId, standing: Standing },
    /// An owner writes down that a holder proved a chunk and did not hand it over;
    /// it stands there by that alone.
    Withholds { owner: Index, holder: NodeId, standing: Standing },
    /// A user gives a chunk up: its owner knows of no replica of it any more.
    GaveUp { owner: Index, id: ChunkId },
    /// A store destroyed a chunk, by no script.
    Destroyed { node: Index, id: ChunkId, at: Time },
    /// A holder told an owner that it keeps what it was to let go: it counts as it did before.
    TookBack { owner: Index, holder: NodeId, id: ChunkId, epoch: StoreEpoch },
    /// An owner's node tells this word of what it put at one moment.
    Worded(Worded<'a>),
    /// How full the tables of a holder and an owner are, after each event.
    Loaded { node: Index, load: HolderLoad, owner: &'a [Fill] },
}

/// A word that an owner's node tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Worded<'a> {
    pub(crate) owner: Index,
    pub(crate) word: Word,
    /// Of these chunks,
    pub(crate) chunks: &'a [ChunkId],
    /// so many times.
    pub(crate) target: u8,
    /// By the owner's clock: seconds since 1970.
    pub(crate) at_s: u64,
    /// It has just looked.
    pub(crate) is_new: bool,
}

/// Whose words a node has heard: over a stream those of its peer, and over gossip those of whoever
/// published them, which need not be the neighbour that brought them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) via: Via,
    pub(crate) author: Index,
}

/// What a store says of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It is not there.
    Nothing,
    /// Something stands against its record: its node holds it no more, but it was not deleted.
    Damaged,
    /// It is there.
    Sound,
}

impl Seen {
    /// As the catalogue has it.
    pub(crate) fn of(found: Option<Found>) -> Self {
        match found {
            Some(Found::Chunk { sound: true, .. }) => Self::Sound,
            Some(Found::Chunk { sound: false, .. }) => Self::Damaged,
            Some(Found::Head { .. }) | None => Self::Nothing,
        }
    }
}

/// What is true of a chunk.
#[derive(Debug)]
pub(crate) struct ChunkFacts {
    pub(crate) owner: Index,
    pub(crate) sealed: Bytes,
    /// Who may read it: the owner, and whom it was shared with.
    pub(crate) readers: BTreeSet<Index>,
    /// Replicas asked for.
    pub(crate) replicas: u8,
    /// Who was ever brought its bytes.
    pub(crate) reached: BTreeSet<Index>,
    /// Who acknowledged it, or took a release of it back, and when last; but for those whose delay
    /// may have been over at some group since.
    pub(crate) acked: BTreeMap<Index, Time>,
    /// Whose store deleted it, durably, and was not asked since to write it again.
    pub(crate) buried: BTreeSet<Index>,
    /// When its owner gave it up.
    pub(crate) released: Option<Time>,
    /// By holder.
    pub(crate) leases: BTreeMap<Index, LeaseFacts>,
    /// The owner was told that it is stored.
    pub(crate) promised: bool,
}

/// What is true of a chunk at a holder.
#[derive(Debug, Default)]
pub(crate) struct LeaseFacts {
    /// How long it promised to keep what is let go, in seconds: this can only grow.
    pub(crate) delay_s: u32,
    /// What was said to let it go, by whoever may, and is not over.
    pub(crate) let_go: Vec<LetGo>,
}

/// A chunk is let go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LetGo {
    pub(crate) since: Time,
    pub(crate) lease: LeaseNonce,
    /// Who said it, and under which number.
    pub(crate) request: (Index, u64),
    /// The holder said that it does.
    pub(crate) is_answered: bool,
}

impl LeaseFacts {
    /// Whether the holder may destroy it by now.
    pub(crate) fn may_go(&self, now: Time) -> bool {
        let delay = Duration::from_secs(self.delay_s.into());
        self.let_go.iter().any(|let_go| let_go.since.after(delay) <= now)
    }
}

/// What is true of a head.
#[derive(Debug)]
pub(crate) struct HeadFacts {
    pub(crate) owner: Index,
    pub(crate) index: u16,
    /// Replicas asked for.
    pub(crate) replicas: u8,
    /// What each record says, by its number.
    pub(crate) said: BTreeMap<u64, Said>,
    /// Who acknowledged it, and the highest number.
    pub(crate) acked: BTreeMap<Index, u64>,
    /// The number that was sent last.
    pub(crate) sending: u64,
    /// The highest number that was ever at its quorum.
    pub(crate) promised: u64,
}

/// What a record of a head says.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) record: HeadRecord,
    /// The snapshots that are listed with it.
    pub(crate) live: BTreeSet<SnapshotId>,
}

impl HeadFacts {
    /// Nothing was said yet.
    pub(crate) fn new(owner: Index, index: u16, replicas: u8) -> Self {
        let (said, acked, sending, promised) = (BTreeMap::new(), BTreeMap::new(), 0, 0);
        Self { owner, index, replicas, said, acked, sending, promised }
    }

    /// A node acknowledged the record that has this lease.
    pub(crate) fn note_ack(&mut self, node: Index, lease: &LeaseNonce) {
        let mut said = self.said.iter().filter(|(_, said)| said.record.lease() == *lease);
        if let Some((number, _)) = said.next() {
            let newest = self.acked.entry(node).or_default();
            *newest = (*newest).max(*number);
        }
    }
}

/// What is true.
pub(crate) struct Truth<'a> {
    pub(crate) now: Time,
    pub(crate) nodes: &'a [Node],
    pub(crate) indices: &'a BTreeMap<NodeId, Index>,
    pub(crate) chunks: &'a BTreeMap<ChunkId, ChunkFacts>,
    pub(crate) heads: &'a BTreeMap<ChunkId, HeadFacts>,
}

impl Truth<'_> {
    /// Whether a node follows the protocol.
    pub(crate) fn is_honest(&self, node: Index) -> bool {
        self.nodes[node].is_honest()
    }

    /// Whether a node takes itself to be connected to another.
    pub(crate) fn has_met(&self, node: Index, peer: Index) -> bool {
        let machine = self.nodes[node].machine.as_ref();
        machine.is_some_and(|machine| machine.met.contains(&peer))
    }

    /// Whether a node runs and honestly does not have a chunk.
    pub(crate) fn lacks(&self, node: Index, id: &ChunkId) -> bool {
        let looked = &self.nodes[node];
        let holds = match self.heads.get(id) {
            Some(head) => looked.newest_head(id) >= Some(head.sending),
            None => looked.holds(id),
        };
        looked.machine.is_some() && !holds && self.is_honest(node)
    }
}

/// One property.
pub(crate) trait Property {
    /// As it is printed.
    fn name(&self) -> &'static str;

    /// How the fact breaks it, where it does.
    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String>;
}

/// All properties of one world.
pub(crate) struct Oracle(Vec<Box<dyn Property>>);

impl Oracle {
    pub(crate) fn new() -> Self {
        Self(vec![
            Box::new(addressed::Addressed),
            Box::new(answers::Answers::default()),
            Box::new(asked::Asked::default()),
            Box::new(blame::Blame),
            Box::new(bounds::Bounds),
            Box::new(bytes::RightBytes),
            Box::new(counts::Counts),
            Box::new(damage::Damage),
            Box::new(delays::Delays),
            Box::new(dials::Dials),
            Box::new(durable::Durable),
            Box::new(epochs::Epochs::default()),
            Box::new(gone::Gone),
            Box::new(heads_grow::HeadsGrow::default()),
            Box::new(heads_kept::HeadsKept),
            Box::new(heads_once::HeadsOnce::default()),
            Box::new(held::Held),
            Box::new(judged::Judged),
            Box::new(kept::Kept),
            Box::new(leases::Leases::default()),
            Box::new(located::Located::default()),
            Box::new(proven::Proven::default()),
            Box::new(quorum::Quorum),
            Box::new(recovered::Recovered),
            Box::new(rightful::Rightful),
            Box::new(room::Room),
            Box::new(wanted::Wanted),
            Box::new(window::Window),
            Box::new(withheld::Withheld::default()),
            Box::new(words::Words::default()),
        ])
    }

    /// What the fact breaks.
    pub(crate) fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Vec<String> {
        let broken = self.0.iter_mut().filter_map(|property| {
            let how = property.see(truth, fact)?;
            Some(format!("{}: {how}", property.name()))
        });
        broken.collect()
    }
}

#[cfg(test)]
mod tests;
