//! A guard between one client and one server, without a hop.

use crate::bridge::{Bridge, WirePort};
use crate::classify::Rules;
use crate::context::{Context, Outbox};
use crate::counters::Counters;
use crate::drop_reason::DropReason;
use crate::echo::EchoJar;
use crate::guard::Guard;
use crate::guard::config::{
    Action, EchoMode, FloodThresholds, GuardConfig, InterfaceSet, Mode, ProtectedServer,
    ServerOverrides, Timers, Transparent, Unknown,
};
use crate::guard::cookie::{CookieJar, CookieKey};
use crate::guard::session::SessionName;
use crate::io::{InterfaceId, PortId};
use crate::memory::{MemoryBuffer, MemoryIo};
use crate::packet::Buffer;
use crate::parse::{flags, parse, parse_network, protocol};
use crate::replicate::FromPeers;
use crate::transmit::Transmit;
use crate::verdict::Verdict;
use crate::wire::address::{Address, Family};
use crate::wire::bytes::u32_at;
use crate::wire::checksum::{pseudo_header, transport_is_valid};
use crate::wire::tcp::Tcp;
use crate::wire::tcp_options::{self, SynOptions, TcpOptions};
use crate::wire::tcp_segment::{TcpSegment, write_segment};

/// What a guard needs beside a packet; the rig's other parts stay free.
macro_rules! context {
    ($rig:expr) => {
        Context {
            now_ns: $rig.now_ns,
            unix_ms: $rig.now_ns / 1_000_000,
            io: &mut $rig.io,
            counters: &mut $rig.counters,
            outbox: &mut $rig.outbox,
            transmit: &mut $rig.transmit,
        }
    };
}

pub(super) const CLIENT_ISN: u32 = 0xffff_fff0;
pub(super) const SERVER_ISN: u32 = 0x7fff_fff8;
pub(super) const HALF_OPEN_PER_SOURCE: u16 = 4;
pub(super) const OWN: Address = Address::from_v4([10, 0, 0, 1]);
/// Client and server of each family.
pub(super) const ENDS: [(Address, Address); 2] = [
    (
        Address::from_v4([198, 51, 100, 7]),
        Address::from_v4([10, 0, 0, 10]),
    ),
    (
        Address::from_bits(0x2001_0db8 << 96 | 7),
        Address::from_bits(0xfd00_0001 << 96 | 0x10),
    ),
];
pub(super) const SERVER_PORT: u16 = 80;
const OUTSIDE: InterfaceId = InterfaceId(0);
const INSIDE: InterfaceId = InterfaceId(1);

/// A segment as it left the guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) options: TcpOptions,
    pub(super) sack: Vec<(u32, u32)>,
    pub(super) payload: Vec<u8>,
    pub(super) octets: usize,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    /// From the TCP header to the end.
    pub(super) raw: Vec<u8>,
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Forward(Segment),
    Reply(Segment),
    Held,
    Dropped(DropReason),
}

pub(super) struct Rig {
    pub(super) guard: Guard<MemoryBuffer>,
    pub(super) counters: Counters,
    /// Which of the families its hosts speak.
    pub(super) family: usize,
    pub(super) client_port: u16,
    pub(super) client_isn: u32,
    pub(super) client_scale: u8,
    pub(super) client_clock: u32,
    pub(super) server_clock: u32,
    pub(super) server_port: u16,
    pub(super) client_options: SynOptions,
    pub(super) server_options: SynOptions,
    pub(super) server_window: u16,
    io: MemoryIo,
    outbox: Outbox<MemoryBuffer>,
    transmit: Transmit<MemoryBuffer>,
    now_ns: u64,
}

