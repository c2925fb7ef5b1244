//! A chunk is called stored only where that many distinct nodes in distinct failure domains
//! acknowledged it, the owner's own not among them.

use super::{Fact, Property, Truth};
use crate::node::Index;
use quloud::core::owner::OwnerEvent;
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
                let holder = truth.indices.get(holder)?;
                let acked = truth.chunks.get(id).is_some_and(|c| c.acked.contains_key(holder));
                (!acked).then(|| format!("{node} counts an ack of {holder} that it never gave"))
            }
            OwnerEvent::Stored { id, replicas, holders, .. } => {
                let chunk = truth.chunks.get(id)?;
                let known: Option<BTreeSet<Index>> =
                    holders.iter().map(|holder| truth.indices.get(holder).copied()).collect();
                let known = known?;
                let acked = known.iter().all(|holder| chunk.acked.contains_key(holder));
                let enough = *replicas >= chunk.replicas && known.len() >= usize::from(*replicas);
                let apart = domains(truth, &known) >= usize::from(*replicas);
                let own = known.contains(node);
                (!acked || !enough || !apart || own)
                    .then(|| format!("{node} calls {id:?} stored {replicas} times, at {known:?}"))
            }
            _ => None,
        }
    }
}

/// In how many public networks these nodes are; each node of a LAN counts.
fn domains(truth: &Truth<'_>, nodes: &BTreeSet<Index>) -> usize {
    use quloud::core::effect::Reach;
    let reach = |node: &Index| match truth.nodes[*node].place.reach {
        Reach::Local => (Reach::Local, *node),
        public => (public, 0),
    };
    nodes.iter().map(reach).collect::<BTreeSet<_>>().len()
}
