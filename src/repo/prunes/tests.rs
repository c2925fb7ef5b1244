//! What may go, beside a plain model: histories of several devices, drawn by chance.

use super::*;
use crate::core::types::{DeviceId, SnapshotId};
use crate::repo::frame::Kind;
use crate::repo::look::tests::run;
use crate::repo::mark::Mark;
use crate::repo::snapshot::{Counts, Snapshot};
use crate::repo::tree::tests::{SMALL, Sink, body, chunk, file, write};
use crate::repo::tree::walk::{Step, TreeWalk};
use crate::repo::tree::writer::TreeSink;
use crate::repo::tree::{Content, Entry, TreeRoot, What};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A snapshot of files with these contents, one chunk each.
fn snapshot(contents: &BTreeSet<u16>, nonce: u8, sink: &mut Sink) -> Made {
    let entry = |content: &u16| {
        let mut entry = file(&format!("{content:05}"), 1 << 20);
        let piece = chunk(format!("content {content}").as_bytes());
        body(&mut entry).content = Content::Piece(ChunkRef { bytes: 1 << 20, ..piece });
        entry
    };
    let entries: Vec<Entry> = contents.iter().map(entry).collect();
    let tree = write(&entries, SMALL, sink).unwrap();
    let all = tree.as_ref().map(|root| of_tree(root, sink)).unwrap_or_default();
    let counts = Counts {
        files: entries.len() as u64,
        bytes: tree.as_ref().map_or(0, |root| root.reference.bytes),
        ..Counts::default()
    };
    let snapshot = Snapshot {
        device: DeviceId::from_bytes([1; 16]),
        created_ns: 5,
        utc_offset_min: 0,
        partial: false,
        put: false,
        tree,
        parent: None,
        counts,
        nonce: [nonce; 16],
        host: "attic".into(),
        roots: vec![b"/data".to_vec()],
        tags: Vec::new(),
        excludes: Vec::new(),
        program: String::new(),
    };
    let plaintext = snapshot.encode().unwrap();
    let at = sink.seal(Kind::Snapshot, &plaintext, 0).unwrap();
    let record = at.id;
    Made { id: Snapshot::id(&plaintext), at, all: all.into_iter().chain([record]).collect() }
}

struct Made {
    id: SnapshotId,
    at: ChunkRef,
    /// Its chunks, found by a walk of its own.
    all: BTreeSet<ChunkId>,
}

fn of_tree(root: &TreeRoot, sink: &Sink) -> BTreeSet<ChunkId> {
    let (mut walk, mut found) = (TreeWalk::new(root, b""), BTreeSet::new());
    loop {
        match walk.step().unwrap() {
            Step::End => return found,
            Step::Entry(entry) => {
                let What::File(body) = &entry.what else { continue };
                found.extend(body.content.reference().map(|chunk| chunk.id));
            }
            Step::Wait => {
                let wanted = walk.wanted().unwrap();
                found.insert(wanted.reference.id);
                walk.give(wanted.index, sink.chunks[&wanted.reference.id].clone());
            }
        }
    }
}

fn marked<'a>(live: impl Iterator<Item = &'a Made>, sink: &Sink) -> Mark {
    let mut mark = Mark::new();
    live.for_each(|made| mark.add_snapshot(made.id, &made.at));
    run(&mut mark, &sink.chunks).unwrap();
    mark
}

