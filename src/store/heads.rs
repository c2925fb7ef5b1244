//! Records of heads: which are kept, for how long, and how the writer takes one in.
//!
//! Of a head the highest number counts. One that it supersedes is kept until thirty days of
//! **uptime** have passed since: an owner who finds that the newest is not hers, or was written by
//! a device gone mad, has that long to go back. No clock is asked. Another record of the newest
//! number is kept beside it as evidence, and is not acknowledged.
//!
//! The table is in memory, made from the ledger when the store is opened. Bounds:
//! [`HEADS_PER_ACCOUNT_MAX`], [`VERSIONS_PER_HEAD_MAX`], [`VERSIONS_PER_ACCOUNT_MAX`],
//! [`VERSIONS_MAX`], and `FORKS_MAX`; at a bound the new one is refused, nothing that is kept goes.

mod writing;

use super::disk::{Disk, DiskError};
use super::index::Catalogue;
use super::ledger::format::{HEAD_ITEM_BYTES, Item, UPTIME_ITEM_BYTES};
use super::ledger::{Ledger, Place, read_head};
use super::reader::Reader;
use crate::core::effect::{Deleted, Found, HeadWritten, Input, StoreError};
use crate::core::types::{Account, ChunkId, Ticket};
use crate::crypto::head::HeadRecord;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Heads that one account may have here.
pub const HEADS_PER_ACCOUNT_MAX: usize = 64;

/// Records of one head.
pub const VERSIONS_PER_HEAD_MAX: usize = 4_096;

/// Records of all heads of one account.
pub const VERSIONS_PER_ACCOUNT_MAX: u64 = 16_384;

/// Records in all: about 32 MiB of memory.
pub const VERSIONS_MAX: u64 = 1 << 18;

/// Other records of a number that are kept as evidence.
const FORKS_MAX: usize = 4;

/// A number may be so far above the newest that is held.
pub const NUMBER_AHEAD_MAX: u64 = 1 << 16;

/// Uptime is saved about this often, in seconds.
pub const UPTIME_EVERY_S: u64 = 600;

/// How long a superseded record is kept: thirty days, and more than the saved uptime may be behind.
pub const KEEP_SUPERSEDED_S: u64 = 30 * 86_400 + 2 * UPTIME_EVERY_S;

/// A ledger shorter than this is not written anew.
const REWRITE_MIN_BYTES: u64 = 1 << 20;

/// What a record takes on disk.
const RECORD_BYTES: u64 = HEAD_ITEM_BYTES as u64;

/// A number, and which record of it: 0 is the one that counts.
type Version = (u64, usize);

#[derive(Debug, Clone)]
struct Kept {
    hash: [u8; 32],
    stored_at: u64,
    place: Place,
    /// It is on the disk for good, and may be shown.
    durable: bool,
}

#[derive(Debug)]
struct Head {
    account: Account,
    read: [u8; 32],
    versions: BTreeMap<Version, Kept>,
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
}

/// Shared by the writer and the readers.
pub(super) type SharedHeads = Arc<Mutex<Heads>>;

