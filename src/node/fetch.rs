//! The mesh as a source of chunks, for the threads that bring files back.
//!
//! A copy in the data folder comes first, then this node's own store, then the holders that the
//! catalogue knows, then whoever answers on the topic. Where nothing is known of anybody, those who
//! are thought to hold something of this owner are asked until one of them has served a chunk: from
//! then on the owner role guesses better.

use super::failures;
use super::inner::Inner;
use super::jobs::{DriveCommand, EVENTS_QUEUED_MAX, JobEvents};
use super::report::Progress;
use crate::core::owner::{FetchJob, OwnerEvent};
use crate::core::types::{NodeId, Ticket, Time};
use crate::net::peer_id_of;
use crate::repo::get::{ChunkSource, FetchError, Fetched, Wanted};
use std::collections::{BTreeMap, VecDeque};
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
    progress: &'a mpsc::Sender<Progress<T>>,
}

impl<'a, T> MeshSource<'a, T> {
    /// For a thread that may block, within a runtime. Each chunk may take as long as `patience`.
    pub(super) fn new(
        inner: Arc<Inner>,
        patience: Duration,
        progress: &'a mpsc::Sender<Progress<T>>,
    ) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_QUEUED_MAX);
        let runtime = Handle::current();
        let (served, hints, here) = (BTreeMap::new(), Vec::new(), VecDeque::new());
        Self { inner, runtime, sender, events, patience, served, hints, here, progress }
    }

    /// Nodes that are thought to hold something.
    pub(super) fn with_hints(self, hints: Vec<NodeId>) -> Self {
        Self { hints, ..self }
    }

    /// PeerIds of those who served chunks, with how many each did.
    pub(super) fn served(&self) -> Vec<(String, u64)> {
        self.served.iter().map(|(node, count)| (peer_id_of(node), *count)).collect()
    }

    fn holders(&self, wanted: &Wanted) -> Vec<NodeId> {
        let known = self.inner.with_catalog(|catalog| catalog.holders_of(&wanted.id));
        match known.is_empty() && self.served.is_empty() {
            true => self.hints.clone(),
            false => known,
        }
    }
}

impl<T> ChunkSource for MeshSource<'_, T> {
    /// Waits for room in the queue into the drive loop at most: the loop always takes fetches up
    /// in the end, and never waits for this thread, whose events all fit their queue.
    fn request(&mut self, wanted: Wanted) {
        if let Some((header, sealed)) = self.inner.meta.find(&wanted.id) {
            self.here.push_back(Fetched { index: wanted.index, header, sealed });
            return;
        }
        let job = FetchJob {
            // The drive loop sets both.
            ticket: Ticket(0),
            deadline: Time::default(),
            holders: self.holders(&wanted),
            id: wanted.id,
            locality: wanted.locality,
            read: wanted.read,
        };
        let events = JobEvents::new(self.sender.clone(), wanted.index);
        let command = DriveCommand::Fetch { job, events, patience: self.patience };
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
                OwnerEvent::Fetched { header, sealed, from, .. } => {
                    let count = self.served.entry(from).or_default();
                    *count = count.saturating_add(1);
                    return Ok(Fetched { index, header, sealed });
                }
                OwnerEvent::NotFetched { asked, .. } => {
                    let net = self.runtime.block_on(self.inner.net.snapshot());
                    let why = failures::not_fetched(&asked, net.peers.len());
                    return Err(FetchError::Unavailable { index, why });
                }
                OwnerEvent::Acked { .. }
                | OwnerEvent::Stored { .. }
                | OwnerEvent::Short { .. }
                | OwnerEvent::Superseded { .. }
                | OwnerEvent::HeadSeen { .. }
                | OwnerEvent::HeadsDone { .. } => {}
            }
        }
    }
}
