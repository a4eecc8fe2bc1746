//! Captures: what a filter says, how copies travel to the client, and the file they end in.

pub mod file;
pub mod filter;
pub mod frame;
pub mod output;
