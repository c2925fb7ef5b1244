//! Asking holders: what they keep, to let it go, to take that back. All of them at once, each a
//! batch at a time; one that does not answer is away for the rest of the prune.

use super::tell::Teller;
use super::{Step, reached};
use crate::core::codec::{ACCOUNT_CHUNKS_MAX, RELEASES_MAX};
use crate::core::message::ChunkState;
use crate::core::owner::ReleaseWish;
use crate::core::types::{ChunkId, LeaseNonce, NodeId, StoreEpoch};
use crate::crypto::keys::{ChunkKey, DeleteKey};
use crate::net::{node_of_peer_id, peer_id_of};
use crate::node::account::{AccountError, query, release};
use crate::node::failures;
use crate::node::inner::Inner;
use crate::node::report::{Failure, PruneDone, PruneHolder};
use crate::repo::catalog::{ASKED_MAX, AWAITED_MAX, ChunkAcked, Entry, PruneNote};
use crate::repo::prunes::DeadChunk;
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The holders of one prune.
pub(super) struct Holders<'a> {
    inner: &'a Arc<Inner>,
    all: BTreeMap<NodeId, Holder>,
    /// By head, who may have chunks of the device that writes it.
    hinted: BTreeMap<u16, BTreeSet<NodeId>>,
    /// Chunks that some holder let go.
    released: BTreeSet<ChunkId>,
    /// Somebody was asked to let something go.
    has_asked: bool,
}

/// What one holder has of what may go.
#[derive(Debug, Default)]
struct Holder {
    /// The leases of chunks that it keeps, and how many bytes of files are in each.
    held: BTreeMap<ChunkId, (LeaseNonce, u64)>,
    away: bool,
    /// It was away, and may have some of it.
    is_missed: bool,
    chunks: u64,
    bytes: u64,
    delay_s: u32,
}

/// What one node said of chunks that are needed again.
#[derive(Debug, Default)]
pub(in crate::node) struct Back {
    /// It has them, by these leases, and lets them go no more.
    pub(in crate::node) live: Vec<(ChunkId, LeaseNonce, StoreEpoch)>,
    /// It still lets them go.
    pub(in crate::node) open: Vec<ChunkId>,
}

/// What taking back came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TakenBack {
    /// Chunks that nobody lets go any more, and that somebody has.
    pub(super) chunks: u64,
    /// Chunks that somebody may still let go who did not answer: they are asked for again.
    pub(super) open: usize,
    /// Chunks that nobody has any more, though all who were asked to let them go answered.
    pub(super) lost: usize,
}

impl<'a> Holders<'a> {
    pub(super) async fn new(inner: &'a Arc<Inner>) -> Self {
        let hinted = inner.repository.hinted(inner).await;
        let own = node_of_peer_id(&inner.net.snapshot().await.peer_id);
        let mut all = nodes(inner).await;
        all.extend(hinted.values().flatten().filter(|node| Some(**node) != own));
        let all = all.into_iter().map(|node| (node, Holder::default())).collect();
        Self { inner, all, hinted, released: BTreeSet::new(), has_asked: false }
    }

    /// Whether anybody may have let anything go.
    pub(super) fn has_asked(&self) -> bool {
        self.has_asked
    }

    /// Asks all of them what they keep of this: so many questions as that takes, whatever else they
    /// say that they have.
    ///
    /// # Errors
    /// The node stops.
    pub(super) async fn list(
        &mut self,
        dead: &[DeadChunk],
        teller: &Teller,
    ) -> Result<(), Failure> {
        teller.note("asking holders what they keep");
        let inner = self.inner;
        let listed = self.all.keys().map(|node| held(inner, *node, dead));
        let listed = join_all(listed).await;
        for (holder, listed) in self.all.values_mut().zip(listed) {
            match listed {
                Ok(held) => holder.held = held,
                // It keeps nothing: there is nothing to let go.
                Err(AccountError::NoAccount) => {}
                Err(AccountError::Stopped) => return Err(failures::stopped()),
                Err(_) => holder.away = true,
            }
        }
        Ok(())
    }

