//! The store on threads of its own: one that writes in groups, two that read, one that proves
//! chunks for audits, one that scrubs.
//!
//! The drive loop must never wait for a disk: every call here puts a request in a bounded queue
//! and returns; what became of it arrives through the completions.
//!
//! Proofs have a queue and a thread of their own: of a hundred chunks of an audit none stands in
//! front of a chunk that somebody waits for, and the disk has one of them to read at a time.

mod idle;

use super::bounds::{
    GROUP_BYTES_MAX, GROUP_MAX, PROVE_QUEUE_MAX, READ_QUEUE_MAX, WRITE_QUEUE_BYTES_MAX,
    WRITE_QUEUE_MAX,
};
use super::catalogue::{Opened, SledCatalogue};
use super::disk::Disk;
use super::heads::UPTIME_EVERY_S;
use super::index::Catalogue;
use super::reader::Reader;
use super::recovery::{OpenReport, Rebuilt, StoreOpenError};
use super::segments::FileDisk;
use super::tidy::release_ballast_if_low;
use super::writer::{Options, Request, Writer};
use crate::core::effect::{Input, StoreError, StoredChunk};
use crate::core::types::{Account, ChunkId, LeaseNonce, LeaseTerms, StoreEpoch, Ticket};
use crate::crypto::audit::Task;
use crate::crypto::head::HeadRecord;
use crate::crypto::keys::WrapKey;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const READERS: usize = 2;

/// How often a writer that has nothing to do looks how full the disk is. Others fill it and make
/// room again; a holder without room is sent nothing, so that no group would ever tell.
const LOOK: Duration = if cfg!(test) { Duration::from_millis(5) } else { Duration::from_mins(1) };

/// Memory for the catalogue's pages: an index of a million chunks has 0.3 GiB, of which inner
/// pages and the recent leaves fit.
const CATALOGUE_CACHE_BYTES: u64 = 32 << 20;

/// Where completions go. Called on the store's threads; may wait, but then the store waits too.
pub type Completions = Box<dyn Fn(Input) + Send + Sync>;

/// Where a store is and how large it may get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// Its folder, made where it is missing.
    pub dir: PathBuf,
    /// Capacity and reserve.
    pub options: Options,
}

/// The handle of a running store. Dropping it closes the store.
pub struct ChunkStore {
    writes: Option<SyncSender<Request>>,
    reads: Option<SyncSender<Query>>,
    proofs: Option<SyncSender<Wanted>>,
    /// Dropped to stop the scrub.
    scrub: Option<SyncSender<()>>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    epoch: StoreEpoch,
    /// Bytes of chunks that wait or are being written.
    queued: AtomicU64,
    usage: Mutex<BTreeMap<Account, u64>>,
    used: AtomicU64,
    /// Owners that were heard of since the last group, and whether an audit was answered. As many
    /// as there are accounts here: whoever is not known is not heard.
    heard: Mutex<BTreeMap<Account, bool>>,
    /// Reads, look-ups and proofs that somebody waits for.
    wanted: AtomicU64,
    completions: Completions,
}

impl Shared {
    /// Something that was wanted is done.
    fn is_served(&self) {
        self.wanted.fetch_sub(1, Ordering::AcqRel);
    }

    /// What was heard since it was asked last: it goes in front of a group.
    fn take_heard(&self) -> Vec<Request> {
        let heard = std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner));
        heard.into_iter().map(|(account, audited)| Request::Heard { account, audited }).collect()
    }
}

enum Query {
    Read(Ticket, ChunkId),
    Find(Ticket, Vec<ChunkId>),
    Heads(Ticket, ChunkId, usize),
    List(Ticket, Account, ChunkId, u32),
    States(Ticket, Account, Vec<ChunkId>),
}

/// A proof of a chunk of an account.
struct Wanted {
    ticket: Ticket,
    account: Account,
    id: ChunkId,
    task: Task,
    closely: bool,
}

