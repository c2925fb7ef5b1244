//! Who may import whom. Test code is exempt: it ends its file behind `#[cfg(test)]`, or has a file
//! of its own called `tests`.

use super::{Source, root};
use std::fs;

/// What the modules of `src/` may name of each other, by the beginnings of paths. The first entry
/// that fits a module is its own.
const MODULES: [(&str, &[&str]); 15] = [
    ("buffers", &[]),
    ("locked", &[]),
    ("planted", &["planted"]),
    ("replaced", &[]),
    ("core", &["core", "crypto", "proto", "planted"]),
    ("crypto", &["crypto", "core::types", "planted"]),
    ("repo", &["repo", "buffers", "locked", "core::types", "crypto", "planted"]),
    ("store", &["store", "locked", "core::types", "core::effect", "crypto", "proto", "planted"]),
    ("net", &["net", "buffers", "replaced", "core", "crypto"]),
    ("node", &["node", "locked", "replaced", "core", "crypto", "store", "net", "repo", "config"]),
    ("api", &["api", "node", "repo"]),
    // The demo seals a file once more, to look for the ciphertext in a stolen store.
    (
        "cli::demo",
        &["cli", "config", "node", "crypto", "core::types", "core::effect", "repo", "store"],
    ),
    ("cli", &["cli", "api", "config", "node", "crypto", "core::types"]),
    ("config", &["config", "node::report"]),
    ("main", &["cli"]),
];

/// Where a crate may be named: beginnings of paths of source files.
const CRATES: [(&str, &[&str]); 9] = [
    ("libp2p", &["src/net"]),
    ("libp2p_stream", &["src/net"]),
    ("sled", &["src/store/catalogue"]),
    ("tokio", &["src/net", "src/node", "src/api", "src/cli", "src/main.rs"]),
    ("axum", &["src/api"]),
    ("hyper", &["src/api"]),
    ("clap", &["src/cli"]),
    ("indicatif", &["src/cli"]),
    ("qrcode", &["src/cli"]),
];

/// What the pure code does not know: the disk, the network, clocks, threads, the system's
/// randomness, and maps whose order differs from run to run.
const IMPURE: [&str; 11] = [
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "SysRng",
    "rand::rng",
    "rand::random",
];

/// What a source file names and may not.
pub(super) fn faults(source: &Source) -> Vec<String> {
    let module = module_path(&source.path);
    if module == ["lib"] || module.last().is_some_and(|last| last == "tests") {
        return Vec::new();
    }
    let code = code_of(&source.text);
    let fault = |what: &str| format!("{}: {what}", source.path);
    let whole = module.join("::");
    let allowed = MODULES.iter().find(|(name, _)| whole == *name || is_below(&whole, name));
    let Some((_, allowed)) = allowed else { return vec![fault("not in the table of modules")] };
    let mut faults = Vec::new();
    for path in own_paths(&code, &module) {
        if !allowed.iter().any(|prefix| path == *prefix || is_below(&path, prefix)) {
            faults.push(fault(&format!("may not name crate::{path}")));
        }
    }
    for (name, places) in CRATES {
        let named = words(&code).any(|word| word == name);
        if named && !places.iter().any(|place| source.path.starts_with(place)) {
            faults.push(fault(&format!("may not name the crate {name}")));
        }
    }
    if is_pure(&module) {
        let impure = IMPURE.iter().filter(|name| names(&code, name));
        faults.extend(impure.map(|name| fault(&format!("is pure and may not name {name}"))));
    }
    faults
}

/// Whether one path lies below another.
fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with("::"))
}

/// `src/core/owner/store.rs` is `[core, owner, store]`.
fn module_path(path: &str) -> Vec<String> {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs");
    path.split('/').map(str::to_owned).collect()
}

/// The file without comments, texts and tests.
fn code_of(text: &str) -> String {
    let before_tests = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    let without_comment = |line: &str| line.split("//").next().unwrap_or(line).to_owned();
    let lines: Vec<String> = before_tests.lines().map(without_comment).collect();
    let code = lines.join("\n").replace("'\"'", "' '").replace("\\\\", "").replace("\\\"", "");
    // What stands between the first and the second quote is text, and so on.
    code.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")
}

