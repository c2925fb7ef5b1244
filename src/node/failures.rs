//! Errors of the parts as three short lines for the user: what happened, why, what to do next.

use super::report::{Failure, FailureKind};
use crate::core::owner::{FetchFailure, Shortage};
use crate::core::types::NodeId;
use crate::crypto::capability::CapabilityError;
use crate::net::NetError;
use crate::repo::catalog::{CatalogError, PutStarted};
use crate::repo::get::file::GetFailed;
use crate::repo::get::{GetError, OutputError};
use crate::repo::put::PutError;
use crate::store::StoreOpenError;
use crate::store::disk::DiskError;
use std::path::Path;
use std::time::Duration;

/// Why neither a put nor a get comes far.
const NOBODY: &str = "no other node of the mesh is connected";

/// A capability that does not parse. Its text is a secret and is not repeated.
impl From<CapabilityError> for Failure {
    fn from(error: CapabilityError) -> Self {
        Self::new(
            FailureKind::Usage,
            "this is not a capability",
            error.to_string(),
            "copy the whole line that `quloud put` printed, from \"quloud1\" to its end",
        )
    }
}

pub(super) fn put(path: &Path, error: &PutError) -> Failure {
    let hint = match error {
        PutError::Changed { .. } => "wait until nothing writes to it, then put it again",
        PutError::NotAFile { .. } => "name a regular file",
        PutError::Closed(_) => "start the node again with `quloud up`: it resumes by itself",
        _ => "check the path and the file's permissions, then put it again",
    };
    Failure {
        kind: FailureKind::Failed,
        what: format!("{} was not put", path.display()),
        why: chain(error),
        hint: hint.to_owned(),
    }
}

/// A holder came back with another store while the put ran.
pub(super) fn lost_store(job: &PutStarted) -> Failure {
    Failure {
        kind: FailureKind::NotEnoughHolders,
        what: format!("chunks of {} have fewer than {} replicas", job.path.display(), job.replicas),
        why: "a node lost its store after it had acknowledged some of them".to_owned(),
        hint: OUTBOX.to_owned(),
    }
}

/// A chunk waited for its quorum as long as it was told to. `replicas` is what the file has: the
/// smallest number of any chunk, and none where chunks were not sent (not `all_sent`).
pub(super) fn short(
    job: &PutStarted,
    patience: Duration,
    replicas: u8,
    all_sent: bool,
    why: Shortage,
) -> Failure {
    let rest = if all_sent { "" } else { ", and its rest was not sent" };
    Failure {
        kind: FailureKind::NotEnoughHolders,
        what: format!(
            "a chunk of {} has {replicas} of {} replicas after {} s{rest}",
            job.path.display(),
            job.replicas,
            patience.as_secs(),
        ),
        why: shortage(why).to_owned(),
        hint: OUTBOX.to_owned(),
    }
}

/// Why a chunk has too few replicas.
pub(super) fn shortage(why: Shortage) -> &'static str {
    match why {
        Shortage::NoPeers => NOBODY,
        Shortage::TooFewVolunteers => "too few nodes of the mesh volunteered",
        Shortage::AcksOutstanding => "holders took the chunk and did not acknowledge it yet",
        Shortage::SharedDomains => "those who hold it share an address block or a declared site",
        Shortage::HoldersFull => "the nodes that were asked are full",
        Shortage::OverQuota => {
            "nodes that were asked hold as much for this owner as they give to one; their \
             `account_quota` sets it"
        }
    }
}

/// A backup of which nobody took a chunk. What was stored counts for the next one.
pub(super) fn backup_short(patience: Duration, why: Option<Shortage>) -> Failure {
    Failure {
        kind: FailureKind::NotEnoughHolders,
        what: format!(
            "no snapshot was made: a chunk has no replica, and nothing was acknowledged for {} s",
            patience.as_secs(),
        ),
        why: why.map_or(NOBODY, shortage).to_owned(),
        hint: MORE_NODES.to_owned(),
    }
}