fn lock(heads: &SharedHeads) -> MutexGuard<'_, Heads> {
    heads.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Heads {
    fn judge(&self, account: &Account, record: &HeadRecord) -> Result<Verdict, StoreError> {
        let number = record.number();
        let verdict = match self.by_id.get(&record.id()) {
            None => Verdict::Keep((number, 0)),
            Some(head) if head.account != *account => return Err(StoreError::OtherAccount),
            Some(head) => head.judge(number, &record.hash())?,
        };
        match verdict {
            Verdict::Keep(_) if !self.has_room(account, &record.id()) => Err(StoreError::OverQuota),
            Verdict::Keep(_) if self.versions >= VERSIONS_MAX => Err(StoreError::Full),
            verdict => Ok(verdict),
        }
    }

    fn has_room(&self, account: &Account, id: &ChunkId) -> bool {
        let count = self.accounts.get(account).copied().unwrap_or_default();
        let fits = match self.by_id.get(id) {
            None => count.heads < HEADS_PER_ACCOUNT_MAX,
            Some(head) => head.versions.len() < VERSIONS_PER_HEAD_MAX,
        };
        fits && count.versions < VERSIONS_PER_ACCOUNT_MAX
    }

    /// Takes a record in; `false` where it is only somewhere else now.
    fn put(&mut self, account: Account, record: &HeadRecord, version: Version, kept: Kept) -> bool {
        let count = self.accounts.entry(account).or_default();
        let head = self.by_id.entry(record.id()).or_insert_with(|| {
            count.heads = count.heads.saturating_add(1);
            Head { account, read: record.read_point(), versions: BTreeMap::new() }
        });
        let is_new = head.versions.insert(version, kept).is_none();
        if is_new {
            count.versions = count.versions.saturating_add(1);
            self.versions = self.versions.saturating_add(1);
        }
        is_new
    }

    /// Takes a record out again; whose it was.
    fn remove(&mut self, id: &ChunkId, version: Version) -> Option<Account> {
        let head = self.by_id.get_mut(id)?;
        head.versions.remove(&version)?;
        let (account, is_gone) = (head.account, head.versions.is_empty());
        if is_gone {
            self.by_id.remove(id);
        }
        self.versions = self.versions.saturating_sub(1);
        if let Some(count) = self.accounts.get_mut(&account) {
            count.versions = count.versions.saturating_sub(1);
            count.heads = count.heads.saturating_sub(usize::from(is_gone));
            if count.versions == 0 {
                self.accounts.remove(&account);
            }
        }
        Some(account)
    }

    /// Takes out what was superseded long enough; whose each was.
    fn expire(&mut self, uptime: u64) -> Vec<Account> {
        let due = self.by_id.iter().flat_map(|(id, head)| {
            let due = head.superseded_by(uptime);
            head.versions.keys().filter(move |(number, _)| *number < due).map(|key| (*id, *key))
        });
        let due: Vec<(ChunkId, Version)> = due.collect();
        due.into_iter().filter_map(|(id, version)| self.remove(&id, version)).collect()
    }

    /// Where the newest records of a head lie, at most so many.
    fn newest(&self, id: &ChunkId, count: usize) -> Vec<Place> {
        let versions = self.by_id.get(id).into_iter().flat_map(|head| &head.versions);
        let mut versions: Vec<_> = versions.filter(|(_, kept)| kept.durable).collect();
        versions.sort_by_key(|((number, copy), _)| (std::cmp::Reverse(*number), *copy));
        versions.into_iter().take(count).map(|(_, kept)| kept.place).collect()
    }

    fn found(&self, id: &ChunkId) -> Option<Found> {
        let head = self.by_id.get(id)?;
        let shown = head.versions.values().any(|kept| kept.durable);
        shown.then_some(Found::Head { read: head.read })
    }
}

impl Head {
    fn judge(&self, number: u64, hash: &[u8; 32]) -> Result<Verdict, StoreError> {
        let newest = self.versions.last_key_value().map_or(0, |((newest, _), _)| *newest);
        if number > newest.saturating_add(NUMBER_AHEAD_MAX) {
            return Err(StoreError::TooFarAhead);
        }
        if number < newest {
            return Err(StoreError::Superseded);
        }
        let mut copies = self.versions.range((number, 0)..=(number, usize::MAX));
        if let Some((version, _)) = copies.find(|(_, kept)| kept.hash == *hash) {
            return Ok(Verdict::Known(*version));
        }
        // The first is the one that counts, and may have been found damaged and gone.
        let free = (0..=FORKS_MAX).find(|copy| !self.versions.contains_key(&(number, *copy)));
        free.map(|copy| Verdict::Keep((number, copy))).ok_or(StoreError::Superseded)
    }

    /// Records with a lower number than this were superseded long enough.
    fn superseded_by(&self, uptime: u64) -> u64 {
        let long_ago = |kept: &Kept| kept.stored_at.saturating_add(KEEP_SUPERSEDED_S) <= uptime;
        let counts = self.versions.iter().filter(|((_, copy), kept)| *copy == 0 && kept.durable);
        counts.filter(|(_, kept)| long_ago(kept)).map(|((number, _), _)| *number).max().unwrap_or(0)
    }
}

