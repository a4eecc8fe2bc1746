//! Frames on their way out: which goes next, and what it says.
//!
//! The order is: greetings, what somebody waits for (answers, questions, requests), the live
//! stream, and last what was missed and whole tables, a few frames at a time.

use arrayvec::ArrayVec;

use super::config::{Destination, ReplicatorConfig, Transport};
use super::frame::{EVERYONE, HEADER_BYTES, Header, MINOR, TAG_BYTES};
use super::item::{
    self, BATCH_FIELDS_BYTES, HELLO_BYTES, Hello, ITEM_HEADER_BYTES, LIST_FIELDS_BYTES,
    PAGE_END_BYTES, PAGE_FIELDS_BYTES, PULL_BYTES, PageEnd, REPORT_BYTES, Report, kind,
};
use super::peer::{MAX_REPORTS, Peer};
use super::record::{FLOW_KEY_BYTES, RECORD_BYTES, Record};
use super::replicator::{BULK_FRAMES, HELLO_SPACING_NS, Replicator};
use super::serve::Bulk;
use super::tally::Tally;
use crate::limits::PEER_NEWS;

/// How often good-bye is said: one may be lost.
const GOODBYES: u8 = 3;
/// How long it is put off for those who have not heard all that was told.
const GOODBYE_WAIT_NS: u64 = 500_000_000;

/// A frame that was sealed, and what is to be sealed next.
pub(super) struct Outgoing {
    frame: Vec<u8>,
    /// By their places, the peers that it still goes to.
    to_peers: u32,
    to_group: bool,
    hello_at_ns: u64,
    last_hello_ns: u64,
    /// What a greeting says of the others, when it takes several frames.
    reports: ArrayVec<Report, MAX_REPORTS>,
    hello_is_partly_sent: bool,
    /// The peer whose turn it is.
    turn: usize,
    bulk_frames: u32,
    goodbyes: u8,
    leaving_since_ns: Option<u64>,
}

impl Outgoing {
    pub(super) fn new(now_ns: u64) -> Self {
        Self {
            frame: Vec::new(),
            to_peers: 0,
            to_group: false,
            hello_at_ns: now_ns,
            last_hello_ns: 0,
            reports: ArrayVec::new(),
            hello_is_partly_sent: false,
            turn: 0,
            bulk_frames: BULK_FRAMES,
            goodbyes: 0,
            leaving_since_ns: None,
        }
    }

    pub(super) fn tick(&mut self) {
        self.bulk_frames = BULK_FRAMES;
    }

    pub(super) fn hello_at_ns(&self) -> u64 {
        if self.leaving_since_ns.is_some() && self.goodbyes < GOODBYES {
            u64::MAX
        } else {
            self.hello_at_ns
        }
    }

    /// There is something to tell: the next greeting comes as soon as it may.
    pub(super) fn hello_soon(&mut self, now_ns: u64) {
        let soon_ns = now_ns.max(self.last_hello_ns.saturating_add(HELLO_SPACING_NS));
        self.hello_at_ns = self.hello_at_ns.min(soon_ns);
    }

    pub(super) fn leave(&mut self, now_ns: u64) {
        if self.leaving_since_ns.is_none() {
            self.leaving_since_ns = Some(now_ns);
            self.goodbyes = GOODBYES;
        }
    }

    pub(super) fn has_left(&self) -> bool {
        self.leaving_since_ns.is_some() && self.goodbyes == 0
    }

    fn next_destination(&mut self, peers: &[Peer]) -> Option<Destination> {
        if std::mem::take(&mut self.to_group) {
            return Some(Destination::Group);
        }
        let place = self.to_peers.trailing_zeros();
        let peer = peers.get(place as usize)?;
        self.to_peers &= self.to_peers - 1;
        Some(Destination::Peer(peer.id))
    }

    /// Octets that the next item may have, its header included.
    fn room(&self, config: &ReplicatorConfig) -> usize {
        (config.valid_payload_bytes() - TAG_BYTES).saturating_sub(self.frame.len())
    }
}

/// How many entries of `entry_bytes` a list in `room` octets can have.
fn entries(room: usize, fields_bytes: usize, entry_bytes: usize) -> usize {
    room.saturating_sub(ITEM_HEADER_BYTES + fields_bytes) / entry_bytes
}

