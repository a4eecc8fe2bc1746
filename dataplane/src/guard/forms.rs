//! What a usual SYN is answered, found out once for each form of SYN. The SYNs of a flood differ in
//! their connections and in nothing that is agreed on.

use super::answer::{NO_OPTIONS, Options};
use super::cookie::Statement;
use super::handshake::agree;
use super::server::ServerTraits;
use super::splice::Segment;
use crate::keyed::Spread;
use crate::limits::SYN_FORMS;
use crate::parse::flags;
use crate::usual::{OPTIONS, Usual};
use crate::wire::address::Family;
use crate::wire::tcp_options::{TcpOptions, Timestamps, USUAL_SYN_BYTES, parse_usual_syn};

/// All of a usual SYN that decides on its answer, but for the cookie's codes. From the highest bit on: the
/// place of its server, its port, its MSS, its window scale, its flags of ECN together with
/// [`WITH_OPTIONS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form(u64);

/// Set if a SYN bears the options that nearly everyone sends, and not if it bears none. It stands where
/// FIN stands among the flags, which no SYN has.
const WITH_OPTIONS: u8 = 1;
const ECN: u8 = flags::ECE | flags::CWR;

impl Form {
    /// The form of no SYN: more flags are set than any SYN's form has.
    const NONE: Self = Self(u64::MAX);

    /// The form of a SYN for the server at `place`. `None` if it is no SYN, or bears other options than
    /// those that nearly everyone sends.
    #[inline(always)]
    pub(super) fn of(bytes: &[u8], usual: &Usual, place: u16) -> Option<Self> {
        const KIND: u8 = flags::SYN | flags::ACK | flags::FIN | flags::RST;
        const FULL: usize = OPTIONS + USUAL_SYN_BYTES;
        if usual.tcp_flags & KIND != flags::SYN {
            return None;
        }
        let said = match usize::from(usual.payload) {
            OPTIONS => 0,
            FULL => {
                let syn = parse_usual_syn(bytes.get(OPTIONS..)?.first_chunk()?)?;
                u32::from(syn.mss) << 16
                    | u32::from(syn.window_scale) << 8
                    | u32::from(WITH_OPTIONS)
            }
            _ => return None,
        };
        let said = said | u32::from(usual.tcp_flags & ECN);
        let service = u32::from(place) << 16 | u32::from(usual.destination_port());
        Some(Self(u64::from(service) << 32 | u64::from(said)))
    }

    #[inline]
    pub(super) fn place(self) -> u16 {
        (self.0 >> 48) as u16
    }

    #[inline]
    pub(super) fn port(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// A SYN of this form.
    fn example(self) -> Segment {
        let stamps = Timestamps {
            value: 0,
            echo: 0,
            offset: 0,
        };
        let options = if self.0 as u8 & WITH_OPTIONS == 0 {
            TcpOptions::default()
        } else {
            TcpOptions {
                mss: Some((self.0 >> 16) as u16),
                window_scale: Some((self.0 >> 8) as u8),
                sack_permitted: true,
                timestamps: Some(stamps),
                ..TcpOptions::default()
            }
        };
        Segment {
            sequence: 0,
            acknowledgement: 0,
            length: 1,
            window: 0,
            flags: flags::SYN | self.0 as u8 & ECN,
            options,
        }
    }
}

/// What SYNs of a form are answered.
///
/// It follows from the configuration and from what is known of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// What the cookie says of it.
    pub(super) statement: Statement,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) offer: Offer,
}

/// The options of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// What nearly every client offers and every server does: all of them.
    All {
        /// The server's maximum segment size.
        mss: u16,
        /// Its window scale.
        window_scale: u8,
    },
    /// Some of them. Timestamps are to be filled in where they are.
    Some(Options),
    /// The SYN's MSS is smaller than can be told: it is not answered.
    Refused,
}

impl Terms {
    /// The terms of a form, for a service with these traits; clients are told `largest_mss` at most.
    pub(super) fn of(form: Form, traits: &ServerTraits, largest_mss: u16) -> Self {
        let read = form.example();
        let agreed = agree(&read, Family::V4, traits);
        let ecn = if agreed.ecn { flags::ECE } else { 0 };
        let mss = read.options.mss.map(|_| traits.mss.min(largest_mss));
        let offer = match (mss, agreed.told_scale) {
            _ if read.is_mss_too_small() => Offer::Refused,
            (Some(mss), Some(window_scale)) if agreed.sack && agreed.timestamps => {
                Offer::All { mss, window_scale }
            }
            (mss, window_scale) => Offer::Some(Options {
                mss,
                window_scale,
                sack_permitted: agreed.sack,
                timestamps: agreed.timestamps.then_some((0, 0)),
            }),
        };
        Self {
            statement: Statement::of(agreed),
            flags: flags::SYN | flags::ACK | ecn,
            window: traits.window,
            offer,
        }
    }

    const NONE: Self = Self {
        statement: Statement::NONE,
        flags: 0,
        window: 0,
        offer: Offer::Some(NO_OPTIONS),
    };
}

const _: () = assert!(SYN_FORMS.is_power_of_two());

/// One cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Slot {
    form: Form,
    /// [`super::server::ServerTable::changes`] when the terms were found out. Another count makes them
    /// void.
    changes: u64,
    terms: Terms,
}

