//! Random mixes of frames, faults and commands.

use dataplane::command::Command;
use dataplane::command::WorkerStatus;
use dataplane::counters::Counters;
use dataplane::guard::config::{Mode, Unknown};
use dataplane::parse::flags;
use dataplane::wire::address::{Address, Family};
use dataplane::wire::arp::ArpOperation;
use proptest::prelude::*;

use super::conversation::{Conversation, see};
use super::packets::{address, echo, fragments, icmp_error, ip, port_unreachable, too_big, udp};
use super::{DENIED, REJECTED, Rig, Setup, Side, described, facts};

const TALKS: usize = 6;

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// An end of a connection does something.
    Talk(usize, Act),
    /// A datagram of someone outside: which one, where to, how long.
    Datagram(u8, Where, u16),
    /// Fragments of a datagram: its number, octets of each, which of them come (a bit each).
    Fragments(u8, u16, u8),
    /// The last frame that left by a side comes back in an ICMP error.
    Error(Side, ErrorKind),
    /// Someone asks or claims.
    Arp(Side, u8, u8, bool),
    /// A flood of SYNs and forged ACKs.
    Flood(u8),
    /// An earlier frame again, with some octets changed.
    Again(u8, Vec<(u16, u8)>, Option<u16>),
    /// Octets.
    Noise(Side, Vec<u8>),
    /// How much room there is to send, and how many buffers to make packets in.
    Room(Option<u8>, Option<u8>),
    /// Whether the stations around answer.
    Neighbours(bool),
    /// Time passes.
    Wait(u16),
    /// The control thread asks for something.
    Command(u8),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// A whole handshake.
    Open,
    Syn,
    Ack,
    Data(u8),
    Fin,
    Reset,
    ServerSynAck,
    ServerData(u8),
    ServerFin,
    ServerReset,
    Stray(u8, u32, u32),
    /// A segment in fragments.
    Cut,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Where {
    Server,
    Us,
    Nowhere,
    NobodyInside(u8),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ErrorKind {
    TooBig,
    PortUnreachable,
    Other(u8, u8),
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Open),
        3 => Just(Act::Syn),
        4 => Just(Act::Ack),
        4 => any::<u8>().prop_map(Act::Data),
        1 => Just(Act::Fin),
        1 => Just(Act::Reset),
        3 => Just(Act::ServerSynAck),
        3 => any::<u8>().prop_map(Act::ServerData),
        1 => Just(Act::ServerFin),
        1 => Just(Act::ServerReset),
        1 => (any::<u8>(), any::<u32>(), any::<u32>())
            .prop_map(|(kind, sequence, ack)| Act::Stray(kind, sequence, ack)),
        1 => Just(Act::Cut),
    ]
}

fn sides() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Outside), Just(Side::Inside)]
}

fn places() -> impl Strategy<Value = Where> {
    prop_oneof![
        4 => Just(Where::Server),
        2 => Just(Where::Us),
        1 => Just(Where::Nowhere),
        2 => any::<u8>().prop_map(Where::NobodyInside),
    ]
}

fn errors() -> impl Strategy<Value = ErrorKind> {
    prop_oneof![
        Just(ErrorKind::TooBig),
        Just(ErrorKind::PortUnreachable),
        (any::<u8>(), any::<u8>()).prop_map(|(kind, code)| ErrorKind::Other(kind, code)),
    ]
}

fn room() -> impl Strategy<Value = Option<u8>> {
    prop_oneof![3 => Just(None), 1 => (0u8..6).prop_map(Some)]
}

pub(crate) fn steps() -> impl Strategy<Value = Step> {
    let changes = prop::collection::vec((any::<u16>(), any::<u8>()), 0..4);
    prop_oneof![
        24 => (0..TALKS, acts()).prop_map(|(talk, act)| Step::Talk(talk, act)),
        4 => (any::<u8>(), places(), 0u16..1800)
            .prop_map(|(who, place, length)| Step::Datagram(who, place, length)),
        4 => (any::<u8>(), 1u16..200, any::<u8>())
            .prop_map(|(number, units, which)| Step::Fragments(number, units * 8, which)),
        3 => (sides(), errors()).prop_map(|(side, kind)| Step::Error(side, kind)),
        3 => (sides(), any::<u8>(), any::<u8>(), any::<bool>())
            .prop_map(|(side, from, to, asks)| Step::Arp(side, from, to, asks)),
        1 => any::<u8>().prop_map(Step::Flood),
        6 => (any::<u8>(), changes, proptest::option::weighted(0.2, any::<u16>()))
            .prop_map(|(which, changes, cut)| Step::Again(which, changes, cut)),
        1 => (sides(), prop::collection::vec(any::<u8>(), 0..100))
            .prop_map(|(side, octets)| Step::Noise(side, octets)),
        2 => (room(), room()).prop_map(|(frames, buffers)| Step::Room(frames, buffers)),
        1 => any::<bool>().prop_map(Step::Neighbours),
        4 => (0u16..4_000).prop_map(Step::Wait),
        2 => any::<u8>().prop_map(Step::Command),
    ]
}

