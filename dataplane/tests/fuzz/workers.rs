//! Whole workers under hostile frames. The rig checks after every poll that each frame and each
//! buffer is accounted for; what else must hold is checked here.

use std::collections::BTreeSet;

use dataplane::capture::Tap;
use dataplane::command::Command;
use dataplane::counters::{Counters, Event, Traffic};
use dataplane::drop_reason::DropReason;
use dataplane::guard::config::Mode;
use dataplane::guard::cookie::{Cookie, CookieJar, Tuple};
use dataplane::io::PortId;
use dataplane::parse::{
    ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, Fragment, Parsed, flags, parse, protocol,
};
use dataplane::wire::address::Address;
use dataplane::wire::ethernet::write_ethernet;
use dataplane::wire::tcp::Tcp;
use dataplane::wire::tcp_options;

use crate::engine::shape_of;
use crate::rig::conversation::Conversation;
use crate::rig::packets::udp;
use crate::rig::{Rig, Setup, Side, cookie_jar, facts};
use crate::sequence::{Arrival, decode};

const SERVER_PORT: u16 = 80;

/// Who has proved to exist.
pub(crate) struct Proofs {
    jar: CookieJar,
    proved: BTreeSet<(u128, u16)>,
    /// Who has spoken on the servers' own side, which is not guarded against itself.
    inside: BTreeSet<u128>,
    /// To whom a server has spoken: our answer to it bears that one's address.
    spoken_to: BTreeSet<(u128, u16)>,
}

impl Proofs {
    pub(crate) fn new() -> Self {
        Self {
            jar: cookie_jar(),
            proved: BTreeSet::new(),
            inside: BTreeSet::new(),
            spoken_to: BTreeSet::new(),
        }
    }

    /// Notes what a frame proves, or to whom it speaks.
    pub(crate) fn note(&mut self, arrival: &Arrival, unix_s: u64) {
        let Ok(parsed) = parse(&arrival.frame) else {
            return;
        };
        if arrival.is_inside() {
            self.inside.insert(parsed.source.to_bits());
        }
        if parsed.protocol != protocol::TCP || parsed.fragment == Fragment::Later {
            return;
        }
        if arrival.is_inside() {
            let client = (parsed.destination.to_bits(), parsed.destination_port);
            self.spoken_to.insert(client);
        } else if proves(&self.jar, &arrival.frame, &parsed, unix_s) {
            let client = (parsed.source.to_bits(), parsed.source_port);
            self.proved.insert(client);
        }
    }

    /// Panics at a segment for a protected service of which nobody has proved to be the source.
    pub(crate) fn check(&self, packet: &[u8]) {
        let parsed = facts(packet);
        if parsed.protocol != protocol::TCP || !is_server(parsed.destination) {
            return;
        }
        let source = parsed.source.to_bits();
        if self.inside.contains(&source) {
            return;
        }
        if parsed.fragment == Fragment::Later {
            let known = self.proved.iter().any(|&(proved, _)| proved == source);
            assert!(known, "a fragment of a stranger's: {packet:02x?}");
            return;
        }
        let client = (source, parsed.source_port);
        let is_answer = parsed.tcp_flags & flags::RST != 0 && self.spoken_to.contains(&client);
        assert!(
            parsed.destination_port != SERVER_PORT || is_answer || self.proved.contains(&client),
            "a stranger's segment: {packet:02x?}"
        );
    }
}

pub(crate) fn is_server(address: Address) -> bool {
    use dataplane::wire::address::Family::{V4, V6};
    [V4, V6]
        .map(|family| Conversation::new(family, 0).server)
        .contains(&address)
}

