//! What the control thread asks of a worker, and what it gets back.
//!
//! Everything large is boxed by the control thread and travels back to it, so that a worker
//! neither allocates nor frees. A full ring is survived: a report that finds no room is kept and
//! offered again in the next loop.

use std::sync::Arc;

use arrayvec::ArrayVec;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::capture::Tap;
use crate::context::Context;
use crate::flow::table::Id;
use crate::guard::config::GuardConfig;
use crate::guard::session::{SessionName, State};
use crate::guard::{EchoStanding, Guard, GuardStatus, Tally};
use crate::hop::{Hop, HopTables, Neighbour};
use crate::io::{Io, PortId};
use crate::limits::{COMMAND_RING, LISTING_PAGE, MAX_PLACES, MAX_SERVICES};
use crate::port::PortQueues;
use crate::runtime::Figures;
use crate::wire::address::Address;

/// A session as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// The client's address.
    pub client: Address,
    /// The client's port.
    pub client_port: u16,
    /// The server's address.
    pub server: Address,
    /// The server's port.
    pub server_port: u16,
    /// Where in its life it is.
    pub state: State,
    /// Whether it is translated, or only tracked.
    pub is_spliced: bool,
    /// What is added to a number that the client sees to get the server's own.
    pub sequence_delta: u32,
    /// For how long it has been silent, in milliseconds.
    pub idle_ms: u64,
}

/// A page of sessions.
#[derive(Debug, Default)]
pub struct SessionPage {
    /// Where to go on; `None` from the start.
    pub after: Option<Id>,
    /// The sessions found.
    pub rows: ArrayVec<SessionRow, LISTING_PAGE>,
    /// Whether the last one has been found.
    pub is_last: bool,
}

/// A page of neighbours.
#[derive(Debug, Default)]
pub struct NeighbourPage {
    /// Where to go on; `None` from the start, and after the last one.
    pub next: Option<usize>,
    /// The neighbours found.
    pub rows: ArrayVec<Neighbour, LISTING_PAGE>,
}

/// What a worker knows of one protected server, or of one of its services.
#[derive(Clone, Copy, Debug)]
pub struct ServerRow {
    /// Its address.
    pub address: Address,
    /// The service's port; `None` in the server's own row, which says what the service does that
    /// answered last.
    pub port: Option<u16>,
    /// Whether it has answered yet.
    pub is_learned: bool,
    /// What it does.
    pub traits: crate::guard::server::ServerTraits,
    /// Whether its echoes come back, on a transparent wire.
    pub echo: Option<EchoStanding>,
    /// In the server's own row, whether it keeps its place when it is not protected any more.
    pub keeps_place: bool,
}

/// A service's numbers at one worker.
#[derive(Clone, Copy, Debug)]
pub struct ServiceRow {
    /// Its server's address.
    pub address: Address,
    /// Its port.
    pub port: u16,
    /// Its numbers.
    pub tally: Tally,
}

/// What a worker's services are asked for and do.
#[derive(Debug, Default)]
pub struct ServicePage {
    /// Whether a flood is on, for this worker.
    pub is_flood: bool,
    /// SYNs for protected services a second.
    pub syns_per_s: u64,
    /// The services that were asked for, as far as there is room for them.
    pub rows: Vec<ServiceRow>,
}

impl ServicePage {
    /// One that a worker can fill without allocating.
    pub fn empty() -> Box<Self> {
        Box::new(Self {
            rows: Vec::with_capacity(MAX_SERVICES),
            ..Self::default()
        })
    }
}

/// How a worker stands.
#[derive(Debug, Default)]
pub struct WorkerStatus {
    /// Its share of the guard.
    pub guard: GuardStatus,
    /// Packets that wait for an address resolution.
    pub hop_held: usize,
    /// Fragments that wait for the rest of their datagram.
    pub fragments_held: usize,
    /// Frames of this loop that have not been handed to a port yet.
    pub waiting: usize,
    /// Where its time went.
    pub runtime: Figures,
    /// The protected servers.
    pub servers: Vec<ServerRow>,
}

