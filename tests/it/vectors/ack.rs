//! Receipts and acks: good ones, and what must not pass for one.

mod bad;

use super::{Record, counted, freeze, keys, oracle, read};
use ed25519_dalek::{Signer, SigningKey};
use quloud::core::types::{
    Account, BatchId, ChunkId, LeaseNonce, LeaseTerms, MeshId, NodeId, StoreEpoch,
};
use quloud::crypto::ack::{AckStatement, AckedChunk, receipt};
use quloud::crypto::keys::PairKey;

const FILE: &str = "ack.txt";

const INTRO: &str = "\
Quloud test vectors: receipts and acks (PROTOCOL.md, section \"Receipt and ack\").

receipt-*: of sealed bytes, for a fresh seed, under a pair key.
ack-*:     signed by the holder with this secret seed. chunk = id, lease nonce, receipt.";

fn receipt_record(name: &str, sealed: &[u8]) -> Record {
    let (pair, seed, id) = (counted::<32>(1), counted::<32>(0x21), counted::<32>(0x41));
    let made = receipt(&PairKey::from_bytes(pair), &seed, &ChunkId::from_bytes(id), sealed);
    Record::new(name)
        .hex("pair_key", pair)
        .hex("seed", seed)
        .hex("id", id)
        .hex("sealed", sealed)
        .hex("receipt", made)
}

fn chunk(number: u8) -> AckedChunk {
    AckedChunk {
        id: ChunkId::from_bytes(counted(number)),
        lease: LeaseNonce::from_bytes(counted(number.wrapping_add(0x20))),
        receipt: counted(number.wrapping_add(0x30)),
    }
}

fn statement(count: u8) -> AckStatement {
    AckStatement {
        mesh: MeshId::from_bytes(counted(0x01)),
        account: Account::from_bytes(counted(0x31)),
        batch: BatchId::from_bytes(counted(0x51)),
        epoch: StoreEpoch::from_bytes(counted(0x71)),
        terms: LeaseTerms::default(),
        chunks: (0..count).map(chunk).collect(),
    }
}

/// The statement's fields as the owner sees them.
fn with_statement(record: Record, holder: &NodeId, ack: &AckStatement) -> Record {
    let record = record
        .hex("mesh", ack.mesh.as_bytes())
        .hex("holder", holder.as_bytes())
        .hex("account", ack.account.as_bytes())
        .hex("batch", ack.batch.as_bytes())
        .hex("epoch", ack.epoch.as_bytes())
        .text("renew_every_s", ack.terms.renew_every_s)
        .text("keep_after_silence_s", ack.terms.keep_after_silence_s)
        .text("release_delay_s", ack.terms.release_delay_s);
    ack.chunks.iter().fold(record, |record, chunk| {
        let [id, lease, receipt] = [
            hex::encode(chunk.id.as_bytes()),
            hex::encode(chunk.lease.as_bytes()),
            hex::encode(chunk.receipt),
        ];
        record.text("chunk", format!("{id} {lease} {receipt}"))
    })
}

fn read_statement(record: &Record) -> AckStatement {
    let chunk = |line: &str| {
        let parts: Vec<Vec<u8>> = line.split(' ').map(|part| hex::decode(part).unwrap()).collect();
        let [id, lease, receipt] = parts.as_slice() else { panic!("[{}] chunk", record.name) };
        AckedChunk {
            id: ChunkId::from_slice(id).unwrap(),
            lease: LeaseNonce::from_slice(lease).unwrap(),
            receipt: receipt.as_slice().try_into().unwrap(),
        }
    };
    AckStatement {
        mesh: MeshId::from_bytes(record.array("mesh")),
        account: Account::from_bytes(record.array("account")),
        batch: BatchId::from_bytes(record.array("batch")),
        epoch: StoreEpoch::from_bytes(record.array("epoch")),
        terms: LeaseTerms {
            renew_every_s: record.number("renew_every_s"),
            keep_after_silence_s: record.number("keep_after_silence_s"),
            release_delay_s: record.number("release_delay_s"),
        },
        chunks: record.all("chunk").map(chunk).collect(),
    }
}

fn verifies(record: &Record) -> bool {
    let holder = NodeId::from_bytes(record.array("holder"));
    read_statement(record).verify(&holder, &record.array("signature"))
}

fn ack_record(name: &str, count: u8) -> Record {
    let (node, ack) = (keys::node(), statement(count));
    let record = Record::new(name).hex("signing", counted::<32>(0x40));
    with_statement(record, &node.node_id(), &ack)
        .hex("statement", ack.encode(&node.node_id()))
        .hex("signature", ack.sign(&node))
}

fn records() -> Vec<Record> {
    vec![
        receipt_record("receipt-empty", b""),
        receipt_record("receipt-text", b"sealed bytes"),
        receipt_record("receipt-5000-bytes", &[0xa5; 5_000]),
        ack_record("ack-one-chunk", 1),
        ack_record("ack-two-chunks", 2),
        ack_record("ack-64-chunks", 64),
    ]
}

#[test]
fn receipts_and_acks_are_frozen() {
    freeze(FILE, INTRO, &records());
}

#[test]
fn every_frozen_ack_verifies() {
    for record in read(FILE).iter().filter(|record| record.name.starts_with("ack")) {
        assert!(verifies(record), "{}", record.name);
    }
}

#[test]
fn a_second_implementation_makes_the_same_receipts() {
    for record in read(FILE).iter().filter(|record| record.name.starts_with("receipt")) {
        let key = oracle::expand::<32>(&record.bytes("pair_key"), &[b"quloud/v1/receipt"]);
        let parts = [record.bytes("seed"), record.bytes("id"), record.bytes("sealed")].concat();
        assert_eq!(oracle::keyed_blake3(&key, &[&parts]), record.array("receipt"));
    }
}

/// A statement by hand.
fn encode(record: &Record) -> Vec<u8> {
    let mut out = b"\x0dquloud/v1/ack".to_vec();
    for field in ["mesh", "holder", "account", "batch", "epoch"] {
        out.extend(record.bytes(field));
    }
    for field in ["renew_every_s", "keep_after_silence_s", "release_delay_s"] {
        out.extend(record.number(field).to_le_bytes());
    }
    out.extend(u16::try_from(record.all("chunk").count()).unwrap().to_le_bytes());
    for chunk in record.all("chunk") {
        out.extend(hex::decode(chunk.replace(' ', "")).unwrap());
    }
    out
}

#[test]
fn a_second_implementation_signs_the_same_statements() {
    for record in read(FILE).iter().filter(|record| record.name.starts_with("ack")) {
        let key = SigningKey::from_bytes(&record.array("signing"));
        assert_eq!(key.verifying_key().to_bytes(), record.array("holder"));
        let statement = encode(record);
        assert_eq!(statement, record.bytes("statement"));
        assert_eq!(key.sign(&statement).to_bytes(), record.array("signature"));
    }
}
