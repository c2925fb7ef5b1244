//! What holders say of damage without being asked.
//!
//! A holder may tell of chunks of the owner's account that it found damaged, once it was asked
//! about that account in this connection. Such a notice is a word: whoever asks for it has the
//! chunks audited, and counts what that comes to.
//!
//! Bounds: [`NOTICES_MAX`] from a node in [`WINDOW`]; one entry for each connected node that was
//! asked.

use super::OwnerEvent;
use super::shared::Shared;
use crate::core::codec::Reject;
use crate::core::message::ChunkNotice;
use crate::core::types::{NodeId, Time};
use std::collections::BTreeMap;
use std::time::Duration;

/// Notices from one node in a [`WINDOW`]. Above: dropped ([`Reject::RateLimited`]). An honest
/// holder sends one every ten seconds.
pub(super) const NOTICES_MAX: u32 = 12;

/// See [`NOTICES_MAX`].
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// Who may tell, and how many it told since when.
#[derive(Debug, Default)]
pub(super) struct NoticeFlow {
    asked: BTreeMap<NodeId, (Time, u32)>,
}

impl NoticeFlow {
    /// A question about the account goes to this node.
    pub(super) fn on_asked(&mut self, now: Time, node: NodeId) {
        self.asked.entry(node).or_insert((now, 0));
    }

    pub(super) fn on_peer_down(&mut self, node: &NodeId) {
        self.asked.remove(node);
    }

    pub(super) fn on_notice(
        &mut self,
        now: Time,
        shared: &mut Shared,
        from: NodeId,
        notice: ChunkNotice,
    ) {
        match self.check(now, shared, &from, &notice) {
            Ok(()) => shared.report(OwnerEvent::Noticed { holder: from, ids: notice.ids }),
            Err(reason) => shared.reject(from, reason),
        }
    }

    fn check(
        &mut self,
        now: Time,
        shared: &Shared,
        from: &NodeId,
        notice: &ChunkNotice,
    ) -> Result<(), Reject> {
        let (since, count) = self.asked.get_mut(from).ok_or(Reject::Unsolicited)?;
        if now.since(*since) >= WINDOW {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        if *count > NOTICES_MAX {
            return Err(Reject::RateLimited);
        }
        let agreement = shared.peers.hello(from).ok_or(Reject::Unsolicited)?.agreement;
        let secret = shared.keys.account(from);
        if secret.account() != notice.account {
            return Err(Reject::Unsolicited);
        }
        let pair = secret.pair_key(from, &agreement).ok_or(Reject::BadProof)?;
        let between = (shared.mesh, *from, shared.node);
        if notice.verify(between, &pair) { Ok(()) } else { Err(Reject::BadProof) }
    }
}
