//! `quloud prune`: holders let go what no snapshot needs.

use super::args::{GlobalOptions, NodeOptions};
use super::output::{Output, count, duration, printable};
use super::progress::{Meter, follow};
use super::secrets::{PassphraseOptions, read_words};
use super::session::Session;
use super::signals::Interrupt;
use crate::api::client::Client;
use crate::config::size::human;
use crate::crypto::keys::OwnerKeys;
use crate::node::report::{
    ACCEPTED_DIGITS_MIN, DeleteKeyText, Failure, FailureKind, PruneDone, PruneRequest,
    WaitingForget, date,
};
use clap::Args;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

/// How long other devices are given.
const GRACE_S: u32 = 600;

/// Let go, at all holders, of what no snapshot of any of your devices needs
///
/// Chunks that only forgotten snapshots name are released: the holders keep them for their release
/// delay, 7 days as a rule, and then the space is theirs again. What a live snapshot needs stays,
/// whichever device made it; while anything speaks against a head, or a part of a snapshot cannot
/// be read, nothing is let go.
///
/// What another device of yours forgot is not carried out before this one has known of it for 7
/// days: who steals a device shall not empty your backups with this command. It is listed; when
/// it was you, run the command again and name what you forgot with --accept-forgets. Releasing
/// takes the delete key: on a device that does without it the owner's words are asked for, used
/// once and not kept.
///
/// While there is another device of yours it takes --beside-others. Its backups and this prune do
/// not wait for each other: what one lets go and the other names again is taken back or stored
/// again, by whoever looks last. That is tested, but newer than the rest: prune so only while
/// restores matter less than space. If the other device is gone for ever, `quloud recover
/// --take-over INDEX` on the machine that takes its place makes its head your own.
///
/// Files whose put is not done stay where their list of chunks is known; what is stored of others
/// the next try of the put stores again. It can be broken off at any moment: the next one reads all
/// anew and goes on. Backups of this device wait meanwhile. Exit code 3 when
/// holders were away, which the next prune asks; exit code 5 without the delete key.
#[derive(Debug, Args)]
pub(super) struct Prune {
    /// Let nothing go: tell what would be, at each holder, and what waits
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Also while there are other devices of yours
    #[arg(long)]
    beside_others: bool,
    /// How long other devices are given, such as 90s, 10m or 2h; no time where there are none
    #[arg(long, default_value = "10m", value_name = "TIME", value_parser = grace)]
    grace: u32,
    /// Another device forgot these snapshots, and it was you: their forgets count from now on; 16
    /// digits of each id, or more, as a prune lists them
    #[arg(long, value_name = "ID,...", value_delimiter = ',')]
    accept_forgets: Vec<String>,
    /// Take the delete key from the 24 words in this file, which nobody else may read
    #[arg(long, value_name = "FILE")]
    words_file: Option<PathBuf>,
    /// How many nodes shall know of it [default: as many as of the last snapshot]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=32))]
    replicas: Option<u8>,
    /// How long one part of a snapshot's tree may take, in seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: u64,
    #[command(flatten)]
    node: NodeOptions,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

/// What a prune is told to do.
pub(super) struct Wish<'a> {
    pub(super) dry_run: bool,
    pub(super) beside_others: bool,
    pub(super) grace_s: u32,
    pub(super) accept_forgets: &'a [String],
    pub(super) words_file: Option<&'a Path>,
    pub(super) replicas: Option<u8>,
    pub(super) timeout_s: u64,
}

impl Default for Wish<'_> {
    fn default() -> Self {
        Self {
            dry_run: false,
            beside_others: false,
            grace_s: GRACE_S,
            accept_forgets: &[],
            words_file: None,
            replicas: None,
            timeout_s: 60,
        }
    }
}

impl Prune {
    pub(super) async fn run(&self, global: &GlobalOptions, output: &Output) -> Result<u8, Failure> {
        let wish = Wish {
            dry_run: self.dry_run,
            beside_others: self.beside_others,
            grace_s: self.grace,
            accept_forgets: &self.accept_forgets,
            words_file: self.words_file.as_deref(),
            replicas: self.replicas,
            timeout_s: self.timeout,
        };
        let interrupt = Interrupt::listen()?;
        let session = Session::open(global, &self.node, &self.passphrase).await?;
        let code = prune(&session.client, wish, &interrupt, output).await;
        session.close(&interrupt).await;
        code
    }
}

