//! Signals: none ends the daemon without draining, but for those that cannot be caught and those of
//! the program's own faults.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// To drain and end; at once when asked again.
    Terminate,
    /// To read the profile and the keys again.
    Reload,
}

/// Signals that would end the process and mean nothing here, by their names and their numbers on
/// Linux: tools send them to the wrong process, or to a whole group.
const IGNORED: [(&str, i32); 10] = [
    ("SIGUSR1", 10),
    ("SIGUSR2", 12),
    ("SIGALRM", 14),
    ("SIGSTKFLT", 16),
    ("SIGXCPU", 24),
    ("SIGXFSZ", 25),
    ("SIGVTALRM", 26),
    ("SIGPROF", 27),
    ("SIGIO", 29),
    ("SIGPWR", 30),
];
/// Those of real time that the C library leaves to programs.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// The signals, caught from now on.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    reload: Signal,
}

impl Signals {
    /// Catches them; to be called within the runtime.
    pub(super) fn catch() -> io::Result<Self> {
        let named = IGNORED.map(|(name, number)| (name.to_owned(), number));
        let real_time = REAL_TIME.map(|number| (format!("signal {number}"), number));
        for (name, number) in named.into_iter().chain(real_time) {
            let mut ignored = signal(SignalKind::from_raw(number))?;
            tokio::spawn(async move {
                while ignored.recv().await.is_some() {
                    info!(
                        "{name} is ignored; SIGTERM drains and ends, SIGHUP reloads the profile, \
                         `tidegate show` tells the rest"
                    );
                }
            });
        }
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            reload: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one that asks for something.
    pub(super) async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.terminate.recv() => Order::Terminate,
            _ = self.interrupt.recv() => Order::Terminate,
            _ = self.quit.recv() => Order::Terminate,
            _ = self.reload.recv() => Order::Reload,
        }
    }
}
