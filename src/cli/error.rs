//! How a failure reaches the user: three short lines, or an object, and the exit code.

use super::output::{Output, print, printable};
use crate::node::report::{Failure, FailureKind};
use serde::Serialize;
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
    match output.json {
        true => document(failure),
        false => {
            let Failure { what, why, hint, .. } = failure;
            let (what, why, hint) = (printable(what), printable(why), printable(hint));
            // There is nobody to tell that stderr is gone; the exit code still says it.
            drop(writeln!(io::stderr(), "error: {what}\n  why: {why}\n next: {hint}"));
        }
    }
    ExitCode::from(code)
}

/// Prints what clap says of a command line: help and version count as done.
pub(super) fn usage(error: &clap::Error, json: bool) -> ExitCode {
    let code = u8::try_from(error.exit_code()).unwrap_or(FailureKind::Usage.exit_code());
    if json && code != 0 {
        let text = error.render().to_string();
        let what = text.lines().next().unwrap_or_default();
        document(&Failure::new(
            FailureKind::Usage,
            what.strip_prefix("error: ").unwrap_or(what),
            "the command line was not understood",
            "`quloud --help` lists the commands, `quloud COMMAND --help` the options",
        ));
    } else {
        drop(error.print());
    }
    ExitCode::from(code)
}

fn document(failure: &Failure) {
    let document = Document { error: failure, exit_code: failure.kind.exit_code() };
    if let Ok(mut line) = serde_json::to_string(&document) {
        line.push('\n');
        // It failed already; a stdout that is gone makes it no worse.
        drop(print(line.as_bytes()));
    }
}
