//! What each kind of file means, beside what tcpdump makes of it.

use std::process::Command;

use super::samples::{Writer, frame};
use super::*;

fn read_of(data: &[u8]) -> Vec<Packet> {
    packets(data).unwrap_or_else(|refusal| panic!("{refusal:?}"))
}

fn refusal_of(data: &[u8]) -> Refusal {
    let refusal = packets(data).expect_err("it is refused");
    assert!(!refusal.remedy.is_empty());
    refusal
}

/// Times, in nanoseconds.
fn times(packets: &[Packet]) -> Vec<i128> {
    packets.iter().filter_map(|one| one.time_ns).collect()
}

/// The times that tcpdump reads out of the file, in nanoseconds.
fn times_of_tcpdump(data: &[u8]) -> Vec<i128> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), data).unwrap();
    let mut command = Command::new("tcpdump");
    command
        .args(["-nn", "-tt", "--nano", "-r"])
        .arg(file.path());
    let output = command.output().expect("tcpdump is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let time = |line: &str| {
        let (seconds, ns) = line.split(' ').next()?.split_once('.')?;
        Some(seconds.parse::<i128>().ok()? * 1_000_000_000 + ns.parse::<i128>().ok()?)
    };
    text.lines().filter_map(time).collect()
}

/// Sections whose interfaces count milliseconds, binary fractions and nanoseconds, the last one
/// with an offset.
fn sections(orders: [fn() -> Writer; 3]) -> Vec<u8> {
    let [one, two, three] = orders;
    let mut all = one();
    all.section().interface(1, 0, &[(9, &[3])]);
    all.packet(0, 5_001, &frame(1, 60), 60);
    let mut binary = two();
    binary.section().interface(1, 0, &[(9, &[0x80 | 10])]);
    binary.packet(0, 6 * 1024 + 512, &frame(2, 60), 60);
    let mut offset = three();
    let seconds = if offset.u32(1).bytes[0] == 1 {
        4_i64.to_le_bytes()
    } else {
        4_i64.to_be_bytes()
    };
    offset.bytes.clear();
    offset
        .section()
        .interface(1, 0, &[(9, &[9]), (14, &seconds)]);
    offset.packet(0, 3_000_000_007, &frame(3, 60), 60);
    [all.bytes, binary.bytes, offset.bytes].concat()
}

#[test]
fn j1_each_section_has_its_own_byte_order_and_time_unit() {
    let expected = [5_001_000_000, 6_500_000_000, 7_000_000_007];
    let little = sections([Writer::little, Writer::little, Writer::little]);
    assert_eq!(times(&read_of(&little)), expected);
    assert_eq!(times_of_tcpdump(&little), expected);
    // libpcap does not read sections of several byte orders; others write them nevertheless.
    let mixed = sections([Writer::big, Writer::little, Writer::big]);
    let read = read_of(&mixed);
    assert_eq!(times(&read), expected);
    let marks: Vec<u8> = read.iter().map(|one| one.frame[20]).collect();
    assert_eq!(marks, [1, 2, 3], "no frame is lost");
}

#[test]
fn j1_each_interface_has_its_own_time_unit() {
    let mut file = Writer::big();
    file.section()
        .interface(1, 96, &[])
        .interface(1, 65_535, &[(9, &[9])]);
    file.packet(1, 2_000_000_001, &frame(1, 60), 60);
    file.packet(0, 3_000_000, &frame(2, 60), 60);
    assert_eq!(times(&read_of(&file.bytes)), [2_000_000_001, 3_000_000_000]);
    // No time is so large that it would wrap.
    let mut file = Writer::little();
    file.section()
        .interface(1, 0, &[(9, &[0]), (14, &i64::MAX.to_le_bytes())]);
    file.packet(0, u64::MAX, &frame(1, 60), 60);
    assert!(times(&read_of(&file.bytes))[0] > 0);
}

#[test]
fn j2_blocks_that_are_unknown_or_have_no_packet_are_passed_over() {
    let mut file = Writer::little();
    file.section();
    file.block(0x0000_0bad, |body| {
        body.u32(7);
    });
    file.interface(1, 0, &[(2, b"eth0"), (0x0bad, b"x")]);
    file.block(4, |body| {
        body.u32(0);
    });
    file.packet(0, 1, &frame(1, 61), 61);
    // A packet block as they were before the enhanced one.
    file.block(2, |body| {
        body.u16(0).u16(0).u32(0).u32(2).u32(60).u32(60);
        body.bytes.extend(frame(2, 60));
    });
    let read = read_of(&file.bytes);
    assert_eq!(times(&read), [1_000, 2_000]);
    assert_eq!(times_of_tcpdump(&file.bytes), [1_000, 2_000]);
    assert_eq!(read[0].frame, frame(1, 61));
}

