//! Audits: each owner's node asks its holders for proofs with the real roles and the real rules,
//! soon after each ack and then regularly, and takes down what comes of it.
//!
//! What a holder is asked for, and when, is for the daemon's own [`Turn`] to say, at a pace at
//! which short worlds see as much as long ones. A look out of turn comes half a minute after a
//! chunk has its quorum. At a user's wish all that each holder has is asked for at once.
//!
//! [`Turn`]: quloud::repo::turn::Turn

use super::{Event, World};
use crate::chance::between;
use crate::node::audits::{Asking, Audits, Why};
use crate::node::device::wall_ns;
use crate::node::holdings::Which;
use crate::node::wishes::Job;
use crate::node::{Index, Node, Role};
use crate::oracle::Fact;
use crate::sometimes::Rare;
use quloud::core::audit::{Sift, Verdict};
use quloud::core::effect::Input;
use quloud::core::message::AuditKind;
use quloud::core::owner::{AccountDone, AccountFailure, AccountJob, AccountWish, OwnerCommand};
use quloud::core::placement;
use quloud::core::types::{ChunkId, NodeId, Ticket};
use quloud::repo::near::Near;
use quloud::repo::standing::{HolderAudited, Standing};
use quloud::repo::turn::Pace;
use std::collections::BTreeSet;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// How often it is looked what is due. The daemon does every 5 s; more seldom than that witnesses
/// would be asked too late for their answers to count.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(600));

/// How soon after an ack its replica is audited.
const SOON: Duration = Duration::from_secs(30);

/// How long a holder that says nothing at all has for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the last audits of a world may take: a holder may say for an hour that it works on one.
const LAST_MAX: Duration = Duration::from_secs(2 * 3_600);

