//! Getting a file onto the disk: never over something else, resumable, durable when it is done.

use super::part::PartFile;
use super::{ChunkSource, GetError, GetLimits, GetProgress, OutputError, get_chunks};
use crate::crypto::capability::Capability;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// What to do with something that already has the output's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Refuse.
    Keep,
    /// Replace it when the new file is complete, if it is a regular file or a link to one. Of a
    /// link the link itself is replaced, and what it led to stays as it was. All else is refused
    /// all the same: what a device or a pipe is there for, no file can take over.
    Replace,
}

/// A file that could not be completed.
#[derive(Debug)]
pub struct GetFailed {
    /// Why.
    pub error: GetError,
    /// What was written so far, from which the next get of the same capability to the same output
    /// goes on.
    pub kept: Option<Kept>,
}

/// A partial file that was left on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Where it lies.
    pub path: PathBuf,
    /// How much of the file is there.
    pub bytes: u64,
}

impl fmt::Display for GetFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        match &self.kept {
            Some(Kept { path, bytes }) => {
                write!(f, "; {bytes} bytes are kept in {} to go on from", path.display())
            }
            None => Ok(()),
        }
    }
}

impl std::error::Error for GetFailed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Gets a file to `output` (mode 0600). Blocks: run it on a thread of its own.
///
/// The bytes go to `<output>.quloud-part` and are renamed when they are complete and synced. A
/// partial file of the same capability is gone on from, one of another is begun anew.
///
/// # Errors
/// [`GetFailed`].
pub fn get_file(
    capability: &Capability,
    source: &mut impl ChunkSource,
    output: &Path,
    existing: Existing,
    cancel: &AtomicBool,
    progress: impl FnMut(GetProgress),
) -> Result<GetProgress, GetFailed> {
    let mut part = PartFile::new(output, cancel);
    let outcome = check_free(output, existing)
        .map_err(GetError::from)
        .and_then(|()| {
            get_chunks(capability, source, &mut part, GetLimits::default(), cancel, progress)
        })
        .and_then(|done| {
            // Again: it may have become something else meanwhile.
            check_free(output, existing)?;
            part.finish(existing == Existing::Replace)?;
            Ok(done)
        });
    outcome.map_err(|error| {
        // Whatever a cancelled get stumbles over, it ended because it was cancelled.
        let error = if cancel.load(Ordering::Relaxed) { GetError::Cancelled } else { error };
        let bytes = part.verified_bytes();
        let kept = (bytes > 0).then(|| Kept { path: part.path().to_owned(), bytes });
        if kept.is_none() {
            part.discard();
        }
        GetFailed { error, kept }
    })
}

