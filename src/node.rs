//! The daemon: owns the drive loop and pumps inputs and effects between roles, store and net.
//!
//! | file | what it holds |
//! |---|---|
//! | `drive` | the loop: the one task that touches the roles |
//! | `put`, `get` | one task per job of the user, on the other side of the loop's queues |
//! | `fetch` | the mesh as a source of chunks, for those that bring files back |
//! | `account` | asking a holder about the owner's account there, and releases |
//! | `heads` | storing heads and asking for them |
//! | `repository` | the snapshots of all devices, and how this one publishes its own |
//! | `choose` | which snapshot is meant |
//! | `check` | whether holders still have what a snapshot names |
//! | `chunks` | trees and manifests, from the copies here or from holders |
//! | `backup` | files to snapshots |
//! | `complete` | what is missing of snapshots that ended below their replicas |
//! | `detached` | backups that go on without the command that asked for them |
//! | `rebuild` | who holds what, learnt anew after a recovery |
//! | `recover`, `restore` | the words to the snapshots, and these back to files |
//! | `look` | what is in snapshots, in lists without a bound |
//! | `forget` | which snapshots a policy keeps |
//! | `prune` | letting go what no snapshot needs |
//! | `after` | whether another device let go what was just published |
//! | `verify` | reading a snapshot back from its holders |
//! | `standing` | where holders stand, in words, for both sides to ask |
//! | `audit`, `heal` | holders prove what they keep; what is short gets its replicas back |
//! | `needed` | all that snapshots and files that were put name, for these two |
//! | `memory` | what is remembered of other nodes, and of repairs |
//! | `gate` | how many of those run at once |
//! | `replicas` | how many replicas the chunks of one put have |
//! | `scheduler` | backups of the settings, with their audits and drills |
//! | `outbox` | puts that are short of their replicas are taken up again |
//! | `overview` | the snapshots that are known, for `status` |
//! | `attention` | what `status` asks the user to look after, in words |
//! | [`handle`] | what the API and in-process commands call |
//! | [`report`] | what the node tells and is asked, as plain data |
//! | [`datadir`] | the data folder: layout, lock, keys |

mod account;
mod after;
mod attention;
mod audit;
mod backup;
mod check;
mod choose;
mod chunks;
mod complete;
pub mod datadir;
mod detached;
mod drive;
mod evidence;
mod failures;
mod fetch;
mod forget;
mod gate;
mod get;
pub mod handle;
mod heads;
mod heal;
mod heard;
mod inner;
mod jobs;
mod look;
mod memory;
mod needed;
mod outbox;
mod overview;
mod prune;
mod put;
mod rebuild;
mod recover;
mod replicas;
pub mod report;
mod repository;
mod restore;
mod scheduler;
mod shared;
mod standing;
mod stores;
mod verify;

pub use get::check_output;
pub use handle::NodeHandle;
pub use heads::{HeadStored, HeadWish, HeadsFound, HeadsWanted};
pub use scheduler::schedule_at_rest;

use crate::config::{Config, Domains};
use crate::core::effect::{Input, Space};
use crate::core::holder::{HolderConfig, HolderLimits, HolderRole};
use crate::core::message::Hello;
use crate::core::owner::{OwnerCommand, OwnerConfig, OwnerLimits, OwnerRole};
use crate::core::placement::DomainPolicy;
use crate::core::shard::Sharding;
use crate::core::types::{ChunkId, LeaseTerms, MeshId, NodeId, Time};
use crate::crypto::keys::{NodeKeys, OwnerKeys, WrapKey};
use crate::net::{Net, NetConfig, NetEvents, NetLimits};
use crate::repo::catalog::{self, Catalog, ChunkAcked};
use crate::repo::meta::MetaCache;
use crate::store::{ChunkStore, OpenReport, Options, StoreConfig};
use datadir::Identity;
use drive::{Drive, Local, Sources};
use handle::{AtRest, Tasks};
use inner::Inner;
use jobs::COMMANDS_QUEUED_MAX;
use memory::Memory;
use outbox::Running;
use report::Failure;
use scheduler::Schedule;
use shared::Shared;
use standing::{ASKED_QUEUED_MAX, Standings};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// One shard until a mesh profile says otherwise.
const SHARDING: Sharding = Sharding::WHOLE;

/// Store completions that may wait for the drive loop.
const COMPLETIONS_QUEUED_MAX: usize = 64;

/// Notices of damage that may wait for their audits.
const NOTICES_QUEUED_MAX: usize = 64;

/// Acks above the quorum that may wait for the catalogue.
const LATE_ACKS_QUEUED_MAX: usize = 256;

/// No more addresses for so long: that was all of them.
const LISTEN_QUIET: Duration = Duration::from_millis(50);

/// The same where a listener has none yet.
const LISTEN_QUIET_SHORT: Duration = Duration::from_secs(2);

