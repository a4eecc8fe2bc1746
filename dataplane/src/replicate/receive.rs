//! Frames that came: what is refused, and what the others change.
//!
//! Nothing is changed by a frame before it is known whose it is, that it was not changed on its
//! way, that it has not come before, and that its items are sound from the first to the last.

use super::frame::{CHECKED_BYTES, EVERYONE, HEADER_BYTES, Header};
use super::gaps::{Arrival, Gaps, WINDOW_BATCHES};
use super::item::{Entries, Hello, Item, Items, Pull, Report, are_sound};
use super::keys::FrameKey;
use super::peer::{Debt, Life, Which};
use super::record::RecordError;
use super::replicator::Replicator;
use super::tally::Tally;
use super::{FromPeers, PageRequest, PeerId};
use crate::limits::PEER_NEWS;
use crate::wire::address::Address;
use crate::worker::Time;

/// A peer that is met for the first time and has sent no more batches than this is asked to repeat
/// them; of one that has sent more, the tables are fetched.
const REPAIRED_AT_FIRST: u64 = 512;

/// Who is heard by a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The frame is of the life that is believed, and came for the first time: nobody else can have
    /// sent it.
    Proved(PeerId),
    /// A greeting of a life that is not believed yet: somebody may have recorded it.
    Greeting(PeerId),
}

impl Replicator {
    /// Takes the UDP payload that came from `source`. What comes back is who is heard by it, if it
    /// came from the address where that peer is known to be.
    pub fn receive(&mut self, now: Time, source: (Address, u16), payload: &[u8]) -> Option<Heard> {
        self.pass_time(now);
        let mut scratch = std::mem::take(&mut self.scratch);
        let read = self.receive_frame(source.0, payload, &mut scratch);
        self.scratch = scratch;
        match read {
            Ok(heard) => {
                self.tallies.count(Tally::FrameReceived);
                heard
            }
            Err(why) => {
                self.tallies.count(why);
                None
            }
        }
    }

    fn receive_frame(
        &mut self,
        source: Address,
        payload: &[u8],
        scratch: &mut Vec<u8>,
    ) -> Result<Option<Heard>, Tally> {
        let header = Header::read(payload)?;
        if payload.len() > scratch.capacity() {
            return Err(Tally::RefusedOversized);
        }
        let now_s = self.now.unix_s();
        let epoch = self.keys.opening(header.epoch, now_s);
        let is_sealed_by_one_of_us = |epoch| self.has_check(epoch, payload);
        if header.sender == self.config.id {
            return Err(self.refuse_own(
                &header,
                source,
                epoch.is_some_and(is_sealed_by_one_of_us),
            ));
        }
        let place = self.place_of(header.sender).ok_or(Tally::RefusedSender)?;
        if self.peers[place].address.is_some_and(|own| own != source) {
            return Err(Tally::RefusedSource);
        }
        let epoch = epoch.ok_or(Tally::RefusedEpoch)?;
        if !self.has_check(epoch, payload) {
            return Err(Tally::RefusedCheck);
        }
        if header.target != EVERYONE && header.target != self.config.id.0 {
            return Err(Tally::FrameForOther);
        }
        let which = self.peers[place].judge(&header, self.now.now_ns)?;
        let derived = self.derive_unless_known(place, which, epoch, &header)?;
        scratch.clear();
        scratch.extend_from_slice(payload);
        let items = {
            let life = self.peers[place].life(which);
            let known = life.and_then(|life| life.key(header.epoch));
            let key = derived.as_ref().or(known).ok_or(Tally::RefusedTag)?;
            key.open(header.number, scratch)?
        };
        are_sound(items).map_err(|_| Tally::RefusedItems)?;
        self.read(place, which, &header, derived, items)
    }

    fn has_check(&self, epoch: usize, payload: &[u8]) -> bool {
        let Some((header, rest)) = payload.split_first_chunk::<CHECKED_BYTES>() else {
            return false;
        };
        rest.get(..HEADER_BYTES - CHECKED_BYTES) == Some(&self.keys.check(epoch, header)[..])
    }

    /// A frame that bears our own number.
    fn refuse_own(&mut self, header: &Header, source: Address, is_known: bool) -> Tally {
        if header.boot == self.config.boot {
            return Tally::OwnFrame;
        }
        // A recording of an earlier life of ours says nothing.
        if is_known && header.boot.started_ms >= self.config.boot.started_ms {
            self.number_is_taken(source);
        }
        Tally::RefusedOwnNumber
    }

    /// The key of the frame's life and epoch, unless it is at hand. How many are derived is limited.
    fn derive_unless_known(
        &mut self,
        place: usize,
        which: Which,
        epoch: usize,
        header: &Header,
    ) -> Result<Option<FrameKey>, Tally> {
        let life = self.peers[place].life(which);
        if life.is_some_and(|life| life.key(header.epoch).is_some()) {
            return Ok(None);
        }
        if !self.derivations.take(self.now.now_ns) {
            return Err(Tally::RefusedBudget);
        }
        Ok(Some(self.keys.derive(epoch, header.sender, header.boot)))
    }

