//! The read capability as text: `quloud1...` in bech32m (BIP-350).
//!
//! Payload, 67 bytes: `version u8 = 1 | chunk id 32 | locality u16 LE | chunk key 32`. It names one
//! root chunk and lets its bearer fetch and read that chunk and all it lists; nothing else.

use super::keys::ChunkKey;
use crate::core::types::{ChunkId, Locality};
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32m, Hrp, encode_lower_to_fmt};
use zeroize::Zeroizing;

const PREFIX: Hrp = Hrp::parse_unchecked("quloud");
const VERSION: u8 = 1;
const PAYLOAD_BYTES: usize = 67;
const TEXT_BYTES: usize = 121;

/// A root chunk, and the key that opens it.
#[derive(Debug)]
pub struct Capability {
    /// The root chunk.
    pub id: ChunkId,
    /// Where on the mesh its topics are.
    pub locality: Locality,
    /// The right to read it.
    pub ck: ChunkKey,
}

/// Why a text is not a capability. Never holds the text itself: it is a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// Does not begin with `quloud1`.
    #[error("a capability begins with \"quloud1\"")]
    Prefix,
    /// The checksum is wrong: a character was changed, lost or added.
    #[error("the capability's checksum does not match")]
    Checksum,
    /// Made by a newer version.
    #[error("capability version {0} is not known")]
    Version(u8),
    /// The checksum is right, and the length or the four spare bits at the end are not.
    #[error("the capability has the wrong length")]
    Length,
}

impl Capability {
    /// The text, all lower case, 121 characters.
    pub fn encode(&self) -> Zeroizing<String> {
        let mut payload = Zeroizing::new([0; PAYLOAD_BYTES]);
        let locality = self.locality.0.to_le_bytes();
        let parts: [&[u8]; 4] = [&[VERSION], self.id.as_bytes(), &locality, self.ck.expose()];
        for (byte, value) in payload.iter_mut().zip(parts.into_iter().flatten()) {
            *byte = *value;
        }
        // Room for all of it: a string that grows leaves copies of the secret behind.
        let mut text = Zeroizing::new(String::with_capacity(TEXT_BYTES));
        encode_lower_to_fmt::<Bech32m, String>(&mut text, PREFIX, payload.as_slice())
            .expect("67 bytes fit bech32m, and a string takes them");
        text
    }

    /// Reads the text back: all lower or all upper case (as QR codes like it), white space around
    /// it ignored, and nothing else but what [`Self::encode`] writes.
    ///
    /// # Errors
    /// [`CapabilityError`], whatever the input.
    pub fn decode(text: &str) -> Result<Self, CapabilityError> {
        let text = text.trim();
        let prefix = text.get(..7).ok_or(CapabilityError::Prefix)?;
        if !prefix.eq_ignore_ascii_case("quloud1") {
            return Err(CapabilityError::Prefix);
        }
        let parsed =
            CheckedHrpstring::new::<Bech32m>(text).map_err(|_| CapabilityError::Checksum)?;
        // At most what a legal text holds, and one more: room that never grows.
        let mut payload = Zeroizing::new(Vec::with_capacity(PAYLOAD_BYTES + 1));
        payload.extend(parsed.byte_iter().take(PAYLOAD_BYTES + 1));
        let (version, rest) = payload.split_first().ok_or(CapabilityError::Length)?;
        if *version != VERSION {
            return Err(CapabilityError::Version(*version));
        }
        parsed.validate_segwit_padding().map_err(|_| CapabilityError::Length)?;
        let (id, rest) = rest.split_first_chunk::<32>().ok_or(CapabilityError::Length)?;
        let (locality, rest) = rest.split_first_chunk::<2>().ok_or(CapabilityError::Length)?;
        let ck: [u8; 32] = rest.try_into().map_err(|_| CapabilityError::Length)?;
        Ok(Self {
            id: ChunkId::from_bytes(*id),
            locality: Locality(u16::from_le_bytes(*locality)),
            ck: ChunkKey::from_bytes(ck),
        })
    }
}

#[cfg(test)]
mod tests;
