//! Audits: an owner asks for a proof that its chunks are here.
//!
//! ```text
//! AccountRequest ─▶ MAC, bounds ─▶ waits ─▶ worked on: 2 ProveChunk at a time ─▶ AccountAnswer
//!                                   └─────── Working, every 5 s ───────┘
//! ```
//! Nothing is read before the MAC holds: [`account`](super::account) sees to that. An audit reads
//! up to 4,096 chunks, so there is one of a peer at a time and two in all; others wait in the order
//! in which they came. An account has so many chunks audited in a time and no more: who proves to
//! be the owner may still not keep the disk busy for ever.
//!
//! What the store is too busy to look at is asked for again after a pause, and the audit is put off
//! where that does not end. An audit ends with its peer: nobody would hear the answer. Chunks that
//! are being proven then come back for nobody, and until they do no others begin in their place.
//!
//! # Bounds
//! [`HolderLimits`](super::HolderLimits). An audit that waits has 32 bytes for each chunk; one that
//! is worked on has 12 more, its sums (4 KiB), or a MAC for each chunk (about 50 bytes). With 4,096
//! chunks that is 128 KiB and 400 KiB at most.

use super::HolderRole;
use super::bounds::Budget;
use crate::core::codec::Reject;
use crate::core::effect::{Effect, ProvenChunk, Unproven};
use crate::core::message::{
    AccountAnswer, AccountPage, AccountRefusal, AccountRequest, AuditKind, AuditState, Audited,
    AuditedChunk, KeptChunks, StreamMessage,
};
use crate::core::types::{ChunkId, NodeId, Ticket, Time};
use crate::crypto::audit::{Challenge, MacKey, Piece, Proof, Task};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How often an owner is told that its audit is not forgotten.
const WORKING_EVERY: Duration = Duration::from_secs(5);

/// How long a busy store is left alone.
const BUSY_PAUSE: Duration = Duration::from_millis(500);

/// How long a store may be busy, with nothing proven in between, until the audit is put off.
const BUSY_MAX: Duration = Duration::from_secs(60);

/// All audits that are not answered yet.
#[derive(Debug)]
pub(super) struct Audits {
    /// Counts those that wait and those that are worked on.
    open: Budget,
    /// In the order in which they came.
    waiting: VecDeque<Order>,
    /// By their numbers.
    working: BTreeMap<u64, Work>,
    /// Chunks that are being proven: for which audit, which may be over, and at which place.
    proving: BTreeMap<Ticket, (u64, usize)>,
    working_max: usize,
    proving_max: usize,
}

/// What was asked for.
#[derive(Debug)]
struct Order {
    from: NodeId,
    /// Without its ids.
    asked: AccountRequest,
    kind: AuditKind,
    ids: Vec<ChunkId>,
    /// When the owner heard of it last, or asked.
    spoke: Time,
}

/// An audit that is worked on.
#[derive(Debug)]
struct Work {
    order: Order,
    task: Task,
    /// As far as they are known: the others are not held.
    chunks: Vec<AuditedChunk>,
    /// How many are known.
    known: usize,
    sum: Proof,
    /// By the place of the chunk.
    macs: BTreeMap<usize, [u8; 32]>,
    /// The place of the first that was not asked for yet.
    next: usize,
    /// Places of those that the store was too busy for.
    again: Vec<usize>,
    /// Places of those that the disk did not read: tried again after all others.
    unread: VecDeque<usize>,
    /// The disk did read one.
    reads: bool,
    /// Chunks that are being proven.
    proving: usize,
    /// The store is left alone until then.
    paused: Option<Time>,
    /// Since when it has said nothing but that it is busy.
    stuck: Option<Time>,
}

impl Audits {
    pub(super) fn new(limits: &super::HolderLimits) -> Self {
        Self {
            open: Budget::new(limits.audits_open_per_peer, limits.audits_open),
            waiting: VecDeque::new(),
            working: BTreeMap::new(),
            proving: BTreeMap::new(),
            working_max: limits.audits_working,
            proving_max: limits.proving_per_audit,
        }
    }

    /// Those that wait and those that are worked on.
    pub(super) fn open(&self) -> u64 {
        self.open.total()
    }

