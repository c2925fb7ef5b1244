//! Where nodes were seen, in this run and in earlier ones: who shares a failure domain with whom.
//! Bound: 1,024 nodes, those met last.

use crate::core::effect::Reach;
use crate::core::placement::Standing;
use crate::core::types::NodeId;
use crate::net::{node_of_peer_id, peer_id_of};
use crate::node::put::seconds_since_1970;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const PLACES_MAX: usize = 1_024;

/// See the module's documentation.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    all: BTreeMap<NodeId, Place>,
    /// When anybody was last seen where nobody had seen it: seconds since 1970.
    moved_s: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Place {
    standing: Standing,
    met_s: u64,
}

impl Places {
    /// A node is connected, from there, and declares that site. Whether that was not known.
    pub(super) fn met(&mut self, node: NodeId, reach: Reach, site: &str) -> bool {
        if self.all.len() >= PLACES_MAX && !self.all.contains_key(&node) {
            let oldest = self.all.iter().min_by_key(|(_, place)| place.met_s);
            if let Some(oldest) = oldest.map(|(node, _)| *node) {
                self.all.remove(&oldest);
            }
        }
        let place = self.all.entry(node).or_default();
        let before = place.standing.clone();
        place.standing.observe(reach);
        place.standing.declare(site);
        place.met_s = seconds_since_1970();
        let has_moved = place.standing != before;
        if has_moved {
            self.moved_s = place.met_s;
        }
        has_moved
    }

    /// Where the node stands; one that was never met stands apart from all.
    pub(super) fn standing(&self, node: &NodeId) -> Standing {
        self.all.get(node).map(|place| place.standing.clone()).unwrap_or_default()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (NodeId, &Standing)> {
        self.all.iter().map(|(node, place)| (*node, &place.standing))
    }

    pub(super) fn moved_s(&self) -> u64 {
        self.moved_s
    }

    pub(super) fn lines(&self) -> Lines {
        let line = |(node, place): (&NodeId, &Place)| Line {
            peer_id: peer_id_of(node),
            seen_in: place.standing.reaches().map(SeenIn::from).collect(),
            site: place.standing.site().to_owned(),
            met_s: place.met_s,
        };
        Lines { nodes: self.all.iter().map(line).collect(), moved_s: self.moved_s }
    }

    pub(super) fn of(lines: Lines) -> Self {
        let place = |line: Line| {
            let mut standing = Standing::declared(&line.site);
            line.seen_in.into_iter().for_each(|seen| standing.observe(seen.into()));
            Some((node_of_peer_id(&line.peer_id)?, Place { standing, met_s: line.met_s }))
        };
        let all = lines.nodes.into_iter().take(PLACES_MAX).filter_map(place).collect();
        Self { all, moved_s: lines.moved_s }
    }
}

/// As it stands in the file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Lines {
    nodes: Vec<Line>,
    moved_s: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    peer_id: String,
    seen_in: Vec<SeenIn>,
    site: String,
    met_s: u64,
}

/// [`Reach`], for the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SeenIn {
    V4([u8; 3]),
    V6([u8; 6]),
    Lan,
    Relay,
}

impl From<Reach> for SeenIn {
    fn from(reach: Reach) -> Self {
        match reach {
            Reach::PublicV4(net) => Self::V4(net),
            Reach::PublicV6(net) => Self::V6(net),
            Reach::Local => Self::Lan,
            Reach::Relayed => Self::Relay,
        }
    }
}

impl From<SeenIn> for Reach {
    fn from(seen: SeenIn) -> Self {
        match seen {
            SeenIn::V4(net) => Self::PublicV4(net),
            SeenIn::V6(net) => Self::PublicV6(net),
            SeenIn::Lan => Self::Local,
            SeenIn::Relay => Self::Relayed,
        }
    }
}
