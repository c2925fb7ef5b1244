//! How the writer takes heads in, forgets old ones, and writes their ledger anew.

use super::{HEADS_RESERVE_BYTES, HeadGroup, Kept, RECORD_BYTES, REWRITE_MIN_BYTES};
use super::{Verdict, Version, lock};
use crate::core::effect::{Deleted, HeadWritten, StoreError};
use crate::core::types::{Account, ChunkId, LeaseTerms, Ticket};
use crate::crypto::head::HeadRecord;
use crate::store::disk::{Disk, DiskError};
use crate::store::index::{Catalogue, Change};
use crate::store::ledger::format::{HeadItem, Item};
use crate::store::ledger::{Place, read_head};
use crate::store::log::LogError;
use crate::store::releases;
use crate::store::writer::{Group, ReadOnly, Writer};
use std::sync::Arc;

impl<D: Disk, C: Catalogue> Writer<D, C> {
    /// Number of records of heads that are kept.
    pub fn head_records(&self) -> u64 {
        lock(&self.keeping.heads).versions
    }

    /// How long the store was in use over all its lives, in seconds.
    pub fn uptime(&self) -> u64 {
        self.keeping.uptime
    }

    /// One more record for this group, unless it is not to be taken.
    pub(in crate::store) fn head(
        &mut self,
        group: &mut HeadGroup,
        room: &mut Option<u64>,
        ticket: Ticket,
        head: (Account, LeaseTerms, HeadRecord),
    ) {
        let result = self.stage(group, room, head);
        group.results.push((ticket, result));
    }

    /// Heads find room above the capacity; only where that is used up leases end for one.
    pub(in crate::store) fn make_way_for_head(&mut self, group: &mut Group) {
        let capacity = self.options.capacity.saturating_add(HEADS_RESERVE_BYTES);
        if self.read_only.is_none() && self.state.used.saturating_add(RECORD_BYTES) > capacity {
            // Where there is no room after that it is said of the head.
            let _ = self.make_way(group, (RECORD_BYTES, capacity));
        }
    }

    fn stage(
        &mut self,
        group: &mut HeadGroup,
        room: &mut Option<u64>,
        (account, terms, record): (Account, LeaseTerms, HeadRecord),
    ) -> Result<HeadWritten, StoreError> {
        if self.read_only.is_some() {
            return Err(StoreError::ReadOnly);
        }
        let (epoch, id) = (self.log.epoch, record.id());
        let verdict = lock(&self.keeping.heads).judge(&account, &record)?;
        let (Verdict::Known(version) | Verdict::Keep(version)) = verdict;
        let (number, copy) = version;
        let is_fork = copy > 0;
        let is_known = matches!(verdict, Verdict::Known(_));
        if is_known && let Some(terms) = self.promised(group, &id, version)? {
            return Ok(HeadWritten { terms, epoch, added_bytes: 0, is_fork });
        }
        let capacity = self.options.capacity.saturating_add(HEADS_RESERVE_BYTES);
        let fits = self.state.used.saturating_add(RECORD_BYTES) <= capacity;
        match room {
            None => return Err(StoreError::Io),
            Some(room) if *room < RECORD_BYTES && !self.has_reserve(group) => {
                return Err(StoreError::Full);
            }
            Some(_) if !fits => return Err(StoreError::Full),
            Some(_) => {}
        }
        if !is_known {
            self.make_room(group, &account, &id)?;
        }
        *room = room.map(|room| room.saturating_sub(RECORD_BYTES));
        let stored_at = group.uptime.unwrap_or(self.keeping.uptime);
        let hash = record.hash();
        let kept = Kept { number, hash, stored_at, offset: 0, copy, durable: false };
        let before = lock(&self.keeping.heads).put(account, &record, kept);
        let added_bytes = if before.is_none() { RECORD_BYTES } else { 0 };
        match before {
            None => {
                self.state.count_head(&account, RECORD_BYTES);
                group.added.push((id, version));
            }
            Some(before) => group.replaced.push((id, account, before)),
        }
        group.items.push(Item::Head(HeadItem { account, stored_at, terms, copy, record }));
        group.staged.push(Some((id, version)));
        Ok(HeadWritten { terms, epoch, added_bytes, is_fork })
    }

    /// Whether there is space for one more record in that part of the disk's reserve which is for
    /// heads.
    fn has_reserve(&self, group: &HeadGroup) -> bool {
        let staged = u64::try_from(group.items.len()).unwrap_or(u64::MAX);
        let needed = staged.saturating_add(1).saturating_mul(RECORD_BYTES);
        let reserve = self.options.reserve;
        let rest = reserve.saturating_sub(HEADS_RESERVE_BYTES.min(reserve / 2));
        let free = self.log.disk.free_space();
        free.is_ok_and(|free| free >= rest.saturating_add(needed))
    }