    /// Chunks that are being proven.
    pub(super) fn proving(&self) -> usize {
        self.proving.len()
    }

    /// When something is to be said or done next.
    pub(super) fn next_timeout(&self) -> Option<Time> {
        let speak = |order: &Order| order.spoke.after(WORKING_EVERY);
        let orders = self.waiting.iter().chain(self.working.values().map(|work| &work.order));
        let paused = self.working.values().filter_map(|work| work.paused);
        orders.map(speak).chain(paused).min()
    }

    /// The one that begins next, where one may: the first whose peer has none that is worked on.
    fn take_next(&mut self) -> Option<Order> {
        if self.working.len() >= self.working_max {
            return None;
        }
        let is_free =
            |order: &Order| self.working.values().all(|work| work.order.from != order.from);
        let at = self.waiting.iter().position(is_free)?;
        self.waiting.remove(at)
    }

    /// A chunk that may be proven now: of which audit, and at which place.
    fn next_chunk(&mut self, now: Time) -> Option<(u64, usize)> {
        if self.proving.len() >= self.working_max.saturating_mul(self.proving_max) {
            return None;
        }
        let max = self.proving_max;
        self.working.iter_mut().find_map(|(number, work)| Some((*number, work.next(now, max)?)))
    }
}

impl Order {
    /// Whether it is time to say that it is not forgotten; it is said then.
    fn is_to_speak(&mut self, now: Time) -> bool {
        let due = self.spoke.after(WORKING_EVERY) <= now;
        if due {
            self.spoke = now;
        }
        due
    }
}

impl Work {
    fn new(order: Order, task: Task) -> Self {
        let unknown = AuditedChunk { state: AuditState::NotHeld, blocks: 0 };
        Self {
            chunks: vec![unknown; order.ids.len()],
            order,
            task,
            known: 0,
            sum: Proof::zero(),
            macs: BTreeMap::new(),
            next: 0,
            again: Vec::new(),
            unread: VecDeque::new(),
            reads: false,
            proving: 0,
            paused: None,
            stuck: None,
        }
    }

    /// The place of a chunk that may be proven now.
    fn next(&mut self, now: Time, proving_max: usize) -> Option<usize> {
        self.paused = self.paused.filter(|until| *until > now);
        if self.proving >= proving_max || self.paused.is_some() {
            return None;
        }
        let at = self.again.pop().or_else(|| {
            let at = Some(self.next).filter(|at| *at < self.order.ids.len())?;
            self.next = at.saturating_add(1);
            Some(at)
        });
        let at = at.or_else(|| self.unread.pop_front())?;
        self.proving = self.proving.saturating_add(1);
        Some(at)
    }

    /// How many chunks it did not begin with.
    fn untouched(&self) -> usize {
        let left = self.order.ids.len().saturating_sub(self.next);
        left.saturating_add(self.again.len()).saturating_add(self.unread.len())
    }

    /// Whether nothing is left but what the disk does not read.
    fn is_all_but_unread(&self) -> bool {
        self.next >= self.order.ids.len() && self.again.is_empty()
    }

    /// Whether chunks are hashed: where each is judged alone, so that what memory did to one before
    /// it was wrapped is admitted, and is not taken for a lie. A question for many that comes out
    /// wrong is asked again by halves.
    fn is_close(&self) -> bool {
        self.order.kind == AuditKind::Mac || self.order.ids.len() == 1
    }

    fn is_done(&self) -> bool {
        self.known >= self.order.ids.len()
    }

    /// Whether the store has been too busy for it for too long, or the disk did not read for as
    /// long what is left.
    fn is_stuck(&self, now: Time) -> bool {
        self.stuck.is_some_and(|since| now.since(since) >= BUSY_MAX)
    }

    /// What a disk that reads others does not read for so long is damage: a sector that is gone. So
    /// it is where one chunk alone was asked for, beside which nothing is read: one bad sector
    /// would silence an honest holder for ever, and an error that passes costs one replica at most.
    /// Of a disk that reads nothing of a question for more it says nothing.
    fn admit_unread(&mut self) {
        let is_alone = self.order.ids.len() == 1;
        if !(self.reads || is_alone) || !self.is_all_but_unread() {
            return;
        }
        for at in std::mem::take(&mut self.unread) {
            self.known = self.known.saturating_add(1);
            if let Some(chunk) = self.chunks.get_mut(at) {
                *chunk = AuditedChunk { state: AuditState::Damaged, blocks: 0 };
            }
        }
    }

