//! Holders are tried day by day: each owner's node asks them for chunks that they prove, and throws
//! away what comes.
//!
//! Whom it asks for what, who is a witness, and what counts as a miss is for the daemon's own
//! [`Served`] to say, at a pace at which short worlds see as much as long ones. What of several
//! chunks is named together are those that were put at once.

use super::{Event, World};
use crate::chance::between;
use crate::node::audits::{Audits, Why};
use crate::node::wishes::{Job, Wishes};
use crate::node::{Index, Node, Role};
use crate::oracle::Fact;
use crate::sometimes::Rare;
use quloud::core::effect::Input;
use quloud::core::owner::{FetchFailure, FetchJob, OwnerCommand};
use quloud::core::types::{ChunkId, Locality, NodeId, StoreEpoch};
use quloud::repo::reference::ChunkRef;
use quloud::repo::served::{Breadth, Came, Known, Moment, Note, Pace, Run, Served, Step};
use quloud::repo::standing::{AuditRecord, standing as of_record};
use rand::RngExt;
use rand::seq::IteratorRandom;
use rand_chacha::ChaCha20Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// Of all that was put at once, so many times something is drawn.
const DRAWS: usize = 4;

/// What a node knows when it tries its holders.
struct Seen<'a> {
    audits: &'a Audits,
    connected: BTreeSet<NodeId>,
    may_try: bool,
}

impl Known for Seen<'_> {
    fn holders(&self) -> Vec<NodeId> {
        self.audits.holdings.holders()
    }

    fn is_connected(&self, holder: &NodeId) -> bool {
        self.connected.contains(holder)
    }

    fn record(&self, holder: &NodeId) -> AuditRecord {
        self.audits.record(holder)
    }

    fn held(&self, holder: &NodeId) -> u64 {
        self.audits.holdings.held(holder)
    }

    fn replica(&self, holder: &NodeId, chunk: &ChunkId) -> Option<StoreEpoch> {
        self.audits.holdings.store_of(holder).filter(|_| self.audits.holdings.counts(holder, chunk))
    }

    fn proven_s(&self, holder: &NodeId, chunk: &ChunkId) -> Option<u64> {
        self.audits.holdings.proven_s(holder, chunk)
    }

    fn withholding(&self) -> Vec<NodeId> {
        self.audits.withholding()
    }

    fn is_complete(&self) -> bool {
        true
    }

    fn may_try(&self) -> bool {
        self.may_try
    }
}

