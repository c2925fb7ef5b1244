//! Bit-rot: every flip is found, and no damaged byte is ever served.

use super::store_conformance::{Backend, Memory, holds, open, put};
use super::store_fixtures::*;
use quloud::core::effect::{Found, StoreError, StoredChunk};
use quloud::core::types::Ticket;
use quloud::store::disk::{Disk, File};
use quloud::store::index::{Catalogue, Change};
use quloud::store::memory::{MemoryCatalogue, MemoryDisk};
use quloud::store::record::{Kind, PREFIX_BYTES, Prefix, relocate};
use quloud::store::scrub::Cursor;
use quloud::store::{OpenReport, Options, Request, StoreOpenError, Writer};
use rand::RngExt;
use std::sync::Arc;

const CHUNKS: u64 = 40;
const LENGTH: usize = 2500;

/// Where each record lies, read the way a stranger would.
pub(crate) fn records(disk: &MemoryDisk) -> Vec<Prefix> {
    let mut out = Vec::new();
    let mut segments = disk.segments().unwrap();
    segments.sort_unstable();
    for segment in segments {
        let (file, mut at) = (File::Segment(segment), 0);
        while at < disk.len(file).unwrap() {
            let mut block = vec![0; 4096];
            disk.read_at(file, at, &mut block).unwrap();
            let prefix = Prefix::parse(&block).unwrap();
            at += u64::try_from(prefix.record_bytes()).unwrap();
            out.push(prefix);
        }
    }
    out
}

/// Chunks 0 to 39, of which the first ten are deleted again; several closed segments.
fn filled() -> Memory {
    let backend = Memory::new();
    let (mut store, _) = open(&backend, options());
    put(&mut store, (0..CHUNKS).map(|n| chunk(n, LENGTH)));
    let delete = |n| Request::Delete { ticket: Ticket(n), id: id(n, LENGTH) };
    store.commit((0..10).map(delete).collect());
    // Says that everything before it was durable.
    let ticket = Ticket(CHUNKS);
    store.commit(vec![Request::Write { ticket, chunk: Box::new(chunk(CHUNKS, LENGTH)) }]);
    backend
}

fn rebuild(backend: &Memory) -> (Writer<MemoryDisk, MemoryCatalogue>, OpenReport) {
    backend.open().1.clear().unwrap();
    open(backend, options())
}

#[test]
fn ten_thousand_flips_are_found_and_none_is_served() {
    let backend = filled();
    let (disk, _) = backend.open();
    let (store, _) = open(&backend, options());
    let (records, mut rng) = (records(&disk), rng(7));
    let of_chunks = records.iter().filter(|record| record.kind == Kind::Chunk);
    let of_chunks: Vec<u64> = of_chunks.map(|record| record.place.sequence).collect();
    let chunks: Vec<StoredChunk> = (0..=CHUNKS).map(|n| chunk(n, LENGTH)).collect();
    let mut by_kind = [0_u32; 9];
    for _ in 0..10_000 {
        let record = &records[rng.random_range(0..records.len())];
        let place = record.place;
        let length = u64::try_from(record.record_bytes()).unwrap();
        let at = place.offset + rng.random_range(0..length);
        let (file, bit) = (File::Segment(place.segment), rng.random_range(0..8));
        assert!(disk.flip_bit(file, at, bit));
        let cursor = Cursor { segment: place.segment, offset: 0 };
        let scrubbed = store.reader().scrub(cursor, u64::MAX).unwrap();
        let scanned = !scrubbed.rotten.is_empty() || !scrubbed.damage.is_empty();
        match of_chunks.iter().position(|sequence| *sequence == place.sequence) {
            // Deleted: what happens to its bytes is nobody's concern.
            Some(0..10) => {}
            Some(n) => {
                let outcome = store.reader().read(&chunks[n].id());
                if let Ok(read) = outcome.result {
                    assert_eq!(read, (chunks[n].header, chunks[n].sealed.clone()));
                }
                assert!(outcome.rot.is_some() && scanned, "a flip at {at} of {n} is not found");
            }
            None => assert!(scanned, "a flip at {at} of {:?} is not found", record.kind),
        }
        by_kind[usize::from(match record.kind {
            Kind::Segment => 1,
            Kind::Chunk => 2_u8,
            Kind::Tombstone => 3,
            Kind::Footer => 4,
            Kind::Trailer => 5,
            Kind::Void | Kind::Unknown(_) => 0,
        })] += 1;
        disk.flip_bit(file, at, bit);
    }
    assert!(by_kind[1..=5].iter().all(|count| *count > 0), "{by_kind:?}");
}

