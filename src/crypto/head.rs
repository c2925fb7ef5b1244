//! Heads: the only records of an owner that are replaced.
//!
//! A head leads from the words to everything else. Its keys follow from the head key, a generation
//! and an index alone, so whoever has the words can ask for it on a mesh it has never seen; each
//! device of an owner writes the head of its own index.
//!
//! A **record** is one number of a head, and it is public: its signature names no verifier, no time
//! and nobody who asked, so that anyone can check it and pass it on. Its payload is a secretbox of
//! one length, whatever it says. Keys, with `i = index u16 || generation u32`, little-endian:
//!
//! ```text
//! y_h = scalar(head, "quloud/v1/head-read" || i)          Y_h: who proves it may fetch
//! z_h = scalar(head, "quloud/v1/head-sign" || i)          Z_h: signs, and proves who may store
//! seal key  = Expand(head, "quloud/v1/head-seal" || i)
//! nonce key = Expand(head, "quloud/v1/head-seal-nonce" || i)
//! head id   = SHA-256("quloud/v1/head-id" || Y_h || Z_h)
//! ```
//!
//! A record, 2,221 bytes:
//!
//! ```text
//! version u8 = 1 | generation u32 | Y_h 32 | Z_h 32 | number u64 | previous 32 | sealed 2048
//! | signature 64
//! ```
//!
//! `number` is 1 first; `previous` is the hash of the record before, zeros where it is not known.
//! The statement is all before the signature, and
//! `record hash = SHA-256("quloud/v1/head-record" || statement)`. The signature is a Schnorr
//! signature of knowledge as in [`ownership`](super::ownership), with strings of its own:
//!
//! ```text
//! r = H512("quloud/v1/head-nonce", z_h || fresh 32 || record hash)       R = r*G
//! c = H512("quloud/v1/head-challenge", id || Z_h || R || record hash)
//! s = r + c*z_h                                                          signature = R || s
//! ```
//!
//! What a payload holds is the repository's own affair.

use super::header::decode_point;
use super::keys::{ChunkSecret, HeadKey, random};
use super::ownership::hash_to_scalar;
use super::seal::{SEAL_OVERHEAD_BYTES, secretbox, secretbox_open};
use super::{expand, keyed_hash, sha256};
use crate::core::types::{ChunkId, LeaseNonce, Locality};
use bytes::Bytes;
use curve25519_dalek::{RistrettoPoint, Scalar};
use rand::CryptoRng;
use std::num::NonZeroU64;
use zeroize::{Zeroize, Zeroizing};

/// Length of a record.
pub const HEAD_RECORD_BYTES: usize = STATEMENT_BYTES + 64;

/// How far a number may be ahead of the newest one seen: a stolen key cannot use up all numbers at
/// once.
pub const NUMBER_AHEAD_MAX: u64 = 1 << 16;

/// Length of a payload, padding included.
pub const HEAD_PAYLOAD_BYTES: usize = 2_008;

/// The only record version there is.
pub const HEAD_VERSION: u8 = 1;

const FRONT_BYTES: usize = 1 + 4 + 32 + 32 + 8 + 32;
const SEALED_BYTES: usize = SEAL_OVERHEAD_BYTES + HEAD_PAYLOAD_BYTES;
const STATEMENT_BYTES: usize = FRONT_BYTES + SEALED_BYTES;

/// Why bytes are not a record, or not one of this head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Not [`HEAD_RECORD_BYTES`] long.
    #[error("a head record has {HEAD_RECORD_BYTES} bytes, this has {0}")]
    Length(usize),
    /// Made by a newer version.
    #[error("head record version {0} is not known")]
    Version(u8),
    /// Number 0: records begin with 1.
    #[error("head records begin with number 1")]
    Number,
    /// One of the points is not a canonical encoding, or the identity.
    #[error("a point of the head record is not valid")]
    Point,
    /// The signature does not verify.
    #[error("the head record's signature does not verify")]
    Signature,
    /// Another head's, of another index, generation or owner.
    #[error("the record is another head's")]
    WrongHead,
    /// Signed under the right key, and its payload does not open.
    #[error("the head record's payload does not open")]
    Seal,
}

/// A payload is longer than a record takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a head's payload has at most {HEAD_PAYLOAD_BYTES} bytes, this has {0}")]
pub struct PayloadTooLong(pub usize);

/// The keys of one head: of one index in one generation.
pub struct HeadKeys {
    generation: u32,
    read: ChunkSecret,
    sign: ChunkSecret,
    /// Y_h and Z_h.
    points: [[u8; 32]; 2],
    seal: Zeroizing<[u8; 32]>,
    nonce: Zeroizing<[u8; 32]>,
}

