//! A picture of a world's time, as SVG: how its chunks were off, who took part, what was sent,
//! what went wrong and what its users did.

mod axis;
mod panels;
mod svg;

use crate::report::{COMMIT, grouped};
use crate::runs::Set;
use crate::tally::{Group, Tally};
use crate::timeline::Timeline;
use crate::world::Outcome;
use axis::Axis;
use std::path::Path;
use std::process::ExitCode;
use svg::{Anchor, Font, Svg};

const WIDTH: f64 = 1_100.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = WIDTH - 186.0;

/// Colours that are told apart by anybody: blue and orange, and dark red for what must not be.
const PAPER: &str = "#fdfdfb";
const INK: &str = "#22303c";
const FAINT: &str = "#64707d";
const GRID: &str = "#e6e9ec";
const BROKEN: &str = "#c8102e";
const CALM: &str = "#dcefe3";
const CUT: &str = "#22303c";

/// A violation is shown with so many characters at most, and so many of them.
const WORDS_MAX: usize = 150;
const SHOWN_MAX: usize = 2;

/// A strip of the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Panel {
    top: f64,
    height: f64,
}

impl Panel {
    fn bottom(self) -> f64 {
        self.top + self.height
    }

    /// Where a value is, of a scale that ends with `most`.
    fn y(self, value: f64, most: f64) -> f64 {
        self.bottom() - self.height * (value / most.max(1e-9)).clamp(0.0, 1.0)
    }
}

/// What is said of a world beside its samples.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caption<'a> {
    /// What it is: the name of a scenario, or a seed.
    pub(crate) title: &'a str,
    /// The line that runs it again.
    pub(crate) again: &'a str,
}

fn font(size: f64, bold: bool, fill: &'static str, anchor: Anchor) -> Font {
    Font { size, bold, fill, anchor }
}

fn label(anchor: Anchor) -> Font {
    font(11.0, false, FAINT, anchor)
}

/// Draws it.
pub(crate) fn draw(caption: Caption<'_>, outcome: &Outcome, timeline: &Timeline) -> String {
    let shown = outcome.violations.len().min(SHOWN_MAX);
    let top = 104.0 + 20.0 * shown as f64;
    let panels = panels::Panels::below(top);
    let height = panels.bottom() + 62.0;
    let mut svg = Svg::new(WIDTH, height, caption.title, PAPER);
    head(&mut svg, caption, outcome);
    let axis = Axis::new(timeline, (LEFT, RIGHT));
    shades(&mut svg, &axis, timeline, (top, panels.bottom()));
    panels.draw(&mut svg, &axis, outcome, timeline);
    if shown > 0 {
        let x = axis.x(outcome.ended());
        svg.line((x, top - 8.0), (x, panels.bottom()), BROKEN, 2.0);
        svg.shape(&format!("M{:.1} {:.1}l-5 -8h10z", x, top), BROKEN);
    }
    axis.draw(&mut svg, panels.bottom() + 18.0);
    let foot = font(10.0, false, FAINT, Anchor::Start);
    svg.text((LEFT, height - 14.0), foot, caption.again);
    svg.finish()
}

/// Draws the world of a seed, which is the only one of its set.
pub(crate) fn of_seed(set: &Set, outcome: &Outcome, timeline: &Timeline) -> String {
    let title = format!("A mesh of {} nodes, seed {}", outcome.plan.nodes, outcome.seed);
    draw(Caption { title: &title, again: &set.again() }, outcome, timeline)
}

/// Writes a picture into a file, and says so.
pub(crate) fn save(path: &Path, picture: &str) -> ExitCode {
    match std::fs::write(path, picture) {
        Ok(()) => {
            eprintln!("a picture of it: {}", path.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            ExitCode::from(2)
        }
    }
}

fn head(svg: &mut Svg, caption: Caption<'_>, outcome: &Outcome) {
    let size = if caption.title.chars().count() > 64 { 17.0 } else { 20.0 };
    svg.text((LEFT, 38.0), font(size, true, INK, Anchor::Start), caption.title);
    let faults = outcome.faults.total();
    let days = outcome.plan.span.as_secs() / 86_400;
    let many = |count: u64, one: &str, more: &str| {
        format!("{} {}", grouped(count), if count == 1 { one } else { more })
    };
    let text = format!(
        "{} nodes, {} \u{b7} {} stored \u{b7} {} of {} \u{b7} {} \u{b7} commit {COMMIT}",
        outcome.plan.nodes,
        many(days, "day", "days"),
        many(outcome.chunks, "chunk", "chunks"),
        many(faults, "fault", "faults"),
        many(outcome.faults.iter().count() as u64, "kind", "kinds"),
        match outcome.violations.len() {
            0 => "no promise was broken".to_owned(),
            1 => "1 promise was broken".to_owned(),
            many => format!("{many} promises were broken"),
        }
    );
    svg.text((LEFT, 60.0), font(12.5, false, FAINT, Anchor::Start), &text);
    for (row, what) in outcome.violations.iter().take(SHOWN_MAX).enumerate() {
        let mut words: String = what.chars().take(WORDS_MAX).collect();
        if words.len() < what.len() {
            words.push('\u{2026}');
        }
        let y = 82.0 + 20.0 * row as f64;
        svg.text((LEFT, y), font(12.5, true, BROKEN, Anchor::Start), &words);
    }
}

/// The calm part and the cuts, behind everything else.
fn shades(svg: &mut Svg, axis: &Axis, timeline: &Timeline, (top, bottom): (f64, f64)) {
    if let (Some((left, right)), Some(words)) = (axis.calm(), axis.calm_words()) {
        svg.rect((left, top - 20.0), (right - left, bottom - top + 20.0), CALM, 0.8);
        let middle = (left + right) / 2.0;
        svg.text((middle, top - 26.0), font(11.0, true, FAINT, Anchor::Middle), &words);
    }
    for cut in &timeline.cuts {
        let (from, to) = (axis.x(cut.from), axis.x(cut.to));
        let (fill, opacity) = if cut.one_way { ("url(#hatch)", 1.0) } else { (CUT, 0.09) };
        svg.rect((from, top), ((to - from).max(1.0), bottom - top), fill, opacity);
    }
}

/// So many faults of a group.
fn of_group(faults: &Tally<crate::tally::Fault>, group: Group) -> u64 {
    faults.iter().filter(|(fault, _)| fault.group() == group).map(|(_, count)| count).sum()
}

#[cfg(test)]
mod tests;
