//! `quloud peers`: who is connected.

use super::args::{GlobalOptions, NodeOptions};
use super::output::{Output, printable};
use super::secrets::PassphraseOptions;
use super::session::Session;
use super::signals::{Interrupt, interrupted};
use crate::api::client::Client;
use crate::node::report::{Failure, PeerReport};
use clap::Args;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a node that was only just started may look for peers.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// When no more have come for this long, the others are taken for away.
const SETTLED: Duration = Duration::from_secs(2);

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// List the nodes that are connected, how, what they hold of ours, and how they did
///
/// Behind the chunks stands how a node did in our audits (unknown, proven, late, suspect, lost,
/// damaged, liar), and what we think of it: good; new (nothing is known of it); later (others are
/// given chunks first); last; never (it gets nothing). That is made of its audits, of how often and
/// how soon it acknowledges what it is given, and of what it served; --json has it all. It is this
/// node's own opinion: nobody else is told, or asked.
#[derive(Debug, Args)]
pub(super) struct Peers {
    #[command(flatten)]
    node: NodeOptions,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

impl Peers {
    pub(super) async fn run(&self, global: &GlobalOptions, output: &Output) -> Result<u8, Failure> {
        let interrupt = Interrupt::listen()?;
        let session = Session::open(global, &self.node, &self.passphrase).await?;
        let look = async {
            match session.is_own() {
                true => look_around(&session.client).await,
                false => Ok(session.client.peers().await?),
            }
        };
        let peers = tokio::select! {
            peers = look => peers,
            () = interrupt.wait() => Err(interrupted("run the command again")),
        };
        session.close(&interrupt).await;
        let peers = peers?;
        output.result(&peers, || table(&peers))?;
        if peers.is_empty() {
            output.note("Nobody is connected. Name a node of the mesh with --bootstrap.");
        }
        Ok(0)
    }
}

/// Waits until a new node has found whom it will find.
async fn look_around(client: &Client) -> Result<Vec<PeerReport>, Failure> {
    let started = Instant::now();
    let (mut count, mut changed) = (0, started);
    loop {
        let peers = client.peers().await?;
        if peers.len() != count {
            (count, changed) = (peers.len(), Instant::now());
        }
        let settled = count > 0 && changed.elapsed() >= SETTLED;
        if settled || started.elapsed() >= LOOK_MAX {
            return Ok(peers);
        }
        sleep(LOOK_EVERY).await;
    }
}

fn table(peers: &[PeerReport]) -> String {
    let mut text = String::new();
    for peer in peers {
        let round_trip = match peer.round_trip_ms {
            Some(time) => format!("{time:.1} ms"),
            None => "-".to_owned(),
        };
        let PeerReport { peer_id, link, holds_chunks, .. } = peer;
        let trust = &peer.conduct.trust;
        let address = printable(&peer.address);
        text.push_str(&format!(
            "{peer_id}  {link:<6}  {round_trip:>9}  {holds_chunks:>7} chunks  {:<8}  {trust:<5}  \
             {address}",
            peer.standing,
        ));
        for (name, label) in [("site", &peer.site), ("operator", &peer.operator)] {
            if !label.is_empty() {
                text.push_str(&format!("  {name} {}", printable(label)));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::report::Conduct;

    #[test]
    fn each_peer_is_one_line() {
        let peer = PeerReport {
            peer_id: "12D3Koo".to_owned(),
            address: "/ip4/10.0.0.2/tcp/4747".to_owned(),
            link: "lan".to_owned(),
            round_trip_ms: Some(0.42),
            site: "attic\n".to_owned(),
            operator: "ann".to_owned(),
            holds_chunks: 12,
            standing: "proven".to_owned(),
            why: "it proved what it was asked for".to_owned(),
            conduct: Conduct { trust: "good".to_owned(), ..Conduct::default() },
        };
        let unnamed = PeerReport { site: String::new(), ..peer.clone() };
        let away = PeerReport { round_trip_ms: None, operator: String::new(), ..unnamed.clone() };
        assert_eq!(
            table(&[peer, unnamed, away]),
            "12D3Koo  lan        0.4 ms       12 chunks  proven    good   \
             /ip4/10.0.0.2/tcp/4747  site attic\\n  operator ann\n\
             12D3Koo  lan        0.4 ms       12 chunks  proven    good   \
             /ip4/10.0.0.2/tcp/4747  operator ann\n\
             12D3Koo  lan             -       12 chunks  proven    good   \
             /ip4/10.0.0.2/tcp/4747\n"
        );
    }
}
