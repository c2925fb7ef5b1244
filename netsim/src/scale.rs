//! What a mesh costs its members as it grows: meshes of real roles over real stores, without
//! faults, of ten to ten thousand nodes, in one shard and in as many as are recommended.
//!
//! # The load
//!
//! Every node puts [`PUTS_PER_DAY`] times a day [`CHUNKS`] chunks of 64 KiB, [`REPLICAS`] times
//! each, so that N nodes put N times as much. A stated number of these puts is simulated, at the
//! rate at which they come: in a large mesh that is a short time, in a small one a long one. What
//! they cost the whole mesh, divided by their number and multiplied by the puts of a day, is what
//! one node bears in a day. Then some holders leave for ever, and the owners ask for new replicas.
//!
//! # What is not in it
//!
//! - The routers' own traffic (heartbeats, IHAVE), handshakes, Kademlia. A new connection costs the
//!   Hellos on its two streams.
//! - How nodes find one another. They are given 36 connections on average, eight of them to members
//!   of each home shard; and whoever publishes in a shard where it is connected to hardly anybody
//!   is connected to some members first. A real node takes their ids from its routing table or
//!   looks for more in the DHT, and works out from an id where a node is at home.
//!
//! | file | what it holds |
//! |---|---|
//! | `scale/mesh.rs` | one mesh in virtual time |
//! | `scale/carry.rs` | what its roles want done |
//! | `scale/run.rs` | what is put, who leaves, and what it came to |
//! | `scale/report.rs` | the table, and JSON |
//! | `scale/judge.rs` | what has to hold of it |

mod carry;
mod judge;
mod mesh;
mod report;
mod run;

use crate::report::say;
use clap::{Args, ValueEnum};
use quloud::core::shard::Sharding;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Which meshes are measured.
#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    /// How many nodes; several sizes with commas between them
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "10,100,1000,10000",
        value_parser = clap::value_parser!(u32).range(5..=100_000)
    )]
    nodes: Vec<u32>,
    /// In as many shards as are recommended, in one, or each size in both
    #[arg(long, default_value = "both")]
    sharding: Which,
    /// Decides everything that happens
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Measure fewer puts, and exit with 1 where the figures are not as they have to be
    ///
    /// What an owner sends per chunk must not grow with the mesh, and control traffic per node only
    /// with those who hear a topic. None of it depends on the machine.
    #[arg(long)]
    check: bool,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// With shards or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    On,
    Off,
    Both,
}

impl ScaleArgs {
    /// Measures, and prints what it came to.
    pub(crate) fn run(&self) -> ExitCode {
        let mut sizes = self.nodes.clone();
        sizes.sort_unstable();
        let mut setups = Vec::new();
        for nodes in sizes.into_iter().filter_map(|nodes| usize::try_from(nodes).ok()) {
            for is_sharded in [false, true] {
                let mut setup = Setup::new(nodes, is_sharded, self.seed);
                if self.check {
                    setup.puts = setup.puts.min(PUTS_CHECKED);
                }
                let wanted = match self.sharding {
                    Which::On => is_sharded,
                    Which::Off => !is_sharded,
                    // A small mesh is one shard in any case.
                    Which::Both => !is_sharded || setup.sharding != Sharding::WHOLE,
                };
                setups.extend(wanted.then_some(setup));
            }
        }
        let rows = measure(&setups);
        let faults = if self.check { judge::faults(&rows) } else { Vec::new() };
        say(report::table(&rows));
        faults.iter().for_each(|fault| say(format!("BROKEN  {fault}")));
        if self.json {
            say(report::json(&rows, self.seed, &faults));
        }
        ExitCode::from(u8::from(!faults.is_empty()))
    }
}

/// How often each node puts chunks, a day.
const PUTS_PER_DAY: u64 = 10;
/// How many at a time.
const CHUNKS: usize = 8;
/// So many puts are enough to see whether figures are as they have to be.
const PUTS_CHECKED: usize = 40;
/// Replicas of each.
const REPLICAS: u8 = 3;

/// One mesh to be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setup {
    pub(crate) nodes: usize,
    pub(crate) sharding: Sharding,
    /// How many puts are simulated.
    pub(crate) puts: usize,
    pub(crate) seed: u64,
}

