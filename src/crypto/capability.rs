//! The read capability as text: `quloud1...` in bech32m (BIP-350).
//!
//! Payload, 67 bytes: `version u8 = 1 | chunk id 32 | locality u16 LE | chunk key 32`. It names one
//! root chunk and lets its bearer fetch and read that chunk and all it lists; nothing else.

use super::keys::ChunkKey;
use crate::core::types::{ChunkId, Locality};
use bech32::{Bech32m, Hrp, primitives::decode::CheckedHrpstring};
use zeroize::Zeroizing;

const PREFIX: Hrp = Hrp::parse_unchecked("quloud");
const VERSION: u8 = 1;
const PAYLOAD_BYTES: usize = 67;

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
    /// The checksum is right, and the length is not.
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
        let text = bech32::encode::<Bech32m>(PREFIX, payload.as_slice());
        Zeroizing::new(text.expect("67 bytes fit bech32m"))
    }

    /// Reads the text back; white space around it is ignored.
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
        let payload = Zeroizing::new(parsed.byte_iter().collect::<Vec<u8>>());
        let (version, rest) = payload.split_first().ok_or(CapabilityError::Length)?;
        if *version != VERSION {
            return Err(CapabilityError::Version(*version));
        }
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
