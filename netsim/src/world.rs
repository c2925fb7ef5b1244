//! One world: nodes, a network, people and time, all of it decided by one number.
//!
//! A run has two parts. For as many days as the frame says, owners put and fetch chunks while
//! everything goes wrong that the seed has drawn. Then the faults stop, whoever is not gone for
//! ever comes back, and the mesh has to become live again (see `finale`): what was promised is
//! fetched, and what was not stored yet is stored. The [`Oracle`] sees everything that happens.
//!
//! | file | what it holds |
//! |---|---|
//! | `world/build.rs` | who is in it, and what is going to happen to them |
//! | `world/event.rs` | what can happen |
//! | `world/happen.rs` | each event, when its time has come |
//! | `world/fate.rs` | what befalls several of them, one after another or all at once |
//! | `world/stores.rs` | what the nodes' stores do |
//! | `world/release.rs` | chunks that are given up |
//! | `world/carry.rs` | what the roles want done |
//! | `world/notice.rs` | which rare branches were taken |
//! | `world/demand.rs` | what the users want, and what they are told |
//! | `world/script.rs` | what a scenario does to it |
//! | `world/watch.rs` | what is seen of it in a picture |
//! | `world/audits.rs` | holders that are asked for proofs |
//! | `world/trials.rs` | holders that are tried, whether they hand over what they prove |
//! | `world/repair.rs` | what is made again after that |
//! | `world/heal.rs` | replicas that are made again |
//! | `world/words.rs` | what owners tell of what they put |
//! | `world/join.rs` | somebody who comes new |
//! | `world/backups.rs` | what owners back up, publish and forget |
//! | `world/heads.rs` | heads that are sent, and read back |
//! | `world/recovery.rs` | owners who have nothing left but their words |
//! | `world/finale.rs` | the end, where nothing goes wrong any more |

mod audits;
mod backups;
mod build;
mod carry;
mod demand;
mod event;
mod fate;
mod finale;
mod happen;
mod heads;
mod heal;
mod join;
mod locate;
mod notice;
mod recovery;
mod release;
mod repair;
mod script;
mod stores;
mod trials;
mod watch;
mod words;

use crate::agenda::Agenda;
use crate::ending::Ending;
use crate::evil::{Behaviour, Env};
use crate::net::{Net, Traffic};
use crate::node::device::Device;
use crate::node::{Index, Node, Presence, Role};
use crate::oracle::{ChunkFacts, Fact, HeadFacts, Heard, Oracle, Truth};
use crate::plan::{Frame, Plan};
use crate::report::clock;
use crate::sometimes::Rare;
use crate::tally::{Fault, Tally};
use crate::timeline::Timeline;
use ::bytes::Bytes;
use notice::Noticed;
use quloud::core::effect::Input;
use quloud::core::types::{ChunkId, NodeId, Ticket, Time};
use quloud::crypto::head::HeadRecord;
use quloud::crypto::header::Header;
use rand_chacha::ChaCha20Rng;
use script::Script;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

pub(crate) use event::{Decay, Event};
pub(crate) use script::{Check, Cue, EXPECTED, SCRIPTED, Step, play};
pub(crate) use watch::{film, film_script};

/// More events than this at one moment: somebody spins.
const EVENTS_PER_MOMENT: u32 = 100_000;

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    /// Promises that were broken; empty = a good run.
    pub(crate) violations: Vec<String>,
    /// Hash over everything that happened, in order.
    pub(crate) trace: String,
    pub(crate) events: u64,
    /// Chunks whose owner was told that they are stored.
    pub(crate) chunks: u64,
    /// Fetches that succeeded at the end.
    pub(crate) fetched: u64,
    /// What was demanded at the end.
    pub(crate) ending: Ending,
    /// Simulated time.
    pub(crate) elapsed: Duration,
    /// Messages turned down, by reason.
    pub(crate) rejects: Tally<&'static str>,
    /// What was done to the nodes, by kind.
    pub(crate) faults: Tally<Fault>,
    /// What deviating nodes did, by behaviour.
    pub(crate) acts: Tally<&'static str>,
    /// Rare branches that were taken.
    pub(crate) rare: Tally<Rare>,
    /// What the nodes sent, in all.
    pub(crate) traffic: Traffic,
}

impl Outcome {
    /// When it ended.
    pub(crate) fn ended(&self) -> Time {
        Time(0).after(self.elapsed)
    }
}

/// Hears a line for everything that happens.
pub(crate) type Observer<'a> = &'a mut dyn FnMut(Time, &dyn Fn() -> String);

