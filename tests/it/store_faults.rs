//! Wraps a disk and a catalogue so that a test decides what each changing call comes to.

use quloud::store::disk::{Disk, DiskError, File};
use quloud::store::index::{Catalogue, CatalogueError, Change};
use std::sync::{Arc, Mutex, PoisonError};

/// A call that changes something, or makes a change durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Create,
    Write,
    SyncData(File),
    SyncNames,
    Truncate,
    Unlink,
    PunchHole,
    Allocate,
    Apply,
    Flush,
    Clear,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is done.
    Do,
    /// It is done and succeeds, but a sync syncs nothing.
    Lie,
    /// It fails; a write fails half-way.
    Fail(DiskError),
    /// The process is gone; a write is done half-way.
    Abort,
}

type Decide = Box<dyn FnMut(u64, Call) -> Verdict + Send>;

/// Counts the calls of both sides, from 0, and asks about each.
pub(crate) struct Plan(Mutex<(u64, Decide)>, Mutex<Vec<(Bad, Lasts)>>);

/// Bytes of a file that cannot be read, from one up to another.
type Bad = (File, u64, u64);

#[derive(PartialEq, Eq)]
enum Lasts {
    /// A second try succeeds.
    Once,
    Always,
}

impl Plan {
    pub(crate) fn new(decide: impl FnMut(u64, Call) -> Verdict + Send + 'static) -> Arc<Self> {
        Arc::new(Self(Mutex::new((0, Box::new(decide))), Mutex::default()))
    }

    /// Everything is done.
    pub(crate) fn none() -> Arc<Self> {
        Self::new(|_, _| Verdict::Do)
    }

    /// Call `n` and all later ones fail: the process is gone.
    pub(crate) fn stop_at(n: u64) -> Arc<Self> {
        let gone = Verdict::Fail(DiskError::Io(5));
        Self::new(move |at, _| if at >= n { gone } else { Verdict::Do })
    }

    /// How many calls there were.
    pub(crate) fn calls(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Reads of these bytes fail from now on.
    pub(crate) fn spoil_reads(&self, bad: Bad) {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).push((bad, Lasts::Always));
    }

    /// The next read of these bytes fails.
    pub(crate) fn spoil_reads_once(&self, bad: Bad) {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).push((bad, Lasts::Once));
    }

    fn may_read(&self, file: File, from: u64, length: usize) -> Result<(), DiskError> {
        let mut bad = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        let to = from.saturating_add(length as u64);
        let is_hit = |(of, begin, end): &Bad| *of == file && from < *end && *begin < to;
        let Some(hit) = bad.iter().position(|(bad, _)| is_hit(bad)) else { return Ok(()) };
        if bad[hit].1 == Lasts::Once {
            bad.remove(hit);
        }
        Err(DiskError::Io(5))
    }

    fn ask(&self, call: Call) -> Verdict {
        let mut plan = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = plan.0;
        plan.0 += 1;
        (plan.1)(at, call)
    }

    fn allow(&self, call: Call) -> Result<(), DiskError> {
        match self.ask(call) {
            Verdict::Fail(error) => Err(error),
            Verdict::Do | Verdict::Lie => Ok(()),
            Verdict::Abort => std::process::abort(),
        }
    }

    fn allow_catalogue(&self, call: Call) -> Result<(), CatalogueError> {
        self.allow(call).map_err(|error| CatalogueError::Failed(error.to_string()))
    }
}

/// A disk with faults.
pub(crate) struct FaultyDisk<D>(pub(crate) Arc<D>, pub(crate) Arc<Plan>);

/// A catalogue with faults.
pub(crate) struct FaultyCatalogue<C>(pub(crate) Arc<C>, pub(crate) Arc<Plan>);

impl<D: Disk> Disk for FaultyDisk<D> {
    fn segments(&self) -> Result<Vec<u64>, DiskError> {
        self.0.segments()
    }

    fn ledgers(&self) -> Result<Vec<u64>, DiskError> {
        self.0.ledgers()
    }

    fn len(&self, file: File) -> Result<u64, DiskError> {
        self.0.len(file)
    }

    fn taken(&self, file: File) -> Result<u64, DiskError> {
        self.0.taken(file)
    }

    fn create(&self, file: File) -> Result<(), DiskError> {
        self.1.allow(Call::Create)?;
        self.0.create(file)
    }

    fn write_at(&self, file: File, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        match self.1.ask(Call::Write) {
            Verdict::Do | Verdict::Lie => self.0.write_at(file, offset, bytes),
            verdict => {
                let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
                self.0.write_at(file, offset, half)?;
                match verdict {
                    Verdict::Fail(error) => Err(error),
                    _ => std::process::abort(),
                }
            }
        }
    }

    fn read_at(&self, file: File, offset: u64, bytes: &mut [u8]) -> Result<usize, DiskError> {
        self.1.may_read(file, offset, bytes.len())?;
        self.0.read_at(file, offset, bytes)
    }

    fn sync_data(&self, file: File) -> Result<(), DiskError> {
        match self.1.ask(Call::SyncData(file)) {
            Verdict::Do => self.0.sync_data(file),
            Verdict::Lie => Ok(()),
            Verdict::Fail(error) => Err(error),
            Verdict::Abort => std::process::abort(),
        }
    }

    fn sync_names(&self) -> Result<(), DiskError> {
        match self.1.ask(Call::SyncNames) {
            Verdict::Do => self.0.sync_names(),
            Verdict::Lie => Ok(()),
            Verdict::Fail(error) => Err(error),
            Verdict::Abort => std::process::abort(),
        }
    }

    fn truncate(&self, file: File, length: u64) -> Result<(), DiskError> {
        self.1.allow(Call::Truncate)?;
        self.0.truncate(file, length)
    }

    fn unlink(&self, file: File) -> Result<(), DiskError> {
        self.1.allow(Call::Unlink)?;
        self.0.unlink(file)
    }

    fn punch_hole(&self, file: File, offset: u64, length: u64) -> Result<(), DiskError> {
        self.1.allow(Call::PunchHole)?;
        self.0.punch_hole(file, offset, length)
    }

    fn allocate(&self, file: File, length: u64) -> Result<(), DiskError> {
        self.1.allow(Call::Allocate)?;
        self.0.allocate(file, length)
    }

    fn free_space(&self) -> Result<u64, DiskError> {
        self.0.free_space()
    }

    fn forget_cached(&self, file: File) {
        self.0.forget_cached(file);
    }
}

impl<C: Catalogue> Catalogue for FaultyCatalogue<C> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, CatalogueError> {
        self.0.get(key)
    }

    fn apply(&self, changes: &[Change]) -> Result<(), CatalogueError> {
        self.1.allow_catalogue(Call::Apply)?;
        self.0.apply(changes)
    }

    fn flush(&self) -> Result<(), CatalogueError> {
        match self.1.ask(Call::Flush) {
            Verdict::Do => self.0.flush(),
            Verdict::Lie => Ok(()),
            Verdict::Fail(error) => Err(CatalogueError::Failed(error.to_string())),
            Verdict::Abort => std::process::abort(),
        }
    }

    fn scan(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), CatalogueError> {
        self.0.scan(prefix, visit)
    }

    fn clear(&self) -> Result<(), CatalogueError> {
        self.1.allow_catalogue(Call::Clear)?;
        self.0.clear()
    }
}
