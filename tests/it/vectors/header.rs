//! Headers that must not decode, and bytes and ids that do not belong to one.

use super::{Record, freeze, keys, read};
use quloud::crypto::header::{Header, HeaderError};
use quloud::crypto::keys::ChunkKey;
use quloud::crypto::seal;

const FILE: &str = "header-bad.txt";

const INTRO: &str = "\
Quloud test vectors that must fail: chunk headers (PROTOCOL.md, section \"Header and id\").

reason length, version, sealed-length, point: the header itself is refused.
reason bytes: the header is legal and does not certify the sealed bytes.
reason id:    the header is legal and does not have this id.
The points come from RFC 9496, appendix A.2; each stands for one of Y, Z and D.";

/// RFC 9496, appendix A.2: not a group element, or not in its one legal form.
pub(super) const BAD_POINTS: [(&str, [&str; 8]); 4] = [
    (
        "non-canonical",
        [
            "00ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "f3ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "ed57ffd8c914fb201471d1c3d245ce3c746fcbe63a3679d51b6a516ebebe0e20",
            "c34c4e1826e5d403b78e246e88aa051c36ccf0aafebffe137d148a2bf9104562",
        ],
    ),
    (
        "negative-or-minus-one",
        [
            "c940e5a4404157cfb1628b108db051a8d439e1a421394ec4ebccb9ec92a8ac78",
            "47cfc5497c53dc8e61c91d17fd626ffb1c49e2bca94eed052281b510b1117a24",
            "f1c6165d33367351b0da8f6e4511010c68174a03b6581212c71c0e1d026c3c72",
            "87260f7a2f12495118360f02c26a470f450dadf34a413d21042b43b9d93e1309",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "efffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        ],
    ),
    (
        "non-square",
        [
            "26948d35ca62e643e26a83177332e6b6afeb9d08e4268b650f1f5bbd8d81d371",
            "4eac077a713c57b4f4397629a4145982c661f48044dd3f96427d40b147d9742f",
            "de6a7b00deadc788eb6b6c8d20c0ae96c2f2019078fa604fee5b87d6e989ad7b",
            "bcab477be20861e01e4a0e295284146a510150d9817763caf1a6f4b422d67042",
            "2a292df7e32cababbd9de088d1d1abec9fc0440f637ed2fba145094dc14bea08",
            "f4a9e534fc0d216c44b218fa0c42d99635a0127ee2e53c712f70609649fdff22",
            "8268436f8c4126196cf64b3c7ddbda90746a378625f9813dd9b8457077256731",
            "2810e5cbc2cc4d4eece54f61c6f69758e289aa7ab440b3cbeaa21995c2f4232b",
        ],
    ),
    (
        "negative-xy",
        [
            "3eb858e78f5a7254d8c9731174a94f76755fd3941c0ac93735c07ba14579630e",
            "a45fdc55c76448c049a1ab33f17023edfb2be3581e9c7aade8a6125215e04220",
            "d483fe813c6ba647ebbfd3ec41adca1c6130c2beeee9d9bf065c8d151c5f396e",
            "8a2e1d30050198c65a54483123960ccc38aef6848e1ec8f5f780e8523769ba32",
            "32888462f8b486c68ad7dd9610be5192bbeaf3b443951ac1a8118419d9fa097b",
            "227142501b9d4355ccba290404bde41575b037693cef1f438c47f8fbf35d1165",
            "5c37cc491da847cfeb9281d407efc41e15144c876e0170b499a96a22ed31e01e",
            "445425117cb8c90edcbc7c1cc0e74f747f2c1efa5630a967c64f287792a48a4b",
        ],
    ),
];

const SEALED: [u8; 64] = [7; 64];

fn header() -> Header {
    let keys = keys::owner();
    let ck = ChunkKey::derive(&keys.dedup, 0, 1, b"content");
    Header::new(keys.generation, keys.points(&ck), &SEALED)
}

fn bad(name: &str, reason: &str, header: impl AsRef<[u8]>) -> Record {
    Record::new(name).text("reason", reason).hex("header", header)
}

fn shapes() -> Vec<Record> {
    let good = header().encode();
    let mut all = vec![
        bad("empty", "length", []),
        bad("one-byte-short", "length", &good[..136]),
        bad("one-byte-long", "length", [good.as_slice(), &[0]].concat()),
        bad("twice", "length", [good, good].concat()),
    ];
    for version in [0, 2, 0x80, 0xff] {
        let mut changed = good;
        changed[0] = version;
        all.push(bad(&format!("version-{version}"), "version", changed));
    }
    for sealed_bytes in [0, 40, (4 << 20) + 1, 0x8000_0000, u32::MAX] {
        let changed = Header { sealed_bytes, ..header() };
        all.push(bad(&format!("sealed-length-{sealed_bytes}"), "sealed-length", changed.encode()));
    }
    // The length in big-endian order is another number.
    let mut swapped = good;
    swapped[101..105].reverse();
    all.push(bad("sealed-length-big-endian", "sealed-length", swapped));
    all
}

fn points() -> Vec<Record> {
    let names = ["Y", "Z", "D"];
    let mut all = Vec::new();
    for (place, name) in names.into_iter().enumerate() {
        let mut changed = header().encode();
        changed[5 + 32 * place..37 + 32 * place].fill(0);
        all.push(bad(&format!("{name}-identity"), "point", changed));
    }
    for (kind, encodings) in BAD_POINTS {
        for (number, encoding) in encodings.into_iter().enumerate() {
            let place = number % names.len();
            let mut changed = header().encode();
            let point = hex::decode(encoding).unwrap();
            changed[5 + 32 * place..37 + 32 * place].copy_from_slice(&point);
            all.push(bad(&format!("{}-{kind}-{number}", names[place]), "point", changed));
        }
    }
    all
}

fn mismatches() -> Vec<Record> {
    let good = header();
    let with_bytes =
        |name: &str, sealed: &[u8]| bad(name, "bytes", good.encode()).hex("sealed", sealed);
    let with_id = |name: &str, header: Header| {
        bad(name, "id", header.encode()).hex("id", good.id().as_bytes())
    };
    let mut flipped = SEALED;
    flipped[63] ^= 0x80;
    let [read, admin, delete] = [good.read, good.admin, good.delete];
    vec![
        with_bytes("bytes-one-bit", &flipped),
        with_bytes("bytes-one-short", &SEALED[..63]),
        with_bytes("bytes-one-more", &[SEALED.as_slice(), &[7]].concat()),
        with_bytes("bytes-none", &[]),
        with_id("id-other-generation", Header { generation: 1, ..good }),
        with_id("id-points-swapped", Header { read: admin, admin: read, ..good }),
        with_id("id-delete-is-admin", Header { delete: admin, ..good }),
        with_id("id-admin-is-delete", Header { admin: delete, ..good }),
        with_id("id-other-length", Header { sealed_bytes: 65, ..good }),
        with_id("id-other-hash", Header { sealed_hash: [0; 32], ..good }),
    ]
}

fn records() -> Vec<Record> {
    [shapes(), points(), mismatches()].concat()
}

#[test]
fn bad_headers_are_frozen() {
    freeze(FILE, INTRO, &records());
}

#[test]
fn every_bad_header_fails_for_its_reason() {
    for record in read(FILE) {
        let why = match Header::decode(&record.bytes("header")) {
            Err(HeaderError::Length(_)) => "length",
            Err(HeaderError::Version(_)) => "version",
            Err(HeaderError::SealedLength(_)) => "sealed-length",
            Err(HeaderError::Point) => "point",
            Ok(header) if record.has("sealed") && !header.certifies(&record.bytes("sealed")) => {
                "bytes"
            }
            Ok(header) if record.has("id") && header.id().as_bytes() != &record.array("id") => "id",
            Ok(_) => "none",
        };
        assert_eq!(why, record.get("reason"), "{}", record.name);
    }
}

#[test]
fn bytes_of_another_chunk_open_under_no_header() {
    let keys = keys::owner();
    let ck = ChunkKey::derive(&keys.dedup, 0, 1, b"content");
    assert!(seal::open(&ck, &header(), &SEALED).is_err());
}
