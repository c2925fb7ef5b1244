//! Key derivation: master and words, purposes, chunk keys and scalars, accounts and pair keys.

use super::{Record, counted, freeze, oracle, read};
use quloud::crypto::keys::{ChunkKey, Master, NodeKeys, OwnerKeys};
use quloud::crypto::words;

const FILE: &str = "keys.txt";

const INTRO: &str = "\
Quloud test vectors: key derivation (PROTOCOL.md, sections \"Owner keys\" and \"Node keys\").

owner-*: the purposes of one generation, from the master; E is the delete root.
chunk-*: everything that derives from a chunk key and the owner's keys of generation 0.
         y, z, t, e and d are scalars, Y, Z and D points.
node:    a node's three secret seeds, its public names, and its signature over N.
pair-*:  the account of an owner at that node, and the key that the two share.";

pub(super) fn master() -> Master {
    Master::from_bytes(counted(0))
}

pub(super) fn owner() -> OwnerKeys {
    OwnerKeys::derive(&master(), 0)
}

pub(super) fn node() -> NodeKeys {
    NodeKeys::from_seeds(counted(0x40), counted(0x60), counted(0x80))
}

fn owner_record(generation: u32) -> Record {
    let keys = OwnerKeys::derive(&master(), generation);
    let delete = keys.delete.as_ref().expect("derived keys are complete");
    Record::new(&format!("owner-generation-{generation}"))
        .hex("master", master().expose())
        .text("words", words::to_words(&master()).as_str())
        .text("generation", generation)
        .hex("dedup", keys.dedup.expose())
        .hex("chunker", keys.chunker.expose())
        .hex("head", keys.head.expose())
        .hex("admin", keys.admin.expose())
        .hex("delete", delete.expose())
        .hex("audit", keys.audit.expose())
        .hex("E", keys.delete_root.to_bytes())
}

fn chunk_record(name: &str, variant: u8, kind: u8, plaintext: &[u8]) -> Record {
    let keys = owner();
    let delete = keys.delete.as_ref().expect("derived keys are complete");
    let ck = ChunkKey::derive(&keys.dedup, variant, kind, plaintext);
    let scalars = oracle::Scalars::derive(ck.expose(), keys.admin.expose(), delete.expose());
    let [read, admin, delete_point] = keys.points(&ck);
    Record::new(name)
        .hex("dedup", keys.dedup.expose())
        .hex("admin", keys.admin.expose())
        .hex("delete", delete.expose())
        .text("variant", variant)
        .text("kind", kind)
        .hex("plaintext", plaintext)
        .hex("ck", ck.expose())
        .hex("seal_key", ck.seal_key().expose())
        .hex("nonce_key", ck.nonce_key().expose())
        .hex("y", scalars.y.as_bytes())
        .hex("z", scalars.z.as_bytes())
        .hex("t", scalars.t.as_bytes())
        .hex("e", scalars.e.as_bytes())
        .hex("d", scalars.d.as_bytes())
        .hex("Y", read)
        .hex("Z", admin)
        .hex("D", delete_point)
}

fn node_record() -> Record {
    let node = node();
    let public = libp2p::identity::ed25519::PublicKey::try_from_bytes(node.node_id().as_bytes());
    let public = libp2p::identity::PublicKey::from(public.unwrap());
    Record::new("node")
        .hex("signing", counted::<32>(0x40))
        .hex("agreement", counted::<32>(0x60))
        .hex("wrap", counted::<32>(0x80))
        .hex("node_id", node.node_id().as_bytes())
        .text("peer_id", public.to_peer_id())
        .hex("N", node.agreement_key().0)
        .hex("agreement_signature", node.sign_agreement())
}

fn pair_record(generation: u32) -> Record {
    let (keys, node) = (OwnerKeys::derive(&master(), generation), node());
    let account = keys.account(&node.node_id());
    let pair = account.pair_key(&node.node_id(), &node.agreement_key()).unwrap();
    Record::new(&format!("pair-generation-{generation}"))
        .hex("audit", keys.audit.expose())
        .hex("node_id", node.node_id().as_bytes())
        .hex("N", node.agreement_key().0)
        .hex("account", account.account().as_bytes())
        .hex("pair_key", pair.expose())
}

