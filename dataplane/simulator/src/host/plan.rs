//! What the ends of a connection mean to do, and what they did.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

use crate::frame::Ends;

/// Who closes first, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The client, once it has sent and read everything.
    ClientFirst,
    /// The server, once it has sent and read everything.
    ServerFirst,
    /// Each as soon as it has sent and read everything.
    Both,
    /// The client closes its half as soon as its data is sent; the server answers after that.
    ClientHalf,
    /// The server closes its half as soon as its data is sent; the client goes on sending.
    ServerHalf,
    /// The client aborts once it has sent and read so many octets together.
    ClientAborts(u64),
    /// The server aborts once it has sent and read so many octets together.
    ServerAborts(u64),
}

/// How fast an end reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// At most so many octets
    pub chunk_bytes: usize,
    /// every so often; 0 for as fast as they come.
    pub every_ns: u64,
}

impl Pace {
    /// As fast as it comes.
    pub const EAGER: Self = Self {
        chunk_bytes: usize::MAX,
        every_ns: 0,
    };
}

/// A time in the middle of a connection in which one end does nothing: it neither reads, writes nor
/// closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The end that sends this way.
    pub by: Way,
    /// After how many octets of its own.
    pub after_bytes: u64,
    /// For how long.
    pub span_ns: u64,
}

/// What one connection is for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// When the client opens it, unless it waits for another.
    pub start_ns: u64,
    /// How long after the client's end of the connection before it, in its host's list, is over.
    pub after_ns: Option<u64>,
    /// The client's address, one of its host's.
    pub client: IpAddr,
    /// The client's port.
    pub client_port: u16,
    /// The server's address.
    pub server: IpAddr,
    /// The server's port.
    pub server_port: u16,
    /// Octets from the client, at least [`HEAD_BYTES`]: the first ones name the plan.
    pub up_bytes: u64,
    /// Octets from the server.
    pub down_bytes: u64,
    /// How it ends.
    pub close: Close,
    /// How fast the client reads.
    pub client_pace: Pace,
    /// How fast the server reads.
    pub server_pace: Pace,
    /// Whether one end pauses.
    pub pause: Option<Pause>,
    /// Whether it must end as planned: false where a fault may break it.
    pub must_succeed: bool,
    /// Whether that takes an orderly close of both ends, and not all data alone: the stack does not
    /// repeat a FIN whose data is acknowledged a second time.
    pub must_close: bool,
}

impl Plan {
    /// The connection's ends, from the client's view.
    #[must_use]
    pub fn ends(&self) -> Ends {
        Ends {
            source: self.client,
            source_port: self.client_port,
            destination: self.server,
            destination_port: self.server_port,
        }
    }
}

/// Octets at the start of the client's data that tell the server which plan it serves.
pub const HEAD_BYTES: u64 = 4;

/// How an end saw its connection end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both directions were closed.
    Closed,
    /// It was reset by the peer, refused, or timed out.
    Reset,
    /// This end aborted it, as planned.
    Aborted,
}

/// What one end of a connection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Octets handed to its stack.
    pub sent: u64,
    /// Octets received, each of them right.
    pub received: u64,
    /// Whether the peer's half was closed after the octets received.
    pub saw_end: bool,
    /// How it ended, once it has.
    pub end: Option<End>,
}

/// A connection's plan and what became of it.
#[derive(Clone, Debug)]
pub struct Record {
    /// What was planned.
    pub plan: Plan,
    /// The client's end.
    pub client: Progress,
    /// The server's end.
    pub server: Progress,
    /// How many connections the server saw for this plan.
    pub served: u32,
}

/// All connections of a world, shared by its hosts, and what they found wrong.
#[derive(Debug, Default)]
pub struct Book {
    /// The connections; a plan is named by its place here.
    pub records: Vec<Record>,
    /// What an end received that it should not have.
    pub faults: Vec<String>,
}

/// A book that hosts and invariants share.
pub type SharedBook = Rc<RefCell<Book>>;

impl Book {
    /// An empty one.
    #[must_use]
    pub fn shared() -> SharedBook {
        Rc::default()
    }

    /// Adds a plan and gives its name.
    pub fn plan(&mut self, plan: Plan) -> usize {
        assert!(
            plan.up_bytes >= HEAD_BYTES,
            "the server could not tell whom it serves"
        );
        let (client, server) = Default::default();
        self.records.push(Record {
            plan,
            client,
            server,
            served: 0,
        });
        self.records.len() - 1
    }
}

/// Which way octets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the server.
    Up,
    /// To the client.
    Down,
}

/// The octets of a connection's stream from `offset` on: everybody can tell what should come.
pub(super) fn fill(plan: usize, way: Way, offset: u64, octets: &mut [u8]) {
    for (place, octet) in octets.iter_mut().enumerate() {
        *octet = octet_at(plan, way, offset + place as u64);
    }
}

fn octet_at(plan: usize, way: Way, offset: u64) -> u8 {
    if way == Way::Up && offset < HEAD_BYTES {
        return (plan as u32).to_be_bytes()[offset as usize];
    }
    let key = (plan as u64) << 40 | u64::from(way == Way::Down) << 39 | offset;
    let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8 ^ (mixed >> 24) as u8
}

/// Whether `octets` are those of the stream from `offset` on.
pub(super) fn is_right(plan: usize, way: Way, offset: u64, octets: &[u8]) -> bool {
    let mut places = offset..;
    octets.iter().all(|&octet| {
        places
            .next()
            .is_some_and(|at| octet == octet_at(plan, way, at))
    })
}
