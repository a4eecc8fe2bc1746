//! EAL's log, line by line, to wherever the caller wants it.
//!
//! DPDK writes its log to a `FILE*`. Ours is one whose writes come back here; they are joined to
//! whole lines and handed to the sink, or to standard error until one is set.

use std::collections::VecDeque;
use std::ffi::{c_char, c_void};
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, system_errno};

/// How much a line matters, in DPDK's own steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // The names are syslog's.
pub enum LogLevel {
    Emergency = 1,
    Alert,
    Critical,
    Error,
    Warning,
    Notice,
    Info,
    Debug,
}

impl LogLevel {
    fn from_number(number: i32) -> Self {
        match number {
            ..=1 => Self::Emergency,
            2 => Self::Alert,
            3 => Self::Critical,
            4 => Self::Error,
            5 => Self::Warning,
            6 => Self::Notice,
            7 => Self::Info,
            8.. => Self::Debug,
        }
    }
}

/// Takes one whole line of DPDK's log, without its line end.
///
/// It runs on whatever thread logged, and must not call DPDK.
pub type LogSink = fn(level: LogLevel, message: &str);

/// A line longer than this is handed on in pieces.
const LINE_BYTES_MAX: usize = 4096;
/// How many warnings and errors are remembered for the errors that they explain.
const COMPLAINTS_MAX: usize = 16;
/// How many of them one error carries.
const COMPLAINTS_PER_ERROR: usize = 3;

struct Journal {
    installed: bool,
    sink: LogSink,
    line: Vec<u8>,
    level: LogLevel,
    complaints: VecDeque<(u64, String)>,
    next: u64,
}

static JOURNAL: Mutex<Journal> = Mutex::new(Journal {
    installed: false,
    sink: to_standard_error,
    line: Vec::new(),
    level: LogLevel::Info,
    complaints: VecDeque::new(),
    next: 0,
});

fn journal() -> MutexGuard<'static, Journal> {
    JOURNAL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn to_standard_error(_level: LogLevel, message: &str) {
    // A log line that cannot be written has nowhere else to go.
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// Sends every line of DPDK's log to `sink` from now on. May be called before EAL starts, so
/// that the first line is already caught.
pub fn set_log_sink(sink: LogSink) -> Result<(), Error> {
    journal().sink = sink;
    install()
}

/// Sets how much DPDK logs.
pub fn set_log_level(level: LogLevel) {
    // SAFETY: sets a number in EAL's log state, which exists from the start of the program.
    unsafe { dpdk_sys::rte_log_set_global_level(level as u32) };
}

/// Puts our stream under DPDK's log, once.
pub(crate) fn install() -> Result<(), Error> {
    let mut journal = journal();
    if journal.installed {
        return Ok(());
    }
    // SAFETY: the callback has the C type that fopencookie wants and outlives the stream; the
    // stream is never closed, so DPDK may keep it for the life of the process.
    let stream = unsafe { dpdk_sys::shim_log_stream(Some(write)) };
    if stream.is_null() {
        return Err(Error::new(
            "fopencookie",
            system_errno(),
            "opening a stream for DPDK's log",
        ));
    }
    // SAFETY: the stream is open and stays open.
    unsafe { dpdk_sys::rte_openlog_stream(stream.cast()) };
    journal.installed = true;
    Ok(())
}

/// What the stream calls for each message, on the thread that logged it. The C library holds the
/// stream's lock meanwhile, so messages do not mix.
unsafe extern "C" fn write(_cookie: *mut c_void, text: *const c_char, size: usize) -> isize {
    // SAFETY: the C library passes `size` readable bytes, for the time of the call.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), size) };
    // SAFETY: reads a thread-local integer, which DPDK has set for the message being written.
    let level = LogLevel::from_number(unsafe { dpdk_sys::rte_log_cur_msg_loglevel() });
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        take(level, piece);
    }
    size.cast_signed()
}

fn take(level: LogLevel, piece: &[u8]) {
    let mut journal = journal();
    if journal.line.is_empty() {
        journal.level = level;
    }
    journal.line.extend_from_slice(piece);
    if !piece.ends_with(b"\n") && journal.line.len() < LINE_BYTES_MAX {
        return;
    }
    let line = std::mem::take(&mut journal.line);
    let line = String::from_utf8_lossy(&line);
    let line = line.trim_end();
    if line.is_empty() {
        return;
    }
    let (sink, level) = (journal.sink, journal.level);
    if level <= LogLevel::Warning && !is_harmless(line) {
        journal.remember(line);
    }
    // The sink runs without our lock: it may take as long as it likes.
    drop(journal);
    sink(level, line);
}

impl Journal {
    fn remember(&mut self, line: &str) {
        if self.complaints.len() == COMPLAINTS_MAX {
            self.complaints.pop_front();
        }
        self.complaints.push_back((self.next, line.to_owned()));
        self.next += 1;
    }
}

/// Lines that would be taken for the cause of a failure and never are: the want of pages of one
/// gigabyte, which healthy machines lack too, and what EAL says after the driver has told why.
fn is_harmless(line: &str) -> bool {
    [
        "1048576 kB hugepages",
        "Driver cannot attach the device",
        "Failed to attach device on primary",
    ]
    .iter()
    .any(|harmless| line.contains(harmless))
}

/// A point in the log.
#[derive(Clone, Copy)]
pub(crate) struct Mark(u64);

pub(crate) fn mark() -> Mark {
    Mark(journal().next)
}

/// The last warnings and errors since `mark`, oldest first.
pub(crate) fn complaints_since(mark: Mark) -> Vec<String> {
    let journal = journal();
    let since: Vec<_> = journal
        .complaints
        .iter()
        .filter(|(number, _)| *number >= mark.0)
        .collect();
    let surplus = since.len().saturating_sub(COMPLAINTS_PER_ERROR);
    since[surplus..]
        .iter()
        .map(|(_, line)| line.clone())
        .collect()
}