/// How long the listening addresses may take.
const LISTEN_PATIENCE: Duration = Duration::from_secs(10);

/// Starts a node and waits until it listens. Returns its handle and the addresses, each with
/// `/p2p/PEERID`. The identity's lock on the data folder is held until the node has ended.
///
/// # Errors
/// A [`Failure`] for the user: the store, the catalogue or the network could not be opened.
pub async fn start(
    config: &Config,
    identity: Identity,
) -> Result<(NodeHandle, Vec<String>), Failure> {
    let Identity { node, owner, dir } = identity;
    let (node, owner) = (Arc::new(node), Arc::new(owner));
    let mesh = crate::crypto::mesh_id(&config.mesh);
    let (completions, store_inputs) = mpsc::channel(COMPLETIONS_QUEUED_MAX);
    let (store, chunks) = open_store(config, dir.path(), node.wrap_key(), completions).await?;
    let catalog = open_catalog(dir.path(), &owner).await?;
    let (net, events) = start_net(config, &node, mesh, dir.path())?;
    let space = Space { capacity: config.capacity, chunks, ..Space::default() };
    let memory = open_memory(config, dir.path()).await?;
    let owner_role = owner_role(config, &node, &owner, (mesh, &memory));
    let shared = Arc::new(Shared::new(space, memory));
    let (stores, store_jobs) = mpsc::channel(COMMANDS_QUEUED_MAX);
    let (fetches, fetch_jobs) = mpsc::channel(COMMANDS_QUEUED_MAX);
    let (questions, head_jobs) = mpsc::channel(COMMANDS_QUEUED_MAX);
    let (accounts, account_jobs) = mpsc::channel(COMMANDS_QUEUED_MAX);
    let (stop, stopped) = mpsc::channel(1);
    let (late_acks, acks) = mpsc::channel(LATE_ACKS_QUEUED_MAX);
    let (notices, noticed) = mpsc::channel(NOTICES_QUEUED_MAX);
    let (standings, standing_commands) = mpsc::channel(COMMANDS_QUEUED_MAX);
    let (asked, asking) = mpsc::channel(ASKED_QUEUED_MAX);
    let drive = Drive {
        owner: owner_role,
        holder: holder_role(config, &node, mesh, &store),
        net: net.clone(),
        store,
        shared: Arc::clone(&shared),
        started: Instant::now(),
        listeners: BTreeMap::new(),
        next_ticket: 0,
        pending: VecDeque::new(),
        node: node.node_id(),
        local: Local::default(),
        look_ups: VecDeque::new(),
        late_acks,
        notices,
        standings: Standings::new(asked),
    };
    let sources = Sources {
        net: events,
        store: store_inputs,
        stores: store_jobs,
        fetches: fetch_jobs,
        questions: head_jobs,
        accounts: account_jobs,
        standings: standing_commands,
        stop: stopped,
    };
    let mut listening = shared.watch_listening();
    let drive = tokio::spawn(drive.run(sources));
    let schedule = Schedule::open(dir.path(), node.node_id(), &config.backups);
    let of = (config.mesh.clone(), schedule, domains(config));
    let queues = ([stores, fetches, questions, accounts], standings);
    let inner = Arc::new(Inner::new(owner, of, net, shared, queues, catalog, dir));
    let running = Arc::new(Running::default());
    let outbox = tokio::spawn(outbox::run(Arc::clone(&inner), Arc::clone(&running)));
    see_to(&inner, acks, asking);
    let head = tokio::spawn(tend(&inner, noticed));
    let handle = NodeHandle::new(inner, running, Tasks { drive, outbox, head, stop });
    match first_addresses(&mut listening, handle.inner.net.listeners()).await {
        addresses if addresses.is_empty() => {
            handle.shutdown().await;
            Err(failures::not_listening(&config.listen))
        }
        addresses => Ok((handle, addresses)),
    }
}

/// Sees to what comes from the drive loop and is no job's, until the loop ends.
fn see_to(
    inner: &Arc<Inner>,
    acks: mpsc::Receiver<ChunkAcked>,
    asking: mpsc::Receiver<standing::AskedBy>,
) {
    tokio::spawn(outbox::record_late_acks(Arc::downgrade(inner), acks));
    tokio::spawn(standing::tell_holders(Arc::downgrade(inner), asking));
}

/// What holders tell of damage.
type Notices = mpsc::Receiver<(NodeId, Vec<ChunkId>)>;

