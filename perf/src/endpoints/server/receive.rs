//! What servers make of the segments that come.

use dataplane::flow::table::Id;
use dataplane::parse::{Fragment, Parsed, flags, parse};
use dataplane::tcp::sequence::{after, before, within};
use dataplane::wire::tcp::MAX_OPTION_BYTES;
use dataplane::wire::tcp_options::SynOptions;

use super::super::client::mss_of;
use super::super::segment::{Head, NoSegment, Segment, Sink, Tuple};
use super::super::stream::{Exchange, MIN_REQUEST_BYTES};
use super::super::tcb::{Acknowledged, OWN_SCALE, SYN_WINDOW, Tcb, flag};
use super::cookie::Remembered;
use super::{Connection, ServerEnd, Servers, State, talk};

/// What a piece of a request is.
enum Verdict {
    Right,
    Wrong,
    /// It cannot be taken now, and comes again.
    NotNow,
}

impl Servers {
    /// Takes a frame that came, and gives whether it was for a server.
    #[inline]
    pub fn receive(&mut self, frame: &[u8], now_ns: u64, sink: &mut impl Sink) -> bool {
        let segment = match Segment::read(frame) {
            Ok(segment) => segment,
            Err(NoSegment::Other) => {
                let is_last = |parsed: Parsed| parsed.fragment == Fragment::Later;
                self.counters.other += 1;
                self.counters.last_fragments += u64::from(parse(frame).is_ok_and(is_last));
                return false;
            }
            Err(NoSegment::Malformed) => {
                self.counters.malformed += 1;
                return false;
            }
        };
        let Some(listen) = self.listen_of(&segment) else {
            self.counters.foreign += 1;
            return false;
        };
        let found = self
            .peer_of(&segment, listen)
            .and_then(|peer| self.table.find(self.table.hash(&peer), &peer));
        let is_syn = segment.has(flags::SYN) && !segment.has(flags::ACK);
        if is_syn {
            let mut nets = self.config.spoofed.iter();
            self.counters.syns += 1;
            self.counters.spoofed += u64::from(nets.any(|net| net.contains(segment.source)));
        }
        match found {
            Some(id) if is_syn => self.take_syn_again(id, &segment, now_ns, sink),
            Some(id) => self.take_segment(id, &segment, now_ns, sink),
            None if segment.has(flags::RST) => {}
            None if is_syn => self.answer_syn(&segment, now_ns, sink),
            None => self.accept(&segment, listen, now_ns, sink),
        }
        true
    }

    /// Answers a SYN, and forgets it.
    fn answer_syn(&mut self, segment: &Segment<'_>, now_ns: u64, sink: &mut impl Sink) {
        let remembered = Remembered::of_syn(segment, self.config.mtu_bytes);
        let stamps = segment.options.timestamps;
        let options = SynOptions {
            mss: Some(mss_of(self.config.mtu_bytes, segment.source.family())),
            window_scale: segment.options.window_scale.map(|_| OWN_SCALE),
            sack_permitted: segment.options.sack_permitted,
            timestamps: stamps.map(|stamps| ((now_ns / 1_000_000) as u32, stamps.value)),
        };
        let mut bytes = [0; MAX_OPTION_BYTES];
        let length = options.write(&mut bytes);
        let head = Head {
            sequence: self.cookies.make(segment, remembered),
            acknowledgement: segment.sequence.wrapping_add(1),
            flags: flags::SYN | flags::ACK,
            window: SYN_WINDOW,
            options: &bytes[..length],
        };
        self.writer
            .send(sink, &Tuple::answering(segment), &head, &[]);
    }

    /// A SYN for a connection that is there: it came twice, or the client begins anew.
    fn take_syn_again(&mut self, id: Id, segment: &Segment<'_>, now_ns: u64, sink: &mut impl Sink) {
        let tcb = &self.table.get(id).tcb;
        if !tcb.is_in_flight() && after(segment.sequence, tcb.rcv) {
            self.end(id, ServerEnd::Replaced);
            self.answer_syn(segment, now_ns, sink);
        } else {
            // A challenge (RFC 5961 §4.2).
            self.send_ack(id, now_ns, sink);
        }
    }

