//! What opening a store came to: for whoever opened it, and for the user.

use crate::core::types::StoreEpoch;
use crate::store::disk::DiskError;
use crate::store::index::CatalogueError;
use crate::store::writer::ReadOnly;

/// Why a store was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreOpenError {
    /// Another process has it open.
    #[error("another process uses this store")]
    InUse,
    /// It was written by a later version.
    #[error("the store has layout {found}, this version knows {known}: use a newer version")]
    Layout {
        /// What it says.
        found: u8,
        /// What this version reads.
        known: u8,
    },
    /// It was written under another node's key.
    #[error("the store was written under another node key")]
    WrongKey,
    /// The disk failed.
    #[error("cannot {doing}: {source}")]
    Disk {
        /// What was tried.
        doing: &'static str,
        /// What the disk said.
        source: DiskError,
    },
    /// The catalogue failed, and so did making it anew.
    #[error("cannot use the store's catalogue")]
    Catalogue(#[from] CatalogueError),
}

/// Why the catalogue was made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rebuilt {
    /// It was empty, and the log was not.
    #[error("it was missing or empty")]
    Missing,
    /// It could not be opened or read.
    #[error("it could not be read")]
    Broken,
    /// It names segments or bytes that do not exist: the log is older, or lost something.
    #[error("it reached beyond the log")]
    AheadOfLog,
    /// It belongs to a store with another epoch.
    #[error("it belonged to another store")]
    OtherStore,
    /// Its entries are not those that its position sums up.
    #[error("entries were missing or wrong")]
    Inconsistent,
}

/// A range of a segment that holds no valid record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// Which segment.
    pub segment: u64,
    /// From this byte.
    pub from: u64,
    /// Up to this one.
    pub to: u64,
}

/// What opening a store came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenReport {
    /// Names this incarnation of the store.
    pub epoch: StoreEpoch,
    /// There was no store before.
    pub created: bool,
    /// Chunks in the catalogue, quarantined ones included.
    pub chunks: u64,
    /// Chunks that are quarantined.
    pub quarantined: u64,
    /// Why the catalogue was made anew, where it was.
    pub rebuilt: Option<Rebuilt>,
    /// Records read that the catalogue did not know.
    pub replayed: u64,
    /// Bytes of an unfinished write that were cut off.
    pub cut_bytes: u64,
    /// Damage below what was durable: the first [`DAMAGE_MAX`] ranges.
    pub damage: Vec<Damage>,
    /// The same of the ledger, from one byte up to another.
    pub ledger_damage: Vec<(u64, u64)>,
    /// Releases that were dropped because of that, or because the ledger's end was torn: their
    /// chunks live on.
    pub releases_dropped: usize,
    /// Why the store takes no writes, where it does not.
    pub read_only: Option<ReadOnly>,
}

/// The most ranges in [`OpenReport::damage`].
pub const DAMAGE_MAX: usize = 1024;
