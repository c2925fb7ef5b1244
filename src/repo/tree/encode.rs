//! Writes leaves: one that is being filled, and its bytes once it is full.

use super::leaf::{
    Class, HEAD_BYTES, LEAF_CLASSES_MAX, LEAF_ENTRIES_MAX, SCHEME_SINGLE, TREE_VERSION, content,
    flag, kind, table_bytes,
};
use super::{BlobHash, Content, Entry, FileBody, Inode, What};
use crate::core::types::ChunkId;
use crate::repo::reference::ChunkRef;
use crate::repo::varint::{put, put_signed};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// A leaf is closed from here on.
const LEAF_BYTES: usize = 256 << 10;

/// A file's data in the pack that is still being filled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) offset: u32,
    pub(super) hash: BlobHash,
}

/// A leaf that is being filled.
#[derive(Default)]
pub(super) struct OpenLeaf {
    count: usize,
    /// Bytes of the files in it.
    bytes: u64,
    first: Vec<u8>,
    last: Vec<u8>,
    mtime_ns: i64,
    inode: u64,
    entries: Vec<u8>,
    /// `None`: the pack that is still being filled.
    references: Vec<Option<ChunkRef>>,
    by_id: BTreeMap<ChunkId, usize>,
    open_pack: Option<usize>,
    classes: Vec<Class>,
    by_class: BTreeMap<Class, usize>,
}

/// A leaf that is full.
pub(super) struct ClosedLeaf {
    pub(super) plaintext: Zeroizing<Vec<u8>>,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) first: Vec<u8>,
    pub(super) last: Vec<u8>,
}

impl OpenLeaf {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Whether it takes no more, wherever the cut may be.
    pub(super) fn is_full(&self) -> bool {
        let tables = table_bytes(self.references.len(), self.classes.len());
        self.entries.len() + tables >= LEAF_BYTES
            || self.count >= LEAF_ENTRIES_MAX
            || self.classes.len() >= LEAF_CLASSES_MAX
    }

    /// Adds an entry that was checked. `slot` is where its data is, if that is the open pack.
    pub(super) fn add(&mut self, entry: &Entry, slot: Option<Slot>) {
        let (number, flags) = (kind_of(&entry.what), flags_of(entry));
        let alike = entry.path.iter().zip(&self.last).take_while(|(a, b)| a == b).count();
        let suffix = entry.path.get(alike..).unwrap_or_default();
        let class = self.class((entry.mode, entry.uid, entry.gid));
        self.entries.extend([number, flags]);
        put(alike as u64, &mut self.entries);
        put_bytes(suffix, &mut self.entries);
        put(class as u64, &mut self.entries);
        put_signed(entry.mtime_ns.wrapping_sub(self.mtime_ns), &mut self.entries);
        if !entry.xattrs.is_empty() {
            put(entry.xattrs.len() as u64, &mut self.entries);
            for (name, value) in &entry.xattrs {
                put_bytes(name, &mut self.entries);
                put_bytes(value, &mut self.entries);
            }
        }
        match &entry.what {
            What::Folder(inode) => self.put_inode(inode, entry.mtime_ns),
            What::File(body) => self.put_file(body, entry.mtime_ns, slot),
            What::Symlink(target) | What::HardLink(target) => put_bytes(target, &mut self.entries),
            What::Device { number, .. } => put(*number, &mut self.entries),
            What::Fifo | What::Socket => {}
        }
        if self.count == 0 {
            self.first.clone_from(&entry.path);
        }
        self.last.clone_from(&entry.path);
        self.mtime_ns = entry.mtime_ns;
        self.count += 1;
        self.bytes = self.bytes.saturating_add(entry.bytes());
    }

    /// The pack that was being filled is sealed now.
    pub(super) fn pack_closed(&mut self, pack: &ChunkRef) {
        if let Some(at) = self.open_pack.take()
            && let Some(slot) = self.references.get_mut(at)
        {
            *slot = Some(pack.duplicate());
            self.by_id.entry(pack.id).or_insert(at);
        }
    }

