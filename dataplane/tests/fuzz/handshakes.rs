//! The inputs that real connections make: written by `TIDEGATE_WRITE_CORPUS=1`, compared else, so
//! that the corpus cannot fall behind the guard's cookies.

use std::path::Path;

use dataplane::parse::flags;
use dataplane::wire::address::Family;

use crate::corpus;
use crate::rig::conversation::Conversation;
use crate::rig::packets::{address, echo, fragments, port_unreachable, too_big, udp};
use crate::rig::{Rig, Setup, Side};
use crate::sequence::{Arrival, encode};

/// A rig that remembers what came.
struct Recorder {
    rig: Rig,
    arrivals: Vec<Arrival>,
}

impl Recorder {
    fn new(setup: Setup) -> Self {
        Self {
            rig: Rig::new(setup),
            arrivals: Vec::new(),
        }
    }

    /// Has a packet come, and gives back what left.
    fn send(&mut self, side: Side, packet: &[u8]) -> Vec<Vec<u8>> {
        self.send_in(side, packet, 0)
    }

    fn send_in(&mut self, side: Side, packet: &[u8], circumstances: u8) -> Vec<Vec<u8>> {
        let frame = self.rig.framed(side, packet);
        self.rig.arrive(side, &frame);
        let mut arrival = Arrival::plain(side == Side::Inside, frame);
        arrival.circumstances |= circumstances;
        self.rig.now_ns += arrival.wait_ms() * 1_000_000;
        self.arrivals.push(arrival);
        let left = self.rig.settle();
        left.into_iter().map(|(_, packet)| packet).collect()
    }

    fn open(&mut self, talk: &mut Conversation) {
        let cookie = self.send(Side::Outside, &talk.syn());
        talk.take_cookie(&cookie[0]);
        let ack = talk.client_sends(flags::ACK, b"");
        self.send(Side::Outside, &ack);
        self.send(Side::Inside, &talk.syn_ack());
    }
}

const FAMILIES: [(Family, &str); 2] = [(Family::V4, "4"), (Family::V6, "6")];

type Maker = fn(&mut Recorder, Family);

/// Inputs of `frame` and `guard`: the name, what it is, how it is made.
const CONNECTIONS: [(&str, &str, Maker); 5] = [
    ("session", "a whole connection", session),
    (
        "reset-and-replay",
        "a connection without timestamps, an ICMP error, a RST, its handshake again",
        reset_and_replay,
    ),
    (
        "refused",
        "early data, and a server's port that is closed",
        refused,
    ),
    ("retried", "a server that is asked twice", retried),
    (
        "strangers",
        "a ping, a datagram, a forged ACK, a server's late segment",
        strangers,
    ),
];

fn connections(setup: &Setup) -> Vec<(String, &'static str, Vec<Arrival>)> {
    let mut inputs = Vec::new();
    for (name, what, make) in CONNECTIONS {
        for (family, suffix) in FAMILIES {
            let mut recorder = Recorder::new(setup.clone());
            make(&mut recorder, family);
            inputs.push((format!("{name}{suffix}"), what, recorder.arrivals));
        }
    }
    inputs
}

fn session(recorder: &mut Recorder, family: Family) {
    let mut talk = Conversation::new(family, 1);
    recorder.open(&mut talk);
    for data in [&b"GET /"[..], b"more"] {
        let segment = talk.client_sends(flags::ACK | flags::PSH, data);
        recorder.send(Side::Outside, &segment);
        let segment = talk.server_sends(flags::ACK | flags::PSH, data);
        recorder.send(Side::Inside, &segment);
    }
    for fin in [flags::ACK | flags::FIN, flags::ACK] {
        let segment = talk.server_sends(fin, b"");
        recorder.send(Side::Inside, &segment);
        let segment = talk.client_sends(fin, b"");
        recorder.send(Side::Outside, &segment);
    }
}

fn reset_and_replay(recorder: &mut Recorder, family: Family) {
    let mut talk = Conversation::new(family, 2);
    talk.has_timestamps = false;
    recorder.open(&mut talk);
    let data = talk.server_sends(flags::ACK, &[7; 200]);
    let left = recorder.send(Side::Inside, &data);
    recorder.send(Side::Outside, &too_big(talk.client, 1280, &left[0]));
    let reset = talk.client_segment(talk.client_next(), 0, flags::RST, &[], b"");
    recorder.send(Side::Outside, &reset);
    let (first, cookie) = (talk.client_isn, talk.cookie);
    let ack = (first.wrapping_add(1), cookie.wrapping_add(1));
    let replay = talk.client_segment(ack.0, ack.1, flags::ACK, &[], b"");
    recorder.send(Side::Outside, &replay);
}

