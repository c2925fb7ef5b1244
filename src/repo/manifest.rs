//! The manifest: what each device of an owner did to its snapshots, as a chain of entries. Pure.
//!
//! Every device writes a chain of its own, which its head names, and the owner's view is all of
//! them together; so devices need no lock, and the view does not depend on the order in which
//! chains are read. An entry is the plaintext of a frame of kind
//! [`Manifest`](super::frame::Kind::Manifest), integers little-endian:
//!
//! ```text
//! version u8 = 1 | kind u8 | device 16 | index u16 | generation u32
//! | number u64 (0 first) | lamport u64 | wall clock i64 ns | previous 32 | body length u32 | body
//! hash = SHA-256("quloud/v1/manifest" || plaintext)
//! ```
//!
//! `previous` is the hash of the entry before, zeros at number 0. Bodies; a text has its length in
//! front as a `u8`, a path as a `u16`:
//!
//! ```text
//! 1 add         snapshot id 32 | reference 66 | created i64 ns | offset from UTC i16 minutes
//!               | flags u8 (1 partial, 2 put, 4 roots were cut) | files u64 | bytes u64
//!               | new bytes u64 | host text | roots: count u16, paths | tags: count u8, texts
//! 2 forget      count u32, snapshot ids 32
//! 3 intent      prune id 16 | grace s u32
//! 4 done        prune id 16 | released u64
//! 5 keys        event u8 (1 joined, 2 retired, 3 new generation) | device 16 | index u16
//!               | generation u32
//! 6 checkpoint  adds: count u32, bodies | forgets: count u32, ids 32
//!               | intents: count u16, prune id 16, grace s u32, lamport u64
//!               | devices: count u16, index u16, device 16, lamport u64, flags u8 (1 retired)
//!               | hints: count u16, node 32, chunks u64, address length u16, address
//! ```
//!
//! A checkpoint says all that the entries before it said and that still matters, so these may go.
//! Its hints name who holds how much, so that a new device finds the holders it needs.

mod body;
pub mod chain;
pub mod draft;
mod entry;
pub mod merge;

#[cfg(test)]
mod tests;

use super::reference::ChunkRef;
use crate::core::types::{DeviceId, NodeId, SnapshotId};

/// The most snapshots that one entry forgets.
pub const FORGETS_MAX: usize = 65_536;

/// The most live snapshots of one device.
pub const LIVE_MAX: usize = 16_384;

/// The most bytes of roots that an entry repeats of a snapshot.
pub const ROOTS_BYTES_MAX: usize = 1 << 10;

/// The most holders that a checkpoint names.
pub const HINTS_MAX: usize = 64;

/// The longest address of a hint.
pub const ADDRESS_BYTES_MAX: usize = 512;

/// One entry of a device's chain.
#[derive(Debug)]
pub struct ManifestEntry {
    /// Who wrote it.
    pub device: DeviceId,
    /// The device's head.
    pub index: u16,
    /// Generation of the owner's keys.
    pub generation: u32,
    /// Its place in the chain: 0 first.
    pub number: u64,
    /// Above that of everything the device knew then.
    pub lamport: u64,
    /// What the device's clock showed: nanoseconds since 1970. Shown, never believed.
    pub wall_ns: i64,
    /// Hash of the entry before; zeros at number 0.
    pub previous: [u8; 32],
    /// What happened.
    pub body: Body,
}

/// What an entry says.
#[derive(Debug)]
pub enum Body {
    /// A snapshot was made.
    Add(Added),
    /// These snapshots are no longer wanted.
    Forget(Vec<SnapshotId>),
    /// A prune is about to release what no live snapshot names.
    PruneIntent(PruneIntent),
    /// It has.
    PruneDone {
        /// Which.
        prune: PruneId,
        /// How many chunks it released.
        released: u64,
    },
    /// A device came, went, or has new keys.
    Keys(KeyEvent),
    /// All that still matters of the entries before.
    Checkpoint(Checkpoint),
}

/// Names one prune; random.
pub type PruneId = [u8; 16];

