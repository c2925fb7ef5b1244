//! Transcripts of the real binary: what a user types, what comes back, with which exit code.

mod card;
mod node;
mod recover;
mod setup;
mod terminal;

use crate::cli::setup::{Home, Transcript, private_file};
use quloud::crypto::capability::Capability;
use quloud::crypto::keys::ChunkKey;
use quloud::crypto::words;
use quloud::node::datadir::DataDir;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

fn mode(path: &std::path::Path) -> u32 {
    path.metadata().unwrap().mode() & 0o777
}

fn set_mode(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn capability() -> String {
    let capability = Capability {
        id: quloud::core::types::ChunkId::from_bytes([7; 32]),
        locality: quloud::core::types::Locality(3),
        ck: ChunkKey::from_bytes([9; 32]),
    };
    capability.encode().to_string()
}

#[test]
fn init_makes_keys_and_a_private_words_file() {
    let home = Home::new();
    let done = home.run(&["init", "--yes", "--words-file", &home.path("words")]);
    done.succeeds();
    assert!(done.stdout.starts_with("12D3Koo") && done.stdout.lines().count() == 1);
    assert_eq!(mode(&home.file("words")), 0o600);
    assert_eq!(mode(&home.file("node")), 0o700);
    let text = fs::read_to_string(home.file("words")).unwrap();
    assert!(words::from_words(&text).is_ok());
    assert!(!(done.stderr + &done.stdout).contains(text.trim()), "the words were printed");
    assert_eq!(fs::read_to_string(home.file("node/layout")).unwrap(), "quloud 1\n");
}

#[test]
fn init_never_overwrites() {
    let home = Home::initialised();
    let before = fs::read(home.file("node/owner.key")).unwrap();
    let again = home.run(&["init", "--yes", "--words-file", &home.path("other")]);
    again.fails(1, "already holds keys", "another folder");
    assert_eq!(fs::read(home.file("node/owner.key")).unwrap(), before);
    assert!(!home.file("other").exists(), "words of keys that were not made");
}

#[test]
fn init_keeps_a_words_file_that_exists() {
    let home = Home::new();
    fs::write(home.file("words"), "older words").unwrap();
    let done = home.run(&["init", "--yes", "--words-file", &home.path("words")]);
    done.fails(1, "could not be written", "does not exist yet");
    assert_eq!(fs::read_to_string(home.file("words")).unwrap(), "older words");
    assert!(!home.file("node/node.key").exists());
    home.run(&["init", "--yes", "--words-file", &home.path("new")]).succeeds();
}

#[test]
fn init_without_a_terminal_explains_the_form_for_scripts() {
    let home = Home::new();
    home.run(&["init"]).fails(2, "needs a terminal", "--yes --words-file");
    assert_eq!(home.run(&["init", "--yes"]).code, 2, "the words would be lost");
    assert!(!home.file("node").exists());
}

#[test]
fn commands_without_keys_point_to_init() {
    let home = Home::new();
    fs::write(home.file("data"), b"x").unwrap();
    let file = home.path("data");
    for command in [&["put", &file][..], &["up"], &["status"], &["peers"], &["get", &capability()]]
    {
        home.run(command).fails(5, "there are no keys", "init");
    }
}

#[test]
fn failures_are_objects_under_json() {
    let home = Home::new();
    let done = home.run(&["status", "--json"]);
    assert_eq!(done.code, 5);
    assert!(done.stderr.is_empty(), "{}", done.stderr);
    let document = done.json();
    assert_eq!(document["exit_code"], 5);
    assert_eq!(document["error"]["kind"], "keys-missing");
    for field in ["what", "why", "hint"] {
        assert!(!document["error"][field].as_str().unwrap().is_empty(), "{field}");
    }
    let document = home.run(&["frobnicate", "--json"]).json();
    assert_eq!((&document["exit_code"], &document["error"]["kind"]), (&2.into(), &"usage".into()));
    let document = home.run(&["--json", "init", "--yes"]).json();
    assert_eq!(document["error"]["what"], "`--words-file <FILE>` is missing");
    let document = home.run(&["--json", "config"]).json();
    assert_eq!(document["error"]["why"], "`quloud config` needs one after it");
}

#[test]
fn misuse_is_told_like_any_failure() {
    let home = Home::new();
    home.run(&["frobnicate"]).fails(2, "no command `frobnicate`", "`quloud --help`");
    home.run(&["init", "--yes"]).fails(2, "`--words-file <FILE>` is missing", "init --help");
    home.run(&[]).fails(2, "the command is missing", "`quloud --help`");
    home.run(&["config"]).fails(2, "the command is missing", "`quloud config --help`");
    let bare = home.command(&[]).env_remove("QULOUD_DIR").output().unwrap();
    let bare = Transcript::from(bare);
    assert_eq!(bare.code, 2);
    assert!(bare.stderr.contains("Commands:"), "without a command, the help: {}", bare.stderr);
}

#[test]
fn keys_that_others_can_read_are_refused() {
    let home = Home::initialised();
    set_mode(&home.file("node/owner.key"), 0o644);
    home.run(&["up"]).fails(5, "others can open", "chmod 600");
    set_mode(&home.file("node/owner.key"), 0o600);
    set_mode(&home.file("node"), 0o755);
    home.run(&["up"]).fails(5, "others can open", "chmod 700");
}

#[test]
fn folder_of_a_newer_version_is_left_alone() {
    let home = Home::initialised();
    fs::write(home.file("node/layout"), "quloud 7\n").unwrap();
    home.run(&["up"]).fails(1, "has layout 7", "that version or a later one");
}

#[test]
fn folder_in_use_names_the_process() {
    let home = Home::initialised();
    let _locked = DataDir::open(&home.file("node")).unwrap();
    let refused = home.run(&["up"]);
    refused.fails(1, "is in use", "stop it first");
    assert!(refused.stderr.contains(&format!("process {}", std::process::id())));
}

#[test]
fn the_catalogue_of_another_owner_asks_for_its_key() {
    let (home, other) = (Home::initialised(), Home::initialised());
    home.run(&["status"]);
    assert!(home.file("node/owner/catalog").exists());
    fs::copy(other.file("node/owner.key"), home.file("node/owner.key")).unwrap();
    home.run(&["status"]).fails(5, "catalogue", "bring back the owner.key");
}

#[test]
fn what_keeps_a_node_from_listening_is_told_with_its_reason() {
    let home = Home::initialised();
    // TEST-NET-1: no machine has this address.
    let refused = home.run(&["up", "--mdns", "off", "--listen", "/ip4/192.0.2.1/tcp/0"]);
    refused.fails(1, "network could not be started", "--listen");
    assert!(refused.stderr.contains("tcp/0: Cannot assign"), "{}", refused.stderr);
    let refused = home.run_with(&["up"], &[("SSLKEYLOGFILE", "keys")]);
    refused.fails(1, "network could not be started", "unset SSLKEYLOGFILE");
    assert!(!home.file("keys").exists());
}

#[test]
fn damaged_keys_are_reported() {
    let home = Home::initialised();
    let mut bytes = fs::read(home.file("node/node.key")).unwrap();
    bytes[40] ^= 1;
    fs::write(home.file("node/node.key"), bytes).unwrap();
    home.run(&["up"]).fails(5, "damaged", "copy");
}

#[test]
fn unknown_settings_suggest_the_nearest() {
    let home = Home::initialised();
    fs::write(home.file("node/quloud.toml"), "capcity = \"1TB\"\n").unwrap();
    for command in [&["config", "check"][..], &["config", "show"], &["up"]] {
        home.run(command).fails(2, "no setting `capcity`", "did you mean `capacity`?");
    }
    fs::write(home.file("node/quloud.toml"), "site = \"ü\"\nmesh = @\n").unwrap();
    let refused = home.run(&["config", "check"]);
    refused.fails(2, "quloud.toml is not valid TOML", "config check");
    assert!(refused.stderr.contains("why: line 2, column 8: "), "{}", refused.stderr);
    fs::write(home.file("node/quloud.toml"), "").unwrap();
    let done = home.run_with(&["config", "check"], &[("QULOUD_MESS", "x")]);
    done.fails(2, "no setting `QULOUD_MESS`", "`QULOUD_MESH`");
    home.run(&["up", "--capacity", "lots"]).fails(2, "cannot be \"lots\"", "--capacity");
}

#[test]
fn settings_tell_where_they_came_from() {
    let home = Home::initialised();
    fs::write(home.file("node/quloud.toml"), "capacity = \"1TB\"\n").unwrap();
    let done = home.run_with(&["config", "show", "--json"], &[("QULOUD_SITE", "attic")]);
    done.succeeds();
    let document = done.json();
    let setting = |name: &str| {
        let settings = document["settings"].as_array().unwrap();
        settings.iter().find(|setting| setting["name"] == name).unwrap().clone()
    };
    assert_eq!(setting("capacity")["value"][0], "1TB");
    assert!(setting("capacity")["origin"].as_str().unwrap().ends_with("quloud.toml"));
    assert_eq!(setting("site")["origin"], "QULOUD_SITE");
    assert_eq!(setting("mesh")["origin"], "default");
    let text = home.run(&["config", "show"]).stdout;
    assert!(text.contains("capacity = 1TB") && text.contains("mdns = on"), "{text}");
    home.run(&["config", "check"]).succeeds();
}

#[test]
fn capability_with_a_flipped_character_is_refused() {
    let home = Home::initialised();
    let good = capability();
    let out = home.path("out");
    let mut flipped = good.clone().into_bytes();
    flipped[30] = if flipped[30] == b'q' { b'p' } else { b'q' };
    let flipped = String::from_utf8(flipped).unwrap();
    let cut = good[..good.len() - 1].to_owned();
    for bad in [flipped, cut, "quloud2xyz".to_owned(), "hello".to_owned(), String::new()] {
        let refused = home.run(&["get", &bad, "-o", &out]);
        refused.fails(2, "not a capability", "copy the whole line");
        let echoed = bad.len() > 20 && refused.stderr.contains(&bad[10..]);
        assert!(!echoed, "a capability is a secret: {}", refused.stderr);
    }
    assert!(!home.file("out").exists());
    home.run_stdin(&["get", "-", "-o", &out], "hello\n").fails(2, "not a capability", "copy");
}

#[test]
fn get_does_not_overwrite() {
    let home = Home::initialised();
    fs::write(home.file("out"), "mine").unwrap();
    let refused = home.run(&["get", &capability(), "-o", &home.path("out")]);
    refused.fails(1, "cannot be written", "--overwrite");
    assert_eq!(fs::read_to_string(home.file("out")).unwrap(), "mine");
    for overwrite in [&[][..], &["--overwrite"]] {
        let refused = home.run(&[&["get", &capability(), "-o", "."][..], overwrite].concat());
        refused.fails(1, "cannot be written", "name the file to make in that folder");
    }
}

#[test]
fn get_replaces_no_pipe_and_no_link_to_one() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::os::unix::fs::FileTypeExt;
    let home = Home::initialised();
    mknodat(CWD, home.file("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    std::os::unix::fs::symlink("pipe", home.file("link")).unwrap();
    std::os::unix::fs::symlink("nothing", home.file("loose")).unwrap();
    for name in ["pipe", "link", "loose"] {
        for overwrite in [&[][..], &["--overwrite"]] {
            let refused = home.run(&[&["get", &capability(), "-o", name][..], overwrite].concat());
            refused.fails(1, "cannot be written", "name another file with -o");
            assert!(!refused.stderr.contains("--overwrite"), "{}", refused.stderr);
        }
    }
    assert!(home.file("pipe").symlink_metadata().unwrap().file_type().is_fifo());
    assert!(home.file("link").is_symlink() && home.file("loose").is_symlink());
}

#[test]
fn put_says_what_is_wrong_with_a_file() {
    let home = Home::initialised();
    home.run(&["put", &home.path("none")]).fails(1, "cannot be put", "check the path");
    home.run(&["put", &home.path("node")]).fails(1, "cannot be put", "one archive");
    let zero = home.run(&["put", &home.path("words"), "--replicas", "0"]);
    assert_eq!(zero.code, 2, "{}", zero.stderr);
    assert_eq!(home.run(&["put", &home.path("words"), "--replicas", "33"]).code, 2);
}

#[test]
fn demo_says_what_is_wrong_with_its_path() {
    let home = Home::new();
    fs::create_dir_all(home.file("empty/within")).unwrap();
    home.run(&["demo", "nothing"]).fails(1, "cannot read nothing", "that can be read");
    home.run(&["demo", "empty"]).fails(1, "empty makes no demo", "a folder of 1 to 50000 files");
    let no_room = home.run_with(&["demo"], &[("TMPDIR", "/nowhere")]);
    no_room.fails(1, "no temporary folder", "set TMPDIR");
}

#[test]
fn sealed_keys_need_their_passphrase() {
    let home = Home::new();
    private_file(&home.file("pass"), "correct horse\n");
    private_file(&home.file("wrong"), "battery staple\n");
    let pass = home.path("pass");
    let init = ["init", "--yes", "--words-file", &home.path("words"), "--passphrase-file", &pass];
    home.run(&init).succeeds();
    home.run(&["up"]).fails(5, "locked with a passphrase", "--passphrase-file");
    let wrong = home.path("wrong");
    home.run(&["up", "--passphrase-file", &wrong]).fails(5, "passphrase is wrong", "init");
    set_mode(&home.file("pass"), 0o640);
    home.run(&["up", "--passphrase-file", &pass]).fails(5, "others can open", "chmod 600");
    let secret = "correct horse";
    for name in ["node.key", "owner.key", "quloud.toml"] {
        let bytes = fs::read(home.file("node").join(name)).unwrap();
        assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{name}");
    }
}

#[test]
fn help_shows_what_exists_and_nothing_else() {
    let home = Home::new();
    let help = home.run(&["help"]);
    help.succeeds();
    let commands: Vec<&str> = help
        .stdout
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')))
        .filter_map(|line| line.split(' ').next())
        .collect();
    let expected = [
        "init",
        "recover",
        "card",
        "up",
        "status",
        "peers",
        "backup",
        "snapshots",
        "heads",
        "ls",
        "diff",
        "find",
        "forget",
        "prune",
        "verify",
        "audit",
        "heal",
        "restore",
        "put",
        "get",
        "demo",
        "config",
        "completions",
        "version",
        "help",
    ];
    assert_eq!(commands, expected);
    assert!(help.stdout.contains("Exit codes:"));
    let planned = ["quloud share", "quloud fetch", "quloud leave", "quloud words"];
    let settings = [["config", "show"], ["config", "check"]];
    let every = commands.iter().filter(|name| **name != "help").map(std::slice::from_ref);
    for command in every.chain(settings.iter().map(|both| &both[..])).chain([&[][..]]) {
        let help = home.run(&[command, &["--help"]].concat());
        help.succeeds();
        let help = help.stdout.to_lowercase();
        for word in planned {
            assert!(!help.contains(word), "{command:?} promises {word:?}:\n{help}");
        }
    }
}

#[test]
fn version_and_completions_are_printed() {
    let home = Home::new();
    let version = env!("CARGO_PKG_VERSION");
    assert!(home.run(&["version"]).stdout.starts_with(&format!("quloud {version}")));
    let document = home.run(&["version", "--json"]).json();
    assert_eq!(document["version"], version);
    assert_eq!(document["protocol"], quloud::core::types::PROTOCOL_VERSION);
    assert_eq!(document["data_dir_layout"], quloud::node::datadir::LAYOUT_VERSION);
    assert_eq!(document["api"], quloud::api::API_VERSION);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = home.run(&["completions", shell]);
        script.succeeds();
        assert!(script.stdout.contains("quloud") && script.stdout.contains("words-file"));
    }
}

#[test]
fn reader_that_goes_away_is_no_error() {
    let home = Home::new();
    let Transcript { code, stderr, .. } = home.run_closed_stdout(&["completions", "zsh"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
}

#[test]
fn failure_whose_object_nobody_reads_is_told_on_stderr() {
    let home = Home::new();
    home.run_closed_stdout(&["status", "--json"]).fails(5, "there are no keys", "init");
}

#[test]
fn paths_that_are_not_text_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let home = Home::initialised();
    let odd = home.file("").join(std::ffi::OsStr::from_bytes(b"odd-\xff"));
    fs::write(&odd, "x").unwrap();
    let done = Transcript::from(home.command(&["put"]).arg(&odd).output().unwrap());
    done.fails(1, "cannot be put", "rename it");
    let mut get = home.command(&["get", &capability(), "--overwrite", "-o"]);
    let done = Transcript::from(get.arg(&odd).output().unwrap());
    done.fails(1, "cannot be written", "another file");
}
