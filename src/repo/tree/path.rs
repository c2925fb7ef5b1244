//! Paths as a tree records them: what is one, which comes first, and where leaves are cut. Pure.
//!
//! A path is raw bytes, relative, components split by `/`. What a restore would refuse is refused
//! here, by writers and readers alike, so a tree that decodes has no path that leaves its target.

use crate::crypto::expand;
use crate::crypto::keys::ChunkerKey;
use std::cmp::Ordering;
use zeroize::Zeroizing;

/// The longest path, in bytes.
pub const PATH_BYTES_MAX: usize = 4_096;

/// The longest component.
pub const COMPONENT_BYTES_MAX: usize = 255;

/// The most components.
pub const DEPTH_MAX: usize = 128;

/// Why bytes are not a path of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// Nothing at all, a `/` at an end, or two of them side by side.
    #[error("a component of the path is empty")]
    Empty,
    /// Above [`PATH_BYTES_MAX`].
    #[error("the path has {0} bytes, and {PATH_BYTES_MAX} are the most")]
    TooLong(usize),
    /// Above [`COMPONENT_BYTES_MAX`].
    #[error("a name has {0} bytes, and {COMPONENT_BYTES_MAX} are the most")]
    NameTooLong(usize),
    /// Above [`DEPTH_MAX`].
    #[error("the path has more than {DEPTH_MAX} components")]
    TooDeep,
    /// `.` or `..`.
    #[error("a component of the path is . or ..")]
    Dots,
    /// A byte 0.
    #[error("the path has a byte 0 in it")]
    Nul,
}

/// Whether `path` is one.
///
/// # Errors
/// [`PathFault`], whatever the bytes.
pub fn check(path: &[u8]) -> Result<(), PathFault> {
    if path.len() > PATH_BYTES_MAX {
        return Err(PathFault::TooLong(path.len()));
    }
    for (depth, name) in path.split(|byte| *byte == b'/').enumerate() {
        match name {
            [] => return Err(PathFault::Empty),
            b"." | b".." => return Err(PathFault::Dots),
            _ if name.len() > COMPONENT_BYTES_MAX => {
                return Err(PathFault::NameTooLong(name.len()));
            }
            _ if name.contains(&0) => return Err(PathFault::Nul),
            _ if depth >= DEPTH_MAX => return Err(PathFault::TooDeep),
            _ => {}
        }
    }
    Ok(())
}

/// Which of two paths comes first: bytewise, with `/` before every other byte. So a folder comes
/// before what is in it, that before whatever follows the folder, and names are in bytewise order.
pub fn compare(left: &[u8], right: &[u8]) -> Ordering {
    let rank = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    left.iter().map(rank).cmp(right.iter().map(rank))
}

/// The folder that `path` is in; `None` at the top.
pub fn parent(path: &[u8]) -> Option<&[u8]> {
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    path.get(..slash)
}

/// Whether `path` lies below the folder `folder`, or is it.
pub fn is_within(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'/'))
}

/// Says where leaves and nodes of an owner's trees end: after a path, by a keyed hash of it alone,
/// so that no change of what is recorded of a file moves a cut, and the sizes of leaves do not
/// fingerprint known folders.
pub struct Cutter(Zeroizing<[u8; 32]>);

impl Cutter {
    /// `Expand(chunker, "quloud/v1/tree-cut")`.
    pub fn new(key: &ChunkerKey) -> Self {
        Self(Zeroizing::new(expand(key.expose(), &[b"quloud/v1/tree-cut"])))
    }

    /// Whether the lowest `bits` bits of the first little-endian `u64` of the path's keyed BLAKE3
    /// are 0: one path in `2^bits`.
    pub fn cuts_after(&self, path: &[u8], bits: u32) -> bool {
        let hash = crate::crypto::keyed_hash(&self.0, &[path]);
        let [a, b, c, d, e, f, g, h, ..] = hash;
        u64::from_le_bytes([a, b, c, d, e, f, g, h]).trailing_zeros() >= bits
    }
}

impl std::fmt::Debug for Cutter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cutter(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_that_climbs_is_refused() {
        for (path, fault) in [
            (b"".as_slice(), PathFault::Empty),
            (b"/etc/passwd", PathFault::Empty),
            (b"a/", PathFault::Empty),
            (b"a//b", PathFault::Empty),
            (b"..", PathFault::Dots),
            (b"a/../b", PathFault::Dots),
            (b"a/..", PathFault::Dots),
            (b"./a", PathFault::Dots),
            (b"a\0b", PathFault::Nul),
            (&[b'a'; 256], PathFault::NameTooLong(256)),
        ] {
            assert_eq!(check(path), Err(fault), "{path:?}");
        }
        let deep = |depth: usize| vec!["a"; depth].join("/").into_bytes();
        assert_eq!((check(&deep(128)), check(&deep(129))), (Ok(()), Err(PathFault::TooDeep)));
        let long = [[b'a'; 255].as_slice(); 16].join(&b'/');
        assert_eq!((long.len(), check(&long)), (4_095, Ok(())));
        assert_eq!(check(&[&long, b"/b".as_slice()].concat()), Err(PathFault::TooLong(4_097)));
    }

    #[test]
    fn odd_names_of_other_platforms_are_paths() {
        for path in
            [b"...".as_slice(), b"CON", b"a:b", b"a.", b" ", b"-rf", b"\xff\xfe", b"a\nb", b"a\\b"]
        {
            assert_eq!(check(path), Ok(()), "{path:?}");
        }
    }

    #[test]
    fn a_folder_comes_before_what_is_in_it_and_that_before_its_neighbour() {
        let order: [&[u8]; 7] = [b"a", b"a/b", b"a/b/c", b"a/b\x01", b"a\x01", b"a-b", b"b"];
        for (at, left) in order.iter().enumerate() {
            for (other, right) in order.iter().enumerate() {
                assert_eq!(compare(left, right), at.cmp(&other), "{left:?} {right:?}");
            }
        }
    }

    #[test]
    fn what_lies_within_a_folder_is_told_by_whole_names() {
        assert!(is_within(b"a/b", b"a") && is_within(b"a", b"a"));
        assert!(!is_within(b"ab", b"a") && !is_within(b"a", b"a/b"));
        assert_eq!((parent(b"a/b/c"), parent(b"a")), (Some(b"a/b".as_slice()), None));
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_lists_of_names(
            left in proptest::collection::vec("[ -.0-9]{1,3}", 1..4),
            right in proptest::collection::vec("[ -.0-9]{1,3}", 1..4),
        ) {
            let joined = |names: &[String]| names.join("/").into_bytes();
            prop_assert_eq!(compare(&joined(&left), &joined(&right)), left.cmp(&right));
        }
    }
}
