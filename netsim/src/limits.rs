//! How much each node lets others make it do, and does at once.
//!
//! In a quarter of the worlds every node draws its own limits, each of them with one chance in four
//! from its smallest sane value up to a few times that, so that every bound, every queue and every
//! timeout is hit (the "buggify" of FoundationDB's simulator). The smallest sane values are those
//! with which a mesh is still live once nothing goes wrong any more; they stand beside each draw.
//! Below them a node never does what it is there for:
//!
//! | limit | smallest sane value |
//! |---|---|
//! | bytes being written, each peer and in all; the owner's window | one chunk |
//! | every rate | 1 a second, a burst of 2 |
//! | every count of work, reads, writes, jobs or fetches | 1 |
//! | what is remembered | 1: a proof that was forgotten is good only for who made it |
//! | the volunteers' probability | 1/65: it doubles with each request |
//! | a late holder, a stalled fetch | 2 s, a hop's time there and back many times over |
//!
//! A small window that is full of what nobody takes lets nothing else in: what waits outside is
//! not asked to be live.
//!
//! Some limits refuse for good, by policy: accounts, bytes of an account, terms, and peers. They
//! are small on one node in sixteen each. Such a node is [`Limits::stingy`], and nobody may count
//! on it.

use quloud::core::holder::{HolderLimits, Rate};
use quloud::core::owner::OwnerLimits;
use quloud::store::bounds::WRITE_QUEUE_MAX;
use rand::{Rng, RngExt};
use std::time::Duration;

/// The limits of both roles of a node.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) holder: HolderLimits,
    pub(crate) owner: OwnerLimits,
    /// Writes and deletes that may wait for its store.
    pub(crate) write_queue: usize,
    /// It may refuse an honest owner for good.
    pub(crate) stingy: bool,
    /// It does not listen to all of its peers.
    pub(crate) deaf: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            holder: HolderLimits::default(),
            owner: OwnerLimits::default(),
            write_queue: WRITE_QUEUE_MAX,
            stingy: false,
            deaf: false,
        }
    }
}

/// What draws limits: one in four is small.
struct Draw<'a, R>(&'a mut R);

impl<R: Rng> Draw<'_, R> {
    fn is_small(&mut self) -> bool {
        self.0.random_range(0..4) == 0
    }

    fn usize(&mut self, limit: &mut usize, least: usize) -> bool {
        let small = self.is_small();
        if small {
            *limit = self.0.random_range(least..=4 * least);
        }
        small
    }

    fn u64(&mut self, limit: &mut u64, least: u64) -> bool {
        let small = self.is_small();
        if small {
            *limit = self.0.random_range(least..=4 * least);
        }
        small
    }

    fn u32(&mut self, limit: &mut u32, least: u32) -> bool {
        let small = self.is_small();
        if small {
            *limit = self.0.random_range(least..=4 * least);
        }
        small
    }

    fn rate(&mut self, limit: &mut Rate) {
        if self.is_small() {
            *limit = Rate { per_s: 1, burst: self.0.random_range(2..=8) };
        }
    }

    fn wait(&mut self, limit: &mut Duration, least: Duration) {
        if self.is_small() {
            *limit = least * self.0.random_range(1..=4);
        }
    }
}

impl Limits {
    /// Tight ones, for chunks of up to so many bytes.
    pub(crate) fn tight(rng: &mut impl Rng, chunk_bytes: u64) -> Self {
        let mut limits = Self::default();
        let mut draw = Draw(rng);
        limits.draw_policy(&mut draw, chunk_bytes);
        limits.draw_work(&mut draw, chunk_bytes);
        limits.draw_owner(&mut draw, chunk_bytes);
        limits
    }

