//! Frames of a capture, to be sent again.

use std::path::Path;
use std::sync::Arc;

use super::CHECK_SEQUENCE_BYTES;
use super::capture::{self, Packet, Refusal};

/// Frames of a capture, and their bytes together.
const MOST_FRAMES: usize = 1 << 20;
const MOST_BYTES: usize = 1 << 30;
/// The largest frame without check sequence, and the smallest.
const LARGEST: usize = 9014;
const SMALLEST: usize = 14;

/// What is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Capture {
    /// The frames, without check sequence, in the order of their times.
    pub frames: Vec<Vec<u8>>,
    /// When each is sent, in nanoseconds since the first, in their order; with repetitions.
    pub times_ns: Arc<[u64]>,
    /// How many of them the capture holds in part only, as `tcpdump -s 96` leaves them: zeros stand
    /// for the rest.
    pub cut: usize,
    /// How many of them have no time in the capture.
    pub untimed: usize,
}

/// Reads a pcap or pcapng file, to be sent so often.
pub(super) fn read(file: &Path, repeat: u32) -> Result<Capture, (String, String)> {
    let name = file.display();
    let told = |Refusal { what, remedy }| (format!("{name}: {what}"), remedy);
    let mut packets = capture::read(file).map_err(told)?;
    if packets.is_empty() {
        let remedy = "capture some frames".to_owned();
        return Err((format!("{name} has no frames"), remedy));
    }
    check(&packets).map_err(told)?;
    let total = packets.len() as u64 * u64::from(repeat);
    if total > 1 << 24 {
        let remedy = format!("repeat it {} times at the most", (1 << 24) / packets.len());
        return Err((format!("{name} would be {total} frames in all"), remedy));
    }
    let untimed = packets.iter().filter(|one| one.time_ns.is_none()).count();
    let cut = packets.iter().filter(|one| one.is_cut()).count();
    // Files of several interfaces or sections need not be in the order of time.
    if untimed == 0 {
        packets.sort_by_key(|one| one.time_ns);
    }
    let first = packets.iter().find_map(|one| one.time_ns).unwrap_or(0);
    let since = |one: &Packet| u64::try_from(one.time_ns.unwrap_or(first) - first).unwrap_or(0);
    let mut times: Vec<u64> = packets.iter().map(since).collect();
    times.sort_unstable();
    // A repetition begins after a mean gap.
    let last = times.last().copied().unwrap_or(0);
    let period = last + (last / times.len().max(2) as u64).max(1_000);
    let all = (0..u64::from(repeat))
        .flat_map(|round| times.iter().map(move |time| round * period + time))
        .collect();
    Ok(Capture {
        frames: packets.into_iter().map(whole).collect(),
        times_ns: all,
        cut,
        untimed,
    })
}

/// Whether a device can send these.
fn check(packets: &[Packet]) -> Result<(), Refusal> {
    let bytes: usize = packets.iter().map(|one| one.length).sum();
    if packets.len() > MOST_FRAMES || bytes > MOST_BYTES {
        let remedy =
            format!("take the first of them, by `tcpdump -r FILE -w NEW -c {MOST_FRAMES}`");
        return Err(Refusal::new(
            "it is larger than 2^20 frames or 1 GiB",
            remedy,
        ));
    }
    let Some(wrong) = packets
        .iter()
        .find(|one| !(SMALLEST..=LARGEST).contains(&one.length))
    else {
        return Ok(());
    };
    let (number, length) = (wrong.number, wrong.length);
    Err(if length > LARGEST {
        Refusal::new(
            format!(
                "packet {number} has {length} bytes, and a frame at most {LARGEST}: the host that \
                 captured had its interface join or cut segments"
            ),
            format!(
                "turn that off there, by `ethtool -K INTERFACE gro off lro off tso off gso off`, or \
                 leave such packets out, by `tcpdump -r FILE -w NEW 'less {LARGEST}'`"
            ),
        )
    } else {
        Refusal::new(
            format!("packet {number} has {length} bytes, fewer than an Ethernet header"),
            format!("leave such packets out, by `tcpdump -r FILE -w NEW 'greater {SMALLEST}'`"),
        )
    })
}

impl Packet {
    /// Whether the capture holds a part of it only.
    fn is_cut(&self) -> bool {
        self.frame.len() < self.length
    }
}

