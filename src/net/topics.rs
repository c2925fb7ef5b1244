//! Gossip: the settings of the router, and what is let through to the roles.
//!
//! Messages are anonymous (an author's PeerId on each request would undo the sealed answers), so
//! the load is carried by limits per *forwarder* and by validation before anything is forwarded:
//! size, rate, schema, and that a message stands on the topic of its kind.

use super::limits::Bucket;
use super::{NetError, NetLimits};
use crate::core::codec::{self, Reject, TOPIC_BYTES_MAX};
use crate::core::effect::Reach;
use crate::core::message::TopicMessage;
use crate::core::topic::{Topic, TopicKind};
use crate::core::types::MeshId;
use libp2p::PeerId;
use libp2p::gossipsub::{
    self, IdentTopic, MaxCountSubscriptionFilter, MessageAcceptance, MessageAuthenticity,
    MessageId, PeerScoreParams, PeerScoreThresholds, TopicHash, TopicScoreParams, ValidationMode,
    WhitelistSubscriptionFilter,
};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

/// Gossip with the whitelist of our topics.
pub(super) type Gossip = gossipsub::Behaviour<
    gossipsub::IdentityTransform,
    MaxCountSubscriptionFilter<WhitelistSubscriptionFilter>,
>;

/// Longer than the two minutes for which a request is worth anything.
const DUPLICATES_REMEMBERED: Duration = Duration::from_secs(300);

/// Topics that a peer may be subscribed to, and name in one message.
const SUBSCRIPTIONS_MAX: usize = 64;

/// Peers on one public network above which all of them lose score.
const COLOCATED_MAX: usize = 4;

/// The worst that flooding and colocation together can do to a score.
const APPLICATION_SCORE_MIN: f64 = -100.0;

/// Builds the router, subscribed to all of `topics`.
pub(super) fn gossip(topics: &Topics, limits: &NetLimits) -> Result<Gossip, NetError> {
    let setup = |reason: String| NetError::Setup(format!("gossip: {reason}"));
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message| message_id(&message.topic, &message.data))
        .mesh_n(8)
        .mesh_n_low(6)
        .mesh_n_high(12)
        .mesh_outbound_min(3)
        .gossip_lazy(6)
        .heartbeat_interval(limits.heartbeat)
        .heartbeat_initial_delay(limits.heartbeat)
        .duplicate_cache_time(DUPLICATES_REMEMBERED)
        .flood_publish(false)
        .connection_handler_queue_len(512)
        .build()
        .map_err(|error| setup(error.to_string()))?;
    let filter = MaxCountSubscriptionFilter {
        filter: WhitelistSubscriptionFilter(topics.by_hash.keys().cloned().collect()),
        max_subscribed_topics: SUBSCRIPTIONS_MAX,
        max_subscriptions_per_request: SUBSCRIPTIONS_MAX,
    };
    let anonymous = MessageAuthenticity::Anonymous;
    let mut gossip = Gossip::new_with_subscription_filter(anonymous, config, filter)
        .map_err(|error| setup(error.to_string()))?;
    let (score, thresholds) = scoring(topics.by_hash.keys().cloned());
    gossip.with_peer_score(score, thresholds).map_err(setup)?;
    for ident in topics.idents.values() {
        gossip.subscribe(ident).map_err(|error| setup(error.to_string()))?;
    }
    Ok(gossip)
}

/// The first 20 bytes of `SHA-256(topic length u32 LE || topic || data)`: the router's own default
/// would give every anonymous message the same id.
fn message_id(topic: &TopicHash, data: &[u8]) -> MessageId {
    let name = topic.as_str().as_bytes();
    let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
    let hash = Sha256::new()
        .chain_update(length.to_le_bytes())
        .chain_update(name)
        .chain_update(data)
        .finalize();
    MessageId::new(hash.get(..20).unwrap_or(&hash))
}

