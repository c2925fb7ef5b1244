//! A table of policies. The cases are our own; what they expect is what restic documents.

use super::*;
use crate::core::types::{ChunkId, DeviceId, Locality};
use crate::crypto::keys::ChunkKey;
use crate::repo::manifest::Added;
use crate::repo::reference::ChunkRef;
use proptest::prelude::*;

const HOUR_NS: i64 = 3_600_000_000_000;

/// Later than all that is told of here.
const NOW_NS: i64 = i64::MAX;

/// `2026-11-21 15:04` of UTC.
fn time(text: &str) -> i64 {
    let number = |range| text.get(range).map_or(0, |digits: &str| digits.parse().unwrap());
    let day = Date { year: number(0..4), month: number(5..7), day: number(8..10) }.to_day();
    (day * 1_440 + number(11..13) * 60 + number(14..16)) * 60_000_000_000
}

fn snapshot(number: u8, created_ns: i64) -> Candidate {
    Candidate {
        id: SnapshotId::from_bytes([number; 32]),
        created_ns,
        utc_offset_min: 0,
        host: "attic".into(),
        roots: vec![b"/data".to_vec()],
        roots_cut: false,
        tags: Vec::new(),
    }
}

/// Snapshots at these times, oldest first.
fn at(times: &[&str]) -> Vec<Candidate> {
    (1..).zip(times).map(|(number, text)| snapshot(number, time(text))).collect()
}

fn quota(count: u32) -> Quota {
    Quota::of(count)
}

fn span(text: &str) -> Span {
    Span::parse(text).unwrap()
}

/// The numbers of those that are kept, ascending, and the reasons of each.
fn kept_of(candidates: &[Candidate], policy: &Policy) -> Vec<(u8, String)> {
    let groups = retain(candidates, policy, GroupBy::default(), NOW_NS).unwrap();
    let kept = groups.iter().flat_map(|group| &group.kept);
    let mut kept: Vec<(u8, String)> = kept
        .map(|kept| {
            let reasons: Vec<String> = kept.reasons.iter().map(Reason::to_string).collect();
            (kept.id.as_bytes()[0], reasons.join(", "))
        })
        .collect();
    kept.sort();
    let forgotten: usize = groups.iter().map(|group| group.forgotten.len()).sum();
    assert_eq!(kept.len() + forgotten, candidates.len());
    kept
}

fn numbers(candidates: &[Candidate], policy: &Policy) -> Vec<u8> {
    kept_of(candidates, policy).into_iter().map(|(number, _)| number).collect()
}

#[test]
fn policies_keep_what_restic_would() {
    // Two on each of four days, with a day without any, in two months and two years.
    let times = [
        "2025-12-29 08:00", // 1: Monday
        "2025-12-29 20:00", // 2
        "2025-12-31 08:00", // 3
        "2025-12-31 20:00", // 4
        "2026-01-01 08:00", // 5: Thursday of the same week
        "2026-01-01 08:30", // 6
        "2026-01-05 08:00", // 7: the next Monday
        "2026-01-05 20:00", // 8
    ];
    let all = at(&times);
    let none = Policy::default;
    for (policy, expected) in [
        (Policy { last: quota(1), ..none() }, vec![8]),
        (Policy { last: quota(3), ..none() }, vec![6, 7, 8]),
        (Policy { last: quota(100), ..none() }, vec![1, 2, 3, 4, 5, 6, 7, 8]),
        (Policy { last: Quota::All, ..none() }, vec![1, 2, 3, 4, 5, 6, 7, 8]),
        (Policy { hourly: quota(3), ..none() }, vec![6, 7, 8]),
        (Policy { daily: quota(1), ..none() }, vec![8]),
        (Policy { daily: quota(3), ..none() }, vec![4, 6, 8]),
        (Policy { daily: quota(4), ..none() }, vec![2, 4, 6, 8]),
        // A day more than there is: the oldest stands in for it.
        (Policy { daily: quota(5), ..none() }, vec![1, 2, 4, 6, 8]),
        (Policy { daily: quota(6), ..none() }, vec![1, 2, 4, 6, 8]),
        (Policy { daily: Quota::All, ..none() }, vec![1, 2, 4, 6, 8]),
        // The week that the year begins in is one.
        (Policy { weekly: quota(2), ..none() }, vec![6, 8]),
        (Policy { weekly: quota(3), ..none() }, vec![1, 6, 8]),
        (Policy { monthly: quota(2), ..none() }, vec![4, 8]),
        (Policy { monthly: quota(3), ..none() }, vec![1, 4, 8]),
        (Policy { yearly: quota(2), ..none() }, vec![4, 8]),
        (Policy { yearly: quota(10), ..none() }, vec![1, 4, 8]),
        // Options add up.
        (Policy { last: quota(2), daily: quota(2), yearly: quota(2), ..none() }, vec![4, 6, 7, 8]),
        (Policy { within: span("1d"), ..none() }, vec![7, 8]),
        (Policy { within: span("12h"), ..none() }, vec![8]),
        (Policy { within: span("13h"), ..none() }, vec![7, 8]),
        (Policy { within: span("5d"), ..none() }, vec![5, 6, 7, 8]),
        (Policy { within: span("5d1h"), ..none() }, vec![4, 5, 6, 7, 8]),
        (Policy { within: span("4d12h"), ..none() }, vec![6, 7, 8]),
        (Policy { within: span("1m"), ..none() }, vec![1, 2, 3, 4, 5, 6, 7, 8]),
        (Policy { within_daily: span("5d"), ..none() }, vec![6, 8]),
        (Policy { within_daily: span("5d1h"), ..none() }, vec![4, 6, 8]),
        (Policy { within_daily: span("1y"), ..none() }, vec![1, 2, 4, 6, 8]),
        (Policy { within_weekly: span("1m"), ..none() }, vec![1, 6, 8]),
        (Policy { within_monthly: span("6d"), ..none() }, vec![4, 8]),
        (Policy { within_yearly: span("1m"), ..none() }, vec![1, 4, 8]),
        (Policy { within_hourly: span("4d12h"), ..none() }, vec![6, 7, 8]),
    ] {
        assert_eq!(numbers(&all, &policy), expected, "{policy:?}");
    }
}

