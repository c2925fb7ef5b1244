//! Calls that fail, and harm that is done, because a script says so, and not by chance.

use super::SimDisk;
use quloud::store::disk::{Disk, File};
use quloud::store::record::{BLOCK_BYTES, Kind, Prefix, relocate};
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

    /// Writes of chunks were lost, and old records that were never made durable are there again:
    /// each that is as long as the first one gives its place to a copy of that. Says how many.
    pub(crate) fn supplant(&self) -> usize {
        let segments = self.inner.segments().unwrap_or_default().into_iter().map(File::Segment);
        let heads: Vec<Prefix> = segments.flat_map(|file| self.chunk_heads(file)).collect();
        let Some((old, others)) = heads.split_first() else { return 0 };
        let mut record = vec![0; old.record_bytes()];
        let _ = self.inner.read_at(File::Segment(old.place.segment), old.place.offset, &mut record);
        let fits = |head: &&Prefix| head.record_bytes() == old.record_bytes();
        let lost = others.iter().filter(fits).filter(|head| {
            relocate(&mut record, old, head.place);
            self.inner.spoil(File::Segment(head.place.segment), head.place.offset, &record)
        });
        let lost = lost.count();
        self.state().spoiled |= lost > 0;
        lost
    }

    /// The heads of the chunks' records in a file.
    fn chunk_heads(&self, file: File) -> Vec<Prefix> {
        let length = self.inner.len(file).unwrap_or(0);
        let mut block = vec![0; BLOCK_BYTES];
        let head = |at| {
            self.inner.read_at(file, at, &mut block).ok()?;
            Prefix::parse(&block).ok().filter(|head| head.kind == Kind::Chunk)
        };
        (0..length).step_by(BLOCK_BYTES).filter_map(head).collect()
    }

    fn chip_segment(&self, file: File) -> usize {
        let ends = self.chunk_heads(file).into_iter().map(|head| head.locator().end());
        ends.filter(|end| self.inner.flip_bit(file, end.saturating_sub(1), 0)).count()
    }
}
