//! One look: who is due is tried, one holder after the other, and where one says nothing others
//! are asked; then it is seen who is let off, and what counts as a miss.
//!
//! ```text
//! draw ─▶ draw of all that is named ─▶ each holder ─▶ let off ─▶ count
//!                                       │     ▲
//!                    requests ─▶ proofs ┘     └ witnesses, and it once more
//! ```

use super::owed::Owed;
use super::tried::{Came, Tried, is_fast};
use super::{Breadth, Known, Moment, Note, Served, Step, withholds};
use crate::core::types::{ChunkId, NodeId, Time};
use crate::repo::reference::ChunkRef;
use crate::repo::standing::{Standing, standing};
use rand::Rng;
use rand::seq::SliceRandom;
use std::collections::{BTreeMap, VecDeque};

/// After so many that did not come, no more are asked for.
const REFUSALS_MAX: usize = 2;

/// So many others are asked whether this machine's line is to blame.
const WITNESSES: usize = 2;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Look {
    stage: Stage,
    /// Those who are still to be tried, and for how many fresh chunks.
    due: BTreeMap<NodeId, usize>,
    /// What was drawn of what they have.
    runs: BTreeMap<NodeId, Vec<ChunkRef>>,
    /// Whoever is asked whether the line is to blame for a holder that said nothing.
    witnesses: Option<Witnesses>,
    /// What is to be written down before anything else.
    notes: VecDeque<Note>,
    /// Whose miss is being written down.
    writing: Option<NodeId>,
    /// The answer to the last draw.
    pub(super) drawn: Option<(BTreeMap<NodeId, Vec<ChunkRef>>, bool)>,
    /// The answer to the last request.
    pub(super) came: Option<(Came, usize, Time)>,
}

/// How far it is.
#[derive(Debug)]
enum Stage {
    Draw,
    Drawn,
    /// These withhold, and had nothing of what was drawn.
    DrawnOfAll(BTreeMap<NodeId, usize>),
    /// Nobody is being tried.
    Next,
    Trial(Trial),
    /// All requests to a holder are over, and so are the proofs.
    Judge(Judged),
    LetOff,
    Count,
    Over,
}

/// Requests to one holder.
#[derive(Debug)]
struct Trial {
    tried: Tried,
    /// What it is to be asked for, and whether it owes that.
    left: VecDeque<(ChunkRef, bool)>,
    /// What it is being asked for, and since when.
    open: Option<(ChunkRef, bool, Time)>,
    whose: Whose,
    /// See [`Owed::has_hung_up`].
    has_hung_up: bool,
}

/// Why a holder is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// It is its turn.
    Turn,
    /// To see whether the line is to blame for what this one did not say.
    WitnessOf(NodeId),
    /// The line was good a moment ago. What is silent then is not the line.
    Again,
}

/// What a trial came to.
#[derive(Debug)]
struct Judged {
    holder: NodeId,
    whose: Whose,
    asked_s: u64,
    is_mute: bool,
    has_all: bool,
    /// It withheld something before.
    is_withheld: bool,
    /// See [`Owed::has_hung_up`].
    has_hung_up: bool,
    /// By what it handed over the line is not to blame for the holder that it is a witness of.
    is_line_good: bool,
    refused: Vec<ChunkRef>,
    /// What it owes besides.
    kept: Vec<ChunkRef>,
}

/// Those who are asked right after a holder that said nothing.
#[derive(Debug)]
struct Witnesses {
    holder: NodeId,
    /// So many more may be asked.
    left: usize,
    round: Round,
    asks: VecDeque<(NodeId, ChunkRef)>,
}

/// What witnesses are asked for next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// The same chunks.
    Same,
    /// Something else, which is to be drawn,
    Others,
    /// and now is.
    Drawn,
    Over,
}

impl Look {
    /// These are due, each for so many fresh chunks.
    pub(super) fn new(due: BTreeMap<NodeId, usize>) -> Self {
        Self {
            stage: Stage::Draw,
            due,
            runs: BTreeMap::new(),
            witnesses: None,
            notes: VecDeque::new(),
            writing: None,
            drawn: None,
            came: None,
        }
    }

    fn take_drawn(&mut self) -> (BTreeMap<NodeId, Vec<ChunkRef>>, bool) {
        self.drawn.take().unwrap_or_default()
    }

    fn draw(&mut self, most: BTreeMap<NodeId, usize>, of: Breadth) -> Option<Step> {
        self.drawn = None;
        Some(Step::Draw { most, of })
    }
}

