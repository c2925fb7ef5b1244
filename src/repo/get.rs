//! Getting a file: a capability in, its bytes out. Pure, but for [`file`], which writes the disk.
//!
//! The listings are walked lazily, one open listing a level, so memory does not grow with the file:
//! at most 2.4 MB of listings and [`GetLimits`] of chunks. Chunks come in any order and are written
//! at their offsets.
//!
//! What is checked of each chunk, in this order: the source vouches that the bytes match the id;
//! the header is that of the id; **Y in the header is y*G of the key in hand, before anything is
//! opened** (secretbox alone does not commit to a key); the seal opens; the frame is exact; the
//! plaintext has the kind and the length that the listing said. The chunk key cannot be recomputed
//! by a reader, who has no dedup key: id, Y and the seal bind the plaintext to the listing.

#[cfg(feature = "node")]
pub mod file;
#[cfg(feature = "node")]
mod part;

use super::frame::{self, FrameError, Kind, PLAINTEXT_BYTES_MAX};
use super::listing::{ChunkRef, Listing, ListingError};
use crate::core::types::{ChunkId, Locality};
use crate::crypto::capability::Capability;
use crate::crypto::header::Header;
use crate::crypto::keys::{ChunkKey, ChunkSecret};
use crate::crypto::seal;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// One chunk that is needed now.
#[derive(Debug)]
pub struct Wanted {
    /// Comes back in the answer; unique within one get.
    pub index: u64,
    /// The chunk.
    pub id: ChunkId,
    /// Where its topics are.
    pub locality: Locality,
    /// y: the right to fetch it.
    pub read: ChunkSecret,
}

/// One chunk that came.
#[derive(Debug)]
pub struct Fetched {
    /// Of the [`Wanted`].
    pub index: u64,
    /// What the id certifies.
    pub header: Header,
    /// The sealed bytes; the source has checked them against the id.
    pub sealed: Bytes,
}

/// Why a chunk did not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchError {
    /// Nobody reachable served this chunk.
    Unavailable {
        /// Of the [`Wanted`].
        index: u64,
        /// In words for the user: who was asked, what they said.
        why: String,
    },
    /// Nothing comes any more.
    Closed,
}

/// Where chunks come from: in the node the owner role.
pub trait ChunkSource {
    /// Asks for one chunk; never blocks. At most [`GetLimits`] are asked for and not answered.
    fn request(&mut self, wanted: Wanted);

    /// The next answer to any request, in any order; blocks until there is one.
    ///
    /// # Errors
    /// [`FetchError`]; the get then ends.
    fn next(&mut self) -> Result<Fetched, FetchError>;
}

/// Where the file's bytes go.
pub trait Output {
    /// The file is known now: its root and its length. Called once, before all else.
    ///
    /// # Errors
    /// [`OutputError`]; the get then ends.
    fn begin(&mut self, root: &ChunkId, total: u64) -> Result<(), OutputError>;

    /// Whether all of `range` is there from an earlier run.
    fn holds(&self, range: &Range<u64>) -> bool;

    /// Writes verified bytes at `offset`.
    ///
    /// # Errors
    /// [`OutputError`]; the get then ends.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), OutputError>;
}

/// Why the output does not take the file.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// There is something of that name, and replacing it was not asked for.
    #[error("{} exists", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// Another get writes it.
    #[error("another get writes {}", path.display())]
    Busy {
        /// Its partial file.
        path: PathBuf,
    },
    /// The partial file is a link, belongs to somebody else or is no file.
    #[error("{} is not a partial file of ours", path.display())]
    NotOurs {
        /// Which file.
        path: PathBuf,
    },
    /// The disk has no room for the file.
    #[error("{} needs {needed} bytes, {available} are free", path.display())]
    Space {
        /// Which file.
        path: PathBuf,
        /// Bytes that the rest of the file needs.
        needed: u64,
        /// Bytes that are free.
        available: u64,
    },
    /// The system says no.
    #[error("cannot write {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// How much is asked for at once.
#[derive(Debug, Clone, Copy)]
pub struct GetLimits {
    /// Chunks that were asked for and have not come.
    pub chunks: usize,
    /// Their plaintext bytes.
    pub bytes: u64,
}

impl Default for GetLimits {
    /// 32 chunks, 48 MiB.
    fn default() -> Self {
        Self { chunks: 32, bytes: 48 << 20 }
    }
}

