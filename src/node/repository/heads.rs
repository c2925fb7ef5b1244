//! Which heads there are, how far they can be trusted, and which one this device writes.

use super::publish::node_at;
use super::{Agreed, Breadth, DeviceView, State, keys, known_heads, payload_of, refresh};
use crate::core::types::{DeviceId, NodeId};
use crate::node::inner::Inner;
use crate::node::report::{Failure, FailureKind, HeadReport};
use crate::repo::catalog::{Device, Entry};
use crate::repo::head::HeadPayload;
use crate::repo::manifest::Hint;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long the first peer may take.
const REACH_PATIENCE: Duration = Duration::from_secs(10);

/// No more peers for so long: those are all for now.
const SETTLED: Duration = Duration::from_millis(300);

/// How long more and more peers are waited for.
const SETTLING_MAX: Duration = Duration::from_secs(2);

/// How long the holders of heads may take to answer, all together.
const LOOK_PATIENCE: Duration = Duration::from_secs(8);

/// Between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// The most nodes that are thought to hold something.
const HINTS_MAX: usize = 16;

/// A head that can be read.
#[derive(Debug, Clone)]
pub(in crate::node) struct HeadView {
    pub(in crate::node) index: u16,
    device: DeviceId,
    number: u64,
    signed_at_s: i64,
    agree: usize,
    silent: usize,
    /// So few of its holders answered that there may be a newer record.
    pub(in crate::node) is_doubtful: bool,
}

impl HeadView {
    pub(super) fn of(
        index: u16,
        of: &DeviceView,
        payload: &HeadPayload,
        agreed: Option<&Agreed>,
    ) -> Self {
        Self {
            index,
            device: of.device,
            number: of.record.number(),
            signed_at_s: payload.signed_at_s,
            agree: agreed.map_or(0, |agreed| agreed.agree.len()),
            silent: agreed.map_or(payload.holders.len(), |agreed| agreed.silent),
            is_doubtful: agreed.is_some_and(|agreed| agreed.is_doubtful),
        }
    }

    /// For the user.
    pub(in crate::node) fn report(&self) -> HeadReport {
        HeadReport {
            index: self.index,
            device: self.device.to_string(),
            number: self.number,
            signed_at: self.signed_at_s,
            agree: self.agree,
            silent: self.silent,
            doubtful: self.is_doubtful,
        }
    }
}

/// What a patient look at the heads came to.
#[derive(Debug, Default)]
pub(in crate::node) struct Look {
    /// How many nodes are connected; with none, nobody was asked.
    pub(in crate::node) peers: usize,
    /// What can be read, by index.
    pub(in crate::node) heads: Vec<HeadView>,
    /// The newest list of every device that was found could be read.
    pub(in crate::node) is_whole: bool,
    /// What the user should know.
    pub(in crate::node) notes: Vec<String>,
    /// Nodes that are thought to hold something of the owner's.
    pub(in crate::node) hints: Vec<NodeId>,
}

/// Waits for the mesh and reads the heads, again where nothing or too little was heard: a node that
/// has only just started finds its holders one by one.
///
/// # Errors
/// The node stops, or its catalogue takes nothing.
pub(in crate::node) async fn look(
    inner: &Arc<Inner>,
    mut breadth: Breadth,
) -> Result<Look, Failure> {
    if !settle(inner).await {
        return Ok(Look::default());
    }
    let deadline = Instant::now() + LOOK_PATIENCE;
    loop {
        let mut state = inner.repository.state.lock().await;
        let notes = refresh(&mut state, inner, breadth).await?;
        state
            .addresses(|node| !inner.shared.is_connected(node))
            .for_each(|to| inner.net.add_address(to));
        let (heads, hints, is_whole) = (state.views(inner), state.hints(), !state.missing);
        drop(state);
        let is_sure = !heads.is_empty() && !heads.iter().any(|head| head.is_doubtful);
        let is_enough = is_whole && is_sure;
        if is_enough || Instant::now() >= deadline {
            let peers = inner.shared.watch_peers().borrow().len();
            return Ok(Look { peers, heads, is_whole, notes, hints });
        }
        // Who is far away may have what the others have not.
        breadth = Breadth::Everyone;
        sleep(LOOK_PAUSE).await;
    }
}

/// Waits for the first peer and then until no more come for a moment: a node that has been up for
/// a while waits for nothing. `false` where nobody comes.
pub(super) async fn settle(inner: &Inner) -> bool {
    let mut peers = inner.shared.watch_peers();
    let first = timeout(REACH_PATIENCE, peers.wait_for(|peers| !peers.is_empty())).await;
    if !matches!(first, Ok(Ok(_))) {
        return false;
    }
    drop(first);
    let quiet = async {
        loop {
            peers.borrow_and_update();
            let left = SETTLED.saturating_sub(inner.shared.peers_unchanged_for());
            if left.is_zero() || matches!(timeout(left, peers.changed()).await, Ok(Err(_))) {
                return;
            }
        }
    };
    // However many more there may be.
    drop(timeout(SETTLING_MAX, quiet).await);
    true
}

impl State {
    fn views(&self, inner: &Inner) -> Vec<HeadView> {
        let views = self.devices.iter().filter_map(|(index, of)| {
            let payload = payload_of(&keys(inner, *index), &of.record)?;
            Some(HeadView::of(*index, of, &payload, self.agreed.get(index)))
        });
        views.collect()
    }

