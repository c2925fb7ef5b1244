//! How holders stand with this owner, in words; what this node tells a holder that asks; and asking
//! owners how this node stands with them.
//!
//! ```text
//! peers --standing ─▶ holder role ─▶ owners ─▶ what they say, gathered ─▶ the user
//! a holder asks ─▶ owner role ─▶ its record in the catalogue ─▶ a report ─▶ the holder
//! ```
//! Owner and holder make their words of the same report, so that both read the same. Whether what a
//! holder hears is true it cannot tell: it is the owner's opinion, and shown as that.
//!
//! Bounds: one round of questions at a time, of which the holder role has the bounds;
//! [`ASKED_QUEUED_MAX`] holders wait for their records to be looked up, and whoever asks beyond
//! these is told to come again.

use super::drive::{Drive, Role};
use super::handle::NodeHandle;
use super::inner::Inner;
use super::put::seconds_since_1970;
use super::report::{OwnerAnswer, OwnerSays, SaidAudit, SaidSilence, SaysOfUs, date};
use crate::core::effect::Input;
use crate::core::holder::{ANSWER_WITHIN, HolderEvent, Unsaid};
use crate::core::message::{
    ReportedSilence, STANDING_INCIDENTS_MAX, SilenceKind, StandingRefusal, StandingReport,
};
use crate::core::owner::OwnerCommand;
use crate::core::types::{AuditOutcome, NodeId, Standing};
use crate::net::peer_id_of;
use crate::repo::catalog::{AuditRecord, standing};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Weak;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Holders whose records are to be looked up.
pub(super) const ASKED_QUEUED_MAX: usize = 16;

/// A holder that asks, and its number of the question.
pub(super) type AskedBy = (NodeId, u64);

/// Who was asked, what it says, and how long ago it was asked.
pub(super) type Said = (NodeId, Result<StandingReport, Unsaid>, Duration);

/// What the drive loop is asked about standings.
pub(super) enum StandingCommand {
    /// Ask owners; what they say comes back when all have answered, or are late.
    AskOwners(oneshot::Sender<Vec<Said>>),
    /// Answer a holder.
    Tell {
        /// Who asked, and its number.
        asked: AskedBy,
        /// What it is told.
        outcome: Result<StandingReport, StandingRefusal>,
    },
}

/// What the drive loop keeps for it.
pub(super) struct Standings {
    /// Who waits for owners, and what these said so far.
    waiting: Option<(oneshot::Sender<Vec<Said>>, Vec<Said>)>,
    /// To whoever looks records up.
    asked: mpsc::Sender<AskedBy>,
}

impl Standings {
    pub(super) fn new(asked: mpsc::Sender<AskedBy>) -> Self {
        Self { waiting: None, asked }
    }
}

impl Drive {
    pub(super) async fn on_standing_command(&mut self, command: StandingCommand) {
        match command {
            StandingCommand::AskOwners(waiting) => {
                self.standings.waiting = Some((waiting, Vec::new()));
                self.feed_holder(Input::AskOwners).await;
            }
            StandingCommand::Tell { asked, outcome } => {
                self.feed_owner(Input::Command(tell(asked, outcome))).await;
            }
        }
    }

    pub(super) fn on_holder_event(&mut self, event: HolderEvent) {
        match event {
            HolderEvent::Standing { owner, said, age } => {
                if let Some((_, all)) = &mut self.standings.waiting {
                    all.push((owner, said, age));
                }
            }
            HolderEvent::StandingsDone => {
                if let Some((waiting, all)) = self.standings.waiting.take() {
                    // Who hung up does not want to know.
                    drop(waiting.send(all));
                }
            }
        }
    }

    pub(super) fn on_standing_asked(&mut self, asked: AskedBy) {
        if self.standings.asked.try_send(asked).is_err() {
            let busy = Input::Command(tell(asked, Err(StandingRefusal::Busy)));
            self.pending.push_back((Role::Owner, busy));
        }
    }
}

fn tell(
    (holder, request): AskedBy,
    outcome: Result<StandingReport, StandingRefusal>,
) -> OwnerCommand {
    OwnerCommand::TellStanding { holder, request, outcome }
}

/// Looks up how holders stand that ask, for the node's life.
pub(super) async fn tell_holders(inner: Weak<Inner>, mut asked: mpsc::Receiver<AskedBy>) {
    while let Some(asked) = asked.recv().await {
        let Some(inner) = inner.upgrade() else { return };
        let outcome = said_of(&inner, &asked.0);
        if inner.standings.send(StandingCommand::Tell { asked, outcome }).await.is_err() {
            return;
        }
    }
}

/// What a holder is told; nothing where nothing is known that it keeps, or kept.
pub(super) fn said_of(inner: &Inner, holder: &NodeId) -> Result<StandingReport, StandingRefusal> {
    let (record, held) = inner
        .with_catalog(|catalog| (catalog.audit_record(holder), catalog.chunks_held_by(holder)));
    match record {
        None if held == 0 => Err(StandingRefusal::NoAccount),
        record => Ok(report_of(&record.unwrap_or_default(), seconds_since_1970())),
    }
}

