//! Backups into a mesh that is a map, and what is read back from it.

use super::*;
use crate::core::types::ChunkId;
use crate::crypto::seal::SealedChunk;
use crate::repo::fixture::{Acked, Mesh, content, entries, noise, owner, pieces};
use crate::repo::tree::{Extents, Inode};
use std::collections::{BTreeMap, BTreeSet};

/// The mesh, what of it holders have acknowledged, and which leaves were done when.
#[derive(Default)]
struct Taken {
    mesh: Mesh,
    leaves: Vec<(ChunkId, Vec<u8>, usize)>,
}

impl ChunkSink for Taken {
    fn store(&mut self, chunk: SealedChunk, plaintext_bytes: u64) -> Result<(), SinkClosed> {
        self.mesh.store(chunk, plaintext_bytes)
    }
}

impl BackupSink for Taken {
    fn leaf_done(&mut self, leaf: &DoneLeaf) {
        self.leaves.push((leaf.reference.id, leaf.last.clone(), self.mesh.order.len()));
    }
}

/// Content in these pieces; `None` ends it with a fault.
struct Cut(Vec<Option<Vec<u8>>>);

impl Pieces for Cut {
    type Piece = Vec<u8>;

    fn next(&mut self) -> Result<Option<Vec<u8>>, Unreadable> {
        if self.0.is_empty() {
            return Ok(None);
        }
        self.0.remove(0).map(Some).ok_or(Unreadable)
    }
}

/// Cuts content the simplest way there is: every 300 KiB.
fn cut(content: &[u8]) -> Cut {
    Cut(content.chunks(300 << 10).map(|piece| Some(piece.to_vec())).collect())
}

fn entry(path: &str, what: What) -> Entry {
    Entry {
        path: path.into(),
        mode: 0o640,
        uid: 1,
        gid: 2,
        mtime_ns: 3,
        xattrs: Vec::new(),
        implied: false,
        unreadable: false,
        what,
    }
}

fn file(path: &str, bytes: usize) -> Entry {
    let inode = Inode { ctime_ns: 4, number: 5 };
    let (bytes, content) = (bytes as u64, Content::None);
    entry(path, What::File(FileBody { bytes, inode, extents: None, content }))
}

type Files = BTreeMap<String, Vec<u8>>;

/// A backup of these files, which lie at the top.
fn backup(files: &Files, known: Known, held: &Acked, taken: &mut Taken) -> Built {
    let keys = owner(1);
    let mut engine = Engine::new((&keys, Locality(9)), known, held, taken);
    for (path, content) in files {
        engine.store(file(path, content.len()), &mut cut(content)).unwrap();
    }
    engine.finish().unwrap()
}

fn assert_holds(root: &TreeRoot, files: &Files, mesh: &Mesh) {
    let found: Files = entries(root, mesh)
        .iter()
        .map(|entry| (String::from_utf8(entry.path.clone()).unwrap(), content(entry, mesh)))
        .collect();
    assert!(found == *files, "{:?} is not {:?}", found.keys(), files.keys());
}

/// Files of every size: none, small, one piece, many, and one twice.
fn files() -> Files {
    let sizes = [0, 1, 100, 262_143, 262_144, 300 << 10, (300 << 10) + 1, 2_000_000];
    let named = |(number, bytes): (usize, &usize)| {
        (format!("{number} of {bytes}"), noise(*bytes, number as u64))
    };
    let mut files: Files = sizes.iter().enumerate().map(named).collect();
    files.insert("twice".into(), files["2 of 100"].clone());
    files
}

/// What a first backup leaves behind: the mesh, all of it held, and what is known of it.
fn after(files: &Files) -> (Taken, Acked, Known, TreeRoot) {
    let mut taken = Taken::default();
    let built = backup(files, Known::new(), &Acked::default(), &mut taken);
    let root = built.root.unwrap();
    let mut known = Known::new();
    entries(&root, &taken.mesh).iter().for_each(|entry| known.learn(entry));
    let held = Acked(taken.mesh.chunks.keys().copied().collect());
    (taken, held, known, root)
}

#[test]
fn files_of_every_size_come_back_byte_for_byte() {
    let (files, mut taken) = (files(), Taken::default());
    let built = backup(&files, Known::new(), &Acked::default(), &mut taken);
    assert_holds(&built.root.unwrap(), &files, &taken.mesh);
    let bytes: usize = files.values().map(Vec::len).sum();
    let sealed: usize = taken.mesh.chunks.values().map(|(_, sealed)| sealed.len()).sum();
    let Counts { files: count, folders, others, unreadable, .. } = built.counts;
    assert_eq!((count, folders, others, unreadable), (9, 0, 0, 0));
    assert_eq!((built.counts.bytes, built.counts.new_bytes), (bytes as u64, sealed as u64));
}

