use std::collections::{BTreeMap, BTreeSet};

use dataplane::runtime::{Figures, Stage};

use super::*;
use crate::report::{PeerCounter, ServiceRow, SessionCounts};

/// A name, its labels, and a value.
type Sample = (String, BTreeMap<String, String>, f64);

/// Reads the text format as strictly as a scraper does: every sample belongs to the family that
/// was last begun, each family begins once and has help and a type, and no sample comes twice.
fn read(text: &str) -> Result<Vec<Sample>, String> {
    let mut families = BTreeSet::new();
    let mut family: Option<(String, bool)> = None;
    let mut seen = BTreeSet::new();
    let mut samples = Vec::new();
    if !text.ends_with('\n') {
        return Err("the last line has no end".into());
    }
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or("no help")?;
            is_name(name)?;
            if help.is_empty() || !families.insert(name.to_owned()) {
                return Err(format!("{name}: no help, or begun twice"));
            }
            family = Some((name.to_owned(), false));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("no type")?;
            let counts = name.ends_with("_total");
            match &mut family {
                Some((begun, typed)) if begun == name && !*typed => *typed = true,
                _ => return Err(format!("{name}: a type without help")),
            }
            if (kind, counts) != ("counter", true) && (kind, counts) != ("gauge", false) {
                return Err(format!("{name}: {kind}"));
            }
        } else {
            let (name, labels, value) = sample(line)?;
            if family
                .as_ref()
                .is_none_or(|(begun, typed)| *begun != name || !typed)
            {
                return Err(format!("{line}: outside its family"));
            }
            if !seen.insert((name.clone(), labels.clone())) {
                return Err(format!("{line}: twice"));
            }
            samples.push((name, labels, value));
        }
    }
    Ok(samples)
}

fn is_name(name: &str) -> Result<(), String> {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let rest = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if first && rest {
        Ok(())
    } else {
        Err(format!("`{name}` is no name"))
    }
}

fn sample(line: &str) -> Result<Sample, String> {
    let end = line
        .find(['{', ' '])
        .ok_or_else(|| format!("{line}: no value"))?;
    let (name, mut rest) = line.split_at(end);
    is_name(name)?;
    let mut labels = BTreeMap::new();
    if let Some(mut inner) = rest.strip_prefix('{') {
        loop {
            let (label, after) = inner.split_once("=\"").ok_or("no label's value")?;
            is_name(label)?;
            let mut text = String::new();
            let mut characters = after.char_indices();
            let close = loop {
                match characters.next().ok_or("a label's value has no end")? {
                    (at, '"') => break at,
                    (_, '\\') => match characters.next().map(|(_, c)| c) {
                        Some('n') => text.push('\n'),
                        Some(c @ ('\\' | '"')) => text.push(c),
                        other => return Err(format!("{other:?} is escaped")),
                    },
                    (_, c) => text.push(c),
                }
            };
            labels.insert(label.to_owned(), text);
            inner = &after[close + 1..];
            match inner.strip_prefix(',') {
                Some(next) => inner = next,
                None => break,
            }
        }
        rest = inner.strip_prefix('}').ok_or("no closing brace")?;
    }
    let value = rest.strip_prefix(' ').ok_or("no space before the value")?;
    let value = value
        .parse()
        .map_err(|_| format!("`{value}` is no number"))?;
    Ok((name.to_owned(), labels, value))
}

fn peer(number: u8) -> PeerRow {
    PeerRow {
        number,
        state: "in step".into(),
        lag_us: 1_500,
        ..PeerRow::default()
    }
}

fn runtime_row() -> RuntimeRow {
    let mut figures = Figures {
        calls: 3,
        frames: 90,
        measured_frames: 30,
        ..Figures::default()
    };
    figures.cycles[Stage::Handle as usize] = 1_800;
    let row = RuntimeRow {
        core: 1,
        total_ns: 3_000_000_000,
        busy_ns: 1_000_000_000,
        ..RuntimeRow::default()
    };
    row.measured(&figures)
}

