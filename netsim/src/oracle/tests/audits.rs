//! The properties of audits can fire, too.

use super::stand::{CHEAT, HOLDER, OTHER, OWNER, Stand};
use super::{Audit, Fact, Worded, answers, opened, proven, reported, said, withheld, words};
use crate::chance::Chance;
use crate::disk::DiskFaults;
use crate::node::{Index, MESH};
use bytes::Bytes;
use quloud::core::message::{
    AccountAnswer, AccountAsk, AccountPage, AccountRefusal, AccountRequest, AuditKind, AuditState,
    Audited, AuditedChunk, KeptChunks, Retrieve, StreamMessage,
};
use quloud::core::owner::{AccountDone, AccountFailure, FetchFailure, OwnerEvent};
use quloud::core::types::{LeaseNonce, StoreEpoch, Ticket};
use quloud::repo::evidence::Word;
use quloud::repo::standing::Standing;

/// A question of the owner about the first chunk, and the answer to it.
fn asked(stand: &Stand, holder: Index, number: u64) -> [StreamMessage; 2] {
    let (owner, asked) = (&stand.nodes[OWNER], &stand.nodes[holder]);
    let secret = owner.owner_keys.account(&asked.id);
    let pair = secret.pair_key(&asked.id, &asked.keys.agreement_key()).unwrap();
    let ask = AccountAsk::Audit { kind: AuditKind::Compact, ids: vec![stand.id(0)] };
    let named = (number, secret.account(), [7; 32]);
    let request = AccountRequest::new(named, ask, (MESH, owner.id, asked.id), &pair);
    let chunks = vec![AuditedChunk { state: AuditState::NotHeld, blocks: 0 }];
    let audited = Audited { kind: AuditKind::Compact, chunks, proof: Bytes::new() };
    let kept = (KeptChunks::Audited(audited), false);
    let page = AccountPage::new(&request, StoreEpoch::from_bytes([1; 16]), kept, &pair);
    let answer = AccountAnswer { request: number, outcome: Ok(page) };
    [StreamMessage::AccountRequest(request), StreamMessage::AccountAnswer(answer)]
}

fn done(stand: &Stand, holder: Index, is_page: bool) -> OwnerEvent {
    let audited = Audited { kind: AuditKind::Compact, chunks: vec![], proof: Bytes::new() };
    let epoch = StoreEpoch::from_bytes([1; 16]);
    let page = AccountDone::Audited { epoch, audited, key: None, moved: 0 };
    let outcome = if is_page { Ok(page) } else { Err(AccountFailure::Busy) };
    OwnerEvent::Account { ticket: Ticket(1), holder: stand.nodes[holder].id, outcome }
}

fn judged(stand: &Stand, holder: Index, verdict: Audit) -> Fact<'_> {
    let (holder, id) = (stand.nodes[holder].id, stand.id(0));
    let epoch = StoreEpoch::from_bytes([1; 16]);
    Fact::Audited { owner: OWNER, holder, epoch, id, verdict }
}

#[test]
fn proven_fires_where_a_holder_has_it_not_and_where_an_honest_one_is_convicted() {
    let mut stand = Stand::new();
    let property = &mut proven::Proven::default();
    let [request, answer] = asked(&stand, HOLDER, 1);
    stand.holds(property, &[said(OWNER, HOLDER, &request), said(HOLDER, OWNER, &answer)]);
    // Nobody in this stand has any bytes.
    let fine = [Audit::NotHeld, Audit::Damaged, Audit::Released];
    stand.holds(property, &fine.map(|verdict| judged(&stand, HOLDER, verdict)));
    let wrong = [Audit::Proven, Audit::Lied, Audit::Unproven];
    stand.breaks(property, &wrong.map(|verdict| judged(&stand, HOLDER, verdict)));
    stand.holds(property, &[judged(&stand, CHEAT, Audit::Lied)]);
    stand.breaks(property, &[judged(&stand, CHEAT, Audit::Proven)]);
    // Both times it could be read, and it is said to be gone.
    stand.keep(HOLDER, 0);
    let [request, answer] = asked(&stand, HOLDER, 2);
    stand.holds(property, &[said(OWNER, HOLDER, &request), said(HOLDER, OWNER, &answer)]);
    stand.holds(property, &[judged(&stand, HOLDER, Audit::Proven)]);
    let wrong = [Audit::NotHeld, Audit::Damaged].map(|verdict| judged(&stand, HOLDER, verdict));
    stand.breaks(property, &wrong);
    // Nothing of an earlier life counts.
    let report = super::opened(Vec::new());
    stand.holds(property, &[Fact::Opened { node: OWNER, report: &report }]);
    stand.breaks(property, &[judged(&stand, HOLDER, Audit::Proven)]);
}

