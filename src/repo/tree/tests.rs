//! Trees over a sink that is a map.

mod frozen;
mod hostile;
mod shape;

use super::path::Cutter;
use super::walk::{Fronts, Step, TreeChunk, TreeWalk, skip_equal};
use super::writer::{Cuts, DoneLeaf, TreeSink, TreeWriter};
use super::*;
use crate::core::types::{ChunkId, Locality};
use crate::crypto::keys::ChunkKey;
use crate::repo::fixture::{noise, owner};
use crate::repo::frame::Kind;
use crate::repo::pack::{Blob, BlobHasher, PackedBlob};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// All that was sealed, in order.
#[derive(Default)]
pub(in crate::repo) struct Sink {
    pub(in crate::repo) chunks: BTreeMap<ChunkId, Bytes>,
    sealed: Vec<(Kind, ChunkId)>,
    packed: Vec<(ChunkId, Vec<PackedBlob>)>,
    leaves: Vec<(ChunkId, Vec<u8>)>,
}

impl TreeSink for Sink {
    type Error = TreeFault;

    fn seal(&mut self, kind: Kind, plaintext: &[u8], bytes: u64) -> Result<ChunkRef, TreeFault> {
        let reference = ChunkRef { bytes, ..chunk(plaintext) };
        self.chunks.insert(reference.id, Bytes::copy_from_slice(plaintext));
        self.sealed.push((kind, reference.id));
        Ok(reference)
    }

    fn packed(&mut self, pack: &ChunkRef, blobs: &[PackedBlob]) {
        self.packed.push((pack.id, blobs.to_vec()));
    }

    fn leaf_done(&mut self, leaf: &DoneLeaf) {
        self.leaves.push((leaf.reference.id, leaf.last.clone()));
    }
}

impl Sink {
    fn ids(&self, kind: Kind) -> BTreeSet<ChunkId> {
        self.sealed.iter().filter(|(of, _)| *of == kind).map(|(_, id)| *id).collect()
    }
}

/// A reference that follows from some bytes.
pub(in crate::repo) fn chunk(plaintext: &[u8]) -> ChunkRef {
    let id = *blake3::hash(plaintext).as_bytes();
    let ck = ChunkKey::from_bytes(id.map(|byte| byte ^ 0xff));
    ChunkRef { ck, id: ChunkId::from_bytes(id), locality: Locality(7), bytes: 0 }
}

fn cutter() -> Cutter {
    Cutter::new(&owner(1).chunker)
}

/// Small leaves and nodes: a few dozen entries make three levels.
pub(in crate::repo) const SMALL: Cuts =
    Cuts { leaf_bits: 2, leaf_entries_min: 2, node_bits: 2, node_children_min: 3 };

pub(in crate::repo) fn write(
    entries: &[Entry],
    cuts: Cuts,
    sink: &mut Sink,
) -> Result<Option<TreeRoot>, TreeFault> {
    let mut writer = TreeWriter::with_cuts(cutter(), cuts);
    for entry in entries {
        writer.add(entry, None, sink)?;
    }
    writer.finish(sink)
}

/// Walks a tree whose chunks are all there; answers the newest question first.
fn read(root: &TreeRoot, from: &[u8], sink: &Sink) -> Result<(Vec<Entry>, usize), TreeFault> {
    let mut walk = TreeWalk::new(root, from);
    let (mut asked, mut found, mut chunks) = (Vec::new(), Vec::new(), 0);
    loop {
        match walk.step()? {
            Step::Entry(entry) => found.push(entry),
            Step::End => return Ok((found, chunks)),
            Step::Wait => {
                asked.extend(std::iter::from_fn(|| walk.wanted()));
                let chunk = asked.pop().expect("a walk that waits has asked");
                walk.give(chunk.index, sink.chunks[&chunk.reference.id].clone());
                chunks += 1;
            }
        }
    }
}

/// All that an entry says, keys included.
pub(in crate::repo) fn told(entry: &Entry) -> String {
    let reference = match &entry.what {
        What::File(body) => body.content.reference(),
        _ => None,
    };
    let reference = reference.map(|chunk| (*chunk.ck.expose(), *chunk.id.as_bytes()));
    format!("{entry:?} {reference:?}")
}

pub(in crate::repo) fn all_told(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(told).collect()
}

pub(in crate::repo) fn entry(path: &str, what: What) -> Entry {
    Entry {
        path: path.into(),
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        mtime_ns: 1_700_000_000_123_456_789,
        xattrs: Vec::new(),
        implied: false,
        unreadable: false,
        what,
    }
}

