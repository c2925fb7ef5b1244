//! What is on an owner's device: a small tree that its user changes, and what of it is to come back
//! byte for byte.

use crate::plan::BackupPlan;
use quloud::repo::tree::{Content, Entry, FileBody, Inode, What, Xattr, path};
use rand::seq::IteratorRandom;
use rand::{Rng, RngExt};
use rand_chacha::ChaCha20Rng;
use std::collections::BTreeMap;

/// What all of it lies in.
pub(crate) const ROOT: &[u8] = b"data";

/// The most entries of a tree.
const ENTRIES_MAX: usize = 16;

/// The most changes between two backups.
const CHANGES_MAX: usize = 4;

/// Everything that is recorded of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime_ns: i64,
    pub(crate) xattrs: Vec<Xattr>,
    pub(crate) stuff: Stuff,
}

/// What a name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stuff {
    Folder(Inode),
    File(Inode, Vec<u8>),
    Link(Vec<u8>),
}

/// A tree, by path.
pub(crate) type Tree = BTreeMap<Vec<u8>, Item>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) tree: Tree,
    inodes: u64,
}

impl Files {
    /// As a device begins.
    pub(crate) fn new(rng: &mut ChaCha20Rng, plan: &BackupPlan, now_ns: i64) -> Self {
        let mut files = Self { tree: Tree::new(), inodes: 0 };
        let inode = files.inode(now_ns);
        files.tree.insert(ROOT.to_vec(), item(rng, now_ns, Stuff::Folder(inode)));
        for _ in 0..plan.files {
            files.add(rng, plan, now_ns);
        }
        files
    }

    /// The user works for a while.
    pub(crate) fn change(&mut self, rng: &mut ChaCha20Rng, plan: &BackupPlan, now_ns: i64) {
        for _ in 0..rng.random_range(0..=CHANGES_MAX) {
            match rng.random_range(0..6) {
                0 => self.add(rng, plan, now_ns),
                1 => self.rename(rng, now_ns),
                2 => self.delete(rng),
                3 => self.chmod(rng, now_ns),
                _ => self.edit(rng, plan, now_ns),
            }
        }
    }

    fn inode(&mut self, ctime_ns: i64) -> Inode {
        self.inodes += 1;
        Inode { ctime_ns, number: self.inodes }
    }

    fn add(&mut self, rng: &mut ChaCha20Rng, plan: &BackupPlan, now_ns: i64) {
        if self.tree.len() >= ENTRIES_MAX {
            return;
        }
        let path = self.free_path(rng);
        let inode = self.inode(now_ns);
        let stuff = match rng.random_range(0..8) {
            0 => Stuff::Folder(inode),
            1 => Stuff::Link(name(rng)),
            _ => Stuff::File(inode, content(rng, plan)),
        };
        let item = item(rng, now_ns, stuff);
        self.tree.insert(path, item);
    }

    /// The content changes, and now and then nothing else that is easily seen.
    fn edit(&mut self, rng: &mut ChaCha20Rng, plan: &BackupPlan, now_ns: i64) {
        let Some(path) = self.some(rng, |item| matches!(item.stuff, Stuff::File(..))) else {
            return;
        };
        let Some(item) = self.tree.get_mut(&path) else { return };
        let Stuff::File(inode, bytes) = &mut item.stuff else { return };
        inode.ctime_ns = now_ns;
        if rng.random_range(0..3) == 0 {
            // As many bytes, and the old date is put back.
            rng.fill_bytes(bytes);
            return;
        }
        *bytes = content(rng, plan);
        item.mtime_ns = now_ns;
    }

    fn chmod(&mut self, rng: &mut ChaCha20Rng, now_ns: i64) {
        let Some(path) = self.some(rng, |_| true) else { return };
        let Some(item) = self.tree.get_mut(&path) else { return };
        item.mode = rng.random_range(0..=0o7777);
        match &mut item.stuff {
            Stuff::Folder(inode) | Stuff::File(inode, _) => inode.ctime_ns = now_ns,
            Stuff::Link(_) => {}
        }
    }

    fn rename(&mut self, rng: &mut ChaCha20Rng, now_ns: i64) {
        let Some(path) = self.some(rng, |item| !matches!(item.stuff, Stuff::Folder(_))) else {
            return;
        };
        let free = self.free_path(rng);
        let Some(mut item) = self.tree.remove(&path) else { return };
        if let Stuff::File(inode, _) = &mut item.stuff {
            inode.ctime_ns = now_ns;
        }
        self.tree.insert(free, item);
    }

