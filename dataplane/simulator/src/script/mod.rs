//! Scripts in packetdrill's manner: what a client and a server say, what each hears, line by line.
//!
//! `dataplane/simulator/README.md` explains the language. A script is run for both families and for
//! one and two workers, each time in a world of its own in which the guard's invariants hold.

mod language;
mod matcher;
mod player;
mod settings;

pub use language::{Line, Script, ScriptError};
pub use player::{Setting, play};
