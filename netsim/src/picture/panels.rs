//! The strips of the picture, from top to bottom.

use super::axis::Axis;
use super::svg::{Anchor, Svg};
use super::{FAINT, GRID, INK, LEFT, Panel, RIGHT, font, label, of_group};
use crate::report::grouped;
use crate::tally::Group;
use crate::timeline::{Mark, Sample, Timeline, Track};
use crate::world::Outcome;
use quloud::core::types::Time;
use std::fmt::Write;

const COPIES: [(&str, &str); 4] = [
    ("no copy", "#9b2226"),
    ("one copy", "#ee9b00"),
    ("too few copies", "#f3d692"),
    ("all copies", "#6a9cc4"),
];
const PRESENCE: [(&str, &str); 4] =
    [("up", "#3d8583"), ("asleep", "#a5cbc4"), ("down", "#cdd3da"), ("left for ever", "#4b5563")];
const SENT: [(&str, &str); 2] = [("gossip", "#6c6fb5"), ("frames", "#3d8583")];
const FAULTS: [&str; 4] = ["#6c6fb5", "#b0792c", "#3d8583", "#97306b"];
const PUT: &str = "#1d4e79";
const GET: &str = "#d98200";

/// Where each strip is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Panels {
    copies: Panel,
    nodes: Panel,
    sent: [Panel; 2],
    faults: [Panel; 4],
    marks: Panel,
}

/// What a strip shows at a time: from when to when, and how much.
type Spans = Vec<(Time, Time, f64)>;

impl Panels {
    pub(super) fn below(top: f64) -> Self {
        let mut next = top;
        let mut panel = |height: f64, gap: f64| {
            let panel = Panel { top: next, height };
            next += height + gap;
            panel
        };
        Self {
            copies: panel(200.0, 30.0),
            nodes: panel(72.0, 30.0),
            sent: [panel(44.0, 24.0), panel(44.0, 30.0)],
            faults: [panel(30.0, 22.0), panel(30.0, 22.0), panel(30.0, 22.0), panel(30.0, 16.0)],
            marks: panel(34.0, 0.0),
        }
    }

    pub(super) fn bottom(self) -> f64 {
        self.marks.bottom()
    }

    pub(super) fn draw(self, svg: &mut Svg, axis: &Axis, outcome: &Outcome, timeline: &Timeline) {
        let all = [self.copies, self.nodes].into_iter().chain(self.sent).chain(self.faults);
        all.chain([self.marks]).for_each(|panel| axis.grid(svg, panel));
        self.copies(svg, axis, (outcome, timeline));
        self.nodes(svg, axis, (outcome, timeline));
        self.sent(svg, axis, (outcome, timeline));
        self.faults(svg, axis, (outcome, timeline));
        self.marks(svg, axis, timeline);
    }

    fn copies(self, svg: &mut Svg, axis: &Axis, (outcome, timeline): (&Outcome, &Timeline)) {
        let panel = self.copies;
        let promised = |sample: &Sample| sample.chunks.iter().sum::<u32>();
        let most = samples(timeline).map(promised).max().unwrap_or(0);
        let most = nice(f64::from(most));
        scale(svg, panel, most);
        stack(svg, axis, (panel, timeline), most, |sample| sample.chunks, &COPIES);
        let in_reach =
            |sample: &Sample| f64::from(promised(sample).saturating_sub(sample.out_of_reach));
        for track in tracks(timeline) {
            let path = steps(axis, panel, &state(track, in_reach), most);
            svg.stroke(&path, INK, 1.1);
        }
        title(svg, panel, "promised chunks, by their copies on the disks of honest nodes");
        let rows = COPIES.iter().rev().map(|(name, fill)| (*name, *fill));
        let y = legend(svg, panel, rows);
        svg.line((RIGHT + 14.0, y - 4.0), (RIGHT + 26.0, y - 4.0), INK, 1.3);
        svg.text((RIGHT + 32.0, y), label(Anchor::Start), "a copy is up");
        if let Some(last) = samples(timeline).last() {
            let all = u64::from(promised(last).max(1));
            let percent = u64::from(last.chunks[3]) * 100 / all;
            let words = [
                "at the end".to_owned(),
                format!("{percent} % have all {} copies", outcome.plan.use_.replicas),
                format!("fewest {}, median {}", last.fewest, last.median),
            ];
            for (row, words) in words.iter().enumerate() {
                let at = (RIGHT + 14.0, y + 26.0 + 15.0 * row as f64);
                svg.text(at, font(11.0, row == 0, FAINT, Anchor::Start), words);
            }
        }
    }

    fn nodes(self, svg: &mut Svg, axis: &Axis, (outcome, timeline): (&Outcome, &Timeline)) {
        // The newcomer of the end, too.
        let most = (outcome.plan.nodes + 1) as f64;
        scale(svg, self.nodes, most);
        stack(svg, axis, (self.nodes, timeline), most, |sample| sample.nodes, &PRESENCE);
        title(svg, self.nodes, "nodes");
        legend(svg, self.nodes, PRESENCE.iter().rev().map(|(name, fill)| (*name, *fill)));
    }

