//! Messages between two authenticated peers. Some kinds carry a payload: the sealed bytes of one
//! chunk, as long as its header says, or fixed records; all others carry none.

use super::field::{
    array, bytes, decode_claim, decode_hello, decode_request, decode_terms, distinct, encode_claim,
    encode_hello, encode_request, encode_terms, ensure,
};
use super::{OFFERS_MAX, Reject, VERSION, account, head, standing};
use crate::core::message::{
    ChunkData, Retrieve, RetrieveRefusal, RetrieveReject, StoreAck, StoreChunk, StoreRefusal,
    StoreReject, StreamMessage,
};
use crate::core::types::{Account, BatchId, ChunkId, LeaseNonce, StoreEpoch};
use crate::crypto::ack::AckedChunk;
use crate::crypto::audit::tags_bytes;
use crate::crypto::header::Header;
use crate::proto::{self, stream_message::Body};
use bytes::Bytes;

/// The head, and the payload that goes with it.
pub(super) fn encode(message: &StreamMessage) -> (proto::StreamMessage, Bytes) {
    let mut payload = Bytes::new();
    let body = match message {
        StreamMessage::Hello(hello) => Body::Hello(encode_hello(hello)),
        StreamMessage::StoreRequest(request) => Body::StoreRequest(encode_request(request)),
        StreamMessage::StoreClaim(claim) => Body::StoreClaim(encode_claim(claim)),
        StreamMessage::StoreChunk(chunk) => {
            payload = chunk.sealed.clone();
            Body::StoreChunk(encode_chunk(chunk))
        }
        StreamMessage::StoreAck(ack) => Body::StoreAck(encode_ack(ack)),
        StreamMessage::StoreReject(reject) => Body::StoreReject(proto::StoreReject {
            batch: bytes(reject.batch.as_bytes()),
            id: bytes(reject.id.as_bytes()),
            reason: u32::from(reject.reason as u8),
        }),
        StreamMessage::Retrieve(retrieve) => Body::Retrieve(proto::Retrieve {
            request: retrieve.request,
            id: bytes(retrieve.id.as_bytes()),
            nonce: bytes(&retrieve.nonce),
            proof: bytes(&retrieve.proof),
        }),
        StreamMessage::ChunkData(data) => {
            payload = data.sealed.clone();
            Body::ChunkData(proto::ChunkData {
                request: data.request,
                header: bytes(&data.header.encode()),
            })
        }
        StreamMessage::RetrieveReject(reject) => Body::RetrieveReject(proto::RetrieveReject {
            request: reject.request,
            reason: u32::from(reject.reason as u8),
        }),
        StreamMessage::StoreHead(store) => {
            payload = store.record.clone();
            Body::StoreHead(head::encode_store(store))
        }
        StreamMessage::HeadGet(get) => Body::HeadGet(head::encode_get(get)),
        StreamMessage::HeadData(data) => {
            payload = head::data_payload(data);
            Body::HeadData(proto::HeadData { request: data.request })
        }
        StreamMessage::AccountRequest(asked) => {
            let (message, ids) = account::encode_request(asked);
            payload = ids;
            Body::AccountRequest(message)
        }
        StreamMessage::AccountAnswer(answer) => {
            let (message, kept) = account::encode_answer(answer);
            payload = kept;
            Body::AccountAnswer(message)
        }
        StreamMessage::Release(release) => Body::Release(account::encode_release(release)),
        StreamMessage::ReleaseAnswer(answer) => {
            Body::ReleaseAnswer(account::encode_release_answer(answer))
        }
        StreamMessage::ChunkNotice(notice) => Body::ChunkNotice(account::encode_notice(notice)),
        StreamMessage::StandingRequest(asked) => {
            Body::StandingRequest(standing::encode_request(asked))
        }
        StreamMessage::StandingAnswer(answer) => {
            Body::StandingAnswer(standing::encode_answer(answer))
        }
    };
    (proto::StreamMessage { version: VERSION, body: Some(body) }, payload)
}

/// Whether messages of this kind have a payload; each then checks its own.
fn carries(body: &Body) -> bool {
    matches!(
        body,
        Body::StoreChunk(_)
            | Body::ChunkData(_)
            | Body::StoreHead(_)
            | Body::HeadData(_)
            | Body::AccountRequest(_)
            | Body::AccountAnswer(_)
    )
}

