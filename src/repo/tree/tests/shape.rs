//! What a tree is made of: where it is cut, what a change changes, when packs close.

use super::*;

fn ids(entries: &[Entry], cuts: Cuts) -> (TreeRoot, Sink) {
    let mut sink = Sink::default();
    let root = write(entries, cuts, &mut sink).unwrap().unwrap();
    (root, sink)
}

#[test]
fn equal_trees_are_one_root() {
    let entries = many(3_000);
    let (first, sink) = ids(&entries, Cuts::default());
    let (second, _) = ids(&many(3_000), Cuts::default());
    assert_eq!(first.reference.id, second.reference.id);
    assert_eq!((first.level, first.entries), (1, 3_001));
    // What was read is the same tree when it is written again.
    let (found, _) = read(&first, b"", &sink).unwrap();
    assert_eq!(ids(&found, Cuts::default()).0.reference.id, first.reference.id);
}

#[test]
fn a_changed_file_changes_one_leaf_and_the_path_above() {
    let mut entries = many(3_000);
    let (root, before) = ids(&entries, SMALL);
    body(&mut entries[1_500]).inode.ctime_ns += 1;
    let (_, after) = ids(&entries, SMALL);
    let changed = after.ids(Kind::Tree).difference(&before.ids(Kind::Tree)).count();
    assert_eq!(changed, usize::from(root.level) + 1);
}

#[test]
fn an_added_name_changes_few_leaves() {
    let mut entries = many(3_000);
    let (_, before) = ids(&entries, SMALL);
    entries.insert(1_501, file("data/file 01499 and a half", 7));
    let (_, after) = ids(&entries, SMALL);
    let changed = after.ids(Kind::Tree).difference(&before.ids(Kind::Tree)).count();
    assert!(changed < 30, "{changed} of {}", after.sealed.len());
}

#[test]
fn leaf_cuts_do_not_move_with_metadata() {
    let cuts = |entries: &[Entry]| -> Vec<Vec<u8>> {
        let (_, sink) = ids(entries, Cuts::default());
        sink.leaves.into_iter().map(|(_, last)| last).collect()
    };
    let mut entries = many(6_000);
    let before = cuts(&entries);
    assert!(before.len() > 3, "{} leaves", before.len());
    for (number, entry) in entries.iter_mut().enumerate() {
        entry.mtime_ns = (number as i64).wrapping_mul(0x1234_5678_9abc_def1);
        entry.uid = number as u32 % 50;
        if number % 3 == 0 {
            entry.xattrs = vec![(b"user.note".to_vec(), vec![7; 20])];
        }
    }
    assert_eq!(cuts(&entries), before);
}

#[test]
fn leaves_end_where_they_would_grow_too_large() {
    let mut entries = many(400);
    for entry in &mut entries {
        entry.xattrs = vec![(b"user.big".to_vec(), vec![7; 60_000])];
    }
    let (root, sink) = ids(&entries, Cuts::default());
    let largest = sink.chunks.values().map(Bytes::len).max().unwrap();
    assert!((256 << 10..(256 << 10) + 61_000).contains(&largest), "{largest}");
    assert_eq!(read(&root, b"", &sink).unwrap().0.len(), 401);
    // A class for each: as many owners as entries.
    let mut entries = many(9_000);
    for (number, entry) in entries.iter_mut().enumerate() {
        entry.uid = number as u32;
    }
    let (root, sink) = ids(&entries, Cuts { leaf_bits: 64, ..Cuts::default() });
    assert_eq!(sink.leaves.len(), 3);
    assert_eq!(read(&root, b"", &sink).unwrap().0.len(), 9_001);
}

#[test]
fn an_entry_costs_some_thirty_bytes() {
    let entries = many(20_000);
    let (_, sink) = ids(&entries, Cuts::default());
    let bytes: usize = sink.chunks.values().map(Bytes::len).sum();
    assert!(bytes < 20_000 * 48, "{} an entry", bytes / 20_000);
}

#[test]
fn packs_close_before_the_leaf_that_names_them() {
    let (mut sink, hasher) = (Sink::default(), BlobHasher::new(&owner(1).dedup));
    let mut writer = TreeWriter::with_cuts(cutter(), Cuts { leaf_bits: 4, ..SMALL });
    let contents: Vec<Vec<u8>> =
        (0..100).map(|number| noise(1_000 + number as usize * 997, number / 2)).collect();
    for (number, content) in contents.iter().enumerate() {
        let mut new = file(&format!("{number:03}"), content.len() as u64);
        body(&mut new).content = Content::None;
        let blob = Blob { hash: hasher.hash(content), content };
        writer.add(&new, Some(&blob), &mut sink).unwrap();
    }
    let root = writer.finish(&mut sink).unwrap().unwrap();
    assert!(sink.leaves.len() > 3 && sink.packed.len() >= sink.leaves.len());
    // Whatever a leaf names was sealed before it.
    let mut sealed = BTreeSet::new();
    for (kind, id) in &sink.sealed {
        if *kind == Kind::Tree && sink.leaves.iter().any(|(leaf, _)| leaf == id) {
            let bytes = sink.chunks[id].clone();
            let mut leaf = decode::Leaf::decode(bytes).unwrap();
            let mut order = check::Order::default();
            while let Some(entry) = leaf.next(&mut order).unwrap() {
                let What::File(body) = &entry.what else { panic!("all are files") };
                assert!(sealed.contains(&body.content.reference().unwrap().id));
            }
        }
        sealed.insert(*id);
    }
    // And every file's bytes are where its entry says.
    let (found, _) = read(&root, b"", &sink).unwrap();
    for (entry, content) in found.iter().zip(&contents) {
        let What::File(FileBody { content: Content::Packed { pack, offset, hash }, .. }) =
            &entry.what
        else {
            panic!("all are packed")
        };
        let start = *offset as usize;
        assert_eq!(sink.chunks[&pack.id][start..start + content.len()], **content);
        assert_eq!(*hash, hasher.hash(content));
    }
}

#[test]
fn small_files_with_equal_content_are_packed_once() {
    let (mut sink, hasher) = (Sink::default(), BlobHasher::new(&owner(1).dedup));
    let mut writer = TreeWriter::new(cutter());
    let content = noise(5_000, 1);
    for number in 0..10 {
        let mut new = file(&format!("{number}"), 5_000);
        body(&mut new).content = Content::None;
        let blob = Blob { hash: hasher.hash(&content), content: &content };
        writer.add(&new, Some(&blob), &mut sink).unwrap();
    }
    writer.finish(&mut sink).unwrap();
    let [(pack, blobs)] = sink.packed.as_slice() else { panic!("one pack") };
    assert_eq!((blobs.len(), sink.chunks[pack].len()), (1, 5_000));
}
