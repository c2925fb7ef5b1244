//! Who is connected how, who is up, and which connection carries a peer's frames.
//!
//! Pure: the swarm task tells it what happened, and carries out the [`Step`]s it answers with.
//!
//! # One connection per pair
//!
//! When two nodes dial each other at the same moment, two connections come to be. The node with the
//! smaller PeerId decides, as soon as it has heard a Hello on both (so both are established at both
//! ends): it keeps the one that it dialled and *retires* the other, which it *leads* to its end.
//! Its streams finish the frame at hand and end their writing side. The other node follows: it
//! sends nothing more there, and ends its side of each stream when it has read that stream's end.
//! So the leader knows, when it has read all ends, that nothing is under way any more, and closes;
//! were it the follower that closes, its own last frames could be lost (QUIC drops what was not
//! delivered).
//! What was not sent yet goes out on the connection that stays, because the queue belongs to the
//! peer.
//!
//! A second connection that comes long after the first is something else: the peer has lost the
//! first (a restart, a pulled plug) and we have not noticed. Then both sides keep the newer one,
//! and the roles hear `Down` and `Up`.

use super::NetLimits;
use super::address;
use super::streams::{Duty, End, Share, StreamId};
use crate::core::effect::Peer;
use crate::core::message::Hello;
use crate::core::types::NodeId;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};

/// Connections that come to be within this of each other were dialled at the same moment.
const SIMULTANEOUS: Duration = Duration::from_secs(30);

/// How long a connection may be without any stream of ours.
const SILENT: Duration = Duration::from_secs(60);

/// How long a retired connection's streams may take to end.
const RETIREMENT: Duration = Duration::from_secs(10);

/// What the swarm task is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Announce the peer, then call [`Peers::announced`].
    Up(Box<Peer>),
    /// Announce that it is gone.
    Down(NodeId),
    /// Close this connection.
    Close(ConnectionId),
}

/// All connected peers.
#[derive(Debug)]
pub(super) struct Peers {
    local: PeerId,
    limits: NetLimits,
    /// What is left of [`NetLimits::unsent_served_bytes`].
    served_to_all: Arc<Semaphore>,
    table: BTreeMap<PeerId, Entry>,
    next_stream: u64,
}

/// One connected peer.
#[derive(Debug)]
pub(super) struct Entry {
    node: NodeId,
    share: Arc<Share>,
    connections: Vec<Connection>,
    up: Option<Up>,
    /// Of the last ping.
    pub(super) round_trip: Option<Duration>,
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    addresses: Addresses,
    since: Instant,
    streams: Vec<Stream>,
    retired: Option<Retired>,
    closed: bool,
}

/// Where a connection leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Addresses {
    /// What we dialled, which may be a name; `None` where we were dialled.
    pub(super) dialled: Option<Multiaddr>,
    /// The peer's address, with the IP that was found for a name.
    pub(super) observed: Multiaddr,
}

/// A connection that is being given up.
#[derive(Debug, Clone, Copy)]
struct Retired {
    /// When it is closed if its streams have not ended by then.
    deadline: Instant,
    /// Whether we end our streams first, and close; else we follow.
    leads: bool,
}

#[derive(Debug)]
struct Stream {
    id: StreamId,
    hello: Option<Hello>,
    duty: watch::Sender<Duty>,
}

/// A peer that was announced, or is about to be.
#[derive(Debug)]
struct Up {
    announced: bool,
    since: Instant,
    /// Whose streams send; `None` between the loss of one connection and the Hello of the other.
    carrier: Option<ConnectionId>,
    /// Frames may have been lost with the last carrier.
    torn: bool,
}

impl Connection {
    fn is_usable(&self) -> bool {
        !self.closed && self.retired.is_none()
    }

    fn hello(&self) -> Option<&Hello> {
        self.streams.iter().find_map(|stream| stream.hello.as_ref())
    }

    /// Begins its end; [`Entry::assign`] tells the streams.
    fn retire(&mut self, leads: bool, now: Instant) {
        self.retired.get_or_insert(Retired { deadline: now + RETIREMENT, leads });
    }
}

fn set(duty: &watch::Sender<Duty>, to: Duty) {
    duty.send_if_modified(|duty| std::mem::replace(duty, to) != to);
}

impl Peers {
    /// Nobody is connected.
    pub(super) fn new(local: PeerId, limits: NetLimits) -> Self {
        let served_to_all = Arc::new(Semaphore::new(limits.unsent_served_bytes));
        Self { local, limits, served_to_all, table: BTreeMap::new(), next_stream: 0 }
    }

