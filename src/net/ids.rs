//! Node ids and libp2p's PeerIds: the same 32 bytes, in other clothes.
//!
//! A PeerId of an Ed25519 key is the identity multihash (`00 24`) of the key's protobuf form
//! (`08 01 12 20` and the 32 bytes), so either gives the other without a table.

use crate::core::types::NodeId;
use libp2p::PeerId;

/// `identity, 36 bytes | KeyType = Ed25519 | Data, 32 bytes`.
const PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// The PeerId of a node.
pub(super) fn peer_id(node: &NodeId) -> PeerId {
    let bytes = [PREFIX.as_slice(), node.as_bytes()].concat();
    PeerId::from_bytes(&bytes).expect("an identity multihash of 36 bytes is a PeerId")
}

/// The node of a PeerId; `None` where its key is not Ed25519.
pub(super) fn node(peer: &PeerId) -> Option<NodeId> {
    NodeId::from_slice(peer.to_bytes().strip_prefix(&PREFIX)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::identity::Keypair;

    #[test]
    fn node_id_and_peer_id_give_each_other() {
        let key = Keypair::ed25519_from_bytes([7; 32]).unwrap();
        let public = key.public().try_into_ed25519().unwrap().to_bytes();
        let node_id = NodeId::from_bytes(public);
        assert_eq!(peer_id(&node_id), key.public().to_peer_id());
        assert_eq!(node(&key.public().to_peer_id()), Some(node_id));
    }

    #[test]
    fn a_peer_id_of_another_key_type_is_no_node() {
        // A SHA-256 multihash, as RSA and ECDSA keys have.
        let text = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N";
        assert_eq!(node(&text.parse().unwrap()), None);
    }
}
