//! What an owner asks one holder about its account there: a list, a query, an audit, a release, its
//! undoing.
//!
//! ```text
//! connected ─▶ AccountRequest or Release ─▶ its answer, checked ─▶ Account
//! away      ─▶ dial ─▶ the same, or Unreachable
//! Busy, or the connection lost ─▶ again, until the deadline
//! ```
//! Every sending has a number, a nonce and proofs of its own. An answer counts where it has the
//! number of an open sending to this very node, its MAC holds under the pair key, and it says what
//! was asked for. Of a release nothing but the stream authenticates the answer: what a holder says
//! of its own chunks it may as well do. A page names the holder's store. Where that is another than
//! the one that acknowledged before, what it acknowledged then is gone, as with an ack.
//!
//! An audit is sent again under the same seed, so that a holder that does not like it gets no other
//! one by falling silent. One that says that it works on it gets more time. Whether what it answers
//! holds is for whoever asked to find out: see [`crate::core::audit`].
//!
//! A release that is open still is over once its undoing is asked for: sent again it would come
//! after it, and the holder would let the chunk go that it said it keeps.
//!
//! Bounds: [`ACCOUNT_JOBS_MAX`] questions, each with one sending under way; [`LATE_MAX`] numbers of
//! those that ended before their answer came.

use super::OwnerEvent;
use super::delivery::Store;
use super::notice::NoticeFlow;
use super::release::{self, ReleaseWish};
use super::shared::Shared;
use super::store::StoreFlow;
use super::timers::Wake;
use crate::core::codec::{ACCOUNT_CHUNKS_MAX, Reject, frame_bytes};
use crate::core::message::{
    AccountAnswer, AccountAsk, AccountPage, AccountRefusal, AccountRequest, AuditKind, Audited,
    ChunkState, KeptChunks, ListedChunk, ReleaseAnswer, ReleaseRefusal, StreamMessage,
};
use crate::core::reputation::Deed;
use crate::core::types::{ChunkId, LeaseNonce, NodeId, StoreEpoch, Ticket, Time};
use crate::crypto::audit::MacKey;
use crate::crypto::keys::{PairKey, random};
use crate::planted::{Bug, is_on};
use bytes::Bytes;
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Questions at once. Above: the new one ends at once, as with a busy holder.
pub(super) const ACCOUNT_JOBS_MAX: usize = 64;

/// Sendings of questions that are over, whose answers are expected still.
pub(super) const LATE_MAX: usize = 256;

/// A busy holder is asked again after so long, and each time after twice as long.
const BUSY_PAUSE: Duration = Duration::from_millis(500);
/// But not longer than this.
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(8);
/// When to try again where too many dials are open.
const DIAL_PAUSE: Duration = Duration::from_secs(1);
/// So often a connection may be lost under one question.
const LOST_MAX: u32 = 2;

/// A holder that says that it works on an audit has so long until it has to say so again,
const WORK_PATIENCE: Duration = Duration::from_secs(30);
/// and in all so long, and for each chunk so much more: 4 MiB at 8 MB/s. Others may be before it.
const WORK_MAX: Duration = Duration::from_secs(300);
const WORK_MAX_CHUNK: Duration = Duration::from_millis(500);

/// One question to one holder.
#[derive(Debug)]
pub struct AccountJob {
    /// Comes back in the event.
    pub ticket: Ticket,
    /// Who is asked. It is dialed where it is away: its addresses have to be known.
    pub holder: NodeId,
    /// What for.
    pub wish: AccountWish,
    /// When to end in any case.
    pub deadline: Time,
}

