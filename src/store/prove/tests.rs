//! What a store proves, what it admits, and that no byte is left out.

use super::*;
use crate::core::effect::{Input, StoredChunk};
use crate::core::types::{LeaseNonce, LeaseTerms, Locality, NodeId, Ticket};
use crate::crypto::audit::{Challenge, Checker, MacKey, Piece, Proof, tags_bytes};
use crate::crypto::keys::{ChunkKey, Master, OwnerKeys, PairKey, WrapKey};
use crate::crypto::seal::SealedChunk;
use crate::store::disk::File;
use crate::store::memory::{MemoryCatalogue, MemoryDisk};
use crate::store::writer::{Options, Writer};
use bytes::Bytes;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

const OWNER: Account = Account::from_bytes([1; 32]);
const HOLDER: NodeId = NodeId::from_bytes([2; 32]);

fn owner() -> OwnerKeys {
    OwnerKeys::derive(&Master::from_bytes([6; 32]), 0)
}

/// A chunk of so many bytes before it was sealed, with its tags.
fn chunk(number: u8, bytes: usize) -> StoredChunk {
    let keys = owner();
    let key = ChunkKey::derive(&keys.dedup, 0, 1, &[number]);
    let mut plain = vec![0; bytes];
    blake3::Hasher::new().update(&[number]).finalize_xof().fill(&mut plain);
    let SealedChunk { header, sealed, tags, .. } =
        SealedChunk::new(&keys, &key, Locality(0), &plain);
    StoredChunk {
        header,
        proof_nonce: [3; 32],
        proof: [4; 64],
        account: OWNER,
        lease: LeaseNonce::from_bytes([number; 16]),
        terms: LeaseTerms::default(),
        tags,
        sealed,
    }
}

fn challenge() -> Challenge {
    Challenge::new(&[7; 32], &HOLDER)
}

fn compact() -> Task {
    Task::Compact(challenge())
}

fn mac() -> (MacKey, Task) {
    let key = MacKey::derive(&PairKey::from_bytes([8; 32]));
    (key.clone(), Task::Mac { key, seed: [7; 32] })
}

struct Fixture {
    disk: Arc<MemoryDisk>,
    store: Writer<MemoryDisk, MemoryCatalogue>,
}

impl Fixture {
    fn with(chunks: impl IntoIterator<Item = StoredChunk>) -> Self {
        let disk = Arc::new(MemoryDisk::new(64 << 20));
        let (catalogue, key) = (Arc::new(MemoryCatalogue::new()), WrapKey::from_bytes([9; 32]));
        let options = Options { segment_bytes: 8 << 20, ..Options::with_reserve(1 << 30, 0) };
        let rng = ChaCha20Rng::from_seed([1; 32]);
        let opened = Writer::open(Arc::clone(&disk), catalogue, Arc::new(key), options, rng);
        let mut fixture = Self { disk, store: opened.unwrap().0 };
        chunks.into_iter().for_each(|chunk| fixture.write(chunk));
        fixture
    }

    fn write(&mut self, chunk: StoredChunk) {
        let request = Request::Write { ticket: Ticket(0), chunk: Box::new(chunk) };
        let done = self.store.commit(vec![request]);
        let written = done.iter().any(|input| match input {
            Input::ChunksWritten(results) => results.iter().all(|(_, result)| result.is_ok()),
            _ => false,
        });
        assert!(written, "{done:?}");
    }

    fn prove(&self, id: &ChunkId, task: &Task) -> Result<ProvenChunk, Unproven> {
        self.store.reader().prove(&OWNER, id, task, true).0
    }

    /// Proves, and tells the writer what is to be told; whether there was something.
    fn prove_and_tell(
        &mut self,
        id: &ChunkId,
        task: &Task,
    ) -> (Result<ProvenChunk, Unproven>, bool) {
        let (result, rot) = self.store.reader().prove(&OWNER, id, task, true);
        let told = rot.is_some();
        self.store.commit(rot.into_iter().collect());
        (result, told)
    }

    /// Where the record of the chunk lies.
    fn place(&self, id: &ChunkId) -> (File, std::ops::Range<u64>) {
        let locator = self.store.reader().index.get(id).unwrap().unwrap().locator;
        (File::Segment(locator.segment), locator.offset..locator.end())
    }
}

fn piece(proven: Result<ProvenChunk, Unproven>) -> (u32, Proof) {
    match proven {
        Ok(ProvenChunk { blocks, piece: Piece::Compact(proof) }) => (blocks.into(), proof),
        other => panic!("expected a compact proof, got {other:?}"),
    }
}

