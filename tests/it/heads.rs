//! Heads from an owner to its holders and back: the real roles over real stores, in virtual time.

mod mesh;

use super::store_fixtures::{options, wrap_key};
use mesh::{MILLISECOND, Manners, Mesh, SECOND, To};
use quloud::core::codec::Reject;
use quloud::core::owner::{OwnerCommand, OwnerEvent};
use quloud::core::types::{ChunkId, NodeId, Ticket};
use quloud::store::heads::HeadBounds;
use quloud::store::memory::{MemoryCatalogue, MemoryDisk};
use quloud::store::{Options, Writer};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

#[test]
fn a_head_reaches_its_quorum_like_a_chunk() {
    let mut mesh = Mesh::new(5);
    let first = mesh.record(0, 1);
    mesh.put(1, first, 3);
    mesh.run(5 * SECOND);
    assert_eq!((mesh.stored(1), mesh.rejects.len()), (Some(3), 0));
    let holders: Vec<NodeId> =
        mesh.nodes().into_iter().filter(|node| mesh.kept(*node, 0) == [1]).collect();
    assert_eq!(holders.len(), 3);
    // The next number, again to three; that some hold the last one counts for nothing.
    let second = mesh.record(0, 2);
    mesh.put(2, second.clone(), 3);
    mesh.run(5 * SECOND);
    assert_eq!((mesh.stored(2), mesh.rejects.len()), (Some(3), 0));
    let all = mesh.nodes();
    let newest = all.iter().filter(|node| mesh.kept(**node, 0).first() == Some(&2));
    assert_eq!(newest.count(), 3);
    // The same record once more, as after a crash before its acks were heard.
    mesh.put(3, second, 3);
    mesh.run(5 * SECOND);
    assert_eq!(mesh.stored(3), Some(3));
    let acks = mesh.events.iter().filter(|event| matches!(event, OwnerEvent::Acked { .. }));
    assert!(acks.count() >= 9);
}

#[test]
fn a_head_stays_with_its_holders() {
    let mut mesh = Mesh::new(6);
    let (mut held_by, mut all) = (Vec::new(), BTreeSet::new());
    for number in 1..=20 {
        let record = mesh.record(0, number);
        mesh.put_again(number, record, 3, std::mem::take(&mut held_by));
        mesh.run(5 * SECOND);
        assert_eq!(mesh.stored(number), Some(3));
        let newest = |node: &NodeId| mesh.kept(*node, 0).first() == Some(&number);
        held_by = mesh.nodes().into_iter().filter(newest).collect();
        all.extend(held_by.clone());
        // One chunk more or less makes one node better than another.
        assert_eq!(held_by.len(), 3);
    }
    assert_eq!(all.len(), 3, "each number went to the same three");
    // One that is away is replaced.
    mesh.part(held_by[0]);
    let record = mesh.record(0, 21);
    mesh.put_again(21, record, 3, held_by.clone());
    mesh.run(5 * SECOND);
    assert_eq!(mesh.stored(21), Some(3));
    assert!(held_by[1..].iter().all(|node| mesh.kept(*node, 0).first() == Some(&21)));
}

#[test]
fn a_holder_with_too_many_heads_is_passed_over_and_blamed_for_nothing() {
    let mut mesh = Mesh::new(4);
    let node = mesh.nodes()[0];
    let heads = HeadBounds { heads_per_account: 0, ..HeadBounds::default() };
    let (disk, catalogue) = (MemoryDisk::new(64 << 20), MemoryCatalogue::new());
    let (rng, options) = (ChaCha20Rng::from_seed([9; 32]), Options { heads, ..options() });
    let opened = Writer::open(Arc::new(disk), Arc::new(catalogue), wrap_key(), options, rng);
    mesh.holder(node).store = opened.unwrap().0;
    let record = mesh.record(0, 1);
    mesh.put_again(1, record, 3, vec![node]);
    mesh.run(5 * SECOND);
    assert_eq!((mesh.stored(1), mesh.kept(node, 0)), (Some(3), vec![]));
    assert_eq!((mesh.superseded(1).len(), mesh.rejects.len()), (0, 0));
}