    /// A connection was established.
    pub(super) fn connected(
        &mut self,
        (peer, node): (PeerId, NodeId),
        id: ConnectionId,
        addresses: Addresses,
        now: Instant,
    ) {
        let (limits, served_to_all) = (&self.limits, &self.served_to_all);
        let entry = self.table.entry(peer).or_insert_with(|| Entry {
            node,
            share: Arc::new(Share::new(limits, served_to_all.clone())),
            connections: Vec::new(),
            up: None,
            round_trip: None,
        });
        let connection = Connection {
            id,
            addresses,
            since: now,
            streams: Vec::new(),
            retired: None,
            closed: false,
        };
        entry.connections.push(connection);
    }

    /// A stream was opened; `None` where its connection is closed. On a connection that was given
    /// up in the meantime it says Hello and ends in good order: a stream cut off would look like a
    /// broken connection to the other side.
    pub(super) fn opened(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
    ) -> Option<(StreamId, NodeId, watch::Receiver<Duty>, Arc<Share>)> {
        let entry = self.table.get_mut(&peer)?;
        let connection = entry.connections.iter_mut().find(|c| c.id == connection && !c.closed)?;
        let id = StreamId(self.next_stream);
        self.next_stream = self.next_stream.wrapping_add(1);
        let (duty, receiver) = watch::channel(Duty::Wait);
        connection.streams.push(Stream { id, hello: None, duty });
        entry.assign();
        Some((id, entry.node, receiver, entry.share.clone()))
    }

    /// A stream's peer said a Hello that holds.
    pub(super) fn greeted(&mut self, id: StreamId, hello: Hello, now: Instant) -> Vec<Step> {
        let local = self.local;
        let Some((peer, entry, at)) = self.find(id) else {
            return Vec::new();
        };
        if let Some(connection) = entry.connections.get_mut(at) {
            let stream = connection.streams.iter_mut().find(|stream| stream.id == id);
            stream.into_iter().for_each(|stream| stream.hello = Some(hello.clone()));
        }
        let mut steps = entry.settle(now);
        steps.extend(entry.resolve(local < peer, now));
        steps
    }

    /// `Up` was handed to the drive loop: from now on its messages may be.
    pub(super) fn announced(&mut self, peer: &PeerId) {
        if let Some(entry) = self.table.get_mut(peer) {
            entry.up.iter_mut().for_each(|up| up.announced = true);
            entry.assign();
        }
    }

    /// A stream's task has ended; every message it read was handed on.
    pub(super) fn ended(&mut self, id: StreamId, end: End, now: Instant) -> Vec<Step> {
        let Some((peer, entry, at)) = self.find(id) else {
            return Vec::new();
        };
        let mut steps = Vec::new();
        let never_up = entry.up.is_none();
        if let Some(connection) = entry.connections.get_mut(at) {
            // Before the Hello no frame can have been lost.
            let greeted = connection.streams.iter().any(|s| s.id == id && s.hello.is_some());
            let torn = greeted && end != End::Finished;
            connection.streams.retain(|stream| stream.id != id);
            // The streams of a connection live and end together.
            connection.retire(end != End::Finished, now);
            let done = connection.streams.is_empty() && connection.retired.is_some_and(|r| r.leads);
            let at_once = torn || never_up || done || matches!(end, End::Refused(_));
            if at_once && !connection.closed {
                connection.closed = true;
                steps.push(Step::Close(connection.id));
            }
            let id = connection.id;
            for up in entry.up.iter_mut().filter(|up| up.carrier == Some(id)) {
                up.torn |= torn;
            }
        }
        steps.extend(entry.settle(now));
        self.sweep(&peer);
        steps
    }

    /// A stream could not be opened: the connection is given up.
    pub(super) fn failed(&mut self, peer: PeerId, id: ConnectionId, now: Instant) -> Vec<Step> {
        let Some(entry) = self.table.get_mut(&peer) else {
            return Vec::new();
        };
        let mut steps = Vec::new();
        for connection in entry.connections.iter_mut().filter(|c| c.id == id && !c.closed) {
            connection.retire(true, now);
            if connection.streams.is_empty() {
                connection.closed = true;
                steps.push(Step::Close(id));
            }
        }
        steps.extend(entry.settle(now));
        steps
    }

    /// A connection was closed. Its streams' tasks end by themselves.
    pub(super) fn disconnected(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        now: Instant,
    ) -> Vec<Step> {
        let Some(entry) = self.table.get_mut(&peer) else {
            return Vec::new();
        };
        if let Some(connection) = entry.connections.iter_mut().find(|c| c.id == id) {
            connection.closed = true;
            // Nobody is there to be followed.
            connection.retired = None;
            connection.retire(true, now);
        }
        let steps = entry.settle(now);
        self.sweep(&peer);
        steps
    }