/// One flip in each field of a record, then a rebuild from the log alone.
#[test]
fn a_flip_in_each_field_costs_at_most_its_own_record() {
    let fields = [0, 8, 9, 10, 12, 16, 20, 24, 32, 40, 48, 56, 60, 64, 300, 600, 3500, 4095];
    let backend = filled();
    let (disk, _) = backend.open();
    let records = records(&disk);
    // Of the last record nothing but the catalogue says that it was durable.
    for record in &records[..records.len() - 1] {
        for field in fields {
            let file = File::Segment(record.place.segment);
            let at = record.place.offset + field;
            disk.flip_bit(file, at, 3);
            let (store, report) = rebuild(&backend);
            let lost = (10..CHUNKS).filter(|n| !holds(&store, &chunk(*n, LENGTH))).count();
            let back = (0..10).filter(|n| holds(&store, &chunk(*n, LENGTH))).count();
            let kind = record.kind;
            assert!(lost <= usize::from(kind == Kind::Chunk), "{kind:?} {field}: {lost} lost");
            // With its tombstone a deleted chunk comes back: the log knows no better.
            assert!(back <= usize::from(kind == Kind::Tombstone), "{kind:?} {field}: {back} back");
            assert!(report.damage.len() <= 1 && report.cut_bytes == 0);
            drop(store);
            disk.flip_bit(file, at, 3);
        }
    }
}

#[test]
fn rot_is_quarantined_and_healed_by_a_new_write() {
    let backend = filled();
    let (disk, _) = backend.open();
    let (mut store, _) = open(&backend, options());
    let victim = chunk(20, LENGTH);
    let record = records(&disk).into_iter().filter(|record| record.kind == Kind::Chunk).nth(20);
    let place = record.unwrap().place;
    disk.flip_bit(File::Segment(place.segment), place.offset + 1000, 1);
    let outcome = store.reader().read(&victim.id());
    assert_eq!(outcome.result, Err(StoreError::Damaged));
    store.commit(vec![outcome.rot.unwrap()]);
    let found = store.reader().find(&[victim.id()]);
    assert_eq!(
        found,
        [Some(Found::Chunk { header: victim.header, sound: false, released: false })],
        "and is known as such"
    );
    drop(store);
    let (mut store, report) = open(&backend, options());
    assert_eq!((report.quarantined, report.rebuilt), (1, None));
    let again = StoredChunk { lease: lease(500), ..victim.clone() };
    let written = put(&mut store, [again]).pop().unwrap().unwrap();
    assert_eq!((written.lease, written.added_bytes), (victim.lease, 0), "the same lease, as much");
    assert!(holds(&store, &victim));
    drop(store);
    let (mut store, _) = rebuild(&backend);
    assert!(holds(&store, &victim), "the newer record counts");
    let delete = Request::Delete { ticket: Ticket(0), id: victim.id() };
    store.commit(vec![delete]);
    store.tidy();
    drop(store);
    let (store, _) = rebuild(&backend);
    let read = store.reader().read(&victim.id()).result;
    assert_eq!(read, Err(StoreError::NotFound), "neither record comes back");
}

#[test]
fn a_second_ack_is_given_for_bytes_that_were_read() {
    let backend = filled();
    let (disk, _) = backend.open();
    let (mut store, _) = open(&backend, options());
    let (sound, rotten) = (chunk(20, LENGTH), chunk(21, LENGTH));
    let record = records(&disk).into_iter().filter(|record| record.kind == Kind::Chunk).nth(21);
    let place = record.unwrap().place;
    disk.flip_bit(File::Segment(place.segment), place.offset + 1000, 1);
    let written = put(&mut store, [sound, rotten.clone()]);
    let added: Vec<u64> = written.iter().map(|one| one.unwrap().added_bytes).collect();
    assert_eq!(added, [0, 0], "the account has no more than before");
    assert!(holds(&store, &rotten));
}

