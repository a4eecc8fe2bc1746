//! Which of the echoes that carried a SYN came back, and what that says of the SYNs to come.
//!
//! A server is judged by the share of its echoes that comes back: one reply says little, since what
//! limits pings lets some of them through. While too few come back its SYNs are answered at once, and
//! what is sent to ask whether that has changed costs no client anything.

#[cfg(test)]
mod tests;

use crate::counters::Event;
use crate::flow::table::Hash;
use crate::limits::{MAX_ECHOES_IN_FLIGHT, MAX_ECHOES_PER_SECOND, MAX_ECHOES_REMEMBERED};

const MS: u64 = 1_000_000;
const SECOND_NS: u64 = 1000 * MS;
/// For how long no echo may come back before its server is taken for silent: less than the second
/// after which a client repeats its SYN (RFC 6298 §2).
const SILENCE_NS: u64 = 900 * MS;
/// The same where this many are out.
const SILENCE_OF_MANY_NS: u64 = 300 * MS;
const MANY: u32 = 8;
/// How long a worker goes on looking before it believes the shorter silence: it may have slept, and
/// the replies may stand in its queue.
const DOUBT_NS: u64 = 50 * MS;
/// An echo that others have overtaken for so long is lost.
const ORDER_NS: u64 = 5 * MS;
/// How many lost echoes are too many, if they are also more than one of [`SHARE`].
const FEW_LOST: u32 = 4;
const SHARE: u32 = 16;
/// How often a silent server is asked again.
const PROBE_INTERVAL_NS: u64 = 5 * SECOND_NS;
/// How long a server is left alone after too few echoes came back, at first and at most. It doubles
/// with each time.
const HOLD_NS: u64 = 5 * SECOND_NS;
const MAX_HOLD_NS: u64 = 320 * SECOND_NS;
/// A server that has answered for so long is a new one.
const GOOD_NS: u64 = 600 * SECOND_NS;
/// How long a trial takes at least: longer than the burst that a limit lets through lasts.
const TRIAL_NS: u64 = SECOND_NS;
const TRIAL_ECHOES: u32 = 8;
/// One of so many SYNs is carried in a trial whose echoes may come back to another guard.
const CARRIED_OF_TRIAL: u32 = 16;
/// For how long after a cookie of our own a good one says nothing of the echo.
const OWN_COOKIE_NS: u64 = 5 * SECOND_NS;

/// What is known of a server's answering of pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EchoStanding {
    /// Echoes come back, as far as is known.
    Answers,
    /// Too few come back: its SYNs are answered by us.
    Limited,
    /// None comes back: its SYNs are answered by us.
    Silent,
    /// It is not asked.
    Off,
}

impl EchoStanding {
    /// The word shown to people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Answers => "answers",
            Self::Limited => "limited",
            Self::Silent => "silent",
            Self::Off => "off",
        }
    }
}

/// What is to become of a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    Carry,
    Answer,
    /// It is answered, and a copy is carried to see whether that comes back.
    AnswerAndProbe,
}

/// The numbers of echoes, and which of them came back.
///
/// Only what came back moves it on, so it need not know how long an echo takes.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// The last echo that was sent.
    last: u32,
    /// The last one that is not counted.
    base: u32,
    /// The highest one that came back, and which of it and the 127 before did.
    highest: u32,
    back: u128,
    /// Up to here nothing is expected any more.
    settled: u32,
    settling: u32,
    settling_ns: u64,
}

impl Tally {
    fn send(&mut self) -> u32 {
        self.last = self.last.wrapping_add(1);
        self.last
    }

    /// Forgets what came of the echoes so far.
    fn begin(&mut self, now_ns: u64) {
        *self = Self {
            last: self.last,
            base: self.last,
            highest: self.last,
            settled: self.last,
            settling: self.last,
            settling_ns: now_ns,
            back: 0,
        };
    }

    fn come_back(&mut self, number: u32, now_ns: u64) {
        let ahead = number.wrapping_sub(self.highest).cast_signed();
        if number.wrapping_sub(self.base).cast_signed() <= 0 {
            return;
        }
        if ahead > 0 {
            self.back = self.back.checked_shl(ahead.unsigned_abs()).unwrap_or(0) | 1;
            self.highest = number;
        } else {
            self.back |= 1u128.checked_shl(ahead.unsigned_abs()).unwrap_or(0);
        }
        self.settle(now_ns);
    }

