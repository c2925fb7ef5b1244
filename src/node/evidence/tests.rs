//! Of words that looks come to, and of those that are told, on a real catalogue: through losses,
//! silence, restarts and clocks that jump.

use super::*;
use crate::core::types::{LeaseNonce, Locality, StoreEpoch};
use crate::crypto::capability::Capability;
use crate::crypto::keys::{ChunkKey, Master, OwnerKeys};
use crate::node::report::{ReplicasReport, ReplicasWord};
use crate::repo::catalog::{ChunkAcked, Entry, JobId, Loss, PutRoot, ReplicaLost};
use crate::repo::evidence::Word;
use ReplicasWord::{AtRisk, Lost, Queued, Replicating, Safe, Stored};

const NOW_S: u64 = 1_800_000_000;
const YEAR_S: u64 = 365 * DAY_S;
const SNAPSHOT: SnapshotId = SnapshotId::from_bytes([1; 32]);
const CHUNK: ChunkId = ChunkId::from_bytes([7; 32]);
const EPOCH: StoreEpoch = StoreEpoch::from_bytes([3; 16]);

fn holder(number: u8) -> NodeId {
    NodeId::from_bytes([number; 32])
}

fn made(replicas: u8) -> BackupMade {
    BackupMade {
        set: vec![1],
        snapshot: SNAPSHOT,
        at: 5,
        replicas,
        target: 3,
        faults: 0,
        paths: "/data".to_owned(),
        first_fault: String::new(),
    }
}

fn subject() -> Subject {
    Subject { snapshot: SNAPSHOT, target: 3, was_whole: true, is_own: true, covers: 0 }
}

/// Of one chunk.
fn counts([acked, counted, audited]: [u8; 3]) -> Counts {
    let (until_s, lost) = (NOW_S + DAY_S, u64::from(acked == 0));
    Counts { acked, counted, audited, until_s, chunks: 2, held: 2, lost, ..Counts::new(3) }
}

fn seen(of: [u8; 3], before: Option<&SnapshotEvidence>, at_s: u64) -> SnapshotEvidence {
    subject().found(before, &counts(of), at_s)
}

/// A catalogue with a backup, one chunk of which three holders acknowledged.
struct Setup {
    folder: tempfile::TempDir,
    catalog: Catalog,
}

impl Setup {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut setup = Self { catalog: Self::open(&folder), folder };
        for node in (1..=3).map(holder) {
            let lease = LeaseNonce::from_bytes([1; 16]);
            let acked = ChunkAcked { chunk: CHUNK, node, lease, epoch: EPOCH };
            setup.record(Entry::ChunkAcked(acked));
        }
        setup.record(Entry::BackupMade(made(3)));
        setup
    }

    fn open(folder: &tempfile::TempDir) -> Catalog {
        let owner = OwnerKeys::derive(&Master::from_bytes([1; 32]), 0);
        Catalog::open(folder.path(), &owner).unwrap().0
    }

    fn restart(&mut self) {
        self.catalog.commit().unwrap();
        self.catalog = Self::open(&self.folder);
    }

    fn record(&mut self, entry: Entry) {
        self.catalog.record(entry).unwrap();
    }

    /// A look at `at_s` came to this, after the one before.
    fn look(&mut self, of: [u8; 3], at_s: u64) {
        let before = self.catalog.evidence_of(&SNAPSHOT).copied();
        let losses = self.catalog.losses_seen();
        let is_taken = self.catalog.record_evidence(seen(of, before.as_ref(), at_s), losses);
        assert!(is_taken.unwrap());
    }

    fn told(&self, now_s: u64) -> ReplicasReport {
        Teller::new(&self.catalog, now_s).snapshot(&SNAPSHOT).unwrap()
    }

    fn word(&self, now_s: u64) -> (ReplicasWord, Option<u64>) {
        let told = self.told(now_s);
        (told.word, told.since)
    }

    fn lose(&mut self, node: u8, at_s: u64) {
        let (node, why) = (holder(node), Loss::Missing);
        let lost = ReplicaLost { chunk: CHUNK, node, epoch: EPOCH, why, at_s };
        self.record(Entry::ReplicaLost(lost));
    }
}

