//! Whether a snapshot could be restored: all that it names is read and compared with what names it,
//! and nothing is written. Pure; whoever drives it decides where chunks come from.
//!
//! Records and trees are read whole. Of the chunks with data a part may be drawn: which ones
//! depends on a key, so that nobody knows before which these are. Memory: that of a restore's
//! window.

#[cfg(test)]
mod tests;

use super::frame::Kind;
use super::get::GetLimits;
use super::look::{Look, Seen};
use super::names::is_portable;
use super::pack::BlobHasher;
use super::plan::{Arrival, Lost, Need, Plan};
use super::reference::ChunkRef;
use super::tree::walk::{Gap, Step, TreeWalk};
use super::tree::{Entry, TreeFault, TreeRoot, What};
use crate::core::types::ChunkId;
use crate::crypto::keys::DedupKey;
use bytes::Bytes;
use std::collections::VecDeque;
use std::ops::Range;

/// All of a million parts.
pub const ALL_PPM: u32 = 1_000_000;

/// Files that are checked together, so that a pack that they share is read once; fewer in tests, so
/// that they see more than one window.
const FILES_MAX: usize = if cfg!(test) { 50 } else { 65_536 };

/// The most bytes of their paths.
const PATH_BYTES_MAX: usize = 32 << 20;

/// Of a file that is not whole so many ranges are listed.
const RANGES_MAX: usize = 16;

/// So many names that are not portable are listed.
const UNPORTABLE_MAX: usize = 8;

/// Which chunks with data are read.
#[derive(Debug, Clone)]
pub struct Sample {
    ppm: u32,
    key: [u8; 32],
}

impl Sample {
    /// All of them.
    pub fn all() -> Self {
        Self::of(ALL_PPM, [0; 32])
    }

    /// So many of a million; which ones depends on the key.
    pub fn of(ppm: u32, key: [u8; 32]) -> Self {
        Self { ppm: ppm.min(ALL_PPM), key }
    }

    /// How many of a million.
    pub fn ppm(&self) -> u32 {
        self.ppm
    }

    fn draws(&self, id: &ChunkId) -> bool {
        let hash = blake3::keyed_hash(&self.key, id.as_bytes());
        let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
        let number = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        number % u64::from(ALL_PPM) < u64::from(self.ppm)
    }
}

/// What is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// What leads to the tree does not come.
    Record {
        /// What it is.
        kind: Kind,
        /// Why.
        why: Lost,
    },
    /// A part of the tree does not come.
    Part {
        /// Where it begins, and how many entries are in it.
        gap: Gap,
        /// Why.
        why: Lost,
    },
    /// A file is not whole.
    File {
        /// Its path.
        path: Vec<u8>,
        /// The first of the ranges of its data that do not come.
        missing: Vec<Range<u64>>,
        /// Bytes of its data that do not come.
        missing_bytes: u64,
        /// Why the first of them do not; damage goes before absence.
        why: Lost,
    },
}

impl Finding {
    /// Why.
    pub fn why(&self) -> &Lost {
        match self {
            Self::Record { why, .. } | Self::Part { why, .. } | Self::File { why, .. } => why,
        }
    }
}

/// What was read, and what it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checked {
    /// Entries of the tree.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// Bytes of the files' data that came and are right.
    pub bytes: u64,
    /// Bytes of the files' data that were not drawn.
    pub skipped_bytes: u64,
    /// Chunks with data that were not drawn.
    pub skipped_chunks: u64,
    /// Names that [cannot be one](is_portable) on every system.
    pub unportable: u64,
}

/// A file of the window.
#[derive(Debug)]
struct Open {
    path: Vec<u8>,
    missing: Vec<Range<u64>>,
    missing_bytes: u64,
    why: Option<Lost>,
}

/// Reads what a snapshot names.
#[derive(Debug)]
pub struct Verify {
    sample: Sample,
    records: VecDeque<(Kind, ChunkRef)>,
    /// Records that were asked for, by their number.
    asked: Vec<Option<Kind>>,
    walk: Option<TreeWalk>,
    /// Of the files of the window.
    plan: Plan,
    files: Vec<Open>,
    path_bytes: usize,
    /// The window takes more files.
    is_filling: bool,
    needs: VecDeque<Need>,
    findings: VecDeque<Finding>,
    checked: Checked,
    /// The first paths whose names are not portable.
    unportable: Vec<Vec<u8>>,
}

impl Verify {
    /// Of a tree, and of the `records` that lead to it: chunks that have only to be there. A
    /// snapshot of nothing has no tree.
    pub fn new(
        root: Option<&TreeRoot>,
        records: Vec<(Kind, ChunkRef)>,
        sample: Sample,
        limits: GetLimits,
        dedup: &DedupKey,
    ) -> Self {
        Self {
            sample,
            records: records.into(),
            asked: Vec::new(),
            walk: root.map(|root| TreeWalk::new(root, b"")),
            plan: Plan::new(limits, Some(BlobHasher::new(dedup))),
            files: Vec::new(),
            path_bytes: 0,
            is_filling: true,
            needs: VecDeque::new(),
            findings: VecDeque::new(),
            checked: Checked::default(),
            unportable: Vec::new(),
        }
    }

    /// The first of the paths whose last name cannot be one on every system.
    pub fn unportable(&self) -> &[Vec<u8>] {
        &self.unportable
    }

    /// What was read until now.
    pub fn checked(&self) -> Checked {
        self.checked
    }

