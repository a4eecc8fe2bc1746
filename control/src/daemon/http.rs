//! The metrics' HTTP server: `GET /metrics`, and nothing else.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use super::control_loop::Query;
use super::metrics;
use super::places::{Place, Places, Source};
use super::serve::Desk;

/// Connections at a time; who comes then gets the place of one that says nothing.
pub(super) const MAXIMUM_CONNECTIONS: usize = 32;
/// How long a client may take to say what it wants.
const HEADER_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection may last in all.
const CONNECTION_LIMIT: Duration = Duration::from_secs(300);

/// Serves metrics until the process ends.
pub(super) async fn serve(listener: TcpListener, desk: Desk) {
    let places = Places::new(MAXIMUM_CONNECTIONS);
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        if let Some(place) = places.take(Source::host(peer.ip())) {
            let desk = desk.clone();
            tokio::spawn(async move {
                // A client that breaks off is no concern of ours.
                let _ = tokio::time::timeout(CONNECTION_LIMIT, converse(stream, desk, place)).await;
            });
        }
    }
}

/// Answers until the client goes or another one gets its place.
async fn converse(stream: TcpStream, desk: Desk, place: Place) {
    let service = service_fn(|request: Request<Incoming>| {
        place.client_waits();
        let (desk, place) = (&desk, &place);
        async move {
            let answered = answer(&request, desk).await;
            place.wait_for_client();
            Ok::<_, Infallible>(answered)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        () = place.evicted() => {}
        _ = served => {}
    }
}

async fn answer(request: &Request<Incoming>, desk: &Desk) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "the metrics are at /metrics\n");
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "GET them\n");
        let allowed = HeaderValue::from_static("GET, HEAD");
        refusal.headers_mut().insert(ALLOW, allowed);
        return refusal;
    }
    match desk.ask(Query::Metrics).await {
        Ok(text) => {
            let mut response = Response::new(Full::from(text));
            let content = HeaderValue::from_static(metrics::CONTENT_TYPE);
            response.headers_mut().insert(CONTENT_TYPE, content);
            response
        }
        Err(_) => plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "the daemon is busy or stopping\n",
        ),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let content = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, content);
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::thread;

    use crossbeam::channel;

    use super::*;

    fn exchange(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// A served listener whose control thread knows one metric.
    fn start() -> std::net::SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, queries) = channel::bounded(8);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                serve(listener, Desk::new(sender)).await;
            });
        });
        thread::spawn(move || {
            for query in queries {
                if let Query::Metrics(reply) = query {
                    let _ = reply.send("a_metric 1\n".into());
                }
            }
        });
        address
    }

    #[test]
    fn metrics_are_served_and_nothing_else() {
        let address = start();
        let request =
            |line: &str| format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let metrics = exchange(address, &request("GET /metrics"));
        assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
        assert!(
            metrics.contains("content-type: text/plain; version=0.0.4"),
            "{metrics}"
        );
        assert!(metrics.ends_with("\r\n\r\na_metric 1\n"), "{metrics}");
        assert!(exchange(address, &request("GET /")).starts_with("HTTP/1.1 404"));
        assert!(exchange(address, &request("POST /metrics")).starts_with("HTTP/1.1 405"));
        assert!(exchange(address, "\r\n\x01\r\n\r\n").starts_with("HTTP/1.1 400"));
    }

    // F5: half requests, many more than there are places, hold up no scrape.
    #[test]
    fn f5_half_requests_keep_nobody_from_the_metrics() {
        let address = start();
        let mut held = Vec::new();
        for _ in 0..8 * MAXIMUM_CONNECTIONS {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /metrics HT").unwrap();
            held.push(stream);
        }
        for _ in 0..3 {
            let scraped = exchange(
                address,
                "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            );
            assert!(scraped.ends_with("\r\n\r\na_metric 1\n"), "{scraped}");
        }
    }
}
