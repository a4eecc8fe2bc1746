//! The clients: each connection is a place in an array that its address and port are computed
//! from, so that a segment finds its connection without a table.

mod gaps;
mod receive;
mod transmit;

use std::collections::HashMap;

use dataplane::flow::wheel::Wheel;
use dataplane::wire::address::{Address, Family};

use self::gaps::Gaps;
use super::outcome::{End, Ends, Latencies};
use super::segment::{Link, Segment, Tuple, Writer};
use super::stream::{Exchange, HEAD_BYTES, MAX_BODY_BYTES, MAX_REQUEST_BYTES, MIN_REQUEST_BYTES};
use super::tcb::{Tcb, flag};

/// Clients of one family, and the servers that they ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The first client's address; the others follow it.
    pub first: Address,
    /// How many addresses.
    pub addresses: u32,
    /// The first port that each uses.
    pub first_port: u16,
    /// How many ports.
    pub ports: u16,
    /// Whom they ask, of the same family.
    pub servers: Vec<(Address, u16)>,
}

impl Pool {
    /// The most ports that a client uses: those from 1024 on.
    pub const MOST_PORTS: u16 = u16::MAX - 1023;

    /// How many connections there can be at once.
    #[must_use]
    pub fn connections(&self) -> u64 {
        u64::from(self.addresses) * u64::from(self.ports)
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Talk {
    /// Our own servers, which answer what is verified octet by octet.
    Verified {
        /// Octets of each request.
        request_bytes: u32,
        /// Octets of each response behind its head.
        body_bytes: u32,
    },
    /// Any web server that says how long its response is.
    Web {
        /// The whole request.
        request: Vec<u8>,
        /// The body that the response must have, where it is known.
        body: Option<Vec<u8>>,
    },
}

/// How a connection ends that went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The client sends its FIN first.
    Client,
    /// The server sends its FIN first.
    Server,
    /// The client resets.
    Reset,
    /// It stays open until it is closed by [`Clients::close_held`].
    Hold,
}

/// What clients are like.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The stations.
    pub link: Link,
    /// The clients.
    pub pools: Vec<Pool>,
    /// The most connections at once; fewer where the pools have fewer.
    pub connections: u32,
    /// What is asked on each.
    pub talk: Talk,
    /// How each ends.
    pub close: Close,
    /// Octets of the largest IP packet.
    pub mtu_bytes: u16,
    /// How often a SYN is sent before nobody is taken to be there.
    pub syn_tries: u8,
    /// How often anything else is sent.
    pub tries: u8,
    /// How long a response may stand still.
    pub response_timeout_ns: u64,
    /// What makes two runs alike.
    pub seed: u64,
}

impl ClientConfig {
    /// Small requests of the pool's clients, which close.
    #[must_use]
    pub fn new(link: Link, pool: Pool) -> Self {
        Self {
            link,
            connections: u32::try_from(pool.connections()).unwrap_or(u32::MAX),
            pools: vec![pool],
            talk: Talk::Verified {
                request_bytes: 128,
                body_bytes: 64,
            },
            close: Close::Client,
            mtu_bytes: 1500,
            syn_tries: 3,
            tries: 6,
            response_timeout_ns: 5_000_000_000,
            seed: 1,
        }
    }
}

/// What clients cannot be made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// There is no connection that could be made.
    #[error("there are no clients: give at least one address, one port and one server")]
    NoClients,
    /// A server of another family than its clients, or ports past the last.
    #[error("clients from {0:?}: their servers must be of their family, their ports below 65536")]
    Pool(Address),
    /// More places than can be numbered.
    #[error("clients cannot hold more than 4 billion connections")]
    TooMany,
    /// A request or response that cannot be.
    #[error(
        "a request has {MIN_REQUEST_BYTES} to {MAX_REQUEST_BYTES} octets, \
         a response at most {MAX_BODY_BYTES}"
    )]
    Lengths,
    /// No packet of TCP fits.
    #[error("an MTU below 576 octets is too small for these endpoints")]
    Mtu,
}

/// No more connections can be begun now: every port of every address is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("every port of every client is in use")]
pub struct NoPort;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
enum State {
    #[default]
    Free,
    SynSent,
    Exchange,
    Held,
    Closing,
}

/// One connection: with its timer, 64 octets.
#[derive(Clone, Copy, Debug, Default)]
struct Connection {
    tcb: Tcb,
    /// The first octet of the request.
    send_base: u32,
    /// The first octet of the response; of its body, once a web server's head is read.
    receive_base: u32,
    /// Octets of the response from there.
    expected: u32,
    /// When the first SYN was sent, in units of 1024 ns.
    started: u32,
    /// How often the place was used.
    generation: u16,
    /// The number of the exchange on this connection.
    exchange: u8,
    state: State,
}

const _: () = assert!(size_of::<Connection>() == 52);

/// Places that are free, the one that has been so for longest first: a list through the places
/// themselves, where [`Connection::started`] says which comes next.
#[derive(Clone, Copy, Debug)]
struct Free {
    first: u32,
    last: u32,
}

/// No place.
const NONE: u32 = u32::MAX;

