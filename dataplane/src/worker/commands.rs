//! What the control thread asked for.

use super::{Time, Worker, context};
use crate::command::{
    Command, Configuration, NeighbourPage, Report, ServerRow, ServicePage, ServiceRow, SessionPage,
    SessionRow, WorkerStatus,
};
use crate::context::Context;
use crate::guard::session::flag;
use crate::io::{Io, PortId};
use crate::port::PortQueues;

impl<I: Io> Worker<I> {
    /// Serves one command, if there is any.
    #[inline]
    pub(super) fn serve_command(&mut self, time: Time) -> usize {
        let Some(command) = self.desk.next() else {
            return 0;
        };
        let report = match command {
            Command::Reconfigure(configuration) => self.reconfigure(configuration, time),
            Command::Drain => {
                self.guard.drain();
                Report::Done
            }
            Command::Leave => {
                self.guard.leave();
                Report::Done
            }
            Command::Announce => {
                self.hop.announce(&mut context!(self, time));
                Report::Done
            }
            Command::Status(status) => {
                // What is counted and what is held belong together.
                self.published.store(&self.counters);
                Report::Status(self.fill_status(status))
            }
            Command::Services(page) => Report::Services(self.fill_services(page)),
            Command::Sessions(page) => Report::Sessions(self.fill_sessions(page, time)),
            Command::EndSession(name) => {
                let has_ended = self.guard.end_by_order(&name, &mut context!(self, time));
                Report::SessionEnded(has_ended)
            }
            Command::Neighbours(page) => Report::Neighbours(self.fill_neighbours(page)),
            Command::Queues(port, queues) => self.exchange_queues(port, queues, time),
            Command::Capture(tap) => match self.transmit.tap.replace(tap) {
                Some(old) => Report::CaptureEnded(old),
                None => Report::Done,
            },
            Command::EndCapture => match self.transmit.tap.take() {
                Some(tap) => Report::CaptureEnded(tap),
                None => Report::NoCapture,
            },
            Command::Stop => {
                self.is_stopped = true;
                self.published.store(&self.counters);
                Report::Stopped
            }
        };
        self.desk.report(report);
        1
    }

    fn fill_status(&self, mut status: Box<WorkerStatus>) -> Box<WorkerStatus> {
        status.guard = self.guard.status();
        status.runtime = self.runtime();
        status.hop_held = self.hop.held();
        status.fragments_held = self.fragments.held();
        status.waiting = self.transmit.waiting() + self.outbox.len();
        status.servers.clear();
        let room = status.servers.capacity();
        let known = self.guard.servers();
        let servers = (0..).zip(known.iter()).map(|(place, server)| ServerRow {
            address: server.address,
            port: None,
            is_learned: server.is_learned,
            traits: server.traits(),
            echo: self.guard.echo_of(place),
            keeps_place: self.guard.keeps_place(place),
        });
        let services = known.services().map(|service| ServerRow {
            address: known.get(service.place()).address,
            port: Some(service.port()),
            is_learned: service.is_learned,
            traits: service.traits,
            echo: None,
            keeps_place: false,
        });
        status.servers.extend(servers.chain(services).take(room));
        status
    }

    fn fill_services(&self, mut page: Box<ServicePage>) -> Box<ServicePage> {
        let status = self.guard.status();
        (page.is_flood, page.syns_per_s) = (status.is_flood, status.syns_per_s);
        page.rows.clear();
        let (room, servers) = (page.rows.capacity(), self.guard.servers());
        let rows = self.guard.tallies().map(|(place, port, tally)| ServiceRow {
            address: servers.get(place).address,
            port,
            tally: *tally,
        });
        page.rows.extend(rows.take(room));
        page
    }

    fn fill_sessions(&self, mut page: Box<SessionPage>, time: Time) -> Box<SessionPage> {
        page.rows.clear();
        page.is_last = false;
        while !page.rows.is_full() {
            let Some((id, session)) = self.guard.next_session(page.after) else {
                page.is_last = true;
                break;
            };
            page.after = Some(id);
            page.rows.push(SessionRow {
                client: session.client,
                client_port: session.client_port,
                server: self.guard.servers().get(session.server).address,
                server_port: session.server_port,
                state: session.state,
                is_spliced: !session.has(flag::TRACKED),
                sequence_delta: session.sequence_delta,
                idle_ms: session.idle_ms(time.now_ns),
            });
        }
        page
    }

    fn fill_neighbours(&self, mut page: Box<NeighbourPage>) -> Box<NeighbourPage> {
        let mut places = [None; crate::limits::LISTING_PAGE];
        page.next = self.hop.neighbours(page.next.unwrap_or(0), &mut places);
        page.rows = places.into_iter().flatten().collect();
        page
    }

    /// What is behind the port's new queues may be another link, with other neighbours on it.
    fn exchange_queues(&mut self, port: PortId, mut queues: Box<PortQueues>, time: Time) -> Report {
        self.io.exchange(port, &mut queues);
        self.hop.forget_neighbours(port, &mut context!(self, time));
        Report::Queues(queues)
    }

    fn reconfigure(&mut self, mut configuration: Box<Configuration>, time: Time) -> Report {
        let mut ctx = context!(self, time);
        configuration.exchange(&mut self.hop, &mut self.guard, &mut ctx);
        Report::Reconfigured(configuration)
    }
}