fn refused(recorder: &mut Recorder, family: Family) {
    let mut talk = Conversation::new(family, 3);
    let cookie = recorder.send(Side::Outside, &talk.syn());
    talk.take_cookie(&cookie[0]);
    for data in [&b""[..], b"early", b"earlier"] {
        let segment = talk.client_sends(flags::ACK, data);
        recorder.send(Side::Outside, &segment);
    }
    let syn = talk.client_segment(talk.client_isn, 0, flags::SYN, &[], b"");
    recorder.send(Side::Inside, &port_unreachable(talk.server, &syn));
}

fn retried(recorder: &mut Recorder, family: Family) {
    let mut talk = Conversation::new(family, 4);
    let cookie = recorder.send(Side::Outside, &talk.syn());
    talk.take_cookie(&cookie[0]);
    // No buffer for the SYN to the server; then a second passes.
    let ack = talk.client_sends(flags::ACK, b"early");
    recorder.send_in(Side::Outside, &ack, 0x10);
    recorder.send_in(Side::Inside, &talk.syn_ack(), 3 << 1);
}

fn strangers(recorder: &mut Recorder, family: Family) {
    let ours = match family {
        Family::V4 => address("192.0.2.1"),
        Family::V6 => address("2001:db8:1::1"),
    };
    let talk = Conversation::new(family, 5);
    let ports = (5, 53);
    recorder.send(Side::Outside, &echo(talk.client, ours, b"ping"));
    recorder.send(
        Side::Outside,
        &udp(talk.client, talk.server, ports, b"question"),
    );
    recorder.send(
        Side::Outside,
        &talk.client_segment(7, 9, flags::ACK, &[], b"forged"),
    );
    recorder.send(
        Side::Inside,
        &talk.server_segment(7, 9, flags::ACK, &[], b"late"),
    );
}

/// Inputs of `fragments`.
fn datagrams() -> Vec<(String, &'static str, Vec<Arrival>)> {
    let rig = Rig::new(Setup::default());
    let mut inputs = Vec::new();
    for (family, suffix) in FAMILIES {
        let talk = Conversation::new(family, 6);
        let whole = udp(talk.client, talk.server, (5, 53), &[7; 300]);
        let arrivals = |pieces: &[Vec<u8>]| {
            let frames = pieces.iter().map(|piece| rig.framed(Side::Outside, piece));
            frames.map(|frame| Arrival::plain(false, frame)).collect()
        };
        let mut pieces = fragments(&whole, 1, 128);
        let mut add = |name: &str, what, pieces: &[Vec<u8>]| {
            inputs.push((format!("{name}{suffix}"), what, arrivals(pieces)));
        };
        add("in-order", "a datagram in order", &pieces);
        pieces.reverse();
        add("reversed", "a datagram from its end", &pieces);
        pieces.insert(1, pieces[0].clone());
        add("doubled", "a fragment twice", &pieces);
        pieces[1] = fragments(&whole, 1, 120)[1].clone();
        add("overlapping", "fragments that overlap", &pieces);
        let two = [fragments(&whole, 2, 200), fragments(&whole, 3, 200)].concat();
        add("two", "two datagrams, one after the other", &two);
        let segment = talk.client_segment(1, 0, flags::SYN, &[], &[0; 100]);
        add("syn", "a SYN in fragments", &fragments(&segment, 4, 24));
    }
    inputs
}

#[test]
fn the_corpus_holds_what_the_rig_makes() {
    let writes = std::env::var_os("TIDEGATE_WRITE_CORPUS").is_some();
    let framed = Setup {
        vlans: [None, Some(200)],
        ..Setup::default()
    };
    let sets = [
        ("frame", connections(&framed), None),
        ("guard", connections(&Setup::default()), Some(0)),
        ("fragments", datagrams(), None),
    ];
    for (target, inputs, kind) in sets {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(target);
        for (name, what, arrivals) in inputs {
            let mut input: Vec<u8> = kind.into_iter().collect();
            input.extend(encode(&arrivals));
            let path = folder.join(format!("{name}.hex"));
            let text = corpus::to_text(&input, what).replacen('\n', "\n# expect: ok\n", 1);
            if writes {
                std::fs::create_dir_all(&folder).expect("a folder");
                std::fs::write(&path, text).expect("written");
            } else {
                let found = std::fs::read_to_string(&path).unwrap_or_default();
                assert!(
                    found == text,
                    "{} is not what the rig makes: TIDEGATE_WRITE_CORPUS=1 writes it",
                    path.display()
                );
            }
        }
    }
}
