//! The measures of connections (RFC 9411 §7): set-ups a second, concurrent connections, times to
//! first and last byte, and what is left of them while a flood runs.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::arena::{Arena, Came, HeldAct, Offer, Port};
use super::load::Load;
use super::outcome::End;
use crate::report::{Measured, Series};
use crate::trial::TrialError;

/// Rows and lines for a report.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Figures.
    pub measured: Vec<Measured>,
    /// Lines of plots.
    pub series: Vec<Series>,
}

impl Findings {
    /// Adds others behind them.
    pub fn extend(&mut self, other: Self) {
        self.measured.extend(other.measured);
        self.series.extend(other.series);
    }

    fn add(&mut self, scenario: &str, subject: &str, metric: &str, value: f64, came: &Came) {
        let mut measured = Measured::alone(scenario, metric, &[value]).of(subject);
        measured.disturbance = came.disturbance;
        measured.is_testers_limit = !came.is_offered();
        let failures = came.ends.failures();
        if !failures.is_empty() {
            measured.notes.push(failures);
        }
        if !came.is_offered() {
            measured.notes.push(format!(
                "the tester was {} connections short of the load: this measures the tester",
                came.unsent
            ));
        }
        if came.refused > 0 {
            measured.notes.push(format!(
                "{} frames found no room at the tester's own ports",
                came.refused
            ));
        }
        self.measured.push(measured);
    }

    /// Adds a point to a line of the plot of what a flood leaves.
    fn draw(&mut self, scenario: &str, subject: &str, y: &str, point: [f64; 2]) {
        let lines = &mut self.series;
        match lines
            .iter_mut()
            .find(|line| line.subject == subject && line.y == y)
        {
            Some(line) => line.points.push(point),
            None => lines.push(Series {
                scenario: scenario.to_owned(),
                subject: subject.to_owned(),
                x: "flood_packets_per_s".to_owned(),
                y: y.to_owned(),
                points: vec![point],
            }),
        }
    }

    fn add_times(
        &mut self,
        scenario: &str,
        subject: &str,
        name: &str,
        of: &Histogram<u64>,
        came: &Came,
    ) {
        for (quantile, label) in [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (1.0, "max")] {
            let metric = format!("{name}_{label}_us");
            let value = of.value_at_quantile(quantile) as f64 / 1e3;
            self.add(scenario, subject, &metric, value, came);
        }
    }
}

/// How the largest rate of set-ups is searched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SetupsConfig {
    /// Connections a second that are tried first.
    pub first_per_s: f64,
    /// The most that is tried.
    pub most_per_s: f64,
    /// How long one trial begins connections.
    pub trial: Duration,
    /// The share of connections that must complete, from 0 to 1.
    pub success: f64,
    /// How near the found rate and the lowest that failed must come, from 0 to 1.
    pub precision: f64,
}

impl Default for SetupsConfig {
    /// Three seconds a trial, one failure in a thousand, five percent.
    fn default() -> Self {
        Self {
            first_per_s: 1_000.0,
            most_per_s: 10e6,
            trial: Duration::from_secs(3),
            success: 0.999,
            precision: 0.05,
        }
    }
}

/// What a search for the largest rate found.
#[derive(Clone, Debug)]
pub struct Setups {
    /// The largest rate at which enough completed, and what came of it; none if even the least
    /// failed.
    pub found: Option<(f64, Came)>,
    /// The least rate at which too few completed, and what came of it.
    pub failed: Option<(f64, Came)>,
    /// The share that completed, by rate, in the order of trials.
    pub tried: Vec<[f64; 2]>,
    /// Whether the user wanted no more.
    pub is_interrupted: bool,
}

/// The least rate that is tried.
const LEAST_PER_S: f64 = 10.0;
/// Trials of one search: doubling over five decades and then halving to one in a hundred.
const MOST_TRIALS: usize = 32;

