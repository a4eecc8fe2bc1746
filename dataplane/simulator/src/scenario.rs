//! Random schedules: everything about a run follows from its seed.
//!
//! [`Scenario::random`] draws the hosts, links, connections, attacks and faults, and
//! [`Scenario::run`] plays them. A new protocol adds its settings to the draw and its promises to
//! [`Scenario::build`].

use dataplane::guard::config::{FloodThresholds, Mode, Timers, Unknown};
use dataplane::guard::cookie::CookieKey;

use crate::appliance::{Appliance, ApplianceSettings, Queues};
use crate::host::{Book, Close, Host, HostSettings, Pace, Plan, SharedBook};
use crate::internet::{Attack, Campaign, Eavesdropper, Internet, Overheard};
use crate::invariant::{Accounting, Bounds, Checksums, Proof, Splice, Streams};
use crate::link::LinkSettings;
use crate::random::Random;
use crate::site::{self, Family, Site};
use crate::world::{Failure, NodeId, World};

const MS: u64 = 1_000_000;
const SECOND_NS: u64 = 1000 * MS;

/// When no connection is begun any more, and no attack goes on.
const QUIET_NS: u64 = 30 * SECOND_NS;
/// When both of two workers have had an answer from every server they ask. Which of them an answer
/// meets is chance, and with three the last one may have to wait for minutes.
const PROBED_NS: u64 = 12 * SECOND_NS;
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
        Draw {
            random: Random::new(seed),
        }
        .scenario(seed)
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
            let host = Host::new(settings.clone(), book.clone());
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
        let internet = Internet::new(self.campaigns.clone(), targets, overheard, self.seed);
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

    fn services(&self) -> Vec<(std::net::IpAddr, u16)> {
        let protect = self.appliance.protect.iter();
        protect
            .map(|(address, ports)| (*address, ports[0]))
            .collect()
    }

    fn require(&self, world: &mut World, appliance: NodeId, book: &SharedBook) {
        world.require(Streams::new(book.clone()));
        world.require(Accounting::new(appliance));
        world.require(Bounds::new(appliance));
        world.require(Checksums::new(appliance));
        if self.appliance.mode == Mode::Always {
            world.require(Proof::new(appliance, self.services()));
            world.require(Splice::new(appliance));
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

/// Whether a fault may break a connection to this server.
fn hazards_to(server: usize, faults: &[(u64, Fault)]) -> bool {
    faults.iter().any(|(_, fault)| match fault {
        Fault::ServerStops(at) | Fault::ServerRestarts(at) | Fault::ServerRefuses(at) => {
            *at == server
        }
        Fault::Drain => true,
        Fault::Reload | Fault::Shortage => false,
    })
}

/// What a host sends without waiting for an acknowledgement.
const SMALL_BYTES: u64 = 4000;

/// Draws scenarios.
struct Draw {
    random: Random,
}

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    fn scenario(&mut self, seed: u64) -> Scenario {
        let server_count = 1 + self.below(3) as u8;
        let appliance = self.appliance(server_count);
        let servers: Vec<_> = (0..server_count)
            .map(|n| (self.host(n, true), self.link(1, 0.005)))
            .collect();
        let faults = self.faults(servers.len());
        let campaigns = self.campaigns();
        let is_guarded = appliance.mode == Mode::Always;
        let may_guard = matches!(appliance.mode, Mode::Always | Mode::OnFlood);
        let worst = self.pick(&[0.0, 0.0, 0.01, 0.05]);
        let clients = (0..1 + self.below(4) as u8)
            .map(|n| {
                let host = self.host(n, false);
                let link = self.link(40, worst);
                let is_orderly = link.loss + link.reorder == 0.0;
                let mut plans: Vec<Plan> = (0..1 + self.below(6) as u16)
                    .map(|m| {
                        let (server, plan) = self.plan(n, m, servers.len());
                        let mut hazards = hazards_to(server, &faults);
                        // The first client of a server that does no timestamps, unless it was asked
                        // before, finds that out by a reset.
                        let is_known =
                            appliance.probe && appliance.workers < 3 && plan.start_ns > PROBED_NS;
                        let differs = host.timestamps && !servers[server].0.timestamps;
                        hazards |= differs && may_guard && !is_known;
                        hazards |= campaigns.iter().any(Campaign::can_harm) && !is_guarded;
                        // A stranger's segment is reset also where its handshake is only late.
                        hazards |= appliance.unknown == Unknown::Reset && !is_orderly;
                        let is_replayed = campaigns.iter().any(Campaign::replays);
                        let is_mutual = plan.up_bytes.min(plan.down_bytes) > SMALL_BYTES;
                        // Two ends of the hosts' stack that both retransmit ignore each other:
                        // their acknowledgements bear numbers of what they repeat.
                        hazards |= !is_orderly && is_mutual;
                        Plan {
                            must_succeed: !hazards,
                            must_close: is_orderly && !is_replayed,
                            ..plan
                        }
                    })
                    .collect();
                if let Some(again) = self.again(&plans[0], is_orderly) {
                    plans.push(again);
                }
                (host, link, plans)
            })
            .collect();
        Scenario {
            seed,
            appliance,
            servers,
            clients,
            campaigns,
            faults,
        }
    }

    fn appliance(&mut self, servers: u8) -> ApplianceSettings {
        let seed = self.random.next_u64();
        let timers = Timers {
            established_idle_ns: 200 * SECOND_NS,
            ..Timers::default()
        };
        ApplianceSettings {
            workers: 1 + self.below(3) as usize,
            queues: self.pick(&[Queues::Steered, Queues::Single, Queues::Scattered]),
            probe: self.random.chance(0.5),
            capacity: self.pick(&[4096, 4096, 64]),
            flood: FloodThresholds {
                enter_syns_per_s: 100,
                leave_syns_per_s: 50,
                hold_ns: SECOND_NS,
            },
            mode: self.pick(&[
                Mode::Always,
                Mode::Always,
                Mode::Always,
                Mode::OnFlood,
                Mode::Monitor,
                Mode::Off,
            ]),
            unknown: self.pick(&[Unknown::Drop, Unknown::Reset]),
            timers,
            ..site::appliance_settings(servers, seed)
        }
    }

    fn host(&mut self, number: u8, is_server: bool) -> HostSettings {
        let (host, side) = match is_server {
            true => (
                site::SERVER_HOST + number,
                site::inside_address as fn(_, _) -> _,
            ),
            false => (
                site::CLIENT_HOST + number,
                site::outside_address as fn(_, _) -> _,
            ),
        };
        let families = [(Family::V4, 24), (Family::V6, 64)];
        HostSettings {
            mac: [2, 0, 0, 0, 1 + u8::from(is_server), host],
            addresses: families
                .map(|(family, length)| (side(family, host), length))
                .to_vec(),
            gateways: families
                .map(|(family, _)| side(family, site::APPLIANCE_HOST))
                .to_vec(),
            mtu_bytes: self.pick(&[1500, 1500, 1400, 1280]),
            timestamps: self.random.chance(0.7),
            receive_bytes: self.pick(&[3000, 20_000, 64_000, 300_000]),
            send_bytes: self.pick(&[3000, 20_000, 64_000]),
            ack_delay_ns: self.pick(&[None, Some(10 * MS), Some(200 * MS)]),
            nagle: self.random.chance(0.5),
            listens: if is_server {
                vec![site::SERVICE_PORT]
            } else {
                Vec::new()
            },
            seed: self.random.next_u64(),
        }
    }

    fn link(&mut self, delay_ms: u64, worst: f64) -> LinkSettings {
        LinkSettings {
            rate_bits_per_second: self.pick(&[0, 0, 20_000_000]),
            delay_ns: self.below(delay_ms * MS),
            jitter_ns: self.below(delay_ms * MS / 4 + 1),
            loss: self.pick(&[0.0, worst]),
            bursts: None,
            reorder: self.pick(&[0.0, worst]),
            reorder_delay_ns: self.pick(&[MS, 10 * MS, 100 * MS]),
            duplicate: self.pick(&[0.0, worst]),
            queue_bytes: 200_000,
        }
    }

    /// A connection of a client, and which server it is to.
    fn plan(&mut self, client: u8, number: u16, servers: usize) -> (usize, Plan) {
        let server = self.below(servers as u64) as usize;
        let family = self.pick(&[Family::V4, Family::V6]);
        let up_bytes = 4 + self.pick(&[0, 100, 3000, 60_000]);
        let down_bytes = self.pick(&[0, 100, 3000, 100_000]);
        let moved = self.below(up_bytes + down_bytes);
        let slow = Pace {
            chunk_bytes: 2000,
            every_ns: 50 * MS,
        };
        let plan = Plan {
            start_ns: self.below(QUIET_NS - 5 * SECOND_NS),
            client: site::outside_address(family, site::CLIENT_HOST + client),
            client_port: 40_000 + 100 * u16::from(client) + number,
            server: site::inside_address(family, site::SERVER_HOST + server as u8),
            server_port: site::SERVICE_PORT,
            up_bytes,
            down_bytes,
            close: self.pick(&[
                Close::ClientFirst,
                Close::ServerFirst,
                Close::Both,
                Close::ClientHalf,
                Close::ServerHalf,
                Close::ClientAborts(moved),
                Close::ServerAborts(moved.max(4)),
            ]),
            client_pace: self.pick(&[Pace::EAGER, Pace::EAGER, slow]),
            server_pace: self.pick(&[Pace::EAGER, Pace::EAGER, slow]),
            must_succeed: true,
            must_close: true,
        };
        (server, plan)
    }

    /// A second connection of the same ports, begun when both ends have forgotten the first and the
    /// guard has not.
    fn again(&mut self, first: &Plan, is_orderly: bool) -> Option<Plan> {
        let is_quick = first.up_bytes.max(first.down_bytes) < SMALL_BYTES
            && (first.client_pace, first.server_pace) == (Pace::EAGER, Pace::EAGER)
            && !matches!(first.close, Close::ClientAborts(_) | Close::ServerAborts(_));
        let start_ns = first.start_ns + 20 * SECOND_NS;
        (is_quick && is_orderly && self.random.chance(0.5)).then(|| Plan {
            start_ns,
            ..first.clone()
        })
    }

    fn faults(&mut self, servers: usize) -> Vec<(u64, Fault)> {
        let server = self.below(servers as u64) as usize;
        let choices = [
            None,
            None,
            None,
            Some(Fault::ServerStops(server)),
            Some(Fault::ServerRestarts(server)),
            Some(Fault::ServerRefuses(server)),
            Some(Fault::Reload),
            Some(Fault::Reload),
            Some(Fault::Shortage),
            Some(Fault::Drain),
        ];
        let chosen = [self.pick(&choices), self.pick(&choices)];
        chosen
            .into_iter()
            .flatten()
            .map(|fault| (self.below(QUIET_NS), fault))
            .collect()
    }

    fn campaigns(&mut self) -> Vec<Campaign> {
        let mut campaigns = Vec::new();
        for attack in Attack::ALL {
            if self.random.chance(0.3) {
                let start_ns = self.below(QUIET_NS);
                let span_ns = self.below(5 * SECOND_NS);
                let end_ns = (start_ns + span_ns).min(QUIET_NS);
                let every_ns = self.pick(&[2 * MS, 20 * MS, 100 * MS]);
                campaigns.push(Campaign {
                    attack,
                    start_ns,
                    end_ns,
                    every_ns,
                });
            }
        }
        campaigns
    }
}
