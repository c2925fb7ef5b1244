//! Threat 7: a holder that kept something of a chunk while it had it, and lacks the bytes now.

use super::*;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

const OLD_SEED: [u8; 32] = [6; 32];

/// Blocks of the chunk whose sums are kept.
const BLOCKS: usize = 8;

#[test]
fn saved_hash_state_cannot_answer() {
    no_saved_state_gives_the_mac_of_a_fresh_seed();
    no_saved_sums_give_the_proof_of_a_fresh_seed();
}

fn no_saved_state_gives_the_mac_of_a_fresh_seed() {
    let (header, sealed) = chunk(9, 10_000);
    let (id, pair) = (header.id(), PairKey::from_bytes([5; 32]));
    let key = MacKey::derive(&pair);
    let bytes: [u8; 32] = expand(pair.expose(), &[b"quloud/v1/audit-mac"]);
    let state = |parts: &[&[u8]]| {
        let mut state = Hmac::<Sha256>::new_from_slice(&bytes).unwrap();
        parts.iter().for_each(|part| state.update(part));
        state
    };
    let holds =
        |state: Hmac<Sha256>| key.holds(&SEED, &id, &sealed, &state.finalize().into_bytes().into());
    let (name, digest) = (id.as_bytes(), Sha256::digest(&sealed));
    let saved: [&[&[u8]]; 7] = [
        &[],
        &[&sealed],
        &[name, &sealed],
        &[&sealed, name],
        &[&OLD_SEED, name, &sealed],
        &[name, &digest],
        &[&digest],
    ];
    let then: [&[&[u8]]; 8] = [
        &[],
        &[&SEED],
        &[&SEED, name],
        &[name, &SEED],
        &[&SEED, name, &digest],
        &[&SEED, &digest],
        &[&SEED, &OLD_SEED],
        &[&SEED, name, &key.mac(&OLD_SEED, &id, &sealed)],
    ];
    for kept in saved {
        for added in then {
            assert!(!holds(state(&[kept, added].concat())), "{} {}", kept.len(), added.len());
        }
    }
    assert!(!key.holds(&SEED, &id, &sealed, &key.mac(&OLD_SEED, &id, &sealed)));
    assert!(holds(state(&[&SEED, name, &sealed])), "who has the bytes answers");
}

/// A sum over the blocks of a chunk: how often each is in it, and what it comes to.
#[derive(Clone)]
struct Sum(Vec<u64>, Proof);

impl Sum {
    fn zero() -> Self {
        Self(vec![0; BLOCKS], Proof::zero())
    }

    /// So many times another one more.
    fn plus(&mut self, times: u64, other: &Self) {
        let ours = self.0.iter_mut().chain(self.1.mu.iter_mut()).chain(&mut self.1.sigma);
        let theirs = other.0.iter().chain(other.1.mu.iter()).chain(&other.1.sigma);
        ours.zip(theirs).for_each(|(ours, theirs)| *ours = add(*ours, mul(times, *theirs)));
    }
}

/// `1 / x`, as x^(p - 2).
fn inverse(x: u64) -> u64 {
    let (mut power, mut result) = (x, 1);
    for bit in 0..61 {
        if (P - 2) >> bit & 1 == 1 {
            result = mul(result, power);
        }
        power = mul(power, power);
    }
    result
}

/// The sum of those that are kept that comes as near as can be to what is asked for: all weights of
/// it are right, where they can be.
fn nearest(kept: &[Sum], wanted: &[u64]) -> Proof {
    let (mut kept, mut sum) = (kept.to_vec(), Sum::zero());
    for (block, wanted) in wanted.iter().enumerate() {
        let Some(at) = kept.iter().position(|one| one.0[block] != 0) else { continue };
        let one = kept.swap_remove(at);
        let share = inverse(one.0[block]);
        for other in &mut kept {
            let times = mul(other.0[block], share);
            other.plus(P - times, &one);
        }
        // Those before stay as they are: what is left of them in this one is nothing.
        let lacks = add(*wanted, P - sum.0[block]);
        sum.plus(mul(lacks, share), &one);
    }
    sum.1
}

/// What is asked of each block under a challenge, and a chunk that has so many.
fn no_saved_sums_give_the_proof_of_a_fresh_seed() {
    let (key, (header, sealed)) = (key(), chunk(9, BLOCKS * BLOCK_BYTES));
    let (id, tags) = (header.id(), key.tags(&header, &sealed).unwrap());
    let weights = |challenge: Challenge| {
        let mut weights = challenge.weights(&id);
        (0..BLOCKS).map(|_| weights.take()).collect::<Vec<u64>>()
    };
    let answered = |seed: u8| {
        let challenge = Challenge::new(&[seed; 32], &holder(1));
        Sum(weights(challenge), prove_one(challenge, &id, &sealed, &tags).unwrap())
    };
    let fresh = Challenge::new(&SEED, &holder(1));
    let passes = |kept: &[Sum]| {
        let proof = nearest(kept, &weights(fresh));
        checker(&key, fresh, &[(header, sealed.clone())]).holds(&proof)
    };
    let old: Vec<Sum> = (100..).map(answered).take(BLOCKS).collect();
    // As many sums as there are blocks are the chunk itself, and longer.
    assert!(passes(&old) && BLOCKS * PROOF_BYTES > sealed.len() + tags.len());
    assert!((0..BLOCKS).all(|kept| !passes(&old[..kept])));
    let first = |blocks: usize| {
        let alone = |block: usize| {
            let mut one = Sum::zero();
            one.0[block] = 1;
            one
        };
        // What the answers give for one block alone, and so for the first of them.
        let mut sum = Sum::zero();
        (0..blocks).for_each(|block| {
            let mut single = alone(block);
            single.1 = nearest(&old, &single.0);
            sum.plus(1, &single);
        });
        sum
    };
    let prefixes: Vec<Sum> = (1..=BLOCKS).map(first).collect();
    assert!(passes(&prefixes), "the same, as sums of all blocks up to each");
    let some: Vec<Sum> = prefixes.iter().skip(1).step_by(2).cloned().collect();
    assert!(!passes(&some) && !passes(&prefixes[BLOCKS - 1..]), "of every other one, or of all");
}
