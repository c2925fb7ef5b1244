//! NaCl secretbox (XSalsa20-Poly1305): the owner's seal, the holder's wrap, and sealed boxes.
//!
//! - **Seal**: `E_owner(plaintext)`; the nonce is a keyed hash of the exact plaintext, so equal
//!   input gives equal output (deduplication) and different input never shares a keystream. The
//!   nonce travels in front: `sealed = nonce (24) || mac (16) || ciphertext`.
//! - **Wrap**: `E_holder(anything)` under the node's wrap key with a random nonce in front.
//! - **Sealed box**: libsodium's `crypto_box_seal`, for answers to an anonymous asker.

use super::expand;
use super::header::Header;
use super::keyed_hash;
use super::keys::{ChunkKey, ChunkSecret, OwnerKeys, WrapKey, random};
use crate::core::types::{ChunkId, Locality};
use bytes::Bytes;
use dryoc::classic::{crypto_box, crypto_generichash, crypto_secretbox};
use rand::CryptoRng;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// Bytes that a seal or a wrap adds: nonce 24, Poly1305 tag 16.
pub const SEAL_OVERHEAD_BYTES: usize = NONCE_BYTES + MAC_BYTES;

/// Bytes that a sealed box adds: ephemeral public key 32, Poly1305 tag 16.
pub const SEALED_BOX_OVERHEAD_BYTES: usize = 32 + MAC_BYTES;

pub(crate) const NONCE_BYTES: usize = 24;
const MAC_BYTES: usize = 16;

/// The box does not open: wrong key, or not the bytes that were sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the box does not open under this key")]
pub struct OpenError;

/// Seals a chunk's frame under its key: `nonce || secretbox`, [`SEAL_OVERHEAD_BYTES`] longer.
pub fn seal(ck: &ChunkKey, plaintext: &[u8]) -> Vec<u8> {
    let mut sealed = behind_room(plaintext);
    seal_in_place(ck, &mut sealed);
    sealed
}

/// `plaintext` behind room for what a seal adds.
fn behind_room(plaintext: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(SEAL_OVERHEAD_BYTES + plaintext.len());
    out.extend_from_slice(&[0; SEAL_OVERHEAD_BYTES]);
    out.extend_from_slice(plaintext);
    out
}

/// [`seal`] of what stands in `bytes` behind [`SEAL_OVERHEAD_BYTES`] of any kind, over all of it.
///
/// # Panics
/// Where `bytes` is shorter than that.
fn seal_in_place(ck: &ChunkKey, bytes: &mut [u8]) {
    let (head, text) = bytes.split_at_mut(SEAL_OVERHEAD_BYTES);
    let hash = keyed_hash(ck.nonce_key().expose(), &[text]);
    let mut nonce = [0; NONCE_BYTES];
    nonce.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    let mut mac = [0; MAC_BYTES];
    // The same function as `crypto_secretbox_detached`, which has no form in place.
    let key = ck.seal_key();
    crypto_box::crypto_box_detached_afternm_inplace(text, &mut mac, &nonce, key.expose());
    head.iter_mut().zip(nonce.into_iter().chain(mac)).for_each(|(to, from)| *to = from);
}

/// Opens the sealed bytes of the chunk with this header, which the caller has checked against the
/// header and the chunk's id.
///
/// Y of the header must be the key's own before anything is decrypted: that commits the key, which
/// XSalsa20-Poly1305 alone does not (whoever knows two keys can make bytes that open under both).
///
/// # Errors
/// [`OpenError`].
pub fn open(ck: &ChunkKey, header: &Header, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    if ck.read_secret().point() != header.read {
        return Err(OpenError);
    }
    secretbox_open(ck.seal_key().expose(), sealed)
}

/// Wraps bytes at rest under the holder's own key with a random nonce.
pub fn wrap(key: &WrapKey, plaintext: &[u8], rng: &mut impl CryptoRng) -> Vec<u8> {
    secretbox(key.expose(), random(rng), plaintext)
}

