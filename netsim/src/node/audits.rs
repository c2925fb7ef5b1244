//! What a node's owner knows of its replicas ([`Holdings`]) and of their holders, kept as the
//! daemon's catalogue keeps it: across restarts. The rules are the daemon's own: whose turn it is
//! ([`Turn`]), what is written down ([`Ended`]), and where a holder stands by that ([`standing`]).
//! What asks the holders, and stores again what is short, is in `world/audits.rs` and
//! `world/repair.rs`.

use super::holdings::{Holdings, Which};
use super::words::Replicas;
use quloud::core::audit::{Answered, Question, Sift, Verdict};
use quloud::core::types::{ChunkId, NodeId, StoreEpoch, Time};
use quloud::repo::debt::Debt;
use quloud::repo::evidence::{Held, apart};
use quloud::repo::grace::Uncounted;
use quloud::repo::near::Near;
use quloud::repo::served::{Note as Tried, Served};
use quloud::repo::standing::{AuditRecord, HolderAudited, Loss, Silence, Standing, standing};
use quloud::repo::turn::{Due, Ended, Known, Left, Note, Pace, SAMPLE, Turn, witnesses};
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Questions to one holder that are not all answered.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) sift: Sift,
    /// The one that is on its way.
    pub(crate) question: Question,
    /// The store that acknowledged what is asked for.
    pub(crate) epoch: StoreEpoch,
    pub(crate) answers: u32,
    /// Verdicts that say nothing.
    pub(crate) unsorted: u64,
    pub(crate) why: Why,
    /// When the question was asked.
    pub(crate) since: Time,
    /// What they come to so far.
    pub(crate) found: HolderAudited,
}

/// Why a holder is asked for proofs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// It is its turn.
    Turn,
    /// The user wishes for it.
    Wish,
    /// It did not hand these chunks over.
    Trial,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Audits {
    /// What the holders acknowledged.
    pub(crate) holdings: Holdings,
    records: BTreeMap<NodeId, AuditRecord>,
    debts: BTreeMap<NodeId, Debt>,
    /// By how much the wall clock is wrong, in seconds.
    pub(crate) clock_off_s: i64,
    /// Chunks that are made again, or were tried to be, and since when: not at once another time.
    pub(crate) repairing: BTreeMap<ChunkId, Time>,
    /// How long a question was open, at most.
    pub(crate) longest: Duration,
    /// Bytes that were fetched to make replicas again.
    pub(crate) repair_bytes: u64,
    // Of this life of the process.
    pub(crate) asking: BTreeMap<NodeId, Asking>,
    pub(crate) answered: Answered,
    turns: BTreeMap<NodeId, Turn>,
    /// Whether holders hand over what they prove.
    pub(crate) served: Served,
    /// What is to be proven as soon as that holder is asked for nothing else.
    pub(crate) to_prove: Option<(NodeId, Vec<ChunkId>)>,
    /// The trial of a holder is to go on.
    pub(crate) goes_on: bool,
    /// A look that is not a regular one is due.
    pub(crate) is_due_soon: bool,
    /// The user wishes for an audit of all that each holder has.
    pub(crate) is_wished: bool,
}

impl Asking {
    /// What the holder said nothing about so far.
    fn unanswered(&mut self) -> Vec<ChunkId> {
        let mut ids = self.question.ids.clone();
        ids.extend(self.sift.rest());
        ids
    }
}

impl Audits {
    /// The process ended: questions that were open are asked anew.
    pub(crate) fn restart(&mut self) {
        (self.asking, self.turns) = (BTreeMap::new(), BTreeMap::new());
        self.served = Served::default();
        (self.to_prove, self.goes_on) = (None, false);
        self.answered.forget();
        (self.is_due_soon, self.is_wished) = (false, false);
    }

    /// A holder acknowledged a chunk with this store; whether it is another one than before, with
    /// which what that one had is gone.
    pub(crate) fn on_acked(&mut self, node: NodeId, chunk: ChunkId, epoch: StoreEpoch) -> bool {
        let is_other = self.holdings.on_acked(node, chunk, epoch);
        if is_other {
            self.served.on_store_gone(&node);
        }
        self.served.on_replaced(&node, &chunk);
        is_other
    }

    /// What audits say of all that hold anything.
    pub(crate) fn holding(&self) -> impl Iterator<Item = &AuditRecord> {
        let holds_any = |node: &NodeId| self.holdings.counting_at(node).next().is_some();
        let holding = self.records.iter().filter(move |(node, _)| holds_any(node));
        holding.map(|(_, record)| record)
    }

