//! What a multiaddr is worth: can it be dialled, where does it lead, may it be told to others.

use super::ids;
use crate::core::effect::Reach;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// At most this many addresses are kept of what a peer says of itself.
pub(super) const ADDRESSES_PER_PEER_MAX: usize = 16;

/// The address without its `/p2p/PEERID`, and the peer where there is one.
pub(super) fn split_peer(mut address: Multiaddr) -> (Multiaddr, Option<PeerId>) {
    let Some(Protocol::P2p(peer)) = address.iter().last() else {
        return (address, None);
    };
    address.pop();
    (address, Some(peer))
}

/// The address with `/p2p/PEERID` at its end.
pub(super) fn with_peer(address: Multiaddr, peer: PeerId) -> Multiaddr {
    split_peer(address).0.with(Protocol::P2p(peer))
}

/// Whether our transports can reach it: IP or DNS, then TCP or QUIC, and nothing else. An IPv6
/// link-local address means nothing without its interface.
pub(super) fn is_dialable(address: &Multiaddr) -> bool {
    use Protocol::{Dns, Dns4, Dns6, Ip4, Ip6, P2p, QuicV1, Tcp, Udp};
    let mut parts = address.iter();
    let named = match parts.next() {
        Some(Ip4(ip)) => !ip.is_unspecified() && !ip.is_broadcast() && !ip.is_multicast(),
        Some(Ip6(ip)) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_unicast_link_local(),
        Some(Dns(name) | Dns4(name) | Dns6(name)) => is_host_name(&name),
        _ => false,
    };
    let transport = match parts.next() {
        Some(Tcp(port)) => port != 0,
        Some(Udp(port)) => port != 0 && parts.next() == Some(QuicV1),
        _ => false,
    };
    let end = match parts.next() {
        None => true,
        Some(P2p(peer)) => ids::node(&peer).is_some() && parts.next().is_none(),
        Some(_) => false,
    };
    named && transport && end
}

/// Letters, digits, `.`, `-` and `_`, at most 253 of them (RFC 1035 section 2.3.4, RFC 1123 section
/// 2.1, RFC 8552 section 1): what peers claim is shown on terminals and printed on cards.
fn is_host_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=253).contains(&name.len()) && name.bytes().all(is_letter)
}

/// Whether it begins with a name that has to be resolved.
pub(super) fn is_name(address: &Multiaddr) -> bool {
    use Protocol::{Dns, Dns4, Dns6, Dnsaddr};
    matches!(address.iter().next(), Some(Dns(_) | Dns4(_) | Dns6(_) | Dnsaddr(_)))
}

/// The IP at the front, IPv4 in IPv6 unwrapped; `None` for a name or a relayed address.
pub(super) fn ip(address: &Multiaddr) -> Option<IpAddr> {
    if address.iter().any(|part| part == Protocol::P2pCircuit) {
        return None;
    }
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)),
        _ => None,
    }
}

/// Loopback, private, link-local or shared (RFC 6598): an address that is no failure domain.
pub(super) fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let shared = matches!(ip.octets(), [100, 64..=127, ..]);
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || shared
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Where a peer at this observed address stands.
pub(super) fn reach(address: &Multiaddr) -> Reach {
    match ip(address) {
        None => Reach::Relayed,
        Some(ip) if is_local(ip) => Reach::Local,
        Some(IpAddr::V4(ip)) => Reach::PublicV4(prefix_v4(ip)),
        Some(IpAddr::V6(ip)) => Reach::PublicV6(prefix_v6(ip)),
    }
}

/// The /24.
fn prefix_v4(ip: Ipv4Addr) -> [u8; 3] {
    let [a, b, c, _] = ip.octets();
    [a, b, c]
}

/// The /48.
fn prefix_v6(ip: Ipv6Addr) -> [u8; 6] {
    let [a, b, c, d, e, f, ..] = ip.octets();
    [a, b, c, d, e, f]
}

