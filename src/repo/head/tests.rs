//! Payloads of heads, and which record counts among honest, late and hostile holders.

use super::*;
use crate::core::types::{ChunkId, Locality};
use crate::crypto::keys::ChunkKey;
use crate::repo::fixture::owner;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::num::NonZeroU64;

const INDEX: u16 = 3;

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 32])
}

fn reference(number: u8) -> ChunkRef {
    let (ck, id) = (ChunkKey::from_bytes([number; 32]), ChunkId::from_bytes([number; 32]));
    ChunkRef { ck, id, locality: Locality(7), bytes: 0 }
}

fn payload(number: u64) -> HeadPayload {
    HeadPayload {
        number,
        device: DeviceId::from_bytes([1; 16]),
        index: INDEX,
        lamport: 2,
        signed_at_s: -3,
        replicas: 3,
        retired: false,
        chain: 7,
        newest: [4; 32],
        checkpoint: Some((4, reference(5))),
        recent: vec![reference(6), reference(7)],
        devices: BTreeMap::from([(0, 9), (8, 10)]),
        holders: vec![node(1), node(2), node(3)],
    }
}

fn keys() -> HeadKeys {
    HeadKeys::derive(&owner(1).head, 0, INDEX)
}

fn record_of(payload: &HeadPayload, previous: [u8; 32]) -> HeadRecord {
    let number = NonZeroU64::new(payload.number).unwrap();
    let bytes = payload.encode().unwrap();
    keys().make(number, previous, &bytes, &mut ChaCha20Rng::from_seed([1; 32])).unwrap()
}

fn record(number: u64, previous: [u8; 32]) -> HeadRecord {
    record_of(&payload(number), previous)
}

