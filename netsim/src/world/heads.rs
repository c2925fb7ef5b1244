//! Heads: they are sent when they are made, and again when they are short; and read back.

use super::demand::AGAIN;
use super::finale::CATCH_UP;
use super::{Event, World};
use crate::ending::{Demanded, Excuse};
use crate::node::wishes::Job;
use crate::node::{Index, Role};
use crate::oracle::Fact;
use crate::sometimes::Rare;
use quloud::core::effect::Input;
use quloud::core::owner::{HeadsJob, Load, OwnerCommand, SoughtHead, StoreJob};
use quloud::core::types::{ChunkId, NodeId, Ticket};
use quloud::crypto::head::{HeadKeys, HeadRecord};
use quloud::crypto::keys::OwnerKeys;
use quloud::repo::head::{Verdict, judge};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a user waits before being told that the head is short.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a question for heads may take.
const LOOK: Duration = Duration::from_secs(60);

/// Heads that are asked for at once.
pub(super) const INDEXES: u16 = 32;

/// How many older records are asked for.
const SUPERSEDED: u8 = 2;

impl World<'_> {
    /// Sends the newest record of a device's head where it is not kept; `anew`: it was just made,
    /// and ends what is on its way of an older one.
    pub(super) fn send_head(&mut self, owner: Index, anew: bool) {
        let Some(device) = self.devices.get(&owner).filter(|_| self.is_up(owner)) else { return };
        let Some(record) = device.record.clone() else { return };
        let (id, number) = (record.id(), record.number());
        let is_sent = self.nodes[owner].wishes.has_job(Job::Head(id)) && !anew;
        if device.is_kept || device.resting || is_sent {
            return;
        }
        let machine = self.nodes[owner].machine.as_ref();
        if machine.is_none_or(|machine| machine.owner.store_window_free() == 0) {
            return self.agenda.after(AGAIN, Event::Retry { node: owner });
        }
        let load = Load::head(&device.head_keys(&self.nodes[owner].owner_keys), record);
        let (held_by, replicas) = (device.holders.clone(), self.plan.use_.replicas);
        let deadline = self.nodes[owner].clock_at(self.agenda.now().after(PATIENCE));
        let ticket = self.nodes[owner].wishes.begin(Job::Head(id));
        if !anew {
            self.noticed.rare.count(Rare::HeadAgain);
        } else {
            self.agenda.after(self.plan.use_.patience, Event::GiveUp { owner });
        }
        if let Some(facts) = self.heads.get_mut(&id) {
            facts.sending = number;
        }
        self.log(|| format!("{owner} sends number {number} of its head"));
        let (without, beside) = (Vec::new(), Vec::new());
        let job = StoreJob { ticket, load, replicas, held_by, without, beside, deadline };
        self.feed(owner, Role::Owner, Input::Command(OwnerCommand::Store(job)));
    }

    /// Somebody acknowledged the record that is on its way.
    pub(super) fn head_acked(&mut self, owner: Index, id: &ChunkId, holder: NodeId) {
        let Some(device) = self.devices.get_mut(&owner) else { return };
        let is_own = self.heads.get(id).is_some_and(|facts| facts.owner == owner);
        if is_own && !device.holders.contains(&holder) {
            device.holders.push(holder);
        }
    }

    /// The record that is on its way has its quorum. Whether it is a head at all.
    pub(super) fn head_stored(&mut self, owner: Index, id: &ChunkId) -> bool {
        let Some(facts) = self.heads.get_mut(id) else { return false };
        facts.promised = facts.promised.max(facts.sending);
        let sent = facts.sending;
        if let Some(device) = self.devices.get_mut(&owner)
            && device.record.as_ref().is_some_and(|record| record.number() == sent)
        {
            device.is_kept = true;
        }
        true
    }

    /// A user waits for a head no longer.
    pub(super) fn rest_head(&mut self, owner: Index) {
        let Some(device) = self.devices.get_mut(&owner).filter(|device| !device.is_kept) else {
            return;
        };
        let Some(id) = device.record.as_ref().map(HeadRecord::id) else { return };
        device.resting = true;
        if let Some(ticket) = self.nodes[owner].wishes.end_job(Job::Head(id))
            && self.nodes[owner].machine.is_some()
        {
            self.feed(owner, Role::Owner, Input::Command(OwnerCommand::Cancel(ticket)));
        }
    }

    /// A user looks whether the head is there.
    pub(super) fn look_back(&mut self, owner: Index) {
        let Some(device) = self.devices.get(&owner).filter(|device| device.record.is_some()) else {
            return;
        };
        let keys = device.head_keys(&self.nodes[owner].owner_keys);
        let known = device.holders.clone();
        if self.is_up(owner) {
            self.ask_for_heads(owner, &[(keys, known)]);
        }
    }

    /// Asks for heads; what comes is gathered under the ticket.
    pub(super) fn ask_for_heads(
        &mut self,
        node: Index,
        heads: &[(HeadKeys, Vec<NodeId>)],
    ) -> Ticket {
        let ticket = self.nodes[node].wishes.begin(Job::Look);
        let deadline = self.nodes[node].clock_at(self.agenda.now().after(LOOK));
        let sought = |(keys, known): &(HeadKeys, Vec<NodeId>)| SoughtHead {
            id: keys.id(),
            read: keys.read_secret(),
            known: known.clone(),
        };
        let heads = heads.iter().map(sought).collect();
        self.looks.insert((node, ticket), Vec::new());
        self.log(|| format!("{node} asks for heads"));
        let job = HeadsJob { ticket, heads, superseded: SUPERSEDED, brief: false, deadline };
        self.feed(node, Role::Owner, Input::Command(OwnerCommand::FindHeads(job)));
        ticket
    }

    pub(super) fn head_seen(&mut self, node: Index, ticket: Ticket, from: NodeId, of: HeadRecord) {
        if let Some(found) = self.looks.get_mut(&(node, ticket)) {
            found.push((from, of));
        }
    }

    /// All who could be asked have answered: what they say of the owner's own head is judged.
    pub(super) fn heads_done(&mut self, node: Index, ticket: Ticket) {
        self.nodes[node].wishes.end(ticket);
        let Some(device) = self.devices.get(&node) else { return };
        let Some(found) = self.looks.remove(&(node, ticket)) else { return };
        let Some(record) = &device.record else { return };
        let keys = device.head_keys(&self.nodes[node].owner_keys);
        let seen = Some((record.number(), record.hash()));
        let verdict = judge(&keys, device.index, &found, seen);
        if matches!(verdict, Verdict::Behind { .. }) {
            self.noticed.rare.count(Rare::HeadBehind);
        }
        self.log(|| format!("{node} has heard {} records of its head", found.len()));
        self.see(&Fact::HeadJudged { node, newest: seen.map_or(0, |(n, _)| n), verdict: &verdict });
    }

    /// The heads of this owner by all indexes that are looked for.
    pub(super) fn all_heads(keys: &OwnerKeys) -> Vec<(HeadKeys, Vec<NodeId>)> {
        let of = |index| (HeadKeys::derive(&keys.head, keys.generation, index), Vec::new());
        (0..INDEXES).map(of).collect()
    }

    /// Every head reaches its quorum where enough nodes would take it; `again`: also where it was
    /// there before, with those who are left.
    pub(super) fn settle_heads(&mut self, again: bool) {
        for device in self.devices.values_mut().filter(|device| device.record.is_some()) {
            device.is_kept &= !again;
        }
        let end = self.agenda.now().after(self.plan.shorter(CATCH_UP));
        while self.violations.is_empty() && self.agenda.now() < end {
            let short = self.short_heads();
            if short.is_empty() {
                return;
            }
            short.iter().for_each(|owner| self.send_head(*owner, false));
            let next = self.agenda.now().after(AGAIN).min(end);
            self.run_until(next, |world| short.iter().all(|owner| world.devices[owner].is_kept));
        }
        if let Some(owner) = self.short_heads().first()
            && self.violations.is_empty()
        {
            let acked: BTreeMap<Index, u64> =
                self.head_of(*owner).map(|id| self.heads[&id].acked.clone()).unwrap_or_default();
            self.violation(format!(
                "heads reach their quorum: {owner} sent its own in vain; {acked:?} acknowledged it"
            ));
        }
    }

    /// Owners whose head is short though enough nodes would take it.
    fn short_heads(&self) -> Vec<Index> {
        let short = self.devices.iter().filter(|(_, device)| !device.is_kept);
        let due = short.filter(|(owner, _)| self.may_send(**owner) == Some(Ok(())));
        due.map(|(owner, _)| *owner).collect()
    }

    /// How many heads are at their quorum, and why others need not be.
    pub(super) fn heads_kept(&self) -> Demanded {
        let mut demanded = Demanded::default();
        for (owner, device) in &self.devices {
            match self.may_send(*owner) {
                Some(_) if device.is_kept => demanded.count(Ok(())),
                Some(result) => demanded.count(result),
                None => {}
            }
        }
        demanded
    }

    /// Whether an owner has a head, and would find holders for it.
    fn may_send(&self, owner: Index) -> Option<Result<(), Excuse>> {
        let id = self.head_of(owner)?;
        if !self.is_up(owner) {
            return Some(Err(Excuse::OwnerDown));
        }
        if !self.nodes[owner].wishes.has_job(Job::Head(id)) && self.is_full(owner) {
            return Some(Err(Excuse::WindowFull));
        }
        let room = self.rooms(owner, quloud::crypto::head::locality(&id)).len();
        let enough = room >= usize::from(self.plan.use_.replicas);
        Some(enough.then_some(()).ok_or(Excuse::NoRoom))
    }

    /// The head that an owner has written.
    pub(super) fn head_of(&self, owner: Index) -> Option<ChunkId> {
        self.devices.get(&owner)?.record.as_ref().map(HeadRecord::id)
    }
}
