//! The order of things: what is written, synced, put in the catalogue and answered, and when.
//!
//! ```text
//! records appended -> segment synced -> catalogue applied -> catalogue flushed -> answered
//! ```
//! One group of requests goes through that at a time. Whatever fails before the end is not
//! answered as done. A failed sync or flush is never retried: nobody knows what the disk holds
//! then, so the store turns read-only until it is opened again, which verifies.
//!
//! Pure: over [`Disk`] and [`Catalogue`], with a seeded generator. The daemon runs it on a thread
//! ([`super::thread`]), the simulator in virtual time.

use super::compact::Job;
use super::disk::{Disk, DiskError};
use super::heads::{HeadBounds, HeadGroup, Keeping};
use super::index::{Catalogue, CatalogueError, Change, Condition, Entry, Index};
use super::leases::LeaseGroup;
use super::log::{Log, LogError};
use super::reader::Reader;
use super::record::{BLOCK_BYTES, ChunkHead, TAGS_BYTES_MAX};
use super::recovery::{OpenReport, Recovered, StoreOpenError, position, recover};
use super::releases::{ReleaseBounds, ReleaseGroup};
use super::scrub::ROUND;
use super::state::State;
use super::tidy::Ballast;
use crate::core::effect::{Deleted, Input, Space, StoreError, StoredChunk, Written};
use crate::core::types::{Account, ChunkId, LeaseNonce, LeaseTerms, StoreEpoch, Ticket};
use crate::crypto::head::HeadRecord;
use crate::crypto::keys::{WrapKey, random};
use crate::planted::{self, Bug};
use rand_chacha::ChaCha20Rng;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What the user decides about a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The most bytes of chunks on the disk.
    pub capacity: u64,
    /// Bytes of the disk that must stay free: chunks are refused below, deletes are not.
    pub reserve: u64,
    /// A segment is closed at this length. 256 MiB; tests make it small.
    pub segment_bytes: u64,
    /// Space that is set aside for deletes and the catalogue on a disk that others filled up.
    pub ballast: u64,
    /// How many records of heads are kept.
    pub heads: HeadBounds,
    /// How many releases may wait for their day.
    pub releases: ReleaseBounds,
    /// How long the scrub takes for all of it.
    pub scrub_round: Duration,
}

impl Options {
    /// `capacity` bytes on a disk of `disk_bytes`: the reserve is the larger of 1 GiB and 1 %,
    /// but never more than a quarter of the disk.
    pub fn new(capacity: u64, disk_bytes: u64) -> Self {
        let reserve = (disk_bytes / 100).max(1 << 30).min(disk_bytes / 4);
        Self::with_reserve(capacity, reserve)
    }

    /// `capacity` bytes and an explicit reserve.
    pub fn with_reserve(capacity: u64, reserve: u64) -> Self {
        let ballast = (reserve / 8).min(64 << 20);
        let (heads, releases) = (HeadBounds::default(), ReleaseBounds::default());
        let (segment_bytes, scrub_round) = (256 << 20, ROUND);
        Self { capacity, reserve, segment_bytes, ballast, heads, releases, scrub_round }
    }
}

/// Why a store takes no writes until it is opened again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadOnly {
    /// A sync failed.
    #[error("a sync failed: {0}")]
    Sync(DiskError),
    /// A write failed and could not be undone.
    #[error("a write failed half-way: {0}")]
    Log(DiskError),
    /// The catalogue failed.
    #[error("the catalogue failed: {0}")]
    Catalogue(CatalogueError),
    /// Something of the ledger could not be read when the store was opened: nobody knows which
    /// heads it has promised.
    #[error("the ledger of heads cannot be read: {0}")]
    Ledger(DiskError),
}

