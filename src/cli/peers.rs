//! `quloud peers`: who is connected, and how this node and they stand with each other.

use super::args::{GlobalOptions, NodeOptions};
use super::output::{Output, count, duration, printable};
use super::secrets::PassphraseOptions;
use super::session::Session;
use super::signals::{Interrupt, interrupted};
use crate::api::client::Client;
use crate::node::report::{Failure, OwnerAnswer, OwnerSays, PeerReport, SaidAudit, SaysOfUs, date};
use clap::Args;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a node that was only just started may look for peers.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// When no more have come for this long, the others are taken for away.
const SETTLED: Duration = Duration::from_secs(2);

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What is said where no owner was asked.
const NOBODY_ASKED: &str = "No node was asked: none that is connected has asked for chunks of its \
                            owner here yet. Keep this node running, and ask again tomorrow.";

/// List the nodes that are connected, how, what they hold of ours, and how they did
///
/// Behind the chunks stands how a node did in our audits (unknown, proven, late, suspect, lost,
/// damaged, liar), and what we think of it: good; new (nothing is known of it); later (others are
/// given chunks first); last; never (it gets nothing). That is made of its audits, of how often and
/// how soon it acknowledges what it is given, and of what it served; --json has it all. It is this
/// node's own opinion: nobody else is told, or asked, but a holder that asks how it stands is told
/// what our audits of it came to.
#[derive(Debug, Args)]
pub(super) struct Peers {
    /// Ask owners how what this node keeps for them stands with them
    ///
    /// Below each owner that is connected stands what its audits of this node came to, with dates,
    /// in the words that it reads itself. Only an owner is asked that has asked this node for its
    /// chunks since it connected, as each does with its first audit, and at most once a minute:
    /// what it said before is shown again until then. An owner that does not answer is waited for
    /// 5 seconds. With --json it is `says_of_us`.
    #[arg(long)]
    standing: bool,
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
            let mut peers = match session.is_own() {
                true => look_around(&session.client).await?,
                false => session.client.peers().await?,
            };
            if self.standing {
                add(&mut peers, session.client.standings().await?);
            }
            Ok::<_, Failure>(peers)
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
        } else if self.standing && peers.iter().all(|peer| peer.says_of_us.is_none()) {
            output.note(NOBODY_ASKED);
        }
        Ok(0)
    }
}

/// Adds what owners say to the lines of their nodes.
fn add(peers: &mut [PeerReport], owners: Vec<OwnerSays>) {
    for OwnerSays { peer_id, says } in owners {
        if let Some(peer) = peers.iter_mut().find(|peer| peer.peer_id == peer_id) {
            peer.says_of_us = Some(says);
        }
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
        if let Some(says) = &peer.says_of_us {
            text.push_str(&says_of_us(says));
        }
    }
    text
}

/// What an owner says, and below it what it found before.
fn says_of_us(says: &SaysOfUs) -> String {
    let mut why = printable(&says.why);
    if says.asked_ago_s > 0 {
        why.push_str(&format!(" (asked {} ago)", duration(says.asked_ago_s)));
    }
    let mut text = match says.answer {
        OwnerAnswer::Told => format!("    says of us: {}, {why}\n", printable(&says.standing)),
        _ => format!("    says nothing of us: {why}\n"),
    };
    for incident in &says.incidents {
        let at = date(i64::try_from(incident.at).unwrap_or(i64::MAX));
        text.push_str(&format!("        {at}: {}\n", found(incident)));
    }
    text
}

/// What an audit found.
fn found(audit: &SaidAudit) -> String {
    let SaidAudit { asked, missing, damaged, lied, released, .. } = *audit;
    let all = [(missing, "gone"), (damaged, "damaged"), (released, "let go"), (lied, "lied about")];
    let all = all.into_iter().filter(|(of, _)| *of > 0);
    let all: Vec<String> = all.map(|(of, what)| format!("{of} {what}")).collect();
    format!("of {} {}", count(asked, "chunk"), all.join(", "))
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
            says_of_us: None,
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

    #[test]
    fn what_an_owner_says_stands_below_its_line_and_comes_from_its_node_alone() {
        let peer = |peer_id: &str| PeerReport {
            peer_id: peer_id.to_owned(),
            address: String::new(),
            link: "lan".to_owned(),
            round_trip_ms: None,
            site: String::new(),
            operator: String::new(),
            holds_chunks: 0,
            standing: "unknown".to_owned(),
            why: String::new(),
            conduct: Conduct::default(),
            says_of_us: None,
        };
        let says = |peer_id: &str, says| OwnerSays { peer_id: peer_id.to_owned(), says };
        let incident = SaidAudit { asked: 12, missing: 1, damaged: 2, ..SaidAudit::default() };
        let told = SaysOfUs {
            standing: "damaged".to_owned(),
            why: "some was damaged or gone on 2026-11-23 08:25 UTC".to_owned(),
            incidents: vec![incident],
            ..SaysOfUs::default()
        };
        let why = "it did not answer within 5 s".to_owned();
        let answer = OwnerAnswer::Silent;
        let silent = SaysOfUs { answer, why, asked_ago_s: 58, ..SaysOfUs::default() };
        let mut peers = ["one", "two", "three"].map(peer);
        add(&mut peers, vec![says("three", silent), says("one", told.clone()), says("gone", told)]);
        let table = table(&peers);
        let lines: Vec<&str> = table.lines().filter(|line| line.starts_with("    ")).collect();
        assert_eq!(
            lines,
            [
                "    says of us: damaged, some was damaged or gone on 2026-11-23 08:25 UTC",
                "        1970-01-01 00:00 UTC: of 12 chunks 1 gone, 2 damaged",
                "    says nothing of us: it did not answer within 5 s (asked 58 s ago)",
            ]
        );
        assert!(table.starts_with("one ") && table.lines().count() == 6, "{table}");
    }
}
