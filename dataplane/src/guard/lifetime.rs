//! How sessions come into the table, end, and leave it.

use super::Guard;
use super::session::{OPENED_SLACK_NS, Session, SessionKey, SessionName, State, flag, opened_at};
use crate::context::Context;
use crate::counters::Event;
use crate::drop_reason::DropReason;
use crate::flow::table::{Entry, Hash, Id};
use crate::io::Io;
use crate::limits::TRACKED_HALF_OPEN_SHARE;
use crate::packet::Buffer;

impl<B: Buffer> Guard<B> {
    /// Puts a session into the table; an ended one makes room when it must.
    pub(super) fn insert<I: Io<Buffer = B>>(
        &mut self,
        hash: Hash,
        session: Session,
        ctx: &mut Context<'_, I>,
    ) -> Option<Id> {
        self.insert_if_room(hash, session).or_else(|| {
            self.evict_ended(ctx);
            self.insert_if_room(hash, session)
        })
    }

    /// The same for a session that nobody has proved: nothing makes room for it.
    pub(super) fn insert_tracked(&mut self, hash: Hash, session: Session) -> Option<Id> {
        let most = self.sessions.capacity() / TRACKED_HALF_OPEN_SHARE;
        let is_half_open = session.state == State::Opening;
        if is_half_open && self.tracked_half_open >= most {
            return None;
        }
        let id = self.insert_if_room(hash, session)?;
        self.tracked_half_open += usize::from(is_half_open);
        Some(id)
    }

    fn insert_if_room(&mut self, hash: Hash, mut session: Session) -> Option<Id> {
        session.last_seen = self.tick;
        session.opened = opened_at(self.tick);
        let id = self.sessions.insert(hash, session).ok()?;
        self.servers.hold(session.server);
        self.tallies.follow(&session, None, Some(session.state));
        self.live += 1;
        Some(id)
    }

    fn evict_ended<I: Io<Buffer = B>>(&mut self, ctx: &mut Context<'_, I>) {
        if let Some(id) = self.ended.first()
            && self.forget(id, ctx)
        {
            ctx.counters.count(Event::SessionEvicted);
        }
    }

    /// Takes a session out of the table. If its cookie may still be good, its handshake is
    /// remembered elsewhere; where there is no room for that it stays, and the answer is false.
    pub(super) fn forget<I: Io<Buffer = B>>(&mut self, id: Id, ctx: &mut Context<'_, I>) -> bool {
        let session = self.sessions.get(id);
        let is_spent = session.state != State::Opening && !session.has(flag::TRACKED);
        if is_spent && session.is_young(self.tick) && !self.remember(id, ctx) {
            return false;
        }
        self.remove(id);
        true
    }

    /// Remembers a session's handshake beyond the session; false when there is no room.
    pub(super) fn remember<I: Io<Buffer = B>>(&mut self, id: Id, ctx: &mut Context<'_, I>) -> bool {
        let session = self.sessions.get(id);
        let (key, isn) = (session.key(), session.client_isn());
        let has_room = self.spent.insert(&key, isn, ctx.now_ns);
        if !has_room {
            ctx.counters.count(Event::SpentFull);
        }
        has_room
    }

    /// Leaves no room in the memory against replays.
    #[cfg(test)]
    pub(super) fn fill_spent(&mut self, now_ns: u64) {
        self.spent.fill(now_ns);
    }

    /// Takes a session out of the table, whatever its cookie.
    pub(super) fn remove(&mut self, id: Id) {
        self.stop_counting_half_open(id);
        let session = self.sessions.get(id);
        self.live -= usize::from(session.state != State::Closed);
        self.tallies.follow(session, Some(session.state), None);
        self.wheel.cancel(id.0);
        self.ended.remove(id);
        self.servers.release(self.sessions.get(id).server);
        self.sessions.remove(id);
    }

    /// A half-open session that is only watched is about to become something else.
    pub(super) fn stop_counting_half_open(&mut self, id: Id) {
        let session = self.sessions.get(id);
        let was_counted = session.state == State::Opening && session.has(flag::TRACKED);
        self.tracked_half_open -= usize::from(was_counted);
    }

    /// Ends a session, and tells the peers.
    pub(super) fn close<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        event: Event,
        ctx: &mut Context<'_, I>,
    ) {
        self.end(id, event, ctx);
        self.tell(id, ctx);
    }

    /// Ends a session: from now on it only lingers.
    pub(super) fn end<I: Io<Buffer = B>>(
        &mut self,
        id: Id,
        event: Event,
        ctx: &mut Context<'_, I>,
    ) {
        ctx.counters.count(event);
        self.stop_counting_half_open(id);
        let session = self.sessions.get_mut(id);
        let (from, to) = (session.state, State::Closed);
        self.tallies.follow(session, Some(from), Some(to));
        session.state = to;
        self.live -= 1;
        self.ended.push(id);
        self.linger(id, self.config.timers.linger_ns, ctx);
    }

    /// Ends a live session because its operator says so, and tells both of its ends. False if there is
    /// none.
    pub fn end_by_order<I: Io<Buffer = B>>(
        &mut self,
        name: &SessionName,
        ctx: &mut Context<'_, I>,
    ) -> bool {
        let Some(server) = self.servers.find(name.server) else {
            return false;
        };
        let key = SessionKey {
            client: name.client,
            client_port: name.client_port,
            server_port: name.server_port,
            server,
        };
        let found = self.sessions.find(self.sessions.hash(&key), &key);
        let Some(id) = found.filter(|id| self.sessions.get(*id).state != State::Closed) else {
            return false;
        };
        let session = *self.sessions.get(id);
        match session.state {
            State::Opening if session.has(flag::TRACKED) => self.remove(id),
            State::Opening => {
                self.reset_client_of_opening(id, ctx);
                self.reset_server_of_opening(id, ctx);
                self.tell_gone(id, ctx);
                // A copy of its handshake opens nothing.
                let _ = self.remember(id, ctx);
                self.release_opening(id, DropReason::SessionExpired, ctx);
            }
            State::Established | State::Closed => {
                self.reset_both(&session, ctx);
                self.tell_gone(id, ctx);
                self.end(id, Event::SessionEndedByOrder, ctx);
                return true;
            }
        }
        ctx.counters.count(Event::SessionEndedByOrder);
        true
    }

    /// Has an ended session stay for so long.
    pub(super) fn linger<I: Io<Buffer = B>>(&mut self, id: Id, ns: u64, ctx: &Context<'_, I>) {
        self.wheel.arm(id.0, ctx.now_ns + ns + OPENED_SLACK_NS);
    }

    /// Takes the end of a session back.
    pub(super) fn revive<I: Io<Buffer = B>>(&mut self, id: Id, ctx: &mut Context<'_, I>) {
        let session = self.sessions.get_mut(id);
        let (from, to) = (session.state, State::Established);
        self.tallies.follow(session, Some(from), Some(to));
        session.state = to;
        session.flags &= !flag::RESET;
        self.ended.remove(id);
        self.live += 1;
        self.arm_idle(id, ctx);
    }

    /// Arms the timer of a session that is open.
    pub(super) fn arm_idle<I: Io<Buffer = B>>(&mut self, id: Id, ctx: &Context<'_, I>) {
        let limit_ns = self.idle_limit_ns(self.sessions.get(id));
        let wait_ns = self.watch_ns(id, limit_ns);
        self.wheel.arm(id.0, ctx.now_ns + wait_ns);
    }
}
