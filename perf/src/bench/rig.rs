//! The daemon's own worker between two rings, its neighbours and as many sessions as wanted.

use std::error::Error;
use std::sync::Arc;

use bindings::{Eal, Mempool};
use dataplane::bridge::{Bridge, WirePort};
use dataplane::classify::Rules;
use dataplane::command;
use dataplane::counters::Published;
use dataplane::echo::EchoJar;
use dataplane::fragment::Reassembler;
use dataplane::guard::Guard;
use dataplane::guard::config::{
    Action, EchoMode, FloodThresholds, GuardConfig, InterfaceSet, Mode, ProtectedServer,
    ServerOverrides, Sharing, Timers, Transparent, Unknown,
};
use dataplane::guard::cookie::{CookieJar, CookieKey};
use dataplane::hop::{Hop, HopConfig, HopTables, Interface, Route};
use dataplane::io::{InterfaceId, PortId};
use dataplane::mesh::Mesh;
use dataplane::parse::flags;
use dataplane::replicate::desk::{ControlPeers, desk as peers_desk};
use dataplane::transmit::{Transmit, TransmitWay};
use dataplane::wire::address::{Address, Prefix};
use dataplane::wire::arp::{Arp, ArpOperation, MESSAGE_BYTES};
use dataplane::wire::ethernet::{MacAddress, write_ethernet};
use dataplane::wire::tcp::{MAX_OPTION_BYTES, Tcp};
use dataplane::wire::tcp_options::{self, SynOptions};
use dataplane::wire::tcp_segment::{MAX_HEADERS_BYTES, TcpSegment, write_segment};
use dataplane::worker::{Time, Worker, WorkerParts};

use super::rings::{BATCH, Batch, PORTS, Peer, RingIo, ports};

const LINK: usize = 14;
pub(super) const OUTSIDE: usize = 0;
pub(super) const INSIDE: usize = 1;
const OWN: [Address; PORTS] = [
    Address::from_v4([192, 0, 2, 1]),
    Address::from_v4([10, 0, 0, 1]),
];
/// The router outside and the server inside.
const PEERS: [Address; PORTS] = [
    Address::from_v4([192, 0, 2, 254]),
    Address::from_v4([10, 0, 0, 10]),
];
const SERVER_PORT: u16 = 80;
/// Client ports per client address.
const PORTS_PER_CLIENT: u32 = 50_000;

fn own_mac(port: usize) -> MacAddress {
    MacAddress([2, 0, 0, 0, 1, port as u8])
}

fn peer_mac(port: usize) -> MacAddress {
    MacAddress([2, 0, 0, 0, 2, port as u8])
}

/// A client's connection, by number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection(pub(super) u32);

impl Connection {
    fn client(self) -> Address {
        let host = 0xc612_0000 + self.0 / PORTS_PER_CLIENT;
        Address::from_v4(host.to_be_bytes())
    }

    fn client_port(self) -> u16 {
        (1024 + self.0 % PORTS_PER_CLIENT) as u16
    }

    fn client_isn(self) -> u32 {
        self.0.wrapping_mul(2_654_435_761)
    }

    fn server_isn(self) -> u32 {
        self.0.wrapping_mul(2_246_822_519).wrapping_add(99)
    }
}

/// What a client was told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    sequence: u32,
    timestamp: u32,
}

pub(super) struct Rig {
    pub(super) worker: Worker<RingIo>,
    pub(super) peer: Peer,
    /// What each open connection's client was told.
    pub(super) told: Vec<Told>,
    /// The control side of its desk, where sessions are shared.
    pub(super) peers: Option<ControlPeers>,
    time: Time,
}

impl Rig {
    /// A worker with room for `capacity` sessions whose neighbours are known.
    pub(super) fn new(
        eal: &Eal,
        pool: &Mempool,
        capacity: u32,
        mode: Mode,
    ) -> Result<Self, Box<dyn Error>> {
        Self::with(eal, pool, capacity, mode, None)
    }

    /// A worker whose two ports are a transparent wire that carries every SYN by echo.
    pub(super) fn transparent(
        eal: &Eal,
        pool: &Mempool,
        capacity: u32,
    ) -> Result<Self, Box<dyn Error>> {
        let config = GuardConfig {
            transparent: Some(transparent(EchoMode::Always)),
            ..guard_config(Mode::Always)
        };
        Self::made_of(eal, pool, capacity, config)
    }

