//! Hosts with a TCP stack of their own, which shares nothing with the appliance's.

mod accent;
mod application;
mod neighbours;
mod plan;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpEndpoint};

use self::accent::{Accent, Opinion};
use self::application::Application;
use crate::frame::{self, Ends, Mac, flag};
use crate::node::{Departure, Node};

pub use accent::Manner;
pub use plan::{
    Book, Close, End, HEAD_BYTES, Pace, Pause, Plan, Progress, Record, SharedBook, Way,
};

/// What a host's stack is like.
#[derive(Clone, Debug)]
pub struct HostSettings {
    /// Its station address.
    pub mac: Mac,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Its routers, at most one of each family.
    pub gateways: Vec<IpAddr>,
    /// Octets of the largest IP packet that it sends and takes.
    pub mtu_bytes: usize,
    /// Whether it does TCP timestamps.
    pub timestamps: bool,
    /// The receive buffer of each connection, which decides the window scale.
    pub receive_bytes: usize,
    /// The send buffer of each connection.
    pub send_bytes: usize,
    /// For how long acknowledgements are put off; `None` for not at all.
    pub ack_delay_ns: Option<u64>,
    /// Whether small segments wait for each other.
    pub nagle: bool,
    /// How it speaks where that is not its stack's own manner.
    pub manner: Manner,
    /// Ports that it serves.
    pub listens: Vec<u16>,
    /// Seed of its sequence numbers.
    pub seed: u64,
}

/// Connections that a port can take at once while none is being served.
const BACKLOG: usize = 24;

/// Connections that clients have asked for and not confirmed, of which a host remembers so many. The
/// stack itself would keep those of a flood for good.
const MAX_HALF_OPEN: usize = 256;

/// For how long a client may leave its connection unconfirmed: as long as Linux repeats a SYN-ACK.
const HALF_OPEN_NS: u64 = 63_000_000_000;

/// Frames that a host may send without the clock moving on. A stack that never comes to an end fails
/// here before it takes all memory.
const MAX_FRAMES_AT_ONCE: usize = 100_000;

thread_local! {
    /// The virtual time in milliseconds, for timestamps: the stack asks a function without state.
    static CLOCK_MS: Cell<u32> = const { Cell::new(0) };
}

fn timestamp() -> u32 {
    CLOCK_MS.get()
}

struct Connection {
    handle: SocketHandle,
    begun_ns: u64,
    application: Application,
}

/// A host with one port, its number 0.
pub struct Host {
    settings: HostSettings,
    interface: Interface,
    wire: Wire,
    accent: Accent,
    sockets: SocketSet<'static>,
    listening: Vec<(u16, SocketHandle)>,
    connections: Vec<Connection>,
    /// Plans of this host's that are not begun, soonest first.
    waiting: VecDeque<(u64, usize)>,
    /// Of plans that another one waits for the end of: how long after it which one is begun.
    successors: BTreeMap<usize, (u64, usize)>,
    /// When each neighbour was last asked for.
    asked: BTreeMap<IpAddr, u64>,
    /// What SYNs that do not fit are answered with, for the next poll.
    challenges: Vec<Vec<u8>>,
    book: SharedBook,
    is_on: bool,
    pings: Pings,
    next_stack_ns: Option<u64>,
}

/// Which pings a host answers.
#[derive(Clone, Copy, Debug)]
enum Pings {
    All,
    None,
    /// One in so long; `due_ns` is when the last one would have come if they came no faster.
    Limited {
        gap_ns: u64,
        due_ns: u64,
    },
}

impl Pings {
    /// How many pings a limit lets through at once.
    const BURST: u64 = 5;

    /// Whether the ping that has come is answered.
    fn take(&mut self, now_ns: u64) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Limited { gap_ns, due_ns } => {
                let is_taken = *due_ns <= now_ns + *gap_ns * (Self::BURST - 1);
                if is_taken {
                    *due_ns = (*due_ns).max(now_ns) + *gap_ns;
                }
                is_taken
            }
        }
    }
}