/// How far a get has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GetProgress {
    /// Bytes of the file that are written, those of an earlier run included.
    pub bytes: u64,
    /// Bytes of the file in all.
    pub total: u64,
    /// Chunks that came in this run, listings included.
    pub chunks: u64,
    /// Bytes that an earlier run had written.
    pub resumed_bytes: u64,
}

/// What is wrong with a chunk whose bytes match its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The header is not that of the id.
    #[error("the header is not that of the chunk's id")]
    WrongHeader,
    /// Y is not y*G of the key in hand, or the seal does not open under it.
    #[error("the chunk does not open under the key that names it")]
    Seal,
    /// See [`FrameError`].
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A listing where a piece of the file should be, or the other way round.
    #[error("the chunk is of another kind than it should be")]
    Kind,
    /// Not as long as the listing says.
    #[error("the chunk holds {found} bytes, its listing says {declared}")]
    Length {
        /// As the listing says.
        declared: u64,
        /// As it is.
        found: u64,
    },
    /// See [`ListingError`].
    #[error(transparent)]
    Listing(#[from] ListingError),
}

/// Which part of the file a chunk stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The root, without which nothing of the file is known.
    Root,
    /// A listing of these bytes of the file.
    Listing(Range<u64>),
    /// These bytes of the file.
    Piece(Range<u64>),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("the root"),
            Self::Listing(range) => write!(f, "the list of bytes {}..{}", range.start, range.end),
            Self::Piece(range) => write!(f, "bytes {}..{}", range.start, range.end),
        }
    }
}

/// Why the file is not complete.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// A chunk is not what the listing says.
    #[error("{part} of the file: {damage} (chunk {id})")]
    Damaged {
        /// Which part of the file.
        part: Part,
        /// The chunk.
        id: ChunkId,
        /// What is wrong with it.
        damage: Damage,
    },
    /// Nobody served a chunk.
    #[error("{part} of the file cannot be fetched: {why} (chunk {id})")]
    Unavailable {
        /// Which part of the file.
        part: Part,
        /// The chunk.
        id: ChunkId,
        /// In words: who was asked, what they said.
        why: String,
    },
    /// See [`OutputError`].
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The source gives nothing any more.
    #[error("the get was stopped: no chunks come any more")]
    Closed,
    /// It was cancelled.
    #[error("the get was cancelled")]
    Cancelled,
}

/// Fetches and writes everything below `capability` that `output` does not hold already. Runs on
/// the caller's thread, and blocks.
///
/// # Errors
/// [`GetError`]: the first fault ends it. What was written is right, and stays.
pub fn get_chunks(
    capability: &Capability,
    source: &mut impl ChunkSource,
    output: &mut impl Output,
    limits: GetLimits,
    cancel: &AtomicBool,
    mut progress: impl FnMut(GetProgress),
) -> Result<GetProgress, GetError> {
    let mut window = Window::new(source, limits);
    window.request_root(capability);
    let (asked, plaintext) = window.next()?;
    let root = Listing::root(plaintext).map_err(|error| asked.damaged(error.into()))?;
    let mut done = GetProgress { chunks: 1, total: root.total(), ..GetProgress::default() };
    output.begin(&capability.id, done.total)?;
    let mut walk = Walk::new(root);
    loop {
        while window.has_room() {
            let Some(step) = walk.next() else {
                break;
            };
            if output.holds(&step.range) {
                done.bytes += step.entry.bytes;
                done.resumed_bytes += step.entry.bytes;
            } else {
                window.request(step);
            }
        }
        progress(done);
        if window.pending.is_empty() {
            return Ok(done);
        }
        if cancel.load(Ordering::Relaxed) {
            return Err(GetError::Cancelled);
        }
        let (asked, plaintext) = window.next()?;
        done.chunks += 1;
        if let Part::Piece(range) = &asked.part {
            output.write(range.start, &plaintext)?;
            done.bytes += asked.bytes;
        } else {
            let listing = Listing::below(plaintext, asked.level, asked.bytes);
            walk.enter(listing.map_err(|error| asked.damaged(error.into()))?);
        }
    }
}

/// The listings on the way to the next piece, the root first.
struct Walk {
    open: Vec<Listing>,
    /// Where in the file the next entry begins.
    offset: u64,
}

/// The next entry of the innermost listing.
struct Step {
    entry: ChunkRef,
    range: Range<u64>,
    /// Of the listing that names the entry.
    level: u8,
}

