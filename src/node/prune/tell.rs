//! How far a prune is, and why it does not go on, as the user is told.

use crate::node::report::{ACCEPTED_DIGITS_MIN, Failure, FailureKind, Progress, PruneDone, date};
use crate::repo::catalog::SnapshotForgotten;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::NOTHING;
use super::holders::TakenBack;

/// Between two lines while the grace lasts.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Forgotten snapshots that a failure names.
const ACCEPTABLE_MAX: usize = 16;

/// The way of progress to whoever asked.
#[derive(Clone)]
pub(super) struct Teller {
    pub(super) progress: mpsc::Sender<Progress<PruneDone>>,
    /// Where nobody asked: keeps the way open.
    _nobody: Option<std::sync::Arc<mpsc::Receiver<Progress<PruneDone>>>>,
}

impl Teller {
    pub(super) fn new(progress: mpsc::Sender<Progress<PruneDone>>) -> Self {
        Self { progress, _nobody: None }
    }

    /// For what nobody asked for.
    pub(super) fn silent() -> Self {
        let (progress, nobody) = mpsc::channel(1);
        Self { progress, _nobody: Some(std::sync::Arc::new(nobody)) }
    }

    pub(super) fn note(&self, what: &str) {
        self.at(0, None, 0, what);
    }

    /// Bytes of all, chunks, and what is being done.
    pub(super) fn at(&self, bytes: u64, total: Option<u64>, chunks: u64, what: &str) {
        let note = Some(what.to_owned());
        let working = Progress::Working { bytes, total, chunks, replicas: None, note };
        // A full queue means that the listener is slow: the next line tells more.
        drop(self.progress.try_send(working));
    }

    /// Waits, and says for how long.
    pub(super) async fn wait(&self, left: Duration) {
        let until = Instant::now() + left;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.note(&format!("giving other devices time: {} s", left.as_secs() + 1));
            sleep(left.min(TELL_EVERY)).await;
        }
    }
}

pub(super) fn busy() -> Failure {
    let hint = "wait until it is done: `quloud status` tells of it";
    Failure::new(FailureKind::Failed, NOTHING, "another prune of this device runs", hint)
}

pub(super) fn no_delete_key() -> Failure {
    Failure::new(
        FailureKind::KeysMissing,
        NOTHING,
        "this device does without the delete key",
        "type the owner's words when `quloud prune` asks for them, or name a private file that \
         holds them with --words-file",
    )
}

pub(super) fn wrong_words() -> Failure {
    Failure::new(
        FailureKind::KeysMissing,
        NOTHING,
        "these are the words of another owner",
        "give the words of the owner whose device this is",
    )
}

pub(super) fn unheard(known: usize, replicas: u8) -> Failure {
    Failure::new(
        FailureKind::NotEnoughHolders,
        NOTHING,
        format!("{known} of {replicas} nodes know of it, so other devices may not hear of it"),
        "start more of the mesh's nodes, then run the same command again",
    )
}

/// A device was found that nobody was told of the prune for.
pub(super) fn came_meanwhile() -> Failure {
    Failure::new(
        FailureKind::Failed,
        NOTHING,
        "another device of yours was found meanwhile, which was given no time",
        "run the same command again",
    )
}

/// Beside other devices a prune has to be right in every order of what all of them publish: who
/// wants that says so.
pub(super) fn several(others: usize) -> Failure {
    let heads = if others == 1 { "a head".to_owned() } else { format!("{others} heads") };
    Failure::new(
        FailureKind::Failed,
        NOTHING,
        format!("there is {heads} of another device of yours"),
        "`quloud prune --help` says what --beside-others does, and what to do about a device that \
         is gone for ever",
    )
}

/// Which id names nothing for certain.
pub(super) fn not_an_id(text: &str, why: &str) -> Failure {
    Failure::new(
        FailureKind::Usage,
        NOTHING,
        format!("{text:?} {why}"),
        "`quloud prune --dry-run` lists what other devices forgot, each with its id",
    )
}

/// What cannot be read.
pub(super) enum Unread<'a> {
    /// A snapshot that another device forgot. All that wait are told: who accepts one may mean the
    /// others, too.
    Waits(&'a [(SnapshotForgotten, i64)]),
    /// A file that was put, and that no snapshot names yet.
    Put,
    /// Another snapshot.
    Snapshot,
}

pub(super) fn lost(why: String, is_damage: bool, unread: &Unread<'_>) -> Failure {
    let kind = if is_damage { FailureKind::Damage } else { FailureKind::NotEnoughHolders };
    let hint = match (unread, is_damage) {
        (Unread::Waits(all), _) => accept(all),
        (Unread::Put, _) => {
            "start more of the mesh's nodes, or put that file again, then run the same command \
             again"
                .to_owned()
        }
        (Unread::Snapshot, true) => {
            "back up again, then forget that snapshot and run the same command again".to_owned()
        }
        (Unread::Snapshot, false) => {
            "start more of the mesh's nodes, then run the same command again".to_owned()
        }
    };
    Failure::new(kind, NOTHING, why, hint)
}

/// How to go on where what another device forgot is in the way.
fn accept(all: &[(SnapshotForgotten, i64)]) -> String {
    let listed = all.iter().take(ACCEPTABLE_MAX);
    let of = |(forgotten, created_ns): &(SnapshotForgotten, i64)| {
        let made = date(created_ns.div_euclid(1_000_000_000));
        format!("{} of {made} (by device {})", begin(forgotten), forgotten.by)
    };
    let told: Vec<String> = listed.clone().map(of).collect();
    let ids: Vec<String> = listed.map(|(forgotten, _)| begin(forgotten)).collect();
    let more = match all.len().saturating_sub(told.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "other devices forgot {}{more}, and that does not count yet: if it was you, run the same \
         command with --accept-forgets {}; if not, start more of the mesh's nodes first",
        told.join(", "),
        ids.join(","),
    )
}

/// How the id of a snapshot begins: what is enough to accept that it was forgotten.
fn begin(forgotten: &SnapshotForgotten) -> String {
    let mut id = forgotten.id.to_string();
    id.truncate(ACCEPTED_DIGITS_MIN);
    id
}

/// Why the last look came to nothing: chunks were let go by then.
pub(super) fn after(failure: Failure) -> Failure {
    if failure.what != NOTHING {
        return failure;
    }
    let what = "chunks were let go, and the prune is not done: the next one takes back what is \
                needed of them";
    Failure { what: what.to_owned(), ..failure }
}

/// What is still to be taken back, if anything is.
pub(super) fn open(back: TakenBack) -> Option<String> {
    (back.open > 0).then(|| {
        format!(
            "{} chunks that snapshots need were let go by nodes that are away: this node takes \
             them back as soon as it meets these, which keep them for days of their own uptime",
            back.open
        )
    })
}

/// Nothing that snapshots need is gone.
pub(super) fn whole(back: TakenBack) -> Result<(), Failure> {
    match back.lost {
        0 => Ok(()),
        lost => Err(Failure::new(
            FailureKind::Damage,
            format!("{lost} chunks that snapshots need are gone"),
            "they were let go, and nobody who answered has them any more",
            "back up the same files again; `quloud verify` finds the snapshots that are damaged",
        )),
    }
}
