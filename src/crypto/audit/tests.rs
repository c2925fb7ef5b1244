//! Tags, proofs and what does not pass.

mod saved;

use super::*;
use crate::crypto::keys::{ChunkKey, Master, NodeKeys, OwnerKeys, PairKey};
use proptest::prelude::*;

const SEED: [u8; 32] = [7; 32];

fn owner(number: u8, generation: u32) -> OwnerKeys {
    OwnerKeys::derive(&Master::from_bytes([number; 32]), generation)
}

fn key() -> TagKey {
    TagKey::derive(0, &owner(1, 0).audit)
}

fn holder(number: u8) -> NodeId {
    NodeId::from_bytes([number; 32])
}

/// A chunk of the owner with these sealed bytes.
fn sealed_as(bytes: Vec<u8>) -> (Header, Vec<u8>) {
    let keys = owner(1, 0);
    let ck = ChunkKey::derive(&keys.dedup, 0, 1, &bytes);
    (Header::new(0, keys.points(&ck), &bytes), bytes)
}

/// A chunk of so many bytes.
fn chunk(number: u8, length: usize) -> (Header, Vec<u8>) {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[number]).finalize_xof().fill(&mut bytes);
    sealed_as(bytes)
}

fn chunks() -> Vec<(Header, Vec<u8>)> {
    // A block more or less, and one that is all but empty.
    let lengths = [41, 42, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 100_000, 1 << 20];
    (1..).zip(lengths).map(|(number, length)| chunk(number, length)).collect()
}

/// The compact proof of one chunk, or why there is none.
fn prove_one(
    challenge: Challenge,
    id: &ChunkId,
    sealed: &[u8],
    tags: &[u8],
) -> Result<Proof, BadTags> {
    match Task::Compact(challenge).piece(id, sealed, tags)? {
        Piece::Compact(proof) => Ok(proof),
        Piece::Mac(_) => panic!("a compact task gave a MAC"),
    }
}

fn prove(challenge: Challenge, key: &TagKey, held: &[(Header, Vec<u8>)]) -> Proof {
    let mut sum = Proof::zero();
    for (header, sealed) in held {
        let tags = key.tags(header, sealed).unwrap();
        sum.add(&prove_one(challenge, &header.id(), sealed, &tags).unwrap());
    }
    sum
}

fn blocks_of(header: &Header) -> u32 {
    blocks(header.sealed_bytes as usize)
}

fn checker<'a>(key: &'a TagKey, challenge: Challenge, asked: &[(Header, Vec<u8>)]) -> Checker<'a> {
    let mut checker = Checker::new(key, challenge);
    asked.iter().for_each(|(header, _)| checker.add(&header.id(), blocks_of(header)));
    checker
}

#[test]
fn who_has_all_chunks_passes_in_any_order() {
    let (key, chunks, challenge) = (key(), chunks(), Challenge::new(&SEED, &holder(1)));
    let checker = checker(&key, challenge, &chunks);
    assert!(checker.holds(&prove(challenge, &key, &chunks)));
    let backwards: Vec<_> = chunks.iter().rev().cloned().collect();
    let proof = prove(challenge, &key, &backwards);
    assert!(checker.holds(&proof));
    let encoded = proof.encode();
    assert_eq!((encoded.len(), PROOF_BYTES), (4_112, 4_112));
    assert_eq!(Proof::decode(&encoded), Some(proof));
}

#[test]
fn any_flipped_bit_of_a_chunk_or_its_tags_is_seen() {
    let (key, (header, sealed)) = (key(), chunk(9, 2 * BLOCK_BYTES + 100));
    let challenge = Challenge::new(&SEED, &holder(1));
    let checker = checker(&key, challenge, &[(header, sealed.clone())]);
    let tags = key.tags(&header, &sealed).unwrap();
    let passes = |sealed: &[u8], tags: &[u8]| {
        let proof = prove_one(challenge, &header.id(), sealed, tags);
        proof.is_ok_and(|proof| checker.holds(&proof))
    };
    assert!(passes(&sealed, &tags));
    for at in (0..sealed.len()).step_by(5) {
        let mut bad = sealed.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(!passes(&bad, &tags), "byte {at}");
    }
    for at in 0..tags.len() * 8 {
        let mut bad = tags.clone();
        bad[at / 8] ^= 1 << (at % 8);
        assert!(!passes(&sealed, &bad), "bit {at} of the tags");
    }
}

