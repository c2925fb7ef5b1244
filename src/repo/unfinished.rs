//! What a backup that was broken off has done, so that the next one of the same paths need not read
//! and cut those files again. One file for each set of paths:
//!
//! ```text
//! <data-dir>/owner/unfinished/<32 hex digits of a keyed hash of host and paths>
//! frames: length u32 | box
//! ```
//!
//! Integers are little-endian. A box is a secretbox under a random nonce (`nonce 24 || tag 16 ||
//! ciphertext`) and the key `HKDF-Expand(dedup key, "quloud/v1/unfinished")`, of one of:
//!
//! ```text
//! 0 run     began i64, nanoseconds since 1970
//! 1 leaf    reference 74 | entries u64 | first path: all that it names was handed over
//! 2 file    path length u32 | path | a leaf of this one entry: a large file, whose own leaf may be
//!           long in coming
//! ```
//!
//! What is in it is believed as little as what a snapshot says: a file is what it was only where
//! its times, its length and its inode are, where it was settled before that run began, and where
//! enough holders acknowledged every chunk of it. So nothing here is synced, all of it may be
//! deleted at any time, and what does not open ends what is read.
//!
//! At most two runs are in it: the one that got furthest, and the one that goes on.

use super::reference::{ChunkRef, REF_BYTES};
use super::tree::writer::DoneLeaf;
use super::tree::{Entry, What, few};
use crate::crypto::keys::{OwnerKeys, WrapKey};
use crate::crypto::{expand, keyed_hash, seal};
use bytes::{Buf, Bytes};
use rand::SeedableRng;
use rand::rngs::SysRng;
use rand_chacha::ChaCha20Rng;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A file from this length on is noted when it is done, and not only with its leaf.
pub const LARGE_FILE_BYTES: u64 = 16 << 20;

/// So many leaves are read back: about a thousand entries each.
const LEAVES_MAX: usize = 1 << 20;

/// And so many large files.
const FILES_MAX: usize = 1 << 16;

/// No box is longer: a leaf of one entry.
const BOX_BYTES_MAX: u32 = 1 << 20;

/// Sets of paths whose unfinished backups are remembered.
const SETS_MAX: usize = 64;

/// What one run has done.
#[derive(Debug, Default)]
pub struct Run {
    /// When it began: nanoseconds since 1970.
    pub began_ns: i64,
    /// Its leaves, in order.
    pub leaves: Vec<DoneLeaf>,
    /// Large files, in order; also those of the leaves.
    pub files: Vec<Entry>,
}

impl Run {
    fn reach(&self) -> (usize, usize) {
        (self.leaves.len(), self.files.len())
    }
}

/// The unfinished backups of one set of paths.
pub struct Unfinished {
    path: PathBuf,
    key: WrapKey,
}

impl Unfinished {
    /// Of these roots, backed up on this host.
    pub fn of(data_dir: &Path, keys: &OwnerKeys, host: &str, roots: &[Vec<u8>]) -> Self {
        let key = WrapKey::from_bytes(expand(keys.dedup.expose(), &[b"quloud/v1/unfinished"]));
        let mut named = (host.len() as u64).to_le_bytes().to_vec();
        named.extend_from_slice(host.as_bytes());
        for root in roots {
            named.extend((root.len() as u64).to_le_bytes());
            named.extend_from_slice(root);
        }
        let name = keyed_hash(key.expose(), &[&named]);
        let name = name.iter().take(16).fold(String::new(), |name, byte| name + &hex(*byte));
        Self { path: data_dir.join("owner/unfinished").join(name), key }
    }

    /// The run that got furthest, if there is any.
    pub fn read(&self) -> Option<Run> {
        let mut reader = BufReader::new(File::open(&self.path).ok()?);
        let mut runs: Vec<Run> = Vec::new();
        while let Some(plaintext) = self.next_box(&mut reader) {
            if take(&mut runs, Bytes::copy_from_slice(&plaintext)).is_none() {
                break;
            }
        }
        // The last of equals: it is the newer one.
        runs.into_iter().max_by_key(Run::reach).filter(|run| run.reach() != (0, 0))
    }

    /// Begins to note what a run does that begins now. What `kept` has is kept until it is done.
    ///
    /// # Errors
    /// What the disk says: nothing is noted then.
    pub fn begin(&self, began_ns: i64, kept: Option<&Run>) -> io::Result<Recorder> {
        let folder = self.path.parent().unwrap_or(&self.path);
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        sweep(folder, SETS_MAX);
        let aside = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        let rng = ChaCha20Rng::try_from_rng(&mut SysRng).map_err(io::Error::other)?;
        let key = WrapKey::from_bytes(*self.key.expose());
        let mut recorder = Recorder { file: Some(file), key, rng };
        if let Some(run) = kept {
            recorder.run(run.began_ns)?;
            run.files.iter().try_for_each(|file| recorder.write(&of_file(file)))?;
            run.leaves.iter().try_for_each(|leaf| recorder.write(&of_leaf(leaf)))?;
        }
        recorder.run(began_ns)?;
        fs::rename(&aside, &self.path)?;
        Ok(recorder)
    }

