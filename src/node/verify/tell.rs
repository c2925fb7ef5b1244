//! How far a drill is, and what it came to, as the user is told.

use super::Drill;
use crate::node::fetch::MeshSource;
use crate::node::report::{Progress, VerifyDone, VerifyFault, VerifyKind};
use crate::repo::frame::Kind;
use crate::repo::get::{ChunkSource, FetchError, Fetched, Wanted};
use crate::repo::names::inert;
use crate::repo::verify::{Finding, Verify};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Between two lines of progress.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// So many faults are listed,
const LISTED_MAX: usize = 200;

/// and no more text than this, so that all of it fits one answer.
const LISTED_BYTES_MAX: usize = 64 << 10;

/// A source that tells what came.
pub(super) struct Teller<'a> {
    source: MeshSource<'a, Progress<VerifyDone>>,
    progress: &'a mpsc::Sender<Progress<VerifyDone>>,
    total: u64,
    bytes: u64,
    chunks: u64,
    told: Option<Instant>,
}

impl<'a> Teller<'a> {
    /// `total` is about how many bytes there are.
    pub(super) fn new(
        source: MeshSource<'a, Progress<VerifyDone>>,
        progress: &'a mpsc::Sender<Progress<VerifyDone>>,
        total: u64,
    ) -> Self {
        Self { source, progress, total, bytes: 0, chunks: 0, told: None }
    }

    /// See [`MeshSource::save_doubts`].
    pub(super) fn save_doubts(&self) {
        self.source.save_doubts();
    }

    fn came(&mut self, sealed: usize) {
        self.chunks = self.chunks.saturating_add(1);
        self.bytes = self.bytes.saturating_add(u64::try_from(sealed).unwrap_or(u64::MAX));
        if self.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        let total = Some(self.total.max(self.bytes));
        let (bytes, chunks) = (self.bytes, self.chunks);
        let working = Progress::Working { bytes, total, chunks, replicas: None, note: None };
        // A full queue means that the listener is slow: the next line tells more.
        drop(self.progress.try_send(working));
    }
}

impl ChunkSource for Teller<'_> {
    fn request(&mut self, wanted: Wanted) {
        self.source.request(wanted);
    }

    fn next(&mut self) -> Result<Fetched, FetchError> {
        let next = self.source.next();
        if let Ok(fetched) = &next {
            self.came(fetched.sealed.len());
        }
        next
    }
}

/// What was found.
#[derive(Default)]
pub(super) struct Told {
    faults: Vec<VerifyFault>,
    bytes: usize,
    damaged: u64,
    unreachable: u64,
}

impl Told {
    /// Nobody who answered keeps the record that leads from the words to the snapshot.
    pub(super) fn add_lost_head(&mut self) {
        let why = "none of its holders answered with the newest record: without it the words do \
                   not lead to this snapshot"
            .to_owned();
        let (name, kind) = ("the device's head".to_owned(), VerifyKind::Record);
        let missing = Vec::new();
        let (damaged, missing_bytes, names) = (false, 0, 0);
        self.take(VerifyFault { name, kind, damaged, missing, missing_bytes, names, why });
    }

    pub(super) fn add(&mut self, finding: Finding) {
        self.take(fault(finding));
    }

    fn take(&mut self, fault: VerifyFault) {
        let count = if fault.damaged { &mut self.damaged } else { &mut self.unreachable };
        *count = count.saturating_add(1);
        self.bytes = self.bytes.saturating_add(fault.name.len() + fault.why.len());
        if self.faults.len() < LISTED_MAX && self.bytes <= LISTED_BYTES_MAX {
            self.faults.push(fault);
        }
    }
}

/// A path of the tree from the root.
fn rooted(path: &[u8]) -> String {
    inert(&[b"/", path].concat())
}

fn fault(finding: Finding) -> VerifyFault {
    let (damaged, why) = (finding.why().is_damage(), finding.why().to_string());
    let (name, kind, missing, missing_bytes, names) = match finding {
        Finding::File { path, missing, missing_bytes, .. } => {
            let missing = missing.iter().map(|range| (range.start, range.end)).collect();
            (rooted(&path), VerifyKind::File, missing, missing_bytes, 1)
        }
        Finding::Part { gap, .. } => {
            (rooted(&gap.first), VerifyKind::Tree, Vec::new(), 0, gap.entries)
        }
        Finding::Record { kind, .. } => {
            let name = match kind {
                Kind::Snapshot => "the snapshot's record",
                _ => "the list of snapshots",
            };
            (name.to_owned(), VerifyKind::Record, Vec::new(), 0, 0)
        }
    };
    VerifyFault { name, kind, damaged, missing, missing_bytes, names, why }
}

/// What it came to.
pub(super) fn done(drill: Drill, told: Told, verify: &Verify, teller: &Teller<'_>) -> VerifyDone {
    let (faults, checked) = (teller.source.faults(), verify.checked());
    VerifyDone {
        snapshot: drill.id.to_string(),
        created_at: drill.snapshot.created_ns.div_euclid(1_000_000_000),
        head: drill.head,
        proven: told.damaged == 0 && told.unreachable == 0,
        sample_ppm: drill.sample.ppm(),
        names: checked.entries,
        unportable: checked.unportable,
        unportable_names: verify.unportable().iter().map(|path| rooted(path)).collect(),
        files: checked.files,
        bytes: checked.bytes,
        skipped_bytes: checked.skipped_bytes,
        chunks: teller.chunks,
        holders: teller.source.served(),
        damaged: told.damaged,
        unreachable: told.unreachable,
        faults: told.faults,
        damaged_at: faults.damaged_at(),
        covered: faults.covered,
        away: faults.away(),
        seconds: drill.started.elapsed().as_secs_f64(),
        notes: drill.notes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::plan::Lost;

    #[test]
    fn damage_and_absence_are_counted_apart_and_names_are_inert() {
        let mut told = Told::default();
        let file = |path: &[u8], why| Finding::File {
            path: path.to_vec(),
            missing: vec![5..9, 20..21],
            missing_bytes: 5,
            why,
        };
        told.add(file(b"a\x1b[2J", Lost::Spoiled("1 said".to_owned())));
        told.add(file(b"b", Lost::Unavailable("nobody".to_owned())));
        told.add(file(b"c", Lost::Content));
        told.add_lost_head();
        assert_eq!((told.damaged, told.unreachable), (2, 2));
        let [first, second, _, head] = told.faults.as_slice() else { panic!("four") };
        assert!(!head.damaged && head.name.contains("head"));
        assert_eq!((first.name.as_str(), first.damaged), ("/a\\x1b[2J", true));
        assert_eq!((first.missing.as_slice(), first.names), ([(5, 9), (20, 21)].as_slice(), 1));
        assert!(!second.damaged);
    }

    #[test]
    fn what_is_listed_is_bounded_and_all_is_counted() {
        let mut told = Told::default();
        for _ in 0..1_000 {
            let (path, why) = (vec![b'x'; 1_000], Lost::Content);
            told.add(Finding::File { path, missing: Vec::new(), missing_bytes: 1, why });
        }
        assert_eq!(told.damaged, 1_000);
        assert!(told.faults.len() < 70, "{}", told.faults.len());
    }
}
