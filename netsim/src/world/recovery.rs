//! Recovery: an owner's device is gone, and somebody who has nothing but the words comes new. From
//! them follow the heads, from these the manifest, from that the snapshots; and every one that was
//! promised comes back byte for byte, with its names and all that was recorded of them.

use super::World;
use super::demand::FETCH;
use super::heads::INDEXES;
use crate::ending::{Demanded, Excuse};
use crate::node::device::files::{Tree, back};
use crate::node::wishes::Job;
use crate::node::{Index, Node, Presence, Role};
use crate::oracle::Fact;
use crate::sometimes::Rare;
use ::bytes::Bytes;
use quloud::core::effect::Input;
use quloud::core::owner::{FetchJob, OwnerCommand};
use quloud::core::topic::TopicKind;
use quloud::core::types::{ChunkId, NodeId, SnapshotId};
use quloud::crypto::head::{HeadKeys, HeadRecord, locality};
use quloud::crypto::keys::OwnerKeys;
use quloud::repo::frame::Kind;
use quloud::repo::get::GetLimits;
use quloud::repo::head::{Agreement, Verdict, judge};
use quloud::repo::manifest::chain::Chain;
use quloud::repo::manifest::draft::{DeviceView, merge};
use quloud::repo::manifest::merge::Merged;
use quloud::repo::open::open_chunk;
use quloud::repo::pack::BlobHasher;
use quloud::repo::plan::{Arrival, Lost, Plan};
use quloud::repo::reference::ChunkRef;
use quloud::repo::snapshot::Snapshot;
use quloud::repo::tree::walk::{Step, TreeWalk};
use quloud::repo::tree::{Entry, TreeRoot, What};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Looks at the heads before what was found is all that there is.
const LOOKS_MAX: usize = 8;

/// Between two of them.
const PAUSE: Duration = Duration::from_secs(60);

/// How long a switched-off node takes to be noticed.
const NOTICED: Duration = Duration::from_secs(60);

/// Why something is not restored: what cannot be demanded, or what breaks a promise.
enum Fault {
    Excused(Excuse),
    Broken(String),
}

type Restored<T> = Result<T, Fault>;

/// Who served heads, and the snapshots that these lead to, each with where it is.
type Listed = (Vec<NodeId>, Vec<(SnapshotId, ChunkRef)>);

