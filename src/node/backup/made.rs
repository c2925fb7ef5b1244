//! What a backup came to, for the catalogue and for whoever asked: how many replicas its worst
//! chunk has, of how many, why, and what is missing in it.
//!
//! The catalogue has it from the same write on that names the snapshot in the device's head, and
//! `status` tells it until a later backup of the same paths is whole, or a running node has stored
//! what was missing: see [`complete`](crate::node::complete).

use super::sink::{Stored, Wish};
use super::watch::Teller;
use crate::core::types::{NodeId, SnapshotId};
use crate::net::peer_id_of;
use crate::node::failures;
use crate::node::inner::Inner;
use crate::node::put::seconds_since_1970;
use crate::node::report::Failure;
use crate::node::repository::MadeBy;
use crate::repo::catalog::{BackupMade, Entry};
use crate::repo::names::inert;
use std::collections::BTreeSet;

/// Nodes that are told one by one.
const NODES_TOLD_MAX: usize = 8;

/// What is noted of the snapshot of these paths once its own chunks are stored. `files` is how its
/// tree is, in which `faults` names are not as asked.
pub(super) fn made_by(
    all: &[Vec<u8>],
    (wish, files): (Wish, Stored),
    (faults, teller): (u64, &Teller),
) -> MadeBy {
    let paths: Vec<String> = all.iter().map(|path| inert(path)).collect();
    let of = BackupMade {
        set: BackupMade::set_of(all),
        snapshot: SnapshotId::from_bytes([0; 32]),
        at: seconds_since_1970(),
        replicas: files.replicas,
        target: wish.replicas,
        faults,
        paths: shortened(paths.join(" ")),
        first_fault: shortened(teller.first_fault().to_owned()),
    };
    Box::new(move |snapshot, stored: Stored| BackupMade {
        snapshot,
        at: seconds_since_1970(),
        replicas: of.replicas.min(stored.replicas),
        ..of
    })
}

/// As much of a text as is kept.
fn shortened(mut text: String) -> String {
    if text.len() > BackupMade::TEXT_BYTES_MAX {
        let end = (0..=BackupMade::TEXT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push_str("..");
    }
    text
}

/// Notes how many replicas the worst chunk of a snapshot has by now, if it is still the newest of
/// its paths. Durable with the next commit.
///
/// # Errors
/// The catalogue takes nothing.
pub(in crate::node) fn note_replicas(
    inner: &Inner,
    id: &SnapshotId,
    replicas: u8,
) -> Result<(), Failure> {
    note(inner, id, |_| replicas)
}

/// Notes that the worst chunk of a snapshot has no more replicas than these.
///
/// # Errors
/// As [`note_replicas`].
pub(in crate::node) fn note_at_most(
    inner: &Inner,
    id: &SnapshotId,
    replicas: u8,
) -> Result<(), Failure> {
    note(inner, id, |known| known.min(replicas))
}

fn note(inner: &Inner, id: &SnapshotId, replicas: impl Fn(u8) -> u8) -> Result<(), Failure> {
    let noted = inner.with_catalog(|catalog| {
        let Some(made) = catalog.made_as(id).cloned() else { return Ok(()) };
        match replicas(made.replicas) {
            same if same == made.replicas => Ok(()),
            replicas => catalog.record(Entry::BackupMade(BackupMade { replicas, ..made })),
        }
    });
    noted.map_err(|error| failures::catalog(&error))
}

/// Where something was found to be gone since so many losses were seen, this snapshot is told as
/// stored once it was looked at.
///
/// # Errors
/// The catalogue takes nothing.
pub(super) fn doubt(inner: &Inner, id: &SnapshotId, losses_seen: u64) -> Result<(), Failure> {
    let noted = inner.with_catalog(|catalog| match catalog.losses_seen() == losses_seen {
        true => Ok(()),
        false => catalog.doubt(id, seconds_since_1970()),
    });
    noted.map_err(|error| failures::catalog(&error))
}

/// Why chunks are short of replicas, and what comes next; nothing where none is.
pub(super) fn short_remark(inner: &Inner, wish: Wish, parts: [Stored; 2]) -> Option<String> {
    let short: Vec<Stored> =
        parts.into_iter().filter(|stored| stored.replicas < wish.replicas).collect();
    let replicas = short.iter().map(|stored| stored.replicas).min()?;
    let why = short.iter().find_map(|stored| stored.why);
    let peers = inner.shared.watch_peers().borrow().len();
    let connected = match peers {
        0 => "no other node is connected".to_owned(),
        1 => "1 other node is connected".to_owned(),
        peers => format!("{peers} other nodes are connected"),
    };
    let why = match why {
        Some(why) => format!("{}, {connected}", failures::shortage(why)),
        None => format!("not all holders said that they have it still, {connected}"),
    };
    Some(format!(
        "some of it has {replicas} of {} replicas: {why}; start more of the mesh's nodes: a \
         running node (`quloud up`) then stores what is missing, and `quloud status` says how far \
         it is",
        wish.replicas
    ))
}

/// Who they are.
pub(super) fn named(nodes: &BTreeSet<NodeId>) -> String {
    let mut names: Vec<String> = nodes.iter().take(NODES_TOLD_MAX).map(peer_id_of).collect();
    let more = nodes.len().saturating_sub(NODES_TOLD_MAX);
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(shortened("/a".to_owned()), "/a");
        let cut = shortened(format!("a{}", "ü".repeat(2_000)));
        assert!(cut.ends_with("ü.."), "{cut}");
        assert_eq!(cut.len(), BackupMade::TEXT_BYTES_MAX + 1);
    }

    #[test]
    fn silent_holders_are_named_as_far_as_they_fit() {
        let node = |number: u8| NodeId::from_bytes([number; 32]);
        let few: BTreeSet<NodeId> = (1..3).map(node).collect();
        let told: Vec<String> = (1..3).map(|number| peer_id_of(&node(number))).collect();
        assert_eq!(named(&few), told.join(", "));
        let many: BTreeSet<NodeId> = (0..20).map(node).collect();
        assert!(named(&many).ends_with(", and 12 more"));
    }
}
