//! Several guards between the same clients and servers, whose routers send every packet by any of
//! them; and what may befall the guards and what is between them.

use std::net::IpAddr;

use dataplane::counters::Counters;
use dataplane::guard::config::{Share, Sharing, Timers};
use dataplane::replicate::PeerId;

use crate::appliance::{Appliance, ApplianceSettings, Replication, SYNC, Side};
use crate::frame::Mac;
use crate::host::{Book, Close, Host, HostSettings, Manner, Pace, Plan, SharedBook};
use crate::invariant::{Accounting, Checksums, Streams};
use crate::link::LinkSettings;
use crate::node::Switch;
use crate::random::Random;
use crate::site::{self, Family, Site};
use crate::spray::{self, Spray};
use crate::world::{Failure, NodeId, World};

const MS: u64 = 1_000_000;
const SECOND_NS: u64 = 1000 * MS;
/// When the last connection is begun, and the last fault is over.
const QUIET_NS: u64 = 30 * SECOND_NS;
/// When every connection must have ended.
const PATIENCE_NS: u64 = 200 * SECOND_NS;
/// How soon the routers notice that a guard is gone, or back.
const ROUTERS_NOTICE_NS: u64 = 500 * MS;

/// Something that happens to a guard or to what is between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The guard loses its power for so long.
    Crash(usize, u64),
    /// The guard neither sends to its peers nor hears of them for so long; it carries packets all
    /// the while.
    CutOff(usize, u64),
    /// The guard says good-bye to its peers and goes, and comes back after so long.
    Leave(usize, u64),
}

/// A run that is to be played.
#[derive(Clone, Debug)]
pub struct Shared {
    /// What everything here was drawn from.
    pub seed: u64,
    /// The guards.
    pub guards: Vec<ApplianceSettings>,
    /// The link of each guard to its peers.
    pub sync: LinkSettings,
    /// The servers.
    pub servers: Vec<HostSettings>,
    /// The clients, with their connections.
    pub clients: Vec<(HostSettings, Vec<Plan>)>,
    /// The link of each host.
    pub link: LinkSettings,
    /// What happens when.
    pub troubles: Vec<(u64, Trouble)>,
}

/// What a run came to.
#[derive(Debug)]
pub struct SharedOutcome {
    /// How many connections were begun.
    pub connections: usize,
    /// The guards' counters together.
    pub counters: Counters,
}

fn guard_mac(side: u8, guard: usize) -> Mac {
    [2, 0, 0, side, 0, 1 + guard as u8]
}

fn sync_address(guard: usize) -> IpAddr {
    IpAddr::from([10, 9, 0, 1 + guard as u8])
}

/// The settings of one of so many guards.
#[must_use]
pub fn guard_settings(
    guard: usize,
    guards: usize,
    servers: u8,
    sharing: Sharing,
) -> ApplianceSettings {
    let host = 1 + guard as u8;
    let side = |number: u8, addresses| Side {
        mac: guard_mac(number, guard),
        addresses,
        mtu_bytes: 1500,
    };
    let others = (0..guards).filter(|&other| other != guard);
    ApplianceSettings {
        outside: side(0, site::outside_addresses(host)),
        inside: side(1, site::inside_addresses(host)),
        timers: Timers {
            established_idle_ns: 60 * SECOND_NS,
            closing_idle_ns: 40 * SECOND_NS,
            ..Timers::default()
        },
        replication: Some(Replication {
            id: PeerId(host),
            side: side(2, vec![(sync_address(guard), 24)]),
            peers: others
                .map(|other| (PeerId(1 + other as u8), sync_address(other)))
                .collect(),
            group: None,
            key: [9; 32],
            sharing,
        }),
        ..site::appliance_settings(servers, 77 + guard as u64)
    }
}

