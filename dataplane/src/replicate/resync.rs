//! Fetching what a peer knows: whole tables, in parts, asked for one by one.
//!
//! The peer that serves keeps nothing of it but what it has yet to send, so how fast tables come is
//! decided by who fetches them: a few parts at a time, each asked for again until it comes whole.

use arrayvec::ArrayVec;

use super::PeerId;
use super::config::ReplicatorConfig;
use super::frame::BootId;
use super::item::{PageEnd, Pull, Report};
use super::peer::{Debt, Former, MAX_REPORTS, Peer};
use super::replicator::Replicator;
use super::serve::MAX_SERVED;
use super::status::PeerEvent;
use super::tally::Tally;
use crate::limits::MAX_WORKERS;

/// How long to wait at the start for somebody who knows more, in times of death.
const JOIN_WAIT_DEATHS: u64 = 3;
/// How long a part may take at first; afterwards, so many times as long as the ones before took. A
/// further try has twice, and any after it four times as long.
const PART_NS: u64 = 100_000_000;
const PART_TIMES: u64 = 4;
const MIN_PART_NS: u64 = 5_000_000;
/// How long its last frames may be late once its end has come.
const LATE_NS: u64 = 20_000_000;
/// How often a part is asked for.
const MAX_TRIES: u32 = 24;
/// The fewest places of a part: on a bad link small ones get through.
const MIN_PAGE_PLACES: u32 = 16;
/// How many batches more a source may have sent than is known when it fails: a part that has not
/// ended does not tell.
const AHEAD_BATCHES: u64 = 256;
/// How long to wait after a source failed.
const PAUSE_NS: u64 = 200_000_000;

/// What is being fetched, and whether anything need be.
pub(super) struct Resync {
    /// Whether somebody's tables were fetched, or nobody knew more than we did.
    has_joined: bool,
    /// Whether somebody's tables were fetched in this life.
    has_fetched: bool,
    began_ns: u64,
    not_before_ns: u64,
    page_places: u32,
    max_parts: usize,
    next_request: u32,
    session: Option<Session>,
    /// What came back of the streams of our own former lives.
    own: Former,
}

/// The tables of one peer on their way here.
struct Session {
    source: PeerId,
    boot: BootId,
    started_ns: u64,
    /// The newest batch that it had sent when a part ended.
    newest: u64,
    /// What the source knew of others before the first part was asked for.
    known: ArrayVec<Report, MAX_REPORTS>,
    workers: u8,
    next_worker: u8,
    parts: ArrayVec<Part, MAX_SERVED>,
    page_places: u32,
    /// How long a part may take.
    part_ns: u64,
    records: u64,
}

/// A part of a table that was asked for or is to be.
#[derive(Clone, Copy)]
struct Part {
    pull: Pull,
    is_asked: bool,
    tries: u32,
    asked_ns: u64,
    late_ns: u64,
    received: u32,
    end: Option<PageEnd>,
}

impl Part {
    fn is_whole(&self) -> bool {
        self.end.is_some_and(|end| self.received >= end.records)
    }
}

impl Resync {
    pub(super) fn new(now_ns: u64, config: &ReplicatorConfig) -> Self {
        Self {
            has_joined: config.peers.is_empty(),
            has_fetched: false,
            began_ns: now_ns,
            not_before_ns: 0,
            page_places: config.page_places.max(MIN_PAGE_PLACES),
            max_parts: config.pulls.clamp(1, MAX_SERVED),
            next_request: 1,
            session: None,
            own: Former::default(),
        }
    }

    /// Whose tables are being fetched.
    pub(super) fn source(&self) -> Option<PeerId> {
        self.session.as_ref().map(|session| session.source)
    }

    /// Whether this life has begun with what the others knew.
    pub(super) fn has_joined(&self) -> bool {
        self.has_joined
    }

    /// When something is to be done.
    pub(super) fn deadline_ns(&self) -> Option<u64> {
        let parts = self.session.as_ref()?.parts.iter();
        parts.map(|part| part.late_ns).min()
    }

