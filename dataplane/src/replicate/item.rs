//! The items of a frame: what each says, read and written. `docs/wire/replication.md` tells the
//! layouts.
//!
//! An item is a kind, a length and its content. A reader passes over kinds that it does not know,
//! and over what a newer writer added behind the fields that it does.

use super::frame::{BootId, u64_at};
use super::record::{FLOW_KEY_BYTES, FlowKey, RECORD_BYTES, Record, RecordError};

/// Octets before an item's content: its kind, a spare octet, its length.
pub(super) const ITEM_HEADER_BYTES: usize = 4;
/// Octets of [`Hello`].
pub(super) const HELLO_BYTES: usize = 40;
/// Octets of it that every minor version writes.
const OLD_HELLO_BYTES: usize = 32;
/// Octets of one [`Report`].
pub(super) const REPORT_BYTES: usize = 42;
/// Octets before a batch's records.
pub(super) const BATCH_FIELDS_BYTES: usize = 12;
/// Octets before the entries of a list: their number and their size.
pub(super) const LIST_FIELDS_BYTES: usize = 4;
/// Octets before the records of a page.
pub(super) const PAGE_FIELDS_BYTES: usize = 8;
/// Octets of one [`Range`].
pub(super) const RANGE_BYTES: usize = 12;
/// Octets of [`Pull`].
pub(super) const PULL_BYTES: usize = 16;
/// Octets of [`PageEnd`].
pub(super) const PAGE_END_BYTES: usize = 20;

/// The kinds of items.
pub(super) mod kind {
    pub(crate) const HELLO: u8 = 1;
    pub(crate) const REPORTS: u8 = 2;
    pub(crate) const BATCH: u8 = 3;
    pub(crate) const TOLD: u8 = 4;
    pub(crate) const QUERIES: u8 = 5;
    pub(crate) const UNKNOWN: u8 = 6;
    pub(crate) const ASK: u8 = 7;
    pub(crate) const PULL: u8 = 8;
    pub(crate) const PAGE: u8 = 9;
    pub(crate) const PAGE_END: u8 = 10;
}

/// An item contradicts its length or its counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// What every frame of greeting begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Hello {
    /// Its tables hold what the others' hold.
    pub(super) in_step: bool,
    /// It says good-bye.
    pub(super) leaving: bool,
    pub(super) workers: u8,
    /// Places of each worker's session table.
    pub(super) places: u32,
    /// The sender's own clock, which an answer gives back.
    pub(super) sent_ns: u64,
    /// The oldest batch that it can still repeat.
    pub(super) oldest: u64,
    /// The newest batch that it sent; 0 before the first one.
    pub(super) newest: u64,
    /// The sender's clock in milliseconds since 1970; 0 of who does not tell.
    pub(super) unix_ms: u64,
}

/// What the greeter knows of one life of one appliance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Report {
    pub(super) peer: u8,
    /// It is alive, as far as the greeter knows.
    pub(super) alive: bool,
    /// The greeter lacks something at or below `through`.
    pub(super) owing: bool,
    pub(super) boot: BootId,
    /// Every batch up to this one has come.
    pub(super) through: u64,
    /// The highest one that has come.
    pub(super) highest: u64,
    /// The clock in the last greeting of it that has come.
    pub(super) echo_ns: u64,
}

/// Batches that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Range {
    pub(super) first: u64,
    pub(super) count: u32,
}

/// A part of a table is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pull {
    pub(super) request: u32,
    pub(super) worker: u8,
    pub(super) first: u32,
    pub(super) end: u32,
}

/// The end of a part of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageEnd {
    pub(super) request: u32,
    /// Records that went before.
    pub(super) records: u32,
    /// Where the next part begins.
    pub(super) next: Option<u32>,
    /// The newest batch that its sender had sent by then: the part holds nothing newer.
    pub(super) newest: u64,
}

/// Entries of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entries<'a> {
    bytes: &'a [u8],
    size: usize,
}

