//! When a job is due: the rule for all that a node does again and again. Pure: times are arguments.
//!
//! **Slots.** A job of a period has a slot in each, at a second that depends on the node and the
//! job: so a mesh's nodes do not all begin at once, and a daily backup keeps its hour. The next run
//! is in the first slot that is a quarter of the period away from the run before, at least: so
//! there are never more than five quarters between two.
//!
//! **Missed.** A slot that passed while the node was off, or that finds the clock ahead of it, is
//! made up for once, soon after the start.
//!
//! **Failed.** A run that failed is tried again after a minute, then after twice as long each time,
//! up to the period, and to 6 hours or a thirtieth of the period, whichever is longer.
//!
//! **Short.** A run that came to something, and not to all of it, is followed by another a quarter
//! of the period later, slot or not.
//!
//! **Clocks.** A run that lies ahead of the clock is one of which nothing is known: the job runs
//! once, and from then on by what the clock says. The node's own uptime, which no clock changes,
//! keeps the end of a run and the next one apart: half the period, and an hour at most. So a clock
//! that jumps costs one run for each jump at most, however often it does, and never stops a job.

use crate::config::every::Every;
use crate::core::types::NodeId;
use serde::{Deserialize, Serialize};

/// The longest that two runs are kept apart by the node's uptime alone: 1 hour, in seconds.
const APART_S_MAX: u64 = 3_600;

/// The longest pause before a run that failed is tried again, of what is done weekly or more
/// often: 6 hours, in seconds. Else a thirtieth of the period.
const RETRY_S_MAX: u64 = 6 * 3_600;

/// The first such pause, in seconds.
const RETRY_S_FIRST: u64 = 60;

/// What is remembered of a job. Times are seconds since 1970 by the clock of then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Past {
    /// When the last run that came to something began.
    #[serde(default)]
    pub(super) last_s: Option<u64>,
    /// When the last run began, whatever came of it.
    #[serde(default)]
    pub(super) tried_s: Option<u64>,
    /// Runs in a row that failed since.
    #[serde(default)]
    pub(super) failures: u32,
    /// That run did not come to all that it was for.
    #[serde(default)]
    pub(super) is_short: bool,
}

impl Past {
    /// It ran, and came to something.
    pub(super) fn done(&mut self, began_s: u64) {
        let began_s = Some(began_s);
        *self = Self { last_s: began_s, tried_s: began_s, ..Self::default() };
    }

    /// It ran, and failed.
    pub(super) fn failed(&mut self, began_s: u64) {
        self.tried_s = Some(began_s);
        self.failures = self.failures.saturating_add(1);
    }
}

/// What time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    /// By the wall clock: seconds since 1970.
    pub(super) now_s: u64,
    /// For how long the node runs, in seconds.
    pub(super) up_s: u64,
    /// How long after its start a node begins with what was missed: up to twice this, in seconds.
    pub(super) settle_s: u64,
}

/// When to run a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// At once.
    Now,
    /// At this time of the wall clock, in seconds since 1970.
    At(u64),
    /// Not by itself.
    Never,
}

/// When this job is to run. `seed` is the job's own, drawn from the node and its name: see
/// [`seed`]. `ended_up_s` is for how long the node had run when the job last ended in this run.
pub(super) fn due(
    every: Every,
    seed: u64,
    past: &Past,
    clock: Clock,
    ended_up_s: Option<u64>,
) -> Due {
    let Some(every_s) = every.seconds().map(|every_s| every_s.max(1)) else { return Due::Never };
    let Clock { now_s, up_s, settle_s } = clock;
    let believed = |at_s: Option<u64>| at_s.filter(|at_s| *at_s <= now_s);
    let (last_s, tried_s) = (believed(past.last_s), believed(past.tried_s));
    let pause_s = retry_s(every_s, past.failures, seed);
    let wall_s = match (past.failures, last_s) {
        (0, Some(last_s)) => match last_s.saturating_add(every_s / 4) {
            from_s if past.is_short => from_s,
            from_s => slot_from(from_s, every_s, seed),
        },
        (0, None) => now_s,
        (_, _) => tried_s.map_or(now_s, |tried_s| tried_s.saturating_add(pause_s)),
    };
    let apart_s = match past.failures {
        0 => (every_s / 2).min(APART_S_MAX),
        _ => pause_s,
    };
    // By the uptime: neither before the node has settled, nor too soon after the run before.
    let settled_s = settle_s.saturating_add(seed % settle_s.max(1));
    let apart_s = ended_up_s.map_or(0, |ended_s| ended_s.saturating_add(apart_s));
    let wait_s = settled_s.max(apart_s).saturating_sub(up_s);
    match wall_s.max(now_s.saturating_add(wait_s)) {
        at_s if at_s <= now_s => Due::Now,
        at_s => Due::At(at_s),
    }
}

