//! Workers that did nothing for a while are told when all that the peers had to say has come.
//!
//! A peer's greeting that answers one which we sent after the stall was made after it; what the peer
//! had told by then is known when its batches up to the one that the greeting names have come.

use super::FromPeers;
use super::replicator::Replicator;
use crate::limits::{CATCH_UP_NS, MAX_PEERS, MAX_WORKERS};

/// What is waited for, and by whom.
pub(super) struct CatchUp {
    /// By their numbers, the workers that wait.
    workers: [bool; MAX_WORKERS],
    /// Since when. Later stalls begin anew.
    asked_ns: u64,
    /// Of each peer by its place: the newest batch that it had sent when it greeted us since.
    newest: [Option<u64>; MAX_PEERS],
}

impl CatchUp {
    pub(super) fn new() -> Self {
        Self {
            workers: [false; MAX_WORKERS],
            asked_ns: 0,
            newest: [None; MAX_PEERS],
        }
    }

    fn is_awaited(&self) -> bool {
        self.workers.contains(&true)
    }
}

impl Replicator {
    /// A worker has stalled, and waits for what the peers said meanwhile.
    pub(super) fn note_stalled(&mut self, worker: usize) {
        let Some(waits) = self.catch_up.workers.get_mut(worker) else {
            return;
        };
        *waits = true;
        self.catch_up.asked_ns = self.now.now_ns;
        self.catch_up.newest = [None; MAX_PEERS];
        self.outgoing.hello_soon(self.now.now_ns);
    }

    /// The peer at `place` has greeted us, and named the last greeting of ours that it heard.
    pub(super) fn note_answer(&mut self, place: usize) {
        let peer = &self.peers[place];
        let is_since = peer.of_us.echo_ns >= self.catch_up.asked_ns;
        let newest = peer.current.as_ref().map(|life| life.hello.newest);
        if let Some(known) = self.catch_up.newest.get_mut(place)
            && is_since
        {
            *known = known.or(newest);
        }
    }

    /// Tells those who wait when nothing is lacking any more. Who does not answer is not waited for
    /// longer than [`CATCH_UP_NS`].
    pub(super) fn review_catch_up(&mut self) {
        if !self.catch_up.is_awaited() {
            return;
        }
        let waited_ns = self.now.now_ns.saturating_sub(self.catch_up.asked_ns);
        let has_come = self
            .peers
            .iter()
            .zip(&self.catch_up.newest)
            .all(|(peer, newest)| {
                let is_known = newest.is_some_and(|newest| peer.through() >= newest);
                is_known || !peer.state.is_alive()
            });
        let is_over = has_come && !self.owes() || waited_ns >= CATCH_UP_NS;
        if !is_over || self.news_room() < MAX_WORKERS {
            return;
        }
        for worker in 0..MAX_WORKERS {
            if std::mem::take(&mut self.catch_up.workers[worker]) {
                self.push_news(worker as u8, FromPeers::CaughtUp);
            }
        }
    }
}
