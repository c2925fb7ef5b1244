//! How a holder stands with an owner: the holder's question, and the owner's answer.
//!
//! The answer is the evidence that led to the standing and nothing else. Both sides read the same
//! words from it: so it has all that these are made of.

use crate::core::types::{Account, AuditOutcome, MeshId, NodeId, Standing};
use crate::crypto::account::Mac;
use crate::crypto::keys::PairKey;
use crate::crypto::standing::StandingQuestion;

/// Incidents in one report.
pub const STANDING_INCIDENTS_MAX: usize = 8;

/// From a holder: how do I stand with you?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingRequest {
    /// Chosen by the holder; the answer repeats it.
    pub request: u64,
    /// The owner's account at this holder.
    pub account: Account,
    /// Fresh: the answer's MAC covers it.
    pub nonce: [u8; 32],
    /// See [`StandingQuestion`].
    pub mac: Mac,
}

impl StandingRequest {
    /// The question from `holder` to the node of the owner, with its MAC under their pair key.
    pub fn new(
        (request, account, nonce): (u64, Account, [u8; 32]),
        between: (MeshId, NodeId, NodeId),
        pair: &PairKey,
    ) -> Self {
        let asked = Self { request, account, nonce, mac: [0; 32] };
        Self { mac: asked.question(between).mac(pair), ..asked }
    }

    /// Whether `holder` asked the owner's node this: the MAC holds under their pair key.
    pub fn verify(&self, between: (MeshId, NodeId, NodeId), pair: &PairKey) -> bool {
        self.question(between).verify(pair, &self.mac)
    }

    fn question(&self, (mesh, holder, owner): (MeshId, NodeId, NodeId)) -> StandingQuestion {
        let Self { request, account, nonce, .. } = *self;
        StandingQuestion { mesh, holder, owner, account, nonce, request }
    }
}

/// What an owner answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingAnswer {
    /// The holder's number.
    pub request: u64,
    /// What it says, or why it says nothing.
    pub outcome: Result<StandingSaid, StandingRefusal>,
}

/// Why an owner says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StandingRefusal {
    /// It knows of nothing that the asker keeps for it, or the MAC does not hold: the two look
    /// alike on purpose.
    NoAccount = 1,
    /// Too many at once.
    Busy = 2,
}

/// A report, with its MAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingSaid {
    /// The report.
    pub report: StandingReport,
    /// See [`StandingQuestion::answer_mac`].
    pub mac: Mac,
}

impl StandingSaid {
    /// What the owner's node answers to `asked`, with its MAC.
    pub fn new(
        asked: &StandingRequest,
        report: StandingReport,
        between: (MeshId, NodeId, NodeId),
        pair: &PairKey,
    ) -> Self {
        let mac = asked.question(between).answer_mac(&report.encode(), pair);
        Self { report, mac }
    }

    /// Whether the owner of the pair answered `asked` so.
    pub fn verify(
        &self,
        asked: &StandingRequest,
        between: (MeshId, NodeId, NodeId),
        pair: &PairKey,
    ) -> bool {
        asked.question(between).verify_answer(&self.report.encode(), pair, &self.mac)
    }
}

/// Where a holder stands with an owner, and what led there. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StandingReport {
    /// Where.
    pub standing: Standing,
    /// How long it does not answer, or withholds what it proves: whichever is worse.
    pub silence: Option<ReportedSilence>,
    /// When a lie was last found, as far as that stands apart from the audits.
    pub lied_s: Option<u64>,
    /// The last audit that ended with answers.
    pub last: Option<AuditOutcome>,
    /// Audits that found anything, oldest first: at most [`STANDING_INCIDENTS_MAX`].
    pub incidents: Vec<AuditOutcome>,
}

/// What a holder does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum SilenceKind {
    /// It does not answer, or not for all.
    Unanswered = 1,
    /// It does not hand over what it proves.
    Withheld = 2,
}

/// For how long it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportedSilence {
    /// What.
    pub kind: SilenceKind,
    /// When it was first asked in vain.
    pub since_s: u64,
    /// How often it was.
    pub misses: u32,
}

/// All of them, each at the place of its number.
const STANDINGS: [Standing; 7] = [
    Standing::Unknown,
    Standing::Proven,
    Standing::Late,
    Standing::Suspect,
    Standing::Lost,
    Standing::Damaged,
    Standing::Liar,
];

fn number_of(standing: Standing) -> u8 {
    match standing {
        Standing::Unknown => 0,
        Standing::Proven => 1,
        Standing::Late => 2,
        Standing::Suspect => 3,
        Standing::Lost => 4,
        Standing::Damaged => 5,
        Standing::Liar => 6,
    }
}

