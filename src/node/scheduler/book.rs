//! What is remembered of the jobs of the settings from one run of the node to the next: the file
//! `<data-dir>/schedule.json`, which is replaced as a whole.
//!
//! It is nothing but a memory of when what was done. Without it, or with one that cannot be read,
//! each job is done once soon after the start, and a backup sends nothing again.

use super::Task;
use super::rule::Past;
use crate::node::report::{Failure, FailureKind, SnapshotMade, TaskResult};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Its name in the data folder.
pub(super) const FILE_NAME: &str = "schedule.json";

const VERSION: u32 = 1;

/// A larger file is not ours.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// As much of each text of a failure is kept.
const TEXT_CHARS_MAX: usize = 500;

/// As many snapshots of each backup are remembered as its own.
const MADE_MAX: usize = 16;

/// All of it, by the names of the backups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Book {
    version: u32,
    backups: BTreeMap<String, BTreeMap<Task, Record>>,
}

/// What is remembered of one job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(flatten)]
    pub(super) past: Past,
    /// It was begun, and nothing is known of its end: it runs, or was cut off.
    #[serde(default)]
    pub(super) is_open: bool,
    /// Why the last run that ended came to nothing.
    #[serde(default)]
    pub(super) failure: Option<Failure>,
    /// What the last run came to that came to something.
    #[serde(default)]
    pub(super) result: Option<TaskResult>,
    /// Of a backup: the last snapshots that it made, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    made: Vec<String>,
}

impl Book {
    /// Reads the file, with what is in it of these backups. What cannot be read is told to the log.
    pub(super) fn read(path: &Path, names: &[&str]) -> Self {
        let mut book = match read(path) {
            Ok(book) => book,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(error) => {
                let path = path.display();
                tracing::warn!(%error, %path, "when backups ran last is not known any more");
                Self::default()
            }
        };
        book.backups.retain(|name, _| names.contains(&name.as_str()));
        book
    }

    /// Takes the place of the file that is there, durably. One at a time; blocks on the disk.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let book = Self { version: VERSION, backups: self.backups.clone() };
        let text = serde_json::to_vec(&book).map_err(io::Error::other)?;
        // Always the same name: one that a kill leaves behind is taken by the next.
        let aside = path.with_extension("json.new");
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&aside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&aside, path)?;
        File::open(folder)?.sync_all()
    }

    /// What is known of a job.
    pub(super) fn of(&self, name: &str, task: Task) -> Record {
        let record = self.backups.get(name).and_then(|tasks| tasks.get(&task));
        record.cloned().unwrap_or_default()
    }

    /// The same, to be changed.
    pub(super) fn of_mut(&mut self, name: &str, task: Task) -> &mut Record {
        self.backups.entry(name.to_owned()).or_default().entry(task).or_default()
    }

    /// The last snapshots that runs of this backup made, newest first.
    pub(super) fn made(&self, name: &str) -> Vec<String> {
        let Record { result, made, .. } = self.of(name, Task::Backup);
        let newest = result.map(|result| result.snapshot().to_owned());
        newest.into_iter().chain(made).collect()
    }
}

impl Record {
    /// A run began. Until its end is known it counts as one that was cut off: a node that dies of
    /// it does not begin it again and again.
    pub(super) fn begin(&mut self, began_s: u64) {
        self.past.failed(began_s);
        self.is_open = true;
    }

    /// It ended.
    pub(super) fn end(&mut self, began_s: u64, ended: Result<TaskResult, Failure>) {
        self.is_open = false;
        match ended {
            Ok(result) => {
                self.past.done(began_s);
                self.past.is_short = result.is_short();
                if let TaskResult::Backup(SnapshotMade { snapshot, .. }) = &result {
                    self.made.insert(0, snapshot.clone());
                    self.made.truncate(MADE_MAX);
                }
                (self.result, self.failure) = (Some(result), None);
            }
            Err(failure) => self.failure = Some(shortened(failure)),
        }
    }
}

fn shortened(failure: Failure) -> Failure {
    let Failure { kind, what, why, hint } = failure;
    let [what, why, hint] = [what, why, hint].map(|text| match text.chars().count() {
        0..=TEXT_CHARS_MAX => text,
        _ => text.chars().take(TEXT_CHARS_MAX).chain("..".chars()).collect(),
    });
    Failure::new(kind, what, why, hint)
}

fn read(path: &Path) -> io::Result<Book> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long"));
    }
    let book: Book = serde_json::from_slice(&bytes)?;
    match book.version {
        VERSION => Ok(book),
        other => {
            let why = format!("it is of version {other}");
            Err(io::Error::new(io::ErrorKind::InvalidData, why))
        }
    }
}