    /// Sees to it that one more record fits, where another one has to go for it.
    fn make_room(
        &mut self,
        group: &mut HeadGroup,
        account: &Account,
        id: &ChunkId,
    ) -> Result<(), StoreError> {
        let mut heads = lock(&self.keeping.heads);
        if heads.has_room(&self.options.heads, account, id) {
            return Ok(());
        }
        let thinned = heads.thin(id).ok_or(StoreError::TooManyHeads)?;
        drop(heads);
        self.state.uncount_head(account, RECORD_BYTES);
        group.thinned.push((*id, *account, thinned));
        Ok(())
    }

    /// What was promised for a record that is known, where it comes with this group or can be read
    /// still. A second ack is as good a promise as the first.
    fn promised(
        &self,
        group: &HeadGroup,
        id: &ChunkId,
        version: Version,
    ) -> Result<Option<LeaseTerms>, StoreError> {
        let coming = group.staged.iter().position(|staged| *staged == Some((*id, version)));
        if let Some(Item::Head(coming)) = coming.and_then(|at| group.items.get(at)) {
            return Ok(Some(coming.terms));
        }
        let heads = lock(&self.keeping.heads);
        let kept = heads.get(id, version).filter(|kept| kept.durable);
        let Some((place, hash)) = kept.map(|kept| (heads.place(kept), kept.hash)) else {
            return Ok(None);
        };
        drop(heads);
        match read_head(&*self.log.disk, &self.log.key, place) {
            Ok(item) => Ok(item.filter(|item| item.record.hash() == hash).map(|item| item.terms)),
            Err(DiskError::NotFound) => Ok(None),
            Err(_) => Err(StoreError::Io),
        }
    }

    /// Time has passed in which the store was in use. Where there is no ledger there is nothing
    /// whose age would count, and no file is made for it.
    pub(in crate::store) fn pass(&mut self, group: &mut HeadGroup, seconds: u64) {
        if self.read_only.is_some() {
            return;
        }
        let before = group.uptime.unwrap_or(self.keeping.uptime);
        let uptime = before.saturating_add(seconds);
        group.uptime = Some(uptime);
        if self.keeping.ledger.tip().is_some() {
            group.push(Item::Uptime(uptime));
        }
    }

    /// Appends what the group has for the ledger.
    ///
    /// # Errors
    /// Nothing of it is there, and its heads know already.
    pub(in crate::store) fn append_heads(
        &mut self,
        group: &mut HeadGroup,
    ) -> Result<(), StoreError> {
        if group.items.is_empty() || self.read_only.is_some() {
            return Ok(());
        }
        let mut appended = self.keeping.ledger.append(&group.items);
        if matches!(appended, Err(LogError::Full)) && self.release_ballast() {
            appended = self.keeping.ledger.append(&group.items);
        }
        match appended {
            Ok(places) => {
                let mut heads = lock(&self.keeping.heads);
                for (staged, place) in group.staged.iter().zip(places) {
                    heads.generation = place.generation;
                    let Some((id, version)) = staged else { continue };
                    if let Some(kept) = heads.get_mut(id, *version) {
                        kept.offset = place.offset;
                    }
                }
                Ok(())
            }
            Err(error) => {
                let error = match error {
                    LogError::Full => StoreError::Full,
                    LogError::Io => StoreError::Io,
                    LogError::Broken(reason) => {
                        self.read_only = Some(reason);
                        StoreError::Io
                    }
                };
                self.undo_heads(group, error);
                Err(error)
            }
        }
    }

    /// The group is durable: what it brought is shown, and what it made old enough is gone.
    pub(in crate::store) fn show_heads(&mut self, group: &mut HeadGroup) {
        let mut heads = lock(&self.keeping.heads);
        for (id, version) in group.staged.iter().flatten() {
            if let Some(kept) = heads.get_mut(id, *version) {
                kept.durable = true;
            }
        }
        drop(heads);
        group.dropped = std::mem::take(&mut self.keeping.lost);
        group.dropped.extend(group.thinned.iter().map(|(_, account, _)| freed(*account)));
        if let Some(uptime) = group.uptime {
            self.keeping.uptime = uptime;
            group.dropped.extend(self.expire_heads());
        }
    }

    /// Forgets the records that were superseded long enough; what each account has less.
    pub(in crate::store) fn expire_heads(&mut self) -> Vec<Deleted> {
        let gone = lock(&self.keeping.heads).expire(self.keeping.uptime);
        self.forget_heads(gone)
    }

    /// What is above a bound when the store is opened and can make room does so.
    pub(in crate::store) fn thin_heads(&mut self) {
        let gone = lock(&self.keeping.heads).thin_all(&self.options.heads);
        self.forget_heads(gone);
    }

    fn forget_heads(&mut self, gone: Vec<Account>) -> Vec<Deleted> {
        for account in &gone {
            self.state.uncount_head(account, RECORD_BYTES);
        }
        gone.into_iter().map(freed).collect()
    }

