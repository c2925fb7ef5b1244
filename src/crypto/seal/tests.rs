//! Seals and sealed boxes against NaCl's vector and two other implementations.

use super::*;
use crate::crypto::tests::{chunk_key, owner, rng, unhex, unhex_exact};
use ::crypto_secretbox::aead::Aead;
use ::crypto_secretbox::{KeyInit, XSalsa20Poly1305};
use proptest::prelude::*;

fn sealed_chunk(content: &[u8]) -> (ChunkKey, SealedChunk) {
    let keys = owner(1);
    let ck = chunk_key(&keys, content);
    let chunk = SealedChunk::new(&keys, &ck, Locality(0), content);
    (ck, chunk)
}

#[test]
fn secretbox_gives_the_vector_of_nacl() {
    let key: [u8; 32] =
        unhex_exact("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389");
    let nonce: [u8; 24] = unhex_exact("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37");
    let plaintext = unhex(&[
        "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d4",
        "5e6c61296cdc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a",
        "024a838f21af1fde048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f937763848645e0705",
    ]);
    let expected = unhex(&[
        "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c5",
        "31a1186ac0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8a",
        "b932164548e526ae90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622",
        "a43d14a6599b1f654cb45a74e355a5",
    ]);
    let sealed = secretbox(&key, nonce, &plaintext);
    assert_eq!(sealed[..NONCE_BYTES], nonce);
    assert_eq!(sealed[NONCE_BYTES..], expected);
    assert_eq!(secretbox_open(&key, &sealed).unwrap(), plaintext);
}

#[test]
fn a_chunk_opens_under_its_key_and_header_only() {
    let (ck, chunk) = sealed_chunk(b"content");
    assert_eq!(open(&ck, &chunk.header, &chunk.sealed).unwrap(), b"content");
    let (other_ck, other) = sealed_chunk(b"other");
    assert_eq!(open(&other_ck, &chunk.header, &chunk.sealed), Err(OpenError));
    assert_eq!(open(&ck, &other.header, &chunk.sealed), Err(OpenError));
    assert_eq!(open(&ck, &chunk.header, &other.sealed), Err(OpenError));
    assert_eq!(open(&ck, &chunk.header, &chunk.sealed[..39]), Err(OpenError));
    assert_eq!(open(&ck, &chunk.header, &[]), Err(OpenError));
}

/// Threat 6: a holder has nothing shorter to keep than what it was given, and none of it can be
/// made again from the rest.
#[test]
fn ciphertext_incompressible() {
    let line = |number: u32| format!("{{\"room\":\"attic\",\"number\":{number},\"heat\":19.5}}\n");
    let text = |number: u32| line(number).into_bytes().repeat(6_000);
    let mut plain: Vec<Vec<u8>> = (0..6).map(text).collect();
    plain.extend([vec![0; 256 << 10], vec![0; (256 << 10) - 1]]);
    let sealed: Vec<_> = plain.iter().map(|content| sealed_chunk(content).1.sealed).collect();
    let ratio = |bytes: Vec<u8>| {
        let packed = zstd::bulk::compress(&bytes, 19).unwrap();
        packed.len() as f64 / bytes.len() as f64
    };
    assert!(ratio(plain.concat()) < 0.01, "what the owner has is all but nothing");
    let all = ratio(sealed.concat());
    assert!(all >= 0.999, "{all}");
}

#[test]
fn every_changed_byte_of_a_seal_is_noticed() {
    let (ck, chunk) = sealed_chunk(b"content");
    for at in 0..chunk.sealed.len() {
        let mut changed = chunk.sealed.to_vec();
        changed[at] ^= 1;
        assert_eq!(open(&ck, &chunk.header, &changed), Err(OpenError), "byte {at}");
    }
}

#[test]
fn equal_content_of_one_owner_is_one_chunk_and_of_two_owners_is_two() {
    let (ck, first) = sealed_chunk(b"content");
    let (_, again) = sealed_chunk(b"content");
    assert_eq!(first.id(), again.id());
    assert_eq!(first.sealed, again.sealed);
    let keys = owner(2);
    let other_ck = chunk_key(&keys, b"content");
    let other = SealedChunk::new(&keys, &other_ck, Locality(0), b"content");
    assert_ne!(ck.expose(), other_ck.expose());
    assert_ne!(first.sealed, other.sealed);
}

#[test]
fn two_frames_under_one_key_never_share_a_nonce() {
    // The same content, framed by two compressors: same chunk key, different plaintext of the seal.
    let ck = chunk_key(&owner(1), b"content");
    let (left, right) = (seal(&ck, b"frame made by one"), seal(&ck, b"frame made by two"));
    assert_ne!(left[..NONCE_BYTES], right[..NONCE_BYTES]);
}

#[test]
fn a_wrap_is_different_each_time_and_opens_each_time() {
    let key = WrapKey::from_bytes([4; 32]);
    let mut rng = rng();
    let (left, right) = (wrap(&key, b"record", &mut rng), wrap(&key, b"record", &mut rng));
    assert_ne!(left, right);
    assert_eq!(unwrap(&key, &left).unwrap(), b"record");
    assert_eq!(unwrap(&key, &right).unwrap(), b"record");
    assert_eq!(unwrap(&WrapKey::from_bytes([5; 32]), &left), Err(OpenError));
}

