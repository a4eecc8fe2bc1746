//! The rows of `test attacks`.

use std::collections::BTreeMap;

use super::Step;
use crate::report::{Measured, Report, median};

/// What legitimate connections may wait, against the time without an attack.
const SLOWER: f64 = 2.0;
/// The share of an attack that may stay unsent without being told.
const SHORT_OF_ATTACK: f64 = 0.05;
/// A tester that stands still for longer measures the machine, in microseconds.
const LONG_STALL_US: f64 = 10_000.0;
/// Counters that are told of an attack.
const COUNTERS_TOLD: usize = 4;

/// The steps of all rounds, by what came beside the connections.
#[derive(Default)]
pub(super) struct Rounds(BTreeMap<&'static str, Vec<Step>>);

impl Rounds {
    pub(super) fn add(&mut self, name: &'static str, step: Step) {
        self.0.entry(name).or_default().push(step);
    }

    fn of(&self, name: &str) -> &[Step] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// A quantile of the times to the first octet, round by round.
    fn first_byte_us(&self, name: &str, quantile: f64) -> Vec<f64> {
        let of = |step: &Step| step.first_byte_ns.value_at_quantile(quantile) as f64 / 1e3;
        self.of(name).iter().map(of).collect()
    }

    fn successes(&self, name: &str) -> Vec<f64> {
        let steps = self.of(name).iter();
        steps.map(|step| step.came.success()).collect()
    }
}

fn scenario_of(name: &str) -> String {
    format!("attacks.{name}")
}

/// The rows of what attacks are compared with.
pub(super) fn add_baseline(report: &mut Report, subject: &str, rounds: &Rounds, name: &str) {
    let scenario = scenario_of(name);
    for (metric, values) in [
        ("success_ratio", rounds.successes(name)),
        ("first_byte_p50_us", rounds.first_byte_us(name, 0.5)),
        ("first_byte_p99_us", rounds.first_byte_us(name, 0.99)),
    ] {
        if !values.is_empty() {
            let row = Measured::alone(&scenario, metric, &values).of(subject);
            report.add(told(row, rounds.of(name)));
        }
    }
    add_sent(report, subject, rounds, name, None);
}

/// The rows of an attack of so many packets a second, or of one that is not counted in packets.
pub(super) fn add_attack(
    report: &mut Report,
    subject: &str,
    rounds: &Rounds,
    name: &str,
    per_s: Option<f64>,
) {
    let scenario = scenario_of(name);
    let steps = rounds.of(name);
    if steps.is_empty() {
        return;
    }
    let success = rounds.successes(name).into_iter().fold(1.0, f64::min);
    let row = Measured::alone(&scenario, "success_ratio", &[success]);
    report.add(told(row.of(subject).at_least(1.0), steps));
    for (metric, quantile) in [("first_byte_p50", 0.5), ("first_byte_p99", 0.99)] {
        let values = rounds.first_byte_us(name, quantile);
        let [none, harmless] =
            ["none", "harmless"].map(|other| median(&rounds.first_byte_us(other, quantile)));
        let row = Measured::beside(&scenario, &format!("{metric}_us"), &values, none).of(subject);
        let row = match quantile {
            0.5 => row,
            _ => {
                let row = Measured {
                    goal: Some(SLOWER),
                    ..row
                };
                judged(row, per_s.map(|_| harmless))
            }
        };
        report.add(told(row, steps));
        if per_s.is_some() {
            let metric = format!("{metric}_to_harmless_us");
            report.add(Measured::beside(&scenario, &metric, &values, harmless).of(subject));
        }
    }
    add_sent(report, subject, rounds, name, per_s);
    add_datagrams(report, subject, rounds, name);
    add_answers(report, subject, rounds, name);
}

/// Says how much of a slow-down above the goal is not the attack's.
fn judged(row: Measured, harmless: Option<f64>) -> Measured {
    let (Some(ratio), Some(none), Some(harmless)) = (row.ratio, row.floor, harmless) else {
        return row;
    };
    if ratio <= SLOWER {
        return row;
    }
    let times = harmless / none;
    row.note(format!(
        "as many harmless packets make it ×{times:.1}: that much is the tester's, the links' and \
         the load's own, and not the attack's"
    ))
}

fn told(mut row: Measured, steps: &[Step]) -> Measured {
    for step in steps {
        let failures = step.came.ends.failures();
        if !failures.is_empty() && !row.notes.contains(&failures) {
            row.notes.push(failures);
        }
        let (now, worst) = (&step.came.disturbance, &mut row.disturbance);
        worst.stalls += now.stalls;
        worst.steal = worst.steal.max(now.steal);
        worst.longest_stall_us = worst.longest_stall_us.max(now.longest_stall_us);
    }
    let stall_us = row.disturbance.longest_stall_us;
    if row.metric.contains("p99") && stall_us > LONG_STALL_US {
        row.notes.push(format!(
            "the tester stood still for up to {:.0} ms: others use its core, and times say little",
            stall_us / 1e3
        ));
    }
    if let Some(step) = steps.iter().find(|step| !step.came.is_offered()) {
        row.notes.push(format!(
            "the tester was {} connections short of the load: this measures the tester",
            step.came.unsent
        ));
    }
    row
}

/// Packets a second that were really sent, and what the guard made of them.
fn add_sent(report: &mut Report, subject: &str, rounds: &Rounds, name: &str, per_s: Option<f64>) {
    let steps = rounds.of(name);
    let rate = |step: &Step| {
        step.came.flood.total() as f64 / step.came.until_ended.as_secs_f64().max(1e-9)
    };
    let rates: Vec<f64> = steps.iter().map(rate).collect();
    let sent: u64 = steps.iter().map(|step| step.came.flood.total()).sum();
    if sent == 0 {
        return;
    }
    let mut row = Measured::alone(&scenario_of(name), "sent_per_s", &rates).of(subject);
    let mut counted: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, count) in steps.iter().flat_map(|step| &step.counted) {
        *counted.entry(name).or_default() += count;
    }
    let mut counted: Vec<_> = counted.into_iter().collect();
    counted.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let counted = counted.iter().take(COUNTERS_TOLD);
    let words: Vec<String> = counted
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    row = row.note(format!(
        "of {sent} sent; meanwhile the guard counted {}",
        words.join(", ")
    ));
    let short = per_s.filter(|&per_s| median(&rates) < per_s * (1.0 - SHORT_OF_ATTACK));
    if let Some(per_s) = short {
        row = row.note(format!(
            "the tester could not send {per_s:.0} packets a second"
        ));
    }
    report.add(row);
}

