//! Everybody else: the router to all other networks, and the attackers behind it.

mod blind;
mod eavesdropper;
mod echo;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use self::eavesdropper::{Eavesdropper, Overheard};
use crate::frame::{Ends, Frame, Mac, Packet, Segment, Station, TcpOption, flag, icmp_error};
use crate::node::{Departure, Node};
use crate::random::Random;
use crate::site::{self, Family, Layout};

/// What an attacker sends. None of it can be told to be in vain without state, or proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attack {
    /// SYNs from sources that do not exist (CASES 1).
    SynFlood,
    /// ACKs with random numbers from sources that do not exist (CASES 2).
    AckFlood,
    /// What a real client sent, again, bit by bit (CASES 2, 4).
    Replay,
    /// A real client's ACK under another source (CASES 2).
    WrongTuple,
    /// A RST in the window of a real connection (CASES 3).
    Reset,
    /// A SYN on a real connection (CASES 3).
    SynOnSession,
    /// Data in the window of a real connection, with an acknowledgement that cannot be (CASES 3).
    Data,
    /// A real client's segment with options that are malformed (CASES 5).
    MalformedOptions,
    /// A SYN with malformed options.
    MalformedSyn,
    /// Fragments, overlapping, tiny or never completed (CASES 13).
    Fragments,
    /// ICMP errors that quote a real connection with the wrong numbers (CASES 12).
    IcmpErrors,
    /// Packets whose source cannot be: the server's own address, the appliance's, the inside
    /// network (CASES 12).
    BadSources,
    /// Octets that are nothing.
    Garbage,
    /// What somebody sends in a real client's name who knows the ends of its connections and
    /// nothing else (CASES 3).
    Blind,
    /// What looks like the echo in which a wire carries a SYN (CASES 14).
    MarkedPing,
}

impl Attack {
    /// All of them but the blind one, and the one that only a wire could mind.
    pub const ALL: [Self; 13] = [
        Self::SynFlood,
        Self::AckFlood,
        Self::Replay,
        Self::WrongTuple,
        Self::Reset,
        Self::SynOnSession,
        Self::Data,
        Self::MalformedOptions,
        Self::MalformedSyn,
        Self::Fragments,
        Self::IcmpErrors,
        Self::BadSources,
        Self::Garbage,
    ];
}

/// An attack, how hard and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// What is sent.
    pub attack: Attack,
    /// From when
    pub start_ns: u64,
    /// until when,
    pub end_ns: u64,
    /// how often.
    pub every_ns: u64,
}

impl Campaign {
    /// Whether it repeats what clients have said.
    #[must_use]
    pub fn replays(&self) -> bool {
        self.attack == Attack::Replay
    }

    /// Whether it can harm a connection that nobody guards.
    #[must_use]
    pub fn can_harm(&self) -> bool {
        use Attack::{Data, IcmpErrors, MalformedOptions, Replay, Reset, SynOnSession, WrongTuple};
        matches!(
            self.attack,
            Replay | WrongTuple | Reset | SynOnSession | Data | MalformedOptions | IcmpErrors
        )
    }
}

/// The Internet's station.
pub const INTERNET_MAC: Mac = [2, 0, 0, 0, 0, 0xfe];
/// The station that the blind attacker's segments come from.
pub const BLIND_MAC: Mac = [2, 0, 0, 0, 0, 0xfd];

/// The router to everywhere, with attackers behind it. What is sent to their made-up sources ends
/// here.
pub struct Internet {
    station: Station,
    campaigns: Vec<Campaign>,
    next_ns: Vec<u64>,
    targets: Vec<(IpAddr, u16)>,
    /// Its neighbours. All else is sent to the appliance.
    neighbours: BTreeMap<IpAddr, Mac>,
    /// Connections that there are, or were, or will be.
    known: Vec<Ends>,
    overheard: Overheard,
    random: Random,
    waiting: Vec<Vec<u8>>,
    sent: BTreeMap<Attack, u64>,
}

impl Internet {
    /// An Internet that attacks these services, and these connections.
    #[must_use]
    pub fn new(
        campaigns: Vec<Campaign>,
        targets: Vec<(IpAddr, u16)>,
        known: Vec<Ends>,
        overheard: Overheard,
        seed: u64,
    ) -> Self {
        let addresses = site::outside_addresses(site::INTERNET_HOST);
        Self {
            station: Station {
                mac: INTERNET_MAC,
                addresses: addresses.into_iter().map(|(address, _)| address).collect(),
            },
            next_ns: campaigns.iter().map(|campaign| campaign.start_ns).collect(),
            campaigns,
            targets,
            neighbours: BTreeMap::new(),
            known,
            overheard,
            random: Random::new(seed),
            waiting: Vec::new(),
            sent: BTreeMap::new(),
        }
    }

