//! `quloud demo`: the whole story on one machine, with nothing pretended.
//!
//! Every node is a child process of this very binary with a data folder of its own; they speak
//! real libp2p over loopback, store on the real disk, and die by SIGKILL. The account that is
//! printed says only what was checked, and the exit code is 0 only if every check passed.

mod account;
mod corpus;
mod nodes;
mod scan;

use super::output::{self, Output};
use super::signals::{Interrupt, interrupted};
use crate::config::size::human;
use crate::node::report::{Failure, FailureKind};
use account::Account;
use clap::Args;
use corpus::Corpus;
use nodes::{DemoNode, NodeRole};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Replicas of every chunk in the demo.
const REPLICAS: usize = 3;

/// Show the whole story on this machine: put, kill holders, get back, compare
///
/// Starts real nodes as child processes, with real stores in a temporary folder. Puts PATH with
/// three replicas, kills two nodes that hold it (of three, unless there are more than five nodes),
/// gets everything back through a node that never stored any of it, and compares byte for byte.
/// Then a node without the key is turned away, and a dead holder's store is searched for plaintext.
/// Exit code 0 only if every step was verified.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// A file or folder to put [default: ./src where it exists, else a generated tree]
    path: Option<PathBuf>,
    /// How many nodes to start: an owner, a reader, and holders
    #[arg(long, default_value_t = 5, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u16).range(5..=30))]
    nodes: u16,
}

/// One file on the demo's mesh.
struct Stored {
    relative: PathBuf,
    capability: String,
    chunks: u64,
    /// PeerIds of the nodes that acknowledged chunks of it, with how many each did.
    holders: Vec<(String, u64)>,
}

impl Stored {
    /// Its path below the corpus, where it is not all of it.
    fn title(&self) -> String {
        match self.relative.as_os_str().is_empty() {
            true => "the file".to_owned(),
            false => output::printable(&self.relative.to_string_lossy()),
        }
    }

    /// How many chunks of it this node acknowledged.
    fn acknowledged_by(&self, node: &DemoNode) -> u64 {
        let of_node = self.holders.iter().find(|(peer, _)| peer == node.peer_id());
        of_node.map_or(0, |(_, count)| *count)
    }
}

impl Demo {
    pub(super) async fn run(&self, output: &Output) -> Result<u8, Failure> {
        let interrupt = Interrupt::listen()?;
        let (path, count, output) = (self.path.clone(), usize::from(self.nodes), *output);
        let story = move || tell(path.as_deref(), count, output, &interrupt);
        let told = tokio::task::spawn_blocking(story).await;
        told.map_err(|error| failed("the demo died", &error.to_string()))?.map(|()| 0)
    }
}

/// The story, step by step; each returns only if what it says was checked.
fn tell(
    path: Option<&Path>,
    count: usize,
    output: Output,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let folder = tempfile::Builder::new().prefix("quloud-demo-").tempdir().map_err(|error| {
        let what = "no temporary folder could be made";
        misused(what, &error.to_string(), "set TMPDIR to a folder that can be written")
    })?;
    let folder = folder.path();
    let mut account = Account::new(output, interrupt);
    let corpus = Corpus::open(path, folder)?;
    account.say(&format!(
        "{count} nodes, {REPLICAS} replicas; {} ({}, {})",
        corpus.title(),
        files(corpus.files()),
        human(corpus.bytes()),
    ))?;
    let mut nodes = start_mesh(count, folder, &mut account)?;
    let stored = put_all(&nodes, &corpus, &mut account)?;
    let stolen = kill_two_holders(&mut nodes, &stored, &mut account)?;
    get_all_back(&nodes, &corpus, &stored, folder, &mut account)?;
    refuse_the_stranger(&nodes, &stored, folder, &mut account)?;
    search_the_stolen_store(&nodes, stolen, &corpus, &stored, &mut account)?;
    account.finish()
}

/// A step that was not as it should be.
fn failed(what: &str, why: &str) -> Failure {
    Failure {
        kind: FailureKind::Failed,
        what: what.to_owned(),
        why: why.to_owned(),
        hint: "this is a fault in Quloud, or the machine is out of memory, disk or ports"
            .to_owned(),
    }
}

/// What the user gave makes no demo, which is nobody's fault.
fn misused(what: &str, why: &str, hint: &str) -> Failure {
    Failure::new(FailureKind::Failed, what, why, hint)
}

