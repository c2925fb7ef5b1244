//! `quloud restore`: a snapshot in, its files out.

use super::args::{GlobalOptions, NodeOptions};
use super::ls::snapshot_and_path;
use super::output::{Output, count, printable};
use super::progress::{Meter, follow, rate};
use super::secrets::PassphraseOptions;
use super::session::Session;
use super::signals::Interrupt;
use crate::config::size::human;
use crate::node::report::{
    DamagedReport, ExistingNames, Failure, FailureKind, RestoreDone, RestoreRequest, date,
};
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Bring the files of a snapshot back
///
/// The whole recorded path of each file is made below the target: what was in /data/a comes back in
/// TARGET/data/a. Every chunk is checked before it is used. The same command goes on from what is
/// there when it was interrupted. Before anything is written it is told which snapshot was found,
/// and how many holders agree about the head that leads to it. Of a file that cannot be had whole,
/// what came is kept as NAME.quloud-damaged, and the rest is restored: exit code 10 when something
/// of it is damaged or gone, exit code 3 when holders are away that may have it, or something else
/// is not as it was recorded. Of a name, what is no plain text is shown with a backslash.
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// `latest`, or the first digits of an id; with `:PATH` only what is in that folder, or that
    /// file
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: OsString,
    /// The folder to restore into: an empty or a new one
    #[arg(long, value_name = "DIR")]
    target: PathBuf,
    /// Only what is in this folder, or this file, by the path it was recorded with
    #[arg(long, value_name = "PATH")]
    path: Option<OsString>,
    /// Only what matches this pattern, as in a .gitignore; repeatable
    #[arg(long, value_name = "PATTERN")]
    include: Vec<OsString>,
    /// Leave out what matches this pattern, as in a .gitignore; repeatable
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<OsString>,
    /// Restore into a folder that is not empty; what is there stays
    #[arg(long, conflicts_with = "overwrite")]
    into: bool,
    /// Restore into a folder that is not empty; what is there is replaced, but folders
    #[arg(long)]
    overwrite: bool,
    /// Write nothing: read the snapshot's tree, and tell what would come back
    #[arg(long)]
    dry_run: bool,
    /// Make pipes, too
    #[arg(long)]
    fifos: bool,
    /// Count this record, as `quloud heads` names it, and no newer one; one of each device that is
    /// to count
    #[arg(long, value_name = "RECORD")]
    head: Vec<String>,
    /// How long one chunk may take, in seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: u64,
    #[command(flatten)]
    node: NodeOptions,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

impl Restore {
    pub(super) async fn run(&self, global: &GlobalOptions, output: &Output) -> Result<u8, Failure> {
        let request = self.request()?;
        let interrupt = Interrupt::listen()?;
        let session = Session::open(global, &self.node, &self.passphrase).await?;
        let meter = Meter::new("restore", output);
        let resume = "the same command goes on from what is there";
        let result = follow(session.client.restore(&request), meter, &interrupt, resume).await;
        session.close(&interrupt).await;
        let done = result?;
        tell(&done, output);
        output.result(&done, || summary(&done))?;
        Ok(exit_code(&done))
    }

    /// The request, after what can be told without a node.
    fn request(&self) -> Result<RestoreRequest, Failure> {
        let refused = |why: String, hint: &str| {
            Failure::new(FailureKind::Usage, "nothing was restored", why, hint)
        };
        let bytes = |text: &OsString| text.as_encoded_bytes().to_vec();
        let (snapshot, behind) = snapshot_and_path(&self.snapshot);
        let below = match &self.path {
            None => behind,
            Some(path) if !self.snapshot.as_encoded_bytes().contains(&b':') => bytes(path),
            Some(_) => {
                let why = "a path was given twice".to_owned();
                return Err(refused(why, "give it behind the snapshot, or with --path"));
            }
        };
        let target = std::path::absolute(&self.target)
            .map_err(|error| refused(error.to_string(), "name another folder with --target"))?;
        if target.to_str().is_none() {
            let why = "the target's path is not UTF-8 text".to_owned();
            return Err(refused(why, "name another folder with --target"));
        }
        let existing = match (self.into, self.overwrite) {
            (_, true) => ExistingNames::Replace,
            (true, false) => ExistingNames::Keep,
            (false, false) => ExistingNames::Refuse,
        };
        Ok(RestoreRequest {
            snapshot,
            heads: self.head.clone(),
            below,
            target,
            includes: self.include.iter().map(bytes).collect(),
            excludes: self.exclude.iter().map(bytes).collect(),
            existing,
            dry_run: self.dry_run,
            fifos: self.fifos,
            timeout_s: self.timeout,
        })
    }
}

