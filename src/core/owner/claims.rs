//! Asking for holders, and who answers.
//!
//! Connected nodes that acknowledged one of the chunks earlier, or volunteered lately, are asked
//! over their streams; only where they are too few does a request go out on the topic. Either way a
//! claim counts only in answer to a request of ours that is still open, once per node.

use super::acks::is_of_heads;
use super::batch::{Ask, Candidate};
use super::outbox::Occasion;
use super::shared::Shared;
use super::store::{Grant, StoreFlow};
use super::timers::Wake;
use crate::core::codec::Reject;
use crate::core::message::{
    Answer, AnswerBody, Contact, Offer, StoreClaim, StoreRequest, StreamMessage, TopicMessage,
};
use crate::core::placement::{self, Standing};
use crate::core::topic::{Topic, TopicKind};
use crate::core::types::{AnswerTag, BatchId, ChunkId, NodeId, Time};
use crate::crypto::seal::AnswerSecret;
use crate::planted::{self, Bug};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;

/// Claims come after a jitter of up to 200 ms and their way through the mesh; the choice among
/// claimers waits for them.
pub(super) const SETTLE: Duration = Duration::from_millis(300);

/// More holders are asked directly than are needed, so that one refusal costs no time.
const ASK_SPARE: usize = 2;

/// A node that wants nothing now is not asked directly for so long.
const UNWILLING_PAUSE: Duration = Duration::from_secs(10);

impl StoreFlow {
    /// Asks for a new batch: directly where enough holders are known, else everyone.
    pub(super) fn ask_first(&mut self, now: Time, shared: &mut Shared, batch_id: BatchId) {
        let direct = self.choose_direct(now, shared, &batch_id);
        if direct.len() >= self.wanted(&batch_id) {
            self.ask(now, shared, batch_id, direct, false);
        } else if self.is_its_turn(now, shared, &batch_id) {
            self.ask(now, shared, batch_id, direct, true);
        }
    }

    /// Whether the batch may be published now. Otherwise it is woken when it may.
    fn is_its_turn(&mut self, now: Time, shared: &mut Shared, batch_id: &BatchId) -> bool {
        let Some(batch) = self.batches.get_mut(batch_id) else { return false };
        let turn = batch.turn.take().unwrap_or_else(|| shared.request_turn(now));
        if turn > now {
            batch.turn = Some(turn);
            shared.timers.set(Wake::Publish(*batch_id), turn);
        }
        turn <= now
    }

    /// The request is due again, unless everything it asked for is on its way.
    pub(super) fn on_publish(&mut self, now: Time, shared: &mut Shared, batch_id: BatchId) {
        let Some(batch) = self.batches.get(&batch_id) else { return };
        if batch.schedule.attempt() > 0 && !self.is_starved(&batch_id) {
            let again = now.after(Duration::from_secs(1));
            shared.timers.set(Wake::Publish(batch_id), again);
            return;
        }
        if self.is_its_turn(now, shared, &batch_id) {
            let direct = self.choose_direct(now, shared, &batch_id);
            self.ask(now, shared, batch_id, direct, true);
        }
    }

    fn wanted(&self, batch_id: &BatchId) -> usize {
        let Some(batch) = self.batches.get(batch_id) else { return 0 };
        let jobs = batch.open().filter_map(|(_, offer)| self.jobs.get(&offer.id));
        jobs.map(|job| usize::from(job.quorum.wanted())).max().unwrap_or(0)
    }