impl World<'_> {
    /// Who has just joined has an owner's words: in the midst of cheats, they lead to the newest
    /// list all the same.
    pub(super) fn list_again(&mut self, reader: Index) {
        let keys = Arc::clone(&self.nodes[reader].owner_keys);
        let of = |owner: &Index| Arc::ptr_eq(&self.nodes[*owner].owner_keys, &keys);
        let Some(id) = self.devices.keys().find(|owner| of(owner)).copied() else { return };
        let Some(id) = self.head_of(id) else { return };
        let promised = self.heads[&id].promised;
        if promised > 0
            && self.violations.is_empty()
            && let Err(Fault::Broken(how)) = self.recover_list(reader, &keys, id, promised)
        {
            self.violation(format!("words bring the list back: {how}"));
        }
        self.brought.clear();
    }

    /// Each owner's device is gone, one after the other, and comes back by the words.
    pub(super) fn recover_all(&mut self) -> Demanded {
        let mut demanded = Demanded::default();
        let owners: Vec<Index> = self.devices.keys().copied().collect();
        for owner in owners {
            if self.violations.is_empty() {
                self.recover(owner, &mut demanded);
            }
        }
        demanded
    }

    fn recover(&mut self, owner: Index, demanded: &mut Demanded) {
        let Some(id) = self.head_of(owner) else { return };
        let promised = self.heads[&id].promised;
        let Some(said) = self.heads[&id].said.get(&promised) else { return };
        let wanted: BTreeSet<SnapshotId> = said.live.clone();
        let was_up = self.nodes[owner].presence == Presence::Up;
        self.switch_off(owner);
        let keys = self.nodes[owner].owner_keys.clone();
        let reader = self.join_with(Some(Arc::clone(&keys)));
        self.log(|| format!("{reader} has the words of {owner}, and nothing else"));
        match self.recover_list(reader, &keys, id, promised) {
            Ok((hints, found)) => {
                for (snapshot, at) in found {
                    let back = self.restore(reader, &keys, &hints, &at);
                    self.compare(owner, snapshot, back, demanded);
                }
            }
            Err(Fault::Excused(excuse)) => {
                wanted.iter().for_each(|_| demanded.count(Err(excuse)));
            }
            Err(Fault::Broken(how)) => self.violation(format!("words bring the list back: {how}")),
        }
        self.brought.clear();
        if was_up && self.violations.is_empty() {
            self.switch_off(reader);
            self.start(owner);
        }
    }

    /// A node stops, and is not there until somebody starts it.
    fn switch_off(&mut self, node: Index) {
        if self.nodes[node].machine.is_some() {
            self.log(|| format!("{node} is switched off"));
            self.nodes[node].crash();
            self.nodes[node].wishes.forget_jobs();
            self.break_links(node);
        }
        self.run_until(self.agenda.now().after(NOTICED), |_| false);
    }

    /// The snapshots that the owner's heads lead to, each with where it is, and who served heads.
    fn recover_list(
        &mut self,
        reader: Index,
        keys: &OwnerKeys,
        id: ChunkId,
        promised: u64,
    ) -> Restored<Listed> {
        let (index, owner) = (self.heads[&id].index, self.heads[&id].owner);
        // Who has asked for very much just before is turned away for a moment.
        self.run_until(self.agenda.now().after(PAUSE), |_| false);
        let can_find = self.can_find(reader, &id, promised);
        let found = self.look_for(reader, keys, index);
        can_find.map_err(Fault::Excused)?;
        let Some(agreed) = found.filter(|agreed| agreed.record.number() >= promised) else {
            let how = format!("{reader} does not find number {promised} of the head of {owner}");
            return Err(Fault::Broken(how));
        };
        let number = agreed.record.number();
        if !agreed.older.is_empty() {
            self.noticed.rare.count(Rare::OlderHeard);
        }
        let hints = agreed.agree.clone();
        let merged = self.read_chain(reader, keys, *agreed, &hints)?;
        let live = || merged.live().map(|live| (live.added.id, &live.added.reference));
        let listed: BTreeSet<SnapshotId> = live().map(|(id, _)| id).collect();
        self.see(&Fact::Recovered { node: reader, head: id, number, live: &listed });
        Ok((hints, live().map(|(id, at)| (id, at.duplicate())).collect()))
    }

    /// Asks everyone for the heads of all indexes, again where there may be a newer one.
    fn look_for(&mut self, reader: Index, keys: &OwnerKeys, own: u16) -> Option<Box<Agreement>> {
        let mut best = None;
        for _ in 0..LOOKS_MAX {
            let ticket = self.ask_for_heads(reader, &Self::all_heads(keys));
            let end = self.agenda.now().after(PAUSE * 3);
            let job = Job::Look;
            self.run_until(end, |world| !world.nodes[reader].wishes.is_running(ticket, job));
            let found = self.looks.remove(&(reader, ticket)).unwrap_or_default();
            let mut is_sure = false;
            for index in 0..INDEXES {
                let head = HeadKeys::derive(&keys.head, keys.generation, index);
                match judge(&head, index, &found, None) {
                    Verdict::Current(agreed) if index == own => {
                        is_sure = !agreed.is_doubtful();
                        best = Some(agreed);
                    }
                    Verdict::None => {}
                    verdict => self.violation(format!(
                        "words bring the list back: head {index} is {verdict:?}"
                    )),
                }
            }
            if is_sure || !self.violations.is_empty() {
                break;
            }
            self.run_until(self.agenda.now().after(PAUSE), |_| false);
        }
        best
    }

    /// Whether some honest node in reach has a record of the head that is as new as this.
    fn can_find(&self, reader: Index, id: &ChunkId, number: u64) -> Result<(), Excuse> {
        if !self.is_up(reader) {
            return Err(Excuse::ReaderDown);
        }
        let acked = |node: &Index| self.heads[id].acked.get(node).is_some_and(|at| *at >= number);
        let has = |node: &Node| node.is_sound() || node.newest_head(id) >= Some(number);
        let holds = |node: &Index| {
            let is_there = self.is_up(*node) && self.nodes[*node].is_honest();
            *node != reader && is_there && acked(node) && has(&self.nodes[*node])
        };
        let mut holders: Vec<Index> = (0..self.nodes.len()).filter(holds).collect();
        if holders.is_empty() {
            return Err(Excuse::NoCopy);
        }
        holders.retain(|node| !self.nodes[*node].limits().deaf);
        if holders.is_empty() {
            return Err(Excuse::Deaf);
        }
        let hears = self.answerers(reader, TopicKind::Retrieve, locality(id));
        let reach = |node: &Index| hears.contains(node) && self.reaches(reader, *node);
        holders.iter().any(reach).then_some(()).ok_or(Excuse::OutOfReach)
    }

    /// Reads what a head names.
    fn read_chain(
        &mut self,
        reader: Index,
        keys: &OwnerKeys,
        agreed: Agreement,
        hints: &[NodeId],
    ) -> Restored<Merged> {
        let Agreement { record, payload, .. } = agreed;
        let named = payload.checkpoint.iter().map(|(_, at)| at).chain(&payload.recent);
        let named: Vec<ChunkRef> = named.map(ChunkRef::duplicate).collect();
        let mut texts = Vec::new();
        for at in &named {
            texts.push(self.bring(reader, at, Kind::Manifest, hints)?);
        }
        let read = Chain::verify(&payload, keys.generation, &texts, None);
        let (chain, view) = read.map_err(|fault| Fault::Broken(fault.to_string()))?;
        let (device, index) = (payload.device, payload.index);
        let view = DeviceView { record, device, chain, view };
        Ok(merge(&BTreeMap::from([(index, view)])))
    }

    /// All files of a snapshot.
    fn restore(
        &mut self,
        reader: Index,
        keys: &OwnerKeys,
        hints: &[NodeId],
        at: &ChunkRef,
    ) -> Restored<Tree> {
        let broken = |why: String| Fault::Broken(why);
        let text = self.bring(reader, at, Kind::Snapshot, hints)?;
        let snapshot = Snapshot::decode(&text).map_err(|fault| broken(fault.to_string()))?;
        let entries = match &snapshot.tree {
            Some(root) => self.walk(reader, root, hints)?,
            None => Vec::new(),
        };
        let limits = GetLimits::default();
        let mut plan = Plan::new(limits, Some(BlobHasher::new(&keys.dedup)));
        let mut data: Vec<Vec<u8>> = Vec::new();
        for (file, entry) in entries.iter().enumerate() {
            let bytes = usize::try_from(entry.bytes()).unwrap_or(usize::MAX);
            data.push(vec![0; bytes]);
            if let What::File(body) = &entry.what {
                plan.add(file, body);
            }
        }
        while !plan.is_done() {
            let Some(need) = plan.next_need() else { break };
            let text = self.bring(reader, &need.reference, need.kind, hints)?;
            for arrival in plan.give(need.index, Ok(text)) {
                place(&mut data, arrival).map_err(|why| broken(format!("{why}")))?;
            }
        }
        let items = entries.into_iter().zip(data).map(|(entry, data)| back(entry, data));
        let tree: Option<Tree> = items.collect();
        tree.ok_or_else(|| broken("an entry that no device has".to_owned()))
    }

    fn walk(&mut self, reader: Index, root: &TreeRoot, hints: &[NodeId]) -> Restored<Vec<Entry>> {
        let (mut walk, mut entries) = (TreeWalk::new(root, b""), Vec::new());
        loop {
            match walk.step().map_err(|fault| Fault::Broken(fault.to_string()))? {
                Step::End => return Ok(entries),
                Step::Entry(entry) => entries.push(entry),
                Step::Wait => {
                    let Some(chunk) = walk.wanted() else {
                        return Err(Fault::Broken("a tree that waits for nothing".to_owned()));
                    };
                    let text = self.bring(reader, &chunk.reference, Kind::Tree, hints)?;
                    walk.give(chunk.index, text);
                }
            }
        }
    }

    /// The plaintext of a chunk, from whoever has it.
    fn bring(
        &mut self,
        reader: Index,
        at: &ChunkRef,
        kind: Kind,
        hints: &[NodeId],
    ) -> Restored<Bytes> {
        if !self.brought.contains_key(&at.id) {
            if !self.chunks.contains_key(&at.id) {
                return Err(Fault::Broken(format!("{:?} is named, and was never put", at.id)));
            }
            if !self.chunks[&at.id].promised {
                return Err(Fault::Broken(format!("{:?} is named before it is stored", at.id)));
            }
            self.can_fetch(reader, &at.id).map_err(Fault::Excused)?;
            self.fetch_by_words(reader, at, hints);
        }
        let Some((header, sealed)) = self.brought.get(&at.id) else {
            return Err(Fault::Broken(format!("{reader} cannot fetch {:?}", at.id)));
        };
        let opened = open_chunk(&at.ck, &at.id, header, sealed, kind);
        opened.map_err(|damage| Fault::Broken(damage.to_string()))
    }

    fn fetch_by_words(&mut self, reader: Index, at: &ChunkRef, hints: &[NodeId]) {
        let (id, locality, read) = (at.id, at.locality, at.ck.read_secret());
        if let Some(chunk) = self.chunks.get_mut(&id) {
            chunk.readers.insert(reader);
        }
        let end = self.agenda.now().after(FETCH);
        let ticket = self.nodes[reader].wishes.begin(Job::Bring(id));
        let (deadline, holders) = (self.nodes[reader].clock_at(end), hints.to_vec());
        let job = FetchJob { ticket, id, locality, read, holders, only: false, deadline };
        self.log(|| format!("{reader} fetches {id:?}"));
        self.feed(reader, Role::Owner, Input::Command(OwnerCommand::Fetch(job)));
        self.run_until(end.after(Duration::from_secs(1)), |world| world.brought.contains_key(&id));
    }

    /// What came back is what was backed up.
    fn compare(
        &mut self,
        owner: Index,
        id: SnapshotId,
        back: Restored<Tree>,
        demanded: &mut Demanded,
    ) {
        match back {
            Ok(tree) => {
                let made = self.devices.get(&owner).and_then(|device| device.made.get(&id));
                if made != Some(&tree) {
                    let what = made.map_or("no snapshot of it", |made| difference(made, &tree));
                    return self.violation(format!(
                        "what comes back is what was backed up: {id:?} of {owner}: {what}"
                    ));
                }
                demanded.count(Ok(()));
            }
            Err(Fault::Excused(excuse)) => demanded.count(Err(excuse)),
            Err(Fault::Broken(how)) => {
                self.violation(format!("words bring everything back: {id:?} of {owner}: {how}"));
            }
        }
    }
}

/// Puts what came of a file in its place.
fn place(data: &mut [Vec<u8>], arrival: Arrival) -> Result<(), Lost> {
    match arrival {
        Arrival::Bytes { file, at, bytes } => {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            let to = data.get_mut(file).and_then(|data| data.get_mut(at..));
            let to = to.and_then(|rest| rest.get_mut(..bytes.len()));
            to.map(|to| to.copy_from_slice(&bytes)).ok_or(Lost::Content)
        }
        Arrival::Lost { why, .. } => Err(why),
    }
}

/// In what two trees differ, in a word.
fn difference(made: &Tree, back: &Tree) -> &'static str {
    if made.keys().ne(back.keys()) {
        return "other names";
    }
    let stuff = |tree: &Tree| tree.values().map(|item| item.stuff.clone()).collect::<Vec<_>>();
    if stuff(made) == stuff(back) { "other metadata" } else { "other contents" }
}

/// Of the record of the highest number that a store has of a head.
impl Node {
    /// The newest number of a head that its store shows, where it runs and has one.
    pub(crate) fn newest_head(&self, id: &ChunkId) -> Option<u64> {
        let records = self.look(|store| store.read_heads(id, 0))?.ok()?;
        records.iter().map(HeadRecord::number).max()
    }
}
