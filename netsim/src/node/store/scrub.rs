//! The scrub of a store: the daemon's thread for it, in virtual time.

use super::Store;
use quloud::store::Damage;
use quloud::store::scrub::{Cursor, ROUND};
use quloud::store::writer::Request;
use std::collections::VecDeque;
use std::time::Duration;

/// What the scrub reads at once: less than in the daemon, as these disks are smaller.
const SCRUB_BYTES: u64 = 64 << 10;

/// Where the scrub stands.
#[derive(Debug, Default)]
pub(super) struct Scrub {
    cursor: Cursor,
    /// What it found and the queue had no room for yet: it does not go on before.
    rotten: VecDeque<Request>,
    /// Rounds that came to their end.
    rounds: u64,
}

/// What a step of the scrub came to.
#[derive(Debug, Default)]
pub(crate) struct Scrubbed {
    /// Ranges that hold no record, and damaged records that are no chunks.
    pub(crate) damage: Vec<Damage>,
    /// Chunks that were found damaged.
    pub(crate) rotten: usize,
    /// The round is over.
    pub(crate) is_over: bool,
    /// A group is to be begun for what was found.
    pub(crate) begins: bool,
}

impl Scrub {
    /// It goes on there.
    pub(super) fn at(cursor: Cursor) -> Self {
        Self { cursor, ..Self::default() }
    }
}

impl Store {
    /// One step of the scrub, as the daemon takes it: what it finds waits for room in the queue.
    pub(crate) fn scrub(&mut self) -> Scrubbed {
        let mut scrubbed = Scrubbed::default();
        let before = self.scrub.cursor;
        if self.scrub.rotten.is_empty() {
            match self.reader.scrub(before, SCRUB_BYTES) {
                Ok(found) => {
                    (scrubbed.damage, scrubbed.rotten) = (found.damage, found.rotten.len());
                    scrubbed.is_over = found.round_is_over;
                    self.scrub.rounds += u64::from(found.round_is_over);
                    self.scrub.cursor = found.next;
                    self.scrub.rotten = found.rotten.into();
                }
                Err(_) => {
                    let segment = before.segment.saturating_add(1);
                    self.scrub.cursor = Cursor { segment, offset: 0 };
                }
            }
        }
        while self.has_room()
            && let Some(rot) = self.scrub.rotten.pop_front()
        {
            self.queue.push(rot);
        }
        if self.scrub.rotten.is_empty() {
            // Where the catalogue fails the writer finds out too.
            let _ = self.reader.keep_scrub_cursor(self.scrub.cursor);
        }
        Scrubbed { begins: self.begin(), ..scrubbed }
    }

    /// The scrub starts over.
    pub(crate) fn scrub_anew(&mut self) {
        (self.scrub.cursor, self.scrub.rounds) = (Cursor::default(), 0);
    }

    /// Whether a round was finished since then, and all that it found is queued.
    pub(crate) fn is_scrubbed(&self) -> bool {
        self.scrub.rounds > 0 && self.scrub.rotten.is_empty()
    }

    /// How long the daemon waits between two such steps: it takes a certain time for all of it.
    pub(crate) fn scrub_pause(&self, span: Duration) -> Duration {
        let steps = u32::try_from(self.told.used / SCRUB_BYTES).unwrap_or(u32::MAX);
        ROUND.min(span / 2) / steps.max(4)
    }
}
