//! How far a restore is, and what it came to, as the user is told.

use super::{Job, recorded};
use crate::node::report::{DamagedReport, LostPart, Progress, RestoreDone};
use crate::repo::names::inert;
use crate::repo::restore::report::{
    DamagedFile, LostPart as Lost, RestoreProgress, RestoreReport, SkipReason, Skipped, Undressed,
};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Between two lines of progress.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// Of each kind of trouble so many are listed,
const LISTED_MAX: usize = 100;

/// and no more text than this, so that all of it fits one answer however it is written.
const LISTED_BYTES_MAX: usize = 32 << 10;

/// Of a damaged file so many ranges are listed.
const RANGES_MAX: usize = 16;

/// Tells how far it is, now and then.
pub(super) struct Teller<'a> {
    progress: &'a mpsc::Sender<Progress<RestoreDone>>,
    told: Option<Instant>,
    chunks: u64,
    /// When the first bytes of a file came.
    first_byte: Option<Instant>,
}

impl<'a> Teller<'a> {
    pub(super) fn new(progress: &'a mpsc::Sender<Progress<RestoreDone>>) -> Self {
        Self { progress, told: None, chunks: 0, first_byte: None }
    }

    /// When the first bytes of a file came, as far as any did.
    pub(super) fn first_byte(&self) -> Option<Instant> {
        self.first_byte
    }

    /// Chunks that came, as far as was told.
    pub(super) fn chunks(&self) -> u64 {
        self.chunks
    }

    pub(super) fn moved(&mut self, now: RestoreProgress) {
        self.chunks = self.chunks.max(now.chunks);
        if now.bytes > 0 && self.first_byte.is_none() {
            self.first_byte = Some(Instant::now());
        }
        if self.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        let working = Progress::Working {
            bytes: now.bytes,
            total: Some(now.bytes_total),
            chunks: now.chunks,
            replicas: None,
            note: Some(format!("{} of {} names", now.entries, now.entries_total)),
        };
        // A full queue means that the listener is slow: the next line tells more.
        drop(self.progress.try_send(working));
    }
}

/// Says what is being done.
pub(super) fn note(progress: &mpsc::Sender<Progress<RestoreDone>>, note: &str) {
    let note = Some(note.to_owned());
    let working = Progress::Working { bytes: 0, total: None, chunks: 0, replicas: None, note };
    drop(progress.try_send(working));
}

/// What came from the mesh.
pub(super) struct Came {
    /// How many chunks.
    pub(super) chunks: u64,
    /// PeerIds of those who served them, with how many each did.
    pub(super) holders: Vec<(String, u64)>,
    /// PeerIds of those who had some damaged or no more, with how many each.
    pub(super) damaged_at: Vec<(String, u64)>,
    /// PeerIds of those who have to have what did not come, and did not answer.
    pub(super) away: Vec<String>,
    /// When the first bytes of a file did.
    pub(super) first_byte: Option<Instant>,
}

/// What it came to.
pub(super) fn done(job: &Job, report: RestoreReport, came: Came) -> RestoreDone {
    let Came { chunks, holders, damaged_at, away, first_byte } = came;
    let first_byte = first_byte.map(|at| at.saturating_duration_since(job.started));
    let count = |damaged: bool| {
        let gaps = report.gaps.iter().filter(|lost| lost.why.is_damage() == damaged).count();
        let unreachable = report.unreachable_count;
        let files = match damaged {
            true => report.damaged_count.saturating_sub(unreachable),
            false => unreachable,
        };
        files.saturating_add(u64::try_from(gaps).unwrap_or(u64::MAX))
    };
    let verified = match job.request.dry_run {
        true => 0,
        false => report.files.saturating_sub(report.resumed_files),
    };
    RestoreDone {
        snapshot: job.chosen.id.to_string(),
        created_at: job.snapshot.created_ns.div_euclid(1_000_000_000),
        head: job.head.clone(),
        roots: roots(job),
        dry_run: job.request.dry_run,
        partial: job.snapshot.partial,
        files: report.files,
        folders: report.folders,
        others: report.others,
        bytes: report.bytes,
        verified,
        resumed_files: report.resumed_files,
        chunks,
        holders,
        seconds: job.started.elapsed().as_secs_f64(),
        first_byte_seconds: first_byte.map(|after| after.as_secs_f64()),
        damaged: count(true),
        unreachable: count(false),
        damaged_files: listed(report.damaged.iter().map(damaged), |file| {
            file.path.len() + file.name.as_ref().map_or(0, String::len) + file.why.len()
        }),
        lost_parts: listed(report.gaps.iter().map(lost), |part| part.first.len() + part.why.len()),
        damaged_at,
        away,
        skipped: report.skipped_count,
        skipped_by_rule: report.skipped_by_rule,
        skipped_lines: listed(report.skipped.iter().map(skipped), String::len),
        undressed: report.undressed_count,
        undressed_lines: listed(report.undressed.iter().map(undressed), String::len),
        journal: report.journal.map(|path| path.display().to_string()),
        notes: job.notes.clone(),
    }
}

