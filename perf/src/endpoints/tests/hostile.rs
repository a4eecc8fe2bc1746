//! Bytes that nobody should send.

use proptest::prelude::*;

use super::joined::{Joined, SECOND_NS, talk};
use super::troubled::rewrite;
use crate::endpoints::Close;

/// The frames of a whole conversation, towards the servers and towards the clients.
fn conversation() -> [Vec<Vec<u8>>; 2] {
    let mut joined = Joined::plain(talk(200, 3000), Close::Client);
    let mut to_servers: Vec<Vec<u8>> = Vec::new();
    let mut to_clients: Vec<Vec<u8>> = Vec::new();
    let mut now_ns = SECOND_NS;
    joined.clients.open(now_ns, &mut to_servers).unwrap();
    let (mut asked, mut answered) = (0, 0);
    while asked < to_servers.len() || answered < to_clients.len() {
        now_ns += 1_000_000;
        while asked < to_servers.len() {
            joined
                .servers
                .receive(&to_servers[asked], now_ns, &mut to_clients);
            asked += 1;
        }
        joined.servers.flush(now_ns, &mut to_clients);
        while answered < to_clients.len() {
            joined
                .clients
                .receive(&to_clients[answered], now_ns, &mut to_servers);
            answered += 1;
        }
        joined.clients.flush(now_ns, &mut to_servers);
    }
    joined.assert_completed(1);
    [to_servers, to_clients]
}

proptest! {
    #[test]
    fn no_frame_makes_an_end_panic_or_lose_count(
        changes in proptest::collection::vec(
            (any::<(u8, u8, u8)>(), any::<bool>(), any::<bool>()), 1..60,
        ),
    ) {
        let frames = conversation();
        let mut joined = Joined::plain(talk(200, 3000), Close::Client);
        let mut now_ns = SECOND_NS;
        let mut out: Vec<Vec<u8>> = Vec::new();
        joined.clients.open(now_ns, &mut out).unwrap();
        for ((which, place, octet), to_client, repairs) in changes {
            now_ns += 50_000_000;
            let kind = &frames[usize::from(to_client)];
            let mut frame = kind[usize::from(which) % kind.len()].clone();
            let place = usize::from(place) % frame.len();
            frame[place] = octet;
            if repairs {
                rewrite(&mut frame, |_| {});
            }
            if to_client {
                joined.clients.receive(&frame, now_ns, &mut out);
                joined.clients.flush(now_ns, &mut out);
                joined.clients.poll(now_ns, &mut out);
            } else {
                joined.servers.receive(&frame, now_ns, &mut out);
                joined.servers.flush(now_ns, &mut out);
                joined.servers.poll(now_ns, &mut out);
            }
            joined.assert_sums();
        }
    }

    #[test]
    fn no_bytes_make_an_end_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let mut joined = Joined::plain(talk(200, 0), Close::Client);
        let mut out: Vec<Vec<u8>> = Vec::new();
        joined.clients.receive(&bytes, SECOND_NS, &mut out);
        joined.servers.receive(&bytes, SECOND_NS, &mut out);
        prop_assert!(out.is_empty());
    }
}