/// One thing for the writer to do.
#[derive(Debug)]
pub enum Request {
    /// Make a chunk durable.
    Write {
        /// Comes back with the completion.
        ticket: Ticket,
        /// The chunk; whoever sends it has checked it against its header.
        chunk: Box<StoredChunk>,
    },
    /// Delete a chunk.
    Delete {
        /// Comes back with the completion.
        ticket: Ticket,
        /// The chunk.
        id: ChunkId,
    },
    /// Let chunks go, or take that back: all of it, or nothing.
    Release {
        /// Comes back with the completion.
        ticket: Ticket,
        /// Takes a release back.
        undo: bool,
        /// Each with the lease that is meant; whoever sends it has checked that it may be done.
        items: Vec<(ChunkId, LeaseNonce)>,
    },
    /// Make a record of a head durable, where it is the newest.
    Head {
        /// Comes back with the completion.
        ticket: Ticket,
        /// For whom.
        account: Account,
        /// What is promised.
        terms: LeaseTerms,
        /// The record; whoever sends it has checked its signature.
        record: HeadRecord,
    },
    /// The store was in use for so many more seconds, about
    /// [`UPTIME_EVERY_S`](super::heads::UPTIME_EVERY_S): more often costs writes, more seldom
    /// forgets some of it in a crash. Answered by [`Input::Uptime`] where it is saved.
    Uptime {
        /// Seconds since the last one, or since the store was opened.
        passed_s: u64,
    },
    /// An owner proved to be there: it asked about its account. No completion.
    Heard {
        /// Which.
        account: Account,
        /// An audit of it was answered with a proof.
        audited: bool,
    },
    /// A reader found this record damaged. No completion.
    Quarantine {
        /// The chunk.
        id: ChunkId,
        /// The record's number: a chunk written anew since then is not meant.
        sequence: u64,
    },
}

/// The one that writes.
pub struct Writer<D, C> {
    pub(super) options: Options,
    pub(super) log: Log<D>,
    pub(super) index: Index<C>,
    pub(super) state: State,
    pub(super) read_only: Option<ReadOnly>,
    /// Records whose space can be given back.
    pub(super) dead: Vec<Entry>,
    /// The disk can punch holes, as far as is known.
    pub(super) holes: bool,
    /// Space is set aside in [`File::Ballast`].
    pub(super) ballast: Ballast,
    /// The segment that is being emptied.
    pub(super) job: Option<Job>,
    /// The newest segment when there was nothing left to reclaim; `None` where there may be.
    pub(super) reclaimed: Option<u64>,
    pub(super) moves: Moves,
    pub(super) keeping: Keeping<D>,
}

/// What was moved and given back since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moves {
    /// Chunks copied out of segments that are mostly waste.
    pub chunks: u64,
    /// Tombstones likewise.
    pub tombstones: u64,
    /// Segments from which all that is needed was moved.
    pub emptied: u64,
    /// Segments that were unlinked.
    pub unlinked: u64,
}

/// One group on its way.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// What became of each chunk, in order: id, before, after.
    journal: Vec<(ChunkId, Option<Entry>, Option<Entry>)>,
    /// The last of it by id.
    now: BTreeMap<ChunkId, Option<Entry>>,
    changes: Vec<Change>,
    written: Vec<(Ticket, Result<Written, StoreError>)>,
    deleted: Vec<(Ticket, Result<Deleted, StoreError>)>,
    pub(super) heads: HeadGroup,
    pub(super) releases: ReleaseGroup,
    pub(super) leases: LeaseGroup,
    /// What was found damaged.
    damaged: Vec<(Account, ChunkId)>,
    /// Bytes the disk can still take; `None` where it did not say.
    pub(super) room: Option<u64>,
}

impl<D: Disk, C: Catalogue> Writer<D, C> {
    /// Opens the store, or makes one where there is none; see [`super::recovery`].
    ///
    /// # Errors
    /// [`StoreOpenError`].
    pub fn open(
        disk: Arc<D>,
        catalogue: Arc<C>,
        key: Arc<WrapKey>,
        options: Options,
        rng: ChaCha20Rng,
    ) -> Result<(Self, OpenReport), StoreOpenError> {
        let recovered = recover(disk, catalogue, key, &options, rng)?;
        let Recovered { log, index, state, keeping, mut report } = recovered;
        let read_only = report.read_only.clone();
        let ballast = Ballast::of(&*log.disk);
        let mut writer = Self {
            options,
            log,
            index,
            state,
            read_only,
            dead: Vec::new(),
            holes: true,
            ballast,
            job: None,
            reclaimed: None,
            moves: Moves::default(),
            keeping,
        };
        writer.expire_heads();
        writer.thin_heads();
        writer.begin_leases(&report);
        writer.settle_doubt(&mut report);
        writer.tidy_opened();
        Ok((writer, report))
    }

