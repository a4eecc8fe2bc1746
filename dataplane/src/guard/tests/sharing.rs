//! Several guards with one key, each packet at whichever of them. The rigs have one client and one
//! server in common; what stands between the guards here is a loop.

use super::rig::{CLIENT_ISN, Rig, SERVER_ISN, Segment, Shown};
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::guard::config::{GuardConfig, Share, Sharing};
use crate::guard::cookie::{CookieJar, CookieKey};
use crate::parse::flags;
use crate::replicate::record::{Record, Stage};
use crate::replicate::{Audience, FromPeers, PageRequest, PeerId, ToPeers};

const ACK: u8 = flags::ACK;
const FIN_ACK: u8 = flags::FIN | flags::ACK;
/// Who answers questions, in these tests.
const DIRECTOR: usize = 0;

#[path = "edges.rs"]
mod edges;
#[path = "opened.rs"]
mod opened;
#[path = "parted.rs"]
mod parted;

struct Site {
    guards: Vec<Rig>,
}

impl Site {
    fn new(guards: usize) -> Self {
        Self::with(guards, |_, _| {})
    }

    fn with(guards: usize, change: impl Fn(usize, &mut GuardConfig)) -> Self {
        let guard = |number| {
            let mut rig = Rig::with(100, |config| {
                config.sharing = Some(Sharing::default());
                change(number, config);
            });
            rig.hear(&FromPeers::Peers(guards as u8 - 1));
            rig
        };
        Self {
            guards: (0..guards).map(guard).collect(),
        }
    }

    /// What the guard has to say.
    fn told_by(&mut self, guard: usize) -> Vec<ToPeers> {
        std::iter::from_fn(|| self.guards[guard].guard.next_to_peers()).collect()
    }

    fn records_of(&mut self, guard: usize) -> Vec<Record> {
        let told = self.told_by(guard);
        let record = |message| match message {
            ToPeers::Record(record, _) => Some(record),
            _ => None,
        };
        told.into_iter().filter_map(record).collect()
    }

    fn others(&self, guard: usize) -> Vec<usize> {
        (0..self.guards.len())
            .filter(|&other| other != guard)
            .collect()
    }

    /// Carries everything to where it belongs, until all is quiet.
    fn exchange(&mut self) {
        for round in 0.. {
            assert!(round < 10, "the guards do not stop talking");
            let mut is_quiet = true;
            for from in 0..self.guards.len() {
                for message in self.told_by(from) {
                    is_quiet = false;
                    self.carry(from, message);
                }
            }
            if is_quiet {
                return;
            }
        }
    }

    fn carry(&mut self, from: usize, message: ToPeers) {
        let own = PeerId(from as u8);
        let (to, news) = match message {
            ToPeers::Record(record, Audience::All) => {
                (self.others(from), FromPeers::Record(record, own))
            }
            ToPeers::Record(record, Audience::Director) => {
                (vec![DIRECTOR], FromPeers::Record(record, own))
            }
            ToPeers::Record(record, Audience::Peer(peer)) => {
                (vec![usize::from(peer.0)], FromPeers::Record(record, own))
            }
            ToPeers::Query(key) => (vec![DIRECTOR], FromPeers::Query(key, own)),
            ToPeers::Unknown(key, asker) => (vec![usize::from(asker.0)], FromPeers::Unknown(key)),
            ToPeers::Stalled => (vec![from], FromPeers::CaughtUp),
            ToPeers::PageEnd { .. } => return,
        };
        for to in to {
            if to != from || news == FromPeers::CaughtUp {
                self.guards[to].hear(&news);
            }
        }
    }

    fn count(&self, guard: usize, event: Event) -> u64 {
        self.guards[guard].counters.event(event)
    }

