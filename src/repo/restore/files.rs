//! The second pass: folders that nobody else can enter, and in them the files.

use super::fetch::{Entries, Fetcher};
use super::finish::FirstNames;
use super::folders::Folders;
use super::journal::{PathKey, is_fatal, key_of};
use super::report::{RestoreProgress, RestoreReport, SkipReason};
use super::space::{Demand, Room};
use super::survey::check_room;
use super::target::{Existing, Places};
use super::write::{
    Desk, Done, InodeKey, Job as Order, Outcome, Part, Waiting, held, reason_of, reclaim,
    stands_whole, write,
};
use super::{Job, RestoreError};
use crate::repo::get::ChunkSource;
use crate::repo::plan::window::Window;
use crate::repo::plan::{Arrival, Plan};
use crate::repo::ranges::Ranges;
use crate::repo::tree::{Content, Entry, What};
use bytes::Bytes;
use rustix::fs::FileType;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvError, SyncSender, TryRecvError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Threads that write.
const WRITERS: usize = 2;

/// Bytes that wait to be written, at most, but for those of one chunk.
const QUEUED_BYTES_MAX: u64 = 24 << 20;

/// Files that wait to be written, at most.
const QUEUED_MAX: usize = 1024;

/// What was written is made durable so often, or when so much of it is new.
const SYNC_EVERY: Duration = Duration::from_secs(30);
const SYNC_BYTES: u64 = 256 << 20;

/// The disk's room is looked at again after so many bytes.
const ROOM_BYTES: u64 = 1 << 30;

/// What the passes have in common.
pub(super) struct Pass {
    pub(super) firsts: FirstNames,
    pub(super) report: RestoreReport,
    pub(super) progress: RestoreProgress,
}

/// The second pass, with its writers.
pub(super) fn files<'a, S: ChunkSource>(
    job: &mut Job<'_>,
    desk: Desk<'a>,
    folders: &mut Folders<'a>,
    pass: &mut Pass,
    entries: &mut impl Entries,
    fetcher: &mut Fetcher<'_, S>,
) -> Result<(), RestoreError> {
    std::thread::scope(|scope| {
        let (orders, receiver) = mpsc::sync_channel(QUEUED_MAX);
        let (done, outcomes) = mpsc::channel();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..WRITERS {
            let (receiver, done) = (Arc::clone(&receiver), done.clone());
            scope.spawn(move || write(desk, &receiver, &done));
        }
        drop((done, receiver));
        let queue = Queue { orders, outcomes, open: 0, files: 0, bytes: 0 };
        let syncs = Syncs { last: Instant::now(), written: 0, running: false, looked: 0 };
        Files { job, desk, folders, pass, queue, syncs }.run(entries, fetcher)
    })
}

/// What waits to be written, and what came of it.
struct Queue {
    orders: SyncSender<Order>,
    outcomes: Receiver<Done>,
    /// Orders whose outcome has not come.
    open: usize,
    /// Files of which nothing final has come.
    files: u64,
    bytes: u64,
}

/// When to make durable what was written, and to look at the disk's room.
struct Syncs {
    last: Instant,
    written: u64,
    running: bool,
    looked: u64,
}

/// A file that waits for its data.
enum Slot {
    Whole(Option<Box<Waiting>>),
    Part(Arc<Part>),
}

/// The second pass.
struct Files<'a, 'd, 'j> {
    job: &'a mut Job<'j>,
    desk: Desk<'d>,
    folders: &'a mut Folders<'d>,
    pass: &'a mut Pass,
    queue: Queue,
    syncs: Syncs,
}

