//! Longest-prefix match: which route leads to an address.
//!
//! One compressed trie a family, six bits a level, with a bit vector in each node in place of the
//! pointers that are not there (Asai and Ohara, "Poptrie", SIGCOMM 2015). It is built off the
//! worker and never changed: a reload builds another. IPv4's begins with a table of its leading
//! sixteen bits (the paper's direct pointing), so that most look-ups end after one load.

use crate::keyed::Spread;
use crate::wire::address::{Address, Family, Prefix};

const STRIDE: u32 = 6;
const SLOTS: usize = 1 << STRIDE;

/// What a prefix leads to, by number.
pub(crate) type RouteIndex = u32;

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    /// A bit for each slot that has a deeper node.
    children: u64,
    /// A bit for each slot whose leaf differs from the leaf before it.
    leaves: u64,
    first_child: u32,
    first_leaf: u32,
}

/// The routes of both families.
#[derive(Debug)]
pub(crate) struct RouteTable {
    v4: DirectTrie,
    v6: Trie,
}

impl RouteTable {
    /// A table of these prefixes and what they lead to. Of two equal prefixes the last one counts.
    pub(crate) fn new(routes: &[(Prefix, RouteIndex)]) -> Self {
        Self {
            v4: DirectTrie::new(routes),
            v6: Trie::new(routes, Family::V6),
        }
    }

    /// What [`Self::look_up`] says of all IPv4 addresses with these leading bits, if it says the
    /// same of all.
    pub(crate) fn of_leading(&self, bits: u16) -> Option<u32> {
        let entry = self.v4.direct[usize::from(bits)];
        (entry & DEEPER == 0).then_some(entry)
    }

    /// One more than what the longest prefix that contains `address` leads to; 0 for no route.
    #[inline(always)]
    pub(crate) fn look_up(&self, address: Address) -> u32 {
        match address.family() {
            Family::V4 => self.v4.look_up(address.to_bits() as u32),
            Family::V6 => self.v6.look_up(address.to_bits()),
        }
    }
}

/// Answers that are kept at hand.
const KEPT: usize = 256;

/// What a route table last said, for addresses whose answer takes more than one load. It must be
/// cleared when the table changes.
#[derive(Debug)]
pub(crate) struct RecentRoutes {
    /// Addresses and what was said of them, by a hash of the address.
    answers: Box<[(Address, u32); KEPT]>,
    spread: Spread,
}

impl RecentRoutes {
    /// Nothing said yet by `table`.
    pub(crate) fn of(table: &RouteTable, spread: Spread) -> Self {
        let mut recent = Self {
            answers: Box::new([(Address::UNSPECIFIED, 0); KEPT]),
            spread,
        };
        recent.clear(table);
        recent
    }

    /// From now on, what `table` says.
    pub(crate) fn clear(&mut self, table: &RouteTable) {
        let answer = table.look_up(Address::UNSPECIFIED);
        self.answers.fill((Address::UNSPECIFIED, answer));
    }

    /// [`RouteTable::look_up`] of an address of `family`.
    #[inline(always)]
    pub(crate) fn look_up(&mut self, table: &RouteTable, address: Address, family: Family) -> u32 {
        let bits = address.to_bits();
        let place = match family {
            Family::V4 => {
                let entry = table.v4.direct[(bits as u32 >> DIRECT_BITS) as usize];
                if entry & DEEPER == 0 {
                    return entry;
                }
                self.spread.place::<KEPT>(u64::from(bits as u32))
            }
            Family::V6 => {
                let (low, high) = (bits as u64, (bits >> 64) as u64);
                self.spread.place_of_two::<KEPT>(low, high)
            }
        };
        let answer = &mut self.answers[place];
        if answer.0 != address {
            *answer = (address, table.look_up_again(address));
        }
        answer.1
    }
}

impl RouteTable {
    #[inline(never)]
    fn look_up_again(&self, address: Address) -> u32 {
        self.look_up(address)
    }
}

/// One route while the trie is built: its bits left-aligned, its length in its own family.
#[derive(Clone, Copy)]
struct Item {
    bits: u128,
    length: u32,
    leaf: u32,
}

/// The routes of one family, in the order in which a trie is filled.
fn items_of(routes: &[(Prefix, RouteIndex)], family: Family) -> Vec<Item> {
    let base = if family == Family::V4 { 96 } else { 0 };
    let mut items: Vec<Item> = routes
        .iter()
        .filter(|(prefix, _)| prefix.family() == family)
        .map(|(prefix, route)| Item {
            bits: prefix.network().to_bits() << base,
            length: u32::from(prefix.mapped_length()) - base,
            leaf: route + 1,
        })
        .collect();
    // Stable, so that the last of equal prefixes stays last and wins.
    items.sort_by_key(|item| (item.bits, item.length));
    items
}

