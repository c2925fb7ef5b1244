//! How full the role's tables are, each beside the bound that its file states: for metrics, and for
//! tests of the bounds.

use super::account::{self, ACCOUNT_JOBS_MAX};
use super::batch::{ASKS_MAX, CANDIDATES_MAX};
use super::guess::{RECENT_MAX, RECENT_NODES_MAX};
use super::heads::{HEADS_JOBS_MAX, LATE_MAX, NODES_MAX};
use super::locate::{self, LOCATE_JOBS_MAX};
use super::peers::{CONNECTED_MAX, DIALS_MAX, KNOWN_MAX};
use super::search::SEARCHES_MAX;
use super::source::SOURCES_MAX;
use super::store::FINISHED_MAX;
use super::{OwnerLimits, OwnerRole, delivery, standing};
use crate::core::codec::WANTED_MAX;
use crate::core::quorum;
use crate::core::types::CHUNK_SEALED_BYTES_MAX;

/// One table of the role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// What it holds; a table of tables is as full as the fullest of them.
    pub what: &'static str,
    /// How much.
    pub used: usize,
    /// How much at most.
    pub max: usize,
}

impl Fill {
    /// Whether its bound is broken.
    pub fn is_over(&self) -> bool {
        self.used > self.max
    }
}

impl OwnerRole {
    /// How full every table is. Looks at each job, batch and delivery once.
    pub fn load(&self) -> Vec<Fill> {
        let Self { shared, store, fetch, heads, accounts, locate, standings } = self;
        let (questions, asked, gets, late) = heads.sizes();
        let (accounts, unanswered) = accounts.sizes();
        let (locates, located) = locate.sizes();
        let (asking, counted) = standings.sizes();
        let limits = &shared.limits;
        let (connected, known) = shared.peers.sizes();
        let fill = |what, used, max| Fill { what, used, max };
        let mut load = vec![
            fill("connected peers", connected, CONNECTED_MAX),
            fill("remembered nodes", known, KNOWN_MAX),
            fill("dials", shared.open_dials(), DIALS_MAX),
            fill("fetch jobs", fetch.waiters(), limits.fetch_slots),
            fill("nodes per fetch", fetch.sources(), SOURCES_MAX),
            fill("searches", fetch.searches.len(), SEARCHES_MAX),
            fill("nodes with fetches", fetch.loads.len(), CONNECTED_MAX),
            fill("served localities", fetch.guesses.sizes().0, RECENT_MAX),
            fill("servers per locality", fetch.guesses.sizes().1, RECENT_NODES_MAX),
            fill("guessed nodes", fetch.guesses.sizes().2, CONNECTED_MAX),
            fill("questions for heads", questions, HEADS_JOBS_MAX),
            fill("nodes per question", asked, NODES_MAX),
            fill("requests for heads", gets, HEADS_JOBS_MAX * NODES_MAX * WANTED_MAX),
            fill("late requests for heads", late, LATE_MAX),
            fill("questions about accounts", accounts, ACCOUNT_JOBS_MAX),
            fill("late questions about accounts", unanswered, account::LATE_MAX),
            fill("questions for holders", locates, LOCATE_JOBS_MAX),
            fill("nodes per question for holders", located, locate::NODES_MAX),
            fill("questions of holders", asking, standing::OPEN_MAX),
            fill("holders that asked", counted, standing::SOURCES_MAX),
        ];
        load.extend(store.load(limits));
        load
    }
}

impl super::store::StoreFlow {
    fn load(&self, limits: &OwnerLimits) -> [Fill; 11] {
        let fill = |what, used, max| Fill { what, used, max };
        // A command is taken while there is any room, so that one chunk may be above.
        let window = limits.window_bytes.saturating_add(CHUNK_SEALED_BYTES_MAX as usize);
        let batches = || self.batches.values();
        let asks = batches().map(|batch| batch.asks.len()).max();
        let candidates = batches().map(|batch| batch.candidates.len()).max();
        let jobs = || self.jobs.values();
        let grants = jobs().map(|job| job.grants.len()).max();
        let held_by = jobs().map(|job| job.held_by.len()).max();
        let deliveries = || self.deliveries.values();
        let sent = deliveries().map(|delivery| delivery.sizes().0).max();
        let done = deliveries().map(|delivery| delivery.sizes().1).max();
        let asked: usize = batches().map(|batch| batch.asks.len()).sum();
        [
            fill("store jobs", self.commands(), limits.store_jobs),
            fill("bytes to store", self.window_used(), window),
            fill("batches", self.batches.len(), self.jobs.len()),
            fill("requests per batch", asks.unwrap_or(0), ASKS_MAX),
            fill("requests by tag", self.asks.len(), asked),
            fill("candidates per batch", candidates.unwrap_or(0), CANDIDATES_MAX),
            fill(
                "grants per chunk",
                grants.unwrap_or(0).max(held_by.unwrap_or(0)),
                quorum::NODES_MAX,
            ),
            fill("deliveries", self.deliveries.len(), CONNECTED_MAX),
            fill("chunks sent to one holder", sent.unwrap_or(0), delivery::SENT_MAX),
            fill("answers of one holder", done.unwrap_or(0), delivery::DONE_MAX),
            fill("finished chunks", self.finished.len(), FINISHED_MAX),
        ]
    }
}
