//! Capabilities: good ones, and texts that must be refused.

use super::{Record, counted, freeze, read};
use bech32::{Bech32, Bech32m, Hrp};
use quloud::core::types::{ChunkId, Locality};
use quloud::crypto::capability::{Capability, CapabilityError};
use quloud::crypto::keys::ChunkKey;

const FILE: &str = "capability.txt";
const BAD_FILE: &str = "capability-bad.txt";

const INTRO: &str = "\
Quloud test vectors: read capabilities as text (PROTOCOL.md, section \"Capability\").";

const BAD_INTRO: &str = "\
Quloud test vectors that must fail: read capabilities (PROTOCOL.md, section \"Capability\").

The text is given as hexadecimal of its UTF-8 bytes.
reason prefix:   it does not begin with quloud1.
reason checksum: no bech32m text at all, or its checksum is wrong.
reason version:  another version.
reason length:   the payload is not 67 bytes, or its spare bits are not zero.";

fn capability(id: u8, locality: u16, ck: u8) -> Capability {
    Capability {
        id: ChunkId::from_bytes(counted(id)),
        locality: Locality(locality),
        ck: ChunkKey::from_bytes(counted(ck)),
    }
}

fn records() -> Vec<Record> {
    let cases =
        [("counted", 0, 0x1234, 0x20), ("high", 0xe0, 0xffff, 0xc0), ("locality-0", 7, 0, 9)];
    cases
        .into_iter()
        .map(|(name, id, locality, ck)| {
            Record::new(name)
                .hex("id", counted::<32>(id))
                .text("locality", locality)
                .hex("ck", counted::<32>(ck))
                .text("text", capability(id, locality, ck).encode().as_str())
        })
        .collect()
}

fn bad(name: &str, reason: &str, text: impl AsRef<str>) -> Record {
    Record::new(name).text("reason", reason).hex("text", text.as_ref())
}

fn payload() -> Vec<u8> {
    let locality = 0x1234u16.to_le_bytes();
    [[1].as_slice(), &counted::<32>(0), &locality, &counted::<32>(0x20)].concat()
}

fn encode(prefix: &str, payload: &[u8]) -> String {
    bech32::encode::<Bech32m>(Hrp::parse(prefix).unwrap(), payload).unwrap()
}

/// With the spare bits behind the payload set to `spare`, and the right checksum for that.
fn with_spare_bits(spare: u8) -> String {
    use bech32::primitives::iter::{ByteIterExt, Fe32IterExt};
    let hrp = Hrp::parse("quloud").unwrap();
    let mut digits: Vec<bech32::Fe32> = payload().iter().copied().bytes_to_fes().collect();
    let last = digits.pop().unwrap().to_u8();
    digits.push(bech32::Fe32::try_from(last | spare).unwrap());
    digits.into_iter().with_checksum::<Bech32m>(&hrp).chars().collect()
}

/// `good` with the character at `at` replaced by the next one of the alphabet.
fn flip(good: &str, at: usize) -> String {
    const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    let mut bytes = good.as_bytes().to_vec();
    let digit = ALPHABET.iter().position(|digit| *digit == bytes[at]).unwrap();
    bytes[at] = ALPHABET[(digit + 1) % 32];
    String::from_utf8(bytes).unwrap()
}

fn bad_prefixes(good: &str) -> Vec<Record> {
    vec![
        bad("empty", "prefix", ""),
        bad("white-space", "prefix", " \n\t"),
        bad("prefix-too-short", "prefix", "quloud"),
        bad("other-prefix", "prefix", encode("qloud", &payload())),
        bad("longer-prefix", "prefix", encode("quloudy", &payload())),
        bad("first-character-flipped", "prefix", good.replacen('q', "p", 1)),
        bad("no-separator", "prefix", good.replacen('1', "", 1)),
        bad("something-in-front", "prefix", format!("capability:{good}")),
        bad("not-ascii", "prefix", good.replacen("ou", "\u{f6}", 1)),
        bad("zero-byte-in-front", "prefix", format!("\0{good}")),
    ]
}

