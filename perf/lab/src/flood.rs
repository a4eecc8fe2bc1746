//! A generator of spoofed SYNs and forged ACKs: bounded in rate, time and count.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::Serialize;
use simulator::Random;

use crate::frame::{Tcp, flag};
use crate::socket::{PacketSocket, hardware_address};
use crate::{Error, Namespace, Result, address};

/// No flood is faster than this.
pub const MAXIMUM_RATE: u64 = 2_000_000;
/// No flood lasts longer than this.
pub const MAXIMUM_SECONDS: u64 = 600;
/// The generator wakes this often to send what is due.
const TICK: Duration = Duration::from_micros(500);
/// What is due after a long pause is forgotten beyond this many packets.
const MAXIMUM_BURST: u64 = 512;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SYNs only.
    Syn,
    /// ACKs with a forged cookie only.
    Ack,
    /// Both, in turn by chance.
    Mixed,
}

/// A flood to be sent.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The interface that it leaves by.
    pub interface: String,
    /// The hardware address of the first hop.
    pub gateway: [u8; 6],
    /// Whom it is for; each packet takes one by chance.
    pub destinations: Vec<SocketAddr>,
    /// What is sent.
    pub kind: Kind,
    /// Packets a second, at most [`MAXIMUM_RATE`].
    pub rate: u64,
    /// How long, at most [`MAXIMUM_SECONDS`].
    pub seconds: u64,
    /// Where IPv4 packets claim to come from.
    pub spoofed_ipv4: Ipv4Network,
    /// Where IPv6 packets claim to come from.
    pub spoofed_ipv6: Ipv6Network,
    /// What makes two runs send the same packets.
    pub seed: u64,
}

impl Settings {
    /// A flood from the lab's spoofed nets.
    #[must_use]
    pub fn of_lab(
        interface: &str,
        gateway: [u8; 6],
        destinations: Vec<SocketAddr>,
        kind: Kind,
        rate: u64,
        seconds: u64,
    ) -> Self {
        let (spoofed_ipv4, spoofed_ipv6) = spoofed_nets();
        Self {
            interface: interface.to_owned(),
            gateway,
            destinations,
            kind,
            rate,
            seconds,
            spoofed_ipv4,
            spoofed_ipv6,
            seed: 1,
        }
    }
}

static SPOOFED_NETS: LazyLock<(Ipv4Network, Ipv6Network)> = LazyLock::new(|| {
    let [ipv4, ipv6] = address::SPOOFED;
    let message = "the lab's plan of addresses holds nets";
    (ipv4.parse().expect(message), ipv6.parse().expect(message))
});

/// The nets of [`address::SPOOFED`].
#[must_use]
pub fn spoofed_nets() -> (Ipv4Network, Ipv6Network) {
    *SPOOFED_NETS
}

/// Whether an address lies in [`address::SPOOFED`].
#[must_use]
pub fn is_spoofed(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => SPOOFED_NETS.0.contains(address),
        IpAddr::V6(address) => SPOOFED_NETS.1.contains(address),
    }
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// SYNs.
    pub syns: u64,
    /// Forged ACKs.
    pub acks: u64,
    /// Packets that the interface had no room for; they are not counted above.
    pub refused: u64,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
}

impl Sent {
    /// All that was sent.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.syns + self.acks
    }
}

#[derive(Debug, Default)]
struct Progress {
    stop: AtomicBool,
    syns: AtomicU64,
    acks: AtomicU64,
}

/// A flood that is being sent by a thread. Dropping it stops it.
#[derive(Debug)]
pub struct Flood {
    progress: Arc<Progress>,
    thread: Option<JoinHandle<Result<Result<Sent>>>>,
}

impl Flood {
    /// Begins to send from `namespace`.
    ///
    /// # Errors
    /// When the thread cannot be made. A wrong interface shows in [`Flood::stop`].
    pub fn start(namespace: &Namespace, settings: Settings) -> Result<Self> {
        let progress = Arc::new(Progress::default());
        let shared = Arc::clone(&progress);
        let thread = namespace.thread(move || send(&settings, &shared))?;
        Ok(Self {
            progress,
            thread: Some(thread),
        })
    }

    /// How many SYNs and ACKs have been sent so far.
    #[must_use]
    pub fn so_far(&self) -> (u64, u64) {
        (
            self.progress.syns.load(Ordering::Relaxed),
            self.progress.acks.load(Ordering::Relaxed),
        )
    }

