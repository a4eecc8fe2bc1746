//! What is shown: from the workers' statuses and counters to the report's words.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

use dataplane::command::{Command, NeighbourPage, Report, ServerRow as KnownServer, WorkerStatus};
use dataplane::counters::{Counters, Event};
use dataplane::drop_reason::DropReason;
use dataplane::guard::EchoStanding;
use dataplane::guard::server::ServerTraits;
use dataplane::hop::{Neighbour, NeighbourState};
use dataplane::wire::address::Address;
use serde::Serialize;
use serde_json::Value;

use super::control_loop::Control;
use super::device_port::DevicePort;
use super::hardware::{self, mac_text, offload_names};
use super::metrics::{self, Snapshot, WorkerFigures};
use super::replication;
use crate::profile::Link;
use crate::protection;
use crate::protocol::{DEFAULT_SESSIONS, Filter, MAXIMUM_SESSIONS, Topic};
use crate::report::{
    Audit, CookieCounts, DeviceCounters, DropRow, Drops, Guard, NeighbourRow, Neighbours, Peers,
    PortRow, Ports, Runtime, RuntimeRow, ServerRow, SessionCounts, WireCounts, WorkerRow, Workers,
};

/// The ports of a server that have answered, those that do the same together; each as the first
/// worker that has learned it knows it.
fn groups_of_services<'a>(known: &[&'a KnownServer]) -> Vec<(Vec<u16>, &'a KnownServer)> {
    let mut services = BTreeMap::new();
    for &row in known {
        let Some(port) = row.port else { continue };
        let best = services.entry(port).or_insert(row);
        if row.is_learned && !best.is_learned {
            *best = row;
        }
    }
    let mut groups: Vec<(Vec<u16>, &KnownServer)> = Vec::new();
    // The window is not shown.
    let shown = |row: &KnownServer| ServerTraits {
        window: 0,
        ..row.traits
    };
    for (port, row) in services {
        match groups
            .iter_mut()
            .find(|(_, other)| shown(other) == shown(row))
        {
            Some((ports, other)) => {
                ports.push(port);
                if row.is_learned {
                    *other = row;
                }
            }
            None => groups.push((vec![port], row)),
        }
    }
    groups
}

fn server_row(
    address: IpAddr,
    ports: Vec<String>,
    known: Option<&KnownServer>,
    echo: Option<EchoStanding>,
) -> ServerRow {
    let traits = known.map(|row| row.traits);
    ServerRow {
        address: address.to_string(),
        ports,
        learned: known.is_some_and(|row| row.is_learned),
        mss: traits.map_or(0, |traits| traits.mss),
        window_scale: traits.and_then(|traits| traits.window_scale),
        sack: traits.is_some_and(|traits| traits.sack),
        timestamps: traits.is_some_and(|traits| traits.timestamps),
        ecn: traits.is_some_and(|traits| traits.ecn),
        echo: echo.map(|echo| echo.label().to_owned()),
    }
}

pub(super) fn text_of(address: Address) -> String {
    IpAddr::from(address).to_string()
}

fn to_value(report: &impl Serialize) -> Result<Value, String> {
    serde_json::to_value(report).map_err(|error| error.to_string())
}

impl Control {
    /// Answers `show`.
    pub(super) fn show(
        &mut self,
        topic: Topic,
        limit: Option<usize>,
        filter: &Filter,
    ) -> Result<Value, String> {
        match topic {
            Topic::Ports => to_value(&Ports {
                ports: self.ports(),
            }),
            Topic::Workers => to_value(&self.workers()?),
            Topic::Runtime => to_value(&self.runtime()?),
            Topic::Guard => to_value(&self.guard()?),
            Topic::Sessions => {
                let limit = limit.unwrap_or(DEFAULT_SESSIONS).min(MAXIMUM_SESSIONS);
                to_value(&self.sessions(limit, filter)?)
            }
            Topic::Neighbours => to_value(&self.neighbours()?),
            Topic::Drops => to_value(&drops(&self.crew.counters())),
            Topic::Config => self.config(),
            Topic::Peers => match self.peers() {
                Some(peers) => to_value(&peers),
                None => {
                    Err("no other guard is known here: the profile has no `replication`".into())
                }
            },
        }
    }

