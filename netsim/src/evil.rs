//! Nodes that do not follow the protocol: the real roles, and something that stands between them
//! and the world. One behaviour per file.

mod audit_staller;
mod botcher;
mod covert;
mod deleter;
mod dropped;
mod eavesdropper;
mod equivocator;
mod flooder;
mod forger;
mod forgetful;
mod gang;
mod go_between;
mod hostage;
mod keeper;
mod lazy;
mod liar;
mod loris;
mod masker;
mod meddler;
mod mute;
mod relayer;
mod replayer;
mod rot_hider;
mod squatter;
mod staller;
mod sybil;
mod tag_keeper;
mod thief;
mod vandal;
mod wrong_proof;

pub(crate) use gang::Gang;

use crate::node::Role;
use bytes::Bytes;
use quloud::core::effect::{Effect, Input, StoredChunk, Written};
use quloud::core::message::{Contact, Hello, StreamMessage};
use quloud::core::shard::Sharding;
use quloud::core::topic::{Topic, TopicKind};
use quloud::core::types::{
    AnswerTag, ChunkId, LeaseNonce, Locality, NodeId, StoreEpoch, Ticket, Time,
};
use quloud::crypto::keys::{ChunkKey, NodeKeys, OwnerKeys};
use rand::RngExt;
use rand::seq::IteratorRandom;
use rand_chacha::ChaCha20Rng;
use std::sync::Arc;
use std::time::Duration;

/// What a behaviour has at hand.
pub(crate) struct Env<'a> {
    pub(crate) now: Time,
    pub(crate) rng: &'a mut ChaCha20Rng,
    /// The node's own keys.
    pub(crate) keys: &'a NodeKeys,
    /// Everybody it may know of, itself included.
    pub(crate) nodes: &'a [NodeId],
    /// How the mesh is cut.
    pub(crate) sharding: Sharding,
    /// How often it deviated.
    pub(crate) acts: u64,
    /// What it feeds to its own roles, beside what comes in.
    pub(crate) inputs: Vec<(Role, Input)>,
    /// What it does, beside what its roles want.
    pub(crate) effects: Vec<Effect>,
    /// What it says to whom so much later, if it still runs then.
    pub(crate) later: Vec<(Duration, NodeId, StreamMessage)>,
    /// For a thief that acts: an owner's keys, and its replicas.
    pub(crate) loot: Option<(Arc<OwnerKeys>, Vec<Loot>)>,
}

/// What an owner's catalogue has of a replica.
#[derive(Debug)]
pub(crate) struct Loot {
    pub(crate) holder: NodeId,
    pub(crate) id: ChunkId,
    pub(crate) key: ChunkKey,
    pub(crate) lease: LeaseNonce,
}

impl<'a> Env<'a> {
    pub(crate) fn new(
        now: Time,
        rng: &'a mut ChaCha20Rng,
        keys: &'a NodeKeys,
        nodes: &'a [NodeId],
        sharding: Sharding,
    ) -> Self {
        let (inputs, effects, later) = (Vec::new(), Vec::new(), Vec::new());
        let (acts, loot) = (0, None);
        Self { now, rng, keys, nodes, sharding, acts, inputs, effects, later, loot }
    }

    /// Some shard's topic of this kind, its own or a strange one.
    pub(crate) fn some_topic(&mut self, kind: TopicKind) -> Topic {
        // No draw where there is nothing to choose.
        let whole = self.sharding == Sharding::WHOLE;
        let locality = if whole { Locality(0) } else { Locality(self.rng.random()) };
        self.sharding.topic(kind, locality)
    }

    /// Where an answer with this tag is looked for.
    pub(crate) fn answer_topic(&self, tag: &AnswerTag) -> Topic {
        Topic::answer(tag, self.sharding.bits())
    }

    /// Somebody, itself perhaps.
    pub(crate) fn somebody(&mut self) -> Option<NodeId> {
        self.nodes.iter().choose(self.rng).copied()
    }

    /// The node as it presents itself to a nameless asker.
    pub(crate) fn contact(&self) -> Contact {
        let node = self.keys.node_id();
        let hello = Hello {
            node,
            mesh: crate::node::MESH,
            agreement: self.keys.agreement_key(),
            agreement_signature: self.keys.sign_agreement(),
            site: String::new(),
            operator: String::new(),
        };
        Contact { record: Bytes::copy_from_slice(node.as_bytes()), hello }
    }

    /// The holder role believes that its store wrote this.
    pub(crate) fn pretend_to_write(&mut self, ticket: Ticket, chunk: &StoredChunk, epoch: u8) {
        let (lease, terms) = (chunk.lease, chunk.terms);
        let epoch = StoreEpoch::from_bytes([epoch; 16]);
        let added_bytes = chunk.sealed.len() as u64;
        let written = Written { lease, terms, epoch, added_bytes };
        self.acts += 1;
        self.inputs.push((Role::Holder, Input::ChunksWritten(vec![(ticket, Ok(written))])));
    }
}

/// A way to deviate. The defaults follow the protocol.
pub(crate) trait Behaviour {
    /// As it is printed.
    fn name(&self) -> &'static str;

    /// What comes in; `None` where the roles do not hear of it.
    fn input(&mut self, env: &mut Env<'_>, role: Role, input: Input) -> Option<Input> {
        let _ = (env, role);
        Some(input)
    }

