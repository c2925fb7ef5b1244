//! What a thief of a store folder finds: a search that is shown to work on the originals.

use super::corpus::Corpus;
use super::failed;
use crate::core::types::{ChunkId, Locality};
use crate::crypto::capability::Capability;
use crate::crypto::keys::{ChunkKey, OwnerKeys};
use crate::crypto::seal::SealedChunk;
use crate::crypto::words;
use crate::node::report::Failure;
use crate::repo::put::file::{SourceFile, put_file};
use crate::repo::put::{PutContext, PutError};
use crate::repo::sealer::{ChunkSink, SinkClosed};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Length of one needle. 16 bytes do not occur by chance in gigabytes of ciphertext.
const NEEDLE_BYTES: usize = 16;

/// About how many needles of each kind are searched for, spread evenly over the corpus.
const NEEDLES: u64 = 100_000;

/// What is read at once; neighbours overlap, so that no needle is cut in two.
const WINDOW_BYTES: usize = 1 << 20;

/// What the search came to: nothing was found, or there would be no report.
pub(super) struct ScanReport {
    pub(super) searched_bytes: u64,
    /// Pieces of plaintext; each was found in the originals. 0 where all files are too short.
    pub(super) plaintext: usize,
    /// Pieces of the owner's ciphertext, and of the points that proofs are made for.
    pub(super) sealed: usize,
}

/// The capability's root chunk with a key that is not its own.
pub(super) fn with_another_key(capability: &str) -> Result<String, Failure> {
    let real = Capability::decode(capability)
        .map_err(|error| failed("a capability does not parse", &error.to_string()))?;
    let mut key = *real.ck.expose();
    key.iter_mut().for_each(|byte| *byte ^= 0x5a);
    let forged = Capability { ck: ChunkKey::from_bytes(key), ..real };
    Ok(forged.encode().to_string())
}

/// Searches `store` for pieces of the corpus, of the owner's ciphertext and of its points. Its node
/// acknowledged `acked` chunks of each file of the corpus.
///
/// # Errors
/// A [`Failure`] if anything is found there, if the same search is blind to the originals, or if
/// the store cannot hold what its node acknowledged.
pub(super) fn search(
    corpus: &Corpus,
    acked: &[u64],
    words: &Path,
    store: &Path,
) -> Result<ScanReport, Failure> {
    let keys = owner_keys(words)?;
    let stride = usize::try_from(corpus.bytes() / NEEDLES).unwrap_or(usize::MAX).max(64);
    let (mut plaintext, mut sealed) = (Needles::new(stride), Needles::new(stride));
    let mut acknowledged = Acknowledged::default();
    for (file, acked) in corpus.files().iter().zip(acked) {
        let path = corpus.absolute(file);
        plaintext.add_file(&path)?;
        acknowledged.add_file(&sealed.add_chunks(&path, &keys)?, *acked);
    }
    let mut originals = Found::new();
    for file in corpus.files() {
        plaintext.search_file(&corpus.absolute(file), &mut originals)?;
    }
    if originals.len() < plaintext.len() {
        let why = format!("{} of {} pieces found", originals.len(), plaintext.len());
        return Err(failed("the search does not see the originals", &why));
    }
    let mut found = Found::new();
    let searched_bytes = plaintext.search_folder(store, &mut found)?;
    sealed.search_folder(store, &mut found)?;
    if !found.is_empty() {
        let why = format!("{} pieces", found.len());
        return Err(failed("a stolen store shows what it must not", &why));
    }
    let needed = acknowledged.bytes_min();
    if searched_bytes < needed {
        let why = format!("{searched_bytes} bytes, and what it acknowledged is {needed} at least");
        return Err(failed("the stolen store is too small for what its node acknowledged", &why));
    }
    Ok(ScanReport { searched_bytes, plaintext: plaintext.len(), sealed: sealed.len() })
}

