//! The chunk store: append-only segments hold the bytes, a catalogue says where they lie.
//!
//! ```text
//! <dir>/segments/   append-only files of 256 MiB: chunks, tombstones, an index at the end;
//!                   beside them the ledger, a small file for records of heads and releases
//! <dir>/index/      the catalogue (sled); can be made anew from the segments at any time
//! <dir>/ballast     space set aside for a disk that others fill up
//! <dir>/lock        held while the store is open
//! ```
//!
//! The log is the truth, the catalogue follows it, and nothing is answered before both are
//! durable. The order of things is in [`writer`], and it is pure: the simulator runs it over
//! [`memory`], the daemon over files and sled on threads of its own ([`thread`]).
//!
//! | file | what it holds |
//! |---|---|
//! | [`record`] | the layout of the records |
//! | `log`, `scan` | appending to segments, and reading them without the catalogue |
//! | [`index`] | what the catalogue knows, and the [`index::Catalogue`] trait |
//! | [`disk`] | the [`disk::Disk`] trait |
//! | [`writer`] | the order of write, sync, catalogue and answer |
//! | `tidy`, `compact`, `state` | giving space back, and the bound on what is not given back |
//! | `ledger`, [`heads`] | the small file beside the segments, and the records of heads in it |
//! | [`releases`] | chunks that were let go: their delay, and their end |
//! | [`leases`] | when owners were heard of, and what ends with their silence |
//! | `accounts` | which chunks each account has |
//! | [`recovery`] | opening: replays, rebuilds, torn tails, rot |
//! | [`reader`] | reads that are verified against the id |
//! | `prove` | proofs for audits |
//! | [`scrub`] | reading everything in turn, so that rot is found |
//! | [`memory`] | disk and catalogue in memory, with power cuts |
//! | `segments`, `catalogue` | disk and catalogue for real (feature `node`) |
//! | [`bounds`] | how much may wait |
//! | `thread` | [`ChunkStore`], the handle (feature `node`) |

mod accounts;
pub mod bounds;
mod compact;
pub mod disk;
pub mod heads;
pub mod index;
pub mod leases;
mod ledger;
mod log;
pub mod memory;
mod prove;
pub mod reader;
pub mod record;
pub mod recovery;
pub mod releases;
mod scan;
pub mod scrub;
mod state;
mod tidy;
pub mod writer;

#[cfg(feature = "node")]
pub mod catalogue;
#[cfg(feature = "node")]
pub mod segments;
#[cfg(feature = "node")]
pub mod thread;

pub use recovery::{Damage, OpenReport, Rebuilt, StoreOpenError};
#[cfg(feature = "node")]
pub use thread::{ChunkStore, Completions, StoreConfig};
pub use writer::{Moves, Options, ReadOnly, Request, Writer};
