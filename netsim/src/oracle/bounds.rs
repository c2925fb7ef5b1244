//! Every table stays under the bound that its node has for it.

use super::{Fact, Property, Truth};

pub(crate) struct Bounds;

impl Property for Bounds {
    fn name(&self) -> &'static str {
        "every table is bounded"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let Fact::Loaded { node, load, owner } = fact else { return None };
        if let Some(over) = owner.iter().find(|fill| fill.is_over()) {
            return Some(format!("{node} has {over:?}"));
        }
        let limits = &truth.nodes[*node].limits().holder;
        let within = load.peers <= limits.peers_max
            && load.writing_bytes <= limits.writing_bytes
            && load.reads <= limits.reads
            && load.queued_reads <= limits.queued_reads
            && load.topic_work <= limits.topic_work
            && load.stream_work <= limits.stream_work
            && load.account_work <= limits.account_work
            && load.audits <= limits.audits_open
            && load.proving <= limits.audits_working.saturating_mul(limits.proving_per_audit)
            && load.accounts <= limits.accounts_max.saturating_mul(2)
            && load.seen <= limits.requests_seen + limits.proofs_seen;
        (!within).then(|| format!("{node} has {load:?}"))
    }
}
