//! What all parts of a running node share: keys, queues into the drive loop, the catalogue.

use super::datadir::DataDir;
use super::detached::Detached;
use super::gate::Gate;
use super::jobs::DriveCommand;
use super::put::{Names, seconds_since_1970};
use super::report::Failure;
use super::repository::Repository;
use super::scheduler::Schedule;
use super::shared::Shared;
use super::standing::StandingCommand;
use crate::core::audit::Answered;
use crate::core::placement::DomainPolicy;
use crate::core::types::{ChunkId, NodeId};
use crate::crypto::keys::OwnerKeys;
use crate::net::Net;
use crate::repo::catalog::{Catalog, CatalogError, ChunkAcked, Entry};
use crate::repo::meta::MetaCache;
use crate::repo::served::Served;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::mpsc;

/// Puts that run at once. Each has two threads and about 20 MiB of pieces; one alone can fill the
/// owner role's window.
const PUTS_AT_ONCE: usize = 4;

/// Gets that run at once. Each has a thread and up to 48 MiB of chunks.
const GETS_AT_ONCE: usize = 4;

/// Looks into snapshots that run at once. Each has a thread and up to 16 chunks of trees.
const LOOKS_AT_ONCE: usize = 4;

/// The node, as its jobs and its API see it.
pub(super) struct Inner {
    pub(super) keys: Arc<OwnerKeys>,
    pub(super) mesh_name: String,
    /// What counts as one failure domain.
    pub(super) domains: DomainPolicy,
    pub(super) net: Net,
    pub(super) shared: Arc<Shared>,
    pub(super) stores: mpsc::Sender<DriveCommand>,
    pub(super) fetches: mpsc::Sender<DriveCommand>,
    /// For heads, and for holders of chunks.
    pub(super) questions: mpsc::Sender<DriveCommand>,
    /// About the owner's accounts at holders.
    pub(super) accounts: mpsc::Sender<DriveCommand>,
    /// About where holders stand with owners.
    pub(super) standings: mpsc::Sender<StandingCommand>,
    /// Who has it asks owners how this node stands with them.
    pub(super) asking_owners: tokio::sync::Mutex<()>,
    pub(super) started: Instant,
    /// Puts that read and seal, of those that users wait for.
    pub(super) putting: Gate,
    pub(super) getting: Gate,
    /// Looks into snapshots.
    pub(super) looking: Gate,
    /// Backups, which share what is known of the files before.
    pub(super) backing_up: Gate,
    /// Backups that go on by themselves.
    pub(super) detached: Arc<Detached>,
    /// Whoever stores chunks has it for reading, so that nothing is let go meanwhile that was found
    /// to be stored already; who lets go has it alone.
    pub(super) letting_go: tokio::sync::RwLock<()>,
    /// A prune waits for that: nothing that nobody waits for is begun.
    pub(super) prune_waits: AtomicBool,
    /// One prune at a time: see [`super::prune::OnlyPrune`].
    pub(super) pruning: tokio::sync::Mutex<()>,
    /// One runs.
    pub(super) prunes: AtomicBool,
    /// Holders that answered audits lately.
    pub(super) answered: Mutex<Answered>,
    /// Who has it heals.
    pub(super) healing: tokio::sync::Mutex<()>,
    /// A replica was found to be no more, or not to count beside another one, and nobody healed
    /// since.
    pub(super) lost: AtomicBool,
    /// Where a prune ends as if the node was killed.
    #[cfg(test)]
    pub(super) prune_ends: Mutex<Option<super::prune::Step>>,
    /// Holders whose answers to releases, and to what takes one back, are not waited for.
    #[cfg(test)]
    pub(super) unheard: Mutex<std::collections::BTreeSet<NodeId>>,
    /// When holders of what is short were looked for.
    pub(super) located: Mutex<super::rebuild::Pace>,
    #[cfg(test)]
    pub(super) rebuild: super::rebuild::Reins,
    /// Whether the node audits and heals when nobody asked: not unless a test says so.
    #[cfg(test)]
    pub(super) tends: AtomicBool,
    /// Whether it asks holders for chunks to try them: not unless a test says so.
    #[cfg(test)]
    pub(super) tries: AtomicBool,
    /// How often it looked whom to ask, to the end.
    #[cfg(test)]
    pub(super) looks: std::sync::atomic::AtomicU64,
    /// Whether holders hand over what they prove.
    served: Mutex<Served>,
    pub(super) repository: Repository,
    /// What the settings ask for.
    pub(super) schedule: Arc<Schedule>,
    /// Who has it gives files that were put their snapshots.
    pub(super) naming: tokio::sync::Mutex<Names>,
    pub(super) meta: MetaCache,
    catalog: Mutex<Catalog>,
    /// Whoever writes down what holders showed has it.
    saving: Mutex<()>,
    /// Its lock on the folder ends when nobody is left who could write there.
    dir: DataDir,
}

