//! What only happens on a terminal: `init` with its prompts, on a pseudo-terminal of its own.

use super::setup::Home;
use pty_process::blocking::{Command, Pty, open};
use quloud::crypto::keys::OwnerKeys;
use quloud::crypto::words;
use quloud::node::datadir::{DataDir, Identity};
use rustix::termios::{LocalModes, tcgetattr};
use std::io::{Read, Write};
use std::process::Child;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Every wait ends: far above what the machine needs, and only reached by a failure.
const DEADLINE: Duration = Duration::from_secs(60);

/// What clears a screen and its history.
const WIPE: &str = "\u{1b}[2J\u{1b}[3J\u{1b}[H";

const PASSPHRASE: &str = "correct horse battery";

/// The binary on a terminal, with somebody in front of it.
struct Terminal {
    child: Child,
    pty: Arc<Pty>,
    shown: Receiver<Vec<u8>>,
    /// Everything it showed, and how much of that was waited for.
    screen: String,
    seen: usize,
}

impl Terminal {
    fn start(home: &Home, arguments: &[&str]) -> Self {
        let (pty, pts) = open().unwrap();
        let child = Command::from(home.command(arguments)).spawn(pts).unwrap();
        let pty = Arc::new(pty);
        let (sender, shown) = channel();
        let reader = Arc::clone(&pty);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It fails when the last process on the terminal is gone.
            while let Ok(length) = (&*reader).read(&mut bytes)
                && length > 0
                && sender.send(bytes[..length].to_vec()).is_ok()
            {}
        });
        Self { child, pty, shown, screen: String::new(), seen: 0 }
    }

    /// Waits until `text` is shown; gives back what was shown since the last wait.
    #[track_caller]
    fn wait_for(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.screen[self.seen..].find(text) {
                let end = self.seen + at + text.len();
                let fresh = self.screen[self.seen..end].to_owned();
                self.seen = end;
                return fresh;
            }
            match self.shown.recv_timeout(DEADLINE) {
                Ok(bytes) => self.screen.push_str(std::str::from_utf8(&bytes).unwrap()),
                Err(error) => panic!("waited for {text:?}: {error}; shown:\n{}", self.screen),
            }
        }
    }

    fn enter(&self, line: &str) {
        (&*self.pty).write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Waits for the prompt, and until what is typed is not shown; then types.
    #[track_caller]
    fn enter_hidden(&mut self, prompt: &str, line: &str) {
        self.wait_for(prompt);
        let deadline = Instant::now() + DEADLINE;
        while tcgetattr(&*self.pty).unwrap().local_modes.contains(LocalModes::ECHO) {
            assert!(Instant::now() < deadline, "{prompt:?} shows what is typed");
            std::thread::sleep(Duration::from_millis(1));
        }
        self.enter(line);
    }

    /// Waits for its end; gives back the exit code and all that was ever shown.
    fn finish(mut self) -> (i32, String) {
        loop {
            match self.shown.recv_timeout(DEADLINE) {
                Ok(bytes) => self.screen.push_str(std::str::from_utf8(&bytes).unwrap()),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it goes on:\n{}", self.screen),
            }
        }
        let code = self.child.wait().unwrap().code().unwrap();
        (code, std::mem::take(&mut self.screen))
    }

    /// Reads the words off the screen, as somebody with paper would.
    fn words(&mut self) -> Vec<String> {
        self.wait_for("in this order:");
        let table = self.wait_for("Press Enter");
        let mut words = Vec::new();
        let mut cells = table.split_whitespace();
        while let Some(number) = cells.next().filter(|cell| *cell != "Press") {
            assert_eq!(number, (words.len() + 1).to_string());
            words.push(cells.next().unwrap().to_owned());
        }
        assert_eq!(words.len(), 24);
        words
    }

    /// Which word it asks for, counted from 0.
    fn asked(&mut self) -> usize {
        self.wait_for("Word ");
        self.wait_for(": ").trim_end_matches(": ").parse::<usize>().unwrap() - 1
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // After a failure; else it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn init_shows_the_words_once_and_asks_for_three_of_them() {
    let home = Home::new();
    let mut terminal = Terminal::start(&home, &["init"]);
    // Two that differ, then two that are the same.
    terminal.enter_hidden("Passphrase for the keys", PASSPHRASE);
    terminal.enter_hidden("The same again: ", "a slip");
    terminal.wait_for("They differ. Once more.");
    terminal.enter_hidden("Passphrase for the keys", PASSPHRASE);
    terminal.enter_hidden("The same again: ", PASSPHRASE);
    let words = terminal.words();
    terminal.enter("");
    terminal.wait_for(WIPE);
    let mut asked = Vec::new();
    for slip in [true, false, false] {
        let place = terminal.asked();
        if slip {
            terminal.enter("zebra zebra");
            terminal.wait_for("That is not the word on this place.");
            assert_eq!(terminal.asked(), place);
        }
        // Somebody may write in capitals.
        terminal.enter(&words[place].to_uppercase());
        asked.push(place);
    }
    let (code, screen) = terminal.finish();
    assert_eq!(code, 0, "{screen}");
    assert!(asked.windows(2).all(|pair| pair[0] < pair[1]), "three different ones: {asked:?}");
    assert!(!screen.contains(PASSPHRASE), "it was shown");
    let after = screen.split(WIPE).nth(1).unwrap();
    let mut cells = (1..).zip(&words).map(|(number, word)| format!(" {number} {word}"));
    assert!(cells.all(|cell| !after.contains(&cell)), "shown after the wipe:\n{after}");
    assert!(after.contains("quloud up") && !after.contains("no passphrase"));

    // The keys are those of the words, and locked with the passphrase.
    let dir = DataDir::open(&home.file("node")).unwrap();
    let identity = Identity::load(dir, || Ok(Zeroizing::new(PASSPHRASE.to_owned()))).unwrap();
    let owner = OwnerKeys::derive(&words::from_words(&words.join(" ")).unwrap(), 0);
    let account = |keys: &OwnerKeys| keys.account(&identity.node.node_id()).account();
    assert_eq!(account(&identity.owner), account(&owner));
}

#[test]
fn words_that_are_not_confirmed_make_nothing() {
    let home = Home::new();
    let mut terminal = Terminal::start(&home, &["init"]);
    terminal.enter_hidden("Passphrase for the keys", "");
    terminal.words();
    terminal.enter("");
    for _ in 0..3 {
        terminal.asked();
        terminal.enter("zebra zebra");
    }
    let (code, screen) = terminal.finish();
    assert_eq!(code, 2, "{screen}");
    assert!(screen.contains("the words were not confirmed"), "{screen}");
    assert!(!home.file("node/owner.key").exists() && !home.file("node/node.key").exists());
    // The same folder can be used again.
    home.run(&["init", "--yes", "--words-file", &home.path("words")]).succeeds();
}

#[test]
fn keys_without_a_passphrase_are_made_after_an_empty_line_and_said_to_be_open() {
    let home = Home::new();
    let mut terminal = Terminal::start(&home, &["init"]);
    terminal.enter_hidden("Passphrase for the keys", "");
    let words = terminal.words();
    terminal.enter("");
    for _ in 0..3 {
        let place = terminal.asked();
        terminal.enter(&words[place]);
    }
    let (code, screen) = terminal.finish();
    assert_eq!(code, 0, "{screen}");
    assert!(screen.contains("They have no passphrase"), "{screen}");
    assert_eq!(home.run(&["status", "--json"]).json()["running"], false);
}

#[test]
fn passphrase_of_existing_keys_is_asked_for() {
    let home = Home::new();
    super::private_file(&home.file("pass"), PASSPHRASE);
    let (words, pass) = (home.path("words"), home.path("pass"));
    home.run(&["init", "--yes", "--words-file", &words, "--passphrase-file", &pass]).succeeds();
    for (typed, code, shown) in [(PASSPHRASE, 3, "running    no"), ("wrong", 5, "passphrase")] {
        let mut terminal = Terminal::start(&home, &["status"]);
        terminal.enter_hidden("Passphrase of the keys: ", typed);
        let (ended, screen) = terminal.finish();
        assert_eq!(ended, code, "{screen}");
        assert!(screen.contains(shown) && !screen.contains(PASSPHRASE), "{screen}");
    }
}
