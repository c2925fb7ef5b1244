//! Messages about heads, accounts and releases: any legal one, the largest, and bad ones.

use super::rejects::{Change, each_change_is_rejected, fixed, long, short, stream};
use super::*;
use crate::crypto::audit::PROOF_BYTES;
use crate::crypto::head::HEAD_RECORD_BYTES;
use crate::proto::{self, stream_message::Body};

fn state() -> impl Strategy<Value = ChunkState> {
    prop_oneof![
        Just(ChunkState::Live),
        any::<u32>().prop_map(|due_s| ChunkState::Released { due_s }),
        Just(ChunkState::Damaged),
    ]
}

fn kept() -> impl Strategy<Value = KeptChunks> {
    let listed = |(ids, state, lease): (Vec<ChunkId>, ChunkState, [u8; 16])| {
        let lease = LeaseNonce::from_bytes(lease);
        let chunk = |id| ListedChunk { id, lease, sealed_bytes: 41, state };
        KeptChunks::Listed(ids.into_iter().map(chunk).collect())
    };
    let queried = vec((state(), any::<[u8; 16]>()), 1..5).prop_map(|chunks| {
        let chunk = |(state, lease)| (state, LeaseNonce::from_bytes(lease));
        let absent = (ChunkState::NotHeld, LeaseNonce::from_bytes([0; 16]));
        KeptChunks::Queried(chunks.into_iter().map(chunk).chain([absent]).collect())
    });
    let audited = vec((0..4_u8, 1..=1_171_u16), 1..6).prop_map(|chunks| {
        let chunks: Vec<AuditedChunk> = chunks.into_iter().map(audited_chunk).collect();
        let any = chunks.iter().any(|chunk| chunk.state == AuditState::Proven);
        let proof = Bytes::from(vec![7; if any { PROOF_BYTES } else { 0 }]);
        KeptChunks::Audited(Audited { kind: AuditKind::Compact, chunks, proof })
    });
    let macs = vec((0..4_u8, 1..=1_171_u16), 1..6).prop_map(|chunks| {
        let chunks: Vec<AuditedChunk> = chunks.into_iter().map(audited_chunk).collect();
        let audited = Audited { kind: AuditKind::Mac, chunks, proof: Bytes::new() };
        let proof = Bytes::from(vec![9; 32 * audited.proven()]);
        KeptChunks::Audited(Audited { proof, ..audited })
    });
    prop_oneof![(ids(5), state(), any::<[u8; 16]>()).prop_map(listed), queried, audited, macs,]
}

fn audited_chunk((state, blocks): (u8, u16)) -> AuditedChunk {
    match state {
        0 => AuditedChunk { state: AuditState::NotHeld, blocks: 0 },
        1 => AuditedChunk { state: AuditState::Released, blocks: 0 },
        2 => AuditedChunk { state: AuditState::Damaged, blocks: 0 },
        _ => AuditedChunk { state: AuditState::Proven, blocks },
    }
}

fn ask() -> impl Strategy<Value = AccountAsk> {
    prop_oneof![
        (any::<[u8; 32]>(), 1..=4_096_u32).prop_map(|(after, limit)| {
            AccountAsk::ListMine { after: ChunkId::from_bytes(after), limit }
        }),
        ids(5).prop_map(AccountAsk::Query),
        (ids(5), prop_oneof![Just(AuditKind::Compact), Just(AuditKind::Mac)])
            .prop_map(|(ids, kind)| AccountAsk::Audit { kind, ids }),
    ]
}

fn head() -> impl Strategy<Value = StreamMessage> {
    let record = |byte| Bytes::from(vec![byte; HEAD_RECORD_BYTES]);
    prop_oneof![
        (any::<[u8; 16]>(), any::<[[u8; 32]; 3]>(), terms(), any::<u8>()).prop_map(
            move |(batch, [account, nonce, seed], terms, byte)| {
                StreamMessage::StoreHead(StoreHead {
                    batch: BatchId::from_bytes(batch),
                    account: Account::from_bytes(account),
                    terms,
                    nonce,
                    proof: [byte; 64],
                    seed,
                    record: record(byte),
                })
            }
        ),
        any::<(u64, [u8; 32], [u8; 32], u8)>().prop_map(|(request, id, nonce, byte)| {
            let (id, superseded) = (ChunkId::from_bytes(id), byte % 17);
            let proof = [byte; 64];
            StreamMessage::HeadGet(HeadGet { request, id, nonce, proof, superseded })
        }),
        (any::<u64>(), vec(any::<u8>(), 1..=17)).prop_map(move |(request, records)| {
            let records = records.into_iter().map(record).collect();
            StreamMessage::HeadData(HeadData { request, records })
        }),
    ]
}