#[test]
fn sealed_bytes_that_match_are_served_though_something_beside_them_rotted() {
    let backend = filled();
    let (disk, _) = backend.open();
    let (store, _) = open(&backend, options());
    let victim = chunk(20, LENGTH);
    let record = records(&disk).into_iter().filter(|record| record.kind == Kind::Chunk).nth(20);
    let place = record.unwrap().place;
    disk.flip_bit(File::Segment(place.segment), place.offset + 4095, 1);
    let outcome = store.reader().read(&victim.id());
    assert_eq!(outcome.result, Ok((victim.header, victim.sealed)));
    assert!(outcome.rot.is_some());
}

#[test]
fn rot_below_what_was_durable_is_not_cut() {
    let backend = Memory::new();
    let (disk, _) = backend.open();
    let big = Options { segment_bytes: 1 << 20, ..options() };
    let (mut store, _) = open(&backend, big);
    put(&mut store, (0..5).map(|n| chunk(n, LENGTH)));
    put(&mut store, (5..10).map(|n| chunk(n, LENGTH)));
    drop(store);
    let all = records(&disk);
    let second = all[2].place;
    disk.flip_bit(File::Segment(second.segment), second.offset, 1);
    let length = disk.len(File::Segment(second.segment)).unwrap();
    let (store, report) = rebuild_with(&backend, big);
    assert_eq!((report.cut_bytes, report.damage.len(), report.chunks), (0, 1, 9));
    assert_eq!(disk.len(File::Segment(second.segment)).unwrap(), length);
    assert!((2..10).all(|n| holds(&store, &chunk(n, LENGTH))));
}

fn rebuild_with(
    backend: &Memory,
    options: Options,
) -> (Writer<MemoryDisk, MemoryCatalogue>, OpenReport) {
    backend.open().1.clear().unwrap();
    open(backend, options)
}

#[test]
fn another_key_and_a_later_layout_are_refused() {
    let backend = filled();
    let (disk, catalogue) = backend.open();
    let key = Arc::new(quloud::crypto::keys::WrapKey::from_bytes([8; 32]));
    let opened = Writer::open(Arc::clone(&disk), Arc::clone(&catalogue), key, options(), rng(1));
    assert_eq!(opened.err(), Some(StoreOpenError::WrongKey));
    let newest = File::Segment(disk.segments().unwrap().into_iter().max().unwrap());
    let mut block = vec![0; 4096];
    disk.read_at(newest, 0, &mut block).unwrap();
    block[8] = 2;
    let box_1 = usize::try_from(u32::from_le_bytes(block[12..16].try_into().unwrap())).unwrap();
    let mut hash = crc32fast::Hasher::new();
    hash.update(&block[..PREFIX_BYTES - 4]);
    hash.update(&block[PREFIX_BYTES..PREFIX_BYTES + box_1]);
    block[PREFIX_BYTES - 4..PREFIX_BYTES].copy_from_slice(&hash.finalize().to_le_bytes());
    disk.write_at(newest, 0, &block).unwrap();
    let opened = Writer::open(disk, catalogue, wrap_key(), options(), rng(1));
    assert_eq!(opened.err(), Some(StoreOpenError::Layout { found: 2, known: 1 }));
}

#[test]
fn a_lost_log_is_a_new_store_with_another_epoch() {
    let backend = filled();
    let (disk, _) = backend.open();
    let (store, _) = open(&backend, options());
    let epoch = store.epoch();
    drop(store);
    for segment in disk.segments().unwrap() {
        disk.unlink(File::Segment(segment)).unwrap();
    }
    let (disk, catalogue) = backend.open();
    let (store, report) = Writer::open(disk, catalogue, wrap_key(), options(), rng(99)).unwrap();
    assert!(report.created);
    assert_eq!(report.rebuilt, Some(quloud::store::Rebuilt::AheadOfLog));
    assert_ne!(store.epoch(), epoch);
    assert_eq!((store.chunks(), store.space().used), (0, 0));
    assert_eq!(store.reader().find(&[id(20, LENGTH)]), [None]);
}