impl Files<'_, '_, '_> {
    fn run<S: ChunkSource>(
        mut self,
        entries: &mut impl Entries,
        fetcher: &mut Fetcher<'_, S>,
    ) -> Result<(), RestoreError> {
        entries.restart(fetcher);
        let mut more = true;
        while more {
            let mut window = Window::default();
            while more && !window.is_full() {
                match entries.next(fetcher, &mut self.pass.report)? {
                    Some(entry) => self.entry(entry, &mut window)?,
                    None => more = false,
                }
            }
            self.window(window.into_entries(), fetcher)?;
        }
        while self.queue.open > 0 {
            self.wait()?;
        }
        if self.queue.files > 0 {
            let unfinished = io::Error::other("some files were left unfinished");
            return Err(self.job.failed(unfinished));
        }
        (self.job.progress)(self.pass.progress);
        Ok(())
    }

    /// Makes a folder, or puts a file in the window.
    fn entry(&mut self, entry: Entry, window: &mut Window) -> Result<(), RestoreError> {
        self.job.check_cancelled()?;
        let folder = matches!(entry.what, What::Folder(_));
        let file = matches!(entry.what, What::File(_));
        if !(folder || file) || !self.job.options.wants(&entry.path, folder) {
            return Ok(());
        }
        // Here and not when the file is written: entries come depth first, windows do not.
        let place = self.folders.place_made(&entry.path);
        let made = match place {
            Ok(_) if file => {
                window.push(entry);
                return Ok(());
            }
            Ok(_) => self.folders.make(&entry.path),
            Err(error) => Err(error),
        };
        self.pass.progress.entries += 1;
        match made {
            Ok(()) => Ok(()),
            Err(error) => self.skip(&entry.path, error),
        }
    }

    fn window<S: ChunkSource>(
        &mut self,
        entries: Vec<Entry>,
        fetcher: &mut Fetcher<'_, S>,
    ) -> Result<(), RestoreError> {
        let mut plan = Plan::new(self.job.options.limits, self.job.options.hasher());
        let mut slots = Vec::new();
        for entry in entries {
            self.job.check_cancelled()?;
            if let Some(waiting) = self.admit(entry)? {
                self.plan(waiting, &mut plan, &mut slots)?;
            }
        }
        loop {
            self.job.check_cancelled()?;
            while let Some(need) = plan.next_need() {
                fetcher.ask(need);
            }
            if plan.is_done() {
                return Ok(());
            }
            let (index, plaintext) = fetcher.next(false)?;
            self.pass.progress.chunks = fetcher.chunks;
            for arrival in plan.give(index, plaintext) {
                self.arrived(arrival, &mut slots)?;
            }
            self.keep_up()?;
            (self.job.progress)(self.pass.progress);
        }
    }

    /// A file that is to be fetched; `None` where it is there already, or cannot be.
    fn admit(&mut self, entry: Entry) -> Result<Option<Box<Waiting>>, RestoreError> {
        if entry.unreadable {
            self.pass.progress.entries += 1;
            self.pass.report.skip(&entry.path, SkipReason::Unreadable, None);
            return Ok(None);
        }
        let key = key_of(&entry.path);
        let place = match self.folders.place(&entry.path) {
            Ok(place) => place,
            Err(error) => return self.skip(&entry.path, error).map(|()| None),
        };
        let existing = self.job.target.existing();
        let replace = existing == Existing::Replace;
        let mut waiting = Box::new(Waiting { entry, key, replace });
        if existing == Existing::Refuse && !self.desk.earlier.resumed {
            return Ok(Some(waiting));
        }
        let entry = &waiting.entry;
        let stat = match place.stat() {
            Ok(stat) => stat,
            Err(error) => return self.skip(&entry.path, error).map(|()| None),
        };
        if let Some(stat) = stat {
            let placed = self.desk.earlier.is_placed(&key);
            if placed && let Ok(Some(inode)) = stands_whole(&place, entry) {
                let bytes = waiting_bytes(entry);
                self.pass.report.resumed_files += 1;
                self.restored(key, bytes, inode);
                return Ok(None);
            }
            let file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            waiting.replace |= file && self.desk.earlier.is_doubtful(&key);
            let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if folder || !waiting.replace {
                let reason = if folder { SkipReason::IsFolder } else { SkipReason::Exists };
                self.pass.progress.entries += 1;
                self.pass.report.skip(&waiting.entry.path, reason, None);
                return Ok(None);
            }
        }
        reclaim(self.desk, &place, &waiting);
        Ok(Some(waiting))
    }

    /// Says what a file needs, or writes it where that is nothing.
    fn plan(
        &mut self,
        waiting: Box<Waiting>,
        plan: &mut Plan,
        slots: &mut Vec<Slot>,
    ) -> Result<(), RestoreError> {
        let What::File(body) = &waiting.entry.what else { return Ok(()) };
        self.queue.files += 1;
        match &body.content {
            Content::None => {
                self.order(Order::Whole(waiting, Ok(Bytes::new())), 0)?;
            }
            Content::Listing(_) => {
                let mut places = Places::new(self.job.target);
                let held = match self.desk.earlier.resumed {
                    true => held(self.desk, &mut places, &waiting),
                    false => Ranges::default(),
                };
                self.pass.progress.bytes = self.pass.progress.bytes.saturating_add(held.bytes());
                let whole = held.bytes() == body.data_bytes();
                let index = slots.len();
                let body = body.duplicate();
                let part = Arc::new(Part::new(*waiting, &held));
                if whole {
                    self.order(Order::Piece(part, 0, Bytes::new()), 0)?;
                } else {
                    plan.add_rest(index, &body, held);
                    slots.push(Slot::Part(part));
                }
            }
            Content::Packed { .. } | Content::Piece(_) => {
                plan.add(slots.len(), body);
                slots.push(Slot::Whole(Some(waiting)));
            }
        }
        self.keep_up()
    }

    fn arrived(&mut self, arrival: Arrival, slots: &mut [Slot]) -> Result<(), RestoreError> {
        let (file, outcome) = match arrival {
            Arrival::Bytes { file, at, bytes } => (file, Ok((at, bytes))),
            Arrival::Lost { file, range, why } => (file, Err((range, why))),
        };
        let order = match (slots.get_mut(file), outcome) {
            (Some(Slot::Whole(waiting)), outcome) => {
                let Some(waiting) = waiting.take() else { return Ok(()) };
                let data = outcome.map(|(_, bytes)| bytes).map_err(|(_, why)| why);
                Order::Whole(waiting, data)
            }
            (Some(Slot::Part(part)), Ok((at, bytes))) => Order::Piece(Arc::clone(part), at, bytes),
            (Some(Slot::Part(part)), Err((range, why))) => {
                Order::Lost(Arc::clone(part), range, why)
            }
            (None, _) => return Ok(()),
        };
        let bytes = match &order {
            Order::Whole(_, Ok(bytes)) | Order::Piece(_, _, bytes) => bytes.len() as u64,
            _ => 0,
        };
        self.pass.progress.bytes = self.pass.progress.bytes.saturating_add(bytes);
        self.order(order, bytes)
    }

    /// Hands an order to the writers.
    fn order(&mut self, order: Order, bytes: u64) -> Result<(), RestoreError> {
        let gone = |_| self.job.failed(io::ErrorKind::BrokenPipe.into());
        self.queue.orders.send(order).map_err(gone)?;
        self.queue.open += 1;
        self.queue.bytes = self.queue.bytes.saturating_add(bytes);
        Ok(())
    }

    /// Takes what the writers have done; waits for them where they are behind.
    fn keep_up(&mut self) -> Result<(), RestoreError> {
        loop {
            if self.queue.bytes > QUEUED_BYTES_MAX || self.queue.open >= QUEUED_MAX {
                self.wait()?;
                continue;
            }
            match self.queue.outcomes.try_recv() {
                Ok(done) => self.done(done)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(self.gone()),
            }
        }
        let due = self.syncs.last.elapsed() >= SYNC_EVERY || self.syncs.written >= SYNC_BYTES;
        if due && !self.syncs.running {
            self.syncs.running = true;
            self.order(Order::Sync, 0)?;
        }
        if self.syncs.looked >= ROOM_BYTES {
            self.syncs.looked = 0;
            check_room(self.job, Demand { entries: 0, bytes: 1 })?;
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<(), RestoreError> {
        let done = self.queue.outcomes.recv().map_err(|RecvError| self.gone())?;
        self.done(done)
    }

    fn gone(&self) -> RestoreError {
        self.job.failed(io::ErrorKind::BrokenPipe.into())
    }

    fn done(&mut self, done: Done) -> Result<(), RestoreError> {
        let Done { bytes, sync, outcome } = done;
        self.queue.open = self.queue.open.saturating_sub(1);
        self.queue.bytes = self.queue.bytes.saturating_sub(bytes);
        self.syncs.written = self.syncs.written.saturating_add(bytes);
        self.syncs.looked = self.syncs.looked.saturating_add(bytes);
        if sync {
            self.syncs = Syncs { last: Instant::now(), written: 0, running: false, ..self.syncs };
        }
        let outcome = outcome.map_err(|error| self.write_failed(error))?;
        self.queue.files = self.queue.files.saturating_sub(outcome.is_some().into());
        match outcome {
            None => {}
            Some(Outcome::Restored { key, bytes, inode, undressed }) => {
                self.pass.report.undress(undressed);
                self.restored(key, bytes, inode);
            }
            Some(Outcome::Damaged(damaged)) => {
                self.pass.progress.entries += 1;
                self.pass.report.damage(damaged);
            }
            Some(Outcome::Skipped { path, reason, why }) => {
                self.pass.progress.entries += 1;
                self.pass.report.skip(&path, reason, why);
            }
        }
        Ok(())
    }

    fn restored(&mut self, key: PathKey, bytes: u64, inode: InodeKey) {
        self.pass.progress.entries += 1;
        self.pass.report.files += 1;
        self.pass.report.bytes = self.pass.report.bytes.saturating_add(bytes);
        if let Some(first) = self.pass.firsts.get_mut(&key) {
            *first = Some(inode);
        }
    }

    /// A failure of one entry, unless it is one of all.
    fn skip(&mut self, path: &[u8], error: io::Error) -> Result<(), RestoreError> {
        if is_fatal(&error) {
            return Err(self.write_failed(error));
        }
        self.pass.progress.entries += 1;
        self.pass.report.skip(path, reason_of(&error), Some(error.to_string()));
        Ok(())
    }

    /// A disk that filled up meanwhile says so like one that was full before.
    fn write_failed(&self, error: io::Error) -> RestoreError {
        if [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&error.kind()) {
            let path = self.job.target.path().to_owned();
            let available = Room::of(self.job.target.root()).map_or(0, Room::available);
            return RestoreError::Space { path, needed: available.saturating_add(1), available };
        }
        self.job.failed(error)
    }
}

fn waiting_bytes(entry: &Entry) -> u64 {
    match &entry.what {
        What::File(body) => body.data_bytes(),
        _ => 0,
    }
}
