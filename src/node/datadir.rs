//! The data folder: who may use it, which layout it has, and the keys in it.
//!
//! ```text
//! <data-dir>/        0700   one node, one user
//!   layout                  "quloud 1\n": written last by `init`, so a folder with it is whole
//!   lock                    held for as long as a node runs; holds its process id as text
//!   node.key         0600   the node's keys      (crypto::keyfile)
//!   owner.key        0600   the owner's keys     (crypto::keyfile)
//!   quloud.toml             settings             (config)
//!   api.sock         0600   the running node     (api)
//!   peers.json              nodes that were met          (net)
//!   mesh             0600   the mesh that a node ran in last
//!   schedule.json    0600   when configured backups ran          (node::scheduler)
//!   owner/           0700   what was put, and who holds it   (repo::catalog)
//!     memory.json    0600   what was seen of other nodes
//!   store/                  chunks held for others
//! ```
//!
//! The lock decides whether a node runs: it dies with its process, however that dies, where a
//! process id or a socket left behind would lie.

mod error;
mod recover;

pub use error::DataDirError;
pub use recover::recover;

use super::report::Failure;
use crate::config;
use crate::crypto::keyfile::{self, KEY_FILE_BYTES_MAX, KeyFileError, Protection};
use crate::crypto::keys::{NodeKeys, OwnerKeys};
use crate::locked::Locked;
use rand::CryptoRng;
use rustix::fs::OFlags;
use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The version of the data folder's layout, which the file `layout` in it tells.
pub const LAYOUT_VERSION: u32 = 1;
/// Where the addresses of the nodes stand that were met.
pub(super) const ADDRESS_BOOK_NAME: &str = "peers.json";
const LAYOUT_NAME: &str = "layout";
const LOCK_NAME: &str = "lock";
const NODE_KEY_NAME: &str = "node.key";
const OWNER_KEY_NAME: &str = "owner.key";
const MESH_NAME: &str = "mesh";

/// What may lie in a folder that is otherwise new: a prepared settings file, the file system's
/// own, and the lock of an `init` that was broken off.
const NOT_OURS: [&str; 3] = [config::FILE_NAME, "lost+found", LOCK_NAME];

/// A data folder that this process alone uses, until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: Locked,
}

/// The keys of a node and its owner, and the folder they came from.
#[derive(Debug)]
pub struct Identity {
    /// The node's own keys.
    pub node: NodeKeys,
    /// The keys of whose chunks this node puts on the mesh.
    pub owner: OwnerKeys,
    /// The folder, locked for as long as this lives.
    pub dir: DataDir,
}

impl Identity {
    /// Reads the keys. `passphrase` is called only if they are sealed.
    ///
    /// # Errors
    /// [`DataDirError`] as a [`Failure`], or what `passphrase` failed with.
    pub fn load(
        dir: DataDir,
        passphrase: impl FnOnce() -> Result<Zeroizing<String>, Failure>,
    ) -> Result<Self, Failure> {
        let (node, owner) = match dir.read_keys(None) {
            Err(DataDirError::KeyFile { error: KeyFileError::PassphraseNeeded, .. }) => {
                dir.read_keys(Some(&passphrase()?))?
            }
            keys => keys?,
        };
        Ok(Self { node, owner, dir })
    }
}

