//! What a restore has done, so that a later run of the same one goes on from there.
//!
//! It lies in the target, named after what is restored, and is removed when all is there. Layout,
//! integers little-endian:
//!
//! ```text
//! "quloud-restore" | version u8 = 1 | restore id 32 | part key 32 | CRC-32 of all before u32
//! then records of 57 bytes: kind u8 | path 16 | a u64 | b u32 | hash 24 | CRC-32 of all before u32
//! 1 run      path: the first 16 bytes of the system's boot id
//! 2 placed   a: stamp of the file: it gets its name now
//! 3 folder   this folder is about to be made
//! 4 block    a: place in the data | b: length | hash: first 24 bytes of its BLAKE3
//! 5 synced   a: bytes of the journal whose files are durable
//! 6 damaged  a: inode number | b: number of the name: this file gets a damaged name now
//! 7 planned  nothing has this path, and a file is about to be restored there
//! ```
//!
//! `path` is the first 16 bytes of the BLAKE3 of a path in the target, a stamp the first 8 of that
//! of a file's inode number, length and time of change. A record is written before what it says is
//! done, and read with a look at the disk: a file whose record is there and that has its stamp was
//! finished. Blocks are hashed before they are believed, so they need no sync.
//!
//! After a crash of the system, told by another boot id, what was recorded after the last sync may
//! be there in name only, and is restored again. So may be what was never recorded, for names can
//! outlive records that were written before them. Where the target was empty at first, everything
//! in it is taken for ours then. Where it was not, plans and folders are made durable before
//! anything of theirs gets a name.

use super::target::{Place, Target};
use crate::locked::Locked;
use crate::repo::ranges::Ranges;
use crate::repo::record::{read_whole, with_checksum, without_checksum};
use crate::repo::tree::FileBody;
use rustix::fs::{AtFlags, Stat, statat};
use rustix::io::Errno;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const MAGIC: &[u8; 14] = b"quloud-restore";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 14 + 1 + 32 + 32 + 4;
const RECORD_BYTES: usize = 1 + 16 + 8 + 4 + 24 + 4;

/// What every journal's name begins with.
const NAME: &str = ".quloud-restore-";

/// So many of the last files may have their record and not their name yet: more than there are
/// threads that write.
const PLACING: usize = 8;

/// A path in few bytes.
pub(super) type PathKey = [u8; 16];

/// The key of a path in the target.
pub(super) fn key_of(path: &[u8]) -> PathKey {
    let mut key = [0; 16];
    key.iter_mut().zip(blake3::hash(path).as_bytes()).for_each(|(to, from)| *to = *from);
    key
}