/// Damage comes first; what is never restored is no fault, nor is a replica that another holder
/// made up for.
fn exit_code(done: &RestoreDone) -> u8 {
    let skipped = done.skipped.saturating_sub(done.skipped_by_rule);
    if done.damaged > 0 {
        FailureKind::Damage.exit_code()
    } else if done.unreachable > 0 || skipped > 0 || done.undressed > 0 {
        FailureKind::Partial.exit_code()
    } else {
        0
    }
}

/// What the user should know beside the result.
fn tell(done: &RestoreDone, output: &Output) {
    // The notes were told before anything was written.
    for part in &done.lost_parts {
        let entries = count(part.entries, "name");
        let from = if part.first.is_empty() { "the beginning" } else { &part.first };
        let (fate, why) = (fate(part.damaged), &part.why);
        output.note(&printable(&format!("{fate}: {entries} from {from} on: {why}")));
    }
    for file in &done.damaged_files {
        output.note(&printable(&damage(file)));
    }
    let lists = [
        (&done.skipped_lines, done.skipped, "not restored"),
        (&done.undressed_lines, done.undressed, "not as recorded"),
    ];
    for (lines, all, what) in lists {
        for line in lines {
            output.note(&printable(line));
        }
        let untold = all.saturating_sub(u64::try_from(lines.len()).unwrap_or(u64::MAX));
        if untold > 0 {
            output.note(&format!("and {untold} more that are {what}"));
        }
    }
    let listed = done.lost_parts.len().saturating_add(done.damaged_files.len());
    let all = done.damaged.saturating_add(done.unreachable);
    let untold = all.saturating_sub(u64::try_from(listed).unwrap_or(u64::MAX));
    if untold > 0 {
        output.note(&format!("and {untold} more that are not whole"));
    }
    for (node, chunks) in &done.damaged_at {
        let chunks = count(*chunks, "chunk");
        output.note(&printable(&format!("{node} has {chunks} damaged or no more")));
    }
    if !done.away.is_empty() {
        let away = done.away.join(", ");
        output.note(&printable(&format!("did not answer for what lacks: {away}")));
    }
}

fn fate(damaged: bool) -> &'static str {
    if damaged { "DAMAGED" } else { "out of reach" }
}

fn damage(file: &DamagedReport) -> String {
    let DamagedReport { path, name, missing, missing_bytes, damaged, why } = file;
    let fate = fate(*damaged);
    let ranges: Vec<String> = missing.iter().map(|(from, to)| format!("{from}-{to}")).collect();
    let kept = match name {
        Some(name) => format!("; the rest is in {name}"),
        None => String::new(),
    };
    let bytes = human(*missing_bytes);
    format!("{fate}: {path}: {bytes} missing ({}): {why}{kept}", ranges.join(", "))
}

