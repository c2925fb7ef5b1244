//! What a thief of a store folder finds: a search that is shown to work on the originals.

use super::corpus::Corpus;
use super::failed;
use crate::core::types::Locality;
use crate::crypto::capability::Capability;
use crate::crypto::keys::{ChunkKey, OwnerKeys};
use crate::crypto::seal::SealedChunk;
use crate::crypto::words;
use crate::node::report::Failure;
use crate::repo::put::file::{SourceFile, put_file};
use crate::repo::put::{ChunkSink, PutContext, PutError, SinkClosed};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Length of one needle. 16 bytes do not occur by chance in gigabytes of ciphertext.
const NEEDLE_BYTES: usize = 16;

/// A needle for each stretch of this many plaintext bytes.
const STRIDE_BYTES: usize = 64;

/// What the search came to.
pub(super) struct ScanReport {
    pub(super) searched_bytes: u64,
    pub(super) needles: usize,
    pub(super) found_in_originals: usize,
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

/// Searches `store` for pieces of the corpus, of the owner's ciphertext and of its points.
///
/// # Errors
/// A [`Failure`] if anything is found there, or if the same search is blind to the originals.
pub(super) fn search(corpus: &Corpus, words: &Path, store: &Path) -> Result<ScanReport, Failure> {
    let keys = owner_keys(words)?;
    let mut needles = Needles::default();
    for file in corpus.files() {
        let path = corpus.absolute(file);
        needles.add_plaintext(&read(&path)?);
    }
    let plaintext = needles.clone();
    for file in corpus.files() {
        needles.add_chunks(&corpus.absolute(file), &keys)?;
    }
    let found_in_originals = {
        let mut found = BTreeSet::new();
        for file in corpus.files() {
            plaintext.find(&read(&corpus.absolute(file))?, &mut found);
        }
        found.len()
    };
    if found_in_originals < plaintext.len() {
        let why = format!("{found_in_originals} of {} pieces found", plaintext.len());
        return Err(failed("the search does not see the originals", &why));
    }
    let mut found = BTreeSet::new();
    let searched_bytes = needles.search_folder(store, &mut found)?;
    if !found.is_empty() {
        let why = format!("{} pieces", found.len());
        return Err(failed("a stolen store shows what it must not", &why));
    }
    if searched_bytes < corpus.bytes() / 8 {
        let why = format!("only {searched_bytes} bytes in {}", store.display());
        return Err(failed("the stolen store is too small to hold the corpus", &why));
    }
    Ok(ScanReport { searched_bytes, needles: needles.len(), found_in_originals })
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

/// Needles of 16 bytes, found at any offset.
#[derive(Clone, Default)]
struct Needles {
    exact: BTreeSet<[u8; NEEDLE_BYTES]>,
    /// One bit for each value of the first three bytes: rules nearly every offset out at once.
    filter: Vec<u64>,
}

impl Needles {
    fn len(&self) -> usize {
        self.exact.len()
    }

    fn add(&mut self, bytes: &[u8]) {
        let Some(needle) = bytes.first_chunk::<NEEDLE_BYTES>() else { return };
        // Runs of one character stand in any file, also in empty pages of the store.
        if needle.iter().collect::<BTreeSet<_>>().len() < NEEDLE_BYTES / 2 {
            return;
        }
        self.filter.resize(1 << 18, 0);
        let (word, bit) = place(needle);
        if let Some(word) = self.filter.get_mut(word) {
            *word |= bit;
        }
        self.exact.insert(*needle);
    }

    fn add_plaintext(&mut self, bytes: &[u8]) {
        bytes.chunks(STRIDE_BYTES).for_each(|piece| self.add(piece));
    }

    /// Seals the file again, which gives the very chunks that were stored, and takes from each
    /// what a holder must never keep in the clear.
    fn add_chunks(&mut self, path: &Path, keys: &OwnerKeys) -> Result<(), Failure> {
        let sealed = |error: PutError| failed("an original cannot be sealed", &error.to_string());
        let source = SourceFile::open(path).map_err(sealed)?;
        let cancel = AtomicBool::new(false);
        let context = PutContext { keys, locality: Locality(0), cancel: &cancel };
        put_file(&source, context, &mut Collect(self), |_| {}).map_err(sealed)?;
        Ok(())
    }

    fn find(&self, bytes: &[u8], found: &mut BTreeSet<[u8; NEEDLE_BYTES]>) {
        for window in bytes.windows(NEEDLE_BYTES) {
            let Some(window) = window.first_chunk::<NEEDLE_BYTES>() else { continue };
            let (word, bit) = place(window);
            let maybe = self.filter.get(word).is_some_and(|word| word & bit != 0);
            if maybe && self.exact.contains(window) {
                found.insert(*window);
            }
        }
    }

    fn search_folder(
        &self,
        folder: &Path,
        found: &mut BTreeSet<[u8; NEEDLE_BYTES]>,
    ) -> Result<u64, Failure> {
        let why = |error: std::io::Error| failed("the store cannot be read", &error.to_string());
        let mut searched = 0;
        for entry in fs::read_dir(folder).map_err(why)? {
            let path = entry.map_err(why)?.path();
            if path.is_dir() {
                searched += self.search_folder(&path, found)?;
            } else if path.file_name().is_some_and(|name| name != "ballast") {
                let bytes = read(&path)?;
                self.find(&bytes, found);
                searched += bytes.len() as u64;
            }
        }
        Ok(searched)
    }
}

/// Word and bit of the filter: 24 bits of the needle's beginning.
fn place(bytes: &[u8; NEEDLE_BYTES]) -> (usize, u64) {
    let [a, b, c, ..] = bytes.map(usize::from);
    let key = a | b << 8 | c << 16;
    (key >> 6, 1 << (key & 63))
}

/// A sink that keeps nothing but needles.
struct Collect<'a>(&'a mut Needles);

impl ChunkSink for Collect<'_> {
    fn store(&mut self, chunk: SealedChunk, _plaintext_bytes: u64) -> Result<(), SinkClosed> {
        for point in [&chunk.header.read, &chunk.header.admin, &chunk.header.delete] {
            self.0.add(point);
        }
        self.0.add(&chunk.header.sealed_hash);
        chunk.sealed.chunks(STRIDE_BYTES * 64).for_each(|piece| self.0.add(piece));
        Ok(())
    }
}