/// Scores that punish and hardly reward.
///
/// - Time in the mesh (P1) earns nothing: with it, a peer that forwards nothing is liked for ever.
/// - First deliveries (P2) earn at most 5 per topic.
/// - Missing deliveries (P3, P3b) cost nothing: our topics are quiet, and honest peers would be
///   convicted.
/// - Three invalid messages (P4) within an hour graylist, whatever was earned:
///   3^2 * 12 - 4 * 5 > 80.
/// - Colocation (P6) is left to the application score, which can tell a household from a data
///   centre by the address; the router only knows single addresses.
fn scoring(topics: impl Iterator<Item = TopicHash>) -> (PeerScoreParams, PeerScoreThresholds) {
    let topic = TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.0,
        first_message_deliveries_weight: 0.25,
        first_message_deliveries_decay: decay(Duration::from_secs(600)),
        first_message_deliveries_cap: 20.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -12.0,
        invalid_message_deliveries_decay: decay(Duration::from_secs(3600)),
        ..TopicScoreParams::default()
    };
    let params = PeerScoreParams {
        topics: topics.map(|hash| (hash, topic.clone())).collect(),
        app_specific_weight: 1.0,
        ip_colocation_factor_weight: 0.0,
        ip_colocation_factor_whitelist: HashSet::new(),
        ..PeerScoreParams::default()
    };
    let thresholds = PeerScoreThresholds {
        gossip_threshold: -10.0,
        publish_threshold: -50.0,
        graylist_threshold: -80.0,
        accept_px_threshold: 100.0,
        opportunistic_graft_threshold: 1.0,
    };
    (params, thresholds)
}

fn decay(span: Duration) -> f64 {
    gossipsub::score_parameter_decay(span)
}

/// What a gossiped message is worth.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Forward it and give it to the roles.
    Accept(TopicMessage),
    /// Do not forward it; an honest peer may have sent it.
    Ignore(Reject),
    /// Do not forward it; no honest peer sends or forwards it.
    Reject(Reject),
}

impl Verdict {
    /// What the router is told.
    pub(super) fn acceptance(&self) -> MessageAcceptance {
        match self {
            Self::Accept(_) => MessageAcceptance::Accept,
            Self::Ignore(_) => MessageAcceptance::Ignore,
            Self::Reject(_) => MessageAcceptance::Reject,
        }
    }
}

/// The topics of this node, and what their forwarders have sent lately.
#[derive(Debug)]
pub(super) struct Topics {
    idents: BTreeMap<Topic, IdentTopic>,
    by_hash: BTreeMap<TopicHash, Topic>,
    /// Connected peers only.
    forwarders: BTreeMap<PeerId, Forwarder>,
}

/// One neighbour.
#[derive(Debug)]
struct Forwarder {
    reach: Reach,
    requests: Bucket,
    answers: Bucket,
    /// Far above what an honest neighbour of many askers forwards: beyond it the score falls.
    flood: Bucket,
    /// 0 or less.
    flooding: f64,
    told: f64,
}

impl Topics {
    /// `topics` under their names in `mesh`.
    pub(super) fn new(topics: &[Topic], mesh: &MeshId) -> Self {
        let idents: BTreeMap<Topic, IdentTopic> =
            topics.iter().map(|topic| (*topic, IdentTopic::new(topic.name(mesh)))).collect();
        let by_hash = idents.iter().map(|(topic, ident)| (ident.hash(), *topic)).collect();
        Self { idents, by_hash, forwarders: BTreeMap::new() }
    }

    /// The router's name for one of our topics.
    pub(super) fn hash(&self, topic: Topic) -> Option<TopicHash> {
        self.idents.get(&topic).map(IdentTopic::hash)
    }

    /// Our name for one of the router's topics.
    pub(super) fn topic(&self, hash: &TopicHash) -> Option<Topic> {
        self.by_hash.get(hash).copied()
    }

    /// A peer connected, observed at this place.
    pub(super) fn connected(&mut self, peer: PeerId, reach: Reach, now: Instant) {
        self.forwarders.entry(peer).or_insert_with(|| Forwarder {
            reach,
            requests: Bucket::new(20.0, 200.0, now),
            answers: Bucket::new(100.0, 1000.0, now),
            flood: Bucket::new(400.0, 4000.0, now),
            flooding: 0.0,
            told: 0.0,
        });
    }

    /// Its last connection closed.
    pub(super) fn disconnected(&mut self, peer: &PeerId) {
        self.forwarders.remove(peer);
    }

