//! Captures for tests, made by hand: what no tool at hand writes.

use super::bytes::Order;

/// A writer of numbers in one byte order.
pub(crate) struct Writer {
    order: Order,
    pub(crate) bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn little() -> Self {
        Self {
            order: Order::Little,
            bytes: Vec::new(),
        }
    }

    pub(crate) fn big() -> Self {
        Self {
            order: Order::Big,
            bytes: Vec::new(),
        }
    }

    pub(crate) fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes.extend(match self.order {
            Order::Little => value.to_le_bytes(),
            Order::Big => value.to_be_bytes(),
        });
        self
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes.extend(match self.order {
            Order::Little => value.to_le_bytes(),
            Order::Big => value.to_be_bytes(),
        });
        self
    }

    fn padded(&mut self, data: &[u8]) -> &mut Self {
        self.bytes.extend(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// The header of a pcap file.
    pub(crate) fn pcap(&mut self, magic: u32, snaplen: u32, network: u32) -> &mut Self {
        self.u32(magic).u16(2).u16(4).u32(0).u32(0);
        self.u32(snaplen).u32(network)
    }

    /// A packet of one, of which so many bytes were on the link.
    pub(crate) fn record(&mut self, time: [u32; 2], data: &[u8], length: u32) -> &mut Self {
        self.u32(time[0]).u32(time[1]);
        self.u32(data.len() as u32).u32(length);
        self.bytes.extend(data);
        self
    }

    /// A block of a pcapng file.
    pub(crate) fn block(&mut self, kind: u32, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let mut body = Self {
            order: self.order,
            bytes: Vec::new(),
        };
        fill(&mut body);
        let length = body.bytes.len() as u32 + 12;
        self.u32(kind).u32(length).padded(&body.bytes).u32(length)
    }

    pub(crate) fn section(&mut self) -> &mut Self {
        self.block(0x0a0d_0d0a, |body| {
            body.u32(0x1a2b_3c4d).u16(1).u16(0);
            body.u32(u32::MAX).u32(u32::MAX);
        })
    }

    /// An interface with options, as code and value.
    pub(crate) fn interface(
        &mut self,
        link: u16,
        snaplen: u32,
        options: &[(u16, &[u8])],
    ) -> &mut Self {
        self.block(1, |body| {
            body.u16(link).u16(0).u32(snaplen);
            body.options(options);
        })
    }

    fn options(&mut self, options: &[(u16, &[u8])]) {
        for (code, value) in options {
            self.u16(*code).u16(value.len() as u16).padded(value);
        }
        if !options.is_empty() {
            self.u32(0);
        }
    }

    /// An enhanced packet.
    pub(crate) fn packet(
        &mut self,
        interface: u32,
        ticks: u64,
        data: &[u8],
        length: u32,
    ) -> &mut Self {
        self.block(6, |body| {
            body.u32(interface)
                .u32((ticks >> 32) as u32)
                .u32(ticks as u32);
            body.u32(data.len() as u32).u32(length).padded(data);
        })
    }

    pub(crate) fn simple_packet(&mut self, data: &[u8], length: u32) -> &mut Self {
        self.block(3, |body| {
            body.u32(length).padded(data);
        })
    }
}

/// An Ethernet frame of IPv4 with so many bytes, each frame another by its mark.
pub(crate) fn frame(mark: u8, length: usize) -> Vec<u8> {
    let mut frame = vec![mark; length];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
    frame[14] = 0x45;
    frame
}
