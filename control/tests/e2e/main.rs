//! The daemon between real clients and a real server, in name spaces. Needs root.
#![forbid(unsafe_code)]

mod common;
mod flood;
mod lifecycle;
mod links;
mod log;
mod parted;
mod ports;
mod refusals;
mod servers;
mod sharing;
mod sprayed;
mod traffic;
mod unguarded;
mod wire;
mod wire_frames;
