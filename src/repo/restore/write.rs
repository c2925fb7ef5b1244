//! Files, from their first byte to their name: what the writing threads do.
//!
//! A file lies under a name that nobody can guess, readable by nobody else, until all of it is
//! there; then it is dressed by its handle, and renamed. Data that is short comes all at once; that
//! of a large file in pieces, in any order, on any thread. The disk is told early to begin writing,
//! so that the sync at the end finds little to do.

use super::dress::Dresser;
use super::journal::{Earlier, Journal, PathKey, is_fatal, stamp_of};
use super::report::{DamagedFile, RANGES_MAX, SkipReason, Undressed};
use super::target::{Place, Places, Target};
use crate::repo::blocks::{allocate, punch};
use crate::repo::plan::Lost;
use crate::repo::plan::window::Layout;
use crate::repo::ranges::Ranges;
use crate::repo::tree::path::COMPONENT_BYTES_MAX;
use crate::repo::tree::{Entry, FileBody, What};
use bytes::Bytes;
use rustix::fs::{Advice, fadvise, fstat};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

/// What stands behind the name of a file that is not whole.
pub(super) const DAMAGED: &[u8] = b".quloud-damaged";

/// Files at least this long are written out at once; shorter ones by the next sync.
const WRITE_BACK_BYTES: usize = 128 << 10;

/// A large file takes its blocks in steps of so many bytes.
const STEP_BYTES: u64 = 16 << 20;

/// So many names are tried for a damaged file.
const NAMES_MAX: u32 = 16;

/// Device and number of an inode.
pub(super) type InodeKey = (u64, u64);

/// A file, and what it takes to give it its name.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) entry: Entry,
    pub(super) key: PathKey,
    /// What has the name is replaced.
    pub(super) replace: bool,
}

impl Waiting {
    fn body(&self) -> Option<&FileBody> {
        match &self.entry.what {
            What::File(body) => Some(body),
            _ => None,
        }
    }
}

/// A large file that is being written.
#[derive(Debug)]
pub(super) struct Part {
    waiting: Waiting,
    layout: Layout,
    /// The file in which bytes of it were found.
    found: Option<InodeKey>,
    state: Mutex<PartState>,
}

#[derive(Debug)]
struct PartState {
    file: Option<(Place, Arc<File>)>,
    /// Bytes of which it is not known yet whether they come.
    left: u64,
    missing: Vec<Range<u64>>,
    missing_bytes: u64,
    why: Option<Lost>,
    /// Nothing more is written.
    failed: Option<Outcome>,
    /// Steps of its data that have their blocks.
    roomy: BTreeSet<u64>,
}

impl PartState {
    /// Takes blocks for the steps that `range` of the data touches; holes stay holes. Not for all
    /// of the file at once: nothing of the rest is verified yet.
    fn take_room(&mut self, part: &Part, file: &File, range: &Range<u64>) -> io::Result<()> {
        for step in range.start / STEP_BYTES..range.end.div_ceil(STEP_BYTES) {
            if self.roomy.insert(step) {
                let start = step.saturating_mul(STEP_BYTES);
                let places = part.layout.places(&(start..start.saturating_add(STEP_BYTES)));
                places.iter().try_for_each(|place| allocate(file, place))?;
            }
        }
        Ok(())
    }
}

