//! Which chunks each account has, for whoever asks about its own.
//!
//! The catalogue has one order, by id, and a page of one account's chunks must not cost a walk
//! through those of all others. So the first half of each id is kept in memory, by account: 16
//! bytes a chunk, about 25 MiB for a million. A page looks each of its chunks up and nothing else.
//! It is made when the store is opened, which goes through the catalogue anyway, and changes with
//! [`super::state`]: like that it can be neither older nor newer than the catalogue.
//!
//! Two ids with one first half would be a chance of 2^-128 for each pair; whoever makes two has one
//! of them left out of the own list when the other is gone, and nobody else notices.

use super::disk::Disk;
use super::index::{Catalogue, Entry};
use super::reader::Reader;
use super::releases::lock;
use crate::core::effect::{ChunkState, ListedChunk, StoreError};
use crate::core::types::{Account, ChunkId, LeaseNonce};
use crate::crypto::header::Header;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// The first half of an id, as a number.
pub(super) type Half = u128;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Accounts(BTreeMap<Account, BTreeSet<Half>>);

/// Shared by the writer and the readers.
pub(crate) type SharedAccounts = Arc<Mutex<Accounts>>;

fn half(id: &ChunkId) -> Half {
    let (first, _) = id.as_bytes().split_at(size_of::<Half>());
    first.try_into().map_or(0, Half::from_be_bytes)
}

impl Accounts {
    pub(super) fn insert(&mut self, account: &Account, id: &ChunkId) {
        self.0.entry(*account).or_default().insert(half(id));
    }

    pub(super) fn remove(&mut self, account: &Account, id: &ChunkId) {
        if let Some(own) = self.0.get_mut(account) {
            own.remove(&half(id));
            if own.is_empty() {
                self.0.remove(account);
            }
        }
    }

    /// At most so many, from `from` on.
    pub(super) fn some_from(&self, account: &Account, from: Half, count: usize) -> Vec<Half> {
        let own = self.0.get(account).into_iter();
        own.flat_map(|own| own.range(from..)).take(count).copied().collect()
    }
}

impl<D: Disk, C: Catalogue> Reader<D, C> {
    /// What is kept for an account: ids above `after`, ascending, at most `limit`; and whether
    /// there are more behind the last one. Holds no lock while it looks chunks up.
    ///
    /// # Errors
    /// [`StoreError::Io`] where the catalogue fails.
    pub fn list(
        &self,
        account: &Account,
        after: &ChunkId,
        limit: usize,
    ) -> Result<(Vec<ListedChunk>, bool), StoreError> {
        let mut found: Vec<(ChunkId, Entry)> = Vec::new();
        let mut from = Some(half(after));
        while let Some(first) = from.filter(|_| found.len() <= limit) {
            // One more than fits tells that there is more.
            let wanted = limit.saturating_add(1).saturating_sub(found.len());
            let halves = lock(&self.accounts).some_from(account, first, wanted);
            from = halves.last().and_then(|last| last.checked_add(1));
            for half in halves {
                let below = self.index.for_chunks_below(&half.to_be_bytes(), &mut |id, entry| {
                    if id > *after && entry.account == *account {
                        found.push((id, entry));
                    }
                });
                below.map_err(|_| StoreError::Io)?;
            }
        }
        let more = found.len() > limit;
        found.truncate(limit);
        let releases = lock(&self.releases);
        let listed = found.iter().map(|(id, entry)| ListedChunk {
            id: *id,
            lease: entry.lease,
            sealed_bytes: Header::sealed_bytes_in(&entry.header),
            state: releases.state(id, entry),
        });
        Ok((listed.collect(), more))
    }

    /// How it is with chunks of an account, in the order of the ids. One of another account, and a
    /// head, is not held.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn query(
        &self,
        account: &Account,
        ids: &[ChunkId],
    ) -> Result<Vec<(ChunkState, LeaseNonce)>, StoreError> {
        let mut states = Vec::with_capacity(ids.len());
        for id in ids {
            let entry = self.index.get(id).map_err(|_| StoreError::Io)?;
            states.push(match entry.filter(|entry| entry.account == *account) {
                Some(entry) => (lock(&self.releases).state(id, &entry), entry.lease),
                None => (ChunkState::NotHeld, LeaseNonce::from_bytes([0; 16])),
            });
        }
        Ok(states)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(first: u8, last: u8) -> ChunkId {
        let mut bytes = [0; 32];
        (bytes[0], bytes[31]) = (first, last);
        ChunkId::from_bytes(bytes)
    }

    #[test]
    fn an_account_has_its_own_in_their_order_and_none_when_the_last_is_gone() {
        let (one, two) = (Account::from_bytes([1; 32]), Account::from_bytes([2; 32]));
        let mut accounts = Accounts::default();
        for first in [9, 3, 7] {
            accounts.insert(&one, &id(first, 0));
            accounts.insert(&two, &id(first + 1, 0));
        }
        let firsts = |accounts: &Accounts, from: u8, count| {
            let some = accounts.some_from(&one, half(&id(from, 0)), count);
            some.iter().map(|half| half.to_be_bytes()[0]).collect::<Vec<u8>>()
        };
        assert_eq!(firsts(&accounts, 0, 9), [3, 7, 9]);
        assert_eq!(firsts(&accounts, 7, 1), [7]);
        for first in [3, 7, 9] {
            accounts.remove(&one, &id(first, 0));
        }
        accounts.remove(&one, &id(4, 0));
        assert_eq!((accounts.0.len(), firsts(&accounts, 0, 9).len()), (1, 0));
    }
}
