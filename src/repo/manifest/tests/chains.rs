//! Chains: what was tampered with, left out, put in another order or rolled back is named.

use super::*;
use crate::repo::head::{HeadPayload, Linked};
use crate::repo::manifest::chain::{Chain, ChainFault, ChainView, Seen};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

fn device() -> DeviceId {
    DeviceId::from_bytes([1; 16])
}

/// A chain, and the plaintexts that its head names.
struct Written {
    chain: Chain,
    plaintexts: Vec<Zeroizing<Vec<u8>>>,
}

impl Written {
    fn new(entries: u8) -> Self {
        let mut made = Self { chain: Chain::new(device(), 3, 0), plaintexts: Vec::new() };
        (0..entries).for_each(|number| made.push(Body::Add(added(number + 1))));
        made
    }

    fn push(&mut self, body: Body) {
        let entry = self.chain.next(body, 0, 0);
        let plaintext = entry.encode().unwrap();
        let at = added(entry.number.to_le_bytes()[0]).reference;
        self.chain.push(&entry, &plaintext, at);
        if matches!(entry.body, Body::Checkpoint(_)) {
            self.plaintexts.clear();
        }
        self.plaintexts.push(plaintext);
    }

    fn head(&self) -> HeadPayload {
        let mut head = HeadPayload {
            number: 1,
            device: device(),
            index: 0,
            lamport: 0,
            signed_at_s: 0,
            replicas: 3,
            retired: false,
            chain: 0,
            newest: [0; 32],
            checkpoint: None,
            recent: vec![],
            devices: BTreeMap::new(),
            holders: vec![],
        };
        self.chain.name_in(&mut head);
        head
    }

    fn verify(&self, seen: Option<Seen>) -> Result<(Chain, ChainView), ChainFault> {
        Chain::verify(&self.head(), 0, &self.plaintexts, seen)
    }

    fn fault(&self) -> ChainFault {
        self.verify(None).unwrap_err()
    }
}

#[test]
fn a_chain_comes_back_and_goes_on() {
    let mut written = Written::new(5);
    let (mut chain, view) = written.verify(None).unwrap();
    assert_eq!((view.entries.len(), chain.seen()), (5, written.chain.seen()));
    // Both write the same next entry.
    let own = written.chain.next(Body::Forget(vec![added(1).id]), 7, 20).encode().unwrap();
    let next = chain.next(Body::Forget(vec![added(1).id]), 7, 20);
    assert_eq!(*next.encode().unwrap(), *own);
    assert_eq!((next.number, next.lamport), (5, 21));
    chain.push(&next, &own, added(9).reference);
    written.chain = chain;
    written.plaintexts.push(own);
    assert!(written.verify(None).is_ok());
    assert!(Written::new(0).verify(None).unwrap().1.entries.is_empty());
}

#[test]
fn a_checkpoint_replaces_what_it_covers() {
    let mut written = Written::new(14);
    assert!(!written.chain.needs_checkpoint());
    written.push(Body::Add(added(15)));
    assert!(written.chain.needs_checkpoint() && !written.chain.is_full());
    // One more has room: a forget, where no checkpoint fits before it.
    written.push(Body::Forget(vec![added(1).id]));
    assert!(written.chain.is_full() && written.verify(None).is_ok());
    written.push(Body::Checkpoint(checkpoint()));
    assert!(!written.chain.needs_checkpoint());
    written.push(Body::Add(added(20)));
    assert_eq!((written.plaintexts.len(), written.head().chain), (2, 18));
    let (_, view) = written.verify(None).unwrap();
    assert_eq!(view.checkpoint.unwrap().live.len(), 2);
    let numbers: Vec<u64> = view.entries.iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, [17]);
    // What is no checkpoint in its place is told.
    written.plaintexts[0] = Written::new(1).plaintexts.remove(0);
    assert!(written.verify(None).is_err());
}

