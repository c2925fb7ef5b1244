//! For tests: data, keys, and a mesh that is a map.

use super::frame::Kind;
use super::get::{ChunkSource, FetchError, Fetched, Output, OutputError, Wanted};
use super::listing::Listing;
use super::open::open_chunk;
use super::put::{PutContext, PutError, PutSummary, put_pieces};
use super::reference::ChunkRef;
use super::sealer::{ChunkSink, Held, SinkClosed};
use super::tree::walk::{Step, TreeWalk};
use super::tree::{Content, Entry, TreeRoot, What};
use crate::core::types::{ChunkId, Locality};
use crate::crypto::header::Header;
use crate::crypto::keys::{Master, OwnerKeys};
use crate::crypto::seal::SealedChunk;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::atomic::AtomicBool;

pub(super) static NEVER: AtomicBool = AtomicBool::new(false);

/// Bytes without structure.
pub(super) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// A folder in memory where there is one: these tests sync thousands of times, and none of them
/// cuts the power.
#[cfg(feature = "node")]
pub(super) fn scratch() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap()
}

pub(super) fn owner(number: u8) -> OwnerKeys {
    OwnerKeys::derive(&Master::from_bytes([number; 32]), 0)
}

pub(super) fn context(keys: &OwnerKeys) -> PutContext<'_> {
    PutContext { keys, locality: Locality(0x1234), cancel: &NEVER }
}

/// Everything that was stored, in order; answers newest request first when told so.
#[derive(Default)]
pub(super) struct Mesh {
    pub(super) chunks: BTreeMap<ChunkId, (Header, Bytes)>,
    pub(super) order: Vec<(ChunkId, u64)>,
    pub(super) asked: VecDeque<Wanted>,
    pub(super) asked_most: usize,
    pub(super) served: usize,
    pub(super) backwards: bool,
    /// Of those that are not there, these are known to be gone.
    pub(super) spoiled: BTreeSet<ChunkId>,
    /// After this many answers nothing comes any more.
    pub(super) serve_at_most: Option<usize>,
}

impl Mesh {
    /// Puts `pieces` as one file.
    pub(super) fn put(&mut self, keys: &OwnerKeys, pieces: &[&[u8]]) -> PutSummary {
        let pieces = pieces.iter().map(|piece| Ok::<_, PutError>(*piece));
        put_pieces(pieces, context(keys), self, |_| {}).unwrap()
    }

    pub(super) fn insert(&mut self, chunk: &SealedChunk) -> ChunkId {
        self.chunks.insert(chunk.id(), (chunk.header, chunk.sealed.clone()));
        chunk.id()
    }
}

impl ChunkSink for Mesh {
    fn store(&mut self, chunk: SealedChunk, plaintext_bytes: u64) -> Result<(), SinkClosed> {
        assert!(chunk.header.certifies(&chunk.sealed));
        let id = self.insert(&chunk);
        self.order.push((id, plaintext_bytes));
        Ok(())
    }
}

impl ChunkSource for Mesh {
    fn request(&mut self, wanted: Wanted) {
        self.asked.push_back(wanted);
        self.asked_most = self.asked_most.max(self.asked.len());
    }

    fn next(&mut self) -> Result<Fetched, FetchError> {
        if self.serve_at_most == Some(self.served) {
            return Err(FetchError::Closed);
        }
        let next = if self.backwards { self.asked.pop_back() } else { self.asked.pop_front() };
        let wanted = next.expect("a get waits only for what it asked for");
        let Some((header, sealed)) = self.chunks.get(&wanted.id) else {
            let (index, why) = (wanted.index, "nobody holds it".to_owned());
            return Err(match self.spoiled.contains(&wanted.id) {
                true => FetchError::Spoiled { index, why },
                false => FetchError::Unavailable { index, why },
            });
        };
        assert_eq!(wanted.read.point(), header.read, "the secret is the one that opens this chunk");
        self.served += 1;
        Ok(Fetched { index: wanted.index, header: *header, sealed: sealed.clone() })
    }
}

/// The chunks that holders have acknowledged.
#[derive(Default)]
pub(super) struct Acked(pub(super) BTreeSet<ChunkId>);

impl Held for Acked {
    fn is_held(&self, id: &ChunkId) -> bool {
        self.0.contains(id)
    }
}

/// The plaintext of a chunk, with all checks of a reader.
fn opened(reference: &ChunkRef, kind: Kind, mesh: &Mesh) -> Bytes {
    let (header, sealed) = &mesh.chunks[&reference.id];
    open_chunk(&reference.ck, &reference.id, header, sealed, kind).unwrap()
}

/// All entries of a tree.
pub(super) fn entries(root: &TreeRoot, mesh: &Mesh) -> Vec<Entry> {
    let mut walk = TreeWalk::new(root, b"");
    let mut found = Vec::new();
    loop {
        match walk.step().unwrap() {
            Step::Entry(entry) => found.push(entry),
            Step::End => return found,
            Step::Wait => {
                let chunk = walk.wanted().unwrap();
                walk.give(chunk.index, opened(&chunk.reference, Kind::Tree, mesh));
            }
        }
    }
}

/// The pieces that a listing names.
pub(super) fn pieces(root: &ChunkRef, mesh: &Mesh) -> Vec<ChunkRef> {
    Listing::root(opened(root, Kind::Listing, mesh)).unwrap().collect()
}

/// A file's data, without its holes.
pub(super) fn content(entry: &Entry, mesh: &Mesh) -> Vec<u8> {
    let What::File(body) = &entry.what else { panic!("{entry:?} is a file") };
    match &body.content {
        Content::None => Vec::new(),
        Content::Packed { pack, offset, .. } => {
            let (start, length) = (*offset as usize, body.data_bytes() as usize);
            opened(pack, Kind::Pack, mesh)[start..start + length].to_vec()
        }
        Content::Piece(piece) => opened(piece, Kind::File, mesh).to_vec(),
        Content::Listing(root) => {
            let pieces = pieces(root, mesh);
            pieces.iter().flat_map(|piece| opened(piece, Kind::File, mesh)).collect()
        }
    }
}

/// A file in memory.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) bytes: Vec<u8>,
    pub(super) held: Option<Range<u64>>,
    pub(super) begun: bool,
}

impl Output for Memory {
    fn begin(&mut self, _: &ChunkId, total: u64) -> Result<(), OutputError> {
        assert!(!self.begun, "begin is called once");
        self.begun = true;
        self.bytes.resize(usize::try_from(total).unwrap(), 0);
        Ok(())
    }

    fn holds(&self, range: &Range<u64>) -> bool {
        self.held.as_ref().is_some_and(|held| held.start <= range.start && range.end <= held.end)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), OutputError> {
        let start = usize::try_from(offset).unwrap();
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

/// The frozen vectors of what an owner stores, made by a second implementation: the names that
/// begin with `prefix`, with their fields.
pub(super) fn vectors(prefix: &str) -> Vec<BTreeMap<&'static str, &'static str>> {
    let text = include_str!("../../tests/vectors/tree.txt");
    let records = text.split("\n[").skip(1);
    let of = records.filter(|record| record.starts_with(prefix)).map(|record| {
        let fields = record.lines().filter_map(|line| line.split_once(" = "));
        fields.collect()
    });
    of.collect()
}
