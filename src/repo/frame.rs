//! The frame: what a chunk's seal encloses. Pure.
//!
//! A frame says what its bytes are and how they are packed, and pads them, so that the sealed
//! length tells a holder next to nothing. Layout, integers little-endian:
//!
//! ```text
//! version u8 = 1 | kind u8 | codec u8 | reserved u8 = 0 | plaintext length u32 | stored length u32
//! | stored bytes | zero bytes
//! ```
//!
//! The zero bytes are as many as make the *sealed* length (the frame's plus
//! [`SEAL_OVERHEAD_BYTES`]) a Padme size, and no more: one plaintext in one packing has one frame.
//! Padme is of Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication
//! with PURBs", PoPETs 2019, section 4.3: at most 12 % overhead, O(log log size) bits leaked.
//!
//! Whoever decodes has opened the seal before, so the lengths are authenticated by the chunk key;
//! they are still bounded, because a capability may come from a stranger.

use crate::core::types::CHUNK_SEALED_BYTES_MAX;
use crate::crypto::seal::SEAL_OVERHEAD_BYTES;
use bytes::Bytes;
use zstd::bulk::Compressor;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

/// The only frame version there is.
pub const FRAME_VERSION: u8 = 1;

/// Bytes of a frame before the stored bytes.
pub const FRAME_HEADER_BYTES: usize = 12;

/// The longest plaintext of one chunk: 4 MiB less the seal and the frame's header. It holds for
/// every codec, so that a chunk always fits uncompressed.
pub const PLAINTEXT_BYTES_MAX: usize =
    CHUNK_SEALED_BYTES_MAX as usize - SEAL_OVERHEAD_BYTES - FRAME_HEADER_BYTES;

const FRAME_BYTES_MAX: usize = CHUNK_SEALED_BYTES_MAX as usize - SEAL_OVERHEAD_BYTES;

/// Fast enough not to be felt beside the seal.
const ZSTD_LEVEL: i32 = 1;

/// Base-2 logarithm of the largest window a decoder grants: 8 MiB.
const WINDOW_LOG_MAX: u32 = 23;

/// A saving below 1/32 of the plaintext is not worth a decoder's time.
const SAVING_DIVISOR: usize = 32;

/// Plaintexts at least this long are sampled before they are compressed as a whole.
const SAMPLED_FROM_BYTES: usize = 128 << 10;

/// The sample: this many pieces, evenly spread, of this many bytes each.
const SAMPLE_PIECES: usize = 8;
const SAMPLE_PIECE_BYTES: usize = 4 << 10;

/// What the plaintext of a frame is. The number is part of the chunk key's derivation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A piece of a file.
    File = 1,
    /// A list of chunks: [`listing`](super::listing).
    Listing = 2,
    /// A leaf or a node of a snapshot's tree.
    Tree = 3,
    /// An entry of a device's manifest.
    Manifest = 4,
    /// A snapshot. Number 5 stays free: a head's payload is no chunk.
    Snapshot = 6,
    /// Small files end to end.
    Pack = 7,
}

impl Kind {
    /// The kind with this number.
    fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::File,
            2 => Self::Listing,
            3 => Self::Tree,
            4 => Self::Manifest,
            6 => Self::Snapshot,
            7 => Self::Pack,
            _ => return None,
        })
    }
}

/// How the stored bytes are packed.
const CODEC_RAW: u8 = 0;
const CODEC_ZSTD: u8 = 1;

/// A decoded frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the plaintext is.
    pub kind: Kind,
    /// The plaintext, at most [`PLAINTEXT_BYTES_MAX`].
    pub plaintext: Bytes,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than its header.
    #[error("a frame has at least {FRAME_HEADER_BYTES} bytes, this has {0}")]
    Short(usize),
    /// Made by a newer version.
    #[error("frame version {0} is not known")]
    Version(u8),
    /// A kind that this version does not know.
    #[error("frame kind {0} is not known")]
    Kind(u8),
    /// A codec that this version does not know.
    #[error("frame codec {0} is not known")]
    Codec(u8),
    /// The reserved byte is not zero.
    #[error("the frame's reserved byte is {0}")]
    Reserved(u8),
    /// The plaintext would be longer than [`PLAINTEXT_BYTES_MAX`].
    #[error("a plaintext of {0} bytes is too long for a chunk")]
    PlaintextLength(u64),
    /// The stored length does not go with the frame's length.
    #[error("stored length {stored} does not fit a frame of {frame} bytes")]
    StoredLength {
        /// As the header says.
        stored: u32,
        /// Length of the whole frame.
        frame: usize,
    },
    /// A byte of the padding is not zero.
    #[error("the frame's padding is not zero")]
    Padding,
    /// The stored bytes do not decompress to exactly the declared length.
    #[error("the stored bytes do not decompress to the declared {0} bytes")]
    Decompress(u32),
}

