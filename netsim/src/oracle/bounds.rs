//! Every table stays under its bound.

use super::{Fact, Property, Truth};
use quloud::core::holder::HolderLimits;

pub(crate) struct Bounds;

impl Property for Bounds {
    fn name(&self) -> &'static str {
        "every table is bounded"
    }

    fn see(&mut self, _: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let Fact::Loaded { node, load, owner } = fact else { return None };
        if let Some(over) = owner.iter().find(|fill| fill.is_over()) {
            return Some(format!("{node} has {over:?}"));
        }
        let limits = HolderLimits::default();
        let within = load.peers <= limits.peers_max
            && load.writing_bytes <= limits.writing_bytes
            && load.reads <= limits.reads
            && load.queued_reads <= limits.queued_reads
            && load.topic_work <= limits.topic_work
            && load.stream_work <= limits.stream_work
            && load.seen <= limits.requests_seen + limits.proofs_seen;
        (!within).then(|| format!("{node} has {load:?}"))
    }
}
