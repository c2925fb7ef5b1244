//! Where dialled names led: libp2p tells of a connection only what was dialled, and a name says
//! nothing of where a peer stands.

use super::address;
use futures::future::BoxFuture;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::core::{Transport, muxing::StreamMuxerBox};
use libp2p::{Multiaddr, PeerId};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

/// More than can be under way at once; beyond, some note is forgotten.
const KEPT_MAX: usize = 1024;

/// The IP addresses at which peers have just proved their keys. Of several dials to one peer the
/// last to succeed counts: all of them led to that peer.
#[derive(Debug, Clone, Default)]
pub(super) struct Resolved(Arc<Mutex<BTreeMap<PeerId, Multiaddr>>>);

impl Resolved {
    fn note(&self, peer: PeerId, at: Multiaddr) {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= KEPT_MAX {
            peers.pop_first();
        }
        peers.insert(peer, at);
    }

    /// Where the peer's connection leads that was just established.
    pub(super) fn take(&self, peer: &PeerId) -> Option<Multiaddr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(peer)
    }
}

/// A transport below name resolution that notes where its dials led.
pub(super) struct Noting {
    pub(super) inner: Boxed<(PeerId, StreamMuxerBox)>,
    pub(super) resolved: Resolved,
}

impl Transport for Noting {
    type Output = (PeerId, StreamMuxerBox);
    type Error = std::io::Error;
    type ListenerUpgrade = <Boxed<Self::Output> as Transport>::ListenerUpgrade;
    type Dial = BoxFuture<'static, std::io::Result<Self::Output>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        let dial = self.inner.dial(address.clone(), options)?;
        let resolved = self.resolved.clone();
        Ok(Box::pin(async move {
            let (peer, muxer) = dial.await?;
            resolved.note(peer, address::split_peer(address).0);
            Ok((peer, muxer))
        }))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.inner).poll(context)
    }
}
