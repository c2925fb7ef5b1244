//! The scrub: reads everything in turn, so that rot is found before it is needed.
//!
//! It goes through the segments record by record, a little at a time, and starts over at the end.
//! The caller sets the pace; where it stands is kept in the catalogue.

use super::disk::{Disk, DiskError, File};
use super::index::{Catalogue, CatalogueError, Condition};
use super::log::Item;
use super::reader::Reader;
use super::record::Kind;
use super::recovery::Damage;
use super::scan::{Content, Depth, Scan, scan};
use super::writer::Request;
use std::time::Duration;

/// How long a whole round may take: half of the 30 days within which all is promised to be read,
/// because a node is not always on.
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
    /// What the writer should be told: damaged chunks.
    pub rotten: Vec<Request>,
    /// Bytes that were read.
    pub bytes: u64,
    /// Where to go on.
    pub next: Cursor,
    /// The end was reached: the next step starts a new round.
    pub round_is_over: bool,
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

/// How long to wait between two steps of `step` bytes in a store that uses `used` bytes.
pub fn pause(step: u64, used: u64) -> Duration {
    let steps = used.checked_div(step).unwrap_or(0).max(1);
    let pause = ROUND.as_millis() / u128::from(steps);
    let pause = Duration::from_millis(u64::try_from(pause).unwrap_or(u64::MAX));
    pause.clamp(Duration::from_millis(20), Duration::from_hours(1))
}

impl<D: Disk, C: Catalogue> Reader<D, C> {
    /// Reads and verifies about `bytes` bytes from `cursor` on, at least one record.
    ///
    /// # Errors
    /// [`ScrubError`].
    pub fn scrub(&self, cursor: Cursor, bytes: u64) -> Result<Scrubbed, ScrubError> {
        let round_is_over = Scrubbed { round_is_over: true, ..Scrubbed::default() };
        let Some(position) = self.index.position()? else { return Ok(round_is_over) };
        let segments = self.disk.segments()?.into_iter();
        let ahead = segments.filter(|number| (cursor.segment..=position.segment).contains(number));
        let Some(segment) = ahead.min() else { return Ok(round_is_over) };
        let file = File::Segment(segment);
        // What lies above the position is being written.
        let end = match segment == position.segment {
            true => position.offset,
            false => self.disk.len(file)?,
        };
        let from = if segment == cursor.segment { cursor.offset } else { 0 };
        let range = (from, Some(from.saturating_add(bytes.max(1)).min(end)));
        let scan = scan(&*self.disk, &self.key, segment, range, Depth::Bodies)?;
        let next = match scan.next < end {
            true => Cursor { segment, offset: scan.next },
            false => Cursor { segment: segment.saturating_add(1), offset: 0 },
        };
        let bytes = scan.next.saturating_sub(from);
        let mut scrubbed = Scrubbed { bytes, next, ..Scrubbed::default() };
        self.judge(segment, &scan, &mut scrubbed)?;
        Ok(scrubbed)
    }

    fn judge(&self, segment: u64, scan: &Scan, out: &mut Scrubbed) -> Result<(), ScrubError> {
        for found in scan.found.iter().filter(|found| !found.whole) {
            let locator = found.prefix.locator();
            if found.prefix.kind != Kind::Chunk {
                out.damage.push(Damage { segment, from: locator.offset, to: locator.end() });
            } else if let Content::Item(item, _) = &found.content
                && let Item::Chunk(id, entry) = **item
                && let Some(now) = self.index.get(&id)?
                // A deleted or moved chunk may have a hole where its body was.
                && now.sequence == entry.sequence
                && now.condition == Condition::Sound
            {
                out.rotten.push(Request::Quarantine { id, sequence: entry.sequence });
            }
        }
        if scan.damage.is_empty() {
            return Ok(());
        }
        let ranges = scan.damage.iter();
        out.damage.extend(ranges.map(|(from, to)| Damage { segment, from: *from, to: *to }));
        // Nothing there says which chunks these were: look for all that should be there.
        self.index.for_each_chunk(&mut |id, entry| {
            let offset = entry.locator.offset;
            let hit = |(from, to): &(u64, u64)| (*from..*to).contains(&offset);
            let here = entry.locator.segment == segment && scan.damage.iter().any(hit);
            if here && entry.condition == Condition::Sound {
                out.rotten.push(Request::Quarantine { id, sequence: entry.sequence });
            }
        })?;
        Ok(())
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
