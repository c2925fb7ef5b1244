//! A few entries as bytes, outside of a tree: what is recorded of a file whose tree is made later.
//! The layout is that of one leaf.

use super::check::{Order, check, ensure};
use super::decode::Leaf;
use super::encode::OpenLeaf;
use super::{Entry, TreeFault, path};
use bytes::Bytes;
use zeroize::Zeroizing;

/// The bytes of entries that a tree would take in this order: at least one, and no more than a leaf
/// has room for.
///
/// # Errors
/// [`TreeFault`].
pub fn encode(entries: &[Entry]) -> Result<Zeroizing<Vec<u8>>, TreeFault> {
    let (mut leaf, mut order) = (OpenLeaf::default(), Order::default());
    for entry in entries {
        ensure(!leaf.is_full(), TreeFault::TooLarge)?;
        check(entry, None)?;
        order.admit(entry)?;
        leaf.add(entry, None);
    }
    ensure(leaf.count() > 0, TreeFault::Count(0))?;
    Ok(leaf.close().plaintext)
}

/// The entries of these bytes.
///
/// # Errors
/// [`TreeFault`], whatever the bytes.
pub fn decode(bytes: Bytes) -> Result<Vec<Entry>, TreeFault> {
    let (mut leaf, mut order) = (Leaf::decode(bytes)?, Order::default());
    let mut entries = Vec::new();
    while let Some(entry) = leaf.next(&mut order)? {
        entries.push(entry);
    }
    Ok(entries)
}

/// The bytes of one entry that a tree took, without the folders that it lies in.
pub fn encode_alone(entry: &Entry) -> Zeroizing<Vec<u8>> {
    let mut leaf = OpenLeaf::default();
    leaf.add(entry, None);
    leaf.close().plaintext
}

/// The one entry of these bytes, at this path; in which folder it lies is taken on trust.
///
/// # Errors
/// [`TreeFault`], whatever the bytes.
pub fn decode_alone(bytes: Bytes, at: &[u8]) -> Result<Entry, TreeFault> {
    let (mut leaf, mut order) = (Leaf::decode(bytes)?, Order::default());
    order.jump(path::parent(at).unwrap_or_default());
    let entry = leaf.next(&mut order)?.ok_or(TreeFault::Count(0))?;
    ensure(entry.path == at && leaf.next(&mut order)?.is_none(), TreeFault::Child)?;
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::types::{ChunkId, Locality};
    use crate::crypto::keys::ChunkKey;
    use crate::repo::fixture::owner;
    use crate::repo::reference::ChunkRef;
    use crate::repo::tree::{Content, FileBody, Inode, What};

    fn entry(path: &str, what: What) -> Entry {
        let folder = matches!(what, What::Folder(_));
        Entry {
            path: path.into(),
            mode: 0o640,
            uid: 1,
            gid: 2,
            mtime_ns: -3,
            xattrs: Vec::new(),
            implied: folder,
            unreadable: false,
            what,
        }
    }

    fn file(bytes: u64) -> What {
        let ck = ChunkKey::derive(&owner(1).dedup, 0, 2, b"root");
        let id = ChunkId::from_bytes([5; 32]);
        let root = ChunkRef { ck, id, locality: Locality(7), bytes };
        let inode = Inode { ctime_ns: 9, number: 11 };
        What::File(FileBody { bytes, inode, extents: None, content: Content::Listing(root) })
    }

    #[test]
    fn a_few_entries_come_back_as_they_were() {
        let folder = || What::Folder(Inode::default());
        let entries = vec![entry("a", folder()), entry("a/b", folder()), entry("a/b/c", file(12))];
        let bytes = encode(&entries).unwrap();
        let back = decode(Bytes::copy_from_slice(&bytes)).unwrap();
        assert_eq!(format!("{back:?}"), format!("{entries:?}"));
        for length in 0..bytes.len() {
            assert!(decode(Bytes::copy_from_slice(&bytes[..length])).is_err());
        }
    }

    #[test]
    fn an_entry_alone_comes_back_without_its_folders() {
        let deep = entry("a/b/c", file(12));
        let bytes = Bytes::copy_from_slice(&encode_alone(&deep));
        let back = decode_alone(bytes.clone(), b"a/b/c").unwrap();
        assert_eq!(format!("{back:?}"), format!("{deep:?}"));
        assert_eq!(decode_alone(bytes.clone(), b"a/b/d").unwrap_err(), TreeFault::Child);
        for length in 0..bytes.len() {
            assert!(decode_alone(bytes.slice(..length), b"a/b/c").is_err());
        }
        let two = encode(&[entry("a", file(1)), entry("b", file(2))]).unwrap();
        assert!(decode_alone(Bytes::copy_from_slice(&two), b"a").is_err());
    }

    #[test]
    fn what_no_tree_takes_is_refused() {
        assert_eq!(encode(&[]).unwrap_err(), TreeFault::Count(0));
        let alone = [entry("a/b", file(12))];
        assert_eq!(encode(&alone).unwrap_err(), TreeFault::Parent);
    }
}
