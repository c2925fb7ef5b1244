//! Headers: one encoding for each, and an id that nothing else has.

use super::*;
use crate::crypto::tests::{chunk_key, owner};
use proptest::prelude::*;

fn header() -> Header {
    let keys = owner(1);
    Header::new(0, keys.points(&chunk_key(&keys, b"content")), &[7; 100])
}

#[test]
fn a_header_comes_back_from_its_bytes() {
    let header = header();
    assert_eq!(Header::decode(&header.encode()), Ok(header));
    assert!(header.certifies(&[7; 100]));
}

#[test]
fn other_bytes_are_not_certified() {
    let header = header();
    assert!(!header.certifies(&[7; 99]));
    assert!(!header.certifies(&[7; 101]));
    assert!(!header.certifies(&[8; 100]));
    assert!(!header.certifies(&[]));
}

#[test]
fn the_id_depends_on_every_byte_of_the_header() {
    let encoded = header().encode();
    for at in 1..HEADER_BYTES {
        let mut changed = encoded;
        changed[at] ^= 1;
        // Most changed points are no points; then there is no header, and no id either.
        if let Ok(other) = Header::decode(&changed) {
            assert_ne!(other.id(), header().id(), "byte {at}");
        }
    }
}

#[test]
fn the_identity_is_no_owner() {
    for at in [5, 37, 69] {
        let mut changed = header().encode();
        changed[at..at + 32].fill(0);
        assert_eq!(Header::decode(&changed), Err(HeaderError::Point));
    }
}

#[test]
fn sealed_lengths_have_bounds() {
    for (length, expected) in [
        (0, false),
        (40, false),
        (41, true),
        (CHUNK_SEALED_BYTES_MAX, true),
        (CHUNK_SEALED_BYTES_MAX + 1, false),
        (u32::MAX, false),
    ] {
        let changed = Header { sealed_bytes: length, ..header() };
        assert_eq!(Header::decode(&changed.encode()).is_ok(), expected, "{length}");
    }
}

proptest! {
    #[test]
    fn what_decodes_encodes_to_the_same_bytes(bytes: Vec<u8>, at in 0..HEADER_BYTES, to: u8) {
        let _ = Header::decode(&bytes);
        let mut changed = header().encode();
        changed[at] = to;
        if let Ok(header) = Header::decode(&changed) {
            prop_assert_eq!(header.encode(), changed);
        }
    }
}
