//! The ack collector of one chunk: distinct, verified acks over all attempts.
//!
//! It counts; it verifies nothing. Whoever calls [`Collector::ack`] has checked signature, account
//! and receipt before (`owner/acks.rs`). What it adds is what single messages cannot show: an ack
//! of a node that was never sent the chunk is none, a second ack of one node is none, and acks from
//! one failure domain count once.

use super::placement::{DomainPolicy, Standing};
use super::types::NodeId;
use crate::planted::{self, Bug};
use std::collections::BTreeMap;

/// How many nodes one collector knows. At the bound a new volunteer takes the place of one that
/// refused; where nobody refused it is turned away.
pub const NODES_MAX: usize = 128;

/// What an ack came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// One more replica.
    Counted,
    /// Recorded; it counts for nothing, because a node of the same failure domain counts already.
    SharedDomain,
    /// This node's ack was recorded before.
    Again,
    /// This node was never sent the chunk.
    NeverSent,
}

#[derive(Debug, Clone)]
enum Stage {
    Volunteered,
    Refused,
    /// Counted with this standing, or recorded only.
    Acked(Option<Standing>),
}

#[derive(Debug, Clone)]
struct Node {
    sent: bool,
    stage: Stage,
}

/// Collects the acks of one chunk.
#[derive(Debug, Clone)]
pub struct Collector {
    wanted: u8,
    policy: DomainPolicy,
    nodes: BTreeMap<NodeId, Node>,
    /// Where replicas stand that count elsewhere.
    beside: Vec<Standing>,
}

impl Collector {
    /// Waits for `wanted` replicas.
    pub fn new(wanted: u8, policy: DomainPolicy) -> Self {
        Self { wanted, policy, nodes: BTreeMap::new(), beside: Vec::new() }
    }

    /// Asks for at least so many replicas.
    pub fn raise(&mut self, wanted: u8) {
        self.wanted = self.wanted.max(wanted);
    }

    /// A replica there counts elsewhere: none in its failure domain counts here from now on. Of
    /// more than [`NODES_MAX`] nothing is noted.
    pub fn beside(&mut self, standing: &Standing) {
        if self.beside.len() < NODES_MAX {
            self.beside.push(standing.clone());
        }
    }

    /// A node would take the chunk. False where it cannot be taken note of, see [`NODES_MAX`].
    pub fn volunteer(&mut self, node: NodeId) -> bool {
        if let Some(known) = self.nodes.get_mut(&node) {
            if matches!(known.stage, Stage::Refused) {
                known.stage = Stage::Volunteered;
            }
            return true;
        }
        if self.nodes.len() >= NODES_MAX {
            let refused = |known: &Node| matches!(known.stage, Stage::Refused);
            let gone = self.nodes.iter().find(|(_, known)| refused(known)).map(|(node, _)| *node);
            let Some(gone) = gone else { return false };
            self.nodes.remove(&gone);
        }
        self.nodes.insert(node, Node { sent: false, stage: Stage::Volunteered });
        true
    }

    /// The chunk went out to this node.
    pub fn sent(&mut self, node: NodeId) {
        if self.volunteer(node) {
            self.nodes.entry(node).and_modify(|known| known.sent = true);
        }
    }

    /// The node does not store the chunk, or cannot be reached, or lied about it. An ack stands: a
    /// node cannot take it back by a message.
    pub fn refuse(&mut self, node: NodeId) {
        if let Some(known) = self.nodes.get_mut(&node)
            && !matches!(known.stage, Stage::Acked(_))
        {
            known.stage = Stage::Refused;
        }
    }

    /// The node lost what it acknowledged: its ack stands no more, and it may acknowledge anew.
    /// Whether it had one. What shared a domain with it stays uncounted, which errs on the safe
    /// side.
    pub fn void(&mut self, node: &NodeId) -> bool {
        let known = self.nodes.get_mut(node);
        let known = known.filter(|known| matches!(known.stage, Stage::Acked(_)));
        let Some(known) = known.filter(|_| !planted::is_on(Bug::KeepOldAcks)) else {
            return false;
        };
        known.stage = Stage::Volunteered;
        true
    }

    /// The node acknowledged in an earlier life of this job, and said just now that it holds the
    /// chunk still.
    pub fn earlier(&mut self, node: NodeId, standing: &Standing) {
        self.sent(node);
        self.ack(node, standing);
    }

    /// A verified ack of a node that stands here.
    ///
    /// Acks count in the order in which they come, so that a later one never takes an earlier
    /// one's count away.
    pub fn ack(&mut self, node: NodeId, standing: &Standing) -> Recorded {
        match self.nodes.get(&node) {
            Some(Node { stage: Stage::Acked(_), .. }) => return Recorded::Again,
            Some(Node { sent: true, .. }) => {}
            Some(_) | None => return Recorded::NeverSent,
        }
        let is_near = |other: &Standing| standing.shares(other, self.policy);
        let shared = self.counted().any(is_near) || self.beside.iter().any(is_near);
        let counted = (!shared).then(|| standing.clone());
        self.nodes.insert(node, Node { sent: true, stage: Stage::Acked(counted) });
        if shared { Recorded::SharedDomain } else { Recorded::Counted }
    }

    /// How many replicas count.
    pub fn replicas(&self) -> u8 {
        u8::try_from(self.counted().count()).unwrap_or(u8::MAX)
    }

    /// How many replicas are wanted at most.
    pub fn wanted(&self) -> u8 {
        self.wanted
    }

    /// Every node with a recorded ack, counted or not.
    pub fn holders(&self) -> impl Iterator<Item = &NodeId> {
        self.nodes
            .iter()
            .filter(|(_, known)| matches!(known.stage, Stage::Acked(_)))
            .map(|(n, _)| n)
    }

    /// Whether this node's ack is recorded.
    pub fn has_ack(&self, node: &NodeId) -> bool {
        self.nodes.get(node).is_some_and(|known| matches!(known.stage, Stage::Acked(_)))
    }

    /// Where the replicas that count stand.
    pub fn counted(&self) -> impl Iterator<Item = &Standing> {
        self.nodes.values().filter_map(|known| match &known.stage {
            Stage::Acked(standing) => standing.as_ref(),
            Stage::Volunteered | Stage::Refused => None,
        })
    }
}

#[cfg(test)]
mod tests;
