//! What clients send: SYNs, requests, acknowledgements, and what is due by the timers.

use dataplane::parse::flags;
use dataplane::wire::tcp::MAX_OPTION_BYTES;
use dataplane::wire::tcp_options::SynOptions;

use super::super::outcome::End;
use super::super::segment::{Head, Sink, timestamps};
use super::super::tcb::{Chunk, OWN_SCALE, SYN_WINDOW, Tcb, flag};
use super::{Clients, Close, Connection, NoPort, State, Talk, clock, milliseconds, mss_of};

/// Timers that are looked at in one call of [`Clients::poll`].
const TIMERS_PER_POLL: u32 = 4096;

impl Clients {
    /// Begins a connection by a SYN such as Linux sends, and gives its place.
    ///
    /// # Errors
    /// [`NoPort`].
    #[inline]
    pub fn open(&mut self, now_ns: u64, sink: &mut impl Sink) -> Result<u32, NoPort> {
        let id = self.free.pop(&self.places).ok_or(NoPort)?;
        let connection = &mut self.places[id as usize];
        // A clock of 4 µs and a number of the connection's own (RFC 6528 §3).
        let own = (u64::from(id) ^ self.config.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let iss = ((now_ns >> 12) as u32).wrapping_add((own >> 32) as u32);
        *connection = Connection {
            tcb: Tcb::begun(iss),
            started: clock(now_ns),
            generation: connection.generation.wrapping_add(1),
            state: State::SynSent,
            ..Connection::default()
        };
        let timeout_ns = connection.tcb.timeout_ns();
        self.ends.started += 1;
        self.send_syn(id, now_ns, sink);
        self.wheel.arm(id, now_ns + timeout_ns);
        Ok(id)
    }

    fn send_syn(&mut self, id: u32, now_ns: u64, sink: &mut impl Sink) {
        let tuple = self.tuple(id);
        let options = SynOptions {
            mss: Some(mss_of(self.config.mtu_bytes, tuple.source.family())),
            window_scale: Some(OWN_SCALE),
            sack_permitted: true,
            timestamps: Some((milliseconds(now_ns), 0)),
        };
        let mut bytes = [0; MAX_OPTION_BYTES];
        let length = options.write(&mut bytes);
        let head = Head {
            sequence: self.places[id as usize].tcb.una,
            acknowledgement: 0,
            flags: flags::SYN,
            window: SYN_WINDOW,
            options: &bytes[..length],
        };
        self.writer.send(sink, &tuple, &head, &[]);
    }

    /// Asks once more on up to `count` connections that are held, from the place `from` on. Gives
    /// how many, and the place to go on from; `None` when all were passed.
    pub fn ask_held(
        &mut self,
        from: u32,
        count: u32,
        now_ns: u64,
        sink: &mut impl Sink,
    ) -> (u32, Option<u32>) {
        self.each_in(State::Held, from, count, |clients, id| {
            let expected = clients.expected_bytes();
            let connection = &mut clients.places[id as usize];
            connection.exchange = connection.exchange.wrapping_add(1);
            connection.send_base = connection.tcb.nxt;
            connection.receive_base = connection.tcb.rcv;
            connection.expected = expected;
            connection.state = State::Exchange;
            clients.held -= 1;
            clients.pump(id, now_ns, sink);
        })
    }

    /// Closes up to `count` connections that are held, as [`Clients::ask_held`] goes over them.
    pub fn close_held(
        &mut self,
        from: u32,
        count: u32,
        now_ns: u64,
        sink: &mut impl Sink,
    ) -> (u32, Option<u32>) {
        self.each_in(State::Held, from, count, |clients, id| {
            let connection = &mut clients.places[id as usize];
            connection.state = State::Closing;
            connection.tcb.set(flag::FIN);
            clients.held -= 1;
            clients.pump(id, now_ns, sink);
        })
    }

    /// Resets up to `count` of the connections that are open, likewise; held ones too if `all`.
    pub fn abandon(
        &mut self,
        all: bool,
        from: u32,
        count: u32,
        now_ns: u64,
        sink: &mut impl Sink,
    ) -> (u32, Option<u32>) {
        let mut done = 0;
        for id in from..self.places.len() as u32 {
            if done == count {
                return (done, Some(id));
            }
            let state = self.places[id as usize].state;
            if state != State::Free && (all || state != State::Held) {
                self.send_reset(id, now_ns, sink);
                self.end(id, End::Abandoned, now_ns);
                done += 1;
            }
        }
        (done, None)
    }

    fn each_in(
        &mut self,
        state: State,
        from: u32,
        count: u32,
        mut act: impl FnMut(&mut Self, u32),
    ) -> (u32, Option<u32>) {
        let mut done = 0;
        for id in from..self.places.len() as u32 {
            if done == count {
                return (done, Some(id));
            }
            if self.places[id as usize].state == state {
                act(self, id);
                done += 1;
            }
        }
        (done, None)
    }

    /// Sends the acknowledgements that are owed. To be called after each burst.
    pub fn flush(&mut self, now_ns: u64, sink: &mut impl Sink) {
        while let Some(id) = self.owing.pop() {
            let connection = &self.places[id as usize];
            if connection.state != State::Free && connection.tcb.is(flag::OWES) {
                self.send_ack(id, now_ns, sink);
            }
        }
    }

    /// Does what is due at `now_ns`, as far as one turn allows.
    pub fn poll(&mut self, now_ns: u64, sink: &mut impl Sink) {
        let mut budget = TIMERS_PER_POLL;
        while let Some(id) = self.wheel.pop_expired(now_ns, &mut budget) {
            self.time_out(id, now_ns, sink);
        }
    }

    fn time_out(&mut self, id: u32, now_ns: u64, sink: &mut impl Sink) {
        let send_end = self.send_end(id);
        let connection = &mut self.places[id as usize];
        let state = connection.state;
        let tcb = &mut connection.tcb;
        let tries = match state {
            State::Free | State::Held => return,
            State::SynSent => self.config.syn_tries,
            State::Exchange | State::Closing => self.config.tries,
        };
        let is_shut_out = tcb.is_shut_out(send_end);
        let waits = state != State::SynSent && !is_shut_out && !tcb.is_in_flight();
        if waits || tcb.tries + 1 >= tries {
            let end = match state {
                State::SynSent => End::SynTimedOut,
                State::Closing => End::CloseTimedOut,
                _ if waits => End::ResponseTimedOut,
                _ => End::RequestTimedOut,
            };
            if state != State::SynSent {
                self.send_reset(id, now_ns, sink);
            }
            self.end(id, end, now_ns);
            return;
        }
        tcb.time_out();
        let deadline = now_ns + tcb.timeout_ns();
        self.counters.retransmitted += 1;
        match state {
            State::SynSent => self.send_syn(id, now_ns, sink),
            // One octet too early: it is acknowledged with the window of now.
            _ if is_shut_out => self.send_probe(id, now_ns, sink),
            _ => self.pump(id, now_ns, sink),
        }
        self.wheel.arm(id, deadline);
    }

    /// Sends what the windows allow, and sets the timer for what is to come next.
    pub(super) fn pump(&mut self, id: u32, now_ns: u64, sink: &mut impl Sink) {
        let end = self.send_end(id);
        while let Some(chunk) = self.places[id as usize].tcb.next_chunk(end) {
            self.send_chunk(id, chunk, now_ns, sink);
        }
        let connection = &self.places[id as usize];
        let tcb = &connection.tcb;
        if connection.state == State::Held {
            self.wheel.cancel(id);
        } else if tcb.is_in_flight() || tcb.is_shut_out(end) {
            self.wheel.arm(id, now_ns + tcb.timeout_ns());
        } else {
            self.wheel.arm(id, now_ns + self.config.response_timeout_ns);
        }
    }

    pub(super) fn send_chunk(&mut self, id: u32, chunk: Chunk, now_ns: u64, sink: &mut impl Sink) {
        let mut flags = flags::ACK;
        if chunk.length > 0 {
            flags |= flags::PSH;
        }
        if chunk.fin {
            flags |= flags::FIN;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let payload = &mut scratch[..chunk.length as usize];
        if !payload.is_empty() {
            let offset = chunk
                .sequence
                .wrapping_sub(self.places[id as usize].send_base);
            match (self.exchange(id), &self.config.talk) {
                (Some(exchange), _) => exchange.write_request(offset, payload),
                (None, Talk::Web { request, .. }) => {
                    let from = offset as usize;
                    payload.copy_from_slice(&request[from..from + payload.len()]);
                }
                (None, Talk::Verified { .. }) => {}
            }
        }
        self.send(id, chunk.sequence, flags, payload, now_ns, sink);
        self.scratch = scratch;
    }

    /// A segment of this connection. Whatever it is, nothing is owed after it.
    fn send(
        &mut self,
        id: u32,
        sequence: u32,
        flags: u8,
        payload: &[u8],
        now_ns: u64,
        sink: &mut impl Sink,
    ) {
        let tuple = self.tuple(id);
        let tcb = &mut self.places[id as usize].tcb;
        tcb.clear(flag::OWES);
        let options = timestamps(milliseconds(now_ns), tcb.stamp);
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

    pub(super) fn send_ack(&mut self, id: u32, now_ns: u64, sink: &mut impl Sink) {
        let sequence = self.places[id as usize].tcb.nxt;
        self.send(id, sequence, flags::ACK, &[], now_ns, sink);
    }

    /// An acknowledgement numbered as the first octet that is not acknowledged.
    pub(super) fn send_first_ack(&mut self, id: u32, now_ns: u64, sink: &mut impl Sink) {
        let sequence = self.places[id as usize].tcb.una;
        self.send(id, sequence, flags::ACK, &[], now_ns, sink);
    }

    fn send_probe(&mut self, id: u32, now_ns: u64, sink: &mut impl Sink) {
        let sequence = self.places[id as usize].tcb.una.wrapping_sub(1);
        self.send(id, sequence, flags::ACK, &[], now_ns, sink);
    }

    pub(super) fn send_reset(&mut self, id: u32, now_ns: u64, sink: &mut impl Sink) {
        let sequence = self.places[id as usize].tcb.nxt;
        self.send(id, sequence, flags::RST | flags::ACK, &[], now_ns, sink);
    }

    /// The response is complete: what comes next on this connection.
    pub(super) fn conclude(&mut self, id: u32, now_ns: u64, sink: &mut impl Sink) {
        self.counters.exchanges += 1;
        let connection = &mut self.places[id as usize];
        match self.config.close {
            Close::Client => {
                connection.tcb.set(flag::FIN);
                connection.state = State::Closing;
            }
            Close::Server => connection.state = State::Closing,
            Close::Hold => {
                connection.state = State::Held;
                self.held += 1;
            }
            Close::Reset => {
                self.send_reset(id, now_ns, sink);
                self.end(id, End::Completed, now_ns);
            }
        }
    }
}