    /// Whether a part waits to be asked for.
    pub(super) fn has_pull(&self) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|session| session.parts.iter().any(|part| !part.is_asked))
    }

    /// The next part to ask for.
    pub(super) fn next_pull(&mut self, now_ns: u64) -> Option<Pull> {
        let session = self.session.as_mut()?;
        let part = session.parts.iter_mut().find(|part| !part.is_asked)?;
        part.is_asked = true;
        part.asked_ns = now_ns;
        part.late_ns = now_ns + (session.part_ns << part.tries.min(2));
        Some(part.pull)
    }

    /// Records of a part have come.
    pub(super) fn note_records(&mut self, peer: PeerId, request: u32, records: usize) {
        let Some(session) = self.session.as_mut().filter(|it| it.source == peer) else {
            return;
        };
        session.records += records as u64;
        let asked = session
            .parts
            .iter_mut()
            .find(|part| part.pull.request == request);
        if let Some(part) = asked {
            part.received = part.received.saturating_add(records as u32);
        }
    }

    /// Adds the first parts of tables as long as more may be asked for at once.
    fn fill(&mut self, now_ns: u64) {
        let Some(session) = &mut self.session else {
            return;
        };
        while session.parts.len() < self.max_parts && session.next_worker < session.workers {
            let pull = Pull {
                request: self.next_request,
                worker: session.next_worker,
                first: 0,
                end: session.page_places,
            };
            session.next_worker += 1;
            self.next_request = self.next_request.wrapping_add(1);
            session.parts.push(Part::new(pull, 0, now_ns));
        }
    }

    /// Goes on behind every part that has come whole; whether all went well.
    fn advance(&mut self, now_ns: u64) -> bool {
        let Some(session) = &mut self.session else {
            return true;
        };
        let mut at = 0;
        while let Some(&part) = session.parts.get(at) {
            let Some(end) = part.end.filter(|_| part.is_whole()) else {
                at += 1;
                continue;
            };
            session.page_places = (session.page_places * 2).min(self.page_places);
            let took_ns = now_ns.saturating_sub(part.asked_ns) * PART_TIMES;
            session.part_ns = ((session.part_ns * 3 + took_ns) / 4).clamp(MIN_PART_NS, PART_NS);
            match end.next {
                None => {
                    session.parts.swap_remove(at);
                }
                // Were the next part not behind this one, there would be no end.
                Some(next) if next <= part.pull.first => return false,
                Some(next) => {
                    let pull = Pull {
                        request: self.next_request,
                        first: next,
                        end: next.saturating_add(session.page_places),
                        ..part.pull
                    };
                    self.next_request = self.next_request.wrapping_add(1);
                    session.parts[at] = Part::new(pull, 0, now_ns);
                    at += 1;
                }
            }
        }
        self.fill(now_ns);
        true
    }

    /// Asks again, for less, where a part is late; `None` after too many tries.
    fn retry_late(&mut self, now_ns: u64) -> Option<u64> {
        let Some(session) = &mut self.session else {
            return Some(0);
        };
        let mut retried = 0;
        for part in &mut session.parts {
            if part.late_ns > now_ns {
                continue;
            }
            if !part.is_asked {
                // Our own workers are behind; there is nobody to be impatient with.
                part.late_ns = now_ns + LATE_NS;
                continue;
            }
            if part.tries >= MAX_TRIES {
                return None;
            }
            session.page_places = (session.page_places / 2).max(MIN_PAGE_PLACES);
            let pull = Pull {
                request: self.next_request,
                end: part.pull.first.saturating_add(session.page_places),
                ..part.pull
            };
            self.next_request = self.next_request.wrapping_add(1);
            *part = Part::new(pull, part.tries + 1, now_ns);
            retried += 1;
        }
        Some(retried)
    }
}

impl Resync {
    /// What came back of our own former lives.
    pub(super) fn own_former(&self) -> &Former {
        &self.own
    }
}

impl Part {
    fn new(pull: Pull, tries: u32, now_ns: u64) -> Self {
        Self {
            pull,
            is_asked: false,
            tries,
            asked_ns: now_ns,
            late_ns: now_ns + LATE_NS,
            received: 0,
            end: None,
        }
    }
}

impl Replicator {
    /// Begins, goes on with, or gives up fetching.
    pub(super) fn tick_resync(&mut self) {
        let now_ns = self.now.now_ns;
        if let Some(session) = &self.resync.session {
            let is_there = self.place_of(session.source).is_some_and(|place| {
                let peer = &self.peers[place];
                let is_same = peer
                    .current
                    .as_ref()
                    .is_some_and(|life| life.boot == session.boot);
                is_same && peer.state.is_alive()
            });
            match self.resync.retry_late(now_ns).filter(|_| is_there) {
                Some(retried) => self.tallies.add(Tally::PageRetried, retried),
                None => self.abort_resync(),
            }
        }
        self.begin_resync();
        self.join_alone();
    }

