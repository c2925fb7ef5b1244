//! Entries as rows, and rows on their way to whoever asked.

use crate::node::failures;
use crate::node::report::{
    ChangeKind, DiffRow, Failure, FindRequest, FindRow, NameKind, NameReport, NamesTally, Rows,
};
use crate::repo::diff::{Change, Difference, Tally};
use crate::repo::find::Query;
use crate::repo::ls::Line;
use crate::repo::names::inert;
use crate::repo::pattern::Pattern;
use crate::repo::tree::{Entry, FileType, What};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// So many rows go out together at most,
const ROWS_MAX: usize = 256;

/// with so many bytes of text,
const BYTES_MAX: usize = 128 << 10;

/// and the first of them waits no longer than this.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// A row that knows how long it is, about.
pub(super) trait Row {
    fn bytes(&self) -> usize;
}

impl Row for NameReport {
    fn bytes(&self) -> usize {
        let texts = [&self.target, &self.first_name, &self.line];
        let texts = texts.into_iter().flatten().map(String::len).sum::<usize>();
        self.path.len() + texts
    }
}

impl Row for FindRow {
    fn bytes(&self) -> usize {
        self.name.bytes()
    }
}

impl Row for DiffRow {
    fn bytes(&self) -> usize {
        let sides = self.before.iter().chain(&self.after).map(Row::bytes).sum::<usize>();
        self.path.len() + self.line.as_ref().map_or(0, String::len) + sides
    }
}

/// Sends rows, some together. Waits for whoever reads them.
pub(super) struct Teller<'a, R, D> {
    parts: &'a mpsc::Sender<Rows<R, D>>,
    rows: Vec<R>,
    bytes: usize,
    since: Instant,
    all: u64,
}

impl<'a, R: Row, D> Teller<'a, R, D> {
    pub(super) fn new(parts: &'a mpsc::Sender<Rows<R, D>>) -> Self {
        Self { parts, rows: Vec::new(), bytes: 0, since: Instant::now(), all: 0 }
    }

    /// One more. Blocks where too many are on their way.
    ///
    /// # Errors
    /// Nobody listens any more.
    pub(super) fn row(&mut self, row: R) -> Result<(), Failure> {
        if self.rows.is_empty() {
            self.since = Instant::now();
        }
        self.bytes += row.bytes();
        self.rows.push(row);
        self.all += 1;
        let is_full = self.rows.len() >= ROWS_MAX || self.bytes >= BYTES_MAX;
        if is_full || self.since.elapsed() >= TELL_EVERY { self.send() } else { Ok(()) }
    }

    /// Sends the rest, and says how many there were.
    ///
    /// # Errors
    /// Nobody listens any more.
    pub(super) fn end(mut self) -> Result<u64, Failure> {
        self.send()?;
        Ok(self.all)
    }

    fn send(&mut self) -> Result<(), Failure> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        if rows.is_empty() {
            return Ok(());
        }
        self.parts.blocking_send(Rows::Rows { rows }).map_err(|_| failures::stopped())
    }
}

/// A name as it is told.
pub(super) fn name(entry: &Entry, lines: bool) -> NameReport {
    let Entry { path, mode, uid, gid, mtime_ns, implied, unreadable, what, .. } = entry;
    let path = rooted(path);
    let line = lines.then(|| Line { entry, name: &path, utc_offset_min: 0 }.to_string());
    let (mut target, mut first_name, mut device) = (None, None, None);
    match what {
        What::Symlink(text) => target = Some(inert(text)),
        What::HardLink(first) => first_name = Some(inert(&rooted(first))),
        What::Device { number, .. } => device = Some(*number),
        What::Folder(_) | What::File(_) | What::Fifo | What::Socket => {}
    }
    NameReport {
        path: inert(&path),
        kind: kind(what.file_type()),
        mode: *mode,
        uid: *uid,
        gid: *gid,
        bytes: entry.bytes(),
        modified_at: mtime_ns.div_euclid(1_000_000_000),
        modified_ns: u32::try_from(mtime_ns.rem_euclid(1_000_000_000)).unwrap_or(0),
        target,
        first_name,
        device,
        implied: *implied,
        unreadable: *unreadable,
        line,
    }
}

/// A path of a tree as it was recorded.
fn rooted(path: &[u8]) -> Vec<u8> {
    [b"/", path].concat()
}

fn kind(file_type: FileType) -> NameKind {
    match file_type {
        FileType::Folder => NameKind::Folder,
        FileType::Regular => NameKind::File,
        FileType::Symlink => NameKind::Symlink,
        FileType::Fifo => NameKind::Fifo,
        FileType::CharacterDevice => NameKind::CharacterDevice,
        FileType::BlockDevice => NameKind::BlockDevice,
        FileType::Socket => NameKind::Socket,
    }
}