/// The heads' share of a group on its way.
#[derive(Debug, Default)]
pub(super) struct HeadGroup {
    results: Vec<(Ticket, Result<HeadWritten, StoreError>)>,
    /// What the ledger is to get.
    items: Vec<Item>,
    /// The record of each item; of the uptime there is none.
    staged: Vec<Option<(ChunkId, Version)>>,
    /// What was new among them.
    added: Vec<(ChunkId, Version)>,
    uptime: Option<u64>,
    dropped: Vec<Deleted>,
}

impl HeadGroup {
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

/// What the writer has of the heads.
pub(crate) struct Keeping<D> {
    pub(super) ledger: Ledger<D>,
    pub(super) heads: SharedHeads,
    /// How long the store was in use, in seconds: never more than it was.
    pub(super) uptime: u64,
    /// The ledger is to be written anew, whatever its length.
    pub(super) is_marred: bool,
    /// Its length when writing it anew failed: not again before it is an eighth longer.
    pub(super) stuck: Option<u64>,
}

/// What a ledger says, as it is read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    heads: Heads,
    uptime: u64,
}

impl Reading {
    /// One more item of the ledger, in its order.
    pub(super) fn take(&mut self, place: Place, item: &Item) {
        match item {
            Item::Uptime(seconds) => self.uptime = self.uptime.max(*seconds),
            Item::Head { account, stored_at, record } => {
                self.uptime = self.uptime.max(*stored_at);
                let (id, number, hash) = (record.id(), record.number(), record.hash());
                let versions = self.heads.by_id.get(&id).map(|head| &head.versions);
                let of_number = |versions: &BTreeMap<Version, Kept>| {
                    let copies = versions.range((number, 0)..=(number, usize::MAX));
                    let same = copies.clone().find(|(_, kept)| kept.hash == hash);
                    same.map_or(copies.count(), |((_, copy), _)| *copy)
                };
                let version = (number, versions.map_or(0, of_number));
                let kept = Kept { hash, stored_at: *stored_at, place, durable: true };
                self.heads.put(*account, record, version, kept);
            }
        }
    }
}

impl<D: Disk> Keeping<D> {
    pub(super) fn new(ledger: Ledger<D>, read: Reading, is_marred: bool) -> Self {
        let Reading { heads, uptime } = read;
        Self { ledger, heads: Arc::new(Mutex::new(heads)), uptime, is_marred, stuck: None }
    }

    /// Bytes of each account, as they count.
    pub(super) fn usage(&self) -> Vec<(Account, u64)> {
        let heads = lock(&self.heads);
        let bytes = |count: &Count| count.versions.saturating_mul(RECORD_BYTES);
        heads.accounts.iter().map(|(account, count)| (*account, bytes(count))).collect()
    }

    fn useful_bytes(&self) -> u64 {
        lock(&self.heads).versions.saturating_mul(RECORD_BYTES)
    }
}

impl<D: Disk, C: Catalogue> Reader<D, C> {
    pub(super) fn find_head(&self, id: &ChunkId) -> Option<Found> {
        lock(&self.heads).found(id)
    }

    /// The newest records of a head, at most so many, the highest number first.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Damaged`] where none of them can be read, and
    /// [`StoreError::Io`].
    pub fn read_heads(&self, id: &ChunkId, newest: usize) -> Result<Vec<HeadRecord>, StoreError> {
        let mut result = Err(StoreError::NotFound);
        // The ledger may be written anew meanwhile: twice at most, as that takes its time.
        for _ in 0..3 {
            let places = lock(&self.heads).newest(id, newest);
            if places.is_empty() {
                return Err(StoreError::NotFound);
            }
            let (count, mut records) = (places.len(), Vec::new());
            for place in places {
                match read_head(&*self.disk, &self.key, place) {
                    Ok(record) => records.extend(record.filter(|record| record.id() == *id)),
                    Err(DiskError::NotFound) => {}
                    Err(_) => return Err(StoreError::Io),
                }
            }
            if records.len() == count {
                return Ok(records);
            }
            result = if records.is_empty() { Err(StoreError::Damaged) } else { Ok(records) };
        }
        result
    }
}

/// What an item of the uptime takes: written every ten minutes, it is most of an idle ledger.
const _: () = assert!(UPTIME_ITEM_BYTES < 64 && KEEP_SUPERSEDED_S > 30 * 86_400);
