//! The second pass: folders that nobody else can enter, and in them the files.

use super::fetch::{Entries, Fetcher};
use super::finish::FirstNames;
use super::folders::{Asked, Folders};
use super::journal::{PathKey, is_fatal, key_of, stamp_of};
use super::queue::{Gone, Queue};
use super::report::{RestoreProgress, RestoreReport, SkipReason};
use super::space::{Demand, Room};
use super::survey::check_room;
use super::target::{Existing, Places};
use super::write::{
    Desk, Done, InodeKey, Job as Order, Outcome, Part, Waiting, held, reason_of, reclaim,
};
use super::{Job, RestoreError};
use crate::repo::get::ChunkSource;
use crate::repo::plan::window::Window;
use crate::repo::plan::{Arrival, Plan};
use crate::repo::ranges::Ranges;
use crate::repo::tree::{Content, Entry, What};
use bytes::Bytes;
use rustix::fs::{FileType, Stat};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
        let (queue, running) = Queue::start(scope, desk);
        let syncs = Syncs { last: Instant::now(), written: 0, running: false, looked: 0 };
        let files = Files { job, desk, folders, pass, queue, unfinished: 0, syncs };
        let written = files.run(entries, fetcher);
        // One that died has said so: joined here, it takes nobody along.
        running.into_iter().for_each(|thread| drop(thread.join()));
        written
    })
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
    /// Files of which nothing final has come.
    unfinished: u64,
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
                    Some(entry) => self.take(entry, &mut window)?,
                    None => more = false,
                }
            }
            let entries = window.into_entries();
            self.announce(&entries)?;
            let files = self.make_folders(entries)?;
            self.window(files, fetcher)?;
        }
        while self.queue.open() > 0 {
            self.wait()?;
        }
        if self.unfinished > 0 {
            let unfinished = io::Error::other("some files were left unfinished");
            return Err(self.job.failed(unfinished));
        }
        (self.job.progress)(self.pass.progress);
        Ok(())
    }

    /// Puts a folder or a file that is wanted in the window.
    fn take(&mut self, entry: Entry, window: &mut Window) -> Result<(), RestoreError> {
        self.job.check_cancelled()?;
        let folder = matches!(entry.what, What::Folder(_));
        let file = matches!(entry.what, What::File(_));
        if (folder || file) && self.job.options.wants(&entry.path, folder) {
            window.push(entry);
        }
        Ok(())
    }

    /// Where some of what is there is not ours: records which folders will be, and makes that
    /// durable before any of them is there.
    fn announce(&mut self, entries: &[Entry]) -> Result<(), RestoreError> {
        if self.job.target.existing() == Existing::Refuse {
            return Ok(());
        }
        for entry in entries {
            let folder = matches!(entry.what, What::Folder(_));
            let announced = self.folders.announce(&entry.path, folder);
            announced.map_err(|error| self.write_failed(error))?;
        }
        if self.folders.take_recorded() { self.flush() } else { Ok(()) }
    }

    /// Makes the folders of a window, and what lacks above its files, which are what is left. Not
    /// when a file is written: entries come depth first, files are written in any order.
    fn make_folders(&mut self, entries: Vec<Entry>) -> Result<Vec<Entry>, RestoreError> {
        let mut files = Vec::with_capacity(entries.len());
        for entry in entries {
            self.job.check_cancelled()?;
            let made = match self.folders.place_made(&entry.path) {
                Ok(_) if matches!(entry.what, What::File(_)) => {
                    files.push(entry);
                    continue;
                }
                Ok(_) => self.folders.make(&entry.path, Asked::ForItself),
                Err(error) => Err(error),
            };
            match made {
                Ok(()) => self.pass.progress.entries += 1,
                Err(error) => self.skip(&entry.path, error)?,
            }
            if entry.unreadable {
                // It is there, without what was in it.
                self.pass.report.skip(&entry.path, SkipReason::Unreadable, None);
            }
        }
        Ok(files)
    }

    /// Makes the journal durable.
    fn flush(&self) -> Result<(), RestoreError> {
        self.desk.journal.flush().map_err(|error| self.write_failed(error))
    }

    fn window<S: ChunkSource>(
        &mut self,
        entries: Vec<Entry>,
        fetcher: &mut Fetcher<'_, S>,
    ) -> Result<(), RestoreError> {
        let mut plan = Plan::new(self.job.options.limits, self.job.options.hasher());
        let mut slots = Vec::new();
        let mut admitted = Vec::with_capacity(entries.len());
        for entry in entries {
            self.job.check_cancelled()?;
            admitted.extend(self.admit(entry)?);
        }
        if self.job.target.existing() == Existing::Keep && !admitted.is_empty() {
            // After a crash nothing else says that what has these names is not to be kept.
            for waiting in &admitted {
                let planned = self.desk.journal.planned(waiting.key);
                planned.map_err(|error| self.write_failed(error))?;
            }
            self.flush()?;
        }
        for waiting in admitted {
            self.plan(waiting, &mut plan, &mut slots)?;
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
            let file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            if file && self.desk.earlier.placed(&key) == Some(stamp_of(&stat)) {
                let (bytes, inode) = (waiting_bytes(entry), (stat.st_dev, stat.st_ino));
                self.pass.report.resumed_files += 1;
                self.restored(key, bytes, inode);
                return Ok(None);
            }
            let doubtful =
                self.desk.earlier.is_doubtful(&key) || self.is_left_over(&stat, &waiting);
            waiting.replace |= file && doubtful;
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

    /// Whether a file in a target that was empty at first is of an earlier run, though no record
    /// proves it: they may have been lost in a crash of the system, and there are file systems that
    /// number their inodes anew each time.
    fn is_left_over(&self, stat: &Stat, waiting: &Waiting) -> bool {
        let (entry, earlier) = (&waiting.entry, self.desk.earlier);
        let own = rustix::process::geteuid().as_raw();
        let ours = stat.st_nlink == 1 && (stat.st_uid == own || stat.st_uid == entry.uid);
        let seconds = 1_000_000_000;
        let time = i128::from(stat.st_mtime) * seconds + i128::from(stat.st_mtime_nsec);
        // Some file systems keep every other second.
        let time = time.abs_diff(entry.mtime_ns.into()) <= 2_000_000_000;
        let same = time && u64::try_from(stat.st_size).ok() == Some(entry.bytes());
        let placed = same && earlier.placed(&waiting.key).is_some();
        let refuse = self.job.target.existing() == Existing::Refuse;
        refuse && ours && (earlier.rebooted || placed)
    }

    /// Says what a file needs, or writes it where that is nothing.
    fn plan(
        &mut self,
        waiting: Box<Waiting>,
        plan: &mut Plan,
        slots: &mut Vec<Slot>,
    ) -> Result<(), RestoreError> {
        let What::File(body) = &waiting.entry.what else { return Ok(()) };
        self.unfinished += 1;
        match &body.content {
            Content::None => {
                self.order(Order::Whole(waiting, Ok(Bytes::new())), 0)?;
            }
            Content::Listing(_) => {
                let mut places = Places::new(self.job.target);
                let (held, inode) = match self.desk.earlier.resumed {
                    true => held(self.desk, &mut places, &waiting),
                    false => (Ranges::default(), None),
                };
                self.pass.progress.bytes = self.pass.progress.bytes.saturating_add(held.bytes());
                let whole = held.bytes() == body.data_bytes();
                let index = slots.len();
                let body = body.duplicate();
                let part = Arc::new(Part::new(*waiting, &held, inode));
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
        self.queue.order(order, bytes).map_err(|Gone| self.gone())
    }

    /// Takes what the writers have done; waits for them where they are behind.
    fn keep_up(&mut self) -> Result<(), RestoreError> {
        loop {
            if self.queue.is_full() {
                self.wait()?;
                continue;
            }
            match self.queue.try_done().map_err(|Gone| self.gone())? {
                Some(done) => self.done(done)?,
                None => break,
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
        let done = self.queue.wait().map_err(|Gone| self.gone())?;
        self.done(done)
    }

    fn gone(&self) -> RestoreError {
        self.job.failed(io::ErrorKind::BrokenPipe.into())
    }

    fn done(&mut self, done: Done) -> Result<(), RestoreError> {
        let Done { thread: _, bytes, sync, outcome } = done;
        self.syncs.written = self.syncs.written.saturating_add(bytes);
        self.syncs.looked = self.syncs.looked.saturating_add(bytes);
        if sync {
            self.syncs = Syncs { last: Instant::now(), written: 0, running: false, ..self.syncs };
        }
        let outcome = outcome.map_err(|error| self.write_failed(error))?;
        self.unfinished = self.unfinished.saturating_sub(outcome.is_some().into());
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
