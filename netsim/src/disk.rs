//! A node's disk: the store's own memory disk, with faults drawn from a generator.
//!
//! Errors leave things as a real disk would: a failed write may have written any part, and a failed
//! sync loses what it should have made durable while the cache still shows it. What a disk does
//! without a word (it lies, decays, or reads and writes elsewhere) is remembered: such a disk is
//! not sound, and what lay on it may be lost, but never served wrong.

mod scripted;
mod state;

pub(crate) use scripted::Call;
pub(crate) use state::{DiskFaults, Mishap};

use crate::chance::Chance;
use crate::tally::{Fault, Tally};
use quloud::store::disk::{Disk, DiskError, File};
use quloud::store::memory::MemoryDisk;
use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use scripted::Scripted;
use state::State;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A block of the medium, in bytes.
const BLOCK: u64 = 4_096;

/// See the module.
#[derive(Debug)]
pub(crate) struct SimDisk {
    inner: MemoryDisk,
    state: Mutex<State>,
    scripted: Scripted,
}

impl SimDisk {
    /// An empty disk of `capacity` bytes.
    pub(crate) fn new(capacity: u64, faults: DiskFaults, rng: ChaCha20Rng) -> Self {
        Self::over(MemoryDisk::new(capacity), faults, rng)
    }

    fn over(inner: MemoryDisk, faults: DiskFaults, rng: ChaCha20Rng) -> Self {
        Self { inner, state: Mutex::new(State::new(faults, rng)), scripted: Scripted::default() }
    }

    /// The next `times` such calls fail, whatever the faults are.
    pub(crate) fn fail_next(&self, call: Call, times: u32) {
        self.scripted.fail(call, times);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it misbehaves like this, and has nothing else in store.
    pub(crate) fn set_faults(&self, faults: DiskFaults) {
        self.scripted.forget();
        let state = &mut *self.state();
        (state.faults, state.armed, state.power_for) = (faults, None, None);
    }

    /// Others make room: it has so many bytes again, and no quota.
    pub(crate) fn make_room(&self, capacity: u64) {
        self.state().quota = None;
        self.inner.set_capacity(capacity);
    }

    /// Others fill the disk up to the last `left` bytes.
    pub(crate) fn leave_only(&self, left: u64) {
        self.inner.set_capacity(self.taken_in_all().saturating_add(left));
    }

    /// A quota lets this user write `left` bytes more: the disk still says that it has space.
    pub(crate) fn set_quota(&self, left: u64) {
        self.state().quota = Some(self.taken_in_all().saturating_add(left));
    }

    fn taken_in_all(&self) -> u64 {
        let files = self.inner.segments().unwrap_or_default().into_iter().map(File::Segment);
        let ledgers = self.inner.ledgers().unwrap_or_default().into_iter().map(File::Ledger);
        files
            .chain(ledgers)
            .chain([File::Ballast])
            .filter_map(|file| self.inner.taken(file).ok())
            .sum()
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
        let losses = self.inner.power_cut(&mut state.rng);
        state.tally.add(Fault::UnsyncedLost, losses.changes);
        state.tally.add(Fault::TornWrite, losses.torn);
        state.tally.add(Fault::NameLost, losses.names);
        (state.power_for, state.dead) = (None, false);
    }

    /// Looks without being a part of the world: no read fails meanwhile, and nothing is drawn.
    pub(crate) fn undisturbed<R>(&self, look: impl FnOnce() -> R) -> R {
        let (read_error, armed) = {
            let state = &mut *self.state();
            (std::mem::take(&mut state.faults.read_error), state.armed.take())
        };
        let seen = look();
        let state = &mut *self.state();
        (state.faults.read_error, state.armed) = (read_error, armed);
        seen
    }

    /// What it holds now, on another disk of the same kind.
    pub(crate) fn image(&self, rng: ChaCha20Rng) -> Self {
        Self::over(self.inner.image(), self.state().faults, rng)
    }

    /// Flips a bit somewhere in what is written; `false` where nothing is.
    pub(crate) fn rot(&self) -> bool {
        let state = &mut *self.state();
        let Some((file, at)) = self.somewhere(state) else { return false };
        let rotten = self.inner.flip_bit(file, at, state.rng.random_range(0..8));
        state.tally.add(Fault::Rot, rotten.into());
        state.spoiled |= rotten;
        rotten
    }

    /// A whole block becomes zeros; `false` where nothing is written.
    pub(crate) fn zero(&self) -> bool {
        let state = &mut *self.state();
        let Some((file, at)) = self.somewhere(state) else { return false };
        let at = at - at % BLOCK;
        let length = self.inner.len(file).unwrap_or(0).saturating_sub(at).min(BLOCK);
        let zeros = vec![0; usize::try_from(length).unwrap_or(0)];
        let zeroed = self.inner.spoil(file, at, &zeros);
        state.tally.add(Fault::Zeroed, zeroed.into());
        state.spoiled |= zeroed;
        zeroed
    }

    /// Some time soon it does this once, without a word.
    pub(crate) fn arm(&self, mishap: Mishap) {
        self.state().armed = Some(mishap);
    }

    /// Whether it did something without a word.
    pub(crate) fn is_spoiled(&self) -> bool {
        self.state().spoiled
    }

    /// A byte of what is written.
    fn somewhere(&self, state: &mut State) -> Option<(File, u64)> {
        let segments = self.inner.segments().ok().filter(|segments| !segments.is_empty())?;
        let file = File::Segment(*segments.get(state.rng.random_range(0..segments.len()))?);
        let length = self.inner.len(file).ok().filter(|length| *length > 0)?;
        Some((file, state.rng.random_range(0..length)))
    }

    /// What was injected since the last call.
    pub(crate) fn take_tally(&self) -> Tally<Fault> {
        std::mem::take(&mut self.state().tally)
    }

    /// Lets a change through, unless the power is gone.
    fn powered(&self) -> Result<MutexGuard<'_, State>, DiskError> {
        let mut state = self.state();
        state.power(true)?;
        Ok(state)
    }