pub(in crate::repo) fn folder(path: &str) -> Entry {
    Entry { mode: 0o755, ..entry(path, What::Folder(Inode { ctime_ns: 5, number: 6 })) }
}

/// A file of so many bytes in a pack, or of none.
pub(in crate::repo) fn file(path: &str, bytes: u64) -> Entry {
    let hash = [9; 16];
    let content = match bytes {
        0 => Content::None,
        1..PACKED_BYTES_MAX => {
            let pack = ChunkRef { bytes: 1 << 20, ..chunk(b"a pack") };
            Content::Packed { pack, offset: 5, hash }
        }
        _ => Content::Listing(ChunkRef { bytes, ..chunk(path.as_bytes()) }),
    };
    let inode = Inode { ctime_ns: 7, number: path.len() as u64 };
    entry(path, What::File(FileBody { bytes, inode, extents: None, content }))
}

pub(in crate::repo) fn body(entry: &mut Entry) -> &mut FileBody {
    let What::File(body) = &mut entry.what else { panic!("it is a file") };
    body
}

/// A folder with so many files.
pub(in crate::repo) fn many(count: usize) -> Vec<Entry> {
    let name = |number: usize| file(&format!("data/file {number:05}"), number as u64 % 300);
    [folder("data")].into_iter().chain((0..count).map(name)).collect()
}

/// What a name may be besides a folder, drawn by number.
fn leaf(path: &[u8], draw: u8, size: u64, earlier: Option<&[u8]>) -> Entry {
    let text = String::from_utf8(path.to_vec()).unwrap();
    let mut made = file(&text, if draw & 1 == 0 { size % 1000 } else { size });
    match draw % 9 {
        0 => made.what = What::Symlink(b"../../anywhere".to_vec()),
        1 => made.what = earlier.map_or(What::Fifo, |first| What::HardLink(first.to_vec())),
        2 => made.what = What::Socket,
        3 => made.what = What::Device { block: draw & 16 == 0, number: size },
        4 => {
            let start = size % 1000 + 1;
            let ranges = vec![0..start, start + 1..start + 500];
            body(&mut made).bytes = start + 1000;
            body(&mut made).extents = Some(Extents(ranges));
            let bytes = start + 499;
            body(&mut made).content = Content::Piece(ChunkRef { bytes, ..chunk(path) });
        }
        5 => {
            made.unreadable = true;
            body(&mut made).content = Content::None;
        }
        6 => made.xattrs = vec![(b"user.a".to_vec(), vec![draw; 9]), (b"user.b".to_vec(), vec![])],
        _ => {}
    }
    made
}

prop_compose! {
    /// Any tree: names that sort oddly beside `/`, every kind, any metadata.
    pub(in crate::repo) fn any_tree()(
        names in proptest::collection::vec(
            (proptest::collection::vec("[ab .!-]{1,2}x", 1..4), any::<u8>(), any::<[u64; 4]>()),
            1..40,
        ),
    ) -> Vec<Entry> {
        let mut folders = BTreeSet::new();
        for (names, ..) in &names {
            folders.extend((1..names.len()).map(|depth| names[..depth].join("/")));
        }
        let mut made: BTreeMap<Vec<String>, Entry> = folders
            .iter()
            .map(|path| (path.split('/').map(String::from).collect(), folder(path)))
            .collect();
        for (names, draw, [size, mtime, ctime, number]) in names {
            let path = names.join("/").into_bytes();
            let files = made.values().filter(|entry| matches!(entry.what, What::File(_)));
            let first = files.map(|entry| entry.path.clone()).next();
            let earlier = first.filter(|first| path::compare(first, &path).is_lt());
            let mut entry = leaf(&path, draw, size >> 8, earlier.as_deref());
            (entry.mtime_ns, entry.mode) = (mtime.cast_signed(), u32::from(draw));
            if let What::File(body) = &mut entry.what {
                body.inode = Inode { ctime_ns: ctime.cast_signed(), number };
            }
            made.entry(names).or_insert(entry);
        }
        made.into_values().collect()
    }
}

