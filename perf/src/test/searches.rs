//! The scenarios that search: they join a tester to a search and put what was found into the
//! report.

use std::time::Duration;

use super::{Arguments, Bench, End, Failure, Place};
use crate::report::{FRAMES_PER_S, Measured, Report, Series, axis};
use crate::search::goal::Goal;
use crate::search::latency::{Latencies, SHARES_OF_NDR};
use crate::search::mlr::{Config, Found, GoalFound, Verdict};
use crate::search::rfc2544::{BackToBack, BurstConfig};
use crate::search::{
    Cut, Doing, SearchError, Session, latency as at_shares, mlr, rfc2544 as rfc, soak as long,
};
use crate::trial::Implausible;

/// The least load of a search, in frames a second.
const LEAST_FRAMES_PER_S: f64 = 100.0;
/// How long a trial of latency sends.
const LATENCY_TRIAL: Duration = Duration::from_secs(10);
/// Trials of latency at each load.
const LATENCY_TRIALS: u32 = 3;
/// How long a soak takes.
const SOAK: Duration = Duration::from_secs(3600);
/// Intervals of a soak.
const SOAK_INTERVALS: u32 = 60;
/// The share of the throughput that a soak offers.
const SOAK_SHARE: f64 = 0.5;
/// Shares of a load that are tried in turn where the tester cannot hold all of it: what it could
/// send for a moment is often its limit.
const HELD_SHARES: [f64; 5] = [1.0, 0.95, 0.9, 0.8, 0.6];
/// Drift that a soak tells of.
const LATENCY_RISE: f64 = 0.1;

/// What a scenario does with one subject and one size.
type Work<'a> = dyn Fn(&Arguments, &mut Place, &mut Report, &mut dyn FnMut(&Doing<'_>)) -> Result<End, Failure>
    + 'a;

/// Every size, and for each size every subject in turn.
fn each(
    arguments: &Arguments,
    bench: &mut Bench,
    scenario: &str,
    work: &Work<'_>,
) -> Result<End, Failure> {
    for traffic in arguments.traffics()? {
        if !traffic.streams.iter().any(|stream| stream.is_signed) {
            let name = &traffic.name;
            return Err(format!("nothing of {name} is measured; add a stream that is").into());
        }
        for place in &mut bench.places {
            bench
                .progress
                .begin(&format!("{scenario} of {}, {}", place.name, traffic.name));
            place.tester.set_traffic(traffic.clone())?;
            if place.resume()?.is_none() {
                return Ok(End::Interrupted);
            }
            let progress = bench.progress.clone();
            let mut watch = |doing: &Doing<'_>| progress.trial(doing);
            let end = work(arguments, place, &mut bench.report, &mut watch);
            place.rest()?;
            if end? == End::Interrupted {
                return Ok(End::Interrupted);
            }
        }
    }
    Ok(End::Whole)
}

fn end_of(cut: Option<Cut>) -> End {
    if cut == Some(Cut::Interrupted) {
        End::Interrupted
    } else {
        End::Whole
    }
}

/// The most that is offered: what was allowed, else what the line carries in all directions.
fn limit(arguments: &Arguments, place: &Place) -> f64 {
    let tester = &place.tester;
    let sides = [0, 1].map(|side| {
        let streams = tester.traffic().streams.iter();
        streams
            .filter(|stream| stream.direction.sender() == side)
            .count()
    });
    let directions = sides.iter().filter(|count| **count > 0).count();
    let octets = tester.built_bytes();
    let speed_gbit = tester.line_bits_per_s() / 1e9;
    let line = crate::report::line_rate::frames_per_s(1, octets) * speed_gbit;
    arguments.limit.unwrap_or(line * directions as f64)
}

/// A goal whose trials take the time that was asked for.
fn timed(goal: Goal, arguments: &Arguments) -> Goal {
    match arguments.duration {
        None => goal,
        Some(duration) => {
            let whole = goal.duration_sum.as_secs_f64() / goal.final_trial.as_secs_f64();
            Goal {
                initial_trial: goal.initial_trial.min(duration),
                final_trial: duration,
                duration_sum: duration.mul_f64(whole),
                ..goal
            }
        }
    }
}

