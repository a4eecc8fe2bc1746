//! Frames of a capture, to be sent again.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::{Block, PcapNgReader};

use super::CHECK_SEQUENCE_BYTES;

/// Frames of a capture, and their octets together.
const MOST_FRAMES: usize = 1 << 20;
const MOST_BYTES: usize = 1 << 30;
/// The largest frame without check sequence, and the smallest.
const LARGEST: usize = 9014;
const SMALLEST: usize = 14;

/// What is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Capture {
    /// The frames, without check sequence.
    pub frames: Vec<Vec<u8>>,
    /// When each is sent, in nanoseconds since the first, in their order; with repetitions.
    pub times_ns: Arc<[u64]>,
}

/// Reads a pcap or pcapng file, to be sent so often.
pub(super) fn read(file: &Path, repeat: u32) -> Result<Capture, (String, String)> {
    let name = file.display();
    let frames = frames(file).map_err(|what| {
        let remedy = "name a pcap or pcapng file of Ethernet frames".to_owned();
        (format!("{name}: {what}"), remedy)
    })?;
    let Some((first, _)) = frames.first() else {
        let remedy = "capture some frames".to_owned();
        return Err((format!("{name} has no frames"), remedy));
    };
    let total = frames.len() as u64 * u64::from(repeat);
    if total > 1 << 24 {
        let remedy = format!("repeat it {} times at the most", (1 << 24) / frames.len());
        return Err((format!("{name} would be {total} frames in all"), remedy));
    }
    let since = |time: &Duration| time.saturating_sub(*first).as_nanos() as u64;
    let mut times: Vec<u64> = frames.iter().map(|(time, _)| since(time)).collect();
    times.sort_unstable();
    // A repetition begins after a mean gap.
    let last = times.last().copied().unwrap_or(0);
    let period = last + (last / times.len().max(2) as u64).max(1_000);
    let all = (0..u64::from(repeat))
        .flat_map(|round| times.iter().map(move |time| round * period + time))
        .collect();
    Ok(Capture {
        frames: frames.into_iter().map(|(_, frame)| frame).collect(),
        times_ns: all,
    })
}

type Timed = (Duration, Vec<u8>);

fn frames(file: &Path) -> Result<Vec<Timed>, String> {
    let open = || File::open(file).map_err(|error| error.to_string());
    let mut frames = Vec::new();
    let mut bytes = 0;
    let mut add = |time: Duration, data: &[u8]| {
        bytes += data.len();
        if frames.len() >= MOST_FRAMES || bytes > MOST_BYTES {
            return Err("it is larger than 2^20 frames or 1 GiB".to_owned());
        }
        if !(SMALLEST..=LARGEST).contains(&data.len()) {
            return Err(format!(
                "frame {} has {} octets",
                frames.len() + 1,
                data.len()
            ));
        }
        // Devices send no frame that is shorter.
        let length = data.len().max(64 - CHECK_SEQUENCE_BYTES);
        let mut frame = data.to_vec();
        frame.resize(length, 0);
        frames.push((time, frame));
        Ok(())
    };
    let text = |error: pcap_file::PcapError| error.to_string();
    if let Ok(mut reader) = PcapReader::new(open()?) {
        if reader.header().datalink != DataLink::ETHERNET {
            return Err("its frames are not of Ethernet".into());
        }
        while let Some(packet) = reader.next_packet() {
            let packet = packet.map_err(text)?;
            add(packet.timestamp, &packet.data)?;
        }
        return Ok(frames);
    }
    let mut reader = PcapNgReader::new(open()?).map_err(text)?;
    // Of each interface, how many of its ticks make a second.
    let mut ticks_per_s: Vec<u128> = Vec::new();
    while let Some(block) = reader.next_block() {
        match block.map_err(text)? {
            Block::InterfaceDescription(interface) => {
                if interface.linktype != DataLink::ETHERNET {
                    return Err("its frames are not of Ethernet".into());
                }
                ticks_per_s.push(resolution(&interface));
            }
            Block::EnhancedPacket(packet) => {
                // The reader takes ticks for nanoseconds, whatever the interface says.
                let ticks = packet.timestamp.as_nanos();
                let interface = ticks_per_s.get(packet.interface_id as usize);
                let ns = ticks * 1_000_000_000 / interface.copied().unwrap_or(1_000_000);
                add(Duration::from_nanos(ns as u64), &packet.data)?;
            }
            _ => {}
        }
    }
    Ok(frames)
}

/// Ticks a second of an interface's times (`if_tsresol`): microseconds unless it says otherwise.
fn resolution(interface: &InterfaceDescriptionBlock<'_>) -> u128 {
    let told = interface.options.iter().find_map(|option| match option {
        InterfaceDescriptionOption::IfTsResol(told) => Some(*told),
        _ => None,
    });
    match told {
        None => 1_000_000,
        Some(power) if power & 0x80 != 0 => 1 << (power & 0x3f),
        Some(power) => 10_u128.pow(u32::from(power).min(18)),
    }
}

#[cfg(test)]
mod tests {
    use pcap_file::pcap::{PcapPacket, PcapWriter};

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
            (long.path(), "10000 octets"),
        ] {
            let (what, remedy) = read(file, 1).unwrap_err();
            assert!(what.contains(word), "{what}");
            assert!(!remedy.is_empty());
        }
        let (what, _) = read(capture(&[(0, 60)]).path(), 1 << 25).unwrap_err();
        assert!(what.contains("frames in all"), "{what}");
    }
}
