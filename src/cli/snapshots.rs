//! `quloud snapshots`: what there is to restore.

use super::args::{GlobalOptions, NodeOptions};
use super::output::{Output, printable};
use super::secrets::PassphraseOptions;
use super::session::Session;
use super::signals::{Interrupt, interrupted};
use super::verify::percent;
use crate::config::size::human;
use crate::node::report::{Failure, FailureKind, SnapshotReport, date};
use clap::Args;

/// List the snapshots of all devices of this owner
///
/// They are read from the mesh; with no other node in reach, those that were seen last are listed.
/// The newest of each set of paths says in one word how it is stored: see `quloud status --help`.
#[derive(Debug, Args)]
pub(super) struct Snapshots {
    #[command(flatten)]
    node: NodeOptions,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

impl Snapshots {
    pub(super) async fn run(&self, global: &GlobalOptions, output: &Output) -> Result<u8, Failure> {
        let interrupt = Interrupt::listen()?;
        let session = Session::open(global, &self.node, &self.passphrase).await?;
        let found = tokio::select! {
            found = session.client.snapshots() => found.map_err(Failure::from),
            () = interrupt.wait() => Err(interrupted("run the command again")),
        };
        session.close(&interrupt).await;
        let found = found?;
        for note in &found.notes {
            output.note(&printable(note));
        }
        output.result(&found, || found.snapshots.iter().map(line).collect())?;
        Ok(if found.whole { 0 } else { FailureKind::Partial.exit_code() })
    }
}

/// One line; the times are UTC.
pub(super) fn line(snapshot: &SnapshotReport) -> String {
    let name = snapshot.snapshot.get(..8).unwrap_or(&snapshot.snapshot);
    let tags = match snapshot.tags.as_slice() {
        [] => String::new(),
        tags => format!("  [{}]", tags.join(", ")),
    };
    let partial = if snapshot.partial { "  partial" } else { "" };
    let replicas = snapshot.replicas.map(|replicas| format!("  {replicas}")).unwrap_or_default();
    let text = format!(
        "{name}  {}  {}  {:>8} files  {:>9}  {}{tags}{replicas}{partial}{}",
        date(snapshot.created_at),
        snapshot.host,
        snapshot.files,
        human(snapshot.bytes),
        snapshot.roots.join(" "),
        drills(snapshot),
    );
    printable(&text) + "\n"
}

/// When it was proven last that it can be restored, and when that failed since.
fn drills(snapshot: &SnapshotReport) -> String {
    let proven = snapshot.proven.map(|drill| match drill.sample_ppm {
        1_000_000 => format!("proven {}", day(drill.at)),
        ppm => format!("proven {} ({})", day(drill.at), percent(ppm)),
    });
    let failed = snapshot.failed.map(|drill| match drill.damaged {
        0 => format!("out of reach {}", day(drill.at)),
        _ => format!("DAMAGED {}", day(drill.at)),
    });
    let drills: Vec<String> = proven.into_iter().chain(failed).collect();
    if drills.is_empty() { String::new() } else { format!("  {}", drills.join(", ")) }
}

fn day(seconds: u64) -> String {
    let mut date = date(i64::try_from(seconds).unwrap_or(i64::MAX));
    date.truncate("2026-11-21".len());
    date
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::report::{DrillReport, ReplicasReport, ReplicasWord};

    #[test]
    fn names_of_a_snapshot_cannot_steer_the_terminal() {
        let snapshot = SnapshotReport {
            snapshot: "0123456789".to_owned(),
            created_at: 0,
            device: String::new(),
            host: "a\u{1b}[2J".to_owned(),
            roots: vec!["/x\n".to_owned()],
            tags: vec!["t".to_owned()],
            files: 3,
            bytes: 4,
            new_bytes: 5,
            partial: true,
            replicas: Some(ReplicasReport {
                word: ReplicasWord::Stored,
                has: 3,
                target: 3,
                ..Default::default()
            }),
            proven: Some(DrillReport { at: 90_000, sample_ppm: 50_000, ..DrillReport::default() }),
            failed: Some(DrillReport { at: 180_000, damaged: 2, ..DrillReport::default() }),
        };
        let line = line(&snapshot);
        assert!(line.starts_with("01234567  1970-01-01 00:00 UTC  a\\u{1b}"), "{line}");
        let drills = "  proven 1970-01-02 (5%), DAMAGED 1970-01-03";
        assert!(line.ends_with(&format!("/x\\n  [t]  stored 3 of 3  partial{drills}\n")), "{line}");
    }
}
