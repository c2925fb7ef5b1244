//! What the roles want done.

use super::event::Wanted;
use super::{Event, World};
use crate::chance::between;
use crate::ending::Excuse;
use crate::net::Sent;
use crate::node::{Index, MESH, Node, Role};
use crate::oracle::{Fact, accuses};
use bytes::Bytes;
use quloud::core::codec::{self, Reject};
use quloud::core::effect::{self, Effect};
use quloud::core::message::{SearchKind, StoreAck, StreamMessage, TopicMessage};
use quloud::core::topic::Topic;
use quloud::core::types::{Account, LeaseTerms, NodeId};
use quloud::crypto::ack::AckStatement;
use rand::RngExt;
use rand::seq::IteratorRandom;
use std::time::Duration;

/// How long a look into the catalogue takes, and a read.
const READ: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// How long it takes to notice that a connection is dead.
pub(super) const NOTICED: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(40));

impl World<'_> {
    pub(super) fn carry_out(&mut self, node: Index, role: Role, effect: Effect) {
        let life = self.nodes[node].life;
        match effect {
            Effect::Publish { topic, message } => self.publish(node, topic, message),
            Effect::Send { to, message } => self.send(node, to, message),
            Effect::Dial { node: to, record } => self.dial(node, role, to, &record),
            Effect::FindChunks { ticket, ids } => {
                let wait = between(&mut self.rng, READ.0, READ.1);
                let heard = self.hearing;
                self.agenda.after(wait, Event::Find { node, life, ticket, ids, heard });
            }
            Effect::ReadChunk { ticket, id } => {
                let wait = between(&mut self.rng, READ.0, READ.1);
                let what = Wanted::Chunk(id);
                self.agenda.after(wait, Event::Read { node, life, ticket, what });
            }
            Effect::WriteChunk { ticket, chunk } => {
                let machine = self.nodes[node].machine.as_mut();
                let begins = machine.is_some_and(|machine| machine.store.write(ticket, chunk));
                self.commit_later(node, begins);
            }
            Effect::DeleteChunk { ticket, id } => {
                let machine = self.nodes[node].machine.as_mut();
                let begins = machine.is_some_and(|machine| machine.store.delete(ticket, id));
                self.commit_later(node, begins);
            }
            Effect::WriteHead { ticket, account, terms, record } => {
                let machine = self.nodes[node].machine.as_mut();
                let begins = machine.is_some_and(|machine| {
                    machine.store.write_head(ticket, (account, terms), record)
                });
                self.commit_later(node, begins);
            }
            Effect::ReadHeads { ticket, id, superseded } => {
                let wait = between(&mut self.rng, READ.0, READ.1);
                let what = Wanted::Heads(id, superseded);
                self.agenda.after(wait, Event::Read { node, life, ticket, what });
            }
            Effect::ListChunks { ticket, account, after, limit } => {
                let wait = between(&mut self.rng, READ.0, READ.1);
                let what = Wanted::List(account, after, limit);
                self.agenda.after(wait, Event::Read { node, life, ticket, what });
            }
            Effect::QueryChunks { ticket, account, ids } => {
                let wait = between(&mut self.rng, READ.0, READ.1);
                let what = Wanted::Query(account, ids);
                self.agenda.after(wait, Event::Read { node, life, ticket, what });
            }
            Effect::ProveChunk { ticket, account, id, task, closely } => {
                let wait = between(&mut self.rng, READ.0, READ.1);
                let what = Wanted::Proof(account, id, task, closely);
                self.agenda.after(wait, Event::Read { node, life, ticket, what });
            }
            Effect::ReleaseChunks { ticket, undo, items } => {
                let machine = self.nodes[node].machine.as_mut();
                let begins =
                    machine.is_some_and(|machine| machine.store.release(ticket, undo, items));
                self.commit_later(node, begins);
            }
            Effect::OwnerHeard { account, audited } => self.owner_heard(node, account, audited),
            Effect::Report(effect::Event::Owner(event)) => self.on_owner_event(node, event),
            // No user asks.
            Effect::Report(effect::Event::Holder(_)) => {}
            Effect::Report(effect::Event::Rejected { from, reason }) => {
                self.note_reject(node, from, reason);
            }
        }
    }

    fn note_reject(&mut self, node: Index, from: NodeId, reason: Reject) {
        self.log(|| format!("{node} rejects {}", reason.name()));
        self.rejects.count(reason.name());
        let heard = self.hearing;
        self.note_blame(node, reason);
        self.see(&Fact::Rejected { node, from, heard, reason });
    }

    fn owner_heard(&mut self, node: Index, account: Account, audited: bool) {
        if let Some(machine) = self.nodes[node].machine.as_mut() {
            machine.store.heard(account, audited);
        }
    }

    /// Whether it is known whom an honest node takes for a cheat, or all are honest.
    fn note_blame(&mut self, node: Index, reason: Reject) {
        if self.nodes[node].is_honest() && accuses(reason) {
            let known = self.hearing.is_some() || self.nodes.iter().all(Node::is_honest);
            self.ending.blame.count(known.then_some(()).ok_or(Excuse::Nameless));
        }
    }

    /// Gossips, where the node is connected to enough that subscribe; else it connects to some at
    /// home there first, whose ids it knows, and who may not be there.
    fn publish(&mut self, node: Index, topic: Topic, message: TopicMessage) {
        let nodes = &self.nodes;
        let lacks = self.net.lacks_hearers(node, |peer| nodes[peer].hears(topic));
        if lacks == 0 {
            return self.gossip(node, topic, &message);
        }
        let strange = |peer: &Index| *peer != node && !self.net.is_connected(node, *peer);
        let members = (0..nodes.len()).filter(|peer| nodes[*peer].is_home(topic));
        let mut chosen = members.filter(strange).sample(&mut self.rng, lacks);
        chosen.sort_unstable();
        let dials = chosen.into_iter().filter_map(|peer| self.try_dial(node, peer, false).ok());
        let last = dials.max().unwrap_or_default();
        let (life, message) = (self.nodes[node].life, Box::new(message));
        self.agenda.after(last, Event::Publish { node, life, topic, message });
    }

    pub(super) fn gossip(&mut self, node: Index, topic: Topic, message: &TopicMessage) {
        self.notice_published(node, message);
        self.see(&Fact::Published { node, message });
        let bytes = codec::encode_topic(message);
        let now = self.agenda.now();
        let nodes = &self.nodes;
        let arrivals = self.net.gossip(now, node, bytes.len(), |peer| nodes[peer].hears(topic));
        let kind = match message {
            TopicMessage::StoreRequest(_) => "store request",
            TopicMessage::SearchRequest(request) => match request.kind {
                SearchKind::Retrieve => "retrieve request",
                SearchKind::Locate => "locate request",
            },
            TopicMessage::Answer(_) => "answer",
        };
        self.log(|| {
            format!("{node} gossips a {kind} of {} bytes in {:x}", bytes.len(), topic.shard)
        });
        for arrival in arrivals {
            let (to, forwarder) = (arrival.to, arrival.forwarder);
            let (author, bytes) = (node, bytes.clone());
            self.agenda.at(arrival.at, Event::Gossip { to, forwarder, author, bytes });
        }
    }

    fn send(&mut self, node: Index, to: NodeId, message: StreamMessage) {
        let Some(&to) = self.indices.get(&to) else { return };
        self.note_acks(node, &message);
        self.note_leases(node, to, &message);
        self.notice_said(node, to, &message);
        self.log(|| format!("{node} says to {to}: {}", kind(&message)));
        self.see(&Fact::Said { from: node, to, message: &message });
        let frame = codec::encode_stream(&message);
        let now = self.agenda.now();
        match self.net.send(now, node, to, frame.head.len() + frame.payload.len()) {
            Sent::Arrives { at, epoch, stall } => {
                if !stall.is_zero() {
                    self.log(|| format!("the line from {node} to {to} stalls for {stall:?}"));
                }
                self.agenda.at(at, Event::Frame { from: node, to, epoch, frame });
            }
            Sent::Breaks { epoch } => {
                let wait = between(&mut self.rng, NOTICED.0, NOTICED.1);
                self.agenda.after(wait, Event::LinkGone { a: node, b: to, epoch });
            }
            Sent::Vanishes => {}
            Sent::Refused => self.agenda.at(now, Event::PeerLost { node, peer: to }),
        }
    }

    /// The oracle knows who acknowledged what: an ack that is never given cannot be counted, nor
    /// one that is not signed, promises less than was asked, or is for what never came.
    fn note_acks(&mut self, node: Index, message: &StreamMessage) {
        let StreamMessage::StoreAck(ack) = message else { return };
        let now = self.agenda.now();
        let asked = self.plan.use_.terms();
        if !self.nodes[node].is_honest() && !is_promise(ack, &asked, &self.ids[node]) {
            return;
        }
        for acked in &ack.chunks {
            if let Some(head) = self.heads.get_mut(&acked.id) {
                head.note_ack(node, &acked.lease);
            }
            let Some(chunk) = self.chunks.get_mut(&acked.id) else { continue };
            if !chunk.reached.contains(&node) {
                continue;
            }
            chunk.acked.insert(node, now);
        }
    }

    fn dial(&mut self, node: Index, role: Role, to: NodeId, record: &Bytes) {
        self.see(&Fact::Dialled { node, role, to, record });
        let Some(&peer) = self.indices.get(&to) else {
            return self
                .violation(format!("nobody dials at random: {node} dials nobody it was told of"));
        };
        let told = record.is_empty() || *record == self.nodes[peer].record();
        if !told || peer == node {
            return self.agenda.at(self.agenda.now(), Event::PeerLost { node, peer });
        }
        if self.net.is_connected(node, peer) {
            return;
        }
        if let Err(wait) = self.try_dial(node, peer, true) {
            let wait = wait + Duration::from_millis(self.rng.random_range(0..5_000));
            self.agenda.after(wait, Event::PeerLost { node, peer });
        }
    }

    /// Dials, and says when the connection stands, or when it is clear that it does not.
    fn try_dial(&mut self, node: Index, peer: Index, asked: bool) -> Result<Duration, Duration> {
        let (wait, reaches) = self.net.dial();
        let obstacle = self.nodes[node].place.obstacle(&self.nodes[peer].place);
        if let Some(fault) = obstacle {
            self.log(|| format!("{node} dials {peer} in vain: {}", fault.name()));
            self.faults.count(fault);
        }
        if reaches && obstacle.is_none() && self.is_up(peer) && self.net.is_open(node, peer) {
            self.agenda.after(wait, Event::Connect { a: node, b: peer, asked });
            Ok(wait)
        } else {
            Err(wait)
        }
    }
}

