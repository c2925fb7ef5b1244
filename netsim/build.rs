//! Tells the simulator the commit that it is built from, so that what it prints can be run again.
//!
//! `NETSIM_COMMIT` is twelve digits, with `-dirty` where a source file differs from the commit, or
//! `unknown` where there is no git or where git does not know this file.

#![allow(clippy::print_stdout, reason = "it is how a build script talks to cargo")]

use std::path::Path;
use std::process::Command;

/// What the binary is made of, as seen from here.
const SOURCES: [&str; 7] =
    ["build.rs", "Cargo.toml", "src", "../Cargo.toml", "../Cargo.lock", "../proto", "../src"];

fn main() {
    let commit = commit().unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=NETSIM_COMMIT={commit}");
    SOURCES.iter().for_each(|source| watch(Path::new(source)));
    watch_head();
}

fn commit() -> Option<String> {
    // Unpacked inside somebody else's repository, this file is not one of its own.
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let mut status = vec!["--no-optional-locks", "status", "--porcelain", "--"];
    status.extend(SOURCES);
    let dirty = if git(&status)?.is_empty() { "" } else { "-dirty" };
    Some(format!("{commit}{dirty}"))
}

/// A commit and a checkout change HEAD or the branch it names.
fn watch_head() {
    let Some(head) = git(&["rev-parse", "--git-path", "HEAD"]) else { return };
    watch(Path::new(&head));
    let Some(branch) = git(&["symbolic-ref", "-q", "HEAD"]) else { return };
    let Some(branch) = git(&["rev-parse", "--git-path", &branch]) else { return };
    // A packed branch has no file of its own until its next commit makes one.
    let mut branch = Path::new(&branch);
    while let Some(parent) = branch.parent().filter(|_| !branch.exists()) {
        branch = parent;
    }
    watch(branch);
    if let Some(packed) = git(&["rev-parse", "--git-path", "packed-refs"]) {
        watch(Path::new(&packed));
    }
}

/// Cargo runs this again when the file changes. One that is not there would always have changed.
fn watch(file: &Path) {
    if file.exists() {
        println!("cargo::rerun-if-changed={}", file.display());
    }
}

/// What git says, where it succeeds.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some(text.trim().to_owned())
}