fn config() -> GuardConfig {
    GuardConfig {
        outside: InterfaceSet::default().with(OUTSIDE),
        inside: InterfaceSet::default().with(INSIDE),
        mode: Mode::Always,
        servers: ENDS
            .iter()
            .map(|&(_, server)| ProtectedServer {
                address: server,
                ports: [SERVER_PORT..=SERVER_PORT].into_iter().collect(),
                overrides: ServerOverrides::default(),
            })
            .collect(),
        rules: Rules::all(Action::Guard),
        jar: CookieJar::new(&[CookieKey {
            not_before_s: 0,
            secret: [9; 16],
        }]),
        flood: FloodThresholds {
            enter_syns_per_s: 1000,
            leave_syns_per_s: 500,
            hold_ns: 1_000_000_000,
        },
        timers: Timers::default(),
        half_open_per_source: HALF_OPEN_PER_SOURCE,
        unknown: Unknown::Drop,
        probe_from: Vec::new(),
        outside_mtu: 1500,
        inside_mtu: 1500,
        sharing: None,
        transparent: None,
    }
}

/// Makes the guard a transparent wire that answers SYNs itself.
pub(super) fn wire(config: &mut GuardConfig) {
    let end = |port, interface| WirePort {
        port: PortId(port),
        interface,
        mtu_bytes: 1500,
    };
    let key = CookieKey {
        not_before_s: 0,
        secret: [9; 16],
    };
    config.transparent = Some(Transparent {
        bridge: Bridge {
            outside: end(0, OUTSIDE),
            inside: end(1, INSIDE),
        },
        echo: EchoMode::Off,
        jar: EchoJar::new(&[key]),
    });
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with_capacity(100)
    }

    pub(super) fn with_capacity(capacity: u32) -> Self {
        Self::with(capacity, |_| {})
    }

    /// A guard whose configuration is changed before it is made.
    pub(super) fn with(capacity: u32, change: impl FnOnce(&mut GuardConfig)) -> Self {
        let mut config = config();
        change(&mut config);
        Self {
            guard: Guard::new(Box::new(config), capacity, [1, 2]),
            counters: Counters::default(),
            family: 0,
            client_port: 40_000,
            client_isn: CLIENT_ISN,
            client_scale: 9,
            client_clock: 5_000,
            server_clock: 900_000,
            server_port: SERVER_PORT,
            client_options: SynOptions {
                mss: Some(1460),
                window_scale: Some(9),
                sack_permitted: true,
                timestamps: Some((5_000, 0)),
            },
            server_window: 1000,
            server_options: SynOptions {
                mss: Some(1460),
                window_scale: Some(7),
                sack_permitted: true,
                timestamps: Some((900_000, 5_000)),
            },
            io: MemoryIo::new(2),
            outbox: Outbox::new(),
            transmit: Transmit::new(&[]),
            now_ns: 1_000_000_000,
        }
    }

    pub(super) fn configure(&mut self, change: impl FnOnce(&mut GuardConfig)) {
        let mut changed = config();
        change(&mut changed);
        self.guard.reconfigure(&mut Box::new(changed));
    }

    pub(super) fn advance_s(&mut self, seconds: u64) {
        self.advance_ms(seconds * 1000);
    }

    pub(super) fn advance_ms(&mut self, ms: u64) {
        self.now_ns += ms * 1_000_000;
        let mut ctx = context!(self);
        self.guard.set_time(ctx.now_ns);
        self.guard.tick(&mut ctx);
    }

    /// Takes a peer's news.
    pub(super) fn hear(&mut self, news: &FromPeers) {
        let mut ctx = context!(self);
        self.guard.hear(news, &mut ctx);
    }

    /// Ends a session as its operator does.
    pub(super) fn end(&mut self, name: &SessionName) -> bool {
        let mut ctx = context!(self);
        self.guard.end_by_order(name, &mut ctx)
    }

    /// What became of the packets that waited for the peers.
    pub(super) fn walk_released(&mut self) -> Vec<Shown> {
        let mut shown = Vec::new();
        while let Some((interface, packet)) = self.guard.next_released() {
            self.guard.set_last_chance(true);
            shown.push(self.handle(packet.bytes().to_vec(), interface));
            self.guard.set_last_chance(false);
        }
        shown
    }

    pub(super) fn client_sends(&mut self, frame: Vec<u8>) -> Shown {
        self.handle(frame, OUTSIDE)
    }

    pub(super) fn server_sends(&mut self, frame: Vec<u8>) -> Shown {
        self.handle(frame, INSIDE)
    }

    pub(super) fn handle(&mut self, frame: Vec<u8>, interface: InterfaceId) -> Shown {
        let parsed = parse(&frame).expect("a frame of this test");
        let mut ctx = context!(self);
        self.guard.set_time(ctx.now_ns);
        let lookup = self.guard.prepare(&parsed, interface);
        let packet = MemoryBuffer::new(&frame);
        match self
            .guard
            .handle(packet, &parsed, interface, lookup.as_ref(), &mut ctx)
        {
            Verdict::Forward(packet) => Shown::Forward(show(&packet.bytes()[14..])),
            Verdict::Reply(packet) => Shown::Reply(show(&packet.bytes()[14..])),
            Verdict::Hold => Shown::Held,
            Verdict::Drop(_, reason) => Shown::Dropped(reason),
            Verdict::Reject(_) => panic!("rejected"),
        }
    }

    /// The only session there is.
    pub(super) fn session(&self) -> crate::guard::session::Session {
        let (_, session) = self.guard.next_session(None).expect("a session");
        *session
    }

    /// Whether a client's frame has the numbers of a segment of the only session.
    pub(super) fn has_numbers_of_session(&self, frame: &[u8]) -> bool {
        let parsed = parse(frame).expect("a frame of this test");
        let read = crate::guard::splice::Segment::read(frame, &parsed).expect("a sound segment");
        crate::guard::splice::check_client(&self.session(), &read).is_ok()
    }

    /// What the guard made since the last call.
    pub(super) fn sent(&mut self) -> Vec<Segment> {
        self.outbox
            .drain(..)
            .map(|packet| show(packet.bytes()))
            .collect()
    }

    pub(super) fn only_sent(&mut self) -> Segment {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }

    /// A SYN and its answer.
    pub(super) fn shake_hands(&mut self) -> Segment {
        match self.client_sends(self.client_syn()) {
            Shown::Reply(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// A whole handshake on both sides; gives back the client's SYN-ACK.
    pub(super) fn open(&mut self) -> Segment {
        let cookie = self.shake_hands();
        assert_eq!(
            self.client_sends(self.client_ack(&cookie, b"")),
            Shown::Held
        );
        assert_eq!(self.only_sent().flags, flags::SYN);
        assert_eq!(self.server_sends(self.server_syn_ack()), Shown::Held);
        let ack = self.only_sent();
        assert_eq!(ack.acknowledgement, SERVER_ISN.wrapping_add(1));
        cookie
    }

    /// FIN and ACK from both sides of a session on which nothing was sent.
    pub(super) fn close(&mut self, cookie: &Segment) {
        let next = cookie.sequence.wrapping_add(1);
        let fin_ack = flags::FIN | flags::ACK;
        let segments = [
            (true, self.client_segment(1, next, fin_ack, b"")),
            (
                false,
                self.server_segment(1, self.client_isn.wrapping_add(2), fin_ack, b""),
            ),
            (
                true,
                self.client_segment(2, next.wrapping_add(1), flags::ACK, b""),
            ),
        ];
        for (from_client, frame) in segments {
            let shown = if from_client {
                self.client_sends(frame)
            } else {
                self.server_sends(frame)
            };
            assert!(matches!(shown, Shown::Forward(_)), "{shown:?}");
        }
        assert_eq!(self.guard.status().live, self.guard.status().sessions - 1);
    }

    pub(super) fn client_syn(&self) -> Vec<u8> {
        let options = SynOptions {
            window_scale: self.client_options.window_scale.map(|_| self.client_scale),
            timestamps: (self.client_options.timestamps).map(|_| (self.client_clock, 0)),
            ..self.client_options
        };
        let mut bytes = [0; 40];
        let length = options.write(&mut bytes);
        self.client_octets(
            self.client_isn,
            0,
            flags::SYN,
            64_240,
            &bytes[..length],
            b"",
        )
    }

    /// The client's answer to a SYN-ACK.
    pub(super) fn client_ack(&self, syn_ack: &Segment, payload: &[u8]) -> Vec<u8> {
        let told = syn_ack.options.timestamps;
        let stamps = told.map_or(Vec::new(), |told| stamps(self.client_clock, told.value));
        let acknowledgement = syn_ack.sequence.wrapping_add(1);
        let sequence = self.client_isn.wrapping_add(1);
        self.client_octets(
            sequence,
            acknowledgement,
            flags::ACK,
            1000,
            &stamps,
            payload,
        )
    }

    /// A client's segment `offset` after its initial number, its timestamp echo that of the
    /// server's SYN-ACK in the client's numbers.
    pub(super) fn client_segment(&self, offset: u32, ack: u32, flags: u8, data: &[u8]) -> Vec<u8> {
        let echo = self.told_clock();
        let stamps = stamps(self.client_clock, echo);
        self.client_octets(
            self.client_isn.wrapping_add(offset),
            ack,
            flags,
            1000,
            &stamps,
            data,
        )
    }

    pub(super) fn client_segment_with_sack(
        &self,
        offset: u32,
        ack: u32,
        block: (u32, u32),
    ) -> Vec<u8> {
        let mut options = vec![1, 1, 5, 10];
        options.extend(block.0.to_be_bytes());
        options.extend(block.1.to_be_bytes());
        options.extend(stamps(self.client_clock, self.told_clock()));
        let sequence = self.client_isn.wrapping_add(offset);
        self.client_octets(sequence, ack, flags::ACK, 1000, &options, b"")
    }

    /// A client's segment without options.
    pub(super) fn client_frame(&self, sequence: u32, ack: u32, flags: u8, data: &[u8]) -> Vec<u8> {
        self.client_octets(sequence, ack, flags, 1000, &[], data)
    }

    /// A client's segment right after its SYN, without options.
    pub(super) fn client_frame_on(&self, ack: u32, data: &[u8]) -> Vec<u8> {
        self.client_frame(self.client_isn.wrapping_add(1), ack, flags::ACK, data)
    }

    /// The server's answer to a probe, and what the guard makes of it.
    pub(super) fn server_answers_probe(&mut self, probe: &Segment, port: u16) -> Shown {
        let mut bytes = [0; 40];
        let length = self.server_options.write(&mut bytes);
        let frame = frame(&TcpSegment {
            source: ENDS[self.family].1,
            destination: OWN,
            source_port: self.server_port,
            destination_port: port,
            sequence: SERVER_ISN,
            acknowledgement: probe.sequence.wrapping_add(1),
            flags: flags::SYN | flags::ACK,
            window: 5000,
            options: &bytes[..length],
            payload: b"",
            ttl: 64,
            dscp_ecn: 0,
            identification: 0,
        });
        let parsed = parse(&frame).expect("a frame of this test");
        let mut ctx = context!(self);
        let verdict = self
            .guard
            .take_local(MemoryBuffer::new(&frame), &parsed, INSIDE, &mut ctx);
        shown(verdict)
    }

    pub(super) fn server_syn_ack(&self) -> Vec<u8> {
        let mut bytes = [0; 40];
        let length = self.server_options.write(&mut bytes);
        let acknowledgement = self.client_isn.wrapping_add(1);
        let flags = flags::SYN | flags::ACK;
        self.server_octets(SERVER_ISN, acknowledgement, flags, &bytes[..length], b"")
    }

    /// A server's segment `offset` after its initial number.
    pub(super) fn server_segment(&self, offset: u32, ack: u32, flags: u8, data: &[u8]) -> Vec<u8> {
        let stamps = stamps(self.server_clock, self.client_clock);
        self.server_octets(SERVER_ISN.wrapping_add(offset), ack, flags, &stamps, data)
    }

    /// A server's segment without options.
    pub(super) fn server_frame(&self, sequence: u32, ack: u32, flags: u8, data: &[u8]) -> Vec<u8> {
        self.server_octets(sequence, ack, flags, &[], data)
    }

    /// The server's clock as the client was told it.
    fn told_clock(&self) -> u32 {
        let session = self.guard.next_session(None).map(|(_, session)| *session);
        self.server_clock
            .wrapping_sub(session.map_or(0, |session| session.timestamp_delta))
    }

    pub(super) fn client_octets(
        &self,
        sequence: u32,
        acknowledgement: u32,
        flags: u8,
        window: u16,
        options: &[u8],
        payload: &[u8],
    ) -> Vec<u8> {
        frame(&TcpSegment {
            source: ENDS[self.family].0,
            destination: ENDS[self.family].1,
            source_port: self.client_port,
            destination_port: self.server_port,
            sequence,
            acknowledgement,
            flags,
            window,
            options,
            payload,
            ttl: 60,
            dscp_ecn: 0,
            identification: 1,
        })
    }

    pub(super) fn server_octets(
        &self,
        sequence: u32,
        acknowledgement: u32,
        flags: u8,
        options: &[u8],
        payload: &[u8],
    ) -> Vec<u8> {
        frame(&TcpSegment {
            source: ENDS[self.family].1,
            destination: ENDS[self.family].0,
            source_port: self.server_port,
            destination_port: self.client_port,
            sequence,
            acknowledgement,
            flags,
            window: self.server_window,
            options,
            payload,
            ttl: 60,
            dscp_ecn: 0,
            identification: 1,
        })
    }
}

fn stamps(value: u32, echo: u32) -> Vec<u8> {
    let mut option = vec![1, 1, 8, 10];
    option.extend(value.to_be_bytes());
    option.extend(echo.to_be_bytes());
    option
}

fn frame(segment: &TcpSegment<'_>) -> Vec<u8> {
    let mut frame = vec![0; 14 + 100 + segment.payload.len()];
    let ether_type: [u8; 2] = match segment.source.family() {
        Family::V4 => [0x08, 0x00],
        Family::V6 => [0x86, 0xdd],
    };
    frame[12..14].copy_from_slice(&ether_type);
    let octets = write_segment(&mut frame[14..], segment).expect("room");
    frame.truncate(14 + octets);
    frame
}

fn shown(verdict: Verdict<MemoryBuffer>) -> Shown {
    match verdict {
        Verdict::Forward(packet) => Shown::Forward(show(&packet.bytes()[14..])),
        Verdict::Reply(packet) => Shown::Reply(show(&packet.bytes()[14..])),
        Verdict::Hold => Shown::Held,
        Verdict::Drop(_, reason) => Shown::Dropped(reason),
        Verdict::Reject(_) => panic!("rejected"),
    }
}

/// Reads a packet that left the guard; every checksum must hold.
fn show(packet: &[u8]) -> Segment {
    let parsed = parse_network(packet).expect("a whole packet");
    let bytes = &packet[usize::from(parsed.transport)..usize::from(parsed.end)];
    let pseudo = pseudo_header(
        parsed.source,
        parsed.destination,
        protocol::TCP,
        bytes.len(),
    );
    assert!(
        transport_is_valid(bytes, pseudo),
        "bad checksum: {bytes:02x?}"
    );
    let tcp = Tcp::new(bytes).expect("a whole segment");
    let options = tcp_options::read(tcp.options());
    let edges: Vec<u32> = options
        .sack_blocks
        .iter()
        .flat_map(|blocks| blocks.edge_offsets())
        .map(|offset| u32_at(bytes, offset))
        .collect();
    Segment {
        sequence: tcp.sequence(),
        acknowledgement: tcp.acknowledgement(),
        flags: tcp.flags(),
        window: tcp.window(),
        options,
        sack: edges.chunks(2).map(|pair| (pair[0], pair[1])).collect(),
        payload: tcp.payload().to_vec(),
        octets: packet.len() + 14,
        source_port: tcp.source_port(),
        destination_port: tcp.destination_port(),
        raw: bytes.to_vec(),
    }
}
