//! Trees: everything that is recorded of a snapshot's files, as one sorted stream of entries. Pure.
//!
//! A tree is a B-tree of chunks. Its leaves hold entries in the order of their paths, cut where a
//! keyed hash of a path says so; its nodes name leaves or nodes. So one changed file changes one
//! leaf and the nodes above it; two trees are compared by skipping what has equal ids; whether the
//! entries are sorted, and none stands twice, is checked in passing; and a million folders are not
//! a million chunks. Because entries have the change time and the inode number, the tree of the
//! snapshot before is also what tells unchanged files from others.
//!
//! | file | what it holds |
//! |---|---|
//! | [`path`](mod@path) | what is a path, and the order of paths |
//! | `tree/check.rs` | what an entry must fulfil: the same for writers and readers |
//! | `tree/leaf.rs`, `tree/encode.rs`, `tree/decode.rs` | the layout of leaves |
//! | `tree/node.rs` | the layout of nodes |
//! | [`few`] | a few entries as bytes, outside of a tree |
//! | [`writer`] | entries in, sealed leaves, nodes and packs out |
//! | [`walk`] | a root in, entries out, in whatever order chunks come |

mod check;
mod decode;
mod encode;
pub mod few;
mod leaf;
mod node;
pub mod path;
pub mod walk;
pub mod writer;

#[cfg(test)]
pub(super) mod tests;

pub use check::TreeFault;

use super::reference::ChunkRef;

/// The most entries of a tree.
pub const ENTRIES_MAX: u64 = 10_000_000;

/// The highest level of a node; leaves are level 0.
pub const TREE_LEVEL_MAX: u8 = 4;

/// Files shorter than this are packed: 256 KiB, the least that the chunker cuts.
pub const PACKED_BYTES_MAX: u64 = 256 << 10;

/// The longest target of a symbolic link.
pub const LINK_BYTES_MAX: usize = 4_095;

/// The most extents of a sparse file.
pub const EXTENTS_MAX: usize = 65_536;

/// The most extended attributes of an entry.
pub const XATTRS_MAX: usize = 256;

/// The most bytes of all of an entry's extended attributes, names included.
pub const XATTR_BYTES_MAX: usize = 256 << 10;

/// The tree of a snapshot that has entries.
#[derive(Debug)]
pub struct TreeRoot {
    /// Of the root: 0 where one leaf holds all.
    pub level: u8,
    /// How many entries there are.
    pub entries: u64,
    /// The root; its bytes are those of all files, holes included.
    pub reference: ChunkRef,
}

/// The name and the value of an extended attribute.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// Everything recorded of one name.
#[derive(Debug)]
pub struct Entry {
    /// Relative, raw bytes; see [`path::check`].
    pub path: Vec<u8>,
    /// Permissions, setuid, setgid and sticky: `07777` at most.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When the content was last changed: nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Extended attributes, ACLs among them: names and values, names ascending.
    pub xattrs: Vec<Xattr>,
    /// A folder above what was backed up: it is named, and nothing of it was recorded.
    pub implied: bool,
    /// What is in it could not be read: it is recorded without content.
    pub unreadable: bool,
    /// What the name is.
    pub what: What,
}

impl Entry {
    /// A copy for a second user; explicit, because it may hold keys.
    pub fn duplicate(&self) -> Self {
        let Self { mode, uid, gid, mtime_ns, implied, unreadable, .. } = *self;
        let (path, xattrs) = (self.path.clone(), self.xattrs.clone());
        let what = self.what.duplicate();
        Self { path, mode, uid, gid, mtime_ns, xattrs, implied, unreadable, what }
    }

    /// Bytes of the file, holes included; 0 for all else.
    pub fn bytes(&self) -> u64 {
        match &self.what {
            What::File(body) => body.bytes,
            _ => 0,
        }
    }
}

/// What a name is.
#[derive(Debug)]
pub enum What {
    /// A folder.
    Folder(Inode),
    /// A regular file.
    File(FileBody),
    /// A symbolic link: its text, 1 to [`LINK_BYTES_MAX`] bytes.
    Symlink(Vec<u8>),
    /// Another name of a file: the path of its first one, which comes earlier.
    HardLink(Vec<u8>),
    /// A pipe with a name.
    Fifo,
    /// A device; recorded, never restored.
    Device {
        /// A block device, else a character device.
        block: bool,
        /// Its number.
        number: u64,
    },
    /// A socket; recorded, never restored.
    Socket,
}

