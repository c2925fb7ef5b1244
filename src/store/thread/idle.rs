//! The thread of the scrub: a little at a time, when nobody waits for a read.

use super::Shared;
use crate::store::disk::Disk;
use crate::store::index::Catalogue;
use crate::store::reader::Reader;
use crate::store::scrub::{self, Cursor};
use crate::store::writer::Request;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

/// What the scrub reads at once.
const SCRUB_BYTES: u64 = 1 << 20;

/// While somebody waits for a read the scrub does not begin with a step, but for so long at most:
/// a node that is never idle is scrubbed too.
const SCRUB_YIELD: Duration = Duration::from_secs(10);

/// How often it looks whether somebody waits still.
const SCRUB_LOOK: Duration = Duration::from_millis(50);

/// Waits until nobody waits for a read, or for long enough; `false` where the store stops.
fn yield_to_reads(stop: &Receiver<()>, shared: &Shared) -> bool {
    let mut left = SCRUB_YIELD;
    while shared.wanted.load(Ordering::Acquire) > 0 && !left.is_zero() {
        if stop.recv_timeout(SCRUB_LOOK) != Err(RecvTimeoutError::Timeout) {
            return false;
        }
        left = left.saturating_sub(SCRUB_LOOK);
    }
    true
}

/// The scrub's thread: a little at a time when nobody waits for a read, all of it in a `round`.
pub(super) fn run_scrub<D: Disk, C: Catalogue>(
    (mut reader, round): (Reader<D, C>, Duration),
    stop: &Receiver<()>,
    writes: &SyncSender<Request>,
    shared: &Shared,
) {
    let mut cursor = reader.scrub_cursor();
    loop {
        let pause = scrub::pause(SCRUB_BYTES, shared.used.load(Ordering::Acquire), round);
        if stop.recv_timeout(pause) != Err(RecvTimeoutError::Timeout)
            || !yield_to_reads(stop, shared)
        {
            return;
        }
        match reader.scrub(cursor, SCRUB_BYTES) {
            Ok(scrubbed) => {
                cursor = scrubbed.next;
                for damage in scrubbed.damage {
                    tracing::warn!(?damage, "the scrub found damage");
                }
                for unread in scrubbed.unread {
                    tracing::warn!(?unread, "the scrub could not read");
                }
                // Waits where the writer is busy: rot must not be forgotten.
                let told = scrubbed.rotten.into_iter().try_for_each(|rot| writes.send(rot));
                if told.is_err() {
                    return;
                }
                // Where the catalogue fails the writer finds out too, and says so.
                let _ = reader.keep_scrub_cursor(cursor);
            }
            Err(error) => {
                tracing::warn!(%error, "the scrub could not read");
                cursor = Cursor { segment: cursor.segment.saturating_add(1), offset: 0 };
            }
        }
    }
}