impl Part {
    /// A file of which these bytes are there, in the file with this inode if there are any.
    pub(super) fn new(waiting: Waiting, held: &Ranges, inode: Option<InodeKey>) -> Self {
        let none = FileBody {
            bytes: 0,
            inode: crate::repo::tree::Inode::default(),
            extents: None,
            content: crate::repo::tree::Content::None,
        };
        let body = waiting.body().unwrap_or(&none);
        let left = body.data_bytes().saturating_sub(held.bytes());
        let state = PartState {
            file: None,
            left,
            missing: Vec::new(),
            missing_bytes: 0,
            why: None,
            failed: None,
            roomy: BTreeSet::new(),
        };
        let found = inode.filter(|_| held.bytes() > 0);
        Self { layout: Layout::of(body), waiting, found, state: Mutex::new(state) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, PartState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a writing thread does next.
#[derive(Debug)]
pub(super) enum Job {
    /// A file all of whose data is here, or none of it.
    Whole(Box<Waiting>, Result<Bytes, Lost>),
    /// Bytes of a large file, by their place in the data.
    Piece(Arc<Part>, u64, Bytes),
    /// These do not come.
    Lost(Arc<Part>, Range<u64>, Lost),
    /// All that was written is made durable.
    Sync,
}

/// What became of a file.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// It is there, and whole.
    Restored { key: PathKey, bytes: u64, inode: InodeKey, undressed: Vec<Undressed> },
    /// It is there in part.
    Damaged(DamagedFile),
    /// It is not there.
    Skipped { path: Vec<u8>, reason: SkipReason, why: Option<String> },
}

/// What a job came to.
#[derive(Debug)]
pub(super) struct Done {
    /// Of which thread.
    pub(super) thread: usize,
    /// Bytes that are no longer waiting to be written.
    pub(super) bytes: u64,
    pub(super) sync: bool,
    /// Of the file, if it was the last job of one; the system's failure that ends the restore.
    pub(super) outcome: Result<Option<Outcome>, io::Error>,
}

/// What all writing threads share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Desk<'a> {
    pub(super) target: &'a Target,
    pub(super) journal: &'a Journal,
    pub(super) earlier: &'a Earlier,
    pub(super) dresser: Dresser,
}

/// Does the jobs of one thread, until there are no more.
pub(super) fn write(desk: Desk<'_>, thread: usize, jobs: &Receiver<Job>, done: &Sender<Done>) {
    let mut writer = Writer { desk, places: Places::new(desk.target) };
    let _last_word = LastWord { thread, done };
    for job in jobs {
        let sync = matches!(job, Job::Sync);
        let (bytes, outcome) = match job {
            Job::Whole(waiting, data) => {
                let bytes = data.as_ref().map_or(0, |data| data.len() as u64);
                (bytes, writer.whole(&waiting, data).map(Some))
            }
            Job::Piece(part, at, bytes) => (bytes.len() as u64, writer.piece(&part, at, &bytes)),
            Job::Lost(part, range, why) => (0, writer.lost(&part, &range, why)),
            Job::Sync => (0, desk.journal.sync().map(|()| None)),
        };
        // Where nobody listens any more, what was ordered is done all the same.
        let _ = done.send(Done { thread, bytes, sync, outcome });
    }
}

/// Says that a thread died, so that nobody waits for what it was to do.
pub(super) struct LastWord<'a> {
    pub(super) thread: usize,
    pub(super) done: &'a Sender<Done>,
}

impl Drop for LastWord<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let outcome = Err(io::Error::other("a writing thread died"));
            let (thread, done) = (self.thread, self.done);
            let _ = done.send(Done { thread, bytes: 0, sync: false, outcome });
        }
    }
}

/// What an earlier run left as damaged is a part again. Best effort: where it is not, all of it is
/// fetched.
pub(super) fn reclaim(desk: Desk<'_>, place: &Place, waiting: &Waiting) {
    let Some((inode, number)) = desk.earlier.damaged(&waiting.key) else { return };
    let damaged = place.beside(damaged_name(&place.name, number));
    // Whatever else has that name by now is somebody's.
    let found = damaged.open_ours().and_then(|file| Ok(fstat(&file)?.st_ino));
    if found.is_ok_and(|found| found == inode) {
        let part = place.beside(desk.journal.part_name(&waiting.entry.path));
        let _ = damaged.rename(&part, false);
    }
}

/// What of an unfinished file is there, and in which file: it is looked at, and left where it is.
pub(super) fn held(
    desk: Desk<'_>,
    places: &mut Places<'_>,
    waiting: &Waiting,
) -> (Ranges, Option<InodeKey>) {
    let nothing = || (Ranges::default(), None);
    let Some(body) = waiting.body() else { return nothing() };
    let path = &waiting.entry.path;
    let part = places.of(path).and_then(|place| {
        let part = place.beside(desk.journal.part_name(path));
        part.open_ours()
    });
    let opened = part.and_then(|file| Ok((inode_of(&file)?, file)));
    let Ok((inode, file)) = opened else { return nothing() };
    let layout = Layout::of(body);
    let held = desk.earlier.verified(&waiting.key, body, |range| layout.places(range), &file);
    (held, Some(inode))
}

fn inode_of(file: &File) -> io::Result<InodeKey> {
    let stat = fstat(file)?;
    Ok((stat.st_dev, stat.st_ino))
}

struct Writer<'a> {
    desk: Desk<'a>,
    places: Places<'a>,
}