impl DataDir {
    /// Makes the folder, or takes over one that is as good as empty, and locks it. It is not whole
    /// until [`Self::write_keys`] has returned.
    ///
    /// # Errors
    /// [`DataDirError::Exists`] and [`DataDirError::NotEmpty`] before anything is changed.
    pub fn create(path: &Path) -> Result<Self, DataDirError> {
        if !path.is_dir() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|source| io_error("be made", path, source))?;
        }
        let path = absolute(path)?;
        refuse_foreign(&path)?;
        let entries = std::fs::read_dir(&path).and_then(|entries| {
            entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()
        });
        let names = entries.map_err(|source| io_error("be read", &path, source))?;
        let ours = [LAYOUT_NAME, NODE_KEY_NAME, OWNER_KEY_NAME];
        if names.iter().any(|name| ours.iter().any(|ours| name == *ours)) {
            return Err(DataDirError::Exists { path });
        }
        if !names.iter().all(|name| NOT_OURS.iter().any(|other| name == *other)) {
            return Err(DataDirError::NotEmpty { path });
        }
        std::fs::set_permissions(&path, Permissions::from_mode(0o700))
            .map_err(|source| io_error("be made private", &path, source))?;
        let lock = lock(&path, true)?;
        Ok(Self { path, _lock: lock })
    }

    /// Opens a folder that `init` made, and locks it.
    ///
    /// The lock comes before every other check, so that a user who may not use the keys (root on
    /// another user's folder) still learns that a node runs.
    ///
    /// # Errors
    /// [`DataDirError`]; [`DataDirError::InUse`] means that a node runs.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let path = absolute(path)?;
        let lock = match lock(&path, false) {
            Ok(lock) => lock,
            // Somebody cleaned up; the other checks stand between us and making it anew.
            Err(DataDirError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                check_layout(&path)?;
                refuse_foreign(&path)?;
                lock(&path, true)?
            }
            Err(error) => return Err(error),
        };
        check_layout(&path)?;
        refuse_foreign(&path)?;
        refuse_exposed(&path)?;
        Ok(Self { path, _lock: lock })
    }

    /// The folder, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes both key files, a settings file to start from and, last, the layout version. What is
    /// there already is never replaced.
    ///
    /// # Errors
    /// [`DataDirError`]; the folder is then not whole, and `init` starts in a new one.
    pub fn write_keys(
        &self,
        node: &NodeKeys,
        owner: &OwnerKeys,
        protection: Protection<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<(), DataDirError> {
        let owner = self.named(OWNER_KEY_NAME, keyfile::seal_owner(owner, protection, rng))?;
        let node = self.named(NODE_KEY_NAME, keyfile::seal_node(node, protection, rng))?;
        self.write_new(OWNER_KEY_NAME, &owner)?;
        self.write_new(NODE_KEY_NAME, &node)?;
        if !self.has(config::FILE_NAME) {
            self.write_new(config::FILE_NAME, config::template().as_bytes())?;
        }
        self.write_new(LAYOUT_NAME, layout().as_bytes())
    }

    /// Whether something of this name is there, if only a link that leads nowhere.
    fn has(&self, name: &str) -> bool {
        self.path.join(name).symlink_metadata().is_ok()
    }

    fn read_keys(&self, passphrase: Option<&str>) -> Result<(NodeKeys, OwnerKeys), DataDirError> {
        let (node, owner) = (self.read_private(NODE_KEY_NAME)?, self.read_private(OWNER_KEY_NAME)?);
        let node = self.named(NODE_KEY_NAME, keyfile::open_node(&node, passphrase))?;
        let owner = self.named(OWNER_KEY_NAME, keyfile::open_owner(&owner, passphrase))?;
        Ok((node, owner))
    }

    /// Says of which file a key file error is.
    fn named<T>(&self, name: &str, result: Result<T, KeyFileError>) -> Result<T, DataDirError> {
        result.map_err(|error| DataDirError::KeyFile { path: self.path.join(name), error })
    }

    /// Reads a key file, at most one byte more than one may have. The checks are on the opened
    /// file, so nobody can swap it in between.
    fn read_private(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, DataDirError> {
        let path = self.path.join(name);
        let failed = |source| io_error("be read", &path, source);
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
            .open(&path)
            .map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => DataDirError::Unfinished { path: self.path.clone() },
                _ => failed(source),
            })?;
        check_private(&path, &file.metadata().map_err(failed)?)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_FILE_BYTES_MAX + 1));
        let limit = u64::try_from(KEY_FILE_BYTES_MAX + 1).unwrap_or(u64::MAX);
        file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    /// Writes a file that was not there, mode 0600, durable with its name: into a temporary file
    /// first, so that a crash leaves all of it or nothing. The lock keeps others from racing.
    fn write_new(&self, name: &str, content: &[u8]) -> Result<(), DataDirError> {
        let path = self.path.join(name);
        if self.has(name) {
            return Err(DataDirError::Exists { path: self.path.clone() });
        }
        let temporary = self.path.join(format!("{name}.new"));
        let written = write_private(&temporary, content)
            .and_then(|()| std::fs::rename(&temporary, &path))
            .and_then(|()| File::open(&self.path)?.sync_all());
        written.map_err(|source| io_error("be written", &path, source))
    }
}

/// Makes a file of mode 0600 that was not there (`O_EXCL`), and syncs its content.
///
/// # Errors
/// `AlreadyExists`, or what the system said.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(flags(OFlags::NOFOLLOW))
        .open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Refuses an opened secret that others than this user can read, or that is not theirs.
///
/// # Errors
/// [`DataDirError::Foreign`], [`DataDirError::Exposed`], [`DataDirError::NotAFile`].
pub fn check_private(path: &Path, metadata: &std::fs::Metadata) -> Result<(), DataDirError> {
    if !metadata.is_file() {
        return Err(DataDirError::NotAFile { path: path.to_owned() });
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(DataDirError::Foreign { path: path.to_owned(), uid: metadata.uid() });
    }
    if metadata.mode() & 0o077 != 0 {
        let mode = metadata.mode() & 0o777;
        return Err(DataDirError::Exposed { path: path.to_owned(), mode, wanted: 0o600 });
    }
    Ok(())
}

/// The PeerId of the node with these keys.
pub fn peer_id(node: &NodeKeys) -> String {
    crate::net::peer_id_of(&node.node_id())
}

/// Whether this is a data folder that this version can use. It need not be locked: nothing in it is
/// opened.
///
/// # Errors
/// [`DataDirError`].
pub fn check(path: &Path) -> Result<(), DataDirError> {
    check_layout(&absolute(path)?)
}

