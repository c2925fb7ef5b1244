//! A peer that gossips any bytes on our topics.

use super::node::{self, Node};
use futures::StreamExt;
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, PublishError, ValidationMode};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, SwarmBuilder, noise, tcp, yamux};
use quloud::core::topic::Topic;
use quloud::core::types::MeshId;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

type Order = (Topic, Vec<u8>, oneshot::Sender<()>);

/// A running gossip router connected to one node.
pub(crate) struct Gossiper(mpsc::Sender<Order>);

impl Gossiper {
    /// Connects to a node of the tests' mesh.
    pub(crate) fn connect(to: &Node) -> Self {
        let keys = node::keys(60);
        let mesh = node::hello(&keys).mesh;
        let key = Keypair::ed25519_from_bytes(*keys.signing_seed()).unwrap();
        let config = gossipsub::ConfigBuilder::default()
            .validation_mode(ValidationMode::Anonymous)
            .message_id_fn(|message| gossipsub::MessageId::new(&message.data))
            .build()
            .unwrap();
        let anonymous = MessageAuthenticity::Anonymous;
        let router: gossipsub::Behaviour = gossipsub::Behaviour::new(anonymous, config).unwrap();
        let mut swarm = SwarmBuilder::with_existing_identity(key)
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_| router)
            .unwrap()
            .with_swarm_config(|config| {
                config.with_idle_connection_timeout(Duration::from_secs(60))
            })
            .build();
        swarm.dial(to.address.parse::<Multiaddr>().unwrap()).unwrap();
        let (orders, mut inbox) = mpsc::channel::<Order>(16);
        tokio::spawn(async move {
            let mut retry = tokio::time::interval(Duration::from_millis(20));
            let mut waiting: Option<Order> = None;
            loop {
                tokio::select! {
                    _ = swarm.select_next_some() => {}
                    order = inbox.recv(), if waiting.is_none() => match order {
                        Some(order) => waiting = Some(order),
                        None => return,
                    },
                    _ = retry.tick() => {
                        if let Some(order) = waiting.take() {
                            waiting = publish(swarm.behaviour_mut(), &mesh, order);
                        }
                    }
                }
            }
        });
        Self(orders)
    }

    /// Gossips these bytes, as soon as the node is known to be subscribed.
    pub(crate) async fn publish(&self, topic: Topic, bytes: Vec<u8>) {
        let (done, sent) = oneshot::channel();
        self.0.send((topic, bytes, done)).await.unwrap();
        let sent = tokio::time::timeout(Duration::from_secs(30), sent).await;
        sent.expect("the node subscribes").unwrap();
    }
}

/// Gives the order back where nobody is subscribed yet.
fn publish(router: &mut gossipsub::Behaviour, mesh: &MeshId, order: Order) -> Option<Order> {
    let (topic, bytes, done) = order;
    match router.publish(IdentTopic::new(topic.name(mesh)), bytes.clone()) {
        Err(PublishError::NoPeersSubscribedToTopic) => Some((topic, bytes, done)),
        result => {
            result.unwrap();
            done.send(()).unwrap();
            None
        }
    }
}
