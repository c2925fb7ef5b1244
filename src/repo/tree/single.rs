//! One entry on its own, as a leaf that has no other.

use super::Entry;
use super::check::Order;
use super::decode::Leaf;
use super::encode::OpenLeaf;
use super::path;
use bytes::Bytes;
use zeroize::Zeroizing;

/// The leaf of an entry that a tree took.
pub fn encode(entry: &Entry) -> Zeroizing<Vec<u8>> {
    let mut leaf = OpenLeaf::default();
    leaf.add(entry, None);
    leaf.close().plaintext
}

/// The entry of a leaf that has but one, at this path; `None` where it is no such leaf. In which
/// folder it lies is taken on trust.
pub fn decode(leaf: Bytes, at: &[u8]) -> Option<Entry> {
    let mut order = Order::default();
    order.jump(path::parent(at).unwrap_or_default());
    let mut leaf = Leaf::decode(leaf).ok()?;
    let entry = leaf.next(&mut order).ok()??;
    let alone = matches!(leaf.next(&mut order), Ok(None));
    (alone && entry.path == at).then_some(entry)
}
