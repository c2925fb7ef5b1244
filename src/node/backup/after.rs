//! After the publication: whether another device let go, meanwhile, what the snapshot names. What
//! cannot be taken back is stored once more.

use super::sink::Trust;
use super::{Run, teller_of};
use crate::core::types::SnapshotId;
use crate::node::after::look_after;
use crate::node::check::{Belief, check};
use crate::node::report::Failure;

impl Run<'_> {
    /// Looks after the snapshot that was just published, and those before it that are noted.
    /// Returns what the user should know: the snapshot is there, whatever comes of this.
    pub(super) async fn look_after(self, id: SnapshotId) -> Vec<String> {
        let mut notes = Vec::new();
        if let Err(failure) = self.looked_after(id, &mut notes).await {
            notes.push(format!(
                "another device may prune, and what this snapshot names was not looked after \
                 ({}): run the same backup again soon",
                failure.why
            ));
        }
        notes
    }

    async fn looked_after(self, id: SnapshotId, notes: &mut Vec<String>) -> Result<(), Failure> {
        let teller = teller_of(self.inner, self.told);
        teller.note("looking whether another device prunes");
        let looked = look_after(self.inner).await?;
        if looked.taken_back > 0 {
            notes.push(format!(
                "another device prunes, and had chunks let go that snapshots name: {} were taken \
                 back",
                looked.taken_back
            ));
        }
        let before = looked.short.iter().filter(|short| short.id != id).count();
        if before > 0 {
            notes.push(format!(
                "another device prunes, and {before} earlier snapshots of this device name chunks \
                 that are not known to have all their replicas: run their backups again"
            ));
        }
        let Some(short) = looked.short_of(&id) else { return Ok(()) };
        let mut lacking = short.count;
        if short.is_storable {
            let (again, _) = self.files(teller, Trust::Today).await?;
            notes.push(format!(
                "another device prunes, and had {lacking} chunks let go that this snapshot names: \
                 {} were stored again",
                again.stored.chunks
            ));
            let checked = check(self.inner, &short.chunks, self.wish.replicas, Belief::ADay);
            lacking = checked.await?.short;
        }
        if lacking > 0 {
            notes.push(format!(
                "{lacking} chunks that this snapshot names are not known to have {} replicas: run \
                 the same backup again",
                self.wish.replicas
            ));
        }
        Ok(())
    }
}
