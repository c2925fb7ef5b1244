//! What a thief of a store folder finds: a search that is shown to work on the originals.

use super::{failed, tree};
use crate::core::types::ChunkId;
use crate::crypto::capability::Capability;
use crate::crypto::keys::{ChunkKey, OwnerKeys};
use crate::crypto::seal::SealedChunk;
use crate::crypto::words;
use crate::node::report::Failure;
use crate::repo::backup::{BackupContext, Earlier, Progress, Watch, backup};
use crate::repo::engine::{BackupSink, DoneLeaf};
use crate::repo::known::Known;
use crate::repo::sealer::{ChunkSink, Held, SinkClosed};
use crate::repo::walk::{Fault, WalkOptions};
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

/// What must not be in a holder's store, of the files as they are in a first backup.
pub(super) struct Sought {
    plaintext: Needles,
    sealed: Needles,
    /// The chunks that a first backup of the files makes, with their sealed bytes.
    chunks: BTreeMap<ChunkId, u64>,
    keys: OwnerKeys,
}

impl Sought {
    /// Takes pieces of the files below `root`, and of the chunks that the backup of it makes.
    ///
    /// # Errors
    /// A [`Failure`] where anything cannot be read, or if the search is blind to the originals.
    pub(super) fn new(root: &Path, words: &Path) -> Result<Self, Failure> {
        let why = |error: std::io::Error| failed("the files cannot be read", &error.to_string());
        let files = tree::files(root).map_err(why)?;
        let bytes: u64 = files.iter().map(|(_, metadata)| metadata.len()).sum();
        let stride = usize::try_from(bytes / NEEDLES).unwrap_or(usize::MAX).max(64);
        let mut plaintext = Needles::new(stride);
        for (path, _) in &files {
            plaintext.add_file(path)?;
        }
        let mut originals = Found::new();
        for (path, _) in &files {
            plaintext.search_file(path, &mut originals)?;
        }
        if originals.len() < plaintext.len() {
            let why = format!("{} of {} pieces found", originals.len(), plaintext.len());
            return Err(failed("the search does not see the originals", &why));
        }
        let keys = owner_keys(words)?;
        let mut collect = Collect { needles: Needles::new(stride), chunks: BTreeMap::new() };
        seal(root, &keys, &mut collect)?;
        let Collect { needles: sealed, chunks } = collect;
        Ok(Self { plaintext, sealed, chunks, keys })
    }

    /// What the first backup has to send, one copy.
    pub(super) fn sealed_bytes(&self) -> u64 {
        self.chunks.values().sum()
    }

    /// A capability of the largest chunk, with a key that is not its own.
    pub(super) fn with_another_key(&self) -> Result<String, Failure> {
        let largest = self.chunks.iter().max_by_key(|(_, bytes)| **bytes);
        let (id, _) = largest.ok_or_else(|| failed("nothing was stored", "there are no chunks"))?;
        let ck = ChunkKey::from_bytes([0x5a; 32]);
        let forged = Capability { id: *id, locality: self.keys.locality(), ck };
        Ok(forged.encode().to_string())
    }

    /// Searches a store folder. Its node held `held` of the `sent` chunks that there are.
    ///
    /// # Errors
    /// A [`Failure`] if anything is found there, or if the store is too small for what its node
    /// held.
    pub(super) fn search(&self, store: &Path, held: u64, sent: u64) -> Result<ScanReport, Failure> {
        let Self { plaintext, sealed, .. } = self;
        let mut found = Found::new();
        let searched_bytes = plaintext.search_folder(store, &mut found)?;
        sealed.search_folder(store, &mut found)?;
        if !found.is_empty() {
            let why = format!("{} pieces", found.len());
            return Err(failed("a stolen store shows what it must not", &why));
        }
        let needed = bytes_min(self.chunks.values().copied(), held, sent);
        if searched_bytes < needed {
            let why = format!("{searched_bytes} bytes, and what it held is {needed} at least");
            return Err(failed("the stolen store is too small for what its node held", &why));
        }
        Ok(ScanReport { searched_bytes, plaintext: plaintext.len(), sealed: sealed.len() })
    }
}

/// The least that `held` chunks of `sent` come to, of which some are of a `known` size.
fn bytes_min(known: impl Iterator<Item = u64>, held: u64, sent: u64) -> u64 {
    let mut sizes: Vec<u64> = known.collect();
    let others = sent.saturating_sub(sizes.len() as u64);
    sizes.sort_unstable();
    let of_known = usize::try_from(held.saturating_sub(others)).unwrap_or(usize::MAX);
    sizes.iter().take(of_known).sum()
}