/// Any message that this file is about.
pub(super) fn message() -> impl Strategy<Value = StreamMessage> {
    let refusal = prop_oneof![
        Just(AccountRefusal::NoAccount),
        Just(AccountRefusal::Busy),
        Just(AccountRefusal::Working),
    ];
    let undone = prop_oneof![Just(ReleaseRefusal::Invalid), Just(ReleaseRefusal::Busy)];
    let states = vec(prop_oneof![state(), Just(ChunkState::NotHeld)], 1..5);
    prop_oneof![
        head(),
        (any::<(u64, [[u8; 32]; 3])>(), ask()).prop_map(|((request, names), ask)| {
            let [account, nonce, mac] = names;
            let account = Account::from_bytes(account);
            StreamMessage::AccountRequest(AccountRequest { request, account, nonce, ask, mac })
        }),
        (any::<(u64, [u8; 16], bool, [u8; 32])>(), kept()).prop_map(|(fields, kept)| {
            let (request, epoch, more, mac) = fields;
            let more = more && matches!(kept, KeptChunks::Listed(_));
            let page = AccountPage { epoch: StoreEpoch::from_bytes(epoch), more, kept, mac };
            StreamMessage::AccountAnswer(AccountAnswer { request, outcome: Ok(page) })
        }),
        (any::<u64>(), refusal).prop_map(|(request, refusal)| {
            StreamMessage::AccountAnswer(AccountAnswer { request, outcome: Err(refusal) })
        }),
        (any::<(u64, bool, [u8; 32], u8)>(), ids(5)).prop_map(|(fields, ids)| {
            let (request, undo, nonce, byte) = fields;
            let lease = LeaseNonce::from_bytes([byte; 16]);
            let item = |id| ReleaseItem { id, lease, proof: [byte; 64] };
            let items = ids.into_iter().map(item).collect();
            StreamMessage::Release(Release { request, undo, nonce, items })
        }),
        (any::<u64>(), prop_oneof![states.prop_map(Ok), undone.prop_map(Err)]).prop_map(
            |(request, outcome)| {
                StreamMessage::ReleaseAnswer(ReleaseAnswer { request, outcome })
            }
        ),
        (any::<[[u8; 32]; 2]>(), ids(5)).prop_map(|([account, mac], ids)| {
            let account = Account::from_bytes(account);
            StreamMessage::ChunkNotice(ChunkNotice { account, ids, mac })
        }),
    ]
}

/// As many ids as asked for, ascending.
fn many_ids(count: usize) -> impl Iterator<Item = ChunkId> {
    (0..count).map(|number| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(number as u64).to_be_bytes());
        ChunkId::from_bytes(id)
    })
}