proptest! {
    #[test]
    fn entries_come_back_as_they_were(entries in any_tree(), small in any::<bool>()) {
        let mut sink = Sink::default();
        let cuts = if small { SMALL } else { Cuts::default() };
        let root = write(&entries, cuts, &mut sink).unwrap().unwrap();
        prop_assert_eq!(root.entries, entries.len() as u64);
        prop_assert_eq!(root.reference.bytes, entries.iter().map(Entry::bytes).sum::<u64>());
        let (found, chunks) = read(&root, b"", &sink).unwrap();
        prop_assert_eq!(all_told(&found), all_told(&entries));
        prop_assert_eq!(chunks, sink.sealed.len());
    }

    #[test]
    fn a_walk_from_a_path_begins_there(entries in any_tree(), from in any::<usize>()) {
        let mut sink = Sink::default();
        let root = write(&entries, SMALL, &mut sink).unwrap().unwrap();
        let at = from % entries.len();
        for (from, at) in [
            (entries[at].path.clone(), at),
            ([entries[at].path.as_slice(), b"\x01"].concat(), usize::MAX),
        ] {
            let expected: Vec<String> = if at == usize::MAX {
                let after = |entry: &&Entry| path::compare(&entry.path, &from).is_gt();
                entries.iter().filter(after).map(told).collect()
            } else {
                entries[at..].iter().map(told).collect()
            };
            let (found, _) = read(&root, &from, &sink).unwrap();
            prop_assert_eq!(all_told(&found), expected);
        }
    }
}

#[test]
fn a_tree_without_entries_has_no_root() {
    let mut sink = Sink::default();
    assert!(write(&[], Cuts::default(), &mut sink).unwrap().is_none());
    assert!(sink.sealed.is_empty());
}

#[test]
fn a_walk_from_a_path_reads_one_chunk_a_level_and_what_follows() {
    let (mut sink, entries) = (Sink::default(), many(3_000));
    let root = write(&entries, SMALL, &mut sink).unwrap().unwrap();
    assert!(root.level >= 3, "level {}", root.level);
    let mut walk = TreeWalk::new(&root, b"data/file 02990");
    let mut chunks = 0;
    let first = loop {
        match walk.step().unwrap() {
            Step::Entry(entry) => break entry,
            Step::End => panic!("it is there"),
            Step::Wait => {
                let wanted = walk.wanted().unwrap();
                walk.give(wanted.index, sink.chunks[&wanted.reference.id].clone());
                chunks += 1;
            }
        }
    };
    assert_eq!(first.path, b"data/file 02990");
    assert_eq!(chunks, usize::from(root.level) + 1);
}

#[test]
fn at_most_eight_chunks_are_asked_for_ahead() {
    let (mut sink, entries) = (Sink::default(), many(1_000));
    let root = write(&entries, SMALL, &mut sink).unwrap().unwrap();
    let mut walk = TreeWalk::new(&root, b"");
    let mut open = 0;
    loop {
        match walk.step().unwrap() {
            Step::Entry(_) => {}
            Step::End => break,
            Step::Wait => {
                let wanted: Vec<_> = std::iter::from_fn(|| walk.wanted()).collect();
                // Levels that were taken apart since keep what they had asked for.
                open = open.max(wanted.len());
                for chunk in wanted {
                    walk.give(chunk.index, sink.chunks[&chunk.reference.id].clone());
                }
            }
        }
    }
    assert_eq!(open, 8);
}

#[test]
fn a_part_that_is_lost_is_named_and_the_rest_is_walked() {
    let (mut sink, entries) = (Sink::default(), many(300));
    let root = write(&entries, SMALL, &mut sink).unwrap().unwrap();
    let leaves = sink.leaves.clone();
    let (lost, last) = &leaves[leaves.len() / 2];
    let mut walk = TreeWalk::new(&root, b"");
    let (mut found, mut gaps) = (Vec::new(), Vec::new());
    loop {
        match walk.step().unwrap() {
            Step::Entry(entry) => found.push(entry.path),
            Step::End => break,
            Step::Wait => {
                let chunk = walk.wanted().unwrap();
                if chunk.reference.id == *lost {
                    gaps.push(walk.give_up(chunk.index).unwrap());
                } else {
                    walk.give(chunk.index, sink.chunks[&chunk.reference.id].clone());
                }
            }
        }
    }
    let [gap] = gaps.as_slice() else { panic!("{gaps:?}") };
    let missing: Vec<&[u8]> = entries
        .iter()
        .map(|entry| entry.path.as_slice())
        .filter(|path| !found.iter().any(|found| found == path))
        .collect();
    assert_eq!(missing.first(), Some(&gap.first.as_slice()));
    assert_eq!(missing.last(), Some(&last.as_slice()));
    assert_eq!(missing.len() as u64, gap.entries);
}

