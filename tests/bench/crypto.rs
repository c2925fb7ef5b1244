//! What each chunk costs its owner and its holders: hashing, sealing, proofs, receipts, acks.

use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, measurement::WallTime};
use quloud::core::types::{
    Account, BatchId, ChunkId, LeaseNonce, LeaseTerms, Locality, MeshId, NodeId, StoreEpoch,
};
use quloud::crypto::ack::{AckStatement, AckedChunk, receipt};
use quloud::crypto::audit::{Challenge, Checker, Task, blocks};
use quloud::crypto::header::Header;
use quloud::crypto::keys::{ChunkKey, Master, NodeKeys, OwnerKeys, PairKey, WrapKey};
use quloud::crypto::ownership::{self, Context, Operation, Proof, Statement, Verifier};
use quloud::crypto::seal::{self, SealedChunk};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::hint::black_box;

const MIB: usize = 1 << 20;

/// All of them.
pub(crate) fn all(criterion: &mut Criterion) {
    bytes(criterion);
    headers(criterion);
    proofs(criterion);
    acks(criterion);
}

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::from_seed([1; 32])
}

fn owner() -> OwnerKeys {
    OwnerKeys::derive(&Master::from_bytes([2; 32]), 0)
}

fn node() -> NodeKeys {
    NodeKeys::from_seeds([3; 32], [4; 32], [5; 32])
}

fn plaintext(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rng().fill_bytes(&mut bytes);
    bytes
}

/// One benchmark over `plaintext`, its throughput counted by the plaintext's length.
fn over<O>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, length: usize, f: impl Fn() -> O) {
    group.throughput(Throughput::Bytes(length as u64));
    let id = BenchmarkId::new(name, format!("{} KiB", length >> 10));
    group.bench_function(id, |bencher| bencher.iter(|| black_box(f())));
}

fn bytes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bytes");
    let (keys, pair, wrap) = (owner(), PairKey::from_bytes([6; 32]), WrapKey::from_bytes([7; 32]));
    for length in [64 << 10, MIB, 4 * MIB - 4096] {
        let plain = plaintext(length);
        let ck = ChunkKey::derive(&keys.dedup, 0, 1, &plain);
        let chunk = SealedChunk::new(&keys, &ck, Locality(0), &plain);
        let id = chunk.id();
        let wrapped = seal::wrap(&wrap, &chunk.sealed, &mut rng());
        over(&mut group, "chunk key", length, || ChunkKey::derive(&keys.dedup, 0, 1, &plain));
        over(&mut group, "seal", length, || seal::seal(&ck, &plain));
        over(&mut group, "certify", length, || chunk.header.certifies(&chunk.sealed));
        over(&mut group, "seal and id", length, || {
            SealedChunk::new(&keys, &ck, Locality(0), &plain).id()
        });
        over(&mut group, "open", length, || seal::open(&ck, &chunk.header, &chunk.sealed));
        over(&mut group, "receipt", length, || receipt(&pair, &[8; 32], &id, &chunk.sealed));
        let (tag_key, challenge) =
            (&keys.tag_key, Challenge::new(&[9; 32], &NodeId::from_bytes([1; 32])));
        let tags = tag_key.tags(&chunk.header, &chunk.sealed).expect("these are its bytes");
        over(&mut group, "tag", length, || tag_key.tags(&chunk.header, &chunk.sealed));
        let task = Task::Compact(challenge);
        over(&mut group, "prove", length, || task.piece(&id, &chunk.sealed, &tags));
        let blocks = blocks(chunk.sealed.len());
        over(&mut group, "expect", length, || {
            let mut checker = Checker::new(tag_key, challenge);
            checker.add(&id, blocks);
            checker
        });
        over(&mut group, "wrap", length, || seal::wrap(&wrap, &chunk.sealed, &mut rng()));
        over(&mut group, "unwrap", length, || seal::unwrap(&wrap, &wrapped));
    }
    group.finish();
}

fn headers(criterion: &mut Criterion) {
    let keys = owner();
    let ck = ChunkKey::derive(&keys.dedup, 0, 1, b"content");
    let encoded = Header::new(0, keys.points(&ck), &[9; 100]).encode();
    let mut group = criterion.benchmark_group("header");
    group.bench_function("points", |bencher| bencher.iter(|| keys.points(black_box(&ck))));
    group.bench_function("decode", |bencher| bencher.iter(|| Header::decode(black_box(&encoded))));
    group.finish();
}

fn context(number: u8) -> Context {
    Context {
        operation: Operation::Retrieve,
        mesh: MeshId::from_bytes([10; 32]),
        verifier: Verifier::Node(NodeId::from_bytes([11; 32])),
        asker: Some(NodeId::from_bytes([12; 32])),
        nonce: [number; 32],
        body_hash: [13; 32],
    }
}

fn proofs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("proof");
    let (keys, mut rng) = (owner(), rng());
    let made: Vec<([u8; 32], ChunkId, Context, Proof)> = (0..64)
        .map(|number| {
            let ck = ChunkKey::derive(&keys.dedup, 0, 1, &[number]);
            let (secret, id) = (ck.read_secret(), ChunkId::from_bytes([number; 32]));
            let context = context(number);
            let proof = ownership::prove(&secret, &id, &context, &mut rng);
            (secret.point(), id, context, proof)
        })
        .collect();
    let statements: Vec<Statement<'_>> = made
        .iter()
        .map(|(point, id, context, proof)| Statement { point, id, context, proof })
        .collect();
    let secret = ChunkKey::derive(&keys.dedup, 0, 1, &[0]).read_secret();
    let Statement { point, id, context, proof } = statements[0];
    group.bench_function("prove", |bencher| {
        bencher.iter(|| ownership::prove(&secret, id, context, &mut rng));
    });
    group.bench_function("verify", |bencher| {
        bencher.iter(|| ownership::verify(point, id, context, proof));
    });
    for count in [4, 32, 64] {
        let batch = &statements[..count];
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("verify_batch", count), |bencher| {
            bencher.iter(|| ownership::verify_batch(batch, &mut rng));
        });
    }
    group.finish();
}

fn acks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ack");
    let node = node();
    for count in [1, 64] {
        let chunk = AckedChunk {
            id: ChunkId::from_bytes([14; 32]),
            lease: LeaseNonce::from_bytes([15; 16]),
            receipt: [16; 32],
        };
        let ack = AckStatement {
            mesh: MeshId::from_bytes([10; 32]),
            account: Account::from_bytes([17; 32]),
            batch: BatchId::from_bytes([18; 16]),
            epoch: StoreEpoch::from_bytes([19; 16]),
            terms: LeaseTerms::default(),
            chunks: vec![chunk; count],
        };
        let (id, signature) = (node.node_id(), ack.sign(&node));
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("sign", count), |bencher| {
            bencher.iter(|| ack.sign(&node));
        });
        group.bench_function(BenchmarkId::new("verify", count), |bencher| {
            bencher.iter(|| ack.verify(&id, &signature));
        });
    }
    group.finish();
}
