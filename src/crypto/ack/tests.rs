//! Acks: every field is under the signature; receipts: every input matters.

use super::*;
use proptest::prelude::*;

fn holder(seed: u8) -> NodeKeys {
    NodeKeys::from_seeds([seed; 32], [seed + 1; 32], [seed + 2; 32])
}

fn chunk(seed: u8) -> AckedChunk {
    AckedChunk {
        id: ChunkId::from_bytes([seed; 32]),
        lease: LeaseNonce::from_bytes([seed; 16]),
        receipt: [seed; 32],
    }
}

fn statement() -> AckStatement {
    AckStatement {
        mesh: MeshId::from_bytes([1; 32]),
        account: Account::from_bytes([2; 32]),
        batch: BatchId::from_bytes([3; 16]),
        epoch: StoreEpoch::from_bytes([4; 16]),
        terms: LeaseTerms::default(),
        chunks: vec![chunk(5), chunk(6)],
    }
}

#[test]
fn an_ack_is_the_holders_and_nobody_elses() {
    let signature = statement().sign(&holder(1));
    assert!(statement().verify(&holder(1).node_id(), &signature));
    assert!(!statement().verify(&holder(7).node_id(), &signature));
    assert!(!statement().verify(&holder(1).node_id(), &[0; 64]));
}

#[test]
fn every_field_is_signed() {
    let node = holder(1).node_id();
    let signature = statement().sign(&holder(1));
    let changes: [fn(&mut AckStatement); 12] = [
        |ack| ack.mesh = MeshId::from_bytes([9; 32]),
        |ack| ack.account = Account::from_bytes([9; 32]),
        |ack| ack.batch = BatchId::from_bytes([9; 16]),
        |ack| ack.epoch = StoreEpoch::from_bytes([9; 16]),
        |ack| ack.terms.renew_every_s += 1,
        |ack| ack.terms.keep_after_silence_s += 1,
        |ack| ack.terms.release_delay_s += 1,
        |ack| ack.chunks[1].id = ChunkId::from_bytes([9; 32]),
        |ack| ack.chunks[1].lease = LeaseNonce::from_bytes([9; 16]),
        |ack| ack.chunks[1].receipt = [9; 32],
        |ack| ack.chunks.reverse(),
        |ack| ack.chunks.truncate(1),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut changed = statement();
        change(&mut changed);
        assert!(!changed.verify(&node, &signature), "change {number}");
    }
}

#[test]
fn an_ack_of_nothing_or_of_too_much_does_not_verify() {
    let node = holder(1).node_id();
    for (count, expected) in [(0, false), (1, true), (64, true), (65, false), (65_600, false)] {
        let ack = AckStatement { chunks: vec![chunk(5); count], ..statement() };
        assert_eq!(ack.verify(&node, &ack.sign(&holder(1))), expected, "{count}");
    }
}

#[test]
fn a_node_name_has_one_form() {
    // y = 1 is the identity: with R = identity and s = 0, loose verification accepts any message.
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut forged = [0; 64];
    forged[0] = 1;
    assert!(!statement().verify(&NodeId::from_bytes(identity), &forged));
    // The same point, written as y = p + 1.
    let mut other_form = [0xff; 32];
    (other_form[0], other_form[31]) = (0xee, 0x7f);
    assert!(!statement().verify(&NodeId::from_bytes(other_form), &forged));
    assert!(!statement().verify(&NodeId::from_bytes([0xff; 32]), &forged));
}

#[test]
fn a_receipt_depends_on_key_seed_id_and_bytes() {
    let pair = PairKey::from_bytes([1; 32]);
    let id = ChunkId::from_bytes([2; 32]);
    let good = receipt(&pair, &[3; 32], &id, b"sealed");
    assert!(receipts_match(&good, &receipt(&pair, &[3; 32], &id, b"sealed")));
    for other in [
        receipt(&PairKey::from_bytes([9; 32]), &[3; 32], &id, b"sealed"),
        receipt(&pair, &[9; 32], &id, b"sealed"),
        receipt(&pair, &[3; 32], &ChunkId::from_bytes([9; 32]), b"sealed"),
        receipt(&pair, &[3; 32], &id, b"sealeD"),
        receipt(&pair, &[3; 32], &id, b"sealed\0"),
    ] {
        assert!(!receipts_match(&good, &other));
    }
}

proptest! {
    #[test]
    fn a_flipped_bit_of_the_signature_always_fails(bit in 0usize..512) {
        let mut signature = statement().sign(&holder(1));
        signature[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!statement().verify(&holder(1).node_id(), &signature));
    }
}
