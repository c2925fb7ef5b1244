//! An owner's device: what is on it, and what it knows of its snapshots, kept across restarts as
//! the daemon's data folder keeps it. What it does is the real engine's work; whoever has it puts
//! the chunks that come of it.

pub(crate) mod files;

use super::wishes::Put;
use crate::plan::BackupPlan;
use ::bytes::Bytes;
use files::{Files, Tree, entries};
use quloud::core::types::{ChunkId, DeviceId, NodeId, SnapshotId};
use quloud::crypto::head::{HeadKeys, HeadRecord};
use quloud::crypto::header::Header;
use quloud::crypto::keys::{ChunkKey, OwnerKeys};
use quloud::crypto::seal::{self, SealedChunk};
use quloud::repo::engine::{BackupSink, Built, DoneLeaf, Engine, Pieces, Unreadable, is_same};
use quloud::repo::frame::Kind;
use quloud::repo::head::HeadPayload;
use quloud::repo::known::Known;
use quloud::repo::listing::Listing;
use quloud::repo::manifest::chain::Chain;
use quloud::repo::manifest::draft::{Before, DeviceView, Draft};
use quloud::repo::manifest::merge::Coverage;
use quloud::repo::manifest::{Added, Body};
use quloud::repo::open::open_chunk;
use quloud::repo::reference::ChunkRef;
use quloud::repo::sealer::{ChunkSink, Held, Sealer, SinkClosed};
use quloud::repo::snapshot::Snapshot;
use quloud::repo::tree::walk::{Step, TreeWalk};
use quloud::repo::tree::{Content, Entry, TreeRoot, What};
use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use std::collections::{BTreeMap, BTreeSet};

/// The first moment of every world on the devices' clocks: nanoseconds since 1970.
const BEGAN_NS: i64 = 1_700_000_000_000_000_000;

/// The highest index of a head.
const INDEX_MAX: u16 = 5;

/// What a device's clock shows so many milliseconds after the beginning of the world.
pub(crate) fn wall_ns(ms: u64) -> i64 {
    let ns = i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    BEGAN_NS.saturating_add(ns)
}

/// A chunk that was sealed, and its key.
pub(crate) struct Fresh {
    pub(crate) key: ChunkKey,
    pub(crate) chunk: SealedChunk,
}

impl Fresh {
    /// What its seal encloses.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let Self { key, chunk } = self;
        seal::open(key, &chunk.header, &chunk.sealed).expect("it was sealed under its key")
    }
}

/// Chunks that lead to others: a device keeps copies of its own.
type Copies = BTreeMap<ChunkId, (Header, Bytes)>;

/// Sealed chunks, gathered, and copies of those that lead to others.
#[derive(Default)]
struct Gathered {
    chunks: BTreeMap<ChunkId, SealedChunk>,
    copies: Copies,
}

impl ChunkSink for Gathered {
    fn store(&mut self, chunk: SealedChunk, plaintext_bytes: u64) -> Result<(), SinkClosed> {
        if plaintext_bytes == 0 {
            self.copies.insert(chunk.id(), (chunk.header, chunk.sealed.clone()));
        }
        self.chunks.insert(chunk.id(), chunk);
        Ok(())
    }
}

impl BackupSink for Gathered {
    fn leaf_done(&mut self, _: &DoneLeaf) {}
}

impl Gathered {
    /// With their keys, which stand in what names them.
    fn with_keys(self, keys: &BTreeMap<ChunkId, ChunkKey>) -> Vec<Fresh> {
        let of = |(id, chunk)| {
            let key = keys.get(&id).expect("a chunk that nothing names is not handed over");
            Fresh { key: key.duplicate(), chunk }
        };
        self.chunks.into_iter().map(of).collect()
    }
}

/// What was stored, and has its quorum.
struct Stored<'a>(&'a BTreeMap<ChunkId, Put>);

impl Held for Stored<'_> {
    fn is_held(&self, id: &ChunkId) -> bool {
        self.0.get(id).is_some_and(|put| put.stored)
    }
}

/// A file's data, cut into pieces.
struct Cut<'a> {
    rest: &'a [u8],
    piece_bytes: usize,
}

impl<'a> Pieces for Cut<'a> {
    type Piece = &'a [u8];

