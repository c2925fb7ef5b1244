//! A home for one test: a temporary folder, and the binary run in it.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A temporary folder; the data folder is `node` in it.
pub(super) struct Home {
    folder: TempDir,
}

/// What came back.
pub(super) struct Transcript {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Home {
    /// With nothing in it.
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// With keys in `node` and the words in `words`.
    pub(super) fn initialised() -> Self {
        let home = Self::new();
        home.run(&["init", "--yes", "--words-file", &home.path("words")]).succeeds();
        home
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.file(name).to_str().unwrap().to_owned()
    }

    /// The binary with these arguments, an environment of its own, and no terminal.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quloud"));
        command
            .env_clear()
            .env("HOME", self.folder.path())
            .env("QULOUD_DIR", self.file("node"))
            .current_dir(self.folder.path())
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Transcript {
        self.command(arguments).output().unwrap().into()
    }

    pub(super) fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Transcript {
        let environment = environment.iter().copied();
        self.command(arguments).envs(environment).output().unwrap().into()
    }

    pub(super) fn run_stdin(&self, arguments: &[&str], text: &str) -> Transcript {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap().into()
    }

    /// Runs with a pipe as stdout whose reader is gone.
    pub(super) fn run_closed_stdout(&self, arguments: &[&str]) -> Transcript {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        self.command(arguments).stdout(writer).output().unwrap().into()
    }
}

impl Transcript {
    #[track_caller]
    pub(super) fn succeeds(&self) {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
    }

    /// It failed with this code, in three lines: what (holding `what`), why, what to do next
    /// (holding `next`); and printed no result.
    #[track_caller]
    pub(super) fn fails(&self, code: i32, what: &str, next: &str) {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        let lines: Vec<&str> = self.stderr.lines().collect();
        let [first, second, third] = lines.as_slice() else {
            panic!("not three lines:\n{}", self.stderr);
        };
        assert!(first.starts_with("error: ") && first.contains(what), "{first:?}");
        assert!(second.starts_with("  why: ") && second.len() > 10, "{second:?}");
        assert!(third.starts_with(" next: ") && third.contains(next), "{third:?}");
        assert_eq!(self.stdout, "");
    }

    /// The one JSON document on stdout.
    #[track_caller]
    pub(super) fn json(&self) -> serde_json::Value {
        assert_eq!(self.stdout.lines().count(), 1, "{}", self.stdout);
        serde_json::from_str(&self.stdout).unwrap()
    }
}

impl From<Output> for Transcript {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("it was not killed"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Writes a file of mode 0600.
pub(super) fn private_file(path: &Path, text: &str) {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}