    fn sent(self, svg: &mut Svg, axis: &Axis, (outcome, timeline): (&Outcome, &Timeline)) {
        let nodes = outcome.plan.nodes.max(1) as f64;
        for (which, (panel, (name, fill))) in self.sent.into_iter().zip(SENT).enumerate() {
            let bytes = |sample: &Sample| sample.bytes[which] as f64 / nodes / 1e3;
            let rates = rates(timeline, 3_600.0, bytes);
            let most = nice(most(&rates));
            scale(svg, panel, most);
            rates.iter().for_each(|spans| svg.shape(&bars(axis, panel, spans, most), fill));
            title(svg, panel, &format!("{name} sent, kB per node and hour"));
            let all: f64 = samples(timeline).map(bytes).sum();
            let words = format!("{} kB a node in all", grouped(all.round() as u64));
            svg.text((RIGHT + 14.0, panel.top + 12.0), label(Anchor::Start), &words);
        }
    }

    fn faults(self, svg: &mut Svg, axis: &Axis, (outcome, timeline): (&Outcome, &Timeline)) {
        for (which, (panel, group)) in self.faults.into_iter().zip(Group::ALL).enumerate() {
            let fill = FAULTS[which];
            let count = |sample: &Sample| sample.faults[which] as f64;
            let rates = rates(timeline, 86_400.0, count);
            let most = nice(most(&rates));
            scale(svg, panel, most);
            rates.iter().for_each(|spans| svg.shape(&bars(axis, panel, spans, most), fill));
            let what = match group {
                Group::Net => "faults a day, of the network",
                Group::Disk => "of disks",
                Group::People => "of people and power",
                Group::Byzantine => "of nodes that cheat",
            };
            title(svg, panel, what);
            let words = format!("{} in all", grouped(of_group(&outcome.faults, group)));
            svg.text((RIGHT + 14.0, panel.top + 12.0), label(Anchor::Start), &words);
        }
    }

    fn marks(self, svg: &mut Svg, axis: &Axis, timeline: &Timeline) {
        let panel = self.marks;
        let (mut puts, mut gets) = (String::new(), String::new());
        for (time, mark) in &timeline.marks {
            let x = axis.x(*time);
            let _ = match mark {
                Mark::Put => write!(puts, "M{x:.1} {:.1}l-4 9h8z", panel.top + 6.0),
                Mark::Get => {
                    write!(
                        gets,
                        "M{:.1} {:.1}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0z",
                        x - 3.0,
                        panel.top + 26.0
                    )
                }
            };
        }
        svg.line((LEFT, panel.bottom()), (RIGHT, panel.bottom()), GRID, 1.0);
        svg.shape(&puts, PUT);
        svg.shape(&gets, GET);
        svg.text((LEFT - 8.0, panel.top + 15.0), label(Anchor::End), "puts");
        svg.text((LEFT - 8.0, panel.top + 30.0), label(Anchor::End), "gets");
        let x = RIGHT + 14.0;
        svg.rect((x, panel.top + 4.0), (12.0, 10.0), super::CUT, 0.12);
        svg.text((x + 18.0, panel.top + 13.0), label(Anchor::Start), "nodes cut off");
        svg.rect((x, panel.top + 20.0), (12.0, 10.0), "url(#hatch)", 1.0);
        svg.text((x + 18.0, panel.top + 29.0), label(Anchor::Start), "in one direction");
    }
}

fn tracks(timeline: &Timeline) -> impl Iterator<Item = &Track> {
    std::iter::once(&timeline.live).chain(&timeline.calm)
}

fn samples(timeline: &Timeline) -> impl Iterator<Item = &Sample> {
    tracks(timeline).flat_map(|track| &track.samples)
}

/// When each sample began to be true: at the one before, since it was taken at its end.
fn spans(track: &Track) -> impl Iterator<Item = (&Sample, Time)> {
    let begins = std::iter::once(track.from).chain(track.samples.iter().map(|sample| sample.at));
    track.samples.iter().zip(begins).filter(|(sample, begin)| sample.at > *begin)
}

/// How things stand.
fn state(track: &Track, value: impl Fn(&Sample) -> f64) -> Spans {
    spans(track).map(|(sample, begin)| (begin, sample.at, value(sample))).collect()
}

