//! All that snapshots and files that were put name, read for whoever looks for some of it: an audit
//! for the files at stake, healing for the keys of what is short.
//!
//! What is read are the trees of the snapshots that are known, from the copies here as far as they
//! are here. A snapshot that cannot be read to its end is counted, and the others are read on.

use super::failures;
use super::fetch::MeshSource;
use super::inner::Inner;
use super::prune::files_put;
use super::report::{AtStake, Failure};
use crate::core::types::{ChunkId, SnapshotId};
use crate::repo::again::PieceAt;
use crate::repo::look::{ReadError, Reader};
use crate::repo::mark::{Mark, Part, Reached};
use crate::repo::names::inert;
use crate::repo::reference::ChunkRef;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Replicas where nothing says how many were wished.
const REPLICAS: u8 = 3;

/// So many names are listed,
const LISTED_MAX: usize = 200;

/// Names that are remembered: the others are counted with the last of them.
const NAMES_MAX: usize = 100_000;

/// How long each chunk may take to come, and who hears how far it is.
type Listener<P> = (Duration, mpsc::Sender<P>);

/// What reading came to.
pub(super) struct Named<T> {
    /// Who was told.
    pub(super) reached: T,
    /// Snapshots, and files that were put, that could not be read to their ends.
    pub(super) unread: u64,
    /// Why, of the first of them.
    pub(super) why: Option<String>,
}

/// Tells `reached` of all that is named, newest snapshots first; or of what `only` names.
///
/// # Errors
/// The node stops.
pub(super) async fn named<T: Reached + Send + 'static, P: Send + 'static>(
    inner: &Arc<Inner>,
    only: Option<(SnapshotId, ChunkRef)>,
    reached: T,
    listener: Listener<P>,
) -> Result<Named<T>, Failure> {
    let mut marks: VecDeque<Start> = VecDeque::new();
    let mut manifests = Vec::new();
    match only {
        Some((id, at)) => marks.push_back(Start::Snapshot(id, at)),
        None => {
            manifests = inner.repository.manifests(inner);
            let live = inner.repository.with_live(|mut live| {
                live.sort_by_key(|live| std::cmp::Reverse(live.added.created_ns));
                let at = |live: &crate::repo::manifest::merge::Live| {
                    (live.added.id, live.added.reference.duplicate())
                };
                live.into_iter().map(at).collect::<Vec<_>>()
            });
            marks.extend(live.await.into_iter().map(|(id, at)| Start::Snapshot(id, at)));
            marks.extend(files_put(inner).into_iter().map(|(path, root)| Start::File(path, root)));
        }
    }
    read_all(inner, (manifests, marks), reached, listener).await
}

/// Tells `reached` of all that these files of no snapshot name.
///
/// # Errors
/// The node stops.
pub(super) async fn named_files<T: Reached + Send + 'static, P: Send + 'static>(
    inner: &Arc<Inner>,
    files: Vec<(Vec<u8>, ChunkRef)>,
    reached: T,
    listener: Listener<P>,
) -> Result<Named<T>, Failure> {
    let marks = files.into_iter().map(|(path, root)| Start::File(path, root)).collect();
    read_all(inner, (Vec::new(), marks), reached, listener).await
}

async fn read_all<T: Reached + Send + 'static, P: Send + 'static>(
    inner: &Arc<Inner>,
    (manifests, marks): (Vec<ChunkRef>, VecDeque<Start>),
    reached: T,
    (patience, progress): Listener<P>,
) -> Result<Named<T>, Failure> {
    let inner = Arc::clone(inner);
    let work = tokio::task::spawn_blocking(move || {
        let mut reached = reached;
        reached.within(Part::Manifest);
        manifests.iter().for_each(|at| reached.reach(at));
        read(&inner, marks, reached, patience, &progress)
    });
    work.await.map_err(|error| failures::died("the reading thread", &error))?
}

enum Start {
    Snapshot(SnapshotId, ChunkRef),
    File(Vec<u8>, ChunkRef),
}

