//! Frames that are refused, each for its own reason, and what a newer version may send.

use super::rig::{Net, Random, address_of, flow, id_of, keys, record};
use crate::replicate::Audience;
use crate::replicate::frame::{BootId, EVERYONE, HEADER_BYTES, Header, MINOR};
use crate::replicate::item::{self, Hello};
use crate::replicate::keys::{Keys, ReplicationKey};
use crate::replicate::record::{RECORD_BYTES, RECORD_VERSION, Stage};
use crate::replicate::status::PeerEvent;
use crate::replicate::tally::Tally;

/// A frame as whoever has the key can make it.
fn forged(header: &Header, items: &[u8]) -> Vec<u8> {
    let keys = Keys::new(&keys());
    let clear = header.write();
    let mut frame = clear.to_vec();
    frame.extend(keys.check(0, &clear));
    frame.extend(items);
    keys.derive(0, header.sender, header.boot)
        .seal(header.number, &mut frame);
    frame
}

fn header(net: &Net, sender: usize, number: u64) -> Header {
    Header {
        minor: MINOR,
        sender: id_of(sender),
        target: EVERYONE,
        epoch: 1_000,
        boot: net.guards[sender].config.boot,
        number,
    }
}

/// A batch of one record that nobody else has.
fn batch(number: u64, flow: u32) -> Vec<u8> {
    let mut items = Vec::new();
    let record = record(flow, 9, Stage::Established, 0);
    item::write_batch(&mut items, number, &record.write());
    items
}

/// Far ahead of what the guards themselves send in these tests.
const AHEAD: u64 = 3_000;

fn in_step() -> Net {
    let mut net = Net::new(2, 1, |_| ()).with_all_started();
    net.run_ms(2_000);
    net.agrees().unwrap();
    net
}

/// Delivers a frame of guard 1's to guard 0, which refuses it and does not change.
fn is_refused(net: &mut Net, frame: &[u8], source: usize, why: Tally) {
    let held = net.guards[0].holds();
    let time = net.time();
    net.guards[0].peer().pass_time(time);
    let before = net.guards[0].peer().status();
    let counted = net.guards[0].tally(why);
    net.deliver(address_of(source), 0, frame);
    assert_eq!(net.guards[0].tally(why), counted + 1, "{why:?}");
    assert_eq!(net.guards[0].holds(), held, "{why:?}");
    assert_eq!(net.guards[0].peer().status(), before, "{why:?}");
    assert_eq!(net.guards[0].peer().news_waiting(), 0, "{why:?}");
}

#[test]
fn each_refused_frame_is_counted_under_its_reason_and_changes_nothing() {
    // CASES 14
    let mut net = in_step();
    let good = forged(&header(&net, 1, AHEAD), &batch(1, 1));
    let with = |at: usize, octet: u8| {
        let mut frame = good.clone();
        frame[at] = octet;
        frame
    };
    is_refused(&mut net, &[], 1, Tally::RefusedTruncated);
    is_refused(&mut net, &good[..55], 1, Tally::RefusedTruncated);
    is_refused(&mut net, &[1; 2_001], 1, Tally::RefusedOversized);
    is_refused(&mut net, &with(0, 2), 1, Tally::RefusedVersion);
    is_refused(&mut net, &with(2, 77), 1, Tally::RefusedSender);
    is_refused(&mut net, &with(2, 1), 1, Tally::RefusedOwnNumber);
    is_refused(&mut net, &good, 2, Tally::RefusedSource);
    is_refused(&mut net, &with(7, 1), 1, Tally::RefusedEpoch);
    is_refused(&mut net, &with(1, MINOR + 1), 1, Tally::RefusedCheck);
    is_refused(&mut net, &with(31, 1), 1, Tally::RefusedCheck);
    is_refused(&mut net, &with(HEADER_BYTES, 99), 1, Tally::RefusedTag);
    is_refused(&mut net, &good[..good.len() - 1], 1, Tally::RefusedTag);
    let for_other = Header {
        target: 9,
        ..header(&net, 1, AHEAD)
    };
    let for_other = forged(&for_other, &batch(1, 1));
    is_refused(&mut net, &for_other, 1, Tally::FrameForOther);
    let zero = forged(&header(&net, 1, 0), &batch(1, 1));
    is_refused(&mut net, &zero, 1, Tally::RefusedReplayed);
    // None of them spoiled the good one.
    net.deliver(address_of(1), 0, &good);
    assert!(net.guards[0].get(&flow(1)).is_some());
    is_refused(&mut net, &good, 1, Tally::RefusedReplayed);
    assert!(
        net.guards[0]
            .events
            .iter()
            .all(|event| !matches!(event, PeerEvent::NumberTaken { .. }))
    );
}

