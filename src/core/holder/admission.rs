//! May this chunk come in? Capacity, the accounts' quotas, and what was promised to the disk.

use super::limits::HolderLimits;
use crate::core::effect::{Deleted, Space};
use crate::core::types::{Account, LeaseTerms, NodeId, Time};
use crate::crypto::audit::tags_bytes;
use crate::planted::{self, Bug};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a record takes on disk besides sealed bytes and tags, rounded up: prefix, boxes, alignment.
const RECORD_OVERHEAD_BYTES: u64 = 8 << 10;

/// How long a peer that brought an account is remembered for it.
const DAY: Duration = Duration::from_secs(86_400);

/// Whether there is room for a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// Yes.
    Enough,
    /// Not for a chunk that is new here.
    Short,
    /// There would be, but this account has its share.
    OverQuota,
    /// The store takes no writes at all, or has not said yet how full it is.
    Closed,
}

/// Space and quotas. Bytes are reserved from the moment a chunk is let in until its write is done,
/// so that a burst cannot overrun a bound that the store reports late.
///
/// A claim reserves nothing: it is an offer, and reserving for the asking would let anybody fill
/// the store with wishes.
#[derive(Debug)]
pub(super) struct Admission {
    space: Option<Space>,
    used: BTreeMap<Account, u64>,
    reserved: u64,
    reserved_by: BTreeMap<Account, u64>,
    newcomers: BTreeMap<NodeId, Newcomers>,
}

/// New accounts of one peer. They are kept, and not only counted: an account is let in again whose
/// first chunk could not be written, or was deleted.
#[derive(Debug, Clone)]
struct Newcomers {
    since: Time,
    accounts: BTreeSet<Account>,
}

impl Admission {
    pub(super) fn new(used: BTreeMap<Account, u64>) -> Self {
        let (reserved_by, newcomers) = (BTreeMap::new(), BTreeMap::new());
        Self { space: None, used, reserved: 0, reserved_by, newcomers }
    }

    pub(super) fn set_space(&mut self, space: Space) {
        let has_room = self.space.is_some_and(|before| space.free > before.free);
        if !has_room || !planted::is_on(Bug::SpaceOnce) {
            self.space = Some(space);
        }
    }

    /// A write failed because the store turned read-only; it will say so itself a little later.
    pub(super) fn set_read_only(&mut self) {
        if let Some(space) = &mut self.space {
            space.read_only = true;
        }
    }

    /// What a chunk of this sealed length takes on disk at most.
    pub(super) fn disk_bytes(sealed_bytes: u32) -> u64 {
        let tags = tags_bytes(sealed_bytes as usize) as u64;
        u64::from(sealed_bytes) + tags + RECORD_OVERHEAD_BYTES
    }

    /// Bytes that new chunks can still take; `None` where the store takes no writes.
    pub(super) fn available(&self) -> Option<u64> {
        let space = self.space.filter(|space| !space.read_only)?;
        // Chunks whose leases are over make room.
        let used = space.used.saturating_sub(space.reclaimable);
        let free = space.free.saturating_add(space.reclaimable);
        let granted = space.capacity.saturating_sub(used).min(free);
        Some(granted.saturating_sub(self.reserved))
    }

    /// Whether a chunk of `account` with this sealed length may come in from this peer.
    pub(super) fn room(
        &mut self,
        now: Time,
        from: &NodeId,
        (account, sealed_bytes): (&Account, u32),
        limits: &HolderLimits,
    ) -> Room {
        let Some(available) = self.available() else {
            return Room::Closed;
        };
        let new = Self::disk_bytes(sealed_bytes);
        let reserved = self.reserved_by.get(account).copied().unwrap_or(0);
        let used = self.used.get(account).copied().unwrap_or(0).saturating_add(reserved);
        if new > available || !self.knows(account) && !self.takes_new(now, from, account, limits) {
            Room::Short
        } else if used.saturating_add(new) > limits.account_bytes_max {
            Room::OverQuota
        } else {
            Room::Enough
        }
    }

