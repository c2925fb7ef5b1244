//! Rare branches, told from what passes by: see [`crate::sometimes`].
//!
//! Only what honest nodes do counts: a cheat takes any branch it likes.

use super::World;
use crate::node::Index;
use crate::sometimes::Rare;
use crate::tally::Tally;
use quloud::core::audit::Verdict;
use quloud::core::message::{RetrieveRefusal, StoreRefusal, StreamMessage, TopicMessage};
use quloud::core::owner::{OwnerEvent, Shortage};
use quloud::core::types::{ChunkId, StoreEpoch};
use quloud::store::recovery::{OpenReport, Rebuilt};
use quloud::store::writer::{Moves, ReadOnly};
use std::collections::{BTreeMap, BTreeSet};

/// What was seen so far, and what it takes to tell.
#[derive(Debug, Default)]
pub(super) struct Noticed {
    pub(super) rare: Tally<Rare>,
    /// Puts that were short.
    short: BTreeSet<(Index, ChunkId)>,
    /// Who was given a chunk.
    given: BTreeMap<(Index, ChunkId), BTreeSet<Index>>,
    /// Whom an owner asked last for a chunk.
    asked: BTreeMap<(Index, ChunkId), Index>,
    /// Claims since which nothing was given: owner and holder.
    claims: BTreeSet<(Index, Index)>,
    /// Under which epoch a holder acknowledged last: owner and holder.
    epochs: BTreeMap<(Index, Index), StoreEpoch>,
}

impl Noticed {
    /// An honest node says something to a peer; of a chunk it wants so many replicas.
    fn said(&mut self, node: Index, to: Index, message: &StreamMessage, replicas: usize) {
        match message {
            StreamMessage::StoreClaim(_) if !self.claims.insert((to, node)) => {
                self.rare.count(Rare::ClaimUnused);
            }
            StreamMessage::StoreChunk(chunk) => {
                self.claims.remove(&(node, to));
                let given = self.given.entry((node, chunk.header.id())).or_default();
                if given.insert(to) && given.len() > replicas {
                    self.rare.count(Rare::GivenToMore);
                }
            }
            StreamMessage::Retrieve(retrieve) => {
                let before = self.asked.insert((node, retrieve.id), to);
                if before.is_some_and(|before| before != to) {
                    self.rare.count(Rare::GetElsewhere);
                }
            }
            StreamMessage::StoreReject(reject) => match reject.reason {
                StoreRefusal::Full => self.rare.count(Rare::RefusedFull),
                StoreRefusal::Busy => self.rare.count(Rare::RefusedBusy),
                StoreRefusal::Invalid => self.rare.count(Rare::RefusedInvalid),
                StoreRefusal::Failed => self.rare.count(Rare::RefusedFailed),
                StoreRefusal::Unwilling => self.rare.count(Rare::RefusedUnwilling),
                StoreRefusal::OverQuota => self.rare.count(Rare::RefusedQuota),
                StoreRefusal::Superseded | StoreRefusal::TooManyHeads => {}
            },
            StreamMessage::RetrieveReject(reject) => self.rare.count(match reject.reason {
                RetrieveRefusal::NotHeld => Rare::NotHeld,
                RetrieveRefusal::Busy => Rare::ServeBusy,
                RetrieveRefusal::Damaged => Rare::ServeDamaged,
            }),
            _ => {}
        }
    }

    fn reported(&mut self, node: Index, holder: Option<Index>, event: &OwnerEvent) {
        match event {
            OwnerEvent::Acked { epoch, .. } => {
                let before = holder.and_then(|of| self.epochs.insert((node, of), *epoch));
                if before.is_some_and(|before| before != *epoch) {
                    self.rare.count(Rare::NewEpoch);
                }
            }
            OwnerEvent::Stored { id, .. } if self.short.remove(&(node, *id)) => {
                self.rare.count(Rare::PutLate);
            }
            OwnerEvent::Short { id, why, .. } => {
                self.short.insert((node, *id));
                self.rare.count(Rare::PutShort);
                match why {
                    Shortage::NoPeers => self.rare.count(Rare::ShortOfPeers),
                    Shortage::TooFewVolunteers => self.rare.count(Rare::ShortOfVolunteers),
                    Shortage::AcksOutstanding => self.rare.count(Rare::ShortOfAcks),
                    Shortage::HoldersFull => self.rare.count(Rare::ShortOfSpace),
                    Shortage::SharedDomains => self.rare.count(Rare::ShortOfDomains),
                    Shortage::OverQuota => self.rare.count(Rare::ShortOfQuota),
                }
            }
            OwnerEvent::Fetched { id, .. } => drop(self.asked.remove(&(node, *id))),
            OwnerEvent::NotFetched { id, .. } => {
                self.asked.remove(&(node, *id));
                self.rare.count(Rare::GetNothing);
            }
            OwnerEvent::Stored { .. } => {}
            OwnerEvent::Superseded { .. }
            | OwnerEvent::HeadSeen { .. }
            | OwnerEvent::HeadsDone { .. }
            | OwnerEvent::Located { .. }
            | OwnerEvent::LocateDone { .. }
            | OwnerEvent::Noticed { .. }
            | OwnerEvent::StandingAsked { .. }
            | OwnerEvent::Account { .. } => {}
        }
    }

