//! What an entry must fulfil, for whoever writes a tree and whoever reads one: what a restore would
//! refuse is never recorded, and what was not recorded so is never believed.

use super::path::{self, PathFault};
use super::{
    Content, ENTRIES_MAX, EXTENTS_MAX, Entry, FileBody, LINK_BYTES_MAX, PACKED_BYTES_MAX,
    TREE_LEVEL_MAX, What, XATTR_BYTES_MAX, XATTRS_MAX, Xattr,
};
use crate::repo::frame::PLAINTEXT_BYTES_MAX;
use crate::repo::listing::FILE_BYTES_MAX;
use std::cmp::Ordering;

/// The longest name of an extended attribute, as on Linux.
const XATTR_NAME_BYTES_MAX: usize = 255;

/// The longest value of an extended attribute, as on Linux.
const XATTR_VALUE_BYTES_MAX: usize = 65_536;

/// Why something is not a tree, or cannot become part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TreeFault {
    /// Made by a newer version.
    #[error("tree version {0} is not known")]
    Version(u8),
    /// A scheme that this version does not know.
    #[error("tree scheme {0} is not known")]
    Scheme(u8),
    /// Not the level that belongs there, or above [`TREE_LEVEL_MAX`].
    #[error("a tree chunk of level {0} does not belong here")]
    Level(u8),
    /// A reserved field that is not zero.
    #[error("a reserved field of the tree is not zero")]
    Reserved,
    /// Not as long as its counts say.
    #[error("a tree chunk of {0} bytes has the wrong length")]
    Length(usize),
    /// More of something than there may be, or none where there must be some.
    #[error("a tree chunk cannot have {0} of these")]
    Count(u32),
    /// See [`PathFault`].
    #[error(transparent)]
    Path(#[from] PathFault),
    /// Not behind the path before: out of order, or there twice.
    #[error("the paths of the tree are not in order")]
    Order,
    /// In what is no folder of the tree.
    #[error("a path of the tree lies in what is no folder")]
    Parent,
    /// A number, a table or a path that is not in its one form.
    #[error("the tree is not written in its one form")]
    Form,
    /// A kind, a flag or a mode that does not exist, or does not go with the rest.
    #[error("an entry of the tree says what cannot be")]
    Entry,
    /// Extended attributes out of order or beyond their limits.
    #[error("the extended attributes are out of order or too many")]
    Xattrs,
    /// A file's data does not agree with its length.
    #[error("a file's data and its length do not agree")]
    Data,
    /// A link's target that is empty, too long, or not an earlier path.
    #[error("the target of a link cannot be")]
    Link,
    /// What lies below a node is not what the node says of it.
    #[error("a part of the tree is not what is said of it above")]
    Child,
    /// More entries than [`ENTRIES_MAX`], or more levels than [`TREE_LEVEL_MAX`].
    #[error("the tree has more than {ENTRIES_MAX} entries or {TREE_LEVEL_MAX} levels")]
    TooLarge,
}

/// Whether all that one entry says is possible. Where `blob` is given, it is the file's data, which
/// is not in any pack yet.
pub(super) fn check(entry: &Entry, blob: Option<&[u8]>) -> Result<(), TreeFault> {
    path::check(&entry.path)?;
    let folder = matches!(entry.what, What::Folder(_));
    let file = matches!(entry.what, What::File(_));
    let marks = (!entry.implied || folder) && (!entry.unreadable || folder || file);
    ensure(entry.mode <= 0o7777 && marks, TreeFault::Entry)?;
    check_xattrs(&entry.xattrs)?;
    match &entry.what {
        What::File(body) => check_file(body, entry.unreadable, blob),
        What::Symlink(target) => {
            let length = (1..=LINK_BYTES_MAX).contains(&target.len());
            ensure(length && !target.contains(&0), TreeFault::Link)
        }
        What::HardLink(first) => {
            path::check(first).map_err(|_| TreeFault::Link)?;
            let earlier = path::compare(first, &entry.path) == Ordering::Less;
            ensure(earlier, TreeFault::Link)
        }
        What::Folder(_) | What::Fifo | What::Device { .. } | What::Socket => Ok(()),
    }?;
    ensure(blob.is_none() || file, TreeFault::Data)
}

