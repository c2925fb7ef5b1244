//! What is needed and what may go, from heads that were just read: trees are read on a thread of
//! their own.

use super::holders::nowhere;
use super::tell::{self, Teller, Unread};
use crate::core::message::ChunkState;
use crate::core::types::{ChunkId, SnapshotId};
use crate::crypto::keys::ChunkKey;
use crate::node::account::{AccountError, query};
use crate::node::failures;
use crate::node::fetch::MeshSource;
use crate::node::handle::file_name;
use crate::node::inner::Inner;
use crate::node::report::{Failure, PruneDone, WaitingForget};
use crate::node::repository::Everything;
use crate::repo::catalog::{
    Catalog, NotedSnapshot, PruneNote, PutRoot, SnapshotDue, SnapshotForgotten,
};
use crate::repo::frame::Kind;
use crate::repo::look::{ReadError, Reader};
use crate::repo::mark::{Mark, MarkCause, MarkFault, MarkPart};
use crate::repo::prunes::{Clock, Dead, DeadChunk, Fate, ForgetSeen, fate};
use crate::repo::reference::ChunkRef;
use crate::repo::tree::{Content, What, few};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// How long the root of a file may take.
const LOST_PATIENCE: Duration = Duration::from_secs(5);

/// Snapshots that wait, and that are listed.
const LISTED_MAX: usize = 200;

/// Forgotten snapshots that could not be read, and are told one by one.
const UNREAD_TOLD_MAX: usize = 4;

/// What is to be read, as all heads and the catalogue have it.
pub(super) struct Sought {
    /// All that these name must stay: live ones, and those whose forget does not count yet.
    needed: Vec<(SnapshotId, ChunkRef)>,
    /// Of these, those that wait.
    waiting: Vec<(SnapshotForgotten, i64)>,
    /// Those that were forgotten.
    gone: Vec<Gone>,
    /// Chunks that must stay whatever names them.
    manifest: BTreeSet<ChunkId>,
    /// Heads of other devices.
    pub(super) others: usize,
    clock: Clock,
    /// Files that were put and that nobody has any more.
    lost: BTreeSet<ChunkId>,
}

/// A snapshot that was forgotten.
struct Gone {
    id: SnapshotId,
    at: ChunkRef,
    /// It is one file that was put.
    put: bool,
    /// The head of the device that made it, where that is another one.
    of: Option<u16>,
}

impl Sought {
    /// Reads all heads anew. Forgets of others that the user `accepted` count.
    pub(super) async fn now(
        inner: &Arc<Inner>,
        accepted: &BTreeSet<SnapshotId>,
    ) -> Result<Self, Failure> {
        let everything = inner.repository.everything(inner).await?;
        let clock = inner.repository.clock(inner).await?;
        inner.commit_catalog().await?;
        let lost = lost_files(inner).await?;
        let sought = inner.with_catalog(|catalog| Self::of(everything, catalog, clock, accepted));
        Ok(Self { lost, ..sought })
    }

    fn of(
        everything: Everything,
        catalog: &Catalog,
        clock: Clock,
        accepted: &BTreeSet<SnapshotId>,
    ) -> Self {
        let Everything { live, manifest, others } = everything;
        let mut live: BTreeMap<SnapshotId, ChunkRef> = live.into_iter().collect();
        let (waiting, gone, lost) = (Vec::new(), Vec::new(), BTreeSet::new());
        let (needed, own) = (Vec::new(), catalog.device().map(|device| device.index));
        let mut sought = Self { needed, waiting, gone, manifest, others, clock, lost };
        for NotedSnapshot { seen, forgotten } in catalog.noted_snapshots() {
            let is_live = live.contains_key(&seen.id);
            let reference = || seen.reference.duplicate();
            let counts = |forgotten: SnapshotForgotten| {
                let before = forgotten.seen();
                ForgetSeen { accepted: before.accepted || accepted.contains(&seen.id), ..before }
            };
            match fate(is_live, forgotten.map(counts), clock) {
                Fate::Gone => {
                    let of = (own != Some(seen.index)).then_some(seen.index);
                    let at = reference();
                    sought.gone.push(Gone { id: seen.id, at, put: seen.put, of });
                }
                // Also where it is in no list that was read now, and nobody said why. A list may
                // name another chunk than was seen first, sealed anew by somebody who means the
                // first one to go: both must stay, and what they name is the same.
                Fate::Needed => drop(live.insert(seen.id, reference())),
                // Also where nobody who is there has its own chunk: this folder cannot know whether
                // a node is away that it never heard of, and a thief who forgets a snapshot waits
                // for such a day. That it was pruned long ago the user says, by its name.
                Fate::Waits => {
                    sought.waiting.extend(forgotten.map(|forgotten| (forgotten, seen.created_ns)));
                    live.insert(seen.id, reference());
                }
            }
        }
        sought.needed.extend(live);
        sought
    }
}

