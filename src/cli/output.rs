//! Where results and notes go, and how peers' and users' texts are made safe to print.

use crate::node::report::{Failure, FailureKind};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use zeroize::Zeroizing;

/// What the user asked of the output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    /// One JSON document on stdout instead of text.
    pub(super) json: bool,
    /// No notes and no progress.
    pub(super) quiet: bool,
}

impl Output {
    pub(super) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// Prints a result: `document` under `--json`, else the text, line ends included.
    ///
    /// # Errors
    /// Where stdout cannot be written, unless the reader has simply gone away.
    pub(super) fn result(
        &self,
        document: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        print(self.rendered(document, text)?.as_bytes())
    }

    /// Prints a result that somebody must get, like [`Self::result`]: it is a capability.
    ///
    /// # Errors
    /// Where stdout cannot be written or nobody reads it; the failure says where the capability is.
    pub(super) fn capability(
        &self,
        document: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let text = Zeroizing::new(self.rendered(document, text)?);
        write(text.as_bytes()).map_err(|error| Failure {
            hint: "the file is stored: `quloud status --json` shows its capability".to_owned(),
            ..lost(&error.to_string())
        })
    }

    fn rendered(
        &self,
        document: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<String, Failure> {
        match self.json {
            true => {
                let json = serde_json::to_string(document);
                json.map(|line| line + "\n").map_err(|error| lost(&error.to_string()))
            }
            false => Ok(text()),
        }
    }

    /// Says something beside the result, on stderr.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            // There is nobody to tell that stderr is gone.
            drop(writeln!(io::stderr(), "{text}"));
        }
    }

    /// Whether anybody is told how far a piece of work is: a script reads its result.
    pub(super) fn shows_progress(&self) -> bool {
        !self.quiet && !self.json
    }

    /// Whether moving progress makes sense on stderr.
    pub(super) fn animated(&self) -> bool {
        self.shows_progress() && io::stderr().is_terminal()
    }
}

/// Writes bytes to stdout.
///
/// # Errors
/// Where stdout cannot be written, unless the reader has simply gone away.
pub(super) fn print(bytes: &[u8]) -> Result<(), Failure> {
    match write(bytes) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(lost(&error.to_string())),
        _ => Ok(()),
    }
}

/// Writes bytes to stdout; that nobody reads them is an error too.
pub(super) fn write(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush())
}

fn lost(why: &str) -> Failure {
    let hint = "run the command again with stdout going somewhere else";
    Failure::new(FailureKind::Failed, "the result could not be printed", why, hint)
}

/// Whether colours are wanted where they are possible (see no-color.org).
pub(super) fn colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A text of a peer or a file name without what could steer a terminal: control characters, and
/// the marks that change the direction of writing, are shown as their escapes.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.extend(c.escape_unicode());
            }
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// `1 chunk`, `2 chunks`.
pub(super) fn count(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

/// A duration for people: `7 s`, `3 min`, `2 h 5 min`, `4 d 3 h`.
pub(super) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min"),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_cannot_steer_the_terminal() {
        assert_eq!(printable("plain ü.txt"), "plain ü.txt");
        assert_eq!(printable("a\u{1b}[31mb\n"), "a\\u{1b}[31mb\\n");
        assert_eq!(printable("exe\u{202e}gpj"), "exe\\u{202e}gpj");
        assert!(!printable("\u{9b}2J\u{7f}").chars().any(char::is_control));
    }

    #[test]
    fn a_script_sees_no_progress() {
        assert!(Output::new(false, false).shows_progress());
        for output in [Output::new(true, false), Output::new(false, true)] {
            assert!(!output.shows_progress() && !output.animated());
        }
    }

    #[test]
    fn durations_have_two_parts_at_most() {
        for (seconds, text) in
            [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7500, "2 h 5 min"), (356_400, "4 d 3 h")]
        {
            assert_eq!(duration(seconds), text);
        }
    }
}
