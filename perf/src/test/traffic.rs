//! `test traffic`: the traffic as it is described, once.

use std::time::Duration;

use super::{Arguments, Bench, End, Failure, Place};
use crate::report::{Measured, Report, Series, axis};
use crate::traffic::{Kind, RFC2544_SIZES, SizeError, Sizes, Traffic};
use crate::trial::{Implausible, Load, Outcome, Trial, TrialError};

/// How long a trial sends, unless something else is asked for.
const DURATION: Duration = Duration::from_secs(10);
/// Frames a second, likewise.
const RATE: f64 = 10_000.0;
/// The smallest frame that holds IPv6, UDP and a signature.
const SMALLEST_IPV6: u16 = 84;

/// Sizes and what they are called.
pub(super) type Named = (String, Sizes);

/// The sizes asked for, or those of RFC 2544 and the mix.
pub(super) fn sizes(words: &[String], is_ipv6: bool) -> Result<Vec<Named>, SizeError> {
    let least = if is_ipv6 { SMALLEST_IPV6 } else { 0 };
    if words.is_empty() {
        let mut all = Vec::new();
        for size in RFC2544_SIZES {
            all.push(fixed(size.max(least).into())?);
        }
        all.push(imix(least)?);
        return Ok(all);
    }
    words
        .iter()
        .map(|word| match word.as_str() {
            "imix" => imix(least),
            number => match number.parse() {
                Ok(size) => fixed(size),
                Err(_) => Sizes::genome(number).map(|sizes| (format!("genome-{number}"), sizes)),
            },
        })
        .collect()
}

fn fixed(size: u32) -> Result<Named, SizeError> {
    Ok((size.to_string(), Sizes::fixed(size)?))
}

fn imix(least: u16) -> Result<Named, SizeError> {
    let parts = crate::traffic::IMIX.map(|(size, count)| (size.max(least), count));
    Ok(("imix".to_owned(), Sizes::mix(&parts)?))
}

pub(super) fn run(arguments: &Arguments, bench: &mut Bench) -> Result<End, Failure> {
    for traffic in arguments.traffics()? {
        for place in &mut bench.places {
            place.tester.set_traffic(traffic.clone())?;
            let own = arguments.traffic.as_ref().map(|_| place.tester.own_rate());
            let load = Load {
                frames_per_s: arguments.rate.or(own).unwrap_or(RATE),
                duration: arguments.duration.unwrap_or(DURATION),
            };
            let what = format!("traffic {} through {}", traffic.name, place.name);
            bench.progress.begin(&what);
            if place.resume()?.is_none() {
                return Ok(End::Interrupted);
            }
            let outcome = place.tester.run(load);
            place.rest()?;
            match outcome {
                Ok(outcome) => tell(&traffic.name, &outcome, place, &mut bench.report),
                Err(TrialError::Interrupted) => {
                    if let Some(outcome) = place.tester.take_partial() {
                        tell(&traffic.name, &outcome, place, &mut bench.report);
                    }
                    return Ok(End::Interrupted);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(End::Whole)
}

/// The times on the way, and how many frames of each size were lost.
fn draw(scenario: &str, outcome: &Outcome, place: &Place, report: &mut Report) {
    if !outcome.latency_ns.is_empty() {
        report.plot(Series::latency(scenario, &place.name, &outcome.latency_ns));
    }
    if let Ok(loss) = outcome.loss() {
        let point = vec![[outcome.frame_bytes, loss]];
        let (x, y) = (axis::FRAME_BYTES, axis::LOSS_RATIO);
        report.extend(Series::new("traffic", &place.name, x, y, point));
    }
}

/// Says what a capture did not hold of the frames that are sent.
pub(super) fn tell_cuts(traffic: &Traffic, report: &mut Report) {
    for stream in &traffic.streams {
        if let Kind::Replay(capture) = &stream.kind
            && capture.cut > 0
        {
            let (cut, all) = (capture.cut, capture.frames.len());
            report.note(format!(
                "{}: the capture holds {cut} of its {all} packets in part only. They are sent at \
                 their whole length with zeros for the rest, so their checksums are wrong; for what \
                 they carried, capture with `tcpdump -s 0`.",
                stream.name
            ));
        }
    }
}

/// Everything that an outcome has to tell.
fn tell(name: &str, outcome: &Outcome, place: &Place, report: &mut Report) {
    let scenario = format!("traffic.{name}");
    let received = outcome.received as f64 / outcome.sending.as_secs_f64().max(1e-9);
    let aside = place.tester.aside();
    let latency = |quantile| outcome.latency_ns.value_at_quantile(quantile) as f64;
    let mut figures = vec![
        ("sent_frames_per_s", outcome.sent_per_s()),
        ("received_frames_per_s", received),
        ("sent_frames", outcome.sent as f64),
        ("received_frames", outcome.received as f64),
        ("latency_p50_ns", latency(0.5)),
        ("latency_p99_ns", latency(0.99)),
        ("latency_p999_ns", latency(0.999)),
        ("latency_max_ns", latency(1.0)),
        ("jitter_ns", outcome.jitter_ns),
    ];
    let rare = [
        ("unsent_frames", outcome.unsent),
        ("refused_frames", aside.refused),
        ("unsigned_frames", aside.unsigned),
        ("duplicated_frames", outcome.duplicated),
        ("reordered_frames", outcome.reordered),
        ("corrupted_frames", outcome.corrupted),
        ("foreign_frames", outcome.foreign),
        ("late_frames", aside.late),
    ];
    let rare = rare.into_iter().filter(|(_, frames)| *frames > 0);
    figures.extend(rare.map(|(metric, frames)| (metric, frames as f64)));
    let mut implausible = None;
    let mut is_limit = false;
    draw(&scenario, outcome, place, report);
    match outcome.loss() {
        Ok(loss) => figures.push(("loss_ratio", loss)),
        Err(Implausible::NothingSent) if aside.unsigned > 0 => {
            let note = "nothing of it is measured; what came of it is among the foreign frames";
            implausible = Some(note.to_owned());
        }
        Err(error) => {
            is_limit = matches!(error, Implausible::Unsent { .. });
            implausible = Some(error.to_string());
        }
    }
    for (metric, value) in figures {
        let mut measured = Measured::alone(&scenario, metric, &[value]).of(&place.name);
        measured.disturbance = outcome.disturbance;
        measured.is_testers_limit = is_limit;
        measured.notes.extend(implausible.take());
        report.add(measured);
    }
}
