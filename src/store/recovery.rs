//! Opening a store: brings the catalogue up to the log, or makes it anew from the log.
//!
//! The log is the truth. The catalogue is believed where it belongs to this log, does not reach
//! beyond it and holds exactly the entries that its position sums up; otherwise it is rebuilt.
//! Either way, what was written after its position is read to the last byte: after an unclean
//! stop any part of that may be missing. Such a torn tail is cut, but nothing is cut below the
//! length of which the catalogue or a later record says that it was durable: what is wrong there
//! is rot, and is quarantined and reported.

mod report;

use super::disk::{Disk, DiskError, File, sync_found_names};
use super::heads::{Keeping, Reading};
use super::index::{Catalogue, Change, Condition, Entry, Index, Note, Position};
use super::ledger::format::LEDGER_VERSION;
use super::ledger::{Ledger, LedgerError};
use super::log::{Active, Footer, Item, Log, LogError, to_block};
use super::record::{Kind, LAYOUT_VERSION, Place, Tombstone, VOID_BYTES_MAX, void_head};
use super::scan::{Content, Depth, Found, Scan, read_footer, scan};
use super::state::State;
use super::writer::{Options, ReadOnly};
use crate::core::types::{ChunkId, StoreEpoch};
use crate::crypto::keys::{WrapKey, random};
use crate::planted::{self, Bug};
use rand_chacha::ChaCha20Rng;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use report::{DAMAGE_MAX, Damage, OpenReport, Rebuilt, StoreOpenError};

/// Changes of the catalogue are made in batches of this many.
const BATCH: usize = 1024;

/// Numbers that are left out where damage may hide some that were used.
const SEQUENCE_GAP: u64 = 1 << 16;

const MAKE: &str = "make the first segment";

/// What [`recover`] hands to the writer.
pub(crate) struct Recovered<D, C> {
    pub(crate) log: Log<D>,
    pub(crate) index: Index<C>,
    pub(crate) state: State,
    pub(crate) keeping: Keeping<D>,
    pub(crate) report: OpenReport,
}

/// Opens the log and the catalogue, and makes them agree.
pub(crate) fn recover<D: Disk, C: Catalogue>(
    disk: Arc<D>,
    catalogue: Arc<C>,
    key: Arc<WrapKey>,
    options: &Options,
    mut rng: ChaCha20Rng,
) -> Result<Recovered<D, C>, StoreOpenError> {
    let mut numbers = disk.segments().map_err(failed("list the segments"))?;
    numbers.sort_unstable();
    let found = identify(&*disk, &key, &numbers)?;
    let epoch = found.unwrap_or_else(|| StoreEpoch::from_bytes(random(&mut rng)));
    let log = Log {
        disk,
        key,
        rng,
        epoch,
        segment_bytes: options.segment_bytes,
        active: None,
        closed: (0, 0),
        next_sequence: 1,
        buffer: Vec::new(),
    };
    let report = OpenReport {
        epoch,
        created: found.is_none(),
        chunks: 0,
        quarantined: 0,
        rebuilt: None,
        replayed: 0,
        cut_bytes: 0,
        damage: Vec::new(),
        ledger_damage: Vec::new(),
        releases_dropped: 0,
        read_only: None,
    };
    let index = Index::new(catalogue, Arc::clone(&log.key));
    let mut replay = Replay {
        log,
        index,
        state: State::default(),
        report,
        numbers,
        pending: BTreeMap::new(),
        changes: Vec::new(),
        stale: Vec::new(),
        changed: false,
    };
    replay.run()?;
    let Replay { log, index, mut state, mut report, .. } = replay;
    report.chunks = state.entries;
    report.quarantined = state.quarantined;
    let keeping = open_ledger(&log, &index, &mut report)?;
    for (account, bytes) in keeping.usage() {
        state.count_head(&account, bytes);
    }
    Ok(Recovered { log, index, state, keeping, report })
}

