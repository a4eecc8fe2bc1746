//! Several guards between the same clients and servers, whose routers send every packet by any of
//! them; and what may befall the guards and what is between them.

mod agreement;
mod draw;
mod intruder;

use std::net::IpAddr;

use dataplane::counters::Counters;
use dataplane::guard::config::{Share, Sharing, Timers};
use dataplane::guard::cookie::CookieKey;
use dataplane::replicate::PeerId;
use dataplane::replicate::keys::ReplicationKey;

use self::intruder::Intruder;
use crate::appliance::{Appliance, ApplianceSettings, Replication, SYNC, Side};
use crate::frame::Mac;
use crate::host::{Book, Host, HostSettings, Plan, SharedBook};
use crate::internet::{BLIND_MAC, Campaign, Internet, Overheard};
use crate::invariant::{Accounting, Checksums, Lives, Streams};
use crate::link::LinkSettings;
use crate::node::{Node, Switch};
use crate::site::{self, Site};
use crate::spray::{self, Spray};
use crate::world::{Failure, NodeId, World};

const MS: u64 = 1_000_000;
const SECOND_NS: u64 = 1000 * MS;
/// When the last connection is begun, and the last fault is over.
const QUIET_NS: u64 = 30 * SECOND_NS;
/// When every connection must have ended.
const PATIENCE_NS: u64 = 200 * SECOND_NS;
/// How long after the last trouble the guards must agree.
const AGREED_AFTER_NS: u64 = 5 * SECOND_NS;
/// How long a guard that leaves waits for what it has begun to open.
const LAST_OPENINGS_NS: u64 = 200 * MS;
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
    /// Nothing that the first guard says reaches the second one for so long.
    Deaf(usize, usize, u64),
    /// Neither of the two guards hears the other for so long; others hear both.
    Parted(usize, usize, u64),
    /// What the guard and its peers say to each other takes so long (the second span), for so long
    /// (the first one).
    Slow(usize, u64, u64),
    /// The guard does nothing for so long; what comes meanwhile waits for it.
    Stall(usize, u64),
    /// The guards get new cookie keys and replication keys, one after the other, so far apart; the
    /// keys count from a second after the last one has them.
    NewKeys(u64),
    /// The guards share otherwise from then on, one after the other, so far apart.
    Shares(Share, u64),
    /// The guard says good-bye to its peers and goes, and comes back after so long.
    Leave(usize, u64),
    /// The guard opens no more sessions for so long, though packets still come; then it goes, as
    /// before, and comes back.
    Drain(usize, u64, u64),
}

impl Trouble {
    /// How long some guard does not hear another one.
    fn cut_ns(self) -> u64 {
        match self {
            Self::CutOff(_, span_ns) | Self::Deaf(_, _, span_ns) | Self::Parted(_, _, span_ns) => {
                span_ns
            }
            _ => 0,
        }
    }

    /// Whether a guard goes, and what it knew with it.
    fn is_death(self) -> bool {
        matches!(self, Self::Crash(..) | Self::Leave(..) | Self::Drain(..))
    }
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
    /// The attacks from outside.
    pub campaigns: Vec<Campaign>,
    /// How often somebody between the guards says nonsense in a guard's name.
    pub intrusion_every_ns: u64,
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
            keys: vec![ReplicationKey {
                not_before_s: 0,
                secret: [9; 32],
            }],
            sharing,
        }),
        ..site::appliance_settings(servers, 77 + guard as u64)
    }
}

impl Shared {
    /// Draws a run.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        draw::shared(seed)
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
        // A guard that died may have been the only one to see the end of a session.
        let ends_count = !self.has_deaths();
        let calm = LinkSettings {
            delay_ns: self.sync.delay_ns.min(MS),
            ..LinkSettings::default()
        };
        for &guard in &stage.guards {
            world.set_link((guard, SYNC), calm);
        }
        world.run_for(AGREED_AFTER_NS)?;
        agreement::require(&mut world, &stage, &book, ends_count)?;
        let is_busy = |world: &World| {
            let open = |&host: &NodeId| world.get::<Host>(host).open_connections() > 0;
            stage.hosts.iter().any(open)
        };
        while is_busy(&world) && world.now_ns() < PATIENCE_NS {
            world.run_for(5 * SECOND_NS)?;
        }
        world.finish()?;
        agreement::require(&mut world, &stage, &book, ends_count)?;
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

