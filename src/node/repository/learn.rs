//! What was heard of the heads is taken over: which record of each counts, what it names, and only
//! then what is remembered of it.
//!
//! All records are judged first, then the chains of all that count are read at once, and then they
//! are taken over in the order of the heads: neither what is noted nor what the user is told
//! depends on who answered first.

use super::ask::{Asked, Breadth};
use super::pick::{HeadName, Picked, pick, seen_before};
use super::read::{Found, Wanted, read_chains};
use super::send::keep;
use super::{Agreed, State, keys, known_heads, noted, payload_of};
use crate::net::node_of_peer_id;
use crate::node::heads::HeadsFound;
use crate::node::inner::Inner;
use crate::node::put::seconds_since_1970;
use crate::node::report::Failure;
use crate::repo::catalog::{Entry, HeadSeen, KnownHead};
use crate::repo::head::Linked;
use crate::repo::manifest::chain::Seen;
use crate::repo::manifest::draft::DeviceView;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the user should know of what was learnt.
#[derive(Default)]
struct Notes {
    /// What speaks against a head.
    doubts: Vec<String>,
    /// Heads that are believed, and are not shown to go on from what was seen before.
    unlinked: Vec<String>,
}

/// A head that was judged.
struct Judged {
    name: HeadName,
    notes: Vec<String>,
    is_resolved: bool,
    picked: Option<Picked>,
}

/// Takes over what was heard. Returns what the user should know.
///
/// # Errors
/// The node's catalogue takes nothing.
pub(super) async fn learn(
    state: &mut State,
    inner: &Arc<Inner>,
    asked: Asked,
) -> Result<Vec<String>, Failure> {
    let Asked { breadth, indexes, before, found, notes } = asked;
    let is_heard = found.is_some();
    let found = found.unwrap_or_default();
    let known = known_heads(inner);
    let own = inner.with_catalog(|catalog| catalog.device()).map(|device| device.index);
    // A head is chosen by what everyone had time to say.
    state.asked |= is_heard && breadth != Breadth::Brief;
    let here = node_of_peer_id(&inner.net.snapshot().await.peer_id);
    state.missing = false;
    state.agreed.clear();
    let mut judged = Vec::new();
    for index in indexes.iter().copied() {
        let name = HeadName { index, is_own: own == Some(index), here };
        let known = known.get(&index);
        if known.map(|head| &head.seen) == before.get(&index).map(|head| &head.seen) {
            judged.push(judge(inner, name, &found, known));
        } else {
            // It was written or read anew since it was asked for: what was heard is of before.
            state.missing |= !state.devices.contains_key(&index);
        }
        if found.records.iter().any(|(_, record)| record.id() == keys(inner, index).id()) {
            state.taken.insert(index);
        }
    }
    let mut notes = Notes { doubts: notes, unlinked: Vec::new() };
    take_over(state, inner, judged, &known, &mut notes).await?;
    // Who was not asked for cannot be missed.
    let unfound = unfound(state, inner).into_iter().filter(|(index, _)| indexes.contains(index));
    for (index, number) in unfound {
        state.missing = true;
        let name = HeadName { index, is_own: own == Some(index), here };
        notes.doubts.push(format!(
            "{}: another device has seen its number {number}, and it was not found",
            name.text()
        ));
    }
    let Notes { doubts: mut notes, mut unlinked } = notes;
    state.doubts.clone_from(&notes);
    notes.append(&mut unlinked);
    if is_heard {
        inner.repository.warnings.learn(breadth, &notes);
        if breadth == Breadth::Everyone {
            inner.record(Entry::LookedAround { at: seconds_since_1970() })?;
        }
    }
    state.merge();
    noted::note(state, inner)?;
    inner.commit_catalog().await?;
    Ok(notes)
}

fn judge(inner: &Inner, name: HeadName, found: &HeadsFound, known: Option<&KnownHead>) -> Judged {
    let mut notes = Vec::new();
    let (picked, is_resolved) = pick(&keys(inner, name.index), name, found, known, &mut notes);
    Judged { name, notes, is_resolved, picked }
}

