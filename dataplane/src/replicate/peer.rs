//! A peer's life, as it is seen from here.

use std::collections::VecDeque;

use arrayvec::ArrayVec;

use super::PeerId;
use super::config::PeerConfig;
use super::frame::{BootId, Header};
use super::gaps::{Gaps, MAX_RANGES};
use super::item::{Hello, Range, Report};
use super::keys::FrameKey;
use super::record::{FlowKey, Record};
use super::serve::Served;
use super::status::PeerState;
use super::tally::Tally;
use super::window::ReplayWindow;
use crate::limits::MAX_PEERS;
use crate::wire::address::Address;

/// Records, questions and answers that wait for a frame to one peer, of each.
pub(super) const MAX_DIRECTED: usize = 4_096;
/// Former lives of a peer that are kept in mind: so often it may begin anew before all others have
/// made up for what its last words reached only some of.
const MAX_ENDED: usize = 3;
/// Reports of one greeting: of each appliance its present life, and one that is to be, or the ones
/// before.
pub(super) const MAX_REPORTS: usize = (2 + MAX_ENDED) * MAX_PEERS;
/// A peer whose clock was set back seems to live an earlier life. After so long a silence of the
/// later one it is believed, if its greeting answers one of ours that is no older.
pub(super) const SET_BACK_NS: u64 = 3_000_000_000;

/// One life of a peer.
pub(super) struct Life {
    pub(super) boot: BootId,
    /// The keys that its frames were opened with lately.
    keys: ArrayVec<FrameKey, 2>,
    window: ReplayWindow,
    /// When its last frame came.
    pub(super) heard_ns: u64,
    /// Its last greeting.
    pub(super) hello: Hello,
}

impl Life {
    pub(super) fn new(boot: BootId, key: FrameKey) -> Self {
        let mut life = Self {
            boot,
            keys: ArrayVec::new(),
            window: ReplayWindow::new(),
            heard_ns: 0,
            hello: Hello::default(),
        };
        life.add_key(key);
        life
    }

    pub(super) fn key(&self, epoch: u32) -> Option<&FrameKey> {
        self.keys.iter().find(|key| key.epoch == epoch)
    }

    pub(super) fn add_key(&mut self, key: FrameKey) {
        if self.keys.is_full() {
            self.keys.remove(0);
        }
        self.keys.push(key);
    }

    pub(super) fn forget_keys(&mut self) {
        self.keys.clear();
    }

    pub(super) fn is_new(&self, number: u64) -> bool {
        self.window.is_new(number)
    }

    /// Notes an authentic frame.
    pub(super) fn note(&mut self, number: u64, now_ns: u64) {
        self.window.note(number);
        self.heard_ns = now_ns;
    }
}

/// What is lacking of a peer's stream, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Debt {
    /// Something at or below this batch.
    pub(super) through: u64,
    pub(super) raised_ns: u64,
}

/// What came of a stream that has ended with its sender's life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) boot: BootId,
    pub(super) through: u64,
    /// Something up to here may be known.
    pub(super) highest: u64,
    /// Of each appliance, by its place: the highest batch that was known there when its tables were
    /// fetched.
    pub(super) settled: [u64; MAX_PEERS],
}

impl Ended {
    /// Of a life of which nothing came yet.
    pub(super) fn new(boot: BootId) -> Self {
        Self {
            boot,
            through: 0,
            highest: 0,
            settled: [0; MAX_PEERS],
        }
    }

    /// What the peer at `place` reported of it is known here too.
    pub(super) fn settle(&mut self, place: usize, report: &Report) {
        if !report.owing {
            self.through = self.through.max(report.through);
        }
        self.highest = self.highest.max(report.highest);
        self.settled[place] = self.settled[place].max(report.highest);
    }

    /// Whether the peer at `place`, which reports so, knows more.
    pub(super) fn lacks(&self, place: usize, report: &Report) -> bool {
        report.highest > self.through.max(self.settled[place])
    }

    /// What a greeting says of it.
    pub(super) fn report(&self, of: PeerId) -> Report {
        Report {
            peer: of.0,
            alive: false,
            owing: false,
            boot: self.boot,
            through: self.through,
            highest: self.highest,
            echo_ns: 0,
        }
    }
}

/// The last former lives of an appliance, the oldest first.
#[derive(Default)]
pub(super) struct Former(ArrayVec<Ended, MAX_ENDED>);

impl Former {
    pub(super) fn find(&self, boot: BootId) -> Option<&Ended> {
        self.0.iter().find(|ended| ended.boot == boot)
    }

    /// That of `boot`, which begins to be kept in mind if it is not so old that others have made up
    /// for it long since.
    pub(super) fn of(&mut self, boot: BootId) -> Option<&mut Ended> {
        if self.find(boot).is_none() && !self.is_forgotten(boot) {
            self.note(Ended::new(boot));
        }
        self.0.iter_mut().find(|ended| ended.boot == boot)
    }

