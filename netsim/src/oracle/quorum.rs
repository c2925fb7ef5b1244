//! A chunk is called stored only where that many distinct nodes in distinct failure domains
//! acknowledged it, the owner's own not among them.

use super::{Fact, Property, Truth};
use crate::node::{Domain, Index};
use quloud::core::owner::OwnerEvent;
use quloud::core::types::ChunkId;
use std::collections::BTreeSet;

pub(crate) struct Quorum;

impl Property for Quorum {
    fn name(&self) -> &'static str {
        "status is never ahead of the truth"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let Fact::Reported { node, event } = fact else { return None };
        match event {
            OwnerEvent::Acked { id, node: holder, .. } => {
                let known = truth.indices.get(holder);
                let acked = known.is_some_and(|holder| has_acked(truth, id, *holder));
                (!acked).then(|| format!("{node} counts an ack of {holder:?} that it never gave"))
            }
            OwnerEvent::Stored { id, replicas, holders, .. } => {
                let strange = |holder| !truth.indices.contains_key(holder);
                let chunk = truth.chunks.get(id).map(|chunk| chunk.replicas);
                let head = truth.heads.get(id).map(|head| head.replicas);
                let Some(wanted) = chunk.or(head) else {
                    return Some(format!("{node} calls {id:?} stored, which nobody put"));
                };
                if let Some(holder) = holders.iter().find(|holder| strange(holder)) {
                    return Some(format!("{node} counts {holder:?} for {id:?}, which nobody is"));
                }
                let known = holders.iter().filter_map(|holder| truth.indices.get(holder));
                let known: BTreeSet<Index> = known.copied().collect();
                let acked = known.iter().all(|holder| has_acked(truth, id, *holder));
                let domain = |holder: &Index| truth.nodes[*holder].domain();
                let domains: BTreeSet<Domain> = known.iter().map(domain).collect();
                let enough = *replicas >= wanted && domains.len() >= usize::from(*replicas);
                let own = known.contains(node);
                (!acked || !enough || own)
                    .then(|| format!("{node} calls {id:?} stored {replicas} times, at {known:?}"))
            }
            _ => None,
        }
    }
}

/// Whether a holder acknowledged a chunk, or the record of a head that is on its way.
fn has_acked(truth: &Truth<'_>, id: &ChunkId, holder: Index) -> bool {
    let head = truth.heads.get(id);
    let chunk = truth.chunks.get(id);
    chunk.is_some_and(|chunk| chunk.acked.contains_key(&holder))
        || head.is_some_and(|head| head.acked.get(&holder) >= Some(&head.sending))
}
