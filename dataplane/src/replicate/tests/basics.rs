//! What must hold when nothing is lost.

use super::rig::{MS, Net, flow, id_of, record};
use crate::replicate::Audience;
use crate::replicate::config::Transport;
use crate::replicate::record::Stage;
use crate::replicate::status::{PeerEvent, PeerState};
use crate::replicate::tally::Tally;

fn in_step(guards: usize) -> Net {
    let mut net = Net::new(guards, 1, |_| ()).with_all_started();
    net.run_ms(2_000);
    net.agrees().unwrap();
    net
}

#[test]
fn guards_that_start_together_come_in_step() {
    for guards in 1..=5 {
        let net = in_step(guards);
        for guard in &net.guards {
            for worker in &guard.workers {
                let others = guards as u8 - 1;
                assert_eq!(worker.peers.unwrap_or(0), others);
            }
        }
    }
}

#[test]
fn a_record_reaches_everyone_and_the_worker_of_its_flow() {
    for transport in [Transport::PointToPoint, Transport::Group] {
        let mut net = Net::new(3, 1, |config| config.transport = transport).with_all_started();
        net.run_ms(2_000);
        for number in 0..500 {
            net.say(1, &record(number, 1, Stage::Established, 0), Audience::All);
        }
        net.run_ms(1);
        net.agrees().unwrap();
        assert_eq!(net.guards[0].holds().len(), 500);
        let sent = net.guards[1].tally(Tally::FrameSent);
        net.run_ms(200);
        assert!(net.guards[1].tally(Tally::FrameSent) - sent < 20);
        assert_eq!(net.guards[0].tally(Tally::GapAsked), 0);
        assert_eq!(net.guards[0].tally(Tally::ResyncStarted), 1);
    }
}

#[test]
fn the_director_is_told_and_asked_and_its_answer_reaches_the_asker() {
    let mut net = in_step(3);
    for number in 0..60 {
        net.say(
            0,
            &record(number, 1, Stage::Established, 0),
            Audience::Director,
        );
    }
    net.run_ms(1);
    let known: Vec<_> = (1..3)
        .map(|place| net.guards[place].holds().len())
        .collect();
    let to_self = net.guards[0].tally(Tally::RecordToSelf);
    assert_eq!(known.iter().sum::<usize>() as u64 + to_self, 60);
    assert!(known.iter().all(|&known| known > 5), "{known:?}");
    for number in 0..90 {
        net.ask(1, flow(number));
        net.run_ms(1);
        let answered = net.guards[1].get(&flow(number)).is_some();
        let unknown = net.guards[1]
            .workers
            .iter()
            .any(|worker| worker.unknown.contains(&flow(number)));
        if number < 60 {
            // Of its own flows it asks who would be the director without it.
            assert!(answered || !unknown, "{number}");
        } else {
            let director = net.guards[1].peer().directors.of(&flow(number)).0;
            assert_eq!(unknown, director != Some(id_of(1)), "{number}");
        }
    }
    assert!(net.guards[1].tally(Tally::UnknownIgnored) > 0);
    assert_eq!(net.guards[1].tally(Tally::QuerySent), 90);
}

#[test]
fn death_return_and_good_bye_are_seen_and_told() {
    let mut net = in_step(3);
    net.crash(2);
    net.run_ms(240);
    assert_eq!(net.guards[0].state_of(3), PeerState::InStep);
    net.run_ms(100);
    assert_eq!(net.guards[0].state_of(3), PeerState::Dead);
    assert_eq!(net.guards[0].workers[0].peers, Some(1));
    net.say(0, &record(1, 1, Stage::Established, 0), Audience::All);
    net.start(2);
    net.run_ms(500);
    net.agrees().unwrap();
    assert_eq!(net.guards[2].holds().len(), 1);
    net.say(1, &record(2, 1, Stage::Established, 0), Audience::All);
    // It goes when all have heard what it had to say.
    net.guards[1].peer().leave();
    net.run_ms(100);
    assert!(net.guards[1].peer().has_left());
    net.crash(1);
    net.run_ms(1);
    assert_eq!(net.guards[0].state_of(2), PeerState::Left);
    assert_eq!(net.guards[2].state_of(2), PeerState::Left);
    assert!(net.guards[2].get(&flow(2)).is_some());
    let id = id_of(1);
    let said = PeerEvent::State {
        peer: id,
        from: PeerState::InStep,
        to: PeerState::Left,
    };
    assert!(net.guards[0].events.contains(&said));
    net.run_ms(1_000);
    net.agrees().unwrap();
}

#[test]
fn a_stall_of_ours_does_not_make_the_others_dead() {
    // CASES 17
    let mut net = in_step(2);
    net.guards[0].stalled_until_ns = net.now_ns + 5_000 * MS;
    net.run_ms(4_000);
    assert_eq!(net.guards[1].state_of(1), PeerState::Dead);
    net.run_ms(1_500);
    let is_death = |event: &PeerEvent| {
        matches!(
            event,
            PeerEvent::State {
                to: PeerState::Dead,
                ..
            }
        )
    };
    assert!(!net.guards[0].events.iter().any(is_death));
    net.run_ms(200);
    net.agrees().unwrap();
}

#[test]
fn a_peer_that_does_not_read_lags_and_is_not_dead() {
    let mut net = Net::new(2, 1, |config| config.history_batches = 4_096).with_all_started();
    net.run_ms(2_000);
    net.guards[1]
        .workers
        .iter_mut()
        .for_each(|worker| worker.is_stuck = true);
    let room = crate::limits::PEER_NEWS as u32;
    for number in 0..room + 3_000 {
        net.say(0, &record(number, 1, Stage::Established, 0), Audience::All);
        if number % 500 == 0 {
            net.run_ms(1);
        }
    }
    net.run_ms(1_000);
    assert_eq!(net.guards[0].state_of(2), PeerState::Lagging);
    assert!(net.guards[0].peer().status()[0].lag_batches > 10);
    assert!(net.guards[1].tally(Tally::BatchUnread) > 0);
    net.guards[1]
        .workers
        .iter_mut()
        .for_each(|worker| worker.is_stuck = false);
    net.run_ms(3_000);
    net.agrees().unwrap();
}
