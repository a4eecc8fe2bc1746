//! The two ends of a connection, on top of a TCP socket.

use smoltcp::socket::tcp::{RecvError, Socket, State};

use super::plan::{Book, Close, End, HEAD_BYTES, Pace, Plan, Progress, Way, fill, is_right};

/// Octets moved between an application and its socket at once.
const CHUNK_BYTES: usize = 4096;

/// One end of one connection.
#[derive(Debug)]
pub(super) struct Application {
    way: Way,
    /// Which plan it serves; a server learns it from the first octets.
    plan: Option<usize>,
    head: Vec<u8>,
    next_read_ns: u64,
    /// When its pause is over, once it has begun.
    resume_ns: Option<u64>,
    is_closed: bool,
}

impl Application {
    /// The client of a plan.
    pub(super) fn client(plan: usize) -> Self {
        Self {
            way: Way::Up,
            plan: Some(plan),
            head: Vec::new(),
            next_read_ns: 0,
            resume_ns: None,
            is_closed: false,
        }
    }

    /// A server that does not know yet whom it serves.
    pub(super) fn server() -> Self {
        Self {
            way: Way::Down,
            plan: None,
            head: Vec::new(),
            next_read_ns: 0,
            resume_ns: None,
            is_closed: false,
        }
    }

    /// When it next wants to read, though nothing arrives.
    pub(super) fn next_wake_ns(&self, now_ns: u64) -> Option<u64> {
        let times = [Some(self.next_read_ns), self.resume_ns];
        times
            .into_iter()
            .flatten()
            .filter(|&at_ns| at_ns > now_ns)
            .min()
    }

    /// Reads, writes and closes as planned. False once the socket can be given up.
    pub(super) fn serve(&mut self, socket: &mut Socket<'_>, book: &mut Book, now_ns: u64) -> bool {
        if self.plan.is_none() && !self.learn_plan(socket, book) {
            return socket.state() != State::Closed;
        }
        let Some(number) = self.plan else {
            return false;
        };
        let plan = book.records[number].plan.clone();
        if self.is_pausing(&plan, self.progress(number, book).sent, now_ns) && !is_over(socket) {
            return true;
        }
        self.read(socket, &plan, number, book, now_ns);
        self.write(socket, &plan, number, book);
        // What comes before the pause has just been sent.
        if self.is_pausing(&plan, self.progress(number, book).sent, now_ns) && !is_over(socket) {
            return true;
        }
        self.close(socket, &plan, self.progress(number, book));
        self.note_end(socket, &plan, number, book);
        socket.state() != State::Closed
    }

    /// Whether it is in its pause, which begins when it has sent so many octets.
    fn is_pausing(&mut self, plan: &Plan, sent: u64, now_ns: u64) -> bool {
        let Some(pause) = plan.pause.filter(|pause| pause.by == self.way) else {
            return false;
        };
        if self.resume_ns.is_none() && sent >= pause.after_bytes {
            self.resume_ns = Some(now_ns + pause.span_ns);
        }
        self.resume_ns.is_some_and(|at_ns| now_ns < at_ns)
    }

