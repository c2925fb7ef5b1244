//! Calls that fail because a script says so, and not by chance.

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