/// What may go, and all that must stay.
pub(super) struct Plan {
    mark: Mark,
    known: BTreeSet<SnapshotId>,
    /// In the order in which they may go.
    pub(super) dead: Vec<DeadChunk>,
    /// Forgotten snapshots that were read whole, and where each is.
    gone: Vec<(SnapshotId, ChunkId)>,
    /// Forgotten snapshots that nobody can read any more, because nobody has their own chunks.
    over: Vec<SnapshotId>,
    /// Files that were put and of which nothing is needed any more.
    roots_gone: Vec<(ChunkId, String)>,
    waiting: Vec<(SnapshotForgotten, i64)>,
    /// Heads of other devices.
    pub(super) others: usize,
    clock: Clock,
    unread: Vec<String>,
}

/// A file of which the catalogue alone knows.
struct File {
    name: Vec<u8>,
    root: ChunkRef,
    /// The name that it is listed by, where it is: no put or snapshot of it is waited for.
    stored: Option<String>,
}

fn file_of(root: &PutRoot) -> File {
    let (ck, id) = (root.capability.ck.duplicate(), root.capability.id);
    let reference = ChunkRef { ck, id, locality: root.capability.locality, bytes: root.bytes };
    File { name: root.name.clone().into_bytes(), root: reference, stored: None }
}

fn stored(root: &PutRoot) -> File {
    File { stored: Some(root.name.clone()), ..file_of(root) }
}

/// The files of which the catalogue knows: those that were put, those that are being put.
fn files(inner: &Inner) -> Vec<File> {
    inner.with_catalog(|catalog| {
        let stored = catalog.roots().into_iter().map(stored);
        let short = catalog.open_jobs().filter_map(|job| job.short.as_ref()).map(file_of);
        let due = catalog.snapshots_due().filter_map(file_due);
        stored.chain(short).chain(due).collect()
    })
}

/// The files of which the catalogue knows, each by its name and its listing.
pub(in crate::node) fn files_put(inner: &Inner) -> Vec<(Vec<u8>, ChunkRef)> {
    files(inner).into_iter().map(|file| (file.name, file.root)).collect()
}

/// The files that were stored whole, by how many replicas were wanted of each; and which of the
/// puts was the last one.
pub(in crate::node) fn files_stored(catalog: &Catalog) -> (u64, FilesByTarget) {
    let (mut last, mut all) = (0, FilesByTarget::new());
    for root in catalog.roots() {
        last = root.job.0.max(last);
        let File { name, root: at, .. } = file_of(root);
        all.entry(root.target).or_default().push((name, at));
    }
    (last, all)
}

/// Names of files, and their listings, by how many replicas were wanted.
pub(in crate::node) type FilesByTarget = BTreeMap<u8, Vec<(Vec<u8>, ChunkRef)>>;

