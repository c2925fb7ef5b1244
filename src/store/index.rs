//! The catalogue: which chunk lies where. It can always be rebuilt from the segments.
//!
//! [`Catalogue`] is the small ordered map that an adapter provides ([`super::catalogue`] on sled,
//! [`super::memory`]); `Index` is what the store keeps in it:
//!
//! ```text
//! 'c' || chunk id 32                      -> entry, 226 bytes, wrapped: 266
//! 'p'                                     -> position, 56 bytes
//! 't' || segment u64 be || target u64 be  -> u64: so many tombstones in `segment` end records in
//!                                            `target` and are needed as long as that exists
//! 'n' || segment u64 be || target u64 be  -> 1 u64: `segment` holds newer records of chunks that
//!                                            have an older one in `target`: it must outlive it
//! 'l'                                     -> how far the ledger was durable: generation u64,
//!                                            length u64
//! 's'                                     -> where the scrub stands: segment u64, offset u64
//! ```
//! Integers in values are little-endian. The position counts and sums up the entries: a map that
//! lost some of them, or came back older or empty, is noticed when it is opened.

use super::ledger::Durable;
use super::record::{Fields, FieldsMut};
use super::scrub::Cursor;
use crate::core::effect::Found;
use crate::core::types::{Account, ChunkId, LeaseNonce, LeaseTerms, StoreEpoch};
use crate::crypto::header::{HEADER_BYTES, Header};
use crate::crypto::keys::WrapKey;
use crate::crypto::seal::{unwrap, wrap_synthetic};
use crate::planted::{self, Bug};
use std::sync::Arc;

/// Why the catalogue did not do it. The store turns read-only; opening it again rebuilds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// The map failed, and says why.
    #[error("the catalogue failed: {0}")]
    Failed(String),
    /// A value is not what this store writes.
    #[error("the catalogue holds a value that cannot be read")]
    Malformed,
}

/// One change of the map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// At most 33 bytes.
    pub key: Vec<u8>,
    /// Less than 1 KiB; `None` removes the key.
    pub value: Option<Vec<u8>>,
}

/// An ordered map of small values that survives a power cut after [`Self::flush`].
pub trait Catalogue {
    /// The value of a key.
    ///
    /// # Errors
    /// [`CatalogueError`].
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, CatalogueError>;

    /// Makes all changes or none, at once; durable only after [`Self::flush`].
    ///
    /// # Errors
    /// [`CatalogueError`].
    fn apply(&self, changes: &[Change]) -> Result<(), CatalogueError>;

    /// Everything applied before is durable on return.
    ///
    /// # Errors
    /// [`CatalogueError`]; a second call proves nothing.
    fn flush(&self) -> Result<(), CatalogueError>;

    /// Visits all pairs whose key begins with `prefix`, in the order of the keys.
    ///
    /// # Errors
    /// [`CatalogueError`].
    fn scan(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), CatalogueError>;

    /// Removes everything.
    ///
    /// # Errors
    /// [`CatalogueError`].
    fn clear(&self) -> Result<(), CatalogueError>;
}

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Locator {
    /// In which segment.
    pub segment: u64,
    /// At which byte, a multiple of 4 KiB.
    pub offset: u64,
    /// How long it is, padding included; a multiple of 4 KiB.
    pub bytes: u32,
}

impl Locator {
    /// The first byte after the record.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.bytes))
    }
}

/// Whether a record was found damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing is known against it.
    Sound,
    /// A read found it damaged: it no longer counts as held, and its bytes are kept as they are.
    Quarantined,
}

/// What the catalogue knows of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Where its record lies.
    pub locator: Locator,
    /// The record's number; later records of the same chunk have higher ones.
    pub sequence: u64,
    /// The encoded header: decoding costs three point decompressions, and few callers need it.
    pub header: [u8; HEADER_BYTES],
    /// For whom the chunk is kept.
    pub account: Account,
    /// The lease's name.
    pub lease: LeaseNonce,
    /// What was promised.
    pub terms: LeaseTerms,
    /// Sound or quarantined.
    pub condition: Condition,
}

