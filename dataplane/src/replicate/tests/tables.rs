//! Whole tables, fetched by who comes late or was away.

use super::rig::{Net, Weather, flow, record};
use crate::replicate::Audience;
use crate::replicate::frame::EVERYONE;
use crate::replicate::record::Stage;
use crate::replicate::status::PeerState;
use crate::replicate::tally::Tally;

const MANY: u32 = 3_000;

fn fill(net: &mut Net, place: usize, flows: std::ops::Range<u32>) {
    for number in flows {
        net.say(
            place,
            &record(number, 1, Stage::Established, 0),
            Audience::All,
        );
        if number % 100 == 0 {
            net.run_ms(1);
        }
    }
}

#[test]
fn who_comes_late_fetches_from_the_one_that_has_lived_longest() {
    // CASES 17
    let mut net = Net::new(3, 1, |config| config.page_places = 64);
    net.start(1);
    net.run_ms(2_000);
    net.start(0);
    net.run_ms(1_000);
    fill(&mut net, 0, 0..MANY);
    net.run_ms(100);
    net.start(2);
    net.run_ms(1_000);
    net.agrees().unwrap();
    assert_eq!(net.guards[2].holds().len(), MANY as usize);
    let fetched: Vec<_> = net.guards[2]
        .peer()
        .status()
        .iter()
        .map(|peer| peer.resyncs)
        .collect();
    assert_eq!(fetched, [0, 1]);
    // Those who were there had nothing to fetch from the new one.
    assert_eq!(net.guards[0].tally(Tally::ResyncStarted), 1);
}

#[test]
fn two_halves_of_a_split_agree_again_by_repair_or_by_tables() {
    // CASES 17
    for (made, by_tables) in [(20, false), (MANY, true)] {
        let mut net = Net::new(4, 1, |_| ()).with_all_started();
        net.run_ms(2_000);
        let fetched = net.guards[0].tally(Tally::ResyncStarted);
        net.halves = vec![0, 0, 1, 1];
        net.run_ms(1_000);
        assert_eq!(net.guards[0].state_of(3), PeerState::Dead);
        fill(&mut net, 0, 0..made);
        fill(&mut net, 3, made..2 * made);
        net.run_ms(100);
        assert_eq!(net.guards[1].holds().len(), made as usize);
        net.halves.fill(0);
        net.run_ms(2_000);
        net.agrees().unwrap();
        assert_eq!(net.guards[1].holds().len(), 2 * made as usize);
        let fetched = net.guards[0].tally(Tally::ResyncStarted) - fetched;
        assert_eq!(fetched > 0, by_tables);
        let asked = net.guards[0].tally(Tally::GapAsked);
        assert!(asked > 0 || by_tables);
    }
}

#[test]
fn live_records_go_before_tables() {
    // CASES 15
    let mut net = Net::new(2, 1, |config| config.page_places = 4_096);
    net.start(0);
    net.run_ms(2_000);
    for number in 0..40_000 {
        net.say(0, &record(number, 1, Stage::Established, 0), Audience::All);
    }
    net.guards[0].workers[0].portion = Some(4_096);
    net.start(1);
    let mut payload = [0; 2_048];
    let mut while_fetching = 0;
    for number in 0..3_000 {
        net.run_until(net.now_ns + 20_000);
        let guard = net.guards[0].peer();
        if guard.peers[0].has_bulk() {
            while_fetching += 1;
            net.say(
                0,
                &record(50_000 + number, 1, Stage::Established, 0),
                Audience::All,
            );
            let (_, length) = net.guards[0].peer().next_datagram(&mut payload).unwrap();
            assert!(length > 100);
            assert_eq!(payload[3], EVERYONE, "{number}");
        }
    }
    assert!(while_fetching > 3);
}

#[test]
fn tables_come_over_a_bad_link_in_smaller_parts() {
    // CASES 15
    let mut net = Net::new(2, 7, |_| ());
    net.weather = Weather {
        loss_percent: 30,
        double_percent: 10,
        delay_ns: 300_000,
        jitter_ns: 3_000_000,
        late_percent: 3,
    };
    net.start(0);
    net.run_ms(2_000);
    for number in 0..1_000 {
        net.say(0, &record(number, 1, Stage::Established, 0), Audience::All);
    }
    net.start(1);
    net.run_ms(20_000);
    assert_eq!(net.guards[1].holds().len(), 1_000);
    assert!(net.guards[1].tally(Tally::PageRetried) > 0);
}

#[test]
fn a_burst_larger_than_the_history_is_made_up_for_by_tables() {
    // CASES 15
    let mut net = Net::new(2, 3, |config| config.history_batches = 8).with_all_started();
    net.run_ms(2_000);
    net.weather.loss_percent = 60;
    for round in 0..20 {
        for number in 0..1_000 {
            net.say(
                0,
                &record(number, 1, Stage::Established, round),
                Audience::All,
            );
        }
        net.run_ms(20);
    }
    net.weather.loss_percent = 0;
    net.run_ms(3_000);
    net.agrees().unwrap();
    assert_eq!(net.guards[1].get(&flow(999)).unwrap().client_next, 19);
    assert!(net.guards[1].tally(Tally::BatchGone) > 0);
    assert!(net.guards[1].tally(Tally::ResyncFinished) > 1);
}

#[test]
fn reordering_alone_causes_no_requests() {
    // CASES 15
    let mut net = Net::new(2, 3, |_| ()).with_all_started();
    net.run_ms(2_000);
    net.weather.jitter_ns = 1_500_000;
    for round in 0..200 {
        for number in 0..30 {
            net.say(
                0,
                &record(number, 1, Stage::Established, round),
                Audience::All,
            );
        }
        net.run_until(net.now_ns + 100_000);
    }
    net.run_ms(100);
    net.agrees().unwrap();
    assert_eq!(net.guards[1].tally(Tally::GapAsked), 0);
}

#[test]
fn what_only_a_dead_guard_s_last_hearer_knows_reaches_the_others() {
    // CASES 17
    let mut net = Net::new(3, 3, |_| ()).with_all_started();
    net.run_ms(2_000);
    // Guard 2 is cut off while guard 0 says its last words to guard 1.
    net.halves = vec![0, 0, 1];
    for number in 0..100 {
        net.say(0, &record(number, 1, Stage::Established, 0), Audience::All);
    }
    net.run_ms(60);
    net.crash(0);
    net.run_ms(1);
    net.halves.fill(0);
    net.run_ms(2_000);
    assert_eq!(net.guards[2].holds().len(), 100);
    assert_eq!(net.guards[2].holds(), net.guards[1].holds());
    net.start(0);
    net.run_ms(2_000);
    net.agrees().unwrap();
    assert_eq!(net.guards[0].holds().len(), 100);
}
