//! The listing: which chunks make a file, in order. Pure.
//!
//! A capability names one root chunk, and the root is always a listing, also of a file of one chunk
//! or of none. Layout of the plaintext of a frame of kind
//! [`Listing`](super::frame::Kind::Listing), integers little-endian:
//!
//! ```text
//! version u8 = 1 | level u8 | scheme u8 = 0 | reserved u8 = 0 | count u32 | total u64
//! then `count` entries: references of 74 bytes (see `reference`)
//! ```
//!
//! `bytes` is how many bytes of the file lie in or below the entry, `total` is their sum. At level
//! 0 an entry is a piece of the file, at level n it is a listing of level n - 1. `scheme` 0 says
//! that each entry is one chunk. A writer fills each listing before it begins the next; a file of
//! no bytes is a listing of level 0 without entries. A listing cannot hold itself: it names the
//! hashes of what it lists.

use super::frame::PLAINTEXT_BYTES_MAX;
use super::reference::{ChunkRef, REF_BYTES};
use bytes::{Buf, Bytes};
use zeroize::Zeroizing;

/// The only listing version there is.
pub const LISTING_VERSION: u8 = 1;

/// The most entries in one listing (592 KiB).
pub const LISTING_ENTRIES_MAX: u32 = 8192;

/// The highest level of a listing: four levels name 2^52 chunks.
pub const LISTING_LEVEL_MAX: u8 = 3;

/// The longest file: what fits a signed 64-bit offset.
pub const FILE_BYTES_MAX: u64 = i64::MAX as u64;

const HEADER_BYTES: usize = 16;

/// The only scheme: each entry is one chunk.
const SCHEME_SINGLE: u8 = 0;

/// Why a plaintext is not a listing, or not the one that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListingError {
    /// Not as long as its count says, or shorter than its header.
    #[error("a listing of {0} bytes has the wrong length")]
    Length(usize),
    /// Made by a newer version.
    #[error("listing version {0} is not known")]
    Version(u8),
    /// A scheme that this version does not know.
    #[error("listing scheme {0} is not known")]
    Scheme(u8),
    /// The reserved byte is not zero.
    #[error("the listing's reserved byte is {0}")]
    Reserved(u8),
    /// Above [`LISTING_LEVEL_MAX`], or not one below the listing that names it.
    #[error("a listing of level {0} does not belong here")]
    Level(u8),
    /// More than [`LISTING_ENTRIES_MAX`], or none above level 0.
    #[error("a listing cannot have {0} entries")]
    Count(u32),
    /// An entry without bytes, or a piece longer than a chunk takes.
    #[error("an entry of {0} bytes is out of bounds")]
    EntryBytes(u64),
    /// The total is not the sum of the entries, not what the listing above says, or too long.
    #[error("the listing's total of {0} bytes does not agree")]
    Total(u64),
}

/// A listing that was read and checked; gives its entries one by one.
#[derive(Debug)]
pub struct Listing {
    level: u8,
    total: u64,
    /// The entries that were not taken yet.
    rest: Bytes,
}

impl Listing {
    /// Reads a root: any level, any total.
    ///
    /// # Errors
    /// [`ListingError`], whatever the input.
    pub fn root(plaintext: Bytes) -> Result<Self, ListingError> {
        let mut rest = plaintext;
        let length = rest.len();
        let wrong_length = ListingError::Length(length);
        let version = rest.try_get_u8().map_err(|_| wrong_length)?;
        if version != LISTING_VERSION {
            return Err(ListingError::Version(version));
        }
        if length < HEADER_BYTES {
            return Err(wrong_length);
        }
        let (level, scheme, reserved) = (rest.get_u8(), rest.get_u8(), rest.get_u8());
        let (count, total) = (rest.get_u32_le(), rest.get_u64_le());
        if level > LISTING_LEVEL_MAX {
            return Err(ListingError::Level(level));
        }
        if scheme != SCHEME_SINGLE {
            return Err(ListingError::Scheme(scheme));
        }
        if reserved != 0 {
            return Err(ListingError::Reserved(reserved));
        }
        if count > LISTING_ENTRIES_MAX || (count == 0 && level > 0) {
            return Err(ListingError::Count(count));
        }
        if rest.len() as u64 != u64::from(count) * REF_BYTES as u64 {
            return Err(wrong_length);
        }
        let listing = Self { level, total, rest };
        listing.check_sum()?;
        Ok(listing)
    }

