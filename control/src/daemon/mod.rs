//! The daemon: `tidegate run`.
//!
//! Four kinds of threads. The main thread runs a small async runtime: the control socket, the
//! metrics, the signals (`serve`, `http`). It asks the control thread (`control_loop`), which owns
//! the ports and talks with the workers (`crew`), each of which polls on a core of its own
//! (`worker_thread`). Where sessions are shared with other guards, one more thread talks to them
//! (`replication`).

mod answers;
mod captures;
mod claim;
mod config;
mod control_loop;
mod crew;
mod departures;
mod device_port;
mod guard_watch;
mod hardware;
mod http;
mod memory;
mod metrics;
mod notify;
mod places;
mod port_watch;
mod reload;
mod replication;
mod serve;
mod sessions;
mod signals;
mod socket;
mod watch;
mod worker_thread;

use std::net::SocketAddr;
use std::path::Path;
use std::thread;

use bindings::Clock;
use bindings::system::{self, Affinity};
use crossbeam::channel;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;
use tracing::{info, warn};

use self::control_loop::{Control, Parts};
use self::crew::{Crew, Orders};
use self::serve::Desk;
use self::signals::Signals;
use self::socket::ControlSocket;
use self::worker_thread::WallClock;
use crate::bypass::{self, Kernel};
use crate::configuration::{self, Layout};
use crate::failure::Failure;
use crate::logging;
use crate::profile::{Loaded, Machine, Profile};
use crate::protection;

/// Queries that may wait for the control thread: one of each client, and some of our own.
const QUERIES: usize = serve::MAXIMUM_CLIENTS + http::MAXIMUM_CONNECTIONS + 32;

/// Runs an appliance until it is told to stop.
///
/// # Errors
/// Why it could not start; once it runs it ends well.
pub fn run(file: &Path, loaded: Loaded) -> Result<(), Failure> {
    let profile = loaded.profile;
    let log = logging::start(profile.runtime.log);
    say_hello(file, &profile);
    for line in &loaded.warnings.list {
        warn!("{}:{line}", file.display());
    }
    let machine = Machine::read(Path::new("/"));
    bypass::refuse(&Kernel::below(Path::new("/")), &profile)?;
    // From here on what is not a worker runs on the control core.
    Affinity::of(&[profile.runtime.control_core as usize])
        .and_then(|cores| cores.apply())
        .map_err(|error| {
            Failure::new(error.to_string(), "choose another `runtime.control_core`")
        })?;
    if !profile.runtime.core_dumps {
        system::forbid_core_files().map_err(no_core_dumps)?;
    }
    let keys = configuration::cookie_keys(&profile)?;
    let replication_keys = replication::keys(&profile)?;
    // The sockets come first: a second daemon of this profile ends here, before it touches a port.
    let (socket, listener) = ControlSocket::bind(&profile.runtime.control_socket)?;
    let metrics = profile.runtime.metrics.map(listen).transpose()?;

    let layout = Layout::of(&profile);
    let mut hardware = hardware::start(&profile, &layout)?;
    if !profile.runtime.core_dumps {
        // Not before: EAL asks /proc for its own pages.
        system::forbid_inspection().map_err(no_core_dumps)?;
    }
    let orders = Orders::new(&profile, &layout, &hardware, &keys)?;
    drop(keys);
    let wall = WallClock::new(Clock::start());
    let (plan, desks) = match &profile.replication {
        Some(with) => {
            let mtu_bytes = orders.mtu_bytes(with.port);
            let workers = profile.runtime.workers.len();
            let places = crew::places(&profile);
            let shard = hardware.shard.clone();
            let keys = replication_keys;
            replication::Plan::new(with, keys, mtu_bytes, workers, shard, places, &wall)
                .map(|(plan, desks)| (Some(plan), desks))?
        }
        None => (None, Vec::new()),
    };
    let crew = Crew::start(&profile, &mut hardware, orders, desks, &wall)?;
    let replication = plan.map(|plan| plan.start(&wall)).transpose()?;
    info!(cores = ?profile.runtime.workers, poll = ?profile.runtime.poll, "workers");

    let control = Control::new(Parts {
        file: file.to_owned(),
        machine,
        profile,
        layout,
        hardware,
        crew,
        replication,
        wall,
        log,
    });
    converse(control, listener, metrics)?;
    drop(socket);
    Ok(())
}

/// The log's first line.
fn say_hello(file: &Path, profile: &Profile) {
    let metrics = profile.runtime.metrics.map(|address| address.to_string());
    info!(
        version = env!("CARGO_PKG_VERSION"),
        commit = env!("TIDEGATE_COMMIT"),
        process = std::process::id(),
        profile = %file.display(),
        appliance = profile.name,
        mode = protection::mode_of(profile),
        control_socket = %profile.runtime.control_socket.display(),
        metrics = metrics.as_deref().unwrap_or("off"),
        "Tidegate starts."
    );
}

fn no_core_dumps(error: bindings::Error) -> Failure {
    Failure::new(
        error.to_string(),
        "allow core dumps by `runtime.core_dumps: on`; they hold the keys",
    )
}

fn listen(address: SocketAddr) -> Result<std::net::TcpListener, Failure> {
    let listen = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(|error: std::io::Error| {
        Failure::new(
            format!("metrics cannot be served on {address}: {error}"),
            "choose another address for `runtime.metrics`, or `off`",
        )
    })
}

/// Starts the control thread and serves the outside until it ends.
fn converse(
    control: Control,
    listener: std::os::unix::net::UnixListener,
    metrics: Option<std::net::TcpListener>,
) -> Result<(), Failure> {
    let no_runtime = |error: std::io::Error| {
        Failure::new(format!("the control side cannot be started: {error}"), "")
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(no_runtime)?;
    let guard = runtime.enter();
    let signals = Signals::catch().map_err(no_runtime)?;
    let listener = UnixListener::from_std(listener).map_err(no_runtime)?;
    let metrics = metrics
        .map(TcpListener::from_std)
        .transpose()
        .map_err(no_runtime)?;
    drop(guard);

    let (queries, received) = channel::bounded(QUERIES);
    let (ended, end) = oneshot::channel();
    let body = move || {
        control.run(&received);
        // Nobody listens when the other side has ended first.
        let _ = ended.send(());
    };
    let thread = thread::Builder::new()
        .name("control".into())
        .spawn(body)
        .map_err(no_runtime)?;
    runtime.block_on(serve::serve(
        Desk::new(queries),
        listener,
        metrics,
        signals,
        end,
    ));
    thread
        .join()
        .map_err(|_| Failure::new("the control thread panicked", "the log says where"))
}
