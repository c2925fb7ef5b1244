//! What audits came to, on real files: through restarts, compactions, and files of before.

use super::super::entry::tests::{audited, found, lost};
use super::super::entry::{Loss, Silence};
use super::*;
use crate::repo::debt::Debt;

const NOW_S: u64 = 1_800_000_000;
const EVER: (u64, u64) = (0, NOW_S);

fn id(chunk: u32) -> ChunkId {
    acked(chunk, 1, 1).chunk
}

fn proven(catalog: &Catalog, chunk: u32) -> usize {
    catalog.audited_within(&id(chunk), EVER)
}

fn prove(catalog: &mut Catalog, chunks: &[u32], at_s: u64) {
    let ChunkAcked { node, epoch, .. } = acked(0, 1, 1);
    let ids: Vec<ChunkId> = chunks.iter().map(|chunk| id(*chunk)).collect();
    catalog.prove_audited(&node, &epoch, &ids, at_s);
}

/// The replica is lost, and its holder acknowledges the chunk anew.
fn lose_and_store(catalog: &mut Catalog, chunk: u32) {
    catalog.record(Entry::ReplicaLost(lost(chunk, 1, 1))).unwrap();
    catalog.record(Entry::ChunkAcked(acked(chunk, 1, 1))).unwrap();
}

/// Whatever there is to know of audits and losses.
fn told(catalog: &Catalog, chunks: u32) -> Vec<String> {
    let ack = acked(0, 1, 1);
    let holders = (0..chunks).map(|chunk| format!("{:?}", catalog.holders_of(&id(chunk))));
    let replicas = (0..chunks).map(|chunk| format!("{:?}", catalog.replicas_of(&id(chunk), EVER)));
    let records = catalog.audit_records().map(|record| format!("{record:?}"));
    let others = [
        format!("{:?}", catalog.chunks_short(2, None, usize::MAX)),
        format!("{:?}", catalog.held_by(&ack.node, None, usize::MAX)),
        format!("{:?}", catalog.audit_counts(&ack.node, EVER)),
        format!("{:?}", catalog.losses().collect::<Vec<_>>()),
        format!("{:?} {:?}", catalog.chunks(), catalog.chunk_ids().collect::<Vec<_>>()),
    ];
    holders.chain(replicas).chain(records).chain(others).collect()
}