/// [`wrap`] into `out`, which is [`SEAL_OVERHEAD_BYTES`] longer than `plaintext`: the store writes
/// a record without copying its largest part once more. The caller sees to it that no nonce is used
/// twice under a key.
///
/// # Panics
/// Where `out` has another length.
pub(crate) fn wrap_into(key: &WrapKey, nonce: [u8; NONCE_BYTES], plaintext: &[u8], out: &mut [u8]) {
    secretbox_into(key.expose(), nonce, plaintext, out);
}

/// [`wrap`] without randomness: the nonce is the first 24 bytes of a keyed BLAKE3 hash of
/// `context` (its length as a `u64` in front) and the plaintext, under a key of its own. Equal
/// input gives equal output, which is all it shows.
pub fn wrap_synthetic(key: &WrapKey, context: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let nonce_key = zeroize::Zeroizing::new(expand::<32>(key.expose(), &[b"quloud/v1/wrap-nonce"]));
    let mut hash = blake3::Hasher::new_keyed(&nonce_key);
    hash.update(&(context.len() as u64).to_le_bytes());
    hash.update(context);
    hash.update(plaintext);
    let mut nonce = [0; NONCE_BYTES];
    nonce.iter_mut().zip(hash.finalize().as_bytes()).for_each(|(to, from)| *to = *from);
    zeroize::Zeroize::zeroize(&mut hash);
    secretbox(key.expose(), nonce, plaintext)
}

/// Opens what [`wrap`] and [`wrap_synthetic`] made.
///
/// # Errors
/// [`OpenError`].
pub fn unwrap(key: &WrapKey, wrapped: &[u8]) -> Result<Vec<u8>, OpenError> {
    secretbox_open(key.expose(), wrapped)
}

pub(super) fn secretbox(key: &[u8; 32], nonce: [u8; NONCE_BYTES], plaintext: &[u8]) -> Vec<u8> {
    let mut out = vec![0; plaintext.len() + SEAL_OVERHEAD_BYTES];
    secretbox_into(key, nonce, plaintext, &mut out);
    out
}

fn secretbox_into(key: &[u8; 32], nonce: [u8; NONCE_BYTES], plaintext: &[u8], out: &mut [u8]) {
    let (head, body) = out.split_at_mut(NONCE_BYTES);
    head.copy_from_slice(&nonce);
    crypto_secretbox::crypto_secretbox_easy(body, plaintext, &nonce, key)
        .expect("the output has the plaintext's length and the tag's");
}

pub(super) fn secretbox_open(key: &[u8; 32], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    let (nonce, body) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(OpenError)?;
    let length = body.len().checked_sub(MAC_BYTES).ok_or(OpenError)?;
    let mut out = vec![0; length];
    crypto_secretbox::crypto_secretbox_open_easy(&mut out, body, nonce, key)
        .map_err(|_| OpenError)?;
    Ok(out)
}

/// An asker's one-time key, to which answers on a topic are sealed.
pub struct AnswerSecret(StaticSecret);

impl AnswerSecret {
    /// A new key pair from `rng`.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self(StaticSecret::from(random::<32>(rng)))
    }

    /// The public half, which the request carries: 32 bytes.
    pub fn public(&self) -> [u8; 32] {
        PublicKey::from(&self.0).to_bytes()
    }

    /// Opens an answer sealed to this key.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let length = sealed.len().checked_sub(SEALED_BOX_OVERHEAD_BYTES).ok_or(OpenError)?;
        let mut out = vec![0; length];
        let secret = Zeroizing::new(self.0.to_bytes());
        crypto_box::crypto_box_seal_open(&mut out, sealed, &self.public(), &secret)
            .map_err(|_| OpenError)?;
        Ok(out)
    }
}

impl std::fmt::Debug for AnswerSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AnswerSecret(..)")
    }
}

