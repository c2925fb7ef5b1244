//! What a large owner's catalogue takes: `cargo bench --bench micro -- catalogue`.
//!
//! A million chunks with three holders each are written, all of which proved lately what they have,
//! then a process of its own opens the catalogue and says how long that took and how much memory it
//! has then, and at most while an audit of all is planned. Not part of a run without a filter: it
//! writes some hundred megabytes. `BENCH_DIR` names the folder to write in.

use quloud::core::audit::Sift;
use quloud::core::types::{ChunkId, LeaseNonce, NodeId, StoreEpoch};
use quloud::crypto::keys::{Master, OwnerKeys};
use quloud::repo::catalog::{Catalog, ChunkAcked, Entry, Proven};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const CHUNKS: u64 = 1_000_000;
const HOLDERS: u8 = 3;

/// Chunks of one question, as the node asks.
const BATCH_CHUNKS: usize = 2_048;

/// Some time, in seconds since 1970.
const NOW_S: u64 = 1_800_000_000;

/// Says to the process that it is the one that opens the catalogue there.
const AT: &str = "QULOUD_BENCH_CATALOGUE";

fn owner() -> OwnerKeys {
    OwnerKeys::derive(&Master::from_bytes([1; 32]), 0)
}

/// Where this process is to open the catalogue, it does, and `true` comes back.
pub(crate) fn is_reader() -> bool {
    let Some(at) = std::env::var_os(AT) else { return false };
    let (before, started) = (resident_kib(), Instant::now());
    let (catalog, _) = Catalog::open(Path::new(&at), &owner()).expect("the catalogue opens");
    let (seconds, after) = (started.elapsed().as_secs_f64(), resident_kib());
    let chunks = catalog.chunks_held_by(&NodeId::from_bytes([1; 32]));
    let told = writeln!(
        std::io::stdout(),
        "catalogue of {chunks} chunks, {HOLDERS} holders each: opened in {seconds:.1} s, {} MiB \
         resident ({} MiB before)",
        after / 1024,
        before / 1024,
    );
    told.expect("somebody listens");
    plan_audit(&catalog);
    true
}

/// Makes each question of an audit of all replicas, holder by holder, as the node does, and keeps
/// what it keeps until the end: how the ids of what was asked for begin.
fn plan_audit(catalog: &Catalog) {
    let (before, started) = (resident_kib(), Instant::now());
    let (mut prefixes, mut questions, mut bytes) = (Vec::new(), 0, 0);
    for holder in 1..=HOLDERS {
        let node = NodeId::from_bytes([holder; 32]);
        let mut after = None;
        loop {
            let ids = catalog.held_by(&node, after.as_ref(), BATCH_CHUNKS);
            let Some(last) = ids.last() else { break };
            after = Some(*last);
            prefixes.extend(ids.iter().map(Proven::prefix));
            let mut sift = Sift::new(node, ids);
            while let Some(question) = sift.next(&mut rand::rng()) {
                questions += 1;
                bytes += question.ids.len() * 32;
            }
        }
    }
    let (seconds, most) = (started.elapsed().as_secs_f64(), field_kib("VmHWM:"));
    let told = writeln!(
        std::io::stdout(),
        "an audit of all {} replicas: {questions} questions with {} MiB of ids planned in \
         {seconds:.1} s, {} MiB more in memory, {} MiB at most in all",
        prefixes.len(),
        bytes >> 20,
        resident_kib().saturating_sub(before) / 1024,
        most / 1024,
    );
    told.expect("somebody listens");
}

/// Only where it is asked for.
pub(crate) fn run() {
    if !std::env::args().any(|arg| arg == "catalogue") {
        return;
    }
    let root = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::tempdir_in(root).expect("a folder");
    let (mut catalog, _) = Catalog::open(folder.path(), &owner()).expect("it is made");
    for number in 0..CHUNKS {
        let mut id = [0; 32];
        id.copy_from_slice(blake3::hash(&number.to_le_bytes()).as_bytes());
        for holder in 1..=HOLDERS {
            let acked = ChunkAcked {
                chunk: ChunkId::from_bytes(id),
                node: NodeId::from_bytes([holder; 32]),
                lease: LeaseNonce::from_bytes([holder; 16]),
                epoch: StoreEpoch::from_bytes([holder; 16]),
            };
            catalog.record(Entry::ChunkAcked(acked)).expect("it is taken");
            let ChunkAcked { chunk, node, epoch, .. } = acked;
            catalog.prove_audited(&node, &epoch, &[chunk], NOW_S);
        }
    }
    catalog.commit().expect("it is durable");
    catalog.proven_file(NOW_S).save().expect("there is room");
    drop(catalog);
    let this = std::env::current_exe().expect("this program has a path");
    let ended = Command::new(this).env(AT, folder.path()).status().expect("it starts");
    assert!(ended.success());
}

/// What this process has in memory, in KiB; 0 where the system does not say.
fn resident_kib() -> u64 {
    field_kib("VmRSS:")
}

/// A field of what the system says of this process, in KiB; 0 where it does not.
fn field_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
