//! Proofs of ownership: good for one context, one chunk and one point, and for nothing else.

use super::*;
use crate::crypto::keys::{ChunkKey, OwnerKeys};
use crate::crypto::tests::{chunk_key, owner, rng};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::collections::BTreeSet;

/// An owner with one chunk.
struct Owned {
    keys: OwnerKeys,
    ck: ChunkKey,
    header: Header,
}

fn owned(content: &[u8]) -> Owned {
    let keys = owner(1);
    let ck = chunk_key(&keys, content);
    let header = Header::new(0, keys.points(&ck), &[content, &[0; 41]].concat());
    Owned { keys, ck, header }
}

impl Owned {
    fn secret(&self, operation: Operation) -> ChunkSecret {
        match operation {
            Operation::Retrieve => self.ck.read_secret(),
            Operation::Store | Operation::Locate | Operation::Unrelease => {
                self.keys.admin.chunk_secret(&self.ck)
            }
            Operation::Release => {
                self.keys.delete.as_ref().unwrap().chunk_secret(&self.keys.admin, &self.ck)
            }
        }
    }

    fn prove(&self, context: &Context) -> Proof {
        prove(&self.secret(context.operation), &self.header.id(), context, &mut rng())
    }
}

const OPERATIONS: [Operation; 5] = [
    Operation::Store,
    Operation::Locate,
    Operation::Retrieve,
    Operation::Unrelease,
    Operation::Release,
];

fn context(operation: Operation) -> Context {
    Context {
        operation,
        mesh: MeshId::from_bytes([1; 32]),
        verifier: Verifier::Node(NodeId::from_bytes([2; 32])),
        asker: Some(NodeId::from_bytes([3; 32])),
        nonce: [4; 32],
        body_hash: body_hash(&[b"body"]),
    }
}

fn nameless(operation: Operation) -> Context {
    Context { verifier: Verifier::Anyone([2; 32]), asker: None, ..context(operation) }
}

/// Every context that differs from `base` in one field.
fn neighbours(base: &Context) -> Vec<(&'static str, Context)> {
    let mut all = vec![
        ("mesh", Context { mesh: MeshId::from_bytes([9; 32]), ..*base }),
        ("verifier", Context { verifier: Verifier::Node(NodeId::from_bytes([9; 32])), ..*base }),
        ("tag byte", Context { verifier: Verifier::Anyone([2; 32]), ..*base }),
        ("tag and asker", Context { verifier: Verifier::Anyone([2; 32]), asker: None, ..*base }),
        ("asker", Context { asker: Some(NodeId::from_bytes([9; 32])), ..*base }),
        ("no asker", Context { asker: None, ..*base }),
        ("nonce", Context { nonce: [9; 32], ..*base }),
        ("body", Context { body_hash: body_hash(&[b"other"]), ..*base }),
    ];
    for operation in OPERATIONS.into_iter().filter(|other| *other != base.operation) {
        all.push(("operation", Context { operation, ..*base }));
    }
    all
}

#[test]
fn a_proof_holds_in_its_own_context() {
    let chunk = owned(b"content");
    for operation in OPERATIONS {
        let proof = chunk.prove(&context(operation));
        assert!(verify_header(&chunk.header, &context(operation), &proof), "{operation:?}");
    }
    for operation in [Operation::Retrieve, Operation::Locate] {
        let proof = chunk.prove(&nameless(operation));
        assert!(verify_header(&chunk.header, &nameless(operation), &proof), "{operation:?}");
    }
}

#[test]
fn a_proof_made_in_another_context_always_fails() {
    let chunk = owned(b"content");
    for operation in OPERATIONS {
        let base = context(operation);
        for (field, other) in neighbours(&base) {
            let point = operation.point(&chunk.header);
            let proof = chunk.prove(&other);
            assert!(!verify(point, &chunk.header.id(), &base, &proof), "{operation:?}: {field}");
            let proof = chunk.prove(&base);
            assert!(!verify(point, &chunk.header.id(), &other, &proof), "{operation:?}: {field}");
        }
    }
}