    /// A reader of the same store.
    pub fn reader(&self) -> Reader<D, C> {
        let (disk, key) = (Arc::clone(&self.log.disk), Arc::clone(&self.log.key));
        let Keeping { heads, releases, .. } = &self.keeping;
        let own = (Arc::clone(releases), Arc::clone(&self.state.accounts));
        Reader::new(disk, self.index.clone(), key, Arc::clone(heads), own)
    }

    /// Names this incarnation of the store.
    pub fn epoch(&self) -> StoreEpoch {
        self.log.epoch
    }

    /// Bytes on disk by account.
    pub fn usage(&self) -> &BTreeMap<Account, u64> {
        &self.state.usage
    }

    /// Number of chunks, quarantined ones included.
    pub fn chunks(&self) -> u64 {
        self.state.entries
    }

    /// Why nothing is written any more, where that is so.
    pub fn read_only(&self) -> Option<&ReadOnly> {
        self.read_only.as_ref()
    }

    /// Chunks that are quarantined, with whose they are: of very many not all.
    pub fn damaged(&self) -> Vec<(Account, ChunkId)> {
        self.state.damaged.iter().copied().collect()
    }

    /// What was moved and given back so far.
    pub fn moves(&self) -> Moves {
        self.moves
    }

    /// How full the store is.
    pub fn space(&self) -> Space {
        let free = self.log.disk.free_space().unwrap_or(0);
        Space {
            capacity: self.options.capacity,
            used: self.state.used,
            chunks: self.state.entries,
            free: free.saturating_sub(self.options.reserve),
            reclaimable: self.reclaimable(),
            read_only: self.read_only.is_some(),
        }
    }

    /// Carries a group out and returns the completions: one [`Input::ChunksWritten`] for all
    /// writes, one [`Input::ChunkDeleted`] per delete, one [`Input::HeadsWritten`] for all heads,
    /// one [`Input::ChunksReleased`] per release; and what is damaged, and what the time that
    /// passed came to. Chunks that are due are destroyed with any group, also with an empty one, as
    /// long as [`Self::has_due`]. [`Self::tidy`] should follow.
    pub fn commit(&mut self, requests: Vec<Request>) -> Vec<Input> {
        let mut group = Group::default();
        if self.read_only.is_none() {
            group.room = self.balance();
        }
        // It passed before any of these came.
        for request in &requests {
            if let Request::Uptime { passed_s } = request {
                self.pass(&mut group.heads, *passed_s);
            }
        }
        self.hear_all(&requests);
        self.relieve(&mut group);
        for request in requests {
            match request {
                Request::Write { ticket, chunk } => {
                    let result = self.write(&mut group, &chunk);
                    group.written.push((ticket, result));
                }
                Request::Delete { ticket, id } => {
                    let result = self.delete(&mut group, &id);
                    group.deleted.push((ticket, result));
                }
                Request::Head { ticket, account, terms, record } => {
                    self.make_way_for_head(&mut group);
                    let Group { heads, room, .. } = &mut group;
                    self.head(heads, room, ticket, (account, terms, record));
                }
                Request::Release { ticket, undo, items } => {
                    self.release(&mut group, ticket, undo, &items);
                }
                Request::Uptime { .. } | Request::Heard { .. } => {}
                Request::Quarantine { id, sequence } => {
                    self.quarantine(&mut group, &id, sequence);
                }
            }
        }
        self.destroy_due(&mut group);
        self.save_heard(&mut group);
        self.settle(&mut group);
        group.into_inputs()
    }

