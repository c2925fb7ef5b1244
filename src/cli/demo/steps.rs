//! The steps of the story. Each is one line of the account, which says what was verified.

use super::account::Account;
use super::corpus::Corpus;
use super::edits::edit;
use super::nodes::{DemoNode, NodeRole};
use super::scan::Sought;
use super::{REPLICAS, failed, tree};
use crate::cli::output;
use crate::config::size::human;
use crate::node::report::{BackupDone, Failure};
use crate::repo::names::raw;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// From this size on, a backup that moves half of the first one again is a fault.
const LITTLE_MOVES_FROM: u64 = 1 << 20;

/// The mesh, the files, and what a thief must not find.
pub(super) struct Story {
    /// The owner first, then the holders.
    nodes: Vec<DemoNode>,
    folder: PathBuf,
    corpus: Corpus,
    sought: Sought,
}

/// A node that was killed, and what it held then.
pub(super) struct Stolen {
    name: String,
    store: PathBuf,
    chunks: u64,
}

impl Story {
    /// Starts the mesh and copies the files.
    pub(super) fn begin(
        path: Option<&Path>,
        count: usize,
        folder: &Path,
        account: &mut Account,
    ) -> Result<Self, Failure> {
        // What is wrong with the path is said before anything is started.
        let source = Corpus::find(path, folder)?;
        let clock = Instant::now();
        let nodes = start_mesh(count, folder, account)?;
        let what = format!(
            "{count} nodes knew one address and found each other; each sees all others, and the \
             owner has 24 words"
        );
        account.step("mesh", clock, &what)?;
        let clock = Instant::now();
        let corpus = source.copy(folder)?;
        let owner = nodes.first().ok_or_else(missing)?;
        let sought = Sought::new(corpus.root(), &owner.words_file())?;
        let what = format!(
            "{}: {}, {}, copied in order to edit them, with a folder of links and odd metadata",
            corpus.title(),
            output::count(corpus.files(), "file"),
            human(corpus.bytes()),
        );
        account.step("files", clock, &what)?;
        Ok(Self { nodes, folder: folder.to_owned(), corpus, sought })
    }

    /// The owner first, then the holders.
    pub(super) fn nodes(&self) -> &[DemoNode] {
        &self.nodes
    }

    pub(super) fn nodes_mut(&mut self) -> &mut [DemoNode] {
        &mut self.nodes
    }

    /// The first backup.
    pub(super) fn back_up(&self, account: &mut Account) -> Result<BackupDone, Failure> {
        let clock = Instant::now();
        let done = self.backup()?;
        if done.new_bytes != self.sought.sealed_bytes() {
            let why = format!("{} bytes, and not {}", done.new_bytes, self.sought.sealed_bytes());
            return Err(failed("a backup sent other chunks than its files make", &why));
        }
        let what = format!(
            "{} in snapshot {}: {} sent, each acknowledged by {REPLICAS} nodes after it was \
             durable",
            output::count(done.files, "file"),
            name(&done.snapshot),
            output::count(done.new_chunks, "chunk"),
        );
        account.step("backup", clock, &what)?;
        Ok(done)
    }

    /// Edits, and the second backup.
    pub(super) fn back_up_again(
        &self,
        first: &BackupDone,
        account: &mut Account,
    ) -> Result<BackupDone, Failure> {
        let clock = Instant::now();
        // The first state is compared with at the end.
        tree::copy(self.corpus.root(), &self.kept())?;
        let edits = edit(self.corpus.root())?;
        let done = self.backup()?;
        if first.new_bytes > LITTLE_MOVES_FROM && done.new_bytes > first.new_bytes / 2 {
            let why = format!("{} of {} bytes", done.new_bytes, first.new_bytes);
            return Err(failed("a few edits moved half of the first backup again", &why));
        }
        let what = format!(
            "{edits}; snapshot {}: {} sent, where the first one sent {}",
            name(&done.snapshot),
            human(done.new_bytes),
            human(first.new_bytes),
        );
        account.step("again", clock, &what)?;
        Ok(done)
    }