    /// The end of a part.
    pub(super) fn read_page_end(&mut self, place: usize, end: &PageEnd) {
        let now_ns = self.now.now_ns;
        let id = self.peers[place].id;
        let Some(session) = self.resync.session.as_mut().filter(|it| it.source == id) else {
            return;
        };
        let asked = session
            .parts
            .iter_mut()
            .find(|part| part.pull.request == end.request);
        let Some(part) = asked else { return };
        part.end = Some(*end);
        session.newest = session.newest.max(end.newest);
        part.late_ns = part.late_ns.min(now_ns + LATE_NS);
        self.advance_resync();
    }

    /// Goes on after something of a part has come.
    pub(super) fn advance_resync(&mut self) {
        if !self.resync.advance(self.now.now_ns) {
            self.abort_resync();
        }
        let is_over =
            |session: &Session| session.parts.is_empty() && session.next_worker >= session.workers;
        if self.resync.session.as_ref().is_some_and(is_over) {
            self.finish_resync();
        }
    }

    /// All has come: what the source had before the first part was asked for is here now.
    fn finish_resync(&mut self) {
        let Some(session) = self.resync.session.take() else {
            return;
        };
        let Some(place) = self.place_of(session.source) else {
            return;
        };
        self.resync.has_fetched = true;
        self.resync.has_joined = true;
        let paid = |debt: Debt| debt.raised_ns <= session.started_ns;
        if self.peers[place].debt.is_some_and(paid) {
            self.peers[place].debt = None;
        }
        for report in &session.known {
            self.settle(place, report);
        }
        self.note_fetched(&session, true);
        self.tallies.count(Tally::ResyncFinished);
        self.push_event(PeerEvent::ResyncFinished {
            peer: session.source,
            records: session.records,
        });
        self.review();
    }

    /// What the peer at `place` knew of a stream is known here too.
    fn settle(&mut self, place: usize, report: &Report) {
        if report.peer == self.config.id.0 {
            if let Some(own) = self.resync.own.of(report.boot) {
                own.settle(place, report);
            }
            return;
        }
        let Some(of) = self.place_of(PeerId(report.peer)) else {
            return;
        };
        let peer = &mut self.peers[of];
        let through = if report.owing { 0 } else { report.through };
        if let Some(life) = &peer.current
            && life.boot == report.boot
        {
            peer.debt = peer.debt.filter(|debt| debt.through > through);
            peer.gaps.skip_to(through);
            if !report.alive {
                peer.settled[place] = peer.settled[place].max(report.highest);
            }
        } else if report.is_ended()
            && let Some(ended) = peer.ended.of(report.boot)
        {
            ended.settle(place, report);
        }
    }

    /// Whole or not, something may have come of all that the source knew: who compares himself with
    /// us has to see that.
    fn note_fetched(&mut self, session: &Session, is_whole: bool) {
        if session.records == 0 {
            return;
        }
        if let Some(place) = self.place_of(session.source) {
            let newest = session.newest + if is_whole { 0 } else { AHEAD_BATCHES };
            self.peers[place].note_fetched(session.boot, newest);
        }
        for report in session.known.iter().filter(|report| !report.is_candidate()) {
            if report.peer == self.config.id.0 {
                self.resync.own.note_fetched(report.boot, report.highest);
            } else if let Some(of) = self.place_of(PeerId(report.peer)) {
                self.peers[of].note_fetched(report.boot, report.highest);
            }
        }
    }

    fn abort_resync(&mut self) {
        if let Some(session) = self.resync.session.take() {
            self.tallies.count(Tally::ResyncAborted);
            self.resync.not_before_ns = self.now.now_ns + PAUSE_NS;
            self.note_fetched(&session, false);
            self.push_event(PeerEvent::ResyncAborted {
                peer: session.source,
            });
        }
    }

