//! How much of a disk a restore may take.

use std::io;
use std::os::fd::AsFd;

/// What is left free for all else: this, or a twentieth of a small disk.
const RESERVE_BYTES: u64 = 256 << 20;

/// What a file, a folder or a link takes beside its data, about.
const ENTRY_BYTES: u64 = 512;

/// The unit in which disks give room.
const BLOCK_BYTES: u64 = 4096;

/// What is still to be written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Demand {
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

impl Demand {
    /// One more entry with so much data.
    pub(super) fn add(&mut self, data_bytes: u64) {
        let blocks = data_bytes.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES);
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(blocks).saturating_add(ENTRY_BYTES);
    }
}

/// The disk below a folder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Bytes free for us.
    free: u64,
    /// The whole disk.
    disk: u64,
    /// Names that it can still give; `None` where it does not count them.
    entries: Option<u64>,
}

/// The disk has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom {
    pub(super) needed: u64,
    pub(super) available: u64,
}

impl Room {
    pub(super) fn of(folder: impl AsFd) -> io::Result<Self> {
        let disk = rustix::fs::fstatvfs(folder)?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        let entries = (disk.f_files > 0).then_some(disk.f_favail);
        Ok(Self { free: bytes(disk.f_bavail), disk: bytes(disk.f_blocks), entries })
    }

    /// Bytes that a restore may take.
    pub(super) fn available(self) -> u64 {
        self.free.saturating_sub(RESERVE_BYTES.min(self.disk / 20))
    }

    /// # Errors
    /// [`NoRoom`], in bytes where these lack, else in names.
    pub(super) fn check(self, demand: Demand) -> Result<(), NoRoom> {
        let available = self.available();
        if demand.bytes > available {
            return Err(NoRoom { needed: demand.bytes, available });
        }
        match self.entries {
            Some(available) if available < demand.entries => {
                Err(NoRoom { needed: demand.entries, available })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_leaves_the_reserve_free() {
        let room = |free, disk| Room { free, disk, entries: None };
        let demand = |bytes| Demand { entries: 1, bytes };
        let large = room(1 << 40, 1 << 41);
        assert_eq!(large.check(demand((1 << 40) - RESERVE_BYTES)), Ok(()));
        let available = (1 << 40) - RESERVE_BYTES;
        let refused = Err(NoRoom { needed: available + 1, available });
        assert_eq!(large.check(demand(available + 1)), refused);
        assert_eq!(room(100, 1000).check(demand(50)), Ok(()));
        assert!(room(100, 1000).check(demand(51)).is_err());
    }

    #[test]
    fn names_are_counted_where_the_disk_counts_them() {
        let room = Room { free: 1 << 40, disk: 1 << 41, entries: Some(10) };
        assert_eq!(room.check(Demand { entries: 10, bytes: 0 }), Ok(()));
        let refused = Err(NoRoom { needed: 11, available: 10 });
        assert_eq!(room.check(Demand { entries: 11, bytes: 0 }), refused);
    }

    #[test]
    fn data_takes_whole_blocks_and_no_sum_overflows() {
        let mut demand = Demand::default();
        demand.add(0);
        demand.add(1);
        assert_eq!((demand.entries, demand.bytes), (2, 2 * ENTRY_BYTES + BLOCK_BYTES));
        demand.add(u64::MAX);
        demand.add(u64::MAX);
        assert_eq!(demand.bytes, u64::MAX);
    }
}
