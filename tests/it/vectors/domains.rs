//! Domain strings: each in the code stands in the specification, and each is used for one thing.

use std::collections::BTreeMap;
use std::path::Path;

/// All `b"quloud/v1/..."` below `folder` but in tests, with the files they stand in.
fn collect(folder: &Path, found: &mut BTreeMap<String, Vec<String>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "tests") {
                collect(&path, found);
            }
            continue;
        }
        if path.file_name().is_some_and(|name| name == "tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for rest in code.split("b\"quloud/v1/").skip(1) {
            let name = rest.split('"').next().unwrap_or_default();
            // The purposes' common beginning.
            if !name.is_empty() {
                found.entry(name.to_owned()).or_default().push(path.display().to_string());
            }
        }
    }
}

#[test]
fn every_domain_string_is_specified_and_used_once() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let specification = std::fs::read_to_string(root.join("proto/PROTOCOL.md")).unwrap();
    let mut found = BTreeMap::new();
    collect(&root.join("src"), &mut found);
    assert!(found.len() >= 15, "{found:?}");
    for (name, places) in found {
        let listed = format!("`quloud/v1/{name}`");
        assert!(specification.contains(&listed), "{listed} is not in PROTOCOL.md: {places:?}");
        assert_eq!(places.len(), 1, "{listed} is used in more than one place: {places:?}");
    }
}