    /// Lets a question through, unless the power is gone or it fails.
    fn answers(&self) -> Result<(), DiskError> {
        let mut state = self.state();
        state.power(false)?;
        let chance = state.faults.read_error;
        state.fails(chance, Fault::ReadError)
    }

    /// How much of a write the disk takes, and what it says then.
    fn takes(&self, state: &mut State, length: usize) -> (usize, Result<(), DiskError>) {
        let chance = state.faults.write_error;
        let chance = if self.scripted.fails(Call::Write) { Chance::ALWAYS } else { chance };
        let mut said = state.fails(chance, Fault::WriteError);
        if said.is_ok() {
            said = state.fits();
        }
        if said.is_err() {
            let part = state.rng.random_range(0..=length);
            state.tally.add(Fault::ShortWrite, u64::from(part > 0));
            return (part, said);
        }
        let left = state.quota.map(|quota| quota.saturating_sub(self.taken_in_all()));
        let left = left.and_then(|left| usize::try_from(left).ok()).unwrap_or(usize::MAX);
        if left < length {
            state.tally.count(Fault::Quota);
            return (left, Err(DiskError::Full));
        }
        (length, Ok(()))
    }

    /// Writes nothing of it, but leaves the file as long as if it had.
    fn write_nothing(&self, file: File, offset: u64, length: usize) -> Result<(), DiskError> {
        let mut old = vec![0; length];
        self.inner.read_at(file, offset, &mut old)?;
        self.inner.write_at(file, offset, &old)
    }

    /// Writes over something else, without making it longer.
    fn write_over(&self, (file, at): (File, u64), bytes: &[u8]) -> Result<(), DiskError> {
        let room = self.inner.len(file)?.saturating_sub(at);
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        self.inner.write_at(file, at, bytes.get(..room).unwrap_or_default())
    }
}

impl Disk for SimDisk {
    fn segments(&self) -> Result<Vec<u64>, DiskError> {
        self.answers()?;
        self.inner.segments()
    }

    fn ledgers(&self) -> Result<Vec<u64>, DiskError> {
        self.answers()?;
        self.inner.ledgers()
    }

    fn len(&self, file: File) -> Result<u64, DiskError> {
        self.answers()?;
        self.inner.len(file)
    }

    fn taken(&self, file: File) -> Result<u64, DiskError> {
        self.answers()?;
        self.inner.taken(file)
    }

    fn create(&self, file: File) -> Result<(), DiskError> {
        self.powered()?.changes()?;
        self.inner.create(file)
    }

    fn write_at(&self, file: File, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let state = &mut *self.powered()?;
        if state.slips(Mishap::LostWrite) {
            return self.write_nothing(file, offset, bytes.len());
        }
        if state.slips(Mishap::WriteElsewhere) {
            self.write_nothing(file, offset, bytes.len())?;
            let place = self.somewhere(state).map(|(file, at)| (file, at - at % BLOCK));
            return place.map_or(Ok(()), |place| self.write_over(place, bytes));
        }
        let (part, said) = self.takes(state, bytes.len());
        let written = self.inner.write_at(file, offset, bytes.get(..part).unwrap_or_default());
        if written == Err(DiskError::Full) {
            state.tally.count(Fault::Full);
        }
        written.and(said)
    }

    fn read_at(&self, file: File, offset: u64, bytes: &mut [u8]) -> Result<usize, DiskError> {
        self.answers()?;
        let state = &mut *self.state();
        let length = self.inner.read_at(file, offset, bytes)?;
        if length > 0 && state.slips(Mishap::ReadElsewhere) {
            let (file, at) = self.somewhere(state).unwrap_or((file, offset));
            self.inner.read_at(
                file,
                at - at % BLOCK,
                bytes.get_mut(..length).unwrap_or_default(),
            )?;
        }
        Ok(length)
    }

