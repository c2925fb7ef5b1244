//! Round trips, the largest legal messages, and everything that must be turned down.

mod accounts;
mod rejects;
mod standing;

use super::*;
use crate::core::message::*;
use crate::core::types::*;
use crate::crypto::ack::AckedChunk;
use crate::crypto::audit::tags_bytes;
use crate::crypto::header::Header;
use crate::crypto::keys::{AgreementKey, ChunkKey};
use crate::crypto::seal::SEALED_BOX_OVERHEAD_BYTES;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

fn header(sealed: &[u8]) -> Header {
    let point = |tag| ChunkKey::from_bytes([tag; 32]).read_secret().point();
    Header::new(3, [point(1), point(2), point(3)], sealed)
}

fn terms() -> impl Strategy<Value = LeaseTerms> {
    any::<[u32; 3]>().prop_map(|[renew_every_s, keep_after_silence_s, release_delay_s]| {
        LeaseTerms { renew_every_s, keep_after_silence_s, release_delay_s }
    })
}

fn ids(max: usize) -> impl Strategy<Value = Vec<ChunkId>> {
    btree_set(any::<[u8; 32]>(), 1..=max)
        .prop_map(|ids| ids.into_iter().map(ChunkId::from_bytes).collect())
}

fn hello() -> impl Strategy<Value = Hello> {
    (any::<[[u8; 32]; 4]>(), any::<[u8; 32]>(), "[a-zé ]{0,16}", "[a-zé ]{0,16}").prop_map(
        |([node, mesh, agreement, left], right, site, operator)| {
            let mut agreement_signature = [0; 64];
            agreement_signature[..32].copy_from_slice(&left);
            agreement_signature[32..].copy_from_slice(&right);
            Hello {
                node: NodeId::from_bytes(node),
                mesh: MeshId::from_bytes(mesh),
                agreement: AgreementKey(agreement),
                agreement_signature,
                site,
                operator,
            }
        },
    )
}

fn contact() -> impl Strategy<Value = Contact> {
    (vec(any::<u8>(), 1..=RECORD_BYTES_MAX), hello())
        .prop_map(|(record, hello)| Contact { record: record.into(), hello })
}

prop_compose! {
    fn store_request()(
        ephemeral in any::<[u8; 32]>(),
        attempt in any::<u32>(),
        probability in any::<u16>(),
        quorum in 1..=QUORUM_MAX,
        terms in terms(),
        ids in ids(OFFERS_MAX),
        sealed_bytes in 41..=CHUNK_SEALED_BYTES_MAX,
        stamp in vec(any::<u8>(), 0..=STAMP_BYTES_MAX),
    ) -> StoreRequest {
        StoreRequest {
            ephemeral,
            attempt,
            probability,
            quorum,
            terms,
            offers: ids.into_iter().map(|id| Offer { id, sealed_bytes }).collect(),
            stamp: stamp.into(),
        }
    }
}

fn topic_message() -> impl Strategy<Value = TopicMessage> {
    let kind = prop::sample::select(&SearchKind::ALL);
    let search = (kind, any::<[[u8; 32]; 2]>(), any::<u32>(), ids(WANTED_MAX), any::<u8>())
        .prop_map(|(kind, [ephemeral, nonce], attempt, ids, byte)| SearchRequest {
            kind,
            ephemeral,
            attempt,
            nonce,
            wanted: ids.into_iter().map(|id| (id, [byte; 64])).collect(),
        });
    let answer =
        (any::<[u8; 8]>(), vec(any::<u8>(), SEALED_BOX_OVERHEAD_BYTES + 1..=1000)).prop_map(
            |(tag, sealed)| Answer { tag: AnswerTag::from_bytes(tag), sealed: sealed.into() },
        );
    prop_oneof![
        store_request().prop_map(TopicMessage::StoreRequest),
        search.prop_map(TopicMessage::SearchRequest),
        answer.prop_map(TopicMessage::Answer),
    ]
}

fn claim(contact: Option<Contact>, ephemeral: [u8; 32], wants: u64, mask: u64) -> StoreClaim {
    StoreClaim { contact, ephemeral, wants, holds: wants & mask }
}

