//! Each property can fire: facts that break it, beside ones that do not.

mod audits;
mod heads;
mod stand;

use super::*;
use crate::node::wishes::Job;
use quloud::core::effect::Reach;
use quloud::core::message::{Release, ReleaseItem, Retrieve, StoreClaim};
use quloud::core::owner::FetchFailure;
use quloud::core::placement::DomainPolicy;
use quloud::core::types::{StoreEpoch, Ticket};
use quloud::store::recovery::Damage as Range;
use stand::{CHEAT, HOLDER, OTHER, OWNER, Stand};

fn said(from: Index, to: Index, message: &StreamMessage) -> Fact<'_> {
    Fact::Said { from, to, message }
}

fn reported(event: &OwnerEvent) -> Fact<'_> {
    Fact::Reported { node: OWNER, event }
}

#[test]
fn addressed_fires_where_a_chunk_is_taken_of_a_stranger() {
    let stand = Stand::new();
    let ack = stand.ack(0, 1);
    let fine = [said(HOLDER, OWNER, &ack), said(CHEAT, OTHER, &ack)];
    stand.holds(&mut addressed::Addressed, &fine);
    stand.breaks(&mut addressed::Addressed, &[said(HOLDER, OTHER, &ack)]);
}

#[test]
fn asked_fires_where_a_chunk_goes_to_who_did_not_claim_it() {
    let mut stand = Stand::new();
    let (first, second) = (stand.chunk(0), stand.chunk(1));
    let request = TopicMessage::StoreRequest(stand.request());
    let claim = StoreClaim { contact: None, ephemeral: [7; 32], wants: u64::MAX, holds: 0 };
    let claim = StreamMessage::StoreClaim(claim);
    let asked = [Fact::Published { node: OWNER, message: &request }, said(HOLDER, OWNER, &claim)];
    let mut property = asked::Asked::default();
    stand.breaks(&mut property, &[said(OWNER, HOLDER, &first)]);
    stand.holds(&mut property, &asked);
    stand.holds(&mut property, &[said(OWNER, HOLDER, &first)]);
    // Another holder, another chunk, one that is not the sender's.
    stand.breaks(
        &mut property,
        &[said(OWNER, OTHER, &first), said(OWNER, HOLDER, &second), said(HOLDER, OTHER, &first)],
    );
    // Nobody is connected to the holder any more.
    stand.nodes[OWNER].machine.as_mut().unwrap().met.remove(&HOLDER);
    stand.breaks(&mut property, &[said(OWNER, HOLDER, &first)]);
}

#[test]
fn asked_fires_where_a_claim_is_of_an_earlier_life() {
    let stand = Stand::new();
    let (request, first) = (StreamMessage::StoreRequest(stand.request()), stand.chunk(0));
    let claim = StoreClaim { contact: None, ephemeral: [7; 32], wants: 1, holds: 0 };
    let claim = StreamMessage::StoreClaim(claim);
    let mut property = asked::Asked::default();
    let asked = [said(OWNER, HOLDER, &request), said(HOLDER, OWNER, &claim)];
    stand.holds(&mut property, &asked);
    let report = opened(Vec::new());
    stand.holds(&mut property, &[Fact::Opened { node: OWNER, report: &report }]);
    stand.breaks(&mut property, &[said(OWNER, HOLDER, &first)]);
}

#[test]
fn asked_fires_where_a_chunk_comes_back_unasked_or_twice() {
    let stand = Stand::new();
    let retrieve = Retrieve { request: 5, id: stand.id(0), nonce: [0; 32], proof: [0; 64] };
    let retrieve = StreamMessage::Retrieve(retrieve);
    let (right, number, other) = (stand.data(0, 5), stand.data(0, 6), stand.data(1, 5));
    let mut property = asked::Asked::default();
    stand.holds(&mut property, &[said(OWNER, HOLDER, &retrieve)]);
    let wrong = [said(HOLDER, OWNER, &number), said(HOLDER, OTHER, &right)];
    stand.breaks(&mut property, &wrong);
    stand.holds(&mut property, &[said(HOLDER, OWNER, &right)]);
    stand.breaks(&mut property, &[said(HOLDER, OWNER, &right)]);
    stand.holds(&mut property, &[said(OWNER, HOLDER, &retrieve)]);
    stand.breaks(&mut property, &[said(HOLDER, OWNER, &other)]);
}

