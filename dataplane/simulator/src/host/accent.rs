//! How a host's stack speaks, where that is not the stack's own manner: first numbers that follow a
//! clock (RFC 6528), as Linux chooses them, and windows told in coarser units.
//!
//! It stands between the stack and the link and translates both ways, so that neither end of a
//! connection can tell. It also remembers of each connection what a stack needs to know in
//! TIME-WAIT.

use std::collections::{BTreeMap, VecDeque};

use crate::frame::{self, Edit, Ends, Frame, Mac, Segment, flag};

/// A host's manner of speaking TCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Whether a connection's first number is that of its clock, and not a random one.
    pub clock: bool,
    /// The window scale that is offered, where the stack's own is smaller. At most 14
    /// (RFC 7323 §2.3).
    pub scale: u8,
    /// What its first numbers are keyed by.
    pub key: u64,
}

impl Manner {
    /// The receive buffer below which a window would be hardly more than one unit.
    #[must_use]
    pub fn smallest_buffer(self) -> usize {
        4 << self.scale
    }
}

/// How many connections a host remembers.
const REMEMBERED: usize = 4096;
/// How long the clock of first numbers takes for one of them.
const TICK_NS: u64 = 64;

/// The largest scale that the stack is shown of a peer's. Windows in coarse units shrink by parts of
/// one, which the stack cannot bear (it should: RFC 9293 §3.8.6.2.1).
const FINE_SCALE: u8 = 3;
const LARGEST_SCALE: u8 = 14;
/// The largest window where units are coarse: what a window field can say without a scale.
const LARGEST_COARSE: u32 = 0xffff;

/// What is known of one connection of the host's.
#[derive(Clone, Copy, Debug, Default)]
struct Voice {
    /// The first number as the stack chose it.
    own_first: Option<u32>,
    /// What is added to the stack's numbers.
    delta: u32,
    /// The stack's own scale, and the one that the peer was told, if that is another.
    scales: Option<(u8, u8)>,
    /// One past the highest number that was sent.
    next: u32,
    /// One past the FIN that was sent.
    fin_end: Option<u32>,
    /// The last acknowledgement that was sent: the next number expected.
    expected: u32,
    /// The last timestamp that was echoed.
    echoed: Option<u32>,
    /// The last window that was told.
    window: u16,
    /// The scale of the stack's own windows.
    shift: u8,
    /// How far the stack's last window reached.
    reach: Option<u32>,
    /// The scale of the last SYN that came.
    asked_scale: Option<u8>,
    /// The peer's scale, if it is hidden from the stack.
    hidden_scale: Option<u8>,
    /// How far the peer's windows have ever reached, where its scale is hidden.
    offered: Option<u32>,
    /// Whether that is what a SYN-ACK said, which may be a guard's guess.
    is_guess: bool,
}

impl Voice {
    /// The field that the stack is shown for a window field of the peer's.
    fn refine(&mut self, acknowledgement: u32, window: u16, scale: u8) -> u16 {
        const NEAR: u32 = 1 << 20;
        let mut bytes = (u32::from(window) << scale).min(LARGEST_COARSE);
        let edge = acknowledgement.wrapping_add(bytes);
        // What acknowledges other numbers than ours is not the peer's.
        if self.next.wrapping_sub(acknowledgement) < NEAR {
            let offered = self.offered.filter(|offered| {
                let is_withdrawn = self.is_guess && offered.wrapping_sub(edge) >> scale != 0;
                !is_withdrawn
            });
            self.is_guess = false;
            match offered {
                Some(offered) if edge.wrapping_sub(offered) > NEAR => {
                    bytes = offered.wrapping_sub(acknowledgement).min(LARGEST_COARSE);
                }
                _ => self.offered = Some(edge),
            }
        }
        bytes as u16
    }
}

/// Translates between a stack and its link.
#[derive(Debug)]
pub(super) struct Accent {
    manner: Manner,
    /// By the ends as the host sees them.
    voices: BTreeMap<Ends, Voice>,
    order: VecDeque<Ends>,
}

/// What a host in TIME-WAIT thinks of a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opinion {
    /// It is newer than the last connection, which may be forgotten (RFC 9293 §3.10.7.4, RFC 6191).
    New,
    /// It may be a late one of the last connection.
    Doubtful,
}

