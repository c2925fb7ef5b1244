//! Which snapshot is meant, and what it says.

use super::inner::Inner;
use super::report::{Failure, FailureKind, HeadReport, Progress, date};
use super::repository::Look;
use crate::core::types::SnapshotId;
use crate::repo::frame::Kind;
use crate::repo::manifest::merge::Live;
use crate::repo::reference::ChunkRef;
use crate::repo::snapshot::Snapshot;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// The newest snapshot.
const LATEST: &str = "latest";

/// So many are named where several are meant.
const NAMED_MAX: usize = 4;

/// The snapshot that is meant.
pub(super) struct Chosen {
    pub(super) id: SnapshotId,
    pub(super) reference: ChunkRef,
    /// The head of the device that made it.
    pub(super) index: u16,
}

/// Why there may be other snapshots than those that are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Doubt {
    /// There are none.
    None,
    /// Few of a head's holders answered.
    Silent,
    /// The list of a device could not be read, for these reasons.
    Unread(Vec<String>),
}

impl Doubt {
    /// What a look at the heads leaves.
    pub(super) fn after(look: &Look) -> Self {
        match look.heads.iter().any(|head| head.is_doubtful) {
            _ if !look.is_whole => Self::Unread(look.notes.clone()),
            true => Self::Silent,
            false => Self::None,
        }
    }
}

/// For what a snapshot is chosen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deed {
    /// What did not happen where there is no choice: "nothing was restored".
    pub(super) undone: &'static str,
    /// The name of the command.
    pub(super) command: &'static str,
}

/// The snapshot that `wanted` names: `latest` is the newest of all devices that is no single file;
/// anything else is how an id begins. Where there may be a newer one the user has to name one.
///
/// # Errors
/// A [`Failure`] where there is none, or several are meant.
pub(super) fn choose(
    wanted: &str,
    live: &[&Live],
    doubt: &Doubt,
    deed: Deed,
) -> Result<Chosen, Failure> {
    if wanted == LATEST {
        return latest(live, doubt, deed);
    }
    let wanted = wanted.to_ascii_lowercase();
    let meant: Vec<&&Live> =
        live.iter().filter(|live| live.added.id.to_string().starts_with(&wanted)).collect();
    match meant.as_slice() {
        [one] if !wanted.is_empty() => Ok(chosen(one)),
        [] => Err(missing("there is no such snapshot", live.len(), doubt, deed)),
        several => {
            let names: Vec<String> =
                several.iter().take(NAMED_MAX).map(|live| short(live)).collect();
            let more = if several.len() > NAMED_MAX { " and others" } else { "" };
            let why = format!("{} snapshots begin so: {}{more}", several.len(), names.join(", "));
            Err(refused(why, live.len(), deed))
        }
    }
}

fn latest(live: &[&Live], doubt: &Doubt, deed: Deed) -> Result<Chosen, Failure> {
    let backups = live.iter().filter(|live| !live.added.put);
    let newest = backups.max_by_key(|live| (live.added.created_ns, live.added.id));
    let newest =
        newest.ok_or_else(|| missing("there are no snapshots", live.len(), doubt, deed))?;
    let why = match doubt {
        Doubt::None => return Ok(chosen(newest)),
        Doubt::Silent => {
            "too few of the nodes that keep a device's head answered: there may be a newer one"
                .to_owned()
        }
        Doubt::Unread(notes) => format!("a newer one may be hidden: {}", notes.join("; ")),
    };
    Err(Failure::new(
        FailureKind::Partial,
        "it is not certain which snapshot is the latest",
        why,
        format!(
            "start more of the mesh's nodes and run it again, or name the newest that is known: \
             `quloud {} {}`",
            deed.command,
            short(newest)
        ),
    ))
}

fn chosen(live: &Live) -> Chosen {
    let (id, reference) = (live.added.id, live.added.reference.duplicate());
    Chosen { id, reference, index: live.index }
}

fn short(live: &Live) -> String {
    short_id(&live.added.id)
}

/// There is none that is meant: or it is in a list that could not be read.
fn missing(why: &str, known: usize, doubt: &Doubt, deed: Deed) -> Failure {
    let Doubt::Unread(notes) = doubt else { return refused(why.to_owned(), known, deed) };
    Failure::new(
        FailureKind::NotEnoughHolders,
        deed.undone,
        format!("{why} among those that can be read; {}", notes.join("; ")),
        "start more of the mesh's nodes, then run the same command again",
    )
}

fn refused(why: String, known: usize, deed: Deed) -> Failure {
    let hint = match known {
        0 => "make one with `quloud backup`; on a new machine, `quloud recover` finds them",
        _ => "`quloud snapshots` lists them; eight digits of an id are enough",
    };
    Failure::new(FailureKind::Usage, deed.undone, why, hint)
}

