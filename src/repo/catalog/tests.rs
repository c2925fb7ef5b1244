//! The catalogue as a whole, on real files.

mod audits;

use super::entry::tests::{acked, dropped, made, root, started};
use super::journal::HEADER_BYTES;
use super::*;
use crate::repo::fixture::{owner, scratch};
use std::fs;
use tempfile::TempDir;

struct Setup {
    folder: TempDir,
}

impl Setup {
    fn new() -> Self {
        Self { folder: scratch() }
    }

    fn open(&self) -> (Catalog, OpenReport) {
        Catalog::open(self.folder.path(), &owner(1)).unwrap()
    }

    fn fails(&self) -> CatalogError {
        Catalog::open(self.folder.path(), &owner(1)).unwrap_err()
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("owner/catalog")
    }

    /// Commits each group of entries on its own; returns how long the journal was after each.
    fn write(&self, groups: Vec<Vec<Entry>>) -> Vec<u64> {
        let (mut catalog, _) = self.open();
        let mut lengths = vec![fs::metadata(self.file()).unwrap().len()];
        for group in groups {
            group.into_iter().for_each(|entry| catalog.record(entry).unwrap());
            catalog.commit().unwrap();
            lengths.push(fs::metadata(self.file()).unwrap().len());
        }
        lengths
    }
}

/// Three commits: a put, two acks, the put done.
fn groups() -> Vec<Vec<Entry>> {
    vec![
        vec![Entry::PutStarted(started(1)), Entry::PutStarted(started(2))],
        vec![Entry::ChunkAcked(acked(1, 1, 1)), Entry::ChunkAcked(acked(1, 2, 1))],
        vec![Entry::PutDone(root(1))],
    ]
}

fn summary(catalog: &Catalog) -> (usize, usize, usize) {
    let holders = catalog.holders_of(&acked(1, 1, 1).chunk).len();
    (catalog.open_jobs().count(), holders, catalog.roots().len())
}

/// What the catalogue must know after so many whole commits.
const AFTER: [(usize, usize, usize); 4] = [(0, 0, 0), (2, 0, 0), (2, 2, 0), (1, 2, 1)];

#[test]
fn what_was_committed_is_there_after_reopening() {
    let setup = Setup::new();
    setup.write(groups());
    let (catalog, report) = setup.open();
    assert_eq!(report, OpenReport { entries: 5, ..OpenReport::default() });
    assert_eq!(summary(&catalog), AFTER[3]);
    let job = catalog.open_jobs().next().unwrap();
    assert_eq!(job.started, started(2));
    assert_eq!(catalog.next_job(), JobId(3));
    let [only] = catalog.roots()[..] else { panic!("one root") };
    assert_eq!(only.capability.encode(), root(1).capability.encode());
    assert_eq!(catalog.chunks_held_by(&acked(1, 2, 1).node), 1);
}

#[test]
fn what_was_not_committed_is_not_there() {
    let setup = Setup::new();
    setup.write(vec![]);
    let (mut catalog, _) = setup.open();
    catalog.record(Entry::PutStarted(started(1))).unwrap();
    assert_eq!(catalog.open_jobs().count(), 1, "queries know it at once");
    drop(catalog);
    assert_eq!(setup.open().0.open_jobs().count(), 0);
}

#[test]
fn what_was_written_outlives_the_process_and_the_next_commit_syncs_it() {
    let setup = Setup::new();
    setup.write(vec![]);
    let (mut catalog, _) = setup.open();
    for group in groups() {
        group.into_iter().for_each(|entry| catalog.record(entry).unwrap());
        catalog.write().unwrap();
    }
    let length = fs::metadata(setup.file()).unwrap().len();
    catalog.write().unwrap();
    assert_eq!(fs::metadata(setup.file()).unwrap().len(), length, "there was nothing to write");
    assert_eq!(summary(&setup.open().0), AFTER[3]);
    // A handle that cannot be synced stands in for a disk that fails: nothing is left to write,
    // and the commit has to sync all the same.
    let (_, pipe) = std::os::unix::net::UnixStream::pair().unwrap();
    catalog.journal.replace_file(fs::File::from(std::os::fd::OwnedFd::from(pipe)));
    assert!(matches!(catalog.commit(), Err(CatalogError::Io { .. })));
    assert!(matches!(catalog.commit(), Err(CatalogError::Failed { .. })));
}

