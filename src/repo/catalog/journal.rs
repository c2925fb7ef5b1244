//! The catalogue's file: an append-only journal of sealed boxes.
//!
//! Layout, integers little-endian:
//!
//! ```text
//! "quloud-catalog" | version u8 = 1 | generation u32 | key check 32 | CRC-32 of all before u32
//! then boxes: "QCAT" | length u32 | CRC-32 of length and box u32 | box
//! ```
//!
//! A box is a secretbox under a random nonce (`nonce 24 || tag 16 || ciphertext`) of one or more
//! [entries](super::entry). One commit is one or more boxes and one sync; boxes may be written
//! before it, so that they outlive the process if not the system. The key is
//! `HKDF-Expand(dedup key, "quloud/v1/catalog")`; the check is keyed BLAKE3 of
//! `"quloud/v1/catalog-check"` under it.
//!
//! What does not check is passed over up to the next box that does, and said. Where none follows it
//! is damage too, unless it can be the torn end of an unfinished commit: a box that is cut short.
//! That is cut off, and kept beside the journal as `catalog.torn`.

use super::entry::{Entry, TooLong};
use super::{CatalogError, Found};
use crate::crypto::keys::{OwnerKeys, WrapKey};
use crate::crypto::{expand, keyed_hash, seal};
use crate::repo::record::read_whole;
use rand::SeedableRng;
use rand::rngs::SysRng;
use rand_chacha::ChaCha20Rng;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const MAGIC: &[u8; 14] = b"quloud-catalog";
const VERSION: u8 = 1;
pub(super) const HEADER_BYTES: usize = 14 + 1 + 4 + 32 + 4;

const MARKER: &[u8; 4] = b"QCAT";
const FRAME_BYTES: usize = 4 + 4 + 4;

/// Entries are gathered up to this before they become a box.
const BOX_PLAINTEXT_BYTES: usize = 256 << 10;

/// Above this no box is ours: the gathered entries, the longest entry, the seal.
const BOX_BYTES_MAX: u32 = 512 << 10;

/// What a journal with damage is kept as, in the place of an extension; later ones are numbered.
pub(super) const DAMAGED: &str = "damaged";

/// Damaged journals that are kept. More of them, and the disk wants looking after first.
const DAMAGED_KEPT_MAX: usize = 99;

/// How much is looked through at once for the next box after damage.
const SEARCH_BYTES: usize = 64 << 10;

/// Under what a journal's boxes are sealed.
pub(super) struct Seal {
    key: WrapKey,
    generation: u32,
}

impl Seal {
    fn of(keys: &OwnerKeys) -> Self {
        Self { key: key_of(keys), generation: keys.generation }
    }
}

/// The journal, open at its end.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    key: WrapKey,
    generation: u32,
    rng: ChaCha20Rng,
    /// Entries that are in no box yet.
    pending: Zeroizing<Vec<u8>>,
    /// Length of the file without what a failed write left behind.
    written: u64,
    /// How much of that is known to be durable.
    synced: u64,
    /// A sync failed: what is on disk is unknown until the journal is opened again.
    failed: bool,
}

impl Journal {
    /// Opens the journal, or makes it, and hands every entry to `each` in order.
    pub(super) fn open(
        path: &Path,
        keys: &OwnerKeys,
        each: &mut impl FnMut(Entry),
    ) -> Result<(Self, Found), CatalogError> {
        if !path.exists() {
            return Ok((Self::create(path, keys)?, Found::default()));
        }
        let io = |source| CatalogError::io(path, source);
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        if length < HEADER_BYTES as u64 {
            // Journals are made under another name and renamed when they are whole, so this one
            // lost what it held, and all of it: it was never so short.
            let kept = keep_damaged(path)?;
            let found = Found { damaged_bytes: length, kept: Some(kept), ..Found::default() };
            return Ok((Self::create(path, keys)?, found));
        }
        let mut journal = Self::with(path, file, Seal::of(keys))?;
        let header_damaged = journal.check_header()?;
        let (mut found, sound) = journal.scan(length, each)?;
        if header_damaged {
            if found.entries == 0 {
                return Err(CatalogError::NotACatalog { path: path.to_owned() });
            }
            found.damaged_bytes += HEADER_BYTES as u64;
        }
        // A damaged journal is kept whole, and replaced by the caller.
        if found.torn_bytes > 0 && found.damaged_bytes == 0 {
            journal.keep_torn(sound, found.torn_bytes)?;
            journal.file.set_len(sound).and_then(|()| journal.file.sync_all()).map_err(io)?;
        }
        journal.file.seek(SeekFrom::Start(sound)).map_err(io)?;
        (journal.written, journal.synced) = (sound, sound);
        Ok((journal, found))
    }

