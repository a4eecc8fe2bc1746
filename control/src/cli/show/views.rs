//! Each report as a person reads it.

use std::fmt::Write;

use super::check;
use super::table::Align::{Left, Right};
use super::table::{Table, count, octets};
use serde_json::Value;

use crate::report::{Drops, Guard, Neighbours, Peers, Ports, ServiceRow, Sessions, Workers};

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.into()
}

fn or_dash(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty())
        .unwrap_or_else(|| "-".into())
}

pub(super) fn ports(report: &Ports) -> String {
    let mut ports = Table::new(&[
        ("port", Left),
        ("device", Left),
        ("driver", Left),
        ("mac", Left),
        ("link", Left),
        ("mtu", Right),
        ("queues", Left),
        ("offloads", Left),
        ("addresses", Left),
    ]);
    let mut traffic = Table::new(&[
        ("port", Left),
        ("received", Right),
        ("octets", Right),
        ("sent", Right),
        ("octets", Right),
        ("missed", Right),
        ("errors in", Right),
        ("errors out", Right),
        ("no buffer", Right),
    ]);
    for row in &report.ports {
        let device = match row.vlan {
            Some(vlan) => format!("{} vlan {vlan}", row.device),
            None => row.device.clone(),
        };
        let link = match (row.link_up, row.link_mbps) {
            _ if row.lost => "lost".into(),
            (None, _) => "-".into(),
            (Some(false), _) => "down".into(),
            (Some(true), None) => "up".into(),
            (Some(true), Some(mbps)) => format!("up {mbps} Mb/s"),
        };
        ports.row([
            row.name.clone(),
            device,
            row.driver.clone(),
            row.mac.clone(),
            link,
            row.mtu.to_string(),
            format!(
                "{} in, {} out{}",
                row.receive_queues,
                row.transmit_queues,
                if row.rss { ", rss" } else { "" }
            ),
            or_dash(Some(row.offloads.join(" "))),
            or_dash(Some(row.addresses.join(" "))),
        ]);
        let device = row.device_counters;
        traffic.row([
            row.name.clone(),
            count(row.received_packets),
            octets(row.received_bytes),
            count(row.sent_packets),
            octets(row.sent_bytes),
            count(device.missed),
            count(device.receive_errors),
            count(device.transmit_errors),
            count(device.no_buffer),
        ]);
    }
    format!(
        "{}\n{}",
        ports.text_or("no port"),
        traffic.text_or("no port")
    )
}

pub(super) fn workers(report: &Workers) -> String {
    let mut workers = Table::new(&[
        ("worker", Right),
        ("core", Right),
        ("busy", Right),
        ("loops", Right),
        ("sleeps", Right),
        ("received", Right),
        ("created", Right),
        ("sent", Right),
        ("held", Right),
        ("dropped", Right),
        ("consumed", Right),
        ("handed off", Right),
    ]);
    for row in &report.workers {
        workers.row([
            row.worker.to_string(),
            row.core.to_string(),
            format!("{:.1} %", row.busy_share * 100.0),
            count(row.loops),
            count(row.sleeps),
            count(row.audit.received),
            count(row.audit.created),
            count(row.audit.sent),
            count(row.audit.held),
            count(row.audit.dropped),
            count(row.audit.consumed),
            count(row.handed_off),
        ]);
    }
    format!(
        "{}\npacket buffers: {} of {} in use\n",
        workers.text_or("no worker"),
        count(report.buffers_in_use as u64),
        count(report.buffers as u64)
    )
}