pub(crate) fn setups() -> impl Strategy<Value = Setup> {
    let modes = prop_oneof![
        6 => Just(Mode::Always),
        1 => Just(Mode::OnFlood),
        1 => Just(Mode::Monitor),
        1 => Just(Mode::Off),
    ];
    let shape = (
        1usize..=3,
        any::<[bool; 2]>(),
        any::<bool>(),
        any::<[bool; 2]>(),
    );
    (shape, modes, any::<bool>(), 1u32..12, any::<bool>()).prop_map(
        |((workers, single_queue, is_scattered, tagged), mode, resets, capacity, is_narrow)| {
            Setup {
                workers,
                vlans: [tagged[0].then_some(100), tagged[1].then_some(200)],
                single_queue,
                is_scattered,
                mode,
                unknown: if resets {
                    Unknown::Reset
                } else {
                    Unknown::Drop
                },
                capacity,
                mtu_bytes: if is_narrow { [1500, 1280] } else { [1500; 2] },
                buffers: 2048,
                replication: None,
                wire: None,
            }
        },
    )
}

/// A rig, what has been said so far, and what left it.
pub(crate) struct Stage {
    pub(crate) rig: Rig,
    talks: Vec<Conversation>,
    /// The last frames that came, to come again.
    came: Vec<(Side, Vec<u8>)>,
    /// The last packet that left by each side.
    left: [Option<Vec<u8>>; 2],
}

impl Stage {
    pub(crate) fn new(setup: Setup) -> Self {
        let talk = |number: usize| {
            let family = [Family::V4, Family::V6][number % 2];
            let mut talk = Conversation::new(family, number as u16);
            talk.has_timestamps = !number.is_multiple_of(3);
            talk
        };
        Self {
            rig: Rig::new(setup),
            talks: (0..TALKS).map(talk).collect(),
            came: Vec::new(),
            left: [None, None],
        }
    }

    fn send(&mut self, side: Side, packet: &[u8]) {
        let frame = self.rig.framed(side, packet);
        self.arrive(side, frame);
    }

    fn arrive(&mut self, side: Side, frame: Vec<u8>) {
        self.rig.arrive(side, &frame);
        self.came.push((side, frame));
        if self.came.len() > 64 {
            self.came.remove(0);
        }
    }

