//! Lists without a bound: printed as they come.

use super::output::{Output, printable, write};
use super::signals::{Interrupt, interrupted};
use crate::api::client::{ClientError, Listed};
use crate::node::report::{Failure, FailureKind, Rows};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;

/// Prints rows until there are no more: as `text` has them, line ends included, or under `--json`
/// one object a line. Returns what came at the end; `None` where nobody reads any more, as `head`
/// does when it has enough.
pub(super) async fn print_rows<R, D>(
    list: impl Future<Output = Result<Listed<R, D>, ClientError>>,
    output: &Output,
    interrupt: &Interrupt,
    mut text: impl FnMut(&R) -> String,
) -> Result<Option<D>, Failure>
where
    R: DeserializeOwned + Serialize,
    D: DeserializeOwned,
{
    let work = async {
        let mut list = list.await?;
        loop {
            let rows = match list.next().await? {
                Rows::Rows { rows } => rows,
                Rows::Done(done) => return Ok(Some(done)),
                Rows::Failed(failure) => return Err(failure),
            };
            let mut lines = String::new();
            for row in &rows {
                match output.json {
                    true => lines.push_str(&json(row)?),
                    false => lines.push_str(&text(row)),
                }
            }
            match write(lines.as_bytes()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(None),
                Err(error) => return Err(lost(&error.to_string())),
            }
        }
    };
    tokio::select! {
        done = work => done,
        () = interrupt.wait() => Err(interrupted("run the command again")),
    }
}

fn json(row: &impl Serialize) -> Result<String, Failure> {
    let line = serde_json::to_string(row).map_err(|error| lost(&error.to_string()))?;
    Ok(line + "\n")
}

fn lost(why: &str) -> Failure {
    let hint = "run the command again with stdout going somewhere else";
    Failure::new(FailureKind::Failed, "the list could not be printed", why, hint)
}

/// What the user should know beside a list; the names in it are safe to print already.
pub(super) fn notes<'a>(notes: impl IntoIterator<Item = &'a String>, output: &Output) {
    for note in notes {
        output.note(&printable(note));
    }
}