#[test]
fn a_late_ack_of_a_head_is_not_reported() {
    let mut mesh = Mesh::new(4);
    let slow = mesh.nodes()[0];
    mesh.holder(slow).manners = Manners::SlowAck;
    let record = mesh.record(0, 1);
    mesh.put_again(1, record, 3, vec![slow]);
    mesh.run(15 * SECOND);
    assert_eq!((mesh.stored(1), mesh.kept(slow, 0)), (Some(3), vec![1]));
    mesh.events.clear();
    mesh.run(30 * SECOND);
    assert_eq!((mesh.events.len(), mesh.rejects.len()), (0, 0), "{:?}", mesh.events);
}

#[test]
fn a_head_finds_others_where_holders_fail() {
    let mut mesh = Mesh::new(5);
    let nodes = mesh.nodes();
    mesh.disconnect(nodes[0]);
    mesh.disconnect(nodes[1]);
    let record = mesh.record(0, 1);
    mesh.put(1, record, 4);
    mesh.run(30 * SECOND);
    assert_eq!(mesh.stored(1), Some(4), "{:#?}", mesh.events);
}

#[test]
fn a_holder_with_a_newer_head_says_so_and_the_job_goes_on() {
    let mut mesh = Mesh::new(4);
    let newer = mesh.nodes()[1];
    mesh.keep(newer, 0, 9);
    let record = mesh.record(0, 5);
    mesh.put(1, record, 4);
    mesh.run(5 * SECOND);
    assert_eq!(mesh.superseded(1), [Some(newer)]);
    assert_eq!((mesh.stored(1), mesh.kept(newer, 0)), (None, vec![9]));
    let others = mesh.nodes().into_iter().filter(|node| *node != newer);
    assert!(others.into_iter().all(|node| mesh.kept(node, 0) == [5]));
    mesh.command(OwnerCommand::Cancel(Ticket(1)));
    mesh.run(700 * SECOND);
    assert_eq!(mesh.superseded(1).len(), 1, "nobody is asked for what nobody wants");
}

#[test]
fn acks_of_one_record_say_nothing_of_another() {
    let mut mesh = Mesh::new(3);
    let (old, new) = (mesh.record(0, 1), mesh.record(0, 2));
    mesh.put(1, old.clone(), 3);
    // Sent, and not acknowledged yet.
    let is_written = |mesh: &Mesh| mesh.nodes().iter().any(|node| mesh.kept(*node, 0) == [1]);
    while !is_written(&mesh) {
        mesh.run(Duration::from_millis(1));
    }
    let acked = |mesh: &Mesh| {
        mesh.events.iter().filter(|event| matches!(event, OwnerEvent::Acked { .. })).count()
    };
    assert_eq!(acked(&mesh), 0);
    mesh.put(2, new, 3);
    assert_eq!(mesh.superseded(1), [None]);
    mesh.put(3, old, 3);
    assert_eq!(mesh.superseded(3), [None], "an older one is not even begun");
    mesh.run(2 * SECOND);
    assert_eq!((mesh.stored(1), mesh.stored(2), mesh.stored(3)), (None, Some(3), None));
    assert_eq!(acked(&mesh), 3, "only of the record that was wanted");
    assert!(mesh.nodes().iter().all(|node| mesh.kept(*node, 0).first() == Some(&2)));
}

#[test]
fn every_head_holder_is_asked() {
    let mut mesh = Mesh::new(6);
    let nodes = mesh.nodes();
    for (at, node) in nodes.iter().enumerate().take(4) {
        for number in 1..=at as u64 + 2 {
            mesh.keep(*node, 0, number);
        }
    }
    mesh.keep(nodes[0], 7, 40);
    mesh.find(1, 32, &nodes[..1]);
    mesh.run(10 * SECOND);
    let expected = [vec![2, 1, 40], vec![3, 2, 1], vec![4, 3, 2], vec![5, 4, 3]];
    let expected: BTreeMap<NodeId, Vec<u64>> = nodes.iter().copied().zip(expected).collect();
    let mut seen = mesh.seen();
    let first = seen.get_mut(&nodes[0]).unwrap();
    first.sort_by_key(|number| (*number == 40, std::cmp::Reverse(*number)));
    assert_eq!(seen, expected);
    assert_eq!(mesh.done(), Some((nodes[..4].to_vec(), Vec::new())));
    assert_eq!(mesh.rejects, []);
}

