//! Quloud: trustless, brokerless backup between home NAS boxes.
//!
//! # Map
//!
//! | module | what it is |
//! |---|---|
//! | [`core`] | the roles (owner, holder) as pure state machines, and the messages between them |
//! | [`crypto`] | keys, seals, proofs, signatures, words: pure |
//! | [`repo`] | files to chunks and back |
//! | [`buffers`] | memory for chunks that is used again |
//! | `locked` | files that one process at a time may use |
//! | `replaced` | small files that are replaced as a whole |
//! | [`store`] | the chunk store: segments with a sled catalogue |
//! | [`planted`] | faults that a test build of the simulator can switch on: nothing otherwise |
//! | `net` | libp2p: gossip, streams, discovery |
//! | `node` | the daemon: pumps inputs and effects between roles, store and net |
//! | `api`, `cli`, `config` | what the user meets |
//!
//! # The drive loop
//!
//! One task owns both roles and is the only one that touches them. It feeds each [`Input`] to the
//! role it concerns and carries out every [`Effect`] before the next input:
//!
//! ```text
//!   net ──Message, PeerUp──▶ ┌───────────┐ ──Publish, Send, Dial──▶ net
//! store ──ChunksWritten────▶ │ drive loop│ ──WriteChunk, ReadChunk─▶ store
//!   api ──Command──────────▶ └───────────┘ ──Report───────────────▶ api, logs
//! ```
//!
//! # Invariants
//!
//! - A holder acks only while handling `ChunksWritten(Ok)`: durability is data, not control flow.
//! - A topic request is answered by a sealed box only; an operation runs only on a stream whose
//!   peer is the asker.
//! - The owner's own node never counts as a replica of its chunks.
//! - Every queue and table has a stated maximum, globally and per source.
//!
//! [`Input`]: core::effect::Input
//! [`Effect`]: core::effect::Effect

pub mod buffers;
pub mod core;
pub mod crypto;
pub mod planted;
pub mod repo;
pub mod store;

#[cfg(feature = "node")]
pub mod api;
#[cfg(feature = "node")]
pub mod cli;
#[cfg(feature = "node")]
pub mod config;
#[cfg(feature = "node")]
pub(crate) mod locked;
#[cfg(feature = "node")]
pub mod net;
#[cfg(feature = "node")]
pub mod node;
#[cfg(feature = "node")]
pub(crate) mod replaced;

/// The schema's messages, generated from `proto/`. Only [`core::codec`] and the store use them.
#[allow(missing_docs, unreachable_pub)] // generated; the schema's comments document it
pub(crate) mod proto {
    include!(concat!(env!("OUT_DIR"), "/quloud.v1.rs"));
}
