//! Why a command or the daemon cannot go on: one line that names the cause and the cure.

use std::fmt;

/// A cause, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    cause: String,
    cure: String,
}

impl Failure {
    /// A failure of this cause; an empty cure is left out.
    pub fn new(cause: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            cause: cause.into(),
            cure: cure.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whatever a driver or the system says, it stays one line.
        let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        out.write_str(&one_line(&self.cause))?;
        if !self.cure.is_empty() {
            write!(out, "; {}", one_line(&self.cure))?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_whatever_is_said() {
        let failure = Failure::new("port outside:\n  no device", "attach it\n");
        assert_eq!(failure.to_string(), "port outside: no device; attach it");
        assert_eq!(Failure::new("gone", "").to_string(), "gone");
    }
}
