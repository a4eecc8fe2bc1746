//! A worker between the ends of a transparent wire, under hostile frames.

use dataplane::drop_reason::DropReason;
use dataplane::echo::MAGIC;
use dataplane::guard::config::EchoMode;
use dataplane::limits::MAX_TAGS;
use dataplane::parse::{Kind, Parsed, link_header_of, parse_tagged_into, protocol};

use crate::rig::packets::address;
use crate::rig::{DENIED, REJECTED, Rig, Setup, Side};
use crate::sequence::{Arrival, decode};
use crate::workers::{Proofs, allowance, is_server, shape};

/// The frame with its tags taken off, and its facts.
fn untagged(frame: &[u8]) -> Option<(Vec<u8>, Parsed)> {
    let mut parsed = Parsed::NONE;
    parse_tagged_into(frame, &mut parsed).ok()?;
    if parsed.kind == Kind::Arp {
        return None;
    }
    let network = usize::from(parsed.network);
    let plain = [&frame[..12], &frame[network - 2..]].concat();
    Some((plain, parsed))
}

/// Whether nobody but the ends of a frame has a say in it.
fn is_nobody_s_business(frame: &[u8]) -> bool {
    let Some((_, parsed)) = untagged(frame) else {
        // Of what cannot be read only an address could tell, or that it hides behind many tags.
        return match link_header_of(frame) {
            Some((_, 0x0800 | 0x86dd)) => false,
            Some((length, 0..=1500)) => !frame[length..].starts_with(&[0xaa, 0xaa, 0x03]),
            Some(_) => true,
            None => frame.len() < 14 + 4 * MAX_TAGS,
        };
    };
    if matches!(parsed.protocol, protocol::ICMP | protocol::ICMPV6) {
        // Errors are read for what they quote, echoes for our mark.
        let kind = frame.get(usize::from(parsed.transport));
        let is_marked = frame.windows(4).any(|octets| octets == MAGIC);
        if is_marked || !matches!(kind, Some(0 | 8 | 128 | 129)) {
            return false;
        }
    }
    let ends = [parsed.source, parsed.destination];
    let ruled = [DENIED, REJECTED].map(address);
    !ends.into_iter().any(is_server) && !ruled.contains(&parsed.source)
}

/// Frames on both ends of a wire, whatever is in them: no stranger's segment reaches a server, no
/// stranger is sent more than one packet, or a larger one, for its own; and what is none of the
/// guard's business passes as it came.
pub(crate) fn wire(input: &[u8]) -> Result<u64, DropReason> {
    let mut rig = Rig::new(Setup {
        buffers: 256,
        capacity: 8,
        ..Setup::wire(EchoMode::Auto)
    });
    let mut proofs = Proofs::new();
    for arrival in &decode(input) {
        let frame = &arrival.frame[..arrival.frame.len().min(2000)];
        let plain = untagged(frame).map_or_else(|| frame.to_vec(), |(plain, _)| plain);
        let plain = Arrival {
            circumstances: arrival.circumstances,
            frame: plain,
        };
        let due_s = rig.time().unix_s() + arrival.wait_ms() / 1_000;
        proofs.note(&plain, due_s);
        proofs.note(&plain, due_s + 1);
        rig.now_ns += arrival.wait_ms() * 1_000_000;
        let mut left = rig.settle_frames();
        let allowance = allowance(&rig, &proofs, &plain);
        let has_room = !arrival.finds_no_room();
        for worker in &mut rig.workers {
            worker.io_mut().transmit_room = (!has_room).then_some(0);
            worker.io_mut().allocations_left = arrival.finds_no_buffer().then_some(0);
        }
        let (side, other) = match arrival.is_inside() {
            true => (Side::Inside, Side::Outside),
            false => (Side::Outside, Side::Inside),
        };
        rig.arrive(side, frame);
        let caused = rig.settle_frames();
        let link_bytes = link_header_of(frame).map_or(0, |(length, _)| length);
        if is_nobody_s_business(frame) && has_room && frame.len() - link_bytes <= 1500 {
            let passed = (other, frame.to_vec());
            assert!(
                caused.contains(&passed),
                "{frame:02x?} became {caused:02x?}"
            );
        }
        let mut answers = 0;
        for (left_by, frame) in &caused {
            let Some((_, parsed)) = untagged(frame) else {
                continue;
            };
            if let Some((stranger, octets)) = allowance
                && *left_by == Side::Outside
                && parsed.destination == stranger
            {
                answers += 1;
                assert!(parsed.packet_bytes() <= octets, "amplified: {frame:02x?}");
            }
        }
        assert!(answers <= 1 || allowance.is_none(), "{answers} answers");
        left.extend(caused);
        for (_, frame) in left.iter().filter(|(left_by, _)| *left_by == Side::Inside) {
            if let Some((_, parsed)) = untagged(frame) {
                proofs.check(&frame[usize::from(parsed.network)..]);
            }
        }
    }
    let counters = rig.counters();
    for worker in &mut rig.workers {
        worker.io_mut().transmit_room = None;
        worker.io_mut().allocations_left = None;
    }
    for _ in 0..24 {
        rig.now_ns += 1_000_000_000;
        rig.settle_frames();
    }
    assert_eq!(rig.pool.live(), 0, "buffers stay behind");
    Ok(shape(&counters))
}
