//! The daemon and the command line.
#![forbid(unsafe_code)]

pub mod cli;
pub mod doctor;
pub mod profile;