    /// Lets them go, a batch after the other: what leads to others comes last.
    ///
    /// # Errors
    /// The node stops, or its catalogue takes nothing.
    pub(super) async fn release(
        &mut self,
        dead: &[DeadChunk],
        delete: &DeleteKey,
        teller: &Teller,
    ) -> Result<(), Failure> {
        let total = self.all.values().flat_map(|holder| holder.held.values());
        let total: u64 = total.map(|(_, bytes)| *bytes).sum();
        self.note_asked()?;
        for batch in dead.chunks(RELEASES_MAX) {
            for dead in batch {
                let DeadChunk { id: chunk, ck, .. } = dead;
                let (awaited, asked) = (self.awaited(dead), self.asked(chunk).collect());
                let note = PruneNote::Doomed { chunk: *chunk, ck: ck.duplicate(), awaited, asked };
                self.inner.record(Entry::Prune(note))?;
            }
            self.inner.commit_catalog().await?;
            reached(self.inner, Step::Noted)?;
            self.has_asked = true;
            self.release_batch(batch, delete).await?;
            self.note_gone(batch)?;
            reached(self.inner, Step::Batch)?;
            let bytes = self.all.values().map(|holder| holder.bytes).sum();
            let chunks = u64::try_from(self.released.len()).unwrap_or(u64::MAX);
            teller.at(bytes, Some(total.max(bytes)), chunks, "letting go");
        }
        self.inner.commit_catalog().await
    }

    /// Who has this chunk, or may, of those whose acks are not known: whoever says so, and where no
    /// ack of anybody is known, as of another device's chunks, whoever is away. Where some are, an
    /// away node is not waited for without one: it may never come back, and all that is ever let go
    /// would be remembered for it. But for those that may have it because another device, whose
    /// snapshot named it, says that they keep something: what that one stored there is not known
    /// here, and it is no more than its snapshots named.
    fn awaited(&mut self, DeadChunk { id, of, .. }: &DeadChunk) -> Vec<NodeId> {
        let (acked_by, is_acked) = self.inner.with_catalog(|catalog| {
            let acked_by = catalog.holders_of(id);
            let is_acked = !acked_by.is_empty() || catalog.was_acked(id);
            (acked_by, is_acked)
        });
        let has = |holder: &Holder| holder.held.contains_key(id);
        let hinted = of.and_then(|of| self.hinted.get(&of));
        let is_hinted = |node: &NodeId| hinted.is_some_and(|hinted| hinted.contains(node));
        let may = |(node, holder): &(&NodeId, &Holder)| {
            holder.away && !has(holder) && (!is_acked || is_hinted(node))
        };
        let said = self.all.iter().filter(|(_, holder)| has(holder));
        let away = self.all.iter().filter(may);
        let all = said.chain(away).map(|(node, _)| *node);
        let awaited: Vec<NodeId> =
            all.filter(|node| !acked_by.contains(node)).take(AWAITED_MAX).collect();
        for node in &awaited {
            self.all.entry(*node).and_modify(|holder| holder.is_missed |= holder.away);
        }
        awaited
    }

    /// Who is asked to let this chunk go, and by which lease.
    fn asked(&self, id: &ChunkId) -> impl Iterator<Item = (NodeId, LeaseNonce)> {
        let there = self.all.iter().filter(|(_, holder)| !holder.away);
        let lease = |holder: &Holder| holder.held.get(id).map(|(lease, _)| *lease);
        let held = there.filter_map(move |(node, holder)| Some((*node, lease(holder)?)));
        held.take(ASKED_MAX)
    }

    /// Notes who is going to be asked, before anybody is.
    fn note_asked(&self) -> Result<(), Failure> {
        let before = self.inner.with_catalog(|catalog| catalog.asked().clone());
        let asked = self.all.iter().filter(|(_, holder)| !holder.away && !holder.held.is_empty());
        let mut new = asked.map(|(node, _)| *node).filter(|node| !before.contains(node));
        new.try_for_each(|node| self.inner.record(Entry::Prune(PruneNote::Asked(node))))
    }

