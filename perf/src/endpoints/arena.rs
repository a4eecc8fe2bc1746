//! Clients, servers and a flood at their ports, through one load after the other.

use std::time::Duration;

use bindings::Clock;

use super::client::Clients;
use super::flood::{Flood, FloodConfig, FloodSent, Kind};
use super::load::{Load, Pacer};
use super::outcome::{End, Ends, Latencies};
use super::segment::{Link, Sink};
use super::server::{ServerCounters, Servers};
use crate::report::disturbance::Watch;
use crate::trial::{Disturbance, TrialError};

/// One side's port.
pub trait Port {
    /// Takes frames for it.
    type Out: Sink;

    /// Takes what came, at most a burst, and shows `each` frame with where to answer. A frame of
    /// which `each` says that it is nobody's is the port's own to answer, such as a question for
    /// its station. Gives how many frames there were.
    fn receive(&mut self, each: impl FnMut(&[u8], &mut Self::Out) -> bool) -> usize;

    /// Where to send.
    fn out(&mut self) -> &mut Self::Out;

    /// Sends what was written.
    fn flush(&mut self);

    /// Frames that were written and that the device did not take.
    fn lost(&self) -> u64;
}

/// What is offered in one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offer {
    /// Connections.
    pub load: Load,
    /// How long their number or rate rises.
    pub ramp: Duration,
    /// How long connections are begun, the ramp included.
    pub duration: Duration,
    /// How long those under way are waited for then.
    pub grace: Duration,
    /// Packets a second of the flood beside them.
    pub flood_per_s: f64,
    /// What the flood's packets are.
    pub flood: Kind,
}

impl Offer {
    /// A rate for so long, without ramp or flood.
    #[must_use]
    pub fn rate(per_s: f64, duration: Duration) -> Self {
        Self {
            load: Load::Rate { per_s },
            ramp: Duration::ZERO,
            duration,
            grace: Duration::from_secs(8),
            flood_per_s: 0.0,
            flood: Kind::Handshakes,
        }
    }
}

/// What came of one run.
#[derive(Clone, Debug)]
pub struct Came {
    /// What became of the connections that were begun in it.
    pub ends: Ends,
    /// Of these, how many are held open.
    pub held: u64,
    /// Connections that were due and not begun in time: the tester's own limit.
    pub unsent: u64,
    /// How long things took.
    pub latencies: Latencies,
    /// How long connections were begun.
    pub elapsed: Duration,
    /// How long it took until all had ended.
    pub until_ended: Duration,
    /// Octets of responses that were verified.
    pub verified_bytes: u64,
    /// Frames that found no room at the tester's own ports.
    pub refused: u64,
    /// Segments that clients sent again.
    pub retransmitted: u64,
    /// What was sent of the flood.
    pub flood: FloodSent,
    /// SYNs of the flood that came out on the other side.
    pub flood_arrived: u64,
    /// Segments that acknowledge what no server has said, and came out on the other side.
    pub forged_arrived: u64,
    /// Last fragments that came out on the other side.
    pub last_fragments: u64,
    /// What disturbed the tester meanwhile.
    pub disturbance: Disturbance,
}

impl Came {
    /// The share of connections that completed, or are held as they should be, of those begun.
    #[must_use]
    pub fn success(&self) -> f64 {
        match self.ends.started {
            0 => 0.0,
            started => (self.ends.of(End::Completed) + self.held) as f64 / started as f64,
        }
    }

    /// Connections a second that were begun.
    #[must_use]
    pub fn begun_per_s(&self) -> f64 {
        self.ends.started as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Whether the tester could offer what it was told to, but for one in two hundred.
    #[must_use]
    pub fn is_offered(&self) -> bool {
        self.unsent * 200 <= self.ends.started + self.unsent
    }
}

/// What is left undone when it is later than this: a subject must not meet a crowd that the
/// tester made by standing still.
const CATCH_UP_S: f64 = 0.01;
const CATCH_UP_LEAST: u64 = 64;

/// Clients at one port, and servers at another where there are any.
pub struct Arena<P: Port> {
    outside: P,
    inside: Option<P>,
    /// The clients.
    pub clients: Clients,
    /// The servers.
    pub servers: Option<Servers>,
    flood: Option<Flood>,
    clock: Clock,
    stop: Box<dyn Fn() -> bool>,
    last_ns: u64,
}

impl<P: Port> Arena<P> {
    /// Clients that talk to servers behind the one port, without servers of ours. `stop` says
    /// whether the user wants no more.
    pub fn of_clients(outside: P, clients: Clients, stop: impl Fn() -> bool + 'static) -> Self {
        Self {
            outside,
            inside: None,
            clients,
            servers: None,
            flood: None,
            clock: Clock::start(),
            stop: Box::new(stop),
            last_ns: 0,
        }
    }

