//! What is owed, what makes up for it, and what is drawn.

use super::draw::Run;
use super::*;
use crate::core::types::Locality;
use crate::crypto::keys::ChunkKey;

fn chunk(number: u8) -> ChunkRef {
    let (ck, id) = (ChunkKey::from_bytes([number; 32]), ChunkId::from_bytes([number; 32]));
    ChunkRef { ck, id, locality: Locality(7), bytes: 0 }
}

fn numbers(chunks: &[ChunkRef]) -> Vec<u8> {
    chunks.iter().map(|chunk| chunk.id.as_bytes()[0]).collect()
}

fn tried(owed: &[(u8, Came)], fresh: &[(u8, Came)]) -> Tried {
    let of = |came: &[(u8, Came)]| came.iter().map(|(at, came)| (chunk(*at), *came)).collect();
    let holder = NodeId::from_bytes([1; 32]);
    let (handed, ended) = (Vec::new(), Instant::now());
    Tried { holder, asked_s: 0, owed: of(owed), fresh: of(fresh), handed, ended }
}

/// What it refused, and what it owes besides.
fn sorted(owed: &[(u8, Came)], fresh: &[(u8, Came)]) -> (Vec<u8>, Vec<u8>) {
    let (refused, kept) = tried(owed, fresh).not_handed_over();
    (numbers(&refused), numbers(&kept))
}

#[test]
fn what_does_not_come_is_owed_whatever_the_reason() {
    use Came::{NotAsked, Nothing, Refused, Whole};
    assert_eq!(sorted(&[], &[(1, Whole), (2, Whole)]), (vec![], vec![]));
    assert_eq!(sorted(&[], &[(1, Refused), (2, Nothing), (3, NotAsked)]), (vec![1, 2], vec![]));
    assert_eq!(sorted(&[(4, NotAsked), (5, Refused)], &[(5, Refused)]), (vec![5], vec![4]));
    // A word is a word, but who is late with one of several has a slow line.
    assert_eq!(sorted(&[], &[(1, Whole), (2, Refused), (3, Nothing)]), (vec![2], vec![]));
    assert_eq!(sorted(&[(1, Nothing)], &[(2, Whole)]), (vec![], vec![1]), "it is owed still");
}

#[test]
fn only_all_that_is_owed_and_something_fresh_make_up_for_it() {
    use Came::{NotAsked, Nothing, Refused, Whole};
    assert!(tried(&[(1, Whole)], &[(2, Whole)]).has_all());
    assert!(!tried(&[(1, Whole)], &[(2, NotAsked)]).has_all(), "nothing fresh was tried");
    assert!(!tried(&[(1, Whole)], &[(2, Refused)]).has_all());
    assert!(!tried(&[], &[]).has_all());
    assert!(tried(&[], &[(1, Nothing)]).is_mute());
    assert!(!tried(&[], &[(1, Nothing), (2, Refused)]).is_mute());
}

#[test]
fn run_begins_anywhere_and_names_each_chunk_once() {
    let names = [1, 1, 1, 2, 3, 3, 4, 5];
    // Drawn at the second that counts, and never after.
    let mut run = Run::of(3);
    names.iter().for_each(|at| run.add(&chunk(*at), |seen| seen == 2));
    assert_eq!(numbers(&run.chunks), [2, 3, 4]);
    let begins = |first: u32| {
        let mut run = Run::of(1);
        [1, 2, 3].iter().for_each(|at| run.add(&chunk(*at), |seen| seen == first));
        numbers(&run.chunks)
    };
    assert_eq!([1, 2, 3].map(begins), [[1], [2], [3]]);
}

#[test]
fn only_who_hands_something_over_soon_after_vouches_for_the_line() {
    let [one, other] = [1, 2].map(|byte| NodeId::from_bytes([byte; 32]));
    let id = |number: u8| ChunkId::from_bytes([number; 32]);
    let ago = |seconds: u64| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
    let is_blamed = |ended: Instant, by: &NodeId, handed: &[(ChunkId, bool)]| {
        let (chunks, refused) = (vec![chunk(1)], vec![id(1)]);
        let owed = Owed {
            chunks,
            refused,
            asked_s: 0,
            is_mute: true,
            ended,
            is_vouched: false,
            is_counted: false,
            next: ended,
        };
        let mut memory = Memory { owed: BTreeMap::from([(one, owed)]) };
        assert!(memory.lacks_witness(&one) && !memory.lacks_witness(&other));
        memory.vouch(by, handed);
        !memory.lacks_witness(&one)
    };
    assert!(!is_blamed(ago(0), &other, &[]));
    assert!(!is_blamed(ago(0), &one, &[(id(2), true)]), "its own word is none");
    assert!(is_blamed(ago(0), &other, &[(id(3), false), (id(2), true)]));
    assert!(!is_blamed(ago(0), &other, &[(id(2), false)]), "a small one on a slow line");
    assert!(is_blamed(ago(0), &other, &[(id(1), false)]), "the same one");
    assert!(!is_blamed(ago(1 + WITNESSES_FOR.as_secs()), &other, &[(id(1), true)]));
}

#[test]
fn line_is_fast_enough_that_brings_the_largest_chunk_in_time() {
    let ms = Duration::from_millis;
    assert!(is_fast(PLAINTEXT_BYTES_MAX, ms(PATIENCE_S * 1_000)));
    assert!(!is_fast(PLAINTEXT_BYTES_MAX / 2, ms(PATIENCE_S * 1_000)));
    // 64 kbit/s.
    assert!(!is_fast(20 << 10, ms(2_500)));
    assert!(is_fast(20 << 10, ms(500)));
}