#[test]
fn the_largest_messages_about_accounts_fit_their_caps() {
    let lease = LeaseNonce::from_bytes([255; 16]);
    let state = ChunkState::Released { due_s: u32::MAX };
    let listed = |id| ListedChunk { id, lease, sealed_bytes: CHUNK_SEALED_BYTES_MAX, state };
    let page = |kept| AccountPage {
        epoch: StoreEpoch::from_bytes([255; 16]),
        more: false,
        kept,
        mac: [255; 32],
    };
    let answer = |kept| {
        let (request, outcome) = (u64::MAX, Ok(page(kept)));
        StreamMessage::AccountAnswer(AccountAnswer { request, outcome })
    };
    let ask = AccountAsk::Query(many_ids(ACCOUNT_CHUNKS_MAX).collect());
    let account = Account::from_bytes([255; 32]);
    let (request, nonce, mac) = (u64::MAX, [255; 32], [255; 32]);
    let item = |id| ReleaseItem { id, lease, proof: [255; 64] };
    let items = many_ids(RELEASES_MAX).map(item).collect();
    for (message, payload) in [
        (
            StreamMessage::AccountRequest(AccountRequest { request, account, nonce, ask, mac }),
            131_072,
        ),
        (answer(KeptChunks::Listed(many_ids(ACCOUNT_CHUNKS_MAX).map(listed).collect())), 233_472),
        (answer(KeptChunks::Queried(vec![(state, lease); ACCOUNT_CHUNKS_MAX])), 86_016),
        (answer(all_proven(AuditKind::Compact, PROOF_BYTES)), 16_402),
        (answer(all_proven(AuditKind::Mac, 32 * ACCOUNT_CHUNKS_MAX)), 143_362),
        (StreamMessage::Release(Release { request, undo: true, nonce, items }), 0),
        (
            StreamMessage::ChunkNotice(ChunkNotice {
                account,
                ids: many_ids(NOTICE_CHUNKS_MAX).collect(),
                mac,
            }),
            0,
        ),
        (
            StreamMessage::HeadData(HeadData {
                request,
                records: vec![vec![255; HEAD_RECORD_BYTES].into(); HEAD_RECORDS_MAX],
            }),
            37_757,
        ),
    ] {
        let frame = encode_stream(&message);
        assert!(frame.head.len() <= HEAD_BYTES_MAX, "{} bytes", frame.head.len());
        assert_eq!(frame.payload.len(), payload);
        assert_eq!(decode_stream(frame), Ok(message));
    }
}

/// As many chunks as an audit may name, all of them of the largest size.
fn all_proven(kind: AuditKind, proof_bytes: usize) -> KeptChunks {
    let chunks = vec![AuditedChunk { state: AuditState::Proven, blocks: 1_171 }; 4_096];
    KeptChunks::Audited(Audited { kind, chunks, proof: vec![255; proof_bytes].into() })
}

fn store_head() -> proto::StoreHead {
    proto::StoreHead {
        batch: bytes_of(&[1; 16]),
        account: bytes_of(&[2; 32]),
        terms: Some(proto::LeaseTerms::default()),
        nonce: bytes_of(&[3; 32]),
        proof: bytes_of(&[4; 64]),
        seed: bytes_of(&[5; 32]),
    }
}

#[test]
fn each_wrong_field_of_a_message_about_heads_is_rejected() {
    let record = [7; HEAD_RECORD_BYTES];
    let lengths = fixed!(StoreHead, batch, account, nonce, proof, seed);
    let terms: &[Change<proto::StoreHead>] = &[("no terms", |m| m.terms = None)];
    let decode = |m| stream(Body::StoreHead(m), &record);
    each_change_is_rejected(&store_head(), &[terms, &lengths], decode);
    for wrong in [&record[1..], &[7; HEAD_RECORD_BYTES + 1], &[]] {
        assert_eq!(stream(Body::StoreHead(store_head()), wrong), Err(Reject::Malformed));
    }
    let good = proto::HeadGet {
        request: u64::MAX,
        id: bytes_of(&[1; 32]),
        nonce: bytes_of(&[2; 32]),
        proof: bytes_of(&[3; 64]),
        superseded: 16,
    };
    let lengths = fixed!(HeadGet, id, nonce, proof);
    let counts: &[Change<proto::HeadGet>] =
        &[("17 superseded", |m| m.superseded = 17), ("272 superseded", |m| m.superseded = 272)];
    each_change_is_rejected(&good, &[counts, &lengths], |m| stream(Body::HeadGet(m), &[]));
    assert_eq!(stream(Body::HeadGet(good), &[0]), Err(Reject::Malformed));
    let data = |records: usize, more: usize| {
        let payload = vec![7; records * HEAD_RECORD_BYTES + more];
        stream(Body::HeadData(proto::HeadData { request: 1 }), &payload)
    };
    assert_eq!((data(1, 0), data(17, 0)), (Ok(()), Ok(())));
    for (records, more) in [(0, 0), (0, 1), (1, 1), (1, HEAD_RECORD_BYTES - 1), (18, 0), (17, 1)] {
        assert_eq!(data(records, more), Err(Reject::Malformed), "{records} and {more}");
    }
}

