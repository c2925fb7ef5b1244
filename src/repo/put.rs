//! Putting a file: pieces in, sealed chunks out, a capability at the end. Pure, but for
//! the module [`file`](mod@file), which reads the disk.
//!
//! Memory is bounded whatever the file: a few chunks, one open listing a level, and the ids of the
//! last 32 to 64 thousand distinct pieces, by which a piece that repeats is sealed and stored once.
//!
//! Order of what the sink sees: pieces as the file has them; each listing after all that it names;
//! the root last of all. So a capability exists only when everything below it was handed over.

#[cfg(feature = "node")]
pub mod file;

use super::frame::{FrameError, Kind};
use super::listing::{ClosedListing, ListingBuilder, TooManyChunks};
use super::reference::ChunkRef;
use super::sealer::{ChunkSink, SealError, SealedSoFar, Sealer, SinkClosed};
use crate::core::types::Locality;
use crate::crypto::capability::Capability;
use crate::crypto::keys::OwnerKeys;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// Under what a file is put.
#[derive(Debug, Clone, Copy)]
pub struct PutContext<'a> {
    /// The owner's keys.
    pub keys: &'a OwnerKeys,
    /// Where the topics of all its chunks are.
    pub locality: Locality,
    /// Set by another thread to end the put at the next chunk.
    pub cancel: &'a AtomicBool,
}

/// A file of which every chunk was handed over.
#[derive(Debug)]
pub struct PutSummary {
    /// The root, and the right to read it.
    pub capability: Capability,
    /// Plaintext bytes of the file.
    pub bytes: u64,
    /// Chunks handed over, listings included, repeats not.
    pub chunks: u64,
    /// Their sealed bytes, one copy.
    pub sealed_bytes: u64,
}

/// Why a put ended without a capability. What was handed over before is of no harm.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The file cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A folder, a device, a pipe or a socket.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// Which file.
        path: PathBuf,
    },
    /// The file cannot be read to its end.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not what it was when the put began.
    #[error("{} changed while it was read", path.display())]
    Changed {
        /// Which file.
        path: PathBuf,
    },
    /// A piece is longer than a chunk takes: whoever cut it did not use the chunker.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Longer than four levels of listings can name.
    #[error(transparent)]
    TooManyChunks(#[from] TooManyChunks),
    /// See [`SinkClosed`].
    #[error(transparent)]
    Closed(#[from] SinkClosed),
    /// [`PutContext::cancel`] was set.
    #[error("the put was cancelled")]
    Cancelled,
}

impl From<SealError> for PutError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Frame(error) => Self::Frame(error),
            SealError::Closed(error) => Self::Closed(error),
        }
    }
}

/// Puts what `pieces` yields: each 1 to
/// [`PLAINTEXT_BYTES_MAX`](super::frame::PLAINTEXT_BYTES_MAX) bytes, in order. Runs on the caller's
/// thread.
///
/// # Errors
/// [`PutError`]: that of `pieces`, or one's own.
pub fn put_pieces<P: AsRef<[u8]>>(
    pieces: impl IntoIterator<Item = Result<P, PutError>>,
    context: PutContext<'_>,
    sink: &mut impl ChunkSink,
    mut progress: impl FnMut(SealedSoFar),
) -> Result<PutSummary, PutError> {
    let mut sealer = Sealer::new(context.keys, context.locality, sink);
    let mut listing = ListingBuilder::new();
    for piece in pieces {
        if context.cancel.load(Ordering::Relaxed) {
            return Err(PutError::Cancelled);
        }
        let entry = sealer.piece(piece?.as_ref())?;
        listing.add(&entry, &mut |closed| seal_listing(&mut sealer, &closed))?;
        progress(sealer.done());
    }
    let root = listing.finish(&mut |closed| seal_listing(&mut sealer, &closed))?;
    progress(sealer.done());
    let SealedSoFar { bytes, chunks, sealed_bytes } = sealer.done();
    let capability = Capability { id: root.id, locality: root.locality, ck: root.ck };
    Ok(PutSummary { capability, bytes, chunks, sealed_bytes })
}

