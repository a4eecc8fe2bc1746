//! The kernel's routes, as far as they tell whether a packet may leave by another interface.
//!
//! They are read over rtnetlink, of all tables at once: which table a packet is looked up in may hang
//! on its source, a mark, or a VRF, so a route counts in whichever it stands. So does one of any metric.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bindings::Netlink;

use crate::rtnetlink::{HEADER_BYTES, attributes, messages, split, u16_at, u32_at};

/// On a machine with more routes than this no more are read: it is a router.
const MOST: usize = 10_000;

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// NLM_F_REQUEST | NLM_F_DUMP
const DUMP: u16 = 0x301;
/// `struct rtmsg`
const ROUTE_BYTES: usize = 12;
const RTN_UNICAST: u8 = 1;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// One route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) table: u32,
    pub(super) destination: IpAddr,
    pub(super) length: u8,
    /// Whether it carries packets on; those that refuse them, or keep them here, do not.
    pub(super) is_unicast: bool,
    /// The numbers of the interfaces that it leads to; none where it does not say.
    pub(super) interfaces: Vec<u32>,
}

impl Route {
    fn covers(&self, server: IpAddr) -> bool {
        let (bits, own, other) = match (self.destination, server) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (
                32,
                u128::from(own.to_bits()) << 96,
                u128::from(other.to_bits()) << 96,
            ),
            (IpAddr::V6(own), IpAddr::V6(other)) => (128, own.to_bits(), other.to_bits()),
            _ => return false,
        };
        let length = self.length.min(bits);
        length == 0 || (own ^ other) >> (128 - u32::from(length)) == 0
    }

    fn may_name(&self, interface: u32) -> bool {
        self.interfaces.is_empty() || self.interfaces.contains(&interface)
    }

    fn may_leave_by_another(&self, interface: u32) -> bool {
        self.interfaces.is_empty() || self.interfaces.iter().any(|&to| to != interface)
    }
}

/// What is known of the routes of both families.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Routes {
    All(Vec<Route>),
    /// They could not be read, or are too many: each may be there.
    Unknown,
}

impl Routes {
    /// This name space's.
    pub(super) fn read() -> Self {
        read(AF_INET)
            .and_then(|mut routes| {
                routes.append(&mut read(AF_INET6)?);
                Ok(routes)
            })
            .map_or(Self::Unknown, Self::All)
    }

    /// Whether a packet to `server` that came by an interface may leave by another one: in some
    /// table one of the longest routes to it does.
    pub(super) fn lead_past(&self, interface: Option<u32>, server: IpAddr) -> bool {
        let (Self::All(routes), Some(interface)) = (self, interface) else {
            return true;
        };
        let leads = |route: &Route| route.covers(server);
        let longest = |table: u32| {
            let of_table = routes.iter().filter(|one| one.table == table);
            of_table
                .filter(|one| leads(one))
                .map(|one| one.length)
                .max()
        };
        routes.iter().filter(|one| leads(one)).any(|one| {
            one.is_unicast
                && one.may_leave_by_another(interface)
                && longest(one.table) == Some(one.length)
        })
    }

    /// Whether a route of IPv4 names one of these interfaces. An address of its own makes one, in the
    /// table of local addresses.
    pub(super) fn name_for_ipv4(&self, interfaces: &[Option<u32>]) -> bool {
        let Self::All(routes) = self else {
            return true;
        };
        let names = |route: &Route| {
            let may = |one: &Option<u32>| one.is_none_or(|one| route.may_name(one));
            interfaces.iter().any(may)
        };
        routes
            .iter()
            .any(|route| route.destination.is_ipv4() && names(route))
    }
}

