//! The daemon and the command line.
#![forbid(unsafe_code)]

pub mod bypass;
pub mod capture;
pub mod cli;
pub mod client;
pub mod configuration;
pub mod daemon;
pub mod doctor;
pub mod failure;
mod logging;
pub mod profile;
pub mod protection;
pub mod protocol;
pub mod report;
mod rtnetlink;
