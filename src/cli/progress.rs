//! Progress on stderr: a bar on a terminal, a line now and then elsewhere, nothing when quiet or
//! where the result is JSON.

use super::output::{Output, count, printable};
use super::signals::{Interrupt, interrupted};
use crate::api::client::{ClientError, Events};
use crate::config::size::human;
use crate::node::report::{Failure, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::de::DeserializeOwned;
use std::time::{Duration, Instant};

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Between two looks of the bar's clock.
const TICK: Duration = Duration::from_millis(200);

/// How far a piece of work is, shown.
pub(super) enum Meter {
    /// On a terminal.
    Bar(ProgressBar, Output),
    /// Elsewhere.
    Lines {
        /// What is being done.
        title: String,
        /// When it began.
        started: Instant,
        /// When the last line was written.
        written: Instant,
        /// Who writes it.
        output: Output,
    },
}

impl Meter {
    pub(super) fn new(title: &str, output: &Output) -> Self {
        if !output.animated() {
            let now = Instant::now();
            let (title, output) = (title.to_owned(), *output);
            return Self::Lines { title, started: now, written: now, output };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(style(SPINNER));
        bar.set_message(title.to_owned());
        bar.enable_steady_tick(TICK);
        Self::Bar(bar, *output)
    }

    /// A line that stays.
    fn tell(&self, line: &str) {
        match self {
            Self::Bar(bar, output) => bar.suspend(|| output.note(line)),
            Self::Lines { output, .. } => output.note(line),
        }
    }

    fn step(&mut self, bytes: u64, total: Option<u64>, detail: &str) {
        match self {
            Self::Bar(bar, _) => {
                if let Some(total) = total
                    && bar.length() != Some(total)
                {
                    bar.set_length(total);
                    bar.set_style(style(BAR));
                }
                bar.set_position(bytes);
                bar.set_prefix(detail.to_owned());
            }
            Self::Lines { title, started, written, output } => {
                if !output.shows_progress() || written.elapsed() < LINE_EVERY {
                    return;
                }
                *written = Instant::now();
                let rate = rate(bytes, started.elapsed());
                let of = total.map(|total| format!(" of {}", human(total))).unwrap_or_default();
                output.note(&format!("{title}: {}{of}, {rate}{detail}", human(bytes)));
            }
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Self::Bar(bar, _) = self {
            bar.finish_and_clear();
        }
    }
}

const SPINNER: &str = "{msg}  {decimal_bytes}  {decimal_bytes_per_sec}{prefix}";
const BAR: &str = "{msg} [{wide_bar}] {decimal_bytes}/{decimal_total_bytes}  \
                   {decimal_bytes_per_sec}  ETA {eta}{prefix}";

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("both templates are ours");
    style.progress_chars("=> ")
}

/// Bytes per second for people.
pub(super) fn rate(bytes: u64, elapsed: Duration) -> String {
    let milliseconds = elapsed.as_millis().max(1);
    let per_second = u128::from(bytes) * 1000 / milliseconds;
    format!("{}/s", human(u64::try_from(per_second).unwrap_or(u64::MAX)))
}

/// Follows a piece of work to its end. An interruption hangs up, on which the node cancels
/// politely; `resume` tells the user how to go on.
pub(super) async fn follow<T: DeserializeOwned>(
    events: impl Future<Output = Result<Events<T>, ClientError>>,
    mut meter: Meter,
    interrupt: &Interrupt,
    resume: &str,
) -> Result<T, Failure> {
    let work = async {
        let mut events = events.await?;
        loop {
            match events.next().await? {
                Progress::Working { bytes, total, chunks, replicas, note } => {
                    let mut detail = format!("  {}", count(chunks, "chunk"));
                    if let Some(replicas) = replicas {
                        detail.push_str(&format!("  {}", count(replicas.into(), "replica")));
                    }
                    if let Some(note) = note {
                        detail.push_str(&format!("  {}", printable(&note)));
                    }
                    meter.step(bytes, total, &detail);
                }
                Progress::Told { line } => meter.tell(&printable(&line)),
                Progress::Done(done) => return Ok(done),
                Progress::Failed(failure) => return Err(failure),
            }
        }
    };
    tokio::select! {
        result = work => result,
        () = interrupt.wait() => Err(interrupted(resume)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_parse() {
        style(SPINNER);
        style(BAR);
    }

    #[test]
    fn rate_survives_no_time_at_all() {
        assert_eq!(rate(5000, Duration::ZERO), "5.00 MB/s");
        assert_eq!(rate(5000, Duration::from_secs(5)), "1.00 kB/s");
        assert!(rate(u64::MAX, Duration::ZERO).ends_with("EB/s"));
    }
}