    fn write(&mut self, group: &mut Group, chunk: &StoredChunk) -> Result<Written, StoreError> {
        let (id, epoch) = (chunk.id(), self.log.epoch);
        let current = self.lookup(group, &id)?;
        let released = current.is_some_and(|entry| self.is_released(group, &id, &entry.lease));
        if let Some(entry) = &current {
            if entry.account != chunk.account {
                return Err(StoreError::OtherAccount);
            }
            let held = entry.condition == Condition::Sound
                && (!released || planted::is_on(Bug::AckReleased));
            if held && (group.now.contains_key(&id) || self.is_whole(&id)?) {
                let Entry { lease, terms, .. } = *entry;
                return Ok(Written { lease, terms, epoch, added_bytes: 0 });
            }
        }
        let right = chunk.sealed.len() == chunk.header.sealed_bytes as usize
            && chunk.tags.len() <= TAGS_BYTES_MAX;
        if !right {
            return Err(StoreError::Damaged);
        }
        self.admit(group, chunk)?;
        let lease = match &current {
            Some(entry) if released => self.another_lease(chunk.lease, &entry.lease),
            Some(entry) => entry.lease,
            None => chunk.lease,
        };
        let head = ChunkHead::new(chunk, lease, epoch);
        // What lets go of it must not come sooner because it was stored once more.
        let promised_s = current.map_or(0, |entry| entry.terms.release_delay_s);
        let release_delay_s = chunk.terms.release_delay_s.max(promised_s);
        let terms = LeaseTerms { release_delay_s, ..chunk.terms };
        let head = ChunkHead { terms, ..head };
        let entry = self.log.append_chunk(&head, &chunk.tags, &chunk.sealed);
        let entry = entry.map_err(|error| self.refused(error))?;
        if let Some(damaged) = &current {
            let (segment, target) = (entry.locator.segment, damaged.locator.segment);
            group.changes.extend(self.state.supersede(segment, target));
        }
        self.replace(group, id, current, Some(entry));
        if let Some(before) = current.filter(|_| released) {
            self.end_release(group, &id, &before.lease);
        }
        let taken_bytes = u64::from(entry.locator.bytes);
        group.room = group.room.map(|room| room.saturating_sub(taken_bytes));
        // A damaged record that this one replaces counts no more.
        let before = current.map_or(0, |entry| entry.locator.bytes.into());
        let added_bytes = taken_bytes.saturating_sub(before);
        Ok(Written { lease, terms, epoch, added_bytes })
    }

    /// A chunk that was let go must not be held under the same lease again, whatever the caller
    /// chose: the release would be of that.
    fn another_lease(&mut self, chosen: LeaseNonce, released: &LeaseNonce) -> LeaseNonce {
        if chosen != *released {
            return chosen;
        }
        LeaseNonce::from_bytes(random(&mut self.log.rng))
    }

    /// Whether the bytes of a held chunk are still there. A second ack is as good a promise as a
    /// first one: it is given for what was read, not for what the catalogue says.
    fn is_whole(&self, id: &ChunkId) -> Result<bool, StoreError> {
        if planted::is_on(Bug::SkipSecondLook) {
            return Ok(true);
        }
        let outcome = self.reader().read_and_hash(id);
        match (outcome.result, outcome.rot) {
            (Ok(_), None) => Ok(true),
            (Ok(_), Some(_)) | (Err(StoreError::Damaged), _) => Ok(false),
            (Err(error), _) => Err(error),
        }
    }

    /// Sees to it that there is space for the chunk.
    fn admit(&mut self, group: &mut Group, chunk: &StoredChunk) -> Result<(), StoreError> {
        let bytes = chunk.sealed.len() + chunk.tags.len() + 2 * BLOCK_BYTES;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let (used, capacity) = (self.state.used.saturating_add(bytes), self.options.capacity);
        match group.room {
            None => Err(StoreError::Io),
            Some(room) if room >= bytes && used <= capacity => Ok(()),
            Some(_) => self.make_way(group, (bytes, capacity)),
        }
    }

    fn delete(&mut self, group: &mut Group, id: &ChunkId) -> Result<Deleted, StoreError> {
        let entry = self.lookup(group, id)?.ok_or(StoreError::NotFound)?;
        self.bury(group, id, &entry)?;
        self.end_release(group, id, &entry.lease);
        Ok(Deleted { account: entry.account, freed_bytes: entry.locator.bytes.into() })
    }

    /// Appends the tombstone of a record.
    pub(super) fn bury(
        &mut self,
        group: &mut Group,
        id: &ChunkId,
        entry: &Entry,
    ) -> Result<(), StoreError> {
        if planted::is_on(Bug::ForgetTombstone) {
            self.replace(group, *id, Some(*entry), None);
            return Ok(());
        }
        let tombstone = self.log.tombstone(id, entry);
        let mut buried = self.log.append_tombstone(&tombstone);
        if buried == Err(LogError::Full) && self.release_ballast() {
            buried = self.log.append_tombstone(&tombstone);
        }
        let segment = buried.map_err(|error| self.refused(error))?;
        let bytes = u64::from(entry.locator.bytes);
        group.leases.buried = group.leases.buried.saturating_add(bytes);
        self.replace(group, *id, Some(*entry), None);
        group.changes.extend(self.state.bury(segment, tombstone.segment, 1));
        Ok(())
    }

