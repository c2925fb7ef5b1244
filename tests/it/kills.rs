//! SIGKILL at any moment of a backup, a restore, a recovery and a prune: nothing is lost, the next
//! run goes on, and what was done is not done again.
//!
//! Each kill waits for something to be seen: a number of acknowledged chunks, of files, a file of
//! the data folder, a line of progress. None waits for time to pass.

use crate::processes::{Lab, Node, PATIENCE, last_object};
use crate::restore::{assert_same, below};
use quloud::api::client::{Client, Events};
use quloud::node::report::{BackupRequest, Progress, PruneDone, PruneRequest};
use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use tokio::runtime::Runtime;

/// No test meets the nodes of another one.
const ALONE: [&str; 5] = ["--mdns", "off", "--listen", "/ip4/127.0.0.1/tcp/0", "--json"];

/// Files of a chunk each, however they are cut.
const PIECES: usize = 126;
const PIECE_BYTES: usize = 256 << 10;

/// Kills while data is moved; the last phases come on top.
const KILLS: u64 = 12;

/// What is asked of a node while it works.
struct Watch {
    runtime: Runtime,
    client: Client,
}

impl Watch {
    fn of(node: &Node) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { runtime, client: Client::new(&node.dir) }
    }

    /// How many chunks the owner knows each of its holders to have, fewest first; none while the
    /// node cannot be asked.
    fn acknowledged(&self) -> Vec<u64> {
        let peers = self.runtime.block_on(self.client.peers()).unwrap_or_default();
        let mut held: Vec<u64> = peers.iter().map(|peer| peer.holds_chunks).collect();
        held.sort_unstable();
        held
    }

    /// Waits until both holders acknowledged `least`, and gives what the one with fewer has. `None`
    /// where the work ended before.
    fn until_acknowledged(&self, least: u64, work: &mut Child) -> Option<u64> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let [fewest, _] = self.acknowledged()[..]
                && fewest >= least
            {
                return Some(fewest);
            }
            if work.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(Instant::now() < deadline, "waited for {least} acks");
        }
    }

    /// Backs up until a note of progress begins so; gives how many chunks were handed over.
    fn until_noted(&self, tree: &Path, note: &str) -> u64 {
        let request = BackupRequest {
            paths: vec![tree.to_owned()],
            replicas: 2,
            timeout_s: 60,
            ..BackupRequest::default()
        };
        self.runtime.block_on(async {
            let mut events = self.client.backup(&request).await.unwrap();
            loop {
                match events.next().await.unwrap() {
                    Progress::Working { chunks, note: Some(now), .. } if now.starts_with(note) => {
                        return chunks;
                    }
                    Progress::Working { .. } => {}
                    ended => panic!("{ended:?} before {note:?}"),
                }
            }
        })
    }
}

impl Watch {
    /// Prunes until these notes of progress came, one after the other. Whoever drops the events
    /// asks the node to end the prune.
    fn until_pruning(&self, notes: &[&str]) -> Events<PruneDone> {
        let request = PruneRequest { timeout_s: 60, ..PruneRequest::default() };
        self.runtime.block_on(async {
            let mut events = self.client.prune(&request).await.unwrap();
            let mut notes = notes.iter().peekable();
            while let Some(note) = notes.peek() {
                match events.next().await.unwrap() {
                    Progress::Working { note: Some(now), .. } if now.starts_with(**note) => {
                        notes.next();
                    }
                    Progress::Working { .. } => {}
                    ended => panic!("{ended:?} before {note:?}"),
                }
            }
            events
        })
    }

    /// Waits until the node does not take all of these chunks for stored any more.
    fn until_let_go(&self, before: u64, work: &mut Child) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let acknowledged = self.acknowledged();
            let is_known = acknowledged.len() == 2;
            if is_known && acknowledged.iter().sum::<u64>() < before {
                return;
            }
            assert!(work.try_wait().unwrap().is_none(), "done before it was seen: {before}");
            assert!(Instant::now() < deadline, "waited for less than {before} acks");
        }
    }
}

/// When a prune is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// These notes of progress have come.
    Noted(&'static [&'static str]),
    /// Some chunks do not count as stored any more: of a running node, or of the command's own.
    LettingGo { own: bool },
}

const HEADS: &str = "reading the heads";
const TELLING: &str = "telling the other devices";

/// In the order of the prune: nothing was done; it is about to be announced; it is, and the heads
/// are read anew; holders are asked; chunks go; the heads are read once more.
const MOMENTS: [Moment; 7] = [
    Moment::Noted(&[HEADS]),
    Moment::Noted(&[TELLING]),
    Moment::Noted(&[TELLING, HEADS]),
    Moment::Noted(&[TELLING, "asking holders"]),
    Moment::LettingGo { own: false },
    Moment::LettingGo { own: true },
    Moment::Noted(&[TELLING, HEADS, HEADS]),
];