impl ChunkStore {
    /// Opens the store in `config.dir`, or makes one, and starts its threads. Blocks: a replay of
    /// the last writes takes moments, a rebuild of the catalogue seconds to minutes.
    ///
    /// The first completion is [`Input::Space`]; another follows each group that changed it, and
    /// within a minute whatever else did.
    ///
    /// # Errors
    /// [`StoreOpenError`].
    pub fn open(
        config: &StoreConfig,
        wrap: WrapKey,
        seed: [u8; 32],
        completions: Completions,
    ) -> Result<(Self, OpenReport), StoreOpenError> {
        let doing = "open the store's folder";
        let disk = FileDisk::open(&config.dir)
            .map_err(|source| StoreOpenError::Disk { doing, source })?
            .ok_or(StoreOpenError::InUse)?;
        release_ballast_if_low(&disk, config.options.ballast);
        let (disk, wrap, index) = (Arc::new(disk), Arc::new(wrap), config.dir.join("index"));
        let rng = ChaCha20Rng::from_seed(seed);
        let (catalogue, opened) = SledCatalogue::open(&index, CATALOGUE_CACHE_BYTES)?;
        let open = |catalogue, rng| {
            let (disk, wrap) = (Arc::clone(&disk), Arc::clone(&wrap));
            Writer::open(disk, Arc::new(catalogue), wrap, config.options, rng)
        };
        let (writer, mut report) = match open(catalogue, rng.clone()) {
            // It opened and then failed on a page: once more, from nothing.
            Err(StoreOpenError::Catalogue(_)) => {
                let catalogue = SledCatalogue::open_anew(&index, CATALOGUE_CACHE_BYTES)?;
                let (writer, report) = open(catalogue, rng)?;
                (writer, OpenReport { rebuilt: Some(Rebuilt::Broken), ..report })
            }
            opened => opened?,
        };
        if opened == Opened::Anew && report.rebuilt == Some(Rebuilt::Missing) {
            report.rebuilt = Some(Rebuilt::Broken);
        }
        Ok((Self::start(writer, completions), report))
    }

    /// Starts the threads of an opened writer: for tests that put faults into disk and catalogue.
    pub fn start<D, C>(writer: Writer<D, C>, completions: Completions) -> Self
    where
        D: Disk + Send + Sync + 'static,
        C: Catalogue + Send + Sync + 'static,
    {
        let (writes, write_queue) = sync_channel(WRITE_QUEUE_MAX);
        let (reads, read_queue) = sync_channel(READ_QUEUE_MAX);
        let shared = Arc::new(Shared {
            epoch: writer.epoch(),
            queued: AtomicU64::new(0),
            usage: Mutex::new(writer.usage().clone()),
            used: AtomicU64::new(writer.space().used),
            heard: Mutex::default(),
            wanted: AtomicU64::new(0),
            completions,
        });
        let read_queue = Arc::new(Mutex::new(read_queue));
        let mut threads = Vec::new();
        for _ in 0..READERS {
            let (reader, queue) = (writer.reader(), Arc::clone(&read_queue));
            let (shared, writes) = (Arc::clone(&shared), writes.clone());
            threads.push(spawn("store-read", move || serve(reader, &queue, &writes, &shared)));
        }
        let (proofs, proof_queue) = sync_channel(PROVE_QUEUE_MAX);
        let (reader, requests) = (writer.reader(), writes.clone());
        let shared_with_proofs = Arc::clone(&shared);
        threads.push(spawn("store-prove", move || {
            prove(reader, &proof_queue, &requests, &shared_with_proofs);
        }));
        let (scrub, stop) = sync_channel(0);
        let (reader, requests) = (writer.reader(), writes.clone());
        let (shared_with_scrub, round) = (Arc::clone(&shared), writer.options.scrub_round);
        threads.push(spawn("store-scrub", move || {
            idle::run_scrub((reader, round), &stop, &requests, &shared_with_scrub);
        }));
        let shared_with_writer = Arc::clone(&shared);
        threads
            .push(spawn("store-write", move || write(writer, &write_queue, &shared_with_writer)));
        let (writes, reads, proofs) = (Some(writes), Some(reads), Some(proofs));
        Self { writes, reads, proofs, scrub: Some(scrub), shared, threads }
    }

    /// Names this incarnation of the store.
    pub fn epoch(&self) -> StoreEpoch {
        self.shared.epoch
    }