#[test]
fn a_renamed_small_file_stores_no_bytes() {
    let small: Files = files().into_iter().filter(|(_, content)| content.len() < 262_144).collect();
    let (mut taken, held, known, _) = after(&small);
    let renamed: Files =
        small.iter().map(|(path, content)| (format!("new {path}"), content.clone())).collect();
    let before = taken.mesh.order.len();
    let built = backup(&renamed, known, &held, &mut taken);
    // Nothing but the leaf.
    let new = &taken.mesh.order[before..];
    assert_eq!(new.iter().map(|(_, bytes)| *bytes).collect::<Vec<_>>(), [0]);
    assert_holds(&built.root.unwrap(), &renamed, &taken.mesh);
}

#[test]
fn a_pack_that_nobody_holds_is_not_named() {
    let small: Files = (0..20_u8).map(|n| (format!("{n:02}"), noise(5_000, n.into()))).collect();
    let (_, _, known, _) = after(&small);
    let mut twice = small.clone();
    twice.extend(small.iter().map(|(path, content)| (format!("x{path}"), content.clone())));
    let mut taken = Taken::default();
    let built = backup(&twice, known, &Acked::default(), &mut taken);
    // All of it is there again, each content once.
    assert_holds(&built.root.unwrap(), &twice, &taken.mesh);
    let packed: u64 = taken.mesh.order.iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(packed, 20 * 5_000);
}

#[test]
fn content_that_repeats_across_packs_is_packed_once() {
    let mut files = Files::new();
    for number in 0..30_u64 {
        files.insert(format!("a{number:02}"), noise(200_000, number));
        files.insert(format!("b{number:02}"), noise(200_000, number));
    }
    let mut taken = Taken::default();
    let built = backup(&files, Known::new(), &Acked::default(), &mut taken);
    assert_holds(&built.root.unwrap(), &files, &taken.mesh);
    let packed: u64 = taken.mesh.order.iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(packed, 30 * 200_000);
}

#[test]
fn an_unchanged_tree_is_the_same_root_without_reading() {
    let files = files();
    let (mut taken, held, known, root) = after(&files);
    let keys = owner(1);
    let found = entries(&root, &taken.mesh);
    let mut engine = Engine::new((&keys, Locality(9)), known, &held, &mut taken);
    found.iter().for_each(|entry| engine.keep(entry).unwrap());
    let built = engine.finish().unwrap();
    assert_eq!(built.root.unwrap().reference.id, root.reference.id);
    assert_eq!((built.unchanged, built.counts.files), (9, 9));
}

#[test]
fn what_is_held_already_is_neither_handed_over_nor_new() {
    let files = files();
    let (mut taken, held, _, root) = after(&files);
    let before = taken.mesh.order.len();
    // Nothing is remembered of the first backup but who holds what.
    let built = backup(&files, Known::new(), &held, &mut taken);
    assert_eq!(built.root.unwrap().reference.id, root.reference.id);
    assert_eq!((taken.mesh.order.len(), built.counts.new_bytes), (before, 0));
}

#[test]
fn a_changed_large_file_stores_its_changed_pieces() {
    let mut content = noise(3_000_000, 1);
    let (mut taken, held, _, root) = after(&Files::from([("large".to_owned(), content.clone())]));
    let old = entries(&root, &taken.mesh);
    content[1_000_000] ^= 1;
    let keys = owner(1);
    let before = taken.mesh.order.len();
    let Some(What::File(FileBody { content: Content::Listing(list), .. })) =
        old.first().map(|entry| &entry.what)
    else {
        panic!("it has a listing")
    };
    let pieces = pieces(list, &taken.mesh);
    let mut engine = Engine::new((&keys, Locality(9)), Known::new(), &held, &mut taken);
    pieces.iter().for_each(|piece| engine.recall(piece));
    engine.store(file("large", content.len()), &mut cut(&content)).unwrap();
    let root = engine.finish().unwrap().root.unwrap();
    // One piece, the listing, the leaf.
    let new: Vec<u64> = taken.mesh.order[before..].iter().map(|(_, bytes)| *bytes).collect();
    assert_eq!(new, [300 << 10, 0, 0]);
    assert_holds(&root, &Files::from([("large".to_owned(), content)]), &taken.mesh);
}

