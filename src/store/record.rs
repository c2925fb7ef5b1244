//! The layout of a record: what the segments are made of. Pure bytes, no I/O.
//!
//! ```text
//! record  = prefix 64 | box 1 | box 2 | box 3 | zeros up to a multiple of 4 KiB
//! prefix  = "qlstore\0" 8 | version u8 | kind u8 | zeros 2 | box lengths 3 x u32 | segment u64
//!           | offset u64 | sequence u64 | durable u64 | body CRC-32 u32 | head CRC-32 u32
//! ```
//! Integers are little-endian. The head CRC covers the prefix before it and box 1; the body CRC
//! all that follows box 1, zeros included. Prefix and box 1 fit in one 4 KiB block, so a scan
//! reads one block a record. A record names its own place: one that was written elsewhere, or
//! is older than what it should be, is not taken for the right one. `durable` is the length of
//! the segment that was synced when the record was written: what lies below it was never torn,
//! only damaged.
//!
//! Each box that is not empty is a secretbox under the node's wrap key (nonce 24, tag 16 in
//! front). The nonce of box 1 is random; those of boxes 2 and 3 differ from it in their last byte,
//! which is higher by 1 and 2 (mod 256). A box that opens under a nonce is the one that was wrapped
//! with it, so boxes of two records that somebody put together do not open: what is in box 3 are
//! the bytes whose hash was compared with the header in box 1 before they were wrapped.
//!
//! ```text
//! kind 1 segment    box 1: layout u8, epoch 16
//! kind 2 chunk      box 1: id 32, header 137, proof nonce 32, proof 64, account 32, lease 16,
//!                          terms 12, epoch 16, BLAKE3(tags) 32
//!                   box 2: audit tags
//!                   box 3: the owner's sealed bytes
//! kind 3 tombstone  box 1: id 32, the record that ends here: segment u64, offset u64,
//!                          sequence u64, epoch 16
//! kind 4 footer     box 1: epoch 16, number of items u32
//!                   box 3: items, one for each chunk and tombstone of the segment
//! kind 5 trailer    box 1: offset of the footer u64, epoch 16
//! kind 8 void       to be skipped; no box is really there, and the body CRC is 0
//! ```
//! A tombstone ends the record that it names and older ones of the same chunk, not newer ones.
//! Chunks and tombstones may be moved to a later place, boxes and all; a chunk's record then has a
//! new number.
//! Kinds 6 (lease) and 7 (head) are reserved.

use super::index::{Condition, Entry, Locator};
use crate::core::effect::StoredChunk;
use crate::core::types::{
    Account, CHUNK_SEALED_BYTES_MAX, ChunkId, LeaseNonce, LeaseTerms, StoreEpoch,
};
use crate::crypto::bulk_hash;
use crate::crypto::header::HEADER_BYTES;
use crate::crypto::keys::{WrapKey, random};
use crate::crypto::ownership::PROOF_BYTES;
use crate::crypto::seal::{NONCE_BYTES, SEAL_OVERHEAD_BYTES, unwrap, wrap_into};
use rand::CryptoRng;

/// Records begin at multiples of this, and one block holds a record's prefix and first box.
pub const BLOCK_BYTES: usize = 4096;

/// Length of the clear prefix.
pub const PREFIX_BYTES: usize = 64;

/// The only version of the records' layout.
pub const LAYOUT_VERSION: u8 = 1;

/// The most audit tags that a chunk may carry.
pub const TAGS_BYTES_MAX: usize = 1 << 20;

/// Longer than any record can be: a length above it is damage.
pub const RECORD_BYTES_MAX: usize = CHUNK_SEALED_BYTES_MAX as usize + TAGS_BYTES_MAX + (16 << 10);

const MAGIC: &[u8; 8] = b"qlstore\0";

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The first record of each segment.
    Segment,
    /// A chunk.
    Chunk,
    /// The end of a chunk.
    Tombstone,
    /// The index of a closed segment.
    Footer,
    /// The last block of a closed segment; says where the footer begins.
    Trailer,
    /// What a power cut left of an unfinished write.
    Void,
    /// A kind that this version does not know; it is left alone.
    Unknown(u8),
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Segment => 1,
            Self::Chunk => 2,
            Self::Tombstone => 3,
            Self::Footer => 4,
            Self::Trailer => 5,
            Self::Void => 8,
            Self::Unknown(code) => code,
        }
    }

    fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Segment,
            2 => Self::Chunk,
            3 => Self::Tombstone,
            4 => Self::Footer,
            5 => Self::Trailer,
            8 => Self::Void,
            code => Self::Unknown(code),
        }
    }
}