#[test]
fn a_chunk_that_is_missing_or_another_one_does_not_pass() {
    let (key, chunks, challenge) = (key(), chunks(), Challenge::new(&SEED, &holder(1)));
    let checker = checker(&key, challenge, &chunks);
    for without in 0..chunks.len() {
        let mut held = chunks.clone();
        let (header, bytes) = held.remove(without);
        assert!(!checker.holds(&prove(challenge, &key, &held)), "without {without}");
        // Its bytes, with the tags of another chunk that is as long.
        let other = chunk(99, bytes.len());
        let tags = key.tags(&other.0, &other.1).unwrap();
        let mut proof = prove_one(challenge, &header.id(), &bytes, &tags).unwrap();
        proof.add(&prove(challenge, &key, &held));
        assert!(!checker.holds(&proof), "{without} with another's tags");
    }
}

#[test]
fn a_chunk_counts_as_often_as_it_is_asked_for() {
    let (key, challenge) = (key(), Challenge::new(&SEED, &holder(1)));
    let one = vec![chunk(1, 5_000)];
    let twice = [one.clone(), one.clone()].concat();
    assert!(checker(&key, challenge, &twice).holds(&prove(challenge, &key, &twice)));
    assert!(!checker(&key, challenge, &twice).holds(&prove(challenge, &key, &one)));
    assert!(!checker(&key, challenge, &one).holds(&prove(challenge, &key, &twice)));
}

#[test]
fn only_what_the_header_certifies_is_tagged_and_only_of_the_own_generation() {
    let (key, (header, sealed)) = (key(), chunk(1, 5_000));
    let mut rotten = sealed.clone();
    rotten[4_999] ^= 1;
    assert!(key.tags(&header, &sealed).is_some());
    assert_eq!(key.tags(&header, &rotten), None);
    let later = Header { generation: 1, ..header };
    assert_eq!(key.tags(&later, &sealed), None);
    assert_eq!(key.tags(&header, &sealed).unwrap(), key.tags_of_certified(&header, &sealed));
}

/// The owner takes the number of blocks from the holder, which may say what it likes.
#[test]
fn no_answer_passes_under_a_false_number_of_blocks() {
    let (key, challenge) = (key(), Challenge::new(&SEED, &holder(1)));
    let whole = chunk(9, 3 * BLOCK_BYTES);
    let (id, tags) = (whole.0.id(), key.tags(&whole.0, &whole.1).unwrap());
    let expects = |blocks: u32| {
        let mut checker = Checker::new(&key, challenge);
        checker.add(&id, blocks);
        checker
    };
    let first = |blocks: usize| {
        let (sealed, tags) = (&whole.1[..blocks * BLOCK_BYTES], &tags[..blocks * TAG_BYTES]);
        prove_one(challenge, &id, sealed, tags).unwrap()
    };
    assert!(expects(3).holds(&first(3)));
    // What it kept would be enough for the number that it says, were the masks the same.
    for kept in 0..=3_u8 {
        let proof = first(kept.into());
        let believed = [0, 1, 2, 3, 4, BLOCKS_MAX, BLOCKS_MAX + 1, u32::MAX]
            .map(|blocks| expects(blocks).holds(&proof));
        let mut expected = [false; 8];
        expected[3] = kept == 3;
        assert_eq!(believed, expected, "of the first {kept} blocks");
    }
}

#[test]
fn blocks_and_tags_are_as_many_as_the_bytes_need() {
    let counted = |bytes: usize| (blocks(bytes), tags_bytes(bytes));
    assert_eq!(counted(1), (1, 16));
    assert_eq!(counted(3_584), (1, 16));
    assert_eq!(counted(3_585), (2, 32));
    assert_eq!(counted(4 << 20), (1_171, 18_736));
    assert_eq!(BLOCKS_MAX, 1_171);
}