    /// Keeps a former life in mind, in place of the oldest if need be.
    fn note(&mut self, ended: Ended) {
        self.remove(ended.boot);
        if self.0.is_full() {
            self.0.remove(0);
        }
        let place = self.0.partition_point(|other| other.boot < ended.boot);
        self.0.insert(place, ended);
    }

    fn remove(&mut self, boot: BootId) -> Option<Ended> {
        let place = self.0.iter().position(|ended| ended.boot == boot)?;
        Some(self.0.remove(place))
    }

    /// Whether a former life is older than all that are kept in mind.
    fn is_forgotten(&self, boot: BootId) -> bool {
        self.0.is_full() && self.0.first().is_some_and(|oldest| boot < oldest.boot)
    }

    /// Something of a life's stream has come up to `highest`, by another way.
    pub(super) fn note_fetched(&mut self, boot: BootId, highest: u64) {
        if let Some(ended) = self.of(boot) {
            ended.highest = ended.highest.max(highest);
        }
    }

    /// Whether the peer at `place`, which reports so, knows more of a life. Of one that is not known
    /// it does, if `or_unknown`.
    pub(super) fn lacks(&self, place: usize, report: &Report, or_unknown: bool) -> bool {
        match self.find(report.boot) {
            Some(ended) => ended.lacks(place, report),
            None => or_unknown && !self.is_forgotten(report.boot),
        }
    }

    /// What a greeting says of them.
    pub(super) fn reports(&self, of: PeerId) -> impl Iterator<Item = Report> {
        self.0.iter().map(move |ended| ended.report(of))
    }
}

/// Which life of a peer a frame is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// The one that is believed.
    Current,
    /// One that has not yet shown to know our present life.
    Candidate,
    /// One that was not known.
    New,
}

/// Another appliance.
pub(super) struct Peer {
    pub(super) id: PeerId,
    /// Where its frames come from.
    pub(super) address: Option<Address>,
    pub(super) state: PeerState,
    pub(super) state_since_ns: u64,
    /// The life that is believed: it has greeted our present life.
    pub(super) current: Option<Life>,
    /// A life that has not, or not yet.
    pub(super) candidate: Option<Life>,
    /// What has come of the current life's stream.
    pub(super) gaps: Gaps,
    /// What is lacking of it and cannot be repaired.
    pub(super) debt: Option<Debt>,
    /// Something of it up to here has come by others' tables, or its own.
    pub(super) fetched: u64,
    /// What [`Ended::settled`] will be of it.
    pub(super) settled: [u64; MAX_PEERS],
    /// The streams of its lives before, the oldest first.
    pub(super) ended: Former,
    /// What it said of others in its last greeting.
    pub(super) reports: ArrayVec<Report, MAX_REPORTS>,
    /// What it said of our present life.
    pub(super) of_us: Report,
    /// Records that it is to be told.
    pub(super) told: VecDeque<Record>,
    /// Flows that it is to be asked for.
    pub(super) queries: VecDeque<FlowKey>,
    /// Flows that it asked for and nobody knows here.
    pub(super) unknown: VecDeque<FlowKey>,
    /// What it wants repeated.
    pub(super) repairs: ArrayVec<Range, MAX_RANGES>,
    /// What it fetches from us.
    pub(super) served: Served,
    /// How far its clock was ahead of ours when it last greeted, in milliseconds.
    pub(super) lead_ms: u64,
    pub(super) records_received: u64,
    pub(super) gaps_asked: u64,
    pub(super) resyncs: u64,
}

impl Peer {
    pub(super) fn new(config: &PeerConfig, now_ns: u64) -> Self {
        Self {
            id: config.id,
            address: config.address,
            state: PeerState::Joining,
            state_since_ns: now_ns,
            current: None,
            candidate: None,
            gaps: Gaps::new(0, 0),
            debt: None,
            fetched: 0,
            settled: [0; MAX_PEERS],
            ended: Former::default(),
            reports: ArrayVec::new(),
            of_us: Report::default(),
            told: VecDeque::new(),
            queries: VecDeque::new(),
            unknown: VecDeque::new(),
            repairs: ArrayVec::new(),
            served: Served::default(),
            lead_ms: 0,
            records_received: 0,
            gaps_asked: 0,
            resyncs: 0,
        }
    }

    /// Which life a frame is of, before anything is spent on it.
    pub(super) fn judge(&self, header: &Header, now_ns: u64) -> Result<Which, Tally> {
        for (which, life) in [
            (Which::Current, &self.current),
            (Which::Candidate, &self.candidate),
        ] {
            let Some(life) = life else { continue };
            if life.boot == header.boot {
                let is_new = life.is_new(header.number);
                return is_new.then_some(which).ok_or(Tally::RefusedReplayed);
            }
            let is_silent = now_ns.saturating_sub(life.heard_ns) >= SET_BACK_NS;
            if header.boot < life.boot && !is_silent {
                return Err(Tally::RefusedOldBoot);
            }
        }
        Ok(Which::New)
    }