/// Prunes, and tells what it came to. Where the device does without the delete key, the words are
/// asked for if somebody can type them.
pub(super) async fn prune(
    client: &Client,
    wish: Wish<'_>,
    interrupt: &Interrupt,
    output: &Output,
) -> Result<u8, Failure> {
    let key = wish.words_file.map(|path| delete_key(Some(path))).transpose()?;
    let can_ask = key.is_none() && io::stdin().is_terminal();
    let mut request = PruneRequest {
        dry_run: wish.dry_run,
        beside_others: wish.beside_others,
        grace_s: wish.grace_s,
        accept_forgets: wish.accept_forgets.to_vec(),
        delete_key: key,
        replicas: wish.replicas,
        timeout_s: wish.timeout_s,
    };
    let mut result = once(client, &request, interrupt, output).await;
    if can_ask && matches!(&result, Err(failure) if failure.kind == FailureKind::KeysMissing) {
        output.note("This device does without the delete key: it is made from the owner's words.");
        request.delete_key = Some(delete_key(None)?);
        result = once(client, &request, interrupt, output).await;
    }
    let done = result?;
    tell(&done, output);
    output.result(&done, || summary(&done))?;
    Ok(if done.away.is_empty() { 0 } else { FailureKind::Partial.exit_code() })
}

async fn once(
    client: &Client,
    request: &PruneRequest,
    interrupt: &Interrupt,
    output: &Output,
) -> Result<PruneDone, Failure> {
    let meter = Meter::new("prune", output);
    let resume = "run the same command again: it reads all anew and goes on";
    follow(client.prune(request), meter, interrupt, resume).await
}

/// From the owner's words; they are wiped here, and the key alone travels.
fn delete_key(file: Option<&Path>) -> Result<DeleteKeyText, Failure> {
    let master = read_words(file)?;
    let keys = OwnerKeys::derive(&master, 0);
    let key = keys.delete.as_ref().expect("keys that are derived from the master have all");
    Ok(DeleteKeyText::of(key))
}

/// Seconds of `90s`, `10m`, `2h`, `1d`, or a plain number of seconds.
fn grace(text: &str) -> Result<u32, String> {
    let wrong = || "write a time such as 90s, 10m or 2h, at most 30d".to_owned();
    let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
    let unit = units.into_iter().find_map(|(unit, s)| Some((text.strip_suffix(unit)?, s)));
    let (number, seconds) = unit.unwrap_or((text, 1));
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u32 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).filter(|seconds| *seconds <= 30 * 86_400).ok_or_else(wrong)
}

/// What the user should know beside the result.
fn tell(done: &PruneDone, output: &Output) {
    for note in &done.notes {
        output.note(&printable(note));
    }
    for waits in &done.waiting_forgets {
        output.note(&printable(&waiting(waits)));
    }
    let listed = u64::try_from(done.waiting_forgets.len()).unwrap_or(u64::MAX);
    let more = done.waiting_total.saturating_sub(listed);
    if more > 0 {
        output.note(&format!("and {more} more that other devices forgot"));
    }
    if done.waiting_total > 0 {
        let ids: Vec<&str> = done.waiting_forgets.iter().map(id).collect();
        let how = format!("run it again with --accept-forgets {}", ids.join(","));
        output.note(&printable(&format!("If you forgot all of these there yourself, {how}")));
    }
    if !done.away.is_empty() {
        let away = done.away.join(", ");
        output.note(&printable(&format!("away, and asked by the next prune: {away}")));
    }
}

fn waiting(waits: &WaitingForget) -> String {
    let WaitingForget { created_at, by, seen_at, wait_s, .. } = waits;
    let name = id(waits);
    let seen = date(i64::try_from(*seen_at).unwrap_or(i64::MAX));
    format!(
        "kept for {} more: snapshot {name} of {}, which device {by} forgot, seen {seen}",
        duration(*wait_s),
        date(*created_at),
    )
}

/// As much of a snapshot's id as its forget is accepted by.
fn id(waits: &WaitingForget) -> &str {
    waits.snapshot.get(..ACCEPTED_DIGITS_MIN).unwrap_or(&waits.snapshot)
}