/// Seals the files again as their first backup does, which gives the very chunks that it sends.
fn seal(root: &Path, keys: &OwnerKeys, collect: &mut Collect) -> Result<(), Failure> {
    let why = |why: String| failed("the originals cannot be sealed", &why);
    let options = WalkOptions { roots: vec![root.to_owned()], ..WalkOptions::default() };
    let earlier = Earlier { parents: Vec::new(), known: Known::new(), expected: None };
    let cancel = AtomicBool::new(false);
    let context =
        BackupContext { keys, locality: keys.locality(), held: &NothingHeld, cancel: &cancel };
    let done = backup(&options, earlier, &context, collect, &mut Unwatched);
    match done.map_err(|error| why(error.to_string()))?.faults {
        0 => Ok(()),
        faults => Err(why(format!("{faults} names cannot be recorded"))),
    }
}

/// The first backup finds nothing that was stored before.
struct NothingHeld;

impl Held for NothingHeld {
    fn is_held(&self, _: &ChunkId) -> bool {
        false
    }
}

/// Nobody looks on while the files are sealed again; faults are counted.
struct Unwatched;

impl Watch for Unwatched {
    fn moved(&mut self, _: &Progress) {}

    fn fault(&mut self, _: Fault) {}
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
struct Collect {
    needles: Needles,
    chunks: BTreeMap<ChunkId, u64>,
}

impl ChunkSink for Collect {
    /// Takes from each chunk what a holder must never keep in the clear.
    fn store(&mut self, chunk: SealedChunk, _plaintext_bytes: u64) -> Result<(), SinkClosed> {
        for point in [&chunk.header.read, &chunk.header.admin, &chunk.header.delete] {
            self.needles.add(point);
        }
        self.needles.add(&chunk.header.sealed_hash);
        self.needles.add_pieces(&chunk.sealed);
        self.chunks.insert(chunk.id(), chunk.sealed.len() as u64);
        Ok(())
    }
}

impl BackupSink for Collect {
    fn leaf_done(&mut self, _leaf: &DoneLeaf) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_must_hold_the_least_that_its_chunks_come_to() {
        let sizes = [4000, 100, 900];
        for (held, sent, least) in [
            (3, 3, 5000),
            (2, 3, 1000),
            (0, 3, 0),
            // Of the five, two are of a size that nobody here knows.
            (5, 5, 5000),
            (4, 5, 1000),
            (2, 5, 0),
            // More than were ever sent.
            (9, 3, 5000),
        ] {
            assert_eq!(bytes_min(sizes.into_iter(), held, sent), least, "{held} of {sent}");
        }
    }

    #[test]
    fn a_store_that_shows_plaintext_or_ciphertext_is_found_out() {
        use crate::crypto::keys::Master;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let master = Master::from_bytes([7; 32]);
        fs::write(path("words"), words::to_words(&master).as_bytes()).unwrap();
        for name in ["files", "empty", "plain", "sealed", "scrambled"] {
            fs::create_dir(path(name)).unwrap();
        }
        let text: Vec<u8> =
            (0..200_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        fs::write(path("files/text"), &text).unwrap();
        let sought = Sought::new(&path("files"), &path("words")).unwrap();
        let chunks = sought.chunks.len() as u64;
        assert!(chunks > 1 && sought.plaintext.len() > 100 && sought.sealed.len() > 100);

        let too_small = sought.search(&path("empty"), chunks, chunks);
        assert!(too_small.is_err_and(|error| error.what.contains("too small")));
        fs::write(path("plain/segment"), &text[1000..3000]).unwrap();
        let plain = sought.search(&path("plain"), 0, chunks);
        assert!(plain.is_err_and(|error| error.what.contains("shows")));
        let keys = OwnerKeys::derive(&master, 0);
        let mut all = Concatenated(Vec::new());
        let options = WalkOptions { roots: vec![path("files")], ..WalkOptions::default() };
        let earlier = Earlier { parents: Vec::new(), known: Known::new(), expected: None };
        let cancel = AtomicBool::new(false);
        let (locality, held) = (keys.locality(), &NothingHeld);
        let context = BackupContext { keys: &keys, locality, held, cancel: &cancel };
        backup(&options, earlier, &context, &mut all, &mut Unwatched).unwrap();
        assert_eq!(all.0.len() as u64, sought.sealed_bytes());
        fs::write(path("sealed/segment"), &all.0).unwrap();
        let sealed = sought.search(&path("sealed"), 0, chunks);
        assert!(sealed.is_err_and(|error| error.what.contains("shows")));
        all.0.iter_mut().for_each(|byte| *byte ^= 0x5a);
        fs::write(path("scrambled/segment"), &all.0).unwrap();
        let report = sought.search(&path("scrambled"), chunks, chunks).unwrap();
        assert_eq!(report.searched_bytes, sought.sealed_bytes());
    }

    /// All sealed bytes in a row.
    struct Concatenated(Vec<u8>);

    impl ChunkSink for Concatenated {
        fn store(&mut self, chunk: SealedChunk, _: u64) -> Result<(), SinkClosed> {
            self.0.extend_from_slice(&chunk.sealed);
            Ok(())
        }
    }

    impl BackupSink for Concatenated {
        fn leaf_done(&mut self, _leaf: &DoneLeaf) {}
    }
}
