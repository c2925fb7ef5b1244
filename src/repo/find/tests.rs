//! Finding over a map.

use super::*;
use crate::repo::look::tests::run;
use crate::repo::tree::tests::{SMALL, Sink, body, entry, file, folder, many, write};

fn tree() -> Vec<Entry> {
    let mut old = file("home/a.txt", 10);
    old.mtime_ns = 5;
    let mut implied = folder("home");
    implied.implied = true;
    let mut sparse = file("home/sub/b.txt", 0);
    body(&mut sparse).bytes = 1 << 40;
    body(&mut sparse).extents = Some(crate::repo::tree::Extents::default());
    vec![
        implied,
        old,
        entry("home/link", What::Symlink(b"a.txt".to_vec())),
        entry("home/other", What::HardLink(b"home/a.txt".to_vec())),
        entry("home/pipe", What::Fifo),
        folder("home/sub"),
        sparse,
        entry("home/sub/tty", What::Device { block: false, number: 5 }),
        file("root.txt", 300 << 10),
    ]
}

fn find_in(entries: &[Entry], below: &str, query: Query) -> Vec<String> {
    let mut sink = Sink::default();
    let root = write(entries, SMALL, &mut sink).unwrap();
    let mut find = Find::new(root.as_ref(), below.as_bytes(), query);
    let (found, _) = run(&mut find, &sink.chunks).unwrap();
    assert!(find.gaps().is_empty());
    found.into_iter().map(|entry| String::from_utf8(entry.path).unwrap()).collect()
}

fn find(query: Query) -> Vec<String> {
    find_in(&tree(), "", query)
}

fn patterns(patterns: &[&str]) -> Query {
    let parse = |pattern: &&str| Pattern::parse(pattern.as_bytes()).unwrap().unwrap();
    Query { patterns: patterns.iter().map(parse).collect(), ..Query::default() }
}

#[test]
fn names_are_found_by_patterns() {
    assert_eq!(find(Query::default()).len(), tree().len());
    assert_eq!(find(patterns(&["*.txt"])), ["home/a.txt", "home/sub/b.txt", "root.txt"]);
    assert_eq!(find(patterns(&["/*.txt"])), ["root.txt"]);
    assert_eq!(find(patterns(&["/home/**/*.txt"])), ["home/a.txt", "home/sub/b.txt"]);
    assert_eq!(find(patterns(&["sub/"])), ["home/sub"]);
    assert_eq!(find(patterns(&["pipe", "link"])), ["home/link", "home/pipe"]);
    // The last one that speaks of it decides.
    assert_eq!(find(patterns(&["*.txt", "!b.txt"])), ["home/a.txt", "root.txt"]);
    assert_eq!(find(patterns(&["!b.txt", "*.txt"])).len(), 3);
    assert_eq!(find(patterns(&["!home", "!*.txt"])).len(), 5);
}

#[test]
fn entries_are_found_by_type_size_and_time() {
    let types = |types: &[FileType]| find(Query { types: types.to_vec(), ..Query::default() });
    assert_eq!(types(&[FileType::Folder]), ["home", "home/sub"]);
    assert_eq!(types(&[FileType::Fifo, FileType::Symlink]), ["home/link", "home/pipe"]);
    assert_eq!(types(&[FileType::CharacterDevice]), ["home/sub/tty"]);
    assert!(types(&[FileType::BlockDevice, FileType::Socket]).is_empty());
    // A file by any of its names.
    let files = ["home/a.txt", "home/other", "home/sub/b.txt", "root.txt"];
    assert_eq!(types(&[FileType::Regular]), files);
    let bytes = |range| find(Query { bytes: Some(range), ..Query::default() });
    assert_eq!(bytes(0..=10), ["home/a.txt"]);
    assert_eq!(bytes(11..=u64::MAX), ["home/sub/b.txt", "root.txt"]);
    let times = |range| find(Query { mtime_ns: Some(range), ..Query::default() });
    assert_eq!(times(i64::MIN..=5), ["home/a.txt"]);
    assert!(times(i64::MIN..=4).is_empty());
    // Of a folder that was only named no time is known.
    assert_eq!(times(i64::MIN..=i64::MAX).len(), tree().len() - 1);
    let both = Query { bytes: Some(0..=u64::MAX), ..patterns(&["home/*"]) };
    assert_eq!(find(both), ["home/a.txt"]);
}

#[test]
fn only_what_lies_in_a_folder_is_looked_at() {
    let of = |below| find_in(&tree(), below, patterns(&["*.txt"]));
    assert_eq!(of("home/sub"), ["home/sub/b.txt"]);
    assert_eq!(of("home/a.txt"), ["home/a.txt"]);
    assert!(of("hom").is_empty() && of("nowhere").is_empty());
    let mut none = Find::new(None, b"", Query::default());
    assert!(run(&mut none, &Default::default()).unwrap().0.is_empty());
}

#[test]
fn what_cannot_be_read_is_said_beside_what_is_found() {
    let mut sink = Sink::default();
    let root = write(&many(300), SMALL, &mut sink).unwrap().unwrap();
    let leaf = *sink.chunks.iter().find(|(_, bytes)| bytes[1] == 0).unwrap().0;
    sink.chunks.remove(&leaf);
    let mut find = Find::new(Some(&root), b"", Query::default());
    let (found, _) = run(&mut find, &sink.chunks).unwrap();
    let [gap] = find.gaps().listed.as_slice() else { panic!("one leaf") };
    assert_eq!(found.len() as u64 + gap.entries, 301);
}