/// Blocks.
fn read<T: Reached, P>(
    inner: &Arc<Inner>,
    mut starts: VecDeque<Start>,
    mut reached: T,
    patience: Duration,
    progress: &mpsc::Sender<P>,
) -> Result<Named<T>, Failure> {
    let (mut unread, mut why) = (0_u64, None);
    // What was begun before something that cannot be read is not begun once more.
    while !starts.is_empty() {
        let mut mark = Mark::over(reached);
        let files = starts.iter().filter(|start| matches!(start, Start::File(..))).count();
        for start in &starts {
            match start {
                Start::Snapshot(id, at) => mark.add_snapshot(*id, at),
                Start::File(path, root) => mark.add_file(path, root),
            }
        }
        let mut source = MeshSource::new(Arc::clone(inner), patience, progress).keeping();
        let mut reader = Reader::new(&mut source);
        let fault = loop {
            match reader.next(&mut mark) {
                Ok(Some(_)) => drop(starts.pop_front()),
                Ok(None) => break None,
                Err(ReadError::Closed) => return Err(failures::stopped()),
                Err(ReadError::Fault(fault)) => break Some(fault),
            }
        };
        reached = mark.into_reached();
        match fault {
            None => starts.clear(),
            Some(fault) => {
                unread += 1;
                why.get_or_insert_with(|| fault.to_string());
                // A file of no snapshot: which of them is not told. They are few, and come last.
                match fault.snapshot {
                    Some(_) => drop(starts.pop_front()),
                    None => {
                        unread += (files as u64).saturating_sub(1);
                        starts.clear();
                    }
                }
            }
        }
    }
    Ok(Named { reached, unread, why })
}

/// How many replicas are wanted of what each snapshot names.
#[derive(Debug, Clone, Default)]
pub(super) struct Targets {
    of: BTreeMap<SnapshotId, u8>,
    /// Of all others.
    others: u8,
}

impl Targets {
    /// The same number for all.
    pub(super) fn all(wanted: u8) -> Self {
        Self { of: BTreeMap::new(), others: wanted }
    }

    /// As they were wished for: the newest backups of this device by what is noted of them, all
    /// others by what the devices wished for last.
    pub(super) async fn wished(inner: &Inner) -> Self {
        let wished = inner.repository.replicas_wished(inner).await;
        let of = inner.with_catalog(|catalog| {
            let due = catalog.to_look_after().map(|it| (it.id, it.replicas));
            let made = catalog.made().into_iter().map(|it| (it.snapshot, it.target));
            due.chain(made).collect()
        });
        Self { of, others: if wished == 0 { REPLICAS } else { wished } }
    }

    /// Of what this snapshot names.
    pub(super) fn of(&self, snapshot: Option<&SnapshotId>) -> u8 {
        snapshot.and_then(|id| self.of.get(id)).copied().unwrap_or(self.others)
    }

    /// The most of any.
    pub(super) fn most(&self) -> u8 {
        self.of.values().copied().max().unwrap_or(0).max(self.others)
    }
}

/// A place in a snapshot, for the user.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// `None` of a file that was put and has none.
    pub(super) snapshot: Option<SnapshotId>,
    /// The path, or what else it is.
    pub(super) name: String,
}

/// Remembers in which places some chunks are.
#[derive(Debug, Default)]
pub(super) struct Places {
    found: BTreeMap<Place, u64>,
    /// Places of chunks beyond those that are remembered.
    more: u64,
}