fn list() -> proto::AccountRequest {
    proto::AccountRequest {
        request: 1,
        operation: 1,
        account: bytes_of(&[1; 32]),
        nonce: bytes_of(&[2; 32]),
        after: bytes_of(&[3; 32]),
        limit: 4_096,
        mac: bytes_of(&[4; 32]),
    }
}

#[test]
fn each_wrong_field_of_a_question_about_an_account_is_rejected() {
    let lengths = fixed!(AccountRequest, account, nonce, after, mac);
    let changes: &[Change<proto::AccountRequest>] = &[
        ("limit 0", |m| m.limit = 0),
        ("limit 4,097", |m| m.limit = 4_097),
        ("operation 0", |m| m.operation = 0),
        ("operation 5", |m| m.operation = 5),
        ("operation 257", |m| m.operation = 257),
        ("a query of nothing", |m| {
            *m = proto::AccountRequest {
                operation: 2,
                after: bytes_of(&[0; 32]),
                limit: 0,
                ..m.clone()
            };
        }),
    ];
    let decode = |m| stream(Body::AccountRequest(m), &[]);
    each_change_is_rejected(&list(), &[changes, &lengths], decode);
    assert_eq!(stream(Body::AccountRequest(list()), &[0; 32]), Err(Reject::Malformed));
    let query =
        proto::AccountRequest { operation: 2, after: bytes_of(&[0; 32]), limit: 0, ..list() };
    let changes: &[Change<proto::AccountRequest>] = &[
        ("a limit", |m| m.limit = 1),
        ("after something", |m| m.after = bytes_of(&[1; 32])),
        ("a list", |m| m.operation = 1),
    ];
    let ids: Vec<u8> = many_ids(3).flat_map(|id| *id.as_bytes()).collect();
    let decode = |m| stream(Body::AccountRequest(m), &ids);
    each_change_is_rejected(&query, &[changes, &lengths], decode);
    let too_many: Vec<u8> = many_ids(4_097).flat_map(|id| *id.as_bytes()).collect();
    for wrong in [&ids[1..], &[0; 64], too_many.as_slice()] {
        assert_eq!(stream(Body::AccountRequest(query.clone()), wrong), Err(Reject::Malformed));
    }
}

fn page(operation: u32) -> proto::AccountAnswer {
    proto::AccountAnswer {
        request: 1,
        operation,
        epoch: bytes_of(&[1; 16]),
        more: operation == 1,
        mac: bytes_of(&[2; 32]),
        refusal: 0,
    }
}

/// One chunk of a list.
fn listed(id: u8, sealed_bytes: u32, state: u8, due_s: u32) -> Vec<u8> {
    let (sealed_bytes, due_s) = (sealed_bytes.to_le_bytes(), due_s.to_le_bytes());
    [[id; 32].as_slice(), &[9; 16], &sealed_bytes, &[state], &due_s].concat()
}

/// One chunk of a query's answer.
fn queried(state: u8, lease: u8, due_s: u32) -> Vec<u8> {
    [[state].as_slice(), &[lease; 16], &due_s.to_le_bytes()].concat()
}

