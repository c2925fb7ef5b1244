//! How a failure reaches the user: three short lines, or an object, and the exit code.

use super::Cli;
use super::output::{Output, printable, write};
use crate::node::report::{Failure, FailureKind};

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use serde::Serialize;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

/// What `--json` prints of a failure.
#[derive(Serialize)]
struct Document<'a> {
    error: &'a Failure,
    exit_code: u8,
}

/// Prints a failure and gives its exit code.
pub(super) fn report(failure: &Failure, output: &Output) -> ExitCode {
    let code = failure.kind.exit_code();
    // Where the object cannot be printed, stderr still takes the three lines.
    if !output.json || document(failure).is_err() {
        // There is nobody to tell that stderr is gone too; the exit code still says it.
        drop(io::stderr().write_all(lines(failure).as_bytes()));
    }
    ExitCode::from(code)
}

/// What happened, why, what to do next. A reason of several lines, such as the end of a log, keeps
/// them, set in.
fn lines(failure: &Failure) -> String {
    let Failure { what, why, hint, .. } = failure;
    let why: Vec<String> = why.lines().map(printable).collect();
    let (what, why, hint) = (printable(what), why.join("\n       "), printable(hint));
    format!("error: {what}\n  why: {why}\n next: {hint}\n")
}

/// Prints what clap says of a command line: help and version count as done.
pub(super) fn usage(error: &clap::Error, line: &[OsString]) -> ExitCode {
    let code = u8::try_from(error.exit_code()).unwrap_or(FailureKind::Usage.exit_code());
    let json = line.iter().any(|word| word == "--json");
    // Without any argument the help is the answer.
    let help = code == 0 || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if !help || (json && code != 0) {
        return report(&misused(error, line), &Output::new(json, false));
    }
    drop(error.print());
    ExitCode::from(code)
}

/// A command line that was not understood, in our three lines.
fn misused(error: &clap::Error, line: &[OsString]) -> Failure {
    let said = |kind| said(error, kind);
    let command = command(line);
    let argument = quoted(&said(ContextKind::InvalidArg));
    let value = said(ContextKind::InvalidValue).concat();
    let mut hint = format!("`{command} --help` shows how it is used");
    let mut did_you_mean = |nearest: Vec<String>| {
        if !nearest.is_empty() {
            hint = format!("did you mean {}?", quoted(&nearest));
        }
    };
    let (what, why) = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            did_you_mean(said(ContextKind::SuggestedSubcommand));
            let name = quoted(&said(ContextKind::InvalidSubcommand));
            (format!("there is no command {name}"), format!("`{command}` has no such command"))
        }
        ErrorKind::UnknownArgument => {
            did_you_mean(said(ContextKind::SuggestedArg));
            (format!("{argument} was not expected"), format!("`{command}` takes no such argument"))
        }
        ErrorKind::MissingRequiredArgument => {
            (format!("{argument} is missing"), format!("`{command}` cannot do without"))
        }
        ErrorKind::ArgumentConflict => {
            let other = quoted(&said(ContextKind::PriorArg));
            match other == argument {
                true => (format!("{argument} was given twice"), "it can be given once".to_owned()),
                false => (
                    format!("{argument} was given together with {other}"),
                    "the two exclude each other".to_owned(),
                ),
            }
        }
        ErrorKind::InvalidValue if value.is_empty() => {
            (format!("{argument} has no value"), "it needs one".to_owned())
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            did_you_mean(said(ContextKind::SuggestedValue));
            let why = match std::error::Error::source(error) {
                Some(source) => source.to_string(),
                None => format!("it can be {}", quoted(&said(ContextKind::ValidValue))),
            };
            (format!("{argument} cannot be {value:?}"), why)
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            ("the command is missing".to_owned(), format!("`{command}` needs one after it"))
        }
        other => (
            "the command line was not understood".to_owned(),
            other.as_str().unwrap_or("the arguments do not go together").to_owned(),
        ),
    };
    Failure::new(FailureKind::Usage, what, why, hint)
}

/// What clap tells of one matter.
fn said(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

/// The command that this line names, as far as there is one.
fn command(line: &[OsString]) -> String {
    let all = Cli::command();
    let mut command = &all;
    let mut names = vec!["quloud"];
    for word in line.iter().skip(1) {
        if let Some(found) = command.find_subcommand(word) {
            command = found;
            names.push(found.get_name());
        }
    }
    names.join(" ")
}

fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

fn document(failure: &Failure) -> io::Result<()> {
    let document = Document { error: failure, exit_code: failure.kind.exit_code() };
    let line = serde_json::to_string(&document)? + "\n";
    write(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn failure(arguments: &str) -> Failure {
        let line: Vec<OsString> = arguments.split(' ').map(OsString::from).collect();
        let error = Cli::try_parse_from(&line).expect_err(arguments);
        misused(&error, &line)
    }

    #[test]
    fn a_reason_of_several_lines_is_set_in_and_steers_no_terminal() {
        let why = "it ended\nerror: no\u{1b}[2J\n next: x";
        let failure = Failure::new(FailureKind::Failed, "a\nb", why, "report it");
        assert_eq!(
            lines(&failure),
            "error: a\\nb\n  why: it ended\n       error: no\\u{1b}[2J\n        next: x\n \
             next: report it\n"
        );
    }

    #[test]
    fn misuse_is_told_in_what_why_and_hint() {
        for (arguments, what, why, hint) in [
            ("quloud frobnicate", "no command `frobnicate`", "`quloud`", "`quloud --help`"),
            ("quloud statsu", "no command `statsu`", "no such", "did you mean `status`"),
            ("quloud config shwo", "no command `shwo`", "`quloud config`", "`show`"),
            ("quloud init --yes", "`--words-file <FILE>` is", "`quloud init`", "`quloud init --"),
            ("quloud put", "`<FILE>` is missing", "`quloud put`", "`quloud put --help`"),
            ("quloud put x --replica 2", "`--replica` was", "`quloud put`", "`--replicas`?"),
            ("quloud put x y", "`y` was not", "`quloud put`", "`quloud put --help`"),
            ("quloud put x --replicas 0", "cannot be \"0\"", "1..=32", "`quloud put --help`"),
            ("quloud put x --replicas", "has no value", "needs one", "`quloud put --help`"),
            ("quloud completions fsh", "cannot be \"fsh\"", "`zsh`", "did you mean `fish`"),
            ("quloud -q -v up", "`--quiet` was given together", "exclude", "--help`"),
            ("quloud up --mesh a --mesh b", "`--mesh <NAME>` was given twice", "once", "quloud up"),
        ] {
            let failure = failure(arguments);
            assert!(failure.what.contains(what), "{arguments}: {failure:?}");
            assert!(failure.why.contains(why), "{arguments}: {failure:?}");
            assert!(failure.hint.contains(hint), "{arguments}: {failure:?}");
            assert_eq!(failure.kind, FailureKind::Usage);
        }
    }
}
