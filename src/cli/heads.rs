//! `quloud heads`: the records that lead to the snapshots, and which of them count.

use super::args::{GlobalOptions, NodeOptions};
use super::output::{Output, count, printable};
use super::secrets::PassphraseOptions;
use super::session::Session;
use super::signals::{Interrupt, interrupted};
use super::snapshots::line as snapshot;
use crate::node::report::{Failure, HeadRecordReport, Heads as Found, HeadsRequest, date};
use clap::Args;

/// List the heads of this owner's devices, earlier ones too, or what they lead to
///
/// A head is the signed record that leads from the 24 words to a device's snapshots. Each change
/// makes a new one, and the nodes keep earlier ones for 30 days. The newest counts. Where somebody
/// else has written it, because a device was stolen or a copy of its folder runs elsewhere, an
/// earlier one still leads to what was there: name the records that are to count, one of each
/// device at most, and restore from them. Nothing of it is remembered. What somebody let go the
/// nodes keep for 7 days: restore it before these are over.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Heads {
    /// List the snapshots that these records lead to, and no others
    #[arg(value_name = "RECORD")]
    records: Vec<String>,
    #[command(flatten)]
    node: NodeOptions,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

const EXAMPLES: &str = "\
Examples:
  quloud heads
  quloud heads 0:17:5be1c02a77d03f19          what there was before a thief forgot it
  quloud restore 213ff6a7 --head 0:17:5be1c02a77d03f19 --target /srv/back";

impl Heads {
    pub(super) async fn run(&self, global: &GlobalOptions, output: &Output) -> Result<u8, Failure> {
        let interrupt = Interrupt::listen()?;
        let session = Session::open(global, &self.node, &self.passphrase).await?;
        let request = HeadsRequest { records: self.records.clone() };
        let found = tokio::select! {
            found = session.client.heads(&request) => found.map_err(Failure::from),
            () = interrupt.wait() => Err(interrupted("run the command again")),
        };
        session.close(&interrupt).await;
        let found = found?;
        output.result(&found, || match self.records.is_empty() {
            true => found.records.iter().map(|record| line(record, found.own)).collect(),
            false => found.snapshots.iter().map(snapshot).collect(),
        })?;
        self.tell(&found, output);
        Ok(0)
    }

    fn tell(&self, found: &Found, output: &Output) {
        let next = "Next: `quloud restore ID --target FOLDER`, with --head and a record for each \
                    that was named here.";
        if found.records.is_empty() {
            output.note("Nobody in reach keeps a head of this owner.");
        } else if self.records.is_empty() {
            output.note("`quloud heads RECORD` lists the snapshots that a record leads to.");
        } else if found.snapshots.is_empty() {
            output.note("There are no snapshots in what these records lead to.");
        } else {
            output.note(next);
        }
    }
}

/// One line; the times are UTC.
fn line(record: &HeadRecordReport, own: Option<u16>) -> String {
    let HeadRecordReport { name, index, device, signed_at, holders, .. } = record;
    let written = match (device.as_ref().and_then(|device| device.get(..8)), signed_at) {
        (Some(device), Some(at)) => format!("{}  device {device}", date(*at)),
        _ => "CANNOT BE READ".to_owned(),
    };
    let kept = count(u64::try_from(*holders).unwrap_or(u64::MAX), "node");
    let own = if own == Some(*index) { " (this device)" } else { "" };
    let marks = [(record.newest, "newest"), (record.forked, "FORKED"), (record.seen, "believed")];
    let marks: Vec<&str> = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
    let marks = marks.join(", ");
    let line = format!("{name}  {written}{own}  kept by {kept}  {marks}");
    printable(line.trim_end()) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_named_as_it_is_to_be_asked_for() {
        let record = HeadRecordReport {
            name: "0:17:5be1c02a77d03f19".to_owned(),
            index: 0,
            number: 17,
            device: Some("0123456789abcdef".to_owned()),
            signed_at: Some(90_000),
            holders: 1,
            newest: true,
            forked: false,
            seen: true,
        };
        assert_eq!(
            line(&record, Some(0)),
            "0:17:5be1c02a77d03f19  1970-01-02 01:00 UTC  device 01234567 (this device)  kept by \
             1 node  newest, believed\n"
        );
        let unread = HeadRecordReport { device: None, signed_at: None, forked: true, ..record };
        let line = line(&unread, Some(3));
        assert!(line.contains("  CANNOT BE READ  kept") && line.contains("FORKED"), "{line}");
    }
}