#[test]
fn losses_proofs_and_records_outlive_a_restart_and_a_compaction() {
    const CHUNKS: u32 = 4_000;
    let setup = Setup::new();
    let (mut catalog, _) = setup.open();
    for _ in 0..3 {
        for chunk in 0..CHUNKS {
            catalog.record(Entry::ChunkAcked(acked(chunk, 1, 1))).unwrap();
        }
    }
    catalog.record(Entry::ChunkAcked(acked(1, 2, 1))).unwrap();
    catalog.record(Entry::ChunkAcked(acked(2, 3, 1))).unwrap();
    let all: Vec<u32> = (0..CHUNKS).collect();
    prove(&mut catalog, &all, NOW_S - 9);
    prove(&mut catalog, &[7], NOW_S - 5);
    catalog.proven_file(NOW_S).save().unwrap();
    // One has no holder any more, one has another one, one was stored anew.
    catalog.record(Entry::ReplicaLost(ReplicaLost { why: Loss::Lied, ..lost(0, 1, 1) })).unwrap();
    catalog.record(Entry::ReplicaLost(lost(1, 1, 1))).unwrap();
    lose_and_store(&mut catalog, 3);
    catalog.record(Entry::ChunkAcked(acked(9, 3, 2))).unwrap();
    for number in 0..40 {
        let lied = u64::from(number == 3);
        let found = found(1, NOW_S + number, |of| (of.lied, of.damaged) = (lied, 1));
        catalog.record(Entry::HolderAudited(found)).unwrap();
    }
    catalog.record(Entry::HolderAudited(audited(1, NOW_S + 50))).unwrap();
    for hour in 0..50 {
        let (node, at_s) = (acked(1, 2, 1).node, NOW_S + hour * 3_600);
        catalog.record(Entry::HolderSilent { node, at_s }).unwrap();
    }
    catalog.commit().unwrap();
    let before = told(&catalog, CHUNKS);
    drop(catalog);

    let (catalog, report) = setup.open();
    assert!(report.compacted, "{report:?}");
    assert_eq!(told(&catalog, CHUNKS)[..usize::try_from(CHUNKS).unwrap()], before[..4_000]);
    let counted = [0, 1, 3, 7].map(|chunk| proven(&catalog, chunk));
    assert_eq!(counted, [0, 0, 0, 1]);
    assert_eq!(told(&catalog, CHUNKS), before);
    drop(catalog);
    let (mut catalog, report) = setup.open();
    // The acks that count, one chunk that nobody has, two losses, the incidents, the last audit,
    // the lie, the silence.
    let acks = u64::from(CHUNKS) - 2 + 1 + 1;
    let entries = acks + 1 + 2 + INCIDENTS_MAX as u64 + 1 + 1 + 1;
    let told_lost: Vec<_> = catalog.losses().map(|(chunk, _, why, _)| (*chunk, why)).collect();
    assert_eq!(told_lost, [(id(0), Loss::Lied), (id(1), lost(1, 1, 1).why)]);
    assert_eq!(report, OpenReport { entries, ..OpenReport::default() });
    assert_eq!(told(&catalog, CHUNKS), before);
    let record = catalog.audit_record(&acked(1, 1, 1).node).unwrap();
    assert_eq!((record.last, record.silence), (Some(audited(1, NOW_S + 50)), None));
    assert_eq!(standing(&record, NOW_S), Standing::Liar);
    let record = catalog.audit_record(&acked(1, 2, 1).node).unwrap();
    let last_s = NOW_S + 49 * 3_600;
    let silence = Silence { since_s: NOW_S, last_s, misses: 50, days: 3 };
    assert_eq!((record.last, record.silence), (None, Some(silence)));
    assert_eq!(catalog.audit_record(&acked(1, 9, 1).node), None);
    // The file goes on to tell what was before from what came after, in the new journal as well.
    lose_and_store(&mut catalog, 5);
    catalog.commit().unwrap();
    drop(catalog);
    let (catalog, _) = setup.open();
    assert_eq!([5, 6].map(|chunk| proven(&catalog, chunk)), [0, 1]);
}

#[test]
fn a_store_that_is_gone_is_so_after_a_restart_and_a_compaction() {
    let setup = Setup::new();
    let acks = (0..4).map(|chunk| acked(chunk, 1, 1)).chain([acked(0, 2, 1)]);
    setup.write(vec![acks.map(Entry::ChunkAcked).collect()]);
    let (mut catalog, _) = setup.open();
    prove(&mut catalog, &[0, 1, 2, 3], NOW_S);
    catalog.proven_file(NOW_S).save().unwrap();
    let ChunkAcked { node, epoch, .. } = acked(0, 1, 1);
    catalog.record(Entry::StoreGone { node, epoch, at_s: NOW_S }).unwrap();
    assert_eq!(catalog.stores().len(), 1);
    // It stores one of them anew.
    catalog.record(Entry::ChunkAcked(acked(2, 1, 1))).unwrap();
    catalog.commit().unwrap();
    for round in 0..4 {
        let holders = [0, 1, 2, 3].map(|chunk| catalog.holders_of(&id(chunk)));
        assert_eq!(holders, [vec![acked(0, 2, 1).node], vec![], vec![node], vec![]], "{round}");
        assert_eq!(catalog.held_by(&node, None, 9), [id(2)]);
        assert_eq!((proven(&catalog, 2), catalog.has_unaudited(&node)), (0, true));
        assert_eq!(catalog.chunks_short(1, None, 9), [(id(1), 0), (id(3), 0)]);
        if round == 1 {
            catalog.compact().unwrap();
            catalog.all_proven().save().unwrap();
        }
        drop(catalog);
        catalog = setup.open().0;
    }
    prove(&mut catalog, &[2], NOW_S);
    assert!(!catalog.has_unaudited(&node));
}

