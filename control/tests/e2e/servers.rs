//! Servers that refuse, vanish, die, or take what clients send. // CASES 11

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use lab::Options;
use lab::profile::Profile;

use crate::common::{FAMILIES, Guarded, server};

/// Opens a connection, from the clients' name space.
fn try_to_connect(guarded: &Guarded, family: usize, port: u16) -> std::io::Result<TcpStream> {
    let to = server(family, port);
    let connect = move || TcpStream::connect_timeout(&to, Duration::from_secs(5));
    let stream = guarded.lab.clients.within(connect).unwrap()?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

fn connect(guarded: &Guarded, family: usize, port: u16) -> TcpStream {
    try_to_connect(guarded, family, port).unwrap()
}

fn with_port(port: u16, guard: &str) -> Guarded {
    let mut profile = Profile::default();
    profile.ports.push(port);
    profile.guard = guard.to_owned();
    Guarded::start(Options::default(), &profile)
}

/// A connection that ends by a reset: at once an error, not silence and not a clean end.
fn assert_reset(guarded: &Guarded, family: usize, port: u16, within: Duration) {
    let started = Instant::now();
    let talk = |mut stream: TcpStream| {
        stream.write_all(b"hello")?;
        stream.read(&mut [0; 16])
    };
    // The reset may come before the client's own system call is over.
    let end = try_to_connect(guarded, family, port).and_then(talk);
    let error = end.expect_err("a reset");
    let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
    assert!(kinds.contains(&error.kind()), "{error}");
    assert!(started.elapsed() < within, "{:?}", started.elapsed());
}

#[test]
fn a_port_that_refuses_resets_the_client() {
    let guarded = with_port(9999, "");
    for family in FAMILIES {
        assert_reset(&guarded, family, 9999, Duration::from_secs(2));
    }
    guarded.wait_for_no_session(Duration::from_secs(5));
    guarded.audit();
}

#[test]
fn a_server_that_is_silent_is_given_up_and_the_client_told() {
    let guard = "  timers: { half_open_s: 3, server_syn_retry_ms: 500, server_syn_retries: 2 }\n";
    let guarded = with_port(9999, guard);
    // Its neighbours are known, and then it stops answering.
    guarded.fetch_small(0, 1, 1);
    guarded.fetch_small(1, 1, 1);
    guarded
        .lab
        .server
        .ip("link set lan0 arp off\naddr flush dev lan0")
        .unwrap();
    for family in FAMILIES {
        assert_reset(&guarded, family, 80, Duration::from_secs(10));
    }
    guarded.wait_for_no_session(Duration::from_secs(10));
    guarded.audit();
}

#[test]
fn a_server_that_dies_in_mid_transfer_ends_the_clients_connection() {
    let mut guarded = Guarded::plain();
    let mut stream = connect(&guarded, 0, 80);
    stream
        .write_all(b"GET /large HTTP/1.1\r\nHost: server\r\n\r\n")
        .unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    guarded.lab.server_process.crash().unwrap();
    let mut rest = Vec::new();
    let started = Instant::now();
    let end = stream.read_to_end(&mut rest);
    assert!(started.elapsed() < Duration::from_secs(10), "{end:?}");
    assert!(
        rest.len() < 8 << 20,
        "the whole body came from a dead server"
    );
    // The next one is refused by the server's kernel, and told so.
    assert_reset(&guarded, 0, 80, Duration::from_secs(2));
    guarded.audit();
}

/// A server that reads to the end, and then tells how much it was; and its client, which closes
/// its own direction first.
fn half_close(guarded: &Guarded, family: usize, bytes: usize) {
    let listener = guarded
        .lab
        .server
        .within(move || TcpListener::bind(server(family, 9000)))
        .unwrap()
        .unwrap();
    let sink = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut data = Vec::new();
        stream.read_to_end(&mut data).unwrap();
        let sum: u64 = data.iter().map(|&byte| u64::from(byte)).sum();
        write!(stream, "{} {sum}", data.len()).unwrap();
    });
    let data: Vec<u8> = (0..bytes).map(|n| (n * 7 % 251) as u8).collect();
    let sum: u64 = data.iter().map(|&byte| u64::from(byte)).sum();
    let mut stream = connect(guarded, family, 9000);
    stream.write_all(&data).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, format!("{bytes} {sum}"));
    sink.join().unwrap();
}

#[test]
fn what_a_client_sends_comes_whole_and_a_half_close_is_kept() {
    let guarded = with_port(9000, "");
    for family in FAMILIES {
        half_close(&guarded, family, 0);
        half_close(&guarded, family, 1);
        half_close(&guarded, family, 4 << 20);
    }
    guarded.wait_for_no_session(Duration::from_secs(5));
    guarded.audit();
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    let guarded = with_port(9000, "");
    for family in FAMILIES {
        let listener = guarded
            .lab
            .server
            .within(move || TcpListener::bind(server(family, 9000)))
            .unwrap()
            .unwrap();
        let speaker = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"220 ready\r\n").unwrap();
        });
        let mut stream = connect(&guarded, family, 9000);
        let mut greeting = String::new();
        stream.read_to_string(&mut greeting).unwrap();
        assert_eq!(greeting, "220 ready\r\n");
        speaker.join().unwrap();
    }
}

// CASES 4: reuse of a 4-tuple that the server still has in TIME-WAIT.
#[test]
fn one_tuple_is_used_again_and_again() {
    let guarded = Guarded::plain();
    // With two local ports, of which the kernel likes the odd ones less, there are few tuples.
    let ports = "net.ipv4.ip_local_port_range=40000 40001";
    guarded.lab.clients.sysctl(&[ports]).unwrap();
    for family in FAMILIES {
        let mut used = std::collections::HashSet::new();
        for _ in 0..12 {
            let mut stream = connect(&guarded, family, 80);
            used.insert(stream.local_addr().unwrap().port());
            let request = "GET /small HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).unwrap();
            // The server closes first, so the client's side is free again at once.
            let mut response = Vec::new();
            stream.read_to_end(&mut response).unwrap();
            assert!(response.len() > 4096, "{}", response.len());
        }
        assert!(used.len() <= 2, "{used:?}");
    }
    guarded.wait_for("/sessions/opened", 24);
    guarded.audit();
}