fn signed_answer() -> impl Strategy<Value = SignedAnswer> {
    let body = prop_oneof![
        (contact(), any::<[u8; 32]>(), any::<u64>(), any::<u64>()).prop_map(
            |(contact, ephemeral, wants, mask)| AnswerBody::Claim(claim(
                Some(contact),
                ephemeral,
                wants,
                mask
            ))
        ),
        (contact(), any::<u32>()).prop_map(|(contact, holds)| AnswerBody::Offer(RetrieveOffer {
            contact: Some(contact),
            holds
        })),
    ];
    (body, any::<u8>()).prop_map(|(body, byte)| SignedAnswer { body, signature: [byte; 64] })
}

fn stream_message() -> impl Strategy<Value = StreamMessage> {
    let store_refusal = prop_oneof![
        Just(StoreRefusal::Full),
        Just(StoreRefusal::Busy),
        Just(StoreRefusal::Invalid),
        Just(StoreRefusal::Failed),
        Just(StoreRefusal::Unwilling),
        Just(StoreRefusal::OverQuota),
        Just(StoreRefusal::Superseded),
        Just(StoreRefusal::TooManyHeads),
    ];
    let retrieve_refusal = prop_oneof![
        Just(RetrieveRefusal::NotHeld),
        Just(RetrieveRefusal::Busy),
        Just(RetrieveRefusal::Damaged),
    ];
    prop_oneof![
        hello().prop_map(StreamMessage::Hello),
        store_request().prop_map(StreamMessage::StoreRequest),
        any::<([u8; 32], u64, u64)>().prop_map(|(ephemeral, wants, mask)| {
            StreamMessage::StoreClaim(claim(None, ephemeral, wants, mask))
        }),
        store_chunk().prop_map(|chunk| StreamMessage::StoreChunk(Box::new(chunk))),
        store_ack().prop_map(StreamMessage::StoreAck),
        (any::<[u8; 16]>(), any::<[u8; 32]>(), store_refusal).prop_map(|(batch, id, reason)| {
            let (batch, id) = (BatchId::from_bytes(batch), ChunkId::from_bytes(id));
            StreamMessage::StoreReject(StoreReject { batch, id, reason })
        }),
        any::<(u64, [u8; 32], [u8; 32], u8)>().prop_map(|(request, id, nonce, byte)| {
            let id = ChunkId::from_bytes(id);
            StreamMessage::Retrieve(Retrieve { request, id, nonce, proof: [byte; 64] })
        }),
        (any::<u64>(), vec(any::<u8>(), 41..300)).prop_map(|(request, sealed)| {
            let header = header(&sealed);
            StreamMessage::ChunkData(ChunkData { request, header, sealed: sealed.into() })
        }),
        (any::<u64>(), retrieve_refusal).prop_map(|(request, reason)| {
            StreamMessage::RetrieveReject(RetrieveReject { request, reason })
        }),
        accounts::message(),
        standing::message(),
    ]
}

prop_compose! {
    fn store_chunk()(
        batch in any::<[u8; 16]>(),
        keys in any::<[[u8; 32]; 3]>(),
        terms in terms(),
        byte in any::<u8>(),
        sealed in vec(any::<u8>(), 41..9_000),
    ) -> StoreChunk {
        let [account, nonce, seed] = keys;
        StoreChunk {
            batch: BatchId::from_bytes(batch),
            account: Account::from_bytes(account),
            header: header(&sealed),
            terms,
            nonce,
            proof: [byte; 64],
            seed,
            tags: vec![byte; tags_bytes(sealed.len())].into(),
            sealed: sealed.into(),
        }
    }
}

