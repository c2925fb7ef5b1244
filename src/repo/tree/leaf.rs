//! The layout of leaves, as [`encode`](super::encode) writes and [`decode`](super::decode) reads
//! it.
//!
//! Integers are little-endian; `v` is a number and `z` a signed number of
//! [`varint`](crate::repo::varint).
//!
//! ```text
//! version u8 = 1 | level u8 = 0 | scheme u8 = 0 | reserved u8 = 0
//! | entries u32 | references u32 | classes u16 | reserved u16 = 0
//! references, 74 bytes each
//! classes: mode u32 | uid u32 | gid u32
//! entries: kind u8 | flags u8 | shared v | suffix length v | suffix | class v
//!          | mtime z, less that of the entry before | [extended attributes] | body
//! ```
//!
//! - A path is the first `shared` bytes of the path before it and the suffix. `shared` is as long
//!   as it can be.
//! - Extended attributes, where flag 1 is set: `count v`, then `name length v | name | value length
//!   v | value` for each.
//! - The body of a folder: `ctime z, less mtime | inode number z, less that of the entry before`.
//!   Of a file: `size v`, the same two, where flag 2 is set `extents v` and for each `gap v |
//!   length v`, then `content u8`: 0 none, 1 packed `reference v | offset v | hash 16`, 2 a piece
//!   and 3 a listing, `reference v`. Of a link of either kind: `length v | target`. Of a device:
//!   `number v`. Others have none.
//! - Differences wrap around. Times and inode numbers before the first entry are 0; what has no
//!   inode changes nothing for the next one.
//! - References and classes stand in the order in which entries first name them, each is named, and
//!   no class stands twice. So equal entries that name equal chunks are equal leaves.

use crate::repo::reference::REF_BYTES;

/// The only version of leaves and nodes there is.
pub(super) const TREE_VERSION: u8 = 1;

/// The only scheme: each reference is one chunk.
pub(super) const SCHEME_SINGLE: u8 = 0;

/// Bytes of a leaf or a node before its tables.
pub(super) const HEAD_BYTES: usize = 16;

/// Bytes of a class.
pub(super) const CLASS_BYTES: usize = 12;

/// The most entries of a leaf, and so the most references.
pub(super) const LEAF_ENTRIES_MAX: usize = 16_384;

/// The most classes of a leaf.
pub(super) const LEAF_CLASSES_MAX: usize = 4_096;

/// Mode, owner and group: few of these, and many entries of each.
pub(super) type Class = (u32, u32, u32);

/// Bytes of the tables.
pub(super) fn table_bytes(references: usize, classes: usize) -> usize {
    references * REF_BYTES + classes * CLASS_BYTES
}

/// The numbers of kinds.
pub(super) mod kind {
    pub(in crate::repo::tree) const FOLDER: u8 = 0;
    pub(in crate::repo::tree) const FILE: u8 = 1;
    pub(in crate::repo::tree) const SYMLINK: u8 = 2;
    pub(in crate::repo::tree) const HARD_LINK: u8 = 3;
    pub(in crate::repo::tree) const FIFO: u8 = 4;
    pub(in crate::repo::tree) const CHARACTER_DEVICE: u8 = 5;
    pub(in crate::repo::tree) const BLOCK_DEVICE: u8 = 6;
    pub(in crate::repo::tree) const SOCKET: u8 = 7;
}

/// The bits of flags.
pub(super) mod flag {
    pub(in crate::repo::tree) const XATTRS: u8 = 1;
    pub(in crate::repo::tree) const SPARSE: u8 = 2;
    pub(in crate::repo::tree) const IMPLIED: u8 = 4;
    pub(in crate::repo::tree) const UNREADABLE: u8 = 8;
    pub(in crate::repo::tree) const ALL: u8 = 15;
}

/// The numbers of contents.
pub(super) mod content {
    pub(in crate::repo::tree) const NONE: u8 = 0;
    pub(in crate::repo::tree) const PACKED: u8 = 1;
    pub(in crate::repo::tree) const PIECE: u8 = 2;
    pub(in crate::repo::tree) const LISTING: u8 = 3;
}
