//! Options as hosts write them, as nobody should, and as they are written here.

use super::*;
use crate::wire::checksum::internet_checksum;
use proptest::prelude::*;

const TIMESTAMPS: [u8; 10] = [kind::TIMESTAMPS, 10, 0, 0, 0, 1, 0, 0, 0, 2];

proptest! {
    #[test]
    fn a_syn_of_linux_reads_as_any_list(body in any::<[u8; 11]>()) {
        let mut options = vec![kind::MSS, 4, body[0], body[1], kind::SACK_PERMITTED, 2];
        options.extend([kind::TIMESTAMPS, 10]);
        options.extend(&body[2..10]);
        options.extend([kind::NOP, kind::WINDOW_SCALE, 3, body[10]]);
        prop_assert!(parse_usual(&options).is_some());
        prop_assert_eq!(parse(&options), parse_list(&options));
    }
}

#[test]
fn malformed_options_are_refused() {
    // CASES 5
    let table: &[(&str, &[u8])] = &[
        ("length 0", &[kind::MSS, 0, 5, 0xb4]),
        ("length 1", &[kind::MSS, 1, 5, 0xb4]),
        ("length 0 of an unknown option", &[99, 0, 0, 0]),
        ("length 1 of an unknown option", &[99, 1, 0, 0]),
        ("no length", &[kind::NOP, kind::NOP, kind::NOP, kind::MSS]),
        (
            "past the end",
            &[kind::NOP, kind::NOP, kind::TIMESTAMPS, 10],
        ),
        ("an unknown option past the end", &[99, 5, 0, 0]),
        ("MSS of 2", &[kind::MSS, 2, kind::NOP, kind::NOP]),
        ("MSS of 3", &[kind::MSS, 3, 5, kind::NOP]),
        ("MSS of 5", &[kind::MSS, 5, 5, 0xb4, 0, 1, 1, 1]),
        ("MSS cut short", &[kind::MSS, 4, 5]),
        ("window scale of 2", &[kind::WINDOW_SCALE, 2, 1, 1]),
        ("window scale of 4", &[kind::WINDOW_SCALE, 4, 7, 7]),
        ("SACK permitted of 3", &[kind::SACK_PERMITTED, 3, 0, 1]),
        ("timestamps of 8", &[kind::TIMESTAMPS, 8, 0, 0, 0, 1, 0, 0]),
        (
            "timestamps of 12",
            &[kind::TIMESTAMPS, 12, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0],
        ),
        ("SACK without a block", &[kind::SACK, 2, 1, 1]),
        ("SACK of half a block", &[kind::SACK, 6, 0, 0, 0, 1, 1, 1]),
        (
            "SACK of a block and a half",
            &[kind::SACK, 14, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3],
        ),
        ("MSS twice", &[kind::MSS, 4, 5, 0xb4, kind::MSS, 4, 5, 0xb4]),
        (
            "window scale twice",
            &[kind::WINDOW_SCALE, 3, 1, kind::WINDOW_SCALE, 3, 1],
        ),
        (
            "SACK permitted twice",
            &[kind::SACK_PERMITTED, 2, kind::SACK_PERMITTED, 2],
        ),
        ("fast open twice", &[kind::FAST_OPEN, 2, kind::FAST_OPEN, 2]),
        ("timestamps twice", &[TIMESTAMPS, TIMESTAMPS].concat()),
        (
            "SACK twice",
            &[kind::SACK, 10, 0, 0, 0, 1, 0, 0, 0, 2].repeat(2),
        ),
        (
            "SACK of five blocks",
            &[&[kind::SACK, 42][..], &[0; 40]].concat(),
        ),
        ("more than a header holds", &[kind::NOP; 41]),
    ];
    for (what, options) in table {
        let parsed = parse(options);
        assert_eq!(parsed, Err(DropReason::MalformedTcpOptions), "{what}");
    }
}

#[test]
fn unknown_options_and_an_early_end_are_passed_over() {
    let none = TcpOptions::default();
    assert_eq!(parse(&[]), Ok(none));
    assert_eq!(parse(&[kind::NOP; 40]), Ok(none));
    assert_eq!(parse(&[kind::END, kind::MSS, 0, 0]), Ok(none));
    assert_eq!(parse(&[99, 4, 1, 2, 99, 4, 1, 2]), Ok(none));
    assert_eq!(parse(&[99, 2, kind::END, 0xff]), Ok(none));
    let experiment = parse(&[kind::EXPERIMENT, 4, 0xf9, 0x89]).unwrap();
    assert!(experiment.fast_open);
    assert!(parse(&[kind::FAST_OPEN, 2, 1, 1]).unwrap().fast_open);
    assert_eq!(parse(&[kind::EXPERIMENT, 4, 0xde, 0xad]), Ok(none));
    assert_eq!(parse(&[kind::EXPERIMENT, 2]), Ok(none));
    assert_eq!(parse(&[kind::MSS, 4, 0, 0]).unwrap().mss, Some(0));
    let scale = parse(&[kind::WINDOW_SCALE, 3, 255, 0])
        .unwrap()
        .window_scale;
    assert_eq!(scale, Some(MAX_WINDOW_SCALE));
}

