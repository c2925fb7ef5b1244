//! Tags, proofs and what does not pass.

use super::*;
use crate::crypto::keys::{ChunkKey, Master, NodeKeys};
use proptest::prelude::*;

const SEED: [u8; 32] = [7; 32];

fn owner(number: u8, generation: u32) -> OwnerKeys {
    OwnerKeys::derive(&Master::from_bytes([number; 32]), generation)
}

fn key() -> TagKey {
    TagKey::derive(&owner(1, 0))
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

fn prove(challenge: Challenge, key: &TagKey, held: &[(Header, Vec<u8>)]) -> Proof {
    let mut prover = Prover::new(challenge);
    for (header, sealed) in held {
        prover.add(&header.id(), sealed, &key.tags(header, sealed).unwrap()).unwrap();
    }
    prover.finish()
}

fn checker<'a>(key: &'a TagKey, challenge: Challenge, asked: &[(Header, Vec<u8>)]) -> Checker<'a> {
    let mut checker = Checker::new(key, challenge);
    asked.iter().for_each(|(header, _)| checker.add(header).unwrap());
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
        let mut prover = Prover::new(challenge);
        prover.add(&header.id(), sealed, tags).is_ok() && checker.holds(&prover.finish())
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
        let mut prover = Prover::new(challenge);
        prover.add(&header.id(), &bytes, &tags).unwrap();
        for (header, bytes) in &held {
            prover.add(&header.id(), bytes, &key.tags(header, bytes).unwrap()).unwrap();
        }
        assert!(!checker.holds(&prover.finish()), "{without} with another's tags");
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
    let mut checker = Checker::new(&key, Challenge::new(&SEED, &holder(1)));
    assert_eq!(checker.add(&later), Err(OtherGeneration));
    assert_eq!(checker.add(&header), Ok(()));
}

#[test]
fn an_answer_is_worth_nothing_for_another_seed_holder_or_owner() {
    let (key, chunks, challenge) = (key(), chunks(), Challenge::new(&SEED, &holder(1)));
    let proof = prove(challenge, &key, &chunks);
    for other in [Challenge::new(&[8; 32], &holder(1)), Challenge::new(&SEED, &holder(2))] {
        assert!(!checker(&key, other, &chunks).holds(&proof));
    }
    let other = TagKey::derive(&owner(2, 0));
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

/// The sums are reduced in between: an audit may be of gigabytes.
#[test]
fn long_audits_do_not_overflow() {
    let mut prover = Prover::new(Challenge::new(&SEED, &holder(1)));
    // Twice as many as fit.
    let blocks = 2 * PRODUCTS_MAX as u128 + 2;
    for _ in 0..blocks {
        prover.add_block(P - 1, &[0xff; BLOCK_BYTES]);
    }
    let sector = (1 << 56) - 1;
    let product = u128::from(P - 1) * sector % u128::from(P);
    let expected = u64::try_from(product * blocks % u128::from(P)).unwrap();
    assert!(prover.finish().mu.iter().all(|mu| *mu == expected));
}

#[test]
fn tags_of_another_length_and_such_as_are_no_elements_are_refused() {
    let (key, (header, sealed)) = (key(), chunk(4, BLOCK_BYTES + 1));
    let (id, tags) = (header.id(), key.tags(&header, &sealed).unwrap());
    let challenge = Challenge::new(&SEED, &holder(1));
    let add = |tags: &[u8]| {
        let mut prover = Prover::new(challenge);
        let added = prover.add(&id, &sealed, tags);
        (added, prover.finish() == Prover::new(challenge).finish())
    };
    for bad in [&tags[..16], &tags[..tags.len() - 1], &[&tags[..], &[0]].concat(), &[]] {
        assert_eq!(add(bad), (Err(BadTags), true));
    }
    let mut bad = tags.clone();
    bad[16..24].copy_from_slice(&P.to_le_bytes());
    assert_eq!(add(&bad), (Err(BadTags), true));
    assert_eq!(add(&tags).0, Ok(()));
}

#[test]
fn proofs_of_another_length_and_elements_beyond_p_are_refused() {
    let challenge = Challenge::new(&SEED, &holder(1));
    let encoded = Prover::new(challenge).finish().encode();
    assert!(Proof::decode(&encoded[1..]).is_none());
    assert!(Proof::decode(&[&encoded[..], &[0]].concat()).is_none());
    for at in (0..PROOF_BYTES).step_by(8) {
        let mut bad = encoded.clone();
        bad[at..at + 8].copy_from_slice(&P.to_le_bytes());
        assert!(Proof::decode(&bad).is_none(), "element at {at}");
    }
}

#[test]
fn a_mac_is_of_one_seed_one_chunk_and_one_pair() {
    let owner = owner(1, 0);
    let pair = |seed: u8| {
        let node = NodeKeys::from_seeds([seed; 32], [seed; 32], [seed; 32]);
        let secret = owner.account(&node.node_id());
        secret.pair_key(&node.node_id(), &node.agreement_key()).unwrap()
    };
    let (header, sealed) = chunk(5, 1_000);
    let id = header.id();
    let whole = mac(&pair(1), &SEED, &id, &sealed);
    assert_eq!(whole, mac(&pair(1), &SEED, &id, &sealed));
    let others = [
        mac(&pair(2), &SEED, &id, &sealed),
        mac(&pair(1), &[8; 32], &id, &sealed),
        mac(&pair(1), &SEED, &chunk(6, 41).0.id(), &sealed),
        mac(&pair(1), &SEED, &id, &sealed[1..]),
    ];
    assert!(others.iter().all(|other| *other != whole));
    let holds = |answer: &[u8; 32]| mac_holds(&pair(1), &SEED, (&id, &sealed), answer);
    assert!(holds(&whole) && !others.iter().any(holds));
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
        let mut prover = Prover::new(Challenge::new(&SEED, &holder(1)));
        let added = prover.add(&ChunkId::from_bytes([1; 32]), &sealed, tags);
        prop_assert_eq!(added.is_ok(), tags.chunks(8).all(is_element));
        let decoded = Proof::decode(&proof);
        prop_assert_eq!(decoded.is_some(), proof.chunks(8).all(is_element));
        prop_assert!(decoded.is_none_or(|decoded| decoded.encode() == proof));
    }
}
