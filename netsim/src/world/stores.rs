//! What the nodes' stores do, each in its own time: groups, what is tidied between them, look-ups,
//! pages and reads; and what a store still has when its node starts.

use super::event::Wanted;
use super::{Event, World};
use crate::chance::between;
use crate::node::store::{Change, Next, Scrubbed, Store};
use crate::node::{Index, Presence, REBOOT, Role};
use crate::oracle::{Fact, Heard, Seen};
use crate::sometimes::Rare;
use crate::tally::Fault;
use quloud::core::effect::{Input, StoreError};
use quloud::core::types::{ChunkId, Ticket};
use quloud::crypto::head::HeadRecord;
use quloud::store::StoreOpenError;
use rand::RngExt;
use std::time::Duration;

/// How long the disk takes for a group.
const COMMIT: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// How long it takes for a step of tidying.
const TIDY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(500));

/// How often a store that has nothing to do looks how full its disk is.
const LOOK: Duration = Duration::from_secs(60);

/// Between two steps of a scrub that is in a hurry.
const HASTE: Duration = Duration::from_secs(1);

impl World<'_> {
    pub(super) fn commit_later(&mut self, node: Index, begins: bool) {
        if begins {
            let wait = between(&mut self.rng, COMMIT.0, COMMIT.1);
            let life = self.nodes[node].life;
            self.agenda.after(wait, Event::Commit { node, life });
        }
    }

    fn tidy_later(&mut self, node: Index) {
        let wait = between(&mut self.rng, TIDY.0, TIDY.1);
        let life = self.nodes[node].life;
        self.agenda.after(wait, Event::Tidy { node, life });
    }

    /// Others took space on the disk or made some: the store sees that when it looks next.
    pub(super) fn look_later(&mut self, node: Index) {
        let wait = between(&mut self.rng, Duration::ZERO, LOOK);
        let life = self.nodes[node].life;
        self.agenda.after(wait, Event::Look { node, life });
    }

    pub(super) fn look(&mut self, node: Index) {
        let Some(machine) = &mut self.nodes[node].machine else { return };
        if machine.store.look() {
            self.tidy(node);
        }
    }

    fn scrub_later(&mut self, node: Index, hasty: bool) {
        let Some(machine) = &self.nodes[node].machine else { return };
        let usual = machine.store.scrub_pause(self.plan.span);
        let wait = if hasty { HASTE } else { between(&mut self.rng, usual / 2, usual * 3 / 2) };
        let life = self.nodes[node].life;
        self.agenda.after(wait, Event::Scrub { node, life, hasty });
    }

    pub(super) fn scrub(&mut self, node: Index, hasty: bool) {
        let Some(machine) = &mut self.nodes[node].machine else { return };
        let Scrubbed { damage, rotten, is_over, begins } = machine.store.scrub();
        if rotten > 0 || !damage.is_empty() {
            self.log(|| format!("{node} scrubs: {rotten} damaged chunks, {damage:?}"));
            self.noticed.rare.add(Rare::ScrubbedRot, rotten as u64);
        }
        self.see(&Fact::Scrubbed { node, damage: &damage, rotten });
        self.commit_later(node, begins);
        if !hasty || !is_over {
            self.scrub_later(node, hasty);
        }
    }

    /// What befalls a disk just when it works.
    fn disturb(&mut self, node: Index) {
        if self.calm || self.nodes[node].machine.is_none() {
            return;
        }
        if self.plan.disk.cut_short.happens(&mut self.rng) {
            self.crash_in_commit(node);
        }
        if self.plan.disk.taken_away.happens(&mut self.rng) {
            let longest = self.plan.shorter(Duration::from_secs(86_400));
            let length = between(&mut self.rng, Duration::from_secs(60), longest);
            let quota = self.rng.random();
            self.on_fate(Event::Fill { node, length, quota });
        }
    }

    pub(super) fn commit(&mut self, node: Index) {
        self.disturb(node);
        let Some(machine) = &mut self.nodes[node].machine else { return };
        let was_stuck = machine.store.read_only().is_some();
        self.note_due(node);
        let Some(machine) = &mut self.nodes[node].machine else { return };
        let committed = machine.store.commit();
        for (id, change) in committed.changes {
            self.note_change(node, &id, change);
        }
        if self.lost_power(node) {
            return;
        }
        self.log(|| format!("{node} commits"));
        for input in committed.done {
            self.feed(node, Role::Holder, input);
        }
        self.note_stuck(node, was_stuck);
        self.time_later(node);
        self.tidy_later(node);
    }

    pub(super) fn tidy(&mut self, node: Index) {
        self.disturb(node);
        let Some(machine) = &mut self.nodes[node].machine else { return };
        let (was_stuck, before) = (machine.store.read_only().is_some(), machine.store.moves());
        let next = machine.store.tidy();
        let (news, after) = (machine.store.news(), machine.store.moves());
        if before != after {
            self.log(|| format!("{node} tidies: {after:?} so far"));
            self.noticed.moved(&before, &after);
        }
        if self.lost_power(node) {
            return self.noticed.rare.count(Rare::CutInTidying);
        }
        if let Some(space) = news {
            self.see(&Fact::Told { node, space });
            self.feed(node, Role::Holder, Input::Space(space));
        }
        self.note_stuck(node, was_stuck);
        match next {
            Next::Commit => self.commit_later(node, true),
            Next::Tidy => self.tidy_later(node),
            Next::Rest => self.rest(node),
        }
    }

    fn rest(&mut self, node: Index) {
        let Some(machine) = &mut self.nodes[node].machine else { return };
        if *machine.holder.used_by_account() != machine.store.usage() {
            // Heads that were damaged are gone. That is said with the next group, and one comes
            // every ten minutes, unless the store takes none any more.
            if machine.store.read_only().is_some() {
                return;
            }
            let told = machine.store.commit_nothing();
            told.into_iter().for_each(|input| self.feed(node, Role::Holder, input));
            self.note_stuck(node, false);
            let machine = self.nodes[node].machine.as_ref();
            let is_stuck = machine.is_some_and(|machine| machine.store.read_only().is_some());
            if is_stuck || self.lost_power(node) {
                return;
            }
        }
        let Some(machine) = &self.nodes[node].machine else { return };
        let (counted, usage) = (machine.holder.used_by_account().clone(), machine.store.usage());
        self.see(&Fact::Rests { node, counted: &counted, usage: &usage });
    }

    pub(super) fn find(
        &mut self,
        node: Index,
        ticket: Ticket,
        ids: &[ChunkId],
        heard: Option<Heard>,
    ) {
        let Some(machine) = &self.nodes[node].machine else { return };
        let found = machine.store.find(ids);
        let acked =
            |id: &ChunkId| self.chunks.get(id).is_some_and(|chunk| chunk.acked.contains_key(&node));
        // A look that fails finds nothing either.
        let missing = |id: &&ChunkId| acked(id) && self.nodes[node].lacks(id);
        let not_found = ids.iter().zip(&found).filter(|(_, found)| found.is_none());
        let missing: Vec<ChunkId> = not_found.map(|(id, _)| id).filter(missing).copied().collect();
        for (id, found) in ids.iter().zip(&found).filter(|(_, found)| found.is_some()) {
            self.see(&Fact::Looked { node, id: *id, seen: Seen::of(*found) });
        }
        for id in missing {
            self.see(&Fact::Looked { node, id, seen: Seen::Nothing });
        }
        self.hearing = heard;
        self.feed(node, Role::Holder, Input::ChunksFound { ticket, found });
        self.hearing = None;
    }

    pub(super) fn read(&mut self, node: Index, ticket: Ticket, what: Wanted) {
        let Some(machine) = &mut self.nodes[node].machine else { return };
        let store = &machine.store;
        let id = match what {
            Wanted::Chunk(id) => id,
            Wanted::Heads(id, superseded) => {
                let result = store.read_heads(&id, superseded);
                let newest = match &result {
                    Ok(records) => Some(records.iter().map(HeadRecord::number).max()),
                    Err(StoreError::NotFound) => Some(None),
                    Err(_) => None,
                };
                if let Some(newest) = newest {
                    self.see(&Fact::HeadLooked { node, id, newest });
                }
                return self.feed(node, Role::Holder, Input::HeadsRead { ticket, result });
            }
            Wanted::List(account, after, limit) => {
                let result = store.list(&account, &after, limit as usize);
                return self.feed(node, Role::Holder, Input::ChunksListed { ticket, result });
            }
            Wanted::Query(account, ids) => {
                let result = store.query(&account, &ids);
                return self.feed(node, Role::Holder, Input::ChunksQueried { ticket, result });
            }
            Wanted::Proof(account, id, task, closely) => {
                let (input, begins) = machine.store.prove(ticket, &account, &id, (&task, closely));
                self.commit_later(node, begins);
                return self.feed(node, Role::Holder, input);
            }
        };
        let (input, begins) = machine.store.read(ticket, &id);
        self.commit_later(node, begins);
        if let Input::ChunkRead { result, .. } = &input {
            let seen = match result {
                Ok(_) => Some(Seen::Sound),
                Err(StoreError::NotFound) => Some(Seen::Nothing),
                Err(StoreError::Damaged) => Some(Seen::Damaged),
                Err(_) => None,
            };
            seen.into_iter().for_each(|seen| self.see(&Fact::Looked { node, id, seen }));
        }
        self.feed(node, Role::Holder, input);
    }

    /// What is true of a chunk changed where its bytes are.
    fn note_change(&mut self, node: Index, id: &ChunkId, change: Change) {
        if change == Change::Destroyed && self.chunks.contains_key(id) {
            self.log(|| format!("{node} deletes {id:?}"));
            self.noticed.rare.count(Rare::Deleted);
            let at = self.agenda.now();
            self.see(&Fact::Destroyed { node, id: *id, at });
        }
        let Some(chunk) = self.chunks.get_mut(id) else { return };
        match change {
            Change::Written => drop(chunk.buried.remove(&node)),
            Change::Deleted | Change::Destroyed | Change::WasMissing => {
                chunk.buried.insert(node);
            }
        }
        if change == Change::Destroyed
            && let Some(lease) = chunk.leases.get_mut(&node)
        {
            // What is given to it after that it has under another lease.
            lease.let_go.clear();
        }
    }

    /// The power went in the middle of it.
    fn lost_power(&mut self, node: Index) -> bool {
        let dead = self.nodes[node].disk.is_dead();
        if dead {
            let down = between(&mut self.rng, REBOOT, self.plan.people.downtime);
            self.crash(node, down, Fault::CrashInCommit);
        }
        dead
    }

    /// A store that takes no writes any more is opened again by its user, sooner or later.
    fn note_stuck(&mut self, node: Index, was_stuck: bool) {
        let machine = self.nodes[node].machine.as_ref();
        let why = machine.and_then(|machine| machine.store.read_only().cloned());
        if let Some(why) = why.filter(|_| !was_stuck) {
            self.noticed.read_only(&why);
            let longest = self.plan.shorter(Duration::from_secs(86_400));
            let wait = between(&mut self.rng, Duration::from_secs(60), longest);
            self.agenda.after(wait, Event::Crash { node, down: REBOOT, in_commit: false });
        }
    }

    /// The power goes in the middle of the next group that is written, whenever that is.
    pub(super) fn crash_in_commit(&mut self, node: Index) {
        if self.is_up(node) {
            let calls = self.rng.random_range(0..12);
            self.nodes[node].disk.cut_power_after(calls);
        }
    }

    pub(super) fn start(&mut self, node: Index) {
        if self.nodes[node].presence != Presence::Down {
            return;
        }
        let now = self.agenda.now();
        let report = match self.nodes[node].start(now) {
            Ok(report) => report,
            Err(error) => return self.on_unopened(node, &error),
        };
        if self.lost_power_opening(node) {
            return;
        }
        self.noticed.opened(&report);
        if let Some(why) = report.rebuilt {
            self.log(|| format!("{node} makes its catalogue anew: {why}"));
        }
        self.note_stuck(node, false);
        if !report.ledger_damage.is_empty() {
            let (damage, rebuilt) = (report.ledger_damage.clone(), report.rebuilt);
            self.log(|| format!("{node} finds its ledger damaged: {damage:?}, {rebuilt:?}"));
        }
        self.see(&Fact::Opened { node, report: &report });
        self.log(|| format!("{node} starts"));
        let drift = self.nodes[node].place.clock.drift;
        if drift != 0 {
            self.log(|| format!("the clock of {node} is wrong by {drift} millionths"));
            self.faults.count(Fault::ClockDrift);
        }
        self.look_through(node);
        self.time_later(node);
        self.tidy_later(node);
        self.scrub_later(node, false);
        self.reconnect(|a, b| a == node || b == node);
        self.agenda.after(Duration::from_secs(2), Event::Retry { node });
        self.agenda.after(Duration::from_secs(2), Event::TellHolders { owner: node });
    }

    fn on_unopened(&mut self, node: Index, error: &StoreOpenError) {
        self.log(|| format!("{node} cannot open its store: {error}"));
        self.noticed.rare.count(Rare::Unopened);
        if self.lost_power_opening(node) {
            return;
        }
        if self.calm && self.nodes[node].is_sound() {
            return self.violation(format!("a sound store opens: {node} cannot open its own"));
        }
        let wait = Duration::from_secs(self.rng.random_range(60..=3_600));
        self.agenda.after(wait, Event::Start { node });
    }

    /// Compares what is true of a node's chunks with all that its store has.
    pub(super) fn look_through(&mut self, node: Index) {
        let (missing, risen) = self.missing(node);
        self.see(&Fact::Started { node, missing: &missing, risen: &risen });
        let acked = self.heads.iter().filter(|(_, head)| head.acked.contains_key(&node));
        let acked: Vec<ChunkId> = acked.map(|(id, _)| *id).collect();
        if self.nodes[node].machine.is_some() {
            for id in acked {
                let newest = self.nodes[node].newest_head(&id);
                self.see(&Fact::HeadLooked { node, id, newest });
            }
        }
        let looked = &self.nodes[node];
        let counts = |store: &Store| (store.space(), store.usage().values().sum());
        let Some((space, by_account)) = looked.look(counts) else { return };
        let there = |id: &&ChunkId| looked.seen(id) != Seen::Nothing;
        let found = self.chunks.keys().filter(there).count() as u64;
        self.see(&Fact::Counted { node, space, by_account, found });
    }

    /// The chunks that a node acknowledged and does not have, and those that it deleted and has.
    fn missing(&self, node: Index) -> (Vec<ChunkId>, Vec<ChunkId>) {
        let (mut missing, mut risen) = (Vec::new(), Vec::new());
        let looked = &self.nodes[node];
        if looked.machine.is_none() {
            return (missing, risen);
        }
        for (id, chunk) in &self.chunks {
            if chunk.acked.contains_key(&node) {
                missing.extend((!looked.holds(id)).then_some(*id));
            } else if chunk.buried.contains(&node) {
                risen.extend((looked.seen(id) != Seen::Nothing).then_some(*id));
            }
        }
        (missing, risen)
    }
}