    /// SYN at one guard, ACK at the next, the server's answer at a third.
    fn open(&mut self, at: [usize; 3]) -> Segment {
        let cookie = self.guards[at[0]].shake_hands();
        let ack = self.guards[at[1]].client_ack(&cookie, b"");
        assert_eq!(self.guards[at[1]].client_sends(ack), Shown::Held);
        assert_eq!(self.guards[at[1]].only_sent().flags, flags::SYN);
        self.exchange();
        let answer = self.guards[at[2]].server_syn_ack();
        assert_eq!(self.guards[at[2]].server_sends(answer), Shown::Held);
        self.exchange();
        for rig in &mut self.guards {
            rig.sent();
        }
        cookie
    }
}

fn forwarded(shown: Shown) -> Segment {
    match shown {
        Shown::Forward(segment) => segment,
        other => panic!("not forwarded: {other:?}"),
    }
}

#[test]
fn any_guard_answers_proves_opens_and_carries() {
    // CASES 16
    let mut site = Site::new(3);
    let cookie = site.guards[0].shake_hands();
    let ack = site.guards[1].client_ack(&cookie, b"");
    assert_eq!(site.guards[1].client_sends(ack), Shown::Held);
    let syn = site.guards[1].only_sent();
    assert_eq!((syn.flags, syn.sequence), (flags::SYN, CLIENT_ISN));
    site.exchange();

    // The answer comes back through the third, which completes it itself.
    let answer = site.guards[2].server_syn_ack();
    assert_eq!(site.guards[2].server_sends(answer), Shown::Held);
    let completed = site.guards[2].only_sent();
    assert_eq!(completed.flags, ACK);
    assert_eq!(completed.sequence, CLIENT_ISN.wrapping_add(1));
    assert_eq!(completed.acknowledgement, SERVER_ISN.wrapping_add(1));
    assert_eq!(completed.options.timestamps.unwrap().echo, 900_000);
    site.exchange();
    // The second delivers what it held.
    let delivered = site.guards[1].only_sent();
    assert_eq!(delivered.acknowledgement, SERVER_ISN.wrapping_add(1));

    let next = cookie.sequence.wrapping_add(1);
    for (guard, offset) in [(0, 1), (1, 6), (2, 11), (0, 16)] {
        let data = site.guards[guard].client_segment(offset, next, ACK, b"hello");
        let seen = forwarded(site.guards[guard].client_sends(data));
        assert_eq!(seen.acknowledgement, SERVER_ISN.wrapping_add(1));
        assert_eq!(seen.sequence, CLIENT_ISN.wrapping_add(offset));
    }
    for (guard, offset) in [(2, 1), (0, 6), (1, 11)] {
        let client_next = CLIENT_ISN.wrapping_add(21);
        let data = site.guards[guard].server_segment(offset, client_next, ACK, b"world");
        let seen = forwarded(site.guards[guard].server_sends(data));
        assert_eq!(seen.sequence, cookie.sequence.wrapping_add(offset));
    }
    assert!(site.count(0, Event::NeverMet) > 0 && site.count(1, Event::NeverMet) == 0);
}

#[test]
fn an_answer_that_overtakes_its_record_waits_for_it() {
    // CASES 16
    let mut site = Site::new(3);
    let cookie = site.guards[0].shake_hands();
    let ack = site.guards[1].client_ack(&cookie, b"");
    site.guards[1].client_sends(ack);
    let answer = site.guards[2].server_syn_ack();
    assert_eq!(site.guards[2].server_sends(answer), Shown::Held);
    assert_eq!(site.count(2, Event::PeersAwaited), 1);
    assert!(site.guards[2].sent().is_empty(), "no RST to the server");
    site.exchange();
    assert_eq!(site.guards[2].walk_released(), [Shown::Held]);
    assert_eq!(site.guards[2].only_sent().flags, ACK);
    assert_eq!(site.count(2, Event::PeersAnswered), 1);
    assert_eq!(site.guards[2].guard.status().held, 0);
}

