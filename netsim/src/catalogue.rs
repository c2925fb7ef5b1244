//! A node's catalogue: the store's own memory catalogue, with faults drawn from a generator.
//!
//! The log is the truth: whatever becomes of the catalogue, nothing acknowledged may be lost.

use crate::chance::Chance;
use crate::tally::{Fault, Tally};
use quloud::store::index::{Catalogue, CatalogueError, Change};
use quloud::store::memory::MemoryCatalogue;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Begins the keys of what is noted about tombstones.
const NOTES: u8 = b't';

/// The key of how far the catalogue had come in the log.
const POSITION: u8 = b'p';

/// How a catalogue misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct CatalogueFaults {
    /// A call fails.
    pub(crate) error: Chance,
    /// A crash leaves it in another state than it should: see [`SimCatalogue::power_cut`].
    pub(crate) wrecked: Chance,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct SimCatalogue {
    inner: MemoryCatalogue,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rng: ChaCha20Rng,
    faults: CatalogueFaults,
    /// What it held at some start.
    earlier: Option<MemoryCatalogue>,
    tally: Tally<Fault>,
}

impl SimCatalogue {
    /// An empty one.
    pub(crate) fn new(faults: CatalogueFaults, rng: ChaCha20Rng) -> Self {
        Self::over(MemoryCatalogue::new(), faults, rng)
    }

    fn over(inner: MemoryCatalogue, faults: CatalogueFaults, rng: ChaCha20Rng) -> Self {
        let tally = Tally::default();
        Self { inner, state: Mutex::new(State { rng, faults, earlier: None, tally }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it misbehaves like this.
    pub(crate) fn set_faults(&self, faults: CatalogueFaults) {
        self.state().faults = faults;
    }

    /// Looks without being a part of the world: no call fails meanwhile, and nothing is drawn.
    pub(crate) fn undisturbed<R>(&self, look: impl FnOnce() -> R) -> R {
        let error = std::mem::take(&mut self.state().faults.error);
        let seen = look();
        self.state().faults.error = error;
        seen
    }

    /// What it holds now, in another one.
    pub(crate) fn image(&self, rng: ChaCha20Rng) -> Self {
        Self::over(self.inner.image(), self.state().faults, rng)
    }

    /// The machine starts: now and then this is what a wreck will hold.
    pub(crate) fn started(&self) {
        let state = &mut *self.state();
        if state.faults.wrecked > Chance::NEVER && state.rng.random_range(0..3) == 0 {
            state.earlier = Some(self.inner.image());
        }
    }

    /// The machine goes down: what was not flushed may be lost. A wrecked one has lost
    /// an entry, or is what it was long ago. Returns the one to go on with, where it is another.
    pub(crate) fn power_cut(&self) -> Option<Self> {
        let state = &mut *self.state();
        self.inner.power_cut(&mut state.rng);
        if !state.faults.wrecked.happens(&mut state.rng) {
            return None;
        }
        let left = match state.rng.random_range(0..2) {
            0 => state.earlier.take(),
            _ => None,
        };
        let fault = match left {
            Some(_) => Fault::CatalogueOld,
            None if self.inner.lose_one(&mut state.rng) => Fault::CatalogueWrong,
            None => return None,
        };
        state.tally.count(fault);
        let rng = ChaCha20Rng::from_seed(state.rng.random());
        left.map(|left| Self::over(left, state.faults, rng))
    }

    /// It has lost what it noted about segments; says whether there was anything.
    pub(crate) fn lose_notes(&self) -> bool {
        self.lose_all(NOTES)
    }

    /// It has lost how far it had come in the log; says whether it had come anywhere.
    pub(crate) fn lose_position(&self) -> bool {
        self.lose_all(POSITION)
    }

    fn lose_all(&self, first: u8) -> bool {
        let mut gone = Vec::new();
        let lost = |key: &[u8]| Change { key: key.to_vec(), value: None };
        let scanned = self.inner.scan(&[first], &mut |key, _| gone.push(lost(key)));
        scanned.is_ok() && !gone.is_empty() && self.inner.apply(&gone).is_ok()
    }

    /// What was injected since the last call.
    pub(crate) fn take_tally(&self) -> Tally<Fault> {
        std::mem::take(&mut self.state().tally)
    }

    fn works(&self) -> Result<(), CatalogueError> {
        let state = &mut *self.state();
        if state.faults.error.happens(&mut state.rng) {
            state.tally.count(Fault::CatalogueError);
            return Err(CatalogueError::Failed("drawn".to_owned()));
        }
        Ok(())
    }
}

impl Catalogue for SimCatalogue {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, CatalogueError> {
        self.works()?;
        self.inner.get(key)
    }

    fn apply(&self, changes: &[Change]) -> Result<(), CatalogueError> {
        self.works()?;
        self.inner.apply(changes)
    }

    fn flush(&self) -> Result<(), CatalogueError> {
        self.works()?;
        self.inner.flush()
    }

    fn scan(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), CatalogueError> {
        self.works()?;
        self.inner.scan(prefix, visit)
    }

    fn clear(&self) -> Result<(), CatalogueError> {
        self.works()?;
        self.inner.clear()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrecked_catalogue_is_old_or_has_lost_an_entry() {
        let always = Chance::per_mille(1_000);
        let faults = CatalogueFaults { error: Chance::NEVER, wrecked: always };
        let (mut old, mut wrong) = (0, 0);
        for seed in 0..60 {
            let catalogue = SimCatalogue::new(faults, ChaCha20Rng::seed_from_u64(seed));
            let put = |key: &[u8]| {
                let change = Change { key: key.to_vec(), value: Some(vec![1]) };
                catalogue.apply(&[change]).unwrap();
                catalogue.flush().unwrap();
            };
            put(b"a");
            catalogue.started();
            put(b"b");
            let left = catalogue.power_cut();
            let left = left.as_ref().unwrap_or(&catalogue);
            match [b"a", b"b"].map(|key| left.get(key).unwrap().is_some()) {
                [true, false] => old += 1,
                [false, true] => wrong += 1,
                _ => {}
            }
        }
        assert!(old > 10 && wrong > 10, "{old} {wrong}");
    }
}
