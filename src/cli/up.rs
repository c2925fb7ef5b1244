//! `quloud up`: runs the node in the foreground.

use super::args::{GlobalOptions, NodeOptions, settings};
use super::output::Output;
use super::secrets::PassphraseOptions;
use super::session::{OwnNode, Stay};
use super::signals::Interrupt;
use crate::node::datadir::{DataDir, Identity};
use crate::node::report::{Failure, FailureKind};
use clap::Args;
use serde_json::json;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Run the node in the foreground, until Ctrl-C or SIGTERM
///
/// When it is ready it prints the addresses that others can join through, one on each line, and
/// nothing else. It makes the backups of the settings by itself: tables [[backup]] in quloud.toml,
/// which are read when it starts. Under systemd use Type=notify.
#[derive(Debug, Args)]
pub(super) struct Up {
    /// Talk to loopback, private and link-local addresses only
    #[arg(long, help_heading = "Node")]
    lan_only: bool,
    #[command(flatten)]
    node: NodeOptions,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

impl Up {
    pub(super) async fn run(&self, global: &GlobalOptions, output: &Output) -> Result<u8, Failure> {
        let mut flags = self.node.flags();
        if self.lan_only {
            flags.push(("--lan-only", vec!["on".to_owned()]));
        }
        let config = settings(global, flags)?.config;
        let dir = DataDir::open(&global.data_dir()?)?;
        let identity = Identity::load(dir, || self.passphrase.read_or_ask())?;
        let interrupt = Interrupt::listen()?;
        let node = tokio::select! {
            node = OwnNode::start(&config, identity, Stay::UntilStopped) => node?,
            () = interrupt.wait() => return Ok(0),
        };
        let document = json!({ "listen": node.listen });
        let mut result = output.result(&document, || {
            node.listen.iter().map(|address| format!("{address}\n")).collect()
        });
        if result.is_ok() {
            notify_service_manager("READY=1");
            output.note("The node is ready. Ctrl-C ends it.");
            tokio::select! {
                () = interrupt.wait() => {}
                () = node.ended() => result = Err(died()),
            }
            notify_service_manager("STOPPING=1");
        }
        node.stop().await;
        result.map(|()| 0)
    }
}

fn died() -> Failure {
    Failure::new(
        FailureKind::Failed,
        "the node has ended",
        "a part of it failed, which is a fault in Quloud; the log says which",
        "start it again, and report it with the log: nothing that was acknowledged is lost",
    )
}

/// Tells systemd (sd_notify) where it asked to be told; elsewhere does nothing.
fn notify_service_manager(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&name),
    };
    let sent = address
        .and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::warn!(%error, "the service manager could not be told {state}");
    }
}