    pub(super) fn life(&self, which: Which) -> Option<&Life> {
        match which {
            Which::Current => self.current.as_ref(),
            Which::Candidate => self.candidate.as_ref(),
            Which::New => None,
        }
    }

    pub(super) fn life_mut(&mut self, which: Which) -> Option<&mut Life> {
        match which {
            Which::Current => self.current.as_mut(),
            Which::Candidate => self.candidate.as_mut(),
            Which::New => None,
        }
    }

    /// Whether a greeting of the candidate that answers ours of `echo_ns` makes it the life that is
    /// believed. A later life always does; an earlier one only if the later one has been silent
    /// since before it answered, so that no recording brings an old life back.
    pub(super) fn may_adopt(&self, echo_ns: u64, now_ns: u64) -> bool {
        let Some(candidate) = &self.candidate else {
            return false;
        };
        self.current
            .as_ref()
            .is_none_or(|life| life.boot < candidate.boot || life.heard_ns.max(1) < echo_ns)
            && echo_ns <= now_ns
    }

    /// Believes the candidate. What is said to the former life is dropped, and what came of its
    /// stream remembered.
    pub(super) fn adopt(&mut self, gaps: Gaps, debt: Option<Debt>) {
        if let Some(ending) = self.ending() {
            self.ended.note(ending);
        }
        self.current = self.candidate.take();
        self.gaps = gaps;
        self.debt = debt;
        self.fetched = 0;
        self.settled = [0; MAX_PEERS];
        // Others may have seen this life end, and have told what came of it.
        let boot = self.current.as_ref().map(|life| life.boot);
        if let Some(ended) = boot.and_then(|boot| self.ended.remove(boot)) {
            self.fetched = ended.highest;
            self.settled = ended.settled;
        }
        self.reports.clear();
        self.of_us = Report::default();
        self.forget_queues();
    }

    /// What came of the current life's stream, were it to end now.
    pub(super) fn ending(&self) -> Option<Ended> {
        self.current.as_ref().map(|life| Ended {
            boot: life.boot,
            through: self.through(),
            highest: self.gaps.highest().max(self.fetched),
            settled: self.settled,
        })
    }

    /// Something of the stream of one of its lives has come up to `highest`, by another way.
    pub(super) fn note_fetched(&mut self, boot: BootId, highest: u64) {
        if self.current.as_ref().is_some_and(|life| life.boot == boot) {
            self.fetched = self.fetched.max(highest);
        } else {
            self.ended.note_fetched(boot, highest);
        }
    }

    /// All batches of the current life up to this one are known here.
    pub(super) fn through(&self) -> u64 {
        if self.debt.is_some() {
            0
        } else {
            self.gaps.through()
        }
    }

    /// Something at or below `through` is lacking.
    pub(super) fn owe(&mut self, through: u64, now_ns: u64) {
        let through = self.debt.map_or(through, |debt| debt.through.max(through));
        self.debt = Some(Debt {
            through,
            raised_ns: now_ns,
        });
    }

    /// Whether repeated batches or parts of tables wait to be sent to it.
    pub(super) fn has_bulk(&self) -> bool {
        !self.repairs.is_empty() || !self.served.bulk.is_empty()
    }

    /// Forgets what waits to be told to it: it is gone.
    pub(super) fn forget_queues(&mut self) {
        self.told.clear();
        self.queries.clear();
        self.unknown.clear();
        self.repairs.clear();
        self.served.clear();
    }

    /// What a greeting says of this peer's lives.
    pub(super) fn report(&self) -> impl Iterator<Item = Report> {
        let current = self.current.as_ref().map(|life| Report {
            peer: self.id.0,
            alive: self.state.is_alive(),
            owing: self.debt.is_some(),
            boot: life.boot,
            through: self.gaps.through(),
            highest: self.gaps.highest().max(self.fetched),
            echo_ns: life.hello.sent_ns,
        });
        let candidate = self.candidate.as_ref().map(|life| Report {
            peer: self.id.0,
            alive: false,
            owing: true,
            boot: life.boot,
            through: 0,
            highest: 0,
            echo_ns: life.hello.sent_ns,
        });
        let ended = self.ended.reports(self.id);
        current.into_iter().chain(candidate).chain(ended)
    }

    /// Sees it as `state`; as what it was seen before, if that is another.
    pub(super) fn enter(&mut self, state: PeerState, now_ns: u64) -> Option<PeerState> {
        if state == self.state {
            return None;
        }
        self.state_since_ns = now_ns;
        Some(std::mem::replace(&mut self.state, state))
    }
}
