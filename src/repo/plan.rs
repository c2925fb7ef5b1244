//! Which chunks bring the data of files, and which bytes of them go where. Pure: whoever drives it
//! fetches and writes.
//!
//! Files are added in windows ([`window`]), so that a pack that many of them share is fetched once.
//! Chunks are asked for in the order of the files and may come in any other. Memory: what is asked
//! for, a dozen open listings, and what is known of the files that were added.

pub mod window;

#[cfg(test)]
mod tests;

use super::frame::{Kind, PLAINTEXT_BYTES_MAX};
use super::get::GetLimits;
use super::listing::Listing;
use super::open::Damage;
use super::pack::BlobHasher;
use super::ranges::Ranges;
use super::reference::ChunkRef;
use super::tree::{BlobHash, Content, FileBody};
use crate::core::types::ChunkId;
use crate::planted::{self, Bug};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Range;

/// Listings that are asked for or open at once, beside those on the way down from the first.
const LISTINGS_MAX: usize = 8;

/// A chunk that is needed now.
#[derive(Debug)]
pub struct Need {
    /// Comes back with the plaintext; unique within one plan.
    pub index: u64,
    /// What the plaintext must be.
    pub kind: Kind,
    /// The chunk.
    pub reference: ChunkRef,
}

/// Why some bytes of a file do not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// Nobody served the chunk; in words: who was asked, what they said.
    Unavailable(String),
    /// Those who have to have the chunk were there, and theirs is damaged or gone; in words.
    Spoiled(String),
    /// The chunk is not what names it says.
    Damaged(Damage),
    /// The content in the pack is not the one that the tree means.
    Content,
}

impl Lost {
    /// Whether something is known to be wrong, and not only out of reach.
    pub fn is_damage(&self) -> bool {
        !matches!(self, Self::Unavailable(_))
    }

    /// Whether this is the one to tell, of several reasons for one file: the first, but damage goes
    /// before absence.
    pub(super) fn outweighs(&self, told: Option<&Self>) -> bool {
        told.is_none_or(|told| !told.is_damage() && self.is_damage())
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) | Self::Spoiled(why) => f.write_str(why),
            Self::Damaged(damage) => damage.fmt(f),
            Self::Content => f.write_str("the content is not the one that was backed up"),
        }
    }
}

/// What became of a part of a file's data. Places are those of the data, end to end, without holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// These bytes belong there.
    Bytes {
        /// As it was added.
        file: usize,
        /// Where in the file's data.
        at: u64,
        /// Checked.
        bytes: Bytes,
    },
    /// These bytes do not come.
    Lost {
        /// As it was added.
        file: usize,
        /// Of the file's data.
        range: Range<u64>,
        /// Why.
        why: Lost,
    },
}

/// One use of a chunk's plaintext.
#[derive(Debug)]
struct User {
    file: usize,
    /// Where in the file's data.
    at: u64,
    /// How many bytes.
    length: u64,
    /// Where in the plaintext.
    offset: u64,
    /// How long the plaintext is, by what names it.
    declared: u64,
    hash: Option<BlobHash>,
}

impl User {
    fn range(&self) -> Range<u64> {
        self.at..self.at.saturating_add(self.length)
    }

    /// The bytes that are meant.
    fn slice(&self, plaintext: &Bytes, hasher: Option<&BlobHasher>) -> Result<Bytes, Lost> {
        let found = plaintext.len() as u64;
        let length = Lost::Damaged(Damage::Length { declared: self.declared, found });
        let place =
            || Some((usize::try_from(self.offset).ok()?, usize::try_from(self.length).ok()?));
        let (start, count) = place().ok_or_else(|| length.clone())?;
        let end = start.checked_add(count).filter(|end| *end <= plaintext.len());
        let end = end.filter(|_| found == self.declared).ok_or(length)?;
        let bytes = plaintext.slice(start..end);
        match (self.hash, hasher) {
            (Some(hash), Some(hasher)) if hasher.hash(&bytes) != hash => Err(Lost::Content),
            _ => Ok(bytes),
        }
    }
}

/// What is still to be asked for.
#[derive(Debug)]
enum Task {
    /// A pack or a piece, and who uses it.
    Data { kind: Kind, reference: ChunkRef, users: Vec<User> },
    /// A listing; `above` is the level of what names it, `None` for a file's root.
    Listing { file: usize, at: u64, reference: ChunkRef, above: Option<u8> },
    /// A listing that came: its next entry begins at `at`.
    Open { file: usize, at: u64, listing: Listing },
}

