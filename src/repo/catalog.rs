//! The owner's catalogue: what was put, what is still to be put, and who holds which chunk.
//!
//! It is the durable outbox: a put that has not reached its quorum is in [`Catalog::open_jobs`]
//! from [`Entry::PutStarted`] until [`Entry::PutDone`] or [`Entry::JobDropped`], through restarts.
//! It lies in one file, `<data-dir>/owner/catalog`, sealed under a key of the owner's, and is held
//! in memory whole: about 105 bytes a chunk. When holders last showed what they keep, and audits
//! proved it, lies beside it.
//!
//! The caller's duty: hold the data folder's lock, [`record`](Catalog::record) what happened, and
//! [`commit`](Catalog::commit) before telling anybody of it. Everything here blocks on the disk.

mod audit;
mod entry;
mod journal;
mod made;
mod proven;
mod prune;
mod rebuild;
mod state;
#[cfg(test)]
mod tests;

pub use super::standing::{AuditRecord, INCIDENTS_MAX, Standing, standing};
pub use audit::AuditCounts;
pub use entry::{
    ASKED_MAX, AWAITED_MAX, BackupMade, ChunkAcked, Device, Entry, HeadKept, HeadSeen,
    HolderAudited, JobDropped, JobId, Listing, ListingState, Loss, OpenPrune, Proven, PruneNote,
    PutRoot, PutStarted, RebuildNote, ReplicaLost, Silence, SnapshotDue, SnapshotEvidence,
    SnapshotForgotten, SnapshotSeen, ToLookAfter, TooLong, UnknownEntry, Verified,
};
pub use proven::{AUDITS_KEPT_S, BELIEVED_S, ProvenFile, Replicas};
pub use rebuild::Rebuild;
pub use state::{Drills, Job, KnownHead, NotedSnapshot};

use crate::core::types::{ChunkId, NodeId, SnapshotId, StoreEpoch};
use crate::crypto::keys::OwnerKeys;
use journal::Journal;
use proven::ReadBack;
use state::State;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// A journal below this is not worth rewriting.
const COMPACTED_FROM_ENTRIES: u64 = 10_000;

/// Acks that one pass of a compaction holds in memory: about 30 MiB.
const PASS_ACKS: u64 = 200_000;

/// The catalogue, open.
pub struct Catalog {
    path: PathBuf,
    journal: Journal,
    state: State,
    /// Entries in the journal, dead ones included.
    entries: u64,
    /// Entries that are refused, as on a disk that is full when they come.
    #[cfg(test)]
    pub(crate) refused: fn(&Entry) -> bool,
}

/// What reading a journal came upon.
#[derive(Debug, Default)]
struct Found {
    entries: u64,
    torn_bytes: u64,
    damaged_bytes: u64,
    /// The damaged journal, where it was replaced already.
    kept: Option<PathBuf>,
}

/// What opening the catalogue came upon.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpenReport {
    /// Entries that were read.
    pub entries: u64,
    /// Bytes of an unfinished commit at the end, cut off and kept as `catalog.torn`. Nothing was
    /// promised of them, unless the disk lost the end of what it had synced.
    pub torn_bytes: u64,
    /// Bytes that the disk altered: their entries are lost.
    pub damaged_bytes: u64,
    /// Where the journal as it was is kept, if it was damaged: its bytes were altered, or it was
    /// too short to be one, down to no byte at all.
    pub damaged: Option<PathBuf>,
    /// The journal was rewritten without what was dead or damaged.
    pub compacted: bool,
}

/// Why the catalogue does not work.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The disk says no.
    #[error("cannot use the catalogue {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Made by a newer version of the program.
    #[error("the catalogue {} is of the newer version {version}", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        version: u8,
    },
    /// Sealed under other keys, or those of another generation.
    #[error("the catalogue {} belongs to other keys", path.display())]
    OtherKeys {
        /// Which file.
        path: PathBuf,
    },
    /// Nothing in the file can be read.
    #[error("{} is not a catalogue, or wholly damaged", path.display())]
    NotACatalog {
        /// Which file.
        path: PathBuf,
    },
    /// A sound entry that this version does not know.
    #[error("the catalogue {} holds entries of a newer version", path.display())]
    UnknownEntry {
        /// Which file.
        path: PathBuf,
    },
    /// See [`TooLong`].
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// A sync failed before: nothing is recorded until the catalogue is opened again.
    #[error("the catalogue {} takes nothing more after a failed sync", path.display())]
    Failed {
        /// Which file.
        path: PathBuf,
    },
}

