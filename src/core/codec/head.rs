//! Messages about heads. Records are cut to their length and not looked at.

use super::field::{array, bytes, decode_terms, encode_terms, ensure};
use super::{HEAD_RECORDS_MAX, Reject};
use crate::core::message::{HeadData, HeadGet, StoreHead};
use crate::core::types::{Account, BatchId, ChunkId};
use crate::crypto::head::HEAD_RECORD_BYTES;
use crate::proto;
use bytes::Bytes;

pub(super) fn encode_store(head: &StoreHead) -> proto::StoreHead {
    proto::StoreHead {
        batch: bytes(head.batch.as_bytes()),
        account: bytes(head.account.as_bytes()),
        terms: encode_terms(&head.terms),
        nonce: bytes(&head.nonce),
        proof: bytes(&head.proof),
        seed: bytes(&head.seed),
    }
}

pub(super) fn decode_store(head: proto::StoreHead, record: Bytes) -> Result<StoreHead, Reject> {
    ensure(record.len() == HEAD_RECORD_BYTES)?;
    Ok(StoreHead {
        batch: BatchId::from_bytes(array(&head.batch)?),
        account: Account::from_bytes(array(&head.account)?),
        terms: decode_terms(head.terms)?,
        nonce: array(&head.nonce)?,
        proof: array(&head.proof)?,
        seed: array(&head.seed)?,
        record,
    })
}

pub(super) fn encode_get(get: &HeadGet) -> proto::HeadGet {
    proto::HeadGet {
        request: get.request,
        id: bytes(get.id.as_bytes()),
        nonce: bytes(&get.nonce),
        proof: bytes(&get.proof),
        superseded: get.superseded.into(),
    }
}

pub(super) fn decode_get(get: proto::HeadGet) -> Result<HeadGet, Reject> {
    let superseded = u8::try_from(get.superseded).map_err(|_| Reject::Malformed)?;
    ensure(usize::from(superseded) < HEAD_RECORDS_MAX)?;
    Ok(HeadGet {
        request: get.request,
        id: ChunkId::from_bytes(array(&get.id)?),
        nonce: array(&get.nonce)?,
        proof: array(&get.proof)?,
        superseded,
    })
}

/// The records end to end.
pub(super) fn data_payload(data: &HeadData) -> Bytes {
    data.records.concat().into()
}

pub(super) fn decode_data(data: proto::HeadData, payload: Bytes) -> Result<HeadData, Reject> {
    let count = payload.len() / HEAD_RECORD_BYTES;
    ensure((1..=HEAD_RECORDS_MAX).contains(&count))?;
    ensure(payload.len() == count * HEAD_RECORD_BYTES)?;
    let record = |at: usize| payload.slice(at * HEAD_RECORD_BYTES..(at + 1) * HEAD_RECORD_BYTES);
    Ok(HeadData { request: data.request, records: (0..count).map(record).collect() })
}
