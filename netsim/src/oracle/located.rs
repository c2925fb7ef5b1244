//! Whoever honestly says that it holds a chunk was given it, and does not let it go.

use super::{Fact, LetGo, Property, Truth};
use crate::node::Index;
use quloud::core::owner::OwnerEvent;
use quloud::core::types::{ChunkId, Time};
use std::collections::BTreeMap;
use std::time::Duration;

/// An answer is on its way for a while, and so may be what it says.
const ON_ITS_WAY: Duration = Duration::from_secs(3_600);

#[derive(Default)]
pub(crate) struct Located {
    /// When a store last dropped all that was let go, as its ledger was in doubt, or may have:
    /// where it could not write that down it takes no writes. What it does not know any more it
    /// keeps.
    dropped: BTreeMap<Index, Time>,
}

impl Property for Located {
    fn name(&self) -> &'static str {
        "who says that it holds a chunk does"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let (owner, node, ids) = match fact {
            Fact::Opened { node, report }
                if report.releases_dropped > 0 || report.read_only.is_some() =>
            {
                self.dropped.insert(*node, truth.now);
                return None;
            }
            Fact::Reported { node: owner, event: OwnerEvent::Located { node, ids, .. } } => {
                (owner, node, ids)
            }
            _ => return None,
        };
        // A disk that is not sound may know nothing of a release any more.
        let holder = *truth.indices.get(node).filter(|holder| truth.nodes[**holder].is_sound())?;
        let lie = |id: &ChunkId| {
            let chunk = truth.chunks.get(id)?;
            if !chunk.reached.contains(&holder) {
                return Some(format!("{owner} hears that {holder} has {id:?}, which it never got"));
            }
            let is_known = |of: &LetGo| self.dropped.get(&holder).is_none_or(|at| of.since > *at);
            let is_old = |of: &LetGo| of.since.after(ON_ITS_WAY) < truth.now;
            let lets_go = |of: &LetGo| of.is_answered && is_old(of) && is_known(of);
            let lets_go = chunk.leases.get(&holder)?.let_go.iter().any(lets_go);
            lets_go.then(|| format!("{owner} hears that {holder} holds {id:?}, which it lets go"))
        };
        ids.iter().find_map(lie)
    }
}
