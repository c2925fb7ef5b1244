//! What is owed, what makes up for it, and what is drawn.

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
    Tried { holder, asked_s: 0, owed: of(owed), fresh: of(fresh) }
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
fn one_line_alone_blames_nobody() {
    let [one, other] = [1, 2].map(|byte| NodeId::from_bytes([byte; 32]));
    let mut memory = Memory::default();
    assert!(!memory.has_witness(&one));
    memory.served.insert(one, Instant::now());
    assert!(!memory.has_witness(&one), "its own word is none");
    memory.served.insert(other, Instant::now());
    assert!(memory.has_witness(&one));
}