#[test]
fn a_catalogue_that_outlived_its_log_and_its_position_is_emptied() {
    let backend = filled();
    let (disk, catalogue) = backend.open();
    for segment in disk.segments().unwrap() {
        disk.unlink(File::Segment(segment)).unwrap();
    }
    catalogue.apply(&[Change { key: b"p".to_vec(), value: None }]).unwrap();
    let (mut store, report) =
        Writer::open(disk, catalogue, wrap_key(), options(), rng(99)).unwrap();
    assert!(report.created);
    assert_eq!(report.rebuilt, Some(quloud::store::Rebuilt::AheadOfLog));
    // An entry that was left would be found, and then counted when the scrub marks it.
    assert_eq!(store.reader().find(&[id(20, LENGTH)]), [None]);
    store.commit(vec![Request::Quarantine { id: id(20, LENGTH), sequence: 21 }]);
    assert_eq!((store.chunks(), store.usage().len()), (0, 0));
}

#[test]
fn a_catalogue_that_lost_an_entry_or_is_not_ours_is_rebuilt() {
    use quloud::store::Rebuilt;
    use quloud::store::index::Change;
    let backend = filled();
    let (_, catalogue) = backend.open();
    catalogue.apply(&[Change::chunk(&id(20, LENGTH), None)]).unwrap();
    let (store, report) = open(&backend, options());
    assert_eq!(report.rebuilt, Some(Rebuilt::Inconsistent));
    assert!(holds(&store, &chunk(20, LENGTH)));
    drop(store);
    // The index of one store beside the segments of another.
    let other = filled();
    let (disk, _) = other.open();
    let epoch_of = |seed| {
        let (store, _) = Writer::open(
            Arc::new(MemoryDisk::new(1 << 30)),
            Arc::clone(&catalogue),
            wrap_key(),
            options(),
            rng(seed),
        )
        .unwrap();
        store.epoch()
    };
    epoch_of(5);
    let (store, report) = Writer::open(disk, catalogue, wrap_key(), options(), rng(6)).unwrap();
    assert_eq!(report.rebuilt, Some(Rebuilt::OtherStore));
    assert!((10..CHUNKS).all(|n| holds(&store, &chunk(n, LENGTH))));
}

#[test]
fn a_chunk_that_does_not_match_its_id_is_found_by_the_scrub() {
    let backend = Memory::new();
    let (mut store, _) = open(&backend, options());
    // The role checks before it writes; should it ever fail to, or memory do, it is not for good.
    let wrong = StoredChunk { sealed: chunk(2, LENGTH).sealed, ..chunk(1, LENGTH) };
    put(&mut store, [wrong]).pop().unwrap().unwrap();
    let scrubbed = store.reader().scrub(Cursor::default(), u64::MAX).unwrap();
    let [Request::Quarantine { id: found, .. }] = scrubbed.rotten.as_slice() else {
        panic!("{:?}", scrubbed.rotten)
    };
    assert_eq!(*found, id(1, LENGTH));
}

#[test]
fn what_another_chunk_was_wrapped_as_is_not_served_whatever_the_checksums_say() {
    let backend = Memory::new();
    let (mut store, _) = open(&backend, options());
    put(&mut store, [chunk(1, LENGTH), chunk(2, LENGTH)]);
    let (disk, _) = backend.open();
    let chunks = records(&disk).into_iter().filter(|record| record.kind == Kind::Chunk);
    let [mut victim, other] = chunks.collect::<Vec<_>>().try_into().unwrap();
    let bytes_of = |record: &Prefix| {
        let mut bytes = vec![0; record.record_bytes()];
        disk.read_at(File::Segment(record.place.segment), record.place.offset, &mut bytes).unwrap();
        bytes
    };
    let (mut record, other_record) = (bytes_of(&victim), bytes_of(&other));
    // Box 3 with its nonce and tag, as this very node wrapped it for the other chunk.
    let body = PREFIX_BYTES + victim.boxes[0] as usize + victim.boxes[1] as usize;
    record[body..].copy_from_slice(&other_record[body..]);
    victim.body_crc = crc32fast::hash(&record[PREFIX_BYTES + victim.boxes[0] as usize..]);
    relocate(&mut record, &victim, victim.place);
    disk.write_at(File::Segment(victim.place.segment), victim.place.offset, &record).unwrap();
    let outcome = store.reader().read(&id(1, LENGTH));
    assert_eq!(outcome.result, Err(StoreError::Damaged));
    assert!(holds(&store, &chunk(2, LENGTH)));
}
