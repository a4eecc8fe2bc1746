//! Measures look-ups in bursts in the session table, beside `hashbrown` in the same run:
//! `cargo run --release -p tidegate-dataplane --example table_cost [rounds]`.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement reads the clock and prints"
)]

use std::hash::{BuildHasher, Hasher};
use std::hint::black_box;
use std::time::Instant;

use dataplane::flow::table::{Entry, Hash, Id, Key, Table};
use dataplane::limits::BURST;
use hashbrown::HashMap;

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Tuple([u64; 3]);

impl Key for Tuple {
    #[inline]
    fn words(&self) -> [u64; 3] {
        self.0
    }
}

impl std::hash::Hash for Tuple {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|&word| state.write_u64(word));
    }
}

#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Session {
    key: Tuple,
    state: [u64; 5],
}

impl Entry for Session {
    type Key = Tuple;

    #[inline]
    fn key(&self) -> Tuple {
        self.key
    }

    #[inline]
    fn matches(&self, key: &Tuple) -> bool {
        self.key == *key
    }
}

/// The table's own hash, so that both are compared on their look-up alone.
#[derive(Clone, Copy, Default)]
struct Folded(u64);

impl Hasher for Folded {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    #[inline]
    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xe703_7ed1_a0b4_28db;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

impl BuildHasher for Folded {
    type Hasher = Self;

    #[inline]
    fn build_hasher(&self) -> Self {
        *self
    }
}

fn tuple(number: u64) -> Tuple {
    Tuple([
        0x0a00_0000_0000 | number >> 10,
        0x2001_0db8 << 32 | 7,
        number << 16 | 443,
    ])
}

/// A pseudo-random number below `bound`, quick enough not to weigh.
fn random(state: &mut u64, bound: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    ((u128::from(*state) * u128::from(bound)) >> 64) as u64
}

/// Keys for a run, drawn beforehand: random ones out of `range`.
fn draw(state: &mut u64, range: std::ops::Range<u64>, rounds: usize) -> Vec<[Tuple; BURST]> {
    let bound = range.end - range.start;
    (0..rounds)
        .map(|_| std::array::from_fn(|_| tuple(range.start + random(state, bound))))
        .collect()
}

fn in_table(table: &Table<Session>, bursts: &[[Tuple; BURST]]) -> (f64, u64) {
    let begin = Instant::now();
    let mut sum = 0;
    for burst in bursts {
        let mut hashes: [Hash; BURST] = [table.hash(&burst[0]); BURST];
        for (hash, key) in hashes.iter_mut().zip(burst) {
            *hash = table.hash(key);
            table.prefetch_bucket(*hash);
        }
        let mut found: [Option<Id>; BURST] = [None; BURST];
        table.find_burst(&hashes, burst, &mut found);
        for id in found.into_iter().flatten() {
            sum += table.get(id).state[0];
        }
    }
    (per_look_up(begin, bursts), sum)
}

fn in_map(map: &HashMap<Tuple, Session, Folded>, bursts: &[[Tuple; BURST]]) -> (f64, u64) {
    let begin = Instant::now();
    let mut sum = 0;
    for burst in bursts {
        for key in burst {
            sum += map.get(key).map_or(0, |session| session.state[0]);
        }
    }
    (per_look_up(begin, bursts), sum)
}

/// Look-ups that wait for each other, as they do when much else is done between two of them.
fn in_map_one_by_one(
    map: &HashMap<Tuple, Session, Folded>,
    bursts: &[[Tuple; BURST]],
) -> (f64, u64) {
    let nothing = black_box(0);
    let begin = Instant::now();
    let mut sum = 0;
    for burst in bursts {
        for key in burst {
            let mut key = *key;
            key.0[0] ^= sum & nothing;
            sum += map.get(&key).map_or(0, |session| session.state[0]);
        }
    }
    (per_look_up(begin, bursts), sum)
}

fn per_look_up(begin: Instant, bursts: &[[Tuple; BURST]]) -> f64 {
    begin.elapsed().as_nanos() as f64 / (bursts.len() * BURST) as f64
}

/// The least of several runs: what else runs on the machine only ever adds.
fn least(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}

fn session(number: u64) -> Session {
    Session {
        key: tuple(number),
        state: [number; 5],
    }
}

fn measure(entries: u64, rounds: usize) {
    let mut state = 0x2545_f491_4f6c_dd1d;
    let begin = Instant::now();
    let mut table = Table::with_capacity(entries as u32, [1, 2]);
    let built = begin.elapsed();
    let mut map = HashMap::with_capacity_and_hasher(entries as usize, Folded::default());
    let begin = Instant::now();
    for number in 0..entries {
        let hash = table.hash(&tuple(number));
        table
            .insert(hash, session(number))
            .expect("room for every session");
    }
    let insert_ns = begin.elapsed().as_nanos() as f64 / entries as f64;
    for number in 0..entries {
        map.insert(tuple(number), session(number));
    }
    println!(
        "{entries:>9} entries: {:.1} B each, built in {built:.1?}, {insert_ns:.1} ns an insertion",
        table.memory_bytes() as f64 / entries as f64,
    );
    for (what, range) in [("hit", 0..entries), ("miss", entries..2 * entries)] {
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..9 {
            let bursts = draw(&mut state, range.clone(), rounds);
            let runs = [
                in_table(&table, &bursts),
                in_map(&map, &bursts),
                in_map_one_by_one(&map, &bursts),
            ];
            for ((time_ns, sum), times) in runs.into_iter().zip(&mut times) {
                assert_eq!(sum, runs[0].1, "both hold the same");
                times.push(time_ns);
            }
        }
        let [ours, theirs, waiting] = times.map(|times| least(&times));
        println!(
            "{:>9} {what:<5} table {ours:6.1} ns   hashbrown {theirs:6.1} ns, one by one {waiting:6.1} ns   ratio {:.2}, {:.2}",
            "",
            ours / theirs,
            ours / waiting,
        );
    }
}

fn main() {
    let rounds = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(4_000);
    for entries in [1_000, 1_000_000, 10_000_000] {
        measure(entries, rounds);
    }
}