/// Whether a get may make `output`: says early what the rename at the end would say, and what it
/// would not, for it replaces anything but a folder.
///
/// # Errors
/// [`OutputError::IsFolder`], [`OutputError::Special`], [`OutputError::Exists`].
pub fn check_free(output: &Path, existing: Existing) -> Result<(), OutputError> {
    let path = || output.to_owned();
    let Ok(found) = std::fs::symlink_metadata(output) else { return Ok(()) };
    if found.is_dir() {
        return Err(OutputError::IsFolder { path: path() });
    }
    // A link that leads nowhere is not known to be anybody's file.
    if !std::fs::metadata(output).is_ok_and(|target| target.is_file()) {
        return Err(OutputError::Special { path: path() });
    }
    match existing {
        Existing::Keep => Err(OutputError::Exists { path: path() }),
        Existing::Replace => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::OwnerKeys;
    use crate::repo::fixture::{Mesh, NEVER, noise, owner, scratch};
    use crate::repo::put::PutSummary;
    use std::fs;
    use tempfile::TempDir;

    /// A file of 40 pieces on a mesh of its own, and a folder to get it into.
    struct Setup {
        folder: TempDir,
        file: Vec<u8>,
        mesh: Mesh,
        put: PutSummary,
    }

    const PIECE: usize = 1000;

    impl Setup {
        fn new() -> Self {
            Self::of(&owner(1), noise(40 * PIECE - 7, 1))
        }

        fn of(keys: &OwnerKeys, file: Vec<u8>) -> Self {
            let mut mesh = Mesh::default();
            let put = mesh.put(keys, &file.chunks(PIECE).collect::<Vec<_>>());
            Self { folder: scratch(), file, mesh, put }
        }

        fn output(&self) -> PathBuf {
            self.folder.path().join("out")
        }

        fn part(&self) -> PathBuf {
            self.folder.path().join("out.quloud-part")
        }

        fn journal(&self) -> PathBuf {
            self.folder.path().join("out.quloud-part.journal")
        }

        fn get(&mut self, existing: Existing) -> Result<GetProgress, GetFailed> {
            let output = self.output();
            let capability = &self.put.capability;
            get_file(capability, &mut self.mesh, &output, existing, &NEVER, |_| {})
        }

        /// Gets until the mesh has served `chunks` chunks.
        fn interrupted(&mut self, chunks: usize) -> Kept {
            self.mesh.serve_at_most = Some(chunks);
            let failed = self.get(Existing::Keep).unwrap_err();
            assert!(matches!(failed.error, GetError::Closed));
            assert!(!self.output().exists());
            let chunks = std::mem::take(&mut self.mesh.chunks);
            self.mesh = Mesh { chunks, ..Mesh::default() };
            failed.kept.unwrap()
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.folder.path()).unwrap();
            let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
            let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap())).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn a_file_comes_back_under_its_name_alone() {
        let mut setup = Setup::new();
        let done = setup.get(Existing::Keep).unwrap();
        assert_eq!((done.bytes, done.resumed_bytes), (setup.file.len() as u64, 0));
        assert_eq!(fs::read(setup.output()).unwrap(), setup.file);
        assert_eq!(setup.names(), ["out"]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(setup.output()).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn an_empty_file_comes_back() {
        let mut setup = Setup::of(&owner(1), Vec::new());
        setup.get(Existing::Keep).unwrap();
        assert_eq!(fs::read(setup.output()).unwrap(), b"");
        assert_eq!(setup.names(), ["out"]);
    }

    #[test]
    fn an_interrupted_get_goes_on_where_it_was() {
        let mut setup = Setup::new();
        let kept = setup.interrupted(11);
        assert_eq!(kept, Kept { path: setup.part(), bytes: 10 * PIECE as u64 });
        let done = setup.get(Existing::Keep).unwrap();
        assert_eq!(done.resumed_bytes, 10 * PIECE as u64);
        assert_eq!(setup.mesh.served, 31, "the root and the thirty missing pieces");
        assert_eq!(fs::read(setup.output()).unwrap(), setup.file);
        assert_eq!(setup.names(), ["out"]);
    }

    #[test]
    fn a_journal_cut_at_any_byte_costs_only_what_it_lost() {
        let mut setup = Setup::of(&owner(1), noise(5 * PIECE, 1));
        setup.interrupted(4);
        let journal = fs::read(setup.journal()).unwrap();
        let part = fs::read(setup.part()).unwrap();
        for length in 0..=journal.len() {
            fs::write(setup.journal(), &journal[..length]).unwrap();
            fs::write(setup.part(), &part).unwrap();
            let done = setup.get(Existing::Keep).unwrap();
            let records = length.saturating_sub(56) / 48;
            assert_eq!(done.resumed_bytes, (records * PIECE) as u64, "cut at {length}");
            assert_eq!(fs::read(setup.output()).unwrap(), setup.file);
            fs::remove_file(setup.output()).unwrap();
        }
    }

    #[test]
    fn what_was_altered_meanwhile_is_fetched_again() {
        let mut setup = Setup::new();
        setup.interrupted(11);
        let mut part = fs::read(setup.part()).unwrap();
        part[2 * PIECE + 5] ^= 1;
        fs::write(setup.part(), &part).unwrap();
        let mut journal = fs::read(setup.journal()).unwrap();
        journal[56 + 9 * 48 + 20] ^= 1;
        fs::write(setup.journal(), &journal).unwrap();
        let done = setup.get(Existing::Keep).unwrap();
        assert_eq!(done.resumed_bytes, 8 * PIECE as u64);
        assert_eq!(fs::read(setup.output()).unwrap(), setup.file);
    }

    #[test]
    fn a_part_file_of_another_capability_is_begun_anew() {
        let mut setup = Setup::new();
        setup.interrupted(11);
        let mut other = Setup::of(&owner(2), noise(5000, 9));
        std::mem::swap(&mut other.folder, &mut setup.folder);
        let done = other.get(Existing::Keep).unwrap();
        assert_eq!(done.resumed_bytes, 0);
        assert_eq!(fs::read(other.output()).unwrap(), other.file);
        assert_eq!(other.names(), ["out"]);
    }

    #[test]
    fn an_existing_file_is_kept_unless_told_otherwise() {
        let mut setup = Setup::new();
        fs::write(setup.output(), b"precious").unwrap();
        let failed = setup.get(Existing::Keep).unwrap_err();
        assert!(matches!(failed.error, GetError::Output(OutputError::Exists { .. })));
        assert_eq!(setup.mesh.served, 0, "it is said before anything is fetched");
        assert_eq!(fs::read(setup.output()).unwrap(), b"precious");
        setup.get(Existing::Replace).unwrap();
        assert_eq!(fs::read(setup.output()).unwrap(), setup.file);
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_not_replaced() {
        let mut setup = Setup::new();
        let output = setup.output();
        let failed = get_file(
            &setup.put.capability,
            &mut setup.mesh,
            &output,
            Existing::Keep,
            &NEVER,
            |_| {
                fs::write(&output, b"precious").unwrap();
            },
        )
        .unwrap_err();
        assert!(matches!(failed.error, GetError::Output(OutputError::Exists { .. })));
        assert_eq!(fs::read(&output).unwrap(), b"precious");
        assert_eq!(failed.kept.unwrap().bytes, setup.file.len() as u64);
    }

    #[test]
    fn a_folder_is_never_replaced() {
        let mut setup = Setup::new();
        fs::create_dir(setup.output()).unwrap();
        for existing in [Existing::Replace, Existing::Keep] {
            let failed = setup.get(existing).unwrap_err();
            assert!(matches!(failed.error, GetError::Output(OutputError::IsFolder { .. })));
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_never_replaced() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        use std::os::unix::fs::{FileTypeExt, symlink};
        let mut setup = Setup::new();
        let at = |name: &str| setup.folder.path().join(name);
        let (pipe, output) = (at("pipe"), setup.output());
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for target in [at("pipe"), at("nothing"), at(".")] {
            symlink(&target, &output).unwrap();
            for existing in [Existing::Replace, Existing::Keep] {
                let failed = setup.get(existing).unwrap_err();
                let refused = matches!(failed.error, GetError::Output(OutputError::Special { .. }));
                assert!(refused, "{}: {failed}", target.display());
            }
            assert_eq!(fs::read_link(&output).unwrap(), target);
            fs::remove_file(&output).unwrap();
        }
        fs::rename(&pipe, &output).unwrap();
        let failed = setup.get(Existing::Replace).unwrap_err();
        assert!(matches!(failed.error, GetError::Output(OutputError::Special { .. })), "{failed}");
        assert!(fs::symlink_metadata(&output).unwrap().file_type().is_fifo());
        assert_eq!(setup.mesh.served, 0, "it is said before anything is fetched");
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_that_appears_meanwhile_is_not_replaced() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let mut setup = Setup::new();
        let output = setup.output();
        let appear = |_| {
            let _ = mknodat(CWD, &output, FileType::Fifo, Mode::RUSR, 0);
        };
        let (capability, mesh) = (&setup.put.capability, &mut setup.mesh);
        let failed = get_file(capability, mesh, &output, Existing::Replace, &NEVER, appear);
        let failed = failed.unwrap_err();
        assert!(matches!(failed.error, GetError::Output(OutputError::Special { .. })), "{failed}");
        assert!(!fs::symlink_metadata(&output).unwrap().is_file());
        assert_eq!(failed.kept.unwrap().bytes, setup.file.len() as u64);
    }

    #[cfg(unix)]
    #[test]
    fn a_planted_link_is_not_written_through() {
        let mut setup = Setup::new();
        let victim = setup.folder.path().join("victim");
        fs::write(&victim, b"precious").unwrap();
        std::os::unix::fs::symlink(&victim, setup.part()).unwrap();
        let failed = setup.get(Existing::Keep).unwrap_err();
        assert!(matches!(failed.error, GetError::Output(OutputError::NotOurs { .. })), "{failed}");
        fs::remove_file(setup.part()).unwrap();
        fs::hard_link(&victim, setup.part()).unwrap();
        let failed = setup.get(Existing::Keep).unwrap_err();
        assert!(matches!(failed.error, GetError::Output(OutputError::NotOurs { .. })), "{failed}");
        fs::remove_file(setup.part()).unwrap();
        std::os::unix::fs::symlink(&victim, setup.output()).unwrap();
        let failed = setup.get(Existing::Keep).unwrap_err();
        assert!(matches!(failed.error, GetError::Output(OutputError::Exists { .. })));
        setup.get(Existing::Replace).unwrap();
        assert!(fs::symlink_metadata(setup.output()).unwrap().is_file(), "the link is replaced");
        assert_eq!(fs::read(victim).unwrap(), b"precious");
    }

    #[test]
    fn a_second_get_of_the_same_output_is_refused() {
        let mut setup = Setup::new();
        setup.interrupted(3);
        let other = fs::File::open(setup.part()).unwrap();
        other.lock().unwrap();
        let failed = setup.get(Existing::Keep).unwrap_err();
        assert!(matches!(failed.error, GetError::Output(OutputError::Busy { .. })));
        // Closing it is not enough: a process that another test starts just now has it as well.
        other.unlock().unwrap();
        setup.get(Existing::Keep).unwrap();
        assert_eq!(fs::read(setup.output()).unwrap(), setup.file);
    }

    #[test]
    fn a_failed_get_without_a_byte_leaves_nothing() {
        let mut setup = Setup::new();
        setup.mesh.serve_at_most = Some(1);
        let failed = setup.get(Existing::Keep).unwrap_err();
        assert_eq!(failed.kept, None);
        assert!(setup.names().is_empty());
    }

    #[test]
    fn a_file_larger_than_the_disk_is_refused_before_it_is_fetched() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out");
        let cancel = AtomicBool::new(false);
        let mut part = PartFile::new(&output, &cancel);
        let root = crate::core::types::ChunkId::from_bytes([1; 32]);
        let begun = super::super::Output::begin(&mut part, &root, 1 << 62);
        assert!(matches!(begun, Err(OutputError::Space { .. })), "{begun:?}");
        part.discard();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_cancelled_get_says_so_and_keeps_its_part() {
        let mut setup = Setup::new();
        let cancel = AtomicBool::new(false);
        let output = setup.output();
        let failed = get_file(
            &setup.put.capability,
            &mut setup.mesh,
            &output,
            Existing::Keep,
            &cancel,
            |p| {
                cancel.store(p.bytes >= 5000, Ordering::Relaxed);
            },
        )
        .unwrap_err();
        assert!(matches!(failed.error, GetError::Cancelled));
        assert_eq!(failed.kept.unwrap().bytes, 5000);
        assert_eq!(setup.get(Existing::Keep).unwrap().resumed_bytes, 5000);
    }

    #[test]
    fn the_failure_says_where_the_part_is_kept() {
        let mut setup = Setup::new();
        setup.mesh.chunks.remove(&setup.mesh.order[3].0);
        let failed = setup.get(Existing::Keep).unwrap_err();
        let text = failed.to_string();
        assert!(text.starts_with("bytes 3000..4000 of the file cannot be fetched"), "{text}");
        assert!(text.contains("3000 bytes are kept in ") && text.contains("out.quloud-part"));
    }
}
