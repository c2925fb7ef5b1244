//! Small JSON files that are replaced as a whole, each with the version of its form.
//!
//! They are a convenience: whoever reads one that is lost, or cannot be read, begins anew.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// The only version of any of them.
const VERSION: u32 = 1;

/// `{"version":1,..}`: what stands beside the version is the body's.
#[derive(Serialize)]
struct Versioned<'a, T> {
    version: u32,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// What the file says. One above `bytes_max` bytes is not ours. Blocks on the disk.
///
/// # Errors
/// What the system says; [`io::ErrorKind::Other`] where it is no such file, or of a version that is
/// not known.
pub(crate) fn read<T: DeserializeOwned>(path: &Path, bytes_max: u64) -> io::Result<T> {
    let mut text = String::new();
    File::open(path)?.take(bytes_max).read_to_string(&mut text)?;
    // Another version may say nothing that this one knows.
    match serde_json::from_str(&text).map_err(io::Error::other)? {
        Version { version: VERSION } => serde_json::from_str(&text).map_err(io::Error::other),
        Version { version } => Err(io::Error::other(format!("version {version} is not known"))),
    }
}

/// A temporary file beside it (mode 0600), then a rename: there is always one whole file. Blocks on
/// the disk.
///
/// # Errors
/// What the system says.
pub(crate) fn write<T: Serialize>(path: &Path, body: &T) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut temporary = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    let bytes = serde_json::to_vec(&Versioned { version: VERSION, body });
    temporary.write_all(&bytes.map_err(io::Error::other)?)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Body {
        members: Vec<(u64, u64)>,
    }

    #[test]
    fn what_is_written_stands_beside_its_version_and_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small.json");
        let body = Body { members: vec![(1, u64::MAX)] };
        for _ in 0..2 {
            write(&path, &body).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"version\":1,\"members\":[[1,18446744073709551615]]}");
        assert_eq!(read::<Body>(&path, 1 << 10).unwrap(), body);
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    #[test]
    fn a_file_of_another_version_a_cut_one_and_a_larger_one_are_refused_with_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small.json");
        let refused = |text: &str, bytes_max| {
            std::fs::write(&path, text).unwrap();
            read::<Body>(&path, bytes_max).unwrap_err().to_string()
        };
        let whole = "{\"version\":1,\"members\":[]}";
        assert_eq!(refused("{\"version\":2,\"people\":1}", 99), "version 2 is not known");
        assert!(refused("{\"members\":[]}", 99).contains("version"));
        assert!(refused("{\"version\":1}", 99).contains("members"));
        assert!(refused(&whole[..20], 99).contains("EOF"));
        assert!(refused(whole, 20).contains("EOF"));
        std::fs::remove_file(&path).unwrap();
        let gone = read::<Body>(&path, 99).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }
}
