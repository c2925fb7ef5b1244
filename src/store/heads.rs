//! Records of heads: which are kept, for how long, and how the writer takes one in.
//!
//! Of a head the highest number counts. One that it supersedes is kept until thirty days of
//! **uptime** have passed since: an owner who finds that the newest is not hers, or was written by
//! a device gone mad, has that long to go back. No clock is asked. Another record of the newest
//! number is kept beside it as evidence, and is not acknowledged.
//!
//! Where a head is written often its records are **thinned** at a bound: one goes whose neighbours
//! are both kept and lie within [`SPARE_S`] of each other, so that for each hour there is still one
//! to go back to. Above a bound where none can go the new one is refused, and nothing that is kept
//! goes. Bounds: [`HeadBounds`], and `FORKS_MAX`.
//!
//! The table is in memory, made from the ledger when the store is opened: 64 bytes a record, about
//! 250 a head, and 100 an account. It is 100 MiB at worst where [`HeadBounds::versions`] is
//! reached, with one record of each head, and above that an account has its share only: so many
//! accounts that it doubles take weeks for hundreds of peers.

mod writing;

use super::disk::{Disk, DiskError};
use super::index::Catalogue;
use super::leases::Leases;
use super::ledger::format::{HEAD_ITEM_BYTES, HeadItem, Item};
use super::ledger::{Ledger, Opened, Place, read_head};
use super::reader::Reader;
use super::releases::{self, Releases, SharedReleases};
use crate::core::effect::{Deleted, Found, HeadWritten, Input, StoreError};
use crate::core::types::{Account, ChunkId, Ticket};
use crate::crypto::head::{HeadRecord, NUMBER_AHEAD_MAX};
use crate::planted::{self, Bug};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much is kept of heads. Above: [`StoreError::TooManyHeads`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadBounds {
    /// Heads that one account may have here.
    pub heads_per_account: usize,
    /// Records of one head. With more than two for each hour of thirty days, there is always one
    /// that can go.
    pub versions_per_head: usize,
    /// Records of all heads of one account.
    pub versions_per_account: u64,
    /// Records in all. Above, an account has an even share of them at most, so that a few cannot
    /// shut out all others.
    pub versions: u64,
}

impl Default for HeadBounds {
    fn default() -> Self {
        Self {
            heads_per_account: 64,
            versions_per_head: 4_096,
            versions_per_account: 16_384,
            versions: 1 << 18,
        }
    }
}

/// A record may make room where those before and after it came within so many seconds of uptime.
pub const SPARE_S: u64 = 3_600;

/// Other records of a number that are kept as evidence.
const FORKS_MAX: u8 = 4;

/// Uptime is saved about this often, in seconds.
pub const UPTIME_EVERY_S: u64 = 600;

/// The first step back in what is shown of superseded records: an hour of uptime.
const FIRST_STEP_S: u64 = 3_600;

/// How long a superseded record is kept: thirty days, and more than the saved uptime may be behind.
pub const KEEP_SUPERSEDED_S: u64 = 30 * 86_400 + 2 * UPTIME_EVERY_S;

/// So much above the capacity heads may take, and as much of half the disk's reserve: whoever wants
/// to give a full holder space back has to tell so in a head first.
pub const HEADS_RESERVE_BYTES: u64 = 4 << 20;

/// A ledger shorter than this is not written anew.
const REWRITE_MIN_BYTES: u64 = 1 << 20;

/// What a record takes on disk.
const RECORD_BYTES: u64 = HEAD_ITEM_BYTES as u64;

/// A number, and which record of it: 0 is the one that counts.
type Version = (u64, u8);

/// A record that is kept.
#[derive(Debug, Clone)]
struct Kept {
    number: u64,
    hash: [u8; 32],
    stored_at: u64,
    /// In the ledger of [`Heads::generation`].
    offset: u64,
    copy: u8,
    /// It is on the disk for good, and may be shown.
    durable: bool,
}

impl Kept {
    fn version(&self) -> Version {
        (self.number, self.copy)
    }
}

#[derive(Debug)]
struct Head {
    account: Account,
    read: [u8; 32],
    /// Ascending by version.
    versions: Vec<Kept>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    heads: usize,
    versions: u64,
}

/// What is to be done with a record that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It is there already.
    Known(Version),
    Keep(Version),
}

/// The heads of a store.
#[derive(Debug, Default)]
pub(super) struct Heads {
    by_id: BTreeMap<ChunkId, Head>,
    accounts: BTreeMap<Account, Count>,
    versions: u64,
    /// Of the ledger in which they lie.
    generation: u64,
    /// A reader found one damaged.
    is_marred: bool,
}

