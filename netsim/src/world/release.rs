//! Chunks that their owners give up, as the owner role says it to the holders that it knows.
//!
//! Who does not answer is asked again. What is put again while a holder may still let it go is not
//! offered to that one before it has taken that back, as the daemon does it: see
//! `src/node/prune/settle.rs`. Of those that said that they let it go some are asked to take it
//! back, and others get it anew. What is true of leases stands here, too: see [`LeaseFacts`].

use super::{Event, World};
use crate::chance::between;
use crate::evil::Loot;
use crate::node::wishes::{Asked, Job, Letting, SETTLES};
use crate::node::{Index, Node, Role};
use crate::oracle::{Fact, LeaseFacts, LetGo};
use crate::sometimes::Rare;
use quloud::core::codec::RELEASES_MAX;
use quloud::core::effect::Input;
use quloud::core::message::{
    ChunkState, Release, ReleaseAnswer, ReleaseRefusal, StoreAck, StreamMessage,
};
use quloud::core::owner::{
    AccountDone, AccountFailure, AccountJob, AccountWish, OwnerCommand, ReleaseWish,
};
use quloud::core::types::{ChunkId, NodeId};
use quloud::crypto::keys::OwnerKeys;
use quloud::store::heads::UPTIME_EVERY_S;
use quloud::store::releases::RELEASE_SLACK_S;
use rand::RngExt;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How long a holder has for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// When one that did not answer is asked again.
const AGAIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(86_400));

/// The same when nothing goes wrong any more.
const AGAIN_CALM: Duration = Duration::from_secs(600);

