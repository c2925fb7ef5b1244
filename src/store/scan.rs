//! Reads what a segment holds, without the catalogue: for replays and rebuilds.

use super::disk::{Disk, DiskError, File};
use super::log::{Item, decode_items};
use super::record::{
    BLOCK_BYTES, ChunkHead, Fields, HeadError, Kind, Prefix, Tombstone, decode_segment,
};
use crate::core::types::{ChunkId, StoreEpoch};
use crate::crypto::bulk_hash;
use crate::crypto::header::Header;
use crate::crypto::keys::WrapKey;

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// At the first block of each record (and the index): what was durable needs no more until it
    /// is read.
    Heads,
    /// At every byte: after an unclean stop any part of a record may be missing.
    Bodies,
}

/// One record whose head is in order.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) prefix: Prefix,
    pub(crate) content: Content,
    /// Everything that was looked at is as it was written.
    pub(crate) whole: bool,
}

#[derive(Debug)]
pub(crate) enum Content {
    /// The segment's first record.
    Segment(StoreEpoch),
    /// A chunk or tombstone.
    Item(Box<Item>, StoreEpoch),
    /// A footer or a trailer: the segment is closed.
    Closing,
    /// A void, or a kind of a later version.
    Other,
    /// The checksum is good, and the wrap key does not open it.
    Locked,
}

/// What a range of a segment holds.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) found: Vec<Found>,
    /// Ranges (from, to) that are not records.
    pub(crate) damage: Vec<(u64, u64)>,
    /// Ranges (from, to) that were passed over, and why they could not be read.
    pub(crate) unread: Vec<(u64, u64, DiskError)>,
    /// Where the range ends.
    pub(crate) end: u64,
    /// Where the last record of the range ends, which may be beyond it.
    pub(crate) next: u64,
    /// Something of a later layout was seen.
    pub(crate) newer: Option<u8>,
    /// Heads with a good checksum that the wrap key does not open.
    pub(crate) locked: u64,
}

impl Scan {
    /// The largest length of the segment of which a record says that it was synced.
    pub(crate) fn durable(&self) -> u64 {
        self.found.iter().map(|found| found.prefix.place.durable).max().unwrap_or(0)
    }
}

/// Reads the records of `segment` in `from..to`, or to its end.
pub(crate) fn scan<D: Disk>(
    disk: &D,
    key: &WrapKey,
    segment: u64,
    range: (u64, Option<u64>),
    depth: Depth,
) -> Result<Scan, DiskError> {
    scan_past((disk, key), segment, range, depth, |_, error| Err(error))
}

/// The same; `past` says where to go on behind what begins there and could not be read, or gives
/// up.
pub(crate) fn scan_past<D: Disk, E: From<DiskError>>(
    (disk, key): (&D, &WrapKey),
    segment: u64,
    (from, to): (u64, Option<u64>),
    depth: Depth,
    mut past: impl FnMut(u64, DiskError) -> Result<u64, E>,
) -> Result<Scan, E> {
    let length = disk.len(File::Segment(segment))?;
    let end = to.map_or(length, |to| to.min(length));
    let mut scan = Scan { end, ..Scan::default() };
    let (block, body) = (vec![0; BLOCK_BYTES], Vec::new());
    let mut look = Look { disk, key, segment, length, depth, block, body };
    let mut at = from;
    while at < end {
        at = match look.one(at, &mut scan) {
            Ok(next) => next,
            Err(error) => {
                let next = past(at, error)?.max(at.saturating_add(BLOCK_BYTES as u64));
                scan.unread.push((at, next, error));
                next
            }
        };
    }
    scan.next = at;
    Ok(scan)
}

/// What it takes to look at the records of a segment.
struct Look<'a, D> {
    disk: &'a D,
    key: &'a WrapKey,
    segment: u64,
    /// Its length.
    length: u64,
    depth: Depth,
    block: Vec<u8>,
    body: Vec<u8>,
}

impl<D: Disk> Look<'_, D> {
    /// Looks at what begins at `at`; where the next one begins.
    fn one(&mut self, at: u64, scan: &mut Scan) -> Result<u64, DiskError> {
        let (block, segment) = (&mut self.block, self.segment);
        let read = self.disk.read_at(File::Segment(segment), at, block)?;
        let prefix = Prefix::parse(block.get(..read).unwrap_or_default());
        let place = |prefix: &Prefix| prefix.place.segment == segment && prefix.place.offset == at;
        match prefix {
            Ok(prefix) if place(&prefix) => {
                let next = prefix.locator().end();
                let one_block = prefix.record_bytes() == BLOCK_BYTES && prefix.kind != Kind::Void;
                let whole = match self.depth {
                    Depth::Heads if one_block => prefix.body_holds(block),
                    Depth::Heads if prefix.kind != Kind::Footer => next <= self.length,
                    _ => holds(self.disk, self.key, &prefix, &mut self.body)?,
                };
                let content = content(&prefix, block, self.key);
                scan.locked += u64::from(matches!(content, Content::Locked));
                scan.found.push(Found { prefix, content, whole });
                Ok(next)
            }
            refused => {
                if let Err(HeadError::Newer(version)) = refused {
                    scan.newer = Some(version);
                }
                let next = at.saturating_add(BLOCK_BYTES as u64);
                match scan.damage.last_mut() {
                    Some((_, last)) if *last == at => *last = next,
                    _ => scan.damage.push((at, next)),
                }
                Ok(next)
            }
        }
    }
}