/// Reads the ledger, which needs no catalogue; and tells that how long it is where it knows less.
fn open_ledger<D: Disk, C: Catalogue>(
    log: &Log<D>,
    index: &Index<C>,
    report: &mut OpenReport,
) -> Result<Keeping<D>, StoreOpenError> {
    let known = index.ledger()?;
    let mut read = Reading::default();
    let (disk, key) = (Arc::clone(&log.disk), Arc::clone(&log.key));
    let visit = &mut |place, item| read.take(place, &item);
    let opened = Ledger::open(disk, key, log.epoch, known, visit);
    let (ledger, opened) = opened.map_err(|error| match error {
        LedgerError::Disk(error) => failed("read the ledger")(error),
        LedgerError::Version(found) => StoreOpenError::Layout { found, known: LEDGER_VERSION },
    })?;
    let ledger_tip = ledger.tip();
    let keeping = Keeping::new(ledger, read, &opened);
    report.ledger_damage = opened.damage;
    report.cut_bytes = report.cut_bytes.saturating_add(opened.cut_bytes);
    report.read_only = report.read_only.take().or(opened.read_only);
    if ledger_tip != known
        && report.read_only.is_none()
        && let Some(tip) = ledger_tip
    {
        index.apply(&[Change::ledger(tip)])?;
        index.flush()?;
    }
    Ok(keeping)
}

fn failed(doing: &'static str) -> impl Fn(DiskError) -> StoreOpenError {
    move |source| StoreOpenError::Disk { doing, source }
}

/// The epoch of the newest segment that says one, and whether we may read this store at all.
fn identify<D: Disk>(
    disk: &D,
    key: &WrapKey,
    numbers: &[u64],
) -> Result<Option<StoreEpoch>, StoreOpenError> {
    for number in numbers.iter().rev() {
        let first = scan(disk, key, *number, (0, Some(1)), Depth::Heads);
        if let Some(epoch) = epoch_in(&first.map_err(failed("read a segment"))?)? {
            return Ok(Some(epoch));
        }
    }
    // Every first block is damaged or was never finished: any other record says the epoch too.
    for number in numbers.iter().rev() {
        let all = scan(disk, key, *number, (0, None), Depth::Heads);
        if let Some(epoch) = epoch_in(&all.map_err(failed("read a segment"))?)? {
            return Ok(Some(epoch));
        }
    }
    Ok(None)
}

fn epoch_in(scan: &Scan) -> Result<Option<StoreEpoch>, StoreOpenError> {
    if let Some(found) = scan.newer {
        return Err(StoreOpenError::Layout { found, known: LAYOUT_VERSION });
    }
    let epoch = scan.found.iter().find_map(|found| match &found.content {
        Content::Segment(epoch) | Content::Item(_, epoch) => Some(*epoch),
        Content::Closing | Content::Other | Content::Locked => None,
    });
    // The checksum is good, and still the box does not open.
    if epoch.is_none() && scan.locked > 0 { Err(StoreOpenError::WrongKey) } else { Ok(epoch) }
}

struct Replay<D, C> {
    log: Log<D>,
    index: Index<C>,
    state: State,
    report: OpenReport,
    numbers: Vec<u64>,
    /// Entries of this batch, not yet in the catalogue.
    pending: BTreeMap<ChunkId, Option<Entry>>,
    changes: Vec<Change>,
    /// Ends the notes about segments that are gone.
    stale: Vec<Change>,
    changed: bool,
}

impl<D: Disk, C: Catalogue> Replay<D, C> {
    fn run(&mut self) -> Result<(), StoreOpenError> {
        let start = match self.load() {
            Ok(position) => position,
            Err(reason) => {
                self.reset()?;
                self.report.rebuilt = Some(reason);
                None
            }
        };
        if let Some(position) = start {
            self.log.next_sequence = position.sequence;
        }
        for number in &self.numbers {
            self.state.segments.entry(*number).or_default();
        }
        let newest = self.numbers.last().copied();
        for number in self.numbers.clone() {
            let from = match start {
                Some(position) if number < position.segment => continue,
                Some(position) if number == position.segment => position.offset,
                _ => 0,
            };
            if start.is_none() && Some(number) != newest {
                self.rebuild_segment(number)?;
            } else {
                self.replay_segment(number, from, Some(number) == newest)?;
            }
        }
        if !self.report.damage.is_empty() {
            self.log.next_sequence = self.log.next_sequence.saturating_add(SEQUENCE_GAP);
        }
        if self.report.created {
            self.create()?;
        } else if let Err(error) = sync_found_names(&*self.log.disk) {
            self.report.read_only = Some(ReadOnly::Sync(error));
        }
        self.finish(start)
    }