#[test]
fn the_usual_layouts_are_read() {
    let usual = [&[kind::NOP, kind::NOP][..], &TIMESTAMPS].concat();
    let stamps = Timestamps {
        value: 1,
        echo: 2,
        offset: 24,
    };
    assert_eq!(parse(&usual).unwrap().timestamps, Some(stamps));
    assert_eq!(parse(&usual), parse_list(&usual));

    let sacked = [
        &usual[..],
        &[kind::NOP, kind::NOP, kind::SACK, 18],
        &[7; 16],
    ]
    .concat();
    let parsed = parse(&sacked).unwrap();
    assert_eq!(parsed.timestamps, Some(stamps));
    assert_eq!(
        parsed.sack_blocks,
        Some(SackBlocks {
            offset: 36,
            count: 2
        })
    );

    let unaligned = [&TIMESTAMPS[..], &[kind::NOP, kind::NOP]].concat();
    assert_eq!(parse(&unaligned).unwrap().timestamps.unwrap().offset, 22);
}

#[test]
fn what_linux_sends_is_what_a_syn_of_ours_looks_like() {
    let mut options = [0xee; MAX_OPTION_BYTES];
    let syn = SynOptions {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some((0x0102_0304, 0x0506_0708)),
    };
    let expected = [
        2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 7,
    ];
    assert_eq!(syn.write(&mut options), 20);
    assert_eq!(options[..20], expected);
    assert_eq!(options[20..], [0xee; 20]);
}

/// A list of options of which most are well-formed.
fn option_list() -> impl Strategy<Value = Vec<u8>> {
    let option = prop_oneof![
        Just(vec![kind::NOP]),
        any::<u16>().prop_map(|mss| [&[kind::MSS, 4][..], &mss.to_be_bytes()].concat()),
        any::<u8>().prop_map(|scale| vec![kind::WINDOW_SCALE, 3, scale]),
        Just(vec![kind::SACK_PERMITTED, 2]),
        any::<[u8; 8]>().prop_map(|body| [&[kind::TIMESTAMPS, 10][..], &body].concat()),
        any::<[u8; 8]>().prop_map(|body| [&[kind::SACK, 10][..], &body].concat()),
        any::<[u8; 16]>().prop_map(|body| [&[kind::SACK, 18][..], &body].concat()),
        proptest::collection::vec(any::<u8>(), 1..5),
    ];
    proptest::collection::vec(option, 0..6).prop_map(|options| {
        let mut list = options.concat();
        list.truncate(MAX_OPTION_BYTES);
        list
    })
}

#[test]
fn e3_what_a_syn_is_refused_for_is_read_as_linux_reads_it() {
    assert_eq!(
        read(&[kind::SACK_PERMITTED, 2, kind::SACK_PERMITTED, 2]),
        read(&[4, 2])
    );
    assert_eq!(
        read(&[99, 0, kind::SACK_PERMITTED, 2]),
        TcpOptions::default()
    );
    assert_eq!(
        read(&[99, 9, kind::SACK_PERMITTED, 2]),
        TcpOptions::default()
    );
    assert!(read(&[kind::SACK, 2, kind::SACK_PERMITTED, 2]).sack_permitted);
    assert!(read(&[kind::MSS, 3, 5, kind::SACK_PERMITTED, 2]).sack_permitted);
    let last = [&[kind::TIMESTAMPS, 10][..], &[9; 8], &TIMESTAMPS].concat();
    assert_eq!(read(&last).timestamps.unwrap().offset, 32);
    let sizes = [kind::MSS, 4, 5, 0xb4, kind::MSS, 4, 0, 0];
    assert_eq!(read(&sizes).mss, Some(1460), "0 says nothing");
}