    fn ports(&self) -> Vec<PortRow> {
        let mut counters = Counters::default();
        for worker in self.crew.counters() {
            counters.merge(&worker);
        }
        let ports = self.profile.ports.iter().enumerate();
        ports
            .map(|(index, port)| {
                let place = usize::from(self.layout.ports[index].0);
                let device = &self.hardware.ports[place];
                let own = hardware::device(&self.profile, self.layout.devices[place]);
                let (info, link) = (device.info(), device.link(own));
                let traffic = counters.traffic(index);
                PortRow {
                    name: port.name.clone(),
                    device: info.name.clone(),
                    parent: match port.link {
                        Link::Device(_) => None,
                        Link::Parent(parent) => Some(self.profile.ports[parent].name.clone()),
                    },
                    vlan: port.vlan,
                    driver: info.driver.clone(),
                    mac: mac_text(device.mac()),
                    link_up: link.map(|link| link.is_up),
                    link_mbps: link.and_then(|link| link.mbps),
                    mtu: port.mtu_bytes.min(device.mtu_bytes(own)),
                    lost: device.is_lost(),
                    losses: device.losses(),
                    link_changes: device.link_changes(),
                    addresses: port.addresses.iter().map(ToString::to_string).collect(),
                    receive_queues: info.rx_queues,
                    transmit_queues: info.tx_queues,
                    rss: info.rss,
                    offloads: offload_names(info.offloads)
                        .into_iter()
                        .map(Into::into)
                        .collect(),
                    numa_node: info.socket,
                    received_packets: traffic.received_packets,
                    received_bytes: traffic.received_bytes,
                    sent_packets: traffic.sent_packets,
                    sent_bytes: traffic.sent_bytes,
                    device_counters: device_counters(device),
                }
            })
            .collect()
    }

    /// How the other guards stand, if there are any.
    fn peers(&self) -> Option<Peers> {
        let (thread, with) = (
            self.replication.as_ref()?,
            self.profile.replication.as_ref()?,
        );
        let counters = self.crew.counters();
        Some(replication::report(
            &thread.visible,
            with,
            &counters,
            self.wall.now().now_ns,
            self.draining_since.is_some(),
        ))
    }

    fn workers(&mut self) -> Result<Workers, String> {
        let statuses = self.statuses()?;
        let counters = self.crew.counters();
        let mut rows = Vec::new();
        for (worker, (status, counters)) in statuses.iter().zip(&counters).enumerate() {
            let member = &self.crew.members[worker];
            let figure = |figure: &std::sync::atomic::AtomicU64| figure.load(Ordering::Relaxed);
            let busy = (
                figure(&member.figures.busy_ns),
                figure(&member.figures.total_ns),
            );
            let before = std::mem::replace(&mut self.busy_before[worker], busy);
            let spans = (
                busy.0.saturating_sub(before.0),
                busy.1.saturating_sub(before.1),
            );
            let events = Event::ALL.iter();
            let waiting =
                status.guard.held + status.hop_held + status.fragments_held + status.waiting;
            rows.push(WorkerRow {
                worker,
                core: member.core,
                loops: figure(&member.figures.loops),
                busy_loops: figure(&member.figures.busy_loops),
                sleeps: figure(&member.figures.sleeps),
                busy_share: if spans.1 == 0 {
                    0.0
                } else {
                    (spans.0 as f64 / spans.1 as f64).min(1.0)
                },
                handed_off: counters.event(Event::HandedOff),
                audit: Audit {
                    received: counters.event(Event::Received),
                    created: counters.event(Event::Created),
                    sent: counters.event(Event::Sent),
                    held: waiting as u64,
                    dropped: counters.all_drops(),
                    consumed: counters.event(Event::Consumed),
                },
                events: events
                    .map(|event| (event.label().to_owned(), counters.event(*event)))
                    .collect(),
            });
        }
        Ok(Workers {
            workers: rows,
            buffers: self.hardware.pool.size(),
            buffers_in_use: self.hardware.pool.in_use(),
        })
    }

    fn runtime(&mut self) -> Result<Runtime, String> {
        let statuses = self.statuses()?;
        let figure = |figure: &std::sync::atomic::AtomicU64| figure.load(Ordering::Relaxed);
        let members = self.crew.members.iter().zip(&statuses).enumerate();
        let rows = members.map(|(worker, (member, status))| {
            RuntimeRow {
                worker,
                core: member.core,
                total_ns: figure(&member.figures.total_ns),
                busy_ns: figure(&member.figures.busy_ns),
                loops: figure(&member.figures.loops),
                busy_loops: figure(&member.figures.busy_loops),
                sleeps: figure(&member.figures.sleeps),
                ..RuntimeRow::default()
            }
            .measured(&status.runtime)
        });
        Ok(Runtime::of(
            bindings::clock::cycles_per_second(),
            rows.collect(),
        ))
    }