/// Length of an encoded [`Entry`].
pub const ENTRY_BYTES: usize = 8 + 8 + 4 + 8 + HEADER_BYTES + 32 + 16 + 12 + 1;

impl Entry {
    /// `segment u64 | offset u64 | bytes u32 | sequence u64 | header 137 | account 32 | lease 16 |
    /// terms 12 | condition u8 (0 sound, 1 quarantined)`: 226 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ENTRY_BYTES);
        out.u64(self.locator.segment).u64(self.locator.offset).u32(self.locator.bytes);
        out.u64(self.sequence).put(&self.header).put(self.account.as_bytes());
        out.put(self.lease.as_bytes()).put(&self.terms.encode());
        out.put(&[u8::from(self.condition == Condition::Quarantined)]);
        out
    }

    /// Reads [`Self::encode`] back; `None` where the length or the condition is wrong.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let locator =
            Locator { segment: fields.u64()?, offset: fields.u64()?, bytes: fields.u32()? };
        let entry = Self {
            locator,
            sequence: fields.u64()?,
            header: fields.take()?,
            account: Account::from_bytes(fields.take()?),
            lease: LeaseNonce::from_bytes(fields.take()?),
            terms: LeaseTerms::decode(&fields.take()?),
            condition: match fields.take::<1>()? {
                [0] => Condition::Sound,
                [1] => Condition::Quarantined,
                _ => return None,
            },
        };
        fields.0.is_empty().then_some(entry)
    }

    /// What a look-up tells.
    pub fn found(&self, released: bool) -> Option<Found> {
        let header = Header::decode(&self.header).ok()?;
        Some(Found::Chunk { header, sound: self.condition == Condition::Sound, released })
    }

    /// This entry's share of [`Position::fingerprint`].
    pub fn fingerprint(&self, id: &ChunkId) -> u64 {
        let mut hash = crc32fast::Hasher::new();
        hash.update(id.as_bytes());
        hash.update(&self.encode());
        spread(hash.finalize())
    }
}

/// Spreads over 64 bits, so that a sum of many does not lose the low bits' independence.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Up to where the catalogue reflects the log, and what it should then contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The segment that was written last.
    pub segment: u64,
    /// Its length then.
    pub offset: u64,
    /// The next record's number.
    pub sequence: u64,
    /// Of the store.
    pub epoch: StoreEpoch,
    /// Number of entries.
    pub entries: u64,
    /// Wrapping sum of the entries' fingerprints and the notes'.
    pub fingerprint: u64,
}

impl Position {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(56);
        out.u64(self.segment).u64(self.offset).u64(self.sequence).put(self.epoch.as_bytes());
        out.u64(self.entries).u64(self.fingerprint);
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let position = Self {
            segment: fields.u64()?,
            offset: fields.u64()?,
            sequence: fields.u64()?,
            epoch: StoreEpoch::from_bytes(fields.take()?),
            entries: fields.u64()?,
            fingerprint: fields.u64()?,
        };
        fields.0.is_empty().then_some(position)
    }
}

const CHUNK: u8 = b'c';
const POSITION: u8 = b'p';
const TOMBSTONES: u8 = b't';
const NEWER: u8 = b'n';
const SCRUB: u8 = b's';
const LEDGER: u8 = b'l';

impl Change {
    /// Sets or removes the entry of `id`.
    pub fn chunk(id: &ChunkId, entry: Option<&Entry>) -> Self {
        Self { key: chunk_key(id), value: entry.map(Entry::encode) }
    }

    /// Sets the position.
    pub fn position(position: &Position) -> Self {
        Self { key: vec![POSITION], value: Some(position.encode()) }
    }

    /// Sets how far the ledger is durable.
    pub(crate) fn ledger((generation, length): Durable) -> Self {
        let mut value = Vec::with_capacity(16);
        value.u64(generation).u64(length);
        Self { key: vec![LEDGER], value: Some(value) }
    }

