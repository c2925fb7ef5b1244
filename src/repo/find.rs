//! Entries of a tree by what is recorded of them: name, type, size, time. Pure.

#[cfg(test)]
mod tests;

use super::look::{Gaps, Look, LookFault, Seen, tree_need};
use super::pattern::Pattern;
use super::plan::{Lost, Need};
use super::tree::walk::{Step, TreeWalk};
use super::tree::{Entry, FileType, TreeRoot, What, path};
use bytes::Bytes;
use std::ops::RangeInclusive;

/// What is looked for: an entry that all of this speaks of.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// As in a file of gitignore's patterns: of those that match the last one decides. All entries
    /// where there are none, or only negated ones.
    pub patterns: Vec<Pattern>,
    /// One of these types; any where there are none.
    pub types: Vec<FileType>,
    /// Only files of so many bytes, by their first names: of the others no size is recorded.
    pub bytes: Option<RangeInclusive<u64>>,
    /// Only what was last changed at a time from here to there: nanoseconds since 1970.
    pub mtime_ns: Option<RangeInclusive<i64>>,
}

impl Query {
    /// Whether this is what is looked for. Of a folder whose metadata was not recorded only name
    /// and type are known.
    pub fn matches(&self, entry: &Entry) -> bool {
        let file_type = entry.what.file_type();
        let is_sized = |range: &RangeInclusive<u64>| match &entry.what {
            What::File(body) => range.contains(&body.bytes),
            _ => false,
        };
        let is_timed =
            |range: &RangeInclusive<i64>| !entry.implied && range.contains(&entry.mtime_ns);
        (self.types.is_empty() || self.types.contains(&file_type))
            && self.bytes.as_ref().is_none_or(is_sized)
            && self.mtime_ns.as_ref().is_none_or(is_timed)
            && self.is_named(&entry.path, file_type == FileType::Folder)
    }

    fn is_named(&self, path: &[u8], is_folder: bool) -> bool {
        let speaks = |pattern: &&Pattern| pattern.matches(path, is_folder);
        match self.patterns.iter().rev().find(speaks) {
            Some(last) => !last.is_negated(),
            None => self.patterns.iter().all(Pattern::is_negated),
        }
    }
}

/// Looks through a tree.
#[derive(Debug)]
pub struct Find {
    walk: Option<TreeWalk>,
    query: Query,
    /// Only what is this or lies in it; all where it is empty.
    below: Vec<u8>,
    gaps: Gaps,
}

impl Find {
    /// In all of a tree where `below` is empty, else in what is that path or lies in it; a snapshot
    /// of nothing has no tree.
    pub fn new(root: Option<&TreeRoot>, below: &[u8], query: Query) -> Self {
        let walk = root.map(|root| TreeWalk::new(root, below));
        Self { walk, query, below: below.to_vec(), gaps: Gaps::default() }
    }

    /// What could not be read, and so not looked at.
    pub fn gaps(&self) -> &Gaps {
        &self.gaps
    }
}

impl Look for Find {
    type Found = Entry;
    type Fault = LookFault;

    fn step(&mut self) -> Result<Seen<Entry>, LookFault> {
        loop {
            let Some(walk) = &mut self.walk else { return Ok(Seen::End) };
            match walk.step()? {
                Step::Wait => return Ok(Seen::Wait),
                Step::Entry(entry)
                    if self.below.is_empty() || path::is_within(&entry.path, &self.below) =>
                {
                    if self.query.matches(&entry) {
                        return Ok(Seen::Found(entry));
                    }
                }
                Step::Entry(_) | Step::End => self.walk = None,
            }
        }
    }

    fn wanted(&mut self) -> Option<Need> {
        self.walk.as_mut()?.wanted().map(tree_need)
    }

    fn give(&mut self, index: u64, plaintext: Result<Bytes, Lost>) {
        let Some(walk) = &mut self.walk else { return };
        match plaintext {
            Ok(plaintext) => walk.give(index, plaintext),
            Err(_) => self.gaps.add(walk.give_up(index)),
        }
    }
}
