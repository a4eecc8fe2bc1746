//! Which link-layer header leads to an address, as frames of proved connections bore it.

use std::hash::BuildHasher;

use arrayvec::ArrayVec;

use crate::keyed::Keyed;
use crate::limits::{MAX_TAGS, MAX_WIRE_PATHS};
use crate::parse::{ETHERNET_HEADER_BYTES, VLAN_TAG_BYTES};
use crate::wire::address::Address;
use crate::wire::ethernet;

/// Ethernet header and as many tags as are read.
const MAX_LINK_HEADER_BYTES: usize = ETHERNET_HEADER_BYTES + MAX_TAGS * VLAN_TAG_BYTES;
/// Places that an address may take.
const WAYS: usize = 4;

/// A link-layer header, both stations, tags and EtherType.
pub type LinkHeader = ArrayVec<u8, MAX_LINK_HEADER_BYTES>;

#[derive(Clone, Debug)]
struct Path {
    address: Address,
    header: LinkHeader,
    /// When it was last seen to be good, by the count of all that was learned.
    learned: u64,
}

/// The headers that lead to clients, at most [`MAX_WIRE_PATHS`] of them: of four that share a
/// place, the one that was confirmed longest ago makes room.
#[derive(Debug)]
pub struct Paths {
    /// Sets of [`WAYS`].
    places: Vec<Option<Path>>,
    key: Keyed,
    learned: u64,
}

impl Paths {
    /// No path. `key` should be random: it keeps strangers from choosing addresses that displace
    /// each other.
    pub fn new(key: u128) -> Self {
        Self {
            places: vec![None; MAX_WIRE_PATHS],
            key: Keyed::new(key),
            learned: 0,
        }
    }

    /// Takes note that `header` leads to `address`.
    pub fn learn(&mut self, address: Address, header: LinkHeader) {
        self.learned += 1;
        let learned = self.learned;
        let set = self.set_of(address);
        let places = &mut self.places[set..set + WAYS];
        let age = |place: &Option<Path>| match place {
            Some(path) if path.address == address => (0, 0),
            None => (1, 0),
            Some(path) => (2, path.learned),
        };
        if let Some(place) = places.iter_mut().min_by_key(|place| age(place)) {
            *place = Some(Path {
                address,
                header,
                learned,
            });
        }
    }

    /// The header that leads to `address`.
    pub fn find(&self, address: Address) -> Option<&LinkHeader> {
        let set = self.set_of(address);
        let mut places = self.places[set..set + WAYS].iter().flatten();
        places
            .find(|path| path.address == address)
            .map(|path| &path.header)
    }

    fn set_of(&self, address: Address) -> usize {
        let hash = self.key.hash_one(address.to_bits()) as usize;
        hash % (MAX_WIRE_PATHS / WAYS) * WAYS
    }
}

/// The link-layer header of a frame whose packet begins at `network`, as it goes on.
pub(crate) fn header_of(frame: &[u8], network: usize) -> Option<LinkHeader> {
    LinkHeader::try_from(frame.get(..network)?).ok()
}

/// The same, as an answer would bear it.
pub(crate) fn header_back(frame: &[u8], network: usize) -> Option<LinkHeader> {
    let mut header = header_of(frame, network)?;
    ethernet::swap(&mut header);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(byte: u8) -> LinkHeader {
        [byte; 14].into_iter().collect()
    }

    #[test]
    fn the_last_header_that_was_good_leads_there() {
        let mut paths = Paths::new(1);
        let address = Address::from_v4([198, 51, 100, 7]);
        assert_eq!(paths.find(address), None);
        paths.learn(address, header(1));
        paths.learn(address, header(2));
        assert_eq!(paths.find(address), Some(&header(2)));
    }

    #[test]
    fn a_full_table_forgets_the_oldest_and_never_grows() {
        let mut paths = Paths::new(1);
        let address = |n: usize| Address::from_v4((n as u32).to_be_bytes());
        let many = MAX_WIRE_PATHS * 2;
        for n in 0..many {
            paths.learn(address(n), header(n as u8));
        }
        assert_eq!(paths.places.len(), MAX_WIRE_PATHS);
        let known = |from: usize, to: usize| {
            (from..to)
                .filter(|&n| paths.find(address(n)).is_some())
                .count()
        };
        let (old, new) = (known(0, many / 2), known(many / 2, many));
        assert!(new > 4 * old, "{old} old and {new} new ones are known");
        for n in (0..many).filter(|&n| paths.find(address(n)).is_some()) {
            assert_eq!(paths.find(address(n)), Some(&header(n as u8)));
        }
    }

    #[test]
    fn an_answer_bears_the_stations_the_other_way_round_and_the_same_tag() {
        let frame: Vec<u8> = (0..40).collect();
        let back = header_back(&frame, 18).unwrap();
        assert_eq!(back[..6], frame[6..12]);
        assert_eq!(back[6..12], frame[..6]);
        assert_eq!(back[12..], frame[12..18]);
        assert_eq!(header_of(&frame, 18).unwrap()[..], frame[..18]);
        assert_eq!(header_of(&frame, 41), None);
        assert_eq!(header_of(&[0; 60], 50), None, "nine tags are too many");
    }
}