#[test]
fn what_was_proven_is_remembered_for_400_days_and_not_from_the_future() {
    let setup = Setup::new();
    setup.write(vec![(0..5).map(|chunk| Entry::ChunkAcked(acked(chunk, 1, 1))).collect()]);
    let (mut catalog, _) = setup.open();
    let kept_s = 400 * 24 * 3_600;
    let times = [NOW_S - kept_s - 1, NOW_S - kept_s, NOW_S, NOW_S + 1];
    for (chunk, at_s) in (0..4).zip(times) {
        prove(&mut catalog, &[chunk], at_s);
    }
    let node = acked(0, 1, 1).node;
    assert_eq!(catalog.due_at(&node, (NOW_S - 1, NOW_S), None, 9), [0, 1, 3, 4].map(id));
    catalog.proven_file(NOW_S).save().unwrap();
    drop(catalog);
    let (catalog, _) = setup.open();
    assert_eq!([0, 1, 2, 3, 4].map(|chunk| proven(&catalog, chunk)), [0, 1, 1, 0, 0]);
    let later = |chunk| catalog.audited_within(&id(chunk), (0, NOW_S + 2));
    assert_eq!([0, 3].map(later), [0, 0], "neither was written");
    // Of a proof of before the last day no word is left that counts.
    let window = (NOW_S - BELIEVED_S, NOW_S);
    let shown = |chunk| catalog.replicas_of(&id(chunk), window);
    assert_eq!((shown(1).proven, shown(1).audited), (0, 1));
    assert_eq!((shown(2).proven, shown(2).audited), (1, 1));
}

#[test]
fn those_who_showed_a_chunk_and_count_are_named() {
    let setup = Setup::new();
    setup.write(vec![(1..4).map(|node| Entry::ChunkAcked(acked(0, node, 1))).collect()]);
    let (mut catalog, _) = setup.open();
    let [one, two, three] = [1, 2, 3].map(|node| acked(0, node, 1));
    for ack in [&one, &two] {
        catalog.prove(&ack.node, &ack.epoch, &id(0), NOW_S);
    }
    catalog.prove(&three.node, &three.epoch, &id(0), NOW_S - 2);
    let window = (NOW_S - 1, NOW_S);
    let named = |catalog: &Catalog| {
        let named: Vec<_> = catalog.proven_holders(&id(0), window).collect();
        assert_eq!(named.len(), catalog.replicas_of(&id(0), window).proven);
        named
    };
    assert_eq!(named(&catalog), [one.node, two.node]);
    for day in [2, 1, 0] {
        let at_s = NOW_S - day * 24 * 3_600;
        catalog.record(Entry::HolderSilent { node: two.node, at_s }).unwrap();
    }
    assert_eq!(named(&catalog), [one.node], "the other one is suspect");
}

#[test]
fn what_was_stored_anew_after_the_proofs_were_written_is_not_proven() {
    let setup = Setup::new();
    setup.write(vec![(0..4).map(|chunk| Entry::ChunkAcked(acked(chunk, 1, 1))).collect()]);
    let (mut catalog, _) = setup.open();
    prove(&mut catalog, &[0, 1, 2, 3], NOW_S);
    catalog.proven_file(NOW_S).save().unwrap();
    lose_and_store(&mut catalog, 1);
    // Let go, and stored again under another lease.
    let (chunk, ck) = (id(2), crate::crypto::keys::ChunkKey::from_bytes([1; 32]));
    let doomed = PruneNote::Doomed { chunk, ck, awaited: Vec::new(), asked: Vec::new() };
    let gone = PruneNote::LetGo { chunk, node: acked(2, 1, 1).node };
    for entry in [Entry::Prune(doomed), Entry::Prune(gone), Entry::ChunkAcked(acked(2, 1, 1))] {
        catalog.record(entry).unwrap();
    }
    catalog.record(Entry::ChunkAcked(acked(3, 1, 1))).unwrap();
    catalog.commit().unwrap();
    let all = |catalog: &Catalog| [0, 1, 2, 3].map(|chunk| proven(catalog, chunk));
    assert_eq!(all(&catalog), [1, 0, 0, 1]);
    drop(catalog);
    for _ in 0..2 {
        let (catalog, _) = setup.open();
        assert_eq!(all(&catalog), [1, 0, 0, 1]);
        assert!((0..4).all(|chunk| catalog.holders_of(&id(chunk)).len() == 1));
    }
    // What is proven of the new ones is, after the next file.
    let (mut catalog, _) = setup.open();
    prove(&mut catalog, &[1], NOW_S);
    catalog.proven_file(NOW_S).save().unwrap();
    drop(catalog);
    assert_eq!(all(&setup.open().0), [1, 1, 0, 1]);
}

