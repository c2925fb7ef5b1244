//! Empties segments that are mostly waste: what is still needed in them moves to the end of the
//! log, and they are unlinked.
//!
//! Waste is what a deleted chunk leaves: its record (where the disk punches holes, the first block
//! of it) and, once that is gone, its tombstone. A tombstone is needed as long as the segment of
//! the record that it ends exists, because a rebuild would find that record. So tombstones move
//! too, and no segment keeps another one on the disk: which segment is emptied depends on its own
//! numbers alone.
//!
//! # The order
//! ```text
//! copies appended -> synced -> catalogue applied -> flushed -> old segment unlinked -> forgotten
//! ```
//! A crash before the catalogue leaves copies that the replay finds: a chunk's newer record counts
//! and a tombstone holds twice as well as once. A crash after it leaves a segment that nothing
//! needs, or the rest of one. Until the old segment is gone, the ones with the copies must stay: a
//! chunk may be deleted by a tombstone that names the copy, and goes when the copy's segment goes,
//! while the old record is still there ([`Note::Newer`](super::index::Note::Newer)). Such an old
//! segment is emptied before all others, also when it was rot or a crash that made it one.
//!
//! # The bound
//! When [`Writer::tidy`] says that nothing is left to do, and there was space to move things,
//! segments take at most
//!
//! ```text
//! 3/2 * (live records + 259 B per chunk + 12.25 KiB per segment) + the newest segment
//! ```
//! Proof. Of a closed segment, let `a` be the space it takes, `u` what its live chunks would take
//! in a new one (records, footer items, [`FRAME_BYTES`](super::state::FRAME_BYTES)), `t` what its
//! needed tombstones would, `w = max(0, a - u - t)` its waste, and `n` what tombstones elsewhere
//! take that name a record in it. It is emptied where `w + n >= (a + n) / 4`. Summed up over
//! the closed segments, where that holds for none: `W + N < (A + N) / 4`, hence `N < A/3 - 4/3 W`.
//! Each needed tombstone names one segment, which is closed, so `T <= N`, and
//! `A <= U + T + W < U + A/3 - W/3`, hence `A < 3/2 U`.
//!
//! Segments that cannot be emptied come on top: those with a chunk that cannot be read, and, until
//! it is deleted, those that hold what was moved out of them before that was found.
//!
//! # The work
//! Emptying a segment gives at least a quarter of `a + n` back, now or when the tombstones go, so
//! it ends, and moves at most three bytes for each. One call moves a sixteenth of a segment and
//! three bytes for each that died since the last: it keeps up, and no commit waits for long.

use super::disk::{Disk, DiskError, File};
use super::index::{Catalogue, Change, Condition, Entry};
use super::log::{Item, LogError};
use super::record::{BLOCK_BYTES, Kind, Prefix};
use super::recovery::position;
use super::scan::{Content, Depth, Found, read_footer, scan};
use super::writer::{ReadOnly, Writer};
use crate::core::types::ChunkId;
use crate::planted::{self, Bug};

/// A segment is emptied where one part in so many would be given back.
const WASTE_PARTS: u64 = 4;

/// Bytes that may be moved for each byte that died: what the most useful segment that is emptied
/// takes.
pub(super) const MOVED_PER_DEAD: u64 = WASTE_PARTS - 1;

/// An item that need not be moved costs a look into the catalogue: counted as so many bytes.
const LOOK_BYTES: u64 = 512;

/// A segment that is being emptied.
pub(super) struct Job {
    segment: u64,
    /// What is left to look at.
    items: std::vec::IntoIter<Item>,
    /// Something in the segment could not be read.
    damaged: bool,
    /// The record that is being moved.
    buffer: Vec<u8>,
}

/// How far one step came.
enum Step {
    /// To the end of the segment, or to something that cannot be moved.
    Over,
    /// As far as the budget goes.
    Partly,
    /// The disk takes no more for now.
    NoSpace,
}

/// Why an item was not moved.
enum NotMoved {
    /// Its record cannot be read.
    Unreadable,
    NotWritten(LogError),
}

/// What was appended and is not yet in the catalogue.
#[derive(Default)]
struct Moved {
    /// Id, before, after.
    chunks: Vec<(ChunkId, Entry, Entry)>,
    /// Where a tombstone lies now, and the segment of the record that it ends.
    tombstones: Vec<(u64, u64)>,
}

