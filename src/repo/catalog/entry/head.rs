//! What the catalogue remembers of heads: which device this is, the newest record of each head,
//! and who keeps it.
//!
//! A record that this device makes is remembered before it is sent. So a crash in between cannot
//! make another one with the same number: what is sent later is the very same.

use super::{DEVICE, Fields, HEAD_KEPT, HEAD_SEEN, TooLong};
use crate::core::types::{DeviceId, NodeId};
use crate::crypto::head::{HEAD_RECORD_BYTES, HeadRecord};
use bytes::Bytes;

/// This folder's device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub id: DeviceId,
    /// The head that it writes.
    pub index: u16,
}

/// The newest record of a head that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadSeen {
    /// Which head; the generation stands in the record.
    pub index: u16,
    /// The record.
    pub record: HeadRecord,
}

/// Who keeps a record of a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadKept {
    /// Generation of the head's keys.
    pub generation: u32,
    /// Which head.
    pub index: u16,
    /// Which record.
    pub number: u64,
    /// Who.
    pub holders: Vec<NodeId>,
}

impl Device {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(DEVICE);
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&self.index.to_le_bytes());
    }

    pub(super) fn decode(from: &mut Fields<'_>) -> Option<Self> {
        let id = DeviceId::from_bytes(from.array()?);
        Some(Self { id, index: u16::from_le_bytes(from.array()?) })
    }
}

impl HeadSeen {
    pub(in super::super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(HEAD_SEEN);
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(&self.record.encode());
    }

    pub(super) fn decode(from: &mut Fields<'_>) -> Option<Self> {
        let index = u16::from_le_bytes(from.array()?);
        let record: [u8; HEAD_RECORD_BYTES] = from.array()?;
        let record = HeadRecord::decode(Bytes::copy_from_slice(&record)).ok()?;
        Some(Self { index, record })
    }
}

impl HeadKept {
    pub(in super::super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let count = self.holders.len();
        let count = u8::try_from(count).map_err(|_| TooLong(count))?;
        out.push(HEAD_KEPT);
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.push(count);
        self.holders.iter().for_each(|node| out.extend_from_slice(node.as_bytes()));
        Ok(())
    }

    pub(super) fn decode(from: &mut Fields<'_>) -> Option<Self> {
        let generation = u32::from_le_bytes(from.array()?);
        let index = u16::from_le_bytes(from.array()?);
        let number = from.number()?;
        let count = from.byte()?;
        let holders: Option<Vec<_>> =
            (0..count).map(|_| from.array().map(NodeId::from_bytes)).collect();
        Some(Self { generation, index, number, holders: holders? })
    }
}
