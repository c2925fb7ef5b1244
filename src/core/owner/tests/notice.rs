//! What holders tell of damage without being asked: what counts, and what is counted instead.

use super::*;
use crate::core::message::ChunkNotice;
use crate::core::owner::notice::{NOTICES_MAX, WINDOW};
use crate::core::types::Account;
use crate::crypto::keys::PairKey;

fn ids() -> Vec<ChunkId> {
    vec![ChunkId::from_bytes([1; 32]), ChunkId::from_bytes([2; 32])]
}

impl World {
    fn account_at(&self, holder: &NodeId) -> Account {
        self.keys.account(holder).account()
    }

    fn notice(&self, holder: NodeId, change: impl FnOnce(&mut Said)) -> ChunkNotice {
        let account = self.account_at(&holder);
        let pair = self.fakes[&holder].keys.pair_key(&account).unwrap();
        let between = (self.mesh, holder, self.owner.node_id());
        let mut said = Said { account, between, pair };
        change(&mut said);
        ChunkNotice::new(said.account, ids(), said.between, &said.pair)
    }

    fn tell(&mut self, holder: NodeId, notice: ChunkNotice) {
        self.stream(holder, StreamMessage::ChunkNotice(notice));
    }

    fn noticed(&self) -> usize {
        let noticed = |event: &OwnerEvent| matches!(event, OwnerEvent::Noticed { .. });
        self.events.iter().filter(|(_, event)| noticed(event)).count()
    }

    fn ask_of(&mut self, holder: NodeId) {
        let wish = AccountWish::Query(ids());
        let deadline = self.now.after(Duration::from_secs(30));
        let job = AccountJob { ticket: Ticket(1), holder, wish, deadline };
        self.command(OwnerCommand::Account(job));
    }
}

struct Said {
    account: Account,
    between: (MeshId, NodeId, NodeId),
    pair: PairKey,
}

#[test]
fn a_notice_of_a_holder_that_was_asked_is_handed_over() {
    let mut world = World::new(0);
    let holder = world.add_connected(Manners::Honest);
    let notice = world.notice(holder, |_| {});
    world.tell(holder, notice.clone());
    assert_eq!(world.rejects, [(holder, Reject::Unsolicited)]);
    world.ask_of(holder);
    world.tell(holder, notice.clone());
    let told = world.events.iter().any(|(_, event)| {
        matches!(event, OwnerEvent::Noticed { holder: of, ids: told }
            if *of == holder && *told == ids())
    });
    assert!(told && world.rejects.len() == 1);
    // In the next connection it has to be asked anew.
    world.disconnect(holder);
    world.connect(holder);
    world.tell(holder, notice);
    assert_eq!((world.noticed(), world.rejects.len()), (1, 2));
}

#[test]
fn a_wrong_notice_is_counted_and_tells_nothing() {
    let mut world = World::new(0);
    let holder = world.add_connected(Manners::Honest);
    let other = world.add_connected(Manners::Honest);
    world.ask_of(holder);
    let mac = world.notice(holder, |_| {});
    let elsewhere = MeshId::from_bytes([77; 32]);
    let stranger = Account::from_bytes([9; 32]);
    for (name, notice, reason) in [
        ("another mac", ChunkNotice { mac: [0; 32], ..mac.clone() }, Reject::BadProof),
        (
            "another chunk",
            ChunkNotice { ids: vec![ChunkId::from_bytes([3; 32])], ..mac },
            Reject::BadProof,
        ),
        ("another mesh", world.notice(holder, |it| it.between.0 = elsewhere), Reject::BadProof),
        ("another holder", world.notice(holder, |it| it.between.1 = other), Reject::BadProof),
        ("another owner", world.notice(holder, |it| it.between.2 = other), Reject::BadProof),
        (
            "another key",
            world.notice(holder, |it| it.pair = PairKey::from_bytes([1; 32])),
            Reject::BadProof,
        ),
        ("another account", world.notice(holder, |it| it.account = stranger), Reject::Unsolicited),
        ("another's account", world.notice(other, |_| {}), Reject::Unsolicited),
    ] {
        world.rejects.clear();
        world.tell(holder, notice);
        assert_eq!(world.rejects, [(holder, reason)], "{name}");
    }
    assert_eq!(world.noticed(), 0);
}

#[test]
fn notices_of_one_holder_are_bounded() {
    let mut world = World::new(0);
    let holder = world.add_connected(Manners::Honest);
    world.ask_of(holder);
    let notice = world.notice(holder, |_| {});
    let most = usize::try_from(NOTICES_MAX).unwrap();
    for _ in 0..most + 7 {
        world.tell(holder, notice.clone());
    }
    assert_eq!(world.noticed(), most);
    assert_eq!(world.rejects, vec![(holder, Reject::RateLimited); 7]);
    world.run(WINDOW);
    world.tell(holder, notice);
    assert_eq!(world.noticed(), most + 1);
}
