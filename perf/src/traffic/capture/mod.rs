//! Reads capture files: pcap and pcapng, as every tool writes them.
//!
//! Nothing of a file is passed over in silence: it is read, or the error names the packet, the true
//! cause and what to do.

mod bytes;
mod link;
mod pcap;
mod pcapng;
#[cfg(test)]
pub(super) mod samples;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use self::link::Link;

/// The largest file that is read.
const MOST_BYTES: u64 = 1 << 30;
/// No tool records more of one packet (libpcap's largest snapshot length).
const LARGEST_RECORD: usize = 262_144;

/// A packet of a capture, as an Ethernet frame without check sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// Its number in the file, from 1.
    pub(super) number: usize,
    /// When it was captured, in nanoseconds since 1970; none where the file does not tell.
    pub(super) time_ns: Option<i128>,
    /// What was captured of the frame.
    pub(super) frame: Vec<u8>,
    /// Bytes of the whole frame, of which the capture may hold fewer.
    pub(super) length: usize,
}

/// Why a file is not read, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) what: String,
    pub(super) remedy: String,
}

impl Refusal {
    pub(super) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    fn damaged(what: impl Into<String>) -> Self {
        let remedy = "the file is damaged, or its writer was stopped: `tcpdump -r FILE -w NEW` keeps the packets before that place";
        Self::new(what, remedy)
    }
}

/// Reads every packet of the file.
pub(super) fn read(file: &Path) -> Result<Vec<Packet>, Refusal> {
    let unread = |error: std::io::Error| {
        Refusal::new(
            error.to_string(),
            "name a file that can be read, as a path from the description's folder",
        )
    };
    let mut data = Vec::new();
    let opened = File::open(file).map_err(unread)?;
    let read = opened.take(MOST_BYTES + 1).read_to_end(&mut data);
    read.map_err(unread)?;
    if data.len() as u64 > MOST_BYTES {
        return Err(Refusal::new(
            "it is larger than 1 GiB",
            "split it by `tcpdump -r FILE -w PART -C 1000`",
        ));
    }
    packets(&data)
}

/// The packets of a file's bytes.
fn packets(data: &[u8]) -> Result<Vec<Packet>, Refusal> {
    if pcapng::is_begun(data) {
        return pcapng::packets(data);
    }
    if let Some(format) = pcap::Format::of(data) {
        return pcap::packets(data, format);
    }
    let compressed = [
        (&[0x1f, 0x8b][..], "gunzip"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "unzstd"),
        (&[0xfd, b'7', b'z', b'X', b'Z'], "unxz"),
    ];
    let tool = compressed.iter().find(|(magic, _)| data.starts_with(magic));
    Err(match tool {
        Some((_, tool)) => Refusal::new("it is compressed", format!("unpack it by `{tool}`")),
        None if data.is_empty() => Refusal::new(
            "the file is empty",
            "capture some frames, by `tcpdump -w FILE`",
        ),
        None => Refusal::new(
            "it is neither pcap nor pcapng",
            "name a capture such as `tcpdump -w FILE` writes",
        ),
    })
}

/// What a record of either format tells of a packet.
struct Record<'a> {
    number: usize,
    time_ns: Option<i128>,
    data: &'a [u8],
    /// Bytes that the packet had.
    length: usize,
    /// Bytes of check sequence at its end.
    check_bytes: usize,
    link: Link,
}

impl Record<'_> {
    /// The packet as an Ethernet frame without check sequence.
    fn packet(self) -> Result<Packet, Refusal> {
        // Some writers tell less than they recorded.
        let told = self.length.max(self.data.len());
        let length = told.saturating_sub(self.check_bytes);
        let data = &self.data[..self.data.len().min(length)];
        let (header, payload) = self.link.split(data, self.number)?;
        let mut frame = header.to_vec();
        frame.extend_from_slice(payload);
        Ok(Packet {
            number: self.number,
            time_ns: self.time_ns,
            length: length - data.len() + frame.len(),
            frame,
        })
    }
}
