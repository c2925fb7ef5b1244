//! The log: appends records to the newest segment, closes it when it is full, starts the next.
//!
//! Only the newest segment may hold bytes that are not synced: a segment is synced whole, footer
//! included, before the next one is made.

use super::disk::{Disk, DiskError, File};
use super::index::{Entry, Locator};
use super::record::{
    BLOCK_BYTES, ChunkHead, Draft, Fields, FieldsMut, Kind, Place, Prefix, Tombstone,
    encode_segment, relocate,
};
use super::writer::ReadOnly;
use crate::core::types::{ChunkId, StoreEpoch};
use crate::crypto::keys::WrapKey;
use crate::planted::{self, Bug};
use rand_chacha::ChaCha20Rng;
use std::sync::Arc;

/// A segment is closed after this many records: its footer must fit in one record.
pub(crate) const SEGMENT_RECORDS_MAX: u32 = 16_384;

/// Why a record was not appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LogError {
    /// No space; the log is as it was before.
    Full,
    /// The disk failed; the log is as it was before.
    Io,
    /// It is not known what the disk holds: nothing may be written any more.
    Broken(ReadOnly),
}

impl From<ReadOnly> for LogError {
    fn from(reason: ReadOnly) -> Self {
        Self::Broken(reason)
    }
}

impl From<DiskError> for LogError {
    fn from(error: DiskError) -> Self {
        if error == DiskError::Full { Self::Full } else { Self::Io }
    }
}

/// The segment that is written.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) segment: u64,
    /// Its length.
    pub(crate) end: u64,
    /// How much of it is durable.
    pub(crate) synced: u64,
    /// What its footer will say.
    pub(crate) footer: Footer,
}

pub(crate) struct Log<D> {
    pub(crate) disk: Arc<D>,
    pub(crate) key: Arc<WrapKey>,
    pub(crate) rng: ChaCha20Rng,
    pub(crate) epoch: StoreEpoch,
    pub(crate) segment_bytes: u64,
    pub(crate) active: Option<Active>,
    /// The newest segment and its length, where none is written.
    pub(crate) closed: (u64, u64),
    pub(crate) next_sequence: u64,
    /// One record at a time is wrapped in here.
    pub(crate) buffer: Vec<u8>,
}

impl<D: Disk> Log<D> {
    /// The newest segment and its length.
    pub(crate) fn tip(&self) -> (u64, u64) {
        self.active.as_ref().map_or(self.closed, |active| (active.segment, active.end))
    }

    /// Appends a chunk, wrapped; not durable before [`Self::sync`].
    pub(crate) fn append_chunk(
        &mut self,
        head: &ChunkHead,
        tags: &[u8],
        sealed: &[u8],
    ) -> Result<Entry, LogError> {
        let box_1 = head.encode();
        let draft = Draft { kind: Kind::Chunk, boxes: [&box_1, tags, sealed] };
        self.make_room(draft.record_bytes())?;
        let (locator, sequence) = self.append(&draft)?;
        let entry = head.entry(locator, sequence);
        self.note(|footer| footer.chunk(&head.id, &entry));
        Ok(entry)
    }

    /// The tombstone that ends a record.
    pub(crate) fn tombstone(&self, id: &ChunkId, dead: &Entry) -> Tombstone {
        Tombstone {
            id: *id,
            segment: dead.locator.segment,
            offset: dead.locator.offset,
            sequence: dead.sequence,
            epoch: self.epoch,
        }
    }

    /// Appends a tombstone, a new one or one that lay elsewhere; returns its segment.
    pub(crate) fn append_tombstone(&mut self, tombstone: &Tombstone) -> Result<u64, LogError> {
        let box_1 = tombstone.encode();
        let draft = Draft { kind: Kind::Tombstone, boxes: [&box_1, &[], &[]] };
        self.make_room(draft.record_bytes())?;
        let (locator, sequence) = self.append(&draft)?;
        if !planted::is_on(Bug::FooterForgetsTombstones) {
            self.note(|footer| footer.tombstone(sequence, tombstone));
        }
        Ok(locator.segment)
    }

