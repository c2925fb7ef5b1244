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
    let handed = Vec::new();
    Tried { holder, asked_s: 0, owed: of(owed), fresh: of(fresh), handed }
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
    assert!(!tried(&[(1, Whole)], &[]).has_all(), "nothing fresh was drawn");
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
fn who_says_nothing_is_blamed_where_another_one_is_fast_or_hands_over_the_same() {
    let id = |number: u8| ChunkId::from_bytes([number; 32]);
    let mut owed = Owed {
        chunks: vec![chunk(1), chunk(2)],
        refused: vec![id(1)],
        asked_s: 0,
        is_mute: true,
        is_vouched: false,
        is_counted: false,
        next: Instant::now(),
    };
    assert!(owed.lacks_witness());
    assert!(!owed.is_line_good(&[]));
    assert!(!owed.is_line_good(&[(id(2), false), (id(3), false)]), "small ones on a slow line");
    assert!(owed.is_line_good(&[(id(3), false), (id(4), true)]));
    assert!(owed.is_line_good(&[(id(1), false)]), "the same one, in time");
    owed.is_mute = false;
    assert!(!owed.lacks_witness(), "it gave its word");
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