/// What is wanted of a holder.
#[derive(Debug)]
pub enum AccountWish {
    /// Which chunks of mine do you hold?
    List {
        /// Only ids above this one; zeros for the first page.
        after: ChunkId,
        /// At most so many, 1 to 4,096.
        limit: u32,
    },
    /// How is it with these chunks of mine? 1 to 4,096, all different.
    Query(Vec<ChunkId>),
    /// Prove that you hold these chunks of mine.
    Audit {
        /// How.
        kind: AuditKind,
        /// 32 fresh random bytes, for this set of chunks at this holder alone.
        seed: [u8; 32],
        /// 1 to 4,096, all different.
        ids: Vec<ChunkId>,
    },
    /// Let these chunks go, or take that back; 1 to 256, all different.
    Release {
        /// Takes an earlier release back.
        undo: bool,
        /// The chunks.
        items: Vec<ReleaseWish>,
    },
}

impl AccountWish {
    /// Whether it can be asked at all.
    fn is_fit(&self) -> bool {
        match self {
            Self::List { limit, .. } => {
                usize::try_from(*limit).is_ok_and(|limit| (1..=ACCOUNT_CHUNKS_MAX).contains(&limit))
            }
            Self::Query(ids) | Self::Audit { ids, .. } => {
                let distinct: BTreeSet<&ChunkId> = ids.iter().collect();
                (1..=ACCOUNT_CHUNKS_MAX).contains(&ids.len()) && distinct.len() == ids.len()
            }
            Self::Release { items, .. } => release::is_fit(items),
        }
    }
}

/// What a holder said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountDone {
    /// To [`AccountWish::List`].
    Listed {
        /// The store that speaks.
        epoch: StoreEpoch,
        /// Whether there is more behind the last one; then there is a last one.
        more: bool,
        /// Ids ascending, all above the one asked for.
        chunks: Vec<ListedChunk>,
    },
    /// To [`AccountWish::Query`].
    Queried {
        /// The store that speaks.
        epoch: StoreEpoch,
        /// One for each id, in its order.
        chunks: Vec<(ChunkState, LeaseNonce)>,
    },
    /// To [`AccountWish::Audit`]: what the holder says, of which nothing was checked but that it
    /// is an answer to what was asked.
    Audited {
        /// The store that speaks.
        epoch: StoreEpoch,
        /// One for each id, in its order, and the proof.
        audited: Audited,
        /// What MACs are made with: only where these were asked for.
        key: Option<MacKey>,
        /// Bytes of all messages that it took.
        moved: u64,
    },
    /// To [`AccountWish::Release`]: how it is now with each chunk, in the order of the wish.
    Released(Vec<ChunkState>),
}

/// Why a question has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccountFailure {
    /// The holder could not be reached, or said nothing until the deadline; or, of a release, until
    /// its undoing was asked for.
    Unreachable,
    /// It says that it has no such account.
    NoAccount,
    /// It was too busy until then; or too many questions are open here.
    Busy,
    /// It answered what does not hold.
    Forged,
    /// Chunks cannot be released without the delete key, which this device does not have.
    NoDeleteKey,
    /// The wish is beyond its bounds; or the holder says that a proof does not hold.
    Invalid,
}

#[derive(Debug)]
struct Question {
    holder: NodeId,
    wish: AccountWish,
    began: Time,
    deadline: Time,
    state: State,
    /// After the next Busy.
    pause: Duration,
    /// What it said last is that it is busy.
    is_busy: bool,
    /// Connections that were lost under it.
    lost: u32,
    /// Bytes of what was sent and received, of an audit.
    moved: u64,
}

#[derive(Debug)]
enum State {
    /// Until the holder is connected, or cannot be.
    Dialing,
    /// Not sent again before.
    Waiting(Time),
    /// Sent, and not answered.
    Asked(Sending),
}

/// One sending, as its answer is checked against.
#[derive(Debug)]
enum Sending {
    Request(Box<AccountRequest>, PairKey),
    Release(u64),
}

impl Sending {
    fn number(&self) -> u64 {
        match self {
            Self::Request(request, _) => request.request,
            Self::Release(number) => *number,
        }
    }
}

