//! Which of the sessions that follow each other on the same ports a record is about.

use super::Mark;
use super::apply::was_open;
use crate::flow::table::Id;
use crate::guard::Guard;
use crate::guard::session::{Session, State, flag};
use crate::packet::Buffer;
use crate::replicate::record::{Record, SERVER_FIRST_MODULUS};

/// How far apart two guards that got the same cookie back can have begun with it: twice as long as it
/// is good, since clocks differ.
const OPENED_TWICE_MS: u32 = 128_000;
/// What the clocks of two guards may differ by, and how far a server's clock for its initial numbers
/// (RFC 6528; Linux: one in 64 ns) gets in that time.
const CLOCKS_DIFFER_MS: u32 = 64;
const SERVER_FIRST_APART: u32 = 1 << 20;

/// Which session a record is about, of those that have the same ports.
pub(super) enum Relation {
    /// One before the one that stands here.
    Earlier,
    /// The one that stands here.
    Same,
    /// One after it.
    Next,
}

impl Relation {
    /// By how much the one that stands here is after the record's.
    fn of(after: i32) -> Self {
        match after {
            1.. => Self::Earlier,
            0 => Self::Same,
            _ => Self::Next,
        }
    }
}

/// The sum of both sides' initial numbers.
pub(super) fn base_of(record: &Record) -> u32 {
    record.client_sequence.wrapping_add(server_first(record))
}

/// The server's initial number: the highest below what it has sent that ends as the record says.
fn server_first(record: &Record) -> u32 {
    let last = record.server_next.wrapping_sub(1);
    let above = last.wrapping_sub(record.server_first) % SERVER_FIRST_MODULUS;
    last.wrapping_sub(above)
}

impl Mark {
    /// Notes the numbers that the sides of a spliced session began with.
    pub(super) fn note_firsts(&mut self, session: &Session) {
        let server_first = session.server_next.wrapping_sub(1);
        self.base = session.client_isn().wrapping_add(server_first);
    }

    /// The server's initial number.
    pub(super) fn server_first(self, session: &Session) -> u32 {
        self.base.wrapping_sub(session.client_isn())
    }
}

impl<B: Buffer> Guard<B> {
    /// Which of the sessions of its ports a record is about. One handshake begins one session, also
    /// where two guards have taken it for theirs: ports and the client's first number name it as long
    /// as its cookie is good. All guards must choose alike between others.
    pub(super) fn relate(&self, id: Id, record: &Record) -> Relation {
        let session = self.sessions.get(id);
        let mark = self.shares.marks[id.0 as usize];
        let apart_ms = mark.incarnation.wrapping_sub(record.incarnation) as i32;
        let is_of_handshake = session.client_isn() == record.client_sequence
            && session.has(flag::TRACKED) == (record.flags & flag::TRACKED != 0);
        if is_of_handshake && apart_ms.unsigned_abs() < OPENED_TWICE_MS {
            return Relation::Same;
        }
        let relation = match apart_ms {
            0 => relate_by_server(session, mark, record)
                .or_else(|| relate_by_answer(session, record)),
            _ if apart_ms.unsigned_abs() <= CLOCKS_DIFFER_MS => {
                relate_by_server(session, mark, record)
            }
            _ => None,
        };
        let by_client = session.client_isn().wrapping_sub(record.client_sequence) as i32;
        relation.unwrap_or_else(|| Relation::of(if apart_ms == 0 { by_client } else { apart_ms }))
    }
}

/// Two that began at about the same time, by the clocks of two guards. The server has one clock, and
/// by it gives each session of these ports a higher initial number than the one before.
fn relate_by_server(session: &Session, mark: Mark, record: &Record) -> Option<Relation> {
    if session.state == State::Opening || !was_open(record) {
        return None;
    }
    let apart = mark
        .server_first(session)
        .wrapping_sub(server_first(record)) as i32;
    let is_clock = apart != 0 && apart.unsigned_abs() < SERVER_FIRST_APART;
    is_clock.then(|| Relation::of(apart))
}

/// Two that began in the same millisecond, one of which the server has answered: what opens here it is
/// about to answer, and what opens elsewhere is told again when it has.
fn relate_by_answer(session: &Session, record: &Record) -> Option<Relation> {
    match (session.state != State::Opening, was_open(record)) {
        (true, true) | (false, false) => None,
        (false, true) if session.has(flag::REMOTE) => Some(Relation::Next),
        (false, true) | (true, false) => Some(Relation::Earlier),
    }
}