/// Sees to the snapshots of this device and to its holders, for the node's life.
fn tend(inner: &Arc<Inner>, noticed: Notices) -> impl Future<Output = ()> + Send + use<> {
    let again = repository::send_again(Arc::downgrade(inner), inner.shared.watch_peers());
    let around = repository::look_around(Arc::downgrade(inner), inner.shared.watch_peers());
    let named = put::publish_later(Arc::downgrade(inner), inner.shared.watch_peers());
    let pruned = prune::finish_later(Arc::downgrade(inner), inner.shared.watch_peers());
    let looked = after::look_after_later(Arc::downgrade(inner), inner.shared.watch_peers());
    let filled = rebuild::fill_later(Arc::downgrade(inner), inner.shared.watch_peers());
    let completed = complete::complete_later(Arc::downgrade(inner), inner.shared.watch_peers());
    let healed = heal::heal_later(Arc::downgrade(inner), inner.shared.watch_peers());
    let audited = audit::audit_later(Arc::downgrade(inner), inner.shared.watch_peers());
    let tried = audit::fetch_later(Arc::downgrade(inner));
    let told = audit::audit_noticed(Arc::downgrade(inner), noticed);
    let remembered = memory::remember(Arc::downgrade(inner));
    let seen = evidence::look_later(Arc::downgrade(inner));
    let scheduled = scheduler::run(Arc::downgrade(inner));
    async {
        let holders =
            async { tokio::join!(audited, tried, healed, told, remembered, seen, scheduled) };
        tokio::join!(again, around, named, pruned, looked, filled, completed, holders);
    }
}

/// Waits until there are `wanted` addresses, one for each listener, and no more have come for a
/// moment: a wildcard address comes up as one address for each interface. A listener without any,
/// on a system whose interfaces have no address of its kind, is not waited for to the end.
async fn first_addresses(
    listening: &mut watch::Receiver<Vec<String>>,
    wanted: usize,
) -> Vec<String> {
    let enough = async {
        loop {
            let quiet = match listening.borrow_and_update().len() {
                0 => LISTEN_PATIENCE,
                count if count < wanted => LISTEN_QUIET_SHORT,
                _ => LISTEN_QUIET,
            };
            if !matches!(timeout(quiet, listening.changed()).await, Ok(Ok(()))) {
                return;
            }
        }
    };
    // What came up in time is what there is.
    drop(timeout(LISTEN_PATIENCE, enough).await);
    listening.borrow().clone()
}

/// The `newest` of what this data folder put on the mesh, how much there is and what needs
/// attention, read without starting a node. A damaged catalogue is repaired and kept.
///
/// # Errors
/// A [`Failure`] where the catalogue cannot be read.
pub fn backups_at_rest(dir: &Path, owner: &OwnerKeys, newest: usize) -> Result<AtRest, Failure> {
    let (catalog, report) = Catalog::open(dir, owner).map_err(|error| failures::catalog(&error))?;
    tell_of_catalog(&report);
    let mut found = handle::at_rest(&catalog, newest, &|_| None);
    let meta = MetaCache::new(dir);
    found.snapshots = overview::Noted::of(&catalog).read(owner, &meta, newest);
    found.attention.extend(overview::attention(&found.snapshots));
    Ok(found)
}

async fn open_store(
    config: &Config,
    dir: &Path,
    wrap: &WrapKey,
    completions: mpsc::Sender<Input>,
) -> Result<(ChunkStore, u64), Failure> {
    let store = StoreConfig { dir: dir.join("store"), options: options(config, dir)? };
    let wrap = WrapKey::from_bytes(*wrap.expose());
    // Called on the store's own threads, which may wait: that is the store's backpressure.
    let tell = move |completion| drop(completions.blocking_send(completion));
    let open = move || ChunkStore::open(&store, wrap, rand::random(), Box::new(tell));
    let opened = tokio::task::spawn_blocking(open).await;
    let (store, report) = opened
        .map_err(|error| failures::died("the store", &error))?
        .map_err(|error| failures::store(&error))?;
    tell_of(&report);
    Ok((store, report.chunks))
}

/// Capacity and reserve: what the user says, else what the disk's size suggests.
fn options(config: &Config, dir: &Path) -> Result<Options, Failure> {
    let options = match config.reserve {
        Some(reserve) => Options::with_reserve(config.capacity, reserve),
        None => {
            let disk = fs4::total_space(dir).map_err(|error| failures::disk(dir, &error))?;
            Options::new(config.capacity, disk)
        }
    };
    let scrub_round = Duration::from_hours(24 * u64::from(config.scrub_days));
    Ok(Options { scrub_round, ..options })
}

/// What opening the store came upon, where that is worth a line.
fn tell_of(report: &OpenReport) {
    if let Some(why) = &report.rebuilt {
        tracing::warn!(?why, report.chunks, "the store's catalogue was made anew");
    }
    if report.cut_bytes > 0 || report.replayed > 0 {
        tracing::info!(report.replayed, report.cut_bytes, "the store was not closed cleanly");
    }
    if !report.ledger_damage.is_empty() {
        tracing::error!(damage = ?report.ledger_damage, "the store's ledger is damaged");
    }
    if report.releases_dropped > 0 {
        let dropped = report.releases_dropped;
        tracing::warn!(dropped, "chunks that were let go are kept: their releases are in doubt");
    }
    if report.quarantined > 0 || !report.damage.is_empty() {
        tracing::error!(report.quarantined, damage = ?report.damage, "the store is damaged");
    }
    if let Some(why) = &report.read_only {
        tracing::error!(?why, "the store takes no writes");
    }
}

