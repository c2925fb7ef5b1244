//! What the demo stores: a copy of the user's file or folder, or a tree made from a fixed seed.

use super::edits::add_oddities;
use super::{failed, misused, tree};
use crate::node::report::Failure;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// More than this makes a poor demonstration.
const FILES_MAX: u64 = 50_000;

/// What there is to copy.
pub(super) struct Source {
    title: String,
    root: PathBuf,
}

/// The copy: a folder of its own, which may be edited.
pub(super) struct Corpus {
    title: String,
    root: PathBuf,
    files: u64,
    bytes: u64,
}

impl Corpus {
    /// Finds `path`, else `./src`, else makes a tree in `scratch`.
    ///
    /// # Errors
    /// What is wrong with the path.
    pub(super) fn find(path: Option<&Path>, scratch: &Path) -> Result<Source, Failure> {
        if let Some(path) = path {
            return Source::open(path, path.display().to_string());
        }
        let source = Path::new("./src");
        if source.is_dir() {
            return Source::open(source, "the files of ./src".to_owned());
        }
        let made = scratch.join("generated");
        make_tree(&made).map_err(|error| failed("no example tree", &error.to_string()))?;
        Source::open(&made, "a generated tree".to_owned())
    }

    pub(super) fn title(&self) -> &str {
        &self.title
    }

    /// The folder that is backed up.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// How many regular files there were before anything was edited.
    pub(super) fn files(&self) -> u64 {
        self.files
    }

    /// Their bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Source {
    fn open(path: &Path, title: String) -> Result<Self, Failure> {
        let why = |error: io::Error| unreadable(Path::new(&title), &error.to_string());
        let root = fs::canonicalize(path).map_err(why)?;
        let files = count(&root, 0).map_err(why)?;
        if files == 0 || files > FILES_MAX {
            let why = match files {
                0 => "it holds no regular file".to_owned(),
                _ => format!("it holds more than {FILES_MAX} regular files"),
            };
            let hint = format!("name a file, or a folder of 1 to {FILES_MAX} files");
            return Err(misused(&format!("{title} makes no demo"), &why, &hint));
        }
        Ok(Self { title, root })
    }

    /// Copies it into `scratch`, beside a folder of odd metadata.
    ///
    /// # Errors
    /// What cannot be read or written.
    pub(super) fn copy(self, scratch: &Path) -> Result<Corpus, Failure> {
        let root = scratch.join("files");
        let why = |error: io::Error| failed("the files cannot be copied", &error.to_string());
        fs::create_dir(&root).map_err(why)?;
        let name = self.root.file_name().unwrap_or("everything".as_ref());
        tree::copy(&self.root, &root.join(name))?;
        add_oddities(&root).map_err(why)?;
        let found = tree::files(&root).map_err(why)?;
        // One file may have several names.
        let lengths: BTreeMap<u64, u64> =
            found.iter().map(|(_, metadata)| (metadata.ino(), metadata.len())).collect();
        let (files, bytes) = (lengths.len() as u64, lengths.values().sum());
        Ok(Corpus { title: self.title, root, files, bytes })
    }
}

/// How many regular files there are, with `before`; where there are too many, not all are counted.
fn count(path: &Path, before: u64) -> io::Result<u64> {
    let metadata = path.symlink_metadata()?;
    if metadata.is_file() {
        return Ok(before.saturating_add(1));
    }
    let mut files = before;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            if files > FILES_MAX {
                break;
            }
            files = count(&entry?.path(), files)?;
        }
    }
    Ok(files)
}

pub(super) fn unreadable(path: &Path, why: &str) -> Failure {
    let hint = "name a file or a folder that can be read";
    misused(&format!("cannot read {}", path.display()), why, hint)
}

/// 24 files in three folders, 1 byte to 6 MiB, of text and of noise; always the same.
fn make_tree(root: &Path) -> std::io::Result<()> {
    const WORDS: [&str; 8] = ["owner", "holder", "chunk", "quorum", "lease", "mesh", "proof", "\n"];
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    for number in 0..24_u32 {
        let folder = root.join(["photos", "letters", "music"][number as usize % 3]);
        fs::create_dir_all(&folder)?;
        let length = 1_usize << (number % 12 * 2).min(22);
        let length = length + rng.next_u32() as usize % length.max(2);
        let mut content = vec![0; length];
        if number % 2 == 0 {
            rng.fill_bytes(&mut content);
        } else {
            content.clear();
            while content.len() < length {
                content.extend_from_slice(WORDS[rng.next_u32() as usize % WORDS.len()].as_bytes());
                content.push(b' ');
            }
        }
        fs::write(folder.join(format!("{number:02}")), content)?;
    }
    Ok(())
}
