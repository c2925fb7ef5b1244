//! Files to chunks and back.
//!
//! | file | what it holds |
//! |---|---|
//! | [`frame`] | what a seal encloses: kind, compression, padding (pure) |
//! | [`chunker`] | cuts a stream where its content says so (pure) |
//! | [`listing`] | which chunks make a file: the root that a capability names (pure) |

pub mod chunker;
pub mod frame;
pub mod listing;
