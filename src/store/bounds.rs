//! How much may wait for a store: its threads keep to this, and the simulator with them.

/// Writes and deletes that wait at most; more are [`Busy`](crate::core::effect::StoreError::Busy).
pub const WRITE_QUEUE_MAX: usize = 256;

/// Bytes of chunks that wait or are being written at most; more are
/// [`Busy`](crate::core::effect::StoreError::Busy). One chunk is always taken.
pub const WRITE_QUEUE_BYTES_MAX: u64 = 96 << 20;

/// Reads and look-ups that wait at most; more are
/// [`Busy`](crate::core::effect::StoreError::Busy).
pub const READ_QUEUE_MAX: usize = 256;

/// Chunks that wait to be proven at most; more are [`Busy`](crate::core::effect::Unproven::Busy).
pub const PROVE_QUEUE_MAX: usize = 8;

/// The most chunks in one group.
pub const GROUP_MAX: usize = 64;

/// A group is not extended above this.
pub const GROUP_BYTES_MAX: u64 = 64 << 20;