    fn has_deaths(&self) -> bool {
        self.troubles.iter().any(|(_, trouble)| trouble.is_death())
    }

    fn build(&self, world: &mut World, book: &SharedBook) -> SharedStage {
        let mut site = Site::new(world, self.guards[0].clone());
        let mut guards = vec![site.appliance];
        for (number, settings) in self.guards.iter().enumerate().skip(1) {
            guards.push(site.add_appliance(world, format!("guard{number}"), settings.clone()));
        }
        let sync = world.add("sync", Switch::new(self.guards.len() + 1));
        world.trace_mut().hide(sync);
        world.require(Streams::new(book.clone()));
        for (number, &guard) in guards.iter().enumerate() {
            world.connect((guard, SYNC), (sync, number), self.sync);
            // What a packet between two guards suffers, it suffers once.
            world.set_link((sync, number), LinkSettings::default());
            world.trace_mut().hide_port((guard, SYNC));
            world.require(Accounting::new(guard));
            world.require(Checksums::new(guard));
            world.require(Lives::new(guard, BLIND_MAC));
        }
        self.add_intruder(world, sync);
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
            let host = self.attach(world, &mut stage, host, spray, "server");
            stage.hosts.push(host);
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
            let host = self.attach(world, &mut stage, host, spray, &format!("client{number}"));
            stage.hosts.push(host);
        }
        let (spray, _) = site.add_outside(
            world,
            "outer routers",
            self.spray(0),
            LinkSettings::default(),
        );
        self.attach(world, &mut stage, self.internet(), spray, "internet");
        for &(at_ns, trouble) in &self.troubles {
            let (stage, link) = (stage.clone(), self.sync);
            world.at(at_ns, move |world| happen(world, trouble, &stage, link));
        }
        stage
    }

    /// Attackers who know what connections there are.
    fn internet(&self) -> Internet {
        let plans = self.clients.iter().flat_map(|(_, plans)| plans);
        let known: Vec<_> = plans.map(Plan::ends).collect();
        let targets = known
            .iter()
            .map(|ends| (ends.destination, ends.destination_port));
        let targets = targets.collect();
        let (campaigns, overheard) = (self.campaigns.clone(), Overheard::default());
        Internet::new(campaigns, targets, known, overheard, self.seed)
    }

    /// Somebody on the network between the guards.
    fn add_intruder(&self, world: &mut World, sync: NodeId) {
        let stations =
            (0..self.guards.len()).map(|guard| (guard_mac(2, guard), sync_address(guard)));
        let intruder = Intruder::new(stations.collect(), self.intrusion_every_ns, self.seed);
        let intruder = world.add("intruder", intruder);
        world.trace_mut().hide(intruder);
        let port = (sync, self.guards.len());
        world.connect((intruder, 0), port, LinkSettings::default());
    }

    fn spray(&self, side: u8) -> Spray {
        let guards = (0..self.guards.len()).map(|guard| guard_mac(side, guard));
        Spray::new(guards.collect(), self.seed ^ u64::from(side))
    }

    fn attach(
        &self,
        world: &mut World,
        stage: &mut SharedStage,
        host: impl Node,
        spray: NodeId,
        name: &str,
    ) -> NodeId {
        let host = world.add(name, host);
        world.connect((host, 0), (spray, spray::HOST), self.link);
        world.trace_mut().hide(spray);
        stage.sprays.push(spray);
        host
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
            world.at(now_ns + LAST_OPENINGS_NS, move |world| {
                world.get_mut::<Appliance>(id).say_goodbye();
            });
            let gone_ns = now_ns + 2 * ROUTERS_NOTICE_NS;
            world.at(gone_ns, move |world| {
                world.get_mut::<Appliance>(id).stop();
            });
            come_back(world, stage, guard, gone_ns + span_ns);
        }
        Trouble::Drain(guard, drain_ns, span_ns) => {
            world.get_mut::<Appliance>(stage.guards[guard]).drain();
            let stage = stage.clone();
            world.at(now_ns + drain_ns, move |world| {
                happen(world, Trouble::Leave(guard, span_ns), &stage, sync);
            });
        }
        Trouble::CutOff(guard, span_ns) => {
            let dead = LinkSettings { loss: 1.0, ..sync };
            for_a_while(world, stage, guard, [dead, dead], sync, span_ns);
        }
        Trouble::Slow(guard, span_ns, delay_ns) => {
            let slow = |link: LinkSettings| LinkSettings { delay_ns, ..link };
            let links = [slow(sync), slow(LinkSettings::default())];
            for_a_while(world, stage, guard, links, sync, span_ns);
        }
        Trouble::Deaf(from, to, span_ns) => block(world, stage.sync, from, to, span_ns),
        Trouble::Parted(one, other, span_ns) => {
            block(world, stage.sync, one, other, span_ns);
            block(world, stage.sync, other, one, span_ns);
        }
        Trouble::Stall(guard, span_ns) => {
            let id = stage.guards[guard];
            world.get_mut::<Appliance>(id).stall();
            world.at(now_ns + span_ns, move |world| {
                world.get_mut::<Appliance>(id).wake();
            });
        }
        Trouble::NewKeys(apart_ns) => new_keys(world, stage, apart_ns),
        Trouble::Shares(share, apart_ns) => one_by_one(world, stage, apart_ns, move |world, id| {
            world.get_mut::<Appliance>(id).reconfigure(|settings| {
                if let Some(replication) = &mut settings.replication {
                    replication.sharing.share = share;
                }
            });
        }),
    }
}

