//! The addresses of members met before, kept across restarts.
//!
//! A node that knows only dead bootstrap addresses finds its mesh again through this. Only members
//! whose Hello was checked get in, and nodes that the user named, at most [`MEMBERS_MAX`] of them;
//! the file is replaced as a whole and is nothing but a convenience: one that cannot be read is a
//! new beginning.

use super::address;
use super::ids;
use super::{node_of_peer_id, peer_id_of};
use crate::core::types::NodeId;
use crate::replaced;
use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Members kept; the longest unseen go first.
pub(super) const MEMBERS_MAX: usize = 1000;

/// Addresses kept of each.
pub(super) const ADDRESSES_MAX: usize = 8;

/// A larger file is not ours.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// One member.
#[derive(Debug, Clone)]
pub(super) struct Member {
    /// The address that worked last stands first.
    pub(super) addresses: Vec<Multiaddr>,
    /// Seconds since 1970 when it was last connected.
    pub(super) seen: u64,
    /// Failed attempts since.
    pub(super) failures: u32,
    /// Not to be tried before.
    pub(super) next: Instant,
}

/// The members met so far.
#[derive(Debug)]
pub(super) struct AddressBook {
    path: Option<PathBuf>,
    members: BTreeMap<NodeId, Member>,
    changed: bool,
}

/// The file: `{"version":1,"members":[{"peer_id":"12D3..","addresses":["/ip4/.."],"seen":17..}]}`.
#[derive(Debug, Serialize, Deserialize)]
struct File {
    members: Vec<Line>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    peer_id: String,
    addresses: Vec<String>,
    seen: u64,
}

impl AddressBook {
    /// Reads the book at `path`, or begins an empty one.
    pub(super) fn open(path: Option<PathBuf>, now: Instant) -> Self {
        let mut book = Self { path, members: BTreeMap::new(), changed: false };
        let Some(path) = &book.path else {
            return book;
        };
        match replaced::read::<File>(path, FILE_BYTES_MAX) {
            Ok(file) => {
                for line in file.members.into_iter().take(MEMBERS_MAX) {
                    book.restore(line, now);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "the address book cannot be read; begun anew"),
        }
        book
    }

    fn restore(&mut self, line: Line, now: Instant) {
        let Some(node) = node_of_peer_id(&line.peer_id) else {
            return;
        };
        let addresses = line.addresses.iter().filter_map(|text| text.parse().ok());
        let addresses: Vec<_> =
            addresses.filter(address::is_dialable).take(ADDRESSES_MAX).collect();
        if !addresses.is_empty() {
            let member = Member { addresses, seen: line.seen, failures: 0, next: now };
            self.members.insert(node, member);
        }
    }

    /// A member is connected; `addresses` is what it can be reached at, the best first.
    pub(super) fn met(&mut self, node: NodeId, addresses: &[Multiaddr], now: Instant) {
        let seen = unix_now();
        match self.members.get_mut(&node) {
            Some(member) => {
                let mut merged = addresses.to_vec();
                merged.extend(member.addresses.iter().filter(|a| !addresses.contains(a)).cloned());
                merged.truncate(ADDRESSES_MAX);
                *member = Member { addresses: merged, seen, failures: 0, next: now };
            }
            None if addresses.is_empty() => return,
            None => {
                self.make_room();
                let addresses = addresses.iter().take(ADDRESSES_MAX).cloned().collect();
                self.members.insert(node, Member { addresses, seen, failures: 0, next: now });
            }
        }
        self.changed = true;
    }

    fn make_room(&mut self) {
        while self.members.len() >= MEMBERS_MAX {
            let oldest = self.members.iter().min_by_key(|(_, member)| member.seen);
            match oldest.map(|(node, _)| *node) {
                Some(node) => self.members.remove(&node),
                None => return,
            };
        }
    }

    /// What is known of a member.
    pub(super) fn member(&self, node: &NodeId) -> Option<&Member> {
        self.members.get(node)
    }

    /// For noting attempts.
    pub(super) fn member_mut(&mut self, node: &NodeId) -> Option<&mut Member> {
        self.members.get_mut(node)
    }

    /// Members that may be tried now, the last seen first.
    pub(super) fn due(&self, now: Instant) -> Vec<NodeId> {
        let mut due: Vec<_> = self.members.iter().filter(|(_, m)| m.next <= now).collect();
        due.sort_by_key(|(_, member)| (member.failures, std::cmp::Reverse(member.seen)));
        due.into_iter().map(|(node, _)| *node).collect()
    }

    /// The write that brings the file up to date, to be run where blocking is allowed; `None` where
    /// nothing has changed.
    pub(super) fn save(&mut self) -> Option<impl FnOnce() -> io::Result<()> + Send + 'static> {
        let path = self.path.clone().filter(|_| self.changed)?;
        self.changed = false;
        let members = self.members.iter().map(|(node, member)| Line {
            peer_id: peer_id_of(node),
            addresses: member.addresses.iter().map(Multiaddr::to_string).collect(),
            seen: member.seen,
        });
        let file = File { members: members.collect() };
        Some(move || replaced::write(&path, &file))
    }
}

