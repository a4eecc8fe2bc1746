//! The table at the end, and the verdict.

use std::fmt::Write as _;
use std::time::Duration;

use lab::flood::Sent;
use lab::observer::{Comparison, Sight};

use crate::clients::{Large, Served};
use crate::latency::Latency;
use crate::show::Shown;

/// What came of one attack.
#[derive(Clone, Debug)]
pub(crate) struct Attack {
    pub(crate) served: Served,
    pub(crate) sent: Sent,
    /// What reached the server's interface.
    pub(crate) inside: Sight,
    /// The sequence numbers of SYN-ACKs on both sides.
    pub(crate) sequence_numbers: Comparison,
}

/// What came of all.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) latency: Latency,
    /// The server alone: with SYN cookies off, and on.
    pub(crate) without: [Attack; 2],
    pub(crate) with: Attack,
    pub(crate) shown: Shown,
    pub(crate) daemon_ended_well: bool,
    pub(crate) took: Duration,
}

impl Report {
    /// Whether the guard did what it is for.
    ///
    /// # Errors
    /// With what it did not do.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        let Attack {
            served,
            sent,
            inside,
            sequence_numbers,
        } = &self.with;
        let [large_ipv4, large_ipv6] = &served.large;
        let mut wrong = Vec::new();
        if let Err(error) = served.all().whole() {
            wrong.push(error.to_string());
        }
        for (what, count) in [
            ("small bodies over IPv4", served.small[0].served),
            ("small bodies over IPv6", served.small[1].served),
            ("large bodies over IPv4", large_ipv4.outcome.served),
            ("large bodies over IPv6", large_ipv6.outcome.served),
            ("spoofed SYNs sent", sent.syns),
            ("forged ACKs sent", sent.acks),
            ("sessions", self.shown.sessions),
        ] {
            if count == 0 {
                wrong.push(format!("{what}: none"));
            }
        }
        let flood = inside.spoofed_syns + inside.spoofed_others;
        if flood > 0 {
            wrong.push(format!("{flood} packets of the flood reached the server"));
        }
        // Connections that had the same ports count once, and an observer may miss one.
        let seen_enough = sequence_numbers.differ >= served.all().served * 9 / 10;
        if sequence_numbers.same > 0 || !seen_enough {
            wrong.push(format!(
                "the guard was not seen in the path: of {} connections, {} had other sequence \
                 numbers on the two sides and {} the same",
                served.all().served,
                sequence_numbers.differ,
                sequence_numbers.same
            ));
        }
        if !self.daemon_ended_well {
            wrong.push("the daemon did not end well when it was told to".to_owned());
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("\n"))
        }
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        let mut table = format!(
            "\n{:44}{:>20}{:>20}{:>20}\n{:44}{:>20}{:>20}{:>20}\n",
            "",
            "the server alone,",
            "the server alone,",
            "behind the guard,",
            "",
            "SYN cookies off",
            "SYN cookies on",
            "SYN cookies off"
        );
        let [bare, cookies] = &self.without;
        let mut row = |name: &str, cell: &dyn Fn(&Attack) -> String| {
            let cells = [bare, cookies, &self.with].map(cell);
            let _ = writeln!(
                table,
                "{name:44}{:>20}{:>20}{:>20}",
                cells[0], cells[1], cells[2]
            );
        };
        row("connections asked", &|attack| {
            number(attack.served.all().asked)
        });
        row("connections served, byte for byte", &|attack| {
            number(attack.served.all().served)
        });
        for (family, name) in ["IPv4", "IPv6"].iter().enumerate() {
            row(&format!("  small bodies, {name}"), &|attack| {
                let outcome = &attack.served.small[family];
                format!("{} of {}", number(outcome.served), number(outcome.asked))
            });
            row(&format!("  large bodies, {name}"), &|attack| {
                large(&attack.served.large[family])
            });
        }
        row("flood: spoofed SYNs sent", &|attack| {
            number(attack.sent.syns)
        });
        row("flood: forged ACKs sent", &|attack| {
            number(attack.sent.acks)
        });
        row("flood: SYNs that reached the server", &|attack| {
            number(attack.inside.spoofed_syns)
        });
        row("  of all spoofed SYNs", &|attack| {
            let share = attack.inside.spoofed_syns as f64 / attack.sent.syns.max(1) as f64;
            format!("{:.0} %", share * 100.0)
        });
        row("flood: other packets that reached it", &|attack| {
            number(attack.inside.spoofed_others)
        });
        row("connections with two sequence numbers", &|attack| {
            number(attack.sequence_numbers.differ)
        });
        self.rest(&mut table);
        table
    }

    fn rest(&self, table: &mut String) {
        let _ = writeln!(
            table,
            "{:84}{:>20}",
            "sessions opened by the guard",
            number(self.shown.sessions)
        );
        for (percentile, name) in [(50, "50th"), (99, "99th")] {
            let (direct, added) = self.latency.at(percentile);
            let name = format!("time to the first byte, {name} percentile");
            let _ = writeln!(
                table,
                "{name:44}{:>17} µs{:>20}{added:>+17} µs",
                number(direct),
                "–"
            );
        }
        let _ = writeln!(table, "dropped by the guard, by reason");
        for (reason, count) in &self.shown.drops {
            let _ = writeln!(table, "  {reason:82}{:>20}", number(*count));
        }
        let _ = writeln!(table, "the whole took {:.0} s", self.took.as_secs_f64());
    }
}

