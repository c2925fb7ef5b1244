//! Reads leaves, entry by entry. Whatever the bytes, every entry that comes out passed
//! [`check`](super::check).

use super::check::{Order, TreeFault, check, ensure};
use super::leaf::{
    CLASS_BYTES, Class, LEAF_CLASSES_MAX, LEAF_ENTRIES_MAX, content, flag, kind, table_bytes,
};
use super::node::{self, Head};
use super::{
    BlobHash, Content, EXTENTS_MAX, Entry, Extents, FileBody, Inode, What, XATTRS_MAX, Xattr,
};
use crate::repo::reference::{ChunkRef, REF_BYTES};
use crate::repo::varint::{take, take_signed};
use bytes::{Buf, Bytes};

/// A leaf that is being read.
#[derive(Debug)]
pub(super) struct Leaf {
    references: Vec<ChunkRef>,
    classes: Vec<Class>,
    /// How many of them were named.
    named: (usize, usize),
    left: u32,
    rest: Bytes,
    last: Vec<u8>,
    mtime_ns: i64,
    inode: u64,
    /// Bytes of the files that came out.
    bytes: u64,
    entries: u32,
}

impl Leaf {
    /// Reads the tables.
    pub(super) fn decode(plaintext: Bytes) -> Result<Self, TreeFault> {
        let length = TreeFault::Length(plaintext.len());
        let Head { entries, references, classes, mut rest } = node::head(plaintext, 0)?;
        let count = |count: u32, most: usize| usize::try_from(count).ok().filter(|n| *n <= most);
        let all = count(entries, LEAF_ENTRIES_MAX).filter(|count| *count > 0);
        ensure(all.is_some(), TreeFault::Count(entries))?;
        let references = count(references, LEAF_ENTRIES_MAX).ok_or(TreeFault::Count(references))?;
        let many = TreeFault::Count(classes.into());
        let classes = count(classes.into(), LEAF_CLASSES_MAX).ok_or(many)?;
        ensure(rest.len() >= table_bytes(references, classes), length)?;
        let mut table = rest.split_to(references * REF_BYTES);
        let references: Vec<ChunkRef> =
            std::iter::from_fn(|| ChunkRef::take(&mut table)).take(references).collect();
        let table = rest.split_to(classes * CLASS_BYTES);
        let (rows, _) = table.as_chunks::<CLASS_BYTES>();
        let classes = rows.iter().map(|row| {
            let mut row = row.as_slice();
            (row.get_u32_le(), row.get_u32_le(), row.get_u32_le())
        });
        Ok(Self {
            references,
            classes: classes.collect(),
            named: (0, 0),
            left: entries,
            rest,
            last: Vec::new(),
            mtime_ns: 0,
            inode: 0,
            bytes: 0,
            entries,
        })
    }

