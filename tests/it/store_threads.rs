//! The store on its threads: grouping, bounds, completions, closing.

use super::store_faults::{Call, FaultyCatalogue, FaultyDisk, Plan, Verdict};
use super::store_fixtures::*;
use quloud::core::effect::{ChunkState, Found, Input, ListedChunk, Space, StoreError};
use quloud::core::types::{ChunkId, Ticket};
use quloud::crypto::keys::WrapKey;
use quloud::store::bounds::{GROUP_MAX, WRITE_QUEUE_MAX};
use quloud::store::disk::DiskError;
use quloud::store::memory::{MemoryCatalogue, MemoryDisk};
use quloud::store::{
    ChunkStore, OpenReport, Options, Rebuilt, StoreConfig, StoreOpenError, Writer,
};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);

fn config(dir: &Path) -> StoreConfig {
    StoreConfig { dir: dir.join("store"), options: Options { ..options() } }
}

fn open(dir: &Path) -> Result<(ChunkStore, OpenReport, Receiver<Input>), StoreOpenError> {
    let (send, inputs) = channel();
    let completions = Box::new(move |input| drop(send.send(input)));
    let key = WrapKey::from_bytes([9; 32]);
    let (store, report) = ChunkStore::open(&config(dir), key, [1; 32], completions)?;
    Ok((store, report, inputs))
}

/// Waits for the first input that `pick` takes.
fn wait<T>(inputs: &Receiver<Input>, mut pick: impl FnMut(Input) -> Option<T>) -> T {
    loop {
        let input = inputs.recv_timeout(DEADLINE).expect("the store answers");
        if let Some(found) = pick(input) {
            return found;
        }
    }
}

fn space(input: Input) -> Option<Space> {
    if let Input::Space(space) = input { Some(space) } else { None }
}

#[test]
fn chunks_go_in_and_come_out_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (store, report, inputs) = open(dir.path()).unwrap();
    assert!(report.created);
    assert_eq!(wait(&inputs, space).chunks, 0);
    let chunk = chunk(1, 5000);
    store.write(Ticket(1), Box::new(chunk.clone())).unwrap();
    let results = wait(&inputs, |input| match input {
        Input::ChunksWritten(results) => Some(results),
        _ => None,
    });
    assert_eq!((results[0].0, results[0].1.unwrap().epoch), (Ticket(1), store.epoch()));
    assert_eq!((wait(&inputs, space).chunks, store.usage().len()), (1, 1));
    store.close();
    let (store, report, inputs) = open(dir.path()).unwrap();
    assert_eq!((report.created, report.chunks, report.rebuilt), (false, 1, None));
    store.find(Ticket(2), vec![chunk.id(), id(2, 5000)]).unwrap();
    let found = wait(&inputs, |input| match input {
        Input::ChunksFound { ticket: Ticket(2), found } => Some(found),
        _ => None,
    });
    assert_eq!(
        found,
        [Some(Found::Chunk { header: chunk.header, sound: true, released: false }), None]
    );
    store.read(Ticket(3), chunk.id()).unwrap();
    let read = wait(&inputs, |input| match input {
        Input::ChunkRead { ticket: Ticket(3), result } => Some(result),
        _ => None,
    });
    assert_eq!(read, Ok((chunk.header, chunk.sealed.clone())));
    store.delete(Ticket(4), chunk.id()).unwrap();
    let gone = wait(&inputs, |input| match input {
        Input::ChunkDeleted { ticket: Ticket(4), result } => Some(result),
        _ => None,
    });
    assert_eq!(gone.map(|gone| (gone.account, gone.freed_bytes > 0)), Ok((chunk.account, true)));
}

