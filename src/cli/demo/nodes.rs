//! The demo's nodes: child processes of this binary, driven through the command line alone.

use super::account::Account;
use super::failed;
use crate::node::report::{Failure, GetDone, PutDone, Status};
use serde::de::DeserializeOwned;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How long a node may take to come up or to see its peers.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lines of a node's log that a failure shows.
const LOG_LINES: usize = 8;

/// What a node is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeRole {
    Owner,
    Holder,
    Reader,
}

/// One child process with its data folder. Killed when dropped.
pub(super) struct DemoNode {
    name: String,
    role: NodeRole,
    folder: PathBuf,
    program: PathBuf,
    peer_id: String,
    address: String,
    child: Option<Child>,
}

impl DemoNode {
    /// `init`, then `up`, and waits for the line that says it is ready.
    pub(super) fn start(
        parent: &Path,
        number: usize,
        role: NodeRole,
        bootstrap: Option<&str>,
    ) -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| failed("this program cannot find itself", &error.to_string()))?;
        let name = match role {
            NodeRole::Owner => "owner".to_owned(),
            NodeRole::Holder => format!("holder {number}"),
            NodeRole::Reader => "reader".to_owned(),
        };
        let folder = parent.join(format!("node-{number}"));
        let mut node = Self {
            name,
            role,
            folder,
            program,
            peer_id: String::new(),
            address: String::new(),
            child: None,
        };
        let words = node.words_file();
        let words = words.to_string_lossy();
        let init = node.run(&["init", "--yes", "--words-file", &words])?;
        node.expect_success(&init, "init")?;
        node.up(bootstrap)?;
        Ok(node)
    }

    fn up(&mut self, bootstrap: Option<&str>) -> Result<(), Failure> {
        let capacity = if self.role == NodeRole::Holder { "10GB" } else { "0" };
        let mut command = self.command();
        command.args(["up", "--listen", "/ip4/127.0.0.1/tcp/0", "--mdns", "off"]);
        command.args(["--capacity", capacity]);
        if let Some(address) = bootstrap {
            command.args(["--bootstrap", address]);
        }
        command.stdout(Stdio::piped()).stderr(self.log()?);
        let mut child = command.spawn().map_err(|error| self.failed("up", &error.to_string()))?;
        let stdout = child.stdout.take();
        self.child = Some(child);
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = stdout.into_iter().flat_map(|out| BufReader::new(out).lines());
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let line = receiver.recv_timeout(PATIENCE).map_err(|error| {
            let why = match error {
                RecvTimeoutError::Timeout => "it did not print its address in time",
                RecvTimeoutError::Disconnected => "it ended before it printed its address",
            };
            self.failed("up", why)
        })?;
        let peer_id = line.rsplit_once("/p2p/").map(|(_, peer_id)| peer_id.to_owned());
        self.peer_id = peer_id.ok_or_else(|| self.failed("up", &format!("it printed {line:?}")))?;
        self.address = line;
        Ok(())
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn role(&self) -> NodeRole {
        self.role
    }

    pub(super) fn peer_id(&self) -> &str {
        &self.peer_id
    }

    /// A listening address with `/p2p/PEERID`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn words_file(&self) -> PathBuf {
        self.folder.with_extension("words")
    }

    /// What a thief of the disk would carry away.
    pub(super) fn store_folder(&self) -> PathBuf {
        self.folder.join("store")
    }

    pub(super) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// SIGKILL: no goodbye, nothing flushed.
    pub(super) fn kill(&mut self) -> Result<(), Failure> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child
            .kill()
            .and_then(|()| child.wait())
            .map(drop)
            .map_err(|error| self.failed("kill", &error.to_string()))
    }

    pub(super) fn status(&self) -> Result<Status, Failure> {
        let output = self.run(&["status", "--json"])?;
        self.parse(&output, "status")
    }

    /// Waits until exactly `count` members of the mesh are connected: the living all there, the
    /// dead noticed.
    pub(super) fn wait_for_peers(&self, count: usize, account: &Account) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.status()?.peers;
            if seen == count {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.failed("peers", &format!("wanted {count} peers, sees {seen}")));
            }
            account.progress(&format!("{} sees {seen} of {count} peers", self.name))?;
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(super) fn put(&self, path: &Path, replicas: usize) -> Result<PutDone, Failure> {
        let mut command = self.command();
        command.arg("put").arg(path).args(["--replicas", &replicas.to_string(), "--json"]);
        let output = self.finish(command)?;
        self.expect_success(&output, "put")?;
        self.parse(&output, "put")
    }

    pub(super) fn get(&self, capability: &str, target: &Path) -> Result<GetDone, Failure> {
        let mut command = self.command();
        command.args(["get", capability, "--json", "-o"]).arg(target);
        let output = self.finish(command)?;
        self.expect_success(&output, "get")?;
        self.parse(&output, "get")
    }

    /// Whether `get` was refused (rather than done, or failed for a reason of its own).
    pub(super) fn get_refused(&self, capability: &str, target: &Path) -> Result<bool, Failure> {
        let mut command = self.command();
        command.args(["get", capability, "--timeout", "5", "--json", "-o"]).arg(target);
        let output = self.finish(command)?;
        Ok(output.status.code() == Some(4))
    }

    fn run(&self, arguments: &[&str]) -> Result<Output, Failure> {
        let mut command = self.command();
        command.args(arguments);
        self.finish(command)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--data-dir").arg(&self.folder).stdin(Stdio::null());
        // The user's settings are for the user's node, and these nodes are no service.
        let inherited = std::env::vars_os().map(|(name, _)| name);
        for name in inherited.filter(|name| is_ours(name)) {
            command.env_remove(name);
        }
        command
    }

    fn finish(&self, mut command: Command) -> Result<Output, Failure> {
        command.output().map_err(|error| self.failed("run", &error.to_string()))
    }

    fn expect_success(&self, output: &Output, step: &str) -> Result<(), Failure> {
        if output.status.success() {
            return Ok(());
        }
        let told = [output.stdout.as_slice(), b" ", &output.stderr].concat();
        Err(self.failed(step, String::from_utf8_lossy(&told).trim()))
    }

    fn parse<T: DeserializeOwned>(&self, output: &Output, step: &str) -> Result<T, Failure> {
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        serde_json::from_str(last)
            .or_else(|_| serde_json::from_str(&text))
            .map_err(|error| self.failed(step, &format!("{error}: {}", text.trim())))
    }

    /// A node's log lies beside its folder.
    fn log(&self) -> Result<Stdio, Failure> {
        let file = std::fs::File::create(self.folder.with_extension("log"));
        file.map(Stdio::from).map_err(|error| self.failed("log", &error.to_string()))
    }

    /// What went wrong, with the end of the node's log: the folder is gone when the user reads it.
    fn failed(&self, step: &str, why: &str) -> Failure {
        let log = std::fs::read_to_string(self.folder.with_extension("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default();
        let log = if tail.is_empty() { String::new() } else { format!("\n{}", tail.join("\n")) };
        failed(&format!("{step} of the {} went wrong", self.name), &format!("{why}{log}"))
    }
}

/// A variable that a node takes notice of.
fn is_ours(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b"QULOUD_") || name == b"SSLKEYLOGFILE" || name == b"NOTIFY_SOCKET"
}

impl Drop for DemoNode {
    fn drop(&mut self) {
        // Nobody is left to tell; the folder goes with its parent.
        drop(self.kill());
    }
}