impl World<'_> {
    /// A user gives some chunks up: stored ones and unfinished ones.
    pub(super) fn release(&mut self, owner: Index) {
        let puts = self.nodes[owner].wishes.puts.iter();
        let ids: Vec<ChunkId> = puts.filter(|(_, put)| !put.backup).map(|(id, _)| *id).collect();
        for id in ids {
            if self.plan.use_.released.happens(&mut self.rng) {
                self.release_one(owner, id);
            }
        }
        self.tell_holders(owner);
    }

    fn release_one(&mut self, owner: Index, id: ChunkId) {
        let now = self.agenda.now();
        let Some(put) = self.nodes[owner].wishes.puts.remove(&id) else { return };
        self.log(|| format!("{owner} gives {id:?} up"));
        let rare = if put.stored { Rare::Released } else { Rare::PutGivenUp };
        self.noticed.rare.count(rare);
        let wishes = &mut self.nodes[owner].wishes;
        for (holder, (lease, _)) in &put.leases {
            let letting = Letting { lease: *lease, undo: false, heard: false, since: now };
            wishes.letting.insert((*holder, id), letting);
        }
        wishes.dropped.insert(id, put);
        self.nodes[owner].audits.forget(&id);
        self.see(&Fact::GaveUp { owner, id });
        self.cancel(owner, id);
        let Some(chunk) = self.chunks.get_mut(&id) else { return };
        (chunk.released, chunk.promised) = (Some(now), false);
        if self.plan.use_.again.happens(&mut self.rng) {
            let longest = (self.plan.use_.delay + Duration::from_secs(RELEASE_SLACK_S)) * 2;
            let wait = between(&mut self.rng, Duration::from_secs(1), longest);
            self.agenda.after(wait, Event::PutAgain { owner, id });
        }
    }

    /// The same file is put again.
    pub(super) fn put_again(&mut self, owner: Index, id: ChunkId) {
        let now = self.agenda.now();
        let takes_back = self.rng.random_range(0..2) == 0;
        let wishes = &mut self.nodes[owner].wishes;
        let Some(mut put) = wishes.dropped.remove(&id) else { return };
        (put.stored, put.acked, put.since) = (false, Vec::new(), now);
        wishes.puts.insert(id, put);
        wishes.letting.retain(|(_, of), letting| *of != id || takes_back || !letting.heard);
        for (_, letting) in wishes.letting.iter_mut().filter(|((_, of), _)| *of == id) {
            (letting.undo, letting.heard, letting.since) = (true, false, now);
        }
        self.chunks.get_mut(&id).into_iter().for_each(|chunk| chunk.released = None);
        self.noticed.rare.count(Rare::PutAgain);
        self.agenda.after(self.plan.use_.patience, Event::GiveUp { owner });
        self.tell_holders(owner);
        // Those who do not answer until then are left out.
        self.agenda.after(SETTLES, Event::Retry { node: owner });
        self.submit(owner);
    }

    /// Asks holders for what they have not answered yet, as soon as the machine runs.
    pub(super) fn tell_holders(&mut self, owner: Index) {
        if !self.is_up(owner) {
            return;
        }
        let open = self.nodes[owner].wishes.letting.iter().filter(|(_, letting)| !letting.heard);
        let open: BTreeSet<(NodeId, bool)> =
            open.map(|((holder, _), letting)| (*holder, letting.undo)).collect();
        for (holder, undo) in open {
            self.tell_holder(owner, holder, undo);
        }
    }

    /// Nothing is let go while something is taken back, and each but once at a time; but what is to
    /// be taken back does not wait for anything: its release might be sent again meanwhile.
    fn tell_holder(&mut self, owner: Index, holder: NodeId, undo: bool) {
        let now = self.agenda.now();
        let Node { wishes, .. } = &mut self.nodes[owner];
        let is_asked = |undo| wishes.has_job(Job::Let(holder, undo));
        if !undo && (is_asked(false) || is_asked(true)) {
            return;
        }
        let asked = wishes.asked_of(holder, undo);
        let theirs = |((of, id), letting): &(&(NodeId, ChunkId), &Letting)| {
            *of == holder && letting.undo == undo && !letting.heard && !asked.contains(id)
        };
        let items = wishes.letting.iter().filter(theirs).take(RELEASES_MAX);
        let ids: Asked = items.map(|((_, id), letting)| (*id, letting.lease)).collect();
        let put = |id: &ChunkId| wishes.puts.get(id).or_else(|| wishes.dropped.get(id));
        let wish = |(id, lease): &(ChunkId, _)| {
            let (ck, lent) = (put(id)?.key.duplicate(), None);
            Some(ReleaseWish { id: *id, ck, lent, lease: *lease })
        };
        let items: Vec<ReleaseWish> = ids.iter().filter_map(wish).collect();
        if items.is_empty() {
            return;
        }
        let ticket = wishes.begin(Job::Let(holder, undo));
        wishes.asked.insert(ticket, ids);
        let deadline = self.nodes[owner].clock_at(now.after(PATIENCE));
        let wish = AccountWish::Release { undo, items };
        let job = AccountJob { ticket, holder, wish, deadline };
        self.feed(owner, Role::Owner, Input::Command(OwnerCommand::Account(job)));
    }

    /// A holder let chunks go, or took that back, or did not say anything.
    pub(super) fn on_let(
        &mut self,
        owner: Index,
        (holder, undo, asked): (NodeId, bool, Asked),
        outcome: Result<AccountDone, AccountFailure>,
    ) {
        let states = match outcome {
            Ok(AccountDone::Released(states)) => states,
            Err(AccountFailure::NoAccount) => vec![ChunkState::NotHeld; asked.len()],
            Ok(_) | Err(_) => {
                let calm = self.plan.shorter(AGAIN_CALM);
                let longest = if self.calm { calm } else { self.plan.shorter(AGAIN.1) };
                let wait = between(&mut self.rng, AGAIN.0, longest.max(AGAIN.0));
                return self.agenda.after(wait, Event::TellHolders { owner });
            }
        };
        for ((id, lease), state) in asked.into_iter().zip(states) {
            let wishes = &mut self.nodes[owner].wishes;
            // What is wanted by now may be the opposite.
            let meant = |letting: &&mut Letting| letting.undo == undo && letting.lease == lease;
            let Some(letting) = wishes.letting.get_mut(&(holder, id)).filter(meant) else {
                continue;
            };
            letting.heard = true;
            if undo || !matches!(state, ChunkState::Released { .. }) {
                wishes.letting.remove(&(holder, id));
            }
            if undo {
                self.took_back(owner, holder, (id, state));
            }
        }
        self.tell_holders(owner);
        self.submit(owner);
    }

    /// A holder keeps a chunk, or has it no more: either way it may be given it.
    fn took_back(&mut self, owner: Index, holder: NodeId, (id, state): (ChunkId, ChunkState)) {
        // A job that left it out begins anew.
        self.cancel(owner, id);
        let Node { wishes, audits, .. } = &mut self.nodes[owner];
        let Some(put) = wishes.puts.get_mut(&id) else { return };
        if state != ChunkState::Live {
            return self.noticed.rare.count(Rare::TakenBackLate);
        }
        self.noticed.rare.count(Rare::TakenBack);
        // It counts as it did before, unless that was another store.
        let epoch = put.leases.get(&holder).map(|(_, epoch)| *epoch);
        let Some(epoch) = epoch.filter(|epoch| audits.holdings.store_of(&holder) == Some(*epoch))
        else {
            return;
        };
        if !put.acked.contains(&holder) {
            put.acked.push(holder);
        }
        audits.on_acked(holder, id, epoch);
        self.see(&Fact::TookBack { owner, holder, id, epoch });
    }

    /// A user takes back whatever holders were made to let go of what was put.
    pub(super) fn take_all_back(&mut self, owner: Index) {
        let (wishes, since) = (&mut self.nodes[owner].wishes, self.agenda.now());
        for (id, put) in &wishes.puts {
            for (holder, (lease, _)) in &put.leases {
                let letting = Letting { lease: *lease, undo: true, heard: false, since };
                wishes.letting.insert((*holder, *id), letting);
            }
        }
        self.tell_holders(owner);
    }

    /// What is on an owner's device.
    pub(super) fn loot(&self, owner: Index) -> (Arc<OwnerKeys>, Vec<Loot>) {
        let Node { wishes, owner_keys, .. } = &self.nodes[owner];
        let mut loot = Vec::new();
        for (id, put) in &wishes.puts {
            for (holder, (lease, _)) in &put.leases {
                let (key, lease) = (put.key.duplicate(), *lease);
                loot.push(Loot { holder: *holder, id: *id, key, lease });
            }
        }
        (Arc::clone(owner_keys), loot)
    }

    /// A user waits no longer for what is not stored yet: without that, worlds where too few nodes
    /// take chunks would ask, and answer, every few minutes to their end.
    pub(super) fn give_up(&mut self, owner: Index) {
        let (now, patience) = (self.agenda.now(), self.plan.use_.patience);
        let puts = self.nodes[owner].wishes.puts.iter_mut();
        let mut tired = Vec::new();
        for (id, put) in puts.filter(|(_, put)| !put.stored && put.since.after(patience) <= now) {
            put.resting = true;
            tired.push(*id);
        }
        let work = self.devices.get(&owner).and_then(|device| device.work.as_ref());
        let is_stuck = work.is_some_and(|work| tired.iter().any(|id| work.waits.contains(id)));
        for id in tired {
            self.cancel(owner, id);
        }
        if is_stuck {
            self.break_off(owner);
        }
        self.rest_head(owner);
    }

    /// What users waited for no longer is wanted again.
    pub(super) fn wake_wishes(&mut self) {
        for owner in 0..self.plan.use_.owners {
            self.nodes[owner].wishes.puts.values_mut().for_each(|put| put.resting = false);
        }
        self.devices.values_mut().for_each(|device| device.resting = false);
    }

    pub(super) fn cancel(&mut self, owner: Index, id: ChunkId) {
        if let Some(ticket) = self.nodes[owner].wishes.end_job(Job::Put(id))
            && self.nodes[owner].machine.is_some()
        {
            self.log(|| format!("{owner} waits no longer for {id:?}"));
            self.feed(owner, Role::Owner, Input::Command(OwnerCommand::Cancel(ticket)));
        }
    }
}