/// Files whose roots nobody has any more: they keep nothing from going. None comes, and
/// - of one that is listed, all who acknowledged it say so: another device forgot its snapshot and
///   let it go;
/// - of one that is being put, or waits for its snapshot, everybody who is known says so: nobody
///   could be given it, and the next try stores all of it from the file.
async fn lost_files(inner: &Arc<Inner>) -> Result<BTreeSet<ChunkId>, Failure> {
    let (mut lost, mut missed) = (BTreeSet::new(), BTreeMap::new());
    for File { root, stored, .. } in files(inner) {
        if missed.contains_key(&root.id)
            || inner.chunk(&root, Kind::Listing, LOST_PATIENCE).await.is_err()
        {
            *missed.entry(root.id).or_insert(true) &= stored.is_some();
        }
    }
    let promised = missed.iter().filter(|(_, is_stored)| !**is_stored).map(|(id, _)| *id);
    lost.append(&mut nowhere(inner, promised.collect()).await?);
    for id in missed.into_iter().filter(|(_, is_stored)| *is_stored).map(|(id, _)| id) {
        let mut has_it = false;
        for node in inner.with_catalog(|catalog| catalog.holders_of(&id)) {
            has_it |= match query(inner, node, vec![id]).await {
                Ok(page) => page.chunks.iter().any(|(state, _)| *state != ChunkState::NotHeld),
                Err(AccountError::NoAccount) => false,
                Err(AccountError::Stopped) => return Err(failures::stopped()),
                Err(_) => true,
            };
        }
        if !has_it {
            lost.insert(id);
        }
    }
    Ok(lost)
}

/// The file that waits for its snapshot.
fn file_due(due: &SnapshotDue) -> Option<File> {
    let mut entries = few::decode(Bytes::copy_from_slice(&due.entries)).ok()?;
    let file = entries.pop()?;
    let What::File(body) = file.what else { return None };
    match body.content {
        Content::Listing(root) => Some(File { name: file.path, root, stored: None }),
        Content::None | Content::Packed { .. } | Content::Piece(_) => None,
    }
}

impl Plan {
    /// Reads all that is needed, and then what was forgotten.
    ///
    /// # Errors
    /// A part of what is needed does not come; who asked has gone.
    pub(super) async fn of(
        inner: &Arc<Inner>,
        sought: Sought,
        teller: Teller,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let node = Arc::clone(inner);
        let work =
            tokio::task::spawn_blocking(move || Self::read(&node, sought, &teller, patience));
        work.await.map_err(|error| failures::died("the reading thread", &error))?
    }

    /// Blocks.
    fn read(
        inner: &Arc<Inner>,
        sought: Sought,
        teller: &Teller,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let Sought { needed, waiting, gone, manifest, clock, lost, others } = sought;
        let roots_gone = roots_of(inner, &gone, teller, patience)?;
        let files = files(inner);
        let mut mark = Mark::new();
        manifest.iter().for_each(|id| mark.add_chunk(id));
        needed.iter().for_each(|(id, at)| mark.add_snapshot(*id, at));
        // A file that is being put, or waits for its snapshot, stays, though one with the same
        // content was forgotten.
        let is_gone = |file: &File| {
            let named = file.stored.as_ref().map(|name| (file.root.id, name.clone()));
            named.is_some_and(|named| roots_gone.contains(&named)) || lost.contains(&file.root.id)
        };
        let kept = files.iter().filter(|file| !is_gone(file));
        kept.for_each(|file| mark.add_file(&file.name, &file.root));
        read_on(inner, &mut mark, teller, patience).map_err(|error| unread(&error, &waiting))?;
        let mut plan = Self {
            mark,
            known: needed.into_iter().map(|(id, _)| id).collect(),
            dead: Vec::new(),
            gone: Vec::new(),
            over: Vec::new(),
            roots_gone: Vec::new(),
            waiting,
            others,
            clock,
            unread: Vec::new(),
        };
        plan.gather(inner, gone, teller, patience)?;
        let live = plan.mark.live().ok_or_else(failures::stopped)?;
        plan.roots_gone = roots_gone.into_iter().filter(|(id, _)| !live.contains(id)).collect();
        Ok(plan)
    }