    /// Reads the catalogue: its position, or why it is of no use.
    fn load(&mut self) -> Result<Option<Position>, Rebuilt> {
        let position = self.index.position().map_err(|_| Rebuilt::Broken)?;
        if self.report.created {
            // Whatever it holds was of another log, also where it has lost its position.
            let empty = position.is_none() && self.index.is_empty().map_err(|_| Rebuilt::Broken)?;
            return if empty { Ok(None) } else { Err(Rebuilt::AheadOfLog) };
        }
        let Some(position) = position else {
            return Err(Rebuilt::Missing);
        };
        if position.epoch != self.log.epoch {
            return Err(Rebuilt::OtherStore);
        }
        let length = self.log.disk.len(File::Segment(position.segment));
        if length.is_err() || length.is_ok_and(|length| length < position.offset) {
            return Err(Rebuilt::AheadOfLog);
        }
        let mut state = State::default();
        let all =
            self.index.for_each_chunk(&mut |id, entry| state.replace(&id, None, Some(&entry)));
        all.map_err(|_| Rebuilt::Broken)?;
        if state.segments.keys().any(|segment| self.numbers.binary_search(segment).is_err()) {
            return Err(Rebuilt::AheadOfLog);
        }
        for number in &self.numbers {
            state.segments.entry(*number).or_default();
        }
        let (mut stale, mut stale_sum) = (Vec::new(), 0_u64);
        for note in Note::ALL {
            let notes = self.index.for_each_note(note, &mut |segment, target, count| {
                let both = [segment, target].iter().all(|one| state.segments.contains_key(one));
                match note {
                    // Its segment went, and the news of that was lost.
                    _ if !both => {
                        stale.push(Change::note(note, segment, target, None));
                        let share = note.fingerprint(segment, target, count);
                        stale_sum = stale_sum.wrapping_add(share);
                    }
                    Note::Tombstones => drop(state.bury(segment, target, count)),
                    Note::Newer => drop(state.supersede(segment, target)),
                }
            });
            notes.map_err(|_| Rebuilt::Broken)?;
        }
        let sum = state.fingerprint.wrapping_add(stale_sum);
        if state.entries != position.entries || sum != position.fingerprint {
            return Err(Rebuilt::Inconsistent);
        }
        self.stale = stale;
        self.state = state;
        Ok(Some(position))
    }

    fn reset(&mut self) -> Result<(), StoreOpenError> {
        self.state = State::default();
        self.changes.clear();
        self.changed = true;
        Ok(self.index.clear()?)
    }

    fn create(&mut self) -> Result<(), StoreOpenError> {
        // What an earlier attempt left must be cut off for good: the next segment says that all
        // before it is sound.
        if let Some(ReadOnly::Sync(error) | ReadOnly::Log(error)) = &self.report.read_only {
            return Err(failed(MAKE)(*error));
        }
        self.log.closed = (self.numbers.last().copied().unwrap_or(0), 0);
        self.changed = true;
        self.log.start_segment().map_err(|error| match error {
            LogError::Full => failed(MAKE)(DiskError::Full),
            LogError::Broken(
                ReadOnly::Sync(error) | ReadOnly::Log(error) | ReadOnly::Ledger(error),
            ) => failed(MAKE)(error),
            LogError::Broken(ReadOnly::Catalogue(error)) => StoreOpenError::Catalogue(error),
            LogError::Io => failed(MAKE)(DiskError::Io(0)),
        })?;
        let (tip, _) = self.log.tip();
        self.state.segments.entry(tip).or_default();
        Ok(())
    }

    /// Takes over a segment that was closed, or was at least synced before the next was made.
    fn rebuild_segment(&mut self, number: u64) -> Result<(), StoreOpenError> {
        let footer = read_footer(&*self.log.disk, &self.log.key, number);
        if let Some(items) = footer.map_err(failed("read a segment's index"))? {
            return items.iter().try_for_each(|item| self.take(number, item, true));
        }
        let scan = self.scan(number, (0, None), Depth::Heads)?;
        self.note_damage(number, &scan, u64::MAX);
        self.take_all(number, &scan, u64::MAX)
    }

    /// Reads what was written from `from` on to the last byte.
    fn replay_segment(
        &mut self,
        number: u64,
        from: u64,
        newest: bool,
    ) -> Result<(), StoreOpenError> {
        let file = File::Segment(number);
        let length = self.log.disk.len(file).map_err(failed("read a segment"))?;
        if length > from {
            // What a killed process left in the cache must not be believed before it is durable.
            if let Err(error) = self.log.disk.sync_data(file) {
                self.report.read_only = Some(ReadOnly::Sync(error));
            }
            self.log.disk.forget_cached(file);
        }
        let tail = self.scan(number, (from, None), Depth::Bodies)?;
        let durable = tail.durable().max(from);
        self.note_damage(number, &tail, durable);
        self.take_all(number, &tail, durable)?;
        if newest { self.adopt(number, from, &tail, durable) } else { Ok(()) }
    }