    /// A segment of no connection: the end of a handshake, or forged.
    fn accept(&mut self, segment: &Segment<'_>, listen: u16, now_ns: u64, sink: &mut impl Sink) {
        let proved = segment
            .has(flags::ACK)
            .then(|| self.cookies.check(segment))
            .flatten();
        let Some(remembered) = proved else {
            self.counters.forged += 1;
            return self.refuse(segment, sink);
        };
        let Some(peer) = self.meet(segment, listen) else {
            self.counters.full += 1;
            return self.refuse(segment, sink);
        };
        let stamps = segment.options.timestamps;
        let mut tcb = Tcb::begun(segment.acknowledgement.wrapping_sub(1));
        let stamp = stamps.map(|stamps| stamps.value);
        tcb.negotiated(remembered.mss, remembered.scale, stamp);
        tcb.rcv = segment.sequence;
        tcb.acknowledge(segment.acknowledgement, segment.window, false);
        if let Some(stamps) = stamps {
            tcb.sample((now_ns / 1_000_000) as u32, stamps.echo);
        }
        let connection = Connection {
            tcb,
            peer,
            send_base: tcb.nxt,
            receive_base: tcb.rcv,
            ..Connection::default()
        };
        let hash = self.table.hash(&peer);
        let Ok(id) = self.table.insert(hash, connection) else {
            self.counters.full += 1;
            return self.refuse(segment, sink);
        };
        self.counters.accepted += 1;
        self.take_segment(id, segment, now_ns, sink);
    }

    /// A RST that its receiver takes (RFC 9293 §3.10.7.1).
    fn refuse(&mut self, segment: &Segment<'_>, sink: &mut impl Sink) {
        let head = Head {
            sequence: segment.acknowledgement,
            acknowledgement: 0,
            flags: flags::RST,
            window: 0,
            options: &[],
        };
        self.writer
            .send(sink, &Tuple::answering(segment), &head, &[]);
    }