#[test]
fn a_prune_that_is_killed_at_any_point_goes_on_and_loses_nothing_that_is_needed() {
    let mut lab = Lab::new();
    let mut nodes = lab.mesh(3);
    let tree = pieces(&lab, 24);
    let path = tree.to_str().unwrap().to_owned();
    let back_up = |node: &Node, path: &str| -> String {
        let done = node.json(&["backup", path, "--replicas", "2", "--json"]);
        done["snapshot"].as_str().unwrap().to_owned()
    };
    // Other paths, which name some of the same chunks and live through all of it.
    let kept = lab.path().join("kept");
    fs::create_dir(&kept).unwrap();
    for number in 0..24 {
        let name = format!("piece-{number:03}");
        fs::copy(tree.join(&name), kept.join(name)).unwrap();
    }
    let other = back_up(&nodes[0], kept.to_str().unwrap());
    let mut last = back_up(&nodes[0], &path);
    let bootstrap = ["--bootstrap", &nodes[1].address.clone()].map(str::to_owned);
    for (number, moment) in MOMENTS.into_iter().enumerate() {
        // What nobody needs after the next snapshot, and what it shares with the one before.
        for piece in 0..6 {
            let new = lab.file(&format!("new-{number}-{piece}"), PIECE_BYTES);
            fs::rename(new, tree.join(format!("new-{piece}"))).unwrap();
        }
        let next = back_up(&nodes[0], &path);
        nodes[0].text(&["forget", &last]);
        last = next;
        kill_a_prune(&mut nodes[0], moment, &bootstrap);
        nodes[0].up();
        nodes[0].wait_for_peers(2);
        // All that is needed is there at once, and when the prune has gone on to its end.
        for is_over in [false, true] {
            if is_over {
                prune_to_its_end(&nodes[0]);
            }
            for snapshot in [&last, &other] {
                let proven = nodes[0].json(&["verify", snapshot, "--json"]);
                assert_eq!(proven["proven"], true, "after {moment:?}: {proven}");
            }
        }
        let status = nodes[0].status();
        assert_eq!(status["attention"].as_array().map(Vec::len), Some(0), "{moment:?}: {status}");
    }
    let dry = nodes[0].json(&["prune", "--dry-run", "--json"]);
    assert_eq!(dry["chunks"], 0, "all that nobody needs is gone: {dry}");
    for (snapshot, of) in [(&last, &tree), (&other, &kept)] {
        let target = lab.path().join(format!("back-{snapshot}"));
        nodes[0].json(&["restore", snapshot, "--target", target.to_str().unwrap(), "--json"]);
        assert_same(of, &below(&target, of));
    }
}

/// Begins a prune, and kills it at that moment: the node that runs, or the command's own.
fn kill_a_prune(node: &mut Node, moment: Moment, bootstrap: &[String]) {
    let watch = Watch::of(node);
    let before: u64 = watch.acknowledged().iter().sum();
    match moment {
        Moment::Noted(notes) => {
            let events = watch.until_pruning(notes);
            node.kill();
            drop(events);
        }
        Moment::LettingGo { own: false } => {
            let mut work = spawn(node.command().args(["prune", "--json"]));
            watch.until_let_go(before, &mut work);
            node.kill();
            work.wait().unwrap();
        }
        Moment::LettingGo { own: true } => {
            node.kill();
            let mut work = spawn(node.command().arg("prune").args(ALONE).args(bootstrap));
            watch.until_let_go(before, &mut work);
            kill(work);
        }
    }
}

/// A node that has just started goes on by itself, too: while it does, no other prune runs.
fn prune_to_its_end(node: &Node) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let output = node.run(&["prune", "--json"]);
        if output.status.success() {
            return;
        }
        let failed = last_object(&output);
        let why = failed["error"]["why"].as_str().unwrap_or_default();
        assert!(why.contains("another prune"), "{failed}\n{}", node.log());
        assert!(Instant::now() < deadline, "{failed}");
    }
}

fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A folder of files that are a chunk each.
fn pieces(lab: &Lab, count: usize) -> PathBuf {
    let tree = lab.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for number in 0..count {
        let file = lab.file(&format!("piece-{number:03}"), PIECE_BYTES);
        fs::rename(&file, tree.join(file.file_name().unwrap())).unwrap();
    }
    tree
}