    /// A worker whose two ports are a transparent wire with nothing to guard.
    pub(super) fn wire(eal: &Eal, pool: &Mempool) -> Result<Self, Box<dyn Error>> {
        let config = GuardConfig {
            transparent: Some(transparent(EchoMode::Off)),
            servers: Vec::new(),
            ..guard_config(Mode::Off)
        };
        Self::made_of(eal, pool, 0, config)
    }

    /// The same, its sessions shared.
    pub(super) fn with(
        eal: &Eal,
        pool: &Mempool,
        capacity: u32,
        mode: Mode,
        sharing: Option<Sharing>,
    ) -> Result<Self, Box<dyn Error>> {
        let config = GuardConfig {
            sharing,
            ..guard_config(mode)
        };
        Self::made_of(eal, pool, capacity, config)
    }

    fn made_of(
        eal: &Eal,
        pool: &Mempool,
        capacity: u32,
        config: GuardConfig,
    ) -> Result<Self, Box<dyn Error>> {
        let (io, peer) = ports(eal, pool)?;
        let (control, own) = config.sharing.map(|_| peers_desk()).unzip();
        let guard = Guard::new(Box::new(config), capacity, [0x5eed, 0xfeed]);
        let mesh = Mesh::new(1).pop().ok_or("a mesh of one worker")?;
        let (_, desk) = command::desk();
        let worker = Worker::new(WorkerParts {
            io,
            receives: (0..PORTS as u8).map(PortId).collect(),
            hop: Hop::new(Arc::new(HopTables::new(&hop_config()?)?), 7),
            fragments: Reassembler::new(9),
            guard,
            mesh,
            transmit: Transmit::new(&[TransmitWay::Queue; PORTS]),
            published: Published::new(),
            desk,
            peers: own,
        });
        let time = Time {
            now_ns: 1_000_000_000,
            unix_ms: 1_000_000_000,
        };
        let mut rig = Self {
            worker,
            peer,
            told: Vec::new(),
            peers: control,
            time,
        };
        rig.introduce();
        Ok(rig)
    }

    /// The time of the next turn.
    pub(super) fn time(&self) -> Time {
        self.time
    }

    /// One turn of the worker's loop, a microsecond after the last.
    #[inline]
    pub(super) fn poll(&mut self) -> usize {
        self.time.now_ns += 1_000;
        self.worker.poll(self.time)
    }

    /// Has both neighbours ask for the appliance's address, from which it learns theirs.
    fn introduce(&mut self) {
        for port in 0..PORTS {
            let mut frame = [0; LINK + MESSAGE_BYTES];
            write_ethernet(
                &mut frame,
                MacAddress::BROADCAST,
                peer_mac(port),
                None,
                0x0806,
            );
            let question = Arp {
                operation: ArpOperation::Request,
                sender_mac: peer_mac(port),
                sender: PEERS[port],
                target_mac: MacAddress([0; 6]),
                target: OWN[port],
            };
            question.write(&mut frame[LINK..]);
            let mut batch: Batch = [self.peer.frame(&frame)].into_iter().collect();
            self.peer.send(port, &mut batch);
        }
        self.poll();
        self.discard();
    }

    /// Frees what has left by both ports; how many frames that was.
    pub(super) fn discard(&mut self) -> usize {
        let mut freed = 0;
        for port in 0..PORTS {
            loop {
                let batch = self.peer.receive(port);
                if batch.is_empty() {
                    break;
                }
                freed += batch.len();
            }
        }
        freed
    }

    /// Opens connections `from` to `to` with whole handshakes. `measure` brackets every turn in
    /// which the worker has something to do.
    pub(super) fn open(&mut self, from: u32, to: u32, measure: &mut impl FnMut(&mut Self)) {
        self.told.resize(to as usize, Told::default());
        let mut next = from;
        while next < to {
            let end = (next + BATCH as u32 / 2).min(to);
            self.exchange(OUTSIDE, next..end, Self::syn, measure);
            self.note_cookies();
            self.exchange(OUTSIDE, next..end, Self::first_ack, measure);
            self.discard();
            self.exchange(INSIDE, next..end, Self::syn_ack, measure);
            self.discard();
            next = end;
        }
    }