pub(super) fn guard(report: &Guard) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10} {value}");
    };
    line("mode", report.mode.clone());
    let flood = if report.flood { ", flood" } else { "" };
    let draining = if report.draining { ", draining" } else { "" };
    line("active", format!("{}{flood}{draining}", yes(report.active)));
    for way in &report.bypasses {
        line("PASSED BY", way.clone());
    }
    line(
        "SYN rate",
        format!("{} a second", count(report.syns_per_second)),
    );
    let sessions = &report.sessions;
    line(
        "sessions",
        format!(
            "{} live, {} opening, {} of {} places taken ({}), {} opened",
            count(sessions.live),
            count(sessions.opening),
            count(sessions.in_table),
            count(sessions.capacity),
            octets(sessions.memory_bytes),
            count(sessions.opened)
        ),
    );
    let cookies = &report.cookies;
    line(
        "cookies",
        format!(
            "{} sent, {} accepted, {} invalid, {} expired, {} replayed",
            count(cookies.sent),
            count(cookies.accepted),
            count(cookies.invalid),
            count(cookies.expired),
            count(cookies.replayed)
        ),
    );
    line("held", format!("{} segments", count(report.held)));
    if let Some(wire) = &report.wire {
        let [outside, inside] = &wire.ends;
        line(
            "wire",
            format!(
                "{outside} to {inside}, {} frames untouched",
                count(wire.bridged)
            ),
        );
        line(
            "echoes",
            format!(
                "{} carried a SYN, {} came back, {} refused",
                count(wire.carried),
                count(wire.returned),
                count(wire.refused)
            ),
        );
    }
    let mut servers = Table::new(&[
        ("server", Left),
        ("ports", Left),
        ("learned", Left),
        ("mss", Right),
        ("scale", Right),
        ("sack", Left),
        ("timestamps", Left),
        ("ecn", Left),
        ("echo", Left),
    ]);
    for row in &report.servers {
        servers.row([
            row.address.clone(),
            row.ports.join(","),
            yes(row.learned),
            row.mss.to_string(),
            or_dash(row.window_scale.map(|scale| scale.to_string())),
            yes(row.sack),
            yes(row.timestamps),
            yes(row.ecn),
            or_dash(row.echo.clone()),
        ]);
    }
    let services = services(&report.services);
    format!(
        "{text}\n{}\n{services}",
        servers.text_or("no protected server")
    )
}

fn services(rows: &[ServiceRow]) -> String {
    let mut services = Table::new(&[
        ("service", Left),
        ("state", Left),
        ("server is", Left),
        ("SYNs/s", Right),
        ("SYNs", Right),
        ("sessions", Right),
        ("half-open", Right),
        ("answered", Right),
        ("failed", Right),
    ]);
    for row in rows {
        let numbers = [
            row.syns_per_second,
            row.syns,
            row.live,
            row.opening,
            row.answered,
            row.failed,
        ];
        let words = [
            end_point(&row.server, row.port),
            row.state.clone(),
            row.health.clone(),
        ];
        services.row(words.into_iter().chain(numbers.map(count)));
    }
    services.text_or("no service was asked for")
}

/// The profile in force, as YAML.
pub(super) fn config(report: &Value) -> String {
    serde_yaml::to_string(report).unwrap_or_default()
}

