//! Real nodes as child processes of the real binary, driven through the command line alone.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Generous: the machine may be slow. Nothing waits this long where all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A data folder with keys; a running node while `child` is there.
pub(crate) struct Node {
    pub(crate) dir: PathBuf,
    pub(crate) peer_id: String,
    pub(crate) address: String,
    child: Option<Child>,
    listen: String,
    extra: Vec<String>,
}

/// Nodes below one temporary folder.
pub(crate) struct Lab {
    folder: TempDir,
    made: usize,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), made: 0 }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A node that was initialised and does not run.
    pub(crate) fn init(&mut self) -> Node {
        let dir = self.folder.path().join(format!("node-{}", self.made));
        self.made += 1;
        let words = dir.with_extension("words");
        let node = Node {
            dir,
            peer_id: String::new(),
            address: String::new(),
            child: None,
            listen: "/ip4/127.0.0.1/tcp/0".to_owned(),
            extra: Vec::new(),
        };
        let output = node.run(&["init", "--yes", "--words-file", words.to_str().unwrap()]);
        assert!(output.status.success(), "init: {output:?}");
        node
    }

    /// A running node.
    pub(crate) fn node(&mut self, bootstrap: Option<&str>) -> Node {
        self.node_with(bootstrap, &["--capacity", "10GB"])
    }

    pub(crate) fn node_with(&mut self, bootstrap: Option<&str>, extra: &[&str]) -> Node {
        let mut node = self.init();
        node.extra = extra.iter().map(ToString::to_string).collect();
        if let Some(address) = bootstrap {
            node.extra.extend(["--bootstrap".to_owned(), address.to_owned()]);
        }
        node.up();
        node
    }

    /// A mesh in which every node was given only the first one's address.
    pub(crate) fn mesh(&mut self, count: usize) -> Vec<Node> {
        let first = self.node(None);
        let address = first.address.clone();
        let mut nodes = vec![first];
        nodes.extend((1..count).map(|_| self.node(Some(&address))));
        for node in &nodes {
            node.wait_for_peers(count - 1);
        }
        nodes
    }

    /// A file of `bytes` bytes that do not compress, always the same for a name.
    pub(crate) fn file(&self, name: &str, bytes: usize) -> PathBuf {
        use rand::{Rng, SeedableRng};
        let seed = name.bytes().fold(7_u64, |seed, byte| seed * 31 + u64::from(byte));
        let mut content = vec![0; bytes];
        rand_chacha::ChaCha20Rng::seed_from_u64(seed).fill_bytes(&mut content);
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Node {
    /// It is to join the mesh of this address when it starts.
    pub(crate) fn join(&mut self, address: &str) {
        self.extra = ["--capacity", "10GB", "--bootstrap", address].map(str::to_owned).to_vec();
    }

    /// Starts it and waits for the line that says it is ready. Keeps its port over restarts.
    pub(crate) fn up(&mut self) {
        let mut command = self.command();
        command.args(["up", "--mdns", "off", "--listen", &self.listen]).args(&self.extra);
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.with_extension("log"))
            .unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        self.child = Some(child);
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let line = receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            panic!("no address from up: {}", self.log());
        });
        let (address, peer_id) = line.rsplit_once("/p2p/").unwrap();
        self.peer_id = peer_id.to_owned();
        self.listen = address.to_owned();
        self.address = line;
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.with_extension("log")).unwrap_or_default()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, and waits for a clean end.
    pub(crate) fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success(), "SIGTERM is a clean end: {status:?} {}", self.log());
    }

    /// Stops or continues it.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.child.as_ref().unwrap());
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quloud"));
        command.arg("--data-dir").arg(&self.dir).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    /// Runs a command that must succeed and gives its last line as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}\n{}", self.log());
        last_object(&output)
    }

    /// Runs a command that must succeed and gives what it prints.
    pub(crate) fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Backs a path up to one node; gives the snapshot's id.
    pub(crate) fn backup(&self, path: &Path) -> String {
        let done = self.json(&["backup", path.to_str().unwrap(), "--replicas", "1", "--json"]);
        done["snapshot"].as_str().unwrap().to_owned()
    }

    pub(crate) fn status(&self) -> Value {
        last_object(&self.run(&["status", "--json"]))
    }

    pub(crate) fn wait_for_peers(&self, count: usize) {
        self.wait_for(&format!("{count} peers"), |status| {
            status["peers"].as_u64() >= Some(count as u64)
        });
    }

    /// Waits until `status` says so. A node answers what it is asked and tells nobody of changes:
    /// so it is asked until that is there, or too late.
    pub(crate) fn wait_for(&self, what: &str, enough: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if enough(&status) {
                return;
            }
            assert!(Instant::now() < deadline, "waited for {what}: {status}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "waited for {text:?} in\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn put(&self, file: &Path, replicas: u8) -> Value {
        let replicas = replicas.to_string();
        self.json(&["put", file.to_str().unwrap(), "--replicas", &replicas, "--json"])
    }

    pub(crate) fn get(&self, put: &Value, target: &Path) -> Value {
        let capability = put["capability"].as_str().unwrap();
        self.json(&["get", capability, "-o", target.to_str().unwrap(), "--json"])
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

/// The last line of standard output as an object, or all of it where it is one document.
pub(crate) fn last_object(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    serde_json::from_str(last)
        .or_else(|_| serde_json::from_str(&text))
        .unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Whether two files are equal, without printing them where they are not.
pub(crate) fn assert_equal_files(left: &Path, right: &Path) {
    let (left, right) = (std::fs::read(left).unwrap(), std::fs::read(right).unwrap());
    assert!(left == right, "the files differ ({} and {} bytes)", left.len(), right.len());
}
