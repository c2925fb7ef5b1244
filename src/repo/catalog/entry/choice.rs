//! What the catalogue remembers of the user's word on a head: which record of it counts.

use super::{Fields, HEAD_CHOICE};
use crate::crypto::head::{HEAD_RECORD_BYTES, HeadRecord};
use bytes::Bytes;

/// The user's word on one head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadChoice {
    /// Generation of the head's keys.
    pub generation: u32,
    /// Which head.
    pub index: u16,
    /// What counts from now on.
    pub counts: Counts,
}

/// What of a head counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counts {
    /// The newest record, as long as its holders agree: what is so without a word.
    Newest,
    /// This record, whatever others there are.
    Record(HeadRecord),
    /// No record: what the head names is left out.
    Nothing,
}

const NEWEST: u8 = 0;
const RECORD: u8 = 1;
const NOTHING: u8 = 2;

impl HeadChoice {
    pub(in super::super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(HEAD_CHOICE);
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.index.to_le_bytes());
        match &self.counts {
            Counts::Newest => out.push(NEWEST),
            Counts::Record(record) => {
                out.push(RECORD);
                out.extend_from_slice(&record.encode());
            }
            Counts::Nothing => out.push(NOTHING),
        }
    }

    pub(super) fn decode(from: &mut Fields<'_>) -> Option<Self> {
        let generation = u32::from_le_bytes(from.array()?);
        let index = u16::from_le_bytes(from.array()?);
        let counts = match from.byte()? {
            NEWEST => Counts::Newest,
            RECORD => {
                let record: [u8; HEAD_RECORD_BYTES] = from.array()?;
                Counts::Record(HeadRecord::decode(Bytes::copy_from_slice(&record)).ok()?)
            }
            NOTHING => Counts::Nothing,
            _ => return None,
        };
        Some(Self { generation, index, counts })
    }
}
