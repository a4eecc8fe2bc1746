//! One direction of a link: rate, queue, delay, jitter, loss (single or in bursts), reordering and
//! duplication.

use arrayvec::ArrayVec;

use crate::random::Random;

/// Loss in bursts, by the Gilbert–Elliott model: a link is in a good or a bad state, and each packet
/// may change it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bursts {
    /// The probability that a packet finds the good state turned bad.
    pub enter: f64,
    /// The probability that a packet finds the bad state turned good: bad times last for 1/`leave`
    /// packets on average.
    pub leave: f64,
    /// The probability that a packet is lost in the bad state.
    pub loss: f64,
}

/// What a link does to packets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkSettings {
    /// How many bits a second leave the queue; 0 is no limit.
    pub rate_bits_per_second: u64,
    /// How long every packet is on its way.
    pub delay_ns: u64,
    /// Up to how much longer a packet may be on its way. It never changes the order.
    pub jitter_ns: u64,
    /// The probability that a packet is lost; with `bursts`, while the link is in its good state.
    pub loss: f64,
    /// Loss in bursts; without, the link is always in its good state.
    pub bursts: Option<Bursts>,
    /// The probability that a packet is held back by `reorder_delay_ns` while others pass it.
    pub reorder: f64,
    /// How long a reordered packet is held back.
    pub reorder_delay_ns: u64,
    /// The probability that a packet arrives twice.
    pub duplicate: f64,
    /// How many bytes wait for the link before it refuses more; without a rate nothing waits.
    pub queue_bytes: u64,
}

impl Default for LinkSettings {
    /// A link that changes nothing, with a queue of 1 MB for when it is given a rate.
    fn default() -> Self {
        Self {
            rate_bits_per_second: 0,
            delay_ns: 0,
            jitter_ns: 0,
            loss: 0.0,
            bursts: None,
            reorder: 0.0,
            reorder_delay_ns: 5_000_000,
            duplicate: 0.0,
            queue_bytes: 1_000_000,
        }
    }
}

impl LinkSettings {
    /// The share of packets that are lost in the long run.
    #[must_use]
    pub fn mean_loss(&self) -> f64 {
        match self.bursts {
            Some(bursts) if bursts.enter > 0.0 => {
                let bad = bursts.enter / (bursts.enter + bursts.leave);
                bad * bursts.loss + (1.0 - bad) * self.loss
            }
            _ => self.loss,
        }
    }
}

/// What a link has done since it was made.
///
/// `offered = lost + refused + (delivered - duplicated)` holds at all times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Packets handed to the link.
    pub offered: u64,
    /// Deliveries, the second ones of duplicated packets included.
    pub delivered: u64,
    /// Packets lost on the way.
    pub lost: u64,
    /// Packets that found the queue full.
    pub refused: u64,
    /// Packets delivered twice.
    pub duplicated: u64,
    /// Packets held back so that others pass them.
    pub reordered: u64,
}

/// One direction of a link.
///
/// Call [`Link::offer`] with each packet's length, at times that never go back; it answers when
/// the packet arrives. Keeping the packet until then is the caller's part.
#[derive(Clone, Debug)]
pub struct Link {
    settings: LinkSettings,
    random: Random,
    counters: LinkCounters,
    /// Whether the link is in its bad state.
    is_bad: bool,
    /// When the last packet that was taken has left the queue.
    idle_at_ns: u64,
    /// When the last packet that kept its order arrives.
    last_arrival_ns: u64,
}

impl Link {
    /// A link that behaves the same for the same `seed` and the same offers.
    #[must_use]
    pub fn new(settings: LinkSettings, seed: u64) -> Self {
        Self {
            settings,
            random: Random::new(seed),
            counters: LinkCounters::default(),
            is_bad: false,
            idle_at_ns: 0,
            last_arrival_ns: 0,
        }
    }

    /// What the link has done so far.
    #[must_use]
    pub fn counters(&self) -> LinkCounters {
        self.counters
    }

    /// Changes what the link does to packets offered from here on.
    pub fn set(&mut self, settings: LinkSettings) {
        self.settings = settings;
    }

    /// Takes a packet of `length_bytes` at `now_ns` and tells when it arrives: never, once, or
    /// twice.
    pub fn offer(&mut self, length_bytes: usize, now_ns: u64) -> ArrayVec<u64, 2> {
        self.counters.offered += 1;
        let mut arrivals = ArrayVec::new();
        let Some(left_ns) = self.queue(length_bytes, now_ns) else {
            self.counters.refused += 1;
            return arrivals;
        };
        // A packet that is lost has taken its share of the rate, as on a real link.
        if self.is_lost() {
            self.counters.lost += 1;
            return arrivals;
        }
        arrivals.push(self.arrival(left_ns));
        if self.random.chance(self.settings.duplicate) {
            self.counters.duplicated += 1;
            arrivals.push(self.arrival(left_ns));
        }
        self.counters.delivered += arrivals.len() as u64;
        arrivals
    }