/// What was done, in so many seconds. All of it was within a step from the beginning: the next
/// event after that would have been a sample before it happened.
fn rates(timeline: &Timeline, per: f64, value: impl Fn(&Sample) -> f64) -> Vec<Spans> {
    let rates = |track: &Track| {
        let rate = |(sample, begin): (&Sample, Time)| {
            let end = sample.at.min(begin.after(track.step));
            // In the calm, whose steps are short, a moment is drawn no higher than before.
            let seconds = end.since(begin).max(timeline.live.step).as_secs_f64();
            (begin, end, value(sample) * per / seconds)
        };
        spans(track).map(rate).collect()
    };
    tracks(timeline).map(rates).collect()
}

fn most(spans: &[Spans]) -> f64 {
    spans.iter().flatten().map(|(_, _, value)| *value).fold(0.0, f64::max)
}

/// The next larger number that is easy to read.
fn nice(most: f64) -> f64 {
    if most <= 0.0 {
        return 0.0;
    }
    let mut power = 1.0;
    while power * 10.0 < most {
        power *= 10.0;
    }
    [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0]
        .into_iter()
        .map(|digit| digit * power)
        .find(|nice| *nice >= most)
        .unwrap_or(most)
}

/// Bars from the bottom.
fn bars(axis: &Axis, panel: Panel, spans: &Spans, most: f64) -> String {
    let mut path = String::new();
    for (from, to, value) in spans.iter().filter(|(_, _, value)| *value > 0.0) {
        let (left, right) = (axis.x(*from), axis.x(*to));
        // What happened at all is seen.
        let y = panel.y(*value, most).min(panel.bottom() - 1.0);
        let wide = (right - left).max(0.8);
        let _ = write!(
            path,
            "M{left:.1} {:.1}V{y:.1}h{wide:.1}V{:.1}z",
            panel.bottom(),
            panel.bottom()
        );
    }
    path
}

/// A line in steps.
fn steps(axis: &Axis, panel: Panel, spans: &Spans, most: f64) -> String {
    let mut path = String::new();
    for (number, (from, to, value)) in spans.iter().enumerate() {
        let command = if number == 0 { 'M' } else { 'L' };
        let (left, right, y) = (axis.x(*from), axis.x(*to), panel.y(*value, most));
        let _ = write!(path, "{command}{left:.1} {y:.1}H{right:.1}");
    }
    path
}

/// Bands upon each other, the first at the bottom.
fn stack(
    svg: &mut Svg,
    axis: &Axis,
    (panel, timeline): (Panel, &Timeline),
    most: f64,
    values: impl Fn(&Sample) -> [u32; 4],
    bands: &[(&str, &str); 4],
) {
    for (which, (_, fill)) in bands.iter().enumerate() {
        let mut path = String::new();
        for track in tracks(timeline) {
            let sums = state(track, |sample| values(sample).iter().take(which).sum::<u32>().into());
            let tops = state(track, |sample| values(sample)[which].into());
            for ((from, to, sum), (_, _, own)) in
                sums.iter().zip(tops).filter(|(_, own)| own.2 > 0.0)
            {
                let (left, right) = (axis.x(*from), axis.x(*to));
                let (low, high) = (panel.y(*sum, most), panel.y(sum + own, most));
                // A hair wider: without seams between the samples.
                let wide = right - left + 0.3;
                let _ = write!(path, "M{left:.1} {low:.1}V{high:.1}h{wide:.1}V{low:.1}z");
            }
        }
        svg.shape(&path, fill);
    }
}

/// The ends of a scale, at the left.
fn scale(svg: &mut Svg, panel: Panel, most: f64) {
    svg.line((LEFT, panel.bottom()), (RIGHT, panel.bottom()), "#b6bec6", 1.0);
    let number = |value: f64| match value {
        value if value > 0.0 && value < 10.0 && value.fract() > 0.0 => format!("{value:.1}"),
        value => grouped(value.round() as u64),
    };
    let parts: &[f64] = match most {
        most if most <= 0.0 => &[0.0],
        most if panel.height > 100.0 && most >= 2.0 => &[0.0, 0.5, 1.0],
        _ => &[0.0, 1.0],
    };
    for part in parts {
        let y = panel.y(most * part, most);
        if *part > 0.0 {
            svg.line((LEFT, y), (RIGHT, y), GRID, 1.0);
        }
        svg.text((LEFT - 8.0, y + 4.0), label(Anchor::End), &number(most * part));
    }
}

/// What a panel shows, above its left end.
fn title(svg: &mut Svg, panel: Panel, text: &str) {
    svg.text((LEFT, panel.top - 6.0), font(11.0, true, INK, Anchor::Start), text);
}

/// What the colours mean, at the right; returns where the next row would be.
fn legend<'a>(svg: &mut Svg, panel: Panel, rows: impl Iterator<Item = (&'a str, &'a str)>) -> f64 {
    let mut y = panel.top + 10.0;
    for (name, fill) in rows {
        svg.rect((RIGHT + 14.0, y - 9.0), (12.0, 10.0), fill, 1.0);
        svg.text((RIGHT + 32.0, y), label(Anchor::Start), name);
        y += 18.0;
    }
    y
}