fn summary(done: &PruneDone) -> String {
    if done.copies == 0 {
        let then = if done.dry_run { "nothing would be let go" } else { "nothing to let go" };
        let why = match (done.snapshots, done.waiting_total, done.away.len()) {
            (0, 0, 0) => ": no snapshot was forgotten since the last prune",
            (_, 1.., _) => ": what was forgotten does not count yet",
            (.., 1..) => " at the holders that answered",
            _ => ": other snapshots need all of it, or no holder has it any more",
        };
        return format!("{then}{why}\n");
    }
    let mut text = String::new();
    for holder in &done.holders {
        let chunks = count(holder.chunks, "chunk");
        let line = format!("  {}  {chunks}, {}\n", holder.peer_id, human(holder.bytes));
        text.push_str(&printable(line.trim_end()));
        text.push('\n');
    }
    let would = if done.dry_run { "would be let go" } else { "let go" };
    text.push_str(&format!(
        "{} {would} at {}: {} in {}",
        count(done.chunks, "chunk"),
        count(u64::try_from(done.holders.len()).unwrap_or(u64::MAX), "holder"),
        human(done.bytes),
        copies(done.copies),
    ));
    if let Some(delay_s) = done.delay_s {
        let delay = duration(delay_s.into());
        text.push_str(&format!("; they have the space again after {delay} of running"));
    }
    text.push('\n');
    if done.taken_back > 0 {
        let chunks = count(done.taken_back, "chunk");
        text.push_str(&format!("{chunks} taken back: a snapshot made meanwhile needs them\n"));
    }
    text
}

fn copies(number: u64) -> String {
    if number == 1 { "1 copy".to_owned() } else { format!("{number} copies") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::report::PruneHolder;

    #[test]
    fn times_are_numbers_with_a_unit() {
        for (text, seconds) in
            [("0", 0), ("90", 90), ("90s", 90), ("10m", 600), ("2h", 7_200), ("30d", 2_592_000)]
        {
            assert_eq!(grace(text), Ok(seconds), "{text}");
        }
        for text in ["", "m", "-1s", "1.5h", "31d", "4294967295d", "10 m", "1w"] {
            assert!(grace(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_end_says_what_goes_where_and_when_the_space_comes_back() {
        let holder = |peer_id: &str, chunks, bytes| PruneHolder {
            peer_id: peer_id.to_owned(),
            chunks,
            bytes,
        };
        let done = PruneDone {
            snapshots: 1,
            chunks: 3,
            copies: 5,
            bytes: 5_000_000,
            holders: vec![holder("A", 3, 3_000_000), holder("B", 2, 2_000_000)],
            delay_s: Some(604_800),
            ..PruneDone::default()
        };
        assert_eq!(
            summary(&done),
            "  A  3 chunks, 3.00 MB\n  B  2 chunks, 2.00 MB\n3 chunks let go at 2 holders: 5.00 MB \
             in 5 copies; they have the space again after 7 d 0 h of running\n"
        );
        let dry = PruneDone { dry_run: true, delay_s: None, ..done.clone() };
        assert!(
            summary(&dry).ends_with("3 chunks would be let go at 2 holders: 5.00 MB in 5 copies\n")
        );
        let back = summary(&PruneDone { taken_back: 1, ..done });
        assert!(back.ends_with("1 chunk taken back: a snapshot made meanwhile needs them\n"));
    }

    #[test]
    fn where_nothing_goes_it_says_why() {
        let done = PruneDone::default();
        assert!(summary(&done).contains("no snapshot was forgotten"));
        let waits = PruneDone { waiting_total: 2, dry_run: true, ..done.clone() };
        assert!(
            summary(&waits).starts_with("nothing would be let go: what was forgotten does not")
        );
        assert!(summary(&PruneDone { snapshots: 1, ..done }).contains("other snapshots need"));
        let waits =
            WaitingForget { snapshot: "0123456789abcdef".repeat(4), by: 1, ..Default::default() };
        let text = waiting(&waits);
        assert!(
            text.contains("snapshot 0123456789abcdef of 1970") && text.contains("device 1"),
            "{text}"
        );
    }
}
