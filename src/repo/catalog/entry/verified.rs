//! What the catalogue remembers of drills: that a snapshot was read back from its holders, and what
//! that came to.

use super::{Fields, VERIFIED};
use crate::core::types::SnapshotId;
use crate::repo::verify::ALL_PPM;

/// A snapshot was read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Which.
    pub snapshot: SnapshotId,
    /// When it was done: seconds since 1970.
    pub at: u64,
    /// How many of a million chunks with data were drawn.
    pub sample_ppm: u32,
    /// Bytes of files that came and were right.
    pub bytes: u64,
    /// Files, parts of the tree and records that are damaged.
    pub damaged: u64,
    /// The same that could not be reached.
    pub away: u64,
}

impl Verified {
    /// Whether all that was drawn was there and right.
    pub fn is_proof(&self) -> bool {
        self.damaged == 0 && self.away == 0
    }

    /// Whether this later drill, a proof, says that nothing is left of what that one found. What
    /// was damaged need not be among what a sample draws; what was out of reach is taken to be
    /// within it again where as much was drawn.
    pub fn refutes(&self, found: &Self) -> bool {
        let is_enough = match found.damaged {
            0 => self.sample_ppm >= found.sample_ppm,
            _ => self.sample_ppm >= ALL_PPM,
        };
        self.is_proof() && is_enough
    }

    pub(in super::super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERIFIED);
        out.extend_from_slice(self.snapshot.as_bytes());
        out.extend_from_slice(&self.at.to_le_bytes());
        out.extend_from_slice(&self.sample_ppm.to_le_bytes());
        for number in [self.bytes, self.damaged, self.away] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    pub(super) fn decode(from: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            snapshot: SnapshotId::from_bytes(from.array()?),
            at: from.number()?,
            sample_ppm: u32::from_le_bytes(from.array()?),
            bytes: from.number()?,
            damaged: from.number()?,
            away: from.number()?,
        })
    }
}
