//! The switch that keeps a node among loopback, private and link-local addresses.
//!
//! It stands below everything that dials or accepts, and below name resolution, so no other part
//! has to think of it. What comes from a public address is dropped before it is answered.

use super::address;
use libp2p::Multiaddr;
use libp2p::core::Transport;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A transport that knows local addresses only.
pub(super) struct LanOnly<O>(pub(super) Boxed<O>);

impl<O> Transport for LanOnly<O> {
    type Output = O;
    type Error = <Boxed<O> as Transport>::Error;
    type ListenerUpgrade = <Boxed<O> as Transport>::ListenerUpgrade;
    type Dial = <Boxed<O> as Transport>::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        self.0.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.0.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        match is_local(&address) {
            true => self.0.dial(address, options),
            false => Err(TransportError::MultiaddrNotSupported(address)),
        }
    }

    fn poll(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let inner = &mut self.get_mut().0;
        loop {
            match Pin::new(&mut *inner).poll(context) {
                Poll::Ready(TransportEvent::Incoming { send_back_addr, .. })
                    if !is_local(&send_back_addr) => {}
                other => return other,
            }
        }
    }
}

fn is_local(address: &Multiaddr) -> bool {
    address::ip(address).is_some_and(address::is_local)
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::core::Endpoint;
    use libp2p::core::transport::PortUse;
    use libp2p::tcp;

    #[tokio::test]
    async fn public_addresses_are_not_dialled() {
        let mut transport = LanOnly(tcp::tokio::Transport::default().boxed());
        let mut dial = |address: &str| {
            let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
            transport.dial(address.parse().unwrap(), options).is_ok()
        };
        for address in ["/ip4/127.0.0.1/tcp/1", "/ip4/192.168.1.2/tcp/1", "/ip6/fe80::1/tcp/1"] {
            assert!(dial(address), "{address}");
        }
        for address in ["/ip4/203.0.113.7/tcp/1", "/ip6/2001:db8::1/tcp/1", "/dns/a.example/tcp/1"]
        {
            assert!(!dial(address), "{address}");
        }
    }
}
