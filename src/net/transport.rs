//! TCP with Noise and yamux, and QUIC: how bytes get to a peer whose key is proved.

use super::lan_only::LanOnly;
use super::resolved::{Noting, Resolved};
use super::{NetConfig, NetError};
use futures::future::BoxFuture;
use futures::io::BufReader;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::core::{Transport, upgrade};
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, dns, noise, quic, tcp, yamux};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, TcpListener};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// For Noise and yamux to agree, after TCP has connected.
const TCP_UPGRADE: Duration = Duration::from_secs(10);

/// For QUIC's handshake.
const QUIC_HANDSHAKE: Duration = Duration::from_secs(5);

/// All addresses of a peer are dialled at once and the first to answer wins. QUIC costs both ends
/// half as much CPU time again per byte as TCP does, so it starts this much later.
const QUIC_HANDICAP: Duration = Duration::from_millis(300);

/// Streams of all protocols on one connection.
const STREAMS_MAX: u16 = 64;

/// Read from a TCP socket at once: Noise, above it, asks for 8 KiB at a time.
const TCP_READ_BYTES: usize = 64 << 10;

/// What a QUIC peer may have under way to us on one stream, and in all: 128 connections of this are
/// 512 MiB.
const QUIC_WINDOWS_BYTES: (u32, u32) = (2 << 20, 4 << 20);

/// Noise and yamux over TCP, and QUIC, with names resolved where the system can.
pub(super) fn build(
    key: &Keypair,
    lan_only: bool,
    resolved: Resolved,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, NetError> {
    let noise = noise::Config::new(key);
    let noise = noise.map_err(|error| NetError::Setup(format!("noise: {error}")))?;
    let mut muxer = yamux::Config::default();
    muxer.set_max_num_streams(usize::from(STREAMS_MAX));
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .map(|socket, _| BufReader::with_capacity(TCP_READ_BYTES, socket))
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise)
        .multiplex(muxer)
        .timeout(TCP_UPGRADE)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let mut config = quic::Config::new(key);
    config.handshake_timeout = QUIC_HANDSHAKE;
    config.max_concurrent_stream_limit = u32::from(STREAMS_MAX);
    (config.max_stream_data, config.max_connection_data) = QUIC_WINDOWS_BYTES;
    let quic = quic::tokio::Transport::new(config)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let both = tcp.or_transport(Later(quic)).map(|either, _| either.into_inner()).boxed();
    let both = if lan_only { LanOnly(both).boxed() } else { both };
    let both = Noting { inner: both, resolved }.boxed();
    // A machine without a resolver's configuration still has peers with IP addresses.
    match dns::tokio::Transport::system(()) {
        Ok(_) => {
            let resolving = dns::tokio::Transport::system(both);
            let resolving = resolving.map_err(|error| NetError::Setup(format!("dns: {error}")))?;
            Ok(resolving.boxed())
        }
        Err(error) => {
            tracing::warn!(%error, "names in addresses cannot be resolved");
            Ok(both)
        }
    }
}

/// A transport whose dials wait for [`QUIC_HANDICAP`] before they begin.
struct Later<T>(T);

impl<T> Transport for Later<T>
where
    T: Transport + Unpin,
    T::Dial: Send + 'static,
{
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = BoxFuture<'static, Result<T::Output, T::Error>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<T::Error>> {
        self.0.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.0.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<T::Error>> {
        let dial = self.0.dial(address, options)?;
        Ok(Box::pin(async move {
            tokio::time::sleep(QUIC_HANDICAP).await;
            dial.await
        }))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<T::ListenerUpgrade, T::Error>> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// Refuses an environment (the value of `SSLKEYLOGFILE`) in which the TLS library below QUIC would
/// write every connection's secrets to a file. A variable cannot be removed from a running process
/// soundly, so the user is told.
pub(super) fn check_key_log(path: Option<&OsStr>) -> Result<(), NetError> {
    match path {
        Some(path) if !path.is_empty() => Err(NetError::KeyLog),
        _ => Ok(()),
    }
}

/// Refuses a TCP port that somebody listens on already.
///
/// libp2p lets several sockets share a port (it dials from the port it listens on), so a second
/// node would start without an error, and the kernel would hand each of the two identities some of
/// the other's connections. A plain socket does not share: it is bound here and dropped at once.
/// What a node that has ended left in TIME_WAIT is no obstacle to it.
pub(super) fn check_port(address: &Multiaddr) -> Result<(), NetError> {
    let mut protocols = address.iter();
    let ip = match protocols.next() {
        Some(Protocol::Ip4(ip)) => IpAddr::V4(ip),
        // A plain socket on `::` takes the port of IPv4 too, which may be somebody else's by right.
        Some(Protocol::Ip6(ip)) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        Some(Protocol::Ip6(ip)) => IpAddr::V6(ip),
        _ => return Ok(()),
    };
    let Some(Protocol::Tcp(port @ 1..)) = protocols.next() else {
        return Ok(());
    };
    match TcpListener::bind((ip, port)) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => Err(NetError::Listen {
            address: address.to_string(),
            reason: format!("TCP port {port} is in use, perhaps by another node on this machine"),
        }),
        // Whatever else is wrong with it, listening will tell.
        _ => Ok(()),
    }
}

impl NetConfig {
    /// TCP and QUIC on every interface, IPv4 and IPv6, ports chosen by the system.
    pub fn default_listen() -> Vec<String> {
        let all = ["/ip4/0.0.0.0", "/ip6/::"];
        let each = |ip: &str| [format!("{ip}/tcp/0"), format!("{ip}/udp/0/quic-v1")];
        all.iter().flat_map(|ip| each(ip)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_log_file_in_the_environment_keeps_the_node_from_starting() {
        assert!(matches!(check_key_log(Some(OsStr::new("/tmp/keys"))), Err(NetError::KeyLog)));
        assert!(check_key_log(Some(OsStr::new(""))).is_ok());
        assert!(check_key_log(None).is_ok());
    }

    #[test]
    fn a_tcp_port_is_refused_only_while_somebody_listens_on_it() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let check = |ip: &str| check_port(&format!("{ip}/tcp/{port}").parse().unwrap());
        for ip in ["/ip4/127.0.0.1", "/ip4/0.0.0.0"] {
            let Err(NetError::Listen { reason, .. }) = check(ip) else {
                panic!("{ip} is free");
            };
            assert!(reason.contains(&format!("port {port} is in use")), "{reason}");
        }
        assert!(check("/ip6/::").is_ok());
        drop(taken);
        assert!(check("/ip4/0.0.0.0").is_ok());
        for free in ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/1/quic-v1", "/dns/a/tcp/1"] {
            assert!(check_port(&free.parse().unwrap()).is_ok(), "{free}");
        }
    }
}
