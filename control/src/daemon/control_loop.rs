//! The control thread: it alone talks to the workers, and does all that is slow.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use crossbeam::channel::{Receiver, RecvTimeoutError};
use dataplane::command::{Command, Report, WorkerStatus};
use rtrb::Consumer;
use serde_json::Value;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::crew::{Crew, Orders};
use super::guard_watch::GuardWatch;
use super::hardware::Hardware;
use super::port_watch::Watched;
use super::worker_thread::WallClock;
use super::{notify, reload, replication};
use crate::bypass::{self, Bypass, Kernel};
use crate::configuration::Layout;
use crate::logging::LogControl;
use crate::profile::{Machine, Profile};
use crate::protection::{self, Change};
use crate::protocol::Request;

/// How often the control thread looks around when nobody asks for anything.
const TURN: Duration = Duration::from_millis(100);
/// How often links are looked at, and the wall clock is followed.
const LOOK_AROUND: Duration = Duration::from_millis(500);
/// How long the daemon waits at its end for sessions that are opening.
const LAST_OPENINGS: Duration = Duration::from_millis(200);

/// What the control thread is asked by those who speak with the outside.
pub(super) enum Query {
    /// To show something, or to reload.
    Answer(Request, Asker, oneshot::Sender<Result<Value, String>>),
    /// To copy packets.
    Capture {
        /// The profile's port; all without.
        port: Option<String>,
        /// The filter's text; all packets without.
        filter: Option<String>,
        /// Where the copies will be found.
        reply: oneshot::Sender<Result<CaptureFeed, String>>,
    },
    /// To stop copying; the number of packets that did not fit into the rings comes back.
    EndCapture(u64, oneshot::Sender<u64>),
    /// The metrics' text.
    Metrics(oneshot::Sender<String>),
    /// To reload, by a signal.
    Reload,
    /// To stop once the sessions have ended; at once when asked again.
    Terminate,
}

/// Who asks for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// A process at the control socket, and its user, as far as they are known.
    Socket(Option<(i32, u32)>),
    /// Whoever sent SIGHUP.
    Signal,
}

impl Asker {
    /// The process at the other end of the control socket.
    pub(super) fn of(peer: Option<tokio::net::unix::UCred>) -> Self {
        Self::Socket(peer.and_then(|peer| Some((peer.pid()?, peer.uid()))))
    }
}

impl fmt::Display for Asker {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal => out.write_str("SIGHUP"),
            Self::Socket(None) => out.write_str("the control socket"),
            Self::Socket(Some((process, user))) => {
                write!(
                    out,
                    "process {process} of user {user} at the control socket"
                )
            }
        }
    }
}

/// Where the copies of a capture are found.
pub(super) struct CaptureFeed {
    /// The capture's number.
    pub(super) number: u64,
    /// One ring for each worker.
    pub(super) rings: Vec<Consumer<dataplane::capture::Captured>>,
    /// The names of the ports with a device, by their number in the copies.
    pub(super) ports: Vec<String>,
    /// Turns the workers' time into that since 1970.
    pub(super) wall: Arc<WallClock>,
    /// Lives as long as somebody fetches the copies.
    pub(super) alive: Arc<()>,
}

/// A capture that runs.
pub(super) struct RunningCapture {
    /// Its number.
    pub(super) number: u64,
    /// How many copies had been lost before it.
    pub(super) lost_before: u64,
    /// Whether somebody still fetches the copies.
    pub(super) alive: Weak<()>,
}

/// What the control thread owns.
pub(super) struct Control {
    pub(super) file: PathBuf,
    /// The machine as it was before any thread of ours was bound to a core.
    pub(super) machine: Machine,
    pub(super) profile: Profile,
    pub(super) layout: Layout,
    pub(super) hardware: Hardware,
    pub(super) crew: Crew,
    /// Whoever talks to the other guards, if there are any.
    pub(super) replication: Option<replication::Thread>,
    pub(super) wall: Arc<WallClock>,
    pub(super) log: LogControl,
    /// For the busy share: each worker's busy and whole time when it was last asked for.
    pub(super) busy_before: Vec<(u64, u64)>,
    /// The capture that runs.
    pub(super) capture: Option<RunningCapture>,
    pub(super) captures: u64,
    /// Since when no new session is opened.
    pub(super) draining_since: Option<Instant>,
    pub(super) watched: Vec<Watched>,
    /// The ways past the guard that the kernel had when it was last looked at.
    pub(super) bypasses: Vec<Bypass>,
    /// What is known of floods and services.
    pub(super) guard_watch: GuardWatch,
    /// When the daemon started, in seconds since 1970.
    pub(super) started_unix_s: u64,
    pub(super) last_load: LastLoad,
    looked_around: Instant,
    is_ended: bool,
}