/// What a name is to the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileType {
    /// A folder.
    Folder,
    /// A regular file, by whichever of its names.
    Regular,
    /// A symbolic link.
    Symlink,
    /// A pipe with a name.
    Fifo,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A socket.
    Socket,
}

impl FileType {
    /// The letter of `ls -l` and, but for `-` in place of `f`, of `find -type`.
    pub fn letter(self) -> char {
        match self {
            Self::Folder => 'd',
            Self::Regular => '-',
            Self::Symlink => 'l',
            Self::Fifo => 'p',
            Self::CharacterDevice => 'c',
            Self::BlockDevice => 'b',
            Self::Socket => 's',
        }
    }
}

impl What {
    /// Its type; another name of a file is a regular file.
    pub fn file_type(&self) -> FileType {
        match self {
            Self::Folder(_) => FileType::Folder,
            Self::File(_) | Self::HardLink(_) => FileType::Regular,
            Self::Symlink(_) => FileType::Symlink,
            Self::Fifo => FileType::Fifo,
            Self::Device { block: true, .. } => FileType::BlockDevice,
            Self::Device { block: false, .. } => FileType::CharacterDevice,
            Self::Socket => FileType::Socket,
        }
    }

    fn duplicate(&self) -> Self {
        match self {
            Self::Folder(inode) => Self::Folder(*inode),
            Self::File(body) => Self::File(body.duplicate()),
            Self::Symlink(target) => Self::Symlink(target.clone()),
            Self::HardLink(first) => Self::HardLink(first.clone()),
            Self::Fifo => Self::Fifo,
            Self::Device { block, number } => Self::Device { block: *block, number: *number },
            Self::Socket => Self::Socket,
        }
    }
}

/// With size and time of change, what says that a file is the one that it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Inode {
    /// When content, name, owner or mode was last changed: nanoseconds since 1970.
    pub ctime_ns: i64,
    /// The inode's number.
    pub number: u64,
}

/// A file's length, its data, and where that is.
#[derive(Debug)]
pub struct FileBody {
    /// Length, holes included.
    pub bytes: u64,
    /// See [`Inode`].
    pub inode: Inode,
    /// Where the data lies in a file with holes; `None` where it has none.
    pub extents: Option<Extents>,
    /// The data, end to end.
    pub content: Content,
}

impl FileBody {
    /// Bytes of data: the length without the holes.
    pub fn data_bytes(&self) -> u64 {
        self.extents.as_ref().map_or(self.bytes, Extents::data_bytes)
    }

    /// A copy for a second user; explicit, because it may hold keys.
    pub fn duplicate(&self) -> Self {
        let Self { bytes, inode, extents, content } = self;
        let (extents, content) = (extents.clone(), content.duplicate());
        Self { bytes: *bytes, inode: *inode, extents, content }
    }
}

/// The data of a file with holes: what lies where, ascending, with a hole between any two.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extents(pub Vec<std::ops::Range<u64>>);

impl Extents {
    /// Bytes of data in all.
    pub fn data_bytes(&self) -> u64 {
        let length = |range: &std::ops::Range<u64>| range.end.saturating_sub(range.start);
        self.0.iter().map(length).fold(0, u64::saturating_add)
    }
}

/// First 16 bytes of a keyed hash of a small file's content; see [`pack`](super::pack).
pub type BlobHash = [u8; 16];

/// Where a file's data is.
#[derive(Debug)]
pub enum Content {
    /// Nowhere: there is none, or it could not be read.
    None,
    /// In a pack, with others.
    Packed {
        /// The pack; its bytes are its plaintext's length.
        pack: ChunkRef,
        /// Where in the pack it begins.
        offset: u32,
        /// By which it is found again.
        hash: BlobHash,
    },
    /// One piece.
    Piece(ChunkRef),
    /// As many pieces as a [listing](super::listing) names.
    Listing(ChunkRef),
}

impl Content {
    fn duplicate(&self) -> Self {
        match self {
            Self::None => Self::None,
            Self::Packed { pack, offset, hash } => {
                Self::Packed { pack: pack.duplicate(), offset: *offset, hash: *hash }
            }
            Self::Piece(piece) => Self::Piece(piece.duplicate()),
            Self::Listing(root) => Self::Listing(root.duplicate()),
        }
    }

    /// The chunk that is named, if there is one.
    pub fn reference(&self) -> Option<&ChunkRef> {
        match self {
            Self::None => None,
            Self::Packed { pack, .. } => Some(pack),
            Self::Piece(reference) | Self::Listing(reference) => Some(reference),
        }
    }
}
