//! `quloud find`: names in snapshots.

use super::args::{GlobalOptions, NodeOptions};
use super::ls::name_line;
use super::output::{Output, count};
use super::rows::{notes, print_rows};
use super::secrets::PassphraseOptions;
use super::session::Session;
use super::signals::Interrupt;
use crate::config::size::parse;
use crate::node::report::{Failure, FailureKind, FindRequest, FindRow, NameKind};
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::time::{SystemTime, UNIX_EPOCH};

/// Find files by their names in the snapshots of all devices
///
/// Each line begins with the snapshot, the newest first. What is no plain text in a name is written
/// with a backslash. With --json there is one object a line, and what it came to in the last one.
/// Exit code 3 when something could not be looked through.
#[derive(Debug, Args)]
pub(super) struct Find {
    /// Names or paths, as in a .gitignore: `*.jpg`, `/data/**/old`, `!` in front takes out again
    #[arg(required = true, value_name = "PATTERN")]
    patterns: Vec<String>,
    /// Only in this snapshot: `latest`, or the first digits of an id; repeatable
    #[arg(long, short, value_name = "SNAPSHOT")]
    snapshot: Vec<String>,
    /// Only in this folder, by the path it was recorded with
    #[arg(long, value_name = "PATH")]
    path: Option<OsString>,
    /// Only what is this; repeatable
    #[arg(long = "type", value_name = "TYPE", value_enum)]
    kinds: Vec<Kind>,
    /// Only files of this size or more, such as 10MB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    min_size: Option<u64>,
    /// Only files of this size or less
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,
    /// Only what was changed in the last so many days
    #[arg(long, value_name = "DAYS")]
    changed_within: Option<u32>,
    /// Modes, owners, sizes and times, too
    #[arg(long, short)]
    long: bool,
    /// How long one chunk may take, in seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: u64,
    #[command(flatten)]
    node: NodeOptions,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

/// What a name may be.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// A regular file
    File,
    /// A folder
    Folder,
    /// A symbolic link
    Symlink,
    /// A pipe
    Fifo,
    /// A device
    Device,
    /// A socket
    Socket,
}

impl Find {
    pub(super) async fn run(&self, global: &GlobalOptions, output: &Output) -> Result<u8, Failure> {
        let request = self.request(output);
        let interrupt = Interrupt::listen()?;
        let session = Session::open(global, &self.node, &self.passphrase).await?;
        let done = print_rows(session.client.find(&request), output, &interrupt, line).await;
        session.close(&interrupt).await;
        let Some(done) = done? else { return Ok(0) };
        notes(done.notes.iter().chain(&done.unread), output);
        if done.lost_names > 0 {
            output.note(&format!("{} could not be read", count(done.lost_names, "name")));
        }
        match output.json {
            true => output.result(&done, String::new)?,
            false => output.note(&format!(
                "{} in {}",
                count(done.names, "name"),
                count(done.snapshots, "snapshot")
            )),
        }
        let is_whole = done.lost_names == 0 && done.unread.is_empty();
        Ok(if is_whole { 0 } else { FailureKind::Partial.exit_code() })
    }

    fn request(&self, output: &Output) -> FindRequest {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let path = self.path.as_ref().map(|path| path.as_encoded_bytes().to_vec());
        FindRequest {
            patterns: self.patterns.clone(),
            snapshots: self.snapshot.clone(),
            path: path.unwrap_or_default(),
            kinds: self.kinds.iter().flat_map(|kind| kind.kinds()).copied().collect(),
            modified_from: self.changed_within.map(|days| now - i64::from(days) * 86_400),
            modified_to: None,
            bytes_min: self.min_size,
            bytes_max: self.max_size,
            lines: self.long && !output.json,
            timeout_s: self.timeout,
        }
    }
}

impl Kind {
    fn kinds(self) -> &'static [NameKind] {
        match self {
            Self::File => &[NameKind::File],
            Self::Folder => &[NameKind::Folder],
            Self::Symlink => &[NameKind::Symlink],
            Self::Fifo => &[NameKind::Fifo],
            Self::Device => &[NameKind::CharacterDevice, NameKind::BlockDevice],
            Self::Socket => &[NameKind::Socket],
        }
    }
}

fn size(text: &str) -> Result<u64, String> {
    parse(text).map_err(|error| error.to_string())
}

fn line(row: &FindRow) -> String {
    let name = row.snapshot.get(..8).unwrap_or(&row.snapshot);
    format!("{name}  {}", name_line(&row.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_settings() {
        assert_eq!(size("10kB"), Ok(10_000));
        assert!(size("ten").is_err());
    }
}