#[test]
fn each_kept_snapshot_has_its_reasons() {
    let all = at(&["2026-01-01 08:00", "2026-01-01 09:00", "2026-01-02 08:00"]);
    let mut tagged = all.clone();
    tagged[0].tags = vec!["gold".into(), "x".into()];
    let policy = Policy {
        last: quota(1),
        daily: quota(7),
        within: span("2h"),
        within_yearly: span("1y"),
        tags: vec![TagList::parse("x,gold")],
        ..Policy::default()
    };
    let expected = [
        (1, "has tags [x, gold], oldest daily snapshot, yearly within 1y"),
        (2, "daily snapshot"),
        (3, "within 2h, last snapshot, daily snapshot, yearly within 1y"),
    ];
    assert_eq!(kept_of(&tagged, &policy), expected.map(|(at, why)| (at, why.to_owned())));
}

#[test]
fn days_are_those_of_the_clock_that_was_there() {
    // 23:30 and 00:30 on the one clock; one day on the other.
    let mut all = at(&["2026-03-01 22:30", "2026-03-01 23:30"]);
    let daily = Policy { daily: quota(1), ..Policy::default() };
    assert_eq!(numbers(&all, &Policy { daily: quota(2), ..daily.clone() }), [1, 2]);
    assert_eq!(numbers(&all, &daily), [2]);
    let monthly = Policy { monthly: quota(2), last: quota(1), ..Policy::default() };
    for candidate in &mut all {
        candidate.utc_offset_min = -24 * 60 - 30;
    }
    // On the last of February there, and on the first of March.
    assert_eq!(kept_of(&all, &monthly).len(), 2);
    for (offset, days) in [(60, 2), (0, 1), (-23 * 60, 2)] {
        for candidate in &mut all {
            candidate.utc_offset_min = offset;
        }
        let groups = retain(&all, &daily, GroupBy::default(), NOW_NS).unwrap();
        let reasons = &groups[0].kept[0].reasons;
        assert_eq!(reasons, &[Reason::Newest(Period::Day)]);
        let policy = Policy { daily: quota(2), ..Policy::default() };
        let oldest = kept_of(&all, &policy)[0].1.clone();
        let expected = if days == 2 { "daily snapshot" } else { "oldest daily snapshot" };
        assert_eq!(oldest, expected, "{offset}");
    }
}

#[test]
fn spans_are_taken_off_the_calendar() {
    let newest = "2024-03-31 12:00";
    let within = |older: &str, text: &str| {
        let policy = Policy { within: span(text), ..Policy::default() };
        numbers(&at(&[older, newest]), &policy).len() == 2
    };
    // 31 February 2024 is 2 March.
    assert!(!within("2024-03-02 12:00", "1m") && within("2024-03-02 12:01", "1m"));
    assert!(!within("2024-02-29 12:00", "1m1d12h") && within("2024-03-01 00:01", "1m1d12h"));
    assert!(!within("2023-03-31 12:00", "1y") && within("2023-03-31 12:01", "1y"));
    assert!(!within("2022-12-31 12:00", "1y3m") && within("2022-12-31 12:01", "1y3m"));
    assert!(!within("2024-03-30 11:00", "25h") && within("2024-03-30 11:01", "25h"));
    // Days of the calendar, and no span is too long for it.
    assert!(within("1900-01-01 00:00", "4294967295y4294967295m4294967295d4294967295h"));
}

