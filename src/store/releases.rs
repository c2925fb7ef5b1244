//! Chunks that were let go: kept until their delay is over, then destroyed.
//!
//! A release is bound to the **lease** under which the chunk was held, not to where its record
//! lies: records move. It stands in the ledger, is in force once it is durable there, and is due
//! when the delay that was promised for the chunk has passed in the store's **uptime**; no clock is
//! asked. Then the writer buries the chunk as any other, a few at a time.
//!
//! Until then the chunk is read, verified and moved as ever. One that is stored again is written
//! anew, under a new lease, in front of the old record: the release means nothing for that, also
//! where a crash lost the news that it is over. So nobody is told that a chunk is held under a
//! lease under which it will be destroyed, and no crash lets a release come to a chunk that was
//! stored after it.
//!
//! # Doubt
//! What takes a release back may be lost with a damaged ledger, and so may be what lets a chunk go:
//! one that is acknowledged again, or counted as held, would be destroyed when that can be read
//! again. So where a ledger is damaged, or a tail of it was cut off that may have been more than an
//! unfinished write, all releases are dropped when the store is opened, before anything is
//! answered: the ledger is written anew without them, and where that fails the store takes no
//! writes. Their chunks live on, and their owner finds them when it lists what it has.
//!
//! # Bounds
//! [`ReleaseBounds`]; the table is in memory, about 200 bytes a release.

mod writing;