    fn exchange(
        &mut self,
        port: usize,
        connections: std::ops::Range<u32>,
        make: impl Fn(&Self, Connection) -> bindings::Mbuf,
        measure: &mut impl FnMut(&mut Self),
    ) {
        let mut batch: Batch = connections.map(|n| make(self, Connection(n))).collect();
        self.peer.send(port, &mut batch);
        measure(self);
    }

    /// Reads the SYN-ACKs that have left.
    fn note_cookies(&mut self) {
        loop {
            let batch = self.peer.receive(OUTSIDE);
            if batch.is_empty() {
                return;
            }
            for frame in &batch {
                let packet = &frame.data()[LINK..];
                let Ok(tcp) = Tcp::new(&packet[20..]) else {
                    continue;
                };
                let client = u32::from_be_bytes([packet[16], packet[17], packet[18], packet[19]]);
                let port = u32::from(tcp.destination_port()) - 1024;
                let number = (client - 0xc612_0000) * PORTS_PER_CLIENT + port;
                let stamps = tcp_options::parse(tcp.options())
                    .ok()
                    .and_then(|o| o.timestamps);
                self.told[number as usize] = Told {
                    sequence: tcp.sequence(),
                    timestamp: stamps.map_or(0, |stamps| stamps.value),
                };
            }
        }
    }

    /// A client's SYN, as Linux sends it.
    pub(super) fn syn(&self, connection: Connection) -> bindings::Mbuf {
        let mut options = [0; MAX_OPTION_BYTES];
        let length = SynOptions {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some((77, 0)),
        }
        .write(&mut options);
        self.outside(
            connection,
            connection.client_isn(),
            0,
            flags::SYN,
            &options[..length],
        )
    }

    /// The client's answer to the SYN-ACK.
    pub(super) fn first_ack(&self, connection: Connection) -> bindings::Mbuf {
        let told = self.told[connection.0 as usize];
        let stamps = stamps(77, told.timestamp);
        let sequence = connection.client_isn().wrapping_add(1);
        let ack = told.sequence.wrapping_add(1);
        self.outside(connection, sequence, ack, flags::ACK, &stamps)
    }

    /// An ACK of an open connection with a random cookie.
    pub(super) fn forged_ack(&self, connection: Connection, random: u64) -> bindings::Mbuf {
        let stamps = stamps(77, random as u32);
        self.outside(
            connection,
            random as u32,
            (random >> 32) as u32,
            flags::ACK,
            &stamps,
        )
    }

    /// The server's answer to the guard's SYN.
    pub(super) fn syn_ack(&self, connection: Connection) -> bindings::Mbuf {
        let mut options = [0; MAX_OPTION_BYTES];
        let length = SynOptions {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some((500_000, 77)),
        }
        .write(&mut options);
        let ack = connection.client_isn().wrapping_add(1);
        let flags = flags::SYN | flags::ACK;
        self.inside(
            connection,
            connection.server_isn(),
            ack,
            flags,
            &options[..length],
        )
    }

    /// A segment of an open connection from its client.
    pub(super) fn client_segment(&self, connection: Connection) -> bindings::Mbuf {
        self.first_ack(connection)
    }

    /// A segment of an open connection from its server.
    pub(super) fn server_segment(&self, connection: Connection) -> bindings::Mbuf {
        let stamps = stamps(500_000, 77);
        let sequence = connection.server_isn().wrapping_add(1);
        let ack = connection.client_isn().wrapping_add(1);
        self.inside(connection, sequence, ack, flags::ACK, &stamps)
    }

    fn outside(
        &self,
        connection: Connection,
        sequence: u32,
        acknowledgement: u32,
        flags: u8,
        options: &[u8],
    ) -> bindings::Mbuf {
        let ends = (
            connection.client(),
            PEERS[INSIDE],
            connection.client_port(),
            SERVER_PORT,
        );
        self.segment(OUTSIDE, ends, sequence, acknowledgement, flags, options)
    }

