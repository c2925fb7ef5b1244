//! `quloud init`: makes the keys, and sees to it that the words are written down.

use super::args::GlobalOptions;
use super::card::Card;
use super::output::Output;
use super::secrets::{self, PassphraseOptions};
use crate::crypto::keyfile::Protection;
use crate::crypto::keys::{Master, NodeKeys, OwnerKeys};
use crate::crypto::words::{self, WORD_COUNT};
use crate::node::datadir::{DataDir, peer_id, write_private};
use crate::node::report::{Failure, FailureKind};
use clap::Args;
use rand::rngs::SysRng;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// How many of the words are asked for.
const ASKED: usize = 3;

/// Make the keys of this node and its owner, and show the owner's 24 words once
///
/// Every key of the owner derives from the words. They are shown once and stored nowhere: write
/// them on paper. Keys that exist are never overwritten.
#[derive(Debug, Args)]
pub(super) struct Init {
    /// Ask nothing: for scripts, together with --words-file
    #[arg(long, requires = "words_file")]
    yes: bool,
    /// Write the words to this new file (mode 0600) instead of showing them
    #[arg(long, value_name = "FILE")]
    words_file: Option<PathBuf>,
    /// Write a recovery card to this new file, as text and QR code: how a new machine finds the
    /// mesh, without the words
    #[arg(long, value_name = "FILE")]
    card_file: Option<PathBuf>,
    /// Show the recovery card, as text and QR code
    #[arg(long)]
    card: bool,
    /// Do without the delete key on this machine: whoever steals it cannot let your backups go, and
    /// `quloud prune` asks for the words
    #[arg(long)]
    without_delete_key: bool,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

impl Init {
    pub(super) fn run(&self, global: &GlobalOptions, output: &Output) -> Result<u8, Failure> {
        let terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
        if !terminal && !self.yes {
            return Err(Failure::new(
                FailureKind::Usage,
                "`init` needs a terminal",
                "it shows the owner's 24 words once and asks for three of them back",
                "run it on a terminal, or as `init --yes --words-file FILE`",
            ));
        }
        let dir = DataDir::create(&global.data_dir()?)?;
        let mut rng = generator()?;
        let passphrase = match self.passphrase.read()? {
            None if !self.yes => secrets::ask_new()?,
            given => given,
        };
        let protection =
            passphrase.as_ref().map_or(Protection::None, |text| Protection::Passphrase(text));
        let master = Master::generate(&mut rng);
        let words = words::to_words(&master);
        match &self.words_file {
            Some(path) => write_words(path, &words)?,
            None => show_and_ask(&words, &mut rng)?,
        }
        let node = NodeKeys::generate(&mut rng);
        let mut owner = OwnerKeys::derive(&master, 0);
        if self.without_delete_key {
            owner.delete = None;
        }
        dir.write_keys(&node, &owner, protection, &mut rng)?;
        // No node of this folder ran yet.
        let card = Card::of(global, None)?;
        self.tell(&dir, &node, (passphrase.is_some(), &card), output)?;
        if let Some(path) = &self.card_file {
            write_card(path, &card)?;
        }
        if self.card {
            output.note(&format!("\n{}", card.sheet(io::stderr().is_terminal())?));
        }
        output.note(
            "A new machine needs the words and a way into the mesh: print the recovery card with \
             `quloud card --qr` once this node has met others.",
        );
        Ok(0)
    }

