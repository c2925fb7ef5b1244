//! Of what audits came to, and where holders stand.

use super::super::entry::tests::audited;
use super::*;

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
    standing(&audits.0[&node(1)], now_s)
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
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(after.0, before.0);
}

#[test]
fn a_holder_is_unknown_until_an_audit_proved_something() {
    assert_eq!(standing(&AuditRecord::default(), START), Standing::Unknown);
    let nothing = HolderAudited { proven: 0, ..audited(1, START) };
    assert_eq!(stands(&of(&[nothing]), START), Standing::Unknown, "busy all the time");
    let released = HolderAudited { released: 9, ..nothing };
    assert_eq!(stands(&of(&[released]), START), Standing::Unknown);
    assert_eq!(stands(&of(&[audited(1, START)]), START + TEN_YEARS), Standing::Proven);
    let some = HolderAudited { released: 1, proven: 8, ..audited(1, START) };
    assert_eq!(stands(&of(&[some]), START), Standing::Proven, "another device let it go");
}

#[test]
fn what_is_missing_or_damaged_counts_until_the_next_audit_and_a_lie_for_ever() {
    let sound = audited(1, START + DAY);
    for found in [
        HolderAudited { missing: 1, proven: 8, ..audited(1, START) },
        HolderAudited { damaged: 1, proven: 8, ..audited(1, START) },
    ] {
        assert_eq!(stands(&of(&[found]), START), Standing::Damaged);
        let healed = of(&[found, sound]);
        assert_eq!(stands(&healed, START), Standing::Proven);
        assert_eq!(healed.0[&node(1)].incidents, [found]);
        assert_same_when_told(&healed);
    }
    let lie = HolderAudited { lied: 1, ..audited(1, START) };
    let later = (1..=100_u64).map(|number| {
        let at_s = START + number * DAY;
        HolderAudited { missing: number % 2, damaged: 1, ..audited(1, at_s) }
    });
    let mut audits = of(&[&[lie], later.collect::<Vec<_>>().as_slice(), &[sound]].concat());
    assert_eq!(stands(&audits, START + TEN_YEARS), Standing::Liar);
    let record = &audits.0[&node(1)];
    assert_eq!((record.incidents.len(), record.incidents[0]), (INCIDENTS_MAX, lie));
    let days: Vec<u64> = record.incidents[1..].iter().map(|it| (it.at_s - START) / DAY).collect();
    assert_eq!(days, (86..=100).collect::<Vec<_>>(), "the newest of the others");
    assert_same_when_told(&audits);
    silent(&mut audits, (0..30).map(|day| START + day * DAY));
    assert_eq!(stands(&audits, START + 40 * DAY), Standing::Liar, "also where it is silent");
    assert_same_when_told(&audits);
    // Lies alone are no more than the others.
    let lies = (0..20).map(|day| HolderAudited { lied: 1, ..audited(1, START + day) });
    let lies = of(&lies.collect::<Vec<_>>());
    assert_eq!(lies.0[&node(1)].incidents.len(), INCIDENTS_MAX);
    assert_eq!(lies.0[&node(1)].incidents[0].at_s, START + 4);
    assert_same_when_told(&lies);
}

#[test]
fn silence_is_late_at_once_suspect_after_a_day_and_lost_after_fourteen() {
    assert_eq!(after([START], START), Standing::Late);
    let thrice = [START, START + HOUR, START + 23 * HOUR];
    assert_eq!(after(thrice, START + DAY - 1), Standing::Late, "it is no day yet");
    assert_eq!(after(thrice, START + DAY), Standing::Suspect);
    assert_eq!(after([START, START + 23 * HOUR], START + 2 * DAY), Standing::Late, "twice");
    let daily = |days: u64| (0..days).map(|day| START + day * DAY);
    assert_eq!(after(daily(14), START + 14 * DAY - 1), Standing::Suspect);
    assert_eq!(after(daily(14), START + 14 * DAY), Standing::Lost);
    assert_eq!(after(daily(13), START + 30 * DAY), Standing::Suspect, "asked on 13 days");
    let hourly = (0..13 * 24).map(|hour| START + hour * HOUR);
    assert_eq!(after(hourly, START + 20 * DAY), Standing::Suspect, "often, and on 13 days");
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
    let silence = audits.0[&node(1)].silence.unwrap();
    let expected = Silence { since_s: START, last_s: START + 2 * HOUR, misses: 3, days: 1 };
    assert_eq!(silence, expected);
    // Midnight lies between two of them.
    let mut audits = Audits::default();
    silent(&mut audits, [START - 1, START + 1]);
    assert_eq!(audits.0[&node(1)].silence.unwrap().days, 1);
}

#[test]
fn an_answer_ends_the_silence() {
    let mut audits = Audits::default();
    silent(&mut audits, (0..14).map(|day| START + day * DAY));
    assert_eq!(stands(&audits, START + 14 * DAY), Standing::Lost);
    assert_same_when_told(&audits);
    audits.on_audited(audited(1, START + 15 * DAY));
    assert_eq!(stands(&audits, START + 15 * DAY), Standing::Proven);
    assert_eq!(audits.0[&node(1)].heard_s(), Some(START + 15 * DAY));
    silent(&mut audits, [START + 16 * DAY]);
    assert_eq!(stands(&audits, START + 40 * DAY), Standing::Late, "it begins anew");
    let damaged = HolderAudited { damaged: 1, ..audited(1, START + 17 * DAY) };
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
    assert_eq!(after(day.clone().chain([jumped]), jumped), Standing::Suspect, "asked often enough");
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
    let times = (0..3).flat_map(|hour| [START + hour * HOUR, START + hour * HOUR - 5]);
    assert_eq!(after(times, START + DAY), Standing::Suspect);
}

#[test]
fn so_many_holders_are_remembered_and_those_that_lied_first_of_all() {
    let of = |number: u64| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_be_bytes());
        HolderAudited { node: NodeId::from_bytes(id), ..audited(0, START + number) }
    };
    let mut audits = Audits::default();
    audits.on_audited(HolderAudited { lied: 1, ..of(0) });
    let most = RECORDS_MAX as u64;
    (1..=most).for_each(|number| audits.on_audited(of(number)));
    assert_eq!(audits.0.len(), RECORDS_MAX);
    assert!(audits.0.contains_key(&of(0).node) && !audits.0.contains_key(&of(1).node));
    // Whoever comes is remembered, and so is that it does not answer.
    audits.on_silent(node(0xff), 5);
    assert!(audits.0.contains_key(&node(0xff)) && !audits.0.contains_key(&of(2).node));
    audits.on_audited(of(most + 1));
    assert!(!audits.0.contains_key(&node(0xff)), "nothing was heard of it for longest");
    assert_eq!(audits.0.len(), RECORDS_MAX);
    assert_same_when_told(&audits);
}
