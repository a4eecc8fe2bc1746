//! A subject is measured only where it is proved to have been in the path.

use std::time::Duration;

use super::{Failure, Place};
use crate::subjects::{Seen, prove};
use crate::traffic::{Sizes, Traffic};
use crate::trial::{Load, Trial, TrialError};

/// A load that everybody carries, and for how long.
const LOAD: Load = Load {
    frames_per_s: 2_000.0,
    duration: Duration::from_millis(250),
};

/// Octets of its frames.
const SIZE: u32 = 128;

impl Place {
    /// Lets the subject work, and proves that what the tester sends goes through it. None when the
    /// user interrupts.
    pub(super) fn resume(&mut self) -> Result<Option<()>, Failure> {
        let Some(subject) = &mut self.subject else {
            return Ok(Some(()));
        };
        subject.resume()?;
        let before = subject.account()?;
        // Of what is to be measured perhaps nothing is known again.
        let wanted = self.tester.traffic().clone();
        let plain = Traffic::both_ways("proof", &Sizes::fixed(SIZE)?, false);
        self.tester.set_traffic(plain)?;
        let outcome = self.tester.run(LOAD);
        self.tester.set_traffic(wanted)?;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(TrialError::Interrupted) => return Ok(None),
            Err(failure) => return Err(failure.into()),
        };
        if outcome.received == 0 {
            return Err(format!(
                "{} carried none of {} frames that were sent",
                self.name, outcome.sent
            )
            .into());
        }
        let after = subject.account()?;
        let seen = Seen {
            sent_frames: outcome.sent,
            carried_frames: Some(outcome.received),
            connections: 0,
        };
        prove(subject.kind(), &before, &after, &seen)?;
        Ok(Some(()))
    }

    /// Lets it rest, so that others have the core.
    pub(super) fn rest(&mut self) -> Result<(), Failure> {
        if let Some(subject) = &mut self.subject {
            subject.rest()?;
        }
        Ok(())
    }
}