    /// Sets or removes a note about two segments.
    pub fn note(note: Note, segment: u64, target: u64, count: Option<u64>) -> Self {
        let value = count.map(|count| count.to_le_bytes().to_vec());
        Self { key: note_key(note, segment, target), value }
    }
}

/// What one segment has to do with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// It holds this many tombstones of records there.
    Tombstones,
    /// It holds a newer record of a chunk that has an older one there.
    Newer,
}

impl Note {
    /// Both kinds.
    pub(crate) const ALL: [Self; 2] = [Self::Tombstones, Self::Newer];

    /// A note's share of [`Position::fingerprint`]: a lost one would let a segment with tombstones
    /// go before the records that they end.
    pub(crate) fn fingerprint(self, segment: u64, target: u64, count: u64) -> u64 {
        if planted::is_on(Bug::SumWithoutNotes) {
            return 0;
        }
        let mut hash = crc32fast::Hasher::new();
        hash.update(&note_key(self, segment, target));
        hash.update(&count.to_le_bytes());
        spread(hash.finalize())
    }

    fn code(self) -> u8 {
        match self {
            Self::Tombstones => TOMBSTONES,
            Self::Newer => NEWER,
        }
    }
}

fn chunk_key(id: &ChunkId) -> Vec<u8> {
    let mut key = Vec::with_capacity(33);
    key.put(&[CHUNK]).put(id.as_bytes());
    key
}

fn note_key(note: Note, segment: u64, target: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(17);
    key.put(&[note.code()]).put(&segment.to_be_bytes()).put(&target.to_be_bytes());
    key
}

/// The typed view of a catalogue, shared by the writer and the readers. Entries are wrapped on
/// their way in: a thief of the disk without the node's key learns ids and nothing of headers,
/// accounts and leases.
pub(crate) struct Index<C> {
    map: Arc<C>,
    key: Arc<WrapKey>,
}

impl<C> Clone for Index<C> {
    fn clone(&self) -> Self {
        Self { map: Arc::clone(&self.map), key: Arc::clone(&self.key) }
    }
}

impl<C: Catalogue> Index<C> {
    pub(crate) fn new(map: Arc<C>, key: Arc<WrapKey>) -> Self {
        Self { map, key }
    }

    pub(crate) fn get(&self, id: &ChunkId) -> Result<Option<Entry>, CatalogueError> {
        let value = self.map.get(&chunk_key(id))?;
        value.map(|value| self.open(&value).ok_or(CatalogueError::Malformed)).transpose()
    }

    /// See [`Catalogue::apply`].
    pub(crate) fn apply(&self, changes: &[Change]) -> Result<(), CatalogueError> {
        let wrap = |change: &Change| {
            let is_entry = change.key.first() == Some(&CHUNK);
            let wrapped = |value: &Vec<u8>| match is_entry {
                true => wrap_synthetic(&self.key, &change.key, value),
                false => value.clone(),
            };
            Change { key: change.key.clone(), value: change.value.as_ref().map(wrapped) }
        };
        self.map.apply(&changes.iter().map(wrap).collect::<Vec<_>>())
    }

    /// See [`Catalogue::flush`].
    pub(crate) fn flush(&self) -> Result<(), CatalogueError> {
        self.map.flush()
    }

    /// See [`Catalogue::clear`].
    pub(crate) fn clear(&self) -> Result<(), CatalogueError> {
        self.map.clear()
    }

    fn open(&self, value: &[u8]) -> Option<Entry> {
        Entry::decode(&unwrap(&self.key, value).ok()?)
    }

    pub(crate) fn position(&self) -> Result<Option<Position>, CatalogueError> {
        let value = self.map.get(&[POSITION])?;
        value.map(|value| Position::decode(&value).ok_or(CatalogueError::Malformed)).transpose()
    }

    /// How far the ledger was durable; `None` where that is not known.
    pub(crate) fn ledger(&self) -> Result<Option<Durable>, CatalogueError> {
        let value = self.map.get(&[LEDGER])?;
        Ok(value.and_then(|value| {
            let mut fields = Fields(&value);
            Some((fields.u64()?, fields.u64()?))
        }))
    }

