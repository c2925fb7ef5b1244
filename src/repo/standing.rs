//! What audits of one holder came to, and where it stands by that. Pure: whoever audits notes here
//! what came of it.
//!
//! # Holders
//! Of each holder the last audit that ended with answers is kept, the last [`INCIDENTS_MAX`] that
//! found anything, and how long it is silent. [`standing`] makes one word of that, by these rules,
//! the first that fits:
//!
//! - an answer was wrong, ever: [`Standing::Liar`]. A lie stays, also beyond the other incidents,
//!   and where nothing but the replica's loss tells of it;
//! - it is silent: [`Standing::Late`] at once; [`Standing::Suspect`] after 3 misses, on 2 days of
//!   the calendar, and 24 hours; [`Standing::Lost`] after misses on 14 days of the calendar and 14
//!   days. Whoever answers for some of what it is asked is silent, too: an answer to all of it ends
//!   that, and nothing less;
//! - it withholds: it proves a chunk and did not hand it over when it was asked for it. The same
//!   three words by the same numbers, whichever of the two is worse. It ends when the holder hands
//!   over all that it is asked for, or has nothing any more that it could be asked for; no proof
//!   ends it;
//! - the last audit found something missing or damaged: [`Standing::Damaged`]. What was released
//!   may have been by another device of the owner's, and is nobody's fault. What a smaller
//!   audit found so while this one ran counts as found by it, too;
//! - the last audit proved something: [`Standing::Proven`]. Else [`Standing::Unknown`].
//!
//! # Clocks
//! The wall clock alone makes nobody worse than late: a clock that jumps ahead by ten years adds
//! one miss and one day at most, and the others have to be made one by one. So misses count that
//! are at least an hour apart, and of days only one miss each. A miss that comes more than an hour
//! before the last one says that the clock was put back: the last one was counted for a jump, and
//! counts no more, nor does this one, from which it goes on; what was counted before stays. A clock
//! that jumps to and fro so adds nothing.

pub use crate::core::types::Standing;
use crate::core::types::{AuditOutcome, NodeId, StoreEpoch};
use crate::planted::{Bug, is_on};

/// Audits of one holder that found anything, and that are remembered. Beyond these the oldest goes
/// in which nobody lied, if any.
pub const INCIDENTS_MAX: usize = 16;

pub(in crate::repo) const HOUR_S: u64 = 3_600;
pub(in crate::repo) const DAY_S: u64 = 24 * HOUR_S;

/// Silence of this long makes a holder suspect: 24 hours, in seconds.
const SUSPECT_AFTER_S: u64 = DAY_S;
/// So many misses do.
const SUSPECT_MISSES: u32 = 3;
/// On so many days.
const SUSPECT_DAYS: u32 = 2;

/// Silence of this long makes a holder lost: 14 days, in seconds.
const LOST_AFTER_S: u64 = 14 * DAY_S;
/// Misses on so many days do.
const LOST_DAYS: u32 = 14;

/// Why a replica counts no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The holder says that it does not have it.
    Missing,
    /// The holder says that it is damaged.
    Damaged,
    /// The holder answered for it as if it had it, and the answer is wrong.
    Lied,
    /// The holder says that it was released.
    Released,
}

/// An audit of one holder that ended with answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HolderAudited {
    /// Who.
    pub node: NodeId,
    /// Which store of it.
    pub epoch: StoreEpoch,
    /// What it came to.
    pub outcome: AuditOutcome,
    /// Replicas that it did not answer for, though it was asked in this audit.
    pub silent: u64,
    /// Bytes that were sent and received for it.
    pub bytes_moved: u64,
}

impl HolderAudited {
    /// One that begins at `at_s`, seconds since 1970, with so many chunks to ask for: nothing came
    /// of it yet.
    pub fn begun((node, epoch): (NodeId, StoreEpoch), at_s: u64, asked: u64) -> Self {
        let outcome = AuditOutcome::begun(at_s, asked);
        Self { node, epoch, outcome, silent: 0, bytes_moved: 0 }
    }