    fn next(&mut self) -> Result<Option<&'a [u8]>, Unreadable> {
        let (piece, rest) = self.rest.split_at(self.rest.len().min(self.piece_bytes));
        self.rest = rest;
        Ok((!piece.is_empty()).then_some(piece))
    }
}

/// What the newest snapshot says, as its device remembers it.
#[derive(Debug, Default)]
pub(crate) struct Latest {
    id: Option<SnapshotId>,
    began_ns: i64,
    entries: BTreeMap<Vec<u8>, Entry>,
    /// Of each listing, the pieces.
    pieces: BTreeMap<ChunkId, Vec<ChunkRef>>,
    /// All chunks of it, with their keys.
    keys: BTreeMap<ChunkId, ChunkKey>,
}

/// A tree of which every chunk is handed over.
#[derive(Debug)]
pub(crate) struct Backed {
    built: Built,
    latest: Latest,
    tree: Tree,
}

/// A publication on its way to its quorum.
#[derive(Debug)]
pub(crate) struct Drafted {
    draft: Draft,
    added: Option<(SnapshotId, Tree, Latest)>,
    forgets: BTreeSet<SnapshotId>,
}

/// How far a backup is, or what forgets something.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Contents and tree are on their way.
    Content(Box<Backed>),
    /// The snapshot and the entries.
    Entries(Box<Drafted>),
}

/// What a device is at. A crash ends it.
#[derive(Debug)]
pub(crate) struct Work {
    /// Chunks that have no quorum yet.
    pub(crate) waits: BTreeSet<ChunkId>,
    pub(crate) stage: Stage,
}

/// What its owner reads of the chain that is published.
pub(crate) struct Published {
    pub(crate) record: HeadRecord,
    /// The snapshots that are listed from now on.
    pub(crate) live: BTreeSet<SnapshotId>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    /// Of its head.
    pub(crate) index: u16,
    pub(crate) files: Files,
    pub(crate) work: Option<Work>,
    /// The newest record of its head, which nobody may have yet.
    pub(crate) record: Option<HeadRecord>,
    /// The record is at its quorum.
    pub(crate) is_kept: bool,
    /// The user waits for that no longer, until the world is calm.
    pub(crate) resting: bool,
    /// Who keeps a record of it.
    pub(crate) holders: Vec<NodeId>,
    copies: Copies,
    latest: Latest,
    /// What every snapshot is to bring back.
    pub(crate) made: BTreeMap<SnapshotId, Tree>,
    pub(crate) live: BTreeSet<SnapshotId>,
}

impl Device {
    pub(crate) fn new(rng: &mut ChaCha20Rng, plan: &BackupPlan, now_ns: i64) -> Self {
        Self {
            id: DeviceId::from_bytes(rng.random()),
            index: rng.random_range(0..=INDEX_MAX),
            files: Files::new(rng, plan, now_ns),
            work: None,
            record: None,
            is_kept: false,
            resting: false,
            holders: Vec::new(),
            copies: Copies::new(),
            latest: Latest::default(),
            made: BTreeMap::new(),
            live: BTreeSet::new(),
        }
    }

    /// The keys of its head.
    pub(crate) fn head_keys(&self, keys: &OwnerKeys) -> HeadKeys {
        HeadKeys::derive(&keys.head, keys.generation, self.index)
    }

    /// Reads all files that changed, and seals what is not stored yet. What is to be published once
    /// the chunks are stored, the chunks, and how many files were not read.
    pub(crate) fn back_up(
        &mut self,
        keys: &OwnerKeys,
        puts: &BTreeMap<ChunkId, Put>,
        plan: &BackupPlan,
        now_ns: i64,
    ) -> (Backed, Vec<Fresh>) {
        let (held, mut sink) = (Stored(puts), Gathered::default());
        let mut known = Known::new();
        self.latest.entries.values().for_each(|entry| known.learn(entry));
        let mut engine = Engine::new((keys, keys.locality()), known, &held, &mut sink);
        for (entry, data) in entries(&self.files.tree) {
            let before = self.latest.entries.get(&entry.path);
            let same = before.filter(|before| {
                is_same(&entry, before, self.latest.began_ns) && self.is_held(before, &held)
            });
            if let Some(before) = same {
                engine.keep(before).expect("it was part of a tree");
                continue;
            }
            if !matches!(entry.what, What::File(_)) {
                engine.keep(&entry).expect("entries of a device can be part of a tree");
                continue;
            }
            if let Some(What::File(body)) = before.map(|before| &before.what)
                && let Some(root) = body.content.reference()
            {
                let pieces = self.latest.pieces.get(&root.id).map(Vec::as_slice);
                pieces.unwrap_or_default().iter().for_each(|piece| engine.recall(piece));
            }
            let mut cut = Cut { rest: data, piece_bytes: plan.piece_bytes };
            engine.store(entry, &mut cut).expect("a device's file fits a tree");
        }
        let built = engine.finish().expect("the sink takes everything");
        self.copies.append(&mut sink.copies);
        let latest = self.look(built.root.as_ref(), now_ns);
        let fresh = sink.with_keys(&latest.keys);
        (Backed { built, latest, tree: self.files.tree.clone() }, fresh)
    }

