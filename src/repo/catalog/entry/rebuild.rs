//! What the catalogue remembers of being filled anew on a device that was recovered: whose lists
//! are read, and how far.

use super::Fields;
use crate::core::types::{ChunkId, NodeId, StoreEpoch};

pub(super) const BEGUN: u8 = 80;
pub(super) const LISTING: u8 = 81;
pub(super) const DONE: u8 = 82;

const OPEN: u8 = 0;
const WHOLE: u8 = 1;
const GIVEN_UP: u8 = 2;

/// One step of filling the catalogue anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebuildNote {
    /// It begins, or goes on with another bound.
    Begun {
        /// No holder can sensibly have more of the owner's chunks.
        ids_max: u64,
        /// So many holders there are at least: as many as replicas were wished for.
        holders: u8,
    },
    /// A holder whose list is to be read, and how far it was.
    Listing(Listing),
    /// Nobody is left who is to be asked.
    Done,
}

/// How far the list of one holder was read. What is counted counts from the first page, whatever
/// store it was of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listing {
    /// Who.
    pub node: NodeId,
    /// The store that it spoke for; `None` before its first page.
    pub store: Option<StoreEpoch>,
    /// The last id that was read; zeros before the first page of that store.
    pub after: ChunkId,
    /// Ids that it named.
    pub listed: u64,
    /// Of these, those that it keeps, and that were taken down.
    pub live: u64,
    /// Of these, those that nobody was known to have.
    pub new: u64,
    /// Whether there is more to come.
    pub state: ListingState,
}

/// Where a holder's list stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListingState {
    /// It was not read to its end.
    Open,
    /// It was.
    Whole,
    /// It is not one, or never ends.
    GivenUp,
}

impl Listing {
    /// Of a holder of which nothing was read.
    pub fn new(node: NodeId) -> Self {
        let (store, after, state) = (None, ChunkId::from_bytes([0; 32]), ListingState::Open);
        Self { node, store, after, listed: 0, live: 0, new: 0, state }
    }
}

impl RebuildNote {
    pub(in super::super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Begun { ids_max, holders } => {
                out.push(BEGUN);
                out.extend_from_slice(&ids_max.to_le_bytes());
                out.push(*holders);
            }
            Self::Listing(listing) => {
                out.push(LISTING);
                listing.encode(out);
            }
            Self::Done => out.push(DONE),
        }
    }

    pub(super) fn decode(tag: u8, from: &mut Fields<'_>) -> Option<Self> {
        match tag {
            BEGUN => Some(Self::Begun { ids_max: from.number()?, holders: from.byte()? }),
            LISTING => Listing::decode(from).map(Self::Listing),
            DONE => Some(Self::Done),
            _ => None,
        }
    }
}

impl Listing {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.node.as_bytes());
        out.push(u8::from(self.store.is_some()));
        let none = StoreEpoch::from_bytes([0; 16]);
        out.extend_from_slice(self.store.unwrap_or(none).as_bytes());
        out.extend_from_slice(self.after.as_bytes());
        for number in [self.listed, self.live, self.new] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.push(match self.state {
            ListingState::Open => OPEN,
            ListingState::Whole => WHOLE,
            ListingState::GivenUp => GIVEN_UP,
        });
    }

    fn decode(from: &mut Fields<'_>) -> Option<Self> {
        let node = NodeId::from_bytes(from.array()?);
        let (has_store, store) = (from.byte()?, StoreEpoch::from_bytes(from.array()?));
        let store = match has_store {
            0 => None,
            1 => Some(store),
            _ => return None,
        };
        let after = ChunkId::from_bytes(from.array()?);
        let (listed, live, new) = (from.number()?, from.number()?, from.number()?);
        let state = match from.byte()? {
            OPEN => ListingState::Open,
            WHOLE => ListingState::Whole,
            GIVEN_UP => ListingState::GivenUp,
            _ => return None,
        };
        Some(Self { node, store, after, listed, live, new, state })
    }
}
