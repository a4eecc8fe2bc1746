//! The protected services' numbers.

use super::{Kind, Text};
use crate::report::ServiceRow;

pub(super) fn text(text: &mut Text, services: &[ServiceRow]) {
    type Value = fn(&ServiceRow) -> u64;
    let counters: [(&str, &str, Value); 3] = [
        (
            "tidegate_service_syns_total",
            "SYNs for a service.",
            |row| row.syns,
        ),
        (
            "tidegate_service_answers_total",
            "SYN-ACKs of a service.",
            |row| row.answered,
        ),
        (
            "tidegate_service_failures_total",
            "Connections that a service has refused or not answered.",
            |row| row.failed,
        ),
    ];
    for (name, help, value) in counters {
        text.family(name, Kind::Counter, help);
        for row in services {
            let port = row.port.to_string();
            text.sample(
                name,
                &[("server", &row.server), ("server_port", &port)],
                value(row),
            );
        }
    }
    let name = "tidegate_service_sessions";
    text.family(
        name,
        Kind::Gauge,
        "Live sessions of a service: open ones, and those that open.",
    );
    for row in services {
        let port = row.port.to_string();
        let open = row.live.saturating_sub(row.opening);
        for (state, count) in [("opening", row.opening), ("open", open)] {
            let labels = [
                ("server", &*row.server),
                ("server_port", &port),
                ("state", state),
            ];
            text.sample(name, &labels, count);
        }
    }
    let name = "tidegate_service_up";
    text.family(
        name,
        Kind::Gauge,
        "Whether a service takes connections; not there as long as nobody has asked it.",
    );
    for row in services.iter().filter(|row| row.health != "unknown") {
        let port = row.port.to_string();
        let labels = [("server", &*row.server), ("server_port", &port)];
        text.sample(name, &labels, u8::from(row.health == "up"));
    }
}
