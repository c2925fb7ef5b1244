//! The mesh as a source of chunks, for the threads that bring files back.
//!
//! A copy in the data folder comes first, then this node's own store, then the holders that the
//! catalogue knows, then whoever answers on the topic. Where nothing is known of anybody, those who
//! are thought to hold something of this owner are asked until one of them has served a chunk: from
//! then on the owner role guesses better.
//!
//! What is damaged is told from what is only out of reach, and whoever had a chunk damaged or no
//! more is named, also where another holder served it: such a replica is asked for anew by the next
//! backup that wants it. A drill asks [holders alone](MeshSource::holders_only), each chunk's in
//! random order.

use super::check;
use super::failures;
use super::inner::Inner;
use super::jobs::{DriveCommand, EVENTS_QUEUED_MAX, JobEvents, Places};
use super::put::seconds_since_1970;
use crate::core::owner::{FetchFailure, FetchJob, OwnerEvent};
use crate::core::types::{ChunkId, NodeId, Ticket, Time};
use crate::net::peer_id_of;
use crate::repo::get::{ChunkSource, FetchError, Fetched, Wanted};
use rand::seq::SliceRandom;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// The mesh as a source of chunks, for one job that tells `progress` how far it is.
pub(super) struct MeshSource<'a, T> {
    inner: Arc<Inner>,
    runtime: Handle,
    sender: mpsc::Sender<(u64, OwnerEvent)>,
    events: mpsc::Receiver<(u64, OwnerEvent)>,
    patience: Duration,
    served: BTreeMap<NodeId, u64>,
    /// Asked where nobody is known, as long as nobody has served anything.
    hints: Vec<NodeId>,
    /// Copies from the data folder that were asked for.
    here: VecDeque<Fetched>,
    /// Closed when nobody waits for the job any more.
    progress: &'a mpsc::Sender<T>,
    /// What comes is kept in the data folder.
    keeps: bool,
    places: Places,
    faults: Faults,
}

/// What holders were found to be wanting in, of those that were asked.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Who has damaged chunks, or none where one was acknowledged, and how many.
    pub(super) spoiled: BTreeMap<NodeId, u64>,
    /// Chunks that a holder had damaged or no more, and another one served.
    pub(super) covered: u64,
    /// Who has to have chunks that did not come, and could not be asked, or did not answer.
    pub(super) away: BTreeSet<NodeId>,
}

impl Faults {
    /// The damaged replicas, for the user.
    pub(super) fn damaged_at(&self) -> Vec<(String, u64)> {
        self.spoiled.iter().map(|(node, count)| (peer_id_of(node), *count)).collect()
    }

    /// Who is missed, for the user.
    pub(super) fn away(&self) -> Vec<String> {
        self.away.iter().map(peer_id_of).collect()
    }
}

/// When a chunk was waited for in vain, others wait no longer than this, until somebody comes or
/// goes: a holder that is away would be waited for at each of its chunks.
const IN_VAIN_PATIENCE: Duration = Duration::from_secs(3);