/// Folders with files in them, several to a leaf and some cut in two.
fn many_folders(count: usize) -> Vec<Entry> {
    let of = |number: usize| {
        let files = (0..6).map(move |file_number| (number, Some(file_number)));
        std::iter::once((number, None)).chain(files)
    };
    let made = |(number, inner): (usize, Option<usize>)| match inner {
        Some(inner) => file(&format!("{number:04}/{inner}"), 10),
        None => folder(&format!("{number:04}")),
    };
    (0..count).flat_map(of).map(made).collect()
}

#[test]
fn parts_that_are_lost_out_of_turn_cost_only_themselves() {
    let (mut sink, entries) = (Sink::default(), many_folders(60));
    let root = write(&entries, SMALL, &mut sink).unwrap().unwrap();
    let leaves: Vec<ChunkId> = sink.leaves.iter().map(|(id, _)| *id).collect();
    for (at, (one, other)) in leaves.iter().zip(leaves.iter().skip(2)).enumerate() {
        let mut walk = TreeWalk::new(&root, b"");
        let (mut found, mut lost, mut gaps) = (0, 0, 0);
        loop {
            match walk.step() {
                Ok(Step::Entry(_)) => found += 1,
                Ok(Step::End) => break,
                Ok(Step::Wait) => {
                    let wanted: Vec<_> = std::iter::from_fn(|| walk.wanted()).collect();
                    // What does not come is known first, and the last of it before the others.
                    let gone = |id: &ChunkId| id == one || id == other;
                    for chunk in wanted.iter().rev().filter(|chunk| gone(&chunk.reference.id)) {
                        lost += walk.give_up(chunk.index).unwrap().entries;
                        gaps += 1;
                    }
                    for chunk in wanted.iter().filter(|chunk| !gone(&chunk.reference.id)) {
                        walk.give(chunk.index, sink.chunks[&chunk.reference.id].clone());
                    }
                }
                Err(fault) => panic!("without the leaves {at} and {}: {fault}", at + 2),
            }
        }
        assert_eq!((found + lost, gaps), (entries.len() as u64, 2), "{at}");
    }
}

#[test]
fn equal_parts_of_two_trees_are_skipped() {
    let mut entries = many(3_000);
    let mut sink = Sink::default();
    let left = write(&entries, SMALL, &mut sink).unwrap().unwrap();
    body(&mut entries[1_500]).inode.ctime_ns += 1;
    let right = write(&entries, SMALL, &mut sink).unwrap().unwrap();
    let mut walks = [TreeWalk::new(&left, b""), TreeWalk::new(&right, b"")];
    let mut chunks = 0;
    let mut next = |walks: &mut [TreeWalk; 2]| loop {
        let [left, right] = walks;
        if skip_equal(left, right).unwrap() == Fronts::Differ {
            return;
        }
        for walk in [left, right] {
            let wanted = walk.wanted().unwrap();
            walk.give(wanted.index, sink.chunks[&wanted.reference.id].clone());
            chunks += 1;
        }
    };
    next(&mut walks);
    // Both stand before the leaf in which the changed file is: read it in both.
    let mut leaves = [Vec::new(), Vec::new()];
    for (walk, leaf) in walks.iter_mut().zip(&mut leaves) {
        assert!(matches!(walk.step(), Ok(Step::Wait)));
        let wanted = walk.wanted().unwrap();
        walk.give(wanted.index, sink.chunks[&wanted.reference.id].clone());
        while let Step::Entry(entry) = walk.step().unwrap() {
            leaf.push(told(&entry));
        }
    }
    let [old, new] = leaves;
    assert!(old.len() == new.len() && old.len() < 100);
    assert_eq!(old.iter().zip(&new).filter(|(old, new)| old != new).count(), 1);
    // And nothing else differs.
    next(&mut walks);
    assert!(walks.iter_mut().all(|walk| matches!(walk.step(), Ok(Step::End))));
    let levels = usize::from(left.level) + 1;
    assert!(chunks <= 2 * 3 * levels, "{chunks} chunks for {levels} levels");
}

#[test]
fn a_tree_and_itself_have_no_difference() {
    let mut sink = Sink::default();
    let root = write(&many(300), SMALL, &mut sink).unwrap().unwrap();
    let mut walks = [TreeWalk::new(&root, b""), TreeWalk::new(&root, b"")];
    let [left, right] = &mut walks;
    assert_eq!(skip_equal(left, right), Ok(Fronts::Differ));
    assert!(walks.iter_mut().all(|walk| matches!(walk.step(), Ok(Step::End))));
}