/// The name of the journal of this restore.
pub(super) fn journal_name(id: &[u8; 32]) -> String {
    id.iter().take(8).fold(NAME.to_owned(), |name, byte| name + &format!("{byte:02x}"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Run = 1,
    Placed = 2,
    Folder = 3,
    Block = 4,
    Synced = 5,
    Damaged = 6,
    Planned = 7,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    kind: Kind,
    path: PathKey,
    a: u64,
    b: u32,
    hash: [u8; 24],
}

impl Record {
    fn new(kind: Kind, path: PathKey) -> Self {
        Self { kind, path, a: 0, b: 0, hash: [0; 24] }
    }

    fn encode(&self) -> [u8; RECORD_BYTES] {
        let (a, b) = (self.a.to_le_bytes(), self.b.to_le_bytes());
        with_checksum(&[&[self.kind as u8], &self.path, &a, &b, &self.hash])
    }

    /// `None` where it is torn or damaged.
    fn decode(record: &[u8; RECORD_BYTES]) -> Option<Self> {
        let body = without_checksum(record)?;
        let (kind, rest) = body.split_first()?;
        let (path, rest) = rest.split_first_chunk::<16>()?;
        let (a, rest) = rest.split_first_chunk::<8>()?;
        let (b, hash) = rest.split_first_chunk::<4>()?;
        let kind = match kind {
            1 => Kind::Run,
            2 => Kind::Placed,
            3 => Kind::Folder,
            4 => Kind::Block,
            5 => Kind::Synced,
            6 => Kind::Damaged,
            7 => Kind::Planned,
            _ => return None,
        };
        let (a, b) = (u64::from_le_bytes(*a), u32::from_le_bytes(*b));
        Some(Self { kind, path: *path, a, b, hash: hash.try_into().ok()? })
    }
}

/// What earlier runs of the same restore left.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    /// There was one.
    pub(super) resumed: bool,
    /// The system started again since the first run: records may be missing.
    pub(super) rebooted: bool,
    /// Files that got their names and are durable, or under this boot, and their stamps. Ascending.
    placed: Vec<(PathKey, u64)>,
    /// Files that may have got their names before the system crashed. Ascending.
    doubtful: Vec<PathKey>,
    /// Folders of ours. Ascending.
    folders: Vec<PathKey>,
    /// Files that got damaged names: their inodes, and the numbers of these names.
    damaged: BTreeMap<PathKey, (u64, u32)>,
    /// What was written of files that are not finished.
    blocks: BTreeMap<PathKey, Vec<Block>>,
}

/// Bytes that were written: where in the data, and what they hash to.
type Block = (Range<u64>, [u8; 24]);

impl Earlier {
    /// The stamp of a file that got its name.
    pub(super) fn placed(&self, key: &PathKey) -> Option<u64> {
        let at = self.placed.binary_search_by(|(placed, _)| placed.cmp(key)).ok()?;
        self.placed.get(at).map(|(_, stamp)| *stamp)
    }

    /// Whether a file of that name would be ours, but perhaps not whole.
    pub(super) fn is_doubtful(&self, key: &PathKey) -> bool {
        self.doubtful.binary_search(key).is_ok()
    }

    pub(super) fn is_folder(&self, key: &PathKey) -> bool {
        self.folders.binary_search(key).is_ok()
    }

    /// The inode of a file that got a damaged name, and the number of that name.
    pub(super) fn damaged(&self, key: &PathKey) -> Option<(u64, u32)> {
        self.damaged.get(key).copied()
    }

    /// How many bytes of an unfinished file are on the disk, by the journal.
    pub(super) fn written(&self, key: &PathKey) -> u64 {
        let mut ranges = Ranges::default();
        let blocks = self.blocks.get(key).into_iter().flatten();
        blocks.filter(|(range, _)| !range.is_empty()).for_each(|(range, _)| ranges.add(range));
        ranges.bytes()
    }

    /// What of the file's data is in `part`, by the journal and by its hash.
    pub(super) fn verified(
        &self,
        key: &PathKey,
        body: &FileBody,
        places: impl Fn(&Range<u64>) -> Vec<Range<u64>>,
        part: &File,
    ) -> Ranges {
        let mut ranges = Ranges::default();
        let mut buffer = Vec::new();
        for (range, hash) in self.blocks.get(key).into_iter().flatten() {
            if range.end > body.data_bytes() {
                continue;
            }
            buffer.clear();
            let read = places(range).iter().try_for_each(|place| {
                let length = usize::try_from(place.end - place.start).map_err(io::Error::other)?;
                let from = buffer.len();
                buffer.resize(from + length, 0);
                part.read_exact_at(buffer.get_mut(from..).unwrap_or_default(), place.start)
            });
            if read.is_ok() && short_hash(&buffer) == *hash {
                ranges.add(range);
            }
        }
        ranges
    }

    fn read(&mut self, records: impl Iterator<Item = Record>, boot: PathKey) {
        let (mut files, mut synced, mut last_run) = (Vec::new(), 0_u64, 0_u64);
        let mut planned = Vec::new();
        let (mut same_boot, mut placing) = (false, VecDeque::new());
        let mut at = HEADER_BYTES as u64;
        for record in records {
            match record.kind {
                Kind::Run => {
                    // A crash before this run: what was not synced until then is in doubt.
                    if !(same_boot && record.path == boot) {
                        last_run = at;
                    }
                    same_boot = record.path == boot;
                    self.rebooted |= !same_boot;
                }
                Kind::Planned => planned.push((at, record.path)),
                Kind::Placed => {
                    files.push((at, record.path, record.a));
                    let blocks = self.blocks.remove(&record.path).unwrap_or_default();
                    placing.push_back((record.path, blocks));
                    if placing.len() > PLACING {
                        placing.pop_front();
                    }
                }
                Kind::Folder => self.folders.push(record.path),
                Kind::Damaged => {
                    self.damaged.insert(record.path, (record.a, record.b));
                }
                Kind::Synced => synced = synced.max(record.a),
                Kind::Block => {
                    let end = record.a.saturating_add(record.b.into());
                    let blocks = self.blocks.entry(record.path).or_default();
                    blocks.push((record.a..end, record.hash));
                }
            }
            at = at.saturating_add(RECORD_BYTES as u64);
        }
        for (key, blocks) in placing.into_iter().filter(|(_, blocks)| !blocks.is_empty()) {
            self.blocks.entry(key).or_insert(blocks);
        }
        // What this boot recorded is there; so is what was synced before.
        let this_boot = |at: u64| same_boot && at >= last_run;
        for (at, key, stamp) in files {
            if at < synced || this_boot(at) {
                self.placed.push((key, stamp));
            } else {
                self.doubtful.push(key);
            }
        }
        // The sort is stable: of one path the last record counts.
        self.placed.sort_by_key(|(key, _)| *key);
        self.placed.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                *kept = *later;
            }
            same
        });
        // What this boot did of its plans is recorded.
        let unsure = |(at, key): &(u64, PathKey)| !this_boot(*at) && self.placed(key).is_none();
        let unsure: Vec<_> = planned.into_iter().filter(unsure).map(|(_, key)| key).collect();
        self.doubtful.extend(unsure);
        for keys in [&mut self.doubtful, &mut self.folders] {
            keys.sort_unstable();
            keys.dedup();
        }
    }
}