    /// Reads an authentic frame.
    fn read(
        &mut self,
        place: usize,
        which: Which,
        header: &Header,
        derived: Option<FrameKey>,
        items: &[u8],
    ) -> Result<Option<Heard>, Tally> {
        let now_ns = self.now.now_ns;
        let greets = matches!(Items::new(items).next(), Some(Ok(Item::Hello(_))));
        let peer = &mut self.peers[place];
        match (peer.life_mut(which), derived) {
            (Some(life), Some(key)) => life.add_key(key),
            (Some(_), None) => {}
            (None, Some(key)) if greets => peer.candidate = Some(Life::new(header.boot, key)),
            (None, _) => return Err(Tally::RefusedNotFresh),
        }
        let which = if which == Which::New {
            self.outgoing.hello_soon(now_ns);
            Which::Candidate
        } else {
            which
        };
        let peer = &mut self.peers[place];
        if let Some(life) = peer.life_mut(which) {
            life.note(header.number, now_ns);
        }
        if which == Which::Candidate && !self.try_adopt(place, items) {
            return if greets {
                Ok(self.heard(place, Heard::Greeting))
            } else {
                Err(Tally::RefusedNotFresh)
            };
        }
        self.read_items(place, items);
        Ok(self.heard(place, Heard::Proved))
    }

    /// What is known of a frame's sender, if its address counts.
    fn heard(&self, place: usize, heard: impl Fn(PeerId) -> Heard) -> Option<Heard> {
        let peer = &self.peers[place];
        peer.address.map(|_| heard(peer.id))
    }

    /// Believes a candidate whose greeting shows that it knows this life of ours.
    fn try_adopt(&mut self, place: usize, items: &[u8]) -> bool {
        let mut greeting = None;
        let mut answer = None;
        for item in Items::new(items).flatten() {
            match item {
                Item::Hello(hello) => greeting = Some(hello),
                Item::Reports(reports) => {
                    answer = answer.or(reports.reports().find(|report| self.is_of_us(report)));
                }
                _ => {}
            }
        }
        let Some(hello) = greeting else {
            return false;
        };
        let now_ns = self.now.now_ns;
        let peer = &mut self.peers[place];
        if let Some(life) = &mut peer.candidate
            && life.hello.sent_ns <= hello.sent_ns
        {
            life.hello = hello;
        }
        if !answer.is_some_and(|report| peer.may_adopt(report.echo_ns, now_ns)) {
            return false;
        }
        let repairs_all = hello.oldest <= 1 && hello.newest <= REPAIRED_AT_FIRST;
        let through = if repairs_all { 0 } else { hello.newest };
        let debt = (through > 0).then_some(Debt {
            through,
            raised_ns: now_ns,
        });
        peer.adopt(Gaps::new(through, self.config.repair_delay_ns), debt);
        self.outgoing.hello_soon(now_ns);
        true
    }

    fn is_of_us(&self, report: &Report) -> bool {
        report.peer == self.config.id.0 && report.boot == self.config.boot
    }

    fn read_items(&mut self, place: usize, items: &[u8]) {
        let mut greeting = None;
        for item in Items::new(items).flatten() {
            match item {
                Item::Hello(hello) => {
                    greeting = self.read_hello(place, &hello).then_some(hello);
                }
                Item::Reports(reports) if greeting.is_some() => self.read_reports(place, reports),
                Item::Batch(number, records) => self.read_batch(place, number, records),
                Item::Told(records) => self.read_told(place, records),
                Item::Queries(flows) => self.read_queries(place, flows),
                Item::Unknown(flows) => self.read_unknown(place, flows),
                Item::Ask(ranges) => self.read_ask(place, ranges),
                Item::Pull(pull) => self.read_pull(place, &pull),
                Item::Page(request, records) => {
                    if self.has_news_room(records.len()) {
                        self.deliver(place, records);
                        let peer = self.peers[place].id;
                        self.resync.note_records(peer, request, records.len());
                        self.advance_resync();
                    }
                }
                Item::PageEnd(end) => self.read_page_end(place, &end),
                Item::Reports(_) | Item::Newer => {}
            }
        }
        if let Some(hello) = greeting {
            self.hear_clock(place, hello.unix_ms);
            self.review();
        }
    }