    /// What the roles want to do; returns what the node does instead.
    fn effect(&mut self, env: &mut Env<'_>, role: Role, effect: Effect) -> Vec<Effect> {
        let _ = (env, role);
        vec![effect]
    }

    /// What it does unasked, now and then.
    fn act(&mut self, env: &mut Env<'_>) -> Vec<Effect> {
        let _ = env;
        Vec::new()
    }

    /// Whether it has what is on an owner's device.
    fn steals(&self) -> bool {
        false
    }

    /// Whether that owner's delete key is among it.
    fn has_delete_key(&self) -> bool {
        false
    }

    /// Whether one machine pretends to be several such nodes.
    fn is_many(&self) -> bool {
        false
    }

    /// Whether it forwards what others gossip.
    fn forwards(&self) -> bool {
        true
    }
}

/// A new node of this kind, and whom it works with.
pub(crate) type Make = fn(&Gang) -> Box<dyn Behaviour>;

/// Every behaviour that a node is given by chance.
pub(crate) const ALL: &[Make] = &[
    |_| Box::new(botcher::Botcher::default()),
    |gang| Box::new(covert::Covert::of(gang)),
    |_| Box::new(eavesdropper::Eavesdropper::default()),
    |_| Box::new(equivocator::Equivocator::default()),
    |_| Box::new(flooder::Flooder::default()),
    |_| Box::new(forger::Forger::default()),
    |_| Box::new(forgetful::Forgetful::default()),
    |_| Box::new(hostage::Hostage),
    |_| Box::new(keeper::Keeper),
    |_| Box::new(lazy::Lazy::default()),
    |_| Box::new(liar::Liar),
    |_| Box::new(loris::Loris),
    |_| Box::new(masker::Masker::default()),
    |_| Box::new(mute::Mute),
    |_| Box::new(relayer::Relayer::default()),
    |_| Box::new(replayer::Replayer::default()),
    |_| Box::new(squatter::Squatter::default()),
    |_| Box::new(staller::Staller),
    |gang| Box::new(sybil::Sybil::of(gang)),
    |_| Box::new(vandal::Vandal),
    // About audits.
    |_| Box::new(audit_staller::AuditStaller::silent()),
    |_| Box::new(audit_staller::AuditStaller::busy()),
    |_| Box::new(audit_staller::AuditStaller::working()),
    |_| Box::new(deleter::Deleter::default()),
    |_| Box::new(go_between::GoBetween::default()),
    |_| Box::new(meddler::Meddler),
    |_| Box::new(rot_hider::RotHider::default()),
    |_| Box::new(tag_keeper::TagKeeper::default()),
    |_| Box::new(wrong_proof::WrongProof::default()),
];

/// Has what is on an owner's device, but for the delete key.
pub(crate) const THIEF: Make = |_| Box::new(thief::Thief::without_delete_key());

/// For scripts alone: what this does an owner has to notice, and not every one looks.
const THIEF_OF_ALL: Make = |_| Box::new(thief::Thief::with_delete_key());

/// The behaviour of this name.
pub(crate) fn named(name: &str) -> Option<Make> {
    let gang = Gang::new(Time(0), false);
    ALL.iter().chain(&[THIEF, THIEF_OF_ALL]).find(|make| make(&gang).name() == name).copied()
}

/// What those are called that drawn worlds have.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    let gang = Gang::new(Time(0), false);
    ALL.iter().chain(&[THIEF]).map(move |make| make(&gang).name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::MESH;
    use quloud::core::message::{Message, StoreRequest, TopicMessage};
    use quloud::core::types::LeaseTerms;
    use rand::SeedableRng;
    use std::collections::BTreeSet;

    /// What each behaviour publishes in a mesh of shards when it has heard requests.
    #[test]
    fn nobody_publishes_in_one_shard_only_and_answers_go_where_they_are_looked_for() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let keys = NodeKeys::generate(&mut rng);
        let (nodes, sharding) = ([keys.node_id()], Sharding::new(2, 1));
        let secret = quloud::crypto::seal::AnswerSecret::generate(&mut rng);
        let request = StoreRequest {
            ephemeral: secret.public(),
            attempt: 0,
            probability: u16::MAX,
            quorum: 1,
            terms: LeaseTerms::default(),
            offers: Vec::new(),
            stamp: Bytes::new(),
        };
        for make in ALL {
            let mut evil = make(&Gang::new(Time(0), true));
            let (mut shards, mut published) = (BTreeSet::new(), 0);
            for _ in 0..60 {
                let mut env = Env::new(Time(0), &mut rng, &keys, &nodes, sharding);
                let message = Message::Topic(TopicMessage::StoreRequest(request.clone()));
                let via = quloud::core::effect::Via::Topic;
                let input = Input::Message { from: nodes[0], via, message };
                evil.input(&mut env, Role::Holder, input);
                let mut effects = evil.act(&mut env);
                effects.append(&mut env.effects);
                for effect in effects {
                    let Effect::Publish { topic, message } = effect else { continue };
                    published += 1;
                    match message {
                        TopicMessage::Answer(of) => {
                            assert_eq!(topic, Topic::answer(&of.tag, 2), "{}", evil.name());
                        }
                        _ => {
                            shards.insert(topic.name(&MESH));
                        }
                    }
                }
            }
            assert!(shards.is_empty() || shards.len() > 1, "{}: {published}", evil.name());
        }
    }
}