impl Places {
    /// One more chunk of this place.
    pub(super) fn add(&mut self, place: Place) {
        if let Some(chunks) = self.found.get_mut(&place) {
            *chunks = chunks.saturating_add(1);
        } else if self.found.len() < NAMES_MAX {
            self.found.insert(place, 1);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// How many chunks of this place.
    pub(super) fn of(&self, place: &Place) -> u64 {
        self.found.get(place).copied().unwrap_or(0)
    }

    /// The first of them, with how many chunks each has; and how many there are.
    pub(super) fn list(&self) -> (Vec<(&Place, u64)>, u64) {
        let listed = self.found.iter().take(LISTED_MAX);
        let listed = listed.map(|(place, chunks)| (place, *chunks)).collect();
        (listed, (self.found.len() as u64).saturating_add(self.more))
    }
}

/// Places, as the user is told; `lost` are those of chunks without a replica.
pub(super) fn files(places: &Places, lost: &Places) -> Vec<AtStake> {
    let (listed, _) = places.list();
    let listed = listed.into_iter().map(|(place, chunks)| AtStake {
        snapshot: place.snapshot.map(|id| id.to_string()).unwrap_or_default(),
        name: place.name.clone(),
        chunks,
        lost: lost.of(place),
    });
    listed.collect()
}

/// Follows of what the chunks are a part that are told.
#[derive(Debug, Default)]
pub(super) struct Within {
    snapshot: Option<SnapshotId>,
    path: Option<Vec<u8>>,
    /// How far the pieces of this file were told.
    told: u64,
}

impl Within {
    /// See [`Reached::within`].
    pub(super) fn enter(&mut self, part: Part<'_>) {
        match part {
            Part::Snapshot(id) => (self.snapshot, self.path) = (Some(*id), None),
            Part::File(path) => {
                if self.path.as_deref() != Some(path) {
                    self.told = 0;
                }
                self.path = Some(path.to_vec());
            }
            Part::Put(path) => (self.snapshot, self.path) = (None, Some(path.to_vec())),
            Part::Manifest => {
                (self.snapshot, self.path) = (None, Some(b"the list of snapshots".to_vec()));
            }
        }
    }

    /// The snapshot that is told now.
    pub(super) fn snapshot(&self) -> Option<&SnapshotId> {
        self.snapshot.as_ref()
    }

    /// Where the piece is that is told now, if it is one of a file: pieces of a file are told in
    /// order, but for those of some large files, and those are not found there then.
    pub(super) fn piece(&mut self, reference: &ChunkRef) -> Option<PieceAt> {
        let path = self.path.as_ref().filter(|_| self.snapshot.is_some())?;
        let at = PieceAt::new(path, self.told);
        self.told = self.told.saturating_add(reference.bytes);
        Some(at)
    }

    /// Where what is told now is.
    pub(super) fn place(&self) -> Place {
        let name = match &self.path {
            Some(path) if self.snapshot.is_some() => inert(&[b"/", path.as_slice()].concat()),
            Some(path) => inert(path),
            None => "the list of names".to_owned(),
        };
        Place { snapshot: self.snapshot, name }
    }
}

/// Whether any of some chunks was named, and where.
#[derive(Debug, Default)]
pub(super) struct Sought {
    /// The chunks, and whether none has a replica left.
    pub(super) chunks: BTreeMap<ChunkId, bool>,
    /// Those that were named.
    pub(super) found: std::collections::BTreeSet<ChunkId>,
    within: Within,
    /// Where all of them are.
    pub(super) places: Places,
    /// Where those are of which none is left.
    pub(super) lost: Places,
    targets: Targets,
    /// Those that were named and have fewer replicas than are wanted of them.
    pub(super) short: std::collections::BTreeSet<ChunkId>,
    /// Those that were named and of which none is left.
    pub(super) nowhere: std::collections::BTreeSet<ChunkId>,
    /// Those that need not be told where they have enough.
    if_short: BTreeMap<ChunkId, usize>,
}

impl Sought {
    /// These chunks; true for those of which no replica is left. Of `if_short`, with how many
    /// replicas each has, those alone that have fewer than their `targets`.
    pub(super) fn new(
        chunks: BTreeMap<ChunkId, bool>,
        if_short: BTreeMap<ChunkId, usize>,
        targets: Targets,
    ) -> Self {
        Self { chunks, if_short, targets, ..Self::default() }
    }
}

impl Reached for Sought {
    fn within(&mut self, part: Part<'_>) {
        self.within.enter(part);
    }

    fn reach(&mut self, reference: &ChunkRef) {
        let id = reference.id;
        let has = self.if_short.get(&id).copied();
        let is_short =
            has.is_some_and(|has| has < usize::from(self.targets.of(self.within.snapshot())));
        let is_lost = match self.chunks.get(&id) {
            Some(is_lost) => *is_lost,
            None if is_short => has == Some(0),
            None => return,
        };
        if is_short {
            self.short.insert(id);
        }
        self.found.insert(id);
        if is_lost {
            self.nowhere.insert(id);
        }
        let place = self.within.place();
        if is_lost {
            self.lost.add(place.clone());
        }
        self.places.add(place);
    }

    fn is_known(&self, _: &ChunkId) -> bool {
        false
    }
}