    /// Takes in what the store says of the chunk at this place.
    fn take(&mut self, now: Time, at: usize, result: Result<ProvenChunk, Unproven>) {
        self.proving = self.proving.saturating_sub(1);
        let state = match result {
            Ok(ProvenChunk { blocks, piece }) => {
                self.reads = true;
                match piece {
                    Piece::Compact(proof) => self.sum.add(&proof),
                    Piece::Mac(mac) => drop(self.macs.insert(at, mac)),
                }
                AuditedChunk { state: AuditState::Proven, blocks }
            }
            Err(Unproven::NotHeld) => AuditedChunk { state: AuditState::NotHeld, blocks: 0 },
            Err(Unproven::Released) => AuditedChunk { state: AuditState::Released, blocks: 0 },
            Err(Unproven::Damaged) => AuditedChunk { state: AuditState::Damaged, blocks: 0 },
            Err(Unproven::Unread) => {
                self.unread.push_back(at);
                if self.is_all_but_unread() {
                    self.paused = Some(now.after(BUSY_PAUSE));
                    self.stuck = self.stuck.or(Some(now));
                }
                return;
            }
            Err(Unproven::Busy) => {
                self.again.push(at);
                self.paused = Some(now.after(BUSY_PAUSE));
                self.stuck = self.stuck.or(Some(now));
                return;
            }
        };
        self.stuck = None;
        self.known = self.known.saturating_add(1);
        if let Some(chunk) = self.chunks.get_mut(at) {
            *chunk = state;
        }
    }

    /// What is answered; the chunks are known then.
    fn audited(&mut self) -> Audited {
        let (kind, chunks) = (self.order.kind, std::mem::take(&mut self.chunks));
        let mut audited = Audited { kind, chunks, proof: Bytes::new() };
        if audited.proven() > 0 {
            audited.proof = match kind {
                AuditKind::Compact => self.sum.encode().into(),
                AuditKind::Mac => self.macs.values().flatten().copied().collect(),
            };
        }
        audited
    }
}

impl HolderRole {
    /// An audit whose MAC holds, of an account that has something here: the question without its
    /// ids, how, and the ids. Its place in the work for accounts is taken.
    pub(super) fn on_audit(
        &mut self,
        now: Time,
        from: NodeId,
        (asked, kind, ids): (AccountRequest, AuditKind, Vec<ChunkId>),
    ) {
        let within = match self.audits.open.take(from, 1) {
            true => self.take_audited(now, &asked, ids.len()).inspect_err(|_| {
                self.audits.open.give_back(from, 1);
            }),
            false => Err(Reject::TableFull),
        };
        if let Err(reason) = within {
            self.account_work.give_back(from, 1);
            return self.put_question_off(now, from, asked.request, reason);
        }
        self.audits.waiting.push_back(Order { from, asked, kind, ids, spoke: now });
        self.go_on_with_audits(now);
    }

    fn take_audited(
        &mut self,
        now: Time,
        asked: &AccountRequest,
        chunks: usize,
    ) -> Result<(), Reject> {
        let chunks = u64::try_from(chunks).unwrap_or(u64::MAX);
        self.rates.audited.take_many(now, asked.account, chunks)
    }

    pub(super) fn on_chunk_proven(
        &mut self,
        now: Time,
        ticket: Ticket,
        result: Result<ProvenChunk, Unproven>,
    ) {
        let Some((number, at)) = self.audits.proving.remove(&ticket) else { return };
        if let Some(work) = self.audits.working.get_mut(&number) {
            work.take(now, at, result);
            let is_stuck = work.is_stuck(now);
            if is_stuck {
                work.admit_unread();
            }
            let waits = work.reads && work.is_all_but_unread() && work.proving > 0;
            let is_done = work.is_done();
            if is_done || (is_stuck && !waits) {
                self.end_audit(number, is_done);
            }
        }
        self.go_on_with_audits(now);
    }

