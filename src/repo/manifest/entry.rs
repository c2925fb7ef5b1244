//! Entries as bytes: what stands in front of each body, and the hash by which the next one names
//! it.

use super::body;
use super::{Body, ManifestEntry, ManifestFault};
use crate::core::types::DeviceId;
use crate::crypto::sha256;
use crate::repo::frame::PLAINTEXT_BYTES_MAX;
use bytes::Buf;
use zeroize::Zeroizing;

/// The only version there is.
const VERSION: u8 = 1;

/// Bytes in front of a body.
const FRONT_BYTES: usize = 1 + 1 + 16 + 2 + 4 + 8 + 8 + 8 + 32 + 4;

impl ManifestEntry {
    /// The layout of the module's documentation; wiped when dropped.
    ///
    /// # Errors
    /// [`ManifestFault`].
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, ManifestFault> {
        self.check()?;
        let body = body::encode(&self.body)?;
        let length = u32::try_from(body.len()).map_err(|_| ManifestFault::TooLong)?;
        if FRONT_BYTES + body.len() > PLAINTEXT_BYTES_MAX {
            return Err(ManifestFault::TooLong);
        }
        let mut out = Zeroizing::new(Vec::with_capacity(FRONT_BYTES + body.len()));
        out.extend([VERSION, kind_of(&self.body)]);
        out.extend_from_slice(self.device.as_bytes());
        out.extend(self.index.to_le_bytes());
        out.extend(self.generation.to_le_bytes());
        out.extend(self.number.to_le_bytes());
        out.extend(self.lamport.to_le_bytes());
        out.extend(self.wall_ns.to_le_bytes());
        out.extend_from_slice(&self.previous);
        out.extend(length.to_le_bytes());
        out.extend_from_slice(&body);
        Ok(out)
    }

    /// Reads [`Self::encode`] back.
    ///
    /// # Errors
    /// [`ManifestFault`], whatever the input.
    pub fn decode(plaintext: &[u8]) -> Result<Self, ManifestFault> {
        let length = ManifestFault::Length(plaintext.len());
        let version = *plaintext.first().ok_or(length)?;
        if version != VERSION {
            return Err(ManifestFault::Version(version));
        }
        let (front, body) = plaintext.split_at_checked(FRONT_BYTES).ok_or(length)?;
        let mut rest = front.get(1..).ok_or(length)?;
        let kind = rest.get_u8();
        let (device, mut rest) = rest.split_first_chunk::<16>().ok_or(length)?;
        let (index, generation) = (rest.get_u16_le(), rest.get_u32_le());
        let (number, lamport) = (rest.get_u64_le(), rest.get_u64_le());
        let wall_ns = rest.get_i64_le();
        let (previous, mut rest) = rest.split_first_chunk::<32>().ok_or(length)?;
        if u64::from(rest.get_u32_le()) != body.len() as u64 {
            return Err(length);
        }
        let body = body::decode(kind, body).ok_or(length)??;
        let device = DeviceId::from_bytes(*device);
        let previous = *previous;
        let found = Self { device, index, generation, number, lamport, wall_ns, previous, body };
        found.check()?;
        Ok(found)
    }

    /// The hash by which the next entry names this one: `SHA-256("quloud/v1/manifest" ||
    /// plaintext)`.
    pub fn hash(plaintext: &[u8]) -> [u8; 32] {
        sha256(&[b"quloud/v1/manifest", plaintext])
    }

    fn check(&self) -> Result<(), ManifestFault> {
        let first = self.number == 0;
        if first == (self.previous == [0; 32]) { Ok(()) } else { Err(ManifestFault::Previous) }
    }
}

fn kind_of(body: &Body) -> u8 {
    match body {
        Body::Add(_) => body::ADD,
        Body::Forget(_) => body::FORGET,
        Body::PruneIntent(_) => body::PRUNE_INTENT,
        Body::PruneDone { .. } => body::PRUNE_DONE,
        Body::Keys(_) => body::KEYS,
        Body::Checkpoint(_) => body::CHECKPOINT,
    }
}