fn check_xattrs(xattrs: &[Xattr]) -> Result<(), TreeFault> {
    let lengths = |(name, value): &Xattr| {
        let named = (1..=XATTR_NAME_BYTES_MAX).contains(&name.len()) && !name.contains(&0);
        named && value.len() <= XATTR_VALUE_BYTES_MAX
    };
    let total: usize = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    let ascend = xattrs.windows(2).all(|pair| matches!(pair, [(a, _), (b, _)] if a < b));
    let within = xattrs.len() <= XATTRS_MAX && total <= XATTR_BYTES_MAX;
    ensure(within && ascend && xattrs.iter().all(lengths), TreeFault::Xattrs)
}

fn check_file(body: &FileBody, unreadable: bool, blob: Option<&[u8]>) -> Result<(), TreeFault> {
    check_extents(body)?;
    let data = body.data_bytes();
    let small = (1..PACKED_BYTES_MAX).contains(&data);
    let agrees = match (&body.content, blob) {
        (Content::None, Some(blob)) => small && blob.len() as u64 == data,
        (_, Some(_)) => false,
        (Content::None, None) => data == 0 || unreadable,
        (Content::Packed { pack, offset, .. }, None) => {
            let length = pack.bytes <= PLAINTEXT_BYTES_MAX as u64;
            small && length && u64::from(*offset).saturating_add(data) <= pack.bytes
        }
        (Content::Piece(piece), None) => {
            piece.bytes == data && data > 0 && data <= PLAINTEXT_BYTES_MAX as u64
        }
        (Content::Listing(root), None) => root.bytes == data && data > 0,
    };
    let content = !unreadable || (matches!(body.content, Content::None) && blob.is_none());
    ensure(agrees && content, TreeFault::Data)
}

/// Extents ascend, have a hole between any two, end within the file, and are not just all of it.
fn check_extents(body: &FileBody) -> Result<(), TreeFault> {
    ensure(body.bytes <= FILE_BYTES_MAX, TreeFault::Data)?;
    let Some(extents) = &body.extents else {
        return Ok(());
    };
    ensure(extents.0.len() <= EXTENTS_MAX, TreeFault::Data)?;
    let mut before = None;
    for range in &extents.0 {
        let behind = before.is_none_or(|end| range.start > end);
        ensure(behind && range.start < range.end && range.end <= body.bytes, TreeFault::Data)?;
        before = Some(range.end);
    }
    ensure(extents.data_bytes() < body.bytes, TreeFault::Data)
}

pub(super) fn ensure(holds: bool, fault: TreeFault) -> Result<(), TreeFault> {
    if holds { Ok(()) } else { Err(fault) }
}

/// The order of paths, and that each lies in a folder that came before: in constant memory.
#[derive(Debug, Default)]
pub(super) struct Order {
    last: Vec<u8>,
    /// The last folder that came: it and all above it are folders of the tree. Whatever comes next
    /// in order lies in one of these, or at the top.
    folder: Vec<u8>,
}

impl Order {
    /// Some entries are left out: the next may lie in `folder` or in any folder above it.
    pub(super) fn jump(&mut self, folder: &[u8]) {
        self.folder = folder.to_vec();
    }

    /// The next entry.
    pub(super) fn admit(&mut self, entry: &Entry) -> Result<(), TreeFault> {
        let follows = path::compare(&self.last, &entry.path) == Ordering::Less;
        ensure(follows, TreeFault::Order)?;
        let parent = path::parent(&entry.path);
        let known = parent.is_none_or(|parent| path::is_within(&self.folder, parent));
        ensure(known, TreeFault::Parent)?;
        self.last.clear();
        self.last.extend_from_slice(&entry.path);
        if matches!(entry.what, What::Folder(_)) {
            self.folder.clear();
            self.folder.extend_from_slice(&entry.path);
        }
        Ok(())
    }
}
