//! The daemon and the command line.
#![forbid(unsafe_code)]

pub mod profile;
