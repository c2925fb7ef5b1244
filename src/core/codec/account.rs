//! Messages about accounts. Lists of chunks are payloads of fixed records, too long for a frame's
//! head; their number is checked before anything is made of them.

use super::field::{array, bytes, distinct, ensure};
use super::{ACCOUNT_CHUNKS_MAX, NOTICE_CHUNKS_MAX, RELEASES_MAX, Reject};
use crate::core::message::{
    AccountAnswer, AccountAsk, AccountPage, AccountRefusal, AccountRequest, AuditKind, AuditState,
    Audited, AuditedChunk, ChunkNotice, ChunkState, KeptChunks, ListedChunk, Release,
    ReleaseAnswer, ReleaseItem, ReleaseRefusal,
};
use crate::core::types::{Account, CHUNK_SEALED_BYTES_MAX, ChunkId, LeaseNonce, StoreEpoch};
use crate::crypto::account::AccountOperation;
use crate::crypto::audit::{BLOCK_BYTES, PROOF_BYTES};
use crate::crypto::seal::SEAL_OVERHEAD_BYTES;
use crate::proto;
use bytes::Bytes;

/// One chunk of a list: id, lease nonce, sealed bytes, state, seconds.
const LISTED_BYTES: usize = 32 + 16 + 4 + 1 + 4;

/// One chunk of a query's answer: state, lease nonce, seconds.
const QUERIED_BYTES: usize = 1 + 16 + 4;

/// Blocks of the largest chunk: 1,171.
const BLOCKS_MAX: usize = (CHUNK_SEALED_BYTES_MAX as usize).div_ceil(BLOCK_BYTES);

/// Bytes of the proof of one chunk in a MAC audit.
const MAC_BYTES: usize = 32;

pub(super) fn encode_request(asked: &AccountRequest) -> (proto::AccountRequest, Bytes) {
    let (after, limit) = asked.ask.page();
    let message = proto::AccountRequest {
        request: asked.request,
        operation: asked.ask.operation() as u32,
        account: bytes(asked.account.as_bytes()),
        nonce: bytes(&asked.nonce),
        after: bytes(&after),
        limit,
        mac: bytes(&asked.mac),
    };
    (message, asked.ask.payload().into())
}

pub(super) fn decode_request(
    asked: proto::AccountRequest,
    payload: Bytes,
) -> Result<AccountRequest, Reject> {
    let after = array(&asked.after)?;
    let ask = match operation(asked.operation)? {
        AccountOperation::ListMine => {
            ensure(payload.is_empty())?;
            let limit = usize::try_from(asked.limit).map_err(|_| Reject::Malformed)?;
            ensure((1..=ACCOUNT_CHUNKS_MAX).contains(&limit))?;
            AccountAsk::ListMine { after: ChunkId::from_bytes(after), limit: asked.limit }
        }
        AccountOperation::Query => {
            ensure(after == [0; 32] && asked.limit == 0)?;
            AccountAsk::Query(ids(&payload)?)
        }
        AccountOperation::AuditCompact => {
            ensure(after == [0; 32] && asked.limit == 0)?;
            AccountAsk::Audit { kind: AuditKind::Compact, ids: ids(&payload)? }
        }
        AccountOperation::AuditMac => {
            ensure(after == [0; 32] && asked.limit == 0)?;
            AccountAsk::Audit { kind: AuditKind::Mac, ids: ids(&payload)? }
        }
    };
    Ok(AccountRequest {
        request: asked.request,
        account: Account::from_bytes(array(&asked.account)?),
        nonce: array(&asked.nonce)?,
        ask,
        mac: array(&asked.mac)?,
    })
}

pub(super) fn encode_answer(answer: &AccountAnswer) -> (proto::AccountAnswer, Bytes) {
    let request = answer.request;
    match &answer.outcome {
        Err(refusal) => {
            let refusal = *refusal as u32;
            (proto::AccountAnswer { request, refusal, ..Default::default() }, Bytes::new())
        }
        Ok(page) => {
            let message = proto::AccountAnswer {
                request,
                operation: page.kept.operation() as u32,
                epoch: bytes(page.epoch.as_bytes()),
                more: page.more,
                mac: bytes(&page.mac),
                refusal: 0,
            };
            (message, page.kept.payload().into())
        }
    }
}