const DIRECT_BITS: u32 = 16;
/// Marks an entry of the direct table that leads to a node, not to a leaf.
const DEEPER: u32 = 1 << 31;

/// A trie whose leading sixteen bits are decided by one load.
#[derive(Debug)]
struct DirectTrie {
    direct: Box<[u32; 1 << DIRECT_BITS]>,
    trie: Trie,
}

impl DirectTrie {
    fn new(routes: &[(Prefix, RouteIndex)]) -> Self {
        let items = items_of(routes, Family::V4);
        let mut direct = Box::new([0; 1 << DIRECT_BITS]);
        let mut lengths = vec![0; 1 << DIRECT_BITS];
        for item in items.iter().filter(|item| item.length <= DIRECT_BITS) {
            let first = (item.bits >> (128 - DIRECT_BITS)) as usize;
            for covered in first..first + (1 << (DIRECT_BITS - item.length)) {
                if item.length >= lengths[covered] {
                    lengths[covered] = item.length;
                    direct[covered] = item.leaf;
                }
            }
        }
        let longer: Vec<Item> = items
            .into_iter()
            .filter(|item| item.length > DIRECT_BITS)
            .collect();
        let mut trie = Trie {
            nodes: Vec::new(),
            leaves: Vec::new(),
        };
        for below in longer.chunk_by(|one, next| (one.bits ^ next.bits) >> (128 - DIRECT_BITS) == 0)
        {
            let slot = (below[0].bits >> (128 - DIRECT_BITS)) as usize;
            let node = trie.nodes.len();
            trie.nodes.push(Node::default());
            trie.fill(node, below, DIRECT_BITS, direct[slot]);
            direct[slot] = DEEPER | node as u32;
        }
        trie.shrink();
        Self { direct, trie }
    }

    #[inline(always)]
    fn look_up(&self, bits: u32) -> u32 {
        let entry = self.direct[(bits >> DIRECT_BITS) as usize];
        if entry & DEEPER == 0 {
            entry
        } else {
            self.look_deeper(entry, bits)
        }
    }

    #[inline]
    fn look_deeper(&self, entry: u32, bits: u32) -> u32 {
        // Three levels of six bits hold what is left of the address.
        let mut bits = bits << DIRECT_BITS;
        let mut node = &self.trie.nodes[(entry & !DEEPER) as usize];
        loop {
            let slot = bits >> (u32::BITS - STRIDE);
            match node.child(slot) {
                Ok(child) => node = &self.trie.nodes[child],
                Err(leaf) => return self.trie.leaves[leaf],
            }
            bits <<= STRIDE;
        }
    }
}

impl Node {
    /// The node that `slot` leads to, or else its leaf.
    #[inline]
    fn child(&self, slot: u32) -> Result<usize, usize> {
        let up_to = u64::MAX >> (63 - slot);
        if self.children & (1 << slot) == 0 {
            let before = (self.leaves & up_to).count_ones();
            Err((self.first_leaf + before - 1) as usize)
        } else {
            let before = (self.children & up_to).count_ones();
            Ok((self.first_child + before - 1) as usize)
        }
    }
}

#[derive(Debug)]
struct Trie {
    nodes: Vec<Node>,
    leaves: Vec<u32>,
}

impl Trie {
    fn new(routes: &[(Prefix, RouteIndex)], family: Family) -> Self {
        let mut trie = Self {
            nodes: vec![Node::default()],
            leaves: Vec::new(),
        };
        trie.fill(0, &items_of(routes, family), 0, 0);
        trie.shrink();
        trie
    }

    fn shrink(&mut self) {
        self.nodes.shrink_to_fit();
        self.leaves.shrink_to_fit();
    }

    /// Fills node `at`, which decides the bits from `depth` on, from the routes that lie within
    /// it; `inherited` is the leaf of the longest route above it. The depth is bounded by the
    /// address's width.
    fn fill(&mut self, at: usize, items: &[Item], depth: u32, inherited: u32) {
        let mut leaves = [inherited; SLOTS];
        let mut lengths = [0; SLOTS];
        let mut deeper = [(0, 0); SLOTS];
        for (index, item) in items.iter().enumerate() {
            let slot = slot_of(item.bits << depth);
            if item.length > depth + STRIDE {
                let (start, end) = &mut deeper[slot];
                if start == end {
                    *start = index;
                }
                *end = index + 1;
                continue;
            }
            let width = 1 << (depth + STRIDE - item.length);
            for covered in slot..slot + width {
                if item.length >= lengths[covered] {
                    lengths[covered] = item.length;
                    leaves[covered] = item.leaf;
                }
            }
        }
        let mut node = Node {
            first_child: self.nodes.len() as u32,
            first_leaf: self.leaves.len() as u32,
            ..Node::default()
        };
        let mut last = None;
        for slot in 0..SLOTS {
            if deeper[slot].0 != deeper[slot].1 {
                node.children |= 1 << slot;
            } else if last != Some(leaves[slot]) {
                last = Some(leaves[slot]);
                node.leaves |= 1 << slot;
                self.leaves.push(leaves[slot]);
            }
        }
        let children = node.children.count_ones() as usize;
        self.nodes
            .resize(self.nodes.len() + children, Node::default());
        self.nodes[at] = node;
        let mut child = node.first_child as usize;
        for slot in 0..SLOTS {
            let (start, end) = deeper[slot];
            if start == end {
                continue;
            }
            // A shorter route may stand between two deeper ones of its slot: it belongs here.
            let below: Vec<Item> = items[start..end]
                .iter()
                .filter(|item| item.length > depth + STRIDE)
                .copied()
                .collect();
            self.fill(child, &below, depth + STRIDE, leaves[slot]);
            child += 1;
        }
    }

