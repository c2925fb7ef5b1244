//! `quloud backup`: files and folders in, a snapshot out.

use super::args::{GlobalOptions, NodeOptions};
use super::output::{Output, count, printable};
use super::progress::{Meter, follow, rate};
use super::secrets::PassphraseOptions;
use super::session::Session;
use super::signals::Interrupt;
use crate::config::size::human;
use crate::node::report::{BackupDone, BackupRequest, Failure, FailureKind};
use clap::Args;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Back files and folders up as a snapshot on the mesh
///
/// Done means that every chunk of it was acknowledged by as many nodes as asked, each after it had
/// the bytes safely on disk. What earlier snapshots have is not sent again. Exit code 3 when
/// something could not be read, or has fewer replicas than asked for.
#[derive(Debug, Args)]
pub(super) struct Backup {
    /// What to back up; links among these are followed, links in folders are recorded
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How many nodes shall hold each chunk
    #[arg(long, default_value_t = 3, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=32))]
    replicas: u8,
    /// Leave out what matches this pattern, as in a .gitignore; repeatable
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Leave out what matches the patterns in this file, like a .gitignore; repeatable
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// Leave out what lies in folders marked as caches by a CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,
    /// Stay in the file system of each path
    #[arg(long, short = 'x')]
    one_file_system: bool,
    /// Read everything and say what would be stored, and store nothing
    #[arg(long)]
    dry_run: bool,
    /// Label the snapshot; repeatable
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// How long to wait for more nodes while nothing is acknowledged, in seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: u64,
    #[command(flatten)]
    node: NodeOptions,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

impl Backup {
    pub(super) async fn run(&self, global: &GlobalOptions, output: &Output) -> Result<u8, Failure> {
        let request = self.request()?;
        let interrupt = Interrupt::listen()?;
        let session = Session::open(global, &self.node, &self.passphrase).await?;
        let meter = Meter::new("backup", output);
        let resume = "run the same command again: what is stored is not sent again";
        let result = follow(session.client.backup(&request), meter, &interrupt, resume).await;
        session.close(&interrupt).await;
        let done = result?;
        for line in done.fault_lines.iter().chain(&done.notes) {
            output.note(&printable(line));
        }
        let untold = done.faults.saturating_sub(done.fault_lines.len() as u64);
        if untold > 0 {
            output.note(&format!("and {untold} more"));
        }
        output.result(&done, || summary(&done))?;
        let is_whole = !done.partial && (done.dry_run || done.replicas >= self.replicas);
        Ok(if is_whole { 0 } else { FailureKind::Partial.exit_code() })
    }

    /// The request, after what can be told without a node.
    fn request(&self) -> Result<BackupRequest, Failure> {
        Ok(BackupRequest {
            paths: self.paths.iter().map(|path| absolute(path)).collect::<Result<_, _>>()?,
            replicas: self.replicas,
            timeout_s: self.timeout,
            exclude_files: self
                .exclude_file
                .iter()
                .map(|file| read(file))
                .collect::<Result<_, _>>()?,
            excludes: self.exclude.clone(),
            exclude_caches: self.exclude_caches,
            one_file_system: self.one_file_system,
            tags: self.tag.clone(),
            dry_run: self.dry_run,
        })
    }
}

/// The path for the node, which may run elsewhere. Links stay as they were named, but where `..`
/// would have to be taken back.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let failed = |why: String, hint: &str| {
        let what = format!("{} cannot be backed up", path.display());
        Failure::new(FailureKind::Usage, what, why, hint)
    };
    let climbs = path.components().any(|component| component == Component::ParentDir);
    let found = if climbs { path.canonicalize() } else { std::path::absolute(path) };
    let path = found.map_err(|error| failed(error.to_string(), "check the path"))?;
    if path.to_str().is_none() {
        let why = "its path is not UTF-8 text".to_owned();
        return Err(failed(why, "name the folder that it is in: names below may be anything"));
    }
    Ok(path)
}

fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| {
        let what = format!("the patterns in {} cannot be read", file.display());
        Failure::new(FailureKind::Usage, what, error.to_string(), "check the path")
    })
}

fn summary(done: &BackupDone) -> String {
    let elapsed = Duration::try_from_secs_f64(done.seconds).unwrap_or_default();
    let partial = if done.partial { "; something is missing in it" } else { "" };
    if done.dry_run {
        return format!(
            "nothing was stored: {}, {}; {} in {} would be new, a copy{partial}\n",
            count(done.files, "file"),
            human(done.bytes),
            human(done.new_bytes),
            count(done.new_chunks, "chunk"),
        );
    }
    let name = done.snapshot.get(..8).unwrap_or(&done.snapshot);
    format!(
        "snapshot {name}: {}, {}, {} of it new, {} of each, in {:.1} s ({}){partial}\n",
        count(done.files, "file"),
        human(done.bytes),
        human(done.new_bytes),
        count(done.replicas.into(), "replica"),
        done.seconds,
        rate(done.bytes, elapsed),
    )
}