impl<'a, T> MeshSource<'a, T> {
    /// For a thread that may block, within a runtime. Each chunk may take as long as `patience`.
    pub(super) fn new(
        inner: Arc<Inner>,
        patience: Duration,
        progress: &'a mpsc::Sender<T>,
    ) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_QUEUED_MAX);
        let runtime = Handle::current();
        Self {
            inner,
            runtime,
            sender,
            events,
            patience,
            served: BTreeMap::new(),
            hints: Vec::new(),
            here: VecDeque::new(),
            progress,
            keeps: false,
            places: Places::Anywhere,
            faults: Faults::default(),
        }
    }

    /// Nodes that are thought to hold something.
    pub(super) fn with_hints(self, hints: Vec<NodeId>) -> Self {
        Self { hints, ..self }
    }

    /// For what leads to files, and is wanted again soon: a copy of each chunk stays here.
    pub(super) fn keeping(self) -> Self {
        Self { keeps: true, ..self }
    }

    /// From holders alone, never from copies that are here.
    pub(super) fn holders_only(self) -> Self {
        Self { places: Places::Holders, ..self }
    }

    /// What holders were found to be wanting in.
    pub(super) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Writes down of which replicas it was found that they are damaged or gone, so that they are
    /// asked for after a restart, too.
    pub(super) fn save_doubts(&self) {
        if !self.faults.spoiled.is_empty() {
            self.runtime.block_on(check::save(&self.inner));
        }
    }

    /// PeerIds of those who served chunks, with how many each did.
    pub(super) fn served(&self) -> Vec<(String, u64)> {
        self.served.iter().map(|(node, count)| (peer_id_of(node), *count)).collect()
    }

    fn holders(&self, wanted: &Wanted) -> Vec<NodeId> {
        let known = self.inner.with_catalog(|catalog| catalog.holders_of(&wanted.id));
        let mut holders = match known.is_empty() && self.served.is_empty() {
            true => self.hints.clone(),
            false => known,
        };
        if self.places == Places::Holders {
            holders.shuffle(&mut rand::rng());
        }
        holders
    }

    fn patience(&self) -> Duration {
        let is_in_vain = self.places == Places::Holders && !self.faults.away.is_empty();
        let nobody_came = || self.faults.away.iter().all(|node| !self.is_connected(node));
        match is_in_vain && nobody_came() {
            true => self.patience.min(IN_VAIN_PATIENCE),
            false => self.patience,
        }
    }

    fn is_connected(&self, node: &NodeId) -> bool {
        self.inner.shared.is_connected(node)
    }

    /// Who has to have the chunk and has it damaged or no more, by what they said.
    fn spoiled(&self, holders: &[NodeId], asked: &[(NodeId, FetchFailure)]) -> BTreeSet<NodeId> {
        let is_proof = |(node, failure): &&(NodeId, FetchFailure)| match failure {
            FetchFailure::WrongBytes | FetchFailure::Damaged => true,
            FetchFailure::NotHeld => holders.contains(node),
            FetchFailure::Unreachable | FetchFailure::Late | FetchFailure::Busy => false,
        };
        asked.iter().filter(is_proof).map(|(node, _)| *node).collect()
    }

    /// These have the chunk damaged or no more. What they said earlier counts no more either: the
    /// next backup that wants the chunk asks them, and stores it where it is short.
    fn blame(&mut self, id: &ChunkId, spoiled: &BTreeSet<NodeId>) {
        for node in spoiled {
            let count = self.faults.spoiled.entry(*node).or_default();
            *count = count.saturating_add(1);
        }
        if spoiled.is_empty() {
            return;
        }
        let now_s = seconds_since_1970();
        self.inner.with_catalog(|catalog| {
            for node in spoiled {
                if let Some(epoch) = catalog.store_of(node) {
                    catalog.refute(node, &epoch, id, now_s);
                }
            }
        });
    }

    /// A chunk came: perhaps only after others had failed.
    fn came(&mut self, id: &ChunkId, asked: &[(NodeId, FetchFailure)]) {
        if asked.is_empty() {
            return;
        }
        let holders = self.inner.with_catalog(|catalog| catalog.holders_of(id));
        let spoiled = self.spoiled(&holders, asked);
        self.faults.covered = self.faults.covered.saturating_add((!spoiled.is_empty()).into());
        self.blame(id, &spoiled);
    }

    /// A chunk did not come: whether it is damaged or gone at those who acknowledged it, or others
    /// may still have it.
    fn failed(&mut self, index: u64, id: &ChunkId, asked: &[(NodeId, FetchFailure)]) -> FetchError {
        let net = self.runtime.block_on(self.inner.net.snapshot());
        let why = failures::not_fetched(asked, net.peers.len());
        let (mut holders, is_filled) = self
            .inner
            .with_catalog(|catalog| (catalog.holders_of(id), catalog.rebuild().is_none()));
        let spoiled = self.spoiled(&holders, asked);
        // A recovered device does not know yet who has what: all may that are thought to hold
        // anything of this owner's.
        if !is_filled || holders.is_empty() {
            holders.extend(self.hints.iter().copied());
        }
        let has_not = |failure: &FetchFailure| match failure {
            FetchFailure::WrongBytes | FetchFailure::Damaged | FetchFailure::NotHeld => true,
            FetchFailure::Unreachable | FetchFailure::Late | FetchFailure::Busy => false,
        };
        // Who is not connected was perhaps not even asked, and may have it whole.
        let said = |node: &NodeId| asked.iter().any(|(of, why)| of == node && has_not(why));
        let is_known = !holders.is_empty();
        let mut away: BTreeSet<NodeId> = holders.into_iter().filter(|node| !said(node)).collect();
        let is_damage = !spoiled.is_empty() && is_known && away.is_empty();
        self.blame(id, &spoiled);
        self.faults.away.append(&mut away);
        match is_damage {
            true => FetchError::Spoiled { index, why },
            false => FetchError::Unavailable { index, why },
        }
    }
}