    #[inline]
    fn look_up(&self, mut bits: u128) -> u32 {
        let mut node = &self.nodes[0];
        loop {
            match node.child(slot_of(bits) as u32) {
                Ok(child) => node = &self.nodes[child],
                Err(leaf) => return self.leaves[leaf],
            }
            bits <<= STRIDE;
        }
    }
}

/// The six leading bits.
#[inline]
fn slot_of(bits: u128) -> usize {
    (bits >> (128 - STRIDE)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn prefix(text: &str) -> Prefix {
        let (network, length) = text.split_once('/').unwrap();
        Prefix::new(address(network), length.parse().unwrap()).unwrap()
    }

    #[test]
    fn the_longest_prefix_wins_whatever_the_order() {
        let table = RouteTable::new(&[
            (prefix("10.0.0.10/32"), 3),
            (prefix("0.0.0.0/0"), 0),
            (prefix("10.0.0.0/24"), 2),
            (prefix("10.0.0.0/8"), 1),
            (prefix("::/0"), 4),
            (prefix("2001:db8::/32"), 5),
            (prefix("2001:db8::1/128"), 6),
        ]);
        for (to, route) in [
            ("10.0.0.10", 3),
            ("10.0.0.11", 2),
            ("10.0.1.10", 1),
            ("192.0.2.1", 0),
            ("2001:db8::1", 6),
            ("2001:db8::2", 5),
            ("2001:db9::2", 4),
        ] {
            assert_eq!(table.look_up(address(to)), route + 1, "{to}");
        }
    }

    #[test]
    fn an_empty_table_leads_nowhere_and_a_later_equal_prefix_replaces() {
        let empty = RouteTable::new(&[]);
        assert_eq!(empty.look_up(address("192.0.2.1")), 0);
        assert_eq!(empty.look_up(address("2001:db8::1")), 0);
        let twice = RouteTable::new(&[(prefix("192.0.2.0/24"), 1), (prefix("192.0.2.0/24"), 2)]);
        assert_eq!(twice.look_up(address("192.0.2.1")), 3);
        assert_eq!(twice.look_up(address("192.0.3.1")), 0);
    }

    fn reference(routes: &[(Prefix, RouteIndex)], to: Address) -> u32 {
        let holding = routes.iter().filter(|(prefix, _)| prefix.contains(to));
        holding
            .max_by_key(|(prefix, _)| prefix.mapped_length())
            .map_or(0, |(_, route)| *route + 1)
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_search_of_the_list(
            seeds in proptest::collection::vec((any::<u32>(), 0u8..=32, any::<bool>()), 0..60),
            probes in proptest::collection::vec(any::<u32>(), 0..60),
        ) {
            let make = |bits: u32, six: bool| if six {
                Address::from_bits(u128::from(bits) << 90 | u128::from(bits))
            } else {
                // Few distinct leading bits, so that prefixes nest.
                Address::from_v4((bits & 0x8103_07ff).to_be_bytes())
            };
            let routes: Vec<_> = seeds.iter().enumerate().map(|(index, &(bits, length, six))| {
                let length = if six { length * 4 } else { length };
                (Prefix::new(make(bits, six), length).unwrap(), index as u32)
            }).collect();
            let table = RouteTable::new(&routes);
            let mut recent = RecentRoutes::of(&table, Spread::new(1));
            let near = routes.iter().map(|(prefix, _)| prefix.network());
            let far = probes.iter().flat_map(|&bits| [make(bits, true), make(bits, false)]);
            for to in near.chain(far) {
                let expected = reference(&routes, to);
                prop_assert_eq!(table.look_up(to), expected, "{}", to);
                // Whatever others have made it keep at hand, it says the same.
                for _ in 0..2 {
                    prop_assert_eq!(recent.look_up(&table, to, to.family()), expected, "{}", to);
                }
            }
        }
    }
}