    /// Whether the next packet is lost. It first changes the state, if it does.
    fn is_lost(&mut self) -> bool {
        let Some(bursts) = self.settings.bursts else {
            self.is_bad = false;
            return self.random.chance(self.settings.loss);
        };
        let turns = if self.is_bad {
            bursts.leave
        } else {
            bursts.enter
        };
        self.is_bad ^= self.random.chance(turns);
        let loss = if self.is_bad {
            bursts.loss
        } else {
            self.settings.loss
        };
        self.random.chance(loss)
    }

    /// When the packet has left the queue, or `None` when the queue is full.
    fn queue(&mut self, length_bytes: usize, now_ns: u64) -> Option<u64> {
        let rate = self.settings.rate_bits_per_second;
        if rate == 0 {
            return Some(now_ns);
        }
        let begins_ns = self.idle_at_ns.max(now_ns);
        let waiting_bytes = bytes_sent(begins_ns - now_ns, rate);
        let length_bytes = length_bytes as u64;
        // A packet larger than the whole queue still passes an idle link.
        if waiting_bytes > 0 && waiting_bytes + length_bytes > self.settings.queue_bytes {
            return None;
        }
        self.idle_at_ns = begins_ns + time_to_send_ns(length_bytes, rate);
        Some(self.idle_at_ns)
    }

    fn arrival(&mut self, left_ns: u64) -> u64 {
        let jitter_ns = match self.settings.jitter_ns {
            0 => 0,
            jitter_ns => self.random.below(jitter_ns + 1),
        };
        let arrives_ns = left_ns + self.settings.delay_ns + jitter_ns;
        if self.random.chance(self.settings.reorder) {
            self.counters.reordered += 1;
            return arrives_ns + self.settings.reorder_delay_ns;
        }
        self.last_arrival_ns = self.last_arrival_ns.max(arrives_ns);
        self.last_arrival_ns
    }
}

fn time_to_send_ns(length_bytes: u64, rate_bits_per_second: u64) -> u64 {
    let bits = u128::from(length_bytes) * 8;
    let time_ns = (bits * 1_000_000_000).div_ceil(u128::from(rate_bits_per_second));
    u64::try_from(time_ns).unwrap_or(u64::MAX)
}