const _: () = assert!(size_of::<Slot>() == 64);

/// The terms of the last forms of SYNs. One that takes the slot of another only has that one's terms
/// found out again.
#[derive(Debug)]
pub(super) struct FormTable {
    slots: Box<[Slot; SYN_FORMS]>,
    spread: Spread,
}

impl FormTable {
    /// None is known. `secret` keeps strangers from choosing forms that take each other's slots.
    pub(super) fn new(secret: u64) -> Self {
        let empty = Slot {
            form: Form::NONE,
            changes: 0,
            terms: Terms::NONE,
        };
        Self {
            slots: Box::new([empty; SYN_FORMS]),
            spread: Spread::new(secret),
        }
    }

    #[inline(always)]
    fn slot(&self, form: Form) -> usize {
        self.spread.place::<SYN_FORMS>(form.0)
    }

    /// Whether the form's terms are remembered.
    #[inline(always)]
    pub(super) fn has(&self, form: Form, changes: u64) -> bool {
        let slot = &self.slots[self.slot(form)];
        slot.form == form && slot.changes == changes
    }

    /// Its terms, if so.
    #[inline(always)]
    pub(super) fn at(&self, form: Form) -> &Terms {
        &self.slots[self.slot(form)].terms
    }

    /// Remembers a form's terms.
    pub(super) fn remember(&mut self, form: Form, changes: u64, terms: Terms) {
        let slot = self.slot(form);
        self.slots[slot] = Slot {
            form,
            changes,
            terms,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::server::ServerTraits;
    use crate::wire::tcp_options::SynOptions;

    const TRAITS: ServerTraits = ServerTraits::assumed(Family::V4);

    /// The form of a SYN to port 80 of the server at place 3.
    fn form(tcp_flags: u8, options: &SynOptions) -> Option<Form> {
        let mut bytes = [0; OPTIONS + 40];
        let into = bytes[OPTIONS..].first_chunk_mut().unwrap();
        let payload = (OPTIONS + options.write(into)) as u16;
        let usual = Usual {
            ports: 40_000 << 16 | 80,
            end: payload,
            payload,
            tcp_flags,
            ..Usual::NONE
        };
        Form::of(&bytes[..usize::from(payload)], &usual, 3)
    }

    fn all(mss: u16, window_scale: u8) -> SynOptions {
        SynOptions {
            mss: Some(mss),
            window_scale: Some(window_scale),
            sack_permitted: true,
            timestamps: Some((7, 0)),
        }
    }

    #[test]
    fn a_form_is_what_the_answer_depends_on_and_nothing_else() {
        let one = form(flags::SYN, &all(1460, 7)).unwrap();
        assert_eq!((one.place(), one.port()), (3, 80));
        let later = SynOptions {
            timestamps: Some((8, 0)),
            ..all(1460, 7)
        };
        assert_eq!(form(flags::SYN, &later), Some(one));
        assert_eq!(form(flags::SYN | flags::PSH, &later), Some(one));
        let others = [
            form(flags::SYN, &all(1459, 7)),
            form(flags::SYN, &all(1460, 8)),
            form(flags::SYN | flags::ECE | flags::CWR, &all(1460, 7)),
            form(flags::SYN, &NO_OPTIONS),
        ];
        for other in others {
            assert!(other.is_some_and(|other| other != one));
        }
    }

    #[test]
    fn what_is_no_usual_syn_has_no_form() {
        let stamps_only = SynOptions {
            timestamps: Some((7, 0)),
            ..NO_OPTIONS
        };
        assert_eq!(form(flags::SYN, &stamps_only), None);
        for more in [flags::ACK, flags::RST, flags::FIN] {
            assert_eq!(form(flags::SYN | more, &all(1460, 7)), None);
        }
    }

    #[test]
    fn an_answer_bears_what_both_sides_do() {
        let of = |options: &SynOptions, traits: &ServerTraits| {
            Terms::of(form(flags::SYN, options).unwrap(), traits, 1400).offer
        };
        let offer = Offer::All {
            mss: 1400,
            window_scale: 7,
        };
        assert_eq!(of(&all(1460, 9), &TRAITS), offer);
        assert_eq!(of(&NO_OPTIONS, &TRAITS), Offer::Some(NO_OPTIONS));
        assert_eq!(of(&all(47, 9), &TRAITS), Offer::Refused);
        let plain = ServerTraits {
            timestamps: false,
            window_scale: None,
            mss: 1300,
            ..TRAITS
        };
        let some = Options {
            mss: Some(1300),
            sack_permitted: true,
            ..NO_OPTIONS
        };
        assert_eq!(of(&all(1460, 9), &plain), Offer::Some(some));
    }

    #[test]
    fn terms_are_void_once_more_is_known_of_servers() {
        let mut table = FormTable::new(1);
        let one = form(flags::SYN, &all(1460, 7)).unwrap();
        let terms = Terms::of(one, &TRAITS, 1400);
        assert!(!table.has(one, 1));
        table.remember(one, 1, terms);
        assert!(table.has(one, 1) && *table.at(one) == terms);
        assert!(!table.has(one, 2));
    }
}
