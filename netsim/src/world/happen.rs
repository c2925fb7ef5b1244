//! Each event, when its time has come.

use super::carry::NOTICED;
use super::{Decay, Event, World};
use crate::chance::between;
use crate::node::{Index, Presence, REBOOT, Role, addressee, meeting, parting, waking};
use crate::oracle::Heard;
use crate::sometimes::Rare;
use crate::tally::Fault;
use quloud::core::codec;
use quloud::core::effect::{Effect, Input, Reach, Via};
use quloud::core::message::{Message, StreamMessage};
use quloud::core::types::{NodeId, Time};
use rand::RngExt;
use std::collections::VecDeque;
use std::time::Duration;

/// How long a node with a lost connection waits before it dials again.
const REDIAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// When a pause or a cut breaks connections: both ends have given up by then.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

impl World<'_> {
    pub(super) fn happen(&mut self, event: Event) {
        self.watch(&event);
        // What is addressed to a paused node waits for it.
        if let Some(until) = addressee_of(&event).and_then(|node| self.paused(node)) {
            return self.agenda.at(until, event);
        }
        match event {
            Event::Gossip { to, forwarder, author, bytes } => {
                self.on_gossip(to, forwarder, author, &bytes);
            }
            Event::Frame { from, to, epoch, frame } => self.on_frame((from, to), epoch, frame),
            Event::Connect { a, b, asked } => self.connect(a, b, asked),
            Event::LinkGone { a, b, epoch } => self.on_link_gone(a, b, epoch),
            Event::PeerMet { node, peer } => self.on_peer_met(node, peer),
            Event::PeerLost { node, peer } => self.on_peer_lost(node, peer),
            Event::Commit { node, life } if self.is_alive(node, life) => self.commit(node),
            Event::Tidy { node, life } if self.is_alive(node, life) => self.tidy(node),
            Event::Look { node, life } if self.is_alive(node, life) => self.look(node),
            Event::Scrub { node, life, hasty } if self.is_alive(node, life) => {
                self.scrub(node, hasty);
            }
            Event::Find { node, life, ticket, ids, heard } if self.is_alive(node, life) => {
                self.find(node, ticket, &ids, heard);
            }
            Event::Read { node, life, ticket, what } if self.is_alive(node, life) => {
                self.read(node, ticket, what);
            }
            Event::Wake { node, life } if self.is_alive(node, life) => self.on_wake(node),
            Event::Later { node, life, to, message } if self.is_alive(node, life) => {
                self.carry_out(node, Role::Holder, Effect::Send { to, message: *message });
            }
            Event::TimePasses { node, life } if self.is_alive(node, life) => {
                self.time_passes(node);
            }
            Event::Publish { node, life, topic, message } if self.is_alive(node, life) => {
                self.gossip(node, topic, &message);
            }
            Event::Act { node } => self.act(node),
            Event::Put { owner, chunks } => self.put(owner, chunks),
            Event::Backup { owner } => self.back_up(owner),
            Event::Forget { owner } => self.forget(owner),
            Event::LookBack { owner } => self.look_back(owner),
            Event::Proceed { owner } => self.proceed(owner),
            Event::Audit { owner, regular } => self.audit(owner, regular),
            Event::Try { owner } => self.try_holders(owner),
            Event::TryOn { owner, life } if self.is_alive(owner, life) => self.try_on(owner),
            Event::Get => self.get_some(),
            Event::Locate => self.locate_some(),
            Event::Release { owner } => self.release(owner),
            Event::GiveUp { owner } => self.give_up(owner),
            Event::PutAgain { owner, id } => self.put_again(owner, id),
            Event::TellHolders { owner } => self.tell_holders(owner),
            Event::Retry { node } => self.submit(node),
            Event::Script { text, steps } => self.on_script(text, steps),
            // A fate, or what an earlier life asked for, which is void.
            other => self.on_fate(other),
        }
    }

    /// What befalls the machines and their disks.
    pub(super) fn on_fate(&mut self, event: Event) {
        match event {
            Event::Crash { node, in_commit: true, .. } => self.crash_in_commit(node),
            Event::Crash { node, down, in_commit: false } => self.crash(node, down, Fault::Crash),
            Event::MassRestart { nodes } => self.mass_restart(&nodes),
            Event::CrashLoop { node, more } => self.crash_loop(node, more),
            Event::Start { node } => self.start(node),
            Event::Pause { node, length, lid } => self.pause(node, length, lid),
            Event::Resume { node } => self.resume(node),
            Event::Leave { node } => self.leave(node),
            Event::CutBegins { cut, length } => {
                self.log(|| format!("cut: {cut:?}"));
                let number = self.net.cut(cut);
                self.agenda.after(length, Event::CutEnds { number });
                for (a, b, epoch) in self.net.break_across() {
                    let wait = between(&mut self.rng, NOTICED.0, NOTICED.1);
                    self.agenda.after(wait, Event::LinkGone { a, b, epoch });
                }
            }
            Event::CutEnds { number } => {
                if let Some(cut) = self.net.heal(number) {
                    self.reconnect(|a, b| cut.is_between(a, b));
                }
            }
            Event::Swizzle { share, apart, length } => self.swizzle(share, apart, length),
            Event::Fill { node, length, quota } => self.fill(node, length, quota),
            Event::Room { node } => {
                let most = self.nodes[node].disk_bytes();
                self.nodes[node].disk.make_room(most);
                self.look_later(node);
            }
            Event::Decay { node, how } => self.decay(node, how),
            Event::LoseDisk { node } => self.lose_disk(node),
            Event::TakeImage { node } => self.nodes[node].take_image(),
            Event::OldImage { node } => self.restore_image(node),
            _ => {}
        }
    }

    fn fill(&mut self, node: Index, length: Duration, quota: bool) {
        let most = if self.rng.random() { 8 << 10 } else { 256 << 10 };
        let left = self.rng.random_range(0..=most);
        self.log(|| format!("{node} has {left} bytes left on its disk, quota: {quota}"));
        if quota {
            self.nodes[node].disk.set_quota(left);
        } else {
            self.nodes[node].disk.leave_only(left);
            self.faults.count(Fault::Full);
        }
        self.look_later(node);
        self.agenda.after(length, Event::Room { node });
    }

    fn decay(&mut self, node: Index, how: Decay) {
        self.log(|| format!("the disk of {node} decays: {how:?}"));
        let disk = &self.nodes[node].disk;
        match how {
            Decay::Flip => drop(disk.rot()),
            Decay::Zero => drop(disk.zero()),
            Decay::Slip(mishap) => disk.arm(mishap),
        }
    }

    fn on_gossip(&mut self, to: Index, forwarder: Index, author: Index, bytes: &[u8]) {
        if !self.is_up(to) {
            return;
        }
        // A neighbour that cannot be decoded is not heard: that is the transport's work.
        let Ok(message) = codec::decode_topic(bytes) else { return };
        let message = Message::Topic(message);
        let from = self.ids[forwarder];
        self.hear(to, from, Heard { via: Via::Topic, author }, message);
    }

    fn on_frame(&mut self, (from, to): (Index, Index), epoch: u64, frame: codec::Frame) {
        if !self.is_up(to) || !self.net.carries(from, to, epoch) {
            // Only what brings a chunk has a payload.
            if !frame.payload.is_empty() {
                self.noticed.rare.count(Rare::LostInTransfer);
            }
            return;
        }
        let Ok(message) = codec::decode_stream(frame) else { return };
        if let StreamMessage::StoreChunk(chunk) = &message
            && let Some(facts) = self.chunks.get_mut(&chunk.header.id())
        {
            facts.reached.insert(to);
        }
        let heard = Heard { via: Via::Stream, author: from };
        self.hear(to, self.ids[from], heard, Message::Stream(message));
    }

    fn hear(&mut self, to: Index, from: NodeId, heard: Heard, message: Message) {
        self.hearing = Some(heard);
        let role = addressee(&message);
        self.feed(to, role, Input::Message { from, via: heard.via, message });
        self.hearing = None;
    }

    fn connect(&mut self, a: Index, b: Index, asked: bool) {
        let now = self.agenda.now();
        if !self.is_up(a) || !self.is_up(b) || !self.net.is_open(a, b) {
            if asked {
                self.agenda.at(now, Event::PeerLost { node: a, peer: b });
            }
            return;
        }
        if self.net.connect(a, b) {
            self.log(|| format!("{a} and {b} are connected"));
            self.agenda.at(now, Event::PeerMet { node: a, peer: b });
            self.agenda.at(now, Event::PeerMet { node: b, peer: a });
        }
    }

    fn on_link_gone(&mut self, a: Index, b: Index, epoch: u64) {
        if !self.net.disconnect(a, b, epoch) {
            return;
        }
        self.log(|| format!("{a} and {b} are not connected any more"));
        let now = self.agenda.now();
        self.agenda.at(now, Event::PeerLost { node: a, peer: b });
        self.agenda.at(now, Event::PeerLost { node: b, peer: a });
        self.reconnect(|x, y| (x, y) == (a.min(b), a.max(b)));
    }

    fn on_peer_met(&mut self, node: Index, peer: Index) {
        if !self.is_up(node) || !self.net.is_connected(node, peer) {
            return;
        }
        if let Some(machine) = &mut self.nodes[node].machine {
            machine.met.insert(peer);
        }
        let topics = self.nodes[peer].subscriptions();
        if self.nodes[peer].place.reach == Reach::Relayed {
            self.faults.count(Fault::Relayed);
        }
        let peer = self.nodes[peer].peer();
        self.feed_all(node, meeting(peer, topics));
    }

    fn on_peer_lost(&mut self, node: Index, peer: Index) {
        if self.is_up(node) && !self.net.is_connected(node, peer) {
            if let Some(machine) = &mut self.nodes[node].machine {
                machine.met.remove(&peer);
            }
            let peer = self.ids[peer];
            self.feed_all(node, parting(peer));
        }
    }

    fn on_wake(&mut self, node: Index) {
        let now = self.agenda.now();
        if self.nodes[node].machine.as_mut().is_some_and(|machine| machine.is_due(now)) {
            self.feed_all(node, waking());
        }
    }

    /// A node that deviates does something unasked, now and then.
    pub(super) fn act_later(&mut self, node: Index) {
        let longest = self.plan.shorter(Duration::from_secs(86_400));
        let wait = between(&mut self.rng, Duration::from_secs(60), longest);
        self.agenda.after(wait, Event::Act { node });
    }

    fn act(&mut self, node: Index) {
        if !self.calm {
            self.act_later(node);
        }
        if !self.is_up(node) {
            return;
        }
        let mut inputs = VecDeque::new();
        let steals = self.nodes[node].evil.as_ref().is_some_and(|evil| evil.steals());
        let loot = steals.then(|| self.loot(0));
        let effects = self.deviate(node, &mut inputs, |evil, env| {
            env.loot = loot;
            evil.act(env)
        });
        for effect in effects.unwrap_or_default() {
            self.carry_out(node, Role::Owner, effect);
        }
        self.feed_all(node, inputs);
    }

    pub(super) fn crash(&mut self, node: Index, down: Duration, fault: Fault) {
        if !matches!(self.nodes[node].presence, Presence::Up | Presence::Paused(_)) {
            return;
        }
        self.log(|| format!("{node} loses its power"));
        self.faults.count(fault);
        self.nodes[node].crash();
        if !self.calm && self.plan.disk.index_lost.happens(&mut self.rng) {
            self.faults.count(Fault::IndexLost);
            self.log(|| format!("{node} has no catalogue any more"));
            self.nodes[node].lose_catalogue();
        }
        self.end_life(node);
        self.agenda.after(down.max(REBOOT), Event::Start { node });
    }

    /// The process of a node ends, and is started anew.
    pub(super) fn restart(&mut self, node: Index) {
        if self.is_up(node) {
            self.log(|| format!("{node} is started anew"));
            self.nodes[node].end_process();
            self.end_life(node);
            self.agenda.after(REBOOT, Event::Start { node });
        }
    }

    /// What is lost with a process.
    fn end_life(&mut self, node: Index) {
        self.nodes[node].wishes.forget_jobs();
        self.nodes[node].audits.restart();
        self.break_off_in_crash(node);
        self.break_links(node);
    }

    /// All connections of a node are dead; whoever is still there notices later.
    pub(super) fn break_links(&mut self, node: Index) {
        for (peer, epoch) in self.net.break_all(node) {
            let wait = between(&mut self.rng, Duration::ZERO, NOTICED.1);
            self.agenda.after(wait, Event::LinkGone { a: node, b: peer, epoch });
        }
    }

    /// Pairs that keep a connection and have none dial each other.
    pub(super) fn reconnect(&mut self, wanted: impl Fn(Index, Index) -> bool) {
        let pairs: Vec<_> = self.keeps.iter().copied().filter(|(a, b)| wanted(*a, *b)).collect();
        for (a, b) in pairs {
            if self.net.is_connected(a, b) {
                continue;
            }
            // Each of them tries.
            let (one, other) = (&self.nodes[a].place, &self.nodes[b].place);
            if let (Some(fault), Some(_)) = (one.obstacle(other), other.obstacle(one)) {
                self.faults.count(fault);
                continue;
            }
            let possible = self.is_up(a) && self.is_up(b) && self.net.is_open(a, b);
            if possible {
                let (_, reaches) = self.net.dial();
                let wait = between(&mut self.rng, REDIAL.0, REDIAL.1);
                // A dial that is lost is tried again, and that one succeeds.
                let wait = if reaches { wait } else { wait + REDIAL.1 };
                self.agenda.after(wait, Event::Connect { a, b, asked: false });
            }
        }
    }

    fn pause(&mut self, node: Index, length: Duration, lid: bool) {
        if !self.is_up(node) {
            return;
        }
        self.faults.count(if lid { Fault::Lid } else { Fault::Pause });
        self.log(|| format!("{node} is paused for {length:?}"));
        let until: Time = self.agenda.now().after(length);
        self.nodes[node].presence = Presence::Paused(until);
        // A machine sleeps, or only the process is stopped.
        if self.nodes[node].place.clock.stops && (lid || self.rng.random()) {
            self.stop_clock(node, length);
        }
        // Before whatever waits for it.
        self.agenda.at(until, Event::Resume { node });
        if length > KEEP_ALIVE {
            self.break_links(node);
        }
    }

    fn resume(&mut self, node: Index) {
        if self.paused(node).is_some_and(|until| until <= self.agenda.now()) {
            self.log(|| format!("{node} goes on"));
            self.nodes[node].presence = Presence::Up;
            self.reconnect(|a, b| a == node || b == node);
        }
    }

    pub(super) fn leave(&mut self, node: Index) {
        if self.nodes[node].presence == Presence::Gone {
            return;
        }
        self.log(|| format!("{node} leaves for ever"));
        self.faults.count(Fault::Leave);
        if self.nodes[node].machine.is_some() {
            self.nodes[node].crash();
            self.break_links(node);
        }
        self.nodes[node].wishes.forget_jobs();
        self.break_off(node);
        self.nodes[node].presence = Presence::Gone;
    }

    fn lose_disk(&mut self, node: Index) {
        if self.nodes[node].presence == Presence::Gone {
            return;
        }
        self.faults.count(Fault::DiskLost);
        self.crash(node, Duration::from_secs(3_600), Fault::Crash);
        self.log(|| format!("{node} gets a new disk"));
        self.nodes[node].lose_disk();
    }

    fn restore_image(&mut self, node: Index) {
        if self.nodes[node].presence == Presence::Gone || !self.nodes[node].has_image() {
            return;
        }
        self.faults.count(Fault::OldImage);
        self.crash(node, Duration::from_secs(3_600), Fault::Crash);
        self.log(|| format!("{node} gets an old image of its disk"));
        self.gather_faults();
        self.nodes[node].restore_image();
    }
}