#[test]
fn over_counted_and_cut_items_are_refused_as_a_whole() {
    // CASES 14
    let mut net = in_step();
    let mut number = AHEAD;
    let good = batch(1, 1);
    for place in 0..16 {
        for octet in [0, 1, 2, 0x7f, 0xff] {
            // Before it stands a batch that is sound; it too must not be read.
            let mut items = batch(2, 2);
            let mut bad = good.clone();
            bad[place] = octet;
            items.extend(bad);
            if item::are_sound(&items).is_ok() {
                continue;
            }
            number += 1;
            let frame = forged(&header(&net, 1, number), &items);
            is_refused(&mut net, &frame, 1, Tally::RefusedItems);
        }
    }
    for cut in 1..good.len() {
        number += 1;
        let frame = forged(&header(&net, 1, number), &good[..cut]);
        is_refused(&mut net, &frame, 1, Tally::RefusedItems);
    }
    assert!(net.guards[0].tally(Tally::RefusedItems) > 100);
}

#[test]
fn earlier_lives_and_such_as_do_not_know_ours_open_nothing() {
    // CASES 14, 17
    let mut net = in_step();
    let present = net.guards[1].config.boot;
    let earlier = BootId {
        started_ms: present.started_ms - 1,
        random: 5,
    };
    let later = BootId {
        started_ms: present.started_ms + 1,
        random: 5,
    };
    let of = |boot, number| Header {
        boot,
        ..header(&net, 1, number)
    };
    let old = forged(&of(earlier, 1), &batch(1, 1));
    let no_greeting = forged(&of(later, 1), &batch(1, 1));
    let mut greeting = Vec::new();
    let hello = Hello {
        sent_ns: 1,
        ..Hello::default()
    };
    hello.write(&mut greeting);
    item::write_reports(&mut greeting, &[]);
    let greeting = forged(&of(later, 2), &greeting);
    let after_greeting = forged(&of(later, 3), &batch(1, 1));
    is_refused(&mut net, &old, 1, Tally::RefusedOldBoot);
    is_refused(&mut net, &no_greeting, 1, Tally::RefusedNotFresh);
    // The greeting is heard and answered; but it does not say that it heard us.
    is_refused(&mut net, &greeting, 1, Tally::FrameReceived);
    is_refused(&mut net, &after_greeting, 1, Tally::RefusedNotFresh);
    is_refused(&mut net, &greeting, 1, Tally::RefusedReplayed);
    net.run_ms(1_000);
    net.agrees().unwrap();
}

#[test]
fn a_recording_of_all_that_was_ever_said_opens_nothing_in_a_new_life() {
    // CASES 14
    let mut net = Net::new(3, 1, |_| ());
    net.recorded = Some(Vec::new());
    let mut net = net.with_all_started();
    net.run_ms(2_000);
    for number in 0..200 {
        net.say(1, &record(number, 1, Stage::Established, 0), Audience::All);
    }
    net.run_ms(500);
    assert_eq!(net.guards[0].holds().len(), 200);
    let recorded = net.recorded.take().unwrap();
    (0..3).for_each(|place| net.crash(place));
    net.run_ms(1_000);
    // Only one is there again, so nothing but the recording says anything of the others.
    net.start(0);
    for (from, to, frame) in &recorded {
        if *to == 0 {
            net.deliver(address_of(*from), 0, frame);
        }
    }
    net.run_ms(2_000);
    assert!(net.guards[0].holds().is_empty());
    assert_eq!(net.guards[0].workers[0].peers, Some(0));
    (1..3).for_each(|place| net.start(place));
    net.run_ms(3_000);
    net.agrees().unwrap();
    for (from, to, frame) in &recorded {
        net.deliver(address_of(*from), *to, frame);
    }
    net.run_ms(1_000);
    net.agrees().unwrap();
    assert!(net.guards[0].holds().is_empty());
}

#[test]
fn a_guard_whose_clock_was_set_back_is_believed_when_the_later_life_is_silent() {
    // CASES 17
    let mut net = in_step();
    net.crash(1);
    net.run_ms(100);
    net.start(1);
    let set_back = BootId {
        started_ms: 1_000,
        random: 3,
    };
    net.restart_as(1, set_back);
    net.run_ms(1_000);
    assert!(net.guards[0].tally(Tally::RefusedOldBoot) > 0);
    net.run_ms(4_000);
    net.agrees().unwrap();
}

