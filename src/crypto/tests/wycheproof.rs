//! Project Wycheproof: edge cases and known attacks on Ed25519, X25519, HMAC and HKDF.

use crate::core::types::NodeId;
use crate::crypto::keys::verify_signature;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wycheproof::TestResult;
use x25519_dalek::{PublicKey, StaticSecret};

#[test]
fn ed25519_accepts_what_is_valid_and_nothing_else() {
    let set = wycheproof::eddsa::TestSet::load(wycheproof::eddsa::TestName::Ed25519).unwrap();
    let mut count = 0;
    for group in &set.test_groups {
        let node = NodeId::from_slice(&group.key.pk).unwrap();
        for test in &group.tests {
            let signature: Result<[u8; 64], _> = test.sig.as_slice().try_into();
            let accepted = signature.is_ok_and(|sig| verify_signature(&node, &test.msg, &sig));
            assert_eq!(accepted, test.result == TestResult::Valid, "case {}", test.tc_id);
            count += 1;
        }
    }
    assert!(count >= 140, "{count} cases");
}

#[test]
fn x25519_gives_the_shared_secret_and_tells_the_trivial_ones() {
    let set = wycheproof::xdh::TestSet::load(wycheproof::xdh::TestName::X25519).unwrap();
    let mut count = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let Ok(public) = <[u8; 32]>::try_from(test.public_key.as_slice()) else {
            assert_eq!(test.result, TestResult::Invalid, "case {}", test.tc_id);
            continue;
        };
        let private: [u8; 32] = test.private_key.as_slice().try_into().unwrap();
        let shared = StaticSecret::from(private).diffie_hellman(&PublicKey::from(public));
        assert_eq!(shared.as_bytes(), test.shared_secret.as_slice(), "case {}", test.tc_id);
        let trivial = test.shared_secret.iter().all(|byte| *byte == 0);
        assert_eq!(shared.was_contributory(), !trivial, "case {}", test.tc_id);
        count += 1;
    }
    assert!(count >= 500, "{count} cases");
}

#[test]
fn hmac_sha256_accepts_what_is_valid_and_nothing_else() {
    let set = wycheproof::mac::TestSet::load(wycheproof::mac::TestName::HmacSha256).unwrap();
    let mut count = 0;
    for group in &set.test_groups {
        for test in &group.tests {
            let mut mac = Hmac::<Sha256>::new_from_slice(&test.key).unwrap();
            mac.update(&test.msg);
            let accepted = match test.tag.len() {
                32 => mac.verify_slice(&test.tag).is_ok(),
                _ => mac.verify_truncated_left(&test.tag).is_ok(),
            };
            assert_eq!(accepted, test.result == TestResult::Valid, "case {}", test.tc_id);
            count += 1;
        }
    }
    assert!(count >= 150, "{count} cases");
}

#[test]
fn hkdf_sha256_gives_the_key_or_refuses_the_length() {
    let set = wycheproof::hkdf::TestSet::load(wycheproof::hkdf::TestName::HkdfSha256).unwrap();
    let mut count = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let mut okm = vec![0; test.size];
        let made = Hkdf::<Sha256>::new(Some(&test.salt), &test.ikm).expand(&test.info, &mut okm);
        let accepted = made.is_ok() && okm == test.okm.as_slice();
        assert_eq!(accepted, test.result != TestResult::Invalid, "case {}", test.tc_id);
        count += 1;
    }
    assert!(count >= 80, "{count} cases");
}
