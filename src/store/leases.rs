//! Leases: when each owner was heard of last, and what may go once its silence is over.
//!
//! A chunk is promised for so long after its owner was heard of last
//! ([`LeaseTerms::keep_after_silence_s`](crate::core::types::LeaseTerms), its own). Heard of is an
//! owner whose proof or MAC held: it stored a chunk or a head, asked about its account, let
//! something go or took that back. The time counts in the store's own **uptime**; no clock is
//! asked, and a node that is off for a year has not lost a day.
//!
//! Whose time is over keeps what it has all the same, as long as nobody else needs the room. Where
//! a write would be refused as full, or others have used the disk's reserve up, leases **end**: of
//! those accounts first that never had an audit answered with a proof, then in the order of their
//! silence, the longest first; as many as it takes, and no more. Chunks that were released and are
//! due go before any of them. A chunk whose lease has ended is buried as any other that is deleted.
//! Records of heads are few and small, and stay.
//!
//! # What is kept of it
//! An item of the ledger for each account, written at most every [`HEARD_EVERY_S`], so that a crash
//! forgets no more than that; [`LEASE_SLACK_S`] is added to each time for it. An account of which
//! the ledger says nothing was heard of when the store was opened; so was every account where the
//! ledger is damaged or a tail of it was cut off, which may have said something newer.
//!
//! # Bounds
//! One entry for each account, of about 100 bytes; a group looks at [`LOOKS_MAX`] chunks at most.

mod writing;

use super::accounts::Half;
use super::heads::UPTIME_EVERY_S;
use super::ledger::format::{HEARD_ITEM_BYTES, HeardItem};
use crate::core::types::Account;
use std::collections::{BTreeMap, BTreeSet};

/// When an owner was heard of is written down at most this often, in seconds of uptime.
pub const HEARD_EVERY_S: u64 = 3_600;

/// A lease lasts so much longer than its time: what is written down of it may be behind.
pub const LEASE_SLACK_S: u64 = HEARD_EVERY_S + 2 * UPTIME_EVERY_S;

/// The most chunks that are looked at for one group.
pub const LOOKS_MAX: usize = 4_096;

/// The most items of one group for the ledger.
const SAVED_MAX: usize = 1_024;

/// When an owner was heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Heard {
    at: u64,
    audited: bool,
    /// The same as the ledger has it.
    saved: Option<(u64, bool)>,
}

