//! Which snapshot is meant.

use crate::core::types::SnapshotId;
use crate::node::report::{Failure, FailureKind};
use crate::repo::manifest::merge::Live;
use crate::repo::reference::ChunkRef;

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

/// The snapshot that `wanted` names: `latest` is the newest of all devices that is no single file;
/// anything else is how an id begins. `doubtful` says that there may be a newer one: then the user
/// has to name one.
///
/// # Errors
/// A [`Failure`] where there is none, or several are meant.
pub(super) fn choose(wanted: &str, live: &[&Live], doubtful: bool) -> Result<Chosen, Failure> {
    if wanted == LATEST {
        return latest(live, doubtful);
    }
    let wanted = wanted.to_ascii_lowercase();
    let meant: Vec<&&Live> =
        live.iter().filter(|live| live.added.id.to_string().starts_with(&wanted)).collect();
    match meant.as_slice() {
        [one] if !wanted.is_empty() => Ok(chosen(one)),
        [] => Err(refused("there is no such snapshot".to_owned(), live.len())),
        several => {
            let names: Vec<String> =
                several.iter().take(NAMED_MAX).map(|live| short(live)).collect();
            let more = if several.len() > NAMED_MAX { " and others" } else { "" };
            let why = format!("{} snapshots begin so: {}{more}", several.len(), names.join(", "));
            Err(refused(why, live.len()))
        }
    }
}

fn latest(live: &[&Live], doubtful: bool) -> Result<Chosen, Failure> {
    let backups = live.iter().filter(|live| !live.added.put);
    let newest = backups.max_by_key(|live| (live.added.created_ns, live.added.id));
    let newest = newest.ok_or_else(|| refused("there are no snapshots".to_owned(), live.len()))?;
    if !doubtful {
        return Ok(chosen(newest));
    }
    Err(Failure::new(
        FailureKind::Partial,
        "it is not certain which snapshot is the latest",
        "fewer than half of the nodes that keep a device's head answered: there may be a newer one",
        format!(
            "start more of the mesh's nodes and run it again, or name the newest that is known: \
             `quloud restore {}`",
            short(newest)
        ),
    ))
}

fn chosen(live: &Live) -> Chosen {
    let (id, reference) = (live.added.id, live.added.reference.duplicate());
    Chosen { id, reference, index: live.index }
}

fn short(live: &Live) -> String {
    let id = live.added.id.to_string();
    id.get(..8).unwrap_or(&id).to_owned()
}

fn refused(why: String, known: usize) -> Failure {
    let hint = match known {
        0 => "make one with `quloud backup`; on a new machine, `quloud recover` finds them",
        _ => "`quloud snapshots` lists them; eight digits of an id are enough",
    };
    Failure::new(FailureKind::Usage, "nothing was restored", why, hint)
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

    fn name(wanted: &str, live: &[&Live], doubtful: bool) -> Result<u8, FailureKind> {
        let chosen = choose(wanted, live, doubtful);
        chosen.map(|chosen| chosen.id.as_bytes()[0]).map_err(|failure| failure.kind)
    }

    #[test]
    fn latest_is_the_newest_backup_and_a_prefix_means_one_snapshot() {
        let all = [live(0xa1, 5, false), live(0xa2, 9, false), live(0xb1, 12, true)];
        let all: Vec<&Live> = all.iter().collect();
        assert_eq!(name("latest", &all, false), Ok(0xa2));
        assert_eq!(name("latest", &all, true), Err(FailureKind::Partial));
        assert_eq!(name("A1", &all, true), Ok(0xa1), "whoever names it has chosen");
        assert_eq!(name("b", &all, false), Ok(0xb1));
        for wanted in ["a", "", "c", "latests"] {
            assert_eq!(name(wanted, &all, false), Err(FailureKind::Usage), "{wanted:?}");
        }
        assert_eq!(name("latest", &all[2..], false), Err(FailureKind::Usage));
    }
}