/// Length of the frame that holds `stored` packed bytes; `None` where that is more than a chunk
/// takes.
pub fn frame_bytes(stored: usize) -> Option<usize> {
    let sealed = stored.checked_add(FRAME_HEADER_BYTES + SEAL_OVERHEAD_BYTES)?;
    let frame = padme(sealed)?.checked_sub(SEAL_OVERHEAD_BYTES)?;
    (frame <= FRAME_BYTES_MAX).then_some(frame)
}

/// The Padme size of `length` bytes: the least number not below it whose binary form ends in
/// `E - S` zeros, `E = floor(log2 length)`, `S = floor(log2 E) + 1`.
fn padme(length: usize) -> Option<usize> {
    let exponent = length.checked_ilog2()?;
    let size_bits = exponent.checked_ilog2().map_or(0, |bits| bits + 1);
    let mask = (1_usize << exponent.saturating_sub(size_bits)) - 1;
    Some(length.checked_add(mask)? & !mask)
}

/// Makes frames; keeps its buffers and the compressor's tables from one to the next.
pub struct FrameEncoder {
    /// `None` where memory for it was refused: frames are then raw.
    compressor: Option<Compressor<'static>>,
    packed: Vec<u8>,
    sample: Vec<u8>,
}

/// A frame before it is put together.
#[derive(Debug)]
pub struct Packed<'a> {
    header: [u8; FRAME_HEADER_BYTES],
    stored: &'a [u8],
    frame_bytes: usize,
}

impl Packed<'_> {
    /// How long the frame will be.
    pub fn frame_bytes(&self) -> usize {
        self.frame_bytes
    }

    /// The frame, in `out`, which is [`Self::frame_bytes`] long.
    pub fn write(&self, out: &mut [u8]) {
        let parts = [self.header.as_slice(), self.stored];
        let mut rest = out;
        for part in parts {
            let Some((to, behind)) = rest.split_at_mut_checked(part.len()) else { return };
            to.copy_from_slice(part);
            rest = behind;
        }
        rest.fill(0);
    }
}

impl FrameEncoder {
    /// A new encoder; it allocates as it works, at most about 9 MiB.
    pub fn new() -> Self {
        Self {
            compressor: Compressor::new(ZSTD_LEVEL).ok(),
            packed: Vec::new(),
            sample: Vec::new(),
        }
    }

    /// The frame of `plaintext`.
    ///
    /// # Errors
    /// [`FrameError::PlaintextLength`] above [`PLAINTEXT_BYTES_MAX`].
    pub fn encode(&mut self, kind: Kind, plaintext: &[u8]) -> Result<Vec<u8>, FrameError> {
        let packed = self.pack(kind, plaintext)?;
        let mut frame = vec![0; packed.frame_bytes()];
        packed.write(&mut frame);
        Ok(frame)
    }