    /// A new, empty journal in the place of whatever there is.
    fn create(path: &Path, keys: &OwnerKeys) -> Result<Self, CatalogError> {
        let mut journal = Self::create_aside(path, Seal::of(keys))?;
        journal.put_in_place(path)?;
        Ok(journal)
    }

    /// A new, empty journal under the same key, which does not bear its name yet: see
    /// [`Self::put_in_place`].
    pub(super) fn successor(&self) -> Result<Self, CatalogError> {
        Self::create_aside(&self.path, self.seal())
    }

    /// What another one is made with, under the same key.
    pub(super) fn seal(&self) -> Seal {
        Seal { key: WrapKey::from_bytes(*self.key.expose()), generation: self.generation }
    }

    /// A new, empty journal that is to take the place of what is at `path`.
    pub(super) fn create_aside(path: &Path, seal: Seal) -> Result<Self, CatalogError> {
        let aside = path.with_extension("new");
        let io = |source| CatalogError::io(&aside, source);
        remove_if_there(&aside).map_err(io)?;
        let file = new_private_file(&aside).map_err(io)?;
        let mut journal = Self::with(&aside, file, seal)?;
        journal.file.write_all(&journal.header()).map_err(io)?;
        journal.written = HEADER_BYTES as u64;
        Ok(journal)
    }

    /// Commits, and renames to `path`, durably.
    pub(super) fn put_in_place(&mut self, path: &Path) -> Result<(), CatalogError> {
        self.write()?;
        self.file.sync_all().map_err(|source| CatalogError::io(&self.path, source))?;
        self.synced = self.written;
        std::fs::rename(&self.path, path).map_err(|source| CatalogError::io(path, source))?;
        path.clone_into(&mut self.path);
        sync_folder(path.parent().unwrap_or(path))
    }

    fn with(path: &Path, file: File, seal: Seal) -> Result<Self, CatalogError> {
        let Seal { key, generation } = seal;
        let rng = ChaCha20Rng::try_from_rng(&mut SysRng)
            .map_err(|error| CatalogError::io(path, io::Error::other(error)))?;
        let path = path.to_owned();
        let pending = Zeroizing::default();
        let (written, synced, failed) = (0, 0, false);
        Ok(Self { path, file, key, generation, rng, pending, written, synced, failed })
    }

    fn header(&self) -> [u8; HEADER_BYTES] {
        let check = keyed_hash(self.key.expose(), &[b"quloud/v1/catalog-check"]);
        let parts: [&[u8]; 4] = [MAGIC, &[VERSION], &self.generation.to_le_bytes(), &check];
        let mut checksum = crc32fast::Hasher::new();
        parts.iter().for_each(|part| checksum.update(part));
        let checksum = checksum.finalize().to_le_bytes();
        let mut out = [0; HEADER_BYTES];
        let bytes = parts.iter().copied().flatten().chain(&checksum);
        out.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        out
    }

    /// Whether the header is damaged; a sound one must be ours, and of a version that we know.
    fn check_header(&mut self) -> Result<bool, CatalogError> {
        let mut found = [0; HEADER_BYTES];
        self.file.rewind().map_err(|source| CatalogError::io(&self.path, source))?;
        self.file.read_exact(&mut found).map_err(|source| CatalogError::io(&self.path, source))?;
        if found == self.header() {
            return Ok(false);
        }
        let path = || self.path.clone();
        let (body, checksum) = found.split_last_chunk::<4>().unwrap_or((&[], &[0; 4]));
        let Some((version, _)) = body.strip_prefix(MAGIC).and_then(|rest| rest.split_first())
        else {
            return Ok(true);
        };
        let sound = crc32fast::hash(body).to_le_bytes() == *checksum;
        match (sound, *version) {
            (false, VERSION) => Ok(true),
            (true, VERSION) => Err(CatalogError::OtherKeys { path: path() }),
            // A later version may have another header altogether.
            (_, version) => Err(CatalogError::Newer { path: path(), version }),
        }
    }

