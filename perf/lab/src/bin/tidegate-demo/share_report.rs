//! The second act's table, and its verdict.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::report::{Attack, large, number};
use crate::trouble::{self, Span};

/// What one guard did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guard {
    /// Packets that the routers handed to it: from the clients, from the server.
    pub(crate) handed: [u64; 2],
    /// What it counted, by name; of one that died in the midst, up to its death and since.
    pub(crate) events: BTreeMap<String, u64>,
    /// Its drops by reason, since its last start.
    pub(crate) drops: Vec<(String, u64)>,
    pub(crate) ended_well: bool,
}

/// A guard's death and return, in times since the clients began to ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Died {
    pub(crate) guard: u8,
    pub(crate) killed: Duration,
    pub(crate) withdrawn: Duration,
    pub(crate) back: Duration,
    /// What the routers had handed to it when they took it back.
    pub(crate) handed_before_return: [u64; 2],
}

/// What came of the act.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) attack: Attack,
    pub(crate) died: Died,
    /// What a cut and a stall cost.
    pub(crate) troubles: Vec<Span>,
    pub(crate) guards: Vec<Guard>,
    pub(crate) took: Duration,
}

/// The rows of the table that a guard counts itself.
const ROWS: [(&str, &str); 7] = [
    ("session_opened", "sessions opened"),
    ("session_learned", "sessions learned from another guard"),
    (
        "never_met",
        "segments of sessions that another guard opened",
    ),
    ("peers_awaited", "packets held until another guard's word"),
    ("peers_answered", "  of these, explained by it"),
    ("peers_silent", "  of these, in vain"),
    ("director_asked", "questions for a flow's director"),
];
/// What each guard must have done for the act to be what it says.
const MUST: [&str; 3] = ["session_opened", "session_learned", "never_met"];

impl Guard {
    fn event(&self, name: &str) -> u64 {
        self.events.get(name).copied().unwrap_or_default()
    }
}