    /// Bytes on disk by account, as of the last group.
    pub fn usage(&self) -> BTreeMap<Account, u64> {
        self.shared.usage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a chunk durable; answered by [`Input::ChunksWritten`].
    ///
    /// # Errors
    /// [`StoreError::Busy`] where too much waits, [`StoreError::Io`] where the writer is gone.
    pub fn write(&self, ticket: Ticket, chunk: Box<StoredChunk>) -> Result<(), StoreError> {
        let bytes = u64::try_from(chunk.sealed.len()).unwrap_or(u64::MAX);
        let queued = &self.shared.queued;
        let before = queued.fetch_add(bytes, Ordering::AcqRel);
        let fits = before == 0 || before.saturating_add(bytes) <= WRITE_QUEUE_BYTES_MAX;
        let sent = match fits {
            true => submit(self.writes.as_ref(), Request::Write { ticket, chunk }),
            false => Err(StoreError::Busy),
        };
        sent.inspect_err(|_| {
            queued.fetch_sub(bytes, Ordering::AcqRel);
        })
    }

    /// Deletes a chunk; answered by [`Input::ChunkDeleted`].
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn delete(&self, ticket: Ticket, id: ChunkId) -> Result<(), StoreError> {
        submit(self.writes.as_ref(), Request::Delete { ticket, id })
    }

    /// Makes a record of a head durable; answered by [`Input::HeadsWritten`].
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_head(
        &self,
        ticket: Ticket,
        account: Account,
        terms: LeaseTerms,
        record: HeadRecord,
    ) -> Result<(), StoreError> {
        submit(self.writes.as_ref(), Request::Head { ticket, account, terms, record })
    }

    /// Lets chunks go, or takes that back; answered by [`Input::ChunksReleased`].
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn release(
        &self,
        ticket: Ticket,
        undo: bool,
        items: Vec<(ChunkId, LeaseNonce)>,
    ) -> Result<(), StoreError> {
        submit(self.writes.as_ref(), Request::Release { ticket, undo, items })
    }

    /// An owner proved to be there; whether an audit of its was answered with a proof. Never lost
    /// but in a crash, in which the last ten minutes may be.
    pub fn heard(&self, account: Account, audited: bool) {
        let mut heard = self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner);
        *heard.entry(account).or_default() |= audited;
    }

    /// Lists a page of what is kept for an account; answered by [`Input::ChunksListed`].
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn list(
        &self,
        ticket: Ticket,
        account: Account,
        after: ChunkId,
        limit: u32,
    ) -> Result<(), StoreError> {
        self.want(self.reads.as_ref(), Query::List(ticket, account, after, limit))
    }

    /// Looks up how it is with chunks of an account; answered by [`Input::ChunksQueried`].
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn query(
        &self,
        ticket: Ticket,
        account: Account,
        ids: Vec<ChunkId>,
    ) -> Result<(), StoreError> {
        self.want(self.reads.as_ref(), Query::States(ticket, account, ids))
    }

    /// Reads the newest record of a head, and so many that it superseded; answered by
    /// [`Input::HeadsRead`].
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_heads(
        &self,
        ticket: Ticket,
        id: ChunkId,
        superseded: usize,
    ) -> Result<(), StoreError> {
        self.want(self.reads.as_ref(), Query::Heads(ticket, id, superseded))
    }

    /// Reads a chunk; answered by [`Input::ChunkRead`].
    ///
    /// # Errors
    /// [`StoreError::Busy`] where too much waits, [`StoreError::Io`] where the readers are gone.
    pub fn read(&self, ticket: Ticket, id: ChunkId) -> Result<(), StoreError> {
        self.want(self.reads.as_ref(), Query::Read(ticket, id))
    }

    /// Reads a chunk of an account, hashes it where it is to be looked at `closely`, and does its
    /// part of an audit; answered by [`Input::ChunkProven`].
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn prove(
        &self,
        ticket: Ticket,
        (account, id): (Account, ChunkId),
        task: Task,
        closely: bool,
    ) -> Result<(), StoreError> {
        self.want(self.proofs.as_ref(), Wanted { ticket, account, id, task, closely })
    }

