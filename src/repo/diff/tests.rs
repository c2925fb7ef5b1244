//! Differences of trees over a map.

#![expect(clippy::single_range_in_vec_init, reason = "one range is what is meant")]

use super::*;
use crate::core::types::ChunkId;
use crate::repo::look::tests::run;
use crate::repo::reference::ChunkRef;
use crate::repo::tree::tests::{
    SMALL, Sink, any_tree, body, chunk, entry, file, folder, many, told, write,
};
use crate::repo::tree::{Extents, Inode};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// What two trees differ in, and how many chunks that took.
fn diff(before: &[Entry], after: &[Entry]) -> (Vec<Difference>, Totals, usize) {
    let mut sink = Sink::default();
    let left = write(before, SMALL, &mut sink).unwrap();
    let right = write(after, SMALL, &mut sink).unwrap();
    let mut diff = Diff::new(left.as_ref(), right.as_ref());
    let (found, asked) = run(&mut diff, &sink.chunks).unwrap();
    let once: BTreeSet<&ChunkId> = asked.iter().collect();
    assert!(asked.len() <= 2 * once.len());
    (found, diff.totals(), asked.len())
}

fn shown(found: &[Difference]) -> Vec<(Change, String)> {
    let text = |path: &[u8]| String::from_utf8(path.to_vec()).unwrap();
    found.iter().map(|one| (one.change, text(one.path()))).collect()
}

/// How two entries of the same name differ.
fn between(before: Entry, after: Entry) -> Option<Change> {
    let (found, ..) = diff(&[before], &[after]);
    found.first().map(|one| one.change)
}

#[test]
fn each_kind_of_change_is_told() {
    let changed = |change: fn(&mut Entry)| {
        let mut after = file("a", 100);
        change(&mut after);
        between(file("a", 100), after)
    };
    assert_eq!(changed(|_| {}), None);
    assert_eq!(changed(|entry| entry.mode = 0o600), Some(Change::Metadata));
    assert_eq!(changed(|entry| entry.uid += 1), Some(Change::Metadata));
    assert_eq!(changed(|entry| entry.gid += 1), Some(Change::Metadata));
    assert_eq!(changed(|entry| entry.mtime_ns += 1), Some(Change::Metadata));
    let xattr = |entry: &mut Entry| entry.xattrs = vec![(b"user.a".to_vec(), vec![1])];
    assert_eq!(changed(xattr), Some(Change::Metadata));
    // The inode says nothing about the file.
    let inode = |entry: &mut Entry| body(entry).inode = Inode { ctime_ns: 1, number: 2 };
    assert_eq!(changed(inode), None);
    assert_eq!(changed(|entry| entry.what = What::Fifo), Some(Change::Type));
    assert_eq!(changed(|entry| *entry = file("a", 101)), Some(Change::Content));
    assert_eq!(changed(|entry| *entry = file("a", 300 << 10)), Some(Change::Content));
    let unread = |entry: &mut Entry| {
        entry.unreadable = true;
        body(entry).content = Content::None;
    };
    assert_eq!(changed(unread), Some(Change::Content));
    // In another pack, and the same: in the same pack, and another.
    let content = |pack: &[u8], hash: u8| {
        let pack = ChunkRef { bytes: 1 << 20, ..chunk(pack) };
        Content::Packed { pack, offset: 77, hash: [hash; 16] }
    };
    let mut after = file("a", 100);
    body(&mut after).content = content(b"another pack", 9);
    assert_eq!(between(file("a", 100), after), None);
    let mut after = file("a", 100);
    body(&mut after).content = content(b"a pack", 8);
    assert_eq!(between(file("a", 100), after), Some(Change::Content));
}

#[test]
fn what_is_no_file_changes_by_where_it_leads() {
    let link = |to: &str| entry("b", What::Symlink(to.into()));
    assert_eq!(between(link("x"), link("x")), None);
    assert_eq!(between(link("x"), link("y")), Some(Change::Content));
    let device = |block, number| entry("b", What::Device { block, number });
    assert_eq!(between(device(true, 5), device(true, 5)), None);
    assert_eq!(between(device(true, 5), device(true, 6)), Some(Change::Content));
    assert_eq!(between(device(true, 5), device(false, 5)), Some(Change::Type));
    assert_eq!(between(folder("b"), folder("b")), None);
    assert_eq!(between(folder("b"), entry("b", What::Socket)), Some(Change::Type));
    // A hole where there were zeros is something else to restore.
    let sparse = |ranges: Vec<std::ops::Range<u64>>, length: u64| {
        let mut made = file("b", 1_000);
        let content = Content::Piece(ChunkRef { bytes: length, ..chunk(b"piece") });
        (body(&mut made).extents, body(&mut made).content) = (Some(Extents(ranges)), content);
        made
    };
    let holes = || sparse(vec![0..400], 400);
    assert_eq!(between(holes(), holes()), None);
    let moved = sparse(vec![500..900], 400);
    assert_eq!(between(holes(), moved), Some(Change::Content));
}

#[test]
fn differences_come_in_order_and_are_added_up() {
    let before = [folder("a"), file("a/gone", 10), file("a/same", 20), file("b", 30), file("c", 5)];
    let mut other = file("c", 5);
    other.mode = 0o600;
    let after =
        [folder("a"), file("a/new", 7), file("a/same", 20), folder("b"), file("b/in", 1), other];
    let (found, totals, _) = diff(&before, &after);
    let expected = [
        (Change::Removed, "a/gone"),
        (Change::Added, "a/new"),
        (Change::Type, "b"),
        (Change::Added, "b/in"),
        (Change::Metadata, "c"),
    ];
    assert_eq!(shown(&found), expected.map(|(change, path)| (change, path.to_owned())));
    let files = |files, bytes| Tally { files, bytes, ..Tally::default() };
    assert_eq!((totals.added, totals.removed), (files(2, 8), files(1, 10)));
    assert_eq!(totals.before, files(1, 30));
    assert_eq!(totals.after, Tally { folders: 1, ..Tally::default() });
    assert_eq!((totals.metadata, totals.types), (1, 1));
}