impl Free {
    /// Of places that are all free.
    fn all(places: &mut [Connection]) -> Self {
        let last = places.len() as u32 - 1;
        for (place, next) in places.iter_mut().zip(1..) {
            place.started = if next > last { NONE } else { next };
        }
        Self { first: 0, last }
    }

    fn pop(&mut self, places: &[Connection]) -> Option<u32> {
        let place = self.first;
        self.first = places.get(place as usize)?.started;
        Some(place)
    }

    fn push(&mut self, places: &mut [Connection], place: u32) {
        places[place as usize].started = NONE;
        if self.first == NONE {
            self.first = place;
        } else {
            places[self.last as usize].started = place;
        }
        self.last = place;
    }
}

/// A web server's head has not come yet.
const UNKNOWN: u32 = u32::MAX;
/// Connections whose gaps are kept at once; octets behind gaps of others are dropped.
const MAX_GAPS: usize = 1 << 16;
/// Octets of a timer in the wheel.
const TIMER_BYTES: usize = 12;

/// What came that belongs to no connection, and what was sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCounters {
    /// Frames that are no TCP.
    pub other: u64,
    /// Frames that are malformed, or whose checksum is wrong.
    pub malformed: u64,
    /// Segments that are for none of the clients, or from none of their servers.
    pub foreign: u64,
    /// Segments sent again, SYNs included.
    pub retransmitted: u64,
    /// Exchanges complete, with every octet verified.
    pub exchanges: u64,
    /// Octets of responses that were verified.
    pub verified_bytes: u64,
}

/// TCP clients. The calling contract stands at [`super`].
pub struct Clients {
    config: ClientConfig,
    places: Vec<Connection>,
    free: Free,
    wheel: Wheel,
    writer: Writer,
    owing: Vec<u32>,
    gaps: HashMap<u32, Gaps>,
    scratch: Vec<u8>,
    held: u64,
    ends: Ends,
    latencies: Latencies,
    counters: ClientCounters,
}

impl Clients {
    /// Clients without a connection, at the time `now_ns`.
    ///
    /// # Errors
    /// What in the configuration cannot be.
    pub fn new(config: ClientConfig, now_ns: u64) -> Result<Self, Unfit> {
        let places = check(&config)?;
        let mut connections = vec![Connection::default(); places as usize];
        Ok(Self {
            free: Free::all(&mut connections),
            places: connections,
            wheel: Wheel::new(places, now_ns),
            writer: Writer::new(config.link),
            owing: Vec::new(),
            gaps: HashMap::new(),
            scratch: vec![0; usize::from(config.mtu_bytes)],
            held: 0,
            ends: Ends::default(),
            latencies: Latencies::default(),
            counters: ClientCounters::default(),
            config,
        })
    }

    /// How many connections there can be at once.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.places.len()
    }

    /// What became of the connections.
    #[must_use]
    pub fn ends(&self) -> &Ends {
        &self.ends
    }

    /// Connections that are held open, their exchange complete.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held
    }

    /// How long things took.
    #[must_use]
    pub fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// Gives the times measured so far, and begins anew.
    pub fn take_latencies(&mut self) -> Latencies {
        std::mem::take(&mut self.latencies)
    }

    /// What else was counted.
    #[must_use]
    pub fn counters(&self) -> ClientCounters {
        self.counters
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

    /// Octets taken by connections and timers.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of_val(self.places.as_slice())
            + self.wheel.memory_bytes()
            + self.gaps.capacity() * (size_of::<Gaps>() + size_of::<u32>())
    }

    /// Octets of one connection and its timer.
    #[must_use]
    pub const fn connection_bytes() -> usize {
        size_of::<Connection>() + TIMER_BYTES
    }

    /// Changes what is asked on connections from here on. Nothing may be open.
    ///
    /// # Errors
    /// [`Unfit::Lengths`].
    ///
    /// # Panics
    /// When a connection is open.
    pub fn talk(&mut self, talk: Talk, close: Close) -> Result<(), Unfit> {
        assert_eq!(self.ends.open(), 0, "connections are open");
        check_talk(&talk)?;
        self.config.talk = talk;
        self.config.close = close;
        Ok(())
    }

    /// Counts a connection's end and frees its place.
    fn end(&mut self, id: u32, end: End, now_ns: u64) {
        let connection = &mut self.places[id as usize];
        if connection.state == State::Held {
            self.held -= 1;
        }
        if end == End::Completed {
            let _ = self.latencies.whole_ns.record(age_ns(connection, now_ns));
        }
        connection.state = State::Free;
        let had_gap = connection.tcb.is(flag::GAP);
        self.wheel.cancel(id);
        if had_gap {
            self.gaps.remove(&id);
        }
        self.free.push(&mut self.places, id);
        self.ends.count(end);
    }

    /// The exchange under way on a connection, where it is one of ours.
    fn exchange(&self, id: u32) -> Option<Exchange> {
        let Talk::Verified {
            request_bytes,
            body_bytes,
        } = self.config.talk
        else {
            return None;
        };
        let connection = &self.places[id as usize];
        Some(Exchange {
            key: u64::from(id)
                | u64::from(connection.generation) << 32
                | u64::from(connection.exchange) << 48
                | self.config.seed << 56,
            request_bytes,
            body_bytes,
            server_closes: self.config.close == Close::Server,
        })
    }

    fn request_bytes(&self) -> u32 {
        match &self.config.talk {
            Talk::Verified { request_bytes, .. } => *request_bytes,
            Talk::Web { request, .. } => request.len() as u32,
        }
    }

    fn expected_bytes(&self) -> u32 {
        match self.config.talk {
            Talk::Verified { body_bytes, .. } => HEAD_BYTES + body_bytes,
            Talk::Web { .. } => UNKNOWN,
        }
    }

    /// Behind the last octet of the request.
    fn send_end(&self, id: u32) -> u32 {
        let base = self.places[id as usize].send_base;
        base.wrapping_add(self.request_bytes())
    }

    /// Addresses and ports of the place's connection, as the client sends.
    fn tuple(&self, id: u32) -> Tuple {
        let mut number = u64::from(id);
        let mut pools = self.config.pools.iter();
        let pool = loop {
            let pool = pools.next().expect("a place is of one of the pools");
            match number.checked_sub(pool.connections()) {
                Some(rest) => number = rest,
                None => break pool,
            }
        };
        let addresses = u64::from(pool.addresses);
        let (destination, destination_port) = server_of(pool, number);
        Tuple {
            source: Address::from_bits(pool.first.to_bits() + u128::from(number % addresses)),
            destination,
            source_port: pool.first_port + (number / addresses) as u16,
            destination_port,
        }
    }

    /// The place of the connection that a segment belongs to.
    #[inline]
    fn place_of(&self, segment: &Segment<'_>) -> Option<u32> {
        let mut first_place = 0;
        for pool in &self.config.pools {
            let address = segment
                .destination
                .to_bits()
                .wrapping_sub(pool.first.to_bits());
            let port = segment.destination_port.wrapping_sub(pool.first_port);
            if address < u128::from(pool.addresses) && port < pool.ports {
                let number = u64::from(port) * u64::from(pool.addresses) + address as u64;
                let id = first_place + number;
                let is_of_server = server_of(pool, number) == (segment.source, segment.source_port);
                return (is_of_server && id < self.places.len() as u64).then_some(id as u32);
            }
            first_place += pool.connections();
        }
        None
    }
}

