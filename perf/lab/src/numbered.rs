//! Requests that bear a number each, and a server that counts how often each of them came: what
//! tells a request that was served twice, or never answered, from one that was served.
//!
//! A request is its number, eight bytes, over a connection of its own. The server answers with the
//! number and a kilobyte, and closes, unless the number's highest bit leaves that to the client.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::address::{SERVER, client};
use crate::{Error, Namespace, Result};

/// The port that the server listens on.
pub const PORT: u16 = 9_090;
/// After such a request the client closes, when it likes.
const CLIENT_CLOSES: u64 = 1 << 63;
const ANSWER_BYTES: usize = 1_024;
/// How often a thread looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);
/// A request that takes longer was held up: a kernel sends again after 200 ms at the soonest.
pub const SLOW: Duration = Duration::from_millis(200);
/// The server forgets a connection over which nothing came for so long.
const SILENCE: Duration = Duration::from_secs(60);

/// What the threads of a server share.
#[derive(Debug, Default)]
struct Came {
    stop: AtomicBool,
    counts: Mutex<HashMap<u64, u32>>,
}

/// A server that counts. Dropping it ends it.
#[derive(Debug)]
pub struct Server {
    came: Arc<Came>,
    thread: Option<JoinHandle<Result<Result<()>>>>,
}

impl Server {
    /// Listens in `namespace`, in both families, on [`PORT`].
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        let listener = namespace.within(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)))?;
        let listener = listener.map_err(|e| Error::because("the counting server", e))?;
        let came = Arc::<Came>::default();
        let shared = Arc::clone(&came);
        let thread = namespace.thread(move || {
            accept(&listener, &shared).map_err(|e| Error::because("the counting server", e))
        })?;
        let thread = Some(thread);
        Ok(Self { came, thread })
    }

    /// How often a request came.
    #[must_use]
    pub fn count(&self, number: u64) -> u32 {
        let counts = self.counts();
        counts.get(&number).copied().unwrap_or_default()
    }

    /// The requests that came more than once.
    #[must_use]
    pub fn repeated(&self) -> Vec<u64> {
        let counts = self.counts();
        let repeated = counts.iter().filter(|(_, count)| **count > 1);
        repeated.map(|(number, _)| *number).collect()
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, HashMap<u64, u32>> {
        self.came
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.came.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn accept(listener: &TcpListener, came: &Arc<Came>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    while !came.stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let came = Arc::clone(came);
                // A client that is gone before its answer is no fault of the server's.
                std::thread::spawn(move || answer(stream, &came));
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn answer(mut stream: TcpStream, came: &Came) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(LOOK))?;
    let mut heard = Instant::now();
    let mut request = [0; 8];
    let mut length = 0;
    while !came.stop.load(Ordering::Relaxed) && heard.elapsed() < SILENCE {
        match stream.read(&mut request[length..]) {
            Ok(0) => break,
            Ok(more) => {
                heard = Instant::now();
                length += more;
            }
            Err(e) if is_timeout(&e) => {}
            Err(e) => return Err(e),
        }
        if length < request.len() {
            continue;
        }
        length = 0;
        let number = u64::from_be_bytes(request);
        let mut counts = came.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(number).or_default() += 1;
        drop(counts);
        let mut body = [0x61; ANSWER_BYTES];
        body[..8].copy_from_slice(&request);
        stream.write_all(&body)?;
        if number & CLIENT_CLOSES == 0 {
            break;
        }
    }
    Ok(())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Its answer came.
    Served,
    /// It was refused or broken off.
    Failed(String),
    /// Nothing came within its limit.
    Hung,
}

/// A request that was made.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its number.
    pub number: u64,
    /// The client's end of its connection; the port is 0 where none was had.
    pub client: SocketAddr,
    /// When it began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// How.
    pub end: End,
}

/// Numbers that no other request of this process has.
fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A connection that stays open.
#[derive(Debug)]
pub struct Held {
    stream: TcpStream,
    /// The client's end.
    pub client: SocketAddr,
}

impl Held {
    /// Opens one from a client's address, whose first request must be answered within `limit`.
    ///
    /// # Errors
    /// When it is not.
    pub fn open(clients: &Namespace, from: IpAddr, limit: Duration) -> Result<Self> {
        let opened = clients.within(move || connect((from, 0).into(), limit))?;
        let stream = opened.map_err(|e| Error::because(format!("a connection from {from}"), e))?;
        let own = stream.local_addr();
        let client = own.map_err(|e| Error::because("a connection's address", e))?;
        let mut held = Self { stream, client };
        held.ask(limit)?;
        Ok(held)
    }

    /// Asks over it.
    ///
    /// # Errors
    /// When no answer comes within `limit`.
    pub fn ask(&mut self, limit: Duration) -> Result<()> {
        let number = next_number() | CLIENT_CLOSES;
        exchange(&mut self.stream, number, Instant::now() + limit)
            .map_err(|e| Error::because(format!("a request from {}", self.client), e))
    }
}

fn connect(from: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let family = usize::from(from.is_ipv6());
    let socket = Socket::new(Domain::for_address(from), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&from.into())?;
    socket.connect_timeout(&SocketAddr::from((SERVER[family], PORT)).into(), limit)?;
    Ok(socket.into())
}