    /// Reads the forgotten snapshots.
    fn gather(
        &mut self,
        inner: &Arc<Inner>,
        mut gone: Vec<Gone>,
        teller: &Teller,
        patience: Duration,
    ) -> Result<(), Failure> {
        let live = self.mark.live().ok_or_else(failures::stopped)?;
        let mut dead = Dead::new(live);
        inner.with_catalog(|catalog| catalog.doomed().for_each(|(id, ck)| dead.add(*id, ck)));
        dead.end(true);
        let mut unread = BTreeMap::new();
        // What several name is of another device: this one knows its own holders.
        gone.sort_by_key(|gone| gone.of.is_none());
        for Gone { id, at, of, .. } in gone {
            dead.begin(of);
            let mut mark = Mark::over(dead);
            mark.add_snapshot(id, &at);
            let read = read_on(inner, &mut mark, teller, patience);
            dead = mark.into_reached();
            dead.end(read.is_ok());
            match read {
                Ok(()) => self.gone.push((id, at.id)),
                Err(ReadError::Closed) => return Err(failures::stopped()),
                Err(ReadError::Fault(fault)) => drop(unread.insert(at.id, (id, fault))),
            }
        }
        self.dead = dead.into_order();
        // Without its own chunk nothing that it named is ever found again, and it is not read for
        // once more at each prune. A holder that keeps it and denies that keeps what it has of it.
        let asked = unread.iter().filter(|(_, (_, fault))| fault.part == MarkPart::Record);
        let asked = asked.map(|(at, _)| *at).collect();
        let nowhere = Handle::current().block_on(nowhere(inner, asked))?;
        for (at, (id, fault)) in unread {
            match nowhere.contains(&at) {
                true => self.over.push(id),
                false => self.unread.push(fault.to_string()),
            }
        }
        Ok(())
    }

    /// Whether this chunk must stay.
    pub(super) fn is_live(&self, id: &ChunkId) -> bool {
        self.mark.live().is_none_or(|live| live.contains(id))
    }

    /// What is being let go and is needed: its release has to be taken back.
    pub(super) fn needed_again(&self, inner: &Inner) -> Vec<(ChunkId, ChunkKey)> {
        inner.with_catalog(|catalog| {
            let needed = catalog.doomed().filter(|(id, _)| self.is_live(id));
            needed.map(|(id, ck)| (*id, ck.duplicate())).collect()
        })
    }