    /// Hands every entry of the first `length` bytes to `each`; says what was found, and where the
    /// last sound box ends.
    fn scan(
        &self,
        length: u64,
        each: &mut impl FnMut(Entry),
    ) -> Result<(Found, u64), CatalogError> {
        let io = |source| CatalogError::io(&self.path, source);
        let mut found = Found::default();
        let mut reader = BufReader::with_capacity(SEARCH_BYTES, &self.file);
        let (mut at, mut sound) = (HEADER_BYTES as u64, HEADER_BYTES as u64);
        reader.seek(SeekFrom::Start(at)).map_err(io)?;
        while at < length {
            let Some(sealed) = read_box(&mut reader).map_err(io)? else {
                match next_box(&mut reader, at + 1, length).map_err(io)? {
                    Some(next) => at = next,
                    None => break,
                }
                continue;
            };
            let bytes = (FRAME_BYTES + sealed.len()) as u64;
            found.damaged_bytes += at - sound;
            at += bytes;
            sound = at;
            match seal::unwrap(&self.key, &sealed) {
                Ok(entries) => found.entries += self.decode(&Zeroizing::new(entries), each)?,
                Err(_) => found.damaged_bytes += bytes,
            }
        }
        let rest = length.saturating_sub(sound);
        reader.seek(SeekFrom::Start(sound)).map_err(io)?;
        if is_torn(&mut reader, rest).map_err(io)? {
            found.torn_bytes = rest;
        } else {
            found.damaged_bytes += rest;
        }
        Ok((found, sound))
    }

    /// Copies the last `bytes` bytes, which are about to be cut off at `from`.
    fn keep_torn(&mut self, from: u64, bytes: u64) -> Result<(), CatalogError> {
        let aside = self.path.with_extension("torn");
        let failed = |source| CatalogError::io(&aside, source);
        self.file.seek(SeekFrom::Start(from)).map_err(failed)?;
        remove_if_there(&aside).map_err(failed)?;
        let mut copy = new_private_file(&aside).map_err(failed)?;
        io::copy(&mut (&self.file).take(bytes), &mut copy).map_err(failed)?;
        copy.sync_all().map_err(failed)
    }

    fn decode(&self, entries: &[u8], each: &mut impl FnMut(Entry)) -> Result<u64, CatalogError> {
        let (mut rest, mut count) = (entries, 0);
        while !rest.is_empty() {
            // The box was opened, so it is whole: an entry we do not know comes of a later version.
            let entry = Entry::decode(&mut rest)
                .map_err(|_| CatalogError::UnknownEntry { path: self.path.clone() })?;
            each(entry);
            count += 1;
        }
        Ok(count)
    }

    /// Hands every written entry to `each` once more.
    pub(super) fn replay(&self, each: &mut impl FnMut(Entry)) -> Result<(), CatalogError> {
        self.scan(self.written, each)?;
        (&self.file)
            .seek(SeekFrom::Start(self.written))
            .map_err(|source| CatalogError::io(&self.path, source))?;
        Ok(())
    }

    /// Gathers what `encode` appends.
    pub(super) fn add(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLong>,
    ) -> Result<(), CatalogError> {
        if self.failed {
            return Err(CatalogError::Failed { path: self.path.clone() });
        }
        encode(&mut self.pending)?;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) {
        self.file = file;
    }

    /// Whether enough is gathered for a box.
    pub(super) fn is_full(&self) -> bool {
        self.pending.len() >= BOX_PLAINTEXT_BYTES
    }

    /// Makes everything gathered or written durable.
    ///
    /// Where the disk takes no more, nothing of it is kept on disk, it stays gathered, and a later
    /// commit may do. A failed sync is final.
    pub(super) fn commit(&mut self) -> Result<(), CatalogError> {
        self.write()?;
        if self.written == self.synced {
            return Ok(());
        }
        if let Err(source) = self.file.sync_data() {
            self.failed = true;
            self.written = self.synced;
            return Err(CatalogError::io(&self.path, source));
        }
        self.synced = self.written;
        Ok(())
    }

    /// Writes everything gathered as one box, not synced.
    pub(super) fn write(&mut self) -> Result<(), CatalogError> {
        if self.failed {
            return Err(CatalogError::Failed { path: self.path.clone() });
        }
        if self.pending.is_empty() {
            return Ok(());
        }
        let sealed = seal::wrap(&self.key, &self.pending, &mut self.rng);
        if let Err(source) = write_box(&mut self.file, &sealed) {
            let back = self.file.set_len(self.written);
            let back = back.and_then(|()| self.file.seek(SeekFrom::Start(self.written)));
            self.failed = back.is_err();
            return Err(CatalogError::io(&self.path, source));
        }
        self.written += (FRAME_BYTES + sealed.len()) as u64;
        self.pending.clear();
        Ok(())
    }
}

fn key_of(keys: &OwnerKeys) -> WrapKey {
    WrapKey::from_bytes(expand(keys.dedup.expose(), &[b"quloud/v1/catalog"]))
}

