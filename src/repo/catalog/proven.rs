//! When each holder last said that it keeps a chunk, by an ack or when it was asked, and when an
//! audit last proved it.
//!
//! The times lie in memory, eight bytes beside each holder of a chunk, and in a file of their own,
//! `<data-dir>/owner/proven`: a journal like the catalogue's, written anew as a whole, with words
//! that are no older than [`BELIEVED_S`] and proofs that are no older than [`AUDITS_KEPT_S`].
//! Without it, or with less in it, more is asked again: so it is written now and then, and nothing
//! is lost with it. Nobody waits for the catalogue meanwhile: see [`ProvenFile`].
//!
//! A replica may be lost after the file was written, and its node store the chunk anew: of that
//! copy nothing is proven yet. So the file says first up to which entry of the catalogue's journal
//! it goes, and its times are read back when that entry was, not after the last one. A journal that
//! is rewritten has other entries: the file is then, too.
//!
//! Times are the wall clock's, in seconds. One that lies ahead counts as none.

use super::entry::{Entry, PROVEN_CHUNKS_MAX, Proven};
use super::journal::{Journal, Seal};
use super::state::{State, Times};
use super::{Catalog, CatalogError, append};
use crate::core::types::{ChunkId, NodeId, StoreEpoch};
use crate::crypto::keys::OwnerKeys;
use crate::repo::near::Near;
use std::path::{Path, PathBuf};

/// How long it is believed that a holder keeps a chunk: 24 hours, in seconds.
pub const BELIEVED_S: u64 = 24 * 3600;

/// How long it is remembered that an audit proved a replica: 400 days, in seconds.
pub const AUDITS_KEPT_S: u64 = 400 * 24 * 3600;

/// How many nodes have a chunk: distinct ones that count, so none that lied, or is silent for so
/// long that it is suspect or lost, nor one that said since that it has the chunk no more; and one
/// of those that share a failure domain ([`Catalog::draw_near`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replicas {
    /// They acknowledged it, with the stores that they have now.
    pub acked: usize,
    /// And that was, or they said so again, or an audit proved it, since the given time.
    pub proven: usize,
    /// And an audit proved it, ever since they acknowledged it. How many of these lately:
    /// [`Catalog::audited_within`].
    pub audited: usize,
}

impl Catalog {
    /// Takes in which holders share a failure domain by now: of a chunk's replicas one counts in
    /// each. Not written down: while nobody said so, each holder stands apart. Where replicas
    /// count no more by that since `lost_s`, seconds since 1970, what was told of snapshots is
    /// taken back, for good with the next commit.
    pub fn draw_near(&mut self, near: Near, lost_s: Option<u64>) {
        self.state.draw_near(near, lost_s);
    }

    /// What [`Self::draw_near`] took in last, and how often it took in anything.
    pub fn near(&self) -> (&Near, u64) {
        self.state.near()
    }

    /// How many nodes have this chunk, and of how many that was shown from `since_s` to `now_s`:
    /// seconds since 1970.
    pub fn replicas_of(&self, chunk: &ChunkId, (since_s, now_s): (u64, u64)) -> Replicas {
        self.state.replicas_of(chunk, (seconds(since_s), seconds(now_s)))
    }

    /// Who those are that [`Replicas::proven`] counts.
    pub fn proven_holders(
        &self,
        chunk: &ChunkId,
        (since_s, now_s): (u64, u64),
    ) -> impl Iterator<Item = NodeId> {
        self.state.proven_holders(chunk, (seconds(since_s), seconds(now_s)))
    }

    /// The same, and those beside them that share a failure domain with one of them.
    pub fn shown_holders(&self, chunk: &ChunkId, (since_s, now_s): (u64, u64)) -> Vec<NodeId> {
        self.state.shown_holders(chunk, (seconds(since_s), seconds(now_s))).collect()
    }

    /// Who acknowledged this chunk, and did not show since `since_s` that it has it still.
    pub fn unproven_holders(
        &self,
        chunk: &ChunkId,
        (since_s, now_s): (u64, u64),
    ) -> impl Iterator<Item = NodeId> {
        self.state.unproven_holders(chunk, (seconds(since_s), seconds(now_s)))
    }

    /// This node said at `at_s` that it keeps the chunk. Another store than the one that
    /// acknowledged it says nothing of that.
    pub fn prove(&mut self, node: &NodeId, epoch: &StoreEpoch, chunk: &ChunkId, at_s: u64) {
        self.state.prove((node, epoch), chunk, seconds(at_s));
    }

    /// This node said at `at_s` that it does not keep the chunk, or sent something else: its
    /// replica counts no more, nor does what an audit proved, until it acknowledges, shows or
    /// proves it anew. Another store than the one that acknowledged it says nothing of that.
    /// Remembered with the times of what was shown; what was told of snapshots is taken back with
    /// the next commit.
    pub fn refute(&mut self, node: &NodeId, epoch: &StoreEpoch, chunk: &ChunkId, at_s: u64) {
        self.state.refute((node, epoch), chunk, at_s);
    }

