//! Telling owners of damage: whom, of what, and how often.

use super::account::LIST;
use super::*;
use crate::core::codec::NOTICE_CHUNKS_MAX;
use crate::core::message::ChunkNotice;

impl Fixture {
    /// The owner shows that the account is its own.
    pub(super) fn show(&mut self) -> Vec<Effect> {
        let asked = self.question(5, LIST);
        let mut effects = self.ask_account(asked);
        let at = effects.iter().position(|effect| matches!(effect, Effect::ListChunks { .. }));
        let Effect::ListChunks { ticket, .. } = effects.remove(at.expect("it is looked up")) else {
            unreachable!()
        };
        let result = Ok((Vec::new(), false));
        self.handle(Input::ChunksListed { ticket, result });
        effects
    }

    fn damaged(&mut self, numbers: std::ops::Range<u32>) -> Vec<Effect> {
        let account = self.account();
        let found = numbers.map(|number| (account, id(number))).collect();
        self.handle(Input::ChunksDamaged(found))
    }
}

fn id(number: u32) -> ChunkId {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    ChunkId::from_bytes(bytes)
}

fn notices(effects: &[Effect]) -> Vec<(NodeId, ChunkNotice)> {
    let notice = |effect: &Effect| match effect {
        Effect::Send { to, message: StreamMessage::ChunkNotice(notice) } => {
            Some((*to, notice.clone()))
        }
        _ => None,
    };
    effects.iter().filter_map(notice).collect()
}

#[test]
fn damage_is_told_to_the_owner_that_has_shown_itself_and_to_nobody_else() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    fixture.up(STRANGER);
    assert!(fixture.damaged(0..2).is_empty());
    assert_eq!(fixture.role.next_timeout(), None);
    let effects = fixture.show();
    let [(OWNER, notice)] = &notices(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!((notice.account, &notice.ids), (fixture.account(), &vec![id(0), id(1)]));
    let between = (MESH, fixture.role.me(), OWNER);
    assert!(notice.verify(between, &fixture.pair()));
    assert!(!notice.verify((MESH, fixture.role.me(), STRANGER), &fixture.pair()));
    let other = Account::from_bytes([1; 32]);
    assert!(fixture.handle(Input::ChunksDamaged(vec![(other, id(9))])).is_empty());
    assert_eq!(fixture.role.load().damaged, 3);
}

#[test]
fn a_chunk_is_told_once_in_a_connection_and_at_a_pace() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    assert!(notices(&fixture.show()).is_empty());
    let told = |effects: &[Effect]| {
        notices(effects).iter().map(|(_, notice)| notice.ids.len()).collect::<Vec<usize>>()
    };
    let most = u32::try_from(NOTICE_CHUNKS_MAX).unwrap();
    let effects = fixture.damaged(0..2 * most + 5);
    assert_eq!(told(&effects), [NOTICE_CHUNKS_MAX]);
    assert!(fixture.damaged(0..most).is_empty());
    assert_eq!(told(&fixture.pass(9_999)), [0; 0]);
    assert_eq!(told(&fixture.pass(1)), [NOTICE_CHUNKS_MAX]);
    assert_eq!(told(&fixture.pass(60_000)), [5]);
    assert!(fixture.damaged(0..most).is_empty() && told(&fixture.pass(60_000)).is_empty());
    fixture.handle(Input::PeerDown(OWNER));
    assert_eq!(fixture.role.next_timeout(), None);
    fixture.up(OWNER);
    assert_eq!(told(&fixture.pass(60_000)), [0; 0], "it has to show itself anew");
    assert_eq!(told(&fixture.show()), [NOTICE_CHUNKS_MAX]);
}

#[test]
fn a_chunk_that_is_whole_again_or_gone_is_not_told() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    let chunk = fixture.chunk(3);
    let account = fixture.account();
    fixture.handle(Input::ChunksDamaged(vec![(account, chunk.id()), (account, id(1))]));
    let message = fixture.store(&chunk);
    let ticket = fixture.begin_write(message);
    fixture.written(vec![done(ticket)]);
    fixture.handle(Input::ChunksDestroyed(vec![(id(1), Deleted { account, freed_bytes: 1 })]));
    assert!(notices(&fixture.show()).is_empty());
    assert_eq!(fixture.role.load().damaged, 0);
}

#[test]
fn what_is_remembered_of_damage_is_bounded() {
    let mut fixture = Fixture::new();
    fixture.damaged(0..u32::try_from(DAMAGED_MAX).unwrap() + 10);
    assert_eq!(fixture.role.load().damaged, DAMAGED_MAX);
}

#[test]
fn the_store_hears_of_owners_whose_mac_holds_and_of_the_first_audit() {
    let mut fixture = Fixture::new();
    let asked = fixture.question(5, LIST);
    fixture.ask_account(asked.clone());
    assert!(fixture.heard.is_empty(), "an account that has nothing here");
    fixture.settle_in();
    let forged = crate::core::message::AccountRequest { mac: [0; 32], ..asked };
    fixture.ask_account(forged);
    assert!(fixture.heard.is_empty());
    fixture.show();
    assert_eq!(fixture.heard, [(fixture.account(), false)]);
}