/// Whether the owner takes it for a proof of this chunk alone.
fn passes(id: &ChunkId, blocks: u32, proof: &Proof) -> bool {
    let keys = owner();
    let mut checker = Checker::new(&keys.tag_key, challenge());
    checker.add(id, blocks);
    checker.holds(proof)
}

#[test]
fn what_the_store_proves_passes_the_owners_check() {
    let chunks: Vec<StoredChunk> =
        (0..).zip([1, 3_000, 3_544, 3_545, 70_000]).map(|(n, bytes)| chunk(n, bytes)).collect();
    let fixture = Fixture::with(chunks.clone());
    let keys = owner();
    let (mut checker, mut sum) = (Checker::new(&keys.tag_key, challenge()), Proof::zero());
    let (key, with_mac) = mac();
    for chunk in &chunks {
        let (blocks, proof) = piece(fixture.prove(&chunk.id(), &compact()));
        assert!(passes(&chunk.id(), blocks, &proof));
        sum.add(&proof);
        checker.add(&chunk.id(), blocks);
        let proven = fixture.prove(&chunk.id(), &with_mac).unwrap();
        assert_eq!(u32::from(proven.blocks), blocks);
        let Piece::Mac(mac) = proven.piece else { panic!("{proven:?}") };
        assert!(key.holds(&[7; 32], &chunk.id(), &chunk.sealed, &mac));
    }
    assert!(checker.holds(&sum));
}

#[test]
fn a_chunk_of_another_account_is_not_proven() {
    let (one, other) = (chunk(1, 100), Account::from_bytes([5; 32]));
    let fixture = Fixture::with([one.clone()]);
    let mut reader = fixture.store.reader();
    let of_other = reader.prove(&other, &one.id(), &compact(), false);
    let of_none = reader.prove(&OWNER, &chunk(2, 100).id(), &compact(), false);
    // Nothing tells them apart.
    assert_eq!(format!("{of_other:?}"), format!("{of_none:?}"));
    assert!(matches!(of_other, (Err(Unproven::NotHeld), None)));
}

#[test]
fn a_chunk_that_was_let_go_is_not_proven_until_that_is_taken_back() {
    let one = chunk(1, 100);
    let mut fixture = Fixture::with([one.clone()]);
    let items = vec![(one.id(), one.lease)];
    for (undo, released) in [(false, true), (true, false)] {
        let ticket = Ticket(1);
        fixture.store.commit(vec![Request::Release { ticket, undo, items: items.clone() }]);
        let proven = fixture.prove_and_tell(&one.id(), &compact());
        if released {
            assert_eq!(proven, (Err(Unproven::Released), false));
        } else {
            assert!(proven.0.is_ok());
        }
    }
}

/// Threat of a holder that computes over what it has and not over what it should have: there is no
/// byte that it could do without.
#[test]
fn every_byte_of_a_chunk_is_covered() {
    let one = chunk(1, 3_600);
    let (id, fixture) = (one.id(), Fixture::with([one.clone()]));
    assert_eq!(one.tags.len(), 32, "two blocks");
    // On the disk: an honest holder finds it out, whatever it hits.
    let (file, range) = fixture.place(&id);
    for at in range.clone() {
        fixture.disk.flip_bit(file, at, (at % 8) as u8);
        for closely in [false, true] {
            let (result, rot) = fixture.store.reader().prove(&OWNER, &id, &compact(), closely);
            assert_eq!(result, Err(Unproven::Damaged), "byte {} of the record", at - range.start);
            assert!(rot.is_some());
        }
        fixture.disk.flip_bit(file, at, (at % 8) as u8);
    }
    // In what a dishonest one computes with: the owner does.
    let (blocks, proof) = piece(fixture.prove(&id, &compact()));
    assert!(passes(&id, blocks, &proof));
    for at in 0..one.sealed.len() {
        let mut sealed = one.sealed.to_vec();
        sealed[at] ^= 1 << (at % 8);
        let Piece::Compact(proof) = compact().piece(&id, &sealed, &one.tags).unwrap() else {
            panic!("a compact task gives compact proofs")
        };
        assert!(!passes(&id, blocks, &proof), "byte {at}");
    }
}

#[test]
fn bytes_that_never_were_what_the_id_says_are_admitted_where_they_would_convict() {
    let mut one = chunk(1, 100);
    let mut sealed = one.sealed.to_vec();
    sealed[50] ^= 1;
    one.sealed = sealed.into();
    let fixture = Fixture::with([one.clone()]);
    assert!(fixture.store.reader().read(&one.id()).result.is_ok(), "the boxes are in order");
    for task in [compact(), mac().1] {
        assert_eq!(fixture.prove(&one.id(), &task), Err(Unproven::Damaged));
    }
    // Among many the proof is wrong, and the owner asks more closely.
    let proven = fixture.store.reader().prove(&OWNER, &one.id(), &compact(), false).0;
    let (blocks, proof) = piece(proven);
    assert!(!passes(&one.id(), blocks, &proof));
}