#[test]
fn a_journal_cut_at_any_byte_keeps_every_whole_commit() {
    let setup = Setup::new();
    let lengths = setup.write(groups());
    let whole = fs::read(setup.file()).unwrap();
    let torn = setup.file().with_extension("torn");
    for cut in HEADER_BYTES..=whole.len() {
        fs::write(setup.file(), &whole[..cut]).unwrap();
        let commits = lengths.iter().filter(|length| **length <= cut as u64).count();
        let kept = usize::try_from(lengths[commits - 1]).unwrap();
        let (mut catalog, report) = setup.open();
        assert_eq!(summary(&catalog), AFTER[commits - 1], "cut at {cut}");
        assert_eq!(report.torn_bytes, (cut - kept) as u64, "cut at {cut}");
        assert_eq!((report.damaged_bytes, report.damaged), (0, None), "cut at {cut}");
        if cut > kept {
            assert!(fs::read(&torn).unwrap() == whole[kept..cut], "cut at {cut}");
        }
        // What is written after the cut is found again.
        catalog.record(Entry::PutStarted(started(9))).unwrap();
        catalog.commit().unwrap();
        drop(catalog);
        let (catalog, report) = setup.open();
        assert_eq!(report.torn_bytes, 0);
        assert_eq!(catalog.next_job(), JobId(10));
    }
}

#[test]
fn a_journal_too_short_to_be_one_is_damage_and_kept() {
    let setup = Setup::new();
    setup.write(groups());
    let whole = fs::read(setup.file()).unwrap();
    let aside = setup.file().with_extension("damaged");
    for cut in [0, 1, HEADER_BYTES - 1] {
        fs::write(setup.file(), &whole[..cut]).unwrap();
        let (mut catalog, report) = setup.open();
        assert_eq!(report.damaged.as_ref(), Some(&aside), "cut at {cut}");
        assert_eq!(report.damaged_bytes, cut as u64);
        assert_eq!(summary(&catalog), AFTER[0]);
        assert_eq!(fs::read(&aside).unwrap(), whole[..cut]);
        assert_eq!(catalog.damaged(), [aside.as_path()]);
        catalog.record(Entry::PutStarted(started(9))).unwrap();
        catalog.commit().unwrap();
        drop(catalog);
        let (catalog, report) = setup.open();
        assert_eq!(report, OpenReport { entries: 1, ..OpenReport::default() });
        assert_eq!(catalog.damaged(), [aside.as_path()], "said until it is taken away");
        fs::remove_file(&aside).unwrap();
        assert!(catalog.damaged().is_empty());
    }
}

#[test]
fn a_second_damage_takes_the_first_ones_file_not_away() {
    let setup = Setup::new();
    for content in ["first", "second"] {
        fs::create_dir_all(setup.file().parent().unwrap()).unwrap();
        fs::write(setup.file(), content).unwrap();
        setup.open();
    }
    let damaged = setup.open().0.damaged();
    let contents: Vec<String> =
        damaged.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    assert_eq!(contents, ["first", "second"]);
}

#[test]
fn a_flipped_bit_costs_one_commit_and_is_said() {
    let setup = Setup::new();
    let lengths = setup.write(groups());
    let whole = fs::read(setup.file()).unwrap();
    for at in HEADER_BYTES..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(setup.file(), &bytes).unwrap();
        let hit = lengths.iter().filter(|length| **length <= at as u64).count();
        let (catalog, report) = setup.open();
        let size = lengths[hit] - lengths[hit - 1];
        assert_eq!((report.damaged_bytes, report.torn_bytes), (size, 0), "at {at}");
        let (jobs, holders, roots) = summary(&catalog);
        let expected = match hit {
            1 => (0, 2, 1),
            2 => (1, 0, 1),
            _ => AFTER[2],
        };
        assert_eq!((jobs, holders, roots), expected, "at {at}");
        drop(catalog);
        // The rewritten journal is sound, and the damaged one is kept.
        let (catalog, again) = setup.open();
        assert_eq!((again.damaged_bytes, again.torn_bytes), (0, 0));
        assert_eq!(summary(&catalog), expected);
        let aside = report.damaged.unwrap();
        assert!(report.compacted && catalog.damaged() == [aside.as_path()]);
        assert_eq!(fs::read(&aside).unwrap(), bytes);
        fs::remove_file(aside).unwrap();
    }
}

