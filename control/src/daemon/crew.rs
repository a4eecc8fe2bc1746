//! The workers as the control thread has them: started, asked, and ended.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel;
use dataplane::command::{Command, Configuration, ControlDesk, Report, WorkerDesk, desk};
use dataplane::counters::{Counters, Published};
use dataplane::fragment::Reassembler;
use dataplane::guard::Guard;
use dataplane::guard::config::GuardConfig;
use dataplane::guard::cookie::CookieKey;
use dataplane::hop::{Hop, HopTables};
use dataplane::mesh::Mesh;
use dataplane::replicate::desk::WorkerPeers;
use dataplane::transmit::Transmit;
use dataplane::worker::{Worker, WorkerParts};
use ring::rand::{SecureRandom, SystemRandom};

use super::hardware::{Hardware, WorkerQueues};
use super::worker_thread::{self, LoopFigures, WallClock};
use crate::configuration::{self, Layout};
use crate::failure::Failure;
use crate::profile::Profile;

/// How long a worker may take to answer. It answers within a turn of its loop; only one whose
/// core somebody else holds takes longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// How long a worker may take to start, the making of its tables included.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A worker, seen from the control thread.
pub(super) struct Member {
    /// Its core.
    pub(super) core: u32,
    /// Its counters.
    published: Arc<Published>,
    /// Its loop's figures.
    pub(super) figures: Arc<LoopFigures>,
    desk: ControlDesk,
    /// Answers that came too late to be waited for, and are to be thrown away.
    overdue: usize,
    thread: Option<JoinHandle<()>>,
}

/// All workers.
pub(super) struct Crew {
    /// In the profile's order.
    pub(super) members: Vec<Member>,
}

/// What the workers do, as it is made anew by each reload.
pub(super) struct Orders {
    pub(super) hop: Arc<HopTables>,
    pub(super) guards: Vec<GuardConfig>,
    /// The largest packet of each of the profile's ports.
    mtus: Vec<u16>,
}

impl Orders {
    /// Checks everything and builds the tables.
    pub(super) fn new(
        profile: &Profile,
        layout: &Layout,
        hardware: &Hardware,
        keys: &[CookieKey],
    ) -> Result<Self, Failure> {
        let hop = configuration::hop_config(profile, layout, &hardware.facts(profile, layout));
        let mtus: Vec<u16> = hop.interfaces.iter().map(|link| link.mtu_bytes).collect();
        let hop = HopTables::new(&hop).map_err(|error| {
            Failure::new(format!("the ports or routes cannot be used: {error}"), "")
        })?;
        let workers = profile.runtime.workers.len();
        let guards =
            (0..workers).map(|_| configuration::guard_config(profile, keys, &mtus, workers));
        Ok(Self {
            hop: Arc::new(hop),
            guards: guards.collect::<Result<_, _>>()?,
            mtus,
        })
    }

    /// The largest packet of a port of the profile, in octets.
    pub(super) fn mtu_bytes(&self, port: usize) -> u16 {
        self.mtus[port]
    }
}

/// Places of each worker's session table.
pub(super) fn places(profile: &Profile) -> u32 {
    let workers = profile.runtime.workers.len() as u32;
    profile.runtime.sessions.div_ceil(workers)
}

/// Random numbers that no stranger can guess.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Failure::new("the system gives no random numbers", ""))?;
    Ok(bytes)
}

/// What a worker is built from, on its own thread, so that its tables stand near its core.
struct Blueprint {
    queues: WorkerQueues,
    hop: Arc<HopTables>,
    guard: Box<GuardConfig>,
    capacity: u32,
    mesh: Mesh<bindings::Mbuf>,
    published: Arc<Published>,
    desk: WorkerDesk,
    peers: Option<WorkerPeers>,
    secrets: [[u8; 16]; 3],
}

impl Blueprint {
    fn build(self) -> Worker<dataplane::port::DpdkIo> {
        let [hop_key, fragment_key, seed] = self.secrets;
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |all, &byte| all << 8 | u64::from(byte))
        };
        Worker::new(WorkerParts {
            transmit: Transmit::new(&self.queues.ways),
            io: self.queues.io,
            receives: self.queues.receives,
            hop: Hop::new(self.hop, u128::from_le_bytes(hop_key)),
            fragments: Reassembler::new(u128::from_le_bytes(fragment_key)),
            guard: Guard::new(
                self.guard,
                self.capacity,
                [number(&seed[..8]), number(&seed[8..])],
            ),
            mesh: self.mesh,
            published: self.published,
            desk: self.desk,
            peers: self.peers,
        })
    }
}