/// Writes nodes into the book of a node that does not run: each address ends in `/p2p/PEERID`.
/// Others say nobody's name, and are left out.
///
/// # Errors
/// The book cannot be written.
pub fn remember(path: &Path, addresses: &[String]) -> io::Result<()> {
    let now = Instant::now();
    let mut book = AddressBook::open(Some(path.to_owned()), now);
    for text in addresses {
        let Ok(address) = text.parse::<Multiaddr>() else { continue };
        let (address, peer) = address::split_peer(address);
        if let Some(node) = peer.as_ref().and_then(ids::node)
            && address::is_dialable(&address)
        {
            book.met(node, &[address], now);
        }
    }
    book.save().map_or(Ok(()), |save| save())
}

/// Addresses of the members in the book at `path`, the last seen first: of each the one of most use
/// to others, with `/p2p/PEERID` at its end. None where there is no book that can be read.
pub fn known(path: &Path, most: usize) -> Vec<String> {
    let book = AddressBook::open(Some(path.to_owned()), Instant::now());
    let mut members: Vec<(NodeId, Member)> = book.members.into_iter().collect();
    members.sort_by_key(|(_, member)| std::cmp::Reverse(member.seen));
    let best = |(node, member): (NodeId, Member)| {
        let address = address::shareable(member.addresses).into_iter().next()?;
        Some(address::with_peer(address, ids::peer_id(&node)).to_string())
    };
    members.into_iter().filter_map(best).take(most).collect()
}

fn unix_now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u64) -> NodeId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        NodeId::from_bytes(bytes)
    }

    fn addresses(ports: std::ops::Range<u16>) -> Vec<Multiaddr> {
        ports.map(|port| format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap()).collect()
    }

    fn at(folder: &tempfile::TempDir) -> Option<PathBuf> {
        Some(folder.path().join("peers.json"))
    }

    #[test]
    fn a_saved_book_is_the_same_after_a_restart() {
        let (folder, now) = (tempfile::tempdir().unwrap(), Instant::now());
        let mut book = AddressBook::open(at(&folder), now);
        assert!(book.save().is_none());
        book.met(node(1), &addresses(1..3), now);
        book.save().unwrap()().unwrap();
        assert!(book.save().is_none());
        let read = AddressBook::open(at(&folder), now);
        assert_eq!(read.member(&node(1)).unwrap().addresses, addresses(1..3));
        assert_eq!(read.due(now), [node(1)]);
    }

    #[test]
    fn a_book_that_cannot_be_read_is_a_new_beginning() {
        let (folder, now) = (tempfile::tempdir().unwrap(), Instant::now());
        for text in ["", "{", "[]", r#"{"version":2,"members":[]}"#, "\u{0}"] {
            std::fs::write(at(&folder).unwrap(), text).unwrap();
            assert_eq!(AddressBook::open(at(&folder), now).members.len(), 0);
        }
        let half = r#"{"version":1,"members":[{"peer_id":"x","addresses":[],"seen":1},
            {"peer_id":"12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp",
             "addresses":["no","/ip4/192.0.2.1/tcp/0","/ip4/192.0.2.1/tcp/9"],"seen":1}]}"#;
        std::fs::write(at(&folder).unwrap(), half).unwrap();
        let book = AddressBook::open(at(&folder), now);
        let members: Vec<_> = book.members.values().map(|m| m.addresses.len()).collect();
        assert_eq!(members, [1]);
    }

    #[test]
    fn nodes_that_the_user_names_are_remembered_beside_those_that_were_met() {
        let (folder, now) = (tempfile::tempdir().unwrap(), Instant::now());
        let path = at(&folder).unwrap();
        let mut book = AddressBook::open(at(&folder), now);
        book.met(node(1), &addresses(1..2), now);
        book.save().unwrap()().unwrap();
        let named = format!("/dns4/nas.example/tcp/9/p2p/{}", peer_id_of(&node(2)));
        let nameless = "/ip4/192.0.2.1/tcp/5".to_owned();
        remember(&path, &[named, nameless, "no address".to_owned()]).unwrap();
        let read = AddressBook::open(at(&folder), now);
        assert_eq!(read.members.len(), 2);
        let known = &read.member(&node(2)).unwrap().addresses;
        assert_eq!(known, &["/dns4/nas.example/tcp/9".parse().unwrap()]);
        let all = super::known(&path, 9);
        let named = all.iter().find(|address| address.starts_with("/dns4")).unwrap();
        assert!(named.ends_with(&format!("/tcp/9/p2p/{}", peer_id_of(&node(2)))), "{named}");
        assert_eq!((all.len(), super::known(&path, 1).len()), (2, 1));
        assert!(super::known(&folder.path().join("none"), 9).is_empty());
    }

    #[test]
    fn a_thousand_members_are_kept_and_eight_addresses_each() {
        let now = Instant::now();
        let mut book = AddressBook::open(None, now);
        for number in 0..1100 {
            book.met(node(number), &addresses(1..20), now);
        }
        assert_eq!(book.members.len(), MEMBERS_MAX);
        assert!(book.members.values().all(|m| m.addresses.len() == ADDRESSES_MAX));
        book.met(node(1099), &addresses(30..31), now);
        let merged = &book.member(&node(1099)).unwrap().addresses;
        assert_eq!((merged[0].clone(), merged.len()), (addresses(30..31)[0].clone(), 8));
    }
}