    fn tell(
        &self,
        dir: &DataDir,
        node: &NodeKeys,
        (sealed, card): (bool, &Card),
        output: &Output,
    ) -> Result<(), Failure> {
        let peer_id = peer_id(node);
        let document = json!({
            "data_dir": dir.path(), "peer_id": peer_id, "words_file": self.words_file,
            "passphrase": sealed, "card_file": self.card_file, "card": card.encode(),
        });
        let place = dir.path().display();
        output.result(&document, || format!("{peer_id}\n"))?;
        output.note(&format!("This is the node's name. Its keys are in {place}."));
        if !sealed {
            output.note("They have no passphrase: whoever can read that folder has them.");
        }
        output.note("Next: `quloud up` starts the node, `quloud config show` lists its settings.");
        Ok(())
    }
}

/// A generator seeded by the system.
pub(super) fn generator() -> Result<ChaCha20Rng, Failure> {
    ChaCha20Rng::try_from_rng(&mut SysRng).map_err(|error| {
        Failure::new(
            FailureKind::Failed,
            "no keys could be made",
            format!("the system gives no random bytes: {error}"),
            "check /dev/urandom and try again",
        )
    })
}

fn write_card(path: &Path, card: &Card) -> Result<(), Failure> {
    write_private(path, card.sheet(false)?.as_bytes()).map_err(|error| {
        let what = format!("the recovery card could not be written to {}", path.display());
        let hint = "the keys are made: `quloud card` prints it";
        Failure::new(FailureKind::Failed, what, error.to_string(), hint)
    })
}

fn write_words(path: &Path, words: &str) -> Result<(), Failure> {
    let line = Zeroizing::new(format!("{words}\n"));
    write_private(path, line.as_bytes()).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AlreadyExists => "name a file that does not exist yet",
            _ => "check the folder and its permissions",
        };
        let what = format!("the words could not be written to {}", path.display());
        Failure::new(FailureKind::Failed, what, error.to_string(), hint)
    })
}

/// Shows the words, wipes the screen and its history, and asks for some of them back.
fn show_and_ask(words: &str, rng: &mut ChaCha20Rng) -> Result<(), Failure> {
    const WIPE: &str = "\u{1b}[2J\u{1b}[3J\u{1b}[H";
    let words: Vec<&str> = words.split(' ').collect();
    let mut table =
        Zeroizing::new(String::from("\nWrite these words on paper, in this order:\n\n"));
    for (row, four) in words.chunks(4).enumerate() {
        for (column, word) in four.iter().enumerate() {
            table.push_str(&format!("  {:>2} {word:<10}", row * 4 + column + 1));
        }
        table.push('\n');
    }
    table.push_str("\nPress Enter when they are written down; the screen is then cleared.\n");
    say(&table)?;
    drop(answer()?);
    say(WIPE)?;
    let mut asked = BTreeSet::new();
    while asked.len() < ASKED {
        asked.insert(rng.random_range(0..WORD_COUNT));
    }
    for place in asked {
        let expected = words.get(place).copied().unwrap_or_default();
        ask_word(place + 1, expected)?;
    }
    Ok(())
}

/// Asks for one word, three times at most.
fn ask_word(number: usize, expected: &str) -> Result<(), Failure> {
    for _ in 0..3 {
        say(&format!("Word {number}: "))?;
        if answer()?.trim().eq_ignore_ascii_case(expected) {
            return Ok(());
        }
        say("That is not the word on this place. Look at your paper again.\n")?;
    }
    Err(Failure::new(
        FailureKind::Usage,
        "the words were not confirmed",
        format!("word {number} was wrong three times"),
        "run `quloud init` again for new words; nothing was made",
    ))
}

fn say(text: &str) -> Result<(), Failure> {
    let mut stderr = io::stderr();
    stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()).map_err(|e| terminal_lost(&e))
}

fn answer() -> Result<Zeroizing<String>, Failure> {
    let mut line = Zeroizing::new(String::with_capacity(256));
    match io::stdin().read_line(&mut line) {
        Ok(0) => Err(terminal_lost(&io::ErrorKind::UnexpectedEof.into())),
        Ok(_) => Ok(line),
        Err(error) => Err(terminal_lost(&error)),
    }
}

fn terminal_lost(error: &io::Error) -> Failure {
    Failure::new(
        FailureKind::Failed,
        "the words were not confirmed",
        error.to_string(),
        "run `quloud init` again on a terminal; nothing was made",
    )
}