    /// The backup is done: there is a snapshot now.
    pub fn forget(&self) {
        // At worst the next backup looks at it in vain.
        let _ = fs::remove_file(&self.path);
    }

    fn next_box(&self, reader: &mut impl Read) -> Option<Zeroizing<Vec<u8>>> {
        let mut length = [0; 4];
        reader.read_exact(&mut length).ok()?;
        let length = Some(u32::from_le_bytes(length)).filter(|length| *length <= BOX_BYTES_MAX)?;
        let mut sealed = vec![0; usize::try_from(length).ok()?];
        reader.read_exact(&mut sealed).ok()?;
        seal::unwrap(&self.key, &sealed).ok().map(Zeroizing::new)
    }
}

impl std::fmt::Debug for Unfinished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unfinished").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Notes what a backup has done. Where the disk takes no more, nothing more is noted.
pub struct Recorder {
    file: Option<File>,
    key: WrapKey,
    rng: ChaCha20Rng,
}

impl Recorder {
    /// A leaf was handed over, and all that it names.
    pub fn leaf(&mut self, leaf: &DoneLeaf) {
        self.note(&of_leaf(leaf));
    }

    /// A file was handed over, which is noted if it is large.
    pub fn file(&mut self, file: &Entry) {
        if matches!(&file.what, What::File(body) if body.data_bytes() >= LARGE_FILE_BYTES) {
            self.note(&of_file(file));
        }
    }

    fn run(&mut self, began_ns: i64) -> io::Result<()> {
        self.write(&[&[0][..], &began_ns.to_le_bytes()].concat())
    }

    fn note(&mut self, plaintext: &[u8]) {
        if self.write(plaintext).is_err() {
            self.file = None;
        }
    }

    fn write(&mut self, plaintext: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let sealed = seal::wrap(&self.key, plaintext, &mut self.rng);
        let length = u32::try_from(sealed.len()).ok().filter(|length| *length <= BOX_BYTES_MAX);
        let Some(length) = length else { return Ok(()) };
        file.write_all(&[&length.to_le_bytes()[..], &sealed].concat())
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("file", &self.file).finish_non_exhaustive()
    }
}

fn of_leaf(leaf: &DoneLeaf) -> Zeroizing<Vec<u8>> {
    // Room for all of it: what grows leaves copies of the key behind.
    let mut out = Vec::with_capacity(1 + REF_BYTES + 8 + leaf.first.len());
    out.push(1);
    leaf.reference.put(&mut out);
    out.extend_from_slice(&leaf.entries.to_le_bytes());
    out.extend_from_slice(&leaf.first);
    Zeroizing::new(out)
}

fn of_file(file: &Entry) -> Zeroizing<Vec<u8>> {
    let leaf = few::encode_alone(file);
    let mut out = Vec::with_capacity(1 + 4 + file.path.len() + leaf.len());
    out.push(2);
    out.extend_from_slice(&(file.path.len() as u32).to_le_bytes());
    out.extend_from_slice(&file.path);
    out.extend_from_slice(&leaf);
    Zeroizing::new(out)
}

/// What a box says; `None` where it says nothing that can be.
fn take(runs: &mut Vec<Run>, mut from: Bytes) -> Option<()> {
    let kind = from.try_get_u8().ok()?;
    if kind == 0 {
        runs.push(Run { began_ns: from.try_get_i64_le().ok()?, ..Run::default() });
        return (runs.len() <= 2).then_some(());
    }
    let run = runs.last_mut()?;
    match kind {
        1 if run.leaves.len() < LEAVES_MAX => {
            let reference = ChunkRef::take(&mut from)?;
            let entries = from.try_get_u64_le().ok()?;
            let (first, last) = (from.to_vec(), Vec::new());
            run.leaves.push(DoneLeaf { reference, entries, first, last });
            Some(())
        }
        2 if run.files.len() < FILES_MAX => {
            let length = usize::try_from(from.try_get_u32_le().ok()?).ok()?;
            let path = (length <= from.len()).then(|| from.split_to(length))?;
            run.files.push(few::decode_alone(from, &path).ok()?);
            Some(())
        }
        _ => None,
    }
}

fn hex(byte: u8) -> String {
    format!("{byte:02x}")
}