    /// Closes what is overdue: retired connections, silent ones, and second ones that nobody
    /// decided about.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        for entry in self.table.values_mut() {
            let greeted = entry.connections.iter().filter(|c| c.is_usable() && c.hello().is_some());
            let undecided = greeted.clone().count() > 1
                && greeted.map(|c| c.since).max().is_some_and(|since| since + SIMULTANEOUS < now);
            if undecided {
                steps.extend(entry.resolve(true, now));
            }
            for connection in &mut entry.connections {
                let overdue = connection.retired.is_some_and(|r| r.deadline <= now);
                let silent = connection.streams.is_empty() && connection.since + SILENT < now;
                if (overdue || silent) && !connection.closed {
                    connection.closed = true;
                    steps.push(Step::Close(connection.id));
                }
            }
        }
        steps
    }

    /// Lets go of the least recently used peers above [`NetLimits::peers_high`], but of none that
    /// was used or came in the last minute. A quarter of the connections that may be dialled is
    /// kept free in the same way: the roles must be able to reach the holder that they need.
    pub(super) fn prune(&mut self, now: Instant) -> Vec<Step> {
        const SPARED: Duration = Duration::from_secs(60);
        let mut surplus = self.up_count().saturating_sub(self.limits.peers_high);
        let dialled_max =
            usize::try_from(self.limits.established_out / 4 * 3).unwrap_or(usize::MAX);
        let connections = self.table.values().flat_map(|entry| &entry.connections);
        let dialled = connections.filter(|c| c.addresses.dialled.is_some() && !c.closed).count();
        let mut surplus_dialled = dialled.saturating_sub(dialled_max);
        let mut idle: Vec<_> = self
            .table
            .values_mut()
            .filter_map(|entry| {
                let since = entry.up.as_ref()?.since;
                let used = entry.share.queue.used().max(since);
                (used + SPARED < now).then_some((used, entry))
            })
            .collect();
        idle.sort_by_key(|(used, _)| *used);
        let mut steps = Vec::new();
        for (_, entry) in idle {
            let dialled = entry.connections.iter().any(|c| c.addresses.dialled.is_some());
            if surplus == 0 && (surplus_dialled == 0 || !dialled) {
                continue;
            }
            surplus = surplus.saturating_sub(1);
            surplus_dialled = surplus_dialled.saturating_sub(usize::from(dialled));
            for connection in entry.connections.iter_mut().filter(|c| !c.closed) {
                connection.closed = true;
                steps.push(Step::Close(connection.id));
            }
        }
        steps
    }

    /// Ends every stream in good order: the node is stopping.
    pub(super) fn retire_all(&mut self, now: Instant) {
        for connection in self.table.values_mut().flat_map(|entry| &mut entry.connections) {
            connection.retire(true, now);
            // Whether announced or not.
            connection.streams.iter().for_each(|stream| set(&stream.duty, Duty::Retire));
        }
    }

    /// Whether frames wait to be sent to any peer that is up.
    pub(super) fn is_sending(&self) -> bool {
        self.table.values().any(|entry| entry.up.is_some() && !entry.share.queue.is_empty())
    }

    /// Whether a connection to the peer exists.
    pub(super) fn is_connected(&self, peer: &PeerId) -> bool {
        self.table.get(peer).is_some_and(|e| e.connections.iter().any(Connection::is_usable))
    }

    /// Whether the peer was announced and is not gone.
    pub(super) fn is_up(&self, peer: &PeerId) -> bool {
        self.table.get(peer).is_some_and(|entry| entry.up.is_some())
    }

    /// How many peers are up.
    pub(super) fn up_count(&self) -> usize {
        self.table.values().filter(|entry| entry.up.is_some()).count()
    }

    /// One peer, for its pings.
    pub(super) fn entry_mut(&mut self, peer: &PeerId) -> Option<&mut Entry> {
        self.table.get_mut(peer)
    }

    /// The peers that are up: node, address, round trip.
    pub(super) fn iter_up(
        &self,
    ) -> impl Iterator<Item = (NodeId, &Multiaddr, Option<Duration>)> + '_ {
        self.table.values().filter_map(|entry| {
            let up = entry.up.as_ref()?;
            let carrier = entry.connections.iter().find(|c| Some(c.id) == up.carrier);
            let connection = carrier.or(entry.connections.first())?;
            Some((entry.node, &connection.addresses.observed, entry.round_trip))
        })
    }

    /// What streams of this peer share.
    pub(super) fn share(&self, peer: &PeerId) -> Option<Arc<Share>> {
        self.table.get(peer).map(|entry| entry.share.clone())
    }

    /// The observed address of a peer's connection.
    pub(super) fn address(&self, peer: &PeerId, id: ConnectionId) -> Option<&Multiaddr> {
        let connections = &self.table.get(peer)?.connections;
        connections.iter().find(|c| c.id == id).map(|c| &c.addresses.observed)
    }

    /// The addresses at which we reached a peer.
    pub(super) fn dialled(&self, peer: &PeerId) -> impl Iterator<Item = &Multiaddr> {
        let connections = self.table.get(peer).into_iter().flat_map(|entry| &entry.connections);
        connections.filter_map(|c| c.addresses.dialled.as_ref())
    }

    fn find(&mut self, id: StreamId) -> Option<(PeerId, &mut Entry, usize)> {
        self.table.iter_mut().find_map(|(peer, entry)| {
            let has = |c: &Connection| c.streams.iter().any(|stream| stream.id == id);
            let at = entry.connections.iter().position(has)?;
            Some((*peer, entry, at))
        })
    }

    /// Forgets closed connections without streams, and peers without connections.
    fn sweep(&mut self, peer: &PeerId) {
        if let Some(entry) = self.table.get_mut(peer) {
            entry.connections.retain(|c| !c.closed || !c.streams.is_empty());
            if entry.connections.is_empty() && entry.up.is_none() {
                self.table.remove(peer);
            }
        }
    }
}