    /// A store was opened.
    pub(super) fn opened(&mut self, report: &OpenReport) {
        let seen = [
            (report.cut_bytes > 0, Rare::TornTail),
            (report.replayed > 0, Rare::Replayed),
            (report.rebuilt == Some(Rebuilt::Missing), Rare::RebuiltMissing),
            (report.rebuilt == Some(Rebuilt::AheadOfLog), Rare::RebuiltAhead),
            (report.rebuilt == Some(Rebuilt::Inconsistent), Rare::RebuiltInconsistent),
            (report.rebuilt == Some(Rebuilt::Broken), Rare::RebuiltBroken),
            (report.read_only.is_some(), Rare::ReadOnlyOpened),
            (!report.damage.is_empty(), Rare::Damage),
            (report.quarantined > 0, Rare::Quarantined),
        ];
        seen.into_iter().filter(|(is_so, _)| *is_so).for_each(|(_, rare)| self.rare.count(rare));
    }

    /// A store gave space back.
    pub(super) fn moved(&mut self, before: &Moves, after: &Moves) {
        self.rare.add(Rare::ChunkMoved, after.chunks - before.chunks);
        self.rare.add(Rare::TombstoneMoved, after.tombstones - before.tombstones);
        self.rare.add(Rare::Compacted, after.emptied - before.emptied);
        self.rare.add(Rare::Unlinked, after.unlinked - before.unlinked);
    }

    /// An audit found a replica to be there no more.
    pub(super) fn lost_replica(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::NotHeld => self.rare.count(Rare::FoundMissing),
            Verdict::Damaged => self.rare.count(Rare::FoundDamaged),
            Verdict::Lied => self.rare.count(Rare::FoundLie),
            // What a user gave up is not counted any more, and few have a delete key besides.
            Verdict::Released | Verdict::Proven | Verdict::Unproven => {}
        }
    }

    /// A store takes no writes any more.
    pub(super) fn read_only(&mut self, why: &ReadOnly) {
        match why {
            ReadOnly::Sync(_) => self.rare.count(Rare::ReadOnlySync),
            ReadOnly::Log(_) => self.rare.count(Rare::ReadOnlyWrite),
            ReadOnly::Catalogue(_) => self.rare.count(Rare::ReadOnlyCatalogue),
            // No heads in these worlds.
            ReadOnly::Ledger(_) => {}
        }
    }
}

impl World<'_> {
    pub(super) fn notice_said(&mut self, node: Index, to: Index, message: &StreamMessage) {
        if !self.nodes[node].is_honest() {
            return;
        }
        let replicas = match message {
            StreamMessage::StoreChunk(chunk) => {
                let facts = self.chunks.get(&chunk.header.id());
                facts.map_or(usize::MAX, |facts| usize::from(facts.replicas))
            }
            _ => 0,
        };
        self.noticed.said(node, to, message, replicas);
    }

    pub(super) fn notice_published(&mut self, node: Index, message: &TopicMessage) {
        if !self.nodes[node].is_honest() {
            return;
        }
        match message {
            TopicMessage::StoreRequest(request) if request.attempt > 0 => {
                self.noticed.rare.count(Rare::StoreAgain);
            }
            TopicMessage::SearchRequest(request) if request.attempt > 0 => {
                self.noticed.rare.count(Rare::SearchAgain);
            }
            _ => {}
        }
    }

    pub(super) fn notice_reported(&mut self, node: Index, event: &OwnerEvent) {
        if self.nodes[node].is_honest() {
            let holder = match event {
                OwnerEvent::Acked { node, .. } => self.indices.get(node).copied(),
                _ => None,
            };
            self.noticed.reported(node, holder, event);
        }
    }
}
