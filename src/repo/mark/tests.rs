//! What must stay, over a map: all of it, each thing read once, and nothing where anything lacks.

use super::*;
use crate::core::types::DeviceId;
use crate::repo::listing::{ClosedListing, ListingBuilder, TooManyChunks};
use crate::repo::look::tests::run;
use crate::repo::snapshot::Counts;
use crate::repo::tree::tests::{SMALL, Sink, any_tree, body, chunk, file, many, write};
use crate::repo::tree::writer::TreeSink;
use crate::repo::tree::{FileBody, TreeRoot};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A snapshot of these entries: its name, where it is, its tree.
fn snapshot(entries: &[Entry], nonce: u8, sink: &mut Sink) -> (SnapshotId, ChunkRef) {
    let tree = write(entries, SMALL, sink).unwrap();
    record(tree, nonce, sink)
}

fn record(tree: Option<TreeRoot>, nonce: u8, sink: &mut Sink) -> (SnapshotId, ChunkRef) {
    let entries = tree.as_ref().map_or(0, |root| root.entries);
    let bytes = tree.as_ref().map_or(0, |root| root.reference.bytes);
    let snapshot = Snapshot {
        device: DeviceId::from_bytes([1; 16]),
        created_ns: 5,
        utc_offset_min: 0,
        partial: false,
        put: false,
        tree,
        parent: None,
        counts: Counts { files: entries, bytes, ..Counts::default() },
        nonce: [nonce; 16],
        host: "attic".into(),
        roots: vec![b"/data".to_vec()],
        tags: Vec::new(),
        excludes: Vec::new(),
        program: String::new(),
    };
    let plaintext = snapshot.encode().unwrap();
    (Snapshot::id(&plaintext), sink.seal(Kind::Snapshot, &plaintext, 0).unwrap())
}

/// A file of so many pieces, and the ids of these.
fn large(path: &str, pieces: usize, sink: &mut Sink) -> (Entry, Vec<ChunkId>) {
    let mut seal = |closed: ClosedListing| {
        let sealed = sink.seal(Kind::Listing, &closed.plaintext, closed.bytes);
        sealed.map_err(|_| TooManyChunks)
    };
    let mut builder = ListingBuilder::with_entries_max(3);
    let piece = |number| {
        let name = format!("{path} {number}");
        ChunkRef { bytes: 1 << 20, ..chunk(name.as_bytes()) }
    };
    let pieces: Vec<ChunkRef> = (0..pieces).map(piece).collect();
    pieces.iter().for_each(|piece| builder.add(piece, &mut seal).unwrap());
    let root = builder.finish(&mut seal).unwrap();
    let mut entry = file(path, 1);
    body(&mut entry).bytes = root.bytes;
    body(&mut entry).content = Content::Listing(root);
    (entry, pieces.into_iter().map(|piece| piece.id).collect())
}

/// What entries name themselves.
fn named(entries: &[Entry]) -> BTreeSet<ChunkId> {
    let of = |entry: &Entry| match &entry.what {
        What::File(FileBody { content, .. }) => content.reference().map(|chunk| chunk.id),
        _ => None,
    };
    entries.iter().filter_map(of).collect()
}

fn marked(mark: &Mark) -> &LiveChunks {
    mark.live().expect("all was read")
}

#[test]
fn all_that_a_snapshot_names_must_stay() {
    let mut sink = Sink::default();
    let mut entries = many(300);
    let (one, mut pieces) = large("z/large", 40, &mut sink);
    entries.push(crate::repo::tree::tests::folder("z"));
    entries.push(one);
    let mut piece = file("z/piece", 1 << 20);
    body(&mut piece).content =
        Content::Piece(ChunkRef { bytes: 1 << 20, ..chunk(b"the only piece") });
    entries.push(piece);
    let (id, reference) = snapshot(&entries, 1, &mut sink);
    let mut mark = Mark::new();
    mark.add_snapshot(id, &reference);
    mark.add_chunk(&chunk(b"of the manifest").id);
    let (found, asked) = run(&mut mark, &sink.chunks).unwrap();
    assert_eq!(found, [id]);
    // The snapshot, trees and listings were read, each once, and nothing else.
    let read: BTreeSet<ChunkId> = asked.iter().copied().collect();
    assert_eq!((read.len(), asked.len()), (sink.chunks.len(), sink.chunks.len()));
    pieces.extend(named(&entries));
    pieces.push(chunk(b"of the manifest").id);
    let expected: BTreeSet<ChunkId> = pieces.into_iter().chain(read).collect();
    let live = marked(&mark);
    assert!(expected.iter().all(|id| live.contains(id)));
    assert_eq!(live.count(), expected.len());
    assert!(!live.contains(&chunk(b"of another").id));
}

