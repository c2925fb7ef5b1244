//! `ls`, `diff` and `find`: looks into snapshots.
//!
//! Each is work over trees on a blocking thread: it says which chunks it needs, they come from the
//! copies here, else from the mesh, and a copy of them stays here. What it finds goes out in lists
//! without a bound: who reads slowly makes the thread wait, and memory does not grow.

mod rows;

use super::choose::{Chosen, Deed, Doubt, choose};
use super::failures;
use super::fetch::MeshSource;
use super::handle::NodeHandle;
use super::inner::Inner;
use super::report::{
    DiffDone, DiffRequest, DiffRow, Failure, FailureKind, FindDone, FindRequest, FindRow, LsDone,
    LsRequest, NameReport, Rows,
};
use super::repository::{Breadth, earlier};
use crate::core::types::SnapshotId;
use crate::repo::diff::Diff;
use crate::repo::find::Find;
use crate::repo::look::{Gaps, LookFault, ReadError, Reader};
use crate::repo::ls::{Depth, Ls};
use crate::repo::manifest::merge::Live;
use crate::repo::plan::Lost;
use crate::repo::reference::ChunkRef;
use crate::repo::snapshot::Snapshot;
use rows::{Teller, diff_row, name, query, tally};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Rows that may wait for a slow listener, in parts.
const PARTS_QUEUED_MAX: usize = 4;

/// Snapshots that could not be read and are told one by one.
const UNREAD_MAX: usize = 16;

const NOTHING: &str = "nothing was listed";

/// The way of rows to whoever asked.
pub(super) type Parts<R, D> = mpsc::Sender<Rows<R, D>>;

impl NodeHandle {
    /// What is in a folder of a snapshot. Dropping the receiver ends it, as with all lists.
    pub fn ls(&self, request: LsRequest) -> mpsc::Receiver<Rows<NameReport, LsDone>> {
        self.list(|inner, parts| async move { ls(&inner, request, parts).await })
    }

    /// What two snapshots differ in.
    pub fn diff(&self, request: DiffRequest) -> mpsc::Receiver<Rows<DiffRow, DiffDone>> {
        self.list(|inner, parts| async move { diff(&inner, request, parts).await })
    }

    /// Names in snapshots, the newest first.
    pub fn find(&self, request: FindRequest) -> mpsc::Receiver<Rows<FindRow, FindDone>> {
        self.list(|inner, parts| async move { find(&inner, request, parts).await })
    }

    /// A list that `work` sends the rows of, and ends.
    pub(super) fn list<R, D, W, F>(&self, work: W) -> mpsc::Receiver<Rows<R, D>>
    where
        R: Send + 'static,
        D: Send + 'static,
        W: FnOnce(Arc<Inner>, Parts<R, D>) -> F + Send + 'static,
        F: Future<Output = Result<D, Failure>> + Send,
    {
        let (parts, heard) = mpsc::channel(PARTS_QUEUED_MAX);
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            let Some(_place) = inner.looking.enter_silently(&parts).await else { return };
            let last = work(Arc::clone(&inner), parts.clone()).await;
            drop(parts.send(last.map_or_else(Rows::Failed, Rows::Done)).await);
        });
        heard
    }
}

/// Snapshots to look into, and what the user should know of how they were found.
struct Found {
    chosen: Vec<(Chosen, i64)>,
    notes: Vec<String>,
}

/// The snapshots that `wanted` names, after a look at the heads of all devices, or in what the
/// records of `heads` lead to. With a mesh out of reach these are the ones that were seen last:
/// looking does no harm.
async fn snapshots(
    inner: &Arc<Inner>,
    wanted: &[&str],
    heads: &[String],
    command: &'static str,
) -> Result<Found, Failure> {
    let deed = Deed { undone: NOTHING, command };
    let pick = |live: Vec<&Live>| -> Result<Vec<(Chosen, i64)>, Failure> {
        let created = |chosen: Chosen| {
            let one = live.iter().find(|one| one.added.id == chosen.id);
            (chosen, one.map_or(0, |one| one.added.created_ns))
        };
        let chosen =
            wanted.iter().map(|wanted| choose(wanted, &live, &Doubt::None, deed).map(created));
        chosen.collect()
    };
    if !heads.is_empty() {
        let chosen = pick(earlier(inner, heads).await?.live())?;
        return Ok(Found { chosen, notes: Vec::new() });
    }
    let (notes, _) = inner.repository.refresh(inner, Breadth::Brief).await?;
    let chosen = inner.repository.with_live(pick).await?;
    Ok(Found { chosen, notes })
}