#[test]
fn a_damaged_header_costs_no_entry() {
    let setup = Setup::new();
    setup.write(groups());
    let whole = fs::read(setup.file()).unwrap();
    for at in (0..HEADER_BYTES).filter(|at| *at != 14) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(setup.file(), &bytes).unwrap();
        let (catalog, report) = setup.open();
        assert_eq!(report.damaged_bytes, HEADER_BYTES as u64, "at {at}");
        assert_eq!(summary(&catalog), AFTER[3], "at {at}");
        fs::remove_file(report.damaged.unwrap()).unwrap();
    }
}

#[test]
fn damage_between_commits_is_searched_through() {
    let setup = Setup::new();
    let lengths = setup.write(groups());
    let whole = fs::read(setup.file()).unwrap();
    let first = usize::try_from(lengths[1]).unwrap();
    // Longer than one window of the search, with markers that lead nowhere.
    let junk = b"QCAT and nothing behind it".repeat(9000);
    let bytes = [&whole[..first], &junk, &whole[first..]].concat();
    fs::write(setup.file(), &bytes).unwrap();
    let (catalog, report) = setup.open();
    assert_eq!(report.damaged_bytes, junk.len() as u64);
    assert_eq!(summary(&catalog), AFTER[3]);
}

#[test]
fn a_newer_version_is_refused_and_left_alone() {
    let setup = Setup::new();
    setup.write(groups());
    let mut bytes = fs::read(setup.file()).unwrap();
    bytes[14] = 2;
    fs::write(setup.file(), &bytes).unwrap();
    assert!(matches!(setup.fails(), CatalogError::Newer { version: 2, .. }));
    assert_eq!(fs::read(setup.file()).unwrap(), bytes);
}

#[test]
fn other_keys_are_refused_and_nothing_is_lost() {
    let setup = Setup::new();
    setup.write(groups());
    let before = fs::read(setup.file()).unwrap();
    let opened = Catalog::open(setup.folder.path(), &owner(2));
    assert!(matches!(opened, Err(CatalogError::OtherKeys { .. })));
    assert_eq!(fs::read(setup.file()).unwrap(), before);
}

#[test]
fn a_file_that_is_no_catalogue_is_refused_and_left_alone() {
    let setup = Setup::new();
    setup.write(vec![]);
    let bytes = b"something else entirely, and long enough to be one of them".repeat(3);
    fs::write(setup.file(), &bytes).unwrap();
    assert!(matches!(setup.fails(), CatalogError::NotACatalog { .. }));
    assert_eq!(fs::read(setup.file()).unwrap(), bytes);
}

#[test]
fn the_journal_holds_nothing_readable() {
    let setup = Setup::new();
    setup.write(groups());
    let bytes = fs::read(setup.file()).unwrap();
    for secret in [b"/home/someone".as_slice(), b"file 1", &[7; 8], &[1; 8]] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&setup.file()), 0o600);
        assert_eq!(mode(setup.file().parent().unwrap()), 0o700);
    }
}

