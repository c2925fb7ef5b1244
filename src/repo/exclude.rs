//! What a backup leaves out. Pure.
//!
//! The rules are gitignore's: the last [pattern](super::pattern) that speaks of a path decides, one
//! with a `!` brings it back, and what lies in a folder that is left out cannot be brought back,
//! because nobody looks into that folder. Each root of a backup is a top of its own: a pattern with
//! a `/` is matched with the path below the root. One that begins with the absolute path of a root,
//! as a shell completes it, means that place in that root.

use super::pattern::{Pattern, PatternFault};
use super::snapshot::{EXCLUDES_BYTES_MAX, recorded_bytes};

/// The name of the file that marks a folder as a cache.
pub const CACHE_TAG_NAME: &[u8] = b"CACHEDIR.TAG";

/// With what the content of such a file begins (Cache Directory Tagging Specification, bford.info).
pub const CACHE_TAG: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// The most patterns; a snapshot records them.
pub const PATTERNS_MAX: usize = 4_096;

/// Whether something is part of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Included,
    /// It is not, nor what lies in it.
    Excluded,
}

/// Why a pattern was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExcludeFault {
    /// One given by itself.
    #[error("the pattern {pattern:?} cannot match anything: {fault}")]
    Pattern {
        /// As it was given; what is no UTF-8 is replaced.
        pattern: String,
        /// What is wrong with it.
        fault: PatternFault,
    },
    /// One in a file.
    #[error("line {line} cannot match anything: {fault}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        fault: PatternFault,
    },
    /// Above [`PATTERNS_MAX`].
    #[error("there are more than {PATTERNS_MAX} patterns")]
    TooMany,
    /// Together above [`EXCLUDES_BYTES_MAX`].
    #[error("the patterns take more than {EXCLUDES_BYTES_MAX} bytes: no snapshot can record them")]
    TooLong,
}

/// Patterns, in the order in which they were given.
#[derive(Debug, Clone, Default)]
pub struct Excludes {
    patterns: Vec<Pattern>,
    /// What they take in a snapshot.
    bytes: usize,
}

impl Excludes {
    /// Adds one pattern, given by itself.
    ///
    /// # Errors
    /// [`ExcludeFault`].
    pub fn add(&mut self, pattern: &[u8]) -> Result<(), ExcludeFault> {
        let parsed = Pattern::parse(pattern).map_err(|fault| {
            let pattern = String::from_utf8_lossy(pattern).into_owned();
            ExcludeFault::Pattern { pattern, fault }
        })?;
        self.push(parsed)
    }

    /// Adds the lines of a file of patterns, like a `.gitignore`.
    ///
    /// # Errors
    /// [`ExcludeFault`]; the lines before were added.
    pub fn add_lines(&mut self, file: &[u8]) -> Result<(), ExcludeFault> {
        let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
        for (number, line) in file.split(|byte| *byte == b'\n').enumerate() {
            let parsed = Pattern::parse_line(line)
                .map_err(|fault| ExcludeFault::Line { line: number + 1, fault })?;
            self.push(parsed)?;
        }
        Ok(())
    }

    /// What becomes of `path`, which lies below the root and in no folder that is left out.
    pub fn decide(&self, path: &[u8], is_folder: bool) -> Verdict {
        let last = self.patterns.iter().rev().find(|pattern| pattern.matches(path, is_folder));
        match last {
            Some(pattern) if !pattern.is_negated() => Verdict::Excluded,
            _ => Verdict::Included,
        }
    }

    /// The patterns as they concern `root`, one of `roots`; all are absolute.
    pub fn below(&self, root: &[u8], roots: &[Vec<u8>]) -> Self {
        let patterns = self.patterns.iter().filter_map(|pattern| {
            let absolute = pattern.source().strip_prefix(b"!").unwrap_or(pattern.source());
            let within = |root: &&Vec<u8>| rest_below(absolute, root).is_some();
            let Some(owner) = roots.iter().filter(within).max_by_key(|root| root.len()) else {
                return Some(pattern.clone());
            };
            let rest = rest_below(absolute, owner).filter(|_| owner == root)?;
            let mark = if pattern.is_negated() { b"!".as_slice() } else { b"" };
            Pattern::parse(&[mark, rest].concat()).ok().flatten()
        });
        Self { patterns: patterns.collect(), bytes: self.bytes }
    }