#[test]
fn what_snapshots_share_is_read_once() {
    let mut sink = Sink::default();
    let mut entries = many(2_000);
    let (one, _) = large("data/zz", 40, &mut sink);
    entries.push(one);
    let first = snapshot(&entries, 1, &mut sink);
    let again = snapshot(&entries, 2, &mut sink);
    body(&mut entries[700]).inode.number += 1;
    let changed = snapshot(&entries, 3, &mut sink);
    let mut mark = Mark::new();
    mark.add_snapshot(first.0, &first.1);
    let (_, all) = run(&mut mark, &sink.chunks).unwrap();
    let count = marked(&mark).count();
    // Those that come later go on from there.
    mark.add_snapshot(again.0, &again.1);
    mark.add_snapshot(changed.0, &changed.1);
    assert!(mark.live().is_none());
    let (found, more) = run(&mut mark, &sink.chunks).unwrap();
    assert_eq!(found, [again.0, changed.0]);
    assert!(all.len() > 300 && more.len() < 20, "{} of {}", more.len(), all.len());
    assert_eq!(marked(&mark).count(), count + more.len());
    assert_eq!(all.len() + more.len(), sink.chunks.len());
}

#[test]
fn what_cannot_be_read_ends_it_and_is_named() {
    let mut sink = Sink::default();
    let mut entries = many(100);
    let (one, _) = large("data/zz", 20, &mut sink);
    entries.push(one);
    let other = snapshot(&many(10), 1, &mut sink);
    let before: BTreeSet<ChunkId> = sink.chunks.keys().copied().collect();
    let (id, reference) = snapshot(&entries, 2, &mut sink);
    let kind_of = |id: &ChunkId| {
        let [version, level, ..] = sink.chunks[id][..] else { panic!("it is longer") };
        (version, level)
    };
    for lacks in sink.chunks.keys().filter(|id| !before.contains(*id)) {
        let mut chunks = sink.chunks.clone();
        chunks.remove(lacks);
        let mut mark = Mark::new();
        mark.add_snapshot(other.0, &other.1);
        mark.add_snapshot(id, &reference);
        let fault = run(&mut mark, &chunks).unwrap_err();
        assert_eq!(fault.snapshot, Some(id));
        assert!(matches!(fault.why, MarkCause::Lost(_)));
        let is_record = *lacks == reference.id;
        assert_eq!(fault.part == MarkPart::Record, is_record, "{:?} {fault}", kind_of(lacks));
        // There is no set then, and never will be.
        assert!(mark.live().is_none());
        assert_eq!(run(&mut mark, &sink.chunks).unwrap_err(), fault);
        assert!(mark.live().is_none());
    }
}

#[test]
fn a_listing_that_cannot_be_read_is_named_by_its_file() {
    let mut sink = Sink::default();
    let (one, _) = large("a\n", 20, &mut sink);
    let listings: Vec<ChunkId> = sink.chunks.keys().copied().collect();
    let (id, reference) = snapshot(&[one], 1, &mut sink);
    assert!(listings.len() > 5);
    for lacks in listings {
        for wrong in [None, Some(Bytes::from_static(b"no listing"))] {
            let mut chunks = sink.chunks.clone();
            chunks.remove(&lacks);
            chunks.extend(wrong.map(|wrong| (lacks, wrong)));
            let mut mark = Mark::new();
            mark.add_snapshot(id, &reference);
            let fault = run(&mut mark, &chunks).unwrap_err();
            assert_eq!(fault.part, MarkPart::File(b"a\n".to_vec()));
            let text = fault.to_string();
            assert!(text.starts_with("the list of chunks of a\\n of snapshot "), "{text}");
        }
    }
}