/// Takes away what was written to longest ago, until fewer than `most` are left.
fn sweep(folder: &Path, most: usize) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<_> = entries
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    all.sort();
    for (_, path) in all.iter().take(all.len().saturating_sub(most.saturating_sub(1))) {
        // One more than there should be does no harm.
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::types::{ChunkId, Locality};
    use crate::crypto::keys::ChunkKey;
    use crate::repo::fixture::{owner, scratch};
    use crate::repo::tree::{Content, FileBody, Inode};

    fn reference(number: u8, bytes: u64) -> ChunkRef {
        let (ck, id) = (ChunkKey::from_bytes([number; 32]), ChunkId::from_bytes([number; 32]));
        ChunkRef { ck, id, locality: Locality(9), bytes }
    }

    fn leaf(number: u8) -> DoneLeaf {
        let first = format!("data/{number}").into_bytes();
        DoneLeaf { reference: reference(number, 7), entries: 300, first, last: Vec::new() }
    }

    fn large(path: &str, bytes: u64) -> Entry {
        let inode = Inode { ctime_ns: 5, number: 77 };
        let content = Content::Listing(reference(3, bytes));
        Entry {
            path: path.as_bytes().to_vec(),
            mode: 0o644,
            uid: 1,
            gid: 2,
            mtime_ns: 1_000,
            xattrs: vec![(b"user.a".to_vec(), b"b".to_vec())],
            implied: false,
            unreadable: false,
            what: What::File(FileBody { bytes, inode, extents: None, content }),
        }
    }

    fn of(folder: &Path) -> Unfinished {
        Unfinished::of(folder, &owner(1), "nas", &[b"/data".to_vec()])
    }

    fn seen(run: &Run) -> (i64, Vec<ChunkId>, Vec<Vec<u8>>) {
        let leaves = run.leaves.iter().map(|leaf| leaf.reference.id).collect();
        (run.began_ns, leaves, run.files.iter().map(|file| file.path.clone()).collect())
    }

    #[test]
    fn what_was_noted_is_read_back_and_what_is_done_is_forgotten() {
        let folder = scratch();
        let unfinished = of(folder.path());
        assert!(unfinished.read().is_none());
        let mut recorder = unfinished.begin(40, None).unwrap();
        assert!(unfinished.read().is_none(), "nothing was done yet");
        recorder.leaf(&leaf(1));
        recorder.file(&large("data/b/film", LARGE_FILE_BYTES));
        recorder.file(&large("data/b/song", LARGE_FILE_BYTES - 1));
        recorder.leaf(&leaf(2));
        let run = unfinished.read().unwrap();
        let ids = [1, 2].map(|number| ChunkId::from_bytes([number; 32])).to_vec();
        assert_eq!(seen(&run), (40, ids, vec![b"data/b/film".to_vec()]));
        let film = few::encode_alone(&large("data/b/film", LARGE_FILE_BYTES));
        assert_eq!(*few::encode_alone(&run.files[0]), *film);
        let [first, _] = &run.leaves[..] else { panic!("two leaves") };
        assert_eq!((first.entries, &first.first[..]), (300, &b"data/1"[..]));
        assert_eq!(first.reference.ck.expose(), &[1; 32]);
        let other = Unfinished::of(folder.path(), &owner(1), "nas", &[b"/data/b".to_vec()]);
        assert!(other.read().is_none());
        unfinished.forget();
        assert!(unfinished.read().is_none());
    }

    #[test]
    fn the_run_that_got_furthest_is_kept_until_another_gets_further() {
        let folder = scratch();
        let unfinished = of(folder.path());
        let mut recorder = unfinished.begin(1, None).unwrap();
        [1, 2, 3].into_iter().for_each(|number| recorder.leaf(&leaf(number)));
        for began_ns in [2, 3] {
            let best = unfinished.read().unwrap();
            assert_eq!((best.began_ns, best.leaves.len()), (1, 3));
            let mut recorder = unfinished.begin(began_ns, Some(&best)).unwrap();
            recorder.leaf(&leaf(1));
        }
        let best = unfinished.read().unwrap();
        let mut recorder = unfinished.begin(4, Some(&best)).unwrap();
        [1, 2, 9].into_iter().for_each(|number| recorder.leaf(&leaf(number)));
        assert_eq!(unfinished.read().unwrap().began_ns, 4);
    }

    #[test]
    fn what_was_cut_or_altered_ends_what_is_read_and_shows_nothing() {
        let folder = scratch();
        let unfinished = of(folder.path());
        let mut recorder = unfinished.begin(1, None).unwrap();
        recorder.leaf(&leaf(1));
        let whole = fs::read(&unfinished.path).unwrap().len();
        recorder.leaf(&leaf(2));
        let bytes = fs::read(&unfinished.path).unwrap();
        assert!(!bytes.windows(4).any(|window| window == b"data"), "no names");
        for at in whole..bytes.len() {
            fs::write(&unfinished.path, &bytes[..at]).unwrap();
            assert_eq!(unfinished.read().unwrap().leaves.len(), 1, "cut at {at}");
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            fs::write(&unfinished.path, &altered).unwrap();
            assert_eq!(unfinished.read().unwrap().leaves.len(), 1, "altered at {at}");
        }
        fs::write(&unfinished.path, &bytes).unwrap();
        let others = Unfinished { key: WrapKey::from_bytes([8; 32]), path: unfinished.path };
        assert!(others.read().is_none(), "another owner");
    }

    #[test]
    fn so_many_sets_of_paths_are_remembered() {
        let folder = scratch();
        for number in 0..5 {
            let path = folder.path().join(number.to_string());
            fs::write(&path, "").unwrap();
            let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number);
            File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        }
        sweep(folder.path(), 3);
        let left = |number: u64| folder.path().join(number.to_string()).exists();
        assert_eq!((0..5).map(left).collect::<Vec<_>>(), [false, false, false, true, true]);
    }
}
