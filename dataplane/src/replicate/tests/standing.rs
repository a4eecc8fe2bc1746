//! How guards stand when links fail, guards die, and guards leave.

use super::rig::{MS, Net, flow, record};
use crate::replicate::Audience;
use crate::replicate::config::ReplicatorConfig;
use crate::replicate::record::Stage;
use crate::replicate::standing::Standing::{self, CatchingUp, CutOff, Degraded, InStep};
use crate::replicate::status::PeerEvent;

fn in_step(guards: usize) -> Net {
    let mut net = Net::new(guards, 1, |_| ()).with_all_started();
    net.run_ms(2_000);
    assert_eq!(standings(&net), vec![InStep; guards]);
    net
}

/// Of each guard that runs.
fn standings(net: &Net) -> Vec<Standing> {
    let running = net
        .guards
        .iter()
        .filter_map(|guard| guard.replicator.as_ref());
    running.map(|replicator| replicator.standing()).collect()
}

fn changes(net: &mut Net, place: usize) -> Vec<Standing> {
    let events = net.guards[place].events.drain(..);
    let changes = events.filter_map(|event| match event {
        PeerEvent::Standing(standing) => Some(standing),
        _ => None,
    });
    changes.collect()
}

#[test]
fn of_two_guards_without_a_link_the_lower_number_carries() {
    let mut net = in_step(2);
    for place in 0..2 {
        assert_eq!(changes(&mut net, place).last(), Some(&InStep));
    }
    net.halves = vec![0, 1];
    net.run_ms(200);
    assert_eq!(standings(&net), [InStep, InStep]);
    net.run_ms(200);
    assert_eq!(standings(&net), [Degraded, CutOff]);
    assert_eq!(changes(&mut net, 0), [Degraded]);
    assert_eq!(changes(&mut net, 1), [CutOff]);
    // What both open meanwhile is unknown to the other one.
    for number in 0..2_000 {
        let place = number as usize % 2;
        let opened = record(number, 1, Stage::Established, 0);
        net.say(place, &opened, Audience::All);
    }
    net.halves = vec![0, 0];
    net.run_ms(1_500);
    assert_eq!(standings(&net), [InStep, InStep]);
    assert!(net.guards[0].get(&flow(1)).is_some());
    assert_eq!(changes(&mut net, 1).last(), Some(&InStep));
}

#[test]
fn the_smaller_part_of_a_site_is_cut_off() {
    let mut net = in_step(3);
    net.halves = vec![0, 1, 1];
    net.run_ms(500);
    assert_eq!(standings(&net), [CutOff, Degraded, Degraded]);
    let mut net = in_step(4);
    net.halves = vec![1, 0, 0, 1];
    net.run_ms(500);
    assert_eq!(standings(&net), [Degraded, CutOff, CutOff, Degraded]);
}

#[test]
fn a_dead_guard_degrades_the_others_and_one_that_left_does_not() {
    let mut net = in_step(3);
    net.crash(2);
    net.run_ms(500);
    assert_eq!(standings(&net), [Degraded; 2]);
    let mut net = in_step(2);
    net.guards[0].peer().leave();
    net.drain(0);
    net.run_ms(10);
    net.crash(0);
    net.run_ms(1_000);
    assert_eq!(standings(&net), [InStep]);
    // When it comes back, the one that stayed carries on.
    changes(&mut net, 1);
    net.start(0);
    net.run_ms(2_000);
    assert_eq!(standings(&net), [InStep; 2]);
    let changes = changes(&mut net, 1);
    assert!(changes.iter().all(|it| it.may_carry()), "{changes:?}");
}

#[test]
fn a_guard_that_meets_nobody_waits_before_it_says_so() {
    let wait_ms = |config: &ReplicatorConfig| 3 * config.dead_ns / MS;
    for (place, expected) in [(0, Degraded), (1, CutOff)] {
        let mut net = Net::new(2, 1, |_| ());
        net.start(place);
        net.run_ms(wait_ms(&net.guards[place].config) - 100);
        assert_eq!(standings(&net), [CatchingUp]);
        net.run_ms(200);
        assert_eq!(standings(&net), [expected]);
    }
    let mut alone = Net::new(1, 1, |_| ()).with_all_started();
    alone.run_ms(10);
    assert_eq!(standings(&alone), [InStep]);
}
