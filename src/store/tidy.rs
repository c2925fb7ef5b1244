//! What the writer does between groups: gives space back, and sets some aside.
//!
//! A deleted record is punched out but for its first block, which a scan needs; a segment that
//! nothing needs is unlinked; and one with too much waste in it is emptied ([`super::compact`]).
//!
//! Nothing here is promised to anybody, so that an error leaves things as they are until the next
//! time; only a failed sync or flush turns the store read-only, as everywhere.

use super::compact::MOVED_PER_DEAD;
use super::disk::{Disk, DiskError, File};
use super::index::{Catalogue, Change, Entry};
use super::record::BLOCK_BYTES;
use super::recovery::position;
use super::writer::{ReadOnly, Writer};

/// One call moves at least this part of a segment where something is worth moving.
const STEPS_PER_SEGMENT: u64 = 16;

/// A file that takes space, so that there is some to give back on a disk that others filled up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ballast {
    Held,
    Released,
    /// This disk cannot set space aside.
    Unsupported,
}

impl Ballast {
    pub(super) fn of<D: Disk>(disk: &D) -> Self {
        if disk.len(File::Ballast).is_ok() { Self::Held } else { Self::Released }
    }
}

/// Gives the ballast back where less than `needed` bytes are free: before the catalogue is opened,
/// which needs some.
#[cfg(feature = "node")]
pub(super) fn release_ballast_if_low<D: Disk>(disk: &D, needed: u64) {
    if disk.len(File::Ballast).is_ok() && disk.free_space().is_ok_and(|free| free < needed) {
        // Where this fails there is nothing to release either.
        let _ = disk.unlink(File::Ballast);
    }
}

impl<D: Disk, C: Catalogue> Writer<D, C> {
    /// Gives the space of deleted chunks back and sets the ballast aside. To be called after
    /// [`Self::commit`], when its completions are on their way, and when there is nothing else to
    /// do as long as it returns `true`: then there is more to give back.
    pub fn tidy(&mut self) -> bool {
        if self.read_only.is_some() {
            return false;
        }
        self.set_ballast();
        self.tidy_ledger();
        if self.read_only.is_some() {
            return false;
        }
        let (tip, _) = self.log.tip();
        if self.dead.is_empty() && self.reclaimed == Some(tip) {
            return false;
        }
        let mut died = 0_u64;
        for dead in std::mem::take(&mut self.dead) {
            self.punch(&dead);
            // Its head and its tombstone become waste in any case.
            let rest = if self.holes { BLOCK_BYTES as u64 } else { dead.locator.bytes.into() };
            died = died.saturating_add(rest).saturating_add(BLOCK_BYTES as u64);
        }
        let least = (self.options.segment_bytes / STEPS_PER_SEGMENT).max(BLOCK_BYTES as u64);
        self.reclaim(died.saturating_mul(MOVED_PER_DEAD).saturating_add(least))
    }

    /// What must not wait when the store is opened: the rest is for the first [`Self::tidy`].
    pub(super) fn tidy_opened(&mut self) {
        if self.read_only.is_none() {
            self.set_ballast();
            self.sweep();
        }
    }

    /// Frees a dead record but for its first block, so that scans still find what follows.
    fn punch(&mut self, dead: &Entry) {
        let block = BLOCK_BYTES as u64;
        let body = u64::from(dead.locator.bytes).saturating_sub(block);
        if self.holes && body > 0 {
            let file = File::Segment(dead.locator.segment);
            let from = dead.locator.offset.saturating_add(block);
            let punched = self.log.disk.punch_hole(file, from, body);
            self.holes = punched != Err(DiskError::Unsupported);
        }
    }

    /// Unlinks segments that nothing needs. A name must be gone for good before what guards
    /// it may go.
    pub(super) fn sweep(&mut self) {
        loop {
            let (tip, _) = self.log.tip();
            let dead = self.state.dead_segments(tip);
            let unlinked = |number: &u64| {
                let gone = self.log.disk.unlink(File::Segment(*number));
                matches!(gone, Ok(()) | Err(DiskError::NotFound))
            };
            let gone: Vec<u64> = dead.into_iter().filter(unlinked).collect();
            if gone.is_empty() {
                return;
            }
            if let Err(error) = self.log.disk.sync_names() {
                self.read_only = Some(ReadOnly::Sync(error));
                return;
            }
            let mut changes = Vec::new();
            self.moves.unlinked += gone.len() as u64;
            for number in gone {
                changes.extend(self.state.forget_segment(number));
            }
            if !changes.is_empty() {
                changes.push(Change::position(&position(&self.log, &self.state)));
            }
            // Need not be durable: a note about a segment that is gone is ignored.
            if let Err(error) = self.index.apply(&changes) {
                self.read_only = Some(ReadOnly::Catalogue(error));
                return;
            }
        }
    }

    /// Looks at the free space: gives the ballast back where it is needed, and returns how much a
    /// group may take. `None` where the disk does not say.
    pub(super) fn balance(&mut self) -> Option<u64> {
        let mut free = self.log.disk.free_space().ok()?;
        if free < self.options.ballast && self.release_ballast() {
            free = self.log.disk.free_space().ok()?;
        }
        Some(free.saturating_sub(self.options.reserve))
    }

    /// Whether there was ballast to release, and now there is space.
    pub(super) fn release_ballast(&mut self) -> bool {
        let released = self.ballast == Ballast::Held
            && matches!(self.log.disk.unlink(File::Ballast), Ok(()) | Err(DiskError::NotFound));
        if released {
            self.ballast = Ballast::Released;
        }
        released
    }

    /// Sets the ballast aside where there is plenty.
    fn set_ballast(&mut self) {
        let bytes = self.options.ballast;
        if self.ballast != Ballast::Released || bytes == 0 {
            return;
        }
        let plenty = self.options.reserve.saturating_add(bytes.saturating_mul(2));
        if self.log.disk.free_space().is_ok_and(|free| free >= plenty) {
            self.ballast = match self.log.disk.allocate(File::Ballast, bytes) {
                Ok(()) => Ballast::Held,
                Err(DiskError::Unsupported) => Ballast::Unsupported,
                Err(_) => Ballast::Released,
            };
        }
    }
}