#[test]
fn a_holder_that_connects_after_the_first_answer_is_heard() {
    let mut mesh = Mesh::new(4);
    let nodes = mesh.nodes();
    for (node, number) in nodes.iter().zip([1, 2, 2]) {
        mesh.keep(*node, 0, number);
    }
    nodes[1..].iter().for_each(|node| mesh.part(*node));
    // One that answers that it has nothing is no news either.
    mesh.connect(nodes[3]);
    mesh.find(1, 3, &nodes[3..]);
    mesh.run(800 * MILLISECOND);
    assert_eq!((mesh.done(), mesh.seen().len()), (None, 1));
    mesh.join(nodes[1]);
    mesh.run(1200 * MILLISECOND);
    assert_eq!(mesh.done(), None, "who subscribes is asked, and given its time");
    mesh.join(nodes[2]);
    mesh.run(3 * SECOND);
    assert_eq!(mesh.done(), Some((nodes[..3].to_vec(), Vec::new())));
    assert_eq!(mesh.seen()[&nodes[2]], [2]);
}

#[test]
fn the_further_apart_the_mesh_the_longer_a_brief_question_listens() {
    let listened = |calm: Duration, latency: u32, keepers: usize, brief: bool| {
        let mut mesh = Mesh::new(4);
        (mesh.latency, mesh.brief) = (latency * MILLISECOND, brief);
        mesh.run(calm);
        let nodes = mesh.nodes();
        nodes[..keepers].iter().for_each(|node| mesh.keep(*node, 0, 3));
        mesh.find(1, 1, &[]);
        let began = mesh.now;
        while mesh.done().is_none() {
            mesh.run(MILLISECOND);
        }
        assert_eq!(mesh.done(), Some((nodes[..keepers].to_vec(), Vec::new())));
        mesh.now.since(began).as_millis()
    };
    // To a record it is six times the latency, and a moment of each holder's own.
    let calm = 2 * SECOND;
    let near = listened(calm, 1, 3, true);
    assert!((500..1_000).contains(&near), "{near} ms");
    let further = listened(calm, 30, 3, true);
    assert!((4 * 6 * 30..1_500).contains(&further), "{further} ms");
    assert!(listened(calm, 150, 3, true) >= 1_500);
    assert_eq!(listened(calm, 1, 1, true), 1_500, "one says nothing of the others");
    assert_eq!(listened(Duration::ZERO, 1, 3, true), 1_000, "more may be about to connect");
    assert_eq!(listened(calm, 1, 3, false), 1_500, "something depends on it");
}

#[test]
fn a_head_that_its_holders_serve_stands_on_no_topic() {
    let mut mesh = Mesh::new(5);
    let nodes = mesh.nodes();
    nodes[..4].iter().for_each(|node| mesh.keep(*node, 0, 3));
    let all = nodes[..3].to_vec();
    mesh.find(1, 1, &all);
    mesh.run(100 * MILLISECOND);
    assert_eq!((mesh.done(), mesh.published), (Some((all.clone(), Vec::new())), 0));
    // Two of three are enough.
    mesh.part(all[2]);
    mesh.events.clear();
    mesh.find(2, 1, &all);
    mesh.run(100 * MILLISECOND);
    let done = (all[..2].to_vec(), all[2..].to_vec());
    assert_eq!((mesh.done(), mesh.published), (Some(done), 0));
    // One is not, nor the word of one: it may be behind, and wish to be believed.
    mesh.part(all[1]);
    for known in [&all[..], &all[..1]] {
        (mesh.published, mesh.events) = (0, Vec::new());
        mesh.find(3, 1, known);
        mesh.run(5 * SECOND);
        let done = mesh.done().unwrap().0;
        assert_eq!((done, mesh.published), (vec![nodes[0], nodes[3]], 1));
    }
    // Others are asked for on their topic all the same, and nobody for what it is not thought to
    // keep.
    mesh.join(all[1]);
    (mesh.published, mesh.events) = (0, Vec::new());
    let before = mesh.holder(nodes[0]).gets;
    mesh.find(4, 32, &all[..2]);
    mesh.run(5 * SECOND);
    assert_eq!((mesh.done().unwrap().0, mesh.published), (all[..2].to_vec(), 1));
    assert_eq!(mesh.holder(nodes[0]).gets, before + 1);
    assert_eq!(mesh.rejects, []);
}

