//! Why a data folder cannot be used, and what the user can do about it.

use super::super::report::{Failure, FailureKind};
use crate::crypto::keyfile::KeyFileError;
use std::io;
use std::path::PathBuf;

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// There is no folder, or nothing of ours in it.
    #[error("there are no keys in {path}", path = path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// Some keys and no layout version, or the reverse: `init` was broken off, or a file was lost.
    #[error("the keys in {path} are not complete", path = path.display())]
    Unfinished {
        /// The folder.
        path: PathBuf,
    },
    /// `init` on a folder that has keys.
    #[error("{path} already holds keys", path = path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// `recover` on a folder whose keys the words do not lead to.
    #[error("{path} holds the keys of another owner", path = path.display())]
    OtherOwner {
        /// The folder.
        path: PathBuf,
    },
    /// `init` on a folder with other things in it.
    #[error("{path} is not empty", path = path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// Another process holds the lock.
    #[error("{path} is in use", path = path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Its process id, where it can be told.
        process: Option<u32>,
    },
    /// Written by a later version.
    #[error("{path} has layout {found}, and this version knows layout 1", path = path.display())]
    NewerLayout {
        /// The folder.
        path: PathBuf,
        /// Its layout.
        found: u32,
    },
    /// The layout file says something else altogether.
    #[error("{path} is not a Quloud data folder", path = path.display())]
    NotOurs {
        /// The folder.
        path: PathBuf,
    },
    /// Others can read a secret.
    #[error("others can open {path} (mode {mode:03o})", path = path.display())]
    Exposed {
        /// The file or folder.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// What they should be.
        wanted: u32,
    },
    /// It belongs to somebody else.
    #[error("{path} belongs to another user (uid {uid})", path = path.display())]
    Foreign {
        /// The file or folder.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// A folder, pipe or device stands where a key file should be.
    #[error("{path} is not a file", path = path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A key file did not give keys.
    #[error("{path}: {error}", path = path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: KeyFileError,
    },
    /// The system said no.
    #[error("{path} could not {doing}", path = path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl From<DataDirError> for Failure {
    fn from(error: DataDirError) -> Self {
        let (kind, why, hint) = explain(&error);
        Self::new(kind, error.to_string(), why, hint)
    }
}

/// Kind, reason, and what to do next.
fn explain(error: &DataDirError) -> (FailureKind, String, String) {
    use FailureKind::{Failed, KeysMissing};
    match error {
        DataDirError::Missing { path } => (
            KeysMissing,
            "a node and its owner are known by their keys, which `init` makes".into(),
            format!("run `quloud --data-dir {} init`", path.display()),
        ),
        DataDirError::Unfinished { path } => (
            KeysMissing,
            "`init` was broken off before it was done, or a file was removed".into(),
            format!("restore {} from a copy, or run `init` in another folder", path.display()),
        ),
        DataDirError::Exists { .. } => (
            Failed,
            "keys are never overwritten: what they have put on the mesh would be lost".into(),
            "use these keys, or name another folder with --data-dir".into(),
        ),
        DataDirError::OtherOwner { .. } => (
            Failed,
            "these words lead to other keys, and keys are never overwritten".into(),
            "name another folder with --data-dir, or check the words".into(),
        ),
        DataDirError::NotEmpty { .. } => (
            Failed,
            "a data folder is Quloud's alone".into(),
            "name a new folder with --data-dir".into(),
        ),
        DataDirError::InUse { process, .. } => (
            Failed,
            match process {
                Some(id) => format!("process {id} runs the node of this folder"),
                None => "another process runs the node of this folder".into(),
            },
            "stop it first, or name another folder with --data-dir".into(),
        ),
        DataDirError::NewerLayout { .. } => (
            Failed,
            "a later version of Quloud has used this folder".into(),
            "install that version or a later one; nothing was changed".into(),
        ),
        DataDirError::NotOurs { .. } => (
            Failed,
            "its file `layout` was not written by Quloud".into(),
            "name another folder with --data-dir".into(),
        ),
        DataDirError::Exposed { path, wanted, .. } => (
            KeysMissing,
            "keys that others can read are not used, because they may be copied already".into(),
            format!("if nobody else had access: chmod {wanted:o} {}", path.display()),
        ),
        DataDirError::Foreign { path, .. } => (
            KeysMissing,
            "its owner could read or change the keys at any time".into(),
            format!("run as that user, or give it to this one: chown $(id -u) {}", path.display()),
        ),
        DataDirError::NotAFile { .. } => (
            KeysMissing,
            "keys are read from ordinary files only".into(),
            "restore the file from a copy".into(),
        ),
        DataDirError::KeyFile { error, .. } => {
            (KeysMissing, key_file_why(*error).into(), { key_file_hint(*error).into() })
        }
        DataDirError::Io { source, .. } => (Failed, source.to_string(), io_hint(source).into()),
    }
}

fn io_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "make room on the disk and try again",
        _ => "check the folder's permissions, or name another with --data-dir",
    }
}

fn key_file_why(error: KeyFileError) -> &'static str {
    match error {
        KeyFileError::PassphraseNeeded | KeyFileError::WrongPassphrase => {
            "the keys were sealed with a passphrase when they were made"
        }
        KeyFileError::NewerVersion(_) => "a later version of Quloud wrote it",
        KeyFileError::OutOfMemory => "hashing the passphrase takes 64 MiB",
        KeyFileError::NotAKeyFile
        | KeyFileError::WrongKind
        | KeyFileError::Damaged
        | KeyFileError::TooCostly => "it is not what `init` wrote",
    }
}

fn key_file_hint(error: KeyFileError) -> &'static str {
    match error {
        KeyFileError::PassphraseNeeded => {
            "run it on a terminal, or name the passphrase's file with --passphrase-file"
        }
        KeyFileError::WrongPassphrase => "try again with the passphrase given to `init`",
        KeyFileError::NewerVersion(_) => "install that version or a later one",
        KeyFileError::OutOfMemory => "free some memory and try again",
        KeyFileError::NotAKeyFile
        | KeyFileError::WrongKind
        | KeyFileError::Damaged
        | KeyFileError::TooCostly => "restore the file from a copy",
    }
}
