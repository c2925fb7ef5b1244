//! What the catalogue remembers so that chunks can be let go: the snapshots that were seen and by
//! whom they were forgotten, the prune that is open, and the chunks that it lets go.
//!
//! References of snapshots stand here because manifests drop them: a checkpoint names what is live
//! alone, and without the reference of a forgotten snapshot nobody knows any more which chunks were
//! its own. They also keep what another device forgets until it is believed.

use super::Fields;
use crate::core::types::{ChunkId, DeviceId, LeaseNonce, NodeId, SnapshotId};
use crate::crypto::keys::ChunkKey;
use crate::repo::manifest::PruneId;
use crate::repo::prunes::{Clock, ForgetSeen};
use crate::repo::reference::{ChunkRef, SHORT_REF_BYTES};

const SNAPSHOT_SEEN: u8 = 48;
const SNAPSHOT_FORGOTTEN: u8 = 49;
const SNAPSHOT_PRUNED: u8 = 50;
const SNAPSHOT_OVER: u8 = 51;
const AGED: u8 = 52;
const BEGUN: u8 = 53;
const ENDED: u8 = 54;
const DOOMED: u8 = 55;
const LET_GO: u8 = 56;
const SPARED: u8 = 57;
const CHAIN_CHECKED: u8 = 58;
const ROOT_DROPPED: u8 = 59;
const SNAPSHOT_KEPT: u8 = 60;
const ASKED: u8 = 61;
const TO_LOOK_AFTER: u8 = 62;
const LOOKED_AFTER: u8 = 63;
const HELD_AGAIN: u8 = 64;

const PUT: u8 = 1;
const OWN: u8 = 1;
const ACCEPTED: u8 = 2;

/// Nodes that one doomed chunk waits for beside those that acknowledged it: as many as a quorum can
/// have. Copies at others are not asked for.
pub const AWAITED_MAX: usize = 32;

/// Nodes that are asked to let one chunk go. Whoever is above it is asked by a later prune.
pub const ASKED_MAX: usize = 255;

/// A snapshot of any device, when it was first seen.
#[derive(Debug)]
pub struct SnapshotSeen {
    /// Which.
    pub id: SnapshotId,
    /// Where it is.
    pub reference: ChunkRef,
    /// The head of the device that made it.
    pub index: u16,
    /// That device.
    pub device: DeviceId,
    /// When it began: nanoseconds since 1970.
    pub created_ns: i64,
    /// It is one file that was put.
    pub put: bool,
}

/// A snapshot was seen to be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotForgotten {
    /// Which.
    pub id: SnapshotId,
    /// The head of the device that forgot it.
    pub by: u16,
    /// It was this folder's own user who did.
    pub own: bool,
    /// Not so, and the user said that it is right: it counts as the user's own.
    pub accepted: bool,
    /// The folder's age then, in seconds: see [`PruneNote::Aged`].
    pub age_s: u64,
    /// What the clock showed then: seconds since 1970.
    pub wall_s: u64,
}

/// A prune that was announced and is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenPrune {
    /// Which.
    pub prune: PruneId,
    /// How long other devices were given, in seconds.
    pub grace_s: u32,
    /// When it was announced: seconds since 1970.
    pub at: u64,
}

/// A snapshot that this device publishes, and that is to be looked after: another device may let go
/// what it names until it sees it.
#[derive(Debug)]
pub struct ToLookAfter {
    /// Which.
    pub id: SnapshotId,
    /// Where it is.
    pub reference: ChunkRef,
    /// How many nodes are to have what it names.
    pub replicas: u8,
}