#[test]
fn chunks_are_let_go_listed_and_asked_about() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _, inputs) = open(dir.path()).unwrap();
    let chunk = chunk(1, 5000);
    store.write(Ticket(1), Box::new(chunk.clone())).unwrap();
    // One group after the other: the first release may find nothing yet.
    let state = loop {
        store.release(Ticket(2), false, vec![(chunk.id(), chunk.lease)]).unwrap();
        let states = wait(&inputs, |input| match input {
            Input::ChunksReleased { ticket: Ticket(2), result } => Some(result.unwrap()),
            _ => None,
        });
        if states != [ChunkState::NotHeld] {
            break states[0];
        }
    };
    assert!(matches!(state, ChunkState::Released { .. }));
    store.list(Ticket(3), chunk.account, ChunkId::from_bytes([0; 32]), 9).unwrap();
    let listed = wait(&inputs, |input| match input {
        Input::ChunksListed { ticket: Ticket(3), result } => Some(result.unwrap()),
        _ => None,
    });
    let sealed_bytes = chunk.header.sealed_bytes;
    let kept = ListedChunk { id: chunk.id(), lease: chunk.lease, sealed_bytes, state };
    assert_eq!(listed, (vec![kept], false));
    store.query(Ticket(4), chunk.account, vec![chunk.id()]).unwrap();
    let states = wait(&inputs, |input| match input {
        Input::ChunksQueried { ticket: Ticket(4), result } => Some(result.unwrap()),
        _ => None,
    });
    assert_eq!(states, [(state, chunk.lease)]);
}

#[test]
fn a_store_is_opened_once_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ..) = open(dir.path()).unwrap();
    assert_eq!(open(dir.path()).err(), Some(StoreOpenError::InUse));
    store.close();
    open(dir.path()).unwrap();
}

#[test]
fn a_broken_index_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _, inputs) = open(dir.path()).unwrap();
    for n in 0..10 {
        store.write(Ticket(n), Box::new(chunk(n, 5000))).unwrap();
    }
    let mut left = 10;
    while left > 0 {
        left -= wait(&inputs, |input| match input {
            Input::ChunksWritten(results) => Some(results.len()),
            _ => None,
        });
    }
    store.close();
    let index = dir.path().join("store/index");
    let spoil: [&dyn Fn(); 4] = [
        &|| std::fs::remove_dir_all(&index).unwrap(),
        &|| std::fs::write(index.join("db"), vec![0x55; 300_000]).unwrap(),
        &|| std::fs::write(index.join("conf"), b"segment_size: 7").unwrap(),
        // What an open on a full disk leaves behind; sled never opens again.
        &|| std::fs::write(index.join("snap.0000000000000001.generating"), b"").unwrap(),
    ];
    for spoil in spoil {
        spoil();
        let (store, report, inputs) = open(dir.path()).unwrap();
        assert!(matches!(report.rebuilt, Some(Rebuilt::Broken | Rebuilt::Missing)), "{report:?}");
        assert_eq!((report.chunks, wait(&inputs, space).chunks), (10, 10));
        store.close();
    }
}

/// A store in memory whose first sync after `hold` is set waits for the test.
fn held() -> (ChunkStore, Receiver<Input>, Sender<()>, Receiver<()>) {
    let (go, wait_for_go) = channel();
    let (waiting, is_waiting) = channel();
    let gate = Mutex::new((wait_for_go, waiting, false));
    let plan = Plan::new(move |n, call| {
        // The first syncs make the store itself.
        if matches!(call, Call::SyncData(_)) && n > 5 {
            let mut gate = gate.lock().unwrap();
            if !gate.2 {
                gate.2 = true;
                gate.1.send(()).unwrap();
                gate.0.recv_timeout(DEADLINE).unwrap();
            }
        }
        Verdict::Do
    });
    let disk = FaultyDisk(Arc::new(MemoryDisk::new(1 << 30)), Arc::clone(&plan));
    let catalogue = FaultyCatalogue(Arc::new(MemoryCatalogue::new()), plan);
    let options = Options { capacity: 1 << 30, segment_bytes: 64 << 20, ..options() };
    let opened = Writer::open(Arc::new(disk), Arc::new(catalogue), wrap_key(), options, rng(1));
    let (send, inputs) = channel();
    let completions = Box::new(move |input| drop(send.send(input)));
    (ChunkStore::start(opened.unwrap().0, completions), inputs, go, is_waiting)
}

