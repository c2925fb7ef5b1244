//! The owner master as 24 English BIP-39 words, and back.
//!
//! Only the entropy half of BIP-39 is used: 256 bits of entropy and an 8-bit checksum make 24
//! words. The seed derivation of BIP-39 (PBKDF2) is not: the entropy *is* the master.

use super::keys::Master;
use bip39::{Language, Mnemonic};
use zeroize::{Zeroize, Zeroizing};

/// Number of recovery words.
pub const WORD_COUNT: usize = 24;

/// The longest word of the English list.
const WORD_BYTES_MAX: usize = 8;

/// Why a text is not a set of recovery words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// Not 24 words.
    #[error("expected {WORD_COUNT} words, found {0}")]
    Count(usize),
    /// The word at this place (from 1) is not in the list. The word itself is a secret: not shown.
    #[error("word {0} is not in the English BIP-39 list")]
    Unknown(usize),
    /// All words exist, but they do not fit together: one is wrong or two are swapped.
    #[error("the words' checksum does not match")]
    Checksum,
}

/// The 24 words of `master`, separated by single spaces.
pub fn to_words(master: &Master) -> Zeroizing<String> {
    let mnemonic = Mnemonic::from_entropy_in(Language::English, master.expose())
        .expect("32 bytes are a valid BIP-39 entropy length");
    // Room for all of it: a string that grows leaves copies of the secret behind.
    let mut text = Zeroizing::new(String::with_capacity(WORD_COUNT * (WORD_BYTES_MAX + 1)));
    for word in mnemonic.words() {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
    text
}

/// The master of 24 words: any white space between them, any case.
///
/// # Errors
/// [`WordsError`] says which word is wrong by its place, never by its text.
pub fn from_words(text: &str) -> Result<Master, WordsError> {
    let lower = Zeroizing::new(text.to_ascii_lowercase());
    let words: Vec<&str> = lower.split_whitespace().collect();
    if words.len() != WORD_COUNT {
        return Err(WordsError::Count(words.len()));
    }
    if let Some(at) = words.iter().position(|word| Language::English.find_word(word).is_none()) {
        return Err(WordsError::Unknown(at + 1));
    }
    let joined = Zeroizing::new(words.join(" "));
    let mnemonic = Mnemonic::parse_in_normalized(Language::English, &joined)
        .map_err(|_| WordsError::Checksum)?;
    let (mut entropy, length) = mnemonic.to_entropy_array();
    let mut master = [0; 32];
    let exact = entropy.get(..length).filter(|bytes| bytes.len() == master.len());
    let result = match exact {
        Some(bytes) => {
            master.copy_from_slice(bytes);
            Ok(Master::from_bytes(master))
        }
        None => Err(WordsError::Checksum),
    };
    entropy.zeroize();
    master.zeroize();
    result
}

#[cfg(test)]
mod tests;