/// One thing that letting chunks go has to know.
#[derive(Debug)]
pub enum PruneNote {
    /// A snapshot was seen.
    SnapshotSeen(SnapshotSeen),
    /// It was seen to be forgotten.
    SnapshotForgotten(SnapshotForgotten),
    /// Somebody still lists it, and nobody forgot it: that it was seen to be forgotten means
    /// nothing any more.
    SnapshotKept(SnapshotId),
    /// Its chunks were let go: its name alone is remembered.
    SnapshotPruned(SnapshotId),
    /// No manifest names it any more, and neither need this.
    SnapshotOver(SnapshotId),
    /// How long this folder was in use.
    Aged {
        /// Seconds for which it is certain: time in which a node ran, and of the time between two
        /// runs a day at most.
        age_s: u64,
        /// What the clock shows: seconds since 1970.
        wall_s: u64,
    },
    /// A prune is open.
    Begun(OpenPrune),
    /// It is done: what nobody is left to be asked for is forgotten.
    Ended(PruneId),
    /// A chunk is about to be let go: nobody is known to have it from now on.
    Doomed {
        /// Which.
        chunk: ChunkId,
        /// Its key, by which holders are asked to let it go.
        ck: ChunkKey,
        /// Who is to be asked beside those whose acks are known, [`AWAITED_MAX`] at most: those
        /// that say that they have it, and those that may and were away.
        awaited: Vec<NodeId>,
        /// Who is about to be asked now, [`ASKED_MAX`] at most, and by which lease: until a node is
        /// heard, it may let the chunk go at any time, for as long as it has it under this lease.
        asked: Vec<(NodeId, LeaseNonce)>,
    },
    /// A holder is about to be asked to let chunks go. What it let go is taken back only when it
    /// says so itself.
    Asked(NodeId),
    /// A holder has let a doomed chunk go, or does not have it.
    LetGo {
        /// Which.
        chunk: ChunkId,
        /// Who.
        node: NodeId,
    },
    /// A holder has a doomed chunk, and lets it go no more: it has taken back that it was asked to,
    /// and says so. It counts as one that has the chunk if it acknowledged it before.
    HeldAgain {
        /// Which.
        chunk: ChunkId,
        /// Who.
        node: NodeId,
    },
    /// A doomed chunk is needed after all: somebody is to have it. Who does is not known by this.
    Spared(ChunkId),
    /// The prunes in the chain of another device's head, until this length, are accounted for.
    ChainChecked {
        /// The head.
        index: u16,
        /// Entries.
        length: u64,
    },
    /// The file with this root and this name was let go.
    RootDropped(ChunkId, String),
    /// A snapshot is about to be published. Stands before the record of the head that names it.
    ToLookAfter(ToLookAfter),
    /// It was looked after, or is not there.
    LookedAfter(SnapshotId),
}

