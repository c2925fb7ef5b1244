//! `quloud demo`: the whole story on one machine, with nothing pretended.
//!
//! Every node is a child process of this very binary with a data folder of its own; they speak
//! real libp2p over loopback, store on the real disk, and die by SIGKILL. The account that is
//! printed says only what was checked, and the exit code is 0 only if every check passed.

mod account;
mod corpus;
mod nodes;
mod scan;

use crate::node::report::{Failure, FailureKind};
use account::Account;
use corpus::Corpus;
use nodes::{DemoNode, NodeRole};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

/// Replicas of every chunk in the demo.
const REPLICAS: usize = 3;

/// The smallest demo: an owner, three holders and a reader that stores nothing.
const NODES_MIN: usize = REPLICAS + 2;

/// The largest: each node is a process with its own threads and files.
const NODES_MAX: usize = 30;

/// What the user asked for.
pub struct DemoOptions {
    /// What to put; `./src` where that exists, else a generated tree.
    pub path: Option<PathBuf>,
    /// How many nodes, 5 to 30.
    pub nodes: usize,
    /// One JSON object at the end instead of the readable account.
    pub json: bool,
}

/// One file on the demo's mesh.
struct Stored {
    relative: PathBuf,
    capability: String,
    chunks: u64,
}

/// Runs the demo and writes its account to `out`.
///
/// # Errors
/// A [`Failure`] that names the step that was not as it should be.
pub fn run(options: &DemoOptions, out: &mut dyn Write) -> Result<(), Failure> {
    if !(NODES_MIN..=NODES_MAX).contains(&options.nodes) {
        return Err(Failure {
            kind: FailureKind::Usage,
            what: format!("a demo with {} nodes cannot be run", options.nodes),
            why: format!(
                "it takes an owner, {REPLICAS} holders and a reader: {NODES_MIN} to {NODES_MAX}"
            ),
            hint: format!("try: quloud demo --nodes {NODES_MIN}"),
        });
    }
    let folder = tempfile::Builder::new()
        .prefix("quloud-demo-")
        .tempdir()
        .map_err(|error| failed("no temporary folder could be made", &error.to_string()))?;
    let mut account = Account::new(out, options.json);
    let corpus = Corpus::open(options.path.as_deref(), folder.path())?;
    account.say(&format!(
        "{} nodes, {} replicas; {} ({} files, {})",
        options.nodes,
        REPLICAS,
        corpus.title(),
        corpus.files().len(),
        account::bytes(corpus.bytes()),
    ));
    let mut nodes = start_mesh(options.nodes, folder.path(), &mut account)?;
    let stored = put_all(&nodes, &corpus, &mut account)?;
    let (alive, stolen) = kill_two_holders(&mut nodes, &mut account)?;
    get_all_back(&nodes, &corpus, &stored, folder.path(), &mut account)?;
    refuse_the_stranger(&nodes, &stored, folder.path(), &mut account)?;
    search_the_stolen_store(&nodes, stolen, &corpus, &mut account)?;
    survive_the_rest(&nodes, alive, &mut account)?;
    account.finish()
}

/// A step that was not as it should be.
fn failed(what: &str, why: &str) -> Failure {
    Failure {
        kind: FailureKind::Failed,
        what: what.to_owned(),
        why: why.to_owned(),
        hint: "run it again with QULOUD_LOG=debug to see the nodes' logs".to_owned(),
    }
}

fn start_mesh(
    count: usize,
    folder: &std::path::Path,
    account: &mut Account<'_>,
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
        node.wait_for_peers(count - 1)?;
    }
    account.step(
        "mesh",
        clock,
        &format!("{count} nodes knew one address and found each other; each sees all others"),
    );
    Ok(nodes)
}