impl Shared {
    /// Draws a run.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let guards = 2 + random.below(2) as usize;
        let sharing = Sharing {
            share: match random.below(4) {
                0 => Share::Begun,
                1 => Share::Deferred,
                _ => Share::Established,
            },
            ..Sharing::default()
        };
        let is_harsh = random.chance(0.5);
        let pick =
            |random: &mut Random, list: &[f64]| list[random.below(list.len() as u64) as usize];
        let delay_ms = [0, 2, 40, 1000][random.below(4) as usize];
        let sync = LinkSettings {
            delay_ns: if is_harsh {
                delay_ms * MS
            } else {
                random.below(MS)
            },
            jitter_ns: random.below(MS),
            loss: if is_harsh {
                pick(&mut random, &[0.0, 0.05, 0.3])
            } else {
                0.0
            },
            reorder: pick(&mut random, &[0.0, 0.1]),
            reorder_delay_ns: 5 * MS,
            duplicate: pick(&mut random, &[0.0, 0.1]),
            ..LinkSettings::default()
        };
        let link = LinkSettings {
            delay_ns: random.below(20 * MS),
            ..LinkSettings::default()
        };
        // Guards that hear of each other so late need some time to know what there is.
        let is_far = sync.delay_ns > 100 * MS;
        let settings = |guard| ApplianceSettings {
            workers: 1 + (seed as usize + guard) % 2,
            ..guard_settings(guard, guards, 1, sharing)
        };
        Self {
            seed,
            guards: (0..guards).map(settings).collect(),
            sync,
            servers: vec![host(&mut random, 0, true)],
            clients: (0..1 + random.below(3) as u8)
                .map(|number| {
                    let settings = host(&mut random, number, false);
                    let plans = (0..1 + random.below(5) as u16)
                        .map(|plan| draw_plan(&mut random, number, plan))
                        .collect();
                    (settings, plans)
                })
                .collect(),
            link,
            troubles: if is_far {
                Vec::new()
            } else {
                draw_troubles(&mut random, guards)
            },
        }
    }

    /// Plays it: connections, then silence until no session may be left anywhere.
    ///
    /// # Errors
    /// What did not hold.
    pub fn run(&self) -> Result<SharedOutcome, Box<Failure>> {
        let mut world = World::new(self.seed);
        let book = Book::shared();
        let stage = self.build(&mut world, &book);
        world.run_until(QUIET_NS)?;
        let is_busy = |world: &World| {
            let open = |&host: &NodeId| world.get::<Host>(host).open_connections() > 0;
            stage.hosts.iter().any(open)
        };
        while is_busy(&world) && world.now_ns() < PATIENCE_NS {
            world.run_for(5 * SECOND_NS)?;
        }
        world.finish()?;
        for &host in &stage.hosts {
            world.get_mut::<Host>(host).stop();
        }
        // As long as a silent session may live here after its last segment elsewhere, and as long as
        // an ended one is remembered.
        world.run_for(160 * SECOND_NS)?;
        let mut counters = Counters::default();
        for &guard in &stage.guards {
            let appliance = world.get::<Appliance>(guard);
            let left: usize = appliance.guards().map(|guard| guard.sessions).sum();
            let held: usize = appliance.guards().map(|guard| guard.held).sum();
            if (left, held) != (0, 0) {
                let name = world.name_of(guard);
                let what = format!("{left} sessions and {held} packets are left at {name}");
                return Err(world.fail("sessions end", what));
            }
            counters.merge(&appliance.counters());
        }
        let connections = book.borrow().records.len();
        Ok(SharedOutcome {
            connections,
            counters,
        })
    }

    fn build(&self, world: &mut World, book: &SharedBook) -> SharedStage {
        let mut site = Site::new(world, self.guards[0].clone());
        let mut guards = vec![site.appliance];
        for (number, settings) in self.guards.iter().enumerate().skip(1) {
            guards.push(site.add_appliance(world, format!("guard{number}"), settings.clone()));
        }
        let sync = world.add("sync", Switch::new(self.guards.len()));
        world.trace_mut().hide(sync);
        world.require(Streams::new(book.clone()));
        for (number, &guard) in guards.iter().enumerate() {
            world.connect((guard, SYNC), (sync, number), self.sync);
            // What a packet between two guards suffers, it suffers once.
            world.set_link((sync, number), LinkSettings::default());
            world.trace_mut().hide_port((guard, SYNC));
            world.require(Accounting::new(guard));
            world.require(Checksums::new(guard));
        }
        let mut stage = SharedStage {
            guards,
            sync,
            sprays: Vec::new(),
            hosts: Vec::new(),
        };
        for settings in &self.servers {
            let host = Host::new(settings.clone(), book.clone());
            let link = LinkSettings::default();
            let (spray, _) = site.add_inside(world, "inner routers", self.spray(1), link);
            self.attach(world, &mut stage, host, spray, "server");
        }
        for (number, (settings, plans)) in self.clients.iter().enumerate() {
            let plans: Vec<_> = {
                let mut book = book.borrow_mut();
                plans.iter().map(|plan| book.plan(plan.clone())).collect()
            };
            let mut host = Host::new(settings.clone(), book.clone());
            host.begin(plans);
            let link = LinkSettings::default();
            let (spray, _) = site.add_outside(world, "outer routers", self.spray(0), link);
            self.attach(world, &mut stage, host, spray, &format!("client{number}"));
        }
        for &(at_ns, trouble) in &self.troubles {
            let (stage, link) = (stage.clone(), self.sync);
            world.at(at_ns, move |world| happen(world, trouble, &stage, link));
        }
        stage
    }

    fn spray(&self, side: u8) -> Spray {
        let guards = (0..self.guards.len()).map(|guard| guard_mac(side, guard));
        Spray::new(guards.collect(), self.seed ^ u64::from(side))
    }

    fn attach(
        &self,
        world: &mut World,
        stage: &mut SharedStage,
        host: Host,
        spray: NodeId,
        name: &str,
    ) {
        let host = world.add(name, host);
        world.connect((host, 0), (spray, spray::HOST), self.link);
        world.trace_mut().hide(spray);
        stage.hosts.push(host);
        stage.sprays.push(spray);
    }
}

