//! What a worker tells its peers, and what it hears of them.

use super::walk::Facts;
use super::{Time, Worker, context};
use crate::context::Context;
use crate::io::{InterfaceId, Io};
use crate::limits::{NEWS_PER_LOOP, RELEASED_PER_LOOP, STALL_NS};
use crate::replicate::FromPeers;

impl<I: Io> Worker<I> {
    /// Takes the peers' news, and walks the packets that waited for it.
    #[inline(never)]
    pub(super) fn hear_peers(&mut self, time: Time) -> usize {
        if self.peers.is_none() {
            return 0;
        }
        let mut served = 0;
        while served < NEWS_PER_LOOP
            // What a record has delivered may fill the outbox.
            && let Some(news) = self.peers.as_mut().and_then(|desk| desk.news.pop().ok())
        {
            let mut ctx = context!(self, time);
            match news {
                FromPeers::Station(peer, origin) => self.hop.hear_station(peer, origin, &mut ctx),
                news => self.guard.hear(&news, &mut ctx),
            }
            self.route_outbox(time);
            served += 1;
        }
        served + self.walk_released(time)
    }

    /// Has the guard hear its peers first when this worker did nothing for long.
    #[inline]
    pub(super) fn watch_for_stalls(&mut self, time: Time) {
        let last_ns = std::mem::replace(&mut self.turned_ns, time.now_ns);
        if time.now_ns.saturating_sub(last_ns) >= STALL_NS {
            self.guard.note_stall();
        }
    }

    #[inline]
    fn walk_released(&mut self, time: Time) -> usize {
        let mut served = 0;
        while served < RELEASED_PER_LOOP
            && let Some((interface, frame)) = self.guard.next_released()
        {
            self.guard.set_last_chance(true);
            self.walk_waited(interface, frame, time);
            self.guard.set_last_chance(false);
            served += 1;
        }
        served
    }

    /// A frame that was walked before, up to the guard.
    fn walk_waited(&mut self, interface: InterfaceId, frame: I::Buffer, time: Time) {
        let bridge = self.guard.bridge();
        if let Some((bridge, port)) =
            bridge.and_then(|it| it.port_of(interface).map(|port| (it, port)))
        {
            return self.walk_one_of_wire(bridge, port, frame, time);
        }
        let mut facts = Facts::NONE;
        match super::walk::parse_whole(&frame, &mut facts.parsed) {
            Err(reason) => self.counters.dropped(reason),
            Ok(()) => {
                facts.interface = interface;
                if let Some(frame) = self.admit(frame, &mut facts, time) {
                    facts.lookup = self.guard.prepare(&facts.parsed, interface);
                    self.handle_waited(frame, &facts, time);
                }
            }
        }
    }

    /// Gives the peers what the guard has for them.
    #[inline]
    pub(super) fn tell_peers(&mut self) {
        let Some(desk) = &mut self.peers else {
            return;
        };
        // What finds no room here waits at the guard.
        while !desk.records.is_full()
            && let Some(message) = self.guard.next_to_peers()
        {
            let pushed = desk.records.push(message);
            debug_assert!(pushed.is_ok(), "the ring had room");
        }
    }
}
