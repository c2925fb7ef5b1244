//! `forget`: which snapshots a policy keeps, and the entry that says that the others are gone.
//!
//! The policy sees the snapshots of all devices, as far as their heads could be read. One that was
//! not seen is never forgotten, and one more would make the policy keep fewer of the others: so
//! what is not known now only keeps more. Nothing is released here.

mod policy;

use super::backup::Wish;
use super::choose::{Deed, Doubt, choose};
use super::failures;
use super::handle::NodeHandle;
use super::inner::Inner;
use super::look::Parts;
use super::report::{
    Failure, FailureKind, ForgetDone, ForgetRequest, ForgetRow, Rows, SnapshotReport,
};
use super::repository::{Breadth, now_ns, report};
use crate::core::codec::QUORUM_MAX;
use crate::core::types::SnapshotId;
use crate::repo::manifest::merge::Live;
use crate::repo::manifest::{Body, FORGETS_MAX};
use crate::repo::reference::ChunkRef;
use crate::repo::retain::{Candidate, Group, Policy, RetainFault, retain};
use policy::{Filter, Options, options};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How long a snapshot whose paths are not all known may take.
const CHUNK_PATIENCE: Duration = Duration::from_secs(30);

/// Rows that go out together.
const ROWS_MAX: usize = 64;

/// Replicas where nothing was published yet.
const REPLICAS: u8 = 3;

const NOTHING: &str = "nothing was forgotten";

const DEED: Deed = Deed { undone: NOTHING, command: "forget" };

impl NodeHandle {
    /// Forgets snapshots. Who stops listening before it is done does not stop what is being
    /// written.
    pub fn forget(&self, request: ForgetRequest) -> mpsc::Receiver<Rows<ForgetRow, ForgetDone>> {
        self.list(|inner, parts| async move { run(&inner, &request, &parts).await })
    }
}

/// A snapshot that may be forgotten.
struct Known {
    candidate: Candidate,
    reference: ChunkRef,
    report: SnapshotReport,
}

/// What is to be done.
#[derive(Default)]
struct Plan {
    rows: Vec<ForgetRow>,
    groups: u64,
    /// Ascending.
    forgotten: Vec<SnapshotId>,
}

async fn run(
    inner: &Arc<Inner>,
    request: &ForgetRequest,
    parts: &Parts<ForgetRow, ForgetDone>,
) -> Result<ForgetDone, Failure> {
    let started = Instant::now();
    let options = options(request).map_err(usage)?;
    let replicas = match request.replicas {
        Some(replicas) => replicas,
        None => inner.repository.replicas(inner).unwrap_or(REPLICAS),
    };
    if !(1..=QUORUM_MAX).contains(&replicas) {
        return Err(usage(format!("there can be 1 to {QUORUM_MAX} replicas")));
    }
    let (mut notes, _) = inner.repository.refresh(inner, Breadth::Everyone).await?;
    let plan = match &options {
        Options::These => these(inner, &request.snapshots).await?,
        Options::Policy { policy, by, filter } => {
            let mut known = known(inner, filter).await;
            if by.paths || filter.has_paths() {
                fill_roots(inner, &mut known).await?;
            }
            notes.extend(filter.unmatched(known.iter().map(|known| &known.candidate)));
            known.retain(|known| filter.names(&known.candidate));
            let of = known.iter().map(|known| known.candidate.clone());
            let groups = retain(&of.collect::<Vec<_>>(), policy, *by, now_ns());
            planned(&groups.map_err(|fault| refused(&fault, policy))?, known)
        }
    };
    let forgotten = plan.forgotten.len();
    let written = match forgotten {
        0 => None,
        _ if request.dry_run => None,
        _ => {
            let patience = Duration::from_secs(request.timeout_s.max(1));
            Some(publish(inner, Wish { replicas, patience }, plan.forgotten).await?)
        }
    };
    if written.is_some_and(|written| written < replicas) {
        let written = written.unwrap_or(0);
        notes.push(format!("{written} of {replicas} nodes know of it; it is sent again"));
    }
    let kept = plan.rows.iter().filter(|row| row.kept).count();
    let mut rows = plan.rows.into_iter().peekable();
    while rows.peek().is_some() {
        let rows = rows.by_ref().take(ROWS_MAX).collect();
        parts.send(Rows::Rows { rows }).await.map_err(|_| failures::stopped())?;
    }
    Ok(ForgetDone {
        dry_run: request.dry_run,
        groups: plan.groups,
        kept: u64::try_from(kept).unwrap_or(u64::MAX),
        forgotten: u64::try_from(forgotten).unwrap_or(u64::MAX),
        replicas: written,
        replicas_wished: replicas,
        seconds: started.elapsed().as_secs_f64(),
        notes,
    })
}