    /// Of each chunk that anybody ever acknowledged, its replicas. Of holders that share a failure
    /// domain one counts.
    pub(crate) fn replicas(&self, now_s: u64, near: &Near) -> Replicas {
        let mut all: BTreeMap<ChunkId, Vec<(NodeId, Held)>> =
            self.holdings.chunks().map(|chunk| (chunk, Vec::new())).collect();
        for (node, chunk, audited_s) in self.holdings.counting() {
            let counts = self.stands(&node, now_s).0.counts();
            all.entry(chunk)
                .or_default()
                .push((node, Held { counts, is_beside: false, audited_s }));
        }
        all.into_iter().map(|(chunk, replicas)| (chunk, (true, apart(near, replicas)))).collect()
    }

    /// The chunk was let go.
    pub(crate) fn forget(&mut self, chunk: &ChunkId) {
        self.holdings.forget(chunk);
        self.repairing.remove(chunk);
    }

    /// Whether it matters who answers.
    pub(crate) fn is_anybody_silent(&self) -> bool {
        let is_silent = |record: &AuditRecord| record.silence.is_some();
        self.debts.values().any(Debt::is_open) || self.records.values().any(is_silent)
    }

    /// What is due of a holder now, by its process and by the wall, and is asked for.
    pub(crate) fn due(
        &mut self,
        holder: &NodeId,
        (is_connected, is_watched): (bool, bool),
        (pace, now, now_s): (&Pace, Time, u64),
        rng: &mut impl Rng,
    ) -> Vec<ChunkId> {
        let mut debt = self.debts.remove(holder).unwrap_or_default();
        let owed = debt.due(|chunk| self.holdings.counts(holder, chunk));
        self.debts.insert(*holder, debt);
        let record = self.records.get(holder).cloned().unwrap_or_default();
        let (mut has_new, mut holds_any) = (false, false);
        for (_, proven_s) in self.holdings.counting_at(holder) {
            (has_new, holds_any) = (has_new || proven_s.is_none(), true);
        }
        let owes = owed.is_some();
        let known = Known { record: &record, is_connected, owes, has_new, holds_any, is_watched };
        let turn = self.turns.entry(*holder).or_default();
        match turn.due(holder, &known, pace, (now, now_s)) {
            None => Vec::new(),
            Some(Due::Owed) => owed.unwrap_or_default(),
            Some(Due::New) => self.holdings.of(holder, Which::New),
            Some(Due::Day { since_s, now_s }) => {
                let lately = |at_s: u64| (since_s..=now_s).contains(&at_s);
                let its =
                    self.holdings.counting_at(holder).filter(|(_, at_s)| !at_s.is_some_and(lately));
                let mut due: Vec<ChunkId> = its.map(|(chunk, _)| chunk).collect();
                let drawn = self.holdings.drawn(holder, |held| held.div_ceil(SAMPLE), rng);
                due.extend(drawn);
                due.sort_unstable();
                due.dedup();
                due
            }
            Some(Due::Witness) => self.holdings.drawn(holder, |_| 1, rng),
        }
    }

    /// All that each holder has is due.
    pub(crate) fn audit_anew(&mut self) {
        self.is_wished = true;
    }

    /// Those who have to answer before another one's silence counts.
    pub(crate) fn witnesses(&self, now_s: u64) -> BTreeSet<NodeId> {
        let holders = self.holdings.counts_of_all();
        let holders = holders.map(|(node, chunks)| (node, chunks, self.records.get(&node)));
        witnesses(holders, now_s)
    }

    /// Takes a verdict down; whether the replica was lost by it. What does not count any more, or
    /// of which another store speaks by now, is nobody's loss.
    pub(crate) fn take(
        &mut self,
        (holder, epoch): (NodeId, StoreEpoch),
        (chunk, verdict): (ChunkId, Verdict),
        now_s: u64,
    ) -> bool {
        let Some(asking) = self.asking.get_mut(&holder) else { return false };
        if !self.holdings.take((holder, epoch), (chunk, verdict), now_s) {
            return false;
        }
        let found = &mut asking.found.outcome;
        let count = match verdict {
            Verdict::Proven => &mut found.proven,
            Verdict::Unproven => &mut asking.unsorted,
            Verdict::NotHeld => &mut found.missing,
            Verdict::Damaged => &mut found.damaged,
            Verdict::Lied => &mut found.lied,
            Verdict::Released => &mut found.released,
        };
        *count += 1;
        let is_lost = loss(verdict).is_some();
        if is_lost {
            self.served.on_replaced(&holder, &chunk);
        }
        is_lost
    }