#[test]
fn spans_begin_at_the_newest_snapshot_that_is_not_of_the_future() {
    let all = at(&["2026-01-01 00:00", "2026-01-03 00:00", "2036-01-01 00:00"]);
    let policy = Policy { within: span("1d"), ..Policy::default() };
    let kept = |now: &str| {
        let groups = retain(&all, &policy, GroupBy::default(), time(now)).unwrap();
        let mut kept: Vec<u8> = groups[0].kept.iter().map(|kept| kept.id.as_bytes()[0]).collect();
        kept.sort_unstable();
        kept
    };
    // One device's clock was ten years ahead.
    assert_eq!(kept("2026-01-04 00:00"), [2, 3]);
    assert_eq!(kept("2036-01-02 00:00"), [3]);
    // Whoever asks lives in the past: nothing is old then.
    assert_eq!(kept("1970-01-02 00:00"), [1, 2, 3]);
}

#[test]
fn tags_keep_whatever_has_them() {
    let mut all = at(&["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"]);
    for (candidate, tags) in all.iter_mut().zip(["a", "a b", "b", ""]) {
        candidate.tags = tags.split_whitespace().map(str::to_owned).collect();
    }
    let by = GroupBy::default();
    let kept = |lists: &[&str]| -> Vec<u8> {
        let tags = lists.iter().map(|list| TagList::parse(list)).collect();
        numbers(&all, &Policy { tags, ..Policy::default() })
    };
    assert_eq!(kept(&["a"]), [1, 2]);
    assert_eq!(kept(&["a,b"]), [2]);
    assert_eq!(kept(&["a", "b"]), [1, 2, 3]);
    assert_eq!(kept(&[""]), [4]);
    assert_eq!(kept(&["", "a,b"]), [2, 4]);
    // Nothing has this: all would go.
    let policy = Policy { tags: vec![TagList::parse("c")], ..Policy::default() };
    assert!(matches!(retain(&all, &policy, by, NOW_NS), Err(RetainFault::Group(_))));
}

#[test]
fn groups_are_of_one_host_and_the_same_paths() {
    let mut all = at(&["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04", "2026-01-05"]);
    all[1].host = "cellar".into();
    all[2].roots = vec![b"/b".to_vec(), b"/a".to_vec()];
    all[3].roots = vec![b"/a".to_vec(), b"/b".to_vec()];
    all[4].tags = vec!["x".into()];
    let last = Policy { last: quota(1), ..Policy::default() };
    let kept = |by: &str| -> Vec<(String, u8)> {
        let groups = retain(&all, &last, GroupBy::parse(by).unwrap(), NOW_NS).unwrap();
        let of = |group: &Group| (group.key.to_string(), group.kept[0].id.as_bytes()[0]);
        groups.iter().map(of).collect()
    };
    let expected = |groups: &[(&str, u8)]| -> Vec<(String, u8)> {
        groups.iter().map(|(key, number)| ((*key).to_owned(), *number)).collect()
    };
    let both = [
        ("host attic, paths /a /b", 4),
        ("host attic, paths /data", 5),
        ("host cellar, paths /data", 2),
    ];
    assert_eq!(kept("host,paths"), expected(&both));
    assert_eq!(kept("hosts"), expected(&[("host attic", 5), ("host cellar", 2)]));
    assert_eq!(kept("paths"), expected(&[("paths /a /b", 4), ("paths /data", 5)]));
    assert_eq!(kept(""), expected(&[("all", 5)]));
    assert_eq!(kept("tags"), expected(&[("tags ", 4), ("tags x", 5)]));
    assert_eq!(GroupBy::parse("host,paths"), Ok(GroupBy::default()));
    assert_eq!(GroupBy::parse("host,colour"), Err(OptionFault::GroupBy));
}

#[test]
fn a_policy_that_keeps_nothing_is_refused() {
    let all = at(&["2026-01-01"]);
    let retain = |policy: &Policy| retain(&all, policy, GroupBy::default(), NOW_NS);
    assert_eq!(retain(&Policy::default()), Err(RetainFault::Empty));
    let zero = Policy { last: quota(0), within: Span::default(), ..Policy::default() };
    assert_eq!(retain(&zero), Err(RetainFault::Empty));
    let tags = vec![TagList::parse("gold")];
    let text = retain(&Policy { tags, ..Policy::default() }).unwrap_err().to_string();
    assert_eq!(text, "the policy keeps nothing of host attic, paths /data");
    // Where nothing is, nothing is forgotten.
    let last = Policy { last: quota(1), ..Policy::default() };
    assert_eq!(super::retain(&[], &last, GroupBy::default(), NOW_NS), Ok(Vec::new()));
}