#[test]
fn data_that_overtakes_its_record_opens_no_second_session() {
    let mut site = Site::new(3);
    let cookie = site.guards[0].shake_hands();
    let ack = site.guards[1].client_ack(&cookie, b"");
    site.guards[1].client_sends(ack);
    let request = site.guards[2].client_ack(&cookie, b"GET /");
    assert_eq!(site.guards[2].client_sends(request), Shown::Held);
    assert!(site.guards[2].sent().is_empty());
    site.exchange();
    assert_eq!(site.guards[2].walk_released(), [Shown::Held]);
    let answer = site.guards[0].server_syn_ack();
    site.guards[0].server_sends(answer);
    site.exchange();
    assert_eq!(site.guards[2].only_sent().payload, b"GET /");
    assert_eq!(site.count(2, Event::ServerSynSent), 0);
}

#[test]
fn when_nobody_knows_it_is_decided_as_by_a_guard_alone() {
    // CASES 2
    let mut site = Site::new(2);
    let cookie = site.guards[0].shake_hands();
    let request = site.guards[1].client_ack(&cookie, b"GET /");
    assert_eq!(site.guards[1].client_sends(request), Shown::Held);
    let forged = site.guards[1].client_frame_on(77, b"");
    site.guards[1].client_port += 1;
    let stray = site.guards[1].client_segment(500, 9, ACK, b"stray");
    assert_eq!(site.guards[1].client_sends(stray), Shown::Held);
    assert_eq!(site.guards[1].client_sends(forged), Shown::Held);
    site.exchange();
    assert!(site.count(1, Event::DirectorUnaware) >= 1);
    site.guards[1].advance_ms(20);
    let shown = site.guards[1].walk_released();
    assert_eq!(shown[0], Shown::Held, "opened here");
    assert_eq!(shown[2], Shown::Dropped(DropReason::CookieInvalid));
    assert_eq!(site.guards[1].only_sent().flags, flags::SYN);
    assert_eq!(site.count(1, Event::PeersSilent), 3);
}

#[test]
fn a_close_that_no_guard_sees_whole_ends_it_everywhere() {
    let mut site = Site::new(3);
    let cookie = site.open([0, 1, 2]);
    let next = cookie.sequence.wrapping_add(1);
    let fin = site.guards[0].client_segment(1, next, FIN_ACK, b"");
    forwarded(site.guards[0].client_sends(fin));
    site.exchange();
    let fin = site.guards[1].server_segment(1, CLIENT_ISN.wrapping_add(2), FIN_ACK, b"");
    forwarded(site.guards[1].server_sends(fin));
    site.exchange();
    let last = site.guards[2].client_segment(2, next.wrapping_add(1), ACK, b"");
    forwarded(site.guards[2].client_sends(last));
    site.exchange();
    for rig in &site.guards {
        assert_eq!(
            (rig.guard.status().live, rig.guard.status().sessions),
            (0, 1)
        );
    }
}

#[test]
fn a_reset_of_the_server_ends_it_everywhere_and_one_of_the_clients_when_all_is_silent() {
    // CASES 3
    let mut site = Site::new(2);
    let cookie = site.open([0, 0, 0]);
    let next = cookie.sequence.wrapping_add(1);
    let reset = site.guards[1].client_segment(700, next, flags::RST, b"");
    forwarded(site.guards[1].client_sends(reset));
    site.exchange();
    assert_eq!(
        site.guards[1].guard.status().live,
        1,
        "its server judges it"
    );
    let data = site.guards[1].server_segment(1, CLIENT_ISN.wrapping_add(1), ACK, b"on");
    forwarded(site.guards[1].server_sends(data));
    site.guards[1].advance_s(100);
    assert_eq!(site.guards[1].guard.status().live, 1, "the server spoke on");
    let reset = site.guards[1].server_segment(3, CLIENT_ISN.wrapping_add(1), flags::RST, b"");
    forwarded(site.guards[1].server_sends(reset));
    site.exchange();
    assert_eq!(site.guards[0].guard.status().live, 0);
}

