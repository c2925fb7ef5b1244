//! The ledger: the small things that a store keeps beside its chunks, in one small file.
//!
//! A record of a head has 2 KiB; in a segment it would take two blocks and a line in an index. So
//! they are appended to a file of their own ([`format`] has its layout), which is read whole when
//! the store is opened and needs no catalogue. The catalogue only remembers how long it was when
//! it was durable last: a torn tail above that is cut, and damage below is rot and is told.
//!
//! A ledger that is mostly waste is written anew as the next generation: whole, synced, its name
//! synced, and only then is the one before unlinked. The highest generation that was ever finished
//! counts, whatever the catalogue says: nothing is appended to one after the next was finished, and
//! one that may have been is made void for good before the one before it is written on.
//!
//! What reads wrong is damage: it is told, and costs what lies in it. What cannot be read at all
//! may be readable tomorrow: nothing of the ledger is cut, removed or written anew then, and the
//! store takes no writes, since nobody knows which heads it has promised. What can be read is
//! shown.

pub(super) mod format;

use super::disk::{Disk, DiskError, File, sync_found_names};
use super::log::LogError;
use super::writer::ReadOnly;
use crate::core::types::StoreEpoch;
use crate::crypto::keys::WrapKey;
use format::{HEAD_ITEM_BYTES, HEADER_BYTES, HeadItem, Header, ITEM_BYTES_MAX, Item};
use format::{LEDGER_VERSION, item_box, item_bytes};
use std::sync::Arc;

/// How much is read or written at once.
const WINDOW_BYTES: usize = 1 << 20;

/// How much is read at once where some of it cannot be read, and skipped where that cannot.
const BLOCK_BYTES: usize = 4_096;

/// Where an item lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) generation: u64,
    pub(super) offset: u64,
}

/// How far a ledger was durable: its generation and length.
pub(crate) type Durable = (u64, u64);

/// A ledger that is written.
#[derive(Debug)]
struct Active {
    generation: u64,
    length: u64,
    /// How much of it is durable.
    synced: u64,
    /// Its name is durable.
    named: bool,
    /// A failed write was cut off, which is not durable: nothing of it may come back later.
    cut: bool,
    version: u8,
}

/// What opening a ledger showed.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// Ranges below what was durable that hold nothing.
    pub(super) damage: Vec<(u64, u64)>,
    /// Bytes of an unfinished write that were cut off.
    pub(super) cut_bytes: u64,
    /// It should be written anew.
    pub(super) is_marred: bool,
    pub(super) read_only: Option<ReadOnly>,
}

/// See the module.
pub(super) struct Ledger<D> {
    disk: Arc<D>,
    key: Arc<WrapKey>,
    epoch: StoreEpoch,
    /// `None` where nothing was ever written.
    active: Option<Active>,
    /// The number of the next generation.
    next: u64,
}

/// One pass over a file.
#[derive(Debug, Default)]
struct Scan {
    header: Option<Header>,
    length: u64,
    /// The end of the last item that is whole.
    end: u64,
    /// Ranges before that which hold nothing.
    gaps: Vec<(u64, u64)>,
    /// Something of it could not be read.
    unread: Option<DiskError>,
}

impl Scan {
    /// Whether the generation was finished when it was begun.
    fn is_finished(&self) -> bool {
        let whole = self.gaps.first().map_or(self.end, |(from, _)| *from);
        self.header.is_some_and(|header| header.begun <= whole)
    }
}

/// Which generation counts.
#[derive(Debug, Default)]
struct Choice {
    /// `None` where there is nothing of any.
    chosen: Option<u64>,
    /// Above it, and there is something of them: it may be damage that they look unfinished.
    spared: Vec<u64>,
    /// Something of those that were looked at could not be read.
    unread: Option<DiskError>,
}

/// Why a ledger was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LedgerError {
    Disk(DiskError),
    /// A later version wrote it.
    Version(u8),
}

