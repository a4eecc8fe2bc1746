//! What servers send: responses, acknowledgements, and what is due by the timers.

use dataplane::flow::table::Id;
use dataplane::parse::flags;

use super::super::segment::{Head, Sink, timestamps};
use super::super::tcb::{Chunk, flag};
use super::{ServerEnd, Servers, State};

/// Timers that are looked at in one call of [`Servers::poll`].
const TIMERS_PER_POLL: u32 = 4096;

impl Servers {
    /// Sends the acknowledgements that are owed. To be called after each burst.
    pub fn flush(&mut self, now_ns: u64, sink: &mut impl Sink) {
        while let Some(id) = self.owing.pop() {
            if self.table.contains(id) && self.table.get(id).tcb.is(flag::OWES) {
                self.send_ack(id, now_ns, sink);
            }
        }
    }

    /// Does what is due at `now_ns`, as far as one turn allows.
    pub fn poll(&mut self, now_ns: u64, sink: &mut impl Sink) {
        let mut budget = TIMERS_PER_POLL;
        while let Some(id) = self.wheel.pop_expired(now_ns, &mut budget) {
            self.time_out(Id(id), now_ns, sink);
        }
    }

    fn time_out(&mut self, id: Id, now_ns: u64, sink: &mut impl Sink) {
        let connection = self.table.get_mut(id);
        let is_shut_out = connection.tcb.is_shut_out(connection.send_end());
        let tcb = &mut connection.tcb;
        let waits = !is_shut_out && !tcb.is_in_flight();
        if waits || tcb.tries + 1 >= self.config.tries {
            let end = if waits {
                ServerEnd::Idle
            } else {
                ServerEnd::TimedOut
            };
            self.send_reset(id, now_ns, sink);
            self.end(id, end);
            return;
        }
        tcb.time_out();
        let deadline = now_ns + tcb.timeout_ns();
        self.counters.retransmitted += 1;
        if is_shut_out {
            let sequence = tcb.una.wrapping_sub(1);
            self.send(id, sequence, flags::ACK, &[], now_ns, sink);
        } else {
            self.pump(id, now_ns, sink);
        }
        self.wheel.arm(id.0, deadline);
    }

    /// Sends what the windows allow, and sets the timer for what is to come next.
    pub(super) fn pump(&mut self, id: Id, now_ns: u64, sink: &mut impl Sink) {
        let end = self.table.get(id).send_end();
        while let Some(chunk) = self.table.get_mut(id).tcb.next_chunk(end) {
            self.send_chunk(id, chunk, now_ns, sink);
        }
        let tcb = &self.table.get(id).tcb;
        let wait_ns = if tcb.is_in_flight() || tcb.is_shut_out(end) {
            tcb.timeout_ns()
        } else {
            self.config.idle_timeout_ns
        };
        self.wheel.arm(id.0, now_ns + wait_ns);
    }

    pub(super) fn send_chunk(&mut self, id: Id, chunk: Chunk, now_ns: u64, sink: &mut impl Sink) {
        let connection = self.table.get(id);
        let behind = chunk.sequence.wrapping_add(chunk.length);
        let mut flags = flags::ACK;
        if chunk.length > 0 && behind == connection.send_end() {
            flags |= flags::PSH;
        }
        if chunk.fin {
            flags |= flags::FIN;
        }
        let offset = chunk.sequence.wrapping_sub(connection.send_base);
        let exchange = connection.exchange();
        let mut scratch = std::mem::take(&mut self.scratch);
        let payload = &mut scratch[..chunk.length as usize];
        exchange.write_response(offset, payload);
        self.send(id, chunk.sequence, flags, payload, now_ns, sink);
        self.scratch = scratch;
    }

    pub(super) fn send(
        &mut self,
        id: Id,
        sequence: u32,
        flags: u8,
        payload: &[u8],
        now_ns: u64,
        sink: &mut impl Sink,
    ) {
        let tuple = self.tuple(self.table.get(id));
        let tcb = &mut self.table.get_mut(id).tcb;
        tcb.clear(flag::OWES);
        let options = timestamps((now_ns / 1_000_000) as u32, tcb.stamp);
        let head = Head {
            sequence,
            acknowledgement: tcb.rcv,
            flags,
            window: tcb.own_window(),
            options: match tcb.is(flag::TIMESTAMPS) {
                true => &options,
                false => &[],
            },
        };
        self.writer.send(sink, &tuple, &head, payload);
    }

    pub(super) fn send_ack(&mut self, id: Id, now_ns: u64, sink: &mut impl Sink) {
        let sequence = self.table.get(id).tcb.nxt;
        self.send(id, sequence, flags::ACK, &[], now_ns, sink);
    }

    pub(super) fn send_reset(&mut self, id: Id, now_ns: u64, sink: &mut impl Sink) {
        let sequence = self.table.get(id).tcb.nxt;
        self.send(id, sequence, flags::RST | flags::ACK, &[], now_ns, sink);
    }

    /// The response's last octet is acknowledged: the next request may come.
    pub(super) fn await_next(&mut self, id: Id) {
        let connection = self.table.get_mut(id);
        connection.send_base = connection.send_end();
        connection.receive_base = connection.tcb.rcv;
        connection.state = State::Request;
        self.counters.responses += 1;
    }
}
