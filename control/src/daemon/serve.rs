//! The side that speaks with the outside: the control socket, the metrics, the signals. It knows
//! nothing but the control thread, which it asks.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Sender, TrySendError};
use dataplane::capture::Captured;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::oneshot;

use super::control_loop::{Asker, CaptureFeed, Query};
use super::http;
use super::places::{Place, Places, Source};
use super::signals::{Order, Signals};
use crate::capture::frame::Header;
use crate::protocol::{MAXIMUM_REQUEST_BYTES, Request, Response, read_request};

/// Clients at a time; who comes then gets the place of one that says nothing.
pub(super) const MAXIMUM_CLIENTS: usize = 64;
/// How long a client may take to say what it wants, and to say it to the end.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// How soon a full queue is tried again.
const RETRY: Duration = Duration::from_millis(10);
/// How often the copies of a capture are fetched.
const FETCH: Duration = Duration::from_millis(2);
/// Octets that are gathered before they are written to a client.
const GATHERED_BYTES: usize = 256 * 1024;
/// How long a client may take to accept what it asked for.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// The way to the control thread.
#[derive(Clone)]
pub(super) struct Desk {
    queries: Sender<Query>,
}

impl Desk {
    pub(super) fn new(queries: Sender<Query>) -> Self {
        Self { queries }
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask<T>(
        &self,
        query: impl FnOnce(oneshot::Sender<T>) -> Query,
    ) -> Result<T, String> {
        let (reply, answer) = oneshot::channel();
        match self.queries.try_send(query(reply)) {
            Ok(()) => answer.await.map_err(|_| "the daemon is stopping".into()),
            Err(TrySendError::Full(_)) => Err("the daemon is busy; ask again".into()),
            Err(TrySendError::Disconnected(_)) => Err("the daemon is stopping".into()),
        }
    }

    /// Tells what wants no answer, as soon as there is room for it.
    pub(super) async fn tell(&self, query: impl Fn() -> Query) {
        while let Err(TrySendError::Full(_)) = self.queries.try_send(query()) {
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Serves until the control thread has ended.
pub(super) async fn serve(
    desk: Desk,
    socket: UnixListener,
    metrics: Option<TcpListener>,
    mut signals: Signals,
    mut ended: oneshot::Receiver<()>,
) {
    if let Some(listener) = metrics {
        tokio::spawn(http::serve(listener, desk.clone()));
    }
    let places = Places::new(MAXIMUM_CLIENTS);
    loop {
        tokio::select! {
            _ = &mut ended => return,
            order = signals.next() => match order {
                Order::Terminate => desk.tell(|| Query::Terminate).await,
                Order::Reload => desk.tell(|| Query::Reload).await,
            },
            accepted = socket.accept() => match accepted {
                Ok((stream, _)) => {
                    let peer = stream.peer_cred().ok();
                    let process = peer.and_then(|peer| peer.pid());
                    if let Some(place) = places.take(Source::Process(process)) {
                        tokio::spawn(converse(stream, desk.clone(), place, Asker::of(peer)));
                    }
                }
                // Out of descriptors: whoever waits is served when one is free again.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
        }
    }
}

/// One client's requests, until it goes or another client gets its place. What becomes of a client is
/// its own affair.
async fn converse(stream: UnixStream, desk: Desk, place: Place, asker: Asker) {
    tokio::select! {
        () = place.evicted() => {}
        () = talk(stream, &desk, &place, asker) => {}
    }
}

async fn talk(stream: UnixStream, desk: &Desk, place: &Place, asker: Asker) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = (&mut reader).take(MAXIMUM_REQUEST_BYTES as u64);
        let request = bounded.read_until(b'\n', &mut line);
        match tokio::time::timeout(REQUEST_LIMIT, request).await {
            Ok(Ok(0) | Err(_)) | Err(_) => return,
            Ok(Ok(_)) => {}
        }
        place.client_waits();
        if line.last() != Some(&b'\n') && line.len() == MAXIMUM_REQUEST_BYTES {
            let error = format!("the request has more than {MAXIMUM_REQUEST_BYTES} octets");
            let _ = respond(&mut writer, &Response::of(Err(error))).await;
            return;
        }
        let outcome = match read_request(&line) {
            Ok(Request::Capture { port, filter }) => {
                let _ = capture(reader, writer, desk, port, filter).await;
                return;
            }
            Ok(request) => desk
                .ask(|reply| Query::Answer(request, asker, reply))
                .await
                .and_then(|outcome| outcome),
            Err(error) => Err(error),
        };
        place.wait_for_client();
        if respond(&mut writer, &Response::of(outcome)).await.is_err() {
            return;
        }
    }
}

async fn respond(writer: &mut OwnedWriteHalf, response: &Response) -> io::Result<()> {
    write(writer, response.line().as_bytes()).await
}

async fn write(writer: &mut OwnedWriteHalf, bytes: &[u8]) -> io::Result<()> {
    tokio::time::timeout(WRITE_LIMIT, writer.write_all(bytes))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Ends a capture even when whoever copies is dropped half-way.
struct OpenCapture {
    desk: Desk,
    number: u64,
    _alive: Arc<()>,
}

impl Drop for OpenCapture {
    fn drop(&mut self) {
        let (reply, _) = oneshot::channel();
        // Without room for it the control thread finds the feed abandoned before long.
        let _ = self
            .desk
            .queries
            .try_send(Query::EndCapture(self.number, reply));
    }
}

/// Streams copies until the client says something, closes its side, or dies.
async fn capture(
    mut reader: BufReader<OwnedReadHalf>,
    mut writer: OwnedWriteHalf,
    desk: &Desk,
    port: Option<String>,
    filter: Option<String>,
) -> io::Result<()> {
    let feed = desk
        .ask(|reply| Query::Capture {
            port,
            filter,
            reply,
        })
        .await;
    let mut feed = match feed.and_then(|feed| feed) {
        Ok(feed) => feed,
        Err(error) => return respond(&mut writer, &Response::of(Err(error))).await,
    };
    let open = OpenCapture {
        desk: desk.clone(),
        number: feed.number,
        _alive: Arc::clone(&feed.alive),
    };
    let told = serde_json::json!({
        "ports": feed.ports,
        "snap_bytes": dataplane::capture::SNAP_BYTES,
    });
    respond(&mut writer, &Response::of(Ok(told))).await?;
    let mut ticks = tokio::time::interval(FETCH);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut gathered = Vec::with_capacity(GATHERED_BYTES * 2);
    let mut word = [0];
    loop {
        tokio::select! {
            _ = reader.read(&mut word) => break,
            _ = ticks.tick() => drain(&mut feed, &mut gathered, &mut writer).await?,
        }
    }
    let number = feed.number;
    let lost = desk.ask(|reply| Query::EndCapture(number, reply)).await;
    drain(&mut feed, &mut gathered, &mut writer).await?;
    drop(open);
    let end = Header::End {
        lost: lost.unwrap_or(0),
    };
    write(&mut writer, &end.to_bytes()).await
}

/// Sends all copies that there are.
async fn drain(
    feed: &mut CaptureFeed,
    gathered: &mut Vec<u8>,
    writer: &mut OwnedWriteHalf,
) -> io::Result<()> {
    loop {
        gathered.clear();
        let wall = &feed.wall;
        for ring in &mut feed.rings {
            while gathered.len() < GATHERED_BYTES
                && let Ok(copy) = ring.pop()
            {
                append(gathered, &copy, wall.unix_ns(copy.time_ns));
            }
        }
        if gathered.is_empty() {
            return Ok(());
        }
        write(writer, gathered).await?;
    }
}

fn append(gathered: &mut Vec<u8>, copy: &Captured, unix_ns: u64) {
    let bytes = copy.bytes();
    let header = Header::Packet {
        kept_bytes: bytes.len() as u32,
        original_bytes: copy.original_bytes,
        unix_ns,
        port: copy.port.0,
        passage: copy.passage,
    };
    gathered.extend_from_slice(&header.to_bytes());
    gathered.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests;
