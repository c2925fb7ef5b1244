//! Full fetches among the audits: a holder that proves a chunk and does not hand it over is worth
//! nothing on the day it is needed (threat 10). Here is decided whom to ask for what, what of it is
//! owed, and what counts as a miss. Pure: the running node and the simulator ask the holders.
//!
//! An audit's question can be told from a restore's, so whoever means to refuse restores may answer
//! each audit. So each holder is asked now and then, by chance once a day, for as much as one of
//! [`SHARE`] of what it proves in a day, one chunk at least: a run of what a snapshot names, in its
//! order, as somebody who restores a file asks for it, by the same requests on the same streams.
//! What comes is checked against the ids and thrown away.
//!
//! Who does not hand a chunk over, for whatever reason, owes it:
//!
//! ```text
//! refused, late, hung up ─▶ prove that very chunk! ─▶ proven, then or later: one miss
//!                                                 └▶ not there, damaged, nothing: the audit's
//! ```
//! Misses count as those of silence do ([`standing`](super::standing)): after a day the holder is
//! suspect, after fourteen lost. Every [`Pace::owed_every`] it is asked for what it owes and for
//! something fresh, and only all of that makes up for it; or that it has nothing any more that
//! anything names. What counts there no more it does not owe, and what it was given since it was
//! asked is no proof: see `asked`.
//!
//! Who was late, or hung up, may have met a line of this machine's own that is too narrow. So
//! others are asked right after it, until one hands over the same chunk, or anything as fast as it
//! takes, and then that holder once more: it is no miss unless it says nothing again. One that hung
//! up and is gone hears no question, and is asked once more when it is its turn again: a connection
//! that broke once makes nobody withhold anything. Holders are asked one after the other, so that
//! none is late because of another one.
//!
//! Whatever a user restores, and what is stored or let go, goes first: nobody is tried meanwhile.
//!
//! Not found so: a holder that serves single chunks, or this node, and refuses when everything is
//! restored, or when a machine with another name asks, as after a recovery. That is what replicas
//! in other failure domains are for, and drills of all of it.
//!
//! # The caller's duties
//! [`Served`] has no clock, no dice and no line of its own. Every [`Pace::look_every`] its caller
//! [begins](Served::begin) a look and does what [`Served::next`] says, one [`Step`] after the other
//! until none is left, each with its answer. What the catalogue loses or takes anew it is told at
//! once, whether a look is under way or not. What it remembers, and what is owed, lasts as long as
//! the process; the misses stand in the catalogue.
//!
//! | file | what it holds |
//! |---|---|
//! | `served/look.rs` | one look, step by step |
//! | `served/tried.rs` | what came of the requests to one holder |
//! | `served/owed.rs` | what a holder did not hand over, and who is to blame |
//! | `served/asked.rs` | which replicas holders were asked for |
//! | `served/run.rs` | what is drawn of what a holder has |

mod asked;
mod look;
mod owed;
mod run;
mod tried;

use super::frame::PLAINTEXT_BYTES_MAX;
use super::reference::ChunkRef;
use super::standing::{AuditRecord, Standing, standing};
use super::turn::SAMPLE;
use crate::core::types::{ChunkId, NodeId, StoreEpoch, Time};
use asked::Asked;
use look::Look;
use owed::Owed;
use rand::{Rng, RngExt};
pub use run::Run;
use std::collections::BTreeMap;
use std::time::Duration;
pub use tried::Came;

/// One of so many chunks that are proven in a day is fetched.
pub const SHARE: usize = 100;

/// So many of one holder are fetched at most, one after the other.
const RUN_MAX: usize = 16;

/// How often everything comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How often holders are drawn,
    pub look_every: Duration,
    /// and each of them is with a chance of one in so many.
    pub one_in: u32,
    /// What was not handed over is asked for again so soon.
    pub owed_every: Duration,
    /// How long one chunk may take.
    pub patience: Duration,
}

const PATIENCE_S: u64 = 300;

/// Bytes in a second at which the largest chunk comes in time.
const LINE_RATE: u64 = PLAINTEXT_BYTES_MAX as u64 / PATIENCE_S;

impl Pace {
    /// A node's own. A chunk may take as long as 4 MiB at 256 kbit/s, twice over.
    pub const USUAL: Self = Self {
        look_every: Duration::from_secs(3_600),
        one_in: 24,
        owed_every: Duration::from_secs(4 * 3_600),
        patience: Duration::from_secs(PATIENCE_S),
    };
}

/// What the catalogue and the net say now.
pub trait Known {
    /// Who acknowledged anything with the store that it has.
    fn holders(&self) -> Vec<NodeId>;
    /// Whether it is connected.
    fn is_connected(&self, holder: &NodeId) -> bool;
    /// What audits of it came to.
    fn record(&self, holder: &NodeId) -> AuditRecord;
    /// How many replicas of it count.
    fn held(&self, holder: &NodeId) -> u64;
    /// The store of which its replica of the chunk counts, if any does.
    fn replica(&self, holder: &NodeId, chunk: &ChunkId) -> Option<StoreEpoch>;
    /// When that replica was last proven: seconds since 1970.
    fn proven_s(&self, holder: &NodeId, chunk: &ChunkId) -> Option<u64>;
    /// Whose records say that they withhold, also those who hold nothing any more.
    fn withholding(&self) -> Vec<NodeId>;
    /// It is known who has what: else nobody has nothing.
    fn is_complete(&self) -> bool;
    /// No user waits for anything.
    fn may_try(&self) -> bool;
}

