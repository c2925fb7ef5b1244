//! Requests and signed answers: good ones, and what must not pass for one.

mod bad;

use super::{Record, counted, freeze, keys, oracle, read};
use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use quloud::core::message::{Offer, SearchKind, SearchRequest, StoreRequest};
use quloud::core::types::{ChunkId, LeaseTerms, MeshId, NodeId, RequestDigest};
use quloud::crypto::answer::{AnswerKind, AnswerStatement};
use quloud::crypto::keys::AgreementKey;

const FILE: &str = "answer.txt";

const INTRO: &str = "\
Quloud test vectors: requests and signed answers (PROTOCOL.md, section \"Sealed answers\").

request-*: the digest of a request. offer = id, sealed bytes. wanted = id, proof.
answer-*:  signed by the node with this secret seed, for the request with this digest.";

fn store_request(count: u8) -> StoreRequest {
    let offer = |number: u8| Offer {
        id: ChunkId::from_bytes(counted(number)),
        sealed_bytes: 41 + u32::from(number),
    };
    StoreRequest {
        ephemeral: counted(0x10),
        attempt: 3,
        probability: 0x1234,
        quorum: 5,
        terms: LeaseTerms::default(),
        offers: (0..count).map(offer).collect(),
        stamp: Bytes::from_static(b"stamp"),
    }
}

fn search_request(kind: SearchKind, count: u8) -> SearchRequest {
    SearchRequest {
        kind,
        ephemeral: counted(0x10),
        attempt: 3,
        nonce: counted(0x30),
        wanted: (0..count)
            .map(|number| (ChunkId::from_bytes(counted(number)), counted(number)))
            .collect(),
    }
}

fn store_record(count: u8) -> Record {
    let request = store_request(count);
    let record = Record::new(&format!("request-store-{count}"))
        .hex("ephemeral", request.ephemeral)
        .text("attempt", request.attempt)
        .text("probability", request.probability)
        .text("quorum", request.quorum)
        .hex("terms", request.terms.encode())
        .hex("stamp", &request.stamp);
    let record = request.offers.iter().fold(record, |record, offer| {
        record.text("offer", format!("{} {}", offer.id, offer.sealed_bytes))
    });
    record.hex("digest", request.digest().as_bytes())
}

fn search_record(kind: SearchKind, count: u8) -> Record {
    let request = search_request(kind, count);
    let name = match kind {
        SearchKind::Retrieve => "retrieve",
        SearchKind::Locate => "locate",
    };
    let record = Record::new(&format!("request-{name}-{count}"))
        .hex("ephemeral", request.ephemeral)
        .text("attempt", request.attempt)
        .hex("nonce", request.nonce);
    let record = request.wanted.iter().fold(record, |record, (id, proof)| {
        record.text("wanted", format!("{id} {}", hex::encode(proof)))
    });
    record.hex("digest", request.digest().as_bytes())
}

fn statement(kind: AnswerKind) -> AnswerStatement<'static> {
    AnswerStatement {
        mesh: MeshId::from_bytes(counted(0x01)),
        request: match kind {
            AnswerKind::Claim => store_request(2).digest(),
            AnswerKind::Offer => search_request(SearchKind::Retrieve, 2).digest(),
        },
        kind,
        wants: if kind == AnswerKind::Claim { 3 } else { 0 },
        holds: 2,
        agreement: keys::node().agreement_key(),
        record: b"a signed peer record",
        site: "attic",
        operator: "cellar",
    }
}

/// The statement's fields as the asker sees them.
fn with_statement(record: Record, node: &NodeId, said: &AnswerStatement<'_>) -> Record {
    record
        .hex("mesh", said.mesh.as_bytes())
        .hex("node", node.as_bytes())
        .hex("request", said.request.as_bytes())
        .text("kind", said.kind as u8)
        .text("wants", said.wants)
        .text("holds", said.holds)
        .hex("agreement", said.agreement.0)
        .hex("record", said.record)
        .text("site", said.site)
        .text("operator", said.operator)
}

