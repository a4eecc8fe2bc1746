//! Checksums where the incremental update meets 0x0000 and 0xffff.

use simulator::frame::{Ends, Frame, Segment, Station, TcpOption, decode, flag};
use simulator::internet::{BLIND_MAC, INTERNET_MAC};
use simulator::invariant::{Checksums, Splice};
use simulator::puppet::Puppet;
use simulator::site::{self, Family, Site};
use simulator::{LinkSettings, NodeId, World};

const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 20];
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 2, 10];
const SERVER_ISN: u32 = 0xfffe_fffd;

/// A session between two puppets.
struct Rig {
    world: World,
    client: NodeId,
    server: NodeId,
    ends: Ends,
    cookie: u32,
    stamp: u32,
}

impl Rig {
    fn open(family: Family) -> Self {
        let mut world = World::new(3);
        let mut site = Site::new(&mut world, site::appliance_settings(1, 3));
        world.require(Checksums::new(site.appliance));
        world.require(Splice::new(site.appliance, [INTERNET_MAC, BLIND_MAC]));
        let ends = Ends {
            source: site::outside_address(family, site::CLIENT_HOST),
            source_port: 40_000,
            destination: site::inside_address(family, site::SERVER_HOST),
            destination_port: site::SERVICE_PORT,
        };
        let puppet = |mac, address| {
            Puppet::new(Station {
                mac,
                addresses: vec![address],
            })
        };
        let link = LinkSettings::default();
        let client = puppet(CLIENT_MAC, ends.source);
        let (client, _) = site.add_outside(&mut world, "client", client, link);
        let server = puppet(SERVER_MAC, ends.destination);
        let (server, _) = site.add_inside(&mut world, "server", server, link);
        let mut rig = Self {
            world,
            client,
            server,
            ends,
            cookie: 0,
            stamp: 0,
        };
        rig.shake_hands();
        rig
    }

    fn shake_hands(&mut self) {
        let options = |value, echo| {
            vec![
                TcpOption::Mss(1460),
                TcpOption::SackPermitted,
                TcpOption::Timestamps { value, echo },
            ]
        };
        let flags = flag::SYN;
        self.say(
            true,
            Segment {
                sequence: 100,
                flags,
                options: options(1, 0),
                ..Segment::default()
            },
        );
        let answer = self.heard(true);
        self.cookie = answer.sequence;
        self.stamp = answer.timestamps().expect("timestamps").0;
        self.client_says(0, vec![], 0);
        assert!(self.heard(false).has(flag::SYN));
        let flags = flag::SYN | flag::ACK;
        let options = options(0x8000_fffe, 1);
        let sequence = SERVER_ISN;
        self.say(
            false,
            Segment {
                sequence,
                acknowledgement: 101,
                flags,
                window: 9000,
                options,
                ..Segment::default()
            },
        );
        self.heard(false);
    }

    fn say(&mut self, is_client: bool, segment: Segment) {
        let (who, ends, from, to) = match is_client {
            true => (self.client, self.ends, CLIENT_MAC, site::OUTSIDE_MAC),
            false => (
                self.server,
                self.ends.reversed(),
                SERVER_MAC,
                site::INSIDE_MAC,
            ),
        };
        let segment = Segment {
            source_port: ends.source_port,
            destination_port: ends.destination_port,
            ..segment
        };
        let frame = Frame::between(from, to, ends).tcp(&segment);
        self.world.get_mut::<Puppet>(who).say(frame);
        self.world
            .run_for(1000)
            .unwrap_or_else(|failure| panic!("{failure}"));
    }

    fn heard(&mut self, is_client: bool) -> Segment {
        let who = if is_client { self.client } else { self.server };
        let heard = self.world.get_mut::<Puppet>(who).hear();
        let (packet, _) = heard.expect("something is heard");
        packet.segment().expect("a segment").clone()
    }

    fn client_says(&mut self, echo: u32, payload: Vec<u8>, window: u16) {
        let echo = self.stamp.wrapping_add(echo);
        let options = vec![
            TcpOption::Nop,
            TcpOption::Nop,
            TcpOption::Timestamps { value: 2, echo },
        ];
        let acknowledgement = self.cookie.wrapping_add(1);
        let flags = flag::ACK;
        self.say(
            true,
            Segment {
                sequence: 101,
                acknowledgement,
                flags,
                window,
                options,
                payload,
                ..Segment::default()
            },
        );
    }

    fn server_says(&mut self, clock: u32, payload: Vec<u8>, window: u16) {
        let value = 0x8000_fffe_u32.wrapping_add(clock);
        let options = vec![
            TcpOption::Nop,
            TcpOption::Nop,
            TcpOption::Timestamps { value, echo: 2 },
        ];
        let sequence = SERVER_ISN.wrapping_add(1);
        let flags = flag::ACK;
        self.say(
            false,
            Segment {
                sequence,
                acknowledgement: 101,
                flags,
                window,
                options,
                payload,
                ..Segment::default()
            },
        );
    }

    /// The checksum of what last left the appliance for one side.
    fn last_checksum(&mut self, is_client: bool) -> u16 {
        let who = if is_client { self.client } else { self.server };
        let (packet, frame) = self.world.get_mut::<Puppet>(who).hear().expect("it passes");
        let header = if packet.source.is_ipv4() { 20 } else { 40 };
        assert!(decode(&frame).is_some());
        u16::from_be_bytes([frame[14 + header + 16], frame[14 + header + 17]])
    }
}

#[test]
fn incremental_updates_hold_where_the_sum_is_zero() {
    // CASES 10. Two octets of payload move the checksum through every value; those around both
    // forms of zero are tried in both directions, before and after the translation.
    let mut seen = std::collections::BTreeSet::new();
    for family in [Family::V4, Family::V6] {
        let mut rig = Rig::open(family);
        for is_client in [true, false] {
            let mut pass = |word: u16| {
                let payload = word.to_be_bytes().to_vec();
                match is_client {
                    true => rig.client_says(0, payload, 500),
                    false => rig.server_says(0, payload, 500),
                }
                rig.last_checksum(!is_client)
            };
            // With this word the checksum is 0x0000 after the translation.
            let after = pass(0);
            for word in (0..8).map(|step| after.wrapping_add(step).wrapping_sub(4)) {
                seen.insert(pass(word));
            }
            // And somewhere here it is before: a step over all words in strides, ends included.
            for word in (0..=u16::MAX).step_by(257) {
                pass(word);
            }
        }
    }
    assert!(seen.contains(&0x0000), "the corner was not met: {seen:x?}");
    assert!(seen.contains(&0xfffe), "the corner was not met: {seen:x?}");
}

#[test]
fn random_numbers_keep_their_checksums() {
    // CASES 10: clocks, windows and payloads at random.
    let mut random = simulator::Random::new(5);
    let mut rig = Rig::open(Family::V4);
    for step in 0..3000 {
        let length = random.below(9) as usize;
        let payload: Vec<u8> = (0..length).map(|_| random.next_u64() as u8).collect();
        let window = random.next_u64() as u16;
        rig.server_says(step, payload.clone(), window);
        rig.last_checksum(true);
        rig.client_says(random.below(u64::from(step) + 1) as u32, payload, window);
        rig.last_checksum(false);
    }
}
