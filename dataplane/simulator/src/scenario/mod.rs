//! Random schedules: everything about a run follows from its seed.
//!
//! [`Scenario::random`] draws the hosts, links, connections, attacks and faults, and
//! [`Scenario::run`] plays them. A new protocol adds its settings to the draw and its promises to
//! [`Scenario::build`].

mod draw;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dataplane::guard::config::Mode;
use dataplane::guard::cookie::CookieKey;

use self::draw::Draw;
pub(crate) use self::draw::manner;
use crate::appliance::{Appliance, ApplianceSettings};
use crate::frame::Mac;
use crate::host::{Book, Host, HostSettings, Plan, SharedBook};
use crate::internet::{BLIND_MAC, Campaign, Eavesdropper, INTERNET_MAC, Internet, Overheard};
use crate::invariant::{Accounting, Bounds, Checksums, Crossing, Lives, Proof, Splice, Streams};
use crate::link::LinkSettings;
use crate::site::{self, Layout, Site};
use crate::world::{Failure, NodeId, World};

const MS: u64 = 1_000_000;
const SECOND_NS: u64 = 1000 * MS;

/// When no connection is begun any more, and no attack goes on.
const QUIET_NS: u64 = 30 * SECOND_NS;
/// When every connection must have ended.
const PATIENCE_NS: u64 = 400 * SECOND_NS;

/// Something that happens to a server or to the appliance in the middle of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server loses its power.
    ServerStops(usize),
    /// The server loses its power and comes back after a second.
    ServerRestarts(usize),
    /// The server refuses connections from then on.
    ServerRefuses(usize),
    /// The appliance takes over the next cookie key and the same settings.
    Reload,
    /// The appliance opens no more sessions.
    Drain,
    /// For a tenth of a second the appliance's ports take few frames, and few buffers are free.
    Shortage,
}

/// A run that is to be played.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The number that everything here was drawn from.
    pub seed: u64,
    /// The appliance.
    pub appliance: ApplianceSettings,
    /// The servers, each with its link.
    pub servers: Vec<(HostSettings, LinkSettings)>,
    /// The servers that answer no pings.
    pub silent_servers: BTreeSet<usize>,
    /// The servers that answer only so many pings a second.
    pub limited_servers: BTreeMap<usize, u64>,
    /// The clients, each with its link and its connections.
    pub clients: Vec<(HostSettings, LinkSettings, Vec<Plan>)>,
    /// The attacks.
    pub campaigns: Vec<Campaign>,
    /// The faults and when each happens.
    pub faults: Vec<(u64, Fault)>,
}