    /// The same, with what snapshots need that were published since: `sought` is a later look.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub(super) async fn needed_meanwhile(
        &mut self,
        inner: &Arc<Inner>,
        sought: Sought,
        teller: &Teller,
        patience: Duration,
    ) -> Result<Vec<(ChunkId, ChunkKey)>, Failure> {
        let new = sought.needed.into_iter().filter(|(id, _)| !self.known.contains(id));
        let new: Vec<(SnapshotId, ChunkRef)> = new.collect();
        let mut mark = std::mem::take(&mut self.mark);
        sought.manifest.iter().for_each(|id| mark.add_chunk(id));
        new.iter().for_each(|(id, at)| mark.add_snapshot(*id, at));
        let (node, teller) = (Arc::clone(inner), teller.clone());
        let work = tokio::task::spawn_blocking(move || {
            let read = read_on(&node, &mut mark, &teller, patience);
            read.map(|()| mark).map_err(|error| unread(&error, &[]))
        });
        self.mark = work.await.map_err(|error| failures::died("the reading thread", &error))??;
        self.known.extend(new.into_iter().map(|(id, _)| id));
        Ok(self.needed_again(inner))
    }

    /// What is over once all that may go has gone.
    pub(super) fn prunable(&self) -> Vec<PruneNote> {
        let gone = self.gone.iter().map(|(id, _)| id).chain(&self.over);
        let snapshots = gone.map(|id| PruneNote::SnapshotPruned(*id));
        snapshots.chain(self.roots_gone.iter().map(dropped)).collect()
    }

    /// Whether nothing comes of it: nothing goes, nothing is taken back, nothing is noted.
    pub(super) fn is_idle(&self, inner: &Inner) -> bool {
        let is_over = self.gone.is_empty() && self.over.is_empty() && self.roots_gone.is_empty();
        is_over && self.dead.is_empty() && self.needed_again(inner).is_empty()
    }

    /// What is over of what a prune that was broken off has let go whole: a snapshot's own chunk is
    /// the last one, and everybody who has it or may was asked for it and answered.
    pub(super) fn noted_whole(&self, inner: &Inner) -> Vec<PruneNote> {
        inner.with_catalog(|catalog| {
            let has_gone = |id: &ChunkId| {
                let is_waited_for = || !catalog.waiting_for(id).is_empty();
                catalog.is_doomed(id) && !is_waited_for() && catalog.holders_of(id).is_empty()
            };
            let gone = self.gone.iter().filter(|(_, at)| has_gone(at));
            let snapshots = gone.map(|(id, _)| PruneNote::SnapshotPruned(*id));
            let roots = self.roots_gone.iter().filter(|(id, _)| has_gone(id));
            snapshots.chain(roots.map(dropped)).collect()
        })
    }

    /// What the user is told of it at the end.
    pub(super) fn told(&self, dry_run: bool) -> PruneDone {
        let waiting =
            self.waiting.iter().take(LISTED_MAX).map(|(forgotten, created_ns)| WaitingForget {
                snapshot: forgotten.id.to_string(),
                created_at: created_ns.div_euclid(1_000_000_000),
                by: forgotten.by,
                seen_at: forgotten.wall_s,
                wait_s: forgotten.seen().wait_s(self.clock),
            });
        let unread = self.unread.iter().take(UNREAD_TOLD_MAX);
        let over = (!self.over.is_empty()).then(|| {
            format!(
                "{} forgotten snapshots cannot be read: nobody has them any more",
                self.over.len()
            )
        });
        PruneDone {
            dry_run,
            snapshots: self.gone.len() as u64,
            waiting_forgets: waiting.collect(),
            waiting_total: self.waiting.len() as u64,
            unread: self.unread.len() as u64,
            notes: unread
                .map(|why| format!("a forgotten snapshot is kept: {why}"))
                .chain(over)
                .collect(),
            ..PruneDone::default()
        }
    }
}

fn dropped((root, name): &(ChunkId, String)) -> PruneNote {
    PruneNote::RootDropped(*root, name.clone())
}

/// The files that were put and are listed, whose own snapshots were forgotten. The same content
/// under another name is another file; under the same name it is listed once, and stays where a put
/// of it has no snapshot: nobody forgot that one.
fn roots_of(
    inner: &Arc<Inner>,
    gone: &[Gone],
    teller: &Teller,
    patience: Duration,
) -> Result<BTreeSet<(ChunkId, String)>, Failure> {
    let nothing = Mark::new();
    let live = nothing.live().ok_or_else(failures::stopped)?;
    let stored: Vec<(ChunkId, String, u64)> = inner.with_catalog(|catalog| {
        let named = |root: &PutRoot| (root.capability.id, root.name.clone(), root.put_at);
        catalog.roots().into_iter().filter(|root| root.named).map(named).collect()
    });
    let mut found = BTreeSet::new();
    for Gone { id, at, .. } in gone.iter().filter(|gone| gone.put) {
        let mut mark = Mark::over(Dead::new(live));
        mark.add_snapshot(*id, at);
        match read_on(inner, &mut mark, teller, patience) {
            Ok(()) => {}
            Err(ReadError::Closed) => return Err(failures::stopped()),
            // It is kept, and so is its file.
            Err(ReadError::Fault(_)) => continue,
        }
        let dead = mark.into_reached();
        let snapshot = Handle::current().block_on(inner.snapshot((*id, at), patience));
        let Ok(snapshot) = snapshot else { continue };
        let name = |root: &Vec<u8>| file_name(Path::new(OsStr::from_bytes(root)));
        let names: BTreeSet<String> = snapshot.roots.iter().map(name).collect();
        let began = u64::try_from(snapshot.created_ns.div_euclid(1_000_000_000)).unwrap_or(0);
        let of = stored.iter().filter(|(root, name, put_at)| {
            dead.contains(root) && names.contains(name) && *put_at >= began
        });
        found.extend(of.map(|(root, name, _)| (*root, name.clone())));
    }
    Ok(found)
}