fn summary(done: &RestoreDone) -> String {
    let elapsed = Duration::try_from_secs_f64(done.seconds).unwrap_or_default();
    let name = done.snapshot.get(..8).unwrap_or(&done.snapshot);
    let made = date(done.created_at);
    let mut text = format!(
        "snapshot {name} of {made}: {} {}, {}, {} others, {} in {:.1} s ({})\n",
        if done.dry_run { "would restore" } else { "restored" },
        count(done.files, "file"),
        count(done.folders, "folder"),
        done.others,
        human(done.bytes),
        done.seconds,
        rate(done.bytes, elapsed),
    );
    if done.partial {
        text.push_str("the snapshot is partial: what could not be read then is not in it\n");
    }
    if done.damaged > 0 {
        let files = count(done.damaged, "file");
        text.push_str(&format!(
            "{files} or parts of the tree are DAMAGED, see above: another snapshot may have them \
             whole, `quloud find` shows which ones have a name\n"
        ));
    }
    if done.unreachable > 0 {
        let files = count(done.unreachable, "file");
        text.push_str(&format!(
            "{files} or parts of the tree could not be reached, see above: start the nodes that \
             are away and run the same command again, it gets what is missing\n"
        ));
    }
    for (recorded, restored) in &done.roots {
        text.push_str(&printable(&format!("{recorded} -> {restored}")));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn damage_outweighs_what_is_missing_and_rules_are_no_fault() {
        let done = RestoreDone::default();
        assert_eq!(exit_code(&done), 0);
        let by_rule = RestoreDone { skipped: 2, skipped_by_rule: 2, ..done.clone() };
        assert_eq!(exit_code(&by_rule), 0);
        let skipped = RestoreDone { skipped: 3, ..by_rule };
        assert_eq!(exit_code(&skipped), 3);
        assert_eq!(exit_code(&RestoreDone { undressed: 1, ..done }), 3);
        assert_eq!(exit_code(&RestoreDone { damaged: 1, ..skipped }), 10);
    }

    #[test]
    fn absence_is_told_from_damage_with_what_to_do_next() {
        let away = RestoreDone { unreachable: 1, ..RestoreDone::default() };
        assert_eq!(exit_code(&away), 3);
        let text = summary(&away);
        assert!(text.contains("1 file or parts of the tree could not be reached"), "{text}");
        assert!(text.contains("run the same command again") && !text.contains("DAMAGED"), "{text}");
        let both = RestoreDone { damaged: 2, ..away };
        assert_eq!(exit_code(&both), 10);
        assert!(summary(&both).contains("2 files or parts of the tree are DAMAGED"));
        let covered = vec![("peer".to_owned(), 1)];
        assert_eq!(exit_code(&RestoreDone { damaged_at: covered, ..RestoreDone::default() }), 0);
    }

    #[test]
    fn paths_and_patterns_are_bytes() {
        use clap::Parser;
        use std::os::unix::ffi::OsStrExt;

        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            restore: Restore,
        }
        let parsed = |args: &[&[u8]]| {
            let args = args.iter().map(|arg| OsStr::from_bytes(arg));
            Line::try_parse_from(args).unwrap().restore.request()
        };
        let behind = parsed(&[b"restore", b"latest:/a\xff", b"--target", b"/t"]).unwrap();
        assert_eq!((behind.snapshot.as_str(), &*behind.below), ("latest", &b"/a\xff"[..]));
        let apart: [&[u8]; 9] = [
            b"restore",
            b"ab",
            b"--path",
            b"/\xfe",
            b"--include",
            b"\xfd*",
            b"--exclude=\xfc",
            b"--target",
            b"/t",
        ];
        let apart = parsed(&apart).unwrap();
        assert_eq!((apart.snapshot.as_str(), &*apart.below), ("ab", &b"/\xfe"[..]));
        assert_eq!(
            (apart.includes, apart.excludes),
            (vec![b"\xfd*".to_vec()], vec![b"\xfc".to_vec()])
        );
        let twice = parsed(&[b"restore", b"ab:/a", b"--path", b"/b", b"--target", b"/t"]);
        assert_eq!(twice.unwrap_err().kind, FailureKind::Usage);
    }

    #[test]
    fn names_of_damaged_files_cannot_steer_the_terminal() {
        let file = DamagedReport {
            path: "a\u{1b}[2J".to_owned(),
            name: Some("a\u{1b}[2J.quloud-damaged".to_owned()),
            missing: vec![(0, 4096), (8192, 8193)],
            missing_bytes: 4097,
            damaged: true,
            why: "nobody has it".to_owned(),
        };
        let line = printable(&damage(&file));
        assert!(
            line.contains("(0-4096, 8192-8193): nobody has it; the rest is in a\\u{1b}"),
            "{line}"
        );
    }
}