#[test]
fn j2_pcap_is_read_with_any_snaplen_time_unit_and_byte_order() {
    for (mut file, magic, ns) in [
        (Writer::little(), 0xa1b2_c3d4, 9_000),
        (Writer::big(), 0xa1b2_c3d4, 9_000),
        (Writer::little(), 0xa1b2_3c4d, 9),
        (Writer::big(), 0xa1b2_3c4d, 9),
    ] {
        // A snaplen of 0 and one that is smaller than what was recorded are both written by tools.
        for snaplen in [0, 40, 262_144] {
            file.bytes.clear();
            file.pcap(magic, snaplen, 1);
            file.record([4, 9], &frame(1, 60), 60);
            file.record([4, 9], &frame(2, 1000), 1000);
            let read = read_of(&file.bytes);
            assert_eq!(times(&read), [4_000_000_000 + ns; 2]);
            assert_eq!(times_of_tcpdump(&file.bytes), times(&read));
            assert_eq!(read[1].frame, frame(2, 1000));
        }
    }
    let mut modified = Writer::little();
    modified.pcap(0xa1b2_cd34, 65_535, 1);
    modified.u32(4).u32(9).u32(60).u32(60).u32(0).u32(0);
    modified.bytes.extend(frame(1, 60));
    assert_eq!(times(&read_of(&modified.bytes)), [4_000_009_000]);
}

#[test]
fn j2_a_cut_packet_tells_its_whole_length() {
    let mut file = Writer::little();
    file.pcap(0xa1b2_c3d4, 96, 1);
    file.record([1, 0], &frame(1, 96), 1514);
    let read = read_of(&file.bytes);
    assert_eq!((read[0].frame.len(), read[0].length), (96, 1514));
    let mut file = Writer::big();
    file.section().interface(1, 96, &[]);
    file.packet(0, 0, &frame(1, 96), 1514);
    file.simple_packet(&frame(2, 96), 1514);
    let lengths: Vec<_> = read_of(&file.bytes)
        .iter()
        .map(|one| (one.frame.len(), one.length))
        .collect();
    assert_eq!(lengths, [(96, 1514); 2]);
}

#[test]
fn j2_simple_packets_have_no_time() {
    let mut file = Writer::little();
    file.section().interface(1, 0, &[]);
    file.simple_packet(&frame(1, 61), 61);
    let read = read_of(&file.bytes);
    assert_eq!((read[0].time_ns, read[0].frame.len()), (None, 61));
    assert_eq!(times_of_tcpdump(&file.bytes), [0]);
}

#[test]
fn j2_the_check_sequence_of_a_frame_is_taken_off() {
    // Four bytes, in steps of two, and that the field is told.
    let with_check = 1 | 1 << 26 | 2 << 28;
    let mut file = Writer::little();
    file.pcap(0xa1b2_c3d4, 65_535, with_check);
    file.record([0, 0], &frame(1, 64), 64);
    file.record([0, 0], &frame(1, 62), 64);
    file.record([0, 0], &frame(1, 40), 64);
    let of = |data: &[u8]| -> Vec<_> {
        let read = read_of(data);
        read.iter()
            .map(|one| (one.frame.len(), one.length))
            .collect()
    };
    assert_eq!(of(&file.bytes), [(60, 60), (60, 60), (40, 60)]);
    assert_eq!(times_of_tcpdump(&file.bytes).len(), 3);
    for told in [4, 32] {
        let mut file = Writer::little();
        file.section().interface(1, 0, &[(13, &[told])]);
        file.packet(0, 0, &frame(1, 64), 64);
        assert_eq!(of(&file.bytes), [(60, 60)]);
    }
    let mut file = Writer::big();
    file.section().interface(1, 0, &[]);
    file.block(6, |body| {
        body.u32(0).u32(0).u32(0).u32(64).u32(64);
        body.bytes.extend(frame(1, 64));
        body.u16(2).u16(4).u32(4 << 5).u32(0);
    });
    assert_eq!(of(&file.bytes), [(60, 60)]);
}