impl From<DiskError> for LedgerError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl<D: Disk> Ledger<D> {
    /// Opens the newest generation and visits what stands in it, oldest first.
    pub(super) fn open(
        disk: Arc<D>,
        key: Arc<WrapKey>,
        epoch: StoreEpoch,
        durable: Option<Durable>,
        visit: &mut dyn FnMut(Place, Item),
    ) -> Result<(Self, Opened), LedgerError> {
        let mut numbers = disk.ledgers()?;
        numbers.sort_unstable();
        let named = durable.map(|(generation, _)| generation);
        let next = numbers.last().copied().max(named).map_or(1, |newest| newest.saturating_add(1));
        let mut ledger = Self { disk, key, epoch, active: None, next };
        let mut opened = Opened::default();
        let Choice { chosen, spared, unread } = ledger.choose(&numbers, named)?;
        opened.read_only = unread.map(ReadOnly::Ledger);
        let is_lost =
            |(named, _): &Durable| unread.is_none() && chosen.is_none_or(|it| it < *named);
        if let Some((_, length)) = durable.filter(is_lost) {
            (opened.damage, opened.is_marred) = (vec![(0, length)], true);
        }
        let Some(generation) = chosen else { return Ok((ledger, opened)) };
        let file = File::Ledger(generation);
        // What a killed process left in the cache must not be believed before it is durable.
        let synced = ledger.disk.sync_data(file).and_then(|()| sync_found_names(&*ledger.disk));
        opened.read_only = synced.err().map(ReadOnly::Sync).or(opened.read_only);
        ledger.disk.forget_cached(file);
        let scan = ledger.scan(generation, Some(visit))?;
        opened.read_only = opened.read_only.or(scan.unread.map(ReadOnly::Ledger));
        let durable = durable.filter(|(of, _)| *of == generation).map(|(_, length)| length);
        let promised = durable.unwrap_or(0);
        let keep = scan.end.max(promised).min(scan.length);
        // A gap that something whole follows may be rot, where nobody knows better. Of what could
        // not be read nobody knows anything: whoever opens the store again finds out.
        let is_rot = |(from, _): &&(u64, u64)| durable.is_none_or(|durable| *from < durable);
        if scan.unread.is_none() {
            opened.damage.extend(scan.gaps.iter().filter(is_rot).copied());
            opened.damage.extend((scan.end < promised).then_some((scan.end, promised)));
        }
        let is_foreign = scan.header.is_none_or(|header| header.epoch != epoch);
        let version = scan.header.map_or(LEDGER_VERSION, |header| header.version);
        opened.is_marred |= !scan.gaps.is_empty() || scan.end < promised || is_foreign;
        opened.cut_bytes = scan.length.saturating_sub(keep);
        if opened.read_only.is_none() && keep < scan.length {
            let cut = ledger.disk.truncate(file, keep).and_then(|()| ledger.disk.sync_data(file));
            opened.read_only = cut.err().map(ReadOnly::Log);
        }
        ledger.active = Some(Active {
            generation,
            length: keep,
            synced: keep,
            named: true,
            cut: false,
            version,
        });
        if opened.read_only.is_none() {
            let others = numbers.into_iter().filter(|number| *number != generation);
            for old in others.filter(|number| !spared.contains(number)) {
                // It is as little believed the next time.
                let _ = ledger.disk.unlink(File::Ledger(old));
            }
        }
        Ok((ledger, opened))
    }

    /// The highest generation that was finished; where damage hides which that is, the lowest of
    /// which there is anything. What is older than the one that the catalogue names is out.
    fn choose(&self, numbers: &[u64], named: Option<u64>) -> Result<Choice, LedgerError> {
        let oldest = named.filter(|named| numbers.contains(named)).unwrap_or(0);
        let mut choice = Choice::default();
        for number in numbers.iter().rev().filter(|number| **number >= oldest) {
            let scan = self.scan(*number, None)?;
            choice.unread = choice.unread.or(scan.unread);
            if scan.is_finished() || scan.end > HEADER_BYTES as u64 {
                choice.spared.extend(choice.chosen.replace(*number));
            }
            if scan.is_finished() {
                break;
            }
        }
        Ok(choice)
    }

