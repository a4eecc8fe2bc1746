//! Several guards, a virtual clock, and links between them that lose, double, delay and reorder.

mod basics;
mod refusals;
mod rig;
mod standing;
mod storms;
mod tables;
