//! What happens to the nodes: one entry of the agenda at a time.

use super::perform::brief;
use super::{Next, World};
use crate::node::{Role, addressee};
use crate::plan::happens;
use quloud::core::codec;
use quloud::core::effect::{Input, Via};
use quloud::core::message::Message;
use quloud::core::topic::{Topic, TopicKind};
use quloud::core::types::NodeId;
use rand::RngExt;

impl World<'_> {
    pub(super) fn step(&mut self, next: Next) {
        match next {
            Next::Gossip { to, forwarder, bytes } => {
                self.log(&format!("{to} hears gossip {}", brief(&bytes)));
                match codec::decode_topic(&bytes) {
                    Ok(message) => self.deliver(to, forwarder, Via::Topic, Message::Topic(message)),
                    Err(reason) => self.violation(format!("gossip does not decode: {reason:?}")),
                }
            }
            Next::Frame { from, to, epoch, frame } => {
                if self.net.carries(from, to, epoch) {
                    self.log(&format!("{to} hears {} of {from}", brief(&frame.head)));
                    let from = self.nodes[from].id;
                    match codec::decode_stream(frame) {
                        Ok(m) => self.deliver(to, from, Via::Stream, Message::Stream(m)),
                        Err(reason) => self.violation(format!("frame does not decode: {reason:?}")),
                    }
                }
            }
            Next::Dialled { from, to } => self.dialled(from, to),
            Next::Redial { a, b } => {
                let both_up = self.nodes[a].is_up() && self.nodes[b].is_up();
                if both_up && !self.net.loses() {
                    self.connect(a, b);
                } else {
                    self.redial(a, b);
                }
            }
            Next::LinkGone { a, b } => {
                if self.net.disconnect(a, b) {
                    self.log(&format!("{a} and {b} lose their connection"));
                    let (left, right) = (self.nodes[a].id, self.nodes[b].id);
                    self.feed_both(a, || Input::PeerDown(right));
                    self.feed_both(b, || Input::PeerDown(left));
                    self.redial(a, b);
                }
            }
            Next::Away { node, peer } => {
                let peer = self.nodes[peer].id;
                self.feed_both(node, || Input::PeerDown(peer));
            }
            Next::Synced { node, life } => self.synced(node, life),
            Next::Completed { node, life, input } => {
                if self.nodes[node].life == life {
                    self.feed(node, Role::Holder, *input);
                }
            }
            Next::Put => self.ready += 1,
            Next::Wake { node } => {
                if let Some(roles) = &mut self.nodes[node].roles {
                    roles.wake = None;
                }
                self.feed_both(node, || Input::Tick);
            }
            Next::Crash { node } => {
                self.crash(node);
                let at = self.soon(1_000, 60_000);
                self.at(at, Next::Start { node });
            }
            Next::Start { node } => self.start(node),
        }
    }

    fn deliver(&mut self, to: usize, from: NodeId, via: Via, message: Message) {
        let role = addressee(&message);
        self.feed(to, role, Input::Message { from, via, message });
    }

    /// Starts a node that is down and connects it to some that are up: at least to one.
    pub(super) fn start(&mut self, node: usize) {
        if self.nodes[node].is_up() || self.nodes[node].gone {
            return;
        }
        self.log(&format!("{node} starts"));
        self.nodes[node].start(self.now, &mut self.rng);
        let up: Vec<usize> =
            (0..self.nodes.len()).filter(|n| *n != node && self.nodes[*n].is_up()).collect();
        let sure = (!up.is_empty()).then(|| up[self.rng.random_range(0..up.len())]);
        for peer in up {
            let connected = self.plan.connected;
            if sure == Some(peer) || happens(&mut self.rng, connected) {
                // What the peer had left of an earlier life ends first.
                self.step(Next::LinkGone { a: node, b: peer });
                self.connect(node, peer);
            }
        }
        self.schedule(node);
    }

    pub(super) fn crash(&mut self, node: usize) {
        if !self.nodes[node].is_up() {
            return;
        }
        self.log(&format!("{node} crashes"));
        self.net.count("crashed", true);
        self.nodes[node].crash();
        for peer in self.net.break_all(node) {
            let at = self.soon(0, 5_000);
            self.at(at, Next::LinkGone { a: node, b: peer });
        }
    }

    fn redial(&mut self, a: usize, b: usize) {
        if !self.nodes[a].gone && !self.nodes[b].gone {
            let at = self.soon(1_000, 20_000);
            self.at(at, Next::Redial { a, b });
        }
    }

    fn dialled(&mut self, from: usize, to: usize) {
        if !self.nodes[from].is_up() {
            return;
        }
        if self.nodes[to].is_up() && !self.net.loses() {
            self.connect(from, to);
        } else {
            let peer = self.nodes[to].id;
            self.feed_both(from, || Input::PeerDown(peer));
        }
    }

    /// Connects two nodes that are up; nothing happens where they are connected.
    fn connect(&mut self, a: usize, b: usize) {
        if !self.net.connect(a, b) {
            return;
        }
        self.log(&format!("{a} and {b} connect"));
        for (node, peer) in [(a, b), (b, a)] {
            let peer = self.nodes[peer].peer();
            self.feed_both(node, || Input::PeerUp(peer.clone()));
            for kind in TopicKind::ALL {
                let subscribed = Input::PeerSubscribed(Topic { kind, shard: 0 });
                self.feed(node, Role::Owner, subscribed);
            }
        }
    }

    fn synced(&mut self, node: usize, life: u64) {
        let (rng, net, rate) = (&mut self.rng, &mut self.net, self.plan.write_error);
        let node_state = &mut self.nodes[node];
        if node_state.life != life || !node_state.is_up() {
            return;
        }
        let results = node_state.disk.sync(|| {
            let fails = happens(rng, rate);
            net.count("write failed", fails);
            fails
        });
        let space = node_state.disk.space();
        self.log(&format!("{node} syncs {results:?}"));
        self.feed(node, Role::Holder, Input::ChunksWritten(results));
        self.feed(node, Role::Holder, Input::Space(space));
    }

    fn feed_both(&mut self, node: usize, input: impl Fn() -> Input) {
        self.feed(node, Role::Owner, input());
        self.feed(node, Role::Holder, input());
    }

    /// Gives a node one input and carries out all its effects.
    pub(super) fn feed(&mut self, node: usize, role: Role, input: Input) {
        let Some(roles) = &mut self.nodes[node].roles else {
            return;
        };
        roles.handle(self.now, role, input);
        while let Some((role, effect)) =
            self.nodes[node].roles.as_mut().and_then(crate::node::Roles::poll_effect)
        {
            self.perform(node, role, effect);
        }
        self.check_bounds(node);
        self.schedule(node);
    }

    /// Sees to it that a node is woken when it wants to be.
    fn schedule(&mut self, node: usize) {
        let now = self.now;
        let Some(roles) = &mut self.nodes[node].roles else {
            return;
        };
        if let Some(at) = roles.next_timeout().map(|at| at.max(now))
            && roles.wake.is_none_or(|wake| at < wake)
        {
            roles.wake = Some(at);
            self.at(at, Next::Wake { node });
        }
    }
}
