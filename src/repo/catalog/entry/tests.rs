//! Entries to bytes and back.

pub(in super::super) use super::audit::tests::{audited, found, lost};
pub(in super::super) use super::evidence::tests::evidence;
pub(in super::super) use super::made::tests::made;
pub(in super::super) use super::prune::tests::{forgotten, seen, to_look_after};
use super::*;
use crate::core::types::DeviceId;
use crate::crypto::head::HeadKeys;
use crate::repo::evidence::Word;
use proptest::prelude::*;
use rand::SeedableRng;

pub(in super::super) fn started(job: u64) -> PutStarted {
    PutStarted {
        job: JobId(job),
        path: format!("/home/someone/file {job}").into(),
        bytes: 1 << 40,
        modified_ns: -5,
        replicas: 3,
        locality: Locality(0xabcd),
        started_at: 1_800_000_000,
    }
}

pub(in super::super) fn root(job: u64) -> PutRoot {
    let id = ChunkId::from_bytes([u8::try_from(job % 256).unwrap(); 32]);
    let ck = ChunkKey::from_bytes([7; 32]);
    PutRoot {
        job: JobId(job),
        name: format!("file {job}"),
        capability: Capability { id, locality: Locality(9), ck },
        bytes: 1 << 41,
        chunks: 5,
        sealed_bytes: 1 << 42,
        target: 3,
        replicas: 2,
        put_at: 1_800_000_001,
        named: job.is_multiple_of(2),
    }
}

/// Of the put that [`started`] makes under the same number.
pub(in super::super) fn dropped(job: u64) -> JobDropped {
    JobDropped {
        job: JobId(job),
        path: started(job).path,
        why: "it changed".to_owned(),
        dropped_at: 1_800_000_003,
    }
}

pub(in super::super) fn due(job: u64) -> SnapshotDue {
    SnapshotDue {
        job: JobId(job),
        began_ns: -6,
        replicas: 3,
        partial: true,
        new_bytes: 1 << 43,
        entries: vec![7; 70].into(),
    }
}

pub(in super::super) fn acked(chunk: u32, node: u8, epoch: u8) -> ChunkAcked {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&chunk.to_be_bytes());
    ChunkAcked {
        chunk: ChunkId::from_bytes(id),
        node: NodeId::from_bytes([node; 32]),
        lease: LeaseNonce::from_bytes([1; 16]),
        epoch: StoreEpoch::from_bytes([epoch; 16]),
    }
}

pub(in super::super) fn head(index: u16, number: u64) -> HeadSeen {
    let owner = crate::repo::fixture::owner(1);
    let keys = HeadKeys::derive(&owner.head, 0, index);
    let mut rng = rand_chacha::ChaCha20Rng::from_seed([1; 32]);
    let number = std::num::NonZeroU64::new(number).unwrap();
    HeadSeen { index, record: keys.make(number, [0; 32], b"payload", &mut rng).unwrap() }
}

pub(in super::super) fn kept(index: u16, number: u64) -> HeadKept {
    let holders = vec![NodeId::from_bytes([4; 32]), NodeId::from_bytes([5; 32])];
    HeadKept { generation: 0, index, number, holders }
}

pub(in super::super) fn verified(snapshot: u8, at: u64, damaged: u64) -> Verified {
    let snapshot = crate::core::types::SnapshotId::from_bytes([snapshot; 32]);
    Verified { snapshot, at, sample_ppm: 50_000, bytes: 7, damaged, away: 0 }
}

fn proven() -> Proven {
    Proven {
        node: NodeId::from_bytes([4; 32]),
        epoch: StoreEpoch::from_bytes([5; 16]),
        at_s: 1_800_000_005,
        chunks: vec![1, u64::MAX],
    }
}