    /// Takes a greeting, unless a later one was taken.
    fn read_hello(&mut self, place: usize, hello: &Hello) -> bool {
        let now_ns = self.now.now_ns;
        let peer = &mut self.peers[place];
        let Some(life) = &mut peer.current else {
            return false;
        };
        if hello.sent_ns < life.hello.sent_ns {
            return false;
        }
        if hello.sent_ns > life.hello.sent_ns {
            peer.reports.clear();
        }
        life.hello = *hello;
        peer.gaps.announce(hello.newest, now_ns);
        let forgotten = hello.oldest.saturating_sub(1);
        if peer.gaps.through() < forgotten {
            peer.owe(forgotten, now_ns);
            peer.gaps.skip_to(forgotten);
            self.tallies.count(Tally::BatchGone);
        }
        true
    }

    fn read_reports(&mut self, place: usize, reports: Entries<'_>) {
        for report in reports.reports() {
            if self.is_of_us(&report) {
                self.peers[place].of_us = report;
                self.note_answer(place);
            } else {
                let _ = self.peers[place].reports.try_push(report);
            }
        }
    }

    fn read_batch(&mut self, place: usize, number: u64, records: Entries<'_>) {
        let now_ns = self.now.now_ns;
        let arrival = self.peers[place].gaps.judge(number);
        if arrival == Arrival::Duplicate {
            return self.tallies.count(Tally::BatchDuplicate);
        }
        if !self.has_news_room(records.len()) {
            // It is missing as if it had been lost, and asked for again.
            return self.peers[place].gaps.announce(number, now_ns);
        }
        if arrival == Arrival::TooFar {
            let forgotten = number - WINDOW_BATCHES / 2;
            self.peers[place].owe(forgotten, now_ns);
            self.peers[place].gaps.skip_to(forgotten);
        }
        self.peers[place].gaps.note(number, now_ns);
        self.tallies.count(Tally::BatchReceived);
        self.deliver(place, records);
    }

    fn has_news_room(&mut self, records: usize) -> bool {
        let has_room = self.news_room() >= records;
        if !has_room {
            self.tallies.count(Tally::BatchUnread);
        }
        has_room
    }

    fn read_told(&mut self, place: usize, records: Entries<'_>) {
        if self.has_news_room(records.len()) {
            self.deliver(place, records);
        }
    }

    /// Gives records to the workers of their flows.
    fn deliver(&mut self, place: usize, records: Entries<'_>) {
        let id = self.peers[place].id;
        let mut delivered = 0;
        for record in records.records() {
            match record {
                Ok(record) => {
                    let worker = self.worker_of(&record.key);
                    self.push_news(worker, FromPeers::Record(record, id));
                    delivered += 1;
                }
                Err(RecordError::Version(_)) => self.tallies.count(Tally::RecordVersion),
                Err(_) => self.tallies.count(Tally::RecordInvalid),
            }
        }
        self.peers[place].records_received += delivered;
        self.tallies.add(Tally::RecordReceived, delivered);
    }

    fn read_queries(&mut self, place: usize, flows: Entries<'_>) {
        let asker = self.peers[place].id;
        for flow in flows.flows() {
            if self.news_room() <= PEER_NEWS / 4 {
                self.tallies.count(Tally::QueryUnread);
            } else {
                self.tallies.count(Tally::QueryReceived);
                let worker = self.worker_of(&flow);
                self.push_news(worker, FromPeers::Query(flow, asker));
            }
        }
    }

    /// Only the director can say that a flow is unknown.
    fn read_unknown(&mut self, place: usize, flows: Entries<'_>) {
        let sender: PeerId = self.peers[place].id;
        for flow in flows.flows() {
            if self.directors.of(&flow).0 != Some(sender) {
                self.tallies.count(Tally::UnknownIgnored);
            } else if self.news_room() > PEER_NEWS / 4 {
                self.tallies.count(Tally::UnknownReceived);
                let worker = self.worker_of(&flow);
                self.push_news(worker, FromPeers::Unknown(flow));
            }
        }
    }

    /// The last request is the best informed: it takes the place of the one before.
    fn read_ask(&mut self, place: usize, ranges: Entries<'_>) {
        let oldest = self.stream.oldest();
        let repairs = &mut self.peers[place].repairs;
        repairs.clear();
        let mut is_gone = false;
        for range in ranges.ranges() {
            is_gone |= range.first < oldest;
            let _ = repairs.try_push(range);
        }
        if is_gone {
            self.outgoing.hello_soon(self.now.now_ns);
        }
    }

    fn read_pull(&mut self, place: usize, pull: &Pull) {
        let worker = usize::from(pull.worker);
        let is_possible = worker < self.config.workers && pull.first < pull.end;
        let has_room = self.news_room() > PEER_NEWS / 4 && self.peers[place].served.has_room();
        if !is_possible || !has_room {
            return self.tallies.count(Tally::PageRefused);
        }
        self.peers[place].served.begin(pull);
        let request = PageRequest {
            peer: self.peers[place].id,
            request: pull.request,
            first: pull.first,
            end: pull.end,
        };
        self.push_news(pull.worker, FromPeers::Page(request));
    }
}
