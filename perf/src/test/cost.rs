//! `test cost`: what a packet takes of each subject's time, in rounds that alternate, beside the
//! floor: `testpmd-mac`, where it is among them.
//!
//! A tester on one core can offer less than a forwarder on another can carry. So the time is the
//! subject's own account of its turns that found packets, and not how long they took on their way.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Arguments, Bench, End, Failure};
use crate::report::{Measured, NS_PER_PACKET, TIDEGATE, median};
use crate::subjects::{Account, Busy, Kind, Over, Seen, prove};
use crate::traffic::Traffic;
use crate::trial::{Disturbance, Load, Outcome, Trial, TrialError};

/// How long a trial sends, unless something else is asked for.
const DURATION: Duration = Duration::from_secs(2);
/// Frames a second, likewise: more than one core of a tester can send.
const RATE: f64 = 10e6;
/// What a bare worker loop may take of the floor.
const GOAL: f64 = 1.15;

/// The rounds of one subject.
#[derive(Default)]
struct Rounds {
    busy_ns: Vec<f64>,
    frames_per_s: Vec<f64>,
    disturbance: Disturbance,
}

/// Each size, and for each size so many rounds of every subject in turn.
pub(super) fn run(arguments: &Arguments, bench: &mut Bench) -> Result<End, Failure> {
    if bench.places.iter().any(|place| place.subject.is_none()) {
        return Err(
            "a cost is told by subjects that are started here; name them by --subject".into(),
        );
    }
    bench.report.parameter("rounds", arguments.rounds);
    for traffic in arguments.traffics()? {
        let mut rounds: BTreeMap<String, Rounds> = BTreeMap::new();
        let mut end = End::Whole;
        'rounds: for round in 1..=arguments.rounds {
            for place in 0..bench.places.len() {
                match one(arguments, &traffic, bench, place, round)? {
                    Some((outcome, busy_ns)) => {
                        let name = bench.places[place].name.clone();
                        let rounds = rounds.entry(name).or_default();
                        let seconds = outcome.sending.as_secs_f64().max(1e-9);
                        rounds.frames_per_s.push(outcome.received as f64 / seconds);
                        rounds.busy_ns.extend(busy_ns);
                        rounds.disturbance = rounds.disturbance.and(outcome.disturbance);
                    }
                    None => {
                        end = End::Interrupted;
                        break 'rounds;
                    }
                }
            }
        }
        tell(arguments, &traffic, bench, &rounds);
        if end == End::Interrupted {
            return Ok(end);
        }
    }
    Ok(End::Whole)
}

/// One round of one subject: what came, and the busy time of each packet where the subject tells.
fn one(
    arguments: &Arguments,
    traffic: &Traffic,
    bench: &mut Bench,
    place: usize,
    round: u32,
) -> Result<Option<(Outcome, Option<f64>)>, Failure> {
    let place = &mut bench.places[place];
    let what = format!("cost of {}, {}, round {round}", place.name, traffic.name);
    bench.progress.begin(&what);
    place.tester.set_traffic(traffic.clone())?;
    if place.resume()?.is_none() {
        return Ok(None);
    }
    let load = Load {
        frames_per_s: arguments.rate.unwrap_or(RATE),
        duration: arguments.duration.unwrap_or(DURATION),
    };
    let account = |place: &mut super::Place| match &mut place.subject {
        Some(subject) => subject.account().map(|account| (subject.kind(), account)),
        None => Err(lab::Error::new("there is no subject to ask")),
    };
    let (kind, before) = account(place)?;
    let outcome = match place.tester.run(load) {
        Ok(outcome) => outcome,
        Err(TrialError::Interrupted) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let (_, after) = account(place)?;
    place.rest()?;
    let seen = Seen {
        sent_frames: outcome.sent,
        carried_frames: Some(outcome.received),
        connections: 0,
    };
    prove(kind, &before, &after, &seen)?;
    Ok(Some((outcome, busy_between(&before, &after))))
}

fn busy_between(before: &Account, after: &Account) -> Option<f64> {
    let (before, after): (Busy, Busy) = (before.busy?, after.busy?);
    after.ns_per_packet_since(&before)
}

/// Puts the rounds of one size into the report.
fn tell(
    arguments: &Arguments,
    traffic: &Traffic,
    bench: &mut Bench,
    rounds: &BTreeMap<String, Rounds>,
) {
    let over = match arguments.over {
        Over::Memif => "memif",
        Over::Veth => "veth",
    };
    let floor = rounds.get(Kind::TestpmdMac.name());
    let floor_ns = floor
        .map(|floor| median(&floor.busy_ns))
        .filter(|ns| ns.is_finite());
    for (name, rounds) in rounds {
        let busy = format!("loop.{over}.{}", traffic.name);
        let carried = format!("forward.{over}.{}", traffic.name);
        if !rounds.busy_ns.is_empty() {
            let measured = match floor_ns {
                Some(floor) if name == TIDEGATE => {
                    Measured::new(&busy, NS_PER_PACKET, &rounds.busy_ns, floor, GOAL)
                }
                Some(floor) => Measured::beside(&busy, NS_PER_PACKET, &rounds.busy_ns, floor),
                None => Measured::alone(&busy, NS_PER_PACKET, &rounds.busy_ns),
            };
            let note = "by the subject's own account of turns that found packets";
            bench
                .report
                .add(measured.of(name).disturbed(rounds.disturbance).note(note));
        }
        let forwarded =
            Measured::alone(&carried, crate::report::FRAMES_PER_S, &rounds.frames_per_s);
        let note = "what came back while the tester sent all it could";
        bench
            .report
            .add(forwarded.of(name).disturbed(rounds.disturbance).note(note));
    }
}