    fn scan(
        &self,
        number: u64,
        range: (u64, Option<u64>),
        depth: Depth,
    ) -> Result<Scan, StoreOpenError> {
        let scan = scan(&*self.log.disk, &self.log.key, number, range, depth);
        let scan = scan.map_err(failed("read a segment"))?;
        match scan.newer {
            Some(found) => Err(StoreOpenError::Layout { found, known: LAYOUT_VERSION }),
            None => Ok(scan),
        }
    }

    /// Cuts the torn tail off the newest segment and goes on writing there.
    fn adopt(
        &mut self,
        number: u64,
        from: u64,
        tail: &Scan,
        durable: u64,
    ) -> Result<(), StoreOpenError> {
        let head = self.scan(number, (0, Some(from)), Depth::Heads)?;
        self.note_damage(number, &head, durable);
        let end = |found: &Found| found.prefix.locator().end();
        let good = tail.found.iter().filter(|found| found.whole).map(end).max().unwrap_or(from);
        let keep = good.max(durable.min(tail.end));
        if self.report.read_only.is_none()
            && let Err(error) = self.cut(number, tail, keep, durable)
        {
            self.report.read_only = Some(ReadOnly::Log(error));
        }
        self.log.closed = (number, keep);
        let found = || head.found.iter().chain(&tail.found);
        let begun = found().next().is_some_and(|one| matches!(one.content, Content::Segment(_)));
        let closed = found().any(|one| matches!(one.content, Content::Closing));
        if !begun || closed {
            return Ok(());
        }
        let mut footer = Footer::default();
        for one in found().filter(|one| one.whole || end(one) <= durable) {
            if let Content::Item(item, _) = &one.content {
                footer.note(item);
            }
        }
        let end = to_block(keep);
        self.log.active = Some(Active { segment: number, end, synced: end, footer });
        Ok(())
    }

    /// Cuts what lies above `keep`, and voids what is torn between `durable` and `keep`: nobody
    /// was promised anything there, but a later scan must take it neither for a chunk nor for rot.
    fn cut(&mut self, number: u64, tail: &Scan, keep: u64, durable: u64) -> Result<(), DiskError> {
        let file = File::Segment(number);
        let records = tail.found.iter().filter(|found| !found.whole).map(|found| {
            let locator = found.prefix.locator();
            (locator.offset, locator.end())
        });
        let mut dirty = false;
        for (from, to) in records.chain(tail.damage.iter().copied()) {
            let (mut from, to) = (from.max(durable), to.min(keep));
            while from < to {
                let length = (to - from).min(VOID_BYTES_MAX);
                let sequence = self.log.next_sequence;
                let place = Place { segment: number, offset: from, sequence, durable };
                self.log.disk.write_at(file, from, &void_head(place, length))?;
                self.log.next_sequence = sequence.saturating_add(1);
                from = from.saturating_add(length);
                dirty = true;
            }
        }
        if keep < tail.end {
            self.log.disk.truncate(file, keep)?;
            self.report.cut_bytes = tail.end.saturating_sub(keep);
            dirty = true;
        }
        if dirty { self.log.disk.sync_data(file) } else { Ok(()) }
    }

    fn note_damage(&mut self, segment: u64, scan: &Scan, durable: u64) {
        // A damaged chunk is quarantined, where it is not deleted anyway.
        let records =
            scan.found.iter().filter(|found| !found.whole && found.prefix.kind != Kind::Chunk);
        let records = records.map(|found| found.prefix.locator());
        let records = records.map(|locator| (locator.offset, locator.end()));
        for (from, to) in records.chain(scan.damage.iter().copied()) {
            let is_rot = from < durable || planted::is_on(Bug::TailIsRot);
            if is_rot && self.report.damage.len() < DAMAGE_MAX {
                self.report.damage.push(Damage { segment, from, to: to.min(durable) });
            }
        }
    }

