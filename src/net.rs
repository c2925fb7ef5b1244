//! The network: libp2p behind an interface that speaks of nodes, topics and messages only.
//!
//! [`start`] makes a node's network half and hands back a handle and a queue of events. The drive
//! loop calls the handle's commands, which never block, and feeds every [`NetEvent`] to the roles.
//! No type of libp2p appears here: a node is a [`NodeId`], an address is the text of a multiaddr.
//!
//! ```text
//!              commands ┌────────────┐ links ┌───────────────┐
//!  Net ────────────────▶│ swarm task │◀─────▶│ stream tasks  │ one per stream of a peer
//!   │                   └─────┬──────┘       └──┬─────────▲──┘
//!   │                         │ Up, Down, gossip│ frames  │
//!   │                         ▼                 ▼         │
//!   │ frames                NetEvents ─────▶ drive loop   │
//!   └───────────────────▶ queue of each peer ─────────────┘
//! ```
//!
//! # What the caller may rely on
//!
//! - Events of one peer keep their order: `Up` before its messages, `Down` after them.
//! - A message that is sent may be lost with its connection; `Down` then follows. While a peer
//!   stays up only what exceeds a stated bound is lost, and it is counted in [`Counters`].
//! - A slow drive loop slows the peers down (their streams are not read on); it loses no frame.

mod address;
mod address_book;
mod behaviour;
mod config;
mod counters;
mod discovery;
mod events;
mod frame;
mod ids;
mod lan_only;
mod limits;
mod links;
mod peers;
mod queue;
mod record;
mod resolved;
mod streams;
mod swarm;
mod topics;
mod transport;

pub use address_book::{known, remember};
pub use config::{NetConfig, NetError, NetLimits};
pub use counters::Counters;
pub use events::{NetEvent, NetEvents};

use crate::core::codec;
use crate::core::message::{StreamMessage, TopicMessage};
use crate::core::topic::Topic;
use crate::core::types::NodeId;
use bytes::Bytes;
use counters::Ledger;
use queue::Pushed;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use streams::Share;
use tokio::sync::{mpsc, oneshot};

/// Starts the network half of a node; must be called inside a tokio runtime.
///
/// # Errors
/// [`NetError`]: an address that cannot be parsed or listened on, or an environment in which the
/// transport would write its secrets to a file.
pub fn start(config: NetConfig) -> Result<(Net, NetEvents), NetError> {
    let (commands, inbox) = mpsc::channel(config.limits.commands);
    let (sender, events) = events::channel(&config.limits);
    let registry = Registry::default();
    let driver = swarm::Driver::new(config, sender, registry.clone())?;
    let listeners = driver.listeners();
    tokio::spawn(driver.run(inbox));
    Ok((Net { commands, registry, listeners }, events))
}

/// The handle of a running network half. Cheap to clone; the last one dropped ends it.
#[derive(Debug, Clone)]
pub struct Net {
    commands: mpsc::Sender<Command>,
    registry: Registry,
    listeners: usize,
}

/// What the handle asks of the swarm task.
#[derive(Debug)]
enum Command {
    Publish(Topic, Bytes),
    Dial(NodeId, Bytes),
    /// A message was sent to a node that is not up.
    Away(NodeId),
    AddAddress(String),
    Snapshot(oneshot::Sender<NetSnapshot>),
    Shutdown(oneshot::Sender<()>),
}

/// What the handle and the swarm task share: the peers that are up, and the counters.
#[derive(Debug, Clone, Default)]
struct Registry {
    up: Arc<Mutex<BTreeMap<NodeId, Arc<Share>>>>,
    ledger: Arc<Ledger>,
}

impl Registry {
    fn share(&self, node: &NodeId) -> Option<Arc<Share>> {
        self.up.lock().unwrap_or_else(PoisonError::into_inner).get(node).cloned()
    }

    fn insert(&self, node: NodeId, share: Arc<Share>) {
        self.up.lock().unwrap_or_else(PoisonError::into_inner).insert(node, share);
    }

    fn remove(&self, node: &NodeId) {
        self.up.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }
}

impl Net {
    /// Gossips a message. Never blocks, promises nothing: it may reach nobody.
    ///
    /// Dropped and counted where the message exceeds 4 KiB or the command queue is full.
    pub fn publish(&self, topic: Topic, message: TopicMessage) {
        self.command(Command::Publish(topic, codec::encode_topic(&message)));
    }

