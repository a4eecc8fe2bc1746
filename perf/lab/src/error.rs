//! What went wrong in the lab, as a sentence.

/// A failure of the lab, told so that a reader knows what was tried and where to look.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// The result of everything in the lab.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure with this sentence.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }

    /// `what` could not be done, because of `cause`.
    pub fn because(what: impl std::fmt::Display, cause: impl std::fmt::Display) -> Self {
        Self(format!("{what}: {cause}"))
    }
}