#[test]
fn a_holder_that_counts_no_more_is_worth_a_look_and_one_that_counts_again_is_not_missed() {
    let [one, other] = [1, 2].map(|byte| NodeId::from_bytes([byte; 32]));
    let known = |standings: [Standing; 2]| Known {
        losses: 0,
        chunks: 1,
        holders: [one, other]
            .into_iter()
            .zip(standings)
            .map(|(n, s)| (n, 1, false, s, None))
            .collect(),
        drawn: 0,
        made: Vec::new(),
        puts: (0, 0),
    };
    let (both, fewer) =
        (known([Standing::Proven; 2]), known([Standing::Proven, Standing::Suspect]));
    assert!(fewer.has_fewer_than(&both));
    assert!(!both.has_fewer_than(&fewer) && !fewer.has_fewer_than(&fewer));
    let late = known([Standing::Late, Standing::Proven]);
    assert!(!late.has_fewer_than(&both), "who is late counts");
}

#[test]
fn nothing_is_told_that_the_backup_and_the_last_look_do_not_both_bear_out() {
    let words = [Word::Queued, Word::Replicating, Word::Stored, Word::Safe, Word::AtRisk];
    for (word, has) in
        words.into_iter().chain([Word::Lost]).flat_map(|word| (0..=3).map(move |has| (word, has)))
    {
        for (behind_s, late_s) in [(0, 0), (0, 10), (NOW_S + 1, 0), (NOW_S + 1, 10)] {
            let mut setup = Setup::new();
            setup.record(Entry::BackupMade(made(has)));
            let until_s = NOW_S + 5;
            let last = SnapshotEvidence { word, behind_s, until_s, ..seen([3, 3, 3], None, NOW_S) };
            setup.record(Entry::SnapshotEvidence(last));
            let report = setup.told(NOW_S + late_s);
            let told = report.word;
            let is_whole = matches!(told, Stored | Safe);
            assert!(!is_whole || (behind_s == 0 && has == 3), "{report:?}");
            let may_be_safe = word == Word::Safe && has == 3 && behind_s == 0 && late_s == 0;
            assert_eq!(told == Safe, may_be_safe, "{report:?}");
            assert_eq!(told == Lost, word == Word::Lost, "{report:?}");
            let is_worse = behind_s > 0 && (word.is_whole() || has == 3);
            let is_at_risk = word == Word::AtRisk || (is_worse && word != Word::Lost);
            assert_eq!(told == AtRisk, is_at_risk, "{report:?}");
            assert_eq!(report.evidence.unwrap().looked_at, Some(NOW_S));
        }
    }
}

#[test]
fn acked_is_queued_replicating_or_stored_and_not_safe_before_all_is_proven() {
    let mut setup = Setup::new();
    for (has, word) in [(0, Queued), (1, Replicating), (2, Replicating), (3, Stored)] {
        setup.record(Entry::BackupMade(made(has)));
        let told = setup.told(NOW_S);
        assert_eq!((told.word, told.has, told.evidence), (word, has, None));
        assert_eq!(told.since.is_some(), has < 3, "since when is known of what is wanted: {told}");
    }
    setup.look([3, 3, 2], NOW_S);
    assert_eq!(setup.word(NOW_S), (Stored, Some(NOW_S)), "one is not proven");
    assert_eq!(setup.told(NOW_S).evidence.unwrap().fewest_proven, 2);
    setup.look([3, 3, 3], NOW_S + 5);
    assert_eq!(setup.word(NOW_S + 5), (Safe, Some(NOW_S + 5)));
    let other = SnapshotEvidence { target: 2, ..seen([3, 3, 3], None, NOW_S) };
    setup.record(Entry::SnapshotEvidence(other));
    assert_eq!(setup.word(NOW_S), (Stored, None), "a look of another wish says nothing");
}

