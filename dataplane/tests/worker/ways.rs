//! What moves the ways that a transparent wire sends by: what is proved, and nothing else.

use dataplane::guard::config::EchoMode;
use dataplane::parse::flags;
use dataplane::wire::ethernet::{self, MacAddress};

use crate::rig::conversation::{Conversation, see};
use crate::rig::packets::{echo, udp};
use crate::rig::{ROUTER_MAC, Rig, SECOND_NS, SERVER_MAC, Setup, Side};
use crate::steps::FAMILIES;
use crate::wire::{framed, open};

const STRANGER_MAC: MacAddress = MacAddress([2, 0, 0, 0, 9, 0x66]);

/// The packet in a frame of a stranger's, between stations of its choice.
fn strange(side: Side, packet: &[u8]) -> Vec<u8> {
    let mut frame = framed(side, &[], packet);
    frame[..6].copy_from_slice(&MacAddress([2, 0, 0, 0, 9, 0x67]).0);
    frame[6..12].copy_from_slice(&STRANGER_MAC.0);
    frame
}

#[test]
fn b2_what_proves_nothing_moves_no_way_on_a_wire() {
    for family in FAMILIES {
        let mut rig = Rig::new(Setup::wire(EchoMode::Auto));
        let mut talk = Conversation::new(family, 1);
        open(&mut rig, &mut talk, &[]);
        // The same client and server, but a connection that nobody asked for.
        let mut other = Conversation::new(family, 1);
        other.client_port ^= 0x55;
        let syn = other.syn();
        other.cookie = 0x1234_5678;
        let ack = other.client_sends(flags::ACK | flags::PSH, b"x");
        let reset = other.client_sends(flags::RST, b"");
        let (client, server) = (other.client, other.server);
        for packet in [
            syn,
            ack,
            reset,
            udp(client, server, (1, 2), b"x"),
            echo(client, server, b"x"),
        ] {
            rig.arrive(Side::Outside, &strange(Side::Outside, &packet));
            rig.settle_frames();
        }
        for packet in [
            other.syn_ack(),
            other.server_sends(flags::ACK, b"x"),
            other.server_sends(flags::RST, b""),
            udp(server, client, (2, 1), b"x"),
        ] {
            rig.arrive(Side::Inside, &strange(Side::Inside, &packet));
            rig.settle_frames();
        }
        // Both ends are told of the idle session's end by the ways that its handshake has shown.
        let mut told = Vec::new();
        for _ in 0..1_000 {
            rig.now_ns += 10 * SECOND_NS;
            told.extend(rig.settle_frames());
        }
        assert_eq!(told.len(), 2, "{family:?}");
        for (side, frame) in &told {
            assert_ne!(see(&frame[14..]).flags & flags::RST, 0);
            let expected = match side {
                Side::Outside => (ROUTER_MAC, SERVER_MAC),
                Side::Inside => (SERVER_MAC, ROUTER_MAC),
            };
            let stations = (ethernet::destination(frame), ethernet::source(frame));
            assert_eq!(stations, expected, "{family:?} {side:?}");
        }
    }
}
