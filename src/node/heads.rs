//! Heads over the drive loop: storing one on its holders, and asking everyone for some.
//!
//! What the records that come back amount to is not decided here.

use super::audit::liars;
use super::failures;
use super::handle::NodeHandle;
use super::inner::Inner;
use super::jobs::{DriveCommand, EVENTS_QUEUED_MAX, JobEvents};
use super::report::Failure;
use crate::core::owner::{HeadsJob, Load, OwnerEvent, SoughtHead, StoreJob};
use crate::core::types::{ChunkId, NodeId, Ticket, Time};
use crate::crypto::head::{HeadKeys, HeadRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::mpsc;

/// How a record of a head is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadWish {
    /// How many distinct nodes shall hold it, 1 to 32.
    pub replicas: u8,
    /// Nodes that hold an earlier record: those that are connected are asked first.
    pub held_by: Vec<NodeId>,
    /// When it is short, it is given up after so long.
    pub patience: Duration,
}

/// How heads are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadsWanted {
    /// Of each the newest record, and as many that it superseded, at most 16.
    pub superseded: u8,
    /// For what only reads: who is much further away than those who answer is not waited for.
    pub brief: bool,
    /// How long it may take.
    pub patience: Duration,
}

/// What storing a record of a head came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeadStored {
    /// Whether as many nodes as were wished for acknowledged it.
    pub is_stored: bool,
    /// Who acknowledged it.
    pub holders: BTreeSet<NodeId>,
    /// Who says that it is not the newest, which need not be true.
    pub superseded_by: BTreeSet<NodeId>,
}

/// What everyone who could be asked keeps of some heads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeadsFound {
    /// Records of which id and signature were checked, each with who served it.
    pub records: Vec<(NodeId, HeadRecord)>,
    /// Who served records of each head.
    pub answered: BTreeMap<ChunkId, Vec<NodeId>>,
    /// Nodes that were named or made an offer, and said nothing of use.
    pub silent: Vec<NodeId>,
}

impl NodeHandle {
    /// Stores a record of the head with these keys. Ends when as many hold it as were wished for,
    /// when the patience is over, or when a newer record of the head is stored by another call. The
    /// patience begins when the window of what is being stored has room for one thing more.
    ///
    /// # Errors
    /// The node is being shut down.
    pub async fn store_head(
        &self,
        keys: &HeadKeys,
        record: HeadRecord,
        wish: HeadWish,
    ) -> Result<HeadStored, Failure> {
        self.inner.store_head(keys, record, wish).await
    }

    /// Asks what is kept of these heads, at most 32 of them. This node's own store comes first,
    /// then the nodes that are `known` to keep one; everyone who makes an offer is asked only where
    /// they are too few, or none is named: who wants to hear everyone names none, and listens for a
    /// second and a half at least, unless the question is brief.
    ///
    /// A few such questions run at once; the patience of others begins when it is their turn.
    ///
    /// # Errors
    /// The node is being shut down.
    pub async fn find_heads(
        &self,
        heads: &[HeadKeys],
        known: &BTreeMap<ChunkId, Vec<NodeId>>,
        wanted: HeadsWanted,
    ) -> Result<HeadsFound, Failure> {
        self.inner.find_heads(heads, known, wanted).await
    }
}

impl Inner {
    /// See [`NodeHandle::store_head`].
    pub(super) async fn store_head(
        &self,
        keys: &HeadKeys,
        record: HeadRecord,
        wish: HeadWish,
    ) -> Result<HeadStored, Failure> {
        let HeadWish { replicas, held_by, patience } = wish;
        let load = Load::head(keys, record);
        let without = liars(self).into_iter().collect();
        // The drive loop sets ticket and deadline, here and below.
        let (ticket, deadline) = (Ticket(0), Time::default());
        let job =
            StoreJob { ticket, load, replicas, held_by, without, beside: Vec::new(), deadline };
        let (sender, mut heard) = mpsc::channel(EVENTS_QUEUED_MAX);
        let command = DriveCommand::Store { job, events: JobEvents::new(sender, 0), patience };
        self.stores.send(command).await.map_err(|_| failures::stopped())?;
        let mut stored = HeadStored::default();
        while let Some((_, event)) = heard.recv().await {
            match event {
                OwnerEvent::Acked { node, .. } => drop(stored.holders.insert(node)),
                OwnerEvent::Superseded { by: Some(node), .. } => {
                    stored.superseded_by.insert(node);
                }
                OwnerEvent::Stored { holders, .. } => {
                    stored.holders.extend(holders);
                    return Ok(HeadStored { is_stored: true, ..stored });
                }
                OwnerEvent::Short { .. } | OwnerEvent::Superseded { by: None, .. } => {
                    return Ok(stored);
                }
                OwnerEvent::Fetched { .. }
                | OwnerEvent::NotFetched { .. }
                | OwnerEvent::HeadSeen { .. }
                | OwnerEvent::HeadsDone { .. }
                | OwnerEvent::Located { .. }
                | OwnerEvent::LocateDone { .. }
                | OwnerEvent::Noticed { .. }
                | OwnerEvent::StandingAsked { .. }
                | OwnerEvent::Account { .. } => {}
            }
        }
        Err(failures::stopped())
    }

    /// See [`NodeHandle::find_heads`].
    pub(super) async fn find_heads(
        &self,
        heads: &[HeadKeys],
        known: &BTreeMap<ChunkId, Vec<NodeId>>,
        wanted: HeadsWanted,
    ) -> Result<HeadsFound, Failure> {
        let HeadsWanted { superseded, brief, patience } = wanted;
        let sought = |keys: &HeadKeys| {
            let id = keys.id();
            let known = known.get(&id).cloned().unwrap_or_default();
            SoughtHead { id, read: keys.read_secret(), known }
        };
        let heads = heads.iter().map(sought).collect();
        let (ticket, deadline) = (Ticket(0), Time::default());
        let job = HeadsJob { ticket, heads, superseded, brief, deadline };
        let (sender, mut heard) = mpsc::channel(EVENTS_QUEUED_MAX);
        let command = DriveCommand::FindHeads { job, events: JobEvents::new(sender, 0), patience };
        self.questions.send(command).await.map_err(|_| failures::stopped())?;
        let mut found = HeadsFound::default();
        while let Some((_, event)) = heard.recv().await {
            match event {
                OwnerEvent::HeadSeen { from, record, .. } => {
                    let of = found.answered.entry(record.id()).or_default();
                    if !of.contains(&from) {
                        of.push(from);
                    }
                    found.records.push((from, record));
                }
                OwnerEvent::HeadsDone { silent, .. } => {
                    found.silent = silent;
                    return Ok(found);
                }
                OwnerEvent::Acked { .. }
                | OwnerEvent::Stored { .. }
                | OwnerEvent::Short { .. }
                | OwnerEvent::Superseded { .. }
                | OwnerEvent::Fetched { .. }
                | OwnerEvent::NotFetched { .. }
                | OwnerEvent::Located { .. }
                | OwnerEvent::LocateDone { .. }
                | OwnerEvent::Noticed { .. }
                | OwnerEvent::StandingAsked { .. }
                | OwnerEvent::Account { .. } => {}
            }
        }
        Err(failures::stopped())
    }
}
