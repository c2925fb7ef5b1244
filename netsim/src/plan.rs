//! What a seed decides: how large a world is, who is in it, and how unkind it is.
//!
//! Each seed draws its own rates (swarm testing: Groce and others 2012), and a third of all faults
//! is switched off in each world, so that some worlds see one fault alone and others see all.

mod backups;
mod net;
mod people;

pub(crate) use backups::BackupPlan;
pub(crate) use net::NetPlan;
pub(crate) use people::PeoplePlan;

use crate::catalogue::CatalogueFaults;
use crate::chance::{Chance, draw};
use crate::disk::DiskFaults;
use net::PARTITIONS_MAX;
use quloud::core::shard::Sharding;
use quloud::core::types::LeaseTerms;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The frame of a set of runs: what the user chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// How many nodes a world may have.
    pub(crate) nodes: RangeInclusive<usize>,
    /// How long it runs.
    pub(crate) days: u64,
}

impl Default for Frame {
    /// What the figures and the promise to see everything are about.
    fn default() -> Self {
        Self { nodes: 5..=30, days: 30 }
    }
}

/// One world's parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) span: Duration,
    /// How the mesh is cut into shards.
    pub(crate) sharding: Sharding,
    pub(crate) net: NetPlan,
    pub(crate) disk: DiskPlan,
    pub(crate) people: PeoplePlan,
    pub(crate) use_: UsePlan,
    pub(crate) backups: BackupPlan,
    /// Every node draws small limits of its own.
    pub(crate) tight: bool,
    /// Owners audit their holders.
    pub(crate) audits: bool,
    /// Those who do try by themselves whether holders hand over what they prove.
    pub(crate) trials: bool,
}

/// The disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DiskPlan {
    /// Of every disk, at every call.
    pub(crate) faults: DiskFaults,
    /// Of the nodes, those whose disk lies about syncs.
    pub(crate) liars: Chance,
    /// Of the crashes, those in the middle of a group commit.
    pub(crate) in_commit: Chance,
    /// Of the groups that are written and the steps of tidying, those in which the power goes.
    pub(crate) cut_short: Chance,
    /// Of the groups, those for which others have just taken the space.
    pub(crate) taken_away: Chance,
    /// Of every catalogue.
    pub(crate) catalogue: CatalogueFaults,
    /// Of the nodes, those whose disk does things without a word.
    pub(crate) decaying: Chance,
    /// How often a year it does then: flipped bits, zeroed blocks, lost or misdirected writes and
    /// reads.
    pub(crate) decays: u64,
    /// Times a year that others fill a node's disk.
    pub(crate) full: u64,
    /// Disks replaced by empty ones, per node and year.
    pub(crate) lost: u64,
    /// Disks set back to an old image, per node and year.
    pub(crate) old_image: u64,
    /// Of the crashes, those that cost the catalogue, which the segments can replace.
    pub(crate) index_lost: Chance,
    /// Bytes a node gives.
    pub(crate) capacity: u64,
    /// Length of a segment of the store, in bytes: small ones are emptied often.
    pub(crate) segment_bytes: u64,
}

/// What the mesh is used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UsePlan {
    /// Nodes that put chunks.
    pub(crate) owners: usize,
    /// Times that each owner puts some.
    pub(crate) puts: usize,
    /// The most chunks that are put at once.
    pub(crate) chunks: usize,
    /// The largest chunk, in bytes.
    pub(crate) chunk_bytes: usize,
    /// Replicas of each chunk.
    pub(crate) replicas: u8,
    /// Chunks that are fetched while the world is unkind.
    pub(crate) gets: usize,
    /// Times that some owner looks for holders while the world is unkind.
    pub(crate) locates: usize,
    /// Times that each owner gives chunks up.
    pub(crate) releases: usize,
    /// Of its chunks, those that it gives up at such a time.
    pub(crate) released: Chance,
    /// Of those, the ones that it puts again later.
    pub(crate) again: Chance,
    /// How long a user waits for a put before it is left for later.
    pub(crate) patience: Duration,
    /// How long owners want holders to keep what was let go.
    pub(crate) delay: Duration,
}

const DAY: Duration = Duration::from_secs(86_400);

/// In short worlds in which nodes deviate, at least so many of them do.
const BYZANTINE_SHORT: Chance = Chance::per_mille(400);

/// In short worlds, disks are replaced so much more often than other things happen.
const LOST_SHORT: u64 = 8;

const SECOND: Duration = Duration::from_secs(1);

/// The usual length of a world.
const MONTH_DAYS: u64 = 30;

/// More events than this in a small world: it would hardly end. Worlds of a month have some 30,000,
/// a flooded one a hundred times as many.
const EVENTS_MAX: u64 = 10_000_000;