    /// What another audit of the same holder, a smaller one, found damaged or missing while this
    /// one ran, which found nothing so: `before` and `by_now` are the last ones when this one began
    /// and now. Proofs from before the damage do not make up for it. What was known when this one
    /// began is none of that, also where it was handed on meanwhile to one that began before.
    #[must_use]
    pub fn with_damage_of(mut self, before: Option<&Self>, by_now: Option<&Self>) -> Self {
        let damage = |last: &Self| (last.outcome.missing, last.outcome.damaged);
        let is_new =
            |last: &&Self| last.outcome.has_damage() && before.map(damage) != Some(damage(last));
        let meanwhile = by_now.filter(is_new);
        if let (Some(last), false) = (meanwhile, self.outcome.has_damage()) {
            (self.outcome.missing, self.outcome.damaged) =
                (last.outcome.missing, last.outcome.damaged);
        }
        self
    }
}

/// How long a holder did not answer, or withheld chunks, and how often it was asked. See
/// [`standing`] for what is counted and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    /// When it was first asked without an answer: seconds since 1970.
    pub since_s: u64,
    /// When it was last asked so, of the times that count: seconds since 1970.
    pub last_s: u64,
    /// How often it was, at least an hour apart.
    pub misses: u32,
    /// On how many days of the calendar it was.
    pub days: u32,
}

/// What audits of one holder came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditRecord {
    /// The last one that ended with answers.
    pub last: Option<HolderAudited>,
    /// Those that found anything, oldest first.
    pub incidents: Vec<HolderAudited>,
    /// How long it did not answer, or not for all; `None` where it did, the last time.
    pub silence: Option<Silence>,
    /// How long it proves chunks and does not hand them over, and how often it was asked; `None`
    /// where it handed over all that it was asked for, the last time.
    pub withheld: Option<Silence>,
    /// When a replica was last lost because of a lie: seconds since 1970. Tells of lies also where
    /// the audit that found them did not come to its end.
    pub lied_s: Option<u64>,
    /// When it was asked for the part of a day for which it answered last: seconds since 1970. See
    /// [`turn`](super::turn).
    pub day_s: Option<u64>,
}

/// What silence makes of a holder, from bad to worse.
const SILENT: [Standing; 3] = [Standing::Late, Standing::Suspect, Standing::Lost];

/// Where a holder stands at `now_s`, seconds since 1970: see the module's documentation.
pub fn standing(record: &AuditRecord, now_s: u64) -> Standing {
    if record.has_lied() {
        return Standing::Liar;
    }
    if let Some(silence) = record.worst_silence(now_s) {
        return silence.standing(now_s);
    }
    match record.last {
        Some(last) if last.outcome.has_damage() => Standing::Damaged,
        Some(last) if last.outcome.proven > 0 => Standing::Proven,
        _ => Standing::Unknown,
    }
}

impl AuditRecord {
    /// From when on its silence alone makes it suspect, however it was asked before: seconds since
    /// 1970. `None` where it was not asked often enough for that.
    pub fn suspect_from_s(&self) -> Option<u64> {
        let suspect = self.silences().filter(|silence| silence.is_asked_often());
        suspect.map(|silence| silence.since_s.saturating_add(SUSPECT_AFTER_S)).min()
    }

    /// How long it does not answer, or withholds: whichever is worse at `now_s`, seconds since
    /// 1970.
    pub fn worst_silence(&self, now_s: u64) -> Option<Silence> {
        self.silences().max_by_key(|silence| silence.weight(now_s))
    }

    /// Whether it withholds, and that is worse than what it does not answer.
    pub fn withholds(&self, now_s: u64) -> bool {
        self.withheld.is_some_and(|withheld| {
            let silence = self.silence.map(|silence| silence.weight(now_s));
            silence <= Some(withheld.weight(now_s))
        })
    }

    /// Its silence, and what it withholds.
    fn silences(&self) -> impl Iterator<Item = Silence> {
        self.silence.into_iter().chain(self.withheld)
    }

    /// When it last answered: seconds since 1970.
    pub fn heard_s(&self) -> Option<u64> {
        self.last.map(|last| last.outcome.at_s)
    }