/// Where and when a record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// In which segment.
    pub segment: u64,
    /// At which byte.
    pub offset: u64,
    /// The record's number.
    pub sequence: u64,
    /// The length of the segment that was synced by then.
    pub durable: u64,
}

/// A prefix that was read and whose checksum held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// What the record is.
    pub kind: Kind,
    /// Lengths of the three boxes.
    pub boxes: [u32; 3],
    /// Where it belongs.
    pub place: Place,
    /// CRC-32 of all that follows box 1.
    pub body_crc: u32,
}

/// Why a block is not the head of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadError {
    /// Not one, or damaged.
    Damaged,
    /// Of a later layout.
    Newer(u8),
}

impl Prefix {
    /// Reads the head of a record from its first block; checks the checksum and the lengths.
    ///
    /// # Errors
    /// [`HeadError`], whatever the bytes.
    pub fn parse(block: &[u8]) -> Result<Self, HeadError> {
        Self::parse_checked(block).ok_or(HeadError::Damaged)?
    }

    fn parse_checked(block: &[u8]) -> Option<Result<Self, HeadError>> {
        let mut fields = Fields(block);
        if fields.take::<8>()? != *MAGIC {
            return None;
        }
        let [version, kind] = fields.take::<2>()?;
        let [0, 0] = fields.take::<2>()? else { return None };
        let prefix = Self {
            kind: Kind::from_code(kind),
            boxes: [fields.u32()?, fields.u32()?, fields.u32()?],
            place: Place {
                segment: fields.u64()?,
                offset: fields.u64()?,
                sequence: fields.u64()?,
                durable: fields.u64()?,
            },
            body_crc: fields.u32()?,
        };
        let crc = fields.u32()?;
        let [box_1, _, _] = prefix.boxes;
        let box_1 = fields.0.get(..usize::try_from(box_1).ok()?)?;
        if crc != head_crc(block.get(..PREFIX_BYTES - 4)?, box_1) {
            return None;
        }
        if version > LAYOUT_VERSION {
            return Some(Err(HeadError::Newer(version)));
        }
        let usual = version == LAYOUT_VERSION && prefix.record_bytes() <= RECORD_BYTES_MAX;
        usual.then_some(Ok(prefix))
    }

    /// Where the three boxes lie in the record.
    fn ranges(&self) -> [std::ops::Range<usize>; 3] {
        let [one, two, three] = self.boxes.map(|bytes| bytes as usize);
        let end_1 = PREFIX_BYTES.saturating_add(one);
        let end_2 = end_1.saturating_add(two);
        [PREFIX_BYTES..end_1, end_1..end_2, end_2..end_2.saturating_add(three)]
    }

    /// Length of the record, padding included.
    pub fn record_bytes(&self) -> usize {
        let [.., last] = self.ranges();
        last.end.checked_next_multiple_of(BLOCK_BYTES).unwrap_or(usize::MAX)
    }

    /// Where the record lies.
    pub fn locator(&self) -> Locator {
        Locator {
            segment: self.place.segment,
            offset: self.place.offset,
            bytes: u32::try_from(self.record_bytes()).unwrap_or(u32::MAX),
        }
    }

