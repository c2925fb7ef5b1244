//! A node to work with: the one that runs, or one of our own for as long as the command needs.
//!
//! The lock on the data folder decides. Either way the command speaks to the node through the
//! local API, so a second command finds a node that the first one started.

use super::args::{GlobalOptions, NodeOptions, settings};
use super::secrets::PassphraseOptions;
use super::signals::Interrupt;
use crate::api::client::Client;
use crate::api::server::Server;
use crate::api::socket::Socket;
use crate::config::{Config, Effective};
use crate::node::datadir::{self, DataDir, DataDirError, Identity};
use crate::node::report::{Failure, FailureKind};
use crate::node::{self, NodeHandle};
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a folder may be locked without its node answering: it is starting or ending.
const TURNING_MAX: Duration = Duration::from_secs(10);

/// Between two tries of that.
const TURNING_PAUSE: Duration = Duration::from_millis(100);

/// A node to work with.
pub(super) struct Session {
    pub(super) client: Client,
    own: Option<OwnNode>,
}

/// A node of this process, with its API.
pub(super) struct OwnNode {
    handle: NodeHandle,
    server: Server,
    /// Where it listens, each with `/p2p/PEERID`.
    pub(super) listen: Vec<String>,
}

/// How long a node of this process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stay {
    /// Until a command has ended. It takes no work that goes on without one.
    ForACommand,
    /// Until it is stopped.
    UntilStopped,
}

/// What an opened data folder turned out to be.
pub(super) enum Folder {
    /// A node runs, and answers.
    Running(Client),
    /// Nobody uses it; now this process does.
    Ours(DataDir),
}

impl Session {
    /// Finds the running node, or starts one.
    pub(super) async fn open(
        global: &GlobalOptions,
        options: &NodeOptions,
        passphrase: &PassphraseOptions,
    ) -> Result<Self, Failure> {
        let path = global.data_dir()?;
        let dir = match Folder::open(&path).await? {
            Folder::Running(client) => return Ok(Self { client, own: None }),
            Folder::Ours(dir) => dir,
        };
        let settings = settings(global, options.flags())?;
        let identity = Identity::load(dir, || passphrase.read_or_ask())?;
        Self::start(&settings, identity).await
    }

    /// Starts a node in a folder that is ours.
    pub(super) async fn start(settings: &Effective, identity: Identity) -> Result<Self, Failure> {
        let mut config = settings.config.clone();
        if settings.is_default("listen") {
            // A node that comes and goes needs no port that others know, and takes nobody's.
            config.listen = Vec::new();
        }
        let client = Client::new(identity.dir.path());
        let own = OwnNode::start(&config, identity, Stay::ForACommand).await?;
        Ok(Self { client, own: Some(own) })
    }

    /// Whether the node is one of this process.
    pub(super) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Ends a node of our own once the commands that found it are done, or at once when
    /// interrupted. A node that ran before goes on.
    pub(super) async fn close(self, interrupt: &Interrupt) {
        if let Some(own) = self.own {
            own.finish(interrupt).await;
        }
    }
}

impl OwnNode {
    /// Starts a node and its API.
    pub(super) async fn start(
        config: &Config,
        identity: Identity,
        stay: Stay,
    ) -> Result<Self, Failure> {
        let path = identity.dir.path().to_owned();
        let (handle, listen) = node::start(config, identity).await?;
        if let Err(error) = datadir::remember_mesh(&path, &config.mesh) {
            tracing::warn!(%error, "the name of the mesh was not written down");
        }
        if stay == Stay::UntilStopped {
            handle.stays();
        }
        match Socket::bind(&path) {
            Ok(socket) => {
                let server = Server::start(socket, handle.clone());
                Ok(Self { handle, server, listen })
            }
            Err(error) => {
                handle.shutdown().await;
                Err(Failure::new(
                    FailureKind::Failed,
                    format!("the API's socket could not be made in {}", path.display()),
                    error.to_string(),
                    "check the folder's permissions, and that nothing else is called api.sock",
                ))
            }
        }
    }

    /// Returns if it ends without being asked to.
    pub(super) async fn ended(&self) {
        self.handle.ended().await;
    }

    /// Ends it at once; clients are told.
    pub(super) async fn stop(self) {
        self.server.stop().await;
        self.handle.shutdown().await;
    }

    async fn finish(self, interrupt: &Interrupt) {
        if interrupt.is_set() {
            return self.stop().await;
        }
        self.server.finish(interrupt.wait()).await;
        self.handle.shutdown().await;
    }
}

impl Folder {
    /// Opens a data folder, or finds the node that has it open. While one starts or ends, the
    /// folder is locked and nobody answers: that is waited for.
    pub(super) async fn open(path: &Path) -> Result<Self, Failure> {
        let deadline = Instant::now() + TURNING_MAX;
        loop {
            let in_use = match DataDir::open(path) {
                Ok(dir) => return Ok(Self::Ours(dir)),
                Err(error @ DataDirError::InUse { .. }) => error,
                Err(error) => return Err(error.into()),
            };
            let client = Client::new(path);
            match client.status(Some(0)).await {
                Ok(_) => return Ok(Self::Running(client)),
                Err(error) if Instant::now() >= deadline => return Err(silent(in_use, &error)),
                Err(_) => sleep(TURNING_PAUSE).await,
            }
        }
    }
}

fn silent(in_use: DataDirError, error: &crate::api::client::ClientError) -> Failure {
    let in_use = Failure::from(in_use);
    Failure {
        why: format!("{}, and it does not answer: {error}", in_use.why),
        hint: "wait until it is done, or stop it and run the command again".to_owned(),
        ..in_use
    }
}