impl Trial {
    fn new(
        (holder, asked_s): (NodeId, u64),
        (owed, fresh): (Vec<ChunkRef>, Vec<ChunkRef>),
        whose: Whose,
    ) -> Self {
        let owed = owed.into_iter().map(|chunk| (chunk, true));
        let left = owed.chain(fresh.into_iter().map(|chunk| (chunk, false))).collect();
        let (open, has_hung_up) = (None, false);
        Self { tried: Tried::begun(holder, asked_s), left, open, whose, has_hung_up }
    }

    fn note(&mut self, chunk: ChunkRef, is_owed: bool, came: Came) {
        let list = if is_owed { &mut self.tried.owed } else { &mut self.tried.fresh };
        list.push((chunk, came));
    }

    /// Takes down what came of the request that is open.
    fn close(&mut self, (came, bytes, at): (Came, usize, Time)) {
        let Some((chunk, is_owed, since)) = self.open.take() else { return };
        if came == Came::Whole {
            self.tried.handed.push((chunk.id, is_fast(bytes, at.since(since))));
        }
        self.note(chunk, is_owed, came);
    }
}

impl Served {
    /// Goes on until something is to be done.
    pub(super) fn step<K: Known>(
        &mut self,
        look: &mut Look,
        at: &Moment<'_, K>,
        rng: &mut impl Rng,
    ) -> Option<Step> {
        loop {
            // A look that goes on has written what it was told to.
            if let Some(owed) = look.writing.take().and_then(|holder| self.owed.get_mut(&holder)) {
                owed.is_counted = true;
            }
            if let Some(note) = look.notes.pop_front() {
                if let Note::Withheld { node, .. } = note {
                    look.writing = Some(node);
                }
                return Some(Step::Write(note));
            }
            let step = match std::mem::replace(&mut look.stage, Stage::Next) {
                Stage::Draw if look.due.is_empty() => {
                    look.stage = Stage::LetOff;
                    None
                }
                Stage::Draw => {
                    look.stage = Stage::Drawn;
                    look.draw(look.due.clone(), Breadth::Some)
                }
                Stage::Drawn => self.draw_of_all(look, at),
                Stage::DrawnOfAll(without) => {
                    self.pass_over_idle(look, without, at);
                    None
                }
                Stage::Next => self.go_on(look, at, rng),
                Stage::Trial(trial) => self.ask(look, trial, at),
                Stage::Judge(judged) => {
                    self.judge(look, judged, at);
                    None
                }
                Stage::LetOff => {
                    let all = at.known.withholding().into_iter();
                    let idle = all.filter(|node| at.known.held(node) == 0).collect();
                    self.let_off(look, idle, at);
                    look.stage = Stage::Count;
                    None
                }
                Stage::Count => {
                    self.count_misses(look, at);
                    look.stage = Stage::Over;
                    None
                }
                Stage::Over => return None,
            };
            if step.is_some() {
                return step;
            }
        }
    }

    /// Draws from all that is named for those who withhold and have nothing of what chance drew.
    fn draw_of_all<K: Known>(&self, look: &mut Look, at: &Moment<'_, K>) -> Option<Step> {
        look.runs = look.take_drawn().0;
        let without = look.due.iter().filter(|(holder, _)| {
            let has_none = !look.runs.contains_key(*holder) && self.owed_by(holder) == 0;
            has_none && withholds(at.known, holder)
        });
        let without: BTreeMap<NodeId, usize> = without.map(|(node, most)| (*node, *most)).collect();
        if without.is_empty() {
            return None;
        }
        look.stage = Stage::DrawnOfAll(without.clone());
        look.draw(without, Breadth::All)
    }

    /// Those who have nothing of all that is named cannot make up for anything: they are let off,
    /// and asked for nothing.
    fn pass_over_idle<K: Known>(
        &mut self,
        look: &mut Look,
        without: BTreeMap<NodeId, usize>,
        at: &Moment<'_, K>,
    ) {
        let (drawn, is_all) = look.take_drawn();
        let idle = without.into_keys().filter(|holder| is_all && !drawn.contains_key(holder));
        let idle: Vec<NodeId> = idle.collect();
        look.runs.extend(drawn);
        look.due.retain(|holder, _| !idle.contains(holder));
        self.let_off(look, idle, at);
    }

    /// These withhold nothing any more.
    fn let_off<K: Known>(&mut self, look: &mut Look, holders: Vec<NodeId>, at: &Moment<'_, K>) {
        // While it is not known yet who has what, nobody has nothing.
        if !at.known.is_complete() {
            return;
        }
        for holder in holders {
            self.owed.remove(&holder);
            look.notes.push_back(Note::LetOff(holder));
        }
    }