    async fn release_batch(
        &mut self,
        batch: &[DeadChunk],
        delete: &DeleteKey,
    ) -> Result<(), Failure> {
        let inner = self.inner;
        let mut asked: BTreeMap<NodeId, Vec<ReleaseWish>> = BTreeMap::new();
        for DeadChunk { id, ck, .. } in batch {
            for (node, lease) in self.asked(id) {
                let lent = Some(delete.chunk_secret(&inner.keys.admin, ck));
                let wish = ReleaseWish { id: *id, ck: ck.duplicate(), lent, lease };
                asked.entry(node).or_default().push(wish);
            }
        }
        let answers = join_all(asked.into_iter().map(|(node, items)| async move {
            let ids: Vec<ChunkId> = items.iter().map(|item| item.id).collect();
            (node, ids, release(inner, node, false, items).await)
        }));
        for (node, ids, answer) in answers.await {
            let Some(holder) = self.all.get_mut(&node) else { continue };
            match answer {
                Ok(states) => {
                    for (id, state) in ids.into_iter().zip(states) {
                        if holder.let_go(&id, state) {
                            self.released.insert(id);
                        }
                    }
                }
                Err(AccountError::Stopped) => return Err(failures::stopped()),
                Err(_) => holder.away = true,
            }
        }
        Ok(())
    }

    /// Notes who does not have the chunks of a batch any more. Whoever still has them is asked by
    /// the next prune.
    fn note_gone(&self, batch: &[DeadChunk]) -> Result<(), Failure> {
        for DeadChunk { id, .. } in batch {
            for node in self.inner.with_catalog(|catalog| catalog.waiting_for(id)) {
                let holder = self.all.get(&node);
                if holder.is_some_and(|holder| !holder.away && !holder.held.contains_key(id)) {
                    let chunk = *id;
                    self.inner.record(Entry::Prune(PruneNote::LetGo { chunk, node }))?;
                }
            }
        }
        Ok(())
    }

    /// Takes the release of these back, and notes who has them. A chunk is spared once every node
    /// that was asked to let anything go has answered for it: one that did not may have let it go,
    /// or may be about to. Such a chunk is not waited for where it was stored again by as many
    /// `replicas` as are wanted; what that node says of it counts for nothing still. Of who has it
    /// only those are noted who acknowledged it before.
    ///
    /// # Errors
    /// The node stops, or its catalogue takes nothing.
    pub(super) async fn take_back(
        &mut self,
        needed: &[(ChunkId, ChunkKey)],
        replicas: u8,
        teller: &Teller,
    ) -> Result<TakenBack, Failure> {
        if needed.is_empty() {
            return Ok(TakenBack::default());
        }
        teller.note("taking back what a new snapshot needs");
        let inner = self.inner;
        let asked = inner.with_catalog(|catalog| catalog.asked().clone());
        for node in &asked {
            self.all.entry(*node).or_default();
        }
        let answers = self.all.keys().map(|node| {
            let was_asked = asked.contains(node);
            async move { (*node, was_asked, take_back(inner, *node, was_asked, needed).await) }
        });
        let mut live: BTreeMap<ChunkId, Vec<ChunkAcked>> = BTreeMap::new();
        let mut open = BTreeSet::new();
        for (node, was_asked, answer) in join_all(answers).await {
            match answer {
                Ok(back) => {
                    open.extend(back.open.into_iter().filter(|_| was_asked));
                    for (chunk, lease, epoch) in back.live {
                        let acked = ChunkAcked { chunk, node, lease, epoch };
                        live.entry(chunk).or_default().push(acked);
                    }
                }
                // It has nothing, and lets nothing go.
                Err(AccountError::NoAccount) => {}
                Err(AccountError::Stopped) => return Err(failures::stopped()),
                Err(_) if was_asked => open.extend(needed.iter().map(|(id, _)| *id)),
                // It was never asked to let anything go: there is nothing to take back.
                Err(_) => {}
            }
        }
        let mut came = TakenBack::default();
        for (id, _) in needed {
            let live = live.remove(id).unwrap_or_default();
            if open.contains(id) {
                came.open += usize::from(self.is_short(id, live, replicas)?);
            } else if self.spare(id, live)? {
                came.chunks += 1;
            } else {
                came.lost += 1;
            }
        }
        inner.commit_catalog().await?;
        Ok(came)
    }

    /// Notes who has a chunk that others may still let go. Returns whether they are too few.
    fn is_short(&self, id: &ChunkId, live: Vec<ChunkAcked>, replicas: u8) -> Result<bool, Failure> {
        let inner = self.inner;
        for ChunkAcked { chunk, node, .. } in live {
            let held = inner.with_catalog(|catalog| catalog.holders_of(id).contains(&node));
            if !held {
                inner.record(Entry::Prune(PruneNote::HeldAgain { chunk, node }))?;
            }
        }
        let held = inner.with_catalog(|catalog| catalog.holders_of(id).len());
        Ok(held < usize::from(replicas))
    }

