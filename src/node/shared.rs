//! What the drive loop tells the rest of the node: small, behind one lock, never awaited under.

use super::memory::Memory;
use super::report::Failure;
use crate::core::codec::Reject;
use crate::core::effect::{Peer, Space};
#[cfg(test)]
use crate::core::message::{ChunkData, RetrieveRefusal, RetrieveReject, StreamMessage};
use crate::core::types::NodeId;
use crate::repo::catalog::JobId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Facts about the running node.
pub(super) struct Shared {
    /// What is remembered of other nodes, and of repairs.
    pub(super) memory: Memory,
    facts: Mutex<Facts>,
    listening: watch::Sender<Vec<String>>,
    peers: watch::Sender<BTreeSet<NodeId>>,
    /// What this node says in the place of a page of an account's list.
    #[cfg(test)]
    pub(super) lie: Mutex<Option<Lie>>,
    /// It proves what it has and hands nothing over.
    #[cfg(test)]
    pub(super) withholds: std::sync::atomic::AtomicBool,
    /// So many chunks more it sends only with whatever goes to the same node next.
    #[cfg(test)]
    pub(super) late: std::sync::atomic::AtomicU32,
    #[cfg(test)]
    unsent: Mutex<Vec<(NodeId, StreamMessage)>>,
    /// What it serves in the place of a chunk's sealed bytes.
    #[cfg(test)]
    pub(super) served: Mutex<Option<Served>>,
}

/// From a chunk's sealed bytes to other ones.
#[cfg(test)]
pub(super) type Served = Box<dyn FnMut(crate::core::types::ChunkId, &mut Vec<u8>) + Send>;

/// From a page, and whether there is more behind it, to another one.
#[cfg(test)]
pub(super) type Lie = Box<dyn FnMut(ListedPage) -> ListedPage + Send>;

#[cfg(test)]
pub(super) type ListedPage = (Vec<crate::core::message::ListedChunk>, bool);

struct Facts {
    /// When somebody came or went last.
    peers_changed: Instant,
    space: Space,
    rejects: BTreeMap<Reject, u64>,
    labels: BTreeMap<NodeId, Labels>,
    /// Why the last try of each open put failed.
    failed: BTreeMap<JobId, Failure>,
}

/// What a connected peer declares of itself, which nobody checks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Labels {
    /// Where it stands.
    pub(super) site: String,
    /// Who runs it.
    pub(super) operator: String,
}

impl Shared {
    pub(super) fn new(space: Space, memory: Memory) -> Self {
        let facts = Facts {
            peers_changed: Instant::now(),
            space,
            rejects: BTreeMap::new(),
            labels: BTreeMap::new(),
            failed: BTreeMap::new(),
        };
        Self {
            memory,
            facts: Mutex::new(facts),
            listening: watch::Sender::new(Vec::new()),
            peers: watch::Sender::new(BTreeSet::new()),
            #[cfg(test)]
            lie: Mutex::new(None),
            #[cfg(test)]
            withholds: std::sync::atomic::AtomicBool::new(false),
            #[cfg(test)]
            late: std::sync::atomic::AtomicU32::new(0),
            #[cfg(test)]
            unsent: Mutex::default(),
            #[cfg(test)]
            served: Mutex::new(None),
        }
    }

    #[cfg(test)]
    pub(super) fn told(&self, page: ListedPage) -> ListedPage {
        let mut lie = self.lie.lock().unwrap_or_else(PoisonError::into_inner);
        lie.as_mut().map(|lie| lie(page.clone())).unwrap_or(page)
    }