impl CatalogError {
    fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

impl Catalog {
    /// Opens the catalogue below `data_dir`, or makes it. A journal that is mostly dead, or
    /// damaged, is rewritten.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn open(data_dir: &Path, keys: &OwnerKeys) -> Result<(Self, OpenReport), CatalogError> {
        let folder = data_dir.join("owner");
        if !folder.is_dir() {
            make_private_folder(&folder).map_err(|source| CatalogError::io(&folder, source))?;
            journal::sync_folder(data_dir)?;
        }
        let path = folder.join("catalog");
        let mut state = State::default();
        let mut times = ReadBack::new(&path, keys);
        let mut owed = 0;
        let (journal, found) = Journal::open(&path, keys, &mut |entry| {
            if let Entry::HolderOwes { debt, .. } = &entry {
                owed += debt.count() as u64;
            }
            state.apply(entry);
            times.on_entry(&mut state);
        })?;
        let is_misplaced = times.finish(&mut state);
        let Found { entries, torn_bytes, damaged_bytes, kept } = found;
        let mut catalog = Self {
            path,
            journal,
            state,
            entries,
            #[cfg(test)]
            refused: |_| false,
        };
        let mut report =
            OpenReport { entries, torn_bytes, damaged_bytes, damaged: kept, compacted: false };
        // A debt is as long as what it names; others are as long as two or three of these.
        let weight = |entries: u64, owed: u64| entries.saturating_add(owed / 3);
        let all = weight(entries, owed);
        let dead = all.saturating_sub(weight(catalog.state.entries(), catalog.state.owed()));
        let mostly_dead = all >= COMPACTED_FROM_ENTRIES && dead > all / 2;
        if damaged_bytes > 0 && report.damaged.is_none() {
            report.damaged = Some(journal::keep_damaged(&catalog.path)?);
            catalog.compact()?;
            report.compacted = true;
        } else if mostly_dead {
            catalog.compact()?;
            report.compacted = true;
        }
        if report.compacted || is_misplaced {
            // Without it more is asked again.
            drop(catalog.all_proven().save());
        }
        Ok((catalog, report))
    }

    /// Takes an entry over: queries know it at once, the disk after [`Self::commit`]. About every
    /// 256 KiB it commits by itself.
    ///
    /// # Errors
    /// [`CatalogError`]; the entry was then not taken.
    pub fn record(&mut self, entry: Entry) -> Result<(), CatalogError> {
        #[cfg(test)]
        if (self.refused)(&entry) {
            return Err(CatalogError::io(&self.path, io::ErrorKind::StorageFull.into()));
        }
        if self.journal.is_full() {
            self.journal.commit()?;
        }
        self.journal.add(|out| entry.encode(out))?;
        self.state.apply(entry);
        self.entries += 1;
        Ok(())
    }

    /// Writes every entry so far: it outlives this process, whatever ends that. It outlives the
    /// system after [`Self::commit`]. Costs one write, or nothing.
    ///
    /// # Errors
    /// [`CatalogError`]. On a full disk nothing is lost, and a later call may do.
    pub fn write(&mut self) -> Result<(), CatalogError> {
        self.note_marks()?;
        self.journal.write()
    }

    /// Makes every entry so far durable. Costs one write and one sync, or nothing.
    ///
    /// # Errors
    /// [`CatalogError`]. On a full disk nothing is lost, and a later commit may do; after a failed
    /// sync all further calls fail.
    pub fn commit(&mut self) -> Result<(), CatalogError> {
        self.note_marks()?;
        self.journal.commit()
    }

    /// A name for the next put.
    pub fn next_job(&self) -> JobId {
        self.state.next_job()
    }

    /// The outbox: puts that have not reached their quorum, oldest first.
    pub fn open_jobs(&self) -> impl Iterator<Item = &Job> {
        self.state.jobs()
    }