    fn progress<'a>(&self, number: usize, book: &'a mut Book) -> &'a mut Progress {
        let record = &mut book.records[number];
        match self.way {
            Way::Up => &mut record.client,
            Way::Down => &mut record.server,
        }
    }

    /// Takes the octets that name the plan. They are counted as received.
    fn learn_plan(&mut self, socket: &mut Socket<'_>, book: &mut Book) -> bool {
        let mut octet = [0];
        while self.head.len() < HEAD_BYTES as usize && socket.recv_slice(&mut octet) == Ok(1) {
            self.head.push(octet[0]);
        }
        let Ok(name) = <[u8; HEAD_BYTES as usize]>::try_from(&self.head[..]) else {
            return false;
        };
        let number = u32::from_be_bytes(name) as usize;
        let Some(record) = book.records.get_mut(number) else {
            book.faults
                .push(format!("a server was sent {name:?}, which names no plan"));
            socket.abort();
            return false;
        };
        record.served += 1;
        record.server = Progress {
            received: HEAD_BYTES,
            ..Progress::default()
        };
        if record.served > 1 {
            book.faults
                .push(format!("connection {number} reached its server twice"));
        }
        self.plan = Some(number);
        true
    }

    fn read(
        &mut self,
        socket: &mut Socket<'_>,
        plan: &Plan,
        number: usize,
        book: &mut Book,
        now_ns: u64,
    ) {
        let (mut pace, way) = match self.way {
            Way::Up => (plan.client_pace, Way::Down),
            Way::Down => (plan.server_pace, Way::Up),
        };
        if is_over(socket) {
            pace = Pace::EAGER;
        }
        if pace != Pace::EAGER && now_ns < self.next_read_ns {
            return;
        }
        let mut left_bytes = pace.chunk_bytes;
        let mut chunk = [0; CHUNK_BYTES];
        while left_bytes > 0 {
            let limit = left_bytes.min(CHUNK_BYTES);
            match socket.recv_slice(&mut chunk[..limit]) {
                Ok(0) => break,
                Ok(count) => {
                    left_bytes -= count;
                    let offset = self.progress(number, book).received;
                    if !is_right(number, way, offset, &chunk[..count]) {
                        let what = "received wrong octets";
                        book.faults
                            .push(format!("connection {number} {way:?} {what} from {offset}"));
                    }
                    self.progress(number, book).received += count as u64;
                }
                Err(RecvError::Finished) => {
                    self.progress(number, book).saw_end = true;
                    break;
                }
                Err(RecvError::InvalidState) => break,
            }
        }
        if pace.every_ns > 0 {
            self.next_read_ns = now_ns + pace.every_ns;
        }
    }

    fn write(&self, socket: &mut Socket<'_>, plan: &Plan, number: usize, book: &mut Book) {
        let progress = self.progress(number, book);
        let (total, may_begin) = match self.way {
            Way::Up => (plan.up_bytes, true),
            // After a half-close the whole answer comes through the half that is left.
            Way::Down => (
                plan.down_bytes,
                plan.close != Close::ClientHalf || progress.saw_end,
            ),
        };
        let is_before_pause = self.resume_ns.is_none();
        let pause = plan
            .pause
            .filter(|pause| pause.by == self.way && is_before_pause);
        let limit = pause.map_or(total, |pause| total.min(pause.after_bytes));
        let mut chunk = [0; CHUNK_BYTES];
        while may_begin && !self.is_closed && progress.sent < limit && socket.can_send() {
            let count = CHUNK_BYTES.min((limit - progress.sent) as usize);
            fill(number, self.way, progress.sent, &mut chunk[..count]);
            match socket.send_slice(&chunk[..count]) {
                Ok(0) | Err(_) => break,
                Ok(taken) => progress.sent += taken as u64,
            }
        }
    }

    fn close(&mut self, socket: &mut Socket<'_>, plan: &Plan, progress: &mut Progress) {
        let (to_send, to_read) = match self.way {
            Way::Up => (plan.up_bytes, plan.down_bytes),
            Way::Down => (plan.down_bytes, plan.up_bytes),
        };
        let has_sent = progress.sent == to_send;
        let is_done = has_sent && progress.received == to_read;
        let moved = progress.sent + progress.received;
        let (abort_after, closes) = match (plan.close, self.way) {
            (Close::ClientAborts(after), Way::Up) | (Close::ServerAborts(after), Way::Down) => {
                (Some(after), false)
            }
            (Close::ClientFirst, Way::Up) | (Close::ServerFirst, Way::Down) | (Close::Both, _) => {
                (None, is_done)
            }
            (Close::ClientHalf, Way::Up) | (Close::ServerHalf, Way::Down) => (None, has_sent),
            _ => (None, has_sent && progress.saw_end),
        };
        if abort_after.is_some_and(|after| moved >= after) && progress.end.is_none() {
            progress.end = Some(End::Aborted);
            socket.abort();
        } else if closes && !self.is_closed {
            self.is_closed = true;
            socket.close();
        }
    }

    fn note_end(&self, socket: &Socket<'_>, plan: &Plan, number: usize, book: &mut Book) {
        let progress = self.progress(number, book);
        if progress.end.is_some() || !is_over(socket) {
            return;
        }
        let total = if self.way == Way::Up {
            plan.up_bytes
        } else {
            plan.down_bytes
        };
        let is_clean = progress.saw_end
            && self.is_closed
            && progress.sent == total
            && socket.send_queue() == 0;
        progress.end = Some(if is_clean { End::Closed } else { End::Reset });
    }
}

/// Whether nothing more can come.
fn is_over(socket: &Socket<'_>) -> bool {
    matches!(socket.state(), State::Closed | State::TimeWait)
}
