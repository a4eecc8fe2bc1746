//! How connections ended, and how long they took.

use hdrhistogram::Histogram;
use serde::Serialize;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Every exchange complete and verified, and the connection closed as it was meant to be.
    Completed,
    /// A RST answered the SYN.
    Refused,
    /// Nothing answered the SYNs.
    SynTimedOut,
    /// The request was not acknowledged.
    RequestTimedOut,
    /// The response did not come, or did not go on.
    ResponseTimedOut,
    /// A RST came before the response was complete, or while it was closed.
    Reset,
    /// The server closed before the response was complete.
    ClosedEarly,
    /// An octet of the response was not what it should be.
    PayloadWrong,
    /// The server reset or closed the connection while it was held open.
    HeldLost,
    /// The response was complete, and the close was not answered.
    CloseTimedOut,
    /// The tester ended it with the run.
    Abandoned,
}

impl End {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Completed,
        Self::Refused,
        Self::SynTimedOut,
        Self::RequestTimedOut,
        Self::ResponseTimedOut,
        Self::Reset,
        Self::ClosedEarly,
        Self::PayloadWrong,
        Self::HeldLost,
        Self::CloseTimedOut,
        Self::Abandoned,
    ];

    /// In few words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Refused => "refused by RST",
            Self::SynTimedOut => "SYN not answered",
            Self::RequestTimedOut => "request not acknowledged",
            Self::ResponseTimedOut => "response not come",
            Self::Reset => "reset",
            Self::ClosedEarly => "closed early",
            Self::PayloadWrong => "payload wrong",
            Self::HeldLost => "lost while held",
            Self::CloseTimedOut => "close not answered",
            Self::Abandoned => "abandoned by the tester",
        }
    }
}

/// What became of the connections of a run: `started` is the sum of all ends and of `open`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Connections begun.
    pub started: u64,
    counts: [u64; End::ALL.len()],
}

impl Ends {
    /// How many ended so.
    #[must_use]
    pub fn of(&self, end: End) -> u64 {
        self.counts[end as usize]
    }

    pub(super) fn count(&mut self, end: End) {
        self.counts[end as usize] += 1;
    }

    /// How many have ended, however.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.started - self.ended()
    }

    /// The share of ended connections that completed, from 0 to 1; of none, 0. What the tester
    /// itself has ended does not count.
    #[must_use]
    pub fn success(&self) -> f64 {
        let judged = self.ended() - self.of(End::Abandoned);
        match judged {
            0 => 0.0,
            judged => self.of(End::Completed) as f64 / judged as f64,
        }
    }

    /// What was added since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = *self;
        difference.started -= earlier.started;
        for (count, before) in difference.counts.iter_mut().zip(earlier.counts) {
            *count -= before;
        }
        difference
    }

    /// The ends that are not completions and that occurred, in words: `3 reset, 1 closed early`.
    #[must_use]
    pub fn failures(&self) -> String {
        let failed = End::ALL.into_iter().skip(1);
        let words: Vec<String> = failed
            .filter(|&end| self.of(end) > 0)
            .map(|end| format!("{} {}", self.of(end), end.words()))
            .collect();
        words.join(", ")
    }
}

/// Times from a connection's first SYN, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// Until the SYN-ACK came.
    pub syn_ack_ns: Histogram<u64>,
    /// Until the request was acknowledged: somebody holds the connection and takes its octets.
    pub established_ns: Histogram<u64>,
    /// Until the first octet of the response came (TTFB).
    pub first_byte_ns: Histogram<u64>,
    /// Until the last octet of the response came (TTLB).
    pub last_byte_ns: Histogram<u64>,
    /// Until the connection was closed; of those that completed.
    pub whole_ns: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        let empty = || Histogram::new(3).expect("three digits are a precision that exists");
        Self {
            syn_ack_ns: empty(),
            established_ns: empty(),
            first_byte_ns: empty(),
            last_byte_ns: empty(),
            whole_ns: empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_a_place_of_its_own_and_the_sums_hold() {
        let mut ends = Ends {
            started: 100,
            ..Ends::default()
        };
        for (number, end) in End::ALL.into_iter().enumerate() {
            assert_eq!(end as usize, number);
            (0..=number).for_each(|_| ends.count(end));
            assert_eq!(ends.of(end), number as u64 + 1);
        }
        assert_eq!((ends.ended(), ends.open()), (66, 34));
        // Eleven were abandoned.
        assert!((ends.success() - 1.0 / 55.0).abs() < 1e-9);
        assert!(ends.failures().starts_with("2 refused by RST, 3 SYN not"));
        assert_eq!(ends.since(&ends).failures(), "");
    }
}
