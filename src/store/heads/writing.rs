//! How the writer takes heads in, forgets old ones, and writes their ledger anew.

use super::{HeadGroup, Kept, RECORD_BYTES, REWRITE_MIN_BYTES, Verdict, Version, lock};
use crate::core::effect::{Deleted, HeadWritten, StoreError};
use crate::core::types::{Account, ChunkId, Ticket};
use crate::crypto::head::HeadRecord;
use crate::store::disk::{Disk, DiskError};
use crate::store::index::{Catalogue, Change};
use crate::store::ledger::format::Item;
use crate::store::ledger::{Place, read_head};
use crate::store::log::LogError;
use crate::store::writer::{ReadOnly, Writer};
use std::collections::BTreeSet;
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
        (ticket, account): (Ticket, Account),
        record: HeadRecord,
    ) {
        let result = self.stage(group, room, account, record);
        group.results.push((ticket, result));
    }

    fn stage(
        &mut self,
        group: &mut HeadGroup,
        room: &mut Option<u64>,
        account: Account,
        record: HeadRecord,
    ) -> Result<HeadWritten, StoreError> {
        if self.read_only.is_some() {
            return Err(StoreError::ReadOnly);
        }
        let epoch = self.log.epoch;
        let id = record.id();
        let verdict = lock(&self.keeping.heads).judge(&account, &record)?;
        let (Verdict::Known(version) | Verdict::Keep(version)) = verdict;
        let is_fork = version.1 > 0;
        let is_coming = group.staged.contains(&Some((id, version)));
        let is_known = matches!(verdict, Verdict::Known(_));
        if is_known && (is_coming || self.is_whole_head(&id, version)?) {
            return Ok(HeadWritten { epoch, added_bytes: 0, is_fork });
        }
        match room {
            None => return Err(StoreError::Io),
            Some(room) if *room < RECORD_BYTES => return Err(StoreError::Full),
            Some(_) if self.state.used.saturating_add(RECORD_BYTES) > self.options.capacity => {
                return Err(StoreError::Full);
            }
            Some(room) => *room -= RECORD_BYTES,
        }
        let stored_at = group.uptime.unwrap_or(self.keeping.uptime);
        let place = Place { generation: 0, offset: 0 };
        let kept = Kept { hash: record.hash(), stored_at, place, durable: false };
        let is_new = lock(&self.keeping.heads).put(account, &record, version, kept);
        if is_new {
            self.state.count_head(&account, RECORD_BYTES);
            group.added.push((id, version));
        }
        group.items.push(Item::Head { account, stored_at, record });
        group.staged.push(Some((id, version)));
        let added_bytes = if is_new { RECORD_BYTES } else { 0 };
        Ok(HeadWritten { epoch, added_bytes, is_fork })
    }

    /// Whether a record that is known can be read still. A second ack is as good a promise as the
    /// first.
    fn is_whole_head(&self, id: &ChunkId, version: Version) -> Result<bool, StoreError> {
        let heads = lock(&self.keeping.heads);
        let kept = heads.by_id.get(id).and_then(|head| head.versions.get(&version)).cloned();
        drop(heads);
        let Some(kept) = kept.filter(|kept| kept.durable) else { return Ok(false) };
        match read_head(&*self.log.disk, &self.log.key, kept.place) {
            Ok(record) => Ok(record.is_some_and(|record| record.hash() == kept.hash)),
            Err(DiskError::NotFound) => Ok(false),
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
            group.items.push(Item::Uptime(uptime));
            group.staged.push(None);
        }
    }

    /// Appends what the group has for the ledger. On an error nothing of it is there.
    pub(in crate::store) fn append_heads(&mut self, group: &mut HeadGroup) {
        if group.items.is_empty() || self.read_only.is_some() {
            return;
        }
        match self.keeping.ledger.append(&group.items) {
            Ok(places) => {
                let mut heads = lock(&self.keeping.heads);
                for (staged, place) in group.staged.iter().zip(places) {
                    let Some((id, version)) = staged else { continue };
                    let head = heads.by_id.get_mut(id);
                    if let Some(kept) = head.and_then(|head| head.versions.get_mut(version)) {
                        kept.place = place;
                    }
                }
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
            }
        }
    }

    /// The group is durable: what it brought is shown, and what it made old enough is gone.
    pub(in crate::store) fn show_heads(&mut self, group: &mut HeadGroup) {
        let mut heads = lock(&self.keeping.heads);
        for (id, version) in group.staged.iter().flatten() {
            let head = heads.by_id.get_mut(id);
            if let Some(kept) = head.and_then(|head| head.versions.get_mut(version)) {
                kept.durable = true;
            }
        }
        drop(heads);
        if let Some(uptime) = group.uptime {
            self.keeping.uptime = uptime;
            group.dropped = self.expire_heads();
        }
    }

    /// Forgets the records that were superseded long enough; what each account has less.
    pub(in crate::store) fn expire_heads(&mut self) -> Vec<Deleted> {
        let gone = lock(&self.keeping.heads).expire(self.keeping.uptime);
        for account in &gone {
            self.state.uncount_head(account, RECORD_BYTES);
        }
        let freed = |account| Deleted { account, freed_bytes: RECORD_BYTES };
        gone.into_iter().map(freed).collect()
    }

    /// The group came to nothing.
    pub(in crate::store) fn undo_heads(&mut self, group: &mut HeadGroup, error: StoreError) {
        for (id, version) in std::mem::take(&mut group.added) {
            if let Some(account) = lock(&self.keeping.heads).remove(&id, version) {
                self.state.uncount_head(&account, RECORD_BYTES);
            }
        }
        group.items.clear();
        group.staged.clear();
        group.uptime = None;
        let results = group.results.iter_mut().filter(|(_, result)| result.is_ok());
        results.for_each(|(_, result)| *result = Err(error));
    }

    /// Writes the ledger anew where half of it is waste, or something in it is damaged.
    pub(in crate::store) fn tidy_ledger(&mut self) {
        let Some((_, length)) = self.keeping.ledger.tip() else { return };
        let useful = self.keeping.useful_bytes();
        let is_waste = length > REWRITE_MIN_BYTES && length / 2 > useful;
        let is_stuck = self.keeping.stuck.is_some_and(|before| length / 9 < before / 8);
        if is_stuck || !is_waste && !self.keeping.is_marred {
            return;
        }
        self.keeping.is_marred = false;
        match self.rewrite_ledger() {
            Ok(()) => self.keeping.stuck = None,
            Err(LogError::Broken(reason)) => self.read_only = Some(reason),
            // Nothing is lost: the one before is as it was.
            Err(LogError::Full | LogError::Io) => self.keeping.stuck = Some(length),
        }
    }

    fn rewrite_ledger(&mut self) -> Result<(), LogError> {
        let mut live: Vec<(ChunkId, Version, Account, Kept)> = Vec::new();
        for (id, head) in &lock(&self.keeping.heads).by_id {
            for (version, kept) in &head.versions {
                live.push((*id, *version, head.account, kept.clone()));
            }
        }
        let (disk, key) = (Arc::clone(&self.log.disk), Arc::clone(&self.log.key));
        let (mut moved, mut lost) = (Vec::new(), BTreeSet::new());
        let uptime = Item::Uptime(self.keeping.uptime);
        let records = live.into_iter().filter_map(|(id, version, account, kept)| {
            match read_head(&*disk, &key, kept.place) {
                Ok(Some(record)) if record.hash() == kept.hash => {
                    moved.push((id, version));
                    let stored_at = kept.stored_at;
                    Some(Ok(Item::Head { account, stored_at, record }))
                }
                Ok(_) => {
                    lost.insert((id, version));
                    None
                }
                Err(error) => Some(Err(error)),
            }
        });
        let mut items = std::iter::once(Ok(uptime)).chain(records);
        let rewritten = self.keeping.ledger.rewrite(&mut items);
        drop(items);
        let rewritten = rewritten?;
        let changes = [Change::ledger((rewritten.generation, rewritten.length))];
        let applied = self.index.apply(&changes).and_then(|()| self.index.flush());
        applied.map_err(ReadOnly::Catalogue)?;
        let mut heads = lock(&self.keeping.heads);
        for ((id, version), place) in moved.iter().zip(rewritten.places.iter().skip(1)) {
            let head = heads.by_id.get_mut(id);
            if let Some(kept) = head.and_then(|head| head.versions.get_mut(version)) {
                kept.place = *place;
            }
        }
        let lost: Vec<Account> =
            lost.iter().filter_map(|(id, version)| heads.remove(id, *version)).collect();
        drop(heads);
        for account in &lost {
            self.state.uncount_head(account, RECORD_BYTES);
        }
        self.keeping.ledger.turn_to(&rewritten);
        Ok(())
    }
}
