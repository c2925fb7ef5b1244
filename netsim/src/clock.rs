//! A node's own clock.
//!
//! All time that a role is told is monotonic: the drive loop of the daemon counts from the start of
//! its process, on a clock that never goes back and that nobody can set. Nothing on the wire, and
//! nothing that the roles or the store keep, is a time of day; the daemon shows one to its user now
//! and then, and decides nothing by it. So there is no time of day in a world that could be wrong.
//! What is left, and done here: clocks begin anywhere, drift, and stand still while a machine
//! sleeps, on systems where they do.

use quloud::core::types::Time;
use std::time::Duration;

/// Parts of a whole.
const WHOLE: u64 = 1_000_000;

/// How a node's clock is made, which does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Movement {
    /// How much faster it goes, in millionths.
    pub(crate) drift: i16,
    /// It stands still while the machine sleeps.
    pub(crate) stops: bool,
    /// What it shows when the roles begin: the process has been running for so long.
    pub(crate) ahead: Duration,
}

impl Movement {
    /// It is right.
    pub(crate) const RIGHT: Self = Self { drift: 0, stops: false, ahead: Duration::ZERO };
}

/// The clock of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clock {
    movement: Movement,
    /// When it would have begun, had it never stood still.
    began: Time,
}

impl Clock {
    /// A process starts.
    pub(crate) fn new(now: Time, movement: Movement) -> Self {
        Self { movement, began: now }
    }

    /// What it shows at a moment of the world, if it does not stand still until then.
    pub(crate) fn read(&self, at: Time) -> Time {
        let gone = u128::from(at.0.saturating_sub(self.began.0));
        let shows = gone * u128::from(self.speed()) / u128::from(WHOLE);
        Time(u64::try_from(shows).unwrap_or(u64::MAX)).after(self.movement.ahead)
    }

    /// When it shows this at the earliest, if it does not stand still until then.
    pub(crate) fn when(&self, shows: Time) -> Time {
        let shows = shows.since(Time(0).after(self.movement.ahead)).as_millis();
        let gone = (shows * u128::from(WHOLE)).div_ceil(u128::from(self.speed()));
        Time(self.began.0.saturating_add(u64::try_from(gone).unwrap_or(u64::MAX)))
    }

    /// It stood still for so long.
    pub(crate) fn stood_still(&mut self, length: Duration) {
        self.began = self.began.after(length);
    }

    /// How far it goes in so many millionths of real time.
    fn speed(&self) -> u64 {
        WHOLE.saturating_add_signed(self.movement.drift.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(drift: i16) -> Clock {
        let movement = Movement { drift, stops: true, ahead: Duration::from_secs(7) };
        Clock::new(Time(1_000), movement)
    }

    #[test]
    fn a_clock_drifts_by_so_many_millionths() {
        let day = Time(1_000 + 86_400_000);
        assert_eq!(clock(0).read(day), Time(7_000 + 86_400_000));
        assert_eq!(clock(500).read(day), Time(7_000 + 86_400_000 + 43_200));
        assert_eq!(clock(-500).read(day), Time(7_000 + 86_400_000 - 43_200));
        assert_eq!(clock(500).read(Time(0)), Time(7_000));
    }

    #[test]
    fn whoever_is_woken_then_finds_it_shows_so_much() {
        for drift in [-500, -7, 0, 1, 499] {
            let clock = clock(drift);
            for shows in (0..200_000).step_by(333) {
                let when = clock.when(Time(shows));
                assert!(clock.read(when) >= Time(shows));
                let earlier = Time(when.0 - 1);
                assert!(when.0 <= 1_000 || clock.read(earlier) < Time(shows));
            }
            assert!(clock.when(Time(u64::MAX)).0 > u64::MAX / 2);
        }
    }

    #[test]
    fn a_clock_that_stood_still_goes_on_where_it_was() {
        let mut clock = clock(0);
        let before = clock.read(Time(5_000));
        clock.stood_still(Duration::from_secs(3_600));
        assert_eq!(clock.read(Time(3_605_000)), before);
        assert_eq!(clock.when(before), Time(3_605_000));
    }
}