    /// Looks headers up; answered by [`Input::ChunksFound`].
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn find(&self, ticket: Ticket, ids: Vec<ChunkId>) -> Result<(), StoreError> {
        self.want(self.reads.as_ref(), Query::Find(ticket, ids))
    }

    /// Queues something that somebody waits for: it goes before the scrub.
    fn want<T>(&self, queue: Option<&SyncSender<T>>, item: T) -> Result<(), StoreError> {
        self.shared.wanted.fetch_add(1, Ordering::AcqRel);
        submit(queue, item).inspect_err(|_| self.shared.is_served())
    }

    /// Carries out what is queued and stops. Dropping does the same.
    pub fn close(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        // The others hold the writer's queue too: it ends after them.
        self.writes = None;
        self.reads = None;
        self.proofs = None;
        self.scrub = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so already; there is nothing to add to it.
            let _ = thread.join();
        }
    }
}

impl Drop for ChunkStore {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for ChunkStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChunkStore({})", self.shared.epoch)
    }
}

fn submit<T>(queue: Option<&SyncSender<T>>, item: T) -> Result<(), StoreError> {
    use std::sync::mpsc::TrySendError;
    queue.ok_or(StoreError::Io)?.try_send(item).map_err(|error| match error {
        TrySendError::Full(_) => StoreError::Busy,
        TrySendError::Disconnected(_) => StoreError::Io,
    })
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(body).expect("the system can start a thread when the program starts")
}

fn bytes_of(request: &Request) -> u64 {
    match request {
        Request::Write { chunk, .. } => u64::try_from(chunk.sealed.len()).unwrap_or(u64::MAX),
        Request::Delete { .. }
        | Request::Quarantine { .. }
        | Request::Head { .. }
        | Request::Release { .. }
        | Request::Heard { .. }
        | Request::Uptime { .. } => 0,
    }
}

/// One group of what waits, and the bytes of its chunks.
fn gather(first: Request, queue: &Receiver<Request>) -> (Vec<Request>, u64) {
    let mut bytes = bytes_of(&first);
    let mut group = vec![first];
    while group.len() < GROUP_MAX
        && bytes < GROUP_BYTES_MAX
        && let Ok(next) = queue.try_recv()
    {
        bytes = bytes.saturating_add(bytes_of(&next));
        group.push(next);
    }
    (group, bytes)
}

/// The writer's thread: what waits when the last group is done is the next group.
fn write<D: Disk, C: Catalogue>(
    mut writer: Writer<D, C>,
    queue: &Receiver<Request>,
    shared: &Shared,
) {
    let mut space = writer.space();
    (shared.completions)(Input::Space(space));
    (shared.completions)(Input::Uptime(writer.uptime()));
    let damaged = writer.damaged();
    if !damaged.is_empty() {
        (shared.completions)(Input::ChunksDamaged(damaged));
    }
    let mut saved = Instant::now();
    let mut untidy = true;
    loop {
        let first = match untidy {
            true => queue.try_recv(),
            false => queue.recv_timeout(LOOK).map_err(|error| match error {
                RecvTimeoutError::Timeout => TryRecvError::Empty,
                RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
            }),
        };
        let was_read_only = writer.read_only().is_some();
        match first {
            Ok(first) => {
                let (group, bytes) = gather(first, queue);
                let mut requests = shared.take_heard();
                requests.extend(group);
                let inputs = writer.commit(requests);
                shared.queued.fetch_sub(bytes, Ordering::AcqRel);
                inputs.into_iter().for_each(|input| (shared.completions)(input));
            }
            // Nobody waits: there is time for what is left to reclaim, and for a look at the disk.
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => {
                writer.commit(shared.take_heard());
                return;
            }
        }
        let passed_s = saved.elapsed().as_secs();
        if passed_s >= UPTIME_EVERY_S {
            saved += Duration::from_secs(passed_s);
            let mut requests = shared.take_heard();
            requests.push(Request::Uptime { passed_s });
            let inputs = writer.commit(requests);
            inputs.into_iter().for_each(|input| (shared.completions)(input));
        }
        // A few of what was let go long enough, and then whoever waits.
        if writer.has_due() {
            writer
                .commit(shared.take_heard())
                .into_iter()
                .for_each(|input| (shared.completions)(input));
        }
        untidy = writer.tidy() || writer.has_due();
        if let Some(reason) = writer.read_only().filter(|_| !was_read_only) {
            tracing::error!(%reason, "the store is read-only until it is opened again");
        }
        let now = writer.space();
        if now != space {
            space = now;
            let mut usage = shared.usage.lock().unwrap_or_else(PoisonError::into_inner);
            usage.clone_from(writer.usage());
            drop(usage);
            shared.used.store(space.used, Ordering::Release);
            (shared.completions)(Input::Space(space));
        }
    }
}