#[test]
fn paths_that_are_not_all_known_make_no_groups() {
    let mut all = at(&["2026-01-01", "2026-01-02"]);
    all[0].roots_cut = true;
    let last = Policy { last: quota(1), ..Policy::default() };
    let fault = retain(&all, &last, GroupBy::default(), NOW_NS).unwrap_err();
    assert_eq!(fault, RetainFault::RootsCut(all[0].id));
    assert!(retain(&all, &last, GroupBy::parse("host").unwrap(), NOW_NS).is_ok());
}

#[test]
fn options_are_read_as_they_are_shown() {
    for text in ["1y6m7d12h", "2h", "30d", "4294967295y"] {
        assert_eq!(span(text).to_string(), text);
    }
    assert_eq!(span("12h1y"), Span { years: 1, hours: 12, ..Span::default() });
    assert!(span("0d").is_zero());
    for text in ["", "7", "d", "7w", "1d1d", "-1d", "+1d", "1 d", "4294967296d", "1d2"] {
        assert_eq!(Span::parse(text), Err(OptionFault::Span), "{text}");
    }
    assert_eq!(Quota::parse("7"), Ok(quota(7)));
    assert_eq!(Quota::parse("0"), Ok(Quota::None));
    assert_eq!((Quota::parse("unlimited"), Quota::parse("-1")), (Ok(Quota::All), Ok(Quota::All)));
    for text in ["", "-2", "+1", "1.5", "all", "4294967296"] {
        assert_eq!(Quota::parse(text), Err(OptionFault::Quota), "{text}");
    }
}

#[test]
fn what_was_put_is_tagged_so() {
    let added = Added {
        id: SnapshotId::from_bytes([1; 32]),
        reference: ChunkRef {
            ck: ChunkKey::from_bytes([1; 32]),
            id: ChunkId::from_bytes([1; 32]),
            locality: Locality(1),
            bytes: 0,
        },
        created_ns: 5,
        utc_offset_min: 60,
        partial: false,
        put: true,
        roots_cut: false,
        files: 1,
        bytes: 1,
        new_bytes: 1,
        host: "attic".into(),
        roots: vec![b"/data".to_vec()],
        tags: vec!["mine".into()],
    };
    let live = merge::Live { added, index: 0, device: DeviceId::from_bytes([1; 16]) };
    let candidate = Candidate::of(&live);
    assert_eq!(candidate.tags, ["put", "mine"]);
    assert_eq!((candidate.created_ns, candidate.utc_offset_min), (5, 60));
}

prop_compose! {
    fn any_policy()(
        counts in proptest::array::uniform6(0..5_u32),
        hours in proptest::array::uniform6(0..2_000_u32),
    ) -> Policy {
        let [last, hourly, daily, weekly, monthly, yearly] = counts.map(quota);
        let span = |hours: u32| Span { hours: hours.saturating_sub(1_000), ..Span::default() };
        let spans = hours.map(span);
        let [within, within_hourly, within_daily, within_weekly, within_monthly, within_yearly] =
            spans;
        Policy {
            last, hourly, daily, weekly, monthly, yearly,
            within, within_hourly, within_daily, within_weekly, within_monthly, within_yearly,
            tags: Vec::new(),
        }
    }
}

proptest! {
    #[test]
    fn whatever_the_policy_the_newest_stays_and_a_second_time_changes_nothing(
        policy in any_policy(),
        hours in proptest::collection::vec((0..20_000_i64, -800..800_i16), 1..40),
    ) {
        prop_assume!(!policy.is_empty());
        let all: Vec<Candidate> = (0..)
            .zip(&hours)
            .map(|(number, (hours, utc_offset_min))| {
                let made = snapshot(number, hours * HOUR_NS);
                Candidate { utc_offset_min: *utc_offset_min, ..made }
            })
            .collect();
        let groups = retain(&all, &policy, GroupBy::default(), NOW_NS).unwrap();
        let [group] = groups.as_slice() else { panic!("one group") };
        let newest = all.iter().map(|one| one.created_ns).max();
        let of = |id: &SnapshotId| all.iter().find(|one| one.id == *id).unwrap();
        prop_assert_eq!(Some(of(&group.kept[0].id).created_ns), newest);
        prop_assert!(group.kept.iter().all(|kept| !kept.reasons.is_empty()));
        prop_assert_eq!(group.kept.len() + group.forgotten.len(), all.len());
        // The rest is kept again: a policy that runs every day does not eat up what it kept.
        let rest: Vec<Candidate> = group.kept.iter().map(|kept| of(&kept.id).clone()).collect();
        let again = retain(&rest, &policy, GroupBy::default(), NOW_NS).unwrap();
        prop_assert!(again[0].forgotten.is_empty(), "{:?}", again[0].forgotten);
    }
}
