//! Hostile trees.

use super::*;
use crate::repo::frame::Kind;
use crate::repo::get::ChunkSource;
use crate::repo::sealer::Sealer;
use crate::repo::varint;

/// Entries that no decoder has seen.
struct Forged {
    entries: Vec<Entry>,
    at: usize,
}

impl Entries for Forged {
    fn restart<S: ChunkSource>(&mut self, _: &mut Fetcher<'_, S>) {
        self.at = 0;
    }

    fn found(&self) -> bool {
        true
    }

    fn next<S: ChunkSource>(
        &mut self,
        _: &mut Fetcher<'_, S>,
        _: &mut RestoreReport,
    ) -> Result<Option<Entry>, RestoreError> {
        let next = self.entries.get(self.at).map(Entry::duplicate);
        self.at += 1;
        Ok(next)
    }
}

/// Restores entries as they are.
pub(super) fn forged(
    entries: Vec<Entry>,
    mesh: &mut Mesh,
    target: &Target,
    trust: Trust,
) -> Result<RestoreReport, RestoreError> {
    let options = RestoreOptions { trust, fifos: true, ..RestoreOptions::default() };
    let mut progress = |_| {};
    let (cancel, progress) = (&NEVER, &mut progress);
    let mut job = Job { id: [7; 32], target, options: &options, cancel, progress };
    job.restore(&mut Forged { entries, at: 0 }, &mut Fetcher::new(mesh))
}

/// Everything of a folder that a restore could change: names, kinds, modes, owners, times, content.
/// Without `links` but for what says that one of several names of a file went away.
fn state(folder: &Path, links: bool) -> Vec<String> {
    let mut state = vec![describe(folder, links)];
    for name in names(folder) {
        state.push(format!("{name}: {}", describe(&folder.join(&name), links)));
    }
    state
}

fn describe(path: &Path, links: bool) -> String {
    let stat = fs::symlink_metadata(path).unwrap();
    let content = match stat.file_type() {
        kind if kind.is_file() => format!("{:?}", fs::read(path).unwrap()),
        kind if kind.is_symlink() => format!("{:?}", fs::read_link(path).unwrap()),
        _ => String::new(),
    };
    let changed = (stat.nlink(), stat.ctime(), stat.ctime_nsec());
    let changed = if links { changed } else { (0, 0, 0) };
    let owner = (stat.uid(), stat.gid(), stat.ino());
    let mtime = (stat.mtime(), stat.mtime_nsec());
    format!("{:o} {owner:?} {mtime:?} {changed:?} {content}", stat.mode())
}

/// A scratch folder with what must not be touched, and where the target will be beside it.
struct Scene {
    folder: TempDir,
    backup: Backup,
    /// What files of the mesh look like: one packed, one a piece, one with a listing.
    contents: Vec<Entry>,
    cases: u32,
}

impl Scene {
    fn new() -> Self {
        let files = vec![
            (file("listed"), noise(700_000, 1)),
            (file("packed"), b"packed".to_vec()),
            (file("piece"), noise(290_000, 2)),
        ];
        let mut backup = Backup::of(&files);
        let mut contents = Vec::new();
        let mut entries = TreeEntries::new(&backup.root, b"");
        let (mut fetcher, mut report) = (Fetcher::new(&mut backup.mesh), RestoreReport::default());
        while let Some(entry) = entries.next(&mut fetcher, &mut report).unwrap() {
            contents.push(entry);
        }
        let folder = scratch();
        let outside = folder.path().join("outside");
        fs::create_dir_all(outside.join("folder")).unwrap();
        fs::write(outside.join("file"), b"precious").unwrap();
        fs::write(outside.join("folder/file"), b"precious, too").unwrap();
        std::os::unix::fs::symlink("file", outside.join("link")).unwrap();
        metadata::plant_pipe(&outside.join("pipe"));
        Self { folder, backup, contents, cases: 0 }
    }

    fn outside(&self) -> std::path::PathBuf {
        self.folder.path().join("outside")
    }

    fn target(&self) -> std::path::PathBuf {
        self.folder.path().join("target")
    }

    /// A file with real content under this path.
    fn file(&self, path: &[u8], number: usize) -> Entry {
        let mut entry = self.contents[number % self.contents.len()].duplicate();
        entry.path = path.to_vec();
        entry
    }