    /// Ends it, if its time is not over, and tells what was sent.
    ///
    /// # Errors
    /// When it could not send.
    pub fn stop(mut self) -> Result<Sent> {
        self.progress.stop.store(true, Ordering::Relaxed);
        self.join()
    }

    /// Waits until its time is over and tells what was sent.
    ///
    /// # Errors
    /// When it could not send.
    pub fn wait(mut self) -> Result<Sent> {
        self.join()
    }

    fn join(&mut self) -> Result<Sent> {
        self.thread
            .take()
            .ok_or_else(|| Error::new("the flood has ended"))?
            .join()
            .map_err(|_| Error::new("the flood's thread panicked"))??
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.progress.stop.store(true, Ordering::Relaxed);
        let _ = self.join();
    }
}

/// Sends a flood from the calling thread's name space, and returns when its time is over.
///
/// # Errors
/// When the settings are out of bounds, or the interface is missing or down.
pub fn run(settings: &Settings) -> Result<Sent> {
    send(settings, &Progress::default())
}

fn send(settings: &Settings, progress: &Progress) -> Result<Sent> {
    check(settings)?;
    let socket = PacketSocket::open(&settings.interface, &[])?;
    let own = hardware_address(&settings.interface)?;
    let mut forge = Forge::new(settings, own);
    let mut sent = Sent::default();
    let mut forgotten = 0;
    let started = Instant::now();
    let limit = Duration::from_secs(settings.seconds);
    while !progress.stop.load(Ordering::Relaxed) {
        let elapsed = started.elapsed();
        if elapsed >= limit {
            break;
        }
        let due = due_by(elapsed, settings.rate);
        let done = sent.total() + sent.refused + forgotten;
        let burst = due.saturating_sub(done);
        forgotten += burst.saturating_sub(MAXIMUM_BURST);
        for _ in 0..burst.min(MAXIMUM_BURST) {
            let is_syn = forge.next();
            match socket.send(&forge.frame) {
                Ok(true) if is_syn => sent.syns += 1,
                Ok(true) => sent.acks += 1,
                Ok(false) => sent.refused += 1,
                Err(e) => return Err(Error::because(&settings.interface, e)),
            }
        }
        progress.syns.store(sent.syns, Ordering::Relaxed);
        progress.acks.store(sent.acks, Ordering::Relaxed);
        std::thread::sleep(TICK);
    }
    sent.milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(sent)
}

fn check(settings: &Settings) -> Result<()> {
    if settings.destinations.is_empty() {
        return Err(Error::new("the flood has no destination"));
    }
    if settings.rate > MAXIMUM_RATE || settings.seconds > MAXIMUM_SECONDS {
        return Err(Error::new(format!(
            "a flood has at most {MAXIMUM_RATE} packets a second for {MAXIMUM_SECONDS} seconds"
        )));
    }
    Ok(())
}

fn due_by(elapsed: Duration, rate: u64) -> u64 {
    let due = elapsed.as_nanos() * u128::from(rate) / 1_000_000_000;
    u64::try_from(due).unwrap_or(u64::MAX)
}

/// Writes one packet of the flood after the other.
struct Forge<'a> {
    settings: &'a Settings,
    hardware: ([u8; 6], [u8; 6]),
    random: Random,
    frame: Vec<u8>,
}

impl<'a> Forge<'a> {
    fn new(settings: &'a Settings, own: [u8; 6]) -> Self {
        Self {
            settings,
            hardware: (own, settings.gateway),
            random: Random::new(settings.seed),
            frame: Vec::with_capacity(256),
        }
    }

