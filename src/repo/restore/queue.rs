//! The writing threads, and what waits for each of them.
//!
//! A file system lets one thread at a time make or rename something in a folder, and whoever else
//! would spins meanwhile: up to a quarter of all samples while 20,000 small files were written into
//! 200 folders by two threads, each taking the next one. So the files of a folder go to one thread,
//! as long as the others do not run out of work; under 1 % of the samples were left.

use super::journal::key_of;
use super::write::{Desk, Done, Job, write};
use crate::repo::tree::path;
use std::sync::mpsc::{self, Receiver, RecvError, SyncSender, TryRecvError};
use std::thread::{Scope, ScopedJoinHandle};

/// Threads that write.
const THREADS: usize = 2;

/// Bytes that wait to be written, at most, but for those of one chunk.
const BYTES_MAX: u64 = 24 << 20;

/// Jobs that wait, at most, but for those of one burst of arrivals.
const JOBS_MAX: usize = 1024;

/// A thread that has so many more jobs than another one gets no more for the sake of a folder.
const AHEAD_MAX: usize = 64;

/// A writing thread is gone, which is a fault of the program.
#[derive(Debug)]
pub(super) struct Gone;

/// What waits to be written, and what came of it.
pub(super) struct Queue {
    threads: Vec<Thread>,
    outcomes: Receiver<Done>,
    bytes: u64,
}

struct Thread {
    jobs: SyncSender<Job>,
    /// Jobs whose outcome has not come.
    open: usize,
}

impl Queue {
    /// Starts the threads; they end with the queue.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        desk: Desk<'scope>,
    ) -> (Self, Vec<ScopedJoinHandle<'scope, ()>>) {
        let (done, outcomes) = mpsc::channel();
        let threads = (0..THREADS).map(|thread| {
            let (jobs, receiver) = mpsc::sync_channel(JOBS_MAX);
            let done = done.clone();
            let running = scope.spawn(move || write(desk, thread, &receiver, &done));
            (Thread { jobs, open: 0 }, running)
        });
        let (threads, running) = threads.unzip();
        (Self { threads, outcomes, bytes: 0 }, running)
    }

    /// Jobs whose outcome has not come.
    pub(super) fn open(&self) -> usize {
        self.threads.iter().map(|thread| thread.open).sum()
    }

    /// Whether the threads are so far behind that nothing more should be ordered.
    pub(super) fn is_full(&self) -> bool {
        self.bytes > BYTES_MAX || self.open() >= JOBS_MAX
    }

    /// Hands a job, which holds so many bytes, to a thread.
    pub(super) fn order(&mut self, job: Job, bytes: u64) -> Result<(), Gone> {
        let folder = match &job {
            Job::Whole(waiting, _) => path::parent(&waiting.entry.path).or(Some(&[])),
            Job::Piece(..) | Job::Lost(..) | Job::Sync => None,
        };
        let open: Vec<usize> = self.threads.iter().map(|thread| thread.open).collect();
        let thread = self.threads.get_mut(thread_for(folder, &open)).ok_or(Gone)?;
        thread.jobs.send(job).map_err(|_| Gone)?;
        thread.open += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }

    /// What a thread has done since, if anything.
    pub(super) fn try_done(&mut self) -> Result<Option<Done>, Gone> {
        match self.outcomes.try_recv() {
            Ok(done) => Ok(Some(self.count(done))),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Gone),
        }
    }

    /// Waits for what a thread does next.
    pub(super) fn wait(&mut self) -> Result<Done, Gone> {
        let done = self.outcomes.recv().map_err(|RecvError| Gone)?;
        Ok(self.count(done))
    }

    fn count(&mut self, done: Done) -> Done {
        if let Some(thread) = self.threads.get_mut(done.thread) {
            thread.open = thread.open.saturating_sub(1);
        }
        self.bytes = self.bytes.saturating_sub(done.bytes);
        done
    }
}

/// Which thread gets a job, where these have so many open ones: that of the folder, else the one
/// with the fewest.
fn thread_for(folder: Option<&[u8]>, open: &[usize]) -> usize {
    let least = open.iter().enumerate().min_by_key(|(_, open)| **open);
    let (least, fewest) = least.map_or((0, 0), |(least, open)| (least, *open));
    let Some(folder) = folder else { return least };
    let [first, ..] = key_of(folder);
    let home = usize::from(first) % open.len().max(1);
    let is_ahead = open.get(home).is_none_or(|open| *open > fewest + AHEAD_MAX);
    if is_ahead { least } else { home }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::restore::write::LastWord;

    #[test]
    fn a_thread_that_dies_says_so() {
        let (done, outcomes) = mpsc::channel();
        let died = std::thread::spawn(move || {
            let _last_word = LastWord { thread: 1, done: &done };
            panic!("on purpose");
        });
        assert!(died.join().is_err());
        let done = outcomes.recv().unwrap();
        assert!(done.thread == 1 && done.outcome.is_err());
    }

    #[test]
    fn the_files_of_a_folder_go_to_one_thread_until_it_has_too_many() {
        let idle = thread_for(Some(b"a/folder"), &[0, 0]);
        let with = |home: usize, other: usize| {
            let mut open = [other; 2];
            open[idle] = home;
            thread_for(Some(b"a/folder"), &open)
        };
        assert_eq!(with(AHEAD_MAX, 0), idle);
        assert_eq!(with(AHEAD_MAX + 1, 0), 1 - idle);
        assert_eq!(with(AHEAD_MAX + 1, 1), idle);
    }

    #[test]
    fn folders_are_spread_over_the_threads_and_pieces_go_where_there_is_least_to_do() {
        let folders: Vec<String> = (0..64).map(|number| format!("small/{number}")).collect();
        let first = folders.iter().filter(|at| thread_for(Some(at.as_bytes()), &[0, 0]) == 0);
        assert!((16..=48).contains(&first.count()));
        assert_eq!(thread_for(None, &[3, 1]), 1);
        assert_eq!(thread_for(None, &[1, 3]), 0);
    }
}
