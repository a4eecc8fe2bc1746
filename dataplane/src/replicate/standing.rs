//! Whether this guard may carry sprayed traffic: how it stands among the guards of its site.

use super::PeerId;
use super::peer::Peer;
use super::replicator::Replicator;
use super::status::PeerState;

/// How a guard stands among the guards of its site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Standing {
    /// It lacks something that others know, or has not met all others yet.
    #[default]
    CatchingUp,
    /// It lacks nothing, and every other guard is in step with it or has said good-bye.
    InStep,
    /// It lacks nothing. Some guard is not in step with it, but it is in the larger part of the site.
    Degraded,
    /// It is in the smaller part of the site: others may carry the traffic, and do not know what it
    /// opens.
    CutOff,
}

impl Standing {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::CatchingUp, Self::InStep, Self::Degraded, Self::CutOff];

    /// The name shown by `tidegate show peers`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::CatchingUp => "catching up",
            Self::InStep => "in step",
            Self::Degraded => "degraded",
            Self::CutOff => "cut off",
        }
    }

    /// What it means, as a sentence about this guard.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::CatchingUp => "It still lacks sessions that other guards know.",
            Self::InStep => "It lacks nothing, and every other guard is in step with it.",
            Self::Degraded => {
                "It lacks nothing. Another guard is not in step with it, but this one is in the \
                 larger part of the site."
            }
            Self::CutOff => {
                "Guards that it does not reach may carry the site's traffic, and do not know what \
                 it opens."
            }
        }
    }

    /// Whether the routers may send it packets of any connection.
    pub const fn may_carry(self) -> bool {
        matches!(self, Self::InStep | Self::Degraded)
    }
}

/// How another guard counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// It is alive and in step with us.
    InStep,
    /// It is alive and hears us, but one of us still fetches what the other one knows.
    Fetching,
    /// It is dead, was never met, does not hear us, or lags.
    Lost,
    /// It has said good-bye and takes no part.
    Left,
}

/// How the guard `own` stands, from what it knows of the others.
fn judge(own: PeerId, lacks: bool, others: impl Iterator<Item = (PeerId, Link)>) -> Standing {
    if lacks {
        return Standing::CatchingUp;
    }
    let (mut all_in_step, mut with_us, mut lost) = (true, 1_usize, 0_usize);
    // The lowest number of the site decides between two halves.
    let (mut lowest, mut lowest_is_lost) = (own, false);
    for (id, link) in others.filter(|(_, link)| *link != Link::Left) {
        all_in_step &= link == Link::InStep;
        let is_lost = link == Link::Lost;
        if is_lost {
            lost += 1;
        } else {
            with_us += 1;
        }
        if id < lowest {
            (lowest, lowest_is_lost) = (id, is_lost);
        }
    }
    if all_in_step {
        Standing::InStep
    } else if with_us > lost || (with_us == lost && !lowest_is_lost) {
        Standing::Degraded
    } else {
        Standing::CutOff
    }
}

impl Peer {
    fn link(&self) -> Link {
        let has_left = self.current.as_ref().is_some_and(|life| life.hello.leaving);
        match self.state {
            // One that comes back counts again once it is met.
            _ if has_left => Link::Left,
            PeerState::InStep => Link::InStep,
            PeerState::Resync if self.of_us.alive => Link::Fetching,
            _ => Link::Lost,
        }
    }
}

impl Replicator {
    /// How this guard stands among the guards of its site.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// How it stands now. A guard that nobody has met counts as lost once the wait for the others is
    /// over.
    pub(super) fn find_standing(&self) -> Standing {
        let is_unmet = |peer: &Peer| peer.current.is_none();
        let waits = self.waits_for_others() && self.peers.iter().any(is_unmet);
        let others = self.peers.iter().map(|peer| (peer.id, peer.link()));
        judge(self.config.id, !self.in_step || waits, others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(own: u8, others: &[(u8, Link)]) -> Standing {
        let others = others.iter().map(|&(id, link)| (PeerId(id), link));
        judge(PeerId(own), false, others)
    }

    #[test]
    fn one_that_lacks_something_catches_up_however_the_others_are() {
        for link in [Link::InStep, Link::Fetching, Link::Lost, Link::Left] {
            let others = [(PeerId(2), link)].into_iter();
            assert_eq!(judge(PeerId(1), true, others), Standing::CatchingUp);
        }
    }

    #[test]
    fn in_step_needs_every_guard_that_has_not_left() {
        assert_eq!(judged(1, &[]), Standing::InStep);
        let two = [(2, Link::InStep), (3, Link::Left)];
        assert_eq!(judged(1, &two), Standing::InStep);
        assert_eq!(judged(9, &[(2, Link::Left)]), Standing::InStep);
        for link in [Link::Fetching, Link::Lost] {
            let others = [(2, Link::InStep), (3, link)];
            assert_eq!(judged(1, &others), Standing::Degraded);
        }
    }

    #[test]
    fn the_smaller_part_is_cut_off() {
        let (with, lost) = (Link::InStep, Link::Lost);
        assert_eq!(judged(1, &[(2, lost), (3, lost)]), Standing::CutOff);
        assert_eq!(judged(3, &[(1, lost), (2, with)]), Standing::Degraded);
        // One that has left is no part of the site.
        let left = [(2, lost), (3, lost), (4, Link::Left), (5, Link::Left)];
        assert_eq!(judged(1, &left), Standing::CutOff);
        // One that fetches from us takes part with us.
        let fetching = [(1, lost), (2, Link::Fetching)];
        assert_eq!(judged(3, &fetching), Standing::Degraded);
    }

    #[test]
    fn of_two_halves_the_one_with_the_lowest_number_carries() {
        let (with, lost) = (Link::InStep, Link::Lost);
        assert_eq!(judged(1, &[(2, lost)]), Standing::Degraded);
        assert_eq!(judged(2, &[(1, lost)]), Standing::CutOff);
        assert_eq!(
            judged(4, &[(1, with), (2, lost), (3, lost)]),
            Standing::Degraded
        );
        assert_eq!(
            judged(3, &[(1, lost), (2, with), (4, lost)]),
            Standing::CutOff
        );
        // Where the lowest has left, the lowest of the others decides.
        assert_eq!(judged(2, &[(1, Link::Left), (3, lost)]), Standing::Degraded);
    }

    #[test]
    fn never_two_parts_may_carry() {
        for guards in 2..=6_u8 {
            for parts in 0..1_u32 << guards {
                let part = |id: u8| parts >> id & 1;
                let standings = (0..guards).map(|own| {
                    let others = (0..guards).filter(|&id| id != own).map(|id| {
                        let is_with = part(id) == part(own);
                        (id, if is_with { Link::InStep } else { Link::Lost })
                    });
                    let others: Vec<_> = others.collect();
                    (part(own), judged(own, &others).may_carry())
                });
                let mut carrying: Vec<_> = standings
                    .filter_map(|(part, carries)| carries.then_some(part))
                    .collect();
                carrying.dedup();
                carrying.sort_unstable();
                carrying.dedup();
                assert_eq!(carrying.len(), 1, "{guards} guards, {parts:b}");
            }
        }
    }
}
