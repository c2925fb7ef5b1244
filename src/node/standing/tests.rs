//! Records to reports, and these to words.

use super::*;
use crate::core::types::StoreEpoch;
use crate::repo::catalog::HolderAudited;

const NOW_S: u64 = 1_700_000_000;
const DAY_S: u64 = 24 * 3_600;

fn audit(at_s: u64, change: impl FnOnce(&mut AuditOutcome)) -> HolderAudited {
    let of = (NodeId::from_bytes([1; 32]), StoreEpoch::from_bytes([2; 16]));
    let mut audit = HolderAudited::begun(of, at_s, 10);
    audit.outcome.proven = 9;
    change(&mut audit.outcome);
    audit
}

fn record(make: impl FnOnce(&mut AuditRecord)) -> AuditRecord {
    let mut record = AuditRecord::default();
    make(&mut record);
    record
}

#[test]
fn a_holder_reads_the_words_that_its_owner_reads_whatever_led_there() {
    let days = |from: u64| (1..=from).rev().map(|days| NOW_S - days * DAY_S);
    let records = [
        ("unknown", "nothing was proven", record(|_| {})),
        ("proven", "it proved", record(|of| of.on_audited(audit(NOW_S, |_| {})))),
        ("damaged", "some was", record(|of| of.on_audited(audit(NOW_S, |of| of.damaged = 1)))),
        ("late", "not heard of", record(|of| of.on_silent(NOW_S))),
        ("suspect", "not heard of", record(|of| days(4).for_each(|at| of.on_silent(at)))),
        ("lost", "it proves what", record(|of| days(20).for_each(|at| of.on_withheld(at)))),
        ("liar", "it answered", record(|of| of.on_audited(audit(NOW_S, |of| of.lied = 1)))),
        ("liar", "it answered", record(|of| of.lied_s = Some(NOW_S))),
    ];
    for (standing, begins, record) in records {
        let (word, why) = told_of(&record, NOW_S);
        assert!(word == standing && why.starts_with(begins), "{standing}: {word}, {why}");
        let heard = StandingReport::decode(&report_of(&record, NOW_S).encode()).unwrap();
        let read = says(Ok(heard));
        let read = (read.answer, read.standing.as_str(), read.why);
        assert_eq!(read, (OwnerAnswer::Told, word, why));
    }
}

#[test]
fn dates_and_counts_go_with_the_words() {
    let record = record(|of| {
        of.on_audited(audit(NOW_S - DAY_S, |of| (of.missing, of.released) = (1, 2)));
        of.on_withheld(NOW_S - 60);
        of.on_audited(audit(NOW_S, |_| {}));
    });
    let says = says(Ok(report_of(&record, NOW_S)));
    let last = SaidAudit { at: NOW_S, asked: 10, proven: 9, ..SaidAudit::default() };
    let before = SaidAudit { at: NOW_S - DAY_S, missing: 1, released: 2, ..last };
    let silence = SaidSilence { withheld: true, since: NOW_S - 60, misses: 1 };
    assert_eq!(
        (says.last, says.incidents, says.silence),
        (Some(last), vec![before], Some(silence))
    );
}

#[test]
fn of_many_incidents_lies_are_told_before_others_and_then_the_newest() {
    let record = record(|of| {
        for number in 0..14 {
            of.on_audited(audit(NOW_S + number, |of| match number {
                1 | 2 => of.lied = 1,
                _ => of.damaged = 1,
            }));
        }
    });
    let told: Vec<u64> =
        report_of(&record, NOW_S).incidents.iter().map(|of| of.at_s - NOW_S).collect();
    assert_eq!(told, [1, 2, 8, 9, 10, 11, 12, 13]);
}

#[test]
fn a_report_that_lacks_what_its_word_is_made_of_is_told_all_the_same() {
    for standing in [Standing::Late, Standing::Damaged, Standing::Liar] {
        let report = StandingReport { standing, ..StandingReport::default() };
        let (word, why) = told(&report);
        assert!(!word.is_empty() && !why.is_empty());
        assert!(!why.contains(" on "), "there is no date: {why}");
    }
}

#[test]
fn an_owner_that_says_nothing_is_told_with_why() {
    for (unsaid, answer, part) in [
        (Unsaid::NoAccount, OwnerAnswer::Nothing, "knows of nothing"),
        (Unsaid::Busy, OwnerAnswer::Busy, "too busy"),
        (Unsaid::Silent, OwnerAnswer::Silent, "did not answer within 5 s"),
        (Unsaid::Forged, OwnerAnswer::Wrong, "not made with its keys"),
    ] {
        let says = says(Err(unsaid));
        assert_eq!((says.answer, says.standing.as_str()), (answer, ""));
        assert!(says.why.contains(part) && says.last.is_none(), "{}", says.why);
    }
}
