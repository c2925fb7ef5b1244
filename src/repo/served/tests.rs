//! What is owed, what makes up for it, what is drawn, and what looks come to.

use super::tried::{Tried, is_fast};
use super::*;
use crate::core::types::Locality;
use crate::crypto::keys::ChunkKey;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::collections::BTreeSet;

fn chunk(number: u8) -> ChunkRef {
    let (ck, id) = (ChunkKey::from_bytes([number; 32]), ChunkId::from_bytes([number; 32]));
    ChunkRef { ck, id, locality: Locality(7), bytes: 0 }
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 32])
}

fn numbers(chunks: &[ChunkRef]) -> Vec<u8> {
    chunks.iter().map(|chunk| chunk.id.as_bytes()[0]).collect()
}

fn tried(owed: &[(u8, Came)], fresh: &[(u8, Came)]) -> Tried {
    let of = |came: &[(u8, Came)]| came.iter().map(|(at, came)| (chunk(*at), *came)).collect();
    Tried { owed: of(owed), fresh: of(fresh), ..Tried::begun(node(1), 0) }
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
    assert_eq!(numbers(&run.into_chunks()), [2, 3, 4]);
    let begins = |first: u32| {
        let mut run = Run::of(1);
        [1, 2, 3].iter().for_each(|at| run.add(&chunk(*at), |seen| seen == first));
        numbers(&run.into_chunks())
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
        has_hung_up: false,
        is_counted: false,
        next: Time(0),
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

/// An owner, and holders 1 to 3 of chunks 11 to 13: each has all of them, and proves it.
struct Mesh {
    records: BTreeMap<NodeId, AuditRecord>,
    proven_s: BTreeMap<(NodeId, ChunkId), u64>,
    /// What holders say of a request, where they do not hand the chunk over.
    says: BTreeMap<u8, Came>,
    /// Who says nothing hangs up, and is gone for the rest of the look.
    hangs_up: bool,
    away: BTreeSet<NodeId>,
    /// Whom the owner asked, in order.
    asked: Vec<u8>,
    is_busy: bool,
    /// Nothing can be written down.
    is_full: bool,
    now_s: u64,
    served: Served,
}

const PACE: Pace = Pace { one_in: 1, ..Pace::USUAL };

impl Known for Mesh {
    fn holders(&self) -> Vec<NodeId> {
        (1..=3).map(node).collect()
    }

    fn is_connected(&self, holder: &NodeId) -> bool {
        !self.away.contains(holder)
    }

    fn record(&self, holder: &NodeId) -> AuditRecord {
        self.records.get(holder).cloned().unwrap_or_default()
    }

    fn held(&self, _: &NodeId) -> u64 {
        3
    }

    fn replica(&self, _: &NodeId, _: &ChunkId) -> Option<StoreEpoch> {
        Some(StoreEpoch::from_bytes([1; 16]))
    }

    fn proven_s(&self, holder: &NodeId, chunk: &ChunkId) -> Option<u64> {
        self.proven_s.get(&(*holder, *chunk)).copied()
    }

    fn withholding(&self) -> Vec<NodeId> {
        self.holders().into_iter().filter(|holder| withholds(self, holder)).collect()
    }

    fn is_complete(&self) -> bool {
        true
    }

    fn may_try(&self) -> bool {
        !self.is_busy
    }
}

impl Mesh {
    fn new(says: &[(u8, Came)]) -> Self {
        Self {
            records: BTreeMap::new(),
            proven_s: BTreeMap::new(),
            says: says.iter().copied().collect(),
            hangs_up: false,
            away: BTreeSet::new(),
            asked: Vec::new(),
            is_busy: false,
            is_full: false,
            now_s: 1_000_000,
            served: Served::default(),
        }
    }

    /// Does what is next, so many seconds after the step before.
    fn step(&mut self, rng: &mut ChaCha20Rng) -> Option<Step> {
        self.now_s += 1;
        let mut served = std::mem::take(&mut self.served);
        let step = served.next(&self.moment(), rng);
        self.served = served;
        step
    }

    fn moment(&self) -> Moment<'_, Self> {
        Moment { known: self, pace: &PACE, now: Time(self.now_s * 1_000), now_s: self.now_s }
    }

    /// One look, `hours` after the one before; `given_anew` tells whether what is to be proven is
    /// lost and stored again before.
    fn look(&mut self, hours: u64, given_anew: bool) {
        self.now_s += hours * 3_600;
        self.away.clear();
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut served = std::mem::take(&mut self.served);
        served.begin(&self.moment(), &mut rng);
        self.served = served;
        while let Some(step) = self.step(&mut rng) {
            match step {
                Step::Draw { most, .. } => {
                    let run = |number: usize| vec![chunk(10 + u8::try_from(number).unwrap())];
                    let runs = most.into_keys().zip((1..).map(run)).collect();
                    self.served.drawn(runs, false);
                }
                Step::Fetch { holder, .. } => {
                    let number = holder.as_bytes()[0];
                    self.asked.push(number);
                    let came = self.says.get(&number).copied().unwrap_or(Came::Whole);
                    if came == Came::Nothing && self.hangs_up {
                        self.away.insert(holder);
                    }
                    self.served.came(came, PLAINTEXT_BYTES_MAX, Time(self.now_s * 1_000));
                }
                Step::Prove { holder, chunks } => {
                    for chunk in chunks {
                        if given_anew {
                            self.served.on_replaced(&holder, &chunk);
                        }
                        self.proven_s.insert((holder, chunk), self.now_s);
                    }
                }
                Step::Write(_) if self.is_full => self.served.break_off(),
                Step::Write(Note::Withheld { node, at_s }) => {
                    self.records.entry(node).or_default().on_withheld(at_s);
                }
                Step::Write(Note::Served(node) | Note::LetOff(node)) => {
                    self.records.entry(node).or_default().on_served();
                }
            }
        }
        assert!(!self.served.is_looking());
    }

    fn misses(&self) -> [u32; 3] {
        [1, 2, 3].map(|number| self.record(&node(number)).withheld.map_or(0, |of| of.misses))
    }
}

#[test]
fn who_refuses_what_it_proves_is_late_then_lost_and_well_again_when_it_hands_all_over() {
    let mut mesh = Mesh::new(&[(2, Came::Refused)]);
    (0..15).for_each(|_| mesh.look(24, false));
    assert_eq!(mesh.misses(), [0, 15, 0]);
    assert_eq!(standing(&mesh.record(&node(2)), mesh.now_s), Standing::Lost);
    assert_eq!(mesh.served.owed_by(&node(2)), 1);
    mesh.says.clear();
    mesh.look(24, false);
    assert_eq!((mesh.misses(), mesh.served.owed_by(&node(2))), ([0; 3], 0));
}

#[test]
fn who_says_nothing_is_asked_once_more_when_a_witness_handed_something_over() {
    let mut mesh = Mesh::new(&[(2, Came::Nothing)]);
    mesh.look(1, false);
    let [before @ .., witness, again, last] = mesh.asked.as_slice() else { panic!() };
    assert_eq!((before, *again, *last), (&[1, 2][..], 2, 3), "{:?}", mesh.asked);
    assert!([1, 3].contains(witness));
    assert_eq!(mesh.misses(), [0, 1, 0]);
    // Before it is due again it is asked for nothing.
    mesh.asked.clear();
    mesh.look(1, false);
    assert_eq!(mesh.asked, [1, 3]);
}

#[test]
fn who_hangs_up_withholds_only_if_it_does_so_again_when_it_is_its_turn() {
    let mut mesh = Mesh::new(&[(2, Came::Nothing)]);
    mesh.hangs_up = true;
    mesh.look(1, false);
    assert_eq!((mesh.misses(), mesh.served.owed_by(&node(2))), ([0; 3], 1));
    // It is there again, and hands all over.
    mesh.says.clear();
    mesh.look(5, false);
    assert_eq!((mesh.misses(), mesh.served.owed_by(&node(2))), ([0; 3], 0));
    mesh.says.insert(2, Came::Nothing);
    mesh.look(5, false);
    assert_eq!(mesh.misses(), [0; 3], "that is the first time again");
    (1..=3).for_each(|count| {
        mesh.look(5, false);
        assert_eq!(mesh.misses(), [0, count, 0]);
    });
}

#[test]
fn where_nobody_says_anything_the_line_is_to_blame() {
    let mut mesh = Mesh::new(&[1, 2, 3].map(|number| (number, Came::Nothing)));
    (0..15).for_each(|_| mesh.look(24, false));
    assert_eq!(mesh.misses(), [0; 3]);
}

#[test]
fn what_was_given_anew_before_it_was_proven_is_no_miss() {
    let mut mesh = Mesh::new(&[(2, Came::Refused)]);
    mesh.look(1, true);
    assert_eq!((mesh.misses(), mesh.served.owed_by(&node(2))), ([0; 3], 0));
}

#[test]
fn misses_that_could_not_be_written_down_are_with_the_next_look() {
    let mut mesh = Mesh::new(&[(2, Came::Refused), (3, Came::Refused)]);
    mesh.is_full = true;
    mesh.look(1, false);
    assert_eq!(mesh.misses(), [0; 3]);
    mesh.is_full = false;
    mesh.look(1, false);
    assert_eq!(mesh.misses(), [0, 1, 1]);
    mesh.look(1, false);
    assert_eq!(mesh.misses(), [0, 1, 1], "and once");
}

#[test]
fn while_a_user_waits_nobody_is_asked_and_nobody_blamed() {
    let mut mesh = Mesh::new(&[(2, Came::Refused)]);
    mesh.is_busy = true;
    mesh.look(1, false);
    assert_eq!((mesh.asked.as_slice(), mesh.misses()), (&[][..], [0; 3]));
}
