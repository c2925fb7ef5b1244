//! `quloud heads`: the records that lead to the snapshots, and which of them count.

use super::args::{GlobalOptions, NodeOptions};
use super::output::{Output, count, printable};
use super::secrets::PassphraseOptions;
use super::session::Session;
use super::signals::{Interrupt, interrupted};
use crate::node::report::{
    Failure, FailureKind, HeadRecordReport, Heads as Found, HeadsRequest, RecordState, date,
};
use clap::Args;

/// List the heads of this owner's devices, earlier ones too, or choose which counts
///
/// A head is the signed record that leads from the 24 words to a device's snapshots. Each change
/// makes a new one, and the nodes keep the older ones for 30 days. The newest counts. Where
/// somebody else has written it, because a device was stolen or a copy of its folder runs
/// elsewhere, an earlier one can be chosen: its snapshots are there again, as long as the nodes
/// have their chunks. What somebody let go they keep for 7 days: restore it before these are over,
/// or back it up again. A choice is this folder's alone, stops prunes, and stands until --follow.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Heads {
    /// Count this record of its head, whatever others there are
    #[arg(long, value_name = "RECORD")]
    accept: Vec<String>,
    /// Count nothing of this head: nothing that its device stored, and nothing that it forgot
    #[arg(long, value_name = "INDEX")]
    ignore: Vec<u16>,
    /// Count the newest record of this head again
    #[arg(long, value_name = "INDEX")]
    follow: Vec<u16>,
    #[command(flatten)]
    node: NodeOptions,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

const EXAMPLES: &str = "\
Examples:
  quloud heads
  quloud heads --accept 0:17:5be1c02a --ignore 1    a stolen device forgot everything
  quloud snapshots                                  what there is now
  quloud heads --follow 0 --follow 1                as it was";

impl Heads {
    pub(super) async fn run(&self, global: &GlobalOptions, output: &Output) -> Result<u8, Failure> {
        let interrupt = Interrupt::listen()?;
        let session = Session::open(global, &self.node, &self.passphrase).await?;
        let Self { accept, ignore, follow, .. } = self;
        let (accept, ignore, follow) = (accept.clone(), ignore.clone(), follow.clone());
        let chooses = !(accept.is_empty() && ignore.is_empty() && follow.is_empty());
        let request = HeadsRequest { accept, ignore, follow };
        let found = tokio::select! {
            found = session.client.heads(&request) => found.map_err(Failure::from),
            () = interrupt.wait() => Err(interrupted("run the command again")),
        };
        session.close(&interrupt).await;
        let found = found?;
        for note in &found.notes {
            output.note(&printable(note));
        }
        output.result(&found, || list(&found))?;
        if found.records.is_empty() {
            output.note("Nobody in reach keeps a head of this owner.");
        } else if chooses {
            output.note("Next: `quloud snapshots` lists what there is now.");
        }
        Ok(if found.whole { 0 } else { FailureKind::Partial.exit_code() })
    }
}

fn list(found: &Found) -> String {
    found.records.iter().map(|record| line(record, found.own)).collect()
}

/// One line; the times are UTC.
fn line(record: &HeadRecordReport, own: Option<u16>) -> String {
    let HeadRecordReport { name, index, device, signed_at, holders, state, .. } = record;
    let device = match device.get(..8) {
        Some(device) => format!("device {device}"),
        None => "device unknown".to_owned(),
    };
    let signed = match state {
        RecordState::Unreadable => "no date".to_owned(),
        _ => date(*signed_at),
    };
    let kept = count(u64::try_from(*holders).unwrap_or(u64::MAX), "node");
    let own = if own == Some(*index) { " (this device)" } else { "" };
    let state = match state {
        RecordState::Counts => "counts",
        RecordState::Chosen => "COUNTS, as chosen here",
        RecordState::Older => "older",
        RecordState::Other => "does NOT count",
        RecordState::Unreadable => "cannot be read",
        RecordState::Ignored => "ignored, as chosen here",
    };
    printable(&format!("{name}  {signed}  {device}{own}  kept by {kept}  {state}")) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_named_so_that_it_can_be_chosen() {
        let record = HeadRecordReport {
            name: "0:17:5be1c02a".to_owned(),
            index: 0,
            number: 17,
            device: "0123456789abcdef".to_owned(),
            signed_at: 90_000,
            holders: 1,
            state: RecordState::Counts,
        };
        assert_eq!(
            line(&record, Some(0)),
            "0:17:5be1c02a  1970-01-02 01:00 UTC  device 01234567 (this device)  kept by 1 node  \
             counts\n"
        );
        let unread =
            HeadRecordReport { device: String::new(), state: RecordState::Unreadable, ..record };
        let line = line(&unread, Some(3));
        assert!(line.contains("no date  device unknown  kept"), "{line}");
    }
}