fn all() -> Vec<Entry> {
    vec![
        Entry::PutStarted(started(1)),
        Entry::ChunkAcked(acked(2, 3, 4)),
        Entry::PutShort(root(5)),
        Entry::PutDone(root(6)),
        Entry::PutAcked(JobId(7)),
        Entry::SourceAway { job: JobId(8), since: Some(1_800_000_002) },
        Entry::SourceAway { job: JobId(8), since: None },
        Entry::JobDropped(dropped(9)),
        Entry::Device(Device { id: DeviceId::from_bytes([3; 16]), index: 7 }),
        Entry::HeadSeen(head(2, 1)),
        Entry::HeadKept(kept(2, 1)),
        Entry::LookedAround { at: 1_800_000_004 },
        Entry::SnapshotDue(due(10)),
        Entry::SnapshotDone(JobId(11)),
        Entry::Verified(verified(1, 2, 3)),
        Entry::BackupMade(made(1, 2, 1)),
        Entry::SnapshotEvidence(evidence(2, Word::AtRisk)),
        Entry::SnapshotEvidence(evidence(3, Word::Safe)),
        Entry::Proven(proven()),
        Entry::Audited(proven()),
        Entry::ShownUpTo { entries: 1 << 44 },
        Entry::Rebuild(RebuildNote::Begun { ids_max: 1 << 40, holders: 3 }),
        Entry::Rebuild(RebuildNote::Listing(Listing::new(NodeId::from_bytes([6; 32])))),
        Entry::Rebuild(RebuildNote::Listing(Listing {
            store: Some(StoreEpoch::from_bytes([7; 16])),
            after: ChunkId::from_bytes([8; 32]),
            listed: 1 << 33,
            live: 1 << 34,
            new: 1 << 35,
            state: ListingState::GivenUp,
            ..Listing::new(NodeId::from_bytes([9; 32]))
        })),
        Entry::Rebuild(RebuildNote::Done),
    ]
    .into_iter()
    .chain(prune::tests::all().into_iter().map(Entry::Prune))
    .chain(audit::tests::all())
    .collect()
}

#[test]
fn a_drop_of_an_earlier_version_is_read() {
    let bytes = [&[JOB_DROPPED_BARE][..], &7_u64.to_le_bytes()].concat();
    let entry = Entry::decode(&mut bytes.as_slice()).unwrap();
    assert!(matches!(entry, Entry::JobDropped(dropped) if dropped.job == JobId(7)));
}

#[test]
fn entries_come_back_as_they_were() {
    let mut bytes = Vec::new();
    all().iter().for_each(|entry| entry.encode(&mut bytes).unwrap());
    let mut rest = bytes.as_slice();
    for entry in all() {
        let back = Entry::decode(&mut rest).unwrap();
        assert_eq!(format!("{back:?}"), format!("{entry:?}"));
        if let (Entry::PutDone(a), Entry::PutDone(b)) = (&back, &entry) {
            assert_eq!(a.capability.ck.expose(), b.capability.ck.expose());
        }
        if let (Entry::SnapshotDue(a), Entry::SnapshotDue(b)) = (&back, &entry) {
            let rest = |due: &SnapshotDue| (due.replicas, due.partial, due.new_bytes);
            assert_eq!((rest(a), &a.entries), (rest(b), &b.entries));
        }
    }
    assert!(rest.is_empty());
}

#[test]
fn an_entry_cut_short_is_refused() {
    for entry in all() {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes).unwrap();
        for length in 0..bytes.len() {
            assert!(Entry::decode(&mut &bytes[..length]).is_err(), "{entry:?} at {length}");
        }
    }
}

#[test]
fn more_chunks_than_one_entry_has_are_refused() {
    for entry in [Entry::Proven(proven()), Entry::Audited(proven())] {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes).unwrap();
        bytes.resize(bytes.len() + 8 * PROVEN_CHUNKS_MAX, 0);
        let most = u16::try_from(PROVEN_CHUNKS_MAX).unwrap();
        for (count, is_read) in [(most, true), (most + 1, false), (u16::MAX, false)] {
            bytes[53..55].copy_from_slice(&count.to_le_bytes());
            assert_eq!(Entry::decode(&mut bytes.as_slice()).is_ok(), is_read, "{count}");
        }
    }
}

#[test]
fn a_name_that_is_too_long_writes_nothing() {
    let mut bytes = Vec::new();
    let long = PutRoot { name: "n".repeat(65_536), ..root(1) };
    assert_eq!(Entry::PutDone(long).encode(&mut bytes), Err(TooLong(65_536)));
    assert!(bytes.is_empty());
}

#[test]
fn no_secret_is_printed() {
    let text = format!("{:?}", Entry::PutDone(root(1)));
    assert!(text.contains("ChunkKey(..)") && !text.contains("7, 7"), "{text}");
    let text = format!("{:?}", Entry::SnapshotDue(due(1)));
    assert!(!text.contains("7, 7"), "{text}");
}

proptest! {
    #[test]
    fn any_bytes_decode_or_fail_cleanly(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
        tag in 0..112_u8,
    ) {
        let _ = Entry::decode(&mut bytes.as_slice());
        if let Some(first) = bytes.first_mut() {
            *first = tag;
        }
        let _ = Entry::decode(&mut bytes.as_slice());
    }
}