impl WorkerStatus {
    /// One that a worker can fill without allocating.
    pub fn empty() -> Box<Self> {
        Box::new(Self {
            servers: Vec::with_capacity(MAX_PLACES + MAX_SERVICES),
            ..Self::default()
        })
    }
}

/// A new configuration, or after the exchange the old one.
pub struct Configuration {
    /// The hop's tables.
    pub hop: Arc<HopTables>,
    /// The guard's configuration.
    pub guard: Box<GuardConfig>,
    /// After the exchange, how many servers are not protected for want of a place.
    pub refused_servers: usize,
}

impl Configuration {
    /// Puts this configuration in force; what it replaces stands here afterwards.
    pub(crate) fn exchange<I: Io>(
        &mut self,
        hop: &mut Hop<I::Buffer>,
        guard: &mut Guard<I::Buffer>,
        ctx: &mut Context<'_, I>,
    ) {
        self.hop = hop.reconfigure(Arc::clone(&self.hop), ctx);
        self.refused_servers = guard.reconfigure(&mut self.guard);
    }
}

/// What a worker is asked.
pub enum Command {
    /// Take over this configuration.
    Reconfigure(Box<Configuration>),
    /// Open no more sessions, but those that the peers can carry on.
    Drain,
    /// Open no session at all: the peers are about to hear the last.
    Leave,
    /// Tell the neighbours who has our addresses.
    Announce,
    /// Fill in how you stand.
    Status(Box<WorkerStatus>),
    /// Fill in your services' numbers.
    Services(Box<ServicePage>),
    /// Fill in a page of sessions.
    Sessions(Box<SessionPage>),
    /// End this session.
    EndSession(SessionName),
    /// Fill in a page of neighbours.
    Neighbours(Box<NeighbourPage>),
    /// Use these queues of a port in the place of those that you have; without any the port is lost.
    Queues(PortId, Box<PortQueues>),
    /// Copy matching packets into this tap; replaces the tap that is there.
    Capture(Box<Tap>),
    /// Stop copying.
    EndCapture,
    /// Leave the loop.
    Stop,
}

/// What a worker gives back.
pub enum Report {
    /// The old configuration.
    Reconfigured(Box<Configuration>),
    /// How it stands.
    Status(Box<WorkerStatus>),
    /// Its services' numbers.
    Services(Box<ServicePage>),
    /// A page of sessions.
    Sessions(Box<SessionPage>),
    /// Whether there was such a session to end.
    SessionEnded(bool),
    /// A page of neighbours.
    Neighbours(Box<NeighbourPage>),
    /// The queues that it had.
    Queues(Box<PortQueues>),
    /// A tap that is no longer used.
    CaptureEnded(Box<Tap>),
    /// There was no tap to end.
    NoCapture,
    /// Drains, leaves, or has announced.
    Done,
    /// The loop is left.
    Stopped,
}

/// The worker's ends of the rings.
pub struct WorkerDesk {
    pub(crate) commands: Consumer<Command>,
    pub(crate) reports: Producer<Report>,
    /// A report that found the ring full.
    pub(crate) unsent: Option<Report>,
}

/// The control thread's ends of the rings.
pub struct ControlDesk {
    /// Where commands go in. Each is answered by one report, in order.
    pub commands: Producer<Command>,
    /// Where reports come out.
    pub reports: Consumer<Report>,
}

/// The rings between the control thread and one worker.
pub fn desk() -> (ControlDesk, WorkerDesk) {
    let (commands, taken) = RingBuffer::new(COMMAND_RING);
    let (given, reports) = RingBuffer::new(COMMAND_RING);
    (
        ControlDesk { commands, reports },
        WorkerDesk {
            commands: taken,
            reports: given,
            unsent: None,
        },
    )
}

impl WorkerDesk {
    /// The next command, unless a report still waits for room.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Command> {
        if let Some(report) = self.unsent.take() {
            self.report(report);
            if self.unsent.is_some() {
                return None;
            }
        }
        self.commands.pop().ok()
    }

    pub(crate) fn report(&mut self, report: Report) {
        if let Err(rtrb::PushError::Full(report)) = self.reports.push(report) {
            self.unsent = Some(report);
        }
    }
}
