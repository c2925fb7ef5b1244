//! What all parts of a running node share: keys, queues into the drive loop, the catalogue.

use super::jobs::DriveCommand;
use super::report::Failure;
use super::shared::Shared;
use crate::core::types::{ChunkId, NodeId};
use crate::crypto::keys::OwnerKeys;
use crate::net::Net;
use crate::repo::catalog::{Catalog, Entry};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::mpsc;

/// The node, as its jobs and its API see it.
pub(super) struct Inner {
    pub(super) keys: Arc<OwnerKeys>,
    pub(super) mesh_name: String,
    pub(super) net: Net,
    pub(super) shared: Arc<Shared>,
    pub(super) stores: mpsc::Sender<DriveCommand>,
    pub(super) fetches: mpsc::Sender<DriveCommand>,
    pub(super) started: Instant,
    catalog: Mutex<Catalog>,
    stopping: AtomicBool,
}

impl Inner {
    pub(super) fn new(
        keys: Arc<OwnerKeys>,
        mesh_name: String,
        net: Net,
        shared: Arc<Shared>,
        queues: [mpsc::Sender<DriveCommand>; 2],
        catalog: Catalog,
    ) -> Self {
        let [stores, fetches] = queues;
        let started = Instant::now();
        let (catalog, stopping) = (Mutex::new(catalog), AtomicBool::new(false));
        Self { keys, mesh_name, net, shared, stores, fetches, started, catalog, stopping }
    }

    /// The node is about to end: puts that end with it stay in the outbox.
    pub(super) fn begin_stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The catalogue; never held across an await, and only for look-ups and buffered appends.
    pub(super) fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends to the catalogue's journal. Durable after [`Self::commit_catalog`].
    pub(super) fn record(&self, entry: Entry) {
        if let Err(error) = self.catalog().record(entry) {
            // The commit that follows fails too, and its failure reaches the user.
            tracing::error!(%error, "the catalogue could not be written");
        }
    }

    /// Makes everything recorded so far durable.
    pub(super) async fn commit_catalog(self: &Arc<Self>) -> Result<(), Failure> {
        let inner = Arc::clone(self);
        let committed = tokio::task::spawn_blocking(move || inner.catalog().commit()).await;
        match committed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(super::failures::catalog(&error)),
            Err(error) => Err(super::failures::died("the catalogue's writer", &error)),
        }
    }

    /// The holders of `id` that acknowledged it earlier and are connected now. Others still have
    /// it, perhaps; until audits can tell, only those that are here count.
    pub(super) fn connected_holders(&self, id: &ChunkId) -> Vec<NodeId> {
        let mut holders = self.catalog().holders_of(id);
        holders.retain(|node| self.shared.is_connected(node));
        holders
    }
}