/// A difference as it is told.
pub(super) fn diff_row(difference: &Difference, lines: bool) -> DiffRow {
    let (change, letter) = match difference.change {
        Change::Added => (ChangeKind::Added, '+'),
        Change::Removed => (ChangeKind::Removed, '-'),
        Change::Content => (ChangeKind::Content, 'M'),
        Change::Metadata => (ChangeKind::Metadata, 'U'),
        Change::Type => (ChangeKind::Type, 'T'),
    };
    let path = inert(&rooted(difference.path()));
    let newest = difference.after.as_ref().or(difference.before.as_ref());
    let is_folder = newest.is_some_and(|entry| matches!(entry.what, What::Folder(_)));
    let end = if is_folder { "/" } else { "" };
    let line = lines.then(|| format!("{letter}  {path}{end}"));
    let side = |entry: &Option<Entry>| entry.as_ref().map(|entry| name(entry, false));
    // For people the line says all.
    let (before, after) = match lines {
        true => (None, None),
        false => (side(&difference.before), side(&difference.after)),
    };
    DiffRow { path, change, before, after, line }
}

pub(super) fn tally(tally: Tally) -> NamesTally {
    let Tally { files, folders, others, bytes } = tally;
    NamesTally { files, folders, others, bytes }
}

/// What is looked for.
///
/// # Errors
/// Why it cannot be understood.
pub(super) fn query(request: &FindRequest) -> Result<Query, String> {
    let mut patterns = Vec::new();
    for text in &request.patterns {
        let pattern = Pattern::parse(text.as_bytes());
        let pattern = pattern.map_err(|fault| format!("{}: {fault}", inert(text.as_bytes())))?;
        patterns.extend(pattern);
    }
    if patterns.is_empty() && !request.patterns.is_empty() {
        return Err("an empty pattern matches nothing".to_owned());
    }
    let types = request.kinds.iter().map(|kind| match kind {
        NameKind::Folder => FileType::Folder,
        NameKind::File => FileType::Regular,
        NameKind::Symlink => FileType::Symlink,
        NameKind::Fifo => FileType::Fifo,
        NameKind::CharacterDevice => FileType::CharacterDevice,
        NameKind::BlockDevice => FileType::BlockDevice,
        NameKind::Socket => FileType::Socket,
    });
    let bytes = (request.bytes_min, request.bytes_max);
    let bytes = match bytes {
        (None, None) => None,
        (min, max) => Some(min.unwrap_or(0)..=max.unwrap_or(u64::MAX)),
    };
    let from = request.modified_from.map(|at| at.saturating_mul(1_000_000_000));
    // To the end of that second.
    let to = request.modified_to.map(|at| {
        let behind = at.saturating_add(1).saturating_mul(1_000_000_000);
        behind.saturating_sub(1)
    });
    let mtime_ns = match (from, to) {
        (None, None) => None,
        (from, to) => Some(from.unwrap_or(i64::MIN)..=to.unwrap_or(i64::MAX)),
    };
    Ok(Query { patterns, types: types.collect(), bytes, mtime_ns })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::tree::Inode;

    fn link(path: &[u8], target: &[u8]) -> Entry {
        Entry {
            path: path.to_vec(),
            mode: 0o777,
            uid: 1,
            gid: 2,
            mtime_ns: -1,
            xattrs: Vec::new(),
            implied: false,
            unreadable: false,
            what: What::Symlink(target.to_vec()),
        }
    }

    #[test]
    fn names_are_inert_on_a_terminal_and_in_json() {
        let entry = link(b"a\x1b[2J/\xff\n", "\u{202e}txt".as_bytes());
        let told = name(&entry, true);
        assert_eq!(told.path, "/a\\x1b[2J/\\xff\\n");
        assert_eq!(told.target.as_deref(), Some("\\u{202e}txt"));
        assert_eq!((told.modified_at, told.modified_ns), (-1, 999_999_999));
        let line = told.line.unwrap();
        assert!(line.ends_with("/a\\x1b[2J/\\xff\\n -> \\u{202e}txt"), "{line}");
        assert!(!line.chars().any(char::is_control), "{line}");
        let what = What::Folder(Inode::default());
        let folder = Entry { what, ..link(b"b\x07", b"") };
        let difference =
            Difference { change: Change::Type, before: Some(entry), after: Some(folder) };
        let row = diff_row(&difference, true);
        assert_eq!(row.line.as_deref(), Some("T  /b\\x07/"));
        assert!(row.before.is_none() && diff_row(&difference, false).before.is_some());
    }

    #[test]
    fn a_query_is_refused_where_nothing_can_match() {
        let asked = |patterns: &[&str]| FindRequest {
            patterns: patterns.iter().map(|text| (*text).to_owned()).collect(),
            ..FindRequest::default()
        };
        assert!(query(&asked(&["#comment"])).is_ok_and(|query| query.patterns.len() == 1));
        assert!(query(&asked(&[""])).is_err());
        assert!(query(&asked(&["*.txt", ""])).is_ok_and(|query| query.patterns.len() == 1));
        let range = FindRequest { bytes_min: Some(7), modified_to: Some(9), ..asked(&[]) };
        let query = query(&range).unwrap();
        assert_eq!(query.bytes, Some(7..=u64::MAX));
        assert_eq!(query.mtime_ns, Some(i64::MIN..=9_999_999_999));
    }
}