#[test]
fn blame_fires_for_what_an_honest_node_said_and_not_for_what_it_forwarded() {
    let stand = Stand::new();
    let from = stand.nodes[HOLDER].id;
    let rejected = |author: Option<Index>, via, reason| {
        let heard = author.map(|author| Heard { via, author });
        Fact::Rejected { node: OWNER, from, heard, reason }
    };
    let (stream, topic) = (Via::Stream, Via::Topic);
    let fine = [
        rejected(Some(CHEAT), topic, Reject::BadProof),
        rejected(Some(CHEAT), stream, Reject::WrongBytes),
        rejected(Some(HOLDER), stream, Reject::RateLimited),
        // Nobody knows who said it, and there is a cheat.
        rejected(None, topic, Reject::Malformed),
    ];
    stand.holds(&mut blame::Blame, &fine);
    let wrong = [
        rejected(Some(HOLDER), stream, Reject::WrongBytes),
        rejected(Some(OTHER), topic, Reject::BadProof),
    ];
    stand.breaks(&mut blame::Blame, &wrong);
    let asked = |holder: Index| OwnerEvent::NotFetched {
        ticket: Ticket(1),
        id: stand.id(0),
        asked: vec![(stand.nodes[holder].id, FetchFailure::WrongBytes)],
    };
    stand.holds(&mut blame::Blame, &[reported(&asked(CHEAT))]);
    stand.breaks(&mut blame::Blame, &[reported(&asked(HOLDER))]);
    let came = |holder: Index| OwnerEvent::Fetched {
        ticket: Ticket(1),
        id: stand.id(0),
        header: stand.put[0].header,
        sealed: stand.put[0].sealed.clone(),
        from: stand.nodes[OTHER].id,
        asked: vec![(stand.nodes[holder].id, FetchFailure::WrongBytes)],
    };
    stand.holds(&mut blame::Blame, &[reported(&came(CHEAT))]);
    stand.breaks(&mut blame::Blame, &[reported(&came(HOLDER))]);
}

#[test]
fn bounds_fires_for_each_table_that_is_over() {
    let stand = Stand::new();
    let limits = stand.nodes[OWNER].limits().holder.clone();
    let loaded = |load, owner| Fact::Loaded { node: OWNER, load, owner };
    let empty = HolderLoad::default();
    stand.holds(&mut bounds::Bounds, &[loaded(empty, &[])]);
    let over = [
        HolderLoad { peers: limits.peers_max + 1, ..empty },
        HolderLoad { writing_bytes: limits.writing_bytes + 1, ..empty },
        HolderLoad { reads: limits.reads + 1, ..empty },
        HolderLoad { queued_reads: limits.queued_reads + 1, ..empty },
        HolderLoad { topic_work: limits.topic_work + 1, ..empty },
        HolderLoad { stream_work: limits.stream_work + 1, ..empty },
        HolderLoad { seen: limits.requests_seen + limits.proofs_seen + 1, ..empty },
        HolderLoad { accounts: 2 * limits.accounts_max + 1, ..empty },
    ];
    over.iter().for_each(|load| stand.breaks(&mut bounds::Bounds, &[loaded(*load, &[])]));
    let [full, over] = [7, 8].map(|used| [Fill { what: "jobs", used, max: 7 }]);
    stand.holds(&mut bounds::Bounds, &[loaded(empty, &full)]);
    stand.breaks(&mut bounds::Bounds, &[loaded(empty, &over)]);
}

#[test]
fn window_fires_where_it_holds_more_than_is_being_put() {
    let mut stand = Stand::new();
    let load = HolderLoad::default();
    let fills = |jobs, bytes| {
        [("store jobs", jobs), ("bytes to store", bytes)].map(|(what, used)| Fill {
            what,
            used,
            max: 99_999,
        })
    };
    let length = stand.put[0].sealed.len();
    let check = |stand: &Stand, fine: bool, jobs, bytes| {
        let fact = Fact::Loaded { node: OWNER, load, owner: &fills(jobs, bytes) };
        match fine {
            true => stand.holds(&mut window::Window, &[fact]),
            false => stand.breaks(&mut window::Window, &[fact]),
        }
    };
    let unnamed = Fact::Loaded { node: OWNER, load, owner: &[] };
    stand.breaks(&mut window::Window, &[unnamed]);
    check(&stand, true, 0, 0);
    [(1, 0), (0, 1)].into_iter().for_each(|(jobs, bytes)| check(&stand, false, jobs, bytes));
    let id = stand.id(0);
    let job = stand.nodes[OWNER].wishes.begin(Job::Put(id));
    check(&stand, true, 1, length);
    check(&stand, false, 1, length + 1);
    check(&stand, false, 2, length);
    stand.nodes[OWNER].wishes.end(job);
    check(&stand, false, 1, length);
}

