//! Proofs of chunks by a store on its threads, and over a disk that cannot read.

use super::store_faults::{FaultyCatalogue, FaultyDisk, Plan};
use super::store_fixtures::*;
use quloud::core::effect::{Found, Input, ProvenChunk, StoreError, StoredChunk, Unproven};
use quloud::core::types::{LeaseTerms, Locality, NodeId, Ticket};
use quloud::crypto::audit::{Challenge, Checker, Piece, Task};
use quloud::crypto::keys::{ChunkKey, Master, OwnerKeys};
use quloud::crypto::seal::SealedChunk;
use quloud::store::bounds::PROVE_QUEUE_MAX;
use quloud::store::disk::File;
use quloud::store::memory::{MemoryCatalogue, MemoryDisk};
use quloud::store::{ChunkStore, Request, Writer};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);

fn keys() -> OwnerKeys {
    OwnerKeys::derive(&Master::from_bytes([6; 32]), 0)
}

/// A chunk that was sealed by an owner, with its tags.
fn sealed_chunk() -> StoredChunk {
    let key = ChunkKey::derive(&keys().dedup, 0, 1, b"chunk");
    let SealedChunk { header, sealed, tags, .. } =
        SealedChunk::new(&keys(), &key, Locality(0), &[1; 5_000]);
    StoredChunk {
        header,
        proof_nonce: [3; 32],
        proof: [4; 64],
        account: account(1),
        lease: lease(1),
        terms: LeaseTerms::default(),
        tags,
        sealed,
    }
}

fn challenge() -> Challenge {
    Challenge::new(&[7; 32], &NodeId::from_bytes([2; 32]))
}

fn passes(chunk: &StoredChunk, proven: &Result<ProvenChunk, Unproven>) -> bool {
    let keys = keys();
    let mut checker = Checker::new(&keys.tag_key, challenge());
    match proven {
        Ok(ProvenChunk { blocks, piece: Piece::Compact(proof) }) => {
            checker.add(&chunk.id(), u32::from(*blocks));
            checker.holds(proof)
        }
        _ => false,
    }
}

fn opened(plan: Arc<Plan>) -> Writer<FaultyDisk<MemoryDisk>, FaultyCatalogue<MemoryCatalogue>> {
    let disk = FaultyDisk(Arc::new(MemoryDisk::new(1 << 30)), Arc::clone(&plan));
    let catalogue = FaultyCatalogue(Arc::new(MemoryCatalogue::new()), plan);
    Writer::open(Arc::new(disk), Arc::new(catalogue), wrap_key(), options(), rng(1)).unwrap().0
}

/// Waits for the first input that `pick` takes.
fn wait<T>(inputs: &Receiver<Input>, mut pick: impl FnMut(Input) -> Option<T>) -> T {
    loop {
        if let Some(found) = pick(inputs.recv_timeout(DEADLINE).expect("the store answers")) {
            return found;
        }
    }
}

fn proven(input: Input) -> Option<(Ticket, Result<ProvenChunk, Unproven>)> {
    if let Input::ChunkProven { ticket, result } = input { Some((ticket, result)) } else { None }
}

/// Audits have a thread of their own, and are as many as its queue takes.
#[test]
fn reads_do_not_wait_for_audits_and_audits_are_bounded() {
    let ((send, inputs), (go, held)) = (channel(), channel::<()>());
    let held = Mutex::new(held);
    let completions = Box::new(move |input| {
        let is_proof = matches!(input, Input::ChunkProven { .. });
        drop(send.send(input));
        if is_proof {
            // The thread of audits is kept here until the test lets go of it.
            let _ = held.lock().unwrap().recv_timeout(DEADLINE);
        }
    });
    let store = ChunkStore::start(opened(Plan::none()), completions);
    let chunk = sealed_chunk();
    store.write(Ticket(0), Box::new(chunk.clone())).unwrap();
    wait(&inputs, |input| matches!(input, Input::ChunksWritten(_)).then_some(()));
    let name = (chunk.account, chunk.id());
    let prove = |ticket| store.prove(Ticket(ticket), name, Task::Compact(challenge()), false);
    prove(1).unwrap();
    let (ticket, result) = wait(&inputs, proven);
    assert!(ticket == Ticket(1) && passes(&chunk, &result));
    let last = 2 + PROVE_QUEUE_MAX as u64;
    (2..last).for_each(|ticket| prove(ticket).unwrap());
    assert_eq!(prove(last), Err(StoreError::Busy));
    store.read(Ticket(99), chunk.id()).unwrap();
    let read = wait(&inputs, |input| match input {
        Input::ChunkRead { ticket: Ticket(99), result } => Some(result),
        Input::ChunkProven { .. } => panic!("the thread of audits is held"),
        _ => None,
    });
    assert_eq!(read, Ok((chunk.header, chunk.sealed.clone())));
    drop(go);
    for expected in 2..last {
        let (ticket, result) = wait(&inputs, proven);
        assert!(ticket == Ticket(expected) && passes(&chunk, &result));
    }
    store.close();
}

/// The chunk cannot be proven now; that its record is damaged is not known.
#[test]
fn what_the_disk_cannot_read_is_not_proven_and_not_given_up() {
    let plan = Plan::none();
    let mut store = opened(Arc::clone(&plan));
    let chunk = sealed_chunk();
    store.commit(vec![Request::Write { ticket: Ticket(0), chunk: Box::new(chunk.clone()) }]);
    let prove = |store: &Writer<_, _>| {
        store.reader().prove(&chunk.account, &chunk.id(), &Task::Compact(challenge()), false)
    };
    assert!(passes(&chunk, &prove(&store).0));
    plan.spoil_reads((File::Segment(0), 0, u64::MAX));
    plan.spoil_reads((File::Segment(1), 0, u64::MAX));
    assert!(matches!(prove(&store), (Err(Unproven::Unread), None)));
    let found = store.reader().find(&[chunk.id()]);
    let (header, sound, released) = (chunk.header, true, false);
    assert_eq!(found, [Some(Found::Chunk { header, sound, released })]);
}
