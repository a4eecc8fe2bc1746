//! Whatever comes, in whatever order, and however little room there is: every frame is accounted
//! for after every poll, and once time has passed nothing is left behind. The rig checks the sums;
//! these tests make the mixes.

use std::cell::RefCell;

use dataplane::counters::{Counters, Event};
use dataplane::drop_reason::DropReason;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::rig::described;
use crate::rig::mixes::{Stage, setups, steps};

#[test]
fn every_frame_is_accounted_for_whatever_comes() {
    // CASES 1 to 5, 9, 11 to 13: whichever of them the mixes meet.
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let all = RefCell::new(Counters::default());
    let mixes = (setups(), prop::collection::vec(steps(), 1..160));
    let run = runner.run(&mixes, |(setup, steps)| {
        let mut stage = Stage::new(setup);
        for step in &steps {
            stage.take(step);
        }
        all.borrow_mut().merge(&stage.end());
        Ok::<_, TestCaseError>(())
    });
    if let Err(failure) = run {
        panic!("{failure}");
    }
    let all = all.into_inner();
    // The mixes reach what they are for.
    for event in [
        Event::SessionOpened,
        Event::Spliced,
        Event::Reassembled,
        Event::IcmpErrorSent,
        Event::HandedOff,
        Event::BufferUnavailable,
        Event::SessionRefused,
        Event::ChallengeSent,
    ] {
        assert!(
            all.event(event) > 0,
            "{}: {}",
            event.label(),
            described(&all)
        );
    }
    for reason in [
        DropReason::CookieInvalid,
        DropReason::TransmitFull,
        DropReason::FragmentTimeout,
        DropReason::FragmentOverlap,
        DropReason::NeighbourUnresolved,
        DropReason::ServerSilent,
        DropReason::MalformedTcpOptions,
        DropReason::IcmpUnmatched,
    ] {
        assert!(
            all.drops(reason) > 0,
            "{}: {}",
            reason.label(),
            described(&all)
        );
    }
}
