//! How long whoever completes snapshots keeps others from letting chunks go: in rounds, with time
//! between them for what needs that lock alone and does not stand in line for it. Called by
//! [`super`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::{Instant, sleep};

/// How long a round may begin to store chunks.
pub(super) const ROUND: Duration = Duration::from_secs(120);

/// How many chunks are stored in one.
pub(super) const ROUND_CHUNKS: usize = 4096;

/// Between two rounds: longer than what needs the lock waits before it tries again, which is 5
/// seconds in `after` and 30 in `rebuild`. `prune`, which tries every 5 minutes to finish what was
/// broken off, meets one in five.
pub(super) const PAUSE: Duration = Duration::from_secs(35);

/// How often a round tries to begin while somebody else has the lock.
const TRY_EVERY: Duration = Duration::from_secs(5);

/// And how many times.
const TRIES: u32 = 12;

/// The right to store chunks, for a round at a time.
pub(super) struct Hold<'a> {
    lock: &'a RwLock<()>,
    prune_waits: &'a AtomicBool,
    stays: Option<RwLockReadGuard<'a, ()>>,
    until: Instant,
    room: usize,
}

impl<'a> Hold<'a> {
    /// `None` while somebody else stores chunks or lets some go, or a prune waits for that.
    pub(super) fn begin(lock: &'a RwLock<()>, prune_waits: &'a AtomicBool) -> Option<Self> {
        if prune_waits.load(Ordering::Relaxed) {
            return None;
        }
        let stays = Some(take(lock)?);
        let until = Instant::now() + ROUND;
        Some(Self { lock, prune_waits, stays, until, room: ROUND_CHUNKS })
    }

    /// Lets others have it, for as long as nothing is stored.
    pub(super) fn let_go(&mut self) {
        self.stays = None;
    }

    /// Has the lock when this returns true: in the same round, or after a pause in the next one.
    /// False where a prune waits, or somebody else has the lock for long.
    pub(super) async fn go_on(&mut self) -> bool {
        let is_spent = self.room == 0 || Instant::now() >= self.until;
        if is_spent {
            self.let_go();
            // Nobody needs the pause before a prune that waits.
            if !self.gives_way() {
                sleep(PAUSE).await;
            }
        }
        for _ in 0..TRIES {
            if self.gives_way() {
                self.let_go();
                return false;
            }
            if self.stays.is_none() {
                self.stays = take(self.lock);
            }
            if self.stays.is_some() {
                if is_spent {
                    (self.until, self.room) = (Instant::now() + ROUND, ROUND_CHUNKS);
                }
                return true;
            }
            sleep(TRY_EVERY).await;
        }
        false
    }

    /// When the round ends.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// How many chunks may still be stored in it.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// So many were.
    pub(super) fn used(&mut self, chunks: usize) {
        self.room = self.room.saturating_sub(chunks);
    }

    fn gives_way(&self) -> bool {
        self.prune_waits.load(Ordering::Relaxed)
    }
}

/// Only where nobody else has it: a backup that runs stores what it names by itself.
fn take(lock: &RwLock<()>) -> Option<RwLockReadGuard<'_, ()>> {
    lock.try_write().ok().map(RwLockWriteGuard::downgrade)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    /// Whether somebody who tries every 5 seconds gets the lock alone while this goes on.
    async fn is_had_meanwhile(lock: &RwLock<()>, hold: &mut Hold<'_>) -> bool {
        let tries = async {
            while lock.try_write().is_err() {
                sleep(Duration::from_secs(5)).await;
            }
        };
        tokio::select! {
            biased;
            () = tries => {
                assert!(hold.go_on().await);
                true
            }
            went_on = hold.go_on() => {
                assert!(went_on);
                false
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_ends_by_its_time_or_its_chunks_and_others_have_the_lock_between_two() {
        let (lock, waits) = (RwLock::new(()), AtomicBool::new(false));
        let mut hold = Hold::begin(&lock, &waits).unwrap();
        advance(ROUND - Duration::from_secs(1)).await;
        hold.used(ROUND_CHUNKS - 1);
        assert!(!is_had_meanwhile(&lock, &mut hold).await, "the same round");
        assert!(lock.try_write().is_err());
        hold.used(1);
        assert!(is_had_meanwhile(&lock, &mut hold).await, "so many chunks");
        assert_eq!(hold.room(), ROUND_CHUNKS);
        assert!(lock.try_write().is_err(), "the next round");
        advance(ROUND).await;
        assert!(is_had_meanwhile(&lock, &mut hold).await, "so much time");
    }

    #[tokio::test(start_paused = true)]
    async fn it_gives_way_to_a_prune_that_waits_and_to_whoever_has_the_lock() {
        let (lock, waits) = (RwLock::new(()), AtomicBool::new(false));
        let other = lock.try_read().unwrap();
        assert!(Hold::begin(&lock, &waits).is_none(), "a backup runs");
        drop(other);
        let mut hold = Hold::begin(&lock, &waits).unwrap();
        waits.store(true, Ordering::Relaxed);
        assert!(!hold.go_on().await);
        assert!(Hold::begin(&lock, &waits).is_none());
        let other = lock.try_write().expect("it is free for the prune");
        waits.store(false, Ordering::Relaxed);
        assert!(!hold.go_on().await, "it does not wait for ever");
        drop(other);
        assert!(hold.go_on().await && lock.try_write().is_err());
        hold.let_go();
        assert!(lock.try_write().is_ok());
    }
}