/// The first slot from `from_s` on.
fn slot_from(from_s: u64, every_s: u64, seed: u64) -> u64 {
    let phase_s = seed % every_s;
    let into_s = (from_s % every_s).abs_diff(phase_s);
    let wait_s = match from_s % every_s <= phase_s {
        true => into_s,
        false => every_s - into_s,
    };
    from_s.saturating_add(wait_s)
}

/// How long after its begin a run that failed is tried again.
fn retry_s(every_s: u64, failures: u32, seed: u64) -> u64 {
    let doubled = 1_u64.checked_shl(failures.saturating_sub(1).min(32)).unwrap_or(u64::MAX);
    let longest_s = RETRY_S_MAX.max(every_s / 30).min(every_s);
    let pause_s = RETRY_S_FIRST.saturating_mul(doubled).min(longest_s);
    // A quarter more at most, another share for each job.
    pause_s + seed % (pause_s / 4).max(1)
}

/// A job's own number, the same after each start.
pub(super) fn seed(node: &NodeId, job: &str) -> u64 {
    let parts: [&[u8]; 3] = [b"a time for a job", node.as_bytes(), job.as_bytes()];
    let [a, b, c, d, e, f, g, h, ..] = crate::crypto::sha256(&parts);
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY_S: u64 = 86_400;
    /// Some day.
    const TODAY_S: u64 = 20_000 * DAY_S;
    const TEN_YEARS_S: u64 = 3_652 * DAY_S;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    fn at(now_s: u64, up_s: u64) -> Clock {
        Clock { now_s, up_s, settle_s: 60 }
    }

    fn ran(last_s: u64) -> Past {
        Past { last_s: Some(last_s), tried_s: Some(last_s), ..Past::default() }
    }

    /// How often a job runs from minute to minute, with the wall clock that `clock` makes of the
    /// minutes since the start.
    fn runs(every: Every, minutes: u64, past: &mut Past, clock: impl Fn(u64) -> u64) -> Vec<u64> {
        let (mut ended_up_s, mut runs) = (None, Vec::new());
        for minute in 0..minutes {
            let (now_s, up_s) = (clock(minute), minute * 60);
            if due(every, 12_345, past, at(now_s, up_s), ended_up_s) == Due::Now {
                past.done(now_s);
                ended_up_s = Some(up_s);
                runs.push(minute);
            }
        }
        runs
    }

    #[test]
    fn a_job_that_never_ran_runs_once_the_node_has_settled() {
        let first = |up_s| due(Every::DAILY, 7, &Past::default(), at(TODAY_S, up_s), None);
        assert_eq!(first(0), Due::At(TODAY_S + 67));
        assert_eq!((first(66), first(67)), (Due::At(TODAY_S + 1), Due::Now));
        assert_eq!(due(Every::Never, 7, &Past::default(), at(TODAY_S, 99), None), Due::Never);
    }

    #[test]
    fn a_daily_job_keeps_its_hour_and_runs_once_a_day() {
        let seed = 9 * 3_600;
        let evening = TODAY_S + 20 * 3_600;
        let up = |now_s| at(now_s, DAY_S);
        // Missed in the morning, made up for in the evening: the next is in the morning again.
        let next = TODAY_S + DAY_S + seed;
        assert_eq!(due(Every::DAILY, seed, &ran(evening), up(evening + 60), None), Due::At(next));
        assert_eq!(due(Every::DAILY, seed, &ran(evening), up(next), None), Due::Now);
        let after = due(Every::DAILY, seed, &ran(next), up(next + 1), None);
        assert_eq!(after, Due::At(next + DAY_S));
    }

    #[test]
    fn what_was_missed_while_the_node_was_off_is_made_up_for_once() {
        let mut past = ran(TODAY_S - 40 * DAY_S);
        let made = runs(Every::HOURLY, 60, &mut past, |minute| TODAY_S + minute * 60);
        assert!(made[0] <= 2 && made.len() <= 2, "{made:?}");
        let made = runs(Every::DAILY, 3 * 1_440, &mut ran(TODAY_S - 1), |m| TODAY_S + m * 60);
        assert!(made.len() >= 2 && made.windows(2).all(|pair| pair[1] - pair[0] == 1_440));
    }

    #[test]
    fn a_failed_run_is_tried_again_after_longer_and_longer_pauses() {
        let mut past = ran(TODAY_S - DAY_S);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            past.failed(TODAY_S);
            let Due::At(next) = due(Every::DAILY, 0, &past, at(TODAY_S, 500), Some(500)) else {
                panic!("at once")
            };
            pauses.push(next - TODAY_S);
        }
        assert_eq!(pauses[..4], [60, 120, 240, 480]);
        assert!(pauses.is_sorted() && pauses.iter().all(|pause| *pause <= RETRY_S_MAX));
        past.failures = u32::MAX;
        assert_eq!(due(Every::HOURLY, 0, &past, at(TODAY_S + 3_600, 9_999), None), Due::Now);
        past.done(TODAY_S);
        assert_eq!(past, ran(TODAY_S));
    }

    #[test]
    fn a_run_that_came_short_is_followed_by_another_a_quarter_of_the_period_later() {
        let past = Past { is_short: true, ..ran(TODAY_S) };
        let then = TODAY_S + 30 * DAY_S / 4;
        let next = |now_s| due(Every::MONTHLY, 5 * DAY_S, &past, at(now_s, DAY_S), None);
        assert_eq!((next(TODAY_S + 60), next(then - 1)), (Due::At(then), Due::At(then)));
        assert_eq!(next(then), Due::Now);
        let mut again = past;
        again.done(then);
        assert!(!again.is_short);
    }

    #[test]
    fn another_node_and_another_job_begin_at_another_time() {
        let all: std::collections::BTreeSet<u64> = ["backup:a", "backup:b", "drill:a"]
            .iter()
            .flat_map(|job| [1, 2].map(|number| seed(&node(number), job) % DAY_S))
            .collect();
        assert_eq!(all.len(), 6);
        assert_eq!(seed(&node(1), "backup:a"), seed(&node(1), "backup:a"));
    }

    #[test]
    fn a_clock_that_jumps_ten_years_ahead_and_back_costs_a_run_each_time_and_stops_nothing() {
        for every in [Every::HOURLY, Every::DAILY, Every::MONTHLY] {
            let mut past = ran(TODAY_S - 60);
            // Two days as they are, two days ten years ahead, and then as they are.
            let made = runs(every, 8 * 1_440, &mut past, |minute| {
                let ahead_s = if (2_880..5_760).contains(&minute) { TEN_YEARS_S } else { 0 };
                TODAY_S + minute * 60 + ahead_s
            });
            let regular = 8 * DAY_S / every.seconds().unwrap() + 1;
            assert!((made.len() as u64) <= regular + 2, "{every}: {made:?}");
            let ahead = made.iter().filter(|minute| (2_880..5_760).contains(*minute)).count();
            let back = made.iter().filter(|minute| **minute >= 5_760).count();
            assert!(ahead >= 1 && back >= 1, "{every}: {made:?}");
            assert!(past.last_s < Some(TODAY_S + TEN_YEARS_S), "{every}");
        }
    }

    #[test]
    fn a_clock_that_jumps_ten_years_back_stops_nothing() {
        for every in [Every::HOURLY, Every::DAILY, Every::WEEKLY] {
            let every_s = every.seconds().unwrap();
            let minutes = 3 * every_s / 60;
            let clock = |minute: u64| TODAY_S + minute * 60 - TEN_YEARS_S;
            let made = runs(every, minutes, &mut ran(TODAY_S - 60), clock);
            assert!((2..=4).contains(&made.len()), "{every}: {made:?}");
        }
    }

    #[test]
    fn a_clock_that_flaps_each_minute_makes_no_flood() {
        let flaps = |minute: u64| TODAY_S + minute * 60 + (minute % 2) * TEN_YEARS_S;
        let made = runs(Every::DAILY, 1_440, &mut ran(TODAY_S - 60), flaps);
        assert!(made.len() <= 24, "{made:?}");
        let made = runs(Every::HOURLY, 1_440, &mut ran(TODAY_S - 60), flaps);
        assert!(made.len() <= 48, "{made:?}");
    }

    proptest! {
        #[test]
        fn no_two_runs_are_more_than_five_quarters_apart(
            every_s in 600_u64..40 * DAY_S, seed: u64, last_s in 0..TODAY_S, up_s in 0..DAY_S,
        ) {
            let every = Every::Seconds(every_s);
            let clock = at(last_s + 1, up_s);
            if let Due::At(next) = due(every, seed, &ran(last_s), clock, None) {
                prop_assert!(next <= last_s + every_s + every_s / 4 + 121);
                prop_assert!(next >= last_s + every_s / 4);
                let then = Clock { now_s: next, up_s: up_s + next - last_s, ..clock };
                prop_assert_eq!(due(every, seed, &ran(last_s), then, None), Due::Now);
            }
        }

        #[test]
        fn whatever_is_remembered_the_wait_is_bounded(
            last_s: Option<u64>, tried_s: Option<u64>, failures: u32, seed: u64, is_short: bool,
            every_s in 600_u64..40 * DAY_S, now_s in 0..u64::MAX / 2, up_s in 0..u64::MAX / 2,
        ) {
            let past = Past { last_s, tried_s, failures, is_short };
            let due = due(Every::Seconds(every_s), seed, &past, at(now_s, up_s), Some(up_s));
            let Due::At(next) = due else { return Ok(()) };
            prop_assert!(next > now_s && next - now_s <= every_s.max(RETRY_S_MAX) * 5 / 4 + 1);
        }
    }
}
