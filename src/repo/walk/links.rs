//! Files with several names: which of them came first.

use std::collections::BTreeMap;

/// The most memory for files whose other names were not seen yet: 32 MiB.
const BYTES_MAX: usize = 32 << 20;

/// What one file takes beside its path.
const FIXED_BYTES: usize = 80;

/// Files that have names still to come. What does not fit is not remembered: its other names are
/// then files of their own, with the same content.
#[derive(Debug, Default)]
pub(super) struct Links {
    first: BTreeMap<(u64, u64), First>,
    bytes: usize,
    forgotten: u64,
}

#[derive(Debug)]
struct First {
    path: Vec<u8>,
    left: u64,
}

impl Links {
    /// A name of a file with `names` of them; the first one, where this is another.
    pub(super) fn see(&mut self, file: (u64, u64), names: u64, path: &[u8]) -> Option<Vec<u8>> {
        if names < 2 {
            return None;
        }
        if let Some(first) = self.first.get_mut(&file) {
            first.left = first.left.saturating_sub(1);
            if first.left > 0 {
                return Some(first.path.clone());
            }
            let first = self.first.remove(&file)?;
            self.bytes -= first.path.len() + FIXED_BYTES;
            return Some(first.path);
        }
        let bytes = path.len() + FIXED_BYTES;
        if self.bytes + bytes > BYTES_MAX {
            self.forgotten += 1;
            return None;
        }
        self.bytes += bytes;
        self.first.insert(file, First { path: path.to_vec(), left: names - 1 });
        None
    }

    /// The first name of this file was not recorded: the next is the first.
    pub(super) fn forget(&mut self, file: (u64, u64)) {
        if let Some(first) = self.first.remove(&file) {
            self.bytes -= first.path.len() + FIXED_BYTES;
        }
    }

    /// How many names could not be remembered.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_forgotten_when_all_its_names_came() {
        let mut links = Links::default();
        assert_eq!(links.see((1, 1), 1, b"only"), None);
        assert_eq!(links.see((1, 2), 3, b"a"), None);
        assert_eq!(links.see((1, 2), 3, b"b"), Some(b"a".to_vec()));
        assert_eq!(links.see((1, 2), 3, b"c"), Some(b"a".to_vec()));
        assert_eq!((links.first.len(), links.bytes), (0, 0));
        assert_eq!(links.see((2, 2), 3, b"d"), None);
        links.forget((2, 2));
        assert_eq!(links.see((2, 2), 3, b"e"), None);
    }

    #[test]
    fn memory_of_names_is_bounded() {
        let mut links = Links::default();
        let path = [b'x'; 4_000];
        for number in 0..20_000 {
            links.see((0, number), 2, &path);
            assert!(links.bytes <= BYTES_MAX);
        }
        assert!(links.forgotten() > 10_000);
    }
}
