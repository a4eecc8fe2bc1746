//! Tests of virtual reassembly. All of them are CASES 13.

use proptest::prelude::*;

use super::*;
use crate::context::Outbox;
use crate::counters::Counters;
use crate::io::PortId;
use crate::memory::{MemoryBuffer, MemoryIo};
use crate::parse::{Fragment, parse};
use crate::transmit::{Transmit, TransmitWay};
use crate::wire::bytes::put_u16;
use crate::wire::checksum::internet_checksum;

const INTERFACE: InterfaceId = InterfaceId(0);

struct Rig {
    reassembler: Reassembler<MemoryBuffer>,
    io: MemoryIo,
    counters: Counters,
    outbox: Outbox<MemoryBuffer>,
    transmit: Transmit<MemoryBuffer>,
    now_ns: u64,
    given: u64,
    taken: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Held,
    Complete(Vec<Vec<u8>>),
    Dropped(DropReason),
}

impl Rig {
    fn new() -> Self {
        Self {
            reassembler: Reassembler::new(3),
            io: MemoryIo::new(1),
            counters: Counters::default(),
            outbox: Outbox::new(),
            transmit: Transmit::new(&[TransmitWay::Queue]),
            now_ns: 50,
            given: 0,
            taken: 0,
        }
    }

    fn act<R>(
        &mut self,
        act: impl FnOnce(&mut Reassembler<MemoryBuffer>, &mut Context<'_, MemoryIo>) -> R,
    ) -> R {
        let mut ctx = Context {
            now_ns: self.now_ns,
            unix_ms: 0,
            io: &mut self.io,
            counters: &mut self.counters,
            outbox: &mut self.outbox,
            transmit: &mut self.transmit,
        };
        act(&mut self.reassembler, &mut ctx)
    }

    fn give(&mut self, frame: &[u8]) -> Outcome {
        let parsed = match parse(frame) {
            Ok(parsed) => parsed,
            Err(reason) => return Outcome::Dropped(reason),
        };
        assert_ne!(parsed.fragment, Fragment::Whole);
        self.given += 1;
        let buffer = MemoryBuffer::new(frame);
        let outcome = self.act(|reassembler, ctx| {
            match reassembler.insert(INTERFACE, buffer, &parsed, ctx) {
                FragmentOutcome::Held => Outcome::Held,
                FragmentOutcome::Complete(all) => {
                    for (buffer, facts) in &all {
                        assert_eq!(parse(buffer.bytes()).as_ref(), Ok(facts));
                    }
                    let frames = all.iter().map(|(buffer, _)| buffer.bytes().to_vec());
                    Outcome::Complete(frames.collect())
                }
                FragmentOutcome::Drop(buffer, reason) => {
                    ctx.discard(buffer, reason);
                    Outcome::Dropped(reason)
                }
            }
        });
        if let Outcome::Complete(frames) = &outcome {
            self.taken += frames.len() as u64;
        }
        self.balance();
        outcome
    }

    fn tick_after(&mut self, elapsed_ns: u64) {
        self.now_ns += elapsed_ns;
        self.act(|reassembler, ctx| reassembler.tick(ctx));
        self.balance();
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.counters.drops(reason)
    }

    /// Every fragment is held, has gone on, or was dropped for a reason.
    fn balance(&self) {
        let held = self.reassembler.held() as u64;
        assert_eq!(self.given, self.taken + held + self.counters.all_drops());
        let stored = self.reassembler.fragments.iter().flatten();
        let bytes: usize = stored.map(|stored| stored.buffer.bytes().len()).sum();
        assert_eq!(self.reassembler.held.bytes, bytes);
        assert_eq!(
            self.reassembler.held.datagrams,
            self.reassembler.slots.len()
        );
    }
}

/// One fragment to make.
#[derive(Clone, Copy)]
struct Cut {
    source: [u8; 4],
    id: u16,
    begin: usize,
    more: bool,
}

const fn cut(begin: usize, more: bool) -> Cut {
    Cut {
        source: [198, 51, 100, 7],
        id: 0x1234,
        begin,
        more,
    }
}

/// A UDP datagram's payload with its header: `length` octets in all.
fn datagram(length: usize) -> Vec<u8> {
    let mut datagram: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
    datagram[..4].copy_from_slice(&[0x30, 0x39, 0, 53]);
    put_u16(&mut datagram, 4, length as u16);
    datagram
}

fn v4(cut: Cut, data: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 9, 1, 8, 0];
    let mut header = [0u8; 20];
    header[0] = 0x45;
    put_u16(&mut header, 2, (20 + data.len()) as u16);
    put_u16(&mut header, 4, cut.id);
    put_u16(
        &mut header,
        6,
        (cut.begin / 8) as u16 | u16::from(cut.more) << 13,
    );
    header[8..10].copy_from_slice(&[64, 17]);
    header[12..16].copy_from_slice(&cut.source);
    header[16..20].copy_from_slice(&[10, 0, 0, 10]);
    let checksum = internet_checksum(&header);
    put_u16(&mut header, 10, checksum);
    frame.extend(header);
    frame.extend(data);
    frame
}