#[test]
fn a_holder_that_is_known_and_not_connected_is_dialed() {
    let mut mesh = Mesh::apart(3);
    let nodes = mesh.nodes();
    nodes.iter().for_each(|node| mesh.keep(*node, 0, 3));
    mesh.find(1, 1, &nodes[..1]);
    mesh.run(10 * SECOND);
    assert_eq!(mesh.done(), Some((nodes, Vec::new())), "and then the others by the topic");
}

#[test]
fn silence_and_false_records_end_with_the_rest() {
    let mut mesh = Mesh::new(4);
    let nodes = mesh.nodes();
    nodes.iter().for_each(|node| mesh.keep(*node, 0, 3));
    mesh.holder(nodes[0]).manners = Manners::Silent;
    mesh.holder(nodes[1]).manners = Manners::Botches;
    mesh.holder(nodes[2]).manners = Manners::Busy;
    mesh.find(1, 1, &[]);
    mesh.run(2 * SECOND);
    assert_eq!(mesh.done(), None, "somebody may still answer");
    mesh.run(3 * SECOND);
    assert_eq!(mesh.done(), Some((nodes[2..].to_vec(), nodes[..2].to_vec())));
    assert_eq!(mesh.rejects, [(To::Owner, Reject::BadProof)]);
    assert_eq!(mesh.holder(nodes[2]).gets, 2, "a busy one is asked again");
}

#[test]
fn an_answer_after_the_end_is_no_misbehaviour() {
    let mut mesh = Mesh::new(2);
    let nodes = mesh.nodes();
    nodes.iter().for_each(|node| mesh.keep(*node, 0, 3));
    mesh.holder(nodes[0]).manners = Manners::Slow;
    mesh.find(1, 1, &[]);
    mesh.run(20 * SECOND);
    assert_eq!(mesh.done(), Some((vec![nodes[1]], vec![nodes[0]])));
    assert_eq!((mesh.rejects.len(), mesh.seen().len()), (0, 1));
}

#[test]
fn a_head_that_nobody_keeps_is_asked_for_until_the_deadline() {
    let mut mesh = Mesh::new(3);
    let node = mesh.nodes()[0];
    mesh.keep(node, 0, 1);
    mesh.part(node);
    mesh.find(1, 32, &[]);
    mesh.run(9 * SECOND);
    assert_eq!((mesh.done(), mesh.published), (None, 4));
    mesh.run(2 * SECOND);
    assert_eq!(mesh.done(), Some((Vec::new(), Vec::new())));
    // Somebody who keeps it comes late.
    mesh.events.clear();
    mesh.find(3, 32, &[]);
    mesh.run(8 * SECOND);
    mesh.join(node);
    mesh.run(2 * SECOND);
    assert_eq!(mesh.done(), Some((vec![node], Vec::new())));
    mesh.events.clear();
    mesh.find(2, 1, &[]);
    mesh.run(3 * SECOND);
    assert_eq!(mesh.done(), Some((vec![node], Vec::new())));
    let id: ChunkId = mesh.head(0).id();
    assert!(mesh.events.iter().any(|event| matches!(event,
        OwnerEvent::HeadSeen { ticket: Ticket(2), record, .. } if record.id() == id)));
}

#[test]
fn questions_are_bounded() {
    let mut mesh = Mesh::new(2);
    let silent = mesh.nodes();
    for ticket in 0..6 {
        mesh.find(ticket, 1, &silent);
    }
    let ended = mesh.events.iter().filter(|event| matches!(event, OwnerEvent::HeadsDone { .. }));
    assert_eq!(ended.count(), 2, "two too many");
    assert!(mesh.owner.load().iter().all(|fill| !fill.is_over()));
    mesh.run(20 * SECOND);
    let ended = mesh.events.iter().filter(|event| matches!(event, OwnerEvent::HeadsDone { .. }));
    assert_eq!(ended.count(), 6);
    assert!(mesh.owner.load().iter().all(|fill| !fill.is_over()));
}
