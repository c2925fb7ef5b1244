//! What a world was like over its time: samples for a picture, and the marks on them.
//!
//! Taken from what the world knows anyway: nothing is asked of a node, its disk or its generator,
//! so that a world that is watched is the same world.

use crate::node::Index;
use crate::tally::{Fault, Group, Tally};
use quloud::core::types::{ChunkId, Time};
use std::collections::BTreeMap;
use std::time::Duration;

/// The most samples of the part in which everything goes wrong, and of the calm part.
const LIVE_MAX: usize = 400;
const CALM_MAX: usize = 100;

/// The first distance of two samples of the calm part, whose length nobody knows.
const CALM_STEP: Duration = Duration::from_secs(10);

/// The most marks of one kind that are kept.
const MARKS_MAX: usize = 2_000;

/// How things stand before a moment, and what was done since the sample before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sample {
    pub(crate) at: Time,
    /// Nodes that take part, are asleep, are down, and are gone for ever.
    pub(crate) nodes: [u32; 4],
    /// Promised chunks with no copy left, with one, with more but too few, and with enough: copies
    /// of honest nodes that are not gone, on their disks.
    pub(crate) chunks: [u32; 4],
    /// The fewest copies of a promised chunk, and the median.
    pub(crate) fewest: u32,
    pub(crate) median: u32,
    /// Promised chunks of which no copy is at a node that takes part now.
    pub(crate) out_of_reach: u32,
    /// Bytes of gossip and of frames, since the sample before.
    pub(crate) bytes: [u64; 2],
    /// Faults by group, in the order of [`Group::ALL`], since the sample before.
    pub(crate) faults: [u64; 4],
}

impl Sample {
    /// Two samples as one: the later one's state, and what was done before either.
    fn and_then(self, later: Self) -> Self {
        let sum = |a: u64, b: u64| a.saturating_add(b);
        let bytes = [0, 1].map(|i: usize| sum(self.bytes[i], later.bytes[i]));
        let faults = [0, 1, 2, 3].map(|i: usize| sum(self.faults[i], later.faults[i]));
        // A chunk that was lost for a moment stays visible.
        let worse = if self.chunks[0] > later.chunks[0] { self } else { later };
        let Self { chunks, fewest, median, out_of_reach, .. } = worse;
        Self { bytes, faults, chunks, fewest, median, out_of_reach, ..later }
    }
}

/// Samples at equal distances. When there are too many, each two become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Track {
    pub(crate) from: Time,
    pub(crate) to: Time,
    pub(crate) step: Duration,
    pub(crate) samples: Vec<Sample>,
    max: usize,
}

impl Track {
    fn new(from: Time, step: Duration, max: usize) -> Self {
        Self { from, to: from, step, samples: Vec::new(), max }
    }

    /// When the next sample is due.
    fn due(&self) -> Time {
        self.samples.last().map_or(self.from, |last| last.at.after(self.step))
    }

    fn push(&mut self, sample: Sample) {
        if self.samples.len() >= self.max {
            let pairs = self.samples.chunks(2);
            let merged = pairs.filter_map(|pair| pair.iter().copied().reduce(Sample::and_then));
            self.samples = merged.collect();
            self.step *= 2;
        }
        self.to = self.to.max(sample.at);
        self.samples.push(sample);
    }
}

/// What is marked on the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    /// A user put chunks.
    Put,
    /// A user fetched some.
    Get,
}

/// Some nodes did not hear others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CutSpan {
    pub(crate) from: Time,
    pub(crate) to: Time,
    pub(crate) one_way: bool,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Timeline {
    /// Everything goes wrong.
    pub(crate) live: Track,
    /// And then nothing any more.
    pub(crate) calm: Option<Track>,
    pub(crate) cuts: Vec<CutSpan>,
    pub(crate) marks: Vec<(Time, Mark)>,
    /// Chunks that a node acknowledged and that are not on its disk any more, and since when.
    pub(super) lost: BTreeMap<(Index, ChunkId), Time>,
    /// What was counted up to the last sample.
    bytes: [u64; 2],
    faults: [u64; 4],
}

