//! Plans over chunks that are only made up, and fed in any order.

use super::*;
use crate::core::types::Locality;
use crate::crypto::keys::ChunkKey;
use crate::repo::fixture::noise;
use crate::repo::listing::{ClosedListing, ListingBuilder, TooManyChunks};
use crate::repo::tree::Inode;
use proptest::prelude::*;

/// Plaintexts by the id that each was given.
#[derive(Default)]
struct Store(BTreeMap<ChunkId, Bytes>);

impl Store {
    fn add(&mut self, plaintext: &[u8], bytes: u64) -> ChunkRef {
        let id = *blake3::hash(plaintext).as_bytes();
        self.0.insert(ChunkId::from_bytes(id), Bytes::copy_from_slice(plaintext));
        let ck = ChunkKey::from_bytes(id.map(|byte| byte ^ 1));
        ChunkRef { ck, id: ChunkId::from_bytes(id), locality: Locality(1), bytes }
    }

    /// A file in pieces of `piece` bytes; its listings name `entries` each.
    fn listed(&mut self, data: &[u8], piece: usize, entries: u32) -> FileBody {
        let mut builder = ListingBuilder::with_entries_max(entries);
        let pieces: Vec<_> =
            data.chunks(piece).map(|piece| self.add(piece, piece.len() as u64)).collect();
        let mut seal = |listing: ClosedListing| {
            Ok::<_, TooManyChunks>(self.add(&listing.plaintext, listing.bytes))
        };
        pieces.iter().for_each(|piece| builder.add(piece, &mut seal).unwrap());
        let root = builder.finish(&mut seal).unwrap();
        body(data.len(), Content::Listing(root))
    }
}

fn body(bytes: usize, content: Content) -> FileBody {
    FileBody { bytes: bytes as u64, inode: Inode::default(), extents: None, content }
}

fn limits() -> GetLimits {
    GetLimits { chunks: 5, bytes: 64 << 20 }
}

/// Runs the plan to its end, answering the `pick`th of what is open each time; chunks in `lost` do
/// not come.
fn run(plan: &mut Plan, store: &Store, lost: &[ChunkId], pick: usize) -> Vec<Arrival> {
    let (mut open, mut arrivals) = (Vec::new(), Vec::new());
    loop {
        while let Some(need) = plan.next_need() {
            open.push(need);
            assert!(open.len() <= 5);
        }
        if open.is_empty() {
            assert!(plan.is_done());
            return arrivals;
        }
        let need = open.remove(pick % open.len());
        let id = need.reference.id;
        let gone = lost.contains(&id);
        let why = || Lost::Unavailable("gone".to_owned());
        let plaintext = if gone { Err(why()) } else { Ok(store.0[&id].clone()) };
        arrivals.extend(plan.give(need.index, plaintext));
    }
}

/// The file that the arrivals make; every byte comes once.
fn file_of(arrivals: &[Arrival], wanted: usize, length: usize) -> (Vec<u8>, Vec<Range<u64>>) {
    let (mut data, mut lost, mut come) = (vec![0; length], Vec::new(), Ranges::default());
    for arrival in arrivals {
        let range = match arrival {
            Arrival::Bytes { file, at, bytes } if *file == wanted => {
                let start = *at as usize;
                data[start..start + bytes.len()].copy_from_slice(bytes);
                *at..*at + bytes.len() as u64
            }
            Arrival::Lost { file, range, .. } if *file == wanted => {
                lost.push(range.clone());
                range.clone()
            }
            _ => continue,
        };
        assert_eq!(come.gaps(&range), std::slice::from_ref(&range), "no byte comes twice");
        come.add(&range);
    }
    assert_eq!(come.bytes(), length as u64, "every byte comes, or is said to be lost");
    lost.sort_by_key(|range| range.start);
    (data, lost)
}

