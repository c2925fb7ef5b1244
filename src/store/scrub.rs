//! The scrub: reads everything in turn, so that rot is found before it is needed.
//!
//! It goes through the segments record by record, a little at a time, and starts over at the end.
//! The caller sets the pace; where it stands is kept in the catalogue.
//!
//! # What it sees
//! What the catalogue has in the range that was read has to be met there, whole. A record that is
//! not whole shows that by itself. Where it cannot, because something else lies in its place, the
//! chunks that should be there are looked up in the catalogue, all of which has to be gone through
//! for that: once for each segment and round at most, and only where there is a suspicion. Such is
//!
//! - a range that holds no record, or one that is damaged and no chunk's, or cannot be opened;
//! - a whole record of a chunk that is not where the catalogue has that chunk: one that was deleted
//!   or moved and not yet punched out, or an old one that a lost write left in another's place;
//! - a segment that ends too early.
//!
//! What is found so is read once more, as one bad read is not yet damage.
//!
//! # What it cannot read
//! A sector that the disk does not give is no damage: it may be read the next time, and whoever
//! asks for the chunk is told so. The record that it lies in is told as not read, and the scrub
//! goes on behind it: where its head says, or where that is what cannot be read, at the end of the
//! chunk that the catalogue has there, or at the next chunk that it has.
//!
//! # What it does not see
//! An old record in the place of a live one, if the old one is no chunk's, or if its body is gone,
//! which looks like what is left of a deleted chunk; and a segment whose file is gone altogether.
//! Each shows when the chunk is read. Nor does it see what is no live chunk between a head that
//! cannot be read and the next live chunk.

use super::disk::{Disk, DiskError, File};
use super::index::{Catalogue, CatalogueError, Condition, Entry};
use super::log::Item;
use super::reader::Reader;
use super::record::{BLOCK_BYTES, Kind};
use super::recovery::Damage;
use super::scan::{Content, Depth, Found, Scan, read_head, scan_past};
use super::writer::Request;
use crate::core::types::ChunkId;
use crate::planted::{self, Bug};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// How long a whole round takes where nobody says otherwise: half of the 30 days within which all
/// is promised to be read, because a node is not always on.
pub const ROUND: Duration = Duration::from_hours(15 * 24);

/// Where a scrub stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// In this segment or, where it is gone, the next.
    pub segment: u64,
    /// At this byte.
    pub offset: u64,
}

/// What one step of a scrub found.
#[derive(Debug, Default)]
pub struct Scrubbed {
    /// Ranges that hold no record, and damaged records that are not chunks.
    pub damage: Vec<Damage>,
    /// Ranges that could not be read: what lies there is not known.
    pub unread: Vec<Unread>,
    /// What the writer should be told: damaged chunks.
    pub rotten: Vec<Request>,
    /// Bytes that were read, or could not be.
    pub bytes: u64,
    /// Where to go on.
    pub next: Cursor,
    /// The end was reached: the next step starts a new round.
    pub round_is_over: bool,
}

/// Records that the disk did not give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unread {
    /// Where they lie.
    pub range: Damage,
    /// Why.
    pub error: DiskError,
}

/// Why a step was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScrubError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The catalogue failed.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
}

/// How long to wait between two steps of `step` bytes in a store that uses `used` bytes, for a
/// round to take so long.
pub fn pause(step: u64, used: u64, round: Duration) -> Duration {
    let steps = used.checked_div(step).unwrap_or(0).max(1);
    let pause = round.as_millis() / u128::from(steps);
    let pause = Duration::from_millis(u64::try_from(pause).unwrap_or(u64::MAX));
    pause.clamp(Duration::from_millis(20), Duration::from_hours(1))
}

/// What the catalogue has in a segment.
pub(super) struct Live {
    segment: u64,
    /// The segment is closed: there will be no more of it.
    closed: bool,
    /// By where they lie.
    chunks: BTreeMap<u64, ChunkId>,
}

/// What the records of a range say.
#[derive(Default)]
struct Met {
    /// Where the chunks lie that were met whole and live.
    whole: BTreeSet<u64>,
    /// Live ones that are not whole.
    broken: Vec<ChunkId>,
    /// Something else may lie in the place of a live one.
    suspect: bool,
}

/// A part of a segment.
struct Part {
    segment: u64,
    range: Range<u64>,
    /// Nothing is written to the segment any more.
    closed: bool,
    /// It ends where it should not.
    short: bool,
}

impl<D: Disk, C: Catalogue> Reader<D, C> {
    /// Reads and verifies about `bytes` bytes from `cursor` on, at least one record.
    ///
    /// # Errors
    /// [`ScrubError`].
    pub fn scrub(&mut self, cursor: Cursor, bytes: u64) -> Result<Scrubbed, ScrubError> {
        let round_is_over = Scrubbed { round_is_over: true, ..Scrubbed::default() };
        let Some(position) = self.index.position()? else { return Ok(round_is_over) };
        let segments = self.disk.segments()?.into_iter();
        let ahead = segments.filter(|number| (cursor.segment..=position.segment).contains(number));
        let Some(segment) = ahead.min() else { return Ok(round_is_over) };
        let (file, closed) = (File::Segment(segment), segment != position.segment);
        // Of an open segment there may be more since the last step.
        self.live.take_if(|live| !live.closed);
        // What lies above the position is being written.
        let end = if closed { self.disk.len(file)? } else { position.offset };
        let from = if segment == cursor.segment { cursor.offset } else { 0 };
        let to = from.saturating_add(bytes.max(1)).min(end);
        let (disk, key) = (Arc::clone(&self.disk), Arc::clone(&self.key));
        let range = (from, Some(to));
        let scan =
            scan_past((&*disk, &*key), segment, range, Depth::Bodies, |at, error| match error {
                DiskError::Io(_) => self.behind((segment, closed), at..end),
                error => Err(error.into()),
            })?;
        let is_last = scan.next >= end || scan.end < to;
        let ends = scan.found.last().is_some_and(|found| found.prefix.kind == Kind::Trailer);
        let short = is_last && if closed { !ends } else { scan.end < to };
        // Beyond its end a closed segment holds nothing, whatever the catalogue says.
        let upto = match (is_last, closed) {
            (true, true) => u64::MAX,
            (true, false) => end,
            (false, _) => scan.next,
        };
        let range = from..upto.max(from);
        let next = match is_last {
            false => Cursor { segment, offset: scan.next },
            true => Cursor { segment: segment.saturating_add(1), offset: 0 },
        };
        let bytes = scan.next.saturating_sub(from);
        let mut scrubbed = Scrubbed { bytes, next, ..Scrubbed::default() };
        self.judge(&Part { segment, range, closed, short }, &scan, &mut scrubbed)?;
        if is_last {
            self.live = None;
        }
        Ok(scrubbed)
    }

