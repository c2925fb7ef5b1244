//! `get`: a capability becomes a file again.
//!
//! One blocking thread walks the listing, asks the drive loop for a window of chunks and writes
//! what arrives. It never holds more than that window.

use super::failures;
use super::inner::Inner;
use super::jobs::{DriveCommand, EVENTS_QUEUED_MAX, JobEvents};
use super::report::{Failure, GetDone, GetRequest, Progress};
use crate::core::owner::{FetchJob, OwnerEvent};
use crate::core::types::{NodeId, Ticket, Time};
use crate::crypto::capability::Capability;
use crate::net::peer_id_of;
use crate::repo::get::file::{Existing, check_free, get_file};
use crate::repo::get::{ChunkSource, FetchError, Fetched, GetProgress, Wanted};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Fetches `request` and tells `progress`.
pub(super) async fn run(
    inner: Arc<Inner>,
    request: GetRequest,
    progress: mpsc::Sender<Progress<GetDone>>,
) {
    let gate = Arc::clone(&inner);
    let Some(_place) = gate.getting.enter(&progress, None).await else { return };
    let (teller, cancel) = (progress.clone(), Arc::new(AtomicBool::new(false)));
    let cancelled = Arc::clone(&cancel);
    let mut work = tokio::task::spawn_blocking(move || fetch(inner, &request, &teller, &cancelled));
    let work = tokio::select! {
        work = &mut work => work,
        // Whoever asked has gone: the thread, its slots and the part file are given back.
        () = progress.closed() => {
            cancel.store(true, Ordering::Relaxed);
            work.await
        }
    };
    let last = match work {
        Ok(Ok(done)) => Progress::Done(done),
        Ok(Err(failure)) => Progress::Failed(failure),
        Err(error) => Progress::Failed(failures::died("the reader", &error)),
    };
    // Nobody need be listening: the file is there, or its part is kept.
    drop(progress.send(last).await);
}

/// Whether what a get would make may be made, as far as can be told before it.
///
/// # Errors
/// A [`Failure`] for the user where something is in the way.
pub fn check_output(request: &GetRequest) -> Result<(), Failure> {
    check_free(&request.output, existing(request))
        .map_err(|error| failures::output(&request.output, &error))
}

fn existing(request: &GetRequest) -> Existing {
    if request.overwrite { Existing::Replace } else { Existing::Keep }
}

fn fetch(
    inner: Arc<Inner>,
    request: &GetRequest,
    progress: &mpsc::Sender<Progress<GetDone>>,
    cancel: &AtomicBool,
) -> Result<GetDone, Failure> {
    let started = Instant::now();
    let capability = Capability::decode(request.capability.expose())?;
    let (sender, events) = mpsc::channel(EVENTS_QUEUED_MAX);
    let mut source = Source {
        inner,
        runtime: Handle::current(),
        sender,
        events,
        patience: Duration::from_secs(request.timeout_s),
        served: BTreeMap::new(),
        progress,
    };
    let existing = existing(request);
    let tell = |now: GetProgress| {
        // A full queue means that the listener is slow: the next line tells more.
        drop(progress.try_send(Progress::Working {
            bytes: now.bytes,
            total: Some(now.total),
            chunks: now.chunks,
            replicas: None,
            note: None,
        }));
    };
    let done = get_file(&capability, &mut source, &request.output, existing, cancel, tell)
        .map_err(|failed| failures::get(&request.output, &failed))?;
    let holders = source.served.iter().map(|(node, count)| (peer_id_of(node), *count));
    Ok(GetDone {
        bytes: done.bytes,
        chunks: done.chunks,
        seconds: started.elapsed().as_secs_f64(),
        holders: holders.collect(),
    })
}

/// The mesh as a source of chunks.
struct Source<'a> {
    inner: Arc<Inner>,
    runtime: Handle,
    sender: mpsc::Sender<(u64, OwnerEvent)>,
    events: mpsc::Receiver<(u64, OwnerEvent)>,
    patience: Duration,
    served: BTreeMap<NodeId, u64>,
    /// Closed when nobody waits for the file any more.
    progress: &'a mpsc::Sender<Progress<GetDone>>,
}

impl ChunkSource for Source<'_> {
    /// Waits for room in the queue into the drive loop at most: the loop always takes fetches up
    /// in the end, and never waits for this thread, whose events all fit their queue.
    fn request(&mut self, wanted: Wanted) {
        let job = FetchJob {
            // The drive loop sets both.
            ticket: Ticket(0),
            deadline: Time::default(),
            holders: self.inner.with_catalog(|catalog| catalog.holders_of(&wanted.id)),
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
