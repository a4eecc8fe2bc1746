//! What clients make of the segments that come.

use dataplane::parse::flags;
use dataplane::tcp::sequence::{after, before, within};

use super::super::outcome::End;
use super::super::segment::{Head, NoSegment, Segment, Sink, Tuple};
use super::super::stream::ResponseHead;
use super::super::tcb::{Acknowledged, DEFAULT_MSS, flag};
use super::{Clients, MAX_GAPS, State, Talk, UNKNOWN, age_ns, milliseconds, mss_of};

/// What a piece of a response is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Right,
    Wrong,
    /// It cannot be judged before what stands before it has come.
    TooEarly,
}

impl Clients {
    /// Takes a frame that came, and gives whether it was for a client.
    #[inline]
    pub fn receive(&mut self, frame: &[u8], now_ns: u64, sink: &mut impl Sink) -> bool {
        let segment = match Segment::read(frame) {
            Ok(segment) => segment,
            Err(NoSegment::Other) => {
                self.counters.other += 1;
                return false;
            }
            Err(NoSegment::Malformed) => {
                self.counters.malformed += 1;
                return false;
            }
        };
        let Some(id) = self.place_of(&segment) else {
            self.counters.foreign += 1;
            return false;
        };
        match self.places[id as usize].state {
            State::Free => self.answer_late(id, &segment, now_ns, sink),
            State::SynSent => self.take_answer(id, &segment, now_ns, sink),
            State::Exchange | State::Held | State::Closing => {
                self.take_segment(id, &segment, now_ns, sink);
            }
        }
        true
    }

    /// A segment for a connection that has ended: its last acknowledgement may have been lost.
    fn answer_late(&mut self, id: u32, segment: &Segment<'_>, now_ns: u64, sink: &mut impl Sink) {
        if segment.has(flags::RST) {
            return;
        }
        let behind = segment
            .sequence
            .wrapping_add(segment.payload.len() as u32 + 1);
        if segment.has(flags::FIN) && behind == self.places[id as usize].tcb.rcv {
            self.send_ack(id, now_ns, sink);
        } else {
            self.refuse(segment, sink);
        }
    }

    /// A RST that its receiver takes (RFC 9293 §3.10.7.1).
    fn refuse(&mut self, segment: &Segment<'_>, sink: &mut impl Sink) {
        let has_ack = segment.has(flags::ACK);
        let length = segment.payload.len() as u32
            + u32::from(segment.has(flags::SYN))
            + u32::from(segment.has(flags::FIN));
        let head = Head {
            sequence: if has_ack { segment.acknowledgement } else { 0 },
            acknowledgement: segment.sequence.wrapping_add(length),
            flags: if has_ack {
                flags::RST
            } else {
                flags::RST | flags::ACK
            },
            window: 0,
            options: &[],
        };
        self.writer
            .send(sink, &Tuple::answering(segment), &head, &[]);
    }

    /// What answers the SYN.
    fn take_answer(&mut self, id: u32, segment: &Segment<'_>, now_ns: u64, sink: &mut impl Sink) {
        let connection = &mut self.places[id as usize];
        let fits = segment.has(flags::ACK) && segment.acknowledgement == connection.tcb.high;
        if segment.has(flags::RST) {
            if fits {
                self.end(id, End::Refused, now_ns);
            }
            return;
        }
        if !fits || !segment.has(flags::SYN) {
            if segment.has(flags::ACK) {
                self.refuse(segment, sink);
            }
            return;
        }
        let own = mss_of(self.config.mtu_bytes, segment.source.family());
        let mss = segment.options.mss.unwrap_or(DEFAULT_MSS).min(own);
        let stamps = segment.options.timestamps;
        let scale = segment.options.window_scale;
        let tcb = &mut connection.tcb;
        tcb.negotiated(mss, scale, stamps.map(|stamps| stamps.value));
        tcb.acknowledge(segment.acknowledgement, segment.window, false);
        tcb.set_window(segment.window, false);
        tcb.rcv = segment.sequence.wrapping_add(1);
        if let Some(stamps) = stamps {
            tcb.sample(milliseconds(now_ns), stamps.echo);
        }
        connection.send_base = tcb.nxt;
        connection.receive_base = tcb.rcv;
        connection.state = State::Exchange;
        let age_ns = age_ns(connection, now_ns);
        let expected = self.expected_bytes();
        self.places[id as usize].expected = expected;
        let _ = self.latencies.syn_ack_ns.record(age_ns);
        self.send_ack(id, now_ns, sink);
        self.pump(id, now_ns, sink);
    }