impl Timeline {
    /// Of a world that runs so long before it becomes calm.
    pub(crate) fn new(span: Duration) -> Self {
        let columns = u32::try_from(LIVE_MAX).unwrap_or(u32::MAX);
        let step = (span / columns).max(Duration::from_secs(1));
        Self {
            live: Track::new(Time(0), step, LIVE_MAX + 1),
            calm: None,
            cuts: Vec::new(),
            marks: Vec::new(),
            lost: BTreeMap::new(),
            bytes: [0; 2],
            faults: [0; 4],
        }
    }

    fn track(&mut self) -> &mut Track {
        self.calm.as_mut().unwrap_or(&mut self.live)
    }

    /// Whether a sample is to be taken now.
    pub(crate) fn is_due(&mut self, now: Time) -> bool {
        let track = self.track();
        track.to = track.to.max(now);
        track.due() <= now
    }

    /// Takes a sample; `bytes` and `faults` are counted from the beginning.
    pub(crate) fn push(&mut self, sample: Sample, bytes: [u64; 2], faults: &Tally<Fault>) {
        let mut sums = [0_u64; 4];
        for (sum, group) in sums.iter_mut().zip(Group::ALL) {
            let of_group = faults.iter().filter(|(fault, _)| fault.group() == group);
            *sum = of_group.map(|(_, count)| count).sum();
        }
        let since = |now: u64, before: u64| now.saturating_sub(before);
        let more = [0, 1].map(|i: usize| since(bytes[i], self.bytes[i]));
        let new = [0, 1, 2, 3].map(|i: usize| since(sums[i], self.faults[i]));
        (self.bytes, self.faults) = (bytes, sums);
        self.track().push(Sample { bytes: more, faults: new, ..sample });
    }

    /// Nothing goes wrong any more: cuts are over.
    pub(crate) fn calm_down(&mut self, now: Time) {
        if self.calm.is_none() {
            self.live.to = now;
            self.cuts.iter_mut().for_each(|cut| cut.to = cut.to.min(now));
            self.calm = Some(Track::new(now, CALM_STEP, CALM_MAX));
        }
    }

    /// Marks something.
    pub(crate) fn mark(&mut self, now: Time, mark: Mark) {
        if self.marks.len() < MARKS_MAX {
            self.marks.push((now, mark));
        }
    }

    /// A cut begins.
    pub(crate) fn cut(&mut self, cut: CutSpan) {
        if self.cuts.len() < MARKS_MAX {
            self.cuts.push(cut);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_merged_when_there_are_too_many_and_nothing_is_lost() {
        let mut timeline = Timeline::new(Duration::from_secs(400));
        timeline.calm_down(Time(400_000));
        let mut faults = Tally::default();
        let mut taken = 0;
        for second in 400..2_400 {
            let now = Time(second * 1_000);
            faults.count(Fault::Crash);
            if timeline.is_due(now) {
                timeline.push(Sample { at: now, ..Sample::default() }, [0; 2], &faults);
                taken = faults.of(Fault::Crash);
            }
        }
        let calm = timeline.calm.unwrap();
        assert!(calm.samples.len() <= CALM_MAX && calm.step > CALM_STEP, "{}", calm.samples.len());
        assert_eq!(calm.samples.iter().map(|sample| sample.faults[2]).sum::<u64>(), taken);
    }

    #[test]
    fn a_chunk_that_was_lost_for_a_moment_stays_visible() {
        let lost = Sample { at: Time(1), chunks: [1, 0, 0, 4], ..Sample::default() };
        let well = Sample { at: Time(2), chunks: [0, 0, 0, 5], ..Sample::default() };
        for pair in [[lost, well], [well, lost]] {
            assert_eq!(pair[0].and_then(pair[1]).chunks, [1, 0, 0, 4]);
        }
    }
}