/// Exactly these snapshots.
async fn these(inner: &Arc<Inner>, wanted: &[String]) -> Result<Plan, Failure> {
    let pick = |live: Vec<&Live>| -> Result<Plan, Failure> {
        let mut plan = Plan::default();
        for wanted in wanted {
            let id = choose(wanted, &live, &Doubt::None, DEED)?.id;
            let Some(one) = live.iter().find(|one| one.added.id == id) else { continue };
            if !plan.forgotten.contains(&id) {
                plan.rows.push(row(report(one), String::new(), Vec::new(), false));
                plan.forgotten.push(id);
            }
        }
        plan.forgotten.sort_unstable();
        Ok(plan)
    };
    inner.repository.with_live(pick).await
}

/// The snapshots of all devices that the filters leave, whatever they are of.
async fn known(inner: &Arc<Inner>, filter: &Filter) -> Vec<Known> {
    let known = |live: Vec<&Live>| {
        let known = live.into_iter().map(|live| Known {
            candidate: Candidate::of(live),
            reference: live.added.reference.duplicate(),
            report: report(live),
        });
        known.filter(|known| filter.admits(&known.candidate)).collect()
    };
    inner.repository.with_live(known).await
}

/// The entries of the manifest name but some of many paths: the snapshots name all.
async fn fill_roots(inner: &Arc<Inner>, known: &mut [Known]) -> Result<(), Failure> {
    for known in known.iter_mut().filter(|known| known.candidate.roots_cut) {
        let of = (known.candidate.id, &known.reference);
        known.candidate.roots = inner.snapshot(of, CHUNK_PATIENCE).await?.roots;
        known.candidate.roots_cut = false;
    }
    Ok(())
}

fn planned(groups: &[Group], known: Vec<Known>) -> Plan {
    let mut reports: BTreeMap<SnapshotId, SnapshotReport> =
        known.into_iter().map(|known| (known.candidate.id, known.report)).collect();
    let mut plan = Plan { groups: groups.len() as u64, ..Plan::default() };
    for group in groups {
        let mut rows = Vec::new();
        for kept in &group.kept {
            let reasons = kept.reasons.iter().map(ToString::to_string).collect();
            let report = reports.remove(&kept.id);
            rows.extend(report.map(|report| row(report, group.key.to_string(), reasons, true)));
        }
        for id in &group.forgotten {
            let report = reports.remove(id);
            let gone = report.map(|report| row(report, group.key.to_string(), Vec::new(), false));
            rows.extend(gone);
            plan.forgotten.push(*id);
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row.snapshot.created_at));
        plan.rows.append(&mut rows);
    }
    plan.forgotten.sort_unstable();
    plan
}

fn row(snapshot: SnapshotReport, group: String, reasons: Vec<String>, kept: bool) -> ForgetRow {
    ForgetRow { snapshot, group, kept, reasons }
}

/// Writes it into this device's chain. Returns how many nodes keep it.
async fn publish(
    inner: &Arc<Inner>,
    wish: Wish,
    forgotten: Vec<SnapshotId>,
) -> Result<u8, Failure> {
    inner.repository.note_forgets(inner, &forgotten).await?;
    let bodies = forgotten.chunks(FORGETS_MAX).map(|ids| Body::Forget(ids.to_vec()));
    let bodies: Vec<Body> = bodies.collect();
    let reins = (Arc::default(), Arc::default());
    let published = inner.repository.publish(inner, wish, reins, |_, _| Ok(bodies)).await?;
    let head = u8::try_from(published.head_replicas).unwrap_or(u8::MAX);
    Ok(head.min(published.stored.replicas))
}

fn usage(why: String) -> Failure {
    let hint = "`quloud forget --help` shows the options";
    Failure::new(FailureKind::Usage, NOTHING, why, hint)
}

fn refused(fault: &RetainFault, policy: &Policy) -> Failure {
    let hint = match fault {
        RetainFault::Empty => "say what to keep, such as --keep-last 3 or --keep-daily 7",
        RetainFault::Group(_) if policy.tags.is_empty() => {
            "keep at least one of each group, such as --keep-last 1"
        }
        RetainFault::Group(_) => "check --keep-tag, or keep one of each group with --keep-last 1",
        RetainFault::RootsCut(_) => return failures::stopped(),
    };
    Failure::new(FailureKind::Usage, NOTHING, fault.to_string(), hint)
}