fn write_box(file: &mut File, sealed: &[u8]) -> io::Result<()> {
    let length = u32::try_from(sealed.len()).ok().filter(|length| *length <= BOX_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::from(ErrorKind::FileTooLarge))?.to_le_bytes();
    let checksum = checksum_of(&length, sealed).to_le_bytes();
    file.write_all(&[MARKER.as_slice(), &length, &checksum, sealed].concat())
}

fn checksum_of(length: &[u8; 4], sealed: &[u8]) -> u32 {
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(length);
    checksum.update(sealed);
    checksum.finalize()
}

/// The box at the reader's place; `None` where there is no sound one.
fn read_box(reader: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut frame = [0; FRAME_BYTES];
    if !read_whole(reader, &mut frame)? {
        return Ok(None);
    }
    let [m0, m1, m2, m3, l0, l1, l2, l3, c0, c1, c2, c3] = frame;
    let length = [l0, l1, l2, l3];
    let bytes = u32::from_le_bytes(length);
    if [m0, m1, m2, m3] != *MARKER || bytes > BOX_BYTES_MAX {
        return Ok(None);
    }
    let Ok(bytes) = usize::try_from(bytes) else {
        return Ok(None);
    };
    let mut sealed = vec![0; bytes];
    let sound = read_whole(reader, &mut sealed)?
        && checksum_of(&length, &sealed) == u32::from_le_bytes([c0, c1, c2, c3]);
    Ok(sound.then_some(sealed))
}

/// Whether the `rest` bytes at the reader's place, in which no sound box begins, can be what is
/// left of one box whose write was cut short. All else was written whole, and altered later: so
/// was a box that would check if it were exactly as long as what there is.
fn is_torn(reader: &mut impl Read, rest: u64) -> io::Result<bool> {
    let most = FRAME_BYTES as u64 + u64::from(BOX_BYTES_MAX);
    let mut bytes = Vec::new();
    reader.take(most + 1).read_to_end(&mut bytes)?;
    let Some((frame, sealed)) = bytes.split_first_chunk::<FRAME_BYTES>() else {
        return Ok(bytes.iter().zip(MARKER).all(|(found, marker)| found == marker));
    };
    let [m0, m1, m2, m3, l0, l1, l2, l3, c0, c1, c2, c3] = *frame;
    let stated = u32::from_le_bytes([l0, l1, l2, l3]);
    let there = u32::try_from(rest.saturating_sub(FRAME_BYTES as u64)).unwrap_or(u32::MAX);
    let cut_short = [m0, m1, m2, m3] == *MARKER && stated <= BOX_BYTES_MAX && there < stated;
    let checksum = u32::from_le_bytes([c0, c1, c2, c3]);
    Ok(cut_short && checksum_of(&there.to_le_bytes(), sealed) != checksum)
}

/// Where the next sound box begins, at or after `from`; the reader is left there.
fn next_box(reader: &mut (impl Read + Seek), from: u64, end: u64) -> io::Result<Option<u64>> {
    let mut window = Vec::new();
    let mut start = from;
    while start < end {
        reader.seek(SeekFrom::Start(start))?;
        window.clear();
        reader.by_ref().take(SEARCH_BYTES as u64).read_to_end(&mut window)?;
        for (at, candidate) in window.windows(MARKER.len()).enumerate() {
            if candidate == MARKER {
                let place = start + at as u64;
                reader.seek(SeekFrom::Start(place))?;
                if read_box(reader)?.is_some() {
                    reader.seek(SeekFrom::Start(place))?;
                    return Ok(Some(place));
                }
            }
        }
        // The last three bytes may begin a marker.
        let seen = window.len().saturating_sub(MARKER.len() - 1);
        if seen == 0 {
            break;
        }
        start += seen as u64;
    }
    Ok(None)
}

/// Gives the file at `path` a second name beside it, for the user to keep, and says which.
pub(super) fn keep_damaged(path: &Path) -> Result<PathBuf, CatalogError> {
    let mut last = None;
    for number in 1..=DAMAGED_KEPT_MAX {
        let name = if number == 1 { DAMAGED.to_owned() } else { format!("{DAMAGED}-{number}") };
        let aside = path.with_extension(name);
        match std::fs::hard_link(path, &aside) {
            Ok(()) => {
                sync_folder(path.parent().unwrap_or(path))?;
                return Ok(aside);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => last = Some((aside, error)),
            Err(source) => return Err(CatalogError::io(&aside, source)),
        }
    }
    let (aside, source) = last.unwrap_or_else(|| (path.to_owned(), ErrorKind::Other.into()));
    Err(CatalogError::io(&aside, source))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A new file that nobody else can read.
fn new_private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), CatalogError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| CatalogError::io(folder, source))
}
