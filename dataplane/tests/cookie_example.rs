//! The examples of `docs/wire/cookie.md`: what the page says is what the code does.
#![forbid(unsafe_code)]

use std::hash::Hasher;
use std::net::IpAddr;

use aes::Aes128Enc;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use dataplane::guard::cookie::{Agreed, CookieJar, CookieKey, Tuple};
use dataplane::guard::mss::{MSS_IPV4, MSS_IPV6, MSS_WITH_TIMESTAMPS};
use dataplane::wire::address::Address;
use dataplane::wire::tcp::MAX_OPTION_BYTES;
use dataplane::wire::tcp_options::SynOptions;
use siphasher::sip128::{Hasher128, SipHasher24};

const PAGE: &str = include_str!("../../docs/wire/cookie.md");
const KEY: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const UNIX_S: u64 = 1_763_673_000;

fn agreed(timestamps: bool) -> Agreed {
    let agreed = Agreed {
        mss_class: if timestamps { 22 } else { 6 },
        window_scale: Some(8),
        told_scale: Some(7),
        sack: true,
        ecn: false,
        timestamps,
    };
    if timestamps {
        agreed
    } else {
        agreed.without_timestamps()
    }
}

fn octets(hex: &str) -> Vec<u8> {
    let pair = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(pair).collect()
}

fn assert_on_page(what: &str) {
    assert!(PAGE.contains(what), "{what} does not stand on the page");
}

/// The cipher's key: the cookie key's code of a label.
fn cipher_key() -> [u8; 16] {
    let mut hasher = SipHasher24::new_with_key(&KEY);
    hasher.write(b"tidegatecookie 3");
    hasher.finish128().as_bytes()
}

/// Checks one example: the page has it, the function gives it, the guard makes it.
fn example(client: &str, server: &str, timestamps: bool, input: &str, details: u32) {
    let cipher = Aes128Enc::new(&cipher_key().into());
    let output = octets(input).chunks(16).fold([0; 16], |state, block| {
        let mut block = std::array::from_fn(|at| state[at] ^ block[at]).into();
        cipher.encrypt_block(&mut block);
        block.into()
    });
    let word = |at: usize| u64::from_le_bytes(output[at..at + 8].try_into().unwrap());

    let low = if timestamps {
        22 << 1
    } else {
        6 << 3 | details
    };
    let sequence = (word(0) as u32 & 0xff_ffff) << 8 | 1 << 6 | low;
    let timestamp = (word(8) as u32 & 0x3f_ffff) << 10 | details;

    let address = |text: &str| Address::from(text.parse::<IpAddr>().unwrap());
    let tuple = Tuple {
        client: address(client),
        server: address(server),
        client_port: 40_000,
        server_port: 80,
        client_sequence: 0x1234_5678,
    };
    let jar = CookieJar::new(&[CookieKey {
        not_before_s: 0,
        secret: KEY,
    }]);
    let cookie = jar.make(&tuple, agreed(timestamps), UNIX_S);
    assert_eq!(cookie.sequence, sequence);
    assert_on_page(&format!("| input | `{input}` |"));
    let output: String = output.iter().map(|octet| format!("{octet:02x}")).collect();
    assert_on_page(&format!("| output | `{output}` |"));
    assert_on_page(&format!("| sequence number | `{sequence:#010x}` |"));
    if timestamps {
        assert_eq!(cookie.timestamp, timestamp);
        assert_on_page(&format!("| timestamp value | `{timestamp:#010x}` |"));
    }
    let checked = jar.check(&tuple, cookie, timestamps, UNIX_S + 32);
    assert_eq!(checked, Ok(agreed(timestamps)));
}

#[test]
fn the_examples_of_the_page_are_what_the_guard_makes() {
    let key: String = cipher_key()
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect();
    assert_on_page(&format!("`{key}`"));
    let details = 7 << 6 | 8 << 2 | 1 << 1;
    example(
        "198.51.100.7",
        "10.0.0.10",
        true,
        "1dfc480300e201960000000000000000c63364070a00000a5000409c78563412",
        details,
    );
    example(
        "198.51.100.7",
        "10.0.0.10",
        false,
        "1dfc4803000600060000000000000000c63364070a00000a5000409c78563412",
        6,
    );
    example(
        "2001:db8::7",
        "fd00:1::10",
        true,
        "1dfc480300e201d65000409c7856341220010db8000000000000000000000007\
         fd000001000000000000000000000010",
        details,
    );
}

#[test]
fn the_classes_of_the_page_are_those_of_the_code() {
    for (family, table) in [("IPv4", MSS_IPV4), ("IPv6", MSS_IPV6)] {
        let row: Vec<String> = table.iter().map(u16::to_string).collect();
        assert_on_page(&format!("| {family} MSS | {} |", row.join(" | ")));
    }
    for (first, row) in (0..).step_by(8).zip(MSS_WITH_TIMESTAMPS.chunks(8)) {
        let row: Vec<String> = row.iter().map(u16::to_string).collect();
        assert_on_page(&format!(
            "| {first} to {} | {} |",
            first + 7,
            row.join(" | ")
        ));
    }
    let scales: Vec<Option<u8>> = (0..=14)
        .map(|scale| Agreed {
            window_scale: Some(scale),
            ..agreed(true)
        })
        .map(|agreed| agreed.without_timestamps().window_scale)
        .collect();
    let mut classes = scales.clone();
    classes.dedup();
    let row: Vec<String> = classes
        .iter()
        .map(|scale| format!("SACK, {}", scale.unwrap()))
        .collect();
    assert_on_page(&format!("| neither | SACK | {} |", row.join(" | ")));
}

#[test]
fn the_options_of_a_syn_ack_fit_into_the_tightest_layout_of_the_same_options() {
    // CASES 9
    for choice in 0..16 {
        let has = |bit: u32| choice >> bit & 1 == 1;
        let options = SynOptions {
            mss: has(0).then_some(1460),
            window_scale: has(1).then_some(7),
            sack_permitted: has(2),
            timestamps: has(3).then_some((1, 2)),
        };
        let tightest = [(0, 4), (1, 3), (2, 2), (3, 10)]
            .iter()
            .filter(|(bit, _)| has(*bit))
            .map(|(_, octets)| octets)
            .sum::<usize>()
            .next_multiple_of(4);
        let laid_out = options.write(&mut [0; MAX_OPTION_BYTES]);
        assert!(laid_out <= tightest, "{options:?}");
    }
}