#[test]
fn proofs_that_come_after_a_journal_that_lost_its_end_are_read_and_put_in_their_place() {
    let setup = Setup::new();
    setup.write(vec![(0..3).map(|chunk| Entry::ChunkAcked(acked(chunk, 1, 1))).collect()]);
    let (mut catalog, _) = setup.open();
    prove(&mut catalog, &[0, 1, 2], NOW_S);
    // Entries that never reach the disk, as at a power cut.
    (0..9).for_each(|job| catalog.record(Entry::PutStarted(started(job))).unwrap());
    catalog.proven_file(NOW_S).save().unwrap();
    drop(catalog);
    let (mut catalog, report) = setup.open();
    assert_eq!((report.entries, proven(&catalog, 0), proven(&catalog, 1)), (3, 1, 1));
    lose_and_store(&mut catalog, 1);
    (0..9).for_each(|job| catalog.record(Entry::PutStarted(started(job))).unwrap());
    catalog.commit().unwrap();
    drop(catalog);
    let (catalog, _) = setup.open();
    assert_eq!([0, 1, 2].map(|chunk| proven(&catalog, chunk)), [1, 0, 1]);
}

#[test]
fn a_rewritten_journal_has_its_chunks_in_no_order_of_their_ids() {
    let setup = Setup::new();
    let (mut catalog, _) = setup.open();
    for number in 0..100_u32 {
        let chunk = ChunkId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes());
        catalog.record(Entry::ChunkAcked(ChunkAcked { chunk, ..acked(0, 1, 1) })).unwrap();
    }
    catalog.commit().unwrap();
    catalog.compact().unwrap();
    let mut ids = Vec::new();
    let note = &mut |entry| {
        if let Entry::ChunkAcked(acked) = entry {
            ids.push(acked.chunk);
        }
    };
    catalog.journal.replay(note).unwrap();
    let up = ids.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!(ids.len() == 100 && (25..75).contains(&up), "{up}");
}

#[test]
fn a_file_of_before_audits_is_read() {
    let setup = Setup::new();
    setup.write(vec![vec![Entry::ChunkAcked(acked(1, 1, 1))]]);
    let file = setup.folder.path().join("owner/proven");
    let ChunkAcked { chunk, node, epoch, .. } = acked(1, 1, 1);
    let (catalog, _) = setup.open();
    let mut before = Journal::create_aside(&file, catalog.journal.seal()).unwrap();
    let at_s = u32::try_from(NOW_S).unwrap();
    let shown = Proven { node, epoch, at_s, chunks: vec![Proven::prefix(&chunk)] };
    append(&mut before, |out| Entry::Proven(shown).encode(out)).unwrap();
    before.put_in_place(&file).unwrap();
    drop(catalog);
    for _ in 0..2 {
        let (catalog, _) = setup.open();
        let replicas = catalog.replicas_of(&chunk, (NOW_S, NOW_S));
        assert_eq!((replicas.acked, replicas.proven, replicas.audited), (1, 1, 0));
    }
}

