//! Ctrl-C and SIGTERM: the first ends things politely, the second aborts.

use crate::node::report::{Failure, FailureKind};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Whether the user wants it to end.
#[derive(Debug, Clone)]
pub(super) struct Interrupt(CancellationToken);

impl Interrupt {
    /// Takes the signals over from now on.
    pub(super) fn listen() -> Result<Self, Failure> {
        let install = |kind| {
            signal(kind).map_err(|error| {
                let hint = "check the limits of this user and try again";
                let what = "signals could not be taken over";
                Failure::new(FailureKind::Failed, what, error.to_string(), hint)
            })
        };
        let interrupt = install(SignalKind::interrupt())?;
        let terminate = install(SignalKind::terminate())?;
        let token = CancellationToken::new();
        tokio::spawn(watch(interrupt, terminate, token.clone()));
        Ok(Self(token))
    }

    /// Returns when the user wants it to end.
    pub(super) async fn wait(&self) {
        self.0.cancelled().await;
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.is_cancelled()
    }
}

async fn watch(mut interrupt: Signal, mut terminate: Signal, token: CancellationToken) {
    let mut next = async || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    next().await;
    token.cancel();
    next().await;
    // What is durable stays so: the next start replays what was not.
    std::process::exit(FailureKind::Failed.exit_code().into());
}

/// What a command that was interrupted fails with.
pub(super) fn interrupted(hint: &str) -> Failure {
    Failure::new(FailureKind::Failed, "interrupted", "you asked for it to end", hint)
}