#[test]
fn relay_proof_to_other_holder_rejected() {
    let chunk = owned(b"content");
    let (mallory, victim) = (NodeId::from_bytes([5; 32]), NodeId::from_bytes([6; 32]));
    let alice = NodeId::from_bytes([7; 32]);
    let made = Context {
        verifier: Verifier::Node(mallory),
        asker: Some(alice),
        ..context(Operation::Retrieve)
    };
    let proof = chunk.prove(&made);
    assert!(verify_header(&chunk.header, &made, &proof));
    // Mallory passes it on: the victim expects itself as the verifier and Mallory as the asker.
    let seen = Context { verifier: Verifier::Node(victim), asker: Some(mallory), ..made };
    assert!(!verify_header(&chunk.header, &seen, &proof));
    let seen = Context { verifier: Verifier::Node(victim), ..made };
    assert!(!verify_header(&chunk.header, &seen, &proof));
    let seen = Context { asker: Some(mallory), ..made };
    assert!(!verify_header(&chunk.header, &seen, &proof));
}

#[test]
fn retrieve_proof_not_valid_for_release() {
    let chunk = owned(b"content");
    let proof = chunk.prove(&context(Operation::Retrieve));
    assert!(!verify_header(&chunk.header, &context(Operation::Release), &proof));
    // Nor does a friend, who knows y, get further by proving a release with it.
    let forged = prove(
        &chunk.ck.read_secret(),
        &chunk.header.id(),
        &context(Operation::Release),
        &mut rng(),
    );
    assert!(!verify_header(&chunk.header, &context(Operation::Release), &forged));
    // Nor does a device that has the admin key only.
    let admin = chunk.keys.admin.chunk_secret(&chunk.ck);
    let forged = prove(&admin, &chunk.header.id(), &context(Operation::Release), &mut rng());
    assert!(!verify_header(&chunk.header, &context(Operation::Release), &forged));
}

#[test]
fn a_nameless_proof_finds_chunks_and_does_nothing_else() {
    let chunk = owned(b"content");
    for operation in [Operation::Store, Operation::Unrelease, Operation::Release] {
        let proof = chunk.prove(&nameless(operation));
        assert!(!verify_header(&chunk.header, &nameless(operation), &proof), "{operation:?}");
    }
}

#[test]
fn no_asker_is_not_the_node_whose_name_is_zero() {
    let chunk = owned(b"content");
    let zero = Context { asker: Some(NodeId::from_bytes([0; 32])), ..context(Operation::Store) };
    let none = Context { asker: None, ..zero };
    assert_eq!(zero.encode(), none.encode());
    assert!(verify_header(&chunk.header, &zero, &chunk.prove(&zero)));
    assert!(!verify_header(&chunk.header, &none, &chunk.prove(&none)));
}

#[test]
fn a_proof_for_another_chunk_or_point_fails() {
    let (chunk, other) = (owned(b"content"), owned(b"other"));
    let context = context(Operation::Retrieve);
    let proof = chunk.prove(&context);
    assert!(!verify_header(&other.header, &context, &proof));
    assert!(!verify(&chunk.header.read, &other.header.id(), &context, &proof));
    assert!(!verify(&other.header.read, &chunk.header.id(), &context, &proof));
    assert!(!verify(&[0; 32], &chunk.header.id(), &context, &proof));
    assert!(!verify(&[0xff; 32], &chunk.header.id(), &context, &proof));
}

#[test]
#[allow(non_snake_case)] // R is its name
fn two_signatures_never_share_R() {
    let chunk = owned(b"content");
    let secret = chunk.secret(Operation::Retrieve);
    let base = context(Operation::Retrieve);
    let mut seen = BTreeSet::new();
    let mut is_new = |proof: Proof| seen.insert(proof[..32].to_vec());
    // A generator that works: the same statement twice.
    let mut rng = rng();
    for _ in 0..8 {
        assert!(is_new(prove(&secret, &chunk.header.id(), &base, &mut rng)));
    }
    // A generator that always says the same: other contexts, another chunk, another secret.
    let stuck = || ChaCha20Rng::from_seed([0; 32]);
    assert!(is_new(prove(&secret, &chunk.header.id(), &base, &mut stuck())));
    for (_, other) in neighbours(&base) {
        assert!(is_new(prove(&secret, &chunk.header.id(), &other, &mut stuck())));
    }
    assert!(is_new(prove(&secret, &owned(b"other").header.id(), &base, &mut stuck())));
    let admin = chunk.secret(Operation::Store);
    assert!(is_new(prove(&admin, &chunk.header.id(), &base, &mut stuck())));
}