    fn take_segment(&mut self, id: u32, segment: &Segment<'_>, now_ns: u64, sink: &mut impl Sink) {
        let connection = &mut self.places[id as usize];
        let tcb = &mut connection.tcb;
        if segment.has(flags::RST) {
            let last = tcb.rcv.wrapping_add(tcb.own_window_bytes());
            if within(segment.sequence, tcb.rcv, last) {
                let is_held = connection.state == State::Held;
                let end = if is_held { End::HeldLost } else { End::Reset };
                self.end(id, end, now_ns);
            }
            return;
        }
        if segment.has(flags::SYN) {
            // The end of the handshake was lost, or is late. A server that keeps no half-open
            // connection knows it by its sequence number only.
            return self.send_first_ack(id, now_ns, sink);
        }
        if !segment.has(flags::ACK) {
            return;
        }
        if let Some(stamps) = segment.options.timestamps
            && !after(segment.sequence, tcb.rcv)
            && !before(stamps.value, tcb.stamp)
        {
            tcb.stamp = stamps.value;
        }
        if !self.take_acknowledgement(id, segment, now_ns, sink) {
            return;
        }
        if !segment.payload.is_empty() || segment.has(flags::FIN) {
            self.take_payload(id, segment, now_ns, sink);
        }
        if self.places[id as usize].state != State::Free {
            self.go_on(id, now_ns, sink);
        }
    }

    /// Whether the rest of the segment is to be looked at.
    fn take_acknowledgement(
        &mut self,
        id: u32,
        segment: &Segment<'_>,
        now_ns: u64,
        sink: &mut impl Sink,
    ) -> bool {
        let end = self.send_end(id);
        let connection = &mut self.places[id as usize];
        let tcb = &mut connection.tcb;
        let bare = segment.payload.is_empty() && !segment.has(flags::FIN);
        let acknowledged = tcb.acknowledge(segment.acknowledgement, segment.window, bare);
        match acknowledged {
            Acknowledged::Unsent => {
                self.send_ack(id, now_ns, sink);
                return false;
            }
            Acknowledged::Nothing => return true,
            Acknowledged::More => {
                if let Some(stamps) = segment.options.timestamps {
                    tcb.sample(milliseconds(now_ns), stamps.echo);
                }
            }
            Acknowledged::Lost => {}
        }
        let is_news = !tcb.is(flag::PROVED) && after(tcb.una, connection.send_base);
        let is_partial = tcb.is(flag::RECOVERING) && tcb.nxt == tcb.high;
        let again = is_partial.then(|| tcb.lost_chunk(end)).flatten();
        if is_news {
            tcb.set(flag::PROVED);
            let age_ns = age_ns(connection, now_ns);
            let _ = self.latencies.established_ns.record(age_ns);
        }
        if let Some(chunk) = again {
            self.counters.retransmitted += 1;
            self.send_chunk(id, chunk, now_ns, sink);
        }
        true
    }

    fn take_payload(&mut self, id: u32, segment: &Segment<'_>, now_ns: u64, sink: &mut impl Sink) {
        let rcv = self.places[id as usize].tcb.rcv;
        let known = rcv.wrapping_sub(segment.sequence);
        let behind = segment.sequence.wrapping_add(segment.payload.len() as u32);
        if after(segment.sequence, rcv) {
            self.take_early(id, segment, now_ns, sink);
            return;
        }
        let has_fin = segment.has(flags::FIN);
        if before(behind, rcv) || (behind == rcv && !has_fin) {
            // All of it is known: the acknowledgement was lost.
            self.send_ack(id, now_ns, sink);
            return;
        }
        let news = &segment.payload[known as usize..];
        match self.judge(id, rcv, news) {
            Verdict::Right => {}
            Verdict::Wrong => return self.fail(id, End::PayloadWrong, now_ns, sink),
            Verdict::TooEarly => return,
        }
        let connection = &mut self.places[id as usize];
        let tcb = &mut connection.tcb;
        let begins = !news.is_empty() && !tcb.is(flag::BEGUN);
        tcb.rcv = behind;
        if tcb.is(flag::GAP)
            && let Some(gaps) = self.gaps.get_mut(&id)
        {
            tcb.rcv = gaps.pass(behind);
            if gaps.is_empty() {
                self.gaps.remove(&id);
                tcb.clear(flag::GAP);
            }
        }
        if has_fin && tcb.rcv == behind {
            tcb.rcv = behind.wrapping_add(1);
            tcb.set(flag::PEER_DONE);
        }
        if !tcb.is(flag::OWES) {
            tcb.set(flag::OWES);
            self.owing.push(id);
        }
        if begins {
            tcb.set(flag::BEGUN);
            let age_ns = age_ns(connection, now_ns);
            let _ = self.latencies.first_byte_ns.record(age_ns);
        }
    }

