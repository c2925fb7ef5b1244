//! The official BIP-39 vectors of 24 words, and what is not a set of words.

use super::*;
use crate::crypto::tests::unhex_exact;
use proptest::prelude::*;

/// From the reference implementation's vectors.json, the entries of 256 bits.
const VECTORS: [(&str, &str); 8] = [
    (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
         abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
         abandon art",
    ),
    (
        "7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f",
        "legal winner thank year wave sausage worth useful legal winner thank year wave sausage \
         worth useful legal winner thank year wave sausage worth title",
    ),
    (
        "8080808080808080808080808080808080808080808080808080808080808080",
        "letter advice cage absurd amount doctor acoustic avoid letter advice cage absurd amount \
         doctor acoustic avoid letter advice cage absurd amount doctor acoustic bless",
    ),
    (
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo \
         zoo vote",
    ),
    (
        "68a79eaca2324873eacc50cb9c6eca8cc68ea5d936f98787c60c7ebc74e6ce7c",
        "hamster diagram private dutch cause delay private meat slide toddler razor book happy \
         fancy gospel tennis maple dilemma loan word shrug inflict delay length",
    ),
    (
        "9f6a2878b2520799a44ef18bc7df394e7061a224d2c33cd015b157d746869863",
        "panda eyebrow bullet gorilla call smoke muffin taste mesh discover soft ostrich alcohol \
         speed nation flash devote level hobby quick inner drive ghost inside",
    ),
    (
        "066dca1a2bb7e8a1db2832148ce9933eea0f3ac9548d793112d9a95c9407efad",
        "all hour make first leader extend hole alien behind guard gospel lava path output \
         census museum junior mass reopen famous sing advance salt reform",
    ),
    (
        "f585c11aec520db57dd353c69554b21a89b20fb0650966fa0a9d6f74fd989d8f",
        "void come effort suffer camp survey warrior heavy shoot primary clutch crush open \
         amazing screen patrol group space point ten exist slush involve unfold",
    ),
];

#[test]
fn the_official_vectors_go_both_ways() {
    for (entropy, words) in VECTORS {
        let master = Master::from_bytes(unhex_exact(entropy));
        assert_eq!(to_words(&master).as_str(), words);
        assert_eq!(hex::encode(from_words(words).unwrap().expose()), entropy);
    }
}

#[test]
fn case_and_white_space_do_not_matter() {
    let (entropy, words) = VECTORS[4];
    let shouted = format!("\t {}\r\n", words.to_uppercase().replace(' ', "\n  "));
    assert_eq!(hex::encode(from_words(&shouted).unwrap().expose()), entropy);
}

#[test]
fn a_wrong_word_is_named_by_its_place_only() {
    let (_, words) = VECTORS[4];
    let error = from_words(&words.replace("private dutch", "private dutsch")).unwrap_err();
    assert_eq!(error, WordsError::Unknown(4));
    assert!(!error.to_string().contains("dutsch"));
    let (first, _) = words.rsplit_once(' ').unwrap();
    assert_eq!(from_words(first).unwrap_err(), WordsError::Count(23));
    assert_eq!(from_words(&format!("{words} zoo")).unwrap_err(), WordsError::Count(25));
    assert_eq!(from_words("").unwrap_err(), WordsError::Count(0));
}

#[test]
fn swapped_words_do_not_pass_the_checksum() {
    let (_, words) = VECTORS[4];
    let swapped = words.replace("hamster diagram", "diagram hamster");
    assert_eq!(from_words(&swapped).unwrap_err(), WordsError::Checksum);
}

proptest! {
    #[test]
    fn every_master_comes_back_from_its_words(entropy: [u8; 32]) {
        let words = to_words(&Master::from_bytes(entropy));
        prop_assert!(words.len() <= WORD_COUNT * (WORD_BYTES_MAX + 1));
        let master = from_words(&words).unwrap();
        prop_assert_eq!(master.expose(), &entropy);
    }

    #[test]
    fn no_text_makes_it_panic(text: String) {
        let _ = from_words(&text);
    }
}