#[test]
fn a_holder_lost_is_told_at_once_and_the_last_copy_with_its_date_also_after_a_restart() {
    let mut setup = Setup::new();
    setup.look([3, 3, 3], NOW_S);
    setup.restart();
    assert_eq!(setup.word(NOW_S + 1), (Safe, Some(NOW_S)));
    setup.lose(1, NOW_S + 9);
    assert_eq!(setup.word(NOW_S + 10), (AtRisk, Some(NOW_S + 9)), "before anybody looks");
    assert_eq!(setup.told(NOW_S + 10).evidence.unwrap().worse_since, Some(NOW_S + 9));
    setup.restart();
    assert_eq!(setup.word(NOW_S + 10), (AtRisk, Some(NOW_S + 9)));
    setup.look([2, 2, 2], NOW_S + 11);
    let told = setup.told(NOW_S + 12);
    assert_eq!((told.word, told.since, told.has), (AtRisk, Some(NOW_S + 9), 2));
    setup.record(Entry::StoreGone { node: holder(2), epoch: EPOCH, at_s: NOW_S + 20 });
    assert_eq!(setup.word(NOW_S + 21), (AtRisk, Some(NOW_S + 9)), "it was before");
    setup.lose(3, NOW_S + 30);
    setup.look([0, 0, 0], NOW_S + 31);
    assert_eq!(setup.word(NOW_S + 32), (Lost, Some(NOW_S + 20)), "since the first of both losses");
    setup.restart();
    setup.lose(3, NOW_S + 40);
    assert_eq!(setup.word(NOW_S + 41), (Lost, Some(NOW_S + 20)), "no replica was there any more");
    setup.look([3, 3, 3], NOW_S + 50);
    assert_eq!(setup.word(NOW_S + 51), (Safe, Some(NOW_S + 50)), "healed");
}

#[test]
fn a_loss_before_anybody_looked_takes_back_what_the_backup_noted() {
    let mut setup = Setup::new();
    assert_eq!(setup.word(NOW_S).0, Stored);
    setup.lose(1, NOW_S + 9);
    let told = setup.told(NOW_S + 10);
    assert_eq!((told.word, told.since), (AtRisk, Some(NOW_S + 9)));
    assert_eq!(told.evidence.unwrap().looked_at, None);
    let other = SnapshotId::from_bytes([2; 32]);
    setup.record(Entry::BackupMade(BackupMade { snapshot: other, set: vec![2], ..made(3) }));
    setup.catalog.doubt(&other, NOW_S + 9).unwrap();
    setup.restart();
    let teller = Teller::new(&setup.catalog, NOW_S + 10);
    let told: Vec<_> = teller.snapshots().iter().map(|(_, it)| (it.word, it.since)).collect();
    assert_eq!(told, [(AtRisk, Some(NOW_S + 9)); 2], "one was made meanwhile");
}

#[test]
fn a_holder_that_takes_back_its_word_takes_safe_back_also_after_a_restart() {
    let mut setup = Setup::new();
    setup.catalog.prove_audited(&holder(1), &EPOCH, &[CHUNK], NOW_S);
    setup.look([3, 3, 3], NOW_S);
    setup.catalog.prove(&holder(2), &EPOCH, &CHUNK, NOW_S);
    assert_eq!(setup.word(NOW_S).0, Safe);
    setup.catalog.refute(&holder(1), &EPOCH, &CHUNK, NOW_S + 1);
    assert_eq!(setup.word(NOW_S + 1), (AtRisk, Some(NOW_S + 1)));
    setup.restart();
    assert_eq!(setup.word(NOW_S + 1), (AtRisk, Some(NOW_S + 1)), "the journal has it");
}

/// What a look at the one chunk counts now: acknowledged, those of them that count, and proven.
fn found(setup: &Setup) -> [u8; 3] {
    let mut counts = Counts::new(3);
    let held = |(node, audited_s)| {
        let record = setup.catalog.audit_record(&node).unwrap_or_default();
        Held { counts: standing(&record, NOW_S + YEAR_S).counts(), is_beside: false, audited_s }
    };
    let all: Vec<Held> = setup.catalog.proofs_of(&CHUNK).map(held).collect();
    counts.add(setup.catalog.is_known(&CHUNK), &all, NOW_S + 9);
    [counts.acked, counts.counted, counts.audited]
}

