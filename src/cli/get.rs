//! `quloud get`: a capability in, the file out.

use super::args::{GlobalOptions, NodeOptions};
use super::output::{Output, count, printable};
use super::progress::{Meter, follow, rate};
use super::secrets::PassphraseOptions;
use super::session::Session;
use super::signals::Interrupt;
use crate::config::size::human;
use crate::crypto::capability::Capability;
use crate::node::check_output;
use crate::node::report::{CapabilityText, Failure, FailureKind, GetDone, GetRequest};
use clap::Args;
use serde::Serialize;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// Longest text on stdin that can be a capability.
const CAPABILITY_BYTES_MAX: u64 = 1024;

/// Bring a file back by its capability
///
/// Every chunk is checked before it is used. What came is kept when the command is interrupted or
/// chunks are missing: the same command goes on from there.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// What `quloud put` printed; `-` reads it from stdin, where no other process sees it
    capability: String,
    /// The file to make [default: quloud- and the first digits of the root chunk's id]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it exists; of a link to a file the link is replaced, not the file
    #[arg(long)]
    overwrite: bool,
    /// How long one chunk may take, in seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: u64,
    #[command(flatten)]
    node: NodeOptions,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    output: &'a Path,
    #[serde(flatten)]
    done: &'a GetDone,
}

impl Get {
    pub(super) async fn run(&self, global: &GlobalOptions, output: &Output) -> Result<u8, Failure> {
        let request = self.request()?;
        let interrupt = Interrupt::listen()?;
        let session = Session::open(global, &self.node, &self.passphrase).await?;
        let name = printable(&request.output.file_name().unwrap_or_default().to_string_lossy());
        let meter = Meter::new(&format!("get {name}"), output);
        let resume = "the same command goes on from what came";
        let result = follow(session.client.get(&request), meter, &interrupt, resume).await;
        session.close(&interrupt).await;
        let done = result?;
        let path = &request.output;
        output.result(&Document { output: path, done: &done }, || {
            format!("{}\n", printable(&path.to_string_lossy()))
        })?;
        output.note(&summary(&name, &done));
        Ok(0)
    }

    /// The request, after what can be told without a node.
    fn request(&self) -> Result<GetRequest, Failure> {
        let text = match self.capability.as_str() {
            "-" => read_stdin()?,
            text => Zeroizing::new(text.trim().to_owned()),
        };
        let capability = Capability::decode(&text)?;
        let output = match &self.output {
            Some(path) => path.clone(),
            None => {
                let id = capability.id.to_string();
                PathBuf::from(format!("quloud-{}", id.get(..8).unwrap_or(&id)))
            }
        };
        let failed = |why: String, hint: &str| {
            let what = format!("{} cannot be written", output.display());
            Failure::new(FailureKind::Failed, what, why, hint)
        };
        let path = std::path::absolute(&output)
            .map_err(|error| failed(error.to_string(), "name another file with -o"))?;
        if path.to_str().is_none() {
            return Err(failed("its path is not UTF-8 text".into(), "name another file with -o"));
        }
        let request = GetRequest {
            capability: CapabilityText::new(text.as_str().to_owned()),
            output: path,
            overwrite: self.overwrite,
            timeout_s: self.timeout,
        };
        // The node looks again; here it is told before a node is started for nothing.
        check_output(&request)?;
        Ok(request)
    }
}

fn read_stdin() -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read = std::io::stdin().take(CAPABILITY_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| {
        let what = "no capability could be read from stdin";
        let hint = "pipe the line that `quloud put` printed into it";
        Failure::new(FailureKind::Usage, what, error.to_string(), hint)
    })?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

fn summary(name: &str, done: &GetDone) -> String {
    let elapsed = Duration::try_from_secs_f64(done.seconds).unwrap_or_default();
    format!(
        "{name}: {} in {} from {}, in {:.1} s ({})",
        human(done.bytes),
        count(done.chunks, "chunk"),
        count(u64::try_from(done.holders.len()).unwrap_or(u64::MAX), "node"),
        done.seconds,
        rate(done.bytes, elapsed),
    )
}