    /// Reads a whole file. Without a `visit` boxes are not opened.
    fn scan(
        &self,
        generation: u64,
        mut visit: Option<&mut dyn FnMut(Place, Item)>,
    ) -> Result<Scan, LedgerError> {
        let file = File::Ledger(generation);
        let mut scan = Scan { length: self.disk.len(file)?, ..Scan::default() };
        let mut header = [0; HEADER_BYTES];
        match self.disk.read_at(file, 0, &mut header) {
            Err(error @ DiskError::Io(_)) => scan.unread = Some(error),
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        let found = Header::decode(&header).map_err(LedgerError::Version)?;
        scan.header = found.filter(|header| header.generation == generation);
        scan.end = HEADER_BYTES as u64;
        if scan.header.is_none() {
            scan.gaps.push((0, HEADER_BYTES as u64));
        }
        let (mut window, mut from) = (Vec::new(), 0_u64);
        let mut at = HEADER_BYTES as u64;
        // Where bytes begin that cannot be read.
        let mut bad = None;
        while at < scan.length {
            let ahead = usize::try_from(at.saturating_sub(from)).unwrap_or(usize::MAX);
            let reached = from.saturating_add(window.len() as u64);
            let left = window.len().saturating_sub(ahead);
            if left == 0 && bad == Some(reached) {
                at = next_block(at);
                (bad, from) = (None, at);
                window.clear();
                continue;
            }
            if left < ITEM_BYTES_MAX && reached < scan.length && bad != Some(reached) {
                let unread = self.read_window(file, at, &mut window)?;
                if window.is_empty() && unread.is_none() {
                    break;
                }
                bad = unread.map(|_| at.saturating_add(window.len() as u64));
                scan.unread = scan.unread.or(unread);
                from = at;
                continue;
            }
            let bytes = window.get(ahead..).unwrap_or_default();
            let Some(wrapped) = item_box(bytes) else {
                at = at.saturating_add(1);
                continue;
            };
            let end = at.saturating_add(item_bytes(wrapped) as u64);
            let item = visit.is_some().then(|| Item::open(wrapped, &self.key));
            if item != Some(None) {
                if scan.end < at {
                    scan.gaps.push((scan.end, at));
                }
                scan.end = end;
            }
            if let (Some(visit), Some(Some(item))) = (visit.as_mut(), item) {
                visit(Place { generation, offset: at }, item);
            }
            at = end;
        }
        Ok(scan)
    }

    /// Reads what can be read from `at` on; an error of the disk where it ends at something that
    /// cannot.
    fn read_window(
        &self,
        file: File,
        at: u64,
        window: &mut Vec<u8>,
    ) -> Result<Option<DiskError>, LedgerError> {
        let to_block = usize::try_from(next_block(at).saturating_sub(at)).unwrap_or(BLOCK_BYTES);
        let mut unread = None;
        for (length, is_cut) in [(WINDOW_BYTES, false), (BLOCK_BYTES, false), (to_block, true)] {
            window.resize(length, 0);
            match self.disk.read_at(file, at, window) {
                Ok(read) => {
                    window.truncate(read);
                    return Ok(unread.filter(|_| is_cut));
                }
                Err(error @ DiskError::Io(_)) => unread = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        window.clear();
        Ok(unread)
    }

    /// Its generation and length; `None` where there is none.
    pub(super) fn tip(&self) -> Option<Durable> {
        self.active.as_ref().map(|active| (active.generation, active.length))
    }

    /// Whether it has the layout that is written: an earlier one is written anew.
    pub(super) fn is_current(&self) -> bool {
        self.active.as_ref().is_none_or(|active| active.version == LEDGER_VERSION)
    }

    /// Appends items; not durable before [`Self::sync`].
    pub(super) fn append(&mut self, items: &[Item]) -> Result<Vec<Place>, LogError> {
        let (generation, offset) = match self.tip() {
            Some(tip) => tip,
            None => self.begin()?,
        };
        let file = File::Ledger(generation);
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        for item in items {
            let offset = offset.saturating_add(bytes.len() as u64);
            places.push(Place { generation, offset });
            item.encode(&self.key, &mut bytes);
        }
        if let Err(error) = self.disk.write_at(file, offset, &bytes) {
            self.disk.truncate(file, offset).map_err(ReadOnly::Log)?;
            // What was refused must not come back with a power cut, when it is wrong.
            self.active.iter_mut().for_each(|active| active.cut = true);
            return Err(error.into());
        }
        if let Some(active) = &mut self.active {
            active.length = offset.saturating_add(bytes.len() as u64);
        }
        Ok(places)
    }

    /// Makes the first generation. There is none before it, so it is finished as it is.
    fn begin(&mut self) -> Result<Durable, LogError> {
        let generation = self.next;
        self.next = generation.saturating_add(1);
        let file = File::Ledger(generation);
        self.disk.create(file)?;
        let length = HEADER_BYTES as u64;
        let version = LEDGER_VERSION;
        let header = Header { version, epoch: self.epoch, generation, begun: length };
        if let Err(error) = self.disk.write_at(file, 0, &header.encode()) {
            // Whether or not this succeeds: the next attempt takes another number.
            let _ = self.disk.unlink(file);
            return Err(error.into());
        }
        let (synced, named, cut) = (0, false, false);
        self.active = Some(Active { generation, length, synced, named, cut, version });
        Ok((generation, length))
    }

    /// Everything appended is durable on return. A failure is final.
    pub(super) fn sync(&mut self) -> Result<(), ReadOnly> {
        let Some(active) = &mut self.active else { return Ok(()) };
        if active.length != active.synced || active.cut {
            self.disk.sync_data(File::Ledger(active.generation)).map_err(ReadOnly::Sync)?;
            (active.synced, active.cut) = (active.length, false);
        }
        if !active.named {
            self.disk.sync_names().map_err(ReadOnly::Sync)?;
            active.named = true;
        }
        Ok(())
    }

    /// Begins the next generation with `items`, durably. The one before is still there, and counts
    /// until [`Self::turn_to`].
    pub(super) fn rewrite(
        &mut self,
        items: &mut dyn Iterator<Item = Result<Item, DiskError>>,
    ) -> Result<Rewritten, LogError> {
        let generation = self.next;
        self.next = generation.saturating_add(1);
        let file = File::Ledger(generation);
        self.disk.create(file)?;
        let written = self.write_items(generation, items).inspect_err(|_| {
            // It is not believed where it comes back: it has no header.
            let _ = self.disk.unlink(file);
        })?;
        // Last: without it the file was never finished.
        let (version, begun) = (LEDGER_VERSION, written.length);
        let header = Header { version, epoch: self.epoch, generation, begun };
        if let Err(error) = self.disk.write_at(file, 0, &header.encode()) {
            // The header may be there all the same, and the file would be believed one day.
            self.disk.truncate(file, 0).map_err(ReadOnly::Log)?;
            self.disk.sync_data(file).map_err(ReadOnly::Sync)?;
            let _ = self.disk.unlink(file);
            return Err(error.into());
        }
        self.disk.sync_data(file).map_err(ReadOnly::Sync)?;
        self.disk.sync_names().map_err(ReadOnly::Sync)?;
        Ok(written)
    }

    fn write_items(
        &self,
        generation: u64,
        items: &mut dyn Iterator<Item = Result<Item, DiskError>>,
    ) -> Result<Rewritten, LogError> {
        let file = File::Ledger(generation);
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        let mut written = HEADER_BYTES as u64;
        for item in items {
            let offset = written.saturating_add(bytes.len() as u64);
            places.push(Place { generation, offset });
            item?.encode(&self.key, &mut bytes);
            if bytes.len() >= WINDOW_BYTES {
                self.disk.write_at(file, written, &bytes)?;
                written = written.saturating_add(bytes.len() as u64);
                bytes.clear();
            }
        }
        self.disk.write_at(file, written, &bytes)?;
        let length = written.saturating_add(bytes.len() as u64);
        Ok(Rewritten { generation, length, places })
    }

    /// The generation that was begun counts from now on. The one before is gone for good, so that
    /// it cannot be taken for this one where this one is damaged.
    pub(super) fn turn_to(&mut self, rewritten: &Rewritten) -> Result<(), ReadOnly> {
        let Rewritten { generation, length, .. } = *rewritten;
        let (synced, named, cut, version) = (length, true, false, LEDGER_VERSION);
        let turned = Active { generation, length, synced, named, cut, version };
        if let Some(old) = self.active.replace(turned) {
            // Where it stays it is unlinked when the store is opened.
            let _ = self.disk.unlink(File::Ledger(old.generation));
            self.disk.sync_names().map_err(ReadOnly::Sync)?;
        }
        Ok(())
    }
}

/// The next place at which a block begins.
fn next_block(at: u64) -> u64 {
    (at / BLOCK_BYTES as u64).saturating_add(1).saturating_mul(BLOCK_BYTES as u64)
}

/// A generation that was begun.
#[derive(Debug)]
pub(super) struct Rewritten {
    pub(super) generation: u64,
    pub(super) length: u64,
    /// Of its items, in order.
    pub(super) places: Vec<Place>,
}

/// Reads the head that lies there; `None` where it is damaged.
pub(super) fn read_head<D: Disk>(
    disk: &D,
    key: &WrapKey,
    place: Place,
) -> Result<Option<HeadItem>, DiskError> {
    let mut bytes = vec![0; HEAD_ITEM_BYTES];
    let read = disk.read_at(File::Ledger(place.generation), place.offset, &mut bytes)?;
    let item = bytes.get(..read).and_then(item_box).and_then(|wrapped| Item::open(wrapped, key));
    Ok(match item {
        Some(Item::Head(head)) => Some(head),
        _ => None,
    })
}