    /// The same for a record of a head. Neither how full the store is nor the quota stands in its
    /// way: whoever is to give space back has to say so in a head first, and the store bounds them.
    pub(super) fn room_for_head(
        &mut self,
        now: Time,
        from: &NodeId,
        account: &Account,
        limits: &HolderLimits,
    ) -> Room {
        match self.available() {
            None => Room::Closed,
            Some(_) if self.knows(account) => Room::Enough,
            Some(_) if self.takes_new(now, from, account, limits) => Room::Enough,
            Some(_) => Room::Short,
        }
    }

    /// Whether the account has something here, or is about to.
    pub(super) fn knows(&self, account: &Account) -> bool {
        self.used.contains_key(account) || self.reserved_by.contains_key(account)
    }

    /// Whether an account that has nothing here may come from this peer.
    fn takes_new(
        &mut self,
        now: Time,
        from: &NodeId,
        account: &Account,
        limits: &HolderLimits,
    ) -> bool {
        let is_over = |brought: &Newcomers| now.since(brought.since) >= DAY;
        if self.newcomers.get(from).is_some_and(is_over) {
            self.newcomers.remove(from);
        } else if self.newcomers.len() >= limits.new_account_peers {
            self.newcomers.retain(|_, brought| !is_over(brought));
        }
        let may_bring = match self.newcomers.get(from) {
            None => self.newcomers.len() < limits.new_account_peers,
            Some(Newcomers { accounts, .. }) => {
                accounts.contains(account) || accounts.len() < limits.new_accounts_per_peer
            }
        };
        self.accounts() < limits.accounts_max && may_bring
    }

    /// Sets bytes aside for a chunk that was let in.
    pub(super) fn reserve(&mut self, now: Time, from: NodeId, account: Account, sealed_bytes: u32) {
        if !self.knows(&account) {
            let nobody = || Newcomers { since: now, accounts: BTreeSet::new() };
            self.newcomers.entry(from).or_insert_with(nobody).accounts.insert(account);
        }
        let bytes = Self::disk_bytes(sealed_bytes);
        self.reserved = self.reserved.saturating_add(bytes);
        let own = self.reserved_by.entry(account).or_insert(0);
        *own = own.saturating_add(bytes);
    }

    /// Ends a reservation: with the bytes that were added where something was written.
    pub(super) fn settle(&mut self, account: Account, sealed_bytes: u32, added: Option<u64>) {
        let bytes = Self::disk_bytes(sealed_bytes);
        self.reserved = self.reserved.saturating_sub(bytes);
        let own = self.reserved_by.get(&account).copied().unwrap_or(0);
        if own <= bytes {
            self.reserved_by.remove(&account);
        } else {
            self.reserved_by.insert(account, own - bytes);
        }
        let added = added.unwrap_or(0);
        if added > 0 {
            let used = self.used.entry(account).or_insert(0);
            *used = used.saturating_add(added);
            // Until the store says how full it is now.
            if let Some(space) = &mut self.space {
                space.used = space.used.saturating_add(added);
                space.free = space.free.saturating_sub(added);
            }
        }
    }

    /// A chunk is gone: it no longer counts for its account. How full the store is it says itself.
    pub(super) fn free(&mut self, deleted: &Deleted) {
        if planted::is_on(Bug::CountDeleted) {
            return;
        }
        let used = self.used.get(&deleted.account).copied().unwrap_or(0);
        if used <= deleted.freed_bytes {
            self.used.remove(&deleted.account);
        } else {
            self.used.insert(deleted.account, used - deleted.freed_bytes);
        }
    }

    /// Bytes on disk by account.
    pub(super) fn used(&self) -> &BTreeMap<Account, u64> {
        &self.used
    }

    /// Accounts in the tables.
    pub(super) fn accounts(&self) -> usize {
        self.used.len() + self.reserved_by.len()
    }
}

