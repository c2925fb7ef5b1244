//! What deeds and audits are worth, how long a setback lasts, and that nobody is told.

use super::*;

const NOW_S: u64 = 1_800_000_000;

fn after(deeds: impl IntoIterator<Item = Deed>) -> Conduct {
    let mut conduct = Conduct::default();
    deeds.into_iter().for_each(|deed| conduct.on(deed));
    conduct
}

fn acked(ms: u64, in_time: bool) -> Deed {
    Deed::Acked { after: Duration::from_millis(ms), in_time }
}

fn served(bytes: usize, ms: u64) -> Deed {
    Deed::Served { bytes, after: Duration::from_millis(ms) }
}

fn many(deed: Deed, times: usize) -> impl Iterator<Item = Deed> {
    std::iter::repeat_n(deed, times)
}

#[test]
fn credit_has_a_low_top_and_a_deep_bottom() {
    let good = after(many(acked(10, true), 1_000));
    let bad = after(many(Deed::Late(1), 1_000));
    assert_eq!((good.credit, bad.credit), (CREDIT_BEST, CREDIT_WORST));
}

#[test]
fn a_liar_is_never_placed_and_who_is_suspect_or_lost_comes_last() {
    let good = after(many(acked(10, true), 100));
    let worst = after(many(Deed::Lied, 100));
    let score = |conduct: &Conduct, standing| score(conduct, standing);
    assert_eq!(score(&good, Standing::Liar), None);
    for standing in [Standing::Suspect, Standing::Lost] {
        assert!(score(&good, standing) < score(&worst, Standing::Unknown));
    }
    let order = [
        score(&good, Standing::Proven),
        score(&good, Standing::Unknown),
        score(&Conduct::default(), Standing::Unknown),
        score(&good, Standing::Late),
        score(&good, Standing::Damaged),
        score(&worst, Standing::Unknown),
        score(&good, Standing::Lost),
        score(&good, Standing::Liar),
    ];
    assert!(order.is_sorted_by(|better, worse| better > worse), "{order:?}");
    assert_eq!(order[2], Some(0), "a newcomer is neither good nor bad");
}

#[test]
fn who_keeps_breaking_grants_comes_later_though_it_keeps_most() {
    // Two of three: each ack that comes makes good for a part of the next silence alone.
    let deeds = many(acked(10, true), 20).chain(many(Deed::Late(10), 1));
    let breaking = after(deeds.chain(many(acked(10, true), 3)));
    assert!(breaking.keeps_breaking() && breaking.credit >= 0, "{breaking:?}");
    assert!(score(&breaking, Standing::Unknown) < Some(0));
    let once = after(many(acked(10, true), 60).chain([Deed::Late(200)]));
    assert!(!once.keeps_breaking(), "one silence, however much was on its way");
    let mended = after([Deed::Late(8)].into_iter().chain(many(acked(10, true), 30)));
    assert!(!mended.keeps_breaking());
}

#[test]
fn a_new_name_is_no_better_than_an_honest_holder_that_had_a_hiccup() {
    let stranger = score(&Conduct::default(), Standing::Unknown);
    let worn = || many(acked(25_000, true), 100);
    let hiccups: [&[Deed]; 4] =
        [&[], &[Deed::Late(200)], &[Deed::Late(3), Deed::ServedLate], &[Deed::Unreachable; 4]];
    for hiccup in hiccups {
        let honest = after(worn().chain(hiccup.iter().copied()));
        assert!(score(&honest, Standing::Proven) >= stranger, "{honest:?}");
    }
    // And no worse than whoever left a name behind.
    for left in [Deed::WrongBytes, Deed::Lied] {
        let bad = after(worn().chain([left]));
        assert!(score(&bad, Standing::Proven) < stranger, "{bad:?}");
    }
}

#[test]
fn what_is_remembered_is_bounded_and_of_late() {
    let old = after(many(Deed::Late(8), 1_000));
    assert!(old.late <= ACKS_REMEMBERED && old.keeps_breaking());
    let mut conduct = old;
    many(acked(10, true), 4_000).for_each(|deed| conduct.on(deed));
    assert!(!conduct.keeps_breaking() && conduct.kept + conduct.late <= ACKS_REMEMBERED);
}

#[test]
fn a_mean_follows_what_is_seen_and_forgets_slowly() {
    let mut conduct = after([acked(400, true)]);
    assert_eq!(conduct.ack_ms, 400);
    conduct.on(acked(800, true));
    assert_eq!(conduct.ack_ms, 500);
    many(acked(0, true), 100).for_each(|deed| conduct.on(deed));
    assert!((1..=4).contains(&conduct.ack_ms), "{}", conduct.ack_ms);
    let slow = after([acked(u64::MAX, true), acked(u64::MAX, true)]);
    assert!(slow.ack_ms > u32::MAX / 2, "{}", slow.ack_ms);
}

#[test]
fn slow_acks_cost_little_and_much_served_is_worth_a_little() {
    let with = |ms| score(&after(many(acked(ms, true), 50)), Standing::Unknown);
    assert_eq!([10, 6_000, 30_000].map(with), [3, 2, 1].map(Some));
    let much = after(many(served(4 << 20, 100), 20));
    assert_eq!((much.served_bytes, score(&much, Standing::Unknown)), (80 << 20, Some(4)));
}