/// How many replicas a backup, a check and what completes snapshots count.
fn counted(setup: &Setup) -> (usize, usize) {
    let replicas = setup.catalog.replicas_of(&CHUNK, (NOW_S, NOW_S + YEAR_S));
    (replicas.acked, replicas.proven)
}

#[test]
fn what_a_holder_took_back_is_not_held_until_it_acknowledges_shows_or_proves_it_anew() {
    let mut setup = Setup::new();
    (1..=3).for_each(|node| setup.catalog.prove(&holder(node), &EPOCH, &CHUNK, NOW_S));
    assert_eq!((found(&setup), counted(&setup)), ([3, 3, 0], (3, 3)));
    setup.look(found(&setup), NOW_S + 1);
    assert_eq!(setup.word(NOW_S + 1).0, Stored, "no audit ever proved it");
    for again in 0..3 {
        setup.catalog.refute(&holder(1), &EPOCH, &CHUNK, NOW_S + 2);
        assert_eq!(setup.word(NOW_S + 3).0, AtRisk, "before anybody looks");
        setup.look(found(&setup), NOW_S + 3);
        let told = setup.told(NOW_S + 4);
        assert_eq!((told.word, told.has, counted(&setup)), (AtRisk, 2, (2, 2)), "{again}");
        setup.catalog.refute(&holder(1), &EPOCH, &CHUNK, NOW_S + 4);
        assert_eq!(setup.told(NOW_S + 4).evidence.unwrap().worse_since, None, "it said so before");
        setup.catalog.commit().unwrap();
        setup.catalog.proven_file(NOW_S + 5).save().unwrap();
        setup.restart();
        assert_eq!((found(&setup), counted(&setup)), ([2, 2, 0], (2, 2)), "after a restart");
        setup.catalog.disbelieve_before(NOW_S + 10);
        assert_eq!(counted(&setup), (2, 0));
        for node in 2..=3 {
            setup.catalog.prove(&holder(node), &EPOCH, &CHUNK, NOW_S + 5);
        }
        let proven = match again {
            0 => {
                let lease = LeaseNonce::from_bytes([1; 16]);
                let (chunk, node, epoch) = (CHUNK, holder(1), EPOCH);
                setup.record(Entry::ChunkAcked(ChunkAcked { chunk, node, lease, epoch }));
                2
            }
            1 => {
                setup.catalog.prove(&holder(1), &EPOCH, &CHUNK, NOW_S + 6);
                3
            }
            _ => {
                setup.catalog.prove_audited(&holder(1), &EPOCH, &[CHUNK], NOW_S + 6);
                3
            }
        };
        assert_eq!((found(&setup)[1], counted(&setup)), (3, (3, proven)), "{again}");
        setup.look(found(&setup), NOW_S + 7);
        assert_eq!(setup.word(NOW_S + 7).0, Stored, "{again}");
        setup.catalog.prove(&holder(1), &EPOCH, &CHUNK, NOW_S + 7);
    }
    (1..=3).for_each(|node| setup.catalog.refute(&holder(node), &EPOCH, &CHUNK, NOW_S + 8));
    setup.look([0, 0, 0], NOW_S + 9);
    assert_eq!((found(&setup), setup.word(NOW_S + 9).0), ([0, 0, 0], Lost), "nobody says so");
}

/// A holder that lied, or did not answer on three days.
fn discredit(setup: &mut Setup, lies: bool) {
    let node = holder(3);
    match lies {
        true => setup.record(Entry::HolderLied { node, at_s: NOW_S + 3 * DAY_S }),
        false => (1..=3).for_each(|day| {
            setup.record(Entry::HolderSilent { node, at_s: NOW_S + day * DAY_S });
        }),
    }
}