#[test]
fn a_snapshot_of_nothing_has_less_than_any() {
    let entries = many(50);
    let (found, totals, _) = diff(&[], &entries);
    assert_eq!((found.len(), totals.added.files, totals.added.folders), (51, 50, 1));
    let (found, totals, _) = diff(&entries, &[]);
    assert_eq!((found.len(), totals.removed.files), (51, 50));
    assert!(diff(&[], &[]).0.is_empty());
}

#[test]
fn diff_skips_equal_subtrees() {
    let (_, _, none) = diff(&many(3_000), &many(3_000));
    assert_eq!(none, 0);
    let mut after = many(3_000);
    let all = {
        let mut sink = Sink::default();
        write(&after, SMALL, &mut sink).unwrap();
        sink.chunks.len()
    };
    body(&mut after[1_500]).bytes += 1;
    let (found, _, chunks) = diff(&many(3_000), &after);
    assert_eq!(shown(&found), [(Change::Content, "data/file 01499".to_owned())]);
    // One way down each tree, and nothing beside it.
    assert!(chunks <= 20 && all > 500, "{chunks} of {all}");
    after[10].mode = 0o600;
    after[2_900].mode = 0o600;
    let (found, _, chunks) = diff(&many(3_000), &after);
    assert!(found.len() == 3 && chunks <= 50, "{chunks} of {all}");
    // One name more moves what follows it in its leaf, and no more.
    after.insert(2_000, file("data/file 01998 and a half", 7));
    let (found, _, chunks) = diff(&many(3_000), &after);
    assert!(found.len() == 4 && chunks <= 90, "{chunks} of {all}");
}

#[test]
fn a_lost_part_ends_it_and_says_where() {
    let mut sink = Sink::default();
    let mut entries = many(300);
    let left = write(&entries, SMALL, &mut sink).unwrap();
    entries[200].mode = 0o600;
    let before: BTreeSet<ChunkId> = sink.chunks.keys().copied().collect();
    let right = write(&entries, SMALL, &mut sink).unwrap();
    let only = |left: bool| -> BTreeMap<_, _> {
        let of = |id: &ChunkId| before.contains(id) == left;
        sink.chunks.iter().filter(|(id, _)| of(id)).map(|(id, b)| (*id, b.clone())).collect()
    };
    let mut diff = Diff::new(left.as_ref(), right.as_ref());
    let fault = run(&mut diff, &only(true)).unwrap_err();
    assert!(matches!(fault, LookFault::Lost { first, .. } if first.is_empty()));
    // Lacks the leaf that differs.
    let mut chunks = sink.chunks.clone();
    let new: Vec<ChunkId> = only(false).into_keys().collect();
    let leaf = new.iter().find(|id| chunks[*id][1] == 0).unwrap();
    chunks.remove(leaf);
    let mut diff = Diff::new(left.as_ref(), right.as_ref());
    let LookFault::Lost { first, .. } = run(&mut diff, &chunks).unwrap_err() else {
        panic!("it is lost")
    };
    assert!(first.starts_with(b"data/file "), "{first:?}");
}

/// All differences, from entries that lie side by side.
fn expected(before: &[Entry], after: &[Entry]) -> Vec<String> {
    let of = |entries: &[Entry]| -> BTreeMap<Vec<Vec<u8>>, Entry> {
        let names = |path: &[u8]| path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
        entries.iter().map(|entry| (names(&entry.path), entry.duplicate())).collect()
    };
    let (left, right) = (of(before), of(after));
    let paths: BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let told = |path: &Vec<Vec<u8>>| match (left.get(path), right.get(path)) {
        (Some(left), Some(right)) => {
            Some(format!("{:?} {} {}", change(left, right)?, told(left), told(right)))
        }
        (Some(left), None) => Some(format!("{:?} {}", Change::Removed, told(left))),
        (None, Some(right)) => Some(format!("{:?} {}", Change::Added, told(right))),
        (None, None) => None,
    };
    paths.into_iter().filter_map(told).collect()
}

proptest! {
    #[test]
    fn differences_are_those_of_the_entries(
        before in any_tree(),
        mut after in any_tree(),
        common in any::<bool>(),
        changes in proptest::collection::vec((any::<usize>(), any::<u32>()), 0..4),
    ) {
        if common {
            after = before.iter().map(Entry::duplicate).collect();
        }
        for (at, mode) in changes {
            let at = at % after.len();
            after[at].mode = mode & 0o777;
        }
        let (found, totals, _) = diff(&before, &after);
        let shown: Vec<String> = found
            .iter()
            .map(|one| {
                let parts = [one.before.as_ref(), one.after.as_ref()].into_iter().flatten();
                let parts: Vec<String> = parts.map(told).collect();
                format!("{:?} {}", one.change, parts.join(" "))
            })
            .collect();
        prop_assert_eq!(shown, expected(&before, &after));
        let count = |tally: Tally| tally.files + tally.folders + tally.others;
        let counted = count(totals.added) + count(totals.removed) + count(totals.after);
        prop_assert_eq!(counted + totals.metadata, found.len() as u64);
    }
}
