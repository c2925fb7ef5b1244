//! After the publication: whether another device let go, meanwhile, what the snapshot names. What
//! cannot be taken back is stored once more.

use super::sink::Trust;
use super::{Run, note_replicas, teller_of};
use crate::core::types::SnapshotId;
use crate::node::after::look_after;
use crate::node::check::{Belief, check};
use crate::node::report::Failure;

impl Run<'_> {
    /// Looks after the snapshot that was just published, and those before it that are noted; adds
    /// what the user should know. Its worst chunk had `reached` replicas; returns how many it has
    /// after this: the snapshot is there, whatever comes of it.
    pub(super) async fn look_after(
        self,
        id: SnapshotId,
        reached: u8,
        notes: &mut Vec<String>,
    ) -> u8 {
        match self.looked_after(id, reached, notes).await {
            Ok(replicas) => replicas,
            Err(failure) => {
                notes.push(format!(
                    "another device may prune, and what this snapshot names was not looked after \
                     ({}): run the same backup again soon",
                    failure.why
                ));
                reached
            }
        }
    }

    async fn looked_after(
        self,
        id: SnapshotId,
        reached: u8,
        notes: &mut Vec<String>,
    ) -> Result<u8, Failure> {
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
        let Some(short) = looked.short_of(&id) else { return Ok(reached) };
        let mut lacking = short.count;
        if short.is_storable {
            let (again, _) = self.files(teller, Trust::Today).await?;
            notes.push(format!(
                "another device prunes, and had {lacking} chunks let go that this snapshot names: \
                 {} were stored again",
                again.stored.chunks
            ));
        }
        let replicas = self.wish.replicas;
        let checked = check(self.inner, &short.chunks, replicas, Belief::ADay).await?;
        lacking = lacking.min(checked.short);
        if lacking > 0 {
            notes.push(format!(
                "{lacking} chunks that this snapshot names are not known to have {} replicas: run \
                 the same backup again",
                self.wish.replicas
            ));
        }
        let reached = reached.min(checked.fewest);
        note_replicas(self.inner, &id, reached)?;
        self.inner.commit_catalog().await?;
        Ok(reached)
    }
}
