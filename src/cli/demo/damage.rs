//! Three holders lose something while they do not run: one has a byte flipped on its disk, of
//! another one a chunk is deleted, and the third has the tags of a chunk replaced by made-up ones:
//! from then on it says that it can prove the chunk, and its proof is of nothing. An audit names
//! all three and calls the last a liar, and healing makes up for it.

use super::account::Account;
use super::nodes::DemoNode;
use super::steps::{Story, missing};
use super::{REPLICAS, failed};
use crate::cli::output;
use crate::config::size::human;
use crate::core::effect::{Input, ListedChunk, StoredChunk};
use crate::core::types::{self, ChunkId, LeaseTerms, Ticket};
use crate::crypto::audit::tags_bytes;
use crate::crypto::keys::WrapKey;
use crate::node::datadir::{DataDir, Identity};
use crate::node::report::{AuditDone, AuditedHolder, Failure, FailureKind};
use crate::store::writer::Options;
use crate::store::{ChunkStore, StoreConfig};
use std::cmp::Reverse;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long the store may take with one thing.
const STORE_PATIENCE: Duration = Duration::from_secs(60);

/// So many bytes of ciphertext have few zeros among them.
const DENSE_BYTES: usize = 256;

/// What is done to the data folder of a node that does not run.
type Damage = fn(&Path) -> Result<(), Failure>;

impl Story {
    /// Damages three holders, audits, heals, and audits again.
    pub(super) fn damage_and_heal(&mut self, account: &mut Account) -> Result<(), Failure> {
        let clock = Instant::now();
        let first = self.nodes().first().ok_or_else(missing)?.address().to_owned();
        let mut holders = Vec::new();
        for (at, node) in self.nodes().iter().enumerate().skip(1) {
            account.progress(&format!("asking {}", node.name()))?;
            if node.status()?.store.is_some_and(|store| store.chunks > 0) {
                holders.push(at);
            }
        }
        let [rotten, deleter, liar, ..] = *holders.as_slice() else {
            return Err(failed("too few nodes hold anything", "both backups said done"));
        };
        let damages: [Damage; 3] = [flip_a_byte, delete_a_chunk, make_up_tags];
        for (at, damage) in [rotten, deleter, liar].into_iter().zip(damages) {
            let node = self.nodes_mut().get_mut(at).ok_or_else(missing)?;
            account.progress(&format!("damaging {}", node.name()))?;
            node.kill()?;
            damage(node.folder())?;
            node.up(Some(&first))?;
        }
        let others = self.nodes().len() - 1;
        let owner = self.nodes().first().ok_or_else(missing)?;
        owner.wait_for_peers(others, account)?;
        account.progress("auditing")?;
        let (found, code) = owner.audit()?;
        let named = |at: usize| self.nodes().get(at).and_then(|node| at_holder(&found, node));
        let are_named = named(rotten).is_some_and(|it| it.rotten == 1)
            && named(deleter).is_some_and(|it| it.missing == 1)
            && named(liar).is_some_and(|it| it.lied == 1);
        let is_damage = code == i32::from(FailureKind::Damage.exit_code());
        if !is_damage || !are_named || found.damaged != 3 {
            let why = format!("exit code {code}: {found:?}");
            return Err(failed("an audit did not find what was damaged", &why));
        }
        let name = |at: usize| self.nodes().get(at).map_or("", DemoNode::name);
        let what = format!(
            "a byte flipped at {}, a chunk deleted at {}, a proof made up by {}: the audit named \
             all three and {}, and moved {} to have {} proven",
            name(rotten),
            name(deleter),
            name(liar),
            output::count(found.files_total, "file"),
            human(found.bytes_moved),
            human(found.bytes_proven),
        );
        account.step("audit", clock, &what)?;
        heal(owner, account)
    }
}

fn heal(owner: &DemoNode, account: &mut Account) -> Result<(), Failure> {
    let clock = Instant::now();
    account.progress("healing")?;
    let healed = owner.heal()?;
    let (clean, code) = owner.audit()?;
    let is_clean = clean.damaged == 0 && clean.proven == clean.replicas && clean.short == 0;
    if code != 0 || !is_clean {
        return Err(failed("an audit after healing is not clean", &format!("{code}: {clean:?}")));
    }
    let what = format!(
        "{} made again; all {} of {} proven, {REPLICAS} of each",
        output::count(healed.healed, "replica"),
        output::count(clean.replicas, "replica"),
        output::count(clean.chunks, "chunk"),
    );
    account.step("heal", clock, &what)
}

fn at_holder<'a>(found: &'a AuditDone, node: &DemoNode) -> Option<&'a AuditedHolder> {
    let (_, peer_id) = node.address().rsplit_once("/p2p/")?;
    found.holders.iter().find(|holder| holder.peer_id == peer_id)
}

/// The store of a node that does not run.
struct Opened {
    store: ChunkStore,
    inputs: Receiver<Input>,
    /// Its chunks, the largest first.
    chunks: Vec<(ListedChunk, types::Account)>,
}

fn stuck(why: &str) -> Failure {
    failed("a holder's store could not be damaged", why)
}

