//! A link emulator in user space: every frame between two interfaces passes a [`simulator::Link`]
//! in each direction.
//!
//! The interfaces are the whole name space's purpose: its kernel must not use them itself.
//!
//! The second interface may be a tagged one: frames get the 802.1Q tag on their way there and lose
//! it on their way back, and what comes without that tag is not taken.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use simulator::{Link, LinkCounters, LinkSettings};

use crate::filter::tagged;
use crate::socket::PacketSocket;
use crate::{Error, Namespace, Result};

/// No emulated link lives longer than this.
pub const MAXIMUM_SECONDS: u64 = 3600;
/// Frames on their way in one direction; a link with a rate is bounded by its queue long before.
const MAXIMUM_FRAMES: usize = 200_000;
/// Frames taken from one side before the other is looked at.
const BURST: usize = 64;
/// The longest frame that is carried.
const FRAME_BYTES: usize = 9_216;

/// What is emulated between which interfaces.
#[derive(Clone, Debug)]
pub struct Settings {
    /// One end.
    pub a: String,
    /// The other end.
    pub b: String,
    /// The 802.1Q identifier of frames at `b`.
    pub b_vlan: Option<u16>,
    /// What happens to frames from `a` to `b`.
    pub forward: LinkSettings,
    /// What happens to frames from `b` to `a`.
    pub backward: LinkSettings,
    /// What makes two runs decide alike.
    pub seed: u64,
    /// How long, at most [`MAXIMUM_SECONDS`].
    pub seconds: u64,
}

/// What the two directions have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// From `a` to `b`.
    pub forward: LinkCounters,
    /// From `b` to `a`.
    pub backward: LinkCounters,
}

/// A link that a thread emulates. Dropping it cuts the link.
#[derive(Debug)]
pub struct Emulator {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Result<Report>>>>,
}

impl Emulator {
    /// Begins to carry frames in `namespace`.
    ///
    /// # Errors
    /// When the thread cannot be made. A wrong interface shows in [`Emulator::stop`].
    pub fn start(namespace: &Namespace, settings: Settings) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&stop);
        let thread = namespace.thread(move || carry(&settings, &shared))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Cuts the link and tells what it has done.
    ///
    /// # Errors
    /// When it could not carry frames.
    pub fn stop(mut self) -> Result<Report> {
        self.join()
    }

    fn join(&mut self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .take()
            .ok_or_else(|| Error::new("the emulated link is cut"))?
            .join()
            .map_err(|_| Error::new("the link emulator's thread panicked"))??
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.join();
    }
}

/// Emulates a link in the calling thread's name space, and returns when its time is over.
///
/// # Errors
/// When an interface is missing or goes down.
pub fn run(settings: &Settings) -> Result<Report> {
    carry(settings, &AtomicBool::new(false))
}

fn carry(settings: &Settings, stop: &AtomicBool) -> Result<Report> {
    if settings.seconds > MAXIMUM_SECONDS {
        return Err(Error::new(format!(
            "an emulated link lives at most {MAXIMUM_SECONDS} seconds"
        )));
    }
    let a = PacketSocket::open(&settings.a, &[])?;
    let b = PacketSocket::open(&settings.b, &settings.b_vlan.map_or_else(Vec::new, tagged))?;
    let mut forward = Direction::new(settings.forward, settings.seed, settings.b_vlan);
    let mut backward = Direction::new(settings.backward, !settings.seed, None);
    let started = Instant::now();
    let limit = Duration::from_secs(settings.seconds);
    let failed = |e: io::Error| Error::because(format!("{} – {}", settings.a, settings.b), e);
    while !stop.load(Ordering::Relaxed) && started.elapsed() < limit {
        let now_ns = nanoseconds(started);
        let mut busy = forward.take(&a, now_ns).map_err(failed)?;
        busy |= backward.take(&b, now_ns).map_err(failed)?;
        let now_ns = nanoseconds(started);
        forward.give(&b, now_ns).map_err(failed)?;
        backward.give(&a, now_ns).map_err(failed)?;
        if !busy {
            let due_ns = forward.next_due().min(backward.next_due());
            wait(&a, &b, Duration::from_nanos(due_ns.saturating_sub(now_ns))).map_err(failed)?;
        }
    }
    Ok(Report {
        forward: forward.link.counters(),
        backward: backward.link.counters(),
    })
}

fn nanoseconds(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Waits for a frame on either side, until one on its way is due, or for a short while.
fn wait(a: &PacketSocket, b: &PacketSocket, until_due: Duration) -> io::Result<()> {
    let limit = until_due.min(Duration::from_millis(20));
    let mut sides = [
        PollFd::new(a.as_fd(), PollFlags::POLLIN),
        PollFd::new(b.as_fd(), PollFlags::POLLIN),
    ];
    ppoll(&mut sides, Some(TimeSpec::from_duration(limit)), None)?;
    Ok(())
}

/// One direction: the link that decides, and the frames on their way.
struct Direction {
    link: Link,
    frames: BinaryHeap<Reverse<Due>>,
    taken: u64,
    buffer: Vec<u8>,
    /// The tag that frames get.
    vlan: Option<u16>,
}

/// A frame on its way. Two that are due at once keep the order they came in.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at_ns: u64,
    number: u64,
    frame: Vec<u8>,
}

impl Direction {
    fn new(settings: LinkSettings, seed: u64, vlan: Option<u16>) -> Self {
        Self {
            link: Link::new(settings, seed),
            frames: BinaryHeap::new(),
            taken: 0,
            buffer: vec![0; FRAME_BYTES],
            vlan,
        }
    }

    /// Takes waiting frames; tells whether more may wait.
    fn take(&mut self, from: &PacketSocket, now_ns: u64) -> io::Result<bool> {
        for _ in 0..BURST {
            if self.frames.len() >= MAXIMUM_FRAMES {
                return Ok(false);
            }
            let Some(length) = from.receive(&mut self.buffer)? else {
                return Ok(false);
            };
            for at_ns in self.link.offer(length, now_ns) {
                self.taken += 1;
                self.frames.push(Reverse(Due {
                    at_ns,
                    number: self.taken,
                    frame: tag(&self.buffer[..length], self.vlan),
                }));
            }
        }
        Ok(true)
    }

    /// Gives the frames that are due to the other side.
    fn give(&mut self, to: &PacketSocket, now_ns: u64) -> io::Result<()> {
        while self.next_due() <= now_ns {
            if let Some(Reverse(due)) = self.frames.pop() {
                to.send(&due.frame)?;
            }
        }
        Ok(())
    }

    fn next_due(&self) -> u64 {
        self.frames.peek().map_or(u64::MAX, |due| due.0.at_ns)
    }
}

/// A copy of the frame, tagged if it is to be.
fn tag(frame: &[u8], vlan: Option<u16>) -> Vec<u8> {
    match (vlan, frame.split_at_checked(12)) {
        (Some(vlan), Some((addresses, rest))) => {
            let [high, low] = vlan.to_be_bytes();
            [addresses, &[0x81, 0x00, high, low], rest].concat()
        }
        _ => frame.to_vec(),
    }
}
