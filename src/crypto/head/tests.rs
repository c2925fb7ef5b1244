//! Head records: good for one head, one number and one payload, and for nothing else.

use super::*;
use crate::crypto::tests::{owner, rng};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::collections::BTreeSet;

fn keys(index: u16) -> HeadKeys {
    HeadKeys::derive(&owner(1).head, 0, index)
}

fn record(number: u64) -> HeadRecord {
    keys(3).make(NonZeroU64::new(number).unwrap(), [7; 32], b"a payload", &mut rng()).unwrap()
}

const FIRST: NonZeroU64 = NonZeroU64::MIN;

#[test]
fn a_head_comes_back_as_it_was_made() {
    let made = record(5);
    let bytes = made.encode();
    assert_eq!(bytes.len(), 2_221);
    let found = HeadRecord::decode(bytes).unwrap();
    assert_eq!(found, made);
    let keys = keys(3);
    assert_eq!((found.id(), found.number(), found.previous()), (keys.id(), 5, [7; 32]));
    assert_eq!(found.read_point(), keys.read_secret().point());
    assert_eq!(found.sign_point(), keys.sign_secret().point());
    let payload = keys.open(&found).unwrap();
    assert_eq!(payload.len(), HEAD_PAYLOAD_BYTES);
    assert_eq!(&payload[..9], b"a payload");
    assert!(payload[9..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_head_opens_only_under_its_own_index_and_generation() {
    let record = record(1);
    assert!(keys(3).open(&record).is_ok());
    for other in [
        keys(2),
        HeadKeys::derive(&owner(1).head, 1, 3),
        HeadKeys::derive(&owner(2).head, 0, 3),
        // Index and generation are told apart though their bytes stand side by side.
        HeadKeys::derive(&owner(1).head, 3, 0),
    ] {
        assert_ne!(other.id(), record.id());
        assert_eq!(other.open(&record).unwrap_err(), HeadError::WrongHead);
    }
}

#[test]
fn a_changed_byte_of_a_head_is_refused() {
    let good = record(5).encode();
    for at in (0..HEAD_RECORD_BYTES).filter(|at| *at < 200 || at % 97 == 0 || *at >= 2_157) {
        let mut bytes = good.to_vec();
        bytes[at] ^= 1;
        let why = HeadRecord::decode(bytes.into()).unwrap_err();
        let expected = match at {
            0 => matches!(why, HeadError::Version(0)),
            5..69 => matches!(why, HeadError::Point | HeadError::Signature),
            _ => why == HeadError::Signature,
        };
        assert!(expected, "byte {at}: {why:?}");
    }
}

#[test]
fn what_is_no_record_is_refused_for_its_reason() {
    let good = record(5).encode();
    for length in [0, 1, HEAD_RECORD_BYTES - 1] {
        let error = HeadRecord::decode(good.slice(..length)).unwrap_err();
        assert_eq!(error, HeadError::Length(length));
    }
    let longer = [good.as_ref(), &[0]].concat();
    assert_eq!(HeadRecord::decode(longer.into()).unwrap_err(), HeadError::Length(2_222));
    let with = |range: std::ops::Range<usize>, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[range].fill(byte);
        HeadRecord::decode(bytes.into()).unwrap_err()
    };
    assert_eq!(with(0..1, 2), HeadError::Version(2));
    assert_eq!(with(69..77, 0), HeadError::Number);
    // The identity, and what is no canonical encoding.
    for range in [5..37, 37..69] {
        assert_eq!(with(range.clone(), 0), HeadError::Point);
        assert_eq!(with(range, 255), HeadError::Point);
    }
    // A signature of nothing, and a scalar above the group's order.
    assert_eq!(with(2_157..2_221, 0), HeadError::Signature);
    assert_eq!(with(2_189..2_221, 255), HeadError::Signature);
}

#[test]
fn a_record_under_another_head_is_refused() {
    // A thief signs a record of its own under the victim's points, and its points over the
    // victim's.
    let (victim, thief) = (record(5).encode(), HeadKeys::derive(&owner(9).head, 0, 3));
    let own = thief.make(FIRST, [7; 32], b"a payload", &mut rng()).unwrap().encode();
    for points in [5..37, 37..69, 5..69] {
        let mut bytes = own.to_vec();
        bytes[points.clone()].copy_from_slice(&victim[points.clone()]);
        assert_eq!(HeadRecord::decode(bytes.into()).unwrap_err(), HeadError::Signature);
        let mut bytes = victim.to_vec();
        bytes[points.clone()].copy_from_slice(&own[points]);
        assert_eq!(HeadRecord::decode(bytes.into()).unwrap_err(), HeadError::Signature);
    }
}

#[test]
fn two_head_signatures_never_share_r() {
    let commitment = |record: HeadRecord| {
        <[u8; 32]>::try_from(&record.encode()[STATEMENT_BYTES..STATEMENT_BYTES + 32]).unwrap()
    };
    let mut seen = BTreeSet::new();
    // A generator that repeats itself, as after the restore of a machine's image.
    for number in 1..20 {
        assert!(seen.insert(commitment(record(number))), "number {number}");
    }
    for payload in 0..20_u8 {
        let made = keys(3).make(FIRST, [0; 32], &[payload], &mut rng()).unwrap();
        assert!(seen.insert(commitment(made)), "payload {payload}");
    }
    for seed in 0..20 {
        let mut rng = ChaCha20Rng::from_seed([seed; 32]);
        let made = keys(3).make(FIRST, [7; 32], b"a payload", &mut rng).unwrap();
        assert!(seen.insert(commitment(made)), "seed {seed}");
    }
}

#[test]
fn records_have_one_length_and_equal_payloads_one_seal() {
    let make = |payload: &[u8]| keys(3).make(FIRST, [0; 32], payload, &mut rng());
    for length in [0, 1, 1_000, HEAD_PAYLOAD_BYTES] {
        assert_eq!(make(&vec![9; length]).unwrap().encode().len(), HEAD_RECORD_BYTES);
    }
    assert_eq!(make(&[9; 2_009]).unwrap_err(), PayloadTooLong(2_009));
    assert_eq!(make(b"x").unwrap(), make(b"x").unwrap());
    let sealed = |record: HeadRecord| record.fields().sealed.to_vec();
    assert_ne!(sealed(make(b"x").unwrap())[..24], sealed(make(b"y").unwrap())[..24]);
    // Another head never shares a keystream with this one.
    let other = keys(4).make(FIRST, [0; 32], b"x", &mut rng()).unwrap();
    assert_ne!(sealed(other), sealed(make(b"x").unwrap()));
}

#[test]
fn the_locality_is_the_beginning_of_the_id() {
    let keys = keys(3);
    let [high, low, ..] = *keys.id().as_bytes();
    assert_eq!(keys.locality(), Locality(u16::from(high) << 8 | u16::from(low)));
}