/// A snapshot, and as much of it as a list shows.
#[derive(Debug)]
pub struct Added {
    /// Its name.
    pub id: SnapshotId,
    /// Where it is.
    pub reference: ChunkRef,
    /// When it began: nanoseconds since 1970.
    pub created_ns: i64,
    /// What the device's clock showed beside UTC then, in minutes.
    pub utc_offset_min: i16,
    /// Something could not be read and is missing.
    pub partial: bool,
    /// It is one file that was put.
    pub put: bool,
    /// There are more roots than stand here.
    pub roots_cut: bool,
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Sealed bytes that were new, one copy.
    pub new_bytes: u64,
    /// The device's name then.
    pub host: String,
    /// What was backed up, at most [`ROOTS_BYTES_MAX`] of it.
    pub roots: Vec<Vec<u8>>,
    /// The user's labels.
    pub tags: Vec<String>,
}

impl Added {
    /// A copy for a second user; explicit, because it holds a key.
    pub fn duplicate(&self) -> Self {
        let Self { id, created_ns, utc_offset_min, partial, put, roots_cut, .. } = *self;
        let Self { files, bytes, new_bytes, .. } = *self;
        let (host, roots, tags) = (self.host.clone(), self.roots.clone(), self.tags.clone());
        let reference = self.reference.duplicate();
        Self {
            id,
            reference,
            created_ns,
            utc_offset_min,
            partial,
            put,
            roots_cut,
            files,
            bytes,
            new_bytes,
            host,
            roots,
            tags,
        }
    }
}

/// A prune that may release things once its grace is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneIntent {
    /// Which.
    pub prune: PruneId,
    /// How long it waits before it does.
    pub grace_s: u32,
}

/// What happened to a device's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyEvent {
    /// What.
    pub what: KeyChange,
    /// To which device.
    pub device: DeviceId,
    /// Its head.
    pub index: u16,
    /// The generation of its keys from then on.
    pub generation: u32,
}

/// What may happen to a device's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum KeyChange {
    /// It writes from now on.
    Joined = 1,
    /// It writes no more.
    Retired = 2,
    /// It has keys of another generation.
    NewGeneration = 3,
}

/// All that still matters of a chain.
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// The device's snapshots that nobody forgot, in the order of their entries.
    pub live: Vec<Added>,
    /// What it forgot of other devices' snapshots, ascending.
    pub forgets: Vec<SnapshotId>,
    /// Its prunes that are not done, with the Lamport times of their intents.
    pub intents: Vec<(PruneIntent, u64)>,
    /// The devices that it knows, by index.
    pub devices: Vec<KnownDevice>,
    /// Who holds how much.
    pub hints: Vec<Hint>,
}

/// Another device of the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownDevice {
    /// Its head.
    pub index: u16,
    /// Which device.
    pub device: DeviceId,
    /// The highest Lamport time that was seen of it.
    pub lamport: u64,
    /// It writes no more.
    pub retired: bool,
}

/// A holder that has much of what the owner stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// Who.
    pub node: NodeId,
    /// How many chunks it acknowledged.
    pub chunks: u64,
    /// Text of a multiaddr to reach it by, with `/p2p/PEERID` at its end; may be empty.
    pub address: Vec<u8>,
}

/// Why something is not an entry, or cannot be written as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ManifestFault {
    /// Made by a newer version.
    #[error("manifest version {0} is not known")]
    Version(u8),
    /// A kind, an event or a flag that this version does not know.
    #[error("manifest kind, event or flag {0} is not known")]
    Kind(u8),
    /// Shorter or longer than it says.
    #[error("a manifest entry of {0} bytes has the wrong length")]
    Length(usize),
    /// Longer than a chunk takes: too many live snapshots.
    #[error("the manifest has too many snapshots: forget some")]
    TooLong,
    /// More of something than there may be, or none where there must be some.
    #[error("a manifest entry has more of something than it may")]
    Count,
    /// Twice, or out of order.
    #[error("a list of the manifest entry is out of order")]
    Order,
    /// A text that is no UTF-8 or too long for its length, or a path that is.
    #[error("a text of the manifest entry is too long or no UTF-8")]
    Text,
    /// A first entry with one before it, or another without.
    #[error("the manifest entry does not say what it follows")]
    Previous,
}
