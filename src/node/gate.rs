//! How many jobs of a kind run at once: each has threads and buffers of its own.

use super::report::Progress;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

/// Lets a few jobs in, and the others in the order in which they came.
pub(super) struct Gate {
    places: Semaphore,
    /// Jobs that are in or wait.
    jobs: AtomicUsize,
}

/// A place; left when dropped.
pub(super) struct Place<'a> {
    _permit: SemaphorePermit<'a>,
    _counted: Counted<'a>,
}

/// One of [`Gate::jobs`].
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    pub(super) fn new(places: usize) -> Self {
        Self { places: Semaphore::new(places), jobs: AtomicUsize::new(0) }
    }

    /// Whether any job runs, or waits.
    pub(super) fn is_busy(&self) -> bool {
        self.jobs.load(Ordering::Relaxed) > 0
    }

    /// Waits for a place without a word. `None` where nobody listens to `listener` any more.
    pub(super) async fn enter_silently<T>(&self, listener: &mpsc::Sender<T>) -> Option<Place<'_>> {
        self.jobs.fetch_add(1, Ordering::Relaxed);
        let _counted = Counted(&self.jobs);
        let _permit = tokio::select! {
            permit = self.places.acquire() => permit.ok()?,
            () = listener.closed() => return None,
        };
        Some(Place { _permit, _counted })
    }

    /// Waits for a place, and tells so. `None` where nobody listens to `progress` any more.
    pub(super) async fn enter<T>(
        &self,
        progress: &mpsc::Sender<Progress<T>>,
        total: Option<u64>,
    ) -> Option<Place<'_>> {
        let before = self.jobs.fetch_add(1, Ordering::Relaxed);
        let _counted = Counted(&self.jobs);
        if let Ok(_permit) = self.places.try_acquire() {
            return Some(Place { _permit, _counted });
        }
        let others = if before == 1 { "other job" } else { "other jobs" };
        let note = Some(format!("waiting for {before} {others}"));
        let waiting = Progress::Working { bytes: 0, total, chunks: 0, replicas: None, note };
        // A full queue means that the listener is slow, or gone.
        drop(progress.try_send(waiting));
        let _permit = tokio::select! {
            permit = self.places.acquire() => permit.ok()?,
            () = progress.closed() => return None,
        };
        Some(Place { _permit, _counted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn jobs_beyond_the_places_wait_and_say_so() {
        let gate = Gate::new(1);
        let (progress, mut heard) = mpsc::channel::<Progress<()>>(1);
        let first = gate.enter(&progress, None).await.unwrap();
        let second = gate.enter(&progress, Some(7));
        tokio::pin!(second);
        tokio::select! {
            biased;
            _ = &mut second => panic!("the only place is taken"),
            told = heard.recv() => assert!(
                matches!(told, Some(Progress::Working { note: Some(ref note), total: Some(7), .. })
                    if note == "waiting for 1 other job"),
                "{told:?}",
            ),
        }
        drop(first);
        drop(second.await.unwrap());
        assert_eq!(gate.jobs.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn who_goes_away_waits_no_longer() {
        let gate = Gate::new(1);
        let (progress, heard) = mpsc::channel::<Progress<()>>(1);
        let _first = gate.enter(&progress, None).await.unwrap();
        drop(heard);
        assert!(gate.enter(&progress, None).await.is_none());
        assert_eq!(gate.jobs.load(Ordering::Relaxed), 1);
    }
}