async fn read(
    inner: &Arc<Inner>,
    id: SnapshotId,
    reference: &ChunkRef,
    timeout_s: u64,
) -> Result<Snapshot, Failure> {
    inner.snapshot((id, reference), Duration::from_secs(timeout_s)).await
}

/// Runs on a thread that may block.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| failures::died("the reading thread", &error))?
}

async fn ls(
    inner: &Arc<Inner>,
    request: LsRequest,
    parts: Parts<NameReport, LsDone>,
) -> Result<LsDone, Failure> {
    let at = place(&request.path);
    let wanted = [request.snapshot.as_str()];
    let Found { chosen, notes } = snapshots(inner, &wanted, &request.heads, "ls").await?;
    let [(Chosen { id, reference, .. }, created_ns)] = chosen.as_slice() else {
        return Err(failures::stopped());
    };
    let snapshot = read(inner, *id, reference, request.timeout_s).await?;
    let (id, created_at) = (id.to_string(), created_ns.div_euclid(1_000_000_000));
    let inner = Arc::clone(inner);
    on_thread(move || {
        let patience = Duration::from_secs(request.timeout_s);
        let mut source = MeshSource::new(inner, patience, &parts).keeping();
        let mut reader = Reader::new(&mut source);
        let depth = if request.recursive { Depth::All } else { Depth::One };
        let mut ls = Ls::new(snapshot.tree.as_ref(), &at, depth);
        let mut teller = Teller::new(&parts);
        while let Some(entry) = reader.next(&mut ls).map_err(failed)? {
            teller.row(name(&entry, request.lines))?;
        }
        let names = teller.end()?;
        let lost_names = ls.gaps().entries;
        Ok(LsDone { snapshot: id, created_at, names, lost_names, notes: noted(notes, ls.gaps()) })
    })
    .await
}

async fn diff(
    inner: &Arc<Inner>,
    request: DiffRequest,
    parts: Parts<DiffRow, DiffDone>,
) -> Result<DiffDone, Failure> {
    let Found { chosen, notes } =
        snapshots(inner, &[&request.before, &request.after], &[], "diff").await?;
    let [(before, _), (after, _)] = chosen.as_slice() else { return Err(failures::stopped()) };
    let ids = (before.id.to_string(), after.id.to_string());
    let before = read(inner, before.id, &before.reference, request.timeout_s).await?;
    let after = read(inner, after.id, &after.reference, request.timeout_s).await?;
    let inner = Arc::clone(inner);
    on_thread(move || {
        let patience = Duration::from_secs(request.timeout_s);
        let mut source = MeshSource::new(inner, patience, &parts).keeping();
        let mut reader = Reader::new(&mut source);
        let mut diff = Diff::new(before.tree.as_ref(), after.tree.as_ref());
        let mut teller = Teller::new(&parts);
        while let Some(difference) = reader.next(&mut diff).map_err(failed)? {
            teller.row(diff_row(&difference, request.lines))?;
        }
        teller.end()?;
        let totals = diff.totals();
        Ok(DiffDone {
            before: ids.0,
            after: ids.1,
            added: tally(totals.added),
            removed: tally(totals.removed),
            changed_before: tally(totals.before),
            changed_after: tally(totals.after),
            metadata: totals.metadata,
            notes,
        })
    })
    .await
}