impl Walk {
    fn new(root: Listing) -> Self {
        Self { open: vec![root], offset: 0 }
    }

    fn next(&mut self) -> Option<Step> {
        loop {
            let innermost = self.open.last_mut()?;
            let level = innermost.level();
            if let Some(entry) = innermost.next() {
                let start = self.offset;
                // Cannot overflow: each listing's sum was checked when it was read.
                self.offset += entry.bytes;
                return Some(Step { entry, range: start..self.offset, level });
            }
            self.open.pop();
        }
    }

    /// Goes down into the listing that the last step named, which has as many bytes as it said.
    fn enter(&mut self, listing: Listing) {
        self.offset -= listing.total();
        self.open.push(listing);
    }
}

/// A chunk that was asked for.
struct Asked {
    part: Part,
    id: ChunkId,
    ck: ChunkKey,
    /// Bytes of the file in it or below it; not known of the root.
    bytes: u64,
    /// Of the listing that names it; of no meaning for the root.
    level: u8,
}

impl Asked {
    fn damaged(&self, damage: Damage) -> GetError {
        GetError::Damaged { part: self.part.clone(), id: self.id, damage }
    }

    /// The plaintext, after all checks of the module's documentation.
    fn open(&self, fetched: &Fetched) -> Result<Bytes, Damage> {
        let Fetched { header, sealed, .. } = fetched;
        if header.id() != self.id || u64::from(header.sealed_bytes) != sealed.len() as u64 {
            return Err(Damage::WrongHeader);
        }
        let opened = seal::open(&self.ck, header, sealed).map_err(|_| Damage::Seal)?;
        let frame = frame::decode(opened)?;
        let piece = matches!(self.part, Part::Piece(_));
        if frame.kind != if piece { Kind::File } else { Kind::Listing } {
            return Err(Damage::Kind);
        }
        let found = frame.plaintext.len() as u64;
        if piece && found != self.bytes {
            return Err(Damage::Length { declared: self.bytes, found });
        }
        Ok(frame.plaintext)
    }
}

/// What was asked for and has not come.
struct Window<'a, S> {
    source: &'a mut S,
    limits: GetLimits,
    pending: BTreeMap<u64, Asked>,
    /// Plaintext bytes of the pending pieces.
    bytes: u64,
    /// A listing is pending: nothing behind it can be asked for before it comes.
    listing: bool,
    next_index: u64,
}

impl<'a, S: ChunkSource> Window<'a, S> {
    fn new(source: &'a mut S, limits: GetLimits) -> Self {
        Self { source, limits, pending: BTreeMap::new(), bytes: 0, listing: false, next_index: 0 }
    }

    fn has_room(&self) -> bool {
        let fits = self.bytes.saturating_add(PLAINTEXT_BYTES_MAX as u64) <= self.limits.bytes;
        let room = fits && self.pending.len() < self.limits.chunks;
        !self.listing && (room || self.pending.is_empty())
    }

    fn request_root(&mut self, capability: &Capability) {
        let Capability { id, locality, ck } = capability;
        self.ask(Part::Root, *id, *locality, ck.duplicate(), 0, 0);
    }

    fn request(&mut self, step: Step) {
        let ChunkRef { ck, id, locality, bytes } = step.entry;
        if step.level == 0 {
            self.bytes += bytes;
            self.ask(Part::Piece(step.range), id, locality, ck, bytes, step.level);
        } else {
            self.listing = true;
            self.ask(Part::Listing(step.range), id, locality, ck, bytes, step.level);
        }
    }

    fn ask(
        &mut self,
        part: Part,
        id: ChunkId,
        locality: Locality,
        ck: ChunkKey,
        bytes: u64,
        level: u8,
    ) {
        let index = self.next_index;
        self.next_index += 1;
        let read = ck.read_secret();
        self.pending.insert(index, Asked { part, id, ck, bytes, level });
        self.source.request(Wanted { index, id, locality, read });
    }