#[test]
fn pieces_sum_up_to_the_proof_of_all() {
    let (key, chunks, challenge) = (key(), chunks(), Challenge::new(&SEED, &holder(1)));
    // By definition: of every chunk, block and sector, one after the other.
    let p = u128::from(P);
    let mut sums = [0_u128; SECTORS + 2];
    for (header, sealed) in &chunks {
        let mut weights = challenge.weights(&header.id());
        let tags = key.tags(header, sealed).unwrap();
        for (block, tags) in sealed.chunks(BLOCK_BYTES).zip(tags.chunks(TAG_BYTES)) {
            let weight = u128::from(weights.take());
            let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, b| n << 8 | u128::from(*b));
            let sectors = block.chunks(SECTOR_BYTES).zip(0..);
            let tags = tags.chunks(ELEMENT_BYTES).zip(SECTORS..);
            for (bytes, at) in sectors.chain(tags) {
                sums[at] = (sums[at] + weight * number(bytes)) % p;
            }
        }
    }
    let expected: Vec<u8> =
        sums.iter().flat_map(|sum| u64::try_from(*sum).unwrap().to_le_bytes()).collect();
    assert_eq!(prove(challenge, &key, &chunks).encode(), expected);
}

#[test]
fn proofs_add_up_modulo_p() {
    let elements = |value: u64| vec![value.to_le_bytes(); SECTORS + 2].concat();
    let proof = |value: u64| Proof::decode(&elements(value)).unwrap();
    let sum = |a: u64, b: u64| {
        let mut sum = proof(a);
        sum.add(&proof(b));
        sum.encode()
    };
    assert_eq!(sum(2, 3), elements(5));
    assert_eq!(sum(P - 1, 1), elements(0));
    assert_eq!(sum(P - 1, P - 1), elements(P - 2));
    assert_eq!(Proof::zero(), proof(0));
}

#[test]
fn an_answer_is_worth_nothing_for_another_seed_holder_or_owner() {
    let (key, chunks, challenge) = (key(), chunks(), Challenge::new(&SEED, &holder(1)));
    let proof = prove(challenge, &key, &chunks);
    for other in [Challenge::new(&[8; 32], &holder(1)), Challenge::new(&SEED, &holder(2))] {
        assert!(!checker(&key, other, &chunks).holds(&proof));
    }
    let other = TagKey::derive(0, &owner(2, 0).audit);
    assert!(!checker(&other, challenge, &chunks).holds(&proof));
}

#[test]
fn equal_blocks_of_one_chunk_and_of_two_have_different_tags() {
    let key = key();
    let [one, two] = [2, 3].map(|blocks| sealed_as(vec![0; blocks * BLOCK_BYTES]));
    let [first, second] = [&one, &two].map(|(header, sealed)| key.tags(header, sealed).unwrap());
    assert_ne!(first[..], second[..first.len()]);
    let (pairs, _) = first.as_chunks::<TAG_BYTES>();
    assert_ne!(pairs[0], pairs[1]);
    assert_ne!(pairs[0][..8], pairs[0][8..]);
    assert_eq!(Some(first), key.tags(&one.0, &one.1), "and the same each time");
}

#[test]
fn tags_of_another_length_and_such_as_are_no_elements_are_refused() {
    let (key, (header, sealed)) = (key(), chunk(4, BLOCK_BYTES + 1));
    let (id, tags) = (header.id(), key.tags(&header, &sealed).unwrap());
    let refused = |tags: &[u8]| {
        let proven = prove_one(Challenge::new(&SEED, &holder(1)), &id, &sealed, tags);
        assert_eq!(are_tags(sealed.len(), tags), proven.is_ok());
        proven == Err(BadTags)
    };
    for bad in [&tags[..16], &tags[..tags.len() - 1], &[&tags[..], &[0]].concat(), &[]] {
        assert!(refused(bad), "{} bytes", bad.len());
    }
    for at in (0..tags.len()).step_by(8) {
        let with = |element: u64| {
            let mut with = tags.clone();
            with[at..at + 8].copy_from_slice(&element.to_le_bytes());
            with
        };
        assert!(refused(&with(P)) && !refused(&with(P - 1)), "element at {at}");
    }
    assert!(!refused(&tags));
}

