//! kill -9 between every two durability steps of a real store: files and sled.
//!
//! The test starts itself again as a child, which carries groups of writes and deletes out, says
//! when each was answered, and aborts at step n. The parent opens the store and checks. What a
//! kill cannot show, a missing sync, is shown by `store_power` and by `scripts/powercut.sh`.

use super::store_conformance::holds;
use super::store_faults::{Call, FaultyCatalogue, FaultyDisk, Plan, Verdict};
use super::store_fixtures::*;
use super::store_heads::{head, keys};
use quloud::core::effect::{ChunkState, Found, Input, StoreError};
use quloud::core::types::Ticket;
use quloud::crypto::head::HeadRecord;
use quloud::store::catalogue::SledCatalogue;
use quloud::store::disk::{Disk, DiskError};
use quloud::store::index::Catalogue;
use quloud::store::segments::FileDisk;
use quloud::store::{Options, Request, Writer};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

const STEP: &str = "QULOUD_TEST_KILL_STEP";
const FOLDER: &str = "QULOUD_TEST_KILL_DIR";
const LENGTH: usize = 9000;

/// One that is written with the first group, and never deleted.
const KEPT: u64 = 3;

/// Holes are not punched where this is set.
const NO_HOLES: &str = "QULOUD_TEST_KILL_NO_HOLES";

/// Each a number and whether it is written or deleted. Five chunks fill a segment: the second is
/// emptied while the first still needs a tombstone that lies there, then the first.
const GROUPS: [&[(u64, bool)]; 8] = [
    &[(0, true), (1, true), (2, true), (3, true)],
    &[(4, true), (5, true), (6, true)],
    &[(0, false)],
    &[(7, true), (8, true)],
    &[(9, true), (5, false)],
    &[(6, false), (7, false)],
    &[(1, false), (2, false), (10, true)],
    &[(11, true), (0, true)],
];

fn adapters(dir: &Path) -> (Arc<FileDisk>, Arc<SledCatalogue>) {
    let disk = file_disk(dir);
    let (catalogue, _) = SledCatalogue::open(&dir.join("index"), 1 << 20).unwrap();
    (Arc::new(disk), Arc::new(catalogue))
}

fn small() -> Options {
    Options { segment_bytes: 64 << 10, ..options() }
}

/// The child's life; a test that passes at once where it is not a child.
#[test]
fn child() {
    let (Ok(step), Ok(dir)) = (std::env::var(STEP), std::env::var(FOLDER)) else { return };
    let step: u64 = step.parse().unwrap();
    let holes = std::env::var_os(NO_HOLES).is_none();
    let plan = Plan::new(move |n, call| match call {
        _ if n == step => Verdict::Abort,
        Call::PunchHole if !holes => Verdict::Fail(DiskError::Unsupported),
        _ => Verdict::Do,
    });
    let (disk, catalogue) = adapters(Path::new(&dir));
    let disk = Arc::new(FaultyDisk(disk, Arc::clone(&plan)));
    let catalogue = Arc::new(FaultyCatalogue(catalogue, Arc::clone(&plan)));
    let (mut store, _) = Writer::open(disk, catalogue, wrap_key(), small(), rng(1)).unwrap();
    for (group, number) in GROUPS.iter().zip(1..) {
        let requests = group.iter().map(|(n, write)| match write {
            true => Request::Write { ticket: Ticket(*n), chunk: Box::new(chunk(*n, LENGTH)) },
            false => Request::Delete { ticket: Ticket(*n), id: id(*n, LENGTH) },
        });
        // And the next number of a head with each group; a chunk is let go, and that taken back.
        let undo = number % 2 == 0;
        let items = vec![(id(KEPT, LENGTH), lease(KEPT))];
        let release = Request::Release { ticket: Ticket(0), undo, items };
        let requests = requests.chain([head(0, number), release]);
        for input in store.commit(requests.collect()) {
            match input {
                Input::ChunksWritten(results) => assert!(results.iter().all(|r| r.1.is_ok())),
                Input::HeadsWritten(results) => assert!(results.iter().all(|r| r.1.is_ok())),
                Input::ChunkDeleted { result, .. } => drop(result.unwrap()),
                Input::ChunksReleased { result, .. } => {
                    assert_eq!(result.unwrap()[0] == ChunkState::Live, undo);
                }
                other => panic!("not a completion of a group: {other:?}"),
            }
        }
        say(&format!("answered {number}"));
        tidy_up(&mut store);
    }
    say(&format!("steps {}", plan.calls()));
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nkill: {line}").unwrap();
    out.flush().unwrap();
}