/// Larger worlds, and those that last longer, have so many more: the same for the largest of the
/// default frame.
const EVENTS_PER_NODE_DAY: u64 = 12_000;

impl Plan {
    /// Draws a world within `frame`.
    pub(crate) fn draw(rng: &mut impl Rng, frame: &Frame) -> Self {
        let nodes = rng.random_range(frame.nodes.clone()).max(2);
        let span = DAY * u32::try_from(frame.days).unwrap_or(u32::MAX);
        let net = NetPlan::draw(rng);
        let disk = DiskPlan::draw(rng);
        let people = PeoplePlan::draw(rng);
        let use_ = UsePlan::draw(rng, nodes);
        let sharding = draw_sharding(rng);
        let tight = rng.random_range(0..4) == 0;
        let backups = BackupPlan::draw(rng, use_.owners);
        // A world with audits takes several times as long as one without.
        let audits = rng.random_range(0..8) == 0;
        let trials = true;
        let mut plan =
            Self { nodes, span, sharding, net, disk, people, use_, backups, tight, audits, trials };
        if sharding != Sharding::WHOLE {
            // What finds too few holders in its shard asks for them until the end of the world.
            let most = u8::try_from(nodes / 5).unwrap_or(u8::MAX).max(1);
            plan.use_.replicas = plan.use_.replicas.min(most);
        }
        plan.hasten((MONTH_DAYS / frame.days.max(1)).max(1));
        plan
    }

    /// A short world is as eventful as one of a month: so much more often happens everything that
    /// comes so often a year, and what lasts is as much shorter. But for people's patience: what
    /// is given up shows no bug any more.
    fn hasten(&mut self, times: u64) {
        let Self { net, disk, people, use_, .. } = self;
        let lengths = [&mut net.partition, &mut people.downtime, &mut use_.delay];
        for length in lengths {
            *length = (*length / u32::try_from(times).unwrap_or(u32::MAX)).max(SECOND);
        }
        let rates = [&mut disk.decays, &mut disk.full, &mut disk.lost, &mut disk.old_image];
        let rates = rates.into_iter().chain(net.rates()).chain(people.rates());
        rates.for_each(|rate| *rate *= times);
        net.partitions = net.partitions.min(PARTITIONS_MAX);
        // A new disk shows something only in the middle of a put.
        disk.lost *= if times > 1 { LOST_SHORT } else { 1 };
        // So few days in so small worlds see little of what deviates otherwise.
        if times > 1 && people.byzantine > Chance::NEVER {
            people.byzantine = people.byzantine.max(BYZANTINE_SHORT);
        }
    }

    /// Sealed bytes of the largest chunk.
    pub(crate) fn chunk_bytes(&self) -> usize {
        (self.use_.chunk_bytes + 1_024).max(self.backups.chunk_bytes())
    }

    /// How long something lasts that takes `usual` in a world of a month.
    pub(crate) fn shorter(&self, usual: Duration) -> Duration {
        usual.min(self.span / 10)
    }

    /// With more events than this the world would hardly end.
    pub(crate) fn events_max(&self) -> u64 {
        let days = self.span.as_secs() / DAY.as_secs();
        let node_days = days.saturating_mul(self.nodes as u64);
        node_days.saturating_mul(EVENTS_PER_NODE_DAY).max(EVENTS_MAX)
    }

    /// A small world in which nothing happens but what a script says: node 0 is the owner.
    pub(crate) fn still(nodes: usize, days: u64) -> Self {
        let frame = Frame { nodes: nodes..=nodes, days };
        let mut plan = Self::draw(&mut ChaCha20Rng::seed_from_u64(0), &frame).kind();
        plan.net.connected = Chance::ALWAYS;
        plan.net.hop = Duration::from_millis(20);
        plan.disk.capacity = 64 << 20;
        plan.people.downtime = Duration::from_secs(600);
        let (chunk_bytes, replicas) = (4_000, 3);
        let patience = DAY * 365;
        let delay = DAY * 7;
        let never =
            UsePlan { puts: 0, gets: 0, locates: 0, releases: 0, patience, delay, ..plan.use_ };
        plan.use_ = UsePlan { owners: 1, chunk_bytes, replicas, ..never };
        plan.backups = BackupPlan::none();
        plan
    }

    /// The same world without any fault: what is left is what the mesh must be able to do.
    pub(crate) fn kind(mut self) -> Self {
        self.sharding = Sharding::WHOLE;
        self.net = self.net.kind();
        self.disk = DiskPlan {
            faults: DiskFaults::default(),
            liars: Chance::NEVER,
            index_lost: Chance::NEVER,
            cut_short: Chance::NEVER,
            taken_away: Chance::NEVER,
            catalogue: CatalogueFaults::default(),
            decaying: Chance::NEVER,
            full: 0,
            lost: 0,
            old_image: 0,
            ..self.disk
        };
        self.tight = false;
        self.people = self.people.kind();
        self.backups = self.backups.kind();
        self
    }
}

