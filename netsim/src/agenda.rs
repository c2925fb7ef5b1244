//! What is going to happen, and when: the virtual clock.

use quloud::core::types::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// A queue of events. Two at the same moment happen in the order in which they were entered.
#[derive(Debug)]
pub(crate) struct Agenda<T> {
    now: Time,
    next: u64,
    entries: BTreeMap<(Time, u64), T>,
}

impl<T> Agenda<T> {
    /// Nothing is going to happen, and it is the beginning of time.
    pub(crate) fn new() -> Self {
        Self { now: Time(0), next: 0, entries: BTreeMap::new() }
    }

    /// The time of the event that happens now.
    pub(crate) fn now(&self) -> Time {
        self.now
    }

    /// Enters an event. What lies in the past happens next.
    pub(crate) fn at(&mut self, time: Time, event: T) {
        self.entries.insert((time.max(self.now), self.next), event);
        self.next += 1;
    }

    /// Enters an event so long from now.
    pub(crate) fn after(&mut self, wait: Duration, event: T) {
        self.at(self.now.after(wait), event);
    }

    /// The next event no later than `end`; time goes on to it. Without one, time goes on to `end`.
    pub(crate) fn pop(&mut self, end: Time) -> Option<T> {
        match self.entries.first_entry() {
            Some(entry) if entry.key().0 <= end => {
                self.now = entry.key().0;
                Some(entry.remove())
            }
            _ => {
                self.now = self.now.max(end);
                None
            }
        }
    }

    /// Forgets the events that `keep` does not want.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.entries.retain(|_, event| keep(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_the_order_of_time_and_then_of_entry() {
        let mut agenda = Agenda::new();
        for (time, event) in [(5, 'b'), (9, 'd'), (5, 'c'), (1, 'a')] {
            agenda.at(Time(time), event);
        }
        let order: String = std::iter::from_fn(|| agenda.pop(Time(6))).collect();
        assert_eq!((order.as_str(), agenda.now()), ("abc", Time(6)));
        agenda.at(Time(2), 'e');
        assert_eq!((agenda.pop(Time(20)), agenda.now()), (Some('e'), Time(6)));
    }
}