fn snapshot() -> Snapshot {
    let mut counters = Counters::default();
    counters.add(Event::CookieSent, 12);
    counters.dropped(DropReason::CookieInvalid);
    let worker = |core, counters| WorkerFigures {
        core,
        counters,
        loops: u64::MAX,
        busy_ns: 1_500_000_000,
        total_ns: 3_000_000_000,
    };
    Snapshot {
        started_unix_s: 1_700_000_000,
        last_load: LastLoad {
            unix_s: 1_700_000_100,
            is_good: false,
        },
        appliance: "odd \"name\" \\ of\ntwo lines".into(),
        workers: vec![worker(1, counters), worker(3, Counters::default())],
        ports: vec![
            PortRow {
                name: "outside".into(),
                link_up: Some(true),
                received_packets: 7,
                lost: true,
                losses: 3,
                link_changes: 9,
                mtu: 1300,
                ..PortRow::default()
            },
            PortRow {
                name: "tagged".into(),
                parent: Some("outside".into()),
                ..PortRow::default()
            },
        ],
        guard: Some(Guard {
            active: true,
            sessions: SessionCounts {
                live: 5,
                ..SessionCounts::default()
            },
            ..Guard::default()
        }),
        peers: Some(Peers {
            own: 1,
            standing: "degraded".into(),
            may_carry: true,
            peers: [2, 3].map(peer).into(),
            counters: vec![PeerCounter {
                name: "frame_sent".into(),
                count: 8,
                sentence: "Frames sent.".into(),
            }],
            ..Peers::default()
        }),
        runtime: Some(Runtime::of(1_000_000_000, vec![runtime_row()])),
        buffers: 100,
        buffers_in_use: 40,
    }
}

#[test]
fn a_scraper_reads_every_line() {
    let samples = read(&text(&snapshot())).unwrap();
    let value = |name: &str, wanted: &[(&str, &str)]| {
        let found = samples.iter().find(|(found, labels, _)| {
            let matches =
                |(label, text): &(&str, &str)| labels.get(*label).map(String::as_str) == Some(text);
            found == name && wanted.iter().all(matches)
        });
        found.map(|(_, _, value)| *value)
    };
    let peers = [
        (
            "tidegate_peer_state",
            &[("peer", "3"), ("state", "in step")][..],
            1.0,
        ),
        (
            "tidegate_peer_state",
            &[("peer", "3"), ("state", "dead")],
            0.0,
        ),
        ("tidegate_peer_lag_seconds", &[("peer", "2")], 0.0015),
        ("tidegate_in_step", &[], 0.0),
        ("tidegate_may_carry", &[], 1.0),
        ("tidegate_standing", &[("standing", "degraded")], 1.0),
        ("tidegate_standing", &[("standing", "cut off")], 0.0),
        (
            "tidegate_replication_total",
            &[("counter", "frame_sent")],
            8.0,
        ),
    ];
    for (name, labels, expected) in peers {
        assert_eq!(value(name, labels), Some(expected), "{name}");
    }
    let build = ("appliance", "odd \"name\" \\ of\ntwo lines");
    assert_eq!(value("tidegate_build_info", &[build]), Some(1.0));
    let cookies = [("worker", "0"), ("event", "cookie_sent")];
    assert_eq!(value("tidegate_events_total", &cookies), Some(12.0));
    let invalid = [("worker", "0"), ("reason", "cookie_invalid")];
    assert_eq!(value("tidegate_drops_total", &invalid), Some(1.0));
    assert_eq!(
        value("tidegate_worker_busy_seconds_total", &[("core", "3")]),
        Some(1.5)
    );
    let handle = [("worker", "0"), ("core", "1"), ("stage", "handle")];
    assert_eq!(
        value("tidegate_worker_stage_cycles_total", &handle),
        Some(1_800.0)
    );
    assert_eq!(
        value("tidegate_worker_idle_seconds_total", &[("core", "1")]),
        Some(2.0)
    );
    assert_eq!(
        value(
            "tidegate_port_received_packets_total",
            &[("port", "outside")]
        ),
        Some(7.0)
    );
    assert_eq!(
        value(
            "tidegate_port_received_packets_total",
            &[("port", "tagged")]
        ),
        Some(0.0)
    );
    assert_eq!(
        value("tidegate_device_missed_total", &[("port", "tagged")]),
        None
    );
    assert_eq!(value("tidegate_sessions", &[("state", "live")]), Some(5.0));
    assert_eq!(value("tidegate_guard_active", &[]), Some(1.0));
    assert_eq!(value("tidegate_buffers_in_use", &[]), Some(40.0));
    let drops = samples
        .iter()
        .filter(|(name, _, _)| name == "tidegate_drops_total");
    assert_eq!(drops.count(), 2 * DropReason::COUNT);
}