    /// The same on the servers' own network, with these stations: there is no hop before them.
    #[must_use]
    pub fn next_to(mut self, servers: BTreeMap<IpAddr, Mac>) -> Self {
        self.neighbours = servers;
        self
    }

    /// The station that a packet to this address is sent to.
    fn next_station(&self, destination: IpAddr) -> Mac {
        let neighbour = self.neighbours.get(&destination);
        neighbour.copied().unwrap_or(site::OUTSIDE_MAC)
    }

    fn layout(&self) -> Layout {
        match self.neighbours.is_empty() {
            true => Layout::Hop,
            false => Layout::Wire,
        }
    }

    /// The frame of a packet between these ends, to be filled.
    fn between(&self, ends: Ends) -> Frame {
        Frame::between(self.station.mac, self.next_station(ends.destination), ends)
    }

    /// How many packets of each attack were sent.
    #[must_use]
    pub fn sent(&self) -> &BTreeMap<Attack, u64> {
        &self.sent
    }

    /// Sends one packet of an attack at the next poll.
    pub fn attack(&mut self, attack: Attack) {
        let frames = match attack {
            Attack::SynFlood => vec![self.syn(Vec::new())],
            Attack::AckFlood => vec![self.forged_ack()],
            Attack::MalformedSyn => {
                let options = vec![TcpOption::Raw(self.malformed_option())];
                vec![self.syn(options)]
            }
            Attack::BadSources => vec![self.bad_source()],
            Attack::Garbage => vec![self.garbage()],
            Attack::Fragments => self.fragments(),
            Attack::Blind => self.blind().into_iter().collect(),
            Attack::MarkedPing => vec![self.marked_ping()],
            _ => self.abuse(attack).into_iter().collect(),
        };
        *self.sent.entry(attack).or_default() += frames.len() as u64;
        self.waiting.extend(frames);
    }

    fn number(&mut self) -> u32 {
        self.random.next_u64() as u32
    }