impl Accent {
    pub(super) fn new(manner: Manner) -> Self {
        Self {
            manner,
            voices: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }

    /// A frame leaves the stack.
    pub(super) fn speak(&mut self, frame: &mut [u8], now_ns: u64) {
        let Some(mut edit) = Edit::of(frame) else {
            return;
        };
        let ends = edit.ends();
        if edit.has(flag::SYN) {
            self.begin(ends, &mut edit, now_ns);
        }
        let Some(voice) = self.voices.get_mut(&ends) else {
            return;
        };
        edit.set_sequence(edit.sequence().wrapping_add(voice.delta));
        let bytes = match edit.has(flag::SYN) {
            true => u32::from(edit.window()),
            false => u32::from(edit.window()) << voice.shift,
        };
        if let Some((own, told)) = voice.scales.filter(|_| !edit.has(flag::SYN)) {
            // Never more than there is: the stack's sender does not repeat what its receiver cut off.
            let bytes = (u32::from(edit.window()) << own).min(LARGEST_COARSE);
            edit.set_window((bytes >> told) as u16);
        }
        if edit.has(flag::RST) {
            return edit.seal();
        }
        if edit.end().wrapping_sub(voice.next) < 1 << 31 {
            voice.next = edit.end();
        }
        if edit.has(flag::FIN) {
            voice.fin_end = Some(edit.end());
        }
        if edit.has(flag::ACK) {
            voice.expected = edit.acknowledgement();
            voice.reach = Some(voice.expected.wrapping_add(bytes));
            voice.echoed = edit.timestamps().map(|(_, echo)| echo);
            voice.window = edit.window();
        }
        edit.seal();
    }

    /// A frame comes to the stack.
    pub(super) fn hear(&mut self, frame: &mut [u8]) {
        let Some(mut edit) = Edit::of(frame) else {
            return;
        };
        let own = edit.ends().reversed();
        // RFC 7323 §2.3
        let scale = edit.window_scale().map(|scale| scale.min(LARGEST_SCALE));
        if edit.has(flag::SYN) && !edit.has(flag::ACK) {
            self.voice(own).asked_scale = scale;
        }
        let Some(voice) = self.voices.get_mut(&own) else {
            return;
        };
        let first = voice.own_first.unwrap_or(0).wrapping_add(voice.delta);
        let is_syn = edit.has(flag::SYN);
        if is_syn && edit.has(flag::ACK) && edit.acknowledgement() == first.wrapping_add(1) {
            // A peer that does not scale takes our windows as they stand (RFC 7323 §2.2).
            voice.scales = voice.scales.filter(|_| scale.is_some());
            voice.shift = scale.map_or(0, |_| voice.shift);
            voice.hidden_scale = scale.filter(|&scale| scale > FINE_SCALE);
            voice.refine(edit.acknowledgement(), edit.window(), 0);
            voice.is_guess = true;
        } else if let Some(scale) = voice.hidden_scale.filter(|_| !is_syn) {
            let window = voice.refine(edit.acknowledgement(), edit.window(), scale);
            edit.set_window(window);
        }
        // Who has sent all needs no window. The stack, told that there is none, would probe for one
        // without end.
        if voice
            .fin_end
            .is_some_and(|end| end == edit.acknowledgement())
            && edit.window() == 0
        {
            edit.set_window(1);
        }
        if is_syn && scale.is_some_and(|scale| scale > FINE_SCALE) {
            edit.set_window_scale(0);
        }
        if is_syn
            && edit.has(flag::ACK)
            && let Some(echoed) = voice.echoed
        {
            // It is none of this connection's, and what it says is not to be echoed (RFC 7323 §4.3);
            // the stack would.
            edit.set_timestamp(echoed);
        }
        // What lies beyond the window is cut off, and a FIN with it (RFC 9293 §3.10.7.4); the stack
        // would cut the data alone.
        let data_end = edit.end().wrapping_sub(1);
        let is_cut = |reach| (1..1 << 31).contains(&data_end.wrapping_sub(reach));
        if edit.has(flag::FIN) && !is_syn && voice.reach.is_some_and(is_cut) {
            edit.clear(flag::FIN);
        }
        if edit.has(flag::ACK) {
            edit.set_acknowledgement(edit.acknowledgement().wrapping_sub(voice.delta));
            edit.shift_sack(voice.delta.wrapping_neg());
        }
        edit.seal();
    }

    /// What is known of this connection, if only from now on.
    fn voice(&mut self, own: Ends) -> &mut Voice {
        if !self.voices.contains_key(&own) {
            if self.order.len() == REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.voices.remove(&oldest);
            }
            self.order.push_back(own);
        }
        self.voices.entry(own).or_default()
    }