impl Replicator {
    /// The next UDP payload: where it goes, and how many octets of `into` it has. `into` should
    /// have [`MAX_PAYLOAD_BYTES`](super::config::MAX_PAYLOAD_BYTES); a frame that does not fit is
    /// counted and lost.
    pub fn next_datagram(&mut self, into: &mut [u8]) -> Option<(Destination, usize)> {
        loop {
            if let Some(destination) = self.outgoing.next_destination(&self.peers) {
                let frame = &self.outgoing.frame;
                if let Some(room) = into.get_mut(..frame.len()) {
                    room.copy_from_slice(frame);
                    self.tallies.count(Tally::FrameSent);
                    return Some((destination, frame.len()));
                }
                self.tallies.count(Tally::FrameUnsent);
            } else if !self.build() {
                return None;
            }
        }
    }

    /// Seals the next frame; whether there is one.
    fn build(&mut self) -> bool {
        if self.sealing.is_none() || self.peers.is_empty() {
            self.stream.pass();
            self.outgoing.hello_at_ns = self.now.now_ns + self.config.hello_ns;
            return false;
        }
        self.build_hello()
            || self.build_directed(Self::build_urgent)
            || self.build_live()
            || self.build_bulk()
            || self.build_goodbye()
    }

    fn begin(&mut self, target: u8) {
        self.frame_number += 1;
        let epoch = self.sealing.as_ref().map_or(0, |key| key.epoch);
        let header = Header {
            minor: MINOR,
            sender: self.config.id,
            target,
            epoch,
            boot: self.config.boot,
            number: self.frame_number,
        };
        let header = header.write();
        let check = match self.keys.place(epoch) {
            Some(place) => self.keys.check(place, &header),
            None => [0; 8],
        };
        let frame = &mut self.outgoing.frame;
        frame.clear();
        frame.extend_from_slice(&header);
        frame.extend_from_slice(&check);
    }

    fn finish_for(&mut self, places: u32) {
        if let Some(key) = &self.sealing {
            key.seal(self.frame_number, &mut self.outgoing.frame);
        }
        match self.config.transport {
            Transport::PointToPoint => self.outgoing.to_peers = places,
            Transport::Group => self.outgoing.to_group = places != 0,
        }
    }

    /// The places of peers of whom `is_meant` holds.
    fn places(&self, is_meant: impl Fn(&Peer) -> bool) -> u32 {
        let meant = self.peers.iter().enumerate();
        meant
            .filter(|(_, peer)| is_meant(peer))
            .fold(0, |places, (place, _)| places | 1 << place)
    }

    fn build_hello(&mut self) -> bool {
        let now_ns = self.now.now_ns;
        let is_due = self.outgoing.hello_at_ns() <= now_ns;
        if !is_due && !self.outgoing.hello_is_partly_sent {
            return false;
        }
        if is_due {
            self.outgoing.last_hello_ns = now_ns;
            self.outgoing.hello_at_ns = now_ns + self.config.hello_ns;
            self.collect_reports();
        }
        self.write_hello(false);
        true
    }

    fn collect_reports(&mut self) {
        let reports = &mut self.outgoing.reports;
        reports.clear();
        let own = self.resync.own_former().reports(self.config.id);
        for report in self.peers.iter().flat_map(Peer::report).chain(own) {
            let _ = reports.try_push(report);
        }
    }

    /// One frame of a greeting, with as many reports as it can have.
    fn write_hello(&mut self, leaving: bool) {
        self.begin(EVERYONE);
        let hello = Hello {
            in_step: self.in_step,
            leaving,
            workers: self.config.workers as u8,
            places: self.config.table_places,
            sent_ns: self.outgoing.last_hello_ns,
            oldest: self.stream.oldest(),
            newest: self.stream.sent(),
            unix_ms: self.now.unix_ms,
        };
        hello.write(&mut self.outgoing.frame);
        let room = self.outgoing.room(&self.config);
        let count = entries(room, LIST_FIELDS_BYTES, REPORT_BYTES);
        let outgoing = &mut self.outgoing;
        let rest = outgoing.reports.len().saturating_sub(count);
        item::write_reports(&mut outgoing.frame, &outgoing.reports[rest..]);
        outgoing.reports.truncate(rest);
        outgoing.hello_is_partly_sent = rest > 0;
        let all = self.places(|_| true);
        self.finish_for(all);
    }