fn current(verdict: Verdict) -> Agreement {
    match verdict {
        Verdict::Current(agreement) => *agreement,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_payload_comes_back_as_it_was() {
    let none = HeadPayload {
        checkpoint: None,
        recent: vec![],
        chain: 0,
        newest: [0; 32],
        devices: BTreeMap::new(),
        holders: vec![],
        retired: true,
        ..payload(1)
    };
    let largest = HeadPayload {
        chain: 21,
        recent: (0..16).map(reference).collect(),
        devices: (10..25).map(|index| (index, 1)).collect(),
        holders: (0..16).map(node).collect(),
        ..payload(u64::MAX)
    };
    assert_eq!(largest.encode().unwrap().len(), 1_880);
    for given in [none, payload(5), largest] {
        let mut bytes = given.encode().unwrap();
        bytes.resize(HEAD_PAYLOAD_BYTES, 0);
        let found = HeadPayload::decode(&bytes).unwrap();
        assert_eq!(format!("{found:?}"), format!("{given:?}"));
    }
}

#[test]
fn what_a_head_cannot_say_is_refused() {
    let refused = |change: fn(&mut HeadPayload)| {
        let mut changed = payload(5);
        change(&mut changed);
        changed.encode().unwrap_err()
    };
    assert_eq!(refused(|p| p.chain = 8), PayloadFault::Agree);
    assert_eq!(refused(|p| p.checkpoint = None), PayloadFault::Agree);
    assert_eq!(refused(|p| p.recent.clear()), PayloadFault::Agree);
    assert_eq!(refused(|p| p.devices.extend([(INDEX, 1)])), PayloadFault::Agree);
    assert_eq!(refused(|p| p.recent = (0..17).map(reference).collect()), PayloadFault::Count);
    assert_eq!(refused(|p| p.holders = vec![node(1); 17]), PayloadFault::Count);
    assert_eq!(refused(|p| p.devices = (10..26).map(|i| (i, 1)).collect()), PayloadFault::Count);
    let good = payload(5).encode().unwrap();
    let with = |at: usize, value: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = value;
        HeadPayload::decode(&bytes).map(|_| ())
    };
    assert_eq!(with(0, 2), Err(PayloadFault::Layout(2)));
    assert_eq!(with(44, 2), Err(PayloadFault::Flags(2)));
    for length in 0..good.len() {
        assert_eq!(HeadPayload::decode(&good[..length]).unwrap_err(), PayloadFault::Length);
    }
    let more = [good.as_slice(), &[0, 1]].concat();
    assert_eq!(HeadPayload::decode(&more).unwrap_err(), PayloadFault::Length);
}

#[test]
fn cold_restore_takes_highest_of_n() {
    let old = record(5, [0; 32]);
    let new = record(6, old.hash());
    let came = [(node(1), old.clone()), (node(2), old), (node(3), new.clone())];
    let found = current(judge(&keys(), INDEX, &came, None));
    assert_eq!(found.record, new);
    assert_eq!(
        (found.agree.as_slice(), found.older.as_slice()),
        ([node(3)].as_slice(), [node(1), node(2)].as_slice())
    );
    assert!(found.silent.is_empty() && !found.is_doubtful());
}

#[test]
fn fewer_than_half_of_the_named_holders_is_doubtful() {
    let head = record(5, [0; 32]);
    let one = current(judge(&keys(), INDEX, &[(node(1), head.clone())], None));
    assert_eq!(one.silent, [node(2), node(3)]);
    assert!(one.is_doubtful());
    let came = [(node(1), head.clone()), (node(3), head)];
    assert!(!current(judge(&keys(), INDEX, &came, None)).is_doubtful());
}

#[test]
fn old_head_refused_warm() {
    let (old, new) = (record(5, [0; 32]), record(6, [1; 32]));
    let seen = Some((6, new.hash()));
    let verdict = judge(&keys(), INDEX, &[(node(1), old.clone()), (node(2), old)], seen);
    assert!(matches!(verdict, Verdict::Behind { highest: 5 }), "{verdict:?}");
    assert!(matches!(judge(&keys(), INDEX, &[], seen), Verdict::None));
}

#[test]
fn fork_detected() {
    let one = record(6, [1; 32]);
    let other = record_of(&HeadPayload { lamport: 99, ..payload(6) }, [1; 32]);
    let came = [(node(1), one.clone()), (node(2), other.clone()), (node(3), one.clone())];
    let Verdict::Fork { number: 6, records } = judge(&keys(), INDEX, &came, None) else {
        panic!("two records have one number")
    };
    assert_eq!(records[&one.hash()], [node(1), node(3)]);
    assert_eq!(records[&other.hash()], [node(2)]);
    // The same number as was seen in other bytes, and a next one that follows something else.
    for seen in [(6, [9; 32]), (5, [9; 32])] {
        let verdict = judge(&keys(), INDEX, &[(node(1), one.clone())], Some(seen));
        assert!(matches!(verdict, Verdict::Fork { number: 6, .. }), "{verdict:?}");
    }
    // Two devices that went on from one image fork at once, whatever came later.
    let later = record(7, other.hash());
    let found = judge(&keys(), INDEX, &[(node(1), later)], Some((6, one.hash())));
    assert!(matches!(found, Verdict::Fork { number: 7, .. }), "{found:?}");
}

#[test]
fn a_fork_below_the_highest_number_is_detected() {
    let (one, other) = (record(6, [1; 32]), record(6, [2; 32]));
    let later = record(7, one.hash());
    let came = [(node(1), later.clone()), (node(2), other.clone()), (node(3), one.clone())];
    let verdict = judge(&keys(), INDEX, &came, None);
    assert!(matches!(verdict, Verdict::Fork { number: 6, .. }), "{verdict:?}");
    // Each number has one record, and the later one does not follow the other.
    let verdict = judge(&keys(), INDEX, &came[..2], None);
    assert!(matches!(verdict, Verdict::Fork { number: 7, .. }), "{verdict:?}");
    // What was before that which was seen was judged then.
    let seen = Some((7, later.hash()));
    assert_eq!(current(judge(&keys(), INDEX, &came, seen)).record, later);
}

#[test]
fn a_record_is_linked_to_what_was_seen_by_those_between() {
    let six = record(6, [1; 32]);
    let seven = record(7, six.hash());
    let eight = record(8, seven.hash());
    let linked = |came: &[&HeadRecord], seen| {
        let came: Vec<_> = came.iter().map(|record| (node(1), (*record).clone())).collect();
        current(judge(&keys(), INDEX, &came, seen)).linked
    };
    let seen = Some((6, six.hash()));
    assert_eq!(linked(&[&eight], seen), Linked::Unknown);
    assert_eq!(linked(&[&eight, &seven], seen), Linked::ToSeen);
    assert_eq!(linked(&[&seven, &six], seen), Linked::ToSeen);
    assert_eq!((linked(&[&six], seen), linked(&[&eight], None)), (Linked::ToSeen, Linked::ToSeen));
    // Who did not know the one before names none: that proves nothing, unless it was seen.
    let unknown = record(8, [0; 32]);
    assert_eq!(linked(&[&unknown, &seven], seen), Linked::Unknown);
    assert_eq!(linked(&[&unknown, &seven], None), Linked::ToSeen);
    let came = [(node(1), unknown)];
    let verdict = judge(&keys(), INDEX, &came, Some((7, seven.hash())));
    assert!(matches!(verdict, Verdict::Fork { number: 8, .. }), "{verdict:?}");
    // Two steps behind what was seen, and on another way.
    let came = [(node(1), eight), (node(2), seven)];
    let verdict = judge(&keys(), INDEX, &came, Some((6, [9; 32])));
    assert!(matches!(verdict, Verdict::Fork { number: 7, .. }), "{verdict:?}");
}

#[test]
fn a_stranger_is_ignored_and_what_cannot_be_read_is_said() {
    let good = record(5, [0; 32]);
    let stranger = HeadKeys::derive(&owner(2).head, 0, INDEX);
    let first = NonZeroU64::MIN;
    let mut rng = ChaCha20Rng::from_seed([2; 32]);
    let make = |keys: &HeadKeys, number: u64, bytes: &[u8], rng: &mut ChaCha20Rng| {
        keys.make(first.saturating_add(number - 1), [0; 32], bytes, rng).unwrap()
    };
    let bytes = payload(9).encode().unwrap();
    let elsewhere = HeadPayload { index: 4, ..payload(9) }.encode().unwrap();
    let came = [(node(1), good.clone()), (node(2), make(&stranger, 9, &bytes, &mut rng))];
    let found = current(judge(&keys(), INDEX, &came, None));
    assert_eq!((found.record, found.agree), (good.clone(), vec![node(1)]));
    for (number, said) in [(8, bytes.as_slice()), (9, elsewhere.as_slice()), (9, b"nothing")] {
        let odd = make(&keys(), number, said, &mut rng);
        let came = [(node(1), good.clone()), (node(2), odd.clone())];
        let verdict = judge(&keys(), INDEX, &came, None);
        let same = matches!(verdict, Verdict::Unreadable { number: at } if at == number);
        assert!(same, "{verdict:?}");
        // One that came after it counts.
        let later = record(number + 1, odd.hash());
        let came = [(node(1), later.clone()), (node(2), odd)];
        assert_eq!(current(judge(&keys(), INDEX, &came, None)).record, later);
    }
}

#[test]
fn a_jump_of_more_than_65536_is_refused() {
    let near = record(5 + NUMBER_AHEAD_MAX, [0; 32]);
    let far = record(6 + NUMBER_AHEAD_MAX, near.hash());
    let seen = Some((5, [9; 32]));
    let came = [(node(1), near.clone()), (node(2), far.clone())];
    assert_eq!(current(judge(&keys(), INDEX, &came, seen)).record, near);
    assert!(matches!(judge(&keys(), INDEX, &came[1..], seen), Verdict::None));
    // Who has seen nothing takes what there is.
    assert_eq!(current(judge(&keys(), INDEX, &came, None)).record, far);
}

#[test]
fn a_holder_that_sends_older_numbers_too_agrees() {
    let old = record(5, [0; 32]);
    let new = record(6, old.hash());
    let came = [(node(1), new.clone()), (node(1), old.clone()), (node(2), old), (node(2), new)];
    let found = current(judge(&keys(), INDEX, &came, None));
    assert_eq!(found.agree, [node(1), node(2)]);
    assert!(found.older.is_empty());
}

proptest! {
    #[test]
    fn any_bytes_decode_or_fail_cleanly(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        at in any::<usize>(),
        byte in any::<u8>(),
    ) {
        let _ = HeadPayload::decode(&[[1].as_slice(), &bytes].concat());
        let mut changed = payload(5).encode().unwrap().to_vec();
        let at = at % changed.len();
        changed[at] = byte;
        if let Ok(found) = HeadPayload::decode(&changed) {
            let again = found.encode().unwrap();
            prop_assert_eq!(again.as_slice(), changed.as_slice());
        }
    }
}
