//! `quloud put`: one file in, a capability out.

use super::args::{GlobalOptions, NodeOptions};
use super::output::{Output, count, printable};
use super::progress::{Meter, follow, rate};
use super::secrets::PassphraseOptions;
use super::session::Session;
use super::signals::Interrupt;
use crate::config::size::human;
use crate::node::report::{Failure, FailureKind, PutDone, PutRequest};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Store a file on the mesh and print the capability that brings it back
///
/// Done means that every chunk was acknowledged by as many nodes as asked, each after it had the
/// bytes safely on disk; this node never counts. Whoever has the capability can read the file:
/// keep it like the file itself. The file is also a snapshot of its own, with the tag `put`: it is
/// listed by `quloud snapshots`, and comes back after `quloud recover` without the capability.
#[derive(Debug, Args)]
pub(super) struct Put {
    /// The file to store
    file: PathBuf,
    /// How many nodes shall hold each chunk
    #[arg(long, default_value_t = 3, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=32))]
    replicas: u8,
    /// How long a chunk may wait for its nodes, in seconds; a running node goes on trying later
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: u64,
    #[command(flatten)]
    node: NodeOptions,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

impl Put {
    pub(super) async fn run(&self, global: &GlobalOptions, output: &Output) -> Result<u8, Failure> {
        let request = self.request()?;
        let name = self.file.file_name().unwrap_or(self.file.as_os_str());
        let name = printable(&name.to_string_lossy());
        let interrupt = Interrupt::listen()?;
        let session = Session::open(global, &self.node, &self.passphrase).await?;
        let meter = Meter::new(&format!("put {name}"), output);
        let resume = resume(session.is_own());
        let result = follow(session.client.put(&request), meter, &interrupt, &resume).await;
        session.close(&interrupt).await;
        let done = result?;
        output.capability(&done, || format!("{}\n", done.capability.expose()))?;
        output.note(&summary(&name, &done));
        done.notes.iter().for_each(|note| output.note(&printable(note)));
        Ok(if done.snapshot.is_some() { 0 } else { FailureKind::Partial.exit_code() })
    }

    /// The request, after what can be told without a node.
    fn request(&self) -> Result<PutRequest, Failure> {
        let failed = |why: String, hint: &str| {
            let what = format!("{} cannot be put", self.file.display());
            Failure::new(FailureKind::Failed, what, why, hint)
        };
        let unreadable =
            |error: std::io::Error| failed(error.to_string(), "check the path and its permissions");
        let metadata = self.file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            let why = "it is not an ordinary file".to_owned();
            return Err(failed(why, "put files one by one, or a folder as one archive"));
        }
        drop(std::fs::File::open(&self.file).map_err(unreadable)?);
        let path = std::path::absolute(&self.file).map_err(unreadable)?;
        if path.to_str().is_none() {
            return Err(failed("its path is not UTF-8 text".to_owned(), "rename it first"));
        }
        Ok(PutRequest { path, replicas: self.replicas, timeout_s: self.timeout })
    }
}

/// How a put goes on that its command no longer waits for.
fn resume(node_ends_too: bool) -> String {
    let goes_on = match node_ends_too {
        true => "what is queued is sent as soon as `quloud up` runs",
        false => "the running node goes on with it",
    };
    format!("{goes_on}; `quloud status --json` shows the capability once it is stored")
}

fn summary(name: &str, done: &PutDone) -> String {
    let elapsed = Duration::try_from_secs_f64(done.seconds).unwrap_or_default();
    format!(
        "{name}: {} in {}, at least {} of each, in {:.1} s ({})",
        human(done.bytes),
        count(done.chunks, "chunk"),
        count(done.replicas.into(), "replica"),
        done.seconds,
        rate(done.bytes, elapsed),
    )
}
