//! Published vectors of the primitives, run through the functions that this crate uses, and what
//! all modules' tests share.

mod vectors;
mod wycheproof;

use super::keys::{ChunkKey, Master, OwnerKeys};
use super::*;
use hmac::{Hmac, KeyInit, Mac};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

/// The same generator in every test, unless one needs two.
pub(super) fn rng() -> ChaCha20Rng {
    ChaCha20Rng::from_seed([42; 32])
}

/// The keys of an owner, and of another one.
pub(super) fn owner(seed: u8) -> OwnerKeys {
    OwnerKeys::derive(&Master::from_bytes([seed; 32]), 0)
}

/// The owner of the frozen vectors: its master counts from 0.
fn owner_of_vectors(generation: u32) -> OwnerKeys {
    let mut master = [0; 32];
    master.iter_mut().zip(0..).for_each(|(byte, value)| *byte = value);
    OwnerKeys::derive(&Master::from_bytes(master), generation)
}

/// A chunk key of that owner.
pub(super) fn chunk_key(owner: &OwnerKeys, content: &[u8]) -> ChunkKey {
    ChunkKey::derive(&owner.dedup, 0, 1, content)
}

/// Bytes from hexadecimal text, in as many pieces as a line's length asks for.
pub(super) fn unhex(pieces: &[&str]) -> Vec<u8> {
    hex::decode(pieces.concat()).unwrap()
}

/// The same, where the length is part of the type.
pub(super) fn unhex_exact<const N: usize>(text: &str) -> [u8; N] {
    unhex(&[text]).try_into().unwrap()
}

#[test]
fn hkdf_gives_the_vectors_of_rfc_5869() {
    let prk = "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5";
    let info: Vec<u8> = (0xf0..=0xf9).collect();
    let okm =
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865";
    assert_eq!(hex::encode(expand::<42>(&unhex_exact(prk), &[&info])), okm);
    // The parts of an info are one info.
    let (left, right) = info.split_at(4);
    assert_eq!(hex::encode(expand::<42>(&unhex_exact(prk), &[left, right])), okm);

    let prk = "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244";
    let info: Vec<u8> = (0xb0..=0xff).collect();
    let okm = unhex(&[
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c6",
        "5e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ]);
    assert_eq!(expand::<82>(&unhex_exact(prk), &[&info]).as_slice(), okm);

    let (prk, _) = Hkdf::<Sha256>::extract(None, &[0x0b; 22]);
    let expected = "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04";
    assert_eq!(hex::encode(prk), expected);
    let okm =
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8";
    assert_eq!(hex::encode(expand::<42>(&unhex_exact(expected), &[])), okm);
}

#[test]
fn extract_and_expand_is_hkdf_without_a_salt() {
    let (prk, _) = Hkdf::<Sha256>::extract(None, &[7; 32]);
    let two_steps = expand::<32>(&prk.into(), &[b"info"]);
    assert_eq!(extract_and_expand::<32>(&[7; 32], &[b"in", b"fo"]), two_steps);
}

#[test]
fn hmac_gives_the_vectors_of_rfc_4231() {
    let long = b"This is a test using a larger than block-size key and a larger than block-size \
        data. The key needs to be hashed before being used by the HMAC algorithm.";
    let counted: Vec<u8> = (1..=25).collect();
    let cases: [(&[u8], &[u8], &str); 6] = [
        (
            &[0x0b; 20],
            b"Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            &[0xaa; 20],
            &[0xdd; 50],
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
        ),
        (&counted, &[0xcd; 50], "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
        (
            &[0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (&[0xaa; 131], long, "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"),
    ];
    for (key, message, expected) in cases {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(message);
        assert_eq!(hex::encode(mac.finalize().into_bytes()), expected);
    }
}

#[test]
fn keyed_blake3_gives_its_published_vectors() {
    let key = b"whats the Elvish word for friend";
    let empty = "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26";
    assert_eq!(hex::encode(keyed_hash(key, &[])), empty);
    let zero = "6d7878dfff2f485635d39013278ae14f1454b8c0a3a2d34bc1ab38228a80c95b";
    assert_eq!(hex::encode(keyed_hash(key, &[&[], &[0]])), zero);
}

/// Lengths of the project's test vectors: nothing, one byte, a chunk's end, many chunks.
#[test]
fn blake3_of_many_bytes_gives_its_published_vectors() {
    let bytes: Vec<u8> = (0..102_400).map(|at: u32| (at % 251) as u8).collect();
    let cases = [
        (0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
        (1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"),
        (1_024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"),
        (102_400, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085"),
    ];
    for (length, expected) in cases {
        let (bytes, _) = bytes.split_at(length);
        assert_eq!(hex::encode(bulk_hash(bytes)), expected, "{length} bytes");
    }
}

#[test]
fn a_mesh_is_called_by_the_hash_of_its_name() {
    let expected = sha256(&[b"quloud"]);
    assert_eq!(mesh_id("quloud").as_bytes(), &expected);
    assert_ne!(mesh_id("quloud"), mesh_id("Quloud"));
}