#[test]
fn a_backup_that_is_killed_at_any_point_goes_on_and_sends_no_acknowledged_chunk_again() {
    let mut lab = Lab::new();
    let mut nodes = lab.mesh(3);
    let tree = pieces(&lab, PIECES);
    let path = tree.to_str().unwrap().to_owned();
    let bootstrap = ["--bootstrap", &nodes[1].address.clone()].map(str::to_owned);
    let asked = ["backup", path.as_str(), "--replicas", "2"];
    let watch = Watch::of(&nodes[0]);
    let mut known = 0;
    for kills in 0..KILLS {
        let least = known + (PIECES as u64 - known) / (KILLS + 2 - kills);
        // The node that runs, or the process of the command where none does.
        let own = kills % 2 == 0;
        let mut command = nodes[0].command();
        command.args(asked);
        if own && kills == 0 {
            nodes[0].kill();
        }
        if own {
            command.args(ALONE).args(&bootstrap);
        } else {
            nodes[0].up();
            nodes[0].wait_for_peers(2);
            let [fewest, _] = watch.acknowledged()[..] else { panic!("two holders") };
            assert!(fewest >= known, "it knew {known} acks, and {fewest} after the kill");
        }
        let mut work = spawn(&mut command);
        let reached = watch.until_acknowledged(least, &mut work);
        known = reached.unwrap_or_else(|| panic!("done before kill {kills}: {known} acks"));
        if own {
            kill(work);
        } else {
            nodes[0].kill();
            assert_eq!(work.wait().unwrap().code(), Some(1), "its node died");
        }
    }
    let extras = 4;
    let most = PIECES as u64 + extras - known;
    for note in ["waiting for the last chunks", "storing the snapshot"] {
        nodes[0].up();
        nodes[0].wait_for_peers(2);
        let handed = watch.until_noted(&tree, note);
        assert!(handed <= most, "{handed} chunks were sent, and {known} are acknowledged");
        nodes[0].kill();
    }
    nodes[0].up();
    nodes[0].wait_for_peers(2);
    let done = nodes[0].json(&[&asked[..], &["--json"]].concat());
    assert_eq!((&done["files"], &done["replicas"]), (&PIECES.into(), &2.into()), "{done}");
    assert!(done["new_chunks"].as_u64() <= Some(extras), "all but the snapshot was sent: {done}");
    let target = lab.path().join("back");
    nodes[0].json(&["restore", "latest", "--target", target.to_str().unwrap(), "--json"]);
    assert_same(&tree, &below(&target, &tree));
}

/// Folders, small files, files of a chunk, links of both kinds: the last pass takes a while.
fn mixed(lab: &Lab) -> PathBuf {
    let tree = pieces(lab, 96);
    fs::create_dir_all(tree.join("small/deep")).unwrap();
    for number in 0..200 {
        let file = lab.file(&format!("small-{number}"), 40 * number);
        fs::rename(file, tree.join(format!("small/{number}"))).unwrap();
    }
    for number in 0..900 {
        let link = tree.join(format!("small/deep/link {number:03}"));
        match number % 3 {
            0 => fs::hard_link(tree.join("small/7"), link).unwrap(),
            _ => symlink("../7", link).unwrap(),
        }
    }
    fs::set_permissions(tree.join("small/3"), Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(tree.join("small"), Permissions::from_mode(0o750)).unwrap();
    tree
}

/// Files and links below a folder that have their names, but not those of the restore itself.
fn finished(folder: &Path) -> (u64, u64) {
    let (mut files, mut links) = (0, 0);
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let name = entry.file_name();
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_symlink() || name.to_string_lossy().starts_with("link") {
                links += 1;
            } else if !name.to_string_lossy().contains("quloud") {
                files += 1;
            }
        }
    }
    (files, links)
}

#[test]
fn a_restore_that_is_killed_at_any_point_goes_on_and_fetches_nothing_finished_again() {
    let mut lab = Lab::new();
    let mut nodes = lab.mesh(2);
    let tree = mixed(&lab);
    nodes[0].json(&["backup", tree.to_str().unwrap(), "--replicas", "1", "--json"]);
    let (all, links) = finished(&tree);
    let target = lab.path().join("back");
    let restore = ["restore", "latest", "--target", target.to_str().unwrap(), "--json"];
    let network = [&["--bootstrap", nodes[1].address.as_str()][..], &ALONE[..4]].concat();
    let network: Vec<String> = network.into_iter().map(str::to_owned).collect();
    let place = below(&target, &tree);
    nodes[0].kill();
    let mut seen = (0, 0);
    // While files come; when all are there, while links are made.
    let while_files = (1..=KILLS).map(|kill| (kill * all / (KILLS + 2), 0));
    let while_links = [(all, 0), (all, 1), (all, links / 2)];
    for (number, least) in while_files.chain(while_links).enumerate() {
        if seen.0 > least.0 {
            continue;
        }
        let own = number % 2 == 0;
        let mut command = nodes[0].command();
        command.args(restore);
        if own {
            command.args(&network);
        } else {
            nodes[0].up();
            nodes[0].wait_for_peers(1);
        }
        let mut work = spawn(&mut command);
        let deadline = Instant::now() + PATIENCE;
        loop {
            seen = finished(&place);
            if seen.0 >= least.0 && seen.1 >= least.1 {
                break;
            }
            assert!(work.try_wait().unwrap().is_none(), "done before {least:?}: {seen:?}");
            assert!(Instant::now() < deadline, "waited for {least:?}: {seen:?}");
        }
        if own {
            kill(work);
        } else {
            nodes[0].kill();
            work.wait().unwrap();
        }
    }
    nodes[0].up();
    nodes[0].wait_for_peers(1);
    let output = nodes[0].run(&restore);
    assert!(output.status.success(), "{output:?}\n{}", nodes[0].log());
    let done = last_object(&output);
    assert_eq!((&done["files"], &done["damaged"]), (&all.into(), &0.into()), "{done}");
    assert_eq!(done["resumed_files"], all, "all were finished: {done}");
    // The tree's chunks alone.
    assert!(done["chunks"].as_u64() <= Some(6), "{done}");
    assert_same(&tree, &place);
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1, "the journal is gone");
}