impl<D: Disk, C: Catalogue> Writer<D, C> {
    /// Moves about `budget` bytes out of the segments that are worth emptying; returns whether
    /// there is more to do.
    pub(super) fn reclaim(&mut self, mut budget: u64) -> bool {
        self.reclaimed = None;
        self.sweep();
        while self.read_only.is_none() {
            let Some(mut job) = self.job.take().or_else(|| self.next_job()) else {
                // What is worth it and does not fit is tried again.
                let (tip, _) = self.log.tip();
                self.reclaimed = self.worst_segment(u64::MAX).is_none().then_some(tip);
                return false;
            };
            if budget == 0 {
                self.job = Some(job);
                return true;
            }
            match self.step(&mut job, &mut budget) {
                Ok(Step::Over) => self.sweep(),
                Ok(Step::Partly) => self.job = Some(job),
                Ok(Step::NoSpace) => {
                    self.job = Some(job);
                    return false;
                }
                Err(reason) => self.read_only = Some(reason),
            }
        }
        false
    }

    fn next_job(&mut self) -> Option<Job> {
        let free = self.log.disk.free_space().unwrap_or(0);
        let room = free.saturating_sub(self.options.ballast);
        while let Some(segment) = self.worst_segment(room) {
            match self.items(segment) {
                Ok((items, damaged)) => {
                    let (items, buffer) = (items.into_iter(), Vec::new());
                    return Some(Job { segment, items, damaged, buffer });
                }
                Err(_) => self.stick(segment, 0),
            }
        }
        None
    }

    /// The segment that must be emptied, or else the one where that is worth most, of those whose
    /// content fits in `room` bytes.
    fn worst_segment(&mut self, room: u64) -> Option<u64> {
        let (tip, _) = self.log.tip();
        for (number, segment) in &mut self.state.segments {
            if *number != tip && segment.taken.is_none() {
                segment.taken = self.log.disk.taken(File::Segment(*number)).ok();
            }
        }
        let segments = || {
            self.state.segments.iter().filter(|(number, segment)| {
                let open = segment.stuck.is_none() && !segment.emptied && segment.newer.is_empty();
                **number != tip && open && segment.useful_bytes() <= room
            })
        };
        let superseded = self.state.superseded();
        let first = segments().map(|(number, _)| *number).find(|one| superseded.contains(one));
        let worth = segments().filter_map(|(number, segment)| {
            let (gain, whole) = segment.gain()?;
            let share = gain.saturating_mul(1 << 16).checked_div(whole)?;
            (gain.saturating_mul(WASTE_PARTS) >= whole).then_some((share, *number))
        });
        first.or_else(|| worth.max().map(|(_, number)| number))
    }

    /// What a segment holds, and whether something in it could not be read.
    fn items(&self, segment: u64) -> Result<(Vec<Item>, bool), DiskError> {
        let (disk, key) = (&*self.log.disk, &self.log.key);
        if let Some(items) = read_footer(disk, key, segment)? {
            return Ok((items, false));
        }
        let scan = scan(disk, key, segment, (0, None), Depth::Heads)?;
        let strange = |found: &Found| match found.content {
            Content::Locked => true,
            _ => matches!(found.prefix.kind, Kind::Unknown(_)),
        };
        let damaged = !scan.damage.is_empty() || scan.found.iter().any(strange);
        let items = scan.found.into_iter().filter_map(|found| match found.content {
            Content::Item(item, _) => Some(*item),
            _ => None,
        });
        Ok((items.collect(), damaged))
    }

    /// Goes on emptying a segment until `budget` is used up.
    fn step(&mut self, job: &mut Job, budget: &mut u64) -> Result<Step, ReadOnly> {
        let mut moved = Moved::default();
        let step = loop {
            // It may have been swept away in the meantime.
            if !self.state.segments.contains_key(&job.segment) {
                break Step::Over;
            }
            let Some(item) = job.items.as_slice().first().copied() else {
                break Step::Over;
            };
            if *budget == 0 {
                break Step::Partly;
            }
            match self.move_item(job, &item, &mut moved) {
                Ok(bytes) => *budget = budget.saturating_sub(bytes.max(LOOK_BYTES)),
                Err(NotMoved::Unreadable) => {
                    self.stick(job.segment, item.sequence());
                    break Step::Over;
                }
                Err(NotMoved::NotWritten(LogError::Full | LogError::Io)) => break Step::NoSpace,
                Err(NotMoved::NotWritten(LogError::Broken(reason))) => return Err(reason),
            }
            job.items.next();
        };
        self.keep_moved(job.segment, &moved)?;
        if let Some(segment) = self.state.segments.get_mut(&job.segment)
            && job.items.as_slice().is_empty()
        {
            // Where something could not be read, that may be a tombstone that is needed.
            segment.emptied = segment.live == 0 && !job.damaged;
            segment.stuck = (!segment.emptied).then_some(0);
            self.moves.emptied += u64::from(segment.emptied);
        }
        Ok(step)
    }

