//! How secrets come in: from a terminal, a file descriptor or a private file. Never from the
//! arguments or the environment, which other processes can read.

use super::output::printable;
use crate::crypto::keys::Master;
use crate::crypto::words::{self, WORD_COUNT};
use crate::node::datadir::check_private;
use crate::node::report::{Failure, FailureKind};
use clap::Args;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest passphrase in bytes.
const PASSPHRASE_BYTES_MAX: usize = 1024;

/// Longest text that 24 words stand in.
const WORDS_BYTES_MAX: usize = 4096;

/// Where the passphrase of the keys comes from, if they have one.
#[derive(Debug, Default, Args)]
#[group(multiple = false)]
pub(super) struct PassphraseOptions {
    /// Read the keys' passphrase from this file, which nobody else may read
    #[arg(long, value_name = "FILE", env = "QULOUD_PASSPHRASE_FILE", hide_env = true)]
    passphrase_file: Option<PathBuf>,
    /// Read the keys' passphrase from this open file descriptor
    #[arg(long, value_name = "FD")]
    passphrase_fd: Option<u32>,
}

impl PassphraseOptions {
    /// The passphrase that a file or a descriptor gives; `None` where neither was named.
    pub(super) fn read(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        match (&self.passphrase_file, self.passphrase_fd) {
            (Some(path), _) => {
                let file = File::open(path).map_err(|error| unreadable(path, &error))?;
                let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
                check_private(path, &metadata)?;
                read_line(path, file).map(Some)
            }
            (None, Some(number)) => {
                let path = PathBuf::from(format!("/dev/fd/{number}"));
                let file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
                read_line(&path, file).map(Some)
            }
            (None, None) => Ok(None),
        }
    }

    /// The passphrase of existing keys: as [`Self::read`], else asked for on the terminal.
    pub(super) fn read_or_ask(&self) -> Result<Zeroizing<String>, Failure> {
        if let Some(passphrase) = self.read()? {
            return Ok(passphrase);
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::new(
                FailureKind::KeysMissing,
                "the keys are locked with a passphrase",
                "there is no terminal to ask for it",
                "name the file that holds it with --passphrase-file",
            ));
        }
        ask("Passphrase of the keys: ")
    }
}

/// Asks twice for a new passphrase; `None` where the user wants none.
pub(super) fn ask_new() -> Result<Option<Zeroizing<String>>, Failure> {
    for _ in 0..3 {
        let first = ask("Passphrase for the keys on this machine (empty for none): ")?;
        if first.is_empty() {
            return Ok(None);
        }
        if *ask("The same again: ")? == *first {
            return Ok(Some(first));
        }
        drop(io::Write::write_all(&mut io::stderr(), b"They differ. Once more.\n"));
    }
    Err(Failure::new(
        FailureKind::Usage,
        "no passphrase was set",
        "the two did not match, three times",
        "run `quloud init` again; nothing was made",
    ))
}

/// The owner's words: from a file that nobody else may read, else from stdin; a terminal is asked.
pub(super) fn read_words(file: Option<&Path>) -> Result<Master, Failure> {
    let text = match file {
        Some(path) => {
            let file = File::open(path).map_err(|error| words_unreadable(path, &error))?;
            let metadata = file.metadata().map_err(|error| words_unreadable(path, &error))?;
            check_private(path, &metadata)?;
            read_text(file).map_err(|error| words_unreadable(path, &error))?
        }
        None if io::stdin().is_terminal() => type_words()?,
        None => {
            read_text(io::stdin()).map_err(|error| words_unreadable(Path::new("stdin"), &error))?
        }
    };
    words::from_words(&text).map_err(|error| {
        let hint = "compare them with your paper, word by word; their order matters";
        Failure::new(FailureKind::Usage, "these are not the owner's words", error.to_string(), hint)
    })
}

/// Lines from the terminal until there are as many words as there should be, or an empty one. They
/// are seen while they are typed, and then wiped from the screen.
fn type_words() -> Result<Zeroizing<String>, Failure> {
    const WIPE: &[u8] = b"\x1b[2J\x1b[3J\x1b[H";
    let say = |text: &[u8]| drop(io::Write::write_all(&mut io::stderr(), text));
    say(b"Type the 24 words in their order, on one line or several:\n");
    let mut text = Zeroizing::new(String::with_capacity(WORDS_BYTES_MAX + 256));
    while text.split_whitespace().count() < WORD_COUNT && text.len() < WORDS_BYTES_MAX {
        let before = text.len();
        let read = io::stdin().read_line(&mut text);
        read.map_err(|error| words_unreadable(Path::new("the terminal"), &error))?;
        if text.get(before..).is_none_or(|line| line.trim().is_empty()) {
            break;
        }
    }
    say(WIPE);
    Ok(text)
}

/// All of it, in one buffer that is wiped.
fn read_text(from: impl Read) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(WORDS_BYTES_MAX + 1));
    let limit = u64::try_from(WORDS_BYTES_MAX).unwrap_or(u64::MAX);
    from.take(limit).read_to_string(&mut text)?;
    Ok(text)
}

fn words_unreadable(path: &Path, error: &io::Error) -> Failure {
    let what = format!("the words could not be read from {}", path.display());
    let hint = "check the path and its permissions, or give the words on stdin";
    Failure::new(FailureKind::Usage, printable(&what), error.to_string(), hint)
}

fn ask(prompt: &str) -> Result<Zeroizing<String>, Failure> {
    rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(|error| {
        Failure::new(
            FailureKind::KeysMissing,
            "the passphrase could not be asked for",
            error.to_string(),
            "run it on a terminal, or use --passphrase-file",
        )
    })
}

/// The whole content without the line end, in one buffer that is wiped.
fn read_line(path: &Path, file: File) -> Result<Zeroizing<String>, Failure> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(PASSPHRASE_BYTES_MAX + 1));
    let limit = u64::try_from(PASSPHRASE_BYTES_MAX + 1).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let refused = |why: &str| {
        let what = format!("{} holds no passphrase", path.display());
        Failure::new(FailureKind::KeysMissing, what, why, "put the passphrase alone into it")
    };
    if line.is_empty() {
        return Err(refused("it is empty"));
    }
    if bytes.len() > PASSPHRASE_BYTES_MAX {
        return Err(refused("it is longer than 1024 bytes"));
    }
    let text = std::str::from_utf8(line).map_err(|_| refused("it is not UTF-8 text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let what = format!("the passphrase could not be read from {}", path.display());
    let hint = "check the path and its permissions";
    Failure::new(FailureKind::KeysMissing, printable(&what), error.to_string(), hint)
}
