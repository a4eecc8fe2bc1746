//! What the replication thread does in one turn.

use std::sync::Arc;

use dataplane::replicate::PeerId;
use dataplane::replicate::exchange::Exchange;
use dataplane::replicate::keys::ReplicationKey;
use dataplane::replicate::standing::Standing;
use dataplane::replicate::status::PeerEvent;
use dataplane::worker::Time;
use tracing::{debug, info, warn};

use super::told::Visible;

/// How often it is made visible how the thread stands.
const SHOW_NS: u64 = 100_000_000;

/// The exchange between the workers and the other guards, and what is told of it.
pub(super) struct Carrier {
    exchange: Exchange,
    visible: Arc<Visible>,
    shown_ns: Option<u64>,
}

impl Carrier {
    pub(super) fn new(exchange: Exchange, visible: Arc<Visible>) -> Self {
        Self {
            exchange,
            visible,
            shown_ns: None,
        }
    }

    /// One turn; tells how much there was to do.
    pub(super) fn turn(&mut self, time: Time) -> usize {
        let served = self.exchange.turn(time);
        while let Some(event) = self.exchange.replicator_mut().next_event() {
            self.shown_ns = None;
            log(event);
        }
        let is_old = |shown_ns: u64| time.now_ns.saturating_sub(shown_ns) >= SHOW_NS;
        if self.shown_ns.is_none_or(is_old) {
            self.shown_ns = Some(time.now_ns);
            self.visible.show(&self.exchange, time.now_ns);
        }
        served
    }

    /// When there is next something to do that nobody says.
    pub(super) fn deadline_ns(&self) -> u64 {
        self.exchange.next_deadline_ns().unwrap_or(u64::MAX)
    }

    pub(super) fn set_keys(&mut self, time: Time, keys: &[ReplicationKey]) {
        self.exchange.replicator_mut().reconfigure(time, keys);
        info!("replication keys: {} in force", keys.len());
    }

    /// Lets the next turns say good-bye.
    pub(super) fn leave(&mut self) {
        self.exchange.replicator_mut().leave();
    }

    /// Whether good-bye was said, and the workers have taken all that was sent.
    pub(super) fn has_left(&self) -> bool {
        self.exchange.replicator().has_left() && self.exchange.departing() == 0
    }
}

/// A line of the log for everything that changes between the guards.
fn log(event: PeerEvent) {
    let number = |PeerId(number): PeerId| number;
    match event {
        PeerEvent::State { peer, from, to } if to.is_alive() || !from.is_alive() => info!(
            peer = number(peer),
            from = from.label(),
            to = to.label(),
            "peer"
        ),
        PeerEvent::State { peer, from, to } => warn!(
            peer = number(peer),
            from = from.label(),
            to = to.label(),
            "peer"
        ),
        PeerEvent::InStep(lacks_nothing) => debug!(lacks_nothing, "sessions of the others"),
        PeerEvent::Standing(standing) => log_standing(standing),
        PeerEvent::ResyncStarted { peer } => info!(peer = number(peer), "resync begins"),
        PeerEvent::ResyncFinished { peer, records } => {
            info!(peer = number(peer), records, "resync ends");
        }
        PeerEvent::ResyncAborted { peer } => {
            warn!(
                peer = number(peer),
                "resync breaks off; another way is looked for"
            );
        }
        PeerEvent::NumberTaken { source } => warn!(
            "another guard, at {}, has our number: give each its own `replication.own`",
            std::net::IpAddr::from(source)
        ),
    }
}

/// How this guard stands from now on.
fn log_standing(standing: Standing) {
    let sentence = standing.sentence();
    match standing {
        Standing::InStep => info!("This guard is in step and may carry any packet. {sentence}"),
        Standing::CatchingUp => info!("This guard is catching up. {sentence}"),
        Standing::Degraded => warn!("This guard is degraded and may carry any packet. {sentence}"),
        Standing::CutOff => warn!(
            "This guard is cut off; the routers should prefer another one. {sentence} See the \
             replication port and its cable."
        ),
    }
}

#[cfg(test)]
mod tests;
