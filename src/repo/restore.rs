//! Restoring: a snapshot's tree in, its files back on the disk.
//!
//! Three passes over the tree. The first writes nothing: it checks every entry and adds up what
//! they need. The second makes folders that nobody else can enter and, in them, the files, window
//! by window: chunks come in any order from whatever holders there are, on this thread, and two
//! others write. The third, when every file has its name, makes the links and the pipes, and
//! dresses each folder after all that is in it. So no link that the snapshot has is there while
//! files are written, and none is ever followed.
//!
//! | file | what it holds |
//! |---|---|
//! | [`target`] | the folder that nothing is written outside of |
//! | `restore/fetch.rs` | chunks from the source, entries from the tree |
//! | `restore/run.rs` | one pass after the other |
//! | `restore/survey.rs` | the first |
//! | `restore/files.rs` | the second |
//! | `restore/folders.rs` | folders, made and found |
//! | `restore/queue.rs` | the threads that write, and which of them writes what |
//! | `restore/write.rs` | files, from their first byte to their name |
//! | `restore/finish.rs` | the third |
//! | [`dress`] | owner, mode, extended attributes, times |
//! | `restore/journal.rs` | what is done, for a later run |
//! | `restore/space.rs` | how much of the disk may be taken |
//! | [`report`] | what came back, what did not and why |

pub mod dress;
mod fetch;
mod files;
mod finish;
mod folders;
mod journal;
mod queue;
pub mod report;
mod run;
mod space;
mod survey;
pub mod target;
#[cfg(test)]
mod tests;
mod write;

use self::dress::Trust;
use self::fetch::{Entries, Fetcher, TreeEntries};
use self::report::{RestoreProgress, RestoreReport};
use self::target::Target;
use super::get::{ChunkSource, GetLimits};
use super::pack::BlobHasher;
use super::tree::{TreeFault, TreeRoot, path};
use crate::crypto::keys::DedupKey;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// Which names are wanted: the path in the target, and whether it is a folder.
pub type Wants<'a> = &'a dyn Fn(&[u8], bool) -> bool;

/// How to restore.
#[derive(Clone, Copy)]
pub struct RestoreOptions<'a> {
    /// Whose snapshot it is.
    pub trust: Trust,
    /// Only this path of the tree: of a folder what is in it. All where it is empty.
    pub below: &'a [u8],
    /// Only what this wants, with the folders that it lies in; all where there is none.
    pub wants: Option<Wants<'a>>,
    /// Pipes are made, too.
    pub fifos: bool,
    /// Links of a [shared](Trust::Shared) snapshot may lead anywhere.
    pub all_links: bool,
    /// Nothing is written, not even a journal: the tree is read, and what is in it is counted.
    pub dry_run: bool,
    /// The owner's key, by which small files are compared with what the tree says of them.
    pub dedup: Option<&'a DedupKey>,
    /// How much is asked for at once.
    pub limits: GetLimits,
}

impl Default for RestoreOptions<'_> {
    /// All of one's own snapshot, but pipes; 32 chunks or 32 MiB at once.
    fn default() -> Self {
        Self {
            trust: Trust::Own,
            below: &[],
            wants: None,
            fifos: false,
            all_links: false,
            dry_run: false,
            dedup: None,
            limits: GetLimits { chunks: 32, bytes: 32 << 20 },
        }
    }
}

impl RestoreOptions<'_> {
    fn hasher(&self) -> Option<BlobHasher> {
        self.dedup.map(BlobHasher::new)
    }

    fn wants(&self, path: &[u8], folder: bool) -> bool {
        self.wants.is_none_or(|wants| wants(path, folder))
    }

    /// Which restore this is: a later run with the same id goes on with what this one leaves.
    fn id(&self, root: &TreeRoot) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(root.reference.id.as_bytes());
        hasher.update(&[u8::from(self.trust == Trust::Own)]);
        *hasher.update(self.below).finalize().as_bytes()
    }
}

/// Why a restore ended before its end. What was written until then is right and stays, and the
/// same restore goes on from it.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The target is neither empty nor what an earlier run of this restore left.
    #[error("{} is not empty", path.display())]
    NotEmpty {
        /// The target.
        path: PathBuf,
    },
    /// Another run of this restore is at work there.
    #[error("another restore writes {}", path.display())]
    Busy {
        /// The target.
        path: PathBuf,
    },
    /// What has the journal's name is a link, belongs to somebody else or is no file.
    #[error("{} is not a journal of ours", path.display())]
    NotOurs {
        /// The journal.
        path: PathBuf,
    },
    /// Names that differ only in case are one there: replacing is not safe.
    #[error("{} does not tell names apart by case: nothing is replaced there", path.display())]
    FoldsCase {
        /// The target.
        path: PathBuf,
    },
    /// The disk has no room for what is to come and a reserve besides.
    #[error("{} needs room for {needed}, the disk can give {available}", path.display())]
    Space {
        /// The target.
        path: PathBuf,
        /// Bytes that are needed, or names where these lack.
        needed: u64,
        /// As many as there are, less the reserve.
        available: u64,
    },
    /// The path to restore is none, or not in the tree.
    #[error("the snapshot has no such path")]
    NoSuchPath,
    /// The tree is not one; see [`TreeFault`].
    #[error(transparent)]
    Tree(TreeFault),
    /// The source gives nothing any more.
    #[error("the restore was stopped: no chunks come any more")]
    Closed,
    /// It was cancelled.
    #[error("the restore was cancelled")]
    Cancelled,
    /// The system fails in a way that would fail every file.
    #[error("cannot write below {}", path.display())]
    Io {
        /// The target.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Restores the tree below `root` into `target`. Runs on the caller's thread, and blocks; two
/// threads write. Whatever of it cannot be restored is in the report, and the rest is restored.
///
/// # Errors
/// [`RestoreError`].
pub fn restore(
    source: &mut impl ChunkSource,
    root: &TreeRoot,
    target: &Target,
    options: &RestoreOptions<'_>,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(RestoreProgress),
) -> Result<RestoreReport, RestoreError> {
    if !options.below.is_empty() && path::check(options.below).is_err() {
        return Err(RestoreError::NoSuchPath);
    }
    let mut entries = TreeEntries::new(root, options.below);
    let mut job = Job { id: options.id(root), target, options, cancel, progress };
    job.restore(&mut entries, &mut Fetcher::new(source))
}

/// One restore.
struct Job<'a> {
    id: [u8; 32],
    target: &'a Target,
    options: &'a RestoreOptions<'a>,
    cancel: &'a AtomicBool,
    progress: &'a mut dyn FnMut(RestoreProgress),
}

impl Job<'_> {
    /// All passes.
    fn restore<S: ChunkSource>(
        &mut self,
        entries: &mut impl Entries,
        fetcher: &mut Fetcher<'_, S>,
    ) -> Result<RestoreReport, RestoreError> {
        run::restore(self, entries, fetcher)
    }

    fn failed(&self, source: io::Error) -> RestoreError {
        RestoreError::Io { path: self.target.path().to_owned(), source }
    }
}
