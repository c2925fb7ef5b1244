//! Tests from outside, against real adapters: one binary, one module a subject.
//!
//! Add a module here and in a file beside this one.
