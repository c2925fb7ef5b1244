//! Acks that must fail.

use super::*;

const FILE: &str = "ack-bad.txt";

const INTRO: &str = "\
Quloud test vectors that must fail: acks (PROTOCOL.md, section \"Receipt and ack\").

Each record is what the owner sees; the signature must not verify.
reason binding:   a good signature over another statement.
reason signer:    signed by somebody else.
reason statement: signed by the holder, over another layout.
reason count:     signed by the holder, with no chunk or more than 64.
reason encoding:  a signature or key that is not in its one legal form, or of small order.
reason damage:    changed on the way.";

fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&counted(0x40))
}

fn good_signature() -> [u8; 64] {
    statement(2).sign(&keys::node())
}

fn seen(name: &str, reason: &str, ack: &AckStatement, signature: [u8; 64]) -> Record {
    let record = Record::new(name).text("reason", reason);
    with_statement(record, &keys::node().node_id(), ack).hex("signature", signature)
}

type Change = fn(&mut AckStatement);

fn binding() -> Vec<Record> {
    let changes: [(&str, Change); 16] = [
        ("other-mesh", |ack| ack.mesh = MeshId::from_bytes(counted(2))),
        ("other-account", |ack| ack.account = Account::from_bytes(counted(2))),
        ("other-batch", |ack| ack.batch = BatchId::from_bytes(counted(2))),
        ("other-epoch", |ack| ack.epoch = StoreEpoch::from_bytes(counted(2))),
        ("longer-renewal", |ack| ack.terms.renew_every_s += 1),
        ("longer-silence", |ack| ack.terms.keep_after_silence_s += 1),
        ("longer-release-delay", |ack| ack.terms.release_delay_s += 1),
        ("durations-swapped", |ack| {
            std::mem::swap(&mut ack.terms.renew_every_s, &mut ack.terms.keep_after_silence_s);
        }),
        ("other-chunk", |ack| ack.chunks[0].id = ChunkId::from_bytes(counted(9))),
        ("other-lease", |ack| ack.chunks[0].lease = LeaseNonce::from_bytes(counted(9))),
        ("other-receipt", |ack| ack.chunks[0].receipt = counted(9)),
        ("second-chunk-other-receipt", |ack| ack.chunks[1].receipt = counted(9)),
        ("chunks-swapped", |ack| ack.chunks.swap(0, 1)),
        ("chunk-left-out", |ack| ack.chunks.truncate(1)),
        ("chunk-added", |ack| ack.chunks.push(chunk(9))),
        ("chunk-doubled", |ack| ack.chunks.push(chunk(1))),
    ];
    let changed = |(name, change): (&str, Change)| {
        let mut ack = statement(2);
        change(&mut ack);
        seen(name, "binding", &ack, good_signature())
    };
    changes.into_iter().map(changed).collect()
}

fn signers() -> Vec<Record> {
    let (ack, own) = (statement(2), keys::node().node_id());
    let other = SigningKey::from_bytes(&counted(0x41));
    let other_id = NodeId::from_bytes(other.verifying_key().to_bytes());
    let as_other = |name: &str, signature| {
        let record = Record::new(name).text("reason", "signer");
        with_statement(record, &other_id, &ack).hex("signature", signature)
    };
    vec![
        seen("signed-by-another", "signer", &ack, other.sign(&ack.encode(&own)).to_bytes()),
        seen("another-holders-ack", "signer", &ack, other.sign(&ack.encode(&other_id)).to_bytes()),
        as_other("claimed-by-another", good_signature()),
        as_other("re-labelled", signing_key().sign(&ack.encode(&other_id)).to_bytes()),
    ]
}