#[test]
fn a_backup_after_a_holder_came_to_count_no_more_is_not_stored_before_it_is_looked_at() {
    let (second, at_s) = (SnapshotId::from_bytes([2; 32]), NOW_S + 4 * DAY_S);
    for lies in [true, false] {
        let mut setup = Setup::new();
        (1..=3).for_each(|node| setup.catalog.prove(&holder(node), &EPOCH, &CHUNK, NOW_S));
        setup.look(found(&setup), NOW_S);
        assert_eq!((setup.word(NOW_S).0, counted(&setup)), (Stored, (3, 3)));
        discredit(&mut setup, lies);
        assert_eq!(setup.word(at_s).0, AtRisk);
        setup.look(found(&setup), at_s);
        let told = setup.told(at_s);
        assert_eq!((told.word, told.has), (AtRisk, 2));
        assert_eq!(counted(&setup), (2, 2), "who backs up stores it anew");
        // Whatever it acknowledges meanwhile.
        let anew = BackupMade { snapshot: second, at: at_s + 5, ..made(3) };
        setup.record(Entry::BackupMade(anew.clone()));
        for _ in 0..2 {
            let told = Teller::new(&setup.catalog, at_s + 9).snapshot(&second).unwrap();
            assert_eq!((told.word, told.since), (AtRisk, Some(at_s + 5)), "{lies}");
            assert!(told.to_string().starts_with("at risk, being looked at since "), "{told}");
            assert!(Teller::new(&setup.catalog, at_s).waits_for_a_look());
            setup.restart();
        }
        let short = BackupMade { replicas: 2, ..anew.clone() };
        setup.record(Entry::BackupMade(short));
        let told = Teller::new(&setup.catalog, at_s + 9).snapshot(&second).unwrap();
        assert_eq!((told.word, told.has), (Replicating, 2), "it says itself that it is short");
        setup.record(Entry::BackupMade(anew));
        let look = |target, counted: u8| SnapshotEvidence {
            snapshot: second,
            target,
            counted,
            ..seen([3, 3, 0], None, at_s + 9)
        };
        for (target, has, word) in [(3, 3, Stored), (4, 3, Stored), (4, 2, AtRisk)] {
            setup.record(Entry::SnapshotEvidence(look(target, has)));
            let told = Teller::new(&setup.catalog, at_s + 9).snapshot(&second).unwrap();
            assert_eq!(told.word, word, "by a look at {has} of {target}");
        }
    }
}

#[test]
fn files_that_were_put_while_a_holder_counts_no_more_are_not_stored_before_they_are_looked_at() {
    let mut setup = Setup::new();
    discredit(&mut setup, true);
    setup.record(root(1, 3));
    let all = SnapshotEvidence { snapshot: SnapshotEvidence::PUTS, ..seen([3, 3, 0], None, NOW_S) };
    let word = |setup: &Setup| Teller::new(&setup.catalog, NOW_S).puts().unwrap().word;
    assert_eq!(word(&setup), AtRisk);
    setup.record(Entry::SnapshotEvidence(SnapshotEvidence { covers: 1, ..all }));
    assert_eq!(word(&setup), Stored, "three others have it");
    setup.record(root(2, 3));
    assert_eq!(word(&setup), AtRisk, "the second was not seen");
}

#[test]
fn a_loss_of_which_nobody_knows_when_it_came_is_told_without_a_date() {
    let anew = |setup: &mut Setup| {
        let (lease, epoch) = (LeaseNonce::from_bytes([2; 16]), StoreEpoch::from_bytes([4; 16]));
        let (chunk, node) = (CHUNK, holder(1));
        setup.record(Entry::ChunkAcked(ChunkAcked { chunk, node, lease, epoch }));
    };
    // Files that nobody looked at yet.
    let mut setup = Setup::new();
    setup.record(root(1, 3));
    anew(&mut setup);
    let puts = Teller::new(&setup.catalog, NOW_S).puts().unwrap();
    assert_eq!((puts.word, puts.since), (AtRisk, None));
    assert_eq!(puts.to_string(), "at risk, being looked at");
    // A snapshot that was looked at, through a restart.
    let mut setup = Setup::new();
    setup.look([3, 3, 3], NOW_S);
    anew(&mut setup);
    setup.restart();
    let told = setup.told(NOW_S + 9);
    assert_eq!((told.word, told.since), (AtRisk, None));
    let seen = told.evidence.unwrap();
    assert_eq!((seen.may_be_worse, seen.worse_since), (true, None));
    setup.look([2, 2, 2], NOW_S + 9);
    assert_eq!(setup.word(NOW_S + 9), (AtRisk, Some(NOW_S + 9)), "as it was found");
    // What is found says when it was.
    let mut setup = Setup::new();
    setup.record(root(1, 3));
    setup.catalog.store_is_gone(&holder(1), &EPOCH, NOW_S + 3);
    setup.restart();
    let puts = Teller::new(&setup.catalog, NOW_S + 9).puts().unwrap();
    assert_eq!((puts.word, puts.since), (AtRisk, Some(NOW_S + 3)));
}