    /// Clients, and servers at the other port.
    pub fn new(
        ports: [P; 2],
        clients: Clients,
        servers: Servers,
        stop: impl Fn() -> bool + 'static,
    ) -> Self {
        let [outside, inside] = ports;
        Self {
            inside: Some(inside),
            servers: Some(servers),
            ..Self::of_clients(outside, clients, stop)
        }
    }

    /// What a flood is, if one is offered.
    #[must_use]
    pub fn with_flood(self, config: FloodConfig, link: Link) -> Self {
        Self {
            flood: Some(Flood::new(config, link)),
            ..self
        }
    }

    /// One turn: everything that came, everything that is due.
    fn turn(&mut self, watch: &mut Watch) -> u64 {
        let now_ns = self.clock.now_ns();
        watch.was_away(now_ns.saturating_sub(self.last_ns));
        self.last_ns = now_ns;
        if let (Some(inside), Some(servers)) = (&mut self.inside, &mut self.servers) {
            inside.receive(|frame, out| servers.receive(frame, now_ns, out));
            servers.flush(now_ns, inside.out());
            servers.poll(now_ns, inside.out());
            inside.flush();
        }
        let clients = &mut self.clients;
        self.outside
            .receive(|frame, out| clients.receive(frame, now_ns, out));
        clients.flush(now_ns, self.outside.out());
        clients.poll(now_ns, self.outside.out());
        self.outside.flush();
        now_ns
    }

    /// Begins what is due of the load; how many were due and are given up.
    fn begin(&mut self, pacer: &mut Pacer, [now_ns, due_ns]: [u64; 2], per_s: f64) -> u64 {
        let open = self.clients.ends().open() - self.clients.held();
        let mut unsent = 0;
        for _ in 0..pacer.due(due_ns, open) {
            let begun = self.clients.open(now_ns, self.outside.out());
            if begun.is_err() {
                unsent += 1;
            }
            pacer.begun(1);
        }
        unsent + give_up(pacer, due_ns, open, per_s)
    }

    fn flood(&mut self, pacer: &mut Pacer, now_ns: u64, offer: &Offer) {
        if let Some(flood) = &mut self.flood {
            let due = pacer.due(now_ns, 0);
            flood.send(offer.flood, due, now_ns, self.outside.out());
            pacer.begun(due);
            flood.sent.unsent += give_up(pacer, now_ns, 0, offer.flood_per_s);
        }
    }

    /// Offers a load, and waits until what it began has ended.
    ///
    /// # Errors
    /// [`TrialError::Interrupted`]; what is open is then reset.
    pub fn run(&mut self, offer: &Offer) -> Result<Came, TrialError> {
        let mut watch = Watch::begin(&[]);
        self.last_ns = self.clock.now_ns();
        let before = self.tally();
        self.clients.take_latencies();
        let began_ns = self.clock.now_ns();
        let mut pacer = Pacer::new(offer.load, offer.ramp, began_ns);
        let mut flood = Flood::pacer(offer.flood_per_s, began_ns);
        let (mut unsent, mut ended_ns) = (0, began_ns);
        let ends_ns = began_ns + offer.duration.as_nanos() as u64;
        let per_s = match offer.load {
            Load::Rate { per_s } => per_s,
            // What is not begun now is begun later.
            Load::Parallel { .. } | Load::Count { .. } => f64::INFINITY,
        };
        loop {
            let now_ns = self.turn(&mut watch);
            if (self.stop)() {
                self.abandon(&mut watch);
                return Err(TrialError::Interrupted);
            }
            // What was due while the loop stood still at the end is begun all the same.
            let due_ns = now_ns.min(ends_ns);
            let is_late = per_s.is_finite() && pacer.owed(due_ns, 0) > 0;
            if (now_ns >= ends_ns && !is_late) || pacer.is_over() {
                break;
            }
            ended_ns = now_ns;
            unsent += self.begin(&mut pacer, [now_ns, due_ns], per_s);
            self.flood(&mut flood, now_ns, offer);
        }
        let grace_ns = self.clock.now_ns() + offer.grace.as_nanos() as u64;
        while self.clients.ends().open() > self.clients.held() && self.last_ns < grace_ns {
            let now_ns = self.turn(&mut watch);
            // The flood lasts as long as anything may suffer from it.
            self.flood(&mut flood, now_ns, offer);
            if (self.stop)() {
                self.abandon(&mut watch);
                return Err(TrialError::Interrupted);
            }
        }
        let until_ns = self.clock.now_ns();
        if self.clients.ends().open() > self.clients.held() {
            self.abandon(&mut watch);
        }
        let elapsed = Duration::from_nanos(ended_ns - began_ns);
        let until_ended = Duration::from_nanos(until_ns - began_ns);
        Ok(self.came(&before, unsent, [elapsed, until_ended], &watch))
    }