    /// The next chunk that comes, checked and opened.
    fn next(&mut self) -> Result<(Asked, Bytes), GetError> {
        loop {
            match self.source.next() {
                Ok(fetched) => {
                    // What nobody asked for, or twice, is of no use.
                    let Some(asked) = self.pending.remove(&fetched.index) else {
                        continue;
                    };
                    match asked.part {
                        Part::Piece(_) => self.bytes -= asked.bytes,
                        Part::Root | Part::Listing(_) => self.listing = false,
                    }
                    let plaintext = asked.open(&fetched).map_err(|damage| asked.damaged(damage))?;
                    return Ok((asked, plaintext));
                }
                Err(FetchError::Unavailable { index, why }) => {
                    let Some(asked) = self.pending.remove(&index) else {
                        continue;
                    };
                    return Err(GetError::Unavailable { part: asked.part, id: asked.id, why });
                }
                Err(FetchError::Closed) => return Err(GetError::Closed),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Memory, Mesh, NEVER, noise, owner};
    use super::super::frame::FrameEncoder;
    use super::super::listing::FILE_BYTES_MAX;
    use super::*;
    use crate::crypto::keys::OwnerKeys;
    use crate::crypto::seal::SealedChunk;
    use proptest::prelude::*;

    fn get(capability: &Capability, mesh: &mut Mesh) -> (Result<GetProgress, GetError>, Memory) {
        let mut memory = Memory::default();
        let limits = GetLimits::default();
        let outcome = get_chunks(capability, mesh, &mut memory, limits, &NEVER, |_| {});
        (outcome, memory)
    }

    /// Stores any plaintext as a chunk of any kind.
    fn plant(mesh: &mut Mesh, keys: &OwnerKeys, kind: Kind, plaintext: &[u8]) -> Capability {
        let ck = ChunkKey::derive(&keys.dedup, 0, kind as u8, plaintext);
        let mut encoder = FrameEncoder::new();
        let frame = encoder.encode(kind, plaintext).unwrap();
        let id = mesh.insert(&SealedChunk::new(keys, &ck, Locality(0), frame));
        Capability { id, locality: Locality(0), ck }
    }

    fn entry(chunk: &Capability, bytes: u64) -> Vec<u8> {
        let locality = chunk.locality.0.to_le_bytes();
        let id = chunk.id.as_bytes().as_slice();
        [chunk.ck.expose().as_slice(), id, &locality, &bytes.to_le_bytes()].concat()
    }

    fn listing(level: u8, total: u64, entries: &[Vec<u8>]) -> Vec<u8> {
        let count = u32::try_from(entries.len()).unwrap().to_le_bytes();
        [&[1, level, 0, 0], count.as_slice(), &total.to_le_bytes(), &entries.concat()].concat()
    }

    fn damage(outcome: Result<GetProgress, GetError>) -> (Part, Damage) {
        match outcome {
            Err(GetError::Damaged { part, damage, .. }) => (part, damage),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn chunks_in_any_order_make_the_file() {
        let file = noise(200_000, 1);
        for backwards in [false, true] {
            let mut mesh = Mesh { backwards, ..Mesh::default() };
            let pieces: Vec<&[u8]> = file.chunks(1500).collect();
            let summary = mesh.put(&owner(1), &pieces);
            let (outcome, memory) = get(&summary.capability, &mut mesh);
            assert_eq!(memory.bytes, file);
            let done = outcome.unwrap();
            assert_eq!((done.bytes, done.total), (200_000, 200_000));
            assert_eq!(done.chunks, summary.chunks);
            assert_eq!(mesh.asked_most, GetLimits::default().chunks);
        }
    }

    #[test]
    fn an_empty_file_comes_back() {
        let mut mesh = Mesh::default();
        let summary = mesh.put(&owner(1), &[]);
        let (outcome, memory) = get(&summary.capability, &mut mesh);
        assert_eq!(outcome.unwrap().chunks, 1);
        assert!(memory.begun && memory.bytes.is_empty());
    }

    #[test]
    fn a_tree_of_listings_is_walked_and_the_window_kept() {
        let mut mesh = Mesh { backwards: true, ..Mesh::default() };
        let pieces: Vec<[u8; 2]> = (0..20_000_u16).map(u16::to_le_bytes).collect();
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_slice()).collect();
        let summary = mesh.put(&owner(1), &pieces);
        let (outcome, memory) = get(&summary.capability, &mut mesh);
        outcome.unwrap();
        assert_eq!(memory.bytes, pieces.concat());
        assert!(mesh.asked_most <= GetLimits::default().chunks);
    }

    #[test]
    fn the_window_is_bounded_in_bytes() {
        let mut mesh = Mesh::default();
        let longest = noise(PLAINTEXT_BYTES_MAX, 3);
        let pieces: Vec<Vec<u8>> = (1..=9).map(|cut| longest[cut..].to_vec()).collect();
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let summary = mesh.put(&owner(1), &pieces);
        let mut memory = Memory::default();
        let limits = GetLimits { chunks: 32, bytes: 13 << 20 };
        get_chunks(&summary.capability, &mut mesh, &mut memory, limits, &NEVER, |_| {}).unwrap();
        assert_eq!(mesh.asked_most, 3);
    }

    #[test]
    fn what_is_held_is_not_fetched_again() {
        let mut mesh = Mesh::default();
        let file = noise(30_000, 4);
        let summary = mesh.put(&owner(1), &file.chunks(1000).collect::<Vec<_>>());
        let mut memory = Memory { held: Some(5000..21_000), ..Memory::default() };
        let limits = GetLimits::default();
        let done = get_chunks(&summary.capability, &mut mesh, &mut memory, limits, &NEVER, |_| {})
            .unwrap();
        assert_eq!((done.resumed_bytes, done.bytes, done.chunks), (16_000, 30_000, 15));
        assert_eq!(memory.bytes[..5000], file[..5000]);
        assert_eq!(memory.bytes[21_000..], file[21_000..]);
    }

    #[test]
    fn a_missing_chunk_is_named_with_its_bytes() {
        let mut mesh = Mesh::default();
        let summary = mesh.put(&owner(1), &[b"first", b"second", b"third"]);
        let (lost, _) = mesh.order[1];
        mesh.chunks.remove(&lost);
        let (outcome, _) = get(&summary.capability, &mut mesh);
        match outcome {
            Err(GetError::Unavailable { part, id, why }) => {
                assert_eq!((part, id, why.as_str()), (Part::Piece(5..11), lost, "nobody holds it"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_in_a_chunk_is_damage() {
        let mut mesh = Mesh::default();
        let summary = mesh.put(&owner(1), &[b"piece"]);
        let piece = mesh.order[0].0;
        let good = mesh.chunks[&piece].clone();
        for at in 0..good.1.len() {
            let mut sealed = good.1.to_vec();
            sealed[at] ^= 1 << (at % 8);
            mesh.chunks.insert(piece, (good.0, sealed.into()));
            let (outcome, memory) = get(&summary.capability, &mut mesh);
            assert_eq!(damage(outcome), (Part::Piece(0..5), Damage::Seal));
            assert_eq!(memory.bytes, [0; 5], "nothing of a damaged chunk is written");
        }
    }

    #[test]
    fn a_header_that_is_not_the_ids_is_refused() {
        let mut mesh = Mesh::default();
        let summary = mesh.put(&owner(1), &[b"piece", b"other"]);
        let other = mesh.chunks[&mesh.order[1].0].clone();
        let (header, sealed) = mesh.chunks.get_mut(&summary.capability.id).unwrap();
        header.generation += 1;
        let before = sealed.clone();
        let (outcome, _) = get(&summary.capability, &mut mesh);
        assert_eq!(damage(outcome), (Part::Root, Damage::WrongHeader));
        let root = mesh.chunks.get_mut(&summary.capability.id).unwrap();
        root.0.generation -= 1;
        root.1 = before.slice(1..);
        let (outcome, _) = get(&summary.capability, &mut mesh);
        assert_eq!(damage(outcome), (Part::Root, Damage::WrongHeader));
        assert_ne!(other.1, before);
    }

    #[test]
    fn another_key_does_not_open_the_root() {
        let mut mesh = Mesh::default();
        let keys = owner(1);
        let mut capability = mesh.put(&keys, &[b"piece"]).capability;
        capability.ck = ChunkKey::from_bytes([9; 32]);
        // The mesh of these tests checks the read secret; a real holder would refuse the proof.
        struct Blind(Mesh, u64);
        impl ChunkSource for Blind {
            fn request(&mut self, wanted: Wanted) {
                self.1 = wanted.index;
            }
            fn next(&mut self) -> Result<Fetched, FetchError> {
                let (header, sealed) = self.0.chunks[&self.0.order[1].0].clone();
                Ok(Fetched { index: self.1, header, sealed })
            }
        }
        let (limits, mut memory) = (GetLimits::default(), Memory::default());
        let mut blind = Blind(mesh, 0);
        let outcome = get_chunks(&capability, &mut blind, &mut memory, limits, &NEVER, |_| {});
        assert_eq!(damage(outcome), (Part::Root, Damage::Seal));
    }

    #[test]
    fn hostile_listings_end_in_damage_and_write_nothing_wrong() {
        let (keys, mut mesh) = (owner(1), Mesh::default());
        let piece = plant(&mut mesh, &keys, Kind::File, b"12345");
        let low = listing(0, 5, &[entry(&piece, 5)]);
        let low = plant(&mut mesh, &keys, Kind::Listing, &low);
        let huge = FILE_BYTES_MAX;
        let cases: [(&str, Vec<u8>, Damage); 7] = [
            ("no listing", b"nonsense".to_vec(), ListingError::Version(b'n').into()),
            (
                "a piece longer than it is",
                listing(0, 6, &[entry(&piece, 6)]),
                Damage::Length { declared: 6, found: 5 },
            ),
            ("a piece where a listing is", listing(0, 5, &[entry(&low, 5)]), Damage::Kind),
            ("a listing where a piece is", listing(1, 5, &[entry(&piece, 5)]), Damage::Kind),
            ("a level left out", listing(2, 5, &[entry(&low, 5)]), ListingError::Level(0).into()),
            ("a total that lies", listing(1, 9, &[entry(&low, 9)]), ListingError::Total(5).into()),
            (
                "sums above the longest file",
                listing(1, 3, &[entry(&low, huge), entry(&low, huge), entry(&low, 5)]),
                ListingError::Total(3).into(),
            ),
        ];
        for (name, plaintext, expected) in cases {
            let root = plant(&mut mesh, &keys, Kind::Listing, &plaintext);
            let (outcome, _) = get(&root, &mut mesh);
            assert_eq!(damage(outcome).1, expected, "{name}");
        }
        let root = plant(&mut mesh, &keys, Kind::File, b"a piece as a root");
        assert_eq!(damage(get(&root, &mut mesh).0), (Part::Root, Damage::Kind));
    }

    #[test]
    fn a_listing_named_many_times_costs_no_memory() {
        let (keys, mut mesh) = (owner(1), Mesh::default());
        let piece = plant(&mut mesh, &keys, Kind::File, b"ab");
        let low = listing(0, 4, &[entry(&piece, 2), entry(&piece, 2)]);
        let low = plant(&mut mesh, &keys, Kind::Listing, &low);
        let middle = listing(1, 40, &vec![entry(&low, 4); 10]);
        let middle = plant(&mut mesh, &keys, Kind::Listing, &middle);
        let root = listing(2, 400, &vec![entry(&middle, 40); 10]);
        let root = plant(&mut mesh, &keys, Kind::Listing, &root);
        let (outcome, memory) = get(&root, &mut mesh);
        outcome.unwrap();
        assert_eq!(memory.bytes, b"ab".repeat(200));
    }

    #[test]
    fn a_source_that_closes_or_a_cancel_ends_the_get() {
        let mut mesh = Mesh { serve_at_most: Some(3), ..Mesh::default() };
        let pieces: Vec<[u8; 1]> = (0..100).map(|byte| [byte]).collect();
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_slice()).collect();
        let summary = mesh.put(&owner(1), &pieces);
        assert!(matches!(get(&summary.capability, &mut mesh).0, Err(GetError::Closed)));
        mesh = Mesh { chunks: mesh.chunks, ..Mesh::default() };
        let cancel = AtomicBool::new(false);
        let (limits, mut memory) = (GetLimits::default(), Memory::default());
        let outcome =
            get_chunks(&summary.capability, &mut mesh, &mut memory, limits, &cancel, |done| {
                cancel.store(done.chunks == 10, Ordering::Relaxed);
            });
        assert!(matches!(outcome, Err(GetError::Cancelled)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn any_file_comes_back(
            length in 0..60_000_usize,
            piece in 1..9000_usize,
            seed in any::<u64>(),
            compressible in any::<bool>(),
            backwards in any::<bool>(),
        ) {
            let file = if compressible { vec![7; length] } else { noise(length, seed) };
            let mut mesh = Mesh { backwards, ..Mesh::default() };
            let summary = mesh.put(&owner(3), &file.chunks(piece).collect::<Vec<_>>());
            let (outcome, memory) = get(&summary.capability, &mut mesh);
            prop_assert!(outcome.is_ok());
            prop_assert_eq!(memory.bytes, file);
        }
    }
}