#[test]
fn a_holder_that_lied_or_is_silent_for_days_takes_safe_back_and_one_that_is_late_does_not() {
    let mut setup = Setup::new();
    setup.look([3, 3, 3], NOW_S);
    let node = holder(1);
    let silent = |setup: &mut Setup, at_s| {
        setup.record(Entry::HolderSilent { node, at_s: NOW_S + at_s });
        setup.word(NOW_S + at_s).0
    };
    assert_eq!(silent(&mut setup, DAY_S / 2), Safe, "it is late");
    assert_eq!(setup.word(NOW_S + DAY_S).0, Safe, "no clock makes it worse");
    setup.record(Entry::SnapshotEvidence(SnapshotEvidence {
        until_s: NOW_S + YEAR_S,
        ..*setup.catalog.evidence_of(&SNAPSHOT).unwrap()
    }));
    assert_eq!(setup.word(NOW_S + YEAR_S / 2).0, Safe, "nor any other");
    silent(&mut setup, DAY_S);
    assert_eq!(silent(&mut setup, 3 * DAY_S), AtRisk, "asked on three days");
    assert_eq!(setup.word(NOW_S + 3 * DAY_S).1, Some(NOW_S + 3 * DAY_S));
    setup.restart();
    assert_eq!(setup.word(NOW_S + 3 * DAY_S).0, AtRisk);
    setup.look([3, 3, 3], NOW_S + 3 * DAY_S);
    assert_eq!(setup.word(NOW_S + 3 * DAY_S).0, Stored, "of others, whose proofs are too old");
    let far = SnapshotEvidence { until_s: u64::MAX, ..seen([3, 3, 3], None, NOW_S + 3 * DAY_S) };
    setup.record(Entry::SnapshotEvidence(far));
    assert_eq!(setup.word(NOW_S + 4 * DAY_S).0, Safe, "a snapshot that does not need it");
    setup.record(Entry::HolderLied { node: holder(2), at_s: NOW_S + 5 * DAY_S });
    assert_eq!(setup.word(NOW_S + 6 * DAY_S), (AtRisk, Some(NOW_S + 5 * DAY_S)));
}

#[test]
fn a_clock_that_jumps_ten_years_makes_nothing_at_risk_or_lost_and_proves_nothing() {
    let jumps = [NOW_S - 10 * YEAR_S, NOW_S - 1, NOW_S + 46 * DAY_S, NOW_S + 10 * YEAR_S];
    let mut setup = Setup::new();
    setup.record(Entry::HolderSilent { node: holder(1), at_s: NOW_S - 1 });
    setup.look([3, 3, 3], NOW_S);
    assert_eq!(setup.word(NOW_S).0, Safe);
    for now_s in jumps {
        let told = setup.told(now_s);
        assert_eq!((told.word, told.has), (Stored, 3), "{now_s}: {told:?}");
    }
    assert_eq!(setup.word(NOW_S + 1), (Safe, Some(NOW_S)), "as if nothing had been");
    // Looks go on while the clock is wrong, and it finds back.
    for now_s in jumps {
        setup.look([3, 3, 0], now_s);
        assert_eq!(setup.word(now_s).0, Stored);
        setup.look([3, 3, 3], NOW_S + 2);
        assert_eq!(setup.word(NOW_S + 3).0, Safe);
    }
    for (of, word) in [([2, 2, 2], AtRisk), ([0, 0, 0], Lost)] {
        setup.look(of, NOW_S + 4);
        assert!(jumps.iter().all(|now_s| setup.word(*now_s) == (word, Some(NOW_S + 4))));
    }
}