#[test]
fn bytes_fires_where_something_else_comes_back() {
    let stand = Stand::new();
    let fetched = |header: usize, sealed: usize| OwnerEvent::Fetched {
        ticket: Ticket(1),
        id: stand.id(0),
        header: stand.put[header].header,
        sealed: stand.put[sealed].sealed.clone(),
        from: stand.nodes[HOLDER].id,
        asked: Vec::new(),
    };
    stand.holds(&mut bytes::RightBytes, &[reported(&fetched(0, 0))]);
    for (header, sealed) in [(0, 1), (1, 0)] {
        stand.breaks(&mut bytes::RightBytes, &[reported(&fetched(header, sealed))]);
    }
}

#[test]
fn counts_fires_where_a_holder_and_its_store_disagree() {
    let stand = Stand::new();
    let account = |number| Account::from_bytes([number; 32]);
    let usage = BTreeMap::from([(account(1), 9), (account(2), 5)]);
    let rests = |counted| Fact::Rests { node: HOLDER, counted, usage: &usage };
    stand.holds(&mut counts::Counts, &[rests(&usage)]);
    let (less, none) = (BTreeMap::from([(account(1), 9), (account(2), 4)]), BTreeMap::new());
    stand.breaks(&mut counts::Counts, &[rests(&less), rests(&none)]);
    let cheat = Fact::Rests { node: CHEAT, counted: &none, usage: &usage };
    stand.holds(&mut counts::Counts, &[cheat]);
}

fn opened(damage: Vec<Range>) -> OpenReport {
    OpenReport {
        epoch: StoreEpoch::from_bytes([0; 16]),
        created: false,
        chunks: 0,
        quarantined: 0,
        rebuilt: None,
        replayed: 0,
        cut_bytes: 0,
        damage,
        ledger_damage: Vec::new(),
        releases_dropped: 0,
        read_only: None,
    }
}

#[test]
fn damage_fires_where_the_disk_is_sound() {
    let mut stand = Stand::new();
    let (whole, damaged) = (opened(vec![]), opened(vec![Range { segment: 1, from: 0, to: 9 }]));
    let (whole, damaged) = (
        Fact::Opened { node: HOLDER, report: &whole },
        Fact::Opened { node: HOLDER, report: &damaged },
    );
    stand.holds(&mut damage::Damage, &[whole]);
    let range = [Range { segment: 1, from: 0, to: 9 }];
    let scrubbed = |damage, rotten| Fact::Scrubbed { node: HOLDER, damage, rotten };
    stand.holds(&mut damage::Damage, &[scrubbed(&[], 0)]);
    let wrong = [damaged, scrubbed(&range, 0), scrubbed(&[], 1)];
    stand.breaks(&mut damage::Damage, &wrong);
    stand.nodes[HOLDER].sound = false;
    stand.holds(&mut damage::Damage, &wrong);
}

#[test]
fn damage_of_a_ledger_fires_where_the_catalogue_is_not_lost() {
    let stand = Stand::new();
    let damaged = OpenReport { ledger_damage: vec![(1, 9)], ..opened(vec![]) };
    let rebuilt = Some(quloud::store::recovery::Rebuilt::Missing);
    let doubted = OpenReport { ledger_damage: vec![(1, 9)], rebuilt, ..opened(vec![]) };
    let fact = |report| Fact::Opened { node: HOLDER, report };
    stand.breaks(&mut damage::Damage, &[fact(&damaged)]);
    let first = OpenReport { ledger_damage: vec![(0, 45), (45, 99)], ..opened(vec![]) };
    stand.holds(&mut damage::Damage, &[fact(&doubted), fact(&first)]);
}