    fn take(&mut self, entry: Entry) {
        self.checked.entries += 1;
        let name = entry.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if !is_portable(name) {
            self.checked.unportable += 1;
            if self.unportable.len() < UNPORTABLE_MAX {
                self.unportable.push(entry.path.clone());
            }
        }
        let What::File(body) = entry.what else { return };
        self.checked.files += 1;
        if body.content.reference().is_none() {
            return;
        }
        self.plan.add(self.files.len(), &body);
        self.path_bytes += entry.path.len();
        let (missing, why) = (Vec::new(), None);
        self.files.push(Open { path: entry.path, missing, missing_bytes: 0, why });
        self.is_filling = self.files.len() < FILES_MAX && self.path_bytes < PATH_BYTES_MAX;
    }

    /// Takes from the plan what is drawn, and tells it that the rest does not come.
    fn draw(&mut self) {
        while let Some(need) = self.plan.next_need() {
            if need.kind == Kind::Listing || self.sample.draws(&need.reference.id) {
                self.needs.push_back(need);
                continue;
            }
            self.checked.skipped_chunks += 1;
            let not_drawn = Lost::Unavailable(String::new());
            for arrival in self.plan.give(need.index, Err(not_drawn)) {
                if let Arrival::Lost { range, .. } = arrival {
                    let bytes = range.end.saturating_sub(range.start);
                    self.checked.skipped_bytes = self.checked.skipped_bytes.saturating_add(bytes);
                }
            }
        }
    }

    fn arrived(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Bytes { bytes, .. } => {
                let bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                self.checked.bytes = self.checked.bytes.saturating_add(bytes);
            }
            Arrival::Lost { file, range, why } => {
                let Some(open) = self.files.get_mut(file) else { return };
                let bytes = range.end.saturating_sub(range.start);
                open.missing_bytes = open.missing_bytes.saturating_add(bytes);
                if open.missing.len() < RANGES_MAX {
                    open.missing.push(range);
                }
                if why.outweighs(open.why.as_ref()) {
                    open.why = Some(why);
                }
            }
        }
    }

    /// All chunks of the window came, or will not.
    fn close_window(&mut self) {
        for Open { path, mut missing, missing_bytes, why } in std::mem::take(&mut self.files) {
            if let Some(why) = why {
                missing.sort_by_key(|range| range.start);
                self.findings.push_back(Finding::File { path, missing, missing_bytes, why });
            }
        }
        self.path_bytes = 0;
        self.is_filling = true;
    }
}

/// Whose number a chunk has.
const OF_TREE: u64 = 0;
const OF_FILES: u64 = 1;
const OF_RECORDS: u64 = 2;
const SOURCES: u64 = 3;

fn numbered(need: Need, of: u64) -> Option<Need> {
    Some(Need { index: need.index.checked_mul(SOURCES)?.checked_add(of)?, ..need })
}

impl Look for Verify {
    type Found = Finding;
    type Fault = TreeFault;

    fn step(&mut self) -> Result<Seen<Finding>, TreeFault> {
        loop {
            if let Some(finding) = self.findings.pop_front() {
                return Ok(Seen::Found(finding));
            }
            if !self.records.is_empty() || self.asked.iter().any(Option::is_some) {
                return Ok(Seen::Wait);
            }
            if self.is_filling {
                match self.walk.as_mut().map(TreeWalk::step).transpose()? {
                    Some(Step::Entry(entry)) => self.take(entry),
                    Some(Step::Wait) => return Ok(Seen::Wait),
                    Some(Step::End) | None => {
                        self.walk = None;
                        self.is_filling = false;
                    }
                }
                continue;
            }
            self.draw();
            if !self.plan.is_done() {
                return Ok(Seen::Wait);
            }
            let is_last = self.walk.is_none();
            self.close_window();
            if is_last && self.findings.is_empty() {
                return Ok(Seen::End);
            }
        }
    }

    fn wanted(&mut self) -> Option<Need> {
        if let Some((kind, reference)) = self.records.pop_front() {
            let index = u64::try_from(self.asked.len()).ok()?;
            self.asked.push(Some(kind));
            return numbered(Need { index, kind, reference }, OF_RECORDS);
        }
        if let Some(need) = self.needs.pop_front() {
            return numbered(need, OF_FILES);
        }
        let chunk = self.walk.as_mut()?.wanted()?;
        numbered(super::look::tree_need(chunk), OF_TREE)
    }

    fn give(&mut self, index: u64, plaintext: Result<Bytes, Lost>) {
        let (number, of) = (index / SOURCES, index % SOURCES);
        match of {
            OF_RECORDS => {
                let asked = usize::try_from(number).ok().and_then(|at| self.asked.get_mut(at));
                if let (Some(kind), Err(why)) = (asked.and_then(Option::take), plaintext) {
                    self.findings.push_back(Finding::Record { kind, why });
                }
            }
            OF_FILES => {
                for arrival in self.plan.give(number, plaintext) {
                    self.arrived(arrival);
                }
                // There is room for more now.
                self.draw();
            }
            _ => {
                let Some(walk) = &mut self.walk else { return };
                match plaintext {
                    Ok(plaintext) => walk.give(number, plaintext),
                    Err(why) => {
                        let gap = walk.give_up(number);
                        let part = gap.map(|gap| Finding::Part { gap, why });
                        self.findings.extend(part);
                    }
                }
            }
        }
    }
}