fn config(goals: Vec<Goal>, arguments: &Arguments, place: &Place) -> Config {
    let max_frames_per_s = limit(arguments, place);
    Config {
        goals,
        min_frames_per_s: LEAST_FRAMES_PER_S.min(max_frames_per_s / 2.0),
        max_frames_per_s,
        warm_up: Duration::from_millis(500),
    }
}

/// Searches for goals and puts them into the report.
fn search(
    goals: Vec<Goal>,
    arguments: &Arguments,
    place: &mut Place,
    report: &mut Report,
    watch: &mut dyn FnMut(&Doing<'_>),
) -> Result<Found, Failure> {
    for goal in &goals {
        report.parameter(&format!("goal {}", goal.name), goal.parameters());
    }
    let config = config(goals, arguments, place);
    report.parameter("highest load, frames/s", config.max_frames_per_s.round());
    let frame_bytes = place.tester.built_bytes();
    let mut session = Session::new(&mut place.tester, arguments.time, watch);
    let found = mlr::search(&mut session, &config)?;
    let disturbance = session.disturbance();
    for goal in &found.goals {
        let scenario = format!("{}.{}", goal.goal.name, place.tester.traffic().name);
        let value = goal.lower_frames_per_s.or(goal.estimate_frames_per_s);
        let upper = goal.upper_frames_per_s.or(value);
        let (Some(value), Some(upper)) = (value, upper) else {
            report.note(format!("{scenario} of {}: {}.", place.name, goal.verdict));
            continue;
        };
        let is_limit = matches!(
            goal.verdict,
            Verdict::LimitedByTester | Verdict::CutShort(Cut::Disturbed)
        );
        let mut measured = Measured::alone(&scenario, FRAMES_PER_S, &[value])
            .limited_by_tester(is_limit)
            .of(&place.name)
            .of_frames(frame_bytes)
            .disturbed(disturbance)
            .note(format!("{}; bounds {value:.0} to {upper:.0}", goal.verdict));
        if let Some(throughput) = goal.conditional_throughput_frames_per_s {
            measured = measured.note(format!("conditional throughput {throughput:.0}"));
        }
        if let Some(limit) = found.testers_limit_frames_per_s {
            measured = measured.note(format!("the tester sends {limit:.0} at most"));
        }
        report.add(measured);
        if is_limit {
            // No point of the subject's line.
            continue;
        }
        report.extend(Series::new(
            &goal.goal.name,
            &place.name,
            axis::FRAME_BYTES,
            FRAMES_PER_S,
            vec![[frame_bytes, value]],
        ));
    }
    Ok(found)
}

/// The load that a goal was found at.
fn load_of(found: &GoalFound) -> Option<f64> {
    found.lower_frames_per_s.or(found.estimate_frames_per_s)
}

/// Throughput at no loss and at half a percent.
pub(super) fn ndr(arguments: &Arguments, bench: &mut Bench) -> Result<End, Failure> {
    each(
        arguments,
        bench,
        "ndr",
        &|arguments, place, report, watch| {
            let goals = [Goal::ndr(), Goal::pdr()].map(|goal| timed(goal, arguments));
            let found = search(goals.to_vec(), arguments, place, report, watch)?;
            Ok(end_of(found.cut))
        },
    )
}

/// Puts latencies into the report.
fn tell_latencies(scenario: &str, found: &Latencies, place: &str, report: &mut Report) {
    for at in &found.at {
        let scenario = format!("{scenario}.{:.0}%", at.share * 100.0);
        let quantiles = [
            ("latency_p50_us", 0.5),
            ("latency_p99_us", 0.99),
            ("latency_p999_us", 0.999),
            ("latency_max_us", 1.0),
        ];
        for (metric, quantile) in quantiles {
            let value = at.latency_ns.value_at_quantile(quantile) as f64 / 1e3;
            let measured = Measured::alone(&scenario, metric, &[value]).of(place);
            let offered = format!("at {:.0} frames/s, loss {:.6}", at.frames_per_s, at.loss);
            report.add(measured.disturbed(at.disturbance).note(offered));
        }
        let jitter = Measured::alone(&scenario, "jitter_us", &[at.jitter_ns / 1e3]);
        report.add(jitter.of(place).disturbed(at.disturbance));
        report.plot(Series::latency(&scenario, place, &at.latency_ns));
    }
}

/// Puts the longest bursts into the report.
fn tell_bursts(scenario: &str, found: &BackToBack, name: &str, report: &mut Report) {
    let Some(mean) = found.mean() else {
        return;
    };
    let frames: Vec<f64> = found.bursts.iter().map(|burst| *burst as f64).collect();
    let mut measured = Measured::alone(scenario, "frames", &frames).of(name);
    measured.value = mean;
    let deviation = found.deviation().unwrap_or(0.0);
    report.add(measured.note(format!(
        "mean of {} at {:.0} frames/s, deviation {deviation:.1}",
        frames.len(),
        found.frames_per_s
    )));
}

/// Latency below the throughput at no loss.
pub(super) fn latency(arguments: &Arguments, bench: &mut Bench) -> Result<End, Failure> {
    each(
        arguments,
        bench,
        "latency",
        &|arguments, place, report, watch| {
            let goal = timed(Goal::ndr(), arguments);
            let found = search(vec![goal], arguments, place, report, watch)?;
            let Some(ndr) = found.goals.first().and_then(load_of) else {
                return Ok(end_of(found.cut));
            };
            if end_of(found.cut) == End::Interrupted {
                return Ok(End::Interrupted);
            }
            let duration = arguments.duration.unwrap_or(LATENCY_TRIAL);
            let budget = (duration + LATENCY_TRIAL) * LATENCY_TRIALS * SHARES_OF_NDR.len() as u32;
            let mut session = Session::new(&mut place.tester, budget, watch);
            let shares = &SHARES_OF_NDR;
            let found = at_shares::measure(&mut session, ndr, shares, duration, LATENCY_TRIALS)?;
            tell_latencies(
                &format!("latency.{}", place.tester.traffic().name),
                &found,
                &place.name,
                report,
            );
            Ok(end_of(found.cut))
        },
    )
}

/// What `measure` finds at the largest share of a load that the tester holds; none where it holds
/// none of them.
fn at_what_is_held<T>(
    mut measure: impl FnMut(f64) -> Result<T, SearchError>,
) -> Result<Option<(f64, T)>, SearchError> {
    for share in HELD_SHARES {
        match measure(share) {
            Err(SearchError::Implausible {
                why: Implausible::Unsent { .. },
                ..
            }) => {}
            found => return Ok(Some((share, found?))),
        }
    }
    Ok(None)
}

/// RFC 2544 §26.1 to §26.4.
pub(super) fn rfc2544(arguments: &Arguments, bench: &mut Bench) -> Result<End, Failure> {
    each(
        arguments,
        bench,
        "rfc2544",
        &|arguments, place, report, watch| {
            let goal = timed(Goal::rfc2544(), arguments);
            let found = search(vec![goal], arguments, place, report, watch)?;
            let throughput = found.goals.first().and_then(load_of);
            let Some(throughput) = throughput.filter(|_| end_of(found.cut) == End::Whole) else {
                return Ok(end_of(found.cut));
            };
            let most = found
                .testers_limit_frames_per_s
                .unwrap_or_else(|| limit(arguments, place));
            let name = place.name.clone();
            let sizes = place.tester.traffic().name.clone();
            let mut session = Session::new(&mut place.tester, arguments.time, watch);
            let latencies = at_what_is_held(|share| match arguments.duration {
                None => rfc::latency(&mut session, throughput, share),
                // Shorter than the RFC's two minutes, twenty times: told by the parameters.
                Some(short) => {
                    at_shares::measure(&mut session, throughput, &[share], short, LATENCY_TRIALS)
                }
            })?;
            let scenario = format!("rfc2544.latency.{sizes}");
            match &latencies {
                Some((_, latencies)) => tell_latencies(&scenario, latencies, &name, report),
                None => report.note(format!(
                    "{scenario} of {name} was not measured: the tester holds no load near the throughput"
                )),
            }
            let trial = arguments.duration.unwrap_or(Duration::from_secs(60));
            let curve = rfc::frame_loss(&mut session, most, trial)?;
            let scenario = format!("rfc2544.loss.{}", sizes);
            let worst = curve
                .points
                .iter()
                .map(|point| point[1])
                .fold(0.0, f64::max);
            let measured = Measured::alone(&scenario, axis::LOSS_RATIO, &[worst]).of(&name);
            report.add(measured.note(format!("the highest of loads up to {most:.0} frames/s")));
            report.plot(Series::new(
                &scenario,
                &name,
                FRAMES_PER_S,
                axis::LOSS_RATIO,
                curve.points,
            ));
            let scenario = format!("rfc2544.back-to-back.{sizes}");
            let found = at_what_is_held(|share| {
                let mut bursts = BurstConfig::rfc2544(most * share);
                if let Some(short) = arguments.duration {
                    bursts.longest = bursts.longest.min(short);
                    bursts.repeats = 5;
                }
                rfc::back_to_back(&mut session, &bursts)
            })?;
            match &found {
                Some((_, found)) => tell_bursts(&scenario, found, &name, report),
                None => report.note(format!(
                    "{scenario} of {name} was not measured: the tester holds no load near {most:.0} frames/s"
                )),
            }
            let cuts = [
                found.and_then(|(_, found)| found.cut),
                curve.cut,
                latencies.and_then(|(_, latencies)| latencies.cut),
            ];
            Ok(end_of(cuts.into_iter().flatten().next()))
        },
    )
}

/// One load for long.
pub(super) fn soak(arguments: &Arguments, bench: &mut Bench) -> Result<End, Failure> {
    each(
        arguments,
        bench,
        "soak",
        &|arguments, place, report, watch| {
            let frames_per_s = match arguments.rate {
                Some(rate) => rate,
                None => {
                    let found = search(vec![Goal::ndr()], arguments, place, report, watch)?;
                    match found.goals.first().and_then(load_of) {
                        Some(ndr) if end_of(found.cut) == End::Whole => ndr * SOAK_SHARE,
                        _ => return Ok(end_of(found.cut)),
                    }
                }
            };
            let duration = arguments.duration.unwrap_or(SOAK);
            let config = long::Config {
                frames_per_s,
                interval: duration / SOAK_INTERVALS,
                intervals: SOAK_INTERVALS,
                loss_ratio: 0.0,
                latency_rise: LATENCY_RISE,
            };
            let mut session = Session::new(&mut place.tester, duration * 3 + SOAK, watch);
            let found = long::soak(&mut session, &config)?;
            let disturbance = session.disturbance();
            let scenario = format!("soak.{}", place.tester.traffic().name);
            let losses: Vec<f64> = found.intervals.iter().map(|one| one.loss).collect();
            let p99: Vec<f64> = found.intervals.iter().map(|one| one.p99_us).collect();
            for (metric, values) in [(axis::LOSS_RATIO, losses), ("latency_p99_us", p99)] {
                if values.is_empty() {
                    continue;
                }
                let measured = Measured::alone(&scenario, metric, &values).of(&place.name);
                let verdict = format!("{} at {frames_per_s:.0} frames/s", found.verdict);
                report.add(measured.disturbed(disturbance).note(verdict));
                let times = found.intervals.iter().map(|one| one.time_s);
                let points = times.zip(values).map(|(time, value)| [time, value]);
                report.plot(Series::new(
                    &scenario,
                    &place.name,
                    axis::TIME_S,
                    if metric == axis::LOSS_RATIO {
                        axis::LOSS_RATIO
                    } else {
                        axis::LATENCY_US
                    },
                    points.collect(),
                ));
            }
            Ok(end_of(found.cut))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beyond_the_tester() -> SearchError {
        SearchError::Implausible {
            frames_per_s: 1e6,
            why: Implausible::Unsent { sent: 9, unsent: 1 },
        }
    }

    #[test]
    fn a_load_that_the_tester_cannot_hold_is_lowered_until_it_can() {
        let held = |most: f64| {
            at_what_is_held(|share| {
                if share <= most {
                    Ok(share)
                } else {
                    Err(beyond_the_tester())
                }
            })
            .unwrap()
        };
        assert_eq!(held(1.0), Some((1.0, 1.0)));
        assert_eq!(held(0.93), Some((0.9, 0.9)));
        assert_eq!(held(0.5), None);
    }

    #[test]
    fn what_cannot_be_true_is_not_tried_again() {
        let mut trials = 0;
        let found: Result<Option<(f64, ())>, _> = at_what_is_held(|_| {
            trials += 1;
            Err(SearchError::Implausible {
                frames_per_s: 1e6,
                why: Implausible::NothingSent,
            })
        });
        assert!(found.is_err());
        assert_eq!(trials, 1);
    }
}
