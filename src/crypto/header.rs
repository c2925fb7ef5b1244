//! The chunk header, and the chunk id that certifies it.
//!
//! The id is a hash of the header, and the header holds the owner's three points and the hash of
//! the sealed bytes. So nobody can take an id for other bytes or another key, and anybody can
//! check bytes against an id.
//!
//! Layout, 137 bytes, integers little-endian:
//! `version u8 = 1 | generation u32 | Y 32 | Z 32 | D 32 | sealed length u32 | BLAKE3(sealed) 32`

use super::seal::SEAL_OVERHEAD_BYTES;
use super::{bulk_hash, sha256, take};
use crate::core::types::{CHUNK_SEALED_BYTES_MAX, ChunkId};
use curve25519_dalek::{RistrettoPoint, ristretto::CompressedRistretto, traits::Identity};

/// Length of an encoded header.
pub const HEADER_BYTES: usize = 137;

/// The only header version there is.
pub const HEADER_VERSION: u8 = 1;

/// What a chunk's id certifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Generation of the owner's keys that made the points.
    pub generation: u32,
    /// Y = y*G: who proves y may fetch.
    pub read: [u8; 32],
    /// Z = z*G: who proves z may store, locate and unrelease.
    pub admin: [u8; 32],
    /// D = d*G: who proves d may release.
    pub delete: [u8; 32],
    /// Length of the sealed bytes, 41 to [`CHUNK_SEALED_BYTES_MAX`].
    pub sealed_bytes: u32,
    /// BLAKE3 of the sealed bytes.
    pub sealed_hash: [u8; 32],
}

/// Why 137 bytes are not a header, or bytes do not belong to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not [`HEADER_BYTES`] long.
    #[error("a header has {HEADER_BYTES} bytes, this has {0}")]
    Length(usize),
    /// An unknown version.
    #[error("unknown header version {0}")]
    Version(u8),
    /// One of the points is not a canonical encoding, or the identity.
    #[error("a point of the header is not valid")]
    Point,
    /// The sealed length is out of bounds.
    #[error("sealed length {0} is out of bounds")]
    SealedLength(u32),
}

impl Header {
    /// The header of `sealed` under the points Y, Z, D.
    pub fn new(generation: u32, points: [[u8; 32]; 3], sealed: &[u8]) -> Self {
        let [read, admin, delete] = points;
        let sealed_bytes = u32::try_from(sealed.len()).unwrap_or(u32::MAX);
        Self { generation, read, admin, delete, sealed_bytes, sealed_hash: bulk_hash(sealed) }
    }

    /// The fixed layout of the module's documentation.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let parts: [&[u8]; 7] = [
            &[HEADER_VERSION],
            &self.generation.to_le_bytes(),
            &self.read,
            &self.admin,
            &self.delete,
            &self.sealed_bytes.to_le_bytes(),
            &self.sealed_hash,
        ];
        for (byte, value) in out.iter_mut().zip(parts.into_iter().flatten()) {
            *byte = *value;
        }
        out
    }

    /// Reads the fixed layout and checks everything that can be checked without the bytes.
    ///
    /// # Errors
    /// [`HeaderError`], whatever the input.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes: &[u8; HEADER_BYTES] =
            bytes.try_into().map_err(|_| HeaderError::Length(bytes.len()))?;
        let mut rest = bytes.as_slice();
        let [version] = take::<1>(&mut rest);
        if version != HEADER_VERSION {
            return Err(HeaderError::Version(version));
        }
        let header = Self {
            generation: u32::from_le_bytes(take(&mut rest)),
            read: take(&mut rest),
            admin: take(&mut rest),
            delete: take(&mut rest),
            sealed_bytes: u32::from_le_bytes(take(&mut rest)),
            sealed_hash: take(&mut rest),
        };
        // A seal of nothing has 40 bytes, and no frame is empty.
        if header.sealed_bytes <= SEAL_OVERHEAD_BYTES as u32
            || header.sealed_bytes > CHUNK_SEALED_BYTES_MAX
        {
            return Err(HeaderError::SealedLength(header.sealed_bytes));
        }
        for point in [&header.read, &header.admin, &header.delete] {
            decode_point(point).ok_or(HeaderError::Point)?;
        }
        Ok(header)
    }

    /// The sealed length that stands in an encoded header, without a look at the points: to decode
    /// them costs more than to find the header.
    pub fn sealed_bytes_in(encoded: &[u8; HEADER_BYTES]) -> u32 {
        let (_, rest) = encoded.split_at(1 + 4 + 3 * 32);
        let mut rest = rest;
        u32::from_le_bytes(take(&mut rest))
    }

    /// `SHA-256("quloud/v1/chunk" || header)`.
    pub fn id(&self) -> ChunkId {
        ChunkId::from_bytes(sha256(&[b"quloud/v1/chunk", &self.encode()]))
    }

    /// Whether `sealed` are the bytes this header certifies. Hashes all of them.
    pub fn certifies(&self, sealed: &[u8]) -> bool {
        u64::from(self.sealed_bytes) == sealed.len() as u64 && self.sealed_hash == bulk_hash(sealed)
    }
}

/// A canonical, non-identity Ristretto255 point (RFC 9496 section 4.3.1).
pub(crate) fn decode_point(bytes: &[u8; 32]) -> Option<RistrettoPoint> {
    let point = CompressedRistretto(*bytes).decompress()?;
    (point != RistrettoPoint::identity()).then_some(point)
}

#[cfg(test)]
mod tests;