impl NodeHandle {
    /// What owners say of this node: of those that are connected, and have asked for what it keeps
    /// for them since they are. In the order of the PeerIds; takes as long as an owner may that
    /// does not answer, and asks none of them twice within a minute.
    pub async fn standings(&self) -> Vec<OwnerSays> {
        let _alone = self.inner.asking_owners.lock().await;
        let (waiting, said) = oneshot::channel();
        let asked = self.inner.standings.send(StandingCommand::AskOwners(waiting)).await;
        // The node is being shut down where nobody takes it, or answers.
        let said = if asked.is_ok() { said.await.unwrap_or_default() } else { Vec::new() };
        let owner = |(node, said, age): Said| {
            let says = SaysOfUs { asked_ago_s: age.as_secs(), ..says(said) };
            OwnerSays { peer_id: peer_id_of(&node), says }
        };
        let mut owners: Vec<OwnerSays> = said.into_iter().map(owner).collect();
        owners.sort_by(|left, right| left.peer_id.cmp(&right.peer_id));
        owners
    }
}

/// What an owner said, as the user is told.
fn says(said: Result<StandingReport, Unsaid>) -> SaysOfUs {
    let nothing = |answer, why: &str| {
        let why = why.to_owned();
        SaysOfUs { answer, why, ..SaysOfUs::default() }
    };
    let report = match said {
        Ok(report) => report,
        Err(Unsaid::NoAccount) => {
            return nothing(OwnerAnswer::Nothing, "it knows of nothing that is kept for it here");
        }
        Err(Unsaid::Busy) => {
            return nothing(OwnerAnswer::Busy, "it is too busy: ask again in a minute");
        }
        Err(Unsaid::Silent) => {
            let why = format!("it did not answer within {} s", ANSWER_WITHIN.as_secs());
            return nothing(OwnerAnswer::Silent, &why);
        }
        Err(Unsaid::Forged) => {
            return nothing(OwnerAnswer::Wrong, "its answer was not made with its keys");
        }
    };
    let (standing, why) = told(&report);
    let silence = |silence: ReportedSilence| SaidSilence {
        withheld: silence.kind == SilenceKind::Withheld,
        since: silence.since_s,
        misses: silence.misses,
    };
    SaysOfUs {
        answer: OwnerAnswer::Told,
        standing: standing.to_owned(),
        why,
        silence: report.silence.map(silence),
        asked_ago_s: 0,
        lied_at: report.lied_s,
        last: report.last.map(said_audit),
        incidents: report.incidents.into_iter().map(said_audit).collect(),
    }
}

fn said_audit(audit: AuditOutcome) -> SaidAudit {
    let AuditOutcome { at_s: at, asked, proven, missing, damaged, lied, released } = audit;
    SaidAudit { at, asked, proven, missing, damaged, lied, released }
}

/// Where a holder with this record stands at `now_s`, seconds since 1970, and what led there.
pub(super) fn report_of(record: &AuditRecord, now_s: u64) -> StandingReport {
    let kind = match record.withholds(now_s) {
        true => SilenceKind::Withheld,
        false => SilenceKind::Unanswered,
    };
    let silence = record.worst_silence(now_s).map(|silence| ReportedSilence {
        kind,
        since_s: silence.since_s,
        misses: silence.misses,
    });
    StandingReport {
        standing: standing(record, now_s),
        silence,
        lied_s: record.lied_s,
        last: record.last.map(|last| last.outcome),
        incidents: incidents(record),
    }
}

/// The newest, but those with a lie before all others; oldest first.
fn incidents(record: &AuditRecord) -> Vec<AuditOutcome> {
    let all = record.incidents.iter().map(|audited| audited.outcome);
    let mut all: Vec<(usize, AuditOutcome)> = all.enumerate().collect();
    all.sort_by_key(|(at, audit)| (audit.lied == 0, Reverse(*at)));
    all.truncate(STANDING_INCIDENTS_MAX);
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, audit)| audit).collect()
}

/// Where a holder stands by this owner's record of it, and what led there.
pub(super) fn told_of(record: &AuditRecord, now_s: u64) -> (&'static str, String) {
    told(&report_of(record, now_s))
}

/// Where a holder stands, and what led there: the words of owner and holder alike.
fn told(report: &StandingReport) -> (&'static str, String) {
    let day = |at_s: u64| date(i64::try_from(at_s).unwrap_or(i64::MAX));
    let silent = || match report.silence {
        Some(ReportedSilence { kind: SilenceKind::Withheld, since_s, misses }) => {
            let since = day(since_s);
            format!("it proves what it has and withholds it since {since}, asked {misses} times")
        }
        Some(ReportedSilence { kind: SilenceKind::Unanswered, since_s, misses }) => {
            format!("not heard of since {}, asked {misses} times", day(since_s))
        }
        None => "it did not answer".to_owned(),
    };
    let last = |what: &str| match report.last {
        Some(last) => format!("{what} on {}", day(last.at_s)),
        None => what.to_owned(),
    };
    match report.standing {
        Standing::Unknown => ("unknown", "nothing was proven yet".to_owned()),
        Standing::Proven => ("proven", last("it proved what it was asked for")),
        Standing::Late => ("late", silent()),
        Standing::Suspect => ("suspect", silent()),
        Standing::Lost => ("lost", silent()),
        Standing::Damaged => ("damaged", last("some was damaged or gone")),
        Standing::Liar => {
            let audits = report.incidents.iter().chain(&report.last);
            let lies = audits.filter(|audit| audit.lied > 0).map(|audit| audit.at_s);
            let when: BTreeSet<String> = lies.chain(report.lied_s).map(day).collect();
            let when: Vec<String> = when.into_iter().collect();
            let what = "it answered wrongly for what it said it has";
            match when.is_empty() {
                true => ("liar", what.to_owned()),
                false => ("liar", format!("{what}, on {}", when.join(", "))),
            }
        }
    }
}

#[cfg(test)]
mod tests;