    /// A put of the outbox; `None` where it is not there any more.
    pub fn job(&self, job: JobId) -> Option<&Job> {
        self.state.job(job)
    }

    /// The newest of the puts that were given up and whose files were not put since, oldest first.
    pub fn dropped(&self) -> impl Iterator<Item = &JobDropped> {
        self.state.dropped()
    }

    /// The files on the mesh, newest first.
    pub fn roots(&self) -> Vec<&PutRoot> {
        let mut roots: Vec<&PutRoot> = self.state.roots().collect();
        roots.sort_by_key(|root| std::cmp::Reverse((root.put_at, root.job)));
        roots
    }

    /// Files that were put and that no snapshot names yet, oldest first.
    pub fn snapshots_due(&self) -> impl Iterator<Item = &SnapshotDue> {
        self.state.due()
    }

    /// Which device of the owner this folder is, once it has written anything.
    pub fn device(&self) -> Option<Device> {
        self.state.device()
    }

    /// The newest record of each head that was seen or made, by generation and index.
    pub fn heads(&self) -> impl Iterator<Item = &KnownHead> {
        self.state.heads()
    }

    /// When all nodes were last asked for the heads of all devices: seconds since 1970.
    pub fn looked_around(&self) -> Option<u64> {
        self.state.looked_around()
    }

    /// What reading this snapshot back came to, if anybody did.
    pub fn drills_of(&self, snapshot: &SnapshotId) -> Option<Drills> {
        self.state.drills_of(snapshot)
    }

    /// What reading snapshots back came to, by their ids.
    pub fn drills(&self) -> impl Iterator<Item = &Drills> {
        self.state.drills()
    }

    /// The newest proof that a snapshot can be restored, of those of which nothing else was found
    /// since.
    pub fn newest_proof(&self) -> Option<Verified> {
        let sound = self.state.drills().filter(|drills| drills.failed.is_none());
        sound.filter_map(|drills| drills.proof).max_by_key(|proof| proof.at)
    }

    /// Who acknowledged this chunk, with the store it has now.
    pub fn holders_of(&self, chunk: &ChunkId) -> Vec<NodeId> {
        self.state.holders_of(chunk)
    }

    /// The store that this node acknowledged with last: what it said for another one counts no
    /// more.
    pub fn store_of(&self, node: &NodeId) -> Option<StoreEpoch> {
        self.state.store_of(node)
    }

    /// All nodes that acknowledged anything, each with the store it has now.
    pub fn stores(&self) -> Vec<(NodeId, StoreEpoch)> {
        self.state.stores()
    }

    /// How many chunks this node acknowledged, with the store it has now.
    pub fn chunks_held_by(&self, node: &NodeId) -> u64 {
        self.state.chunks_held_by(node)
    }

    /// How many chunks anybody acknowledged.
    pub fn chunks(&self) -> u64 {
        self.state.chunks()
    }

