//! Whose turn it is, day by day, and what an audit that is over leaves.

use super::*;
use crate::core::types::{AuditOutcome, StoreEpoch};
use crate::repo::standing::{HolderAudited, Silence};

const NODE: NodeId = NodeId::from_bytes([0; 32]);
const NOW_S: u64 = 1_800_000_000;
const HOUR: Duration = Duration::from_secs(3_600);
const PACE: Pace = Pace::USUAL;

/// It answered then for its part of a day, or for some of it wrongly.
fn audited(at_s: u64, lied: u64) -> AuditRecord {
    let (node, epoch) = (NODE, StoreEpoch::from_bytes([0; 16]));
    let (asked, proven) = (2, 2 - lied);
    let begun = HolderAudited::begun((node, epoch), at_s, asked);
    let outcome = AuditOutcome { proven, lied, ..begun.outcome };
    let last = HolderAudited { outcome, ..begun };
    AuditRecord { last: Some(last), day_s: Some(at_s), ..AuditRecord::default() }
}

/// It fell silent so long ago, and was asked on as many days.
fn silent(for_s: u64) -> AuditRecord {
    let days = u32::try_from(for_s / DAY_S).unwrap() + 1;
    let (since_s, last_s) = (NOW_S - for_s, NOW_S - 3_600);
    let silence = Some(Silence { since_s, last_s, misses: days + 2, days });
    AuditRecord { silence, ..AuditRecord::default() }
}

/// Of a holder that was just audited; nothing is due.
fn known(record: &AuditRecord) -> Known<'_> {
    let (owes, has_new, is_watched) = (false, false, false);
    Known { record, is_connected: true, owes, has_new, holds_any: true, is_watched }
}

fn due(turn: &mut Turn, known: &Known<'_>, passed: Duration) -> Option<Due> {
    let now = Time(0).after(passed);
    turn.due(&NODE, known, &PACE, (now, NOW_S + passed.as_secs()))
}

const ANSWERED: Left = Left { has_answered: true, owes: false, is_unsorted: false, is_busy: false };

fn day(passed: Duration) -> Due {
    let now_s = NOW_S + passed.as_secs();
    Due::Day { since_s: now_s - 25 * DAY_S, now_s }
}

#[test]
fn holder_is_asked_for_what_it_owes_and_nothing_else_and_that_every_hour() {
    let record = silent(2 * DAY_S);
    let owing = Known { owes: true, has_new: true, is_watched: true, ..known(&record) };
    let mut turn = Turn::default();
    assert_eq!(due(&mut turn, &owing, HOUR), Some(Due::Owed));
    let owes = Left { has_answered: false, owes: true, ..ANSWERED };
    assert!(!turn.after(owes, &PACE, Time(0).after(HOUR)));
    assert_eq!(due(&mut turn, &owing, 2 * HOUR - Duration::from_secs(1)), None);
    assert_eq!(due(&mut turn, &owing, 2 * HOUR), Some(Due::Owed));
    let away = Known { is_connected: false, ..owing };
    assert_eq!(due(&mut turn, &away, 2 * HOUR), Some(Due::Owed), "it is dialled");
}

#[test]
fn new_replicas_are_due_at_once_where_their_holder_is_connected_and_never_lied() {
    let (good, liar) = (audited(NOW_S, 0), audited(NOW_S, 1));
    let new = |record| Known { has_new: true, ..known(record) };
    assert_eq!(due(&mut Turn::default(), &new(&good), HOUR), Some(Due::New));
    assert_eq!(due(&mut Turn::default(), &new(&liar), HOUR), None);
    let away = Known { is_connected: false, ..new(&good) };
    assert_eq!(due(&mut Turn::default(), &away, HOUR), None);
}