    /// Known holders to ask over their streams, that are not candidates yet: all that acknowledged
    /// a chunk earlier, and enough others in different domains. Only nodes that are at home in the
    /// batch's shard: elsewhere, nobody who has only the capability would find the chunk.
    fn choose_direct(&self, now: Time, shared: &Shared, batch_id: &BatchId) -> Vec<NodeId> {
        let Some(batch) = self.batches.get(batch_id) else { return Vec::new() };
        let stalled = |node: &NodeId| self.deliveries.get(node).is_some_and(|d| d.is_stalled());
        let is_new = |node: &NodeId| !batch.candidates.contains_key(node);
        let jobs = batch.open().filter_map(|(_, offer)| self.jobs.get(&offer.id));
        let mut direct: BTreeSet<NodeId> = jobs
            .flat_map(|job| &job.held_by)
            .filter(|node| is_new(node) && shared.peers.is_up(node))
            .filter(|node| shared.is_home(node, batch.locality))
            .copied()
            .collect();
        let nodes: Vec<NodeId> = shared
            .fresh_holders(now, batch.locality)
            .into_iter()
            .filter(|node| is_new(node) && !stalled(node) && !direct.contains(node))
            .collect();
        let candidates: Vec<placement::Candidate<'_>> = nodes
            .iter()
            .map(|node| placement::Candidate {
                node: *node,
                standing: shared.peers.standing(node),
                score: batch.trust(shared.peers.score(now, node)),
                holds: false,
                connected: true,
            })
            .collect();
        let taken: Vec<&Standing> = direct.iter().map(|node| shared.peers.standing(node)).collect();
        let others = (self.wanted(batch_id) + ASK_SPARE).saturating_sub(direct.len());
        let others = placement::place(&candidates, &taken, others, shared.domains, batch.tie_break);
        direct.extend(others);
        direct.into_iter().collect()
    }

    /// Sends one request, under a fresh one-time key and attempt number.
    fn ask(
        &mut self,
        now: Time,
        shared: &mut Shared,
        batch_id: BatchId,
        direct: Vec<NodeId>,
        gossip: bool,
    ) {
        let quorum = u8::try_from(self.wanted(&batch_id)).unwrap_or(u8::MAX);
        let Some(batch) = self.batches.get_mut(&batch_id) else { return };
        // Only what is answered on a topic has to lead to the right one.
        let secret = match gossip {
            true => shared.answer_secret(),
            false => AnswerSecret::generate(&mut shared.rng),
        };
        let ephemeral = secret.public();
        let probability = batch.schedule.probability(shared.limits.volunteer);
        let request = StoreRequest {
            ephemeral,
            attempt: batch.schedule.attempt(),
            probability,
            quorum,
            terms: shared.terms,
            offers: batch.open().map(|(_, offer)| *offer).collect::<Vec<Offer>>(),
            stamp: Bytes::new(),
        };
        let digest = request.digest();
        for node in &direct {
            let message = StoreRequest { probability: u16::MAX, ..request.clone() };
            shared.send(*node, StreamMessage::StoreRequest(message));
        }
        if gossip {
            let topic = shared.sharding.topic(TopicKind::Store, batch.locality);
            // Whoever knows nobody at home there is connected to some before this goes out.
            if !shared.peers.none_connected() {
                self.heard.published(now, topic);
            }
            shared.publish(topic, TopicMessage::StoreRequest(request));
            self.settling = Some((topic, now.after(SETTLE)));
        }
        let pause = batch.schedule.published();
        let old = batch.asked((secret, digest), direct.into_iter().collect(), gossip);
        self.asks.insert(AnswerTag::of(&ephemeral), batch_id);
        if let Some(old) = old {
            self.asks.remove(&old);
        }
        let pause = shared.jitter(pause);
        shared.timers.set(Wake::Publish(batch_id), now.after(pause));
        shared.timers.set_no_later(Wake::Settle(batch_id), now.after(SETTLE));
    }

    /// Claims had the time to come in, or something is possible again that was not.
    pub(super) fn on_settled(&mut self, now: Time, shared: &mut Shared, batch_id: BatchId) {
        let Some(batch) = self.batches.get_mut(&batch_id) else { return };
        batch.settled = true;
        let gossiped = batch.asks.iter().any(|ask| ask.gossip);
        self.place_batch(now, shared, &batch_id);
        if !gossiped && self.is_starved(&batch_id) {
            shared.timers.set(Wake::Publish(batch_id), now);
        }
    }