    fn sync_data(&self, file: File) -> Result<(), DiskError> {
        let mut state = self.powered()?;
        if state.faults.lies {
            state.tally.count(Fault::LyingSync);
            return Ok(());
        }
        let chance = state.faults.sync_error;
        let chance = if self.scripted.fails(Call::SyncData) { Chance::ALWAYS } else { chance };
        // Space that was promised to a write may be missing when it is really written.
        if let Err(error) = state.fails(chance, Fault::SyncError).and_then(|()| state.fits()) {
            self.inner.lose_unsynced(file);
            return Err(error);
        }
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
        state.fits()?;
        self.inner.sync_names()
    }

    fn truncate(&self, file: File, length: u64) -> Result<(), DiskError> {
        self.powered()?.changes()?;
        self.inner.truncate(file, length)
    }

    fn unlink(&self, file: File) -> Result<(), DiskError> {
        self.powered()?.changes()?;
        self.inner.unlink(file)
    }

    fn punch_hole(&self, file: File, offset: u64, length: u64) -> Result<(), DiskError> {
        self.powered()?.changes()?;
        self.inner.punch_hole(file, offset, length)
    }

    fn allocate(&self, file: File, length: u64) -> Result<(), DiskError> {
        self.powered()?.changes()?;
        self.inner.allocate(file, length)
    }

    fn free_space(&self) -> Result<u64, DiskError> {
        self.answers()?;
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
        let rng = ChaCha20Rng::seed_from_u64(7);
        let disk = SimDisk::new(1 << 20, DiskFaults::default(), rng);
        disk.create(FILE).unwrap();
        disk.set_faults(faults);
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
            let always = (0..50).all(|cut| {
                let disk = disk(DiskFaults { lies, ..DiskFaults::default() });
                disk.write_at(FILE, 0, b"chunk").unwrap();
                disk.sync_data(FILE).unwrap();
                disk.sync_names().unwrap();
                // Another seed for each cut.
                disk.state().rng = ChaCha20Rng::seed_from_u64(cut);
                disk.power_cut();
                disk.len(FILE).is_ok() && read(&disk) == b"chunk"
            });
            assert_eq!(always, kept);
        }
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
    fn a_mishap_happens_once_and_spoils_the_disk() {
        let disk = disk(DiskFaults::default());
        disk.write_at(FILE, 0, b"first").unwrap();
        assert!(!disk.is_spoiled());
        disk.arm(Mishap::LostWrite);
        disk.write_at(FILE, 0, b"other").unwrap();
        assert!(read(&disk) == b"first" && disk.is_spoiled());
        disk.write_at(FILE, 0, b"third").unwrap();
        assert_eq!(read(&disk), b"third");
        disk.arm(Mishap::LostWrite);
        disk.write_at(FILE, 5, b"longer").unwrap();
        assert_eq!(read(&disk), b"third\0\0\0\0\0\0");
        disk.arm(Mishap::WriteElsewhere);
        disk.write_at(FILE, 11, b"lands at the start").unwrap();
        assert_eq!(read(&disk).get(..5), Some(&b"lands"[..]));
    }

    #[test]
    fn a_disk_that_is_mended_has_nothing_else_in_store() {
        let disk = disk(DiskFaults::default());
        disk.fail_next(Call::SyncData, 2);
        assert!(disk.sync_data(FILE).is_err());
        disk.arm(Mishap::LostWrite);
        disk.cut_power_after(0);
        disk.set_faults(DiskFaults::default());
        assert!(disk.sync_data(FILE).is_ok());
        disk.write_at(FILE, 0, b"chunk").unwrap();
        assert_eq!(read(&disk), b"chunk");
    }

    #[test]
    fn a_quota_is_felt_where_the_disk_says_that_there_is_space() {
        let disk = disk(DiskFaults::default());
        disk.set_quota(4);
        assert_eq!(disk.write_at(FILE, 0, b"chunk"), Err(DiskError::Full));
        assert!(disk.free_space().unwrap() > 1_000);
        disk.make_room(1 << 20);
        assert_eq!(disk.write_at(FILE, 0, b"chunk"), Ok(()));
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
        let faults = DiskFaults { no_space: always, ..Default::default() };
        disk.set_faults(faults);
        assert_eq!(disk.create(FILE), Err(DiskError::Full));
        assert_eq!(disk.sync_names(), Err(DiskError::Full));
        assert_eq!(disk.take_tally().of(Fault::NoSpace), 2);
        assert_eq!(disk.take_tally().total(), 0);
    }
}