/// Shared by the writer and the readers.
pub(super) type SharedHeads = Arc<Mutex<Heads>>;

fn lock(heads: &SharedHeads) -> MutexGuard<'_, Heads> {
    heads.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Heads {
    fn judge(&self, account: &Account, record: &HeadRecord) -> Result<Verdict, StoreError> {
        let number = record.number();
        match self.by_id.get(&record.id()) {
            None => Ok(Verdict::Keep((number, 0))),
            Some(head) if head.account != *account => Err(StoreError::OtherAccount),
            Some(head) => head.judge(number, &record.hash()),
        }
    }

    /// Whether one more record of the head fits.
    fn has_room(&self, bounds: &HeadBounds, account: &Account, id: &ChunkId) -> bool {
        let count = self.accounts.get(account).copied().unwrap_or_default();
        let fits = match self.by_id.get(id) {
            None => count.heads < bounds.heads_per_account,
            Some(head) => head.versions.len() < bounds.versions_per_head,
        };
        let is_new = !self.accounts.contains_key(account);
        let accounts = self.accounts.len().saturating_add(usize::from(is_new)).max(1);
        let share = bounds.versions / u64::try_from(accounts).unwrap_or(u64::MAX);
        fits && count.versions < bounds.versions_per_account
            && (self.versions < bounds.versions || count.versions < share)
    }

    /// Takes a record out that can make room for another one of its head.
    fn thin(&mut self, id: &ChunkId) -> Option<Kept> {
        let spare = self.by_id.get(id)?.spare()?;
        self.remove(id, spare).map(|(_, kept)| kept)
    }

    /// Thins what is above the bounds: what made room comes back where the store is opened before
    /// its ledger was written anew. Whose each was.
    fn thin_all(&mut self, bounds: &HeadBounds) -> Vec<Account> {
        let mut gone = Vec::new();
        let ids: Vec<ChunkId> = self.by_id.keys().copied().collect();
        for id in ids {
            while let Some(head) = self.by_id.get(&id) {
                let account = head.account;
                let count = self.accounts.get(&account).copied().unwrap_or_default();
                let fits = head.versions.len() <= bounds.versions_per_head
                    && count.versions <= bounds.versions_per_account;
                if fits || self.thin(&id).is_none() {
                    break;
                }
                gone.push(account);
            }
        }
        gone
    }

    /// Takes a record in; gives back the one that was in its place.
    fn put(&mut self, account: Account, record: &HeadRecord, kept: Kept) -> Option<Kept> {
        let count = self.accounts.entry(account).or_default();
        let head = self.by_id.entry(record.id()).or_insert_with(|| {
            count.heads = count.heads.saturating_add(1);
            let versions = Vec::with_capacity(1);
            Head { account, read: record.read_point(), versions }
        });
        let before = head.put(kept);
        if before.is_none() {
            count.versions = count.versions.saturating_add(1);
            self.versions = self.versions.saturating_add(1);
        }
        before
    }

    /// Puts a record back that was there a moment ago, or where another one is now.
    fn put_back(&mut self, id: &ChunkId, account: &Account, kept: Kept) {
        let Some(head) = self.by_id.get_mut(id) else { return };
        if head.put(kept).is_none() {
            let count = self.accounts.entry(*account).or_default();
            count.versions = count.versions.saturating_add(1);
            self.versions = self.versions.saturating_add(1);
        }
    }

    /// Takes a record out again; whose it was.
    fn remove(&mut self, id: &ChunkId, version: Version) -> Option<(Account, Kept)> {
        let head = self.by_id.get_mut(id)?;
        let at = head.position(version).ok()?;
        let kept = head.versions.remove(at);
        let (account, is_gone) = (head.account, head.versions.is_empty());
        if is_gone {
            self.by_id.remove(id);
        }
        self.uncount(&account, is_gone);
        Some((account, kept))
    }

    /// The account has one record less, and perhaps one head.
    fn uncount(&mut self, account: &Account, is_head: bool) {
        self.versions = self.versions.saturating_sub(1);
        if let Some(count) = self.accounts.get_mut(account) {
            count.versions = count.versions.saturating_sub(1);
            count.heads = count.heads.saturating_sub(usize::from(is_head));
            if count.versions == 0 {
                self.accounts.remove(account);
            }
        }
    }

    /// Takes out what was superseded long enough; whose each was.
    fn expire(&mut self, uptime: u64) -> Vec<Account> {
        let mut gone = Vec::new();
        for head in self.by_id.values_mut() {
            let (kept_from, before) = (head.kept_from(uptime), head.versions.len());
            head.versions.retain(|kept| kept.number >= kept_from);
            let lost = before.saturating_sub(head.versions.len());
            gone.extend(std::iter::repeat_n(head.account, lost));
        }
        // The newest of each is still there.
        gone.iter().for_each(|account| self.uncount(account, false));
        gone
    }

    fn get(&self, id: &ChunkId, version: Version) -> Option<&Kept> {
        let head = self.by_id.get(id)?;
        head.versions.get(head.position(version).ok()?)
    }

    fn get_mut(&mut self, id: &ChunkId, version: Version) -> Option<&mut Kept> {
        let head = self.by_id.get_mut(id)?;
        let at = head.position(version).ok()?;
        head.versions.get_mut(at)
    }

    fn place(&self, kept: &Kept) -> Place {
        Place { generation: self.generation, offset: kept.offset }
    }

    /// Where the records of a head lie that are shown: all of the newest number, the one that
    /// counts first, and so many with lower numbers, the highest first. See [`spread`].
    fn shown(&self, id: &ChunkId, superseded: usize) -> Vec<Place> {
        let versions = self.by_id.get(id).map(|head| head.versions.as_slice()).unwrap_or_default();
        let shown = || versions.iter().filter(|kept| kept.durable);
        let newest = match planted::is_on(Bug::ShowOldest) {
            true => shown().next(),
            false => shown().next_back(),
        };
        let newest = newest.map_or(0, |kept| kept.number);
        let lower: Vec<&Kept> = shown().rev().filter(|kept| kept.number < newest).collect();
        let mut lower = spread(&lower, superseded);
        lower.sort_by_key(|kept| (std::cmp::Reverse(kept.number), kept.copy));
        let copies = shown().filter(|kept| kept.number == newest);
        copies.chain(lower).map(|kept| self.place(kept)).collect()
    }

    fn found(&self, id: &ChunkId) -> Option<Found> {
        let head = self.by_id.get(id)?;
        let shown = head.versions.iter().any(|kept| kept.durable);
        shown.then_some(Found::Head { read: head.read })
    }
}

