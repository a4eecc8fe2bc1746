//! Octets delivered are octets sent, in their order, and all of them where both ends closed.

use super::Invariant;
use crate::host::{Close, End, Record, SharedBook};
use crate::world::World;

/// What every TCP connection of a [`crate::host::Book`] must keep.
pub struct Streams {
    book: SharedBook,
}

impl Streams {
    /// For the connections of `book`.
    #[must_use]
    pub fn new(book: SharedBook) -> Self {
        Self { book }
    }
}

impl Invariant for Streams {
    fn name(&self) -> &'static str {
        "streams are delivered as they were sent"
    }

    fn check(&mut self, _world: &World) -> Result<(), String> {
        let book = self.book.borrow();
        if let Some(fault) = book.faults.first() {
            return Err(fault.clone());
        }
        for (number, record) in book.records.iter().enumerate() {
            check_record(record)
                .map_err(|what| format!("connection {number}: {what}: {record:?}"))?;
        }
        Ok(())
    }

    fn at_end(&mut self, _world: &World) -> Result<(), String> {
        let book = self.book.borrow();
        for (number, record) in book.records.iter().enumerate() {
            if is_held_up(&book.records, number) {
                continue;
            }
            if record.plan.must_succeed && !went_as_planned(record) {
                return Err(format!(
                    "connection {number} did not go as planned: {record:?}"
                ));
            }
        }
        Ok(())
    }
}

/// Whether a connection never began since the one that it waits for has moved all its data and does
/// not end: see [`crate::host::Plan::must_close`].
fn is_held_up(records: &[Record], number: usize) -> bool {
    let waits = records[number].plan.after_ns.is_some() && records[number].client.sent == 0;
    let Some(before) = number.checked_sub(1).filter(|_| waits) else {
        return false;
    };
    let is_open = records[before].client.end.is_none() && !records[before].plan.must_close;
    is_open && (went_as_planned(&records[before]) || is_held_up(records, before))
}

fn check_record(record: &Record) -> Result<(), &'static str> {
    let (client, server) = (&record.client, &record.server);
    // A server that was restarted has forgotten what it sent.
    if record.served == 0 {
        return Ok(());
    }
    if client.received > server.sent {
        return Err("the client received more than the server sent");
    }
    if server.received > client.sent {
        return Err("the server received more than the client sent");
    }
    if client.saw_end && client.received != server.sent {
        return Err("the client saw a clean end before all that the server sent");
    }
    if server.saw_end && server.received != client.sent {
        return Err("the server saw a clean end before all that the client sent");
    }
    Ok(())
}

fn went_as_planned(record: &Record) -> bool {
    let plan = &record.plan;
    match plan.close {
        Close::ClientAborts(_) => record.client.end.is_some(),
        // The abort's RST may be lost, and is not repeated.
        Close::ServerAborts(_) => record.server.end.is_some(),
        _ => {
            let ends = [record.client.end, record.server.end];
            (ends == [Some(End::Closed); 2] || !plan.must_close)
                && record.server.received == plan.up_bytes
                && record.client.received == plan.down_bytes
        }
    }
}
