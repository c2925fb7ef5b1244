//! Calls that fail, and harm that is done, because a script says so, and not by chance.

use super::SimDisk;
use quloud::store::disk::{Disk, File};
use quloud::store::record::{BLOCK_BYTES, Kind, Prefix};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// A call to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    /// Some bytes of a file are written.
    Write,
    /// The bytes of a file are made durable.
    SyncData,
    /// The names of files are made durable.
    SyncNames,
}

/// How many of the next calls fail.
#[derive(Debug, Default)]
pub(super) struct Scripted(Mutex<BTreeMap<Call, u32>>);

impl Scripted {
    /// The next `times` such calls fail.
    pub(super) fn fail(&self, call: Call, times: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(call, times);
    }

    /// No call fails any more.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether this call fails.
    pub(super) fn fails(&self, call: Call) -> bool {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        left.get_mut(&call).is_some_and(|left| {
            let fails = *left > 0;
            *left = left.saturating_sub(1);
            fails
        })
    }
}

impl SimDisk {
    /// Flips a bit at the very end of every chunk's record, behind the bytes of the chunk; says how
    /// many records that were.
    pub(crate) fn chip(&self) -> usize {
        let segments = self.inner.segments().unwrap_or_default();
        let chipped = segments.into_iter().map(|segment| self.chip_segment(File::Segment(segment)));
        let chipped = chipped.sum();
        self.state().spoiled |= chipped > 0;
        chipped
    }

    fn chip_segment(&self, file: File) -> usize {
        let length = self.inner.len(file).unwrap_or(0);
        let mut block = vec![0; BLOCK_BYTES];
        let heads = (0..length).step_by(BLOCK_BYTES).filter(|at| {
            let read = self.inner.read_at(file, *at, &mut block);
            let head = read.ok().and_then(|_| Prefix::parse(&block).ok());
            let record = head.filter(|head| head.kind == Kind::Chunk);
            let end = record.map(|record| record.locator().end());
            end.is_some_and(|end| self.inner.flip_bit(file, end.saturating_sub(1), 0))
        });
        heads.count()
    }
}
