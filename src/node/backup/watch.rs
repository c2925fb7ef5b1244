//! How far a backup is, and what it could not do as it was asked to.

use super::sink::Handed;
use crate::node::chunks::Chunks;
use crate::node::report::{BackupDone, Progress};
use crate::repo::backup::{self, Watch};
use crate::repo::names::inert;
use crate::repo::reference::ChunkRef;
use crate::repo::walk::Fault;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Between two lines of progress.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// So many faults are told one by one; the others are counted.
const FAULT_LINES_MAX: usize = 100;

/// And so many bytes of them: all must fit one answer of the API, whatever is escaped there.
const FAULT_BYTES_MAX: usize = 64 << 10;

/// Watches one backup, on its sealing thread.
pub(super) struct Teller {
    /// Where listings are read.
    chunks: Chunks,
    progress: mpsc::Sender<Progress<BackupDone>>,
    handed: Arc<Handed>,
    told: Option<Instant>,
    last: backup::Progress,
    faults: u64,
    lines: Vec<String>,
    lines_bytes: usize,
}

impl Teller {
    pub(super) fn new(
        chunks: Chunks,
        progress: mpsc::Sender<Progress<BackupDone>>,
        handed: Arc<Handed>,
    ) -> Self {
        Self {
            chunks,
            progress,
            handed,
            told: None,
            last: backup::Progress::default(),
            faults: 0,
            lines: Vec::new(),
            lines_bytes: 0,
        }
    }

    /// Tells how far it is, and what is being done.
    pub(super) fn note(&self, note: &str) {
        let backup::Progress { done, expected, .. } = self.last;
        let working = Progress::Working {
            bytes: done.bytes,
            // What is there by now is at least what was seen.
            total: expected.map(|expected| expected.bytes.max(done.bytes)),
            chunks: self.handed.chunks(),
            replicas: self.handed.fewest(),
            note: Some(note.to_owned()),
        };
        // A full queue means that the listener is slow: the next line tells more.
        drop(self.progress.try_send(working));
    }

    /// How many names something is wrong with.
    pub(super) fn faults(&self) -> u64 {
        self.faults
    }

    /// The first of them, with what is wrong; empty where there is none.
    pub(super) fn first_fault(&self) -> &str {
        self.lines.first().map_or("", String::as_str)
    }

    /// The first of them, each with what is wrong.
    pub(super) fn into_lines(self) -> Vec<String> {
        self.lines
    }
}

impl Watch for Teller {
    fn moved(&mut self, progress: &backup::Progress) {
        self.last = *progress;
        if self.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        let backup::Progress { done, faults, .. } = *progress;
        let wrong = if faults > 0 { format!(", {faults} not as asked") } else { String::new() };
        self.note(&format!("{} files{wrong}", done.files));
    }

    fn fault(&mut self, fault: Fault) {
        self.faults = self.faults.saturating_add(1);
        let path = inert(&fault.path);
        let why = crate::node::failures::chain(&fault.kind);
        tracing::warn!(path, why, "a backup left something out");
        let line = format!("{path}: {why}");
        let bytes = self.lines_bytes.saturating_add(line.len());
        if self.lines.len() < FAULT_LINES_MAX && bytes <= FAULT_BYTES_MAX {
            self.lines_bytes = bytes;
            self.lines.push(line);
        }
    }

    fn pieces_before(&mut self, listing: &ChunkRef) -> Vec<ChunkRef> {
        self.chunks.pieces(listing)
    }
}
