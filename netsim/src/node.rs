//! One node: real roles over the real store, on a machine that may stop at any time.

pub(crate) mod audits;
pub(crate) mod device;
pub(crate) mod holdings;
mod look;
pub(crate) mod store;
pub(crate) mod wishes;
pub(crate) mod words;

use crate::catalogue::{CatalogueFaults, SimCatalogue};
use crate::clock::{Clock, Movement};
use crate::disk::{DiskFaults, SimDisk};
use crate::evil::Behaviour;
use crate::limits::Limits;
use crate::tally::{Fault, Tally};
use audits::Audits;
use bytes::Bytes;
use quloud::core::effect::{Effect, Input, Peer, Reach};
use quloud::core::holder::{HolderConfig, HolderRole};
use quloud::core::message::{Hello, Message, StreamMessage, TopicMessage};
use quloud::core::owner::{OwnerConfig, OwnerRole};
use quloud::core::placement::DomainPolicy;
use quloud::core::shard::Sharding;
use quloud::core::topic::Topic;
use quloud::core::types::{LeaseTerms, MeshId, NodeId, Time};
use quloud::crypto::keys::{Master, NodeKeys, OwnerKeys, WrapKey};
use quloud::store::writer::Options;
use quloud::store::{OpenReport, StoreOpenError};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use wishes::Wishes;
use words::Words;

/// The mesh of every world.
pub(crate) const MESH: MeshId = MeshId::from_bytes([1; 32]);

/// Names a node within its world.
pub(crate) type Index = usize;

/// Where a node stands, which does not change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// As its peers observe it.
    pub(crate) reach: Reach,
    /// Who can begin a connection with it.
    pub(crate) nat: Nat,
    /// How its clock goes.
    pub(crate) clock: Movement,
    /// Its line is slow.
    pub(crate) slow: bool,
    /// It is there eight hours a day.
    pub(crate) laptop: bool,
    /// Its disk keeps what it made durable, in whatever world: what is promised of sound disks
    /// would hardly be tested otherwise.
    pub(crate) sturdy: bool,
}

/// What one event takes: a public network, or one node of a LAN.
pub(crate) type Domain = (Reach, Option<NodeId>);

/// Which way connections of a node can begin. No relay joins those that cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nat {
    /// Either way.
    Open,
    /// It dials, and nobody can dial it.
    OutboundOnly,
    /// It can be dialled, and its own dials do not get through.
    InboundOnly,
}

impl Place {
    /// Where nothing is amiss.
    pub(crate) const fn good(reach: Reach) -> Self {
        let (nat, clock) = (Nat::Open, Movement::RIGHT);
        Self { reach, nat, clock, slow: false, laptop: false, sturdy: true }
    }

    /// Whether a node can dial another one.
    pub(crate) fn can_dial(&self, other: &Self) -> bool {
        self.nat != Nat::InboundOnly && other.nat != Nat::OutboundOnly
    }

    /// What keeps a node from dialling another one.
    pub(crate) fn obstacle(&self, other: &Self) -> Option<Fault> {
        let fault = if self.nat == Nat::InboundOnly { Fault::InboundOnly } else { Fault::Nat };
        (!self.can_dial(other)).then_some(fault)
    }
}

/// Whether a node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It runs.
    Up,
    /// It is stopped, with everything in memory, and goes on then.
    Paused(Time),
    /// It is down.
    Down,
    /// It never comes back.
    Gone,
}

/// What a node is made of, which does not change either.
#[derive(Debug, Clone)]
pub(crate) struct Blueprint {
    pub(crate) place: Place,
    pub(crate) options: Options,
    pub(crate) disk: DiskFaults,
    pub(crate) catalogue: CatalogueFaults,
    pub(crate) domains: DomainPolicy,
    /// What its owner asks of holders.
    pub(crate) terms: LeaseTerms,
    pub(crate) limits: Limits,
    pub(crate) sharding: Sharding,
}

/// A node, running or not.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) place: Place,
    pub(crate) presence: Presence,
    /// Counts its starts: what an earlier life asked for is never answered.
    pub(crate) life: u64,
    /// `None` while it is down.
    pub(crate) machine: Option<Machine>,
    /// What its user wants; survives everything.
    pub(crate) wishes: Wishes,
    /// What it knows of its replicas; most of it survives, too.
    pub(crate) audits: Audits,
    /// What it tells of what it put; survives everything.
    pub(crate) words: Words,
    /// How it deviates from the protocol, where it does.
    pub(crate) evil: Option<Box<dyn Behaviour>>,
    /// Its disk was whole and truthful since the beginning.
    pub(crate) sound: bool,
    pub(crate) owner_keys: Arc<OwnerKeys>,
    pub(crate) keys: Arc<NodeKeys>,
    /// What it says first to each peer. Signed once, as in the daemon.
    hello: Hello,
    pub(crate) disk: Arc<SimDisk>,
    pub(crate) catalogue: Arc<SimCatalogue>,
    /// What the disk and the catalogue held at some time.
    image: Option<(SimDisk, SimCatalogue)>,
    /// What disks and catalogues that are gone did.
    spent: Tally<Fault>,
    wrap: Arc<WrapKey>,
    blueprint: Blueprint,
    /// The shards whose topics it subscribes to.
    homes: Vec<u16>,
    rng: ChaCha20Rng,
}

