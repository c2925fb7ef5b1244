//! `quloud forget`: which snapshots are still wanted.

use super::args::{GlobalOptions, NodeOptions};
use super::output::{Output, count, printable};
use super::prune::{Wish, prune};
use super::rows::{notes, print_rows};
use super::secrets::PassphraseOptions;
use super::session::Session;
use super::signals::Interrupt;
use super::snapshots;
use crate::node::report::{
    Failure, FailureKind, ForgetDone, ForgetRequest, ForgetRow, KeepOptions,
};
use clap::Args;
use std::path::{Component, Path, PathBuf};

/// Forget snapshots: by their ids, or all that a policy does not keep
///
/// The policy is applied to each group of snapshots by itself, of one host and the same paths
/// unless --group-by says otherwise, and keeps what any of its options keeps; hours, days and so on
/// are those of the clock of the device that made the snapshot. The last snapshots of a group are
/// never forgotten by a policy. Forgotten snapshots are gone from all lists at once; their chunks
/// stay with the holders until `quloud prune`, or --prune here, lets go what no other snapshot
/// needs. With --json there is one object a line, and what it came to in the last one.
#[derive(Debug, Args)]
pub(super) struct Forget {
    /// These and no others: `latest`, or the first digits of an id
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    #[command(flatten)]
    keep: Keep,
    /// Some of host, paths and tags, with commas between them [default: host,paths]
    #[arg(long, short, value_name = "GROUP")]
    group_by: Option<String>,
    /// Only snapshots of this host; repeatable
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// Only snapshots with all of these tags; repeatable
    #[arg(long, value_name = "TAG[,TAG]")]
    tag: Vec<String>,
    /// Only snapshots of this path, named as for `quloud backup`; repeatable: of all of them
    #[arg(long, value_name = "PATH")]
    path: Vec<PathBuf>,
    /// Forget nothing: tell what would be forgotten
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Then let go what no snapshot needs any more, as `quloud prune` does for a device that is the
    /// only one of its owner
    #[arg(long, conflicts_with = "dry_run")]
    prune: bool,
    /// How many nodes shall know of it [default: as many as of the last snapshot]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=32))]
    replicas: Option<u8>,
    /// How long to wait for these nodes, in seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: u64,
    #[command(flatten)]
    node: NodeOptions,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

/// The policy.
#[derive(Debug, Args)]
#[command(next_help_heading = "What is kept (N is a number or unlimited, a SPAN like 1y6m7d12h)")]
struct Keep {
    /// The N newest
    #[arg(long, short = 'l', value_name = "N", allow_hyphen_values = true)]
    keep_last: Option<String>,
    /// The newest of each of the N newest hours that have any
    #[arg(long, short = 'H', value_name = "N", allow_hyphen_values = true)]
    keep_hourly: Option<String>,
    /// The same of days
    #[arg(long, short = 'd', value_name = "N", allow_hyphen_values = true)]
    keep_daily: Option<String>,
    /// The same of weeks
    #[arg(long, short = 'w', value_name = "N", allow_hyphen_values = true)]
    keep_weekly: Option<String>,
    /// The same of months
    #[arg(long, short = 'm', value_name = "N", allow_hyphen_values = true)]
    keep_monthly: Option<String>,
    /// The same of years
    #[arg(long, short = 'y', value_name = "N", allow_hyphen_values = true)]
    keep_yearly: Option<String>,
    /// All that are younger than this, counted from the newest
    #[arg(long, value_name = "SPAN")]
    keep_within: Option<String>,
    /// Of these, the newest of each hour
    #[arg(long, value_name = "SPAN")]
    keep_within_hourly: Option<String>,
    /// Of these, the newest of each day
    #[arg(long, value_name = "SPAN")]
    keep_within_daily: Option<String>,
    /// Of these, the newest of each week
    #[arg(long, value_name = "SPAN")]
    keep_within_weekly: Option<String>,
    /// Of these, the newest of each month
    #[arg(long, value_name = "SPAN")]
    keep_within_monthly: Option<String>,
    /// Of these, the newest of each year
    #[arg(long, value_name = "SPAN")]
    keep_within_yearly: Option<String>,
    /// All that have all of these tags; repeatable
    #[arg(long, value_name = "TAG[,TAG]")]
    keep_tag: Vec<String>,
}

impl Forget {
    pub(super) async fn run(&self, global: &GlobalOptions, output: &Output) -> Result<u8, Failure> {
        let request = self.request()?;
        let interrupt = Interrupt::listen()?;
        let session = Session::open(global, &self.node, &self.passphrase).await?;
        let mut group = None;
        let text = |row: &ForgetRow| {
            let heading = group.as_ref() != Some(&row.group);
            let text = line(row, heading, self.dry_run);
            group = Some(row.group.clone());
            text
        };
        let list = session.client.forget(&request);
        let done = print_rows(list, output, &interrupt, text).await;
        let code = match done {
            Ok(Some(done)) => self.tell(&done, &session, &interrupt, output).await,
            Ok(None) => Ok(0),
            Err(failure) => Err(failure),
        };
        session.close(&interrupt).await;
        code
    }

    /// Tells what it came to, and prunes where that is wanted.
    async fn tell(
        &self,
        done: &ForgetDone,
        session: &Session,
        interrupt: &Interrupt,
        output: &Output,
    ) -> Result<u8, Failure> {
        notes(&done.notes, output);
        output.result(done, || summary(done, self.prune))?;
        let is_short = done.replicas.is_some_and(|replicas| replicas < done.replicas_wished);
        let code = if is_short { FailureKind::Partial.exit_code() } else { 0 };
        if !self.prune {
            return Ok(code);
        }
        let wish = Wish { replicas: self.replicas, timeout_s: self.timeout, ..Wish::default() };
        Ok(code.max(prune(&session.client, wish, interrupt, output).await?))
    }

