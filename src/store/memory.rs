//! A disk and a catalogue in memory, for tests and the simulator, with power cuts.
//!
//! What was not synced may be lost in a cut: any subset of it, sector by sector, names included.
//! A cut is drawn from a generator, so that a run replays from its seed.

use super::disk::{Disk, DiskError, File};
use super::index::{Catalogue, CatalogueError, Change};
use rand::{Rng, RngExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What real disks write at once: a cut tears between two of these.
const SECTOR_BYTES: [usize; 2] = [512, 4_096];

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A disk in memory.
#[derive(Debug)]
pub struct MemoryDisk(Mutex<Content>);

#[derive(Debug, Default, Clone)]
struct Content {
    capacity: u64,
    holes: bool,
    files: BTreeMap<File, Body>,
    /// Created since names were synced last.
    created: BTreeSet<File>,
    /// Unlinked since names were synced last.
    unlinked: BTreeMap<File, Body>,
    /// How many reads fail next.
    deaf: u32,
}

#[derive(Debug, Default, Clone)]
struct Body {
    bytes: Vec<u8>,
    /// Space taken beyond `bytes`, by [`Disk::allocate`].
    allocated: u64,
    /// Space given back by holes.
    punched: u64,
    /// The length when it was synced last.
    synced_length: usize,
    /// What each write since then overwrote, oldest first.
    undo: Vec<Overwritten>,
    /// The same of writes that a failed sync lost, while the cache still shows them.
    lost: Vec<Overwritten>,
}

/// What a power cut took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CutLosses {
    /// Writes, truncations and holes of which something is gone.
    pub changes: u64,
    /// Those among them of which something is there.
    pub torn: u64,
    /// Files whose creation or removal is undone.
    pub names: u64,
}

#[derive(Debug, Clone)]
struct Overwritten {
    offset: usize,
    /// May be shorter than `length`, where the file was.
    old: Vec<u8>,
    length: usize,
}

impl Overwritten {
    /// What of it is before this range, and what is after it.
    fn without(self, range: &std::ops::Range<usize>) -> impl Iterator<Item = Self> + use<> {
        let Self { offset, old, length } = self;
        let end = offset.saturating_add(length);
        let parts = [offset..end.min(range.start), offset.max(range.end)..end];
        parts.into_iter().filter(|part| !part.is_empty()).map(move |part| {
            let of = |at: usize| at.saturating_sub(offset).min(old.len());
            let old = old.get(of(part.start)..of(part.end)).unwrap_or_default().to_vec();
            Self { offset: part.start, old, length: part.len() }
        })
    }
}

impl MemoryDisk {
    /// A disk that takes `capacity` bytes.
    pub fn new(capacity: u64) -> Self {
        Self(Mutex::new(Content { capacity, holes: true, ..Content::default() }))
    }

    /// The same without [`Disk::punch_hole`].
    pub fn without_holes(capacity: u64) -> Self {
        Self(Mutex::new(Content { capacity, holes: false, ..Content::default() }))
    }

    /// What the disk holds now, on another disk.
    pub fn image(&self) -> Self {
        Self(Mutex::new(lock(&self.0).clone()))
    }

    /// Changes how many bytes the disk takes: others fill it up, or delete something.
    pub fn set_capacity(&self, capacity: u64) {
        lock(&self.0).capacity = capacity;
    }

    /// Flips one bit at rest; `false` where the file has no such byte.
    pub fn flip_bit(&self, file: File, at: u64, bit: u8) -> bool {
        let mut content = lock(&self.0);
        let at = usize::try_from(at).ok();
        let byte = at.and_then(|at| content.files.get_mut(&file)?.bytes.get_mut(at));
        byte.map(|byte| *byte ^= 1 << (bit % 8)).is_some()
    }

    /// Bytes at rest become others; `false` where the file has not so many there.
    pub fn spoil(&self, file: File, at: u64, bytes: &[u8]) -> bool {
        let mut content = lock(&self.0);
        let body = content.files.get_mut(&file);
        let range = usize::try_from(at).ok().map(|at| at..at.saturating_add(bytes.len()));
        let place = body.zip(range).and_then(|(body, range)| body.bytes.get_mut(range));
        place.map(|place| place.copy_from_slice(bytes)).is_some()
    }

    /// The next reads of file contents fail, as many as this.
    pub fn fail_reads(&self, reads: u32) {
        lock(&self.0).deaf = reads;
    }

    /// A sync fails as Linux does it: what was not synced never reaches the medium, but is read
    /// back from the cache until [`Disk::forget_cached`], and the next sync succeeds.
    pub fn lose_unsynced(&self, file: File) {
        if let Some(body) = lock(&self.0).files.get_mut(&file) {
            let undo = std::mem::take(&mut body.undo);
            body.lost.extend(undo);
        }
    }