impl Inner {
    /// The snapshot that was chosen, from the copy here or from holders.
    ///
    /// # Errors
    /// It is not to be had, or not what its entry names.
    pub(super) async fn snapshot(
        self: &Arc<Self>,
        (id, reference): (SnapshotId, &ChunkRef),
        patience: Duration,
    ) -> Result<Snapshot, Failure> {
        let plaintext = self.chunk(reference, Kind::Snapshot, patience).await;
        let plaintext = plaintext.map_err(|why| unread(&id, why))?;
        let snapshot = Snapshot::decode(&plaintext).ok().filter(|_| Snapshot::id(&plaintext) == id);
        snapshot.ok_or_else(|| not_what_it_was(&id))
    }
}

/// It is there, as far as anybody knows, and does not come.
pub(super) fn unread(id: &SnapshotId, why: String) -> Failure {
    let hint = "start more of the mesh's nodes, then run the same command again";
    let what = format!("snapshot {} cannot be read", short_id(id));
    Failure::new(FailureKind::NotEnoughHolders, what, why, hint)
}

fn not_what_it_was(id: &SnapshotId) -> Failure {
    let hint = "use another snapshot, and report this with the node's log";
    let what = format!("snapshot {} cannot be read", short_id(id));
    Failure::new(FailureKind::Damage, what, "its chunk is not what its entry names", hint)
}

/// Tells what speaks against the heads, which snapshot was found, and how its holders agree about
/// the head that leads to it.
pub(super) async fn tell_found<T>(
    progress: &mpsc::Sender<Progress<T>>,
    (id, snapshot): (&SnapshotId, &Snapshot),
    head: Option<&HeadReport>,
    notes: &[String],
) {
    for line in notes.iter().cloned().chain([found(id, snapshot, head)]) {
        // Whoever hangs up is noticed elsewhere.
        drop(progress.send(Progress::Told { line }).await);
    }
}

fn found(id: &SnapshotId, snapshot: &Snapshot, head: Option<&HeadReport>) -> String {
    let made = date(snapshot.created_ns.div_euclid(1_000_000_000));
    let head = match head {
        None => "the head of the device that made it was not read now".to_owned(),
        Some(head) => {
            let HeadReport { index, number, agree, silent, .. } = head;
            let written = date(head.signed_at);
            let holders = if *agree == 1 { "holder agrees" } else { "holders agree" };
            let doubt = if head.doubtful { ", so there may be a newer one" } else { "" };
            format!(
                "head {index}, number {number} of {written}: {agree} {holders}, {silent} did not \
                 answer{doubt}"
            )
        }
    };
    format!("snapshot {} of {made}; {head}", short_id(id))
}

/// As much of an id as a user needs.
pub(super) fn short_id(id: &SnapshotId) -> String {
    let mut text = id.to_string();
    text.truncate(8);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::types::{ChunkId, DeviceId, Locality};
    use crate::crypto::keys::ChunkKey;
    use crate::repo::manifest::Added;

    fn live(first: u8, created_ns: i64, put: bool) -> Live {
        let mut id = [7; 32];
        id[0] = first;
        let (ck, chunk) = (ChunkKey::from_bytes([1; 32]), ChunkId::from_bytes([2; 32]));
        let added = Added {
            id: SnapshotId::from_bytes(id),
            reference: ChunkRef { ck, id: chunk, locality: Locality(0), bytes: 0 },
            created_ns,
            utc_offset_min: 0,
            partial: false,
            put,
            roots_cut: false,
            files: 0,
            bytes: 0,
            new_bytes: 0,
            host: String::new(),
            roots: Vec::new(),
            tags: Vec::new(),
        };
        Live { added, index: 3, device: DeviceId::from_bytes([0; 16]) }
    }

    fn name(wanted: &str, live: &[&Live], doubt: &Doubt) -> Result<u8, FailureKind> {
        let deed = Deed { undone: "nothing was restored", command: "restore" };
        let chosen = choose(wanted, live, doubt, deed);
        chosen.map(|chosen| chosen.id.as_bytes()[0]).map_err(|failure| failure.kind)
    }

    #[test]
    fn latest_is_the_newest_backup_and_a_prefix_means_one_snapshot() {
        let all = [live(0xa1, 5, false), live(0xa2, 9, false), live(0xb1, 12, true)];
        let all: Vec<&Live> = all.iter().collect();
        let (none, unread) = (Doubt::None, Doubt::Unread(vec!["it was forked".to_owned()]));
        assert_eq!(name("latest", &all, &none), Ok(0xa2));
        for doubt in [&Doubt::Silent, &unread] {
            assert_eq!(name("latest", &all, doubt), Err(FailureKind::Partial));
            assert_eq!(name("A1", &all, doubt), Ok(0xa1), "whoever names it has chosen");
        }
        assert_eq!(name("b", &all, &none), Ok(0xb1));
        for wanted in ["a", "", "c", "latests"] {
            assert_eq!(name(wanted, &all, &none), Err(FailureKind::Usage), "{wanted:?}");
        }
        assert_eq!(name("latest", &all[2..], &none), Err(FailureKind::Usage));
        assert_eq!(name("latest", &all[2..], &unread), Err(FailureKind::NotEnoughHolders));
        let deed = Deed { undone: "nothing was restored", command: "restore" };
        let failure = choose("c", &all, &unread, deed).err().unwrap();
        assert!(failure.why.contains("it was forked"), "{failure:?}");
    }
}
