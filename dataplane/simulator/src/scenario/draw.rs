//! What random schedules are drawn from.

use std::collections::{BTreeMap, BTreeSet};

use dataplane::guard::config::{EchoMode, FloodThresholds, Mode, Timers, Unknown};

use super::{Fault, MS, QUIET_NS, SECOND_NS, Scenario};
use crate::appliance::{ApplianceSettings, Queues};
use crate::host::{Close, HostSettings, Manner, Pace, Pause, Plan, Way};
use crate::internet::{Attack, Campaign};
use crate::link::LinkSettings;
use crate::random::Random;
use crate::site::{self, Family, Layout};

/// When both of two workers have had an answer from every server they ask. Which of them an answer
/// meets is chance, and with three the last one may have to wait for minutes.
const PROBED_NS: u64 = 12 * SECOND_NS;
/// What a host sends without waiting for an acknowledgement.
const SMALL_BYTES: u64 = 4000;
/// How many connections a crowd is.
const CROWD: u16 = 60;
/// How many small ones there are at most beside it.
const SMALL_CONNECTIONS: u32 = 48;

/// The port of a client's connections that follow each other, counted from its first one.
const CHAIN_PORT: u16 = 50;

/// Of so many seeds in a row, one makes the appliance a transparent wire.
const WIRE_EVERY: u64 = 5;
/// What that seed leaves when it is divided by [`WIRE_EVERY`]. No seed of `tests/regressions.txt`
/// that was found on a hop does.
const WIRE_REMAINDER: u64 = 3;

/// Draws scenarios.
pub(super) struct Draw {
    random: Random,
    /// Of what only a wire has, so that all else is drawn as it is for a hop.
    aside: Random,
    /// How SYNs reach their servers, if the guard is a wire.
    wire: Option<EchoMode>,
}

/// All but the clients, who must live with it.
struct Circumstances {
    appliance: ApplianceSettings,
    servers: Vec<(HostSettings, LinkSettings)>,
    faults: Vec<(u64, Fault)>,
    campaigns: Vec<Campaign>,
}

/// A client, as far as its plans depend on it.
struct Client {
    number: u8,
    host: HostSettings,
    is_orderly: bool,
}

type Clients = (HostSettings, LinkSettings, Vec<Plan>);

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

impl Circumstances {
    /// Whether a connection to this server may fail through nobody's fault.
    fn may_break(&self, client: &Client, server: usize, plan: &Plan) -> bool {
        let (mode, is_orderly) = (self.appliance.mode, client.is_orderly);
        let is_guarded = mode == Mode::Always;
        let may_guard = matches!(mode, Mode::Always | Mode::OnFlood);
        // The first client of a server that does no timestamps, unless it was asked before, finds
        // that out by a reset.
        let is_known =
            self.appliance.probe && self.appliance.workers < 3 && plan.start_ns > PROBED_NS;
        let differs = client.host.timestamps && !self.servers[server].0.timestamps;
        let is_mutual = plan.up_bytes.min(plan.down_bytes) > SMALL_BYTES;
        hazards_to(server, &self.faults)
            || (differs && may_guard && !is_known)
            || (self.campaigns.iter().any(Campaign::can_harm) && !is_guarded)
            // A stranger's segment is reset also where its handshake is only late.
            || (self.appliance.unknown == Unknown::Reset && !is_orderly)
            // Two ends of the hosts' stack that both retransmit ignore each other: their
            // acknowledgements bear numbers of what they repeat.
            || (!is_orderly && is_mutual)
            || self.may_idle(plan, is_orderly)
            // Who finds no place must wait until somebody goes.
            || self.appliance.capacity < SMALL_CONNECTIONS
    }

    /// Whether the guard may give up a connection for its silence.
    fn may_idle(&self, plan: &Plan, is_orderly: bool) -> bool {
        let timers = self.appliance.timers;
        let limit_ns = timers.established_idle_ns.min(timers.closing_idle_ns);
        let pause_ns = plan.pause.map_or(0, |pause| pause.span_ns);
        // A lost segment is repeated after up to so long.
        let silence_ns = pause_ns + SECOND_NS + if is_orderly { 0 } else { 30 * SECOND_NS };
        silence_ns >= limit_ns
    }

    /// The servers whose links keep the order and lose nothing.
    fn near_servers(&self) -> Vec<u8> {
        let links = self
            .servers
            .iter()
            .map(|(_, link)| link.loss + link.reorder);
        let numbered = links.zip(0..).filter(|(worst, _)| *worst == 0.0);
        numbered.map(|(_, number)| number).collect()
    }

    /// Whether both ends of a connection must see an orderly close.
    fn must_close(&self, is_orderly: bool) -> bool {
        let is_replayed = self.campaigns.iter().any(Campaign::replays);
        is_orderly && !is_replayed
    }