#[test]
fn work_for_a_flood_is_bounded() {
    // CASES 14
    let mut net = in_step();
    let mut random = Random(5);
    // Of a stranger without the key: no key is derived.
    for _ in 0..2_000 {
        let mut header = header(&net, 1, random.next());
        header.boot.started_ms += random.below(1 << 40);
        let mut frame = header.write().to_vec();
        frame.extend((0..100).map(|_| random.next() as u8));
        net.deliver(address_of(1), 0, &frame);
    }
    assert_eq!(net.guards[0].tally(Tally::RefusedCheck), 2_000);
    // Of somebody who can make the check but not the rest: few are.
    for life in 0..2_000 {
        let mut header = header(&net, 1, 1);
        header.boot.started_ms += 1 + life;
        let mut frame = forged(&header, &batch(1, 1));
        let last = frame.len() - 1;
        frame[last] ^= 1;
        net.deliver(address_of(1), 0, &frame);
    }
    assert!(net.guards[0].tally(Tally::RefusedTag) < 40);
    assert!(net.guards[0].tally(Tally::RefusedBudget) > 1_950);
    net.run_ms(1_000);
    net.agrees().unwrap();
}

#[test]
fn another_appliance_of_our_number_is_told_now_and_then() {
    let mut net = in_step();
    for number in 1..100 {
        let mut header = header(&net, 0, number);
        header.boot.random ^= 1;
        let frame = forged(&header, &batch(1, 1));
        is_refused(&mut net, &frame, 1, Tally::RefusedOwnNumber);
        net.run_ms(200);
    }
    let is_it = |event: &&PeerEvent| matches!(event, PeerEvent::NumberTaken { .. });
    let told = net.guards[0].events.iter().filter(is_it).count();
    assert_eq!(told, 2);
}

#[test]
fn what_a_newer_version_adds_is_passed_over() {
    let mut net = in_step();
    let mut items = vec![200, 0, 0, 3, 1, 2, 3];
    items.extend(batch(1, 1));
    let newer = Header {
        minor: MINOR + 1,
        ..header(&net, 1, AHEAD)
    };
    net.deliver(address_of(1), 0, &forged(&newer, &items));
    assert!(net.guards[0].get(&flow(1)).is_some());
    // Records that have become longer, one of them of a version that nobody knows here.
    let long = RECORD_BYTES + 6;
    let mut items = vec![item::kind::BATCH, 0];
    items.extend(((12 + 2 * long) as u16).to_be_bytes());
    items.extend(2u64.to_be_bytes());
    items.extend([0, 2, 0, long as u8]);
    for (number, version) in [(2, RECORD_VERSION), (3, RECORD_VERSION - 1)] {
        let mut bytes = record(number, 9, Stage::Established, 0).write().to_vec();
        bytes[0] = version;
        bytes.extend([7; 6]);
        items.extend(bytes);
    }
    let frame = forged(&header(&net, 1, AHEAD + 1), &items);
    net.deliver(address_of(1), 0, &frame);
    assert!(net.guards[0].get(&flow(2)).is_some());
    assert!(net.guards[0].get(&flow(3)).is_none());
    assert_eq!(net.guards[0].tally(Tally::RecordVersion), 1);
}

#[test]
fn keys_rotate_without_a_gap() {
    // CASES 14
    let begins_s = Net::new(1, 1, |_| ()).time().unix_s();
    let key = |not_before_s, octet| ReplicationKey {
        not_before_s,
        secret: [octet; 32],
    };
    let both = vec![key(1_000, 7), key(begins_s + 4, 8)];
    let mut net = Net::new(3, 1, |config| config.keys = both.clone()).with_all_started();
    // One of them has not been given the new key until shortly before it seals.
    let time = net.time();
    net.guards[2].peer().reconfigure(time, &keys());
    for second in 0..8 {
        if second == 3 {
            let time = net.time();
            net.guards[2].peer().reconfigure(time, &both);
        }
        net.say(0, &record(second, 1, Stage::Established, 0), Audience::All);
        net.run_ms(1_000);
    }
    net.agrees().unwrap();
    for guard in &net.guards {
        assert_eq!(guard.tally(Tally::RefusedEpoch), 0);
        assert_eq!(guard.tally(Tally::RefusedTag), 0);
    }
    let sealed = |net: &mut Net, place: usize| {
        let sealing = net.guards[place].peer().sealing.as_ref();
        sealing.map(|key| key.epoch)
    };
    assert_eq!(sealed(&mut net, 0), Some(begins_s as u32 + 4));
    // Without the new key nothing of the others can be read.
    let time = net.time();
    net.guards[2].peer().reconfigure(time, &keys());
    net.run_ms(200);
    assert!(net.guards[2].tally(Tally::RefusedEpoch) > 0);
    // Without any, nothing is sent, and nothing stops.
    net.guards[1].peer().reconfigure(time, &[]);
    net.say(1, &record(9, 1, Stage::Established, 0), Audience::All);
    net.run_ms(500);
    assert_eq!(net.guards[0].get(&flow(9)), None);
}