    /// When it lied, as far as that is remembered, the times in no order and some twice: seconds
    /// since 1970. Empty where it never did.
    pub fn lies_s(&self) -> impl Iterator<Item = u64> {
        let forgives = is_on(Bug::ForgiveLies);
        let before = if forgives { &[][..] } else { &self.incidents };
        let audits = before.iter().chain(&self.last).map(|audited| audited.outcome);
        let lies = audits.filter(|outcome| outcome.lied > 0).map(|outcome| outcome.at_s);
        lies.chain(self.lied_s.filter(|_| !forgives))
    }

    pub(in crate::repo) fn has_lied(&self) -> bool {
        self.lies_s().next().is_some()
    }

    /// The last time that anything is known of.
    pub fn latest_s(&self) -> u64 {
        let silent = self.silences().map(|silence| silence.last_s);
        self.heard_s()
            .into_iter()
            .chain(silent)
            .chain(self.lied_s)
            .chain(self.day_s)
            .max()
            .unwrap_or(0)
    }

    /// An audit of it ended with answers.
    pub fn on_audited(&mut self, audited: HolderAudited) {
        if audited.silent == 0 {
            self.silence = None;
            self.withheld.take_if(|_| is_on(Bug::ProofsMakeUp));
        } else {
            self.on_silent(audited.outcome.at_s);
        }
        self.last = Some(audited);
        if audited.outcome.is_incident() {
            if self.incidents.len() >= INCIDENTS_MAX {
                let harmless = self.incidents.iter().position(|before| before.outcome.lied == 0);
                self.incidents.remove(harmless.unwrap_or(0));
            }
            self.incidents.push(audited);
        }
    }

    /// It was asked at `at_s`, seconds since 1970, and did not answer.
    pub fn on_silent(&mut self, at_s: u64) {
        Silence::once_more(&mut self.silence, at_s);
    }

    /// It was asked at `at_s`, seconds since 1970, for a chunk that it proved, and did not hand it
    /// over.
    pub fn on_withheld(&mut self, at_s: u64) {
        Silence::once_more(&mut self.withheld, at_s);
    }

    /// It handed over all that it was asked for.
    pub fn on_served(&mut self) {
        self.withheld = None;
    }
}

impl Silence {
    fn new(at_s: u64) -> Self {
        Self { since_s: at_s, last_s: at_s, misses: 1, days: 1 }
    }

    fn once_more(silence: &mut Option<Self>, at_s: u64) {
        match silence {
            Some(silence) => silence.miss(at_s),
            None => *silence = Some(Self::new(at_s)),
        }
    }

    fn is_asked_often(&self) -> bool {
        self.misses >= SUSPECT_MISSES && self.days >= SUSPECT_DAYS
    }

    /// How bad it is: what it makes of a holder, then on how many days it was asked, then how long.
    fn weight(&self, now_s: u64) -> (Option<usize>, u32, u64) {
        let word = self.standing(now_s);
        let rank = SILENT.iter().position(|of| *of == word);
        (rank, self.days, now_s.saturating_sub(self.since_s))
    }

    /// What it makes of a holder at `now_s`, seconds since 1970.
    fn standing(&self, now_s: u64) -> Standing {
        let silent_s = now_s.saturating_sub(self.since_s);
        let by_clock = is_on(Bug::SilenceByClock);
        if (self.days >= LOST_DAYS || by_clock) && silent_s >= LOST_AFTER_S {
            Standing::Lost
        } else if (self.is_asked_often() || by_clock) && silent_s >= SUSPECT_AFTER_S {
            Standing::Suspect
        } else {
            Standing::Late
        }
    }

    /// Once more without an answer.
    fn miss(&mut self, at_s: u64) {
        self.since_s = self.since_s.min(at_s);
        if at_s.abs_diff(self.last_s) < HOUR_S {
            return;
        }
        let is_another_day = at_s / DAY_S != self.last_s / DAY_S;
        if at_s > self.last_s {
            self.misses = self.misses.saturating_add(1);
            self.days = self.days.saturating_add(is_another_day.into());
        } else {
            self.misses = self.misses.saturating_sub(1).max(1);
            self.days = self.days.saturating_sub(is_another_day.into()).max(1);
        }
        self.last_s = at_s;
    }
}