/// A world in the middle of its run.
pub(crate) struct World<'a> {
    plan: Plan,
    rng: ChaCha20Rng,
    agenda: Agenda<Event>,
    nodes: Vec<Node>,
    ids: Vec<NodeId>,
    indices: BTreeMap<NodeId, Index>,
    net: Net,
    /// Pairs that keep a connection where they can.
    keeps: Vec<(Index, Index)>,
    chunks: BTreeMap<ChunkId, ChunkFacts>,
    heads: BTreeMap<ChunkId, HeadFacts>,
    /// Of owners that back something up.
    devices: BTreeMap<Index, Device>,
    /// Records that came of a question for heads, each with who served it.
    looks: BTreeMap<(Index, Ticket), Vec<(NodeId, HeadRecord)>>,
    /// Chunks that came to who recovers.
    brought: BTreeMap<ChunkId, (Header, Bytes)>,
    /// Who has fetched what since the world has become calm.
    fetched: BTreeSet<(Index, ChunkId)>,
    /// Who was last said to hold what, to whoever looked for holders.
    located: BTreeSet<(Index, NodeId, ChunkId)>,
    ending: Ending,
    /// Whose words the node is hearing that is being fed, or heard when it asked its store.
    hearing: Option<Heard>,
    oracle: Oracle,
    violations: Vec<String>,
    rejects: Tally<&'static str>,
    faults: Tally<Fault>,
    /// What deviating nodes did, by behaviour.
    acts: Tally<&'static str>,
    noticed: Noticed,
    events: u64,
    /// Chunks that were stored, each time it is put.
    stored: u64,
    /// Undoings that holders were asked for: by owner, holder and number, when and of which chunks.
    undoing: BTreeMap<(Index, Index, u64), (Time, Vec<ChunkId>)>,
    /// The same of releases.
    releasing: BTreeMap<(Index, Index, u64), Vec<ChunkId>>,
    /// Deletes that a script told stores of.
    deletes: u64,
    calm: bool,
    script: Script,
    /// Of a world that is watched.
    timeline: Option<Box<Timeline>>,
    trace: blake3::Hasher,
    observer: Observer<'a>,
}

/// Runs the world of one seed to its end.
pub(crate) fn run(seed: u64, frame: &Frame, observer: Observer<'_>) -> Outcome {
    let mut world = World::new(seed, frame, observer);
    world.run_through();
    world.outcome(seed)
}