    fn build_goodbye(&mut self) -> bool {
        if self.outgoing.goodbyes == 0 || !self.may_say_goodbye() {
            return false;
        }
        self.outgoing.goodbyes -= 1;
        self.outgoing.last_hello_ns = self.now.now_ns.max(self.outgoing.last_hello_ns + 1);
        self.collect_reports();
        self.write_hello(true);
        self.outgoing.hello_is_partly_sent = false;
        true
    }

    /// Whether it may leave now: all have heard what it had to say, or have had time for it.
    fn may_say_goodbye(&self) -> bool {
        let now_ns = self.now.now_ns;
        let Some(since_ns) = self.outgoing.leaving_since_ns else {
            return false;
        };
        let has_begun = self.outgoing.goodbyes < GOODBYES;
        let is_late = now_ns.saturating_sub(since_ns) >= GOODBYE_WAIT_NS;
        has_begun || is_late || !self.has_unheard()
    }

    /// Whether a peer that is there has not applied all that was sent.
    fn has_unheard(&self) -> bool {
        let sent = self.stream.sent();
        let lacks = |peer: &Peer| peer.state.is_alive() && peer.of_us.through < sent;
        self.peers.iter().any(lacks)
    }

    fn build_live(&mut self) -> bool {
        let to = self.places(|peer| peer.state.is_alive());
        if to == 0 {
            self.stream.pass();
            return false;
        }
        let Some(batch) = self.stream.next_unsent() else {
            return false;
        };
        self.begin(EVERYONE);
        if let Some(records) = self.stream.batch(batch) {
            item::write_batch(&mut self.outgoing.frame, batch, records);
        }
        self.finish_for(to);
        true
    }

    /// Lets the peers have their turns until one of them gets a frame.
    fn build_directed(&mut self, build: fn(&mut Self, usize) -> bool) -> bool {
        let peers = self.peers.len();
        for step in 0..peers {
            let place = (self.outgoing.turn + step) % peers;
            if self.peers[place].state.is_alive() && build(self, place) {
                self.outgoing.turn = place + 1;
                return true;
            }
        }
        false
    }

    fn build_urgent(&mut self, place: usize) -> bool {
        let now_ns = self.now.now_ns;
        let is_source = self.resync.source() == Some(self.peers[place].id);
        let may_pull = is_source && self.news_room() > PEER_NEWS / 2 && self.resync.has_pull();
        let peer = &self.peers[place];
        let must_ask = peer.gaps.ask_at_ns().is_some_and(|at_ns| at_ns <= now_ns);
        let has_lists =
            !(peer.told.is_empty() && peer.queries.is_empty() && peer.unknown.is_empty());
        if !(has_lists || must_ask || may_pull) {
            return false;
        }
        self.begin(peer.id.0);
        self.write_lists(place);
        if must_ask {
            self.write_ask(place);
        }
        while may_pull && self.outgoing.room(&self.config) >= ITEM_HEADER_BYTES + PULL_BYTES {
            let Some(pull) = self.resync.next_pull(now_ns) else {
                break;
            };
            pull.write(&mut self.outgoing.frame);
            self.tallies.count(Tally::PageAsked);
        }
        self.finish_for(1 << place);
        true
    }

    /// Questions, answers and told records, as many as there is room for.
    fn write_lists(&mut self, place: usize) {
        let peer = &mut self.peers[place];
        for (of_kind, flows) in [
            (kind::QUERIES, &mut peer.queries),
            (kind::UNKNOWN, &mut peer.unknown),
        ] {
            let room = self.outgoing.room(&self.config);
            let count = entries(room, LIST_FIELDS_BYTES, FLOW_KEY_BYTES).min(flows.len());
            if count > 0 {
                let frame = &mut self.outgoing.frame;
                item::write_flows(frame, of_kind, flows.range(..count));
                flows.drain(..count);
            }
        }
        let room = self.outgoing.room(&self.config);
        let count = entries(room, LIST_FIELDS_BYTES, RECORD_BYTES).min(peer.told.len());
        if count > 0 {
            item::write_told(&mut self.outgoing.frame, peer.told.range(..count));
            peer.told.drain(..count);
        }
    }