    /// Writes the next frame and tells whether it is a SYN.
    fn next(&mut self) -> bool {
        let count = self.settings.destinations.len() as u64;
        let chosen = usize::try_from(self.random.below(count)).unwrap_or(0);
        let destination = self.settings.destinations[chosen];
        let is_syn = match self.settings.kind {
            Kind::Syn => true,
            Kind::Ack => false,
            Kind::Mixed => self.random.chance(0.5),
        };
        let bits = self.random.next_u64();
        let sequence = u32::try_from(bits >> 32).unwrap_or(0);
        let acknowledgement = u32::try_from(bits & 0xffff_ffff).unwrap_or(0);
        let shape = self.random.next_u64();
        let source_port = 1024 + u16::try_from(shape % 64_000).unwrap_or(0);
        let with_timestamps = shape & (1 << 32) != 0;
        let options = options(is_syn, with_timestamps, shape);
        let payload: &[u8] = match is_syn {
            false if shape & (7 << 33) == 0 => b"GET / HTTP/1.1\r\nHost: server\r\n\r\n",
            _ => b"",
        };
        let source = (self.source(destination.ip()), source_port).into();
        let tcp = Tcp {
            source,
            destination,
            sequence,
            acknowledgement: if is_syn { 0 } else { acknowledgement },
            flags: match (is_syn, payload.is_empty()) {
                (true, _) => flag::SYN,
                (false, true) => flag::ACK,
                (false, false) => flag::ACK | flag::PSH,
            },
            options: &options,
            payload,
        };
        tcp.write(self.hardware, &mut self.frame);
        is_syn
    }

    fn source(&mut self, destination: IpAddr) -> IpAddr {
        if destination.is_ipv4() {
            let net = self.settings.spoofed_ipv4;
            let host = u32::try_from(self.random.next_u64() >> 32).unwrap_or(0);
            let bits = net.network().to_bits() | (host & !net.mask().to_bits());
            IpAddr::V4(bits.into())
        } else {
            let net = self.settings.spoofed_ipv6;
            let host =
                u128::from(self.random.next_u64()) << 64 | u128::from(self.random.next_u64());
            let bits = net.network().to_bits() | (host & !net.mask().to_bits());
            IpAddr::V6(bits.into())
        }
    }
}

/// Options as common systems send them.
fn options(is_syn: bool, with_timestamps: bool, shape: u64) -> Vec<u8> {
    let clock = shape.to_be_bytes();
    let echo = if is_syn {
        [0; 4]
    } else {
        [clock[4], clock[5], clock[6], clock[7]]
    };
    let mut timestamps = vec![8, 10, clock[0], clock[1], clock[2], clock[3]];
    timestamps.extend(echo);
    match (is_syn, with_timestamps) {
        (true, true) => [&[2, 4, 0x05, 0xb4, 4, 2][..], &timestamps, &[1, 3, 3, 7]].concat(),
        (true, false) => vec![2, 4, 0x05, 0xb4, 1, 3, 3, 8, 1, 1, 4, 2],
        (false, true) => [&[1, 1][..], &timestamps].concat(),
        (false, false) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::read;

    fn settings(kind: Kind) -> Settings {
        let destinations = vec![
            "10.0.0.10:80".parse().unwrap(),
            "[fd00:1::10]:80".parse().unwrap(),
        ];
        Settings::of_lab("wan0", [2; 6], destinations, kind, 1000, 1)
    }

    #[test]
    fn sources_are_spoofed_and_vary_and_both_kinds_and_families_come() {
        let settings = settings(Kind::Mixed);
        let mut forge = Forge::new(&settings, [4; 6]);
        let mut sources = std::collections::HashSet::new();
        let mut counts = [[0; 2]; 2];
        for _ in 0..4000 {
            let is_syn = forge.next();
            let seen = read(&forge.frame).unwrap();
            assert!(is_spoofed(seen.source.ip()), "{seen:?}");
            assert_eq!(seen.flags & flag::SYN != 0, is_syn);
            assert_eq!(seen.flags & flag::ACK == 0, is_syn);
            assert!(forge.frame.len() <= 120);
            sources.insert(seen.source.ip());
            counts[usize::from(is_syn)][usize::from(seen.source.is_ipv4())] += 1;
        }
        assert!(sources.len() > 3900);
        assert!(
            counts.iter().flatten().all(|&count| count > 800),
            "{counts:?}"
        );
    }

    #[test]
    fn a_flood_without_bounds_is_refused() {
        for wrong in [
            Settings {
                rate: MAXIMUM_RATE + 1,
                ..settings(Kind::Syn)
            },
            Settings {
                seconds: MAXIMUM_SECONDS + 1,
                ..settings(Kind::Syn)
            },
            Settings {
                destinations: Vec::new(),
                ..settings(Kind::Syn)
            },
        ] {
            assert!(run(&wrong).is_err());
        }
    }

    #[test]
    fn clients_of_the_lab_are_not_spoofed() {
        for number in 0..address::CLIENTS {
            assert!(!address::client(number).into_iter().any(is_spoofed));
        }
    }
}
