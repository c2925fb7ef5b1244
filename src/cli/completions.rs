//! `quloud completions`.

use super::Cli;
use super::output::{Output, print};
use crate::node::report::Failure;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Print a shell's completion script
///
/// For bash, for example, into ~/.local/share/bash-completion/completions/quloud.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell that is to complete `quloud`
    shell: Shell,
}

impl Completions {
    /// The script is the result, whatever `--json` says.
    pub(super) fn run(&self, _output: &Output) -> Result<u8, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "quloud", &mut script);
        print(&script)?;
        Ok(0)
    }
}