    /// Judges a message: cheap checks first, nothing expensive at all.
    pub(super) fn judge(
        &mut self,
        from: &PeerId,
        hash: &TopicHash,
        data: &[u8],
        now: Instant,
    ) -> Verdict {
        let Some(topic) = self.topic(hash) else {
            return Verdict::Reject(Reject::Unsolicited);
        };
        if data.len() > TOPIC_BYTES_MAX {
            return Verdict::Reject(Reject::Oversize);
        }
        let Some(forwarder) = self.forwarders.get_mut(from) else {
            return Verdict::Ignore(Reject::RateLimited);
        };
        if !forwarder.may_forward(topic.kind, now) {
            return Verdict::Ignore(Reject::RateLimited);
        }
        match codec::decode_topic(data) {
            Ok(message) if kind_of(&message) == topic.kind => Verdict::Accept(message),
            Ok(_) => Verdict::Reject(Reject::Malformed),
            Err(Reject::WrongVersion) => Verdict::Ignore(Reject::WrongVersion),
            Err(reason) => Verdict::Reject(reason),
        }
    }

    /// The application scores that have changed; called about once a second.
    pub(super) fn scores(&mut self) -> Vec<(PeerId, f64)> {
        let mut networks: BTreeMap<Reach, usize> = BTreeMap::new();
        for forwarder in self.forwarders.values() {
            *networks.entry(forwarder.reach).or_default() += 1;
        }
        let mut changed = Vec::new();
        for (peer, forwarder) in &mut self.forwarders {
            let score = (forwarder.flooding + colocation(forwarder.reach, &networks))
                .max(APPLICATION_SCORE_MIN);
            // Five minutes without flooding forgive a hundredfold.
            forwarder.flooding *= 0.985;
            if (score - forwarder.told).abs() > 0.5 {
                forwarder.told = score;
                changed.push((*peer, score));
            }
        }
        changed
    }
}

/// As gossipsub's P6 with threshold 4 and weight -5, over networks and not single addresses.
fn colocation(reach: Reach, networks: &BTreeMap<Reach, usize>) -> f64 {
    let public = matches!(reach, Reach::PublicV4(_) | Reach::PublicV6(_));
    let peers = networks.get(&reach).copied().unwrap_or_default();
    let surplus = u32::try_from(peers.saturating_sub(COLOCATED_MAX)).unwrap_or(u32::MAX);
    if public { -5.0 * f64::from(surplus).powi(2) } else { 0.0 }
}

impl Forwarder {
    fn may_forward(&mut self, kind: TopicKind, now: Instant) -> bool {
        if !self.flood.take(now) {
            self.flooding = (self.flooding - 1.0).max(APPLICATION_SCORE_MIN);
        }
        match kind {
            TopicKind::Answer => self.answers.take(now),
            TopicKind::Store | TopicKind::Retrieve | TopicKind::Audit => self.requests.take(now),
        }
    }
}

