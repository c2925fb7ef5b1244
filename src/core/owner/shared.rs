//! What both flows of the owner role use: its configuration, randomness, alarms, peers, effects.

use super::peers::{Dials, Peers};
use super::timers::{Pace, Timers, Turns, Wake};
use super::{OwnerConfig, OwnerEvent, OwnerLimits};
use crate::core::codec::{self, Reject};
use crate::core::effect::{Effect, Event, Peer};
use crate::core::message::{Answer, AnswerBody, Contact, StreamMessage, TopicMessage};
use crate::core::placement::DomainPolicy;
use crate::core::shard::Sharding;
use crate::core::topic::{Topic, TopicKind};
use crate::core::types::{AnswerTag, LeaseTerms, Locality, MeshId, NodeId, RequestDigest, Time};
use crate::crypto::keys::{OwnerKeys, verify_agreement};
use crate::crypto::seal::AnswerSecret;
use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How long a dial may take.
const DIAL_PATIENCE: Duration = Duration::from_secs(10);
/// One-time keys that are tried for a request, times the number of shards.
const TRIES_PER_SHARD: u64 = 16;

/// The surroundings of a flow. Fields that a flow only reads are plain; what it does goes through
/// the functions.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) keys: Arc<OwnerKeys>,
    pub(super) node: NodeId,
    pub(super) mesh: MeshId,
    pub(super) sharding: Sharding,
    /// The topic, of a home shard, on which this owner's requests are answered.
    pub(super) answer_topic: Topic,
    pub(super) domains: DomainPolicy,
    pub(super) terms: LeaseTerms,
    pub(super) limits: OwnerLimits,
    pub(super) rng: ChaCha20Rng,
    pub(super) timers: Timers,
    pub(super) peers: Peers,
    pub(super) effects: VecDeque<Effect>,
    dials: Dials,
    searches: Pace,
    requests: Turns,
}

impl Shared {
    pub(super) fn new(config: OwnerConfig) -> Self {
        let OwnerConfig { keys, node, mesh, seed, limits, sharding, domains, terms } = config;
        Self {
            answer_topic: answer_topic(&keys, &node, sharding),
            rng: ChaCha20Rng::from_seed(seed),
            dials: Dials::new(limits.dials_per_second),
            searches: Pace::new(limits.publishes_per_second),
            requests: Turns::new(limits.publishes_per_second),
            timers: Timers::default(),
            peers: Peers::default(),
            effects: VecDeque::new(),
            keys,
            node,
            mesh,
            sharding,
            domains,
            terms,
            limits,
        }
    }

    pub(super) fn send(&mut self, to: NodeId, message: StreamMessage) {
        self.effects.push_back(Effect::Send { to, message });
    }

    pub(super) fn publish(&mut self, topic: Topic, message: TopicMessage) {
        self.effects.push_back(Effect::Publish { topic, message });
    }

    /// Whether one more search may go out now; otherwise when.
    pub(super) fn may_search(&mut self, now: Time) -> Result<(), Time> {
        self.searches.take(now)
    }

    /// When the next store request may go out.
    pub(super) fn request_turn(&mut self, now: Time) -> Time {
        self.requests.take(now)
    }

    pub(super) fn report(&mut self, event: OwnerEvent) {
        self.effects.push_back(Effect::Report(Event::Owner(event)));
    }

    /// Counts something that was turned down.
    pub(super) fn reject(&mut self, from: NodeId, reason: Reject) {
        self.effects.push_back(Effect::Report(Event::Rejected { from, reason }));
    }

    /// Connects to a node that answered us, or that the user's catalogue names; false where too
    /// many dials are open.
    pub(super) fn dial(&mut self, now: Time, node: NodeId, record: Bytes) -> bool {
        let accepted = self.dials.ask(node, record);
        self.pump_dials(now);
        accepted
    }

    pub(super) fn pump_dials(&mut self, now: Time) {
        while let Some(next) = self.dials.next(now) {
            match next {
                Ok((node, record)) => {
                    self.timers.set(Wake::Dial(node), now.after(DIAL_PATIENCE));
                    self.effects.push_back(Effect::Dial { node, record });
                }
                Err(at) => {
                    self.timers.set(Wake::DialPace, at);
                    return;
                }
            }
        }
    }

    /// Dials that are open or queued.
    pub(super) fn open_dials(&self) -> usize {
        self.dials.len()
    }

    /// Whether a dial to the node was open; it is over now.
    pub(super) fn dial_over(&mut self, node: NodeId) -> bool {
        self.timers.clear(Wake::Dial(node));
        self.dials.over(&node)
    }

    /// False where the peer is of no use: ourselves, or one too many.
    pub(super) fn peer_up(&mut self, now: Time, peer: Peer) -> bool {
        self.dial_over(peer.node);
        peer.node != self.node && self.peers.up(now, peer)
    }

    pub(super) fn peer_down(&mut self, node: NodeId) {
        self.dial_over(node);
        self.peers.down(node);
    }

