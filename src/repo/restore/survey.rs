//! The first pass: what there is, and whether there is room for it. Nothing is written.

use super::fetch::{Entries, Fetcher};
use super::finish::FirstNames;
use super::journal::{Earlier, key_of};
use super::report::RestoreReport;
use super::space::{Demand, NoRoom, Room};
use super::target::{Existing, Places};
use super::{Job, RestoreError};
use crate::repo::get::ChunkSource;
use crate::repo::tree::What;
use std::sync::atomic::Ordering;

/// What the first pass found.
#[derive(Default)]
pub(super) struct Survey {
    pub(super) demand: Demand,
    pub(super) entries: u64,
    /// Of data.
    pub(super) bytes: u64,
    pub(super) firsts: FirstNames,
}

/// The first pass: every entry is checked, and what is to come is added up.
pub(super) fn survey<S: ChunkSource>(
    job: &mut Job<'_>,
    entries: &mut impl Entries,
    fetcher: &mut Fetcher<'_, S>,
    report: &mut RestoreReport,
    earlier: &Earlier,
) -> Result<Survey, RestoreError> {
    let mut survey = Survey::default();
    let mut places = Places::new(job.target);
    let keeps = job.target.existing() == Existing::Keep;
    while let Some(entry) = entries.next(fetcher, report)? {
        job.check_cancelled()?;
        let folder = matches!(entry.what, What::Folder(_));
        if !job.options.wants(&entry.path, folder) {
            continue;
        }
        survey.entries += 1;
        let mut data = 0;
        match &entry.what {
            What::File(body) => {
                data = if entry.unreadable { 0 } else { body.data_bytes() };
                report.files += 1;
            }
            What::Folder(_) => report.folders += 1,
            What::HardLink(first) => {
                survey.firsts.insert(key_of(first), None);
                report.others += 1;
            }
            _ => report.others += 1,
        }
        survey.bytes = survey.bytes.saturating_add(data);
        let mut there = || places.of(&entry.path).and_then(|place| place.stat());
        let kept = keeps && there().is_ok_and(|stat| stat.is_some());
        let key = key_of(&entry.path);
        if !kept && earlier.placed(&key).is_none() {
            // Of a file that was begun only the rest is to come.
            survey.demand.add(data.saturating_sub(earlier.written(&key)));
        }
    }
    report.bytes = survey.bytes;
    let lost = !report.gaps.is_empty();
    if entries.found() || lost { Ok(survey) } else { Err(RestoreError::NoSuchPath) }
}

/// Whether the disk has room for that much more.
pub(super) fn check_room(job: &Job<'_>, demand: Demand) -> Result<(), RestoreError> {
    let room = Room::of(job.target.root()).map_err(|error| job.failed(error))?;
    room.check(demand).map_err(|NoRoom { needed, available }| {
        let path = job.target.path().to_owned();
        RestoreError::Space { path, needed, available }
    })
}

impl Job<'_> {
    pub(super) fn check_cancelled(&self) -> Result<(), RestoreError> {
        let cancelled = self.cancel.load(Ordering::Relaxed);
        if cancelled { Err(RestoreError::Cancelled) } else { Ok(()) }
    }
}
