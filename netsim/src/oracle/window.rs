//! An owner's window holds what its user waits for, and nothing else: else it would fill up for
//! ever, and nothing could be put any more.

use super::{Fact, Property, Truth};
use crate::node::wishes::Wishes;
use quloud::core::owner::Fill;
use quloud::crypto::head::HEAD_RECORD_BYTES;

pub(crate) struct Window;

impl Property for Window {
    fn name(&self) -> &'static str {
        "the window is what is being put"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let Fact::Loaded { node, owner, .. } = fact else { return None };
        let used = |what| owner.iter().find(|fill: &&Fill| fill.what == what).map(|fill| fill.used);
        let (Some(jobs), Some(bytes)) = (used("store jobs"), used("bytes to store")) else {
            // Otherwise a figure that has another name would end this check, and nobody would know.
            return Some(format!("{node} has no figures of its window"));
        };
        let used = [jobs, bytes];
        if used == [0; 2] || !truth.is_honest(*node) {
            return None;
        }
        let wanted = wanted(truth, &truth.nodes[*node].wishes);
        let over = used.iter().zip(wanted).any(|(used, wanted)| *used > wanted);
        over.then(|| format!("{node} has {used:?} jobs and bytes in it, and waits for {wanted:?}"))
    }
}

/// How many jobs put something, and how many bytes.
fn wanted(truth: &Truth<'_>, wishes: &Wishes) -> [usize; 2] {
    wishes.putting().fold([0; 2], |[jobs, bytes], id| {
        let head = truth.heads.get(id).map_or(0, |_| HEAD_RECORD_BYTES);
        [jobs + 1, bytes + truth.chunks.get(id).map_or(head, |chunk| chunk.sealed.len())]
    })
}
