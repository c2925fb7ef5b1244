//! A script: what is done to a world, when, and what has to be true then. See [`crate::scenario`].

use super::demand::{AGAIN, FETCH};
use super::{Event, Observer, Outcome, World};
use crate::disk::Call;
use crate::evil::{self, Gang};
use crate::net::Traffic;
use crate::node::{Index, Nat, Presence};
use crate::oracle::{Fact, Seen};
use crate::scenario::Stage;
use crate::sometimes::Rare;
use crate::tally::Fault;
use quloud::core::codec::Reject;
use quloud::core::types::{ChunkId, Ticket};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Begins what a script says, among all that happens.
pub(crate) const SCRIPTED: &str = "* ";

/// Begins what a script expects.
pub(crate) const EXPECTED: &str = "as it has to be: ";

/// Marks tickets that no role has given out.
const OURS: u64 = 1 << 63;

/// One thing that a script does.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// What a drawn world knows, too.
    Happen(Event),
    /// A node deviates from the protocol from now on, in the way of this name.
    Deviate(Index, &'static str),
    /// The next calls of this kind fail on a node's disk.
    Fail(Index, Call, u32),
    /// Others fill a node's disk up to its last bytes.
    LeaveOnly(Index, u64),
    /// On a node's disk every record of a chunk is damaged beside the chunk's bytes.
    Chip(Index),
    /// On a node's disk old records of one chunk lie where those of others were written.
    Supplant(Index),
    /// The catalogue of a node that is down has lost its notes.
    LoseNotes(Index),
    /// A node that is down has lost its segments, and its catalogue how far it had come.
    LoseLog(Index),
    /// The catalogue of a node that is down is gone.
    LoseCatalogue(Index),
    /// The process of a node ends, and is started anew; its machine runs on.
    Restart(Index),
    /// Somebody deletes a chunk that a node has, and tells nobody.
    DeleteOne(Index),
    /// The clock on an owner's wall is wrong by so many seconds from now on.
    SetClock(Index, i64),
    /// With its next look an owner audits all that each holder has.
    AuditAnew(Index),
    /// A user puts all again that was given up.
    PutAgain(Index),
    /// A user takes back whatever holders were made to let go of what was put.
    TakeBack(Index),
    /// An owner tries each of its holders now.
    TryAll(Index),
    /// An owner looks for holders of all that it ever put.
    Locate(Index),
    /// From now on a node's line carries so many bytes a second.
    SetLine(Index, u64),
    /// A user fetches everything that was promised, as soon as the machine runs.
    Fetch(Index),
    /// A node's router lets strangers in.
    OpenDoor(Index),
    /// This has to be true now.
    Expect(Check),
}

/// Whether something is as it has to be.
pub(crate) type Check = fn(&mut World<'_>) -> bool;

/// Waits for something that happens, and then has steps, once.
pub(crate) type Cue = (&'static str, fn(&Fact<'_>) -> Option<Step>);

/// What is still to come of a script.
#[derive(Debug, Default)]
pub(super) struct Script {
    cues: Vec<Cue>,
    finally: Vec<(&'static str, Check)>,
    /// What those have in common that deviate.
    gang: Option<Gang>,
}

/// Runs a scripted world to its end.
pub(crate) fn play(stage: Stage, seed: u64, observer: Observer<'_>) -> Outcome {
    let mut world = World::staged(stage, seed, observer);
    world.run_through();
    world.outcome(seed)
}

impl<'a> World<'a> {
    pub(super) fn staged(stage: Stage, seed: u64, observer: Observer<'a>) -> Self {
        let Stage { plan, steps, cues, finally, behind_nat, keeps } = stage;
        let mut world = Self::of(plan, ChaCha20Rng::seed_from_u64(seed), observer);
        world.script = Script { cues, finally, gang: None };
        behind_nat.into_iter().for_each(|node| world.nodes[node].place.nat = Nat::OutboundOnly);
        world.keeps = keeps.unwrap_or(std::mem::take(&mut world.keeps));
        for (wait, text, steps) in steps {
            world.agenda.after(wait, Event::Script { text, steps });
        }
        world
    }