fn records() -> Vec<Record> {
    vec![
        owner_record(0),
        owner_record(1),
        owner_record(u32::MAX),
        chunk_record("chunk-empty", 0, 0, b""),
        chunk_record("chunk-text", 0, 1, b"The quick brown fox jumps over the lazy dog"),
        chunk_record("chunk-other-kind", 0, 2, b"The quick brown fox jumps over the lazy dog"),
        chunk_record("chunk-other-variant", 1, 1, b"The quick brown fox jumps over the lazy dog"),
        node_record(),
        pair_record(0),
        pair_record(1),
    ]
}

#[test]
fn key_derivation_is_frozen() {
    freeze(FILE, INTRO, &records());
}

#[test]
fn a_second_implementation_derives_the_same_owner_keys() {
    for record in read(FILE).iter().filter(|record| record.name.starts_with("owner")) {
        let generation = record.number("generation").to_le_bytes();
        for purpose in ["dedup", "chunker", "head", "admin", "delete", "audit"] {
            let info: [&[u8]; 3] = [b"quloud/v1/", purpose.as_bytes(), &generation];
            let key = oracle::hkdf::<32>(&record.bytes("master"), &info);
            assert_eq!(key, record.array(purpose), "{purpose}");
        }
        let e = oracle::scalar(&record.bytes("delete"), &[b"quloud/v1/delete-root"]);
        assert_eq!(oracle::point(&e), record.array("E"));
        assert_eq!(
            words::from_words(record.get("words")).unwrap().expose(),
            &record.array("master")
        );
    }
}

#[test]
fn a_second_implementation_derives_the_same_chunk_keys() {
    for record in read(FILE).iter().filter(|record| record.name.starts_with("chunk")) {
        let byte = |field| u8::try_from(record.number(field)).unwrap();
        let plaintext = record.bytes("plaintext");
        let front = [byte("variant"), byte("kind")];
        let ck = oracle::keyed_blake3(&record.array("dedup"), &[&front, &plaintext]);
        assert_eq!(ck, record.array("ck"));
        assert_eq!(oracle::expand(&ck, &[b"quloud/v1/seal"]), record.array::<32>("seal_key"));
        let nonce_key = oracle::expand(&ck, &[b"quloud/v1/seal-nonce"]);
        assert_eq!(nonce_key, record.array::<32>("nonce_key"));
        let scalars = oracle::Scalars::derive(&ck, &record.bytes("admin"), &record.bytes("delete"));
        for (scalar, field, point) in
            [(scalars.y, "y", "Y"), (scalars.z, "z", "Z"), (scalars.d, "d", "D")]
        {
            assert_eq!(scalar.to_bytes(), record.array(field));
            assert_eq!(oracle::point(&scalar), record.array(point));
        }
    }
}

#[test]
fn a_second_implementation_makes_the_same_pairs() {
    use x25519_dalek::x25519;
    const BASE: [u8; 32] = x25519_dalek::X25519_BASEPOINT_BYTES;
    let records = read(FILE);
    let node = records.iter().find(|record| record.name == "node").unwrap();
    let secret: [u8; 32] = node.array("agreement");
    assert_eq!(x25519(secret, BASE), node.array("N"));
    for record in records.iter().filter(|record| record.name.starts_with("pair")) {
        let (node_id, public) = (record.bytes("node_id"), record.array::<32>("N"));
        let info: [&[u8]; 2] = [b"quloud/v1/account", &node_id];
        let account_secret = oracle::expand(&record.bytes("audit"), &info);
        let account = x25519(account_secret, BASE);
        assert_eq!(account, record.array("account"));
        let shared = x25519(account_secret, public);
        assert_eq!(shared, x25519(secret, account));
        let info: [&[u8]; 4] = [b"quloud/v1/pair", &account, &public, &node_id];
        assert_eq!(oracle::hkdf(&shared, &info), record.array::<32>("pair_key"));
    }
}

#[test]
fn a_second_implementation_makes_the_same_node_signature() {
    use ed25519_dalek::{Signer, SigningKey};
    let records = read(FILE);
    let node = records.iter().find(|record| record.name == "node").unwrap();
    let key = SigningKey::from_bytes(&node.array("signing"));
    assert_eq!(key.verifying_key().to_bytes(), node.array("node_id"));
    let statement = [b"\x13quloud/v1/agreement".as_slice(), &node.bytes("N")].concat();
    assert_eq!(key.sign(&statement).to_bytes(), node.array("agreement_signature"));
}