fn content(prefix: &Prefix, block: &[u8], key: &WrapKey) -> Content {
    let Some(box_1) = prefix.open(block, 0, key) else { return Content::Locked };
    let content = match prefix.kind {
        Kind::Segment => decode_segment(&box_1).map(Content::Segment),
        Kind::Chunk => ChunkHead::decode(&box_1).map(|head| {
            let entry = head.entry(prefix.locator(), prefix.place.sequence);
            Content::Item(Box::new(Item::Chunk(head.id, entry)), head.epoch)
        }),
        Kind::Tombstone => Tombstone::decode(&box_1).map(|tombstone| {
            let sequence = prefix.place.sequence;
            let item = Item::Tombstone { sequence, tombstone };
            Content::Item(Box::new(item), tombstone.epoch)
        }),
        Kind::Footer | Kind::Trailer => Some(Content::Closing),
        Kind::Void | Kind::Unknown(_) => Some(Content::Other),
    };
    content.unwrap_or(Content::Locked)
}

/// Whether a record is on the disk to its last byte and, for a chunk, matches its id.
fn holds<D: Disk>(
    disk: &D,
    key: &WrapKey,
    prefix: &Prefix,
    buffer: &mut Vec<u8>,
) -> Result<bool, DiskError> {
    buffer.resize(prefix.record_bytes(), 0);
    let file = File::Segment(prefix.place.segment);
    let read = disk.read_at(file, prefix.place.offset, buffer)?;
    if prefix.kind == Kind::Void {
        return Ok(read == buffer.len());
    }
    if read != buffer.len() || !prefix.body_holds(buffer) {
        return Ok(false);
    }
    Ok(prefix.kind != Kind::Chunk || open_chunk(prefix, buffer, key, Check::Hashes).is_some())
}

/// A chunk's record, opened and checked.
pub(crate) struct OpenChunk {
    pub(crate) id: ChunkId,
    pub(crate) header: Header,
    /// Audit tags; empty where they were not looked at.
    pub(crate) tags: Vec<u8>,
    pub(crate) sealed: Vec<u8>,
}

/// How closely a chunk's record is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// Header and sealed bytes are what this node wrapped for this id, to the last bit: their boxes
    /// open, and they belong together. What was wrapped matched the id.
    Boxes,
    /// The same, and the tags too.
    Tags,
    /// All boxes are looked at, and their contents hashed once more. That shows what memory did to
    /// them before they were wrapped, too.
    Hashes,
}

/// Opens the boxes of a chunk's record and checks them against each other and the id.
pub(crate) fn open_chunk(
    prefix: &Prefix,
    record: &[u8],
    key: &WrapKey,
    check: Check,
) -> Option<OpenChunk> {
    let head = ChunkHead::decode(&prefix.open(record, 0, key)?)?;
    let sealed = prefix.open(record, 2, key)?;
    let header = Header::decode(&head.header).ok()?;
    let tags = match check {
        Check::Boxes => Vec::new(),
        Check::Tags | Check::Hashes => prefix.open(record, 1, key)?,
    };
    let right = header.id() == head.id
        && match check {
            Check::Boxes | Check::Tags => true,
            Check::Hashes => bulk_hash(&tags) == head.tags_hash && header.certifies(&sealed),
        };
    right.then_some(OpenChunk { id: head.id, header, tags, sealed })
}

/// Reads a closed segment's index; `None` where there is none or it is damaged.
pub(crate) fn read_footer<D: Disk>(
    disk: &D,
    key: &WrapKey,
    segment: u64,
) -> Result<Option<Vec<Item>>, DiskError> {
    let file = File::Segment(segment);
    let Some(at) = disk.len(file)?.checked_sub(BLOCK_BYTES as u64) else { return Ok(None) };
    let mut block = vec![0; BLOCK_BYTES];
    let Some((trailer, block)) = read_head(disk, segment, at, &mut block)? else {
        return Ok(None);
    };
    if trailer.kind != Kind::Trailer {
        return Ok(None);
    }
    let Some(start) = trailer.open(block, 0, key).and_then(|box_1| Fields(&box_1).u64()) else {
        return Ok(None);
    };
    let mut block = vec![0; BLOCK_BYTES];
    let Some((footer, _)) = read_head(disk, segment, start, &mut block)? else { return Ok(None) };
    if footer.kind != Kind::Footer {
        return Ok(None);
    }
    let mut record = vec![0; footer.record_bytes()];
    let read = disk.read_at(file, start, &mut record)?;
    if read != record.len() || !footer.body_holds(&record) {
        return Ok(None);
    }
    Ok(footer_items(&footer, &record, key))
}

fn footer_items(footer: &Prefix, record: &[u8], key: &WrapKey) -> Option<Vec<Item>> {
    let box_1 = footer.open(record, 0, key)?;
    let mut fields = Fields(&box_1);
    let _epoch = fields.take::<16>()?;
    decode_items(&footer.open(record, 2, key)?, fields.u32()?)
}

/// The head of the record that begins at `at`, where one does.
pub(crate) fn read_head<'b, D: Disk>(
    disk: &D,
    segment: u64,
    at: u64,
    block: &'b mut [u8],
) -> Result<Option<(Prefix, &'b [u8])>, DiskError> {
    let read = disk.read_at(File::Segment(segment), at, block)?;
    let block: &[u8] = block.get(..read).unwrap_or_default();
    let prefix = Prefix::parse(block).ok();
    let here = |prefix: &Prefix| prefix.place.segment == segment && prefix.place.offset == at;
    Ok(prefix.filter(here).map(|prefix| (prefix, block)))
}
