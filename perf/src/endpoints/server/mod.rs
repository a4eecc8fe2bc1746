//! The servers: a SYN is answered without memory, a client that ends its handshake gets an entry
//! in a table, and each request its response.

mod cookie;
mod receive;
mod transmit;

use std::collections::HashMap;

use dataplane::flow::table::{Entry, Id, Key, Table};
use dataplane::flow::wheel::Wheel;
use dataplane::wire::address::{Address, Prefix};

use self::cookie::Cookies;
use super::segment::{Link, Segment, Tuple, Writer};
use super::stream::Exchange;
use super::tcb::Tcb;

/// What servers are like.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The stations.
    pub link: Link,
    /// Addresses and ports that are served.
    pub listens: Vec<(Address, u16)>,
    /// The most connections at once.
    pub connections: u32,
    /// Octets of the largest IP packet.
    pub mtu_bytes: u16,
    /// How often anything is sent before the client is taken to be gone.
    pub tries: u8,
    /// How long a connection may be idle.
    pub idle_timeout_ns: u64,
    /// Where SYNs of a flood claim to come from, so that those that come are counted.
    pub spoofed: Vec<Prefix>,
    /// What makes two runs alike.
    pub seed: u64,
}

impl ServerConfig {
    /// Servers that keep idle connections for ten minutes.
    #[must_use]
    pub fn new(link: Link, listens: Vec<(Address, u16)>, connections: u32) -> Self {
        Self {
            link,
            listens,
            connections,
            mtu_bytes: 1500,
            tries: 6,
            idle_timeout_ns: 600_000_000_000,
            spoofed: Vec::new(),
            seed: 1,
        }
    }
}

/// How an accepted connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerEnd {
    /// Both sides closed.
    Closed,
    /// The client reset it.
    Reset,
    /// The client did not acknowledge what was sent.
    TimedOut,
    /// The client said nothing for too long.
    Idle,
    /// A request was not what it should be.
    RequestWrong,
    /// The client began it anew.
    Replaced,
}

const SERVER_ENDS: usize = 6;

/// What servers counted: `accepted` is the sum of all ends and of what is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerCounters {
    /// SYNs that came, spoofed ones included.
    pub syns: u64,
    /// Of these, SYNs of the flood.
    pub spoofed: u64,
    /// Connections whose handshake was complete.
    pub accepted: u64,
    /// Requests that came whole and verified.
    pub requests: u64,
    /// Responses that were acknowledged to their last octet.
    pub responses: u64,
    /// Acknowledgements that end no handshake: answered by RST.
    pub forged: u64,
    /// Connections refused for want of room.
    pub full: u64,
    /// Segments sent again.
    pub retransmitted: u64,
    /// Frames that are no TCP.
    pub other: u64,
    /// Of these, fragments that are not the first of their datagram.
    pub last_fragments: u64,
    /// Frames that are malformed, or whose checksum is wrong.
    pub malformed: u64,
    /// Segments for nobody here.
    pub foreign: u64,
    ends: [u64; SERVER_ENDS],
}

impl ServerCounters {
    /// How many connections ended so.
    #[must_use]
    pub fn of(&self, end: ServerEnd) -> u64 {
        self.ends[end as usize]
    }

    /// How many have ended, however.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.ends.iter().sum()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
enum State {
    /// A request is awaited, or comes.
    #[default]
    Request,
    /// A response is sent.
    Response,
}

/// By which a connection is found: the client's number among those seen, its port, and which of
/// the served ends it talks to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Peer {
    client: u32,
    port: u16,
    listen: u16,
}

impl Key for Peer {
    #[inline]
    fn words(&self) -> [u64; 3] {
        let ends = u64::from(self.port) << 16 | u64::from(self.listen);
        [u64::from(self.client), ends, 0]
    }
}

/// What a request said beside its numbers.
mod talk {
    /// It is of our own clients, and verified.
    pub(super) const OWN: u8 = 1;
    /// The server closes behind the response.
    pub(super) const CLOSES: u8 = 2;
}

/// One connection.
#[derive(Clone, Copy, Debug, Default)]
struct Connection {
    tcb: Tcb,
    peer: Peer,
    /// The first octet of the response, or where the next one begins.
    send_base: u32,
    /// The first octet of the request, or where the next one begins.
    receive_base: u32,
    body_bytes: u32,
    /// Low half first.
    key: [u32; 2],
    request_bytes: u16,
    state: State,
    /// Of [`talk`].
    talk: u8,
}