pub(super) fn decode_answer(
    answer: proto::AccountAnswer,
    payload: Bytes,
) -> Result<AccountAnswer, Reject> {
    let proto::AccountAnswer { request, refusal, .. } = answer;
    if refusal != 0 {
        // Nothing else is said, so that a refusal has one form.
        let bare = proto::AccountAnswer { request, refusal, ..Default::default() };
        ensure(answer == bare && payload.is_empty())?;
        return Ok(AccountAnswer { request, outcome: Err(account_refusal(refusal)?) });
    }
    let kept = match operation(answer.operation)? {
        AccountOperation::ListMine => {
            let chunks = listed(&payload)?;
            // Whoever goes on behind the last one would ask for the same page for ever.
            ensure(!answer.more || !chunks.is_empty())?;
            KeptChunks::Listed(chunks)
        }
        AccountOperation::Query => {
            ensure(!answer.more)?;
            KeptChunks::Queried(queried(&payload)?)
        }
        AccountOperation::AuditCompact => {
            ensure(!answer.more)?;
            KeptChunks::Audited(audited(AuditKind::Compact, &payload)?)
        }
        AccountOperation::AuditMac => {
            ensure(!answer.more)?;
            KeptChunks::Audited(audited(AuditKind::Mac, &payload)?)
        }
    };
    let page = AccountPage {
        epoch: StoreEpoch::from_bytes(array(&answer.epoch)?),
        more: answer.more,
        kept,
        mac: array(&answer.mac)?,
    };
    Ok(AccountAnswer { request, outcome: Ok(page) })
}

/// 1 to [`ACCOUNT_CHUNKS_MAX`] ids, all different.
fn ids(payload: &[u8]) -> Result<Vec<ChunkId>, Reject> {
    let ids = records::<32>(payload)?.iter().map(|id| ChunkId::from_bytes(*id));
    distinct(ids.clone(), ACCOUNT_CHUNKS_MAX)?;
    Ok(ids.collect())
}

/// The proof is as long as what is said to be proven takes, and is not looked at here.
fn audited(kind: AuditKind, payload: &Bytes) -> Result<Audited, Reject> {
    let mut rest = payload.as_ref();
    let count = usize::from(u16::from_le_bytes(take(&mut rest)?));
    ensure((1..=ACCOUNT_CHUNKS_MAX).contains(&count))?;
    let chunks = (0..count).map(|_| audited_chunk(&mut rest)).collect::<Result<Vec<_>, _>>()?;
    let proof = payload.slice(payload.len().saturating_sub(rest.len())..);
    let audited = Audited { kind, chunks, proof };
    let proven = audited.proven();
    let proof_bytes = match kind {
        AuditKind::Compact if proven == 0 => 0,
        AuditKind::Compact => PROOF_BYTES,
        AuditKind::Mac => proven * MAC_BYTES,
    };
    ensure(audited.proof.len() == proof_bytes)?;
    Ok(audited)
}

fn audited_chunk(rest: &mut &[u8]) -> Result<AuditedChunk, Reject> {
    let [state] = take(rest)?;
    let state = match state {
        0 => AuditState::NotHeld,
        1 => AuditState::Proven,
        2 => AuditState::Released,
        3 => AuditState::Damaged,
        _ => return Err(Reject::Malformed),
    };
    let blocks = u16::from_le_bytes(take(rest)?);
    ensure(match state {
        AuditState::Proven => (1..=BLOCKS_MAX).contains(&usize::from(blocks)),
        _ => blocks == 0,
    })?;
    Ok(AuditedChunk { state, blocks })
}

/// Ids strictly ascend, so that a page can be gone on from and none stands twice.
fn listed(payload: &[u8]) -> Result<Vec<ListedChunk>, Reject> {
    let mut chunks: Vec<ListedChunk> = Vec::new();
    for record in records::<LISTED_BYTES>(payload)? {
        let mut rest = record.as_slice();
        let chunk = ListedChunk {
            id: ChunkId::from_bytes(take(&mut rest)?),
            lease: LeaseNonce::from_bytes(take(&mut rest)?),
            sealed_bytes: u32::from_le_bytes(take(&mut rest)?),
            state: state(&mut rest)?,
        };
        let ascends = chunks.last().is_none_or(|last| last.id < chunk.id);
        let least = SEAL_OVERHEAD_BYTES as u32;
        ensure(ascends && chunk.state != ChunkState::NotHeld)?;
        ensure(chunk.sealed_bytes > least && chunk.sealed_bytes <= CHUNK_SEALED_BYTES_MAX)?;
        chunks.push(chunk);
    }
    Ok(chunks)
}

fn queried(payload: &[u8]) -> Result<Vec<(ChunkState, LeaseNonce)>, Reject> {
    let records = records::<QUERIED_BYTES>(payload)?;
    ensure(!records.is_empty())?;
    let decode = |record: &[u8; QUERIED_BYTES]| {
        let mut rest = record.as_slice();
        let [number] = take(&mut rest)?;
        let lease: [u8; 16] = take(&mut rest)?;
        let due_s = u32::from_le_bytes(take(&mut rest)?);
        let state = ChunkState::decode(number.into(), due_s).ok_or(Reject::Malformed)?;
        ensure(state != ChunkState::NotHeld || lease == [0; 16])?;
        Ok((state, LeaseNonce::from_bytes(lease)))
    };
    records.iter().map(decode).collect()
}

/// State and seconds, one behind the other.
fn state(rest: &mut &[u8]) -> Result<ChunkState, Reject> {
    let [number] = take(rest)?;
    let due_s = u32::from_le_bytes(take(rest)?);
    ChunkState::decode(number.into(), due_s).ok_or(Reject::Malformed)
}