impl World<'_> {
    /// All of it; who panics breaks a promise.
    fn run_through(&mut self) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.run_parts())) {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
            self.violation(format!("nothing panics: {said}"));
        }
    }

    fn run_parts(&mut self) {
        self.live();
        self.end_script();
        if self.violations.is_empty() {
            self.finale();
        }
        if self.violations.is_empty() {
            self.expect_finally();
        }
    }

    /// Time goes on while everything goes wrong.
    fn live(&mut self) {
        let end = Time(0).after(self.plan.span);
        self.run_until(end, |_| false);
    }

    /// Time goes on to `end`, or until `done`.
    fn run_until(&mut self, end: Time, done: impl Fn(&Self) -> bool) {
        let (mut moment, mut busy) = (self.agenda.now(), 0);
        while self.violations.is_empty() && !done(self) {
            let Some(event) = self.agenda.pop(end) else { return };
            let now = self.agenda.now();
            busy = if now == moment { busy + 1 } else { 0 };
            moment = now;
            if busy > EVENTS_PER_MOMENT {
                return self.violation("nobody spins: time stands still".to_owned());
            }
            self.events += 1;
            let most = self.plan.events_max();
            if self.events > most {
                return self.violation(format!("a world ends: {most} events are not enough"));
            }
            self.happen(event);
        }
    }

    fn outcome(mut self, seed: u64) -> Outcome {
        let (faults, traffic) = (self.faults_so_far(), self.traffic_so_far());
        Outcome {
            seed,
            plan: self.plan,
            violations: self.violations,
            trace: self.trace.finalize().to_hex().chars().take(32).collect(),
            events: self.events,
            chunks: self.stored,
            fetched: self.fetched.len() as u64,
            ending: self.ending,
            elapsed: self.agenda.now().since(Time(0)),
            rejects: self.rejects,
            faults,
            acts: self.acts,
            rare: self.noticed.rare,
            traffic,
        }
    }

    /// Feeds an input to a role that runs, and does what both roles want.
    fn feed(&mut self, node: Index, role: Role, input: Input) {
        let mut inputs = VecDeque::from([(role, input)]);
        while let Some((role, input)) = inputs.pop_front() {
            let input = if !self.nodes[node].is_honest() {
                let act =
                    |evil: &mut dyn Behaviour, env: &mut Env<'_>| evil.input(env, role, input);
                match self.deviate(node, &mut inputs, act) {
                    Some(Some(input)) => input,
                    _ => continue,
                }
            } else {
                input
            };
            let now = self.agenda.now();
            let Some(machine) = &mut self.nodes[node].machine else { return };
            machine.handle(machine.clock.read(now), role, input);
            self.drain(node, &mut inputs);
            if let Some(machine) = &mut self.nodes[node].machine {
                let refused = std::iter::from_fn(|| machine.refused());
                let before = inputs.len();
                inputs.extend(refused);
                self.noticed.rare.add(Rare::QueueFull, (inputs.len() - before) as u64);
            }
        }
        self.settle(node);
    }

    fn feed_all(&mut self, node: Index, inputs: impl IntoIterator<Item = (Role, Input)>) {
        inputs.into_iter().for_each(|(role, input)| self.feed(node, role, input));
    }

    /// Does all that the roles of a node want done.
    fn drain(&mut self, node: Index, inputs: &mut VecDeque<(Role, Input)>) {
        while let Some(machine) = &mut self.nodes[node].machine
            && let Some((role, effect)) = machine.poll_effect()
        {
            if self.nodes[node].is_honest() {
                self.carry_out(node, role, effect);
                continue;
            }
            let act = |evil: &mut dyn Behaviour, env: &mut Env<'_>| evil.effect(env, role, effect);
            for effect in self.deviate(node, inputs, act).unwrap_or_default() {
                self.carry_out(node, role, effect);
            }
        }
    }

    /// Lets a node that deviates have its way; `None` for an honest one.
    fn deviate<R>(
        &mut self,
        node: Index,
        inputs: &mut VecDeque<(Role, Input)>,
        act: impl FnOnce(&mut dyn Behaviour, &mut Env<'_>) -> R,
    ) -> Option<R> {
        let mut evil = self.nodes[node].evil.take()?;
        let (keys, now) = (self.nodes[node].keys.clone(), self.agenda.now());
        let (rng, nodes) = (&mut self.rng, self.ids.as_slice());
        let mut env = Env::new(now, rng, &keys, nodes, self.plan.sharding);
        let result = act(evil.as_mut(), &mut env);
        let Env { acts, inputs: more, effects, later, .. } = env;
        inputs.extend(more);
        self.faults.add(Fault::Byzantine, acts);
        self.acts.add(evil.name(), acts);
        self.nodes[node].evil = Some(evil);
        for effect in effects {
            self.carry_out(node, Role::Holder, effect);
        }
        let life = self.nodes[node].life;
        for (wait, to, message) in later {
            let message = Box::new(message);
            self.agenda.after(wait, Event::Later { node, life, to, message });
        }
        Some(result)
    }

    /// After each input: is everything bounded, and when is the node to be woken?
    fn settle(&mut self, node: Index) {
        let Some(machine) = &mut self.nodes[node].machine else { return };
        let (load, owner) = (machine.holder.load(), machine.owner.load());
        if let Some(next) = machine.arrange() {
            let life = self.nodes[node].life;
            self.agenda.at(next, Event::Wake { node, life });
        }
        self.see(&Fact::Loaded { node, load, owner: &owner });
    }

    /// Shows a fact to the oracle.
    fn see(&mut self, fact: &Fact<'_>) {
        let now = self.agenda.now();
        let Self { nodes, indices, chunks, heads, .. } = self;
        let truth = Truth { now, nodes, indices, chunks, heads };
        for broken in self.oracle.see(&truth, fact) {
            self.violation(broken);
        }
        self.cue(fact);
        self.watch_fact(fact);
    }

    fn violation(&mut self, what: String) {
        let what = format!("after {}: {what}", clock(self.agenda.now()).trim_start());
        self.log(|| format!("VIOLATION {what}"));
        self.violations.push(what);
    }

    /// Something happened: it becomes a part of the trace.
    fn log(&mut self, line: impl Fn() -> String) {
        let now = self.agenda.now();
        self.trace.update(&now.0.to_le_bytes());
        self.trace.update(line().as_bytes());
        (self.observer)(now, &line);
    }

    /// Whether a node takes part now.
    fn is_up(&self, node: Index) -> bool {
        self.nodes[node].is_up()
    }

    /// A node that runs in this life; what an earlier one asked for is void.
    fn is_alive(&self, node: Index, life: u64) -> bool {
        self.nodes[node].machine.is_some() && self.nodes[node].life == life
    }

    /// Until when a node is paused, where it is.
    fn paused(&self, node: Index) -> Option<Time> {
        match self.nodes[node].presence {
            Presence::Paused(until) => Some(until),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
