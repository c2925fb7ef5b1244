//! Proofs of storage: tags, aggregated answers, MACs.

use super::{Record, counted, freeze, keys, oracle, read};
use quloud::core::types::{ChunkId, NodeId};
use quloud::crypto::audit::{Challenge, Checker, MacKey, Piece, Proof, Task, blocks};
use quloud::crypto::header::Header;
use quloud::crypto::keys::{ChunkKey, PairKey};

const FILE: &str = "audit.txt";

const INTRO: &str = "\
Quloud test vectors: proofs of storage (PROTOCOL.md, section \"Proofs of storage\").

tags-*:  of sealed bytes under an id, with the audit purpose key. Masks bind the blocks' number.
proof-*: of the chunks before it, for a seed and a holder. chunk = the name of a tags record.
mac:     of one chunk, under a pair key.";

/// Bytes that are not all alike.
fn sealed(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * at % 251) as u8).collect()
}

fn tags_record(number: u8, length: usize) -> Record {
    let (owner, sealed) = (keys::owner(), sealed(length));
    let points = owner.points(&ChunkKey::from_bytes(counted(number)));
    let header = Header::new(owner.generation, points, &sealed);
    let tags = owner.tag_key.tags(&header, &sealed).unwrap();
    Record::new(&format!("tags-{length}"))
        .hex("audit", owner.audit.expose())
        .hex("header", header.encode())
        .hex("id", header.id().as_bytes())
        .hex("sealed", sealed)
        .hex("tags", tags)
}

fn proof_record(name: &str, of: &[Record]) -> Record {
    let (seed, holder) = (counted::<32>(0x61), counted::<32>(0x81));
    let task = Task::Compact(Challenge::new(&seed, &NodeId::from_bytes(holder)));
    let mut proof = Proof::zero();
    let mut record = Record::new(name).hex("seed", seed).hex("holder", holder);
    for chunk in of {
        let id = ChunkId::from_bytes(chunk.array("id"));
        let piece = task.piece(&id, &chunk.bytes("sealed"), &chunk.bytes("tags")).unwrap();
        let Piece::Compact(piece) = piece else { panic!("a compact task gave a MAC") };
        proof.add(&piece);
        record = record.text("chunk", &chunk.name);
    }
    record.hex("proof", proof.encode())
}

fn records() -> Vec<Record> {
    let mut records = vec![tags_record(1, 41), tags_record(2, 3_584), tags_record(3, 8_000)];
    let one = proof_record("proof-of-one", &records[2..]);
    let all = proof_record("proof-of-all", &records);
    let (pair, seed, id) = (counted::<32>(1), counted::<32>(0x61), counted::<32>(3));
    let key = MacKey::derive(&PairKey::from_bytes(pair));
    let made = key.mac(&seed, &ChunkId::from_bytes(id), &sealed(100));
    let mac = Record::new("mac")
        .hex("pair_key", pair)
        .hex("seed", seed)
        .hex("id", id)
        .hex("sealed", sealed(100))
        .hex("mac", made);
    records.extend([one, all, mac]);
    records
}

#[test]
fn proofs_of_storage_are_frozen() {
    freeze(FILE, INTRO, &records());
}

#[test]
fn frozen_proofs_pass() {
    let records = read(FILE);
    let key = keys::owner().tag_key;
    for record in records.iter().filter(|record| record.name.starts_with("proof-")) {
        let holder = NodeId::from_bytes(record.array("holder"));
        let mut checker = Checker::new(&key, Challenge::new(&record.array("seed"), &holder));
        for name in record.all("chunk") {
            let chunk = records.iter().find(|record| record.name == name).unwrap();
            checker
                .add(&ChunkId::from_bytes(chunk.array("id")), blocks(chunk.bytes("sealed").len()));
        }
        assert!(checker.holds(&Proof::decode(&record.bytes("proof")).unwrap()), "{}", record.name);
    }
}

