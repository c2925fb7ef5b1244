//! `quloud snapshots`: what there is to restore.

use super::args::{GlobalOptions, NodeOptions};
use super::output::{Output, printable};
use super::secrets::PassphraseOptions;
use super::session::Session;
use super::signals::{Interrupt, interrupted};
use crate::config::size::human;
use crate::node::report::{Failure, FailureKind, SnapshotReport};
use clap::Args;

/// List the snapshots of all devices of this owner
///
/// They are read from the mesh; with no other node in reach, those that were seen last are listed.
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
    let text = format!(
        "{name}  {}  {}  {:>8} files  {:>9}  {}{tags}{partial}",
        date(snapshot.created_at),
        snapshot.host,
        snapshot.files,
        human(snapshot.bytes),
        snapshot.roots.join(" "),
    );
    printable(&text) + "\n"
}

/// `2026-11-21 15:04 UTC` of seconds since 1970, in the proleptic Gregorian calendar.
pub(super) fn date(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years begin with March here, so that a leap day is the last day of one; 719,468 days lie
    // between the first of March of the year 0 and 1970.
    let days = days.saturating_add(719_468);
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + 400 * era + next;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", rest / 3600, rest % 3600 / 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (-1, "1969-12-31 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (951_868_800, "2000-03-01 00:00 UTC"),
            (4_107_542_399, "2100-02-28 23:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
            (1_795_273_445, "2026-11-21 15:04 UTC"),
        ] {
            assert_eq!(date(seconds), text);
        }
        assert!(!date(i64::MAX).is_empty() && !date(i64::MIN).is_empty());
    }

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
        };
        let line = line(&snapshot);
        assert!(line.starts_with("01234567  1970-01-01 00:00 UTC  a\\u{1b}"), "{line}");
        assert!(line.ends_with("/x\\n  [t]  partial\n"), "{line}");
    }
}
