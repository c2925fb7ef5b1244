//! `quloud prune` with real processes: what it prints, what it exits with.

use crate::processes::{Lab, last_object};
use std::fs;
use std::path::PathBuf;

/// A folder with a few small files and a large one.
fn folder(lab: &Lab) -> PathBuf {
    let path = lab.path().join("papers");
    fs::create_dir_all(&path).unwrap();
    for number in 0..5_u8 {
        fs::write(path.join(number.to_string()), vec![number; 2_000]).unwrap();
    }
    fs::rename(lab.file("large", 3 << 20), path.join("large")).unwrap();
    path
}

#[test]
fn what_nobody_needs_goes_and_is_counted_and_the_rest_is_proven() {
    let mut lab = Lab::new();
    let mut nodes = lab.mesh(2);
    let path = folder(&lab);
    nodes[0].backup(&path);
    fs::rename(lab.file("other", 3 << 20), path.join("large")).unwrap();
    let second = nodes[0].backup(&path);
    let owner = &nodes[0];
    let nothing = owner.text(&["prune"]);
    assert!(nothing.starts_with("nothing to let go: no snapshot was forgotten"), "{nothing}");
    let short = owner.run(&["prune", "--accept-forgets", "0123456789abcdef,0123"]);
    assert_eq!(short.status.code(), Some(2), "{short:?}");
    let accept = owner.json(&["prune", "--accept-forgets", "0123456789abcdef", "--json"]);
    let note = accept["notes"][0].as_str().unwrap();
    assert!(note.starts_with("no snapshot waits") && note.ends_with("abcdef"), "{accept}");

    let forgot = owner.text(&["forget", "--keep-last", "1"]);
    assert!(forgot.ends_with("; `quloud prune` lets go what only they need\n"), "{forgot}");
    let dry = owner.text(&["prune", "--dry-run"]);
    assert!(
        dry.contains(&nodes[1].peer_id) && dry.contains("would be let go at 1 holder"),
        "{dry}"
    );
    let done = owner.json(&["prune", "--json"]);
    assert_eq!((&done["dry_run"], &done["snapshots"]), (&false.into(), &1.into()), "{done}");
    assert!(done["chunks"].as_u64() > Some(3) && done["bytes"].as_u64() >= Some(3 << 20), "{done}");
    assert_eq!(done["holders"][0]["peer_id"], nodes[1].peer_id.as_str(), "{done}");
    assert!(done["delay_s"].as_u64() > Some(6 * 86_400) && done["waiting_total"] == 0, "{done}");
    assert_eq!(done["prune"].as_str().map(str::len), Some(32), "{done}");
    let proven = owner.json(&["verify", "--json"]);
    assert_eq!((&proven["proven"], &proven["files"]), (&true.into(), &6.into()), "{proven}");

    fs::rename(lab.file("third", 3 << 20), path.join("large")).unwrap();
    let third = owner.backup(&path);
    let both = owner.run(&["forget", &second, "--prune", "--json"]);
    assert!(both.status.success(), "{both:?}");
    assert!(last_object(&both)["chunks"].as_u64() > Some(3), "{both:?}");
    assert_eq!(owner.run(&["forget", &third, "--prune", "--dry-run"]).status.code(), Some(2));

    fs::rename(lab.file("fourth", 3 << 20), path.join("large")).unwrap();
    owner.backup(&path);
    owner.text(&["forget", &third]);
    nodes[1].stop();
    let owner = &nodes[0];
    let alone = owner.run(&["prune", "--timeout", "5"]);
    assert_eq!(alone.status.code(), Some(4), "nobody is there: {alone:?}");
    nodes[1].up();
    nodes[0].wait_for_peers(1);
    let done = nodes[0].json(&["prune", "--json"]);
    assert!(done["chunks"].as_u64() > Some(3), "{done}");
}

#[test]
fn a_machine_without_the_delete_key_takes_it_from_a_private_file() {
    let mut lab = Lab::new();
    let holder = lab.node(None);
    let mut owner = lab.init();
    let words = lab.path().join("the words");
    fs::remove_dir_all(&owner.dir).unwrap();
    let of_words = words.to_str().unwrap();
    let init = ["init", "--yes", "--words-file", of_words, "--without-delete-key"];
    assert!(owner.run(&init).status.success());
    owner.join(&holder.address);
    owner.up();
    owner.wait_for_peers(1);
    let path = folder(&lab);
    let first = owner.backup(&path);
    fs::rename(lab.file("other", 3 << 20), path.join("large")).unwrap();
    owner.backup(&path);
    owner.text(&["forget", &first]);
    let refused = owner.run(&["prune"]);
    assert_eq!(refused.status.code(), Some(5), "{refused:?}");
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("without the delete key") && told.contains("--words-file"), "{told}");
    let others = lab.path().join("node-0.words");
    let wrong = owner.run(&["prune", "--words-file", others.to_str().unwrap()]);
    assert_eq!(wrong.status.code(), Some(5), "{wrong:?}");
    let done = owner.json(&["prune", "--words-file", of_words, "--json"]);
    assert!(done["chunks"].as_u64() > Some(3), "{done}");
    let secret = fs::read_to_string(&words).unwrap();
    let some: Vec<&str> = secret.split_whitespace().take(3).collect();
    assert!(!owner.log().contains(&some.join(" ")));
}
