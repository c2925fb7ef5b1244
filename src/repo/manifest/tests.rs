//! Entries of manifests: as they were, and never what they cannot be.

mod chains;
mod merging;

use super::*;
use crate::core::types::{ChunkId, Locality};
use crate::crypto::keys::ChunkKey;
use proptest::prelude::*;

fn added(number: u8) -> Added {
    let (ck, id) = (ChunkKey::from_bytes([number; 32]), ChunkId::from_bytes([number; 32]));
    Added {
        id: SnapshotId::from_bytes([number; 32]),
        reference: ChunkRef { ck, id, locality: Locality(7), bytes: 0 },
        created_ns: -5,
        utc_offset_min: 120,
        partial: true,
        put: false,
        roots_cut: true,
        files: 6,
        bytes: 7,
        new_bytes: 8,
        host: "attic".into(),
        roots: vec![b"/data".to_vec(), b"/\xff".to_vec()],
        tags: vec!["nightly".into()],
    }
}

fn checkpoint() -> Checkpoint {
    let id = |number| SnapshotId::from_bytes([number; 32]);
    let device = DeviceId::from_bytes([1; 16]);
    let known = |index, retired| KnownDevice { index, device, lamport: 9, retired };
    Checkpoint {
        live: vec![added(5), added(3)],
        forgets: vec![id(1), id(2)],
        intents: vec![(PruneIntent { prune: [1; 16], grace_s: 900 }, 77)],
        devices: vec![known(0, false), known(4, true)],
        hints: vec![Hint { node: NodeId::from_bytes([2; 32]), chunks: 3, address: vec![4; 512] }],
    }
}

fn bodies() -> Vec<Body> {
    let device = DeviceId::from_bytes([1; 16]);
    let keys = |what| Body::Keys(KeyEvent { what, device, index: 3, generation: 1 });
    vec![
        Body::Add(added(1)),
        Body::Forget(vec![SnapshotId::from_bytes([1; 32]), SnapshotId::from_bytes([2; 32])]),
        Body::PruneIntent(PruneIntent { prune: [1; 16], grace_s: 900 }),
        Body::PruneDone { prune: [1; 16], released: 1_000 },
        keys(KeyChange::Joined),
        keys(KeyChange::Retired),
        keys(KeyChange::NewGeneration),
        Body::Checkpoint(checkpoint()),
        Body::Checkpoint(Checkpoint::default()),
    ]
}

fn entry(body: Body) -> ManifestEntry {
    ManifestEntry {
        device: DeviceId::from_bytes([1; 16]),
        index: 3,
        generation: 0,
        number: 1,
        lamport: 5,
        wall_ns: -1,
        previous: [6; 32],
        body,
    }
}

#[test]
fn entries_come_back_as_they_were() {
    for body in bodies() {
        let given = entry(body);
        let bytes = given.encode().unwrap();
        let found = ManifestEntry::decode(&bytes).unwrap();
        assert_eq!(format!("{found:?}"), format!("{given:?}"));
        assert_eq!(*found.encode().unwrap(), *bytes);
    }
}

#[test]
fn only_the_first_entry_follows_nothing() {
    let of = |number, previous| {
        let made = ManifestEntry { number, previous, ..entry(bodies().remove(1)) };
        made.encode().map(drop)
    };
    assert_eq!((of(0, [0; 32]), of(1, [1; 32])), (Ok(()), Ok(())));
    assert_eq!(of(0, [1; 32]), Err(ManifestFault::Previous));
    assert_eq!(of(1, [0; 32]), Err(ManifestFault::Previous));
}

