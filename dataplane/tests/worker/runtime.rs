//! Where the worker says that its time went.

use dataplane::runtime::Stage;
use dataplane::worker::Time;

use crate::rig::conversation::Conversation;
use crate::rig::queues::CYCLES_PER_CALL;
use crate::rig::{Rig, Setup, Side};
use crate::steps::FAMILIES;

#[test]
fn every_measured_turn_goes_through_its_stages() {
    for workers in [1, 3] {
        let setup = Setup {
            workers,
            ..Setup::default()
        };
        let mut rig = Rig::new(setup);
        for worker in &mut rig.workers {
            worker.measure_one_turn_in(1);
        }
        for (number, family) in FAMILIES.into_iter().enumerate() {
            let mut talk = Conversation::new(family, number as u16);
            rig.open(&mut talk);
        }
        rig.settle();
        let counted = rig.counters();
        let figures: Vec<_> = rig.workers.iter().map(|worker| worker.runtime()).collect();
        let frames: u64 = figures.iter().map(|figures| figures.frames).sum();
        assert_eq!(frames, counted.event(dataplane::counters::Event::Received));
        let measured: u64 = figures.iter().map(|figures| figures.measured_frames).sum();
        let taken = counted.event(dataplane::counters::Event::TakenOver);
        assert_eq!(measured, frames + taken);
        for figures in figures {
            let turns = figures.measured_turns;
            let laps = |stage: Stage| figures.laps[stage as usize];
            // Once a turn each, and the peers twice.
            for stage in [
                Stage::TakeOver,
                Stage::Timers,
                Stage::Commands,
                Stage::Transmit,
            ] {
                assert_eq!(laps(stage), turns, "{stage:?}");
            }
            assert_eq!(laps(Stage::Peers), 2 * turns);
            // With every burst, and once more when nothing was left.
            assert_eq!(laps(Stage::Receive), turns + figures.calls);
            for stage in [Stage::Classify, Stage::LookUp, Stage::Handle] {
                assert_eq!(laps(stage), figures.calls, "{stage:?}");
            }
            // The rig's counter moves when it is read and when frames come or go.
            let moving = figures.cycles_of(Stage::Receive) + figures.cycles_of(Stage::Transmit);
            assert_eq!(moving, figures.all_cycles());
            assert!(figures.cycles_of(Stage::Receive) >= CYCLES_PER_CALL * laps(Stage::Receive));
        }
    }
}

#[test]
fn a_full_burst_is_told_apart() {
    let mut rig = Rig::new(Setup::default());
    let frame = rig.framed(Side::Outside, &Conversation::new(FAMILIES[0], 1).syn());
    for _ in 0..dataplane::limits::BURST + 5 {
        rig.arrive(Side::Outside, &frame);
    }
    rig.settle();
    let figures = rig.workers[0].runtime();
    assert!(figures.calls >= 2, "{figures:?}");
    assert_eq!(figures.full_calls, 1);
}

#[test]
fn turns_without_work_are_not_measured() {
    let mut rig = Rig::new(Setup::default());
    rig.settle();
    let worker = &mut rig.workers[0];
    worker.measure_one_turn_in(1);
    let time = Time {
        now_ns: rig.now_ns,
        ..Time::default()
    };
    for _ in 0..10 {
        assert_eq!(worker.poll(time), 0);
    }
    assert_eq!(worker.runtime(), dataplane::runtime::Figures::default());
}
