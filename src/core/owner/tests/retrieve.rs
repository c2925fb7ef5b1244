//! Fetch jobs.