proptest! {
    #[test]
    fn every_byte_comes_once_in_whatever_order(
        sizes in proptest::collection::vec(1..4000_usize, 1..6),
        piece in 50..600_usize,
        entries in 5..12_u32,
        pick in 0..7_usize,
        lost in 0..40_usize,
    ) {
        let mut store = Store::default();
        let mut plan = Plan::new(limits(), None);
        let files: Vec<_> = (0..).zip(&sizes).map(|(n, size)| noise(*size, n)).collect();
        for (number, data) in files.iter().enumerate() {
            plan.add(number, &store.listed(data, piece, entries));
        }
        let lost: Vec<_> = store.0.keys().skip(lost).take(1).copied().collect();
        let arrivals = run(&mut plan, &store, &lost, pick);
        for (number, data) in files.iter().enumerate() {
            let (mut found, gone) = file_of(&arrivals, number, data.len());
            for range in gone {
                let range = range.start as usize..range.end as usize;
                found[range.clone()].copy_from_slice(&data[range]);
            }
            prop_assert!(found == *data);
        }
    }
}

#[test]
fn what_is_held_is_neither_fetched_nor_lost() {
    let mut store = Store::default();
    let data = noise(1000, 1);
    let body = store.listed(&data, 100, 4);
    let mut held = Ranges::default();
    held.add(&(0..400));
    held.add(&(500..600));
    let mut plan = Plan::new(limits(), None);
    plan.add_rest(0, &body, held);
    // The second listing of three, and in the third one piece.
    let gone = [blake3::hash(&data[800..900])].map(|hash| ChunkId::from_bytes(*hash.as_bytes()));
    let arrivals = run(&mut plan, &store, &gone, 0);
    let mut ranges: Vec<_> = arrivals
        .iter()
        .map(|arrival| match arrival {
            Arrival::Bytes { at, bytes, .. } => (*at..*at + bytes.len() as u64, true),
            Arrival::Lost { range, .. } => (range.clone(), false),
        })
        .collect();
    ranges.sort_by_key(|(range, _)| range.start);
    let expected = [(400, true), (600, true), (700, true), (800, false), (900, true)];
    let expected = expected.map(|(start, came)| (start..start + 100, came));
    assert_eq!(ranges, expected);
}

#[test]
fn a_pack_is_asked_for_once_and_each_file_gets_its_own() {
    let mut store = Store::default();
    let pack = store.add(b"onetwothree", 11);
    let hasher = BlobHasher::new(&crate::repo::fixture::owner(1).dedup);
    let mut plan =
        Plan::new(limits(), Some(BlobHasher::new(&crate::repo::fixture::owner(1).dedup)));
    for (number, (offset, blob)) in [(0, "one"), (3, "two"), (6, "three")].into_iter().enumerate() {
        let hash = hasher.hash(blob.as_bytes());
        let content = Content::Packed { pack: pack.duplicate(), offset, hash };
        plan.add(number, &body(blob.len(), content));
    }
    // One that says another hash, and one that lies outside of it.
    for (number, offset) in [(3, 1), (4, 9)] {
        let content = Content::Packed { pack: pack.duplicate(), offset, hash: [0; 16] };
        plan.add(number, &body(3, content));
    }
    let need = plan.next_need().unwrap();
    assert!(plan.next_need().is_none());
    let arrivals = plan.give(need.index, Ok(store.0[&need.reference.id].clone()));
    let found: Vec<_> = arrivals
        .iter()
        .map(|arrival| match arrival {
            Arrival::Bytes { bytes, .. } => std::str::from_utf8(bytes).unwrap(),
            Arrival::Lost { why: Lost::Content, .. } => "(content)",
            Arrival::Lost { .. } => "(lost)",
        })
        .collect();
    assert_eq!(found, ["one", "two", "three", "(content)", "(lost)"]);
    assert!(plan.is_done());
}

#[test]
fn a_plan_asks_for_no_more_bytes_than_it_may() {
    let mut store = Store::default();
    let mut plan = Plan::new(GetLimits { chunks: 32, bytes: 13 << 20 }, None);
    for number in 0..9 {
        let mut data = noise(100, number);
        data.resize(4 << 20, 0);
        data.truncate(PLAINTEXT_BYTES_MAX);
        let piece = store.add(&data, data.len() as u64);
        plan.add(number as usize, &body(data.len(), Content::Piece(piece)));
    }
    let asked = std::iter::from_fn(|| plan.next_need()).count();
    assert_eq!(asked, 3);
}

#[test]
fn what_nobody_asked_for_is_of_no_use() {
    let mut plan = Plan::new(limits(), None);
    assert!(plan.give(7, Ok(Bytes::from_static(b"x"))).is_empty());
    assert!(plan.is_done() && plan.next_need().is_none());
}
