//! Key files: what is written is read back, and nothing else is.

use super::*;
use crate::crypto::keys::Master;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

const GENERATION: u32 = 7;

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::from_seed([3; 32])
}

fn node() -> NodeKeys {
    NodeKeys::from_seeds([1; 32], [2; 32], [3; 32])
}

fn owner() -> OwnerKeys {
    OwnerKeys::derive(&Master::from_bytes([9; 32]), GENERATION)
}

fn plain_node() -> Zeroizing<Vec<u8>> {
    seal_node(&node(), Protection::None, &mut rng()).expect("no hash is made")
}

/// Gives bytes that were changed on purpose a checksum that fits.
fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let covered = bytes.len() - CHECKSUM_BYTES;
    let checksum = sha256(&[&bytes[..covered]]);
    bytes[covered..].copy_from_slice(&checksum);
    bytes
}

fn same_owner(left: &OwnerKeys, right: &OwnerKeys) -> bool {
    left.generation == right.generation
        && left.dedup.expose() == right.dedup.expose()
        && left.chunker.expose() == right.chunker.expose()
        && left.head.expose() == right.head.expose()
        && left.admin.expose() == right.admin.expose()
        && left.audit.expose() == right.audit.expose()
        && left.delete_root == right.delete_root
        && left.delete.as_ref().map(DeleteKey::expose)
            == right.delete.as_ref().map(DeleteKey::expose)
}

#[test]
fn a_plain_file_gives_the_keys_back() {
    let opened = open_node(&plain_node(), None).unwrap();
    assert_eq!(opened.to_seeds(), node().to_seeds());
    let bytes = seal_owner(&owner(), Protection::None, &mut rng()).unwrap();
    assert!(same_owner(&open_owner(&bytes, None).unwrap(), &owner()));
    assert!(bytes.len() <= KEY_FILE_BYTES_MAX);
}

#[test]
fn a_sealed_file_gives_the_keys_back_to_its_passphrase_only() {
    let bytes = seal_owner(&owner(), Protection::Passphrase("naïve pass"), &mut rng()).unwrap();
    assert!(bytes.len() <= KEY_FILE_BYTES_MAX);
    assert!(same_owner(&open_owner(&bytes, Some("naïve pass")).unwrap(), &owner()));
    assert_eq!(open_owner(&bytes, None).unwrap_err(), KeyFileError::PassphraseNeeded);
    for wrong in ["", "naive pass", "naïve pass "] {
        assert_eq!(open_owner(&bytes, Some(wrong)).unwrap_err(), KeyFileError::WrongPassphrase);
    }
    for secret in [owner().dedup.expose(), owner().admin.expose(), owner().audit.expose()] {
        assert!(!bytes.windows(8).any(|window| window == &secret[..8]), "a key shows");
    }
}

#[test]
fn a_device_without_the_delete_key_keeps_only_its_public_half() {
    let mut keys = owner();
    keys.delete = None;
    let bytes = seal_owner(&keys, Protection::None, &mut rng()).unwrap();
    let opened = open_owner(&bytes, None).unwrap();
    assert!(same_owner(&opened, &keys));
    let full = owner();
    let delete = full.delete.as_ref().unwrap().expose();
    assert!(!bytes.windows(32).any(|window| window == delete));
}

#[test]
fn every_changed_byte_and_every_cut_is_noticed() {
    let bytes = plain_node();
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        let expected = match at {
            0..8 => KeyFileError::NotAKeyFile,
            _ => KeyFileError::Damaged,
        };
        assert_eq!(open_node(&changed, None).unwrap_err(), expected, "byte {at}");
        assert!(open_node(&bytes[..at], None).is_err(), "cut at {at}");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(open_node(&longer, None).unwrap_err(), KeyFileError::Damaged);
    assert_eq!(open_node(&longer, Some("x")).unwrap_err(), KeyFileError::Damaged);
}

#[test]
fn a_newer_version_is_named_and_not_called_damaged() {
    let mut bytes = plain_node().to_vec();
    bytes[8] = 2;
    assert_eq!(open_node(&bytes, None).unwrap_err(), KeyFileError::NewerVersion(2));
    bytes[8] = 0;
    assert_eq!(open_node(&bytes, None).unwrap_err(), KeyFileError::Damaged);
}

#[test]
fn a_file_of_the_other_kind_is_refused() {
    let owner = seal_owner(&owner(), Protection::None, &mut rng()).unwrap();
    assert_eq!(open_node(&owner, None).unwrap_err(), KeyFileError::WrongKind);
    assert_eq!(open_owner(&plain_node(), None).unwrap_err(), KeyFileError::WrongKind);
}

#[test]
fn a_hostile_file_cannot_ask_for_a_terabyte_or_a_year() {
    let sealed = seal_node(&node(), Protection::Passphrase("p"), &mut rng()).unwrap();
    for (at, value, expected) in [
        (PREFIX_BYTES, 1 << 30, KeyFileError::TooCostly),
        (PREFIX_BYTES, (256 << 10) + 1, KeyFileError::TooCostly),
        (PREFIX_BYTES + 4, u32::MAX, KeyFileError::TooCostly),
        (PREFIX_BYTES + 8, 5, KeyFileError::TooCostly),
        (PREFIX_BYTES, 0, KeyFileError::Damaged),
        (PREFIX_BYTES + 4, 0, KeyFileError::Damaged),
        (PREFIX_BYTES + 8, 0, KeyFileError::Damaged),
    ] {
        let mut bytes = sealed.to_vec();
        bytes[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
        let bytes = with_checksum(bytes);
        assert_eq!(open_node(&bytes, Some("p")).unwrap_err(), expected, "{value} at {at}");
    }
}

#[test]
fn a_forged_box_behind_the_right_commitment_is_damage() {
    let mut bytes = seal_node(&node(), Protection::Passphrase("p"), &mut rng()).unwrap().to_vec();
    let last = bytes.len() - CHECKSUM_BYTES - 1;
    bytes[last] ^= 1;
    let error = open_node(&with_checksum(bytes), Some("p")).unwrap_err();
    assert_eq!(error, KeyFileError::Damaged);
}

#[test]
fn owner_content_that_contradicts_itself_is_damage() {
    let bytes = seal_owner(&owner(), Protection::None, &mut rng()).unwrap().to_vec();
    let root = PREFIX_BYTES + 4 + 5 * 32;
    // E of another key, E the identity, a flag that is neither yes nor no, a hidden delete key.
    for (at, value) in [(root, [0; 32].as_slice()), (root + 32, &[2]), (root + 32, &[0])] {
        let mut changed = bytes.clone();
        changed[at..at + value.len()].copy_from_slice(value);
        let error = open_owner(&with_checksum(changed), None).unwrap_err();
        assert_eq!(error, KeyFileError::Damaged, "at {at}");
    }
    let other = OwnerKeys::derive(&Master::from_bytes([8; 32]), GENERATION);
    let mut changed = bytes;
    changed[root..root + 32].copy_from_slice(&other.delete_root.to_bytes());
    assert_eq!(open_owner(&with_checksum(changed), None).unwrap_err(), KeyFileError::Damaged);
}

#[test]
fn a_passphrase_is_not_printed() {
    assert_eq!(format!("{:?}", Protection::Passphrase("hush")), "Passphrase(..)");
}