#[test]
fn a_mostly_dead_journal_is_rewritten() {
    let setup = Setup::new();
    let (mut catalog, _) = setup.open();
    catalog.record(Entry::PutStarted(started(1))).unwrap();
    catalog.record(Entry::PutShort(root(1))).unwrap();
    catalog.record(Entry::PutAcked(JobId(1))).unwrap();
    catalog.record(Entry::SourceAway { job: JobId(1), since: Some(5) }).unwrap();
    catalog.record(Entry::PutStarted(started(3))).unwrap();
    catalog.record(Entry::JobDropped(dropped(3))).unwrap();
    catalog.record(Entry::PutDone(root(2))).unwrap();
    catalog.record(Entry::BackupMade(made(1, 1, 1))).unwrap();
    catalog.record(Entry::BackupMade(made(1, 2, 2))).unwrap();
    for round in 0..3 {
        for chunk in 0..4000 {
            catalog.record(Entry::ChunkAcked(acked(chunk, 1, round))).unwrap();
        }
    }
    catalog.record(Entry::ChunkAcked(acked(5, 2, 0))).unwrap();
    catalog.commit().unwrap();
    drop(catalog);
    let before = fs::metadata(setup.file()).unwrap().len();
    let (mut catalog, report) = setup.open();
    assert!(report.compacted && report.entries == 12_010, "{report:?}");
    assert!(fs::metadata(setup.file()).unwrap().len() < before / 2);
    catalog.record(Entry::JobDropped(dropped(77))).unwrap();
    catalog.commit().unwrap();
    drop(catalog);
    let (catalog, report) = setup.open();
    // With what a store that counts no more makes look worse: the backup, and what was put.
    assert_eq!(report, OpenReport { entries: 4011, ..OpenReport::default() });
    assert_eq!(catalog.made(), [&made(1, 2, 2)]);
    assert_eq!(catalog.chunks_held_by(&acked(0, 1, 0).node), 4000);
    assert_eq!(catalog.holders_of(&acked(5, 0, 0).chunk).len(), 2);
    let job = catalog.open_jobs().next().unwrap();
    assert!(job.short.is_some() && job.acked && job.away_since == Some(5));
    assert_eq!(catalog.dropped().cloned().collect::<Vec<_>>(), [dropped(3), dropped(77)]);
    assert_eq!((catalog.chunks(), catalog.roots().len()), (4000, 1));
    assert_eq!(catalog.next_job(), JobId(78));
}

#[test]
fn a_rewrite_that_was_interrupted_changes_nothing() {
    let setup = Setup::new();
    setup.write(groups());
    fs::write(setup.file().with_extension("new"), b"half of a new journal").unwrap();
    assert_eq!(summary(&setup.open().0), AFTER[3]);
}

#[test]
fn an_entry_that_does_not_fit_is_not_taken() {
    let setup = Setup::new();
    let (mut catalog, _) = setup.open();
    let long = PutStarted { path: "p".repeat(70_000).into(), ..started(1) };
    assert!(matches!(catalog.record(Entry::PutStarted(long)), Err(CatalogError::TooLong(_))));
    assert_eq!(catalog.open_jobs().count(), 0);
}

#[test]
fn a_journal_that_failed_takes_nothing_more_and_loses_nothing() {
    let setup = Setup::new();
    setup.write(groups());
    let (mut catalog, _) = setup.open();
    // A handle that refuses writes stands in for a disk that does.
    catalog.journal.replace_file(fs::File::open(setup.file()).unwrap());
    catalog.record(Entry::PutStarted(started(9))).unwrap();
    assert!(matches!(catalog.commit(), Err(CatalogError::Io { .. })));
    assert!(matches!(catalog.commit(), Err(CatalogError::Failed { .. })));
    let more = catalog.record(Entry::PutStarted(started(10)));
    assert!(matches!(more, Err(CatalogError::Failed { .. })));
    drop(catalog);
    let (catalog, report) = setup.open();
    assert_eq!(report, OpenReport { entries: 5, ..OpenReport::default() });
    assert_eq!(summary(&catalog), AFTER[3]);
}