/// Runs the child: how many groups it answered, and how many steps there were if it came so far.
fn run(dir: &Path, step: u64, holes: bool) -> (usize, Option<u64>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    if !holes {
        command.env(NO_HOLES, "1");
    }
    let output = command
        .args(["store_kill::child", "--exact", "--nocapture"])
        .env(STEP, step.to_string())
        .env(FOLDER, dir)
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let said =
        |word| out.lines().filter_map(move |line| line.strip_prefix("kill: ")?.strip_prefix(word));
    let answered = said("answered ").next_back().map_or(0, |number| number.parse().unwrap());
    (answered, said("steps ").next_back().map(|number| number.parse().unwrap()))
}

fn check(dir: &Path, answered: usize, what: &str) {
    let (done, rest) = GROUPS.split_at(answered);
    let mut held = BTreeSet::new();
    for (n, write) in done.iter().copied().flatten() {
        if *write {
            held.insert(*n)
        } else {
            held.remove(n)
        };
    }
    // A group that was under way may be done and not answered: what it touches is open.
    let open: BTreeSet<u64> =
        rest.first().into_iter().copied().flatten().map(|one| one.0).collect();
    // A kill that tears the ledger lets all live on.
    let mut dropped = false;
    // As it is, then once more from the segments alone.
    for rebuilt in [false, true] {
        let (disk, catalogue) = adapters(dir);
        if rebuilt {
            catalogue.clear().unwrap();
        }
        let (store, report) = Writer::open(disk, catalogue, wrap_key(), small(), rng(2)).unwrap();
        assert!(report.damage.is_empty(), "{what}: {report:?}");
        assert!(report.ledger_damage.is_empty(), "{what}: {report:?}");
        let heads = store.reader().read_heads(&keys(0).id(), 99).unwrap_or_default();
        let mut heads: Vec<u64> = heads.iter().map(HeadRecord::number).collect();
        heads.reverse();
        let expected = |answered: usize| heads.iter().copied().eq(1..=answered as u64);
        assert!(expected(answered) || expected(answered + 1), "{what}: {heads:?}");
        dropped |= report.releases_dropped > 0;
        for n in 0..12 {
            let chunk = chunk(n, LENGTH);
            let found = store.reader().find(&[chunk.id()]);
            let released = matches!(found[..], [Some(Found::Chunk { released: true, .. })]);
            // The group that was under way turns it round.
            let may_be = n == KEPT && (answered < GROUPS.len() || dropped);
            let expected = n == KEPT && answered % 2 == 1;
            assert!(released == expected || may_be, "{what}, chunk {n}, let go: {released}");
            let whole = holds(&store, &chunk) || released;
            let read = store.reader().read(&chunk.id()).result;
            let what = format!("{what}, rebuilt: {rebuilt}, chunk {n}, held: {whole}");
            assert!(whole || read == Err(StoreError::NotFound), "half there {what}");
            assert!(open.contains(&n) || whole == held.contains(&n), "{what}");
        }
    }
}

fn killed_between_every_two_steps(holes: bool) {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let (answered, steps) = run(&whole, u64::MAX, holes);
    assert_eq!(answered, GROUPS.len());
    check(&whole, answered, "not killed");
    let (disk, _) = adapters(&whole);
    let segments = disk.segments().unwrap();
    assert!(segments.iter().all(|number| *number > 2), "they were emptied: {segments:?}");
    let steps = steps.unwrap();
    assert!(steps > 60, "the script has {steps} steps");
    for step in 0..steps {
        let dir = dir.path().join(step.to_string());
        let (answered, finished) = run(&dir, step, holes);
        // How a file system lays a file out can decide whether a segment is emptied a call later.
        assert!(finished.is_none_or(|all| all <= step && step > 60), "step {step} kills");
        check(&dir, answered, &format!("killed at step {step}"));
    }
}

#[test]
fn killed_between_every_two_durability_steps() {
    killed_between_every_two_steps(true);
}

#[test]
fn killed_between_every_two_durability_steps_without_holes() {
    killed_between_every_two_steps(false);
}