/// The journal of a restore that runs; shared by its threads.
#[derive(Debug)]
pub(super) struct Journal {
    file: Mutex<Locked>,
    place: Place,
    part_key: [u8; 32],
    bytes: AtomicU64,
}

/// Why there is no journal.
#[derive(Debug)]
pub(super) enum NoJournal {
    /// Another restore writes it.
    Busy,
    /// What has its name is not ours.
    NotOurs,
    /// The system refuses.
    Io(io::Error),
}

impl From<io::Error> for NoJournal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Journal {
    /// Opens the journal of the restore `id`, or begins one.
    pub(super) fn open(target: &Target, id: &[u8; 32]) -> Result<(Self, Earlier), NoJournal> {
        let folder = rustix::io::dup(target.root()).map_err(io::Error::from)?;
        let place = Place { folder: Arc::new(folder), name: journal_name(id).into_bytes() };
        let (file, there) = match place.create() {
            Ok(file) => (file, false),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                (place.open_ours().map_err(|_| NoJournal::NotOurs)?, true)
            }
            Err(error) => return Err(error.into()),
        };
        let mut file = Locked::new(file).map_err(|_| NoJournal::Busy)?;
        // Another restore may have finished and removed it between open and lock.
        let named = statat(&place.folder, &*place.name, AtFlags::SYMLINK_NOFOLLOW);
        let opened = rustix::fs::fstat(&*file).map_err(io::Error::from)?;
        if !named.is_ok_and(|named| named.st_ino == opened.st_ino) {
            return Err(NoJournal::Busy);
        }
        let boot = boot_key();
        let (header, earlier, good) = match read_all(&mut file, id, boot)? {
            Some((header, earlier, good)) => (header, earlier, good),
            None => {
                let mut part_key = [0; 32];
                rand::TryRng::try_fill_bytes(&mut rand::rngs::SysRng, &mut part_key)
                    .map_err(io::Error::other)?;
                let header: [u8; HEADER_BYTES] = with_checksum(&[MAGIC, &[VERSION], id, &part_key]);
                file.set_len(0)?;
                file.rewind()?;
                file.write_all(&header)?;
                // The name of the journal must not be lost where names of files are not.
                file.sync_all()?;
                let _ = rustix::fs::fsync(&place.folder);
                // One that is there and says nothing was lost in a crash.
                let earlier = Earlier { resumed: there, rebooted: there, ..Earlier::default() };
                (part_key, earlier, HEADER_BYTES as u64)
            }
        };
        file.set_len(good)?;
        file.seek(SeekFrom::Start(good))?;
        let bytes = AtomicU64::new(good);
        let journal = Self { file: Mutex::new(file), place, part_key: header, bytes };
        journal.append(&Record::new(Kind::Run, boot))?;
        Ok((journal, earlier))
    }

    /// The name under which the file of this path lies until it is whole: nobody else knows it
    /// before it is there.
    pub(super) fn part_name(&self, path: &[u8]) -> Vec<u8> {
        let hash = crate::crypto::keyed_hash(&self.part_key, &[path]);
        let name = |name: String, byte: &u8| name + &format!("{byte:02x}");
        hash.iter().take(10).fold(".quloud-part-".to_owned(), name).into_bytes()
    }

    /// A file with this stamp gets its name now.
    pub(super) fn placed(&self, key: PathKey, stamp: u64) -> io::Result<()> {
        self.append(&Record { a: stamp, ..Record::new(Kind::Placed, key) })
    }

    /// A file gets its name some time after the next [`Self::flush`]; nothing has that name.
    pub(super) fn planned(&self, key: PathKey) -> io::Result<()> {
        self.append(&Record::new(Kind::Planned, key))
    }

    /// A folder is made now.
    pub(super) fn folder(&self, key: PathKey) -> io::Result<()> {
        self.append(&Record::new(Kind::Folder, key))
    }

    /// The file with this inode gets its damaged name of this number now.
    pub(super) fn damaged(&self, key: PathKey, inode: u64, number: u32) -> io::Result<()> {
        self.append(&Record { a: inode, b: number, ..Record::new(Kind::Damaged, key) })
    }

    /// These bytes of an unfinished file's data were written.
    pub(super) fn block(&self, key: PathKey, at: u64, bytes: &[u8]) -> io::Result<()> {
        let b = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let hash = short_hash(bytes);
        self.append(&Record { a: at, b, hash, ..Record::new(Kind::Block, key) })
    }

    /// Makes durable all that was recorded until now, and records that.
    pub(super) fn sync(&self) -> io::Result<()> {
        let until = self.bytes.load(Ordering::Acquire);
        rustix::fs::syncfs(&self.place.folder)?;
        self.append(&Record { a: until, ..Record::new(Kind::Synced, [0; 16]) })
    }

    /// Makes durable what was recorded until now, but nothing of what that says.
    pub(super) fn flush(&self) -> io::Result<()> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).sync_data()
    }

    /// All is there: the journal goes.
    pub(super) fn remove(&self) -> io::Result<()> {
        self.place.remove()
    }

    fn append(&self, record: &Record) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&record.encode())?;
        self.bytes.fetch_add(RECORD_BYTES as u64, Ordering::AcqRel);
        Ok(())
    }
}