fn seal_listing<S: ChunkSink>(
    sealer: &mut Sealer<'_, S>,
    closed: &ClosedListing,
) -> Result<ChunkRef, PutError> {
    Ok(sealer.meta(Kind::Listing, &closed.plaintext, closed.bytes)?)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Mesh, context, noise, owner};
    use super::*;
    use crate::crypto::seal::SealedChunk;

    #[test]
    fn the_root_comes_last_and_listings_after_what_they_list() {
        let (keys, mut mesh) = (owner(1), Mesh::default());
        let pieces: Vec<[u8; 2]> = (0..8195_u16).map(u16::to_le_bytes).collect();
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_slice()).collect();
        let summary = mesh.put(&keys, &pieces);
        assert_eq!(summary.bytes, 2 * 8195);
        // 8195 pieces, two listings, the root.
        assert_eq!((summary.chunks, mesh.order.len()), (8198, 8198));
        assert_eq!(mesh.order.last().map(|(id, _)| *id), Some(summary.capability.id));
        let listings = mesh.order.iter().enumerate().filter(|(_, (_, bytes))| *bytes == 0);
        assert_eq!(listings.map(|(at, _)| at).collect::<Vec<_>>(), [8193, 8196, 8197]);
        let sealed: u64 = mesh.chunks.values().map(|(_, sealed)| sealed.len() as u64).sum();
        assert_eq!(summary.sealed_bytes, sealed);
    }

    #[test]
    fn a_piece_that_repeats_is_handed_over_once() {
        let (keys, mut mesh) = (owner(1), Mesh::default());
        let summary = mesh.put(&keys, &[b"same", b"other", b"same", b"same"]);
        assert_eq!((summary.bytes, summary.chunks), (17, 3));
    }

    #[test]
    fn the_same_file_is_the_same_capability_for_one_owner_only() {
        let file = noise(100_000, 1);
        let put = |owner_number| {
            let summary = Mesh::default().put(&owner(owner_number), &[&file]);
            summary.capability.encode().to_string()
        };
        assert_eq!(put(1), put(1));
        assert_ne!(put(1), put(2));
    }

    #[test]
    fn a_closed_sink_ends_the_put() {
        struct Closed;
        impl ChunkSink for Closed {
            fn store(&mut self, _: SealedChunk, _: u64) -> Result<(), SinkClosed> {
                Err(SinkClosed)
            }
        }
        let keys = owner(1);
        let outcome = put_pieces([Ok(b"piece")], context(&keys), &mut Closed, |_| {});
        assert!(matches!(outcome, Err(PutError::Closed(SinkClosed))));
    }

    #[test]
    fn a_cancelled_put_hands_over_no_root() {
        let (keys, mut mesh) = (owner(1), Mesh::default());
        let cancel = AtomicBool::new(false);
        let context = PutContext { cancel: &cancel, ..context(&keys) };
        let pieces = (0..10_u8).map(|byte| Ok([byte; 10]));
        let outcome = put_pieces(pieces, context, &mut mesh, |progress| {
            cancel.store(progress.chunks == 3, Ordering::Relaxed);
        });
        assert!(matches!(outcome, Err(PutError::Cancelled)));
        assert_eq!(mesh.order.len(), 3);
    }

    #[test]
    fn an_error_of_the_pieces_ends_the_put_without_a_root() {
        let (keys, mut mesh) = (owner(1), Mesh::default());
        let pieces = [Ok(b"piece"), Err(PutError::Changed { path: "f".into() })];
        let outcome = put_pieces(pieces, context(&keys), &mut mesh, |_| {});
        assert!(matches!(outcome, Err(PutError::Changed { .. })));
        assert_eq!(mesh.order.len(), 1);
    }

    #[test]
    fn sealed_chunks_hold_nothing_of_the_plaintext() {
        let (keys, mut mesh) = (owner(1), Mesh::default());
        let file = b"a sentence that anybody would recognise".repeat(10);
        let summary = mesh.put(&keys, &[&file]);
        for (_, sealed) in mesh.chunks.values() {
            assert!(!sealed.windows(8).any(|window| window == &file[..8]));
            let ck = summary.capability.ck.expose();
            assert!(!sealed.windows(8).any(|window| window == &ck[..8]));
        }
    }
}