#[test]
fn what_is_older_never_undoes_what_is_newer() {
    // CASES 15
    let mut site = Site::new(2);
    let cookie = site.guards[0].shake_hands();
    let ack = site.guards[0].client_ack(&cookie, b"");
    site.guards[0].client_sends(ack);
    let opening = site.records_of(0)[0];
    let answer = site.guards[0].server_syn_ack();
    site.guards[0].server_sends(answer);
    let established = site.records_of(0)[0];
    assert_eq!(
        (opening.stage, established.stage),
        (Stage::Opening, Stage::Established)
    );
    let peer = PeerId(0);
    site.guards[1].hear(&FromPeers::Record(established, peer));
    site.guards[1].hear(&FromPeers::Record(opening, peer));
    site.guards[1].hear(&FromPeers::Record(established, peer));
    assert_eq!(site.count(1, Event::RecordStale), 1);
    let status = site.guards[1].guard.status();
    assert_eq!((status.live, status.opening), (1, 0));

    // An end, then what was said before it.
    let closed = Record {
        stage: Stage::Closed,
        ..established
    };
    site.guards[1].hear(&FromPeers::Record(closed, peer));
    site.guards[1].hear(&FromPeers::Record(established, peer));
    assert_eq!(site.guards[1].guard.status().live, 0);

    // The next session of the same ports takes its place; its forerunner does not come back.
    let next = Record {
        incarnation: established.incarnation.wrapping_add(1),
        client_sequence: 0x1234,
        ..established
    };
    site.guards[1].hear(&FromPeers::Record(next, peer));
    assert_eq!(site.guards[1].guard.status().live, 1);
    site.guards[1].hear(&FromPeers::Record(closed, peer));
    assert_eq!(site.guards[1].guard.status().live, 1);
}

#[test]
fn a_transitory_session_is_its_directors_until_it_lasts_or_somebody_asks() {
    let deferred = |_: usize, config: &mut GuardConfig| {
        config.sharing = Some(Sharing {
            share: Share::Deferred,
            ..Sharing::default()
        });
    };
    let mut site = Site::with(3, deferred);
    let cookie = site.open([1, 1, 1]);
    let known = |site: &Site| -> Vec<usize> {
        site.guards
            .iter()
            .map(|rig| rig.guard.status().live)
            .collect()
    };
    assert_eq!(known(&site), [1, 1, 0]);
    // A packet of it comes by the third: its director tells everybody.
    let next = cookie.sequence.wrapping_add(1);
    let data = site.guards[2].client_segment(1, next, ACK, b"now here");
    assert_eq!(site.guards[2].client_sends(data), Shown::Held);
    site.exchange();
    let shown = site.guards[2].walk_released();
    assert_eq!(forwarded(shown[0].clone()).payload, b"now here");
    assert_eq!(known(&site), [1, 1, 1]);

    let mut site = Site::with(3, deferred);
    site.open([1, 1, 1]);
    for _ in 0..10 {
        site.guards[1].advance_ms(300);
    }
    site.exchange();
    assert_eq!(known(&site), [1, 1, 1], "it has lasted");
}

#[test]
fn a_director_that_goes_leaves_its_sessions_to_the_next() {
    let mut site = Site::with(3, |_, config| {
        config.sharing = Some(Sharing {
            share: Share::Deferred,
            ..Sharing::default()
        });
    });
    site.open([1, 1, 1]);
    site.guards[1].hear(&FromPeers::Peers(1));
    site.guards[1].advance_ms(20);
    let told = site.told_by(1);
    assert!(
        matches!(told[..], [ToPeers::Record(_, Audience::Director)]),
        "{told:?}"
    );
}

#[test]
fn whoever_was_away_gets_all_sessions_page_by_page() {
    let mut site = Site::new(2);
    for _ in 0..5 {
        site.open([0, 0, 0]);
        site.guards.iter_mut().for_each(|rig| rig.client_port += 1);
    }
    let mut away = Rig::with(100, |config| config.sharing = Some(Sharing::default()));
    let (mut first, mut records) = (0, 0);
    loop {
        let page = PageRequest {
            peer: PeerId(9),
            request: 3,
            first,
            end: 100,
        };
        site.guards[0].hear(&FromPeers::Page(page));
        let mut next = None;
        for message in site.told_by(0) {
            match message {
                ToPeers::Record(record, Audience::Peer(PeerId(9))) => {
                    records += 1;
                    away.hear(&FromPeers::Record(record, PeerId(0)));
                }
                ToPeers::PageEnd {
                    peer: PeerId(9),
                    request: 3,
                    next: place,
                } => next = place,
                other => panic!("{other:?}"),
            }
        }
        match next {
            Some(place) => first = place,
            None => break,
        }
    }
    assert_eq!((records, away.guard.status().live), (5, 5));
}