/// Seals `plaintext` to `public` (libsodium `crypto_box_seal`): ephemeral key, tag, ciphertext.
///
/// `None` where `public` is of small order.
pub fn seal_to(public: &[u8; 32], plaintext: &[u8], rng: &mut impl CryptoRng) -> Option<Vec<u8>> {
    let secret = StaticSecret::from(random::<32>(rng));
    if !secret.diffie_hellman(&PublicKey::from(*public)).was_contributory() {
        return None;
    }
    let ephemeral = PublicKey::from(&secret).to_bytes();
    let mut nonce = [0; NONCE_BYTES];
    let input = [ephemeral, *public].concat();
    crypto_generichash::crypto_generichash(&mut nonce, &input, None).ok()?;
    let mut out = vec![0; plaintext.len() + SEALED_BOX_OVERHEAD_BYTES];
    let (head, body) = out.split_at_mut(ephemeral.len());
    head.copy_from_slice(&ephemeral);
    let secret = Zeroizing::new(secret.to_bytes());
    crypto_box::crypto_box_easy(body, plaintext, &nonce, public, &secret).ok()?;
    Some(out)
}

/// A chunk that is ready to be stored: all that its holders will ever see of it, and the secret
/// that lets this device administer it.
pub struct SealedChunk {
    /// What the id certifies.
    pub header: Header,
    /// Where its topics are.
    pub locality: Locality,
    /// z.
    pub admin: ChunkSecret,
    /// `nonce || secretbox`.
    pub sealed: Bytes,
    /// What its holders prove by that they have it: [`tags_bytes`](super::audit::tags_bytes).
    pub tags: Bytes,
}

impl SealedChunk {
    /// Seals `plaintext` (an exact, padded frame) under `ck` with the points of `keys`.
    pub fn new(keys: &OwnerKeys, ck: &ChunkKey, locality: Locality, plaintext: &[u8]) -> Self {
        Self::in_place(keys, ck, locality, behind_room(plaintext))
    }

    /// [`Self::new`] of what stands in `bytes` behind [`SEAL_OVERHEAD_BYTES`] of any kind; the
    /// chunk's bytes are where the plaintext was.
    ///
    /// # Panics
    /// Where `bytes` is shorter than that.
    pub fn in_place<B>(keys: &OwnerKeys, ck: &ChunkKey, locality: Locality, mut bytes: B) -> Self
    where
        B: AsRef<[u8]> + AsMut<[u8]> + Send + 'static,
    {
        seal_in_place(ck, bytes.as_mut());
        let sealed = Bytes::from_owner(bytes);
        let header = Header::new(keys.generation, keys.points(ck), &sealed);
        // The header is of these very bytes: it need not be asked whether it certifies them.
        let tags = Bytes::from(keys.tag_key.tags_of_certified(&header, &sealed));
        Self { header, locality, admin: keys.admin.chunk_secret(ck), sealed, tags }
    }

    /// The chunk whose header and sealed bytes came back from a holder, ready to be stored once
    /// more. `None` where these are not the bytes that the header certifies, or it is of another
    /// generation than `keys`.
    pub fn fetched(
        keys: &OwnerKeys,
        ck: &ChunkKey,
        locality: Locality,
        (header, sealed): (Header, Bytes),
    ) -> Option<Self> {
        let tags = Bytes::from(keys.tag_key.tags(&header, &sealed)?);
        Some(Self { header, locality, admin: keys.admin.chunk_secret(ck), sealed, tags })
    }

    /// A copy for a second user of the same chunk, with the same bytes and tags in memory;
    /// explicit, because secrets are not `Clone`.
    pub fn duplicate(&self) -> Self {
        let (sealed, tags) = (self.sealed.clone(), self.tags.clone());
        let (header, locality) = (self.header, self.locality);
        Self { header, locality, admin: self.admin.duplicate(), sealed, tags }
    }

    /// The chunk's id.
    pub fn id(&self) -> ChunkId {
        self.header.id()
    }
}

/// The id only: the bytes are long, and the points link chunks.
impl std::fmt::Debug for SealedChunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealedChunk({})", self.id())
    }
}

#[cfg(test)]
mod tests;
