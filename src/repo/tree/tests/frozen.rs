//! The frozen vectors of trees: what a second implementation wrote is read, and written again.

use super::*;
use crate::crypto::keys::{Master, OwnerKeys};
use crate::repo::fixture::vectors;

/// The owner of the vectors: its master counts from 0.
fn keys() -> OwnerKeys {
    let mut master = [0; 32];
    master.iter_mut().zip(0..).for_each(|(byte, value)| *byte = value);
    OwnerKeys::derive(&Master::from_bytes(master), 0)
}

fn plaintext(name: &str) -> Bytes {
    let [record] = vectors(name).try_into().unwrap();
    hex::decode(record["plaintext"]).unwrap().into()
}

#[test]
fn a_leaf_of_every_kind_is_read_and_written_again() {
    let leaf = plaintext("leaf]");
    let reference = ChunkRef { bytes: 5_000_300 + (1 << 20) + 12, ..chunk(&leaf) };
    let mut sink = Sink::default();
    sink.chunks.insert(reference.id, leaf.clone());
    let root = TreeRoot { level: 0, entries: 14, reference };
    let (entries, _) = read(&root, b"", &sink).unwrap();
    let again = write(&entries, Cuts::default(), &mut sink).unwrap().unwrap();
    assert_eq!(again.reference.id, root.reference.id);

    let paths: Vec<&[u8]> = entries.iter().map(|entry| entry.path.as_slice()).collect();
    assert_eq!(paths[..3], [b"data".as_slice(), b"data/a", b"data/a/big"]);
    assert!(entries[0].implied && entries[7].unreadable && entries[5].mode == 0o4755);
    assert_eq!(entries[2].mtime_ns, 700_000_000_000_000_001);
    assert_eq!(entries[2].xattrs[0], (b"user.x".to_vec(), b"1".to_vec()));
    let What::File(body) = &entries[4].what else { panic!("it is a file") };
    assert_eq!(body.inode, Inode { ctime_ns: 1_700_000_000_000_000_002, number: u64::MAX });
    let Content::Packed { pack, offset: 7, hash } = &body.content else { panic!("packed") };
    assert_eq!((pack.bytes, pack.locality, hash[0]), (1 << 20, Locality(0x1234), 0x50));
    let What::File(body) = &entries[6].what else { panic!("it is a file") };
    assert_eq!(body.extents, Some(Extents(vec![4_096..8_192, 65_536..65_636])));
    assert!(matches!(&entries[8].what, What::Symlink(target) if target == b"../x\xff"));
    assert!(matches!(&entries[9].what, What::HardLink(first) if first == b"data/a/small"));
    assert!(matches!(entries[10].what, What::Fifo));
    assert!(matches!(entries[11].what, What::Device { block: false, number: 0x501 }));
    assert!(matches!(entries[12].what, What::Device { block: true, number: u64::MAX }));
    assert!(matches!(entries[13].what, What::Socket) && entries[13].mtime_ns == i64::MIN);
}

#[test]
fn a_node_is_read_and_written_again() {
    let node = plaintext("node]");
    let reference = ChunkRef { bytes: 6_048_895, ..chunk(&node) };
    let above = node::Child { reference, entries: 17 + (1 << 20), first: Vec::new() };
    let children = node::decode(node.clone(), 1, &above).unwrap();
    let firsts: Vec<&[u8]> = children.iter().map(|child| child.first.as_slice()).collect();
    assert_eq!(firsts, [b"data".as_slice(), b"data/x\xff", b"etc"]);
    let mut open = node::OpenNode::default();
    children.into_iter().for_each(|child| open.add(child));
    assert_eq!(open.close(1).unwrap().plaintext.as_slice(), node);
}

#[test]
fn cuts_and_blobs_are_those_of_a_second_implementation() {
    let (keys, mut cuts) = (keys(), 0);
    let (cutter, hasher) = (Cutter::new(&keys.chunker), BlobHasher::new(&keys.dedup));
    for record in vectors("cut") {
        let path = hex::decode(record["path"]).unwrap();
        let zeros = record["u"].parse::<u64>().unwrap().trailing_zeros();
        assert!(cutter.cuts_after(&path, zeros) && !cutter.cuts_after(&path, zeros + 1));
        cuts += usize::from(zeros >= 10);
    }
    assert_eq!(cuts, 3);
    for record in vectors("blob") {
        let data = hex::decode(record["data"]).unwrap();
        assert_eq!(hex::encode(hasher.hash(&data)), record["hash"]);
    }
}