    /// Drops what a peer that is away waits for.
    pub(super) fn drop_audits(&mut self, now: Time, node: NodeId) {
        let waiting = std::mem::take(&mut self.audits.waiting);
        for order in waiting {
            if order.from == node {
                self.give_audit_back(&order, order.ids.len());
            } else {
                self.audits.waiting.push_back(order);
            }
        }
        let its = self.audits.working.iter().filter(|(_, work)| work.order.from == node);
        let its: Vec<u64> = its.map(|(number, _)| *number).collect();
        its.into_iter().for_each(|number| self.end_audit(number, false));
        self.go_on_with_audits(now);
    }

    /// Begins, proves and says what there is to. Called whenever something of it has changed, or
    /// time has passed.
    pub(super) fn go_on_with_audits(&mut self, now: Time) {
        while let Some(order) = self.audits.take_next() {
            self.begin_audit(order);
        }
        while let Some((number, at)) = self.audits.next_chunk(now) {
            self.prove_chunk(number, at);
        }
        let Audits { waiting, working, .. } = &mut self.audits;
        let orders = waiting.iter_mut().chain(working.values_mut().map(|work| &mut work.order));
        let due = orders.filter_map(|order| {
            order.is_to_speak(now).then_some((order.from, order.asked.request))
        });
        let due: Vec<(NodeId, u64)> = due.collect();
        for (from, request) in due {
            self.refuse_question(from, request, AccountRefusal::Working);
        }
    }

    fn begin_audit(&mut self, order: Order) {
        let seed = order.asked.nonce;
        let task = match order.kind {
            AuditKind::Compact => Some(Task::Compact(Challenge::new(&seed, &self.me()))),
            AuditKind::Mac => {
                let pair = self.keys.pair_key(&order.asked.account);
                pair.map(|pair| Task::Mac { key: MacKey::derive(&pair), seed })
            }
        };
        // The pair key was derived for the question, so it can be for this.
        let Some(task) = task else {
            self.give_audit_back(&order, order.ids.len());
            return self.refuse_question(order.from, order.asked.request, AccountRefusal::Busy);
        };
        let number = self.number();
        self.audits.working.insert(number, Work::new(order, task));
    }

    fn prove_chunk(&mut self, number: u64, at: usize) {
        let ticket = self.ticket();
        let Some(work) = self.audits.working.get(&number) else { return };
        let Some(id) = work.order.ids.get(at).copied() else { return };
        let (account, task, closely) =
            (work.order.asked.account, work.task.clone(), work.is_close());
        self.audits.proving.insert(ticket, (number, at));
        self.effects.push_back(Effect::ProveChunk { ticket, account, id, task, closely });
    }

    /// Ends an audit that is worked on: with its answer, or with the word that it is put off.
    fn end_audit(&mut self, number: u64, is_done: bool) {
        let Some(mut work) = self.audits.working.remove(&number) else { return };
        self.give_audit_back(&work.order, work.untouched());
        let Order { from, asked, .. } = &work.order;
        let (from, request) = (*from, asked.request);
        if !is_done && !work.unread.is_empty() && work.is_all_but_unread() {
            // No word that it is busy: it is not, and the owner should see that it does not answer.
            return;
        }
        let pair = self.keys.pair_key(&asked.account).filter(|_| is_done);
        let Some(pair) = pair else {
            return self.refuse_question(from, request, AccountRefusal::Busy);
        };
        let audited = work.audited();
        if audited.proven() > 0 {
            self.hear(work.order.asked.account, true);
        }
        let kept = KeptChunks::Audited(audited);
        let page = AccountPage::new(&work.order.asked, self.epoch, (kept, false), &pair);
        let answer = AccountAnswer { request, outcome: Ok(page) };
        self.send(from, StreamMessage::AccountAnswer(answer));
    }

    /// Gives back what an audit has taken, and the account the chunks that were not looked at.
    fn give_audit_back(&mut self, order: &Order, untouched: usize) {
        self.account_work.give_back(order.from, 1);
        self.audits.open.give_back(order.from, 1);
        let untouched = u64::try_from(untouched).unwrap_or(u64::MAX);
        self.rates.audited.refund_many(order.asked.account, untouched);
    }
}
