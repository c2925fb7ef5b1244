//! Getting files from a mesh that is a map.

use super::*;
use crate::crypto::keys::OwnerKeys;
use crate::crypto::seal::SealedChunk;
use crate::repo::fixture::{Memory, Mesh, NEVER, noise, owner};
use crate::repo::frame::FrameEncoder;
use crate::repo::listing::{FILE_BYTES_MAX, ListingError};
use proptest::prelude::*;

fn get(capability: &Capability, mesh: &mut Mesh) -> (Result<GetProgress, GetError>, Memory) {
    let mut memory = Memory::default();
    let limits = GetLimits::default();
    let outcome = get_chunks(capability, mesh, &mut memory, limits, &NEVER, |_| {});
    (outcome, memory)
}

/// Stores any plaintext as a chunk of any kind.
fn plant(mesh: &mut Mesh, keys: &OwnerKeys, kind: Kind, plaintext: &[u8]) -> Capability {
    let ck = ChunkKey::derive(&keys.dedup, 0, kind as u8, plaintext);
    let mut encoder = FrameEncoder::new();
    let frame = encoder.encode(kind, plaintext).unwrap();
    let id = mesh.insert(&SealedChunk::new(keys, &ck, Locality(0), &frame));
    Capability { id, locality: Locality(0), ck }
}

fn entry(chunk: &Capability, bytes: u64) -> Vec<u8> {
    let locality = chunk.locality.0.to_le_bytes();
    let id = chunk.id.as_bytes().as_slice();
    [chunk.ck.expose().as_slice(), id, &locality, &bytes.to_le_bytes()].concat()
}

fn listing(level: u8, total: u64, entries: &[Vec<u8>]) -> Vec<u8> {
    let count = u32::try_from(entries.len()).unwrap().to_le_bytes();
    [&[1, level, 0, 0], count.as_slice(), &total.to_le_bytes(), &entries.concat()].concat()
}

fn damage(outcome: Result<GetProgress, GetError>) -> (Part, Damage) {
    match outcome {
        Err(GetError::Damaged { part, damage, .. }) => (part, damage),
        other => panic!("{other:?}"),
    }
}

#[test]
fn chunks_in_any_order_make_the_file() {
    let file = noise(200_000, 1);
    for backwards in [false, true] {
        let mut mesh = Mesh { backwards, ..Mesh::default() };
        let pieces: Vec<&[u8]> = file.chunks(1500).collect();
        let summary = mesh.put(&owner(1), &pieces);
        let (outcome, memory) = get(&summary.capability, &mut mesh);
        assert_eq!(memory.bytes, file);
        let done = outcome.unwrap();
        assert_eq!((done.bytes, done.total), (200_000, 200_000));
        assert_eq!(done.chunks, summary.chunks);
        assert_eq!(mesh.asked_most, GetLimits::default().chunks);
    }
}

#[test]
fn an_empty_file_comes_back() {
    let mut mesh = Mesh::default();
    let summary = mesh.put(&owner(1), &[]);
    let (outcome, memory) = get(&summary.capability, &mut mesh);
    assert_eq!(outcome.unwrap().chunks, 1);
    assert!(memory.begun && memory.bytes.is_empty());
}

#[test]
fn a_tree_of_listings_is_walked_and_the_window_kept() {
    let mut mesh = Mesh { backwards: true, ..Mesh::default() };
    let pieces: Vec<[u8; 2]> = (0..8200_u16).map(u16::to_le_bytes).collect();
    let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_slice()).collect();
    let summary = mesh.put(&owner(1), &pieces);
    let (outcome, memory) = get(&summary.capability, &mut mesh);
    outcome.unwrap();
    assert_eq!(memory.bytes, pieces.concat());
    assert!(mesh.asked_most <= GetLimits::default().chunks);
}

#[test]
fn the_window_is_bounded_in_bytes() {
    let mut mesh = Mesh::default();
    let longest = noise(PLAINTEXT_BYTES_MAX, 3);
    let pieces: Vec<Vec<u8>> = (1..=9).map(|cut| longest[cut..].to_vec()).collect();
    let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    let summary = mesh.put(&owner(1), &pieces);
    let mut memory = Memory::default();
    let limits = GetLimits { chunks: 32, bytes: 13 << 20 };
    get_chunks(&summary.capability, &mut mesh, &mut memory, limits, &NEVER, |_| {}).unwrap();
    assert_eq!(mesh.asked_most, 3);
}

