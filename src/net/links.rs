//! The behaviour that opens and accepts streams of our protocol, and says on which connection.
//!
//! Whoever dialled a connection opens its streams, all at once when it is established; they live
//! as long as the connection. Nothing is read or written here: each stream goes to a task of its
//! own (see [`super::streams`]). `libp2p-stream` is not used because it opens on a random
//! connection of the peer, drops streams that arrive together, and keeps a sender for every
//! connection there ever was.

use crate::core::types::PROTOCOL_VERSION;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::core::{Endpoint, transport::PortUse};
use libp2p::swarm::handler::{
    ConnectionEvent, ConnectionHandler, ConnectionHandlerEvent, DialUpgradeError,
    FullyNegotiatedInbound, FullyNegotiatedOutbound, SubstreamProtocol,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, Stream, StreamProtocol,
    StreamUpgradeError, THandlerInEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::task::{Context, Poll};

/// The protocol of streams between members.
fn protocol() -> StreamProtocol {
    let name = format!("/quloud/{PROTOCOL_VERSION}/stream");
    StreamProtocol::try_from_owned(name).expect("it begins with a slash")
}

/// One stream for messages without a payload and one for chunks.
const STREAMS_OPENED: usize = 2;

/// A peer may open this many on one connection.
const STREAMS_ACCEPTED_MAX: usize = 4;

/// What a connection's handler and the behaviour report.
#[derive(Debug)]
pub(super) enum LinkEvent {
    /// A stream is there.
    Stream {
        /// Whose.
        peer: PeerId,
        /// On which connection.
        connection: ConnectionId,
        /// The stream, nothing read or written yet.
        stream: Stream,
    },
    /// A stream could not be opened.
    Failed {
        /// Whose.
        peer: PeerId,
        /// On which connection.
        connection: ConnectionId,
        /// The peer does not speak our protocol, as opposed to a broken connection.
        foreign: bool,
    },
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Behaviour {
    events: VecDeque<LinkEvent>,
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = LinkEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler { to_open: 0, accepted: 0, events: VecDeque::new() })
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler { to_open: STREAMS_OPENED, accepted: 0, events: VecDeque::new() })
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: HandlerEvent,
    ) {
        self.events.push_back(match event {
            HandlerEvent::Stream(stream) => LinkEvent::Stream { peer, connection, stream },
            HandlerEvent::Failed { foreign } => LinkEvent::Failed { peer, connection, foreign },
        });
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<LinkEvent, THandlerInEvent<Self>>> {
        match self.events.pop_front() {
            Some(event) => Poll::Ready(ToSwarm::GenerateEvent(event)),
            None => Poll::Pending,
        }
    }
}

/// What a handler tells the behaviour.
#[derive(Debug)]
pub(super) enum HandlerEvent {
    Stream(Stream),
    Failed { foreign: bool },
}

/// Opens the streams of one connection and takes those that the peer opens.
#[derive(Debug)]
pub(super) struct Handler {
    to_open: usize,
    accepted: usize,
    events: VecDeque<HandlerEvent>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = HandlerEvent;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(protocol()), ())
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), HandlerEvent>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        if self.to_open > 0 {
            self.to_open -= 1;
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(protocol()), ());
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol, ..
            }) => {
                self.accepted = self.accepted.saturating_add(1);
                if self.accepted <= STREAMS_ACCEPTED_MAX {
                    self.events.push_back(HandlerEvent::Stream(protocol));
                }
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol, ..
            }) => self.events.push_back(HandlerEvent::Stream(protocol)),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                let foreign = matches!(error, StreamUpgradeError::NegotiationFailed);
                self.events.push_back(HandlerEvent::Failed { foreign });
            }
            _ => {}
        }
    }
}