/// What to promise an owner that asks for these terms: no less than it asks, within this node's
/// policy. `None` where it asks for more than the policy allows.
pub(super) fn promise(asked: &LeaseTerms, limits: &HolderLimits) -> Option<LeaseTerms> {
    let max = &limits.terms_max;
    let release_delay_s = match planted::is_on(Bug::ShortTerms) {
        true => 0,
        false => asked.release_delay_s.max(limits.release_delay_min_s),
    };
    let within = asked.renew_every_s <= max.renew_every_s
        && asked.keep_after_silence_s <= max.keep_after_silence_s
        && release_delay_s <= max.release_delay_s;
    within.then_some(LeaseTerms { release_delay_s, ..*asked })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: Account = Account::from_bytes([1; 32]);
    const OTHER: Account = Account::from_bytes([2; 32]);
    const PEER: NodeId = NodeId::from_bytes([3; 32]);

    fn room(admission: &mut Admission, chunk: (&Account, u32), limits: &HolderLimits) -> Room {
        admission.room(Time(0), &PEER, chunk, limits)
    }

    fn space(capacity: u64, used: u64) -> Space {
        Space { capacity, used, free: capacity, ..Space::default() }
    }

    #[test]
    fn nothing_comes_in_before_the_store_spoke_or_when_it_is_read_only() {
        let mut admission = Admission::new(BTreeMap::new());
        let limits = HolderLimits::default();
        assert_eq!(room(&mut admission, (&ACCOUNT, 100), &limits), Room::Closed);
        admission.set_space(space(1 << 20, 0));
        assert_eq!(room(&mut admission, (&ACCOUNT, 100), &limits), Room::Enough);
        admission.set_read_only();
        assert_eq!(room(&mut admission, (&ACCOUNT, 100), &limits), Room::Closed);
    }

    #[test]
    fn what_goes_where_room_is_needed_counts_as_room() {
        let mut admission = Admission::new(BTreeMap::new());
        let limits = HolderLimits::default();
        admission.set_space(Space { free: 0, ..space(1 << 20, 1 << 20) });
        assert_eq!(room(&mut admission, (&ACCOUNT, 100), &limits), Room::Short);
        admission.set_space(Space { free: 0, reclaimable: 64 << 10, ..space(1 << 20, 1 << 20) });
        assert_eq!(room(&mut admission, (&ACCOUNT, 100), &limits), Room::Enough);
        assert_eq!(room(&mut admission, (&ACCOUNT, 60 << 10), &limits), Room::Short);
    }

    #[test]
    fn a_chunk_counts_with_its_tags() {
        let most = crate::core::types::CHUNK_SEALED_BYTES_MAX;
        let needed = u64::from(most) + 18_736 + RECORD_OVERHEAD_BYTES;
        let limits = HolderLimits::default();
        for (capacity, expected) in [(needed - 1, Room::Short), (needed, Room::Enough)] {
            let mut admission = Admission::new(BTreeMap::new());
            admission.set_space(space(capacity, 0));
            assert_eq!(room(&mut admission, (&ACCOUNT, most), &limits), expected, "{capacity}");
        }
    }

    #[test]
    fn reservations_count_until_they_are_settled() {
        let mut admission = Admission::new(BTreeMap::new());
        let limits = HolderLimits::default();
        admission.set_space(space(20 << 10, 0));
        admission.reserve(Time(0), PEER, ACCOUNT, 4 << 10);
        assert_eq!(room(&mut admission, (&OTHER, 4 << 10), &limits), Room::Short);
        admission.settle(ACCOUNT, 4 << 10, None);
        assert_eq!(room(&mut admission, (&OTHER, 4 << 10), &limits), Room::Enough);
        assert_eq!(admission.accounts(), 0);
    }

    #[test]
    fn quota_counts_what_was_stored_before_and_since() {
        let mut admission = Admission::new(BTreeMap::from([(ACCOUNT, 10 << 10)]));
        let limits = HolderLimits { account_bytes_max: 30 << 10, ..HolderLimits::default() };
        admission.set_space(space(1 << 20, 10 << 10));
        assert_eq!(room(&mut admission, (&ACCOUNT, 10 << 10), &limits), Room::Enough);
        admission.reserve(Time(0), PEER, ACCOUNT, 10 << 10);
        admission.settle(ACCOUNT, 10 << 10, Some(12 << 10));
        assert_eq!(room(&mut admission, (&ACCOUNT, 10 << 10), &limits), Room::OverQuota);
        assert_eq!(room(&mut admission, (&OTHER, 10 << 10), &limits), Room::Enough);
    }

    #[test]
    fn what_is_deleted_counts_no_more_and_an_account_without_chunks_is_forgotten() {
        let mut admission = Admission::new(BTreeMap::from([(ACCOUNT, 20 << 10)]));
        let limits = HolderLimits { account_bytes_max: 30 << 10, ..HolderLimits::default() };
        admission.set_space(space(1 << 20, 0));
        assert_eq!(room(&mut admission, (&ACCOUNT, 10 << 10), &limits), Room::OverQuota);
        admission.free(&Deleted { account: ACCOUNT, freed_bytes: 12 << 10 });
        assert_eq!(room(&mut admission, (&ACCOUNT, 10 << 10), &limits), Room::Enough);
        assert_eq!(admission.accounts(), 1);
        admission.free(&Deleted { account: ACCOUNT, freed_bytes: 8 << 10 });
        admission.free(&Deleted { account: OTHER, freed_bytes: 1 });
        assert_eq!(admission.accounts(), 0);
    }

    #[test]
    fn number_of_accounts_is_bounded() {
        let mut admission = Admission::new(BTreeMap::from([(ACCOUNT, 1)]));
        let limits = HolderLimits { accounts_max: 1, ..HolderLimits::default() };
        admission.set_space(space(1 << 20, 0));
        assert_eq!(room(&mut admission, (&OTHER, 100), &limits), Room::Short);
        assert_eq!(room(&mut admission, (&ACCOUNT, 100), &limits), Room::Enough);
    }

    #[test]
    fn one_peer_brings_a_few_new_accounts_a_day_and_shuts_nobody_else_out() {
        let mut admission = Admission::new(BTreeMap::new());
        let limits = HolderLimits { new_account_peers: 2, ..HolderLimits::default() };
        admission.set_space(space(1 << 30, 0));
        let mut bring = |now: Time, peer: u8, account: u8| {
            let (peer, account) =
                (NodeId::from_bytes([peer; 32]), Account::from_bytes([account; 32]));
            let is_let_in = admission.room(now, &peer, (&account, 100), &limits) == Room::Enough;
            if is_let_in {
                admission.reserve(now, peer, account, 100);
            }
            is_let_in
        };
        assert_eq!((0..100).filter(|account| bring(Time(0), 1, *account)).count(), 8);
        assert!(bring(Time(0), 1, 7), "one that is known may bring more");
        assert!(bring(Time(1), 2, 100), "another peer");
        assert!(!bring(Time(1), 3, 101), "the table is full");
        let day = Time(24 * 3_600_000);
        assert!(bring(day, 3, 101), "the first one's day is over");
        assert!(!bring(day, 1, 102), "and the table is full again");
        assert!(bring(Time(day.0 + 1), 1, 102));
    }

    #[test]
    fn an_account_whose_first_chunk_failed_or_is_gone_is_let_in_again() {
        let mut admission = Admission::new(BTreeMap::new());
        let limits = HolderLimits { new_accounts_per_peer: 1, ..HolderLimits::default() };
        admission.set_space(space(1 << 20, 0));
        for _ in 0..3 {
            assert_eq!(room(&mut admission, (&ACCOUNT, 100), &limits), Room::Enough);
            admission.reserve(Time(0), PEER, ACCOUNT, 100);
            admission.settle(ACCOUNT, 100, None);
        }
        assert_eq!(room(&mut admission, (&OTHER, 100), &limits), Room::Short);
    }

    #[test]
    fn promise_is_never_below_the_wish_and_never_above_the_policy() {
        let limits = HolderLimits::default();
        let asked = LeaseTerms::default();
        assert_eq!(promise(&asked, &limits), Some(asked));
        let hasty = LeaseTerms { release_delay_s: 0, ..asked };
        assert_eq!(promise(&hasty, &limits), Some(asked));
        let greedy = LeaseTerms { keep_after_silence_s: u32::MAX, ..asked };
        assert_eq!(promise(&greedy, &limits), None);
    }
}
