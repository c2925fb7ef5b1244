//! Capabilities: what is written is read back, and a changed character is always noticed.

use super::*;
use bech32::Bech32;
use proptest::prelude::*;

fn capability() -> Capability {
    Capability {
        id: ChunkId::from_bytes([0xab; 32]),
        locality: Locality(0x1234),
        ck: ChunkKey::from_bytes([0xcd; 32]),
    }
}

fn is_same(left: &Capability, right: &Capability) -> bool {
    left.id == right.id && left.locality == right.locality && left.ck.expose() == right.ck.expose()
}

/// The text of any payload under any checksum.
fn text<C: bech32::Checksum>(payload: &[u8]) -> String {
    bech32::encode::<C>(PREFIX, payload).unwrap()
}

#[test]
fn a_capability_comes_back_from_its_text() {
    let text = capability().encode();
    assert_eq!(text.len(), TEXT_BYTES);
    assert!(text.starts_with("quloud1"));
    for form in [text.to_string(), text.to_uppercase(), format!(" \n{}\t", text.as_str())] {
        assert!(is_same(&Capability::decode(&form).unwrap(), &capability()));
    }
}

#[test]
fn a_flipped_character_always_fails_at_every_place() {
    const ALPHABET: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l1bioQ \u{e9}";
    let text = capability().encode();
    for at in 0..text.len() {
        for other in ALPHABET.chars() {
            let flipped: String = text
                .chars()
                .enumerate()
                .map(|(place, c)| if place == at { other } else { c })
                .collect();
            let accepted = Capability::decode(&flipped).is_ok();
            assert_eq!(accepted, flipped == *text, "{other} at {at}");
        }
    }
}

#[test]
fn lost_added_and_swapped_characters_fail() {
    let text = capability().encode();
    for at in 0..text.len() {
        let (front, back) = text.split_at(at);
        let lost = format!("{front}{}", &back[1..]);
        assert!(Capability::decode(&lost).is_err(), "lost {at}");
        let cut = Capability::decode(front);
        assert!(cut.is_err(), "cut {at}");
        let doubled = format!("{front}{}{back}", &back[..1]);
        assert!(Capability::decode(&doubled).is_err(), "doubled {at}");
        let mut swapped: Vec<char> = text.chars().collect();
        if at > 0 && swapped[at] != swapped[at - 1] {
            swapped.swap(at, at - 1);
            let swapped: String = swapped.into_iter().collect();
            assert!(Capability::decode(&swapped).is_err(), "swapped {at}");
        }
    }
}

#[test]
fn a_newer_version_is_named() {
    let mut payload = vec![2];
    payload.extend([0; 100]);
    let error = Capability::decode(&text::<Bech32m>(&payload)).unwrap_err();
    assert_eq!(error, CapabilityError::Version(2));
}

#[test]
fn a_wrong_length_or_checksum_kind_is_refused() {
    for bytes in [1, 33, 66, 68, 200] {
        let mut payload = vec![0; bytes];
        payload[0] = VERSION;
        let error = Capability::decode(&text::<Bech32m>(&payload)).unwrap_err();
        assert_eq!(error, CapabilityError::Length, "{bytes}");
    }
    assert_eq!(Capability::decode("quloud1").unwrap_err(), CapabilityError::Checksum);
    assert_eq!(Capability::decode("qul\u{e9}ud1qqqq").unwrap_err(), CapabilityError::Prefix);
    let mut payload = vec![0; PAYLOAD_BYTES];
    payload[0] = VERSION;
    let error = Capability::decode(&text::<Bech32>(&payload)).unwrap_err();
    assert_eq!(error, CapabilityError::Checksum);
    let other = bech32::encode::<Bech32m>(Hrp::parse("quloudy").unwrap(), &payload).unwrap();
    assert!(Capability::decode(&other).is_err());
}

#[test]
fn nothing_secret_is_printed() {
    let printed = format!("{:?}", capability());
    assert!(printed.contains("ChunkKey(..)"), "{printed}");
    assert!(!printed.contains("cdcd") && !printed.contains("205, 205"), "{printed}");
}

proptest! {
    #[test]
    fn every_capability_comes_back(id: [u8; 32], locality: u16, ck: [u8; 32]) {
        let made = Capability {
            id: ChunkId::from_bytes(id),
            locality: Locality(locality),
            ck: ChunkKey::from_bytes(ck),
        };
        prop_assert!(is_same(&Capability::decode(&made.encode()).unwrap(), &made));
    }

    #[test]
    fn no_text_makes_it_panic(text: String) {
        let _ = Capability::decode(&text);
        let _ = Capability::decode(&format!("quloud1{text}"));
    }
}
