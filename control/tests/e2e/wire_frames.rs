//! Frames of every kind cross a wire byte for byte, both ways.

use std::time::{Duration, Instant};

use lab::filter::first_tag;
use lab::profile::Profile;
use lab::socket::PacketSocket;
use lab::{Namespace, Options};

use crate::common::Guarded;

/// How long a frame may take that nothing holds up.
const SOON: Duration = Duration::from_secs(5);
/// Bytes of two stations.
const STATIONS_BYTES: usize = 12;
const TAG_BYTES: usize = 4;
const VLAN: u16 = 0x8100;
const SERVICE_VLAN: u16 = 0x88a8;

/// A frame from one made-up station to another: tags, EtherType or length, and what follows.
fn frame(tags: &[(u16, u16)], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let stations = [2, 0, 0, 0, 9, 2, 2, 0, 0, 0, 9, 1];
    let tags = tags.iter().flat_map(|&(kind, tag)| {
        let ([a, b], [c, d]) = (kind.to_be_bytes(), tag.to_be_bytes());
        [a, b, c, d]
    });
    let mut frame: Vec<u8> = stations.into_iter().chain(tags).collect();
    frame.extend(ether_type.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Tags of both kinds, EtherTypes that nobody knows, runts, what is padded, and what fills the MTU.
fn frames() -> Vec<Vec<u8>> {
    let tags: [&[(u16, u16)]; 8] = [
        &[],
        &[(VLAN, 7)],
        &[(VLAN, 0)],
        &[(VLAN, 0xe007), (VLAN, 8)],
        &[(VLAN, 7), (SERVICE_VLAN, 8)],
        &[(VLAN, 0); 3],
        &[(SERVICE_VLAN, 0x7064)],
        &[(SERVICE_VLAN, 100), (VLAN, 7)],
    ];
    let mut frames: Vec<_> = tags
        .into_iter()
        .map(|tags| {
            frame(
                tags,
                0x1234,
                b"forty-six octets, so that it is no runt at all",
            )
        })
        .collect();
    let padded = [&[0x45, 0, 0, 20, 0, 0, 0, 0, 64, 253][..], &[0; 36]].concat();
    frames.extend([
        frame(&[], 0x88b5, b"runt"),
        frame(&[(VLAN, 9)], 0x88b5, b"runt"),
        frame(&[], 38, &[0x42, 0x42, 0x03, 0, 0, 0, 0, 0]),
        frame(&[], 0x8847, &[0, 1, 1, 64, 0x45, 0]),
        frame(&[], 0x0800, &padded),
        frame(&[], 0x88b5, &[7; 1500]),
        frame(&[(VLAN, 5)], 0x88b5, &[7; 1500]),
    ]);
    frames
}

/// The first tag of a frame, and the frame without it, as the kernel shows it to a packet socket.
fn as_shown(frame: &[u8]) -> (Option<(u16, u16)>, Vec<u8>) {
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let kind = word(STATIONS_BYTES);
    if !matches!(kind, VLAN | SERVICE_VLAN) {
        return (None, frame.to_vec());
    }
    let rest = &frame[STATIONS_BYTES + TAG_BYTES..];
    let shown = [&frame[..STATIONS_BYTES], rest].concat();
    (Some((kind, word(STATIONS_BYTES + 2))), shown)
}

type End<'a> = (&'a Namespace, &'static str);

/// Sends a frame at one end, and waits for it, with this first tag, at the other.
fn cross(from: End<'_>, to: End<'_>, frame: &[u8], tag: Option<(u16, u16)>) {
    let open = |(namespace, interface): End<'_>, tag| {
        let opened = namespace.within(move || PacketSocket::open(interface, &first_tag(tag)));
        opened.unwrap().unwrap()
    };
    let (sender, receiver) = (open(from, None), open(to, tag));
    let (_, shown) = as_shown(frame);
    assert!(sender.send(frame).unwrap());
    let mut buffer = [0; 2048];
    let end = Instant::now() + SOON;
    loop {
        match receiver.receive(&mut buffer).unwrap() {
            Some(length) if buffer[..length] == shown => return,
            // The interface's own noise.
            Some(_) => {}
            None if Instant::now() < end => receiver.wait(Duration::from_millis(100)).unwrap(),
            None => panic!("{frame:02x?} did not come to {} with {tag:04x?}", to.1),
        }
    }
}

fn all_cross(xdp: bool, leaves_as: impl Fn(u16) -> u16) {
    let options = Options {
        wire: Some("auto"),
        ..Options::default()
    };
    let profile = Profile {
        xdp,
        ..Profile::default()
    };
    let guarded = Guarded::start(options, &profile);
    let ends: [End<'_>; 2] = [
        (&guarded.lab.clients, "wan0"),
        (&guarded.lab.server, "lan0"),
    ];
    for frame in frames() {
        let (tag, _) = as_shown(&frame);
        let tag = tag.map(|(kind, tag)| (leaves_as(kind), tag));
        cross(ends[0], ends[1], &frame, tag);
        cross(ends[1], ends[0], &frame, tag);
    }
    guarded.audit();
}

// G2: the driver forgets which kind of tag the kernel took off.
#[test]
fn g2_by_packet_sockets_every_frame_crosses_but_that_its_first_tag_is_one_of_802_1q() {
    all_cross(false, |_| VLAN);
}

// G2
#[test]
fn g2_by_af_xdp_every_frame_crosses_byte_for_byte() {
    all_cross(true, |kind| kind);
}