fn read(family: u8) -> io::Result<Vec<Route>> {
    let netlink = Netlink::open(0).map_err(io::Error::other)?;
    let mut request = [0; HEADER_BYTES + ROUTE_BYTES];
    request[..4].copy_from_slice(&((HEADER_BYTES + ROUTE_BYTES) as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&RTM_GETROUTE.to_ne_bytes());
    request[6..8].copy_from_slice(&DUMP.to_ne_bytes());
    request[HEADER_BYTES] = family;
    netlink.ask(&request)?;
    let mut routes = Vec::new();
    let mut answer = vec![0; 1 << 16];
    loop {
        let length = netlink.receive(&mut answer)?;
        for (kind, body) in messages(&answer[..length]) {
            match kind {
                NLMSG_DONE => return Ok(routes),
                NLMSG_ERROR => return Err(io::Error::other("the kernel refuses the request")),
                RTM_NEWROUTE => routes.extend(route(body)),
                _ => {}
            }
        }
        if length == 0 || routes.len() > MOST {
            return Err(io::Error::other("there are too many routes"));
        }
    }
}

/// The interfaces of a route of several next hops (`struct rtnexthop`).
fn next_hops(mut bytes: &[u8]) -> Vec<u32> {
    let mut interfaces = Vec::new();
    while let Some(length) = u16_at(bytes, 0)
        && let Some((hop, rest)) = split(bytes, length.into(), 8)
    {
        interfaces.extend(u32_at(hop, 4));
        bytes = rest;
    }
    interfaces
}

fn route(body: &[u8]) -> Option<Route> {
    let (header, rest) = body.split_at_checked(ROUTE_BYTES)?;
    let mut route = Route {
        table: header[4].into(),
        destination: match header[0] {
            AF_INET => Ipv4Addr::UNSPECIFIED.into(),
            AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        },
        length: header[1],
        is_unicast: header[7] == RTN_UNICAST,
        interfaces: Vec::new(),
    };
    for (kind, value) in attributes(rest) {
        match kind {
            RTA_DST => {
                route.destination = match value.len() {
                    4 => <[u8; 4]>::try_from(value).ok()?.into(),
                    _ => <[u8; 16]>::try_from(value).ok()?.into(),
                }
            }
            RTA_OIF => route.interfaces.extend(u32_at(value, 0)),
            RTA_MULTIPATH => route.interfaces.extend(next_hops(value)),
            RTA_TABLE => route.table = u32_at(value, 0)?,
            _ => {}
        }
    }
    Some(route)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_answer_is_read() {
        let Routes::All(routes) = Routes::read() else {
            panic!("the routes of this name space are few");
        };
        // 127.0.0.1 is local to every name space whose loopback is up.
        let own = routes.iter().filter(|route| !route.is_unicast);
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let mut own = own.filter(|route| route.covers(loopback));
        assert!(own.any(|route| !route.interfaces.is_empty()), "{routes:?}");
    }

    #[test]
    fn what_is_cut_or_empty_is_survived() {
        let mut message = vec![0; HEADER_BYTES + ROUTE_BYTES];
        message[HEADER_BYTES] = AF_INET;
        message[HEADER_BYTES + 7] = RTN_UNICAST;
        for attribute in [
            [8, 0, 4, 0, 7, 0, 0, 0],
            [8, 0, 15, 0, 9, 1, 0, 0],
            [8, 0, 1, 0, 10, 0, 0, 0],
        ] {
            message.extend(attribute);
        }
        let hops = [
            20_u8, 0, 9, 0, 8, 0, 0, 0, 3, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0,
        ];
        message.extend(hops);
        message[0] = message.len() as u8;
        message[4] = RTM_NEWROUTE as u8;
        message[HEADER_BYTES + 1] = 8;
        let (kind, body) = messages(&message).next().unwrap();
        let whole = Route {
            table: 265,
            destination: [10, 0, 0, 0].into(),
            length: 8,
            is_unicast: true,
            interfaces: vec![7, 3, 5],
        };
        assert_eq!((kind, route(body)), (RTM_NEWROUTE, Some(whole)));
        for length in 0..message.len() {
            assert_eq!(messages(&message[..length]).count(), 0);
            let _ = route(&message[..length]);
        }
        assert_eq!(messages(&[0; 64]).count(), 0);
    }
}