impl Opened {
    fn open(folder: &Path) -> Result<Self, Failure> {
        let dir = DataDir::open(folder).map_err(|error| stuck(&error.to_string()))?;
        let identity = Identity::load(dir, || Err(stuck("its keys have a passphrase")))?;
        let options = Options::with_reserve(100_000_000_000, 0);
        let config = StoreConfig { dir: folder.join("store"), options };
        let (send, inputs) = channel();
        let told = Box::new(move |input| drop(send.send(input)));
        let wrap = WrapKey::from_bytes(*identity.node.wrap_key().expose());
        let opened = ChunkStore::open(&config, wrap, rand::random(), told);
        let (store, _) = opened.map_err(|error| stuck(&error.to_string()))?;
        let mut opened = Self { store, inputs, chunks: Vec::new() };
        for account in opened.store.usage().into_keys() {
            let asked = opened.store.list(Ticket(1), account, ChunkId::from_bytes([0; 32]), 4_096);
            asked.map_err(|error| stuck(&error.to_string()))?;
            let listed = opened.wait(|input| match input {
                Input::ChunksListed { result, .. } => result.ok(),
                _ => None,
            })?;
            opened.chunks.extend(listed.0.into_iter().map(|chunk| (chunk, account)));
        }
        opened.chunks.sort_unstable_by_key(|(chunk, _)| Reverse((chunk.sealed_bytes, chunk.id)));
        Ok(opened)
    }

    fn delete(&self, id: ChunkId) -> Result<(), Failure> {
        self.store.delete(Ticket(3), id).map_err(|error| stuck(&error.to_string()))?;
        self.wait(|input| match input {
            Input::ChunkDeleted { result, .. } => result.ok().map(drop),
            _ => None,
        })
    }

    fn wait<T>(&self, pick: impl Fn(Input) -> Option<T>) -> Result<T, Failure> {
        loop {
            let input = self.inputs.recv_timeout(STORE_PATIENCE);
            if let Some(picked) = pick(input.map_err(|_| stuck("it does not answer"))?) {
                return Ok(picked);
            }
        }
    }
}

/// Deletes the largest chunk, as a holder does that wants its space back.
fn delete_a_chunk(folder: &Path) -> Result<(), Failure> {
    let opened = Opened::open(folder)?;
    let (largest, _) = opened.chunks.first().ok_or_else(|| stuck("it holds nothing"))?;
    opened.delete(largest.id)?;
    opened.store.close();
    Ok(())
}

/// Puts other tags in the place of the smallest chunk's: of the right shape, so that the holder
/// sees nothing wrong with them, and made by nobody who has the owner's key.
fn make_up_tags(folder: &Path) -> Result<(), Failure> {
    let opened = Opened::open(folder)?;
    let (smallest, account) = opened.chunks.last().ok_or_else(|| stuck("it holds nothing"))?;
    let read = opened.store.read(Ticket(4), smallest.id);
    read.map_err(|error| stuck(&error.to_string()))?;
    let (header, sealed) = opened.wait(|input| match input {
        Input::ChunkRead { result, .. } => result.ok(),
        _ => None,
    })?;
    opened.delete(smallest.id)?;
    let chunk = StoredChunk {
        header,
        // Nobody looks at the proof of who stored it again.
        proof_nonce: rand::random(),
        proof: [0; 64],
        account: *account,
        lease: smallest.lease,
        terms: LeaseTerms::default(),
        tags: vec![0; tags_bytes(sealed.len())].into(),
        sealed,
    };
    let written = opened.store.write(Ticket(5), Box::new(chunk));
    written.map_err(|error| stuck(&error.to_string()))?;
    opened.wait(|input| match input {
        Input::ChunksWritten(written) => written.into_iter().find_map(|(_, result)| result.ok()),
        _ => None,
    })?;
    opened.store.close();
    Ok(())
}

/// Flips one bit in the middle of the largest segment, within what was written there: ciphertext
/// has no zeros in a row, and what lies between two records has.
fn flip_a_byte(folder: &Path) -> Result<(), Failure> {
    let told = |error: std::io::Error| stuck(&error.to_string());
    let files = std::fs::read_dir(folder.join("store/segments")).map_err(told)?.flatten();
    let sized = files.filter_map(|file| Some((file.metadata().ok()?.len(), file.path())));
    let (_, path) = sized.max().ok_or_else(|| stuck("it has no segment"))?;
    let mut bytes = std::fs::read(&path).map_err(told)?;
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    let is_dense = |part: &[u8]| part.iter().filter(|byte| **byte == 0).count() <= DENSE_BYTES / 8;
    let mut places = (written / 2..written).step_by(DENSE_BYTES);
    let place = places.find(|at| bytes.get(*at..*at + DENSE_BYTES).is_some_and(is_dense));
    let place = place.ok_or_else(|| stuck("it has no chunk of any size"))? + DENSE_BYTES / 2;
    bytes.get_mut(place).into_iter().for_each(|byte| *byte ^= 1);
    std::fs::write(&path, bytes).map_err(told)
}