impl PruneNote {
    pub(in super::super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::SnapshotSeen(seen) => seen.encode(out),
            Self::SnapshotForgotten(forgotten) => forgotten.encode(out),
            Self::SnapshotPruned(id) => put(out, SNAPSHOT_PRUNED, id.as_bytes()),
            Self::SnapshotOver(id) => put(out, SNAPSHOT_OVER, id.as_bytes()),
            Self::Aged { age_s, wall_s } => {
                put(out, AGED, &age_s.to_le_bytes());
                out.extend_from_slice(&wall_s.to_le_bytes());
            }
            Self::Begun(OpenPrune { prune, grace_s, at }) => {
                put(out, BEGUN, prune);
                out.extend_from_slice(&grace_s.to_le_bytes());
                out.extend_from_slice(&at.to_le_bytes());
            }
            Self::Ended(prune) => put(out, ENDED, prune),
            Self::Doomed { chunk, ck, awaited, asked } => {
                put(out, DOOMED, chunk.as_bytes());
                out.extend_from_slice(ck.expose());
                let awaited = awaited.get(..AWAITED_MAX).unwrap_or(awaited);
                out.push(u8::try_from(awaited.len()).unwrap_or(u8::MAX));
                awaited.iter().for_each(|node| out.extend_from_slice(node.as_bytes()));
                let asked = asked.get(..ASKED_MAX).unwrap_or(asked);
                out.push(u8::try_from(asked.len()).unwrap_or(u8::MAX));
                for (node, lease) in asked {
                    out.extend_from_slice(node.as_bytes());
                    out.extend_from_slice(lease.as_bytes());
                }
            }
            Self::LetGo { chunk, node } => {
                put(out, LET_GO, chunk.as_bytes());
                out.extend_from_slice(node.as_bytes());
            }
            Self::HeldAgain { chunk, node } => {
                put(out, HELD_AGAIN, chunk.as_bytes());
                out.extend_from_slice(node.as_bytes());
            }
            Self::Spared(chunk) => put(out, SPARED, chunk.as_bytes()),
            Self::ChainChecked { index, length } => {
                put(out, CHAIN_CHECKED, &index.to_le_bytes());
                out.extend_from_slice(&length.to_le_bytes());
            }
            Self::ToLookAfter(it) => it.encode(out),
            Self::LookedAfter(id) => put(out, LOOKED_AFTER, id.as_bytes()),
            Self::SnapshotKept(id) => put(out, SNAPSHOT_KEPT, id.as_bytes()),
            Self::Asked(node) => put(out, ASKED, node.as_bytes()),
            Self::RootDropped(root, name) => {
                put(out, ROOT_DROPPED, root.as_bytes());
                // It is as long as it was in the entry of the put.
                let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
                out.extend_from_slice(&length.to_le_bytes());
                let text = name.as_bytes().get(..length.into());
                out.extend_from_slice(text.unwrap_or_default());
            }
        }
    }

    pub(super) fn decode(tag: u8, from: &mut Fields<'_>) -> Option<Self> {
        Some(match tag {
            SNAPSHOT_SEEN => Self::SnapshotSeen(SnapshotSeen::decode(from)?),
            SNAPSHOT_FORGOTTEN => Self::SnapshotForgotten(SnapshotForgotten::decode(from)?),
            SNAPSHOT_PRUNED => Self::SnapshotPruned(SnapshotId::from_bytes(from.array()?)),
            SNAPSHOT_OVER => Self::SnapshotOver(SnapshotId::from_bytes(from.array()?)),
            AGED => Self::Aged { age_s: from.number()?, wall_s: from.number()? },
            BEGUN => Self::Begun(OpenPrune {
                prune: from.array()?,
                grace_s: u32::from_le_bytes(from.array()?),
                at: from.number()?,
            }),
            ENDED => Self::Ended(from.array()?),
            DOOMED => Self::Doomed {
                chunk: ChunkId::from_bytes(from.array()?),
                ck: ChunkKey::from_bytes(from.array()?),
                awaited: awaited(from)?,
                asked: asked(from)?,
            },
            LET_GO => Self::LetGo {
                chunk: ChunkId::from_bytes(from.array()?),
                node: NodeId::from_bytes(from.array()?),
            },
            HELD_AGAIN => Self::HeldAgain {
                chunk: ChunkId::from_bytes(from.array()?),
                node: NodeId::from_bytes(from.array()?),
            },
            SPARED => Self::Spared(ChunkId::from_bytes(from.array()?)),
            CHAIN_CHECKED => Self::ChainChecked {
                index: u16::from_le_bytes(from.array()?),
                length: from.number()?,
            },
            TO_LOOK_AFTER => Self::ToLookAfter(ToLookAfter::decode(from)?),
            LOOKED_AFTER => Self::LookedAfter(SnapshotId::from_bytes(from.array()?)),
            SNAPSHOT_KEPT => Self::SnapshotKept(SnapshotId::from_bytes(from.array()?)),
            ASKED => Self::Asked(NodeId::from_bytes(from.array()?)),
            ROOT_DROPPED => Self::RootDropped(
                ChunkId::from_bytes(from.array()?),
                std::str::from_utf8(from.text()?).ok()?.to_owned(),
            ),
            _ => return None,
        })
    }
}