    /// Reads the listing that an entry of `bytes` bytes in a listing of level `above` names.
    ///
    /// # Errors
    /// [`ListingError`], whatever the input.
    pub fn below(plaintext: Bytes, above: u8, bytes: u64) -> Result<Self, ListingError> {
        let listing = Self::root(plaintext)?;
        if listing.level.checked_add(1) != Some(above) {
            return Err(ListingError::Level(listing.level));
        }
        if listing.total != bytes {
            return Err(ListingError::Total(listing.total));
        }
        Ok(listing)
    }

    /// 0 where the entries are pieces of the file, else one above the listings it names.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// Bytes of the file in or below this listing.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How many entries were not taken yet.
    pub fn remaining(&self) -> usize {
        self.rest.len() / REF_BYTES
    }

    fn check_sum(&self) -> Result<(), ListingError> {
        let most = if self.level == 0 { PLAINTEXT_BYTES_MAX as u64 } else { FILE_BYTES_MAX };
        let (entries, _) = self.rest.as_chunks::<REF_BYTES>();
        let mut sum = 0_u64;
        for entry in entries {
            let bytes = entry_bytes(entry);
            if bytes == 0 || bytes > most {
                return Err(ListingError::EntryBytes(bytes));
            }
            sum = sum.checked_add(bytes).ok_or(ListingError::Total(self.total))?;
        }
        let agrees = sum == self.total && sum <= FILE_BYTES_MAX;
        if agrees { Ok(()) } else { Err(ListingError::Total(self.total)) }
    }
}

fn entry_bytes(entry: &[u8; REF_BYTES]) -> u64 {
    let (_, bytes) = entry.split_last_chunk::<8>().expect("an entry is longer than its last field");
    u64::from_le_bytes(*bytes)
}

impl Iterator for Listing {
    type Item = ChunkRef;

    fn next(&mut self) -> Option<ChunkRef> {
        ChunkRef::take(&mut self.rest)
    }
}

/// A listing that is being filled.
struct OpenListing {
    count: u32,
    total: u64,
    /// Header (written last) and entries; wiped, because they hold chunk keys.
    plaintext: Zeroizing<Vec<u8>>,
}

impl OpenListing {
    fn new() -> Self {
        let plaintext = Zeroizing::new(vec![0; HEADER_BYTES]);
        Self { count: 0, total: 0, plaintext }
    }

    fn add(&mut self, entry: &ChunkRef) {
        entry.put(&mut self.plaintext);
        self.count += 1;
        self.total += entry.bytes;
    }

    fn close(mut self, level: u8) -> ClosedListing {
        let parts: [&[u8]; 3] = [
            &[LISTING_VERSION, level, SCHEME_SINGLE, 0],
            &self.count.to_le_bytes(),
            &self.total.to_le_bytes(),
        ];
        for (byte, value) in self.plaintext.iter_mut().zip(parts.into_iter().flatten()) {
            *byte = *value;
        }
        ClosedListing { bytes: self.total, plaintext: self.plaintext }
    }
}

/// A finished listing, to be framed and sealed like any other plaintext.
#[derive(Debug)]
pub struct ClosedListing {
    /// Bytes of the file below it.
    pub bytes: u64,
    /// The layout of the module's documentation; wiped when dropped.
    pub plaintext: Zeroizing<Vec<u8>>,
}

/// A file has more chunks than four levels can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the file has more chunks than a listing can name")]
pub struct TooManyChunks;

/// Builds the tree of a file's listings from the left, with one open listing a level in memory.
///
/// `seal` makes a chunk of a finished listing and returns its reference, with
/// [`ClosedListing::bytes`] as its bytes. It sees a listing after all that the listing names.
pub struct ListingBuilder {
    entries_max: u32,
    levels: Vec<OpenListing>,
}

impl ListingBuilder {
    /// A builder for one file.
    pub fn new() -> Self {
        Self::with_entries_max(LISTING_ENTRIES_MAX)
    }

    /// With smaller listings, so that tests see trees.
    pub(crate) fn with_entries_max(entries_max: u32) -> Self {
        Self { entries_max, levels: vec![OpenListing::new()] }
    }

    /// Adds the next piece of the file.
    ///
    /// # Errors
    /// Those of `seal`, and [`TooManyChunks`].
    pub fn add<E: From<TooManyChunks>>(
        &mut self,
        piece: &ChunkRef,
        seal: &mut impl FnMut(ClosedListing) -> Result<ChunkRef, E>,
    ) -> Result<(), E> {
        self.add_at(0, piece, seal)
    }