fn server_of(pool: &Pool, number: u64) -> (Address, u16) {
    // Each address asks each server in turn, port by port.
    let turn = number / u64::from(pool.addresses) + number % u64::from(pool.addresses);
    pool.servers[(turn % pool.servers.len() as u64) as usize]
}

/// How long ago the connection was begun.
fn age_ns(connection: &Connection, now_ns: u64) -> u64 {
    u64::from(clock(now_ns).wrapping_sub(connection.started)) << 10
}

/// The time as connections keep it: it comes around after 73 minutes.
fn clock(now_ns: u64) -> u32 {
    (now_ns >> 10) as u32
}

/// The time as timestamps have it.
fn milliseconds(now_ns: u64) -> u32 {
    (now_ns / 1_000_000) as u32
}

/// How many places there are to be.
fn check(config: &ClientConfig) -> Result<u32, Unfit> {
    if config.mtu_bytes < 576 {
        return Err(Unfit::Mtu);
    }
    check_talk(&config.talk)?;
    let mut total = 0;
    for pool in &config.pools {
        let family = pool.first.family();
        let last = pool.first.to_bits().checked_add(u128::from(pool.addresses));
        let last = Address::from_bits(last.map_or(0, |last| last.saturating_sub(1)));
        let fits = pool
            .servers
            .iter()
            .all(|server| server.0.family() == family)
            && (pool.addresses == 0 || last.family() == family)
            && u32::from(pool.first_port) + u32::from(pool.ports) <= 65_536;
        if !fits {
            return Err(Unfit::Pool(pool.first));
        }
        if pool.servers.is_empty() || pool.connections() == 0 {
            return Err(Unfit::NoClients);
        }
        total += pool.connections();
    }
    match total.min(u64::from(config.connections)) {
        0 => Err(Unfit::NoClients),
        places if places < u64::from(u32::MAX >> 1) => Ok(places as u32),
        _ => Err(Unfit::TooMany),
    }
}

fn check_talk(talk: &Talk) -> Result<(), Unfit> {
    let fits = match talk {
        Talk::Verified {
            request_bytes,
            body_bytes,
        } => {
            (MIN_REQUEST_BYTES..=MAX_REQUEST_BYTES).contains(request_bytes)
                && *body_bytes <= MAX_BODY_BYTES
        }
        Talk::Web { request, .. } => {
            !request.is_empty() && request.len() <= MAX_REQUEST_BYTES as usize
        }
    };
    fits.then_some(()).ok_or(Unfit::Lengths)
}

/// Octets of the largest TCP payload of an IP packet of `mtu_bytes` without options.
pub(super) fn mss_of(mtu_bytes: u16, family: Family) -> u16 {
    mtu_bytes
        - match family {
            Family::V4 => 40,
            Family::V6 => 60,
        }
}