impl SnapshotSeen {
    /// A copy for a second user; explicit, because it holds a key.
    pub fn duplicate(&self) -> Self {
        let Self { id, index, device, created_ns, put, .. } = *self;
        Self { id, reference: self.reference.duplicate(), index, device, created_ns, put }
    }

    pub(in super::super) fn encode(&self, out: &mut Vec<u8>) {
        put(out, SNAPSHOT_SEEN, self.id.as_bytes());
        self.reference.put_short(out);
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(self.device.as_bytes());
        out.extend_from_slice(&self.created_ns.to_le_bytes());
        out.push(if self.put { PUT } else { 0 });
    }

    fn decode(from: &mut Fields<'_>) -> Option<Self> {
        let id = SnapshotId::from_bytes(from.array()?);
        let reference: [u8; SHORT_REF_BYTES] = from.array()?;
        Some(Self {
            id,
            reference: ChunkRef::take_short(&mut reference.as_slice())?,
            index: u16::from_le_bytes(from.array()?),
            device: DeviceId::from_bytes(from.array()?),
            created_ns: i64::from_le_bytes(from.array()?),
            put: match from.byte()? {
                0 => false,
                PUT => true,
                _ => return None,
            },
        })
    }
}

impl SnapshotForgotten {
    /// What it counts for.
    pub fn seen(&self) -> ForgetSeen {
        let Self { own, accepted, age_s, wall_s, .. } = *self;
        ForgetSeen { own, accepted, since: Clock { age_s, wall_s } }
    }

    pub(in super::super) fn encode(&self, out: &mut Vec<u8>) {
        let Self { id, by, own, accepted, age_s, wall_s } = self;
        put(out, SNAPSHOT_FORGOTTEN, id.as_bytes());
        out.extend_from_slice(&by.to_le_bytes());
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        out.push(flag(*own, OWN) | flag(*accepted, ACCEPTED));
        out.extend_from_slice(&age_s.to_le_bytes());
        out.extend_from_slice(&wall_s.to_le_bytes());
    }

    fn decode(from: &mut Fields<'_>) -> Option<Self> {
        let id = SnapshotId::from_bytes(from.array()?);
        let by = u16::from_le_bytes(from.array()?);
        let flags = from.byte()?;
        if flags & !(OWN | ACCEPTED) != 0 {
            return None;
        }
        let [own, accepted] = [OWN, ACCEPTED].map(|flag| flags & flag != 0);
        let (age_s, wall_s) = (from.number()?, from.number()?);
        Some(Self { id, by, own, accepted, age_s, wall_s })
    }
}

impl ToLookAfter {
    /// A copy for a second user; explicit, because it holds a key.
    pub fn duplicate(&self) -> Self {
        Self { id: self.id, reference: self.reference.duplicate(), replicas: self.replicas }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put(out, TO_LOOK_AFTER, self.id.as_bytes());
        self.reference.put_short(out);
        out.push(self.replicas);
    }

    fn decode(from: &mut Fields<'_>) -> Option<Self> {
        let id = SnapshotId::from_bytes(from.array()?);
        let reference: [u8; SHORT_REF_BYTES] = from.array()?;
        let reference = ChunkRef::take_short(&mut reference.as_slice())?;
        Some(Self { id, reference, replicas: from.byte()? })
    }
}

fn awaited(from: &mut Fields<'_>) -> Option<Vec<NodeId>> {
    let count = usize::from(from.byte()?);
    let nodes = (0..count).map(|_| Some(NodeId::from_bytes(from.array()?)));
    (count <= AWAITED_MAX).then(|| nodes.collect())?
}

fn asked(from: &mut Fields<'_>) -> Option<Vec<(NodeId, LeaseNonce)>> {
    let count = from.byte()?;
    let one = |from: &mut Fields<'_>| {
        Some((NodeId::from_bytes(from.array()?), LeaseNonce::from_bytes(from.array()?)))
    };
    (0..count).map(|_| one(from)).collect()
}

