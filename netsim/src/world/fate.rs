//! What befalls several nodes or links, one after another or all at once.

use super::{Event, World};
use crate::chance::{Chance, between};
use crate::net::Cut;
use crate::node::Index;
use rand::seq::{IteratorRandom, SliceRandom};
use std::time::Duration;

/// The most links that are cut one after another.
const SWIZZLED_MAX: usize = 40;

impl World<'_> {
    /// Links go one by one, about so long `apart`; and when the last of them has been gone for
    /// `length`, they come back one by one in another order.
    pub(super) fn swizzle(&mut self, share: Chance, apart: Duration, length: Duration) {
        let pairs: Vec<_> = self.net.pairs().collect();
        let chosen = pairs.into_iter().filter(|_| share.happens(&mut self.rng));
        let chosen: Vec<(Index, Index)> = chosen.collect();
        let mut links = chosen.into_iter().sample(&mut self.rng, SWIZZLED_MAX);
        links.shuffle(&mut self.rng);
        self.log(|| format!("{} links are cut one by one", links.len()));
        let mut order: Vec<usize> = (0..links.len()).collect();
        order.shuffle(&mut self.rng);
        let mut goes = Duration::ZERO;
        let cuts: Vec<_> = links
            .into_iter()
            .map(|link| {
                goes += between(&mut self.rng, Duration::ZERO, apart * 2);
                (link, goes)
            })
            .collect();
        let mut comes = goes + length;
        for number in order {
            let ((a, b), goes) = cuts[number];
            comes += between(&mut self.rng, Duration::ZERO, apart * 2);
            let (cut, length) = (Cut::link(a, b), comes - goes);
            self.agenda.after(goes, Event::CutBegins { cut, length });
        }
    }
}