    /// What the script does now.
    pub(super) fn on_script(&mut self, text: &'static str, steps: Vec<Step>) {
        let expects = matches!(steps.as_slice(), [Step::Expect(_)]);
        if !expects && !text.is_empty() {
            self.log(|| format!("{SCRIPTED}{text}"));
        }
        for step in steps {
            match step {
                Step::Happen(event) => self.happen(event),
                Step::Deviate(node, how) => self.deviate_from_now_on(node, how),
                Step::Fail(node, call, times) => self.nodes[node].disk.fail_next(call, times),
                Step::LeaveOnly(node, left) => {
                    self.nodes[node].disk.leave_only(left);
                    self.look_later(node);
                    self.faults.count(Fault::Full);
                }
                Step::Chip(node) => {
                    let chipped = self.nodes[node].disk.chip() as u64;
                    self.faults.add(Fault::Rot, chipped);
                }
                Step::Supplant(node) => {
                    let lost = self.nodes[node].disk.supplant() as u64;
                    self.faults.add(Fault::LostWrite, lost);
                }
                Step::LoseNotes(node) => {
                    let lost = self.nodes[node].catalogue.lose_notes();
                    self.faults.add(Fault::CatalogueWrong, lost.into());
                }
                Step::LoseLog(node) => {
                    let lost = self.nodes[node].lose_log();
                    self.faults.add(Fault::NameLost, 1);
                    self.faults.add(Fault::CatalogueWrong, lost.into());
                }
                Step::LoseCatalogue(node) => {
                    self.nodes[node].lose_catalogue();
                    self.faults.count(Fault::IndexLost);
                }
                Step::Restart(node) => self.restart(node),
                Step::DeleteOne(node) => self.delete_one(node),
                Step::SetClock(owner, off_s) => self.nodes[owner].audits.clock_off_s = off_s,
                Step::AuditAnew(owner) => self.nodes[owner].audits.audit_anew(),
                Step::PutAgain(owner) => {
                    let dropped: Vec<ChunkId> =
                        self.nodes[owner].wishes.dropped.keys().copied().collect();
                    dropped.into_iter().for_each(|id| self.put_again(owner, id));
                }
                Step::TakeBack(owner) => self.take_all_back(owner),
                Step::TryAll(owner) => self.try_all(owner),
                Step::Locate(owner) => self.locate_all(owner),
                Step::SetLine(node, rate) => self.net.set_line(node, rate),
                Step::Fetch(reader) => self.fetch_promised(reader),
                Step::OpenDoor(node) => {
                    self.nodes[node].place.nat = Nat::Open;
                    self.reconnect(|a, b| a == node || b == node);
                }
                Step::Expect(check) => self.expect(text, check),
            }
        }
    }

    fn deviate_from_now_on(&mut self, node: Index, how: &str) {
        let Some(which) = evil::named(how) else {
            return self.violation(format!("there is a behaviour of this name: {how}"));
        };
        let now = self.agenda.now();
        let gang = self.script.gang.get_or_insert_with(|| Gang::new(now, true)).clone();
        self.corrupt_one(node, which, &gang);
    }

    fn delete_one(&mut self, node: Index) {
        let mut has = self.chunks.iter_mut().filter(|(_, chunk)| chunk.acked.contains_key(&node));
        let Some((id, chunk)) = has.next() else { return };
        chunk.acked.remove(&node);
        let id = *id;
        let Some(machine) = &mut self.nodes[node].machine else { return };
        self.deletes += 1;
        let begins = machine.store.delete(Ticket(OURS | self.deletes), id);
        self.commit_later(node, begins);
    }

    fn fetch_promised(&mut self, reader: Index) {
        if !self.is_up(reader) {
            let (text, steps) = ("", vec![Step::Fetch(reader)]);
            return self.agenda.after(AGAIN, Event::Script { text, steps });
        }
        let promised = self.chunks.iter().filter(|(_, chunk)| chunk.promised);
        let ids: Vec<ChunkId> = promised.map(|(id, _)| *id).collect();
        let end = self.agenda.now().after(FETCH);
        ids.into_iter().for_each(|id| self.fetch(reader, id, end));
    }

    fn expect(&mut self, text: &str, check: Check) {
        if check(self) {
            self.log(|| format!("{SCRIPTED}{EXPECTED}{text}"));
        } else {
            self.violation(format!("{EXPECTED}{text}"));
        }
    }

    /// What the script has waited for in vain.
    pub(super) fn end_script(&mut self) {
        for (text, _) in std::mem::take(&mut self.script.cues) {
            self.violation(format!("the script comes to this: {text}"));
        }
    }

    /// What the script expects of the end.
    pub(super) fn expect_finally(&mut self) {
        for (text, check) in std::mem::take(&mut self.script.finally) {
            self.expect(text, check);
        }
    }

