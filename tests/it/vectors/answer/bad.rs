//! Answers that must fail.

use super::*;

const FILE: &str = "answer-bad.txt";

const INTRO: &str = "\
Quloud test vectors that must fail: answers (PROTOCOL.md, section \"Sealed answers\").

Each record is what the asker sees; the signature must not verify.
reason binding:   a good signature over another statement: a flipped bit in each field.
reason signer:    signed by somebody else.
reason statement: signed by the node, over another layout.
reason damage:    changed on the way.";

fn seen(
    name: &str,
    reason: &str,
    said: &AnswerStatement<'_>,
    node: &NodeId,
    signature: [u8; 64],
) -> Record {
    let record = Record::new(name).text("reason", reason);
    with_statement(record, node, said).hex("signature", signature)
}

fn flipped(bytes: &[u8; 32]) -> [u8; 32] {
    let mut bytes = *bytes;
    bytes[31] ^= 1;
    bytes
}

fn binding() -> Vec<Record> {
    type Change = fn(&mut AnswerStatement<'static>);
    let changes: [(&str, Change); 11] = [
        ("mesh", |said| said.mesh = MeshId::from_bytes(flipped(said.mesh.as_bytes()))),
        ("request", |said| {
            said.request = RequestDigest::from_bytes(flipped(said.request.as_bytes()));
        }),
        ("kind", |said| said.kind = AnswerKind::Offer),
        ("wants", |said| said.wants ^= 1 << 63),
        ("nothing-wanted", |said| said.wants = 0),
        ("holds", |said| said.holds ^= 1),
        ("wants-and-holds-swapped", |said| std::mem::swap(&mut said.wants, &mut said.holds)),
        ("agreement", |said| said.agreement.0 = flipped(&said.agreement.0)),
        ("record", |said| said.record = b"a signed peer recorD"),
        ("site", |said| said.site = "atticc"),
        ("operator", |said| said.operator = ""),
    ];
    let node = keys::node();
    let signature = statement(AnswerKind::Claim).sign(&node);
    let changed = changes.into_iter().map(|(name, change)| {
        let mut said = statement(AnswerKind::Claim);
        change(&mut said);
        seen(&format!("other-{name}"), "binding", &said, &node.node_id(), signature)
    });
    changed.collect()
}

fn signers() -> Vec<Record> {
    let (said, own) = (statement(AnswerKind::Claim), keys::node());
    let node = own.node_id();
    let other = SigningKey::from_bytes(&counted(0x41));
    let other_id = NodeId::from_bytes(other.verifying_key().to_bytes());
    let by_other = |node: &NodeId| other.sign(&said.encode(node)).to_bytes();
    vec![
        seen("signed-by-another", "signer", &said, &node, by_other(&node)),
        seen("another-nodes-answer", "signer", &said, &node, by_other(&other_id)),
        seen("claimed-by-another", "signer", &said, &other_id, said.sign(&own)),
        seen("not-signed", "signer", &said, &node, [0; 64]),
    ]
}

fn statements() -> Vec<Record> {
    let (said, own) = (statement(AnswerKind::Claim), keys::node().node_id());
    let key = SigningKey::from_bytes(&counted(0x40));
    let encoded = said.encode(&own);
    let layouts = [
        ("no-domain-length", encoded[1..].to_vec()),
        ("no-domain", encoded[17..].to_vec()),
        ("no-operator", encoded[..226].to_vec()),
        ("hash-of-the-statement", oracle::sha256(&[&encoded]).to_vec()),
    ];
    let signed = layouts
        .into_iter()
        .map(|(name, layout)| seen(name, "statement", &said, &own, key.sign(&layout).to_bytes()));
    signed.collect()
}

fn damaged() -> Vec<Record> {
    let (said, own) = (statement(AnswerKind::Offer), keys::node());
    let flip = |at: usize| {
        let mut signature = said.sign(&own);
        signature[at] ^= 1;
        seen(&format!("bit-of-byte-{at}"), "damage", &said, &own.node_id(), signature)
    };
    [0, 31, 32, 63].map(flip).into()
}

#[test]
fn bad_answers_are_frozen_and_none_verifies() {
    let records = [binding(), signers(), statements(), damaged()].concat();
    freeze(FILE, INTRO, &records);
    for record in read(FILE) {
        assert!(!verifies(&record), "{}", record.name);
    }
}