impl Inner {
    pub(super) fn new(
        keys: Arc<OwnerKeys>,
        (mesh_name, schedule, domains): (String, Schedule, DomainPolicy),
        net: Net,
        shared: Arc<Shared>,
        (queues, standings): ([mpsc::Sender<DriveCommand>; 4], mpsc::Sender<StandingCommand>),
        catalog: Catalog,
        dir: DataDir,
    ) -> Self {
        let [stores, fetches, questions, accounts] = queues;
        let started = Instant::now();
        let catalog = Mutex::new(catalog);
        let (putting, getting) = (Gate::new(PUTS_AT_ONCE), Gate::new(GETS_AT_ONCE));
        let looking = Gate::new(LOOKS_AT_ONCE);
        let (backing_up, repository) = (Gate::new(1), Repository::default());
        let meta = MetaCache::new(dir.path());
        Self {
            keys,
            mesh_name,
            domains,
            net,
            shared,
            stores,
            fetches,
            questions,
            accounts,
            standings,
            asking_owners: tokio::sync::Mutex::default(),
            started,
            putting,
            getting,
            looking,
            backing_up,
            detached: Arc::default(),
            letting_go: tokio::sync::RwLock::default(),
            prune_waits: AtomicBool::new(false),
            pruning: tokio::sync::Mutex::default(),
            prunes: AtomicBool::new(false),
            answered: Mutex::default(),
            healing: tokio::sync::Mutex::default(),
            lost: AtomicBool::new(false),
            #[cfg(test)]
            prune_ends: Mutex::new(None),
            #[cfg(test)]
            unheard: Mutex::default(),
            located: Mutex::default(),
            #[cfg(test)]
            rebuild: super::rebuild::Reins::default(),
            #[cfg(test)]
            tends: AtomicBool::new(false),
            #[cfg(test)]
            tries: AtomicBool::new(false),
            #[cfg(test)]
            looks: std::sync::atomic::AtomicU64::new(0),
            served: Mutex::default(),
            repository,
            schedule: Arc::new(schedule),
            naming: tokio::sync::Mutex::default(),
            meta,
            catalog,
            saving: Mutex::default(),
            dir,
        }
    }

    /// Trials of holders; whoever has the catalogue, too, took that first. Each change leaves it
    /// whole, even after a panic.
    pub(super) fn served(&self) -> MutexGuard<'_, Served> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which replicas are no more, or were given anew.
    fn tell_served(&self, entry: &Entry) {
        match entry {
            Entry::ReplicaLost(lost) => self.served().on_replaced(&lost.node, &lost.chunk),
            Entry::ChunkAcked(acked) => self.served().on_replaced(&acked.node, &acked.chunk),
            Entry::StoreGone { node, .. } => self.served().on_store_gone(node),
            _ => {}
        }
    }

    /// Whether it audits and heals when nobody asked.
    pub(super) fn tends(&self) -> bool {
        #[cfg(test)]
        return self.tends.load(Ordering::Relaxed);
        #[cfg(not(test))]
        true
    }

    /// Whether it asks holders for chunks now and then to try them.
    pub(super) fn tries(&self) -> bool {
        #[cfg(test)]
        return self.tries.load(Ordering::Relaxed);
        #[cfg(not(test))]
        true
    }

