//! A node's disk: the store's own memory disk, with faults drawn from a generator.
//!
//! Errors leave things as a real disk would: a failed write may have written any part, and a failed
//! sync loses what it should have made durable while the cache still shows it.

mod scripted;

pub(crate) use scripted::Call;

use crate::chance::Chance;
use crate::tally::{Fault, Tally};
use quloud::store::disk::{Disk, DiskError, File};
use quloud::store::memory::MemoryDisk;
use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use scripted::Scripted;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The error number of a failed device (EIO).
const EIO: i32 = 5;

/// How a disk misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct DiskFaults {
    /// A write fails after a part of it.
    pub(crate) write_error: Chance,
    /// A read fails.
    pub(crate) read_error: Chance,
    /// A sync fails.
    pub(crate) sync_error: Chance,
    /// Syncs are acknowledged and do nothing.
    pub(crate) lies: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct SimDisk {
    inner: MemoryDisk,
    state: Mutex<State>,
    scripted: Scripted,
}

#[derive(Debug)]
struct State {
    rng: ChaCha20Rng,
    faults: DiskFaults,
    /// The power goes after so many more calls that change something.
    power_for: Option<u32>,
    dead: bool,
    tally: Tally<Fault>,
}

impl SimDisk {
    /// An empty disk of `capacity` bytes.
    pub(crate) fn new(capacity: u64, faults: DiskFaults, rng: ChaCha20Rng) -> Self {
        Self::over(MemoryDisk::new(capacity), faults, rng)
    }

    fn over(inner: MemoryDisk, faults: DiskFaults, rng: ChaCha20Rng) -> Self {
        let tally = Tally::default();
        Self {
            inner,
            state: Mutex::new(State { rng, faults, power_for: None, dead: false, tally }),
            scripted: Scripted::default(),
        }
    }

    /// The next `times` such calls fail, whatever the faults are.
    pub(crate) fn fail_next(&self, call: Call, times: u32) {
        self.scripted.fail(call, times);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it misbehaves like this.
    pub(crate) fn set_faults(&self, faults: DiskFaults) {
        self.state().faults = faults;
    }

    /// Others fill the disk, or make room.
    pub(crate) fn set_capacity(&self, capacity: u64) {
        self.inner.set_capacity(capacity);
    }

    /// Others fill the disk up to the last `left` bytes.
    pub(crate) fn leave_only(&self, left: u64) {
        let files = self.inner.segments().unwrap_or_default().into_iter().map(File::Segment);
        let taken = files.filter_map(|file| self.inner.taken(file).ok()).sum::<u64>();
        self.inner.set_capacity(taken.saturating_add(left));
    }

    /// The power goes in the middle of something: after `calls` more changes every call fails.
    pub(crate) fn cut_power_after(&self, calls: u32) {
        self.state().power_for = Some(calls);
    }

    /// Whether the power went.
    pub(crate) fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// The machine goes down without warning and its disk is there again for the next start.
    pub(crate) fn power_cut(&self) {
        let state = &mut *self.state();
        self.inner.power_cut(&mut state.rng);
        (state.power_for, state.dead) = (None, false);
    }

    /// Looks without being a part of the world: no read fails meanwhile, and nothing is drawn.
    pub(crate) fn undisturbed<R>(&self, look: impl FnOnce() -> R) -> R {
        let read_error = std::mem::take(&mut self.state().faults.read_error);
        let seen = look();
        self.state().faults.read_error = read_error;
        seen
    }

    /// What it holds now, on another disk of the same kind.
    pub(crate) fn image(&self, rng: ChaCha20Rng) -> Self {
        Self::over(self.inner.image(), self.state().faults, rng)
    }

    /// Flips a bit somewhere in what is written; `false` where nothing is.
    pub(crate) fn rot(&self) -> bool {
        let Ok(segments) = self.inner.segments() else { return false };
        let state = &mut *self.state();
        if segments.is_empty() {
            return false;
        }
        let number = segments.get(state.rng.random_range(0..segments.len())).copied().unwrap_or(0);
        let file = File::Segment(number);
        let length = self.inner.len(file).unwrap_or(0);
        length > 0 && {
            let (at, bit) = (state.rng.random_range(0..length), state.rng.random_range(0..8));
            self.inner.flip_bit(file, at, bit)
        }
    }

    /// What was injected since the last call.
    pub(crate) fn take_tally(&self) -> Tally<Fault> {
        std::mem::take(&mut self.state().tally)
    }

    /// Lets a change through, unless the power is gone.
    fn powered(&self) -> Result<MutexGuard<'_, State>, DiskError> {
        let mut state = self.state();
        if let Some(left) = state.power_for {
            match left.checked_sub(1) {
                Some(left) => state.power_for = Some(left),
                None => state.dead = true,
            }
        }
        if state.dead { Err(DiskError::Io(EIO)) } else { Ok(state) }
    }

    fn alive(&self) -> Result<MutexGuard<'_, State>, DiskError> {
        let state = self.state();
        if state.dead { Err(DiskError::Io(EIO)) } else { Ok(state) }
    }
}

impl State {
    fn fails(&mut self, chance: Chance, fault: Fault) -> Result<(), DiskError> {
        if chance.happens(&mut self.rng) {
            self.tally.count(fault);
            return Err(DiskError::Io(EIO));
        }
        Ok(())
    }
}

impl Disk for SimDisk {
    fn segments(&self) -> Result<Vec<u64>, DiskError> {
        drop(self.alive()?);
        self.inner.segments()
    }