impl Host {
    /// A host that serves its ports and keeps `book`.
    #[must_use]
    pub fn new(settings: HostSettings, book: SharedBook) -> Self {
        let mut wire = Wire {
            mtu_bytes: settings.mtu_bytes,
            ..Wire::default()
        };
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(settings.mac)));
        config.random_seed = settings.seed;
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            for &(address, length) in &settings.addresses {
                addresses
                    .push(IpCidr::new(address.into(), length))
                    .expect("a host of few addresses");
            }
        });
        for gateway in &settings.gateways {
            let routes = interface.routes_mut();
            let earlier = match *gateway {
                IpAddr::V4(gateway) => routes.add_default_ipv4_route(gateway).is_ok(),
                IpAddr::V6(gateway) => routes.add_default_ipv6_route(gateway).is_ok(),
            };
            assert!(earlier, "the host has room for its routes");
        }
        let mut host = Self {
            accent: Accent::new(settings.manner),
            settings,
            interface,
            wire,
            sockets: SocketSet::new(Vec::new()),
            listening: Vec::new(),
            connections: Vec::new(),
            waiting: VecDeque::new(),
            successors: BTreeMap::new(),
            asked: BTreeMap::new(),
            challenges: Vec::new(),
            book,
            is_on: true,
            pings: Pings::All,
            next_stack_ns: None,
        };
        host.listen();
        host
    }

    /// Has this host's client open the connections of these plans. To be called before the run.
    pub fn begin(&mut self, plans: impl IntoIterator<Item = usize>) {
        let book = self.book.borrow();
        let mut before = None;
        for plan in plans {
            let record = &book.records[plan];
            match record.plan.after_ns.zip(before) {
                Some((gap_ns, before)) => {
                    self.successors.insert(before, (gap_ns, plan));
                }
                None => self.waiting.push_back((record.plan.start_ns, plan)),
            }
            before = Some(plan);
        }
        drop(book);
        self.waiting.make_contiguous().sort_unstable();
    }

    /// Switches the host off: it neither hears nor speaks until it is started again.
    pub fn stop(&mut self) {
        self.is_on = false;
        self.wire.arrived.clear();
    }

    /// Starts the host again; it remembers nothing of its connections.
    pub fn restart(&mut self) {
        self.is_on = true;
        self.sockets = SocketSet::new(Vec::new());
        self.connections.clear();
        self.listening.clear();
        self.listen();
    }

    /// Stops serving: who connects is refused.
    pub fn refuse(&mut self) {
        for (_, handle) in self.listening.drain(..) {
            self.sockets.remove(handle);
        }
        self.settings.listens.clear();
    }

    /// Answers no ping from then on.
    pub fn ignore_pings(&mut self) {
        self.pings = Pings::None;
    }

    /// Answers so many pings a second from then on, and some more at once after a pause.
    pub fn limit_pings(&mut self, per_s: u64) {
        self.pings = Pings::Limited {
            gap_ns: 1_000_000_000 / per_s,
            due_ns: 0,
        };
    }

    /// How many connections it has, at either end, that are not over.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.connections.len()
    }

    /// Whether the stack may have a frame. A SYN of a connection that is there already it may not:
    /// it would let a listening socket take it, as if it were a new one. In TIME-WAIT it is one, if
    /// it is newer. Nor may it have a ping that it is not to answer.
    fn admits(&mut self, frame: &[u8], now_ns: u64) -> bool {
        let Some(packet) = frame::decode(frame) else {
            return true;
        };
        let (Some(ends), Some(segment)) = (packet.ends(), packet.segment()) else {
            return !packet.is_ping() || self.pings.take(now_ns);
        };
        if !segment.has(flag::SYN) || segment.has(flag::ACK) {
            return true;
        }
        let own = ends.reversed();
        let Some((place, state)) = self.find(own) else {
            return true;
        };
        match state {
            State::SynSent | State::SynReceived => false,
            State::TimeWait if self.accent.judge(own, segment) == Opinion::New => {
                let old = self.connections.swap_remove(place);
                self.sockets.remove(old.handle);
                true
            }
            _ => {
                let challenge = self
                    .accent
                    .challenge(self.settings.mac, packet.from_station, own);
                self.challenges.extend(challenge);
                false
            }
        }
    }

    /// The connection between these ends, and its state.
    fn find(&self, own: Ends) -> Option<(usize, State)> {
        let local = Some(IpEndpoint::new(own.source.into(), own.source_port));
        let remote = Some(IpEndpoint::new(
            own.destination.into(),
            own.destination_port,
        ));
        let state_of = |connection: &Connection| {
            let socket = self.sockets.get::<Socket<'_>>(connection.handle);
            let is_it = socket.remote_endpoint() == remote && socket.local_endpoint() == local;
            is_it.then(|| socket.state())
        };
        let mut states = self.connections.iter().map(state_of);
        let place = states.position(|state| state.is_some())?;
        Some((place, state_of(&self.connections[place])?))
    }

    fn socket(&self) -> Socket<'static> {
        let receive = SocketBuffer::new(vec![0; self.settings.receive_bytes]);
        let send = SocketBuffer::new(vec![0; self.settings.send_bytes]);
        let mut socket = Socket::new(receive, send);
        socket.set_tsval_generator(self.settings.timestamps.then_some(timestamp as fn() -> u32));
        let delay = self
            .settings
            .ack_delay_ns
            .map(|ns| Duration::from_micros(ns / 1000));
        socket.set_ack_delay(delay);
        socket.set_nagle_enabled(self.settings.nagle);
        socket
    }

    /// Keeps as many sockets listening on each port as the backlog says.
    fn listen(&mut self) {
        for port in self.settings.listens.clone() {
            let count = self
                .listening
                .iter()
                .filter(|(known, _)| *known == port)
                .count();
            for _ in count..BACKLOG {
                let mut socket = self.socket();
                socket.listen(port).expect("a fresh socket listens");
                let handle = self.sockets.add(socket);
                self.listening.push((port, handle));
            }
        }
    }

    fn open_due(&mut self, now_ns: u64) {
        while let Some(&(start_ns, number)) = self.waiting.front()
            && start_ns <= now_ns
        {
            self.waiting.pop_front();
            let plan = self.book.borrow().records[number].plan.clone();
            // Who begins anew may cut its own TIME-WAIT short.
            if let Some((place, State::TimeWait | State::Closed)) = self.find(plan.ends()) {
                let old = self.connections.swap_remove(place);
                self.sockets.remove(old.handle);
            }
            let mut socket = self.socket();
            let local = (IpAddress::from(plan.client), plan.client_port);
            let remote = (IpAddress::from(plan.server), plan.server_port);
            socket
                .connect(self.interface.context(), remote, local)
                .expect("a fresh socket connects");
            let handle = self.sockets.add(socket);
            let application = Application::client(number);
            self.connections.push(Connection {
                handle,
                begun_ns: now_ns,
                application,
            });
        }
    }

    /// Gives every connection that has come in an application.
    fn accept(&mut self, now_ns: u64) {
        // A listening socket whose handshake was reset within one poll has forgotten its timestamps.
        let clock = self.settings.timestamps.then_some(timestamp as fn() -> u32);
        for (_, handle) in &self.listening {
            let socket = self.sockets.get_mut::<Socket<'_>>(*handle);
            if socket.state() == State::Listen {
                socket.set_tsval_generator(clock);
            }
        }
        let sockets = &self.sockets;
        let is_taken = |&(_, handle): &(u16, SocketHandle)| {
            sockets.get::<Socket<'_>>(handle).state() != State::Listen
        };
        let taken: BTreeSet<_> = self
            .listening
            .iter()
            .filter(|entry| is_taken(entry))
            .map(|entry| entry.1)
            .collect();
        if taken.is_empty() {
            return;
        }
        self.listening.retain(|(_, handle)| !taken.contains(handle));
        let served = |handle| Connection {
            handle,
            begun_ns: now_ns,
            application: Application::server(),
        };
        self.connections.extend(taken.into_iter().map(served));
        self.listen();
    }

    /// Forgets connections that nobody has confirmed: old ones, and the oldest where they are many.
    fn forget_half_open(&mut self, now_ns: u64) {
        let sockets = &mut self.sockets;
        let is_half_open = |sockets: &SocketSet<'_>, handle| {
            sockets.get::<Socket<'_>>(handle).state() == State::SynReceived
        };
        let connections = self.connections.iter();
        let half_open = connections.filter(|connection| is_half_open(sockets, connection.handle));
        let mut surplus = half_open.count().saturating_sub(MAX_HALF_OPEN);
        self.connections.retain(|connection| {
            let is_old = now_ns - connection.begun_ns >= HALF_OPEN_NS;
            let goes = (surplus > 0 || is_old) && is_half_open(sockets, connection.handle);
            if goes {
                surplus = surplus.saturating_sub(1);
                sockets.remove(connection.handle);
            }
            !goes
        });
    }

    fn serve(&mut self, now_ns: u64) {
        let mut book = self.book.borrow_mut();
        let sockets = &mut self.sockets;
        self.connections.retain_mut(|connection| {
            let socket = sockets.get_mut::<Socket<'_>>(connection.handle);
            let lives = connection.application.serve(socket, &mut book, now_ns);
            // An aborted socket still has its RST to send.
            let lives = lives || socket.remote_endpoint().is_some();
            // A handshake that was reset leaves a socket that listens again, with less to offer.
            let lives = lives && socket.state() != State::Listen;
            if !lives {
                sockets.remove(connection.handle);
            }
            lives
        });
        drop(book);
        self.follow_up(now_ns);
    }

    /// Has those begin soon that waited for another's end.
    fn follow_up(&mut self, now_ns: u64) {
        let book = self.book.borrow();
        let is_over = |plan: &usize| book.records[*plan].client.end.is_some();
        let over: Vec<usize> = self.successors.keys().copied().filter(is_over).collect();
        for plan in over {
            let Some((gap_ns, next)) = self.successors.remove(&plan) else {
                continue;
            };
            let start = (now_ns + gap_ns, next);
            let place = self.waiting.partition_point(|earlier| *earlier < start);
            self.waiting.insert(place, start);
        }
    }
}