    /// Queues a message to one peer. Never blocks.
    ///
    /// Where the peer is not up the message is dropped and [`NetEvent::Down`] answers. Where its
    /// queue is full (see [`NetLimits`]) a chunk that the peer asked for is replaced by the answer
    /// Busy, so that it asks again later or elsewhere. Any other message is dropped; both are
    /// counted. The owner role bounds what it has in flight well below that.
    pub fn send(&self, to: NodeId, message: StreamMessage) {
        match self.registry.share(&to) {
            None => self.command(Command::Away(to)),
            Some(share) => match share.queue.push(&message) {
                Pushed::Queued => {}
                Pushed::Declined => self.registry.ledger.count(|counters| counters.busy += 1),
                Pushed::Dropped => self.registry.ledger.count(|counters| counters.dropped += 1),
            },
        }
    }

    /// Connects to a node, by its signed PeerRecord or (where `record` is empty) by what is known
    /// of it. Answered by [`NetEvent::Up`] or [`NetEvent::Down`]; not at all where it is up.
    pub fn dial(&self, node: NodeId, record: Bytes) {
        self.command(Command::Dial(node, record));
    }

    /// Adds a bootstrap address (text of a multiaddr, with or without `/p2p/PEERID`).
    pub fn add_address(&self, address: String) {
        self.command(Command::AddAddress(address));
    }

    /// How many of the addresses to listen on stood up; each tells of one address or more by
    /// [`NetEvent::Listening`], one for each interface where it is a wildcard.
    pub fn listeners(&self) -> usize {
        self.listeners
    }

    /// What the network looks like now; empty once it has ended.
    pub async fn snapshot(&self) -> NetSnapshot {
        let (answer, snapshot) = oneshot::channel();
        if self.commands.send(Command::Snapshot(answer)).await.is_err() {
            return NetSnapshot::default();
        }
        self.unless_ended(snapshot).await.unwrap_or_default()
    }

    /// Ends it: what is queued goes out and streams are finished (a second is waited for that at
    /// most), the address book is saved.
    pub async fn shutdown(&self) {
        let (answer, ended) = oneshot::channel();
        if self.commands.send(Command::Shutdown(answer)).await.is_ok() {
            self.unless_ended(ended).await;
        }
    }

    /// The answer to a command. One that was entered at the very moment when the swarm task ended
    /// stays in the queue for as long as this handle lives, and is never answered.
    async fn unless_ended<T>(&self, answer: oneshot::Receiver<T>) -> Option<T> {
        tokio::select! {
            biased;
            answer = answer => answer.ok(),
            () = self.commands.closed() => None,
        }
    }

    fn command(&self, command: Command) {
        if self.commands.try_send(command).is_err() {
            self.registry.ledger.count(|counters| counters.dropped += 1);
        }
    }
}

/// What [`Net::snapshot`] tells.
#[derive(Debug, Clone, Default)]
pub struct NetSnapshot {
    /// This node's PeerId.
    pub peer_id: String,
    /// Addresses it listens on, each with `/p2p/PEERID`.
    pub listen: Vec<String>,
    /// The peers that are up.
    pub peers: Vec<PeerSnapshot>,
    /// Open connections; in the long run one per peer.
    pub connections: u32,
    /// What was counted since the start.
    pub counters: Counters,
}

/// One connected peer.
#[derive(Debug, Clone)]
pub struct PeerSnapshot {
    /// Who.
    pub node: NodeId,
    /// Its PeerId.
    pub peer_id: String,
    /// The address it is connected over.
    pub address: String,
    /// Where it is.
    pub link: Link,
    /// Of the last ping.
    pub round_trip: Option<Duration>,
}

/// How a peer is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Over a loopback, private or link-local address.
    Lan,
    /// Over a public address.
    Direct,
}

impl Link {
    /// `lan` or `direct`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Direct => "direct",
        }
    }
}

/// The PeerId of a node: base58 of the identity multihash of its Ed25519 public key.
pub fn peer_id_of(node: &NodeId) -> String {
    ids::peer_id(node).to_base58()
}

/// The node behind a PeerId; `None` where the text is no PeerId of an Ed25519 key.
pub fn node_of_peer_id(text: &str) -> Option<NodeId> {
    ids::node(&text.parse().ok()?)
}