/// Of superseded records, the highest number first, as many as are asked for: half of them are the
/// highest, and the others go back from these in steps of 1, 2, 4, 8 hours and so on. Whoever has
/// the owner's keys writes a head often in an hour, and what was there before is shown all the
/// same. Where that makes too few they are the highest again.
fn spread<'k>(lower: &[&'k Kept], count: usize) -> Vec<&'k Kept> {
    let (newest, older) = lower.split_at(count.div_ceil(2).min(lower.len()));
    let mut taken = newest.to_vec();
    let (mut others, mut step) = (Vec::new(), FIRST_STEP_S);
    let mut last = newest.last().map_or(0, |kept| kept.stored_at);
    for kept in older {
        if taken.len() < count && last.saturating_sub(kept.stored_at) >= step {
            (last, step) = (kept.stored_at, step.saturating_mul(2));
            taken.push(kept);
        } else {
            others.push(*kept);
        }
    }
    let lacking = count.saturating_sub(taken.len());
    taken.extend(others.into_iter().take(lacking));
    taken
}

impl Head {
    fn position(&self, version: Version) -> Result<usize, usize> {
        self.versions.binary_search_by_key(&version, Kept::version)
    }

    fn put(&mut self, kept: Kept) -> Option<Kept> {
        match self.position(kept.version()) {
            Ok(at) => self.versions.get_mut(at).map(|before| std::mem::replace(before, kept)),
            Err(at) => {
                self.versions.insert(at, kept);
                None
            }
        }
    }

    fn judge(&self, number: u64, hash: &[u8; 32]) -> Result<Verdict, StoreError> {
        let newest = self.versions.last().map_or(0, |kept| kept.number);
        if number > newest.saturating_add(NUMBER_AHEAD_MAX) {
            return Err(StoreError::TooFarAhead);
        }
        if number < newest {
            return Err(StoreError::Superseded);
        }
        let mut copies = self.versions.iter().filter(|kept| kept.number == number);
        if let Some(kept) = copies.find(|kept| kept.hash == *hash) {
            return Ok(Verdict::Known(kept.version()));
        }
        // The first is the one that counts, and may have been found damaged and gone.
        let free = (0..=FORKS_MAX).find(|copy| self.position((number, *copy)).is_err());
        free.map(|copy| Verdict::Keep((number, copy))).ok_or(StoreError::Superseded)
    }

