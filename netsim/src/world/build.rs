//! Who is in a world, and what is going to happen to them.

use super::notice::Noticed;
use super::{Decay, Event, Observer, Script, World};
use crate::agenda::Agenda;
use crate::chance::{Chance, between, heavy, moments};
use crate::clock::Movement;
use crate::disk::{DiskFaults, Mishap};
use crate::ending::Ending;
use crate::evil::{self, Gang, Make};
use crate::limits::Limits;
use crate::net::{Cut, Net};
use crate::node::{Blueprint, Index, Nat, Node, Place, REBOOT};
use crate::oracle::Oracle;
use crate::plan::{Frame, Plan};
use crate::tally::Tally;
use quloud::core::effect::Reach;
use quloud::core::types::Time;
use quloud::store::heads::HeadBounds;
use quloud::store::releases::ReleaseBounds;
use quloud::store::writer::Options;
use rand::seq::{IteratorRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

const DAY: Duration = Duration::from_secs(86_400);

/// A laptop's lid is open for so long each day.
const OPEN: Duration = Duration::from_secs(8 * 3_600);

/// How far a clock drifts at the most, in millionths.
const DRIFT_MAX: i16 = 500;

/// How long a process has been running at the most when its roles begin: a large store is made
/// anew.
const AHEAD_MAX_MS: u64 = 3_600_000;

/// Where a machine of many names is seen.
const SYBILS: [u8; 3] = [101, 0, 0];

impl<'a> World<'a> {
    /// The world of one seed, at its beginning.
    pub(super) fn new(seed: u64, frame: &Frame, observer: Observer<'a>) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let plan = Plan::draw(&mut rng, frame);
        Self::of(plan, rng, observer)
    }

    /// A world with this plan.
    pub(super) fn of(plan: Plan, mut rng: ChaCha20Rng, observer: Observer<'a>) -> Self {
        let places: Vec<Place> = (0..plan.nodes).map(|node| place(&mut rng, &plan, node)).collect();
        let slow: Vec<bool> = places.iter().map(|place| place.slow).collect();
        let net = Net::new(rng.random(), plan.net.clone(), &slow);
        let node = |(number, place): (Index, Place)| {
            let blueprint = blueprint(&mut rng, &plan, number, place);
            Node::new(ChaCha20Rng::from_seed(rng.random()), blueprint)
        };
        let nodes: Vec<Node> = places.into_iter().enumerate().map(node).collect();
        let ids: Vec<_> = nodes.iter().map(|node| node.id).collect();
        let indices = ids.iter().enumerate().map(|(index, id)| (*id, index)).collect();
        let mut world = Self {
            plan,
            rng,
            agenda: Agenda::new(),
            nodes,
            ids,
            indices,
            net,
            keeps: Vec::new(),
            chunks: BTreeMap::new(),
            heads: BTreeMap::new(),
            devices: BTreeMap::new(),
            looks: BTreeMap::new(),
            brought: BTreeMap::new(),
            fetched: BTreeSet::new(),
            located: BTreeSet::new(),
            ending: Ending::default(),
            hearing: None,
            oracle: Oracle::new(),
            violations: Vec::new(),
            rejects: Tally::default(),
            faults: Tally::default(),
            acts: Tally::default(),
            noticed: Noticed::default(),
            events: 0,
            stored: 0,
            undoing: BTreeMap::new(),
            releasing: BTreeMap::new(),
            deletes: 0,
            calm: false,
            script: Script::default(),
            timeline: None,
            trace: blake3::Hasher::new(),
            observer,
        };
        let first = format!("{:?}", world.plan);
        world.log(|| first.clone());
        for node in 0..world.nodes.len() {
            let place = world.nodes[node].place.clone();
            world.log(|| format!("{node} {place:?}"));
        }
        world.befriend();
        world.corrupt();
        world.foretell();
        world
    }

    /// Who keeps a connection to whom: always enough for the mesh to hang together.
    fn befriend(&mut self) {
        let connected = self.plan.net.connected;
        for a in 0..self.plan.nodes {
            for b in a + 1..self.plan.nodes {
                let chain = b == a + 1;
                if chain || connected.happens(&mut self.rng) {
                    self.keeps.push((a, b));
                }
            }
        }
    }

    /// Some nodes deviate from the protocol; owners do not.
    fn corrupt(&mut self) {
        let gang = Gang::new(self.some_time(), self.rng.random());
        // In one world out of three all deviate in the same way.
        let kinds = 0..evil::ALL.len();
        let only = self.rng.random_range(kinds.clone());
        let only = (self.rng.random_range(0..3) == 0).then_some(only);
        let mut names = None;
        for node in self.plan.use_.owners..self.plan.nodes {
            if let Some((which, left)) = names.filter(|(_, left)| *left > 0) {
                names = Some((which, left - 1));
                self.corrupt_one(node, evil::ALL[which], &gang);
            } else if self.plan.people.byzantine.happens(&mut self.rng) {
                let which = only.unwrap_or(self.rng.random_range(kinds.clone()));
                if self.corrupt_one(node, evil::ALL[which], &gang) && names.is_none() {
                    names = Some((which, self.rng.random_range(1..=4)));
                }
            }
        }
        // Whatever else is drawn, one world of ten has a thief.
        let last = self.plan.nodes.saturating_sub(1);
        let is_free = last >= self.plan.use_.owners && self.nodes[last].is_honest();
        let has_thief = self.rng.clone().random_range(0..10) == 0;
        if is_free && has_thief && self.plan.people.byzantine > Chance::NEVER {
            self.corrupt_one(last, evil::THIEF, &gang);
        }
    }

    /// Returns whether it is only one name of several.
    pub(super) fn corrupt_one(&mut self, node: Index, make: Make, gang: &Gang) -> bool {
        let evil = make(gang);
        let is_many = evil.is_many();
        if !evil.forwards() {
            self.net.mute(node);
        }
        self.log(|| format!("{node} {}", evil.name()));
        if is_many {
            // All its names are seen in one place.
            self.nodes[node].place.reach = Reach::PublicV4(SYBILS);
        }
        self.nodes[node].evil = Some(evil);
        self.act_later(node);
        is_many
    }

    /// Enters what is going to happen, whatever anybody does.
    fn foretell(&mut self) {
        for node in 0..self.plan.nodes {
            let wait = Duration::from_secs(self.rng.random_range(0..=60));
            self.agenda.after(wait, Event::Start { node });
            self.foretell_machine(node);
            self.foretell_disk(node);
            if self.nodes[node].place.laptop {
                self.foretell_lids(node);
            }
        }
        for owner in 0..self.plan.use_.owners {
            self.foretell_user(owner);
        }
        for _ in 0..self.plan.use_.gets {
            let at = self.some_time();
            self.agenda.at(at, Event::Get);
        }
        for _ in 0..self.plan.use_.locates {
            let at = self.some_time();
            self.agenda.at(at, Event::Locate);
        }
        for at in moments(&mut self.rng, self.plan.net.partitions, self.plan.span) {
            let longest = self.plan.net.partition;
            let length = between(&mut self.rng, Duration::from_secs(1), longest);
            let cut = self.draw_cut();
            self.agenda.at(Time(0).after(at), Event::CutBegins { cut, length });
        }
        for at in moments(&mut self.rng, self.plan.people.mass_restarts, self.plan.span) {
            // All of them, or a good part.
            let parts = if self.rng.random() { 1_000 } else { self.rng.random_range(400..=900) };
            let hit = |_: &Index| Chance::per_mille(parts).happens(&mut self.rng);
            let nodes = (0..self.plan.nodes).filter(hit).collect();
            self.agenda.at(Time(0).after(at), Event::MassRestart { nodes });
        }
        for at in moments(&mut self.rng, self.plan.net.swizzles, self.plan.span) {
            let share = Chance::per_mille(self.rng.random_range(50..=1_000));
            let apart = heavy(&mut self.rng, SECOND, self.plan.shorter(DAY / 24));
            let length = between(&mut self.rng, SECOND, self.plan.net.partition);
            self.agenda.at(Time(0).after(at), Event::Swizzle { share, apart, length });
        }
    }

    fn foretell_user(&mut self, owner: Index) {
        let mut puts = Vec::new();
        for _ in 0..self.plan.use_.puts {
            let chunks = self.rng.random_range(1..=self.plan.use_.chunks);
            let at = self.some_time();
            self.agenda.at(at, Event::Put { owner, chunks });
            puts.push(at);
        }
        self.foretell_backups(owner);
        if self.plan.audits {
            let wait = between(&mut self.rng, SECOND, self.plan.shorter(DAY));
            self.agenda.after(wait, Event::Audit { owner, regular: true });
        }
        if self.plan.audits && self.plan.trials {
            let wait = between(&mut self.rng, SECOND, self.plan.shorter(DAY));
            self.agenda.after(wait, Event::Try { owner });
        }
        for _ in 0..self.plan.use_.releases {
            // At any time, or while something is being put.
            let put = puts.iter().choose(&mut self.rng).filter(|_| self.rng.random());
            let wait = Duration::from_millis(self.rng.random_range(0..=3_000));
            let at = put.map_or_else(|| self.some_time(), |put| put.after(wait));
            self.agenda.at(at, Event::Release { owner });
        }
    }

    fn foretell_backups(&mut self, owner: Index) {
        let plan = self.plan.backups.clone();
        let times = [
            (plan.times, Event::Backup { owner }),
            (plan.forgets, Event::Forget { owner }),
            (plan.looks, Event::LookBack { owner }),
        ];
        for (times, event) in times {
            for _ in 0..times {
                let at = self.some_time();
                self.agenda.at(at, event.clone());
            }
        }
    }

    fn some_time(&mut self) -> Time {
        let span = u64::try_from(self.plan.span.as_millis()).unwrap_or(u64::MAX);
        Time(self.rng.random_range(0..=span))
    }

    fn foretell_machine(&mut self, node: Index) {
        let (people, span) = (self.plan.people.clone(), self.plan.span);
        for at in moments(&mut self.rng, people.crashes, span) {
            let down = heavy(&mut self.rng, REBOOT * 4, people.downtime);
            let in_commit = self.plan.disk.in_commit.happens(&mut self.rng);
            self.agenda.at(Time(0).after(at), Event::Crash { node, down, in_commit });
        }
        for at in moments(&mut self.rng, people.crash_loops, span) {
            let more = self.rng.random_range(2..=8);
            self.agenda.at(Time(0).after(at), Event::CrashLoop { node, more });
        }
        for at in moments(&mut self.rng, people.pauses, span) {
            let longest = self.plan.shorter(DAY / 2);
            let length = between(&mut self.rng, Duration::from_secs(1), longest);
            self.agenda.at(Time(0).after(at), Event::Pause { node, length, lid: false });
        }
        // An owner that leaves takes its promises along.
        let leaves =
            Chance::per_mille(u32::try_from(people.leaves * 10).unwrap_or(1_000).min(1_000));
        let within = Duration::from_secs(365 * 86_400);
        let at = Duration::from_secs(self.rng.random_range(0..within.as_secs()));
        if node >= self.plan.use_.owners && leaves.happens(&mut self.rng) && at < span {
            self.agenda.at(Time(0).after(at), Event::Leave { node });
        }
    }

    fn foretell_disk(&mut self, node: Index) {
        let (disk, span) = (self.plan.disk.clone(), self.plan.span);
        for at in moments(&mut self.rng, disk.full, span) {
            let longest = self.plan.shorter(DAY * 2);
            let length = between(&mut self.rng, Duration::from_secs(60), longest);
            let quota = self.rng.random();
            self.agenda.at(Time(0).after(at), Event::Fill { node, length, quota });
        }
        if self.nodes[node].place.sturdy {
            return;
        }
        let decays = if disk.decaying.happens(&mut self.rng) { disk.decays } else { 0 };
        for at in moments(&mut self.rng, decays, span) {
            let how = match self.rng.random_range(0..6) {
                0 => Decay::Zero,
                1 => Decay::Slip(Mishap::LostWrite),
                2 => Decay::Slip(Mishap::WriteElsewhere),
                3 => Decay::Slip(Mishap::ReadElsewhere),
                _ => Decay::Flip,
            };
            self.agenda.at(Time(0).after(at), Event::Decay { node, how });
        }
        for at in moments(&mut self.rng, disk.lost, span) {
            self.agenda.at(Time(0).after(at), Event::LoseDisk { node });
        }
        for at in moments(&mut self.rng, disk.old_image, span) {
            let taken = Duration::from_secs(self.rng.random_range(0..=at.as_secs()));
            self.agenda.at(Time(0).after(taken), Event::TakeImage { node });
            self.agenda.at(Time(0).after(at), Event::OldImage { node });
        }
    }

    fn foretell_lids(&mut self, node: Index) {
        let opens = Duration::from_secs(self.rng.random_range(0..16 * 3_600));
        let days = u32::try_from(self.plan.span.as_secs() / DAY.as_secs()).unwrap_or(u32::MAX);
        for day in 0..days {
            let closes = Time(0).after(DAY * day + opens + OPEN);
            self.agenda.at(closes, Event::Pause { node, length: DAY - OPEN, lid: true });
        }
    }

    /// One node, two halves, one pair; both ways or one.
    fn draw_cut(&mut self) -> Cut {
        let mut order: Vec<Index> = (0..self.plan.nodes).collect();
        order.shuffle(&mut self.rng);
        let count = match self.rng.random_range(0..3) {
            0 => 1,
            1 => order.len() / 2,
            _ => self.rng.random_range(1..order.len()),
        };
        let (one, other) = order.split_at(count.clamp(1, order.len() - 1));
        let pair = self.rng.random_range(0..4) == 0;
        let other: BTreeSet<Index> =
            other.iter().take(if pair { 1 } else { other.len() }).copied().collect();
        let one: BTreeSet<Index> = one.iter().copied().collect();
        if self.rng.random_range(0..3) == 0 {
            Cut::one_way(one, other)
        } else {
            Cut::between(one, other)
        }
    }
}

pub(super) fn blueprint(
    rng: &mut ChaCha20Rng,
    plan: &Plan,
    node: Index,
    place: Place,
) -> Blueprint {
    // The owners' own disks are honest, or there would be nobody to promise anything to.
    let may_lie = node >= plan.use_.owners && !place.sturdy;
    let lies = may_lie && plan.disk.liars.happens(rng);
    // The largest chunk, sealed.
    let chunk_bytes = plan.chunk_bytes() as u64;
    let mut limits = if plan.tight { Limits::tight(rng, chunk_bytes) } else { Limits::default() };
    let terms = plan.use_.terms();
    // Holders insist on less than owners ask for.
    limits.holder.release_delay_min_s = terms.release_delay_s / 2;
    let options = Options {
        capacity: plan.disk.capacity,
        reserve: 64 << 10,
        segment_bytes: plan.disk.segment_bytes,
        ballast: if rng.random() { 32 << 10 } else { 0 },
        heads: HeadBounds::default(),
        releases: ReleaseBounds::default(),
        scrub_round: quloud::store::scrub::ROUND,
    };
    Blueprint {
        place,
        options,
        disk: DiskFaults { lies, ..plan.disk.faults },
        catalogue: plan.disk.catalogue,
        domains: plan.people.domains,
        terms,
        limits,
        sharding: plan.sharding,
    }
}

fn movement(rng: &mut ChaCha20Rng, plan: &Plan) -> Movement {
    let drifts = plan.people.drifting.happens(rng);
    let stops = plan.people.stopping.happens(rng);
    let drift = if drifts { rng.random_range(-DRIFT_MAX..=DRIFT_MAX) } else { 0 };
    let ahead = if drifts || stops { rng.random_range(0..=AHEAD_MAX_MS) } else { 0 };
    Movement { drift, stops, ahead: Duration::from_millis(ahead) }
}

fn place(rng: &mut ChaCha20Rng, plan: &Plan, node: Index) -> Place {
    let shares = plan.people.neighbours.happens(rng);
    // Neighbours are three to a network; everybody else has one, or is at home with all the others.
    let number = u16::try_from(if shares { node / 3 } else { 1_000 + node }).unwrap_or(u16::MAX);
    let [high, low] = number.to_be_bytes();
    let relayed = plan.net.relayed.happens(rng);
    let reach = match rng.random_range(0..6) {
        _ if relayed => Reach::Relayed,
        0 | 1 => Reach::Local,
        2 => Reach::PublicV6([0x20, 1, 0x0d, 0xb8, high, low]),
        _ => Reach::PublicV4([100, high, low]),
    };
    let nat = match rng.random_range(0..4) {
        _ if !plan.net.behind_nat.happens(rng) => Nat::Open,
        0 => Nat::InboundOnly,
        _ => Nat::OutboundOnly,
    };
    Place {
        reach,
        nat,
        clock: movement(rng, plan),
        slow: plan.net.slow.happens(rng),
        laptop: plan.people.laptops.happens(rng),
        sturdy: rng.random_range(0..3) == 0,
    }
}
