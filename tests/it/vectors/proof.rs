//! Ownership proofs: good ones for each operation, and what must not pass for one.

mod bad;

use super::{Fixed, Record, counted, freeze, keys, oracle, read};
use quloud::core::types::{ChunkId, MeshId, NodeId};
use quloud::crypto::header::Header;
use quloud::crypto::keys::{ChunkKey, ChunkSecret};
use quloud::crypto::ownership::{self, Context, Operation, Proof, Statement, Verifier};

const FILE: &str = "proof.txt";

const INTRO: &str = "\
Quloud test vectors: ownership proofs (PROTOCOL.md, section \"Ownership proof\").

x is the secret scalar (y, z or d of the chunk), fresh the 32 random bytes of the nonce.
context is the encoded context, r the nonce scalar, c the challenge.";

const OPERATIONS: [(&str, Operation); 5] = [
    ("store", Operation::Store),
    ("locate", Operation::Locate),
    ("retrieve", Operation::Retrieve),
    ("unrelease", Operation::Unrelease),
    ("release", Operation::Release),
];

/// One chunk with its secrets, by the library and by the oracle.
struct Subject {
    ck: ChunkKey,
    header: Header,
    scalars: oracle::Scalars,
}

impl Subject {
    fn new(content: &[u8]) -> Self {
        let keys = keys::owner();
        let ck = ChunkKey::derive(&keys.dedup, 0, 1, content);
        let header = Header::new(keys.generation, keys.points(&ck), &[content, &[0; 41]].concat());
        let delete = keys.delete.as_ref().expect("derived keys are complete");
        let scalars = oracle::Scalars::derive(ck.expose(), keys.admin.expose(), delete.expose());
        Self { ck, header, scalars }
    }

    fn secret(&self, operation: Operation) -> ChunkSecret {
        let keys = keys::owner();
        match operation {
            Operation::Retrieve => self.ck.read_secret(),
            Operation::Store | Operation::Locate | Operation::Unrelease => {
                keys.admin.chunk_secret(&self.ck)
            }
            Operation::Release => {
                let delete = keys.delete.as_ref().expect("derived keys are complete");
                delete.chunk_secret(&keys.admin, &self.ck)
            }
        }
    }

    fn scalar(&self, operation: Operation) -> curve25519_dalek::Scalar {
        match operation {
            Operation::Retrieve => self.scalars.y,
            Operation::Store | Operation::Locate | Operation::Unrelease => self.scalars.z,
            Operation::Release => self.scalars.d,
        }
    }
}

fn context(operation: Operation) -> Context {
    Context {
        operation,
        mesh: MeshId::from_bytes(counted(0x01)),
        verifier: Verifier::Node(NodeId::from_bytes(counted(0x21))),
        asker: Some(NodeId::from_bytes(counted(0x41))),
        nonce: counted(0x61),
        body_hash: ownership::body_hash(&[b"body"]),
    }
}

fn nameless(operation: Operation) -> Context {
    Context { verifier: Verifier::Anyone(counted(0x21)), asker: None, ..context(operation) }
}

/// The context's fields as a verifier sees them.
fn with_context(record: Record, context: &Context) -> Record {
    let (name, _) = OPERATIONS.iter().find(|(_, one)| *one == context.operation).unwrap();
    let (kind, verifier) = match context.verifier {
        Verifier::Node(node) => ("node", *node.as_bytes()),
        Verifier::Anyone(key) => ("anyone", key),
    };
    let record = record
        .text("operation", name)
        .hex("mesh", context.mesh.as_bytes())
        .text("verifier_kind", kind)
        .hex("verifier", verifier);
    let record = match &context.asker {
        Some(asker) => record.hex("asker", asker.as_bytes()),
        None => record.text("asker", "none"),
    };
    record.hex("nonce", context.nonce).hex("body_hash", context.body_hash)
}

