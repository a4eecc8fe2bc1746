//! How the replication thread stands: made visible by it, read by the control thread. The lock is
//! between these two; no worker ever takes it.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dataplane::counters::{Counters, Event};
use dataplane::replicate::exchange::{Exchange, Losses};
use dataplane::replicate::standing::Standing;
use dataplane::replicate::status::PeerStatus;
use dataplane::replicate::tally::Tally;

use crate::profile::Replication;
use crate::report::{PeerCounter, PeerRow, Peers};

/// Over how long a rate is measured.
const RATE_NS: u64 = 1_000_000_000;
/// A thread that has shown nothing for so long is stalled, and nobody knows how the guard stands.
const STALLED_NS: u64 = 1_000_000_000;

/// The thread's state at one time.
#[derive(Debug, Default)]
struct State {
    standing: Standing,
    /// When it was shown.
    shown_ns: u64,
    peers: Vec<PeerStatus>,
    tallies: Vec<(Tally, u64)>,
    losses: Losses,
    /// When rates were last measured, and the records sent by then and of each peer received.
    measured_ns: u64,
    sent_before: u64,
    received_before: Vec<u64>,
    sent_per_second: f64,
    received_per_second: Vec<f64>,
}

/// The thread's state, for whoever asks.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Visible(Mutex<State>);

impl Visible {
    /// Makes visible how it stands at `now_ns`.
    pub(super) fn show(&self, exchange: &Exchange, now_ns: u64) {
        let replicator = exchange.replicator();
        let mut state = self.state();
        state.standing = replicator.standing();
        state.shown_ns = now_ns;
        state.peers = replicator.status();
        state.tallies.clear();
        state.tallies.extend(replicator.tallies().iter());
        state.losses = exchange.losses();
        state.measure(now_ns);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What a thread that panicked has left is whole enough to be shown.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn measure(&mut self, now_ns: u64) {
        let span_ns = now_ns.saturating_sub(self.measured_ns);
        if span_ns < RATE_NS {
            return;
        }
        let rate = |now: u64, before: u64| {
            now.saturating_sub(before) as f64 * RATE_NS as f64 / span_ns as f64
        };
        let sent = self.tally(Tally::RecordSent) + self.tally(Tally::RecordTold);
        let received: Vec<u64> = self
            .peers
            .iter()
            .map(|peer| peer.records_received)
            .collect();
        if self.measured_ns > 0 {
            self.sent_per_second = rate(sent, self.sent_before);
            let pairs = received.iter().zip(&self.received_before);
            self.received_per_second = pairs.map(|(now, before)| rate(*now, *before)).collect();
        }
        self.measured_ns = now_ns;
        self.sent_before = sent;
        self.received_before = received;
    }

    fn tally(&self, wanted: Tally) -> u64 {
        let mut tallies = self.tallies.iter();
        tallies
            .find(|(tally, _)| *tally == wanted)
            .map_or(0, |(_, count)| *count)
    }

    fn row(&self, place: usize, peer: &PeerStatus, with: &Replication) -> PeerRow {
        let mut known = with.peers.iter();
        let known = known.find(|known| known.number == peer.id.0);
        PeerRow {
            number: peer.id.0,
            address: known
                .and_then(|known| known.address)
                .map(|address: IpAddr| address.to_string()),
            state: peer.state.label().into(),
            state_ms: peer.state_ns / 1_000_000,
            heard_ms: peer.heard_ns.map(|heard_ns| heard_ns / 1_000_000),
            lag_us: peer.lag_us,
            lag_batches: peer.lag_batches,
            missing_batches: peer.missing_batches,
            gaps_asked: peer.gaps_asked,
            records_received: peer.records_received,
            received_per_second: self
                .received_per_second
                .get(place)
                .copied()
                .unwrap_or_default(),
            resyncing: peer.is_resyncing,
            resyncs: peer.resyncs,
        }
    }
}

/// What a standing is called, what it means, and whether it lets the guard carry traffic.
type Told = (&'static str, &'static str, bool);

const STALLED: Told = (
    "stalled",
    "Its replication thread has not run for a second, so what it says of the others is old.",
    false,
);
const LEAVING: Told = (
    "leaving",
    "It stops: it opens no new session but those of clients that are proved.",
    false,
);

impl State {
    fn told(&self, now_ns: u64, is_draining: bool) -> Told {
        let standing = self.standing;
        if is_draining {
            LEAVING
        } else if now_ns.saturating_sub(self.shown_ns) >= STALLED_NS {
            STALLED
        } else {
            (standing.label(), standing.sentence(), standing.may_carry())
        }
    }
}

/// `show peers` at `now_ns`, of what the thread has made visible and what the workers count.
pub(in crate::daemon) fn peers(
    visible: &Visible,
    with: &Replication,
    workers: &[Counters],
    now_ns: u64,
    is_draining: bool,
) -> Peers {
    let state = visible.state();
    let (standing, meaning, may_carry) = state.told(now_ns, is_draining);
    let sum = |event| workers.iter().map(|worker| worker.event(event)).sum();
    let rows = state.peers.iter().enumerate();
    let tallies = state.tallies.iter().map(|(tally, count)| PeerCounter {
        name: tally.label().into(),
        count: *count,
        sentence: tally.sentence().into(),
    });
    let losses = state.losses;
    let own = [
        (
            "malformed",
            losses.malformed,
            "Packets of the replication port that are no sound UDP datagrams.",
        ),
        (
            "no_room",
            losses.no_room,
            "Datagrams that no worker had room for.",
        ),
        (
            "no_address",
            losses.no_address,
            "Datagrams to a guard of whom no address is known.",
        ),
    ];
    let own = own.map(|(name, count, sentence)| PeerCounter {
        name: name.into(),
        count,
        sentence: sentence.into(),
    });
    Peers {
        own: with.own,
        in_step: standing == Standing::InStep.label(),
        standing: standing.into(),
        may_carry,
        meaning: meaning.into(),
        peers: rows
            .map(|(place, peer)| state.row(place, peer, with))
            .collect(),
        sent_per_second: state.sent_per_second,
        holds: sum(Event::PeersAwaited),
        holds_answered: sum(Event::PeersAnswered),
        holds_in_vain: sum(Event::PeersSilent),
        director_queries: sum(Event::DirectorAsked),
        director_unaware: sum(Event::DirectorUnaware),
        never_met: sum(Event::NeverMet),
        counters: tallies.chain(own).collect(),
    }
}