/// What is lost in a crash.
pub(crate) struct Machine {
    pub(crate) owner: OwnerRole,
    pub(crate) holder: HolderRole,
    pub(crate) store: Store,
    /// What time it is for them.
    pub(crate) clock: Clock,
    /// When the node is woken next, on the clock of the world.
    pub(crate) wake: Option<Time>,
    /// Whom it takes itself to be connected to.
    pub(crate) met: BTreeSet<Index>,
    /// Its store is told of the time that passes.
    pub(crate) is_timed: bool,
}

/// Which of the two roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Owner,
    Holder,
}

impl Node {
    /// A node with an empty disk, not started yet.
    pub(crate) fn new(mut rng: ChaCha20Rng, blueprint: Blueprint) -> Self {
        let keys = Arc::new(NodeKeys::generate(&mut rng));
        let wrap = Arc::new(WrapKey::from_bytes(*keys.wrap_key().expose()));
        let owner_keys = Arc::new(OwnerKeys::derive(&Master::generate(&mut rng), 0));
        let disk_rng = ChaCha20Rng::from_seed(rng.random());
        let capacity = disk_bytes(blueprint.options.capacity);
        let hello = Hello {
            node: keys.node_id(),
            mesh: MESH,
            agreement: keys.agreement_key(),
            agreement_signature: keys.sign_agreement(),
            site: String::new(),
            operator: String::new(),
        };
        Self {
            id: keys.node_id(),
            hello,
            homes: blueprint.sharding.homes(&keys.node_id()),
            sound: !blueprint.disk.lies,
            place: blueprint.place.clone(),
            presence: Presence::Down,
            life: 0,
            machine: None,
            wishes: Wishes::default(),
            audits: Audits::default(),
            words: Words::default(),
            evil: None,
            owner_keys,
            disk: Arc::new(SimDisk::new(capacity, blueprint.disk, disk_rng)),
            catalogue: Arc::new(SimCatalogue::new(
                blueprint.catalogue,
                ChaCha20Rng::from_seed(rng.random()),
            )),
            keys,
            image: None,
            spent: Tally::default(),
            wrap,
            blueprint,
            rng,
        }
    }

    /// Starts it with what its disk still has, and says what opening the store came to.
    ///
    /// # Errors
    /// Where the store cannot be opened; the user tries again later.
    pub(crate) fn start(&mut self, now: Time) -> Result<OpenReport, StoreOpenError> {
        self.catalogue.started();
        let options = (self.blueprint.options, self.blueprint.limits.write_queue);
        let rng = ChaCha20Rng::from_seed(self.rng.random());
        let (disk, catalogue) = (self.disk.clone(), self.catalogue.clone());
        let (store, report) = Store::open(disk, catalogue, self.wrap.clone(), options, rng)?;
        let owner = OwnerRole::new(OwnerConfig {
            keys: self.owner_keys.clone(),
            node: self.id,
            mesh: MESH,
            seed: self.rng.random(),
            limits: self.blueprint.limits.owner.clone(),
            sharding: self.blueprint.sharding,
            domains: self.blueprint.domains,
            terms: self.blueprint.terms,
        });
        let mut holder = HolderRole::new(HolderConfig {
            keys: self.keys.clone(),
            mesh: MESH,
            limits: self.blueprint.limits.holder.clone(),
            seed: self.rng.random(),
            sharding: self.blueprint.sharding,
            site: String::new(),
            operator: String::new(),
            used_by_account: store.usage(),
            epoch: report.epoch,
        });
        let clock = Clock::new(now, self.place.clock);
        let shows = clock.read(now);
        holder.handle(shows, Input::Space(store.told()));
        holder.handle(shows, Input::ChunksDamaged(store.damaged()));
        holder.handle(shows, Input::OwnRecord(self.record()));
        let met = BTreeSet::new();
        let (wake, is_timed) = (None, false);
        self.machine = Some(Machine { owner, holder, store, clock, wake, met, is_timed });
        self.presence = Presence::Up;
        self.life += 1;
        Ok(report)
    }

    /// Stops it without warning: power is cut.
    pub(crate) fn crash(&mut self) {
        self.end_process();
        self.disk.power_cut();
        if let Some(left) = self.catalogue.power_cut() {
            self.spent.merge(&self.catalogue.take_tally());
            self.catalogue = Arc::new(left);
        }
    }