impl Scenario {
    /// Draws a scenario.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        Draw::new(seed).scenario(seed)
    }

    /// Builds the world, with all that must hold in it.
    #[must_use]
    pub fn build(&self) -> Stage {
        let mut world = World::new(self.seed);
        let book = Book::shared();
        let mut site = Site::new(&mut world, self.appliance.clone());
        let overheard = Overheard::default();
        self.require(&mut world, site.appliance, &book);
        world.require(Eavesdropper::new(site.appliance, overheard.clone()));
        let (mut servers, mut hosts) = (Vec::new(), Vec::new());
        for (number, (settings, link)) in self.servers.iter().enumerate() {
            let mut host = Host::new(settings.clone(), book.clone());
            if self.silent_servers.contains(&number) {
                host.ignore_pings();
            }
            if let Some(per_s) = self.limited_servers.get(&number) {
                host.limit_pings(*per_s);
            }
            servers.push(
                site.add_inside(&mut world, format!("server{number}"), host, *link)
                    .0,
            );
        }
        for (number, (settings, link, plans)) in self.clients.iter().enumerate() {
            let plans: Vec<_> = {
                let mut book = book.borrow_mut();
                plans.iter().map(|plan| book.plan(plan.clone())).collect()
            };
            let mut host = Host::new(settings.clone(), book.clone());
            host.begin(plans);
            hosts.push(
                site.add_outside(&mut world, format!("client{number}"), host, *link)
                    .0,
            );
        }
        let targets = self.services();
        let known = self.connections().map(Plan::ends).collect();
        let internet = Internet::new(self.campaigns.clone(), targets, known, overheard, self.seed);
        let internet = match self.appliance.layout() {
            Layout::Hop => internet,
            Layout::Wire => internet.next_to(self.stations_of_servers()),
        };
        site.add_outside(&mut world, "internet", internet, LinkSettings::default());
        for &(at_ns, fault) in &self.faults {
            let (appliance, servers) = (site.appliance, servers.clone());
            world.at(at_ns, move |world| {
                happen(world, fault, appliance, &servers)
            });
        }
        hosts.extend(servers);
        Stage {
            world,
            site,
            book,
            hosts,
        }
    }

    fn connections(&self) -> impl Iterator<Item = &Plan> {
        self.clients.iter().flat_map(|(_, _, plans)| plans)
    }

    /// The servers' addresses, each with its station.
    fn stations_of_servers(&self) -> BTreeMap<IpAddr, Mac> {
        let stations = self.servers.iter().flat_map(|(host, _)| {
            let addresses = host.addresses.iter();
            addresses.map(|&(address, _)| (address, host.mac))
        });
        stations.collect()
    }

    fn services(&self) -> Vec<(IpAddr, u16)> {
        let protect = self.appliance.protect.iter();
        protect
            .map(|(address, ports)| (*address, ports[0]))
            .collect()
    }

    fn require(&self, world: &mut World, appliance: NodeId, book: &SharedBook) {
        world.require(Streams::new(book.clone()));
        world.require(Accounting::new(appliance));
        world.require(Bounds::new(appliance));
        world.require(Lives::new(appliance, BLIND_MAC));
        let layout = self.appliance.layout();
        match layout {
            Layout::Hop => world.require(Checksums::new(appliance)),
            Layout::Wire => {
                let may_lose = self
                    .faults
                    .iter()
                    .any(|(_, fault)| *fault == Fault::Shortage);
                let crossing = Crossing::new(appliance, self.stations_of_servers(), may_lose);
                world.require(crossing);
                world.require(Checksums::of_wire(
                    appliance,
                    self.stations_of_servers().into_keys(),
                ));
            }
        }
        if self.appliance.mode == Mode::Always {
            world.require(Proof::new(appliance, self.services(), layout));
            world.require(Splice::new(appliance, [INTERNET_MAC, BLIND_MAC]));
        }
    }

    /// Plays the scenario to its end: connections, then silence until no session may be left.
    ///
    /// # Errors
    /// What did not hold.
    pub fn run(&self) -> Result<Outcome, Box<Failure>> {
        let Stage {
            mut world,
            site,
            book,
            hosts,
        } = self.build();
        world.run_until(PATIENCE_NS)?;
        world.finish()?;
        // Clients of a dead server would go on asking for ever.
        hosts
            .into_iter()
            .for_each(|host| world.get_mut::<Host>(host).stop());
        // It would go on asking servers what they do.
        world.get_mut::<Appliance>(site.appliance).drain();
        let timers = self.appliance.timers;
        let idle_ns = timers.established_idle_ns.max(timers.closing_idle_ns);
        world.run_for(idle_ns + timers.linger_ns + SECOND_NS)?;
        let appliance = world.get::<Appliance>(site.appliance);
        let left: usize = appliance.guards().map(|guard| guard.sessions).sum();
        if (left, appliance.held()) != (0, 0) {
            let what = format!("{left} sessions and {} packets are left", appliance.held());
            return Err(world.fail("sessions end", what));
        }
        let connections = book.borrow().records.len();
        let counters = appliance.counters();
        Ok(Outcome {
            connections,
            hash: world.trace().hash(),
            counters,
        })
    }
}

/// A world in which a scenario is about to be played.
pub struct Stage {
    /// The world.
    pub world: World,
    /// Its networks and appliance.
    pub site: Site,
    /// Its connections.
    pub book: SharedBook,
    /// Its clients and servers.
    pub hosts: Vec<NodeId>,
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// How many connections were begun.
    pub connections: usize,
    /// The trace's hash.
    pub hash: u64,
    /// The appliance's counters.
    pub counters: dataplane::counters::Counters,
}

fn happen(world: &mut World, fault: Fault, appliance: NodeId, servers: &[NodeId]) {
    match fault {
        Fault::ServerStops(server) => world.get_mut::<Host>(servers[server]).stop(),
        Fault::ServerRestarts(server) => {
            let id = servers[server];
            world.get_mut::<Host>(id).stop();
            let back_ns = world.now_ns() + SECOND_NS;
            world.at(back_ns, move |world| world.get_mut::<Host>(id).restart());
        }
        Fault::ServerRefuses(server) => world.get_mut::<Host>(servers[server]).refuse(),
        Fault::Reload => {
            let now_s = site::UNIX_S + world.now_ns() / SECOND_NS;
            world
                .get_mut::<Appliance>(appliance)
                .reconfigure(|settings| {
                    let secret = [settings.keys.len() as u8; 16];
                    settings.keys.push(CookieKey {
                        not_before_s: now_s + 1,
                        secret,
                    });
                });
        }
        Fault::Drain => world.get_mut::<Appliance>(appliance).drain(),
        Fault::Shortage => {
            shortage(world, appliance, Some(3));
            let end_ns = world.now_ns() + 100 * MS;
            world.at(end_ns, move |world| shortage(world, appliance, None));
        }
    }
}

fn shortage(world: &mut World, appliance: NodeId, left: Option<usize>) {
    let appliance = world.get_mut::<Appliance>(appliance);
    for worker in 0..appliance.workers().len() {
        let io = appliance.io_mut(worker);
        io.transmit_room = left;
        io.allocations_left = left;
    }
}
