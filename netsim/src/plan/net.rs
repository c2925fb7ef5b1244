//! How unkind the network of a world is.

use super::often;
use crate::chance::{Chance, draw};
use rand::{Rng, RngExt};
use std::time::Duration;

/// The longest that a transfer stalls, in seconds. The roles wait for 5 s, 10 s and 60 s; a daemon
/// ends a stream that does not move for 30 s, and a connection whose pings are not answered after
/// 40 s at the latest: so this is more than they see.
const STALL_MAX_S: u64 = 90;

/// Partitions a year, at the most, in short worlds too: 3 % a minute.
pub(super) const PARTITIONS_MAX: u64 = 365 * 24 * 60 * 3 / 100;

/// The network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetPlan {
    /// Of all pairs, those that keep a connection.
    pub(crate) connected: Chance,
    /// A copy of a gossiped message is lost.
    pub(crate) loss: Chance,
    /// A gossiped message comes a second time.
    pub(crate) twice: Chance,
    /// A gossiped message comes late, out of order.
    pub(crate) late: Chance,
    /// The longest that a late message takes.
    pub(crate) longest: Duration,
    /// The ordinary delay of one hop.
    pub(crate) hop: Duration,
    /// A connection breaks under a frame.
    pub(crate) cut: Chance,
    /// A frame stops in the middle, with all that is behind it.
    pub(crate) stall: Chance,
    /// The longest that it does.
    pub(crate) stall_longest: Duration,
    /// A dial fails.
    pub(crate) dial_loss: Chance,
    /// Partitions, both ways and one way, a year.
    pub(crate) partitions: u64,
    /// The longest partition.
    pub(crate) partition: Duration,
    /// Times a year that links are cut one after another, and restored in another order.
    pub(crate) swizzles: u64,
    /// Nodes that nobody can dial, or, one in four of them, that can dial nobody.
    pub(crate) behind_nat: Chance,
    /// Nodes whose peers do not see where they are: behind a relay, or a name that is not resolved.
    pub(crate) relayed: Chance,
    /// Nodes with a line of 1 to 50 kB/s.
    pub(crate) slow: Chance,
}

impl NetPlan {
    pub(super) fn draw(rng: &mut impl Rng) -> Self {
        let (partitions, partition) = draw_partitions(rng);
        Self {
            connected: Chance(rng.random_range(200_000..=1_000_000)),
            loss: draw(rng, Chance::per_mille(300)),
            twice: draw(rng, Chance::per_mille(500)),
            late: draw(rng, Chance::per_mille(500)),
            longest: Duration::from_secs(60),
            hop: Duration::from_millis(rng.random_range(1..=150)),
            cut: draw(rng, Chance::per_mille(30)),
            stall: draw(rng, Chance::per_mille(30)),
            stall_longest: Duration::from_secs(rng.random_range(1..=STALL_MAX_S)),
            dial_loss: draw(rng, Chance::per_mille(300)),
            partitions,
            partition,
            swizzles: often(rng, 50),
            behind_nat: draw(rng, Chance::per_mille(700)),
            relayed: draw(rng, Chance::per_mille(300)),
            slow: draw(rng, Chance::per_mille(300)),
        }
    }

    /// The same network without any fault.
    pub(super) fn kind(self) -> Self {
        Self {
            loss: Chance::NEVER,
            twice: Chance::NEVER,
            late: Chance::NEVER,
            cut: Chance::NEVER,
            stall: Chance::NEVER,
            dial_loss: Chance::NEVER,
            partitions: 0,
            swizzles: 0,
            behind_nat: Chance::NEVER,
            relayed: Chance::NEVER,
            slow: Chance::NEVER,
            ..self
        }
    }

    /// What comes so often a year.
    pub(super) fn rates(&mut self) -> Vec<&mut u64> {
        vec![&mut self.partitions, &mut self.swizzles]
    }
}

/// How often partitions come, and how long one may last: now and then up to seven days; or, in one
/// world out of twelve, up to one in 33 minutes (3 % a minute), and so short that there is somebody
/// to talk to.
fn draw_partitions(rng: &mut impl Rng) -> (u64, Duration) {
    match rng.random_range(0..12) {
        0 => {
            let longest = Duration::from_secs(rng.random_range(1..=900));
            (rng.random_range(1_000..=PARTITIONS_MAX), longest)
        }
        _ => (often(rng, 100), Duration::from_secs(rng.random_range(1..=7 * 86_400))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    #[test]
    fn ranges_are_used_up_to_their_ends() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let plans: Vec<_> = (0..2_000).map(|_| NetPlan::draw(&mut rng)).collect();
        let most = |of: fn(&NetPlan) -> u64| plans.iter().map(of).max().unwrap_or(0);
        for (of, end) in [
            ((|plan| plan.loss.0.into()) as fn(&NetPlan) -> u64, 300_000),
            (|plan| plan.twice.0.into(), 500_000),
            (|plan| plan.late.0.into(), 500_000),
            (|plan| plan.behind_nat.0.into(), 700_000),
            (|plan| plan.slow.0.into(), 300_000),
            (|plan| plan.partitions, PARTITIONS_MAX),
            (|plan| plan.partition.as_secs(), 7 * 86_400),
            (|plan| plan.stall_longest.as_secs(), STALL_MAX_S),
        ] {
            assert!((end - end / 20..=end).contains(&most(of)), "{} of {end}", most(of));
        }
        // Worlds that know none of a kind.
        assert!(plans.iter().any(|plan| plan.late == Chance::NEVER && plan.loss > Chance::NEVER));
        assert!(plans.iter().all(|plan| plan.longest == Duration::from_secs(60)));
    }
}