#[test]
fn each_wrong_field_of_an_answer_about_an_account_is_rejected() {
    let lengths = fixed!(AccountAnswer, epoch, mac);
    let changes: &[Change<proto::AccountAnswer>] = &[
        ("operation 0", |m| m.operation = 0),
        ("operation 5", |m| m.operation = 5),
        ("another operation", |m| m.operation = 2),
        ("refused beside a page", |m| m.refusal = 1),
    ];
    let good = [listed(1, 41, 1, 0), listed(2, 41, 2, u32::MAX), listed(3, 41, 3, 0)].concat();
    let decode = |m| stream(Body::AccountAnswer(m), &good);
    each_change_is_rejected(&page(1), &[changes, &lengths], decode);
    let list = |payload: &[u8]| stream(Body::AccountAnswer(page(1)), payload);
    assert_eq!(list(&[]), Err(Reject::Malformed), "more behind nothing");
    let last = proto::AccountAnswer { more: false, ..page(1) };
    assert_eq!(stream(Body::AccountAnswer(last), &[]), Ok(()));
    for (name, bad) in [
        ("cut", listed(1, 41, 1, 0)[1..].to_vec()),
        ("twice", listed(1, 41, 1, 0).repeat(2)),
        ("descending", [listed(2, 41, 1, 0), listed(1, 41, 1, 0)].concat()),
        ("not held", listed(1, 41, 0, 0)),
        ("state 4", listed(1, 41, 4, 0)),
        ("due and live", listed(1, 41, 1, 1)),
        ("due and damaged", listed(1, 41, 3, 1)),
        ("no bytes", listed(1, 40, 1, 0)),
        ("too many bytes", listed(1, CHUNK_SEALED_BYTES_MAX + 1, 1, 0)),
    ] {
        assert_eq!(list(&bad), Err(Reject::Malformed), "{name}");
    }
    let query = |message, payload: &[u8]| stream(Body::AccountAnswer(message), payload);
    assert_eq!(query(page(2), &[queried(0, 0, 0), queried(1, 9, 0)].concat()), Ok(()));
    for (name, bad) in [
        ("nothing", vec![]),
        ("cut", queried(1, 9, 0)[1..].to_vec()),
        ("a lease and not held", queried(0, 1, 0)),
        ("due and not held", queried(0, 0, 1)),
        ("state 4", queried(4, 9, 0)),
        ("too many", queried(1, 9, 0).repeat(4_097)),
    ] {
        assert_eq!(query(page(2), &bad), Err(Reject::Malformed), "{name}");
    }
    let more = proto::AccountAnswer { more: true, ..page(2) };
    assert_eq!(query(more, &queried(1, 9, 0)), Err(Reject::Malformed));
}

#[test]
fn each_wrong_field_of_an_answer_to_an_audit_is_rejected() {
    let chunk = |state: u8, blocks: u16| [vec![state], blocks.to_le_bytes().to_vec()].concat();
    let payload = |count: u16, chunks: &[Vec<u8>], proof: usize| {
        [count.to_le_bytes().to_vec(), chunks.concat(), vec![1; proof]].concat()
    };
    let answer = |operation, payload: &[u8]| {
        let message = proto::AccountAnswer { more: false, ..page(operation) };
        stream(Body::AccountAnswer(message), payload)
    };
    let (held, gone) = (chunk(1, 1_171), chunk(0, 0));
    let both = [held.clone(), gone.clone()];
    assert_eq!(answer(3, &payload(2, &both, PROOF_BYTES)), Ok(()));
    assert_eq!(answer(4, &payload(2, &both, 32)), Ok(()));
    assert_eq!(answer(3, &payload(2, &[chunk(2, 0), chunk(3, 0)], 0)), Ok(()));
    for (name, bad) in [
        ("nothing", vec![]),
        ("no chunk", payload(0, &[], PROOF_BYTES)),
        ("fewer than said", payload(3, &both, PROOF_BYTES)),
        ("more than said", payload(1, &both, PROOF_BYTES)),
        ("no proof", payload(2, &both, 0)),
        ("a short proof", payload(2, &both, PROOF_BYTES - 1)),
        ("a long proof", payload(2, &both, PROOF_BYTES + 1)),
        ("a proof of nothing", payload(1, std::slice::from_ref(&gone), PROOF_BYTES)),
        ("no blocks", payload(1, &[chunk(1, 0)], PROOF_BYTES)),
        ("too many blocks", payload(1, &[chunk(1, 1_172)], PROOF_BYTES)),
        ("blocks of nothing", payload(1, &[chunk(0, 1)], 0)),
        ("state 4", payload(1, &[chunk(4, 0)], 0)),
        ("too many", payload(4_097, &vec![gone.clone(); 4_097], 0)),
    ] {
        assert_eq!(answer(3, &bad), Err(Reject::Malformed), "{name}");
    }
    for macs in [0, 31, 33, 64] {
        assert_eq!(answer(4, &payload(2, &both, macs)), Err(Reject::Malformed), "{macs}");
    }
    let more = proto::AccountAnswer { more: true, ..page(3) };
    let good = payload(2, &both, PROOF_BYTES);
    assert_eq!(stream(Body::AccountAnswer(more), &good), Err(Reject::Malformed));
}