/// A snapshot is stored, and nobody took the head that names it.
pub(super) fn head_short(patience: Duration) -> Failure {
    Failure {
        kind: FailureKind::NotEnoughHolders,
        what: "the snapshot is stored, and other devices cannot find it yet".to_owned(),
        why: format!("no node took this device's head within {} s", patience.as_secs()),
        hint: "keep a node running (`quloud up`): it goes on trying".to_owned(),
    }
}

/// A snapshot is stored, and so many nodes have a newer record of the head that should name it.
pub(super) fn head_superseded(nodes: usize) -> Failure {
    let nodes = if nodes == 1 { "1 node has".to_owned() } else { format!("{nodes} nodes have") };
    Failure {
        kind: FailureKind::Failed,
        what: "the snapshot is stored, and no list names it".to_owned(),
        why: format!(
            "{nodes} a newer record of this device's head: another device writes it, from a copy \
             of this folder or after a recovery"
        ),
        hint: "run the same command again: it looks who writes which head, and what is stored is \
               not sent again"
            .to_owned(),
    }
}

/// A new device cannot know which heads are taken.
pub(super) fn alone() -> Failure {
    let what = "no snapshot was made";
    Failure::new(FailureKind::NotEnoughHolders, what, NOBODY, MORE_NODES)
}

const MORE_NODES: &str = "start more of the mesh's nodes, then run the same command again: what \
                          is stored is not sent again";

/// The node was shut down in the middle of a backup.
pub(super) fn backup_stopped() -> Failure {
    let hint = "start it again with `quloud up`, then run the same command again: what is stored \
                is not sent again";
    backup(FailureKind::Failed, "the node was shut down", hint)
}

/// A backup ended before its snapshot; why, in words.
pub(super) fn backup(kind: FailureKind, why: impl Into<String>, hint: &str) -> Failure {
    Failure::new(kind, "no snapshot was made", why, hint)
}

/// What this device wrote before cannot be read, or is not what it was.
pub(super) fn repository(why: impl Into<String>, hint: &str) -> Failure {
    let what = "the list of snapshots cannot be written";
    Failure::new(FailureKind::Failed, what, why, hint)
}

const OUTBOX: &str = "it stays in the outbox: a running node (`quloud up`) goes on trying; \
                      `quloud status --json` shows the capability once it is stored";

/// The file of an open put is another one by now.
pub(super) fn differs(path: &Path) -> Failure {
    Failure {
        kind: FailureKind::Failed,
        what: format!("{} was not put", path.display()),
        why: "it changed after its put began".to_owned(),
        hint: "put it again".to_owned(),
    }
}

/// The file of an open put cannot be opened; `days` more, and the put is given up.
pub(super) fn away(path: &Path, source: &std::io::Error, days: u64) -> Failure {
    let path = path.display();
    let what = match source.kind() {
        std::io::ErrorKind::NotFound => format!("{path} is not there"),
        _ => format!("{path} cannot be opened"),
    };
    let in_time = match days {
        0 => "today".to_owned(),
        1 => "within a day".to_owned(),
        days => format!("within {days} days"),
    };
    Failure {
        kind: FailureKind::Failed,
        what,
        why: source.to_string(),
        hint: format!("bring it back {in_time}, or its put is given up"),
    }
}

/// The file of an open put could not be opened for too long.
pub(super) fn gone(path: &Path, days: u64) -> Failure {
    Failure {
        kind: FailureKind::Failed,
        what: format!("{} was not put", path.display()),
        why: format!("it could not be opened for {days} days"),
        hint: "put it again".to_owned(),
    }
}

/// Whether a put that failed so can never do what it promised: the file is another one now. What
/// may pass (a disk that is away, a node that ends) leaves it in the outbox.
pub(super) fn is_final(error: &PutError) -> bool {
    match error {
        PutError::Changed { .. }
        | PutError::NotAFile { .. }
        | PutError::Frame(_)
        | PutError::TooManyChunks(_) => true,
        PutError::Open { .. }
        | PutError::Read { .. }
        | PutError::Closed(_)
        | PutError::Cancelled => false,
    }
}