    /// Notes that nobody lets this chunk go any more. Returns whether anybody has it whose word
    /// counts: who acknowledged it, or anybody where nobody did.
    fn spare(&mut self, id: &ChunkId, live: Vec<ChunkAcked>) -> Result<bool, Failure> {
        let inner = self.inner;
        let (was_acked, acks): (bool, Vec<ChunkAcked>) = inner.with_catalog(|catalog| {
            let had = |acked: &ChunkAcked| catalog.had_acked(id, &acked.node);
            (catalog.was_acked(id), live.iter().copied().filter(had).collect())
        });
        let is_there = if was_acked { !acks.is_empty() } else { !live.is_empty() };
        inner.record(Entry::Prune(PruneNote::Spared(*id)))?;
        acks.into_iter().try_for_each(|acked| inner.record(Entry::ChunkAcked(acked)))?;
        self.released.remove(id);
        Ok(is_there)
    }

    /// How many chunks some holder let go, and that were not taken back.
    pub(super) fn chunks_released(&self) -> u64 {
        u64::try_from(self.released.len()).unwrap_or(u64::MAX)
    }

    /// How many chunks some holder keeps.
    pub(super) fn chunks_held(&self) -> u64 {
        let all: BTreeSet<&ChunkId> =
            self.all.values().flat_map(|holder| holder.held.keys()).collect();
        u64::try_from(all.len()).unwrap_or(u64::MAX)
    }

    /// What they would let go of this.
    pub(super) fn would(&mut self, dead: &[DeadChunk], done: &mut PruneDone) {
        dead.iter().for_each(|dead| drop(self.awaited(dead)));
        for holder in self.all.values_mut() {
            holder.chunks = u64::try_from(holder.held.len()).unwrap_or(u64::MAX);
            holder.bytes = holder.held.values().map(|(_, bytes)| *bytes).sum();
        }
        self.did(done);
    }

    /// What they let go.
    pub(super) fn did(&self, done: &mut PruneDone) {
        for (node, holder) in &self.all {
            let peer_id = peer_id_of(node);
            let knows = || self.inner.with_catalog(|catalog| catalog.store_of(node)).is_some();
            // Who has none of it for all that is known is not missed.
            if holder.away && (holder.is_missed || knows()) {
                done.away.push(peer_id.clone());
            }
            if holder.chunks > 0 {
                let Holder { chunks, bytes, .. } = *holder;
                done.copies = done.copies.saturating_add(chunks);
                done.bytes = done.bytes.saturating_add(bytes);
                done.holders.push(PruneHolder { peer_id, chunks, bytes });
            }
            if holder.delay_s > 0 {
                done.delay_s = Some(done.delay_s.unwrap_or(0).max(holder.delay_s));
            }
        }
    }
}

impl Holder {
    /// Whether it let a chunk go that it kept until now.
    fn let_go(&mut self, id: &ChunkId, state: ChunkState) -> bool {
        let bytes = match state {
            ChunkState::Released { due_s } => {
                self.delay_s = self.delay_s.max(due_s);
                self.held.remove(id).map(|(_, bytes)| bytes)
            }
            ChunkState::NotHeld => {
                self.held.remove(id);
                None
            }
            // Another lease: it was stored again meanwhile.
            ChunkState::Live | ChunkState::Damaged => None,
        };
        self.chunks = self.chunks.saturating_add(u64::from(bytes.is_some()));
        self.bytes = self.bytes.saturating_add(bytes.unwrap_or(0));
        bytes.is_some()
    }
}

/// Who may have something: whoever acknowledged anything to this device, keeps heads of the owner,
/// was away when chunks were let go that it may have, or is connected.
async fn nodes(inner: &Inner) -> BTreeSet<NodeId> {
    // This node asks itself for nothing.
    let own = node_of_peer_id(&inner.net.snapshot().await.peer_id);
    let stores = inner.with_catalog(|catalog| {
        let stores = catalog.stores().into_iter().map(|(node, _)| node);
        stores.chain(catalog.awaited().copied()).collect::<Vec<_>>()
    });
    let mut nodes = inner.repository.head_holders(inner);
    nodes.extend(stores);
    nodes.extend(inner.shared.watch_peers().borrow().iter().copied());
    nodes.retain(|node| Some(*node) != own);
    nodes
}