    /// The group came to nothing.
    pub(in crate::store) fn undo_heads(&mut self, group: &mut HeadGroup, error: StoreError) {
        for (id, version) in std::mem::take(&mut group.added) {
            if let Some((account, _)) = lock(&self.keeping.heads).remove(&id, version) {
                self.state.uncount_head(&account, RECORD_BYTES);
            }
        }
        for (id, account, kept) in std::mem::take(&mut group.replaced) {
            lock(&self.keeping.heads).put_back(&id, &account, kept);
        }
        for (id, account, kept) in std::mem::take(&mut group.thinned) {
            lock(&self.keeping.heads).put_back(&id, &account, kept);
            self.state.count_head(&account, RECORD_BYTES);
        }
        group.items.clear();
        group.staged.clear();
        group.uptime = None;
        let results = group.results.iter_mut().filter(|(_, result)| result.is_ok());
        results.for_each(|(_, result)| *result = Err(error));
    }

    /// Writes the ledger anew where half of it is waste, or something in it is damaged.
    pub(in crate::store) fn tidy_ledger(&mut self) {
        // Where the one that was named is lost there is none, and a new one is begun.
        let length = self.keeping.ledger.tip().map_or(0, |(_, length)| length);
        let useful = self.keeping.useful_bytes();
        let is_waste = length > REWRITE_MIN_BYTES && length / 2 > useful;
        let is_stuck = self.keeping.stuck.is_some_and(|before| length / 9 < before / 8);
        self.keeping.is_marred |= std::mem::take(&mut lock(&self.keeping.heads).is_marred);
        let is_wanted = is_waste || self.keeping.is_marred || !self.keeping.ledger.is_current();
        if is_stuck || !is_wanted {
            return;
        }
        match self.rewrite_ledger() {
            Ok(()) => (self.keeping.stuck, self.keeping.is_marred) = (None, false),
            Err(LogError::Broken(reason)) => self.read_only = Some(reason),
            // Nothing is lost: the one before is as it was. What cannot be read may be one day.
            Err(LogError::Full | LogError::Io) => self.keeping.stuck = Some(length),
        }
    }

    pub(in crate::store) fn rewrite_ledger(&mut self) -> Result<(), LogError> {
        let mut live: Vec<(ChunkId, Version, [u8; 32], Place)> = Vec::new();
        let heads = lock(&self.keeping.heads);
        for (id, head) in &heads.by_id {
            let kept = head.versions.iter();
            live.extend(kept.map(|kept| (*id, kept.version(), kept.hash, heads.place(kept))));
        }
        drop(heads);
        let (disk, key) = (Arc::clone(&self.log.disk), Arc::clone(&self.log.key));
        let (mut moved, mut lost) = (Vec::new(), Vec::new());
        let uptime = Item::Uptime(self.keeping.uptime);
        let records = live.into_iter().filter_map(|(id, version, hash, place)| {
            match read_head(&*disk, &key, place) {
                Ok(Some(item)) if item.record.hash() == hash => {
                    moved.push((id, version));
                    Some(Ok(Item::Head(item)))
                }
                Err(error) => Some(Err(error)),
                Ok(_) => {
                    lost.push((id, version));
                    None
                }
            }
        });
        let pending = releases::lock(&self.keeping.releases).items();
        let pending = pending.into_iter().map(|release| Ok(Item::Release(release)));
        let heard = self.keeping.leases.items();
        let behind = heard.iter().map(|heard| Ok(Item::Heard(*heard)));
        let mut items = std::iter::once(Ok(uptime)).chain(records).chain(pending).chain(behind);
        let rewritten = self.keeping.ledger.rewrite(&mut items);
        drop(items);
        let rewritten = rewritten?;
        let changes = [Change::ledger((rewritten.generation, rewritten.length))];
        let applied = self.index.apply(&changes).and_then(|()| self.index.flush());
        applied.map_err(ReadOnly::Catalogue)?;
        let mut heads = lock(&self.keeping.heads);
        heads.generation = rewritten.generation;
        for ((id, version), place) in moved.iter().zip(rewritten.places.iter().skip(1)) {
            if let Some(kept) = heads.get_mut(id, *version) {
                kept.offset = place.offset;
            }
        }
        let mut gone = Vec::new();
        for (id, version) in lost {
            let (number, copy) = version;
            tracing::warn!(head = %id, number, copy, "a record of a head was damaged and is lost");
            gone.extend(heads.remove(&id, version).map(|(account, _)| account));
        }
        drop(heads);
        let lost = self.forget_heads(gone);
        self.keeping.lost.extend(lost);
        self.keeping.leases.saved(&heard);
        self.keeping.ledger.turn_to(&rewritten)?;
        Ok(())
    }
}

fn freed(account: Account) -> Deleted {
    Deleted { account, freed_bytes: RECORD_BYTES }
}