    /// A one-time key whose answers come on an answer topic that this node subscribes to, which a
    /// search by trial finds: 2^b keys on average, of which b is at most [`BITS_MAX`], and never
    /// more than [`TRIES_PER_SHARD`] times as many. Once in ten million times that is not enough:
    /// the request gets no answers then, and is repeated under another key.
    ///
    /// [`BITS_MAX`]: crate::core::shard::BITS_MAX
    pub(super) fn answer_secret(&mut self) -> AnswerSecret {
        let mut secret = AnswerSecret::generate(&mut self.rng);
        for _ in 1..u64::from(self.sharding.shards()) * TRIES_PER_SHARD {
            if Topic::answer(&AnswerTag::of(&secret.public()), self.sharding.bits())
                == self.answer_topic
            {
                break;
            }
            secret = AnswerSecret::generate(&mut self.rng);
        }
        secret
    }

    /// Whether the node is at home where chunks of this locality are looked for.
    pub(super) fn is_home(&self, node: &NodeId, locality: Locality) -> bool {
        self.sharding.is_home(node, locality)
    }

    /// Connected nodes that volunteered lately and are at home in the locality's shard.
    pub(super) fn fresh_holders(&self, now: Time, locality: Locality) -> Vec<NodeId> {
        let mut fresh = self.peers.fresh_holders(now);
        fresh.retain(|node| self.is_home(node, locality));
        fresh
    }

    /// Whether a connected node hears what is published for this locality.
    pub(super) fn has_hearers(&self, locality: Locality) -> bool {
        self.peers.connected().any(|node| self.is_home(node, locality))
    }

    /// Opens an answer to this request of ours, if the node that it names gave it. The record is
    /// the transport's to check: whoever is dialed must prove to be the node.
    ///
    /// Costs a scalar multiplication, and two signatures where the box opens: `owner/opened.rs`
    /// bounds how often.
    pub(super) fn open_answer(
        &self,
        secret: &AnswerSecret,
        request: RequestDigest,
        answer: &Answer,
    ) -> Result<AnswerBody, Reject> {
        let plain = secret.open(&answer.sealed).map_err(|_| Reject::BadProof)?;
        let answer = codec::decode_answer(&plain)?;
        let Contact { hello, .. } = answer.body.contact().ok_or(Reject::Malformed)?;
        if hello.mesh != self.mesh {
            return Err(Reject::WrongMesh);
        }
        let is_own = answer.verify(request)
            && verify_agreement(&hello.node, &hello.agreement, &hello.agreement_signature);
        if is_own { Ok(answer.body) } else { Err(Reject::BadProof) }
    }

    /// A duration between three and five quarters of `about`.
    pub(super) fn jitter(&mut self, about: Duration) -> Duration {
        let millis = u64::try_from(about.as_millis()).unwrap_or(u64::MAX);
        let spread = (millis / 2).max(1);
        Duration::from_millis(millis - millis / 4 + self.rng.next_u64() % spread)
    }
}

/// The topic on which the node's requests are answered: of its home shards always the same one.
///
/// The answer shard of a request is there for all to see, and requests for one chunk are linked by
/// its id. One shard tells that the asker is one of the 50 to 100 nodes at home there; several
/// would be several of its homes, and few nodes have the same two. So it must stay the same over
/// restarts, and which one it is must not follow from the node's id, or it would be the first home
/// of only a part of those nodes: the owner's account at its own node decides, which nobody sees.
fn answer_topic(keys: &OwnerKeys, node: &NodeId, sharding: Sharding) -> Topic {
    let homes = sharding.homes(node);
    let [first, ..] = *keys.account(node).account().as_bytes();
    let at = usize::from(first).checked_rem(homes.len()).unwrap_or(0);
    Topic { kind: TopicKind::Answer, shard: homes.get(at).copied().unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::shard::BITS_MAX;
    use crate::crypto::keys::Master;

    fn shared(sharding: Sharding) -> Shared {
        let keys = Arc::new(OwnerKeys::derive(&Master::from_bytes([1; 32]), 0));
        Shared::new(OwnerConfig {
            keys,
            node: NodeId::from_bytes([2; 32]),
            mesh: MeshId::from_bytes([3; 32]),
            seed: [4; 32],
            limits: OwnerLimits::default(),
            sharding,
            domains: DomainPolicy::LanCountsEach,
            terms: LeaseTerms::default(),
        })
    }

    #[test]
    fn key_of_a_request_has_its_answers_come_home_or_is_given_up_in_bounds() {
        let mut shared = shared(Sharding::new(4, 3));
        for _ in 0..8 {
            let tag = AnswerTag::of(&shared.answer_secret().public());
            assert_eq!(Topic::answer(&tag, 4), shared.answer_topic);
        }
        // No key leads there: the search ends all the same.
        shared.answer_topic.kind = TopicKind::Store;
        let tag = AnswerTag::of(&shared.answer_secret().public());
        assert_ne!(Topic::answer(&tag, 4), shared.answer_topic);
    }

    #[test]
    fn no_mesh_has_more_shards_than_keys_can_be_tried_for() {
        assert_eq!(Sharding::new(u32::MAX, 1).bits(), BITS_MAX);
        let most = u64::from(Sharding::new(BITS_MAX, 1).shards()) * TRIES_PER_SHARD;
        assert_eq!((Sharding::recommended(u64::MAX).bits(), most), (BITS_MAX, 65_536));
    }
}