impl<'a> Entries<'a> {
    /// Behind `fields` octets, whose last four tell how many entries there are and of what size:
    /// at least `least`, and a newer writer may have made them larger.
    fn new(content: &'a [u8], fields: usize, least: usize) -> Result<Self, Malformed> {
        let (head, entries) = content.split_at_checked(fields).ok_or(Malformed)?;
        let count = usize::from(u16_at(head, fields - 4));
        let size = usize::from(u16_at(head, fields - 2));
        if size < least {
            return Err(Malformed);
        }
        let bytes = entries.get(..count * size).ok_or(Malformed)?;
        Ok(Self { bytes, size })
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() / self.size
    }

    fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        self.bytes.chunks_exact(self.size)
    }

    pub(super) fn records(self) -> impl Iterator<Item = Result<Record, RecordError>> {
        self.iter().map(Record::read)
    }

    pub(super) fn flows(self) -> impl Iterator<Item = FlowKey> {
        self.iter()
            .filter_map(|bytes| bytes.first_chunk().map(FlowKey::read))
            .filter(|key| key.client.family() == key.server.family())
    }

    pub(super) fn reports(self) -> impl Iterator<Item = Report> {
        self.iter().map(|bytes| Report {
            peer: bytes[0],
            alive: bytes[1] & 1 != 0,
            owing: bytes[1] & 2 != 0,
            boot: BootId {
                started_ms: u64_at(bytes, 2),
                random: u64_at(bytes, 10),
            },
            through: u64_at(bytes, 18),
            highest: u64_at(bytes, 26),
            echo_ns: u64_at(bytes, 34),
        })
    }

    pub(super) fn ranges(self) -> impl Iterator<Item = Range> {
        self.iter().map(|bytes| Range {
            first: u64_at(bytes, 0),
            count: u32_at(bytes, 8),
        })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    crate::wire::bytes::u16_at(bytes, at)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    crate::wire::bytes::u32_at(bytes, at)
}

