//! The rules that every source file keeps, checked mechanically:
//!
//! - a file opens with `//!` and has 800 lines at most, a function 70, a line 100 columns;
//! - a module is `foo.rs` beside `foo/`, never `mod.rs`;
//! - nothing is left over: no debugging output, no marks of unfinished work, no ignored tests;
//! - a module imports only what the architecture allows ([`imports`] has the list);
//! - every dependency comes from the registry, none from a git repository.

mod imports;

use quloud::planted::Bug;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest file, in lines.
const FILE_LINES_MAX: usize = 800;

/// Longest function, signature and closing brace included, in lines.
const FUNCTION_LINES_MAX: usize = 70;

/// Longest line, in characters.
const COLUMNS_MAX: usize = 100;

/// A source file: its path from the top of the repository, and its text.
struct Source {
    path: String,
    text: String,
}

#[test]
fn files_are_short_and_begin_with_what_they_are() {
    let mut faults = Vec::new();
    for Source { path, text } in rust_sources() {
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            faults.push(format!("{path}: {lines} lines, which noun is missing?"));
        }
        if !text.starts_with("//!") {
            faults.push(format!("{path}: does not open with //!"));
        }
        if path.ends_with("/mod.rs") {
            faults.push(format!("{path}: modules are foo.rs beside foo/"));
        }
    }
    none(&faults);
}

#[test]
fn lines_fit_a_hundred_columns() {
    let mut faults = Vec::new();
    for Source { path, text } in rust_sources().into_iter().chain(sources("scripts", "sh")) {
        let wide = text.lines().enumerate().filter(|(_, line)| line.chars().count() > COLUMNS_MAX);
        faults.extend(wide.map(|(at, _)| format!("{path}:{}: over {COLUMNS_MAX}", at + 1)));
    }
    none(&faults);
}

#[test]
fn functions_are_short() {
    let mut faults = Vec::new();
    for Source { path, text } in rust_sources() {
        for (line, length) in functions(&text) {
            if length > FUNCTION_LINES_MAX {
                faults.push(format!("{path}:{line}: a function of {length} lines"));
            }
        }
    }
    none(&faults);
}

#[test]
fn nothing_is_left_over() {
    // Written in two halves, so that this file does not find itself.
    let leftovers =
        [("db", "g!("), ("FIX", "ME"), ("XX", "X:"), ("to", "do!("), ("unimple", "mented!(")];
    let ignored = [("#[ign", "ore"), ("#[cfg_attr(", "ignore")];
    let mut faults = Vec::new();
    for Source { path, text } in rust_sources() {
        for (head, tail) in leftovers.iter().chain(&ignored) {
            let leftover = format!("{head}{tail}");
            for (at, _) in text.lines().enumerate().filter(|(_, line)| line.contains(&leftover)) {
                faults.push(format!("{path}:{}: {leftover}", at + 1));
            }
        }
    }
    none(&faults);
}

#[test]
fn modules_import_only_what_the_architecture_allows() {
    let faults: Vec<String> = sources("src", "rs").iter().flat_map(imports::faults).collect();
    none(&faults);
}

#[test]
fn every_planted_bug_has_one_place() {
    let sources = sources("src", "rs");
    let places = |bug: &Bug| {
        let place = format!("is_on(Bug::{bug:?})");
        sources.iter().map(|source| source.text.matches(&place).count()).sum::<usize>()
    };
    let count = |bug: &Bug| (places(bug) != 1).then(|| format!("{bug:?}: {} places", places(bug)));
    none(&Bug::ALL.iter().filter_map(count).collect::<Vec<_>>());
}

#[test]
fn lockfile_has_no_git_sources() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let faults: Vec<String> =
        lock.lines().filter(|line| line.contains("git+")).map(str::to_owned).collect();
    none(&faults);
}

/// The functions of a formatted file: the line each begins on, and how many it has. The formatter
/// puts a function's closing brace alone on a line, as far in as its first line.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let indent = &line[..line.len() - line.trim_start().len()];
        if !begins_function(line.trim_start()) {
            continue;
        }
        let body = lines[at..]
            .iter()
            .take_while(|line| line.strip_prefix(indent).is_none_or(|rest| !rest.starts_with('}')));
        // A declaration, or a body on the same line, ends where it begins.
        if !line.ends_with(';') && !line.ends_with('}') {
            found.push((at + 1, body.count() + 1));
        }
    }
    found
}

fn begins_function(line: &str) -> bool {
    let mut words = line.split(' ');
    let modifier = |word: &str| {
        word.starts_with("pub") || ["const", "async", "unsafe", "extern"].contains(&word)
    };
    words.find(|word| !modifier(word)).is_some_and(|word| word == "fn")
}

fn rust_sources() -> Vec<Source> {
    ["src", "tests", "netsim", "proto"].iter().flat_map(|top| sources(top, "rs")).collect()
}

/// All files under `top` with this extension, in the order of their paths.
fn sources(top: &str, extension: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    collect(&root().join(top), &mut paths);
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    let source = |path: PathBuf| Source {
        text: fs::read_to_string(&path).unwrap(),
        path: path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(),
    };
    paths.into_iter().map(source).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true if path.ends_with("target") => {}
            true => collect(&path, paths),
            false => paths.push(path),
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn function_lengths_are_counted() {
    let text = [
        "//! x",
        "fn a() {",
        "    b();",
        "}",
        "impl X {",
        "    pub(super) async fn c(",
        "        d: u8,",
        "    ) {",
        "        e();",
        "    }",
        "    fn f();",
        "    fn g() {}",
        "}",
    ];
    assert_eq!(functions(&text.join("\n")), [(2, 3), (6, 5)]);
}