fn v6(cut: Cut, data: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 9, 1, 0x86, 0xdd];
    // A hop-by-hop header stands before the fragment header.
    let length = (16 + data.len()) as u16;
    frame.extend([0x60, 0, 0, 0, (length >> 8) as u8, length as u8, 0, 64]);
    frame.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0]);
    frame.extend(cut.source);
    frame.extend([0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10]);
    frame.extend([44, 0, 1, 4, 0, 0, 0, 0]);
    let field = cut.begin as u16 | u16::from(cut.more);
    frame.extend([17, 0, (field >> 8) as u8, field as u8, 0, 0]);
    frame.extend(cut.id.to_be_bytes());
    frame.extend(data);
    frame
}

type Make = fn(Cut, &[u8]) -> Vec<u8>;
const BOTH: [Make; 2] = [v4, v6];

#[test]
fn a_datagram_goes_on_in_order_however_it_comes() {
    let data = datagram(48);
    for make in BOTH {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [1, 0, 2]] {
            let mut rig = Rig::new();
            let frames = [
                make(cut(0, true), &data[..16]),
                make(cut(16, true), &data[16..32]),
                make(cut(32, false), &data[32..]),
            ];
            assert_eq!(rig.give(&frames[order[0]]), Outcome::Held);
            assert_eq!(rig.give(&frames[order[1]]), Outcome::Held);
            let complete = Outcome::Complete(frames.to_vec());
            assert_eq!(rig.give(&frames[order[2]]), complete);
            assert_eq!(rig.counters.event(Event::Reassembled), 1);
            assert_eq!(rig.reassembler.next_deadline_ns(), None);
        }
    }
}

#[test]
fn a_tiny_first_fragment_is_refused() {
    let data = datagram(48);
    for make in BOTH {
        let mut tcp = make(cut(0, true), &data[..16]);
        // Sixteen octets do not hold a TCP header.
        let protocol_at = if tcp[12] == 8 { 23 } else { 14 + 48 };
        tcp[protocol_at] = 6;
        let refused = Outcome::Dropped(DropReason::FragmentMalformed);
        assert_eq!(Rig::new().give(&tcp), refused);
    }
}

#[test]
fn what_is_misaligned_empty_or_too_far_is_refused() {
    let data = datagram(1400);
    let refused = Outcome::Dropped(DropReason::FragmentMalformed);
    for make in BOTH {
        let mut rig = Rig::new();
        assert_eq!(rig.give(&make(cut(0, true), &data[..20])), refused);
        assert_eq!(rig.give(&make(cut(16, true), &[])), refused);
        // Ping of death: the end would be past 65,535.
        assert_eq!(rig.give(&make(cut(65_528, false), &data[..100])), refused);
        assert_eq!(rig.give(&make(cut(64_816, false), &data[..720])), refused);
        assert_eq!(rig.reassembler.held(), 0);
    }
    // An IPv4 length counts the header.
    let past = v4(cut(64_800, false), &data[..720]);
    assert_eq!(Rig::new().give(&past), refused);
    let within = v6(cut(64_800, false), &data[..720]);
    assert_eq!(Rig::new().give(&within), Outcome::Held);
}