impl Question {
    fn number(&self) -> Option<u64> {
        match &self.state {
            State::Asked(sending) => Some(sending.number()),
            State::Dialing | State::Waiting(_) => None,
        }
    }

    /// Whoever audits is told what it moves.
    fn count(&mut self, message: &StreamMessage) {
        if let AccountWish::Audit { .. } = self.wish {
            self.moved = self.moved.saturating_add(frame_bytes(message));
        }
    }

    /// When it has to be looked at.
    fn alarm(&self) -> Time {
        match self.state {
            State::Waiting(until) => until.min(self.deadline),
            State::Dialing | State::Asked(_) => self.deadline,
        }
    }
}

/// The flow.
#[derive(Debug, Default)]
pub(super) struct AccountFlow {
    questions: BTreeMap<Ticket, Question>,
    /// Sendings of questions that are over: an answer that still comes is no misbehaviour.
    late: VecDeque<(u64, NodeId)>,
    /// What holders that were asked tell by themselves.
    pub(super) notices: NoticeFlow,
}

impl AccountFlow {
    /// Questions, and sendings of those that are over.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.questions.len(), self.late.len())
    }

    pub(super) fn slots_free(&self) -> usize {
        ACCOUNT_JOBS_MAX.saturating_sub(self.questions.len())
    }

    pub(super) fn on_command(&mut self, now: Time, shared: &mut Shared, job: AccountJob) {
        let AccountJob { ticket, holder, wish, deadline } = job;
        if let AccountWish::Release { undo: true, items } = &wish
            && wish.is_fit()
            && !is_on(Bug::ResendRelease)
        {
            self.overtake(shared, &holder, items);
        }
        let refused = match &wish {
            AccountWish::Release { undo, items }
                if !release::is_allowed(&shared.keys, *undo, items) =>
            {
                Some(AccountFailure::NoDeleteKey)
            }
            wish if !wish.is_fit() => Some(AccountFailure::Invalid),
            // The owner's own node holds nothing of the owner's.
            _ if holder == shared.node => Some(AccountFailure::Unreachable),
            _ if self.questions.len() >= ACCOUNT_JOBS_MAX => Some(AccountFailure::Busy),
            _ => None,
        };
        if let Some(failure) = refused {
            let outcome = Err(failure);
            return shared.report(OwnerEvent::Account { ticket, holder, outcome });
        }
        let (state, pause) = (State::Waiting(now), BUSY_PAUSE);
        let (began, is_busy, lost, moved) = (now, false, 0, 0);
        let question =
            Question { holder, wish, began, deadline, state, pause, is_busy, lost, moved };
        self.questions.insert(ticket, question);
        self.ask(now, shared, ticket);
    }

    /// Ends the releases at this holder of which one of these is to be taken back: what was sent of
    /// them the holder carries out before the undoing, but nothing of them must come after it.
    fn overtake(&mut self, shared: &mut Shared, holder: &NodeId, undone: &[ReleaseWish]) {
        let undone: BTreeSet<ChunkId> = undone.iter().map(|item| item.id).collect();
        let is_overtaken = |question: &Question| match &question.wish {
            AccountWish::Release { undo: false, items } => {
                items.iter().any(|item| undone.contains(&item.id))
            }
            _ => false,
        };
        for ticket in self.tickets_at(holder, is_overtaken) {
            self.give_up(shared, ticket);
        }
    }

    pub(super) fn cancel(&mut self, shared: &mut Shared, ticket: Ticket) {
        self.remove(shared, ticket);
    }

    /// Sends the question, or dials the holder first.
    fn ask(&mut self, now: Time, shared: &mut Shared, ticket: Ticket) {
        let number = self.number(shared);
        let Some(question) = self.questions.get_mut(&ticket) else { return };
        let holder = question.holder;
        let Some(agreement) = shared.peers.hello(&holder).map(|hello| hello.agreement) else {
            let is_dialed = shared.dial(now, holder, Bytes::new());
            question.state =
                if is_dialed { State::Dialing } else { State::Waiting(now.after(DIAL_PAUSE)) };
            return shared.timers.set(Wake::Account(ticket), question.alarm());
        };
        let ask = match &question.wish {
            AccountWish::List { after, limit } => {
                AccountAsk::ListMine { after: *after, limit: *limit }
            }
            AccountWish::Query(ids) => AccountAsk::Query(ids.clone()),
            AccountWish::Audit { kind, ids, .. } => {
                AccountAsk::Audit { kind: *kind, ids: ids.clone() }
            }
            AccountWish::Release { undo, items } => {
                let Some(message) = release::message(shared, (holder, number), *undo, items) else {
                    return self.finish(shared, ticket, Err(AccountFailure::NoDeleteKey));
                };
                question.state = State::Asked(Sending::Release(number));
                shared.timers.set(Wake::Account(ticket), question.alarm());
                return shared.send(holder, StreamMessage::Release(message));
            }
        };
        let nonce = match &question.wish {
            AccountWish::Audit { seed, .. } if !is_on(Bug::ReseedAudit) => *seed,
            _ => random(&mut shared.rng),
        };
        let secret = shared.keys.account(&holder);
        let Some(pair) = secret.pair_key(&holder, &agreement) else {
            return self.on_lie(now, shared, ticket, Reject::BadProof);
        };
        let named = (number, secret.account(), nonce);
        let request = AccountRequest::new(named, ask, (shared.mesh, shared.node, holder), &pair);
        question.state = State::Asked(Sending::Request(Box::new(request.clone()), pair));
        shared.timers.set(Wake::Account(ticket), question.alarm());
        let message = StreamMessage::AccountRequest(request);
        question.count(&message);
        self.notices.on_asked(now, holder);
        shared.send(holder, message);
    }

    /// A number that no sending has, of which an answer may come.
    fn number(&self, shared: &mut Shared) -> u64 {
        loop {
            let number = shared.rng.next_u64();
            let is_open = self.questions.values().any(|open| open.number() == Some(number));
            if !is_open && !self.late.iter().any(|(late, _)| *late == number) {
                return number;
            }
        }
    }

    pub(super) fn on_wake(&mut self, now: Time, shared: &mut Shared, ticket: Ticket) {
        let Some(question) = self.questions.get(&ticket) else { return };
        if question.deadline <= now {
            return self.give_up(shared, ticket);
        }
        match question.state {
            State::Waiting(until) if until <= now => self.ask(now, shared, ticket),
            _ => shared.timers.set(Wake::Account(ticket), question.alarm()),
        }
    }

    pub(super) fn on_peer_up(&mut self, now: Time, shared: &mut Shared, node: NodeId) {
        let waits = |question: &Question| matches!(question.state, State::Dialing);
        for ticket in self.tickets_at(&node, waits) {
            self.ask(now, shared, ticket);
        }
    }

    /// A node went away, or could not be reached.
    pub(super) fn on_peer_down(&mut self, now: Time, shared: &mut Shared, node: NodeId) {
        self.notices.on_peer_down(&node);
        for ticket in self.tickets_at(&node, |_| true) {
            let Some(question) = self.questions.get_mut(&ticket) else { continue };
            match question.state {
                State::Waiting(_) => {}
                State::Asked(_) if question.lost < LOST_MAX => {
                    question.lost += 1;
                    question.is_busy = false;
                    question.state = State::Waiting(now.after(shared.jitter(DIAL_PAUSE)));
                    shared.timers.set(Wake::Account(ticket), question.alarm());
                }
                State::Asked(_) | State::Dialing => {
                    self.finish(shared, ticket, Err(AccountFailure::Unreachable));
                }
            }
        }
    }

    /// What a holder says of the account.
    pub(super) fn on_answer(
        &mut self,
        now: Time,
        (shared, store): (&mut Shared, &mut StoreFlow),
        from: NodeId,
        answer: AccountAnswer,
    ) {
        let Some(ticket) = self.ticket_of(shared, from, answer.request) else { return };
        let Some(question) = self.questions.get_mut(&ticket) else { return };
        let message = StreamMessage::AccountAnswer(answer);
        question.count(&message);
        let StreamMessage::AccountAnswer(answer) = message else { return };
        let State::Asked(Sending::Request(request, pair)) = &question.state else {
            return self.on_lie(now, shared, ticket, Reject::Malformed);
        };
        let page = match answer.outcome {
            Ok(page) => page,
            Err(AccountRefusal::NoAccount) => {
                return self.finish(shared, ticket, Err(AccountFailure::NoAccount));
            }
            Err(AccountRefusal::Busy) => return self.on_busy(now, shared, ticket),
            Err(AccountRefusal::Working) => return self.on_working(now, shared, ticket),
        };
        if !page.verify(request, pair) && !is_on(Bug::SkipAnswerMac) {
            return self.on_lie(now, shared, ticket, Reject::BadProof);
        }
        let epoch = page.epoch;
        let Some(done) = done(question, page, pair) else {
            return self.on_lie(now, shared, ticket, Reject::Malformed);
        };
        if store.on_epoch(now, shared, from, epoch) == Store::Unsteady {
            return self.on_lie(now, shared, ticket, Reject::BadProof);
        }
        self.finish(shared, ticket, Ok(done));
    }

    /// What a holder did of a release.
    pub(super) fn on_released(
        &mut self,
        now: Time,
        shared: &mut Shared,
        from: NodeId,
        answer: ReleaseAnswer,
    ) {
        let Some(ticket) = self.ticket_of(shared, from, answer.request) else { return };
        let Some(question) = self.questions.get(&ticket) else { return };
        let AccountWish::Release { items, .. } = &question.wish else {
            return self.on_lie(now, shared, ticket, Reject::Malformed);
        };
        match answer.outcome {
            Ok(states) if states.len() == items.len() => {
                self.finish(shared, ticket, Ok(AccountDone::Released(states)));
            }
            Ok(_) => self.on_lie(now, shared, ticket, Reject::Malformed),
            Err(ReleaseRefusal::Invalid) => {
                self.finish(shared, ticket, Err(AccountFailure::Invalid));
            }
            Err(ReleaseRefusal::Busy) => self.on_busy(now, shared, ticket),
        }
    }

    /// The question that went to this node under this number; otherwise the answer is counted as
    /// one to nothing, unless its question is over by now.
    fn ticket_of(&mut self, shared: &mut Shared, from: NodeId, number: u64) -> Option<Ticket> {
        let mut open = self.questions.iter();
        let is_it =
            |question: &Question| question.holder == from && question.number() == Some(number);
        let found = open.find_map(|(ticket, question)| is_it(question).then_some(*ticket));
        if found.is_none() {
            let late = self.late.iter().position(|late| *late == (number, from));
            match late {
                Some(at) => drop(self.late.remove(at)),
                None => shared.reject(from, Reject::Unsolicited),
            }
        }
        found
    }

    fn on_busy(&mut self, now: Time, shared: &mut Shared, ticket: Ticket) {
        let Some(question) = self.questions.get_mut(&ticket) else { return };
        let pause = question.pause;
        question.pause = (pause * 2).min(BUSY_PAUSE_MAX);
        question.is_busy = true;
        question.state = State::Waiting(now.after(shared.jitter(pause)));
        shared.timers.set(Wake::Account(ticket), question.alarm());
    }

    /// The holder says that its answer will come. Only an audit takes long, and none for ever.
    fn on_working(&mut self, now: Time, shared: &mut Shared, ticket: Ticket) {
        let Some(question) = self.questions.get_mut(&ticket) else { return };
        let AccountWish::Audit { ids, .. } = &question.wish else {
            return self.on_lie(now, shared, ticket, Reject::Malformed);
        };
        let chunks = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        let most = WORK_MAX.saturating_add(WORK_MAX_CHUNK.saturating_mul(chunks));
        let began = if is_on(Bug::WorkForEver) { now } else { question.began };
        let until = now.after(WORK_PATIENCE).min(began.after(most));
        question.deadline = question.deadline.max(until);
        shared.timers.set(Wake::Account(ticket), question.alarm());
    }

    /// The holder answered what cannot be true.
    fn on_lie(&mut self, now: Time, shared: &mut Shared, ticket: Ticket, reason: Reject) {
        let Some(question) = self.questions.get_mut(&ticket) else { return };
        let holder = question.holder;
        // It was answered: another answer to it is one too many.
        question.state = State::Waiting(now);
        shared.reject(holder, reason);
        shared.peers.rate(now, holder, Deed::Lied);
        self.finish(shared, ticket, Err(AccountFailure::Forged));
    }

    /// Ends a question that was not answered.
    fn give_up(&mut self, shared: &mut Shared, ticket: Ticket) {
        let Some(question) = self.questions.get(&ticket) else { return };
        let is_busy = question.is_busy;
        let why = if is_busy { AccountFailure::Busy } else { AccountFailure::Unreachable };
        self.finish(shared, ticket, Err(why));
    }

    fn finish(
        &mut self,
        shared: &mut Shared,
        ticket: Ticket,
        outcome: Result<AccountDone, AccountFailure>,
    ) {
        if let Ok(_) | Err(AccountFailure::NoAccount | AccountFailure::Invalid) = outcome
            && let Some(question) = self.questions.get_mut(&ticket)
        {
            question.state = State::Dialing;
        }
        if let Some(Question { holder, .. }) = self.remove(shared, ticket) {
            shared.report(OwnerEvent::Account { ticket, holder, outcome });
        }
    }

    /// Forgets the question; what was sent and not answered may be answered still.
    fn remove(&mut self, shared: &mut Shared, ticket: Ticket) -> Option<Question> {
        let question = self.questions.remove(&ticket)?;
        shared.timers.clear(Wake::Account(ticket));
        if let Some(number) = question.number() {
            self.late.push_back((number, question.holder));
            if self.late.len() > LATE_MAX {
                self.late.pop_front();
            }
        }
        Some(question)
    }

    fn tickets_at(&self, node: &NodeId, fits: impl Fn(&Question) -> bool) -> Vec<Ticket> {
        let all = self.questions.iter();
        let at = all.filter(|(_, question)| question.holder == *node && fits(question));
        at.map(|(ticket, _)| *ticket).collect()
    }
}

