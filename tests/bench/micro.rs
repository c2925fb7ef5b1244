//! Micro-benchmarks of the hot paths: seal, proofs, store.

fn main() {}
