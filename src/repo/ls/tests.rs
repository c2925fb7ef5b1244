//! Listings over a map, and lines.

use super::*;
use crate::repo::look::tests::run;
use crate::repo::tree::tests::{SMALL, Sink, body, entry, file, folder, many, write};
use crate::repo::tree::{Content, Extents};

fn tree() -> Vec<Entry> {
    let mut entries = vec![folder("a")];
    for number in 0..40 {
        entries.push(folder(&format!("a/{number:02}")));
        entries.extend((0..40).map(|file_| file(&format!("a/{number:02}/{file_:02}"), 1)));
    }
    entries.extend([file("a/last", 2), file("a-", 3), folder("b"), file("c", 4)]);
    entries
}

fn ls(at: &str, depth: Depth) -> Result<(Vec<String>, usize), LookFault> {
    let mut sink = Sink::default();
    let root = write(&tree(), SMALL, &mut sink).unwrap();
    let mut ls = Ls::new(root.as_ref(), at.as_bytes(), depth);
    let (found, asked) = run(&mut ls, &sink.chunks)?;
    assert!(ls.gaps().is_empty());
    let path = |entry: Entry| String::from_utf8(entry.path).unwrap();
    Ok((found.into_iter().map(path).collect(), asked.len()))
}

#[test]
fn a_folder_is_listed_without_what_lies_in_its_folders() {
    assert_eq!(ls("", Depth::One).unwrap().0, ["a", "a-", "b", "c"]);
    let (names, chunks) = ls("a", Depth::One).unwrap();
    let expected: Vec<String> = (0..40).map(|number| format!("a/{number:02}")).collect();
    assert_eq!(names, [expected, vec!["a/last".to_owned()]].concat());
    let (all, every) = ls("", Depth::All).unwrap();
    assert!(all.len() == tree().len() && chunks < every / 2, "{chunks} of {every}");
    assert_eq!(ls("a/07", Depth::One).unwrap().0.len(), 40);
    assert!(ls("b", Depth::One).unwrap().0.is_empty());
}

#[test]
fn a_folder_is_listed_with_all_that_lies_in_it() {
    let (names, _) = ls("a", Depth::All).unwrap();
    assert_eq!(names.len(), 40 * 41 + 1);
    assert!(names.iter().all(|name| name.starts_with("a/")));
    assert!(ls("b", Depth::All).unwrap().0.is_empty());
}

#[test]
fn of_a_file_the_file_is_listed() {
    for depth in [Depth::One, Depth::All] {
        assert_eq!(ls("a/07/03", depth).unwrap().0, ["a/07/03"]);
        assert_eq!(ls("c", depth).unwrap().0, ["c"]);
    }
}

#[test]
fn a_path_that_is_not_there_is_said() {
    for at in ["a/0", "a/07/nothing", "aa", "z", "0", "c/x"] {
        assert_eq!(ls(at, Depth::One).unwrap_err(), LookFault::NoSuchPath, "{at}");
    }
    let mut none = Ls::new(None, b"a", Depth::One);
    assert_eq!(run(&mut none, &Default::default()).unwrap_err(), LookFault::NoSuchPath);
    let mut none = Ls::new(None, b"", Depth::One);
    assert!(run(&mut none, &Default::default()).unwrap().0.is_empty());
}

#[test]
fn what_cannot_be_read_is_a_gap_of_the_listing() {
    let mut sink = Sink::default();
    let root = write(&many(300), SMALL, &mut sink).unwrap().unwrap();
    let leaf = *sink.chunks.iter().find(|(_, bytes)| bytes[1] == 0).unwrap().0;
    sink.chunks.remove(&leaf);
    for depth in [Depth::One, Depth::All] {
        let mut ls = Ls::new(Some(&root), b"data", depth);
        let (found, _) = run(&mut ls, &sink.chunks).unwrap();
        let [gap] = ls.gaps().listed.as_slice() else { panic!("one leaf") };
        let own = u64::from(gap.first != b"data");
        assert_eq!(found.len() as u64 + gap.entries + own, 301);
    }
}

