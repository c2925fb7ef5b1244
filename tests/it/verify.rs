//! Looking, forgetting and the drill with real processes: what they print, what they exit with.

use crate::processes::{Lab, Node, last_object};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A folder with a few small files, one of them with an evil name, and a large one.
fn folder(lab: &Lab) -> PathBuf {
    let path = lab.path().join("papers");
    fs::create_dir_all(path.join("below")).unwrap();
    for number in 0..20 {
        fs::write(path.join(format!("below/{number}")), vec![number; 2_000]).unwrap();
    }
    fs::write(path.join(OsStr::from_bytes(b"below/\x1b]0;evil\x07\xff")), b"evil").unwrap();
    fs::rename(lab.file("large", 3 << 20), path.join("large")).unwrap();
    path
}

fn snapshots(owner: &Node) -> Vec<Value> {
    owner.json(&["snapshots", "--json"])["snapshots"].as_array().unwrap().clone()
}

/// Flips a byte of what was stored first: the pieces of the large file.
fn rot(holder: &Node) {
    let files = fs::read_dir(holder.dir.join("store/segments")).unwrap();
    let files = files.map(|file| file.unwrap()).map(|file| (file.metadata().unwrap().len(), file));
    let (_, largest) = files.max_by_key(|(length, _)| *length).unwrap();
    let mut bytes = fs::read(largest.path()).unwrap();
    bytes[2 << 20] ^= 1;
    fs::write(largest.path(), bytes).unwrap();
}

#[test]
fn what_is_looked_at_is_inert_text_and_what_is_forgotten_is_gone() {
    let mut lab = Lab::new();
    let nodes = lab.mesh(2);
    let path = folder(&lab);
    let first = nodes[0].backup(&path);
    fs::write(path.join("below/7"), "something else").unwrap();
    let second = nodes[0].backup(&path);

    let owner = &nodes[0];
    let below = format!("latest:{}/below", path.display());
    let listed = owner.text(&["ls", &below]);
    assert_eq!(listed.lines().count(), 21, "{listed}");
    assert!(listed.contains("below/\\x1b]0;evil\\x07\\xff\n"), "{listed}");
    assert!(!listed.contains('\u{1b}') && !listed.contains('\u{7}'));
    let long = owner.text(&["ls", "--long", &below]);
    assert!(long.lines().all(|line| line.starts_with("-rw")), "{long}");
    let diff = owner.text(&["diff", &first[..8], &second[..8]]);
    assert!(diff.contains(&format!("M  {}/below/7\n", path.display())), "{diff}");
    let found = owner.text(&["find", "large", "--min-size", "1MB"]);
    let expected = format!("{}  {}/large\n", &second[..8], path.display());
    assert!(found.starts_with(&expected) && found.lines().count() == 2, "{found}");

    // One file alone, whose name is no text.
    let evil = OsStr::from_bytes(b"below/\x1b]0;evil\x07\xff");
    let mut of_it = OsString::from("latest:");
    of_it.push(path.join(evil));
    let target = lab.path().join("alone");
    let restored = owner.command().arg("restore").arg(of_it).arg("--target").arg(&target).output();
    let restored = restored.unwrap();
    assert!(restored.status.success(), "{restored:?}\n{}", owner.log());
    let name = Path::new(evil).file_name().unwrap();
    assert_eq!(fs::read(target.join(name)).unwrap(), b"evil");
    let (out, told) = (String::from_utf8(restored.stdout), String::from_utf8(restored.stderr));
    assert!(out.unwrap().contains("below/\\x1b]0;evil\\x07\\xff -> "), "it is inert text");
    let found = format!("snapshot {} of ", &second[..8]);
    let told = told.unwrap();
    assert!(told.starts_with(&found) && told.contains("1 holder agrees, 0 did not"), "{told}");

    let policy = ["forget", "--keep-last", "1", "--json"];
    let dry = owner.run(&[&policy[..], &["--dry-run"]].concat());
    assert_eq!(last_object(&dry)["forgotten"], 1, "{dry:?}");
    assert_eq!(snapshots(owner).len(), 2);
    let forgot = owner.run(&policy);
    assert!(forgot.status.success(), "{forgot:?}");
    let done = last_object(&forgot);
    assert_eq!((&done["forgotten"], &done["kept"]), (&1.into(), &1.into()), "{done}");
    assert_eq!((&done["replicas"], &done["dry_run"]), (&1.into(), &false.into()), "{done}");
    let left = snapshots(owner);
    assert_eq!((left.len(), &left[0]["snapshot"]), (1, &second.as_str().into()));
    assert_eq!(owner.run(&["forget"]).status.code(), Some(2), "a policy keeps something");
    assert_eq!(owner.run(&["ls", &first[..8]]).status.code(), Some(2), "it is gone");
}