#[test]
fn what_a_failing_disk_does_not_say_is_no_false_conviction() {
    let mut stand = Stand::new();
    stand.keep(HOLDER, 0);
    let property = &mut proven::Proven::default();
    let [request, answer] = asked(&stand, HOLDER, 1);
    stand.holds(property, &[said(OWNER, HOLDER, &request), said(HOLDER, OWNER, &answer)]);
    stand.breaks(property, &[judged(&stand, HOLDER, Audit::Damaged)]);
    stand.nodes[HOLDER].sound = false;
    stand.holds(property, &[judged(&stand, HOLDER, Audit::Damaged)]);
    stand.breaks(property, &[judged(&stand, HOLDER, Audit::Lied)]);
    stand.nodes[HOLDER].sound = true;
    let faults = DiskFaults { read_error: Chance::ALWAYS, ..DiskFaults::default() };
    stand.nodes[HOLDER].disk.set_faults(faults);
    assert!(stand.nodes[HOLDER].holds(&stand.id(0)), "looks disturb nothing");
}

#[test]
fn proven_fires_where_an_honest_holder_stands_as_a_liar() {
    let stand = Stand::new();
    let property = &mut proven::Proven::default();
    let stands = |holder: Index, standing| {
        let holder = stand.nodes[holder].id;
        Fact::Stands { owner: OWNER, holder, standing }
    };
    let fine = [stands(HOLDER, Standing::Damaged), stands(CHEAT, Standing::Liar)];
    stand.holds(property, &fine);
    stand.breaks(property, &[stands(HOLDER, Standing::Liar)]);
}

#[test]
fn answers_fires_where_an_owner_believes_what_the_holder_did_not_authenticate() {
    let stand = Stand::new();
    let property = &mut answers::Answers::default();
    let [request, answer] = asked(&stand, HOLDER, 1);
    let (page, nothing) = (done(&stand, HOLDER, true), done(&stand, HOLDER, false));
    stand.holds(property, &[said(OWNER, HOLDER, &request), reported(&nothing)]);
    stand.breaks(property, &[reported(&page)]);
    let refusal = AccountAnswer { request: 1, outcome: Err(AccountRefusal::Working) };
    let refusal = StreamMessage::AccountAnswer(refusal);
    stand.holds(property, &[said(HOLDER, OWNER, &refusal)]);
    stand.breaks(property, &[reported(&page)]);
    let StreamMessage::AccountAnswer(right) = &answer else { panic!("it is an answer") };
    let mut forged = right.clone();
    if let Ok(page) = &mut forged.outcome {
        page.mac[0] ^= 1;
    }
    let forged = StreamMessage::AccountAnswer(forged);
    stand.holds(property, &[said(HOLDER, OWNER, &forged)]);
    stand.breaks(property, &[reported(&page)]);
    // Of somebody else, and at last of the holder.
    stand.holds(property, &[said(CHEAT, OWNER, &answer)]);
    stand.breaks(property, &[reported(&page)]);
    stand.holds(property, &[said(HOLDER, OWNER, &answer), reported(&page)]);
    stand.breaks(property, &[reported(&page)]);
}

/// A holder acknowledged the first chunk with the store of this number.
fn acked(stand: &Stand, holder: Index, store: u8) -> OwnerEvent {
    let epoch = StoreEpoch::from_bytes([store; 16]);
    let (id, node) = (stand.id(0), stand.nodes[holder].id);
    let (ticket, lease) = (Ticket(1), LeaseNonce::from_bytes([1; 16]));
    OwnerEvent::Acked { ticket, id, node, lease, epoch, replicas: 1 }
}

