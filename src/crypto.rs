//! Everything cryptographic, and nothing else: keys, sealing, proofs, signatures, words.
//!
//! Pure: no clock, no I/O, no randomness of the operating system. Whoever needs randomness passes
//! a generator in, so that the simulator replays a run from its seed. Every layout that is hashed,
//! signed or MACed is written down byte for byte in `proto/PROTOCOL.md`, with the same names.
//!
//! | file | what it holds |
//! |---|---|
//! | [`keys`] | the owner's key hierarchy and the node's own keys |
//! | [`words`] | 24 BIP-39 words to and from the owner master |
//! | [`keyfile`] | the derived keys at rest, under a passphrase or not |
//! | [`header`] | the chunk header and the self-certifying chunk id |
//! | [`seal`] | NaCl secretbox: the owner's seal, the holder's wrap, the sealed box of answers |
//! | [`ownership`] | the zero-knowledge proof of ownership |
//! | [`ack`] | receipts and signed acknowledgements |
//! | [`answer`] | the signature of an answer on a topic |
//! | [`head`] | the replaceable record that leads from the words to everything else |
//! | [`account`] | the MACs of account operations |
//! | [`standing`] | the MACs of a holder's question how it stands, and of the answer |
//! | [`audit`] | proofs of storage: tags, compact answers, MACs |
//! | [`capability`] | the read capability as text |

pub mod account;
pub mod ack;
pub mod answer;
pub mod audit;
pub mod capability;
pub mod head;
pub mod header;
pub mod keyfile;
pub mod keys;
pub mod ownership;
pub mod seal;
pub mod standing;
pub mod words;

use crate::core::types::MeshId;
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

/// The mesh called `name`: `SHA-256(name)`, in UTF-8 as it is given.
pub fn mesh_id(name: &str) -> MeshId {
    MeshId::from_bytes(sha256(&[name.as_bytes()]))
}

/// `HKDF-Expand(prk, info)` of RFC 5869 over SHA-256, for keys that are uniform already.
pub(crate) fn expand<const N: usize>(prk: &[u8; 32], info: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    let hkdf = Hkdf::<Sha256>::from_prk(prk).expect("32 bytes are a full SHA-256 PRK");
    hkdf.expand_multi_info(info, &mut out).expect("N is far below 255 * 32 bytes");
    out
}

/// `HKDF(salt = none, ikm, info)` of RFC 5869 over SHA-256, for inputs that are not uniform.
pub(crate) fn extract_and_expand<const N: usize>(ikm: &[u8; 32], info: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    let hkdf = Hkdf::<Sha256>::new(None, ikm);
    hkdf.expand_multi_info(info, &mut out).expect("N is far below 255 * 32 bytes");
    out
}

/// Keyed BLAKE3 over the concatenation of `parts`. Wipes the hasher, which holds the key.
pub(crate) fn keyed_hash(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = blake3::Hasher::new_keyed(key);
    for part in parts {
        hash.update(part);
    }
    let out = *hash.finalize().as_bytes();
    hash.zeroize();
    out
}

/// SHA-256 over the concatenation of `parts`.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// BLAKE3 without a key, of many bytes that are no secret: a whole sealed chunk. All short inputs
/// have [`sha256`].
pub(crate) fn bulk_hash(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

/// The next `N` bytes of a fixed layout whose whole length was checked before.
pub(crate) fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (head, tail) = rest.split_first_chunk::<N>().expect("the layout's length was checked");
    *rest = tail;
    *head
}

#[cfg(test)]
mod tests;