#[test]
fn chunks_that_are_not_what_they_should_be_end_it() {
    let mut sink = Sink::default();
    let (id, reference) = snapshot(&many(100), 1, &mut sink);
    let (_, other) = snapshot(&many(100), 2, &mut sink);
    let fault_of = |id, reference: &ChunkRef, chunks: &BTreeMap<ChunkId, Bytes>| {
        let mut mark = Mark::new();
        mark.add_snapshot(id, reference);
        let fault = run(&mut mark, chunks).unwrap_err();
        assert!(mark.live().is_none());
        (fault.part, fault.why)
    };
    // Another snapshot under this one's name.
    let (part, why) = fault_of(id, &other, &sink.chunks);
    assert!(part == MarkPart::Record && matches!(why, MarkCause::Other(_)));
    for other in sink.chunks.keys().filter(|other| **other != reference.id) {
        let mut chunks = sink.chunks.clone();
        chunks.insert(*other, Bytes::from_static(b"nothing"));
        let mut mark = Mark::new();
        mark.add_snapshot(id, &reference);
        if run(&mut mark, &chunks).is_ok() {
            // The other snapshot's own chunk, which this one does not name.
            assert!(!marked(&mark).contains(other));
        }
    }
    let mut chunks = sink.chunks.clone();
    chunks.insert(reference.id, Bytes::from_static(b"nothing"));
    let (part, why) = fault_of(id, &reference, &chunks);
    assert!(part == MarkPart::Record && matches!(why, MarkCause::Snapshot(_)));
}

#[test]
fn a_snapshot_of_nothing_is_one_chunk() {
    let mut sink = Sink::default();
    let (id, reference) = record(None, 1, &mut sink);
    let mut mark = Mark::new();
    assert_eq!(marked(&mark).count(), 0);
    mark.add_snapshot(id, &reference);
    assert_eq!(run(&mut mark, &sink.chunks).unwrap().0, [id]);
    assert!(marked(&mark).contains(&reference.id) && marked(&mark).count() == 1);
}

#[test]
fn so_much_is_asked_for_at_once_and_no_more() {
    let mut sink = Sink::default();
    let mut entries: Vec<Entry> = Vec::new();
    for number in 0..100 {
        entries.push(large(&format!("{number:03}"), 30, &mut sink).0);
    }
    let (id, reference) = snapshot(&entries, 1, &mut sink);
    let mut mark = Mark::new();
    mark.add_snapshot(id, &reference);
    let (mut open, mut most) = (Vec::new(), 0);
    loop {
        match mark.step().unwrap() {
            Seen::Found(found) => assert_eq!(found, id),
            Seen::End => break,
            Seen::Wait => {
                assert!(mark.live().is_none());
                open.extend(std::iter::from_fn(|| mark.wanted()));
                most = most.max(open.len());
                let need: Need = open.remove(0);
                mark.give(need.index, Ok(sink.chunks[&need.reference.id].clone()));
            }
        }
    }
    assert_eq!(most, ASKED_MAX);
    assert_eq!(marked(&mark).count(), sink.chunks.len() + 3_000);
}

proptest! {
    #[test]
    fn whatever_the_trees_all_of_them_stays(
        trees in proptest::collection::vec(any_tree(), 1..4),
    ) {
        let (mut sink, mut mark, mut expected) = (Sink::default(), Mark::new(), BTreeSet::new());
        for (nonce, entries) in trees.iter().enumerate() {
            // Listings that nobody has are not to be read here.
            let entries: Vec<Entry> = entries
                .iter()
                .map(Entry::duplicate)
                .map(|mut entry| {
                    if let What::File(body) = &mut entry.what
                        && let Content::Listing(root) = &body.content
                    {
                        body.bytes = 1 << 20;
                        body.extents = None;
                        let piece = ChunkRef { bytes: 1 << 20, ..root.duplicate() };
                        body.content = Content::Piece(piece);
                    }
                    entry
                })
                .collect();
            let (id, reference) = snapshot(&entries, nonce as u8, &mut sink);
            mark.add_snapshot(id, &reference);
            expected.extend(named(&entries));
        }
        expected.extend(sink.chunks.keys().copied());
        run(&mut mark, &sink.chunks).unwrap();
        let live = marked(&mark);
        prop_assert!(expected.iter().all(|id| live.contains(id)));
        prop_assert_eq!(live.count(), expected.len());
    }
}
