//! When which short snapshot is looked at. Pure; called by [`super`].

use super::{Ended, SOON};
use crate::core::types::{NodeId, SnapshotId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// After a look that stored something; after others twice as long each time.
const AGAIN_FIRST: Duration = Duration::from_secs(60);

/// And at least so often, where something may have been in the way.
const AGAIN_EVERY: Duration = Duration::from_secs(600);

/// After a look that could do nothing with those who were connected: one of them may have got room.
const STUCK: Duration = Duration::from_secs(6 * 3600);

/// What is known of looks that were made.
#[derive(Debug, Default)]
pub(super) struct Looks(BTreeMap<SnapshotId, Look>);

#[derive(Debug)]
struct Look {
    due: Instant,
    again: Duration,
    /// Who was connected then, or came since.
    seen: BTreeSet<NodeId>,
}

impl Looks {
    /// Forgets those of all other snapshots.
    pub(super) fn keep(&mut self, short: &BTreeSet<SnapshotId>) {
        self.0.retain(|id, _| short.contains(id));
    }

    /// Whether this snapshot is to be looked at: at once where it never was.
    pub(super) fn is_due(&self, id: &SnapshotId, now: Instant) -> bool {
        self.0.get(id).is_none_or(|look| look.due <= now)
    }

    /// These are connected: a look is made soon where one of them was not at the last, however many
    /// more come until then.
    pub(super) fn connected(&mut self, peers: &BTreeSet<NodeId>, now: Instant) {
        for look in self.0.values_mut() {
            if !peers.is_subset(&look.seen) {
                look.seen.extend(peers);
                (look.due, look.again) = (look.due.min(now + SOON), AGAIN_FIRST);
            }
        }
    }

    /// A look has ended. `peers` were connected when it began, and `stayed` says whether all of
    /// them are still: else one that went may have been what it needed.
    pub(super) fn ended(
        &mut self,
        id: SnapshotId,
        how: Ended,
        (peers, stayed): (BTreeSet<NodeId>, bool),
        now: Instant,
    ) {
        let again = self.0.get(&id).map_or(AGAIN_FIRST, |look| look.again);
        let (wait, again) = match how {
            Ended::Whole | Ended::GoesOn => (AGAIN_FIRST, AGAIN_FIRST),
            Ended::Stuck if stayed => (STUCK, AGAIN_FIRST),
            Ended::Stuck | Ended::Later => (again, AGAIN_EVERY.min(2 * again)),
        };
        self.0.insert(id, Look { due: now + wait, again, seen: peers });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(numbers: &[u8]) -> BTreeSet<NodeId> {
        numbers.iter().map(|number| NodeId::from_bytes([*number; 32])).collect()
    }

    const ID: SnapshotId = SnapshotId::from_bytes([7; 32]);

    fn due_after(looks: &Looks, now: Instant, wait: Duration) -> bool {
        !looks.is_due(&ID, now + wait - Duration::from_millis(1)) && looks.is_due(&ID, now + wait)
    }

    #[test]
    fn a_look_that_could_do_nothing_is_made_again_when_another_node_connects() {
        let (mut looks, now) = (Looks::default(), Instant::now());
        assert!(looks.is_due(&ID, now), "it never was");
        looks.ended(ID, Ended::Stuck, (nodes(&[1, 2]), true), now);
        assert!(due_after(&looks, now, STUCK));
        for peers in [&[1][..], &[], &[2], &[1, 2]] {
            looks.connected(&nodes(peers), now);
            assert!(due_after(&looks, now, STUCK), "it was there: {peers:?}");
        }
        looks.connected(&nodes(&[2, 3]), now);
        assert!(due_after(&looks, now, SOON));
        looks.connected(&nodes(&[2, 3, 4]), now + SOON / 2);
        assert!(due_after(&looks, now, SOON), "more that come do not put it off");
        looks.keep(&BTreeSet::new());
        assert!(looks.is_due(&ID, now), "nothing is kept of what is not short");
    }

    #[test]
    fn a_look_that_something_was_in_the_way_of_is_made_again_ever_less_often() {
        let (mut looks, now) = (Looks::default(), Instant::now());
        let waits = [60, 120, 240, 480, 600, 600].map(Duration::from_secs);
        for wait in waits {
            looks.ended(ID, Ended::Later, (nodes(&[1]), true), now);
            assert!(due_after(&looks, now, wait), "{wait:?}");
        }
        looks.ended(ID, Ended::GoesOn, (nodes(&[1]), true), now);
        assert!(due_after(&looks, now, AGAIN_FIRST), "something was stored");
        looks.ended(ID, Ended::Stuck, (nodes(&[1]), false), now);
        assert!(due_after(&looks, now, AGAIN_FIRST), "somebody went meanwhile");
    }
}