/// The first items, as far as there is room.
fn listed<T>(items: impl Iterator<Item = T>, bytes_of: impl Fn(&T) -> usize) -> Vec<T> {
    let mut bytes = 0;
    let fits = items.take(LISTED_MAX).take_while(|item| {
        bytes += bytes_of(item);
        bytes <= LISTED_BYTES_MAX
    });
    fits.collect()
}

/// What was backed up, and where it is now.
fn roots(job: &Job) -> Vec<(String, String)> {
    let target = &job.request.target;
    let shown = |path: &Path| inert(path.as_os_str().as_bytes());
    let below = recorded(&job.request.below);
    if !below.is_empty() {
        return vec![(inert(&[b"/", below].concat()), shown(target))];
    }
    let place = |root: &Vec<u8>| {
        let there = target.join(OsStr::from_bytes(recorded(root)));
        (inert(root), shown(&there))
    };
    listed(job.snapshot.roots.iter().map(place), |(root, there)| root.len() + there.len())
}

fn damaged(file: &DamagedFile) -> DamagedReport {
    DamagedReport {
        path: inert(&file.path),
        name: file.name.as_deref().map(inert),
        missing: file.missing.iter().take(RANGES_MAX).map(|at| (at.start, at.end)).collect(),
        missing_bytes: file.missing_bytes,
        damaged: file.is_damage,
        why: file.why.clone(),
    }
}

fn lost(lost: &Lost) -> LostPart {
    let (damaged, why) = (lost.why.is_damage(), lost.why.to_string());
    LostPart { first: inert(&lost.gap.first), entries: lost.gap.entries, damaged, why }
}

fn skipped(skipped: &Skipped) -> String {
    let reason = match skipped.reason {
        SkipReason::Exists => "something of that name is there",
        SkipReason::IsFolder => "a folder of that name is there",
        SkipReason::NotAFolder => "on the way there is something that is no folder",
        SkipReason::Unreadable => "it could not be read when it was backed up",
        SkipReason::Special => "devices and sockets are not restored",
        SkipReason::Fifo => "pipes are restored with --fifos",
        SkipReason::LinkLeavesTarget => "the link leads out of the target",
        SkipReason::FirstNameMissing => "the file that it is a further name of was not restored",
        SkipReason::Impossible => "no system can have it",
        SkipReason::System => "the system refuses",
    };
    let why = skipped.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{}: {reason}{why}", inert(&skipped.path))
}

fn undressed(fault: &Undressed) -> String {
    format!("{}: {} not set: {}", inert(&fault.path), inert(fault.what.as_bytes()), fault.why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_text_are_told_apart() {
        let file = |path: &[u8]| DamagedFile {
            path: path.to_vec(),
            name: Some([path, b".quloud-damaged"].concat()),
            missing: Vec::new(),
            missing_bytes: 0,
            is_damage: true,
            why: String::new(),
        };
        let (one, other) = (damaged(&file(b"a\xff")), damaged(&file(b"a\xfe")));
        assert_eq!((one.path.as_str(), other.path.as_str()), ("a\\xff", "a\\xfe"));
        assert_eq!(one.name.as_deref(), Some("a\\xff.quloud-damaged"));
        let reason = SkipReason::Exists;
        let line = skipped(&Skipped { path: b"\x1b[2J\xff".to_vec(), reason, why: None });
        assert!(line.starts_with("\\x1b[2J\\xff: "), "{line}");
        let (what, why) = ("mode".to_owned(), "no".to_owned());
        let line = undressed(&Undressed { path: b"\xfe".to_vec(), what, why });
        assert_eq!(line, "\\xfe: mode not set: no");
    }
}
