//! What is checked of each chunk that comes, before a byte of it is used. Pure.
//!
//! In this order: the source vouches that the bytes match the id; the header is that of the id; **Y
//! in the header is y*G of the key in hand, before anything is opened** (secretbox alone does not
//! commit to a key); the seal opens; the frame is exact; the plaintext has the kind that whoever
//! named the chunk expects. The chunk key cannot be recomputed by a reader without the dedup key:
//! id, Y and the seal bind the plaintext to whatever named it.

use super::frame::{self, FrameError, Kind};
use super::listing::ListingError;
use crate::core::types::ChunkId;
use crate::crypto::header::Header;
use crate::crypto::keys::ChunkKey;
use crate::crypto::seal;
use bytes::Bytes;

/// What is wrong with a chunk whose bytes match its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The header is not that of the id.
    #[error("the header is not that of the chunk's id")]
    WrongHeader,
    /// Y is not y*G of the key in hand, or the seal does not open under it.
    #[error("the chunk does not open under the key that names it")]
    Seal,
    /// See [`FrameError`].
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A listing where a piece of the file should be, or the other way round.
    #[error("the chunk is of another kind than it should be")]
    Kind,
    /// Not as long as the listing says.
    #[error("the chunk holds {found} bytes, its listing says {declared}")]
    Length {
        /// As the listing says.
        declared: u64,
        /// As it is.
        found: u64,
    },
    /// See [`ListingError`].
    #[error(transparent)]
    Listing(#[from] ListingError),
}

/// The plaintext of the chunk `id`, which must be of this kind, after all checks of the module's
/// documentation but the first. Its length is the caller's to check.
///
/// # Errors
/// [`Damage`], whatever the input.
pub fn open_chunk(
    ck: &ChunkKey,
    id: &ChunkId,
    header: &Header,
    sealed: &[u8],
    kind: Kind,
) -> Result<Bytes, Damage> {
    if header.id() != *id || u64::from(header.sealed_bytes) != sealed.len() as u64 {
        return Err(Damage::WrongHeader);
    }
    let opened = seal::open(ck, header, sealed).map_err(|_| Damage::Seal)?;
    let frame = frame::decode(opened)?;
    if frame.kind != kind {
        return Err(Damage::Kind);
    }
    Ok(frame.plaintext)
}