#[test]
fn whoever_shares_with_the_syn_ack_needs_no_common_key() {
    let mut site = Site::with(2, |number, config| {
        config.sharing = Some(Sharing {
            share: Share::Begun,
            ..Sharing::default()
        });
        config.jar = CookieJar::new(&[CookieKey {
            not_before_s: 0,
            secret: [number as u8; 16],
        }]);
    });
    let cookie = site.guards[0].shake_hands();
    site.exchange();
    let ack = site.guards[1].client_ack(&cookie, b"");
    assert_eq!(site.guards[1].client_sends(ack), Shown::Held);
    assert_eq!(site.guards[1].only_sent().flags, flags::SYN);
}

#[test]
fn a_session_that_lives_elsewhere_does_not_expire_here() {
    let idle = |_: usize, config: &mut GuardConfig| {
        config.timers.established_idle_ns = 1_000_000_000_000;
        config.timers.closing_idle_ns = 300_000_000_000;
    };
    let mut site = Site::with(2, idle);
    let cookie = site.open([0, 0, 0]);
    let next = cookie.sequence.wrapping_add(1);
    for second in 0..2000 {
        if second % 50 == 0 {
            let alive = site.guards[0].client_segment(1, next, ACK, b"");
            forwarded(site.guards[0].client_sends(alive));
        }
        site.guards.iter_mut().for_each(|rig| rig.advance_s(1));
        site.exchange();
    }
    assert_eq!(site.guards[1].guard.status().live, 1);
    for _ in 0..1300 {
        site.guards.iter_mut().for_each(|rig| rig.advance_s(1));
        site.exchange();
    }
    for rig in &site.guards {
        assert_eq!(rig.guard.status().live, 0);
    }
}

#[test]
fn a_guard_that_took_no_part_catches_up_with_a_session_that_comes_its_way() {
    let mut site = Site::new(2);
    let cookie = site.open([0, 0, 0]);
    site.guards[1].advance_s(5);
    // Megabytes have passed elsewhere.
    let next = cookie.sequence.wrapping_add(50_000_000);
    let data = site.guards[1].client_segment(90_000_000, next, ACK, b"late");
    let seen = forwarded(site.guards[1].client_sends(data));
    let delta = SERVER_ISN.wrapping_sub(cookie.sequence);
    assert_eq!(seen.acknowledgement, next.wrapping_add(delta));
    assert_eq!(site.count(1, Event::BeyondView), 1);
    // Anybody could have said so: it is not noted until the server bears it out.
    let more = site.guards[1].client_segment(90_000_004, next, ACK, b"more");
    forwarded(site.guards[1].client_sends(more.clone()));
    assert_eq!(site.count(1, Event::BeyondView), 2);
    let acked = CLIENT_ISN.wrapping_add(90_000_008);
    let answer = site.guards[1].server_segment(50_000_000, acked, ACK, b"");
    forwarded(site.guards[1].server_sends(answer));
    forwarded(site.guards[1].client_sends(more));
    assert_eq!(site.count(1, Event::BeyondView), 2, "it follows now");
    // What an outsider guesses goes on, for the server to judge, and changes nothing here.
    let guessed = site.guards[1].client_segment(7, next, FIN_ACK, b"");
    forwarded(site.guards[1].client_sends(guessed));
    assert!(site.records_of(1).is_empty());
}