    fn write_ask(&mut self, place: usize) {
        // While the workers have much to read, more would only be put off again.
        let is_full = self.news_room() <= PEER_NEWS / 2;
        let peer = &mut self.peers[place];
        let mut ranges = peer.gaps.ask(self.now.now_ns);
        let room = self.outgoing.room(&self.config);
        ranges.truncate(entries(room, LIST_FIELDS_BYTES, item::RANGE_BYTES));
        if !ranges.is_empty() && !is_full {
            item::write_ask(&mut self.outgoing.frame, &ranges);
            peer.gaps_asked += 1;
            self.tallies.count(Tally::GapAsked);
        }
    }

    fn build_bulk(&mut self) -> bool {
        if self.outgoing.bulk_frames == 0 {
            return false;
        }
        let built =
            self.build_directed(Self::build_repair) || self.build_directed(Self::build_page);
        self.outgoing.bulk_frames -= u32::from(built);
        built
    }

    fn build_repair(&mut self, place: usize) -> bool {
        let Some(batch) = self.next_repair(place) else {
            return false;
        };
        self.begin(self.peers[place].id.0);
        if let Some(records) = self.stream.batch(batch) {
            item::write_batch(&mut self.outgoing.frame, batch, records);
            self.tallies.count(Tally::BatchRepaired);
        }
        self.finish_for(1 << place);
        true
    }

    /// The next batch that a peer wants and that is still there.
    fn next_repair(&mut self, place: usize) -> Option<u64> {
        let peer = &mut self.peers[place];
        while let Some(range) = peer.repairs.first_mut() {
            let first = range.first.max(self.stream.oldest());
            let end = range.first.saturating_add(u64::from(range.count));
            if first >= end || first > self.stream.sent() {
                peer.repairs.remove(0);
                continue;
            }
            range.count = (end - first - 1) as u32;
            range.first = first + 1;
            return Some(first);
        }
        None
    }

    /// Records and ends of what a peer fetches, in order.
    fn build_page(&mut self, place: usize) -> bool {
        if self.peers[place].served.bulk.is_empty() {
            return false;
        }
        self.begin(self.peers[place].id.0);
        loop {
            let room = self.outgoing.room(&self.config);
            let bulk = &mut self.peers[place].served.bulk;
            let frame = &mut self.outgoing.frame;
            match bulk.front() {
                Some(Bulk::End(end)) if room >= ITEM_HEADER_BYTES + PAGE_END_BYTES => {
                    // Live records go before: what the part holds has been sent.
                    let newest = self.stream.sent();
                    PageEnd { newest, ..*end }.write(frame);
                    bulk.pop_front();
                }
                Some(&Bulk::Record(request, _)) => {
                    let most = entries(room, PAGE_FIELDS_BYTES, RECORD_BYTES);
                    let of_request = |bulk: &Bulk| match bulk {
                        Bulk::Record(of, record) if *of == request => Some(*record),
                        _ => None,
                    };
                    let records: ArrayVec<Record, 32> = bulk
                        .iter()
                        .take(most.min(32))
                        .map_while(of_request)
                        .collect();
                    if records.is_empty() {
                        break;
                    }
                    item::write_page(frame, request, records.iter());
                    bulk.drain(..records.len());
                }
                _ => break,
            }
        }
        self.finish_for(1 << place);
        true
    }
}

// A greeting with one report, and a batch of one record, fit into the smallest payload.
const _: () = {
    let items =
        ITEM_HEADER_BYTES + HELLO_BYTES + ITEM_HEADER_BYTES + LIST_FIELDS_BYTES + REPORT_BYTES;
    assert!(HEADER_BYTES + items + TAG_BYTES <= super::config::MIN_PAYLOAD_BYTES);
    let batch = ITEM_HEADER_BYTES + BATCH_FIELDS_BYTES + RECORD_BYTES;
    assert!(HEADER_BYTES + batch + TAG_BYTES <= super::config::MIN_PAYLOAD_BYTES);
};
