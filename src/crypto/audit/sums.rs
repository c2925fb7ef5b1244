//! mu of a compact proof, as it grows: the sums of all sectors of one column, each times the weight
//! of its block.
//!
//! This is what a proof costs beside reading the bytes. On x86-64 processors with AVX2, four
//! columns at a time go through their vectors ([`lanes`]), in about half the time. The sums are the
//! same.

#[cfg_attr(not(target_arch = "x86_64"), path = "sums/no_lanes.rs")]
mod lanes;

use super::field::{PRODUCTS_MAX, reduce};
use super::{BLOCK_BYTES, SECTORS, groups};
use lanes::Lanes;

/// mu as it grows, block by block.
pub(super) struct Sums {
    wide: Wide,
    /// Where the processor has such vectors.
    lanes: Option<Lanes>,
}

impl Sums {
    /// Of no block yet.
    pub(super) fn new() -> Self {
        Self::with(Lanes::new())
    }

    fn with(lanes: Option<Lanes>) -> Self {
        Self { wide: Wide { mu: Box::new([0; SECTORS]), products: 0 }, lanes }
    }

    pub(super) fn add_block(&mut self, weight: u64, block: &[u8; BLOCK_BYTES]) {
        match &mut self.lanes {
            Some(lanes) => lanes.add_block(weight, block, &mut self.wide),
            None => self.wide.add_block(weight, block),
        }
    }

    /// mu, modulo p.
    pub(super) fn reduced(mut self) -> Box<[u64; SECTORS]> {
        if let Some(lanes) = &mut self.lanes {
            lanes.pour(&mut self.wide);
        }
        let mut mu = Box::new([0; SECTORS]);
        mu.iter_mut().zip(self.wide.mu.iter()).for_each(|(to, from)| *to = reduce(*from));
        mu
    }
}

/// Sums of products that are not reduced each time.
struct Wide {
    mu: Box<[u128; SECTORS]>,
    /// Products in each of `mu` since it was reduced.
    products: usize,
}

impl Wide {
    fn add_block(&mut self, weight: u64, block: &[u8; BLOCK_BYTES]) {
        self.make_room(1);
        let (mu, _) = self.mu.as_chunks_mut::<8>();
        for (group, mu) in groups(block).zip(mu) {
            for (sector, mu) in group.into_iter().zip(mu) {
                *mu += u128::from(sector) * u128::from(weight);
            }
        }
    }

    /// So many products are about to be added to each sum.
    fn make_room(&mut self, products: usize) {
        if self.products + products > PRODUCTS_MAX {
            self.mu.iter_mut().for_each(|mu| *mu = reduce(*mu).into());
            self.products = 0;
        }
        self.products += products;
    }
}

#[cfg(test)]
mod tests {
    use super::super::field::{P, add, mul};
    use super::*;
    use proptest::prelude::*;

    /// With whatever this processor has, and with what each has.
    fn both() -> [Sums; 2] {
        [Sums::new(), Sums::with(None)]
    }

    /// Sector by sector, as PROTOCOL.md has it.
    fn by_definition(blocks: &[(u64, Vec<u8>)]) -> [u64; SECTORS] {
        let mut mu = [0; SECTORS];
        for (weight, block) in blocks {
            let (sectors, _) = block.as_chunks::<7>();
            for (mu, sector) in mu.iter_mut().zip(sectors) {
                let mut bytes = [0; 8];
                bytes[..7].copy_from_slice(sector);
                *mu = add(*mu, mul(*weight, u64::from_le_bytes(bytes)));
            }
        }
        mu
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn sums_are_those_of_the_definition(
            seed: [u8; 32],
            weights in prop::collection::vec(0..P, 0..40),
        ) {
            let mut bytes = blake3::Hasher::new_keyed(&seed).finalize_xof();
            let blocks = weights.into_iter().map(|weight| {
                let mut block = vec![0; BLOCK_BYTES];
                bytes.fill(&mut block);
                (weight, block)
            });
            let blocks: Vec<(u64, Vec<u8>)> = blocks.collect();
            for mut sums in both() {
                for (weight, block) in &blocks {
                    sums.add_block(*weight, block.as_slice().try_into().unwrap());
                }
                prop_assert_eq!(*sums.reduced(), by_definition(&blocks));
            }
        }
    }

    /// They are reduced in between: a chunk may have more blocks than fit.
    #[test]
    fn long_chunks_do_not_overflow() {
        for mut sums in both() {
            // Twice as many as fit.
            let blocks = 2 * PRODUCTS_MAX as u128 + 2;
            for _ in 0..blocks {
                sums.add_block(P - 1, &[0xff; BLOCK_BYTES]);
            }
            let sector = (1 << 56) - 1;
            let product = u128::from(P - 1) * sector % u128::from(P);
            let expected = u64::try_from(product * blocks % u128::from(P)).unwrap();
            assert!(sums.reduced().iter().all(|mu| *mu == expected));
        }
    }
}