    /// Kills the holder that holds the most, for good; the mesh notices.
    pub(super) fn lose_a_holder(&mut self, account: &mut Account) -> Result<Stolen, Failure> {
        let clock = Instant::now();
        let mut most = (0, 0);
        for (at, node) in self.nodes.iter().enumerate().skip(1) {
            account.progress(&format!("asking {}", node.name()))?;
            let chunks = node.status()?.store.map_or(0, |store| store.chunks);
            most = most.max((chunks, at));
        }
        let (chunks, at) = most;
        let node = self.nodes.get_mut(at).ok_or_else(missing)?;
        if chunks == 0 {
            return Err(failed("no node holds anything", "both backups said done"));
        }
        node.kill()?;
        let stolen = Stolen { name: node.name().to_owned(), store: node.store_folder(), chunks };
        let living: Vec<&DemoNode> = self.nodes.iter().filter(|node| node.is_running()).collect();
        for node in &living {
            node.wait_for_peers(living.len() - 1, account)?;
        }
        let what = format!(
            "SIGKILL to {}, which held {}: it never comes back, and the {} others noticed",
            stolen.name,
            output::count(chunks, "chunk"),
            living.len(),
        );
        account.step("holder", clock, &what)?;
        Ok(stolen)
    }

    /// Kills the owner's node and deletes all that it has; the words are on paper.
    pub(super) fn lose_the_owner(&mut self, account: &mut Account) -> Result<(), Failure> {
        let clock = Instant::now();
        let paper = self.paper();
        let owner = self.nodes.first_mut().ok_or_else(missing)?;
        owner.kill()?;
        std::fs::rename(owner.words_file(), &paper)
            .and_then(|()| std::fs::remove_dir_all(owner.folder()))
            .map_err(|error| failed("the owner's folder was not deleted", &error.to_string()))?;
        if owner.folder().exists() {
            return Err(failed("the owner's folder is still there", ""));
        }
        account.step(
            "owner",
            clock,
            "SIGKILL to the owner, its data folder deleted: words are left",
        )
    }

    /// A new node, the words and one address.
    pub(super) fn recover(
        &self,
        made: &[&BackupDone],
        account: &mut Account,
    ) -> Result<DemoNode, Failure> {
        let clock = Instant::now();
        let interrupt = account.interrupt();
        let known = self.nodes.iter().find(|node| node.is_running()).ok_or_else(missing)?;
        let number = self.nodes.len();
        let mut node = DemoNode::new(&self.folder, number, NodeRole::Recovered, interrupt)?;
        let found = node.recover(&self.paper(), known.address())?;
        let living = self.nodes.iter().filter(|node| node.is_running()).count();
        node.up(None)?;
        node.wait_for_peers(living, account)?;
        let listed = node.snapshots()?;
        for made in made {
            let is_named = |all: &[crate::node::report::SnapshotReport]| {
                all.iter().any(|one| one.snapshot == made.snapshot)
            };
            if !is_named(&found.snapshots) || !is_named(&listed.snapshots) {
                return Err(failed("a snapshot was not found from the words", &made.snapshot));
            }
        }
        if !listed.whole {
            return Err(failed("the list of snapshots is not whole", &listed.notes.join("; ")));
        }
        let what = format!(
            "a new node with the words and the address of {} found {} of {}",
            known.name(),
            output::count(listed.snapshots.len() as u64, "snapshot"),
            output::count(found.found.heads.len() as u64, "device"),
        );
        account.step("recover", clock, &what)?;
        Ok(node)
    }

    /// `restore latest`, compared with the files as they are.
    pub(super) fn restore_latest(
        &self,
        node: &DemoNode,
        made: &BackupDone,
        account: &mut Account,
    ) -> Result<(), Failure> {
        let clock = Instant::now();
        let what = self.restore(node, ("latest", made), self.corpus.root())?;
        account.step("restore", clock, &format!("latest: {what}"))
    }

    /// The first snapshot, compared with the copy that was made before the edits.
    pub(super) fn restore_first(
        &self,
        node: &DemoNode,
        made: &BackupDone,
        account: &mut Account,
    ) -> Result<(), Failure> {
        let clock = Instant::now();
        let what = self.restore(node, (&made.snapshot, made), &self.kept())?;
        account.step("first", clock, &format!("as it was before the edits: {what}"))
    }