    /// A sealed answer, if it is one to us.
    pub(super) fn on_answer(
        &mut self,
        now: Time,
        shared: &mut Shared,
        from: NodeId,
        answer: &Answer,
    ) {
        let Some(&batch_id) = self.asks.get(&answer.tag) else { return };
        let Some(batch) = self.batches.get_mut(&batch_id) else { return };
        let same = |ask: &&mut Ask| AnswerTag::of(&ask.ephemeral) == answer.tag;
        let Some(ask) = batch.asks.iter_mut().find(same) else { return };
        if let Err(reason) = ask.opened.admit(from, &answer.sealed) {
            return shared.reject(from, reason);
        }
        let (Contact { hello, record }, claim) = match open_claim(shared, ask, answer) {
            Ok(opened) => opened,
            Err(reason) => {
                ask.opened.note_bad(from);
                return shared.reject(from, reason);
            }
        };
        ask.opened.note_good(from, &answer.sealed);
        if hello.node != shared.node {
            let origin = (record, shared.peers.declared(&hello.node, &hello.site), Some(from));
            self.accept(now, shared, from, (batch_id, hello.node), origin, &claim);
        }
    }

    /// A claim over a stream, by a node that was asked over it.
    pub(super) fn on_claim(
        &mut self,
        now: Time,
        shared: &mut Shared,
        from: NodeId,
        claim: &StoreClaim,
    ) {
        let batch_id = self.asks.get(&AnswerTag::of(&claim.ephemeral)).copied();
        let Some(batch_id) = batch_id else { return shared.reject(from, Reject::Unsolicited) };
        let is_of_head = self.is_of_head(&batch_id);
        let Some(batch) = self.batches.get_mut(&batch_id) else { return };
        let Some(ask) = batch.ask(&claim.ephemeral) else { return };
        if !ask.asked.remove(&from) {
            let replayed = ask.answered.contains(&from);
            let reason = if replayed { Reject::Replayed } else { Reject::Unsolicited };
            return shared.reject(from, reason);
        }
        let holds = if is_of_head { 0 } else { ask.widen(claim.holds) };
        if claim.wants != 0 {
            shared.peers.claimed(now, from);
        }
        self.count_held(shared, &batch_id, from, holds);
        let declared = shared.peers.standing(&from).clone();
        self.accept(now, shared, from, (batch_id, from), (Bytes::new(), declared, None), claim);
        // All that were asked have answered: no need to wait for more.
        let Some(batch) = self.batches.get_mut(&batch_id) else { return };
        let all = batch.asks.iter().all(|ask| ask.asked.is_empty() && !ask.gossip);
        if all && !batch.settled {
            shared.timers.clear(Wake::Settle(batch_id));
            self.on_settled(now, shared, batch_id);
        }
    }

    /// Counts the chunks that the node acknowledged earlier and says to hold still. It is not sent
    /// them again. Where they are on their way to it already, its ack will count.
    fn count_held(&mut self, shared: &mut Shared, batch_id: &BatchId, node: NodeId, holds: u64) {
        let Some(batch) = self.batches.get(batch_id) else { return };
        let held = batch.open().filter(|(position, _)| holds >> position & 1 == 1);
        let held: Vec<ChunkId> = held.map(|(_, offer)| offer.id).collect();
        for id in held {
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            let was_given =
                matches!(job.grants.get(&node), Some(Grant::Sent | Grant::Late | Grant::Lied));
            let is_known = job.held_by.contains(&node) || planted::is_on(Bug::CountClaims);
            if was_given || !is_known || job.without.contains(&node) {
                continue;
            }
            job.grants.remove(&node);
            job.quorum.earlier(node, shared.peers.standing(&node));
            self.conclude(shared, &id);
        }
    }