/// The node was shut down in the middle of something.
pub(super) fn stopped() -> Failure {
    Failure {
        kind: FailureKind::Failed,
        what: "the node stopped before this was done".to_owned(),
        why: "it was shut down".to_owned(),
        hint:
            "start it again with `quloud up`: puts resume by themselves; run other commands again"
                .to_owned(),
    }
}

pub(super) fn get(output: &Path, failed: &GetFailed) -> Failure {
    let (kind, hint) = match &failed.error {
        GetError::Unavailable { .. } => (
            FailureKind::NotEnoughHolders,
            "start more of the mesh's nodes, then run the same command again",
        ),
        GetError::Damaged { .. } => (
            FailureKind::Damage,
            "the capability and the chunk do not belong together: check the capability",
        ),
        GetError::Output(error @ OutputError::Space { .. }) => {
            (FailureKind::StoreFull, output_hint(error))
        }
        GetError::Output(error) => (FailureKind::Failed, output_hint(error)),
        GetError::Closed | GetError::Cancelled => {
            (FailureKind::Failed, "run the same command again")
        }
    };
    let kept = failed.kept.as_ref().map(|kept| {
        format!("; {} bytes are kept in {} to go on from", kept.bytes, kept.path.display())
    });
    Failure {
        kind,
        what: format!("{} was not written", output.display()),
        why: chain(&failed.error),
        hint: format!("{hint}{}", kept.unwrap_or_default()),
    }
}

/// The output is not to be had, which was found out before anything was fetched.
pub(super) fn output(path: &Path, error: &OutputError) -> Failure {
    let what = format!("{} cannot be written", path.display());
    Failure::new(FailureKind::Failed, what, chain(error), output_hint(error))
}

fn output_hint(error: &OutputError) -> &'static str {
    match error {
        OutputError::Exists { .. } => "name another file with -o, or say --overwrite",
        OutputError::IsFolder { .. } => "name the file to make in that folder",
        OutputError::Special { .. } => "name another file with -o",
        OutputError::Space { .. } => "free some space, or name a file on another disk with -o",
        OutputError::Busy { .. } => "wait until it is done, or name another file with -o",
        OutputError::NotOurs { .. } => "move it away, or name another file with -o",
        OutputError::Io { .. } => "check the folder and its permissions",
    }
}

/// Why nobody served a chunk: how many nodes were asked, and what they said, or that there is
/// nobody to ask. `peers` counts the members that are connected now.
pub(super) fn not_fetched(asked: &[(NodeId, FetchFailure)], peers: usize) -> String {
    if peers == 0 && asked.iter().all(|(_, why)| *why == FetchFailure::Unreachable) {
        return NOBODY.to_owned();
    }
    let told = [
        (FetchFailure::NotHeld, "do not hold it or refused the key"),
        (FetchFailure::Unreachable, "could not be reached"),
        (FetchFailure::Late, "did not answer in time"),
        (FetchFailure::WrongBytes, "sent wrong bytes"),
        (FetchFailure::Damaged, "said that their copy is damaged"),
        (FetchFailure::Busy, "were too busy"),
    ];
    let count = |wanted: FetchFailure| asked.iter().filter(|(_, why)| *why == wanted).count();
    let why: Vec<String> = told
        .iter()
        .map(|(kind, words)| (count(*kind), words))
        .filter(|(count, _)| *count > 0)
        .map(|(count, words)| format!("{count} {words}"))
        .collect();
    if why.is_empty() {
        "no node of the mesh said that it holds it for this capability".to_owned()
    } else {
        format!("of the nodes asked, {}", why.join(", "))
    }
}

/// An error and what it came from, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Transparent errors repeat their source.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

pub(super) fn catalog(error: &CatalogError) -> Failure {
    let (kind, hint) = match error {
        CatalogError::Newer { .. } | CatalogError::UnknownEntry { .. } => {
            (FailureKind::Failed, "install the newer version of quloud that wrote it")
        }
        CatalogError::OtherKeys { .. } => (
            FailureKind::KeysMissing,
            "bring back the owner.key that belongs to it, or move the folder `owner` away",
        ),
        CatalogError::TooLong(_) => (FailureKind::Failed, "give the file a shorter path"),
        CatalogError::Failed { .. } => {
            (FailureKind::Failed, "check the disk, then start the node again")
        }
        CatalogError::NotACatalog { .. } => (
            FailureKind::Failed,
            "nothing on the mesh is lost: bring back a copy of the folder `owner`, or move it away",
        ),
        CatalogError::Io { .. } => (
            FailureKind::Failed,
            "nothing on the mesh is lost; check the disk and the permissions of the folder `owner`",
        ),
    };
    Failure {
        kind,
        what: "the catalogue of what you stored cannot be used".to_owned(),
        why: chain(error),
        hint: hint.to_owned(),
    }
}