    /// Whether packets may be lost though the links are orderly.
    fn may_lose(&self) -> bool {
        let is_loss = |fault: &(u64, Fault)| fault.1 == Fault::Shortage;
        self.faults.iter().any(is_loss)
    }
}

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        let mut aside = Random::new(!seed);
        let modes = [EchoMode::Auto, EchoMode::Always, EchoMode::Off];
        let mode = modes[aside.below(modes.len() as u64) as usize];
        Self {
            random: Random::new(seed),
            aside,
            wire: (seed % WIRE_EVERY == WIRE_REMAINDER).then_some(mode),
        }
    }

    fn layout(&self) -> Layout {
        match self.wire {
            Some(_) => Layout::Wire,
            None => Layout::Hop,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    pub(super) fn scenario(mut self, seed: u64) -> Scenario {
        let server_count = 1 + self.below(3) as u8;
        let has_crowd = self.random.chance(0.15);
        let appliance = self.appliance(server_count, has_crowd);
        let servers: Vec<_> = (0..server_count)
            .map(|n| {
                let worst = self.pick(&[0.0, 0.0, 0.005]);
                let (mut host, mut link) = (self.host(n, true), self.link(1, worst));
                if self.random.chance(0.5) {
                    (link.delay_ns, link.jitter_ns) = (20_000, 0);
                    host.ack_delay_ns = None;
                    host.receive_bytes = host.receive_bytes.max(64_000);
                }
                (host, link)
            })
            .collect();
        let faults = self.faults(servers.len());
        let campaigns = self.campaigns(has_crowd || is_short(&appliance.timers));
        let around = Circumstances {
            appliance,
            servers,
            faults,
            campaigns,
        };
        let worst = self.pick(&[0.0, 0.0, 0.01, 0.05]);
        let count = 1 + self.below(4) as u8;
        let mut clients: Vec<_> = (0..count).map(|n| self.client(n, worst, &around)).collect();
        if has_crowd {
            clients.push(self.crowd(count, &around));
        }
        let silent_servers = self.silent_servers(server_count.into());
        let limited_servers = self.limited_servers(server_count.into(), &silent_servers);
        Scenario {
            seed,
            appliance: around.appliance,
            servers: around.servers,
            silent_servers,
            limited_servers,
            clients,
            campaigns: around.campaigns,
            faults: around.faults,
        }
    }

    /// The servers that drop pings: none where a SYN reaches its server in no other way.
    fn silent_servers(&mut self, servers: usize) -> BTreeSet<usize> {
        match self.wire {
            Some(EchoMode::Auto | EchoMode::Off) => {
                (0..servers).filter(|_| self.aside.chance(0.3)).collect()
            }
            Some(EchoMode::Always) | None => BTreeSet::new(),
        }
    }

    /// Of the others, those that answer only so many pings a second.
    fn limited_servers(
        &mut self,
        servers: usize,
        silent: &BTreeSet<usize>,
    ) -> BTreeMap<usize, u64> {
        let may_limit = matches!(self.wire, Some(EchoMode::Auto | EchoMode::Off));
        let mut limited = BTreeMap::new();
        for server in (0..servers).filter(|server| may_limit && !silent.contains(server)) {
            if self.aside.chance(0.4) {
                limited.insert(server, [1, 5, 50][self.aside.below(3) as usize]);
            }
        }
        limited
    }

    fn client(&mut self, number: u8, worst: f64, around: &Circumstances) -> Clients {
        let mut host = self.host(number, false);
        let mut link = self.link(40, worst);
        let is_orderly = link.loss + link.reorder == 0.0;
        let near = around.near_servers();
        let has_chain = is_orderly && !near.is_empty() && self.random.chance(0.6);
        if has_chain {
            // Near enough, most times, for the next connection to begin within the last one's windows;
            // and its last acknowledgement must be out by then.
            let delays = [(20_000, 0), (100_000, 0), (link.delay_ns, link.jitter_ns)];
            (link.delay_ns, link.jitter_ns) = self.pick(&delays);
            host.manner.scale = self.pick(&[host.manner.scale, 14]);
            host.receive_bytes = host.receive_bytes.max(host.manner.smallest_buffer());
            host.ack_delay_ns = None;
        }
        let client = Client {
            number,
            host,
            is_orderly,
        };
        let mut plans: Vec<Plan> = (0..1 + self.below(6) as u16)
            .map(|m| {
                let (server, plan) = self.plan(number, m, around.servers.len());
                Plan {
                    must_succeed: !around.may_break(&client, server, &plan),
                    must_close: around.must_close(is_orderly),
                    ..plan
                }
            })
            .collect();
        if let Some(again) = self.again(&plans[0], is_orderly) {
            plans.push(again);
        }
        if has_chain {
            let server = near[self.below(near.len() as u64) as usize];
            plans.extend(self.chain(&client, server, around));
        }
        (client.host, link, plans)
    }

    /// Connections of the very same ports, each begun as soon as the client's end of the one before
    /// it is over.
    fn chain(&mut self, client: &Client, server: u8, around: &Circumstances) -> Vec<Plan> {
        let (_, mut first) = self.plan(client.number, CHAIN_PORT, 1);
        let family = Family::of(first.server);
        first.server = self
            .layout()
            .server_address(family, site::SERVER_HOST + server);
        let length = 2 + self.below(15) as usize;
        let mut plans: Vec<Plan> = Vec::with_capacity(length);
        for place in 0..length {
            let up_bytes = 4 + self.pick(&[0, 100, 3000]);
            let down_bytes = self.pick(&[0, 100, 3000]);
            let gap_ns = [0, self.below(5 * MS)][self.below(2) as usize];
            let mut plan = Plan {
                after_ns: (place > 0).then_some(gap_ns),
                up_bytes,
                down_bytes,
                close: self.close(up_bytes + down_bytes),
                client_pace: Pace::EAGER,
                server_pace: Pace::EAGER,
                ..first.clone()
            };
            plan.pause = self.pause(&plan, 0.1);
            plan.must_succeed = !around.may_break(client, server.into(), &plan);
            plan.must_close = around.must_close(true) && !around.may_lose();
            plans.push(plan);
        }
        // What waits for one that breaks may never begin.
        let all_succeed = plans.iter().all(|plan| plan.must_succeed);
        plans
            .iter_mut()
            .for_each(|plan| plan.must_succeed = all_succeed);
        plans
    }

    /// A client of many small connections, one soon after the other.
    fn crowd(&mut self, number: u8, around: &Circumstances) -> Clients {
        let host = self.host(number, false);
        let link = LinkSettings {
            delay_ns: self.below(5 * MS),
            ..LinkSettings::default()
        };
        let client = Client {
            number,
            host,
            is_orderly: true,
        };
        let mut start_ns = self.below(10 * SECOND_NS);
        let plans = (0..CROWD)
            .map(|m| {
                start_ns += self.below(300 * MS);
                let (server, plan) = self.plan(number, m, around.servers.len());
                let plan = Plan {
                    start_ns,
                    up_bytes: 104,
                    down_bytes: 100,
                    close: self.close(204),
                    client_pace: Pace::EAGER,
                    server_pace: Pace::EAGER,
                    pause: None,
                    ..plan
                };
                Plan {
                    must_succeed: !around.may_break(&client, server, &plan),
                    must_close: around.must_close(true),
                    ..plan
                }
            })
            .collect();
        (client.host, link, plans)
    }

    fn appliance(&mut self, servers: u8, has_crowd: bool) -> ApplianceSettings {
        let seed = self.random.next_u64();
        let capacity = match has_crowd {
            true => self.pick(&[16, 32, 48, 64]),
            false => self.pick(&[4096, 4096, 64]),
        };
        ApplianceSettings {
            workers: 1 + self.below(3) as usize,
            queues: self.pick(&[Queues::Steered, Queues::Single, Queues::Scattered]),
            // A wire has no address to ask servers from.
            probe: self.random.chance(0.5) && self.wire.is_none(),
            capacity,
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
            timers: self.timers(),
            ..match self.wire {
                Some(echo) => site::wire_settings(servers, seed, echo),
                None => site::appliance_settings(servers, seed),
            }
        }
    }

    fn timers(&mut self) -> Timers {
        let usual = Timers {
            established_idle_ns: 200 * SECOND_NS,
            ..Timers::default()
        };
        match self.below(8) {
            0 => Timers {
                established_idle_ns: self.pick(&[4, 20]) * SECOND_NS,
                ..usual
            },
            1 => Timers {
                closing_idle_ns: self.pick(&[4, 20]) * SECOND_NS,
                ..usual
            },
            _ => usual,
        }
    }

    fn host(&mut self, number: u8, is_server: bool) -> HostSettings {
        let layout = self.layout();
        let host = number
            + match is_server {
                true => site::SERVER_HOST,
                false => site::CLIENT_HOST,
            };
        let address = |family| match is_server {
            true => layout.server_address(family, host),
            false => site::outside_address(family, host),
        };
        let router = |family| match is_server {
            true => layout.router_of_servers(family),
            false => layout.router_of_clients(family),
        };
        let families = [(Family::V4, 24), (Family::V6, 64)];
        let manner = manner(&mut self.random);
        let receive_bytes = self.pick(&[3000, 20_000, 64_000, 300_000]);
        HostSettings {
            mac: [2, 0, 0, 0, 1 + u8::from(is_server), host],
            addresses: families
                .map(|(family, length)| (address(family), length))
                .to_vec(),
            gateways: families.map(|(family, _)| router(family)).to_vec(),
            mtu_bytes: self.pick(&[1500, 1500, 1400, 1280]),
            timestamps: self.random.chance(0.7),
            receive_bytes: receive_bytes.max(manner.smallest_buffer()),
            send_bytes: self.pick(&[3000, 20_000, 64_000]),
            ack_delay_ns: self.pick(&[None, Some(10 * MS), Some(200 * MS)]),
            nagle: self.random.chance(0.5),
            manner,
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
            delay_ns: 20_000 + self.below(delay_ms * MS),
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
        let slow = Pace {
            chunk_bytes: 2000,
            every_ns: 50 * MS,
        };
        let mut plan = Plan {
            start_ns: self.below(QUIET_NS - 5 * SECOND_NS),
            after_ns: None,
            client: site::outside_address(family, site::CLIENT_HOST + client),
            client_port: 40_000 + 100 * u16::from(client) + number,
            server: self
                .layout()
                .server_address(family, site::SERVER_HOST + server as u8),
            server_port: site::SERVICE_PORT,
            up_bytes,
            down_bytes,
            close: self.close(up_bytes + down_bytes),
            client_pace: self.pick(&[Pace::EAGER, Pace::EAGER, slow]),
            server_pace: self.pick(&[Pace::EAGER, Pace::EAGER, slow]),
            pause: None,
            must_succeed: true,
            must_close: true,
        };
        plan.pause = self.pause(&plan, 0.3);
        (server, plan)
    }

    /// How a connection ends in which so many octets are moved.
    fn close(&mut self, octets: u64) -> Close {
        let moved = self.below(octets);
        self.pick(&[
            Close::ClientFirst,
            Close::ServerFirst,
            Close::Both,
            Close::ClientHalf,
            Close::ServerHalf,
            Close::ClientAborts(moved),
            Close::ServerAborts(moved.max(4)),
        ])
    }

    /// A time in which one end does nothing: before, in the middle of, or after what it sends.
    fn pause(&mut self, plan: &Plan, chance: f64) -> Option<Pause> {
        if !self.random.chance(chance) {
            return None;
        }
        let by = self.pick(&[Way::Up, Way::Down]);
        let octets = match by {
            Way::Up => plan.up_bytes,
            Way::Down => plan.down_bytes,
        };
        Some(Pause {
            by,
            after_bytes: [0, self.below(octets + 1), octets][self.below(3) as usize],
            span_ns: 2 * SECOND_NS + self.below(6 * SECOND_NS),
        })
    }

    /// A second connection of the same ports, begun when both ends have forgotten the first and the
    /// guard has not.
    fn again(&mut self, first: &Plan, is_orderly: bool) -> Option<Plan> {
        let is_quick = first.up_bytes.max(first.down_bytes) < SMALL_BYTES
            && (first.client_pace, first.server_pace) == (Pace::EAGER, Pace::EAGER)
            && first.pause.is_none()
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

    /// Attacks, one of them by somebody who sees nothing, from the start to the end. Where sessions
    /// are soon forgotten, what they began with is likely to be tried again.
    fn campaigns(&mut self, is_forgetful: bool) -> Vec<Campaign> {
        let mut campaigns = vec![Campaign {
            attack: Attack::Blind,
            start_ns: SECOND_NS,
            end_ns: QUIET_NS + 5 * SECOND_NS,
            every_ns: self.pick(&[50 * MS, 100 * MS, 400 * MS]),
        }];
        for attack in Attack::ALL {
            let is_likely = is_forgetful && attack == Attack::Replay;
            if self.random.chance(if is_likely { 0.7 } else { 0.3 }) {
                let start_ns = self.below(QUIET_NS);
                let span_ns = self.below(if is_likely { 30 } else { 5 } * SECOND_NS);
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
        if self.wire.is_some() && self.aside.chance(0.3) {
            let start_ns = self.aside.below(QUIET_NS);
            campaigns.push(Campaign {
                attack: Attack::MarkedPing,
                start_ns,
                end_ns: (start_ns + 5 * SECOND_NS).min(QUIET_NS),
                every_ns: 20 * MS,
            });
        }
        campaigns
    }
}

/// Whether a session may be forgotten while its cookie is good.
fn is_short(timers: &Timers) -> bool {
    timers.established_idle_ns.min(timers.closing_idle_ns) < timers.linger_ns
}

/// How a host speaks: as its stack does, or as Linux does.
pub(crate) fn manner(random: &mut Random) -> Manner {
    let any = random.below(15) as u8;
    let scales = [0, 0, 7, 10, 14, any];
    Manner {
        clock: random.chance(0.6),
        scale: scales[random.below(scales.len() as u64) as usize],
        key: random.next_u64(),
    }
}