    /// Appends a whole chunk record that lay elsewhere, boxes and all.
    pub(crate) fn append_moved(
        &mut self,
        record: &mut [u8],
        prefix: &Prefix,
        id: &ChunkId,
        entry: &Entry,
    ) -> Result<Entry, LogError> {
        self.make_room(record.len())?;
        let place = self.next_place()?;
        relocate(record, prefix, place);
        let locator = self.write(record, place)?;
        let moved = Entry { locator, sequence: place.sequence, ..*entry };
        if !planted::is_on(Bug::FooterForgetsMoved) {
            self.note(|footer| footer.chunk(id, &moved));
        }
        Ok(moved)
    }

    /// Everything appended is durable on return. A failure is final.
    pub(crate) fn sync(&mut self) -> Result<(), ReadOnly> {
        match &mut self.active {
            Some(active) if active.end != active.synced => {
                let mut synced = self.disk.sync_data(File::Segment(active.segment));
                if planted::is_on(Bug::RetrySync) {
                    synced = synced.or_else(|_| self.disk.sync_data(File::Segment(active.segment)));
                }
                synced.map_err(ReadOnly::Sync)?;
                active.synced = active.end;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Makes sure that there is a segment with room for `bytes` more.
    pub(crate) fn make_room(&mut self, bytes: usize) -> Result<(), LogError> {
        if let Some(active) = &self.active {
            let end = active.end.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
            let full = end > self.segment_bytes || active.footer.count >= SEGMENT_RECORDS_MAX;
            // An empty segment takes one record, however long that is.
            if !full || active.footer.count == 0 {
                return Ok(());
            }
            self.close_segment()?;
        }
        self.start_segment()
    }

    fn note(&mut self, item: impl FnOnce(&mut Footer)) {
        if let Some(active) = &mut self.active {
            item(&mut active.footer);
        }
    }

    fn next_place(&self) -> Result<Place, LogError> {
        let active = self.active.as_ref().ok_or(LogError::Io)?;
        Ok(Place {
            segment: active.segment,
            offset: active.end,
            sequence: self.next_sequence,
            durable: active.synced,
        })
    }

    fn append(&mut self, draft: &Draft<'_>) -> Result<(Locator, u64), LogError> {
        let place = self.next_place()?;
        let mut buffer = std::mem::take(&mut self.buffer);
        let record = draft.write(&mut buffer, place, &self.key, &mut self.rng);
        let written = self.write(record, place);
        self.buffer = buffer;
        Ok((written?, place.sequence))
    }

    /// Writes a record at the end; on an error cuts off what was written of it.
    fn write(&mut self, record: &[u8], place: Place) -> Result<Locator, LogError> {
        let file = File::Segment(place.segment);
        if let Err(error) = self.disk.write_at(file, place.offset, record) {
            self.disk.truncate(file, place.offset).map_err(ReadOnly::Log)?;
            return Err(error.into());
        }
        let bytes = u32::try_from(record.len()).map_err(|_| LogError::Io)?;
        let locator = Locator { segment: place.segment, offset: place.offset, bytes };
        if let Some(active) = &mut self.active {
            active.end = locator.end();
        }
        self.next_sequence = self.next_sequence.saturating_add(1);
        Ok(locator)
    }

    /// Ends the segment with its index. A rebuild is only slower without one, so that no space
    /// for it is no reason to fail; a sync that fails is.
    fn close_segment(&mut self) -> Result<(), LogError> {
        if let Err(LogError::Broken(reason)) = self.append_footer() {
            return Err(LogError::Broken(reason));
        }
        self.sync()?;
        self.closed = self.tip();
        self.active = None;
        Ok(())
    }

    fn append_footer(&mut self) -> Result<(), LogError> {
        let Some(active) = &mut self.active else { return Ok(()) };
        let footer = std::mem::take(&mut active.footer);
        let (start, mut box_1) = (active.end, Vec::with_capacity(20));
        box_1.put(self.epoch.as_bytes()).u32(footer.count);
        self.append(&Draft { kind: Kind::Footer, boxes: [&box_1, &[], &footer.items] })?;
        let mut box_1 = Vec::with_capacity(24);
        box_1.u64(start).put(self.epoch.as_bytes());
        self.append(&Draft { kind: Kind::Trailer, boxes: [&box_1, &[], &[]] })?;
        Ok(())
    }

    /// Makes the next segment; it and its name are durable on return.
    pub(crate) fn start_segment(&mut self) -> Result<(), LogError> {
        let (newest, _) = self.closed;
        let segment = newest.saturating_add(1);
        let file = File::Segment(segment);
        self.disk.create(file)?;
        self.active = Some(Active { segment, end: 0, synced: 0, footer: Footer::default() });
        let box_1 = encode_segment(&self.epoch);
        if let Err(error) = self.append(&Draft { kind: Kind::Segment, boxes: [&box_1, &[], &[]] }) {
            self.active = None;
            // Whether or not this succeeds: the next attempt takes another number.
            let _ = self.disk.unlink(file);
            self.closed = (segment, 0);
            return Err(error);
        }
        self.sync()?;
        if planted::is_on(Bug::SkipNameSync) {
            return Ok(());
        }
        Ok(self.disk.sync_names().map_err(ReadOnly::Sync)?)
    }
}

/// What a footer lists: everything a rebuild wants to know of a segment.
#[derive(Debug, Default)]
pub(crate) struct Footer {
    items: Vec<u8>,
    count: u32,
}

/// The longest item of a footer, a chunk's.
pub(crate) const ITEM_BYTES_MAX: u64 = 1 + 32 + super::index::ENTRY_BYTES as u64;

const CHUNK_ITEM: u8 = 1;
const TOMBSTONE_ITEM: u8 = 2;

/// One item of a footer, or one record that a scan found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item {
    Chunk(ChunkId, Entry),
    Tombstone { sequence: u64, tombstone: Tombstone },
}

impl Item {
    /// The number of its record.
    pub(crate) fn sequence(&self) -> u64 {
        match self {
            Self::Chunk(_, entry) => entry.sequence,
            Self::Tombstone { sequence, .. } => *sequence,
        }
    }
}

impl Footer {
    /// `1 u8 | id 32 | entry 226`.
    pub(crate) fn chunk(&mut self, id: &ChunkId, entry: &Entry) {
        self.items.put(&[CHUNK_ITEM]).put(id.as_bytes()).put(&entry.encode());
        self.count = self.count.saturating_add(1);
    }

    /// `2 u8 | sequence u64 | tombstone 72`.
    pub(crate) fn tombstone(&mut self, sequence: u64, tombstone: &Tombstone) {
        self.items.put(&[TOMBSTONE_ITEM]).u64(sequence).put(&tombstone.encode());
        self.count = self.count.saturating_add(1);
    }

    pub(crate) fn note(&mut self, item: &Item) {
        match item {
            Item::Chunk(id, entry) => self.chunk(id, entry),
            Item::Tombstone { sequence, tombstone } => self.tombstone(*sequence, tombstone),
        }
    }
}

/// The items of a footer; `None` where they are not exactly `count`.
pub(crate) fn decode_items(items: &[u8], count: u32) -> Option<Vec<Item>> {
    let mut fields = Fields(items);
    let mut out = Vec::new();
    while let Some([kind]) = fields.take::<1>() {
        out.push(match kind {
            CHUNK_ITEM => {
                let id = ChunkId::from_bytes(fields.take()?);
                Item::Chunk(id, Entry::decode(&fields.take::<{ super::index::ENTRY_BYTES }>()?)?)
            }
            TOMBSTONE_ITEM => Item::Tombstone {
                sequence: fields.u64()?,
                tombstone: Tombstone::decode(&fields.take::<72>()?)?,
            },
            _ => return None,
        });
    }
    (u32::try_from(out.len()) == Ok(count)).then_some(out)
}

/// The length up to the next block.
pub(crate) fn to_block(length: u64) -> u64 {
    length.checked_next_multiple_of(BLOCK_BYTES as u64).unwrap_or(u64::MAX)
}
