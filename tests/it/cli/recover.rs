//! `recover` and `restore` before there is any other node.

use super::{mode, set_mode};
use crate::cli::setup::{Home, private_file};
use std::fs;

/// The words of a new owner.
fn words(home: &Home) -> String {
    home.run(&["--data-dir", "elsewhere", "init", "--yes", "--words-file", &home.path("paper")])
        .succeeds();
    fs::read_to_string(home.file("paper")).unwrap()
}

#[test]
fn recover_says_what_is_wrong_with_the_words() {
    let home = Home::new();
    let paper = words(&home);
    home.run_stdin(&["recover"], "hello\n").fails(2, "not the owner's words", "your paper");
    home.run_stdin(&["recover"], "").fails(2, "not the owner's words", "your paper");
    let (few, _) = paper.trim().rsplit_once(' ').unwrap();
    let refused = home.run_stdin(&["recover"], few);
    refused.fails(2, "not the owner's words", "your paper");
    assert!(!refused.stderr.contains(&few[..12]), "words were printed: {}", refused.stderr);
    home.run(&["recover", "--words-file", &home.path("none")]).fails(2, "none", "check the path");
    set_mode(&home.file("paper"), 0o644);
    let open = ["recover", "--words-file", &home.path("paper")];
    home.run(&open).fails(5, "others can open", "chmod 600");
    assert!(!home.file("node").exists(), "nothing is made before the words are right");
}

#[test]
fn recover_without_a_mesh_makes_the_folder_and_goes_on_in_it() {
    let home = Home::new();
    let paper = words(&home);
    let network = ["--mdns", "off", "--listen", "/ip4/127.0.0.1/tcp/0"];
    // Nobody listens there.
    let address = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
    let first = [&["recover", "--mesh", "attic", "--bootstrap", address][..], &network].concat();
    home.run_stdin(&first, &paper).fails(4, "\"attic\"", "--bootstrap");
    assert_eq!(mode(&home.file("node")), 0o700);
    let key = fs::read(home.file("node/node.key")).unwrap();
    let book = fs::read_to_string(home.file("node/peers.json")).unwrap();
    assert!(book.contains("/ip4/127.0.0.1/tcp/9"), "{book}");
    assert!(home.run(&["config", "show"]).stdout.contains("mesh = attic"));

    private_file(&home.file("words"), &paper.replace(' ', "\n"));
    let words_file = ["recover", "--words-file", &home.path("words")];
    let again = home.run(&[&words_file[..], &network].concat());
    again.fails(4, "\"attic\"", "--bootstrap");
    assert_eq!(fs::read(home.file("node/node.key")).unwrap(), key, "it goes on");

    let others = Home::new();
    let refused = home.run_stdin(&first, &words(&others));
    refused.fails(1, "keys of another owner", "check the words");
    assert_eq!(fs::read(home.file("node/node.key")).unwrap(), key);
    for home_path in ["node/owner.key", "node/quloud.toml", "node/peers.json"] {
        let text = fs::read(home.file(home_path)).unwrap();
        let word = paper.split_whitespace().max_by_key(|word| word.len()).unwrap();
        let found = text.windows(word.len()).any(|part| part == word.as_bytes());
        assert!(!found, "a word stands in {home_path}");
    }
}

#[test]
fn restore_says_what_is_wrong_before_anything_is_written() {
    let home = Home::initialised();
    let target = home.path("back");
    let twice = ["restore", "latest:/a", "--path", "/b", "--target", &target];
    home.run(&twice).fails(2, "nothing was restored", "--path");
    let both = ["restore", "latest", "--into", "--overwrite", "--target", &target];
    home.run(&both).fails(2, "given together", "--help");
    home.run(&["restore", "latest"]).fails(2, "--target", "--help");
    let network = ["--mdns", "off", "--listen", "/ip4/127.0.0.1/tcp/0"];
    let alone = [&["restore", "latest", "--target", &target][..], &network].concat();
    home.run(&alone).fails(4, "no node of the mesh", "--bootstrap");
    assert!(!home.file("back").exists());
}