fn bad_checksums(good: &str) -> Vec<Record> {
    let mut all = vec![
        bad("prefix-alone", "checksum", "quloud1"),
        bad("prefix-and-checksum-length", "checksum", "quloud1qqqqqq"),
        bad(
            "bech32-instead-of-bech32m",
            "checksum",
            bech32::encode::<Bech32>(Hrp::parse("quloud").unwrap(), &payload()).unwrap(),
        ),
        bad("last-character-lost", "checksum", &good[..good.len() - 1]),
        bad("a-character-lost", "checksum", [&good[..50], &good[51..]].concat()),
        bad("a-character-added", "checksum", [&good[..50], "q", &good[50..]].concat()),
        bad("a-character-doubled", "checksum", [&good[..51], &good[50..]].concat()),
        bad("characters-swapped", "checksum", {
            let mut bytes = good.as_bytes().to_vec();
            let at = (40..).find(|at| bytes[*at] != bytes[*at + 1]).unwrap();
            bytes.swap(at, at + 1);
            String::from_utf8(bytes).unwrap()
        }),
        bad("mixed-case", "checksum", [&good[..60], &good[60..].to_uppercase()].concat()),
        bad("upper-case-prefix-only", "checksum", good.replacen("quloud", "QULOUD", 1)),
        bad("space-inside", "checksum", [&good[..60], " ", &good[60..]].concat()),
        bad("line-break-inside", "checksum", [&good[..60], "\n", &good[60..]].concat()),
        bad("character-b", "checksum", [&good[..60], "b", &good[61..]].concat()),
        bad("character-i", "checksum", [&good[..60], "i", &good[61..]].concat()),
        bad("character-o", "checksum", [&good[..60], "o", &good[61..]].concat()),
        bad("second-separator", "checksum", [&good[..60], "1", &good[61..]].concat()),
        bad("zero-byte-inside", "checksum", [&good[..60], "\0", &good[61..]].concat()),
        bad("something-behind", "checksum", format!("{good} {good}")),
        bad("twice", "checksum", format!("{good}{good}")),
    ];
    for at in [7, 8, 10, 40, 80, 113, 114, 115, 120] {
        all.push(bad(&format!("flipped-{at}"), "checksum", flip(good, at)));
    }
    all
}

fn bad_payloads() -> Vec<Record> {
    let good = payload();
    let version = |number: u8| encode("quloud", &[&[number], &good[1..]].concat());
    vec![
        bad("version-0", "version", version(0)),
        bad("version-2", "version", version(2)),
        bad("version-255", "version", version(255)),
        bad("newer-and-longer", "version", encode("quloud", &[[2].as_slice(), &good].concat())),
        bad("no-payload", "length", encode("quloud", &[])),
        bad("version-alone", "length", encode("quloud", &[1])),
        bad("no-key", "length", encode("quloud", &good[..35])),
        bad("one-byte-short", "length", encode("quloud", &good[..66])),
        bad("one-byte-long", "length", encode("quloud", &[good.as_slice(), &[0]].concat())),
        bad("very-long", "length", encode("quloud", &[1; 500])),
        bad("spare-bit-low", "length", with_spare_bits(1)),
        bad("spare-bit-high", "length", with_spare_bits(8)),
        bad("spare-bits-all", "length", with_spare_bits(15)),
    ]
}

fn bad_records() -> Vec<Record> {
    let good = capability(0, 0x1234, 0x20).encode();
    [bad_prefixes(&good), bad_checksums(&good), bad_payloads()].concat()
}

#[test]
fn capabilities_are_frozen() {
    freeze(FILE, INTRO, &records());
}

#[test]
fn bad_capabilities_are_frozen() {
    freeze(BAD_FILE, BAD_INTRO, &bad_records());
}

#[test]
fn every_frozen_capability_is_read() {
    for record in read(FILE) {
        let capability = Capability::decode(record.get("text")).unwrap();
        assert_eq!(capability.id.as_bytes(), &record.array("id"));
        assert_eq!(u32::from(capability.locality.0), record.number("locality"));
        assert_eq!(capability.ck.expose(), &record.array("ck"));
    }
    assert_eq!(encode("quloud", &payload()), read(FILE)[0].get("text"));
}

#[test]
fn every_bad_capability_fails_for_its_reason() {
    for record in read(BAD_FILE) {
        let text = String::from_utf8(record.bytes("text")).unwrap();
        let why = match Capability::decode(&text) {
            Ok(_) => "none",
            Err(CapabilityError::Prefix) => "prefix",
            Err(CapabilityError::Checksum) => "checksum",
            Err(CapabilityError::Version(_)) => "version",
            Err(CapabilityError::Length) => "length",
        };
        assert_eq!(why, record.get("reason"), "{}", record.name);
    }
}