impl Setup {
    /// A mesh with as many shards as are recommended for it, or with one.
    pub(crate) fn new(nodes: usize, is_sharded: bool, seed: u64) -> Self {
        let whole = Sharding::WHOLE;
        let sharding = if is_sharded { Sharding::recommended(nodes as u64) } else { whole };
        // A put in one shard of ten thousand moves a hundred thousand messages.
        let puts = if nodes > 2_000 && !is_sharded { 20 } else { 200 };
        Self { nodes, sharding, puts, seed }
    }
}

/// What one mesh came to. Sums, in bytes and milliseconds; the same for the same setup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Figures {
    /// How long the puts took to come.
    pub(crate) window_ms: u64,
    /// Connections that are kept, of all nodes: each counts for both of its ends.
    pub(crate) connections: u64,
    /// Requests that were published, and answers to them.
    pub(crate) requests: u64,
    pub(crate) answers: u64,
    /// Copies of gossiped messages.
    pub(crate) gossip_copies: u64,
    pub(crate) gossip_bytes: u64,
    /// All that went over streams, but for the payloads.
    pub(crate) frame_bytes: u64,
    /// Connections made to reach members of a shard before publishing there.
    pub(crate) looked_up: u64,
    /// Sealed bytes of all chunks that were put, once each.
    pub(crate) sealed_bytes: u64,
    /// Payload that owners sent to have them stored.
    pub(crate) payload_bytes: u64,
    /// What owners sent besides: their frames without payload, and their requests.
    pub(crate) asking_bytes: u64,
    /// Chunks that were put.
    pub(crate) chunks: u64,
    /// From the put to the quorum, for each chunk that reached it, in order.
    pub(crate) quorum_ms: Vec<u64>,
    /// Nodes that left for ever.
    pub(crate) left: u64,
    /// Replicas that went with them.
    pub(crate) lost: u64,
    /// Chunks for which owners asked for new ones.
    pub(crate) asked: u64,
    /// Payload that owners sent for these.
    pub(crate) healing_bytes: u64,
    /// From asking for a new replica to its ack, for each chunk that got it, in order.
    pub(crate) heal_ms: Vec<u64>,
    /// Everything that happened.
    pub(crate) events: u64,
}

/// One line of the table.
#[derive(Debug)]
struct Row {
    setup: Setup,
    figures: Figures,
    took: Duration,
    /// The most memory that this process had so far, in KiB, where the system says it.
    peak_kib: Option<u64>,
}

/// Measures these meshes, one after the other.
fn measure(setups: &[Setup]) -> Vec<Row> {
    crate::progress::of(setups.len() as u64, "meshes", |progress| {
        let row = |setup: &Setup| {
            let started = Instant::now();
            let figures = run::run(setup);
            progress.step();
            let (took, peak_kib) = (started.elapsed(), peak_kib());
            Row { setup: *setup, figures, took, peak_kib }
        };
        setups.iter().map(row).collect()
    })
}

/// `VmHWM` of this process.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(nodes: usize, sharding: Sharding) -> Figures {
        run::run(&Setup { nodes, sharding, puts: 20, seed: 1 })
    }

    #[test]
    fn upload_per_chunk_is_its_replicas_and_control_per_node_stays_flat_in_shards() {
        let small = figures(10, Sharding::WHOLE);
        let whole = figures(40, Sharding::WHOLE);
        let sharded = figures(40, Sharding::new(2, 1));
        for of in [&small, &whole, &sharded] {
            assert_eq!(of.quorum_ms.len() as u64, of.chunks, "all is stored");
            assert_eq!(of.payload_bytes, of.sealed_bytes * u64::from(REPLICAS));
            assert!(of.asking_bytes < of.payload_bytes / 20, "{of:?}");
            assert_eq!((of.heal_ms.len() as u64, of.asked > 0), (of.asked, true));
            assert_eq!(of.healing_bytes, of.lost * (of.sealed_bytes / of.chunks));
        }
        let control = |of: &Figures| of.gossip_bytes + of.frame_bytes;
        assert!(control(&whole) > 2 * control(&small), "{small:?} {whole:?}");
        assert!(control(&sharded) * 4 < control(&small) * 5, "{small:?} {sharded:?}");
    }

    #[test]
    fn same_setup_has_the_same_figures() {
        let sharding = Sharding::new(1, 1);
        assert_eq!(figures(20, sharding), figures(20, sharding));
    }
}
