//! Work that goes on for as long as somebody hears of it: audits, heals and prunes.

use super::report::{Failure, Progress};
use tokio::sync::mpsc;

/// Progress lines that may wait for a slow listener.
const PROGRESS_QUEUED_MAX: usize = 64;

/// Begins `work`, which is given where to tell how far it is; how it ended is told last. Dropping
/// the receiver ends it.
pub(super) fn heard<T, W>(
    work: impl FnOnce(mpsc::Sender<Progress<T>>) -> W,
) -> mpsc::Receiver<Progress<T>>
where
    T: Send + 'static,
    W: Future<Output = Result<T, Failure>> + Send + 'static,
{
    let (progress, listener) = mpsc::channel(PROGRESS_QUEUED_MAX);
    let work = work(progress.clone());
    tokio::spawn(async move {
        let last = tokio::select! {
            done = work => done.map_or_else(Progress::Failed, Progress::Done),
            () = progress.closed() => return,
        };
        drop(progress.send(last).await);
    });
    listener
}
