//! Connections to the daemon's own doors that say nothing, and whether others are still answered.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use lab::daemon::Daemon;
use lab::{Error, Namespace, Result};

use crate::subjects::METRICS;

/// Connections that are held to each door: twice as many as the control socket has places.
const HELD: usize = 128;
/// How soon those that were sent away come again, and how many at once: slowly, since the place is what
/// they take from others, and not the time.
const AGAIN: Duration = Duration::from_millis(20);
const AT_ONCE: usize = 2;
/// How often the control socket and the metrics are asked in the midst of it.
const ASKED: u32 = 5;
const LIMIT: Duration = Duration::from_secs(5);

/// Of how many questions how many were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answers {
    pub(super) asked: u32,
    pub(super) control: u32,
    pub(super) metrics: u32,
    /// Connections that were opened in all.
    pub(super) opened: u64,
}

/// A thread that holds them, until it is dropped.
pub(super) struct Siege {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<u64>>>,
}

impl Siege {
    /// Begins to hold connections to the socket, and to the metrics of the name space.
    pub(super) fn begin(socket: &Path, namespace: &Namespace) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (socket, is_over) = (socket.to_owned(), Arc::clone(&stop));
        Ok(Self {
            stop,
            thread: Some(namespace.thread(move || hold(&socket, &is_over))?),
        })
    }

    /// Asks in the midst of it, then ends it.
    pub(super) fn end(mut self, daemon: &Daemon, namespace: &Namespace) -> Result<Answers> {
        let mut answers = Answers {
            asked: ASKED,
            ..Answers::default()
        };
        for _ in 0..ASKED {
            answers.control += u32::from(daemon.show("ports").is_ok());
            answers.metrics += u32::from(namespace.within(scrape)?.is_ok());
        }
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let held = thread.join();
            answers.opened = held.map_err(|_| Error::new("the siege's thread panicked"))??;
        }
        Ok(answers)
    }
}

impl Drop for Siege {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Holds as many as it may, opens those again that were closed, and gives how many there were.
fn hold(socket: &Path, is_over: &AtomicBool) -> u64 {
    let (mut opened, mut at_once) = (0, HELD);
    let mut controls: Vec<UnixStream> = Vec::new();
    let mut scrapes: Vec<TcpStream> = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        controls.retain_mut(is_open);
        scrapes.retain_mut(is_open);
        let control = || {
            let stream = UnixStream::connect(socket)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        let half = || {
            let mut stream = TcpStream::connect(METRICS)?;
            stream.write_all(b"GET /metrics HT")?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        opened += fill(&mut controls, at_once, control) + fill(&mut scrapes, at_once, half);
        at_once = AT_ONCE;
        std::thread::sleep(AGAIN);
    }
    opened
}

/// Opens as many as are missing, `at_once` at most; how many there were.
fn fill<S>(held: &mut Vec<S>, at_once: usize, open: impl Fn() -> std::io::Result<S>) -> u64 {
    let before = held.len();
    let missing = (HELD - before).min(at_once);
    held.extend((0..missing).map_while(|_| open().ok()));
    (held.len() - before) as u64
}

/// Whether the daemon has not closed it.
fn is_open(stream: &mut impl std::io::Read) -> bool {
    let read = stream.read(&mut [0; 64]);
    matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

fn scrape() -> std::io::Result<()> {
    let mut stream = TcpStream::connect(METRICS)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.starts_with("HTTP/1.1 200") {
        true => Ok(()),
        false => Err(std::io::Error::other("no metrics")),
    }
}
