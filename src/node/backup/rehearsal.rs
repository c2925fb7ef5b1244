//! `backup --dry-run`: everything is read, cut and sealed as by a backup, and nothing is sent.
//!
//! So what it tells is what a backup would have come to, to the byte, if its holders still have
//! what they acknowledged: they are not asked. It takes the time that reading takes.

use super::sink::{HeldByMesh, Trust, Wish};
use super::watch::Teller;
use super::{Read, Work, read, remarks};
use crate::crypto::seal::SealedChunk;
use crate::node::failures;
use crate::node::inner::Inner;
use crate::node::put::CancelOnDrop;
use crate::node::report::{BackupDone, Failure};
use crate::repo::engine::{BackupSink, DoneLeaf};
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
    fn leaf_done(&mut self, _leaf: &DoneLeaf) {}
}

/// What a backup would come to; it began at `started`.
pub(super) async fn rehearse(
    inner: &Arc<Inner>,
    wish: Wish,
    (work, teller, mut notes): (Arc<Work>, Teller, Vec<String>),
    started: Instant,
) -> Result<BackupDone, Failure> {
    let cancel = Arc::new(AtomicBool::new(false));
    // However this ends, the thread ends too.
    let _cancel = CancelOnDrop(Arc::clone(&cancel));
    let (node, reins) = (Arc::clone(inner), (Handle::current(), cancel));
    let held = HeldByMesh::new(inner, wish.replicas, Trust::Acks);
    let reading = tokio::task::spawn_blocking(move || {
        let mut counter = Counter::default();
        let broken_off = work.unfinished.read();
        let read = read(&node, (&work, held), reins, (teller, broken_off), &mut counter)?;
        Ok::<_, Failure>((read, counter.chunks))
    });
    let ended = reading.await.map_err(|error| failures::died("the sealer", &error))?;
    let (Read { backed, teller, .. }, new_chunks) = ended?;
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
        target: wish.replicas,
        seconds: started.elapsed().as_secs_f64(),
        partial: backed.faults > 0,
        faults: teller.faults(),
        fault_lines: teller.into_lines(),
        notes,
    })
}