const _: () = assert!(size_of::<Connection>() == 64);

impl Entry for Connection {
    type Key = Peer;

    fn key(&self) -> Peer {
        self.peer
    }

    fn matches(&self, key: &Peer) -> bool {
        self.peer == *key
    }
}

impl Connection {
    fn exchange(&self) -> Exchange {
        Exchange {
            key: u64::from(self.key[0]) | u64::from(self.key[1]) << 32,
            request_bytes: u32::from(self.request_bytes),
            body_bytes: self.body_bytes,
            server_closes: self.talk & talk::CLOSES != 0,
        }
    }

    /// Behind the last octet to be sent.
    fn send_end(&self) -> u32 {
        match self.state {
            State::Request => self.send_base,
            State::Response => self
                .send_base
                .wrapping_add(self.exchange().response_bytes()),
        }
    }
}

/// The most clients that are told apart: of a flood's sources, none ends a handshake.
const MAX_CLIENTS: usize = 1 << 22;

/// TCP servers. The calling contract stands at [`super`].
pub struct Servers {
    config: ServerConfig,
    table: Table<Connection>,
    wheel: Wheel,
    writer: Writer,
    cookies: Cookies,
    /// Clients' numbers, and their addresses by number.
    numbers: HashMap<Address, u32>,
    clients: Vec<Address>,
    owing: Vec<Id>,
    scratch: Vec<u8>,
    counters: ServerCounters,
}

/// Nothing is served, or too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("servers need 1 to 65535 addresses and ports, room for a connection, an MTU from 576 on")]
pub struct Unfit;

impl Servers {
    /// Servers without a connection, at the time `now_ns`.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn new(config: ServerConfig, now_ns: u64) -> Result<Self, Unfit> {
        let listens = config.listens.len();
        if !(1..=0xffff).contains(&listens) || config.connections == 0 || config.mtu_bytes < 576 {
            return Err(Unfit);
        }
        let seed = config.seed;
        Ok(Self {
            table: Table::with_capacity(config.connections, [seed, !seed]),
            wheel: Wheel::new(config.connections, now_ns),
            writer: Writer::new(config.link),
            cookies: Cookies::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            numbers: HashMap::new(),
            clients: Vec::new(),
            owing: Vec::new(),
            scratch: vec![0; usize::from(config.mtu_bytes)],
            counters: ServerCounters::default(),
            config,
        })
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> &ServerCounters {
        &self.counters
    }

    /// Connections that are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.table.len()
    }

    /// Segments that were sent.
    #[must_use]
    pub fn segments_sent(&self) -> u64 {
        self.writer.sent
    }

    /// Segments for which the sink had no room.
    #[must_use]
    pub fn segments_refused(&self) -> u64 {
        self.writer.refused
    }

    /// Octets taken by connections, their index and timers.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.table.memory_bytes() + self.wheel.memory_bytes()
    }

    fn end(&mut self, id: Id, end: ServerEnd) {
        self.wheel.cancel(id.0);
        self.table.remove(id);
        self.counters.ends[end as usize] += 1;
    }

    /// Which of the served ends a segment is for.
    fn listen_of(&self, segment: &Segment<'_>) -> Option<u16> {
        let end = (segment.destination, segment.destination_port);
        let place = self.config.listens.iter().position(|&listen| listen == end);
        place.map(|place| place as u16)
    }

    /// The key of the connection that a segment may belong to; `None` when its client has never
    /// ended a handshake.
    fn peer_of(&self, segment: &Segment<'_>, listen: u16) -> Option<Peer> {
        let &client = self.numbers.get(&segment.source)?;
        Some(Peer {
            client,
            port: segment.source_port,
            listen,
        })
    }

    /// The same, with a number for a client that has none yet.
    fn meet(&mut self, segment: &Segment<'_>, listen: u16) -> Option<Peer> {
        if self.peer_of(segment, listen).is_none() {
            if self.clients.len() >= MAX_CLIENTS {
                return None;
            }
            self.numbers
                .insert(segment.source, self.clients.len() as u32);
            self.clients.push(segment.source);
        }
        self.peer_of(segment, listen)
    }

    fn tuple(&self, connection: &Connection) -> Tuple {
        let (source, source_port) = self.config.listens[usize::from(connection.peer.listen)];
        Tuple {
            source,
            destination: self.clients[connection.peer.client as usize],
            source_port,
            destination_port: connection.peer.port,
        }
    }
}
