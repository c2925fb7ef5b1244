//! What the users want, and what they are told.

use super::{Event, World};
use crate::node::wishes::{Job, Put};
use crate::node::{Index, Node, Role};
use crate::oracle::{ChunkFacts, Fact};
use crate::timeline::Mark;
use quloud::core::effect::Input;
use quloud::core::owner::{FetchJob, OwnerCommand, OwnerEvent, StoreJob};
use quloud::core::types::{ChunkId, Locality, Time};
use quloud::crypto::keys::ChunkKey;
use quloud::crypto::seal::SealedChunk;
use quloud::repo::served::Came;
use rand::seq::IteratorRandom;
use rand::{Rng, RngExt};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a user waits before being told that it takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a fetch may take when everything is fetched.
pub(super) const FETCH: Duration = Duration::from_secs(1_800);

/// When a user looks after what is not done.
pub(super) const AGAIN: Duration = Duration::from_secs(600);

impl World<'_> {
    /// A user puts chunks, as soon as the machine runs.
    pub(super) fn put(&mut self, owner: Index, chunks: usize) {
        if !self.is_up(owner) {
            return self.agenda.after(AGAIN * 6, Event::Put { owner, chunks });
        }
        self.mark(Mark::Put);
        let locality = Locality(self.rng.random());
        for _ in 0..chunks {
            let length = self.rng.random_range(1..=self.plan.use_.chunk_bytes);
            let mut plaintext = vec![0; length];
            self.rng.fill_bytes(&mut plaintext);
            let keys = self.nodes[owner].owner_keys.clone();
            let key = ChunkKey::derive(&keys.dedup, 0, 1, &plaintext);
            let chunk = SealedChunk::new(&keys, &key, locality, &plaintext);
            let replicas = self.plan.use_.replicas;
            let facts = ChunkFacts {
                owner,
                sealed: chunk.sealed.clone(),
                readers: BTreeSet::from([owner]),
                replicas,
                reached: BTreeSet::new(),
                acked: BTreeMap::new(),
                buried: BTreeSet::new(),
                promised: false,
                released: None,
                leases: BTreeMap::new(),
            };
            self.chunks.insert(chunk.id(), facts);
            let (acked, leases) = (Vec::new(), BTreeMap::new());
            let (stored, resting, since) = (false, false, self.agenda.now());
            let backup = false;
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
            self.nodes[owner].wishes.puts.insert(chunk.id(), put);
        }
        self.agenda.after(self.plan.use_.patience, Event::GiveUp { owner });
        self.submit(owner);
    }

    /// Begins jobs for whatever is not stored yet, as the daemon's outbox does.
    pub(super) fn submit(&mut self, node: Index) {
        if !self.is_up(node) {
            return;
        }
        let unfinished = self.nodes[node].wishes.unfinished(self.agenda.now());
        for id in unfinished {
            let now = self.agenda.now();
            let Node { wishes, owner_keys, machine, .. } = &mut self.nodes[node];
            let room =
                machine.as_ref().is_some_and(|machine| machine.owner.store_window_free() > 0);
            if !room {
                return self.agenda.after(AGAIN, Event::Retry { node });
            }
            let ticket = wishes.begin(Job::Put(id));
            let Some(put) = wishes.puts.get(&id) else { continue };
            let chunk = SealedChunk::new(owner_keys, &put.key, put.locality, &put.plaintext);
            let (replicas, held_by, without) =
                (put.replicas, put.acked.clone(), wishes.unsettled(&id));
            let deadline = self.nodes[node].clock_at(now.after(PATIENCE));
            let (load, beside) = (chunk.into(), Vec::new());
            let job = StoreJob { ticket, load, replicas, held_by, without, beside, deadline };
            self.log(|| format!("{node} puts {id:?}, {replicas} times"));
            self.feed(node, Role::Owner, Input::Command(OwnerCommand::Store(job)));
        }
        self.send_head(node, false);
    }

    /// Somebody fetches a chunk, or several people do at once.
    pub(super) fn get_some(&mut self) {
        let at_once = if self.rng.random_range(0..3) == 0 { 12 } else { 1 };
        for _ in 0..self.rng.random_range(1..=at_once) {
            self.get();
        }
    }

    /// Somebody fetches a chunk that was promised: its owner, or somebody it was shared with.
    fn get(&mut self) {
        let promised = self.chunks.iter().filter(|(_, chunk)| chunk.promised);
        let Some((id, owner)) = promised.map(|(id, c)| (*id, c.owner)).choose(&mut self.rng) else {
            return;
        };
        let honest = |node: &Index| self.nodes[*node].is_honest() && self.nodes[*node].is_up();
        let reader = match self.rng.random_range(0..2) {
            0 => Some(owner).filter(honest),
            _ => (0..self.nodes.len()).filter(honest).choose(&mut self.rng),
        };
        let machine = reader.and_then(|reader| self.nodes[reader].machine.as_ref());
        let room = machine.is_some_and(|machine| machine.owner.fetch_slots_free() > 0);
        if let Some(reader) = reader.filter(|_| room) {
            let deadline = self.agenda.now().after(PATIENCE);
            self.fetch(reader, id, deadline);
        }
    }

    /// Begins to fetch; the owner knows the holders, and anybody else has only the capability.
    pub(super) fn fetch(&mut self, reader: Index, id: ChunkId, deadline: Time) {
        self.mark(Mark::Get);
        let Some(chunk) = self.chunks.get_mut(&id) else { return };
        chunk.readers.insert(reader);
        let owner = chunk.owner;
        let Some(put) = self.nodes[owner].wishes.puts.get(&id) else { return };
        let holders = if reader == owner { put.acked.clone() } else { Vec::new() };
        let (locality, read) = (put.locality, put.key.read_secret());
        let ticket = self.nodes[reader].wishes.begin(Job::Get(id));
        let deadline = self.nodes[reader].clock_at(deadline);
        let job = FetchJob { ticket, id, locality, read, holders, only: false, deadline };
        self.log(|| format!("{reader} gets {id:?}"));
        self.feed(reader, Role::Owner, Input::Command(OwnerCommand::Fetch(job)));
    }

    pub(super) fn on_owner_event(&mut self, node: Index, event: OwnerEvent) {
        self.log(|| format!("{node} reports {}", brief(&event)));
        self.see(&Fact::Reported { node, event: &event });
        self.notice_reported(node, &event);
        let wishes = &mut self.nodes[node].wishes;
        match event {
            OwnerEvent::Acked { id, node: holder, .. } if self.heads.contains_key(&id) => {
                self.head_acked(node, &id, holder);
            }
            OwnerEvent::Acked { id, node: holder, epoch, lease, .. } => {
                if let Some(put) = wishes.puts.get_mut(&id) {
                    put.leases.insert(holder, (lease, epoch));
                    if !put.acked.contains(&holder) {
                        put.acked.push(holder);
                    }
                }
                if self.nodes[node].audits.on_acked(holder, id, epoch) {
                    self.take_words_back(node);
                }
            }
            OwnerEvent::Stored { ticket, id, .. } => {
                wishes.end(ticket);
                wishes.puts.get_mut(&id).into_iter().for_each(|put| put.stored = true);
                if self.head_stored(node, &id) {
                    return;
                }
                if let Some(chunk) = self.chunks.get_mut(&id) {
                    // A replica that is made again is no new promise.
                    self.stored += u64::from(!chunk.promised);
                    chunk.promised = true;
                }
                self.audit_soon(node);
                self.work_on(node, &id);
            }
            OwnerEvent::Short { .. } => {}
            OwnerEvent::Superseded { ticket, by: None, .. } => drop(wishes.end(ticket)),
            OwnerEvent::Superseded { by: Some(_), .. } => {}
            OwnerEvent::HeadSeen { ticket, from, record } => {
                self.head_seen(node, ticket, from, record);
            }
            OwnerEvent::HeadsDone { ticket, .. } => self.heads_done(node, ticket),
            OwnerEvent::Account { ticket, holder, outcome } => {
                self.on_account(node, (ticket, holder), outcome);
            }
            // What a holder tells by itself an audit finds as well, and no user asks how its node
            // stands with others.
            OwnerEvent::Noticed { .. } | OwnerEvent::StandingAsked { .. } => {}
            OwnerEvent::Located { node: holder, ids, .. } => self.on_located(node, holder, ids),
            OwnerEvent::LocateDone { ticket } => self.on_locate_done(node, ticket),
            OwnerEvent::Fetched { ticket, id, header, sealed, .. } => match wishes.end(ticket) {
                Some(Job::Get(asked)) if asked == id => drop(self.fetched.insert((node, id))),
                Some(Job::Bring(asked)) if asked == id => {
                    self.brought.insert(id, (header, sealed));
                }
                Some(Job::Try(asked)) if asked == id => {
                    self.tried(node, (Came::Whole, sealed.len()));
                }
                Some(Job::Repair(asked)) if asked == id => {
                    self.store_sealed(node, id, (header, sealed));
                }
                _ => self.violation(format!("nothing comes unasked: {node} is given {id:?}")),
            },
            OwnerEvent::NotFetched { ticket, asked, .. } => {
                if let Some(Job::Try(_)) = wishes.end(ticket) {
                    self.tried_in_vain(node, &asked);
                }
            }
        }
    }
}

/// An event without the bytes.
fn brief(event: &OwnerEvent) -> String {
    match event {
        OwnerEvent::Fetched { id, from, .. } => format!("Fetched {id:?} from {from:?}"),
        OwnerEvent::Account { holder, outcome, .. } => {
            format!("Account {holder:?} {:?}", outcome.as_ref().map(|_| ()))
        }
        event => format!("{event:?}"),
    }
}
