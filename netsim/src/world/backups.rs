//! Backups: an owner's device reads its files, its chunks are put, and then it is published: the
//! entry when the chunks have their quorum, the head when the entry has.

use super::demand::AGAIN;
use super::{Event, World};
use crate::node::device::{Device, Drafted, Fresh, Stage, Work, wall_ns};
use crate::node::wishes::{Job, Put};
use crate::node::{Index, Role};
use crate::oracle::{ChunkFacts, Fact, HeadFacts, Said};
use crate::sometimes::Rare;
use quloud::core::effect::Input;
use quloud::core::owner::OwnerCommand;
use quloud::core::types::{ChunkId, SnapshotId};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long after its beginning a backup may be broken off.
const BROKEN_OFF_MS: u64 = 5_000;

impl World<'_> {
    /// A user backs a device up, as soon as the machine runs; one backup at a time.
    pub(super) fn back_up(&mut self, owner: Index) {
        if !self.is_up(owner) {
            return self.agenda.after(AGAIN * 6, Event::Backup { owner });
        }
        let now_ns = wall_ns(self.agenda.now().0);
        let mut rng = ChaCha20Rng::from_seed(self.rng.random());
        let plan = self.plan.backups.clone();
        let device = self.devices.entry(owner).or_insert_with(|| {
            let began_ns = wall_ns(0);
            Device::new(&mut rng, &plan, began_ns)
        });
        if device.work.is_some() {
            return;
        }
        device.files.change(&mut rng, &plan, now_ns);
        let (keys, puts) = (self.nodes[owner].owner_keys.clone(), &self.nodes[owner].wishes.puts);
        // What was changed in this moment is not settled yet.
        let (backed, fresh) = device.back_up(&keys, puts, &plan, now_ns);
        self.log(|| format!("{owner} backs up: {} chunks", fresh.len()));
        if plan.broken_off.happens(&mut self.rng) && !self.calm {
            let wait = Duration::from_millis(self.rng.random_range(0..=BROKEN_OFF_MS));
            let down = Duration::from_secs(self.rng.random_range(5..=3_600));
            self.agenda.after(wait, Event::Crash { node: owner, down, in_commit: false });
        }
        self.begin(owner, fresh, Stage::Content(Box::new(backed)));
    }

    /// A user forgets some snapshots.
    pub(super) fn forget(&mut self, owner: Index) {
        if !self.is_up(owner) {
            return self.agenda.after(AGAIN * 6, Event::Forget { owner });
        }
        let device = self.devices.get_mut(&owner).filter(|device| device.work.is_none());
        let Some(device) = device else { return };
        let (rng, share) = (&mut self.rng, self.plan.backups.forgotten);
        let forgets: BTreeSet<SnapshotId> =
            device.live.iter().filter(|_| share.happens(rng)).copied().collect();
        if forgets.is_empty() {
            return;
        }
        let is_thin = self.plan.backups.thin.happens(&mut self.rng) && device.record.is_some();
        let (keys, now_ns) = (self.nodes[owner].owner_keys.clone(), wall_ns(self.agenda.now().0));
        self.noticed.rare.add(Rare::Forgotten, forgets.len() as u64);
        let (drafted, fresh) = device.forget(&keys, forgets, is_thin, now_ns);
        self.log(|| format!("{owner} forgets snapshots"));
        self.draft(owner, drafted, fresh, is_thin);
    }

    fn draft(&mut self, owner: Index, drafted: Drafted, fresh: Vec<Fresh>, is_thin: bool) {
        if is_thin {
            self.noticed.rare.count(Rare::Checkpoint);
        }
        self.begin(owner, fresh, Stage::Entries(Box::new(drafted)));
    }

    /// Puts what was sealed, and goes on when all of it has its quorum.
    fn begin(&mut self, owner: Index, fresh: Vec<Fresh>, stage: Stage) {
        let waits: BTreeSet<ChunkId> = fresh.iter().map(|fresh| fresh.chunk.id()).collect();
        let is_done = waits.is_empty();
        fresh.into_iter().for_each(|fresh| self.put_fresh(owner, &fresh));
        let Some(device) = self.devices.get_mut(&owner) else { return };
        device.work = Some(Work { waits, stage });
        let now = self.agenda.now();
        if is_done {
            return self.agenda.at(now, Event::Proceed { owner });
        }
        self.agenda.after(self.plan.use_.patience, Event::GiveUp { owner });
        self.submit(owner);
    }

    fn put_fresh(&mut self, owner: Index, fresh: &Fresh) {
        let (id, locality) = (fresh.chunk.id(), fresh.chunk.locality);
        let (replicas, since) = (self.plan.use_.replicas, self.agenda.now());
        let wishes = &mut self.nodes[owner].wishes;
        // What a backup that was broken off had put is known still, and who took it.
        let before = wishes.dropped.remove(&id).map(|put| (put.acked, put.leases));
        let (acked, leases) = before.unwrap_or_default();
        let (stored, resting, backup) = (false, false, true);
        let (key, plaintext) = (fresh.key.duplicate(), fresh.frame());
        let put = Put {
            key,
            locality,
            plaintext,
            replicas,
            acked,
            leases,
            stored,
            since,
            resting,
            backup,
        };
        wishes.puts.insert(id, put);
        self.chunks.entry(id).or_insert_with(|| ChunkFacts {
            owner,
            sealed: fresh.chunk.sealed.clone(),
            readers: BTreeSet::from([owner]),
            replicas,
            reached: BTreeSet::new(),
            acked: BTreeMap::new(),
            buried: BTreeSet::new(),
            promised: false,
            released: None,
            leases: BTreeMap::new(),
        });
    }

    /// A chunk has its quorum: the work that waits for it may go on.
    pub(super) fn work_on(&mut self, owner: Index, id: &ChunkId) {
        let work = self.devices.get_mut(&owner).and_then(|device| device.work.as_mut());
        if let Some(work) = work
            && work.waits.remove(id)
            && work.waits.is_empty()
        {
            self.agenda.at(self.agenda.now(), Event::Proceed { owner });
        }
    }

    /// All that the work of a device waited for has its quorum.
    pub(super) fn proceed(&mut self, owner: Index) {
        let Some(device) = self.devices.get_mut(&owner) else { return };
        let Some(work) = device.work.take_if(|work| work.waits.is_empty()) else { return };
        let keys = self.nodes[owner].owner_keys.clone();
        let now_ns = wall_ns(self.agenda.now().0);
        match work.stage {
            Stage::Content(backed) => {
                let thin = self.plan.backups.thin.happens(&mut self.rng);
                let is_thin = thin && device.record.is_some();
                let nonce = self.rng.random();
                let (drafted, fresh) = device.publish(&keys, *backed, is_thin, (nonce, now_ns));
                self.draft(owner, drafted, fresh, is_thin);
            }
            Stage::Entries(drafted) => {
                let replicas = self.plan.use_.replicas;
                let mut rng = ChaCha20Rng::from_seed(self.rng.random());
                let published = device.seal_head(&keys, *drafted, replicas, (&mut rng, now_ns));
                let (id, index) = (published.record.id(), device.index);
                let number = published.record.number();
                self.log(|| format!("{owner} seals number {number} of its head"));
                self.see(&Fact::HeadMade { node: owner, record: &published.record });
                let facts =
                    self.heads.entry(id).or_insert_with(|| HeadFacts::new(owner, index, replicas));
                let said = Said { record: published.record, live: published.live };
                facts.said.insert(number, said);
                self.send_head(owner, true);
            }
        }
    }

    /// Whether some device is about to go on.
    pub(super) fn is_proceeding(&self) -> bool {
        let is_due = |work: &Work| work.waits.is_empty();
        self.devices.values().any(|device| device.work.as_ref().is_some_and(is_due))
    }

    /// The process ended, or the user gave up: what is stored stays, and what was on its way is put
    /// again with the next backup.
    pub(super) fn break_off(&mut self, owner: Index) -> bool {
        let work = self.devices.get_mut(&owner).and_then(Device::break_off);
        let Some(work) = work else { return false };
        self.noticed.rare.count(Rare::BrokenOff);
        self.log(|| format!("the backup of {owner} is broken off"));
        for id in work.waits {
            let wishes = &mut self.nodes[owner].wishes;
            let Some(put) = wishes.puts.remove(&id) else { continue };
            wishes.dropped.insert(id, put);
            if let Some(ticket) = self.nodes[owner].wishes.end_job(Job::Put(id))
                && self.nodes[owner].machine.is_some()
            {
                self.feed(owner, Role::Owner, Input::Command(OwnerCommand::Cancel(ticket)));
            }
        }
        true
    }

    /// The device lost its power in the middle of a backup: its user begins anew.
    pub(super) fn break_off_in_crash(&mut self, owner: Index) {
        if self.break_off(owner) {
            self.agenda.after(AGAIN, Event::Backup { owner });
        }
    }
}