async fn find(
    inner: &Arc<Inner>,
    request: FindRequest,
    parts: Parts<FindRow, FindDone>,
) -> Result<FindDone, Failure> {
    // What cannot match is refused before anybody is asked.
    query(&request).map_err(refused)?;
    let wanted: Vec<&str> = request.snapshots.iter().map(String::as_str).collect();
    let Found { mut chosen, notes } = snapshots(inner, &wanted, &[], "find").await?;
    if wanted.is_empty() {
        let all = |live: Vec<&Live>| live.into_iter().map(every).collect();
        chosen = inner.repository.with_live(all).await;
    }
    chosen.sort_by_key(|(chosen, created_ns)| (std::cmp::Reverse(*created_ns), chosen.id));
    chosen.dedup_by_key(|(chosen, _)| chosen.id);
    let mut done = FindDone { notes, ..FindDone::default() };
    let (request, parts) = (Arc::new(request), Arc::new(parts));
    for (Chosen { id, reference, .. }, created_ns) in chosen {
        let snapshot = match read(inner, id, &reference, request.timeout_s).await {
            Ok(snapshot) => snapshot,
            Err(_) if parts.is_closed() => return Err(failures::stopped()),
            Err(failure) => {
                if done.unread.len() < UNREAD_MAX {
                    done.unread.push(format!("{}: {}", failure.what, failure.why));
                }
                continue;
            }
        };
        let (inner, request, parts) = (Arc::clone(inner), Arc::clone(&request), Arc::clone(&parts));
        let of = (id.to_string(), created_ns.div_euclid(1_000_000_000));
        let (names, lost_names) =
            on_thread(move || find_in(inner, &snapshot, of, &request, &parts)).await?;
        done.snapshots += 1;
        done.names += names;
        done.lost_names += lost_names;
    }
    Ok(done)
}

fn every(live: &Live) -> (Chosen, i64) {
    let (id, reference) = (live.added.id, live.added.reference.duplicate());
    (Chosen { id, reference, index: live.index }, live.added.created_ns)
}

/// Looks through one snapshot. Returns how many names were found, and how many could not be read.
fn find_in(
    inner: Arc<Inner>,
    snapshot: &Snapshot,
    (id, created_at): (String, i64),
    request: &FindRequest,
    parts: &Parts<FindRow, FindDone>,
) -> Result<(u64, u64), Failure> {
    let patience = Duration::from_secs(request.timeout_s);
    let mut source = MeshSource::new(inner, patience, parts).keeping();
    let mut reader = Reader::new(&mut source);
    let query = query(request).map_err(refused)?;
    let mut find = Find::new(snapshot.tree.as_ref(), &place(&request.path), query);
    let mut teller = Teller::new(parts);
    while let Some(entry) = reader.next(&mut find).map_err(failed)? {
        let (snapshot, name) = (id.clone(), name(&entry, request.lines));
        teller.row(FindRow { snapshot, created_at, name })?;
    }
    Ok((teller.end()?, find.gaps().entries))
}

/// A path of the user's as the tree has it: below the root of everything.
fn place(path: &[u8]) -> Vec<u8> {
    let begin = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(begin, |last| last + 1);
    path.get(begin..end).unwrap_or_default().to_vec()
}

/// What could not be read is told beside what was.
fn noted(mut notes: Vec<String>, gaps: &Gaps) -> Vec<String> {
    if !gaps.is_empty() {
        notes.push(format!("{} names could not be read", gaps.entries));
    }
    notes
}

fn refused(why: String) -> Failure {
    let hint = "`quloud find --help` shows how patterns are given";
    Failure::new(FailureKind::Usage, NOTHING, why, hint)
}

fn failed(error: ReadError<LookFault>) -> Failure {
    let what = "the snapshot's tree cannot be read to its end";
    let damaged = "look at another snapshot, and report this with the node's log";
    let (kind, hint) = match &error {
        ReadError::Closed => return failures::stopped(),
        ReadError::Fault(LookFault::NoSuchPath) => {
            let hint = "give the path as it was recorded: `quloud snapshots` shows roots";
            return Failure::new(FailureKind::Usage, NOTHING, error.to_string(), hint);
        }
        ReadError::Fault(LookFault::Lost { why: Lost::Unavailable(_), .. }) => (
            FailureKind::NotEnoughHolders,
            "start more of the mesh's nodes, then run the same command again",
        ),
        ReadError::Fault(LookFault::Lost { .. } | LookFault::Tree(_)) => {
            (FailureKind::Damage, damaged)
        }
    };
    Failure::new(kind, what, failures::chain(&error), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_with_and_without_the_root_before_it() {
        for (path, at) in [("", ""), ("/", ""), ("//", ""), ("/a/b/", "a/b"), ("a", "a")] {
            assert_eq!(place(path.as_bytes()), at.as_bytes(), "{path}");
        }
    }
}