impl Report {
    /// Whether the guards did what they are for.
    ///
    /// # Errors
    /// With what they did not do.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        let mut wrong = self.wrong_with_service();
        wrong.extend(trouble::wrong(&self.troubles));
        for (guard, number) in self.guards.iter().zip(1..) {
            if guard.handed.contains(&0) {
                wrong.push(format!(
                    "guard {number} was not handed packets of both sides"
                ));
            }
            for name in MUST.iter().filter(|name| guard.event(name) == 0) {
                wrong.push(format!("guard {number}: {name}: none"));
            }
            if !guard.ended_well {
                wrong.push(format!(
                    "guard {number} did not end well when it was told to"
                ));
            }
        }
        let returned = &self.guards[usize::from(self.died.guard - 1)].handed;
        let before = self.died.handed_before_return;
        if returned
            .iter()
            .zip(before)
            .any(|(&now, before)| now <= before)
        {
            wrong.push("the guard that died was handed nothing after its return".to_owned());
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("\n"))
        }
    }

    fn wrong_with_service(&self) -> Vec<String> {
        let Attack {
            served,
            sent,
            inside,
            sequence_numbers,
        } = &self.attack;
        let mut wrong = Vec::new();
        if let Err(error) = served.all().whole() {
            wrong.push(error.to_string());
        }
        for (family, name) in ["IPv4", "IPv6"].iter().enumerate() {
            if served.small[family].served == 0 {
                wrong.push(format!("small bodies over {name}: none"));
            }
            for (what, moment) in [("death", self.died.killed), ("return", self.died.back)] {
                let spans = &served.large[family].spans;
                if !spans
                    .iter()
                    .any(|(from, to)| (*from..*to).contains(&moment))
                {
                    wrong.push(format!(
                        "no large body over {name} was on its way at the guard's {what} and came"
                    ));
                }
            }
        }
        if sent.syns == 0 || sent.acks == 0 {
            wrong.push("no flood was sent".to_owned());
        }
        let flood = inside.spoofed_syns + inside.spoofed_others;
        if flood > 0 {
            wrong.push(format!("{flood} packets of the flood reached the server"));
        }
        if sequence_numbers.same > 0 || sequence_numbers.differ < served.all().served * 9 / 10 {
            wrong.push(format!(
                "of {} connections, {} had other sequence numbers on the two sides and {} the same",
                served.all().served,
                sequence_numbers.differ,
                sequence_numbers.same
            ));
        }
        wrong
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        let Attack {
            served,
            sent,
            inside,
            ..
        } = &self.attack;
        let mut table = String::from("\n");
        let mut row = |name: &str, cell: String| {
            let _ = writeln!(table, "{name:48}{cell:>45}");
        };
        row("connections asked", number(served.all().asked));
        row(
            "connections served, byte for byte",
            number(served.all().served),
        );
        for (family, name) in ["IPv4", "IPv6"].iter().enumerate() {
            let outcome = &served.small[family];
            let cell = format!("{} of {}", number(outcome.served), number(outcome.asked));
            row(&format!("  small bodies, {name}"), cell);
            row(
                &format!("  large bodies, {name}"),
                large(&served.large[family]),
            );
        }
        row("flood: spoofed SYNs sent", number(sent.syns));
        row("flood: forged ACKs sent", number(sent.acks));
        row(
            "flood: SYNs that reached the server",
            number(inside.spoofed_syns),
        );
        row(
            "flood: other packets that reached it",
            number(inside.spoofed_others),
        );
        let died = &self.died;
        row(
            &format!("guard {}: killed, avoided by routers, back", died.guard),
            format!(
                "{:.1} s, {:.1} s, {:.1} s",
                died.killed.as_secs_f64(),
                died.withdrawn.as_secs_f64(),
                died.back.as_secs_f64()
            ),
        );
        self.of_guards(&mut table);
        table.push('\n');
        table += &trouble::table(&self.troubles);
        let _ = writeln!(table, "the whole took {:.0} s", self.took.as_secs_f64());
        table
    }

    fn of_guards(&self, table: &mut String) {
        let mut row = |name: &str, cell: &dyn Fn(usize, &Guard) -> String| {
            let _ = write!(table, "{name:48}");
            for (place, guard) in self.guards.iter().enumerate() {
                let _ = write!(table, "{:>15}", cell(place, guard));
            }
            table.push('\n');
        };
        row("", &|place, _| format!("guard {}", place + 1));
        row("packets from the clients' side", &|_, guard| {
            number(guard.handed[0])
        });
        row("packets from the server's side", &|_, guard| {
            number(guard.handed[1])
        });
        for (event, name) in ROWS {
            row(name, &|_, guard| number(guard.event(event)));
        }
        let mut reasons: Vec<&String> = self
            .guards
            .iter()
            .flat_map(|g| &g.drops)
            .map(|d| &d.0)
            .collect();
        reasons.sort();
        reasons.dedup();
        for reason in reasons {
            row(&format!("dropped: {reason}"), &|_, guard| {
                let mut drops = guard.drops.iter();
                number(
                    drops
                        .find(|(name, _)| name == reason)
                        .map_or(0, |(_, count)| *count),
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::{Large, Served};
    use lab::curl::Outcome;
    use lab::flood::Sent;
    use lab::observer::{Comparison, Sight};

    fn outcome(asked: u64, served: u64) -> Outcome {
        Outcome {
            asked,
            served,
            ..Outcome::default()
        }
    }

    fn good() -> Report {
        let seconds = Duration::from_secs;
        let large = Large {
            outcome: outcome(2, 2),
            bytes: 200,
            took: seconds(1),
            spans: vec![(seconds(1), seconds(3)), (seconds(5), seconds(8))],
        };
        let guard = Guard {
            handed: [10, 10],
            events: MUST.iter().map(|name| ((*name).to_owned(), 7)).collect(),
            drops: vec![("bad cookie".to_owned(), 5)],
            ended_well: true,
        };
        Report {
            attack: Attack {
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
            },
            died: Died {
                guard: 2,
                killed: seconds(2),
                withdrawn: seconds(3),
                back: seconds(6),
                handed_before_return: [5, 5],
            },
            troubles: Vec::new(),
            guards: vec![guard; 3],
            took: seconds(20),
        }
    }

    #[test]
    fn a_good_run_passes_and_its_table_has_every_guard() {
        let report = good();
        report.verdict().unwrap();
        let table = report.table();
        for part in ["guard 3", "bad cookie", "10 of 10", "2.0 s, 3.0 s, 6.0 s"] {
            assert!(table.contains(part), "{part} is not in {table}");
        }
    }

    #[test]
    fn every_fault_fails_the_run() {
        let faults: [fn(&mut Report); 10] = [
            |report| report.attack.served.small[0].served = 9,
            |report| report.attack.served.large[1].outcome.served = 1,
            |report| report.attack.served.large[1].spans.clear(),
            |report| report.attack.inside.spoofed_syns = 1,
            |report| report.attack.inside.spoofed_others = 1,
            |report| report.attack.sequence_numbers.same = 1,
            |report| report.attack.sent.syns = 0,
            |report| report.guards[1].handed = [5, 10],
            |report| report.guards[2].events.clear(),
            |report| report.guards[0].ended_well = false,
        ];
        for fault in faults {
            let mut report = good();
            fault(&mut report);
            assert!(report.verdict().is_err());
        }
    }
}
