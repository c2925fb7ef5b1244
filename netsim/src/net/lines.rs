//! The lines that join nodes to the network: whatever a node sends, over however many connections,
//! goes through its own, one frame after another, and so does what it receives.
//!
//! The slower of two lines decides when a frame is there; each is busy with it for as long as it
//! takes at its own rate, so that the faster one has room for others meanwhile. The receiver's is
//! charged when a frame is handed over, not when its first byte arrives: what waits at a slow
//! sender for a minute must not keep everybody else's frames waiting for that minute. Gossip is
//! small and uses no line.

use crate::node::Index;
use quloud::core::types::Time;
use std::time::Duration;

/// Bytes per second of an ordinary line.
pub(crate) const LINE: u64 = 10_000_000;

/// One node's.
#[derive(Debug, Clone, Copy)]
struct Line {
    /// Bytes per second, in each direction.
    rate: u64,
    /// When it will have sent what it has to send.
    out: Time,
    /// When it will have received what is on its way.
    into: Time,
}

impl Line {
    fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), out: Time(0), into: Time(0) }
    }

    fn takes(&self, bytes: u64) -> Duration {
        Duration::from_millis(bytes.saturating_mul(1_000) / self.rate)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lines(Vec<Line>);

impl Lines {
    /// Lines of so many bytes per second.
    pub(super) fn new(rates: impl IntoIterator<Item = u64>) -> Self {
        Self(rates.into_iter().map(Line::new).collect())
    }

    /// One more, an ordinary one.
    pub(super) fn join(&mut self) {
        self.0.push(Line::new(LINE));
    }

    /// Whether one of the two is slower than an ordinary one.
    pub(super) fn is_slow(&self, from: Index, to: Index) -> bool {
        self.0[from].rate.min(self.0[to].rate) < LINE
    }

    /// Sends so many bytes over a way of `hop`; when the last of them arrives.
    pub(super) fn carry(
        &mut self,
        now: Time,
        (from, to): (Index, Index),
        bytes: u64,
        hop: Duration,
    ) -> Time {
        let sent = self.0[from].out.max(now).after(self.0[from].takes(bytes));
        self.0[from].out = sent;
        let line = &mut self.0[to];
        line.into = line.into.max(now).after(line.takes(bytes));
        line.into.max(sent).after(hop)
    }

    /// From now on a node's line carries so many bytes a second.
    pub(super) fn set(&mut self, node: Index, rate: u64) {
        self.0[node].rate = rate.max(1);
    }

    /// All connections of a node are gone, and so is what waited for its line.
    pub(super) fn forget(&mut self, node: Index) {
        let line = &mut self.0[node];
        *line = Line::new(line.rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_HOP: Duration = Duration::ZERO;

    #[test]
    fn what_a_node_sends_to_several_shares_its_line() {
        let mut lines = Lines::new([1_000, LINE, LINE]);
        let mut sent = |to| lines.carry(Time(0), (0, to), 10_000, NO_HOP);
        assert_eq!([sent(1), sent(2), sent(1)], [10_000, 20_000, 30_000].map(Time));
        // Others do not wait for it, and it receives meanwhile.
        assert!(lines.carry(Time(0), (1, 2), 10_000, NO_HOP) < Time(10));
        assert_eq!(lines.carry(Time(0), (2, 0), 1_000, NO_HOP), Time(1_000));
    }

    #[test]
    fn what_a_node_receives_from_several_shares_its_line() {
        let mut lines = Lines::new([1_000, LINE, LINE]);
        let mut received = |from| lines.carry(Time(0), (from, 0), 10_000, NO_HOP);
        assert_eq!([received(1), received(2)], [Time(10_000), Time(20_000)]);
        // So does what others as slow as it send to it at the same time.
        let mut lines = Lines::new([1_000; 3]);
        let mut received = |from| lines.carry(Time(0), (from, 0), 10_000, NO_HOP);
        assert_eq!([received(1), received(2)], [Time(10_000), Time(20_000)]);
        // Nothing of it outlives the connections.
        (0..2).for_each(|node| lines.forget(node));
        assert_eq!(lines.carry(Time(5), (1, 0), 1_000, NO_HOP), Time(1_005));
    }
}
