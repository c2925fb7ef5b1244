//! Dice, in whole numbers: the same on every machine.

use rand::{Rng, RngExt};
use std::time::Duration;

/// How often something happens, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Chance(pub(crate) u32);

/// Certainty.
const WHOLE: u32 = 1_000_000;

impl Chance {
    /// It never happens.
    pub(crate) const NEVER: Self = Self(0);

    /// It happens every time.
    pub(crate) const ALWAYS: Self = Self(WHOLE);

    /// So many in a thousand.
    pub(crate) const fn per_mille(parts: u32) -> Self {
        Self(parts * 1_000)
    }

    /// Whether it happens this time.
    pub(crate) fn happens(self, rng: &mut impl Rng) -> bool {
        self.0 > 0 && rng.random_range(0..WHOLE) < self.0
    }
}

/// A chance of up to `max`; in one world out of three it is none at all, so that each world is
/// unkind in its own way.
pub(crate) fn draw(rng: &mut impl Rng, max: Chance) -> Chance {
    if rng.random_range(0..3) == 0 { Chance::NEVER } else { Chance(rng.random_range(0..=max.0)) }
}

/// A duration from `shortest` to `longest`.
pub(crate) fn between(rng: &mut impl Rng, shortest: Duration, longest: Duration) -> Duration {
    let range = millis(shortest)..=millis(longest).max(millis(shortest));
    Duration::from_millis(rng.random_range(range))
}

/// A duration of `scale` and more, with a heavy tail: each doubling is half as likely as the one
/// before, up to `longest`.
pub(crate) fn heavy(rng: &mut impl Rng, scale: Duration, longest: Duration) -> Duration {
    let doublings = rng.random::<u16>().trailing_ones();
    let scale = millis(scale).max(1).saturating_mul(1 << doublings.min(16));
    Duration::from_millis(rng.random_range(scale / 2..=scale)).min(longest)
}

/// The moments within `span` at which something happens that comes `per_year` times in a year.
pub(crate) fn moments(rng: &mut impl Rng, per_year: u64, span: Duration) -> Vec<Duration> {
    const YEAR_MS: u64 = 365 * 24 * 3_600 * 1_000;
    // Whole occurrences, and one more with the chance of the rest.
    let (whole, rest) = {
        let expected = u128::from(per_year) * u128::from(millis(span));
        (expected / u128::from(YEAR_MS), expected % u128::from(YEAR_MS))
    };
    let more = u128::from(rng.random_range(0..YEAR_MS)) < rest;
    let count = u64::try_from(whole).unwrap_or(u64::MAX).min(10_000) + u64::from(more);
    (0..count).map(|_| Duration::from_millis(rng.random_range(0..=millis(span)))).collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    #[test]
    fn chances_are_what_they_say() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let happened = (0..100_000).filter(|_| Chance::per_mille(300).happens(&mut rng)).count();
        assert!((29_000..31_000).contains(&happened), "{happened}");
        assert!(!(0..1_000).any(|_| Chance::NEVER.happens(&mut rng)));
        assert!((0..1_000).all(|_| Chance(WHOLE).happens(&mut rng)));
    }

    #[test]
    fn a_heavy_tail_is_long_and_thin() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let (scale, longest) = (Duration::from_millis(10), Duration::from_secs(60));
        let drawn: Vec<_> = (0..10_000).map(|_| heavy(&mut rng, scale, longest)).collect();
        assert!(drawn.iter().filter(|d| **d <= 2 * scale).count() > 6_000);
        assert!(drawn.iter().any(|d| *d > 50 * scale));
    }

    #[test]
    fn what_comes_so_often_a_year_comes_as_often() {
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let month = Duration::from_secs(30 * 86_400);
        let total: usize = (0..1_000).map(|_| moments(&mut rng, 100, month).len()).sum();
        assert!((8_000..8_440).contains(&total), "{total}");
    }
}
