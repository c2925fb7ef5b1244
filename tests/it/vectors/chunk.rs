//! Chunks: seal, header and id; the holder's wrap; sealed boxes.

use super::{Fixed, Record, counted, freeze, keys, oracle, read};
use crypto_secretbox::aead::Aead;
use crypto_secretbox::{KeyInit, XSalsa20Poly1305};
use quloud::core::types::Locality;
use quloud::crypto::header::Header;
use quloud::crypto::keys::ChunkKey;
use quloud::crypto::seal::{self, AnswerSecret, SealedChunk};

const FILE: &str = "chunk.txt";

const INTRO: &str = "\
Quloud test vectors: seal, header and id, wrap, sealed box (PROTOCOL.md, section \"Chunk\").

seal-*:     the owner's seal of a plaintext (in use: a padded frame), its header and its id.
wrap:       a holder's wrap under its own key; the nonce is random in use.
sealed-box: an answer, sealed to an asker's public key; the ephemeral secret is random in use.";

fn seal_record(name: &str, plaintext: &[u8]) -> Record {
    let keys = keys::owner();
    let ck = ChunkKey::derive(&keys.dedup, 0, 1, plaintext);
    let chunk = SealedChunk::new(&keys, &ck, Locality(0), plaintext);
    let [read, admin, delete] = keys.points(&ck);
    Record::new(name)
        .hex("ck", ck.expose())
        .hex("plaintext", plaintext)
        .hex("sealed", &chunk.sealed)
        .text("generation", keys.generation)
        .hex("Y", read)
        .hex("Z", admin)
        .hex("D", delete)
        .hex("header", chunk.header.encode())
        .hex("id", chunk.id().as_bytes())
}

fn wrap_record() -> Record {
    let (node, nonce) = (keys::node(), counted::<24>(0xa0));
    let wrapped = seal::wrap(node.wrap_key(), b"a record at rest", &mut Fixed::new(&[&nonce]));
    Record::new("wrap")
        .hex("wrap_key", node.wrap_key().expose())
        .hex("nonce", nonce)
        .hex("plaintext", b"a record at rest")
        .hex("wrapped", wrapped)
}

fn box_record() -> Record {
    let (asker, ephemeral) = (counted::<32>(0xb0), counted::<32>(0xd0));
    let secret = AnswerSecret::generate(&mut Fixed::new(&[&asker]));
    let sealed = seal::seal_to(&secret.public(), b"an answer", &mut Fixed::new(&[&ephemeral]));
    let sealed = sealed.unwrap();
    assert_eq!(secret.open(&sealed).unwrap(), b"an answer");
    Record::new("sealed-box")
        .hex("asker_secret", asker)
        .hex("asker_public", secret.public())
        .hex("ephemeral_secret", ephemeral)
        .hex("plaintext", b"an answer")
        .hex("sealed", sealed)
}

fn records() -> Vec<Record> {
    let long: Vec<u8> = (0..=255).cycle().take(1_000).collect();
    vec![
        seal_record("seal-one-byte", &[0]),
        seal_record("seal-text", b"The quick brown fox jumps over the lazy dog"),
        seal_record("seal-1000-bytes", &long),
        wrap_record(),
        box_record(),
    ]
}

#[test]
fn seals_headers_and_boxes_are_frozen() {
    freeze(FILE, INTRO, &records());
}

#[test]
fn a_second_implementation_seals_the_same() {
    for record in read(FILE).iter().filter(|record| record.name.starts_with("seal-")) {
        let (ck, plaintext) = (record.bytes("ck"), record.bytes("plaintext"));
        let nonce_key = oracle::expand::<32>(&ck, &[b"quloud/v1/seal-nonce"]);
        let nonce = &oracle::keyed_blake3(&nonce_key, &[&plaintext])[..24];
        let seal_key = oracle::expand::<32>(&ck, &[b"quloud/v1/seal"]);
        let secretbox = XSalsa20Poly1305::new(&seal_key.into());
        let nonce: [u8; 24] = nonce.try_into().unwrap();
        let boxed = secretbox.encrypt(&nonce.into(), plaintext.as_slice()).unwrap();
        let sealed = [nonce.as_slice(), &boxed].concat();
        assert_eq!(sealed, record.bytes("sealed"), "{}", record.name);

        let header = [
            &[1],
            record.number("generation").to_le_bytes().as_slice(),
            &record.bytes("Y"),
            &record.bytes("Z"),
            &record.bytes("D"),
            &u32::try_from(sealed.len()).unwrap().to_le_bytes(),
            &oracle::blake3(&sealed),
        ]
        .concat();
        assert_eq!(header, record.bytes("header"), "{}", record.name);
        assert_eq!(oracle::sha256(&[b"quloud/v1/chunk", &header]), record.array("id"));
    }
}

#[test]
fn frozen_chunks_open() {
    for record in read(FILE).iter().filter(|record| record.name.starts_with("seal-")) {
        let header = Header::decode(&record.bytes("header")).unwrap();
        let sealed = record.bytes("sealed");
        assert!(header.certifies(&sealed));
        assert_eq!(header.id().as_bytes(), &record.array("id"));
        let ck = ChunkKey::from_bytes(record.array("ck"));
        assert_eq!(seal::open(&ck, &header, &sealed).unwrap(), record.bytes("plaintext"));
    }
}

#[test]
fn a_second_implementation_opens_wraps_and_boxes() {
    let records = read(FILE);
    let wrap = records.iter().find(|record| record.name == "wrap").unwrap();
    let secretbox = XSalsa20Poly1305::new(&wrap.array::<32>("wrap_key").into());
    let wrapped = wrap.bytes("wrapped");
    let nonce: [u8; 24] = wrapped[..24].try_into().unwrap();
    assert_eq!(nonce, wrap.array("nonce"));
    let opened = secretbox.decrypt(&nonce.into(), &wrapped[24..]).unwrap();
    assert_eq!(opened, wrap.bytes("plaintext"));

    let answer = records.iter().find(|record| record.name == "sealed-box").unwrap();
    let mut opened = vec![0; answer.bytes("plaintext").len()];
    dryoc::classic::crypto_box::crypto_box_seal_open(
        &mut opened,
        &answer.bytes("sealed"),
        &answer.array("asker_public"),
        &answer.array("asker_secret"),
    )
    .unwrap();
    assert_eq!(opened, answer.bytes("plaintext"));
}
