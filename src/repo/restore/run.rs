//! A restore from its beginning to its end: one pass after the other.

use super::dress::Dresser;
use super::fetch::{Entries, Fetcher};
use super::files::{Pass, files};
use super::finish::Finish;
use super::folders::Folders;
use super::journal::{Earlier, Journal, NoJournal, journal_name};
use super::report::{RestoreProgress, RestoreReport};
use super::survey::{check_room, survey};
use super::target::Existing;
use super::write::Desk;
use super::{Job, RestoreError};
use crate::repo::get::ChunkSource;
use std::io;

/// All passes.
pub(super) fn restore<S: ChunkSource>(
    job: &mut Job<'_>,
    entries: &mut impl Entries,
    fetcher: &mut Fetcher<'_, S>,
) -> Result<RestoreReport, RestoreError> {
    let mut report = RestoreReport::default();
    if job.target.is_absent() && !job.options.dry_run {
        return Err(job.failed(io::ErrorKind::NotFound.into()));
    }
    if job.options.dry_run {
        check_target(job)?;
        let survey = survey(job, entries, fetcher, &mut report, &Earlier::default())?;
        return check_room(job, survey.demand).map(|()| report);
    }
    let (journal, earlier) = open_journal(job)?;
    let survey = survey(job, entries, fetcher, &mut report, &earlier)
        .and_then(|survey| check_room(job, survey.demand).map(|()| survey));
    let survey = match survey {
        Ok(survey) => survey,
        Err(error) => {
            if !earlier.resumed {
                // Nothing was written: nothing is left, either. Litter at worst.
                let _ = journal.remove();
            }
            return Err(error);
        }
    };
    // What the first pass counted was what there is, not what came back.
    report = RestoreReport { gaps: report.gaps, ..RestoreReport::default() };
    let dresser = Dresser::new(job.options.trust);
    let desk = Desk { target: job.target, journal: &journal, earlier: &earlier, dresser };
    let mut folders = Folders::new(job.target, &journal, &earlier);
    let progress = RestoreProgress {
        entries_total: survey.entries,
        bytes_total: survey.bytes,
        ..RestoreProgress::default()
    };
    let mut pass = Pass { firsts: survey.firsts, report, progress };
    files(job, desk, &mut folders, &mut pass, entries, fetcher)?;
    if !pass.firsts.is_empty() {
        // A file that is not durable yet may have to be restored again after a crash of the system,
        // and must have but one name then.
        let synced = journal.sync().and_then(|()| journal.flush());
        synced.map_err(|error| job.failed(error))?;
    }
    folders.finish();
    let Pass { firsts, mut report, progress } = pass;
    let (open, folders, journal) = (Vec::new(), &mut folders, &journal);
    Finish { job, folders, journal, firsts: &firsts, dresser, report: &mut report, progress, open }
        .run(entries, fetcher)?;
    end(job, journal, &mut report)?;
    Ok(report)
}

/// Makes all of it durable. The journal goes, unless it is of use to another run.
fn end(job: &Job<'_>, journal: &Journal, report: &mut RestoreReport) -> Result<(), RestoreError> {
    journal.sync().map_err(|error| job.failed(error))?;
    if report.has_losses() {
        report.journal = Some(job.target.path().join(journal_name(&job.id)));
        return Ok(());
    }
    journal.remove().map_err(|error| job.failed(error))
}

/// Whether the target is empty, if it must be, or has a journal of this restore.
fn check_target(job: &Job<'_>) -> Result<(), RestoreError> {
    let target = job.target;
    if target.existing() != Existing::Refuse {
        return Ok(());
    }
    let there = target.has(journal_name(&job.id).as_bytes());
    let free = there.and_then(|there| Ok(there || target.is_empty()?));
    if free.map_err(|error| job.failed(error))? {
        return Ok(());
    }
    Err(RestoreError::NotEmpty { path: target.path().to_owned() })
}

/// The journal, in a target that may be used.
fn open_journal(job: &Job<'_>) -> Result<(Journal, Earlier), RestoreError> {
    let (target, path) = (job.target, job.target.path());
    let name = journal_name(&job.id);
    check_target(job)?;
    let (journal, earlier) = Journal::open(target, &job.id).map_err(|none| match none {
        NoJournal::Busy => RestoreError::Busy { path: path.to_owned() },
        NoJournal::NotOurs => RestoreError::NotOurs { path: path.join(&name) },
        NoJournal::Io(error) => job.failed(error),
    })?;
    if target.existing() == Existing::Replace {
        let probe = journal.part_name(b"/probe");
        let folds = target.folds_case(&probe).map_err(|error| job.failed(error))?;
        if folds {
            if !earlier.resumed {
                let _ = journal.remove();
            }
            return Err(RestoreError::FoldsCase { path: path.to_owned() });
        }
    }
    Ok((journal, earlier))
}