pub(super) fn store(error: &StoreOpenError) -> Failure {
    let (kind, hint) = match error {
        StoreOpenError::InUse => (FailureKind::Failed, "end the other process first"),
        StoreOpenError::Layout { .. } => (FailureKind::Failed, "install that version of quloud"),
        StoreOpenError::WrongKey => (
            FailureKind::KeysMissing,
            "bring back the node.key that belongs to this store, or move the folder `store` away",
        ),
        StoreOpenError::Disk { source: DiskError::Full, .. } => {
            (FailureKind::StoreFull, "free some space on the disk of the data folder")
        }
        StoreOpenError::Disk { .. } | StoreOpenError::Catalogue(_) => {
            (FailureKind::Failed, "check the disk and the permissions of the folder `store`")
        }
    };
    Failure {
        kind,
        what: "the chunk store cannot be opened".to_owned(),
        why: chain(error),
        hint: hint.to_owned(),
    }
}

pub(super) fn disk(path: &Path, error: &std::io::Error) -> Failure {
    Failure {
        kind: FailureKind::Failed,
        what: format!("the size of the disk below {} is not known", path.display()),
        why: error.to_string(),
        hint: "set `reserve` in quloud.toml".to_owned(),
    }
}

pub(super) fn net(error: &NetError) -> Failure {
    let hint = match error {
        NetError::Address { .. } => "check --listen and --bootstrap",
        NetError::Listen { .. } => {
            "check --listen, that the address is one of this machine's, and that the port is free"
        }
        NetError::KeyLog => "unset SSLKEYLOGFILE and start it again",
        NetError::Setup(_) => "check --listen and --bootstrap, and the limits of this user",
    };
    Failure {
        kind: FailureKind::Failed,
        what: "the network could not be started".to_owned(),
        why: error.to_string(),
        hint: hint.to_owned(),
    }
}

/// No address came up in time.
pub(super) fn not_listening(addresses: &[String]) -> Failure {
    Failure {
        kind: FailureKind::Failed,
        what: "the node listens nowhere".to_owned(),
        why: format!("none of {addresses:?} came up"),
        hint: "check --listen, and that the port is free".to_owned(),
    }
}

/// A task of ours ended in a way it must not.
pub(super) fn died(who: &str, error: &tokio::task::JoinError) -> Failure {
    Failure {
        kind: FailureKind::Failed,
        what: format!("{who} died"),
        why: error.to_string(),
        hint: "this is a fault in Quloud: please report it with the log".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::catalog::TooLong;
    use std::path::PathBuf;

    #[test]
    fn each_fault_of_the_catalogue_has_its_own_way_out() {
        let path = || PathBuf::from("catalog");
        let source = || std::io::Error::other("no");
        for (error, code, hint) in [
            (CatalogError::Newer { path: path(), version: 9 }, 1, "install the newer version"),
            (CatalogError::UnknownEntry { path: path() }, 1, "install the newer version"),
            (CatalogError::OtherKeys { path: path() }, 5, "bring back the owner.key"),
            (CatalogError::NotACatalog { path: path() }, 1, "bring back a copy"),
            (CatalogError::TooLong(TooLong(70_000)), 1, "a shorter path"),
            (CatalogError::Failed { path: path() }, 1, "start the node again"),
            (CatalogError::Io { path: path(), source: source() }, 1, "check the disk and"),
        ] {
            let failure = catalog(&error);
            assert_eq!(failure.kind.exit_code(), code, "{error}");
            assert!(failure.hint.contains(hint), "{error}: {}", failure.hint);
        }
    }
}