/// The only topic kind that a message may stand on.
fn kind_of(message: &TopicMessage) -> TopicKind {
    match message {
        TopicMessage::StoreRequest(_) => TopicKind::Store,
        TopicMessage::SearchRequest(request) => request.kind.topic_kind(),
        TopicMessage::Answer(_) => TopicKind::Answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::message::{Answer, SearchKind, SearchRequest};
    use crate::core::types::{AnswerTag, ChunkId, Locality, NodeId};

    fn topics() -> Topics {
        let all = TopicKind::ALL.map(|kind| Topic::new(kind, Locality(0), 0));
        Topics::new(&all, &MeshId::from_bytes([1; 32]))
    }

    fn peer(number: u8) -> PeerId {
        super::super::ids::peer_id(&NodeId::from_bytes([number; 32]))
    }

    fn answer() -> Vec<u8> {
        let answer = Answer { tag: AnswerTag::from_bytes([1; 8]), sealed: vec![2; 100].into() };
        codec::encode_topic(&TopicMessage::Answer(answer)).to_vec()
    }

    fn hash(topics: &Topics, kind: TopicKind) -> TopicHash {
        topics.hash(Topic::new(kind, Locality(0), 0)).unwrap()
    }

    #[test]
    fn a_message_counts_only_on_the_topic_of_its_kind() {
        let (mut topics, now) = (topics(), Instant::now());
        topics.connected(peer(1), Reach::Local, now);
        let search = |kind| SearchRequest {
            kind,
            ephemeral: [1; 32],
            attempt: 0,
            nonce: [2; 32],
            wanted: vec![(ChunkId::from_bytes([3; 32]), [4; 64])],
        };
        let search =
            |kind| codec::encode_topic(&TopicMessage::SearchRequest(search(kind))).to_vec();
        let messages = [
            (answer(), TopicKind::Answer),
            (search(SearchKind::Retrieve), TopicKind::Retrieve),
            (search(SearchKind::Locate), TopicKind::Audit),
        ];
        for (kind, (message, own)) in
            TopicKind::ALL.iter().flat_map(|kind| messages.iter().map(move |of| (*kind, of)))
        {
            let hash = hash(&topics, kind);
            let verdict = topics.judge(&peer(1), &hash, message, now);
            assert_eq!(matches!(verdict, Verdict::Accept(_)), kind == *own, "{own:?} on {kind:?}");
        }
        let other = TopicHash::from_raw("/quloud/1/other/0000/answer");
        let verdict = topics.judge(&peer(1), &other, &answer(), now);
        assert!(matches!(verdict, Verdict::Reject(Reject::Unsolicited)));
    }

    #[test]
    fn garbage_is_rejected_and_a_newer_version_only_ignored() {
        let (mut topics, now) = (topics(), Instant::now());
        topics.connected(peer(1), Reach::Local, now);
        let hash = hash(&topics, TopicKind::Store);
        let garbage = topics.judge(&peer(1), &hash, &[0xff; 40], now);
        assert!(matches!(garbage, Verdict::Reject(Reject::Malformed)));
        let long = topics.judge(&peer(1), &hash, &[0; TOPIC_BYTES_MAX + 1], now);
        assert!(matches!(long, Verdict::Reject(Reject::Oversize)));
        let newer = topics.judge(&peer(1), &hash, &[0x08, 2], now);
        assert!(matches!(newer, Verdict::Ignore(Reject::WrongVersion)));
    }

    #[test]
    fn a_forwarder_above_its_rate_is_ignored_and_a_flooder_loses_its_score() {
        let (mut topics, now) = (topics(), Instant::now());
        topics.connected(peer(1), Reach::Local, now);
        topics.connected(peer(2), Reach::Local, now);
        let hash = hash(&topics, TopicKind::Store);
        let pass = |topics: &mut Topics, from: u8, count: usize| {
            let verdicts = (0..count).map(|_| topics.judge(&peer(from), &hash, &[8, 1], now));
            verdicts.filter(|v| !matches!(v, Verdict::Ignore(Reject::RateLimited))).count()
        };
        assert_eq!(pass(&mut topics, 1, 3000), 200);
        assert_eq!(topics.scores(), []);
        assert_eq!(pass(&mut topics, 2, 5000), 200);
        assert_eq!(topics.scores(), [(peer(2), APPLICATION_SCORE_MIN)]);
    }

    #[test]
    fn neighbours_of_one_public_network_lose_score_and_a_household_does_not() {
        let (mut topics, now) = (topics(), Instant::now());
        for number in 0..6 {
            topics.connected(peer(number), Reach::PublicV4([203, 0, 113]), now);
            topics.connected(peer(100 + number), Reach::Local, now);
        }
        let scores = topics.scores();
        assert_eq!(scores.len(), 6);
        assert!(scores.iter().all(|(_, score)| *score == -20.0));
    }

    #[test]
    fn silence_earns_no_score_and_three_invalid_messages_outweigh_any() {
        let (params, thresholds) = scoring(topics().by_hash.into_keys());
        params.validate().unwrap();
        thresholds.validate().unwrap();
        let mut earned = 0.0;
        for topic in params.topics.values() {
            assert_eq!(topic.time_in_mesh_weight, 0.0);
            earned += topic.first_message_deliveries_weight * topic.first_message_deliveries_cap;
        }
        let weight = params.topics.values().next().unwrap().invalid_message_deliveries_weight;
        assert!(earned + weight * 9.0 < thresholds.graylist_threshold);
        assert!(weight * 4.0 > thresholds.graylist_threshold);
    }

    #[test]
    fn the_message_id_covers_topic_and_data() {
        let (one, two) = (TopicHash::from_raw("ab"), TopicHash::from_raw("a"));
        assert_eq!(message_id(&one, b"c").0.len(), 20);
        assert_ne!(message_id(&one, b"c"), message_id(&two, b"bc"));
    }
}
