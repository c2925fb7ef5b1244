//! Tests from outside, against real adapters: one binary, one module a subject.
//!
//! Add a module here and in a file beside this one.

#![allow(clippy::unwrap_used)] // the lint knows test functions only, not what they share

mod audit;
mod backup;
mod cli;
mod heads;
mod kills;
mod mesh;
mod notices;
mod processes;
mod prune;
mod restore;
mod schedule;
mod store_churn;
mod store_compact;
mod store_conformance;
mod store_faults;
mod store_fixtures;
mod store_heads;
mod store_kill;
mod store_leases;
mod store_ledger;
mod store_model;
mod store_power;
mod store_powercut;
mod store_prove;
mod store_releases;
mod store_rot;
mod store_scrub;
mod store_tags;
mod store_threads;
mod story;
mod tidy;
mod vectors;
mod verify;
