//! How the writer hears of owners, writes that down, and ends leases where room is needed.

use super::{Half, LOOKS_MAX};
use crate::core::effect::{Deleted, StoreError};
use crate::core::types::{Account, ChunkId};
use crate::store::disk::Disk;
use crate::store::index::{Catalogue, Entry};
use crate::store::ledger::format::Item;
use crate::store::recovery::OpenReport;
use crate::store::releases::lock;
use crate::store::writer::{Group, ReadOnly, Request, Writer};

/// Chunks of an account that are looked up at once.
const PAGE: usize = 64;

/// What is lacking still, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lack {
    /// Of the capacity.
    capacity: u64,
    /// Of the disk, when all that is buried was given back.
    disk: u64,
}

impl Lack {
    fn is_over(&self) -> bool {
        self.capacity == 0 && self.disk == 0
    }

    fn most(&self) -> u64 {
        self.capacity.max(self.disk)
    }

    fn take(&mut self, bytes: u64) {
        self.capacity = self.capacity.saturating_sub(bytes);
        self.disk = self.disk.saturating_sub(bytes);
    }
}

impl<D: Disk, C: Catalogue> Writer<D, C> {
    /// Bytes of chunks whose leases are over: they go where room is needed.
    pub fn reclaimable(&self) -> u64 {
        self.keeping.leases.bytes_over(&self.state.kept, self.keeping.uptime)
    }

    /// The store was opened.
    pub(in crate::store) fn begin_leases(&mut self, report: &OpenReport) {
        let is_in_doubt = self.keeping.is_marred
            || self.keeping.is_torn
            || report.read_only.is_some()
            || !report.ledger_damage.is_empty();
        let uptime = self.keeping.uptime;
        self.keeping.leases.begin(&self.state.usage, uptime, is_in_doubt);
    }

    /// Owners speak with these requests: before any of them is carried out.
    pub(in crate::store) fn hear_all(&mut self, requests: &[Request]) {
        for request in requests {
            let (account, audited) = match request {
                Request::Heard { account, audited } => (account, *audited),
                Request::Write { chunk, .. } => (&chunk.account, false),
                Request::Head { account, .. } => (account, false),
                // Those that let go are heard when it is known whose the chunks are.
                Request::Delete { .. }
                | Request::Release { .. }
                | Request::Uptime { .. }
                | Request::Quarantine { .. } => continue,
            };
            self.hear(account, audited);
        }
        self.keeping.leases.thin(&self.state.usage);
    }

    pub(in crate::store) fn hear(&mut self, account: &Account, audited: bool) {
        self.keeping.leases.hear(account, self.keeping.uptime, audited);
    }

    /// Puts what is new of owners beside what else the ledger is to get.
    pub(in crate::store) fn save_heard(&mut self, group: &mut Group) {
        let uptime = self.keeping.uptime;
        let is_ready = self.read_only.is_none()
            && self.keeping.ledger.is_current()
            && self.keeping.paused_at != Some(uptime);
        if !is_ready {
            return;
        }
        let news = self.keeping.leases.news(&self.state.usage);
        if !news.is_empty() && self.keeping.ledger.tip().is_none() && group.heads.is_empty() {
            // Times count from somewhere.
            group.heads.push(Item::Uptime(group.heads.uptime().unwrap_or(uptime)));
        }
        news.iter().for_each(|heard| group.heads.push(Item::Heard(*heard)));
        group.leases.news = news;
    }

    /// The group is durable; where the ledger took nothing of it there is nothing for it any more.
    pub(in crate::store) fn show_heard(&mut self, group: &mut Group) {
        let news = std::mem::take(&mut group.leases.news);
        if !group.heads.is_empty() {
            self.keeping.leases.saved(&news);
        }
    }

    /// Whether others have used the disk's reserve up, and leases are over that can end for it.
    pub(in crate::store) fn is_to_relieve(&self) -> bool {
        self.read_only.is_none()
            && self.keeping.leases.relieved_at != Some(self.keeping.uptime)
            && self.reclaimable() > 0
            && self.log.disk.free_space().is_ok_and(|free| free < self.options.reserve)
    }

    /// Gives the disk its reserve back, as far as that can be done.
    pub(in crate::store) fn relieve(&mut self, group: &mut Group) {
        if !self.is_to_relieve() {
            return;
        }
        self.keeping.leases.relieved_at = Some(self.keeping.uptime);
        let free = self.log.disk.free_space().unwrap_or(u64::MAX);
        let lacking = self.options.reserve.saturating_sub(free);
        let lack = Lack { capacity: 0, disk: lacking.min(self.reclaimable()) };
        // Nobody waits for an answer to this.
        let _ = self.give_way(group, lack);
    }

