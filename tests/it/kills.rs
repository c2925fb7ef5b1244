//! SIGKILL at any moment of a backup, a restore and a recovery: nothing is lost, the next run goes
//! on, and what was done is not done again.
//!
//! Each kill waits for something to be seen: a number of acknowledged chunks, of files, a file of
//! the data folder, a line of progress. None waits for time to pass.

use crate::processes::{Lab, Node, PATIENCE, last_object};
use crate::restore::{assert_same, below};
use quloud::api::client::Client;
use quloud::node::report::{BackupRequest, Progress};
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