/// What is kept of the addresses that a peer, observed at `observed`, claims to listen on.
///
/// Loopback addresses count only from a peer on this machine, private ones only from a peer that
/// is on a private network with us: other people's would be somebody else's machines here.
pub(super) fn claimed(addresses: Vec<Multiaddr>, observed: &Multiaddr) -> Vec<Multiaddr> {
    let observed = ip(observed);
    let here = observed.is_some_and(|ip| ip.is_loopback());
    let near = observed.is_some_and(is_local);
    let believed = |address: &Multiaddr| match ip(address) {
        Some(ip) if ip.is_loopback() => here,
        Some(ip) => near || !is_local(ip),
        None => true,
    };
    let mut kept: Vec<Multiaddr> = Vec::new();
    for address in addresses.into_iter().take(64) {
        let (address, _) = split_peer(address);
        if is_dialable(&address) && believed(&address) && !kept.contains(&address) {
            kept.push(address);
        }
        if kept.len() == ADDRESSES_PER_PEER_MAX {
            break;
        }
    }
    kept
}

/// Whether an address that somebody passed on is worth a dial, for a node that can be reached at
/// `own`. Who is connected is observed, and who is not could be anywhere: a loopback address means
/// something only in a mesh on one machine, and a private one only to a node that has no public
/// address itself, or has one in the same network (/24 or /64). A name could lead to either, and
/// no node tells one of itself. Else strangers could have us knock at any service in here.
pub(super) fn is_plausible(address: &Multiaddr, own: &[Multiaddr]) -> bool {
    let mut ips = own.iter().map(ip);
    match ip(address) {
        Some(there) if there.is_loopback() => {
            ips.all(|own| own.is_some_and(|own| own.is_loopback()))
        }
        Some(there) if is_local(there) => {
            let own: Vec<_> = ips.collect();
            own.iter().all(|own| own.is_some_and(is_local))
                || own.iter().flatten().any(|own| same_network(*own, there))
        }
        Some(_) => true,
        None => false,
    }
}

fn same_network(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => one.octets()[..3] == other.octets()[..3],
        (IpAddr::V6(one), IpAddr::V6(other)) => one.segments()[..4] == other.segments()[..4],
        _ => false,
    }
}

