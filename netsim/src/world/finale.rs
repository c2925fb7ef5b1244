//! The end: nothing goes wrong any more, and the mesh has to become live again.
//!
//! Whoever is not gone for ever comes back, with a disk that works. Then every put that can succeed
//! must, and every chunk that was promised and that one sound holder still has must be fetched by
//! its owner, who knows the holders. Replicas that are gone are made again (see `heal`), and
//! somebody who comes new with a capability fetches everything. At last the cheats leave for ever,
//! so that the replicas are to be made again at honest nodes.

use super::demand::{AGAIN, FETCH};
use super::heal::Standing;
use super::{Event, World};
use crate::ending::{Demanded, Excuse};
use crate::node::store::Store;
use crate::node::{Domain, Index, Node};
use quloud::core::topic::TopicKind;
use quloud::core::types::{ChunkId, Locality, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long the mesh has to find itself again.
const GATHER: Duration = Duration::from_secs(900);

/// How long it has for what was left undone: backoffs are long by then.
pub(super) const CATCH_UP: Duration = Duration::from_secs(24 * 3_600);

impl World<'_> {
    pub(super) fn finale(&mut self) {
        self.calm_down();
        let gathered = self.agenda.now().after(GATHER);
        self.run_until(gathered, |_| false);
        self.catch_up();
        self.settle_heads(false);
        self.ending.puts = self.puts();
        self.scrub_all();
        self.audit_all();
        // First what is there, so that no new copy hides a lost one.
        self.fetched.clear();
        self.ending.owners = self.fetch_all(None);
        self.heal();
        self.fetch_all(None);
        let newcomer = self.join_in();
        self.ending.newcomers = self.fetch_all(Some(newcomer));
        self.list_again(newcomer);
        self.cheats_leave();
        self.audit_all();
        self.heal();
        self.ending.replicas = self.replicas();
        self.settle_heads(true);
        self.ending.heads = self.heads_kept();
        for node in 0..self.nodes.len() {
            if self.violations.is_empty() {
                self.look_through(node);
            }
        }
        self.ending.snapshots = self.recover_all();
    }

    fn calm_down(&mut self) {
        // Whoever is asleep wakes first.
        let asleep = (0..self.nodes.len()).filter_map(|node| self.paused(node)).max();
        self.agenda.retain(|event| !is_fault(event));
        if let Some(until) = asleep {
            self.run_until(until, |_| false);
        }
        self.log(|| "calm".to_owned());
        self.calm = true;
        self.wake_wishes();
        self.watch_calm();
        self.net.calm_down();
        self.agenda.retain(|event| !is_fault(event));
        let now = self.agenda.now();
        for node in 0..self.nodes.len() {
            self.nodes[node].mend();
            self.look_later(node);
            let machine = self.nodes[node].machine.as_ref();
            let stuck = machine.is_some_and(|machine| machine.store.read_only().is_some());
            if stuck || self.nodes[node].disk.is_dead() {
                let down = Duration::from_secs(10);
                self.agenda.at(now, Event::Crash { node, down, in_commit: false });
            }
            self.agenda.at(now, Event::Start { node });
        }
        self.reconnect(|_, _| true);
    }

    /// Puts that were left undone are done where they can be.
    fn catch_up(&mut self) {
        let end = self.agenda.now().after(self.plan.shorter(CATCH_UP));
        while self.violations.is_empty() && self.agenda.now() < end {
            // Who hears whom is worked out once in a while, and not after each event.
            let undone = self.undone();
            if undone.is_empty() && !self.is_proceeding() {
                return;
            }
            for owner in 0..self.plan.use_.owners {
                self.submit(owner);
            }
            // What is stored lets a device go on.
            self.run_until(self.agenda.now(), |_| false);
            self.run_until_stored(&undone, end);
        }
        if let Some((owner, id)) = self.undone().first()
            && self.violations.is_empty()
        {
            let put = &self.nodes[*owner].wishes.puts[id];
            let room = self.rooms(*owner, put.locality).len();
            let (acked, replicas) = (put.acked.len(), put.replicas);
            self.violation(format!(
                "the mesh is live: {owner} stored {id:?} {acked} of {replicas} times, and {room} \
                 failure domains would take it"
            ));
        }
    }

    /// Time goes on until all of these are stored, until somebody looks after them again, or to
    /// `end`.
    pub(super) fn run_until_stored(&mut self, puts: &[(Index, ChunkId)], end: Time) {
        let next = self.agenda.now().after(AGAIN).min(end);
        self.run_until(next, |world| {
            let is_done = |(owner, id): &(Index, ChunkId)| {
                world.nodes[*owner].wishes.puts.get(id).is_none_or(|put| put.stored)
            };
            puts.iter().all(is_done)
        });
    }

    /// Puts that are not done and that enough honest nodes would take.
    fn undone(&self) -> Vec<(Index, ChunkId)> {
        let standing = self.put_standing().into_iter();
        let undone = standing.filter(|(_, standing)| *standing == Ok(Standing::Degraded));
        undone.map(|(put, _)| put).collect()
    }

    /// How many chunks that were put, and not given up, are stored.
    fn puts(&self) -> Demanded {
        let mut demanded = Demanded::default();
        let standing = self.put_standing().into_iter();
        standing.for_each(|(_, standing)| demanded.count(standing.map(|_| ())));
        demanded
    }

    /// How each put is off; or why it need not be done.
    fn put_standing(&self) -> Vec<((Index, ChunkId), Result<Standing, Excuse>)> {
        let mut all = Vec::new();
        for owner in 0..self.plan.use_.owners {
            let mut rooms = BTreeMap::new();
            for (id, put) in &self.nodes[owner].wishes.puts {
                let shard = self.plan.sharding.topic(TopicKind::Store, put.locality).shard;
                let mut room = || {
                    let room = rooms.entry(shard);
                    room.or_insert_with(|| self.rooms(owner, put.locality)).len()
                };
                let standing = match self.may_ask(owner, id) {
                    _ if put.stored => Ok(Standing::Whole),
                    Err(excuse) => Err(excuse),
                    Ok(()) if usize::from(put.replicas) > room() => Err(Excuse::NoRoom),
                    Ok(()) => Ok(Standing::Degraded),
                };
                all.push(((owner, *id), standing));
            }
        }
        all
    }

    /// Whether an owner's window is full of what nobody takes: that lets nothing else in.
    pub(super) fn is_full(&self, owner: Index) -> bool {
        let Some(machine) = &self.nodes[owner].machine else { return false };
        let is_putting = self.nodes[owner].wishes.putting().next().is_some();
        is_putting && machine.owner.store_window_free() == 0
    }

    /// Who hears what a node asks on the topic of this kind and locality, and is heard by it.
    pub(super) fn answerers(
        &self,
        asker: Index,
        kind: TopicKind,
        locality: Locality,
    ) -> BTreeSet<Index> {
        let topic = self.plan.sharding.topic(kind, locality);
        let hear = self.net.hearers(asker, |node| self.nodes[node].hears(topic));
        let Some(machine) = &self.nodes[asker].machine else { return BTreeSet::new() };
        let topic = machine.owner.answer_topic();
        let are_heard = self.net.heard(asker, |node| self.nodes[node].hears(topic));
        hear.intersection(&are_heard).copied().collect()
    }

    /// Failure domains in which an honest node at home in this shard takes chunks of this owner.
    pub(super) fn rooms(&self, owner: Index, locality: Locality) -> BTreeSet<Domain> {
        let takers = self.takers(owner, locality).into_iter();
        takers.map(|node| self.nodes[node].domain()).collect()
    }

    /// Those nodes.
    pub(super) fn takers(&self, owner: Index, locality: Locality) -> Vec<Index> {
        let hears = self.answerers(owner, TopicKind::Store, locality);
        let takes = |node: &Index| {
            let Some(space) = self.nodes[*node].look(Store::space) else { return false };
            let needed = 64 * self.plan.use_.chunk_bytes as u64 + (1 << 20);
            let room = space.capacity.saturating_sub(space.used).min(space.free);
            let honest = self.nodes[*node].is_honest() && self.is_up(*node);
            let generous = !self.nodes[*node].limits().stingy;
            honest && generous && *node != owner && room > needed && !space.read_only
        };
        let reachable = |node: &Index| self.reaches(owner, *node);
        hears.into_iter().filter(takes).filter(reachable).collect()
    }

    /// Whether a node can be connected to another one today: without relays, not every one can.
    pub(super) fn reaches(&self, from: Index, to: Index) -> bool {
        let can_dial = self.nodes[from].place.can_dial(&self.nodes[to].place);
        self.net.is_connected(from, to) || can_dial
    }

    /// Everything that was promised comes back to this reader, or to its owner, but for what nobody
    /// in reach has.
    fn fetch_all(&mut self, reader: Option<Index>) -> Demanded {
        let mut demanded = Demanded::default();
        let promised = self.chunks.iter().filter(|(_, chunk)| chunk.promised);
        let promised: Vec<(ChunkId, Index)> =
            promised.map(|(id, chunk)| (*id, reader.unwrap_or(chunk.owner))).collect();
        for (id, reader) in promised {
            let fetchable = self.can_fetch(reader, &id);
            if fetchable.is_ok() && !self.fetched.contains(&(reader, id)) {
                self.fetch_one(reader, id);
            }
            if !self.violations.is_empty() {
                break;
            }
            demanded.count(fetchable);
        }
        demanded
    }

    /// Whether some honest node has the chunk, in reach; one whose disk was always sound must have
    /// what it acknowledged.
    pub(super) fn can_fetch(&self, reader: Index, id: &ChunkId) -> Result<(), Excuse> {
        let Some(chunk) = self.chunks.get(id).filter(|_| self.is_up(reader)) else {
            return Err(Excuse::ReaderDown);
        };
        let has = |node: &Node| node.is_sound() || node.holds(id);
        let holds = |node: &&Index| {
            let honest = self.is_up(**node) && self.nodes[**node].is_honest();
            **node != reader && honest && has(&self.nodes[**node])
        };
        let mut holders: Vec<Index> = chunk.acked.keys().filter(holds).copied().collect();
        if holders.is_empty() {
            return Err(Excuse::NoCopy);
        }
        holders.retain(|node| !self.nodes[*node].limits().deaf);
        if holders.is_empty() {
            return Err(Excuse::Deaf);
        }
        let put = self.nodes[chunk.owner].wishes.puts.get(id).ok_or(Excuse::NoCopy)?;
        // An owner knows who acknowledged and asks there; anybody else has to be heard.
        let hears = self.answerers(reader, TopicKind::Retrieve, put.locality);
        let knows = |node: Index| reader == chunk.owner && put.acked.contains(&self.ids[node]);
        let finds = |node: Index| knows(node) || hears.contains(&node);
        let reach = |node: &Index| finds(*node) && self.reaches(reader, *node);
        holders.iter().any(reach).then_some(()).ok_or(Excuse::OutOfReach)
    }

    fn fetch_one(&mut self, reader: Index, id: ChunkId) {
        // A repair that is under way may have the only slot.
        self.run_until(self.agenda.now().after(FETCH), |world| {
            let machine = world.nodes[reader].machine.as_ref();
            machine.is_none_or(|machine| machine.owner.fetch_slots_free() > 0)
        });
        let end = self.agenda.now().after(FETCH);
        self.fetch(reader, id, end);
        self.run_until(end.after(Duration::from_secs(1)), |world| {
            world.fetched.contains(&(reader, id))
        });
        if !self.fetched.contains(&(reader, id)) && self.violations.is_empty() {
            let acked: Vec<Index> = self.chunks[&id].acked.keys().copied().collect();
            self.violation(format!(
                "nothing acknowledged is lost: {reader} cannot fetch {id:?}, which {acked:?} \
                 acknowledged"
            ));
        }
    }
}

