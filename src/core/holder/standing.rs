//! Asking owners how this node stands with them.
//!
//! The user asks, and every connected peer is asked that has shown in this connection that an
//! account is its own: nobody else would answer. What it says is told to the user and changes
//! nothing here: it is that owner's opinion, and this node's conduct does not hang on it.
//!
//! # Bounds
//! One question to an owner in [`ASK_EVERY`]: a user who asks again meanwhile is told the same
//! again. [`ANSWER_WITHIN`] for its answer. [`ASKED_MAX`] owners are remembered, also those that
//! are gone; above that no other one is asked until the minute of one is over.

use super::HolderRole;
use crate::core::codec::Reject;
use crate::core::effect::{Effect, Event};
use crate::core::message::{
    StandingAnswer, StandingRefusal, StandingReport, StandingRequest, StreamMessage,
};
use crate::core::types::{Account, NodeId, Time};
use crate::crypto::keys::random;
use rand::Rng;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often an owner is asked.
pub const ASK_EVERY: Duration = Duration::from_secs(60);

/// How long it may take with its answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Owners of whom it is remembered that they were asked.
pub const ASKED_MAX: usize = 1_024;

/// What the holder role tells the user's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HolderEvent {
    /// What came of the question to one owner: once for each that is asked, or was asked less than
    /// a minute ago.
    Standing {
        /// Who was asked.
        owner: NodeId,
        /// What it says, or why that is not known.
        said: Result<StandingReport, Unsaid>,
        /// How long ago it was asked, where that was for an earlier command; else zero.
        age: Duration,
    },
    /// No question is open any more.
    StandingsDone,
}

/// Why an owner's answer is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unsaid {
    /// It knows of nothing that this node keeps for it, it says.
    NoAccount,
    /// It is too busy, it says.
    Busy,
    /// It did not answer in time, or went away.
    Silent,
    /// It answered what does not hold.
    Forged,
}

/// Who was asked.
#[derive(Debug, Default)]
pub(super) struct Standings(BTreeMap<NodeId, Asked>);

#[derive(Debug)]
struct Asked {
    at: Time,
    request: StandingRequest,
    /// What came of it; `None` while it is open.
    said: Option<Result<StandingReport, Unsaid>>,
}

impl Asked {
    fn is_open(&self) -> bool {
        self.said.is_none()
    }

    fn is_recent(&self, now: Time) -> bool {
        now.since(self.at) < ASK_EVERY
    }
}

impl Standings {
    /// Owners that are remembered.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        let open = self.0.values().filter(|asked| asked.is_open());
        open.map(|asked| asked.at.after(ANSWER_WITHIN)).min()
    }

    /// Those whose time is over.
    fn late(&self, now: Time) -> Vec<NodeId> {
        let is_late = |asked: &Asked| asked.is_open() && now.since(asked.at) >= ANSWER_WITHIN;
        self.0.iter().filter(|(_, asked)| is_late(asked)).map(|(node, _)| *node).collect()
    }
}

impl HolderRole {
    /// The user asks.
    pub(super) fn on_ask_owners(&mut self, now: Time) {
        self.standings.0.retain(|_, asked| asked.is_open() || asked.is_recent(now));
        let owners: Vec<(NodeId, Account)> = self.notices.owners().collect();
        for (owner, account) in owners {
            match self.standings.0.get(&owner) {
                None => self.ask_owner(now, owner, account),
                Some(Asked { said: Some(said), at, .. }) => {
                    let (said, age) = (said.clone(), now.since(*at));
                    self.report(HolderEvent::Standing { owner, said, age });
                }
                // It is told once it is there.
                Some(Asked { said: None, .. }) => {}
            }
        }
        self.end_standings();
    }

    fn ask_owner(&mut self, now: Time, owner: NodeId, account: Account) {
        // The key was derived for the request that named the account.
        let Some(pair) = self.keys.pair_key(&account) else { return };
        if self.standings.len() >= ASKED_MAX {
            return;
        }
        let named = (self.rng.next_u64(), account, random(&mut self.rng));
        let request = StandingRequest::new(named, (self.hello.mesh, self.me(), owner), &pair);
        let asked = Asked { at: now, request: request.clone(), said: None };
        self.standings.0.insert(owner, asked);
        self.send(owner, StreamMessage::StandingRequest(request));
    }

    pub(super) fn on_standing_answer(&mut self, from: NodeId, answer: StandingAnswer) {
        let asked = self.standings.0.get(&from);
        let asked = asked.filter(|asked| asked.request.request == answer.request);
        match asked {
            Some(asked) if asked.is_open() => {
                let said = self.check_standing(from, &asked.request, answer);
                if said == Err(Unsaid::Forged) {
                    self.reject(from, Reject::BadProof);
                }
                self.close_standing(from, said);
            }
            // It is late, and no misbehaviour.
            Some(Asked { said: Some(Err(Unsaid::Silent)), .. }) => {}
            _ => self.reject(from, Reject::Unsolicited),
        }
    }

    fn check_standing(
        &self,
        from: NodeId,
        asked: &StandingRequest,
        answer: StandingAnswer,
    ) -> Result<StandingReport, Unsaid> {
        let said = answer.outcome.map_err(|refusal| match refusal {
            StandingRefusal::NoAccount => Unsaid::NoAccount,
            StandingRefusal::Busy => Unsaid::Busy,
        })?;
        let pair = self.keys.pair_key(&asked.account).ok_or(Unsaid::Forged)?;
        match said.verify(asked, (self.hello.mesh, self.me(), from), &pair) {
            true => Ok(said.report),
            false => Err(Unsaid::Forged),
        }
    }

    /// Those that did not answer in time.
    pub(super) fn give_up_standings(&mut self, now: Time) {
        for owner in self.standings.late(now) {
            self.close_standing(owner, Err(Unsaid::Silent));
        }
    }

    /// The peer is gone. That it was asked stays, so that to connect again gains nothing.
    pub(super) fn drop_standing(&mut self, node: NodeId) {
        if self.standings.0.get(&node).is_some_and(Asked::is_open) {
            self.close_standing(node, Err(Unsaid::Silent));
        }
    }

    fn close_standing(&mut self, owner: NodeId, said: Result<StandingReport, Unsaid>) {
        if let Some(asked) = self.standings.0.get_mut(&owner) {
            asked.said = Some(said.clone());
            self.report(HolderEvent::Standing { owner, said, age: Duration::ZERO });
            self.end_standings();
        }
    }

    fn end_standings(&mut self) {
        if !self.standings.0.values().any(Asked::is_open) {
            self.report(HolderEvent::StandingsDone);
        }
    }

    fn report(&mut self, event: HolderEvent) {
        self.effects.push_back(Effect::Report(Event::Holder(event)));
    }
}