    /// A SYN or SYN-ACK leaves: the first of its connection, or a repetition.
    fn begin(&mut self, ends: Ends, edit: &mut Edit<'_>, now_ns: u64) {
        let own_first = edit.sequence();
        let own_scale = edit.window_scale();
        let told_scale = own_scale.map(|own| own.max(self.manner.scale));
        if let Some(told) = told_scale {
            edit.set_window_scale(told);
        }
        let first = match self.manner.clock {
            true => self.clock(ends, now_ns),
            false => own_first,
        };
        let voice = self.voice(ends);
        if voice.own_first == Some(own_first) {
            return;
        }
        let asked_scale = voice.asked_scale.filter(|_| edit.has(flag::ACK));
        *voice = Voice {
            own_first: Some(own_first),
            delta: first.wrapping_sub(own_first),
            scales: own_scale.zip(told_scale).filter(|(own, told)| own < told),
            next: first,
            shift: own_scale.unwrap_or(0),
            hidden_scale: asked_scale.filter(|&scale| scale > FINE_SCALE),
            ..Voice::default()
        };
    }

    /// The clock's number for a connection between these ends.
    fn clock(&self, ends: Ends, now_ns: u64) -> u32 {
        let mut mixed = self.manner.key;
        let addresses = [ends.source, ends.destination].map(|address| match address {
            std::net::IpAddr::V4(address) => u128::from(address.to_bits()),
            std::net::IpAddr::V6(address) => address.to_bits(),
        });
        let ports = u64::from(ends.source_port) << 16 | u64::from(ends.destination_port);
        let halves = addresses.map(|bits| [bits as u64, (bits >> 64) as u64]);
        for word in halves.into_iter().flatten().chain([ports]) {
            mixed = (mixed ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed ^= mixed >> 29;
        }
        (mixed as u32).wrapping_add((now_ns / TICK_NS) as u32)
    }

    /// What to think of a SYN for a connection in TIME-WAIT; `ends` are the host's view.
    pub(super) fn judge(&self, ends: Ends, syn: &Segment) -> Opinion {
        let Some(voice) = self.voices.get(&ends) else {
            return Opinion::New;
        };
        let is_beyond = (1..1 << 31).contains(&syn.sequence.wrapping_sub(voice.expected));
        let stamps = syn.timestamps().zip(voice.echoed);
        let is_newer = stamps
            .is_some_and(|((value, _), echoed)| (1..1 << 31).contains(&value.wrapping_sub(echoed)));
        if is_beyond || is_newer {
            Opinion::New
        } else {
            Opinion::Doubtful
        }
    }

    /// The ACK that says where a connection stands, for a SYN that does not fit (RFC 5961 §4).
    pub(super) fn challenge(&self, own: Mac, peer: Mac, ends: Ends) -> Option<Vec<u8>> {
        let voice = self.voices.get(&ends)?;
        let segment = Segment {
            source_port: ends.source_port,
            destination_port: ends.destination_port,
            sequence: voice.next,
            acknowledgement: voice.expected,
            flags: flag::ACK,
            window: voice.window,
            ..Segment::default()
        };
        Some(Frame::between(own, peer, ends).tcp(&segment))
    }
}

/// Takes the FIN off a segment with data, as a segment of its own behind it. The stack overlooks a FIN
/// behind data of which it has some already, and its peer's stack does not repeat that FIN alone.
pub(super) fn take_fin(frame: &mut [u8]) -> Option<Vec<u8>> {
    let packet = frame::decode(frame)?;
    let segment = packet.segment()?;
    let ends_data = segment.flags & (flag::FIN | flag::SYN | flag::RST) == flag::FIN
        && !segment.payload.is_empty();
    if !ends_data {
        return None;
    }
    let fin = Segment {
        sequence: segment.end().wrapping_sub(1),
        payload: Vec::new(),
        ..segment.clone()
    };
    let layers = Frame {
        to_station: packet.to_station,
        from_station: packet.from_station,
        source: packet.source,
        destination: packet.destination,
        ttl: packet.ttl,
        traffic_class: packet.traffic_class,
        identification: 0,
    };
    let mut edit = Edit::of(frame)?;
    edit.clear(flag::FIN);
    edit.seal();
    Some(layers.tcp(&fin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{TcpOption, decode, verify};
    use crate::site::{self, Family};

    fn ends() -> Ends {
        Ends {
            source: site::outside_address(Family::V4, 20),
            source_port: 40_000,
            destination: site::inside_address(Family::V4, 10),
            destination_port: 80,
        }
    }

    fn said(ends: Ends, segment: Segment) -> Vec<u8> {
        let segment = Segment {
            source_port: ends.source_port,
            destination_port: ends.destination_port,
            ..segment
        };
        Frame::between([2; 6], [4; 6], ends).tcp(&segment)
    }

    fn read(frame: &[u8]) -> Segment {
        verify(frame).expect("a right checksum");
        let packet = decode(frame).expect("a packet");
        packet.segment().expect("a segment").clone()
    }

    fn syn(sequence: u32) -> Segment {
        Segment {
            sequence,
            flags: flag::SYN,
            window: 60_000,
            options: vec![TcpOption::Nop, TcpOption::WindowScale(2)],
            ..Segment::default()
        }
    }

    fn accent() -> Accent {
        Accent::new(Manner {
            clock: true,
            scale: 10,
            key: 5,
        })
    }

    #[test]
    fn both_ends_see_one_connection() {
        let mut accent = accent();
        let mut frame = said(ends(), syn(1000));
        accent.speak(&mut frame, 6400);
        let sent = read(&frame);
        assert_eq!(sent.window_scale(), Some(10));
        let mut again = said(ends(), syn(1000));
        accent.speak(&mut again, 64_000);
        assert_eq!(read(&again).sequence, sent.sequence, "a repeated SYN");

        let answer = Segment {
            sequence: 7,
            acknowledgement: sent.sequence.wrapping_add(1),
            flags: flag::SYN | flag::ACK,
            options: vec![
                TcpOption::WindowScale(3),
                TcpOption::Nop,
                TcpOption::Sack(vec![(sent.sequence, sent.sequence.wrapping_add(9))]),
            ],
            ..Segment::default()
        };
        let mut frame = said(ends().reversed(), answer);
        accent.hear(&mut frame);
        let heard = read(&frame);
        assert_eq!((heard.acknowledgement, heard.sequence), (1001, 7));
        assert_eq!(heard.options[2], TcpOption::Sack(vec![(1000, 1009)]));

        for (window, told) in [(0, 0), (255, 0), (256, 1), (512, 2), (60_000, 63)] {
            let ack = Segment {
                sequence: 1001,
                acknowledgement: 8,
                flags: flag::ACK,
                window,
                ..Segment::default()
            };
            let mut frame = said(ends(), ack);
            accent.speak(&mut frame, 0);
            let ack = read(&frame);
            assert_eq!(ack.sequence, sent.sequence.wrapping_add(1));
            assert_eq!((ack.acknowledgement, ack.window), (8, told));
        }
    }

    #[test]
    fn the_clock_takes_64_ns_for_a_number() {
        let mut accent = accent();
        let mut first = |own, now_ns| {
            let mut frame = said(ends(), syn(own));
            accent.speak(&mut frame, now_ns);
            read(&frame).sequence
        };
        let (early, late) = (first(1, 1_000_000), first(2, 2_000_000));
        assert_eq!(late.wrapping_sub(early), 15_625);
    }

    #[test]
    fn a_peer_that_does_not_scale_gets_windows_as_they_are() {
        let mut accent = accent();
        let mut frame = said(ends(), syn(1000));
        accent.speak(&mut frame, 0);
        let answer = Segment {
            acknowledgement: read(&frame).end(),
            flags: flag::SYN | flag::ACK,
            ..Segment::default()
        };
        accent.hear(&mut said(ends().reversed(), answer));
        let ack = Segment {
            flags: flag::ACK,
            window: 999,
            ..Segment::default()
        };
        let mut frame = said(ends(), ack);
        accent.speak(&mut frame, 0);
        assert_eq!(read(&frame).window, 999);
    }

    #[test]
    fn a_fin_beyond_the_window_is_cut_off_with_the_data_before_it() {
        let mut accent = accent();
        accent.speak(&mut said(ends(), syn(1000)), 0);
        let answer = Segment {
            sequence: 6,
            acknowledgement: 1001,
            flags: flag::SYN | flag::ACK,
            ..syn(0)
        };
        accent.hear(&mut said(ends().reversed(), answer));
        let ack = Segment {
            sequence: 1001,
            acknowledgement: 7,
            flags: flag::ACK,
            window: 25,
            ..Segment::default()
        };
        accent.speak(&mut said(ends(), ack), 0);
        let mut ends_with = |octets| {
            let segment = Segment {
                sequence: 7,
                flags: flag::FIN | flag::ACK,
                payload: vec![1; octets],
                ..Segment::default()
            };
            let mut frame = said(ends().reversed(), segment);
            accent.hear(&mut frame);
            read(&frame).has(flag::FIN)
        };
        // A window of 25 in units of four bytes.
        assert!(ends_with(100));
        assert!(!ends_with(101));
    }

    #[test]
    fn a_strange_syn_ack_is_not_echoed() {
        let mut accent = accent();
        let stamped = |flags, value, echo| Segment {
            flags,
            options: vec![TcpOption::Timestamps { value, echo }],
            ..syn(1000)
        };
        accent.speak(&mut said(ends(), stamped(flag::SYN, 1, 0)), 0);
        let hear = |accent: &mut Accent, value| {
            let answer = stamped(flag::SYN | flag::ACK, value, 1);
            let mut frame = said(ends().reversed(), answer);
            accent.hear(&mut frame);
            read(&frame).timestamps()
        };
        assert_eq!(hear(&mut accent, 70), Some((70, 1)), "the server's own");
        accent.speak(&mut said(ends(), stamped(flag::ACK, 2, 70)), 0);
        assert_eq!(hear(&mut accent, 9999), Some((70, 1)));
    }

    /// An accent whose connection is open: own numbers from 1001, and a SYN-ACK whose window was
    /// 60000 bytes, and is now in units of 128.
    fn opened() -> Accent {
        let mut accent = Accent::new(Manner::default());
        accent.speak(&mut said(ends(), syn(1000)), 0);
        let answer = Segment {
            acknowledgement: 1001,
            flags: flag::SYN | flag::ACK,
            options: vec![TcpOption::WindowScale(7)],
            ..syn(0)
        };
        accent.hear(&mut said(ends().reversed(), answer));
        accent
    }

    /// The window that the stack is shown for this one.
    fn shown(accent: &mut Accent, acknowledgement: u32, window: u16) -> u16 {
        let ack = Segment {
            acknowledgement,
            flags: flag::ACK,
            window,
            ..Segment::default()
        };
        let mut frame = said(ends().reversed(), ack);
        accent.hear(&mut frame);
        read(&frame).window
    }

    #[test]
    fn a_window_does_not_shrink_by_a_part_of_its_unit() {
        let mut accent = opened();
        // 468 units are 59904 bytes.
        assert_eq!(shown(&mut accent, 1001, 468), 60_000);
        assert_eq!(shown(&mut accent, 1001, 467), 60_000);
    }

    #[test]
    fn a_window_that_a_syn_ack_guessed_may_be_withdrawn() {
        let mut accent = opened();
        assert_eq!(shown(&mut accent, 1001, 20), 2560);
        assert_eq!(shown(&mut accent, 1001, 19), 2560);
    }

    #[test]
    fn who_has_sent_all_is_told_of_no_empty_window() {
        let mut accent = opened();
        let fin = Segment {
            sequence: 1001,
            flags: flag::FIN | flag::ACK,
            ..Segment::default()
        };
        assert_eq!(shown(&mut accent, 1001, 0), 0);
        accent.speak(&mut said(ends(), fin), 0);
        assert_eq!(shown(&mut accent, 1001, 0), 0);
        assert_eq!(shown(&mut accent, 1002, 0), 1);
    }

    #[test]
    fn a_later_syn_replaces_what_waits_and_an_earlier_one_does_not() {
        let mut accent = accent();
        let answer = Segment {
            acknowledgement: 5001,
            flags: flag::SYN | flag::ACK,
            ..syn(9)
        };
        accent.speak(&mut said(ends(), answer), 0);
        assert_eq!(accent.judge(ends(), &syn(5002)), Opinion::New);
        assert_eq!(accent.judge(ends(), &syn(5001)), Opinion::Doubtful);
        assert_eq!(accent.judge(ends(), &syn(4000)), Opinion::Doubtful);
    }
}