    #[inline]
    fn settle(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.settling_ns) >= ORDER_NS {
            self.settled = self.settling;
            self.settling = self.highest;
            self.settling_ns = now_ns;
        }
    }

    fn has_heard(&self) -> bool {
        self.highest != self.base
    }

    /// How many were sent since the highest one that came back.
    fn in_flight(&self) -> u32 {
        self.last.wrapping_sub(self.highest)
    }

    /// Of the last settled ones, 64 at most, how many there are and how many of them are lost.
    fn lost(&self) -> (u32, u32) {
        let count = self.settled.wrapping_sub(self.base).min(64);
        let before = self.highest.wrapping_sub(self.settled).min(64);
        let window = (self.back >> before) as u64;
        let mask = u64::MAX.checked_shr(64 - count).unwrap_or(0);
        (count, count - (window & mask).count_ones())
    }
}

/// Whether so many of these are too many.
fn is_too_many(lost: u32, of: u32) -> bool {
    lost >= FEW_LOST && lost * SHARE > of
}

/// What a worker knows of one server's echoes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listener {
    standing: EchoStanding,
    /// Since when, as long as it answers.
    since_ns: u64,
    /// Whether it is being tried whether it answers again, and since when.
    trial_ns: Option<u64>,
    /// SYNs of the trial.
    tried: u32,
    /// When it may be asked again.
    probe_ns: u64,
    hold_ns: u64,
    tally: Tally,
    /// When the first echo left since the last sign that one came back, and its number.
    unanswered: Option<(u64, u32)>,
    doubted_ns: Option<u64>,
    own_cookie_ns: Option<u64>,
    /// Whether echoes were seen to come back to another guard. Then what comes back here is no
    /// measure, but what clients say is.
    is_parted: bool,
    /// Clients that acknowledged the cookie for a SYN that was carried here, and clients that had to
    /// repeat one.
    proved: u32,
    repeated: u32,
    second: u64,
    echoes: u32,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            standing: EchoStanding::Answers,
            since_ns: 0,
            trial_ns: None,
            tried: 0,
            probe_ns: 0,
            hold_ns: HOLD_NS,
            tally: Tally::default(),
            unanswered: None,
            doubted_ns: None,
            own_cookie_ns: None,
            is_parted: false,
            proved: 0,
            repeated: 0,
            second: 0,
            echoes: 0,
        }
    }
}

impl Listener {
    pub(super) fn standing(&self) -> EchoStanding {
        self.standing
    }

    /// Whether a SYN may be carried now, so that it matters whether it is a repeated one.
    #[inline]
    pub(super) fn may_carry(&self) -> bool {
        self.standing == EchoStanding::Answers || self.trial_ns.is_some()
    }

    /// Looks whether too few echoes came back by now.
    #[inline]
    pub(super) fn look(&mut self, now_ns: u64) -> Option<Event> {
        if !self.may_carry() {
            return None;
        }
        self.tally.settle(now_ns);
        if self.is_overdue(now_ns) {
            let word = match (self.trial_ns, self.tally.has_heard()) {
                (None, _) => EchoStanding::Silent,
                (Some(_), true) => EchoStanding::Limited,
                (Some(_), false) => self.standing,
            };
            return self.give_up(word, now_ns);
        }
        self.judge(now_ns)
    }

    fn is_overdue(&mut self, now_ns: u64) -> bool {
        // What came back elsewhere told nothing here; what clients repeat will.
        let Some((since_ns, first)) = self.unanswered.filter(|_| !self.is_parted) else {
            return false;
        };
        let age_ns = now_ns.saturating_sub(since_ns);
        if age_ns >= SILENCE_NS {
            return true;
        }
        let is_many = self.tally.last.wrapping_sub(first) + 1 >= MANY;
        if age_ns < SILENCE_OF_MANY_NS || !is_many {
            return false;
        }
        let doubted_ns = *self.doubted_ns.get_or_insert(now_ns);
        now_ns.saturating_sub(doubted_ns) >= DOUBT_NS
    }