    pub(crate) fn take(&mut self, step: &Step) {
        match step {
            Step::Talk(number, act) => self.talk(*number, *act),
            Step::Datagram(who, place, length) => {
                let source = someone(*who);
                let destination = destination(*place, source.family());
                let data = vec![7; usize::from(*length)];
                let packet = match who % 5 {
                    0 => echo(source, destination, &data),
                    1 => ip(source, destination, 50, &data),
                    _ => udp(source, destination, ((*who).into(), 53), &data),
                };
                self.send(Side::Outside, &packet);
            }
            Step::Fragments(number, room, which) => {
                let source = someone(number % 16);
                let place = if number % 7 == 0 {
                    Where::Us
                } else {
                    Where::Server
                };
                let whole = udp(
                    source,
                    destination(place, source.family()),
                    (9, 53),
                    &[7; 700],
                );
                let pieces = fragments(&whole, u16::from(number % 4), (*room).into());
                for (place, piece) in pieces.iter().enumerate().take(16) {
                    if which >> (place % 8) & 1 != 0 {
                        self.send(Side::Outside, piece);
                    }
                }
            }
            Step::Error(side, kind) => self.error(*side, *kind),
            Step::Arp(side, from, to, asks) => {
                let network = [[192, 0, 2], [10, 0, 0]][*side as usize];
                let host = |last: u8| Address::from_v4([network[0], network[1], network[2], last]);
                let operation = if *asks {
                    ArpOperation::Request
                } else {
                    ArpOperation::Reply
                };
                let frame = self.rig.arp(*side, operation, host(*from), host(to % 8));
                self.arrive(*side, frame);
            }
            Step::Flood(seed) => {
                for number in 0..40u16 {
                    let talk =
                        Conversation::new(Family::V4, 1000 + 200 * u16::from(*seed) + number);
                    let packet = match number % 3 {
                        0 => talk.syn(),
                        1 => talk.client_segment(number.into(), 1, flags::ACK, &[], b"x"),
                        _ => talk.client_segment(1, 0, flags::SYN, &[2, 1, 0, 0], b""),
                    };
                    self.send(Side::Outside, &packet);
                }
            }
            Step::Again(which, changes, cut) => self.again(*which, changes, *cut),
            Step::Noise(side, octets) => self.arrive(*side, octets.clone()),
            Step::Room(frames, buffers) => {
                for worker in &mut self.rig.workers {
                    worker.io_mut().transmit_room = frames.map(usize::from);
                    worker.io_mut().allocations_left = buffers.map(usize::from);
                }
            }
            Step::Neighbours(answer) => self.rig.neighbours_answer = *answer,
            Step::Wait(ms) => self.rig.now_ns += u64::from(*ms) * 1_000_000,
            Step::Command(which) => self.command(*which),
        }
        self.settle();
    }

    fn talk(&mut self, number: usize, act: Act) {
        if let Act::Open = act {
            for act in [Act::Syn, Act::Ack, Act::ServerSynAck] {
                self.talk(number, act);
                self.settle();
            }
            return;
        }
        let talk = &mut self.talks[number];
        let next = talk.client_next();
        let (side, packet) = match act {
            Act::Open | Act::Syn => (Side::Outside, talk.syn()),
            Act::Ack => (Side::Outside, talk.client_sends(flags::ACK, b"")),
            Act::Data(length) => {
                let data = vec![1; usize::from(length) + 1];
                (
                    Side::Outside,
                    talk.client_sends(flags::ACK | flags::PSH, &data),
                )
            }
            Act::Fin => (
                Side::Outside,
                talk.client_sends(flags::ACK | flags::FIN, b""),
            ),
            Act::Reset => {
                let reset = talk.client_segment(next, 0, flags::RST, &[], b"");
                (Side::Outside, reset)
            }
            Act::ServerSynAck => (Side::Inside, talk.syn_ack()),
            Act::ServerData(length) => {
                let data = vec![2; usize::from(length) * 5 + 1];
                (
                    Side::Inside,
                    talk.server_sends(flags::ACK | flags::PSH, &data),
                )
            }
            Act::ServerFin => (
                Side::Inside,
                talk.server_sends(flags::ACK | flags::FIN, b""),
            ),
            Act::ServerReset => {
                let first = talk.client_isn.wrapping_add(1);
                let reset = talk.server_segment(0, first, flags::RST | flags::ACK, &[], b"");
                (Side::Inside, reset)
            }
            Act::Stray(kind, sequence, ack) => {
                let near = next.wrapping_add(sequence % 5_000);
                if kind & 0x80 != 0 {
                    (
                        Side::Outside,
                        talk.client_segment(near, ack, kind & 0x3f, &[], b"stray"),
                    )
                } else {
                    (
                        Side::Inside,
                        talk.server_segment(sequence, ack, kind & 0x3f, &[], b"stray"),
                    )
                }
            }
            Act::Cut => {
                let segment = talk.client_sends(flags::ACK, &[3; 600]);
                for piece in fragments(&segment, 9, 400) {
                    self.send(Side::Outside, &piece);
                }
                return;
            }
        };
        self.send(side, &packet);
    }

    fn error(&mut self, side: Side, kind: ErrorKind) {
        // What left by a side meets a router there.
        let Some(invoking) = self.left[side as usize].clone() else {
            return;
        };
        let router = match (facts(&invoking).family, side) {
            (Family::V4, Side::Outside) => address("203.0.113.1"),
            (Family::V4, Side::Inside) => address("10.0.0.10"),
            (Family::V6, Side::Outside) => address("2001:db8:55::1"),
            (Family::V6, Side::Inside) => address("fd00:1::10"),
        };
        let error = match kind {
            ErrorKind::TooBig => too_big(router, 1280, &invoking),
            ErrorKind::PortUnreachable => port_unreachable(router, &invoking),
            ErrorKind::Other(kind, code) => icmp_error(router, kind, code, 0, &invoking),
        };
        self.send(side, &error);
    }