    /// An audit of this holder is over, and it fell silent or did not: who was asked by turns owes
    /// what it said nothing of, and rests; who answered for all that a user wished for owes
    /// nothing. Returns whether it paid a debt.
    fn note_debt(
        &mut self,
        asking: &mut Asking,
        unanswered: Vec<ChunkId>,
        (pace, now, is_busy): (&Pace, Time, bool),
    ) -> bool {
        let debt = self.debts.entry(asking.found.node).or_default();
        let was_open = debt.is_open();
        if asking.why == Why::Trial {
            debt.and(unanswered);
        } else if asking.why == Why::Turn {
            let left = Left {
                has_answered: asking.answers > 0,
                owes: !unanswered.is_empty(),
                is_unsorted: asking.unsorted > 0 || asking.found.outcome.lied > 0,
                is_busy,
            };
            let (node, at_s) = (asking.found.node, asking.found.outcome.at_s);
            if self.turns.entry(node).or_default().after(left, pace, now) {
                self.records.entry(node).or_default().day_s = Some(at_s);
            }
            debt.after(unanswered);
        } else if asking.answers > 0 && unanswered.is_empty() {
            debt.after([]);
        }
        was_open && !debt.is_open()
    }

    /// How many chunks a holder owes an answer for.
    pub(crate) fn owed_by(&self, holder: &NodeId) -> usize {
        let Some(mut debt) = self.debts.get(holder).cloned() else { return 0 };
        debt.due(|chunk| self.holdings.counts(holder, chunk)).map_or(0, |owed| owed.len())
    }

    /// An audit of this holder is over, and it fell silent or did not: what it came to stands in
    /// its record. `is_own` tells whether others answered lately. Returns where it stands, and
    /// whether it paid a debt.
    pub(crate) fn end(
        &mut self,
        asking: &mut Asking,
        (is_silent, is_own): (bool, bool),
        rests: (&Pace, Time, bool),
    ) -> (Standing, bool) {
        let unanswered = if is_silent { asking.unanswered() } else { Vec::new() };
        let count = unanswered.len() as u64;
        let has_paid = self.note_debt(asking, unanswered, rests);
        let (node, found) = (asking.found.node, asking.found);
        let ended = Ended {
            answers: asking.answers,
            unanswered: count,
            owes: self.debts.get(&node).map_or(0, Debt::count) as u64,
            was_silent: self.records.get(&node).is_some_and(|record| record.silence.is_some()),
            is_incident: found.outcome.is_incident(),
            is_own,
        };
        let record = self.records.entry(node).or_default();
        // Of who did not hand a chunk over, and says nothing of it either, others tell whether it
        // is silent.
        let is_known = asking.why != Why::Trial || count == 0;
        match ended.note() {
            _ if !is_known => {}
            Note::Audited { silent } => record.on_audited(HolderAudited { silent, ..found }),
            Note::Silent => record.on_silent(found.outcome.at_s),
            Note::Nothing => {}
        }
        (standing(record, found.outcome.at_s), has_paid)
    }

    /// Where a holder stands, and how long it is silent, or withholds.
    pub(crate) fn stands(&self, holder: &NodeId, now_s: u64) -> (Standing, Option<Silence>) {
        let record = self.records.get(holder);
        let silence = record.and_then(|record| record.worst_silence(now_s));
        (record.map_or(Standing::Unknown, |record| standing(record, now_s)), silence)
    }

    /// What audits of a holder came to.
    pub(crate) fn record(&self, holder: &NodeId) -> AuditRecord {
        self.records.get(holder).cloned().unwrap_or_default()
    }

    /// Those who withhold what they prove.
    pub(crate) fn withholding(&self) -> Vec<NodeId> {
        let all = self.records.iter().filter(|(_, record)| record.withheld.is_some());
        all.map(|(node, _)| *node).collect()
    }

    /// What the trial of a holder came to.
    pub(crate) fn note_tried(&mut self, note: Tried) {
        match note {
            Tried::Served(node) | Tried::LetOff(node) => {
                self.records.entry(node).or_default().on_served();
            }
            Tried::Withheld { node, at_s } => {
                self.records.entry(node).or_default().on_withheld(at_s);
            }
        }
    }

    /// Nodes that get nothing more, by what is known of them.
    pub(crate) fn liars(&self, now_s: u64) -> Vec<NodeId> {
        let records = self.records.iter();
        let liars = records.filter(|(_, record)| standing(record, now_s) == Standing::Liar);
        liars.map(|(node, _)| *node).collect()
    }

