//! One connection, seen from both ends.

use dataplane::parse::{flags, parse_network};
use dataplane::wire::address::{Address, Family};
use dataplane::wire::tcp::Tcp;
use dataplane::wire::tcp_options::{self, SynOptions};
use dataplane::wire::tcp_segment::TcpSegment;

use super::packets::{address, tcp};

const CLIENT_CLOCK: u32 = 5_000;
const SERVER_CLOCK: u32 = 900_000;

/// What both ends of a connection know. Every function that gives a packet counts what it sends.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    pub(crate) client: Address,
    pub(crate) client_port: u16,
    pub(crate) server: Address,
    pub(crate) server_port: u16,
    pub(crate) client_isn: u32,
    pub(crate) server_isn: u32,
    /// The sequence number of the SYN-ACK that the client got.
    pub(crate) cookie: u32,
    /// Sequence numbers that the client has used after its SYN.
    pub(crate) client_sent: u32,
    /// The same of the server.
    pub(crate) server_sent: u32,
    pub(crate) has_timestamps: bool,
    /// The server's clock as the client was told it.
    told_clock: u32,
}

/// What a segment on the wire says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) flags: u8,
    pub(crate) payload: Vec<u8>,
    pub(crate) source: Address,
    pub(crate) destination: Address,
}

/// Reads a packet that carries a segment.
pub(crate) fn see(packet: &[u8]) -> Seen {
    let parsed = parse_network(packet).expect("a packet");
    assert!(parsed.is_whole_tcp(), "{parsed:?}");
    let bytes = &packet[usize::from(parsed.transport)..usize::from(parsed.end)];
    let tcp = Tcp::new(bytes).expect("a segment");
    Seen {
        sequence: tcp.sequence(),
        acknowledgement: tcp.acknowledgement(),
        flags: tcp.flags(),
        payload: tcp.payload().to_vec(),
        source: parsed.source,
        destination: parsed.destination,
    }
}

impl Conversation {
    /// A client of this number, of a family, with the server that the rigs protect.
    pub(crate) fn new(family: Family, number: u16) -> Self {
        let (client, server) = match family {
            Family::V4 => (
                Address::from_v4([198, 51, (number >> 8) as u8, number as u8]),
                address("10.0.0.10"),
            ),
            Family::V6 => {
                let base = address("2001:db8:9::").to_bits();
                let client = Address::from_bits(base | u128::from(number) << 64 | 7);
                (client, address("fd00:1::10"))
            }
        };
        Self {
            client,
            // Not in step with the address: flows are spread by the exclusive-or of both.
            client_port: 1_024 + number.wrapping_mul(40_503) % 60_000,
            server,
            server_port: 80,
            client_isn: 0xffff_ff00_u32.wrapping_add(u32::from(number) << 8),
            server_isn: 0x7fff_fff8_u32.wrapping_sub(u32::from(number)),
            cookie: 0,
            client_sent: 0,
            server_sent: 0,
            has_timestamps: true,
            told_clock: 0,
        }
    }

    pub(crate) fn syn(&self) -> Vec<u8> {
        let stamps = self.has_timestamps.then_some((CLIENT_CLOCK, 0));
        let options = syn_options(stamps);
        self.client_segment(self.client_isn, 0, flags::SYN, &options, b"")
    }

    /// Takes the SYN-ACK that came back.
    pub(crate) fn take_cookie(&mut self, packet: &[u8]) {
        let parsed = parse_network(packet).expect("a packet");
        let seen = see(packet);
        assert_eq!(seen.flags, flags::SYN | flags::ACK);
        assert_eq!(seen.acknowledgement, self.client_isn.wrapping_add(1));
        let bytes = &packet[usize::from(parsed.transport)..usize::from(parsed.end)];
        let options = tcp_options::parse(Tcp::new(bytes).expect("a segment").options());
        self.cookie = seen.sequence;
        let stamps = options.ok().and_then(|options| options.timestamps);
        self.told_clock = stamps.map_or(0, |stamps| stamps.value);
    }

    /// The server's answer to the SYN that it was sent.
    pub(crate) fn syn_ack(&self) -> Vec<u8> {
        let stamps = self.has_timestamps.then_some((SERVER_CLOCK, CLIENT_CLOCK));
        let options = syn_options(stamps);
        let flags = flags::SYN | flags::ACK;
        let acknowledgement = self.client_isn.wrapping_add(1);
        self.server_segment(self.server_isn, acknowledgement, flags, &options, b"")
    }

    /// What the client sends next: its handshake's ACK when nothing was sent before.
    pub(crate) fn client_sends(&mut self, tcp_flags: u8, payload: &[u8]) -> Vec<u8> {
        let options = self.stamps((CLIENT_CLOCK, self.told_clock));
        let packet = self.client_segment(
            self.client_next(),
            self.client_acknowledges(),
            tcp_flags,
            &options,
            payload,
        );
        self.client_sent += payload.len() as u32 + u32::from(tcp_flags & flags::FIN != 0);
        packet
    }

    /// What the server sends next.
    pub(crate) fn server_sends(&mut self, tcp_flags: u8, payload: &[u8]) -> Vec<u8> {
        let options = self.stamps((SERVER_CLOCK, CLIENT_CLOCK));
        let packet = self.server_segment(
            self.server_next(),
            self.client_next(),
            tcp_flags,
            &options,
            payload,
        );
        self.server_sent += payload.len() as u32 + u32::from(tcp_flags & flags::FIN != 0);
        packet
    }

    pub(crate) fn client_next(&self) -> u32 {
        self.client_isn.wrapping_add(1 + self.client_sent)
    }

    /// The server's next number, as the server has it.
    pub(crate) fn server_next(&self) -> u32 {
        self.server_isn.wrapping_add(1 + self.server_sent)
    }

    /// The server's next number, as the client has it.
    pub(crate) fn client_acknowledges(&self) -> u32 {
        self.cookie.wrapping_add(1 + self.server_sent)
    }

    fn stamps(&self, (value, echo): (u32, u32)) -> Vec<u8> {
        if !self.has_timestamps {
            return Vec::new();
        }
        let mut options = vec![1, 1, 8, 10];
        options.extend(value.to_be_bytes());
        options.extend(echo.to_be_bytes());
        options
    }

    /// Any segment of the client's.
    pub(crate) fn client_segment(
        &self,
        sequence: u32,
        acknowledgement: u32,
        flags: u8,
        options: &[u8],
        payload: &[u8],
    ) -> Vec<u8> {
        tcp(&TcpSegment {
            source: self.client,
            destination: self.server,
            source_port: self.client_port,
            destination_port: self.server_port,
            sequence,
            acknowledgement,
            flags,
            window: 1_000,
            options,
            payload,
            ttl: 60,
            dscp_ecn: 0,
            identification: 1,
        })
    }

    /// Any segment of the server's.
    pub(crate) fn server_segment(
        &self,
        sequence: u32,
        acknowledgement: u32,
        flags: u8,
        options: &[u8],
        payload: &[u8],
    ) -> Vec<u8> {
        tcp(&TcpSegment {
            source: self.server,
            destination: self.client,
            source_port: self.server_port,
            destination_port: self.client_port,
            sequence,
            acknowledgement,
            flags,
            window: 1_000,
            options,
            payload,
            ttl: 60,
            dscp_ecn: 0,
            identification: 2,
        })
    }
}

fn syn_options(timestamps: Option<(u32, u32)>) -> Vec<u8> {
    let options = SynOptions {
        mss: Some(1_460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps,
    };
    let mut bytes = [0; 40];
    let length = options.write(&mut bytes);
    bytes[..length].to_vec()
}