    /// Whether all of an unchanged file's content is held.
    fn is_held(&self, entry: &Entry, held: &Stored<'_>) -> bool {
        let What::File(body) = &entry.what else { return false };
        let Some(root) = body.content.reference() else { return true };
        let all = |pieces: &Vec<ChunkRef>| pieces.iter().all(|piece| held.is_held(&piece.id));
        let is_list = matches!(body.content, Content::Listing(_));
        held.is_held(&root.id) && (!is_list || self.latest.pieces.get(&root.id).is_some_and(all))
    }

    /// What a tree says whose chunks are here, or were before.
    fn look(&self, root: Option<&TreeRoot>, began_ns: i64) -> Latest {
        let mut latest = Latest { began_ns, ..Latest::default() };
        let Some(root) = root else { return latest };
        let mut walk = TreeWalk::new(root, b"");
        loop {
            match walk.step().expect("it was written just now") {
                Step::End => return latest,
                Step::Entry(entry) => self.learn(entry, &mut latest),
                Step::Wait => {
                    while let Some(chunk) = walk.wanted() {
                        let at = &chunk.reference;
                        latest.keys.insert(at.id, at.ck.duplicate());
                        walk.give(chunk.index, self.copy(at, Kind::Tree));
                    }
                }
            }
        }
    }

    /// The plaintext of a chunk of its own that leads to others.
    fn copy(&self, at: &ChunkRef, kind: Kind) -> Bytes {
        let (header, sealed) = self.copies.get(&at.id).expect("a device keeps copies of these");
        open_chunk(&at.ck, &at.id, header, sealed, kind).expect("it was sealed under its key")
    }

    fn learn(&self, entry: Entry, latest: &mut Latest) {
        if let What::File(body) = &entry.what
            && let Some(at) = body.content.reference()
        {
            latest.keys.insert(at.id, at.ck.duplicate());
            if matches!(body.content, Content::Listing(_)) {
                let list = Listing::root(self.copy(at, Kind::Listing));
                let mut list = list.expect("it is a listing of its own");
                let pieces: Vec<ChunkRef> = std::iter::from_fn(|| list.next()).collect();
                let keys = pieces.iter().map(|at| (at.id, at.ck.duplicate()));
                latest.keys.extend(keys);
                latest.pieces.insert(at.id, pieces);
            }
        }
        latest.entries.insert(entry.path.clone(), entry);
    }

    /// The chain that its newest record names, read anew as after a restart.
    fn own(&self, keys: &OwnerKeys) -> Option<DeviceView> {
        let record = self.record.clone()?;
        let opened = self.head_keys(keys).open(&record).expect("it is this device's");
        let payload = HeadPayload::decode(&opened).expect("it is this device's");
        let named = payload.checkpoint.iter().map(|(_, at)| at).chain(&payload.recent);
        let texts: Vec<Bytes> = named.map(|at| self.copy(at, Kind::Manifest)).collect();
        let read = Chain::verify(&payload, keys.generation, &texts, None);
        let (chain, view) = read.expect("it is this device's own chain");
        Some(DeviceView { record, device: self.id, chain, view })
    }

    fn draft(&self, keys: &OwnerKeys, is_thin: bool) -> Draft {
        let (others, hints) = (BTreeMap::new(), Vec::new());
        let own = self.own(keys);
        let before = Before { others, coverage: Coverage::All, own, hints, is_thin };
        Draft::new((self.id, self.index), keys.generation, before)
    }

