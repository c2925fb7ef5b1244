//! Pieces of work that a user starts: the queues into the drive loop and the way back.

use crate::core::owner::{AccountJob, FetchJob, HeadsJob, LocateJob, OwnerEvent, StoreJob};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// What a job asks of the drive loop. The loop sets the ticket and the deadline.
#[expect(clippy::large_enum_variant, reason = "nearly all commands are of the largest kind")]
pub(super) enum DriveCommand {
    /// Store one chunk, or one record of a head.
    Store {
        /// What is stored, and where it shall go.
        job: StoreJob,
        /// Who hears of it.
        events: JobEvents,
        /// How long until it is reported as short.
        patience: Duration,
    },
    /// Fetch one chunk.
    Fetch {
        /// Where it may come from.
        places: Places,
        /// The chunk.
        job: FetchJob,
        /// Who hears of it.
        events: JobEvents,
        /// How long until it is given up.
        patience: Duration,
    },
    /// Ask everyone for heads.
    FindHeads {
        /// Which.
        job: HeadsJob,
        /// Who hears of them.
        events: JobEvents,
        /// How long until it ends in any case.
        patience: Duration,
    },
    /// Look for nodes that hold some of the owner's chunks.
    Locate {
        /// Which chunks.
        job: LocateJob,
        /// Who hears of them.
        events: JobEvents,
        /// How long until it ends in any case.
        patience: Duration,
    },
    /// Ask one holder about the owner's account there.
    Account {
        /// What, and whom.
        job: AccountJob,
        /// Who hears the answer.
        events: JobEvents,
        /// How long until it ends in any case.
        patience: Duration,
    },
}

/// Where a chunk may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Places {
    /// From wherever it is, this node's own store included.
    Anywhere,
    /// From other nodes alone: what is here proves nothing.
    Holders,
}

/// The way back from the drive loop to one job: every event carries the job's own number of the
/// chunk it is about.
#[derive(Clone)]
pub(super) struct JobEvents {
    sender: mpsc::Sender<(u64, OwnerEvent)>,
    index: u64,
    given_up: Option<Arc<AtomicBool>>,
}

impl JobEvents {
    pub(super) fn new(sender: mpsc::Sender<(u64, OwnerEvent)>, index: u64) -> Self {
        Self { sender, index, given_up: None }
    }

    /// The way back of one chunk that can be given up while the job goes on: a chunk that is short
    /// stays in the owner role's window for as long as somebody listens.
    pub(super) fn until(self, given_up: Arc<AtomicBool>) -> Self {
        Self { given_up: Some(given_up), ..self }
    }

    /// Whether anybody still listens. The receiver never waits for the drive loop, so this ends.
    pub(super) async fn send(&self, event: OwnerEvent) -> bool {
        self.sender.send((self.index, event)).await.is_ok()
    }

    pub(super) fn is_closed(&self) -> bool {
        let given_up = self.given_up.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed));
        given_up || self.sender.is_closed()
    }
}

/// Room for events between the drive loop and one job.
pub(super) const EVENTS_QUEUED_MAX: usize = 256;

/// Room for commands between the jobs and the drive loop, per kind. Small: chunks in this queue
/// are bytes outside the owner role's window.
pub(super) const COMMANDS_QUEUED_MAX: usize = 4;
