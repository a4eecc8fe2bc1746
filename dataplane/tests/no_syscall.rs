//! A worker makes no system call. It runs on DPDK's buffers and rings under strace, with marks
//! before and after 100,000 packets, between which its thread must stay silent.
#![forbid(unsafe_code)]

mod rig;

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arrayvec::ArrayVec;
use bindings::mempool::MempoolConfig;
use bindings::ring::{MbufRing, Receiver, Sender};
use bindings::{Clock, Eal, EalConfig, Mbuf, Mempool};
use dataplane::command::desk;
use dataplane::counters::{Event, Published};
use dataplane::drop_reason::DropReason;
use dataplane::fragment::Reassembler;
use dataplane::guard::Guard;
use dataplane::hop::Hop;
use dataplane::io::{Io, PortId};
use dataplane::mesh::Mesh;
use dataplane::packet::Burst;
use dataplane::parse::{flags, protocol};
use dataplane::transmit::{Transmit, TransmitWay};
use dataplane::wire::address::{Address, Family};
use dataplane::wire::arp::ArpOperation;
use dataplane::worker::{Time, Worker, WorkerParts};

use rig::conversation::Conversation;
use rig::packets::{address, echo, fragments, too_big, udp};
use rig::{Rig, Setup, Side};

/// Set for the process that is watched: `quiet`, or `noisy` to call the system all the same.
const CHILD: &str = "TIDEGATE_TEST_WATCHED";
const BEGIN: &str = "the loop begins";
const END: &str = "the loop ends";
const PACKETS: u64 = 100_000;
const RING: u32 = 1024;

/// A worker's ends of two ports.
struct RingIo {
    receivers: ArrayVec<Receiver, 2>,
    senders: ArrayVec<Sender, 2>,
    pool: Mempool,
}

impl Io for RingIo {
    type Buffer = Mbuf;

    fn receive(&mut self, port: PortId, burst: &mut Burst<Mbuf>) -> usize {
        self.receivers[usize::from(port.0)].receive_burst(burst)
    }

    fn transmit(&mut self, port: PortId, burst: &mut Burst<Mbuf>) -> usize {
        self.senders[usize::from(port.0)].send_burst(burst)
    }

    fn allocate(&mut self) -> Option<Mbuf> {
        self.pool.allocate()
    }
}

/// A worker, and the other ends of its ports.
struct Bench {
    worker: Worker<RingIo>,
    senders: ArrayVec<Sender, 2>,
    receivers: ArrayVec<Receiver, 2>,
    pool: Mempool,
    clock: Clock,
}

impl Bench {
    fn new(eal: &Eal) -> Self {
        let config = MempoolConfig {
            name: "frames".into(),
            count: 8191,
            ..MempoolConfig::default()
        };
        let pool = Mempool::new(eal, &config).expect("memory for a pool");
        let (mut senders, mut receivers) = (ArrayVec::new(), ArrayVec::new());
        let mut io = RingIo {
            receivers: ArrayVec::new(),
            senders: ArrayVec::new(),
            pool: pool.clone(),
        };
        for _ in Side::BOTH {
            let (sender, receiver) = MbufRing::new(eal, "in", RING, None).expect("a ring");
            senders.push(sender);
            io.receivers.push(receiver);
            let (sender, receiver) = MbufRing::new(eal, "out", RING, None).expect("a ring");
            io.senders.push(sender);
            receivers.push(receiver);
        }
        let configuration = Setup::default().configuration();
        let worker = Worker::new(WorkerParts {
            io,
            receives: Side::BOTH.into_iter().map(Side::port).collect(),
            hop: Hop::new(Arc::clone(&configuration.hop), 7),
            fragments: Reassembler::new(11),
            guard: Guard::new(configuration.guard, 1024, [1, 2]),
            mesh: Mesh::new(1).remove(0),
            transmit: Transmit::new(&[TransmitWay::Queue; 2]),
            published: Published::new(),
            desk: desk().1,
            peers: None,
        });
        Self {
            worker,
            senders,
            receivers,
            pool,
            clock: Clock::start(),
        }
    }