    /// This node has lost that store, or all that it held of the owner's, as was found at `at_s`:
    /// what it acknowledged with it counts no more, until it acknowledges that again. Not
    /// remembered by the journal: see [`Entry::StoreGone`], which is.
    pub fn store_is_gone(&mut self, node: &NodeId, epoch: &StoreEpoch, at_s: u64) {
        self.state.store_is_gone((node, epoch), at_s);
    }

    /// Every chunk that anybody acknowledged, in the order of their ids, also where nobody is known
    /// to have it any more; not those that were let go.
    pub fn chunk_ids(&self) -> impl Iterator<Item = &ChunkId> {
        self.state.chunk_ids()
    }

    /// What is worth it of the times, as [`ProvenFile::save`] writes it without the catalogue: one
    /// file is saved after the other, or an earlier one may take the place of a later one.
    pub fn proven_file(&self, now_s: u64) -> ProvenFile {
        let window = |kept_s| (seconds(now_s.saturating_sub(kept_s)), seconds(now_s));
        self.proven_within(window(BELIEVED_S), window(AUDITS_KEPT_S))
    }

    /// The same, whatever the time is.
    pub(super) fn all_proven(&self) -> ProvenFile {
        self.proven_within((0, u32::MAX), (0, u32::MAX))
    }

    fn proven_within(&self, shown: (u32, u32), audited: (u32, u32)) -> ProvenFile {
        ProvenFile {
            path: path_beside(&self.path),
            seal: self.journal.seal(),
            entries: self.entries,
            shown: self.state.proven(shown),
            audited: self.state.audited(audited),
        }
    }

    /// What holders said before `at_s` counts no more: another device may have let chunks go since.
    /// It counts again after a restart, where the file of before is not replaced. What audits
    /// proved stays.
    pub fn disbelieve_before(&mut self, at_s: u64) {
        self.state.disbelieve_before(seconds(at_s));
    }

    /// As if the last day had passed without a word of any holder.
    #[cfg(test)]
    pub(crate) fn forget_proofs(&mut self) {
        self.state.forget_proofs();
    }
}

/// When holders showed what, on its way to its file.
pub struct ProvenFile {
    path: PathBuf,
    seal: Seal,
    /// Entries of the catalogue's journal that it comes after.
    entries: u64,
    shown: Times,
    audited: Times,
}

impl ProvenFile {
    /// Takes the place of the file that is there. Blocks on the disk.
    ///
    /// # Errors
    /// [`CatalogError`]; the file is then as it was.
    pub fn save(self) -> Result<(), CatalogError> {
        let Self { path, seal, entries, shown, audited } = self;
        let mut fresh = Journal::create_aside(&path, seal)?;
        append(&mut fresh, |out| Entry::ShownUpTo { entries }.encode(out))?;
        for (times, entry) in [(shown, Entry::Proven as fn(_) -> _), (audited, Entry::Audited)] {
            for ((node, epoch, at_s), chunks) in times {
                for chunks in chunks.chunks(PROVEN_CHUNKS_MAX) {
                    let proven = Proven { node, epoch, at_s, chunks: chunks.to_vec() };
                    append(&mut fresh, |out| entry(proven).encode(out))?;
                }
            }
        }
        fresh.put_in_place(&path)
    }
}

/// Where the times are, of the catalogue there.
fn path_beside(catalog: &Path) -> PathBuf {
    catalog.with_file_name("proven")
}

/// Reading the times back while the catalogue's journal is read.
pub(super) struct ReadBack<'a> {
    path: PathBuf,
    keys: &'a OwnerKeys,
    /// Entries of the journal that were read.
    read: u64,
    /// After so many of them; `None` once it was done, or where there is nothing to read.
    after: Option<u64>,
}

impl<'a> ReadBack<'a> {
    pub(super) fn new(catalog: &Path, keys: &'a OwnerKeys) -> Self {
        let mut this = Self { path: path_beside(catalog), keys, read: 0, after: None };
        if this.path.exists() {
            // A file of before says nothing of that: it comes after all.
            let mut after = u64::MAX;
            let is_read = this.each(|entry| {
                if let Entry::ShownUpTo { entries } = entry {
                    after = entries;
                }
            });
            this.after = is_read.then_some(after);
        }
        this
    }

    /// One more entry of the journal was read.
    pub(super) fn on_entry(&mut self, state: &mut State) {
        self.read += 1;
        if self.after == Some(self.read) {
            self.fill(state);
        }
    }

    /// All were. Returns whether the file has to be written anew, to say where it belongs.
    pub(super) fn finish(mut self, state: &mut State) -> bool {
        let is_beyond = self.after.is_some_and(|after| after > self.read);
        if is_beyond {
            self.fill(state);
        }
        is_beyond
    }

    fn fill(&mut self, state: &mut State) {
        self.after = None;
        self.each(|entry| {
            if matches!(entry, Entry::Proven(_) | Entry::Audited(_)) {
                state.apply(entry);
            }
        });
    }

    /// Returns whether it can be read. Whatever is wrong with it, more is asked, and the next one
    /// takes its place.
    fn each(&self, mut each: impl FnMut(Entry)) -> bool {
        Journal::open(&self.path, self.keys, &mut each).is_ok()
    }
}

/// As many as a number of four bytes holds: until 2106.
pub(super) fn seconds(seconds: u64) -> u32 {
    u32::try_from(seconds).unwrap_or(u32::MAX)
}