#[test]
fn delays_fires_where_a_chunk_goes_that_was_not_let_go_or_is_kept_still() {
    let mut stand = Stand::new();
    let id = stand.id(0);
    let gone = |at_s: u64| Fact::Destroyed { node: HOLDER, id, at: Time(at_s * 1_000) };
    stand.breaks(&mut delays::Delays, &[gone(99)]);
    let (lease, request) = (LeaseNonce::from_bytes([1; 16]), (OWNER, 1));
    let let_go = LetGo { since: Time(50_000), lease, request, is_answered: false };
    let facts = LeaseFacts { delay_s: 40, let_go: vec![let_go] };
    stand.chunks.get_mut(&id).unwrap().leases.insert(HOLDER, facts);
    stand.breaks(&mut delays::Delays, &[gone(51), gone(89)]);
    stand.holds(&mut delays::Delays, &[gone(90)]);
    // Who is no honest holder of it destroys what it likes.
    let other = |node| Fact::Destroyed { node, id, at: Time(90_000) };
    stand.holds(&mut delays::Delays, &[other(CHEAT)]);
    stand.breaks(&mut delays::Delays, &[other(OTHER)]);
}

#[test]
fn located_fires_where_a_node_says_that_it_has_what_it_never_got_or_lets_go() {
    let mut stand = Stand::new();
    let (id, hour) = (stand.id(0), 3_600_000);
    let said = |node: NodeId| OwnerEvent::Located { ticket: Ticket(1), node, ids: vec![id] };
    let of = |stand: &Stand, node: Index| said(stand.nodes[node].id);
    let (holder, other) = (of(&stand, HOLDER), of(&stand, OTHER));
    stand.breaks(&mut located::Located::default(), &[reported(&holder)]);
    stand.chunks.get_mut(&id).unwrap().reached.insert(HOLDER);
    stand.holds(
        &mut located::Located::default(),
        &[reported(&holder), reported(&of(&stand, CHEAT))],
    );
    stand.breaks(&mut located::Located::default(), &[reported(&other)]);
    let (lease, request, is_answered) = (LeaseNonce::from_bytes([1; 16]), (OWNER, 1), true);
    let mut let_go = |since: Time, is_answered| {
        let let_go = vec![LetGo { since, lease, request, is_answered }];
        let facts = LeaseFacts { delay_s: 40, let_go };
        stand.chunks.get_mut(&id).unwrap().leases.insert(HOLDER, facts);
        stand.see(&mut located::Located::default(), &reported(&holder)).is_some()
    };
    let long_ago = Time(stand::NOW.0 - 2 * hour);
    assert!(let_go(long_ago, is_answered), "it lets it go");
    assert!(!let_go(long_ago, false), "it may not have heard of it");
    assert!(!let_go(Time(stand::NOW.0 - hour), is_answered), "its word was on its way");
    let_go(long_ago, is_answered);
    let dropped = OpenReport { releases_dropped: 1, ..opened(vec![]) };
    let opened = Fact::Opened { node: HOLDER, report: &dropped };
    stand.holds(&mut located::Located::default(), &[opened, reported(&holder)]);
}

#[test]
fn wanted_fires_where_an_owner_lets_go_what_its_user_did_not_give_up() {
    let mut stand = Stand::new();
    let (first, second) = (stand.id(0), stand.id(1));
    let message = |undo: bool, ids: &[ChunkId]| {
        let lease = LeaseNonce::from_bytes([1; 16]);
        let item = |id: &ChunkId| ReleaseItem { id: *id, lease, proof: [0; 64] };
        let items = ids.iter().map(item).collect();
        StreamMessage::Release(Release { request: 1, undo, nonce: [0; 32], items })
    };
    let (both, one) = (message(false, &[first, second]), message(false, &[first]));
    let back = message(true, &[first, second]);
    stand.breaks(&mut wanted::Wanted, &[said(OWNER, HOLDER, &both), said(OWNER, HOLDER, &one)]);
    stand.holds(&mut wanted::Wanted, &[said(OWNER, HOLDER, &back), said(CHEAT, HOLDER, &both)]);
    stand.chunks.get_mut(&first).unwrap().released = Some(Time(1));
    stand.breaks(&mut wanted::Wanted, &[said(OWNER, HOLDER, &both)]);
    stand.holds(&mut wanted::Wanted, &[said(OWNER, HOLDER, &one)]);
}

