//! What the writer does between groups: gives space back, and sets some aside.
//!
//! Nothing here is promised to anybody, so that an error leaves things as they are until the next
//! time; only a failed sync or flush turns the store read-only, as everywhere.

use super::disk::{Disk, DiskError, File};
use super::index::{Catalogue, Change, Condition, Entry};
use super::log::{Item, LogError};
use super::record::{BLOCK_BYTES, Prefix};
use super::recovery::position;
use super::scan::{Content, Depth, scan};
use super::writer::{ReadOnly, Writer};
use crate::core::types::ChunkId;

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
pub(super) fn release_ballast_if_low<D: Disk>(disk: &D, needed: u64) {
    if disk.len(File::Ballast).is_ok() && disk.free_space().is_ok_and(|free| free < needed) {
        // Where this fails there is nothing to release either.
        let _ = disk.unlink(File::Ballast);
    }
}

impl<D: Disk, C: Catalogue> Writer<D, C> {
    /// Gives the space of deleted chunks back and sets the ballast aside. To be called after
    /// [`Self::commit`], when its completions are on their way.
    pub fn tidy(&mut self) {
        if self.read_only.is_some() {
            return;
        }
        self.set_ballast();
        if self.dead.is_empty() {
            return;
        }
        for dead in std::mem::take(&mut self.dead) {
            self.punch(&dead);
        }
        self.reclaim();
    }

    /// [`Self::tidy`] when the store is opened, where all that was left over is looked at.
    pub(super) fn tidy_all(&mut self) {
        if self.read_only.is_none() {
            self.set_ballast();
            self.reclaim();
        }
    }

    fn reclaim(&mut self) {
        self.sweep();
        if !self.holes
            && let Some(segment) = self.half_empty_segment()
        {
            if let Err(reason) = self.compact(segment) {
                self.read_only = Some(reason);
                return;
            }
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
    fn sweep(&mut self) {
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
            for number in gone {
                let freed = self.state.forget_segment(number).into_iter();
                changes.extend(freed.map(|segment| Change::unguard(segment, number)));
            }
            // Need not be durable: a note about a segment that is gone is ignored.
            if let Err(error) = self.index.apply(&changes) {
                self.read_only = Some(ReadOnly::Catalogue(error));
                return;
            }
        }
    }

    /// A closed segment of which less than half lives.
    fn half_empty_segment(&self) -> Option<u64> {
        let (tip, _) = self.log.tip();
        let half_empty = |(number, segment): &(&u64, &super::state::Segment)| {
            let length = self.log.disk.len(File::Segment(**number)).unwrap_or(0);
            let worth = segment.live > 0 && segment.live_bytes < length / 2;
            **number != tip && !segment.stuck && worth
        };
        self.state.segments.iter().find(half_empty).map(|(number, _)| *number)
    }

    /// Moves the chunks that live in `segment` to the end of the log. What cannot be moved stays,
    /// and so does the segment.
    fn compact(&mut self, segment: u64) -> Result<(), ReadOnly> {
        let found = scan(&*self.log.disk, &self.log.key, segment, (0, None), Depth::Heads);
        let Ok(found) = found else {
            self.stick(segment);
            return Ok(());
        };
        let mut moved = Vec::new();
        for found in &found.found {
            let Content::Item(item, _) = &found.content else { continue };
            let Item::Chunk(id, entry) = **item else { continue };
            let current = self.index.get(&id).map_err(ReadOnly::Catalogue)?;
            let Some(current) = current.filter(|now| now.sequence == entry.sequence) else {
                continue;
            };
            match self.move_record(&found.prefix, &id, &current) {
                Ok(new) => moved.push((id, current, new)),
                Err(Some(LogError::Broken(reason))) => return Err(reason),
                // No space for the copy: what was moved so far is a beginning.
                Err(Some(LogError::Full | LogError::Io)) => break,
                Err(None) => self.stick(segment),
            }
        }
        self.log.sync()?;
        let mut changes = Vec::with_capacity(moved.len().saturating_add(1));
        for (id, old, new) in &moved {
            self.state.replace(id, Some(old), Some(new));
            changes.push(Change::chunk(id, Some(new)));
            if self.state.guard(new.locator.segment, segment) {
                changes.push(Change::guard(new.locator.segment, segment));
            }
        }
        changes.push(Change::position(&position(&self.log, &self.state)));
        let applied = self.index.apply(&changes).and_then(|()| self.index.flush());
        applied.map_err(ReadOnly::Catalogue)
    }

    fn stick(&mut self, segment: u64) {
        self.state.segments.entry(segment).or_default().stuck = true;
    }

    /// Copies one record; `Err(None)` where it is damaged or cannot be read.
    fn move_record(
        &mut self,
        prefix: &Prefix,
        id: &ChunkId,
        entry: &Entry,
    ) -> Result<Entry, Option<LogError>> {
        let mut record = vec![0; prefix.record_bytes()];
        let file = File::Segment(entry.locator.segment);
        let read = self.log.disk.read_at(file, entry.locator.offset, &mut record);
        let sound = read == Ok(record.len())
            && prefix.body_holds(&record)
            && entry.condition == Condition::Sound;
        if !sound {
            return Err(None);
        }
        self.log.append_moved(&mut record, prefix, id, entry).map_err(Some)
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