#[test]
fn what_waits_for_the_disk_becomes_one_group_and_more_is_refused() {
    let (store, inputs, go, is_waiting) = held();
    store.write(Ticket(0), Box::new(chunk(0, 50))).unwrap();
    is_waiting.recv_timeout(DEADLINE).unwrap();
    let limit = u64::try_from(WRITE_QUEUE_MAX).unwrap();
    for n in 1..=limit {
        store.write(Ticket(n), Box::new(chunk(n, 50))).unwrap();
    }
    let refused = store.write(Ticket(limit + 1), Box::new(chunk(limit + 1, 50)));
    assert_eq!(refused, Err(StoreError::Busy));
    assert_eq!(store.delete(Ticket(limit + 2), id(0, 50)), Err(StoreError::Busy));
    go.send(()).unwrap();
    let (mut groups, mut left) = (Vec::new(), WRITE_QUEUE_MAX + 1);
    while left > 0 {
        let results = wait(&inputs, |input| match input {
            Input::ChunksWritten(results) => Some(results),
            _ => None,
        });
        assert!(results.iter().all(|(_, result)| result.is_ok()));
        groups.push(results.len());
        left -= results.len();
    }
    assert_eq!(groups, [1, GROUP_MAX, GROUP_MAX, GROUP_MAX, GROUP_MAX]);
}

#[test]
fn the_bytes_that_wait_are_bounded() {
    let (store, _inputs, go, is_waiting) = held();
    store.write(Ticket(0), Box::new(chunk(0, 50))).unwrap();
    is_waiting.recv_timeout(DEADLINE).unwrap();
    let big = chunk(1, 4 << 20);
    let taken = (1..=30).filter(|n| store.write(Ticket(*n), Box::new(big.clone())).is_ok());
    assert_eq!(taken.count(), 23, "96 MiB, the first chunk included");
    go.send(()).unwrap();
}

#[test]
fn reads_go_on_while_the_writer_waits_for_the_disk() {
    let (store, inputs, go, is_waiting) = held();
    store.write(Ticket(0), Box::new(chunk(0, 50))).unwrap();
    is_waiting.recv_timeout(DEADLINE).unwrap();
    store.read(Ticket(1), id(0, 50)).unwrap();
    let read = wait(&inputs, |input| match input {
        Input::ChunkRead { result, .. } => Some(result),
        _ => None,
    });
    assert_eq!(read, Err(StoreError::NotFound), "what is not durable is not there");
    go.send(()).unwrap();
}

#[test]
fn ack_waits_for_durable_write() {
    let (store, inputs, go, is_waiting) = held();
    store.write(Ticket(0), Box::new(chunk(0, 50))).unwrap();
    is_waiting.recv_timeout(DEADLINE).unwrap();
    assert!(!inputs.try_iter().any(|input| matches!(input, Input::ChunksWritten(_))));
    go.send(()).unwrap();
    wait(&inputs, |input| matches!(input, Input::ChunksWritten(_)).then_some(()));
}

#[test]
fn a_failed_sync_is_reported_as_read_only() {
    let plan = Plan::new(|n, call| match call {
        Call::SyncData(_) if n > 5 => Verdict::Fail(DiskError::Io(5)),
        _ => Verdict::Do,
    });
    let disk = FaultyDisk(Arc::new(MemoryDisk::new(1 << 30)), Arc::clone(&plan));
    let catalogue = FaultyCatalogue(Arc::new(MemoryCatalogue::new()), plan);
    let opened = Writer::open(Arc::new(disk), Arc::new(catalogue), wrap_key(), options(), rng(1));
    let (send, inputs) = channel();
    let completions = Box::new(move |input| drop(send.send(input)));
    let store = ChunkStore::start(opened.unwrap().0, completions);
    store.write(Ticket(0), Box::new(chunk(0, 50))).unwrap();
    let results = wait(&inputs, |input| match input {
        Input::ChunksWritten(results) => Some(results),
        _ => None,
    });
    assert_eq!(results, [(Ticket(0), Err(StoreError::Io))]);
    assert!(wait(&inputs, space).read_only);
}

#[test]
fn closing_carries_out_what_is_queued() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _, inputs) = open(dir.path()).unwrap();
    for n in 0..40 {
        store.write(Ticket(n), Box::new(chunk(n, 3000))).unwrap();
    }
    store.close();
    let done: usize = inputs
        .try_iter()
        .map(|input| match input {
            Input::ChunksWritten(results) => results.len(),
            _ => 0,
        })
        .sum();
    assert_eq!(done, 40);
    let (_store, report, _) = open(dir.path()).unwrap();
    assert_eq!(report.chunks, 40);
}