    /// Power fails: of everything that was not synced, a random part is lost.
    pub fn power_cut(&self, rng: &mut impl Rng) -> CutLosses {
        let mut content = lock(&self.0);
        let content = &mut *content;
        let mut losses = CutLosses::default();
        for (file, body) in std::mem::take(&mut content.unlinked) {
            if rng.random() {
                content.files.insert(file, body);
                losses.names = losses.names.saturating_add(1);
            }
        }
        for file in std::mem::take(&mut content.created) {
            if rng.random() {
                content.files.remove(&file);
                losses.names = losses.names.saturating_add(1);
            }
        }
        content.files.values_mut().for_each(|body| body.cut(rng, &mut losses));
        losses
    }
}

impl Body {
    /// Goes back from the newest write to the oldest; the newest write of a sector decides first.
    fn cut(&mut self, rng: &mut impl Rng, losses: &mut CutLosses) {
        self.drop_lost();
        let mut kept = BTreeSet::new();
        // Most cuts come while a whole group is in the air: some lose all of it, some nothing.
        let percent = *[0, 10, 50, 90, 100].get(rng.random_range(0..5_usize)).unwrap_or(&50);
        let sector_bytes = *SECTOR_BYTES.get(rng.random_range(0..2_usize)).unwrap_or(&512);
        let length = self.bytes.len();
        let (short, long) = (length.min(self.synced_length), length.max(self.synced_length));
        let left =
            if short < long && rng.random() { rng.random_range(short..=long) } else { length };
        // A truncation that is lost brings the bytes back.
        self.bytes.resize(long, 0);
        for Overwritten { offset, old, length } in std::mem::take(&mut self.undo).into_iter().rev()
        {
            let end = offset.saturating_add(length);
            let (mut at, mut gone, mut there) = (offset, false, false);
            while at < end {
                let sector = at / sector_bytes;
                let next = sector.saturating_add(1).saturating_mul(sector_bytes).min(end);
                if !kept.contains(&sector) && rng.random_range(0..100) >= percent {
                    gone = true;
                    self.put_back(at..next, offset, &old);
                } else {
                    there = true;
                    kept.insert(sector);
                }
                at = next;
            }
            losses.changes = losses.changes.saturating_add(u64::from(gone));
            losses.torn = losses.torn.saturating_add(u64::from(gone && there));
        }
        self.bytes.resize(left, 0);
        self.synced_length = left;
    }

    /// A range is again what it was before a write at `offset`, which overwrote `old`.
    fn put_back(&mut self, range: std::ops::Range<usize>, offset: usize, old: &[u8]) {
        for at in range {
            let before = old.get(at - offset).copied().unwrap_or(0);
            if let Some(byte) = self.bytes.get_mut(at) {
                *byte = before;
            }
        }
    }

    /// The cache is dropped: what a failed sync lost is gone.
    fn drop_lost(&mut self) {
        for Overwritten { offset, old, length } in std::mem::take(&mut self.lost).into_iter().rev()
        {
            self.put_back(offset..offset.saturating_add(length), offset, &old);
        }
    }

    /// What a failed sync lost of this range was changed once more since, and that was synced.
    fn outlive(&mut self, range: std::ops::Range<usize>) {
        let lost = std::mem::take(&mut self.lost).into_iter().flat_map(|lost| lost.without(&range));
        self.lost = lost.collect();
    }

    fn taken(&self) -> u64 {
        let bytes = u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
        bytes.max(self.allocated).saturating_sub(self.punched)
    }
}

impl Content {
    fn body(&mut self, file: File) -> Result<&mut Body, DiskError> {
        self.files.get_mut(&file).ok_or(DiskError::NotFound)
    }

    fn free(&self) -> u64 {
        let taken = self.files.values().map(Body::taken).fold(0, u64::saturating_add);
        self.capacity.saturating_sub(taken)
    }
}

fn index(offset: u64) -> Result<usize, DiskError> {
    usize::try_from(offset).map_err(|_| DiskError::Io(0))
}

impl Disk for MemoryDisk {
    fn segments(&self) -> Result<Vec<u64>, DiskError> {
        let content = lock(&self.0);
        let number = |file: &File| match file {
            File::Segment(number) => Some(*number),
            File::Ledger(_) | File::Ballast => None,
        };
        Ok(content.files.keys().filter_map(number).collect())
    }

    fn ledgers(&self) -> Result<Vec<u64>, DiskError> {
        let content = lock(&self.0);
        let number = |file: &File| match file {
            File::Ledger(number) => Some(*number),
            File::Segment(_) | File::Ballast => None,
        };
        Ok(content.files.keys().filter_map(number).collect())
    }

