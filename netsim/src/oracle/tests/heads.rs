//! The properties of heads can fire, too.

use super::stand::{CHEAT, HOLDER, OWNER, Stand, snapshot};
use super::{Fact, heads_grow, heads_kept, heads_once, judged, quorum, recovered, reported, said};
use quloud::core::message::{StoreHead, StreamMessage};
use quloud::core::owner::OwnerEvent;
use quloud::core::types::{Account, BatchId, ChunkId, LeaseTerms, SnapshotId, Ticket};
use quloud::crypto::head::HeadRecord;
use quloud::repo::head::Verdict;
use std::collections::{BTreeMap, BTreeSet};

fn looked<'a>(id: ChunkId, newest: Option<u64>) -> Fact<'a> {
    Fact::HeadLooked { node: HOLDER, id, newest }
}

fn sent(record: &HeadRecord) -> StreamMessage {
    let (batch, account) = (BatchId::from_bytes([0; 16]), Account::from_bytes([0; 32]));
    let (terms, record) = (LeaseTerms::default(), record.encode());
    let (nonce, proof, seed) = ([0; 32], [0; 64], [0; 32]);
    StreamMessage::StoreHead(StoreHead { batch, account, terms, nonce, proof, seed, record })
}

#[test]
fn heads_grow_fires_where_a_store_shows_an_older_number_than_before() {
    let mut stand = Stand::new();
    let id = stand.record(1, [0; 32]).id();
    let mut property = heads_grow::HeadsGrow::default();
    stand.holds(&mut property, &[looked(id, Some(3)), looked(id, None), looked(id, Some(4))]);
    stand.breaks(&mut property, &[looked(id, Some(3))]);
    stand.nodes[HOLDER].sound = false;
    stand.holds(&mut property, &[looked(id, Some(1))]);
}

#[test]
fn heads_kept_fires_where_an_acknowledged_record_is_gone() {
    let mut stand = Stand::new();
    let id = stand.record(1, [0; 32]).id();
    let property = &mut heads_kept::HeadsKept;
    let fine =
        [looked(id, Some(2)), looked(id, Some(3)), looked(ChunkId::from_bytes([1; 32]), None)];
    stand.holds(property, &fine);
    stand.breaks(property, &[looked(id, Some(1)), looked(id, None)]);
    stand.nodes[HOLDER].sound = false;
    stand.holds(property, &[looked(id, None)]);
}

#[test]
fn heads_once_fires_where_a_number_is_made_twice_or_left_out() {
    let stand = Stand::new();
    let first = stand.record(1, [0; 32]);
    let second = stand.record(2, first.hash());
    let made = |record| Fact::HeadMade { node: OWNER, record };
    let mut property = heads_once::HeadsOnce::default();
    let (one, two) = (sent(&first), sent(&second));
    stand.breaks(&mut property, &[said(OWNER, HOLDER, &one)]);
    stand.holds(&mut property, &[made(&first), said(OWNER, HOLDER, &one), made(&second)]);
    stand.holds(&mut property, &[said(OWNER, HOLDER, &two), said(CHEAT, HOLDER, &one)]);
    // Again, after another one, and of another content.
    stand.breaks(&mut property, &[made(&second)]);
    let unlinked = stand.record(3, [0; 32]);
    stand.breaks(&mut property, &[made(&unlinked)]);
    let other = sent(&stand.record(2, [7; 32]));
    stand.breaks(&mut property, &[said(OWNER, HOLDER, &other)]);
}

#[test]
fn judged_fires_where_somebody_else_writes_a_head() {
    let stand = Stand::new();
    let none = BTreeMap::new();
    let fork = Verdict::Fork { number: 2, records: none };
    let judged = |verdict| Fact::HeadJudged { node: OWNER, newest: 2, verdict };
    let fine = [Verdict::None, Verdict::Behind { highest: 1 }];
    fine.iter().for_each(|verdict| stand.holds(&mut judged::Judged, &[judged(verdict)]));
    stand.breaks(&mut judged::Judged, &[judged(&fork)]);
    stand.breaks(&mut judged::Judged, &[judged(&Verdict::Unreadable { number: 3 })]);
}

#[test]
fn recovered_fires_where_a_list_is_not_what_was_published() {
    let stand = Stand::new();
    let head = stand.record(1, [0; 32]).id();
    let list = |numbers: &[u8]| -> BTreeSet<SnapshotId> {
        numbers.iter().map(|number| snapshot(*number)).collect()
    };
    let (both, one, more) = (list(&[1, 2]), list(&[1]), list(&[1, 2, 3]));
    let found = |number, live| Fact::Recovered { node: HOLDER, head, number, live };
    stand.holds(&mut recovered::Recovered, &[found(2, &both)]);
    // One is missing, one has risen; it was promised later; nobody made it.
    let wrong = [found(2, &one), found(2, &more), found(1, &one), found(3, &both)];
    stand.breaks(&mut recovered::Recovered, &wrong);
}

#[test]
fn quorum_fires_where_a_head_has_too_few_acks() {
    let mut stand = Stand::new();
    let id = stand.record(1, [0; 32]).id();
    let stored = |stand: &Stand, replicas, nodes: &[usize]| {
        let holders = stand.ids(nodes);
        OwnerEvent::Stored { ticket: Ticket(1), id, replicas, holders }
    };
    let fine = stored(&stand, 2, &[HOLDER, super::stand::OTHER]);
    stand.holds(&mut quorum::Quorum, &[reported(&fine)]);
    let (few, strange) = (stored(&stand, 1, &[HOLDER]), stored(&stand, 2, &[HOLDER, CHEAT]));
    stand.breaks(&mut quorum::Quorum, &[reported(&few), reported(&strange)]);
    stand.older_acks(&id);
    stand.breaks(&mut quorum::Quorum, &[reported(&fine)]);
}