fn owner_keys(path: &Path) -> Result<OwnerKeys, Failure> {
    let text = String::from_utf8(read(path)?)
        .map_err(|error| failed("the words are not text", &error.to_string()))?;
    let master = words::from_words(&text)
        .map_err(|error| failed("the words do not parse", &error.to_string()))?;
    Ok(OwnerKeys::derive(&master, 0))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path)
        .map_err(|error| failed(&format!("cannot read {}", path.display()), &error.to_string()))
}

/// How much a node must hold after what it acknowledged. It says how many chunks of a file it
/// acknowledged, not which, and equal chunks are stored once: this is the least it comes to.
#[derive(Default)]
struct Acknowledged {
    /// The chunks of the files of which it acknowledged all, with their sealed bytes.
    whole: BTreeMap<ChunkId, u64>,
    /// The most that it must hold of any other file.
    part: u64,
}

impl Acknowledged {
    /// `chunks` in their order with their sealed bytes, equal ones as often as they come.
    fn add_file(&mut self, chunks: &[(ChunkId, u64)], acked: u64) {
        let acked = usize::try_from(acked).unwrap_or(usize::MAX);
        if acked >= chunks.len() {
            return self.whole.extend(chunks.iter().copied());
        }
        let mut seen = BTreeSet::new();
        let fresh = |(id, bytes): &(ChunkId, u64)| if seen.insert(*id) { *bytes } else { 0 };
        let mut sizes: Vec<u64> = chunks.iter().map(fresh).collect();
        sizes.sort_unstable();
        self.part = self.part.max(sizes.iter().take(acked).sum());
    }

    fn bytes_min(&self) -> u64 {
        self.part.max(self.whole.values().sum())
    }
}

/// Needles that a search came upon.
type Found = BTreeSet<[u8; NEEDLE_BYTES]>;

/// Needles of 16 bytes, found at any offset.
struct Needles {
    /// One needle for so many bytes of what they are taken from.
    stride: usize,
    exact: BTreeSet<[u8; NEEDLE_BYTES]>,
    /// One bit for each value of the first three bytes: rules nearly every offset out at once.
    filter: Vec<u64>,
}

impl Needles {
    fn new(stride: usize) -> Self {
        Self { stride, exact: BTreeSet::new(), filter: vec![0; 1 << 18] }
    }

    fn len(&self) -> usize {
        self.exact.len()
    }

    fn add(&mut self, bytes: &[u8]) {
        let Some(needle) = bytes.first_chunk::<NEEDLE_BYTES>() else { return };
        // Runs of one character stand in any file, also in empty pages of the store.
        if needle.iter().collect::<BTreeSet<_>>().len() < NEEDLE_BYTES / 2 {
            return;
        }
        let (word, bit) = place(needle);
        if let Some(word) = self.filter.get_mut(word) {
            *word |= bit;
        }
        self.exact.insert(*needle);
    }

    fn add_pieces(&mut self, bytes: &[u8]) {
        bytes.chunks(self.stride).for_each(|piece| self.add(piece));
    }

    fn add_file(&mut self, path: &Path) -> Result<(), Failure> {
        windows(path, |window| self.add_pieces(window)).map(drop)
    }

    /// Seals the file again, which gives the very chunks that were stored, and takes from each
    /// what a holder must never keep in the clear. Gives the chunks with their sealed bytes.
    fn add_chunks(
        &mut self,
        path: &Path,
        keys: &OwnerKeys,
    ) -> Result<Vec<(ChunkId, u64)>, Failure> {
        let sealed = |error: PutError| failed("an original cannot be sealed", &error.to_string());
        let source = SourceFile::open(path).map_err(sealed)?;
        let cancel = AtomicBool::new(false);
        let context = PutContext { keys, locality: Locality(0), cancel: &cancel };
        let mut sink = Collect { needles: self, chunks: Vec::new() };
        put_file(&source, context, &mut sink, |_| {}).map_err(sealed)?;
        Ok(sink.chunks)
    }