    fn again(&mut self, which: u8, changes: &[(u16, u8)], cut: Option<u16>) {
        if self.came.is_empty() {
            return;
        }
        let (side, mut frame) = self.came[usize::from(which) % self.came.len()].clone();
        for &(at, to) in changes {
            // The headers more often than what follows.
            let length = frame.len().min(if at & 1 == 0 { 60 } else { 2000 }).max(1);
            if let Some(octet) = frame.get_mut(usize::from(at >> 1) % length) {
                *octet = to;
            }
        }
        if let Some(cut) = cut {
            frame.truncate(usize::from(cut) % (frame.len() + 1));
        }
        self.arrive(side, frame);
    }

    fn command(&mut self, which: u8) {
        let worker = usize::from(which) % self.rig.workers.len();
        let command = match which / 3 % 6 {
            0 => Command::Status(WorkerStatus::empty()),
            1 => Command::Sessions(Box::default()),
            2 => Command::Neighbours(Box::default()),
            3 => Command::Announce,
            4 if which > 250 => Command::Drain,
            _ => Command::Reconfigure(Box::new(self.rig.setup.configuration())),
        };
        drop(self.rig.command(worker, command));
    }

    fn settle(&mut self) {
        for (side, packet) in self.rig.settle() {
            let parsed = facts(&packet);
            if side == Side::Outside && parsed.is_whole_tcp() {
                let seen = see(&packet);
                let known = self.talks.iter_mut().find(|talk| {
                    talk.client == seen.destination
                        && seen.flags == flags::SYN | flags::ACK
                        && talk.client_isn.wrapping_add(1) == seen.acknowledgement
                });
                if let Some(talk) = known {
                    talk.take_cookie(&packet);
                    (talk.client_sent, talk.server_sent) = (0, 0);
                }
            }
            self.left[side as usize] = Some(packet);
        }
    }

    /// Lets all timers run out; nothing may stay.
    pub(crate) fn end(mut self) -> Counters {
        for worker in &mut self.rig.workers {
            worker.io_mut().transmit_room = None;
            worker.io_mut().allocations_left = None;
        }
        for _ in 0..80 {
            self.rig.advance_ms(500);
            self.settle();
        }
        // A bounded number of timers is served in a turn; then a worker may rest.
        for _ in 0..400 {
            self.rig.poll();
        }
        for worker in &self.rig.workers {
            let due_ns = worker.next_deadline_ns();
            assert!(due_ns.is_none_or(|due_ns| due_ns > self.rig.now_ns));
        }
        let counters = self.rig.counters();
        assert_eq!(self.rig.pool.live(), 0, "{}", described(&counters));
        counters
    }
}

fn someone(who: u8) -> Address {
    match who {
        250 => address(DENIED),
        251..=253 => address(REJECTED),
        254 => address("192.0.2.1"),
        255 => address("10.0.0.7"),
        _ if who.is_multiple_of(2) => Address::from_v4([203, 0, 113, 100 + who % 100]),
        _ => Address::from_bits(address("2001:db8:33::").to_bits() | u128::from(who)),
    }
}

fn destination(place: Where, family: Family) -> Address {
    let text = match (place, family) {
        (Where::Server, Family::V4) => "10.0.0.10",
        (Where::Server, Family::V6) => "fd00:1::10",
        (Where::Us, Family::V4) => "192.0.2.1",
        (Where::Us, Family::V6) => "2001:db8:1::1",
        (Where::Nowhere, Family::V4) => "224.0.0.5",
        (Where::Nowhere, Family::V6) => "2a00::1",
        (Where::NobodyInside(last), Family::V4) => {
            return Address::from_v4([10, 0, 0, last.clamp(20, 250)]);
        }
        (Where::NobodyInside(last), Family::V6) => {
            return Address::from_bits(address("fd00:1::").to_bits() | 0x100 | u128::from(last));
        }
    };
    address(text)
}