#[test]
fn what_cannot_be_read_is_recorded_without_content() {
    let (keys, held, mut taken) = (owner(1), Acked::default(), Taken::default());
    let mut engine = Engine::new((&keys, Locality(9)), Known::new(), &held, &mut taken);
    let cut_off = |bytes: usize| vec![Some(noise(bytes, 1)), None];
    for (number, pieces) in [vec![None], cut_off(300_000), cut_off(9)].into_iter().enumerate() {
        let outcome = engine.store(file(&number.to_string(), 7), &mut Cut(pieces));
        assert_eq!(outcome, Ok(Outcome::Unreadable));
    }
    let built = engine.finish().unwrap();
    assert_eq!((built.counts.files, built.counts.unreadable), (3, 3));
    let found = entries(&built.root.unwrap(), &taken.mesh);
    assert!(found.iter().all(|entry| entry.unreadable && entry.bytes() == 7));
}

#[test]
fn a_file_that_grew_is_as_long_as_what_was_read() {
    let (keys, held, mut taken) = (owner(1), Acked::default(), Taken::default());
    let mut engine = Engine::new((&keys, Locality(9)), Known::new(), &held, &mut taken);
    assert_eq!(engine.store(file("a", 7), &mut cut(&noise(10, 1))), Ok(Outcome::Stored));
    assert_eq!(engine.store(file("b", 7), &mut cut(b"")), Ok(Outcome::Known));
    // With holes nobody can tell where the rest would be.
    let mut sparse = file("c", 100);
    if let What::File(body) = &mut sparse.what {
        body.extents = Some(Extents(std::iter::once(10..20).collect()));
    }
    let again = sparse.duplicate();
    assert_eq!(engine.store(sparse, &mut cut(&noise(11, 2))), Ok(Outcome::Unreadable));
    let mut good = again;
    good.path = b"d".to_vec();
    assert_eq!(engine.store(good, &mut cut(&noise(10, 3))), Ok(Outcome::Stored));
    let root = engine.finish().unwrap().root.unwrap();
    let bytes: Vec<u64> = entries(&root, &taken.mesh).iter().map(Entry::bytes).collect();
    assert_eq!(bytes, [10, 0, 100, 100]);
}

#[test]
fn an_entry_that_cannot_be_is_left_out_and_the_next_may_come() {
    let (keys, held, mut taken) = (owner(1), Acked::default(), Taken::default());
    let mut engine = Engine::new((&keys, Locality(9)), Known::new(), &held, &mut taken);
    engine.keep(&entry("b", What::Fifo)).unwrap();
    let refused = engine.store(file("a", 3), &mut cut(b"abc"));
    assert_eq!(refused, Err(EngineError::Refused(TreeFault::Order)));
    let refused = engine.keep(&entry("b/../c", What::Fifo));
    assert!(matches!(refused, Err(EngineError::Refused(TreeFault::Path(_)))));
    engine.store(file("c", 3), &mut cut(b"abc")).unwrap();
    let built = engine.finish().unwrap();
    assert_eq!((built.counts.files, built.counts.others), (1, 1));
    assert_eq!(entries(&built.root.unwrap(), &taken.mesh).len(), 2);
}

#[test]
fn a_leaf_is_done_after_all_that_it_names() {
    let files: Files =
        (0..6_000_u32).map(|n| (format!("{n:05}"), n.to_le_bytes().repeat(300))).collect();
    let mut taken = Taken::default();
    backup(&files, Known::new(), &Acked::default(), &mut taken);
    assert!(taken.leaves.len() > 3, "{} leaves", taken.leaves.len());
    for (leaf, last, handed_over) in &taken.leaves {
        assert_eq!(taken.mesh.order[handed_over - 1].0, *leaf);
        let before: BTreeSet<_> = taken.mesh.order[..*handed_over].iter().map(|c| c.0).collect();
        assert!(files.contains_key(str::from_utf8(last).unwrap()) && before.len() >= 2);
    }
}

#[test]
fn a_closed_sink_ends_the_backup() {
    struct Closed;
    impl ChunkSink for Closed {
        fn store(&mut self, _: SealedChunk, _: u64) -> Result<(), SinkClosed> {
            Err(SinkClosed)
        }
    }
    impl BackupSink for Closed {
        fn leaf_done(&mut self, _: &DoneLeaf) {}
    }
    let (keys, held, mut closed) = (owner(1), Acked::default(), Closed);
    let mut engine = Engine::new((&keys, Locality(9)), Known::new(), &held, &mut closed);
    engine.store(file("a", 3), &mut cut(b"abc")).unwrap();
    assert_eq!(engine.finish().unwrap_err(), EngineError::Closed(SinkClosed));
}