/// Reads what all these heads name, and adopts them one by one.
async fn take_over(
    state: &mut State,
    inner: &Arc<Inner>,
    mut judged: Vec<Judged>,
    known: &BTreeMap<u16, KnownHead>,
    notes: &mut Notes,
) -> Result<(), Failure> {
    let wanted = judged.iter_mut().filter_map(|head| {
        let (index, picked) = (head.name.index, head.picked.take()?);
        Some((index, wanted(state, inner, index, picked, known.get(&index))))
    });
    let (indexes, wanted): (Vec<u16>, Vec<Wanted>) = wanted.unzip();
    let read = read_chains(inner, wanted).await;
    let mut read: BTreeMap<u16, Found> = indexes.into_iter().zip(read).collect();
    for Judged { name, notes: mut told, is_resolved, .. } in judged {
        state.missing |= !is_resolved;
        notes.doubts.append(&mut told);
        let Some(Found { picked, newest, before }) = read.remove(&name.index) else { continue };
        let known = known.get(&name.index);
        state.agreed.insert(name.index, picked.agreed.clone());
        match newest {
            Ok(view) => match adopt(state, inner, name, (picked, view), known)? {
                Linked::ToSeen => {}
                Linked::Unknown => notes.unlinked.push(format!(
                    "{}: what it names now is not shown to go on from what was seen before",
                    name.text()
                )),
            },
            Err(why) => {
                state.missing = true;
                notes.doubts.push(format!("{}: {why}", name.text()));
                // What was seen before it is better than nothing.
                if let Some((before, view)) = before {
                    adopt(state, inner, name, (before, Some(view)), known)?;
                }
            }
        }
    }
    Ok(())
}

/// What has to be read of a head, and what to do with where that fails.
fn wanted(
    state: &State,
    inner: &Inner,
    index: u16,
    picked: Picked,
    known: Option<&KnownHead>,
) -> Wanted {
    let keys = keys(inner, index);
    let here = state.devices.get(&index);
    let seen = known.and_then(|head| payload_of(&keys, &head.seen.record));
    Wanted {
        is_read: here.is_some_and(|of| of.record == picked.record),
        picked,
        seen: seen.map(|seen| Seen { length: seen.chain, newest: seen.newest }),
        before: known.filter(|_| here.is_none()).and_then(|head| seen_before(&keys, head)),
    }
}

/// Takes a head over whose chain was checked against what was seen before, or is in memory, and
/// remembers the record.
fn adopt(
    state: &mut State,
    inner: &Inner,
    name: HeadName,
    (picked, view): (Picked, Option<DeviceView>),
    known: Option<&KnownHead>,
) -> Result<Linked, Failure> {
    let Picked { record, payload, agreed: Agreed { agree, .. } } = picked;
    let index = name.index;
    let linked = view.as_ref().map_or(Linked::ToSeen, |of| of.chain.linked());
    if let Some(view) = view {
        state.devices.insert(index, view);
    }
    let number = record.number();
    let news = known.is_none_or(|head| head.seen.record.number() < number);
    if news {
        inner.record(Entry::HeadSeen(HeadSeen { index, record }))?;
    }
    // What few have of this device's own is sent again.
    let enough = !agree.is_empty() && (!name.is_own || agree.len() >= payload.replicas.into());
    if enough && (news || known.is_none_or(|head| head.kept.is_none())) {
        keep(inner, index, number, agree)?;
    }
    Ok(linked)
}

/// The heads that some device has seen a newer record of, with its number.
fn unfound(state: &State, inner: &Inner) -> BTreeMap<u16, u64> {
    let mut newest = BTreeMap::new();
    for (index, of) in &state.devices {
        let payload = payload_of(&keys(inner, *index), &of.record);
        for (named, number) in payload.into_iter().flat_map(|payload| payload.devices) {
            let newest = newest.entry(named).or_insert(0);
            *newest = number.max(*newest);
        }
    }
    newest.retain(|index, number| {
        state.devices.get(index).is_none_or(|of| of.record.number() < *number)
    });
    newest
}