pub(crate) fn large(large: &Large) -> String {
    if large.outcome.asked == 0 {
        return "–".to_owned();
    }
    let rate = large.bytes as f64 / 1e6 / large.took.as_secs_f64().max(0.001);
    format!(
        "{} of {}, {rate:.0} MB/s",
        large.outcome.served, large.outcome.asked
    )
}

/// A number with its thousands apart.
pub(crate) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab::curl::Outcome;

    fn outcome(asked: u64, served: u64) -> Outcome {
        Outcome {
            asked,
            served,
            ..Outcome::default()
        }
    }

    fn good() -> Report {
        let large = Large {
            outcome: outcome(2, 2),
            bytes: 200,
            took: Duration::from_secs(1),
            spans: Vec::new(),
        };
        let attack = Attack {
            served: Served {
                small: [outcome(10, 10), outcome(10, 10)],
                large: [large.clone(), large],
            },
            sent: Sent {
                syns: 5,
                acks: 5,
                ..Sent::default()
            },
            inside: Sight::default(),
            sequence_numbers: Comparison {
                differ: 24,
                same: 0,
            },
        };
        Report {
            latency: Latency::default(),
            without: [attack.clone(), attack.clone()],
            with: attack,
            shown: Shown {
                sessions: 24,
                drops: vec![("bad cookie".to_owned(), 5)],
            },
            daemon_ended_well: true,
            took: Duration::from_secs(40),
        }
    }

    #[test]
    fn a_good_run_passes_and_its_table_has_every_number() {
        let report = good();
        report.verdict().unwrap();
        let table = report.table();
        assert!(
            table.contains("bad cookie") && table.contains("10 of 10"),
            "{table}"
        );
    }

    #[test]
    fn i7_the_table_says_what_of_the_flood_the_server_alone_had_to_bear() {
        let mut report = good();
        report.without[1].sent.syns = 1000;
        report.without[1].inside.spoofed_syns = 970;
        let table = report.table();
        assert!(table.contains("SYN cookies off") && table.contains("SYN cookies on"));
        let share = table
            .lines()
            .find(|line| line.contains("of all spoofed SYNs"))
            .unwrap();
        let words: Vec<&str> = share.split_whitespace().collect();
        assert_eq!(words[4..], ["0", "%", "97", "%", "0", "%"], "{table}");
    }

    #[test]
    fn every_fault_fails_the_run() {
        let faults: [fn(&mut Report); 8] = [
            |report| report.with.served.small[0].served = 9,
            |report| report.with.served.large[1].outcome = Outcome::default(),
            |report| report.with.inside.spoofed_syns = 1,
            |report| report.with.inside.spoofed_others = 1,
            |report| report.with.sequence_numbers.same = 1,
            |report| report.with.sequence_numbers.differ = 20,
            |report| report.with.sent.acks = 0,
            |report| report.daemon_ended_well = false,
        ];
        for fault in faults {
            let mut report = good();
            fault(&mut report);
            assert!(report.verdict().is_err());
        }
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1000), "1 000");
        assert_eq!(number(1_234_567), "1 234 567");
    }
}