/// An item as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    Hello(Hello),
    Reports(Entries<'a>),
    Batch(u64, Entries<'a>),
    Told(Entries<'a>),
    Queries(Entries<'a>),
    Unknown(Entries<'a>),
    Ask(Entries<'a>),
    Pull(Pull),
    Page(u32, Entries<'a>),
    PageEnd(PageEnd),
    /// Of a kind that this version does not know.
    Newer,
}

impl<'a> Item<'a> {
    fn read(of_kind: u8, content: &'a [u8]) -> Result<Self, Malformed> {
        let fixed = |size: usize| content.get(..size).ok_or(Malformed);
        let list = |fields: usize, least: usize| Entries::new(content, fields, least);
        Ok(match of_kind {
            kind::HELLO => {
                fixed(OLD_HELLO_BYTES)?;
                Self::Hello(read_hello(content))
            }
            kind::REPORTS => Self::Reports(list(LIST_FIELDS_BYTES, REPORT_BYTES)?),
            kind::BATCH => {
                let records = list(BATCH_FIELDS_BYTES, RECORD_BYTES)?;
                Self::Batch(u64_at(content, 0), records)
            }
            kind::TOLD => Self::Told(list(LIST_FIELDS_BYTES, RECORD_BYTES)?),
            kind::QUERIES => Self::Queries(list(LIST_FIELDS_BYTES, FLOW_KEY_BYTES)?),
            kind::UNKNOWN => Self::Unknown(list(LIST_FIELDS_BYTES, FLOW_KEY_BYTES)?),
            kind::ASK => Self::Ask(list(LIST_FIELDS_BYTES, RANGE_BYTES)?),
            kind::PULL => Self::Pull(read_pull(fixed(PULL_BYTES)?)),
            kind::PAGE => {
                let records = list(PAGE_FIELDS_BYTES, RECORD_BYTES)?;
                Self::Page(u32_at(content, 0), records)
            }
            kind::PAGE_END => Self::PageEnd(read_page_end(fixed(PAGE_END_BYTES)?)),
            _ => Self::Newer,
        })
    }
}

fn read_hello(bytes: &[u8]) -> Hello {
    Hello {
        in_step: bytes[0] & 1 != 0,
        leaving: bytes[0] & 2 != 0,
        workers: bytes[1],
        places: u32_at(bytes, 4),
        sent_ns: u64_at(bytes, 8),
        oldest: u64_at(bytes, 16),
        newest: u64_at(bytes, 24),
        unix_ms: if bytes.len() >= HELLO_BYTES {
            u64_at(bytes, 32)
        } else {
            0
        },
    }
}

fn read_pull(bytes: &[u8]) -> Pull {
    Pull {
        request: u32_at(bytes, 0),
        worker: bytes[4],
        first: u32_at(bytes, 8),
        end: u32_at(bytes, 12),
    }
}

fn read_page_end(bytes: &[u8]) -> PageEnd {
    let next = u32_at(bytes, 8);
    PageEnd {
        request: u32_at(bytes, 0),
        records: u32_at(bytes, 4),
        next: (next != u32::MAX).then_some(next),
        newest: u64_at(bytes, 12),
    }
}

/// The items of a frame, one after the other; ends after the first malformed one.
#[derive(Clone)]
pub(super) struct Items<'a>(&'a [u8]);

impl<'a> Items<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let Some((&[of_kind, _, high, low], rest)) = bytes.split_first_chunk() else {
            return Some(Err(Malformed));
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some((content, rest)) = rest.split_at_checked(length) else {
            return Some(Err(Malformed));
        };
        let item = Item::read(of_kind, content);
        if item.is_ok() {
            self.0 = rest;
        }
        Some(item)
    }
}

impl Hello {
    pub(super) fn write(&self, into: &mut Vec<u8>) {
        let flags = u8::from(self.in_step) | u8::from(self.leaving) << 1;
        begin(into, kind::HELLO, HELLO_BYTES);
        into.extend_from_slice(&[flags, self.workers, 0, 0]);
        into.extend_from_slice(&self.places.to_be_bytes());
        into.extend_from_slice(&self.sent_ns.to_be_bytes());
        into.extend_from_slice(&self.oldest.to_be_bytes());
        into.extend_from_slice(&self.newest.to_be_bytes());
        into.extend_from_slice(&self.unix_ms.to_be_bytes());
    }
}

impl Report {
    /// Whether it tells of a life that has yet to be believed: only that it is heard.
    pub(super) fn is_candidate(&self) -> bool {
        !self.alive && self.owing && self.highest == 0
    }

    /// Whether it tells what is left of a life that has ended.
    pub(super) fn is_ended(&self) -> bool {
        !self.alive && !self.is_candidate()
    }

    fn write(&self, into: &mut Vec<u8>) {
        let flags = u8::from(self.alive) | u8::from(self.owing) << 1;
        into.extend_from_slice(&[self.peer, flags]);
        into.extend_from_slice(&self.boot.started_ms.to_be_bytes());
        into.extend_from_slice(&self.boot.random.to_be_bytes());
        into.extend_from_slice(&self.through.to_be_bytes());
        into.extend_from_slice(&self.highest.to_be_bytes());
        into.extend_from_slice(&self.echo_ns.to_be_bytes());
    }
}

impl Pull {
    pub(super) fn write(&self, into: &mut Vec<u8>) {
        begin(into, kind::PULL, PULL_BYTES);
        into.extend_from_slice(&self.request.to_be_bytes());
        into.extend_from_slice(&[self.worker, 0, 0, 0]);
        into.extend_from_slice(&self.first.to_be_bytes());
        into.extend_from_slice(&self.end.to_be_bytes());
    }
}

impl PageEnd {
    pub(super) fn write(&self, into: &mut Vec<u8>) {
        begin(into, kind::PAGE_END, PAGE_END_BYTES);
        into.extend_from_slice(&self.request.to_be_bytes());
        into.extend_from_slice(&self.records.to_be_bytes());
        into.extend_from_slice(&self.next.unwrap_or(u32::MAX).to_be_bytes());
        into.extend_from_slice(&self.newest.to_be_bytes());
    }
}

fn begin(into: &mut Vec<u8>, of_kind: u8, length: usize) {
    into.extend_from_slice(&[of_kind, 0]);
    into.extend_from_slice(&(length as u16).to_be_bytes());
}

fn begin_list(into: &mut Vec<u8>, of_kind: u8, fields: &[u8], count: usize, size: usize) {
    begin(
        into,
        of_kind,
        fields.len() + LIST_FIELDS_BYTES + count * size,
    );
    into.extend_from_slice(fields);
    into.extend_from_slice(&(count as u16).to_be_bytes());
    into.extend_from_slice(&(size as u16).to_be_bytes());
}

/// Writes what is known of `reports`.
pub(super) fn write_reports(into: &mut Vec<u8>, reports: &[Report]) {
    begin_list(into, kind::REPORTS, &[], reports.len(), REPORT_BYTES);
    for report in reports {
        report.write(into);
    }
}

/// Writes a batch, whose records are already octets.
pub(super) fn write_batch(into: &mut Vec<u8>, number: u64, records: &[u8]) {
    let count = records.len() / RECORD_BYTES;
    begin_list(
        into,
        kind::BATCH,
        &number.to_be_bytes(),
        count,
        RECORD_BYTES,
    );
    into.extend_from_slice(records);
}

/// Writes records for the frame's target alone.
pub(super) fn write_told<'r>(
    into: &mut Vec<u8>,
    records: impl ExactSizeIterator<Item = &'r Record>,
) {
    begin_list(into, kind::TOLD, &[], records.len(), RECORD_BYTES);
    records.for_each(|record| into.extend_from_slice(&record.write()));
}

/// Writes records of a page.
pub(super) fn write_page<'r>(
    into: &mut Vec<u8>,
    request: u32,
    records: impl ExactSizeIterator<Item = &'r Record>,
) {
    let fields = request.to_be_bytes();
    begin_list(into, kind::PAGE, &fields, records.len(), RECORD_BYTES);
    records.for_each(|record| into.extend_from_slice(&record.write()));
}

/// Writes flows that are asked for or unknown.
pub(super) fn write_flows<'f>(
    into: &mut Vec<u8>,
    of_kind: u8,
    flows: impl ExactSizeIterator<Item = &'f FlowKey>,
) {
    begin_list(into, of_kind, &[], flows.len(), FLOW_KEY_BYTES);
    flows.for_each(|flow| into.extend_from_slice(&flow.write()));
}