    /// [`Self::encode`] up to the last step, so that whoever seals the frame decides where it is.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn pack<'a>(
        &'a mut self,
        kind: Kind,
        plaintext: &'a [u8],
    ) -> Result<Packed<'a>, FrameError> {
        let too_long = || FrameError::PlaintextLength(plaintext.len() as u64);
        if plaintext.len() > PLAINTEXT_BYTES_MAX {
            return Err(too_long());
        }
        let packed = self.compress(plaintext);
        let (codec, stored) =
            if packed { (CODEC_ZSTD, self.packed.as_slice()) } else { (CODEC_RAW, plaintext) };
        let frame_bytes = frame_bytes(stored.len()).ok_or_else(too_long)?;
        let plaintext_length = u32::try_from(plaintext.len()).map_err(|_| too_long())?;
        let stored_length = u32::try_from(stored.len()).map_err(|_| too_long())?;
        let [p0, p1, p2, p3] = plaintext_length.to_le_bytes();
        let [s0, s1, s2, s3] = stored_length.to_le_bytes();
        let header = [FRAME_VERSION, kind as u8, codec, 0, p0, p1, p2, p3, s0, s1, s2, s3];
        Ok(Packed { header, stored, frame_bytes })
    }

    /// Whether [`Self::packed`](Self) now holds a compressed form that is worth it.
    fn compress(&mut self, plaintext: &[u8]) -> bool {
        let Some(compressor) = &mut self.compressor else {
            return false;
        };
        let mut pays = |plaintext: &[u8], packed: &mut Vec<u8>| {
            packed.clear();
            packed.reserve(zstd::zstd_safe::compress_bound(plaintext.len()));
            let most = plaintext.len() - plaintext.len() / SAVING_DIVISOR;
            compressor.compress_to_buffer(plaintext, packed).is_ok_and(|length| length < most)
        };
        if plaintext.len() >= SAMPLED_FROM_BYTES {
            self.sample.clear();
            let stride = plaintext.len() / SAMPLE_PIECES;
            for piece in plaintext.chunks_exact(stride) {
                self.sample.extend(piece.iter().take(SAMPLE_PIECE_BYTES));
            }
            if !pays(&self.sample, &mut self.packed) {
                return false;
            }
        }
        pays(plaintext, &mut self.packed)
    }
}

impl Default for FrameEncoder {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for FrameEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FrameEncoder(..)")
    }
}

/// Reads a frame: version, kind, lengths exact, padding zero, plaintext exactly as long as said.
///
/// A raw frame is not copied. A compressed one takes at most the declared length and an 8 MiB
/// window; the decoder stops at the declared length.
///
/// # Errors
/// [`FrameError`], whatever the input.
pub fn decode(frame: Vec<u8>) -> Result<Frame, FrameError> {
    let (header, rest) =
        frame.split_first_chunk::<FRAME_HEADER_BYTES>().ok_or(FrameError::Short(frame.len()))?;
    let [version, kind, codec, reserved, p0, p1, p2, p3, s0, s1, s2, s3] = *header;
    if version != FRAME_VERSION {
        return Err(FrameError::Version(version));
    }
    let kind = Kind::from_number(kind).ok_or(FrameError::Kind(kind))?;
    if reserved != 0 {
        return Err(FrameError::Reserved(reserved));
    }
    let plaintext_length = u32::from_le_bytes([p0, p1, p2, p3]);
    let stored_length = u32::from_le_bytes([s0, s1, s2, s3]);
    if u64::from(plaintext_length) > PLAINTEXT_BYTES_MAX as u64 {
        return Err(FrameError::PlaintextLength(plaintext_length.into()));
    }
    let wrong_stored = FrameError::StoredLength { stored: stored_length, frame: frame.len() };
    let stored_bytes = usize::try_from(stored_length).map_err(|_| wrong_stored)?;
    if frame_bytes(stored_bytes) != Some(frame.len()) {
        return Err(wrong_stored);
    }
    let (stored, padding) = rest.split_at_checked(stored_bytes).ok_or(wrong_stored)?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(FrameError::Padding);
    }
    let plaintext = match codec {
        CODEC_RAW if plaintext_length == stored_length => {
            let end = FRAME_HEADER_BYTES + stored_bytes;
            Bytes::from(frame).slice(FRAME_HEADER_BYTES..end)
        }
        CODEC_RAW => return Err(wrong_stored),
        CODEC_ZSTD => Bytes::from(decompress(stored, plaintext_length)?),
        other => return Err(FrameError::Codec(other)),
    };
    Ok(Frame { kind, plaintext })
}

