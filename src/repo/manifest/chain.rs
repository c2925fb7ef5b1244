//! One device's chain: checked from the checkpoint to what its head names, and made longer.

use super::{Body, Checkpoint, ManifestEntry, ManifestFault};
use crate::core::types::DeviceId;
use crate::repo::head::{HeadPayload, Linked, RECENT_MAX};
use crate::repo::reference::ChunkRef;
use zeroize::Zeroizing;

/// Why what a head names is not the chain that it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// An entry is no entry.
    #[error("entry {number} of the manifest cannot be read: {fault}")]
    Entry {
        /// Which.
        number: u64,
        /// What is wrong with it.
        fault: ManifestFault,
    },
    /// Fewer entries were given than the head names.
    #[error("the manifest ends before entry {number}")]
    Truncated {
        /// The first one that lacks.
        number: u64,
    },
    /// One is missing in the midst.
    #[error("entry {number} of the manifest is missing")]
    Gap {
        /// Which.
        number: u64,
    },
    /// All are there, in another order.
    #[error("entry {number} of the manifest is out of order")]
    Reordered {
        /// The first one that is.
        number: u64,
    },
    /// One is not what the next one or the head says, or another device's.
    #[error("entry {number} of the manifest was altered")]
    Altered {
        /// Which.
        number: u64,
    },
    /// The chain is shorter than it was.
    #[error("the manifest has {found} entries, and had {seen}")]
    RolledBack {
        /// As the head says.
        found: u64,
        /// As was seen before.
        seen: u64,
    },
}

/// How long a chain was when it was last seen, and the hash of its last entry then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Entries.
    pub length: u64,
    /// Hash of the last one.
    pub newest: [u8; 32],
}

/// A chain as its head names it.
#[derive(Debug)]
pub struct Chain {
    device: DeviceId,
    index: u16,
    generation: u32,
    length: u64,
    newest: [u8; 32],
    lamport: u64,
    checkpoint: Option<(u64, ChunkRef)>,
    recent: Vec<ChunkRef>,
    linked: Linked,
}

/// What a checked chain says: the checkpoint, and the entries behind it in their order.
#[derive(Debug, Default)]
pub struct ChainView {
    /// All that still matters of what came before.
    pub checkpoint: Option<Checkpoint>,
    /// What came since.
    pub entries: Vec<ManifestEntry>,
}

impl Chain {
    /// A chain without entries.
    pub fn new(device: DeviceId, index: u16, generation: u32) -> Self {
        let (newest, recent) = ([0; 32], Vec::new());
        let (length, lamport, checkpoint, linked) = (0, 0, None, Linked::ToSeen);
        Self { device, index, generation, length, newest, lamport, checkpoint, recent, linked }
    }

    /// Checks numbers, hashes and Lamport times from the checkpoint to what the head names:
    /// `entries` are the plaintexts of the checkpoint, if there is one, and of the recent entries.
    /// What was seen of the chain before must be part of it still; where the checkpoint covers it,
    /// that cannot be told, and [`Self::linked`] says so.
    ///
    /// # Errors
    /// [`ChainFault`], whatever was given.
    pub fn verify(
        head: &HeadPayload,
        generation: u32,
        entries: &[impl AsRef<[u8]>],
        seen: Option<Seen>,
    ) -> Result<(Self, ChainView), ChainFault> {
        if let Some(seen) = seen.filter(|seen| head.chain < seen.length) {
            return Err(ChainFault::RolledBack { found: head.chain, seen: seen.length });
        }
        let first = head.checkpoint.as_ref().map_or(0, |(number, _)| *number);
        let wanted = head.chain.saturating_sub(first);
        let mut read = Vec::new();
        for (number, plaintext) in (first..).zip(entries) {
            let plaintext = plaintext.as_ref();
            let entry = ManifestEntry::decode(plaintext)
                .map_err(|fault| ChainFault::Entry { number, fault })?;
            read.push((entry, ManifestEntry::hash(plaintext)));
        }
        check_numbers(first, wanted, &read)?;
        check_links(head, generation, &read)?;
        let linked = check_seen(&read, seen)?;
        let mut entries: Vec<ManifestEntry> = read.into_iter().map(|(entry, _)| entry).collect();
        let lamport = entries.last().map_or(0, |entry| entry.lamport);
        let checkpoint = if head.checkpoint.is_some() {
            match entries.drain(..1).next().map(|entry| entry.body) {
                Some(Body::Checkpoint(checkpoint)) => Some(checkpoint),
                _ => return Err(ChainFault::Altered { number: first }),
            }
        } else {
            None
        };
        let chain = Self {
            device: head.device,
            index: head.index,
            generation,
            length: head.chain,
            newest: head.newest,
            lamport,
            checkpoint: head.checkpoint.as_ref().map(duplicate),
            recent: head.recent.iter().map(ChunkRef::duplicate).collect(),
            linked,
        };
        Ok((chain, ChainView { checkpoint, entries }))
    }

    /// The next entry, which is part of the chain once [`Self::push`] is told so. Its Lamport time
    /// is above `known`, the highest that the owner's devices have.
    pub fn next(&self, body: Body, wall_ns: i64, known: u64) -> ManifestEntry {
        ManifestEntry {
            device: self.device,
            index: self.index,
            generation: self.generation,
            number: self.length,
            lamport: self.lamport.max(known).saturating_add(1),
            wall_ns,
            previous: self.newest,
            body,
        }
    }