fn put_all(
    nodes: &[DemoNode],
    corpus: &Corpus,
    account: &mut Account<'_>,
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
        for (peer, count) in done.holders {
            *acked.entry(peer).or_default() += count;
        }
        account.progress(&file.display().to_string());
        let relative = file.clone();
        stored.push(Stored { relative, capability: done.capability, chunks: done.chunks });
    }
    account.step(
        "put",
        clock,
        &format!("{chunks} chunks, each acknowledged by {REPLICAS} nodes after it was durable"),
    );
    for node in nodes {
        if let Some(count) = acked.get(node.peer_id()) {
            account.say(&format!("          {} acknowledged {count} chunks", node.name()));
        }
    }
    Ok(stored)
}

/// Kills two holders; returns who is left of the holders and one of the dead.
fn kill_two_holders(
    nodes: &mut [DemoNode],
    account: &mut Account<'_>,
) -> Result<(usize, usize), Failure> {
    let clock = Instant::now();
    let holders: Vec<usize> = nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| node.role() == NodeRole::Holder)
        .map(|(at, _)| at)
        .collect();
    let [first, second, .., last] = holders.as_slice() else {
        return Err(failed("fewer than three holders", "the demo started too few"));
    };
    let mut names = Vec::new();
    for at in [first, second] {
        let node = nodes.get_mut(*at).ok_or_else(|| failed("a node is missing", ""))?;
        node.kill()?;
        names.push(node.name().to_owned());
    }
    account.step("kill", clock, &format!("SIGKILL to {}", names.join(" and ")));
    Ok((*last, *first))
}

fn get_all_back(
    nodes: &[DemoNode],
    corpus: &Corpus,
    stored: &[Stored],
    folder: &std::path::Path,
    account: &mut Account<'_>,
) -> Result<(), Failure> {
    let clock = Instant::now();
    let reader = find(nodes, NodeRole::Reader)?;
    if reader.status()?.store.chunks != 0 {
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
        account.progress(&file.relative.display().to_string());
    }
    account.step(
        "get",
        clock,
        &format!(
            "{} files, {} back through {}, which never stored any of it: equal byte for byte",
            stored.len(),
            account::bytes(bytes),
            reader.name(),
        ),
    );
    Ok(())
}

/// Someone who saw a chunk's id, but was never given its key.
fn refuse_the_stranger(
    nodes: &[DemoNode],
    stored: &[Stored],
    folder: &std::path::Path,
    account: &mut Account<'_>,
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
    );
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
    account: &mut Account<'_>,
) -> Result<(), Failure> {
    let clock = Instant::now();
    let owner = find(nodes, NodeRole::Owner)?;
    let node = nodes.get(stolen).ok_or_else(|| failed("a node is missing", ""))?;
    let report = scan::search(corpus, &owner.words_file(), &node.store_folder())?;
    account.step(
        "thief",
        clock,
        &format!(
            "{} of {}'s store searched for {} pieces of plaintext, of owner ciphertext and of \
             the points that proofs are made for: none there (the same search finds {} in the \
             originals)",
            account::bytes(report.searched_bytes),
            node.name(),
            report.needles,
            report.found_in_originals,
        ),
    );
    Ok(())
}

/// The mesh goes on: the last holder, the owner and the reader still see each other.
fn survive_the_rest(
    nodes: &[DemoNode],
    alive: usize,
    account: &mut Account<'_>,
) -> Result<(), Failure> {
    let clock = Instant::now();
    let left = nodes.iter().filter(|node| node.is_running()).count();
    let holder = nodes.get(alive).ok_or_else(|| failed("a node is missing", ""))?;
    holder.wait_for_peers_exactly(left - 1)?;
    account.step("mesh", clock, &format!("{left} nodes are left and still connected"));
    Ok(())
}

fn find(nodes: &[DemoNode], role: NodeRole) -> Result<&DemoNode, Failure> {
    let found = nodes.iter().find(|node| node.role() == role);
    found.ok_or_else(|| failed("a node is missing", "the demo started too few"))
}
