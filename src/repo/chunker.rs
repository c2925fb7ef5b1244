//! The chunker: cuts a stream where its content says so. Pure.
//!
//! FastCDC (Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based
//! Storage Systems", IEEE TPDS 2020) with normalization level 2. The gear table is the owner's own
//! secret, so that the sizes of a known file's chunks do not give the file away:
//!
//! - `gear[i]` = the i-th little-endian `u64` of the first 2,048 bytes of
//!   `BLAKE3-XOF(key = chunker key, "quloud/v1/gear")`.
//! - A chunk that starts at byte 0 of the rest of the stream, of which `n` bytes are left, is cut
//!   at `p`: with `m = min(n, max)`, and `p = m` where nothing before decides. Where `n > min`, the
//!   hash is `h = 0` at `min`, and for each `p` from `min` up to `2 * floor(m / 2) - 1`:
//!   `h = 2h + gear[byte p] mod 2^64`; cut *before* byte `p` when `h & mask = 0`, where the mask is
//!   [`MASK_BELOW`] for `p < average` and [`MASK_ABOVE`] from there on.
//!
//! The table depends on all 32 bytes of the key. It is reader-independent: whoever drives it reads
//! into [`Chunker::space`] and takes the chunks out.

use super::frame::PLAINTEXT_BYTES_MAX;
use crate::buffers::{Buffer, Buffers};
use crate::crypto::keys::ChunkerKey;
use std::sync::Arc;
use zeroize::Zeroize;

/// No chunk but the last of a stream is shorter: 256 KiB.
pub const CHUNK_BYTES_MIN: usize = 256 << 10;

/// The size around which chunks fall: 1 MiB.
pub const CHUNK_BYTES_AVERAGE: usize = 1 << 20;

/// No chunk is longer: 4 MiB less what frame and seal add.
pub const CHUNK_BYTES_MAX: usize = PLAINTEXT_BYTES_MAX;

/// 22 bits: cuts below the average are four times rarer than one in 2^20.
pub const MASK_BELOW: u64 = 0x0000_d937_6753_7000;

/// 18 bits: cuts above the average are four times commoner.
pub const MASK_ABOVE: u64 = 0x0000_d907_0753_7000;

/// Memory of one chunker: room for two of the longest chunks, so that bytes move rarely.
const BUFFER_BYTES: usize = 2 * CHUNK_BYTES_MAX;

const GEAR_ENTRIES: usize = 256;

/// Cuts one stream. Memory: 8 MiB, whatever the stream.
pub struct Chunker {
    gear: Gear,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
}

impl Chunker {
    /// A chunker for one stream under the owner's key.
    pub fn new(key: &ChunkerKey) -> Self {
        Self { gear: Gear::new(key), buffer: Vec::new(), start: 0, end: 0, ended: false }
    }

    /// Where the next bytes of the stream go: never empty after [`Self::next_chunk`] said `None`
    /// and before [`Self::end`]. Report what was put there with [`Self::filled`].
    pub fn space(&mut self) -> &mut [u8] {
        if self.buffer.is_empty() {
            self.buffer = vec![0; BUFFER_BYTES];
        }
        if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// `bytes` more of [`Self::space`] hold the stream.
    pub fn filled(&mut self, bytes: usize) {
        self.end = self.end.saturating_add(bytes).min(self.buffer.len());
    }

    /// The stream has no more bytes.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Begins another stream in the same memory; what is left of the one before is gone.
    pub fn restart(&mut self) {
        (self.start, self.end, self.ended) = (0, 0, false);
    }

    /// The next chunk; `None` where more bytes are needed to decide, or the stream is done.
    pub fn next_chunk(&mut self) -> Option<&[u8]> {
        let window = self.buffer.get(self.start..self.end)?;
        if window.is_empty() || (window.len() < CHUNK_BYTES_MAX && !self.ended) {
            return None;
        }
        let length = self.gear.cut(window);
        let chunk = self.buffer.get(self.start..self.start + length)?;
        self.start += length;
        Some(chunk)
    }

    /// [`Self::next_chunk`], copied into memory that comes back to `buffers`.
    pub fn next_buffer(&mut self, buffers: &Arc<Buffers>) -> Option<Buffer> {
        let chunk = self.next_chunk()?;
        let mut buffer = buffers.take(chunk.len());
        buffer.lengthen(chunk.len());
        buffer.copy_from_slice(chunk);
        Some(buffer)
    }
}

impl std::fmt::Debug for Chunker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chunker").field("held", &(self.end - self.start)).finish_non_exhaustive()
    }
}

/// The owner's gear table, and the same shifted left by one, which lets two bytes be hashed at
/// once (section 3.7 of the paper).
struct Gear {
    table: [u64; GEAR_ENTRIES],
    shifted: [u64; GEAR_ENTRIES],
}

impl Gear {
    fn new(key: &ChunkerKey) -> Self {
        let mut bytes = [0; GEAR_ENTRIES * 8];
        let mut hash = blake3::Hasher::new_keyed(key.expose());
        hash.update(b"quloud/v1/gear").finalize_xof().fill(&mut bytes);
        hash.zeroize();
        let mut table = [0; GEAR_ENTRIES];
        let (words, _) = bytes.as_chunks::<8>();
        for (entry, word) in table.iter_mut().zip(words) {
            *entry = u64::from_le_bytes(*word);
        }
        bytes.zeroize();
        Self { table, shifted: table.map(|entry| entry << 1) }
    }

