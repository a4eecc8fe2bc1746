//! What each side hears of the other's windows, whatever scales they were told.

use proptest::prelude::*;

use super::ACK;
use super::rig::{CLIENT_ISN, Rig, SERVER_ISN, Segment, Shown};
use crate::drop_reason::DropReason;
use crate::parse::flags;

/// A session of a server of this scale, whose client has another and was told a third. Without
/// timestamps the client is told the coarse one.
fn open(client: Option<u8>, server: Option<u8>, told: Option<u8>, stamps: bool) -> (Rig, Segment) {
    let mut rig = Rig::with(10, |config| {
        config.servers[0].overrides.window_scale = Some(told);
        config.servers[0].overrides.timestamps = Some(stamps);
    });
    rig.client_options.window_scale = client;
    rig.client_scale = client.unwrap_or(0);
    rig.server_options.window_scale = server.filter(|_| client.is_some() && told.is_some());
    rig.server_options.timestamps = rig.server_options.timestamps.filter(|_| stamps);
    let cookie = rig.open();
    (rig, cookie)
}

fn window(shown: Shown) -> u64 {
    match shown {
        Shown::Forward(seen) => u64::from(seen.window),
        other => panic!("{other:?}"),
    }
}

fn scale() -> impl Strategy<Value = Option<u8>> {
    proptest::option::weighted(0.9, 0u8..15)
}

fn offers() -> impl Strategy<Value = u16> {
    prop_oneof![0u16..20, any::<u16>()]
}

proptest! {
    #[test]
    fn e1_a_client_hears_a_closed_window_when_it_is_closed_and_only_then(
        client in scale(), server in scale(), told in scale(), stamps in any::<bool>(),
        offer in offers(),
    ) {
        let (mut rig, cookie) = open(client, server, told, stamps);
        let heard = cookie.options.window_scale.unwrap_or(0);
        let bytes = u64::from(offer) << rig.server_options.window_scale.unwrap_or(0);
        rig.server_window = offer;
        let answer = rig.server_frame(SERVER_ISN.wrapping_add(1), CLIENT_ISN.wrapping_add(1), ACK, b"");
        let field = window(rig.server_sends(answer));
        prop_assert_eq!(field == 0, bytes == 0);
        prop_assert!(field << heard < bytes + (1 << heard));
        prop_assert!(field << heard >= (bytes - bytes / 8).min(0xffff << heard));
    }

    #[test]
    fn e1_a_server_hears_a_closed_window_when_it_is_closed_and_never_more_than_is_open(
        client in scale(), server in scale(), told in scale(), stamps in any::<bool>(),
        offer in offers(),
    ) {
        let (mut rig, cookie) = open(client, server, told, stamps);
        // The server scales if it was asked to and does.
        let heard = match rig.server_options.window_scale {
            Some(_) if stamps => client.unwrap_or(0),
            Some(_) => [10, 8, 7, 5, 3, 0].into_iter().find(|&known| known <= client.unwrap_or(0)).unwrap(),
            None => 0,
        };
        let scales = cookie.options.window_scale.is_some();
        let bytes = u64::from(offer) << if scales { client.unwrap_or(0) } else { 0 };
        let (sequence, next) = (CLIENT_ISN.wrapping_add(1), cookie.sequence.wrapping_add(1));
        let frame = rig.client_octets(sequence, next, ACK, offer, &[], b"");
        let field = window(rig.client_sends(frame));
        prop_assert_eq!(field == 0, bytes == 0);
        prop_assert!(field << heard <= bytes);
    }

    #[test]
    fn e1_what_a_client_sends_within_the_window_it_was_told_passes(
        server in scale(), told in 0u8..15, offer in 1u16..2000,
    ) {
        let (mut rig, cookie) = open(Some(9), server, Some(told), true);
        let (sequence, next) = (CLIENT_ISN.wrapping_add(1), cookie.sequence.wrapping_add(1));
        // The last octet of what the cookie's SYN-ACK offered.
        let last = rig.client_octets(
            sequence.wrapping_add(u32::from(cookie.window) - 1), next, ACK, 500, &[], b"x",
        );
        window(rig.client_sends(last));
        rig.server_window = offer;
        let acked = sequence.wrapping_add(u32::from(cookie.window));
        let answer = rig.server_frame(SERVER_ISN.wrapping_add(1), acked, ACK, b"");
        let bytes = (window(rig.server_sends(answer)) as u32) << told;
        let last = acked.wrapping_add(bytes - 1);
        let frame = rig.client_octets(last, next, ACK, 500, &[], b"x");
        window(rig.client_sends(frame));
    }
}

#[test]
fn e1_a_challenge_does_not_close_a_window_that_is_open() {
    let (mut rig, cookie) = open(Some(9), None, Some(10), true);
    rig.server_window = 500;
    let (sequence, next) = (CLIENT_ISN.wrapping_add(1), cookie.sequence.wrapping_add(1));
    let acked = sequence.wrapping_add(u32::from(cookie.window));
    let data = rig.client_octets(acked.wrapping_sub(1), next, ACK, 500, &[], b"x");
    window(rig.client_sends(data));
    window(rig.server_sends(rig.server_frame(SERVER_ISN.wrapping_add(1), acked, ACK, b"")));
    let reset = rig.client_octets(acked.wrapping_add(100), next, flags::RST, 0, &[], b"");
    assert_eq!(
        rig.client_sends(reset),
        Shown::Dropped(DropReason::ResetNotExact)
    );
    assert_eq!(rig.only_sent().window, 1);
}

#[test]
fn e1_what_is_said_in_a_clients_place_is_in_the_scale_that_its_server_believes() {
    for server in [None, Some(7)] {
        let (mut rig, _) = open(Some(9), server, Some(7), true);
        let Shown::Reply(again) = rig.server_sends(rig.server_syn_ack()) else {
            panic!("no reply")
        };
        let scale = server.map_or(0, |_| 9);
        assert_eq!(again.window, 0xffff >> scale, "{server:?}");
    }
}