impl HeadKeys {
    /// Derives the keys of head `index` from the head key of `generation`.
    pub fn derive(head: &HeadKey, generation: u32, index: u16) -> Self {
        let (index, of) = (index.to_le_bytes(), generation.to_le_bytes());
        let name = [index.as_slice(), &of].concat();
        let read = ChunkSecret::expand(head.expose(), &[b"quloud/v1/head-read", &name]);
        let sign = ChunkSecret::expand(head.expose(), &[b"quloud/v1/head-sign", &name]);
        Self {
            generation,
            points: [read.point(), sign.point()],
            read,
            sign,
            seal: Zeroizing::new(expand(head.expose(), &[b"quloud/v1/head-seal", &name])),
            nonce: Zeroizing::new(expand(head.expose(), &[b"quloud/v1/head-seal-nonce", &name])),
        }
    }

    /// The head's id, by which it is stored and asked for.
    pub fn id(&self) -> ChunkId {
        let [read, sign] = &self.points;
        head_id(read, sign)
    }

    /// Where the head's topics are: the first two bytes of its id, the first being the high one.
    pub fn locality(&self) -> Locality {
        locality(&self.id())
    }

    /// y_h: the right to fetch the head.
    pub fn read_secret(&self) -> ChunkSecret {
        self.read.duplicate()
    }

    /// z_h: the right to store the head, under an account of one's own.
    pub fn sign_secret(&self) -> ChunkSecret {
        self.sign.duplicate()
    }

    /// Seals and signs a payload as number `number`, after the record with hash `previous`.
    ///
    /// One number must never be signed for two payloads: whoever saw both would see a fork.
    ///
    /// # Errors
    /// [`PayloadTooLong`].
    pub fn make(
        &self,
        number: NonZeroU64,
        previous: [u8; 32],
        payload: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<HeadRecord, PayloadTooLong> {
        let mut padded = Zeroizing::new(vec![0; HEAD_PAYLOAD_BYTES]);
        let room = padded.get_mut(..payload.len()).ok_or(PayloadTooLong(payload.len()))?;
        room.copy_from_slice(payload);
        let hash = keyed_hash(&self.nonce, &[&padded]);
        let mut nonce = [0; 24];
        nonce.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        let [read, sign] = &self.points;
        let mut bytes = Vec::with_capacity(HEAD_RECORD_BYTES);
        bytes.push(HEAD_VERSION);
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(read);
        bytes.extend_from_slice(sign);
        bytes.extend_from_slice(&number.get().to_le_bytes());
        bytes.extend_from_slice(&previous);
        bytes.extend_from_slice(&secretbox(&self.seal, nonce, &padded));
        let signature = self.sign(&record_hash(&bytes), rng);
        bytes.extend_from_slice(&signature);
        Ok(HeadRecord { bytes: bytes.into() })
    }

    /// The payload of a record of this head, padding included.
    ///
    /// # Errors
    /// [`HeadError::WrongHead`] and [`HeadError::Seal`].
    pub fn open(&self, record: &HeadRecord) -> Result<Zeroizing<Vec<u8>>, HeadError> {
        let fields = record.fields();
        if [fields.read, fields.sign] != self.points || fields.generation != self.generation {
            return Err(HeadError::WrongHead);
        }
        secretbox_open(&self.seal, fields.sealed).map(Zeroizing::new).map_err(|_| HeadError::Seal)
    }

    /// The point is the signer's own, computed from the secret that signs.
    fn sign(&self, record_hash: &[u8; 32], rng: &mut impl CryptoRng) -> [u8; 64] {
        let fresh = Zeroizing::new(random::<32>(rng));
        let z = Zeroizing::new(self.sign.scalar().to_bytes());
        let parts: [&[u8]; 3] = [z.as_slice(), fresh.as_slice(), record_hash];
        let mut r = hash_to_scalar(b"quloud/v1/head-nonce", &parts);
        let commitment = RistrettoPoint::mul_base(&r).compress().to_bytes();
        let [read, sign] = &self.points;
        let c = challenge(&head_id(read, sign), sign, &commitment, record_hash);
        let mut blinded = c * self.sign.scalar();
        let s = r + blinded;
        r.zeroize();
        blinded.zeroize();
        let mut signature = [0; 64];
        let (head, tail) = signature.split_at_mut(32);
        head.copy_from_slice(&commitment);
        tail.copy_from_slice(s.as_bytes());
        signature
    }
}

impl std::fmt::Debug for HeadKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HeadKeys(..)")
    }
}

/// A record as it travels and is kept: its shape and its signature were checked.
#[derive(Clone, PartialEq, Eq)]
pub struct HeadRecord {
    bytes: Bytes,
}