    fn guard(&mut self) -> Result<Guard, String> {
        let statuses = self.statuses()?;
        let mut counters = Counters::default();
        for worker in self.crew.counters() {
            counters.merge(&worker);
        }
        let sum = |of: fn(&dataplane::guard::GuardStatus) -> usize| -> u64 {
            statuses.iter().map(|status| of(&status.guard) as u64).sum()
        };
        let is_active = statuses.iter().any(|status| status.guard.is_active);
        Ok(Guard {
            mode: protection::mode_of(&self.profile).into(),
            active: is_active,
            flood: statuses.iter().any(|status| status.guard.is_flood),
            draining: self.draining_since.is_some(),
            syns_per_second: statuses.iter().map(|status| status.guard.syns_per_s).sum(),
            sessions: SessionCounts {
                live: sum(|guard| guard.live),
                opening: sum(|guard| guard.opening),
                in_table: sum(|guard| guard.sessions),
                capacity: sum(|guard| guard.capacity),
                memory_bytes: sum(|guard| guard.memory_bytes),
                opened: counters.event(Event::SessionOpened),
            },
            cookies: CookieCounts {
                sent: counters.event(Event::CookieSent),
                accepted: counters.event(Event::CookieAccepted),
                invalid: counters.drops(DropReason::CookieInvalid),
                expired: counters.drops(DropReason::CookieExpired),
                replayed: counters.drops(DropReason::CookieReplayed),
            },
            held: sum(|guard| guard.held),
            bypasses: self.bypasses.iter().map(ToString::to_string).collect(),
            wire: self.wire(&counters),
            servers: self.servers(&statuses),
            services: self.services(is_active),
        })
    }

    fn wire(&self, counters: &Counters) -> Option<WireCounts> {
        let guard = self.profile.guard.as_ref()?;
        guard.wire?;
        let refusals = [
            DropReason::EchoMalformed,
            DropReason::EchoVersion,
            DropReason::EchoForged,
            DropReason::EchoExpired,
            DropReason::EchoUnprotected,
            DropReason::EchoMisplaced,
        ];
        Some(WireCounts {
            ends: [guard.outside, guard.inside].map(|end| self.profile.ports[end].name.clone()),
            bridged: counters.event(Event::Bridged),
            carried: counters.event(Event::EchoCarried),
            returned: counters.event(Event::EchoReturned),
            refused: refusals.map(|reason| counters.drops(reason)).iter().sum(),
        })
    }

    /// The servers of the profile, each as the first worker that has learned it knows it.
    fn servers(&self, statuses: &[WorkerStatus]) -> Vec<ServerRow> {
        let Some(guard) = &self.profile.guard else {
            return Vec::new();
        };
        let mut rows = Vec::new();
        for server in &guard.protect {
            let address = Address::from(server.server);
            // What a worker has no place for is not guarded.
            let is_guarded = statuses
                .iter()
                .all(|status| status.servers.iter().any(|row| row.address == address));
            if !is_guarded {
                continue;
            }
            let known = statuses.iter().flat_map(|status| &status.servers);
            let known: Vec<_> = known.filter(|row| row.address == address).collect();
            let mut echoes = known.iter().filter_map(|row| row.echo);
            // What one worker has found out is true of the server.
            let first = echoes.next();
            let echo = echoes.fold(first, |all, one| match (all, one) {
                (_, EchoStanding::Limited) => Some(one),
                (Some(EchoStanding::Answers), EchoStanding::Silent) => Some(one),
                _ => all,
            });
            let groups = groups_of_services(&known);
            if groups.len() > 1 {
                // Its services differ, so no single line would be true.
                rows.extend(groups.into_iter().map(|(ports, row)| {
                    let ports = ports.iter().map(ToString::to_string).collect();
                    server_row(server.server, ports, Some(row), echo)
                }));
                continue;
            }
            let of_server = || known.iter().filter(|row| row.port.is_none()).copied();
            let best = of_server().find(|row| row.is_learned);
            let ports = server.ports.iter().map(ToString::to_string).collect();
            let best = best.or_else(|| of_server().next());
            rows.push(server_row(server.server, ports, best, echo));
        }
        rows
    }

    fn neighbours(&mut self) -> Result<Neighbours, String> {
        let mut best: BTreeMap<(u8, String), Neighbour> = BTreeMap::new();
        for worker in 0..self.crew.members.len() {
            let mut page = Box::<NeighbourPage>::default();
            loop {
                let Report::Neighbours(filled) =
                    self.crew.ask(worker, Command::Neighbours(page))?
                else {
                    break;
                };
                for row in &filled.rows {
                    let key = (row.interface.0, text_of(row.address));
                    let known = best.entry(key).or_insert(*row);
                    if rank(row.state) > rank(known.state) {
                        *known = *row;
                    }
                }
                if filled.next.is_none() {
                    break;
                }
                page = filled;
            }
        }
        let rows = best
            .into_iter()
            .map(|((interface, address), neighbour)| NeighbourRow {
                port: self
                    .profile
                    .ports
                    .get(usize::from(interface))
                    .map_or_else(String::new, |port| port.name.clone()),
                address,
                mac: neighbour
                    .mac
                    .is_unicast()
                    .then(|| mac_text(neighbour.mac.0)),
                state: state_text(neighbour.state).into(),
            });
        Ok(Neighbours {
            neighbours: rows.collect(),
        })
    }