fn exchange(stream: &mut TcpStream, number: u64, deadline: Instant) -> io::Result<()> {
    stream.write_all(&number.to_be_bytes())?;
    let mut body = [0; ANSWER_BYTES];
    let mut length = 0;
    while length < body.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(&mut body[length..])? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            more => length += more,
        }
    }
    if body[..8] != number.to_be_bytes() {
        return Err(io::Error::other("the answer is another request's"));
    }
    if number & CLIENT_CLOSES == 0 {
        // Who closes first may not use the port again at once: that is to be the server. Whatever
        // becomes of its FIN, the request is served.
        let left = deadline.saturating_duration_since(Instant::now());
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let _ = stream.read(&mut body);
    }
    Ok(())
}

/// Makes a request from a client's end; port 0 is any.
fn ask(from: SocketAddr, number: u64, limit: Duration) -> Asked {
    let began = Instant::now();
    let mut client = from;
    let outcome = connect(from, limit).and_then(|mut stream| {
        client = stream.local_addr()?;
        exchange(&mut stream, number, began + limit)
    });
    Asked {
        number,
        client,
        began,
        ended: Instant::now(),
        end: match outcome {
            Ok(()) => End::Served,
            Err(e) if is_timeout(&e) => End::Hung,
            Err(e) => End::Failed(e.to_string()),
        },
    }
}

/// Makes a request from each of these ends, one after the other.
///
/// # Errors
/// When the name space cannot be entered.
pub fn ask_from(clients: &Namespace, ends: &[SocketAddr], limit: Duration) -> Result<Vec<Asked>> {
    let ends = ends.to_vec();
    clients.within(move || {
        ends.into_iter()
            .map(|end| ask(end, next_number(), limit))
            .collect()
    })
}

/// How clients ask.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many ask at a time, each one request after the other. Every other one uses IPv6.
    pub threads: u8,
    /// How long each waits between two requests.
    pub pause: Duration,
    /// How long a request may take.
    pub limit: Duration,
    /// Whether the client closes; else the server does, once it has answered.
    pub client_closes: bool,
    /// The ports that they use again and again; any free ones without. Each has its share.
    pub ports: Option<Range<u16>>,
}

impl Default for Settings {
    /// Some two hundred requests a second.
    fn default() -> Self {
        Self {
            threads: 16,
            pause: Duration::from_millis(70),
            limit: Duration::from_secs(12),
            client_closes: false,
            ports: None,
        }
    }
}

/// Clients that ask until they are told to stop.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Vec<Asked>>>>,
}

impl Load {
    /// Lets them begin.
    ///
    /// # Errors
    /// When a thread cannot be made.
    pub fn start(clients: &Namespace, settings: &Settings) -> Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let threads = (0..settings.threads).map(|thread| {
            let (stop, settings) = (Arc::clone(&stop), settings.clone());
            clients.thread(move || ask_until(&stop, thread, &settings))
        });
        let threads = threads.collect::<Result<_>>()?;
        Ok(Self { stop, threads })
    }

    /// Lets no more begin, waits for the last one's end, and tells what became of all.
    ///
    /// # Errors
    /// When a thread could not ask.
    pub fn stop(mut self) -> Result<Vec<Asked>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for thread in self.threads.drain(..) {
            let asked = thread.join();
            all.extend(asked.map_err(|_| Error::new("a client's thread panicked"))??);
        }
        Ok(all)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn ask_until(stop: &AtomicBool, thread: u8, settings: &Settings) -> Vec<Asked> {
    let from = client(thread / 2)[usize::from(thread % 2)];
    let ports = settings.ports.clone().unwrap_or(0..1);
    // Threads of one address take turns in the ports.
    let sharers = usize::from(settings.threads.div_ceil(2 * crate::address::CLIENTS));
    let place = usize::from(thread / (2 * crate::address::CLIENTS));
    let mut ports = ports.skip(place).step_by(sharers.max(1)).cycle();
    let mut all = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let port = ports.next().unwrap_or_default();
        let closer = if settings.client_closes {
            CLIENT_CLOSES
        } else {
            0
        };
        let number = next_number() | closer;
        all.push(ask((from, port).into(), number, settings.limit));
        std::thread::sleep(settings.pause);
    }
    all
}

/// What became of requests, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many there were.
    pub asked: u64,
    /// Those that were answered.
    pub served: u64,
    /// Those of them that took longer than [`SLOW`].
    pub slow: u64,
    /// Those that were refused or broken off.
    pub failed: u64,
    /// Those of which nothing came within their limit.
    pub hung: u64,
    /// Those that the server got more than once.
    pub twice: u64,
}

impl Count {
    /// Counts those that began in a span of time.
    #[must_use]
    pub fn of(asked: &[Asked], span: Range<Instant>, server: &Server) -> Self {
        let mut count = Self::default();
        for request in asked.iter().filter(|it| span.contains(&it.began)) {
            count.asked += 1;
            match request.end {
                End::Served => {
                    count.served += 1;
                    let took = request.ended.saturating_duration_since(request.began);
                    count.slow += u64::from(took > SLOW);
                }
                End::Failed(_) => count.failed += 1,
                End::Hung => count.hung += 1,
            }
            count.twice += u64::from(server.count(request.number) > 1);
        }
        count
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{} asked, {} served ({} slowly), {} failed, {} hung, {} served twice",
            self.asked, self.served, self.slow, self.failed, self.hung, self.twice
        )
    }
}