    /// Judges by the share of what is settled.
    fn judge(&mut self, now_ns: u64) -> Option<Event> {
        let (count, lost) = match self.is_parted {
            true => (self.proved + self.repeated, self.repeated),
            false => self.tally.lost(),
        };
        if is_too_many(lost, count) {
            return self.give_up(EchoStanding::Limited, now_ns);
        }
        let began_ns = self.trial_ns?;
        let is_long_enough = now_ns.saturating_sub(began_ns) >= TRIAL_NS;
        (is_long_enough && count >= TRIAL_ECHOES).then(|| {
            self.standing = EchoStanding::Answers;
            self.since_ns = now_ns;
            self.trial_ns = None;
            Event::EchoHeard
        })
    }

    #[cold]
    fn give_up(&mut self, word: EchoStanding, now_ns: u64) -> Option<Event> {
        let is_news = self.standing == EchoStanding::Answers;
        let is_new = is_news && now_ns.saturating_sub(self.since_ns) >= GOOD_NS;
        // Who says nothing is asked by one echo now and then, and at once.
        let is_silent = is_news && word == EchoStanding::Silent;
        if is_new {
            self.hold_ns = HOLD_NS;
        }
        self.probe_ns = now_ns;
        if !is_silent {
            self.probe_ns += self.hold_ns;
            self.hold_ns = (self.hold_ns * 2).min(MAX_HOLD_NS);
        }
        (self.standing, self.trial_ns) = (word, None);
        self.begin(now_ns);
        is_news.then_some(match word {
            EchoStanding::Silent => Event::EchoSilent,
            _ => Event::EchoLimited,
        })
    }

    fn begin(&mut self, now_ns: u64) {
        self.tally.begin(now_ns);
        (self.unanswered, self.doubted_ns) = (None, None);
        (self.proved, self.repeated, self.tried) = (0, 0, 0);
    }

    fn begin_trial(&mut self, now_ns: u64) {
        self.begin(now_ns);
        self.trial_ns = Some(now_ns);
    }

    /// What is to become of a SYN that is not repeated. `is_shared`: echoes may come back to another
    /// guard.
    #[inline]
    pub(super) fn choose(&mut self, is_shared: bool, now_ns: u64) -> Course {
        let second = now_ns / SECOND_NS;
        if second != self.second {
            (self.second, self.echoes) = (second, 0);
        }
        let is_parted = is_shared || self.is_parted;
        let wanted = match self.standing {
            EchoStanding::Answers => Course::Carry,
            _ => self.choose_of_few(is_parted, now_ns),
        };
        let has_room = self.echoes < MAX_ECHOES_PER_SECOND
            && (self.is_parted || self.tally.in_flight() < MAX_ECHOES_IN_FLIGHT);
        let course = if has_room { wanted } else { Course::Answer };
        if course != Course::Carry {
            self.own_cookie_ns = Some(now_ns);
        }
        course
    }

    #[cold]
    fn choose_of_few(&mut self, is_parted: bool, now_ns: u64) -> Course {
        if self.trial_ns.is_none() && now_ns < self.probe_ns {
            return Course::Answer;
        }
        if self.trial_ns.is_none() && !is_parted {
            if self.tally.last != self.tally.base {
                // The probe before this one did not come back.
                self.standing = EchoStanding::Silent;
            }
            self.probe_ns = now_ns + PROBE_INTERVAL_NS;
            self.begin(now_ns);
            return Course::AnswerAndProbe;
        }
        if self.trial_ns.is_none() {
            self.begin_trial(now_ns);
        }
        self.tried += 1;
        match is_parted {
            false => Course::AnswerAndProbe,
            true if self.tried % CARRIED_OF_TRIAL == 1 => Course::Carry,
            true => Course::Answer,
        }
    }

    /// An echo leaves: its number.
    #[inline]
    pub(super) fn send(&mut self, now_ns: u64) -> u32 {
        let number = self.tally.send();
        self.echoes += 1;
        self.unanswered.get_or_insert((now_ns, number));
        number
    }

