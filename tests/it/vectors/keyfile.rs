//! Key files: what an earlier version wrote is read for ever.

use super::{Fixed, Record, counted, freeze, keys, read};
use quloud::crypto::keyfile::{self, Protection};

const FILE: &str = "keyfile.txt";

const INTRO: &str = "\
Quloud test vectors: key files (PROTOCOL.md, section \"Keys at rest\").

salt and nonce are random in use. The keys are those of keys.txt: the node, and generation 0 of
the owner; owner-no-delete is of a device that was told to live without the delete key.";

fn protection(passphrase: Option<&str>) -> (Protection<'_>, Fixed) {
    match passphrase {
        Some(text) => {
            let rng = Fixed::new(&[&counted::<16>(0xc0), &counted::<24>(0xd0)]);
            (Protection::Passphrase(text), rng)
        }
        None => (Protection::None, Fixed::new(&[])),
    }
}

fn start(name: &str, passphrase: Option<&str>) -> Record {
    let record = Record::new(name);
    match passphrase {
        Some(text) => record
            .text("passphrase", text)
            .hex("salt", counted::<16>(0xc0))
            .hex("nonce", counted::<24>(0xd0)),
        None => record,
    }
}

fn node_record(name: &str, passphrase: Option<&str>) -> Record {
    let (protection, mut rng) = protection(passphrase);
    let file = keyfile::seal_node(&keys::node(), protection, &mut rng).unwrap();
    start(name, passphrase).hex("file", file.as_slice())
}

fn owner_record(name: &str, passphrase: Option<&str>, has_delete: bool) -> Record {
    let mut owner = keys::owner();
    owner.delete = owner.delete.filter(|_| has_delete);
    let (protection, mut rng) = protection(passphrase);
    let file = keyfile::seal_owner(&owner, protection, &mut rng).unwrap();
    start(name, passphrase).hex("file", file.as_slice())
}

fn records() -> Vec<Record> {
    vec![
        node_record("node-plain", None),
        node_record("node-sealed", Some("correct horse battery staple")),
        owner_record("owner-plain", None, true),
        owner_record("owner-no-delete", None, false),
        owner_record("owner-sealed", Some("Größe"), true),
    ]
}

#[test]
fn key_files_are_frozen() {
    freeze(FILE, INTRO, &records());
}

#[test]
fn every_frozen_key_file_is_read() {
    for record in read(FILE) {
        let passphrase = record.has("passphrase").then(|| record.get("passphrase"));
        let file = record.bytes("file");
        if record.name.starts_with("node") {
            let node = keyfile::open_node(&file, passphrase).unwrap();
            assert_eq!(node.to_seeds(), keys::node().to_seeds());
        } else {
            let owner = keyfile::open_owner(&file, passphrase).unwrap();
            assert_eq!(owner.dedup.expose(), keys::owner().dedup.expose());
            assert_eq!(owner.delete.is_some(), record.name != "owner-no-delete");
        }
    }
}