prop_compose! {
    fn store_ack()(
        names in any::<[[u8; 16]; 3]>(),
        account in any::<[u8; 32]>(),
        terms in terms(),
        ids in ids(OFFERS_MAX),
        byte in any::<u8>(),
    ) -> StoreAck {
        let [batch, epoch, lease] = names;
        let lease = LeaseNonce::from_bytes(lease);
        StoreAck {
            batch: BatchId::from_bytes(batch),
            account: Account::from_bytes(account),
            epoch: StoreEpoch::from_bytes(epoch),
            terms,
            chunks: ids
                .into_iter()
                .map(|id| AckedChunk { id, lease, receipt: [byte; 32] })
                .collect(),
            signature: [byte; 64],
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn topic_messages_round_trip(message in topic_message()) {
        let bytes = encode_topic(&message);
        prop_assert!(bytes.len() <= TOPIC_BYTES_MAX);
        prop_assert_eq!(decode_topic(&bytes), Ok(message));
    }

    #[test]
    fn answer_bodies_round_trip(body in signed_answer()) {
        let bytes = encode_answer(&body);
        prop_assert!(bytes.len() <= ANSWER_BYTES_MAX);
        prop_assert_eq!(decode_answer(&bytes), Ok(body));
    }

    #[test]
    fn stream_messages_round_trip(message in stream_message()) {
        let frame = encode_stream(&message);
        prop_assert!(frame.head.len() <= HEAD_BYTES_MAX);
        prop_assert_eq!(decode_stream(frame), Ok(message));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..600), cut in any::<usize>()) {
        let _ = decode_topic(&bytes);
        let _ = decode_answer(&bytes);
        let at = cut % (bytes.len() + 1);
        let (head, payload) = bytes.split_at(at);
        let (head, payload) = (bytes_of(head), bytes_of(payload));
        let _ = decode_stream(Frame { head, payload });
    }

    #[test]
    fn flipped_bytes_never_panic_and_never_leave_the_limits(
        message in topic_message(),
        at in any::<usize>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encode_topic(&message).to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(message) = decode_topic(&bytes) {
            prop_assert!(encode_topic(&message).len() <= TOPIC_BYTES_MAX);
        }
    }

    #[test]
    fn topic_messages_cut_anywhere_are_rejected(message in topic_message(), at in any::<usize>()) {
        let bytes = encode_topic(&message);
        prop_assert!(decode_topic(&bytes[..at % bytes.len()]).is_err());
    }

    #[test]
    fn stream_frames_cut_anywhere_are_rejected(message in stream_message(), at in any::<usize>()) {
        let Frame { head, payload } = encode_stream(&message);
        let cut = head.slice(..at % head.len());
        let frame = Frame { head: cut, payload: payload.clone() };
        prop_assert!(decode_stream(frame).is_err());
        // A list cut between two chunks is a shorter list: those have tests of their own.
        let whole = matches!(
            message,
            StreamMessage::StoreChunk(_) | StreamMessage::ChunkData(_) | StreamMessage::StoreHead(_)
        );
        if whole {
            let cut = payload.slice(..at % payload.len());
            let frame = Frame { head, payload: cut };
            prop_assert!(decode_stream(frame).is_err());
        }
    }
}

fn bytes_of(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn largest_hello() -> Hello {
    Hello {
        node: NodeId::from_bytes([255; 32]),
        mesh: MeshId::from_bytes([255; 32]),
        agreement: AgreementKey([255; 32]),
        agreement_signature: [255; 64],
        site: "s".repeat(LABEL_BYTES_MAX),
        operator: "o".repeat(LABEL_BYTES_MAX),
    }
}

const LARGEST_TERMS: LeaseTerms = LeaseTerms {
    renew_every_s: u32::MAX,
    keep_after_silence_s: u32::MAX,
    release_delay_s: u32::MAX,
};

fn ids_of(count: usize) -> impl Iterator<Item = ChunkId> {
    (0..count).map(|at| ChunkId::from_bytes([u8::try_from(at).unwrap(); 32]))
}

fn largest_request() -> StoreRequest {
    let offer = |id| Offer { id, sealed_bytes: CHUNK_SEALED_BYTES_MAX };
    StoreRequest {
        ephemeral: [255; 32],
        attempt: u32::MAX,
        probability: u16::MAX,
        quorum: QUORUM_MAX,
        terms: LARGEST_TERMS,
        offers: ids_of(OFFERS_MAX).map(offer).collect(),
        stamp: bytes_of(&[255; STAMP_BYTES_MAX]),
    }
}

#[test]
fn largest_topic_messages_fit_their_cap() {
    let search = |kind| SearchRequest {
        kind,
        ephemeral: [255; 32],
        attempt: u32::MAX,
        nonce: [255; 32],
        wanted: ids_of(WANTED_MAX).map(|id| (id, [255; 64])).collect(),
    };
    let searches = SearchKind::ALL.map(search).map(TopicMessage::SearchRequest);
    let store = TopicMessage::StoreRequest(largest_request());
    for message in searches.into_iter().chain([store]) {
        let bytes = encode_topic(&message);
        assert!(bytes.len() <= TOPIC_BYTES_MAX, "{} bytes", bytes.len());
        assert_eq!(decode_topic(&bytes), Ok(message));
    }
}

#[test]
fn largest_answers_fit_their_cap_when_sealed() {
    let contact =
        Some(Contact { record: bytes_of(&[255; RECORD_BYTES_MAX]), hello: largest_hello() });
    let claim = claim(contact.clone(), [255; 32], u64::MAX, u64::MAX);
    for body in
        [AnswerBody::Claim(claim), AnswerBody::Offer(RetrieveOffer { contact, holds: u32::MAX })]
    {
        let answer = SignedAnswer { body, signature: [255; 64] };
        let plain = encode_answer(&answer);
        assert_eq!(decode_answer(&plain), Ok(answer));
        let sealed = Bytes::from(vec![255; plain.len() + SEALED_BOX_OVERHEAD_BYTES]);
        let answer = TopicMessage::Answer(Answer { tag: AnswerTag::from_bytes([255; 8]), sealed });
        let bytes = encode_topic(&answer);
        assert!(bytes.len() <= ANSWER_BYTES_MAX, "{} bytes", bytes.len());
        assert_eq!(decode_topic(&bytes), Ok(answer));
    }
}

/// Its tags are in the head of the frame.
fn largest_chunk() -> StoreChunk {
    let sealed = Bytes::from(vec![255; CHUNK_SEALED_BYTES_MAX as usize]);
    StoreChunk {
        batch: BatchId::from_bytes([255; 16]),
        account: Account::from_bytes([255; 32]),
        header: header(&sealed),
        terms: LARGEST_TERMS,
        nonce: [255; 32],
        proof: [255; 64],
        seed: [255; 32],
        tags: vec![255; tags_bytes(sealed.len())].into(),
        sealed,
    }
}

#[test]
fn largest_stream_messages_fit_their_cap() {
    let ack = StoreAck {
        batch: BatchId::from_bytes([255; 16]),
        account: Account::from_bytes([255; 32]),
        epoch: StoreEpoch::from_bytes([255; 16]),
        terms: LARGEST_TERMS,
        chunks: ids_of(OFFERS_MAX)
            .map(|id| AckedChunk {
                id,
                lease: LeaseNonce::from_bytes([255; 16]),
                receipt: [255; 32],
            })
            .collect(),
        signature: [255; 64],
    };
    let messages = [
        StreamMessage::StoreAck(ack),
        StreamMessage::StoreRequest(largest_request()),
        StreamMessage::StoreChunk(Box::new(largest_chunk())),
    ];
    for message in messages {
        let frame = encode_stream(&message);
        assert!(frame.head.len() <= HEAD_BYTES_MAX, "{} bytes", frame.head.len());
        assert_eq!(decode_stream(frame), Ok(message));
    }
}

#[test]
fn sealed_bytes_are_not_copied() {
    let sealed = Bytes::from(vec![7; 4_096]);
    let data = ChunkData { request: 1, header: header(&sealed), sealed: sealed.clone() };
    let frame = encode_stream(&StreamMessage::ChunkData(data));
    assert_eq!(frame.payload.as_ptr(), sealed.as_ptr());
    let Ok(StreamMessage::ChunkData(data)) = decode_stream(frame) else {
        panic!("the frame decodes")
    };
    assert_eq!(data.sealed.as_ptr(), sealed.as_ptr());
}

#[test]
fn frame_lengths_are_checked_before_anything_is_allocated() {
    let frame = Frame { head: bytes_of(&[1; 258]), payload: bytes_of(&[2; 3]) };
    assert_eq!(frame.prefix(), [2, 1, 0, 0, 3, 0, 0, 0]);
    assert_eq!(Frame::lengths(frame.prefix()), Ok((258, 3)));
    assert_eq!(Frame::lengths([0, 0, 1, 0, 0, 0, 64, 0]), Ok((HEAD_BYTES_MAX, PAYLOAD_BYTES_MAX)));
    assert_eq!(Frame::lengths([1, 0, 1, 0, 0, 0, 0, 0]), Err(Reject::Oversize));
    assert_eq!(Frame::lengths([0, 0, 0, 0, 1, 0, 64, 0]), Err(Reject::Oversize));
    assert_eq!(Frame::lengths([255; 8]), Err(Reject::Oversize));
}