    fn take_segment(&mut self, id: Id, segment: &Segment<'_>, now_ns: u64, sink: &mut impl Sink) {
        let tcb = &mut self.table.get_mut(id).tcb;
        if segment.has(flags::RST) {
            let last = tcb.rcv.wrapping_add(tcb.own_window_bytes());
            if within(segment.sequence, tcb.rcv, last) {
                self.end(id, ServerEnd::Reset);
            }
            return;
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
        let has_more = !segment.payload.is_empty() || segment.has(flags::FIN);
        if has_more && !self.take_payload(id, segment, now_ns, sink) {
            return;
        }
        self.go_on(id, now_ns, sink);
    }

    /// Whether the rest of the segment is to be looked at.
    fn take_acknowledgement(
        &mut self,
        id: Id,
        segment: &Segment<'_>,
        now_ns: u64,
        sink: &mut impl Sink,
    ) -> bool {
        let connection = self.table.get_mut(id);
        let end = connection.send_end();
        let tcb = &mut connection.tcb;
        let bare = segment.payload.is_empty() && !segment.has(flags::FIN);
        match tcb.acknowledge(segment.acknowledgement, segment.window, bare) {
            Acknowledged::Unsent => {
                self.send_ack(id, now_ns, sink);
                return false;
            }
            Acknowledged::Nothing => {
                // A probe of our window, or of whether we are alive.
                let is_early = before(segment.sequence, tcb.rcv);
                if is_early && bare {
                    self.send_ack(id, now_ns, sink);
                }
                return true;
            }
            Acknowledged::More => {
                if let Some(stamps) = segment.options.timestamps {
                    tcb.sample((now_ns / 1_000_000) as u32, stamps.echo);
                }
            }
            Acknowledged::Lost => {}
        }
        let is_partial = tcb.is(flag::RECOVERING) && tcb.nxt == tcb.high;
        let again = is_partial.then(|| tcb.lost_chunk(end)).flatten();
        if let Some(chunk) = again {
            self.counters.retransmitted += 1;
            self.send_chunk(id, chunk, now_ns, sink);
        }
        let connection = self.table.get(id);
        if connection.state == State::Response && !before(connection.tcb.una, end) {
            self.await_next(id);
        }
        true
    }

    /// Takes what came in order; what did not is acknowledged again, and comes again. Gives
    /// whether the connection is still there.
    fn take_payload(
        &mut self,
        id: Id,
        segment: &Segment<'_>,
        now_ns: u64,
        sink: &mut impl Sink,
    ) -> bool {
        let rcv = self.table.get(id).tcb.rcv;
        let behind = segment.sequence.wrapping_add(segment.payload.len() as u32);
        let has_fin = segment.has(flags::FIN);
        let is_known = before(behind, rcv) || (behind == rcv && !has_fin);
        if after(segment.sequence, rcv) || is_known {
            self.send_ack(id, now_ns, sink);
            return true;
        }
        let known = rcv.wrapping_sub(segment.sequence) as usize;
        match self.take_request(id, &segment.payload[known..]) {
            Verdict::Right => {}
            Verdict::NotNow => return true,
            Verdict::Wrong => {
                self.send_reset(id, now_ns, sink);
                self.end(id, ServerEnd::RequestWrong);
                return false;
            }
        }
        let tcb = &mut self.table.get_mut(id).tcb;
        tcb.rcv = behind;
        if has_fin {
            tcb.rcv = behind.wrapping_add(1);
            tcb.set(flag::PEER_DONE);
        }
        if !tcb.is(flag::OWES) {
            tcb.set(flag::OWES);
            self.owing.push(id);
        }
        true
    }

    fn take_request(&mut self, id: Id, octets: &[u8]) -> Verdict {
        let connection = self.table.get_mut(id);
        if octets.is_empty() {
            return Verdict::Right;
        }
        if connection.state != State::Request || connection.tcb.is(flag::FIN) {
            return Verdict::NotNow;
        }
        let offset = connection.tcb.rcv.wrapping_sub(connection.receive_base);
        if offset == 0 {
            let own = Exchange::of_request(octets).map(|exchange| (exchange, talk::OWN));
            let common = || Exchange::of_common_request(octets).map(|exchange| (exchange, 0));
            let Some((exchange, kind)) = own.or_else(common) else {
                // The rest of its head may stand in the next segment: it comes again with it.
                let is_short = octets.len() < MIN_REQUEST_BYTES as usize;
                return if is_short {
                    Verdict::NotNow
                } else {
                    Verdict::Wrong
                };
            };
            connection.key = [exchange.key as u32, (exchange.key >> 32) as u32];
            connection.request_bytes = exchange.request_bytes as u16;
            connection.body_bytes = exchange.body_bytes;
            let closes = if exchange.server_closes {
                talk::CLOSES
            } else {
                0
            };
            connection.talk = kind | closes;
        }
        let exchange = connection.exchange();
        let is_within = offset + octets.len() as u32 <= exchange.request_bytes;
        let is_right =
            is_within && (connection.talk & talk::OWN == 0 || exchange.is_request(offset, octets));
        if is_right {
            Verdict::Right
        } else {
            Verdict::Wrong
        }
    }

    /// After each segment: what became possible by it.
    fn go_on(&mut self, id: Id, now_ns: u64, sink: &mut impl Sink) {
        let connection = self.table.get_mut(id);
        let is_done = connection.tcb.is(flag::PEER_DONE);
        let came = connection.tcb.rcv.wrapping_sub(connection.receive_base);
        let octets = came.wrapping_sub(u32::from(is_done));
        let is_whole = octets > 0 && octets == u32::from(connection.request_bytes);
        if connection.state == State::Request && is_whole && !connection.tcb.is(flag::FIN) {
            connection.state = State::Response;
            self.counters.requests += 1;
            if connection.talk & talk::CLOSES != 0 {
                connection.tcb.set(flag::FIN);
            }
        }
        if is_done {
            connection.tcb.set(flag::FIN);
        }
        self.pump(id, now_ns, sink);
        let connection = self.table.get(id);
        let behind = connection.send_end().wrapping_add(1);
        if is_done && connection.tcb.una == behind {
            if connection.tcb.is(flag::OWES) {
                self.send_ack(id, now_ns, sink);
            }
            self.end(id, ServerEnd::Closed);
        }
    }
}