// I6
#[test]
fn i6_services_reloads_and_units_are_told() {
    let mut snapshot = snapshot();
    let row = |port, health: &str| ServiceRow {
        server: "10.0.0.10".into(),
        port,
        health: health.into(),
        syns: 70,
        live: 5,
        opening: 2,
        failed: 3,
        ..ServiceRow::default()
    };
    snapshot.guard = Some(Guard {
        services: vec![row(80, "up"), row(81, "down"), row(82, "unknown")],
        ..Guard::default()
    });
    let samples = read(&text(&snapshot)).unwrap();
    let values = |name: &str, label: &str, value: &str| {
        let of_name = samples.iter().filter(|(own, labels, _)| {
            own == name && (label.is_empty() || labels.get(label).is_some_and(|own| own == value))
        });
        of_name.map(|(_, _, value)| *value).collect::<Vec<_>>()
    };
    assert_eq!(
        values("tidegate_service_syns_total", "server_port", "81"),
        [70.0]
    );
    assert_eq!(
        values("tidegate_service_failures_total", "server", "10.0.0.10"),
        [3.0; 3]
    );
    assert_eq!(
        values("tidegate_service_sessions", "server_port", "80"),
        [2.0, 3.0]
    );
    assert_eq!(values("tidegate_service_up", "", ""), [1.0, 0.0]);
    assert_eq!(
        values("process_start_time_seconds", "", ""),
        [1_700_000_000.0]
    );
    assert_eq!(values("tidegate_last_reload_successful", "", ""), [0.0]);
    assert_eq!(
        values("tidegate_last_reload_success_timestamp_seconds", "", ""),
        [1_700_000_100.0]
    );
    // Each event in the family of its unit, and in no other.
    let families = [
        "tidegate_packet_events_total",
        "tidegate_session_events_total",
        "tidegate_record_events_total",
        "tidegate_occasions_total",
    ];
    let counts = families.map(|name| values(name, "worker", "0").len());
    assert_eq!(counts.iter().sum::<usize>(), Event::ALL.len());
    assert_eq!(
        values("tidegate_packet_events_total", "event", "cookie_sent"),
        [12.0, 0.0]
    );
    assert!(values("tidegate_session_events_total", "event", "session_opened").len() == 2);
}

#[test]
fn links_and_lost_ports_are_told() {
    let samples = read(&text(&snapshot())).unwrap();
    for (name, expected) in [
        ("tidegate_link_up", 1.0),
        ("tidegate_link_changes_total", 9.0),
        ("tidegate_port_lost", 1.0),
        ("tidegate_port_losses_total", 3.0),
        ("tidegate_port_mtu_bytes", 1300.0),
    ] {
        let mut of_outside = samples.iter().filter(|(found, labels, _)| {
            found == name && labels.get("port").is_some_and(|port| port == "outside")
        });
        let value = of_outside.next().map(|(_, _, value)| *value);
        assert_eq!(value, Some(expected), "{name}");
    }
}

#[test]
fn the_reader_of_this_test_refuses_what_a_scraper_would() {
    for wrong in [
        "a 1",
        "a 1\n",
        "# HELP a x\n# TYPE a gauge\na{b=\"c} 1\n",
        "# HELP a x\n# TYPE a gauge\na{b=\"\\q\"} 1\n",
        "# HELP a x\n# TYPE a gauge\na one\n",
        "# HELP a x\n# TYPE a counter\na 1\n",
        "# HELP a x\n# TYPE a gauge\na 1\na 1\n",
        "# HELP a x\n# TYPE a gauge\nb 1\n",
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}