    /// Octets behind a gap: they are judged and noted, and the sender is told of the gap at once.
    fn take_early(&mut self, id: u32, segment: &Segment<'_>, now_ns: u64, sink: &mut impl Sink) {
        let tcb = &self.places[id as usize].tcb;
        let behind = segment.sequence.wrapping_add(segment.payload.len() as u32);
        let fits = within(
            behind,
            tcb.rcv,
            tcb.rcv.wrapping_add(tcb.own_window_bytes()),
        );
        let has_room = tcb.is(flag::GAP) || self.gaps.len() < MAX_GAPS;
        if fits && has_room && !segment.payload.is_empty() && !tcb.is(flag::PEER_DONE) {
            match self.judge(id, segment.sequence, segment.payload) {
                Verdict::Wrong => return self.fail(id, End::PayloadWrong, now_ns, sink),
                Verdict::TooEarly => {}
                Verdict::Right => {
                    self.gaps
                        .entry(id)
                        .or_default()
                        .note(segment.sequence, behind);
                    self.places[id as usize].tcb.set(flag::GAP);
                }
            }
        }
        self.send_ack(id, now_ns, sink);
    }

    /// Whether `octets`, which begin at `sequence`, are what the response has there.
    fn judge(&mut self, id: u32, sequence: u32, mut octets: &[u8]) -> Verdict {
        if octets.is_empty() {
            return Verdict::Right;
        }
        if self.places[id as usize].state != State::Exchange {
            return Verdict::Wrong;
        }
        let exchange = self.exchange(id);
        let connection = &mut self.places[id as usize];
        let mut offset = sequence.wrapping_sub(connection.receive_base);
        if connection.expected == UNKNOWN {
            if offset != 0 {
                return Verdict::TooEarly;
            }
            let Some(head) = ResponseHead::read(octets) else {
                return Verdict::Wrong;
            };
            octets = &octets[head.head_bytes as usize..];
            connection.receive_base = sequence.wrapping_add(head.head_bytes);
            connection.expected = head.body_bytes;
            offset = 0;
        }
        let length = octets.len() as u32;
        let is_within = offset
            .checked_add(length)
            .is_some_and(|end| end <= connection.expected);
        let is_right = is_within
            && match (exchange, &self.config.talk) {
                (Some(exchange), _) => exchange.is_response(offset, octets),
                (
                    None,
                    Talk::Web {
                        body: Some(body), ..
                    },
                ) => {
                    let place = offset as usize..(offset + length) as usize;
                    body.get(place) == Some(octets)
                }
                (None, _) => true,
            };
        if !is_right {
            return Verdict::Wrong;
        }
        self.counters.verified_bytes += u64::from(length);
        Verdict::Right
    }

    /// Ends a connection that went wrong, and lets the server know.
    fn fail(&mut self, id: u32, end: End, now_ns: u64, sink: &mut impl Sink) {
        self.send_reset(id, now_ns, sink);
        self.end(id, end, now_ns);
    }

    /// After each segment: what became possible by it.
    fn go_on(&mut self, id: u32, now_ns: u64, sink: &mut impl Sink) {
        let connection = &self.places[id as usize];
        let tcb = connection.tcb;
        let is_done = tcb.is(flag::PEER_DONE);
        if connection.state == State::Exchange {
            let octets = tcb.rcv.wrapping_sub(connection.receive_base);
            if octets.wrapping_sub(u32::from(is_done)) == connection.expected {
                if connection.exchange == 0 {
                    let age_ns = age_ns(connection, now_ns);
                    let _ = self.latencies.last_byte_ns.record(age_ns);
                }
                self.conclude(id, now_ns, sink);
            } else if is_done {
                return self.fail(id, End::ClosedEarly, now_ns, sink);
            }
        }
        let connection = &mut self.places[id as usize];
        match connection.state {
            State::Free => return,
            State::Held if is_done => return self.fail(id, End::HeldLost, now_ns, sink),
            State::Closing if is_done => connection.tcb.set(flag::FIN),
            _ => {}
        }
        self.pump(id, now_ns, sink);
        let behind = self.send_end(id).wrapping_add(1);
        let tcb = &self.places[id as usize].tcb;
        let is_closing = self.places[id as usize].state == State::Closing;
        if is_closing && is_done && tcb.una == behind {
            if tcb.is(flag::OWES) {
                self.send_ack(id, now_ns, sink);
            }
            self.end(id, End::Completed, now_ns);
        }
    }
}
