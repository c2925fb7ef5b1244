//! Audits and healing with real processes: damage that is really there is named, with its files,
//! and mended; also by a machine that has nothing but the words.

use crate::processes::{Lab, Node, last_object};
use quloud::core::effect::Input;
use quloud::core::types::{ChunkId, Ticket};
use quloud::crypto::keys::WrapKey;
use quloud::node::datadir::{DataDir, Identity};
use quloud::store::writer::Options;
use quloud::store::{ChunkStore, StoreConfig};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::mpsc::channel;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A folder with small files, which are one pack, and a large one.
fn folder(lab: &Lab) -> PathBuf {
    let path = lab.path().join("photos");
    fs::create_dir_all(path.join("small")).unwrap();
    for number in 0..20_u8 {
        fs::write(path.join(format!("small/{number}")), vec![number; 2_000]).unwrap();
    }
    fs::rename(lab.file("large", 5 << 20), path.join("large")).unwrap();
    path
}

/// Flips one byte in the middle of what the holder's largest segment has.
fn rot(holder: &Node) {
    let files = fs::read_dir(holder.dir.join("store/segments")).unwrap();
    let files = files.map(|file| file.unwrap()).map(|file| (file.metadata().unwrap().len(), file));
    let (_, largest) = files.max_by_key(|(length, _)| *length).unwrap();
    let mut bytes = fs::read(largest.path()).unwrap();
    bytes[1 << 20] ^= 1;
    fs::write(largest.path(), bytes).unwrap();
}

/// Deletes the largest chunk that the holder, which does not run, keeps for anybody.
fn delete_one(holder: &Node) {
    let dir = DataDir::open(&holder.dir).unwrap();
    let identity = Identity::load(dir, || unreachable!("the keys have no passphrase")).unwrap();
    let config = StoreConfig {
        dir: holder.dir.join("store"),
        options: Options::with_reserve(10_000_000_000, 0),
    };
    let (send, inputs) = channel();
    let told = Box::new(move |input| drop(send.send(input)));
    let wrap = WrapKey::from_bytes(*identity.node.wrap_key().expose());
    let (store, _) = ChunkStore::open(&config, wrap, [1; 32], told).unwrap();
    let next = || inputs.recv_timeout(Duration::from_secs(60)).expect("the store answers");
    let mut largest: Option<(u32, ChunkId)> = None;
    for account in store.usage().into_keys() {
        store.list(Ticket(1), account, ChunkId::from_bytes([0; 32]), 4_096).unwrap();
        let listed = loop {
            if let Input::ChunksListed { result, .. } = next() {
                break result.unwrap().0;
            }
        };
        let all = listed.iter().map(|chunk| (chunk.sealed_bytes, chunk.id));
        largest = largest.max(all.max());
    }
    store.delete(Ticket(2), largest.expect("it keeps something").1).unwrap();
    while !matches!(next(), Input::ChunkDeleted { result: Ok(_), .. }) {}
    store.close();
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("no {field} in {value}"))
}

/// Audits; gives what it came to, and the exit code.
fn audit(owner: &Node) -> (Value, Option<i32>) {
    let output = owner.run(&["audit", "--json"]);
    (object(&output, owner), output.status.code())
}

fn object(output: &Output, owner: &Node) -> Value {
    assert!(!output.stdout.is_empty(), "{output:?}\n{}", owner.log());
    last_object(output)
}

/// What an audit found at one holder.
fn at<'a>(done: &'a Value, holder: &Node) -> &'a Value {
    let holders = done["holders"].as_array().unwrap();
    let it = holders.iter().find(|it| it["peer_id"] == holder.peer_id.as_str());
    it.unwrap_or_else(|| panic!("{} is not among {done}", holder.peer_id))
}

/// Damages two holders of four, each in one chunk: one flips a bit, one deletes. Gives which.
fn damage(nodes: &mut [Node]) -> (usize, usize) {
    let chunks = |node: &Node| node.status()["store"]["chunks"].as_u64().unwrap();
    let holders: Vec<usize> = (1..nodes.len()).filter(|at| chunks(&nodes[*at]) > 0).collect();
    let (rotten, deleter) = (holders[0], holders[1]);
    nodes[rotten].stop();
    rot(&nodes[rotten]);
    nodes[rotten].up();
    nodes[deleter].stop();
    delete_one(&nodes[deleter]);
    nodes[deleter].up();
    nodes[0].wait_for_peers(4);
    (rotten, deleter)
}

/// Heals, and finds nothing wrong after that.
fn heal_and_audit(owner: &Node) {
    let healed = owner.run(&["heal", "--json"]);
    assert_eq!(healed.status.code(), Some(0), "{healed:?}\n{}", owner.log());
    let healed = object(&healed, owner);
    assert_eq!(number(&healed, "healed"), number(&healed, "short"), "{healed}");
    assert_eq!((number(&healed, "lost"), number(&healed, "still_short")), (0, 0), "{healed}");
    let (clean, code) = audit(owner);
    assert_eq!(code, Some(0), "{clean}\n{}", owner.log());
    assert_eq!(number(&clean, "proven"), number(&clean, "replicas"), "{clean}");
    assert_eq!(number(&clean, "replicas"), 3 * number(&clean, "chunks"), "{clean}");
}