    /// What refuses for good.
    fn draw_policy(&mut self, draw: &mut Draw<'_, impl Rng>, chunk_bytes: u64) {
        let holder = &mut self.holder;
        let bytes = draw.is_small() && draw.u64(&mut holder.account_bytes_max, 2 * chunk_bytes);
        let accounts = draw.is_small() && draw.usize(&mut holder.accounts_max, 1);
        // Whoever comes after them waits for a day.
        let peers = draw.is_small() && draw.usize(&mut holder.new_account_peers, 1);
        let terms = draw.is_small() && draw.is_small();
        if terms {
            holder.terms_max.keep_after_silence_s = 86_400;
        }
        self.deaf = draw.is_small() && draw.usize(&mut holder.peers_max, 2);
        self.stingy = bytes || accounts || peers || terms || self.deaf;
        draw.usize(&mut holder.new_accounts_per_peer, 1);
    }

    fn draw_work(&mut self, draw: &mut Draw<'_, impl Rng>, chunk_bytes: u64) {
        let holder = &mut self.holder;
        draw.rate(&mut holder.topic_requests_per_forwarder);
        draw.rate(&mut holder.topic_requests);
        draw.rate(&mut holder.claims);
        draw.rate(&mut holder.direct_requests_per_peer);
        draw.rate(&mut holder.unproven_per_peer);
        draw.rate(&mut holder.put_off_per_peer);
        draw.usize(&mut holder.requests_seen_per_forwarder, 1);
        draw.usize(&mut holder.requests_seen, 1);
        draw.usize(&mut holder.proofs_seen_per_peer, 1);
        draw.usize(&mut holder.proofs_seen, 1);
        draw.u64(&mut holder.topic_work_per_forwarder, 1);
        draw.u64(&mut holder.topic_work, 1);
        draw.u64(&mut holder.stream_work_per_peer, 1);
        draw.u64(&mut holder.stream_work, 1);
        draw.u64(&mut holder.writing_bytes_per_peer, chunk_bytes);
        draw.u64(&mut holder.writing_bytes, chunk_bytes);
        draw.u64(&mut holder.reads_per_peer, 1);
        draw.u64(&mut holder.reads, 1);
        draw.u64(&mut holder.queued_reads_per_peer, 1);
        draw.u64(&mut holder.queued_reads, 1);
        draw.usize(&mut self.write_queue, 1);
    }

    fn draw_owner(&mut self, draw: &mut Draw<'_, impl Rng>, chunk_bytes: u64) {
        let owner = &mut self.owner;
        let chunk = usize::try_from(chunk_bytes).unwrap_or(usize::MAX);
        draw.usize(&mut owner.window_bytes, chunk);
        draw.usize(&mut owner.store_jobs, 1);
        draw.usize(&mut owner.batch_bytes, 1);
        draw.usize(&mut owner.in_flight_bytes, 1);
        draw.wait(&mut owner.batch_wait, Duration::from_millis(1));
        draw.wait(&mut owner.late_after, Duration::from_secs(2));
        if draw.is_small() {
            owner.volunteer = draw.0.random_range(1_000..=u16::MAX);
        }
        draw.usize(&mut owner.fetch_slots, 1);
        draw.usize(&mut owner.fetches_per_holder, 1);
        draw.wait(&mut owner.fetch_stall, Duration::from_secs(2));
        draw.u32(&mut owner.dials_per_second, 1);
        draw.u32(&mut owner.publishes_per_second, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    #[test]
    fn each_limit_is_small_now_and_then_and_never_below_what_is_sane() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let drawn: Vec<_> = (0..400).map(|_| Limits::tight(&mut rng, 20_000)).collect();
        let share = |is_so: &dyn Fn(&Limits) -> bool| drawn.iter().filter(|l| is_so(l)).count();
        for small in [
            share(&|l| l.holder.writing_bytes < 100_000),
            share(&|l| l.holder.reads < 5),
            share(&|l| l.owner.fetch_slots < 5),
            share(&|l| l.owner.window_bytes < 100_000),
        ] {
            assert!((60..140).contains(&small), "{small}");
        }
        assert!(drawn.iter().all(|l| l.holder.writing_bytes >= 20_000 && l.holder.reads > 0));
        assert!((60..160).contains(&share(&|l| l.stingy)));
        assert!((5..60).contains(&share(&|l| l.deaf)));
    }
}