/// What was asked for.
#[derive(Debug)]
enum Asked {
    Data { key: DataKey, users: Vec<User>, bytes: u64 },
    Listing { file: usize, at: u64, bytes: u64, above: Option<u8> },
}

/// Tells plaintexts apart: the id, a fingerprint of the key, the kind.
type DataKey = (ChunkId, u64, u8);

fn data_key(kind: Kind, reference: &ChunkRef) -> DataKey {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(reference.ck.expose()).as_bytes();
    (reference.id, u64::from_le_bytes([a, b, c, d, e, f, g, h]), kind as u8)
}

/// The chunks of one window of files.
#[derive(Debug)]
pub struct Plan {
    limits: GetLimits,
    hasher: Option<BlobHasher>,
    tasks: VecDeque<Task>,
    /// Packs that are among the tasks: where.
    packs: BTreeMap<DataKey, Vec<User>>,
    /// What of a file is there already.
    held: BTreeMap<usize, Ranges>,
    asked: BTreeMap<u64, Asked>,
    /// Data that was asked for, by what it is.
    in_flight: BTreeMap<DataKey, u64>,
    /// Plaintext bytes of the data that was asked for.
    bytes: u64,
    /// Listings that were asked for, and those that are open.
    listings: (usize, usize),
    next_index: u64,
}

impl Plan {
    /// An empty plan. With `hasher` small files are compared with what the tree says of them.
    pub fn new(limits: GetLimits, hasher: Option<BlobHasher>) -> Self {
        Self {
            limits,
            hasher,
            tasks: VecDeque::new(),
            packs: BTreeMap::new(),
            held: BTreeMap::new(),
            asked: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            bytes: 0,
            listings: (0, 0),
            next_index: 0,
        }
    }

    /// Adds a file that is called `file` from now on. Of what has no content nothing will come.
    pub fn add(&mut self, file: usize, body: &FileBody) {
        self.add_rest(file, body, Ranges::default());
    }

    /// The same, but for what is `held` already, by places in the data.
    pub fn add_rest(&mut self, file: usize, body: &FileBody, held: Ranges) {
        let length = body.data_bytes();
        let whole = |reference: &ChunkRef| User {
            file,
            at: 0,
            length,
            offset: 0,
            declared: reference.bytes,
            hash: None,
        };
        match &body.content {
            Content::None => {}
            Content::Packed { pack, offset, hash } => {
                let (offset, hash) = (u64::from(*offset), Some(*hash));
                let user = User { offset, hash, ..whole(pack) };
                let key = data_key(Kind::Pack, pack);
                let users = self.packs.entry(key).or_insert_with(|| {
                    let (kind, reference) = (Kind::Pack, pack.duplicate());
                    self.tasks.push_back(Task::Data { kind, reference, users: Vec::new() });
                    Vec::new()
                });
                users.push(user);
            }
            Content::Piece(piece) => {
                let (reference, users) = (piece.duplicate(), vec![whole(piece)]);
                self.tasks.push_back(Task::Data { kind: Kind::File, reference, users });
            }
            Content::Listing(root) => {
                // Its total is to be what the file says.
                let reference = ChunkRef { bytes: length, ..root.duplicate() };
                self.tasks.push_back(Task::Listing { file, at: 0, reference, above: None });
                self.held.insert(file, held);
            }
        }
    }

    /// The next chunk to ask for; `None` where enough were, or all.
    pub fn next_need(&mut self) -> Option<Need> {
        while self.has_room() {
            match self.tasks.pop_front()? {
                Task::Data { kind, reference, mut users } => {
                    if kind == Kind::Pack {
                        let all = self.packs.remove(&data_key(kind, &reference));
                        users.extend(all.unwrap_or_default());
                    }
                    if let Some(need) = self.ask_data(kind, reference, users) {
                        return Some(need);
                    }
                }
                Task::Listing { file, at, reference, above } => {
                    if !self.may_list() {
                        self.tasks.push_front(Task::Listing { file, at, reference, above });
                        return None;
                    }
                    return Some(self.ask_listing(file, at, reference, above));
                }
                Task::Open { file, at, listing } => self.step(file, at, listing),
            }
        }
        None
    }

    /// Whether nothing is to be asked for any more and nothing that was is still to come.
    pub fn is_done(&self) -> bool {
        self.tasks.is_empty() && self.asked.is_empty()
    }

