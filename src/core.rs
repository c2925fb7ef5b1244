//! The roles and everything they are made of. Pure: no I/O, no clock, no task, no lock.
//!
//! Every node plays two roles at once: [`owner`] of its own chunks and [`holder`] of other
//! people's. Both are state machines behind the same three calls, which [`effect`] states; the
//! daemon and the simulator drive them, byte for byte the same code.

pub mod audit;
pub mod codec;
pub mod effect;
pub mod holder;
pub mod message;
pub mod owner;
pub mod placement;
pub mod quorum;
pub mod reputation;
pub mod shard;
pub mod topic;
pub mod types;