    /// Length of the first chunk of `window`, which holds [`CHUNK_BYTES_MAX`] bytes or all there
    /// is; 1 to [`CHUNK_BYTES_MAX`] where the window is not empty.
    fn cut(&self, window: &[u8]) -> usize {
        let (_, length) = fastcdc::v2020::cut_gear(
            window,
            CHUNK_BYTES_MIN,
            CHUNK_BYTES_AVERAGE,
            CHUNK_BYTES_MAX,
            MASK_BELOW,
            MASK_ABOVE,
            MASK_BELOW << 1,
            MASK_ABOVE << 1,
            &self.table,
            &self.shifted,
        );
        length
    }
}

impl Drop for Gear {
    fn drop(&mut self) {
        self.table.zeroize();
        self.shifted.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut out = vec![0; length];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
        out
    }

    /// Cuts `stream`, handing it over in pieces of at most `piece` bytes.
    fn cut(stream: &[u8], key: u8, piece: usize) -> Vec<Vec<u8>> {
        let mut chunker = Chunker::new(&ChunkerKey::from_bytes([key; 32]));
        let mut rest = stream;
        let mut chunks = Vec::new();
        loop {
            while let Some(chunk) = chunker.next_chunk() {
                chunks.push(chunk.to_vec());
            }
            if rest.is_empty() {
                chunker.end();
                while let Some(chunk) = chunker.next_chunk() {
                    chunks.push(chunk.to_vec());
                }
                return chunks;
            }
            let space = chunker.space();
            let taken = space.len().min(piece).min(rest.len());
            assert!(taken > 0, "the chunker always makes room");
            space[..taken].copy_from_slice(&rest[..taken]);
            chunker.filled(taken);
            rest = &rest[taken..];
        }
    }

    /// The module's documentation, word for word.
    fn cut_by_the_book(gear: &[u64; 256], rest: &[u8]) -> usize {
        let m = rest.len().min(CHUNK_BYTES_MAX);
        let mut h = 0_u64;
        if rest.len() > CHUNK_BYTES_MIN {
            for p in CHUNK_BYTES_MIN..2 * (m / 2) {
                h = (h << 1).wrapping_add(gear[usize::from(rest[p])]);
                let mask = if p < CHUNK_BYTES_AVERAGE { MASK_BELOW } else { MASK_ABOVE };
                if h & mask == 0 {
                    return p;
                }
            }
        }
        m
    }

    #[test]
    fn chunks_are_those_of_the_specification() {
        let stream = noise((9 << 20) + 77, 1);
        let gear = Gear::new(&ChunkerKey::from_bytes([3; 32]));
        let mut rest = stream.as_slice();
        for chunk in cut(&stream, 3, 1 << 20) {
            assert_eq!(chunk.len(), cut_by_the_book(&gear.table, rest));
            rest = &rest[chunk.len()..];
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn chunks_join_to_the_stream_within_their_bounds() {
        let stream = noise(20 << 20, 2);
        let chunks = cut(&stream, 1, 3 << 20);
        assert_eq!(chunks.concat(), stream);
        let (last, others) = chunks.split_last().unwrap();
        assert!(others.iter().all(|c| (CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&c.len())));
        assert!(!last.is_empty());
        assert!((12..=26).contains(&chunks.len()), "{} chunks of 20 MiB", chunks.len());
    }

    #[test]
    fn chunks_do_not_depend_on_how_the_stream_is_read() {
        let stream = noise(6 << 20, 3);
        assert_eq!(cut(&stream, 1, 12_345), cut(&stream, 1, usize::MAX));
    }

    #[test]
    fn bytes_at_the_front_change_few_chunks() {
        let stream = noise(24 << 20, 4);
        let before: BTreeSet<_> = cut(&stream, 1, 1 << 20).into_iter().collect();
        let longer = [b"a new first line\n".as_slice(), &stream].concat();
        let after: BTreeSet<_> = cut(&longer, 1, 1 << 20).into_iter().collect();
        let fresh = after.difference(&before).count();
        assert!(fresh <= 3, "{fresh} of {} chunks are new", after.len());
    }

    #[test]
    fn another_key_cuts_elsewhere() {
        let stream = noise(8 << 20, 5);
        let lengths = |key| cut(&stream, key, 1 << 20).iter().map(Vec::len).collect::<Vec<_>>();
        assert_ne!(lengths(1), lengths(2));
    }

    #[test]
    fn zeros_are_cut_at_the_maximum() {
        let chunks = cut(&vec![0; CHUNK_BYTES_MAX * 2 + 5], 1, 1 << 20);
        let lengths: Vec<_> = chunks.iter().map(Vec::len).collect();
        // A constant stream either never meets the mask or always does; both are bounded.
        assert!(lengths.iter().all(|length| *length <= CHUNK_BYTES_MAX));
        assert_eq!(chunks.concat().len(), CHUNK_BYTES_MAX * 2 + 5);
    }

    #[test]
    fn an_empty_stream_has_no_chunk_and_a_short_one_has_one() {
        assert!(cut(&[], 1, 10).is_empty());
        assert_eq!(cut(b"x", 1, 10), vec![b"x".to_vec()]);
        let just_the_minimum = noise(CHUNK_BYTES_MIN, 6);
        assert_eq!(cut(&just_the_minimum, 1, 1 << 20).len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn any_stream_is_cut_the_same_in_any_pieces(
            length in 0..5_000_000_usize,
            seed in any::<u64>(),
            piece in 1000..2_000_000_usize,
        ) {
            let stream = noise(length, seed);
            let chunks = cut(&stream, 9, piece);
            prop_assert_eq!(chunks.concat(), stream.clone());
            prop_assert_eq!(chunks, cut(&stream, 9, usize::MAX));
        }
    }
}
