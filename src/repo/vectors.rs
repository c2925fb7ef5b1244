//! The frozen vectors of snapshots, manifests and heads: what a second implementation wrote is
//! read, and written again.

use super::fixture::vectors;
use super::head::HeadPayload;
use super::manifest::{Body, ManifestEntry};
use super::snapshot::Snapshot;

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

#[test]
fn snapshots_are_read_and_written_again() {
    let records = vectors("snapshot");
    assert_eq!(records.len(), 2);
    for record in records {
        let plaintext = bytes(record["plaintext"]);
        let snapshot = Snapshot::decode(&plaintext).unwrap();
        assert_eq!(snapshot.encode().unwrap().as_slice(), plaintext);
        assert_eq!(Snapshot::id(&plaintext).to_string(), record["id"]);
        assert_eq!(snapshot.put, snapshot.tree.is_none());
    }
}

#[test]
fn entries_of_a_manifest_are_read_and_written_again() {
    let records = vectors("manifest");
    assert_eq!(records.len(), 6);
    let mut previous = [0; 32];
    for (number, record) in (0..).zip(records) {
        let plaintext = bytes(record["plaintext"]);
        let entry = ManifestEntry::decode(&plaintext).unwrap();
        assert_eq!(entry.encode().unwrap().as_slice(), plaintext);
        assert_eq!((entry.number, entry.previous), (number, previous));
        previous = ManifestEntry::hash(&plaintext);
        assert_eq!(hex::encode(previous), record["hash"]);
        if let Body::Checkpoint(checkpoint) = entry.body {
            let [live] = checkpoint.live.as_slice() else { panic!("one is live") };
            assert!(live.partial && live.roots_cut && live.host == "attic");
            assert_eq!((checkpoint.intents[0].1, checkpoint.devices.len()), (77, 2));
            assert!(checkpoint.devices[1].retired && checkpoint.hints[0].address == b"a record");
        }
    }
}

#[test]
fn payloads_of_heads_are_read_and_written_again() {
    let records = vectors("head-payload");
    assert_eq!(records.len(), 2);
    for record in records {
        let payload = bytes(record["payload"]);
        let head = HeadPayload::decode(&payload).unwrap();
        assert_eq!(head.encode().unwrap().as_slice(), payload);
        assert_eq!(head.retired, head.checkpoint.is_some());
    }
}
