//! What the owners keep on their devices, and what becomes of it: backups, and what they forget.

use crate::chance::{Chance, draw};
use rand::{Rng, RngExt};

/// The most backups of all owners of a world.
const TIMES_MAX: usize = 8;

/// The largest chunk of a backup, sealed: its pack takes all small files of a tree at the most.
const CHUNK_BYTES_MAX: usize = 48 << 10;

/// What the owners' devices have and do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BackupPlan {
    /// Times that each owner backs its files up.
    pub(crate) times: usize,
    /// Times that each owner forgets snapshots.
    pub(crate) forgets: usize,
    /// Times that each owner reads its own head back.
    pub(crate) looks: usize,
    /// Files that a device begins with.
    pub(crate) files: usize,
    /// The largest file that is one piece, in bytes.
    pub(crate) file_bytes: usize,
    /// Longer ones are cut into pieces of so many.
    pub(crate) piece_bytes: usize,
    /// Of the snapshots, those that an owner forgets at such a time.
    pub(crate) forgotten: Chance,
    /// Of the backups, those during which the device loses its power.
    pub(crate) broken_off: Chance,
    /// Of what is published, how often a checkpoint is made although the head has room: something
    /// that it names is thought to have too few holders.
    pub(crate) thin: Chance,
}

impl BackupPlan {
    /// In a third of the worlds nobody backs anything up.
    pub(super) fn draw(rng: &mut impl Rng, owners: usize) -> Self {
        let most = (TIMES_MAX / owners.max(1)).clamp(1, 5);
        let times = if rng.random_range(0..3) == 0 { 0 } else { rng.random_range(1..=most) };
        let piece_bytes = rng.random_range(1_000..=6_000);
        Self {
            times,
            forgets: if times > 1 { rng.random_range(0..=2) } else { 0 },
            looks: if times > 0 { rng.random_range(0..=3) } else { 0 },
            files: rng.random_range(1..=8),
            file_bytes: rng.random_range(100..piece_bytes.min(2_000)),
            piece_bytes,
            forgotten: draw(rng, Chance::per_mille(700)),
            broken_off: draw(rng, Chance::per_mille(300)),
            thin: draw(rng, Chance::per_mille(500)),
        }
    }

    /// Nothing but what a script says.
    pub(super) fn none() -> Self {
        Self {
            times: 0,
            forgets: 0,
            looks: 0,
            files: 6,
            file_bytes: 1_500,
            piece_bytes: 4_000,
            forgotten: Chance::NEVER,
            broken_off: Chance::NEVER,
            thin: Chance::NEVER,
        }
    }

    /// The same without faults.
    pub(super) fn kind(self) -> Self {
        Self { broken_off: Chance::NEVER, ..self }
    }

    /// Sealed bytes of the largest chunk that comes of it.
    pub(crate) fn chunk_bytes(&self) -> usize {
        if self.times == 0 { 0 } else { CHUNK_BYTES_MAX }
    }
}
