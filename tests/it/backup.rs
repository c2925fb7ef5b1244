//! Backups with real processes: what they print, what moves, and what is left when one is killed.

use crate::processes::{Lab, Node, last_object};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// A folder with fifty small files and a large one.
fn folder(lab: &Lab, large: usize) -> PathBuf {
    let path = lab.path().join("photos");
    std::fs::create_dir_all(path.join("below")).unwrap();
    for number in 0..50 {
        std::fs::write(path.join(format!("below/{number}")), vec![number; 2_000]).unwrap();
    }
    std::fs::rename(lab.file("large", large), path.join("large")).unwrap();
    path
}

fn backup(owner: &Node, path: &Path, more: &[&str]) -> Value {
    owner.json(&[&["backup", path.to_str().unwrap(), "--json"], more].concat())
}

fn listed(owner: &Node, more: &[&str]) -> Vec<Value> {
    let found = owner.json(&[&["snapshots", "--json"], more].concat());
    found["snapshots"].as_array().unwrap().clone()
}

#[test]
fn a_second_backup_moves_little_and_both_are_listed_with_and_without_a_node() {
    let mut lab = Lab::new();
    let mut nodes = lab.mesh(4);
    let path = folder(&lab, 6 << 20);
    let first = backup(&nodes[0], &path, &["--replicas", "3", "--tag", "first"]);
    assert_eq!((&first["files"], &first["replicas"]), (&51.into(), &3.into()), "{first}");
    assert_eq!(first["bytes"], (6 << 20) + 50 * 2_000, "{first}");
    assert!(first["new_bytes"].as_u64() > Some(6 << 20), "{first}");
    assert!(first["seconds"].as_f64() > Some(0.0), "{first}");

    std::fs::write(path.join("below/7"), "something else").unwrap();
    let second = backup(&nodes[0], &path, &[]);
    assert!(second["new_bytes"].as_u64() < Some(100_000), "{second}");
    assert!(second["new_bytes"].as_u64() > Some(0), "{second}");
    let snapshots = listed(&nodes[0], &[]);
    let named: Vec<&Value> = snapshots.iter().map(|snapshot| &snapshot["snapshot"]).collect();
    assert_eq!(named, [&first["snapshot"], &second["snapshot"]]);
    assert_eq!(snapshots[0]["tags"], serde_json::json!(["first"]));
    assert_eq!(snapshots[0]["roots"], serde_json::json!([path.to_str().unwrap()]));

    // The folder of the owner is all that is left of its node: the next commands start their own.
    nodes[0].stop();
    let network = ["--mdns", "off", "--listen", "/ip4/127.0.0.1/tcp/0"];
    let third = backup(&nodes[0], &path, &network);
    assert_eq!((&third["new_bytes"], &third["replicas"]), (&0.into(), &3.into()), "{third}");
    assert_eq!(listed(&nodes[0], &network).len(), 3);
}

#[test]
fn what_is_missing_or_short_exits_with_3_and_what_nobody_takes_with_4() {
    let mut lab = Lab::new();
    let mut nodes = lab.mesh(2);
    let path = folder(&lab, 1 << 20);
    let (path, gone) = (path.to_str().unwrap(), lab.path().join("gone"));
    let gone = gone.to_str().unwrap();
    let partial = nodes[0].run(&["backup", path, gone, "--replicas", "1", "--json"]);
    assert_eq!(partial.status.code(), Some(3), "{partial:?}");
    let told = last_object(&partial);
    assert_eq!((&told["partial"], &told["files"]), (&true.into(), &51.into()), "{told}");
    assert!(told["fault_lines"][0].as_str().unwrap().contains("gone"), "{told}");
    let status = nodes[0].run(&["status"]);
    assert_eq!(status.status.code(), Some(3), "{status:?}");
    let screen = String::from_utf8(status.stdout).unwrap();
    assert!(screen.contains("1 name could not be stored as asked"), "{screen}");

    let short = ["backup", path, "--replicas", "2", "--timeout", "3", "--json"];
    let output = nodes[0].run(&short);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let told = last_object(&output);
    assert_eq!((&told["partial"], &told["replicas"]), (&false.into(), &1.into()), "{told}");
    assert_eq!(told["target"], 2);

    let output = nodes[0].run(&short[..6]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains(", 1 of 2 replicas of each, "), "{printed}");
    let noted = String::from_utf8(output.stderr).unwrap();
    assert!(noted.contains("1 other node is connected") && noted.contains("start more"), "{noted}");
    // That is no healthy state, whoever asks, until a backup of the same paths is whole.
    let status = nodes[0].run(&["status"]);
    assert_eq!(status.status.code(), Some(3), "{status:?}");
    let screen = String::from_utf8(status.stdout).unwrap();
    assert!(screen.contains("replicating 1 of 2") && screen.contains("has 1 of 2 replicas"));
    assert!(nodes[0].text(&["snapshots"]).contains("  replicating 1 of 2"));
    let told = backup(&nodes[0], std::path::Path::new(path), &["--replicas", "1"]);
    assert_eq!(told["replicas"], 1, "{told}");
    let status = nodes[0].run(&["status"]);
    assert_eq!(status.status.code(), Some(0), "{status:?}");

    let missing = nodes[0].run(&["backup", gone, "--json"]);
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
    nodes[1].kill();
    nodes[0].wait_for("the holder to be missed", |status| status["peers"] == 0);
    let nobody = nodes[0].run(&short);
    assert_eq!(nobody.status.code(), Some(4), "{nobody:?}");
    let error = last_object(&nobody);
    assert_eq!(error["error"]["kind"], "not-enough-holders", "{error}");
    assert!(error["error"]["hint"].as_str().unwrap().contains("start more"), "{error}");
    assert_eq!(listed(&nodes[0], &[]).len(), 4, "as they were seen last");
}