    fn search_file(&self, path: &Path, found: &mut Found) -> Result<u64, Failure> {
        windows(path, |window| {
            for bytes in window.windows(NEEDLE_BYTES) {
                let Some(bytes) = bytes.first_chunk::<NEEDLE_BYTES>() else { continue };
                let (word, bit) = place(bytes);
                let maybe = self.filter.get(word).is_some_and(|word| word & bit != 0);
                if maybe && self.exact.contains(bytes) {
                    found.insert(*bytes);
                }
            }
        })
    }

    fn search_folder(&self, folder: &Path, found: &mut Found) -> Result<u64, Failure> {
        let why = |error: std::io::Error| failed("the store cannot be read", &error.to_string());
        let mut searched = 0_u64;
        for entry in fs::read_dir(folder).map_err(why)? {
            let path = entry.map_err(why)?.path();
            let bytes = if path.is_dir() {
                self.search_folder(&path, found)?
            } else if path.file_name().is_some_and(|name| name != "ballast") {
                self.search_file(&path, found)?
            } else {
                0
            };
            searched = searched.saturating_add(bytes);
        }
        Ok(searched)
    }
}

/// Shows `visit` all of a file in windows that overlap by a needle; gives the file's length.
fn windows(path: &Path, mut visit: impl FnMut(&[u8])) -> Result<u64, Failure> {
    let why = |error: std::io::Error| {
        failed(&format!("cannot read {}", path.display()), &error.to_string())
    };
    let mut file = fs::File::open(path).map_err(why)?;
    let (mut window, mut length) = (Vec::with_capacity(WINDOW_BYTES), 0_u64);
    loop {
        let room = u64::try_from(WINDOW_BYTES.saturating_sub(window.len())).unwrap_or(0);
        let read = file.by_ref().take(room).read_to_end(&mut window).map_err(why)?;
        if read == 0 {
            return Ok(length);
        }
        length = length.saturating_add(read as u64);
        visit(&window);
        let keep = window.len().saturating_sub(NEEDLE_BYTES - 1);
        window.drain(..keep);
    }
}

/// Word and bit of the filter: 24 bits of the needle's beginning.
fn place(bytes: &[u8; NEEDLE_BYTES]) -> (usize, u64) {
    let [a, b, c, ..] = bytes.map(usize::from);
    let key = a | b << 8 | c << 16;
    (key >> 6, 1 << (key & 63))
}

/// A sink that keeps nothing but needles, ids and sizes.
struct Collect<'a> {
    needles: &'a mut Needles,
    chunks: Vec<(ChunkId, u64)>,
}

impl ChunkSink for Collect<'_> {
    fn store(&mut self, chunk: SealedChunk, _plaintext_bytes: u64) -> Result<(), SinkClosed> {
        for point in [&chunk.header.read, &chunk.header.admin, &chunk.header.delete] {
            self.needles.add(point);
        }
        self.needles.add(&chunk.header.sealed_hash);
        self.needles.add_pieces(&chunk.sealed);
        self.chunks.push((chunk.id(), chunk.sealed.len() as u64));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_must_hold_the_least_that_its_acks_come_to() {
        let chunk = |id: u8, bytes: u64| (ChunkId::from_bytes([id; 32]), bytes);
        let (large, small, other) = (chunk(1, 4000), chunk(2, 100), chunk(3, 900));
        for (files, least) in [
            (&[(&[large, small][..], 2)][..], 4100),
            (&[(&[large, small], 1)], 100),
            (&[(&[large, small], 0)], 0),
            // Zeros: one chunk many times, stored once.
            (&[(&[large, large, large, small], 4)], 4100),
            (&[(&[large, large, large, small], 3)], 100),
            (&[(&[large, large, large, small], 2)], 0),
            // The same content in two files.
            (&[(&[large, small], 2), (&[large, other], 2)], 5000),
            (&[(&[small], 1), (&[large, other], 1)], 900),
        ] {
            let mut acknowledged = Acknowledged::default();
            files.iter().for_each(|(chunks, acked)| acknowledged.add_file(chunks, *acked));
            assert_eq!(acknowledged.bytes_min(), least, "{files:?}");
        }
    }
}
