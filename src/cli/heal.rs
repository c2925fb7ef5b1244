//! `quloud heal`: what has too few replicas gets them back, now.

use super::args::{GlobalOptions, NodeOptions};
use super::audit::tell_files;
use super::output::{Output, count, printable};
use super::progress::{Meter, follow};
use super::secrets::PassphraseOptions;
use super::session::Session;
use super::signals::Interrupt;
use crate::config::size::human;
use crate::node::report::{Failure, FailureKind, HealDone, HealRequest};
use clap::Args;

/// Store anew, now, whatever has fewer replicas than it should
///
/// All that snapshots and files that were put name is looked up; each chunk with fewer replicas
/// than wanted is taken from this machine or from a holder that has it whole, checked against its
/// id, and given to nodes that do not have it. Replicas that an audit found damaged, gone or lied
/// about do not count, and neither do those of holders that have not been heard of for too long:
/// run `quloud audit` first to know. What was healed when it is broken off is not sent again.
///
/// A running node does the same by itself, within `repair_per_day` (see `quloud config show`). This
/// command does not stop there, and what it moves counts in it: the node repairs less that day.
/// Holders that lose what they are given are asked last, and not again while it runs.
///
/// Exit code 0 only when every chunk has as many replicas as wanted; 3 when some still have fewer,
/// 10 when some have none left that can be read: those files are named.
#[derive(Debug, Args)]
pub(super) struct Heal {
    /// How many nodes shall have each chunk [default: as many as each snapshot was made for]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=32))]
    replicas: Option<u8>,
    /// How long to wait for nodes that take a chunk while none does, in seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: u64,
    #[command(flatten)]
    node: NodeOptions,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

impl Heal {
    pub(super) async fn run(&self, global: &GlobalOptions, output: &Output) -> Result<u8, Failure> {
        let request = HealRequest { replicas: self.replicas, timeout_s: self.timeout };
        let interrupt = Interrupt::listen()?;
        let session = Session::open(global, &self.node, &self.passphrase).await?;
        let meter = Meter::new("heal", output);
        let resume = "run the same command again: what was healed is not sent again";
        let result = follow(session.client.heal(&request), meter, &interrupt, resume).await;
        session.close(&interrupt).await;
        let done = result?;
        for note in &done.notes {
            output.note(&printable(note));
        }
        tell_files(&done.files, done.files_total, output);
        output.result(&done, || summary(&done))?;
        Ok(exit_code(&done))
    }
}

pub(super) fn exit_code(done: &HealDone) -> u8 {
    if done.lost > 0 {
        FailureKind::Damage.exit_code()
    } else if done.still_short > 0 || done.unread > 0 {
        FailureKind::Partial.exit_code()
    } else {
        0
    }
}

fn summary(done: &HealDone) -> String {
    let mut text = match done.short {
        0 => format!("all {} have their replicas: nothing to heal\n", count(done.chunks, "chunk")),
        short => format!(
            "{} of {} had fewer replicas than wanted: {} healed, {} read for it, in {:.1} s\n",
            short,
            count(done.chunks, "chunk"),
            done.healed,
            human(done.bytes_read),
            done.seconds,
        ),
    };
    if done.still_short > 0 {
        text.push_str(&format!(
            "{} still lack replicas (the fewest have {} of {}): start more nodes, or give those \
             that run more room, and run it again\n",
            count(done.still_short, "chunk"),
            done.fewest,
            done.wanted,
        ));
    }
    if done.lost > 0 {
        text.push_str(&format!(
            "{} cannot be read anywhere, see above: start nodes that are away and may have them, \
             or run `quloud backup` where the files still are\n",
            count(done.lost, "chunk"),
        ));
    }
    if done.unread > 0 {
        text.push_str(&format!(
            "{} could not be read to the end: what they name may be short too\n",
            count(done.unread, "snapshot"),
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_well_only_when_every_chunk_is_back_at_its_target() {
        let done = HealDone { chunks: 9, wanted: 3, fewest: 3, ..HealDone::default() };
        assert_eq!(exit_code(&done), 0);
        assert!(summary(&done).starts_with("all 9 chunks have their replicas"));
        let healed = HealDone { short: 2, healed: 2, ..done.clone() };
        assert_eq!(exit_code(&healed), 0);
        assert!(summary(&healed).starts_with("2 of 9 chunks had fewer"), "{}", summary(&healed));
        let short = HealDone { short: 2, healed: 1, still_short: 1, fewest: 2, ..done.clone() };
        assert_eq!(exit_code(&short), 3);
        assert!(summary(&short).contains("the fewest have 2 of 3"), "{}", summary(&short));
        assert_eq!(exit_code(&HealDone { lost: 1, ..short }), 10);
        assert_eq!(exit_code(&HealDone { unread: 1, ..done }), 3);
    }
}
