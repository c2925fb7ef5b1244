//! What people do with their machines, and what becomes of these.

use super::often;
use crate::chance::{Chance, draw};
use quloud::core::placement::DomainPolicy;
use rand::{Rng, RngExt};
use std::time::Duration;

/// What people do with their machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeoplePlan {
    /// Power cuts and restarts, per node and year.
    pub(crate) crashes: u64,
    /// The longest that a node stays down after one.
    pub(crate) downtime: Duration,
    /// Times a year that many nodes lose their power at once, and have it back within minutes.
    pub(crate) mass_restarts: u64,
    /// Crashes that are followed by others within seconds of each start, per node and year.
    pub(crate) crash_loops: u64,
    /// Pauses, per node and year.
    pub(crate) pauses: u64,
    /// Departures for ever, in percent of nodes per year.
    pub(crate) leaves: u64,
    /// Nodes that are only there eight hours a day.
    pub(crate) laptops: Chance,
    /// Nodes whose clock drifts.
    pub(crate) drifting: Chance,
    /// Nodes whose clock stands still while they sleep.
    pub(crate) stopping: Chance,
    /// Nodes that deviate from the protocol.
    pub(crate) byzantine: Chance,
    /// Nodes that share a public network with others.
    pub(crate) neighbours: Chance,
    /// What the owners take for one failure domain.
    pub(crate) domains: DomainPolicy,
}

impl PeoplePlan {
    pub(super) fn draw(rng: &mut impl Rng) -> Self {
        Self {
            crashes: often(rng, 250),
            downtime: Duration::from_secs(rng.random_range(10..=86_400)),
            mass_restarts: often(rng, 24),
            crash_loops: often(rng, 12),
            pauses: often(rng, 50),
            leaves: often(rng, 126),
            laptops: draw(rng, Chance::per_mille(500)),
            drifting: draw(rng, Chance::per_mille(600)),
            stopping: draw(rng, Chance::per_mille(1_000)),
            byzantine: draw(rng, Chance::per_mille(600)),
            neighbours: draw(rng, Chance::per_mille(1_000)),
            domains: match rng.random_range(0..4) {
                0 => DomainPolicy::Strict,
                _ => DomainPolicy::LanCountsEach,
            },
        }
    }

    /// The same people, when nothing goes wrong.
    pub(super) fn kind(self) -> Self {
        Self {
            crashes: 0,
            mass_restarts: 0,
            crash_loops: 0,
            pauses: 0,
            leaves: 0,
            laptops: Chance::NEVER,
            drifting: Chance::NEVER,
            stopping: Chance::NEVER,
            byzantine: Chance::NEVER,
            neighbours: Chance::NEVER,
            domains: DomainPolicy::LanCountsEach,
            ..self
        }
    }

    /// What comes so often a year.
    pub(super) fn rates(&mut self) -> Vec<&mut u64> {
        let Self { crashes, mass_restarts, crash_loops, pauses, leaves, .. } = self;
        vec![crashes, mass_restarts, crash_loops, pauses, leaves]
    }
}