/// Whether a client's segment bears a good cookie.
fn proves(jar: &CookieJar, frame: &[u8], parsed: &Parsed, unix_s: u64) -> bool {
    let segment = &frame[usize::from(parsed.transport)..usize::from(parsed.end)];
    let Ok(tcp) = Tcp::new(segment) else {
        return false;
    };
    let stamps = match tcp_options::parse(tcp.options()) {
        Ok(options) => options.timestamps,
        Err(_) => return false,
    };
    let tuple = Tuple {
        client: parsed.source,
        server: parsed.destination,
        client_port: parsed.source_port,
        server_port: parsed.destination_port,
        client_sequence: tcp.sequence().wrapping_sub(1),
    };
    let cookie = Cookie {
        sequence: tcp.acknowledgement().wrapping_sub(1),
        timestamp: stamps.map_or(0, |stamps| stamps.echo),
    };
    jar.check(&tuple, cookie, stamps.is_some(), unix_s).is_ok()
}

/// What was counted, and how often, coarsely.
pub(crate) fn shape(counters: &Counters) -> u64 {
    let often = |count: u64| count.min(2);
    let events: Vec<_> = Event::ALL
        .iter()
        .map(|&e| often(counters.event(e)))
        .collect();
    let drops: Vec<_> = DropReason::ALL
        .iter()
        .map(|&reason| counters.drops(reason) > 0)
        .collect();
    shape_of((events, drops))
}

/// Hands the frames over, one after the other; `left` sees every packet that leaves.
fn play(rig: &mut Rig, arrivals: &[Arrival], mut left: impl FnMut(&Rig, &Arrival, Side, &[u8])) {
    for arrival in arrivals {
        rig.now_ns += arrival.wait_ms() * 1_000_000;
        if arrival.follows_a_reload() {
            let configuration = Box::new(rig.setup.configuration());
            drop(rig.command(0, Command::Reconfigure(configuration)));
        }
        rig.neighbours_answer = !arrival.finds_no_neighbour();
        for worker in &mut rig.workers {
            worker.io_mut().transmit_room = arrival.finds_no_room().then_some(0);
            worker.io_mut().allocations_left = arrival.finds_no_buffer().then_some(0);
        }
        let side = if arrival.is_inside() {
            Side::Inside
        } else {
            Side::Outside
        };
        rig.arrive(side, &arrival.frame[..arrival.frame.len().min(2000)]);
        for (side, packet) in rig.settle() {
            left(rig, arrival, side, &packet);
        }
    }
}

/// Lets every timer of a handshake, a fragment and a neighbour run out; no buffer may stay.
fn rest(rig: &mut Rig) {
    for worker in &mut rig.workers {
        worker.io_mut().transmit_room = None;
        worker.io_mut().allocations_left = None;
    }
    for _ in 0..24 {
        rig.advance_ms(1_000);
        rig.settle();
    }
    assert_eq!(rig.pool.live(), 0, "buffers stay behind");
}

/// Octets of what a stranger's packet asks for at most (CASES 9): `None` where more may leave, as
/// the source has proved to exist, or earlier packets wait for something.
pub(crate) fn allowance(rig: &Rig, proofs: &Proofs, arrival: &Arrival) -> Option<(Address, usize)> {
    let parsed = parse(&arrival.frame).ok()?;
    let at = usize::from(parsed.transport);
    // Neighbours speak for their link alone, and an advertisement may be longer than a question.
    let is_discovery = parsed.protocol == protocol::ICMPV6
        && arrival.frame.get(at).is_some_and(|kind| *kind >= 133);
    let source = parsed.source.to_bits();
    let is_known = proofs.proved.iter().any(|&(proved, _)| proved == source);
    let is_quiet = rig.workers[0].held() == 0
        && rig.workers[0].guard().status().sessions == 0
        && arrival.wait_ms() == 0;
    let is_stranger = !arrival.is_inside() && !is_known && !is_discovery && is_quiet;
    (is_stranger && source != 0).then_some((parsed.source, parsed.packet_bytes()))
}

