//! Time from left to right: the calm part has a share of its own, however short it is.

use super::svg::{Anchor, Svg};
use super::{GRID, Panel, label};
use crate::timeline::Timeline;
use quloud::core::types::Time;

/// Of the width, what the calm part has.
const CALM_SHARE: f64 = 0.14;

const HOUR_MS: u64 = 3_600_000;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    left: f64,
    live: Part,
    calm: Option<Part>,
}

/// A part of the time, and where it ends on the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Part {
    from: Time,
    to: Time,
    left: f64,
    right: f64,
}

impl Part {
    fn x(&self, time: Time) -> f64 {
        let Time(from) = self.from;
        let whole = self.to.0.saturating_sub(from).max(1);
        let part = time.0.saturating_sub(from).min(whole);
        self.left + (self.right - self.left) * part as f64 / whole as f64
    }
}

impl Axis {
    pub(super) fn new(timeline: &Timeline, (left, right): (f64, f64)) -> Self {
        let calm = timeline.calm.as_ref().filter(|calm| calm.to > calm.from);
        let middle = if calm.is_some() { right - (right - left) * CALM_SHARE } else { right };
        let (from, mut to) = (timeline.live.from, timeline.live.to);
        if calm.is_none() {
            // Some air behind where it broke off.
            to = to.after(to.since(from) / 25);
        }
        Self {
            left,
            live: Part { from, to, left, right: middle },
            calm: calm.map(|calm| Part { from: calm.from, to: calm.to, left: middle, right }),
        }
    }

    /// Where a time is.
    pub(super) fn x(&self, time: Time) -> f64 {
        match &self.calm {
            Some(calm) if time >= calm.from => calm.x(time),
            _ => self.live.x(time),
        }
    }

    /// From where to where the world is calm.
    pub(super) fn calm(&self) -> Option<(f64, f64)> {
        self.calm.map(|calm| (calm.left, calm.right))
    }

    /// How long the calm lasts, in words.
    pub(super) fn calm_words(&self) -> Option<String> {
        let calm = self.calm?;
        let minutes = calm.to.0.saturating_sub(calm.from.0) as f64 / 60_000.0;
        Some(match minutes {
            minutes if minutes < 90.0 => format!("calm, {minutes:.0} min"),
            minutes => format!("calm, {:.0} h", minutes / 60.0),
        })
    }

    /// Moments to be named, and their names.
    fn ticks(&self) -> Vec<(Time, String)> {
        const STEPS: [u64; 14] = [1, 2, 3, 6, 12, 24, 48, 120, 240, 480, 720, 1_440, 2_880, 8_760];
        let hours = self.live.to.0.saturating_sub(self.live.from.0) / HOUR_MS;
        let step = STEPS.into_iter().find(|step| hours / step <= 12).unwrap_or(17_520);
        let name = |hour: u64| match (hour % 24, step % 24) {
            (0, 0) => format!("day {}", hour / 24),
            _ => format!("{hour} h"),
        };
        (0..=hours / step).map(|n| (Time(n * step * HOUR_MS), name(n * step))).collect()
    }

    /// Draws lines through a panel at the named moments.
    pub(super) fn grid(&self, svg: &mut Svg, panel: Panel) {
        for (time, _) in self.ticks() {
            let x = self.x(time);
            svg.line((x, panel.top), (x, panel.bottom()), GRID, 1.0);
        }
    }

    /// Draws the names of the moments.
    pub(super) fn draw(&self, svg: &mut Svg, y: f64) {
        for (time, name) in self.ticks() {
            let x = self.x(time);
            // The first begins where the picture does.
            let anchor = if x <= self.left + 1.0 { Anchor::Start } else { Anchor::Middle };
            svg.text((x, y), label(anchor), &name);
        }
    }
}
