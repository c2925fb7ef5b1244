//! `quloud audit`: every holder proves what it keeps, now.

use super::args::{GlobalOptions, NodeOptions};
use super::output::{Output, count, printable};
use super::progress::{Meter, follow};
use super::secrets::PassphraseOptions;
use super::session::Session;
use super::signals::Interrupt;
use crate::config::size::human;
use crate::node::report::{
    AtStake, AuditDone, AuditProof, AuditRequest, AuditedHolder, Failure, FailureKind,
};
use clap::{Args, ValueEnum};

/// Ask every holder, now, to prove that it has what it acknowledged
///
/// Each holder gets a challenge that nobody saw before and answers with a proof over every byte of
/// every chunk that it keeps for you; a proof of 4 KiB stands for thousands of chunks. This machine
/// needs none of the files to check it: the words are enough, so it works the same after
/// `quloud recover`. What the proof does not cover, because a holder has lost it, is damaged on its
/// disk, or answers wrongly for it, is named, with the holder and the files that have one replica
/// less; `quloud heal` brings the replicas back.
///
/// An audit shows that the holder could get at the bytes when it was asked. Whether it would hand
/// them out shows `quloud verify`, which reads them back.
///
/// Exit code 10 when a replica was found damaged, gone or lied about; 3 when holders were silent,
/// which says nothing about damage, or when something has fewer replicas than were wished for.
#[derive(Debug, Args)]
pub(super) struct Audit {
    /// Only what this snapshot names: `latest`, or the first digits of an id; else all that is
    /// stored
    #[arg(value_name = "SNAPSHOT")]
    snapshot: Option<String>,
    /// How holders prove it: `compact` needs the keys alone; `mac` also makes bytes again from what
    /// is on this machine, where it has them, and compares
    #[arg(long, value_name = "KIND", default_value = "compact")]
    kind: Kind,
    /// How long one part of a snapshot's tree may take, in seconds
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: u64,
    #[command(flatten)]
    node: NodeOptions,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Compact,
    Mac,
}

impl Audit {
    pub(super) async fn run(&self, global: &GlobalOptions, output: &Output) -> Result<u8, Failure> {
        let request = AuditRequest {
            snapshot: self.snapshot.clone(),
            kind: match self.kind {
                Kind::Compact => AuditProof::Compact,
                Kind::Mac => AuditProof::Mac,
            },
            timeout_s: self.timeout,
        };
        let interrupt = Interrupt::listen()?;
        let session = Session::open(global, &self.node, &self.passphrase).await?;
        let meter = Meter::new("audit", output);
        let resume = "run the same command again";
        let result = follow(session.client.audit(&request), meter, &interrupt, resume).await;
        session.close(&interrupt).await;
        let done = result?;
        tell(&done, output);
        output.result(&done, || summary(&done))?;
        Ok(exit_code(&done))
    }
}

/// A proof of damage comes before silence.
pub(super) fn exit_code(done: &AuditDone) -> u8 {
    if done.damaged > 0 {
        FailureKind::Damage.exit_code()
    } else if [done.silent, done.busy, done.unproven, done.short].iter().any(|of| *of > 0) {
        FailureKind::Partial.exit_code()
    } else {
        0
    }
}

/// What the user should know beside the result.
fn tell(done: &AuditDone, output: &Output) {
    for note in &done.notes {
        output.note(&printable(note));
    }
    for holder in &done.holders {
        if let Some(line) = holder_line(holder) {
            output.note(&printable(&line));
        }
    }
    tell_files(&done.files, done.files_total, output);
    if done.unread > 0 {
        let parts = count(done.unread, "part");
        let line = format!("{parts} of snapshots could not be read: more files may be at stake");
        output.note(&line);
    }
}

/// Names that have fewer replicas than before.
pub(super) fn tell_files(files: &[AtStake], total: u64, output: &Output) {
    for AtStake { snapshot, name, chunks, lost } in files {
        let snapshot = snapshot.get(..8).unwrap_or(snapshot);
        let fate = match lost {
            0 => format!("{} short of a replica", count(*chunks, "chunk")),
            lost => format!("LOST: no replica is left of {}", count(*lost, "chunk")),
        };
        output.note(&printable(&format!("{name} (snapshot {snapshot}): {fate}")));
    }
    let untold = total.saturating_sub(u64::try_from(files.len()).unwrap_or(u64::MAX));
    if untold > 0 {
        output.note(&format!("and {untold} more"));
    }
}