#[test]
fn j2_ip_without_ethernet_becomes_frames() {
    let ip = &frame(7, 74)[14..];
    let [null, cooked, cooked2] = [4, 16, 20].map(|header| [vec![0; header], ip.to_vec()].concat());
    let mut cooked = cooked;
    cooked[14..16].copy_from_slice(&[8, 0]);
    let mut cooked2 = cooked2;
    cooked2[..2].copy_from_slice(&[8, 0]);
    for (link, data) in [
        (101, ip),
        (12, ip),
        (228, ip),
        (0, &null),
        (108, &null),
        (113, &cooked),
        (276, &cooked2),
    ] {
        let mut file = Writer::little();
        file.pcap(0xa1b2_c3d4, 65_535, link);
        file.record([0, 0], data, data.len() as u32);
        let read = read_of(&file.bytes);
        assert_eq!(read[0].frame[14..], *ip, "{link}");
        assert_eq!(read[0].frame[12..14], [8, 0], "{link}");
        assert_eq!(read[0].length, 74, "{link}");
    }
    // A frame of spanning tree in a cooked capture.
    cooked[14..16].copy_from_slice(&[0, 4]);
    let mut file = Writer::little();
    file.pcap(0xa1b2_c3d4, 65_535, 113);
    file.record([0, 0], &cooked, cooked.len() as u32);
    assert!(
        refusal_of(&file.bytes)
            .what
            .contains("packet 1 has no EtherType")
    );
}

#[test]
fn j2_another_link_layer_is_told_with_the_packet() {
    let mut file = Writer::little();
    file.section().interface(127, 0, &[]).interface(1, 0, &[]);
    file.packet(1, 0, &frame(1, 60), 60);
    assert_eq!(
        read_of(&file.bytes).len(),
        1,
        "an interface without packets does no harm"
    );
    file.packet(0, 0, &frame(2, 60), 60);
    let refusal = refusal_of(&file.bytes);
    assert!(
        refusal.what.starts_with("packet 2 is of Wi-Fi"),
        "{refusal:?}"
    );
    let mut file = Writer::big();
    file.pcap(0xa1b2_c3d4, 0, 77);
    file.record([0, 0], &frame(1, 60), 60);
    assert!(
        refusal_of(&file.bytes)
            .what
            .contains("packet 1 is of link type 77")
    );
}

#[test]
fn j2_a_damaged_file_is_told_with_its_packet() {
    let mut whole = Writer::little();
    whole.pcap(0xa1b2_c3d4, 65_535, 1);
    whole
        .record([0, 0], &frame(1, 60), 60)
        .record([0, 0], &frame(2, 60), 60);
    let mut huge = Writer::little();
    huge.pcap(0xa1b2_c3d4, 65_535, 1)
        .u32(0)
        .u32(0)
        .u32(u32::MAX)
        .u32(u32::MAX);
    let mut stranger = Writer::little();
    stranger
        .section()
        .interface(1, 0, &[])
        .packet(3, 0, &frame(1, 60), 60);
    let mut wrong = Writer::little();
    wrong.section().u32(1).u32(8).u32(8);
    let mut cut = Writer::little();
    cut.section()
        .interface(1, 0, &[])
        .packet(0, 0, &frame(1, 60), 60);
    let block_end = cut.bytes.len() - 9;
    for (data, said) in [
        (
            &whole.bytes[..whole.bytes.len() - 1],
            "ends within packet 2",
        ),
        (&whole.bytes[..24 + 76 + 7], "ends within packet 2"),
        (&whole.bytes[..20], "ends within its header"),
        (&huge.bytes, "packet 1 claims 4294967295 bytes"),
        (
            &stranger.bytes,
            "packet 1 is of interface 3, which is not told",
        ),
        (
            &wrong.bytes,
            "the block at byte 28, behind packet 0, tells a wrong length",
        ),
        (
            &cut.bytes[..block_end],
            "the file ends within a block behind packet 0",
        ),
        (&[0x1f, 0x8b, 8, 0], "it is compressed"),
        (&[], "the file is empty"),
        (b"GET / HTTP/1.1", "neither pcap nor pcapng"),
    ] {
        let refusal = refusal_of(data);
        assert!(refusal.what.contains(said), "{refusal:?} {said}");
    }
}

#[test]
fn no_bytes_of_a_file_make_the_reader_fail_otherwise() {
    let mut pcap = Writer::little();
    pcap.pcap(0xa1b2_c3d4, 96, 1);
    pcap.record([1, 0], &frame(1, 60), 1514);
    let pcapng = sections([Writer::big, Writer::little, Writer::big]);
    for whole in [&pcap.bytes, &pcapng] {
        for place in 0..whole.len() {
            let _ = packets(&whole[..place]);
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut data = whole.clone();
                data[place] = value;
                let _ = packets(&data);
            }
        }
    }
}
