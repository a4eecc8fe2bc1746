//! curl as the client: many small bodies over a connection each, or one large one; every body is
//! compared by its SHA-256.

use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::address::in_url;
use crate::server::Body;
use crate::{Error, Namespace, Result};

/// Many fetches of one body, each over a connection of its own.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What is fetched.
    pub body: &'a Body,
    /// From whom.
    pub server: IpAddr,
    /// On which port.
    pub port: u16,
    /// As which client.
    pub client: IpAddr,
    /// How often.
    pub count: u32,
    /// How many at a time, at most 300; 1 is one after the other.
    pub parallel: u32,
    /// How long one fetch may take.
    pub limit: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Connections asked for.
    pub asked: u64,
    /// Those whose body came whole.
    pub served: u64,
    /// Why the others failed: the first few.
    pub failures: Vec<String>,
    /// From the start of each served fetch to its first byte, in microseconds.
    pub first_byte_us: Vec<u64>,
}

/// How many reasons are kept.
const FAILURES: usize = 8;

impl Outcome {
    /// Adds what came of more fetches.
    pub fn add(&mut self, other: Self) {
        self.asked += other.asked;
        self.served += other.served;
        self.first_byte_us.extend(other.first_byte_us);
        let room = FAILURES.saturating_sub(self.failures.len());
        self.failures.extend(other.failures.into_iter().take(room));
    }

    /// Whether every connection was served.
    ///
    /// # Errors
    /// When one was not, with the reasons.
    pub fn whole(&self) -> Result<()> {
        if self.asked > 0 && self.asked == self.served {
            return Ok(());
        }
        Err(Error::new(format!(
            "{} of {} connections were served: {}",
            self.served,
            self.asked,
            self.failures.join("; ")
        )))
    }

    fn fail(&mut self, reason: String) {
        if self.failures.len() < FAILURES {
            self.failures.push(reason);
        }
    }
}

/// Runs one curl for all of the request's fetches. Bodies go through `folder`, which is emptied.
///
/// # Errors
/// When curl cannot be run at all; a failed fetch is part of the outcome.
pub fn fetch(namespace: &Namespace, request: &Request<'_>, folder: &Path) -> Result<Outcome> {
    let _ = std::fs::remove_dir_all(folder);
    // Not its parents too: when the lab is gone, nothing of it may come back.
    std::fs::create_dir(folder).map_err(|e| Error::because(folder.display(), e))?;
    let mut command = command(namespace, request.client, request.limit);
    if request.parallel > 1 {
        let parallel = request.parallel.to_string();
        command.args([
            "--parallel",
            "--parallel-immediate",
            "--parallel-max",
            &parallel,
        ]);
    }
    // Each fetch a connection of its own.
    command.args(["-H", "Connection: close", "-w", WRITE_OUT]);
    command.arg("-o").arg(folder.join("#1"));
    command.arg(format!(
        "http://{}:{}/{}?[1-{}]",
        in_url(request.server),
        request.port,
        request.body.path,
        request.count
    ));
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Error::because("curl", e))?;
    let outcome = read(request, &String::from_utf8_lossy(&output.stdout), folder);
    let _ = std::fs::remove_dir_all(folder);
    Ok(outcome)
}

const WRITE_OUT: &str = "%{exitcode} %{http_code} %{time_starttransfer} %{urlnum} %{errormsg}\n";

fn read(request: &Request<'_>, lines: &str, folder: &Path) -> Outcome {
    let mut outcome = Outcome {
        asked: request.count.into(),
        ..Outcome::default()
    };
    let mut arrived = Vec::new();
    for line in lines.lines() {
        let mut fields = line.splitn(5, ' ');
        let mut field = || fields.next().unwrap_or_default();
        match (field(), field()) {
            ("0", "200") => arrived.push(field().parse::<f64>().unwrap_or_default()),
            (exit, status) => {
                let _ = (field(), field());
                outcome.fail(format!("curl {exit}, status {status}: {}", field()));
            }
        }
    }
    for number in 1..=request.count {
        let Ok(bytes) = std::fs::read(folder.join(number.to_string())) else {
            continue;
        };
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        if digest.as_ref() == request.body.digest {
            outcome.served += 1;
        } else {
            outcome.fail(format!("fetch {number}: {} wrong bytes", bytes.len()));
        }
    }
    outcome.first_byte_us = arrived
        .into_iter()
        .filter_map(|seconds| u64::try_from(Duration::from_secs_f64(seconds).as_micros()).ok())
        .collect();
    outcome
}

fn command(namespace: &Namespace, client: IpAddr, limit: Duration) -> Command {
    let mut command = namespace.command("curl");
    let seconds = limit.as_secs_f64().to_string();
    command.args(["-q", "-sS", "--http1.1", "--noproxy", "*"]);
    command.args(["--connect-timeout", &seconds, "--max-time", &seconds]);
    command.args(["--interface", &client.to_string()]);
    command
}

/// What came of a large fetch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Large {
    /// How many bytes came.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
}

/// Fetches one body through a pipe and compares it on the way.
///
/// # Errors
/// When it does not come whole within the request's limit, with curl's reason.
pub fn fetch_large(namespace: &Namespace, request: &Request<'_>) -> Result<Large> {
    let url = format!(
        "http://{}:{}/{}",
        in_url(request.server),
        request.port,
        request.body.path
    );
    let mut child = command(namespace, request.client, request.limit)
        .arg(&url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| Error::because("curl", e))?;
    let started = std::time::Instant::now();
    let (bytes, digest) = digest_of(&mut child).map_err(|e| Error::because(&url, e))?;
    let took = started.elapsed();
    let output = child
        .wait_with_output()
        .map_err(|e| Error::because("curl", e))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(format!(
            "{url}: {} after {bytes} bytes: {}",
            output.status,
            reason.trim()
        )));
    }
    if digest != request.body.digest {
        return Err(Error::new(format!(
            "{url}: {bytes} bytes, not those served"
        )));
    }
    Ok(Large { bytes, took })
}

fn digest_of(child: &mut Child) -> std::io::Result<(u64, [u8; 32])> {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    let mut bytes = 0;
    let mut block = vec![0; 256 << 10];
    if let Some(stdout) = &mut child.stdout {
        loop {
            let length = stdout.read(&mut block)?;
            if length == 0 {
                break;
            }
            bytes += length as u64;
            digest.update(&block[..length]);
        }
    }
    let mut result = [0; 32];
    result.copy_from_slice(digest.finish().as_ref());
    Ok((bytes, result))
}
