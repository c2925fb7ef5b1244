//! `backup --dry-run`: everything is read, cut and sealed as by a backup, and nothing is sent.
//!
//! So what it tells is what a backup would have come to, to the byte; it takes the time that
//! reading takes.

use super::sink::Wish;
use super::{Files, Work, read, remarks};
use crate::crypto::seal::SealedChunk;
use crate::node::failures;
use crate::node::inner::Inner;
use crate::node::put::CancelOnDrop;
use crate::node::report::{BackupDone, Failure};
use crate::repo::engine::BackupSink;
use crate::repo::reference::ChunkRef;
use crate::repo::sealer::{ChunkSink, SinkClosed};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use tokio::runtime::Handle;

/// Counts what would be sent.
#[derive(Debug, Default)]
struct Counter {
    chunks: u64,
}

impl ChunkSink for Counter {
    fn store(&mut self, _chunk: SealedChunk, _plaintext_bytes: u64) -> Result<(), SinkClosed> {
        self.chunks = self.chunks.saturating_add(1);
        Ok(())
    }
}

impl BackupSink for Counter {
    fn leaf_done(&mut self, _leaf: &ChunkRef, _last: &[u8]) {}
}

/// What a backup would come to; it began at `started`.
pub(super) async fn rehearse(
    inner: &Arc<Inner>,
    wish: Wish,
    (work, mut notes): (Work, Vec<String>),
    started: Instant,
) -> Result<BackupDone, Failure> {
    let cancel = Arc::new(AtomicBool::new(false));
    // However this ends, the thread ends too.
    let _cancel = CancelOnDrop(Arc::clone(&cancel));
    let (node, reins) = (Arc::clone(inner), (Handle::current(), cancel));
    let reading = tokio::task::spawn_blocking(move || {
        let mut counter = Counter::default();
        let files = read(&node, wish, reins, work, &mut counter)?;
        Ok::<_, Failure>((files, counter.chunks))
    });
    let ended = reading.await.map_err(|error| failures::died("the sealer", &error))?;
    let (Files { backed, teller, .. }, new_chunks) = ended?;
    notes.extend(remarks(&backed));
    let counts = backed.built.counts;
    Ok(BackupDone {
        snapshot: String::new(),
        dry_run: true,
        files: counts.files,
        unchanged: backed.built.unchanged,
        bytes: counts.bytes,
        new_bytes: counts.new_bytes,
        new_chunks,
        replicas: 0,
        seconds: started.elapsed().as_secs_f64(),
        partial: backed.faults > 0,
        faults: teller.faults(),
        fault_lines: teller.into_lines(),
        notes,
    })
}