impl<T> ChunkSource for MeshSource<'_, T> {
    /// Waits for room in the queue into the drive loop at most: the loop always takes fetches up
    /// in the end, and never waits for this thread, whose events all fit their queue.
    fn request(&mut self, wanted: Wanted) {
        let is_here = match self.places {
            Places::Anywhere => self.inner.meta.find(&wanted.id),
            Places::Holders => None,
        };
        if let Some((header, sealed)) = is_here {
            self.here.push_back(Fetched { index: wanted.index, header, sealed });
            return;
        }
        let job = FetchJob {
            // The drive loop sets both.
            ticket: Ticket(0),
            deadline: Time::default(),
            holders: self.holders(&wanted),
            only: false,
            id: wanted.id,
            locality: wanted.locality,
            read: wanted.read,
        };
        let events = JobEvents::new(self.sender.clone(), wanted.index);
        let (places, patience) = (self.places, self.patience());
        let command = DriveCommand::Fetch { places, job, events, patience };
        let (fetches, progress) = (&self.inner.fetches, self.progress);
        self.runtime.block_on(async {
            tokio::select! {
                // A loop that has ended is noticed by the next look for an answer.
                sent = fetches.send(command) => drop(sent),
                () = progress.closed() => {}
            }
        });
    }

    fn next(&mut self) -> Result<Fetched, FetchError> {
        if let Some(fetched) = self.here.pop_front() {
            return Ok(fetched);
        }
        loop {
            let (events, fetches) = (&mut self.events, &self.inner.fetches);
            let progress = self.progress;
            let next = self.runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = progress.closed() => None,
                    event = events.recv() => event,
                    () = fetches.closed() => None,
                }
            });
            let (index, event) = next.ok_or(FetchError::Closed)?;
            match event {
                OwnerEvent::Fetched { id, header, sealed, from, asked, .. } => {
                    self.came(&id, &asked);
                    let count = self.served.entry(from).or_default();
                    *count = count.saturating_add(1);
                    if self.keeps {
                        self.inner.keep_chunk(&header, &sealed);
                    }
                    return Ok(Fetched { index, header, sealed });
                }
                OwnerEvent::NotFetched { id, asked, .. } => {
                    return Err(self.failed(index, &id, &asked));
                }
                OwnerEvent::Acked { .. }
                | OwnerEvent::Stored { .. }
                | OwnerEvent::Short { .. }
                | OwnerEvent::Superseded { .. }
                | OwnerEvent::HeadSeen { .. }
                | OwnerEvent::HeadsDone { .. }
                | OwnerEvent::Located { .. }
                | OwnerEvent::LocateDone { .. }
                | OwnerEvent::Noticed { .. }
                | OwnerEvent::StandingAsked { .. }
                | OwnerEvent::Account { .. } => {}
            }
        }
    }
}