#[test]
fn each_holder_has_its_part_of_a_day_once_a_day_also_after_a_restart() {
    let (never, record) = (AuditRecord::default(), audited(NOW_S - 23 * 3_600, 0));
    assert_eq!(due(&mut Turn::default(), &known(&never), HOUR), Some(day(HOUR)));
    let mut turn = Turn::default();
    assert_eq!(due(&mut turn, &known(&record), HOUR / 2), None);
    assert_eq!(due(&mut turn, &known(&record), HOUR), Some(day(HOUR)));
    assert!(turn.after(ANSWERED, &PACE, Time(0).after(HOUR)));
    assert_eq!(due(&mut turn, &known(&record), 24 * HOUR), None, "whatever the record says");
    assert_eq!(due(&mut turn, &known(&record), 25 * HOUR), Some(day(25 * HOUR)));
    assert!(turn.after(ANSWERED, &PACE, Time(0).after(25 * HOUR)));
    // An answer to something else is no part of a day.
    let new = Known { has_new: true, ..known(&record) };
    assert_eq!(due(&mut turn, &new, 26 * HOUR), Some(Due::New));
    assert!(!turn.after(ANSWERED, &PACE, Time(0).after(26 * HOUR)));
    assert_eq!(due(&mut turn, &known(&record), 49 * HOUR), Some(day(49 * HOUR)));
    let nothing = Known { holds_any: false, ..known(&never) };
    assert_eq!(due(&mut Turn::default(), &nothing, HOUR), None);
    let ahead = audited(NOW_S + 9 * DAY_S, 0);
    assert_eq!(due(&mut Turn::default(), &known(&ahead), HOUR), Some(day(HOUR)), "put back");
}

/// Days on which a holder had its part of thirty, that is given something every so often, and whose
/// answers for that stand in its record. The owner's node is on for so many hours of each day.
fn days_of(given_every: Duration, on_h: u32) -> u32 {
    let (mut record, mut turn, mut days) = (audited(NOW_S, 0), Turn::default(), 0);
    let step = Duration::from_secs(600);
    let mut given = Duration::ZERO;
    for at in (1..=30 * 144).map(|step_number| step * step_number) {
        if at.as_secs() % DAY_S >= u64::from(on_h) * 3_600 {
            turn = Turn::default();
            continue;
        }
        let has_new = at.saturating_sub(given) >= given_every;
        let Some(what) = due(&mut turn, &Known { has_new, ..known(&record) }, at) else { continue };
        let had_day = turn.after(ANSWERED, &PACE, Time(0).after(at));
        assert_eq!(had_day, matches!(what, Due::Day { .. }));
        let at_s = NOW_S + at.as_secs();
        // What is new is part of that.
        given = at;
        record.last = audited(at_s, 0).last;
        if had_day {
            days += 1;
            record.day_s = Some(at_s);
        }
    }
    days
}

#[test]
fn who_is_given_something_every_day_or_hour_still_has_its_part_of_each_day() {
    for given_every in [HOUR / 6, HOUR, 24 * HOUR, 1_000 * HOUR] {
        for on_h in [24, 8] {
            let days = days_of(given_every, on_h);
            assert!((28..=30).contains(&days), "{days} of 30, {given_every:?}, {on_h} h a day");
        }
    }
}

#[test]
fn while_anybody_is_silent_the_others_are_asked_for_a_chunk_often_enough_to_count() {
    let (record, away) = (audited(NOW_S, 0), silent(DAY_S / 2));
    let watched = |record| Known { is_watched: true, ..known(record) };
    let mut turn = Turn::default();
    assert_eq!(due(&mut turn, &known(&record), HOUR), None, "nobody is");
    assert_eq!(due(&mut turn, &watched(&record), HOUR), Some(Due::Witness));
    assert!(!turn.after(ANSWERED, &PACE, Time(0).after(HOUR)));
    let soon = HOUR + PACE.witness_every;
    assert_eq!(due(&mut turn, &watched(&record), soon - Duration::from_secs(1)), None);
    assert_eq!(due(&mut turn, &watched(&record), soon), Some(Due::Witness));
    assert_eq!(due(&mut turn, &watched(&away), soon), None, "who is silent itself says nothing");
    let gone = Known { is_connected: false, ..watched(&record) };
    assert_eq!(due(&mut turn, &gone, soon), None);
}

