//! One node of the world: both roles, byte for byte those of the daemon, and a disk.

use crate::disk::Disk;
use bytes::Bytes;
use quloud::core::effect::{Effect, Input, Peer, Reach};
use quloud::core::holder::{HolderConfig, HolderLimits, HolderRole};
use quloud::core::message::{Hello, Message, StreamMessage, TopicMessage};
use quloud::core::owner::{OwnerConfig, OwnerLimits, OwnerRole};
use quloud::core::placement::DomainPolicy;
use quloud::core::types::{LeaseTerms, MeshId, NodeId, StoreEpoch, Time};
use quloud::crypto::keys::{Master, NodeKeys, OwnerKeys};
use rand::{Rng, RngExt};
use rand_chacha::ChaCha20Rng;
use std::sync::Arc;

pub(crate) const MESH: MeshId = MeshId::from_bytes([1; 32]);

/// A node, running or not.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) disk: Disk,
    pub(crate) owner_keys: Arc<OwnerKeys>,
    /// `None` while it is down.
    pub(crate) roles: Option<Roles>,
    /// Counts its starts: what an earlier life asked of the disk is never answered.
    pub(crate) life: u64,
    /// It never comes back.
    pub(crate) gone: bool,
    keys: Arc<NodeKeys>,
}

/// What is lost in a crash.
#[derive(Debug)]
pub(crate) struct Roles {
    pub(crate) owner: OwnerRole,
    pub(crate) holder: HolderRole,
    /// When the node is woken next.
    pub(crate) wake: Option<Time>,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Owner,
    Holder,
}

impl Node {
    pub(crate) fn new(rng: &mut ChaCha20Rng) -> Self {
        let keys = Arc::new(NodeKeys::generate(rng));
        let master = Master::generate(rng);
        Self {
            id: keys.node_id(),
            disk: Disk::new(StoreEpoch::from_bytes(rng.random())),
            owner_keys: Arc::new(OwnerKeys::derive(&master, 0)),
            roles: None,
            life: 0,
            gone: false,
            keys,
        }
    }

    /// Starts it, with what its disk still has.
    pub(crate) fn start(&mut self, now: Time, rng: &mut impl Rng) {
        let owner = OwnerRole::new(OwnerConfig {
            keys: Arc::clone(&self.owner_keys),
            node: self.id,
            mesh: MESH,
            seed: rng.random(),
            limits: OwnerLimits::default(),
            shard_bits: 0,
            domains: DomainPolicy::LanCountsEach,
            terms: LeaseTerms::default(),
        });
        let mut holder = HolderRole::new(HolderConfig {
            keys: Arc::clone(&self.keys),
            mesh: MESH,
            limits: HolderLimits::default(),
            seed: rng.random(),
            shard_bits: 0,
            site: String::new(),
            operator: String::new(),
            used_by_account: self.disk.used_by_account(),
        });
        holder.handle(now, Input::Space(self.disk.space()));
        holder.handle(now, Input::OwnRecord(self.record()));
        self.roles = Some(Roles { owner, holder, wake: None });
        self.life += 1;
    }

    /// Stops it without warning.
    pub(crate) fn crash(&mut self) {
        self.roles = None;
        self.disk.crash();
    }

    pub(crate) fn is_up(&self) -> bool {
        self.roles.is_some()
    }

    /// Stands for the signed PeerRecord: by it a node is found.
    pub(crate) fn record(&self) -> Bytes {
        Bytes::copy_from_slice(self.id.as_bytes())
    }

    /// The node as its peers see it.
    pub(crate) fn peer(&self) -> Peer {
        let hello = Hello {
            node: self.id,
            mesh: MESH,
            agreement: self.keys.agreement_key(),
            agreement_signature: self.keys.sign_agreement(),
            site: String::new(),
            operator: String::new(),
        };
        Peer { node: self.id, hello, reach: Reach::Local }
    }
}

impl Roles {
    pub(crate) fn handle(&mut self, now: Time, role: Role, input: Input) {
        match role {
            Role::Owner => self.owner.handle(now, input),
            Role::Holder => self.holder.handle(now, input),
        }
    }

    pub(crate) fn poll_effect(&mut self) -> Option<(Role, Effect)> {
        let owner = self.owner.poll_effect().map(|effect| (Role::Owner, effect));
        owner.or_else(|| self.holder.poll_effect().map(|effect| (Role::Holder, effect)))
    }

    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.owner.next_timeout().into_iter().chain(self.holder.next_timeout()).min()
    }
}

/// Which role a message concerns.
pub(crate) fn addressee(message: &Message) -> Role {
    match message {
        Message::Topic(TopicMessage::StoreRequest(_) | TopicMessage::RetrieveRequest(_)) => {
            Role::Holder
        }
        Message::Stream(
            StreamMessage::StoreRequest(_)
            | StreamMessage::StoreChunk(_)
            | StreamMessage::Retrieve(_),
        ) => Role::Holder,
        Message::Topic(TopicMessage::Answer(_)) | Message::Stream(_) => Role::Owner,
    }
}
