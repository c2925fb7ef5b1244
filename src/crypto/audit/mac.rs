//! The other kind of answer, of one chunk: for an owner that has the bytes, or makes them again.

use super::super::expand;
use super::super::keys::PairKey;
use crate::core::types::ChunkId;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// What the MACs of one owner's chunks at one holder are made with: both have it. An audit derives
/// it once, for all of its chunks.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MacKey([u8; 32]);

impl MacKey {
    /// `Expand(pair, "quloud/v1/audit-mac")`.
    pub fn derive(pair: &PairKey) -> Self {
        Self(expand(pair.expose(), &[b"quloud/v1/audit-mac"]))
    }

    /// `HMAC-SHA256(key, seed 32 | id 32 | sealed)`.
    pub fn mac(&self, seed: &[u8; 32], id: &ChunkId, sealed: &[u8]) -> [u8; 32] {
        self.hmac(seed, id, sealed).finalize().into_bytes().into()
    }

    /// Whether `answer` is the [`Self::mac`] of these; in constant time.
    pub fn holds(&self, seed: &[u8; 32], id: &ChunkId, sealed: &[u8], answer: &[u8; 32]) -> bool {
        self.hmac(seed, id, sealed).verify_slice(answer).is_ok()
    }

    fn hmac(&self, seed: &[u8; 32], id: &ChunkId, sealed: &[u8]) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        [seed, id.as_bytes(), sealed].iter().for_each(|part| mac.update(part));
        mac
    }
}

impl PartialEq for MacKey {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for MacKey {}

impl std::fmt::Debug for MacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MacKey(..)")
    }
}