/// A payload as whole records, at most [`ACCOUNT_CHUNKS_MAX`] of them.
fn records<const N: usize>(payload: &[u8]) -> Result<&[[u8; N]], Reject> {
    let (records, rest) = payload.as_chunks::<N>();
    ensure(rest.is_empty() && records.len() <= ACCOUNT_CHUNKS_MAX)?;
    Ok(records)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Reject> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(Reject::Malformed)?;
    *rest = tail;
    Ok(*head)
}

pub(super) fn encode_release(release: &Release) -> proto::Release {
    let item = |item: &ReleaseItem| proto::ReleasedChunk {
        id: bytes(item.id.as_bytes()),
        lease: bytes(item.lease.as_bytes()),
        proof: bytes(&item.proof),
    };
    proto::Release {
        request: release.request,
        undo: release.undo,
        nonce: bytes(&release.nonce),
        items: release.items.iter().map(item).collect(),
    }
}

pub(super) fn decode_release(release: proto::Release) -> Result<Release, Reject> {
    ensure(release.items.len() <= RELEASES_MAX)?;
    let item = |item: &proto::ReleasedChunk| {
        Ok(ReleaseItem {
            id: ChunkId::from_bytes(array(&item.id)?),
            lease: LeaseNonce::from_bytes(array(&item.lease)?),
            proof: array(&item.proof)?,
        })
    };
    let items = release.items.iter().map(item).collect::<Result<Vec<_>, _>>()?;
    distinct(items.iter().map(|item| item.id), RELEASES_MAX)?;
    let proto::Release { request, undo, nonce, .. } = release;
    Ok(Release { request, undo, nonce: array(&nonce)?, items })
}

pub(super) fn encode_release_answer(answer: &ReleaseAnswer) -> proto::ReleaseAnswer {
    let request = answer.request;
    match &answer.outcome {
        Err(refusal) => {
            proto::ReleaseAnswer { request, items: Vec::new(), refusal: *refusal as u32 }
        }
        Ok(states) => {
            let item = |state: &ChunkState| {
                let (state, due_s) = state.encode();
                proto::ChunkState { state: state.into(), due_s }
            };
            proto::ReleaseAnswer { request, items: states.iter().map(item).collect(), refusal: 0 }
        }
    }
}

pub(super) fn decode_release_answer(answer: proto::ReleaseAnswer) -> Result<ReleaseAnswer, Reject> {
    let proto::ReleaseAnswer { request, items, refusal } = answer;
    if refusal != 0 {
        ensure(items.is_empty())?;
        return Ok(ReleaseAnswer { request, outcome: Err(release_refusal(refusal)?) });
    }
    ensure((1..=RELEASES_MAX).contains(&items.len()))?;
    let state = |item: &proto::ChunkState| {
        ChunkState::decode(item.state, item.due_s).ok_or(Reject::Malformed)
    };
    let states = items.iter().map(state).collect::<Result<Vec<_>, _>>()?;
    Ok(ReleaseAnswer { request, outcome: Ok(states) })
}

pub(super) fn encode_notice(notice: &ChunkNotice) -> proto::ChunkNotice {
    let (state, _) = ChunkState::Damaged.encode();
    proto::ChunkNotice {
        account: bytes(notice.account.as_bytes()),
        ids: notice.ids.iter().map(|id| bytes(id.as_bytes())).collect(),
        state: state.into(),
        mac: bytes(&notice.mac),
    }
}

pub(super) fn decode_notice(notice: proto::ChunkNotice) -> Result<ChunkNotice, Reject> {
    ensure(ChunkState::decode(notice.state, 0) == Some(ChunkState::Damaged))?;
    ensure(notice.ids.len() <= NOTICE_CHUNKS_MAX)?;
    let ids = notice.ids.iter().map(|id| Ok(ChunkId::from_bytes(array(id)?)));
    let ids = ids.collect::<Result<Vec<_>, _>>()?;
    distinct(ids.iter().copied(), NOTICE_CHUNKS_MAX)?;
    let (account, mac) = (Account::from_bytes(array(&notice.account)?), array(&notice.mac)?);
    Ok(ChunkNotice { account, ids, mac })
}

fn operation(number: u32) -> Result<AccountOperation, Reject> {
    match number {
        1 => Ok(AccountOperation::ListMine),
        2 => Ok(AccountOperation::Query),
        3 => Ok(AccountOperation::AuditCompact),
        4 => Ok(AccountOperation::AuditMac),
        _ => Err(Reject::Malformed),
    }
}

fn account_refusal(number: u32) -> Result<AccountRefusal, Reject> {
    match number {
        1 => Ok(AccountRefusal::NoAccount),
        2 => Ok(AccountRefusal::Busy),
        3 => Ok(AccountRefusal::Working),
        _ => Err(Reject::Malformed),
    }
}

fn release_refusal(number: u32) -> Result<ReleaseRefusal, Reject> {
    match number {
        1 => Ok(ReleaseRefusal::Invalid),
        2 => Ok(ReleaseRefusal::Busy),
        _ => Err(Reject::Malformed),
    }
}