/// How the newest snapshot is stored, as `status` tells it.
fn stored(owner: &Node) -> Value {
    owner.status()["snapshots"]["sets"][0]["newest"]["replicas"].clone()
}

/// Waits until it is told as safe; what is told then. A node tells nobody of it, so it is asked for
/// until it is so, or too late.
fn until_safe(owner: &Node) -> Value {
    let deadline = Instant::now() + Duration::from_secs(180);
    loop {
        let told = stored(owner);
        if told["word"] == "safe" {
            let evidence = &told["evidence"];
            assert_eq!(
                (&told["target"], &evidence["acked_only"]),
                (&3.into(), &0.into()),
                "{told}"
            );
            assert_eq!(number(evidence, "proven"), 3 * number(evidence, "chunks"), "{told}");
            return told;
        }
        assert!(Instant::now() < deadline, "{told}\n{}", owner.log());
        sleep(Duration::from_millis(200));
    }
}

fn backed_up(lab: &Lab, nodes: &[Node]) -> PathBuf {
    let path = folder(lab);
    let made = nodes[0].json(&["backup", path.to_str().unwrap(), "--replicas", "3", "--json"]);
    assert_eq!(made["replicas"], 3, "{made}");
    path
}

fn names(done: &Value) -> Vec<&str> {
    done["files"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap()).collect()
}

#[test]
fn damage_at_two_holders_is_named_with_its_files_and_healed() {
    let mut lab = Lab::new();
    let mut nodes = lab.mesh(5);
    let path = backed_up(&lab, &nodes);
    let (clean, code) = audit(&nodes[0]);
    assert_eq!(code, Some(0), "{clean}\n{}", nodes[0].log());
    let replicas = number(&clean, "replicas");
    assert_eq!((number(&clean, "proven"), number(&clean, "silent")), (replicas, 0), "{clean}");
    assert!(number(&clean, "bytes_moved") > 4_112, "{clean}");

    let by_macs = nodes[0].json(&["audit", "--kind", "mac", "--json"]);
    assert_eq!(number(&by_macs, "proven"), replicas, "{by_macs}");
    let pieces = 5;
    assert!((3 * pieces..replicas).contains(&number(&by_macs, "by_mac")), "{by_macs}");

    let safe = until_safe(&nodes[0]);
    let (rotten, deleter) = damage(&mut nodes);
    let (found, code) = audit(&nodes[0]);
    assert_eq!(code, Some(10), "{found}\n{}", nodes[0].log());
    let told = stored(&nodes[0]);
    // It may be healed by now, and then it is safe since then.
    let is_new = told["word"] != "safe" || number(&told, "since") > number(&safe, "since");
    assert!(is_new, "{told} after {safe}");
    assert_eq!(number(&found, "damaged"), 2, "{found}");
    assert_eq!(number(at(&found, &nodes[rotten]), "rotten"), 1, "{found}");
    assert_eq!(number(at(&found, &nodes[deleter]), "missing"), 1, "{found}");
    let large = path.join("large");
    assert!(names(&found).contains(&large.to_str().unwrap()), "{found}");
    heal_and_audit(&nodes[0]);
    until_safe(&nodes[0]);
    restored(&lab, &nodes[0], &path, "after");
}

#[test]
fn a_machine_that_has_nothing_but_the_words_audits_and_heals() {
    let mut lab = Lab::new();
    let mut nodes = lab.mesh(5);
    let path = backed_up(&lab, &nodes);
    let words = nodes[0].dir.with_extension("words");
    nodes[0].kill();
    fs::remove_dir_all(&nodes[0].dir).unwrap();
    let bootstrap = nodes[3].address.clone();
    let recover = ["recover", "--words-file", words.to_str().unwrap(), "--bootstrap", &bootstrap];
    nodes[0].json(&[&recover[..], &["--json"]].concat());
    nodes[0].join(&bootstrap);
    nodes[0].up();
    nodes[0].wait_for_peers(4);

    // Whoever has lost a chunk does not list it: nobody tells that it should have had it, but that
    // it is short of a replica.
    let (rotten, _) = damage(&mut nodes);
    let (found, code) = audit(&nodes[0]);
    assert_eq!(code, Some(10), "{found}\n{}", nodes[0].log());
    assert_eq!(number(at(&found, &nodes[rotten]), "rotten"), 1, "{found}");
    assert!((1..=2).contains(&number(&found, "short")), "{found}");
    assert!(names(&found).contains(&path.join("large").to_str().unwrap()), "{found}");
    heal_and_audit(&nodes[0]);
    until_safe(&nodes[0]);
    restored(&lab, &nodes[0], &path, "after");
}

fn restored(lab: &Lab, owner: &Node, path: &Path, name: &str) {
    let target = lab.path().join(name);
    let restore = ["restore", "latest", "--target", target.to_str().unwrap(), "--json"];
    owner.json(&restore);
    let restored = walk(&target).into_iter().find(|file| file.ends_with("large")).unwrap();
    assert_eq!(fs::read(restored).unwrap(), fs::read(path.join("large")).unwrap());
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| if path.is_dir() { walk(&path) } else { vec![path] };
    entries.flat_map(below).collect()
}