proptest! {
    #[test]
    fn e3_what_is_accepted_is_read_the_same(options in option_list()) {
        let read = read(&options);
        if let Ok(parsed) = parse(&options) {
            let mss = parsed.mss.filter(|&mss| mss > 0);
            prop_assert_eq!(read, TcpOptions { mss, ..parsed });
        }
    }

    #[test]
    fn every_accepted_offset_lies_within_the_header(options in option_list()) {
        prop_assert_eq!(parse(&options), parse_list(&options));
        let Ok(parsed) = parse(&options) else { return Ok(()) };
        if let Some(stamps) = parsed.timestamps {
            let at = usize::from(stamps.offset) - HEADER_BYTES;
            prop_assert_eq!(&options[at - 2..at], &[kind::TIMESTAMPS, 10]);
            prop_assert_eq!(stamps.value, u32_at(&options, at));
            prop_assert_eq!(stamps.echo, u32_at(&options, at + 4));
        }
        if let Some(blocks) = parsed.sack_blocks {
            let at = usize::from(blocks.offset) - HEADER_BYTES;
            prop_assert_eq!(&options[at - 2..at], &[kind::SACK, 2 + 8 * blocks.count]);
            prop_assert!(at + 8 * usize::from(blocks.count) <= options.len());
            prop_assert!((1..=MAX_SACK_BLOCKS).contains(&blocks.count));
        }
    }

    // CASES 8
    #[test]
    fn shifted_blocks_keep_the_checksum_and_the_rest(
        padding in 0usize..4,
        edges in proptest::collection::vec(any::<u32>(), 1..=4),
        delta in any::<u32>(),
    ) {
        let mut segment = vec![0x11; HEADER_BYTES];
        segment.extend(vec![kind::NOP; padding]);
        segment.extend([kind::SACK, 2 + 8 * edges.len() as u8]);
        for edge in &edges {
            segment.extend(edge.to_be_bytes());
            segment.extend(edge.wrapping_add(1448).to_be_bytes());
        }
        let blocks = parse(&segment[HEADER_BYTES..]).unwrap().sack_blocks.unwrap();
        let before = internet_checksum(&segment);
        let update = blocks.shift(&mut segment, delta, Update::new());
        prop_assert_eq!(update.apply(before), internet_checksum(&segment));
        for (block, edge) in edges.iter().enumerate() {
            let at = usize::from(blocks.offset) + block * 8;
            let left = edge.wrapping_add(delta);
            prop_assert_eq!(u32_at(&segment, at), left);
            prop_assert_eq!(u32_at(&segment, at + 4), left.wrapping_add(1448));
        }
    }

    #[test]
    fn a_blanked_option_is_gone_and_the_checksum_follows(
        mut options in option_list(),
        wanted in prop_oneof![
            Just(kind::SACK),
            Just(kind::SACK_PERMITTED),
            Just(kind::TIMESTAMPS),
            Just(kind::MSS),
        ],
    ) {
        let original = options.clone();
        let before = internet_checksum(&[&[0x45, 0x06], &options[..]].concat());
        let update = blank(&mut options, wanted);
        let after = internet_checksum(&[&[0x45, 0x06], &options[..]].concat());
        prop_assert_eq!(update.apply(before), after);
        let Ok(expected) = parse(&original) else { return Ok(()) };
        let mut left = parse(&options).unwrap();
        match wanted {
            kind::SACK => left.sack_blocks = expected.sack_blocks,
            kind::SACK_PERMITTED => left.sack_permitted = expected.sack_permitted,
            kind::TIMESTAMPS => left.timestamps = expected.timestamps,
            _ => left.mss = expected.mss,
        }
        prop_assert_eq!(left, expected);
        let again = blank(&mut options, wanted);
        prop_assert_eq!(again, Update::new());
    }

    #[test]
    fn what_a_syn_says_is_read_back(
        mss in any::<Option<u16>>(),
        window_scale in proptest::option::of(0..=MAX_WINDOW_SCALE),
        sack_permitted in any::<bool>(),
        timestamps in any::<Option<(u32, u32)>>(),
    ) {
        let mut options = [0xee; MAX_OPTION_BYTES];
        let syn = SynOptions { mss, window_scale, sack_permitted, timestamps };
        let length = syn.write(&mut options);
        prop_assert_eq!(length % 4, 0);
        let parsed = parse(&options[..length]).unwrap();
        let stamps = parsed.timestamps.map(|stamps| (stamps.value, stamps.echo));
        let read = SynOptions {
            mss: parsed.mss,
            window_scale: parsed.window_scale,
            sack_permitted: parsed.sack_permitted,
            timestamps: stamps,
        };
        prop_assert_eq!(read, syn);
    }

    #[test]
    fn no_octets_make_it_panic(mut options in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = parse(&options);
        let _ = read(&options);
        let _ = blank(&mut options, kind::SACK);
    }
}