    /// Box `number` (0 to 2) of `record`, as it lies there.
    pub fn wrapped<'a>(&self, record: &'a [u8], number: usize) -> Option<&'a [u8]> {
        record.get(self.ranges().get(number)?.clone())
    }

    /// Box `number` (0 to 2) of `record`, opened; empty where the box is. `None` where it is not as
    /// it was wrapped, or not in the record that it was wrapped for.
    pub fn open(&self, record: &[u8], number: usize, key: &WrapKey) -> Option<Vec<u8>> {
        let wrapped = self.wrapped(record, number)?;
        if wrapped.is_empty() {
            return Some(Vec::new());
        }
        let first = self.wrapped(record, 0)?.first_chunk()?;
        let belongs = wrapped.starts_with(&box_nonce(first, number));
        belongs.then(|| unwrap(key, wrapped).ok()).flatten()
    }

    /// Whether all that follows box 1 in `record` is as it was written.
    pub fn body_holds(&self, record: &[u8]) -> bool {
        let [_, two, _] = self.ranges();
        let body = record.get(two.start..self.record_bytes());
        record.len() == self.record_bytes()
            && body.is_some_and(|body| crc32fast::hash(body) == self.body_crc)
    }

    /// Writes the prefix over the start of `record`, whose boxes are in place.
    fn seal(&self, record: &mut [u8]) {
        let mut head = Vec::with_capacity(PREFIX_BYTES);
        head.put(MAGIC).put(&[LAYOUT_VERSION, self.kind.code(), 0, 0]);
        self.boxes.iter().for_each(|bytes| {
            head.u32(*bytes);
        });
        let place = self.place;
        head.u64(place.segment).u64(place.offset).u64(place.sequence).u64(place.durable);
        head.u32(self.body_crc);
        let crc = head_crc(&head, self.wrapped(record, 0).unwrap_or_default());
        head.u32(crc);
        record.iter_mut().zip(head).for_each(|(to, from)| *to = from);
    }
}

/// The nonce of box `number` (0 to 2) in a record whose box 0 has the nonce `first`.
fn box_nonce(first: &[u8; NONCE_BYTES], number: usize) -> [u8; NONCE_BYTES] {
    let mut nonce = *first;
    if let Some(last) = nonce.last_mut() {
        *last = last.wrapping_add(u8::try_from(number).unwrap_or(u8::MAX));
    }
    nonce
}

fn head_crc(prefix: &[u8], box_1: &[u8]) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(prefix);
    hash.update(box_1);
    hash.finalize()
}

/// A record before it is wrapped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draft<'a> {
    pub(crate) kind: Kind,
    /// Plaintexts of the boxes; an empty one makes no box.
    pub(crate) boxes: [&'a [u8]; 3],
}

impl Draft<'_> {
    fn lengths(&self) -> [u32; 3] {
        self.boxes.map(|plain| match plain.len() {
            0 => 0,
            bytes => u32::try_from(bytes.saturating_add(SEAL_OVERHEAD_BYTES)).unwrap_or(u32::MAX),
        })
    }

    /// How long the record will be.
    pub(crate) fn record_bytes(&self) -> usize {
        self.prefix(Place { segment: 0, offset: 0, sequence: 0, durable: 0 }).record_bytes()
    }

    fn prefix(&self, place: Place) -> Prefix {
        Prefix { kind: self.kind, boxes: self.lengths(), place, body_crc: 0 }
    }

    /// Wraps the boxes into `buffer`, whose old content does not matter; returns the record.
    pub(crate) fn write<'b>(
        &self,
        buffer: &'b mut Vec<u8>,
        place: Place,
        key: &WrapKey,
        rng: &mut impl CryptoRng,
    ) -> &'b [u8] {
        let mut prefix = self.prefix(place);
        let bytes = prefix.record_bytes();
        if buffer.len() < bytes {
            buffer.resize(bytes, 0);
        }
        let (record, _) = buffer.split_at_mut(bytes);
        let first = random(rng);
        for (number, (range, plain)) in prefix.ranges().into_iter().zip(self.boxes).enumerate() {
            if let Some(out) = record.get_mut(range).filter(|out| !out.is_empty()) {
                wrap_into(key, box_nonce(&first, number), plain, out);
            }
        }
        let [_, two, three] = prefix.ranges();
        if let Some(padding) = record.get_mut(three.end..) {
            padding.fill(0);
        }
        prefix.body_crc = crc32fast::hash(record.get(two.start..).unwrap_or_default());
        prefix.seal(record);
        record
    }
}

/// The longest void record; longer ranges take several.
pub(crate) const VOID_BYTES_MAX: u64 = 1 << 20;

/// The first block of a void record of `length` bytes, a multiple of [`BLOCK_BYTES`] of at most
/// [`VOID_BYTES_MAX`].
pub(crate) fn void_head(place: Place, length: u64) -> Vec<u8> {
    let rest = u32::try_from(length.min(VOID_BYTES_MAX)).unwrap_or(0);
    let boxes = [0, 0, rest.saturating_sub(PREFIX_BYTES as u32)];
    let mut block = vec![0; BLOCK_BYTES];
    Prefix { kind: Kind::Void, boxes, place, body_crc: 0 }.seal(&mut block);
    block
}

