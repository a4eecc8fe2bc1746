//! The log: one line an event, for a person or as JSON, on standard error. What DPDK logs becomes
//! part of it.

use std::io::IsTerminal;

use bindings::LogLevel as DpdkLevel;
use tracing_subscriber::filter::LevelFilter;
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
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match log.format {
        LogFormat::Human => lines
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let subscriber = Registry::default().with(filter).with(lines);
    let _ = tracing::subscriber::set_global_default(subscriber);
    LogControl { level }
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