    fn take_all(&mut self, number: u64, scan: &Scan, durable: u64) -> Result<(), StoreOpenError> {
        for found in &scan.found {
            let sequence = found.prefix.place.sequence;
            self.log.next_sequence = self.log.next_sequence.max(sequence.saturating_add(1));
            let below = found.prefix.locator().end() <= durable;
            let whole = found.whole || planted::is_on(Bug::TornIsWhole);
            if let Content::Item(item, _) = &found.content
                && (whole || below)
            {
                self.report.replayed = self.report.replayed.saturating_add(1);
                self.take(number, item, whole)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, segment: u64, item: &Item, whole: bool) -> Result<(), StoreOpenError> {
        match item {
            Item::Chunk(id, entry) => {
                let condition = if whole { entry.condition } else { Condition::Quarantined };
                self.take_chunk(id, &Entry { condition, ..*entry })?;
            }
            Item::Tombstone { sequence, tombstone } => {
                self.take_tombstone(segment, *sequence, tombstone)?;
            }
        }
        if self.changes.len() + self.pending.len() >= BATCH { self.apply() } else { Ok(()) }
    }

    fn take_chunk(&mut self, id: &ChunkId, entry: &Entry) -> Result<(), StoreOpenError> {
        self.log.next_sequence = self.log.next_sequence.max(entry.sequence.saturating_add(1));
        let old = self.lookup(id)?;
        if old.is_some_and(|old| old.sequence >= entry.sequence) {
            return Ok(());
        }
        self.state.replace(id, old.as_ref(), Some(entry));
        self.pending.insert(*id, Some(*entry));
        if let Some(old) = old {
            let change = self.state.supersede(entry.locator.segment, old.locator.segment);
            self.changes.extend(change);
        }
        Ok(())
    }

    fn take_tombstone(
        &mut self,
        segment: u64,
        sequence: u64,
        tombstone: &Tombstone,
    ) -> Result<(), StoreOpenError> {
        self.log.next_sequence = self.log.next_sequence.max(sequence.saturating_add(1));
        let id = &tombstone.id;
        // Not the records that came after the one it names: a chunk may have been moved or stored
        // anew before its old record was buried.
        let old = self.lookup(id)?.filter(|old| old.sequence <= tombstone.sequence);
        if let Some(old) = old {
            self.state.replace(id, Some(&old), None);
            self.pending.insert(*id, None);
            // The record that it names is lost, and an older one turned up: that stays dead as
            // long as the segment is there by which this tombstone is kept.
            let named = self.state.segments.contains_key(&tombstone.segment);
            let keeper = if named { tombstone.segment } else { segment };
            let change = self.state.supersede(keeper, old.locator.segment);
            self.changes.extend(change);
        }
        self.changes.extend(self.state.bury(segment, tombstone.segment, 1));
        Ok(())
    }

    fn lookup(&self, id: &ChunkId) -> Result<Option<Entry>, StoreOpenError> {
        match self.pending.get(id) {
            Some(entry) => Ok(*entry),
            None => Ok(self.index.get(id)?),
        }
    }

    fn apply(&mut self) -> Result<(), StoreOpenError> {
        let entries = std::mem::take(&mut self.pending);
        let mut changes = std::mem::take(&mut self.changes);
        changes.extend(entries.iter().map(|(id, entry)| Change::chunk(id, entry.as_ref())));
        self.changed |= !changes.is_empty();
        Ok(self.index.apply(&changes)?)
    }

    /// Writes the position last: a rebuild that was interrupted begins anew. With what is left of
    /// the changes: a replay must not count a tombstone twice.
    fn finish(&mut self, start: Option<Position>) -> Result<(), StoreOpenError> {
        let position = position(&self.log, &self.state);
        // Where a segment is gone, but its name may come back with the next power cut, what is
        // known about it is needed then: by those notes what it held stays dead.
        if self.report.read_only.is_none() {
            self.changes.append(&mut self.stale);
        }
        let news = !self.pending.is_empty() || !self.changes.is_empty();
        let news = self.changed || news || start != Some(position);
        let write = news && self.report.read_only.is_none();
        if write {
            self.changes.push(Change::position(&position));
        }
        self.apply()?;
        if write {
            self.index.flush()?;
        }
        Ok(())
    }
}

/// What the catalogue is told once everything in the log is durable and applied.
pub(crate) fn position<D: Disk>(log: &Log<D>, state: &State) -> Position {
    let (segment, offset) = log.tip();
    Position {
        segment,
        offset,
        sequence: log.next_sequence,
        epoch: log.epoch,
        entries: state.entries,
        fingerprint: state.fingerprint,
    }
}