/// Gathers a snapshot; whether it could be read.
fn gather<'l>(dead: Dead<'l>, made: &Made, chunks: &BTreeMap<ChunkId, bytes::Bytes>) -> Dead<'l> {
    let mut mark = Mark::over(dead);
    mark.add_snapshot(made.id, &made.at);
    let is_whole = run(&mut mark, chunks).is_ok();
    let mut dead = mark.into_reached();
    dead.end(is_whole);
    dead
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn what_a_live_snapshot_needs_is_never_in_the_plan_and_all_else_is(
        trees in proptest::collection::vec(
            (proptest::collection::btree_set(0..400_u16, 0..160), any::<bool>()), 1..7),
        lacks in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let mut sink = Sink::default();
        let made: Vec<(Made, bool)> = trees
            .iter()
            .enumerate()
            .map(|(nonce, (contents, live))| (snapshot(contents, nonce as u8, &mut sink), *live))
            .collect();
        let needed: BTreeSet<ChunkId> =
            made.iter().filter(|(_, live)| *live).flat_map(|(made, _)| made.all.clone()).collect();
        let mark = marked(made.iter().filter(|(_, live)| *live).map(|(made, _)| made), &sink);
        // One chunk of a forgotten tree may be gone.
        let mut chunks = sink.chunks.clone();
        let dead_meta: Vec<ChunkId> =
            chunks.keys().filter(|id| !needed.contains(*id)).copied().collect();
        let lacks = lacks.filter(|_| !dead_meta.is_empty()).map(|index| *index.get(&dead_meta));
        if let Some(id) = &lacks {
            chunks.remove(id);
        }
        let (mut dead, mut expected) = (Dead::new(mark.live().unwrap()), BTreeSet::new());
        for (one, _) in made.iter().filter(|(_, live)| !*live) {
            dead = gather(dead, one, &chunks);
            if lacks.is_none_or(|id| !one.all.contains(&id)) {
                expected.extend(one.all.difference(&needed).copied());
            }
        }
        let order = dead.into_order();
        let found: BTreeSet<ChunkId> = order.iter().map(|dead| dead.id).collect();
        prop_assert_eq!(found.len(), order.len());
        prop_assert!(found.is_disjoint(&needed));
        prop_assert_eq!(&found, &expected);
        // Broken off anywhere, what is left is found once more: nothing is let go before what it
        // leads to.
        let gone = order.len() / 2;
        order.iter().take(gone).for_each(|dead| drop(chunks.remove(&dead.id)));
        let gone: BTreeSet<ChunkId> = order[..gone].iter().map(|dead| dead.id).collect();
        let mut again = Dead::new(mark.live().unwrap());
        for (one, _) in made.iter().filter(|(_, live)| !*live) {
            // Of what is gone only chunks that lead nowhere are not needed to read on.
            let meta_gone = gone.iter().any(|id| sink.chunks.contains_key(id));
            if !meta_gone && lacks.is_none() {
                again = gather(again, one, &chunks);
            }
        }
        let again = again.into_order();
        let whole = again.iter().all(|dead| expected.contains(&dead.id));
        prop_assert!(whole);
    }
}

#[test]
fn what_leads_to_others_goes_after_them() {
    let mut sink = Sink::default();
    let contents: BTreeSet<u16> = (0..300).collect();
    let made = snapshot(&contents, 1, &mut sink);
    let nothing = Mark::new();
    let order = gather(Dead::new(nothing.live().unwrap()), &made, &sink.chunks).into_order();
    assert_eq!(order.len(), made.all.len());
    assert_eq!(order.last().unwrap().id, made.at.id, "the snapshot itself is the last one");
    // Whatever is gone, the rest of the tree leads to what is left.
    for gone in [1, order.len() / 3, order.len() / 2, order.len() - 1] {
        let left: BTreeSet<ChunkId> = order[gone..].iter().map(|dead| dead.id).collect();
        let meta: Vec<_> = left.iter().filter(|id| sink.chunks.contains_key(*id)).collect();
        assert!(meta.contains(&&made.at.id));
    }
}

#[test]
fn what_was_let_go_by_some_is_taken_up_again_unless_it_is_live() {
    let mut sink = Sink::default();
    let made = snapshot(&[1, 2].into(), 1, &mut sink);
    let mark = marked([&made].into_iter(), &sink);
    let mut dead = Dead::new(mark.live().unwrap());
    let (live, left) = (chunk(b"content 1"), chunk(b"of long ago"));
    dead.add(live.id, &live.ck);
    dead.add(left.id, &left.ck);
    dead.end(true);
    let order = dead.into_order();
    assert_eq!(order.iter().map(|dead| dead.id).collect::<Vec<_>>(), [left.id]);
}