    /// The entry that [`Self::next`] made was sealed: these are its plaintext and where it is.
    pub fn push(&mut self, entry: &ManifestEntry, plaintext: &Zeroizing<Vec<u8>>, at: ChunkRef) {
        self.newest = ManifestEntry::hash(plaintext);
        self.length = entry.number.saturating_add(1);
        self.lamport = entry.lamport;
        if matches!(entry.body, Body::Checkpoint(_)) {
            self.checkpoint = Some((entry.number, at));
            self.recent.clear();
        } else {
            self.recent.push(at);
        }
    }

    /// Whether a checkpoint comes before the next entry. The head has still room for one then: for
    /// what is forgotten where there are too many snapshots for a checkpoint.
    pub fn needs_checkpoint(&self) -> bool {
        self.recent.len() >= RECENT_MAX - 1
    }

    /// Whether the head has no room for one more entry. What is to be forgotten is said to
    /// [`Merged::forget`](super::merge::Merged::forget) then, and a checkpoint says it alone.
    pub fn is_full(&self) -> bool {
        self.recent.len() >= RECENT_MAX
    }

    /// Whether the chain is known to go on from what was seen before.
    pub fn linked(&self) -> Linked {
        self.linked
    }

    /// How long it is, and the hash of its last entry: what to remember of it.
    pub fn seen(&self) -> Seen {
        Seen { length: self.length, newest: self.newest }
    }

    /// The device's Lamport time.
    pub fn lamport(&self) -> u64 {
        self.lamport
    }

    /// The checkpoint, if there is one, and the entries behind it: the chunks that a head names.
    pub fn named(&self) -> impl Iterator<Item = &ChunkRef> {
        self.checkpoint.iter().map(|(_, at)| at).chain(&self.recent)
    }

    /// Says in a head what it has to say of the chain: device, index, length, the hash of the last
    /// entry, the checkpoint, the recent entries. Its Lamport time is at least the chain's.
    pub fn name_in(&self, head: &mut HeadPayload) {
        (head.device, head.index) = (self.device, self.index);
        (head.chain, head.newest) = (self.length, self.newest);
        head.checkpoint = self.checkpoint.as_ref().map(duplicate);
        head.recent = self.recent.iter().map(ChunkRef::duplicate).collect();
        head.lamport = head.lamport.max(self.lamport);
    }
}

/// What was seen must be what stands there now, or what the checkpoint follows.
fn check_seen(read: &[Read], seen: Option<Seen>) -> Result<Linked, ChainFault> {
    let Some(Seen { length, newest }) = seen else { return Ok(Linked::ToSeen) };
    let Some(number) = length.checked_sub(1) else { return Ok(Linked::ToSeen) };
    let stands = read.iter().find(|(entry, _)| entry.number == number).map(|(_, hash)| *hash);
    let first = read.first().filter(|(entry, _)| entry.number == length);
    match stands.or_else(|| first.map(|(entry, _)| entry.previous)) {
        Some(hash) if hash != newest => Err(ChainFault::Altered { number }),
        Some(_) => Ok(Linked::ToSeen),
        None => Ok(Linked::Unknown),
    }
}

fn duplicate((number, reference): &(u64, ChunkRef)) -> (u64, ChunkRef) {
    (*number, reference.duplicate())
}

/// An entry and its hash.
type Read = (ManifestEntry, [u8; 32]);

/// Numbers go up one by one, as many as the head says.
fn check_numbers(first: u64, wanted: u64, read: &[Read]) -> Result<(), ChainFault> {
    for (number, (entry, _)) in (first..).zip(read) {
        if entry.number == number {
            continue;
        }
        let elsewhere = read.iter().any(|(other, _)| other.number == number);
        return Err(if elsewhere {
            ChainFault::Reordered { number }
        } else {
            ChainFault::Gap { number }
        });
    }
    let found = read.len() as u64;
    if found < wanted {
        return Err(ChainFault::Truncated { number: first.saturating_add(found) });
    }
    // More than the head names are not of this head.
    let more = first.saturating_add(wanted);
    if found > wanted { Err(ChainFault::Altered { number: more }) } else { Ok(()) }
}

/// Each entry is the device's own, names the one before, and has a later Lamport time; the last one
/// is the newest of the head.
fn check_links(head: &HeadPayload, generation: u32, read: &[Read]) -> Result<(), ChainFault> {
    for (entry, _) in read {
        let own = entry.device == head.device && entry.index == head.index;
        let of = entry.generation == generation && entry.lamport <= head.lamport;
        if !(own && of) {
            return Err(ChainFault::Altered { number: entry.number });
        }
    }
    for pair in read.windows(2) {
        let [(before, hash), (after, _)] = pair else { continue };
        if after.previous != *hash || after.lamport <= before.lamport {
            return Err(ChainFault::Altered { number: before.number });
        }
    }
    let newest = read.last().map_or([0; 32], |(_, hash)| *hash);
    let number = head.chain.saturating_sub(1);
    if newest == head.newest { Ok(()) } else { Err(ChainFault::Altered { number }) }
}