impl Heard {
    fn is_news(&self) -> bool {
        self.saved.is_none_or(|(at, audited)| {
            self.audited != audited || self.at >= at.saturating_add(HEARD_EVERY_S)
        })
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Leases {
    heard: BTreeMap<Account, Heard>,
    /// Those of which the ledger is to be told.
    news: BTreeSet<Account>,
    /// Where the last look at the chunks of an account ended.
    stand: Option<(Account, Half)>,
    /// The uptime at which room was made for the disk's reserve: not again before that goes on.
    relieved_at: Option<u64>,
}

impl Leases {
    /// Puts what the ledger says.
    pub(super) fn take(&mut self, item: &HeardItem) {
        let HeardItem { account, at, audited } = *item;
        self.heard.insert(account, Heard { at, audited, saved: Some((at, audited)) });
    }

    /// The store was opened: forgets accounts that have nothing here, and begins with those of
    /// which nothing is known; with all of them where that may not be the newest.
    fn begin(&mut self, accounts: &BTreeMap<Account, u64>, uptime: u64, is_in_doubt: bool) {
        self.heard.retain(|account, _| accounts.contains_key(account));
        for account in accounts.keys() {
            let heard = self.heard.entry(*account).or_default();
            if heard.saved.is_none() || is_in_doubt {
                (heard.at, heard.saved) = (uptime, None);
                self.news.insert(*account);
            }
        }
    }

    fn hear(&mut self, account: &Account, uptime: u64, audited: bool) {
        let heard = self.heard.entry(*account).or_default();
        heard.at = heard.at.max(uptime);
        heard.audited |= audited;
        if heard.is_news() {
            self.news.insert(*account);
        }
    }

    /// Forgets accounts that have nothing here, where they are many.
    fn thin(&mut self, accounts: &BTreeMap<Account, u64>) {
        if self.heard.len() > accounts.len().saturating_mul(2).saturating_add(256) {
            self.heard.retain(|account, _| accounts.contains_key(account));
            self.news.retain(|account| accounts.contains_key(account));
        }
    }

    /// What the ledger is to be told of accounts that have something here.
    fn news(&self, accounts: &BTreeMap<Account, u64>) -> Vec<HeardItem> {
        let news = self.news.iter().filter(|account| accounts.contains_key(account));
        news.filter_map(|account| self.item(account)).take(SAVED_MAX).collect()
    }

    fn item(&self, account: &Account) -> Option<HeardItem> {
        let Heard { at, audited, .. } = *self.heard.get(account)?;
        Some(HeardItem { account: *account, at, audited })
    }

    /// All there is, for a new ledger.
    pub(super) fn items(&self) -> Vec<HeardItem> {
        self.heard.keys().filter_map(|account| self.item(account)).collect()
    }

    /// What they take in a ledger.
    pub(super) fn bytes(&self) -> u64 {
        let count = u64::try_from(self.heard.len()).unwrap_or(u64::MAX);
        count.saturating_mul(HEARD_ITEM_BYTES as u64)
    }

    /// The ledger has these, durably.
    pub(super) fn saved(&mut self, items: &[HeardItem]) {
        for HeardItem { account, at, audited } in items {
            let Some(heard) = self.heard.get_mut(account) else { continue };
            heard.saved = Some((*at, *audited));
            if !heard.is_news() {
                self.news.remove(account);
            }
        }
    }

    /// The longest time after silence, in seconds, that is over for this account: leases with
    /// longer ones are not. `None` where none is.
    fn over_s(&self, account: &Account, uptime: u64) -> Option<u32> {
        let silent_s = uptime.checked_sub(self.heard.get(account)?.at)?;
        let over_s = silent_s.checked_sub(LEASE_SLACK_S)?;
        Some(u32::try_from(over_s).unwrap_or(u32::MAX))
    }

    /// Those of these accounts that have leases which are over, each with the longest such time:
    /// in the order in which they end.
    fn over(
        &self,
        kept: &BTreeMap<Account, BTreeMap<u32, u64>>,
        uptime: u64,
    ) -> Vec<(Account, u32)> {
        let over = kept.iter().filter_map(|(account, by_time)| {
            let over_s = self.over_s(account, uptime)?;
            by_time.range(..=over_s).next()?;
            let Heard { audited, at, .. } = self.heard.get(account)?;
            Some(((*audited, *at), *account, over_s))
        });
        let mut over: Vec<_> = over.collect();
        over.sort_unstable();
        over.into_iter().map(|(_, account, over_s)| (account, over_s)).collect()
    }

    /// Bytes of chunks whose leases are over.
    fn bytes_over(&self, kept: &BTreeMap<Account, BTreeMap<u32, u64>>, uptime: u64) -> u64 {
        let of = |(account, by_time): (&Account, &BTreeMap<u32, u64>)| {
            let over_s = self.over_s(account, uptime)?;
            Some(by_time.range(..=over_s).map(|(_, bytes)| *bytes).fold(0, u64::saturating_add))
        };
        kept.iter().filter_map(of).fold(0, u64::saturating_add)
    }
}

/// The leases' share of a group on its way.
#[derive(Debug, Default)]
pub(super) struct LeaseGroup {
    /// What the ledger is told with it.
    news: Vec<HeardItem>,
    /// Bytes of records that are buried with it: the disk has them back when it is tidied.
    pub(super) buried: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR_S: u32 = 365 * 86_400;

    fn account(tag: u8) -> Account {
        Account::from_bytes([tag; 32])
    }

    #[test]
    fn junk_goes_first_then_the_longest_silence_and_nothing_whose_time_is_not_over() {
        let mut leases = Leases::default();
        for (tag, at, audited) in [(1, 500, true), (2, 100, true), (3, 900, false), (4, 0, true)] {
            leases.hear(&account(tag), at, audited);
        }
        let kept = |keep_s| BTreeMap::from([(keep_s, 10), (YEAR_S, 5)]);
        let mut all: BTreeMap<Account, BTreeMap<u32, u64>> =
            (1..=3).map(|tag| (account(tag), kept(1_000))).collect();
        all.insert(account(4), kept(YEAR_S / 2));
        let order = |uptime| {
            let over = leases.over(&all, uptime).into_iter();
            over.map(|(account, _)| account.as_bytes()[0]).collect::<Vec<u8>>()
        };
        let end = 1_000 + LEASE_SLACK_S;
        assert_eq!(order(99 + end), [0; 0]);
        assert_eq!(order(100 + end), [2]);
        assert_eq!(order(899 + end), [2, 1]);
        assert_eq!(order(900 + end), [3, 2, 1]);
        assert_eq!(leases.bytes_over(&all, 900 + end), 30);
        assert_eq!(leases.bytes_over(&all, u64::MAX), 60);
    }

    #[test]
    fn the_ledger_is_told_once_an_hour_and_of_the_first_audit_at_once() {
        let (mut leases, known) = (Leases::default(), BTreeMap::from([(account(1), 1)]));
        leases.hear(&account(1), 10, false);
        leases.hear(&account(2), 10, false);
        let told = |leases: &mut Leases| {
            let news = leases.news(&known);
            leases.saved(&news);
            news.len()
        };
        assert_eq!((told(&mut leases), told(&mut leases)), (1, 0), "of known ones, once");
        leases.hear(&account(1), 9 + HEARD_EVERY_S, false);
        assert_eq!(told(&mut leases), 0);
        leases.hear(&account(1), 9 + HEARD_EVERY_S, true);
        assert_eq!(told(&mut leases), 1);
        leases.hear(&account(1), 9 + 2 * HEARD_EVERY_S, false);
        assert_eq!(told(&mut leases), 1);
        assert_eq!(leases.items()[0].at, 9 + 2 * HEARD_EVERY_S);
    }

    #[test]
    fn what_is_not_known_or_in_doubt_begins_when_the_store_is_opened() {
        let item = |tag, at| HeardItem { account: account(tag), at, audited: true };
        let accounts = BTreeMap::from([(account(1), 1), (account(2), 1)]);
        for (is_in_doubt, expected) in [(false, [50, 90]), (true, [90, 90])] {
            let mut leases = Leases::default();
            leases.take(&item(1, 50));
            leases.take(&item(3, 60));
            leases.begin(&accounts, 90, is_in_doubt);
            let at: Vec<u64> = leases.items().iter().map(|item| item.at).collect();
            assert_eq!(at, expected);
            assert_eq!(leases.news(&accounts).len(), if is_in_doubt { 2 } else { 1 });
            assert!(leases.items()[0].audited);
        }
    }
}