/// The part key, what the records say, and where the last whole one ends; `None` where the journal
/// is not one of this restore.
fn read_all(
    file: &mut File,
    id: &[u8; 32],
    boot: PathKey,
) -> io::Result<Option<([u8; 32], Earlier, u64)>> {
    let mut reader = BufReader::new(file);
    let mut header = [0; HEADER_BYTES];
    if !read_whole(&mut reader, &mut header)? {
        return Ok(None);
    }
    let mut part_key = [0; 32];
    let key = header.iter().skip(HEADER_BYTES - 36);
    part_key.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    let expected: [u8; HEADER_BYTES] = with_checksum(&[MAGIC, &[VERSION], id, &part_key]);
    if header != expected {
        return Ok(None);
    }
    let (mut good, mut failed) = (HEADER_BYTES as u64, None);
    let records = std::iter::from_fn(|| {
        let mut record = [0; RECORD_BYTES];
        match read_whole(&mut reader, &mut record) {
            Ok(true) => Record::decode(&record).inspect(|_| good += RECORD_BYTES as u64),
            Ok(false) => None,
            Err(error) => {
                failed = Some(error);
                None
            }
        }
    });
    let mut earlier = Earlier { resumed: true, ..Earlier::default() };
    earlier.read(records, boot);
    failed.map_or(Ok(Some((part_key, earlier, good))), Err)
}

/// Tells one start of the system from another. Where it cannot be told, all was before a crash.
fn boot_key() -> PathKey {
    match std::fs::read("/proc/sys/kernel/random/boot_id") {
        Ok(id) => key_of(&id),
        Err(_) => {
            let mut random = [0; 16];
            // Zeros would be the same at the next start, and so be believed.
            let filled = rand::TryRng::try_fill_bytes(&mut rand::rngs::SysRng, &mut random);
            if filled.is_ok() { random } else { [0xff; 16] }
        }
    }
}

/// What tells a file from one that somebody else put in its place.
pub(super) fn stamp_of(stat: &Stat) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&stat.st_ino.to_le_bytes());
    hasher.update(&stat.st_size.to_le_bytes());
    hasher.update(&stat.st_mtime.to_le_bytes());
    hasher.update(&stat.st_mtime_nsec.to_le_bytes());
    let hash = hasher.finalize();
    hash.as_bytes().first_chunk().map_or(0, |head| u64::from_le_bytes(*head))
}

fn short_hash(bytes: &[u8]) -> [u8; 24] {
    let mut short = [0; 24];
    short.iter_mut().zip(blake3::hash(bytes).as_bytes()).for_each(|(to, from)| *to = *from);
    short
}

/// Makes of a journal what a crash of the system may leave of it: its first records up to the first
/// that says something of a file's data, from before the crash; or nothing at all.
#[cfg(test)]
pub(super) fn crash(path: &std::path::Path, header: bool) {
    let mut bytes = std::fs::read(path).unwrap_or_default();
    let records = bytes.split_off(HEADER_BYTES);
    for record in records.chunks_exact(RECORD_BYTES).filter_map(|bytes| bytes.try_into().ok()) {
        match Record::decode(record) {
            Some(Record { kind: Kind::Run, .. }) => {
                bytes.extend(Record::new(Kind::Run, [0xee; 16]).encode());
            }
            Some(Record { kind: Kind::Folder | Kind::Planned, .. }) => bytes.extend(record),
            _ => break,
        }
    }
    let written = std::fs::write(path, if header { bytes.as_slice() } else { &[] });
    assert!(written.is_ok());
}

/// Whether a failure of the system ends the restore, and not just one file.
pub(super) fn is_fatal(error: &io::Error) -> bool {
    let fatal = [
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::ROFS,
        Errno::IO,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::STALE,
    ];
    let code = error.raw_os_error();
    fatal.iter().any(|errno| code == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests;
