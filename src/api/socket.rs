//! Where the API's socket is, and who may connect to it.
//!
//! It is `api.sock` in the data folder. A socket's name is limited to 107 bytes, so a folder with
//! a long name has it in `/run/user/UID/quloud/` or else `/tmp/quloud-UID/` under a name made from
//! a hash of the folder's; UID is the folder's owner, so both sides come to the same place. The
//! node takes the first place that it can have for itself, the client tries them in this order.
//!
//! Every folder on the way is the owner's with mode 0700, the socket has mode 0600, and either
//! side asks the kernel who the other is: the same user, or root.

use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};

/// `sockaddr_un` has 108 bytes, the last of them zero.
const NAME_BYTES_MAX: usize = 107;

const NAME: &str = "api.sock";

/// A bound socket; its name is removed when it is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Binds the socket of a data folder that this process has locked: what lies there under its
    /// name was left behind by a node that is gone.
    ///
    /// # Errors
    /// What the system said of the last place that was tried.
    pub fn bind(data_dir: &Path) -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for path in places(data_dir)? {
            match bind_at(&path) {
                Ok(listener) => return Ok(Self { listener, path }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection of this user or root; anybody else's is closed.
    pub(super) async fn accept(&self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => match peer_uid(&stream) {
                    Some(uid) if uid == own_uid() || uid == 0 => return stream,
                    uid => tracing::warn!(?uid, "another user tried to connect to the API"),
                },
                Err(error) => {
                    // Out of file descriptors, most likely: the listener stays readable, so a
                    // pause keeps this from spinning.
                    tracing::warn!(%error, "a connection to the API was lost");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

/// Connects to the node of a data folder.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` where none listens; `PermissionDenied` where what listens
/// belongs to neither the folder's owner nor root.
pub async fn connect(data_dir: &Path) -> io::Result<UnixStream> {
    let owner = data_dir.metadata()?.uid();
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for path in places(data_dir)? {
        match UnixStream::connect(&path).await {
            Ok(stream) => match peer_uid(&stream) {
                Some(uid) if uid == owner || uid == 0 => return Ok(stream),
                _ => last = io::ErrorKind::PermissionDenied.into(),
            },
            // A place without a socket says less than one that refuses.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Where the socket may be, best first.
fn places(data_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let data_dir = data_dir.canonicalize()?;
    let beside = data_dir.join(NAME);
    if beside.as_os_str().len() <= NAME_BYTES_MAX {
        return Ok(vec![beside]);
    }
    let uid = data_dir.metadata()?.uid();
    let hash = Sha256::digest(data_dir.as_os_str().as_bytes());
    let name: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("{name}.sock");
    let folders = [format!("/run/user/{uid}/quloud"), format!("/tmp/quloud-{uid}")];
    Ok(folders.into_iter().map(|folder| Path::new(&folder).join(&name)).collect())
}

fn bind_at(path: &Path) -> io::Result<UnixListener> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    private_folder(folder)?;
    match path.symlink_metadata() {
        Ok(metadata) if metadata.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Nobody else can pass the folder between these two steps.
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Makes the folder, or sees to it that it is a folder, ours, and nobody else can enter it. In a
/// world-writable parent somebody may have put another thing there first; that is refused.
fn private_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let stat = rustix::fs::fstat(rustix::fs::open(folder, flags, Mode::empty())?)?;
    match stat.st_uid == own_uid() && Mode::from_raw_mode(stat.st_mode).bits() & 0o077 == 0 {
        true => Ok(()),
        false => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn peer_uid(stream: &UnixStream) -> Option<u32> {
    stream.peer_cred().ok().map(|credentials| credentials.uid())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn private_tempdir() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        folder
    }

    #[tokio::test]
    async fn both_sides_find_the_same_socket() {
        let folder = private_tempdir();
        assert!(connect(folder.path()).await.is_err());
        let socket = Socket::bind(folder.path()).unwrap();
        assert_eq!(socket.path().metadata().unwrap().mode() & 0o777, 0o600);
        let (client, _server) = tokio::join!(connect(folder.path()), socket.accept());
        client.unwrap();
        let path = socket.path().to_owned();
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn long_folder_names_use_a_short_place() {
        let folder = private_tempdir();
        let deep = folder.path().join("n".repeat(120));
        DirBuilder::new().mode(0o700).create(&deep).unwrap();
        let socket = Socket::bind(&deep).unwrap();
        assert!(socket.path().as_os_str().len() <= NAME_BYTES_MAX);
        assert!(!socket.path().starts_with(&deep));
        let (client, _server) = tokio::join!(connect(&deep), socket.accept());
        client.unwrap();
    }

    #[tokio::test]
    async fn socket_left_behind_is_replaced() {
        let folder = private_tempdir();
        let path = folder.path().join(NAME);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let refused = connect(folder.path()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let _socket = Socket::bind(folder.path()).unwrap();
        assert!(connect(folder.path()).await.is_ok());
    }

    #[tokio::test]
    async fn other_things_under_the_name_are_left_alone() {
        let folder = private_tempdir();
        let path = folder.path().join(NAME);
        std::fs::write(&path, b"mine").unwrap();
        assert!(Socket::bind(folder.path()).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn planted_folders_are_refused() {
        let folder = private_tempdir();
        let open = folder.path().join("open");
        DirBuilder::new().mode(0o700).create(&open).unwrap();
        std::fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
        assert!(private_folder(&open).is_err());
        let link = folder.path().join("link");
        symlink(folder.path(), &link).unwrap();
        assert!(private_folder(&link).is_err());
        assert!(private_folder(folder.path()).is_ok());
    }
}