    /// Records with a lower number than this were superseded long enough.
    fn kept_from(&self, uptime: u64) -> u64 {
        let long_ago = |kept: &&Kept| kept.stored_at.saturating_add(KEEP_SUPERSEDED_S) <= uptime;
        let counts = self.versions.iter().filter(|kept| kept.copy == 0 && kept.durable);
        counts.filter(long_ago).map(|kept| kept.number).next_back().unwrap_or(0)
    }

    /// A record that can make room, which leaves the smallest gap. Never the newest one, the
    /// oldest one, or one beside which there is evidence.
    fn spare(&self) -> Option<Version> {
        let gap = |three: &[Kept]| match three {
            [before, it, after] if it.copy == 0 && after.copy == 0 && it.durable => {
                let gap = after.stored_at.saturating_sub(before.stored_at);
                (gap <= SPARE_S && before.durable && after.durable).then_some((gap, it.version()))
            }
            _ => None,
        };
        let spare = self.versions.windows(3).filter_map(gap).min_by_key(|(gap, _)| *gap);
        spare.map(|(_, version)| version)
    }
}

/// The heads' share of a group on its way.
#[derive(Debug, Default)]
pub(super) struct HeadGroup {
    results: Vec<(Ticket, Result<HeadWritten, StoreError>)>,
    /// What the ledger is to get.
    items: Vec<Item>,
    /// The record of each item; of the uptime and of releases there is none.
    staged: Vec<Option<(ChunkId, Version)>>,
    /// What was new among them.
    added: Vec<(ChunkId, Version)>,
    /// What stood in the place of the others, damaged.
    replaced: Vec<(ChunkId, Account, Kept)>,
    /// What made room.
    thinned: Vec<(ChunkId, Account, Kept)>,
    uptime: Option<u64>,
    dropped: Vec<Deleted>,
}

impl HeadGroup {
    /// One more item for the ledger that is no record.
    pub(super) fn push(&mut self, item: Item) {
        self.items.push(item);
        self.staged.push(None);
    }

    /// What the uptime is with this group, where time passed.
    pub(super) fn uptime(&self) -> Option<u64> {
        self.uptime
    }

    /// Whether the ledger has something of this group.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn into_inputs(self) -> Vec<Input> {
        let written = (!self.results.is_empty()).then_some(Input::HeadsWritten(self.results));
        let dropped = (!self.dropped.is_empty()).then_some(Input::HeadsDropped(self.dropped));
        let uptime = self.uptime.map(Input::Uptime);
        written.into_iter().chain(dropped).chain(uptime).collect()
    }
}

/// What the writer has of the heads, and of what else stands in the ledger.
pub(crate) struct Keeping<D> {
    pub(super) ledger: Ledger<D>,
    pub(super) heads: SharedHeads,
    pub(super) releases: SharedReleases,
    pub(super) leases: Leases,
    /// How long the store was in use, in seconds: never more than it was.
    pub(super) uptime: u64,
    /// The ledger is to be written anew, whatever its length.
    pub(super) is_marred: bool,
    /// A tail of it was cut off when it was opened.
    pub(super) is_torn: bool,
    /// The uptime at which something that is due could not be destroyed: not again before that goes
    /// on.
    pub(super) paused_at: Option<u64>,
    /// Its length when writing it anew failed: not again before it is an eighth longer.
    pub(super) stuck: Option<u64>,
    /// What accounts have less since the last group: records that were damaged.
    pub(super) lost: Vec<Deleted>,
}

/// What a ledger says, as it is read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    heads: Heads,
    releases: Releases,
    leases: Leases,
    uptime: u64,
}

impl Reading {
    /// One more item of the ledger, in its order.
    pub(super) fn take(&mut self, place: Place, item: &Item) {
        match item {
            Item::Uptime(seconds) => self.uptime = self.uptime.max(*seconds),
            Item::Release(release) => self.releases.take(release),
            Item::Ended(id, lease) => self.releases.end(id, lease),
            Item::Heard(heard) => {
                self.uptime = self.uptime.max(heard.at);
                self.leases.take(heard);
            }
            Item::Head(HeadItem { account, stored_at, copy, record, .. }) => {
                self.uptime = self.uptime.max(*stored_at);
                let Place { generation, offset } = place;
                self.heads.generation = generation;
                let (number, hash) = (record.number(), record.hash());
                let (stored_at, copy) = (*stored_at, *copy);
                let kept = Kept { number, hash, stored_at, offset, copy, durable: true };
                let is_known = self.heads.by_id.contains_key(&record.id());
                if planted::is_on(Bug::FirstRecordWins) && is_known {
                    return;
                }
                self.heads.put(*account, record, kept);
            }
        }
    }
}

