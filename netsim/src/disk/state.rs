//! How a disk misbehaves: what is drawn at each call, and what somebody armed.

use crate::chance::Chance;
use crate::tally::{Fault, Tally};
use quloud::store::disk::DiskError;
use rand_chacha::ChaCha20Rng;

/// The error number of a failed device (EIO).
const EIO: i32 = 5;

/// How a disk misbehaves, and says so; but for [`Self::lies`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct DiskFaults {
    /// A change fails; a write after a part of it.
    pub(crate) write_error: Chance,
    /// A read fails, or a question.
    pub(crate) read_error: Chance,
    /// A sync fails.
    pub(crate) sync_error: Chance,
    /// A call that may need space says that there is none; a write after a part of it.
    pub(crate) no_space: Chance,
    /// Syncs are acknowledged and do nothing.
    pub(crate) lies: bool,
}

/// What a disk does once, without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mishap {
    /// The next write never reaches the medium: the block keeps its old version.
    LostWrite,
    /// The next write goes elsewhere.
    WriteElsewhere,
    /// The next read comes from elsewhere.
    ReadElsewhere,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) rng: ChaCha20Rng,
    pub(super) faults: DiskFaults,
    pub(super) armed: Option<Mishap>,
    /// It did something without a word, at some time.
    pub(super) spoiled: bool,
    /// Writes are refused above so many bytes in all, whatever the disk says is free.
    pub(super) quota: Option<u64>,
    /// The power goes after so many more calls that change something.
    pub(super) power_for: Option<u32>,
    pub(super) dead: bool,
    pub(super) tally: Tally<Fault>,
}

impl State {
    pub(super) fn new(faults: DiskFaults, rng: ChaCha20Rng) -> Self {
        Self {
            rng,
            faults,
            armed: None,
            spoiled: false,
            quota: None,
            power_for: None,
            dead: false,
            tally: Tally::default(),
        }
    }

    /// Whether the device fails this time.
    pub(super) fn fails(&mut self, chance: Chance, fault: Fault) -> Result<(), DiskError> {
        self.draw(chance, fault, DiskError::Io(EIO))
    }

    /// Whether there is no space this time.
    pub(super) fn fits(&mut self) -> Result<(), DiskError> {
        self.draw(self.faults.no_space, Fault::NoSpace, DiskError::Full)
    }

    /// Lets a change through that needs no data.
    pub(super) fn changes(&mut self) -> Result<(), DiskError> {
        self.fails(self.faults.write_error, Fault::WriteError)?;
        self.fits()
    }

    fn draw(&mut self, chance: Chance, fault: Fault, error: DiskError) -> Result<(), DiskError> {
        if chance.happens(&mut self.rng) {
            self.tally.count(fault);
            return Err(error);
        }
        Ok(())
    }

    /// Whether the disk does this now, without a word.
    pub(super) fn slips(&mut self, mishap: Mishap) -> bool {
        let slips = self.armed == Some(mishap);
        if slips {
            (self.armed, self.spoiled) = (None, true);
            self.tally.count(match mishap {
                Mishap::LostWrite => Fault::LostWrite,
                Mishap::WriteElsewhere => Fault::WriteElsewhere,
                Mishap::ReadElsewhere => Fault::ReadElsewhere,
            });
        }
        slips
    }

    /// Lets a change through, unless the power is gone.
    pub(super) fn power(&mut self, changes: bool) -> Result<(), DiskError> {
        if let Some(left) = self.power_for.filter(|_| changes) {
            match left.checked_sub(1) {
                Some(left) => self.power_for = Some(left),
                None => self.dead = true,
            }
        }
        if self.dead { Err(DiskError::Io(EIO)) } else { Ok(()) }
    }
}