impl HeadRecord {
    /// Checks length, version, number, points and signature; whose head it is needs no key.
    ///
    /// Costs as much as an ownership proof: rates come before it.
    ///
    /// # Errors
    /// [`HeadError`], whatever the input.
    pub fn decode(bytes: Bytes) -> Result<Self, HeadError> {
        let record = Self::kept(bytes)?;
        let fields = record.fields();
        decode_point(&fields.read).ok_or(HeadError::Point)?;
        let z = decode_point(&fields.sign).ok_or(HeadError::Point)?;
        if record.signature_holds(&z) { Ok(record) } else { Err(HeadError::Signature) }
    }

    /// A record that was decoded before and was kept since, by a store whose own box around it
    /// tells that it is the same: only its shape is looked at.
    pub(crate) fn kept(bytes: Bytes) -> Result<Self, HeadError> {
        if bytes.len() != HEAD_RECORD_BYTES {
            return Err(HeadError::Length(bytes.len()));
        }
        let record = Self { bytes };
        let fields = record.fields();
        if fields.version != HEAD_VERSION {
            return Err(HeadError::Version(fields.version));
        }
        if fields.number == 0 {
            return Err(HeadError::Number);
        }
        Ok(record)
    }

    /// The bytes, [`HEAD_RECORD_BYTES`] of them.
    pub fn encode(&self) -> Bytes {
        self.bytes.clone()
    }

    /// Whose record it is.
    pub fn id(&self) -> ChunkId {
        let fields = self.fields();
        head_id(&fields.read, &fields.sign)
    }

    /// Generation of the owner's keys.
    pub fn generation(&self) -> u32 {
        self.fields().generation
    }

    /// Y_h, under which a request for the head is proved.
    pub fn read_point(&self) -> [u8; 32] {
        self.fields().read
    }

    /// Z_h, under which it is proved who may store it.
    pub fn sign_point(&self) -> [u8; 32] {
        self.fields().sign
    }

    /// Its number: the highest one counts.
    pub fn number(&self) -> u64 {
        self.fields().number
    }

    /// The hash of the record before it.
    pub fn previous(&self) -> [u8; 32] {
        self.fields().previous
    }

    /// The record's own hash.
    pub fn hash(&self) -> [u8; 32] {
        record_hash(self.fields().statement)
    }

    /// The name of its lease at every holder: the first 16 bytes of its hash.
    pub fn lease(&self) -> LeaseNonce {
        let hash = self.hash();
        let mut lease = [0; 16];
        lease.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        LeaseNonce::from_bytes(lease)
    }

    fn signature_holds(&self, z: &RistrettoPoint) -> bool {
        let fields = self.fields();
        let Some((commitment, s)) = fields.signature.split_first_chunk::<32>() else {
            return false;
        };
        let s = s.try_into().ok().and_then(|s| Option::from(Scalar::from_canonical_bytes(s)));
        let (Some(s), Some(r)) = (s, decode_point(commitment)) else {
            return false;
        };
        let hash = record_hash(fields.statement);
        let c = challenge(&head_id(&fields.read, &fields.sign), &fields.sign, commitment, &hash);
        RistrettoPoint::vartime_double_scalar_mul_basepoint(&-c, z, &s) == r
    }

    fn fields(&self) -> Fields<'_> {
        let (statement, signature) = self.bytes.split_at(STATEMENT_BYTES);
        let mut rest = statement;
        let [version] = super::take::<1>(&mut rest);
        Fields {
            statement,
            signature,
            version,
            generation: u32::from_le_bytes(super::take(&mut rest)),
            read: super::take(&mut rest),
            sign: super::take(&mut rest),
            number: u64::from_le_bytes(super::take(&mut rest)),
            previous: super::take(&mut rest),
            sealed: rest,
        }
    }
}

impl std::fmt::Debug for HeadRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HeadRecord({:?}, number {})", self.id(), self.number())
    }
}

/// A record taken apart.
struct Fields<'a> {
    statement: &'a [u8],
    version: u8,
    generation: u32,
    read: [u8; 32],
    sign: [u8; 32],
    number: u64,
    previous: [u8; 32],
    sealed: &'a [u8],
    signature: &'a [u8],
}

/// Where the topics of this head are: the first two bytes of its id, the first being the high one.
pub fn locality(id: &ChunkId) -> Locality {
    let [high, low, ..] = *id.as_bytes();
    Locality(u16::from_be_bytes([high, low]))
}

fn head_id(read: &[u8; 32], sign: &[u8; 32]) -> ChunkId {
    ChunkId::from_bytes(sha256(&[b"quloud/v1/head-id", read, sign]))
}

fn record_hash(statement: &[u8]) -> [u8; 32] {
    sha256(&[b"quloud/v1/head-record", statement])
}

fn challenge(
    id: &ChunkId,
    point: &[u8; 32],
    commitment: &[u8; 32],
    record_hash: &[u8; 32],
) -> Scalar {
    let parts: [&[u8]; 4] = [id.as_bytes(), point, commitment, record_hash];
    hash_to_scalar(b"quloud/v1/head-challenge", &parts)
}

#[cfg(test)]
mod tests;
