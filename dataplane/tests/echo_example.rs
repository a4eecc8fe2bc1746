//! The example of `docs/wire/echo.md`: what the page says is what the code does.
#![forbid(unsafe_code)]

use std::hash::Hasher;
use std::net::IpAddr;

use dataplane::echo::{EchoJar, HEADER_BYTES, MAX_AGE_MS, MAX_GROWTH_BYTES, MAX_PAYLOAD_BYTES};
use dataplane::guard::cookie::CookieKey;
use dataplane::limits::MAX_ECHOES_PER_SECOND;
use dataplane::wire::address::Address;
use siphasher::sip128::{Hasher128, SipHasher24};

const PAGE: &str = include_str!("../../docs/wire/echo.md");
const KEY: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const UNIX_MS: u64 = 1_763_673_000_123;

fn hash(key: &[u8; 16], input: &[u8]) -> [u8; 16] {
    let mut hasher = SipHasher24::new_with_key(key);
    hasher.write(input);
    hasher.finish128().as_bytes()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn assert_on_page(what: &str) {
    assert!(PAGE.contains(what), "{what} does not stand on the page");
}

#[test]
fn the_example_is_what_the_code_makes() {
    let address = |text: &str| Address::from(text.parse::<IpAddr>().unwrap());
    let ends = (address("198.51.100.7"), address("10.0.0.10"));
    let mut tcp = [0; 20];
    tcp[..2].copy_from_slice(&40_000_u16.to_be_bytes());
    tcp[2..4].copy_from_slice(&80_u16.to_be_bytes());
    tcp[4..8].copy_from_slice(&0x1234_5678_u32.to_be_bytes());
    tcp[12..14].copy_from_slice(&[0x50, 0x02]);

    // As the page tells it.
    let key = hash(&KEY, b"tidegate echo v1");
    let mut head = b"TGEC\x01\x00\x14\x00".to_vec();
    head.extend(UNIX_MS.to_be_bytes());
    let mut input = head.clone();
    input.extend(ends.0.octets());
    input.extend(ends.1.octets());
    input.extend(tcp);
    input.resize(112, 0);
    let told = [&head[..], &hash(&key, &input), &tcp].concat();

    let jar = EchoJar::new(&[CookieKey {
        not_before_s: 0,
        secret: KEY,
    }]);
    let mut made = [0; MAX_PAYLOAD_BYTES];
    let length = jar.seal(&mut made, &tcp, 0, ends, UNIX_MS);
    assert_eq!(made[..length], told);
    assert!(jar.open(&told, ends, UNIX_MS).is_ok());

    assert_on_page(&hex(&key));
    for line in told.chunks(16) {
        assert_on_page(&hex(line));
    }
}

#[test]
fn the_sizes_and_bounds_are_those_of_the_code() {
    assert_on_page(&format!("{} to {}", HEADER_BYTES + 20, MAX_PAYLOAD_BYTES));
    assert_on_page(&format!("{MAX_GROWTH_BYTES} more"));
    assert_on_page(&format!("made more than {} s ago", MAX_AGE_MS / 1000));
    assert_on_page(&format!("{},000 echoes", MAX_ECHOES_PER_SECOND / 1000));
}