#[test]
fn a_word_is_told_since_the_first_look_or_loss_that_led_to_it() {
    let first = seen([3, 3, 2], None, NOW_S);
    assert_eq!((first.word, first.since_s, first.was_whole), (Word::Stored, NOW_S, true));
    let safe = seen([3, 3, 3], Some(&first), NOW_S + 1);
    assert_eq!((safe.word, safe.since_s), (Word::Safe, NOW_S + 1));
    let again = seen([3, 3, 3], Some(&safe), NOW_S + 2);
    assert_eq!((again.word, again.since_s, again.is_like(&safe)), (Word::Safe, NOW_S + 1, true));
    let behind = SnapshotEvidence { behind_s: NOW_S + 5, ..again };
    let short = seen([2, 2, 2], Some(&behind), NOW_S + 7);
    assert_eq!((short.word, short.since_s), (Word::AtRisk, NOW_S + 5));
    let never = Subject { was_whole: false, ..subject() };
    let still = never.found(Some(&short), &counts([2, 2, 2]), NOW_S + 8);
    assert_eq!((still.word, still.since_s), (Word::AtRisk, NOW_S + 5), "it was whole before");
    let never = never.found(None, &counts([2, 2, 2]), NOW_S);
    assert_eq!((never.word, never.was_whole), (Word::Replicating, false));
}

#[test]
fn of_another_devices_snapshot_the_look_alone_is_told() {
    let mut setup = Setup::new();
    let id = SnapshotId::from_bytes([9; 32]);
    let told = |setup: &Setup| Teller::new(&setup.catalog, NOW_S).snapshot(&id);
    assert_eq!(told(&setup), None);
    let of_other = |of| SnapshotEvidence { snapshot: id, ..seen(of, None, NOW_S) };
    for (of, word) in [([3, 3, 3], Safe), ([3, 3, 1], Stored), ([0, 0, 0], Lost)] {
        setup.record(Entry::SnapshotEvidence(of_other(of)));
        assert_eq!(told(&setup).unwrap().word, word);
    }
    setup.record(Entry::SnapshotEvidence(SnapshotEvidence::nothing(id)));
    assert_eq!(told(&setup), None);
}

fn root(job: u64, replicas: u8) -> Entry {
    let [a, ..] = job.to_le_bytes();
    let capability = Capability {
        ck: ChunkKey::from_bytes([a; 32]),
        id: ChunkId::from_bytes([a; 32]),
        locality: Locality(0),
    };
    Entry::PutDone(PutRoot {
        job: JobId(job),
        name: format!("file {job}"),
        capability,
        bytes: 1,
        chunks: 1,
        sealed_bytes: 1,
        target: 3,
        replicas,
        put_at: NOW_S,
        named: true,
    })
}

#[test]
fn of_files_that_were_put_the_worst_is_told_and_a_look_says_nothing_of_later_ones() {
    let mut setup = Setup::new();
    let puts = |setup: &Setup| Teller::new(&setup.catalog, NOW_S).puts();
    assert_eq!(puts(&setup), None);
    setup.record(root(1, 3));
    let word = |setup: &Setup| puts(setup).map(|it| it.word);
    assert_eq!(word(&setup), Some(Stored));
    let all = SnapshotEvidence { snapshot: SnapshotEvidence::PUTS, ..seen([3, 3, 3], None, NOW_S) };
    setup.record(Entry::SnapshotEvidence(SnapshotEvidence { covers: 1, ..all }));
    assert_eq!(word(&setup), Some(Safe));
    setup.record(root(2, 3));
    assert_eq!(word(&setup), Some(Stored), "the second was not seen");
    setup.lose(1, NOW_S);
    assert_eq!(word(&setup), Some(AtRisk), "the first may be hit");
    setup.record(Entry::SnapshotEvidence(SnapshotEvidence { covers: 2, ..all }));
    assert_eq!(word(&setup), Some(Safe));
    setup.record(root(3, 2));
    assert_eq!(
        puts(&setup).unwrap().to_string().split(" since").next(),
        Some("replicating 2 of 3")
    );
    let ids = Teller::new(&setup.catalog, NOW_S).snapshots();
    assert!(ids.iter().all(|(id, _)| *id != SnapshotEvidence::PUTS), "they are no snapshot");
}