    /// Nobody is being tried: a witness comes next, or the next holder.
    fn go_on<K: Known>(
        &mut self,
        look: &mut Look,
        at: &Moment<'_, K>,
        rng: &mut impl Rng,
    ) -> Option<Step> {
        if let Some(witnesses) = look.witnesses.take() {
            return self.ask_witness(look, witnesses, at, rng);
        }
        let Some((holder, _)) = look.due.pop_first() else {
            look.stage = Stage::LetOff;
            return None;
        };
        let fresh = look.runs.remove(&holder).unwrap_or_default();
        if at.known.is_connected(&holder) {
            let owed = self.owed.remove(&holder);
            let has_hung_up = owed.as_ref().is_some_and(|owed| owed.has_hung_up);
            let owed = owed.map(|owed| owed.chunks).unwrap_or_default();
            let trial = Trial::new((holder, at.now_s), (owed, fresh), Whose::Turn);
            look.stage = Stage::Trial(Trial { has_hung_up, ..trial });
        }
        None
    }

    /// Asks one holder for what it owes, and for something fresh, one chunk after the other; and at
    /// last for proofs of what did not come.
    fn ask<K: Known>(
        &mut self,
        look: &mut Look,
        mut trial: Trial,
        at: &Moment<'_, K>,
    ) -> Option<Step> {
        trial.close(look.came.take().unwrap_or((Came::NotAsked, 0, at.now)));
        let holder = trial.tried.holder;
        while let Some((chunk, is_owed)) = trial.left.pop_front() {
            // Its replica has to count.
            let may = trial.tried.refusals() < REFUSALS_MAX && at.known.may_try();
            let epoch = at.known.replica(&holder, &chunk.id).filter(|_| may);
            let Some(epoch) = epoch else {
                trial.note(chunk, is_owed, Came::NotAsked);
                continue;
            };
            self.asked.ask((holder, epoch), chunk.id);
            let step = Step::Fetch { holder, chunk: chunk.duplicate() };
            trial.open = Some((chunk, is_owed, at.now));
            look.stage = Stage::Trial(trial);
            return Some(step);
        }
        let Trial { tried, whose, has_hung_up, .. } = trial;
        let is_line_good = match whose {
            Whose::WitnessOf(of) => {
                self.owed.get(&of).is_some_and(|owed| owed.is_line_good(&tried.handed))
            }
            Whose::Turn | Whose::Again => false,
        };
        let (asked_s, is_mute, has_all) = (tried.asked_s, tried.is_mute(), tried.has_all());
        let is_withheld = withholds(at.known, &holder);
        let (refused, kept) = tried.not_handed_over();
        let chunks: Vec<ChunkId> = refused.iter().map(|chunk| chunk.id).collect();
        look.stage = Stage::Judge(Judged {
            holder,
            whose,
            asked_s,
            is_mute,
            has_all,
            is_withheld,
            has_hung_up,
            is_line_good,
            refused,
            kept,
        });
        (!chunks.is_empty()).then_some(Step::Prove { holder, chunks })
    }

    /// Takes down what came of it.
    fn judge<K: Known>(&mut self, look: &mut Look, judged: Judged, at: &Moment<'_, K>) {
        let (holder, whose, is_line_good) = (judged.holder, judged.whose, judged.is_line_good);
        if judged.refused.is_empty() && judged.is_withheld && judged.has_all {
            self.asked.keep(&holder, &[]);
            look.notes.push_back(Note::Served(holder));
        } else {
            self.take(judged, at);
        }
        match whose {
            Whose::Turn => look.witnesses = Some(Witnesses::of(holder)),
            Whose::WitnessOf(of) if is_line_good => {
                look.witnesses = None;
                self.ask_again(look, of, at);
            }
            Whose::WitnessOf(_) => {}
            Whose::Again => {
                if let Some(owed) = self.owed.get_mut(&holder) {
                    owed.is_vouched = owed.lacks_witness();
                }
            }
        }
    }

    /// Asks a holder that said nothing once more. Who is gone hears no question: a connection that
    /// broke once is nobody's fault.
    fn ask_again<K: Known>(&mut self, look: &mut Look, holder: NodeId, at: &Moment<'_, K>) {
        if at.known.is_connected(&holder) {
            if let Some(owed) = self.owed.remove(&holder) {
                let all = (owed.chunks, Vec::new());
                look.stage = Stage::Trial(Trial::new((holder, at.now_s), all, Whose::Again));
            }
        } else if let Some(owed) = self.owed.get_mut(&holder) {
            (owed.is_vouched, owed.has_hung_up) = (owed.has_hung_up, true);
        }
    }

