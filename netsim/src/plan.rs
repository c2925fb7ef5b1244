//! What a seed decides: how large the world is, and how unkind. Each seed draws its own rates, so
//! that some worlds see one fault only and others see all of them.

use rand::RngExt;
use rand_chacha::ChaCha20Rng;

/// One world's parameters. Rates are in 1/1000.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Nodes beside the writer and the reader.
    pub(crate) holders: usize,
    /// Replicas of each chunk.
    pub(crate) replicas: u8,
    /// Chunks that are put.
    pub(crate) chunks: u32,
    /// Of the pairs of nodes, those that are connected from the start.
    pub(crate) connected: u32,
    /// Gossip that does not arrive at a node, and dials that fail.
    pub(crate) loss: u32,
    /// Gossip that arrives twice.
    pub(crate) duplicate: u32,
    /// Connections that break under a message.
    pub(crate) cut: u32,
    /// The shortest and the longest ordinary delay, in milliseconds.
    pub(crate) delay_ms: (u64, u64),
    /// Messages that take ten times as long.
    pub(crate) slow: u32,
    /// Writes that fail.
    pub(crate) write_error: u32,
    /// Over how many milliseconds the chunks come to the writer.
    pub(crate) put_ms: u64,
    /// Holders that crash in that time, and come back with what was durable.
    pub(crate) crashes: u32,
    /// Holders that are gone for ever before chunks are fetched: fewer than the replicas.
    pub(crate) kills: usize,
}

impl Plan {
    pub(crate) fn draw(rng: &mut ChaCha20Rng) -> Self {
        let holders = rng.random_range(1..=8);
        let replicas = rng.random_range(1..=holders.min(5));
        let shortest = rng.random_range(1..=50);
        Self {
            holders,
            replicas: u8::try_from(replicas).unwrap_or(1),
            chunks: rng.random_range(1..=24),
            connected: rng.random_range(200..=1_000),
            loss: fault(rng, 300),
            duplicate: fault(rng, 500),
            cut: fault(rng, 30),
            delay_ms: (shortest, shortest + rng.random_range(0..=400)),
            slow: fault(rng, 100),
            write_error: fault(rng, 50),
            put_ms: rng.random_range(1..=30_000),
            crashes: fault(rng, 6),
            kills: rng.random_range(0..replicas),
        }
    }
}

/// A rate up to `max`; none at all in every third world.
fn fault(rng: &mut ChaCha20Rng, max: u32) -> u32 {
    if rng.random_ratio(1, 3) { 0 } else { rng.random_range(0..=max) }
}

/// Whether something happens that has a rate of `per_mille`.
pub(crate) fn happens(rng: &mut ChaCha20Rng, per_mille: u32) -> bool {
    rng.random_ratio(per_mille.min(1_000), 1_000)
}
