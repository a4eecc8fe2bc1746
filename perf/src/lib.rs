//! Tidegate's measuring harness: what the daemon's worker costs in one process ([`bench`]), a tester
//! beside the device under test, a packet generator and a link emulator.
#![forbid(unsafe_code)]

pub mod bench;
mod device;
pub mod endpoints;
pub mod flood;
pub mod link;
pub mod progress;
pub mod report;
pub mod search;
pub mod subjects;
pub mod test;
pub mod tester;
pub mod traffic;
pub mod trial;
mod units;
pub mod wiring;