fn statements() -> Vec<Record> {
    let ack = statement(2);
    let encoded = ack.encode(&keys::node().node_id());
    let sign = |bytes: &[u8]| signing_key().sign(bytes).to_bytes();
    // Fields begin after the domain: mesh 32, holder 32, account 32, batch 16, epoch 16, terms 12.
    let (front, rest) = encoded.split_at(14);
    let (fixed, tail) = rest.split_at(140);
    let (count, chunks) = tail.split_at(2);
    let other_domain = [b"\x0dquloud/v2/ack".as_slice(), rest].concat();
    let wide_count = [front, fixed, count, &[0, 0], chunks].concat();
    let big_endian = [front, fixed, &[0, 2], chunks].concat();
    let no_holder = [front, &fixed[..32], &fixed[64..], tail].concat();
    let cases = [
        ("no-domain", sign(rest)),
        ("domain-without-length", sign(&encoded[1..])),
        ("other-domain", sign(&other_domain)),
        ("count-of-32-bits", sign(&wide_count)),
        ("count-big-endian", sign(&big_endian)),
        ("no-count", sign(&[front, fixed, chunks].concat())),
        ("no-holder", sign(&no_holder)),
        ("one-byte-more", sign(&[encoded.as_slice(), &[0]].concat())),
        ("sha-256-of-it", sign(&oracle::sha256(&[&encoded]))),
        ("agreement-signature", keys::node().sign_agreement()),
    ];
    cases.into_iter().map(|(name, made)| seen(name, "statement", &ack, made)).collect()
}

fn counts() -> Vec<Record> {
    let node = keys::node();
    [("no-chunk", 0), ("65-chunks", 65)]
        .into_iter()
        .map(|(name, count)| seen(name, "count", &statement(count), statement(count).sign(&node)))
        .collect()
}

fn encodings() -> Vec<Record> {
    let (ack, good) = (statement(2), good_signature());
    let shifted = |times| -> [u8; 64] {
        [&good[..32], &oracle::shift(&good[32..], times)].concat().try_into().unwrap()
    };
    let mut high = good;
    high[31] ^= 0x80;
    let mut all = vec![
        seen("s-plus-order", "encoding", &ack, shifted(1)),
        seen("s-plus-8-orders", "encoding", &ack, shifted(8)),
        seen("R-other-sign", "encoding", &ack, high),
        seen("all-zero", "encoding", &ack, [0; 64]),
        seen("all-ones", "encoding", &ack, [0xff; 64]),
    ];
    // Keys of small order: with R the identity and s = 0, loose verification takes any statement.
    let mut forged = [0; 64];
    forged[0] = 1;
    for (name, holder) in [
        ("holder-identity", "0100000000000000000000000000000000000000000000000000000000000000"),
        ("holder-order-2", "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        ("holder-order-4", "0000000000000000000000000000000000000000000000000000000000000000"),
        ("holder-order-8", "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
        (
            "holder-identity-as-p+1",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ),
        (
            "holder-identity-negative",
            "0100000000000000000000000000000000000000000000000000000000000080",
        ),
        (
            "holder-not-on-the-curve",
            "0200000000000000000000000000000000000000000000000000000000000000",
        ),
    ] {
        let holder = NodeId::from_slice(&hex::decode(holder).unwrap()).unwrap();
        let record = Record::new(name).text("reason", "encoding");
        all.push(with_statement(record, &holder, &ack).hex("signature", forged));
    }
    all
}

fn damage() -> Vec<Record> {
    let good = good_signature();
    let swapped: [u8; 64] = [&good[32..], &good[..32]].concat().try_into().unwrap();
    let mut all = vec![seen("halves-swapped", "damage", &statement(2), swapped)];
    for (at, mask) in [(0, 1), (31, 0x40), (32, 1), (63, 0x08)] {
        let mut changed = good;
        changed[at] ^= mask;
        all.push(seen(&format!("byte-{at}"), "damage", &statement(2), changed));
    }
    all
}

fn records() -> Vec<Record> {
    [binding(), signers(), statements(), counts(), encodings(), damage()].concat()
}

#[test]
fn bad_acks_are_frozen() {
    freeze(FILE, INTRO, &records());
}

#[test]
fn every_bad_ack_fails() {
    for record in read(FILE) {
        assert!(!verifies(&record), "{}", record.name);
    }
}

#[test]
fn what_the_bad_acks_differ_from_is_good() {
    assert!(verifies(&seen("base", "none", &statement(2), good_signature())));
}