#[test]
fn lists_beyond_their_limits_are_refused() {
    let refused = |body: Body| entry(body).encode().unwrap_err();
    let id = |number: u32| {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.to_be_bytes());
        SnapshotId::from_bytes(id)
    };
    assert_eq!(refused(Body::Forget(vec![])), ManifestFault::Count);
    assert_eq!(refused(Body::Forget((0..65_537).map(id).collect())), ManifestFault::Count);
    assert_eq!(refused(Body::Forget(vec![id(1), id(1)])), ManifestFault::Order);
    assert_eq!(refused(Body::Forget(vec![id(2), id(1)])), ManifestFault::Order);
    assert!(entry(Body::Forget((0..65_536).map(id).collect())).encode().is_ok());
    let long = Added { roots: vec![vec![b'/'; 1_025]], ..added(1) };
    assert_eq!(refused(Body::Add(long)), ManifestFault::Count);
    let host = Added { host: "h".repeat(256), ..added(1) };
    assert_eq!(refused(Body::Add(host)), ManifestFault::Text);
    let with = |change: fn(&mut Checkpoint)| {
        let mut changed = checkpoint();
        change(&mut changed);
        refused(Body::Checkpoint(changed))
    };
    assert_eq!(with(|c| c.live.push(added(5))), ManifestFault::Order);
    assert_eq!(with(|c| c.forgets.reverse()), ManifestFault::Order);
    assert_eq!(with(|c| c.devices.reverse()), ManifestFault::Order);
    assert_eq!(with(|c| c.hints = vec![c.hints[0].clone(); 65]), ManifestFault::Count);
    assert_eq!(with(|c| c.hints[0].address.push(0)), ManifestFault::Count);
}

#[test]
fn a_manifest_with_too_many_snapshots_says_so() {
    let live = |count: u32| {
        let number = |number: u32| {
            let mut made = added(1);
            let mut id = [0; 32];
            id[..4].copy_from_slice(&number.to_le_bytes());
            made.id = SnapshotId::from_bytes(id);
            made.roots = vec![vec![b'/'; 1_000]];
            made
        };
        let live = (0..count).map(number).collect();
        let checkpoint = Checkpoint { live, ..Checkpoint::default() };
        entry(Body::Checkpoint(checkpoint)).encode().map(drop)
    };
    assert_eq!(live(3_000), Ok(()));
    assert_eq!(live(4_000), Err(ManifestFault::TooLong));
}

#[test]
fn bytes_that_are_no_entry_are_refused() {
    for body in bodies() {
        let good = entry(body).encode().unwrap();
        for length in 0..good.len() {
            let error = ManifestEntry::decode(&good[..length]).unwrap_err();
            assert_eq!(error, ManifestFault::Length(length));
        }
        let more = [good.as_slice(), &[0]].concat();
        let error = ManifestEntry::decode(&more).unwrap_err();
        assert_eq!(error, ManifestFault::Length(more.len()));
        for (at, value, fault) in
            [(0, 2, ManifestFault::Version(2)), (1, 7, ManifestFault::Kind(7))]
        {
            let mut bytes = good.to_vec();
            bytes[at] = value;
            assert_eq!(ManifestEntry::decode(&bytes).unwrap_err(), fault);
        }
    }
}

#[test]
fn a_changed_entry_has_another_hash() {
    let good = entry(bodies().remove(0)).encode().unwrap();
    for at in 0..good.len() {
        let mut bytes = good.to_vec();
        bytes[at] ^= 1;
        assert_ne!(ManifestEntry::hash(&bytes), ManifestEntry::hash(&good), "byte {at}");
    }
}

proptest! {
    #[test]
    fn any_bytes_decode_or_fail_cleanly(
        kind in 0..8_u8,
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        body in 0..9_usize,
        at in any::<usize>(),
        byte in any::<u8>(),
    ) {
        let mut front = vec![1, kind];
        front.resize(80, 1);
        front.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
        let _ = ManifestEntry::decode(&[front, bytes].concat());
        let mut changed = entry(bodies().remove(body)).encode().unwrap().to_vec();
        let at = at % changed.len();
        changed[at] = byte;
        if let Ok(found) = ManifestEntry::decode(&changed) {
            let again = found.encode().unwrap();
            prop_assert_eq!(again.as_slice(), changed.as_slice());
        }
    }
}