/// The frame at its whole length; devices send none that is shorter than Ethernet's.
fn whole(mut packet: Packet) -> Vec<u8> {
    let length = packet.length.max(64 - CHECK_SEQUENCE_BYTES);
    packet.frame.resize(length, 0);
    packet.frame
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pcap_file::pcap::{PcapPacket, PcapWriter};

    use super::super::capture::samples::{Writer, frame};
    use super::*;

    fn capture(frames: &[(u64, usize)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = PcapWriter::new(file.reopen().unwrap()).unwrap();
        for (time_us, octets) in frames {
            let data = vec![7; *octets];
            let time = Duration::from_secs(9) + Duration::from_micros(*time_us);
            let packet = PcapPacket::new(time, data.len() as u32, &data);
            writer.write_packet(&packet).unwrap();
        }
        file
    }

    #[test]
    fn a_capture_keeps_its_times_and_repeats() {
        let file = capture(&[(0, 20), (500, 100), (1000, 60)]);
        let read = read(file.path(), 2).unwrap();
        let lengths: Vec<usize> = read.frames.iter().map(Vec::len).collect();
        assert_eq!(lengths, [60, 100, 60]);
        assert_eq!(read.times_ns[..3], [0, 500_000, 1_000_000]);
        assert_eq!(read.times_ns.len(), 6);
        assert!(read.times_ns[3] > 1_000_000);
    }

    #[test]
    fn what_is_no_capture_is_refused_with_its_name() {
        let empty = capture(&[]);
        let long = capture(&[(0, 10_000)]);
        for (file, word) in [
            (Path::new("/nosuch.pcap"), "/nosuch.pcap"),
            (Path::new("/proc/self/stat"), "/proc/self/stat"),
            (empty.path(), "no frames"),
            (long.path(), "packet 1 has 10000 bytes"),
        ] {
            let (what, remedy) = read(file, 1).unwrap_err();
            assert!(what.contains(word), "{what}");
            assert!(!remedy.is_empty());
        }
        let (what, _) = read(capture(&[(0, 60)]).path(), 1 << 25).unwrap_err();
        assert!(what.contains("frames in all"), "{what}");
    }

    fn file(data: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), data).unwrap();
        file
    }

    #[test]
    fn j1_frames_of_several_sections_are_sent_in_the_order_of_their_times() {
        let mut all = Writer::little();
        all.section().interface(1, 0, &[(9, &[9])]);
        all.packet(0, 2_000_000_000, &frame(2, 60), 60);
        all.section().interface(1, 0, &[(9, &[3])]);
        all.packet(0, 1_500, &frame(1, 60), 60);
        all.packet(0, 3_000, &frame(3, 60), 60);
        let read = read(file(&all.bytes).path(), 1).unwrap();
        assert_eq!(read.times_ns[..], [0, 500_000_000, 1_500_000_000]);
        let marks: Vec<u8> = read.frames.iter().map(|frame| frame[20]).collect();
        assert_eq!(marks, [1, 2, 3]);
    }

    #[test]
    fn j2_cut_packets_are_sent_whole_and_told() {
        let mut all = Writer::little();
        all.pcap(0xa1b2_c3d4, 96, 1);
        all.record([1, 0], &frame(1, 96), 1514);
        all.record([1, 0], &frame(2, 60), 60);
        let read = read(file(&all.bytes).path(), 1).unwrap();
        let lengths: Vec<usize> = read.frames.iter().map(Vec::len).collect();
        assert_eq!((lengths, read.cut, read.untimed), (vec![1514, 60], 1, 0));
        assert_eq!(read.frames[0][..96], frame(1, 96));
        assert!(read.frames[0][96..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn j2_packets_that_no_device_sends_are_told_with_their_number() {
        for (length, said) in [
            (32_000, "packet 2 has 32000 bytes"),
            (9, "packet 2 has 9 bytes"),
        ] {
            let mut all = Writer::little();
            all.pcap(0xa1b2_c3d4, 96, 1);
            all.record([1, 0], &frame(1, 60), 60);
            all.record([1, 0], &vec![0; length.min(96)], length as u32);
            let file = file(&all.bytes);
            let (what, remedy) = read(file.path(), 1).unwrap_err();
            let name = file.path().display().to_string();
            assert!(what.starts_with(&format!("{name}: {said}")), "{what}");
            assert!(remedy.contains("tcpdump -r FILE -w NEW"), "{remedy}");
        }
    }

    #[test]
    fn j2_simple_packets_count_as_without_time() {
        let mut all = Writer::little();
        all.section().interface(1, 0, &[]);
        all.simple_packet(&frame(1, 60), 60);
        let read = read(file(&all.bytes).path(), 1).unwrap();
        assert_eq!(read.untimed, 1);
    }
}