#[test]
fn a_refusal_says_nothing_else() {
    let bare = |refusal| proto::AccountAnswer { request: 1, refusal, ..Default::default() };
    let answer = |message, payload: &[u8]| stream(Body::AccountAnswer(message), payload);
    assert_eq!((answer(bare(1), &[]), answer(bare(2), &[])), (Ok(()), Ok(())));
    assert_eq!(answer(bare(3), &[]), Ok(()), "it is worked on");
    for bad in [bare(4), bare(257), proto::AccountAnswer { more: true, ..bare(1) }] {
        assert_eq!(answer(bad, &[]), Err(Reject::Malformed));
    }
    assert_eq!(answer(bare(1), &queried(1, 9, 0)), Err(Reject::Malformed));
    let items = vec![proto::ChunkState { state: 1, due_s: 0 }];
    let release = |items, refusal| {
        stream(Body::ReleaseAnswer(proto::ReleaseAnswer { request: 1, items, refusal }), &[])
    };
    assert_eq!((release(vec![], 1), release(vec![], 2)), (Ok(()), Ok(())));
    assert_eq!(release(vec![], 3), Err(Reject::Malformed));
    assert_eq!(release(items, 1), Err(Reject::Malformed));
}

#[test]
fn each_wrong_field_of_a_notice_is_rejected() {
    let id = |id: ChunkId| bytes_of(id.as_bytes());
    let good = proto::ChunkNotice {
        account: bytes_of(&[1; 32]),
        ids: many_ids(256).map(id).collect(),
        state: 3,
        mac: bytes_of(&[2; 32]),
    };
    let lengths = fixed!(ChunkNotice, account, mac);
    let changes: &[Change<proto::ChunkNotice>] = &[
        ("no ids", |m| m.ids.clear()),
        ("257 ids", |m| m.ids = many_ids(257).map(|id| bytes_of(id.as_bytes())).collect()),
        ("an id twice", |m| m.ids = vec![bytes_of(&[1; 32]); 2]),
        ("a short id", |m| m.ids = vec![bytes_of(&[1; 31])]),
        ("a long id", |m| m.ids = vec![bytes_of(&[1; 33])]),
        ("not held", |m| m.state = 0),
        ("live", |m| m.state = 1),
        ("released", |m| m.state = 2),
        ("state 4", |m| m.state = 4),
        ("state 259", |m| m.state = 259),
    ];
    each_change_is_rejected(&good, &[changes, &lengths], |m| stream(Body::ChunkNotice(m), &[]));
    assert_eq!(stream(Body::ChunkNotice(good), &[0]), Err(Reject::Malformed), "a payload");
}

#[test]
fn each_wrong_field_of_a_release_is_rejected() {
    let item = |id: ChunkId| proto::ReleasedChunk {
        id: bytes_of(id.as_bytes()),
        lease: bytes_of(&[6; 16]),
        proof: bytes_of(&[7; 64]),
    };
    let good = proto::Release {
        request: 1,
        undo: false,
        nonce: bytes_of(&[2; 32]),
        items: many_ids(256).map(item).collect(),
    };
    let changes: &[Change<proto::Release>] = &[
        ("nothing", |m| m.items.clear()),
        ("257 chunks", |m| {
            let id = bytes_of(&[255; 32]);
            m.items.push(proto::ReleasedChunk { id, ..m.items[0].clone() });
        }),
        ("a chunk twice", |m| m.items[1] = m.items[0].clone()),
        ("id short", |m| short(&mut m.items[0].id)),
        ("lease long", |m| long(&mut m.items[0].lease)),
        ("proof short", |m| short(&mut m.items[0].proof)),
    ];
    let lengths = fixed!(Release, nonce);
    each_change_is_rejected(&good, &[changes, &lengths], |m| stream(Body::Release(m), &[]));
    let state = |state, due_s| proto::ChunkState { state, due_s };
    let answer = |items| {
        stream(Body::ReleaseAnswer(proto::ReleaseAnswer { request: 1, items, refusal: 0 }), &[])
    };
    assert_eq!(answer(vec![state(0, 0), state(1, 0), state(2, 7), state(3, 0)]), Ok(()));
    assert_eq!(answer(vec![state(1, 0); 256]), Ok(()));
    for bad in [vec![], vec![state(4, 0)], vec![state(1, 7)], vec![state(1, 0); 257]] {
        assert_eq!(answer(bad), Err(Reject::Malformed));
    }
}
