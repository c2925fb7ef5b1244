//! A simulated mesh of real roles in virtual time.

fn main() {}
