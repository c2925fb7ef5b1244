//! How far a long task is: a bar on a terminal, elsewhere a line now and then, so that a log shows
//! that something still happens.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How often a line is printed where there is no terminal.
const EVERY: Duration = Duration::from_secs(30);

/// Counts what is done.
#[derive(Debug)]
pub(crate) struct Progress {
    all: u64,
    done: AtomicU64,
    /// `None` where stderr is no terminal.
    bar: Option<ProgressBar>,
    /// As they are printed: worlds, for example.
    things: &'static str,
}

impl Progress {
    /// One more thing is done.
    pub(crate) fn step(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.bar.iter().for_each(|bar| bar.inc(1));
    }

    /// Prints lines until the other end of `over` is dropped.
    fn tell(&self, over: &mpsc::Receiver<()>) {
        let started = Instant::now();
        while let Err(RecvTimeoutError::Timeout) = over.recv_timeout(EVERY) {
            let done = self.done.load(Ordering::Relaxed);
            eprintln!("{}", line(done, self.all, self.things, started.elapsed()));
        }
    }
}

/// Does `work` on `all` things, of which it says when each is done, and shows how far it is.
pub(crate) fn of<R>(all: u64, things: &'static str, work: impl FnOnce(&Progress) -> R) -> R {
    let bar = std::io::stderr().is_terminal().then(|| ProgressBar::new(all).with_style(style()));
    let progress = Progress { all, done: AtomicU64::new(0), bar, things };
    let result = std::thread::scope(|scope| {
        let (end, over) = mpsc::channel();
        if progress.bar.is_none() {
            scope.spawn(|| {
                let over = over;
                progress.tell(&over);
            });
        }
        let result = work(&progress);
        drop(end);
        result
    });
    progress.bar.iter().for_each(ProgressBar::finish_and_clear);
    result
}

fn style() -> ProgressStyle {
    let template = "{bar:30} {pos} of {len}, {per_sec}, {eta} left";
    ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar())
}

/// For example "312 of 780 worlds, 1.9 a second, about 4 min left".
fn line(done: u64, all: u64, things: &str, took: Duration) -> String {
    let seconds = took.as_secs_f64().max(1e-9);
    let rate = done as f64 / seconds;
    let left = match (all.saturating_sub(done) as f64 / rate).ceil() {
        seconds if !seconds.is_finite() => return format!("{done} of {all} {things}"),
        seconds if seconds < 90.0 => format!("{seconds:.0} s"),
        seconds if seconds < 5_400.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.1} h", seconds / 3_600.0),
    };
    format!("{done} of {all} {things}, {rate:.1} a second, about {left} left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is_and_how_long_it_takes() {
        for (done, seconds, expected) in [
            (312, 164, "312 of 780 worlds, 1.9 a second, about 4 min left"),
            (770, 385, "770 of 780 worlds, 2.0 a second, about 5 s left"),
            (1, 60, "1 of 780 worlds, 0.0 a second, about 13.0 h left"),
            (0, 60, "0 of 780 worlds"),
        ] {
            assert_eq!(line(done, 780, "worlds", Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn work_is_counted_and_its_result_given_back() {
        let counted = of(3, "things", |progress| {
            progress.step();
            progress.step();
            progress.done.load(Ordering::Relaxed)
        });
        assert_eq!(counted, 2);
    }
}