    /// The file is complete: seals what is open, the root last, and returns the root.
    ///
    /// # Errors
    /// Those of `seal`, and [`TooManyChunks`].
    pub fn finish<E: From<TooManyChunks>>(
        mut self,
        seal: &mut impl FnMut(ClosedListing) -> Result<ChunkRef, E>,
    ) -> Result<ChunkRef, E> {
        for level in 0..=LISTING_LEVEL_MAX {
            let open = self.levels.get_mut(usize::from(level)).ok_or(TooManyChunks)?;
            let entry = seal(std::mem::replace(open, OpenListing::new()).close(level))?;
            if self.levels.len() == usize::from(level) + 1 {
                return Ok(entry);
            }
            self.add_at(level + 1, &entry, seal)?;
        }
        Err(TooManyChunks.into())
    }

    /// A full listing is closed only when one more entry comes, so that the last is never empty.
    fn add_at<E: From<TooManyChunks>>(
        &mut self,
        level: u8,
        entry: &ChunkRef,
        seal: &mut impl FnMut(ClosedListing) -> Result<ChunkRef, E>,
    ) -> Result<(), E> {
        if level > LISTING_LEVEL_MAX {
            return Err(TooManyChunks.into());
        }
        let index = usize::from(level);
        if self.levels.len() == index {
            self.levels.push(OpenListing::new());
        }
        let open = self.levels.get_mut(index).ok_or(TooManyChunks)?;
        if open.count == self.entries_max {
            let full = std::mem::replace(open, OpenListing::new()).close(level);
            let above = seal(full)?;
            self.add_at(level + 1, &above, seal)?;
        }
        let open = self.levels.get_mut(index).ok_or(TooManyChunks)?;
        if open.total.checked_add(entry.bytes).is_none_or(|total| total > FILE_BYTES_MAX) {
            return Err(TooManyChunks.into());
        }
        open.add(entry);
        Ok(())
    }
}