    /// The damaged journals that were replaced, and are kept until the user takes them away.
    pub fn damaged(&self) -> Vec<PathBuf> {
        let folder = self.path.parent().unwrap_or(&self.path);
        let prefix = self.path.with_extension(journal::DAMAGED);
        let is_one = |path: &PathBuf| {
            path.as_os_str().as_encoded_bytes().starts_with(prefix.as_os_str().as_encoded_bytes())
        };
        // A folder that cannot be read fails whatever is recorded next, which is said then.
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut damaged: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_one).collect();
        damaged.sort();
        damaged
    }

    /// Rewrites the journal with nothing but what still says something.
    fn compact(&mut self) -> Result<(), CatalogError> {
        let mut fresh = self.journal.successor()?;
        for job in self.state.jobs() {
            append(&mut fresh, |out| job.started.encode(out))?;
            if let Some(root) = &job.short {
                append(&mut fresh, |out| root.encode_short(out))?;
            }
            let id = job.started.job;
            if job.acked {
                append(&mut fresh, |out| Entry::PutAcked(id).encode(out))?;
            }
            if let Some(since) = job.away_since {
                let away = Entry::SourceAway { job: id, since: Some(since) };
                append(&mut fresh, |out| away.encode(out))?;
            }
        }
        for dropped in self.state.dropped() {
            append(&mut fresh, |out| dropped.encode(out))?;
        }
        for root in self.state.roots() {
            append(&mut fresh, |out| root.encode_done(out))?;
        }
        for due in self.state.due() {
            append(&mut fresh, |out| due.encode(out))?;
        }
        self.copy_heads(&mut fresh)?;
        for drill in self.state.drills().flat_map(Drills::each) {
            append(&mut fresh, |out| Entry::Verified(drill).encode(out))?;
        }
        self.copy_acks(&mut fresh)?;
        for chunk in self.state.nowhere() {
            append(&mut fresh, |out| Entry::ChunkNowhere(*chunk).encode(out))?;
        }
        // Behind the acks of others, and what is known.
        for lost in self.state.losses() {
            append(&mut fresh, |out| Entry::ReplicaLost(*lost).encode(out))?;
        }
        for entry in self.state.audits().each() {
            append(&mut fresh, |out| entry.encode(out))?;
        }
        // Behind the acks of what is being let go.
        self.state.each_prune_entry(|entry| append(&mut fresh, |out| entry.encode(out)))?;
        // Behind all that would make it look worse.
        for made in self.state.made() {
            append(&mut fresh, |out| made.encode(out))?;
        }
        for evidence in self.state.evidence() {
            append(&mut fresh, |out| Entry::SnapshotEvidence(*evidence).encode(out))?;
        }
        for note in self.state.rebuild().into_iter().flat_map(Rebuild::notes) {
            append(&mut fresh, |out| Entry::Rebuild(note).encode(out))?;
        }
        fresh.put_in_place(&self.path)?;
        self.journal = fresh;
        self.entries = self.state.entries();
        Ok(())
    }

    fn copy_heads(&self, fresh: &mut Journal) -> Result<(), CatalogError> {
        if let Some(device) = self.state.device() {
            append(fresh, |out| Entry::Device(device).encode(out))?;
        }
        for KnownHead { seen, kept } in self.state.heads() {
            append(fresh, |out| {
                seen.encode(out);
                Ok(())
            })?;
            if let Some(kept) = kept {
                append(fresh, |out| kept.encode(out))?;
            }
        }
        if let Some(at) = self.state.looked_around() {
            append(fresh, |out| Entry::LookedAround { at }.encode(out))?;
        }
        Ok(())
    }

    /// The last ack of each chunk by each node. Leases are not held in memory, so the old journal
    /// is read again, a part of the ids at a time.
    fn copy_acks(&self, fresh: &mut Journal) -> Result<(), CatalogError> {
        let passes = self.state.entries() / PASS_ACKS + 1;
        for pass in 0..passes {
            let mut acks: BTreeMap<(u64, ChunkId, NodeId), ChunkAcked> = BTreeMap::new();
            self.journal.replay(&mut |entry| {
                if let Entry::ChunkAcked(acked) = entry
                    && part_of(&acked.chunk) % passes == pass
                    && self.state.counts(&acked)
                {
                    acks.insert((place_of(&acked.chunk), acked.chunk, acked.node), acked);
                }
            })?;
            for acked in acks.into_values() {
                append(fresh, |out| Entry::ChunkAcked(acked).encode(out))?;
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Catalog");
        debug.field("path", &self.path).field("entries", &self.entries).finish_non_exhaustive()
    }
}

/// Adds to a journal that is synced later.
fn append(
    journal: &mut Journal,
    encode: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLong>,
) -> Result<(), CatalogError> {
    if journal.is_full() {
        journal.write()?;
    }
    journal.add(encode)
}

/// Chunk ids are hashes: their first bytes spread them evenly.
fn part_of(chunk: &ChunkId) -> u64 {
    let [a, b, ..] = chunk.as_bytes();
    u64::from(u16::from_le_bytes([*a, *b]))
}

/// Where a chunk stands in a rewritten journal: in no order of the ids, or the tree that is made of
/// it would be half empty.
fn place_of(chunk: &ChunkId) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = *chunk.as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Makes a folder that nobody else can look into.
fn make_private_folder(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(path)
}