#[test]
fn a_file_that_no_snapshot_names_stays() {
    let mut sink = Sink::default();
    let pieces: Vec<ChunkRef> = (0..3)
        .map(|number| ChunkRef { bytes: 1 << 20, ..chunk(format!("content {number}").as_bytes()) })
        .collect();
    let mut builder = crate::repo::listing::ListingBuilder::new();
    let mut seal = |closed: crate::repo::listing::ClosedListing| {
        let sealed = sink.seal(Kind::Listing, &closed.plaintext, closed.bytes);
        sealed.map_err(|_| crate::repo::listing::TooManyChunks)
    };
    pieces.iter().for_each(|piece| builder.add(piece, &mut seal).unwrap());
    let root = builder.finish(&mut seal).unwrap();
    let forgotten = snapshot(&(0..5).collect(), 1, &mut sink);
    let mut mark = Mark::new();
    mark.add_file(b"/a put", &root);
    assert_eq!(run(&mut mark, &sink.chunks).unwrap().0, []);
    let order = gather(Dead::new(mark.live().unwrap()), &forgotten, &sink.chunks).into_order();
    let goes = |number: u16| {
        let id = chunk(format!("content {number}").as_bytes()).id;
        order.iter().any(|dead| dead.id == id)
    };
    assert_eq!([0, 1, 2, 3, 4].map(goes), [false, false, false, true, true]);
    // Where its listing does not come nothing is known.
    let mut chunks = sink.chunks.clone();
    chunks.remove(&root.id);
    let mut mark = Mark::new();
    mark.add_file(b"/a put", &root);
    let fault = run(&mut mark, &chunks).unwrap_err();
    assert!(fault.to_string().starts_with("the list of chunks of /a put cannot"), "{fault}");
    assert!(mark.live().is_none());
}

const DAY: u64 = 24 * 3600;

#[test]
fn a_forget_of_another_device_waits_for_a_week_or_until_it_is_accepted() {
    let since = Clock { age_s: 5, wall_s: 1_000 };
    let seen = ForgetSeen { own: false, accepted: false, since };
    let later = |days: u64| Clock { age_s: 5 + days * DAY, wall_s: 1_000 + days * DAY };
    assert_eq!(fate(false, Some(seen), later(6)), Fate::Waits);
    assert_eq!(seen.wait_s(later(6)), DAY);
    assert_eq!(fate(false, Some(seen), later(7)), Fate::Gone);
    let accepted = ForgetSeen { accepted: true, ..seen };
    assert_eq!(fate(false, Some(accepted), later(0)), Fate::Gone);
    let own = ForgetSeen { own: true, ..seen };
    assert_eq!(fate(false, Some(own), later(0)), Fate::Gone);
    // Some manifest has it: whatever was meant to be forgotten, it is not.
    assert_eq!(fate(true, Some(own), later(9)), Fate::Needed);
    assert_eq!(fate(false, None, later(9)), Fate::Needed);
}

#[test]
fn a_clock_that_jumps_makes_forgets_wait_longer_or_a_day_less() {
    let start = Clock::now(None, None, 1_000);
    assert_eq!(start, Clock { age_s: 0, wall_s: 1_000 });
    let seen = ForgetSeen { own: false, accepted: false, since: start };
    // Ten years forward within a run: the watch knows better.
    let jumped = Clock::now(Some(start), Some(60), 1_000 + 3_650 * DAY);
    assert_eq!(seen.wait_s(jumped), FOREIGN_FORGETS_WAIT_S - 60);
    // And between two runs.
    let jumped = Clock::now(Some(start), None, 1_000 + 3_650 * DAY);
    assert_eq!(seen.wait_s(jumped), FOREIGN_FORGETS_WAIT_S - DAY);
    // Back: nothing has passed, and then all of it has to.
    let back = Clock::now(Some(jumped), None, 500);
    assert_eq!(back.age_s, jumped.age_s);
    assert!(seen.wait_s(back) >= FOREIGN_FORGETS_WAIT_S);
    let mut clock = start;
    for days in 1..=7 {
        assert!(!seen.counts(clock), "{days}");
        clock = Clock::now(Some(clock), None, 1_000 + days * DAY);
    }
    assert!(seen.counts(clock));
}