async fn open_catalog(dir: &Path, owner: &Arc<OwnerKeys>) -> Result<Catalog, Failure> {
    let (dir, owner) = (dir.to_owned(), Arc::clone(owner));
    let opened = tokio::task::spawn_blocking(move || Catalog::open(&dir, &owner)).await;
    let (catalog, report) = opened
        .map_err(|error| failures::died("the catalogue", &error))?
        .map_err(|error| failures::catalog(&error))?;
    tell_of_catalog(&report);
    Ok(catalog)
}

async fn open_memory(config: &Config, dir: &Path) -> Result<Memory, Failure> {
    let (dir, repair_per_day) = (dir.to_owned(), config.repair_per_day);
    let opened = tokio::task::spawn_blocking(move || Memory::open(&dir, repair_per_day)).await;
    opened.map_err(|error| failures::died("the memory", &error))
}

/// What opening the catalogue came upon. Damage is also told by `status`, for as long as the
/// damaged file lies there.
fn tell_of_catalog(report: &catalog::OpenReport) {
    if let Some(kept) = &report.damaged {
        let kept = kept.display();
        tracing::error!(report.damaged_bytes, %kept, "the catalogue was damaged");
    } else if report.torn_bytes > 0 {
        let kept = "owner/catalog.torn";
        tracing::warn!(report.torn_bytes, kept, "the catalogue's last commit was not finished");
    }
}

fn start_net(
    config: &Config,
    node: &NodeKeys,
    mesh: MeshId,
    dir: &Path,
) -> Result<(Net, NetEvents), Failure> {
    let hello = Hello {
        node: node.node_id(),
        mesh,
        agreement: node.agreement_key(),
        agreement_signature: node.sign_agreement(),
        site: config.site.clone(),
        operator: config.operator.clone(),
    };
    let listen = match config.listen.as_slice() {
        [] => NetConfig::default_listen(),
        addresses => addresses.to_vec(),
    };
    let net = NetConfig {
        signing_seed: node.signing_seed(),
        mesh,
        hello,
        listen,
        bootstrap: config.bootstrap.clone(),
        mdns: config.mdns,
        topics: SHARDING.subscriptions(&node.node_id()),
        address_book: Some(dir.join(datadir::ADDRESS_BOOK_NAME)),
        limits: NetLimits { lan_only: config.lan_only, ..NetLimits::default() },
    };
    crate::net::start(net).map_err(|error| failures::net(&error))
}

fn owner_role(
    config: &Config,
    node: &NodeKeys,
    owner: &Arc<OwnerKeys>,
    (mesh, memory): (MeshId, &Memory),
) -> OwnerRole {
    let mut role = OwnerRole::new(OwnerConfig {
        keys: Arc::clone(owner),
        node: node.node_id(),
        mesh,
        seed: rand::random(),
        limits: OwnerLimits::default(),
        sharding: SHARDING,
        domains: domains(config),
        terms: LeaseTerms::default(),
    });
    for (node, conduct, age) in memory.acquaintances() {
        role.acquaint(Time::default(), node, conduct, age);
    }
    role.handle(Time::default(), Input::Command(OwnerCommand::Bind(memory.pairs())));
    role
}

fn domains(config: &Config) -> DomainPolicy {
    match config.domains {
        Domains::Lan => DomainPolicy::LanCountsEach,
        Domains::Strict => DomainPolicy::Strict,
    }
}

/// What one owner may use here. Half of the capacity where the user does not say otherwise: one
/// owner, or one device of it that runs away, cannot use up what is given to all, and a mesh of two
/// or three households still holds what each of them has. It is no bound for somebody who makes up
/// account after account; that is what admission and leases are for.
fn account_quota(config: &Config) -> u64 {
    config.account_quota.unwrap_or(config.capacity / 2)
}

fn holder_role(
    config: &Config,
    node: &Arc<NodeKeys>,
    mesh: MeshId,
    store: &ChunkStore,
) -> HolderRole {
    HolderRole::new(HolderConfig {
        keys: Arc::clone(node),
        mesh,
        limits: HolderLimits { account_bytes_max: account_quota(config), ..Default::default() },
        seed: rand::random(),
        sharding: SHARDING,
        site: config.site.clone(),
        operator: config.operator.clone(),
        used_by_account: store.usage(),
        epoch: store.epoch(),
    })
}

#[cfg(test)]
mod tests;