/// Searches the largest rate of set-ups: doubles it until too few complete, then halves the
/// difference. A rate that the tester cannot offer fails too, and says so.
///
/// # Errors
/// When a trial fails; what was found until an interruption is no error.
pub fn search_setups<P: Port>(
    arena: &mut Arena<P>,
    config: &SetupsConfig,
) -> Result<Setups, TrialError> {
    let mut setups = Setups {
        found: None,
        failed: None,
        tried: Vec::new(),
        is_interrupted: false,
    };
    let mut rate = config.first_per_s.min(config.most_per_s);
    while setups.tried.len() < MOST_TRIALS {
        let offer = Offer::rate(rate, config.trial);
        let came = match arena.run(&offer) {
            // Once more: the machine may have taken the tester's core for a moment.
            Ok(came) if !came.is_offered() => arena.run(&offer),
            other => other,
        };
        let came = match came {
            Ok(came) => came,
            Err(TrialError::Interrupted) => {
                setups.is_interrupted = true;
                return Ok(setups);
            }
            Err(error) => return Err(error),
        };
        setups.tried.push([rate, came.success()]);
        if came.success() >= config.success && came.is_offered() {
            setups.found = Some((rate, came));
        } else {
            setups.failed = Some((rate, came));
        }
        let good = setups.found.as_ref().map(|(rate, _)| *rate);
        let bad = setups.failed.as_ref().map(|(rate, _)| *rate);
        rate = match (good, bad) {
            (Some(good), None) if good >= config.most_per_s => break,
            (Some(good), None) => (good * 2.0).min(config.most_per_s),
            (None, Some(bad)) if bad <= LEAST_PER_S => break,
            (None, Some(bad)) => (bad / 4.0).max(LEAST_PER_S),
            (Some(good), Some(bad)) if bad - good <= config.precision * bad => break,
            (Some(good), Some(bad)) => f64::midpoint(good, bad),
            (None, None) => break,
        };
    }
    Ok(setups)
}

/// The rows of a search for the largest rate of set-ups.
#[must_use]
pub fn setups_findings(subject: &str, setups: &Setups) -> Findings {
    const SCENARIO: &str = "setups";
    let mut findings = Findings::default();
    let largest = setups.found.as_ref().map_or(0.0, |(rate, _)| *rate);
    let witness = setups.failed.as_ref().or(setups.found.as_ref());
    if let Some((_, came)) = witness {
        findings.add(SCENARIO, subject, "connections_per_s", largest, came);
        if let Some(row) = findings.measured.last_mut()
            && let Some((rate, _)) = setups.failed
        {
            row.notes
                .insert(0, format!("{rate:.0} connections/s was too much"));
        }
    }
    if let Some((_, came)) = &setups.found {
        findings.add_times(
            SCENARIO,
            subject,
            "syn_ack",
            &came.latencies.syn_ack_ns,
            came,
        );
    }
    let mut points = setups.tried.clone();
    points.sort_by(|one, other| one[0].total_cmp(&other[0]));
    findings.series.push(Series {
        scenario: SCENARIO.to_owned(),
        subject: subject.to_owned(),
        x: "connections_per_s".to_owned(),
        y: "success_ratio".to_owned(),
        points,
    });
    findings
}

/// Times to first and last byte at a rate of connections, added to `findings`.
///
/// # Errors
/// When the trial does not end.
pub fn ttfb<P: Port>(
    arena: &mut Arena<P>,
    subject: &str,
    (per_s, duration): (f64, Duration),
    findings: &mut Findings,
) -> Result<(), TrialError> {
    const SCENARIO: &str = "ttfb";
    let came = arena.run(&Offer::rate(per_s, duration))?;
    let rate = came.begun_per_s();
    findings.add(SCENARIO, subject, "connections_per_s", rate, &came);
    findings.add(SCENARIO, subject, "success_ratio", came.success(), &came);
    for (name, times) in [
        ("syn_ack", &came.latencies.syn_ack_ns),
        ("established", &came.latencies.established_ns),
        ("first_byte", &came.latencies.first_byte_ns),
        ("last_byte", &came.latencies.last_byte_ns),
        ("whole", &came.latencies.whole_ns),
    ] {
        findings.add_times(SCENARIO, subject, name, times, &came);
    }
    let bits = came.verified_bytes as f64 * 8.0 / came.until_ended.as_secs_f64().max(1e-9);
    findings.add(SCENARIO, subject, "verified_bits_per_s", bits, &came);
    Ok(())
}

/// What is asked of concurrent connections. The clients must hold theirs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConcurrentConfig {
    /// How many are opened.
    pub connections: u64,
    /// How many a second are opened, asked again, and closed.
    pub per_s: f64,
    /// How long they are held.
    pub hold: Duration,
}

/// What became of concurrent connections.
#[derive(Clone, Debug)]
pub struct Concurrent {
    /// How they came up: `held` are open, each with a verified exchange.
    pub opened: Came,
    /// How many were still open after they were held.
    pub after_hold: u64,
    /// How many then did one more verified exchange: they live.
    pub alive: u64,
    /// How many closed in order.
    pub closed: u64,
}