#[test]
fn a_node_killed_in_mid_backup_leaves_nothing_that_the_next_one_does_not_finish() {
    let mut lab = Lab::new();
    let mut nodes = lab.mesh(3);
    let path = folder(&lab, 48 << 20);
    let broken = nodes[0]
        .command()
        .args(["backup", path.to_str().unwrap(), "--replicas", "2", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    nodes[1].wait_for("the first chunks", |status| status["store"]["chunks"].as_u64() > Some(2));
    nodes[0].kill();
    let output = broken.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = last_object(&output);
    assert!(error["error"]["hint"].as_str().unwrap().contains("not sent again"), "{error}");

    nodes[0].up();
    nodes[0].wait_for_peers(2);
    let done = backup(&nodes[0], &path, &["--replicas", "2"]);
    assert_eq!((&done["files"], &done["replicas"]), (&51.into(), &2.into()), "{done}");
    let snapshots = listed(&nodes[0], &[]);
    assert_eq!(snapshots.len(), 1, "{snapshots:?}");
    let again = backup(&nodes[0], &path, &["--replicas", "2"]);
    assert_eq!(again["new_bytes"], 0, "{again}");
}

#[test]
fn a_backup_that_is_not_waited_for_returns_at_once_and_its_snapshot_comes_later() {
    let mut lab = Lab::new();
    let nodes = lab.mesh(2);
    let path = folder(&lab, 6 << 20);
    let arguments = ["backup", path.to_str().unwrap(), "--wait", "none", "--replicas", "2"];
    let hand_over = [&arguments[..], &["--timeout", "3600", "--json"]].concat();
    // There is one holder, so that it cannot be done before the third node comes.
    let started = nodes[0].json(&hand_over);
    assert_eq!((&started["state"], &started["snapshot"]), (&"running".into(), &Value::Null));
    for name in ["files", "bytes", "new_bytes", "replicas", "seconds"] {
        assert!(started[name].is_number(), "{name}: {started}");
    }
    assert_eq!(nodes[0].json(&hand_over)["already"], true);
    let other = nodes[0].run(&[&arguments[..], &["--tag", "other"]].concat());
    assert_eq!(other.status.code(), Some(1), "{other:?}");
    nodes[0].wait_for("the files to be read", |status| {
        let of = &status["detached"][0];
        of["state"] == "running" && of["bytes"].as_u64() > Some(6 << 20)
    });
    let screen = nodes[0].run(&["status"]);
    let screen = String::from_utf8(screen.stdout).unwrap();
    assert!(screen.contains(&format!("backing up {}: ", path.display())), "{screen}");
    assert_eq!(listed(&nodes[0], &[]).len(), 0, "nothing is named before its quorum");

    let _third = lab.node(Some(&nodes[0].address));
    nodes[0].wait_for("the snapshot", |status| status["detached"][0]["state"] == "done");
    let status = nodes[0].status();
    let done = &status["detached"][0];
    assert_eq!((&done["files"], &done["replicas"]), (&51.into(), &2.into()), "{done}");
    let snapshots = listed(&nodes[0], &[]);
    assert_eq!(snapshots.len(), 1, "{snapshots:?}");
    assert_eq!(snapshots[0]["snapshot"], done["snapshot"]);
}

#[test]
fn a_backup_is_handed_over_to_a_node_that_stays_and_to_no_other() {
    let mut lab = Lab::new();
    let owner = lab.init();
    let path = folder(&lab, 1 << 20);
    let path = path.to_str().unwrap();
    let refused = |more: &[&str], why: &str, hint: &str| {
        let output = owner.run(&[&["backup", path, "--wait", "none", "--json"], more].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let error = &last_object(&output)["error"];
        assert!(error["why"].as_str().unwrap().contains(why), "{error}");
        assert!(error["hint"].as_str().unwrap().contains(hint), "{error}");
    };
    refused(&[], "no node runs", "`quloud up`, or leave `--wait none` away");
    refused(&["--dry-run"], "a dry run", "leave `--wait none` away");
    // The node of a command that waits for holders for an hour ends with that command.
    let mut waiting = owner.command();
    let file = lab.file("waits", 1_000);
    waiting.args(["put", file.to_str().unwrap(), "--timeout", "3600", "--replicas", "1"]);
    waiting.args(["--mdns", "off", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    waiting.stdout(Stdio::null()).stderr(Stdio::null());
    let mut waiting = Waiting(waiting.spawn().unwrap());
    owner.wait_for("the node of the put", |status| status["running"] == true);
    refused(&[], "ends with the command that started it", "quloud up");
    assert!(waiting.0.try_wait().unwrap().is_none(), "it was there all the time");
}

/// A command that is killed at the end of its test.
struct Waiting(Child);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}
