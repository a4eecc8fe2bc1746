//! Random schedules, and those that once failed.

use std::fmt::Write;

use dataplane::counters::{Counters, Event};
use dataplane::drop_reason::DropReason;
use dataplane::guard::config::Mode;
use simulator::scenario::Scenario;

/// How many seeds are tried unless `TIDEGATE_SIM_SEEDS` says otherwise: what ends in about a minute
/// on two slow cores.
const SEEDS: u64 = 400;

/// Runs these seeds on two threads.
fn run(seeds: impl Iterator<Item = u64>) {
    let seeds: Vec<u64> = seeds.collect();
    let failures: Vec<String> = std::thread::scope(|scope| {
        let halves = [0, 1].map(|half| {
            let mine: Vec<u64> = seeds.iter().copied().skip(half).step_by(2).collect();
            scope.spawn(move || {
                let mut failures = Vec::new();
                for seed in mine {
                    if let Err(failure) = Scenario::random(seed).run() {
                        failures.push(failure.to_string());
                        if failures.len() == 3 {
                            break;
                        }
                    }
                }
                failures
            })
        });
        halves
            .into_iter()
            .flat_map(|half| half.join().expect("a run's panic is its failure"))
            .collect()
    });
    let mut report = String::new();
    for failure in &failures {
        let _ = writeln!(report, "{failure}\n");
    }
    assert!(failures.is_empty(), "{report}{} failed", failures.len());
}

fn number_in(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is no number: {text}")),
    )
}

#[test]
fn random_schedules_keep_every_promise() {
    // CASES 1 to 5, 9, 11 to 13
    match number_in("TIDEGATE_SEED") {
        Some(seed) => run(seed..=seed),
        None => run(0..number_in("TIDEGATE_SIM_SEEDS").unwrap_or(SEEDS)),
    }
}

#[test]
fn schedules_on_a_wire_do_what_only_a_wire_does() {
    // CASES 13, 14
    let mut total = Counters::default();
    let wires = (0..).map(Scenario::random).filter(|scenario| {
        let appliance = &scenario.appliance;
        appliance.wire.is_some() && appliance.mode == Mode::Always
    });
    for scenario in wires.take(12) {
        let outcome = scenario.run().unwrap_or_else(|failure| panic!("{failure}"));
        total.merge(&outcome.counters);
    }
    let events = [
        Event::Bridged,
        Event::EchoCarried,
        Event::EchoReturned,
        Event::EchoRepeated,
        Event::EchoSilent,
        Event::EchoLimited,
        Event::EchoProbed,
        Event::CookieSent,
    ];
    for event in events {
        assert!(total.event(event) > 0, "{}", event.label());
    }
    for reason in [DropReason::EchoForged, DropReason::EchoMisplaced] {
        assert!(total.drops(reason) > 0, "{}", reason.label());
    }
}

#[test]
fn what_once_failed_does_not_fail_again() {
    let corpus = include_str!("regressions.txt");
    let seeds = corpus.lines().filter_map(|line| {
        let number = line.split('#').next().unwrap_or_default().trim();
        (!number.is_empty()).then(|| number.parse().expect("a line begins with a seed"))
    });
    run(seeds);
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    for seed in 0..3 {
        let hash = || {
            Scenario::random(seed)
                .run()
                .unwrap_or_else(|failure| panic!("{failure}"))
                .hash
        };
        assert_eq!(hash(), hash(), "seed {seed}");
    }
}