    fn inside(
        &self,
        connection: Connection,
        sequence: u32,
        acknowledgement: u32,
        flags: u8,
        options: &[u8],
    ) -> bindings::Mbuf {
        let ends = (
            PEERS[INSIDE],
            connection.client(),
            SERVER_PORT,
            connection.client_port(),
        );
        self.segment(INSIDE, ends, sequence, acknowledgement, flags, options)
    }

    fn segment(
        &self,
        port: usize,
        ends: (Address, Address, u16, u16),
        sequence: u32,
        acknowledgement: u32,
        flags: u8,
        options: &[u8],
    ) -> bindings::Mbuf {
        let mut frame = self.peer.buffer(LINK + MAX_HEADERS_BYTES);
        let bytes = frame.data_mut();
        write_ethernet(bytes, own_mac(port), peer_mac(port), None, 0x0800);
        let (source, destination, source_port, destination_port) = ends;
        let segment = TcpSegment {
            source,
            destination,
            source_port,
            destination_port,
            sequence,
            acknowledgement,
            flags,
            window: 500,
            options,
            payload: &[],
            ttl: 64,
            dscp_ecn: 0,
            identification: 0,
        };
        let length = write_segment(&mut bytes[LINK..], &segment).unwrap_or(0);
        assert!(
            length > 0 && frame.set_len(LINK + length),
            "a segment fits its buffer"
        );
        frame
    }
}

fn stamps(value: u32, echo: u32) -> [u8; 12] {
    let mut option = [1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0];
    option[4..8].copy_from_slice(&value.to_be_bytes());
    option[8..].copy_from_slice(&echo.to_be_bytes());
    option
}

const COOKIE_KEY: CookieKey = CookieKey {
    not_before_s: 0,
    secret: [0x42; 16],
};

fn transparent(echo: EchoMode) -> Transparent {
    let end = |port: usize| WirePort {
        port: PortId(port as u8),
        interface: InterfaceId(port as u8),
        mtu_bytes: 1500,
    };
    Transparent {
        bridge: Bridge {
            outside: end(OUTSIDE),
            inside: end(INSIDE),
        },
        echo,
        jar: EchoJar::new(&[COOKIE_KEY]),
    }
}

fn guard_config(mode: Mode) -> GuardConfig {
    GuardConfig {
        outside: InterfaceSet::default().with(InterfaceId(OUTSIDE as u8)),
        inside: InterfaceSet::default().with(InterfaceId(INSIDE as u8)),
        mode,
        servers: vec![ProtectedServer {
            address: PEERS[INSIDE],
            ports: [SERVER_PORT..=SERVER_PORT, 443..=443].into_iter().collect(),
            overrides: ServerOverrides::default(),
        }],
        rules: Rules::all(Action::Guard),
        jar: CookieJar::new(&[COOKIE_KEY]),
        flood: FloodThresholds {
            enter_syns_per_s: u64::MAX,
            leave_syns_per_s: u64::MAX,
            hold_ns: u64::MAX,
        },
        timers: Timers::default(),
        half_open_per_source: u16::MAX,
        unknown: Unknown::Drop,
        probe_from: Vec::new(),
        outside_mtu: 1500,
        inside_mtu: 1500,
        sharing: None,
        transparent: None,
    }
}

fn hop_config() -> Result<HopConfig, Box<dyn Error>> {
    let interface = |port: usize| -> Result<Interface, Box<dyn Error>> {
        let prefix = Prefix::new(OWN[port], 24).ok_or("a prefix of 24 bits")?;
        Ok(Interface {
            port: PortId(port as u8),
            vlan: None,
            mac: own_mac(port),
            mtu_bytes: 1500,
            addresses: vec![(OWN[port], prefix)],
            protected: port == INSIDE,
        })
    };
    let default = Prefix::new(Address::from_v4([0; 4]), 0).ok_or("the default route")?;
    Ok(HopConfig {
        interfaces: vec![interface(OUTSIDE)?, interface(INSIDE)?],
        routes: vec![Route {
            prefix: default,
            via: Some(PEERS[OUTSIDE]),
            interface: InterfaceId(OUTSIDE as u8),
        }],
        replication: None,
        reserved: vec![PEERS[INSIDE]],
    })
}
