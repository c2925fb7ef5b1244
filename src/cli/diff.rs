//! `quloud diff`: what two snapshots differ in.

use super::args::{GlobalOptions, NodeOptions};
use super::output::{Output, count};
use super::rows::{notes, print_rows};
use super::secrets::PassphraseOptions;
use super::session::Session;
use super::signals::Interrupt;
use crate::config::size::human;
use crate::node::report::{DiffDone, DiffRequest, DiffRow, Failure, NamesTally};
use clap::Args;

/// Show what two snapshots differ in
///
/// A line for each name: `+` is only in the second, `-` only in the first, `M` has other content,
/// `U` has the same content and another mode, owner, time or attribute, `T` is something else now.
/// Parts that are the same in both are not read. With --json there is one object a line, and the
/// totals in the last one.
#[derive(Debug, Args)]
pub(super) struct Diff {
    /// The first snapshot: `latest`, or the first digits of an id
    #[arg(value_name = "SNAPSHOT")]
    before: String,
    /// The second snapshot
    #[arg(value_name = "SNAPSHOT", default_value = "latest")]
    after: String,
    /// How long one chunk may take, in seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: u64,
    #[command(flatten)]
    node: NodeOptions,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

impl Diff {
    pub(super) async fn run(&self, global: &GlobalOptions, output: &Output) -> Result<u8, Failure> {
        let request = DiffRequest {
            before: self.before.clone(),
            after: self.after.clone(),
            lines: !output.json,
            timeout_s: self.timeout,
        };
        let interrupt = Interrupt::listen()?;
        let session = Session::open(global, &self.node, &self.passphrase).await?;
        let done = print_rows(session.client.diff(&request), output, &interrupt, line).await;
        session.close(&interrupt).await;
        let Some(done) = done? else { return Ok(0) };
        notes(&done.notes, output);
        output.result(&done, || summary(&done))?;
        Ok(0)
    }
}

fn line(row: &DiffRow) -> String {
    row.line.as_ref().map(|line| format!("{line}\n")).unwrap_or_default()
}

fn summary(done: &DiffDone) -> String {
    let short = |id: &str| id.get(..8).unwrap_or(id).to_owned();
    let names = |of: &NamesTally| {
        let folders = count(of.folders, "folder");
        format!("{}, {folders}, {} others", count(of.files, "file"), of.others)
    };
    let (before, after) = (done.changed_before, done.changed_after);
    format!(
        "\n{} to {}\nadded:    {}, {}\nremoved:  {}, {}\nchanged:  {}, {} before and {} now\n\
         metadata: {}\n",
        short(&done.before),
        short(&done.after),
        names(&done.added),
        human(done.added.bytes),
        names(&done.removed),
        human(done.removed.bytes),
        names(&after),
        human(before.bytes),
        human(after.bytes),
        count(done.metadata, "name"),
    )
}
