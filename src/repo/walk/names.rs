//! The names in one folder, in order.

use rustix::fs::Dir;
use std::io;
use std::os::fd::AsFd;

/// Names, ascending. Memory: the bytes of the names and 8 for each, so about 30 MiB for a million.
#[derive(Debug, Default)]
pub(super) struct Names {
    bytes: Vec<u8>,
    /// Where each begins, and how long it is.
    spans: Vec<(u32, u8)>,
}

impl Names {
    /// One name.
    pub(super) fn only(name: &[u8]) -> Self {
        let mut names = Self::default();
        names.add(name);
        names
    }

    /// All names in an open folder; and, where the list breaks off, why.
    pub(super) fn read(folder: impl AsFd) -> (Self, Option<io::Error>) {
        let mut names = Self::default();
        let mut list = match Dir::read_from(folder) {
            Ok(list) => list,
            Err(errno) => return (names, Some(errno.into())),
        };
        let mut failed = None;
        while let Some(entry) = list.read() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) => {
                    failed = Some(errno.into());
                    break;
                }
            };
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") && !names.add(name) {
                failed = Some(io::Error::other("more names than memory is for"));
                break;
            }
        }
        let Self { bytes, spans } = &mut names;
        let name = |span: &(u32, u8)| Self::slice(bytes, *span).unwrap_or_default();
        spans.sort_unstable_by(|left, right| name(left).cmp(name(right)));
        // A folder that changes while it is listed may show a name twice.
        spans.dedup_by(|left, right| name(left) == name(right));
        (names, failed)
    }

    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        Self::slice(&self.bytes, *self.spans.get(index)?)
    }

    /// Keeps nothing but this name, if it is there.
    pub(super) fn keep_only(&mut self, name: &[u8]) {
        *self = if self.has(name) { Self::only(name) } else { Self::default() };
    }

    pub(super) fn has(&self, name: &[u8]) -> bool {
        let own = |span: &(u32, u8)| Self::slice(&self.bytes, *span).unwrap_or_default();
        self.spans.binary_search_by(|span| own(span).cmp(name)).is_ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// False where there is no room.
    fn add(&mut self, name: &[u8]) -> bool {
        let (Ok(start), Ok(length)) = (u32::try_from(self.bytes.len()), u8::try_from(name.len()))
        else {
            return false;
        };
        self.bytes.extend_from_slice(name);
        self.spans.push((start, length));
        true
    }

    fn slice(bytes: &[u8], (start, length): (u32, u8)) -> Option<&[u8]> {
        let start = usize::try_from(start).ok()?;
        bytes.get(start..start + usize::from(length))
    }
}
