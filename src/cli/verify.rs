//! `quloud verify`: a drill.

use super::args::{GlobalOptions, NodeOptions};
use super::output::{Output, count, printable};
use super::progress::{Meter, follow, rate};
use super::secrets::PassphraseOptions;
use super::session::Session;
use super::signals::Interrupt;
use crate::config::size::human;
use crate::node::report::{
    Failure, FailureKind, VerifyDone, VerifyFault, VerifyKind, VerifyRequest, date,
};
use clap::Args;
use std::time::Duration;

/// All of a million parts.
const ALL_PPM: u32 = 1_000_000;

/// Prove that a snapshot can be restored: read it back from its holders, write nothing
///
/// Nothing that this machine has counts, neither copies in the data folder nor the node's own
/// store: what is proven comes back when this machine is gone. A chunk is asked of one of its
/// holders, and of another where that one is slow, or has it damaged or no more: so all of it is
/// proven to come back, but not every replica to be whole. Those that were found to be damaged or
/// gone are told, also where another one made up for them. Exit code 10 when something is damaged,
/// at one holder or for good; exit code 3 when something could not be reached because holders are
/// away, which says nothing about damage.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// `latest`, or the first digits of an id
    #[arg(value_name = "SNAPSHOT", default_value = "latest")]
    snapshot: String,
    /// Read the whole tree and a part of the data, drawn by chance: 5%, 0.1%
    #[arg(long, value_name = "PERCENT", value_parser = sample)]
    sample: Option<u32>,
    /// How long one chunk may take, in seconds
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: u64,
    #[command(flatten)]
    node: NodeOptions,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

impl Verify {
    pub(super) async fn run(&self, global: &GlobalOptions, output: &Output) -> Result<u8, Failure> {
        let request = VerifyRequest {
            snapshot: self.snapshot.clone(),
            sample_ppm: self.sample,
            timeout_s: self.timeout,
        };
        let interrupt = Interrupt::listen()?;
        let session = Session::open(global, &self.node, &self.passphrase).await?;
        let meter = Meter::new("verify", output);
        let resume = "run the same command again";
        let result = follow(session.client.verify(&request), meter, &interrupt, resume).await;
        session.close(&interrupt).await;
        let done = result?;
        tell(&done, output);
        output.result(&done, || summary(&done))?;
        Ok(exit_code(&done))
    }
}

/// Parts of a million of a percentage.
fn sample(text: &str) -> Result<u32, String> {
    let wrong = || "write a percentage above 0% up to 100%, such as 5% or 0.1%".to_owned();
    let number = text.trim().trim_end_matches('%').trim();
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 3 || part.len() > 4 || !digits(whole) || !digits(part) {
        return Err(wrong());
    }
    let number: u32 = format!("{whole}{part:0<4}").parse().map_err(|_| wrong())?;
    if (1..=ALL_PPM).contains(&number) { Ok(number) } else { Err(wrong()) }
}

/// `5%` of parts of a million.
pub(super) fn percent(ppm: u32) -> String {
    let (whole, part) = (ppm / 10_000, ppm % 10_000);
    let part = format!("{part:04}");
    match part.trim_end_matches('0') {
        "" => format!("{whole}%"),
        part => format!("{whole}.{part}%"),
    }
}

/// A proof of damage comes first, also where another holder has made up for it.
fn exit_code(done: &VerifyDone) -> u8 {
    if done.damaged > 0 || !done.damaged_at.is_empty() {
        FailureKind::Damage.exit_code()
    } else if done.unreachable > 0 {
        FailureKind::Partial.exit_code()
    } else {
        0
    }
}

/// What the user should know beside the result.
fn tell(done: &VerifyDone, output: &Output) {
    // The notes were told before anything was read.
    for fault in &done.faults {
        output.note(&printable(&line(fault)));
    }
    let all = done.damaged.saturating_add(done.unreachable);
    let untold = all.saturating_sub(u64::try_from(done.faults.len()).unwrap_or(u64::MAX));
    if untold > 0 {
        output.note(&format!("and {untold} more"));
    }
    for (node, chunks) in &done.damaged_at {
        let chunks = count(*chunks, "chunk");
        output.note(&printable(&format!("{node} has {chunks} damaged or no more")));
    }
    if done.unportable > 0 {
        let (names, first) = (count(done.unportable, "name"), done.unportable_names.join(", "));
        let line = format!("not every system can have {names}, which Unix can: {first}");
        output.note(&printable(&line));
    }
    if !done.away.is_empty() {
        let away = done.away.join(", ");
        output.note(&printable(&format!("away, or did not answer: {away}")));
    }
}