#[test]
fn dials_fires_where_a_node_is_looked_for_at_another_ones_door() {
    let stand = Stand::new();
    let dialled = |node, to: Index, record| Fact::Dialled {
        node,
        role: Role::Owner,
        to: stand.nodes[to].id,
        record,
    };
    let (own, foreign) = (stand.nodes[HOLDER].record(), stand.nodes[OTHER].record());
    let none = Bytes::new();
    let fine = [
        dialled(OWNER, HOLDER, &own),
        dialled(OWNER, HOLDER, &none),
        dialled(CHEAT, HOLDER, &foreign),
        dialled(OWNER, CHEAT, &foreign),
    ];
    stand.holds(&mut dials::Dials, &fine);
    stand.breaks(&mut dials::Dials, &[dialled(OWNER, HOLDER, &foreign)]);
}

#[test]
fn durable_and_gone_fire_where_a_start_shows_less_or_more_than_there_was() {
    let mut stand = Stand::new();
    let ids = [stand.id(0)];
    let started = |missing, risen| Fact::Started { node: HOLDER, missing, risen };
    stand.holds(&mut durable::Durable, &[started(&[], &ids)]);
    stand.breaks(&mut durable::Durable, &[started(&ids, &[])]);
    stand.holds(&mut gone::Gone, &[started(&ids, &[])]);
    stand.breaks(&mut gone::Gone, &[started(&[], &ids)]);
    stand.nodes[HOLDER].sound = false;
    stand.holds(&mut durable::Durable, &[started(&ids, &ids)]);
    stand.holds(&mut gone::Gone, &[started(&ids, &ids)]);
}

#[test]
fn epochs_fires_where_an_ack_of_an_earlier_store_is_counted() {
    let stand = Stand::new();
    let [before, after] = [stand.acked(0, HOLDER, 1), stand.acked(1, HOLDER, 2)];
    let stored = stand.stored(2, &[HOLDER, OTHER]);
    let mut property = epochs::Epochs::default();
    stand.holds(&mut property, &[reported(&before), reported(&stored), reported(&after)]);
    stand.breaks(&mut property, &[reported(&stored)]);
}

#[test]
fn gone_fires_where_any_header_of_what_was_deleted_is_found() {
    let mut stand = Stand::new();
    stand.of(0).buried.insert(HOLDER);
    let looked = |node, which: usize, seen| Fact::Looked { node, id: stand.id(which), seen };
    let fine = [
        looked(HOLDER, 0, Seen::Nothing),
        looked(HOLDER, 1, Seen::Sound),
        looked(OTHER, 0, Seen::Sound),
    ];
    stand.holds(&mut gone::Gone, &fine);
    let wrong = [looked(HOLDER, 0, Seen::Sound), looked(HOLDER, 0, Seen::Damaged)];
    stand.breaks(&mut gone::Gone, &wrong);
}

#[test]
fn held_fires_where_an_ack_is_for_what_cannot_be_read() {
    let mut stand = Stand::new();
    let ack = stand.ack(0, 1);
    stand.holds(&mut held::Held, &[said(CHEAT, OWNER, &ack)]);
    stand.breaks(&mut held::Held, &[said(HOLDER, OWNER, &ack)]);
    stand.of(0).buried.insert(HOLDER);
    stand.holds(&mut held::Held, &[said(HOLDER, OWNER, &ack)]);
}

#[test]
fn kept_fires_where_what_was_acknowledged_is_not_there_or_called_damaged() {
    let mut stand = Stand::new();
    let id = stand.id(0);
    let looked = |node, seen| Fact::Looked { node, id, seen };
    let fine = [looked(HOLDER, Seen::Sound), looked(CHEAT, Seen::Nothing)];
    stand.holds(&mut kept::Kept, &fine);
    let wrong = [looked(HOLDER, Seen::Nothing), looked(HOLDER, Seen::Damaged)];
    stand.breaks(&mut kept::Kept, &wrong);
    stand.of(0).acked.remove(&HOLDER);
    stand.holds(&mut kept::Kept, &wrong);
}

#[test]
fn leases_fires_where_two_chunks_have_one_name() {
    let stand = Stand::new();
    let (first, other, same) = (stand.ack(0, 1), stand.ack(1, 2), stand.ack(1, 1));
    let mut property = leases::Leases::default();
    let fine = [said(HOLDER, OWNER, &first), said(HOLDER, OWNER, &first)];
    stand.holds(&mut property, &fine);
    stand.holds(&mut property, &[said(HOLDER, OWNER, &other), said(OTHER, OWNER, &same)]);
    stand.breaks(&mut property, &[said(HOLDER, OWNER, &same)]);
}