    /// Takes a claim by `node` whose origin was checked, and uses it at once where it is late
    /// enough for that.
    fn accept(
        &mut self,
        now: Time,
        shared: &mut Shared,
        from: NodeId,
        (batch_id, node): (BatchId, NodeId),
        (record, declared, via): (Bytes, Standing, Option<NodeId>),
        claim: &StoreClaim,
    ) {
        let is_of_head = self.is_of_head(&batch_id);
        let Some(batch) = self.batches.get_mut(&batch_id) else { return };
        // Whoever is not at home in the shard was not asked: nobody would find the chunk there.
        let is_home = shared.is_home(&node, batch.locality);
        let Some(ask) = batch.ask(&claim.ephemeral).filter(|_| is_home) else {
            return shared.reject(from, Reject::Unsolicited);
        };
        // A node that is asked on its stream and on the topic answers both. The first sealed
        // answer counts, and the one on the stream: only that is surely the node's own.
        if !ask.answered.insert(node) && via.is_some() {
            return;
        }
        let wants = ask.widen(claim.wants);
        let holds = if is_of_head { 0 } else { ask.widen(claim.holds & claim.wants) };
        let is_up = shared.peers.is_up(&node);
        if wants == 0 {
            if is_up {
                shared.peers.avoid(now, node, UNWILLING_PAUSE);
            }
            return;
        }
        if is_up {
            shared.peers.claimed(now, node);
        }
        let busy: BTreeSet<NodeId> = batch
            .open()
            .filter_map(|(_, offer)| self.jobs.get(&offer.id))
            .flat_map(|job| job.grants.iter())
            .filter(|(_, grant)| grant.is_live() || **grant == Grant::Late)
            .map(|(node, _)| *node)
            .collect();
        let is_idle = |node: &NodeId| !busy.contains(node) && !shared.peers.is_up(node);
        let candidate = Candidate { wants, holds, record, declared, unreachable: false, via };
        if !batch.admit(node, candidate, is_up, is_idle) {
            return shared.reject(from, Reject::TableFull);
        }
        let settled = batch.settled;
        self.forgive(now, shared, &batch_id, node, wants);
        if settled {
            self.place_batch(now, shared, &batch_id);
        }
    }

    /// Whether the batch is that of a head, of which no claim counts: a node that holds it may well
    /// hold an older record.
    pub(super) fn is_of_head(&self, batch_id: &BatchId) -> bool {
        let open = self.batches.get(batch_id).and_then(|batch| batch.open().next());
        let job = open.and_then(|(_, offer)| self.jobs.get(&offer.id));
        job.is_some_and(|job| job.load.is_head())
    }

    /// A node that refused or was cut off, and volunteers again, is taken at its word; one that
    /// lied is not, and one that takes no more of ours did not know whose chunk it is.
    fn forgive(
        &mut self,
        now: Time,
        shared: &Shared,
        batch_id: &BatchId,
        node: NodeId,
        wants: u64,
    ) {
        if shared.peers.is_over_quota(now, &node) {
            return;
        }
        let Some(batch) = self.batches.get(batch_id) else { return };
        for (position, offer) in batch.open() {
            let Some(job) = self.jobs.get_mut(&offer.id) else { continue };
            if wants >> position & 1 == 1 && job.grants.get(&node) != Some(&Grant::Lied) {
                job.quorum.volunteer(node);
                let forgiven = match job.grants.get(&node) {
                    // It volunteers for a head and does not know which record, nor whose: asked
                    // again, it would say the same.
                    Some(Grant::Refused(reason)) if is_of_heads(*reason) => false,
                    Some(Grant::Refused(_)) => true,
                    Some(Grant::CutOff) => !planted::is_on(Bug::NeverDialAgain),
                    _ => false,
                };
                if forgiven {
                    job.grants.remove(&node);
                }
            }
        }
    }

    /// A peer subscribed to a topic.
    pub(super) fn on_subscribed(&mut self, now: Time, shared: &mut Shared, topic: Topic) {
        self.on_occasion(now, shared, Some(topic), Occasion::Subscribed);
    }
}

/// Opens a sealed claim, and checks who sent it.
fn open_claim(
    shared: &Shared,
    ask: &Ask,
    answer: &Answer,
) -> Result<(Contact, StoreClaim), Reject> {
    let body = shared.open_answer(&ask.secret, ask.request, answer)?;
    let AnswerBody::Claim(mut claim) = body else { return Err(Reject::Unsolicited) };
    if claim.ephemeral != ask.ephemeral {
        return Err(Reject::Unsolicited);
    }
    let contact = claim.contact.take().ok_or(Reject::Malformed)?;
    Ok((contact, claim))
}