    /// The patterns as they were given, for the snapshot.
    pub fn sources(&self) -> impl Iterator<Item = &[u8]> {
        self.patterns.iter().map(Pattern::source)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    fn push(&mut self, pattern: Option<Pattern>) -> Result<(), ExcludeFault> {
        let Some(pattern) = pattern else { return Ok(()) };
        if self.patterns.len() >= PATTERNS_MAX {
            return Err(ExcludeFault::TooMany);
        }
        let bytes = self.bytes.saturating_add(recorded_bytes(pattern.source()));
        if bytes > EXCLUDES_BYTES_MAX {
            return Err(ExcludeFault::TooLong);
        }
        self.bytes = bytes;
        self.patterns.push(pattern);
        Ok(())
    }
}

/// What of `absolute` lies below `root`, with the `/` before it.
fn rest_below<'a>(absolute: &'a [u8], root: &[u8]) -> Option<&'a [u8]> {
    if root == b"/" {
        return None;
    }
    let rest = absolute.strip_prefix(root)?;
    (rest.first() == Some(&b'/') && rest.len() > 1).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::process::{Command, Stdio};

    fn excludes(lines: &str) -> Excludes {
        let mut excludes = Excludes::default();
        excludes.add_lines(lines.as_bytes()).unwrap();
        excludes
    }

    /// With the folders above, as a walk asks.
    fn is_excluded(excludes: &Excludes, path: &str, is_folder: bool) -> bool {
        let folders = path.match_indices('/').map(|(at, _)| (&path[..at], true));
        let mut asked = folders.chain([(path, is_folder)]);
        asked.any(|(path, folder)| excludes.decide(path.as_bytes(), folder) == Verdict::Excluded)
    }

    #[test]
    fn the_last_pattern_that_speaks_of_a_path_decides() {
        let rules = excludes("*.log\n!keep.log\n/build/\n!/build/x\n# all\n/keep.log");
        for (path, folder, excluded) in [
            ("a.log", false, true),
            ("x/keep.log", false, false),
            ("keep.log", false, true),
            ("build", true, true),
            ("build", false, false),
            ("build/x", false, true),
            ("x/build", true, false),
        ] {
            assert_eq!(is_excluded(&rules, path, folder), excluded, "{path}");
        }
    }

    #[test]
    fn a_pattern_with_the_path_of_a_root_means_that_place() {
        let roots = [b"/data".to_vec(), b"/data/sub".to_vec(), b"/home".to_vec()];
        let given = excludes("/data/cache\n!/data/sub/x/\n/cache\n*.o\n/data\n/database/x");
        let below = |root: &[u8]| {
            let rules = given.below(root, &roots);
            let sources: Vec<_> = rules.sources().map(String::from_utf8_lossy).collect();
            sources.join(" ")
        };
        assert_eq!(below(b"/data"), "/cache /cache *.o /data /database/x");
        assert_eq!(below(b"/data/sub"), "!/x/ /cache *.o /data /database/x");
        assert_eq!(below(b"/home"), "/cache *.o /data /database/x");
        let all = excludes("/data/cache").below(b"/", &[b"/".to_vec()]);
        assert!(is_excluded(&all, "data/cache", true));
    }

    #[test]
    fn a_pattern_that_can_never_match_is_named() {
        let mut rules = Excludes::default();
        let fault = rules.add_lines(b"a\n\n[b\n").unwrap_err();
        assert_eq!(fault, ExcludeFault::Line { line: 3, fault: PatternFault::Set });
        let said = rules.add(b"x\\").unwrap_err().to_string();
        assert!(said.starts_with("the pattern \"x\\\\\" cannot match anything: "), "{said}");
        let many = "a\n".repeat(PATTERNS_MAX);
        assert_eq!(Excludes::default().add_lines(many.as_bytes()), Ok(()));
        let long = "a".repeat(4_000) + "\n";
        let (most, more) = (long.repeat(10), long.repeat(11));
        assert_eq!(Excludes::default().add_lines(most.as_bytes()), Ok(()));
        assert_eq!(Excludes::default().add_lines(more.as_bytes()), Err(ExcludeFault::TooLong));
        let many = "a\n".repeat(PATTERNS_MAX + 1);
        assert_eq!(Excludes::default().add_lines(many.as_bytes()), Err(ExcludeFault::TooMany));
    }

    /// Rules, and whether a path is left out: files, and folders with a `/` at the end.
    const CASES: &[(&str, &[&str])] = &[
        ("foo", &["foo", "foo/", "a/foo", "foobar", "foo/b", "a/foo/b/c"]),
        ("foo/", &["foo", "foo/", "a/foo/", "foo/b", "a/foo"]),
        ("/foo", &["foo", "a/foo", "foo/b"]),
        ("a/b", &["a/b", "x/a/b", "a/b/c", "b"]),
        ("/a/b/", &["a/b", "a/b/", "a/b/c"]),
        ("*.o", &["x.o", "a/x.o", ".o", "x.oo", "x.o/a"]),
        ("*.o\n!x.o", &["x.o", "a/x.o", "y.o"]),
        ("a/\n!a/x", &["a/x", "a/y", "b/a/x"]),
        ("a/*\n!a/x", &["a/x", "a/y", "a/x/z"]),
        ("/*\n!/a\n/a/*\n!/a/b", &["x", "a/", "a/b", "a/c", "a/b/c"]),
        ("a/*/c", &["a/b/c", "a/c", "a/b/b/c"]),
        ("**/foo", &["foo", "a/foo", "a/b/foo", "xfoo"]),
        ("**/foo/bar", &["foo/bar", "a/foo/bar", "foo/a/bar"]),
        ("foo/**", &["foo/", "foo/a", "foo/a/b", "x/foo/a"]),
        ("a/**/b", &["a/b", "a/x/b", "a/x/y/b", "ab", "x/a/b"]),
        ("a/**/", &["a/", "a/b/", "a/b", "a/b/c/"]),
        ("**", &["a", "a/b"]),
        ("**/", &["a", "a/", "a/b"]),
        ("a**b", &["ab", "axb", "x/ayyb", "a/b"]),
        ("x/a*b*c", &["x/abc", "x/a1b2c", "x/acb", "x/a/bc"]),
        ("?", &["a", "ab", "x/a"]),
        ("a/?", &["a/b", "a/bc", "a/b/c"]),
        ("[a-c]x", &["ax", "cx", "dx", "-x"]),
        ("[!a-c]x", &["ax", "dx"]),
        ("[^a-c]x", &["ax", "dx"]),
        ("[]-]", &["]", "-", "a"]),
        ("[!]]", &["]", "a"]),
        ("[a-]", &["a", "-", "b"]),
        ("[--0]", &["-", "0", "1", ","]),
        ("[\\]]x", &["]x", "\\x", "x"]),
        ("[a\\-c]", &["a", "b", "-", "c"]),
        ("[[:alpha:]]1", &["a1", "Z1", "11"]),
        ("[[:digit:][:upper:]_]", &["1", "A", "_", "a"]),
        ("[![:space:]]x", &["ax", " x"]),
        ("[[:nothing:]]", &["a", "n", "]"]),
        ("[[:x]", &["[", ":", "x", "a"]),
        ("a[/]b", &["a/b"]),
        ("a[b", &["a[b", "ab"]),
        ("a\\", &["a", "a\\"]),
        ("\\*", &["*", "a"]),
        ("\\a", &["a", "\\a"]),
        ("\\!a", &["!a", "a"]),
        ("\\#a", &["#a", "a"]),
        ("#a", &["#a", "a"]),
        ("!a\na", &["a"]),
        ("a\n!a", &["a", "b/a"]),
        ("a  ", &["a", "a  "]),
        ("a\\ ", &["a", "a "]),
        ("a b", &["a b", "a"]),
        (" a", &[" a", "a"]),
        ("\ta", &["\ta", "a"]),
        ("a\t", &["a\t", "a"]),
        ("A", &["a", "A"]),
        ("/", &["a", "a/"]),
        ("//a", &["a"]),
        ("a//b", &["a/b"]),
        ("./a", &["a"]),
        ("", &["a"]),
        ("\u{e4}*", &["\u{e4}x", "x"]),
        ("*", &["a", ".a", "a/b"]),
        ("*\n!*/\n!*.c", &["a", "a.c", "a/b", "a/b.c"]),
        ("a\r", &["a", "a\r"]),
    ];

    #[test]
    fn git_leaves_out_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let git = |args: &[&str]| {
            let mut command = Command::new("git");
            command.args(args).current_dir(folder.path()).stdin(Stdio::null());
            command.env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", folder.path());
            command.output()
        };
        let Ok(made) = git(&["init", "-q", "."]) else { return };
        assert!(made.status.success(), "{made:?}");
        let info = folder.path().join(".git/info");
        fs::create_dir_all(&info).unwrap();
        for (rules, paths) in CASES {
            fs::write(info.join("exclude"), format!("{rules}\n")).unwrap();
            let mut ours = Excludes::default();
            for line in rules.split('\n') {
                // What can never match is nothing for git, and a fault here.
                let _ = ours.add_lines(line.as_bytes());
            }
            for path in *paths {
                let name = path.trim_end_matches('/');
                let top = name.split('/').next().unwrap();
                let (top, whole) = (folder.path().join(top), folder.path().join(name));
                fs::create_dir_all(whole.parent().unwrap()).unwrap();
                if name == *path {
                    fs::write(&whole, b"").unwrap();
                } else {
                    fs::create_dir(&whole).unwrap();
                }
                // Some names mean something else to git when they stand alone.
                let named = format!("./{name}");
                let output = git(&["check-ignore", "-q", "--no-index", "--", &named]).unwrap();
                assert!(output.stderr.is_empty(), "{output:?}");
                let found = is_excluded(&ours, name, name != *path);
                assert_eq!(found, output.status.success(), "{rules:?} {path:?}");
                fs::remove_dir_all(&top).or_else(|_| fs::remove_file(&top)).unwrap();
            }
        }
    }
}