    /// Who served heads, then whom checkpoints name.
    fn hints(&self) -> Vec<NodeId> {
        let served = self.agreed.values().flat_map(|agreed| agreed.agree.iter().copied());
        let checkpoints = self.devices.values().filter_map(|of| of.view.checkpoint.as_ref());
        let named = checkpoints.flat_map(|checkpoint| checkpoint.hints.iter().map(|at| at.node));
        let mut seen = BTreeSet::new();
        served.chain(named).filter(|node| seen.insert(*node)).take(HINTS_MAX).collect()
    }

    /// The same, and whom the heads name as their holders.
    fn holders(&self, inner: &Inner) -> BTreeSet<NodeId> {
        let named = self.devices.iter().filter_map(|(index, of)| {
            payload_of(&keys(inner, *index), &of.record).map(|payload| payload.holders)
        });
        self.hints().into_iter().chain(named.flatten()).collect()
    }

    /// Where checkpoints say that holders are, of those that are `wanted`. Whoever is there has to
    /// prove to be the one.
    fn addresses(&self, wanted: impl Fn(&NodeId) -> bool) -> impl Iterator<Item = String> {
        let checkpoints = self.devices.values().filter_map(|of| of.view.checkpoint.as_ref());
        let hints = checkpoints.flat_map(|checkpoint| &checkpoint.hints);
        let wanted = hints.filter(move |hint| wanted(&hint.node)).take(HINTS_MAX);
        let address = |hint: &Hint| {
            let text = String::from_utf8(hint.address.clone()).ok()?;
            (node_at(&text) == Some(hint.node)).then_some(text)
        };
        wanted.filter_map(address)
    }

    /// Heads that somebody writes, as far as anybody was heard to say.
    fn taken(&self, inner: &Inner) -> BTreeSet<u16> {
        let mut taken = self.taken.clone();
        taken.extend(known_heads(inner).keys());
        for (index, of) in &self.devices {
            let payload = payload_of(&keys(inner, *index), &of.record);
            taken.extend(payload.iter().flat_map(|payload| payload.devices.keys()));
        }
        taken
    }
}

impl super::Repository {
    /// Nodes that may have chunks of the owner's: they served heads, or heads or checkpoints name
    /// them. As of the last look.
    pub(in crate::node) async fn thought_to_hold(&self, inner: &Inner) -> BTreeSet<NodeId> {
        self.state.lock().await.holders(inner)
    }

    /// By head, who may have chunks of the device that writes it: as it names who keeps it, and as
    /// its newest checkpoint says. Where they are is noted, for whoever asks them. As of the last
    /// look.
    pub(in crate::node) async fn hinted(&self, inner: &Inner) -> BTreeMap<u16, BTreeSet<NodeId>> {
        let state = self.state.lock().await;
        let is_away = |node: &NodeId| !inner.shared.is_connected(node);
        state.addresses(is_away).for_each(|to| inner.net.add_address(to));
        let (devices, known) = (state.devices.iter(), known_heads(inner));
        let named = devices.map(|(index, of)| {
            let kept = known.get(index).and_then(|head| head.kept.as_ref());
            let kept = kept.into_iter().flat_map(|kept| kept.holders.iter().copied());
            let payload = payload_of(&keys(inner, *index), &of.record);
            let holders = payload.into_iter().flat_map(|payload| payload.holders);
            let checkpoint = of.view.checkpoint.iter();
            let hints = checkpoint.flat_map(|checkpoint| checkpoint.hints.iter().map(|at| at.node));
            (*index, kept.chain(holders).chain(hints).collect())
        });
        named.collect()
    }

    /// For how many replicas the devices wished, whoever wished for most.
    pub(in crate::node) async fn replicas_wished(&self, inner: &Inner) -> u8 {
        let state = self.state.lock().await;
        let payloads = state
            .devices
            .iter()
            .filter_map(|(index, of)| payload_of(&keys(inner, *index), &of.record));
        payloads.map(|payload| payload.replicas).max().unwrap_or(0)
    }

    /// Decides which head this device writes from now on: `take_over`, which another device wrote,
    /// else the one that it writes already, else the lowest that nobody does.
    ///
    /// # Errors
    /// There is no such head; the node's catalogue takes nothing.
    pub(in crate::node) async fn claim(
        &self,
        inner: &Arc<Inner>,
        take_over: Option<u16>,
    ) -> Result<u16, Failure> {
        let _turn = self.turn.lock().await;
        let state = self.state.lock().await;
        claim(inner, &state, take_over).await.map(|device| device.index)
    }
}

/// See [`super::Repository::claim`].
pub(super) async fn claim(
    inner: &Arc<Inner>,
    state: &State,
    take_over: Option<u16>,
) -> Result<Device, Failure> {
    let own = inner.with_catalog(|catalog| catalog.device());
    let writer = |index: &u16| state.devices.get(index).map(|of| of.device);
    let device = match (take_over, own) {
        (Some(index), _) => {
            let id = writer(&index).ok_or_else(|| no_such_head(index))?;
            Device { id, index }
        }
        (None, Some(own)) if writer(&own.index).is_none_or(|id| id == own.id) => return Ok(own),
        (None, own) => {
            let taken = state.taken(inner);
            let free = (0..u16::MAX).find(|index| !taken.contains(index));
            let id = own.map_or_else(|| DeviceId::from_bytes(rand::random()), |own| own.id);
            Device { id, index: free.unwrap_or(u16::MAX) }
        }
    };
    if own != Some(device) {
        inner.record(Entry::Device(device))?;
        inner.commit_catalog().await?;
    }
    Ok(device)
}

fn no_such_head(index: u16) -> Failure {
    Failure::new(
        FailureKind::Usage,
        format!("head {index} cannot be taken over"),
        "nobody has a record of it that can be read",
        "run `quloud recover` without --take-over: it lists the heads that there are",
    )
}