/// Datagrams in two fragments among an attack's fragments.
fn add_datagrams(report: &mut Report, subject: &str, rounds: &Rounds, name: &str) {
    let steps = rounds.of(name);
    let sent: u64 = steps.iter().map(|step| step.came.flood.datagrams).sum();
    if sent > 0 {
        let came: u64 = steps.iter().map(|step| step.came.last_fragments).sum();
        let ratio = came as f64 / sent as f64;
        let row = Measured::alone(&scenario_of(name), "datagrams_in_fragments_ratio", &[ratio]);
        report.add(row.of(subject));
    }
}

/// How the daemon's own doors answered.
fn add_answers(report: &mut Report, subject: &str, rounds: &Rounds, name: &str) {
    let answers: Vec<_> = rounds
        .of(name)
        .iter()
        .filter_map(|step| step.answers)
        .collect();
    let asked: u32 = answers.iter().map(|answers| answers.asked).sum();
    if asked == 0 {
        return;
    }
    let opened: u64 = answers.iter().map(|answers| answers.opened).sum();
    let ratio = |of: u32| f64::from(of) / f64::from(asked);
    let control = answers.iter().map(|answers| answers.control).sum();
    let metrics = answers.iter().map(|answers| answers.metrics).sum();
    for (metric, answered) in [
        ("control_answers_ratio", control),
        ("metrics_answers_ratio", metrics),
    ] {
        let row = Measured::alone(&scenario_of(name), metric, &[ratio(answered)]).of(subject);
        let note = format!("{asked} were asked, beside {opened} connections that said nothing");
        report.add(row.at_least(1.0).note(note));
    }
}