fn start_mesh(
    count: usize,
    folder: &Path,
    account: &mut Account,
) -> Result<Vec<DemoNode>, Failure> {
    let clock = Instant::now();
    let mut nodes: Vec<DemoNode> = Vec::with_capacity(count);
    let mut first = None;
    for number in 0..count {
        let role = match number {
            0 => NodeRole::Owner,
            _ if number + 1 == count => NodeRole::Reader,
            _ => NodeRole::Holder,
        };
        let node = DemoNode::start(folder, number, role, first.as_deref())?;
        first.get_or_insert_with(|| node.address().to_owned());
        nodes.push(node);
    }
    for node in &nodes {
        node.wait_for_peers(count - 1, account)?;
    }
    account.step(
        "mesh",
        clock,
        &format!("{count} nodes knew one address and found each other; each sees all others"),
    )?;
    Ok(nodes)
}

fn put_all(
    nodes: &[DemoNode],
    corpus: &Corpus,
    account: &mut Account,
) -> Result<Vec<Stored>, Failure> {
    let clock = Instant::now();
    let owner = find(nodes, NodeRole::Owner)?;
    let mut stored = Vec::new();
    let mut acked: BTreeMap<String, u64> = BTreeMap::new();
    let mut chunks = 0;
    for file in corpus.files() {
        let done = owner.put(&corpus.absolute(file), REPLICAS)?;
        if usize::from(done.replicas) < REPLICAS {
            let why = format!("{} of {REPLICAS} replicas of {}", done.replicas, file.display());
            return Err(failed("a put said done and was not", &why));
        }
        if done.holders.iter().any(|(peer, _)| peer == owner.peer_id()) {
            return Err(failed("the owner counted itself", &file.display().to_string()));
        }
        chunks += done.chunks;
        for (peer, count) in &done.holders {
            *acked.entry(peer.clone()).or_default() += count;
        }
        account.progress(&file.display().to_string())?;
        let relative = file.clone();
        stored.push(Stored {
            relative,
            capability: done.capability.expose().to_owned(),
            chunks: done.chunks,
            holders: done.holders,
        });
    }
    account.step(
        "put",
        clock,
        &format!(
            "{}, each acknowledged by {REPLICAS} nodes after it was durable",
            output::count(chunks, "chunk")
        ),
    )?;
    for node in nodes {
        if let Some(count) = acked.get(node.peer_id()) {
            let chunks = output::count(*count, "chunk");
            account.say(&format!("          {} acknowledged {chunks}", node.name()))?;
        }
    }
    Ok(stored)
}

/// Kills two nodes that hold a file, which leaves the mesh connected; returns the one of them that
/// acknowledged more of it.
fn kill_two_holders(
    nodes: &mut [DemoNode],
    stored: &[Stored],
    account: &mut Account,
) -> Result<usize, Failure> {
    let clock = Instant::now();
    // Where a file has three holders, each of its chunks has the same three. A large file on many
    // nodes has more: then those two that hold the most of the first one.
    let of_three = stored.iter().find(|file| file.holders.len() == REPLICAS);
    let file = of_three.or(stored.first()).ok_or_else(|| failed("nothing was stored", ""))?;
    let mut holders: Vec<(u64, usize)> = nodes
        .iter()
        .enumerate()
        .map(|(at, node)| (file.acknowledged_by(node), at))
        .filter(|(count, _)| *count > 0)
        .collect();
    holders.sort_by_key(|(count, at)| (std::cmp::Reverse(*count), *at));
    let [first, second, _, ..] = holders.as_slice() else {
        return Err(failed("fewer than three holders", &format!("{:?}", file.holders)));
    };
    let mut names = Vec::new();
    for (count, at) in [first, second] {
        let node = nodes.get_mut(*at).ok_or_else(|| failed("a node is missing", ""))?;
        node.kill()?;
        names.push(format!("{} ({count} of {})", node.name(), output::count(file.chunks, "chunk")));
    }
    let left = nodes.iter().filter(|node| node.is_running()).count();
    for node in nodes.iter().filter(|node| node.is_running()) {
        node.wait_for_peers(left - 1, account)?;
    }
    let what = format!(
        "SIGKILL to two of the {} holders of {}: {}; the {left} nodes that are left noticed and \
         stay connected",
        holders.len(),
        file.title(),
        names.join(" and "),
    );
    account.step("kill", clock, &what)?;
    Ok(first.1)
}