impl World<'_> {
    /// What an owner's clock on the wall shows, in seconds since 1970.
    pub(super) fn wall_s(&self, owner: Index) -> u64 {
        let off_s = self.nodes[owner].audits.clock_off_s;
        let now_s = wall_ns(self.agenda.now().0).div_euclid(1_000_000_000);
        u64::try_from(now_s.saturating_add(off_s)).unwrap_or(0)
    }

    /// A chunk has its quorum, or something was lost: there is a look out of turn.
    pub(super) fn audit_soon(&mut self, owner: Index) {
        if self.plan.audits && !std::mem::replace(&mut self.nodes[owner].audits.is_due_soon, true) {
            self.agenda.after(SOON, Event::Audit { owner, regular: false });
        }
    }

    /// An owner's node looks what is to be audited, and what is to be made again.
    pub(super) fn audit(&mut self, owner: Index, regular: bool) {
        if regular {
            let wait = between(&mut self.rng, LOOK_EVERY.0, LOOK_EVERY.1);
            self.agenda.after(wait, Event::Audit { owner, regular: true });
        }
        if !self.is_up(owner) {
            return;
        }
        self.nodes[owner].audits.is_due_soon = false;
        self.look_at_lots(owner);
        self.repair(owner);
        if std::mem::take(&mut self.nodes[owner].audits.is_wished) {
            return self.audit_wholly(owner);
        }
        let Some(machine) = &self.nodes[owner].machine else { return };
        let connected: BTreeSet<NodeId> = machine.met.iter().map(|peer| self.ids[*peer]).collect();
        // Who hears nobody asks nobody.
        if connected.is_empty() {
            return;
        }
        let (pace, now_s) = (self.pace(), self.wall_s(owner));
        let now = self.nodes[owner].clock_at(self.agenda.now());
        let is_watched = self.nodes[owner].audits.is_anybody_silent();
        for holder in self.nodes[owner].audits.holdings.holders() {
            let audits = &mut self.nodes[owner].audits;
            if audits.asking.contains_key(&holder) {
                continue;
            }
            let is_there = (connected.contains(&holder), is_watched);
            let due = audits.due(&holder, is_there, (&pace, now, now_s), &mut self.rng);
            self.begin_audit(owner, holder, (due, Why::Turn));
        }
    }

    /// How often everything comes. In a short world all is audited as often as in one of a month.
    fn pace(&self) -> Pace {
        let (day, round) = (self.plan.shorter(DAY), self.plan.span / 6);
        Pace { day_s: day.as_secs(), round_s: round.as_secs(), ..Pace::USUAL }
    }

    /// Asks each holder for all that it has.
    fn audit_wholly(&mut self, owner: Index) {
        for holder in self.nodes[owner].audits.holdings.holders() {
            let all = self.nodes[owner].audits.holdings.of(&holder, Which::All);
            self.begin_audit(owner, holder, (all, Why::Wish));
        }
    }

    /// Asks a holder for proofs of these, unless it is being asked.
    pub(super) fn begin_audit(
        &mut self,
        owner: Index,
        holder: NodeId,
        (ids, why): (Vec<ChunkId>, Why),
    ) {
        let at_s = self.wall_s(owner);
        let audits = &mut self.nodes[owner].audits;
        let Some(epoch) = audits.holdings.store_of(&holder).filter(|_| !ids.is_empty()) else {
            return;
        };
        if audits.asking.contains_key(&holder) {
            return;
        }
        let found = HolderAudited::begun((holder, epoch), at_s, ids.len() as u64);
        let mut sift = Sift::new(holder, ids);
        let Some(question) = sift.next(&mut self.rng) else { return };
        let (answers, unsorted, since) = (0, 0, self.agenda.now());
        let asking = Asking { sift, question, epoch, answers, unsorted, why, since, found };
        audits.asking.insert(holder, asking);
        self.ask(owner, holder);
    }

    /// Sends the question that is next.
    fn ask(&mut self, owner: Index, holder: NodeId) {
        let now = self.agenda.now();
        let Node { audits, wishes, .. } = &mut self.nodes[owner];
        let Some(asking) = audits.asking.get(&holder) else { return };
        let (seed, ids) = (asking.question.seed, asking.question.ids.clone());
        let wish = AccountWish::Audit { kind: AuditKind::Compact, seed, ids };
        let ticket = wishes.begin(Job::Audit(holder));
        let deadline = self.nodes[owner].clock_at(now.after(PATIENCE));
        let job = AccountJob { ticket, holder, wish, deadline };
        self.feed(owner, Role::Owner, Input::Command(OwnerCommand::Account(job)));
    }

    /// A holder answered, or did not.
    pub(super) fn on_account(
        &mut self,
        owner: Index,
        (ticket, holder): (Ticket, NodeId),
        outcome: Result<AccountDone, AccountFailure>,
    ) {
        let Node { wishes, .. } = &mut self.nodes[owner];
        let asked = wishes.asked.remove(&ticket);
        match (wishes.end(ticket), asked) {
            (Some(Job::Audit(of)), _) if of == holder => {}
            (Some(Job::Let(of, undo)), Some(asked)) if of == holder => {
                return self.on_let(owner, (holder, undo, asked), outcome);
            }
            _ => return,
        }
        let (keys, now) = (self.nodes[owner].owner_keys.clone(), self.agenda.now());
        let audits = &mut self.nodes[owner].audits;
        if let Some(asking) = audits.asking.get(&holder) {
            audits.longest = audits.longest.max(now.since(asking.since));
        }
        let theirs = self.nodes[owner].audits.holdings.of(&holder, Which::All);
        let Some(asking) = self.nodes[owner].audits.asking.get_mut(&holder) else { return };
        let Asking { sift, question, epoch, answers, found, .. } = asking;
        let all = |verdict| question.ids.iter().map(|id| (*id, verdict)).collect::<Vec<_>>();
        let (verdicts, is_page) = match outcome {
            Ok(AccountDone::Audited { epoch: speaks, audited, moved, .. }) if speaks == *epoch => {
                found.bytes_moved += moved;
                (sift.judge(&keys.tag_key, question, &audited), true)
            }
            // What another store has, the one that acknowledged has not, whatever was asked for.
            Ok(_) => (theirs.into_iter().map(|id| (id, Verdict::NotHeld)).collect(), false),
            Err(AccountFailure::NoAccount) => (all(Verdict::NotHeld), true),
            Err(why) => {
                self.log(|| format!("{owner} hears nothing of an audit: {why:?}"));
                return self.end_audit(owner, holder, true);
            }
        };
        *answers += 1;
        let epoch = *epoch;
        self.take_verdicts(owner, (holder, epoch), verdicts, is_page);
        self.go_on(owner, holder);
    }

    fn take_verdicts(
        &mut self,
        owner: Index,
        (holder, epoch): (NodeId, quloud::core::types::StoreEpoch),
        verdicts: Vec<(ChunkId, Verdict)>,
        is_page: bool,
    ) {
        let now_s = self.wall_s(owner);
        for (id, verdict) in verdicts {
            if is_page {
                self.see(&Fact::Audited { owner, holder, epoch, id, verdict });
            }
            let Node { audits, wishes, .. } = &mut self.nodes[owner];
            if verdict == Verdict::Proven {
                self.noticed.rare.count(Rare::Proven);
            }
            if !audits.take((holder, epoch), (id, verdict), now_s) {
                continue;
            }
            let puts = [&mut wishes.puts, &mut wishes.dropped];
            let put = puts.into_iter().find_map(|puts| puts.get_mut(&id));
            put.into_iter().for_each(|put| put.acked.retain(|node| *node != holder));
            self.noticed.lost_replica(verdict);
            self.log(|| format!("{owner} counts {id:?} at {holder:?} no more: {verdict:?}"));
            self.take_words_back(owner);
            self.audit_soon(owner);
        }
    }

    fn go_on(&mut self, owner: Index, holder: NodeId) {
        let now = self.agenda.now();
        let Some(asking) = self.nodes[owner].audits.asking.get_mut(&holder) else { return };
        match asking.sift.next(&mut self.rng) {
            Some(question) => {
                (asking.question, asking.since) = (question, now);
                self.ask(owner, holder);
            }
            None => self.end_audit(owner, holder, false),
        }
    }

    /// Where whoever meets a node sees it.
    fn seen_at(&self, id: &NodeId) -> placement::Standing {
        let mut standing = placement::Standing::default();
        standing.observe(self.nodes[self.indices[id]].place.reach);
        standing
    }

    /// Which of its holders an owner sees in one failure domain.
    pub(super) fn near(&self, owner: Index) -> Near {
        let holders = self.nodes[owner].audits.holdings.holders().into_iter();
        let holders = holders.map(|id| (id, self.seen_at(&id))).collect();
        placement::together(&holders, self.plan.people.domains).collect()
    }

    /// Whose silence is its own is noted.
    fn end_audit(&mut self, owner: Index, holder: NodeId, is_silent: bool) {
        let (now_s, shows) = (self.wall_s(owner), self.nodes[owner].clock_at(self.agenda.now()));
        let mut holders = self.nodes[owner].audits.witnesses(now_s);
        holders.insert(holder);
        let (pace, is_busy) = (self.pace(), self.nodes[owner].wishes.putting().next().is_some());
        let holders: Vec<(NodeId, placement::Standing)> =
            holders.into_iter().map(|id| (id, self.seen_at(&id))).collect();
        let met = self.nodes[owner].machine.as_ref().map(|machine| &machine.met);
        let others = met.is_some_and(|met| met.iter().any(|peer| self.ids[*peer] != holder));
        let audits = &mut self.nodes[owner].audits;
        let Some(mut asking) = audits.asking.remove(&holder) else { return };
        if asking.answers > 0 {
            audits.answered.add(holder, shows);
        }
        let holders = holders.iter().map(|(id, standing)| (*id, standing));
        let is_own = audits.answered.speak_against(shows, &holder, holders, others);
        if is_silent {
            let rare = if is_own { Rare::AuditMissed } else { Rare::SilenceExcused };
            self.noticed.rare.count(rare);
        }
        let rests = (&pace, shows, is_busy);
        let did_count = audits.stands(&holder, asking.found.outcome.at_s).0.counts();
        let (standing, has_paid) = audits.end(&mut asking, (is_silent, is_own), rests);
        if did_count && !standing.counts() {
            self.take_words_back(owner);
        }
        self.see(&Fact::Stands { owner, holder, standing });
        self.look_at_lots(owner);
        if has_paid {
            // Nothing else was asked of it meanwhile.
            self.audit_soon(owner);
        }
        if asking.why == Why::Trial {
            self.try_on_soon(owner);
        }
        self.prove_tried(owner, holder);
    }

    /// All owners audit all holders, as at a user's wish, and what is gone is known after it.
    pub(super) fn audit_all(&mut self) {
        // Who is being asked for something is asked for all of it after that.
        self.run_until_heard();
        for owner in 0..self.plan.use_.owners {
            if self.is_up(owner) && self.plan.audits {
                self.audit_wholly(owner);
            }
        }
        self.run_until_heard();
        for owner in 0..self.plan.use_.owners {
            self.expect_found(owner);
        }
    }

    fn run_until_heard(&mut self) {
        let end = self.agenda.now().after(LAST_MAX);
        let is_asking =
            |world: &World<'_>| world.nodes.iter().any(|node| !node.audits.asking.is_empty());
        self.run_until(end, |world| !is_asking(world));
    }

    /// What an honest holder that answered has not is counted no more.
    fn expect_found(&mut self, owner: Index) {
        let at_s = self.wall_s(owner);
        let audits: &Audits = &self.nodes[owner].audits;
        let gone = audits.holdings.counting().find_map(|(holder, chunk, proven_s)| {
            let node = *self.indices.get(&holder)?;
            let looked = &self.nodes[node];
            let answered = audits.stands(&holder, at_s).1.is_none() && looked.is_honest();
            // What was acknowledged since was not asked for.
            let is_gone = self.is_up(node) && looked.lacks(&chunk);
            (answered && proven_s.is_some() && is_gone).then_some((node, chunk))
        });
        if let Some((node, chunk)) = gone
            && self.violations.is_empty()
        {
            self.violation(format!(
                "what is gone is found by the next audit: {owner} counts {chunk:?} at {node}"
            ));
        }
    }

    /// Replicas that an owner's audits lost for these reasons, and that were not made again.
    pub(crate) fn lost_by(&self, owner: Index, why: quloud::repo::standing::Loss) -> usize {
        self.nodes[owner].audits.holdings.lost(why)
    }

    /// Replicas that an owner counts, and of these, those that an audit proved.
    pub(crate) fn counted(&self, owner: Index) -> (usize, usize) {
        let counting = self.nodes[owner].audits.holdings.counting();
        let (all, proven): (Vec<_>, Vec<_>) =
            counting.map(|(.., proven_s)| ((), proven_s.is_some())).unzip();
        (all.len(), proven.into_iter().filter(|proven| *proven).count())
    }

    /// Where a holder stands with an owner.
    pub(crate) fn stands(&self, owner: Index, holder: Index) -> Standing {
        self.nodes[owner].audits.stands(&self.ids[holder], self.wall_s(owner)).0
    }

    /// Chunks that a holder owes an owner an answer for.
    pub(crate) fn owed(&self, owner: Index, holder: Index) -> usize {
        self.nodes[owner].audits.owed_by(&self.ids[holder])
    }

    /// How long a question of an owner was open, at most.
    pub(crate) fn longest_question(&self, owner: Index) -> Duration {
        self.nodes[owner].audits.longest
    }

    /// Chunks that a node acknowledged and has not.
    pub(crate) fn acked_in_vain(&self, node: Index) -> usize {
        let acked = self.chunks.iter().filter(|(_, chunk)| chunk.acked.contains_key(&node));
        acked.filter(|(id, _)| !self.nodes[node].holds(id)).count()
    }

    /// Replicas of a holder that an owner counts and no audit proved.
    pub(crate) fn unproven_at(&self, owner: Index, holder: Index) -> usize {
        self.nodes[owner].audits.holdings.of(&self.ids[holder], Which::New).len()
    }

    /// Of all chunks of an owner, the fewest replicas that count, at holders that did not lie.
    pub(crate) fn fewest_counted(&self, owner: Index) -> usize {
        let now_s = self.wall_s(owner);
        let Node { wishes, audits, .. } = &self.nodes[owner];
        let liars = audits.liars(now_s);
        let counted =
            |id: &ChunkId, node: &NodeId| audits.holdings.counts(node, id) && !liars.contains(node);
        let puts = wishes.puts.iter();
        let each = puts.map(|(id, put)| put.acked.iter().filter(|node| counted(id, node)).count());
        each.min().unwrap_or(0)
    }

    /// Bytes that an owner fetched to make replicas again.
    pub(crate) fn repair_bytes(&self, owner: Index) -> u64 {
        self.nodes[owner].audits.repair_bytes
    }
}