    pub(crate) fn cursor(&self) -> Result<Option<Cursor>, CatalogueError> {
        let value = self.map.get(&[SCRUB])?;
        Ok(value.and_then(|value| {
            let mut fields = Fields(&value);
            Some(Cursor { segment: fields.u64()?, offset: fields.u64()? })
        }))
    }

    pub(crate) fn keep_cursor(&self, cursor: Cursor) -> Result<(), CatalogueError> {
        let mut value = Vec::with_capacity(16);
        value.u64(cursor.segment).u64(cursor.offset);
        self.map.apply(&[Change { key: vec![SCRUB], value: Some(value) }])
    }

    /// Whether it names no chunk and notes nothing about segments.
    pub(crate) fn is_empty(&self) -> Result<bool, CatalogueError> {
        let mut empty = true;
        for first in [CHUNK].into_iter().chain(Note::ALL.map(Note::code)) {
            self.map.scan(&[first], &mut |_, _| empty = false)?;
        }
        Ok(empty)
    }

    pub(crate) fn for_each_chunk(
        &self,
        visit: &mut dyn FnMut(ChunkId, Entry),
    ) -> Result<(), CatalogueError> {
        self.for_chunks_below(&[], visit)
    }

    /// Visits the chunks whose ids begin with `prefix`, in the order of their ids.
    pub(crate) fn for_chunks_below(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(ChunkId, Entry),
    ) -> Result<(), CatalogueError> {
        let mut malformed = false;
        let mut below = Vec::with_capacity(33);
        below.put(&[CHUNK]).put(prefix);
        self.map.scan(&below, &mut |key, value| {
            let id = key.get(1..).and_then(ChunkId::from_slice);
            match (id, self.open(value)) {
                (Some(id), Some(entry)) => visit(id, entry),
                _ => malformed = true,
            }
        })?;
        if malformed { Err(CatalogueError::Malformed) } else { Ok(()) }
    }

    /// Visits every (segment, target, count) that [`Change::note`] noted.
    pub(crate) fn for_each_note(
        &self,
        note: Note,
        visit: &mut dyn FnMut(u64, u64, u64),
    ) -> Result<(), CatalogueError> {
        let mut malformed = false;
        self.map.scan(&[note.code()], &mut |key, value| {
            let (mut fields, mut value) = (Fields(key.get(1..).unwrap_or_default()), Fields(value));
            match (fields.take(), fields.take(), value.u64()) {
                (Some(segment), Some(target), Some(count)) if fields.0.is_empty() => {
                    visit(u64::from_be_bytes(segment), u64::from_be_bytes(target), count);
                }
                _ => malformed = true,
            }
        })?;
        if malformed { Err(CatalogueError::Malformed) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            locator: Locator { segment: 3, offset: 8192, bytes: 4096 },
            sequence: 17,
            header: [7; HEADER_BYTES],
            account: Account::from_bytes([1; 32]),
            lease: LeaseNonce::from_bytes([2; 16]),
            terms: LeaseTerms::default(),
            condition: Condition::Quarantined,
        }
    }

    #[test]
    fn an_entry_reads_back_and_stays_small() {
        let bytes = entry().encode();
        assert_eq!(bytes.len(), ENTRY_BYTES);
        assert_eq!(Entry::decode(&bytes), Some(entry()));
        assert_eq!(Entry::decode(&bytes[1..]), None);
    }

    #[test]
    fn a_position_reads_back() {
        let position = Position {
            segment: 1,
            offset: 2,
            sequence: 3,
            epoch: StoreEpoch::from_bytes([4; 16]),
            entries: 5,
            fingerprint: 6,
        };
        assert_eq!(Position::decode(&position.encode()), Some(position));
    }

    #[test]
    fn fingerprints_depend_on_the_id_and_on_the_entry() {
        let id = ChunkId::from_bytes([1; 32]);
        let other = Entry { sequence: 18, ..entry() };
        assert_ne!(entry().fingerprint(&id), other.fingerprint(&id));
        assert_ne!(entry().fingerprint(&id), entry().fingerprint(&ChunkId::from_bytes([2; 32])));
    }
}