/// An address and a port; IPv6 in brackets.
fn end_point(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

pub(super) fn sessions(report: &Sessions) -> String {
    let mut sessions = Table::new(&[
        ("client", Left),
        ("server", Left),
        ("state", Left),
        ("spliced", Left),
        ("delta", Right),
        ("idle", Right),
        ("worker", Right),
    ]);
    for row in &report.sessions {
        sessions.row([
            end_point(&row.client, row.client_port),
            end_point(&row.server, row.server_port),
            row.state.clone(),
            yes(row.spliced),
            row.sequence_delta.to_string(),
            format!("{:.1} s", row.idle_ms as f64 / 1000.0),
            row.worker.to_string(),
        ]);
    }
    let more = if report.more {
        "\nThere are more: see --limit.\n"
    } else {
        ""
    };
    format!("{}{more}", sessions.text_or("no session"))
}

pub(super) fn peers(report: &Peers, all: bool) -> String {
    let mut peers = Table::new(&[
        ("peer", Right),
        ("address", Left),
        ("state", Left),
        ("since s", Right),
        ("heard ms", Right),
        ("lag us", Right),
        ("behind", Right),
        ("missing", Right),
        ("gaps", Right),
        ("resyncs", Right),
        ("records in", Right),
        ("in/s", Right),
    ]);
    for row in &report.peers {
        peers.row([
            row.number.to_string(),
            or_dash(row.address.clone()),
            if row.resyncing {
                format!("{}, being fetched", row.state)
            } else {
                row.state.clone()
            },
            (row.state_ms / 1000).to_string(),
            or_dash(row.heard_ms.map(|heard_ms| heard_ms.to_string())),
            row.lag_us.to_string(),
            row.lag_batches.to_string(),
            row.missing_batches.to_string(),
            count(row.gaps_asked),
            count(row.resyncs),
            count(row.records_received),
            format!("{:.0}", row.received_per_second),
        ]);
    }
    let mut counters = Table::new(&[("count", Right), ("counter", Left), ("what it means", Left)]);
    for row in report.counters.iter().filter(|row| all || row.count > 0) {
        counters.row([count(row.count), row.name.clone(), row.sentence.clone()]);
    }
    let mut text = format!("{}\n\n", check::line(report));
    text += &peers.text_or("no other guard");
    let _ = writeln!(
        text,
        "\nrecords out a second: {:.0}",
        report.sent_per_second
    );
    let _ = writeln!(
        text,
        "packets that waited for a word: {}, explained {}, in vain {}; directors asked {}, unaware {}",
        count(report.holds),
        count(report.holds_answered),
        count(report.holds_in_vain),
        count(report.director_queries),
        count(report.director_unaware)
    );
    let _ = writeln!(
        text,
        "segments of sessions that another guard opened: {}\n",
        count(report.never_met)
    );
    text + &counters.text_or("nothing counted")
}

pub(super) fn neighbours(report: &Neighbours) -> String {
    let mut neighbours = Table::new(&[
        ("port", Left),
        ("address", Left),
        ("mac", Left),
        ("state", Left),
    ]);
    for row in &report.neighbours {
        neighbours.row([
            row.port.clone(),
            row.address.clone(),
            or_dash(row.mac.clone()),
            row.state.clone(),
        ]);
    }
    neighbours.text_or("no neighbour")
}

pub(super) fn drops(report: &Drops, all: bool) -> String {
    let mut rows: Vec<_> = report
        .drops
        .iter()
        .filter(|row| all || row.count > 0)
        .collect();
    // What happens most stands first; the rest keeps the order of a packet's walk.
    rows.sort_by_key(|row| std::cmp::Reverse(row.count));
    let mut drops = Table::new(&[("count", Right), ("reason", Left), ("meaning", Left)]);
    for row in rows {
        drops.row([count(row.count), row.reason.clone(), row.sentence.clone()]);
    }
    format!(
        "{}\n{} in all\n",
        drops.text_or("nothing was dropped"),
        count(report.total)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{
        Audit, DropRow, NeighbourRow, PortRow, ServerRow, SessionRow, WireCounts, WorkerRow,
    };

    #[test]
    fn drops_are_those_that_occurred_the_most_frequent_first() {
        let row = |reason: &str, count| DropRow {
            reason: reason.into(),
            count,
            sentence: "It is so.".into(),
            workers: vec![count],
        };
        let report = Drops {
            total: 1_007,
            drops: vec![row("a", 7), row("b", 0), row("c", 1_000)],
        };
        let text = drops(&report, false);
        assert_eq!(
            text,
            "count  reason  meaning\n1,000  c       It is so.\n    7  a       It is so.\n\n1,007 in all\n"
        );
        assert!(drops(&report, true).contains("\n    0  b "));
        let nothing = drops(&Drops::default(), false);
        assert!(nothing.starts_with("nothing was dropped\n"));
    }

    #[test]
    fn sessions_are_one_a_line() {
        let session = SessionRow {
            client: "2001:db8::7".into(),
            client_port: 40_000,
            server: "fd00:1::10".into(),
            server_port: 80,
            state: "established".into(),
            spliced: true,
            sequence_delta: 4_000_000_000,
            idle_ms: 1_250,
            worker: 1,
        };
        let report = Sessions {
            sessions: vec![session],
            more: true,
        };
        let text = sessions(&report);
        let line =
            "[2001:db8::7]:40000  [fd00:1::10]:80  established  yes      4000000000  1.2 s       1";
        assert!(text.contains(line), "{text}");
        assert!(text.ends_with("see --limit.\n"));
    }

    #[test]
    fn the_peers_begin_with_how_this_guard_stands() {
        let mut report = Peers {
            own: 2,
            standing: "cut off".into(),
            meaning: "Others may carry.".into(),
            ..Peers::default()
        };
        let first = |report: &Peers| peers(report, false).lines().next().map(str::to_owned);
        assert_eq!(
            first(&report).as_deref(),
            Some(
                "guard 2 is cut off and should not carry traffic while another guard may: \
                 Others may carry."
            )
        );
        report.may_carry = true;
        report.standing = "in step".into();
        let line = first(&report).unwrap_or_default();
        assert!(line.starts_with("guard 2 is in step and may carry any packet: "));
    }

    fn service() -> ServiceRow {
        ServiceRow {
            server: "fd00:1::10".into(),
            port: 443,
            state: "guarded".into(),
            health: "down".into(),
            syns: 12_345,
            ..ServiceRow::default()
        }
    }

    #[test]
    fn every_report_has_a_table() {
        let port = PortRow {
            name: "outside".into(),
            device: "net_af_packet0".into(),
            vlan: Some(7),
            link_up: Some(true),
            link_mbps: Some(10_000),
            addresses: vec!["192.0.2.1/24".into()],
            received_packets: 12_345,
            ..PortRow::default()
        };
        let text = ports(&Ports { ports: vec![port] });
        for part in [
            "net_af_packet0 vlan 7",
            "up 10000 Mb/s",
            "192.0.2.1/24",
            "12,345",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let worker = WorkerRow {
            core: 3,
            busy_share: 0.125,
            audit: Audit {
                dropped: 99,
                ..Audit::default()
            },
            ..WorkerRow::default()
        };
        let report = Workers {
            workers: vec![worker],
            buffers: 100,
            buffers_in_use: 40,
        };
        let text = workers(&report);
        assert!(
            text.contains("12.5 %") && text.contains("40 of 100 in use"),
            "{text}"
        );
        let server = ServerRow {
            address: "10.0.0.10".into(),
            ports: vec!["80".into(), "8000-8100".into()],
            window_scale: Some(7),
            echo: Some("silent".into()),
            ..ServerRow::default()
        };
        let report = Guard {
            mode: "on-flood".into(),
            active: true,
            flood: true,
            servers: vec![server],
            bypasses: vec!["the kernel forwards".into()],
            services: vec![service()],
            wire: Some(WireCounts {
                ends: ["north".into(), "south".into()],
                carried: 12,
                ..WireCounts::default()
            }),
            ..Guard::default()
        };
        let text = guard(&report);
        for part in [
            "on-flood",
            "PASSED BY  the kernel forwards\n",
            "yes, flood",
            "80,8000-8100",
            "north to south",
            "12 carried",
            "[fd00:1::10]:443  guarded  down            0  12,345",
            "silent",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let neighbour = NeighbourRow {
            port: "inside".into(),
            address: "10.0.0.10".into(),
            mac: None,
            state: "incomplete".into(),
        };
        let text = neighbours(&Neighbours {
            neighbours: vec![neighbour],
        });
        assert!(
            text.contains("inside  10.0.0.10  -    incomplete"),
            "{text}"
        );
    }
}
