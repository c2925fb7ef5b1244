//! Questions to one holder about the owner's account there, over the drive loop: what it keeps, how
//! it is with some chunks, to prove these, and letting chunks go. Questions to several holders may
//! run at once.
//!
//! What the answers amount to is for whoever asks to decide.

use super::inner::Inner;
use super::jobs::{DriveCommand, JobEvents};
use crate::core::audit::Question;
use crate::core::message::{AuditKind, Audited, ChunkState, ListedChunk};
use crate::core::owner::{
    AccountDone, AccountFailure, AccountJob, AccountWish, OwnerEvent, ReleaseWish,
};
use crate::core::types::{ChunkId, LeaseNonce, NodeId, StoreEpoch, Ticket, Time};
use crate::crypto::audit::MacKey;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a holder may take with one question, dials and busy times included. It looks nothing
/// up but its catalogue for any of them.
const PATIENCE: Duration = Duration::from_secs(30);

/// Events of one question: there is one.
const EVENTS_OF_A_QUESTION: usize = 1;

/// One page of what a holder keeps for the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListedPage {
    /// The store that speaks.
    pub(super) epoch: StoreEpoch,
    /// Whether there is more behind the last one; then there is a last one.
    pub(super) more: bool,
    /// Ids ascending, all above the one asked for.
    pub(super) chunks: Vec<ListedChunk>,
}

/// How it is with chunks at a holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueriedPage {
    /// The store that speaks.
    pub(super) epoch: StoreEpoch,
    /// One for each id, in its order; the lease is zeros where the chunk is not held.
    pub(super) chunks: Vec<(ChunkState, LeaseNonce)>,
}

/// Why a holder's answer is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(super) enum AccountError {
    /// Not connected and not to be dialed, or silent.
    #[error("the holder cannot be reached")]
    Unreachable,
    /// It has no such account, it says.
    #[error("the holder says that it keeps nothing for this owner")]
    NoAccount,
    /// All the time.
    #[error("the holder is too busy")]
    Busy,
    /// Its answer does not hold.
    #[error("the holder's answer does not hold")]
    Forged,
    /// Nothing was sent.
    #[error("this device does not have the delete key")]
    NoDeleteKey,
    /// Out of bounds, or a proof that the holder does not take.
    #[error("the holder does not take the request")]
    Invalid,
    /// The node is being shut down.
    #[error("the node is being shut down")]
    Stopped,
}

impl From<AccountFailure> for AccountError {
    fn from(failure: AccountFailure) -> Self {
        match failure {
            AccountFailure::Unreachable => Self::Unreachable,
            AccountFailure::NoAccount => Self::NoAccount,
            AccountFailure::Busy => Self::Busy,
            AccountFailure::Forged => Self::Forged,
            AccountFailure::NoDeleteKey => Self::NoDeleteKey,
            AccountFailure::Invalid => Self::Invalid,
        }
    }
}

/// Which chunks of ours a holder keeps: a page of at most `limit` (1 to 4,096) ids above `after`;
/// zeros for the first page. A holder can make its list as long as it likes: who knows which chunks
/// are meant asks for these, see [`query`].
///
/// # Errors
/// See [`AccountError`].
pub(super) async fn list_mine(
    inner: &Inner,
    holder: NodeId,
    after: ChunkId,
    limit: u32,
) -> Result<ListedPage, AccountError> {
    match ask(inner, holder, AccountWish::List { after, limit }).await? {
        AccountDone::Listed { epoch, more, chunks } => Ok(ListedPage { epoch, more, chunks }),
        _ => Err(AccountError::Forged),
    }
}

/// How it is with these chunks of ours at a holder: 1 to 4,096, all different.
///
/// # Errors
/// See [`AccountError`].
pub(super) async fn query(
    inner: &Inner,
    holder: NodeId,
    ids: Vec<ChunkId>,
) -> Result<QueriedPage, AccountError> {
    match ask(inner, holder, AccountWish::Query(ids)).await? {
        AccountDone::Queried { epoch, chunks } => Ok(QueriedPage { epoch, chunks }),
        _ => Err(AccountError::Forged),
    }
}

/// Lets chunks go at a holder, or with `undo` takes that back: 1 to 256, all different. Returns how
/// it is with each now, in the order of `items`: an item whose lease is not the one held changed
/// nothing.
///
/// # Errors
/// See [`AccountError`]; where the holder fell silent, some may be released all the same.
pub(super) async fn release(
    inner: &Inner,
    holder: NodeId,
    undo: bool,
    items: Vec<ReleaseWish>,
) -> Result<Vec<ChunkState>, AccountError> {
    #[cfg(test)]
    if inner.unheard.lock().unwrap_or_else(std::sync::PoisonError::into_inner).contains(&holder) {
        return Err(AccountError::Unreachable);
    }
    match ask(inner, holder, AccountWish::Release { undo, items }).await? {
        AccountDone::Released(states) => Ok(states),
        _ => Err(AccountError::Forged),
    }
}

/// What a holder answers to an audit: nothing of it is checked but that it answers the question.
#[derive(Debug)]
pub(super) struct AuditedPage {
    /// The store that speaks.
    pub(super) epoch: StoreEpoch,
    /// One for each id, in its order, and the proof.
    pub(super) audited: Audited,
    /// Of what MACs are made, where these were asked for.
    pub(super) key: Option<MacKey>,
    /// Bytes of question and answer.
    pub(super) moved: u64,
}

/// Has a holder prove that it keeps these chunks of ours. It may take as long as it says that it is
/// at it.
///
/// # Errors
/// See [`AccountError`].
pub(super) async fn audit(
    inner: &Inner,
    holder: NodeId,
    kind: AuditKind,
    Question { seed, ids }: &Question,
) -> Result<AuditedPage, AccountError> {
    let wish = AccountWish::Audit { kind, seed: *seed, ids: ids.clone() };
    match ask(inner, holder, wish).await? {
        AccountDone::Audited { epoch, audited, key, moved } => {
            Ok(AuditedPage { epoch, audited, key, moved })
        }
        _ => Err(AccountError::Forged),
    }
}

async fn ask(
    inner: &Inner,
    holder: NodeId,
    wish: AccountWish,
) -> Result<AccountDone, AccountError> {
    // The drive loop sets both.
    let (ticket, deadline) = (Ticket(0), Time::default());
    let job = AccountJob { ticket, holder, wish, deadline };
    let (sender, mut heard) = mpsc::channel(EVENTS_OF_A_QUESTION);
    let events = JobEvents::new(sender, 0);
    let command = DriveCommand::Account { job, events, patience: PATIENCE };
    inner.accounts.send(command).await.map_err(|_| AccountError::Stopped)?;
    while let Some((_, event)) = heard.recv().await {
        if let OwnerEvent::Account { outcome, .. } = event {
            return outcome.map_err(AccountError::from);
        }
    }
    Err(AccountError::Stopped)
}