    fn came(
        &mut self,
        before: &Tally,
        unsent: u64,
        [elapsed, until_ended]: [Duration; 2],
        watch: &Watch,
    ) -> Came {
        let after = self.tally();
        Came {
            ends: after.ends.since(&before.ends),
            held: after.held.saturating_sub(before.held),
            unsent,
            latencies: self.clients.take_latencies(),
            elapsed,
            until_ended,
            verified_bytes: after.verified_bytes - before.verified_bytes,
            refused: after.refused - before.refused,
            retransmitted: after.retransmitted - before.retransmitted,
            flood: after.flood.since(&before.flood),
            flood_arrived: after.servers.spoofed - before.servers.spoofed,
            forged_arrived: after.servers.forged - before.servers.forged,
            last_fragments: after.servers.last_fragments - before.servers.last_fragments,
            disturbance: watch.end(),
        }
    }

    fn tally(&self) -> Tally {
        let counters = self.clients.counters();
        let flood = self.flood.as_ref();
        let servers = self.servers.as_ref();
        Tally {
            ends: *self.clients.ends(),
            held: self.clients.held(),
            verified_bytes: counters.verified_bytes,
            retransmitted: counters.retransmitted,
            refused: self.outside.lost()
                + self.inside.as_ref().map_or(0, Port::lost)
                + self.clients.segments_refused()
                + servers.map_or(0, Servers::segments_refused)
                + flood.map_or(0, Flood::refused),
            flood: flood.map_or_else(FloodSent::default, |flood| flood.sent),
            servers: servers.map_or_else(ServerCounters::default, |servers| *servers.counters()),
        }
    }

    /// Goes on without beginning anything, for so long or until the user wants no more; how many
    /// of the connections that are held are still there.
    ///
    /// # Errors
    /// [`TrialError::Interrupted`]; what is open is then reset.
    pub fn hold(&mut self, duration: Duration) -> Result<u64, TrialError> {
        let mut watch = Watch::begin(&[]);
        self.last_ns = self.clock.now_ns();
        let until_ns = self.last_ns + duration.as_nanos() as u64;
        while self.turn(&mut watch) < until_ns {
            if (self.stop)() {
                self.abandon(&mut watch);
                return Err(TrialError::Interrupted);
            }
        }
        Ok(self.clients.held())
    }

    /// Has every connection that is held do something, so many a second, and waits until they
    /// have done it, for `grace` at most.
    ///
    /// # Errors
    /// [`TrialError::Interrupted`]; what is open is then reset.
    pub fn each_held(
        &mut self,
        act: HeldAct,
        per_s: f64,
        grace: Duration,
    ) -> Result<(), TrialError> {
        let mut watch = Watch::begin(&[]);
        self.last_ns = self.clock.now_ns();
        let mut pacer = Pacer::new(Load::Rate { per_s }, Duration::ZERO, self.last_ns);
        let mut from = Some(0);
        let mut grace_ns = u64::MAX;
        loop {
            let now_ns = self.turn(&mut watch);
            if (self.stop)() {
                self.abandon(&mut watch);
                return Err(TrialError::Interrupted);
            }
            if let Some(place) = from {
                let due = pacer.due(now_ns, 0) as u32;
                let (out, clients) = (self.outside.out(), &mut self.clients);
                let (done, next) = match act {
                    HeldAct::Ask => clients.ask_held(place, due, now_ns, out),
                    HeldAct::Close => clients.close_held(place, due, now_ns, out),
                };
                pacer.begun(done.into());
                from = next;
                grace_ns = now_ns + grace.as_nanos() as u64;
            } else if self.clients.ends().open() == self.clients.held() || now_ns > grace_ns {
                return Ok(());
            }
        }
    }

    /// Resets all that is under way; what is held stays, unless the user wants no more.
    fn abandon(&mut self, watch: &mut Watch) {
        let all = (self.stop)();
        let mut from = Some(0);
        while let Some(place) = from {
            let now_ns = self.turn(watch);
            let (out, clients) = (self.outside.out(), &mut self.clients);
            from = clients.abandon(all, place, 64, now_ns, out).1;
        }
        // Once to send the last of them, once to have our own servers see them.
        self.turn(watch);
        self.turn(watch);
    }
}

/// What connections that are held are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldAct {
    /// One more exchange.
    Ask,
    /// To close.
    Close,
}

/// Counts at one time.
struct Tally {
    ends: Ends,
    held: u64,
    verified_bytes: u64,
    retransmitted: u64,
    refused: u64,
    flood: FloodSent,
    servers: ServerCounters,
}

/// Gives up what is too late; how many.
fn give_up(pacer: &mut Pacer, now_ns: u64, open: u64, per_s: f64) -> u64 {
    if per_s.is_infinite() {
        return 0;
    }
    let bearable = CATCH_UP_LEAST.max((per_s * CATCH_UP_S) as u64);
    let late = pacer.owed(now_ns, open).saturating_sub(bearable);
    pacer.begun(late);
    late
}