/// What is wrong with a holder, if anything.
fn holder_line(holder: &AuditedHolder) -> Option<String> {
    let found = [
        (holder.lied, "lied about"),
        (holder.rotten, "damaged"),
        (holder.missing, "gone"),
        (holder.unproven, "not proven"),
        (holder.silent, "without an answer"),
        (holder.busy, "put off, as it is busy"),
    ];
    let found = found.into_iter().filter(|(of, _)| *of > 0);
    let found: Vec<String> =
        found.map(|(of, what)| format!("{} {what}", count(of, "chunk"))).collect();
    if found.is_empty() && holder.wrong_answers == 0 {
        return None;
    }
    let AuditedHolder { peer_id, standing, why, .. } = holder;
    let found = match found.is_empty() {
        true => {
            format!("{} wrong, and right when asked again", count(holder.wrong_answers, "answer"))
        }
        false => found.join(", "),
    };
    Some(format!("{peer_id} ({standing}): {found}; {why}"))
}

fn summary(done: &AuditDone) -> String {
    let holders = count(u64::try_from(done.holders.len()).unwrap_or(u64::MAX), "holder");
    let mut text = format!(
        "{} of {} proven at {holders}: {}, in {:.1} s; the audit moved {}\n",
        done.proven,
        count(done.replicas, "replica"),
        human(done.bytes_proven),
        done.seconds,
        human(done.bytes_moved),
    );
    if done.damaged > 0 {
        text.push_str(&format!(
            "{} are no more, see above: `quloud heal` stores them anew on nodes that are sound\n",
            count(done.damaged, "replica"),
        ));
    }
    if done.short > 0 {
        text.push_str(&format!(
            "{} have fewer replicas than were wished for, see above: `quloud heal` adds them\n",
            count(done.short, "chunk"),
        ));
    }
    if done.lost > 0 {
        text.push_str(&format!(
            "no replica is known of {}: `quloud backup` stores it anew where the files still are\n",
            count(done.lost, "chunk"),
        ));
    }
    if done.unproven > 0 {
        text.push_str(&format!(
            "{} could not be told apart in wrong answers: `quloud heal` replaces those of a liar\n",
            count(done.unproven, "replica"),
        ));
    }
    if done.silent > 0 {
        text.push_str(&format!(
            "nothing was heard of {}: start the nodes that are away, and run it again\n",
            count(done.silent, "replica"),
        ));
    }
    if done.busy > 0 {
        text.push_str(&format!(
            "holders were too busy for {}: a running node asks them again\n",
            count(done.busy, "replica"),
        ));
    }
    if done.unneeded > 0 {
        text.push_str(&format!(
            "{} are gone that nothing needs any more\n",
            count(done.unneeded, "replica"),
        ));
    }
    if done.replicas > 0 && done.proven == done.replicas {
        text.push_str("every replica that was acknowledged is there, to the last byte\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_goes_before_silence_and_each_is_said_with_what_to_do() {
        let done = AuditDone { replicas: 3, proven: 3, ..AuditDone::default() };
        assert_eq!(exit_code(&done), 0);
        assert!(summary(&done).contains("every replica"), "{}", summary(&done));
        let silent = AuditDone { proven: 2, silent: 1, ..done.clone() };
        assert_eq!(exit_code(&silent), 3);
        let damaged = AuditDone { proven: 1, damaged: 1, lost: 1, ..silent };
        assert_eq!(exit_code(&damaged), 10);
        let told = summary(&damaged);
        for what in ["1 of 3 replicas", "`quloud heal`", "`quloud backup`", "nodes that are away"] {
            assert!(told.contains(what), "{what}: {told}");
        }
        assert_eq!(exit_code(&AuditDone { proven: 2, unproven: 1, ..done }), 3);
    }

    #[test]
    fn a_holder_is_named_with_what_is_wrong_and_why() {
        let holder = AuditedHolder { peer_id: "12D3".to_owned(), ..AuditedHolder::default() };
        assert_eq!(holder_line(&holder), None);
        let standing = "liar".to_owned();
        let why = "wrong answers on 2026-11-22".to_owned();
        let liar = AuditedHolder { lied: 2, missing: 1, standing, why, ..holder.clone() };
        let told = holder_line(&liar).unwrap();
        let expected =
            "12D3 (liar): 2 chunks lied about, 1 chunk gone; wrong answers on 2026-11-22";
        assert_eq!(told, expected);
        let unsteady = AuditedHolder { wrong_answers: 1, ..holder };
        assert!(holder_line(&unsteady).unwrap().contains("1 answer wrong"));
    }
}