#[derive(Clone, Debug)]
struct SharedStage {
    guards: Vec<NodeId>,
    sync: NodeId,
    sprays: Vec<NodeId>,
    hosts: Vec<NodeId>,
}

/// The routers use a guard, or no longer, as soon as they notice.
fn route(world: &mut World, stage: &SharedStage, guard: usize, in_use: bool) {
    let sprays = stage.sprays.clone();
    let notice_ns = world.now_ns() + ROUTERS_NOTICE_NS;
    world.at(notice_ns, move |world| {
        for spray in sprays {
            world.get_mut::<Spray>(spray).set_in_use(guard, in_use);
        }
    });
}

fn happen(world: &mut World, trouble: Trouble, stage: &SharedStage, sync: LinkSettings) {
    let now_ns = world.now_ns();
    match trouble {
        Trouble::Crash(guard, span_ns) => {
            world.get_mut::<Appliance>(stage.guards[guard]).stop();
            come_back(world, stage, guard, now_ns + span_ns);
        }
        Trouble::Leave(guard, span_ns) => {
            let id = stage.guards[guard];
            world.get_mut::<Appliance>(id).leave();
            world.at(now_ns + 2 * ROUTERS_NOTICE_NS, move |world| {
                world.get_mut::<Appliance>(id).stop();
            });
            come_back(
                world,
                stage,
                guard,
                now_ns + 2 * ROUTERS_NOTICE_NS + span_ns,
            );
        }
        Trouble::CutOff(guard, span_ns) => {
            let dead = LinkSettings { loss: 1.0, ..sync };
            let (out, back) = ((stage.guards[guard], SYNC), (stage.sync, guard));
            world.set_link(out, dead);
            world.set_link(back, dead);
            world.at(now_ns + span_ns, move |world| {
                world.set_link(out, sync);
                world.set_link(back, LinkSettings::default());
            });
        }
    }
}

fn come_back(world: &mut World, stage: &SharedStage, guard: usize, at_ns: u64) {
    route(world, stage, guard, false);
    let stage = stage.clone();
    world.at(at_ns, move |world| {
        let now_ns = world.now_ns();
        world
            .get_mut::<Appliance>(stage.guards[guard])
            .restart(now_ns);
        route(world, &stage, guard, true);
    });
}

