//! Every bound of the holder role, in one place.

use super::bounds::Rate;
use crate::core::types::LeaseTerms;

const DAY_S: u32 = 86_400;
const MIB: u64 = 1 << 20;

/// How much a holder lets others make it do. What happens at a bound stands at each.
#[derive(Debug, Clone)]
pub struct HolderLimits {
    /// Bytes that one account may have here. Above:
    /// [`OverQuota`](crate::core::message::StoreRefusal), but for chunks that are held already.
    /// No bound by default: what is fair depends on the capacity, which whoever sets it up knows.
    pub account_bytes_max: u64,
    /// Accounts with chunks here. Above: a new account is told `Full`.
    pub accounts_max: usize,
    /// New accounts that one peer may bring within a day; an honest owner has one account at a
    /// holder. Above: `Full`. Without a bound, one peer could use [`Self::accounts_max`] up with a
    /// tiny chunk for each, and no new owner would ever be let in.
    pub new_accounts_per_peer: usize,
    /// Peers remembered for that. Above: nobody else may bring one until the day of somebody is
    /// over. As many as it takes to use the accounts up at that rate, so that this is no cheaper.
    pub new_account_peers: usize,
    /// The longest durations that are promised. Above: no claim, or `Unwilling`.
    pub terms_max: LeaseTerms,
    /// The shortest release delay that is promised, in seconds: a shorter wish gets this one.
    pub release_delay_min_s: u32,
    /// Connected peers that are served. Above: a peer's messages are dropped (`TableFull`).
    pub peers_max: usize,
    /// Requests on topics, by the neighbour that forwarded them. Above: dropped (`RateLimited`).
    pub topic_requests_per_forwarder: Rate,
    /// Requests on topics in all. Above: dropped (`RateLimited`).
    pub topic_requests: Rate,
    /// Claims that are published. Above: a request is not answered (`RateLimited`).
    ///
    /// A store request asks for no proof, and one of about 110 bytes makes every willing node
    /// publish an answer of about 600 that the whole mesh carries. So it is each node itself that
    /// bounds what it can be made to say, however many ask: 1 KiB times this rate. An honest owner
    /// publishes a request for 64 chunks, and none while it knows enough holders.
    pub claims: Rate,
    /// Store requests on a stream, by peer. Above: dropped (`RateLimited`).
    pub direct_requests_per_peer: Rate,
    /// What asks for or brings a chunk or a head on a stream and has not proven that it may (yet),
    /// by peer; what verifies does not count. Above: `Busy`, as long as
    /// [`Self::put_off_per_peer`] lasts.
    pub unproven_per_peer: Rate,
    /// The same that is put off with a `Busy` before anything was looked up or checked, by peer.
    /// Above: dropped (`RateLimited` or `TableFull`).
    pub put_off_per_peer: Rate,
    /// Topic requests remembered, so that each is handled once, by forwarder. Above: the oldest is
    /// forgotten.
    pub requests_seen_per_forwarder: usize,
    /// The same in all.
    pub requests_seen: usize,
    /// Nonces of verified proofs remembered by peer. Above: the oldest is forgotten.
    pub proofs_seen_per_peer: usize,
    /// The same in all.
    pub proofs_seen: usize,
    /// Topic requests that wait for their jitter or a look-up, by forwarder. Above: dropped
    /// (`TableFull`).
    pub topic_work_per_forwarder: u64,
    /// The same in all.
    pub topic_work: u64,
    /// Stream messages that wait for a look-up, by peer. Above: `Busy`.
    pub stream_work_per_peer: u64,
    /// The same in all.
    pub stream_work: u64,
    /// Questions about an account, by peer, whatever they come to: a page is up to 4,096 looks into
    /// the catalogue. Above: `Busy`, as long as [`Self::put_off_per_peer`] lasts.
    pub questions_per_peer: Rate,
    /// Questions about accounts and releases that are not answered yet, by peer. Above: `Busy`. A
    /// release has up to 256 proofs, and counts as so many unproven messages as it has 64 of them.
    pub account_work_per_peer: u64,
    /// The same in all.
    pub account_work: u64,
    /// Audits that wait or are worked on, by peer; of these one is worked on. Above: `Busy`. Each
    /// counts as account work, too, of which they leave the half to other questions.
    pub audits_open_per_peer: u64,
    /// The same in all.
    pub audits_open: u64,
    /// Audits that are worked on at once. Above: they wait, in the order in which they came.
    pub audits_working: usize,
    /// Chunks that are being proven at once for one audit; each is at most 4 MiB in memory.
    pub proving_per_audit: usize,
    /// Chunks that are audited, by account; those that are not held count like all others. Above:
    /// `Busy`. The burst has room for all that 96 GB or so have in chunks; after that an owner that
    /// does not stop has 16 MiB a second read, at most, of the few that can be at once. Less than
    /// 4,096 would let no large audit in, ever.
    pub audited_chunks_per_account: Rate,
    /// Sealed bytes and records of heads on their way to the disk, by peer. Above: `Busy`.
    pub writing_bytes_per_peer: u64,
    /// The same in all.
    pub writing_bytes: u64,
    /// Chunks being read by peer. Above: queued.
    pub reads_per_peer: u64,
    /// The same in all; each is at most 4 MiB in memory.
    pub reads: u64,
    /// Proven retrieves that wait for a read, by peer. Above: `Busy`.
    pub queued_reads_per_peer: u64,
    /// The same in all.
    pub queued_reads: u64,
}

impl Default for HolderLimits {
    fn default() -> Self {
        Self {
            account_bytes_max: u64::MAX,
            accounts_max: 65_536,
            new_accounts_per_peer: 8,
            new_account_peers: 8_192,
            terms_max: LeaseTerms {
                renew_every_s: 366 * DAY_S,
                keep_after_silence_s: 3 * 366 * DAY_S,
                release_delay_s: 366 * DAY_S,
            },
            release_delay_min_s: 7 * DAY_S,
            peers_max: 256,
            topic_requests_per_forwarder: Rate { per_s: 20, burst: 200 },
            topic_requests: Rate { per_s: 200, burst: 1_000 },
            claims: Rate { per_s: 4, burst: 64 },
            direct_requests_per_peer: Rate { per_s: 20, burst: 200 },
            unproven_per_peer: Rate { per_s: 5, burst: 64 },
            put_off_per_peer: Rate { per_s: 20, burst: 256 },
            requests_seen_per_forwarder: 2_048,
            requests_seen: 8_192,
            proofs_seen_per_peer: 4_096,
            proofs_seen: 32_768,
            topic_work_per_forwarder: 256,
            topic_work: 1_024,
            stream_work_per_peer: 64,
            stream_work: 1_024,
            questions_per_peer: Rate { per_s: 4, burst: 64 },
            account_work_per_peer: 4,
            account_work: 32,
            audits_open_per_peer: 2,
            audits_open: 16,
            audits_working: 2,
            proving_per_audit: 2,
            audited_chunks_per_account: Rate { per_s: 16, burst: 262_144 },
            writing_bytes_per_peer: 32 * MIB,
            writing_bytes: 128 * MIB,
            reads_per_peer: 8,
            reads: 16,
            queued_reads_per_peer: 64,
            queued_reads: 1_024,
        }
    }
}
