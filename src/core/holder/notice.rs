//! Telling owners of damage before they ask.
//!
//! The store says which chunks it found damaged: at the start, and whenever a read, an audit or the
//! scrub came upon more. Each is told to every peer that has shown in this connection, by an
//! account request whose MAC held, that the account is its own: at most once for each chunk and
//! connection. It is a word and no proof, and the owner treats it so: it audits.
//!
//! # Bounds
//! [`DAMAGED_MAX`] chunks in all; of more the owners hear by their next audits. [`ACCOUNTS_MAX`]
//! accounts of a peer. A message has [`NOTICE_CHUNKS_MAX`] chunks, and one goes to a peer every
//! [`NOTICE_EVERY`].

use super::HolderRole;
use crate::core::codec::NOTICE_CHUNKS_MAX;
use crate::core::message::{ChunkNotice, StreamMessage};
use crate::core::types::{Account, ChunkId, NodeId, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Damaged chunks that are remembered.
pub const DAMAGED_MAX: usize = 65_536;

/// Accounts that one peer may have shown to be its own: an honest node has one owner.
const ACCOUNTS_MAX: usize = 4;

/// How often a peer is told.
pub const NOTICE_EVERY: Duration = Duration::from_secs(10);

/// Whom there is to tell what.
#[derive(Debug, Default)]
pub(super) struct Notices {
    damaged: BTreeSet<(Account, ChunkId)>,
    owners: BTreeMap<NodeId, Owner>,
}

/// A peer that is an owner, for as long as it is connected.
#[derive(Debug)]
struct Owner {
    accounts: BTreeSet<Account>,
    /// What it is to be told.
    waiting: BTreeSet<(Account, ChunkId)>,
    told: BTreeSet<ChunkId>,
    /// Not before that.
    next: Time,
}

impl Owner {
    fn wait(&mut self, account: Account, id: ChunkId) {
        if !self.told.contains(&id) {
            self.waiting.insert((account, id));
        }
    }
}

impl Notices {
    /// The store found these damaged.
    fn add(&mut self, found: Vec<(Account, ChunkId)>) {
        for (account, id) in found {
            if self.damaged.len() >= DAMAGED_MAX {
                return;
            }
            self.damaged.insert((account, id));
            let owners = self.owners.values_mut();
            let owners = owners.filter(|owner| owner.accounts.contains(&account));
            owners.for_each(|owner| owner.wait(account, id));
        }
    }

    /// The chunk is whole again, or is there no more.
    pub(super) fn forget(&mut self, account: &Account, id: &ChunkId) {
        if self.damaged.remove(&(*account, *id)) {
            for owner in self.owners.values_mut() {
                owner.waiting.remove(&(*account, *id));
            }
        }
    }

    /// This peer has shown that the account is its own.
    pub(super) fn is_owner(&mut self, now: Time, node: NodeId, account: Account) {
        let nobody = || Owner {
            accounts: BTreeSet::new(),
            waiting: BTreeSet::new(),
            told: BTreeSet::new(),
            next: now,
        };
        let owner = self.owners.entry(node).or_insert_with(nobody);
        if owner.accounts.len() >= ACCOUNTS_MAX || !owner.accounts.insert(account) {
            return;
        }
        let first = (account, ChunkId::from_bytes([0; 32]));
        let own = self.damaged.range(first..).take_while(|(of, _)| *of == account);
        own.for_each(|(account, id)| owner.wait(*account, *id));
    }

    /// Connected peers that have shown that an account is their own, each with one such account: an
    /// honest node has no other.
    pub(super) fn owners(&self) -> impl Iterator<Item = (NodeId, Account)> + '_ {
        let account = |owner: &Owner| owner.accounts.first().copied();
        self.owners.iter().filter_map(move |(node, owner)| Some((*node, account(owner)?)))
    }

    pub(super) fn drop_peer(&mut self, node: &NodeId) {
        self.owners.remove(node);
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        let waits = self.owners.values().filter(|owner| !owner.waiting.is_empty());
        waits.map(|owner| owner.next).min()
    }

    /// Chunks that are remembered.
    pub(super) fn len(&self) -> usize {
        self.damaged.len()
    }

    /// Some chunks of one account that somebody is to be told of now.
    fn take(&mut self, now: Time) -> Option<(NodeId, Account, Vec<ChunkId>)> {
        let is_due = |owner: &Owner| !owner.waiting.is_empty() && owner.next <= now;
        let (node, owner) = self.owners.iter_mut().find(|(_, owner)| is_due(owner))?;
        let (account, _) = *owner.waiting.first()?;
        let own = owner.waiting.iter().take_while(|(of, _)| *of == account);
        let ids: Vec<ChunkId> = own.map(|(_, id)| *id).take(NOTICE_CHUNKS_MAX).collect();
        for id in &ids {
            owner.waiting.remove(&(account, *id));
            owner.told.insert(*id);
        }
        owner.next = now.after(NOTICE_EVERY);
        Some((*node, account, ids))
    }
}

impl HolderRole {
    pub(super) fn on_chunks_damaged(&mut self, now: Time, found: Vec<(Account, ChunkId)>) {
        self.notices.add(found);
        self.tell_owners(now);
    }

    /// Tells whoever is to be told now.
    pub(super) fn tell_owners(&mut self, now: Time) {
        while let Some((node, account, ids)) = self.notices.take(now) {
            // The key was derived for the request that named the account.
            let Some(pair) = self.keys.pair_key(&account) else { continue };
            let between = (self.hello.mesh, self.me(), node);
            let notice = ChunkNotice::new(account, ids, between, &pair);
            self.send(node, StreamMessage::ChunkNotice(notice));
        }
    }
}