/// core and crypto, and what of repo and store is built without the `node` feature.
fn is_pure(module: &[String]) -> bool {
    if !module.first().is_some_and(|top| ["core", "crypto", "repo", "store"].contains(&&**top)) {
        return false;
    }
    (1..module.len()).all(|depth| {
        let parent = root().join(format!("src/{}.rs", module[..depth].join("/")));
        // A test's example need not exist.
        let parent = fs::read_to_string(parent).unwrap_or_default();
        let lines: Vec<&str> = parent.lines().map(str::trim).collect();
        let declared = format!("mod {};", module[depth]);
        let gate = "#[cfg(feature = \"node\")]";
        !lines.windows(2).any(|pair| pair[0] == gate && pair[1].ends_with(&declared))
    })
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// Whether `name`, which may be a path, stands in the code as whole words.
fn names(code: &str, name: &str) -> bool {
    let whole = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
    code.match_indices(name).any(|(at, _)| {
        whole(code[..at].chars().next_back()) && whole(code[at + name.len()..].chars().next())
    })
}

/// All paths of our own crate that the code names, from its root, two names deep.
fn own_paths(code: &str, module: &[String]) -> Vec<String> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        expand(&code[at + "crate::".len()..], &mut Vec::new(), &mut paths);
    }
    for (at, _) in code.match_indices("super::") {
        // Only the first of a chain; the others are counted with it.
        if code[..at].ends_with("super::") {
            continue;
        }
        let chain = &code[at..];
        let rest = chain.trim_start_matches("super::");
        let ups = (chain.len() - rest.len()) / "super::".len();
        let mut base = module[..module.len().saturating_sub(ups)].to_vec();
        expand(rest, &mut base, &mut paths);
    }
    paths.sort();
    paths.dedup();
    paths
}

/// Follows a use tree (`a::b`, `{a, b::c}`) behind `base` and adds its paths.
fn expand(tree: &str, base: &mut Vec<String>, paths: &mut Vec<String>) {
    if base.len() >= 2 {
        paths.push(base[..2].join("::"));
        return;
    }
    if let Some(group) = tree.strip_prefix('{') {
        for item in top_level_items(group) {
            expand(item.trim_start(), &mut base.clone(), paths);
        }
        return;
    }
    let end = tree.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(tree.len());
    let (name, rest) = tree.split_at(end);
    if !name.is_empty() && name != "self" {
        base.push(name.to_owned());
    }
    match rest.strip_prefix("::") {
        Some(rest) => expand(rest, base, paths),
        None if base.is_empty() => {}
        None => paths.push(base.join("::")),
    }
}

/// Splits what follows an opening brace at its commas, up to the closing brace.
fn top_level_items(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items.retain(|item| !item.trim().is_empty());
    items
}

#[test]
fn paths_are_found_in_every_form() {
    let module = ["store".to_owned(), "writer".to_owned()];
    let code = "use crate::core::{effect::Space, types::{A, B}};\nuse super::super::net;\n\
                use crate::{crypto, repo::tree};\nlet x = crate::node::start();\nsuper::disk::Disk";
    assert_eq!(
        own_paths(code, &module),
        [
            "core::effect",
            "core::types",
            "crypto",
            "net",
            "node::start",
            "repo::tree",
            "store::disk"
        ]
    );
}

#[test]
fn names_are_whole_words() {
    assert!(names("use std::fs::File;", "std::fs"));
    assert!(!names("std::fsync", "std::fs"));
    assert!(!names("InstantNoodles", "Instant"));
}

#[test]
fn forbidden_imports_are_found() {
    let fault = |path: &str, text: &str| {
        faults(&Source { path: path.to_owned(), text: text.to_owned() }).len()
    };
    assert_eq!(fault("src/core/x.rs", "use crate::net::Net;"), 1);
    assert_eq!(fault("src/core/x.rs", "use crate::crypto::seal;\n// std::fs is not here"), 0);
    assert_eq!(fault("src/core/x.rs", "#[cfg(test)]\nmod tests {\n use std::fs; }"), 0);
    assert_eq!(fault("src/crypto/x.rs", "use crate::core::message::M;"), 1);
    assert_eq!(fault("src/node/x.rs", "use libp2p::PeerId; use sled::Db;"), 2);
    assert_eq!(fault("src/core/x.rs", "let m: HashMap<u8, Instant>;"), 2);
    assert_eq!(fault("src/cli/x.rs", "say(\"a \\\" libp2p=warn\"); '\"'; \"sled\""), 0);
}