    /// Fetches from whoever has what is lacking, if somebody has.
    fn begin_resync(&mut self) {
        let now_ns = self.now.now_ns;
        if self.resync.session.is_some() || self.resync.not_before_ns > now_ns {
            return;
        }
        let Some(place) = self.best_source() else {
            return;
        };
        let peer = &mut self.peers[place];
        let Some(life) = &peer.current else { return };
        peer.resyncs += 1;
        let id = peer.id;
        self.resync.session = Some(Session {
            source: id,
            boot: life.boot,
            started_ns: now_ns,
            newest: life.hello.newest,
            known: peer.reports.clone(),
            workers: life.hello.workers.min(MAX_WORKERS as u8),
            next_worker: 0,
            parts: ArrayVec::new(),
            page_places: self.resync.page_places,
            part_ns: PART_NS,
            records: 0,
        });
        self.tallies.count(Tally::ResyncStarted);
        self.push_event(PeerEvent::ResyncStarted { peer: id });
        self.resync.fill(now_ns);
        self.advance_resync();
    }

    /// At the start there may be nobody who knows more than we do: then we know all there is. Of
    /// several who begin together, the one that began first says so.
    fn join_alone(&mut self) {
        if self.resync.has_joined || self.resync.session.is_some() || self.waits_for_others() {
            return;
        }
        let own = (self.config.boot, self.config.id);
        self.resync.has_joined = self.peers.iter().all(|peer| {
            let boot = peer.current.as_ref().map(|life| life.boot);
            !peer.state.is_alive() || boot.is_some_and(|boot| own < (boot, peer.id))
        });
    }

    /// Whether this life is so young that others may not have been met yet.
    pub(super) fn waits_for_others(&self) -> bool {
        let wait_ns = JOIN_WAIT_DEATHS * self.config.dead_ns;
        self.now.now_ns.saturating_sub(self.resync.began_ns) < wait_ns
    }

    /// Whether there is something that others know and we do not.
    pub(super) fn owes(&self) -> bool {
        self.resync.session.is_some() || self.best_source().is_some()
    }

    /// The place of the peer whose tables make up for most of what is lacking; of several, the one
    /// that has lived longest.
    fn best_source(&self) -> Option<usize> {
        let alive = self.peers.iter().enumerate();
        let alive = alive.filter(|(_, peer)| peer.state.is_alive());
        let lived = |peer: &Peer| {
            peer.current
                .as_ref()
                .map(|life| std::cmp::Reverse(life.boot))
        };
        if !self.resync.has_fetched {
            let in_step = alive.clone().filter(|(_, peer)| {
                let life = peer.current.as_ref();
                life.is_some_and(|life| life.hello.in_step)
            });
            if let Some((place, _)) = in_step.max_by_key(|(_, peer)| lived(peer)) {
                return Some(place);
            }
        }
        alive
            .map(|(place, peer)| (self.worth(place), lived(peer), place))
            .filter(|&(worth, ..)| worth > 0)
            .max()
            .map(|(_, _, place)| place)
    }

    /// How many streams of which something is lacking the tables of the peer at `place` have.
    fn worth(&self, place: usize) -> usize {
        let source = &self.peers[place];
        let lacks = |report: &&Report| self.lacks(place, report) || self.pays(report);
        usize::from(source.debt.is_some()) + source.reports.iter().filter(lacks).count()
    }

    /// Whether a stream that goes on, and of which we lack something, is known to the reporter as
    /// far as need be.
    fn pays(&self, report: &Report) -> bool {
        let Some(place) = self.place_of(PeerId(report.peer)) else {
            return false;
        };
        let peer = &self.peers[place];
        let is_current = peer
            .current
            .as_ref()
            .is_some_and(|life| life.boot == report.boot);
        is_current && !report.owing && peer.debt.is_some_and(|debt| debt.through <= report.through)
    }

    /// Whether the peer at `place` knows more than we do of a stream that has ended.
    fn lacks(&self, place: usize, report: &Report) -> bool {
        if !report.is_ended() {
            return false;
        }
        if report.peer == self.config.id.0 {
            let own = &self.resync.own;
            return own.lacks(place, report, self.resync.has_fetched);
        }
        let Some(of) = self.place_of(PeerId(report.peer)) else {
            return false;
        };
        let peer = &self.peers[of];
        if let Some(life) = &peer.current
            && life.boot == report.boot
        {
            let known = peer.through().max(peer.settled[place]);
            return !peer.state.is_alive() && report.highest > known;
        }
        let has_fetched = self.resync.has_fetched;
        peer.ended.lacks(place, report, has_fetched)
    }
}