    fn pick<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.random.below(list.len() as u64) as usize].clone()
    }

    /// An address that nobody has.
    fn stranger(&mut self, like: IpAddr) -> IpAddr {
        let host = self.number();
        match like {
            IpAddr::V4(_) => Ipv4Addr::from_bits(198 << 24 | 51 << 16 | host & 0xffff).into(),
            IpAddr::V6(_) => Ipv6Addr::new(
                0x2001,
                0xdb8,
                0xbad,
                0,
                0,
                0,
                (host >> 16) as u16,
                host as u16,
            )
            .into(),
        }
    }

    fn stranger_ends(&mut self) -> Ends {
        let (destination, destination_port) = self.pick(&self.targets.clone());
        let source = self.stranger(destination);
        let source_port = 1024 + self.random.below(60_000) as u16;
        Ends {
            source,
            source_port,
            destination,
            destination_port,
        }
    }

    fn frame(&self, ends: Ends, segment: Segment) -> Vec<u8> {
        let segment = Segment {
            source_port: ends.source_port,
            destination_port: ends.destination_port,
            ..segment
        };
        self.between(ends).tcp(&segment)
    }

    fn syn(&mut self, options: Vec<TcpOption>) -> Vec<u8> {
        let ends = self.stranger_ends();
        let usual = vec![
            TcpOption::Mss(1460),
            TcpOption::SackPermitted,
            TcpOption::Timestamps {
                value: self.number(),
                echo: 0,
            },
            TcpOption::Nop,
            TcpOption::WindowScale(7),
        ];
        let options = match (options.is_empty(), self.random.below(3)) {
            (false, _) => options,
            (true, 0) => Vec::new(),
            (true, 1) => vec![TcpOption::Mss(64)],
            (true, _) => usual,
        };
        let sequence = self.number();
        self.frame(
            ends,
            Segment {
                sequence,
                flags: flag::SYN,
                window: 1024,
                options,
                ..Segment::default()
            },
        )
    }

    fn forged_ack(&mut self) -> Vec<u8> {
        let ends = self.stranger_ends();
        let (sequence, acknowledgement) = (self.number(), self.number());
        let stamps = TcpOption::Timestamps {
            value: self.number(),
            echo: self.number(),
        };
        let options = if self.random.chance(0.5) {
            vec![TcpOption::Nop, TcpOption::Nop, stamps]
        } else {
            Vec::new()
        };
        let payload = vec![b'x'; self.random.below(3) as usize * 100];
        let flags = flag::ACK;
        self.frame(
            ends,
            Segment {
                sequence,
                acknowledgement,
                flags,
                window: 512,
                options,
                payload,
                ..Segment::default()
            },
        )
    }

    fn malformed_option(&mut self) -> Vec<u8> {
        let kind = self.random.below(256) as u8;
        let choices = [
            vec![kind | 2, 0, 0, 0],
            vec![kind | 2, 1, 1, 1],
            vec![2, 3, 5, 0],
            vec![8, 40, 0, 0, 0, 0, 0, 0],
            vec![5, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            vec![2, 4, 5, 180, 2, 4, 1, 1],
            vec![3, 3, 200, 3, 3, 1, 0, 0],
            vec![kind | 2, self.random.below(256) as u8],
        ];
        self.pick(&choices)
    }

    /// A real client's last words, misused. Nothing when no client was heard yet.
    fn abuse(&mut self, attack: Attack) -> Option<Vec<u8>> {
        let heard = self.overheard.borrow().iter().cloned().collect::<Vec<_>>();
        if heard.is_empty() {
            return None;
        }
        let frame = self.pick(&heard);
        let packet = crate::frame::decode(&frame)?;
        let (ends, segment) = (packet.ends()?, packet.segment()?.clone());
        Some(match attack {
            Attack::Replay => self.replay(&frame),
            Attack::WrongTuple => {
                let source_port = ends.source_port ^ 1 << self.random.below(15);
                let source = if self.random.chance(0.5) {
                    self.stranger(ends.source)
                } else {
                    ends.source
                };
                self.frame(
                    Ends {
                        source,
                        source_port,
                        ..ends
                    },
                    segment,
                )
            }
            // Beyond all that any client of a scenario has to send, so that it is never the next
            // expected octet by accident.
            Attack::Reset => {
                let offset = 70_000 + self.random.below(200_000) as u32;
                let sequence = segment.sequence.wrapping_add(offset);
                let flags = flag::RST;
                self.frame(
                    ends,
                    Segment {
                        sequence,
                        flags,
                        payload: Vec::new(),
                        ..segment
                    },
                )
            }
            Attack::SynOnSession => {
                let sequence = self.number();
                self.frame(
                    ends,
                    Segment {
                        sequence,
                        flags: flag::SYN,
                        payload: Vec::new(),
                        ..segment
                    },
                )
            }
            // Without an acknowledgement there is nothing to be far away from.
            Attack::Data if !segment.has(flag::ACK) => return None,
            Attack::Data => {
                let away = (1 << 30) + self.random.below(1 << 31) as u32;
                let acknowledgement = segment.acknowledgement.wrapping_add(away);
                let payload = vec![0xee; 1 + self.random.below(500) as usize];
                let flags = flag::ACK | flag::PSH;
                self.frame(
                    ends,
                    Segment {
                        acknowledgement,
                        flags,
                        payload,
                        ..segment
                    },
                )
            }
            Attack::IcmpErrors => self.icmp(&packet, ends, segment),
            _ => {
                let options = vec![TcpOption::Raw(self.malformed_option())];
                self.frame(ends, Segment { options, ..segment })
            }
        })
    }

    /// The frame as it was, from our own station.
    fn replay(&self, frame: &[u8]) -> Vec<u8> {
        let mut frame = frame.to_vec();
        frame[6..12].copy_from_slice(&self.station.mac);
        frame
    }

    /// An error about a segment that the server is said to have sent, with a number far off.
    fn icmp(&mut self, packet: &Packet, ends: Ends, segment: Segment) -> Vec<u8> {
        let back = ends.reversed();
        let quoted = Segment {
            source_port: back.source_port,
            destination_port: back.destination_port,
            sequence: segment.acknowledgement.wrapping_add(1 << 30),
            acknowledgement: segment.sequence,
            payload: vec![0; 32],
            ..segment
        };
        let quoted = Frame::between([0; 6], [0; 6], back).tcp(&quoted);
        let router = self
            .station
            .addresses
            .iter()
            .find(|own| own.is_ipv4() == packet.source.is_ipv4());
        let ends = Ends {
            source: *router.unwrap_or(&packet.source),
            ..ends
        };
        let outer = self.between(ends);
        let kinds = [[(3, 3), (1, 4)], [(3, 4), (2, 0)], [(11, 0), (3, 0)]];
        let kinds = self.pick(&kinds);
        let quote_bytes = self.pick(&[28, 48, 60, 200]);
        icmp_error(&outer, kinds, 296, &quoted[14..], quote_bytes)
    }

    fn bad_source(&mut self) -> Vec<u8> {
        let ends = self.stranger_ends();
        let family = if ends.destination.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        };
        let sources = [
            ends.destination,
            site::outside_address(family, site::APPLIANCE_HOST),
            self.layout().server_address(family, 77),
        ];
        let source = self.pick(&sources);
        let flags = self.pick(&[flag::SYN, flag::ACK, flag::RST]);
        let (sequence, acknowledgement) = (self.number(), self.number());
        let segment = Segment {
            sequence,
            acknowledgement,
            flags,
            window: 9,
            ..Segment::default()
        };
        self.frame(
            Ends {
                source,
                source_port: ends.destination_port,
                ..ends
            },
            segment,
        )
    }

    fn garbage(&mut self) -> Vec<u8> {
        let (target, _) = self.targets[0];
        let length = 14 + self.random.below(80) as usize;
        let mut frame: Vec<u8> = (0..length).map(|_| self.random.next_u64() as u8).collect();
        frame[..6].copy_from_slice(&self.next_station(target));
        frame[6..12].copy_from_slice(&self.station.mac);
        let kind = self.pick(&[
            [0x08, 0x00],
            [0x86, 0xdd],
            [0x08, 0x06],
            [0x81, 0x00],
            [0x12, 0x34],
        ]);
        frame[12..14].copy_from_slice(&kind);
        if let Some(version) = frame.get_mut(14) {
            *version = self.pick(&[0x45, 0x46, 0x60, 0x4f, *version]);
        }
        frame
    }

    /// Pieces of an IPv4 segment: in their order, one missing, overlapping, or tiny.
    fn fragments(&mut self) -> Vec<Vec<u8>> {
        let ends = loop {
            let ends = self.stranger_ends();
            if ends.source.is_ipv4() {
                break ends;
            }
        };
        let flags = self.pick(&[flag::SYN, flag::ACK, flag::ACK | flag::PSH]);
        let payload = vec![b'f'; 64];
        let segment = Segment {
            source_port: ends.source_port,
            destination_port: ends.destination_port,
            sequence: self.number(),
            acknowledgement: self.number(),
            flags,
            payload,
            ..Segment::default()
        };
        let identification = self.random.below(8) as u16;
        let frame = Frame {
            identification,
            ..self.between(ends)
        };
        let whole = frame.tcp(&segment);
        let at = self.pick(&[8, 16, 24, 48]);
        let [first, second] = Frame::fragments(&whole, at);
        let [_, overlapping] = Frame::fragments(&whole, at - 8);
        match self.random.below(4) {
            0 => vec![first, second],
            1 => vec![second],
            2 => vec![first],
            _ => vec![first, overlapping],
        }
    }
}

impl Node for Internet {
    fn receive(&mut self, _port: usize, frame: Vec<u8>, _now_ns: u64) {
        self.waiting.extend(self.station.answer(&frame));
    }

    fn poll(&mut self, now_ns: u64, out: &mut Vec<Departure>) {
        for place in 0..self.campaigns.len() {
            let campaign = self.campaigns[place];
            while self.next_ns[place] <= now_ns && self.next_ns[place] < campaign.end_ns {
                self.attack(campaign.attack);
                let jitter_ns = self.random.below(campaign.every_ns.max(1));
                self.next_ns[place] += campaign.every_ns / 2 + jitter_ns + 1;
            }
        }
        out.extend(self.waiting.drain(..).map(|frame| (0, frame)));
    }

    fn next_wake_ns(&self, _now_ns: u64) -> Option<u64> {
        let starts = self.campaigns.iter().zip(&self.next_ns);
        let due = starts.filter(|(campaign, next_ns)| **next_ns < campaign.end_ns);
        due.map(|(_, next_ns)| *next_ns).min()
    }
}