    /// The metrics' text. What a worker does not tell in time is left out.
    pub(super) fn metrics(&mut self) -> String {
        let runtime = self.runtime().ok();
        let figure = |figure: &std::sync::atomic::AtomicU64| figure.load(Ordering::Relaxed);
        let members = self.crew.members.iter().zip(self.crew.counters());
        let workers = members.map(|(member, counters)| WorkerFigures {
            core: member.core,
            counters,
            loops: figure(&member.figures.loops),
            busy_ns: figure(&member.figures.busy_ns),
            total_ns: figure(&member.figures.total_ns),
        });
        let workers = workers.collect();
        let snapshot = Snapshot {
            appliance: self.profile.name.clone(),
            workers,
            runtime,
            ports: self.ports(),
            guard: self.guard().ok(),
            peers: self.peers(),
            buffers: self.hardware.pool.size(),
            buffers_in_use: self.hardware.pool.in_use(),
            started_unix_s: self.started_unix_s,
            last_load: self.last_load,
        };
        metrics::text(&snapshot)
    }
}

fn device_counters(device: &DevicePort) -> DeviceCounters {
    let stats = device.stats();
    DeviceCounters {
        received_packets: stats.ipackets,
        received_bytes: stats.ibytes,
        sent_packets: stats.opackets,
        sent_bytes: stats.obytes,
        missed: stats.imissed,
        receive_errors: stats.ierrors,
        transmit_errors: stats.oerrors,
        no_buffer: stats.rx_nombuf,
    }
}

fn drops(workers: &[Counters]) -> Drops {
    let reasons = DropReason::ALL.iter();
    let drops: Vec<DropRow> = reasons
        .map(|reason| {
            let workers: Vec<u64> = workers.iter().map(|worker| worker.drops(*reason)).collect();
            DropRow {
                reason: reason.label().into(),
                count: workers.iter().sum(),
                sentence: reason.sentence().into(),
                workers,
            }
        })
        .collect();
    Drops {
        total: drops.iter().map(|row| row.count).sum(),
        drops,
    }
}

/// How much a neighbour's state tells.
fn rank(state: NeighbourState) -> u8 {
    match state {
        NeighbourState::Failed => 0,
        NeighbourState::Incomplete => 1,
        NeighbourState::Stale => 2,
        NeighbourState::Probe => 3,
        NeighbourState::Reachable => 4,
    }
}

fn state_text(state: NeighbourState) -> &'static str {
    match state {
        NeighbourState::Failed => "failed",
        NeighbourState::Incomplete => "incomplete",
        NeighbourState::Stale => "stale",
        NeighbourState::Probe => "probe",
        NeighbourState::Reachable => "reachable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(port: Option<u16>, window_scale: u8, is_learned: bool) -> KnownServer {
        KnownServer {
            address: Address::from_v4([10, 0, 0, 10]),
            port,
            is_learned,
            traits: ServerTraits {
                mss: 1460,
                window_scale: Some(window_scale),
                sack: true,
                timestamps: true,
                ecn: false,
                window: port.unwrap_or(0),
            },
            echo: None,
            keeps_place: true,
        }
    }

    #[test]
    fn e1_services_that_differ_are_told_apart() {
        let rows = [
            row(None, 3, true),
            row(Some(80), 7, false),
            row(Some(443), 7, true),
            row(Some(25), 3, true),
            // Another worker's.
            row(Some(80), 10, true),
            row(Some(443), 10, false),
        ];
        let rows: Vec<_> = rows.iter().collect();
        let groups = groups_of_services(&rows);
        let ports: Vec<_> = groups
            .iter()
            .map(|(ports, row)| (&ports[..], row.is_learned))
            .collect();
        assert_eq!(
            ports,
            [(&[25][..], true), (&[80][..], true), (&[443][..], true)]
        );
        let alike = [
            row(None, 3, true),
            row(Some(80), 3, false),
            row(Some(81), 3, true),
        ];
        let alike: Vec<_> = alike.iter().collect();
        let groups = groups_of_services(&alike);
        assert_eq!(groups.len(), 1);
        assert_eq!(
            (&groups[0].0[..], groups[0].1.is_learned),
            (&[80, 81][..], true)
        );
    }
}