    /// The node's own folder.
    pub(super) fn data_dir(&self) -> &Path {
        self.dir.path()
    }

    /// The catalogue, for a look-up or an append. Either may wait for a sync of the disk that
    /// somebody else asked for, so a worker of the runtime lets its other tasks go meanwhile.
    pub(super) fn with_catalog<T>(&self, work: impl FnOnce(&mut Catalog) -> T) -> T {
        let work = || work(&mut self.catalog.lock().unwrap_or_else(PoisonError::into_inner));
        match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
            _ => work(),
        }
    }

    /// Appends to the catalogue's journal. Durable after [`Self::commit_catalog`].
    ///
    /// # Errors
    /// The entry was not taken, and a commit that succeeds later does not bring it back.
    pub(super) fn record(&self, entry: Entry) -> Result<(), Failure> {
        self.record_if(|_| Some(entry)).map(drop)
    }

    /// The same where what the catalogue says decides whether, and of what: nobody else changes it
    /// in between. Returns whether anything was appended.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub(super) fn record_if(
        &self,
        decide: impl FnOnce(&Catalog) -> Option<Entry>,
    ) -> Result<bool, Failure> {
        let mut is_loss = false;
        let record = |catalog: &mut Catalog| {
            let Some(entry) = decide(catalog) else { return Ok(false) };
            is_loss = matches!(entry, Entry::ReplicaLost(_) | Entry::StoreGone { .. });
            let acked = match &entry {
                Entry::ChunkAcked(acked) => Some(*acked),
                _ => None,
            };
            self.tell_served(&entry);
            catalog.record(entry)?;
            if let Some(ChunkAcked { chunk, node, epoch, .. }) = acked {
                catalog.prove(&node, &epoch, &chunk, seconds_since_1970());
            }
            Ok::<bool, CatalogError>(true)
        };
        let recorded = self.with_catalog(record);
        let recorded = recorded.map_err(|error| super::failures::catalog(&error))?;
        self.lost.fetch_or(is_loss, Ordering::Relaxed);
        Ok(recorded)
    }

    /// These nodes have the chunk: they acknowledged it before, and offered it anew.
    pub(super) fn shown(&self, chunk: &ChunkId, holders: &[NodeId]) {
        let now_s = seconds_since_1970();
        self.with_catalog(|catalog| {
            for node in holders {
                if let Some(epoch) = catalog.store_of(node) {
                    catalog.prove(node, &epoch, chunk, now_s);
                }
            }
        });
    }

    /// Writes everything recorded so far: a kill of this process does not undo it.
    ///
    /// # Errors
    /// What the disk says; nothing is lost by that, and a later commit may do.
    pub(super) fn write_catalog(&self) -> Result<(), Failure> {
        self.with_catalog(Catalog::write).map_err(|error| super::failures::catalog(&error))
    }

    /// Writes down what holders showed, as it is after `work`. Blocks on the disk; the catalogue is
    /// free meanwhile.
    ///
    /// # Errors
    /// What the disk says. More is asked of holders then, after a restart.
    pub(super) fn save_proven(&self, work: impl FnOnce(&mut Catalog)) -> Result<(), CatalogError> {
        let _alone = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.with_catalog(|catalog| {
            work(catalog);
            catalog.proven_file(seconds_since_1970())
        });
        file.save()
    }

    /// Makes everything recorded so far durable.
    pub(super) async fn commit_catalog(self: &Arc<Self>) -> Result<(), Failure> {
        let inner = Arc::clone(self);
        let committed =
            tokio::task::spawn_blocking(move || inner.with_catalog(Catalog::commit)).await;
        match committed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(super::failures::catalog(&error)),
            Err(error) => Err(super::failures::died("the catalogue's writer", &error)),
        }
    }

    /// The holders of `id` that acknowledged it earlier and are connected now. Others still have
    /// it, perhaps; until audits can tell, only those that are here count.
    pub(super) fn connected_holders(&self, id: &ChunkId) -> Vec<NodeId> {
        let mut holders = self.with_catalog(|catalog| catalog.holders_of(id));
        holders.retain(|node| self.shared.is_connected(node));
        holders
    }
}
