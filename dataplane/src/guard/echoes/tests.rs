//! How a server's echoes are judged, without packets.

use super::*;

/// What limits pings to so many a second, and lets so many through at once.
struct Limit {
    per_s: u64,
    burst: u64,
    due_ns: u64,
}

impl Limit {
    fn new(per_s: u64, burst: u64) -> Self {
        Self {
            per_s,
            burst,
            due_ns: 0,
        }
    }

    fn takes(&mut self, now_ns: u64) -> bool {
        let gap_ns = SECOND_NS / self.per_s;
        let is_taken = self.due_ns <= now_ns + gap_ns * (self.burst - 1);
        if is_taken {
            self.due_ns = self.due_ns.max(now_ns) + gap_ns;
        }
        is_taken
    }
}

/// A server behind such a limit, and what became of the SYNs for it.
struct Play {
    listener: Listener,
    limit: Limit,
    now_ns: u64,
    /// SYNs whose client waits in vain.
    lost: u32,
    echoes: u32,
}

impl Play {
    fn new(limit: Limit) -> Self {
        Self {
            listener: Listener::default(),
            limit,
            now_ns: 0,
            lost: 0,
            echoes: 0,
        }
    }

    /// So many seconds of new SYNs; gives back how many of them waited in vain.
    fn syns(&mut self, per_s: u64, seconds: u64) -> u32 {
        let before = self.lost;
        for _ in 0..per_s * seconds {
            self.now_ns += SECOND_NS / per_s;
            self.syn();
        }
        self.lost - before
    }

    fn syn(&mut self) {
        let now_ns = self.now_ns;
        self.listener.look(now_ns);
        let course = self.listener.choose(false, now_ns);
        if course == Course::Answer {
            return;
        }
        let number = self.listener.send(now_ns);
        self.echoes += 1;
        if self.limit.takes(now_ns) {
            self.listener.hear(Some(number), now_ns);
        } else if course == Course::Carry {
            self.lost += 1;
        }
    }
}

#[test]
fn g3_a_limit_of_pings_costs_few_clients_anything_flood_or_not() {
    for (syns_per_s, pings_per_s) in [
        (20, 1),
        (100, 5),
        (500, 5),
        (5_800, 5),
        (5_800, 200),
        (15_000, 1_000),
    ] {
        let mut play = Play::new(Limit::new(pings_per_s, 5));
        let first = play.syns(syns_per_s, 2);
        let then = play.syns(syns_per_s, 120);
        let shown = (syns_per_s, pings_per_s, first, then);
        assert_eq!(play.listener.standing(), EchoStanding::Limited, "{shown:?}");
        assert!(first <= 2 * MAX_ECHOES_IN_FLIGHT, "{shown:?}");
        assert_eq!(then, 0, "{shown:?}");
    }
}

#[test]
fn g3_a_burst_that_a_limit_lets_through_does_not_hide_it() {
    let mut play = Play::new(Limit::new(200, 100));
    play.syns(5_800, 2);
    for _ in 0..100 {
        let lost = play.syns(5_800, 10);
        assert_eq!(lost, 0);
        assert_ne!(play.listener.standing(), EchoStanding::Answers);
    }
}

#[test]
fn g3_a_flood_that_comes_and_goes_costs_less_and_less() {
    let mut play = Play::new(Limit::new(200, 50));
    let mut costs = Vec::new();
    for _ in 0..60 {
        costs.push(play.syns(5_800, 2));
        play.syns(50, 8);
    }
    // In ten minutes few of its pulses find the server's SYNs carried.
    let met = costs.iter().filter(|&&lost| lost > 0).count();
    assert!(met <= 8, "{costs:?}");
    assert!(costs.iter().all(|&lost| lost <= 2 * MAX_ECHOES_IN_FLIGHT));
}

#[test]
fn g3_a_limit_that_is_lifted_is_noticed_and_costs_nobody_anything() {
    let mut play = Play::new(Limit::new(5, 5));
    play.syns(100, 20);
    assert_eq!(play.listener.standing(), EchoStanding::Limited);
    play.limit = Limit::new(1_000_000, 1_000);
    assert_eq!(play.syns(100, 60), 0);
    assert_eq!(play.listener.standing(), EchoStanding::Answers);
    // A limit that the server's clients do not reach is none.
    let mut play = Play::new(Limit::new(200, 20));
    assert_eq!(play.syns(50, 60), 0);
    assert_eq!(play.listener.standing(), EchoStanding::Answers);
    assert_eq!(play.echoes, 50 * 60);
}

#[test]
fn an_echo_in_a_hundred_that_is_lost_changes_nothing() {
    let mut play = Play::new(Limit::new(1_000_000, 1_000_000));
    for number in 0..10_000 {
        play.now_ns += 10 * MS;
        play.limit.per_s = if number % 100 == 99 { 1 } else { 1_000_000 };
        play.limit.burst = if number % 100 == 99 { 1 } else { 1_000_000 };
        play.limit.due_ns = if number % 100 == 99 { u64::MAX / 2 } else { 0 };
        play.syn();
    }
    assert_eq!(play.listener.standing(), EchoStanding::Answers);
    assert_eq!(play.lost, 100);
}

#[test]
fn echoes_that_overtake_each_other_are_not_lost() {
    let mut listener = Listener::default();
    let mut now_ns = 0;
    for _ in 0..1_000 {
        let numbers: Vec<_> = (0..32)
            .map(|_| {
                now_ns += MS / 20;
                listener.look(now_ns);
                assert_eq!(listener.choose(false, now_ns), Course::Carry);
                listener.send(now_ns)
            })
            .collect();
        for number in numbers.into_iter().rev() {
            listener.hear(Some(number), now_ns);
        }
    }
    assert_eq!(listener.standing(), EchoStanding::Answers);
}