impl StandingReport {
    /// `standing u8 | silence u8 [| since u64 | misses u32] | lied u8 [| at u64] | last u8
    /// [| audit] | incidents u8 | incidents * audit`, integers little-endian, an audit being seven
    /// `u64` in the order of the fields: 5 to 529 bytes. More incidents than a report may have are
    /// left out.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![number_of(self.standing)];
        out.push(self.silence.map_or(0, |silence| silence.kind as u8));
        if let Some(ReportedSilence { since_s, misses, .. }) = self.silence {
            out.extend_from_slice(&since_s.to_le_bytes());
            out.extend_from_slice(&misses.to_le_bytes());
        }
        out.push(self.lied_s.is_some().into());
        out.extend(self.lied_s.into_iter().flat_map(u64::to_le_bytes));
        out.push(self.last.is_some().into());
        out.extend(self.last.iter().flat_map(encode_audit));
        let incidents = self.incidents.iter().take(STANDING_INCIDENTS_MAX);
        out.push(u8::try_from(incidents.len()).unwrap_or(u8::MAX));
        out.extend(incidents.flat_map(encode_audit));
        out
    }

    /// Reads [`Self::encode`] back; `None` for anything that it does not make, and for an incident
    /// in which nothing was found.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let [standing] = take(&mut rest)?;
        let standing = *STANDINGS.get(usize::from(standing))?;
        let kind = match take(&mut rest)? {
            [0] => None,
            [1] => Some(SilenceKind::Unanswered),
            [2] => Some(SilenceKind::Withheld),
            _ => return None,
        };
        let silence = match kind {
            None => None,
            Some(kind) => {
                let since_s = u64::from_le_bytes(take(&mut rest)?);
                let misses = u32::from_le_bytes(take(&mut rest)?);
                Some(ReportedSilence { kind, since_s, misses })
            }
        };
        let lied_s = match flag(&mut rest)? {
            true => Some(u64::from_le_bytes(take(&mut rest)?)),
            false => None,
        };
        let last = match flag(&mut rest)? {
            true => Some(decode_audit(&mut rest)?),
            false => None,
        };
        let count = usize::from(u8::from_le_bytes(take(&mut rest)?));
        if count > STANDING_INCIDENTS_MAX {
            return None;
        }
        let incidents: Option<Vec<_>> = (0..count).map(|_| decode_audit(&mut rest)).collect();
        let incidents = incidents.filter(|all| all.iter().all(AuditOutcome::is_incident))?;
        rest.is_empty().then_some(Self { standing, silence, lied_s, last, incidents })
    }
}

fn flag(rest: &mut &[u8]) -> Option<bool> {
    match take(rest)? {
        [0] => Some(false),
        [1] => Some(true),
        _ => None,
    }
}

fn encode_audit(audit: &AuditOutcome) -> Vec<u8> {
    let AuditOutcome { at_s, asked, proven, missing, damaged, lied, released } = *audit;
    [at_s, asked, proven, missing, damaged, lied, released].map(u64::to_le_bytes).concat()
}

fn decode_audit(rest: &mut &[u8]) -> Option<AuditOutcome> {
    let mut fields = [0; 7];
    for field in &mut fields {
        *field = u64::from_le_bytes(take(rest)?);
    }
    let [at_s, asked, proven, missing, damaged, lied, released] = fields;
    Some(AuditOutcome { at_s, asked, proven, missing, damaged, lied, released })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_standing_has_its_own_number_and_comes_back() {
        for (number, standing) in STANDINGS.into_iter().enumerate() {
            assert_eq!(usize::from(number_of(standing)), number);
            let report = StandingReport { standing, ..StandingReport::default() };
            assert_eq!(report.encode().len(), 5);
            assert_eq!(StandingReport::decode(&report.encode()), Some(report));
        }
    }

    #[test]
    fn a_question_and_its_answer_verify_between_the_two_and_for_what_they_say() {
        let (pair, other) = (PairKey::from_bytes([1; 32]), PairKey::from_bytes([2; 32]));
        let (holder, owner) = (NodeId::from_bytes([5; 32]), NodeId::from_bytes([6; 32]));
        let (mesh, account) = (MeshId::from_bytes([4; 32]), Account::from_bytes([2; 32]));
        let between = (mesh, holder, owner);
        let asked = StandingRequest::new((1, account, [3; 32]), between, &pair);
        assert!(asked.verify(between, &pair) && !asked.verify(between, &other));
        assert!(!asked.verify((mesh, owner, holder), &pair));
        let report = StandingReport { standing: Standing::Late, ..StandingReport::default() };
        let said = StandingSaid::new(&asked, report, between, &pair);
        assert!(said.verify(&asked, between, &pair));
        assert!(!said.verify(&StandingRequest { nonce: [0; 32], ..asked.clone() }, between, &pair));
        assert!(!said.verify(&asked, (mesh, owner, holder), &pair));
        let better = StandingSaid { report: StandingReport::default(), ..said };
        assert!(!better.verify(&asked, between, &pair));
    }
}
