//! No honest node is taken for a cheat.

use super::{Fact, Property, Truth};
use crate::node::Node;
use quloud::core::codec::Reject;
use quloud::core::owner::{FetchFailure, OwnerEvent};

/// Whether no honest node says what is turned down for this reason.
pub(crate) fn accuses(reason: Reject) -> bool {
    matches!(
        reason,
        Reject::Oversize
            | Reject::Malformed
            | Reject::WrongVersion
            | Reject::WrongMesh
            | Reject::WrongPeer
            | Reject::WrongBytes
            | Reject::BadProof
    )
}

pub(crate) struct Blame;

impl Property for Blame {
    fn name(&self) -> &'static str {
        "no honest node is blamed"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        match fact {
            Fact::Rejected { node, from, heard, reason } if truth.is_honest(*node) => {
                // Whoever forwards a cheat's gossip is named in its place. Of some that a node
                // looks into later nobody knows any more who said it: then it may be a cheat.
                let nobody_cheats = || truth.nodes.iter().all(Node::is_honest);
                let honest = heard.map_or_else(nobody_cheats, |of| truth.is_honest(of.author));
                (accuses(*reason) && honest)
                    .then(|| format!("{node} rejects {}, by {from:?}, {heard:?}", reason.name()))
            }
            Fact::Reported { node, event } => {
                use OwnerEvent::{Fetched, NotFetched};
                let (NotFetched { asked, id, .. } | Fetched { asked, id, .. }) = event else {
                    return None;
                };
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