#[test]
fn a_sealed_box_opens_for_its_asker_only() {
    let mut rng = rng();
    let (asker, other) = (AnswerSecret::generate(&mut rng), AnswerSecret::generate(&mut rng));
    let sealed = seal_to(&asker.public(), b"claim", &mut rng).unwrap();
    assert_eq!(sealed.len(), 5 + SEALED_BOX_OVERHEAD_BYTES);
    assert_eq!(asker.open(&sealed).unwrap(), b"claim");
    assert_eq!(other.open(&sealed), Err(OpenError));
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert_eq!(asker.open(&changed), Err(OpenError), "byte {at}");
        assert_eq!(asker.open(&sealed[..at]), Err(OpenError), "cut {at}");
    }
}

#[test]
fn sealed_boxes_are_those_of_libsodium() {
    let asker = AnswerSecret::generate(&mut rng());
    let (public, secret) = (asker.public(), asker.0.to_bytes());
    let ours = seal_to(&public, b"claim", &mut rng()).unwrap();
    let mut opened = [0; 5];
    crypto_box::crypto_box_seal_open(&mut opened, &ours, &public, &secret).unwrap();
    assert_eq!(&opened, b"claim");
    let mut theirs = [0; 5 + SEALED_BOX_OVERHEAD_BYTES];
    crypto_box::crypto_box_seal(&mut theirs, b"claim", &public).unwrap();
    assert_eq!(asker.open(&theirs).unwrap(), b"claim");
}

#[test]
fn nothing_is_sealed_to_a_key_of_small_order() {
    let mut one = [0; 32];
    one[0] = 1;
    let of_order_eight = "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800";
    for public in [[0; 32], one, unhex_exact(of_order_eight)] {
        assert!(seal_to(&public, b"claim", &mut rng()).is_none());
    }
}

#[test]
fn a_sealed_chunk_prints_its_id_only() {
    let (_, chunk) = sealed_chunk(b"content");
    assert_eq!(format!("{chunk:?}"), format!("SealedChunk({})", chunk.id()));
}

#[test]
fn a_chunk_has_the_tags_of_its_sealed_bytes() {
    let keys = owner(1);
    for length in [1, 3_544, 3_545, 50_000] {
        let frame = vec![6; length];
        let ck = chunk_key(&keys, &frame);
        let chunk = SealedChunk::new(&keys, &ck, Locality(0), &frame);
        assert_eq!(chunk.tags.len(), super::super::audit::tags_bytes(length + 40));
        assert_eq!(chunk.tags, keys.tag_key.tags(&chunk.header, &chunk.sealed).unwrap());
        assert_ne!(Some(chunk.tags.to_vec()), owner(2).tag_key.tags(&chunk.header, &chunk.sealed));
    }
}

#[test]
fn a_chunk_that_was_fetched_has_its_tags_again_and_other_bytes_have_none() {
    let (ck, chunk) = sealed_chunk(b"content");
    let keys = owner(1);
    let fetched = |header: Header, sealed: &[u8]| {
        let came = (header, Bytes::copy_from_slice(sealed));
        SealedChunk::fetched(&keys, &ck, Locality(7), came)
    };
    let again = fetched(chunk.header, &chunk.sealed).unwrap();
    assert_eq!((again.id(), again.locality), (chunk.id(), Locality(7)));
    assert_eq!((&again.sealed, &again.tags), (&chunk.sealed, &chunk.tags));
    assert_eq!(again.admin.point(), chunk.header.admin);
    assert!(fetched(chunk.header, &chunk.sealed[1..]).is_none());
    assert!(fetched(Header { generation: 1, ..chunk.header }, &chunk.sealed).is_none());
}

proptest! {
    #[test]
    fn a_seal_is_the_secretbox_of_another_implementation(
        key: [u8; 32], nonce: [u8; 24], plaintext: Vec<u8>,
    ) {
        let sealed = secretbox(&key, nonce, &plaintext);
        let oracle = XSalsa20Poly1305::new(&key.into());
        let expected = oracle.encrypt(&nonce.into(), plaintext.as_slice()).unwrap();
        prop_assert_eq!(&sealed[NONCE_BYTES..], expected.as_slice());
        prop_assert_eq!(oracle.decrypt(&nonce.into(), &sealed[NONCE_BYTES..]).unwrap(), plaintext);
    }

    #[test]
    fn what_is_sealed_opens(content: Vec<u8>, seed: u8) {
        let keys = owner(seed);
        let ck = chunk_key(&keys, &content);
        let chunk = SealedChunk::new(&keys, &ck, Locality(0), &content);
        prop_assert_eq!(chunk.sealed.len(), content.len() + SEAL_OVERHEAD_BYTES);
        prop_assert!(chunk.header.certifies(&chunk.sealed));
        prop_assert_eq!(open(&ck, &chunk.header, &chunk.sealed).unwrap(), content);
    }
}

#[test]
fn a_chunk_sealed_in_place_is_the_same_chunk() {
    let keys = owner(1);
    let ck = chunk_key(&keys, b"content");
    for length in [1, 31, 32, 33, 1000, 70_000] {
        let frame = vec![6; length];
        let chunk = SealedChunk::new(&keys, &ck, Locality(0), &frame);
        let mut bytes = vec![0xee; SEAL_OVERHEAD_BYTES];
        bytes.extend_from_slice(&frame);
        let in_place = SealedChunk::in_place(&keys, &ck, Locality(0), bytes);
        assert_eq!((in_place.id(), &in_place.sealed), (chunk.id(), &chunk.sealed));
        let nonce = *in_place.sealed.first_chunk().unwrap();
        assert_eq!(in_place.sealed, secretbox(ck.seal_key().expose(), nonce, &frame));
        assert_eq!(open(&ck, &in_place.header, &in_place.sealed).unwrap(), frame);
    }
}
