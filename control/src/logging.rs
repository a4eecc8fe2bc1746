//! The log: one line an event, for a person or as JSON, on standard error. What DPDK logs becomes
//! part of it. Lines for a person tell journald how severe they are, where it reads them.

use std::fs::File;
use std::io::{self, IsTerminal, Stderr, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use bindings::LogLevel as DpdkLevel;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::profile::{Log, LogFormat, LogLevel};

/// Changes what is logged while the process runs.
pub(crate) struct LogControl {
    level: reload::Handle<LevelFilter, Registry>,
}

impl LogControl {
    /// Writes lines of `level` and above from now on.
    pub(crate) fn set_level(&self, level: LogLevel) {
        // It fails only when the subscriber is gone, and with it every line.
        let _ = self.level.reload(filter_of(level));
        bindings::log::set_log_level(dpdk_level_of(level));
    }
}

fn filter_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// What DPDK is told to log, so that what would not be written is not made.
pub(crate) fn dpdk_level_of(level: LogLevel) -> DpdkLevel {
    match level {
        LogLevel::Error => DpdkLevel::Error,
        LogLevel::Warn => DpdkLevel::Warning,
        LogLevel::Info => DpdkLevel::Notice,
        LogLevel::Debug => DpdkLevel::Info,
        LogLevel::Trace => DpdkLevel::Debug,
    }
}

/// Begins the log of this process; a second call changes nothing.
pub(crate) fn start(log: Log) -> LogControl {
    let (filter, level) = reload::Layer::new(filter_of(log.level));
    let is_journal = log.format == LogFormat::Human && is_journal(io::stderr());
    let lines = fmt::layer().with_writer(LogWriter { is_journal });
    let lines = match log.format {
        LogFormat::Human => lines
            .with_target(false)
            .with_ansi(io::stderr().is_terminal())
            .boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let subscriber = Registry::default().with(filter).with(lines);
    let _ = tracing::subscriber::set_global_default(subscriber);
    LogControl { level }
}

/// Whether journald reads what is written there: it says by a variable which file is its own
/// (systemd.exec(5)).
fn is_journal(stream: impl AsFd) -> bool {
    let is_its_own = |named: &str| {
        let file = File::from(stream.as_fd().try_clone_to_owned().ok()?);
        let here = file.metadata().ok()?;
        Some(named == format!("{}:{}", here.dev(), here.ino()))
    };
    std::env::var("JOURNAL_STREAM").is_ok_and(|named| is_its_own(&named) == Some(true))
}

/// Standard error.
struct LogWriter {
    /// Whether journald reads it.
    is_journal: bool,
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LineWriter<Stderr>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter::new(io::stderr(), None)
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        let priority = self.is_journal.then(|| priority_of(*metadata.level()));
        LineWriter::new(io::stderr(), priority)
    }
}

/// The priority of syslog (sd-daemon(3)).
fn priority_of(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// Writes an event's lines, each behind its priority.
struct LineWriter<W> {
    output: W,
    priority: Option<u8>,
}

impl<W: Write> LineWriter<W> {
    fn new(output: W, priority: Option<u8>) -> Self {
        Self { output, priority }
    }
}

impl<W: Write> Write for LineWriter<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let Some(priority) = self.priority else {
            return self.output.write(event);
        };
        let mut text = Vec::with_capacity(event.len() + 16);
        for line in event.split_inclusive(|&byte| byte == b'\n') {
            text.extend_from_slice(format!("<{priority}>").as_bytes());
            text.extend_from_slice(line);
        }
        self.output.write_all(&text)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// Takes a line of DPDK's log.
pub(crate) fn dpdk_line(level: DpdkLevel, message: &str) {
    let message = message.trim();
    if message.is_empty() {
        return;
    }
    match level {
        DpdkLevel::Emergency | DpdkLevel::Alert | DpdkLevel::Critical | DpdkLevel::Error => {
            tracing::error!(target: "dpdk", "DPDK: {message}");
        }
        // Said on every machine that has no huge pages of that size, and taken for the cause of
        // every other failure.
        DpdkLevel::Warning if message.contains("hugepages reported on node") => {
            tracing::debug!(target: "dpdk", "DPDK: {message}");
        }
        DpdkLevel::Warning => tracing::warn!(target: "dpdk", "DPDK: {message}"),
        DpdkLevel::Notice => tracing::info!(target: "dpdk", "DPDK: {message}"),
        DpdkLevel::Info => tracing::debug!(target: "dpdk", "DPDK: {message}"),
        DpdkLevel::Debug => tracing::trace!(target: "dpdk", "DPDK: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // I3
    #[test]
    fn i3_each_line_for_journald_begins_with_its_priority() {
        let written = |priority, event: &str| {
            let mut bytes = Vec::new();
            let mut writer = LineWriter::new(&mut bytes, priority);
            writer.write_all(event.as_bytes()).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        let warn = Some(priority_of(Level::WARN));
        assert_eq!(written(warn, "one\ntwo\n"), "<4>one\n<4>two\n");
        let error = Some(priority_of(Level::ERROR));
        assert_eq!(written(error, "one\n"), "<3>one\n");
        assert_eq!(written(None, "one\ntwo\n"), "one\ntwo\n");
        assert_eq!(
            (priority_of(Level::INFO), priority_of(Level::DEBUG)),
            (6, 7)
        );
    }
}