fn get_all_back(
    nodes: &[DemoNode],
    corpus: &Corpus,
    stored: &[Stored],
    folder: &Path,
    account: &mut Account,
) -> Result<(), Failure> {
    let clock = Instant::now();
    let reader = find(nodes, NodeRole::Reader)?;
    if reader.status()?.store.is_some_and(|store| store.chunks != 0) {
        return Err(failed("the reader holds chunks", "it was started with no capacity"));
    }
    let output = folder.join("restored");
    let mut bytes = 0;
    for (number, file) in stored.iter().enumerate() {
        std::fs::create_dir_all(&output)
            .map_err(|error| failed("no folder for the restored files", &error.to_string()))?;
        let target = output.join(number.to_string());
        let done = reader.get(&file.capability, &target)?;
        corpus.compare(&file.relative, &target)?;
        bytes += done.bytes;
        account.progress(&file.relative.display().to_string())?;
    }
    account.step(
        "get",
        clock,
        &format!(
            "{}, {} back through {}, which never stored any of it: equal byte for byte",
            files(stored),
            human(bytes),
            reader.name(),
        ),
    )?;
    Ok(())
}

/// Someone who saw a chunk's id, but was never given its key.
fn refuse_the_stranger(
    nodes: &[DemoNode],
    stored: &[Stored],
    folder: &Path,
    account: &mut Account,
) -> Result<(), Failure> {
    let clock = Instant::now();
    let reader = find(nodes, NodeRole::Reader)?;
    let Some(file) = stored.iter().max_by_key(|file| file.chunks) else {
        return Err(failed("nothing was stored", "the corpus is empty"));
    };
    let forged = scan::with_another_key(&file.capability)?;
    let target = folder.join("stolen");
    let refused_before = bad_proofs(nodes)?;
    if !reader.get_refused(&forged, &target)? || target.exists() {
        return Err(failed("a node without the key was served", &target.to_string_lossy()));
    }
    let refused = bad_proofs(nodes)?.saturating_sub(refused_before);
    if refused == 0 {
        return Err(failed("no holder was asked", "the stranger's request reached nobody"));
    }
    account.step(
        "stranger",
        clock,
        &format!("the right id with a wrong key: {refused} proofs refused, nothing served"),
    )?;
    Ok(())
}

/// How many proofs the holders that run turned down since they started.
fn bad_proofs(nodes: &[DemoNode]) -> Result<u64, Failure> {
    let mut count = 0_u64;
    for node in nodes.iter().filter(|node| node.is_running()) {
        if node.role() == NodeRole::Holder {
            let status = node.status()?;
            count = count.saturating_add(status.rejects.get("bad-proof").copied().unwrap_or(0));
        }
    }
    Ok(count)
}

fn search_the_stolen_store(
    nodes: &[DemoNode],
    stolen: usize,
    corpus: &Corpus,
    stored: &[Stored],
    account: &mut Account,
) -> Result<(), Failure> {
    let clock = Instant::now();
    let owner = find(nodes, NodeRole::Owner)?;
    let node = nodes.get(stolen).ok_or_else(|| failed("a node is missing", ""))?;
    let acked: Vec<u64> = stored.iter().map(|file| file.acknowledged_by(node)).collect();
    let report = scan::search(corpus, &acked, &owner.words_file(), &node.store_folder())?;
    let plaintext = match report.plaintext {
        0 => "no plaintext (the files are too short or too uniform to search for)".to_owned(),
        count => format!("{count} pieces of plaintext (each found in the originals)"),
    };
    account.step(
        "thief",
        clock,
        &format!(
            "{} of {}'s store searched for {plaintext} and {} pieces of the owner's ciphertext and \
             of the points that proofs are made for: none there",
            human(report.searched_bytes),
            node.name(),
            report.sealed,
        ),
    )
}

/// `1 file`, `2 files`.
fn files<T>(files: &[T]) -> String {
    output::count(u64::try_from(files.len()).unwrap_or(u64::MAX), "file")
}

fn find(nodes: &[DemoNode], role: NodeRole) -> Result<&DemoNode, Failure> {
    let found = nodes.iter().find(|node| node.role() == role);
    found.ok_or_else(|| failed("a node is missing", "the demo started too few"))
}
