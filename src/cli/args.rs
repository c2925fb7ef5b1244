//! Options that several commands share.

use crate::config::{Effective, Flags};
use crate::node::datadir;
use crate::node::report::{Failure, FailureKind};
use clap::Args;
use std::path::PathBuf;

/// On every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(super) struct GlobalOptions {
    /// Folder with keys, settings and the store [default: the platform's data folder]
    #[arg(long, global = true, env = "QULOUD_DIR", value_name = "DIR", hide_env = true)]
    data_dir: Option<PathBuf>,
    /// Print one JSON document on stdout, errors included
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// No progress, no notes, errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(super) quiet: bool,
    /// Log more; twice for everything of our own, three times for all
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    /// Log by this filter, such as `debug` or `quloud=debug,libp2p=warn`
    #[arg(long, global = true, env = "QULOUD_LOG", value_name = "FILTER", hide_env = true)]
    pub(super) log: Option<String>,
}

impl GlobalOptions {
    /// The data folder that this command works on; it need not exist.
    pub(super) fn data_dir(&self) -> Result<PathBuf, Failure> {
        self.data_dir.clone().or_else(datadir::default_path).ok_or_else(|| {
            Failure::new(
                FailureKind::Usage,
                "there is no data folder",
                "this user has no home folder",
                "name one with --data-dir or QULOUD_DIR",
            )
        })
    }
}

/// Reads the settings; `flags` are those of the command line.
pub(super) fn settings(global: &GlobalOptions, flags: Flags) -> Result<Effective, Failure> {
    // Names and values that are not Unicode are no setting of ours, or an error by their look.
    let environment = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into(), value.to_string_lossy().into()));
    Ok(Effective::load(&global.data_dir()?, environment, flags)?)
}

/// How a node that this command starts is set up. A node that runs already keeps its settings.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Node (a node that runs already keeps its settings)")]
pub(super) struct NodeOptions {
    /// Address to listen on; repeatable
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Address of a node to join the mesh through; repeatable
    #[arg(long, value_name = "ADDR")]
    bootstrap: Vec<String>,
    /// Look for nodes on the local network
    #[arg(long, value_name = "on|off")]
    mdns: Option<String>,
    /// Name of the mesh
    #[arg(long, value_name = "NAME")]
    mesh: Option<String>,
    /// Disk space given to others, such as 500GB or 1TiB
    #[arg(long, value_name = "SIZE")]
    capacity: Option<String>,
    /// Where the node stands; replicas are spread over sites
    #[arg(long, value_name = "LABEL")]
    site: Option<String>,
}

impl NodeOptions {
    /// Those that were given, as the settings take them.
    pub(super) fn flags(&self) -> Flags {
        let mut flags = Flags::new();
        let lists = [("--listen", &self.listen), ("--bootstrap", &self.bootstrap)];
        flags.extend(lists.into_iter().filter(|(_, v)| !v.is_empty()).map(|(f, v)| (f, v.clone())));
        let singles = [
            ("--mdns", &self.mdns),
            ("--mesh", &self.mesh),
            ("--capacity", &self.capacity),
            ("--site", &self.site),
        ];
        flags.extend(singles.into_iter().filter_map(|(f, v)| Some((f, vec![v.clone()?]))));
        flags
    }
}