#[test]
fn what_is_held_is_not_fetched_again() {
    let mut mesh = Mesh::default();
    let file = noise(30_000, 4);
    let summary = mesh.put(&owner(1), &file.chunks(1000).collect::<Vec<_>>());
    let mut memory = Memory { held: Some(5000..21_000), ..Memory::default() };
    let limits = GetLimits::default();
    let done =
        get_chunks(&summary.capability, &mut mesh, &mut memory, limits, &NEVER, |_| {}).unwrap();
    assert_eq!((done.resumed_bytes, done.bytes, done.chunks), (16_000, 30_000, 15));
    assert_eq!(memory.bytes[..5000], file[..5000]);
    assert_eq!(memory.bytes[21_000..], file[21_000..]);
}

#[test]
fn a_missing_chunk_is_named_with_its_bytes() {
    let mut mesh = Mesh::default();
    let summary = mesh.put(&owner(1), &[b"first", b"second", b"third"]);
    let (lost, _) = mesh.order[1];
    mesh.chunks.remove(&lost);
    let (outcome, _) = get(&summary.capability, &mut mesh);
    match outcome {
        Err(GetError::Unavailable { part, id, why }) => {
            assert_eq!((part, id, why.as_str()), (Part::Piece(5..11), lost, "nobody holds it"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_chunk_is_damage() {
    let mut mesh = Mesh::default();
    let summary = mesh.put(&owner(1), &[b"piece"]);
    let piece = mesh.order[0].0;
    let good = mesh.chunks[&piece].clone();
    for at in 0..good.1.len() {
        let mut sealed = good.1.to_vec();
        sealed[at] ^= 1 << (at % 8);
        mesh.chunks.insert(piece, (good.0, sealed.into()));
        let (outcome, memory) = get(&summary.capability, &mut mesh);
        assert_eq!(damage(outcome), (Part::Piece(0..5), Damage::Seal));
        assert_eq!(memory.bytes, [0; 5], "nothing of a damaged chunk is written");
    }
}

#[test]
fn a_header_that_is_not_the_ids_is_refused() {
    let mut mesh = Mesh::default();
    let summary = mesh.put(&owner(1), &[b"piece", b"other"]);
    let other = mesh.chunks[&mesh.order[1].0].clone();
    let (header, sealed) = mesh.chunks.get_mut(&summary.capability.id).unwrap();
    header.generation += 1;
    let before = sealed.clone();
    let (outcome, _) = get(&summary.capability, &mut mesh);
    assert_eq!(damage(outcome), (Part::Root, Damage::WrongHeader));
    let root = mesh.chunks.get_mut(&summary.capability.id).unwrap();
    root.0.generation -= 1;
    root.1 = before.slice(1..);
    let (outcome, _) = get(&summary.capability, &mut mesh);
    assert_eq!(damage(outcome), (Part::Root, Damage::WrongHeader));
    assert_ne!(other.1, before);
}

#[test]
fn another_key_does_not_open_the_root() {
    let mut mesh = Mesh::default();
    let keys = owner(1);
    let mut capability = mesh.put(&keys, &[b"piece"]).capability;
    capability.ck = ChunkKey::from_bytes([9; 32]);
    // The mesh of these tests checks the read secret; a real holder would refuse the proof.
    struct Blind(Mesh, u64);
    impl ChunkSource for Blind {
        fn request(&mut self, wanted: Wanted) {
            self.1 = wanted.index;
        }
        fn next(&mut self) -> Result<Fetched, FetchError> {
            let (header, sealed) = self.0.chunks[&self.0.order[1].0].clone();
            Ok(Fetched { index: self.1, header, sealed })
        }
    }
    let (limits, mut memory) = (GetLimits::default(), Memory::default());
    let mut blind = Blind(mesh, 0);
    let outcome = get_chunks(&capability, &mut blind, &mut memory, limits, &NEVER, |_| {});
    assert_eq!(damage(outcome), (Part::Root, Damage::Seal));
}

#[test]
fn hostile_listings_end_in_damage_and_write_nothing_wrong() {
    let (keys, mut mesh) = (owner(1), Mesh::default());
    let piece = plant(&mut mesh, &keys, Kind::File, b"12345");
    let low = listing(0, 5, &[entry(&piece, 5)]);
    let low = plant(&mut mesh, &keys, Kind::Listing, &low);
    let huge = FILE_BYTES_MAX;
    let cases: [(&str, Vec<u8>, Damage); 7] = [
        ("no listing", b"nonsense".to_vec(), ListingError::Version(b'n').into()),
        (
            "a piece longer than it is",
            listing(0, 6, &[entry(&piece, 6)]),
            Damage::Length { declared: 6, found: 5 },
        ),
        ("a piece where a listing is", listing(0, 5, &[entry(&low, 5)]), Damage::Kind),
        ("a listing where a piece is", listing(1, 5, &[entry(&piece, 5)]), Damage::Kind),
        ("a level left out", listing(2, 5, &[entry(&low, 5)]), ListingError::Level(0).into()),
        ("a total that lies", listing(1, 9, &[entry(&low, 9)]), ListingError::Total(5).into()),
        (
            "sums above the longest file",
            listing(1, 3, &[entry(&low, huge), entry(&low, huge), entry(&low, 5)]),
            ListingError::Total(3).into(),
        ),
    ];
    for (name, plaintext, expected) in cases {
        let root = plant(&mut mesh, &keys, Kind::Listing, &plaintext);
        let (outcome, _) = get(&root, &mut mesh);
        assert_eq!(damage(outcome).1, expected, "{name}");
    }
    let root = plant(&mut mesh, &keys, Kind::File, b"a piece as a root");
    assert_eq!(damage(get(&root, &mut mesh).0), (Part::Root, Damage::Kind));
}

#[test]
fn a_listing_named_many_times_costs_no_memory() {
    let (keys, mut mesh) = (owner(1), Mesh::default());
    let piece = plant(&mut mesh, &keys, Kind::File, b"ab");
    let low = listing(0, 4, &[entry(&piece, 2), entry(&piece, 2)]);
    let low = plant(&mut mesh, &keys, Kind::Listing, &low);
    let middle = listing(1, 40, &vec![entry(&low, 4); 10]);
    let middle = plant(&mut mesh, &keys, Kind::Listing, &middle);
    let root = listing(2, 400, &vec![entry(&middle, 40); 10]);
    let root = plant(&mut mesh, &keys, Kind::Listing, &root);
    let (outcome, memory) = get(&root, &mut mesh);
    outcome.unwrap();
    assert_eq!(memory.bytes, b"ab".repeat(200));
}

#[test]
fn a_source_that_closes_or_a_cancel_ends_the_get() {
    let mut mesh = Mesh { serve_at_most: Some(3), ..Mesh::default() };
    let pieces: Vec<[u8; 1]> = (0..100).map(|byte| [byte]).collect();
    let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_slice()).collect();
    let summary = mesh.put(&owner(1), &pieces);
    assert!(matches!(get(&summary.capability, &mut mesh).0, Err(GetError::Closed)));
    mesh = Mesh { chunks: mesh.chunks, ..Mesh::default() };
    let cancel = AtomicBool::new(false);
    let (limits, mut memory) = (GetLimits::default(), Memory::default());
    let outcome =
        get_chunks(&summary.capability, &mut mesh, &mut memory, limits, &cancel, |done| {
            cancel.store(done.chunks == 10, Ordering::Relaxed);
        });
    assert!(matches!(outcome, Err(GetError::Cancelled)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_file_comes_back(
        length in 0..60_000_usize,
        piece in 1..9000_usize,
        seed in any::<u64>(),
        compressible in any::<bool>(),
        backwards in any::<bool>(),
    ) {
        let file = if compressible { vec![7; length] } else { noise(length, seed) };
        let mut mesh = Mesh { backwards, ..Mesh::default() };
        let summary = mesh.put(&owner(3), &file.chunks(piece).collect::<Vec<_>>());
        let (outcome, memory) = get(&summary.capability, &mut mesh);
        prop_assert!(outcome.is_ok());
        prop_assert_eq!(memory.bytes, file);
    }
}
