use std::io::{BufRead, Read, Write};
use std::thread::{self, JoinHandle};

use crossbeam::channel;
use dataplane::capture::Tap;
use serde_json::{Value, json};

use super::*;
use crate::capture::frame::HEADER_BYTES;
use crate::daemon::worker_thread::WallClock;

/// A served socket with a control thread that answers as a test needs it.
struct Rig {
    path: std::path::PathBuf,
    _folder: tempfile::TempDir,
    control: JoinHandle<Vec<&'static str>>,
}

fn control(queries: &channel::Receiver<Query>, ended: oneshot::Sender<()>) -> Vec<&'static str> {
    let mut log = Vec::new();
    let mut taps = Vec::new();
    for query in queries.iter() {
        match query {
            Query::Answer(Request::Reload { .. }, _, reply) => {
                log.push("reload");
                reply.send(Err("p.yaml:3:7: unknown key".into())).unwrap();
            }
            Query::Answer(request, _, reply) => {
                log.push("show");
                let _ = reply.send(Ok(serde_json::to_value(request).unwrap()));
            }
            Query::Capture { reply, .. } => {
                log.push("capture");
                let (tap, ring) = Tap::new(None, None);
                taps.push(tap);
                let feed = CaptureFeed {
                    number: 1,
                    rings: vec![ring],
                    ports: vec!["outside".into()],
                    wall: WallClock::new(bindings::Clock::start()),
                    alive: Arc::default(),
                };
                assert!(reply.send(Ok(feed)).is_ok());
            }
            Query::EndCapture(1, reply) => {
                log.push("end");
                let _ = reply.send(9);
            }
            Query::Terminate => break,
            _ => log.push("other"),
        }
    }
    ended.send(()).unwrap();
    log
}

impl Rig {
    fn start() -> (Self, Desk) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (sender, queries) = channel::bounded(8);
        let (ended, end) = oneshot::channel();
        let desk = Desk::new(sender);
        let served = desk.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = UnixListener::from_std(listener).unwrap();
                serve(served, listener, None, Signals::catch().unwrap(), end).await;
            });
        });
        let control = thread::spawn(move || control(&queries, ended));
        let rig = Self {
            path,
            _folder: folder,
            control,
        };
        (rig, desk)
    }

    fn connect(&self) -> io::BufReader<std::os::unix::net::UnixStream> {
        let stream = std::os::unix::net::UnixStream::connect(&self.path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        io::BufReader::new(stream)
    }

    fn end(self, desk: &Desk) -> Vec<&'static str> {
        desk.queries.send(Query::Terminate).unwrap();
        self.control.join().unwrap()
    }
}

fn ask(stream: &mut io::BufReader<std::os::unix::net::UnixStream>, line: &str) -> Value {
    stream.get_mut().write_all(line.as_bytes()).unwrap();
    stream.get_mut().write_all(b"\n").unwrap();
    let mut answer = String::new();
    stream.read_line(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap()
}

#[test]
fn one_connection_carries_many_requests_and_survives_bad_ones() {
    let (rig, desk) = Rig::start();
    let mut stream = rig.connect();
    let shown = ask(
        &mut stream,
        r#"{"version":1,"request":"show","topic":"ports"}"#,
    );
    assert_eq!(shown["result"]["topic"], "ports");
    let refused = ask(&mut stream, "hello");
    assert!(
        refused["error"]
            .as_str()
            .unwrap()
            .contains("not understood")
    );
    let reload = ask(&mut stream, r#"{"version":1,"request":"reload"}"#);
    assert_eq!(
        reload,
        json!({"version": 1, "error": "p.yaml:3:7: unknown key"})
    );
    let mut other = rig.connect();
    let shown = ask(
        &mut other,
        r#"{"version":1,"request":"show","topic":"drops"}"#,
    );
    assert_eq!(shown["result"]["topic"], "drops");
    assert_eq!(rig.end(&desk), ["show", "reload", "show"]);
}

#[test]
fn an_endless_request_is_cut_off() {
    let (rig, desk) = Rig::start();
    let mut stream = rig.connect();
    let endless = vec![b'x'; MAXIMUM_REQUEST_BYTES];
    stream.get_mut().write_all(&endless).unwrap();
    let mut answer = String::new();
    stream.read_line(&mut answer).unwrap();
    assert!(answer.contains("more than 65536 octets"), "{answer}");
    assert_eq!(stream.read_line(&mut answer).unwrap(), 0);
    assert!(rig.end(&desk).is_empty());
}

#[test]
fn a_capture_ends_when_its_client_says_so() {
    let (rig, desk) = Rig::start();
    let mut stream = rig.connect();
    let told = ask(&mut stream, r#"{"version":1,"request":"capture"}"#);
    assert_eq!(told["result"]["ports"], json!(["outside"]));
    stream
        .get_mut()
        .shutdown(std::net::Shutdown::Write)
        .unwrap();
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).unwrap();
    assert_eq!(Header::from_bytes(&header), Some(Header::End { lost: 9 }));
    let log = rig.end(&desk);
    assert_eq!(log[..2], ["capture", "end"]);
}

#[test]
fn a_capture_ends_when_its_client_dies() {
    let (rig, desk) = Rig::start();
    let mut stream = rig.connect();
    ask(&mut stream, r#"{"version":1,"request":"capture"}"#);
    drop(stream);
    // The end is told before anything that is asked later on another connection.
    thread::sleep(Duration::from_millis(200));
    ask(
        &mut rig.connect(),
        r#"{"version":1,"request":"show","topic":"guard"}"#,
    );
    let log = rig.end(&desk);
    let place = |wanted: &str| log.iter().position(|word| *word == wanted);
    assert!(
        place("end") < place("show") && place("end").is_some(),
        "{log:?}"
    );
}

// F5: connections that say nothing, and half requests, lock nobody out.
#[test]
fn f5_idle_connections_keep_nobody_from_a_reload() {
    let (rig, desk) = Rig::start();
    let mut idle: Vec<_> = (0..3 * MAXIMUM_CLIENTS).map(|_| rig.connect()).collect();
    for stream in idle.iter_mut().step_by(2) {
        // Those that have lost their place already are closed.
        let _ = stream.get_mut().write_all(b"{\"version\":1,");
    }
    for _ in 0..3 {
        let reload = ask(&mut rig.connect(), r#"{"version":1,"request":"reload"}"#);
        assert!(reload["error"].as_str().unwrap().contains("unknown key"));
    }
    assert_eq!(rig.end(&desk), ["reload"; 3]);
}

// F5: who says nothing is sent away, even where nobody else wants the place.
#[tokio::test(start_paused = true)]
async fn f5_a_client_that_says_nothing_is_sent_away_in_time() {
    let (sender, _queries) = channel::bounded(1);
    let (mut client, server) = UnixStream::pair().unwrap();
    client.write_all(b"{\"version\":").await.unwrap();
    let place = Places::new(1).take(Source::Process(None)).unwrap();
    let began = tokio::time::Instant::now();
    converse(server, Desk::new(sender), place, Asker::Socket(None)).await;
    let elapsed = began.elapsed();
    assert!(
        elapsed >= REQUEST_LIMIT && elapsed < 2 * REQUEST_LIMIT,
        "{elapsed:?}"
    );
}