fn host(random: &mut Random, number: u8, is_server: bool) -> HostSettings {
    let (host, side) = if is_server {
        (
            site::SERVER_HOST + number,
            site::inside_address as fn(_, _) -> _,
        )
    } else {
        (
            site::CLIENT_HOST + number,
            site::outside_address as fn(_, _) -> _,
        )
    };
    let families = [(Family::V4, 24), (Family::V6, 64)];
    HostSettings {
        mac: [2, 0, 0, 0, 9 + u8::from(is_server), host],
        // Guards ask for neighbours from their link-local addresses.
        addresses: families
            .map(|(family, length)| (side(family, host), length))
            .into_iter()
            .chain([(link_local(is_server, host), 64)])
            .collect(),
        gateways: families
            .map(|(family, _)| side(family, site::APPLIANCE_HOST))
            .to_vec(),
        mtu_bytes: 1500,
        timestamps: is_server || random.chance(0.7),
        receive_bytes: [20_000, 64_000][random.below(2) as usize],
        send_bytes: 64_000,
        ack_delay_ns: [None, Some(10 * MS)][random.below(2) as usize],
        nagle: random.chance(0.5),
        manner: Manner::default(),
        listens: if is_server {
            vec![site::SERVICE_PORT]
        } else {
            Vec::new()
        },
        seed: random.next_u64(),
    }
}

fn link_local(is_server: bool, host: u8) -> IpAddr {
    let side = 9 + u16::from(is_server);
    IpAddr::from([0xfe80, 0, 0, 0, 0, 0, side, u16::from(host)])
}

/// A connection that must succeed, whatever befalls the guards.
fn draw_plan(random: &mut Random, client: u8, number: u16) -> Plan {
    let family = [Family::V4, Family::V6][random.below(2) as usize];
    // Two ends of the hosts' stack that both repeat much ignore each other, and packets that wait
    // for a peer's word are packets out of order.
    let (up_bytes, down_bytes) = match random.below(3) {
        0 => (4 + random.below(3000), random.below(3000)),
        1 => (4, 100_000),
        _ => (60_000, 0),
    };
    let slow = Pace {
        chunk_bytes: 2000,
        every_ns: 100 * MS,
    };
    Plan {
        start_ns: SECOND_NS + random.below(QUIET_NS - 5 * SECOND_NS),
        client: site::outside_address(family, site::CLIENT_HOST + client),
        client_port: 40_000 + 100 * u16::from(client) + number,
        server: site::inside_address(family, site::SERVER_HOST),
        server_port: site::SERVICE_PORT,
        up_bytes,
        down_bytes,
        close: [
            Close::ClientFirst,
            Close::ServerFirst,
            Close::Both,
            Close::ClientHalf,
            Close::ServerHalf,
        ][random.below(5) as usize],
        client_pace: [Pace::EAGER, slow][random.below(2) as usize],
        server_pace: [Pace::EAGER, slow][random.below(2) as usize],
        after_ns: None,
        pause: None,
        must_succeed: true,
        must_close: false,
    }
}

/// The hosts know the first guard's address: it never goes.
fn draw_troubles(random: &mut Random, guards: usize) -> Vec<(u64, Trouble)> {
    let count = random.below(4);
    let mut troubles = Vec::new();
    // One after the other, so that one guard at least knows everything.
    let mut at_ns = SECOND_NS;
    for _ in 0..count {
        at_ns += random.below(8 * SECOND_NS);
        let span_ns = MS + random.below(3 * SECOND_NS);
        let guard = 1 + random.below(guards as u64 - 1) as usize;
        let trouble = match random.below(3) {
            0 => Trouble::Crash(guard, span_ns),
            1 => Trouble::Leave(guard, span_ns),
            _ => Trouble::CutOff(random.below(guards as u64) as usize, span_ns),
        };
        troubles.push((at_ns, trouble));
        at_ns += span_ns + 3 * SECOND_NS;
    }
    troubles
}