    fn len(&self, file: File) -> Result<u64, DiskError> {
        let mut content = lock(&self.0);
        let body = content.body(file)?;
        Ok(u64::try_from(body.bytes.len()).unwrap_or(u64::MAX).max(body.allocated))
    }

    fn taken(&self, file: File) -> Result<u64, DiskError> {
        Ok(lock(&self.0).body(file)?.taken())
    }

    fn create(&self, file: File) -> Result<(), DiskError> {
        let mut content = lock(&self.0);
        content.files.insert(file, Body::default());
        content.created.insert(file);
        Ok(())
    }

    fn write_at(&self, file: File, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut content = lock(&self.0);
        let free = usize::try_from(content.free()).unwrap_or(usize::MAX);
        let offset = index(offset)?;
        let body = content.body(file)?;
        let end = offset.saturating_add(bytes.len());
        let room = body.bytes.len().saturating_add(free);
        // A full disk takes what fits.
        let (end, full) = if end > room { (room.max(offset), true) } else { (end, false) };
        let length = end.saturating_sub(offset).min(bytes.len());
        let old = body.bytes.get(offset..end.min(body.bytes.len())).unwrap_or_default().to_vec();
        if body.bytes.len() < end {
            body.bytes.resize(end, 0);
        }
        let (to, from) = (body.bytes.get_mut(offset..end), bytes.get(..length));
        if let (Some(to), Some(from)) = (to, from) {
            to.copy_from_slice(from);
        }
        body.undo.push(Overwritten { offset, old, length });
        if full { Err(DiskError::Full) } else { Ok(()) }
    }

    fn read_at(&self, file: File, offset: u64, bytes: &mut [u8]) -> Result<usize, DiskError> {
        let mut content = lock(&self.0);
        if let Some(left) = content.deaf.checked_sub(1) {
            content.deaf = left;
            return Err(DiskError::Io(5));
        }
        let body = content.body(file)?;
        let from = body.bytes.get(index(offset)?..).unwrap_or_default();
        let length = from.len().min(bytes.len());
        if let (Some(to), Some(from)) = (bytes.get_mut(..length), from.get(..length)) {
            to.copy_from_slice(from);
        }
        Ok(length)
    }

    fn sync_data(&self, file: File) -> Result<(), DiskError> {
        let mut content = lock(&self.0);
        let body = content.body(file)?;
        for change in std::mem::take(&mut body.undo) {
            body.outlive(change.offset..change.offset.saturating_add(change.length));
        }
        body.synced_length = body.bytes.len();
        Ok(())
    }

    fn sync_names(&self) -> Result<(), DiskError> {
        let mut content = lock(&self.0);
        content.created.clear();
        content.unlinked.clear();
        Ok(())
    }

    fn truncate(&self, file: File, length: u64) -> Result<(), DiskError> {
        let mut content = lock(&self.0);
        let body = content.body(file)?;
        let length = index(length)?;
        let removed = body.bytes.get(length..).unwrap_or_default().to_vec();
        let cut = removed.len();
        body.bytes.resize(length, 0);
        body.undo.push(Overwritten { offset: length, old: removed, length: cut });
        Ok(())
    }

    fn unlink(&self, file: File) -> Result<(), DiskError> {
        let mut content = lock(&self.0);
        let body = content.files.remove(&file).ok_or(DiskError::NotFound)?;
        if !content.created.remove(&file) {
            content.unlinked.insert(file, body);
        }
        Ok(())
    }

    fn punch_hole(&self, file: File, offset: u64, length: u64) -> Result<(), DiskError> {
        let mut content = lock(&self.0);
        if !content.holes {
            return Err(DiskError::Unsupported);
        }
        let body = content.body(file)?;
        let (from, to) = (index(offset)?, index(offset.saturating_add(length))?);
        let to = to.min(body.bytes.len());
        if let Some(hole) = body.bytes.get_mut(from..to) {
            let old = hole.to_vec();
            hole.fill(0);
            body.punched = body.punched.saturating_add(length);
            body.undo.push(Overwritten { offset: from, length: old.len(), old });
        }
        Ok(())
    }

    fn allocate(&self, file: File, length: u64) -> Result<(), DiskError> {
        let mut content = lock(&self.0);
        if content.free() < length {
            return Err(DiskError::Full);
        }
        if !content.files.contains_key(&file) {
            content.created.insert(file);
        }
        content.files.entry(file).or_default().allocated = length;
        Ok(())
    }

    fn free_space(&self) -> Result<u64, DiskError> {
        Ok(lock(&self.0).free())
    }