    /// Puts a frame before a port.
    fn send(&mut self, side: Side, frame: &[u8]) {
        let mut buffer = self.pool.allocate().expect("a free buffer");
        assert!(buffer.set_data(frame));
        let mut burst = Burst::from_iter([buffer]);
        assert_eq!(self.senders[side as usize].send_burst(&mut burst), 1);
    }

    fn poll(&mut self) {
        let now_ns = self.clock.now_ns();
        self.worker.poll(Time {
            now_ns,
            unix_ms: 1_700_000_000_000 + now_ns / 1_000_000,
        });
    }

    /// Frees what has left; tells how much it was.
    fn drain(&mut self) -> u64 {
        let mut burst = Burst::new();
        let mut count = 0;
        for receiver in &mut self.receivers {
            while receiver.receive_burst(&mut burst) > 0 {
                count += burst.len() as u64;
                burst.clear();
            }
        }
        count
    }

    /// The segment that leaves outside after a frame, whatever else leaves with it.
    fn exchange(&mut self, from: Side, frame: &[u8]) -> Vec<u8> {
        self.send(from, frame);
        self.poll();
        let mut burst = Burst::new();
        self.receivers[Side::Outside as usize].receive_burst(&mut burst);
        let mut packets = burst.iter().map(|left| left.data()[14..].to_vec());
        let is_segment = |packet: &Vec<u8>| packet[0] >> 4 == 4 && packet[9] == protocol::TCP;
        packets.find(is_segment).expect("a segment")
    }
}

/// Frames that come again and again: of a session, and of nobody; and what answers them.
fn traffic(bench: &mut Bench, rig: &Rig) -> Vec<(Side, Vec<u8>)> {
    // Both neighbours are known once they have asked for us.
    for (side, theirs, ours) in [
        (Side::Outside, "192.0.2.254", "192.0.2.1"),
        (Side::Inside, "10.0.0.10", "10.0.0.1"),
    ] {
        let asked = rig.arp(side, ArpOperation::Request, address(theirs), address(ours));
        bench.send(side, &asked);
    }
    bench.poll();
    bench.drain();
    let mut frames = Vec::new();
    let mut add = |side, packet: &[u8]| frames.push((side, rig.framed(side, packet)));
    let mut talk = Conversation::new(Family::V4, 1);
    let syn = rig.framed(Side::Outside, &talk.syn());
    talk.take_cookie(&bench.exchange(Side::Outside, &syn));
    let ack = rig.framed(Side::Outside, &talk.client_sends(flags::ACK, b""));
    bench.send(Side::Outside, &ack);
    bench.poll();
    bench.drain();
    bench.send(Side::Inside, &rig.framed(Side::Inside, &talk.syn_ack()));
    bench.poll();
    bench.drain();
    assert_eq!(bench.worker.counters().event(Event::SessionOpened), 1);
    let data = talk.clone().server_sends(flags::ACK, &[7; 1000]);
    let left = bench.exchange(Side::Inside, &rig.framed(Side::Inside, &data));
    add(Side::Inside, &data);
    add(
        Side::Outside,
        &talk.clone().client_sends(flags::ACK, &[7; 1000]),
    );
    add(Side::Outside, &too_big(talk.client, 1280, &left));
    add(
        Side::Outside,
        &talk.client_segment(7, 9, flags::ACK, &[], b"far off"),
    );
    for number in 2..6 {
        let other = Conversation::new(Family::V4, number);
        add(Side::Outside, &other.syn());
        add(
            Side::Outside,
            &other.client_segment(1, 2, flags::ACK, &[], b"forged"),
        );
    }
    let stranger: Address = address("203.0.113.9");
    add(
        Side::Outside,
        &udp(stranger, talk.server, (5, 53), b"question"),
    );
    add(
        Side::Outside,
        &echo(stranger, address("192.0.2.1"), b"ping"),
    );
    for piece in fragments(&udp(stranger, talk.server, (6, 53), &[7; 900]), 5, 400) {
        add(Side::Outside, &piece);
    }
    frames.push((Side::Outside, vec![7; 60]));
    frames
}

