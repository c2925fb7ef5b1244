//! How many entries are taken together, and where in a file its data goes. Pure.

use crate::repo::tree::{Entry, FileBody, What};
use std::ops::Range;

/// The most entries of a window; fewer in tests, so that they see more than one.
const ENTRIES_MAX: usize = if cfg!(test) { 500 } else { 65_536 };

/// The most that a window's entries take in memory.
const BYTES_MAX: usize = 48 << 20;

/// Entries that are restored together: as many as fit in memory, so that a chunk that they share is
/// fetched once.
#[derive(Debug, Default)]
pub struct Window {
    entries: Vec<Entry>,
    bytes: usize,
}

impl Window {
    /// Adds an entry.
    pub fn push(&mut self, entry: Entry) {
        self.bytes = self.bytes.saturating_add(weight(&entry));
        self.entries.push(entry);
    }

    /// Whether it takes no more.
    pub fn is_full(&self) -> bool {
        self.entries.len() >= ENTRIES_MAX || self.bytes >= BYTES_MAX
    }

    /// The entries, in the order in which they were added.
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }
}

/// About what an entry takes in memory.
fn weight(entry: &Entry) -> usize {
    let xattrs = entry.xattrs.iter().map(|(name, value)| name.len() + value.len() + 48);
    let rest = match &entry.what {
        What::File(FileBody { extents: Some(extents), .. }) => extents.0.len() * 48,
        What::Symlink(target) | What::HardLink(target) => target.len(),
        _ => 0,
    };
    size_of::<Entry>() + entry.path.len() + xattrs.sum::<usize>() + rest
}

/// Where a file's data lies in the file.
#[derive(Debug)]
pub struct Layout {
    /// Place in the data, place in the file, length; ascending.
    runs: Vec<(u64, u64, u64)>,
}

impl Layout {
    /// Of this file.
    pub fn of(body: &FileBody) -> Self {
        let Some(extents) = &body.extents else {
            return Self { runs: vec![(0, 0, body.bytes)] };
        };
        let mut at = 0_u64;
        let mut run = |range: &Range<u64>| {
            let length = range.end.saturating_sub(range.start);
            let run = (at, range.start, length);
            at = at.saturating_add(length);
            run
        };
        Self { runs: extents.0.iter().map(&mut run).collect() }
    }

    /// The ranges of the file that this range of the data fills, in order. What lies beyond the
    /// data has no place.
    pub fn places(&self, data: &Range<u64>) -> Vec<Range<u64>> {
        let behind = self.runs.partition_point(|(at, _, _)| *at <= data.start);
        let runs = self.runs.iter().skip(behind.saturating_sub(1));
        let mut places = Vec::new();
        for (at, start, length) in runs.take_while(|(at, _, _)| *at < data.end) {
            let from = data.start.saturating_sub(*at).min(*length);
            let to = data.end.saturating_sub(*at).min(*length);
            let place = start.saturating_add(from)..start.saturating_add(to);
            if !place.is_empty() {
                places.push(place);
            }
        }
        places
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::single_range_in_vec_init, reason = "one range is what is meant")]
    use super::*;
    use crate::repo::tree::{Content, Extents, Inode};

    fn layout(bytes: u64, extents: Option<Vec<Range<u64>>>) -> Layout {
        let (inode, extents) = (Inode::default(), extents.map(Extents));
        Layout::of(&FileBody { bytes, inode, extents, content: Content::None })
    }

    #[test]
    fn data_without_holes_lies_where_it_is() {
        assert_eq!(layout(100, None).places(&(10..90)), [10..90]);
        assert_eq!(layout(100, None).places(&(90..110)), [90..100]);
        assert!(layout(0, None).places(&(0..0)).is_empty());
    }

    #[test]
    fn data_with_holes_is_spread() {
        let layout = layout(100, Some(vec![10..20, 30..40, 90..100]));
        assert_eq!(layout.places(&(0..30)), [10..20, 30..40, 90..100]);
        assert_eq!(layout.places(&(5..25)), [15..20, 30..40, 90..95]);
        assert_eq!(layout.places(&(10..11)), [30..31]);
        assert_eq!(layout.places(&(29..99)), [99..100]);
        assert!(layout.places(&(30..99)).is_empty());
    }
}