impl Default for ListingBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for ListingBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListingBuilder").field("levels", &self.levels.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::types::{ChunkId, Locality};
    use crate::crypto::keys::ChunkKey;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn piece(number: u32, bytes: u64) -> ChunkRef {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.to_le_bytes());
        ChunkRef {
            ck: ChunkKey::from_bytes(id.map(|byte| byte ^ 0xff)),
            id: ChunkId::from_bytes(id),
            locality: Locality(7),
            bytes,
        }
    }

    /// Builds a file's listings; the map holds them by the id that the test gave each.
    fn build(sizes: &[u64], entries_max: u32) -> (ChunkRef, BTreeMap<ChunkId, Bytes>) {
        let mut sealed = BTreeMap::new();
        let mut seal = |listing: ClosedListing| {
            let entry = piece(1_000_000 + u32::try_from(sealed.len()).unwrap(), listing.bytes);
            sealed.insert(entry.id, Bytes::from(listing.plaintext.to_vec()));
            Ok::<_, TooManyChunks>(entry)
        };
        let mut builder = ListingBuilder::with_entries_max(entries_max);
        for (number, bytes) in sizes.iter().enumerate() {
            builder.add(&piece(u32::try_from(number).unwrap(), *bytes), &mut seal).unwrap();
        }
        let root = builder.finish(&mut seal).unwrap();
        (root, sealed)
    }

    /// The sizes of the pieces in order, read back through the tree.
    fn walk(listing: Listing, sealed: &BTreeMap<ChunkId, Bytes>, out: &mut Vec<u64>) {
        let level = listing.level();
        for entry in listing {
            if level == 0 {
                assert_eq!(entry.id.as_bytes()[..4], (out.len() as u32).to_le_bytes());
                out.push(entry.bytes);
            } else {
                let below = Listing::below(sealed[&entry.id].clone(), level, entry.bytes).unwrap();
                walk(below, sealed, out);
            }
        }
    }

    fn one_level(sizes: &[u64]) -> Vec<u8> {
        let (root, sealed) = build(sizes, LISTING_ENTRIES_MAX);
        sealed[&root.id].to_vec()
    }

    #[test]
    fn an_empty_file_is_a_listing_without_entries() {
        let listing = Listing::root(one_level(&[]).into()).unwrap();
        assert_eq!((listing.level(), listing.total(), listing.remaining()), (0, 0, 0));
    }

    #[test]
    fn a_full_listing_fits_one_chunk() {
        let sizes = vec![PLAINTEXT_BYTES_MAX as u64; LISTING_ENTRIES_MAX as usize];
        let plaintext = one_level(&sizes);
        assert_eq!(plaintext.len(), 606_224);
        assert_eq!(Listing::root(plaintext.into()).unwrap().count(), sizes.len());
    }

    #[test]
    fn each_bad_field_has_its_error() {
        let good = one_level(&[10, 20, 30]);
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            Listing::root(bytes.into()).map(|_| ())
        };
        assert_eq!(with(0, 2), Err(ListingError::Version(2)));
        assert_eq!(with(1, 4), Err(ListingError::Level(4)));
        assert_eq!(with(2, 1), Err(ListingError::Scheme(1)));
        assert_eq!(with(3, 1), Err(ListingError::Reserved(1)));
        assert_eq!(with(4, 2), Err(ListingError::Length(good.len())));
        assert_eq!(with(7, 1), Err(ListingError::Count((1 << 24) + 3)));
        assert_eq!(with(8, 61), Err(ListingError::Total(61)));
        assert_eq!(with(16 + 66, 0), Err(ListingError::EntryBytes(0)));
        assert!(matches!(with(16 + 66 + 3, 1), Err(ListingError::EntryBytes(_))));
        for length in 0..good.len() {
            let cut = Bytes::from(good[..length].to_vec());
            assert_eq!(Listing::root(cut).map(|_| ()), Err(ListingError::Length(length)));
        }
    }

    #[test]
    fn sums_that_overflow_are_refused() {
        let huge = |bytes: u64, total: u64| {
            let (root, sealed) = build(&[1, 1, 1], 2);
            let mut plaintext = sealed[&root.id].to_vec();
            let count = u32::from_le_bytes(plaintext[4..8].try_into().unwrap()) as usize;
            for entry in 0..count {
                let at = 16 + entry * 74 + 66;
                plaintext[at..at + 8].copy_from_slice(&bytes.to_le_bytes());
            }
            plaintext[8..16].copy_from_slice(&total.to_le_bytes());
            Listing::root(plaintext.into()).map(|_| ())
        };
        assert!(huge(u64::MAX, 0).is_err());
        assert!(huge(FILE_BYTES_MAX, FILE_BYTES_MAX.wrapping_mul(3)).is_err());
    }

    #[test]
    fn a_listing_must_be_the_one_that_was_named() {
        let below = Bytes::from(one_level(&[10, 20]));
        assert!(Listing::below(below.clone(), 1, 30).is_ok());
        assert_eq!(Listing::below(below.clone(), 2, 30).map(|_| ()), Err(ListingError::Level(0)),);
        assert_eq!(Listing::below(below.clone(), 1, 31).map(|_| ()), Err(ListingError::Total(30)));
        assert_eq!(Listing::below(below, 0, 30).map(|_| ()), Err(ListingError::Level(0)));
    }

    #[test]
    fn more_chunks_than_four_levels_name_are_refused() {
        let finish = |pieces: u32| {
            let mut seal = |listing: ClosedListing| Ok::<_, TooManyChunks>(piece(1, listing.bytes));
            let mut builder = ListingBuilder::with_entries_max(2);
            (0..pieces).try_for_each(|_| builder.add(&piece(0, 1), &mut seal))?;
            builder.finish(&mut seal)
        };
        assert_eq!(finish(16).unwrap().bytes, 16);
        assert!(finish(17).is_err());
        assert!(finish(100).is_err());
    }

    proptest! {
        #[test]
        fn any_file_comes_back_in_order(
            sizes in proptest::collection::vec(1..4_000_000_u64, 0..82),
        ) {
            let (root, sealed) = build(&sizes, 3);
            let listing = Listing::root(sealed[&root.id].clone()).unwrap();
            prop_assert_eq!(listing.total(), sizes.iter().sum::<u64>());
            let mut back = Vec::new();
            walk(listing, &sealed, &mut back);
            prop_assert_eq!(back, sizes);
        }

        #[test]
        fn any_bytes_parse_or_fail_cleanly(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let _ = Listing::root(bytes.clone().into()).map(Iterator::count);
            if let [version, level, scheme, reserved, ..] = bytes.as_mut_slice() {
                (*version, *scheme, *reserved) = (1, 0, 0);
                *level %= 4;
            }
            let _ = Listing::root(bytes.into()).map(Iterator::count);
        }
    }
}