    /// One entry of each kind under this path, each below a folder `a` that is there.
    fn each_kind(&self, path: &[u8]) -> Vec<Entry> {
        let outside = self.outside().into_os_string().into_encoded_bytes();
        let with = |what| Entry { mode: 0o6777, ..entry(path, what) };
        vec![
            self.file(path, 0),
            self.file(path, 1),
            with(What::Folder(Inode::default())),
            with(What::Symlink(outside.clone())),
            with(What::HardLink([outside, b"/file".to_vec()].concat())),
            with(What::Fifo),
            with(What::Device { block: true, number: 1 << 8 }),
        ]
    }

    /// Restores these entries, after `plant` had its way with the target; nothing outside may
    /// change, and nothing may appear beside.
    fn try_it(
        &mut self,
        what: &str,
        entries: Vec<Entry>,
        (existing, stepwise, trust): (Existing, bool, Trust),
        plant: &dyn Fn(&Path, &Path),
    ) -> Result<RestoreReport, RestoreError> {
        let (target, outside) = (self.target(), self.outside());
        fs::create_dir_all(&target).unwrap();
        plant(&target, &outside);
        // A planted name of a file goes away when it is replaced, and the file has one less.
        let links = !what.starts_with("another name");
        let before = state(&outside, links);
        let opened = Target::open(&target, existing).unwrap();
        let opened = if stepwise { opened.stepwise() } else { opened };
        let report = forged(entries, &mut self.backup.mesh, &opened, trust);
        self.backup.mesh.asked.clear();
        assert_eq!(before, state(&outside, links), "{what}: something outside was changed");
        let mut beside: Vec<_> =
            fs::read_dir(self.folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        beside.sort();
        assert_eq!(beside, ["outside", "target"], "{what}: something appeared");
        fs::remove_dir_all(&target).unwrap();
        self.cases += 1;
        report
    }
}

/// Paths that are none, or lead elsewhere, or only look so.
fn bad_paths(outside: &Path) -> Vec<Vec<u8>> {
    let outside = outside.to_str().unwrap();
    let mut paths: Vec<Vec<u8>> = [
        "",
        ".",
        "..",
        "/",
        "//",
        "../x",
        "../outside/new",
        "../outside/file",
        "a/..",
        "a/../..",
        "a/../../outside/new",
        "a/./x",
        "./x",
        "a//x",
        "a/",
        "/etc/x",
        "\0",
        "a\0b",
        "..\0",
        "a/../../../../../../../../etc/x",
        "../target/../outside/new",
        "a/b/../../../outside/new",
    ]
    .map(|path| path.as_bytes().to_vec())
    .to_vec();
    paths.push(format!("{outside}/new").into_bytes());
    paths.push(format!("a/{outside}/new").into_bytes());
    paths.push(vec![b'n'; 256]);
    paths.push([&b"a/"[..], &[b'n'; 300]].concat());
    paths.push(b"d/".repeat(128).into_iter().chain(*b"x").collect());
    paths.push(b"dddd/".repeat(1000));
    paths
}

const WAYS: [(Existing, bool, Trust); 4] = [
    (Existing::Keep, false, Trust::Own),
    (Existing::Replace, true, Trust::Own),
    (Existing::Replace, false, Trust::Shared),
    (Existing::Keep, true, Trust::Shared),
];

type Plant = &'static dyn Fn(&Path, &Path);

/// What somebody may have put where the snapshot's `a` goes.
fn plants() -> [(&'static str, Plant); 8] {
    use std::os::unix::fs::symlink;
    [
        ("a link to a folder", &|target, outside| {
            symlink(outside.join("folder"), target.join("a")).unwrap();
        }),
        ("a relative link", &|target, _| symlink("../outside", target.join("a")).unwrap()),
        ("a link to a file", &|target, outside| {
            symlink(outside.join("file"), target.join("a")).unwrap();
        }),
        ("a link to nothing", &|target, outside| {
            symlink(outside.join("new"), target.join("a")).unwrap();
        }),
        ("a link in a folder", &|target, outside| {
            fs::create_dir(target.join("a")).unwrap();
            symlink(outside, target.join("a/x")).unwrap();
        }),
        ("another name of a file", &|target, outside| {
            fs::hard_link(outside.join("file"), target.join("a")).unwrap();
        }),
        ("another name of a pipe", &|target, outside| {
            fs::hard_link(outside.join("pipe"), target.join("a")).unwrap();
        }),
        ("a link through the system", &|target, _| {
            symlink("/proc/self/cwd", target.join("a")).unwrap();
        }),
    ]
}

fn paths_that_lead_elsewhere(scene: &mut Scene) {
    for (number, path) in bad_paths(&scene.outside()).into_iter().enumerate() {
        for entry in scene.each_kind(&path) {
            let what = format!("{:?} at {:?}", entry.what, String::from_utf8_lossy(&path));
            let entries = vec![folder("a"), folder("a/b"), entry];
            let way = WAYS[number % WAYS.len()];
            let report = scene.try_it(&what, entries, way, &|_, _| {}).unwrap();
            assert!(report.files == 0 && report.others == 0, "{what}: {report:?}");
        }
    }
}

fn links_that_were_planted(scene: &mut Scene) {
    for (planted, plant) in plants() {
        for way in WAYS {
            for path in [&b"a"[..], b"a/x", b"a/x/file"] {
                for entry in scene.each_kind(path) {
                    let what = format!("{planted}, {:?} at {path:?}, {way:?}", entry.what);
                    let mut entries = Vec::new();
                    if path.len() > 1 {
                        entries.push(folder("a"));
                    }
                    if path.len() > 3 {
                        entries.push(folder("a/x"));
                    }
                    entries.push(entry);
                    scene.try_it(&what, entries, way, plant).unwrap();
                }
            }
        }
    }
}

/// Trees that contradict themselves, in whatever order no decoder would let pass.
fn contradictions(scene: &Scene) -> Vec<(&'static str, Vec<Entry>)> {
    let outside = scene.outside().to_str().unwrap().to_owned();
    let at = |path: &str, number| scene.file(path.as_bytes(), number);
    let escape = || symlink("a", &outside);
    let up = || symlink("a", "../outside");
    let mut entry_of_nobody = folder("a");
    (entry_of_nobody.uid, entry_of_nobody.gid) = (u32::MAX, u32::MAX);
    let mut hollow = sparse("a", i64::MAX as u64, Vec::new());
    hollow.mode = 0o7777;
    let backwards = sparse("a", 100, vec![std::ops::Range { start: 90, end: 10 }]);
    vec![
        ("a link, then a file through it", vec![escape(), at("a/new", 1)]),
        ("a link, then a folder through it", vec![up(), folder("a/new")]),
        ("a link, then a link through it", vec![up(), symlink("a/new", "x")]),
        ("a link, then a file over it", vec![escape(), at("a", 1)]),
        ("a link, then a folder over it", vec![escape(), folder("a"), at("a/file", 1)]),
        ("a folder, then a link over it", vec![folder("a"), escape(), at("a/file", 0)]),
        ("a file, then things in it", vec![at("a", 1), folder("a/b"), at("a/b/c", 1)]),
        ("a file twice", vec![at("a", 1), at("a", 1), at("a", 2), at("a", 0)]),
        ("a folder twice", vec![folder("a"), folder("a"), at("a/x", 1)]),
        ("names that differ in case", vec![at("A", 1), at("a", 1), folder("B"), folder("b")]),
        ("a link and a folder of another case", vec![up(), folder("A"), at("A/new", 1)]),
        ("a hard link to outside", vec![hard_link("b", &format!("{outside}/file"))]),
        ("a hard link that climbs", vec![hard_link("b", "../outside/file")]),
        ("a hard link to itself", vec![hard_link("b", "b")]),
        ("a hard link to a later name", vec![hard_link("a", "b"), at("b", 1)]),
        ("a hard link to a link", vec![up(), hard_link("b", "a")]),
        ("a hard link through a link", vec![up(), hard_link("b", "a/file")]),
        ("a hard link to a folder", vec![folder("a"), hard_link("b", "a")]),
        ("a hard link, then a file over it", vec![at("a", 1), hard_link("b", "a"), at("b", 2)]),
        ("an empty hard link", vec![hard_link("b", "")]),
        ("a link of no text", vec![symlink("a", "")]),
        ("a link with a byte 0", vec![symlink("a", "../outside\0/x")]),
        ("a folder of nobody's", vec![entry_of_nobody]),
        ("the longest file there is", vec![hollow]),
        ("a range that runs backwards", vec![backwards]),
        (
            "a device, then a file in it",
            vec![entry(b"a", What::Device { block: true, number: 0x0800 }), at("a/x", 1)],
        ),
        ("a damaged name", vec![at("a.quloud-damaged", 1), at("a", 1)]),
    ]
}

fn lies_about_holes(scene: &Scene) -> Vec<(&'static str, Vec<Entry>)> {
    let body = |number: usize, change: &dyn Fn(&mut FileBody)| {
        let mut entry = scene.file(b"a", number);
        let What::File(body) = &mut entry.what else { panic!("it is a file") };
        change(body);
        vec![entry]
    };
    let extents = |ranges: Vec<std::ops::Range<u64>>| Some(Extents(ranges));
    let far = 1 << 40;
    vec![
        (
            "extents that overlap",
            body(2, &|body| {
                body.extents = extents(vec![0..200_000, 100_000..190_000]);
            }),
        ),
        (
            "extents out of order",
            body(2, &|body| {
                body.extents = extents(vec![250_000..290_000, 0..250_000]);
            }),
        ),
        (
            "extents beyond the file",
            body(0, &|body| {
                (body.bytes, body.extents) = (10, extents(vec![far..far + 700_000]));
            }),
        ),
        (
            "extents beyond all numbers",
            body(1, &|body| {
                body.extents = extents(vec![u64::MAX - 6..u64::MAX]);
            }),
        ),
        (
            "too many extents for its data",
            body(1, &|body| {
                body.extents = extents((0..1000).map(|n| n * 2..n * 2 + 1).collect());
            }),
        ),
    ]
}

fn lies_about_content(scene: &Scene) -> Vec<(&'static str, Vec<Entry>)> {
    let body = |number: usize, change: &dyn Fn(&mut FileBody)| {
        let mut entry = scene.file(b"a", number);
        let What::File(body) = &mut entry.what else { panic!("it is a file") };
        change(body);
        vec![entry]
    };
    vec![
        ("longer than its pack", body(1, &|body| body.bytes = 200_000)),
        ("shorter than its pack", body(1, &|body| body.bytes = 1)),
        (
            "behind its pack",
            body(1, &|body| {
                if let Content::Packed { offset, .. } = &mut body.content {
                    *offset = u32::MAX;
                }
            }),
        ),
        ("longer than its piece", body(2, &|body| body.bytes = 4_000_000)),
        ("shorter than its piece", body(2, &|body| body.bytes = 2)),
        ("longer than its listing", body(0, &|body| body.bytes = 900_000)),
        ("shorter than its listing", body(0, &|body| body.bytes = 400_000)),
        ("content where there is none", body(1, &|body| body.bytes = 0)),
        (
            "a piece that is a listing",
            body(0, &|body| {
                let other = body.content.reference().map(ChunkRef::duplicate).unwrap();
                body.content = Content::Piece(other);
            }),
        ),
        (
            "a listing that is a piece",
            body(2, &|body| {
                let other = body.content.reference().map(ChunkRef::duplicate).unwrap();
                body.content = Content::Listing(other);
            }),
        ),
    ]
}

/// A leaf of one entry, byte by byte: nothing checks what it says.
fn raw_leaf(path: &[u8], kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut leaf = vec![1, 0, 0, 0];
    leaf.extend([1_u32, 0].iter().flat_map(|count| count.to_le_bytes()));
    leaf.extend([1, 0, 0, 0]);
    leaf.extend([0o6777_u32, 0, 0].iter().flat_map(|part| part.to_le_bytes()));
    leaf.extend([kind, flags, 0]);
    varint::put(path.len() as u64, &mut leaf);
    leaf.extend_from_slice(path);
    leaf.extend([0, 0]);
    leaf.extend_from_slice(body);
    leaf
}

/// Trees of one entry that the decoder is to refuse: each path and kind, and sizes that lie.
fn raw_trees(outside: &Path) -> Vec<Vec<u8>> {
    let outside = outside.to_str().unwrap();
    let text = |text: &str| {
        let mut body = Vec::new();
        varint::put(text.len() as u64, &mut body);
        body.extend_from_slice(text.as_bytes());
        body
    };
    let mut trees = Vec::new();
    for path in bad_paths(Path::new(outside)) {
        trees.push(raw_leaf(&path, 0, 0, &[0, 0]));
        trees.push(raw_leaf(&path, 1, 0, &[0, 0, 0, 0]));
        trees.push(raw_leaf(&path, 2, 0, &text(outside)));
        trees.push(raw_leaf(&path, 4, 0, &[]));
    }
    for first in ["", "/etc/passwd", "../outside/file", "b", "c", "a/../../outside/file"] {
        trees.push(raw_leaf(b"b", 3, 0, &text(first)));
    }
    let mut huge = Vec::new();
    varint::put(u64::MAX, &mut huge);
    // A size without content, a size beyond all files, a hole without end, kinds and flags that
    // do not exist, a reference that is not there.
    trees.push(raw_leaf(b"a", 1, 0, &[9, 0, 0, 0]));
    trees.push(raw_leaf(b"a", 1, 0, &[&huge[..], &[0, 0, 0]].concat()));
    trees.push(raw_leaf(b"a", 1, 2, &[&huge[..], &[0, 0, 0, 0]].concat()));
    trees.push(raw_leaf(b"a", 1, 2, &[9, 0, 0, 1, 5, 9, 0]));
    trees.push(raw_leaf(b"a", 1, 0, &[9, 0, 0, 2, 0]));
    trees.push(raw_leaf(b"a", 8, 0, &[]));
    trees.push(raw_leaf(b"a", 4, 16, &[]));
    trees.push(raw_leaf(b"a", 2, 0, &text("a\0b")));
    trees
}

#[test]
fn a_tree_that_lies_is_refused_before_anything_is_written() {
    let mut scene = Scene::new();
    let (target, outside) = (scene.target(), scene.outside());
    let before = state(&outside, true);
    let keys = owner(1);
    for (number, tree) in raw_trees(&outside).into_iter().enumerate() {
        let mut sink = Sink(&mut scene.backup.mesh);
        let mut sealer = Sealer::new(&keys, Locality(9), &mut sink);
        let reference = sealer.meta(Kind::Tree, &tree, 0).unwrap();
        let root = TreeRoot { level: 0, entries: 1, reference };
        let opened = Target::open(&target, Existing::Refuse).unwrap();
        let options = RestoreOptions { fifos: true, ..RestoreOptions::default() };
        let mesh = &mut scene.backup.mesh;
        let refused = restore(mesh, &root, &opened, &options, &NEVER, &mut |_| {});
        assert!(matches!(refused, Err(RestoreError::Tree(_))), "{number}: {refused:?}");
        assert!(names(&target).is_empty(), "{number}: {:?}", names(&target));
    }
    assert_eq!(before, state(&outside, true));
}

#[test]
fn restore_evil_manifest_corpus() {
    let mut scene = Scene::new();
    paths_that_lead_elsewhere(&mut scene);
    links_that_were_planted(&mut scene);
    let mut trees = contradictions(&scene);
    trees.extend(lies_about_content(&scene));
    trees.extend(lies_about_holes(&scene));
    for (what, entries) in trees {
        for way in WAYS {
            let entries = entries.iter().map(Entry::duplicate).collect();
            let outcome = scene.try_it(what, entries, way, &|_, _| {});
            let refused = matches!(outcome, Ok(_) | Err(RestoreError::Space { .. }));
            assert!(refused, "{what}: {outcome:?}");
        }
    }
    assert!(scene.cases >= 200, "{} hostile trees", scene.cases);
}

#[test]
fn a_folder_that_becomes_a_link_meanwhile_leads_nowhere() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    for stepwise in [false, true] {
        let mut scene = Scene::new();
        let (target, outside) = (scene.target(), scene.outside());
        fs::create_dir_all(target.join("a")).unwrap();
        std::os::unix::fs::symlink(&outside, target.join("link")).unwrap();
        let before = state(&outside, true);
        let mut entries = vec![folder("a")];
        for number in 0..60 {
            entries.push(scene.file(format!("a/{number:02}").as_bytes(), 1));
            let inner = format!("a/{number:02}d");
            entries.push(folder(&inner));
            entries.push(scene.file(format!("{inner}/file").as_bytes(), 1));
            entries.push(hard_link(&format!("{inner}/hard"), &format!("{inner}/file")));
            entries.push(symlink(&format!("{inner}/soft"), "file"));
            let pipe = format!("{inner}/pipe");
            entries.push(entry(pipe.as_bytes(), What::Fifo));
        }
        let (swaps, stop) = (std::sync::atomic::AtomicU64::new(0), AtomicBool::new(false));
        let mut restored = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (a, link) = (target.join("a"), target.join("link"));
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = renameat_with(CWD, &a, CWD, &link, RenameFlags::EXCHANGE);
                    swaps.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            });
            for _ in 0..400 {
                if restored > 0 && swaps.load(std::sync::atomic::Ordering::Relaxed) > 100_000 {
                    break;
                }
                let opened = Target::open(&target, Existing::Replace).unwrap();
                let opened = if stepwise { opened.stepwise() } else { opened };
                let again = entries.iter().map(Entry::duplicate).collect();
                let report = forged(again, &mut scene.backup.mesh, &opened, Trust::Own);
                restored += report.unwrap().files;
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(before, state(&outside, true), "something outside was changed");
        let swaps = swaps.into_inner();
        assert!(swaps > 100, "{swaps}");
        assert!(restored > 0, "there were moments in which files could be restored");
    }
}
