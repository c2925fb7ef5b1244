//! `get`: a capability becomes a file again.
//!
//! One blocking thread walks the listing, asks the drive loop for a window of chunks and writes
//! what arrives. It never holds more than that window.

use super::failures;
use super::fetch::MeshSource;
use super::inner::Inner;
use super::report::{Failure, GetDone, GetRequest, Progress};
use crate::crypto::capability::Capability;
use crate::repo::get::GetProgress;
use crate::repo::get::file::{Existing, check_free, get_file};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
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
    let mut source = MeshSource::new(inner, Duration::from_secs(request.timeout_s), progress);
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
    Ok(GetDone {
        bytes: done.bytes,
        chunks: done.chunks,
        seconds: started.elapsed().as_secs_f64(),
        holders: source.served(),
    })
}
