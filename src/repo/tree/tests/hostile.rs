//! Trees that nobody should have written: refused by the writer, and by the reader whatever wrote
//! them.

use super::check::check;
use super::*;

fn refused(entries: &[Entry]) -> TreeFault {
    write(entries, Cuts::default(), &mut Sink::default()).unwrap_err()
}

/// A leaf of these entries without any check.
fn unchecked(entries: &[Entry]) -> Bytes {
    let mut leaf = encode::OpenLeaf::default();
    entries.iter().for_each(|entry| leaf.add(entry, None));
    Bytes::copy_from_slice(&leaf.close().plaintext)
}

fn root_of(plaintext: Bytes, level: u8, entries: u64, bytes: u64) -> (TreeRoot, Sink) {
    let reference = ChunkRef { bytes, ..chunk(&plaintext) };
    let mut sink = Sink::default();
    sink.chunks.insert(reference.id, plaintext);
    (TreeRoot { level, entries, reference }, sink)
}

/// What a reader says of a leaf of these entries that nobody checked.
fn read_refused(entries: &[Entry]) -> TreeFault {
    let bytes = entries.iter().map(Entry::bytes).fold(0, u64::wrapping_add);
    let (root, sink) = root_of(unchecked(entries), 0, entries.len() as u64, bytes);
    read(&root, b"", &sink).unwrap_err()
}

#[test]
fn entries_out_of_order_are_refused() {
    for (paths, fault) in [
        (vec!["b", "a"], TreeFault::Order),
        (vec!["a", "a"], TreeFault::Order),
        (vec!["a", "a/b"], TreeFault::Parent),
        (vec!["b/c"], TreeFault::Parent),
        (vec!["a", "b/c"], TreeFault::Parent),
    ] {
        let entries: Vec<Entry> = paths.iter().map(|path| file(path, 0)).collect();
        assert_eq!((refused(&entries), read_refused(&entries)), (fault, fault), "{paths:?}");
    }
    for paths in [["a", "a/b", "a/b/c", "a", "a/d"], ["a", "a/b", "a/b/c", "a/b", "c"]] {
        let entries: Vec<Entry> = paths.iter().map(|path| folder(path)).collect();
        assert_eq!(refused(&entries), TreeFault::Order);
        assert_eq!(read_refused(&entries), TreeFault::Order);
    }
    // A file in a folder's place, and something in it.
    let entries = [folder("a"), file("a/b", 0), file("a/b/c", 0)];
    assert_eq!(refused(&entries), TreeFault::Parent);
    assert_eq!(read_refused(&entries), TreeFault::Parent);
}

#[test]
fn paths_that_climb_are_refused() {
    for path in ["..", "../a", "/a", "a/../../b", "a//b", "a/", ".", "", "a\0"] {
        let entries = [folder("a"), file(path, 0)];
        let (left, right) = (refused(&entries), read_refused(&entries));
        assert!(matches!(left, TreeFault::Path(_)), "{path:?}: {left:?}");
        assert!(matches!(right, TreeFault::Path(_)), "{path:?}: {right:?}");
    }
}

