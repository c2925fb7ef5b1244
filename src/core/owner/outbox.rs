//! When an unmet request is published again.
//!
//! Gossip delivers at most once, and a publication that "worked" proves nothing. So a request stays
//! here until it is met: it goes out after 1, 2, 4 .. 60 s and then every 10 minutes, each time
//! under the next attempt number (the same bytes would be dropped as a duplicate), and soon after a
//! peer connects or subscribes, which a cut-off node does when it comes back. That publication may
//! be lost too, while the mesh is still forming: so the long pauses begin anew with it, from 8 s.
//! Where peers come and go all the time and nobody takes anything, both become rarer: each early
//! publication that brought nothing doubles what has to lie before the next and, until it is as
//! long as ever, the pause after it.

use crate::core::topic::Topic;
use crate::core::types::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// The last of the growing pauses, and the pause after all of them.
const PAUSE_GROWN_S: u64 = 60;
const PAUSE_LONG_S: u64 = 600;

/// Subscriptions come in herds: wait this long for the rest of it.
const AFTER_SUBSCRIPTION: Duration = Duration::from_millis(50);
/// The pause with which the growing ones begin anew: 8 s, longer than [`EARLY_APART`].
const PAUSE_ANEW: u32 = 3;
/// A new peer subscribes a moment after it connects.
const AFTER_CONNECTION: Duration = Duration::from_secs(1);
/// Requests that are published early are at least so far apart, twice as far after each that
/// brought nothing, and never further than the second.
const EARLY_APART: Duration = Duration::from_secs(5);
const EARLY_APART_MAX: Duration = Duration::from_secs(300);

/// How often one request went out.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Schedule {
    attempt: u32,
    /// How many of the growing pauses are behind it.
    pauses: u32,
    /// Early publications since it last brought something.
    early: u32,
    /// The next one is one of them.
    is_early: bool,
}

impl Schedule {
    /// The number of the attempt to come: 0 for the first.
    pub(super) fn attempt(self) -> u32 {
        self.attempt
    }

    /// It went out; how long to wait, before jitter, until it goes out again.
    pub(super) fn published(&mut self) -> Duration {
        let pause = 1_u64.checked_shl(self.pauses).filter(|pause| *pause < 2 * PAUSE_GROWN_S);
        self.attempt = self.attempt.saturating_add(1);
        self.pauses = self.pauses.saturating_add(1);
        self.early = self.early.saturating_add(u32::from(std::mem::take(&mut self.is_early)));
        Duration::from_secs(pause.map_or(PAUSE_LONG_S, |pause| pause.min(PAUSE_GROWN_S)))
    }

    /// Somebody came who may help: it is not left to the long pauses whether that is noticed.
    pub(super) fn begin_anew(&mut self) {
        self.pauses = self.pauses.min(PAUSE_ANEW.saturating_add(self.early));
        self.is_early = true;
    }

    /// How far from the last publication an early one has to be.
    pub(super) fn early_apart(self) -> Duration {
        let times = 1_u32.checked_shl(self.early).unwrap_or(u32::MAX);
        EARLY_APART.saturating_mul(times).min(EARLY_APART_MAX)
    }

    /// Somebody did take something.
    pub(super) fn helped(&mut self) {
        self.early = 0;
    }

    /// The probability of the attempt to come, in 1/65535: `min(1, p * 2^k)`.
    pub(super) fn probability(self, first: u16) -> u16 {
        let doubled = u64::from(first).checked_shl(self.attempt.min(16)).unwrap_or(u64::MAX);
        u16::try_from(doubled).unwrap_or(u16::MAX)
    }
}

/// What makes an early publication worth it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// A peer connected.
    Connected,
    /// A peer subscribed.
    Subscribed,
}

impl Occasion {
    /// How long to wait, before jitter: everybody notices a new peer at the same time.
    pub(super) fn pause(self) -> Duration {
        match self {
            Self::Connected => AFTER_CONNECTION,
            Self::Subscribed => AFTER_SUBSCRIPTION,
        }
    }
}

/// When each topic was last published to with somebody there to hear it. At most one entry per
/// topic of the mesh profile.
#[derive(Debug, Default)]
pub(super) struct Heard(BTreeMap<Topic, Time>);

impl Heard {
    pub(super) fn published(&mut self, now: Time, topic: Topic) {
        self.0.insert(topic, now);
    }

    /// When to publish to `topic` because of what happened now: after a `pause`, and so far `apart`
    /// from the last time.
    pub(super) fn early(
        &self,
        now: Time,
        topic: Topic,
        (pause, apart): (Duration, Duration),
    ) -> Time {
        let earliest = self.0.get(&topic).map_or(now, |last| now.max(last.after(apart)));
        earliest.after(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::topic::TopicKind;
    use crate::core::types::Locality;

    #[test]
    fn pauses_double_to_a_minute_and_then_are_ten() {
        let mut schedule = Schedule::default();
        let pauses: Vec<u64> = (0..10).map(|_| schedule.published().as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 600, 600, 600]);
        schedule.begin_anew();
        let pauses: Vec<u64> = (0..5).map(|_| schedule.published().as_secs()).collect();
        assert_eq!(pauses, [8, 16, 32, 60, 600]);
        assert_eq!(schedule.attempt(), 15, "numbers are never used again");
        (schedule.attempt, schedule.pauses) = (u32::MAX, u32::MAX);
        assert_eq!(schedule.published().as_secs(), 600);
        assert_eq!(schedule.attempt(), u32::MAX);
    }

    #[test]
    fn probability_doubles_with_each_attempt_up_to_one() {
        let mut schedule = Schedule::default();
        let stated: Vec<u16> = (0..4)
            .map(|_| {
                let p = schedule.probability(10_000);
                schedule.published();
                p
            })
            .collect();
        assert_eq!(stated, [10_000, 20_000, 40_000, 65_535]);
        schedule.attempt = u32::MAX;
        assert_eq!(schedule.probability(1), u16::MAX);
    }

    #[test]
    fn early_publications_are_five_seconds_apart_and_further_where_they_bring_nothing() {
        let topic = Topic::new(TopicKind::Store, Locality(0), 0);
        let mut heard = Heard::default();
        let mut schedule = Schedule::default();
        let pause = (Duration::from_millis(50), schedule.early_apart());
        assert_eq!(heard.early(Time(100), topic, pause), Time(150));
        heard.published(Time(150), topic);
        assert_eq!(heard.early(Time(200), topic, pause), Time(5_200));
        assert_eq!(heard.early(Time(6_000), topic, pause), Time(6_050));
        let mut apart = || {
            schedule.begin_anew();
            // As many peers as may come meanwhile make one publication.
            schedule.begin_anew();
            schedule.published();
            schedule.early_apart().as_secs()
        };
        let grown: Vec<u64> = (0..8).map(|_| apart()).collect();
        assert_eq!(grown, [10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(schedule.published().as_secs(), 600, "nor do the pauses begin anew");
        schedule.helped();
        assert_eq!(schedule.early_apart(), EARLY_APART);
        schedule.begin_anew();
        assert_eq!(schedule.published().as_secs(), 8);
    }
}