use super::heads::UPTIME_EVERY_S;
use super::index::{Condition, Entry};
use super::ledger::format::{RELEASE_ITEM_BYTES, ReleaseItem};
use crate::core::effect::{ChunkState, Deleted, Input, StoreError};
use crate::core::types::{Account, ChunkId, LeaseNonce, Ticket};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many releases may wait for their day. Above: [`StoreError::Busy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReleaseBounds {
    /// Of one account.
    pub per_account: usize,
    /// In all. Above, an account has an even share of them at most, so that a few cannot shut out
    /// all others.
    pub all: usize,
}

impl Default for ReleaseBounds {
    fn default() -> Self {
        Self { per_account: 1 << 17, all: 1 << 18 }
    }
}

/// A chunk is kept so much longer than its delay: the uptime that is saved may be behind.
pub const RELEASE_SLACK_S: u64 = 2 * UPTIME_EVERY_S;

/// The most chunks that are destroyed in one group.
pub const DESTROYED_MAX: usize = 64;

/// A release that is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pending {
    lease: LeaseNonce,
    account: Account,
    due: u64,
}

/// The releases of a store that are in force.
#[derive(Debug, Default)]
pub(super) struct Releases {
    by_id: BTreeMap<ChunkId, Pending>,
    by_due: BTreeSet<(u64, ChunkId)>,
    accounts: BTreeMap<Account, usize>,
    /// What is left of a delay is counted from here.
    uptime: u64,
}

/// Shared by the writer and the readers.
pub(super) type SharedReleases = Arc<Mutex<Releases>>;

pub(super) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Releases {
    /// Puts what the ledger says.
    pub(super) fn take(&mut self, item: &ReleaseItem) {
        let ReleaseItem { id, lease, account, due } = *item;
        self.set(&id, Some(Pending { lease, account, due }));
    }

    /// The release of the chunk under this lease is over.
    pub(super) fn end(&mut self, id: &ChunkId, lease: &LeaseNonce) {
        if self.has(id, lease) {
            self.set(id, None);
        }
    }

    fn set(&mut self, id: &ChunkId, pending: Option<Pending>) {
        let before = match pending {
            Some(pending) => self.by_id.insert(*id, pending),
            None => self.by_id.remove(id),
        };
        if let Some(Pending { account, due, .. }) = before {
            self.by_due.remove(&(due, *id));
            let left = self.accounts.get(&account).copied().unwrap_or(0).saturating_sub(1);
            match left {
                0 => drop(self.accounts.remove(&account)),
                left => drop(self.accounts.insert(account, left)),
            }
        }
        if let Some(Pending { account, due, .. }) = pending {
            self.by_due.insert((due, *id));
            let count = self.accounts.entry(account).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// Whether the chunk is let go under this lease.
    pub(super) fn has(&self, id: &ChunkId, lease: &LeaseNonce) -> bool {
        self.by_id.get(id).is_some_and(|pending| pending.lease == *lease)
    }

    /// How it is with a chunk that is held.
    pub(super) fn state(&self, id: &ChunkId, entry: &Entry) -> ChunkState {
        state(entry, self.by_id.get(id), self.uptime)
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// What they take in a ledger.
    pub(super) fn bytes(&self) -> u64 {
        let count = u64::try_from(self.by_id.len()).unwrap_or(u64::MAX);
        count.saturating_mul(RELEASE_ITEM_BYTES as u64)
    }

    pub(super) fn items(&self) -> Vec<ReleaseItem> {
        let item = |(id, pending): (&ChunkId, &Pending)| {
            let Pending { lease, account, due } = *pending;
            ReleaseItem { id: *id, lease, account, due }
        };
        self.by_id.iter().map(item).collect()
    }

    /// Whether one more of the account fits beside those that are coming: of it, and in all.
    fn has_room(&self, bounds: &ReleaseBounds, account: &Account, coming: (usize, usize)) -> bool {
        let (own_coming, coming) = coming;
        let own = self.accounts.get(account).copied().unwrap_or(0).saturating_add(own_coming);
        let all = self.by_id.len().saturating_add(coming);
        let is_new = !self.accounts.contains_key(account);
        let accounts = self.accounts.len().saturating_add(usize::from(is_new)).max(1);
        let share = bounds.all.checked_div(accounts).unwrap_or(0);
        own < bounds.per_account && (all < bounds.all || own < share)
    }

    /// Some of those whose delay is over, the oldest first.
    fn due(&self, uptime: u64, count: usize) -> Vec<(ChunkId, Pending)> {
        let due = self.by_due.iter().take_while(|(due, _)| *due <= uptime).take(count);
        due.filter_map(|(_, id)| Some((*id, *self.by_id.get(id)?))).collect()
    }

    fn is_due(&self, uptime: u64) -> bool {
        self.by_due.first().is_some_and(|(due, _)| *due <= uptime)
    }
}

/// How it is with a held chunk, of which a release is known that may be of another lease.
fn state(entry: &Entry, pending: Option<&Pending>, uptime: u64) -> ChunkState {
    match pending.filter(|pending| pending.lease == entry.lease) {
        Some(pending) => {
            let left = pending.due.saturating_sub(uptime);
            ChunkState::Released { due_s: u32::try_from(left).unwrap_or(u32::MAX) }
        }
        None if entry.condition == Condition::Quarantined => ChunkState::Damaged,
        None => ChunkState::Live,
    }
}

/// The releases' share of a group on its way.
#[derive(Debug, Default)]
pub(super) struct ReleaseGroup {
    /// What they become with this group; `None` where one is over.
    now: BTreeMap<ChunkId, Option<Pending>>,
    /// How many are new, by account.
    added: BTreeMap<Account, usize>,
    results: Vec<(Ticket, Result<Vec<ChunkState>, StoreError>)>,
    /// What each account has less.
    destroyed: Vec<(ChunkId, Deleted)>,
}

impl ReleaseGroup {
    /// A chunk is destroyed with this group.
    pub(super) fn destroyed(&mut self, id: ChunkId, gone: Deleted) {
        self.destroyed.push((id, gone));
    }

    /// Nothing of it is in force.
    fn fail(&mut self, error: StoreError) {
        self.now.clear();
        self.added.clear();
        let results = self.results.iter_mut().filter(|(_, result)| result.is_ok());
        results.for_each(|(_, result)| *result = Err(error));
    }

    pub(super) fn into_inputs(self) -> impl Iterator<Item = Input> {
        let destroyed = (!self.destroyed.is_empty()).then_some(self.destroyed);
        let results = self.results.into_iter();
        let released = results.map(|(ticket, result)| Input::ChunksReleased { ticket, result });
        released.chain(destroyed.map(Input::ChunksDestroyed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(account: u8, due: u64) -> Pending {
        let (lease, account) = (LeaseNonce::from_bytes([due as u8; 16]), [account; 32]);
        Pending { lease, account: Account::from_bytes(account), due }
    }

    fn id(tag: u8) -> ChunkId {
        ChunkId::from_bytes([tag; 32])
    }

    #[test]
    fn a_release_counts_for_its_lease_and_until_it_is_over() {
        let mut releases = Releases::default();
        releases.set(&id(1), Some(pending(1, 50)));
        releases.set(&id(2), Some(pending(1, 40)));
        releases.set(&id(3), Some(pending(2, 60)));
        let due = |releases: &Releases, uptime, count| {
            let due = releases.due(uptime, count).into_iter();
            due.map(|(id, _)| id.as_bytes()[0]).collect::<Vec<u8>>()
        };
        assert!(!releases.is_due(39) && releases.is_due(40));
        assert_eq!((due(&releases, 50, 9), due(&releases, 99, 1)), (vec![2, 1], vec![2]));
        // It is over under another lease only.
        releases.end(&id(2), &pending(1, 50).lease);
        assert_eq!(releases.len(), 3);
        releases.end(&id(2), &pending(1, 40).lease);
        releases.set(&id(1), Some(pending(1, 70)));
        assert_eq!(due(&releases, 99, 9), [3, 1]);
        releases.set(&id(1), None);
        releases.set(&id(3), None);
        assert_eq!((releases.len(), releases.by_due.len(), releases.accounts.len()), (0, 0, 0));
    }

    #[test]
    fn releases_are_bounded_by_account_and_in_all_and_a_few_shut_nobody_out() {
        let bounds = ReleaseBounds { per_account: 6, all: 12 };
        let mut releases = Releases::default();
        let mut fill = |account: u8| {
            let fits = |at: &u8| {
                let pending = pending(account, 1);
                let fits = releases.has_room(&bounds, &pending.account, (0, 0));
                if fits {
                    releases.set(&id(20 * account + at), Some(pending));
                }
                fits
            };
            (0..20).filter(fits).count()
        };
        assert_eq!([0, 1, 2, 3, 4].map(&mut fill), [6, 6, 4, 3, 2]);
        let account = pending(5, 1).account;
        assert!(releases.has_room(&bounds, &account, (1, 1)));
        assert!(!releases.has_room(&bounds, &account, (2, 2)), "what is coming counts");
    }
}
