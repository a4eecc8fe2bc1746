//! Two guards with the same keys, on the same networks: a cookie of one is good at the other.

use dataplane::counters::Event;
use dataplane::guard::cookie::CookieKey;
use simulator::appliance::Appliance;
use simulator::frame::{Ends, Frame, Mac, Segment, Station, TcpOption, flag};
use simulator::invariant::{Accounting, Checksums};
use simulator::puppet::Puppet;
use simulator::site::{self, Family, Site};
use simulator::{LinkSettings, NodeId, World};

const CLIENT_MAC: Mac = [2, 0, 0, 0, 1, 20];
const SERVER_MAC: Mac = [2, 0, 0, 0, 2, 10];
const OTHER_OUTSIDE_MAC: Mac = [2, 0, 0, 0, 0, 11];
const OTHER_INSIDE_MAC: Mac = [2, 0, 0, 0, 0, 12];
const OTHER_HOST: u8 = 2;

struct Rig {
    world: World,
    guards: [NodeId; 2],
    client: NodeId,
    server: NodeId,
    ends: Ends,
}

impl Rig {
    fn new(other_key: [u8; 16]) -> Self {
        let mut world = World::new(4);
        let mut site = Site::new(&mut world, site::appliance_settings(1, 1));
        let mut settings = site::appliance_settings(1, 2);
        settings.outside.mac = OTHER_OUTSIDE_MAC;
        settings.outside.addresses = site::outside_addresses(OTHER_HOST);
        settings.inside.mac = OTHER_INSIDE_MAC;
        settings.inside.addresses = site::inside_addresses(OTHER_HOST);
        settings.keys = vec![CookieKey {
            not_before_s: 0,
            secret: other_key,
        }];
        let other = site.add_appliance(&mut world, "other", settings);
        for guard in [site.appliance, other] {
            world.require(Accounting::new(guard));
            world.require(Checksums::new(guard));
        }
        let ends = Ends {
            source: site::outside_address(Family::V4, site::CLIENT_HOST),
            source_port: 40_000,
            destination: site::inside_address(Family::V4, site::SERVER_HOST),
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
        Self {
            world,
            guards: [site.appliance, other],
            client,
            server,
            ends,
        }
    }

    fn client_says(&mut self, station: Mac, segment: Segment) {
        let segment = Segment {
            source_port: self.ends.source_port,
            destination_port: self.ends.destination_port,
            ..segment
        };
        let frame = Frame::between(CLIENT_MAC, station, self.ends).tcp(&segment);
        self.world.get_mut::<Puppet>(self.client).say(frame);
        self.world
            .run_for(1_000_000)
            .unwrap_or_else(|failure| panic!("{failure}"));
    }

    fn heard(&mut self, who: NodeId) -> Option<Segment> {
        let (packet, _) = self.world.get_mut::<Puppet>(who).hear()?;
        packet.segment().cloned()
    }

    /// The client's SYN goes to the first guard, its ACK to the second.
    fn shake_hands(&mut self) {
        let options = vec![TcpOption::Mss(1460)];
        let flags = flag::SYN;
        let syn = Segment {
            sequence: 100,
            flags,
            window: 9000,
            options,
            ..Segment::default()
        };
        self.client_says(site::OUTSIDE_MAC, syn);
        let answer = self.heard(self.client).expect("a cookie");
        let acknowledgement = answer.sequence.wrapping_add(1);
        let flags = flag::ACK;
        let ack = Segment {
            sequence: 101,
            acknowledgement,
            flags,
            window: 9000,
            ..Segment::default()
        };
        self.client_says(OTHER_OUTSIDE_MAC, ack);
    }

    fn counted(&self, guard: usize, event: Event) -> u64 {
        self.world
            .get::<Appliance>(self.guards[guard])
            .counters()
            .event(event)
    }
}

#[test]
fn a_cookie_of_one_guard_is_good_at_another_with_the_same_key() {
    let mut rig = Rig::new([7; 16]);
    rig.shake_hands();
    let syn = rig.heard(rig.server).expect("the server is asked");
    assert_eq!((syn.flags, syn.sequence), (flag::SYN, 100));
    assert_eq!(
        (
            rig.counted(0, Event::CookieSent),
            rig.counted(1, Event::CookieSent)
        ),
        (1, 0)
    );
    assert_eq!(
        (
            rig.counted(0, Event::CookieAccepted),
            rig.counted(1, Event::CookieAccepted)
        ),
        (0, 1)
    );
}

#[test]
fn and_is_nothing_at_one_with_another_key() {
    // CASES 2
    let mut rig = Rig::new([8; 16]);
    rig.shake_hands();
    assert!(rig.heard(rig.server).is_none());
    assert_eq!(rig.counted(1, Event::CookieAccepted), 0);
}