#[test]
fn an_overlap_refuses_the_whole_datagram_and_what_comes_later() {
    let data = datagram(64);
    let refused = Outcome::Dropped(DropReason::FragmentOverlap);
    // Teardrop (inside another), across an edge, and the same place with other octets.
    let overlaps = [
        (cut(8, true), 8..16),
        (cut(16, true), 16..32),
        (cut(0, true), 32..56),
        (cut(0, true), 0..8),
    ];
    for make in BOTH {
        for (at, part) in overlaps.clone() {
            let mut rig = Rig::new();
            assert_eq!(rig.give(&make(cut(0, true), &data[..24])), Outcome::Held);
            assert_eq!(rig.give(&make(at, &data[part])), refused);
            assert_eq!(rig.reassembler.held(), 0, "nothing of it is kept");
            assert_eq!(rig.give(&make(cut(0, true), &data[..24])), refused);
            assert_eq!(rig.give(&make(cut(24, false), &data[24..])), refused);
            assert_eq!(rig.drops(DropReason::FragmentOverlap), 4);
            rig.tick_after(TIMEOUT_NS);
            assert_eq!(rig.give(&make(cut(0, true), &data[..24])), Outcome::Held);
        }
    }
}

#[test]
fn an_exact_copy_does_no_harm() {
    let data = datagram(48);
    for make in BOTH {
        let mut rig = Rig::new();
        let first = make(cut(0, true), &data[..24]);
        let last = make(cut(24, false), &data[24..]);
        assert_eq!(rig.give(&last), Outcome::Held);
        let copy = Outcome::Dropped(DropReason::FragmentDuplicate);
        assert_eq!(rig.give(&last), copy);
        assert_eq!(rig.give(&first), Outcome::Complete(vec![first, last]));
    }
}

#[test]
fn two_ends_or_octets_past_the_end_refuse_the_datagram() {
    let data = datagram(64);
    let refused = Outcome::Dropped(DropReason::FragmentOverlap);
    for make in BOTH {
        let mut rig = Rig::new();
        assert_eq!(rig.give(&make(cut(24, false), &data[..8])), Outcome::Held);
        assert_eq!(rig.give(&make(cut(40, false), &data[..8])), refused);

        let mut rig = Rig::new();
        assert_eq!(rig.give(&make(cut(24, false), &data[..8])), Outcome::Held);
        assert_eq!(rig.give(&make(cut(40, true), &data[..8])), refused);

        let mut rig = Rig::new();
        assert_eq!(rig.give(&make(cut(40, true), &data[..8])), Outcome::Held);
        assert_eq!(rig.give(&make(cut(24, false), &data[..8])), refused);

        let mut rig = Rig::new();
        assert_eq!(rig.give(&make(cut(24, false), &data[..8])), Outcome::Held);
        assert_eq!(rig.give(&make(cut(8, false), &data[..8])), refused);
    }
}

#[test]
fn a_reused_identification_cannot_mix_two_datagrams() {
    let old = datagram(48);
    let mut new = datagram(48);
    new[8] ^= 0xff;
    for make in BOTH {
        let mut rig = Rig::new();
        assert_eq!(rig.give(&make(cut(0, true), &old[..24])), Outcome::Held);
        // The old one's last fragment is lost; the new one must not be completed by its first.
        let refused = Outcome::Dropped(DropReason::FragmentOverlap);
        assert_eq!(rig.give(&make(cut(0, true), &new[..24])), refused);
        assert_eq!(rig.give(&make(cut(24, false), &new[24..])), refused);
    }
}

#[test]
fn other_identifications_sources_and_interfaces_are_other_datagrams() {
    let data = datagram(48);
    for make in BOTH {
        let mut rig = Rig::new();
        let (here, mut there) = (cut(0, true), cut(24, false));
        assert_eq!(rig.give(&make(here, &data[..24])), Outcome::Held);
        there.id += 1;
        assert_eq!(rig.give(&make(there, &data[24..])), Outcome::Held);
        there.id -= 1;
        there.source[3] += 1;
        assert_eq!(rig.give(&make(there, &data[24..])), Outcome::Held);
        let last = make(cut(24, false), &data[24..]);
        let parsed = parse(&last).unwrap();
        let outcome = rig.act(|reassembler, ctx| {
            reassembler.insert(InterfaceId(1), MemoryBuffer::new(&last), &parsed, ctx)
        });
        assert!(matches!(outcome, FragmentOutcome::Held));
        assert_eq!(rig.reassembler.held.datagrams, 4);
    }
}