    fn forget_cached(&self, file: File) {
        if let Some(body) = lock(&self.0).files.get_mut(&file) {
            body.drop_lost();
        }
    }
}

/// Pairs of a key and the value it had, `None` where it had none.
type Undo = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// A catalogue in memory.
#[derive(Debug, Default)]
pub struct MemoryCatalogue(Mutex<Map>);

#[derive(Debug, Default, Clone)]
struct Map {
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What each batch since the last flush changed, oldest first.
    undo: Vec<Undo>,
}

impl MemoryCatalogue {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the catalogue holds now, as another catalogue.
    pub fn image(&self) -> Self {
        Self(Mutex::new(lock(&self.0).clone()))
    }

    /// One pair is lost, and nobody notices; `false` where there is none.
    pub fn lose_one(&self, rng: &mut impl Rng) -> bool {
        let mut map = lock(&self.0);
        let count = map.pairs.len();
        let chosen = (count > 0).then(|| rng.random_range(0..count));
        let key = chosen.and_then(|chosen| map.pairs.keys().nth(chosen).cloned());
        key.and_then(|key| map.pairs.remove(&key)).is_some()
    }

    /// Power fails: a random number of the batches that were not flushed are lost, newest first.
    pub fn power_cut(&self, rng: &mut impl Rng) {
        let mut map = lock(&self.0);
        let lost = rng.random_range(0..=map.undo.len());
        for _ in 0..lost {
            for (key, old) in map.undo.pop().unwrap_or_default().into_iter().rev() {
                match old {
                    Some(old) => drop(map.pairs.insert(key, old)),
                    None => drop(map.pairs.remove(&key)),
                }
            }
        }
        map.undo.clear();
    }
}

impl Catalogue for MemoryCatalogue {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, CatalogueError> {
        Ok(lock(&self.0).pairs.get(key).cloned())
    }

    fn apply(&self, changes: &[Change]) -> Result<(), CatalogueError> {
        let mut map = lock(&self.0);
        let mut undo = Undo::new();
        for Change { key, value } in changes {
            let old = match value {
                Some(value) => map.pairs.insert(key.clone(), value.clone()),
                None => map.pairs.remove(key),
            };
            undo.push((key.clone(), old));
        }
        map.undo.push(undo);
        Ok(())
    }

    fn flush(&self) -> Result<(), CatalogueError> {
        lock(&self.0).undo.clear();
        Ok(())
    }

    fn scan(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), CatalogueError> {
        let map = lock(&self.0);
        let pairs = map.pairs.range(prefix.to_vec()..);
        pairs.take_while(|(key, _)| key.starts_with(prefix)).for_each(|(k, v)| visit(k, v));
        Ok(())
    }

    fn clear(&self) -> Result<(), CatalogueError> {
        let mut map = lock(&self.0);
        let undo = std::mem::take(&mut map.pairs).into_iter();
        let undo = undo.map(|(key, value)| (key, Some(value))).collect();
        map.undo.push(undo);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    const FILE: File = File::Segment(1);

    /// A tail was cut off, and the sync of that failed; it was written over after that.
    fn written_over(offset: u64, bytes: &[u8]) -> MemoryDisk {
        let disk = MemoryDisk::new(1 << 20);
        disk.create(FILE).unwrap();
        disk.write_at(FILE, 0, b"headtorntail").unwrap();
        disk.sync_names().and_then(|()| disk.sync_data(FILE)).unwrap();
        disk.truncate(FILE, 4).unwrap();
        disk.lose_unsynced(FILE);
        disk.write_at(FILE, offset, bytes).unwrap();
        disk.sync_data(FILE).unwrap();
        disk
    }

    fn read(disk: &MemoryDisk) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        let length = disk.read_at(FILE, 0, &mut bytes).unwrap();
        bytes.truncate(length);
        bytes
    }

    /// World 136 of the default frame: an acknowledged chunk was undone by a cut, days later.
    #[test]
    fn what_was_synced_outlives_a_cut_although_an_older_sync_of_its_place_failed() {
        for seed in 0..32 {
            let disk = written_over(4, b"acknowledged");
            disk.power_cut(&mut ChaCha20Rng::seed_from_u64(seed));
            assert_eq!(read(&disk), b"headacknowledged", "seed {seed}");
        }
    }

    #[test]
    fn what_a_failed_sync_lost_is_gone_where_nothing_was_written_over_it() {
        let disk = written_over(6, b"NEW");
        assert_eq!(read(&disk), b"head\0\0NEW");
        disk.forget_cached(FILE);
        assert_eq!(read(&disk), b"headtoNEW");
    }
}
