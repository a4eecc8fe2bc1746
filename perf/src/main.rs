//! The measuring harness.
#![forbid(unsafe_code)]

fn main() {}