    /// Someone who saw a chunk's id, but was never given its key.
    pub(super) fn refuse_the_stranger(&self, account: &mut Account) -> Result<(), Failure> {
        let clock = Instant::now();
        let known = self.nodes.iter().find(|node| node.is_running()).ok_or_else(missing)?;
        let number = self.nodes.len() + 1;
        let interrupt = account.interrupt();
        let mut stranger = DemoNode::new(&self.folder, number, NodeRole::Stranger, interrupt)?;
        stranger.init()?;
        stranger.up(Some(known.address()))?;
        // The holders, and the owner's new machine.
        let others = self.nodes.iter().filter(|node| node.is_running()).count() + 1;
        stranger.wait_for_peers(others, account)?;
        let target = self.folder.join("stolen");
        let refused_before = self.bad_proofs()?;
        let forged = self.sought.with_another_key()?;
        stranger.get_refused(&forged, &target)?;
        let refused = self.bad_proofs()?.saturating_sub(refused_before);
        if refused == 0 {
            return Err(failed("no holder was asked", "the stranger's request reached nobody"));
        }
        let proofs = output::count(refused, "proof");
        let what = format!(
            "another node with the right id and a wrong key: {proofs} refused, nothing served"
        );
        account.step("stranger", clock, &what)
    }

    /// What a thief of the dead holder's disk finds.
    pub(super) fn search_the_stolen_store(
        &self,
        stolen: &Stolen,
        made: [&BackupDone; 2],
        account: &mut Account,
    ) -> Result<(), Failure> {
        let clock = Instant::now();
        let sent = made.iter().map(|done| done.new_chunks).sum();
        let report = self.sought.search(&stolen.store, stolen.chunks, sent)?;
        let plaintext = match report.plaintext {
            0 => "no plaintext (the files are too short or too uniform to search for)".to_owned(),
            count => format!("{count} pieces of plaintext (each found in the originals)"),
        };
        let what = format!(
            "{} of {}'s store searched for {plaintext} and {} pieces of the owner's ciphertext \
             and of the points that proofs are made for: none there",
            human(report.searched_bytes),
            stolen.name,
            report.sealed,
        );
        account.step("thief", clock, &what)
    }

    fn backup(&self) -> Result<BackupDone, Failure> {
        let owner = self.nodes.first().ok_or_else(missing)?;
        let done = owner.backup(self.corpus.root(), REPLICAS)?;
        if done.replicas < REPLICAS || done.partial {
            let why = format!("{} of {REPLICAS} replicas, faults: {:?}", done.replicas, done.notes);
            return Err(failed("a backup said done and was not", &why));
        }
        Ok(done)
    }

    /// Restores a snapshot and compares; says with what outcome.
    fn restore(
        &self,
        node: &DemoNode,
        (which, made): (&str, &BackupDone),
        original: &Path,
    ) -> Result<String, Failure> {
        let target = self.folder.join(format!("restored-{}", name(&made.snapshot)));
        let done = node.restore(which, &target)?;
        if done.snapshot != made.snapshot {
            return Err(failed("another snapshot was restored", &done.snapshot));
        }
        let Some(restored) = done.roots.first().and_then(|(_, restored)| raw(restored)) else {
            return Err(failed("a snapshot has no roots", &done.snapshot));
        };
        let equal = tree::compare(original, Path::new(OsStr::from_bytes(&restored)))?;
        Ok(format!(
            "{} from {}: {equal}",
            human(done.bytes),
            output::count(done.holders.len() as u64, "holder"),
        ))
    }

    /// How many proofs the holders that run turned down since they started.
    fn bad_proofs(&self) -> Result<u64, Failure> {
        let mut count = 0_u64;
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            let status = node.status()?;
            count = count.saturating_add(status.rejects.get("bad-proof").copied().unwrap_or(0));
        }
        Ok(count)
    }

    /// The files as they were before the edits.
    fn kept(&self) -> PathBuf {
        self.folder.join("before")
    }

    /// Where the words are when the owner's machine is gone.
    fn paper(&self) -> PathBuf {
        self.folder.join("words-on-paper")
    }
}

fn start_mesh(
    count: usize,
    folder: &Path,
    account: &mut Account,
) -> Result<Vec<DemoNode>, Failure> {
    let mut nodes: Vec<DemoNode> = Vec::with_capacity(count);
    let mut first = None;
    for number in 0..count {
        let role = if number == 0 { NodeRole::Owner } else { NodeRole::Holder };
        let mut node = DemoNode::new(folder, number, role, account.interrupt())?;
        account.progress(&format!("starting {}", node.name()))?;
        node.init()?;
        node.up(first.as_deref())?;
        first.get_or_insert_with(|| node.address().to_owned());
        nodes.push(node);
    }
    for node in &nodes {
        node.wait_for_peers(count - 1, account)?;
    }
    Ok(nodes)
}

pub(super) fn missing() -> Failure {
    failed("a node is missing", "the demo started too few")
}

/// As much of a snapshot's id as names it.
fn name(snapshot: &str) -> &str {
    snapshot.get(..8).unwrap_or(snapshot)
}