#[test]
fn what_an_entry_cannot_say_is_refused() {
    type Change = fn(&mut Entry);
    let changes: [(&str, TreeFault, Change); 22] = [
        ("mode above 07777", TreeFault::Entry, |e| e.mode = 0o10_000),
        ("an implied file", TreeFault::Entry, |e| e.implied = true),
        ("unreadable, and with content", TreeFault::Data, |e| e.unreadable = true),
        ("no content", TreeFault::Data, |e| body(e).content = Content::None),
        ("longer than its pack", TreeFault::Data, |e| body(e).bytes = (1 << 20) - 4),
        ("a large file in a pack", TreeFault::Data, |e| body(e).bytes = PACKED_BYTES_MAX),
        ("beyond all offsets", TreeFault::Data, |e| body(e).bytes = 1 << 63),
        ("a piece of another length", TreeFault::Data, |e| {
            body(e).content = Content::Piece(ChunkRef { bytes: 99, ..chunk(b"") });
        }),
        ("a listing of another length", TreeFault::Data, |e| {
            body(e).content = Content::Listing(ChunkRef { bytes: 101, ..chunk(b"") });
        }),
        ("overlapping extents", TreeFault::Data, |e| extents(e, &[(0, 50), (40, 60)])),
        ("extents side by side", TreeFault::Data, |e| extents(e, &[(0, 50), (50, 60)])),
        ("an extent of nothing", TreeFault::Data, |e| extents(e, &[(0, 50), (60, 60)])),
        ("an extent behind the end", TreeFault::Data, |e| extents(e, &[(50, 150)])),
        ("no hole", TreeFault::Data, |e| extents(e, &[(0, 100)])),
        ("a link to nothing", TreeFault::Link, |e| e.what = What::Symlink(vec![])),
        ("a link of 4,096", TreeFault::Link, |e| e.what = What::Symlink(vec![b'a'; 4_096])),
        ("a link with a NUL", TreeFault::Link, |e| e.what = What::Symlink(b"a\0".to_vec())),
        ("a hard link to itself", TreeFault::Link, |e| e.what = What::HardLink(b"f".to_vec())),
        ("a hard link ahead", TreeFault::Link, |e| e.what = What::HardLink(b"g".to_vec())),
        ("a hard link out", TreeFault::Link, |e| e.what = What::HardLink(b"../a".to_vec())),
        ("attributes twice", TreeFault::Xattrs, |e| {
            e.xattrs = vec![(b"user.a".to_vec(), vec![]), (b"user.a".to_vec(), vec![])];
        }),
        ("attributes of 256 KiB", TreeFault::Xattrs, |e| {
            let long = |name| (vec![name], vec![0; 65_536]);
            e.xattrs = (b'a'..=b'd').map(long).collect();
        }),
    ];
    for (name, fault, change) in changes {
        let mut bad = file("f", 100);
        change(&mut bad);
        assert_eq!(check(&bad, None), Err(fault), "{name}");
        let entries = [bad];
        assert_eq!(read_refused(&entries), fault, "{name}");
    }
    assert_eq!(check(&file("f", 100), None), Ok(()));
}

fn extents(entry: &mut Entry, ranges: &[(u64, u64)]) {
    let ranges = ranges.iter().map(|(start, end)| *start..*end).collect();
    body(entry).extents = Some(Extents(ranges));
    let bytes = body(entry).data_bytes();
    body(entry).content = Content::Piece(ChunkRef { bytes, ..chunk(b"") });
}

#[test]
fn each_bad_field_of_a_leaf_has_its_fault() {
    let entries = [folder("a"), file("a/b", 100), file("a/c", 200)];
    let good = unchecked(&entries);
    let fault = |bytes: Vec<u8>| {
        let (root, sink) = root_of(bytes.into(), 0, 3, 300);
        read(&root, b"", &sink).map(|_| ())
    };
    assert_eq!(fault(good.to_vec()), Ok(()));
    let with = |at: usize, value: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = value;
        fault(bytes)
    };
    assert_eq!(with(0, 2), Err(TreeFault::Version(2)));
    assert_eq!(with(1, 1), Err(TreeFault::Level(1)));
    assert_eq!(with(2, 1), Err(TreeFault::Scheme(1)));
    assert_eq!(with(3, 1), Err(TreeFault::Reserved));
    assert_eq!(with(4, 0), Err(TreeFault::Count(0)));
    assert_eq!(with(6, 1), Err(TreeFault::Count(65_539)));
    assert_eq!(with(9, 0x80), Err(TreeFault::Count(0x8001)));
    assert_eq!(with(13, 0x20), Err(TreeFault::Count(0x2002)));
    assert_eq!(with(14, 1), Err(TreeFault::Reserved));
    assert_eq!(fault(vec![]), Err(TreeFault::Length(0)));
    assert_eq!(fault(good[..15].to_vec()), Err(TreeFault::Length(15)));
    assert!(fault(good[..good.len() - 1].to_vec()).is_err());
    assert_eq!(fault([good.as_ref(), &[0]].concat()), Err(TreeFault::Length(1)));
    // One entry less than there are.
    assert!(matches!(with(4, 2), Err(TreeFault::Length(_))));
    // A reference more than are named.
    let mut more = good.to_vec();
    more[8] += 1;
    more.splice(16..16, [0; 74]);
    assert!(fault(more).is_err());
}