/// What the page says, if it is an answer to this question.
fn done(question: &Question, page: AccountPage, pair: &PairKey) -> Option<AccountDone> {
    let AccountPage { epoch, more, kept, .. } = page;
    match (&question.wish, kept) {
        (AccountWish::List { after, limit }, KeptChunks::Listed(chunks)) => {
            let is_page = usize::try_from(*limit).is_ok_and(|limit| chunks.len() <= limit)
                && chunks.first().is_none_or(|first| first.id > *after)
                && chunks.is_sorted_by(|one, next| one.id < next.id)
                && !(more && chunks.is_empty());
            is_page.then_some(AccountDone::Listed { epoch, more, chunks })
        }
        (AccountWish::Query(ids), KeptChunks::Queried(chunks)) => {
            let is_page = chunks.len() == ids.len() && !more;
            is_page.then_some(AccountDone::Queried { epoch, chunks })
        }
        (AccountWish::Audit { kind, ids, .. }, KeptChunks::Audited(audited)) => {
            let is_page = audited.kind == *kind && audited.chunks.len() == ids.len() && !more;
            let key = (*kind == AuditKind::Mac).then(|| MacKey::derive(pair));
            let moved = question.moved;
            is_page.then_some(AccountDone::Audited { epoch, audited, key, moved })
        }
        _ => None,
    }
}