#[test]
fn a_checkpoint_that_covers_what_was_seen_proves_nothing_of_it() {
    let mut written = Written::new(3);
    let seen = written.chain.seen();
    let linked = |written: &Written, seen| written.verify(seen).map(|(chain, _)| chain.linked());
    assert_eq!(linked(&written, Some(seen)), Ok(Linked::ToSeen));
    written.push(Body::Checkpoint(checkpoint()));
    // It names the one before it, which was seen.
    assert_eq!(linked(&written, Some(seen)), Ok(Linked::ToSeen));
    let other = Seen { newest: [9; 32], ..seen };
    assert_eq!(linked(&written, Some(other)), Err(ChainFault::Altered { number: 2 }));
    written.push(Body::Checkpoint(checkpoint()));
    assert_eq!(linked(&written, Some(seen)), Ok(Linked::Unknown));
    assert_eq!(linked(&written, None), Ok(Linked::ToSeen));
}

#[test]
fn a_chain_with_a_gap_is_named() {
    for lost in 0..4 {
        let mut written = Written::new(5);
        written.plaintexts.remove(lost);
        assert_eq!(written.fault(), ChainFault::Gap { number: lost as u64 });
    }
    let mut written = Written::new(5);
    written.plaintexts.pop();
    assert_eq!(written.fault(), ChainFault::Truncated { number: 4 });
}

#[test]
fn a_reordered_chain_is_named() {
    let mut written = Written::new(5);
    written.plaintexts.swap(1, 3);
    assert_eq!(written.fault(), ChainFault::Reordered { number: 1 });
}

#[test]
fn an_altered_entry_is_named() {
    // A good entry in the place of the one that was written.
    for at in 0..5_u8 {
        let mut written = Written::new(5);
        let mut other = ManifestEntry::decode(&written.plaintexts[usize::from(at)]).unwrap();
        other.wall_ns = 99;
        written.plaintexts[usize::from(at)] = other.encode().unwrap();
        assert_eq!(written.fault(), ChainFault::Altered { number: at.into() });
    }
    // Another device's, another generation's, one that is no entry, one too many.
    let with = |change: fn(&mut ManifestEntry)| {
        let mut written = Written::new(5);
        let mut last = ManifestEntry::decode(&written.plaintexts[4]).unwrap();
        change(&mut last);
        written.plaintexts[4] = last.encode().unwrap();
        written.fault()
    };
    assert_eq!(with(|e| e.index = 4), ChainFault::Altered { number: 4 });
    assert_eq!(with(|e| e.generation = 1), ChainFault::Altered { number: 4 });
    assert_eq!(with(|e| e.lamport = 99), ChainFault::Altered { number: 4 });
    assert_eq!(
        with(|e| e.device = DeviceId::from_bytes([9; 16])),
        ChainFault::Altered { number: 4 }
    );
    let mut written = Written::new(5);
    written.plaintexts[2][0] = 9;
    let fault = ManifestFault::Version(9);
    assert_eq!(written.fault(), ChainFault::Entry { number: 2, fault });
    let mut longer = Written::new(6);
    let plaintexts = std::mem::take(&mut longer.plaintexts);
    let written = Written { plaintexts, ..Written::new(5) };
    assert_eq!(written.fault(), ChainFault::Altered { number: 5 });
}

#[test]
fn a_rolled_back_chain_is_named() {
    let (old, new) = (Written::new(3), Written::new(5));
    let seen = new.chain.seen();
    let fault = old.verify(Some(seen)).unwrap_err();
    assert_eq!(fault, ChainFault::RolledBack { found: 3, seen: 5 });
    assert!(new.verify(Some(old.chain.seen())).is_ok());
    assert!(new.verify(Some(seen)).is_ok());
    // As long as it was, and another one.
    let other = Seen { newest: [9; 32], ..old.chain.seen() };
    assert_eq!(new.verify(Some(other)).unwrap_err(), ChainFault::Altered { number: 2 });
}
