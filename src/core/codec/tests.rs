//! Round trips, the largest legal messages, and everything that must be turned down.

use super::*;
use crate::core::message::*;
use crate::core::types::*;
use crate::crypto::ack::AckedChunk;
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
        locality in any::<u16>(),
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
            locality: Locality(locality),
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
    let retrieve = (any::<[[u8; 32]; 2]>(), any::<u32>(), ids(WANTED_MAX), any::<u8>()).prop_map(
        |([ephemeral, nonce], attempt, ids, byte)| RetrieveRequest {
            ephemeral,
            attempt,
            nonce,
            wanted: ids.into_iter().map(|id| (id, [byte; 64])).collect(),
        },
    );
    let answer =
        (any::<[u8; 8]>(), vec(any::<u8>(), SEALED_BOX_OVERHEAD_BYTES + 1..=1000)).prop_map(
            |(tag, sealed)| Answer { tag: AnswerTag::from_bytes(tag), sealed: sealed.into() },
        );
    prop_oneof![
        store_request().prop_map(TopicMessage::StoreRequest),
        retrieve.prop_map(TopicMessage::RetrieveRequest),
        answer.prop_map(TopicMessage::Answer),
    ]
}

fn claim(contact: Option<Contact>, ephemeral: [u8; 32], wants: u64, mask: u64) -> StoreClaim {
    StoreClaim { contact, ephemeral, wants, holds: wants & mask }
}

fn answer_body() -> impl Strategy<Value = AnswerBody> {
    prop_oneof![
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
    ]
}

fn stream_message() -> impl Strategy<Value = StreamMessage> {
    let store_refusal = prop_oneof![
        Just(StoreRefusal::Full),
        Just(StoreRefusal::Busy),
        Just(StoreRefusal::Invalid),
        Just(StoreRefusal::Failed),
        Just(StoreRefusal::Unwilling),
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
    ]
}

prop_compose! {
    fn store_chunk()(
        batch in any::<[u8; 16]>(),
        keys in any::<[[u8; 32]; 3]>(),
        terms in terms(),
        byte in any::<u8>(),
        sealed in vec(any::<u8>(), 41..300),
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
            tags: Bytes::new(),
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
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn topic_messages_round_trip(message in topic_message()) {
        let bytes = encode_topic(&message);
        prop_assert!(bytes.len() <= TOPIC_BYTES_MAX);
        prop_assert_eq!(decode_topic(&bytes), Ok(message));
    }

    #[test]
    fn answer_bodies_round_trip(body in answer_body()) {
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
}