impl World<'_> {
    /// An owner's node looks which holders are to be tried.
    pub(super) fn try_holders(&mut self, owner: Index) {
        let every = self.trial_pace().look_every;
        let wait = between(&mut self.rng, every / 2, every * 3 / 2);
        self.agenda.after(wait, Event::Try { owner });
        self.try_some(owner, self.trial_pace());
    }

    /// It tries each of them now.
    pub(super) fn try_all(&mut self, owner: Index) {
        self.try_some(owner, Pace { one_in: 1, ..self.trial_pace() });
    }

    fn try_some(&mut self, owner: Index, pace: Pace) {
        let Node { wishes, audits, .. } = &self.nodes[owner];
        if !self.is_up(owner) || wishes.is_waited_for() || audits.served.is_looking() {
            return;
        }
        self.with_served(owner, |served, at, rng| {
            served.begin(&Moment { pace: &pace, ..*at }, rng);
        });
        self.try_on(owner);
    }

    /// A day in a short world is as much shorter, and as eventful.
    fn trial_pace(&self) -> Pace {
        let day = self.plan.shorter(DAY);
        Pace { look_every: day / 24, owed_every: day / 6, ..Pace::USUAL }
    }

    fn with_served<R>(
        &mut self,
        owner: Index,
        work: impl FnOnce(&mut Served, &Moment<'_, Seen<'_>>, &mut ChaCha20Rng) -> R,
    ) -> R {
        let (pace, now_s) = (self.trial_pace(), self.wall_s(owner));
        let now = self.nodes[owner].clock_at(self.agenda.now());
        let mut served = std::mem::take(&mut self.nodes[owner].audits.served);
        let Node { audits, wishes, machine, .. } = &self.nodes[owner];
        let met = machine.iter().flat_map(|machine| &machine.met);
        let connected = met.map(|peer| self.ids[*peer]).collect();
        let known = &Seen { audits, connected, may_try: !wishes.is_waited_for() };
        let moment = Moment { known, pace: &pace, now, now_s };
        let result = work(&mut served, &moment, &mut self.rng);
        self.nodes[owner].audits.served = served;
        result
    }

    /// Does what is next, until somebody has to answer.
    pub(super) fn try_on(&mut self, owner: Index) {
        self.nodes[owner].audits.goes_on = false;
        while let Some(step) = self.with_served(owner, |served, at, rng| served.next(at, rng)) {
            match step {
                Step::Draw { most, of } => {
                    let runs = self.draw_runs(owner, &most, of);
                    self.nodes[owner].audits.served.drawn(runs, of == Breadth::All);
                }
                Step::Fetch { holder, chunk } => return self.fetch_to_try(owner, holder, &chunk),
                Step::Prove { holder, chunks } => {
                    self.nodes[owner].audits.to_prove = Some((holder, chunks));
                    return self.prove_tried(owner, holder);
                }
                Step::Write(note) => self.note_tried(owner, note),
            }
        }
    }

    /// What was waited for is there.
    pub(super) fn try_on_soon(&mut self, owner: Index) {
        if !std::mem::replace(&mut self.nodes[owner].audits.goes_on, true) {
            let life = self.nodes[owner].life;
            self.agenda.at(self.agenda.now(), Event::TryOn { owner, life });
        }
    }

    /// Runs of what each of these has, of some that was put at once or of all.
    fn draw_runs(
        &mut self,
        owner: Index,
        most: &BTreeMap<NodeId, usize>,
        of: Breadth,
    ) -> BTreeMap<NodeId, Vec<ChunkRef>> {
        let Node { wishes: Wishes { puts, .. }, audits, .. } = &self.nodes[owner];
        let rng = &mut self.rng;
        let places: BTreeSet<Locality> = puts.values().map(|put| put.locality).collect();
        let draws = if of == Breadth::All { places.len() } else { DRAWS };
        let places: BTreeSet<Locality> =
            places.into_iter().sample(rng, draws).into_iter().collect();
        let mut runs: BTreeMap<NodeId, Run> =
            most.iter().map(|(holder, most)| (*holder, Run::of(*most))).collect();
        for (id, put) in puts.iter().filter(|(_, put)| places.contains(&put.locality)) {
            let (ck, locality) = (put.key.duplicate(), put.locality);
            let named = ChunkRef { ck, id: *id, locality, bytes: 0 };
            for (holder, run) in &mut runs {
                if audits.holdings.counts(holder, id) {
                    run.add(&named, |seen| rng.random_ratio(1, seen));
                }
            }
        }
        let runs = runs.into_iter().map(|(holder, run)| (holder, run.into_chunks()));
        runs.filter(|(_, chunks)| !chunks.is_empty()).collect()
    }

    fn fetch_to_try(&mut self, owner: Index, holder: NodeId, chunk: &ChunkRef) {
        let patience = self.trial_pace().patience;
        let deadline = self.nodes[owner].clock_at(self.agenda.now().after(patience));
        let Node { wishes, machine, .. } = &mut self.nodes[owner];
        let room = machine.as_ref().is_some_and(|machine| machine.owner.fetch_slots_free() > 0);
        if !room {
            return self.tried(owner, (Came::NotAsked, 0));
        }
        let ticket = wishes.begin(Job::Try(chunk.id));
        let (id, locality, read) = (chunk.id, chunk.locality, chunk.ck.read_secret());
        self.log(|| format!("{owner} tries {holder:?} with {id:?}"));
        let holders = vec![holder];
        let job = FetchJob { ticket, id, locality, read, holders, only: true, deadline };
        self.feed(owner, Role::Owner, Input::Command(OwnerCommand::Fetch(job)));
    }

    /// What came of a request.
    pub(super) fn tried(&mut self, owner: Index, (came, bytes): (Came, usize)) {
        let rare = match came {
            Came::Whole => Some(Rare::TriedWell),
            Came::Refused => Some(Rare::TriedRefused),
            Came::Nothing => Some(Rare::TriedMute),
            Came::NotAsked => None,
        };
        rare.into_iter().for_each(|rare| self.noticed.rare.count(rare));
        let now = self.nodes[owner].clock_at(self.agenda.now());
        self.nodes[owner].audits.served.came(came, bytes, now);
        self.try_on_soon(owner);
    }

    /// A request came to nothing: what whoever was asked said.
    pub(super) fn tried_in_vain(&mut self, owner: Index, asked: &[(NodeId, FetchFailure)]) {
        let has_answered = asked.iter().any(|(_, why)| why.is_answer());
        self.tried(owner, (if has_answered { Came::Refused } else { Came::Nothing }, 0));
    }

    /// Asks a holder for proofs of what it did not hand over, as soon as it is asked for nothing
    /// else.
    pub(super) fn prove_tried(&mut self, owner: Index, holder: NodeId) {
        let audits = &mut self.nodes[owner].audits;
        if audits.asking.contains_key(&holder) {
            return;
        }
        let Some((_, chunks)) = audits.to_prove.take_if(|(of, _)| *of == holder) else { return };
        self.begin_audit(owner, holder, (chunks, Why::Trial));
        if !self.nodes[owner].audits.asking.contains_key(&holder) {
            self.try_on_soon(owner);
        }
    }

    fn note_tried(&mut self, owner: Index, note: Note) {
        let now_s = self.wall_s(owner);
        let (Note::Served(holder) | Note::LetOff(holder) | Note::Withheld { node: holder, .. }) =
            note;
        self.log(|| format!("{owner} notes of a trial: {note:?}"));
        let audits = &mut self.nodes[owner].audits;
        let did_count = audits.stands(&holder, now_s).0.counts();
        audits.note_tried(note);
        let standing = audits.stands(&holder, now_s).0;
        let rare = match note {
            Note::Served(_) => Some(Rare::WithheldNoMore),
            Note::LetOff(_) => None,
            Note::Withheld { .. } => Some(Rare::Withheld),
        };
        rare.into_iter().for_each(|rare| self.noticed.rare.count(rare));
        if let Note::Withheld { .. } = note {
            let withheld = self.nodes[owner].audits.record(&holder).withheld;
            let alone = AuditRecord { withheld, ..AuditRecord::default() };
            let standing = of_record(&alone, now_s);
            self.see(&Fact::Withholds { owner, holder, standing });
        }
        if did_count && !standing.counts() {
            self.take_words_back(owner);
        }
        self.see(&Fact::Stands { owner, holder, standing });
        self.look_at_lots(owner);
    }

    /// How often a holder was found to withhold what it proves, as far as that counts still.
    pub(crate) fn withheld(&self, owner: Index, holder: Index) -> u32 {
        let record = self.nodes[owner].audits.record(&self.ids[holder]);
        record.withheld.map_or(0, |withheld| withheld.misses)
    }
}