#[test]
fn a_tree_that_is_not_what_is_said_of_it_is_refused() {
    let entries = many(200);
    let mut sink = Sink::default();
    let good = write(&entries, SMALL, &mut sink).unwrap().unwrap();
    let root = |level, entries, bytes| TreeRoot {
        level,
        entries,
        reference: ChunkRef { bytes, ..good.reference.duplicate() },
    };
    let (level, count, bytes) = (good.level, good.entries, good.reference.bytes);
    let fault = |root: TreeRoot| read(&root, b"", &sink).map(|_| ());
    assert_eq!(fault(root(level, count, bytes)), Ok(()));
    assert_eq!(fault(root(level - 1, count, bytes)), Err(TreeFault::Level(level)));
    assert_eq!(fault(root(level + 1, count, bytes)), Err(TreeFault::Level(level)));
    assert_eq!(fault(root(level, count + 1, bytes)), Err(TreeFault::Child));
    assert_eq!(fault(root(level, count, bytes + 1)), Err(TreeFault::Child));
    assert_eq!(fault(root(level, 10_000_001, bytes)), Err(TreeFault::TooLarge));
    // Two leaves change places: each is good, and neither is the one that was named.
    let [_, (left, _), (right, _), ..] = sink.leaves.as_slice() else { panic!("more than two") };
    let mut swapped = Sink { chunks: sink.chunks.clone(), ..Sink::default() };
    swapped.chunks.insert(*left, sink.chunks[right].clone());
    assert_eq!(read(&good, b"", &swapped).unwrap_err(), TreeFault::Child);
}

#[test]
fn a_node_that_names_one_leaf_many_times_is_refused() {
    // A few chunks that stand for millions of entries: first paths must ascend and be true.
    let leaf = unchecked(&[file("a", 1)]);
    let reference = |bytes| ChunkRef { bytes, ..chunk(&leaf) };
    let mut node = node::OpenNode::default();
    for path in ["a", "b"] {
        let child = node::Child { reference: reference(1), entries: 1, first: path.into() };
        node.add(child);
    }
    let plaintext = node.close(1).unwrap().plaintext;
    let (root, mut sink) = root_of(Bytes::copy_from_slice(&plaintext), 1, 2, 2);
    sink.chunks.insert(chunk(&leaf).id, leaf.clone());
    assert_eq!(read(&root, b"", &sink).unwrap_err(), TreeFault::Order);
    let mut node = node::OpenNode::default();
    for _ in 0..2 {
        let child = node::Child { reference: reference(1), entries: 1, first: b"a".to_vec() };
        node.add(child);
    }
    let plaintext = node.close(1).unwrap().plaintext;
    let (root, sink) = root_of(Bytes::copy_from_slice(&plaintext), 1, 2, 2);
    assert_eq!(read(&root, b"", &sink).unwrap_err(), TreeFault::Order);
}

proptest! {
    #[test]
    fn any_bytes_decode_or_fail_cleanly(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        level in 0..6_u8,
        count in 0..4_u8,
    ) {
        let _ = root_of(bytes.clone().into(), level, 1, 1);
        let front = [1, level, 0, 0, count, 0, 0, 0, count.min(2), 0, 0, 0, 1, 0, 0, 0];
        for plaintext in [bytes.clone(), [front.as_slice(), &bytes].concat()] {
            let (root, sink) = root_of(plaintext.into(), level, count.into(), 1);
            let mut walk = TreeWalk::new(&root, b"");
            if let Some(wanted) = walk.wanted() {
                walk.give(wanted.index, sink.chunks[&wanted.reference.id].clone());
            }
            while let Ok(Step::Entry(_)) = walk.step() {}
        }
    }

    #[test]
    fn a_changed_byte_is_a_fault_or_another_legal_entry(
        entries in any_tree(),
        at in any::<usize>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = unchecked(&entries).to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        let total = entries.iter().map(Entry::bytes).sum();
        let (root, sink) = root_of(bytes.clone().into(), 0, entries.len() as u64, total);
        if let Ok((found, _)) = read(&root, b"", &sink) {
            // What is read has one form: written again it is these very bytes.
            let again = unchecked(&found);
            prop_assert_eq!(again, bytes);
        }
    }
}
