//! Watching a world for its picture: see [`crate::timeline`].

use super::{Event, Observer, Outcome, World};
use crate::net::Traffic;
use crate::node::{Index, Presence};
use crate::oracle::{ChunkFacts, Fact};
use crate::plan::Frame;
use crate::scenario::Stage;
use crate::tally::{Fault, Tally};
use crate::timeline::{CutSpan, Mark, Sample, Timeline};
use quloud::core::types::{ChunkId, Time};

/// Runs the world of one seed to its end, and watches it.
pub(crate) fn film(seed: u64, frame: &Frame, observer: Observer<'_>) -> (Outcome, Timeline) {
    World::new(seed, frame, observer).filmed(seed)
}

/// Runs a scripted world to its end, and watches it.
pub(crate) fn film_script(stage: Stage, seed: u64, observer: Observer<'_>) -> (Outcome, Timeline) {
    World::staged(stage, seed, observer).filmed(seed)
}

impl World<'_> {
    fn filmed(mut self, seed: u64) -> (Outcome, Timeline) {
        let empty = Timeline::new(self.plan.span);
        self.timeline = Some(Box::new(empty.clone()));
        self.run_through();
        self.take_sample();
        let timeline = self.timeline.take().map_or(empty, |timeline| *timeline);
        (self.outcome(seed), timeline)
    }

    /// Before an event happens.
    pub(super) fn watch(&mut self, event: &Event) {
        let now = self.agenda.now();
        let Some(timeline) = &mut self.timeline else { return };
        if let Event::CutBegins { cut, length } = event {
            let one_way = cut.is_one_way();
            timeline.cut(CutSpan { from: now, to: now.after(*length), one_way });
        }
        if timeline.is_due(now) {
            self.take_sample();
        }
    }

    /// Nothing goes wrong any more.
    pub(super) fn watch_calm(&mut self) {
        self.take_sample();
        let now = self.agenda.now();
        self.timeline.iter_mut().for_each(|timeline| timeline.calm_down(now));
    }

    /// What tells of copies that are there no more.
    pub(super) fn watch_fact(&mut self, fact: &Fact<'_>) {
        let now = self.agenda.now();
        let (Some(timeline), Fact::Started { node, missing, .. }) = (&mut self.timeline, fact)
        else {
            return;
        };
        timeline.lost.extend(missing.iter().map(|id| ((*node, *id), now)));
    }

    /// A user did something.
    pub(super) fn mark(&mut self, mark: Mark) {
        let now = self.agenda.now();
        self.timeline.iter_mut().for_each(|timeline| timeline.mark(now, mark));
    }

    /// Takes in what the disks have counted.
    pub(super) fn gather_faults(&mut self) {
        for node in &mut self.nodes {
            self.faults.merge(&node.take_tally());
        }
    }

    /// All faults so far.
    pub(super) fn faults_so_far(&mut self) -> Tally<Fault> {
        self.gather_faults();
        let mut faults = self.faults.clone();
        faults.merge(&self.net.tally);
        faults
    }

    /// What all nodes sent so far.
    pub(super) fn traffic_so_far(&self) -> Traffic {
        let mut traffic = Traffic::default();
        self.net.traffic.iter().for_each(|sent| traffic.add(sent));
        traffic
    }

    fn take_sample(&mut self) {
        if self.timeline.is_none() {
            return;
        }
        let (faults, traffic) = (self.faults_so_far(), self.traffic_so_far());
        let Some(mut timeline) = self.timeline.take() else { return };
        let mut sample = self.chunks_now(&timeline);
        for node in &self.nodes {
            let kind = match node.presence {
                Presence::Up => 0,
                Presence::Paused(_) => 1,
                Presence::Down => 2,
                Presence::Gone => 3,
            };
            sample.nodes[kind] += 1;
        }
        timeline.push(sample, [traffic.gossip_bytes, traffic.frame_bytes], &faults);
        self.timeline = Some(timeline);
    }

    /// How the promised chunks are off.
    fn chunks_now(&self, timeline: &Timeline) -> Sample {
        let mut sample = Sample { at: self.agenda.now(), ..Sample::default() };
        let mut copies = Vec::new();
        let promised =
            self.chunks.iter().filter(|(_, chunk)| chunk.promised && chunk.released.is_none());
        for (id, chunk) in promised {
            let acked = chunk.acked.iter().map(|(node, at)| (*node, *at));
            let holders = acked.filter(|acked| self.has_copy(timeline, (id, chunk), *acked));
            let holders: Vec<Index> = holders.map(|(node, _)| node).collect();
            let band = match holders.len() {
                0 => 0,
                enough if enough >= usize::from(chunk.replicas) => 3,
                1 => 1,
                _ => 2,
            };
            sample.chunks[band] += 1;
            sample.out_of_reach += u32::from(!holders.iter().any(|node| self.is_up(*node)));
            copies.push(u32::try_from(holders.len()).unwrap_or(u32::MAX));
        }
        copies.sort_unstable();
        sample.fewest = copies.first().copied().unwrap_or(0);
        sample.median = copies.get(copies.len() / 2).copied().unwrap_or(0);
        sample
    }

    /// Whether an honest node that acknowledged a chunk has it on its disk still.
    fn has_copy(
        &self,
        timeline: &Timeline,
        (id, chunk): (&ChunkId, &ChunkFacts),
        (node, acked): (Index, Time),
    ) -> bool {
        let lost = timeline.lost.get(&(node, *id)).is_some_and(|lost| *lost >= acked);
        let there = self.nodes[node].presence != Presence::Gone && !chunk.buried.contains(&node);
        there && !lost && self.nodes[node].is_honest()
    }
}
