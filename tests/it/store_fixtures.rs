//! What the store's tests are made of: chunks, options, a store on threads with its completions.

use quloud::core::effect::{Input, Space, StoreError, StoredChunk, Written};
use quloud::core::types::{Account, ChunkId, LeaseNonce, LeaseTerms, Ticket};
use quloud::crypto::audit::tags_bytes;
use quloud::crypto::header::Header;
use quloud::crypto::keys::{ChunkKey, Master, OwnerKeys, WrapKey};
use quloud::store::disk::Disk;
use quloud::store::heads::HeadBounds;
use quloud::store::index::Catalogue;
use quloud::store::releases::ReleaseBounds;
use quloud::store::scrub::ROUND;
use quloud::store::segments::FileDisk;
use quloud::store::{Options, Writer};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// The points of every test chunk: only the sealed bytes tell them apart.
static POINTS: LazyLock<[[u8; 32]; 3]> = LazyLock::new(|| {
    let keys = OwnerKeys::derive(&Master::from_bytes([1; 32]), 0);
    keys.points(&ChunkKey::from_bytes([2; 32]))
});

/// A chunk of `bytes` sealed bytes (at least 41) that depend on `number`.
pub(crate) fn chunk(number: u64, bytes: usize) -> StoredChunk {
    let mut sealed = vec![0; bytes];
    let mut hash = blake3::Hasher::new();
    hash.update(&number.to_le_bytes());
    hash.finalize_xof().fill(&mut sealed);
    StoredChunk {
        header: Header::new(0, *POINTS, &sealed),
        proof_nonce: [3; 32],
        proof: [4; 64],
        account: account(number % 3),
        lease: lease(number),
        terms: LeaseTerms::default(),
        tags: tags(number, bytes),
        sealed: sealed.into(),
    }
}

/// Such as a holder takes for so many bytes; others for each number.
fn tags(number: u64, bytes: usize) -> bytes::Bytes {
    let tag = (number + 1).to_le_bytes();
    tag.into_iter().cycle().take(tags_bytes(bytes)).collect()
}

pub(crate) fn account(number: u64) -> Account {
    Account::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

pub(crate) fn lease(number: u64) -> LeaseNonce {
    let mut bytes = [7; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    LeaseNonce::from_bytes(bytes)
}

pub(crate) fn wrap_key() -> Arc<WrapKey> {
    Arc::new(WrapKey::from_bytes([9; 32]))
}

pub(crate) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// A small store: 64 KiB segments, no reserve.
pub(crate) fn options() -> Options {
    Options {
        capacity: 64 << 20,
        reserve: 0,
        segment_bytes: 64 << 10,
        ballast: 0,
        heads: HeadBounds::default(),
        releases: ReleaseBounds::default(),
        scrub_round: ROUND,
    }
}

/// Opens a folder that nobody else has. A process that another test just forked holds the lock too
/// until it has become another program, so this tries for a while.
pub(crate) fn file_disk(dir: &Path) -> FileDisk {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(disk) = FileDisk::open(dir).unwrap() {
            return disk;
        }
        assert!(Instant::now() < deadline, "nobody else has it");
        std::thread::yield_now();
    }
}

/// Gives back all that can be given back.
pub(crate) fn tidy_up<D: Disk, C: Catalogue>(store: &mut Writer<D, C>) {
    let calls = (0..10_000).take_while(|_| store.tidy()).count();
    assert!(calls < 10_000, "it comes to an end");
}

/// The results of all writes in `inputs`, in order.
pub(crate) fn written(inputs: &[Input]) -> Vec<(Ticket, Result<Written, StoreError>)> {
    let results = inputs.iter().filter_map(|input| match input {
        Input::ChunksWritten(results) => Some(results.clone()),
        _ => None,
    });
    results.flatten().collect()
}

/// Whether each delete in `inputs` succeeded, in order.
pub(crate) fn deleted(inputs: &[Input]) -> Vec<(Ticket, Result<(), StoreError>)> {
    let results = inputs.iter().filter_map(|input| match input {
        Input::ChunkDeleted { ticket, result } => Some((*ticket, result.map(drop))),
        _ => None,
    });
    results.collect()
}

/// Whether two reports of space agree in all that does not depend on the disk.
pub(crate) fn same_use(a: Space, b: Space) -> bool {
    (a.used, a.chunks, a.capacity) == (b.used, b.chunks, b.capacity)
}

/// The id of [`chunk`].
pub(crate) fn id(number: u64, bytes: usize) -> ChunkId {
    chunk(number, bytes).id()
}
