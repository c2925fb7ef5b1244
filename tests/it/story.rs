//! The main job on real processes: put, kill, get.

use crate::processes::{Lab, assert_equal_files, last_object};
use rustix::process::{Pid, Signal, kill_process};
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn nodes_that_know_only_the_first_find_each_other_and_go_on_when_it_is_killed() {
    let mut lab = Lab::new();
    let mut nodes = lab.mesh(5);
    let file = lab.file("before", 3 << 20);
    let before = nodes[1].put(&file, 3);
    assert_eq!(before["replicas"], 3);
    assert_eq!(before["bytes"], 3 << 20);

    nodes[0].kill();
    for node in &nodes[1..] {
        node.wait_for("the dead to be noticed", |status| status["peers"] == 3);
    }
    let back = lab.path().join("before.back");
    nodes[4].get(&before, &back);
    assert_equal_files(&file, &back);

    let file = lab.file("after", 1 << 20);
    let after = nodes[2].put(&file, 3);
    let back = lab.path().join("after.back");
    nodes[3].get(&after, &back);
    assert_equal_files(&file, &back);
}

#[test]
fn acknowledged_chunks_survive_the_kill_of_every_holder() {
    let mut lab = Lab::new();
    let mut nodes = lab.mesh(4);
    let file = lab.file("precious", 6 << 20);
    let put = nodes[0].put(&file, 3);
    for holder in &mut nodes[1..] {
        holder.kill();
    }
    for holder in &mut nodes[1..] {
        holder.up();
    }
    let back = lab.path().join("back");
    nodes[0].get(&put, &back);
    assert_equal_files(&file, &back);
}