    fn quarantine(&mut self, group: &mut Group, id: &ChunkId, sequence: u64) {
        if let Ok(Some(entry)) = self.lookup(group, id)
            && entry.sequence == sequence
            && entry.condition == Condition::Sound
        {
            let marked = Entry { condition: Condition::Quarantined, ..entry };
            self.replace(group, *id, Some(entry), Some(marked));
            group.damaged.push((entry.account, *id));
        }
    }

    pub(super) fn lookup(
        &mut self,
        group: &Group,
        id: &ChunkId,
    ) -> Result<Option<Entry>, StoreError> {
        if self.read_only.is_some() {
            return Err(StoreError::ReadOnly);
        }
        match group.now.get(id) {
            Some(entry) => Ok(*entry),
            None => self.index.get(id).map_err(|error| {
                self.read_only = Some(ReadOnly::Catalogue(error));
                StoreError::Io
            }),
        }
    }

    fn replace(&mut self, group: &mut Group, id: ChunkId, old: Option<Entry>, new: Option<Entry>) {
        self.state.replace(&id, old.as_ref(), new.as_ref());
        group.journal.push((id, old, new));
        group.now.insert(id, new);
    }

    fn refused(&mut self, error: LogError) -> StoreError {
        match error {
            LogError::Full => StoreError::Full,
            LogError::Io => StoreError::Io,
            LogError::Broken(reason) => {
                self.read_only = Some(reason);
                StoreError::Io
            }
        }
    }

    /// Makes the group durable, or takes all of it back.
    fn settle(&mut self, group: &mut Group) {
        if let Err(error) = self.append_heads(&mut group.heads) {
            self.refuse_releases(group, error);
        }
        if self.read_only.is_none()
            && let Err(reason) = self.make_durable(group)
        {
            self.read_only = Some(reason);
        }
        if self.read_only.is_none() || planted::is_on(Bug::AckAfterError) {
            let gone = group.journal.iter().filter_map(|(_, old, new)| {
                // A mark leaves the record where it is.
                old.filter(|old| new.is_none_or(|new| new.sequence != old.sequence))
            });
            self.dead.extend(gone);
            self.show_heads(&mut group.heads);
            self.show_releases(group);
            self.show_heard(group);
            return;
        }
        self.undo_heads(&mut group.heads, StoreError::Io);
        self.undo_releases(group);
        group.damaged.clear();
        for (id, old, new) in group.journal.iter().rev() {
            self.state.replace(id, new.as_ref(), old.as_ref());
        }
        let results = group.written.iter_mut().filter(|(_, result)| result.is_ok());
        results.for_each(|(_, result)| *result = Err(StoreError::Io));
        let results = group.deleted.iter_mut().filter(|(_, result)| result.is_ok());
        results.for_each(|(_, result)| *result = Err(StoreError::Io));
    }

    fn make_durable(&mut self, group: &mut Group) -> Result<(), ReadOnly> {
        if !planted::is_on(Bug::AckBeforeSync) {
            self.log.sync()?;
        }
        let (tip, _) = self.log.tip();
        self.state.segments.entry(tip).or_default();
        if !planted::is_on(Bug::HeadBeforeSync) {
            self.keeping.ledger.sync()?;
        }
        let mut changes = std::mem::take(&mut group.changes);
        if !group.heads.is_empty() {
            changes.extend(self.keeping.ledger.tip().map(Change::ledger));
        }
        if !group.journal.is_empty() {
            changes.extend(group.now.iter().map(|(id, entry)| Change::chunk(id, entry.as_ref())));
            changes.push(Change::position(&position(&self.log, &self.state)));
        }
        if changes.is_empty() {
            return Ok(());
        }
        let applied = self.index.apply(&changes).and_then(|()| self.index.flush());
        applied.map_err(ReadOnly::Catalogue)
    }
}

impl Group {
    fn into_inputs(self) -> Vec<Input> {
        let written = (!self.written.is_empty()).then_some(Input::ChunksWritten(self.written));
        let deleted = self.deleted.into_iter();
        let deleted = deleted.map(|(ticket, result)| Input::ChunkDeleted { ticket, result });
        let released = self.releases.into_inputs();
        let damaged = (!self.damaged.is_empty()).then_some(Input::ChunksDamaged(self.damaged));
        let released = released.chain(damaged);
        written.into_iter().chain(deleted).chain(released).chain(self.heads.into_inputs()).collect()
    }
}
