//! `quloud ls`: what is in a snapshot.

use super::args::{GlobalOptions, NodeOptions};
use super::output::Output;
use super::rows::{notes, print_rows};
use super::secrets::PassphraseOptions;
use super::session::Session;
use super::signals::Interrupt;
use crate::node::report::{Failure, FailureKind, LsRequest, NameKind, NameReport};
use clap::Args;
use std::ffi::{OsStr, OsString};

/// List what is in a snapshot
///
/// Of a name, what is no plain text is written with a backslash: nothing that is listed can steer
/// the terminal. With --json there is one object a line, and what it came to in the last one. Exit
/// code 3 when a part of the snapshot's tree could not be read.
#[derive(Debug, Args)]
pub(super) struct Ls {
    /// `latest`, or the first digits of an id; with `:PATH` what is in that folder
    #[arg(value_name = "SNAPSHOT[:PATH]", default_value = "latest")]
    snapshot: OsString,
    /// And what is in the folders in it
    #[arg(long, short = 'R')]
    recursive: bool,
    /// Modes, owners, sizes and times, too
    #[arg(long, short)]
    long: bool,
    /// Count this record, as `quloud heads` names it, and no newer one; one of each device that is
    /// to count
    #[arg(long, value_name = "RECORD")]
    head: Vec<String>,
    /// How long one chunk may take, in seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: u64,
    #[command(flatten)]
    node: NodeOptions,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

impl Ls {
    pub(super) async fn run(&self, global: &GlobalOptions, output: &Output) -> Result<u8, Failure> {
        let (snapshot, path) = snapshot_and_path(&self.snapshot);
        let request = LsRequest {
            snapshot,
            heads: self.head.clone(),
            path,
            recursive: self.recursive,
            lines: self.long && !output.json,
            timeout_s: self.timeout,
        };
        let interrupt = Interrupt::listen()?;
        let session = Session::open(global, &self.node, &self.passphrase).await?;
        let list = session.client.ls(&request);
        let done = print_rows(list, output, &interrupt, name_line).await;
        session.close(&interrupt).await;
        let Some(done) = done? else { return Ok(0) };
        notes(&done.notes, output);
        if output.json {
            output.result(&done, String::new)?;
        }
        Ok(if done.lost_names > 0 { FailureKind::Partial.exit_code() } else { 0 })
    }
}

/// The line that was asked for, or the path, with its `/` where it is a folder.
pub(super) fn name_line(row: &NameReport) -> String {
    match (&row.line, row.kind) {
        (Some(line), _) => format!("{line}\n"),
        (None, NameKind::Folder) => format!("{}/\n", row.path),
        (None, _) => format!("{}\n", row.path),
    }
}

/// What stands before the first colon, and the bytes of the path behind it.
pub(super) fn snapshot_and_path(argument: &OsStr) -> (String, Vec<u8>) {
    let bytes = argument.as_encoded_bytes();
    let colon = bytes.iter().position(|byte| *byte == b':');
    let (snapshot, path) = match colon {
        Some(at) => (bytes.get(..at), bytes.get(at + 1..)),
        None => (Some(bytes), None),
    };
    let text = String::from_utf8_lossy(snapshot.unwrap_or_default()).into_owned();
    (text, path.unwrap_or_default().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_path_may_have_any_bytes_and_colons() {
        for (argument, snapshot, path) in [
            (b"latest".as_slice(), "latest", b"".as_slice()),
            (b"ab12:", "ab12", b""),
            (b"ab12:/a:b/\xff", "ab12", b"/a:b/\xff"),
        ] {
            let (found, at) = snapshot_and_path(OsStr::from_bytes(argument));
            assert_eq!((found.as_str(), at.as_slice()), (snapshot, path));
        }
    }
}