/// Time at a holder, and what is true of leases.
impl World<'_> {
    /// A store's time passes, as the daemon tells it every ten minutes: where something waits for
    /// its day. All else that hangs on it takes longer than a world lasts.
    pub(super) fn time_later(&mut self, node: Index) {
        let Some(machine) = &mut self.nodes[node].machine else { return };
        if machine.store.releases() > 0 && !std::mem::replace(&mut machine.is_timed, true) {
            let life = self.nodes[node].life;
            let wait = Duration::from_secs(UPTIME_EVERY_S);
            self.agenda.after(wait, Event::TimePasses { node, life });
        }
    }

    pub(super) fn time_passes(&mut self, node: Index) {
        let Some(machine) = &mut self.nodes[node].machine else { return };
        machine.is_timed = false;
        let begins = machine.store.pass(Duration::from_secs(UPTIME_EVERY_S));
        self.commit_later(node, begins);
        self.time_later(node);
    }

    /// What this group may destroy is not counted on any more: the power may go in the middle of
    /// it, and then nobody knows.
    pub(super) fn note_due(&mut self, node: Index) {
        let Some(machine) = &self.nodes[node].machine else { return };
        if machine.store.releases() == 0 {
            return;
        }
        let now = self.agenda.now();
        for chunk in self.chunks.values_mut() {
            if chunk.leases.get(&node).is_some_and(|lease| lease.may_go(now)) {
                chunk.acked.remove(&node);
            }
        }
    }

    /// What is said of leases, and is true from then on.
    pub(super) fn note_leases(&mut self, from: Index, to: Index, message: &StreamMessage) {
        match message {
            StreamMessage::StoreAck(ack) => self.note_acked_leases(from, ack),
            StreamMessage::Release(release) => self.note_release(from, to, release),
            StreamMessage::ReleaseAnswer(answer) => {
                self.note_let_go(from, to, answer);
                self.note_taken_back(from, to, answer);
            }
            _ => {}
        }
    }

    fn note_acked_leases(&mut self, holder: Index, ack: &StoreAck) {
        for acked in &ack.chunks {
            let Some(chunk) = self.chunks.get_mut(&acked.id) else { continue };
            let lease = chunk.leases.entry(holder).or_default();
            lease.delay_s = lease.delay_s.max(ack.terms.release_delay_s);
            // Under another one it is kept whatever was released before, and so it is under one of
            // which it was said before that it is let go.
            let before = lease.let_go.len();
            lease.let_go.retain(|of| of.lease == acked.lease && !of.is_answered);
            if lease.let_go.len() < before && self.nodes[holder].is_honest() {
                self.noticed.rare.count(Rare::StoredAnew);
            }
        }
    }

    fn note_release(&mut self, owner: Index, holder: Index, release: &Release) {
        let now = self.agenda.now();
        if release.undo {
            let ids = release.items.iter().map(|item| item.id).collect();
            self.undoing.insert((owner, holder, release.request), (now, ids));
            return;
        }
        // A thief may as well, if it has the delete key.
        let evil = self.nodes[owner].evil.as_ref();
        let has_stolen = evil.is_some_and(|evil| evil.has_delete_key());
        for item in &release.items {
            let Some(chunk) = self.chunks.get_mut(&item.id) else { continue };
            if chunk.owner == owner || has_stolen {
                let request = (owner, release.request);
                let let_go = LetGo { since: now, lease: item.lease, request, is_answered: false };
                chunk.leases.entry(holder).or_default().let_go.push(let_go);
            }
        }
        let ids = release.items.iter().map(|item| item.id).collect();
        self.releasing.insert((owner, holder, release.request), ids);
    }

    fn note_let_go(&mut self, holder: Index, owner: Index, answer: &ReleaseAnswer) {
        let Some(ids) = self.releasing.remove(&(owner, holder, answer.request)) else { return };
        let states = match &answer.outcome {
            Ok(states) => states,
            Err(why) => {
                if self.nodes[holder].is_honest() {
                    self.noticed.rare.count(match why {
                        ReleaseRefusal::Busy => Rare::ReleaseBusy,
                        ReleaseRefusal::Invalid => Rare::ReleaseTurnedDown,
                    });
                }
                return;
            }
        };
        for (id, state) in ids.iter().zip(states) {
            let chunk = self.chunks.get_mut(id);
            let lease = chunk.and_then(|chunk| chunk.leases.get_mut(&holder));
            let Some(LeaseFacts { let_go, .. }) = lease else { continue };
            if let ChunkState::Released { .. } = state {
                let_go.iter_mut().for_each(|let_go| let_go.is_answered = true);
            } else {
                // It meant nothing: the chunk is there under another lease, or was not found.
                let_go.retain(|let_go| let_go.request != (owner, answer.request));
            }
        }
    }

    /// What a holder says that it took back it keeps, as if it had acknowledged it anew.
    fn note_taken_back(&mut self, holder: Index, owner: Index, answer: &ReleaseAnswer) {
        let now = self.agenda.now();
        let undone = self.undoing.remove(&(owner, holder, answer.request));
        let (Some((said, ids)), Ok(states)) = (undone, &answer.outcome) else { return };
        for (id, state) in ids.iter().zip(states) {
            let Some(chunk) = self.chunks.get_mut(id).filter(|_| *state == ChunkState::Live) else {
                continue;
            };
            if let Some(lease) = chunk.leases.get_mut(&holder) {
                lease.let_go.retain(|let_go| let_go.since > said);
            }
            chunk.acked.insert(holder, now);
        }
    }
}