    /// Moves one item if it is still needed; returns how many bytes that were.
    fn move_item(
        &mut self,
        job: &mut Job,
        item: &Item,
        moved: &mut Moved,
    ) -> Result<u64, NotMoved> {
        match item {
            Item::Chunk(id, entry) => {
                let current = self.index.get(id).map_err(|error| {
                    NotMoved::NotWritten(LogError::Broken(ReadOnly::Catalogue(error)))
                })?;
                let Some(current) = current.filter(|now| now.sequence == entry.sequence) else {
                    return Ok(0);
                };
                let new = self.move_chunk(&mut job.buffer, id, &current)?;
                moved.chunks.push((*id, current, new));
                Ok(u64::from(new.locator.bytes))
            }
            Item::Tombstone { tombstone, .. } => {
                let target = tombstone.segment;
                if target == job.segment || !self.state.segments.contains_key(&target) {
                    return Ok(0);
                }
                let holder = self.log.append_tombstone(tombstone).map_err(NotMoved::NotWritten)?;
                moved.tombstones.push((holder, target));
                Ok(BLOCK_BYTES as u64)
            }
        }
    }

    /// Copies one record. A damaged one too, as it is, so that it holds up nothing.
    fn move_chunk(
        &mut self,
        buffer: &mut Vec<u8>,
        id: &ChunkId,
        entry: &Entry,
    ) -> Result<Entry, NotMoved> {
        let bytes = entry.locator.bytes as usize;
        if buffer.len() < bytes {
            buffer.resize(bytes, 0);
        }
        let (record, _) = buffer.split_at_mut(bytes);
        let file = File::Segment(entry.locator.segment);
        let read = self.log.disk.read_at(file, entry.locator.offset, record);
        let prefix = Prefix::parse(record).ok().filter(|prefix| {
            prefix.kind == Kind::Chunk
                && prefix.locator() == entry.locator
                && prefix.place.sequence == entry.sequence
        });
        let Some(prefix) = prefix.filter(|_| read == Ok(bytes)) else {
            return Err(NotMoved::Unreadable);
        };
        let condition = match prefix.body_holds(record) {
            true => entry.condition,
            false => Condition::Quarantined,
        };
        let entry = Entry { condition, ..*entry };
        self.log.append_moved(record, &prefix, id, &entry).map_err(NotMoved::NotWritten)
    }

    /// Makes what was moved out of `segment` durable, then makes it count.
    fn keep_moved(&mut self, segment: u64, moved: &Moved) -> Result<(), ReadOnly> {
        if moved.chunks.is_empty() && moved.tombstones.is_empty() {
            return Ok(());
        }
        if !planted::is_on(Bug::UnlinkEarly) {
            self.log.sync()?;
        }
        let (tip, _) = self.log.tip();
        self.state.segments.entry(tip).or_default();
        let mut changes = Vec::new();
        for (id, old, new) in &moved.chunks {
            self.state.replace(id, Some(old), Some(new));
            changes.push(Change::chunk(id, Some(new)));
            changes.extend(self.state.supersede(new.locator.segment, segment));
        }
        for (holder, target) in &moved.tombstones {
            changes.extend(self.state.bury(*holder, *target, 1));
        }
        changes.push(Change::position(&position(&self.log, &self.state)));
        let applied = self.index.apply(&changes).and_then(|()| self.index.flush());
        applied.map_err(ReadOnly::Catalogue)?;
        self.moves.chunks += moved.chunks.len() as u64;
        self.moves.tombstones += moved.tombstones.len() as u64;
        Ok(())
    }

    /// `segment` cannot be emptied, because of the record with this number.
    fn stick(&mut self, segment: u64, sequence: u64) {
        if let Some(segment) = self.state.segments.get_mut(&segment) {
            segment.stuck = Some(sequence);
        }
    }
}
