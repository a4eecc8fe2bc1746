//! What peers tell of connections that servers open.

use crate::context::Context;
use crate::counters::Event;
use crate::flow::table::Id;
use crate::guard::Guard;
use crate::guard::session::{State, flag};
use crate::io::Io;
use crate::packet::Buffer;
use crate::replicate::record::Record;

impl<B: Buffer> Guard<B> {
    /// What a peer knows of a session that a server has opened, where one of us has not seen its answer:
    /// numbers that nobody has seen are not to be compared. Whether that was all.
    pub(super) fn merge_opened_by_server<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        record: &Record,
        ctx: &mut Context<'_, I>,
    ) -> bool {
        if self.sessions.get(id).state == State::Closed {
            // Its end is the last word, as of any.
            return false;
        }
        let of_server = flag::TRACKED | flag::BY_SERVER;
        let unseen = (record.client_next, record.client_acked, record.client_edge) == (0, 0, 0);
        let (is_known, is_told) = (
            !self.sessions.get(id).is_unanswered(),
            !(unseen && record.flags & of_server == of_server),
        );
        match (is_known, is_told) {
            (true, true) => false,
            (false, true) => {
                self.stop_counting_half_open(id);
                self.splice_as_told(id, record);
                ctx.counters.count(Event::RecordApplied);
                self.settle_merged(id, record, ctx);
                true
            }
            (true, false) => {
                ctx.counters.count(Event::RecordStale);
                true
            }
            (false, false) => {
                ctx.counters.count(Event::RecordApplied);
                if self.sessions.get(id).state == State::Established {
                    self.arm_idle(id, ctx);
                }
                true
            }
        }
    }
}