/// Whether an ack binds its holder to what owners ask for.
fn is_promise(ack: &StoreAck, asked: &LeaseTerms, holder: &NodeId) -> bool {
    let StoreAck { batch, account, epoch, terms, chunks, signature } = ack.clone();
    let enough = terms.renew_every_s >= asked.renew_every_s
        && terms.keep_after_silence_s >= asked.keep_after_silence_s
        && terms.release_delay_s >= asked.release_delay_s;
    let statement = AckStatement { mesh: MESH, account, batch, epoch, terms, chunks };
    enough && statement.verify(holder, &signature)
}

fn kind(message: &StreamMessage) -> &'static str {
    match message {
        StreamMessage::Hello(_) => "hello",
        StreamMessage::StoreRequest(_) => "store request",
        StreamMessage::StoreClaim(_) => "store claim",
        StreamMessage::StoreChunk(_) => "store chunk",
        StreamMessage::StoreAck(_) => "store ack",
        StreamMessage::StoreReject(_) => "store reject",
        StreamMessage::Retrieve(_) => "retrieve",
        StreamMessage::ChunkData(_) => "chunk data",
        StreamMessage::RetrieveReject(_) => "retrieve reject",
        StreamMessage::StoreHead(_) => "store head",
        StreamMessage::HeadGet(_) => "head get",
        StreamMessage::HeadData(_) => "head data",
        StreamMessage::AccountRequest(_) => "account request",
        StreamMessage::AccountAnswer(_) => "account answer",
        StreamMessage::Release(_) => "release",
        StreamMessage::ReleaseAnswer(_) => "release answer",
        StreamMessage::ChunkNotice(_) => "chunk notice",
        StreamMessage::StandingRequest(_) => "standing request",
        StreamMessage::StandingAnswer(_) => "standing answer",
    }
}