/// Reads until all is known. Blocks.
fn read_on<T: crate::repo::mark::Reached>(
    inner: &Arc<Inner>,
    mark: &mut Mark<T>,
    teller: &Teller,
    patience: Duration,
) -> Result<(), ReadError<MarkFault>> {
    let mut source = MeshSource::new(Arc::clone(inner), patience, &teller.progress).keeping();
    let mut reader = Reader::new(&mut source);
    while reader.next(mark)?.is_some() {
        teller.at(0, None, reader.chunks(), "reading what snapshots name");
    }
    Ok(())
}

fn unread(error: &ReadError<MarkFault>, waiting: &[(SnapshotForgotten, i64)]) -> Failure {
    match error {
        ReadError::Closed => failures::stopped(),
        ReadError::Fault(fault) => {
            let is_damage = match &fault.why {
                MarkCause::Lost(why) => why.is_damage(),
                _ => true,
            };
            let waits = |(forgotten, _): &(SnapshotForgotten, i64)| {
                fault.snapshot.is_some_and(|id| id == forgotten.id)
            };
            let unread = match fault.snapshot {
                None => Unread::Put,
                Some(_) if waiting.iter().any(waits) => Unread::Waits(waiting),
                Some(_) => Unread::Snapshot,
            };
            tell::lost(fault.to_string(), is_damage, &unread)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::types::{DeviceId, Locality};
    use crate::crypto::keys::{Master, OwnerKeys};
    use crate::repo::catalog::{Entry, SnapshotSeen};

    fn at(number: u8) -> ChunkRef {
        let (ck, id) = (ChunkKey::from_bytes([number; 32]), ChunkId::from_bytes([number; 32]));
        ChunkRef { ck, id, locality: Locality(1), bytes: 0 }
    }

    fn id(number: u8) -> SnapshotId {
        SnapshotId::from_bytes([number; 32])
    }

    #[test]
    fn the_chunk_that_a_snapshot_was_first_seen_as_stays_whatever_a_list_says_later() {
        let folder = tempfile::tempdir().unwrap();
        let keys = OwnerKeys::derive(&Master::from_bytes([1; 32]), 0);
        let (mut catalog, _) = Catalog::open(folder.path(), &keys).unwrap();
        for number in 1..=3 {
            let (index, device) = (1, DeviceId::from_bytes([1; 16]));
            let (id, reference) = (id(number), at(number));
            let seen = SnapshotSeen { id, reference, index, device, created_ns: 1, put: false };
            catalog.record(Entry::Prune(PruneNote::SnapshotSeen(seen))).unwrap();
        }
        let (own, accepted) = (false, false);
        let forgotten = SnapshotForgotten { id: id(3), by: 0, own, accepted, age_s: 0, wall_s: 0 };
        catalog.record(Entry::Prune(PruneNote::SnapshotForgotten(forgotten))).unwrap();
        // The first is listed as another chunk by now; the second by nobody.
        let look = |accepted: &BTreeSet<SnapshotId>| {
            let live = vec![(id(1), at(9)), (id(4), at(4))];
            let manifest = BTreeSet::from([at(9).id]);
            let everything = Everything { live, manifest, others: 1 };
            Sought::of(everything, &catalog, Clock { age_s: 9, wall_s: 9 }, accepted)
        };
        let needed = |sought: &Sought| -> Vec<ChunkId> {
            sought.needed.iter().map(|(_, reference)| reference.id).collect()
        };
        let waits = look(&BTreeSet::new());
        assert_eq!(needed(&waits), [1, 2, 3, 4].map(|number| at(number).id));
        assert!(waits.manifest.contains(&at(9).id) && waits.gone.is_empty());
        let counts = look(&BTreeSet::from([id(3), id(1)]));
        assert_eq!(needed(&counts), [1, 2, 4].map(|number| at(number).id));
        assert_eq!(counts.gone.iter().map(|gone| gone.id).collect::<Vec<_>>(), [id(3)]);
    }
}
