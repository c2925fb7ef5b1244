//! A peer without manners: real libp2p below, any bytes on the stream.

use super::node::{self, Node};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, StreamProtocol, SwarmBuilder, noise, tcp, yamux};
use quloud::core::codec;
use quloud::core::message::StreamMessage;
use quloud::core::types::NodeId;
use quloud::crypto::keys::NodeKeys;
use std::time::Duration;

/// One stream to a node.
pub(crate) struct Raw {
    keys: NodeKeys,
    stream: libp2p::Stream,
}

impl Raw {
    /// Connects and opens one stream; says nothing.
    pub(crate) async fn connect(to: &Node) -> Self {
        Self::connect_as(to, 50).await
    }

    /// Likewise, with the keys of node `seed`.
    pub(crate) async fn connect_as(to: &Node, seed: u8) -> Self {
        let keys = node::keys(seed);
        let key = Keypair::ed25519_from_bytes(*keys.signing_seed()).unwrap();
        let mut swarm = SwarmBuilder::with_existing_identity(key)
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_| libp2p_stream::Behaviour::new())
            .unwrap()
            .with_swarm_config(|config| {
                config.with_idle_connection_timeout(Duration::from_secs(60))
            })
            .build();
        let mut control = swarm.behaviour().new_control();
        let address: Multiaddr = to.address.parse().unwrap();
        let peer = quloud::net::peer_id_of(&to.id()).parse().unwrap();
        swarm.add_peer_address(peer, address.clone());
        swarm.dial(address).unwrap();
        // The node opens no streams: we dialled.
        tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        let protocol = StreamProtocol::new("/quloud/1/stream");
        let stream = control.open_stream(peer, protocol).await.unwrap();
        Self { keys, stream }
    }

    /// A peer that has sent the first half of a message, and the other half.
    pub(crate) async fn half_a_frame(
        to: &mut Node,
        seed: u8,
        message: &StreamMessage,
    ) -> (Self, Vec<u8>) {
        let mut raw = Self::connect_as(to, seed).await;
        raw.greet().await;
        to.up(raw.id()).await;
        let frame = codec::encode_stream(message);
        let mut bytes = [&frame.prefix(), frame.head.as_ref(), &frame.payload].concat();
        let rest = bytes.split_off(bytes.len() / 2);
        raw.send(&bytes).await;
        (raw, rest)
    }

    /// Its id.
    pub(crate) fn id(&self) -> NodeId {
        self.keys.node_id()
    }

    /// Says Hello as an honest node does.
    pub(crate) async fn greet(&mut self) {
        let hello = StreamMessage::Hello(node::hello(&self.keys));
        self.say(&hello).await;
    }

    /// Sends a message.
    pub(crate) async fn say(&mut self, message: &StreamMessage) {
        let frame = codec::encode_stream(message);
        self.send(&[&frame.prefix(), frame.head.as_ref(), &frame.payload].concat()).await;
    }

    /// Sends any bytes. An error is the node's good right.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        if self.stream.write_all(bytes).await.is_ok() {
            drop(self.stream.flush().await);
        }
    }

    /// Waits until the node has ended the stream.
    pub(crate) async fn closed(&mut self) {
        let mut buffer = [0; 1024];
        let ended =
            async { while !matches!(self.stream.read(&mut buffer).await, Ok(0) | Err(_)) {} };
        tokio::time::timeout(Duration::from_secs(30), ended).await.expect("the node closes it");
    }
}
