//! What a backup could not do as it was asked to. None of this ends it: the name is left out, or
//! recorded without what could not be read, and the snapshot is partial.

use crate::repo::tree::TreeFault;
use crate::repo::tree::path::PathFault;
use std::io;

/// One name, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct Fault {
    /// Absolute, raw bytes.
    pub path: Vec<u8>,
    /// What is wrong.
    #[source]
    pub kind: FaultKind,
}

impl Fault {
    /// Of a path as trees have it.
    pub(crate) fn new(path: &[u8], kind: FaultKind) -> Self {
        Self { path: [b"/", path].concat(), kind }
    }

    /// Whether the name is missing from the snapshot altogether.
    pub fn is_left_out(&self) -> bool {
        match self.kind {
            FaultKind::Look(_)
            | FaultKind::Replaced
            | FaultKind::Path(_)
            | FaultKind::Unknown
            | FaultKind::Link
            | FaultKind::FirstName
            | FaultKind::Refused(_)
            | FaultKind::TooLong => true,
            FaultKind::List(_)
            | FaultKind::TooDeep
            | FaultKind::Read(_)
            | FaultKind::Changed
            | FaultKind::Xattrs(_)
            | FaultKind::TooManyXattrs => false,
        }
    }
}

/// What is wrong with a name.
#[derive(Debug, thiserror::Error)]
pub enum FaultKind {
    /// Nothing can be learnt of it: it is left out.
    #[error("cannot look at it")]
    Look(#[source] io::Error),
    /// It became something else while it was looked at: it is left out.
    #[error("it was replaced while it was looked at")]
    Replaced,
    /// Its path cannot stand in a tree: it is left out.
    #[error(transparent)]
    Path(PathFault),
    /// It is of a kind that nobody knows: it is left out.
    #[error("it is of an unknown kind")]
    Unknown,
    /// The text of the link is empty or too long: it is left out.
    #[error("the text of the link is empty or too long")]
    Link,
    /// It is another name of a file that was left out: so is it.
    #[error("the file that it is another name of was left out")]
    FirstName,
    /// It cannot be part of a tree: it is left out.
    #[error(transparent)]
    Refused(TreeFault),
    /// The file has more pieces than a listing can name: it is left out.
    #[error("the file is too long")]
    TooLong,
    /// The folder cannot be listed, or not to its end.
    #[error("cannot list the folder")]
    List(#[source] io::Error),
    /// The folder is recorded, and nothing in it: that lies in too many folders.
    #[error("what is in it lies too deep to be recorded")]
    TooDeep,
    /// The file cannot be read: it is recorded without content.
    #[error("cannot read it")]
    Read(#[source] io::Error),
    /// The file changed each time it was read: it is recorded as it was read last, or without
    /// content where that makes no file.
    #[error("it changed while it was read, twice")]
    Changed,
    /// It is recorded without extended attributes.
    #[error("cannot read its extended attributes")]
    Xattrs(#[source] io::Error),
    /// It has more than a tree takes; it is recorded without.
    #[error("it has more extended attributes than can be recorded")]
    TooManyXattrs,
}
