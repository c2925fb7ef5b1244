//! Signed PeerRecords: where a node says it can be reached, signed by its own key.
//!
//! The envelope is libp2p's (RFC 0002 and RFC 0003 of its specifications) in the form that all its
//! implementations share (payload type `03 01`, domain `libp2p-peer-record`).

use super::address;
use super::ids;
use crate::core::codec::{RECORD_BYTES_MAX, Reject};
use crate::core::types::NodeId;
use bytes::Bytes;
use libp2p::Multiaddr;
use libp2p::core::{PeerRecord, SignedEnvelope};
use libp2p::identity::Keypair;

/// At most this many addresses stand in a record that is made, and are used of one that is read.
pub(super) const RECORD_ADDRESSES_MAX: usize = 8;

/// The record for `addresses`, the least useful left out until it fits its cap; `None` where there
/// is no address to tell.
pub(super) fn make(key: &Keypair, mut addresses: Vec<Multiaddr>) -> Option<Bytes> {
    addresses.truncate(RECORD_ADDRESSES_MAX);
    while !addresses.is_empty() {
        let record = PeerRecord::new_interop(key, addresses.clone()).ok()?;
        let bytes = record.into_signed_envelope().into_protobuf_encoding();
        if bytes.len() <= RECORD_BYTES_MAX {
            return Some(bytes.into());
        }
        addresses.pop();
    }
    None
}

/// The addresses that `node` signed.
///
/// # Errors
/// [`Reject`]: too long, not a record, not signed, or signed by another node.
pub(super) fn read(node: &NodeId, record: &[u8]) -> Result<Vec<Multiaddr>, Reject> {
    if record.len() > RECORD_BYTES_MAX {
        return Err(Reject::Oversize);
    }
    let envelope = SignedEnvelope::from_protobuf_encoding(record).map_err(|_| Reject::Malformed)?;
    let record =
        PeerRecord::from_signed_envelope_interop(envelope).map_err(|_| Reject::BadProof)?;
    if record.peer_id() != ids::peer_id(node) {
        return Err(Reject::WrongPeer);
    }
    let addresses = record.addresses().iter().map(|address| address::split_peer(address.clone()).0);
    Ok(addresses.filter(address::is_dialable).take(RECORD_ADDRESSES_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> (Keypair, NodeId) {
        let key = Keypair::ed25519_from_bytes([seed; 32]).unwrap();
        let node = ids::node(&key.public().to_peer_id()).unwrap();
        (key, node)
    }

    fn addresses(count: u16) -> Vec<Multiaddr> {
        (1..=count).map(|port| format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()).collect()
    }

    #[test]
    fn a_record_gives_its_addresses_back() {
        let (key, node) = key(1);
        let record = make(&key, addresses(3)).unwrap();
        assert_eq!(read(&node, &record), Ok(addresses(3)));
    }

    #[test]
    fn a_record_stays_within_its_cap_and_drops_the_last_addresses() {
        let (key, node) = key(1);
        let long = (1..=8)
            .map(|port| format!("/dns6/{}.example/udp/{port}/quic-v1", "a".repeat(60)))
            .map(|text| text.parse::<Multiaddr>().unwrap());
        let long: Vec<_> = long.collect();
        let record = make(&key, long.clone()).unwrap();
        assert!(record.len() <= RECORD_BYTES_MAX);
        let read = read(&node, &record).unwrap();
        assert!(!read.is_empty() && long.starts_with(&read));
        assert_eq!(make(&key, Vec::new()), None);
    }

    #[test]
    fn a_record_of_another_node_or_a_changed_one_is_refused() {
        let ((one, node), (_, other)) = (key(1), key(2));
        let record = make(&one, addresses(1)).unwrap();
        assert_eq!(read(&other, &record), Err(Reject::WrongPeer));
        for at in 0..record.len() {
            let mut changed = record.to_vec();
            changed[at] ^= 1;
            assert!(read(&node, &changed).is_err(), "byte {at}");
        }
        assert_eq!(read(&node, &[0; 513]), Err(Reject::Oversize));
        assert_eq!(read(&node, b""), Err(Reject::Malformed));
    }
}
