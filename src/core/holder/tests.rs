//! Role tests: one input, then the vector of effects.