#[test]
fn a_restore_killed_in_the_middle_fetches_only_what_is_missing() {
    let mut lab = Lab::new();
    let mut nodes = lab.mesh(2);
    let tree = pieces(&lab, 96);
    nodes[0].json(&["backup", tree.to_str().unwrap(), "--replicas", "1", "--json"]);
    let target = lab.path().join("back");
    let restore = ["restore", "latest", "--target", target.to_str().unwrap(), "--json"];
    let mut work = spawn(nodes[0].command().args(restore));
    let deadline = Instant::now() + PATIENCE;
    while finished(&target).0 < 30 {
        assert!(Instant::now() < deadline, "no files come: {}", nodes[0].log());
    }
    nodes[0].kill();
    work.wait().unwrap();
    let (finished, _) = finished(&target);
    nodes[0].up();
    nodes[0].wait_for_peers(1);
    let done = nodes[0].json(&restore);
    let (resumed, chunks) = (done["resumed_files"].as_u64(), done["chunks"].as_u64());
    assert!(resumed >= Some(finished), "{finished} were there: {done}");
    assert!(chunks <= Some(96 - finished + 3), "{finished} were there: {done}");
    assert_same(&tree, &below(&target, &tree));
}

#[test]
fn a_recovery_that_is_killed_at_any_point_is_done_by_the_same_command() {
    let mut lab = Lab::new();
    let nodes = lab.mesh(3);
    let tree = pieces(&lab, 4);
    let backup = ["backup", tree.to_str().unwrap(), "--replicas", "2", "--json"];
    nodes[0].json(&backup);
    let words = nodes[0].dir.with_extension("words");
    let words = ["--words-file", words.to_str().unwrap(), "--yes"];
    let bootstrap = ["--bootstrap", nodes[1].address.as_str()];
    let recover = [&["recover"][..], &words, &bootstrap, &ALONE].concat();
    // What a recovery leaves, in the order in which it comes.
    let marks = [
        "lock",
        "owner.key",
        "node.key",
        "quloud.toml",
        "layout",
        "peers.json",
        "api.sock",
        "owner/catalog",
        "owner/meta",
    ];
    let home = lab.path().join("machine");
    let mut indices = BTreeSet::from([0]);
    // The second one is killed while it looks for the heads, of which there is one more then.
    for (machine, begin) in [0, marks.len() - 2].into_iter().enumerate() {
        let dir = home.with_extension(machine.to_string());
        for mark in marks.iter().skip(begin) {
            let mut command = Command::new(env!("CARGO_BIN_EXE_quloud"));
            command.arg("--data-dir").arg(&dir).stdin(Stdio::null()).args(&recover);
            let mut work = spawn(&mut command);
            let deadline = Instant::now() + PATIENCE;
            while !dir.join(mark).exists() && work.try_wait().unwrap().is_none() {
                assert!(Instant::now() < deadline, "waited for {mark}");
            }
            kill(work);
        }
        let mut node = lab.init();
        node.dir.clone_from(&dir);
        let found = node.json(&recover);
        let index = found["index"].as_u64().unwrap();
        assert!(indices.insert(index), "head {index} has two devices: {found}");
        let made = node.json(&[&backup[..], &ALONE[..4]].concat());
        assert_eq!(made["replicas"], 2, "{made}");
        // It is the same device, and nothing of the others was overwritten.
        let again = node.json(&recover);
        assert_eq!(again["index"], index, "{again}");
        let snapshots = again["snapshots"].as_array().unwrap();
        let devices: BTreeSet<&str> =
            snapshots.iter().map(|snapshot| snapshot["device"].as_str().unwrap()).collect();
        let all = machine + 2;
        let heads = again["heads"].as_array().unwrap().len();
        assert_eq!((snapshots.len(), devices.len(), heads), (all, all, all), "{again}");
    }
}
