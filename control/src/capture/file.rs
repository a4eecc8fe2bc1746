//! The pcapng file that a capture ends in.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use dataplane::capture::{Passage, SNAP_BYTES};
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};
use pcap_file::{DataLink, Endianness, PcapError};

/// Nanoseconds, as a negative power of ten.
const NANOSECONDS: u8 = 9;
/// The flags word's direction of a packet.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// A copied packet as it is written.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The number of its port, in the order of the file's interfaces.
    pub port: u8,
    /// When, in nanoseconds since 1970.
    pub unix_ns: u64,
    /// Which way it went.
    pub passage: Passage,
    /// Octets that it had.
    pub original_bytes: u32,
    /// What was kept of them.
    pub bytes: &'a [u8],
}

/// A pcapng file that is being written.
pub struct CaptureFile<W: Write> {
    writer: PcapNgWriter<W>,
}

fn plain(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

impl<W: Write> CaptureFile<W> {
    /// Begins a file: one interface for each port.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(writer: W, ports: &[String]) -> io::Result<Self> {
        let application = concat!("tidegate ", env!("CARGO_PKG_VERSION"));
        let section = SectionHeaderBlock {
            endianness: Endianness::native(),
            options: vec![SectionHeaderOption::UserApplication(application.into())],
            ..SectionHeaderBlock::default()
        };
        let mut writer = PcapNgWriter::with_section_header(writer, section).map_err(plain)?;
        for port in ports {
            let interface = InterfaceDescriptionBlock {
                linktype: DataLink::ETHERNET,
                snaplen: SNAP_BYTES as u32,
                options: vec![
                    InterfaceDescriptionOption::IfName(Cow::Borrowed(port)),
                    InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
                ],
            };
            writer.write_block(&interface.into_block()).map_err(plain)?;
        }
        Ok(Self { writer })
    }

    /// Writes a packet.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let direction = match packet.passage {
            Passage::In => INBOUND,
            Passage::Out => OUTBOUND,
        };
        let block = EnhancedPacketBlock {
            interface_id: packet.port.into(),
            timestamp: Duration::from_nanos(packet.unix_ns),
            original_len: packet.original_bytes,
            data: Cow::Borrowed(packet.bytes),
            options: vec![EnhancedPacketOption::Flags(direction)],
        };
        let written = self.writer.write_block(&block.into_block());
        written.map(|_| ()).map_err(plain)
    }

    /// Makes what was written visible to readers.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.writer.get_mut().flush()
    }
}

#[cfg(test)]
mod tests {
    use pcap_file::pcapng::{Block, PcapNgReader};

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let ports = ["outside".to_owned(), "inside".to_owned()];
        let mut bytes = Vec::new();
        let mut file = CaptureFile::begin(&mut bytes, &ports).unwrap();
        let unix_ns = 1_700_000_000_123_456_789;
        let packet = Packet {
            port: 1,
            unix_ns,
            passage: Passage::Out,
            original_bytes: 9000,
            bytes: &[7; 61],
        };
        file.write(&packet).unwrap();
        file.flush().unwrap();

        let mut reader = PcapNgReader::new(&bytes[..]).unwrap();
        let mut names = Vec::new();
        let mut packets = 0;
        while let Some(block) = reader.next_block() {
            match block.unwrap() {
                Block::InterfaceDescription(interface) => {
                    let resolution = InterfaceDescriptionOption::IfTsResol(9);
                    assert!(interface.options.contains(&resolution));
                    for option in &interface.options {
                        if let InterfaceDescriptionOption::IfName(name) = option {
                            names.push(name.to_string());
                        }
                    }
                }
                Block::EnhancedPacket(read) => {
                    packets += 1;
                    assert_eq!(read.interface_id, 1);
                    assert_eq!(read.timestamp, Duration::from_nanos(unix_ns));
                    assert_eq!(read.original_len, 9000);
                    assert_eq!(read.data.as_ref(), [7; 61]);
                    assert_eq!(read.options, [EnhancedPacketOption::Flags(OUTBOUND)]);
                }
                _ => panic!("nothing else was written"),
            }
        }
        assert_eq!((names, packets), (ports.to_vec(), 1));
    }

    // CASES 28: disk full.
    #[test]
    fn a_full_disk_is_an_error() {
        let mut room = [0; 200];
        let mut file = CaptureFile::begin(&mut room[..], &["outside".to_owned()]).unwrap();
        let packet = Packet {
            port: 0,
            unix_ns: 0,
            passage: Passage::In,
            original_bytes: 400,
            bytes: &[0; 400],
        };
        assert!(file.write(&packet).is_err());
    }
}