/// Those of these chunks that nobody has: somebody is known who may, and all of them say so. What
/// they were asked to let go they have until it is destroyed.
///
/// # Errors
/// The node stops.
pub(super) async fn nowhere(
    inner: &Inner,
    ids: BTreeSet<ChunkId>,
) -> Result<BTreeSet<ChunkId>, Failure> {
    if ids.is_empty() {
        return Ok(ids);
    }
    let all: Vec<ChunkId> = ids.iter().copied().collect();
    let nodes = nodes(inner).await;
    let mut left = if nodes.is_empty() { BTreeSet::new() } else { ids };
    for answer in join_all(nodes.into_iter().map(|node| any(inner, node, &all))).await {
        match answer {
            Ok(has) => left.retain(|id| !has.contains(id)),
            Err(AccountError::NoAccount) => {}
            Err(AccountError::Stopped) => return Err(failures::stopped()),
            Err(_) => left.clear(),
        }
    }
    Ok(left)
}

/// What of these a holder has in any state.
async fn any(
    inner: &Inner,
    node: NodeId,
    ids: &[ChunkId],
) -> Result<BTreeSet<ChunkId>, AccountError> {
    let mut has = BTreeSet::new();
    for part in ids.chunks(ACCOUNT_CHUNKS_MAX) {
        let page = query(inner, node, part.to_vec()).await?;
        let states = part.iter().zip(page.chunks);
        has.extend(
            states.filter(|(_, (state, _))| *state != ChunkState::NotHeld).map(|(id, _)| id),
        );
    }
    Ok(has)
}

/// What of these a holder keeps.
async fn held(
    inner: &Inner,
    node: NodeId,
    dead: &[DeadChunk],
) -> Result<BTreeMap<ChunkId, (LeaseNonce, u64)>, AccountError> {
    let mut held = BTreeMap::new();
    for part in dead.chunks(ACCOUNT_CHUNKS_MAX) {
        let page = query(inner, node, part.iter().map(|dead| dead.id).collect()).await?;
        for (dead, (state, lease)) in part.iter().zip(page.chunks) {
            if matches!(state, ChunkState::Live | ChunkState::Damaged) {
                held.insert(dead.id, (lease, dead.bytes));
            }
        }
    }
    Ok(held)
}

/// Takes back what a holder let go of the needed. One that was asked to let chunks go, and says
/// that it has them, may not have come to it yet: it is told all the same, and does that after what
/// it was asked before.
pub(in crate::node) async fn take_back(
    inner: &Inner,
    node: NodeId,
    was_asked: bool,
    needed: &[(ChunkId, ChunkKey)],
) -> Result<Back, AccountError> {
    let mut back = Back::default();
    for part in needed.chunks(RELEASES_MAX) {
        let ids: Vec<ChunkId> = part.iter().map(|(id, _)| *id).collect();
        let page = query(inner, node, ids).await?;
        let mut items = Vec::new();
        for ((id, ck), (state, lease)) in part.iter().zip(page.chunks) {
            match state {
                ChunkState::Live if !was_asked => back.live.push((*id, lease, page.epoch)),
                // What is damaged keeps its lease when it is stored again.
                ChunkState::Damaged if !was_asked => {}
                ChunkState::Live | ChunkState::Released { .. } | ChunkState::Damaged => {
                    items.push(ReleaseWish { id: *id, ck: ck.duplicate(), lent: None, lease });
                }
                ChunkState::NotHeld => {}
            }
        }
        if items.is_empty() {
            continue;
        }
        let asked: Vec<(ChunkId, LeaseNonce)> =
            items.iter().map(|item| (item.id, item.lease)).collect();
        let states = release(inner, node, true, items).await?;
        for ((id, lease), state) in asked.into_iter().zip(states) {
            match state {
                ChunkState::Live => back.live.push((id, lease, page.epoch)),
                ChunkState::Released { .. } => back.open.push(id),
                ChunkState::NotHeld | ChunkState::Damaged => {}
            }
        }
    }
    Ok(back)
}
