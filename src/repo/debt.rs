//! What one holder owes an answer for.
//!
//! Who answers for one chunk has not answered for the others. So a holder that said nothing about
//! some chunks is asked for these before anything else, until it answers for them: it cannot choose
//! the questions that suit it. What counts there no more is nobody's debt: a holder that owes
//! nothing else is asked like any other one.

use crate::core::types::ChunkId;
use std::collections::BTreeSet;

/// See the module. It outlives restarts: else whoever waits for one owes nothing behind it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Debt(Vec<ChunkId>);

impl Debt {
    /// So many chunks are remembered at most: one question of them shows what the answer is.
    pub const MAX: usize = 2_048;

    /// What is owed: at most [`Self::MAX`] of these.
    pub fn of(chunks: impl IntoIterator<Item = ChunkId>) -> Self {
        let mut debt = Self::default();
        debt.after(chunks);
        debt
    }

    /// All of it, ascending.
    pub fn chunks(&self) -> &[ChunkId] {
        &self.0
    }

    /// An audit is over: what it was asked for and said nothing about, or nothing.
    pub fn after(&mut self, unanswered: impl IntoIterator<Item = ChunkId>) {
        // Nothing twice: such a question is none.
        let all: BTreeSet<ChunkId> = unanswered.into_iter().collect();
        self.0 = all.into_iter().take(Self::MAX).collect();
    }

    /// It said nothing about these either, whatever it owed before.
    pub fn and(&mut self, unanswered: impl IntoIterator<Item = ChunkId>) {
        let before = std::mem::take(&mut self.0);
        self.after(before.into_iter().chain(unanswered));
    }

    /// Whether it owes anything.
    pub fn is_open(&self) -> bool {
        !self.0.is_empty()
    }

    /// How much it owes.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// What it is asked for now, and nothing else; `None` where it owes nothing. What `counts` says
    /// no to is forgotten.
    pub fn due(&mut self, counts: impl Fn(&ChunkId) -> bool) -> Option<Vec<ChunkId>> {
        self.0.retain(|id| counts(id));
        self.is_open().then(|| self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(number: u16) -> ChunkId {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&number.to_be_bytes());
        ChunkId::from_bytes(id)
    }

    #[test]
    fn holder_is_asked_for_what_it_owes_until_it_answers() {
        let mut debt = Debt::default();
        assert_eq!(debt.due(|_| true), None);
        debt.after([chunk(1), chunk(2)]);
        assert_eq!(debt.due(|_| true), Some(vec![chunk(1), chunk(2)]));
        assert_eq!(debt.due(|_| true), Some(vec![chunk(1), chunk(2)]), "asking settles nothing");
        debt.after([chunk(2), chunk(2)]);
        assert_eq!((debt.due(|_| true), debt.count()), (Some(vec![chunk(2)]), 1));
        debt.after([]);
        assert_eq!((debt.due(|_| true), debt.is_open()), (None, false));
    }

    #[test]
    fn what_it_owes_for_another_reason_comes_on_top() {
        let mut debt = Debt::default();
        debt.after([chunk(2)]);
        debt.and([chunk(1), chunk(2)]);
        assert_eq!(debt.due(|_| true), Some(vec![chunk(1), chunk(2)]));
    }

    #[test]
    fn what_counts_no_more_is_nobodys_debt() {
        let mut debt = Debt::default();
        debt.after([chunk(1), chunk(2)]);
        assert_eq!(debt.due(|id| *id != chunk(1)), Some(vec![chunk(2)]));
        assert_eq!(debt.due(|_| false), None);
        assert!(!debt.is_open());
    }

    #[test]
    fn only_so_much_is_remembered() {
        let mut debt = Debt::default();
        debt.after((0..u16::MAX).map(chunk));
        assert_eq!(debt.due(|_| true).map(|owed| owed.len()), Some(Debt::MAX));
    }
}