#[test]
fn a_drill_and_a_restore_tell_proof_from_damage_and_absence() {
    let mut lab = Lab::new();
    let mut nodes = lab.mesh(2);
    let path = folder(&lab);
    let made = nodes[0].backup(&path);
    let found = format!("snapshot {} of ", &made[..8]);
    let owner = &nodes[0];
    let proven = owner.json(&["verify", "--json"]);
    assert_eq!((&proven["proven"], &proven["files"]), (&true.into(), &22.into()), "{proven}");
    let sample = owner.json(&["verify", "latest", "--sample", "5%", "--json"]);
    assert_eq!((&sample["proven"], &sample["sample_ppm"]), (&true.into(), &50_000.into()));
    assert!(snapshots(owner)[0]["proven"]["at"].as_u64() > Some(0));
    assert!(owner.text(&["snapshots"]).contains("  proven 20"));

    nodes[1].stop();
    rot(&nodes[1]);
    nodes[1].up();
    let owner = &nodes[0];
    owner.wait_for_peers(1);
    let damaged = owner.run(&["verify", "--timeout", "5", "--json"]);
    assert_eq!(damaged.status.code(), Some(10), "{damaged:?}\n{}", owner.log());
    let done = last_object(&damaged);
    assert_eq!((&done["damaged"], &done["unreachable"]), (&1.into(), &0.into()), "{done}");
    let large = path.join("large");
    assert_eq!(done["faults"][0]["name"], large.to_str().unwrap(), "{done}");
    assert_eq!(done["damaged_at"][0][0], nodes[1].peer_id.as_str(), "{done}");
    let verify = owner.run(&["verify", "--timeout", "5"]);
    let told = String::from_utf8(verify.stderr).unwrap();
    assert!(told.contains(&format!("DAMAGED: {}", large.display())), "{told}");
    assert!(told.starts_with(&found) && told.contains("1 holder agrees"), "{told}");
    let next = String::from_utf8(verify.stdout).unwrap();
    assert!(next.contains("run `quloud backup` where the files still are"), "{next}");

    let stranger = lab.node(Some(&nodes[0].address));
    stranger.wait_for_peers(1);
    nodes[1].kill();
    let owner = &nodes[0];
    owner.wait_for("the holder to be missed", |status| status["peers"] == 1);
    let away = owner.run(&["verify", "--timeout", "2", "--json"]);
    assert_eq!(away.status.code(), Some(3), "{away:?}");
    let restore = ["restore", &made[..8], "--timeout", "2", "--json", "--target"];
    let target = lab.path().join("in part");
    let restore = owner.run(&[&restore[..], &[target.to_str().unwrap()]].concat());
    assert_eq!(restore.status.code(), Some(3), "{restore:?}");
    let part = last_object(&restore);
    assert_eq!(part["damaged"], 0, "{part}");
    assert!(part["unreachable"].as_u64() > Some(0), "{part}");
    assert_eq!(part["away"][0], nodes[1].peer_id.as_str(), "{part}");
    let done = last_object(&away);
    assert_eq!((&done["damaged"], &done["proven"]), (&0.into(), &false.into()), "{done}");
    assert_eq!(done["away"][0], nodes[1].peer_id.as_str(), "{done}");
}
