//! The metrics as Prometheus reads them: its text format, version 0.0.4.

use std::fmt::{Display, Write};

use dataplane::counters::{Counters, Event};
use dataplane::drop_reason::DropReason;

use super::control_loop::LastLoad;
use crate::report::{Guard, PeerRow, Peers, PortRow, Runtime, RuntimeRow};

/// What the text says that it is.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A worker's numbers.
pub(super) struct WorkerFigures {
    pub(super) core: u32,
    pub(super) counters: Counters,
    pub(super) loops: u64,
    pub(super) busy_ns: u64,
    pub(super) total_ns: u64,
}

/// Everything that is told.
pub(super) struct Snapshot {
    pub(super) appliance: String,
    pub(super) workers: Vec<WorkerFigures>,
    pub(super) runtime: Option<Runtime>,
    pub(super) ports: Vec<PortRow>,
    pub(super) guard: Option<Guard>,
    pub(super) peers: Option<Peers>,
    pub(super) buffers: usize,
    pub(super) buffers_in_use: usize,
    pub(super) started_unix_s: u64,
    pub(super) last_load: LastLoad,
}

/// A text in the making.
#[derive(Default)]
struct Text(String);

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

impl Text {
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (place, (label, text)) in labels.iter().enumerate() {
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let before = if place == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{text}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    fn one(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

/// The text of a snapshot.
pub(super) fn text(snapshot: &Snapshot) -> String {
    let mut text = Text::default();
    text.family(
        "tidegate_build_info",
        Kind::Gauge,
        "The program and the DPDK that it runs on.",
    );
    text.sample(
        "tidegate_build_info",
        &[
            ("version", env!("CARGO_PKG_VERSION")),
            ("dpdk", &bindings::eal::version()),
            ("appliance", &snapshot.appliance),
        ],
        1,
    );
    life(&mut text, snapshot);
    workers(&mut text, &snapshot.workers);
    events::text(&mut text, &snapshot.workers);
    if let Some(report) = &snapshot.runtime {
        runtime(&mut text, report);
    }
    ports(&mut text, &snapshot.ports);
    if let Some(report) = &snapshot.guard {
        guard(&mut text, report);
    }
    if let Some(report) = &snapshot.peers {
        peers(&mut text, report);
    }
    text.one(
        "tidegate_buffers",
        Kind::Gauge,
        "Packet buffers in all.",
        snapshot.buffers,
    );
    text.one(
        "tidegate_buffers_in_use",
        Kind::Gauge,
        "Packet buffers in hands, queues and devices.",
        snapshot.buffers_in_use,
    );
    text.0
}

/// Since when the program runs, and by which profile.
fn life(text: &mut Text, snapshot: &Snapshot) {
    text.one(
        "process_start_time_seconds",
        Kind::Gauge,
        "When the program started, in seconds since 1970.",
        snapshot.started_unix_s,
    );
    text.one(
        "tidegate_last_reload_successful",
        Kind::Gauge,
        "Whether the last reload was taken; the start counts as one.",
        u8::from(snapshot.last_load.is_good),
    );
    text.one(
        "tidegate_last_reload_success_timestamp_seconds",
        Kind::Gauge,
        "When a profile was last taken, in seconds since 1970.",
        snapshot.last_load.unix_s,
    );
}

fn workers(text: &mut Text, workers: &[WorkerFigures]) {
    let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
    let sentences = |sentences: Vec<(&str, &str)>| {
        let sentences = sentences
            .iter()
            .map(|(label, sentence)| format!("{label}: {sentence}"));
        sentences.collect::<Vec<_>>().join(" ")
    };
    let events = Event::ALL.iter();
    let events = sentences(
        events
            .map(|event| (event.label(), event.sentence()))
            .collect(),
    );
    text.family(
        "tidegate_events_total",
        Kind::Counter,
        &format!(
            "What workers count, in mixed units: to go in a later release; see \
             tidegate_packet_events_total and those beside it. {events}"
        ),
    );
    for (number, worker) in workers.iter().enumerate() {
        for &event in Event::ALL {
            let labels = [("worker", &*number.to_string()), ("event", event.label())];
            text.sample(
                "tidegate_events_total",
                &labels,
                worker.counters.event(event),
            );
        }
    }
    let reasons = DropReason::ALL.iter();
    let reasons = sentences(
        reasons
            .map(|reason| (reason.label(), reason.sentence()))
            .collect(),
    );
    text.family(
        "tidegate_drops_total",
        Kind::Counter,
        &format!("Packets that ended here. {reasons}"),
    );
    for (number, worker) in workers.iter().enumerate() {
        for &reason in DropReason::ALL {
            let labels = [("worker", &*number.to_string()), ("reason", reason.label())];
            text.sample(
                "tidegate_drops_total",
                &labels,
                worker.counters.drops(reason),
            );
        }
    }
    let mut each = |name: &str, help: &str, value: &dyn Fn(&WorkerFigures) -> f64| {
        text.family(name, Kind::Counter, help);
        for (number, worker) in workers.iter().enumerate() {
            let labels = [
                ("worker", &*number.to_string()),
                ("core", &*worker.core.to_string()),
            ];
            text.sample(name, &labels, value(worker));
        }
    };
    each(
        "tidegate_worker_loops_total",
        "Turns of a worker's loop.",
        &|worker| worker.loops as f64,
    );
    each(
        "tidegate_worker_busy_seconds_total",
        "Time spent in turns that found something to do.",
        &|worker| seconds(worker.busy_ns),
    );
    each(
        "tidegate_worker_seconds_total",
        "Time since a worker's loop began.",
        &|worker| seconds(worker.total_ns),
    );
}

fn runtime(text: &mut Text, report: &Runtime) {
    type Value = fn(&RuntimeRow) -> f64;
    let labels = |row: &RuntimeRow| (row.worker.to_string(), row.core.to_string());
    let each: [(&str, &str, Value); 6] = [
        (
            "tidegate_worker_busy_loops_total",
            "Turns of a worker's loop that found something to do.",
            |row| row.busy_loops as f64,
        ),
        (
            "tidegate_worker_sleeps_total",
            "Times that a worker without work slept.",
            |row| row.sleeps as f64,
        ),
        (
            "tidegate_worker_idle_seconds_total",
            "Time in which a worker found nothing to do.",
            |row| row.total_ns.saturating_sub(row.busy_ns) as f64 / 1e9,
        ),
        (
            "tidegate_worker_receive_calls_total",
            "Receive calls that brought a packet.",
            |row| row.calls as f64,
        ),
        (
            "tidegate_worker_full_receive_calls_total",
            "Receive calls that brought as many packets as fit.",
            |row| row.full_calls as f64,
        ),
        (
            "tidegate_worker_measured_packets_total",
            "Packets of the turns whose stages were measured.",
            |row| row.measured_packets as f64,
        ),
    ];
    for (name, help, value) in each {
        text.family(name, Kind::Counter, help);
        for row in &report.workers {
            let (worker, core) = labels(row);
            text.sample(name, &[("worker", &worker), ("core", &core)], value(row));
        }
    }
    text.family(
        "tidegate_worker_stage_cycles_total",
        Kind::Counter,
        "Cycles of the turns whose stages were measured.",
    );
    for row in &report.workers {
        let (worker, core) = labels(row);
        for stage in &row.stages {
            let labels = [
                ("worker", &*worker),
                ("core", &core),
                ("stage", &stage.stage),
            ];
            text.sample("tidegate_worker_stage_cycles_total", &labels, stage.cycles);
        }
    }
}

fn ports(text: &mut Text, ports: &[PortRow]) {
    type Value = fn(&PortRow) -> u64;
    let interfaces: [(&str, &str, Value); 4] = [
        (
            "received_packets",
            "Frames that workers received.",
            |port| port.received_packets,
        ),
        ("received_bytes", "Octets that workers received.", |port| {
            port.received_bytes
        }),
        ("sent_packets", "Frames that workers sent.", |port| {
            port.sent_packets
        }),
        ("sent_bytes", "Octets that workers sent.", |port| {
            port.sent_bytes
        }),
    ];
    for (name, help, value) in interfaces {
        let name = format!("tidegate_port_{name}_total");
        text.family(&name, Kind::Counter, help);
        for port in ports {
            text.sample(&name, &[("port", &port.name)], value(port));
        }
    }
    let devices: [(&str, &str, Value); 8] = [
        (
            "received_packets",
            "Frames that the device received.",
            |port| port.device_counters.received_packets,
        ),
        (
            "received_bytes",
            "Octets that the device received.",
            |port| port.device_counters.received_bytes,
        ),
        ("sent_packets", "Frames that the device sent.", |port| {
            port.device_counters.sent_packets
        }),
        ("sent_bytes", "Octets that the device sent.", |port| {
            port.device_counters.sent_bytes
        }),
        ("missed", "Frames that nobody fetched in time.", |port| {
            port.device_counters.missed
        }),
        ("receive_errors", "Frames received with an error.", |port| {
            port.device_counters.receive_errors
        }),
        (
            "transmit_errors",
            "Frames that the device could not send.",
            |port| port.device_counters.transmit_errors,
        ),
        (
            "no_buffer",
            "Frames lost because no buffer was free.",
            |port| port.device_counters.no_buffer,
        ),
    ];
    for (name, help, value) in devices {
        let name = format!("tidegate_device_{name}_total");
        text.family(&name, Kind::Counter, help);
        for port in ports.iter().filter(|port| port.parent.is_none()) {
            text.sample(
                &name,
                &[("port", &port.name), ("device", &port.device)],
                value(port),
            );
        }
    }
    links(text, ports);
}

/// How the devices stand.
fn links(text: &mut Text, ports: &[PortRow]) {
    text.family(
        "tidegate_link_up",
        Kind::Gauge,
        "Whether a device's link is up.",
    );
    for port in ports.iter().filter(|port| port.parent.is_none()) {
        if let Some(is_up) = port.link_up {
            text.sample("tidegate_link_up", &[("port", &port.name)], u8::from(is_up));
        }
    }
    type Number = fn(&PortRow) -> u64;
    let states: [(&str, Kind, &str, Number); 4] = [
        (
            "tidegate_link_changes_total",
            Kind::Counter,
            "How often a device's link went up or down.",
            |port| port.link_changes,
        ),
        (
            "tidegate_port_lost",
            Kind::Gauge,
            "Whether the interface behind a device is gone, so that it carries nothing.",
            |port| port.lost.into(),
        ),
        (
            "tidegate_port_losses_total",
            Kind::Counter,
            "How often the interface behind a device was gone or made anew.",
            |port| port.losses,
        ),
        (
            "tidegate_port_mtu_bytes",
            Kind::Gauge,
            "The largest packet that leaves by a device.",
            |port| port.mtu.into(),
        ),
    ];
    for (name, kind, help, number) in states {
        text.family(name, kind, help);
        for port in ports.iter().filter(|port| port.parent.is_none()) {
            text.sample(name, &[("port", &port.name)], number(port));
        }
    }
}

fn guard(text: &mut Text, guard: &Guard) {
    text.family(
        "tidegate_sessions",
        Kind::Gauge,
        "Sessions: live ones, those whose server has not answered yet, and all in the tables.",
    );
    let sessions = &guard.sessions;
    for (state, count) in [
        ("live", sessions.live),
        ("opening", sessions.opening),
        ("in_table", sessions.in_table),
    ] {
        text.sample("tidegate_sessions", &[("state", state)], count);
    }
    let gauges: [(&str, &str, u64); 7] = [
        (
            "tidegate_sessions_capacity",
            "Sessions that fit.",
            sessions.capacity,
        ),
        (
            "tidegate_sessions_memory_bytes",
            "Octets of the session tables.",
            sessions.memory_bytes,
        ),
        (
            "tidegate_syns_per_second",
            "SYNs for protected services a second.",
            guard.syns_per_second,
        ),
        (
            "tidegate_guard_active",
            "Whether SYNs are answered by cookie now.",
            guard.active.into(),
        ),
        (
            "tidegate_guard_flood",
            "Whether a flood is on.",
            guard.flood.into(),
        ),
        (
            "tidegate_kernel_bypasses",
            "Ways by which the kernel carries packets past the guard.",
            guard.bypasses.len() as u64,
        ),
        (
            "tidegate_draining",
            "Whether no new session is opened.",
            guard.draining.into(),
        ),
    ];
    for (name, help, value) in gauges {
        text.one(name, Kind::Gauge, help, value);
    }
    services::text(text, &guard.services);
}

/// The states that a peer can be in.
const PEER_STATES: [&str; 6] = ["joining", "resync", "in step", "lagging", "dead", "left"];

/// How this guard can stand.
const STANDINGS: [&str; 6] = [
    "in step",
    "degraded",
    "cut off",
    "catching up",
    "leaving",
    "stalled",
];

fn peers(text: &mut Text, report: &Peers) {
    let own: [(&str, &str, f64); 3] = [
        (
            "tidegate_in_step",
            "Whether this guard lacks nothing and every other one is in step with it, or has left.",
            f64::from(u8::from(report.in_step)),
        ),
        (
            "tidegate_may_carry",
            "Whether routers may send this guard packets of any connection.",
            f64::from(u8::from(report.may_carry)),
        ),
        (
            "tidegate_records_sent_per_second",
            "Records sent in a second, of late.",
            report.sent_per_second,
        ),
    ];
    for (name, help, value) in own {
        text.one(name, Kind::Gauge, help, value);
    }
    text.family(
        "tidegate_standing",
        Kind::Gauge,
        "How this guard stands among the others: 1 for its standing, 0 for all others.",
    );
    for standing in STANDINGS {
        let labels = [("standing", standing)];
        let is_own = report.standing == standing;
        text.sample("tidegate_standing", &labels, u8::from(is_own));
    }
    text.family(
        "tidegate_peer_state",
        Kind::Gauge,
        "How another guard is seen: 1 for its state, 0 for all others.",
    );
    for peer in &report.peers {
        for state in PEER_STATES {
            let labels = [("peer", &*peer.number.to_string()), ("state", state)];
            text.sample(
                "tidegate_peer_state",
                &labels,
                u8::from(peer.state == state),
            );
        }
    }
    peer_numbers(text, &report.peers);
    let sentences = report.counters.iter();
    let sentences: Vec<String> = sentences
        .map(|row| format!("{}: {}", row.name, row.sentence))
        .collect();
    text.family(
        "tidegate_replication_total",
        Kind::Counter,
        &format!("What is counted between guards. {}", sentences.join(" ")),
    );
    for row in &report.counters {
        let labels = [("counter", row.name.as_str())];
        text.sample("tidegate_replication_total", &labels, row.count);
    }
}

fn peer_numbers(text: &mut Text, peers: &[PeerRow]) {
    type Value = fn(&PeerRow) -> f64;
    let each: [(&str, Kind, &str, Value); 8] = [
        (
            "tidegate_peer_lag_seconds",
            Kind::Gauge,
            "The age of the oldest batch that another guard has not applied.",
            |peer| peer.lag_us as f64 / 1e6,
        ),
        (
            "tidegate_peer_lag_batches",
            Kind::Gauge,
            "Batches that another guard has not applied.",
            |peer| peer.lag_batches as f64,
        ),
        (
            "tidegate_peer_missing_batches",
            Kind::Gauge,
            "Batches of another guard that have not come.",
            |peer| peer.missing_batches as f64,
        ),
        (
            "tidegate_peer_resyncing",
            Kind::Gauge,
            "Whether another guard's sessions are being fetched.",
            |peer| f64::from(u8::from(peer.resyncing)),
        ),
        (
            "tidegate_peer_records_received_per_second",
            Kind::Gauge,
            "Another guard's records that came in a second, of late.",
            |peer| peer.received_per_second,
        ),
        (
            "tidegate_peer_gaps_asked_total",
            Kind::Counter,
            "Times that another guard was asked to repeat batches.",
            |peer| peer.gaps_asked as f64,
        ),
        (
            "tidegate_peer_records_received_total",
            Kind::Counter,
            "Another guard's records that came.",
            |peer| peer.records_received as f64,
        ),
        (
            "tidegate_peer_resyncs_total",
            Kind::Counter,
            "Times that another guard's sessions were fetched.",
            |peer| peer.resyncs as f64,
        ),
    ];
    for (name, kind, help, value) in each {
        text.family(name, kind, help);
        for peer in peers {
            let labels = [("peer", &*peer.number.to_string())];
            text.sample(name, &labels, value(peer));
        }
    }
}

mod events;
mod services;
#[cfg(test)]
mod tests;
