//! YAML files that people write, read so that every error has its place and its remedy.
//!
//! [`load`] reads a file into any type that `serde` can read, beside a [`Node`] that knows where
//! each key and value stands. Whoever goes on to check what the values mean points at them by
//! [`Node`], and collects [`Diagnostics`].
#![forbid(unsafe_code)]

mod diagnostic;
mod file;
mod shape;
mod signs;
mod tree;

pub use diagnostic::{Diagnostic, Diagnostics, Mark, Severity, nearest, suggest};
pub use file::{load, read_file, text_from};
pub use shape::{read, read_with};
pub use tree::{Children, Node};

/// Signs of word processors that stand outside comments: where something is wrong, they are likely to
/// be why.
#[must_use]
pub fn typographic(text: &str) -> Vec<Diagnostic> {
    signs::typographic(text)
}