    /// The request, after what can be told without a node.
    fn request(&self) -> Result<ForgetRequest, Failure> {
        let keep = &self.keep;
        Ok(ForgetRequest {
            snapshots: self.snapshots.clone(),
            keep: KeepOptions {
                last: keep.keep_last.clone(),
                hourly: keep.keep_hourly.clone(),
                daily: keep.keep_daily.clone(),
                weekly: keep.keep_weekly.clone(),
                monthly: keep.keep_monthly.clone(),
                yearly: keep.keep_yearly.clone(),
                within: keep.keep_within.clone(),
                within_hourly: keep.keep_within_hourly.clone(),
                within_daily: keep.keep_within_daily.clone(),
                within_weekly: keep.keep_within_weekly.clone(),
                within_monthly: keep.keep_within_monthly.clone(),
                within_yearly: keep.keep_within_yearly.clone(),
                tags: keep.keep_tag.clone(),
            },
            group_by: self.group_by.clone(),
            hosts: self.host.clone(),
            tags: self.tag.clone(),
            paths: self.path.iter().map(|path| recorded(path)).collect::<Result<_, _>>()?,
            dry_run: self.dry_run,
            replicas: self.replicas,
            timeout_s: self.timeout,
        })
    }
}

/// The path as `backup` records it: from the root, links as they were named, but where `..` would
/// have to be taken back.
fn recorded(path: &Path) -> Result<String, Failure> {
    let refused = |why: String| {
        let what = format!("nothing was forgotten: --path {} is not known", path.display());
        let hint = "name it from the root and without `..`, as `quloud snapshots` shows it";
        Failure::new(FailureKind::Usage, what, why, hint)
    };
    let climbs = path.components().any(|component| component == Component::ParentDir);
    let found = if climbs { path.canonicalize() } else { std::path::absolute(path) };
    let found = found.map_err(|error| refused(error.to_string()))?;
    // Without a slash at the end.
    let found: PathBuf = found.components().collect();
    let text = found.to_str().map(ToOwned::to_owned);
    text.ok_or_else(|| refused("no snapshot is of a path that is not UTF-8 text".to_owned()))
}

/// What becomes of one snapshot; with the first one of a group what these have in common.
fn line(row: &ForgetRow, heading: bool, dry_run: bool) -> String {
    let mut text = String::new();
    if heading && !row.group.is_empty() {
        text.push_str(&format!("{}:\n", row.group));
    }
    let fate = match (row.kept, dry_run) {
        (true, _) => "keep  ",
        (false, false) => "forgot",
        (false, true) => "forget",
    };
    let snapshot = snapshots::line(&row.snapshot);
    let snapshot = snapshot.trim_end();
    let why = match row.reasons.as_slice() {
        [] => String::new(),
        reasons => printable(&format!("  ({})", reasons.join(", "))),
    };
    text.push_str(&format!("  {fate}  {snapshot}{why}\n"));
    text
}

fn summary(done: &ForgetDone, prunes: bool) -> String {
    let would = if done.dry_run { "would be forgotten" } else { "forgotten" };
    let kept = match done.groups {
        0 => String::new(),
        groups => format!(", {} kept in {}", done.kept, count(groups, "group")),
    };
    let next = match done.replicas {
        Some(_) if !prunes => "; `quloud prune` lets go what only they need",
        _ => "",
    };
    format!("{} {would}{kept}{next}\n", count(done.forgotten, "snapshot"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::report::SnapshotReport;

    #[test]
    fn paths_are_named_as_for_a_backup() {
        let here = std::env::current_dir().unwrap();
        let below = |name: &str| here.join(name).to_str().unwrap().to_owned();
        for (path, name) in [
            ("/data/", "/data".to_owned()),
            ("/data/./a//b", "/data/a/b".to_owned()),
            ("/", "/".to_owned()),
            ("./photos", below("photos")),
            ("photos/", below("photos")),
            ("src/../src/", below("src")),
        ] {
            assert_eq!(recorded(Path::new(path)).unwrap(), name, "{path}");
        }
        let failure = recorded(Path::new("../no such folder")).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Usage, "{failure:?}");
    }

    #[test]
    fn lines_say_what_stays_and_why_and_steer_no_terminal() {
        let snapshot = SnapshotReport {
            snapshot: "0123456789".to_owned(),
            host: "a\u{1b}b".to_owned(),
            ..SnapshotReport::default()
        };
        let group = "host attic, paths /data".to_owned();
        let reasons = vec!["daily snapshot".to_owned(), "has tags [x]".to_owned()];
        let kept = ForgetRow { snapshot, group, kept: true, reasons };
        let text = line(&kept, true, false);
        assert!(text.starts_with("host attic, paths /data:\n  keep    01234567  "), "{text}");
        assert!(text.ends_with("(daily snapshot, has tags [x])\n"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        let gone = ForgetRow { kept: false, reasons: Vec::new(), ..kept };
        assert!(line(&gone, false, true).starts_with("  forget  01234567"));
    }

    #[test]
    fn the_end_says_how_space_is_freed() {
        let done = ForgetDone { groups: 2, kept: 3, forgotten: 1, ..ForgetDone::default() };
        let written = ForgetDone { replicas: Some(3), ..done.clone() };
        assert_eq!(
            summary(&written, false),
            "1 snapshot forgotten, 3 kept in 2 groups; `quloud prune` lets go what only they need\n"
        );
        assert_eq!(summary(&written, true), "1 snapshot forgotten, 3 kept in 2 groups\n");
        let text = summary(&ForgetDone { dry_run: true, ..done }, false);
        assert_eq!(text, "1 snapshot would be forgotten, 3 kept in 2 groups\n");
    }
}
