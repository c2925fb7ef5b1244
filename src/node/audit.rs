//! `audit`: holders prove what they acknowledged, and what they cannot prove counts no more.
//!
//! ```text
//! who holds what ─▶ each holder: questions, halves of what fails ─▶ verdicts ─▶ the catalogue
//!                                                      what is lost ─▶ the files that name it
//! ```
//! All holders are asked at once, each a batch of its chunks after the other: in the order of their
//! ids, which are hashes, so that a holder cannot tell what a batch is about. Nothing of this
//! machine's files is needed: after `recover` it is first asked who holds what.
//!
//! What an audit found stands in the catalogue: when each replica was proven, which replicas are
//! gone and why, and what each holder's audits came to ([`standing`]). Whether what is proven is
//! handed over, too, is tried now and then: see [`served`]. Whether a lost replica
//! matters only the snapshots tell. What none of them names was forgotten, and another device has
//! let it go: it is no fault of the holder.

pub(super) mod ask;
mod later;
mod mac;
mod served;
mod stake;

use super::choose::{Chosen, Deed, Doubt, choose};
use super::handle::NodeHandle;
use super::heard::heard;
use super::inner::Inner;
use super::needed::named;
use super::put::seconds_since_1970;
use super::rebuild;
use super::recover::nobody;
use super::report::{
    AuditDone, AuditProof, AuditRequest, AuditedHolder, Failure, FailureKind, Progress,
};
use super::repository::{Breadth, look};
use super::standing::told_of;
use crate::core::reputation::Losses;
use crate::core::types::{AuditOutcome, NodeId, SnapshotId, Time};
use crate::net::peer_id_of;
use crate::repo::catalog::{AuditRecord, Entry, HolderAudited, Loss, Standing, standing};
use crate::repo::mark::LiveChunks;
use crate::repo::reference::ChunkRef;
use crate::repo::turn::{Ended, Note, witnesses};
use ask::{Heard, Which, ask_all};
use later::owes;
pub(super) use later::{audit_later, audit_noticed, prove_new};
use mac::ask_by_mac;
pub(super) use served::fetch_later;
pub(super) use stake::Stake;
use stake::at_stake;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const DEED: Deed = Deed { undone: "nothing was audited", command: "audit" };

impl NodeHandle {
    /// Asks holders for proofs of what they keep. Dropping the receiver ends it.
    pub fn audit(&self, request: AuditRequest) -> mpsc::Receiver<Progress<AuditDone>> {
        begin(Arc::clone(&self.inner), request)
    }
}

/// See [`NodeHandle::audit`].
pub(super) fn begin(
    inner: Arc<Inner>,
    request: AuditRequest,
) -> mpsc::Receiver<Progress<AuditDone>> {
    heard(move |progress| async move { run(&inner, &request, &progress).await })
}

async fn run(
    inner: &Arc<Inner>,
    request: &AuditRequest,
    progress: &mpsc::Sender<Progress<AuditDone>>,
) -> Result<AuditDone, Failure> {
    let started = Instant::now();
    let patience = Duration::from_secs(request.timeout_s);
    let mut notes = Vec::new();
    // Also for what is at stake: all that the heads name by now.
    let look = look(inner, Breadth::Brief).await?;
    if look.peers == 0 {
        return Err(nobody(&inner.mesh_name));
    }
    notes.extend(look.notes.iter().cloned());
    if !rebuild::fill_now(inner, rebuild::By::User).await? {
        notes.push(
            "not all holders were listed since this device was recovered: they are audited later"
                .to_owned(),
        );
    }
    let mut only = None;
    let which = match &request.snapshot {
        None => Which::All,
        Some(wanted) => {
            let (wanted, doubt) = (wanted.clone(), Doubt::after(&look));
            let chosen =
                inner.repository.with_live(move |live| choose(&wanted, &live, &doubt, DEED));
            let Chosen { id, reference, .. } = chosen.await?;
            let (all, at) = (LiveChunks::default(), Some((id, reference.duplicate())));
            let named = named(inner, at, all, (patience, progress.clone())).await?;
            if let Some(why) = named.why {
                return Err(unread(why));
            }
            only = Some((id, reference));
            Which::Named(Arc::new(named.reached))
        }
    };
    let is_all = matches!(which, Which::All);
    let by_mac = request.kind == AuditProof::Mac;
    let (heard, by_mac) = match by_mac {
        true => by_macs_first(inner, (which, only), (patience, progress)).await?,
        false => (ask_all(inner, &which, Some(progress)).await?, 0),
    };
    if heard.is_empty() {
        return Err(nothing_stored());
    }
    let stake = at_stake(inner, &heard, is_all, (patience, progress.clone())).await?;
    if is_all {
        // Who answered for all of it owes nothing.
        for heard in heard.iter().filter(|heard| heard.answers > 0 && heard.owed.is_empty()) {
            owes(inner, heard.node, |debt| debt.after([]))?;
        }
    }
    note(inner, &heard, &stake).await?;
    let mut done = done(inner, &heard, &stake);
    (done.notes, done.by_mac) = (notes, by_mac);
    done.seconds = started.elapsed().as_secs_f64();
    Ok(done)
}

