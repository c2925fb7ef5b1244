//! Four sums at a time, in vectors of AVX2.
//!
//! Such a vector multiplies numbers of 32 bits, so a product is made of four:
//!
//! ```text
//! sector 56 bits = s0 + s1 * 2^28        weight 61 bits = w0 + w1 * 2^31
//! sector * weight = s0 w0 + s0 w1 * 2^31 + s1 w0 * 2^28 + s1 w1 * 2^59
//! ```
//! Each of the four has less than 2^59 and is added up on its own, sixteen blocks long: below 2^63.
//! Then they are poured into the wide sums.
//!
//! One block after the other: with the columns of several blocks at once the sums would stay in
//! registers, but the bytes would come in as many streams, which costs more than it saves as soon
//! as they are not all in the first cache (measured: 1.5 to 2.2 times as long).

use super::super::SECTOR_BYTES;
use super::{BLOCK_BYTES, SECTORS, Wide};
use pulp::x86::V3;
use pulp::{NullaryFnOnce, cast};
use std::arch::x86_64::__m256i;

/// Sectors in one vector.
const LANES: usize = 4;

/// Bytes of these.
const FOUR_BYTES: usize = LANES * SECTOR_BYTES;

/// Blocks of which the parts of products add up below 2^64.
const BLOCKS_MAX: usize = 16;

/// Bits of a sector's lower half, and of a weight's.
const SECTOR_LOW: u32 = 28;
const WEIGHT_LOW: u32 = 31;

/// The four parts of a product: s0 w0, s0 w1, s1 w0, s1 w1; each of them of four sums.
type Parts = [[u64; LANES]; 4];

/// Sums of up to [`BLOCKS_MAX`] blocks.
pub(super) struct Lanes {
    simd: V3,
    parts: Box<[Parts; SECTORS / LANES]>,
    blocks: usize,
}

impl Lanes {
    /// `None` where the processor has no such vectors.
    pub(super) fn new() -> Option<Self> {
        let simd = V3::try_new()?;
        Some(Self { simd, parts: Box::new([[[0; LANES]; 4]; SECTORS / LANES]), blocks: 0 })
    }

    /// Adds a block; what fits no more goes to `wide` before.
    pub(super) fn add_block(&mut self, weight: u64, block: &[u8; BLOCK_BYTES], wide: &mut Wide) {
        if self.blocks == BLOCKS_MAX {
            self.pour(wide);
        }
        self.blocks += 1;
        let Self { simd, parts, .. } = self;
        simd.vectorize(AddBlock { simd: *simd, parts, weight, block });
    }

    /// Adds all that there is to `wide`.
    pub(super) fn pour(&mut self, wide: &mut Wide) {
        wide.make_room(self.blocks);
        self.blocks = 0;
        let (mu, _) = wide.mu.as_chunks_mut::<LANES>();
        for (mu, parts) in mu.iter_mut().zip(self.parts.iter_mut()) {
            let [low, middle, other, high] = std::mem::take(parts);
            let products = low.iter().zip(middle).zip(other.iter().zip(high));
            for (mu, ((low, middle), (other, high))) in mu.iter_mut().zip(products) {
                *mu += u128::from(*low)
                    + (u128::from(middle) << WEIGHT_LOW)
                    + (u128::from(*other) << SECTOR_LOW)
                    + (u128::from(high) << (SECTOR_LOW + WEIGHT_LOW));
            }
        }
    }
}

struct AddBlock<'a> {
    simd: V3,
    parts: &'a mut [Parts; SECTORS / LANES],
    weight: u64,
    block: &'a [u8; BLOCK_BYTES],
}

/// Where each byte of a vector comes from: two sectors are in the first 16 of their 28 bytes, two
/// in the last 16. The eighth byte of a lane is 0.
const SPREAD: [u8; 32] = {
    let mut from = [0x80; 32];
    let mut byte = 0;
    while byte < FOUR_BYTES {
        let (lane, at) = (byte / SECTOR_BYTES, byte % SECTOR_BYTES);
        let first = if lane < 2 { 0 } else { FOUR_BYTES - 16 };
        from[lane * 8 + at] = (byte - first) as u8;
        byte += 1;
    }
    from
};

impl NullaryFnOnce for AddBlock<'_> {
    type Output = ();

    /// Only what is inlined into pulp's own function is compiled for AVX2.
    #[inline(always)]
    fn call(self) {
        let (avx, avx2) = (self.simd.avx, self.simd.avx2);
        let spread: __m256i = cast(SPREAD);
        let low_half = avx._mm256_set1_epi64x((1 << SECTOR_LOW) - 1);
        let w0 = avx._mm256_set1_epi64x((self.weight & ((1 << WEIGHT_LOW) - 1)) as i64);
        let w1 = avx._mm256_set1_epi64x((self.weight >> WEIGHT_LOW) as i64);
        let (fours, _) = self.block.as_chunks::<FOUR_BYTES>();
        for (parts, four) in self.parts.iter_mut().zip(fours) {
            let (Some(first), Some(last)) = (four.first_chunk::<16>(), four.last_chunk::<16>())
            else {
                continue;
            };
            let both = avx._mm256_set_m128i(cast(*last), cast(*first));
            let sectors = avx2._mm256_shuffle_epi8(both, spread);
            let s0 = avx2._mm256_and_si256(sectors, low_half);
            let s1 = avx2._mm256_srli_epi64::<{ SECTOR_LOW as i32 }>(sectors);
            let products = [(s0, w0), (s0, w1), (s1, w0), (s1, w1)];
            for (part, (half, weight)) in parts.iter_mut().zip(products) {
                let product = avx2._mm256_mul_epu32(half, weight);
                *part = cast(avx2._mm256_add_epi64(cast(*part), product));
            }
        }
    }
}