    /// Whether the script has waited for this.
    pub(super) fn cue(&mut self, fact: &Fact<'_>) {
        let now = self.agenda.now();
        let agenda = &mut self.agenda;
        self.script.cues.retain(|(text, when)| match when(fact) {
            Some(step) => {
                agenda.at(now, Event::Script { text, steps: vec![step] });
                false
            }
            None => true,
        });
    }
}

/// What an expectation may look at.
impl World<'_> {
    /// Chunks that were put.
    pub(crate) fn put_chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Chunks whose owner was told that they are stored.
    pub(crate) fn stored_chunks(&self) -> usize {
        self.chunks.values().filter(|chunk| chunk.promised).count()
    }

    /// Everything that was put is stored, and something was.
    pub(crate) fn all_stored(&self) -> bool {
        self.put_chunks() > 0 && self.stored_chunks() == self.put_chunks()
    }

    /// Chunks that a node has acknowledged.
    pub(crate) fn acked_by(&self, node: Index) -> usize {
        self.chunks.values().filter(|chunk| chunk.acked.contains_key(&node)).count()
    }

    /// Of all promised chunks, the smallest number of honest nodes that acknowledged one.
    pub(crate) fn fewest_honest_acks(&self) -> usize {
        let honest = |node: &&Index| self.nodes[**node].is_honest();
        let promised = self.chunks.values().filter(|chunk| chunk.promised);
        promised.map(|chunk| chunk.acked.keys().filter(honest).count()).min().unwrap_or(0)
    }

    /// Of all promised chunks, the fewest copies: in different failure domains, and readable but
    /// for those that cheats say to have.
    pub(crate) fn fewest_copies(&self) -> usize {
        let promised = self.chunks.iter().filter(|(_, chunk)| chunk.promised);
        promised.map(|(id, chunk)| self.copies(id, chunk).len()).min().unwrap_or(0)
    }

    /// Chunks that at least one of these nodes has acknowledged.
    pub(crate) fn acked_by_any(&self, nodes: RangeInclusive<Index>) -> usize {
        let some = |acked: &BTreeMap<Index, _>| nodes.clone().any(|node| acked.contains_key(&node));
        self.chunks.values().filter(|chunk| some(&chunk.acked)).count()
    }

    /// Chunks that a node has, and can read.
    pub(crate) fn held_by(&self, node: Index) -> usize {
        self.chunks.keys().filter(|id| self.nodes[node].holds(id)).count()
    }

    /// Chunks that a node itself knows to be damaged.
    pub(crate) fn known_damaged(&self, node: Index) -> usize {
        self.chunks.keys().filter(|id| self.nodes[node].seen(id) == Seen::Damaged).count()
    }

    /// Each of these nodes has every chunk that it acknowledged, and can read it.
    pub(crate) fn keep_word(&self, mut nodes: RangeInclusive<Index>) -> bool {
        nodes.all(|node| {
            let looked = &self.nodes[node];
            let mut acked = self.chunks.iter().filter(|(_, chunk)| chunk.acked.contains_key(&node));
            looked.machine.is_some() && acked.all(|(id, _)| looked.holds(id))
        })
    }

    /// Chunks that somebody was given since the script, or the end, began to fetch.
    pub(crate) fn fetched_by(&self, reader: Index) -> usize {
        self.fetched.iter().filter(|(node, _)| *node == reader).count()
    }

    /// Snapshots that an owner has published and not forgotten.
    pub(crate) fn listed(&self, owner: Index) -> usize {
        self.devices.get(&owner).map_or(0, |device| device.live.len())
    }

    /// Snapshots that came back by the words, at the end.
    pub(crate) fn came_back(&self) -> u64 {
        self.ending.snapshots.met
    }

    /// Nodes that left for ever.
    pub(crate) fn gone(&self) -> Vec<Index> {
        let gone = |node: &Index| self.nodes[*node].presence == Presence::Gone;
        (0..self.nodes.len()).filter(gone).collect()
    }

    /// How often a fault was met.
    pub(crate) fn met(&mut self, fault: Fault) -> u64 {
        self.faults_so_far().of(fault)
    }

    /// What a node sent.
    pub(crate) fn sent_by(&self, node: Index) -> Traffic {
        self.net.traffic[node]
    }

    /// How often a rare branch was taken.
    pub(crate) fn took(&self, branch: Rare) -> u64 {
        self.noticed.rare.of(branch)
    }

    /// How many messages were turned down for this reason.
    pub(crate) fn rejected(&self, reason: Reject) -> u64 {
        self.rejects.of(reason.name())
    }
}
