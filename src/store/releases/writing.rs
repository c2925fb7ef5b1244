//! How the writer lets chunks go, takes that back, and destroys what is due.

use super::{DESTROYED_MAX, Pending, RELEASE_SLACK_S, Releases, lock, state};
use crate::core::effect::{ChunkState, Deleted, StoreError};
use crate::core::types::{ChunkId, LeaseNonce, Ticket};
use crate::planted::{Bug, is_on};
use crate::store::disk::{Disk, DiskError};
use crate::store::index::{Catalogue, Entry};
use crate::store::ledger::format::{Item, ReleaseItem};
use crate::store::log::LogError;
use crate::store::recovery::OpenReport;
use crate::store::writer::{Group, ReadOnly, Writer};

/// What one request comes to, until all of it is known to fit.
#[derive(Default)]
struct Staged {
    /// Each with what its release becomes.
    changes: Vec<(ChunkId, LeaseNonce, Option<Pending>)>,
    states: Vec<ChunkState>,
}

impl<D: Disk, C: Catalogue> Writer<D, C> {
    /// Number of chunks that are let go and not destroyed yet.
    pub fn releases(&self) -> usize {
        lock(&self.keeping.releases).len()
    }

    /// Whether there are chunks to destroy: a group does so with some, an empty one too.
    pub fn has_due(&self) -> bool {
        self.has_due_releases() || self.is_to_relieve()
    }

    /// The same of those that were let go.
    pub(in crate::store) fn has_due_releases(&self) -> bool {
        let uptime = self.keeping.uptime;
        self.read_only.is_none()
            && self.keeping.paused_at != Some(uptime)
            && lock(&self.keeping.releases).is_due(uptime)
    }

    /// One more request for this group: all of it, or nothing.
    pub(in crate::store) fn release(
        &mut self,
        group: &mut Group,
        ticket: Ticket,
        undo: bool,
        items: &[(ChunkId, LeaseNonce)],
    ) {
        let result = self.stage_release(group, undo, items);
        group.releases.results.push((ticket, result));
    }

    fn stage_release(
        &mut self,
        group: &mut Group,
        undo: bool,
        items: &[(ChunkId, LeaseNonce)],
    ) -> Result<Vec<ChunkState>, StoreError> {
        if self.read_only.is_some() {
            return Err(StoreError::ReadOnly);
        }
        // It is written anew within moments, where there is space.
        if !self.keeping.ledger.is_current() {
            return Err(StoreError::Busy);
        }
        let mut staged = Staged::default();
        for (id, lease) in items {
            let entry = self.lookup(group, id)?;
            if let Some(Entry { account, .. }) = &entry {
                self.hear(account, false);
            }
            self.stage_item(group, &mut staged, undo, (id, lease, entry))?;
        }
        let now = self.time(group);
        if self.keeping.ledger.tip().is_none() && !staged.changes.is_empty() {
            // Times count from somewhere.
            group.heads.push(Item::Uptime(now));
        }
        for (id, lease, pending) in staged.changes {
            if pending.is_none() && is_on(Bug::KeepRelease) {
                continue;
            }
            let added = pending.map(|pending| group.releases.added.entry(pending.account));
            added.into_iter().for_each(|added| *added.or_default() += 1);
            self.change(group, id, lease, pending);
        }
        Ok(staged.states)
    }

    fn stage_item(
        &self,
        group: &Group,
        staged: &mut Staged,
        undo: bool,
        (id, lease, entry): (&ChunkId, &LeaseNonce, Option<Entry>),
    ) -> Result<(), StoreError> {
        let Some(entry) = entry else {
            staged.states.push(ChunkState::NotHeld);
            return Ok(());
        };
        let releases = lock(&self.keeping.releases);
        let known = match group.releases.now.get(id) {
            Some(now) => *now,
            None => releases.by_id.get(id).copied(),
        };
        let known = known.filter(|known| known.lease == entry.lease);
        let mut now = known;
        // Under another lease it was stored since: that is not what is meant.
        if entry.lease == *lease {
            match (undo, known) {
                (false, None) => {
                    let account = entry.account;
                    let of_it = staged.changes.iter().filter_map(|(_, _, pending)| *pending);
                    let of_it = of_it.filter(|pending| pending.account == account).count();
                    let before = group.releases.added.get(&account).copied().unwrap_or(0);
                    let all: usize = group.releases.added.values().sum();
                    let coming = (before + of_it, all + staged.changes.len());
                    if !releases.has_room(&self.options.releases, &account, coming) {
                        return Err(StoreError::Busy);
                    }
                    let delay_s = match is_on(Bug::SkipReleaseDelay) {
                        true => 0,
                        false => u64::from(entry.terms.release_delay_s) + RELEASE_SLACK_S,
                    };
                    let due = self.time(group).saturating_add(delay_s);
                    now = Some(Pending { lease: *lease, account, due });
                }
                (true, Some(_)) => now = None,
                // It is so already: its delay does not begin anew.
                (false, Some(_)) | (true, None) => {}
            }
        }
        if now != known {
            staged.changes.push((*id, *lease, now));
        }
        staged.states.push(state(&entry, now.as_ref(), self.time(group)));
        Ok(())
    }

