//! Who saw what: counts what reaches one side of the lab, and notes the sequence numbers of
//! SYN-ACKs, by which the two sides are compared.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::filter::{Interest, KEPT_BYTES, program};
use crate::flood::{is_spoofed, spoofed_nets};
use crate::frame::{flag, read};
use crate::socket::PacketSocket;
use crate::{Error, Namespace, Result};

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// SYNs from spoofed sources.
    pub spoofed_syns: u64,
    /// Other packets from spoofed sources.
    pub spoofed_others: u64,
    /// SYNs from clients.
    pub syns: u64,
    /// The sequence number of the first SYN-ACK of each connection: client, server.
    pub syn_acks: HashMap<(SocketAddr, SocketAddr), u32>,
}

/// How the SYN-ACKs of connections that both sides saw compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Connections whose SYN-ACK has another sequence number on the other side.
    pub differ: u64,
    /// Connections whose SYN-ACK has the same one.
    pub same: u64,
}

impl Sight {
    /// Compares with what the other side saw.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Comparison {
        let mut comparison = Comparison::default();
        for (connection, sequence) in &self.syn_acks {
            match other.syn_acks.get(connection) {
                Some(there) if there == sequence => comparison.same += 1,
                Some(_) => comparison.differ += 1,
                None => {}
            }
        }
        comparison
    }
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    spoofed_syns: AtomicU64,
}

/// Watches one interface on a thread. Dropping it ends the watch.
#[derive(Debug)]
pub struct Observer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Result<Sight>>>>,
}

impl Observer {
    /// Begins to watch, and returns when it does.
    ///
    /// # Errors
    /// When the interface cannot be watched.
    pub fn start(namespace: &Namespace, interface: &str, interest: Interest) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let interface = interface.to_owned();
        let (ready, is_ready) = mpsc::channel();
        let thread = namespace.thread(move || {
            let filter = program(interest, spoofed_nets());
            let socket = PacketSocket::open(&interface, &filter)?;
            let _ = ready.send(());
            watch(&socket, &of_thread)
        })?;
        let mut observer = Self {
            shared,
            thread: Some(thread),
        };
        match is_ready.recv_timeout(Duration::from_secs(5)) {
            Ok(()) => Ok(observer),
            Err(_) => Err(match observer.join() {
                Err(e) => e,
                Ok(_) => Error::new("the observer did not begin"),
            }),
        }
    }

    /// How many SYNs from spoofed sources were seen so far.
    #[must_use]
    pub fn spoofed_syns(&self) -> u64 {
        self.shared.spoofed_syns.load(Ordering::Relaxed)
    }

    /// Ends the watch and tells what was seen.
    ///
    /// # Errors
    /// When the interface went away.
    pub fn stop(mut self) -> Result<Sight> {
        self.join()
    }

    fn join(&mut self) -> Result<Sight> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread
            .take()
            .ok_or_else(|| Error::new("the observer has ended"))?
            .join()
            .map_err(|_| Error::new("the observer's thread panicked"))??
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        let _ = self.join();
    }
}

fn watch(socket: &PacketSocket, shared: &Shared) -> Result<Sight> {
    let mut sight = Sight::default();
    let mut buffer = [0; KEPT_BYTES as usize];
    let failed = |e| Error::because("observer", e);
    loop {
        // The flag is read before the socket is emptied, so nothing that was there is missed.
        let last = shared.stop.load(Ordering::Relaxed);
        while let Some(length) = socket.receive(&mut buffer).map_err(failed)? {
            note(&mut sight, &buffer[..length]);
        }
        shared
            .spoofed_syns
            .store(sight.spoofed_syns, Ordering::Relaxed);
        if last {
            return Ok(sight);
        }
        socket.wait(Duration::from_millis(50)).map_err(failed)?;
    }
}

fn note(sight: &mut Sight, frame: &[u8]) {
    let Some(seen) = read(frame) else {
        return;
    };
    match (
        is_spoofed(seen.source.ip()),
        seen.flags & (flag::SYN | flag::ACK),
    ) {
        (true, flag::SYN) => sight.spoofed_syns += 1,
        (true, _) => sight.spoofed_others += 1,
        (false, flag::SYN) => sight.syns += 1,
        (false, both) if both == flag::SYN | flag::ACK => {
            if !is_spoofed(seen.destination.ip()) {
                sight
                    .syn_acks
                    .entry((seen.destination, seen.source))
                    .or_insert(seen.sequence);
            }
        }
        (false, _) => {}
    }
}