impl Crew {
    /// Starts the workers and waits until all of them poll. `peers` has each one's ends of the rings
    /// to whoever talks to the other guards, or nothing where there are none.
    pub(super) fn start(
        profile: &Profile,
        hardware: &mut Hardware,
        orders: Orders,
        peers: Vec<WorkerPeers>,
        wall: &Arc<WallClock>,
    ) -> Result<Self, Failure> {
        let workers = profile.runtime.workers.len();
        let capacity = places(profile);
        let mut peers = peers.into_iter();
        let queues = hardware.deal(workers);
        let meshes = Mesh::with(workers, &hardware.shard);
        let cores = profile.runtime.workers.iter().copied();
        let mut crew = Self {
            members: Vec::new(),
        };
        let (ready, started) = channel::bounded(workers);
        let each = queues.into_iter().zip(meshes).zip(orders.guards).zip(cores);
        for (number, (((queues, mesh), guard), core)) in each.enumerate() {
            let (control, desk) = desk();
            let published = Published::new();
            let figures = Arc::new(LoopFigures::default());
            let blueprint = Blueprint {
                queues,
                hop: Arc::clone(&orders.hop),
                guard: Box::new(guard),
                capacity,
                mesh,
                published: Arc::clone(&published),
                desk,
                peers: peers.next(),
                secrets: [random()?, random()?, random()?],
            };
            let (ready, wall, visible) = (ready.clone(), Arc::clone(wall), Arc::clone(&figures));
            let poll = profile.runtime.poll;
            let body = move || {
                let settled = worker_thread::settle(core)
                    .and_then(|()| bindings::eal::register_thread())
                    .map_err(|error| {
                        Failure::new(error.to_string(), "choose other `runtime.workers`")
                    });
                let registration = match settled {
                    Ok(registration) => registration,
                    Err(failure) => {
                        let _ = ready.send(Err(failure));
                        return;
                    }
                };
                let mut worker = blueprint.build();
                let _ = ready.send(Ok(()));
                worker_thread::run(&mut worker, &wall, poll, &visible);
                // Packets go back to the pool while the thread's cache is still known to it.
                drop(worker);
                drop(registration);
            };
            let thread = thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(body)
                .map_err(|error| {
                    Failure::new(format!("worker {number} cannot be started: {error}"), "")
                })?;
            crew.members.push(Member {
                core,
                published,
                figures,
                desk: control,
                overdue: 0,
                thread: Some(thread),
            });
        }
        for _ in 0..workers {
            match started.recv_timeout(START_LIMIT) {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => return Err(failure),
                Err(_) => {
                    return Err(Failure::new(
                        "a worker did not start in time",
                        "see whether its core is free",
                    ));
                }
            }
        }
        Ok(crew)
    }

    /// Asks one worker and waits for its report.
    pub(super) fn ask(&mut self, worker: usize, command: Command) -> Result<Report, String> {
        let core = self.members[worker].core;
        self.members[worker].ask(command).map_err(|what| {
            format!("worker {worker} on core {core} {what}; see what else runs on that core")
        })
    }

    /// Asks every worker; what one does not answer is an error.
    pub(super) fn ask_all(
        &mut self,
        mut command: impl FnMut(usize) -> Command,
    ) -> Result<Vec<Report>, String> {
        (0..self.members.len())
            .map(|worker| self.ask(worker, command(worker)))
            .collect()
    }

    /// Each worker's counters.
    pub(super) fn counters(&self) -> Vec<Counters> {
        self.members
            .iter()
            .map(|member| member.published.load())
            .collect()
    }

    /// Puts new orders in force. They have been checked, so nothing but a worker that does not
    /// answer can go wrong.
    pub(super) fn reconfigure(&mut self, orders: Orders) -> Result<(), String> {
        let mut late = Vec::new();
        for (worker, guard) in orders.guards.into_iter().enumerate() {
            let configuration = Configuration {
                hop: Arc::clone(&orders.hop),
                guard: Box::new(guard),
                refused_servers: 0,
            };
            let command = Command::Reconfigure(Box::new(configuration));
            match self.ask(worker, command) {
                Ok(Report::Reconfigured(old)) if old.refused_servers > 0 => late.push(format!(
                    "worker {worker} has no place for {} servers, which are NOT protected; restart \
                     the daemon",
                    old.refused_servers
                )),
                Ok(_) => {}
                Err(error) => late.push(error),
            }
        }
        if late.is_empty() {
            Ok(())
        } else {
            Err(late.join("; "))
        }
    }

    /// Ends every worker and waits for its thread.
    pub(super) fn stop(mut self) {
        // One that hangs is left behind: the process ends anyway.
        let answers: Vec<bool> = (0..self.members.len())
            .map(|worker| self.ask(worker, Command::Stop).is_ok())
            .collect();
        for (member, answered) in self.members.iter_mut().zip(answers) {
            if let Some(thread) = member.thread.take()
                && answered
                && thread.join().is_err()
            {
                tracing::error!("the worker on core {} panicked", member.core);
            }
        }
    }
}

impl Member {
    fn ask(&mut self, command: Command) -> Result<Report, &'static str> {
        if self.has_ended() {
            return Err("has ended");
        }
        self.discard_overdue();
        if self.desk.commands.push(command).is_err() {
            return Err("takes no commands");
        }
        let began = Instant::now();
        loop {
            match self.desk.reports.pop() {
                Ok(_) if self.overdue > 0 => self.overdue -= 1,
                Ok(report) => return Ok(report),
                Err(_) if self.has_ended() && self.desk.reports.is_empty() => {
                    return Err("has ended");
                }
                Err(_) if began.elapsed() > ANSWER_LIMIT => {
                    self.overdue += 1;
                    return Err("does not answer");
                }
                Err(_) => thread::sleep(Duration::from_micros(20)),
            }
        }
    }

    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn discard_overdue(&mut self) {
        while self.overdue > 0 && self.desk.reports.pop().is_ok() {
            self.overdue -= 1;
        }
    }
}