/// Moves a whole record to another place: its boxes stay as they are.
pub fn relocate(record: &mut [u8], prefix: &Prefix, place: Place) {
    Prefix { place, ..*prefix }.seal(record);
}

/// The first box of a chunk's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkHead {
    /// The chunk.
    pub id: ChunkId,
    /// Its encoded header.
    pub header: [u8; HEADER_BYTES],
    /// Nonce of the store proof.
    pub proof_nonce: [u8; 32],
    /// The owner's store proof.
    pub proof: [u8; PROOF_BYTES],
    /// For whom the chunk is kept.
    pub account: Account,
    /// The lease's name.
    pub lease: LeaseNonce,
    /// What was promised.
    pub terms: LeaseTerms,
    /// Of the store that wrote it.
    pub epoch: StoreEpoch,
    /// BLAKE3 of the audit tags.
    pub tags_hash: [u8; 32],
}

impl ChunkHead {
    pub(crate) fn new(chunk: &StoredChunk, lease: LeaseNonce, epoch: StoreEpoch) -> Self {
        Self {
            id: chunk.id(),
            header: chunk.header.encode(),
            proof_nonce: chunk.proof_nonce,
            proof: chunk.proof,
            account: chunk.account,
            lease,
            terms: chunk.terms,
            epoch,
            tags_hash: bulk_hash(&chunk.tags),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(373);
        out.put(self.id.as_bytes()).put(&self.header).put(&self.proof_nonce).put(&self.proof);
        out.put(self.account.as_bytes()).put(self.lease.as_bytes()).put(&self.terms.encode());
        out.put(self.epoch.as_bytes()).put(&self.tags_hash);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let head = Self {
            id: ChunkId::from_bytes(fields.take()?),
            header: fields.take()?,
            proof_nonce: fields.take()?,
            proof: fields.take()?,
            account: Account::from_bytes(fields.take()?),
            lease: LeaseNonce::from_bytes(fields.take()?),
            terms: LeaseTerms::decode(&fields.take()?),
            epoch: StoreEpoch::from_bytes(fields.take()?),
            tags_hash: fields.take()?,
        };
        fields.0.is_empty().then_some(head)
    }

    pub(crate) fn entry(&self, locator: Locator, sequence: u64) -> Entry {
        Entry {
            locator,
            sequence,
            header: self.header,
            account: self.account,
            lease: self.lease,
            terms: self.terms,
            condition: Condition::Sound,
        }
    }
}

/// The first box of a tombstone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tombstone {
    /// Which chunk ends here.
    pub id: ChunkId,
    /// The segment of the record that dies.
    pub segment: u64,
    /// Its offset there.
    pub offset: u64,
    /// Its number.
    pub sequence: u64,
    /// Of the store.
    pub epoch: StoreEpoch,
}

impl Tombstone {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(72);
        out.put(self.id.as_bytes()).u64(self.segment).u64(self.offset).u64(self.sequence);
        out.put(self.epoch.as_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let tombstone = Self {
            id: ChunkId::from_bytes(fields.take()?),
            segment: fields.u64()?,
            offset: fields.u64()?,
            sequence: fields.u64()?,
            epoch: StoreEpoch::from_bytes(fields.take()?),
        };
        fields.0.is_empty().then_some(tombstone)
    }
}

/// The first box of a segment's first record.
pub(crate) fn encode_segment(epoch: &StoreEpoch) -> Vec<u8> {
    let mut out = Vec::with_capacity(17);
    out.put(&[LAYOUT_VERSION]).put(epoch.as_bytes());
    out
}

/// The epoch in [`encode_segment`].
pub(crate) fn decode_segment(bytes: &[u8]) -> Option<StoreEpoch> {
    let mut fields = Fields(bytes);
    let [_layout] = fields.take::<1>()?;
    let epoch = StoreEpoch::from_bytes(fields.take()?);
    fields.0.is_empty().then_some(epoch)
}

/// Takes fixed-size fields off the front of a slice.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

/// Puts fields behind each other.
pub(crate) trait FieldsMut {
    fn put(&mut self, bytes: &[u8]) -> &mut Self;

    fn u32(&mut self, value: u32) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.put(&value.to_le_bytes())
    }
}

impl FieldsMut for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.extend_from_slice(bytes);
        self
    }
}