fn serve<D: Disk, C: Catalogue>(
    mut reader: Reader<D, C>,
    queue: &Mutex<Receiver<Query>>,
    writes: &SyncSender<Request>,
    shared: &Shared,
) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(Query::Read(ticket, id)) => {
                let outcome = reader.read(&id);
                if let Some(request) = outcome.rot {
                    tracing::warn!(%id, "a chunk is damaged on disk");
                    // Where the queue is full the next read finds it again.
                    let _ = writes.try_send(request);
                }
                (shared.completions)(Input::ChunkRead { ticket, result: outcome.result });
            }
            Ok(Query::Find(ticket, ids)) => {
                let found = reader.find(&ids);
                (shared.completions)(Input::ChunksFound { ticket, found });
            }
            Ok(Query::Heads(ticket, id, newest)) => {
                let result = reader.read_heads(&id, newest);
                (shared.completions)(Input::HeadsRead { ticket, result });
            }
            Ok(Query::List(ticket, account, after, limit)) => {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                let result = reader.list(&account, &after, limit);
                (shared.completions)(Input::ChunksListed { ticket, result });
            }
            Ok(Query::States(ticket, account, ids)) => {
                let result = reader.query(&account, &ids);
                (shared.completions)(Input::ChunksQueried { ticket, result });
            }
            Err(_) => return,
        }
        shared.is_served();
    }
}

/// The thread of audits: one chunk after the other.
fn prove<D: Disk, C: Catalogue>(
    mut reader: Reader<D, C>,
    queue: &Receiver<Wanted>,
    writes: &SyncSender<Request>,
    shared: &Shared,
) {
    while let Ok(Wanted { ticket, account, id, task, closely }) = queue.recv() {
        let (result, rot) = reader.prove(&account, &id, &task, closely);
        if let Some(request) = rot {
            tracing::warn!(%id, "an audit found a chunk damaged on disk");
            // Where the queue is full the next look finds it again.
            let _ = writes.try_send(request);
        }
        (shared.completions)(Input::ChunkProven { ticket, result });
        shared.is_served();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::effect::Space;
    use crate::store::memory::{MemoryCatalogue, MemoryDisk};
    use std::sync::mpsc::channel;

    #[test]
    fn room_that_others_take_and_make_is_told_without_a_group() {
        let disk = Arc::new(MemoryDisk::new(8 << 20));
        let (catalogue, key) = (Arc::new(MemoryCatalogue::new()), WrapKey::from_bytes([9; 32]));
        let options = Options { segment_bytes: 1 << 20, ..Options::with_reserve(1 << 30, 0) };
        let rng = ChaCha20Rng::from_seed([1; 32]);
        let opened = Writer::open(Arc::clone(&disk), catalogue, Arc::new(key), options, rng);
        let (send, inputs) = channel();
        let told = Box::new(move |input| drop(send.send(input)));
        let _store = ChunkStore::start(opened.unwrap().0, told);
        let free_is = |wanted: fn(u64) -> bool| {
            let next = || inputs.recv_timeout(Duration::from_secs(60)).expect("the store tells");
            while !matches!(next(), Input::Space(Space { free, .. }) if wanted(free)) {}
        };
        free_is(|free| free > 4 << 20);
        disk.set_capacity(1 << 20);
        free_is(|free| free < 1 << 20);
        disk.set_capacity(8 << 20);
        free_is(|free| free > 4 << 20);
    }
}