#[test]
fn who_cannot_be_sorted_out_rests_the_longest() {
    let record = AuditRecord::default();
    let rest = |left: Left| {
        let mut turn = Turn::default();
        assert!(!turn.after(left, &PACE, Time(0)));
        let rests = |turn: &mut Turn, at| due(turn, &known(&record), at).is_none();
        let waits = [Duration::ZERO, PACE.busy_pause, PACE.owed_every, PACE.rest];
        waits.map(|at| rests(&mut turn, at))
    };
    assert_eq!(rest(ANSWERED), [false; 4]);
    assert_eq!(rest(Left { is_busy: true, ..ANSWERED }), [true, false, false, false]);
    let owes = Left { owes: true, is_busy: true, ..ANSWERED };
    assert_eq!(rest(owes), [true, true, false, false]);
    assert_eq!(rest(Left { is_unsorted: true, ..owes }), [true, true, true, false]);
}

#[test]
fn the_days_of_holders_begin_apart_and_none_is_much_longer() {
    let day_of = |byte: u8| PACE.day_of(&NodeId::from_bytes([byte; 32]));
    let days: BTreeSet<u64> = (0..=u8::MAX).map(day_of).collect();
    assert!(days.len() > 100 && days.iter().all(|day| (DAY_S..DAY_S + 7_200).contains(day)));
}

#[test]
fn who_is_long_gone_or_has_nothing_is_no_witness() {
    let records = [audited(NOW_S, 0), silent(20 * DAY_S), silent(3 * DAY_S)];
    let node = |byte: u8| NodeId::from_bytes([byte; 32]);
    let holders = [(1, 1), (2, 1), (3, 0), (4, 1), (5, 1)];
    let holders = holders.into_iter().map(|(byte, chunks)| {
        let record = match byte {
            2 => Some(&records[1]),
            4 => Some(&records[2]),
            5 => None,
            _ => Some(&records[0]),
        };
        (node(byte), chunks, record)
    });
    assert_eq!(witnesses(holders, NOW_S), [1, 4, 5].map(node).into());
}

#[test]
fn silence_is_noted_where_it_is_its_own_and_ends_with_an_answer_to_what_is_owed() {
    let quiet = Ended {
        answers: 0,
        unanswered: 3,
        owes: 3,
        was_silent: false,
        is_incident: false,
        is_own: true,
    };
    assert_eq!(quiet.note(), Note::Silent);
    assert_eq!(Ended { is_own: false, ..quiet }.note(), Note::Nothing, "the line may be down");
    let some = Ended { answers: 1, ..quiet };
    assert_eq!(some.note(), Note::Audited { silent: 3 });
    assert_eq!(Ended { is_own: false, ..some }.note(), Note::Nothing);
    let all = Ended { unanswered: 0, owes: 0, was_silent: true, ..some };
    for is_own in [false, true] {
        assert_eq!(Ended { is_own, ..all }.note(), Note::Audited { silent: 0 });
        let else_ = Ended { owes: 3, is_own, ..all };
        assert_eq!(else_.note(), Note::Nothing, "it answered for something else");
        let found = Ended { is_incident: true, ..else_ };
        assert_eq!(found.note(), Note::Audited { silent: 3 }, "which ends no silence");
        let half = Ended { unanswered: 2, is_incident: true, is_own, ..all };
        assert_eq!(half.note(), Note::Audited { silent: 2 });
    }
    let new = Ended { is_own: false, is_incident: true, ..some };
    assert_eq!(new.note(), Note::Audited { silent: 0 }, "and begins none that is not its own");
}
