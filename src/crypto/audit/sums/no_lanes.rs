//! For processors whose vectors are not made use of.

use super::{BLOCK_BYTES, Wide};

/// There are none.
pub(super) enum Lanes {}

impl Lanes {
    pub(super) fn new() -> Option<Self> {
        None
    }

    pub(super) fn add_block(&mut self, _: u64, _: &[u8; BLOCK_BYTES], _: &mut Wide) {
        match *self {}
    }

    pub(super) fn pour(&mut self, _: &mut Wide) {
        match *self {}
    }
}