    /// A folder goes with all that is in it.
    fn delete(&mut self, rng: &mut ChaCha20Rng) {
        if let Some(path) = self.some(rng, |_| true) {
            self.tree.retain(|other, _| *other != path && !path::is_within(other, &path));
        }
    }

    /// The path of some item but the root.
    fn some(&self, rng: &mut ChaCha20Rng, is_fit: impl Fn(&Item) -> bool) -> Option<Vec<u8>> {
        let fit = self.tree.iter().filter(|(path, item)| *path != ROOT && is_fit(item));
        fit.map(|(path, _)| path.clone()).choose(rng)
    }

    fn free_path(&self, rng: &mut ChaCha20Rng) -> Vec<u8> {
        let folders = self.tree.iter().filter(|(_, it)| matches!(it.stuff, Stuff::Folder(_)));
        let folder = folders.map(|(path, _)| path.clone()).choose(rng);
        let folder = folder.unwrap_or_else(|| ROOT.to_vec());
        loop {
            let path = [folder.as_slice(), b"/", &name(rng)].concat();
            if !self.tree.contains_key(&path) {
                return path;
            }
        }
    }
}

fn item(rng: &mut ChaCha20Rng, now_ns: i64, stuff: Stuff) -> Item {
    let old = rng.random_range(0..=1_000_000_000_000_000);
    let xattrs = match rng.random_range(0..6) {
        0 => vec![(b"user.note".to_vec(), name(rng))],
        _ => Vec::new(),
    };
    Item {
        mode: rng.random_range(0..=0o7777),
        owner: (rng.random_range(0..=2_000), rng.random_range(0..=2_000)),
        mtime_ns: now_ns - old,
        xattrs,
        stuff,
    }
}

/// Raw bytes, as a file system allows them.
fn name(rng: &mut ChaCha20Rng) -> Vec<u8> {
    let length = rng.random_range(1..=9);
    let name: Vec<u8> = (0..length).map(|_| rng.random_range(1..=255)).collect();
    let is_taken = name == b"." || name == b".." || name.contains(&b'/');
    if is_taken { b"named".to_vec() } else { name }
}

/// Nothing, a few bytes, some KiB, or more than one piece.
fn content(rng: &mut ChaCha20Rng, plan: &BackupPlan) -> Vec<u8> {
    let length = match rng.random_range(0..8) {
        0 => 0,
        1 | 2 => rng.random_range(1..=16),
        3 => rng.random_range(plan.piece_bytes..=4 * plan.piece_bytes),
        _ => rng.random_range(1..=plan.file_bytes),
    };
    let mut bytes = vec![0; length];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// The tree as entries in their order; of files nothing is said yet of where their data is.
pub(crate) fn entries(tree: &Tree) -> Vec<(Entry, &[u8])> {
    let mut entries: Vec<(Entry, &[u8])> = tree.iter().map(|(path, it)| entry(path, it)).collect();
    entries.sort_by(|(left, _), (right, _)| path::compare(&left.path, &right.path));
    entries
}

fn entry<'a>(path: &[u8], item: &'a Item) -> (Entry, &'a [u8]) {
    let (what, data) = match &item.stuff {
        Stuff::Folder(inode) => (What::Folder(*inode), [].as_slice()),
        Stuff::Link(target) => (What::Symlink(target.clone()), [].as_slice()),
        Stuff::File(inode, data) => {
            let (bytes, content) = (data.len() as u64, Content::None);
            let body = FileBody { bytes, inode: *inode, extents: None, content };
            (What::File(body), data.as_slice())
        }
    };
    let ((uid, gid), path, xattrs) = (item.owner, path.to_vec(), item.xattrs.clone());
    let (mode, mtime_ns, implied, unreadable) = (item.mode, item.mtime_ns, false, false);
    (Entry { path, mode, uid, gid, mtime_ns, xattrs, implied, unreadable, what }, data)
}

/// What an entry and the data of its file come to; `None` for what no device has.
pub(crate) fn back(entry: Entry, data: Vec<u8>) -> Option<(Vec<u8>, Item)> {
    let stuff = match entry.what {
        What::Folder(inode) => Stuff::Folder(inode),
        What::Symlink(target) => Stuff::Link(target),
        What::File(body) => Stuff::File(body.inode, data),
        _ => return None,
    };
    let Entry { path, mode, uid, gid, mtime_ns, xattrs, implied, unreadable, .. } = entry;
    let is_plain = !implied && !unreadable;
    is_plain.then_some((path, Item { mode, owner: (uid, gid), mtime_ns, xattrs, stuff }))
}
