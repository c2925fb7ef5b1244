//! What is in a folder of a tree, and how a line about it looks. Pure.
//!
//! Of one folder alone as little of the tree is read as there has to be: what lies in the folders
//! in it is passed by.

#[cfg(test)]
mod tests;

use super::calendar::WallTime;
use super::look::{Gaps, Look, LookFault, Seen, tree_need};
use super::names::Inert;
use super::plan::{Lost, Need};
use super::tree::walk::{Step, TreeWalk};
use super::tree::{Entry, FileType, TreeRoot, What, path};
use bytes::Bytes;
use std::fmt;

/// How much is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What is in the folder.
    One,
    /// And in all folders in it.
    All,
}

/// Lists a folder of a tree; of anything else that has the path just that.
#[derive(Debug)]
pub struct Ls {
    walk: Option<TreeWalk>,
    /// Empty at the top.
    at: Vec<u8>,
    depth: Depth,
    /// What has the path was there.
    is_found: bool,
    /// A chunk was asked for and has not come.
    is_asked: bool,
    gaps: Gaps,
}

impl Ls {
    /// At a path of the tree, or at its top where that is empty; a snapshot of nothing has no tree.
    pub fn new(root: Option<&TreeRoot>, at: &[u8], depth: Depth) -> Self {
        let walk = root.map(|root| TreeWalk::new(root, at));
        let (at, is_found, gaps) = (at.to_vec(), at.is_empty(), Gaps::default());
        Self { walk, at, depth, is_found, is_asked: false, gaps }
    }

    /// What could not be read, and so is not listed.
    pub fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    /// The name in the folder that a path is, or that it lies below; `None` for the folder itself.
    fn child<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        let begin = if self.at.is_empty() { 0 } else { self.at.len() + 1 };
        let rest = path.get(begin..)?;
        let length = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        path.get(..begin + length)
    }

    /// Whether an entry is listed. Where only a part of the tree could be read, it may lie in a
    /// folder that did not come.
    fn lists(&self, entry: &Entry) -> bool {
        match self.child(&entry.path) {
            Some(child) => self.depth == Depth::All || child.len() == entry.path.len(),
            None => !matches!(entry.what, What::Folder(_)),
        }
    }
}

impl Look for Ls {
    type Found = Entry;
    type Fault = LookFault;

    fn step(&mut self) -> Result<Seen<Entry>, LookFault> {
        loop {
            let step = match &mut self.walk {
                Some(walk) => walk.step()?,
                None if self.is_found || !self.gaps.is_empty() => return Ok(Seen::End),
                None => return Err(LookFault::NoSuchPath),
            };
            let entry = match step {
                Step::Entry(entry) => entry,
                Step::Wait => return Ok(Seen::Wait),
                Step::End => {
                    self.walk = None;
                    continue;
                }
            };
            if !self.at.is_empty() && !path::is_within(&entry.path, &self.at) {
                self.walk = None;
                continue;
            }
            self.is_found = true;
            if self.depth == Depth::One
                && let Some(behind) = self.child(&entry.path).map(behind)
                && let Some(walk) = &mut self.walk
            {
                walk.seek(&behind);
            }
            if self.lists(&entry) {
                return Ok(Seen::Found(entry));
            }
        }
    }

    fn wanted(&mut self) -> Option<Need> {
        // What is asked for ahead would be passed by.
        if self.depth == Depth::One && self.is_asked {
            return None;
        }
        let need = self.walk.as_mut()?.wanted().map(tree_need);
        self.is_asked |= need.is_some();
        need
    }

    fn give(&mut self, index: u64, plaintext: Result<Bytes, Lost>) {
        self.is_asked = false;
        let Some(walk) = &mut self.walk else { return };
        match plaintext {
            Ok(plaintext) => walk.give(index, plaintext),
            Err(_) => self.gaps.add(walk.give_up(index)),
        }
    }
}

/// The first path that may follow a folder and all that lies in it.
fn behind(folder: &[u8]) -> Vec<u8> {
    // `/` is the least byte of a path, and 1 the next.
    [folder, &[1]].concat()
}

/// A line about an entry, as `ls -ln` has it: type and mode, owner, group, bytes or device number,
/// time of the last change, name, and where it leads to. Inert on a terminal.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// Of which.
    pub entry: &'a Entry,
    /// The name or path that is shown.
    pub name: &'a [u8],
    /// What the clock beside UTC shows that times are written by, in minutes.
    pub utc_offset_min: i16,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { uid, gid, mtime_ns, implied, unreadable, what, .. } = self.entry;
        let mode = Mode(self.entry);
        let size = match what {
            What::File(body) => body.bytes.to_string(),
            What::Device { number, .. } => {
                let (major, minor) = device(*number);
                format!("{major}, {minor}")
            }
            What::Symlink(target) => target.len().to_string(),
            _ => "-".to_owned(),
        };
        let name = Inert(self.name);
        if *implied {
            // Nothing was recorded of it.
            return write!(f, "{mode} {:>5} {:>5} {size:>12} {:>19} {name}", "?", "?", "?");
        }
        let changed = WallTime::of(*mtime_ns, self.utc_offset_min);
        write!(f, "{mode} {uid:>5} {gid:>5} {size:>12} {changed} {name}")?;
        match what {
            What::Symlink(target) => write!(f, " -> {}", Inert(target))?,
            What::HardLink(first) => write!(f, " = /{}", Inert(first))?,
            _ => {}
        }
        if *unreadable { f.write_str(" (could not be read)") } else { Ok(()) }
    }
}

/// `-rwsr-x--T`, with a `+` where there are extended attributes.
struct Mode<'a>(&'a Entry);

impl fmt::Display for Mode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { mode, implied, xattrs, what, .. } = self.0;
        let file_type: FileType = what.file_type();
        write!(f, "{}", file_type.letter())?;
        for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
            if *implied {
                f.write_str("???")?;
                continue;
            }
            let has = |bit: u32| (mode >> shift) & bit != 0;
            let shown = |bit, letter| if has(bit) { letter } else { '-' };
            let last = match (mode & special != 0, has(1)) {
                (true, true) => letter,
                (true, false) => letter.to_ascii_uppercase(),
                (false, true) => 'x',
                (false, false) => '-',
            };
            write!(f, "{}{}{last}", shown(4, 'r'), shown(2, 'w'))?;
        }
        f.write_str(if xattrs.is_empty() { " " } else { "+" })
    }
}

/// Major and minor number, as Linux packs them into one.
fn device(number: u64) -> (u64, u64) {
    let major = ((number >> 8) & 0xfff) | ((number >> 32) & 0xffff_f000);
    let minor = (number & 0xff) | ((number >> 12) & 0xffff_ff00);
    (major, minor)
}
