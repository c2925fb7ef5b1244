//! Transcripts with real nodes: each is a process of the binary, and they meet on loopback.

use super::setup::{Home, Transcript};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Every wait ends: far above what the machine needs, and only reached by a failure.
const DEADLINE: Duration = Duration::from_secs(120);

/// Between two looks at something that comes to be.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A node of its own process; killed when dropped.
struct Node {
    home: Home,
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl Node {
    /// Makes keys, starts the node and waits for its first address.
    fn start(bootstrap: Option<&Node>) -> Self {
        Self::start_with(Home::initialised(), bootstrap, &[])
    }

    fn start_with(home: Home, bootstrap: Option<&Node>, environment: &[(&str, &str)]) -> Self {
        let mut arguments = vec!["up", "--quiet"];
        arguments.extend(OFFLINE);
        arguments.extend(["--capacity", "1GB"]);
        if let Some(first) = bootstrap {
            arguments.extend(["--bootstrap", &first.address, "--lan-only"]);
        }
        let mut command = home.command(&arguments);
        command.envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut address = String::new();
        stdout.read_line(&mut address).unwrap();
        assert!(address.contains("/p2p/12D3Koo"), "{address:?}");
        Self { home, child, stdout, address: address.trim().to_owned() }
    }

    fn signal(&self, signal: Signal) {
        send(&self.child, signal);
    }

    /// Waits until it is connected to this many.
    fn wait_for_peers(&self, count: u64) {
        wait_until(|| {
            let status = self.home.run(&["status", "--json"]);
            status.json()["peers"].as_u64().is_some_and(|peers| peers >= count)
        });
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Loopback only, no discovery: nothing of the machine's network takes part.
const OFFLINE: [&str; 4] = ["--listen", "/ip4/127.0.0.1/tcp/0", "--mdns", "off"];

/// An owner's node and three more, all of which know each other.
fn mesh() -> (Node, Vec<Node>) {
    let owner = Node::start(None);
    let holders: Vec<Node> = (0..3).map(|_| Node::start(Some(&owner))).collect();
    owner.wait_for_peers(3);
    (owner, holders)
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[track_caller]
fn wait_until(mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < DEADLINE, "it did not come to be");
        sleep(LOOK_EVERY);
    }
}

/// Starts a command whose output is collected.
fn spawn(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for the end of a command.
fn finish(mut child: Child) -> Transcript {
    wait_until(|| child.try_wait().unwrap().is_some());
    child.wait_with_output().unwrap().into()
}

/// A put at a node without peers: queued, and waiting for holders.
fn waiting_put(owner: &Node, file: &str) -> Child {
    let put = spawn(owner.home.command(&["put", file]));
    wait_until(|| queued(&owner.home));
    put
}

/// Whether a put is in the catalogue of the node that runs.
fn queued(home: &Home) -> bool {
    let status = home.run(&["status", "--json"]).json();
    let backups = status["backups"].as_array();
    status["running"] == true && backups.is_some_and(|backups| !backups.is_empty())
}

/// Bytes that no compressor shortens, different for each seed.
fn write_data(home: &Home, name: &str, bytes: usize, seed: u64) -> String {
    let mut data = vec![0; bytes];
    ChaCha20Rng::seed_from_u64(seed).fill_bytes(&mut data);
    fs::write(home.file(name), data).unwrap();
    home.path(name)
}

#[test]
fn up_prints_its_addresses_and_ends_on_sigterm() {
    let mut node = Node::start(None);
    let status = node.home.run(&["status", "--json"]);
    status.succeeds();
    let document = status.json();
    let listen: Vec<&str> =
        document["listen"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
    assert!(listen.contains(&node.address.as_str()), "{listen:?}");
    assert!(node.address.ends_with(document["peer_id"].as_str().unwrap()));
    assert_eq!(document["running"], true);
    node.home.run(&["up"]).fails(1, "is in use", "stop it first");
    node.signal(Signal::TERM);
    wait_until(|| node.child.try_wait().unwrap().is_some());
    assert_eq!(node.child.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    node.stdout.read_to_string(&mut rest).unwrap();
    assert!(rest.lines().all(|line| line.contains("/p2p/")), "addresses only: {rest:?}");
    assert!(!node.home.file("node/api.sock").exists());
}

#[test]
fn file_comes_back_through_running_nodes() {
    let (owner, holders) = mesh();
    let file = write_data(&owner.home, "data", 3_000_000, 1);
    let put = owner.home.run(&["put", &file, "--replicas", "3", "--json"]);
    put.succeeds();
    let done = put.json();
    assert_eq!(done["bytes"], 3_000_000);
    assert_eq!(done["replicas"], 3);
    assert!(done["chunks"].as_u64().unwrap() >= 2);
    assert!(done["seconds"].as_f64().unwrap() > 0.0);
    let capability = done["capability"].as_str().unwrap();
    // Through a holder, which is not the owner, and not the owner's folder.
    let home = &holders[0].home;
    let get = home.run(&["get", capability, "-o", &home.path("back"), "--json"]);
    get.succeeds();
    assert_eq!(get.json()["bytes"], 3_000_000);
    assert!(fs::read(home.file("back")).unwrap() == fs::read(&file).unwrap());
    let again = home.run_stdin(&["get", "-", "-o", &home.path("again")], capability);
    again.succeeds();
    assert_eq!(again.stdout.trim(), home.path("again"));
    let backups = owner.home.run(&["status", "--json"]).json()["backups"].clone();
    assert_eq!(backups[0]["state"], "stored");
    assert_eq!(owner.home.run(&["peers", "--json"]).json().as_array().unwrap().len(), 3);
}

#[test]
fn put_whose_capability_nobody_reads_says_where_it_is() {
    let owner = Node::start(None);
    let _holder = Node::start(Some(&owner));
    owner.wait_for_peers(1);
    let file = write_data(&owner.home, "data", 100_000, 8);
    for json in [&[][..], &["--json"]] {
        let put = [&["put", &file, "--replicas", "1", "--quiet"][..], json].concat();
        let lost = owner.home.run_closed_stdout(&put);
        lost.fails(1, "could not be printed", "`quloud status --json` shows its capability");
    }
    let backups = owner.home.run(&["status", "--json"]).json()["backups"].clone();
    assert!(backups[0]["capability"].as_str().unwrap().starts_with("quloud1"), "{backups}");
}

#[test]
fn put_and_get_work_with_no_node_running() {
    let first = Node::start(None);
    let others = [Node::start(Some(&first)), Node::start(Some(&first))];
    first.wait_for_peers(2);
    let owner = Home::initialised();
    let file = write_data(&owner, "data", 500_000, 2);
    let own = |arguments: &[&str]| {
        let node = ["--bootstrap", &first.address];
        owner.run(&[arguments, &OFFLINE, &node].concat())
    };
    let put = own(&["put", &file, "--replicas", "3"]);
    put.succeeds();
    assert!(put.stdout.starts_with("quloud1") && put.stdout.lines().count() == 1);
    let status = owner.run(&["status", "--json"]);
    assert_eq!(status.code, 3, "a node that does not run needs attention");
    let document = status.json();
    assert_eq!(document["running"], false);
    assert_eq!(document["backups"][0]["state"], "stored");
    let get = own(&["get", put.stdout.trim(), "-o", &owner.path("back")]);
    get.succeeds();
    assert!(fs::read(owner.file("back")).unwrap() == fs::read(&file).unwrap());
    let peers = own(&["peers", "--json"]);
    assert_eq!(peers.json().as_array().unwrap().len(), 1 + others.len());
}

#[test]
fn put_with_too_few_holders_says_so_and_stays_queued() {
    let owner = Node::start(None);
    let holder = Node::start(Some(&owner));
    owner.wait_for_peers(1);
    let file = write_data(&owner.home, "data", 100_000, 3);
    let short = owner.home.run(&["put", &file, "--replicas", "3", "--timeout", "4", "--json"]);
    assert_eq!(short.code, 4, "{}", short.stdout);
    assert_eq!(short.json()["error"]["kind"], "not-enough-holders");
    let status = owner.home.run(&["status", "--json"]);
    assert_eq!(status.code, 3);
    assert_ne!(status.json()["backups"][0]["state"], "stored");
    // The outbox goes on: with two more holders the file gets there.
    let _more = [Node::start(Some(&holder)), Node::start(Some(&holder))];
    wait_until(|| {
        let status = owner.home.run(&["status", "--json"]).json();
        status["backups"][0]["state"] == "stored"
    });
}

#[test]
fn peers_shows_who_runs_a_node_and_where() {
    let first = Node::start(None);
    let labels = [("QULOUD_OPERATOR", "ann"), ("QULOUD_SITE", "attic")];
    let _second = Node::start_with(Home::initialised(), Some(&first), &labels);
    first.wait_for_peers(1);
    let peers = first.home.run(&["peers"]);
    assert!(peers.stdout.trim_end().ends_with("  site attic  operator ann"), "{}", peers.stdout);
    let peers = first.home.run(&["peers", "--json"]).json();
    assert_eq!((&peers[0]["operator"], &peers[0]["site"]), (&"ann".into(), &"attic".into()));
}

#[test]
fn a_holder_asks_how_it_stands_and_a_node_that_keeps_nothing_asks_nobody() {
    let owner = Node::start(None);
    let holder = Node::start(Some(&owner));
    owner.wait_for_peers(1);
    let file = write_data(&owner.home, "data", 100_000, 4);
    owner.home.run(&["put", &file, "--replicas", "1"]).succeeds();
    owner.home.run(&["audit"]).succeeds();
    let peers = holder.home.run(&["peers", "--standing"]);
    let says = peers.stdout.lines().nth(1).unwrap_or_default();
    let proven = "    says of us: proven, it proved what it was asked for on ";
    assert!(says.starts_with(proven) && peers.stdout.lines().count() == 2, "{}", peers.stdout);
    let peers = holder.home.run(&["peers", "--standing", "--json"]).json();
    assert_eq!(peers[0]["says_of_us"]["answer"], "told");
    assert_eq!(peers[0]["says_of_us"]["standing"], "proven");
    let plain = holder.home.run(&["peers", "--json"]).json();
    assert!(plain[0].get("says_of_us").is_none(), "it was not asked: {plain}");
    let nobody = owner.home.run(&["peers", "--standing"]);
    nobody.succeeds();
    assert!(nobody.stderr.contains("No node was asked"), "{}", nobody.stderr);
    assert!(!nobody.stdout.contains("says"), "{}", nobody.stdout);
}

/// The steps of the demo, in their order.
const STEPS: [&str; 13] = [
    "mesh", "files", "backup", "again", "audit", "heal", "holder", "owner", "recover", "restore",
    "first", "stranger", "thief",
];

#[test]
fn demo_verifies_every_step_whatever_is_stored_whoever_holds_it_and_whatever_is_set() {
    let home = Home::new();
    // It compresses to next to nothing, and three of six hold it.
    fs::write(home.file("zeros"), vec![0; 2_000_000]).unwrap();
    fs::create_dir(home.file("tmp")).unwrap();
    let tmp = home.path("tmp");
    let environment = [
        ("QULOUD_SITE", "home"),
        ("QULOUD_BOGUS", "1"),
        ("SSLKEYLOGFILE", "keys"),
        ("TMPDIR", tmp.as_str()),
    ];
    let demo = home.run_with(&["demo", "zeros", "--nodes", "7", "--json"], &environment);
    demo.succeeds();
    let document = demo.json();
    let steps = document["steps"].as_array().unwrap();
    let names: Vec<&str> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(names, STEPS);
    let said = |name: &str| {
        let at = STEPS.iter().position(|step| *step == name).unwrap();
        steps[at]["verified"].as_str().unwrap().to_owned()
    };
    assert!(said("backup").contains("each acknowledged by 3 nodes"), "{}", said("backup"));
    assert!(said("again").starts_with("a line more in one file"), "{}", said("again"));
    assert!(said("audit").contains("the audit named all three and"), "{}", said("audit"));
    assert!(said("heal").ends_with("proven, 3 of each"), "{}", said("heal"));
    assert!(said("holder").starts_with("SIGKILL to holder "), "{}", said("holder"));
    assert!(said("recover").contains("found 2 snapshots of 1 device"), "{}", said("recover"));
    for name in ["restore", "first"] {
        let equal = "1 hard link equal in bytes, names, modes, times to the nanosecond and owners";
        assert!(said(name).contains(equal), "{}", said(name));
    }
    assert!(said("stranger").ends_with("refused, nothing served"), "{}", said("stranger"));
    assert!(said("thief").ends_with("none there"), "{}", said("thief"));
    assert!(!home.file("keys").exists());
    assert_eq!(fs::read(home.file("zeros")).unwrap(), vec![0; 2_000_000], "a copy was edited");
    assert_eq!(fs::read_dir(home.file("tmp")).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn demo_that_is_interrupted_leaves_neither_nodes_nor_files() {
    let home = Home::new();
    fs::write(home.file("file"), "content").unwrap();
    fs::create_dir(home.file("tmp")).unwrap();
    let mut command = home.command(&["demo", "file", "--quiet"]);
    command.env("TMPDIR", home.path("tmp"));
    let demo = spawn(command);
    // Its owner runs, and others are started.
    let scratch = || fs::read_dir(home.file("tmp")).unwrap().flatten().next();
    wait_until(|| scratch().is_some_and(|scratch| scratch.path().join("node-1/lock").exists()));
    let pids: Vec<i32> = (0..2)
        .filter_map(|node| {
            let lock = scratch()?.path().join(format!("node-{node}/lock"));
            fs::read_to_string(lock).ok()?.trim().parse().ok()
        })
        .collect();
    assert!(!pids.is_empty());
    send(&demo, Signal::TERM);
    finish(demo).fails(1, "interrupted", "start it again");
    assert_eq!(fs::read_dir(home.file("tmp")).unwrap().count(), 0, "the folder is gone");
    for pid in pids {
        let alive = test_kill_process(Pid::from_raw(pid).unwrap()).is_ok();
        assert!(!alive, "node {pid} runs on");
    }
}

#[test]
fn capability_of_nothing_gets_nothing() {
    let (owner, _holders) = mesh();
    let out = owner.home.path("out");
    let get = owner.home.run(&["get", &super::capability(), "-o", &out, "--timeout", "3"]);
    assert_eq!(get.code, 4, "{}", get.stderr);
    assert!(!owner.home.file("out").exists());
}

#[test]
fn get_with_nobody_connected_says_so() {
    let alone = Node::start(None);
    let out = alone.home.path("out");
    let get = alone.home.run(&["get", &super::capability(), "-o", &out, "--timeout", "2"]);
    get.fails(4, "was not written", "start more of the mesh's nodes");
    assert!(get.stderr.contains("no other node of the mesh is connected"), "{}", get.stderr);
}

#[test]
fn node_killed_in_mid_command_gives_a_clear_error() {
    let owner = Node::start(None);
    let file = write_data(&owner.home, "data", 100_000, 4);
    let put = waiting_put(&owner, &file);
    owner.signal(Signal::KILL);
    let put = finish(put);
    put.fails(1, "ended in the middle", "`quloud up`: a put that it had begun goes on by itself");
    assert!(!put.stderr.contains("command again"), "a second put: {}", put.stderr);
}

#[test]
fn interrupted_put_ends_and_leaves_the_node_running() {
    let owner = Node::start(None);
    let file = write_data(&owner.home, "data", 100_000, 5);
    let put = waiting_put(&owner, &file);
    send(&put, Signal::INT);
    finish(put).fails(1, "interrupted", "the running node goes on with it; `quloud status --json`");
    assert_eq!(owner.home.run(&["status", "--json"]).json()["running"], true);
}

#[test]
fn interrupted_put_with_a_node_of_its_own_says_what_sends_the_rest() {
    let home = Home::initialised();
    let file = write_data(&home, "data", 100_000, 7);
    let put = spawn(home.command(&[&["put", &file][..], &OFFLINE].concat()));
    wait_until(|| queued(&home));
    send(&put, Signal::INT);
    finish(put).fails(1, "interrupted", "as soon as `quloud up` runs; `quloud status --json`");
    let status = home.run(&["status", "--json"]).json();
    assert_eq!(status["running"], false);
    assert_eq!(status["store"], serde_json::Value::Null, "it is not open");
    let attention: Vec<&str> =
        status["attention"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let [not_running, short] = attention[..] else { panic!("{attention:?}") };
    assert!(not_running.contains("not running"), "{not_running}");
    assert_eq!(short, "1 put is short of replicas; `quloud up` goes on trying");
    assert_eq!(status["backups"][0]["name"], "data");
}

#[test]
fn stopping_the_node_tells_waiting_commands() {
    let mut owner = Node::start(None);
    let file = write_data(&owner.home, "data", 100_000, 6);
    let put = waiting_put(&owner, &file);
    owner.signal(Signal::TERM);
    let put = finish(put);
    put.fails(1, "the work was not finished", "`quloud up`: a put that it had begun goes on by");
    assert!(put.stderr.contains("why: the node was told to stop"), "{}", put.stderr);
    wait_until(|| owner.child.try_wait().unwrap().is_some());
    assert_eq!(owner.child.wait().unwrap().code(), Some(0));
}