/// MACs of what can be made again here, then compact proofs of the rest. Also gives how many
/// replicas were proven by MACs.
async fn by_macs_first(
    inner: &Arc<Inner>,
    (which, only): (Which, Option<(SnapshotId, ChunkRef)>),
    (patience, progress): (Duration, &mpsc::Sender<Progress<AuditDone>>),
) -> Result<(Vec<Heard>, u64), Failure> {
    let mut heard = ask_by_mac(inner, only, (patience, progress)).await?;
    let by_mac = heard.iter().map(|heard| heard.proven).sum();
    let before = heard.iter().map(|of| (of.node, of.proofs.iter().flatten().copied().collect()));
    let before = Arc::new(before.collect());
    let rest = match which {
        Which::Named(named) => Which::Rest(before, Some(named)),
        _ => Which::Rest(before, None),
    };
    for of in ask_all(inner, &rest, Some(progress)).await? {
        match heard.iter_mut().find(|before| before.node == of.node) {
            // What was not made again, or was not proven by its MAC, was asked for once more.
            Some(before) => {
                before.replicas = before.proven + before.all_lost().count() as u64;
                before.unproven = 0;
                before.absorb(of);
            }
            None => heard.push(of),
        }
    }
    heard.sort_by_key(|heard| heard.node);
    Ok((heard, by_mac))
}

fn unread(why: String) -> Failure {
    let hint = "start more of the mesh's nodes, then run the same command again";
    Failure::new(FailureKind::NotEnoughHolders, DEED.undone, why, hint)
}

fn nothing_stored() -> Failure {
    let hint = "back something up first with `quloud backup`; on a new machine, `quloud recover` \
                finds what is stored";
    let why = "no node is known to hold anything of this owner";
    Failure::new(FailureKind::Usage, DEED.undone, why, hint)
}

/// Notes who answered. Returns those whose silence is their own.
fn heard_of(inner: &Inner, heard: &[Heard]) -> BTreeSet<NodeId> {
    let connected = inner.shared.watch_peers().borrow().clone();
    let now_s = seconds_since_1970();
    let counted: BTreeSet<NodeId> = inner.with_catalog(|catalog| {
        let records: BTreeMap<&NodeId, &AuditRecord> = catalog.audit_records().collect();
        let stores = catalog.stores().into_iter();
        let holders = stores
            .map(|(node, _)| (node, catalog.chunks_held_by(&node), records.get(&node).copied()));
        witnesses(holders, now_s)
    });
    let all = counted.iter().copied().chain(heard.iter().map(|heard| heard.node));
    let stand = inner.shared.memory.standings(all);
    let mut answered = inner.answered.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Time::default().after(inner.started.elapsed());
    let there = heard.iter().filter(|heard| heard.answers > 0);
    there.for_each(|heard| answered.add(heard.node, now));
    let is_own = |heard: &&Heard| {
        let is_anybody_there = connected.iter().any(|node| *node != heard.node);
        let is_one = |node: &NodeId| *node == heard.node || counted.contains(node);
        let holders = stand.iter().filter(|(node, _)| is_one(node));
        let holders = holders.map(|(node, standing)| (*node, standing));
        answered.speak_against(now, &heard.node, holders, is_anybody_there)
    };
    heard.iter().filter(is_own).map(|heard| heard.node).collect()
}

/// Writes down what each holder's audit came to: see [`Ended::note`].
async fn note(inner: &Arc<Inner>, heard: &[Heard], stake: &Stake) -> Result<(), Failure> {
    let own = heard_of(inner, heard);
    for heard in heard {
        let ended = Ended {
            answers: heard.answers,
            unanswered: heard.silent + heard.busy,
            owes: inner.with_catalog(|catalog| catalog.debt_of(&heard.node).count()) as u64,
            was_silent: inner.with_catalog(|catalog| {
                catalog.audit_record(&heard.node).is_some_and(|record| record.silence.is_some())
            }),
            is_incident: heard.all_lost().next().is_some(),
            is_own: own.contains(&heard.node),
        };
        match ended.note() {
            Note::Audited { silent } => {
                record(inner, heard, stake, silent)?;
                let losses = losses(heard, stake);
                inner.shared.memory.audited(heard.node, heard.asked_s, losses);
            }
            Note::Silent => {
                inner.record(Entry::HolderSilent { node: heard.node, at_s: heard.asked_s })?;
            }
            Note::Nothing => {}
        }
    }
    super::check::save(inner).await;
    inner.commit_catalog().await
}

