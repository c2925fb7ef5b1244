//! What holders are told when they ask how they stand with this owner.
//!
//! ```text
//! StandingRequest ─▶ rate, MAC ─▶ OwnerEvent::StandingAsked
//!                                 OwnerCommand::TellStanding ─▶ StandingAnswer
//! ```
//! Nothing is looked up before the MAC holds. The role knows nothing of audits: whoever drives it
//! looks the record up, and answers each [`OwnerEvent::StandingAsked`] once. A MAC that does not
//! hold and a holder of which nothing is known get the same answer, so that whoever guesses learns
//! nothing.
//!
//! Bounds: [`ASKED_MAX`] questions of a peer are answered in a [`WINDOW`], and [`PUT_OFF_MAX`] more
//! with a Busy; [`SOURCES_MAX`] peers are counted, also those that are gone; one look-up for a peer
//! at a time, and [`OPEN_MAX`] in all.

use super::OwnerEvent;
use super::shared::Shared;
use crate::core::codec::Reject;
use crate::core::message::{
    StandingAnswer, StandingRefusal, StandingReport, StandingRequest, StandingSaid, StreamMessage,
};
use crate::core::types::{MeshId, NodeId, Time};
use crate::crypto::keys::PairKey;
use std::collections::BTreeMap;
use std::time::Duration;

/// Questions of one peer in a [`WINDOW`]. An honest holder asks once. Above: Busy.
pub(super) const ASKED_MAX: u32 = 4;

/// The same that are told that this owner is busy. Above: dropped ([`Reject::RateLimited`]).
pub(super) const PUT_OFF_MAX: u32 = 8;

/// See [`ASKED_MAX`].
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// Peers whose questions are counted. Above: dropped ([`Reject::TableFull`]), until the window of
/// one is over.
pub(super) const SOURCES_MAX: usize = 1_024;

/// Records that are looked up at once. Above: Busy.
pub(super) const OPEN_MAX: usize = 64;

/// Who asks, and how often each did.
#[derive(Debug, Default)]
pub(super) struct StandingFlow {
    open: BTreeMap<NodeId, (StandingRequest, PairKey)>,
    /// Since when, and how many questions.
    counts: BTreeMap<NodeId, (Time, u32)>,
}

/// What is done about a question.
enum Admitted {
    Yes,
    PutOff,
}

impl StandingFlow {
    /// Questions that are open, and peers that are counted.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.open.len(), self.counts.len())
    }

    pub(super) fn on_request(
        &mut self,
        now: Time,
        shared: &mut Shared,
        from: NodeId,
        asked: StandingRequest,
    ) {
        let request = asked.request;
        match self.admit(now, shared, &from) {
            Err(reason) => return shared.reject(from, reason),
            Ok(Admitted::PutOff) => {
                shared.reject(from, Reject::RateLimited);
                return refuse(shared, from, request, StandingRefusal::Busy);
            }
            Ok(Admitted::Yes) => {}
        }
        let Some(pair) = proven_by(shared, &from, &asked) else {
            shared.reject(from, Reject::BadProof);
            return refuse(shared, from, request, StandingRefusal::NoAccount);
        };
        if self.open.len() >= OPEN_MAX || self.open.contains_key(&from) {
            shared.reject(from, Reject::TableFull);
            return refuse(shared, from, request, StandingRefusal::Busy);
        }
        self.open.insert(from, (asked, pair));
        shared.report(OwnerEvent::StandingAsked { holder: from, request });
    }

    /// Counts the question.
    fn admit(&mut self, now: Time, shared: &Shared, from: &NodeId) -> Result<Admitted, Reject> {
        // One too many to be used.
        shared.peers.hello(from).ok_or(Reject::TableFull)?;
        if !self.counts.contains_key(from) && self.counts.len() >= SOURCES_MAX {
            self.counts.retain(|_, (since, _)| now.since(*since) < WINDOW);
            if self.counts.len() >= SOURCES_MAX {
                return Err(Reject::TableFull);
            }
        }
        let (since, count) = self.counts.entry(*from).or_insert((now, 0));
        if now.since(*since) >= WINDOW {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        match *count {
            ..=ASKED_MAX => Ok(Admitted::Yes),
            count if count <= ASKED_MAX + PUT_OFF_MAX => Ok(Admitted::PutOff),
            _ => Err(Reject::RateLimited),
        }
    }

    /// What is known of the holder that asked.
    pub(super) fn on_told(
        &mut self,
        shared: &mut Shared,
        (holder, request): (NodeId, u64),
        outcome: Result<StandingReport, StandingRefusal>,
    ) {
        // Gone since, or it asked anew in another connection.
        let is_this = self.open.get(&holder).is_some_and(|(asked, _)| asked.request == request);
        let Some((asked, pair)) = is_this.then(|| self.open.remove(&holder)).flatten() else {
            return;
        };
        let between = between(shared, &holder);
        let outcome = outcome.map(|report| StandingSaid::new(&asked, report, between, &pair));
        shared.send(holder, StreamMessage::StandingAnswer(StandingAnswer { request, outcome }));
    }

    pub(super) fn on_peer_down(&mut self, node: &NodeId) {
        self.open.remove(node);
    }
}

fn between(shared: &Shared, holder: &NodeId) -> (MeshId, NodeId, NodeId) {
    (shared.mesh, *holder, shared.node)
}

/// The pair key, where the holder asks about this owner's account and its MAC holds.
fn proven_by(shared: &Shared, from: &NodeId, asked: &StandingRequest) -> Option<PairKey> {
    let agreement = shared.peers.hello(from)?.agreement;
    let secret = shared.keys.account(from);
    let pair = secret.pair_key(from, &agreement)?;
    // Both are looked at, so that no account is guessed by the time that it takes.
    let is_proven = asked.verify(between(shared, from), &pair);
    (is_proven && secret.account() == asked.account).then_some(pair)
}

fn refuse(shared: &mut Shared, to: NodeId, request: u64, refusal: StandingRefusal) {
    let answer = StandingAnswer { request, outcome: Err(refusal) };
    shared.send(to, StreamMessage::StandingAnswer(answer));
}