    /// What it owes now.
    fn take<K: Known>(&mut self, judged: Judged, at: &Moment<'_, K>) {
        let Judged { holder, asked_s, is_mute, is_withheld, refused: chunks, kept, .. } = judged;
        let has_hung_up = judged.has_hung_up && !chunks.is_empty();
        let refused = chunks.iter().map(|chunk| chunk.id).collect();
        let chunks = chunks.into_iter().chain(kept).collect();
        let (is_vouched, is_counted) = (false, false);
        let next = at.now.after(at.pace.owed_every);
        let mut owed =
            Owed { chunks, refused, asked_s, is_mute, is_vouched, has_hung_up, is_counted, next };
        owed.forget_replaced(&self.asked, at.known, &holder);
        self.asked.keep(&holder, &owed.chunks);
        // Where there is nothing to ask for, one who withholds is not drawn at each look.
        if !owed.chunks.is_empty() || is_withheld {
            self.owed.insert(holder, owed);
        }
    }

    /// Where a holder said nothing in time, asks others, first for what it did not hand over.
    fn ask_witness<K: Known>(
        &mut self,
        look: &mut Look,
        mut witnesses: Witnesses,
        at: &Moment<'_, K>,
        rng: &mut impl Rng,
    ) -> Option<Step> {
        let holder = witnesses.holder;
        if witnesses.left == 0 || !self.lacks_witness(&holder) {
            return None;
        }
        let mut step = None;
        if let Some((witness, chunk)) = witnesses.asks.pop_front() {
            if !at.known.may_try() {
                return None;
            }
            witnesses.left -= 1;
            let (whose, all) = (Whose::WitnessOf(holder), (Vec::new(), vec![chunk]));
            look.stage = Stage::Trial(Trial::new((witness, at.now_s), all, whose));
        } else {
            (step, witnesses.round) = match witnesses.round {
                Round::Same => {
                    witnesses.asks = self.same_elsewhere(&holder, at, rng);
                    (None, Round::Others)
                }
                Round::Others => {
                    let others = self.witnesses(&holder, at, rng).into_iter().take(witnesses.left);
                    let others: BTreeMap<NodeId, usize> = others.map(|node| (node, 1)).collect();
                    if others.is_empty() {
                        return None;
                    }
                    (look.draw(others, Breadth::Some), Round::Drawn)
                }
                Round::Drawn => {
                    let runs = look.take_drawn().0.into_iter();
                    let asks =
                        runs.flat_map(|(node, run)| run.into_iter().map(move |at| (node, at)));
                    witnesses.asks = asks.collect();
                    (None, Round::Over)
                }
                Round::Over => return None,
            };
        }
        look.witnesses = Some(witnesses);
        step
    }

    /// Those who are there, but for this holder and those who owe something themselves, in any
    /// order.
    fn witnesses<K: Known>(
        &self,
        holder: &NodeId,
        at: &Moment<'_, K>,
        rng: &mut impl Rng,
    ) -> Vec<NodeId> {
        let is_one = |node: &NodeId| {
            node != holder
                && at.known.is_connected(node)
                && !self.owed.contains_key(node)
                && standing(&at.known.record(node), at.now_s) != Standing::Liar
                && at.known.held(node) > 0
        };
        let mut all: Vec<NodeId> = at.known.holders().into_iter().filter(is_one).collect();
        all.shuffle(rng);
        all
    }

    /// What it did not hand over, at those who have it too: each of them once.
    fn same_elsewhere<K: Known>(
        &self,
        holder: &NodeId,
        at: &Moment<'_, K>,
        rng: &mut impl Rng,
    ) -> VecDeque<(NodeId, ChunkRef)> {
        let Some(owed) = self.owed.get(holder) else { return VecDeque::new() };
        let asks = self.witnesses(holder, at, rng).into_iter().filter_map(|witness| {
            let mut refused = owed.chunks.iter().filter(|chunk| owed.refused.contains(&chunk.id));
            let same = refused.find(|chunk| at.known.replica(&witness, &chunk.id).is_some());
            same.map(|chunk| (witness, chunk.duplicate()))
        });
        asks.collect()
    }

    /// Writes down who showed that it has what it did not hand over.
    fn count_misses<K: Known>(&mut self, look: &mut Look, at: &Moment<'_, K>) {
        for (holder, owed) in &mut self.owed {
            owed.forget_replaced(&self.asked, at.known, holder);
            if owed.is_miss(at.known, holder, at.now_s) {
                look.notes.push_back(Note::Withheld { node: *holder, at_s: at.now_s });
            }
        }
    }
}

impl Witnesses {
    fn of(holder: NodeId) -> Self {
        Self { holder, left: WITNESSES, round: Round::Same, asks: VecDeque::new() }
    }
}