/// Writes down what an audit of a holder came to, with the damage that a smaller one found
/// meanwhile: one that a notice began, or the user.
///
/// # Errors
/// The catalogue takes nothing.
pub(in crate::node) fn record(
    inner: &Inner,
    heard: &Heard,
    stake: &Stake,
    silent: u64,
) -> Result<(), Failure> {
    let lost = |why| heard.lost(why).filter(|id| stake.matters(id)).count() as u64;
    let outcome = AuditOutcome {
        at_s: heard.asked_s,
        asked: heard.replicas.saturating_sub(heard.silent + heard.busy),
        proven: heard.proven,
        missing: lost(Loss::Missing),
        damaged: lost(Loss::Damaged),
        lied: heard.lost(Loss::Lied).count() as u64,
        released: heard.lost(Loss::Released).count() as u64,
    };
    let (node, epoch, bytes_moved) = (heard.node, heard.epoch, heard.moved);
    let audited = HolderAudited { node, epoch, outcome, silent, bytes_moved };
    let recorded = inner.record_if(|catalog| {
        let by_now = catalog.audit_record(&node).and_then(|record| record.last);
        let audited = audited.with_damage_of(heard.before.as_ref(), by_now.as_ref());
        Some(Entry::HolderAudited(audited))
    });
    recorded.map(drop)
}

/// What of that a holder is at fault for.
fn losses(heard: &Heard, stake: &Stake) -> Losses {
    let mut lost = heard.lost(Loss::Missing).chain(heard.lost(Loss::Damaged));
    if heard.never_proven().any(|id| stake.matters(id)) {
        Losses::NeverProven
    } else if lost.any(|id| stake.matters(id)) {
        Losses::Proven
    } else {
        Losses::None
    }
}

/// What it came to, as the user is told.
fn done(inner: &Inner, heard: &[Heard], stake: &Stake) -> AuditDone {
    let mut done = AuditDone {
        files: stake.files(),
        files_total: stake.files_total(),
        lost: stake.lost(),
        unread: stake.unread(),
        short: stake.short(),
        ..AuditDone::default()
    };
    let mut chunks: Vec<u64> = Vec::new();
    for heard in heard {
        let holder = holder(inner, heard, stake);
        done.replicas += holder.replicas;
        done.proven += holder.proven;
        done.silent += holder.silent;
        done.busy += holder.busy;
        done.damaged += holder.damaged;
        done.lied += holder.lied;
        done.missing += holder.missing;
        done.rotten += holder.rotten;
        done.unproven += holder.unproven;
        done.unneeded += heard.all_lost().filter(|id| !stake.matters(id)).count() as u64;
        done.bytes_proven = done.bytes_proven.saturating_add(heard.bytes_proven);
        done.bytes_moved = done.bytes_moved.saturating_add(heard.moved);
        chunks.extend(&heard.prefixes);
        done.holders.push(holder);
    }
    chunks.sort_unstable();
    chunks.dedup();
    done.chunks = chunks.len() as u64;
    done
}

fn holder(inner: &Inner, heard: &Heard, stake: &Stake) -> AuditedHolder {
    let lost = |why| {
        let now = heard.lost(why).filter(|id| stake.matters(id)).count() as u64;
        now + stake.earlier(&heard.node, why)
    };
    let (lied, rotten) = (lost(Loss::Lied), lost(Loss::Damaged));
    let missing = lost(Loss::Missing) + lost(Loss::Released);
    let record = inner.with_catalog(|catalog| catalog.audit_record(&heard.node));
    let (standing, why) = told_of(&record.unwrap_or_default(), seconds_since_1970());
    AuditedHolder {
        peer_id: peer_id_of(&heard.node),
        replicas: heard.replicas,
        proven: heard.proven,
        silent: heard.silent,
        busy: heard.busy,
        damaged: lied + rotten + missing,
        lied,
        missing,
        rotten,
        unproven: heard.unproven,
        wrong_answers: u64::from(heard.wrong),
        standing: standing.to_owned(),
        why,
    }
}

/// Holders that answered for chunks as if they had them, and had not: they get nothing more.
pub(super) fn liars(inner: &Inner) -> BTreeSet<NodeId> {
    those(inner, |_, _, standing| standing == Standing::Liar)
}

/// Holders whose replicas do not count for who heals at once: liars, those who did not answer the
/// last audit and are away, and those who did not, or withheld what they prove, for long.
pub(super) fn not_counted(inner: &Inner) -> BTreeSet<NodeId> {
    let connected = inner.shared.watch_peers().borrow().clone();
    those(inner, |node, record, standing| match standing {
        Standing::Liar | Standing::Suspect | Standing::Lost => true,
        Standing::Late => record.silence.is_some() && !connected.contains(node),
        Standing::Unknown | Standing::Proven | Standing::Damaged => false,
    })
}

fn those(
    inner: &Inner,
    is_one: impl Fn(&NodeId, &AuditRecord, Standing) -> bool,
) -> BTreeSet<NodeId> {
    let now_s = seconds_since_1970();
    inner.with_catalog(|catalog| {
        let records = catalog.audit_records();
        let them = records.filter(|(node, of)| is_one(node, of, standing(of, now_s)));
        them.map(|(node, _)| *node).collect()
    })
}