#[test]
fn what_is_never_completed_is_freed_in_time() {
    let data = datagram(48);
    let mut rig = Rig::new();
    assert_eq!(rig.give(&v4(cut(0, true), &data[..24])), Outcome::Held);
    rig.tick_after(TIMEOUT_NS - 1);
    assert_eq!(rig.give(&v4(cut(24, true), &data[24..])), Outcome::Held);
    assert_eq!(rig.reassembler.next_deadline_ns(), Some(rig.now_ns + 1));
    rig.tick_after(1);
    assert_eq!(rig.drops(DropReason::FragmentTimeout), 2);
    assert_eq!(rig.reassembler.held(), 0);
    assert!(rig.reassembler.sources.is_empty());
}

#[test]
fn one_source_cannot_hold_more_than_its_share() {
    let data = datagram(1480);
    for make in BOTH {
        let mut rig = Rig::new();
        let mut limited = 0;
        for id in 0..5000u16 {
            let flood = Cut { id, ..cut(0, true) };
            match rig.give(&make(flood, &data)) {
                Outcome::Held => {}
                Outcome::Dropped(DropReason::FragmentLimit) => limited += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(limited, 5000 - MAX_DATAGRAMS_PER_SOURCE);
        // Another source is served meanwhile, however it is flooded.
        let mut honest = cut(0, true);
        // For IPv6 all of a /64 is one source, and this stays in it.
        honest.source = [203, 0, 113, 5];
        let first = rig.give(&make(honest, &data));
        let expected = match make(honest, &data)[12] {
            8 => Outcome::Held,
            _ => Outcome::Dropped(DropReason::FragmentLimit),
        };
        assert_eq!(first, expected);
    }
}

#[test]
fn a_source_with_few_datagrams_is_bounded_in_fragments_and_octets() {
    let data = datagram(1480);
    let mut rig = Rig::new();
    // Each datagram lacks its first fragment and so is never complete.
    for id in 0..8u16 {
        for part in 1..40 {
            let flood = Cut {
                id,
                ..cut(part * 1480, true)
            };
            rig.give(&v4(flood, &data));
            assert!(rig.reassembler.held.bytes <= MAX_FRAGMENT_BYTES_PER_SOURCE);
            assert!(rig.reassembler.held() <= MAX_FRAGMENTS_PER_SOURCE);
        }
    }
    assert!(rig.drops(DropReason::FragmentLimit) > 0);
}

#[test]
fn a_datagram_of_too_many_pieces_is_refused() {
    let data = datagram(8);
    let mut rig = Rig::new();
    for part in 0..MAX_FRAGMENTS_PER_DATAGRAM {
        assert_eq!(rig.give(&v4(cut(8 + part * 8, true), &data)), Outcome::Held);
    }
    let limited = Outcome::Dropped(DropReason::FragmentLimit);
    assert_eq!(rig.give(&v4(cut(0, true), &data)), limited);
    assert_eq!(rig.reassembler.held(), 0);
}

#[test]
fn a_flood_from_everywhere_is_bounded_and_passes() {
    let data = datagram(1480);
    let mut rig = Rig::new();
    for number in 0..3000u32 {
        let [_, a, b, c] = number.to_be_bytes();
        let mut flood = cut(1480, true);
        flood.source = [11 + a, 5, b, c];
        for part in 1..6 {
            flood.begin = part * 1480;
            rig.give(&v4(flood, &data));
        }
    }
    assert!(rig.reassembler.held.bytes <= MAX_FRAGMENT_BYTES);
    assert!(rig.reassembler.held() <= MAX_FRAGMENTS);
    assert!(rig.reassembler.held.datagrams <= MAX_DATAGRAMS);
    for _ in 0..MAX_DATAGRAMS / MAX_FRAGMENT_TIMERS {
        rig.tick_after(TIMEOUT_NS);
    }
    assert_eq!(rig.reassembler.held(), 0);
    let first = rig.give(&v4(cut(0, true), &data));
    assert_eq!(first, Outcome::Held);
    assert_eq!(rig.io.departed(PortId(0)), None);
}

/// A first fragment of the `number`th spoofed source.
fn spoofed(number: u32) -> Cut {
    let [_, a, b, c] = number.to_be_bytes();
    Cut {
        source: [11 + a, 5, b, c],
        ..cut(0, true)
    }
}

/// What becomes of one datagram in two fragments while as many others lie between.
fn among(make: Make, flood: u32, between: u32, parts: usize) -> Outcome {
    let data = datagram(1480);
    let mut rig = Rig::new();
    let give = |rig: &mut Rig, number: u32| {
        rig.now_ns += 1_000;
        for part in 0..parts {
            let piece = Cut {
                begin: part * 1480,
                ..spoofed(number)
            };
            // Of IPv6, each source is of its own /64.
            let mut frame = make(piece, &data);
            if frame[12] == 0x86 {
                frame.copy_within(34..38, 26);
            }
            rig.give(&frame);
        }
    };
    for number in 0..flood {
        give(&mut rig, number);
    }
    let first = rig.give(&make(cut(0, true), &data));
    assert_eq!(first, Outcome::Held);
    for number in flood..flood + between {
        give(&mut rig, number);
    }
    rig.balance();
    rig.give(&make(cut(1480, false), &data))
}

#[test]
fn f2_spoofed_fragments_make_room_for_what_comes_later() {
    for make in BOTH {
        for parts in [1, 2, 5] {
            let between = (MAX_FRAGMENT_BYTES / 2 / 1600 / parts).min(MAX_DATAGRAMS / 2) as u32;
            let outcome = among(make, 5_000, between, parts);
            assert!(matches!(outcome, Outcome::Complete(_)), "{outcome:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_cut_in_any_order_with_copies_comes_out_whole(
        units in proptest::collection::vec(1usize..20, 2..12),
        tail in 1usize..8,
        order in proptest::collection::vec(any::<(u16, bool)>(), 24),
        six in any::<bool>(),
    ) {
        let make: Make = if six { v6 } else { v4 };
        let total = units.iter().sum::<usize>() * 8 + tail;
        let data = datagram(total);
        let mut frames = Vec::new();
        let mut begin = 0;
        for unit in &units {
            let end = begin + unit * 8;
            frames.push(make(cut(begin, true), &data[begin..end]));
            begin = end;
        }
        frames.push(make(cut(begin, false), &data[begin..]));
        let mut indexes: Vec<usize> = (0..frames.len()).collect();
        indexes.sort_by_key(|&index| order[index]);
        let mut rig = Rig::new();
        for (count, &index) in indexes.iter().enumerate() {
            let outcome = rig.give(&frames[index]);
            if count + 1 == frames.len() {
                prop_assert_eq!(outcome, Outcome::Complete(frames.clone()));
                break;
            }
            prop_assert_eq!(outcome, Outcome::Held);
            if order[index].1 {
                let copy = Outcome::Dropped(DropReason::FragmentDuplicate);
                prop_assert_eq!(rig.give(&frames[index]), copy);
            }
        }
        prop_assert_eq!(rig.reassembler.held(), 0);
    }

    #[test]
    fn hostile_fragments_never_break_the_books(
        pieces in proptest::collection::vec(
            (0u16..3, 0usize..12, any::<bool>(), 0usize..5, any::<bool>(), 0u64..3),
            0..200,
        ),
    ) {
        let data = datagram(64);
        let mut rig = Rig::new();
        for (id, unit, more, length, six, seconds) in pieces {
            let make: Make = if six { v6 } else { v4 };
            let at = Cut { id, ..cut(unit * 8, more) };
            let frame = make(at, &data[..length * 8]);
            if parse(&frame).is_ok_and(|parsed| parsed.fragment != Fragment::Whole) {
                rig.give(&frame);
            }
            if seconds == 2 {
                rig.tick_after(1_000_000_000);
            }
        }
        rig.tick_after(TIMEOUT_NS);
        prop_assert_eq!(rig.reassembler.held(), 0);
        prop_assert_eq!(rig.reassembler.held.datagrams, 0);
        prop_assert!(rig.reassembler.sources.is_empty());
    }
}