/// Frames on both ports of a worker, whatever is in them: no stranger's segment reaches a server,
/// and no stranger is sent more than one packet, or a larger one, for its own.
pub(crate) fn frame(input: &[u8]) -> Result<u64, DropReason> {
    let arrivals = decode(input);
    let mut rig = Rig::new(Setup {
        vlans: [None, Some(200)],
        buffers: 256,
        capacity: 8,
        ..Setup::default()
    });
    let mut proofs = Proofs::new();
    for arrival in &arrivals {
        let due_s = rig.time().unix_s() + arrival.wait_ms() / 1_000;
        // The wall clock may turn while a frame waits for it.
        proofs.note(arrival, due_s);
        proofs.note(arrival, due_s + 1);
        let allowance = allowance(&rig, &proofs, arrival);
        let mut answers = 0;
        play(
            &mut rig,
            std::slice::from_ref(arrival),
            |_, _, side, packet| {
                if side == Side::Inside {
                    proofs.check(packet);
                }
                let left = facts(packet);
                if let Some((stranger, octets)) = allowance
                    && left.destination == stranger
                {
                    answers += 1;
                    assert!(left.packet_bytes() <= octets, "amplified: {packet:02x?}");
                }
            },
        );
        assert!(answers <= 1 || allowance.is_none(), "{answers} answers");
    }
    let counters = rig.counters();
    rest(&mut rig);
    Ok(shape(&counters))
}

/// The frame with the link-layer header that its neighbour gives it.
fn addressed(rig: &Rig, arrival: &Arrival) -> Arrival {
    let side = if arrival.is_inside() {
        Side::Inside
    } else {
        Side::Outside
    };
    let (to, from) = side.stations();
    let mut frame = arrival.frame.clone();
    frame.resize(frame.len().max(15), 0);
    let ether_type = match frame[14] >> 4 {
        6 => ETHER_TYPE_IPV6,
        _ => ETHER_TYPE_IPV4,
    };
    write_ethernet(&mut frame, to, from, None, ether_type);
    assert_eq!(rig.setup.vlans, [None; 2]);
    Arrival {
        circumstances: arrival.circumstances,
        frame,
    }
}

/// A rig that takes every frame by the general walk: somebody captures, though on no port there is.
fn generally(setup: Setup) -> Rig {
    let mut rig = Rig::new(setup);
    let (tap, _) = Tap::new(Some(PortId(u8::MAX)), None);
    drop(rig.command(0, Command::Capture(tap)));
    rig
}

/// What was counted: events, drops, and each interface's traffic.
fn account(counters: &Counters) -> (Vec<u64>, Vec<u64>, Vec<Traffic>) {
    let events = Event::ALL.iter().map(|&event| counters.event(event));
    let drops = DropReason::ALL.iter().map(|&reason| counters.drops(reason));
    let traffic = (0..2).map(|interface| counters.traffic(interface));
    (events.collect(), drops.collect(), traffic.collect())
}

/// Packets between stations that know each other, in every mode of the guard. What leaves and what
/// is counted is the same whether or not usual frames take their shorter walk.
pub(crate) fn guard(input: &[u8]) -> Result<u64, DropReason> {
    let (&kind, sequence) = input.split_first().unwrap_or((&0, &[]));
    let mode = [Mode::Always, Mode::OnFlood, Mode::Monitor, Mode::Off][usize::from(kind & 3)];
    let setup = Setup {
        mode,
        buffers: 256,
        capacity: if kind & 4 == 0 { 64 } else { 2 },
        ..Setup::default()
    };
    let mut rig = Rig::new(setup.clone());
    let mut other = generally(setup);
    rig.poll();
    let mut proofs = Proofs::new();
    for arrival in &decode(sequence) {
        let arrival = [addressed(&rig, arrival)];
        let due_s = rig.time().unix_s() + arrival[0].wait_ms() / 1_000;
        proofs.note(&arrival[0], due_s);
        proofs.note(&arrival[0], due_s + 1);
        let (mut left, mut left_other) = (Vec::new(), Vec::new());
        play(&mut rig, &arrival, |_, _, side, packet| {
            if side == Side::Inside && mode == Mode::Always {
                proofs.check(packet);
            }
            left.push((side, packet.to_vec()));
        });
        play(&mut other, &arrival, |_, _, side, packet| {
            left_other.push((side, packet.to_vec()));
        });
        assert_eq!(left, left_other, "the two walks differ");
        assert_eq!(account(&rig.counters()), account(&other.counters()));
        let status = rig.workers[0].guard().status();
        assert_eq!(status, other.workers[0].guard().status());
        assert!(status.opening <= status.live && status.live <= status.sessions);
        assert!(status.sessions <= status.capacity);
    }
    let counters = rig.counters();
    rest(&mut rig);
    Ok(shape_of((kind & 7, shape(&counters))))
}