    /// The plaintext of a chunk that was asked for, or why there is none.
    pub fn give(&mut self, index: u64, plaintext: Result<Bytes, Lost>) -> Vec<Arrival> {
        match self.asked.remove(&index) {
            None => Vec::new(),
            Some(Asked::Data { key, users, bytes }) => {
                self.in_flight.remove(&key);
                self.bytes = self.bytes.saturating_sub(bytes);
                let hasher = self.hasher.as_ref();
                let arrival = |user: User| {
                    let bytes = plaintext.clone();
                    match bytes.and_then(|bytes| user.slice(&bytes, hasher)) {
                        Ok(bytes) => Arrival::Bytes { file: user.file, at: user.at, bytes },
                        Err(why) => Arrival::Lost { file: user.file, range: user.range(), why },
                    }
                };
                users.into_iter().map(arrival).collect()
            }
            Some(Asked::Listing { file, at, bytes, above }) => {
                self.listings.0 = self.listings.0.saturating_sub(1);
                let read = |plaintext| match above {
                    None => Listing::root(plaintext),
                    Some(above) => Listing::below(plaintext, above, bytes),
                };
                let listing = plaintext
                    .and_then(|plaintext| read(plaintext).map_err(|e| Lost::Damaged(e.into())));
                let declared = |found| Lost::Damaged(Damage::Length { declared: bytes, found });
                match listing {
                    Ok(listing) if listing.total() == bytes => {
                        self.listings.1 += 1;
                        self.tasks.push_front(Task::Open { file, at, listing });
                        Vec::new()
                    }
                    Ok(listing) => self.lost(file, at, bytes, &declared(listing.total())),
                    Err(why) => self.lost(file, at, bytes, &why),
                }
            }
        }
    }

    /// A part of a file that does not come, but for what of it is there already.
    fn lost(&self, file: usize, at: u64, bytes: u64, why: &Lost) -> Vec<Arrival> {
        let range = at..at.saturating_add(bytes);
        let gaps = match self.held.get(&file) {
            Some(held) => held.gaps(&range),
            None => vec![range],
        };
        let lost = |range| Arrival::Lost { file, range, why: why.clone() };
        gaps.into_iter().map(lost).collect()
    }

    fn has_room(&self) -> bool {
        let fits = self.bytes.saturating_add(PLAINTEXT_BYTES_MAX as u64) <= self.limits.bytes;
        self.asked.is_empty() || (fits && self.asked.len() < self.limits.chunks)
    }

    fn may_list(&self) -> bool {
        let (asked, open) = self.listings;
        asked == 0 || asked.saturating_add(open) < LISTINGS_MAX
    }

    /// Takes the next entry of an open listing.
    fn step(&mut self, file: usize, at: u64, mut listing: Listing) {
        let Some(entry) = listing.next() else {
            self.listings.1 = self.listings.1.saturating_sub(1);
            return;
        };
        let (level, length, declared) = (listing.level(), entry.bytes, entry.bytes);
        let end = at.saturating_add(length);
        let next = if planted::is_on(Bug::PiecesOverlap) { at } else { end };
        self.tasks.push_front(Task::Open { file, at: next, listing });
        if self.held.get(&file).is_some_and(|held| held.contains(&(at..end))) {
            return;
        }
        let reference = entry;
        self.tasks.push_front(if level > 0 {
            Task::Listing { file, at, reference, above: Some(level) }
        } else {
            let user = User { file, at, length, offset: 0, declared, hash: None };
            Task::Data { kind: Kind::File, reference, users: vec![user] }
        });
    }

    /// Asks for a pack or a piece, unless it is under way for another file.
    fn ask_data(&mut self, kind: Kind, reference: ChunkRef, users: Vec<User>) -> Option<Need> {
        let key = data_key(kind, &reference);
        let again = self.in_flight.get(&key).and_then(|index| self.asked.get_mut(index));
        if let Some(Asked::Data { users: all, .. }) = again {
            all.extend(users);
            return None;
        }
        let bytes = reference.bytes.min(PLAINTEXT_BYTES_MAX as u64);
        self.bytes += bytes;
        let index = self.index();
        self.in_flight.insert(key, index);
        self.asked.insert(index, Asked::Data { key, users, bytes });
        Some(Need { index, kind, reference })
    }

    fn ask_listing(
        &mut self,
        file: usize,
        at: u64,
        reference: ChunkRef,
        above: Option<u8>,
    ) -> Need {
        let (index, bytes) = (self.index(), reference.bytes);
        self.listings.0 += 1;
        self.asked.insert(index, Asked::Listing { file, at, bytes, above });
        Need { index, kind: Kind::Listing, reference }
    }

    fn index(&mut self) -> u64 {
        let index = self.next_index;
        self.next_index += 1;
        index
    }
}