impl Writer<'_> {
    fn whole(&mut self, waiting: &Waiting, data: Result<Bytes, Lost>) -> io::Result<Outcome> {
        let outcome = self.try_whole(waiting, data);
        outcome.or_else(|error| skip_or_fail(waiting, error))
    }

    fn try_whole(&mut self, waiting: &Waiting, data: Result<Bytes, Lost>) -> io::Result<Outcome> {
        let Some(body) = waiting.body() else { return Err(ErrorKind::InvalidInput.into()) };
        let place = self.places.of(&waiting.entry.path)?;
        let part = place.beside(self.desk.journal.part_name(&waiting.entry.path));
        let file = create(&part)?;
        let data = match data {
            Ok(data) => data,
            Err(why) => {
                let layout = Layout::of(body);
                let missing = layout.places(&(0..body.data_bytes()));
                let missing_bytes = body.data_bytes();
                let lost = (missing, missing_bytes, &why);
                return self.damage(waiting, (&place, &part), &file, lost);
            }
        };
        let written = fill(&file, body, &data);
        let settled = written.and_then(|()| {
            if data.len() >= WRITE_BACK_BYTES {
                write_back(&file, &(0..body.bytes));
            }
            self.settle(waiting, (&place, &part), &file)
        });
        settled.inspect_err(|_| {
            // What cannot be removed has a name that says what it is.
            let _ = part.remove();
        })
    }

    fn piece(&mut self, part: &Part, at: u64, bytes: &Bytes) -> io::Result<Option<Outcome>> {
        let opened = {
            let mut state = part.state();
            match state.failed {
                Some(_) => Ok(None),
                None => self.open(part, &mut state).and_then(|file| {
                    let range = at..at.saturating_add(bytes.len() as u64);
                    state.take_room(part, &file, &range).map(|()| Some(file))
                }),
            }
        };
        let written = opened.and_then(|file| match file {
            Some(file) => self.write_piece(part, &file, at, bytes),
            None => Ok(()),
        });
        if let Err(error) = written {
            let outcome = skip_or_fail(&part.waiting, error)?;
            part.state().failed.get_or_insert(outcome);
        }
        self.less(part, bytes.len() as u64)
    }

    fn write_piece(&self, part: &Part, file: &File, at: u64, bytes: &Bytes) -> io::Result<()> {
        let range = at..at.saturating_add(bytes.len() as u64);
        let mut rest = bytes.clone();
        for place in part.layout.places(&range) {
            let length = usize::try_from(place.end - place.start).unwrap_or(usize::MAX);
            let run = rest.split_to(length.min(rest.len()));
            file.write_all_at(&run, place.start)?;
            write_back(file, &place);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        self.desk.journal.block(part.waiting.key, at, bytes)
    }

    fn lost(&mut self, part: &Part, range: &Range<u64>, why: Lost) -> io::Result<Option<Outcome>> {
        {
            let mut state = part.state();
            let room = RANGES_MAX.saturating_sub(state.missing.len());
            state.missing.extend(part.layout.places(range).into_iter().take(room));
            state.missing_bytes = state.missing_bytes.saturating_add(range.end - range.start);
            if why.outweighs(state.why.as_ref()) {
                state.why = Some(why);
            }
        }
        self.less(part, range.end - range.start)
    }

    /// So many bytes less to come; after the last the file gets its name.
    fn less(&mut self, part: &Part, bytes: u64) -> io::Result<Option<Outcome>> {
        let mut state = part.state();
        state.left = state.left.saturating_sub(bytes);
        if state.left > 0 {
            return Ok(None);
        }
        if let Some(outcome) = state.failed.take() {
            if let Some((place, _)) = state.file.take() {
                let _ = place.remove();
            }
            return Ok(Some(outcome));
        }
        let finished = self.finish(part, &mut state);
        finished.or_else(|error| skip_or_fail(&part.waiting, error)).map(Some)
    }

    fn finish(&mut self, part: &Part, state: &mut PartState) -> io::Result<Outcome> {
        let waiting = &part.waiting;
        let file = self.open(part, state)?;
        let place = self.places.of(&waiting.entry.path)?;
        let Some((named, _)) = state.file.take() else { return Err(ErrorKind::NotFound.into()) };
        if let Some(why) = state.why.take() {
            let lost = (std::mem::take(&mut state.missing), state.missing_bytes, &why);
            return self.damage(waiting, (&place, &named), &file, lost);
        }
        let settled = self.settle(waiting, (&place, &named), &file);
        settled.inspect_err(|_| {
            let _ = named.remove();
        })
    }

    /// The file of a part: made, or gone on with.
    fn open(&mut self, part: &Part, state: &mut PartState) -> io::Result<Arc<File>> {
        if let Some((_, file)) = &state.file {
            return Ok(Arc::clone(file));
        }
        let path = &part.waiting.entry.path;
        let place = self.places.of(path)?;
        let place = place.beside(self.desk.journal.part_name(path));
        let file = match part.found {
            Some(found) => {
                let file = place.open_ours()?;
                // What was found is in that very file, and another one has its place.
                let same = inode_of(&file)? == found;
                if same { file } else { return Err(Errno::BUSY.into()) }
            }
            None => create(&place)?,
        };
        let length = part.waiting.body().map_or(0, |body| body.bytes);
        if let Err(error) = file.set_len(length) {
            if part.found.is_none() {
                let _ = place.remove();
            }
            return Err(error);
        }
        let file = Arc::new(file);
        state.file = Some((place, Arc::clone(&file)));
        Ok(file)
    }

    /// Dresses a whole file and gives it its name.
    fn settle(
        &self,
        waiting: &Waiting,
        (place, part): (&Place, &Place),
        file: &File,
    ) -> io::Result<Outcome> {
        let Waiting { entry, key, replace } = waiting;
        let undressed = self.desk.dresser.dress(file, entry);
        let stat = fstat(file)?;
        self.desk.journal.placed(*key, stamp_of(&stat))?;
        part.rename(place, *replace)?;
        let bytes = waiting.body().map_or(0, FileBody::data_bytes);
        Ok(Outcome::Restored { key: *key, bytes, inode: (stat.st_dev, stat.st_ino), undressed })
    }

    /// Gives a file that is not whole the name that says so.
    fn damage(
        &self,
        waiting: &Waiting,
        (place, part): (&Place, &Place),
        file: &File,
        (mut missing, missing_bytes, why): (Vec<Range<u64>>, u64, &Lost),
    ) -> io::Result<Outcome> {
        missing.iter().for_each(|range| punch(file, range));
        missing.sort_by_key(|range| range.start);
        missing.truncate(RANGES_MAX);
        let (_, inode) = inode_of(file)?;
        let mut name = None;
        for number in 0..NAMES_MAX {
            let damaged = place.beside(damaged_name(&place.name, number));
            if damaged.stat()?.is_some() {
                continue;
            }
            self.desk.journal.damaged(waiting.key, inode, number)?;
            match part.rename(&damaged, false) {
                Ok(()) => {
                    name = Some(damaged.name);
                    break;
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        if name.is_none() {
            let _ = part.remove();
        }
        let (path, is_damage) = (waiting.entry.path.clone(), why.is_damage());
        let why = why.to_string();
        Ok(Outcome::Damaged(DamagedFile { path, name, missing, missing_bytes, is_damage, why }))
    }
}

/// Makes a part file; one that an earlier run left is made anew.
fn create(part: &Place) -> io::Result<File> {
    match part.create() {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            part.open_ours()?;
            part.remove()?;
            part.create()
        }
        created => created,
    }
}

/// Writes all of a file's data to its places.
fn fill(file: &File, body: &FileBody, data: &Bytes) -> io::Result<()> {
    if body.data_bytes() != data.len() as u64 {
        return Err(ErrorKind::InvalidData.into());
    }
    if body.extents.is_none() {
        return file.write_all_at(data, 0);
    }
    file.set_len(body.bytes)?;
    let mut rest = data.clone();
    for place in Layout::of(body).places(&(0..data.len() as u64)) {
        let length = usize::try_from(place.end - place.start).unwrap_or(usize::MAX);
        let run = rest.split_to(length.min(rest.len()));
        file.write_all_at(&run, place.start)?;
    }
    Ok(())
}

/// Has the disk begin to write, and the memory behind it freed. Only advice: what it comes to is
/// all the same.
fn write_back(file: &File, range: &Range<u64>) {
    let length = NonZeroU64::new(range.end.saturating_sub(range.start));
    if length.is_some() {
        let _ = fadvise(file, range.start, length, Advice::DontNeed);
    }
}

/// The name of a damaged file, cut where it would be too long for one.
pub(super) fn damaged_name(name: &[u8], number: u32) -> Vec<u8> {
    let mut behind = DAMAGED.to_vec();
    if number > 0 {
        behind.extend(format!("-{number}").into_bytes());
    }
    let kept = name.len().min(COMPONENT_BYTES_MAX.saturating_sub(behind.len()));
    [name.get(..kept).unwrap_or_default(), &behind].concat()
}

/// A failure of one file, unless it is one of all.
fn skip_or_fail(waiting: &Waiting, error: io::Error) -> io::Result<Outcome> {
    if is_fatal(&error) {
        return Err(error);
    }
    let (path, reason) = (waiting.entry.path.clone(), reason_of(&error));
    let why = Some(error.to_string());
    Ok(Outcome::Skipped { path, reason, why })
}

/// What a refusal of the system means.
pub(super) fn reason_of(error: &io::Error) -> SkipReason {
    let Some(code) = error.raw_os_error() else { return SkipReason::Impossible };
    match Errno::from_raw_os_error(code) {
        Errno::EXIST => SkipReason::Exists,
        Errno::ISDIR | Errno::NOTEMPTY => SkipReason::IsFolder,
        Errno::LOOP | Errno::NOTDIR | Errno::XDEV | Errno::NOENT => SkipReason::NotAFolder,
        Errno::NAMETOOLONG | Errno::FBIG | Errno::INVAL | Errno::ILSEQ => SkipReason::Impossible,
        _ => SkipReason::System,
    }
}
