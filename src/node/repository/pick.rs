//! Which record of a head counts, of those that holders have and the one that was seen last.
//! Nothing is read beyond the records, and nothing is noted: see [`learn`](super::learn).

use super::{Agreed, payload_of};
use crate::core::types::NodeId;
use crate::crypto::head::{HeadKeys, HeadRecord};
use crate::node::heads::HeadsFound;
use crate::repo::catalog::KnownHead;
use crate::repo::head::{HeadPayload, Verdict, judge};

/// Which head, as the user is told.
#[derive(Clone, Copy)]
pub(super) struct HeadName {
    pub(super) index: u16,
    pub(super) is_own: bool,
    /// This node, where that is known.
    pub(super) here: Option<NodeId>,
}

impl HeadName {
    pub(super) fn text(self) -> String {
        let Self { index, is_own, .. } = self;
        if is_own { "this device's head".to_owned() } else { format!("the head of device {index}") }
    }
}

/// The record of a head that counts, and what is known beside it.
pub(super) struct Picked {
    pub(super) record: HeadRecord,
    pub(super) payload: HeadPayload,
    pub(super) agreed: Agreed,
}

/// Which record of a head counts. One that this device has seen is never given up for an older one
/// or for another with its number. Also returns whether nothing speaks against it: what a head says
/// whose records contradict each other, or cannot be read, is not all that it names.
pub(super) fn pick(
    keys: &HeadKeys,
    name: HeadName,
    found: &HeadsFound,
    known: Option<&KnownHead>,
    notes: &mut Vec<String>,
) -> (Option<Picked>, bool) {
    let id = keys.id();
    let records: Vec<(NodeId, HeadRecord)> =
        found.records.iter().filter(|(_, record)| record.id() == id).cloned().collect();
    let seen = known.map(|head| &head.seen.record);
    let unsent = name.is_own && known.is_some_and(|head| head.kept.is_none());
    let (mut is_resolved, mut is_behind) = (true, false);
    let mut note = |what: String| notes.push(format!("{}: {what}", name.text()));
    match judge(keys, name.index, &records, seen.map(|seen| (seen.number(), seen.hash()))) {
        Verdict::Current(agreed) => {
            if agreed.is_doubtful() {
                note("few of its holders answered: there may be a newer one".to_owned());
            }
            // Of its own head this node's store may have what another device wrote before: that it
            // has no newer one says nothing of the others.
            let counts = |node: &&NodeId| !(name.is_own && Some(**node) == name.here);
            let older = agreed.older.iter().filter(counts).count();
            let (silent, is_doubtful) = (agreed.silent.len(), agreed.is_doubtful());
            let (record, payload, agree) = (agreed.record, agreed.payload, agreed.agree);
            let agreed = Agreed { agree, older, silent, is_doubtful };
            return (Some(Picked { record, payload, agreed }), true);
        }
        Verdict::Behind { highest } if !unsent => {
            let kept = known.and_then(|head| head.kept.as_ref());
            let kept = kept.map(|kept| kept.holders.as_slice()).unwrap_or_default();
            let went_back = records.iter().any(|(from, _)| kept.contains(from));
            is_behind = !went_back;
            note(match went_back {
                true => format!("who kept it has only number {highest}: it was rolled back"),
                false => format!("those who keep it are silent: only number {highest} answered"),
            });
        }
        Verdict::Unreadable { number } => {
            is_resolved = false;
            note(format!(
                "number {number} says what this version cannot read: a newer version wrote it, or \
                 somebody has its key; `quloud heads` shows what was before"
            ));
        }
        Verdict::Fork { number, records } => {
            is_resolved = false;
            let holders = records.values().map(Vec::len).sum::<usize>();
            note(format!(
                "two records of number {number} at {holders} holders: it was forked; `quloud \
                 heads` shows both"
            ));
        }
        Verdict::Behind { .. } | Verdict::None => {}
    }
    let picked = known.and_then(|head| seen_before(keys, head));
    let picked = picked.map(|mut picked| {
        // Nobody has the first record of an unsent one, and whoever has an older one has answered.
        let is_silent = records.is_empty() && picked.agreed.silent > 0 && !unsent;
        picked.agreed.is_doubtful = is_silent || is_behind;
        if is_silent {
            let silent = picked.agreed.silent;
            note(format!("none of its {silent} holders answered: this is what was seen last"));
        }
        picked
    });
    (picked, is_resolved)
}

/// The record of a head that was seen last. Nobody is counted who may have it.
pub(super) fn seen_before(keys: &HeadKeys, head: &KnownHead) -> Option<Picked> {
    let record = head.seen.record.clone();
    let payload = payload_of(keys, &record)?;
    let silent = head.kept.as_ref().map_or(payload.holders.len(), |kept| kept.holders.len());
    Some(Picked { record, payload, agreed: Agreed { silent, ..Agreed::default() } })
}
