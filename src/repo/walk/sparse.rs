//! Files with holes: where their data is, and reading nothing but that.

use super::meta::Status;
use crate::repo::tree::{EXTENTS_MAX, Extents};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Where the data of a file lies; `None` where it has no holes, or the system cannot tell.
///
/// A file in more parts than a tree takes has its shortest holes recorded as data.
///
/// # Errors
/// What the system says.
pub(super) fn extents(file: &File, status: &Status) -> io::Result<Option<Extents>> {
    // Where as much is stored as the file is long, a hole would be an odd one.
    if status.bytes == 0 || status.stored_bytes >= status.bytes {
        return Ok(None);
    }
    let mut found = Extents(Vec::new());
    let mut shortest = 0;
    let mut from = 0;
    while from < status.bytes {
        let start = match seek(file, SeekFrom::Data(from)) {
            Ok(start) if start < status.bytes => start,
            Ok(_) | Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let end = seek(file, SeekFrom::Hole(start))?.min(status.bytes);
        if end <= start {
            // It was cut off meanwhile, which whoever reads it will notice.
            break;
        }
        join(&mut found.0, start..end, shortest);
        while found.0.len() > EXTENTS_MAX {
            shortest = if shortest == 0 { 4 << 10 } else { shortest * 2 };
            let all = std::mem::take(&mut found.0);
            all.into_iter().for_each(|range| join(&mut found.0, range, shortest));
        }
        from = end;
    }
    Ok((found.data_bytes() < status.bytes).then_some(found))
}

/// Adds a range; one that is not more than `shortest` behind the last becomes part of it.
fn join(ranges: &mut Vec<Range<u64>>, next: Range<u64>, shortest: u64) {
    match ranges.last_mut() {
        Some(last) if next.start - last.end <= shortest => last.end = next.end,
        _ => ranges.push(next),
    }
}

/// Reads the data of a file, end to end: that in its extents, or all of it. Ends early where the
/// file does.
#[derive(Debug)]
pub(crate) struct DataReader<'a> {
    file: &'a File,
    extents: &'a [Range<u64>],
    now: Range<u64>,
    cut_off: bool,
}

impl<'a> DataReader<'a> {
    pub(crate) fn new(file: &'a File, bytes: u64, extents: Option<&'a Extents>) -> Self {
        match extents {
            Some(extents) => Self { file, extents: &extents.0, now: 0..0, cut_off: false },
            None => Self { file, extents: &[], now: 0..bytes, cut_off: false },
        }
    }

    /// After the end: whether the file was as long as it was to be.
    pub(crate) fn is_complete(&self) -> bool {
        !self.cut_off
    }
}

impl Read for DataReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() {
            let Some((next, rest)) = self.extents.split_first() else { return Ok(0) };
            (self.now, self.extents) = (next.clone(), rest);
        }
        let left = usize::try_from(self.now.end - self.now.start).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        let read = self.file.read_at(buffer.get_mut(..most).unwrap_or_default(), self.now.start)?;
        if read == 0 {
            (self.extents, self.now) = (&[], 0..0);
            self.cut_off = most > 0;
        }
        self.now.start += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn looked_at(file: &File) -> Status {
        Status::of(&rustix::fs::fstat(file).unwrap())
    }

    #[test]
    fn only_data_is_read_and_all_of_it() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10 << 20).unwrap();
        file.write_all_at(b"first", 1 << 20).unwrap();
        file.write_all_at(b"last", (10 << 20) - 4).unwrap();
        // Some file systems have no holes.
        let Some(found) = extents(&file, &looked_at(&file)).unwrap() else { return };
        assert!(found.0.len() == 2 && found.data_bytes() < 1 << 20, "{found:?}");
        let mut data = Vec::new();
        DataReader::new(&file, 10 << 20, Some(&found)).read_to_end(&mut data).unwrap();
        assert_eq!(data.len() as u64, found.data_bytes());
        assert!(data.starts_with(b"first") && data.ends_with(b"last"));
        let mut dense = Vec::new();
        DataReader::new(&file, 10 << 20, None).read_to_end(&mut dense).unwrap();
        assert_eq!(dense.len(), 10 << 20);
    }

    #[test]
    fn a_file_that_is_cut_off_ends_early() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; 1_000], 0).unwrap();
        let extents = Extents(vec![0..500, 900..1_500, 2_000..3_000]);
        let mut data = Vec::new();
        DataReader::new(&file, 3_000, Some(&extents)).read_to_end(&mut data).unwrap();
        assert_eq!(data.len(), 600);
    }

    #[test]
    fn a_file_that_is_all_hole_has_no_data() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 40).unwrap();
        let Some(found) = extents(&file, &looked_at(&file)).unwrap() else { return };
        assert_eq!(found, Extents(Vec::new()));
    }

    #[test]
    fn short_holes_are_joined() {
        let mut ranges = Vec::new();
        for (range, shortest) in [(0..4, 0), (4..8, 0), (9..12, 0), (16..20, 4), (30..31, 4)] {
            join(&mut ranges, range, shortest);
        }
        assert_eq!(ranges, [0..8, 9..20, 30..31]);
    }
}