#[test]
fn words_fires_where_a_word_says_more_than_the_last_audits() {
    let mut stand = Stand::new();
    let property = &mut words::Words::default();
    let chunks = [stand.id(0)];
    let told = |word| {
        let (owner, chunks, target, at_s) = (OWNER, chunks.as_slice(), 2, 1_800_000_000);
        Fact::Worded(Worded { owner, word, chunks, target, at_s, is_new: true })
    };
    let acks = [HOLDER, OTHER].map(|holder| acked(&stand, holder, 1));
    stand.holds(property, &[told(Word::Queued), told(Word::Lost), reported(&acks[0])]);
    stand.breaks(property, &[told(Word::Safe)]);
    stand.breaks(property, &[told(Word::Stored)]);
    stand.holds(property, &[reported(&acks[1]), told(Word::Stored), told(Word::AtRisk)]);
    stand.breaks(property, &[told(Word::Safe)]);
    stand.holds(property, &[judged(&stand, HOLDER, Audit::Proven)]);
    stand.breaks(property, &[told(Word::Safe)]);
    stand.holds(property, &[judged(&stand, OTHER, Audit::Proven), told(Word::Safe)]);
    for gone in [Audit::NotHeld, Audit::Damaged, Audit::Released, Audit::Lied] {
        stand.holds(property, &[told(Word::Safe), judged(&stand, OTHER, gone)]);
        stand.breaks(property, &[told(Word::Safe)]);
        stand.breaks(property, &[told(Word::Stored)]);
        stand.holds(property, &[reported(&acks[1]), told(Word::Stored)]);
        stand.breaks(property, &[told(Word::Safe)]);
        stand.holds(property, &[judged(&stand, OTHER, Audit::Proven)]);
    }
    // What was acknowledged with another store is gone, when it acknowledges and when it answers.
    let again = acked(&stand, OTHER, 2);
    stand.holds(property, &[reported(&again), told(Word::Stored)]);
    stand.breaks(property, &[told(Word::Safe)]);
    let first = done(&stand, OTHER, true);
    stand.holds(property, &[reported(&first), told(Word::Lost)]);
    stand.keep(HOLDER, 0);
    stand.breaks(property, &[told(Word::Lost)]);
    // Nobody knows of what was given up.
    let gave_up = Fact::GaveUp { owner: OWNER, id: chunks[0] };
    stand.holds(property, &[gave_up, told(Word::Lost)]);
    stand.breaks(property, &[told(Word::Stored)]);
}

/// The owner says that this holder withholds what it proves.
fn withholds(stand: &Stand, holder: Index, standing: Standing) -> Fact<'_> {
    Fact::Withholds { owner: OWNER, holder: stand.nodes[holder].id, standing }
}

/// The owner does not get the first chunk of this holder.
fn not_fetched(stand: &Stand, holder: Index, why: FetchFailure) -> OwnerEvent {
    let asked = vec![(stand.nodes[holder].id, why)];
    OwnerEvent::NotFetched { ticket: Ticket(1), id: stand.id(0), asked }
}

#[test]
fn withheld_fires_where_an_honest_holder_is_not_to_blame_and_where_it_is_suspect() {
    let stand = Stand::new();
    let retrieve = Retrieve { request: 5, id: stand.id(0), nonce: [0; 32], proof: [0; 64] };
    let asked = StreamMessage::Retrieve(retrieve);
    let [word, late, gone] = [FetchFailure::Busy, FetchFailure::Late, FetchFailure::Unreachable]
        .map(|why| not_fetched(&stand, HOLDER, why));
    let ask = || said(OWNER, HOLDER, &asked);
    let sent = stand.data(0, 5);
    let blamed = || [withholds(&stand, HOLDER, Standing::Late)];
    let to_blame = [
        vec![ask(), reported(&word)],
        vec![ask(), reported(&late), ask(), reported(&gone)],
        vec![ask(), said(HOLDER, OWNER, &sent), reported(&gone), ask(), reported(&late)],
    ];
    let mut not = vec![
        vec![],
        vec![ask(), reported(&gone), reported(&gone)],
        vec![ask(), said(HOLDER, OWNER, &sent), reported(&late), ask(), reported(&gone)],
    ];
    let (given, ack, report) = (stand.chunk(0), stand.ack(0, 1), opened(Vec::new()));
    let ends = [said(OWNER, HOLDER, &given), said(HOLDER, OWNER, &ack)];
    for end in ends.into_iter().chain([Fact::Opened { node: OWNER, report: &report }]) {
        not.push(vec![ask(), reported(&word), end]);
    }
    for facts in to_blame {
        let property = &mut withheld::Withheld::default();
        stand.holds(property, &facts);
        stand.holds(property, &blamed());
        stand.breaks(property, &[withholds(&stand, HOLDER, Standing::Suspect)]);
    }
    for facts in not {
        let property = &mut withheld::Withheld::default();
        stand.holds(property, &facts);
        stand.breaks(property, &blamed());
        stand.holds(property, &[withholds(&stand, CHEAT, Standing::Lost)]);
    }
}