    /// The store's uptime as this group has it.
    fn time(&self, group: &Group) -> u64 {
        group.heads.uptime().unwrap_or(self.keeping.uptime)
    }

    fn change(&self, group: &mut Group, id: ChunkId, lease: LeaseNonce, now: Option<Pending>) {
        group.heads.push(match now {
            Some(Pending { lease, account, due }) => {
                Item::Release(ReleaseItem { id, lease, account, due })
            }
            None => Item::Ended(id, lease),
        });
        group.releases.now.insert(id, now);
    }

    /// Whether the chunk is let go under this lease, or was before this group: what takes that back
    /// in the same group may come to nothing while the rest of it does not.
    pub(in crate::store) fn is_released(
        &self,
        group: &Group,
        id: &ChunkId,
        lease: &LeaseNonce,
    ) -> bool {
        let coming = group.releases.now.get(id).copied().flatten();
        coming.is_some_and(|coming| coming.lease == *lease)
            || lock(&self.keeping.releases).has(id, lease)
    }

    /// The chunk is no longer held under this lease, so that no release of it means anything. Need
    /// not be durable: without it the release is found to be of a lease that there is not.
    pub(in crate::store) fn end_release(
        &mut self,
        group: &mut Group,
        id: &ChunkId,
        lease: &LeaseNonce,
    ) {
        if self.is_released(group, id, lease) {
            self.change(group, *id, *lease, None);
        }
    }

    /// Buries some of the chunks whose delay was over when the uptime was saved last. Whether there
    /// are more.
    pub(in crate::store) fn destroy_due(&mut self, group: &mut Group) -> bool {
        if !self.has_due_releases() {
            return false;
        }
        let due = lock(&self.keeping.releases).due(self.keeping.uptime, DESTROYED_MAX + 1);
        let is_more = due.len() > DESTROYED_MAX;
        for (id, pending) in due.into_iter().take(DESTROYED_MAX) {
            // Of what this group did to it the next one knows more.
            if group.releases.now.contains_key(&id) {
                continue;
            }
            let Ok(entry) = self.lookup(group, &id) else { return false };
            if let Some(entry) = entry.filter(|entry| entry.lease == pending.lease) {
                if self.bury(group, &id, &entry).is_err() {
                    self.keeping.paused_at = Some(self.keeping.uptime);
                    return false;
                }
                let freed_bytes = entry.locator.bytes.into();
                let gone = Deleted { account: entry.account, freed_bytes };
                group.releases.destroyed(id, gone);
            }
            self.change(group, id, pending.lease, None);
        }
        is_more
    }

    /// The ledger has nothing of this group. What it destroyed is destroyed all the same.
    pub(in crate::store) fn refuse_releases(&mut self, group: &mut Group, error: StoreError) {
        group.releases.fail(error);
        self.keeping.paused_at = Some(self.keeping.uptime);
    }

    /// The group is durable, and so are its releases.
    pub(in crate::store) fn show_releases(&mut self, group: &mut Group) {
        let mut releases = lock(&self.keeping.releases);
        releases.uptime = self.keeping.uptime;
        for (id, now) in std::mem::take(&mut group.releases.now) {
            releases.set(&id, now);
        }
    }

    /// The group came to nothing.
    pub(in crate::store) fn undo_releases(&self, group: &mut Group) {
        group.releases.fail(StoreError::Io);
        group.releases.destroyed.clear();
    }

    /// Drops all releases where the ledger may lack something: see [`super`]. Nothing was answered
    /// yet, and nothing is where this cannot be made durable.
    pub(in crate::store) fn settle_doubt(&mut self, report: &mut OpenReport) {
        let uptime = self.keeping.uptime;
        let pending = {
            let mut releases = lock(&self.keeping.releases);
            releases.uptime = uptime;
            releases.len()
        };
        let is_torn = self.keeping.is_torn && pending > 0;
        if self.read_only.is_some() || !self.keeping.is_marred && !is_torn {
            return;
        }
        let empty = Releases { uptime, ..Releases::default() };
        let dropped = std::mem::replace(&mut *lock(&self.keeping.releases), empty);
        let mut rewritten = self.rewrite_ledger();
        if matches!(rewritten, Err(LogError::Full)) && self.release_ballast() {
            rewritten = self.rewrite_ledger();
        }
        match rewritten {
            Ok(()) => {
                self.keeping.is_marred = false;
                report.releases_dropped = dropped.len();
            }
            Err(error) => {
                *lock(&self.keeping.releases) = dropped;
                self.read_only = Some(match error {
                    LogError::Broken(reason) => reason,
                    LogError::Full => ReadOnly::Log(DiskError::Full),
                    LogError::Io => ReadOnly::Ledger(DiskError::Io(0)),
                });
                report.read_only.clone_from(&self.read_only);
            }
        }
    }
}