/// What is said of a run that nobody knows the end of.
pub(super) fn cut_off() -> Failure {
    Failure::new(
        FailureKind::Failed,
        "it was cut off",
        "the node ended before it did",
        "a running node goes on with it: what is stored is not sent again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result() -> TaskResult {
        TaskResult::Backup(made("ab".to_owned()))
    }

    fn made(snapshot: String) -> SnapshotMade {
        SnapshotMade {
            snapshot,
            files: 1,
            bytes: 2,
            new_bytes: 3,
            replicas: 3,
            target: 3,
            partial: false,
        }
    }

    #[test]
    fn what_is_written_is_read_again_for_the_backups_that_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        let mut book = Book::read(&path, &["a"]);
        assert_eq!(book, Book::default());
        book.of_mut("a", Task::Backup).begin(7);
        book.of_mut("a", Task::Backup).end(7, Ok(result()));
        book.of_mut("a", Task::Drill).begin(8);
        book.of_mut("gone", Task::Backup).begin(9);
        book.write(&path).unwrap();
        let again = Book::read(&path, &["a", "new"]);
        assert_eq!(again.of("a", Task::Backup), book.of("a", Task::Backup));
        assert_eq!(again.made("a").first().map(String::as_str), Some("ab"));
        assert!(again.made("new").is_empty());
        let drill = again.of("a", Task::Drill);
        assert!(drill.is_open && drill.past.failures == 1, "{drill:?}");
        for (name, task) in [("gone", Task::Backup), ("a", Task::Audit), ("new", Task::Backup)] {
            assert_eq!(again.of(name, task), Record::default(), "{name}");
        }
    }

    #[test]
    fn what_a_kill_left_beside_the_file_is_taken_by_the_next_write() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        std::fs::write(folder.path().join("schedule.json.new"), [b'x'; 9_000]).unwrap();
        let mut book = Book::default();
        book.of_mut("a", Task::Backup).begin(7);
        book.write(&path).unwrap();
        book.write(&path).unwrap();
        assert_eq!(Book::read(&path, &["a"]).of("a", Task::Backup), book.of("a", Task::Backup));
        let names = std::fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>(), [FILE_NAME]);
        std::fs::remove_file(&path).unwrap();
        book.write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_a_new_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        for text in ["", "[]", "{\"version\":2,\"backups\":{}}", "{\"version\":1}", "\0\0\0"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(Book::read(&path, &["a"]), Book::default(), "{text}");
        }
        let long = vec![b' '; usize::try_from(FILE_BYTES_MAX).unwrap() + 1];
        std::fs::write(&path, long).unwrap();
        assert_eq!(Book::read(&path, &["a"]), Book::default());
    }

    #[test]
    fn a_run_counts_as_failed_until_it_ends_well() {
        let mut record = Record::default();
        record.begin(5);
        assert_eq!((record.past.failures, record.past.tried_s, record.is_open), (1, Some(5), true));
        let long = "ü".repeat(2_000);
        record.end(5, Err(Failure::new(FailureKind::Failed, "a", long, "b")));
        let failure = record.failure.clone().unwrap();
        assert_eq!((record.past.failures, record.is_open), (1, false));
        assert_eq!(failure.why.chars().count(), TEXT_CHARS_MAX + 2);
        record.begin(6);
        assert_eq!((record.past.failures, record.failure.as_ref()), (2, Some(&failure)));
        record.end(6, Ok(result()));
        assert_eq!((record.past.failures, record.past.last_s), (0, Some(6)));
        assert_eq!(record.failure, None);
    }

    #[test]
    fn the_last_snapshots_of_a_backup_are_remembered_newest_first() {
        let mut book = Book::default();
        for number in 0..30_u64 {
            let made = TaskResult::Backup(made(format!("ab{number}")));
            book.of_mut("a", Task::Backup).end(number, Ok(made));
        }
        let mut made = book.made("a");
        made.dedup();
        assert_eq!((made.len(), made[0].as_str(), made[1].as_str()), (MADE_MAX, "ab29", "ab28"));
    }

    #[test]
    fn a_drill_that_did_not_reach_all_is_one_that_came_short() {
        let drill = |unreachable| TaskResult::Drill {
            snapshot: "ab".to_owned(),
            sample_ppm: 50_000,
            bytes: 1,
            damaged: 0,
            unreachable,
        };
        let mut record = Record::default();
        record.begin(5);
        record.end(5, Ok(drill(2)));
        assert_eq!((record.past.failures, record.past.is_short), (0, true));
        assert_eq!((record.failure.as_ref(), record.result.as_ref()), (None, Some(&drill(2))));
        record.end(6, Ok(drill(0)));
        assert_eq!((record.past.last_s, record.past.is_short), (Some(6), false));
    }
}