/// Exactly one zstd frame (RFC 8878) that holds exactly `length` bytes.
fn decompress(stored: &[u8], length: u32) -> Result<Vec<u8>, FrameError> {
    let wrong = FrameError::Decompress(length);
    let size = usize::try_from(length).map_err(|_| wrong)?;
    let mut decoder = Decoder::new().map_err(|_| wrong)?;
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(|_| wrong)?;
    let mut plaintext = vec![0; size];
    let mut input = InBuffer::around(stored);
    let mut output = OutBuffer::around(plaintext.as_mut_slice());
    loop {
        let before = (input.pos(), output.pos());
        let wanted = decoder.run(&mut input, &mut output).map_err(|_| wrong)?;
        if wanted == 0 {
            break;
        }
        // The output is as long as declared and never longer: a bomb stops here.
        if before == (input.pos(), output.pos()) {
            return Err(wrong);
        }
    }
    let complete = input.pos() == stored.len() && output.pos() == size;
    if complete { Ok(plaintext) } else { Err(wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(kind: Kind, plaintext: &[u8]) -> Vec<u8> {
        FrameEncoder::new().encode(kind, plaintext).unwrap().to_vec()
    }

    /// Bytes without structure, from a small generator.
    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut out = vec![0; length];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
        out
    }

    fn handmade(codec: u8, plaintext_length: u32, stored: &[u8]) -> Vec<u8> {
        let mut frame = vec![FRAME_VERSION, Kind::File as u8, codec, 0];
        frame.extend(plaintext_length.to_le_bytes());
        frame.extend(u32::try_from(stored.len()).unwrap().to_le_bytes());
        frame.extend(stored);
        frame.resize(frame_bytes(stored.len()).unwrap(), 0);
        frame
    }

    #[test]
    fn stored_sizes_are_padme() {
        // The paper's own definition, in its own words, beside ours.
        fn is_padme(length: u64) -> bool {
            let e = 63 - u64::from(length.leading_zeros());
            let s = 64 - u64::from(e.leading_zeros());
            length.trailing_zeros() as u64 >= e - s.min(e)
        }
        for length in (0..3000).chain([65_535, 65_536, 1 << 20, (1 << 20) + 1, 3_333_333]) {
            let sealed = frame_bytes(length).unwrap() + SEAL_OVERHEAD_BYTES;
            let least = length + FRAME_HEADER_BYTES + SEAL_OVERHEAD_BYTES;
            assert!(is_padme(sealed as u64), "{length} -> {sealed}");
            assert!(sealed >= least && sealed * 100 <= least * 112, "{length} -> {sealed}");
        }
        let sealed = encoded(Kind::File, &noise(700_001, 1)).len() + SEAL_OVERHEAD_BYTES;
        assert!(is_padme(sealed as u64));
    }

    #[test]
    fn the_longest_plaintext_fills_a_chunk_exactly() {
        assert_eq!(frame_bytes(PLAINTEXT_BYTES_MAX), Some(FRAME_BYTES_MAX));
        assert_eq!(frame_bytes(PLAINTEXT_BYTES_MAX + 1), None);
        let longest = noise(PLAINTEXT_BYTES_MAX, 2);
        assert_eq!(decode(encoded(Kind::File, &longest)).unwrap().plaintext, longest);
        let one_more = vec![0; PLAINTEXT_BYTES_MAX + 1];
        assert!(matches!(
            FrameEncoder::new().encode(Kind::File, &one_more),
            Err(FrameError::PlaintextLength(_))
        ));
    }

    #[test]
    fn text_is_compressed_and_noise_is_not() {
        let text = b"the quick brown fox jumps over the lazy dog\n".repeat(20_000);
        let frame = encoded(Kind::File, &text);
        assert_eq!(frame[2], CODEC_ZSTD);
        assert!(frame.len() < text.len() / 20);
        assert_eq!(decode(frame).unwrap().plaintext, text);
        assert_eq!(encoded(Kind::File, &noise(1 << 20, 3))[2], CODEC_RAW);
        assert_eq!(encoded(Kind::File, &noise(1000, 3))[2], CODEC_RAW);
    }

    #[test]
    fn bomb_stops_at_declared() {
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 19).unwrap();
        for declared in [0, 1, 1000, 1 << 20] {
            assert_eq!(
                decode(handmade(CODEC_ZSTD, declared, &bomb)),
                Err(FrameError::Decompress(declared))
            );
        }
        // One byte more or less than declared is corruption, too.
        let packed = zstd::bulk::compress(&[7; 5000], 1).unwrap();
        assert!(decode(handmade(CODEC_ZSTD, 5000, &packed)).is_ok());
        for declared in [4999, 5001] {
            assert_eq!(
                decode(handmade(CODEC_ZSTD, declared, &packed)),
                Err(FrameError::Decompress(declared))
            );
        }
        let declared = u32::MAX;
        let error = decode(handmade(CODEC_ZSTD, declared, &packed));
        assert_eq!(error, Err(FrameError::PlaintextLength(declared.into())));
    }

    #[test]
    fn a_window_above_8_mib_is_refused() {
        use std::io::Write;
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(24).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(&[1; 3000]).unwrap();
        let stored = encoder.finish().unwrap();
        assert_eq!(decode(handmade(CODEC_ZSTD, 3000, &stored)), Err(FrameError::Decompress(3000)));
    }

    #[test]
    fn bytes_after_the_compressed_frame_are_refused() {
        let mut stored = zstd::bulk::compress(&[7; 5000], 1).unwrap();
        stored.push(0);
        assert_eq!(decode(handmade(CODEC_ZSTD, 5000, &stored)), Err(FrameError::Decompress(5000)));
        let twice = zstd::bulk::compress(&[7; 2500], 1).unwrap().repeat(2);
        assert_eq!(decode(handmade(CODEC_ZSTD, 5000, &twice)), Err(FrameError::Decompress(5000)));
    }

    #[test]
    fn each_bad_field_has_its_error() {
        let good = handmade(CODEC_RAW, 100, &[9; 100]);
        let with = |at: usize, value: u8| {
            let mut frame = good.clone();
            frame[at] = value;
            decode(frame)
        };
        assert!(decode(good.clone()).is_ok());
        assert_eq!(with(0, 2), Err(FrameError::Version(2)));
        assert_eq!(with(1, 0), Err(FrameError::Kind(0)));
        assert_eq!(with(1, 5), Err(FrameError::Kind(5)));
        assert_eq!(with(1, 8), Err(FrameError::Kind(8)));
        assert_eq!(with(2, 2), Err(FrameError::Codec(2)));
        assert_eq!(with(3, 1), Err(FrameError::Reserved(1)));
        assert!(matches!(with(4, 101), Err(FrameError::StoredLength { .. })));
        assert!(matches!(with(8, 255), Err(FrameError::StoredLength { .. })));
        assert_eq!(with(good.len() - 1, 1), Err(FrameError::Padding));
        assert_eq!(decode(vec![1; 11]), Err(FrameError::Short(11)));
        let mut longer = good.clone();
        longer.push(0);
        assert!(matches!(decode(longer), Err(FrameError::StoredLength { .. })));
    }

    #[test]
    fn frame_kinds_have_their_numbers() {
        let kinds = [
            (1, Kind::File),
            (2, Kind::Listing),
            (3, Kind::Tree),
            (4, Kind::Manifest),
            (6, Kind::Snapshot),
            (7, Kind::Pack),
        ];
        for (number, kind) in kinds {
            let frame = encoded(kind, b"x");
            assert_eq!(frame[1], number);
            assert_eq!(decode(frame).unwrap().kind, kind);
        }
    }

    proptest! {
        #[test]
        fn any_plaintext_comes_back(
            plaintext in proptest::collection::vec(any::<u8>(), 0..5000),
            repeat in 1..40_usize,
            listing in any::<bool>(),
        ) {
            let plaintext = plaintext.repeat(repeat);
            let kind = if listing { Kind::Listing } else { Kind::File };
            let frame = decode(encoded(kind, &plaintext)).unwrap();
            prop_assert_eq!(frame.kind, kind);
            prop_assert_eq!(frame.plaintext, plaintext);
        }

        #[test]
        fn any_bytes_decode_or_fail_cleanly(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            codec in 0..2_u8,
            declared in 0..4000_u32,
        ) {
            let _ = decode(bytes.clone());
            let _ = decode(handmade(codec, declared, &bytes));
        }
    }
}
