//! The store on a real disk: durable puts in groups, reads, finds, and what the disk alone does.
//!
//! `BENCH_DIR` names the folder to write in; it should be on the disk that is meant.

use criterion::{BatchSize, Criterion, Throughput};
use quloud::core::effect::StoredChunk;
use quloud::core::types::{Account, LeaseNonce, LeaseTerms, NodeId, Ticket};
use quloud::crypto::audit::{Challenge, Task, tags_bytes};
use quloud::crypto::header::Header;
use quloud::crypto::keys::{ChunkKey, Master, OwnerKeys, WrapKey};
use quloud::store::catalogue::SledCatalogue;
use quloud::store::disk::{Disk, File};
use quloud::store::segments::FileDisk;
use quloud::store::{Options, Request, Writer};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

const MIB: usize = 1 << 20;

/// Makes chunks whose bytes no store and no disk has seen before.
struct Chunks {
    points: [[u8; 32]; 3],
    rng: ChaCha20Rng,
}

impl Chunks {
    fn new() -> Self {
        let keys = OwnerKeys::derive(&Master::from_bytes([1; 32]), 0);
        let points = keys.points(&ChunkKey::from_bytes([2; 32]));
        Self { points, rng: ChaCha20Rng::seed_from_u64(1) }
    }

    fn next(&mut self, bytes: usize) -> Box<StoredChunk> {
        let mut sealed = vec![0; bytes];
        self.rng.fill_bytes(&mut sealed);
        let mut lease = [0; 16];
        self.rng.fill_bytes(&mut lease);
        Box::new(StoredChunk {
            header: Header::new(0, self.points, &sealed),
            proof_nonce: [0; 32],
            proof: [0; 64],
            account: Account::from_bytes([1; 32]),
            lease: LeaseNonce::from_bytes(lease),
            terms: LeaseTerms::default(),
            tags: vec![5; tags_bytes(bytes)].into(),
            sealed: sealed.into(),
        })
    }

    fn group(&mut self, count: u64, bytes: usize) -> Vec<Request> {
        let write = |n| Request::Write { ticket: Ticket(n), chunk: self.next(bytes) };
        (0..count).map(write).collect()
    }
}

fn open(dir: &Path) -> Writer<FileDisk, SledCatalogue> {
    let disk = FileDisk::open(dir).expect("the folder opens").expect("nobody else has it");
    let (catalogue, _) =
        SledCatalogue::open(&dir.join("index"), 32 << 20).expect("the catalogue opens");
    let options = Options::with_reserve(u64::MAX, 0);
    let key = Arc::new(WrapKey::from_bytes([9; 32]));
    let rng = ChaCha20Rng::seed_from_u64(2);
    let opened = Writer::open(Arc::new(disk), Arc::new(catalogue), key, options, rng);
    opened.expect("an empty store opens").0
}

pub(crate) fn all(criterion: &mut Criterion) {
    let base = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let mut chunks = Chunks::new();
    let mut group = criterion.benchmark_group("store");
    group.sample_size(10);
    for (count, bytes) in [(1, MIB), (8, MIB), (64, MIB), (64, 16 << 10)] {
        let dir = tempfile::tempdir_in(&base).expect("a folder can be made");
        let mut store = open(dir.path());
        group.throughput(Throughput::Bytes(count * u64::try_from(bytes).unwrap_or(u64::MAX)));
        group.bench_function(format!("put {count} x {} KiB", bytes >> 10), |bencher| {
            bencher.iter_batched(
                || chunks.group(count, bytes),
                |requests| black_box(store.commit(requests)),
                BatchSize::PerIteration,
            );
        });
    }
    disk_alone(&mut group, &base);
    let dir = tempfile::tempdir_in(&base).expect("a folder can be made");
    let mut store = open(dir.path());
    let requests = chunks.group(64, MIB);
    let ids = requests.iter().filter_map(|request| match request {
        Request::Write { chunk, .. } => Some(chunk.id()),
        _ => None,
    });
    let ids: Vec<_> = ids.collect();
    store.commit(requests);
    let mut reader = store.reader();
    group.throughput(Throughput::Bytes(64 << 20));
    group.bench_function("read 64 x 1024 KiB", |bencher| {
        bencher.iter(|| ids.iter().filter(|id| reader.read(id).result.is_ok()).count());
    });
    // What an audit costs beside that: the same bytes, read and verified, and proven.
    let account = Account::from_bytes([1; 32]);
    let task = Task::Compact(Challenge::new(&[3; 32], &NodeId::from_bytes([4; 32])));
    group.bench_function("prove 64 x 1024 KiB", |bencher| {
        bencher.iter(|| {
            let proven = ids.iter().filter(|id| reader.prove(&account, id, &task, false).0.is_ok());
            assert_eq!(proven.count(), ids.len());
        });
    });
    group.throughput(Throughput::Elements(64));
    group.bench_function("find 64", |bencher| bencher.iter(|| reader.find(black_box(&ids))));
    group.finish();
}

/// The same bytes, written in 1 MiB pieces and synced once a group: no store can be faster.
fn disk_alone(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    base: &Path,
) {
    let dir = tempfile::tempdir_in(base).expect("a folder can be made");
    let disk = FileDisk::open(dir.path()).expect("the folder opens").expect("nobody has it");
    let piece = vec![0x5a; MIB + 4096];
    let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
    for count in [1, 8, 64_u64] {
        let file = File::Segment(count);
        disk.create(file).expect("a file can be made");
        let mut at = 0;
        group.throughput(Throughput::Bytes(count << 20));
        group.bench_function(format!("disk alone {count} x 1024 KiB"), |bencher| {
            bencher.iter(|| {
                for _ in 0..count {
                    disk.write_at(file, at, &piece).expect("the disk has space");
                    at += length;
                }
                disk.sync_data(file).expect("the disk syncs");
                // As the store does: a new file every 256 MiB.
                if at > 256 << 20 {
                    disk.unlink(file).expect("the file is there");
                    disk.create(file).expect("a file can be made");
                    at = 0;
                }
            });
        });
    }
}
