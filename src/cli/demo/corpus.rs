//! What the demo stores: a file or a folder of the user's, or a tree made from a fixed seed.

use super::{failed, misused};
use crate::node::report::Failure;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::fs;
use std::path::{Path, PathBuf};

/// The regular files below one root, in the order of their names.
pub(super) struct Corpus {
    title: String,
    root: PathBuf,
    files: Vec<PathBuf>,
    bytes: u64,
}

/// More than this makes a poor demonstration.
const FILES_MAX: usize = 2_000;

impl Corpus {
    /// Opens `path`, else `./src`, else makes a tree in `scratch`.
    pub(super) fn open(path: Option<&Path>, scratch: &Path) -> Result<Self, Failure> {
        if let Some(path) = path {
            return Self::read(path, path.display().to_string());
        }
        let source = Path::new("./src");
        if source.is_dir() {
            return Self::read(source, "the files of ./src".to_owned());
        }
        let made = scratch.join("corpus");
        make_tree(&made).map_err(|error| failed("no example tree", &error.to_string()))?;
        Self::read(&made, "a generated tree".to_owned())
    }

    fn read(path: &Path, title: String) -> Result<Self, Failure> {
        let why = |error: std::io::Error| unreadable(&title, &error.to_string());
        let root = fs::canonicalize(path).map_err(why)?;
        let mut corpus = Self { title: title.clone(), root, files: Vec::new(), bytes: 0 };
        let root = corpus.root.clone();
        if root.is_file() {
            corpus.bytes = fs::metadata(&root).map_err(why)?.len();
            corpus.files.push(PathBuf::new());
        } else {
            corpus.walk(&root).map_err(why)?;
        }
        corpus.files.sort();
        if corpus.files.is_empty() || corpus.files.len() > FILES_MAX {
            let why = match corpus.files.is_empty() {
                true => "it holds no regular file".to_owned(),
                false => format!("it holds more than {FILES_MAX} regular files"),
            };
            let hint = format!("name a file, or a folder of 1 to {FILES_MAX} files");
            return Err(misused(&format!("{title} makes no demo"), &why, &hint));
        }
        corpus.files.iter().try_for_each(|file| corpus.check(file))?;
        Ok(corpus)
    }

    /// Says before the story what would end it.
    fn check(&self, file: &Path) -> Result<(), Failure> {
        let path = self.absolute(file);
        let title = path.display().to_string();
        if path.to_str().is_none() {
            return Err(unreadable(&title, "its path is not UTF-8 text"));
        }
        fs::File::open(&path).map(drop).map_err(|error| unreadable(&title, &error.to_string()))
    }

    fn walk(&mut self, folder: &Path) -> std::io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() && self.files.len() <= FILES_MAX {
                self.walk(&entry.path())?;
            } else if kind.is_file() {
                self.bytes = self.bytes.saturating_add(entry.metadata()?.len());
                let path = entry.path();
                self.files.push(path.strip_prefix(&self.root).unwrap_or(&path).to_owned());
            }
        }
        Ok(())
    }

    pub(super) fn title(&self) -> &str {
        &self.title
    }

    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The absolute path of one of [`Self::files`]; the root itself where it is one file.
    pub(super) fn absolute(&self, file: &Path) -> PathBuf {
        if file.as_os_str().is_empty() { self.root.clone() } else { self.root.join(file) }
    }

    /// Byte for byte.
    pub(super) fn compare(&self, file: &Path, restored: &Path) -> Result<(), Failure> {
        let read = |path: &Path| {
            fs::read(path).map_err(|error| {
                failed(&format!("cannot read {}", path.display()), &error.to_string())
            })
        };
        if read(&self.absolute(file))? == read(restored)? {
            return Ok(());
        }
        Err(failed("a restored file differs from the original", &file.display().to_string()))
    }
}

fn unreadable(title: &str, why: &str) -> Failure {
    misused(&format!("cannot read {title}"), why, "name a file or a folder that can be read")
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