fn put(out: &mut Vec<u8>, tag: u8, first: &[u8]) {
    out.push(tag);
    out.extend_from_slice(first);
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::core::types::Locality;

    pub(in super::super::super) fn seen(number: u8) -> SnapshotSeen {
        let ck = ChunkKey::from_bytes([number; 32]);
        let id = ChunkId::from_bytes([number; 32]);
        SnapshotSeen {
            id: SnapshotId::from_bytes([number; 32]),
            reference: ChunkRef { ck, id, locality: Locality(7), bytes: 0 },
            index: u16::from(number),
            device: DeviceId::from_bytes([number; 16]),
            created_ns: -8,
            put: number.is_multiple_of(2),
        }
    }

    pub(in super::super::super) fn forgotten(number: u8) -> SnapshotForgotten {
        let id = SnapshotId::from_bytes([number; 32]);
        SnapshotForgotten { id, by: 3, own: false, accepted: false, age_s: 5, wall_s: 6 }
    }

    pub(in super::super::super) fn to_look_after(number: u8) -> ToLookAfter {
        let SnapshotSeen { id, reference, .. } = seen(number);
        ToLookAfter { id, reference, replicas: 3 }
    }

    pub(in super::super) fn all() -> Vec<PruneNote> {
        let (chunk, snapshot) = (ChunkId::from_bytes([5; 32]), SnapshotId::from_bytes([6; 32]));
        vec![
            PruneNote::SnapshotSeen(seen(1)),
            PruneNote::SnapshotSeen(seen(2)),
            PruneNote::SnapshotForgotten(forgotten(1)),
            PruneNote::SnapshotForgotten(SnapshotForgotten { own: true, ..forgotten(2) }),
            PruneNote::SnapshotForgotten(SnapshotForgotten { accepted: true, ..forgotten(3) }),
            PruneNote::SnapshotKept(snapshot),
            PruneNote::SnapshotPruned(snapshot),
            PruneNote::SnapshotOver(snapshot),
            PruneNote::Aged { age_s: 1, wall_s: 2 },
            PruneNote::Begun(OpenPrune { prune: [7; 16], grace_s: 600, at: 9 }),
            PruneNote::Ended([7; 16]),
            PruneNote::Doomed {
                chunk,
                ck: ChunkKey::from_bytes([9; 32]),
                awaited: Vec::new(),
                asked: Vec::new(),
            },
            PruneNote::Doomed {
                chunk,
                ck: ChunkKey::from_bytes([9; 32]),
                awaited: (1..=3).map(|node| NodeId::from_bytes([node; 32])).collect(),
                asked: (3..=4)
                    .map(|node| (NodeId::from_bytes([node; 32]), LeaseNonce::from_bytes([8; 16])))
                    .collect(),
            },
            PruneNote::HeldAgain { chunk, node: NodeId::from_bytes([4; 32]) },
            PruneNote::LetGo { chunk, node: NodeId::from_bytes([4; 32]) },
            PruneNote::Spared(chunk),
            PruneNote::ChainChecked { index: 3, length: 17 },
            PruneNote::Asked(NodeId::from_bytes([3; 32])),
            PruneNote::RootDropped(chunk, "a name".to_owned()),
            PruneNote::ToLookAfter(to_look_after(1)),
            PruneNote::LookedAfter(snapshot),
        ]
    }

    #[test]
    fn keys_come_back_and_are_not_printed() {
        for note in all() {
            let mut bytes = Vec::new();
            note.encode(&mut bytes);
            let (tag, rest) = bytes.split_first().unwrap();
            let back = PruneNote::decode(*tag, &mut Fields(rest)).unwrap();
            let mut again = Vec::new();
            back.encode(&mut again);
            assert_eq!(again, bytes);
            let text = format!("{note:?}");
            assert!(!text.contains("9, 9"), "{text}");
        }
    }
}
