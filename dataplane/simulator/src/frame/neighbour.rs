//! ARP (RFC 826) and neighbour discovery (RFC 4861), as far as a virtual station needs them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Body, Frame, Mac, decode};

/// Who asks for an address.
#[derive(Clone, Copy, Debug)]
struct Asker {
    address: IpAddr,
    station: Mac,
}

/// A station that answers for its addresses.
#[derive(Clone, Debug)]
pub struct Station {
    /// Its own link-layer address.
    pub mac: Mac,
    /// What it answers for.
    pub addresses: Vec<IpAddr>,
}

const BROADCAST: Mac = [0xff; 6];

impl Station {
    /// The answer to a question about one of the station's addresses, if `frame` is one.
    #[must_use]
    pub fn answer(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let (asker, wanted) = asks(frame)?;
        if !self.addresses.contains(&wanted) {
            return None;
        }
        Some(match (wanted, asker.address) {
            (IpAddr::V4(wanted), IpAddr::V4(address)) => {
                arp(2, self.mac, wanted, asker.station, asker.station, address)
            }
            (wanted, address) => {
                let mut data = octets(wanted).to_vec();
                data.extend([2, 1]);
                data.extend(self.mac);
                let reply = Frame {
                    ttl: 255,
                    ..self.frame_to(asker.station, wanted, address)
                };
                // Solicited, override.
                reply.icmp(136, 0, 0x6000_0000, &data)
            }
        })
    }

    /// The question who has `wanted`, from the station's address of the same family.
    #[must_use]
    pub fn ask(&self, wanted: IpAddr) -> Option<Vec<u8>> {
        let own = *self
            .addresses
            .iter()
            .find(|own| own.is_ipv4() == wanted.is_ipv4())?;
        Some(match (own, wanted) {
            (IpAddr::V4(own), IpAddr::V4(wanted)) => {
                arp(1, self.mac, own, BROADCAST, [0; 6], wanted)
            }
            _ => {
                let target = octets(wanted);
                let group = [
                    0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, target[13], target[14], target[15],
                ];
                let station = [0x33, 0x33, 0xff, target[13], target[14], target[15]];
                let mut data = target.to_vec();
                data.extend([1, 1]);
                data.extend(self.mac);
                let group = IpAddr::V6(Ipv6Addr::from(group));
                Frame {
                    ttl: 255,
                    ..self.frame_to(station, own, group)
                }
                .icmp(135, 0, 0, &data)
            }
        })
    }

    fn frame_to(&self, to_station: Mac, source: IpAddr, destination: IpAddr) -> Frame {
        Frame {
            to_station,
            from_station: self.mac,
            source,
            destination,
            ttl: 64,
            traffic_class: 0,
            identification: 0,
        }
    }
}

/// Who asks in `frame`, and for which address.
fn asks(frame: &[u8]) -> Option<(Asker, IpAddr)> {
    if is_arp(frame) {
        let wanted = Ipv4Addr::new(frame[38], frame[39], frame[40], frame[41]);
        return (frame[21] == 1).then(|| (arp_sender(frame), IpAddr::V4(wanted)));
    }
    let packet = decode(frame)?;
    match &packet.body {
        Body::Icmp(message)
            if packet.source.is_ipv6() && message.kind == 135 && message.quote.len() >= 16 =>
        {
            let wanted: [u8; 16] = message.quote[..16].try_into().ok()?;
            let asker = Asker {
                address: packet.source,
                station: packet.from_station,
            };
            Some((asker, IpAddr::V6(wanted.into())))
        }
        _ => None,
    }
}

/// Whether it is an ARP message of IPv4 over Ethernet.
pub(super) fn is_arp(frame: &[u8]) -> bool {
    frame.len() >= 42 && frame[12..14] == [0x08, 0x06]
}

fn arp_sender(frame: &[u8]) -> Asker {
    let address = Ipv4Addr::new(frame[28], frame[29], frame[30], frame[31]);
    let mut station = [0; 6];
    station.copy_from_slice(&frame[22..28]);
    Asker {
        address: IpAddr::V4(address),
        station,
    }
}

fn arp(
    operation: u8,
    own: Mac,
    own_address: Ipv4Addr,
    to_station: Mac,
    target: Mac,
    target_address: Ipv4Addr,
) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    frame.extend(to_station);
    frame.extend(own);
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, operation]);
    frame.extend(own);
    frame.extend(own_address.octets());
    frame.extend(target);
    frame.extend(target_address.octets());
    frame
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}