    /// Entries in it, and bytes of the files that came out of it until now.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.entries.into(), self.bytes)
    }

    /// Whether all entries came.
    pub(super) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// The next entry, in `order`; `None` when all have come and nothing is left over.
    pub(super) fn next(&mut self, order: &mut Order) -> Result<Option<Entry>, TreeFault> {
        if self.left == 0 {
            ensure(self.rest.is_empty(), TreeFault::Length(self.rest.len()))?;
            let all = (self.references.len(), self.classes.len());
            ensure(self.named == all, TreeFault::Form)?;
            return Ok(None);
        }
        let bytes = self.rest.clone();
        let mut rest = bytes.as_ref();
        let entry = self.entry(&mut rest)?;
        self.rest.advance(bytes.len() - rest.len());
        check(&entry, None)?;
        order.admit(&entry)?;
        self.left -= 1;
        self.bytes = self.bytes.checked_add(entry.bytes()).ok_or(TreeFault::Child)?;
        self.last.clone_from(&entry.path);
        self.mtime_ns = entry.mtime_ns;
        Ok(Some(entry))
    }

    fn entry(&mut self, rest: &mut &[u8]) -> Result<Entry, TreeFault> {
        let (number, flags) = (byte(rest)?, byte(rest)?);
        ensure(flags & !flag::ALL == 0, TreeFault::Entry)?;
        let sparse = flags & flag::SPARSE != 0;
        ensure(!sparse || number == kind::FILE, TreeFault::Entry)?;
        let path = self.path(rest)?;
        let (mode, uid, gid) = self.class(rest)?;
        let mtime_ns = self.mtime_ns.wrapping_add(signed(rest)?);
        let xattrs = if flags & flag::XATTRS == 0 { Vec::new() } else { xattrs(rest)? };
        let what = match number {
            kind::FOLDER => What::Folder(self.inode(rest, mtime_ns)?),
            kind::FILE => What::File(self.file(rest, mtime_ns, sparse)?),
            kind::SYMLINK => What::Symlink(bytes(rest)?.to_vec()),
            kind::HARD_LINK => What::HardLink(bytes(rest)?.to_vec()),
            kind::FIFO => What::Fifo,
            kind::CHARACTER_DEVICE | kind::BLOCK_DEVICE => {
                What::Device { block: number == kind::BLOCK_DEVICE, number: unsigned(rest)? }
            }
            kind::SOCKET => What::Socket,
            _ => return Err(TreeFault::Entry),
        };
        let implied = flags & flag::IMPLIED != 0;
        let unreadable = flags & flag::UNREADABLE != 0;
        Ok(Entry { path, mode, uid, gid, mtime_ns, xattrs, implied, unreadable, what })
    }

    /// The path, which shares as much with the one before as it can.
    fn path(&self, rest: &mut &[u8]) -> Result<Vec<u8>, TreeFault> {
        let shared = usize::try_from(unsigned(rest)?).map_err(|_| TreeFault::Form)?;
        let alike = self.last.get(..shared).ok_or(TreeFault::Form)?;
        let suffix = bytes(rest)?;
        let next = self.last.get(shared);
        ensure(next.is_none() || next != suffix.first(), TreeFault::Form)?;
        Ok([alike, suffix].concat())
    }

    fn class(&mut self, rest: &mut &[u8]) -> Result<Class, TreeFault> {
        let at = named(rest, &mut self.named.1)?;
        let class = *self.classes.get(at).ok_or(TreeFault::Form)?;
        // Named for the first time: none before it is the same.
        let first = at + 1 == self.named.1;
        let again = first && self.classes.iter().position(|other| *other == class) != Some(at);
        ensure(!again, TreeFault::Form)?;
        Ok(class)
    }

    fn reference(&mut self, rest: &mut &[u8]) -> Result<ChunkRef, TreeFault> {
        let at = named(rest, &mut self.named.0)?;
        self.references.get(at).map(ChunkRef::duplicate).ok_or(TreeFault::Form)
    }

    fn inode(&mut self, rest: &mut &[u8], mtime_ns: i64) -> Result<Inode, TreeFault> {
        let ctime_ns = mtime_ns.wrapping_add(signed(rest)?);
        let number = self.inode.wrapping_add(signed(rest)?.cast_unsigned());
        self.inode = number;
        Ok(Inode { ctime_ns, number })
    }

    fn file(
        &mut self,
        rest: &mut &[u8],
        mtime_ns: i64,
        sparse: bool,
    ) -> Result<FileBody, TreeFault> {
        let size = unsigned(rest)?;
        let inode = self.inode(rest, mtime_ns)?;
        let extents = if sparse { Some(extents(rest)?) } else { None };
        let content = match byte(rest)? {
            content::NONE => Content::None,
            content::PACKED => {
                let pack = self.reference(rest)?;
                let offset = u32::try_from(unsigned(rest)?).map_err(|_| TreeFault::Data)?;
                Content::Packed { pack, offset, hash: hash(rest)? }
            }
            content::PIECE => Content::Piece(self.reference(rest)?),
            content::LISTING => Content::Listing(self.reference(rest)?),
            _ => return Err(TreeFault::Entry),
        };
        Ok(FileBody { bytes: size, inode, extents, content })
    }
}

/// A place in a table whose places are named in order: an earlier one, or the next.
fn named(rest: &mut &[u8], named: &mut usize) -> Result<usize, TreeFault> {
    let at = usize::try_from(unsigned(rest)?).map_err(|_| TreeFault::Form)?;
    ensure(at <= *named, TreeFault::Form)?;
    *named = (*named).max(at.saturating_add(1));
    Ok(at)
}

fn extents(rest: &mut &[u8]) -> Result<Extents, TreeFault> {
    let count = usize::try_from(unsigned(rest)?).unwrap_or(usize::MAX);
    ensure(count <= EXTENTS_MAX, TreeFault::Data)?;
    let mut end = 0_u64;
    let mut ranges = Vec::new();
    for _ in 0..count {
        let start = end.checked_add(unsigned(rest)?).ok_or(TreeFault::Data)?;
        end = start.checked_add(unsigned(rest)?).ok_or(TreeFault::Data)?;
        ranges.push(start..end);
    }
    Ok(Extents(ranges))
}

fn xattrs(rest: &mut &[u8]) -> Result<Vec<Xattr>, TreeFault> {
    let count = usize::try_from(unsigned(rest)?).unwrap_or(usize::MAX);
    ensure((1..=XATTRS_MAX).contains(&count), TreeFault::Xattrs)?;
    let mut pair = || Ok((bytes(rest)?.to_vec(), bytes(rest)?.to_vec()));
    (0..count).map(|_| pair()).collect()
}

fn byte(rest: &mut &[u8]) -> Result<u8, TreeFault> {
    let (first, behind) = rest.split_first().ok_or(TreeFault::Length(0))?;
    *rest = behind;
    Ok(*first)
}

fn hash(rest: &mut &[u8]) -> Result<BlobHash, TreeFault> {
    let (hash, behind) = rest.split_first_chunk().ok_or(TreeFault::Length(rest.len()))?;
    *rest = behind;
    Ok(*hash)
}

/// A length and as many bytes, which are there.
fn bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], TreeFault> {
    let length = usize::try_from(unsigned(rest)?).unwrap_or(usize::MAX);
    let (bytes, behind) = rest.split_at_checked(length).ok_or(TreeFault::Length(rest.len()))?;
    *rest = behind;
    Ok(bytes)
}

fn unsigned(rest: &mut &[u8]) -> Result<u64, TreeFault> {
    take(rest).ok_or(TreeFault::Form)
}

fn signed(rest: &mut &[u8]) -> Result<i64, TreeFault> {
    take_signed(rest).ok_or(TreeFault::Form)
}