impl Entry {
    /// Brings up, carrier and duties in line with the connections there are.
    fn settle(&mut self, now: Instant) -> Vec<Step> {
        let usable = self.connections.iter().find(|c| c.is_usable() && c.hello().is_some());
        let usable = usable.and_then(|c| Some((c.id, self.peer(c)?)));
        let streams = self.connections.iter().any(|c| !c.streams.is_empty());
        let mut steps = Vec::new();
        match (&mut self.up, usable) {
            (None, Some((carrier, peer))) => {
                let carrier = Some(carrier);
                self.up = Some(Up { announced: false, since: now, carrier, torn: false });
                steps.push(Step::Up(Box::new(peer)));
            }
            (Some(up), usable) => {
                let carries = |c: &Connection| {
                    Some(c.id) == up.carrier && c.is_usable() && c.hello().is_some()
                };
                if self.connections.iter().any(carries) {
                    // As it was.
                } else if let Some((carrier, peer)) = usable {
                    up.carrier = Some(carrier);
                    if std::mem::take(&mut up.torn) {
                        self.share.queue.clear();
                        steps.extend([Step::Down(self.node), Step::Up(Box::new(peer))]);
                    }
                } else if streams {
                    up.carrier = None;
                } else {
                    self.up = None;
                    self.share.queue.clear();
                    steps.push(Step::Down(self.node));
                }
            }
            (None, None) => {}
        }
        self.assign();
        steps
    }

    /// Gives each stream its duty. None is read before `Up` was handed over, unless it was closed.
    fn assign(&self) {
        let announced = self.up.as_ref().is_some_and(|up| up.announced);
        let carrier = self.up.as_ref().and_then(|up| up.carrier);
        for connection in self.connections.iter().filter(|c| announced || c.closed) {
            if let Some(Retired { leads, .. }) = connection.retired {
                let duty = if leads { Duty::Retire } else { Duty::Idle };
                connection.streams.iter().for_each(|stream| set(&stream.duty, duty));
                continue;
            }
            let greeted = connection.streams.iter().filter(|stream| stream.hello.is_some());
            let single = greeted.clone().count() == 1;
            for (at, stream) in greeted.enumerate() {
                let duty = match (Some(connection.id) == carrier, at) {
                    (true, 0) if single => Duty::Both,
                    (true, 0) => Duty::Control,
                    (true, 1) => Duty::Bulk,
                    _ => Duty::Idle,
                };
                set(&stream.duty, duty);
            }
        }
    }

    /// Retires all connections but one, if there are several and it is for us to decide.
    fn resolve(&mut self, decides: bool, now: Instant) -> Vec<Step> {
        let usable = |c: &&Connection| c.is_usable() && c.hello().is_some();
        let candidates: Vec<&Connection> = self.connections.iter().filter(usable).collect();
        let (Some(oldest), Some(newest)) =
            (candidates.iter().min_by_key(|c| c.since), candidates.iter().max_by_key(|c| c.since))
        else {
            return Vec::new();
        };
        if candidates.len() < 2 {
            return Vec::new();
        }
        let restarted = newest.since.saturating_duration_since(oldest.since) > SIMULTANEOUS;
        let keep = match (restarted, decides) {
            (true, _) => newest.id,
            (false, true) => {
                candidates.iter().find(|c| c.addresses.dialled.is_some()).unwrap_or(oldest).id
            }
            (false, false) => return Vec::new(),
        };
        let others = self.connections.iter_mut().filter(|c| c.id != keep && c.is_usable());
        others.for_each(|connection| connection.retire(true, now));
        if restarted {
            self.up.iter_mut().filter(|up| up.carrier != Some(keep)).for_each(|up| up.torn = true);
        }
        self.settle(now)
    }

    fn peer(&self, connection: &Connection) -> Option<Peer> {
        let hello = connection.hello()?.clone();
        Some(Peer { node: self.node, hello, reach: address::reach(&connection.addresses.observed) })
    }
}

#[cfg(test)]
mod tests;
