//! What the records of an earlier run say, after a crash too.

use super::*;
use proptest::prelude::*;

fn record(kind: Kind, path: u8) -> Record {
    Record::new(kind, [path; 16])
}

/// What a run under boot 9 thinks of these records.
fn earlier(records: &[Record]) -> Earlier {
    let mut earlier = Earlier::default();
    earlier.read(records.iter().copied(), [9; 16]);
    earlier
}

fn until(records: u64) -> Record {
    let a = HEADER_BYTES as u64 + records * RECORD_BYTES as u64;
    Record { a, ..record(Kind::Synced, 0) }
}

#[test]
fn what_this_boot_recorded_is_there() {
    let records = [
        record(Kind::Run, 9),
        record(Kind::Placed, 1),
        record(Kind::Run, 9),
        record(Kind::Placed, 2),
    ];
    let earlier = earlier(&records);
    assert!(earlier.placed(&[1; 16]).is_some() && earlier.placed(&[2; 16]).is_some());
    assert!(!earlier.is_doubtful(&[1; 16]) && earlier.placed(&[3; 16]).is_none());
    assert!(!earlier.rebooted);
}

#[test]
fn of_several_records_of_a_file_the_last_counts() {
    let placed = |stamp| Record { a: stamp, ..record(Kind::Placed, 1) };
    let earlier = earlier(&[record(Kind::Run, 9), placed(9), placed(3), placed(7)]);
    assert_eq!(earlier.placed(&[1; 16]), Some(7));
}

#[test]
fn what_was_planned_before_a_crash_is_doubtful() {
    let planned = |path| record(Kind::Planned, path);
    let before = [record(Kind::Run, 8), planned(1), planned(2), record(Kind::Placed, 2)];
    let after = [record(Kind::Run, 9), planned(3)];
    let crashed = earlier(&[&before[..], &[until(4)], &after].concat());
    assert!(crashed.rebooted && crashed.is_doubtful(&[1; 16]));
    // One is known to be there, and the other one was planned since.
    assert!(!crashed.is_doubtful(&[2; 16]) && !crashed.is_doubtful(&[3; 16]));
}

#[test]
fn bytes_that_were_written_twice_are_counted_once() {
    let block = |a, b| Record { a, b, ..record(Kind::Block, 1) };
    let records = [record(Kind::Run, 9), block(0, 10), block(5, 10), block(100, 1)];
    assert_eq!(earlier(&records).written(&[1; 16]), 16);
    assert_eq!(earlier(&records).written(&[2; 16]), 0);
}

#[test]
fn after_a_crash_only_what_was_synced_is_sure() {
    let records =
        [record(Kind::Run, 8), record(Kind::Placed, 1), until(2), record(Kind::Placed, 2)];
    let crashed = earlier(&records);
    assert!(crashed.placed(&[1; 16]).is_some() && !crashed.is_doubtful(&[1; 16]));
    assert!(crashed.is_doubtful(&[2; 16]) && crashed.placed(&[2; 16]).is_none());
    // Another run of this boot changes nothing of that, and its own are there.
    let more = [record(Kind::Run, 9), record(Kind::Placed, 3), record(Kind::Run, 9)];
    let later = earlier(&[&records[..], &more].concat());
    assert!(later.is_doubtful(&[2; 16]) && later.placed(&[3; 16]).is_some());
}

#[test]
fn blocks_of_a_file_that_got_its_name_are_forgotten() {
    let block = Record { a: 5, b: 10, ..record(Kind::Block, 1) };
    let open = earlier(&[record(Kind::Run, 9), block]);
    assert_eq!(open.blocks[&[1; 16]], [(5..15, [0; 24])]);
    // But for those of the last, which may have been cut off just before.
    let mut records = vec![record(Kind::Run, 9), block, record(Kind::Placed, 1)];
    assert_eq!(earlier(&records).blocks, open.blocks);
    records.extend((2..=9).map(|path| record(Kind::Placed, path)));
    assert!(earlier(&records).blocks.is_empty());
}

proptest! {
    #[test]
    fn any_record_is_read_or_refused(
        mut bytes in any::<[u8; RECORD_BYTES]>(),
        bit in 0..456_usize,
    ) {
        prop_assert!(Record::decode(&bytes).is_none());
        let checksum = crc32fast::hash(&bytes[..RECORD_BYTES - 4]).to_le_bytes();
        bytes[RECORD_BYTES - 4..].copy_from_slice(&checksum);
        if let Some(record) = Record::decode(&bytes) {
            prop_assert_eq!(record.encode(), bytes);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Record::decode(&bytes).is_none());
        }
    }
}