#[test]
fn a_holder_killed_in_mid_put_is_replaced_and_nothing_acknowledged_is_lost() {
    let mut lab = Lab::new();
    let mut nodes = lab.mesh(5);
    let file = lab.file("large", 48 << 20);
    let put = nodes[0]
        .command()
        .args(["put", file.to_str().unwrap(), "--replicas", "3", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    nodes[1].wait_for("the first chunks", |status| status["store"]["chunks"].as_u64() > Some(2));
    nodes[1].kill();
    let output = put.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}\n{}", nodes[0].log());
    let put = last_object(&output);
    assert!(put["replicas"].as_u64() >= Some(3));

    // Two of the three holders that are left die too: one must have every chunk.
    nodes[1].up();
    nodes[2].kill();
    nodes[3].kill();
    let back = lab.path().join("back");
    nodes[0].get(&put, &back);
    assert_equal_files(&file, &back);
}

#[test]
fn a_put_that_is_short_exits_with_4_and_the_outbox_completes_it() {
    let mut lab = Lab::new();
    let nodes = lab.mesh(2);
    let file = lab.file("patient", 1 << 20);
    let path = file.to_str().unwrap();
    let output = nodes[0].run(&["put", path, "--replicas", "2", "--timeout", "3", "--json"]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let error = last_object(&output);
    assert_eq!(error["error"]["kind"], "not-enough-holders", "{error}");
    assert!(error["error"]["hint"].as_str().unwrap().contains("quloud status --json"), "{error}");

    let third = lab.node(Some(&nodes[0].address));
    nodes[0].wait_for("the outbox", |status| status["backups"][0]["state"] == "stored");
    // The put printed no capability: the status is where it is.
    let backup = nodes[0].status()["backups"][0].clone();
    let back = lab.path().join("back");
    third.get(&backup, &back);
    assert_equal_files(&file, &back);
}

#[test]
fn put_and_get_work_with_no_node_running() {
    let mut lab = Lab::new();
    let nodes = lab.mesh(3);
    let (owner, reader) = (lab.init(), lab.init());
    let file = lab.file("quick", 2 << 20);
    let bootstrap = ["--bootstrap", nodes[0].address.as_str()];
    let network = ["--mdns", "off", "--listen", "/ip4/127.0.0.1/tcp/0", "--json"];
    let put = ["put", file.to_str().unwrap(), "--replicas", "3"];
    let put = owner.json(&[&put[..], &bootstrap, &network].concat());
    assert_eq!(put["replicas"], 3);

    let back = lab.path().join("back");
    let capability = put["capability"].as_str().unwrap();
    let get = ["get", capability, "-o", back.to_str().unwrap()];
    let get = reader.json(&[&get[..], &bootstrap, &network].concat());
    assert_eq!(get["bytes"], 2 << 20);
    assert_equal_files(&file, &back);
}

#[test]
fn the_owners_own_node_never_counts_as_a_replica() {
    let mut lab = Lab::new();
    let nodes = lab.mesh(3);
    let file = lab.file("mine", 1 << 20);
    let path = file.to_str().unwrap();
    let output = nodes[0].run(&["put", path, "--replicas", "3", "--timeout", "3", "--json"]);
    assert_eq!(output.status.code(), Some(4), "two others cannot hold three: {output:?}");
}

#[test]
fn a_node_ends_cleanly_on_sigterm_and_serves_again_after_a_restart() {
    let mut lab = Lab::new();
    let mut nodes = lab.mesh(3);
    let file = lab.file("kept", 1 << 20);
    let put = nodes[0].put(&file, 2);
    nodes[1].stop();
    nodes[2].stop();
    nodes[2].up();
    let back = lab.path().join("back");
    nodes[0].get(&put, &back);
    assert_equal_files(&file, &back);
}

#[test]
fn the_last_holder_serves_itself() {
    let mut lab = Lab::new();
    let mut nodes = lab.mesh(2);
    let file = lab.file("alone", 2 << 20);
    let put = nodes[0].put(&file, 1);
    nodes[0].kill();
    let back = lab.path().join("back");
    let got = nodes[1].get(&put, &back);
    assert_equal_files(&file, &back);
    assert_eq!(got["holders"][0][0], nodes[1].peer_id.as_str());
}

#[test]
fn a_file_that_changed_in_the_outbox_is_dropped_and_said() {
    let mut lab = Lab::new();
    let nodes = lab.mesh(2);
    let file = lab.file("draft", 1 << 20);
    let path = file.to_str().unwrap();
    let short = nodes[0].run(&["put", path, "--replicas", "2", "--timeout", "2", "--json"]);
    assert_eq!(short.status.code(), Some(4), "{short:?}");
    std::fs::write(&file, "another text").unwrap();
    nodes[0].wait_for("the change to be noticed", |status| {
        let attention = status["attention"].to_string();
        attention.contains("changed") && status["backups"] == serde_json::json!([])
    });
}

#[test]
fn an_interrupted_put_is_taken_up_after_a_restart() {
    let mut lab = Lab::new();
    let mut nodes = lab.mesh(2);
    let file = lab.file("resumed", 4 << 20);
    let path = file.to_str().unwrap();
    let short = nodes[0].run(&["put", path, "--replicas", "2", "--timeout", "2", "--json"]);
    assert_eq!(short.status.code(), Some(4), "{short:?}");
    nodes[0].kill();
    let _third = lab.node(Some(&nodes[1].address));
    nodes[0].up();
    nodes[0].wait_for("the outbox", |status| status["backups"][0]["state"] == "stored");
}

#[test]
fn a_source_that_is_away_during_a_retry_keeps_its_place_in_the_outbox() {
    let mut lab = Lab::new();
    let nodes = lab.mesh(2);
    let file = lab.file("unplugged", 1 << 20);
    let path = file.to_str().unwrap();
    let short = nodes[0].run(&["put", path, "--replicas", "2", "--timeout", "2", "--json"]);
    assert_eq!(short.status.code(), Some(4), "{short:?}");
    let aside = file.with_extension("aside");
    std::fs::rename(&file, &aside).unwrap();
    let _third = lab.node(Some(&nodes[0].address));
    nodes[0].wait_for_log("put is not complete");
    std::fs::rename(&aside, &file).unwrap();
    nodes[0].wait_for("the outbox", |status| status["backups"][0]["state"] == "stored");
}

#[test]
fn an_interrupted_get_leaves_its_part_file_to_the_same_command() {
    let mut lab = Lab::new();
    let owner = lab.node(None);
    // The small one gets the beginning, and has no room for the rest.
    let small = lab.node_with(Some(&owner.address), &["--capacity", "24MB"]);
    owner.wait_for_peers(1);
    let file = lab.file("wide", 32 << 20);
    let beginning = lab.path().join("beginning");
    std::fs::write(&beginning, &std::fs::read(&file).unwrap()[..8 << 20]).unwrap();
    owner.put(&beginning, 1);
    let large = lab.node(Some(&owner.address));
    owner.wait_for_peers(2);
    let put = owner.put(&file, 1);
    let back = lab.path().join("back");
    let part = lab.path().join("back.quloud-part");
    let get = |timeout: &str| {
        let capability = put["capability"].as_str().unwrap();
        let mut command = owner.command();
        command.args(["get", capability, "-o", back.to_str().unwrap(), "--json"]);
        command.args(["--timeout", timeout]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    // One holder has the root; where the other is silent the get begins, and waits for pieces.
    let begun = [&small, &large].into_iter().any(|silent| {
        silent.signal(Signal::STOP);
        let mut waiting = get("3600");
        let deadline = Instant::now() + Duration::from_secs(10);
        while !part.exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(waiting.try_wait().unwrap().is_none(), "a holder of pieces is silent");
        let begun = part.exists();
        kill_process(Pid::from_child(&waiting), Signal::INT).unwrap();
        waiting.wait().unwrap();
        if !begun {
            silent.signal(Signal::CONT);
        }
        begun
    });
    assert!(begun, "one of them has the root");
    // Not refused as another get's: it begins, and misses the silent holder's pieces.
    let output = get("3").wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    small.signal(Signal::CONT);
    large.signal(Signal::CONT);
    owner.get(&put, &back);
    assert_equal_files(&file, &back);
}