    /// An echo came back here; `number` is that of one which left here.
    pub(super) fn hear(&mut self, number: Option<u32>, now_ns: u64) -> Option<Event> {
        (self.unanswered, self.doubted_ns) = (None, None);
        if let Some(number) = number {
            self.tally.come_back(number, now_ns);
        }
        if self.may_carry() {
            return self.judge(now_ns);
        }
        // The probe; not what was under way before.
        if self.tally.has_heard() {
            self.standing = EchoStanding::Limited;
            self.begin_trial(now_ns);
        }
        None
    }

    /// A client acknowledged a cookie; `sent` is the echo for its SYN if one left here, and whether
    /// that came back here or was answered here.
    pub(super) fn hear_of_cookie(&mut self, sent: Option<Sent>, now_ns: u64) {
        match sent {
            Some(sent) => {
                if !sent.is_settled {
                    self.is_parted = true;
                    self.tally.come_back(sent.number, now_ns);
                    (self.unanswered, self.doubted_ns) = (None, None);
                }
                self.proved += 1;
                self.halve();
            }
            None => {
                let is_own = self
                    .own_cookie_ns
                    .is_some_and(|sent_ns| now_ns.saturating_sub(sent_ns) < OWN_COOKIE_NS);
                if !is_own {
                    (self.unanswered, self.doubted_ns) = (None, None);
                }
            }
        }
    }

    /// A client repeated a SYN that was carried, and is answered now.
    pub(super) fn hear_again(&mut self, sent: Sent, now_ns: u64) {
        self.own_cookie_ns = Some(now_ns);
        if !sent.is_settled {
            self.repeated += 1;
            self.halve();
        }
    }

    fn halve(&mut self) {
        if self.proved + self.repeated >= 64 {
            self.proved /= 2;
            self.repeated /= 2;
        }
    }
}

/// An echo that left here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) number: u32,
    /// Whether it came back here, or its SYN was answered here.
    pub(super) is_settled: bool,
}

/// The SYNs that were carried lately. A later one may take an earlier one's place: that one's echo
/// counts as lost then, and its repetition is carried again.
pub(super) struct CarriedSyns {
    places: Box<[Place]>,
}

#[derive(Clone, Copy, Default)]
struct Place {
    /// Tells the SYN from others that may stand here; the last bit, whether it is settled. 0: none.
    mark: u32,
    number: u32,
}

const SETTLED: u32 = 1;

/// Where a SYN stands: by the secret hash of its connection's ends, and its sequence number.
#[derive(Clone, Copy)]
pub(super) struct SynPlace {
    index: usize,
    mark: u32,
}

impl SynPlace {
    #[inline]
    pub(super) fn of(ends: Hash, sequence: u32) -> Self {
        let mixed = (ends.bits() ^ u64::from(sequence)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = mixed ^ ends.bits().rotate_left(32);
        Self {
            index: (mixed >> 32) as usize % MAX_ECHOES_REMEMBERED,
            mark: (mixed as u32 & !SETTLED).max(SETTLED + 1),
        }
    }
}

impl CarriedSyns {
    pub(super) fn new() -> Self {
        Self {
            places: vec![Place::default(); MAX_ECHOES_REMEMBERED].into(),
        }
    }

    #[inline]
    pub(super) fn find(&self, syn: SynPlace) -> Option<Sent> {
        let place = self.places[syn.index];
        (place.mark & !SETTLED == syn.mark).then_some(Sent {
            number: place.number,
            is_settled: place.mark & SETTLED != 0,
        })
    }

    #[inline]
    pub(super) fn insert(&mut self, syn: SynPlace, sent: Sent) {
        self.places[syn.index] = Place {
            mark: syn.mark | u32::from(sent.is_settled),
            number: sent.number,
        };
    }

    /// The same as [`Self::find`]; from now on it is settled.
    pub(super) fn settle(&mut self, syn: SynPlace) -> Option<Sent> {
        let sent = self.find(syn)?;
        self.places[syn.index].mark |= SETTLED;
        Some(sent)
    }
}

const _: () = assert!(MAX_ECHOES_REMEMBERED.is_power_of_two());
