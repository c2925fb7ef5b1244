//! Arithmetic modulo p = 2^61 - 1, in time that does not depend on the values.
//!
//! A sum of up to 1,024 products of an element with 56 bits stays below 2^127: it is reduced only
//! after that many.

use zeroize::{Zeroize, ZeroizeOnDrop};

/// p, a Mersenne prime.
pub(super) const P: u64 = (1 << 61) - 1;

/// So many products of an element with 56 bits may be added to a reduced sum.
pub(super) const PRODUCTS_MAX: usize = 1_024;

/// `x` modulo p, below p.
pub(super) fn reduce(x: u128) -> u64 {
    // 2^61 is 1: three parts of 61, 61 and 6 bits.
    let [low, middle, high] = [x as u64 & P, (x >> 61) as u64 & P, (x >> 122) as u64];
    let sum = low + middle + high;
    let sum = (sum & P) + (sum >> 61);
    let less = sum.wrapping_sub(P);
    // All ones where `sum` was below p.
    let below = (less >> 63).wrapping_neg();
    (sum & below) | (less & !below)
}

/// `a + b` of two elements.
pub(super) fn add(a: u64, b: u64) -> u64 {
    reduce(u128::from(a) + u128::from(b))
}

/// `a * b` of two elements.
pub(super) fn mul(a: u64, b: u64) -> u64 {
    reduce(u128::from(a) * u128::from(b))
}

/// Pseudorandom elements: of each 8 bytes that a keyed BLAKE3 hash gives, read in little-endian
/// order, the lower 61 bits; where these are p itself, the next ones.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Elements {
    stream: blake3::OutputReader,
    /// Some at a time: each read of the stream computes 64 bytes.
    bytes: [u8; BUFFER_BYTES],
    taken: usize,
}

const BUFFER_BYTES: usize = 512;

impl Elements {
    /// Those that `key` gives for the input of these parts.
    pub(super) fn new(key: &[u8; 32], input: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(key);
        for part in input {
            hasher.update(part);
        }
        let stream = hasher.finalize_xof();
        hasher.zeroize();
        Self { stream, bytes: [0; BUFFER_BYTES], taken: BUFFER_BYTES }
    }

    /// The next one.
    pub(super) fn take(&mut self) -> u64 {
        loop {
            let rest = self.bytes.get(self.taken..).unwrap_or_default();
            let Some(bytes) = rest.first_chunk() else {
                self.stream.fill(&mut self.bytes);
                self.taken = 0;
                continue;
            };
            self.taken += bytes.len();
            let element = u64::from_le_bytes(*bytes) & P;
            if element != P {
                return element;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_and_products_are_those_of_long_division(a in 0..P, b in 0..P, x in any::<u128>()) {
            let p = u128::from(P);
            prop_assert_eq!(u128::from(reduce(x)), x % p);
            prop_assert_eq!(u128::from(add(a, b)), (u128::from(a) + u128::from(b)) % p);
            prop_assert_eq!(u128::from(mul(a, b)), u128::from(a) * u128::from(b) % p);
        }
    }

    #[test]
    fn elements_are_the_same_however_they_are_buffered() {
        let key = [3; 32];
        let mut whole = vec![0; 8 * 200];
        blake3::Hasher::new_keyed(&key).update(b"an input").finalize_xof().fill(&mut whole);
        let (words, _) = whole.as_chunks();
        let mut elements = Elements::new(&key, &[b"an", b" ", b"input"]);
        for word in words {
            assert_eq!(elements.take(), u64::from_le_bytes(*word) & P);
        }
    }

    #[test]
    fn what_lies_at_the_edges_is_reduced() {
        let p = u128::from(P);
        for x in [0, 1, p - 1, p, p + 1, 2 * p - 1, 2 * p, p * p, u128::MAX, u128::MAX - 1] {
            assert_eq!(u128::from(reduce(x)), x % p, "{x}");
        }
        let most = u128::from(P - 1) * ((1 << 56) - 1);
        assert!(most.checked_mul(PRODUCTS_MAX as u128).is_some_and(|sum| sum < 1 << 127));
    }
}