fn read_context(record: &Record) -> Context {
    let name = record.get("operation");
    let (_, operation) = *OPERATIONS.iter().find(|(one, _)| *one == name).unwrap();
    let verifier = match record.get("verifier_kind") {
        "node" => Verifier::Node(NodeId::from_bytes(record.array("verifier"))),
        _ => Verifier::Anyone(record.array("verifier")),
    };
    let asker = (record.get("asker") != "none").then(|| NodeId::from_bytes(record.array("asker")));
    Context {
        operation,
        mesh: MeshId::from_bytes(record.array("mesh")),
        verifier,
        asker,
        nonce: record.array("nonce"),
        body_hash: record.array("body_hash"),
    }
}

/// Alone and in a batch: the two never disagree.
fn verifies(record: &Record) -> bool {
    let (point, id) = (record.array("point"), ChunkId::from_bytes(record.array("id")));
    let (context, proof): (_, Proof) = (read_context(record), record.array("proof"));
    let alone = ownership::verify(&point, &id, &context, &proof);
    let statement = Statement { point: &point, id: &id, context: &context, proof: &proof };
    let weights = counted::<32>(0x11);
    let batched = ownership::verify_batch(&[statement, statement], &mut Fixed::new(&[&weights]));
    assert_eq!(alone, batched, "{}", record.name);
    alone
}

fn good(name: &str, subject: &Subject, context: &Context) -> Record {
    let fresh = counted::<32>(0x81);
    let id = subject.header.id();
    let secret = subject.secret(context.operation);
    let proof = ownership::prove(&secret, &id, context, &mut Fixed::new(&[&fresh]));
    let x = subject.scalar(context.operation);
    let encoded = context.encode();
    let prover = oracle::Prover { x, id: id.as_bytes(), context: &encoded, fresh: &fresh };
    with_context(Record::new(name), context)
        .hex("id", id.as_bytes())
        .hex("x", x.as_bytes())
        .hex("point", context.operation.point(&subject.header))
        .hex("context", encoded)
        .hex("fresh", fresh)
        .hex("r", prover.r().as_bytes())
        .hex("c", prover.challenge().as_bytes())
        .hex("proof", proof)
}

fn records() -> Vec<Record> {
    let subject = Subject::new(b"content");
    let mut all: Vec<Record> = OPERATIONS
        .into_iter()
        .map(|(name, operation)| good(name, &subject, &context(operation)))
        .collect();
    all.push(good("locate-nameless", &subject, &nameless(Operation::Locate)));
    all.push(good("retrieve-nameless", &subject, &nameless(Operation::Retrieve)));
    all
}

#[test]
fn proofs_are_frozen() {
    freeze(FILE, INTRO, &records());
}

#[test]
fn every_frozen_proof_verifies() {
    for record in read(FILE) {
        assert!(verifies(&record), "{}", record.name);
    }
}

#[test]
fn a_second_implementation_makes_the_same_proofs() {
    for record in read(FILE) {
        let asker = match record.get("asker") {
            "none" => vec![0; 32],
            _ => record.bytes("asker"),
        };
        let number = match record.get("operation") {
            "store" => 1,
            "locate" => 2,
            "retrieve" => 3,
            "unrelease" => 4,
            _ => 5,
        };
        let tag = u8::from(record.get("verifier_kind") == "anyone");
        let context = [
            [1, number].as_slice(),
            &record.bytes("mesh"),
            &[tag],
            &record.bytes("verifier"),
            &asker,
            &record.bytes("nonce"),
            &record.bytes("body_hash"),
        ]
        .concat();
        assert_eq!(context, record.bytes("context"), "{}", record.name);
        let x = curve25519_dalek::Scalar::from_canonical_bytes(record.array("x")).unwrap();
        assert_eq!(oracle::point(&x), record.array("point"));
        let (id, fresh) = (record.bytes("id"), record.bytes("fresh"));
        let prover = oracle::Prover { x, id: &id, context: &context, fresh: &fresh };
        assert_eq!(prover.r().to_bytes(), record.array("r"));
        assert_eq!(prover.challenge().to_bytes(), record.array("c"));
        assert_eq!(prover.proof(), record.array("proof"));
    }
}
