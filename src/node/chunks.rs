//! Trees, listings, snapshots and manifest entries of the owner: from the copies in the data
//! folder, else from holders, and then kept.

use super::failures;
use super::inner::Inner;
use super::jobs::{DriveCommand, JobEvents, Places};
use crate::core::owner::{FetchJob, OwnerEvent};
use crate::core::types::{Ticket, Time};
use crate::crypto::header::Header;
use crate::repo::frame::Kind;
use crate::repo::listing::Listing;
use crate::repo::open::open_chunk;
use crate::repo::reference::ChunkRef;
use crate::repo::tree::walk::{Step, TreeWalk};
use crate::repo::tree::writer::DoneLeaf;
use crate::repo::tree::{Entry, TreeRoot};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Events of one fetch: there is one.
const EVENTS_OF_A_FETCH: usize = 4;

/// The most pieces of a large file that are looked up before it is read again.
const PIECES_MAX: usize = 65_536;

impl Inner {
    /// The plaintext of a chunk, if its copy is here. Blocks on the disk.
    pub(super) fn chunk_here(&self, reference: &ChunkRef, kind: Kind) -> Option<Bytes> {
        let (header, sealed) = self.meta.find(&reference.id)?;
        open_chunk(&reference.ck, &reference.id, &header, &sealed, kind).ok()
    }

    /// The plaintext of a chunk.
    ///
    /// # Errors
    /// Why it is not to be had, in words.
    pub(super) async fn chunk(
        self: &Arc<Self>,
        reference: &ChunkRef,
        kind: Kind,
        patience: Duration,
    ) -> Result<Bytes, String> {
        let (inner, at) = (Arc::clone(self), reference.duplicate());
        let here = tokio::task::spawn_blocking(move || inner.chunk_here(&at, kind)).await;
        if let Ok(Some(plaintext)) = here {
            return Ok(plaintext);
        }
        let (header, sealed) = self.fetch(reference, patience).await?;
        let opened = open_chunk(&reference.ck, &reference.id, &header, &sealed, kind);
        let plaintext = opened.map_err(|damage| damage.to_string())?;
        let inner = Arc::clone(self);
        let kept = move || inner.keep_chunk(&header, &sealed);
        drop(tokio::task::spawn_blocking(kept).await);
        Ok(plaintext)
    }

    /// Keeps a copy; without it the chunk is fetched when it is needed.
    pub(super) fn keep_chunk(&self, header: &Header, sealed: &[u8]) {
        if let Err(error) = self.meta.keep(header, sealed) {
            tracing::debug!(%error, "a chunk was not kept");
        }
    }

    async fn fetch(
        &self,
        reference: &ChunkRef,
        patience: Duration,
    ) -> Result<(Header, Bytes), String> {
        let job = FetchJob {
            // The drive loop sets both.
            ticket: Ticket(0),
            deadline: Time::default(),
            holders: self.with_catalog(|catalog| catalog.holders_of(&reference.id)),
            only: false,
            id: reference.id,
            locality: reference.locality,
            read: reference.ck.read_secret(),
        };
        let (sender, mut heard) = mpsc::channel(EVENTS_OF_A_FETCH);
        let (events, places) = (JobEvents::new(sender, 0), Places::Anywhere);
        let command = DriveCommand::Fetch { places, job, events, patience };
        let stopped = || failures::stopped().why;
        self.fetches.send(command).await.map_err(|_| stopped())?;
        while let Some((_, event)) = heard.recv().await {
            match event {
                OwnerEvent::Fetched { header, sealed, .. } => return Ok((header, sealed)),
                OwnerEvent::NotFetched { asked, .. } => {
                    let peers = self.net.snapshot().await.peers.len();
                    return Err(failures::not_fetched(&asked, peers));
                }
                _ => {}
            }
        }
        Err(stopped())
    }
}

/// Where chunks are read: for the threads of jobs, which may wait.
pub(super) struct Chunks {
    inner: Arc<Inner>,
    /// Where what is not here is fetched, and how long that may take.
    fetch: Option<(Handle, Duration)>,
}

impl Chunks {
    /// The copies here alone.
    pub(super) fn here(inner: &Arc<Inner>) -> Self {
        Self { inner: Arc::clone(inner), fetch: None }
    }

    /// The copies here, else holders; the first one that is not to be had is the last that is asked
    /// for. Blocks: not for the tasks of `runtime`.
    pub(super) fn fetched(inner: &Arc<Inner>, runtime: Handle, patience: Duration) -> Self {
        Self { fetch: Some((runtime, patience)), ..Self::here(inner) }
    }

    fn read(&mut self, reference: &ChunkRef, kind: Kind) -> Option<Bytes> {
        let Some((runtime, patience)) = &self.fetch else {
            return self.inner.chunk_here(reference, kind);
        };
        match runtime.block_on(self.inner.chunk(reference, kind, *patience)) {
            Ok(plaintext) => Some(plaintext),
            Err(why) => {
                tracing::warn!(why, "what was stored before cannot be read: its files are");
                self.fetch = None;
                None
            }
        }
    }

    /// The pieces of a large file, in order; none where a listing is not to be had.
    pub(super) fn pieces(&mut self, root: &ChunkRef) -> Vec<ChunkRef> {
        let mut pieces = Vec::new();
        let listing = self.read(root, Kind::Listing).map(Listing::root);
        let mut open: Vec<Listing> = listing.and_then(Result::ok).into_iter().collect();
        while let Some(listing) = open.last_mut() {
            let level = listing.level();
            match listing.next() {
                _ if pieces.len() >= PIECES_MAX => break,
                None => drop(open.pop()),
                Some(piece) if level == 0 => pieces.push(piece),
                Some(below) => {
                    let plaintext = self.read(&below, Kind::Listing);
                    let below = plaintext.map(|text| Listing::below(text, level, below.bytes));
                    match below {
                        Some(Ok(below)) => open.push(below),
                        Some(Err(_)) | None => return Vec::new(),
                    }
                }
            }
        }
        pieces
    }
}

/// The entries of a tree, in order. Parts that cannot be had are left out.
pub(super) struct TreeEntries {
    walk: TreeWalk,
    chunks: Chunks,
}

impl TreeEntries {
    pub(super) fn new(chunks: Chunks, root: &TreeRoot) -> Self {
        Self { walk: TreeWalk::new(root, &[]), chunks }
    }

    /// Of leaves of a tree that was never finished.
    pub(super) fn of_leaves(chunks: Chunks, leaves: Vec<DoneLeaf>) -> Self {
        Self { walk: TreeWalk::of_leaves(leaves), chunks }
    }
}

impl Iterator for TreeEntries {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        loop {
            match self.walk.step() {
                Ok(Step::Entry(entry)) => return Some(entry),
                Ok(Step::End) => return None,
                Ok(Step::Wait) => {
                    let chunk = self.walk.wanted()?;
                    match self.chunks.read(&chunk.reference, Kind::Tree) {
                        Some(plaintext) => self.walk.give(chunk.index, plaintext),
                        None => drop(self.walk.give_up(chunk.index)),
                    }
                }
                Err(fault) => {
                    tracing::warn!(%fault, "an earlier tree is not read on");
                    return None;
                }
            }
        }
    }
}