/// Walks on from where a walk is; `seen` is told each entry, and may leave out what follows.
fn go_on(walk: &mut TreeWalk, sink: &Sink, mut seen: impl FnMut(&mut TreeWalk, Entry)) -> usize {
    let (mut asked, mut chunks) = (VecDeque::new(), 0);
    loop {
        match walk.step().unwrap() {
            Step::Entry(entry) => seen(walk, entry),
            Step::End => return chunks,
            Step::Wait => {
                asked.extend(std::iter::from_fn(|| walk.wanted()));
                let chunk: TreeChunk = asked.pop_front().expect("a walk that waits has asked");
                walk.give(chunk.index, sink.chunks[&chunk.reference.id].clone());
                chunks += 1;
            }
        }
    }
}

/// Folders in folders, with files in all of them.
fn nested() -> Vec<Entry> {
    let mut entries = Vec::new();
    for outer in 0..12 {
        entries.push(folder(&format!("{outer:02}")));
        for inner in 0..12 {
            entries.push(folder(&format!("{outer:02}/{inner:02}")));
            let name = |number| file(&format!("{outer:02}/{inner:02}/{number:02}"), 9);
            entries.extend((0..12).map(name));
        }
    }
    entries
}

#[test]
fn parts_that_are_lost_out_of_turn_are_gaps_and_nothing_else() {
    let (mut sink, entries) = (Sink::default(), nested());
    let root = write(&entries, SMALL, &mut sink).unwrap().unwrap();
    let leaves: Vec<ChunkId> = sink.leaves.iter().map(|(leaf, _)| *leaf).collect();
    for lost in &leaves {
        let mut walk = TreeWalk::new(&root, b"");
        let (mut found, mut missing) = (0, 0);
        loop {
            match walk.step().unwrap() {
                Step::Entry(_) => found += 1,
                Step::End => break,
                // The last one that was asked for is the first to come, or not to.
                Step::Wait => {
                    let mut asked: Vec<_> = std::iter::from_fn(|| walk.wanted()).collect();
                    while let Some(chunk) = asked.pop() {
                        if chunk.reference.id == *lost {
                            missing += walk.give_up(chunk.index).unwrap().entries;
                        } else {
                            walk.give(chunk.index, sink.chunks[&chunk.reference.id].clone());
                        }
                    }
                }
            }
        }
        assert!(missing > 0);
        assert_eq!(found + missing, entries.len() as u64);
    }
}

#[test]
fn what_is_known_is_left_out_wherever_it_is() {
    let (mut sink, entries) = (Sink::default(), nested());
    let root = write(&entries, SMALL, &mut sink).unwrap().unwrap();
    for every in 2..7 {
        let known: BTreeSet<ChunkId> =
            sink.leaves.iter().step_by(every).map(|(leaf, _)| *leaf).collect();
        let mut walk = TreeWalk::new(&root, b"");
        let (mut found, mut asked) = (0, BTreeSet::new());
        loop {
            match walk.step().unwrap() {
                Step::Entry(_) => found += 1,
                Step::End => break,
                Step::Wait if walk.skip_known(|id| known.contains(id)) => {}
                Step::Wait => {
                    for chunk in std::iter::from_fn(|| walk.wanted()).collect::<Vec<_>>() {
                        let id = chunk.reference.id;
                        assert!(!known.contains(&id) && asked.insert(id));
                        walk.give(chunk.index, sink.chunks[&id].clone());
                    }
                }
            }
        }
        assert!(found > 0 && found < entries.len());
        assert_eq!(asked.len() + known.len(), sink.ids(Kind::Tree).len());
    }
}

#[test]
fn a_walk_passes_by_what_it_seeks_beyond() {
    let (mut sink, entries) = (Sink::default(), nested());
    let root = write(&entries, SMALL, &mut sink).unwrap().unwrap();
    let mut walk = TreeWalk::new(&root, b"");
    let mut found = Vec::new();
    let chunks = go_on(&mut walk, &sink, |walk, entry| {
        walk.seek(&[entry.path.as_slice(), &[1]].concat());
        found.push(String::from_utf8(entry.path).unwrap());
    });
    let folders: Vec<String> = (0..12).map(|outer| format!("{outer:02}")).collect();
    assert_eq!(found, folders);
    assert!(chunks < sink.ids(Kind::Tree).len(), "{chunks} chunks");
    // To seek what lies behind does nothing.
    let mut walk = TreeWalk::new(&root, b"05/03/02");
    let mut count = 0;
    go_on(&mut walk, &sink, |walk, _| {
        walk.seek(b"02");
        count += 1;
    });
    let from = entries.iter().position(|entry| entry.path == b"05/03/02").unwrap();
    assert_eq!(count, entries.len() - from);
}