/// Addresses of nodes that a node of this folder met, the last seen first, each with
/// `/p2p/PEERID`; of each node one. They can be read while it runs.
pub fn known_addresses(path: &Path, most: usize) -> Vec<String> {
    crate::net::known(&path.join(ADDRESS_BOOK_NAME), most)
}

/// The mesh that a node of this folder ran in last; `None` where none ran yet.
pub fn last_mesh(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path.join(MESH_NAME)).ok()?;
    let name = text.strip_suffix('\n')?;
    (!name.is_empty() && name.len() <= MESH_BYTES_MAX).then(|| name.to_owned())
}

/// Notes the mesh that a node of this folder runs in: the command line may name another one than
/// the settings do.
///
/// # Errors
/// What the system says; what was noted before is then still there.
pub fn remember_mesh(path: &Path, mesh: &str) -> io::Result<()> {
    if last_mesh(path).as_deref() == Some(mesh) {
        return Ok(());
    }
    let (file, aside) = (path.join(MESH_NAME), path.join("mesh.new"));
    match std::fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    write_private(&aside, format!("{mesh}\n").as_bytes())?;
    std::fs::rename(aside, file)
}

/// The longest name of a mesh.
const MESH_BYTES_MAX: usize = 64;

/// Where the data folder is if nobody says otherwise: the platform's place for a program's data
/// (`$XDG_DATA_HOME/quloud`, `~/.local/share/quloud`). `None` for a user without a home.
pub fn default_path() -> Option<PathBuf> {
    let given = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let data = given.filter(|path| path.is_absolute()).or_else(|| {
        let beneath = match cfg!(target_os = "macos") {
            true => "Library/Application Support",
            false => ".local/share",
        };
        std::env::home_dir().filter(|home| home.is_absolute()).map(|home| home.join(beneath))
    });
    data.map(|data| data.join("quloud"))
}

fn absolute(path: &Path) -> Result<PathBuf, DataDirError> {
    path.canonicalize().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => DataDirError::Missing { path: path.to_owned() },
        _ => io_error("be opened", path, source),
    })
}

fn refuse_foreign(path: &Path) -> Result<(), DataDirError> {
    let metadata = path.metadata().map_err(|source| io_error("be opened", path, source))?;
    match metadata.uid() {
        uid if uid == rustix::process::geteuid().as_raw() => Ok(()),
        uid => Err(DataDirError::Foreign { path: path.to_owned(), uid }),
    }
}

fn refuse_exposed(path: &Path) -> Result<(), DataDirError> {
    let metadata = path.metadata().map_err(|source| io_error("be opened", path, source))?;
    match metadata.mode() & 0o777 {
        mode if mode & 0o077 == 0 => Ok(()),
        mode => Err(DataDirError::Exposed { path: path.to_owned(), mode, wanted: 0o700 }),
    }
}

/// What `layout` says of a folder that this version made.
fn layout() -> String {
    format!("quloud {LAYOUT_VERSION}\n")
}

fn check_layout(path: &Path) -> Result<(), DataDirError> {
    let file = path.join(LAYOUT_NAME);
    let mut text = String::new();
    let read = File::open(&file).and_then(|file| file.take(64).read_to_string(&mut text));
    match read {
        Ok(_) if text == layout() => Ok(()),
        Ok(_) => {
            let number = text.strip_prefix("quloud ").and_then(|rest| rest.trim_end().parse().ok());
            Err(match number {
                Some(found) if found > LAYOUT_VERSION => {
                    DataDirError::NewerLayout { path: path.to_owned(), found }
                }
                _ => DataDirError::NotOurs { path: path.to_owned() },
            })
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(DataDirError::NotOurs { path: path.to_owned() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let keys = [OWNER_KEY_NAME, NODE_KEY_NAME].iter().any(|key| path.join(key).exists());
            Err(match keys {
                true => DataDirError::Unfinished { path: path.to_owned() },
                false => DataDirError::Missing { path: path.to_owned() },
            })
        }
        Err(error) => Err(io_error("be read", &file, error)),
    }
}

/// Takes the lock and writes who holds it.
fn lock(path: &Path, create: bool) -> Result<Locked, DataDirError> {
    let file_path = path.join(LOCK_NAME);
    let failed = |source| io_error("be locked", &file_path, source);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags(OFlags::NOFOLLOW))
        .open(&file_path)
        .map_err(failed)?;
    let mut file = match Locked::new(file) {
        Ok(file) => file,
        Err((file, TryLockError::WouldBlock)) => {
            let mut text = String::new();
            let process = file.take(32).read_to_string(&mut text).ok();
            let process = process.and_then(|_| text.trim().parse().ok());
            return Err(DataDirError::InUse { path: path.to_owned(), process });
        }
        Err((_, TryLockError::Error(source))) => return Err(failed(source)),
    };
    file.set_len(0).map_err(failed)?;
    file.rewind().map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

/// `O_...` flags as the standard library takes them.
fn flags(flags: OFlags) -> i32 {
    i32::try_from(flags.bits()).expect("open flags fit the C type they are made for")
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> DataDirError {
    DataDirError::Io { doing, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