impl<D: Disk> Keeping<D> {
    pub(super) fn new(ledger: Ledger<D>, read: Reading, opened: &Opened) -> Self {
        let Reading { heads, releases, leases, uptime } = read;
        Self {
            ledger,
            heads: Arc::new(Mutex::new(heads)),
            releases: Arc::new(Mutex::new(releases)),
            leases,
            uptime,
            is_marred: opened.is_marred,
            is_torn: opened.cut_bytes > 0,
            paused_at: None,
            stuck: None,
            lost: Vec::new(),
        }
    }

    /// Bytes of each account, as they count.
    pub(super) fn usage(&self) -> Vec<(Account, u64)> {
        let heads = lock(&self.heads);
        let bytes = |count: &Count| count.versions.saturating_mul(RECORD_BYTES);
        heads.accounts.iter().map(|(account, count)| (*account, bytes(count))).collect()
    }

    fn useful_bytes(&self) -> u64 {
        let heads = lock(&self.heads).versions.saturating_mul(RECORD_BYTES);
        let releases = releases::lock(&self.releases).bytes();
        heads.saturating_add(releases).saturating_add(self.leases.bytes())
    }
}

impl<D: Disk, C: Catalogue> Reader<D, C> {
    pub(super) fn find_head(&self, id: &ChunkId) -> Option<Found> {
        lock(&self.heads).found(id)
    }

    /// The records of a head: all of the newest number, and so many `superseded` ones, the highest
    /// number first.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Damaged`] where none of them can be read, and
    /// [`StoreError::Io`].
    pub fn read_heads(
        &self,
        id: &ChunkId,
        superseded: usize,
    ) -> Result<Vec<HeadRecord>, StoreError> {
        let mut result = Err(StoreError::NotFound);
        // The ledger may be written anew meanwhile: twice at most, as that takes its time.
        for _ in 0..3 {
            let places = lock(&self.heads).shown(id, superseded);
            if places.is_empty() {
                return Err(StoreError::NotFound);
            }
            let (count, mut records) = (places.len(), Vec::new());
            let (mut damaged, mut failed) = (false, false);
            for place in places {
                match read_head(&*self.disk, &self.key, place) {
                    Ok(Some(item)) if item.record.id() == *id => records.push(item.record),
                    Ok(_) => damaged = true,
                    Err(DiskError::NotFound) => {}
                    // One that cannot be read does not hide the others.
                    Err(_) => failed = true,
                }
            }
            if records.len() == count {
                return Ok(records);
            }
            if (damaged || failed) && !std::mem::replace(&mut lock(&self.heads).is_marred, true) {
                tracing::warn!(head = %id, "a record of a head is damaged on disk");
            }
            let why = if failed { StoreError::Io } else { StoreError::Damaged };
            result = if records.is_empty() { Err(why) } else { Ok(records) };
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers that are shown of records with these numbers that came at these hours.
    fn shown(records: &[(u64, u64)], count: usize) -> Vec<u64> {
        let kept = |(number, hour): &(u64, u64)| Kept {
            number: *number,
            hash: [0; 32],
            stored_at: hour * 3_600,
            offset: 0,
            copy: 0,
            durable: true,
        };
        let kept: Vec<Kept> = records.iter().map(kept).collect();
        spread(&kept.iter().collect::<Vec<_>>(), count).iter().map(|kept| kept.number).collect()
    }

    #[test]
    fn what_was_there_before_a_burst_is_shown_beside_it() {
        let burst = (101..=200).rev().map(|number| (number, 500));
        let before = (1..=100).rev().map(|number| (number, 399 + number));
        let all: Vec<(u64, u64)> = burst.chain(before).collect();
        let expected = [200, 199, 198, 197, 100, 98, 94, 86];
        assert_eq!(shown(&all, 8), expected, "1, 2, 4 and 8 hours back");
        assert_eq!(shown(&all, 1), [200]);
        assert_eq!(shown(&all, 0), [0; 0]);
        assert_eq!(shown(&all[..100], 4), [200, 199, 198, 197], "all of one minute");
        assert_eq!(shown(&all[..3], 16), [200, 199, 198], "no more than there are");
        assert_eq!(shown(&[], 16), [0; 0]);
    }
}