    /// What goes out now.
    #[cfg(test)]
    pub(super) fn sent(&self, to: NodeId, message: StreamMessage) -> Vec<StreamMessage> {
        let mut unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner);
        let message = match message {
            StreamMessage::ChunkData(_) if self.is_late() => {
                unsent.push((to, message));
                return Vec::new();
            }
            StreamMessage::ChunkData(ChunkData { request, .. })
                if self.withholds.load(std::sync::atomic::Ordering::Relaxed) =>
            {
                let reason = RetrieveRefusal::Busy;
                StreamMessage::RetrieveReject(RetrieveReject { request, reason })
            }
            message => message,
        };
        let late = unsent.extract_if(.., |(of, _)| *of == to).map(|(_, message)| message);
        late.chain([message]).collect()
    }

    #[cfg(test)]
    fn is_late(&self) -> bool {
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        self.late.fetch_update(relaxed, relaxed, |count| count.checked_sub(1)).is_ok()
    }

    #[cfg(test)]
    pub(super) fn served(
        &self,
        id: crate::core::types::ChunkId,
        sealed: bytes::Bytes,
    ) -> bytes::Bytes {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(change) = served.as_mut() else { return sealed };
        let mut sealed = sealed.to_vec();
        change(id, &mut sealed);
        sealed.into()
    }

    pub(super) fn space(&self, space: Space) {
        self.facts().space = space;
    }

    pub(super) fn current_space(&self) -> Space {
        self.facts().space
    }

    /// Counts a message that was turned down; logged at debug level, because peers cause it.
    pub(super) fn rejected(&self, from: NodeId, reason: Reject) {
        tracing::debug!(%from, ?reason, "rejected");
        let mut facts = self.facts();
        let count = facts.rejects.entry(reason).or_default();
        *count = count.saturating_add(1);
    }

    pub(super) fn rejects(&self) -> BTreeMap<Reject, u64> {
        self.facts().rejects.clone()
    }

    pub(super) fn listening(&self, address: String) {
        self.listening.send_modify(|addresses| {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        });
    }

    /// The listening addresses, as they come.
    pub(super) fn watch_listening(&self) -> watch::Receiver<Vec<String>> {
        self.listening.subscribe()
    }

    /// Why the last try of a put failed; `None` where it did not, or the put is not open any more.
    pub(super) fn last_failure(&self, job: JobId, failure: Option<Failure>) {
        let mut facts = self.facts();
        match failure {
            Some(failure) => drop(facts.failed.insert(job, failure)),
            None => drop(facts.failed.remove(&job)),
        }
    }

    /// What was last told of each open put that failed since the start.
    pub(super) fn failures(&self) -> BTreeMap<JobId, Failure> {
        self.facts().failed.clone()
    }

    /// Empty where the peer is not connected.
    pub(super) fn labels(&self, node: &NodeId) -> Labels {
        self.facts().labels.get(node).cloned().unwrap_or_default()
    }

    pub(super) fn peer_up(&self, Peer { node, hello, reach }: &Peer) {
        let node = *node;
        let labels = Labels { site: hello.site.clone(), operator: hello.operator.clone() };
        let mut facts = self.facts();
        facts.labels.insert(node, labels);
        facts.peers_changed = Instant::now();
        drop(facts);
        self.memory.met(node, *reach, &hello.site);
        self.peers.send_if_modified(|peers| peers.insert(node));
    }

    pub(super) fn peer_down(&self, node: &NodeId) {
        let mut facts = self.facts();
        facts.labels.remove(node);
        facts.peers_changed = Instant::now();
        drop(facts);
        self.memory.left(node);
        self.peers.send_if_modified(|peers| peers.remove(node));
    }

    pub(super) fn is_connected(&self, node: &NodeId) -> bool {
        self.peers.borrow().contains(node)
    }

    /// For how long nobody has come or gone.
    pub(super) fn peers_unchanged_for(&self) -> Duration {
        self.facts().peers_changed.elapsed()
    }

    /// Who is connected, as it changes.
    pub(super) fn watch_peers(&self) -> watch::Receiver<BTreeSet<NodeId>> {
        self.peers.subscribe()
    }

    /// The facts stay true even if a holder of the lock panicked: each update is one assignment.
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
