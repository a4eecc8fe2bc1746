//! Guards that share: every packet may take any way through any of them.

use std::fmt::Write;

use dataplane::counters::Event;
use dataplane::guard::config::Sharing;
use simulator::LinkSettings;
use simulator::sharing::{Shared, SharedOutcome, guard_settings};

/// How many seeds are tried unless `TIDEGATE_SIM_SEEDS` says otherwise.
const SEEDS: u64 = 400;

fn number_in(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is no number: {text}")),
    )
}

/// After how many failures each half of the seeds stops.
const TOLD: usize = 10;

/// Runs these seeds on two threads.
fn run(seeds: impl Iterator<Item = u64>) {
    let seeds: Vec<u64> = seeds.collect();
    let failures: Vec<String> = std::thread::scope(|scope| {
        let halves = [0, 1].map(|half| {
            let mine: Vec<u64> = seeds.iter().copied().skip(half).step_by(2).collect();
            scope.spawn(move || {
                let failed = |seed| {
                    let shared = Shared::random(seed);
                    let failure = shared.run().err()?;
                    let sharing = shared.guards[0].replication.as_ref().map(|it| it.sharing);
                    let sizes: Vec<_> = shared.guards.iter().map(|it| it.capacity).collect();
                    let (sync, troubles) = (&shared.sync, &shared.troubles);
                    Some(format!(
                        "{failure}\n{sharing:?}\n{sync:?}\n{troubles:?}\nroom for {sizes:?}"
                    ))
                };
                mine.into_iter().filter_map(failed).take(TOLD).collect()
            })
        });
        let all = halves.map(|half| half.join().expect("a run's panic is its failure"));
        all.into_iter().flat_map(|half: Vec<String>| half).collect()
    });
    let mut report = String::new();
    for failure in &failures {
        let _ = writeln!(report, "{failure}\n");
    }
    assert!(failures.is_empty(), "{report}{} failed", failures.len());
}

#[test]
fn whatever_befalls_the_guards_the_connections_end_well() {
    // CASES 15 to 17
    match number_in("TIDEGATE_SEED") {
        Some(seed) => run(seed..=seed),
        None => run(0..number_in("TIDEGATE_SIM_SEEDS").unwrap_or(SEEDS)),
    }
}

fn calm(seed: u64) -> SharedOutcome {
    let mut shared = Shared::random(seed);
    let guards = 3;
    shared.sync = LinkSettings::default();
    shared.troubles = Vec::new();
    shared.guards = (0..guards)
        .map(|guard| guard_settings(guard, guards, 1, Sharing::default()))
        .collect();
    shared.run().unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn most_packets_meet_a_guard_that_did_not_open_their_session() {
    let outcome = calm(1);
    let counted = |event| outcome.counters.event(event);
    let (spliced, never_met) = (counted(Event::Spliced), counted(Event::NeverMet));
    assert!(outcome.connections > 0 && spliced > 20, "{outcome:?}");
    assert!(never_met * 2 > spliced, "{never_met} of {spliced}");
    assert!(counted(Event::SessionLearned) >= outcome.connections as u64);
}