    /// The leaf's bytes. Its packs are closed.
    pub(super) fn close(self) -> ClosedLeaf {
        let tables = table_bytes(self.references.len(), self.classes.len());
        let room = HEAD_BYTES + tables + self.entries.len();
        let mut plaintext = Zeroizing::new(Vec::with_capacity(room));
        plaintext.extend([TREE_VERSION, 0, SCHEME_SINGLE, 0]);
        plaintext.extend((self.count as u32).to_le_bytes());
        plaintext.extend((self.references.len() as u32).to_le_bytes());
        plaintext.extend((self.classes.len() as u16).to_le_bytes());
        plaintext.extend([0, 0]);
        for reference in &self.references {
            reference.as_ref().expect("a leaf's packs are closed before it is").put(&mut plaintext);
        }
        for (mode, uid, gid) in &self.classes {
            plaintext.extend([mode, uid, gid].into_iter().flat_map(|part| part.to_le_bytes()));
        }
        plaintext.extend_from_slice(&self.entries);
        let Self { count, bytes, first, last, .. } = self;
        ClosedLeaf { plaintext, entries: count as u64, bytes, first, last }
    }

    fn put_inode(&mut self, inode: &Inode, mtime_ns: i64) {
        put_signed(inode.ctime_ns.wrapping_sub(mtime_ns), &mut self.entries);
        put_signed(inode.number.wrapping_sub(self.inode).cast_signed(), &mut self.entries);
        self.inode = inode.number;
    }

    fn put_file(&mut self, body: &FileBody, mtime_ns: i64, slot: Option<Slot>) {
        put(body.bytes, &mut self.entries);
        self.put_inode(&body.inode, mtime_ns);
        if let Some(extents) = &body.extents {
            put(extents.0.len() as u64, &mut self.entries);
            let mut end = 0;
            for range in &extents.0 {
                put(range.start.saturating_sub(end), &mut self.entries);
                put(range.end.saturating_sub(range.start), &mut self.entries);
                end = range.end;
            }
        }
        let (tag, reference) = match (&body.content, slot) {
            (_, Some(_)) => (content::PACKED, Some(self.open_pack())),
            (Content::None, None) => (content::NONE, None),
            (Content::Packed { pack, .. }, None) => (content::PACKED, Some(self.reference(pack))),
            (Content::Piece(piece), None) => (content::PIECE, Some(self.reference(piece))),
            (Content::Listing(root), None) => (content::LISTING, Some(self.reference(root))),
        };
        self.entries.push(tag);
        if let Some(reference) = reference {
            put(reference as u64, &mut self.entries);
        }
        let packed = match &body.content {
            Content::Packed { offset, hash, .. } => Some(Slot { offset: *offset, hash: *hash }),
            _ => slot,
        };
        if let Some(Slot { offset, hash }) = packed {
            put(offset.into(), &mut self.entries);
            self.entries.extend_from_slice(&hash);
        }
    }

    fn reference(&mut self, reference: &ChunkRef) -> usize {
        let references = &mut self.references;
        *self.by_id.entry(reference.id).or_insert_with(|| {
            references.push(Some(reference.duplicate()));
            references.len() - 1
        })
    }

    fn open_pack(&mut self) -> usize {
        let references = &mut self.references;
        *self.open_pack.get_or_insert_with(|| {
            references.push(None);
            references.len() - 1
        })
    }

    fn class(&mut self, class: Class) -> usize {
        let classes = &mut self.classes;
        *self.by_class.entry(class).or_insert_with(|| {
            classes.push(class);
            classes.len() - 1
        })
    }
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn kind_of(what: &What) -> u8 {
    match what {
        What::Folder(_) => kind::FOLDER,
        What::File(_) => kind::FILE,
        What::Symlink(_) => kind::SYMLINK,
        What::HardLink(_) => kind::HARD_LINK,
        What::Fifo => kind::FIFO,
        What::Device { block: false, .. } => kind::CHARACTER_DEVICE,
        What::Device { block: true, .. } => kind::BLOCK_DEVICE,
        What::Socket => kind::SOCKET,
    }
}

fn flags_of(entry: &Entry) -> u8 {
    let sparse = matches!(&entry.what, What::File(body) if body.extents.is_some());
    let bits = [
        (!entry.xattrs.is_empty(), flag::XATTRS),
        (sparse, flag::SPARSE),
        (entry.implied, flag::IMPLIED),
        (entry.unreadable, flag::UNREADABLE),
    ];
    bits.iter().filter(|(set, _)| *set).fold(0, |flags, (_, bit)| flags | bit)
}
