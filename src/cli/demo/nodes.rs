//! The demo's nodes: child processes of this binary, driven through the command line alone.

use super::account::{Account, ended};
use super::failed;
use crate::cli::signals::Interrupt;
use crate::node::report::{
    AuditDone, BackupDone, Failure, HealDone, Recovered, RestoreDone, SnapshotReport, Snapshots,
    Status,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How long a node may take to come up or to see its peers.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a wait looks whether the user still wants it.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long somebody without a key asks.
const REFUSED_AFTER_S: &str = "1";

/// The exit code of who was served by nobody.
const REFUSED: i32 = 4;

/// No node of the demo meets others.
const ALONE: [&str; 4] = ["--listen", "/ip4/127.0.0.1/tcp/0", "--mdns", "off"];

/// Lines of a node's log that a failure shows.
const LOG_LINES: usize = 8;

/// What a node is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeRole {
    Owner,
    Holder,
    /// The owner's new machine.
    Recovered,
    /// Somebody who has neither a chunk nor a key.
    Stranger,
}

/// What `recover` prints.
#[derive(Deserialize)]
pub(super) struct FoundAgain {
    #[serde(flatten)]
    pub(super) found: Recovered,
    pub(super) snapshots: Vec<SnapshotReport>,
}

/// One child process with its data folder. Killed when dropped.
pub(super) struct DemoNode {
    name: String,
    role: NodeRole,
    folder: PathBuf,
    program: PathBuf,
    address: String,
    child: Option<Child>,
    interrupt: Interrupt,
}

impl DemoNode {
    /// A node that has no keys yet.
    pub(super) fn new(
        parent: &Path,
        number: usize,
        role: NodeRole,
        interrupt: Interrupt,
    ) -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| failed("this program cannot find itself", &error.to_string()))?;
        let name = match role {
            NodeRole::Owner => "owner".to_owned(),
            NodeRole::Holder => format!("holder {number}"),
            NodeRole::Recovered => "new node".to_owned(),
            NodeRole::Stranger => "stranger".to_owned(),
        };
        let folder = parent.join(format!("node-{number}"));
        Ok(Self { name, role, folder, program, address: String::new(), child: None, interrupt })
    }

    /// Makes its keys, and puts the words where [`Self::words_file`] says.
    pub(super) fn init(&self) -> Result<(), Failure> {
        let words = self.words_file();
        let words = words.to_string_lossy();
        let init = self.run(&["init", "--yes", "--words-file", &words])?;
        self.expect_success(&init, "init")
    }

    /// Makes it a device of the owner, in place of [`Self::init`].
    pub(super) fn recover(&self, words: &Path, address: &str) -> Result<FoundAgain, Failure> {
        let mut command = self.command();
        command.args(["recover", "--yes", "--json", "--words-file"]).arg(words);
        command.args(["--bootstrap", address]).args(ALONE);
        let output = self.finish(command)?;
        self.expect_success(&output, "recover")?;
        self.parse(&output, "recover")
    }

    /// Starts it, and waits for the line that says it is ready.
    pub(super) fn up(&mut self, bootstrap: Option<&str>) -> Result<(), Failure> {
        let capacity = if self.role == NodeRole::Holder { "100GB" } else { "0" };
        let mut command = self.command();
        command.arg("up").args(ALONE).args(["--capacity", capacity]);
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
        if !line.contains("/p2p/") {
            return Err(self.failed("up", &format!("it printed {line:?}")));
        }
        self.address = line;
        Ok(())
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// All that it has.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
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
            std::thread::sleep(LOOK_EVERY);
        }
    }

    pub(super) fn backup(&self, path: &Path, replicas: u8) -> Result<BackupDone, Failure> {
        let mut command = self.command();
        command.arg("backup").arg(path).args(["--replicas", &replicas.to_string(), "--json"]);
        let output = self.finish(command)?;
        self.expect_success(&output, "backup")?;
        self.parse(&output, "backup")
    }

    /// What an audit finds, and its exit code.
    pub(super) fn audit(&self) -> Result<(AuditDone, i32), Failure> {
        let output = self.run(&["audit", "--json"])?;
        let code = output.status.code().unwrap_or(-1);
        Ok((self.parse(&output, "audit")?, code))
    }

    pub(super) fn heal(&self) -> Result<HealDone, Failure> {
        let output = self.run(&["heal", "--json"])?;
        self.expect_success(&output, "heal")?;
        self.parse(&output, "heal")
    }

    pub(super) fn snapshots(&self) -> Result<Snapshots, Failure> {
        let output = self.run(&["snapshots", "--json"])?;
        self.expect_success(&output, "snapshots")?;
        self.parse(&output, "snapshots")
    }

    pub(super) fn restore(&self, snapshot: &str, target: &Path) -> Result<RestoreDone, Failure> {
        let mut command = self.command();
        command.args(["restore", snapshot, "--json", "--target"]).arg(target);
        let output = self.finish(command)?;
        self.expect_success(&output, "restore")?;
        self.parse(&output, "restore")
    }

    /// A `get` that must be refused, rather than done or failed for a reason of its own.
    pub(super) fn get_refused(&self, capability: &str, target: &Path) -> Result<(), Failure> {
        let mut command = self.command();
        command.args(["get", capability, "--timeout", REFUSED_AFTER_S, "--json", "-o"]).arg(target);
        let output = self.finish(command)?;
        match output.status.code() == Some(REFUSED) && !target.exists() {
            true => Ok(()),
            false => Err(self.failed("a get without the key", &told(&output))),
        }
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

    /// Runs a command to its end, or to that of the user's patience.
    fn finish(&self, mut command: Command) -> Result<Output, Failure> {
        let why = |error: std::io::Error| self.failed("run", &error.to_string());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Command::spawn(&mut command).map_err(why)?;
        let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
        let mut told = [Vec::new(), Vec::new()];
        for (told, pipe) in told.iter_mut().zip([stdout, stderr]) {
            *told = loop {
                match pipe.recv_timeout(LOOK_EVERY) {
                    Ok(bytes) => break bytes,
                    Err(RecvTimeoutError::Timeout) if self.interrupt.is_set() => {
                        // It may have ended by itself.
                        drop(child.kill());
                        drop(child.wait());
                        return Err(ended());
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break Vec::new(),
                }
            };
        }
        let [stdout, stderr] = told;
        Ok(Output { status: child.wait().map_err(why)?, stdout, stderr })
    }

    fn expect_success(&self, output: &Output, step: &str) -> Result<(), Failure> {
        if output.status.success() {
            return Ok(());
        }
        Err(self.failed(step, &told(output)))
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

/// What a command said, all of it.
fn told(output: &Output) -> String {
    let told = [output.stdout.as_slice(), b" ", &output.stderr].concat();
    String::from_utf8_lossy(&told).trim().to_owned()
}

/// Everything that comes out of a pipe, when it is closed.
fn drain(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What came until an error is what there is to show.
            let _ = pipe.read_to_end(&mut bytes);
        }
        // Nobody waits where the command was killed.
        let _ = sender.send(bytes);
    });
    receiver
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