fn bytes_sent(time_ns: u64, rate_bits_per_second: u64) -> u64 {
    let bits = u128::from(time_ns) * u128::from(rate_bits_per_second) / 1_000_000_000;
    u64::try_from(bits / 8).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn once(link: &mut Link, length_bytes: usize, now_ns: u64) -> u64 {
        let arrivals = link.offer(length_bytes, now_ns);
        assert_eq!(arrivals.len(), 1);
        arrivals[0]
    }

    #[test]
    fn a_default_link_changes_nothing() {
        let mut link = Link::new(LinkSettings::default(), 1);
        for now_ns in [0, 5, 5, 900] {
            assert_eq!(once(&mut link, 1500, now_ns), now_ns);
        }
    }

    #[test]
    fn packets_take_their_time_at_the_rate_and_then_the_delay() {
        let settings = LinkSettings {
            rate_bits_per_second: 12_000_000,
            delay_ns: 10 * MS,
            ..LinkSettings::default()
        };
        let mut link = Link::new(settings, 1);
        // 1500 bytes at 12 Mbit/s are 1 ms on the wire.
        assert_eq!(once(&mut link, 1500, 0), 11 * MS);
        assert_eq!(once(&mut link, 1500, 0), 12 * MS);
        assert_eq!(once(&mut link, 1500, 50 * MS), 61 * MS);
    }

    #[test]
    fn a_full_queue_refuses_and_an_idle_one_takes_any_packet() {
        let settings = LinkSettings {
            rate_bits_per_second: 12_000_000,
            queue_bytes: 3000,
            ..LinkSettings::default()
        };
        let mut link = Link::new(settings, 1);
        assert_eq!(link.offer(1500, 0).len(), 1);
        assert_eq!(link.offer(1500, 0).len(), 1);
        assert_eq!(link.offer(1500, 0).len(), 0);
        assert_eq!(link.counters().refused, 1);
        // One packet has left after 1 ms and makes room for one.
        assert_eq!(link.offer(1500, MS).len(), 1);
        assert_eq!(link.offer(9000, 100 * MS).len(), 1);
    }

    #[test]
    fn jitter_never_changes_the_order() {
        let settings = LinkSettings {
            delay_ns: 20 * MS,
            jitter_ns: 10 * MS,
            ..LinkSettings::default()
        };
        let mut link = Link::new(settings, 9);
        let arrivals: Vec<u64> = (0..1000)
            .map(|n| once(&mut link, 100, n * 10_000))
            .collect();
        assert!(arrivals.is_sorted());
        for (n, arrival_ns) in arrivals.iter().enumerate() {
            let spent_ns = arrival_ns - n as u64 * 10_000;
            assert!((20 * MS..=30 * MS).contains(&spent_ns), "{spent_ns}");
        }
        assert_ne!(arrivals[0] + 10_000, arrivals[1], "jitter has no effect");
    }

    #[test]
    fn loss_duplication_and_reordering_keep_their_probabilities_and_add_up() {
        let settings = LinkSettings {
            delay_ns: MS,
            loss: 0.1,
            duplicate: 0.05,
            reorder: 0.02,
            ..LinkSettings::default()
        };
        let mut link = Link::new(settings, 5);
        let mut delivered = 0;
        let mut overtaken = 0;
        let mut latest_ns = 0;
        for n in 0..100_000_u64 {
            let arrivals = link.offer(100, n * 100_000);
            delivered += arrivals.len() as u64;
            overtaken += arrivals
                .iter()
                .filter(|&&at_ns| at_ns > n * 100_000 + MS)
                .count();
            latest_ns = arrivals.iter().copied().max().unwrap_or(latest_ns);
        }
        let counters = link.counters();
        assert_eq!(counters.delivered, delivered);
        assert_eq!(
            counters.offered,
            counters.lost + delivered - counters.duplicated
        );
        assert!((9_500..10_500).contains(&counters.lost), "{counters:?}");
        assert!(
            (4_200..4_800).contains(&counters.duplicated),
            "{counters:?}"
        );
        assert!((1_700..2_100).contains(&counters.reordered), "{counters:?}");
        assert_eq!(overtaken as u64, counters.reordered);
    }

    /// How many packets of so many are lost, and the lengths of the runs in which they are.
    fn losses(settings: LinkSettings, packets: u64) -> (u64, Vec<u64>) {
        let mut link = Link::new(settings, 11);
        let mut runs = Vec::new();
        let mut run = 0;
        for n in 0..packets {
            if link.offer(100, n).is_empty() {
                run += 1;
            } else if run > 0 {
                runs.push(run);
                run = 0;
            }
        }
        (link.counters().lost, runs)
    }

    #[test]
    fn lost_packets_come_in_runs_as_long_as_theory_says() {
        const PACKETS: u64 = 2_000_000;
        for (enter, leave) in [(0.001, 0.1), (0.01, 0.25), (0.05, 0.5)] {
            let bursts = Bursts {
                enter,
                leave,
                loss: 1.0,
            };
            let settings = LinkSettings {
                bursts: Some(bursts),
                ..LinkSettings::default()
            };
            let (lost, runs) = losses(settings, PACKETS);
            // Of a chain of two states: the bad one's share, and the mean of a geometric length.
            let share = lost as f64 / PACKETS as f64;
            assert!((share / settings.mean_loss() - 1.0).abs() < 0.05, "{share}");
            let mean = lost as f64 / runs.len() as f64;
            assert!((mean * leave - 1.0).abs() < 0.05, "{mean} packets a run");
            // A run is longer than n with probability (1 - leave)^n.
            let long = runs.iter().filter(|&&run| run > 3).count() as f64 / runs.len() as f64;
            assert!((long / (1.0 - leave).powi(3) - 1.0).abs() < 0.06, "{long}");
        }
    }

    #[test]
    fn both_states_lose_what_they_are_told_to() {
        let settings = LinkSettings {
            loss: 0.01,
            bursts: Some(Bursts {
                enter: 0.02,
                leave: 0.08,
                loss: 0.5,
            }),
            ..LinkSettings::default()
        };
        // A fifth of the time is bad: 0.2 · 0.5 + 0.8 · 0.01.
        assert!((settings.mean_loss() - 0.108).abs() < 1e-9);
        let (lost, _) = losses(settings, 1_000_000);
        assert!((lost as f64 / 108_000.0 - 1.0).abs() < 0.03, "{lost}");
    }

    #[test]
    fn bursts_that_never_begin_change_nothing() {
        let settings = LinkSettings {
            bursts: Some(Bursts {
                enter: 0.0,
                leave: 0.0,
                loss: 1.0,
            }),
            ..LinkSettings::default()
        };
        assert_eq!(settings.mean_loss(), 0.0);
        assert_eq!(losses(settings, 10_000), (0, Vec::new()));
    }

    #[test]
    fn a_seed_repeats_the_run_and_another_one_does_not() {
        let settings = LinkSettings {
            loss: 0.5,
            jitter_ns: MS,
            ..LinkSettings::default()
        };
        let run = |seed| {
            let mut link = Link::new(settings, seed);
            (0..200)
                .map(|n| link.offer(100, n * MS))
                .collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
