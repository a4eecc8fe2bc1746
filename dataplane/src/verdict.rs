//! How a packet leaves the walk.

use crate::drop_reason::DropReason;

/// The one way in which a handled packet leaves. It carries the packet, so that none can leave
/// twice or stay behind.
#[derive(Debug)]
#[must_use]
pub enum Verdict<B> {
    /// Send it on towards its destination. It is whole from its link-layer header on; the hop
    /// writes that header.
    Forward(B),
    /// Send it back out of the port it came from; its link-layer addresses are still the
    /// received ones and are swapped by the worker.
    Reply(B),
    /// It was kept, or used up; whoever did so accounts for it.
    Hold,
    /// It ends here by a rule that wants its sender told, by an ICMP error.
    Reject(B),
    /// It ends here.
    Drop(B, DropReason),
}

/// What was read of a packet; one that cannot be read is dropped for the reason that is told, and the
/// function left with that verdict.
macro_rules! or_drop {
    ($packet:ident, $read:expr) => {
        match $read {
            Ok(read) => read,
            Err(reason) => return $crate::verdict::Verdict::Drop($packet, reason),
        }
    };
}

pub(crate) use or_drop;