    /// Contents and tree are stored: the snapshot and its entry.
    pub(crate) fn publish(
        &mut self,
        keys: &OwnerKeys,
        backed: Backed,
        is_thin: bool,
        (nonce, now_ns): ([u8; 16], i64),
    ) -> (Drafted, Vec<Fresh>) {
        let Backed { built, mut latest, tree } = backed;
        let snapshot = Snapshot {
            device: self.id,
            created_ns: latest.began_ns,
            utc_offset_min: 0,
            partial: false,
            put: false,
            tree: built.root,
            parent: self.latest.id,
            counts: built.counts,
            nonce,
            host: "attic".to_owned(),
            roots: vec![b"/data".to_vec()],
            tags: Vec::new(),
            excludes: Vec::new(),
            program: "netsim".to_owned(),
        };
        let plaintext = snapshot.encode().expect("it is within its bounds");
        let id = Snapshot::id(&plaintext);
        let mut sink = Gathered::default();
        let mut sealer = Sealer::new(keys, keys.locality(), &mut sink);
        let at = sealer.meta(Kind::Snapshot, &plaintext, 0).expect("the sink takes everything");
        let mut sealed = BTreeMap::from([(at.id, at.ck.duplicate())]);
        let mut draft = self.draft(keys, is_thin);
        let body = Body::Add(added(id, at, &snapshot));
        draft.add(&mut sealer, body, now_ns).expect("a small list has room");
        let named = draft.named().map(|at| (at.id, at.ck.duplicate()));
        sealed.extend(named);
        latest.id = Some(id);
        self.copies.append(&mut sink.copies);
        let (added, forgets) = (Some((id, tree, latest)), BTreeSet::new());
        let drafted = Drafted { draft, added, forgets };
        (drafted, sink.with_keys(&sealed))
    }

    /// An entry that forgets these.
    pub(crate) fn forget(
        &mut self,
        keys: &OwnerKeys,
        forgets: BTreeSet<SnapshotId>,
        is_thin: bool,
        now_ns: i64,
    ) -> (Drafted, Vec<Fresh>) {
        let mut sink = Gathered::default();
        let mut sealer = Sealer::new(keys, keys.locality(), &mut sink);
        let mut draft = self.draft(keys, is_thin);
        let body = Body::Forget(forgets.iter().copied().collect());
        draft.add(&mut sealer, body, now_ns).expect("a small list has room");
        let sealed = draft.named().map(|at| (at.id, at.ck.duplicate())).collect();
        self.copies.append(&mut sink.copies);
        (Drafted { draft, added: None, forgets }, sink.with_keys(&sealed))
    }

    /// The entries are stored, too: the record that names them, which is to be sent now.
    pub(crate) fn seal_head(
        &mut self,
        keys: &OwnerKeys,
        drafted: Drafted,
        replicas: u8,
        (rng, now_ns): (&mut ChaCha20Rng, i64),
    ) -> Published {
        let Drafted { draft, added, forgets } = drafted;
        let (head_keys, signed_at_s) = (self.head_keys(keys), now_ns.div_euclid(1_000_000_000));
        let record = draft.head(&head_keys, replicas, &self.holders, signed_at_s, rng);
        let record = record.expect("a small chain fits a head");
        self.record = Some(record.clone());
        (self.is_kept, self.resting) = (false, false);
        if let Some((id, tree, latest)) = added {
            self.made.insert(id, tree);
            self.live.insert(id);
            self.latest = latest;
        }
        self.live.retain(|id| !forgets.contains(id));
        Published { record, live: self.live.clone() }
    }

    /// What is on its way besides chunks is gone with the process: so is the work.
    pub(crate) fn break_off(&mut self) -> Option<Work> {
        self.work.take()
    }
}

/// As much of a snapshot as a list shows.
fn added(id: SnapshotId, reference: ChunkRef, snapshot: &Snapshot) -> Added {
    Added {
        id,
        reference,
        created_ns: snapshot.created_ns,
        utc_offset_min: snapshot.utc_offset_min,
        partial: snapshot.partial,
        put: snapshot.put,
        roots_cut: false,
        files: snapshot.counts.files,
        bytes: snapshot.counts.bytes,
        new_bytes: snapshot.counts.new_bytes,
        host: snapshot.host.clone(),
        roots: snapshot.roots.clone(),
        tags: snapshot.tags.clone(),
    }
}