    /// Its process ends; what it wrote stays in the cache of its machine.
    pub(crate) fn end_process(&mut self) {
        self.machine = None;
        self.presence = Presence::Down;
    }

    /// It gets a new disk, and an empty one.
    pub(crate) fn lose_disk(&mut self) {
        let [disk, catalogue] = [(); 2].map(|()| ChaCha20Rng::from_seed(self.rng.random()));
        self.spent = self.take_tally();
        self.disk = Arc::new(SimDisk::new(self.disk_bytes(), self.blueprint.disk, disk));
        self.catalogue = Arc::new(SimCatalogue::new(self.blueprint.catalogue, catalogue));
        self.sound = false;
    }

    /// The segments are gone, and of the catalogue how far it had come, for a node that is down;
    /// says whether it had come anywhere.
    pub(crate) fn lose_log(&mut self) -> bool {
        self.spent.merge(&self.disk.take_tally());
        let rng = ChaCha20Rng::from_seed(self.rng.random());
        self.disk = Arc::new(SimDisk::new(self.disk_bytes(), self.blueprint.disk, rng));
        self.sound = false;
        self.catalogue.lose_position()
    }

    /// The catalogue is gone, for a node that is down: it can be made anew from the segments.
    pub(crate) fn lose_catalogue(&mut self) {
        self.spent.merge(&self.catalogue.take_tally());
        let rng = ChaCha20Rng::from_seed(self.rng.random());
        self.catalogue = Arc::new(SimCatalogue::new(self.blueprint.catalogue, rng));
    }

    /// What its disks and catalogues did since the last call.
    pub(crate) fn take_tally(&mut self) -> Tally<Fault> {
        let mut tally = std::mem::take(&mut self.spent);
        tally.merge(&self.disk.take_tally());
        tally.merge(&self.catalogue.take_tally());
        tally
    }

    /// Somebody takes an image of the disk.
    pub(crate) fn take_image(&mut self) {
        let [disk, catalogue] = [(); 2].map(|()| ChaCha20Rng::from_seed(self.rng.random()));
        self.image = Some((self.disk.image(disk), self.catalogue.image(catalogue)));
    }

    /// Whether there is an image.
    pub(crate) fn has_image(&self) -> bool {
        self.image.is_some()
    }

    /// The disk becomes again what the image holds; for a node that is down.
    pub(crate) fn restore_image(&mut self) {
        if let Some((disk, catalogue)) = self.image.take() {
            self.spent = self.take_tally();
            (self.disk, self.catalogue) = (Arc::new(disk), Arc::new(catalogue));
            self.sound = false;
        }
    }

    /// How much it lets others make it do.
    pub(crate) fn limits(&self) -> &Limits {
        &self.blueprint.limits
    }

    /// Nothing goes wrong with its hardware any more.
    pub(crate) fn mend(&mut self) {
        let (disk, catalogue) = (DiskFaults::default(), CatalogueFaults::default());
        // What replaces them later is as good.
        (self.blueprint.disk, self.blueprint.catalogue) = (disk, catalogue);
        self.disk.set_faults(disk);
        self.disk.make_room(self.disk_bytes());
        self.catalogue.set_faults(catalogue);
    }

    /// How much the disk has when others leave it alone.
    pub(crate) fn disk_bytes(&self) -> u64 {
        disk_bytes(self.blueprint.options.capacity)
    }

    /// It takes part: it runs and is not paused.
    pub(crate) fn is_up(&self) -> bool {
        self.presence == Presence::Up
    }

    /// What its clock shows at a moment of the world, where it runs.
    pub(crate) fn clock_at(&self, at: Time) -> Time {
        self.machine.as_ref().map_or(at, |machine| machine.clock.read(at))
    }

    /// It takes part and subscribes to this topic.
    pub(crate) fn hears(&self, topic: Topic) -> bool {
        self.is_up() && self.is_home(topic)
    }

    /// It subscribes to this topic whenever it takes part.
    pub(crate) fn is_home(&self, topic: Topic) -> bool {
        self.homes.contains(&topic.shard)
    }

    /// The topics it subscribes to.
    pub(crate) fn subscriptions(&self) -> Vec<Topic> {
        self.blueprint.sharding.subscriptions(&self.id)
    }

    /// Its failure domain: its public network or, of a LAN that counts each, itself.
    pub(crate) fn domain(&self) -> Domain {
        let reach = self.place.reach;
        let each = reach == Reach::Local && self.blueprint.domains == DomainPolicy::LanCountsEach;
        (reach, each.then_some(self.id))
    }

    /// It never deviated.
    pub(crate) fn is_honest(&self) -> bool {
        self.evil.is_none()
    }

    /// It never deviated, and its disk never did.
    pub(crate) fn is_sound(&self) -> bool {
        self.is_honest() && self.has_sound_disk()
    }