#[test]
fn the_quick_and_the_trusted_are_asked_first_for_a_chunk() {
    let rank = |ms, standing| fetch_rank(&after([served(1, ms)]), standing);
    let unknown = fetch_rank(&Conduct::default(), Standing::Unknown);
    assert_eq!((unknown, rank(100, Standing::Proven)), ((0, 0), (0, 0)));
    let order = [
        rank(100, Standing::Unknown),
        rank(1_000, Standing::Unknown),
        rank(3_000, Standing::Unknown),
        rank(100, Standing::Damaged),
        rank(100, Standing::Lost),
        rank(100, Standing::Liar),
    ];
    assert!(order.is_sorted_by(|first, then| first < then), "{order:?}");
}

#[test]
fn what_is_bad_fades_and_what_is_good_stays() {
    let bad = after([Deed::WrongBytes, Deed::WrongBytes]);
    let left = [0, 1, 2, 6, 7, 99].map(|weeks| bad.faded(FADES * weeks).credit);
    assert_eq!(left, [-64, -32, -16, -1, 0, 0]);
    assert_eq!(bad.faded(FADES - Duration::from_secs(1)).credit, -64);
    let good = after([served(9, 9)]);
    assert_eq!(good.faded(Duration::MAX), good);
}

#[test]
fn each_loss_doubles_the_rest_up_to_32_days_and_what_is_found_meanwhile_does_not() {
    for first in [Losses::Proven, Losses::NeverProven] {
        let (mut setback, mut at_s) = (Setback::default(), NOW_S);
        assert_eq!(setback.until_s(NOW_S), None);
        if first == Losses::Proven {
            setback.on_audited(at_s, first);
            assert_eq!(setback.until_s(at_s), None, "once is no rest");
            at_s += DAY_S;
        }
        for days in [1, 2, 4, 8, 16, 32, 32] {
            setback.on_audited(at_s, first);
            assert_eq!(setback.until_s(at_s), Some(at_s + days * DAY_S));
            // Another part of the same loss.
            at_s += 3_600;
            setback.on_audited(at_s, Losses::Proven);
            let until_s = at_s + days * DAY_S;
            assert_eq!(setback.until_s(until_s - 1), Some(until_s));
            assert_eq!(setback.until_s(until_s), None);
            at_s = until_s;
        }
    }
}

#[test]
fn what_a_disk_lost_once_is_found_over_a_day_and_costs_no_rest() {
    let mut setback = Setback::default();
    for hour in 0..24 {
        setback.on_audited(NOW_S + hour * 3_600, Losses::Proven);
        assert_eq!((setback.steps, setback.until_s(NOW_S + hour * 3_600)), (1, None));
    }
    // But what it never proved is another matter.
    setback.on_audited(NOW_S + DAY_S - 1, Losses::NeverProven);
    assert_eq!(setback.until_s(NOW_S + DAY_S), Some(NOW_S + 2 * DAY_S - 1));
}

#[test]
fn as_long_again_without_a_loss_wins_a_setback_back_step_by_step() {
    let of = |day: u64| {
        let mut setback = Setback { steps: 4, since_s: NOW_S };
        // Each day, or only then: it is the same.
        (0..=day).for_each(|day| setback.on_audited(NOW_S + day * DAY_S, Losses::None));
        let mut once = Setback { steps: 4, since_s: NOW_S };
        once.on_audited(NOW_S + day * DAY_S, Losses::None);
        assert_eq!(once, setback);
        assert!(day < 4 || setback.until_s(NOW_S + day * DAY_S).is_none(), "it rests anew");
        setback.steps
    };
    assert_eq!([0, 4, 7, 8, 9, 10, 11, 12, 99].map(of), [4, 4, 4, 3, 3, 2, 1, 0, 0]);
}

#[test]
fn a_clock_that_jumps_never_keeps_a_holder_out_for_longer() {
    let mut setback = Setback::default();
    setback.on_audited(NOW_S + 3_650 * DAY_S, Losses::NeverProven);
    assert_eq!(setback.until_s(NOW_S), None, "found while the clock was ten years ahead");
    setback.on_audited(NOW_S, Losses::NeverProven);
    assert_eq!(setback.until_s(NOW_S), Some(NOW_S + 2 * DAY_S));
}

/// What travels is what the schema has fields for, what the messages and their codec name, and what
/// the network hands over. How audits judge a holder travels to that very holder, where it asks,
/// and in no other message.
#[test]
fn nothing_that_travels_names_any_of_it() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = ["proto/quloud", "src/net", "src/core/codec", "src/core/message"];
    let mut open: Vec<_> = places.iter().map(|place| root.join(place)).collect();
    open.extend(
        ["net.rs", "core/codec.rs", "core/message.rs"].map(|file| root.join("src").join(file)),
    );
    let (mut read, mut schema) = (0, 0);
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let answers = ["core/message/standing.rs", "core/codec/tests/standing.rs"];
        let mut names = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        let judges = names.any(|name| name == "Standing");
        let is_answer = answers.iter().any(|answer| path.ends_with(answer));
        assert_eq!(judges, is_answer, "whether {} names a standing", path.display());
        let text = text.to_lowercase();
        for word in ["reputation", "conduct", "setback", "credit", "trust"] {
            assert!(!text.contains(word), "{word} in {}", path.display());
        }
        read += 1;
        schema += usize::from(path.extension().is_some_and(|end| end == "proto"));
    }
    assert!(read > 20 && schema > 0, "{read} files, {schema} of the schema");
}
