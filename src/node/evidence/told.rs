//! Which word is told of a snapshot, by the rules of [`crate::repo::evidence`]. From the catalogue
//! alone, so at once, whether a node runs or not.

use crate::core::types::SnapshotId;
use crate::node::report::{EvidenceReport, ReplicasReport, ReplicasWord};
use crate::repo::catalog::{BackupMade, Catalog, SnapshotEvidence};
use crate::repo::evidence::{Acked, Teller as Words, Told, Word};

/// Tells words at one time.
pub(in crate::node) struct Teller<'a> {
    catalog: &'a Catalog,
    pub(super) words: Words,
}

impl<'a> Teller<'a> {
    /// At `now_s`: seconds since 1970.
    pub(in crate::node) fn new(catalog: &'a Catalog, now_s: u64) -> Self {
        let holding = catalog.audit_records().filter(|(node, _)| catalog.chunks_held_by(node) > 0);
        let words = Words::new(holding.map(|(_, record)| record), now_s);
        Self { catalog, words }
    }

    /// Of this snapshot; `None` where nothing is known: it is not the newest of its paths, or
    /// another device made it and it was not looked at.
    pub(in crate::node) fn snapshot(&self, id: &SnapshotId) -> Option<ReplicasReport> {
        let last = self.catalog.evidence_of(id);
        let Some(made) = self.catalog.made_as(id) else {
            let last = last?;
            let is_any = last.word != Word::Queued;
            let (has, target, since_s) = (last.acked, last.target, last.since_s);
            return Some(self.tell(Acked { has, target, is_any, since_s }, Some(last)));
        };
        let (has, target, since_s) = (made.replicas, made.target, made.at);
        let acked = Acked { has, target, is_any: has > 0, since_s };
        match last {
            Some(last) if last.target == target => Some(self.tell(acked, Some(last))),
            // By another wish, of the same replicas.
            Some(last) if !self.is_behind(last) && last.counted >= target && last.chunks > 0 => {
                Some(report(&acked.told(), None))
            }
            _ => Some(self.tell(acked, None)),
        }
    }

    /// Of all snapshots of which anything is known.
    pub(in crate::node) fn snapshots(&self) -> Vec<(SnapshotId, ReplicasReport)> {
        let made = self.catalog.made().into_iter().map(|made| made.snapshot);
        let looked_at = self.catalog.evidence().map(|last| last.snapshot);
        let mut ids: Vec<SnapshotId> = made.chain(looked_at).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.retain(|id| *id != SnapshotEvidence::PUTS);
        ids.into_iter().filter_map(|id| Some((id, self.snapshot(&id)?))).collect()
    }

    /// Of all files that were put, together: the worst of them. `None` where none was.
    pub(in crate::node) fn puts(&self) -> Option<ReplicasReport> {
        let open = self.catalog.open_jobs().map(|job| Acked {
            has: job.short.as_ref().map_or(0, |root| root.replicas),
            target: job.started.replicas.max(1),
            is_any: job.acked,
            since_s: job.started.started_at,
        });
        let roots = self.catalog.roots();
        let newest = roots.iter().map(|root| root.job.0).max().unwrap_or(0);
        let stored = roots.iter().map(|root| Acked {
            has: root.replicas,
            target: root.target,
            is_any: true,
            since_s: root.put_at,
        });
        let missing = |it: &Acked| it.target.saturating_sub(it.has);
        let worst = open.chain(stored).max_by_key(|it| (it.is_short(), !it.is_any, missing(it)))?;
        // What was put since the last look was not seen by it.
        let last = self.catalog.evidence_of(&SnapshotEvidence::PUTS);
        let is_all = |last: &&SnapshotEvidence| {
            last.covers >= newest || !last.word.is_whole() || self.is_behind(last)
        };
        Some(self.tell(worst, last.filter(is_all)))
    }

    /// Whether what was found by this look may be worse by now.
    pub(super) fn is_behind(&self, last: &SnapshotEvidence) -> bool {
        self.words.is_behind(last)
    }

    /// Whether anything is told as at risk until it is looked at.
    pub(super) fn waits_for_a_look(&self) -> bool {
        let is_unseen = |made: &&BackupMade| {
            let last = self.catalog.evidence_of(&made.snapshot);
            !made.is_short() && last.is_none_or(|last| last.is_short())
        };
        self.catalog.evidence().any(|last| self.is_behind(last))
            || (self.words.is_anybody_uncounted() && self.catalog.made().iter().any(is_unseen))
    }

    fn tell(&self, acked: Acked, last: Option<&SnapshotEvidence>) -> ReplicasReport {
        report(&self.words.tell(acked, last), last)
    }
}

/// As it is told, with what the last look found.
fn report(told: &Told, last: Option<&SnapshotEvidence>) -> ReplicasReport {
    let Told { word, has, target, since, may_be_worse, worse_since } = *told;
    let unseen = EvidenceReport { may_be_worse: true, worse_since, ..EvidenceReport::default() };
    let evidence = match last {
        Some(last) => Some(evidence(last, (may_be_worse, worse_since))),
        None => may_be_worse.then_some(unseen),
    };
    ReplicasReport { has, target, word: of(word), since, evidence }
}

fn evidence(
    last: &SnapshotEvidence,
    (may_be_worse, worse_since): (bool, Option<u64>),
) -> EvidenceReport {
    let SnapshotEvidence { at_s, audited, chunks, lost, proven, unproven, .. } = *last;
    let (oldest_s, newest_s) = last.proofs_s;
    EvidenceReport {
        looked_at: (chunks > 0).then_some(at_s),
        chunks,
        fewest_proven: audited,
        proven,
        acked_only: unproven,
        lost,
        oldest_proof: (proven > 0).then_some(oldest_s),
        newest_proof: (proven > 0).then_some(newest_s),
        may_be_worse,
        worse_since,
    }
}

fn of(word: Word) -> ReplicasWord {
    match word {
        Word::Queued => ReplicasWord::Queued,
        Word::Replicating => ReplicasWord::Replicating,
        Word::Stored => ReplicasWord::Stored,
        Word::Safe => ReplicasWord::Safe,
        Word::AtRisk => ReplicasWord::AtRisk,
        Word::Lost => ReplicasWord::Lost,
    }
}