#[test]
fn what_holders_showed_is_there_after_reopening_if_it_is_of_the_last_day() {
    const NOW_S: u64 = 1_800_000_000;
    let setup = Setup::new();
    let acks = (1..=5000).map(|chunk| Entry::ChunkAcked(acked(chunk, 1, 1)));
    setup.write(vec![acks.chain([Entry::ChunkAcked(acked(1, 2, 1))]).collect()]);
    let proven = |catalog: &Catalog, chunk, now_s: u64| {
        let window = (now_s.saturating_sub(BELIEVED_S), now_s);
        catalog.replicas_of(&acked(chunk, 1, 1).chunk, window).proven
    };
    let (mut catalog, _) = setup.open();
    for chunk in 1..=5000 {
        let ChunkAcked { chunk: id, node, epoch, .. } = acked(chunk, 1, 1);
        // One of them a day and a second ago, and one tomorrow, for a clock that was put back.
        let at_s = match chunk {
            1 => NOW_S - BELIEVED_S - 1,
            2 => NOW_S + 1,
            3 => NOW_S - BELIEVED_S,
            _ => NOW_S - 7,
        };
        catalog.prove(&node, &epoch, &id, at_s);
    }
    let ChunkAcked { chunk: id, node, epoch, .. } = acked(1, 2, 1);
    catalog.prove(&node, &epoch, &id, NOW_S);
    let all = |catalog: &Catalog| (1..=5).map(|chunk| proven(catalog, chunk, NOW_S)).collect();
    let before: Vec<usize> = all(&catalog);
    assert_eq!(before, [1, 0, 1, 1, 1]);
    catalog.proven_file(NOW_S).save().unwrap();
    drop(catalog);
    let (catalog, _) = setup.open();
    assert_eq!(before, all(&catalog) as Vec<usize>);
    assert_eq!((4..=5000).map(|chunk| proven(&catalog, chunk, NOW_S)).sum::<usize>(), 4997);
    assert_eq!(proven(&catalog, 2, NOW_S + 2), 0, "what lay ahead was not written");
    assert_eq!(proven(&catalog, 4, NOW_S + BELIEVED_S), 0);
    drop(catalog);

    // Nothing readable, and compact: 8 bytes a chunk and a little.
    let file = setup.folder.path().join("owner/proven");
    let bytes = fs::read(&file).unwrap();
    assert!(bytes.len() < 8 * 5_000 + 2_000, "{}", bytes.len());
    let (ChunkAcked { chunk, node, .. }, found) =
        (acked(4, 1, 1), |part: &[u8]| bytes.windows(part.len()).any(|window| window == part));
    assert!(!found(&chunk.as_bytes()[..8]) && !found(node.as_bytes()));
    // Whatever becomes of it, the catalogue opens, and more is asked.
    let mut altered = bytes.clone();
    altered[bytes.len() / 2] ^= 1;
    for broken in [&altered[..], &bytes[..bytes.len() / 2], b"", b"something else"] {
        fs::write(&file, broken).unwrap();
        let (catalog, report) = setup.open();
        assert_eq!((report.damaged, proven(&catalog, 4, NOW_S)), (None, 0));
        assert_eq!(catalog.holders_of(&acked(1, 1, 1).chunk).len(), 2);
        catalog.proven_file(NOW_S).save().unwrap();
    }
}

#[test]
fn what_holders_showed_is_written_while_the_catalogue_goes_on() {
    const NOW_S: u64 = 1_800_000_000;
    let setup = Setup::new();
    let (mut catalog, _) = setup.open();
    let ack = acked(1, 1, 1);
    catalog.record(Entry::ChunkAcked(ack)).unwrap();
    catalog.prove(&ack.node, &ack.epoch, &ack.chunk, NOW_S);
    let file = catalog.proven_file(NOW_S);
    // Of what comes now it has nothing, and is in nobody's way.
    catalog.record(Entry::ChunkAcked(acked(2, 1, 1))).unwrap();
    catalog.commit().unwrap();
    catalog.compact().unwrap();
    file.save().unwrap();
    catalog.record(Entry::ChunkAcked(acked(3, 1, 1))).unwrap();
    catalog.commit().unwrap();
    drop(catalog);
    let (catalog, report) = setup.open();
    assert_eq!((report.entries, report.damaged), (3, None));
    let replicas = catalog.replicas_of(&ack.chunk, (NOW_S, NOW_S));
    assert_eq!((replicas.acked, replicas.proven), (1, 1));
}