    /// Looks at its store without being a part of the world.
    pub(crate) fn undisturbed<R>(&self, look: impl FnOnce() -> R) -> R {
        self.disk.undisturbed(|| self.catalogue.undisturbed(look))
    }

    /// Its disk never did anything without a word.
    pub(crate) fn has_sound_disk(&self) -> bool {
        self.sound && !self.disk.is_spoiled()
    }

    /// Stands for the signed PeerRecord: by it a node is found.
    pub(crate) fn record(&self) -> Bytes {
        Bytes::copy_from_slice(self.id.as_bytes())
    }

    /// The node as its peers see it.
    pub(crate) fn peer(&self) -> Peer {
        Peer { node: self.id, hello: self.hello.clone(), reach: self.place.reach }
    }
}

/// A disk has more room than its owner gives away.
fn disk_bytes(capacity: u64) -> u64 {
    capacity + (capacity / 2) + (1 << 20)
}

impl Machine {
    pub(crate) fn handle(&mut self, now: Time, role: Role, input: Input) {
        match role {
            Role::Owner => self.owner.handle(now, input),
            Role::Holder => self.holder.handle(now, input),
        }
    }

    /// What the store refused, for the role that wanted it.
    pub(crate) fn refused(&mut self) -> Option<(Role, Input)> {
        self.store.refused().map(|done| (Role::Holder, done))
    }

    pub(crate) fn poll_effect(&mut self) -> Option<(Role, Effect)> {
        let owner = self.owner.poll_effect().map(|effect| (Role::Owner, effect));
        owner.or_else(|| self.holder.poll_effect().map(|effect| (Role::Holder, effect)))
    }

    /// When to wake it on the clock of the world, where that is earlier than what was arranged.
    pub(crate) fn arrange(&mut self) -> Option<Time> {
        let next = self.owner.next_timeout().into_iter().chain(self.holder.next_timeout()).min()?;
        let next = self.clock.when(next);
        let earlier = self.wake.is_none_or(|wake| next < wake);
        earlier.then(|| *self.wake.insert(next))
    }

    /// Whether it is to be woken now: a later wish that was replaced by an earlier one is void.
    pub(crate) fn is_due(&mut self, now: Time) -> bool {
        self.wake.take_if(|wake| *wake <= now).is_some()
    }
}

/// What both roles are told when a peer is connected that subscribes to these topics.
pub(crate) fn meeting(peer: Peer, topics: Vec<Topic>) -> impl Iterator<Item = (Role, Input)> {
    let both = [(Role::Holder, Input::PeerUp(peer.clone())), (Role::Owner, Input::PeerUp(peer))];
    let subscribed = |topic| (Role::Owner, Input::PeerSubscribed(topic));
    both.into_iter().chain(topics.into_iter().map(subscribed))
}

/// What both roles are told when one is not.
pub(crate) fn parting(peer: NodeId) -> [(Role, Input); 2] {
    [Role::Holder, Role::Owner].map(|role| (role, Input::PeerDown(peer)))
}

/// What both roles are told when their time has come.
pub(crate) fn waking() -> [(Role, Input); 2] {
    [Role::Owner, Role::Holder].map(|role| (role, Input::Tick))
}

/// Which role a message concerns.
pub(crate) fn addressee(message: &Message) -> Role {
    match message {
        Message::Topic(TopicMessage::StoreRequest(_) | TopicMessage::SearchRequest(_)) => {
            Role::Holder
        }
        Message::Stream(
            StreamMessage::StoreRequest(_)
            | StreamMessage::StoreChunk(_)
            | StreamMessage::Retrieve(_)
            | StreamMessage::StoreHead(_)
            | StreamMessage::HeadGet(_)
            | StreamMessage::AccountRequest(_)
            | StreamMessage::Release(_)
            | StreamMessage::StandingAnswer(_),
        ) => Role::Holder,
        Message::Topic(TopicMessage::Answer(_)) | Message::Stream(_) => Role::Owner,
    }
}

/// For how long a crash keeps a node down at the least.
pub(crate) const REBOOT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_behind_nat_dials_only_who_can_be_dialled() {
        let at = |nat| Place { nat, ..Place::good(Reach::Local) };
        let [open, out, into] = [Nat::Open, Nat::OutboundOnly, Nat::InboundOnly].map(at);
        assert_eq!(open.obstacle(&open), None);
        assert_eq!((out.obstacle(&into), out.obstacle(&open)), (None, None));
        assert_eq!(open.obstacle(&into), None);
        assert_eq!(out.obstacle(&out), Some(Fault::Nat));
        assert_eq!(open.obstacle(&out), Some(Fault::Nat));
        assert_eq!(into.obstacle(&open), Some(Fault::InboundOnly));
        assert!(!into.can_dial(&into) && !into.can_dial(&out));
    }
}