    fn len(&self, file: File) -> Result<u64, DiskError> {
        drop(self.alive()?);
        self.inner.len(file)
    }

    fn taken(&self, file: File) -> Result<u64, DiskError> {
        drop(self.alive()?);
        self.inner.taken(file)
    }

    fn create(&self, file: File) -> Result<(), DiskError> {
        drop(self.powered()?);
        self.inner.create(file)
    }

    fn write_at(&self, file: File, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut state = self.powered()?;
        let chance = state.faults.write_error;
        let chance = if self.scripted.fails(Call::Write) { Chance::ALWAYS } else { chance };
        if let Err(error) = state.fails(chance, Fault::WriteError) {
            let part = state.rng.random_range(0..=bytes.len());
            drop(state);
            self.inner.write_at(file, offset, bytes.get(..part).unwrap_or_default())?;
            return Err(error);
        }
        drop(state);
        let written = self.inner.write_at(file, offset, bytes);
        if written == Err(DiskError::Full) {
            self.state().tally.count(Fault::Full);
        }
        written
    }

    fn read_at(&self, file: File, offset: u64, bytes: &mut [u8]) -> Result<usize, DiskError> {
        let mut state = self.alive()?;
        let chance = state.faults.read_error;
        state.fails(chance, Fault::ReadError)?;
        drop(state);
        self.inner.read_at(file, offset, bytes)
    }

    fn sync_data(&self, file: File) -> Result<(), DiskError> {
        let mut state = self.powered()?;
        if state.faults.lies {
            state.tally.count(Fault::LyingSync);
            return Ok(());
        }
        let chance = state.faults.sync_error;
        let chance = if self.scripted.fails(Call::SyncData) { Chance::ALWAYS } else { chance };
        if let Err(error) = state.fails(chance, Fault::SyncError) {
            drop(state);
            self.inner.lose_unsynced(file);
            return Err(error);
        }
        drop(state);
        self.inner.sync_data(file)
    }

    fn sync_names(&self) -> Result<(), DiskError> {
        let mut state = self.powered()?;
        if state.faults.lies {
            state.tally.count(Fault::LyingSync);
            return Ok(());
        }
        let chance = state.faults.sync_error;
        let chance = if self.scripted.fails(Call::SyncNames) { Chance::ALWAYS } else { chance };
        state.fails(chance, Fault::SyncError)?;
        drop(state);
        self.inner.sync_names()
    }

    fn truncate(&self, file: File, length: u64) -> Result<(), DiskError> {
        drop(self.powered()?);
        self.inner.truncate(file, length)
    }

    fn unlink(&self, file: File) -> Result<(), DiskError> {
        drop(self.powered()?);
        self.inner.unlink(file)
    }

    fn punch_hole(&self, file: File, offset: u64, length: u64) -> Result<(), DiskError> {
        drop(self.powered()?);
        self.inner.punch_hole(file, offset, length)
    }

    fn allocate(&self, file: File, length: u64) -> Result<(), DiskError> {
        drop(self.powered()?);
        self.inner.allocate(file, length)
    }

    fn free_space(&self) -> Result<u64, DiskError> {
        drop(self.alive()?);
        self.inner.free_space()
    }

    fn forget_cached(&self, file: File) {
        self.inner.forget_cached(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const FILE: File = File::Segment(1);

    fn disk(faults: DiskFaults) -> SimDisk {
        let disk = SimDisk::new(1 << 20, faults, ChaCha20Rng::seed_from_u64(7));
        disk.create(FILE).unwrap();
        disk
    }

    fn read(disk: &SimDisk) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        let length = disk.read_at(FILE, 0, &mut bytes).unwrap();
        bytes.truncate(length);
        bytes
    }

    #[test]
    fn what_was_synced_outlives_the_power_and_a_lie_does_not() {
        for (lies, kept) in [(false, true), (true, false)] {
            let always = (0..50).all(|_| {
                let disk = disk(DiskFaults { lies, ..DiskFaults::default() });
                disk.write_at(FILE, 0, b"chunk").unwrap();
                disk.sync_data(FILE).unwrap();
                disk.sync_names().unwrap();
                // Another seed for each cut.
                disk.state().rng = ChaCha20Rng::seed_from_u64(u64::from(rand_seed(&disk)));
                disk.power_cut();
                disk.len(FILE).is_ok() && read(&disk) == b"chunk"
            });
            assert_eq!(always, kept);
        }
    }

    fn rand_seed(disk: &SimDisk) -> u32 {
        disk.state().rng.random()
    }

    #[test]
    fn after_the_power_went_nothing_works_until_the_next_start() {
        let disk = disk(DiskFaults::default());
        disk.cut_power_after(1);
        disk.write_at(FILE, 0, b"one").unwrap();
        assert!(disk.write_at(FILE, 3, b"two").is_err() && disk.is_dead());
        assert!(disk.sync_data(FILE).is_err() && disk.len(FILE).is_err());
        disk.power_cut();
        assert!(disk.write_at(FILE, 0, b"new").is_ok() || disk.len(FILE).is_err());
    }

    #[test]
    fn every_error_is_counted() {
        let always = Chance::per_mille(1_000);
        let faults = DiskFaults { write_error: always, read_error: always, ..Default::default() };
        let disk = disk(faults);
        assert!(disk.write_at(FILE, 0, b"one").is_err());
        assert!(disk.read_at(FILE, 0, &mut [0]).is_err());
        let tally = disk.take_tally();
        assert_eq!((tally.of(Fault::WriteError), tally.of(Fault::ReadError)), (1, 1));
        assert_eq!(disk.take_tally().total(), 0);
    }
}