/// The node that has to run for this to happen; `None` for what befalls it whether it runs or not.
fn addressee_of(event: &Event) -> Option<Index> {
    match event {
        Event::Gossip { to: node, .. }
        | Event::Frame { to: node, .. }
        | Event::PeerMet { node, .. }
        | Event::PeerLost { node, .. }
        | Event::Commit { node, .. }
        | Event::Tidy { node, .. }
        | Event::Look { node, .. }
        | Event::Scrub { node, .. }
        | Event::TimePasses { node, .. }
        | Event::TellHolders { owner: node }
        | Event::Find { node, .. }
        | Event::Read { node, .. }
        | Event::Wake { node, .. }
        | Event::Later { node, .. }
        | Event::Publish { node, .. }
        | Event::Act { node }
        | Event::Retry { node }
        | Event::Put { owner: node, .. }
        | Event::Release { owner: node }
        | Event::GiveUp { owner: node }
        | Event::PutAgain { owner: node, .. }
        | Event::Backup { owner: node }
        | Event::Forget { owner: node }
        | Event::LookBack { owner: node }
        | Event::Audit { owner: node, .. }
        | Event::Try { owner: node }
        | Event::TryOn { owner: node, .. }
        | Event::Proceed { owner: node } => Some(*node),
        _ => None,
    }
}
