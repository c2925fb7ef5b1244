//! When the owner role has to wake up, and for what; and how often it may do a thing.

use crate::core::topic::Topic;
use crate::core::types::{BatchId, Locality, NodeId, Ticket, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What to look at when the time has come. Each is set at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wake {
    /// Chunks of this locality were gathered long enough.
    Gather(Locality),
    /// The claims of this batch came in, or something became possible again.
    Settle(BatchId),
    /// Ask for this batch again.
    Publish(BatchId),
    /// A store job's deadline.
    Deadline(Ticket),
    /// A holder made no progress.
    Delivery(NodeId),
    /// A dial was not answered.
    Dial(NodeId),
    /// There is room for another dial.
    DialPace,
    /// Something of this fetch is due.
    Fetch(Ticket),
    /// Wanted chunks were gathered long enough.
    Search(Topic),
    /// Old requests are forgotten.
    Requests,
    /// Something of this question for heads is due.
    Heads(Ticket),
    /// Something of this question about an account is due.
    Account(Ticket),
    /// Something of this question for holders is due.
    Locate(Ticket),
}

/// A set of alarms, one per [`Wake`].
#[derive(Debug, Default)]
pub(super) struct Timers {
    at: BTreeMap<Wake, Time>,
    order: BTreeSet<(Time, Wake)>,
}

impl Timers {
    /// Sets the alarm, in place of an earlier setting.
    pub(super) fn set(&mut self, wake: Wake, at: Time) {
        self.clear(wake);
        self.at.insert(wake, at);
        self.order.insert((at, wake));
    }

    /// Sets the alarm unless it is set for an earlier time.
    pub(super) fn set_no_later(&mut self, wake: Wake, at: Time) {
        if self.at.get(&wake).is_none_or(|set| at < *set) {
            self.set(wake, at);
        }
    }

    pub(super) fn clear(&mut self, wake: Wake) {
        if let Some(at) = self.at.remove(&wake) {
            self.order.remove(&(at, wake));
        }
    }

    /// The next alarm that is due, and no longer set.
    pub(super) fn due(&mut self, now: Time) -> Option<Wake> {
        let (at, wake) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.clear(wake);
        Some(wake)
    }

    pub(super) fn next(&self) -> Option<Time> {
        self.order.first().map(|(at, _)| *at)
    }
}

/// A token bucket.
#[derive(Debug)]
pub(super) struct Pace {
    /// Milliseconds that one token costs.
    cost: u64,
    /// Saved-up milliseconds, at most `burst` tokens' worth.
    saved: u64,
    burst: u64,
    at: Time,
}

impl Pace {
    /// `per_second` (1 to 1,000) things a second, and as many at once after a pause.
    pub(super) fn new(per_second: u32) -> Self {
        let per_second = u64::from(per_second.clamp(1, 1_000));
        let cost = 1_000 / per_second;
        Self { cost, saved: cost * per_second, burst: cost * per_second, at: Time::default() }
    }

    /// Whether there is a token.
    pub(super) fn has(&mut self, now: Time) -> bool {
        self.refill(now);
        self.saved >= self.cost
    }

    fn refill(&mut self, now: Time) {
        let passed = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        self.saved = self.saved.saturating_add(passed).min(self.burst);
        self.at = self.at.max(now);
    }

    /// Takes one token; otherwise says when there will be one.
    pub(super) fn take(&mut self, now: Time) -> Result<(), Time> {
        self.refill(now);
        match self.saved.checked_sub(self.cost) {
            Some(rest) => {
                self.saved = rest;
                Ok(())
            }
            None => Err(now.after(Duration::from_millis(self.cost - self.saved))),
        }
    }
}

/// A rate for many that wait for their turns: everyone gets one, in the order of asking.
#[derive(Debug)]
pub(super) struct Turns {
    cost: Duration,
    burst: Duration,
    /// When everything that was given out would be used up at the even rate (the theoretical
    /// arrival time of the generic cell rate algorithm, ITU-T I.371).
    used_until: Time,
}

impl Turns {
    /// `per_second` (1 to 1,000) turns a second, and as many at once after a pause.
    pub(super) fn new(per_second: u32) -> Self {
        let per_second = per_second.clamp(1, 1_000);
        let cost = Duration::from_millis(1_000 / u64::from(per_second));
        Self { cost, burst: cost * per_second, used_until: Time::default() }
    }

    /// When the turn of the one that asks now is: now, or later.
    pub(super) fn take(&mut self, now: Time) -> Time {
        self.used_until = self.used_until.max(now).after(self.cost);
        let ahead = self.used_until.since(now);
        now.after(ahead.saturating_sub(self.burst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_ring_once_in_order_and_can_be_moved() {
        let mut timers = Timers::default();
        let [a, b, c] = [1, 2, 3].map(|ticket| Wake::Deadline(Ticket(ticket)));
        timers.set(a, Time(30));
        timers.set(b, Time(20));
        timers.set(c, Time(10));
        timers.set(c, Time(25));
        timers.set_no_later(a, Time(40));
        timers.set_no_later(b, Time(15));
        timers.clear(Wake::DialPace);
        assert_eq!(timers.next(), Some(Time(15)));
        assert_eq!(timers.due(Time(14)), None);
        let rung: Vec<_> = std::iter::from_fn(|| timers.due(Time(100))).collect();
        assert_eq!(rung, [b, c, a]);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn turns_come_in_order_after_a_burst_at_their_rate() {
        let mut turns = Turns::new(10);
        let given: Vec<u64> = (0..30).map(|_| turns.take(Time(5_000)).0).collect();
        assert_eq!(given[..10], [5_000; 10]);
        assert_eq!(given[10..13], [5_100, 5_200, 5_300]);
        assert_eq!(given[29], 7_000);
        assert_eq!(turns.take(Time(20_000)).0, 20_000);
    }

    #[test]
    fn pace_lets_a_burst_through_and_then_its_rate() {
        let mut pace = Pace::new(16);
        let mut taken = 0;
        let mut now = Time(0);
        while now < Time(10_000) {
            match pace.take(now) {
                Ok(()) => taken += 1,
                Err(at) => {
                    assert!(at > now);
                    now = at;
                }
            }
        }
        assert!((160..=180).contains(&taken), "{taken}");
    }
}
