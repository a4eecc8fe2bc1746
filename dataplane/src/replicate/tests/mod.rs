//! Several guards, a virtual clock, and links between them that lose, double, delay and reorder.

mod basics;
mod refusals;
mod rig;
mod storms;
mod tables;