#[test]
fn proofs_of_another_length_and_elements_beyond_p_are_refused() {
    let encoded = Proof::zero().encode();
    assert!(Proof::decode(&encoded[1..]).is_none());
    assert!(Proof::decode(&[&encoded[..], &[0]].concat()).is_none());
    for at in (0..PROOF_BYTES).step_by(8) {
        let mut bad = encoded.clone();
        bad[at..at + 8].copy_from_slice(&P.to_le_bytes());
        assert!(Proof::decode(&bad).is_none(), "element at {at}");
    }
}

fn pair(seed: u8) -> PairKey {
    let node = NodeKeys::from_seeds([seed; 32], [seed; 32], [seed; 32]);
    let secret = owner(1, 0).account(&node.node_id());
    secret.pair_key(&node.node_id(), &node.agreement_key()).unwrap()
}

#[test]
fn a_mac_is_of_one_seed_one_chunk_and_one_pair() {
    let (header, sealed) = chunk(5, 1_000);
    let id = header.id();
    let [one, two] = [1, 2].map(|number| MacKey::derive(&pair(number)));
    let whole = one.mac(&SEED, &id, &sealed);
    assert_eq!(whole, MacKey::derive(&pair(1)).mac(&SEED, &id, &sealed));
    let others = [
        two.mac(&SEED, &id, &sealed),
        one.mac(&[8; 32], &id, &sealed),
        one.mac(&SEED, &chunk(6, 41).0.id(), &sealed),
        one.mac(&SEED, &id, &sealed[1..]),
    ];
    assert!(others.iter().all(|other| *other != whole));
    let holds = |answer: &[u8; 32]| one.holds(&SEED, &id, &sealed, answer);
    assert!(holds(&whole) && !others.iter().any(holds));
}

#[test]
fn the_piece_of_a_mac_task_is_the_mac_whatever_the_tags() {
    let (header, sealed) = chunk(5, 1_000);
    let (id, key) = (header.id(), MacKey::derive(&pair(1)));
    let expected = Piece::Mac(key.mac(&SEED, &id, &sealed));
    let task = Task::Mac { key, seed: SEED };
    assert_eq!(task.piece(&id, &sealed, &[]), Ok(expected.clone()));
    assert_eq!(task.clone().piece(&id, &sealed, &[0xff; 3]), Ok(expected));
    assert!(format!("{task:?}").contains("MacKey(..)"), "{task:?}");
}

/// Bytes of so many elements, some of them not below p.
fn elements(count: usize) -> impl Strategy<Value = Vec<u8>> {
    let element = prop_oneof![20 => 0..P, 1 => P..u64::MAX].prop_map(u64::to_le_bytes);
    prop::collection::vec(element, count).prop_map(|elements| elements.concat())
}

proptest! {
    #[test]
    fn any_tags_and_any_proof_are_read_or_refused(
        sealed in prop::collection::vec(any::<u8>(), 1..9_000),
        tags in elements(6),
        proof in elements(PROOF_BYTES / 8),
    ) {
        let is_element = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap()) < P;
        let tags = &tags[..tags_bytes(sealed.len())];
        let challenge = Challenge::new(&SEED, &holder(1));
        let proven = prove_one(challenge, &ChunkId::from_bytes([1; 32]), &sealed, tags);
        prop_assert_eq!(proven.is_ok(), tags.chunks(8).all(is_element));
        let decoded = Proof::decode(&proof);
        prop_assert_eq!(decoded.is_some(), proof.chunks(8).all(is_element));
        prop_assert!(decoded.is_none_or(|decoded| decoded.encode() == proof));
    }
}