/// A fragment's place in its datagram: begin, end, whether more follow.
fn place(packet: &[u8], parsed: &Parsed) -> (usize, usize, bool) {
    use dataplane::wire::address::Family;
    match parsed.family {
        Family::V4 => {
            let field = u16::from_be_bytes([packet[6], packet[7]]);
            let header_bytes = usize::from(packet[0] & 0x0f) * 4;
            let begin = usize::from(field & 0x1fff) * 8;
            (
                begin,
                begin + packet.len() - header_bytes,
                field & 0x2000 != 0,
            )
        }
        Family::V6 => {
            let (mut next, mut at) = (packet[6], 40);
            while next != 44 {
                next = packet[at];
                at += 8 + usize::from(packet[at + 1]) * 8;
            }
            let field = u16::from_be_bytes([packet[at + 2], packet[at + 3]]);
            let begin = usize::from(field & 0xfff8);
            (begin, begin + packet.len() - at - 8, field & 1 != 0)
        }
    }
}

/// Fragments that come to any of two workers: what leaves is whole datagrams, each in order and
/// without a gap or an overlap.
pub(crate) fn fragments(input: &[u8]) -> Result<u64, DropReason> {
    let mut rig = Rig::new(Setup {
        is_scattered: true,
        buffers: 512,
        ..Setup::workers(2)
    });
    // Both neighbours are known before.
    let talk = Conversation::new(dataplane::wire::address::Family::V4, 1);
    let six = Conversation::new(dataplane::wire::address::Family::V6, 1);
    for talk in [&talk, &six] {
        for ports in 0..8 {
            rig.send(
                Side::Outside,
                &udp(talk.client, talk.server, (ports, 53), b""),
            );
            rig.send(
                Side::Inside,
                &udp(talk.server, talk.client, (53, ports), b""),
            );
        }
        rig.settle();
    }
    for arrival in &decode(input) {
        let mut arrival = addressed(&rig, arrival);
        // Faults belong to the other targets: what leaves could not be whole.
        arrival.circumstances &= 0x0f;
        let mut expected = [None; 2];
        play(&mut rig, &[arrival], |_, _, side, packet| {
            let parsed = facts(packet);
            if parsed.fragment == Fragment::Whole {
                return;
            }
            let (begin, end, more) = place(packet, &parsed);
            let expected = &mut expected[side as usize];
            assert_eq!(begin, expected.unwrap_or(0), "{packet:02x?}");
            assert!(end > begin, "{packet:02x?}");
            *expected = more.then_some(end);
        });
        assert_eq!(expected, [None; 2], "a datagram left without its end");
    }
    let counters = rig.counters();
    rest(&mut rig);
    Ok(shape(&counters))
}

#[test]
#[should_panic(expected = "a stranger's segment")]
fn a_stranger_s_segment_to_a_server_is_found_out() {
    let talk = Conversation::new(dataplane::wire::address::Family::V4, 1);
    Proofs::new().check(&talk.syn());
}

#[test]
fn a_cookie_that_comes_back_proves_its_client() {
    let mut rig = Rig::new(Setup::default());
    let mut talk = Conversation::new(dataplane::wire::address::Family::V6, 1);
    rig.send(Side::Outside, &talk.syn());
    talk.take_cookie(&rig.settle_one(Side::Outside));
    let ack = talk.client_sends(flags::ACK, b"");
    let mut proofs = Proofs::new();
    let arrival = Arrival::plain(false, rig.framed(Side::Outside, &ack));
    proofs.note(&arrival, rig.time().unix_s());
    proofs.check(&ack);
}
