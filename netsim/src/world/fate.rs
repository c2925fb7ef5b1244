//! What befalls several nodes or links, one after another or all at once.

use super::{Event, World};
use crate::chance::{Chance, between};
use crate::net::Cut;
use crate::node::{Index, Presence, REBOOT};
use crate::tally::Fault;
use rand::RngExt;
use rand::seq::{IteratorRandom, SliceRandom};
use std::time::Duration;

/// The most links that are cut one after another.
const SWIZZLED_MAX: usize = 40;

/// The longest that the power stays away from many nodes at once.
const POWER_BACK: Duration = Duration::from_secs(600);

/// A node that crashes again and again is restarted within this, and crashes within this.
const LOOP: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// Calls to a disk within which the power goes again when a store is opened.
const OPENING_CALLS: u32 = 4;

impl World<'_> {
    /// The power goes in many places at once, and comes back in each within minutes.
    pub(super) fn mass_restart(&mut self, nodes: &[Index]) {
        self.log(|| format!("the power goes at {} nodes at once", nodes.len()));
        let longest = between(&mut self.rng, REBOOT, POWER_BACK);
        for node in nodes {
            // Where the power is back for all at once, they all start at once.
            let down = if self.rng.random() { longest } else { longest / 2 };
            self.crash(*node, down, Fault::MassRestart);
        }
    }

    /// A node crashes, and so many times more: soon after its start, or in the middle of it.
    pub(super) fn crash_loop(&mut self, node: Index, more: u32) {
        let down = between(&mut self.rng, REBOOT, LOOP.0);
        self.crash(node, down, Fault::CrashLoop);
        if more == 0 || self.nodes[node].presence == Presence::Gone {
            return;
        }
        if self.rng.random() {
            let calls = self.rng.random_range(0..OPENING_CALLS);
            self.nodes[node].disk.cut_power_after(calls);
        }
        let again = down + between(&mut self.rng, Duration::ZERO, LOOP.1);
        self.agenda.after(again, Event::CrashLoop { node, more: more - 1 });
    }

    /// The clock of a node stands still for so long.
    pub(super) fn stop_clock(&mut self, node: Index, length: Duration) {
        let Some(machine) = &mut self.nodes[node].machine else { return };
        machine.clock.stood_still(length);
        self.log(|| format!("the clock of {node} stands still"));
        self.faults.count(Fault::ClockStopped);
    }

    /// Whether the power went while a store was opened; the node is started again.
    pub(super) fn lost_power_opening(&mut self, node: Index) -> bool {
        let dead = self.nodes[node].disk.is_dead();
        if dead {
            self.log(|| format!("{node} loses its power while it opens its store"));
            self.faults.count(Fault::CrashInOpening);
            self.nodes[node].crash();
            let down = between(&mut self.rng, REBOOT, LOOP.0);
            self.agenda.after(down, Event::Start { node });
        }
        dead
    }

    /// Links go one by one, about so long `apart`; and when the last of them has been gone for
    /// `length`, they come back one by one in another order.
    pub(super) fn swizzle(&mut self, share: Chance, apart: Duration, length: Duration) {
        let pairs: Vec<_> = self.net.pairs().collect();
        let chosen = pairs.into_iter().filter(|_| share.happens(&mut self.rng));
        let chosen: Vec<(Index, Index)> = chosen.collect();
        let mut links = chosen.into_iter().sample(&mut self.rng, SWIZZLED_MAX);
        links.shuffle(&mut self.rng);
        self.log(|| format!("{} links are cut one by one", links.len()));
        let mut order: Vec<usize> = (0..links.len()).collect();
        order.shuffle(&mut self.rng);
        let mut goes = Duration::ZERO;
        let cuts: Vec<_> = links
            .into_iter()
            .map(|link| {
                goes += between(&mut self.rng, Duration::ZERO, apart * 2);
                (link, goes)
            })
            .collect();
        let mut comes = goes + length;
        for number in order {
            let ((a, b), goes) = cuts[number];
            comes += between(&mut self.rng, Duration::ZERO, apart * 2);
            let (cut, length) = (Cut::link(a, b), comes - goes);
            self.agenda.after(goes, Event::CutBegins { cut, length });
        }
    }
}