#[test]
fn a_lie_is_remembered_though_its_audit_never_ended_and_the_chunk_is_back() {
    let setup = Setup::new();
    setup.write(vec![vec![Entry::ChunkAcked(acked(1, 1, 1))]]);
    let (mut catalog, _) = setup.open();
    let lie = ReplicaLost { why: Loss::Lied, ..lost(1, 1, 1) };
    catalog.record(Entry::ReplicaLost(lie)).unwrap();
    catalog.record(Entry::ChunkAcked(acked(1, 1, 1))).unwrap();
    catalog.commit().unwrap();
    for round in 0..4 {
        let record = catalog.audit_record(&lie.node).unwrap();
        assert_eq!(standing(&record, NOW_S), Standing::Liar, "{round}");
        assert_eq!(record.lies_s().collect::<Vec<_>>(), [lie.at_s]);
        assert_eq!((catalog.losses().count(), catalog.holders_of(&id(1)).len()), (0, 1));
        if round == 1 {
            catalog.compact().unwrap();
        }
        drop(catalog);
        catalog = setup.open().0;
    }
}

#[test]
fn what_holders_owe_outlives_a_restart_and_a_compaction_and_ends_with_what_they_have() {
    let setup = Setup::new();
    let (mut catalog, _) = setup.open();
    let acked = |chunk| acked(chunk, 2, 1);
    let (debtor, payer) = (acked(1).node, NodeId::from_bytes([9; 32]));
    (1..4).for_each(|chunk| catalog.record(Entry::ChunkAcked(acked(chunk))).unwrap());
    let owes = |chunks: &[u32]| Debt::of(chunks.iter().map(|chunk| id(*chunk)));
    for (node, debt) in [
        (debtor, owes(&[3])),
        (payer, owes(&[1])),
        (debtor, owes(&[1, 2])),
        (payer, Debt::default()),
    ] {
        catalog.record(Entry::HolderOwes { node, debt }).unwrap();
    }
    catalog.record(Entry::ReplicaLost(lost(2, 2, 1))).unwrap();
    catalog.commit().unwrap();
    for is_compacted in [false, true] {
        drop(catalog);
        (catalog, _) = setup.open();
        assert_eq!((catalog.debt_of(&debtor), catalog.has_debtors()), (owes(&[1, 2]), true));
        if !is_compacted {
            catalog.compact().unwrap();
            // Three chunks, of which one was lost, and that; one debt.
            assert_eq!(catalog.entries, 2 + 1 + 1 + 1);
        }
    }
    assert_eq!(catalog.owed_by(&debtor), Some(vec![id(1)]), "of the other it has none any more");
    assert_eq!(catalog.owed_by(&payer), None);
    catalog.record(Entry::ReplicaLost(lost(1, 2, 1))).unwrap();
    assert_eq!((catalog.owed_by(&debtor), catalog.has_debtors()), (None, false));
    catalog.record(Entry::HolderOwes { node: debtor, debt: owes(&[3]) }).unwrap();
    let ChunkAcked { node, epoch, .. } = acked(3);
    catalog.record(Entry::StoreGone { node, epoch, at_s: NOW_S }).unwrap();
    assert!(!catalog.has_debtors(), "who has nothing owes nothing");
}

#[test]
fn a_journal_of_many_long_debts_is_rewritten_though_its_entries_are_few() {
    let setup = Setup::new();
    let (mut catalog, _) = setup.open();
    let node = NodeId::from_bytes([9; 32]);
    let owes = |from: u32| Debt::of((from..from + 2_048).map(id));
    let many = u32::try_from(3 * COMPACTED_FROM_ENTRIES / 2_048 + 2).unwrap();
    for from in 0..many {
        catalog.record(Entry::HolderOwes { node, debt: owes(from) }).unwrap();
    }
    catalog.commit().unwrap();
    drop(catalog);
    let (catalog, report) = setup.open();
    assert!(report.compacted && u64::from(many) < COMPACTED_FROM_ENTRIES, "{report:?}");
    assert_eq!((catalog.entries, catalog.debt_of(&node)), (1, owes(many - 1)));
}
