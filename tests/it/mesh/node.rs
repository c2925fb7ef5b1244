//! A node's network half under test, and messages for it.

use bytes::Bytes;
use quloud::core::message::{
    Answer, ChunkData, Hello, RetrieveRefusal, RetrieveReject, StreamMessage, TopicMessage,
};
use quloud::core::topic::{Topic, TopicKind};
use quloud::core::types::{AnswerTag, Locality, MeshId, NodeId};
use quloud::crypto::header::Header;
use quloud::crypto::keys::NodeKeys;
use quloud::net::{self, Net, NetConfig, NetError, NetEvent, NetEvents, NetLimits, NetSnapshot};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// No wait in these tests is longer; on an idle machine most last milliseconds.
const DEADLINE: Duration = Duration::from_secs(30);

/// A running network half.
pub(crate) struct Node {
    pub(crate) net: Net,
    pub(crate) events: NetEvents,
    /// Its first listening address, with `/p2p/PEERID`.
    pub(crate) address: String,
    keys: NodeKeys,
    record: Option<Bytes>,
}

/// The keys of node `seed`.
pub(crate) fn keys(seed: u8) -> NodeKeys {
    NodeKeys::from_seeds([seed; 32], [seed; 32], [seed; 32])
}

/// The Hello of a node of the tests' mesh.
pub(crate) fn hello(keys: &NodeKeys) -> Hello {
    Hello {
        node: keys.node_id(),
        mesh: MeshId::from_bytes([7; 32]),
        agreement: keys.agreement_key(),
        agreement_signature: keys.sign_agreement(),
        site: String::new(),
        operator: String::new(),
    }
}

impl Node {
    /// Starts node `seed` on a loopback port and waits until it listens.
    pub(crate) async fn start(seed: u8, change: impl FnOnce(&mut NetConfig)) -> Self {
        let mut node = Self::try_start(seed, change).unwrap();
        let listening = node.until(|event| matches!(event, NetEvent::Listening(_))).await;
        if let NetEvent::Listening(address) = listening {
            node.address = address;
        }
        node
    }

    /// Starts node `seed`, or tells why it cannot; its address is not known yet.
    pub(crate) fn try_start(
        seed: u8,
        change: impl FnOnce(&mut NetConfig),
    ) -> Result<Self, NetError> {
        let keys = keys(seed);
        let hello = hello(&keys);
        let mut config = NetConfig {
            signing_seed: keys.signing_seed(),
            mesh: hello.mesh,
            hello,
            listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
            bootstrap: Vec::new(),
            mdns: false,
            topics: TopicKind::ALL.map(|kind| Topic::new(kind, Locality(0), 0)).to_vec(),
            address_book: None,
            limits: NetLimits::brisk(),
        };
        change(&mut config);
        let (net, events) = net::start(config)?;
        Ok(Self { net, events, address: String::new(), keys, record: None })
    }

    /// Its id.
    pub(crate) fn id(&self) -> NodeId {
        self.keys.node_id()
    }

    /// The next event that is `wanted`; all others are dropped.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&NetEvent) -> bool) -> NetEvent {
        self.within(DEADLINE, wanted).await.expect("the event comes before the deadline")
    }

    /// Likewise, `None` after `span`.
    pub(crate) async fn within(
        &mut self,
        span: Duration,
        wanted: impl Fn(&NetEvent) -> bool,
    ) -> Option<NetEvent> {
        let deadline = Instant::now() + span;
        loop {
            let event = timeout_at(deadline, self.events.recv()).await.ok()??;
            if let NetEvent::OwnRecord(record) = &event {
                self.record = Some(record.clone());
            }
            if wanted(&event) {
                return Some(event);
            }
        }
    }

    /// Waits until `node` is up.
    pub(crate) async fn up(&mut self, node: NodeId) {
        self.until(|event| matches!(event, NetEvent::Up(peer) if peer.node == node)).await;
    }

    /// Its signed PeerRecord.
    pub(crate) async fn record(&mut self) -> Bytes {
        if self.record.is_none() {
            self.until(|event| matches!(event, NetEvent::OwnRecord(_))).await;
        }
        self.record.clone().unwrap()
    }

    /// The first snapshot that is `wanted`.
    pub(crate) async fn snapshot_until(
        &self,
        wanted: impl Fn(&NetSnapshot) -> bool,
    ) -> NetSnapshot {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let snapshot = self.net.snapshot().await;
            if wanted(&snapshot) {
                return snapshot;
            }
            assert!(Instant::now() < deadline, "still {snapshot:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Waits until every node is connected to every other, by one connection each.
pub(crate) async fn all_connected(nodes: &[Node]) {
    let others = nodes.len() - 1;
    for node in nodes {
        node.snapshot_until(|snapshot| {
            snapshot.peers.len() == others && usize::try_from(snapshot.connections) == Ok(others)
        })
        .await;
    }
}

/// An answer that nobody asked for, different for each `attempt`.
pub(crate) fn answer(attempt: u32) -> (Topic, TopicMessage) {
    let sealed = Bytes::copy_from_slice(&[attempt.to_le_bytes(); 25].concat());
    let answer = Answer { tag: AnswerTag::from_bytes([1; 8]), sealed };
    (Topic::new(TopicKind::Answer, Locality(0), 0), TopicMessage::Answer(answer))
}

/// A message with a payload of `bytes` bytes, different for each `request`.
pub(crate) fn chunk(request: u64, bytes: usize) -> StreamMessage {
    let fill = u8::try_from(request % 251).unwrap();
    let sealed: Bytes = vec![fill; bytes].into();
    let keys = quloud::crypto::keys::OwnerKeys::derive(
        &quloud::crypto::keys::Master::from_bytes([1; 32]),
        0,
    );
    let ck = quloud::crypto::keys::ChunkKey::derive(&keys.dedup, 0, 0, b"plaintext");
    let header = Header::new(0, keys.points(&ck), &sealed);
    StreamMessage::ChunkData(ChunkData { request, header, sealed })
}

/// A message without a payload.
pub(crate) fn reject(request: u64) -> StreamMessage {
    StreamMessage::RetrieveReject(RetrieveReject { request, reason: RetrieveRefusal::Busy })
}
