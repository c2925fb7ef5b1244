//! An owner's questions about its account: what is kept for it here, and how it is with that.
//!
//! Nothing is looked up before the MAC holds under the key that only the two have. An account that
//! has nothing here and a MAC that does not hold get the same answer, at the same cost: whoever
//! guesses accounts learns of none. A page costs a look into the catalogue for each of its chunks,
//! so that a peer is held to a rate also where all it asks is its own.

use super::HolderRole;
use crate::core::codec::Reject;
use crate::core::effect::{ChunkState, Effect, ListedChunk, StoreError};
use crate::core::message::{
    AccountAnswer, AccountAsk, AccountPage, AccountRefusal, AccountRequest, KeptChunks,
    StreamMessage,
};
use crate::core::types::{Account, LeaseNonce, NodeId, Ticket, Time};

/// A question whose chunks are being looked up. Without its ids, which the store has.
#[derive(Debug)]
pub(super) struct Question {
    from: NodeId,
    asked: AccountRequest,
}

impl HolderRole {
    pub(super) fn on_account_request(&mut self, now: Time, from: NodeId, asked: AccountRequest) {
        if !self.account_work.take(from, 1) {
            return self.put_question_off(now, from, asked.request, Reject::TableFull);
        }
        // The second is taken here, and given back once the question has proven itself.
        let within = self.rates.questions.take(now, from);
        if let Err(reason) = within.and_then(|()| self.rates.unproven.take(now, from)) {
            self.account_work.give_back(from, 1);
            return self.put_question_off(now, from, asked.request, reason);
        }
        let between = (self.hello.mesh, from, self.me());
        let pair = self.keys.pair_key(&asked.account);
        let is_proven = pair.is_some_and(|pair| asked.verify(between, &pair));
        if !is_proven {
            self.reject(from, Reject::BadProof);
        }
        if !is_proven || !self.admission.knows(&asked.account) {
            self.account_work.give_back(from, 1);
            return self.refuse_question(from, asked.request, AccountRefusal::NoAccount);
        }
        self.rates.unproven.refund(from);
        let (ticket, account) = (self.ticket(), asked.account);
        self.hear(account, false);
        self.notices.is_owner(now, from, account);
        self.tell_owners(now);
        let (ask, effect) = match asked.ask {
            AccountAsk::ListMine { after, limit } => {
                let effect = Effect::ListChunks { ticket, account, after, limit };
                (AccountAsk::ListMine { after, limit }, effect)
            }
            AccountAsk::Query(ids) => {
                let effect = Effect::QueryChunks { ticket, account, ids };
                (AccountAsk::Query(Vec::new()), effect)
            }
            AccountAsk::Audit { kind, ids } => {
                let ask = AccountAsk::Audit { kind, ids: Vec::new() };
                let asked = AccountRequest { ask, ..asked };
                return self.on_audit(now, from, (asked, kind, ids));
            }
        };
        let asked = AccountRequest { ask, ..asked };
        self.questions.insert(ticket, Question { from, asked });
        self.effects.push_back(effect);
    }

    /// The owner of an account is there: what is kept for it is kept for as long again. Said before
    /// the answer is, so that what an answer says is held is not about to go.
    pub(super) fn hear(&mut self, account: Account, audited: bool) {
        self.effects.push_back(Effect::OwnerHeard { account, audited });
    }

    pub(super) fn on_chunks_listed(
        &mut self,
        ticket: Ticket,
        result: Result<(Vec<ListedChunk>, bool), StoreError>,
    ) {
        self.answer_question(
            ticket,
            result.map(|(listed, more)| (KeptChunks::Listed(listed), more)),
        );
    }

    pub(super) fn on_chunks_queried(
        &mut self,
        ticket: Ticket,
        result: Result<Vec<(ChunkState, LeaseNonce)>, StoreError>,
    ) {
        self.answer_question(ticket, result.map(|states| (KeptChunks::Queried(states), false)));
    }

    fn answer_question(&mut self, ticket: Ticket, kept: Result<(KeptChunks, bool), StoreError>) {
        let Some(Question { from, asked }) = self.questions.remove(&ticket) else { return };
        self.account_work.give_back(from, 1);
        if !self.peers.contains(&from) {
            return;
        }
        // It was derived for the question, so it can be for the answer.
        let pair = self.keys.pair_key(&asked.account);
        let (Ok(kept), Some(pair)) = (kept, pair) else {
            return self.refuse_question(from, asked.request, AccountRefusal::Busy);
        };
        let page = AccountPage::new(&asked, self.epoch, kept, &pair);
        let answer = AccountAnswer { request: asked.request, outcome: Ok(page) };
        self.send(from, StreamMessage::AccountAnswer(answer));
    }

    pub(super) fn put_question_off(
        &mut self,
        now: Time,
        from: NodeId,
        request: u64,
        reason: Reject,
    ) {
        self.reject(from, reason);
        if self.rates.put_off.take(now, from).is_ok() {
            self.refuse_question(from, request, AccountRefusal::Busy);
        }
    }

    pub(super) fn refuse_question(&mut self, to: NodeId, request: u64, refusal: AccountRefusal) {
        let answer = AccountAnswer { request, outcome: Err(refusal) };
        self.send(to, StreamMessage::AccountAnswer(answer));
    }
}
