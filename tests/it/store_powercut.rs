//! The two halves of `scripts/powercut.sh`: a load on a real store, and the check of a copy of its
//! disk. Without the script they do nothing.

use super::store_conformance::holds;
use super::store_faults::{Call, FaultyCatalogue, FaultyDisk, Plan, Verdict};
use super::store_fixtures::*;
use quloud::core::effect::{Input, StoreError};
use quloud::core::types::Ticket;
use quloud::store::catalogue::SledCatalogue;
use quloud::store::segments::FileDisk;
use quloud::store::{ChunkStore, Options, Writer};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Chunks that are held at a time; older ones are deleted.
const WINDOW: u64 = 300;

const DEADLINE: Duration = Duration::from_secs(60);

/// The store's folder and the log of what was answered; `None` where the script does not say.
fn given() -> Option<(PathBuf, PathBuf)> {
    let path = |variable| std::env::var_os(variable).map(PathBuf::from);
    Some((path("QULOUD_TEST_DIR")?, path("QULOUD_TEST_LOG")?))
}

fn length(number: u64) -> usize {
    let lengths = [50, 5000, 16 << 10, 200_000, 60_000, 1 << 20, 4096];
    lengths[usize::try_from(number).unwrap() % lengths.len()]
}

fn small() -> Options {
    Options { segment_bytes: 16 << 20, capacity: 1 << 30, ..options() }
}

/// Writes and deletes until it is killed; appends what was answered to a log on another disk.
#[test]
fn load() {
    let Some((dir, log)) = given() else { return };
    let lie = std::env::var_os("QULOUD_TEST_WITHOUT_FSYNC").is_some();
    let plan = Plan::new(move |_, call| match call {
        Call::SyncData(_) | Call::SyncNames | Call::Flush if lie => Verdict::Lie,
        _ => Verdict::Do,
    });
    let disk = FileDisk::open(&dir).unwrap().expect("nobody else has it");
    let (catalogue, _) = SledCatalogue::open(&dir.join("index"), 8 << 20).unwrap();
    let disk = Arc::new(FaultyDisk(Arc::new(disk), Arc::clone(&plan)));
    let catalogue = Arc::new(FaultyCatalogue(Arc::new(catalogue), plan));
    let (writer, _) = Writer::open(disk, catalogue, wrap_key(), small(), rng(1)).unwrap();
    let log = Mutex::new(File::create(log).unwrap());
    let (send, answered) = channel();
    let completions = Box::new(move |input: Input| {
        let (word, tickets): (_, Vec<Ticket>) = match input {
            Input::ChunksWritten(results) => (
                "held",
                results.iter().map(|(ticket, result)| (*ticket, result.unwrap()).0).collect(),
            ),
            Input::ChunkDeleted { ticket, result } => {
                result.unwrap();
                ("gone", vec![ticket])
            }
            _ => return,
        };
        for Ticket(number) in tickets {
            writeln!(log.lock().unwrap(), "{word} {number}").unwrap();
            send.send(()).unwrap();
        }
    });
    let store = ChunkStore::start(writer, completions);
    let mut open = 0;
    for number in 0.. {
        store.write(Ticket(number), Box::new(chunk(number, length(number)))).unwrap();
        open += 1;
        if let Some(old) = number.checked_sub(WINDOW) {
            store.delete(Ticket(old), id(old, length(old))).unwrap();
            open += 1;
        }
        while open > 12 {
            answered.recv_timeout(DEADLINE).expect("the store answers");
            open -= 1;
        }
    }
}

/// Opens the copy and looks for everything that was answered before the copy was made.
#[test]
fn check() {
    let Some((dir, log)) = given() else { return };
    let log = std::fs::read_to_string(log).unwrap();
    let mut answered = BTreeMap::new();
    for (word, number) in log.lines().filter_map(|line| line.split_once(' ')) {
        answered.insert(number.parse::<u64>().unwrap(), word == "held");
    }
    let newest = answered.keys().max().copied().expect("something was answered");
    let disk = FileDisk::open(&dir).unwrap().expect("nobody else has it");
    let (catalogue, opened) = SledCatalogue::open(&dir.join("index"), 8 << 20).unwrap();
    let (disk, catalogue) = (Arc::new(disk), Arc::new(catalogue));
    let (store, report) = Writer::open(disk, catalogue, wrap_key(), small(), rng(2)).unwrap();
    let (mut lost, mut back) = (Vec::new(), Vec::new());
    for (number, held) in &answered {
        let chunk = chunk(*number, length(*number));
        // At most twelve requests are under way: these may have been deleted and not answered.
        let may_be_gone = number + WINDOW <= newest + 12;
        let read = store.reader().read(&chunk.id()).result;
        match held {
            true if holds(&store, &chunk) || may_be_gone => {}
            true => lost.push(number),
            false if read == Err(StoreError::NotFound) => {}
            false => back.push(number),
        }
    }
    let mut out = std::io::stdout().lock();
    let (answers, chunks) = (answered.len(), report.chunks);
    writeln!(out, "\npowercut: {answers} answered, {chunks} held, {opened:?}, {report:?}").unwrap();
    assert!(report.damage.is_empty(), "damage below what was durable: {report:?}");
    assert!(lost.is_empty() && back.is_empty(), "lost {lost:?}, back {back:?}");
}
