//! Several guards, a virtual clock, and links between them that lose, double, delay and reorder.

mod basics;
mod rig;
mod storms;
