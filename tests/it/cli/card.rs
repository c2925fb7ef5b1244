//! The recovery card, as it is printed and given back.

use super::mode;
use crate::cli::setup::{Home, private_file};
use crate::processes::Lab;
use std::fs;

const PEER: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

#[test]
fn a_card_names_the_mesh_and_its_nodes_and_no_word() {
    let home = Home::new();
    home.run(&["card"]).fails(5, "", "init`");
    home.run(&["init", "--yes", "--words-file", &home.path("words")]).succeeds();
    let address = format!("/ip4/192.0.2.7/tcp/4001/p2p/{PEER}");
    let settings = format!("mesh = \"attic\"\nbootstrap = [\"{address}\"]\n");
    fs::write(home.file("node/quloud.toml"), &settings).unwrap();
    let card = home.run(&["card"]);
    card.succeeds();
    assert!(card.stdout.starts_with("quloud recovery card 1\nmesh attic\naddress /ip4/192.0.2.7/"));
    let qr = home.run(&["card", "--qr"]);
    qr.succeeds();
    assert!(qr.stdout.starts_with(&card.stdout) && qr.stdout.contains('\u{2588}'));
    let document = home.run(&["card", "--json"]).json();
    assert_eq!((&document["mesh"], &document["addresses"][0]), (&"attic".into(), &address.into()));
    assert_eq!(document["card"], card.stdout.as_str());
    // Its text may have a word that is one of the 24 by chance; but it is the same for all keys.
    let other = Home::new();
    other.run(&["init", "--yes", "--words-file", &other.path("words")]).succeeds();
    let words = [&home, &other].map(|home| fs::read_to_string(home.file("words")).unwrap());
    assert_ne!(words[0], words[1]);
    fs::write(other.file("node/quloud.toml"), settings).unwrap();
    assert_eq!(other.run(&["card"]).stdout, card.stdout);
}

#[test]
fn recover_finds_the_mesh_by_its_card() {
    let home = Home::new();
    let card = ["--card-file", &home.path("card")];
    let init = ["--data-dir", "elsewhere", "init", "--yes", "--words-file", &home.path("paper")];
    home.run(&[&init[..], &card].concat()).succeeds();
    assert_eq!(mode(&home.file("card")), 0o600);
    let printed = fs::read_to_string(home.file("card")).unwrap();
    assert!(printed.contains("\nmesh quloud\n") && printed.contains('\u{2588}'), "{printed}");
    assert!(printed.contains("no address on it yet") && printed.contains("quloud card --qr"));
    let paper = fs::read_to_string(home.file("paper")).unwrap();

    let address = format!("/ip4/127.0.0.1/tcp/9/p2p/{PEER}");
    let settings = format!("mesh = \"attic\"\nbootstrap = [\"{address}\"]\n");
    fs::write(home.file("elsewhere/quloud.toml"), settings).unwrap();
    let printed = home.run(&["--data-dir", "elsewhere", "card", "--qr"]).stdout;
    fs::remove_file(home.file("card")).unwrap();
    private_file(&home.file("card"), &printed.replace("attic", "cellar"));
    let network = ["--mdns", "off", "--listen", "/ip4/127.0.0.1/tcp/0"];
    let recover = [&["recover"][..], &card, &network].concat();
    home.run_stdin(&recover, &paper).fails(2, "recovery card", "--bootstrap");
    assert!(!home.file("node").exists(), "nothing is made");

    fs::write(home.file("card"), &printed).unwrap();
    // Nobody listens at its address.
    home.run_stdin(&recover, &paper).fails(4, "\"attic\"", "--bootstrap");
    assert!(home.run(&["config", "show"]).stdout.contains("mesh = attic"));
    let book = fs::read_to_string(home.file("node/peers.json")).unwrap();
    assert!(book.contains("/ip4/127.0.0.1/tcp/9"), "{book}");
    let again = home.run(&["card"]).stdout;
    assert_eq!(again.lines().nth(2), printed.lines().nth(2), "its card names the same node");
    // Who says which mesh it is knows better than a card.
    let both = [&recover[..], &["--mesh", "cellar"]].concat();
    let done = home.run_stdin(&both, &paper);
    assert_eq!(done.code, 4, "{}", done.stderr);
    assert!(done.stderr.contains("no node of the mesh \"cellar\" was reached"), "{}", done.stderr);
}

#[test]
fn init_shows_a_card_and_says_how_to_get_a_complete_one() {
    let home = Home::new();
    let init = ["init", "--yes", "--words-file", &home.path("words"), "--card"];
    let done = home.run(&init);
    done.succeeds();
    assert_eq!(done.stdout.lines().count(), 1, "the node's name alone: {}", done.stdout);
    assert!(done.stderr.contains("\nquloud recovery card 1\nmesh quloud\ncheck "));
    assert!(done.stderr.contains('\u{2588}') && done.stderr.contains("no address on it yet"));
}

#[test]
fn a_card_names_the_mesh_that_the_node_runs_in_or_ran_in_last() {
    let mut lab = Lab::new();
    let mut node = lab.node_with(None, &["--mesh", "attic"]);
    let running = node.run(&["card"]);
    let text = String::from_utf8(running.stdout).unwrap();
    assert!(text.starts_with("quloud recovery card 1\nmesh attic\n"), "{text}");
    let note = String::from_utf8(running.stderr).unwrap();
    assert!(note.contains("the settings say \"quloud\""), "{note}");
    node.stop();
    assert_eq!(node.text(&["card"]), text, "it ran there last");
}