/// How the profile was last read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LastLoad {
    /// When it was last taken over, in seconds since 1970.
    pub(super) unix_s: u64,
    /// Whether the last try was that one.
    pub(super) is_good: bool,
}

fn unix_s() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// What the control thread is started with.
pub(super) struct Parts {
    pub(super) file: PathBuf,
    pub(super) machine: Machine,
    pub(super) profile: Profile,
    pub(super) layout: Layout,
    pub(super) hardware: Hardware,
    pub(super) crew: Crew,
    pub(super) replication: Option<replication::Thread>,
    pub(super) wall: Arc<WallClock>,
    pub(super) log: LogControl,
}

impl Control {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            busy_before: vec![(0, 0); parts.crew.members.len()],
            watched: parts
                .hardware
                .ports
                .iter()
                .map(|_| Watched::default())
                .collect(),
            file: parts.file,
            machine: parts.machine,
            profile: parts.profile,
            layout: parts.layout,
            hardware: parts.hardware,
            crew: parts.crew,
            replication: parts.replication,
            wall: parts.wall,
            log: parts.log,
            capture: None,
            captures: 0,
            draining_since: None,
            bypasses: Vec::new(),
            guard_watch: GuardWatch::default(),
            started_unix_s: unix_s(),
            last_load: LastLoad {
                unix_s: unix_s(),
                is_good: true,
            },
            looked_around: Instant::now(),
            is_ended: false,
        }
    }

    /// Serves queries until the daemon is to end, and then ends the workers.
    pub(super) fn run(mut self, queries: &Receiver<Query>) {
        self.look_at_ports();
        self.look_at_kernel();
        notify::tell("READY=1");
        info!(
            appliance = self.profile.name,
            protection = protection::summary(&self.profile),
            "running"
        );
        while !self.is_ended {
            match queries.recv_timeout(TURN) {
                Ok(query) => self.serve(query),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.looked_around.elapsed() >= LOOK_AROUND {
                self.looked_around = Instant::now();
                self.wall.set();
                self.end_abandoned_capture();
                self.look_at_ports();
                self.look_at_kernel();
                self.look_at_guard();
            }
            self.go_on_draining();
        }
        self.end();
    }

    fn serve(&mut self, query: Query) {
        // Whoever asked may be gone by now: then nobody wants the answer.
        match query {
            Query::Answer(request, asker, reply) => {
                let _ = reply.send(self.answer(&request, asker));
            }
            Query::Capture {
                port,
                filter,
                reply,
            } => {
                let feed = self.begin_capture(port.as_deref(), filter.as_deref());
                if let Err(Ok(feed)) = reply.send(feed) {
                    self.end_capture(feed.number);
                }
            }
            Query::EndCapture(number, reply) => {
                let _ = reply.send(self.end_capture(number));
            }
            Query::Metrics(reply) => {
                let _ = reply.send(self.metrics());
            }
            Query::Reload => {
                // A refusal is in the log; there is nobody else to tell.
                let _ = self.reload(false, Asker::Signal);
            }
            Query::Terminate => self.terminate(),
        }
    }

    fn answer(&mut self, request: &Request, asker: Asker) -> Result<Value, String> {
        match request {
            Request::Show {
                topic,
                limit,
                filter,
            } => self.show(*topic, *limit, filter),
            Request::End { client, server } => self.end_session(*client, *server, asker),
            Request::Reload { allow_unguarded } => self
                .reload(*allow_unguarded, asker)
                .map(|told| serde_json::json!({ "reloaded": told })),
            Request::Capture { .. } => Err("a capture is no question".into()),
        }
    }

    /// How each worker stands.
    pub(super) fn statuses(&mut self) -> Result<Vec<WorkerStatus>, String> {
        let reports = self
            .crew
            .ask_all(|_| Command::Status(WorkerStatus::empty()))?;
        let statuses = reports.into_iter().filter_map(|report| match report {
            Report::Status(status) => Some(*status),
            _ => None,
        });
        Ok(statuses.collect())
    }

    /// Reads the profile and the keys again. What is wrong with them changes nothing.
    fn reload(&mut self, allow_unguarded: bool, asker: Asker) -> Result<String, String> {
        notify::tell_reloading();
        let outcome = self.try_reload(allow_unguarded, asker);
        notify::tell("READY=1");
        let unix_s = unix_s();
        self.last_load = match outcome {
            Ok(_) => LastLoad {
                unix_s,
                is_good: true,
            },
            Err(_) => LastLoad {
                is_good: false,
                ..self.last_load
            },
        };
        if let Err(text) = &outcome {
            error!(
                "The reload that {asker} asked for is refused, and the profile in force stays: {text}"
            );
        }
        outcome
    }

    fn try_reload(&mut self, allow_unguarded: bool, asker: Asker) -> Result<String, String> {
        let fresh = reload::read(&self.file, &self.machine, &self.profile)?;
        let change =
            reload::protection(&self.file, &self.profile, &fresh.profile, allow_unguarded)?;
        let workers = self.statuses()?;
        reload::places(&self.file, &fresh.profile, &workers)?;
        let orders = Orders::new(&fresh.profile, &self.layout, &self.hardware, &fresh.keys)
            .map_err(|failure| format!("{}: {failure}", self.file.display()))?;
        let addresses_changed = reload::addresses_changed(&self.profile, &fresh.profile);
        self.crew.reconfigure(orders)?;
        self.log.set_level(fresh.profile.runtime.log.level);
        if let Some(thread) = &self.replication {
            thread.set_keys(fresh.replication_keys);
        }
        let before = std::mem::replace(&mut self.profile, fresh.profile);
        if addresses_changed {
            self.announce();
        }
        let told = format!(
            "{}; {change}; {}",
            reload::summary(&self.profile),
            reload::changed(&before, &self.profile)
        );
        let file = self.file.display();
        if change == Change::default() {
            info!("The profile {file} is reloaded, as {asker} asked: {told}");
        } else {
            warn!("The profile {file} is reloaded, as {asker} asked: {told}");
        }
        Ok(told)
    }

    /// Tells the links' neighbours our addresses; one worker does it for all.
    pub(super) fn announce(&mut self) {
        if let Err(text) = self.crew.ask(0, Command::Announce) {
            warn!("our addresses were not announced: {text}");
        }
    }

    /// Tells when the kernel begins to carry packets past the guard, and when it ends.
    fn look_at_kernel(&mut self) {
        let found = bypass::find(&Kernel::below(Path::new("/")), &self.profile);
        let before = std::mem::replace(&mut self.bypasses, found);
        for way in self.bypasses.iter().filter(|way| !before.contains(way)) {
            warn!("{way}; {}", way.cure());
        }
        for way in before.iter().filter(|way| !self.bypasses.contains(way)) {
            info!("no longer so: {way}");
        }
    }

    fn terminate(&mut self) {
        let limit_s = self
            .profile
            .guard
            .as_ref()
            .map_or(0, |guard| guard.timers.drain_s);
        if self.draining_since.is_some() || limit_s == 0 {
            self.is_ended = true;
            return;
        }
        notify::tell("STOPPING=1");
        self.draining_since = Some(Instant::now());
        match self.crew.ask_all(|_| Command::Drain) {
            Ok(_) => info!(
                limit_s,
                "draining: no new session is opened; another signal stops at once"
            ),
            Err(text) => warn!("not every worker drains: {text}"),
        }
    }

    fn go_on_draining(&mut self) {
        let (Some(since), Some(guard)) = (self.draining_since, &self.profile.guard) else {
            return;
        };
        let limit = Duration::from_secs(guard.timers.drain_s.into());
        // A worker that does not answer in time may have sessions: it is asked again.
        let live = self
            .statuses()
            .ok()
            .map(|statuses| -> usize { statuses.iter().map(|status| status.guard.live).sum() });
        if live == Some(0) {
            info!("drained");
            self.is_ended = true;
        } else if since.elapsed() >= limit {
            let live = live.unwrap_or_default();
            warn!(
                "{live} sessions were still live after {} s",
                limit.as_secs()
            );
            self.is_ended = true;
        }
    }

    /// Lets the workers open no session any more, and waits a moment for those that are opening: what
    /// opens after the last word to the other guards is lost with this one.
    fn finish_openings(&mut self) {
        if let Err(text) = self.crew.ask_all(|_| Command::Leave) {
            warn!("not every worker leaves: {text}");
        }
        let began = Instant::now();
        while began.elapsed() < LAST_OPENINGS {
            let opening = self.statuses().map(|statuses| {
                let opening = statuses.iter().map(|status| status.guard.opening);
                opening.sum::<usize>()
            });
            if opening.unwrap_or_default() == 0 {
                return;
            }
            std::thread::sleep(LAST_OPENINGS / 20);
        }
    }

    /// Takes leave of the other guards, then ends the workers, the ports, and EAL.
    fn end(mut self) {
        notify::tell("STOPPING=1");
        if let Some(thread) = self.replication.take() {
            self.finish_openings();
            thread.leave();
        }
        self.crew.stop();
        drop(self.hardware);
        info!("stopped");
    }
}
