use hashbrown::HashMap;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Words([u64; 3]);

impl Key for Words {
    fn words(&self) -> [u64; 3] {
        self.0
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(align(64))]
struct Line {
    key: Words,
    value: u64,
}

impl Entry for Line {
    type Key = Words;

    fn key(&self) -> Words {
        self.key
    }

    fn matches(&self, key: &Words) -> bool {
        self.key == *key
    }
}

const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

fn line(number: u64) -> Line {
    Line {
        key: Words([number, number << 17, 6]),
        value: number,
    }
}

fn insert(table: &mut Table<Line>, entry: Line) -> Result<Id, Full> {
    table.insert(table.hash(&entry.key), entry)
}

fn find(table: &Table<Line>, entry: &Line) -> Option<Id> {
    let hash = table.hash(&entry.key);
    table.prefetch_bucket(hash);
    table.prefetch_entry(hash);
    let found = table.find(hash, &entry.key);
    let mut of_burst = [Some(Id(7)); 2];
    table.find_burst(&[hash; 2], &[entry.key; 2], &mut of_burst);
    assert_eq!(of_burst, [found; 2]);
    found
}

/// Every slot points to a live entry of its own tag, in one of its two buckets, and the counts of
/// those away from home are right.
fn check_index<E: Entry>(table: &Table<E>) {
    let mut away = vec![0; table.buckets.len()];
    let mut used = 0;
    for (index, bucket) in table.buckets.iter().enumerate() {
        for slot in (0..SLOTS).filter(|&slot| bucket.tag(slot) != 0) {
            used += 1;
            let guest = bucket.guests >> slot & 1 != 0;
            assert!(table.contains(Id(bucket.entries[slot])));
            if guest {
                away[table.other(index, bucket.tag(slot))] += 1;
            }
        }
    }
    assert_eq!(used, table.len());
    for (bucket, away) in table.buckets.iter().zip(away) {
        assert_eq!(bucket.away, away);
    }
}

#[test]
fn a_bucket_is_one_cache_line() {
    assert_eq!((size_of::<Bucket>(), align_of::<Bucket>()), (64, 64));
    assert_eq!(size_of::<Line>(), 64);
}

#[test]
fn an_entry_takes_less_than_eighty_two_bytes_in_all() {
    let table = Table::<Line>::with_capacity(100_000, SEED);
    assert!(
        table.memory_bytes() < 82 * 100_000,
        "{}",
        table.memory_bytes()
    );
}

#[test]
fn it_fills_to_its_capacity_and_then_refuses() {
    for (capacity, seeds) in [(1, 50), (7, 50), (80, 2_000), (1_000, 200), (200_000, 2)] {
        for seed in 0..seeds {
            let mut table = Table::with_capacity(capacity, [seed, 77]);
            for number in 0..u64::from(capacity) {
                assert!(
                    insert(&mut table, line(number)).is_ok(),
                    "{capacity} {seed} {number}"
                );
            }
            assert_eq!(insert(&mut table, line(u64::MAX)), Err(Full));
            assert_eq!(table.len(), capacity as usize);
            for number in 0..u64::from(capacity) {
                let id = find(&table, &line(number)).unwrap();
                assert_eq!(*table.get(id), line(number));
                assert_eq!(find(&table, &line(number + u64::from(capacity))), None);
            }
            check_index(&table);
        }
    }
}

#[test]
fn a_full_table_takes_a_new_entry_for_each_that_leaves_for_ever() {
    let capacity = 20_000;
    let mut table = Table::with_capacity(capacity, SEED);
    let mut state = 1u64;
    for number in 0..u64::from(capacity) {
        insert(&mut table, line(number)).unwrap();
    }
    for number in u64::from(capacity)..40 * u64::from(capacity) {
        state = state.wrapping_mul(MIX).wrapping_add(1);
        assert!(table.remove(Id((state >> 32) as u32 % capacity)));
        assert!(insert(&mut table, line(number)).is_ok(), "{number}");
    }
    check_index(&table);
    let away: u32 = table.buckets.iter().map(|bucket| bucket.away).sum();
    assert!(
        away < capacity / 14,
        "{away} of {capacity} live away from home"
    );
}

#[test]
fn a_place_is_used_again_after_removal() {
    let mut table = Table::with_capacity(3, SEED);
    let ids = [1, 2, 3].map(|number| insert(&mut table, line(number)).unwrap());
    assert!(table.remove(ids[1]));
    assert!(!table.remove(ids[1]));
    assert!(!table.remove(Id(1_000_000)));
    assert_eq!(find(&table, &line(2)), None);
    assert_eq!(insert(&mut table, line(4)), Ok(ids[1]));
    table.get_mut(ids[1]).value = 9;
    assert_eq!(table.get(ids[1]).value, 9);
    assert!(!table.is_empty());
}

#[test]
fn keys_of_one_hash_overflow_only_their_own_two_buckets() {
    let mut table = Table::with_capacity(1_000, SEED);
    let hash = Hash(0x1234_5678_0000_4321);
    let mut held = Vec::new();
    for number in 0..100 {
        match table.insert(hash, line(number)) {
            Ok(id) => held.push((number, id)),
            Err(Full) => break,
        }
    }
    assert_eq!(
        held.len(),
        2 * SLOTS,
        "no bucket of the two has a slot left"
    );
    for &(number, id) in &held {
        assert_eq!(table.find(hash, &line(number).key), Some(id));
    }
    assert_eq!(table.find(hash, &line(100).key), None);
    let away = table.buckets[table.home(hash)].away;
    assert_eq!(away, SLOTS as u32);
    assert_eq!(
        insert(&mut table, line(5_000)).map(|id| table.contains(id)),
        Ok(true)
    );
}

#[test]
fn keys_of_one_home_spread_over_the_table_and_go_again() {
    let mut table = Table::with_capacity(10_000, SEED);
    let hash = |number: u64| Hash(0x8000_0000_0000_0000 | (number + 1));
    let mut held = Vec::new();
    while let Ok(id) = table.insert(hash(held.len() as u64), line(held.len() as u64)) {
        held.push(id);
    }
    assert!(held.len() > 8_000, "{}", held.len());
    check_index(&table);
    for (number, &id) in held.iter().enumerate() {
        let number = number as u64;
        assert_eq!(table.find(hash(number), &line(number).key), Some(id));
    }
}

#[test]
fn hashes_of_neighbouring_keys_are_spread_evenly() {
    let table = Table::<Line>::with_capacity(5 * 1024, SEED);
    assert_eq!(table.buckets.len(), 1024);
    for shift in [0, 4, 8, 16, 24, 32, 40, 47] {
        for word in 0..3 {
            let mut homes = vec![0u32; 1024];
            let mut tags = vec![0u32; 1024];
            for number in 0..102_400u64 {
                let mut words = [0xffff_c000_0201, 0x0a00_0001, 0x1_bb06];
                words[word] ^= number << shift;
                let hash = table.hash(&Words(words));
                homes[table.home(hash)] += 1;
                tags[usize::from(tag_of(hash)) % 1024] += 1;
            }
            for counts in [&homes, &tags] {
                // Chi-square with 1,023 degrees of freedom: 1,300 is six deviations off.
                let chi_square: f64 = counts
                    .iter()
                    .map(|&count| (f64::from(count) - 100.0).powi(2) / 100.0)
                    .sum();
                assert!(chi_square < 1_300.0, "{shift} {word}: {chi_square}");
            }
        }
    }
}

#[test]
fn another_seed_gives_other_hashes() {
    let (one, two) = (
        Table::<Line>::with_capacity(1, SEED),
        Table::<Line>::with_capacity(1, [SEED[0], SEED[1] + 1]),
    );
    let differ =
        (0..64).filter(|&number| one.hash(&line(number).key) != two.hash(&line(number).key));
    assert_eq!(differ.count(), 64);
}

#[test]
fn a_listing_meets_every_entry_once_in_order_of_place() {
    let mut table = Table::with_capacity(20_000, SEED);
    assert_eq!(table.next_after(None), None);
    let ids: Vec<Id> = (0..20_000)
        .map(|number| insert(&mut table, line(number)).unwrap())
        .collect();
    for &id in &ids {
        if !matches!(id.0, 0 | 63 | 64 | 4_095 | 4_096 | 13_000 | 19_999) {
            table.remove(id);
        }
    }
    let mut met = Vec::new();
    let mut after = None;
    while let Some(id) = table.next_after(after) {
        met.push(id.0);
        after = Some(id);
    }
    assert_eq!(met, [0, 63, 64, 4_095, 4_096, 13_000, 19_999]);
    assert_eq!(table.next_after(Some(Id(u32::MAX))), None);
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64),
    Remove(u64),
    Find(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0u64..160;
    let step = prop_oneof![
        3 => key.clone().prop_map(Step::Insert),
        2 => key.clone().prop_map(Step::Remove),
        1 => key.prop_map(Step::Find),
    ];
    proptest::collection::vec(step, 0..1_500)
}

proptest! {
    #[test]
    fn the_slots_of_a_tag_are_found_whatever_the_others_hold(
        mut tags in any::<[u16; SLOTS]>(),
        close in any::<[bool; SLOTS]>(),
        tag in any::<u16>(),
    ) {
        let mut bucket = Bucket::default();
        for slot in 0..SLOTS {
            if close[slot] {
                tags[slot] = tag ^ (tags[slot] & 0x8001);
            }
            bucket.fill(slot, tags[slot], 0, false);
        }
        let expected: Vec<usize> = (0..SLOTS).filter(|&slot| tags[slot] == tag).collect();
        let mut found: Vec<usize> = bucket.matching(tag).collect();
        found.sort_unstable();
        prop_assert_eq!(found, expected);
        prop_assert!((0..SLOTS).all(|slot| bucket.tag(slot) == tags[slot]));
    }

    #[test]
    fn it_behaves_as_a_hash_map_of_bounded_size(
        steps in steps(),
        capacity in 1u32..120,
        seed in any::<[u64; 2]>(),
        clash in any::<bool>(),
    ) {
        let mut table = Table::with_capacity(capacity, seed);
        let mut model: HashMap<u64, Id> = HashMap::new();
        // With `clash`, keys share eight homes, so that other buckets, moves and counts matter.
        let hash = |table: &Table<ClashingLine>, number: u64| {
            let honest = table.hash(&clashing(number, clash).key());
            prop_assert_eq!(honest, table.hash(&clashing(number, clash).key()));
            Ok(honest)
        };
        for step in steps {
            match step {
                Step::Insert(number) => {
                    let hashed = hash(&table, number)?;
                    if model.contains_key(&number) {
                        continue;
                    }
                    match table.insert(hashed, clashing(number, clash)) {
                        Ok(id) => {
                            prop_assert!(!model.values().any(|&other| other == id));
                            model.insert(number, id);
                        }
                        Err(Full) => prop_assert!(clash || model.len() == capacity as usize),
                    }
                }
                Step::Remove(number) => {
                    if let Some(id) = model.remove(&number) {
                        prop_assert!(table.remove(id));
                        prop_assert!(!table.contains(id));
                    }
                }
                Step::Find(number) => {
                    let (hashed, key) = (hash(&table, number)?, clashing(number, clash).key());
                    let mut found = [None];
                    table.find_burst(&[hashed], &[key], &mut found);
                    prop_assert_eq!(found[0], model.get(&number).copied());
                    prop_assert_eq!(table.find(hashed, &key), found[0]);
                }
            }
            prop_assert_eq!(table.len(), model.len());
        }
        check_index(&table);
        for (number, &id) in &model {
            prop_assert_eq!(table.get(id).number, *number);
        }
    }
}

/// An entry whose key's words may be shared with others: equal hashes, unequal keys.
#[derive(Clone, Copy, Debug, Default)]
struct ClashingLine {
    number: u64,
    clash: bool,
}

#[derive(Clone, Copy, Debug)]
struct ClashingKey(ClashingLine);

impl Key for ClashingKey {
    fn words(&self) -> [u64; 3] {
        let number = self.0.number;
        [if self.0.clash { number % 8 } else { number }, 0, 0]
    }
}

impl Entry for ClashingLine {
    type Key = ClashingKey;

    fn key(&self) -> ClashingKey {
        ClashingKey(*self)
    }

    fn matches(&self, key: &ClashingKey) -> bool {
        self.number == key.0.number
    }
}

fn clashing(number: u64, clash: bool) -> ClashingLine {
    ClashingLine { number, clash }
}
