//! What a file costs on its way to chunks and back, without mesh and disk: cutting, framing, the
//! whole put on two threads, the whole get on one.

use bytes::Bytes;
use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use quloud::core::types::{ChunkId, Locality};
use quloud::crypto::header::Header;
use quloud::crypto::keys::{Master, OwnerKeys};
use quloud::crypto::seal::SealedChunk;
use quloud::repo::chunker::Chunker;
use quloud::repo::frame::{FrameEncoder, Kind};
use quloud::repo::get::{
    ChunkSource, FetchError, Fetched, GetLimits, Output, OutputError, Wanted, get_chunks,
};
use quloud::repo::put::file::put_stream;
use quloud::repo::put::{PutContext, PutSummary};
use quloud::repo::sealer::{ChunkSink, SinkClosed};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::AtomicBool;

const FILE_BYTES: usize = 64 << 20;
const CHUNK_BYTES: usize = 1 << 20;

static NEVER: AtomicBool = AtomicBool::new(false);

/// All of them.
pub(crate) fn all(criterion: &mut Criterion) {
    let keys = OwnerKeys::derive(&Master::from_bytes([2; 32]), 0);
    let mut noise = vec![0; FILE_BYTES];
    ChaCha20Rng::from_seed([1; 32]).fill_bytes(&mut noise);
    let text = b"a line of a log that says much the same as the line before it\n";
    let text: Vec<u8> = text.iter().copied().cycle().take(CHUNK_BYTES).collect();
    let mut group = criterion.benchmark_group("files");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(FILE_BYTES as u64));
    group.bench_function("cut", |bencher| bencher.iter(|| cut(&keys, &noise)));
    group.bench_function("put", |bencher| {
        bencher.iter(|| put(&keys, &noise, &mut Nowhere));
    });
    let mut mesh = Mesh::default();
    let summary = put(&keys, &noise, &mut mesh);
    group.bench_function("get", |bencher| {
        bencher.iter(|| {
            let limits = GetLimits::default();
            get_chunks(&summary.capability, &mut mesh, &mut Nowhere, limits, &NEVER, |_| {})
                .expect("the mesh holds every chunk")
        });
    });
    group.throughput(Throughput::Bytes(CHUNK_BYTES as u64));
    frame(&mut group, "frame, noise", &noise[..CHUNK_BYTES]);
    frame(&mut group, "frame, text", &text);
}

fn frame(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, plaintext: &[u8]) {
    let mut encoder = FrameEncoder::new();
    group.bench_function(name, |bencher| {
        bencher.iter(|| encoder.encode(Kind::File, plaintext));
    });
}

fn cut(keys: &OwnerKeys, mut rest: &[u8]) {
    let mut chunker = Chunker::new(&keys.chunker);
    loop {
        while let Some(chunk) = chunker.next_chunk() {
            black_box(chunk);
        }
        if rest.is_empty() {
            return;
        }
        let space = chunker.space();
        let taken = space.len().min(rest.len());
        let (now, later) = rest.split_at(taken);
        space[..taken].copy_from_slice(now);
        chunker.filled(taken);
        rest = later;
    }
}

fn put(keys: &OwnerKeys, file: &[u8], sink: &mut impl ChunkSink) -> PutSummary {
    let context = PutContext { keys, locality: Locality(0), cancel: &NEVER };
    put_stream(file, Path::new("noise"), context, sink, |_| {}).expect("memory can be read")
}

/// Takes chunks and bytes, and keeps none.
struct Nowhere;

impl ChunkSink for Nowhere {
    fn store(&mut self, chunk: SealedChunk, _: u64) -> Result<(), SinkClosed> {
        black_box(chunk);
        Ok(())
    }
}

impl Output for Nowhere {
    fn begin(&mut self, _: &ChunkId, _: u64) -> Result<(), OutputError> {
        Ok(())
    }

    fn holds(&self, _: &Range<u64>) -> bool {
        false
    }

    fn write(&mut self, _: u64, bytes: &[u8]) -> Result<(), OutputError> {
        black_box(bytes);
        Ok(())
    }
}

/// Keeps every chunk, and serves them in the order they are asked for.
#[derive(Default)]
struct Mesh {
    chunks: BTreeMap<ChunkId, (Header, Bytes)>,
    asked: VecDeque<Wanted>,
}

impl ChunkSink for Mesh {
    fn store(&mut self, chunk: SealedChunk, _: u64) -> Result<(), SinkClosed> {
        self.chunks.insert(chunk.id(), (chunk.header, chunk.sealed));
        Ok(())
    }
}

impl ChunkSource for Mesh {
    fn request(&mut self, wanted: Wanted) {
        self.asked.push_back(wanted);
    }

    fn next(&mut self) -> Result<Fetched, FetchError> {
        let wanted = self.asked.pop_front().ok_or(FetchError::Closed)?;
        let (header, sealed) = self.chunks.get(&wanted.id).ok_or(FetchError::Closed)?;
        Ok(Fetched { index: wanted.index, header: *header, sealed: sealed.clone() })
    }
}
