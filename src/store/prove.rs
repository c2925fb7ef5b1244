//! Proves that a chunk is here, for an audit: what the holder's half of [`crate::crypto::audit`]
//! is done with. Called on a thread of its own, or by the simulator.
//!
//! Unlike a read it looks at the tags too. What is damaged is quarantined as with a read, so that
//! the chunk is taken again when it is offered. So is one whose tags cannot be tags of a chunk of
//! its length, where these are asked for: as long as they stay it cannot be proven, and the owner's
//! next store puts right ones in their place.
//!
//! The boxes show that the bytes are those that were wrapped; that memory spoiled none before, only
//! hashes show, at a quarter more of the CPU time that a read takes. So bytes are hashed where the
//! owner asks closely, which is where a wrong answer would convict: a proof over spoiled bytes is
//! wrong, and leads there.
//!
//! A disk that does not read says nothing of what lies on it: that is another word than damage.
//!
//! One that is quarantined already is said to be damaged without a look, as in all other answers
//! about it: it does not count as held, whatever a lucky read of it might prove today.

use super::disk::Disk;
use super::index::{Catalogue, Condition};
use super::reader::{Looked, Reader};
use super::releases::lock;
use super::scan::Check;
use super::writer::Request;
use crate::core::effect::{ProvenChunk, StoreError, Unproven};
use crate::core::types::{Account, ChunkId};
use crate::crypto::audit::{Task, blocks};
use std::sync::Arc;

impl<D: Disk, C: Catalogue> Reader<D, C> {
    /// Does `task` with a chunk of `account`; `closely`, only if all of its bytes match the id. The
    /// other result is what the writer should be told: the record is damaged.
    pub fn prove(
        &mut self,
        account: &Account,
        id: &ChunkId,
        task: &Task,
        closely: bool,
    ) -> (Result<ProvenChunk, Unproven>, Option<Request>) {
        let check = if closely { Check::Hashes } else { Check::Tags };
        let releases = Arc::clone(&self.releases);
        // Of the record that was looked at last: it may be another one each time.
        let (mut refused, mut sequence) = (Unproven::NotHeld, 0);
        let Looked { result, rot } = self.look_again(id, check, |entry| {
            sequence = entry.sequence;
            refused = match entry {
                _ if entry.account != *account => Unproven::NotHeld,
                _ if lock(&releases).has(id, &entry.lease) => Unproven::Released,
                _ if entry.condition == Condition::Quarantined => Unproven::Damaged,
                _ => return true,
            };
            false
        });
        let chunk = match (result, rot) {
            (Ok(chunk), None) => chunk,
            (_, Some(rot)) => return (Err(Unproven::Damaged), Some(rot)),
            (Err(StoreError::NotFound), None) => return (Err(refused), None),
            // The disk, or the catalogue, does not say: it may another time.
            (Err(_), None) => return (Err(Unproven::Unread), None),
        };
        let proven = task.piece(id, &chunk.sealed, &chunk.tags).ok().and_then(|piece| {
            let blocks = u16::try_from(blocks(chunk.sealed.len())).ok()?;
            Some(ProvenChunk { blocks, piece })
        });
        match proven {
            Some(proven) => (Ok(proven), None),
            None => (Err(Unproven::Damaged), Some(Request::Quarantine { id: *id, sequence })),
        }
    }
}

#[cfg(test)]
mod tests;