#[test]
fn what_lies_in_a_lost_folder_is_not_taken_for_its_neighbour() {
    let mut sink = Sink::default();
    let root = write(&tree(), SMALL, &mut sink).unwrap().unwrap();
    let names = ls("a", Depth::One).unwrap().0;
    let leaves = sink.chunks.iter().filter(|(_, bytes)| bytes[1] == 0).map(|(id, _)| *id);
    for leaf in leaves.collect::<Vec<_>>() {
        let mut chunks = sink.chunks.clone();
        chunks.remove(&leaf);
        let mut ls = Ls::new(Some(&root), b"a", Depth::One);
        let (found, _) = run(&mut ls, &chunks).unwrap();
        let known = |entry: &Entry| names.iter().any(|name| name.as_bytes() == entry.path);
        assert!(found.iter().all(known));
        assert!(found.len() == names.len() || !ls.gaps().is_empty());
    }
}

fn line(entry: &Entry) -> String {
    Line { entry, name: &entry.path, utc_offset_min: 60 }.to_string()
}

#[test]
fn lines_look_like_those_of_ls() {
    let time = "2023-11-14 23:13:20";
    let shown = |entry: &Entry| {
        assert_eq!((entry.uid, entry.mtime_ns / 1_000_000_000), (1000, 1_700_000_000));
        line(entry).replace(time, "TIME")
    };
    assert_eq!(shown(&file("a", 7)), "-rw-r--r--   1000  1000            7 TIME a");
    assert_eq!(shown(&folder("b")), "drwxr-xr-x   1000  1000            - TIME b");
    let link = entry("l", What::Symlink(b"../\x1b[2J".to_vec()));
    assert_eq!(shown(&link), "lrw-r--r--   1000  1000            7 TIME l -> ../\\x1b[2J");
    let hard = entry("z", What::HardLink(b"a/\n".to_vec()));
    assert_eq!(shown(&hard), "-rw-r--r--   1000  1000            - TIME z = /a/\\n");
    // 8:17 is 0x811, and minor numbers above 255 lie apart.
    let disk = entry("sdb1", What::Device { block: true, number: 0x811 });
    assert_eq!(shown(&disk), "brw-r--r--   1000  1000        8, 17 TIME sdb1");
    // makedev(0x12345def, 0x6789abf0)
    let high = entry("x", What::Device { block: false, number: 0x1234_5678_9abd_eff0 });
    let (major, minor) = (0x1234_5def_u32, 0x6789_abf0_u32);
    assert!(shown(&high).contains(&format!(" {major}, {minor} TIME x")), "{}", shown(&high));
    assert!(shown(&entry("p", What::Fifo)).starts_with("prw"));
    assert!(shown(&entry("s", What::Socket)).starts_with("srw"));
    let mut unread = file("u", 7);
    unread.unreadable = true;
    body(&mut unread).content = Content::None;
    assert!(shown(&unread).ends_with(" u (could not be read)"));
    let mut sparse = file("sparse", 0);
    (body(&mut sparse).bytes, body(&mut sparse).extents) = (1 << 40, Some(Extents::default()));
    assert!(shown(&sparse).contains(" 1099511627776 TIME"));
}

#[test]
fn modes_look_like_those_of_ls() {
    let shown = |mode| {
        let mut entry = file("a", 1);
        entry.mode = mode;
        line(&entry)[..11].to_owned()
    };
    assert_eq!(shown(0o7777), "-rwsrwsrwt ");
    assert_eq!(shown(0o7000), "---S--S--T ");
    assert_eq!(shown(0o4755), "-rwsr-xr-x ");
    assert_eq!(shown(0o421), "-r---w---x ");
    let mut entry = file("a", 1);
    entry.xattrs = vec![(b"user.a".to_vec(), Vec::new())];
    assert!(line(&entry).starts_with("-rw-r--r--+ "));
    // Of a folder that was only named nothing is known, and nothing is made up.
    let mut implied = folder("home");
    implied.implied = true;
    let expected = "d?????????      ?     ?            -                   ? home";
    assert_eq!(line(&implied), expected);
}

#[test]
fn names_of_a_listing_are_inert_on_a_terminal() {
    for name in ["a\u{1b}]0;x\u{7}", "a\u{202e}b", "a\nb", "a\u{9b}b"] {
        let entry = file(name, 1);
        let shown = line(&entry);
        assert!(!shown.chars().any(|c| c.is_control() || c == '\u{202e}'), "{shown}");
    }
}