/// What the caller has at hand at one moment.
#[derive(Debug)]
pub struct Moment<'a, K> {
    /// See [`Known`].
    pub known: &'a K,
    /// How often everything comes.
    pub pace: &'a Pace,
    /// By the process, whose clock nobody can set.
    pub now: Time,
    /// By the wall: seconds since 1970.
    pub now_s: u64,
}

/// Of what is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breadth {
    /// A few snapshots and files, by chance.
    Some,
    /// All that is named.
    All,
}

/// What the caller is to do now.
#[derive(Debug)]
pub enum Step {
    /// Draw a [`Run`] for each of these holders, of so many chunks at most. To be answered by
    /// [`Served::drawn`].
    Draw {
        /// The holders.
        most: BTreeMap<NodeId, usize>,
        /// Of what.
        of: Breadth,
    },
    /// Fetch this chunk from this holder and nobody else, within [`Pace::patience`], and throw it
    /// away. To be answered by [`Served::came`].
    Fetch {
        /// From whom.
        holder: NodeId,
        /// What.
        chunk: ChunkRef,
    },
    /// Ask this holder to prove these at once, whatever else it is asked; what it says nothing
    /// about it owes an answer for, as in any audit. The next step is asked for when that is over.
    Prove {
        /// Whom.
        holder: NodeId,
        /// What.
        chunks: Vec<ChunkId>,
    },
    /// Write this down before the next step.
    Write(Note),
}

/// What is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// It withholds nothing any more: it handed over all that it was asked for.
    Served(NodeId),
    /// It withholds nothing any more: it has nothing that it could withhold.
    LetOff(NodeId),
    /// It proved what it did not hand over: a miss.
    Withheld {
        /// Who.
        node: NodeId,
        /// When: seconds since 1970.
        at_s: u64,
    },
}

/// Trials of holders: see the module's documentation.
#[derive(Debug, Default)]
pub struct Served {
    asked: Asked,
    owed: BTreeMap<NodeId, Owed>,
    look: Option<Look>,
}

impl Served {
    /// The catalogue lost this replica, or took it anew.
    pub fn on_replaced(&mut self, holder: &NodeId, chunk: &ChunkId) {
        self.asked.forget(holder, chunk);
    }

    /// The holder's store is gone.
    pub fn on_store_gone(&mut self, holder: &NodeId) {
        self.asked.keep(holder, &[]);
    }

    /// Begins a look whom to ask. One that is under way is broken off.
    pub fn begin<K: Known>(&mut self, at: &Moment<'_, K>, rng: &mut impl Rng) {
        let Self { owed, asked, .. } = self;
        owed.retain(|holder, owed| {
            owed.forget_replaced(asked, at.known, holder);
            !owed.chunks.is_empty() || withholds(at.known, holder)
        });
        self.look = Some(Look::new(self.due(at, rng)));
    }

    /// What is to be done next; `None` where the look is over, or none was begun.
    pub fn next<K: Known>(&mut self, at: &Moment<'_, K>, rng: &mut impl Rng) -> Option<Step> {
        let mut look = self.look.take()?;
        let step = self.step(&mut look, at, rng)?;
        self.look = Some(look);
        Some(step)
    }

    /// Something failed that is nobody's fault: the look is over. What was being asked for nobody
    /// owes.
    pub fn break_off(&mut self) {
        self.look = None;
    }

    /// Whether a look is under way.
    pub fn is_looking(&self) -> bool {
        self.look.is_some()
    }

    /// What was drawn; and of all that is named, whether all could be read, so that those who are
    /// not in it have nothing of that.
    pub fn drawn(&mut self, runs: BTreeMap<NodeId, Vec<ChunkRef>>, is_all: bool) {
        if let Some(look) = &mut self.look {
            look.drawn = Some((runs, is_all));
        }
    }

    /// What came of the request, how many sealed bytes, and when, by the process.
    pub fn came(&mut self, came: Came, bytes: usize, at: Time) {
        if let Some(look) = &mut self.look {
            look.came = Some((came, bytes, at));
        }
    }

    /// How many chunks a holder owes.
    pub fn owed_by(&self, holder: &NodeId) -> usize {
        self.owed.get(holder).map_or(0, |owed| owed.chunks.len())
    }

    /// Whom to ask now, and for how many fresh chunks.
    fn due<K: Known>(&self, at: &Moment<'_, K>, rng: &mut impl Rng) -> BTreeMap<NodeId, usize> {
        let mut due = BTreeMap::new();
        for holder in at.known.holders() {
            if !at.known.is_connected(&holder) {
                continue;
            }
            let record = at.known.record(&holder);
            let is_due = match self.owed.get(&holder) {
                _ if standing(&record, at.now_s) == Standing::Liar => false,
                Some(owed) => owed.next <= at.now,
                None => record.withheld.is_some() || rng.random_ratio(1, at.pace.one_in),
            };
            let held = usize::try_from(at.known.held(&holder)).unwrap_or(0);
            if is_due && held > 0 {
                due.insert(holder, (held / (SAMPLE * SHARE)).clamp(1, RUN_MAX));
            }
        }
        due
    }

    fn lacks_witness(&self, holder: &NodeId) -> bool {
        self.owed.get(holder).is_some_and(Owed::lacks_witness)
    }
}

fn withholds(known: &impl Known, holder: &NodeId) -> bool {
    known.record(holder).withheld.is_some()
}

#[cfg(test)]
mod tests;