impl Node for Host {
    fn receive(&mut self, _port: usize, mut frame: Vec<u8>, now_ns: u64) {
        if self.is_on && self.admits(&frame, now_ns) {
            self.accent.hear(&mut frame);
            let fin = accent::take_fin(&mut frame);
            self.wire.arrived.push_back(frame);
            self.wire.arrived.extend(fin);
        }
    }

    fn poll(&mut self, now_ns: u64, out: &mut Vec<Departure>) {
        if !self.is_on {
            return;
        }
        CLOCK_MS.set((now_ns / 1_000_000) as u32);
        let now = Instant::from_micros((now_ns / 1000) as i64);
        self.open_due(now_ns);
        self.ask_neighbours(now_ns, out);
        // What applications do may give the stack something to send, and the other way round.
        loop {
            self.interface.poll(now, &mut self.wire, &mut self.sockets);
            self.forget_half_open(now_ns);
            self.accept(now_ns);
            self.serve(now_ns);
            self.interface.poll(now, &mut self.wire, &mut self.sockets);
            if self.wire.arrived.is_empty() {
                break;
            }
        }
        self.next_stack_ns = self
            .interface
            .poll_at(now, &self.sockets)
            .map(|at| (at.total_micros() as u64 * 1000).max(now_ns + 1000));
        for mut frame in self.wire.departed.drain(..) {
            self.accent.speak(&mut frame, now_ns);
            out.push((0, frame));
        }
        out.extend(self.challenges.drain(..).map(|frame| (0, frame)));
    }

    fn next_wake_ns(&self, now_ns: u64) -> Option<u64> {
        if !self.is_on {
            return None;
        }
        let readers = self
            .connections
            .iter()
            .filter_map(|one| one.application.next_wake_ns(now_ns))
            .min();
        let starts = self.waiting.front().map(|&(start_ns, _)| start_ns);
        [self.next_stack_ns, readers, starts, self.next_question_ns()]
            .into_iter()
            .flatten()
            .min()
    }
}

/// The host's end of its link.
#[derive(Default)]
struct Wire {
    mtu_bytes: usize,
    arrived: VecDeque<Vec<u8>>,
    departed: Vec<Vec<u8>>,
}

struct Received(Vec<u8>);
struct Sending<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        assert!(
            self.0.len() < MAX_FRAMES_AT_ONCE,
            "a stack sends without end"
        );
        let mut frame = vec![0; length];
        let written = write(&mut frame);
        self.0.push(frame);
        written
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received, Sending<'_>)> {
        let frame = self.arrived.pop_front()?;
        Some((Received(frame), Sending(&mut self.departed)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.departed))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu_bytes + 14;
        capabilities
    }
}