/// Opens connections, holds them, has each do one more exchange, and closes them.
///
/// # Errors
/// When the user interrupts.
pub fn concurrent<P: Port>(
    arena: &mut Arena<P>,
    config: &ConcurrentConfig,
) -> Result<Concurrent, TrialError> {
    let grace = Duration::from_secs(10);
    let open_for = config.connections as f64 / config.per_s;
    let opened = arena.run(&Offer {
        load: Load::Count {
            connections: config.connections,
            per_s: config.per_s,
        },
        ramp: Duration::ZERO,
        // A tester that is slower than it was told to be takes longer, and not less.
        duration: Duration::from_secs_f64(open_for * 20.0 + 10.0),
        grace,
        ..Offer::rate(0.0, Duration::ZERO)
    })?;
    let after_hold = arena.hold(config.hold)?;
    let exchanges = arena.clients.counters().exchanges;
    arena.each_held(HeldAct::Ask, config.per_s, grace)?;
    let alive = arena.clients.counters().exchanges - exchanges;
    let completed = arena.clients.ends().of(End::Completed);
    arena.each_held(HeldAct::Close, config.per_s, grace)?;
    let closed = arena.clients.ends().of(End::Completed) - completed;
    Ok(Concurrent {
        opened,
        after_hold,
        alive,
        closed,
    })
}

/// The rows of concurrent connections.
#[must_use]
pub fn concurrent_findings(subject: &str, concurrent: &Concurrent) -> Findings {
    const SCENARIO: &str = "concurrent";
    let mut findings = Findings::default();
    let came = &concurrent.opened;
    for (metric, value) in [
        ("connections", came.held as f64),
        ("connections_after_hold", concurrent.after_hold as f64),
        ("connections_alive", concurrent.alive as f64),
        ("connections_closed", concurrent.closed as f64),
        (
            "opened_per_s",
            came.held as f64 / came.until_ended.as_secs_f64().max(1e-9),
        ),
    ] {
        findings.add(SCENARIO, subject, metric, value, came);
    }
    findings
}

/// A fixed load of legitimate connections beside a flood that grows.
#[derive(Clone, Debug, PartialEq)]
pub struct UnderFlood {
    /// Legitimate connections a second.
    pub per_s: f64,
    /// How long each step lasts.
    pub step: Duration,
    /// Packets a second of the flood, one step each.
    pub floods_per_s: Vec<f64>,
}

impl Default for UnderFlood {
    /// 500 connections a second, without a flood and from a thousand to a million packets.
    fn default() -> Self {
        Self {
            per_s: 500.0,
            step: Duration::from_secs(3),
            floods_per_s: vec![0.0, 1e3, 1e4, 1e5, 1e6],
        }
    }
}

/// The share of a flood that may stay unsent without being told.
const SHORT_OF_FLOOD: f64 = 0.05;

/// Success and time to first byte of legitimate connections against the flood's rate, added to
/// `findings`, by the rate that was really sent. Ends early where the tester sends less than half.
///
/// # Errors
/// When a step does not end; those before it are in `findings`.
pub fn under_flood<P: Port>(
    arena: &mut Arena<P>,
    subject: &str,
    config: &UnderFlood,
    findings: &mut Findings,
) -> Result<(), TrialError> {
    const SCENARIO: &str = "guard-flood";
    for &flood_per_s in &config.floods_per_s {
        let came = arena.run(&Offer {
            flood_per_s,
            ..Offer::rate(config.per_s, config.step)
        })?;
        let first = &came.latencies.first_byte_ns;
        let sent = came.flood.total() as f64;
        let sent_per_s = sent / came.until_ended.as_secs_f64().max(1e-9);
        let unsent = came.flood.unsent as f64;
        // So busy a tester is slow to begin connections and to see what comes, too.
        let is_testers_limit = unsent > sent || !came.is_offered();
        let at = |name: &str| format!("{name}_at_{flood_per_s:.0}_per_s");
        for (name, value) in [
            ("success_ratio", came.success()),
            (
                "first_byte_p50_us",
                first.value_at_quantile(0.5) as f64 / 1e3,
            ),
            (
                "first_byte_p99_us",
                first.value_at_quantile(0.99) as f64 / 1e3,
            ),
            ("flood_syns_arrived", came.flood_arrived as f64),
        ] {
            findings.add(SCENARIO, subject, &at(name), value, &came);
            if !is_testers_limit {
                findings.draw(SCENARIO, subject, name, [sent_per_s, value]);
            }
        }
        findings.add(
            SCENARIO,
            subject,
            &at("flood_sent_per_s"),
            sent_per_s,
            &came,
        );
        if is_testers_limit {
            let step = at("");
            let rows = findings.measured.iter_mut();
            rows.filter(|row| row.subject == subject && row.metric.ends_with(&step))
                .for_each(|row| row.is_testers_limit = true);
        }
        if unsent > SHORT_OF_FLOOD * (sent + unsent)
            && let Some(row) = findings.measured.last_mut()
        {
            let short = format!("the tester was {unsent:.0} packets short of this flood");
            row.notes.push(short);
        }
        if unsent > sent {
            // More cannot be sent, whatever is asked for.
            break;
        }
    }
    Ok(())
}