/// The links of a guard to its peers, out and back, are these for so long.
fn for_a_while(
    world: &mut World,
    stage: &SharedStage,
    guard: usize,
    links: [LinkSettings; 2],
    sync: LinkSettings,
    span_ns: u64,
) {
    let (out, back) = ((stage.guards[guard], SYNC), (stage.sync, guard));
    world.set_link(out, links[0]);
    world.set_link(back, links[1]);
    world.at(world.now_ns() + span_ns, move |world| {
        world.set_link(out, sync);
        world.set_link(back, LinkSettings::default());
    });
}

/// Nothing goes from one guard to the other for so long.
fn block(world: &mut World, sync: NodeId, from: usize, to: usize, span_ns: u64) {
    world.get_mut::<Switch>(sync).block(from, to, true);
    world.at(world.now_ns() + span_ns, move |world| {
        world.get_mut::<Switch>(sync).block(from, to, false);
    });
}

/// Does something to one guard after the other.
fn one_by_one(
    world: &mut World,
    stage: &SharedStage,
    apart_ns: u64,
    act: impl Fn(&mut World, NodeId) + Clone + 'static,
) {
    for (place, &id) in stage.guards.iter().enumerate() {
        let act = act.clone();
        world.at(world.now_ns() + place as u64 * apart_ns, move |world| {
            act(world, id)
        });
    }
}

fn new_keys(world: &mut World, stage: &SharedStage, apart_ns: u64) {
    let last_ns = world.now_ns() + stage.guards.len() as u64 * apart_ns;
    let not_before_s = site::UNIX_S + last_ns / SECOND_NS + 1;
    one_by_one(world, stage, apart_ns, move |world, id| {
        let now_ns = world.now_ns();
        let appliance = world.get_mut::<Appliance>(id);
        appliance.reconfigure(|settings| {
            settings.keys.push(CookieKey {
                not_before_s,
                secret: [8; 16],
            });
        });
        let key = ReplicationKey {
            not_before_s,
            secret: [10; 32],
        };
        appliance.add_replication_key(key, now_ns);
    });
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