/// What does not happen any more when the world is calm.
fn is_fault(event: &Event) -> bool {
    match event {
        Event::Crash { .. }
        | Event::MassRestart { .. }
        | Event::CrashLoop { .. }
        | Event::Pause { .. }
        | Event::Leave { .. }
        | Event::CutBegins { .. }
        | Event::CutEnds { .. }
        | Event::Swizzle { .. }
        | Event::Fill { .. }
        | Event::Room { .. }
        | Event::Decay { .. }
        | Event::LoseDisk { .. }
        | Event::OldImage { .. }
        | Event::TakeImage { .. }
        | Event::Act { .. }
        | Event::Put { .. }
        | Event::PutAgain { .. }
        | Event::Release { .. }
        | Event::GiveUp { .. }
        | Event::Backup { .. }
        | Event::Forget { .. }
        | Event::LookBack { .. }
        | Event::Audit { .. }
        | Event::Try { .. }
        | Event::Get
        | Event::Locate
        | Event::Script { .. } => true,
        Event::Gossip { .. }
        | Event::Frame { .. }
        | Event::Publish { .. }
        | Event::Connect { .. }
        | Event::LinkGone { .. }
        | Event::PeerMet { .. }
        | Event::PeerLost { .. }
        | Event::Commit { .. }
        | Event::Tidy { .. }
        | Event::Look { .. }
        | Event::Scrub { .. }
        | Event::Find { .. }
        | Event::Read { .. }
        | Event::Wake { .. }
        | Event::Start { .. }
        | Event::Resume { .. }
        | Event::Later { .. }
        | Event::TimePasses { .. }
        | Event::TellHolders { .. }
        | Event::Proceed { .. }
        | Event::TryOn { .. }
        | Event::Retry { .. } => false,
    }
}