/// Our own listening addresses, the most useful to others first: public, private, and loopback
/// only where there is nothing else; TCP before QUIC, which costs both ends more.
pub(super) fn shareable(addresses: impl IntoIterator<Item = Multiaddr>) -> Vec<Multiaddr> {
    let rank = |address: &Multiaddr| {
        let place = match ip(address) {
            Some(ip) if ip.is_loopback() => 2,
            Some(ip) if is_local(ip) => 1,
            _ => 0,
        };
        (place, address.iter().any(|part| matches!(part, Protocol::Udp(_))))
    };
    let mut kept: Vec<Multiaddr> =
        addresses.into_iter().map(|address| split_peer(address).0).filter(is_dialable).collect();
    kept.sort_by_key(|address| (rank(address), address.to_vec()));
    kept.dedup();
    if kept.first().is_some_and(|first| rank(first).0 < 2) {
        kept.retain(|address| rank(address).0 < 2);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    const PEER: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

    #[test]
    fn only_ip_or_dns_over_tcp_or_quic_is_dialled() {
        for good in [
            "/ip4/1.2.3.4/tcp/1".to_string(),
            "/ip6/2001:db8::1/udp/1/quic-v1".to_string(),
            "/dns4/nas.example/tcp/4001".to_string(),
            format!("/ip4/1.2.3.4/tcp/1/p2p/{PEER}"),
        ] {
            assert!(is_dialable(&address(&good)), "{good}");
        }
        for bad in [
            "/ip4/0.0.0.0/tcp/1".to_string(),
            "/ip4/224.0.0.251/tcp/1".to_string(),
            "/ip4/1.2.3.4/tcp/0".to_string(),
            "/ip6/fe80::1/tcp/1".to_string(),
            "/ip4/1.2.3.4/udp/1".to_string(),
            "/ip4/1.2.3.4/tcp/1/ws".to_string(),
            "/unix/tmp".to_string(),
            "/dns4/nas\u{1b}[2J/tcp/1".to_string(),
            "/dns/nas\nanother/tcp/1".to_string(),
            format!("/dns6/{}/tcp/1", "n".repeat(254)),
            "/dnsaddr/nas.example".to_string(),
            format!("/ip4/1.2.3.4/tcp/1/p2p/{PEER}/p2p-circuit"),
            "/ip4/1.2.3.4/tcp/1/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N".to_string(),
        ] {
            assert!(!is_dialable(&address(&bad)), "{bad}");
        }
    }

    #[test]
    fn reach_is_the_domain_of_the_observed_address() {
        let cases = [
            ("/ip4/127.0.0.1/tcp/1", Reach::Local),
            ("/ip4/192.168.1.9/tcp/1", Reach::Local),
            ("/ip4/100.64.0.1/tcp/1", Reach::Local),
            ("/ip6/fe80::1/tcp/1", Reach::Local),
            ("/ip6/::ffff:10.0.0.1/tcp/1", Reach::Local),
            ("/ip4/203.0.113.7/tcp/1", Reach::PublicV4([203, 0, 113])),
            ("/ip6/2001:db8:7::1/tcp/1", Reach::PublicV6([0x20, 1, 0x0d, 0xb8, 0, 7])),
        ];
        for (text, expected) in cases {
            assert_eq!(reach(&address(text)), expected, "{text}");
        }
        let relayed = format!("/ip4/203.0.113.7/tcp/1/p2p/{PEER}/p2p-circuit");
        assert_eq!(reach(&address(&relayed)), Reach::Relayed);
    }

    #[test]
    fn a_public_peer_cannot_make_us_believe_in_private_addresses() {
        let said = || {
            ["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip4/203.0.113.7/tcp/1"]
                .map(address)
                .to_vec()
        };
        assert_eq!(claimed(said(), &address("/ip4/203.0.113.7/tcp/9")).len(), 1);
        assert_eq!(claimed(said(), &address("/ip4/10.0.0.1/tcp/9")).len(), 2);
        assert_eq!(claimed(said(), &address("/ip4/127.0.0.1/tcp/9")).len(), 3);
    }

    #[test]
    fn nobody_is_made_to_knock_at_its_own_services() {
        let public = ["/ip4/203.0.113.9/tcp/4001", "/ip6/2001:db8::9/tcp/4001"].map(address);
        let home = ["/ip4/192.168.1.9/tcp/4001"].map(address);
        let here = ["/ip4/127.0.0.1/tcp/4001"].map(address);
        let cases: [(&str, &[Multiaddr], bool); 10] = [
            ("/ip4/127.0.0.1/tcp/6379", &public, false),
            ("/ip4/127.0.0.1/tcp/6379", &home, false),
            ("/ip4/127.0.0.1/tcp/4001", &here, true),
            ("/ip4/192.168.1.1/tcp/80", &public, false),
            ("/ip4/192.168.1.8/tcp/4001", &home, true),
            ("/ip4/10.0.0.1/tcp/4001", &home, true),
            ("/ip6/fd00::1/tcp/80", &public, false),
            ("/ip4/198.51.100.7/tcp/4001", &home, true),
            ("/dns4/nas.example/tcp/4001", &public, false),
            ("/ip4/10.0.0.1/tcp/4001", &[], true),
        ];
        for (text, own, plausible) in cases {
            assert_eq!(is_plausible(&address(text), own), plausible, "{text} {own:?}");
        }
        let both = ["/ip4/203.0.113.9/tcp/4001", "/ip4/192.168.1.9/tcp/4001"].map(address);
        assert!(is_plausible(&address("/ip4/192.168.1.8/tcp/4001"), &both));
        assert!(!is_plausible(&address("/ip4/192.168.2.8/tcp/4001"), &both));
    }

    #[test]
    fn at_most_sixteen_claimed_addresses_are_kept() {
        let said = (1..2000).map(|port| address(&format!("/ip4/203.0.113.7/tcp/{port}")));
        let kept = claimed(said.collect(), &address("/ip4/203.0.113.7/tcp/9"));
        assert_eq!(kept.len(), ADDRESSES_PER_PEER_MAX);
    }

    #[test]
    fn loopback_is_shared_only_where_there_is_nothing_else() {
        let loopback = address("/ip4/127.0.0.1/tcp/1");
        let private = address("/ip4/10.0.0.1/udp/1/quic-v1");
        let public = address("/ip4/203.0.113.7/tcp/1");
        assert_eq!(shareable(vec![loopback.clone()]), vec![loopback.clone()]);
        assert_eq!(shareable([loopback, private.clone(), public.clone()]), [public, private]);
    }
}