/// Writes which batches are missing.
pub(super) fn write_ask(into: &mut Vec<u8>, ranges: &[Range]) {
    begin_list(into, kind::ASK, &[], ranges.len(), RANGE_BYTES);
    for range in ranges {
        into.extend_from_slice(&range.first.to_be_bytes());
        into.extend_from_slice(&range.count.to_be_bytes());
    }
}

/// Whether these are items from the first octet to the last.
pub(super) fn are_sound(items: &[u8]) -> Result<(), Malformed> {
    Items::new(items).try_for_each(|item| item.map(drop))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Vec<Item<'_>> {
        Items::new(bytes).map(Result::unwrap).collect()
    }

    fn reports() -> impl Strategy<Value = Report> {
        (any::<(u8, bool, bool)>(), any::<[u64; 5]>()).prop_map(
            |((peer, alive, owing), numbers)| {
                let [started_ms, random, through, highest, echo_ns] = numbers;
                Report {
                    peer,
                    alive,
                    owing,
                    boot: BootId { started_ms, random },
                    through,
                    highest,
                    echo_ns,
                }
            },
        )
    }

    fn records() -> impl Strategy<Value = Record> {
        any::<[u8; RECORD_BYTES]>().prop_filter_map("two families", |mut bytes| {
            bytes[0] = super::super::record::RECORD_VERSION;
            bytes[1] &= 3;
            Record::read(&bytes).ok()
        })
    }

    proptest! {
        #[test]
        fn greetings_read_as_they_were_written(
            flags in any::<(bool, bool, u8, u32)>(),
            numbers in any::<[u64; 4]>(),
            said in proptest::collection::vec(reports(), 0..30),
        ) {
            let (in_step, leaving, workers, places) = flags;
            let [sent_ns, oldest, newest, unix_ms] = numbers;
            let hello = Hello { in_step, leaving, workers, places, sent_ns, oldest, newest, unix_ms };
            let mut bytes = Vec::new();
            hello.write(&mut bytes);
            write_reports(&mut bytes, &said);
            let items = read(&bytes);
            prop_assert_eq!(items[0], Item::Hello(hello));
            let Item::Reports(entries) = items[1] else { panic!("no reports") };
            prop_assert_eq!(entries.reports().collect::<Vec<_>>(), said);
        }

        #[test]
        fn records_read_as_they_were_written(
            number in any::<u64>(),
            request in any::<u32>(),
            said in proptest::collection::vec(records(), 1..16),
        ) {
            let octets: Vec<u8> = said.iter().flat_map(Record::write).collect();
            let mut bytes = Vec::new();
            write_batch(&mut bytes, number, &octets);
            write_told(&mut bytes, said.iter());
            write_page(&mut bytes, request, said.iter());
            let flows: Vec<_> = said.iter().map(|record| record.key).collect();
            write_flows(&mut bytes, kind::QUERIES, flows.iter());
            write_flows(&mut bytes, kind::UNKNOWN, flows.iter());
            let items = read(&bytes);
            let [
                Item::Batch(batch, first),
                Item::Told(second),
                Item::Page(page, third),
                Item::Queries(asked),
                Item::Unknown(unknown),
            ] = items[..] else { panic!("{items:?}") };
            prop_assert_eq!((batch, page), (number, request));
            for entries in [first, second, third] {
                prop_assert_eq!(entries.len(), said.len());
                let read: Result<Vec<_>, _> = entries.records().collect();
                prop_assert_eq!(read.unwrap(), said.clone());
            }
            prop_assert_eq!(asked.flows().collect::<Vec<_>>(), flows.clone());
            prop_assert_eq!(unknown.flows().collect::<Vec<_>>(), flows);
        }

        #[test]
        fn requests_read_as_they_were_written(
            said in any::<(u32, u8, u32, u32)>(),
            ranges in proptest::collection::vec(any::<(u64, u32)>(), 0..32),
            next in proptest::option::of(0..u32::MAX),
        ) {
            let (request, worker, first, end) = said;
            let pull = Pull { request, worker, first, end };
            let page_end = PageEnd { request, records: first, next, newest: u64::from(end) << 9 };
            let ranges: Vec<_> =
                ranges.into_iter().map(|(first, count)| Range { first, count }).collect();
            let mut bytes = Vec::new();
            pull.write(&mut bytes);
            page_end.write(&mut bytes);
            write_ask(&mut bytes, &ranges);
            let items = read(&bytes);
            prop_assert_eq!(&items[..2], &[Item::Pull(pull), Item::PageEnd(page_end)]);
            let Item::Ask(entries) = items[2] else { panic!("nothing is asked for") };
            prop_assert_eq!(entries.ranges().collect::<Vec<_>>(), ranges);
        }

        #[test]
        fn no_octets_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), of_kind in 0u8..12) {
            // CASES 14
            let mut bytes = bytes;
            if let [first, _, high, low, ..] = &mut bytes[..] {
                (*first, *high, *low) = (of_kind, 0, *low & 127);
            }
            for item in Items::new(&bytes).flatten() {
                if let Item::Batch(_, entries) | Item::Told(entries) | Item::Page(_, entries) = item {
                    entries.records().for_each(drop);
                }
            }
        }
    }
}