impl DiskPlan {
    fn draw(rng: &mut impl Rng) -> Self {
        // Up to 10 % per call in one world out of ten, else rates at which a mesh still works.
        let worst = rng.random_range(0..10) == 0;
        let most = if worst { Chance::per_mille(100) } else { Chance::per_mille(5) };
        let faults = DiskFaults {
            write_error: draw(rng, most),
            read_error: draw(rng, most),
            sync_error: draw(rng, if worst { Chance::per_mille(50) } else { Chance(10_000) }),
            no_space: draw(rng, most),
            lies: false,
        };
        let catalogue = CatalogueFaults {
            error: draw(rng, if worst { Chance::per_mille(10) } else { Chance(500) }),
            wrecked: draw(rng, Chance::per_mille(200)),
        };
        Self {
            faults,
            liars: draw(rng, Chance::per_mille(200)),
            in_commit: draw(rng, Chance::per_mille(1_000)),
            cut_short: draw(rng, Chance::per_mille(30)),
            taken_away: draw(rng, Chance::per_mille(10)),
            catalogue,
            decaying: draw(rng, Chance::per_mille(500)),
            decays: rng.random_range(1..=200),
            full: often(rng, 20),
            lost: often(rng, 2),
            old_image: often(rng, 2),
            index_lost: draw(rng, Chance::per_mille(300)),
            capacity: rng.random_range(1..=64) << 20,
            segment_bytes: 32 << rng.random_range(10..=13),
        }
    }
}

impl UsePlan {
    /// What owners ask of holders.
    pub(crate) fn terms(&self) -> LeaseTerms {
        let release_delay_s = u32::try_from(self.delay.as_secs()).unwrap_or(u32::MAX);
        LeaseTerms { release_delay_s, ..LeaseTerms::default() }
    }

    fn draw(rng: &mut impl Rng, nodes: usize) -> Self {
        let most = (nodes - 1).min(5);
        Self {
            owners: rng.random_range(1..=nodes.min(4)),
            puts: rng.random_range(1..=6),
            chunks: rng.random_range(1..=12),
            chunk_bytes: rng.random_range(100..=20_000),
            replicas: u8::try_from(rng.random_range(1..=most)).unwrap_or(1),
            gets: rng.random_range(0..=30),
            locates: rng.random_range(0..=10),
            releases: rng.random_range(0..=6),
            released: draw(rng, Chance::per_mille(700)),
            again: draw(rng, Chance::per_mille(500)),
            patience: Duration::from_secs(match rng.random_range(0..30) {
                0 => 30 * 86_400,
                _ => rng.random_range(3_600..=3 * 86_400),
            }),
            delay: Duration::from_secs(rng.random_range(1..=2 * 86_400)),
        }
    }
}

/// One world in six is cut into two or four shards, with half of the nodes at home in each: far
/// finer than a mesh of its size should be.
fn draw_sharding(rng: &mut impl Rng) -> Sharding {
    match rng.random_range(0..6) {
        0 => {
            let bits = rng.random_range(1..=2);
            Sharding::new(bits, bits)
        }
        _ => Sharding::WHOLE,
    }
}

/// So many times a year, or never.
fn often(rng: &mut impl Rng, most: u64) -> u64 {
    if rng.random_range(0..3) == 0 { 0 } else { rng.random_range(1..=most) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_and_long_worlds_may_have_more_events() {
        let most = |nodes, days| Plan::still(nodes, days).events_max();
        assert_eq!([most(2, 1), most(5, 30)], [EVENTS_MAX; 2]);
        assert_eq!(most(100, 90), 9_000 * EVENTS_PER_NODE_DAY);
    }

    #[test]
    fn worlds_stay_within_their_frame_and_differ() {
        let frame = Frame { nodes: 5..=30, days: 30 };
        let plans: Vec<_> = (0..200)
            .map(|seed| Plan::draw(&mut ChaCha20Rng::seed_from_u64(seed), &frame))
            .collect();
        assert!(plans.iter().all(|plan| frame.nodes.contains(&plan.nodes)));
        assert!(plans.iter().all(|plan| usize::from(plan.use_.replicas) < plan.nodes));
        for off in [|p: &Plan| p.net.loss, |p: &Plan| p.people.byzantine] {
            let without = plans.iter().filter(|plan| off(plan) == Chance::NEVER).count();
            assert!((40..100).contains(&without), "{without}");
        }
    }
}