/// What is watched: everything is made before the first mark.
fn watched(noisy: bool) {
    let eal = Eal::init(&EalConfig {
        file_prefix: format!("tidegate-test-quiet-{}", std::process::id()),
        memory_mib: 128,
        ..EalConfig::default()
    })
    .expect("EAL starts without huge pages");
    let _registration = bindings::eal::register_thread().expect("a thread that EAL knows");
    let mut bench = Bench::new(&eal);
    let frames = traffic(&mut bench, &Rig::new(Setup::default()));
    // Unbuffered, so that each mark is one call.
    let mut marks = std::io::stderr();
    let mut left = 0;
    for round in 0..2 {
        // The first round warms up.
        if round == 1 {
            marks.write_all(BEGIN.as_bytes()).expect("a mark");
        }
        let received = bench.worker.counters().event(Event::Received);
        while bench.worker.counters().event(Event::Received) < received + PACKETS {
            for (side, frame) in &frames {
                bench.send(*side, frame);
            }
            bench.poll();
            left += bench.drain();
        }
        if noisy {
            std::thread::yield_now();
        }
    }
    marks.write_all(END.as_bytes()).expect("a mark");
    let counters = bench.worker.counters();
    assert!(left > PACKETS / 4, "{left}");
    for event in [
        Event::Spliced,
        Event::CookieSent,
        Event::IcmpTranslated,
        Event::Reassembled,
    ] {
        assert!(counters.event(event) > PACKETS / 100, "{}", event.label());
    }
    assert!(counters.drops(DropReason::CookieInvalid) > PACKETS / 100);
    assert!(counters.drops(DropReason::UnknownEtherType) > PACKETS / 100);
}

/// The calls that the thread which sets the marks makes between them.
fn calls_between_marks(log: &str) -> Vec<&str> {
    let quoted = |mark: &str| format!("\"{mark}\"");
    let of_mark = |mark: &str| {
        let found = log.lines().position(|line| line.contains(&quoted(mark)));
        found.unwrap_or_else(|| panic!("strace saw no mark {mark:?}:\n{log}"))
    };
    let (begin, end) = (of_mark(BEGIN), of_mark(END));
    let thread = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(
        thread(lines[begin]),
        thread(lines[end]),
        "one thread sets both marks"
    );
    let of_thread = lines[begin + 1..end]
        .iter()
        .filter(|line| thread(line) == thread(lines[begin]));
    // A signal is nothing that the thread asked for; nor is the rest of a call that began before.
    let others = ["---", "+++", "resumed>"];
    let calls = of_thread.filter(|line| !others.iter().any(|other| line.contains(other)));
    calls.copied().collect()
}

/// Runs this test program again under strace.
fn trace(kind: &str) -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let log = folder.join(format!("strace-{kind}-{}.log", std::process::id()));
    let program = std::env::current_exe().expect("this program");
    let output = Command::new("strace")
        .args(["-f", "-e", "trace=all", "-o"])
        .arg(&log)
        .arg(program)
        .args(["--exact", "a_worker_makes_no_system_call", "--nocapture"])
        .env(CHILD, kind)
        .output()
        .expect("strace is installed (make deps)");
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let _ = std::fs::remove_file(&log);
    assert!(
        output.status.success(),
        "the watched program failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

#[test]
fn a_worker_makes_no_system_call() {
    match std::env::var(CHILD).as_deref() {
        Ok(kind) => watched(kind == "noisy"),
        Err(_) => assert_eq!(calls_between_marks(&trace("quiet")), [""; 0]),
    }
}

#[test]
fn a_worker_that_makes_one_is_found_out() {
    let log = trace("noisy");
    let calls = calls_between_marks(&log);
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert!(calls[0].contains("sched_yield()"), "{calls:?}");
}