fn line(fault: &VerifyFault) -> String {
    let VerifyFault { name, kind, damaged, missing, missing_bytes, names, why } = fault;
    let fate = if *damaged { "DAMAGED" } else { "out of reach" };
    match kind {
        VerifyKind::File => {
            let ranges: Vec<String> =
                missing.iter().map(|(from, to)| format!("{from}-{to}")).collect();
            let bytes = human(*missing_bytes);
            format!("{fate}: {name}: {bytes} ({}): {why}", ranges.join(", "))
        }
        VerifyKind::Tree => format!("{fate}: {} from {name} on: {why}", count(*names, "name")),
        VerifyKind::Record => format!("{fate}: {name}: {why}"),
    }
}

fn summary(done: &VerifyDone) -> String {
    let name = done.snapshot.get(..8).unwrap_or(&done.snapshot);
    let elapsed = Duration::try_from_secs_f64(done.seconds).unwrap_or_default();
    let part = match done.sample_ppm {
        ALL_PPM => String::new(),
        ppm => format!(", a sample of {}", percent(ppm)),
    };
    let mut text = format!(
        "snapshot {name} of {}: {} of {} read from {}{part}, in {:.1} s ({})\n",
        date(done.created_at),
        human(done.bytes),
        count(done.files, "file"),
        count(u64::try_from(done.holders.len()).unwrap_or(u64::MAX), "holder"),
        done.seconds,
        rate(done.bytes, elapsed),
    );
    if done.damaged > 0 {
        let what = count(done.damaged, "file");
        text.push_str(&format!(
            "{what} or parts of the snapshot are DAMAGED, see above: run `quloud backup` where the \
             files still are, and verify that snapshot; `quloud restore` brings back the rest of \
             this one\n"
        ));
    }
    if done.covered > 0 {
        let what = count(done.covered, "chunk");
        text.push_str(&format!(
            "{what} came from another holder than one that has it damaged or no more, see above: \
             the next `quloud backup` of the same files stores it anew\n"
        ));
    }
    if done.unreachable > 0 {
        let what = count(done.unreachable, "file");
        text.push_str(&format!(
            "{what} or parts of the snapshot could not be reached: start the nodes that are away, \
             and run it again\n"
        ));
    }
    if done.proven {
        text.push_str("proven: all that was read can be restored without this machine\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_percentages() {
        for (text, ppm) in
            [("5%", 50_000), ("5", 50_000), ("100%", ALL_PPM), ("0.1%", 1_000), ("0.0001", 1)]
        {
            assert_eq!(sample(text), Ok(ppm), "{text}");
        }
        for text in ["0%", "0", "101%", "-5%", "5.00001%", "", "%", "a%", "1e1", ".5"] {
            assert!(sample(text).is_err(), "{text}");
        }
        assert_eq!([50_000, ALL_PPM, 1_000, 1].map(percent), ["5%", "100%", "0.1%", "0.0001%"]);
    }

    #[test]
    fn damage_goes_before_absence_and_is_told_where_others_made_up_for_it() {
        let done = VerifyDone::default();
        assert_eq!(exit_code(&done), 0);
        let away = VerifyDone { unreachable: 2, ..done.clone() };
        assert_eq!(exit_code(&away), 3);
        assert_eq!(exit_code(&VerifyDone { damaged: 1, ..away }), 10);
        let damaged_at = vec![("peer".to_owned(), 1)];
        let copy = VerifyDone { damaged_at, covered: 1, proven: true, ..done };
        assert_eq!(exit_code(&copy), 10);
        let told = summary(&copy);
        assert!(told.contains("1 chunk came from another holder"), "{told}");
        assert!(told.contains("`quloud backup`") && told.contains("\nproven: "), "{told}");
        let lost = summary(&VerifyDone { damaged: 1, proven: false, covered: 0, ..copy });
        assert!(lost.contains("1 file or parts of the snapshot are DAMAGED"), "{lost}");
        assert!(lost.contains("run `quloud backup` where the files still are"), "{lost}");
    }

    #[test]
    fn faults_say_whether_they_are_damage() {
        let fault = VerifyFault {
            name: "/a".to_owned(),
            kind: VerifyKind::File,
            damaged: true,
            missing: vec![(0, 10)],
            missing_bytes: 10,
            names: 1,
            why: "it is gone".to_owned(),
        };
        assert_eq!(line(&fault), "DAMAGED: /a: 10 B (0-10): it is gone");
        let part = VerifyFault { kind: VerifyKind::Tree, damaged: false, names: 7, ..fault };
        assert_eq!(line(&part), "out of reach: 7 names from /a on: it is gone");
    }
}
