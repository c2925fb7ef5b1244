//! `quloud demo`: the whole story on one machine, with nothing pretended.
//!
//! Every node is a child process of this very binary with a data folder of its own; they speak
//! real libp2p over loopback, store on the real disk, and die by SIGKILL. The account that is
//! printed says only what was checked, and the exit code is 0 only if every check passed.

mod account;
mod corpus;
mod damage;
mod edits;
mod nodes;
mod scan;
mod steps;
mod tree;

use super::output::Output;
use super::signals::{Interrupt, interrupted};
use crate::node::report::{Failure, FailureKind};
use account::Account;
use clap::Args;
use std::path::{Path, PathBuf};
use steps::Story;
use tempfile::TempDir;

/// Replicas of every chunk in the demo.
const REPLICAS: u8 = 3;

/// Show the whole story on this machine: back up, lose machines, recover from the words, restore
///
/// Starts real nodes as child processes, with real stores in a temporary folder. Backs a copy of
/// PATH up with three replicas, edits the copy, and backs it up again. A byte is flipped on one
/// holder's disk, a chunk deleted from another's, and a third one answers with a proof that is
/// made up: an audit names all three, and healing makes up for it. Then a node that holds the data
/// is killed for good, and so is the owner's, whose folder is deleted. A new node that has the 24
/// words and one address recovers, restores both snapshots, and everything is compared, byte for
/// byte and with its metadata. Last, somebody without the key is turned away, and the dead holder's
/// store is searched for plaintext. Exit code 0 only if every step was verified.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// A file or folder to work on a copy of [default: ./src where it exists, else a generated
    /// tree]. Takes about seven times its size in the temporary folder for as long as it runs
    path: Option<PathBuf>,
    /// How many nodes to start: an owner and holders; the owner's new machine comes on top
    #[arg(long, default_value_t = 6, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u16).range(6..=30))]
    nodes: u16,
    /// Leave the temporary folder there: stores, logs, and what was restored
    #[arg(long)]
    keep: bool,
}

impl Demo {
    pub(super) async fn run(&self, output: &Output) -> Result<u8, Failure> {
        let interrupt = Interrupt::listen()?;
        let (path, count, keep) = (self.path.clone(), usize::from(self.nodes), self.keep);
        let output = *output;
        let story = move || {
            let folder = Scratch::new(keep, output)?;
            let account = Account::new(output, &interrupt);
            tell(path.as_deref(), count, folder.path(), account).map_err(|failure| {
                // A child that was interrupted, too, fails first, and for no reason of its own.
                if interrupt.is_set() { account::ended() } else { failure }
            })
        };
        let told = tokio::task::spawn_blocking(story).await;
        told.map_err(|error| failed("the demo died", &error.to_string()))?.map(|()| 0)
    }
}

/// The story, step by step; each returns only if what it says was checked.
fn tell(
    path: Option<&Path>,
    count: usize,
    folder: &Path,
    mut account: Account,
) -> Result<(), Failure> {
    let mut story = Story::begin(path, count, folder, &mut account)?;
    let first = story.back_up(&mut account)?;
    let second = story.back_up_again(&first, &mut account)?;
    story.damage_and_heal(&mut account)?;
    let stolen = story.lose_a_holder(&mut account)?;
    story.lose_the_owner(&mut account)?;
    let recovered = story.recover(&[&first, &second], &mut account)?;
    story.restore_latest(&recovered, &second, &mut account)?;
    story.restore_first(&recovered, &first, &mut account)?;
    story.refuse_the_stranger(&mut account)?;
    story.search_the_stolen_store(&stolen, [&first, &second], &mut account)?;
    drop(recovered);
    drop(story);
    account.finish()
}

/// The temporary folder. It is gone when this is dropped, whatever the modes are of what lies in
/// it; unless it is to be kept.
struct Scratch {
    folder: Option<TempDir>,
    keep: bool,
    output: Output,
}

impl Scratch {
    fn new(keep: bool, output: Output) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("quloud-demo-").tempdir();
        let folder = folder.map_err(|error| {
            let what = "no temporary folder could be made";
            misused(what, &error.to_string(), "set TMPDIR to a folder that can be written")
        })?;
        Ok(Self { folder: Some(folder), keep, output })
    }

    fn path(&self) -> &Path {
        self.folder.as_ref().map_or(Path::new(""), TempDir::path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Some(folder) = self.folder.take() else { return };
        if self.keep {
            self.output.note(&format!("kept: {}", folder.keep().display()));
            return;
        }
        tree::make_removable(folder.path());
        if let Err(error) = folder.close() {
            self.output.note(&format!("the temporary folder could not be removed: {error}"));
        }
    }
}

/// A step that was not as it should be.
fn failed(what: &str, why: &str) -> Failure {
    Failure {
        kind: FailureKind::Failed,
        what: what.to_owned(),
        why: why.to_owned(),
        hint: "this is a fault in Quloud, or the machine is out of memory, disk or ports"
            .to_owned(),
    }
}

/// What the user gave makes no demo, which is nobody's fault.
fn misused(what: &str, why: &str, hint: &str) -> Failure {
    Failure::new(FailureKind::Failed, what, why, hint)
}
