//! Whether guards agree on which sessions there are.
//!
//! While all are alive and nothing is lost between them, they hold the same sessions as living; and
//! none holds as living what both ends have ended. What is just on its way does not count: only what
//! stays so for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dataplane::counters::Event;
use dataplane::drop_reason::DropReason;
use dataplane::guard::session::State;

use super::{MS, SharedStage};
use crate::appliance::Appliance;
use crate::frame::Ends;
use crate::host::{End, SharedBook};
use crate::world::{Failure, World};

/// How often they are asked, and how long there is between.
const ROUNDS: usize = 8;
const ROUND_NS: u64 = 250 * MS;

/// What a guard holds: of each session's ends the client's first number, and how far it is.
type Sessions = BTreeMap<Ends, (u32, State)>;

fn sessions_of(appliance: &Appliance) -> Sessions {
    let mut sessions = Sessions::new();
    for worker in appliance.workers() {
        let guard = worker.guard();
        let mut last = None;
        while let Some((id, session)) = guard.next_session(last) {
            last = Some(id);
            let server = guard.servers().get(session.server).address;
            let ends = Ends {
                source: IpAddr::from(session.client),
                source_port: session.client_port,
                destination: IpAddr::from(server),
                destination_port: session.server_port,
            };
            sessions.insert(ends, (session.client_isn(), session.state));
        }
    }
    sessions
}

/// Whether a guard had no room for what its peers told it.
fn is_short(appliance: &Appliance) -> bool {
    appliance.counters().event(Event::RecordRefused) > 0
        || appliance.drops(DropReason::SessionTableFull) > 0
}

/// What is not as it should be now, as sentences.
fn faults(
    world: &World,
    stage: &SharedStage,
    book: &SharedBook,
    ends_count: bool,
) -> BTreeSet<String> {
    let guards: Vec<(String, Sessions, bool)> = stage
        .guards
        .iter()
        .map(|&id| {
            let appliance = world.get::<Appliance>(id);
            let sessions = sessions_of(appliance);
            (world.name_of(id), sessions, is_short(appliance))
        })
        .collect();
    let mut faults = BTreeSet::new();
    for (name, sessions, _) in &guards {
        let living = sessions
            .iter()
            .filter(|(_, (_, state))| *state == State::Established);
        for (ends, (isn, _)) in living {
            for (other, known, is_short) in &guards {
                let fault = match known.get(ends) {
                    Some((same, State::Established)) if same == isn => continue,
                    // It was not taken in, or is opened anew by a client's repetition.
                    None | Some((_, State::Opening)) if *is_short => continue,
                    Some((same, state)) if same == isn => format!("has it {}", state.label()),
                    Some((_, state)) => format!("has another one of its ports {}", state.label()),
                    None => "does not know it".to_owned(),
                };
                faults.insert(format!(
                    "{name} holds {ends} of {isn} as living, {other} {fault}"
                ));
            }
            if ends_count && is_over(book, *ends) {
                faults.insert(format!(
                    "{name} holds {ends} of {isn} as living, and both its ends are over"
                ));
            }
        }
    }
    faults
}

/// Whether all connections of these ends have ended at both.
fn is_over(book: &SharedBook, ends: Ends) -> bool {
    let book = book.borrow();
    let mut records = book
        .records
        .iter()
        .filter(|record| record.plan.ends() == ends);
    records.all(|record| [record.client.end, record.server.end] == [Some(End::Closed); 2])
}

/// Lets the world go on for some seconds in which all guards must agree in the end. `ends_count` says
/// whether every guard that saw the end of a session was there to tell it.
///
/// # Errors
/// On what they do not agree.
pub(super) fn require(
    world: &mut World,
    stage: &SharedStage,
    book: &SharedBook,
    ends_count: bool,
) -> Result<(), Box<Failure>> {
    let mut lasting = faults(world, stage, book, ends_count);
    for _ in 0..ROUNDS {
        if lasting.is_empty() {
            return Ok(());
        }
        world.run_for(ROUND_NS)?;
        let now = faults(world, stage, book, ends_count);
        lasting.retain(|fault| now.contains(fault));
    }
    match lasting.first() {
        None => Ok(()),
        Some(first) => {
            let count = lasting.len();
            let what = format!("{first} ({count} such faults)");
            Err(world.fail("guards agree in quiet", what))
        }
    }
}