    /// Of these holders of a chunk that so many shall have, those that answer and never lied:
    /// `None` where those are enough that count by the real rule of grace.
    pub(crate) fn short_of(
        &self,
        (chunk, holders): (&ChunkId, &[NodeId]),
        wanted: usize,
        (now_s, near): (u64, &Near),
    ) -> Option<Vec<NodeId>> {
        let all = self.holdings.holders().len();
        let uncounted = Uncounted::with_grace(self.records.iter(), all, now_s);
        let holders = holders.iter().filter(|holder| self.holdings.counts(holder, chunk));
        let holders: Vec<NodeId> = holders.copied().collect();
        let is_sure = |holder: &NodeId| match self.stands(holder, now_s) {
            (Standing::Liar, _) => false,
            (_, silence) => silence.is_none(),
        };
        let is_short = uncounted.counted(near, &holders).len() < wanted;
        is_short.then(|| holders.into_iter().filter(is_sure).collect())
    }
}

/// Why a replica counts no more after this verdict.
pub(crate) fn loss(verdict: Verdict) -> Option<Loss> {
    match verdict {
        Verdict::Proven | Verdict::Unproven => None,
        Verdict::NotHeld => Some(Loss::Missing),
        Verdict::Released => Some(Loss::Released),
        Verdict::Damaged => Some(Loss::Damaged),
        Verdict::Lied => Some(Loss::Lied),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quloud::repo::grace::ONE_S;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    const DAY_S: u64 = 24 * 3_600;

    /// Nothing is stored, and it rests only where that is said.
    const REST: (&Pace, Time, bool) = (&Pace::USUAL, Time(0), false);

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    fn chunk(number: u8) -> ChunkId {
        ChunkId::from_bytes([number; 32])
    }

    fn epoch(number: u8) -> StoreEpoch {
        StoreEpoch::from_bytes([number; 16])
    }

    /// Three nodes acknowledged a chunk.
    fn three() -> Audits {
        let mut audits = Audits::default();
        for number in 1..=3 {
            audits.on_acked(node(number), chunk(1), epoch(1));
        }
        audits
    }

    fn asking(holder: u8) -> Asking {
        let question = Question { seed: [0; 32], ids: vec![chunk(1)] };
        let found = HolderAudited::begun((node(holder), epoch(1)), 0, 1);
        // All of it is in the question.
        let sift = Sift::new(node(holder), Vec::new());
        let (answers, unsorted, why, since) = (1, 0, Why::Turn, Time(0));
        Asking { sift, question, epoch: epoch(1), answers, unsorted, why, since, found }
    }

    fn judge(audits: &mut Audits, holder: u8, verdict: Verdict, at_s: u64) -> bool {
        audits.asking.insert(node(holder), asking(holder));
        let is_lost = audits.take((node(holder), epoch(1)), (chunk(1), verdict), at_s);
        let mut asking = audits.asking.remove(&node(holder)).unwrap();
        audits.end(&mut asking, (false, true), REST);
        is_lost
    }

    fn short(audits: &Audits, now_s: u64) -> Option<usize> {
        let nodes = [1, 2, 3].map(node);
        audits.short_of((&chunk(1), &nodes), 3, (now_s, &Near::default())).map(|sure| sure.len())
    }

    #[test]
    fn replica_counts_until_it_is_lost_and_again_when_it_is_acknowledged_anew() {
        let mut audits = three();
        assert_eq!(audits.holdings.of(&node(1), Which::New), [chunk(1)]);
        assert!(!judge(&mut audits, 1, Verdict::Proven, 5));
        assert_eq!(audits.holdings.of(&node(1), Which::New), []);
        assert!(
            judge(&mut audits, 1, Verdict::Damaged, 6)
                && !audits.holdings.counts(&node(1), &chunk(1))
        );
        assert_eq!((audits.holdings.lost(Loss::Damaged), short(&audits, 6)), (1, Some(2)));
        audits.on_acked(node(1), chunk(1), epoch(1));
        assert_eq!((audits.holdings.lost(Loss::Damaged), short(&audits, 6)), (0, None));
        assert_eq!(
            audits.holdings.of(&node(1), Which::New),
            [chunk(1)],
            "that copy is another one"
        );
    }

    /// What is due of the first holder then; it is connected, and somebody is silent or not.
    fn due(audits: &mut Audits, hour: u64, is_watched: bool) -> Vec<ChunkId> {
        let now = Time(hour * 3_600_000);
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        audits.due(&node(1), (true, is_watched), (&Pace::USUAL, now, hour * 3_600), &mut rng)
    }

    /// It says nothing of the first chunk.
    fn fall_silent(audits: &mut Audits, holder: u8, at_s: u64) {
        let mut asked = Asking { answers: 0, ..asking(holder) };
        asked.found.outcome.at_s = at_s;
        audits.end(&mut asked, (true, true), REST);
    }

    /// It answered for its part of a day.
    fn have_day(audits: &mut Audits, at_s: u64) {
        audits.records.entry(node(1)).or_default().day_s = Some(at_s);
    }

    #[test]
    fn holder_is_asked_for_what_is_new_then_for_its_part_of_a_day_and_for_one_chunk_to_witness() {
        let mut audits = three();
        audits.on_acked(node(1), chunk(2), epoch(1));
        assert_eq!(due(&mut audits, 1, false), [chunk(1), chunk(2)], "never proven");
        judge(&mut audits, 1, Verdict::Proven, 3_600);
        have_day(&mut audits, 3_600);
        assert_eq!(due(&mut audits, 2, false), [chunk(2)], "not proven yet");
        assert!(audits.holdings.take((node(1), epoch(1)), (chunk(2), Verdict::Proven), 3_600));
        let (first, again) = (due(&mut audits, 26, false), due(&mut audits, 20 * 24, false));
        assert_eq!((first.len(), again.len()), (1, 1), "one of thirty");
        assert_eq!(due(&mut audits, 27 * 24, false), [chunk(1), chunk(2)], "a round later");
        let mut audits = three();
        judge(&mut audits, 1, Verdict::Proven, 3_600);
        have_day(&mut audits, 3_600);
        assert_eq!(due(&mut audits, 2, false), []);
        assert_eq!(due(&mut audits, 2, true), [chunk(1)]);
    }

    #[test]
    fn holder_that_owes_an_answer_is_asked_for_that_alone_until_it_answers() {
        let mut audits = three();
        fall_silent(&mut audits, 1, 0);
        audits.on_acked(node(1), chunk(2), epoch(1));
        assert_eq!(due(&mut audits, 0, true), [], "it rests");
        assert_eq!(due(&mut audits, 1, true), [chunk(1)], "and is not asked for the other");
        assert_eq!((audits.owed_by(&node(1)), audits.owed_by(&node(2))), (1, 0));
        assert!(audits.is_anybody_silent());
        let (stands, has_paid) = audits.end(&mut asking(1), (false, true), REST);
        assert!(has_paid && audits.owed_by(&node(1)) == 0 && stands != Standing::Late);
        assert_eq!(due(&mut audits, 2, false), [chunk(1), chunk(2)]);
        fall_silent(&mut audits, 1, 7_200);
        audits.forget(&chunk(1));
        assert_eq!(due(&mut audits, 4, false), [chunk(2)], "nobody owes what was let go");
    }

    #[test]
    fn who_answers_all_that_a_user_wished_for_owes_nothing() {
        let mut audits = three();
        fall_silent(&mut audits, 1, 0);
        let mut wished = Asking { why: Why::Wish, ..asking(1) };
        assert_eq!(audits.end(&mut wished, (true, true), REST), (Standing::Late, false));
        let mut wished = Asking { why: Why::Wish, ..asking(1) };
        assert_eq!(audits.end(&mut wished, (false, true), REST), (Standing::Unknown, true));
    }

    #[test]
    fn another_store_than_the_one_that_acknowledged_counts_for_nothing() {
        let mut audits = three();
        audits.on_acked(node(1), chunk(2), epoch(2));
        assert!(
            !audits.holdings.counts(&node(1), &chunk(1))
                && audits.holdings.counts(&node(1), &chunk(2))
        );
        assert!(!judge(&mut audits, 1, Verdict::NotHeld, 5), "that is known");
    }

    #[test]
    fn silence_has_a_grace_and_damage_has_none() {
        let mut audits = three();
        let silent = |audits: &mut Audits, holder: u8, days: std::ops::Range<u64>| {
            days.for_each(|day| fall_silent(audits, holder, day * DAY_S));
        };
        silent(&mut audits, 1, 0..7);
        assert_eq!(short(&audits, ONE_S - 1), None);
        assert_eq!(short(&audits, ONE_S), Some(2));
        let mut audits = three();
        silent(&mut audits, 1, 0..2);
        assert_eq!(short(&audits, 100 * ONE_S), None, "a clock alone says nothing");
        silent(&mut audits, 1, 2..3);
        silent(&mut audits, 2, 1..4);
        assert_eq!(short(&audits, 3 * DAY_S), Some(1), "two are silent for a day");
        let mut audits = three();
        judge(&mut audits, 3, Verdict::Lied, 0);
        assert_eq!(short(&audits, 0), Some(2));
    }
}