#[test]
fn b1_an_exact_reset_ends_a_shared_session_and_another_is_for_its_server_to_confirm() {
    // CASES 3
    let mut site = Site::new(2);
    let cookie = site.open([0, 0, 0]);
    let next = cookie.sequence.wrapping_add(1);
    let exact = site.guards[1].client_segment(1, next, flags::RST, b"");
    forwarded(site.guards[1].client_sends(exact));
    site.exchange();
    for rig in &site.guards {
        assert_eq!(rig.guard.status().live, 0);
    }

    let cases = [false, true].map(|is_believed| [(is_believed, true), (is_believed, false)]);
    for (is_believed, scales) in cases.into_iter().flatten() {
        let mut site = Site::new(2);
        if !scales {
            let server = |rig: &mut Rig| rig.server_options.window_scale = None;
            site.guards.iter_mut().for_each(server);
        }
        let cookie = site.open([0, 0, 0]);
        let next = cookie.sequence.wrapping_add(1);
        let inexact = site.guards[1].client_segment(700, next, flags::RST, b"");
        forwarded(site.guards[1].client_sends(inexact));
        // A keepalive: one byte before what the server has acknowledged.
        let question = site.guards[1].only_sent();
        assert_eq!((question.flags, question.sequence), (ACK, CLIENT_ISN));
        assert_eq!(question.acknowledgement, SERVER_ISN.wrapping_add(1));
        assert_eq!(question.window, if scales { 0xffff >> 9 } else { 0xffff });
        let reply = if is_believed { flags::RST } else { ACK };
        let reply = site.guards[0].server_frame(
            question.acknowledgement,
            CLIENT_ISN.wrapping_add(1),
            reply,
            b"",
        );
        forwarded(site.guards[0].server_sends(reply));
        for _ in 0..20 {
            site.guards.iter_mut().for_each(|rig| rig.advance_s(1));
            site.exchange();
        }
        for rig in &site.guards {
            assert_eq!(rig.guard.status().live, usize::from(!is_believed));
        }
    }
}

#[test]
fn f6_a_guard_that_drains_opens_what_its_peers_will_carry() {
    for (peers, is_opened) in [(1, true), (0, false)] {
        let mut site = Site::new(2);
        site.guards[0].hear(&FromPeers::Peers(peers));
        let cookie = site.guards[0].shake_hands();
        site.guards[0].guard.drain();
        let ack = site.guards[0].client_ack(&cookie, b"");
        let shown = site.guards[0].client_sends(ack);
        if !is_opened {
            assert!(matches!(shown, Shown::Reply(reset) if reset.flags & flags::RST != 0));
            continue;
        }
        assert_eq!(shown, Shown::Held);
        assert_eq!(site.guards[0].only_sent().flags, flags::SYN);
        site.exchange();
        // It has gone; the server's answer finds a peer that knows.
        let answer = site.guards[1].server_syn_ack();
        assert_eq!(site.guards[1].server_sends(answer), Shown::Held);
        assert_eq!(site.guards[1].only_sent().flags, ACK);
        assert_eq!(site.guards[1].guard.status().live, 1);
    }
}

#[test]
fn a_s3_a_guard_that_missed_the_end_lets_the_next_session_begin() {
    let mut site = Site::new(2);
    let cookie = site.open([0, 0, 0]);
    // The end passes by the first guard, and its records are lost.
    site.guards[0].close(&cookie);
    let _lost = site.told_by(0);
    site.guards
        .iter_mut()
        .for_each(|rig| rig.client_isn = CLIENT_ISN.wrapping_add(20_000));
    let again = site.guards[0].shake_hands();
    let ack = site.guards[1].client_ack(&again, b"GET /");
    assert_eq!(
        site.guards[1].client_sends(ack),
        Shown::Held,
        "the peers are asked"
    );
    site.guards[1].advance_ms(20);
    assert_eq!(site.guards[1].walk_released(), [Shown::Held]);
    assert_eq!(site.guards[1].only_sent().flags, flags::SYN);
    assert_eq!(site.count(1, Event::SessionReplaced), 1);
    // A late copy of the former handshake does not end the present one.
    site.guards
        .iter_mut()
        .for_each(|rig| rig.client_isn = CLIENT_ISN);
    let late = site.guards[1].client_ack(&cookie, b"");
    let shown = site.guards[1].client_sends(late);
    assert_eq!(shown, Shown::Dropped(DropReason::CookieReplayed));
}