#[test]
fn a_damaged_chunk_is_admitted_from_then_on_and_proven_when_it_is_stored_again() {
    let one = chunk(1, 100);
    let mut fixture = Fixture::with([one.clone()]);
    let (file, range) = fixture.place(&one.id());
    fixture.disk.flip_bit(file, range.start + 700, 1);
    assert_eq!(fixture.prove_and_tell(&one.id(), &compact()), (Err(Unproven::Damaged), true));
    // It says so without a look, also where the bytes happen to be read rightly once.
    fixture.disk.flip_bit(file, range.start + 700, 1);
    assert_eq!(fixture.prove_and_tell(&one.id(), &compact()), (Err(Unproven::Damaged), false));
    fixture.write(one.clone());
    let (blocks, proof) = piece(fixture.prove(&one.id(), &compact()));
    assert!(passes(&one.id(), blocks, &proof));
}

/// As of a store of before there were tags.
#[test]
fn a_chunk_without_tags_is_replaced_by_the_next_store_of_it() {
    for tags in [Bytes::new(), vec![0xff; tags_bytes(140)].into(), vec![0; 32].into()] {
        let one = chunk(1, 100);
        let mut fixture = Fixture::with([StoredChunk { tags, ..one.clone() }]);
        let (key, with_mac) = mac();
        let proven = fixture.prove_and_tell(&one.id(), &with_mac);
        let (Ok(ProvenChunk { piece: Piece::Mac(mac), .. }), false) = proven else {
            panic!("a MAC needs no tags: {proven:?}")
        };
        assert!(key.holds(&[7; 32], &one.id(), &one.sealed, &mac));
        let proven = fixture.prove_and_tell(&one.id(), &compact());
        assert_eq!(proven, (Err(Unproven::Damaged), true));
        fixture.write(one.clone());
        let (blocks, proof) = piece(fixture.prove(&one.id(), &compact()));
        assert!(passes(&one.id(), blocks, &proof));
    }
}

#[test]
fn a_holder_that_keeps_the_tags_and_not_the_bytes_fails() {
    let one = chunk(1, 70_000);
    let (id, count) = (one.id(), blocks(one.sealed.len()));
    let instead = [vec![0; one.sealed.len()], chunk(2, 70_000).sealed.to_vec()];
    for sealed in instead {
        let Piece::Compact(proof) = compact().piece(&id, &sealed, &one.tags).unwrap() else {
            panic!("a compact task gives compact proofs")
        };
        assert!((1..=count).all(|blocks| !passes(&id, blocks, &proof)));
    }
    // Nor does it get away with the first block.
    let first = compact().piece(&id, &one.sealed[..3_584], &one.tags[..16]).unwrap();
    let Piece::Compact(first) = first else { panic!("a compact task gives compact proofs") };
    assert!((1..=count).all(|blocks| !passes(&id, blocks, &first)));
    assert!((1..=count).all(|blocks| !passes(&id, blocks, &Proof::zero())));
}

#[test]
fn one_bad_read_is_not_yet_damage() {
    let one = chunk(1, 100);
    let fixture = Fixture::with([one.clone()]);
    let (file, range) = fixture.place(&one.id());
    fixture.disk.flip_bit(file, range.start + 700, 1);
    let mut looks = 0;
    let Looked { result, rot } =
        fixture.store.reader().look_again(&one.id(), Check::Hashes, |_| {
            looks += 1;
            if looks == 2 {
                fixture.disk.flip_bit(file, range.start + 700, 1);
            }
            true
        });
    assert!(result.is_ok_and(|found| found.tags == one.tags && found.sealed == one.sealed));
    assert!(rot.is_none() && looks == 2);
}

#[test]
fn a_disk_that_does_not_read_for_a_moment_is_no_damage() {
    let one = chunk(1, 5_000);
    let mut fixture = Fixture::with([one.clone()]);
    fixture.disk.fail_reads(1);
    let (unread, told) = fixture.prove_and_tell(&one.id(), &compact());
    assert!(matches!(unread, Err(Unproven::Unread)), "{unread:?}");
    assert!(!told, "nothing is quarantined for it");
    let (blocks, proof) = piece(fixture.prove(&one.id(), &compact()));
    assert!(passes(&one.id(), blocks, &proof));
}