#[test]
fn encodings_that_are_not_canonical_are_refused() {
    // The group's order, little-endian: s and s + order are the same number.
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let chunk = owned(b"content");
    let context = context(Operation::Retrieve);
    let proof = chunk.prove(&context);
    let mut carry = 0u16;
    let mut shifted = proof;
    for (byte, order) in shifted[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    assert_eq!(carry, 0);
    assert!(!verify_header(&chunk.header, &context, &shifted));
    // R = identity with s = c*x would need c*x; the identity is refused before that.
    let mut identity = proof;
    identity[..32].fill(0);
    assert!(!verify_header(&chunk.header, &context, &identity));
    let mut high_bit = proof;
    high_bit[31] |= 0x80;
    assert!(!verify_header(&chunk.header, &context, &high_bit));
    assert!(!verify_header(&chunk.header, &context, &[0; 64]));
}

/// The proofs of `count` chunks, with what is needed to state them.
fn many(count: u8) -> Vec<(Header, ChunkId, Context, Proof)> {
    (0..count)
        .map(|number| {
            let chunk = owned(&[number]);
            let context = Context { nonce: [number; 32], ..context(Operation::Retrieve) };
            (chunk.header, chunk.header.id(), context, chunk.prove(&context))
        })
        .collect()
}

fn statements(all: &[(Header, ChunkId, Context, Proof)]) -> Vec<Statement<'_>> {
    all.iter()
        .map(|(header, id, context, proof)| Statement { point: &header.read, id, context, proof })
        .collect()
}

#[test]
fn a_batch_of_good_proofs_holds() {
    for count in [0, 1, 2, 32] {
        assert!(verify_batch(&statements(&many(count)), &mut rng()), "{count}");
    }
}

#[test]
fn one_bad_proof_fails_the_batch() {
    for at in 0..8 {
        for byte in [0, 31, 32, 63] {
            let mut all = many(8);
            all[at].3[byte] ^= 1;
            assert!(!verify_batch(&statements(&all), &mut rng()), "proof {at} byte {byte}");
        }
        let mut all = many(8);
        all[at].2.nonce = [0xee; 32];
        assert!(!verify_batch(&statements(&all), &mut rng()), "context {at}");
        let mut all = many(8);
        all[at].2.asker = None;
        assert!(!verify_batch(&statements(&all), &mut rng()), "kind {at}");
    }
}

#[test]
fn errors_of_two_proofs_do_not_cancel() {
    // s is raised in one proof and lowered in the other: without weights the sum stays the same.
    let mut all = many(2);
    let add = |proof: &mut Proof, number: Scalar| {
        let s: [u8; 32] = proof[32..].try_into().unwrap();
        let s = Scalar::from_canonical_bytes(s).unwrap() + number;
        proof[32..].copy_from_slice(s.as_bytes());
    };
    add(&mut all[0].3, Scalar::ONE);
    add(&mut all[1].3, -Scalar::ONE);
    assert!(!verify_batch(&statements(&all), &mut rng()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_proof_holds_alone_and_in_a_batch(
        content: Vec<u8>, mesh: [u8; 32], verifier: [u8; 32], asker: [u8; 32], nonce: [u8; 32],
        body: [u8; 32], operation in 0usize..5, seed: [u8; 32],
    ) {
        let chunk = owned(&content);
        let context = Context {
            operation: OPERATIONS[operation],
            mesh: MeshId::from_bytes(mesh),
            verifier: Verifier::Node(NodeId::from_bytes(verifier)),
            asker: Some(NodeId::from_bytes(asker)),
            nonce,
            body_hash: body,
        };
        let mut rng = ChaCha20Rng::from_seed(seed);
        let secret = chunk.secret(context.operation);
        let proof = prove(&secret, &chunk.header.id(), &context, &mut rng);
        prop_assert!(verify_header(&chunk.header, &context, &proof));
        let point = context.operation.point(&chunk.header);
        let id = chunk.header.id();
        let statement = Statement { point, id: &id, context: &context, proof: &proof };
        prop_assert!(verify_batch(&[statement, statement], &mut rng));
    }

    #[test]
    fn a_flipped_bit_always_fails(bit in 0usize..512) {
        let chunk = owned(b"content");
        let context = context(Operation::Retrieve);
        let mut proof = chunk.prove(&context);
        proof[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!verify_header(&chunk.header, &context, &proof));
    }

    #[test]
    fn no_proof_makes_it_panic(head: [u8; 32], tail: [u8; 32], point: [u8; 32]) {
        let mut proof = [0; PROOF_BYTES];
        proof[..32].copy_from_slice(&head);
        proof[32..].copy_from_slice(&tail);
        let id = ChunkId::from_bytes([1; 32]);
        prop_assert!(!verify(&point, &id, &context(Operation::Retrieve), &proof));
    }
}
