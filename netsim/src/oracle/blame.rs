//! No honest node is taken for a cheat.

use super::{Fact, Property, Truth};
use quloud::core::codec::Reject;
use quloud::core::owner::{FetchFailure, OwnerEvent};

pub(crate) struct Blame;

impl Property for Blame {
    fn name(&self) -> &'static str {
        "no honest node is blamed"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        match fact {
            Fact::Rejected { node, from, reason } if truth.is_honest(*node) => {
                let cheats = matches!(
                    reason,
                    Reject::Oversize
                        | Reject::Malformed
                        | Reject::WrongVersion
                        | Reject::WrongMesh
                        | Reject::WrongPeer
                        | Reject::WrongBytes
                        | Reject::BadProof
                );
                let from = *truth.indices.get(from)?;
                // Whoever forwards a cheat's gossip is named in its place.
                let nobody_cheats = truth.nodes.iter().all(|node| node.evil.is_none());
                let honest = truth.is_honest(from) && nobody_cheats;
                (cheats && honest).then(|| format!("{node} rejects {from}: {}", reason.name()))
            }
            Fact::Reported { node, event: OwnerEvent::NotFetched { asked, id, .. } } => {
                let wronged = asked.iter().find_map(|(holder, failure)| {
                    let holder = *truth.indices.get(holder)?;
                    let wrong = *failure == FetchFailure::WrongBytes && truth.is_honest(holder);
                    wrong.then_some(holder)
                })?;
                Some(format!("{node} says that {wronged} sent wrong bytes for {id:?}"))
            }
            _ => None,
        }
    }
}