    fn judge(&mut self, part: &Part, scan: &Scan, out: &mut Scrubbed) -> Result<(), ScrubError> {
        let segment = part.segment;
        let ranges = scan.damage.iter();
        out.damage.extend(ranges.map(|(from, to)| Damage { segment, from: *from, to: *to }));
        out.unread.extend(scan.unread.iter().map(|(from, to, error)| {
            let range = Damage { segment, from: *from, to: *to };
            Unread { range, error: *error }
        }));
        // Also what was passed over is read once more: that it could not be may have passed.
        let suspect = part.short || !scan.damage.is_empty() || !scan.unread.is_empty();
        let mut met = Met { suspect, ..Met::default() };
        for found in &scan.found {
            self.meet(found, &mut met, out)?;
        }
        let mut missed = met.broken;
        if met.suspect {
            let there = self.live(part.segment, part.closed)?.chunks.range(part.range.clone());
            let unmet = there.filter(|(offset, _)| !met.whole.contains(offset));
            missed.extend(unmet.map(|(_, id)| *id));
        }
        missed.sort_unstable();
        missed.dedup();
        for id in missed {
            // It may be quarantined already, or deleted or moved in the meantime.
            let now = self.index.get(&id)?;
            if now.is_some_and(|now| {
                now.locator.segment == segment && now.condition == Condition::Sound
            }) {
                out.rotten.extend(self.read_and_hash(&id).rot);
            }
        }
        Ok(())
    }

    /// Compares a record with what the catalogue has.
    fn meet(&self, found: &Found, met: &mut Met, out: &mut Scrubbed) -> Result<(), ScrubError> {
        let locator = found.prefix.locator();
        let Kind::Chunk = found.prefix.kind else {
            if !found.whole {
                let (segment, from, to) = (locator.segment, locator.offset, locator.end());
                out.damage.push(Damage { segment, from, to });
                met.suspect = true;
            }
            return Ok(());
        };
        let Content::Item(item, _) = &found.content else {
            met.suspect = true;
            return Ok(());
        };
        let Item::Chunk(id, Entry { sequence, .. }) = &**item else { return Ok(()) };
        let now = self.index.get(id)?;
        let is_live = now.is_some_and(|now| (now.locator, now.sequence) == (locator, *sequence));
        match (is_live, found.whole) {
            (true, true) => drop(met.whole.insert(locator.offset)),
            (true, false) => met.broken.push(*id),
            (false, true) => met.suspect |= !planted::is_on(Bug::ScrubTrustsLog),
            // A deleted or moved chunk has a hole where its body was.
            (false, false) => {}
        }
        Ok(())
    }

    /// What the catalogue has in a segment; of a closed one it is gone through once.
    fn live(&mut self, segment: u64, closed: bool) -> Result<&Live, ScrubError> {
        let live = match self.live.take().filter(|live| live.segment == segment) {
            Some(live) => live,
            None => {
                let mut chunks = BTreeMap::new();
                self.index.for_each_chunk(&mut |id, entry| {
                    if entry.locator.segment == segment {
                        chunks.insert(entry.locator.offset, id);
                    }
                })?;
                Live { segment, closed, chunks }
            }
        };
        Ok(self.live.insert(live))
    }

    /// Where to go on behind a record that begins where `left` does and cannot be read; the end of
    /// `left` where nothing more is known.
    fn behind(
        &mut self,
        (segment, closed): (u64, bool),
        left: Range<u64>,
    ) -> Result<u64, ScrubError> {
        let mut block = vec![0; BLOCK_BYTES];
        if let Ok(Some((head, _))) = read_head(&*self.disk, segment, left.start, &mut block) {
            return Ok(head.locator().end());
        }
        let live = &self.live(segment, closed)?.chunks;
        let (here, mut ahead) = (live.get(&left.start).copied(), live.range(left.clone()));
        let next = ahead.find(|(offset, _)| **offset > left.start);
        let next = next.map_or(left.end, |(offset, _)| *offset);
        let entry = here.map(|id| self.index.get(&id)).transpose()?.flatten();
        let locator = entry
            .map(|entry| entry.locator)
            .filter(|locator| (locator.segment, locator.offset) == (segment, left.start));
        Ok(locator.map_or(next, |locator| locator.end()))
    }

    /// Where the last scrub stood.
    pub fn scrub_cursor(&self) -> Cursor {
        self.index.cursor().ok().flatten().unwrap_or_default()
    }

    /// Keeps where the scrub stands; durable with the next group.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn keep_scrub_cursor(&self, cursor: Cursor) -> Result<(), CatalogueError> {
        self.index.keep_cursor(cursor)
    }
}