const P: u128 = (1 << 61) - 1;

/// Pseudorandom elements, by the specification.
fn elements(key: &[u8; 32], input: &[u8], count: usize) -> Vec<u128> {
    let mut stream = vec![0; 8 * (count + 8)];
    blake3::Hasher::new_keyed(key).update(input).finalize_xof().fill(&mut stream);
    let words = stream.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
    let elements = words.map(|word| u128::from(word) & P).filter(|element| *element < P);
    elements.take(count).collect()
}

/// The sectors of each block.
fn sectors(sealed: &[u8]) -> Vec<Vec<u128>> {
    let sector =
        |bytes: &[u8]| bytes.iter().rev().fold(0, |value, byte| value << 8 | u128::from(*byte));
    let mut filled = sealed.to_vec();
    filled.resize(sealed.len().div_ceil(3_584) * 3_584, 0);
    filled.chunks(3_584).map(|block| block.chunks(7).map(sector).collect()).collect()
}

#[test]
fn a_second_implementation_tags_and_proves_the_same() {
    let records = read(FILE);
    for record in records.iter().filter(|record| record.name.starts_with("tags-")) {
        let audit = record.bytes("audit");
        let alpha = oracle::expand::<32>(&audit, &[b"quloud/v1/por-alpha"]);
        let alpha = elements(&alpha, b"", 1_024);
        let blocks = sectors(&record.bytes("sealed"));
        let masks = oracle::expand::<32>(&audit, &[b"quloud/v1/por-mask"]);
        let number = u32::try_from(blocks.len()).unwrap().to_le_bytes();
        let input = [&record.bytes("id")[..], &number].concat();
        let masks = elements(&masks, &input, 2 * blocks.len());
        let mut tags = Vec::new();
        for (block, masks) in blocks.iter().zip(masks.chunks(2)) {
            for (alpha, mask) in alpha.chunks(512).zip(masks) {
                let products = alpha.iter().zip(block).map(|(alpha, sector)| alpha * sector % P);
                let tag = (mask + products.sum::<u128>()) % P;
                tags.extend(u64::try_from(tag).unwrap().to_le_bytes());
            }
        }
        assert_eq!(tags, record.bytes("tags"), "{}", record.name);
    }
    for record in records.iter().filter(|record| record.name.starts_with("proof-")) {
        let seed = record.array::<32>("seed");
        let domain = [&b"quloud/v1/por-challenge"[..], &record.bytes("holder")].concat();
        let challenge = oracle::keyed_blake3(&seed, &[&domain]);
        let mut sums = vec![0; 514];
        for name in record.all("chunk") {
            let chunk = records.iter().find(|record| record.name == name).unwrap();
            let blocks = sectors(&chunk.bytes("sealed"));
            let weights = elements(&challenge, &chunk.bytes("id"), blocks.len());
            let tags = chunk.bytes("tags");
            let tags: Vec<u128> = tags
                .chunks(8)
                .map(|tag| u64::from_le_bytes(tag.try_into().unwrap()).into())
                .collect();
            for ((block, weight), tags) in blocks.iter().zip(weights).zip(tags.chunks(2)) {
                for (sum, value) in sums.iter_mut().zip(block.iter().chain(tags)) {
                    *sum = (*sum + weight * value) % P;
                }
            }
        }
        let proof: Vec<u8> =
            sums.iter().flat_map(|sum| u64::try_from(*sum).unwrap().to_le_bytes()).collect();
        assert_eq!(proof, record.bytes("proof"), "{}", record.name);
    }
    let record = records.iter().find(|record| record.name == "mac").unwrap();
    let key = oracle::expand::<32>(&record.bytes("pair_key"), &[b"quloud/v1/audit-mac"]);
    let parts = [record.bytes("seed"), record.bytes("id"), record.bytes("sealed")];
    assert_eq!(oracle::hmac(&key, &parts.concat()), record.bytes("mac"));
}
