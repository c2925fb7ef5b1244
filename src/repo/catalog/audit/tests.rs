//! Of what audits came to, and where holders stand.

use super::super::entry::tests::{audited, found};
use super::*;
use crate::repo::catalog::{HolderAudited, INCIDENTS_MAX, Standing, standing};
use crate::repo::standing::{DAY_S, HOUR_S};

const HOUR: u64 = HOUR_S;
const DAY: u64 = DAY_S;
/// At the beginning of a day.
const START: u64 = 20_833 * DAY;
const TEN_YEARS: u64 = 3_652 * DAY;

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 32])
}

fn silent(audits: &mut Audits, times: impl IntoIterator<Item = u64>) {
    times.into_iter().for_each(|at_s| audits.on_silent(node(1), at_s));
}

/// Where the first node stands.
fn stands(audits: &Audits, now_s: u64) -> Standing {
    standing(&audits.records[&node(1)], now_s)
}

/// Of a node that was never heard, and asked in vain at these times.
fn after(times: impl IntoIterator<Item = u64>, now_s: u64) -> Standing {
    let mut audits = Audits::default();
    silent(&mut audits, times);
    stands(&audits, now_s)
}

fn of(audits: &[HolderAudited]) -> Audits {
    let mut all = Audits::default();
    audits.iter().for_each(|audited| all.on_audited(*audited));
    all
}

