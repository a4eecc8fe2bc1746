//! What a failed DPDK call is told as.

use std::ffi::{CStr, CString};
use std::fmt;

use crate::log;

/// A failed call: what was being done, by which function, and why it was refused.
///
/// Drivers often return a bare -1 and tell the cause only to EAL's log, so the lines that the
/// call logged as warnings or errors are part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    call: &'static str,
    errno: i32,
    doing: String,
    said: Vec<String>,
}

impl Error {
    pub(crate) fn new(call: &'static str, errno: i32, doing: impl Into<String>) -> Self {
        Self {
            call,
            errno,
            doing: doing.into(),
            said: Vec::new(),
        }
    }

    /// The function of DPDK or of the system that failed.
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// The error's number, as in `errno.h` or `rte_errno.h`; 0 where the call gave none.
    pub fn errno(&self) -> i32 {
        self.errno
    }

    /// What was being done, with the names that the caller gave.
    pub fn doing(&self) -> &str {
        &self.doing
    }

    /// What DPDK logged as a warning or an error during the call.
    pub fn said(&self) -> &[String] {
        &self.said
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {} failed", self.doing, self.call)?;
        if self.errno != 0 {
            write!(out, ": {} (errno {})", text_of(self.errno), self.errno)?;
        }
        for line in &self.said {
            write!(out, "; DPDK said: {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// The text that DPDK, and behind it the C library, has for an error number.
fn text_of(errno: i32) -> String {
    // SAFETY: rte_strerror takes any number and returns a string in the calling thread's own
    // buffer, valid until this thread's next call, and it is copied at once.
    unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(errno)) }
        .to_string_lossy()
        .into_owned()
}

/// The calling thread's `rte_errno`.
pub(crate) fn rte_errno() -> i32 {
    // SAFETY: reads a thread-local integer.
    unsafe { dpdk_sys::shim_errno() }
}

/// The calling thread's `errno`.
pub(crate) fn system_errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// A string for C. One with a zero inside is nothing that could have a meaning there.
pub(crate) fn c_string(
    text: &str,
    call: &'static str,
    doing: impl FnOnce() -> String,
) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::new(call, libc::EINVAL, doing()))
}

/// One call in progress: collects what DPDK logs, so that a refusal carries its cause.
pub(crate) struct Call {
    name: &'static str,
    mark: log::Mark,
}

impl Call {
    pub(crate) fn to(name: &'static str) -> Self {
        Self {
            name,
            mark: log::mark(),
        }
    }

    /// Turns a result of the kind "negative means -errno" into a `Result`. A bare -1 is the
    /// usual "failed, see the log", hardly ever `EPERM`, so it gives way to `rte_errno`, or to
    /// no number at all where the log has the cause.
    pub(crate) fn check(self, result: i32, doing: impl FnOnce() -> String) -> Result<i32, Error> {
        if result >= 0 {
            return Ok(result);
        }
        let said = log::complaints_since(self.mark);
        let errno = match result {
            -1 if !said.is_empty() => 0,
            number => number.wrapping_neg(),
        };
        Err(Error {
            call: self.name,
            errno,
            doing: doing(),
            said,
        })
    }

    /// The error of a call that reports by `rte_errno`.
    pub(crate) fn failed(self, doing: impl Into<String>) -> Error {
        let errno = rte_errno();
        Error {
            call: self.name,
            errno,
            doing: doing.into(),
            said: log::complaints_since(self.mark),
        }
    }
}