#[test]
fn a_server_that_drops_pings_is_noticed_asked_again_and_heard_again() {
    let mut listener = Listener::default();
    let mut course = |now_ns| {
        let event = listener.look(now_ns);
        let course = listener.choose(false, now_ns);
        let number = (course != Course::Answer).then(|| listener.send(now_ns));
        (course, event, number)
    };
    assert_eq!(course(0).0, Course::Carry);
    assert_eq!(course(SILENCE_NS - 1).0, Course::Carry);
    // The next one is answered, and the server asked in the same breath.
    let silent_ns = SECOND_NS;
    let (first, event, _) = course(silent_ns);
    assert_eq!(
        (first, event),
        (Course::AnswerAndProbe, Some(Event::EchoSilent))
    );
    let next_ns = silent_ns + PROBE_INTERVAL_NS;
    assert_eq!(course(next_ns - 1).0, Course::Answer);
    let (second, event, number) = course(next_ns);
    assert_eq!((second, event), (Course::AnswerAndProbe, None));
    // One that comes back says little, but that more may be asked.
    assert_eq!(listener.standing(), EchoStanding::Silent);
    assert_eq!(listener.hear(number, next_ns), None);
    assert_eq!(listener.standing(), EchoStanding::Limited);
    let mut heard = 0;
    for count in 1..20 {
        let now_ns = next_ns + count * SECOND_NS / 5;
        heard += u32::from(listener.look(now_ns) == Some(Event::EchoHeard));
        let course = listener.choose(false, now_ns);
        assert_eq!(course == Course::Carry, heard == 1, "{count}");
        let number = listener.send(now_ns);
        heard += u32::from(listener.hear(Some(number), now_ns) == Some(Event::EchoHeard));
    }
    assert_eq!((heard, listener.standing()), (1, EchoStanding::Answers));
}

#[test]
fn a_cookie_that_another_guard_made_says_that_the_echo_came_back_there() {
    let mut listener = Listener::default();
    listener.send(0);
    listener.hear_of_cookie(None, SECOND_NS / 100);
    assert_eq!(listener.look(SECOND_NS), None);
    assert_eq!(listener.choose(true, SECOND_NS), Course::Carry);
    listener.send(SECOND_NS);
    assert_eq!(listener.look(2 * SECOND_NS), Some(Event::EchoSilent));
    listener.choose(false, 2 * SECOND_NS);
    // This one is for the cookie that we made ourselves just now.
    listener.hear_of_cookie(None, 2 * SECOND_NS + 1);
    assert_eq!(listener.standing(), EchoStanding::Silent);
}

#[test]
fn g3_echoes_that_return_elsewhere_are_judged_by_what_clients_say() {
    let mut listener = Listener::default();
    let mut now_ns = 0;
    let mut syn = |listener: &mut Listener, is_client: bool, comes_back: bool| {
        now_ns += MS / 10;
        let event = listener.look(now_ns);
        if listener.choose(true, now_ns) != Course::Carry {
            return (event, false);
        }
        let number = listener.send(now_ns);
        let sent = Sent {
            number,
            is_settled: false,
        };
        match (is_client, comes_back) {
            (true, true) => listener.hear_of_cookie(Some(sent), now_ns),
            (true, false) => listener.hear_again(sent, now_ns),
            (false, _) => {}
        }
        (event, true)
    };
    syn(&mut listener, true, true);
    // A flood, one SYN of a thousand a client's: nothing but that one's cookie is ever seen here.
    for number in 0..50_000 {
        let (_, is_carried) = syn(&mut listener, number % 1000 == 0, true);
        assert!(is_carried || number % 10_000 > 1, "{number}");
    }
    assert_eq!(listener.standing(), EchoStanding::Answers);
    // From now on none comes back.
    let mut repeated = 0;
    for number in 0..50_000 {
        let is_client = number % 1000 == 0;
        let (_, is_carried) = syn(&mut listener, is_client, false);
        repeated += u32::from(is_client && is_carried);
    }
    assert_eq!(listener.standing(), EchoStanding::Limited);
    assert!(repeated < 10, "{repeated}");
}

#[test]
fn a_server_is_sent_no_more_echoes_than_it_may_get() {
    // CASES 1
    let mut listener = Listener::default();
    let mut count = |from_ns: u64| {
        (0..2 * u64::from(MAX_ECHOES_PER_SECOND))
            .filter(|n| {
                let now_ns = from_ns + n;
                let course = listener.choose(false, now_ns);
                if course == Course::Carry {
                    let number = listener.send(now_ns);
                    listener.hear(Some(number), now_ns);
                }
                course == Course::Carry
            })
            .count() as u32
    };
    assert_eq!(count(0), MAX_ECHOES_PER_SECOND);
    assert_eq!(count(SECOND_NS), MAX_ECHOES_PER_SECOND);
}

#[test]
fn a_syn_is_known_again_by_its_ends_and_its_number() {
    let mut carried = CarriedSyns::new();
    let place = |sequence| SynPlace::of(Hash::NONE, sequence);
    let sent = Sent {
        number: 7,
        is_settled: false,
    };
    assert_eq!(carried.settle(place(1)), None);
    carried.insert(place(1), sent);
    assert_eq!(carried.find(place(2)), None);
    assert_eq!(carried.settle(place(1)), Some(sent));
    let settled = Sent {
        is_settled: true,
        ..sent
    };
    assert_eq!(carried.find(place(1)), Some(settled));
}