    /// There is no room for `bytes` more, of so much in all: makes some, where it can be made of
    /// what was let go and of leases that are over.
    ///
    /// # Errors
    /// [`StoreError::Full`] where it cannot, and [`StoreError::Busy`] where there will be room, but
    /// the disk does not have it back yet.
    pub(in crate::store) fn make_way(
        &mut self,
        group: &mut Group,
        (bytes, capacity): (u64, u64),
    ) -> Result<(), StoreError> {
        let room = group.room.ok_or(StoreError::Io)?;
        let used = self.state.used.saturating_add(bytes);
        let lack =
            Lack { capacity: used.saturating_sub(capacity), disk: bytes.saturating_sub(room) };
        self.give_way(group, lack)?;
        // What is buried is given back after the group.
        if room < bytes { Err(StoreError::Busy) } else { Ok(()) }
    }

    fn give_way(&mut self, group: &mut Group, mut lack: Lack) -> Result<(), StoreError> {
        let dead = self.dead.iter().map(|dead| u64::from(dead.locator.bytes));
        let dying = dead.fold(group.leases.buried, u64::saturating_add);
        lack.disk = lack.disk.saturating_sub(dying);
        let before = group.leases.buried;
        let more_is_due = self.destroy_due(group);
        lack.take(group.leases.buried.saturating_sub(before));
        if lack.is_over() {
            return Ok(());
        }
        if more_is_due {
            return Err(StoreError::Busy);
        }
        if self.reclaimable() < lack.most() {
            return Err(StoreError::Full);
        }
        let over = self.keeping.leases.over(&self.state.kept, self.keeping.uptime);
        let mut looks = LOOKS_MAX;
        for (account, over_s) in over {
            // The second time from the first chunk on, where the first time was not.
            for _ in 0..2 {
                self.end_leases(group, (&account, over_s), (&mut lack, &mut looks))?;
                if lack.is_over() {
                    return Ok(());
                }
                if looks == 0 {
                    return Err(StoreError::Busy);
                }
            }
        }
        // Those that are left were let go, and wait for their day.
        Err(StoreError::Full)
    }

    /// Ends leases of one account: of its chunks behind those that were looked at last.
    fn end_leases(
        &mut self,
        group: &mut Group,
        (account, over_s): (&Account, u32),
        (lack, looks): (&mut Lack, &mut usize),
    ) -> Result<(), StoreError> {
        let stand = self.keeping.leases.stand.take().filter(|(of, _)| of == account);
        let mut from = Some(stand.map_or(Half::MIN, |(_, half)| half));
        while let Some(first) = from {
            let halves = lock(&self.state.accounts).some_from(account, first, PAGE.min(*looks));
            from = halves.last().and_then(|last| last.checked_add(1));
            for half in halves {
                *looks = looks.saturating_sub(1);
                for id in self.ids_below(half)? {
                    let ended = self.end_lease(group, &id, (account, over_s))?;
                    lack.take(ended);
                }
                if lack.is_over() || *looks == 0 {
                    let next = half.checked_add(1);
                    self.keeping.leases.stand = next.map(|next| (*account, next));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Buries a chunk whose lease is over; the bytes of its record, none where it stays.
    fn end_lease(
        &mut self,
        group: &mut Group,
        id: &ChunkId,
        (account, over_s): (&Account, u32),
    ) -> Result<u64, StoreError> {
        let is_over =
            |entry: &Entry| entry.account == *account && entry.terms.keep_after_silence_s <= over_s;
        let entry = self.lookup(group, id)?.filter(is_over);
        // What was let go has a time of its own.
        let Some(entry) = entry.filter(|entry| !self.is_released(group, id, &entry.lease)) else {
            return Ok(0);
        };
        self.bury(group, id, &entry)?;
        let freed_bytes = entry.locator.bytes.into();
        group.releases.destroyed(*id, Deleted { account: *account, freed_bytes });
        Ok(freed_bytes)
    }

    /// The chunks in the catalogue whose ids begin so: one, but for a chance of 2^-128.
    fn ids_below(&mut self, half: Half) -> Result<Vec<ChunkId>, StoreError> {
        let mut ids = Vec::new();
        let found = self.index.for_chunks_below(&half.to_be_bytes(), &mut |id, _| ids.push(id));
        found.map_err(|error| {
            self.read_only = Some(ReadOnly::Catalogue(error));
            StoreError::Io
        })?;
        Ok(ids)
    }
}
