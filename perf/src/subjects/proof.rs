//! Whether a subject was really in the path: what it counted itself, beside what the tester saw.

use super::Kind;

/// What a subject has counted since it was started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Account {
    /// Frames that came in by its two ports.
    pub received_frames: u64,
    /// Frames that left by its two ports.
    pub sent_frames: u64,
    /// Packets that it says it has forwarded, where it tells that apart from frames.
    pub forwarded_packets: Option<u64>,
    /// Connections that it says have come about through it, where it knows of connections.
    pub connections: Option<u64>,
    /// The time it spent on packets, where it tells.
    pub busy: Option<Busy>,
}

/// The time of turns that found packets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Busy {
    /// The time, in nanoseconds.
    pub busy_ns: f64,
    /// The packets.
    pub packets: u64,
}

impl Busy {
    /// Nanoseconds for each packet, since an earlier one; none where none came.
    #[must_use]
    pub fn ns_per_packet_since(&self, earlier: &Self) -> Option<f64> {
        let packets = self.packets.checked_sub(earlier.packets)?;
        (packets > 0).then(|| (self.busy_ns - earlier.busy_ns) / packets as f64)
    }
}

impl Account {
    /// What came since an earlier one; none where a counter went backwards.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        let both = |now: Option<u64>, then: Option<u64>| match (now, then) {
            (Some(now), Some(then)) => now.checked_sub(then).map(Some),
            _ => Some(None),
        };
        Some(Self {
            received_frames: self.received_frames.checked_sub(earlier.received_frames)?,
            sent_frames: self.sent_frames.checked_sub(earlier.sent_frames)?,
            forwarded_packets: both(self.forwarded_packets, earlier.forwarded_packets)?,
            connections: both(self.connections, earlier.connections)?,
            busy: None,
        })
    }
}

/// What the tester saw meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Frames that it sent by its two ports.
    pub sent_frames: u64,
    /// Of those, how many came back by the other port. None where the subject ends TCP itself, or
    /// what the tester receives is not what it sent.
    pub carried_frames: Option<u64>,
    /// Connections that came about between its clients and its servers.
    pub connections: u64,
}

/// A subject that was not in the path, or not alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{subject} was not proved to be in the path: {what}; the figure would be of something else, \
     so there is none"
)]
pub struct Unproved {
    /// Who.
    pub subject: Kind,
    /// What does not fit.
    pub what: String,
}

/// Compares what a subject counted between two accounts with what the tester saw between them.
///
/// # Errors
/// When the subject cannot have carried what the tester saw: it counted fewer frames, fewer
/// forwarded packets or fewer connections.
pub fn prove(kind: Kind, before: &Account, after: &Account, seen: &Seen) -> Result<(), Unproved> {
    let unproved = |what: String| {
        Err(Unproved {
            subject: kind,
            what,
        })
    };
    let Some(counted) = after.since(before) else {
        return unproved("its counters went backwards; was it started anew?".into());
    };
    if seen.sent_frames > 0 && counted.received_frames == 0 {
        let sent = seen.sent_frames;
        return unproved(format!(
            "the tester sent {sent} frames, and not one came to it"
        ));
    }
    if let Some(carried) = seen.carried_frames {
        let stages = [
            ("received", Some(counted.received_frames)),
            ("sent", Some(counted.sent_frames)),
            ("forwarded", counted.forwarded_packets),
        ];
        for (verb, count) in stages {
            if let Some(count) = count
                && count < carried
            {
                return unproved(format!(
                    "{carried} frames came back to the tester, and it {verb} {count}"
                ));
            }
        }
    }
    if let Some(connections) = counted.connections
        && connections < seen.connections
    {
        return unproved(format!(
            "{} connections came about, and it counted {connections}",
            seen.connections
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(received: u64, sent: u64) -> Account {
        Account {
            received_frames: received,
            sent_frames: sent,
            ..Account::default()
        }
    }

    fn seen(sent: u64, carried: u64) -> Seen {
        Seen {
            sent_frames: sent,
            carried_frames: Some(carried),
            connections: 0,
        }
    }

    #[test]
    fn who_counted_what_the_tester_saw_is_proved() {
        let before = account(10, 10);
        assert_eq!(
            prove(
                Kind::TestpmdMac,
                &before,
                &account(1010, 910),
                &seen(1000, 900)
            ),
            Ok(())
        );
        // It sent more than arrived: that is a loss behind it.
        assert_eq!(
            prove(
                Kind::TestpmdMac,
                &before,
                &account(1010, 1010),
                &seen(1000, 900)
            ),
            Ok(())
        );
    }

    #[test]
    fn who_counted_less_is_found_out() {
        let before = account(10, 10);
        for (after, word) in [
            (account(10, 10), "not one came"),
            (account(500, 500), "received 490"),
            (account(1010, 500), "sent 490"),
            (account(5, 10), "backwards"),
        ] {
            let error = prove(Kind::Tidegate, &before, &after, &seen(1000, 900)).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn frames_that_went_past_the_kernels_forwarding_prove_nothing() {
        let with = |forwarded, connections| Account {
            forwarded_packets: Some(forwarded),
            connections: Some(connections),
            ..account(2000, 2000)
        };
        let before = Account {
            forwarded_packets: Some(0),
            connections: Some(0),
            ..Account::default()
        };
        let error = prove(Kind::Kernel, &before, &with(3, 0), &seen(1000, 900)).unwrap_err();
        assert!(error.to_string().contains("forwarded 3"), "{error}");
        let with_connections = Seen {
            sent_frames: 1000,
            carried_frames: None,
            connections: 50,
        };
        let proof = |count| prove(Kind::Haproxy, &before, &with(0, count), &with_connections);
        assert_eq!(proof(50), Ok(()));
        assert!(proof(49).unwrap_err().to_string().contains("counted 49"));
    }
}
