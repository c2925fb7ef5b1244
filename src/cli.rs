//! The command line: one file per command, and what they share.
//!
//! A command returns its exit code or a [`Failure`]; only [`main`] turns either into the end of
//! the process. stdout carries results and nothing else; progress, notes and logs go to stderr.
//! Doc comments on commands and options are the help text.

mod args;
mod audit;
mod backup;
mod card;
mod completions;
mod config;
mod demo;
mod diff;
mod error;
mod find;
mod forget;
mod get;
mod heads;
mod heal;
mod init;
mod ls;
mod output;
mod peers;
mod progress;
mod prune;
mod put;
mod recover;
mod restore;
mod rows;
mod secrets;
mod session;
mod signals;
mod snapshots;
mod status;
mod up;
mod verify;
mod version;

use crate::node::report::{Failure, FailureKind};
use args::GlobalOptions;
use clap::{Parser, Subcommand};
use output::Output;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Store files between home NAS boxes that need not trust each other: no server, no broker.
///
/// Files are cut into chunks, sealed on this machine, and stored by other nodes of the mesh, who
/// can neither read them nor tell whose they are. Every key of the owner derives from 24 words,
/// which are shown once: write them on paper.
///
/// Start with `quloud init`, then `quloud up` on each machine; `quloud backup FOLDER` makes a
/// snapshot of a folder and `quloud restore` brings it back, on a new machine after
/// `quloud recover` and the words; `quloud put FILE` stores a file and prints the capability that
/// `quloud get` brings it back with.
#[derive(Debug, Parser)]
#[command(name = "quloud", version, max_term_width = 100, after_help = EXIT_CODES)]
#[command(propagate_version = false, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: GlobalOptions,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 usage, 3 done in part or degraded, 4 not enough holders,
5 keys missing or locked, 6 the store is full or read-only, 10 a proof of damage was found.";

/// How long threads may take to end after a command is done.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(2);

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    Recover(recover::Recover),
    Card(card::PrintCard),
    Up(up::Up),
    Status(status::Status),
    Peers(peers::Peers),
    Backup(backup::Backup),
    Snapshots(snapshots::Snapshots),
    Heads(heads::Heads),
    Ls(ls::Ls),
    Diff(diff::Diff),
    Find(find::Find),
    Forget(Box<forget::Forget>),
    Prune(prune::Prune),
    Verify(verify::Verify),
    Audit(audit::Audit),
    Heal(heal::Heal),
    Restore(restore::Restore),
    Put(put::Put),
    Get(get::Get),
    Demo(demo::Demo),
    #[command(subcommand)]
    Config(config::Config),
    Completions(completions::Completions),
    Version(version::Version),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    harden();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return error::usage(&error, &arguments),
    };
    let output = Output::new(cli.global.json, cli.global.quiet);
    let result = start_log(&cli).and_then(|()| run(&cli, &output));
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => error::report(&failure, &output),
    }
}

fn run(cli: &Cli, output: &Output) -> Result<u8, Failure> {
    let global = &cli.global;
    match &cli.command {
        Command::Init(init) => init.run(global, output),
        Command::Recover(recover) => block_on(recover.run(global, output)),
        Command::Card(card) => block_on(card.run(global, output)),
        Command::Up(up) => block_on(up.run(global, output)),
        Command::Status(status) => block_on(status.run(global, output)),
        Command::Peers(peers) => block_on(peers.run(global, output)),
        Command::Backup(backup) => block_on(backup.run(global, output)),
        Command::Snapshots(snapshots) => block_on(snapshots.run(global, output)),
        Command::Heads(heads) => block_on(heads.run(global, output)),
        Command::Ls(ls) => block_on(ls.run(global, output)),
        Command::Diff(diff) => block_on(diff.run(global, output)),
        Command::Find(find) => block_on(find.run(global, output)),
        Command::Forget(forget) => block_on(forget.run(global, output)),
        Command::Prune(prune) => block_on(prune.run(global, output)),
        Command::Verify(verify) => block_on(verify.run(global, output)),
        Command::Audit(audit) => block_on(audit.run(global, output)),
        Command::Heal(heal) => block_on(heal.run(global, output)),
        Command::Restore(restore) => block_on(restore.run(global, output)),
        Command::Put(put) => block_on(put.run(global, output)),
        Command::Get(get) => block_on(get.run(global, output)),
        Command::Demo(demo) => block_on(demo.run(output)),
        Command::Config(config) => config.run(global, output),
        Command::Completions(completions) => completions.run(output),
        Command::Version(version) => version.run(output),
    }
}

/// Runs a command that works with a node.
fn block_on(command: impl Future<Output = Result<u8, Failure>>) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| {
        Failure::new(
            FailureKind::Failed,
            "the program could not start its threads",
            error.to_string(),
            "check the limits of this user and try again",
        )
    })?;
    let result = runtime.block_on(command);
    // Whatever still runs has been told to end; a blocked thread must not keep the process.
    runtime.shutdown_timeout(SHUTDOWN_WITHIN);
    result
}

/// Keys are in this process's memory: no core dumps, and no other process of the user looks in.
/// Where the system refuses, the rest still holds.
fn harden() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, setrlimit};
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Logs go to stderr, coloured on a terminal only.
fn start_log(cli: &Cli) -> Result<(), Failure> {
    let global = &cli.global;
    let text = match &global.log {
        Some(text) => text.as_str(),
        None if global.quiet => "error",
        None => match global.verbose {
            0 => cli.command.log_default(),
            1 => "quloud=debug,info",
            2 => "quloud=trace,debug",
            _ => "trace",
        },
    };
    let filter = EnvFilter::builder().parse(text).map_err(|error| {
        Failure::new(
            FailureKind::Usage,
            format!("--log cannot be {text:?}"),
            error.to_string(),
            "try --log info, or --log quloud=debug,libp2p=warn",
        )
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && output::colour_wanted())
        .init();
    Ok(())
}

impl Command {
    /// What is logged where the user does not say: a daemon tells what it does, a command what is
    /// wrong.
    fn log_default(&self) -> &'static str {
        match self {
            Self::Up(_) => "quloud=info,libp2p_kad=error,warn",
            _ => "quloud=warn,error",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_is_explained() {
        fn explained(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                let name = (command.get_name(), argument.get_id());
                assert!(argument.get_help().is_some(), "{name:?}");
            }
            command.get_subcommands().for_each(explained);
        }
        explained(&Cli::command());
    }
}