#[test]
fn quorum_fires_for_every_way_to_be_ahead_of_the_truth() {
    let mut stand = Stand::new();
    stand.of(0).acked.insert(OWNER, Time(0));
    let stored = |replicas, holders: &[Index]| stand.stored(replicas, holders);
    let fine = [stored(2, &[HOLDER, OTHER]), stand.acked(0, HOLDER, 0)];
    fine.iter().for_each(|event| stand.holds(&mut quorum::Quorum, &[reported(event)]));
    let mut unknown = stored(2, &[HOLDER, OTHER]);
    if let OwnerEvent::Stored { holders, .. } = &mut unknown {
        holders.push(NodeId::from_bytes([9; 32]));
    }
    let mut unput = stored(2, &[HOLDER, OTHER]);
    if let OwnerEvent::Stored { id, .. } = &mut unput {
        *id = ChunkId::from_bytes([9; 32]);
    }
    let wrong = [
        stored(2, &[HOLDER]),
        stored(1, &[HOLDER]),
        stored(2, &[HOLDER, CHEAT]),
        stored(3, &[HOLDER, OTHER]),
        stored(2, &[HOLDER, OTHER, OWNER]),
        unknown,
        unput,
        stand.acked(0, CHEAT, 0),
    ];
    wrong.iter().for_each(|event| stand.breaks(&mut quorum::Quorum, &[reported(event)]));
}

#[test]
fn quorum_counts_a_lan_as_its_owner_does() {
    let mut network = Stand::at(DomainPolicy::LanCountsEach, |_| Reach::PublicV4([100, 0, 0]));
    let each = Stand::at(DomainPolicy::LanCountsEach, |_| Reach::Local);
    let strict = Stand::at(DomainPolicy::Strict, |_| Reach::Local);
    let holders = [HOLDER, OTHER];
    each.holds(&mut quorum::Quorum, &[reported(&each.stored(2, &holders))]);
    strict.breaks(&mut quorum::Quorum, &[reported(&strict.stored(2, &holders))]);
    network.breaks(&mut quorum::Quorum, &[reported(&network.stored(2, &holders))]);
    network.of(0).replicas = 1;
    network.holds(&mut quorum::Quorum, &[reported(&network.stored(1, &holders))]);
}

#[test]
fn rightful_fires_where_a_chunk_goes_to_who_has_no_key_and_where_a_holder_dials() {
    let stand = Stand::new();
    let data = stand.data(0, 1);
    let fine = [said(HOLDER, OWNER, &data), said(CHEAT, OTHER, &data)];
    stand.holds(&mut rightful::Rightful, &fine);
    let (to, record) = (stand.nodes[OTHER].id, &Bytes::new());
    let dialled = |role| Fact::Dialled { node: HOLDER, role, to, record };
    stand.holds(&mut rightful::Rightful, &[dialled(Role::Owner)]);
    stand.breaks(&mut rightful::Rightful, &[said(HOLDER, OTHER, &data), dialled(Role::Holder)]);
}

#[test]
fn room_fires_where_a_store_is_too_full_or_miscounts() {
    let mut stand = Stand::new();
    let space = Space { capacity: 100, used: 40, free: 9, chunks: 2, ..Space::default() };
    let over = Space { used: 101, ..space };
    let told = |space| Fact::Told { node: HOLDER, space };
    let counted =
        |space, by_account, found| Fact::Counted { node: HOLDER, space, by_account, found };
    stand.holds(&mut room::Room, &[told(space), counted(space, 40, 2)]);
    let wrong = [told(over), counted(over, 101, 2), counted(space, 39, 2), counted(space, 40, 3)];
    stand.breaks(&mut room::Room, &wrong);
    stand.nodes[HOLDER].sound = false;
    stand.holds(&mut room::Room, &wrong);
}

#[test]
fn every_property_has_a_name_of_its_own() {
    let names: BTreeSet<_> = Oracle::new().0.iter().map(|property| property.name()).collect();
    assert_eq!(names.len(), Oracle::new().0.len());
}