pub(super) fn decode(
    message: proto::StreamMessage,
    payload: Bytes,
) -> Result<StreamMessage, Reject> {
    let body = message.body.ok_or(Reject::Malformed)?;
    ensure(carries(&body) || payload.is_empty())?;
    Ok(match body {
        Body::Hello(hello) => StreamMessage::Hello(decode_hello(hello)?),
        Body::StoreRequest(request) => StreamMessage::StoreRequest(decode_request(request)?),
        Body::StoreClaim(claim) => {
            ensure(claim.contact.is_none())?;
            StreamMessage::StoreClaim(decode_claim(claim)?)
        }
        Body::StoreChunk(chunk) => StreamMessage::StoreChunk(decode_chunk(chunk, payload)?),
        Body::StoreAck(ack) => StreamMessage::StoreAck(decode_ack(ack)?),
        Body::StoreReject(reject) => StreamMessage::StoreReject(StoreReject {
            batch: BatchId::from_bytes(array(&reject.batch)?),
            id: ChunkId::from_bytes(array(&reject.id)?),
            reason: store_refusal(reject.reason)?,
        }),
        Body::Retrieve(retrieve) => StreamMessage::Retrieve(Retrieve {
            request: retrieve.request,
            id: ChunkId::from_bytes(array(&retrieve.id)?),
            nonce: array(&retrieve.nonce)?,
            proof: array(&retrieve.proof)?,
        }),
        Body::ChunkData(data) => StreamMessage::ChunkData(ChunkData {
            request: data.request,
            header: decode_header(&data.header, &payload)?,
            sealed: payload,
        }),
        Body::RetrieveReject(reject) => StreamMessage::RetrieveReject(RetrieveReject {
            request: reject.request,
            reason: retrieve_refusal(reject.reason)?,
        }),
        Body::StoreHead(store) => StreamMessage::StoreHead(head::decode_store(store, payload)?),
        Body::HeadGet(get) => StreamMessage::HeadGet(head::decode_get(get)?),
        Body::HeadData(data) => StreamMessage::HeadData(head::decode_data(data, payload)?),
        Body::AccountRequest(asked) => {
            StreamMessage::AccountRequest(account::decode_request(asked, payload)?)
        }
        Body::AccountAnswer(answer) => {
            StreamMessage::AccountAnswer(account::decode_answer(answer, payload)?)
        }
        Body::Release(release) => StreamMessage::Release(account::decode_release(release)?),
        Body::ReleaseAnswer(answer) => {
            StreamMessage::ReleaseAnswer(account::decode_release_answer(answer)?)
        }
        Body::ChunkNotice(notice) => StreamMessage::ChunkNotice(account::decode_notice(notice)?),
        Body::StandingRequest(asked) => {
            StreamMessage::StandingRequest(standing::decode_request(asked)?)
        }
        Body::StandingAnswer(answer) => {
            StreamMessage::StandingAnswer(standing::decode_answer(answer)?)
        }
    })
}

/// A header, whose sealed length must be the payload's.
fn decode_header(header: &[u8], payload: &Bytes) -> Result<Header, Reject> {
    let header = Header::decode(header).map_err(|_| Reject::Malformed)?;
    ensure(u64::from(header.sealed_bytes) == payload.len() as u64)?;
    Ok(header)
}

fn encode_chunk(chunk: &StoreChunk) -> proto::StoreChunk {
    proto::StoreChunk {
        batch: bytes(chunk.batch.as_bytes()),
        account: bytes(chunk.account.as_bytes()),
        header: bytes(&chunk.header.encode()),
        terms: encode_terms(&chunk.terms),
        nonce: bytes(&chunk.nonce),
        proof: bytes(&chunk.proof),
        seed: bytes(&chunk.seed),
        tags: chunk.tags.clone(),
    }
}

fn decode_chunk(chunk: proto::StoreChunk, payload: Bytes) -> Result<Box<StoreChunk>, Reject> {
    ensure(chunk.tags.len() == tags_bytes(payload.len()))?;
    Ok(Box::new(StoreChunk {
        batch: BatchId::from_bytes(array(&chunk.batch)?),
        account: Account::from_bytes(array(&chunk.account)?),
        terms: decode_terms(chunk.terms)?,
        nonce: array(&chunk.nonce)?,
        proof: array(&chunk.proof)?,
        seed: array(&chunk.seed)?,
        tags: chunk.tags,
        header: decode_header(&chunk.header, &payload)?,
        sealed: payload,
    }))
}

fn encode_ack(ack: &StoreAck) -> proto::StoreAck {
    let acked = |chunk: &AckedChunk| proto::AckedChunk {
        id: bytes(chunk.id.as_bytes()),
        lease: bytes(chunk.lease.as_bytes()),
        receipt: bytes(&chunk.receipt),
    };
    proto::StoreAck {
        batch: bytes(ack.batch.as_bytes()),
        account: bytes(ack.account.as_bytes()),
        epoch: bytes(ack.epoch.as_bytes()),
        terms: encode_terms(&ack.terms),
        chunks: ack.chunks.iter().map(acked).collect(),
        signature: bytes(&ack.signature),
    }
}

fn decode_ack(ack: proto::StoreAck) -> Result<StoreAck, Reject> {
    ensure(ack.chunks.len() <= OFFERS_MAX)?;
    let acked = |chunk: &proto::AckedChunk| {
        Ok(AckedChunk {
            id: ChunkId::from_bytes(array(&chunk.id)?),
            lease: LeaseNonce::from_bytes(array(&chunk.lease)?),
            receipt: array(&chunk.receipt)?,
        })
    };
    let chunks = ack.chunks.iter().map(acked).collect::<Result<Vec<_>, _>>()?;
    distinct(chunks.iter().map(|chunk| chunk.id), OFFERS_MAX)?;
    Ok(StoreAck {
        batch: BatchId::from_bytes(array(&ack.batch)?),
        account: Account::from_bytes(array(&ack.account)?),
        epoch: StoreEpoch::from_bytes(array(&ack.epoch)?),
        terms: decode_terms(ack.terms)?,
        chunks,
        signature: array(&ack.signature)?,
    })
}

fn store_refusal(reason: u32) -> Result<StoreRefusal, Reject> {
    Ok(match reason {
        1 => StoreRefusal::Full,
        2 => StoreRefusal::Busy,
        3 => StoreRefusal::Invalid,
        4 => StoreRefusal::Failed,
        5 => StoreRefusal::Unwilling,
        6 => StoreRefusal::OverQuota,
        7 => StoreRefusal::Superseded,
        8 => StoreRefusal::TooManyHeads,
        _ => return Err(Reject::Malformed),
    })
}

fn retrieve_refusal(reason: u32) -> Result<RetrieveRefusal, Reject> {
    Ok(match reason {
        1 => RetrieveRefusal::NotHeld,
        2 => RetrieveRefusal::Busy,
        3 => RetrieveRefusal::Damaged,
        _ => return Err(Reject::Malformed),
    })
}