/// What is told of it comes to the same.
fn assert_same_when_told(before: &Audits) {
    let mut after = Audits::default();
    let told: Vec<Entry> = before.each().collect();
    assert_eq!(told.len() as u64, before.entries());
    for entry in told {
        match entry {
            Entry::HolderAudited(audited) => after.on_audited(audited),
            Entry::HolderSilence { node, silence } => after.on_silence(node, silence),
            Entry::HolderWithholds { node, silence } => after.on_withholds(node, silence),
            Entry::HolderLied { node, at_s } => after.on_lied(node, at_s),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(after.records, before.records);
}

#[test]
fn a_holder_is_unknown_until_an_audit_proved_something() {
    assert_eq!(standing(&AuditRecord::default(), START), Standing::Unknown);
    let nothing = found(1, START, |of| of.proven = 0);
    assert_eq!(stands(&of(&[nothing]), START), Standing::Unknown, "busy all the time");
    let released = found(1, START, |of| (of.proven, of.released) = (0, 9));
    assert_eq!(stands(&of(&[released]), START), Standing::Unknown);
    assert_eq!(stands(&of(&[audited(1, START)]), START + TEN_YEARS), Standing::Proven);
    let some = found(1, START, |of| (of.proven, of.released) = (8, 1));
    assert_eq!(stands(&of(&[some]), START), Standing::Proven, "another device let it go");
}

#[test]
fn what_is_missing_or_damaged_counts_until_the_next_audit_and_a_lie_for_ever() {
    let sound = audited(1, START + DAY);
    for found in [
        found(1, START, |of| (of.proven, of.missing) = (8, 1)),
        found(1, START, |of| (of.proven, of.damaged) = (8, 1)),
    ] {
        assert_eq!(stands(&of(&[found]), START), Standing::Damaged);
        let healed = of(&[found, sound]);
        assert_eq!(stands(&healed, START), Standing::Proven);
        assert_eq!(healed.records[&node(1)].incidents, [found]);
        assert_same_when_told(&healed);
    }
    let lie = found(1, START, |of| of.lied = 1);
    let later = (1..=100_u64).map(|number| {
        let at_s = START + number * DAY;
        found(1, at_s, |of| (of.missing, of.damaged) = (number % 2, 1))
    });
    let mut audits = of(&[&[lie], later.collect::<Vec<_>>().as_slice(), &[sound]].concat());
    assert_eq!(stands(&audits, START + TEN_YEARS), Standing::Liar);
    let record = &audits.records[&node(1)];
    assert_eq!((record.incidents.len(), record.incidents[0]), (INCIDENTS_MAX, lie));
    let days: Vec<u64> =
        record.incidents[1..].iter().map(|it| (it.outcome.at_s - START) / DAY).collect();
    assert_eq!(days, (86..=100).collect::<Vec<_>>(), "the newest of the others");
    assert_same_when_told(&audits);
    silent(&mut audits, (0..30).map(|day| START + day * DAY));
    assert_eq!(stands(&audits, START + 40 * DAY), Standing::Liar, "also where it is silent");
    assert_same_when_told(&audits);
    // Lies alone are no more than the others.
    let lies = (0..20).map(|day| found(1, START + day, |of| of.lied = 1));
    let lies = of(&lies.collect::<Vec<_>>());
    assert_eq!(lies.records[&node(1)].incidents.len(), INCIDENTS_MAX);
    assert_eq!(lies.records[&node(1)].incidents[0].outcome.at_s, START + 4);
    assert_same_when_told(&lies);
}

#[test]
fn damage_that_a_smaller_audit_found_while_a_larger_one_ran_is_not_undone_by_its_end() {
    let damage = found(1, START + 60, |of| (of.asked, of.proven, of.missing) = (1, 0, 1));
    let (before, sound) = (audited(1, START - DAY), audited(1, START));
    let ended = sound.with_damage_of(Some(&before), Some(&damage));
    assert_eq!(ended, found(1, START, |of| of.missing = 1));
    assert_eq!(stands(&of(&[before, damage, ended]), START), Standing::Damaged);
    assert_eq!(sound.with_damage_of(None, Some(&damage)), ended);
    // What was known when it began, nothing, what was let go, and what it found itself.
    let released = found(1, START + 60, |of| of.released = 1);
    let nothing = found(1, START + 60, |of| of.proven = 0);
    assert_eq!(sound.with_damage_of(Some(&damage), Some(&damage)), sound);
    for by_now in [None, Some(&before), Some(&nothing), Some(&released)] {
        assert_eq!(sound.with_damage_of(Some(&before), by_now), sound);
    }
    // One that began after the damage was found, and ends after one that took it over.
    assert_eq!(
        audited(1, START + 90).with_damage_of(Some(&damage), Some(&ended)),
        audited(1, START + 90)
    );
    let own = found(1, START, |of| of.damaged = 2);
    assert_eq!(own.with_damage_of(None, Some(&damage)), own);
}

#[test]
fn silence_is_late_at_once_suspect_after_a_day_and_lost_after_fourteen() {
    assert_eq!(after([START], START), Standing::Late);
    let noon = START + 12 * HOUR;
    let thrice = [noon, noon + HOUR, START + DAY];
    assert_eq!(after(thrice, noon + DAY - 1), Standing::Late, "it is no day yet");
    assert_eq!(after(thrice, noon + DAY), Standing::Suspect);
    let hours = (0..12).map(|hour| noon + hour * HOUR);
    assert_eq!(after(hours, START + 9 * DAY), Standing::Late, "often, and on a single day");
    assert_eq!(after([START, START + 23 * HOUR], START + 2 * DAY), Standing::Late, "twice");
    let daily = |days: u64| (0..days).map(|day| START + day * DAY);
    assert_eq!(after(daily(14), START + 14 * DAY - 1), Standing::Suspect);
    assert_eq!(after(daily(14), START + 14 * DAY), Standing::Lost);
    assert_eq!(after(daily(13), START + 30 * DAY), Standing::Suspect, "asked on 13 days");
    let hourly = (0..13 * 24).map(|hour| START + hour * HOUR);
    assert_eq!(after(hourly, START + 20 * DAY), Standing::Suspect, "often, and on 13 days");
}

/// Threat 10.
#[test]
fn who_proves_and_hands_nothing_over_is_as_if_silent_until_it_does() {
    let mut audits = Audits::default();
    for day in 0..14 {
        let at_s = START + day * DAY;
        audits.on_audited(audited(1, at_s));
        audits.on_withheld(node(1), at_s);
        audits.on_audited(audited(1, at_s + HOUR));
    }
    assert_same_when_told(&audits);
    assert_eq!(stands(&audits, START + 13 * DAY), Standing::Suspect, "it proves all the same");
    assert_eq!(stands(&audits, START + 14 * DAY), Standing::Lost);
    assert_eq!(audits.records[&node(1)].suspect_from_s(), Some(START + DAY));
    audits.on_silent(node(1), START + 14 * DAY);
    assert_eq!(stands(&audits, START + 14 * DAY), Standing::Lost, "the worse of the two counts");
    audits.on_served(&node(1));
    assert_eq!(stands(&audits, START + 14 * DAY), Standing::Late);
    audits.on_audited(audited(1, START + 15 * DAY));
    assert_eq!(stands(&audits, START + 15 * DAY), Standing::Proven);
    audits.on_served(&node(2));
    assert!(!audits.records.contains_key(&node(2)), "nothing is to be remembered of that");
}

#[test]
fn misses_within_an_hour_count_once() {
    let often = (0..600).map(|second| START + second * 6);
    assert_eq!(after(often, START + 2 * DAY), Standing::Late);
    let mut audits = Audits::default();
    silent(
        &mut audits,
        [START, START + HOUR - 1, START + HOUR, START + HOUR + 1, START + 2 * HOUR],
    );
    let silence = audits.records[&node(1)].silence.unwrap();
    let expected = Silence { since_s: START, last_s: START + 2 * HOUR, misses: 3, days: 1 };
    assert_eq!(silence, expected);
    // Midnight lies between two of them.
    let mut audits = Audits::default();
    silent(&mut audits, [START - 1, START + 1]);
    assert_eq!(audits.records[&node(1)].silence.unwrap().days, 1);
}

#[test]
fn an_answer_ends_the_silence() {
    let mut audits = Audits::default();
    silent(&mut audits, (0..14).map(|day| START + day * DAY));
    assert_eq!(stands(&audits, START + 14 * DAY), Standing::Lost);
    assert_same_when_told(&audits);
    audits.on_audited(audited(1, START + 15 * DAY));
    assert_eq!(stands(&audits, START + 15 * DAY), Standing::Proven);
    assert_eq!(audits.records[&node(1)].heard_s(), Some(START + 15 * DAY));
    silent(&mut audits, [START + 16 * DAY]);
    assert_eq!(stands(&audits, START + 40 * DAY), Standing::Late, "it begins anew");
    let damaged = found(1, START + 17 * DAY, |of| of.damaged = 1);
    audits.on_audited(damaged);
    silent(&mut audits, [START + 18 * DAY]);
    assert_eq!(stands(&audits, START + 18 * DAY), Standing::Late, "silence comes first");
    assert_same_when_told(&audits);
}

#[test]
fn a_clock_that_jumps_makes_nobody_suspect_or_lost_by_itself() {
    let jumped = START + TEN_YEARS;
    assert_eq!(after([START], jumped), Standing::Late);
    assert_eq!(after([START, jumped], jumped), Standing::Late);
    let day = (0..12).map(|hour| START + hour * HOUR);
    assert_eq!(after(day.clone(), jumped), Standing::Late, "asked often, and on a single day");
    assert_eq!(after(day.clone().chain([jumped]), jumped), Standing::Suspect, "and once more");
    let days = (0..12).map(|day| START + day * DAY);
    assert_eq!(after(days.clone().chain([jumped]), jumped), Standing::Suspect, "on 13 days");
    // To and fro, without end.
    let flips = (0..500_u64).flat_map(|flip| [START + flip, jumped + flip]);
    assert_eq!(after(flips, jumped + DAY), Standing::Late);
    let flips = (0..500_u64).flat_map(|flip| [jumped + flip, START + flip]);
    assert_eq!(after(flips, START + 20 * DAY), Standing::Late);
}

#[test]
fn a_clock_that_is_put_back_neither_hides_a_silence_nor_makes_it_longer() {
    let jumped = START + TEN_YEARS;
    // It was ahead when the silence began.
    let daily = |from: u64| (0..15).map(move |day| from + day * DAY);
    let times = || [jumped, jumped + DAY].into_iter().chain(daily(START));
    assert_eq!(after(times(), START + 13 * DAY), Standing::Suspect, "not fourteen days yet");
    assert_eq!(after(times(), START + 14 * DAY), Standing::Lost);
    assert_eq!(after([jumped, jumped + DAY, jumped + 2 * DAY], START), Standing::Late);
    // A moment back is none.
    let times = (22..25).flat_map(|hour| [START + hour * HOUR, START + hour * HOUR - 5]);
    assert_eq!(after(times, START + 2 * DAY), Standing::Suspect);
}

#[test]
fn an_answer_for_some_of_what_was_asked_is_a_miss_and_says_what_it_proved() {
    let partly = |at_s| HolderAudited { silent: 1, ..found(1, at_s, |of| of.proven = 8) };
    let mut audits = of(&[partly(START)]);
    let began = Silence { since_s: START, last_s: START, misses: 1, days: 1 };
    let record = &audits.records[&node(1)];
    assert_eq!((record.silence, record.last), (Some(began), Some(partly(START))));
    assert_eq!(record.incidents, [], "nothing is gone");
    assert_eq!(stands(&audits, START), Standing::Late);
    // Asked for a single chunk it answers, and for a batch it does not.
    for hour in 1..48 {
        audits.on_audited(partly(START + hour * HOUR));
        // The same audit, told twice: it is one miss.
        silent(&mut audits, [START + hour * HOUR]);
    }
    let expected = Silence { since_s: START, last_s: START + 47 * HOUR, misses: 48, days: 2 };
    assert_eq!(audits.records[&node(1)].silence, Some(expected));
    assert_eq!(stands(&audits, START + 2 * DAY), Standing::Suspect);
    assert_same_when_told(&audits);
    let mut found = partly(START + 2 * DAY);
    found.outcome.missing = 1;
    audits.on_audited(found);
    assert_eq!(audits.records[&node(1)].incidents, [found]);
    assert_eq!(stands(&audits, START + 2 * DAY), Standing::Suspect);
    assert_same_when_told(&audits);
    audits.on_audited(audited(1, START + 3 * DAY));
    assert_eq!(stands(&audits, START + 3 * DAY), Standing::Proven, "it answered for all");
    assert_same_when_told(&audits);
}

#[test]
fn a_lie_that_no_audit_summed_up_is_a_lie() {
    let mut audits = Audits::default();
    audits.on_lied(node(1), START + 5);
    audits.on_lied(node(1), START);
    assert_eq!(stands(&audits, START), Standing::Liar);
    assert_same_when_told(&audits);
    let many = (0..40).map(|day| found(1, START + day * DAY, |of| of.damaged = 1));
    many.chain([audited(1, START + 50 * DAY)]).for_each(|audited| audits.on_audited(audited));
    assert_eq!(stands(&audits, START + TEN_YEARS), Standing::Liar);
    let record = &audits.records[&node(1)];
    assert_eq!(record.lies_s().collect::<Vec<_>>(), [START + 5], "the last time");
    assert_same_when_told(&audits);
    let lied = found(1, START + 60 * DAY, |of| of.lied = 1);
    audits.on_audited(lied);
    let times: std::collections::BTreeSet<u64> = audits.records[&node(1)].lies_s().collect();
    assert_eq!(times, [START + 5, START + 60 * DAY].into());
    assert!(AuditRecord::default().lies_s().next().is_none());
}

#[test]
fn so_many_holders_are_remembered_and_those_that_lied_first_of_all() {
    let of = |number: u64| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_be_bytes());
        HolderAudited { node: NodeId::from_bytes(id), ..audited(0, START + number) }
    };
    let mut audits = Audits::default();
    let mut lie = of(0);
    lie.outcome.lied = 1;
    audits.on_audited(lie);
    let most = RECORDS_MAX as u64;
    (1..=most).for_each(|number| audits.on_audited(of(number)));
    assert_eq!(audits.records.len(), RECORDS_MAX);
    assert!(audits.records.contains_key(&of(0).node) && !audits.records.contains_key(&of(1).node));
    // Whoever comes is remembered, and so is that it does not answer.
    audits.on_silent(node(0xff), 5);
    assert!(audits.records.contains_key(&node(0xff)) && !audits.records.contains_key(&of(2).node));
    audits.on_audited(of(most + 1));
    assert!(!audits.records.contains_key(&node(0xff)), "nothing was heard of it for longest");
    assert_eq!(audits.records.len(), RECORDS_MAX);
    assert_same_when_told(&audits);
}
