//! How this appliance stands in its site: the site's clock, and whether all guards are there.

use super::replicator::Replicator;
use super::status::PeerState;
use super::{FromPeers, Site};

/// How far ahead of ours a peer's clock counts at most. Keys ask for clocks that agree better.
const MAX_LEAD_MS: u64 = 64_000;
/// Smaller differences are those of reading the clock.
const LEAD_GRAIN_MS: u32 = 10;

/// What the workers know of the site.
pub(super) struct SiteView {
    now: Site,
    /// How many workers know it.
    workers_told: usize,
}

impl SiteView {
    /// Of a site of which nobody was heard yet.
    pub(super) fn new(is_alone: bool) -> Self {
        let now = Site {
            lead_ms: 0,
            is_whole: is_alone,
            may_carry: is_alone,
        };
        Self {
            now,
            workers_told: 0,
        }
    }

    fn set(&mut self, site: Site) {
        if site != self.now {
            self.now = site;
            self.workers_told = 0;
        }
    }
}

impl Replicator {
    /// A peer's greeting tells its clock. The site's is the fastest one of all guards that were heard:
    /// what one guard begins after it heard of another's is later on it, whoever began that.
    pub(super) fn hear_clock(&mut self, place: usize, unix_ms: u64) {
        let lead_ms = unix_ms.saturating_sub(self.now.unix_ms);
        self.peers[place].lead_ms = lead_ms.min(MAX_LEAD_MS);
        let fastest = self.peers.iter().map(|peer| peer.lead_ms).max();
        let lead_ms = fastest.unwrap_or(0) as u32;
        if lead_ms.abs_diff(self.site.now.lead_ms) >= LEAD_GRAIN_MS {
            self.site.set(Site {
                lead_ms,
                ..self.site.now
            });
        }
    }

    /// Looks whether all guards are there, and how this one stands among them.
    pub(super) fn review_site(&mut self) {
        let is_whole = self.peers.iter().all(|peer| {
            let has_left = peer.state == PeerState::Left;
            has_left || peer.state.is_alive() && peer.of_us.alive
        });
        self.site.set(Site {
            is_whole,
            may_carry: self.standing.may_carry(),
            ..self.site.now
        });
    }

    /// What the next worker that does not know it is to hear.
    pub(super) fn next_site_news(&mut self) -> Option<(usize, FromPeers)> {
        let worker = self.site.workers_told;
        if worker >= self.config.workers {
            return None;
        }
        self.site.workers_told += 1;
        Some((worker, FromPeers::Site(self.site.now)))
    }

    /// How many workers do not know it.
    pub(super) fn site_news_waiting(&self) -> usize {
        self.config.workers - self.site.workers_told
    }
}