fn verifies(record: &Record) -> bool {
    let said = AnswerStatement {
        mesh: MeshId::from_bytes(record.array("mesh")),
        request: RequestDigest::from_bytes(record.array("request")),
        kind: match record.get("kind") {
            "1" => AnswerKind::Claim,
            "2" => AnswerKind::Offer,
            other => panic!("kind {other}"),
        },
        wants: record.get("wants").parse().unwrap(),
        holds: record.get("holds").parse().unwrap(),
        agreement: AgreementKey(record.array("agreement")),
        record: &record.bytes("record"),
        site: record.get("site"),
        operator: record.get("operator"),
    };
    said.verify(&NodeId::from_bytes(record.array("node")), &record.array("signature"))
}

fn answer_record(name: &str, kind: AnswerKind) -> Record {
    let (node, said) = (keys::node(), statement(kind));
    let record = Record::new(name).hex("signing", counted::<32>(0x40));
    with_statement(record, &node.node_id(), &said)
        .hex("statement", said.encode(&node.node_id()))
        .hex("signature", said.sign(&node))
}

fn records() -> Vec<Record> {
    vec![
        store_record(1),
        store_record(64),
        search_record(SearchKind::Retrieve, 1),
        search_record(SearchKind::Retrieve, 32),
        search_record(SearchKind::Locate, 1),
        search_record(SearchKind::Locate, 32),
        answer_record("answer-claim", AnswerKind::Claim),
        answer_record("answer-offer", AnswerKind::Offer),
    ]
}

#[test]
fn requests_and_answers_are_frozen() {
    freeze(FILE, INTRO, &records());
}

#[test]
fn every_frozen_answer_verifies() {
    for record in read(FILE).iter().filter(|record| record.name.starts_with("answer")) {
        assert!(verifies(record), "{}", record.name);
    }
}

#[test]
fn a_second_implementation_names_the_same_requests() {
    let words = |line: &str| -> Vec<String> { line.split(' ').map(String::from).collect() };
    for record in read(FILE).iter().filter(|record| record.name.starts_with("request")) {
        let mut out = b"quloud/v1/request".to_vec();
        let names = ["request-store", "request-retrieve", "request-locate"];
        let kind = names.iter().position(|name| record.name.starts_with(name)).unwrap();
        let is_store = kind == 0;
        out.push(u8::try_from(kind).unwrap() + 1);
        out.extend(record.bytes("ephemeral"));
        out.extend(record.number("attempt").to_le_bytes());
        if is_store {
            out.extend(u16::try_from(record.number("probability")).unwrap().to_le_bytes());
            out.push(u8::try_from(record.number("quorum")).unwrap());
            out.extend(record.bytes("terms"));
            out.extend(oracle::sha256(&[&record.bytes("stamp")]));
        } else {
            out.extend(record.bytes("nonce"));
        }
        let list: Vec<_> = record.all(if is_store { "offer" } else { "wanted" }).collect();
        out.extend(u16::try_from(list.len()).unwrap().to_le_bytes());
        for line in list {
            let line = words(line);
            out.extend(hex::decode(&line[0]).unwrap());
            match is_store {
                true => out.extend(line[1].parse::<u32>().unwrap().to_le_bytes()),
                false => out.extend(hex::decode(&line[1]).unwrap()),
            }
        }
        assert_eq!(oracle::sha256(&[&out]), record.array("digest"), "{}", record.name);
    }
}

/// A statement by hand.
fn encode(record: &Record) -> Vec<u8> {
    let mut out = b"\x10quloud/v1/answer".to_vec();
    for field in ["mesh", "node", "request"] {
        out.extend(record.bytes(field));
    }
    out.push(u8::try_from(record.number("kind")).unwrap());
    for field in ["wants", "holds"] {
        out.extend(record.get(field).parse::<u64>().unwrap().to_le_bytes());
    }
    out.extend(record.bytes("agreement"));
    out.extend(oracle::sha256(&[&record.bytes("record")]));
    out.extend(oracle::sha256(&[record.get("site").as_bytes()]));
    out.extend(oracle::sha256(&[record.get("operator").as_bytes()]));
    out
}

#[test]
fn a_second_implementation_signs_the_same_answers() {
    for record in read(FILE).iter().filter(|record| record.name.starts_with("answer")) {
        let key = SigningKey::from_bytes(&record.array("signing"));
        assert_eq!(key.verifying_key().to_bytes(), record.array("node"));
        let statement = encode(record);
        assert_eq!(statement.len(), 258);
        assert_eq!(statement, record.bytes("statement"));
        assert_eq!(key.sign(&statement).to_bytes(), record.array("signature"));
    }
}
